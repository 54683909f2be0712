//! Addresses of Gateways: parameters, pools, and what is said where there is none.

use super::{Host, Ids, check, compile, host, lines, model};
use crate::core::host::Role;
use crate::core::testing::object;

const CLASS: &str = "class sluice sluice-gateway.dev/controller parameters=infra/p\n";

/// As `check`, in a cluster.
fn check_as(role: Role, objects: &str, wanted: &str) {
    check_on(&Host { role, ..host(&[]) }, objects, wanted);
}

/// As `check`, on a host.
fn check_on(host: &Host, objects: &str, wanted: &str) {
    let snapshot = compile(&model(objects), host, &Ids::default(), 1);
    super::compare(&lines(&snapshot), wanted);
}

#[test]
fn a_gateway_gets_an_address_of_each_family_out_of_its_pools() {
    check(
        &format!(
            "{CLASS}parameters infra/p pool=10.0.0.0/29 pool=fd00::/120
             gateway b\nlistener http HTTP 80\ngateway a\nlistener http HTTP 80
             gateway c address=pool\nlistener http HTTP 80\ngateway d address=10.0.0.1\nlistener http HTTP 80"
        ),
        "class sluice Accepted=True:Accepted
         gateway a addresses [10.0.0.2 fd00::1]
         gateway a Programmed=True:Programmed
         gateway b addresses [10.0.0.3 fd00::2]
         gateway c addresses [10.0.0.4 fd00::3]
         gateway d addresses [10.0.0.1]
         bound 10.0.0.2:80 http default/a/http
         bound fd00::1:80 http default/a/http
         bring up 10.0.0.2
         bring up fd00::3
         !bound *
         !note",
    );
}

#[test]
fn what_the_host_owns_is_not_given_out() {
    check(
        &format!("{CLASS}parameters infra/p pool=192.0.2.0/29\ngateway gw\nlistener http HTTP 80"),
        "gateway gw addresses [192.0.2.2]",
    );
}

#[test]
fn a_static_address_must_be_in_the_pools() {
    check(
        &format!(
            "{CLASS}parameters infra/p pool=10.0.0.0/29 pool=10.0.1.0/24
             gateway a address=10.0.0.9 address=10.0.0.3\nlistener http HTTP 80
             gateway b address=::ffff:10.0.0.4\nlistener http HTTP 80
             gateway c address=10.0.0.9 address=10.0.0.0\nlistener http HTTP 80
             gateway d address=10.0.0.4\nlistener http HTTP 81"
        ),
        "gateway a Accepted=True:Accepted
         gateway a Programmed=False:AddressNotUsable
         gateway a Programmed says spec.addresses[0]: 10.0.0.9 is outside of the pools of SluiceParameters infra/p, which have 10.0.0.1-10.0.0.6, 10.0.1.1-
         gateway a addresses [10.0.0.3]
         gateway b Programmed=True
         gateway b addresses [10.0.0.4]
         gateway c Programmed=False:AddressNotUsable
         gateway c Programmed says …; spec.addresses[1]: 10.0.0.0 is outside
         gateway c addresses []
         listener c/http Programmed=False:Pending
         gateway d Programmed=True
         bound 10.0.0.4:80 http default/b/http
         bound 10.0.0.4:81 http default/d/http
         !bound 10.0.0.9",
    );
}

#[test]
fn a_pool_may_run_out() {
    check(
        &format!(
            "{CLASS}parameters infra/p pool=10.0.0.0/30 pool=fd00::1
             gateway a\nlistener http HTTP 80\ngateway b\nlistener http HTTP 80\ngateway c\nlistener http HTTP 80"
        ),
        "gateway a Programmed=True
         gateway b Accepted=True:Accepted
         gateway b Programmed=False:AddressNotAssigned
         gateway b Programmed says no IPv6 address of the pools of SluiceParameters infra/p is free (10.0.0.1-10.0.0.2, fd00::1): add
         gateway b addresses [10.0.0.2]
         listener b/http Programmed=True
         gateway c Programmed=False:AddressNotAssigned
         gateway c Programmed says no IPv4 and no IPv6 address
         gateway c addresses []
         listener c/http Programmed=False:Pending",
    );
}

#[test]
fn a_gateway_gets_one_address_of_a_family_and_no_more() {
    check(
        "parameters p pool=10.0.0.0/29\ngateway gw parameters=p address=pool address=10.0.0.1 address=pool\nlistener http HTTP 80",
        "gateway gw addresses [10.0.0.2 10.0.0.1]
         gateway gw Programmed=False:AddressNotAssigned
         gateway gw Programmed says spec.addresses[2]: no value, as in an entry before it",
    );
}

#[test]
fn the_gateways_parameters_go_over_its_classs_field_by_field() {
    check(
        &format!(
            "{CLASS}parameters infra/p pool=10.0.0.0/29 mode=Node\nparameters pooled mode=Pool\nparameters other pool=10.1.0.0/29
             gateway a\nlistener http HTTP 80
             gateway b parameters=pooled\nlistener http HTTP 81
             gateway c parameters=other address=pool\nlistener http HTTP 82
             gateway d parameters=other\nlistener http HTTP 83"
        ),
        "gateway a addresses [192.0.2.1 2001:db8::1 127.0.0.1]
         gateway b addresses [10.0.0.1]
         gateway c addresses [10.1.0.1]
         gateway d addresses [192.0.2.1 2001:db8::1 127.0.0.1]
         bound *:80
         bound *:83",
    );
}

#[test]
fn a_class_with_bad_parameters_is_not_accepted_and_its_gateways_are_not_served() {
    let gateway = "gateway gw\nlistener http HTTP 80";
    for (parameters, objects, says) in [
        ("infra/q", "", "spec.parametersRef: there is no valid SluiceParameters infra/q (add it"),
        ("p", "", "spec.parametersRef.namespace: is missing"),
        ("ConfigMap!infra/p", "", "spec.parametersRef: sluice-gateway.dev/ConfigMap is not supported"),
        ("a.example/SluiceParameters!infra/p", "", "spec.parametersRef: a.example/SluiceParameters is not"),
        (
            "infra/p",
            "parameters infra/p refuse=spec.limits",
            "spec.parametersRef: SluiceParameters infra/p: spec.limits: is not built",
        ),
    ] {
        check(
            &format!(
                "class sluice sluice-gateway.dev/controller parameters={parameters} generation=5\n{objects}\n{gateway}"
            ),
            &format!(
                "class sluice Accepted=False:InvalidParameters gen=5
                 class sluice Accepted says {says}
                 gateway gw Accepted=False:InvalidParameters
                 gateway gw Accepted says GatewayClass \"sluice\": {says}
                 gateway gw Programmed=False:Invalid
                 listener gw/http Programmed=False:Invalid
                 gateway gw addresses []
                 !bound"
            ),
        );
    }
}

#[test]
fn a_gateway_with_bad_parameters_is_not_accepted() {
    for (parameters, says) in [
        ("none", "spec.infrastructure.parametersRef: there is no valid SluiceParameters default/none"),
        (
            "InvalidParameters!none",
            "spec.infrastructure.parametersRef: sluice-gateway.dev/InvalidParameters is",
        ),
        (
            "bad",
            "spec.infrastructure.parametersRef: SluiceParameters default/bad: spec.interfaces: is not built",
        ),
        // The Gateway's own namespace, whatever is in others.
        ("far", "spec.infrastructure.parametersRef: there is no valid SluiceParameters default/far"),
    ] {
        check(
            &format!(
                "parameters bad refuse=spec.interfaces\nparameters infra/far\ngateway gw parameters={parameters}\nlistener http HTTP 80
                 gateway other\nlistener http HTTP 81"
            ),
            &format!(
                "gateway gw Accepted=False:InvalidParameters
                 gateway gw Accepted says {says}
                 gateway gw Programmed=False:Invalid
                 gateway other Programmed=True
                 !bound *:80"
            ),
        );
    }
}

#[test]
fn without_pools_files_mean_every_local_address_unless_a_pool_is_asked_for() {
    check(
        "parameters any\nparameters pool mode=Pool
         gateway a parameters=any\nlistener http HTTP 80
         gateway b parameters=pool\nlistener http HTTP 81
         gateway c parameters=any address=pool\nlistener http HTTP 82
         gateway d parameters=any address=10.0.0.1\nlistener http HTTP 83",
        "bound *:80
         gateway b Programmed=False:AddressNotAssigned
         gateway b Programmed says there is no pool of addresses to take one from (refer to a SluiceParameters with addressPools
         gateway c Programmed=False:AddressNotAssigned
         gateway c Programmed says spec.addresses[0]: no value, and there is no pool
         gateway d Programmed=True
         bound 10.0.0.1:83
         !bound *:81
         !bound *:82",
    );
}

#[test]
fn in_a_cluster_a_gateway_has_what_pools_give_or_the_nodes_addresses() {
    let objects = "parameters node mode=Node\nparameters pool pool=10.0.0.0/29
         gateway a class=x\nlistener http HTTP 80
         gateway b parameters=node\nlistener http HTTP 81
         gateway c address=192.0.2.1\nlistener http HTTP 82
         gateway d parameters=pool\nlistener http HTTP 83
         gateway e parameters=node address=192.0.2.1\nlistener http HTTP 84";
    check_as(
        Role::Leader,
        objects,
        "gateway a Accepted=True:Accepted
         gateway a Programmed=False:AddressNotAssigned
         gateway a Programmed says there is no pool of addresses to take one from (refer to a SluiceParameters with addressPools, by parametersRef of the GatewayClass \"x\" or by spec.infrastructure.parametersRef; with addressMode: Node
         gateway a addresses []
         listener a/http Programmed=False:Pending
         gateway b addresses [192.0.2.1 2001:db8::1 127.0.0.1]
         gateway c Programmed=False:AddressNotUsable
         gateway c Programmed says spec.addresses[0]: 192.0.2.1 is in no pool
         gateway d addresses [10.0.0.1]
         gateway e Programmed=False:AddressNotUsable
         bound *:81
         bound 10.0.0.1:83
         !bound *:80
         !bound 192.0.2.1",
    );
}

#[test]
fn in_a_cluster_the_status_says_what_a_gateway_has_and_the_leader_alone_gives() {
    let objects = "parameters p pool=10.0.0.0/29
         gateway a parameters=p\nlistener http HTTP 80
         gateway b parameters=p had=10.0.0.1\nlistener http HTTP 80
         gateway c parameters=p had=192.0.2.1\nlistener http HTTP 80";
    check_as(
        Role::Leader,
        objects,
        "gateway a addresses [10.0.0.2]\n gateway b addresses [10.0.0.1]\n gateway c addresses [10.0.0.3]",
    );
    check_as(
        Role::Follower,
        objects,
        "gateway a addresses []
         gateway a Programmed=False:AddressNotAssigned
         gateway a Programmed says the leader has given it no IPv4 address yet
         gateway b addresses [10.0.0.1]
         gateway c addresses []",
    );
}

#[test]
fn an_address_stays_over_compilations_whoever_comes_or_is_refused_meanwhile() {
    let compiled = |objects: &str, ids: &Ids| compile(&model(objects), &host(&[]), ids, 1);
    let addresses = |snapshot: &super::Snapshot, name: &str| -> Vec<String> {
        snapshot.report.gateways[&object(name)].addresses.iter().map(ToString::to_string).collect()
    };
    let parameters = format!("{CLASS}parameters infra/p pool=10.0.0.0/29\n");
    let gateway = |name: &str, more: &str| format!("gateway {name} {more}\nlistener http HTTP 80\n");
    let first = compiled(&[&*parameters, &gateway("m", "")].concat(), &Ids::default());
    assert_eq!(addresses(&first, "m"), ["10.0.0.1"]);
    // Older ones, by name and time, and one that asks for the very address.
    let all =
        [&*parameters, &gateway("a", "created=1"), &gateway("m", ""), &gateway("b", "address=10.0.0.1")];
    let second = compiled(&all.concat(), &first.ids);
    assert_eq!(addresses(&second, "m"), ["10.0.0.1"]);
    assert_eq!(addresses(&second, "a"), ["10.0.0.2"]);
    assert_eq!(addresses(&second, "b"), Vec::<String>::new());
    super::compare(
        &lines(&second),
        "gateway b Programmed=False:AddressNotUsable
         gateway b Programmed says spec.addresses: 10.0.0.1 is Gateway default/m's, which has it out of a pool",
    );
    // Refused for a while, it is not served, and nobody else gets its address.
    let all = [&*parameters, &gateway("m", "refuse=spec.tls"), &gateway("z", "")];
    let third = compiled(&all.concat(), &second.ids);
    assert_eq!(addresses(&third, "m"), Vec::<String>::new());
    assert_eq!(addresses(&third, "z"), ["10.0.0.2"], "a is gone, and its address free");
    let all = [&*parameters, &gateway("m", ""), &gateway("z", "")];
    let fourth = compiled(&all.concat(), &third.ids);
    assert_eq!(addresses(&fourth, "m"), ["10.0.0.1"]);
    // Pools without it move it, and only it.
    let moved =
        [&*parameters.replace("10.0.0.0/29", "10.0.0.2-10.0.0.9"), &gateway("m", ""), &gateway("z", "")];
    let fifth = compiled(&moved.concat(), &fourth.ids);
    assert_eq!(
        (addresses(&fifth, "m"), addresses(&fifth, "z")),
        (vec!["10.0.0.3".into()], vec!["10.0.0.2".into()])
    );
}

#[test]
fn what_has_no_effect_is_noted() {
    let mut objects = model("parameters lonely pool=10.0.0.0/29\ngateway gw\nlistener http HTTP 80");
    let gateway = objects.gateways.get_mut(&object("gw")).unwrap();
    gateway.infrastructure.labels.insert("a".into(), "b".into());
    gateway.infrastructure.annotations.insert("a".into(), "b".into());
    let noted = |role| lines(&compile(&objects, &Host { role, ..host(&[]) }, &Ids::default(), 1));
    let lonely = "note SluiceParameters default/lonely: no GatewayClass of ours and no Gateway of its namespace refers";
    let labels =
        "note Gateway default/gw: spec.infrastructure: labels and annotations have no effect with files";
    super::compare(&noted(Role::Alone), &format!("{lonely}\n{labels}"));
    super::compare(&noted(Role::Leader), &format!("{lonely}\n!{labels}"));
}

#[test]
fn with_interfaces_named_the_node_s_addresses_on_them_alone_count() {
    let with = |parameters: &str| {
        format!("{CLASS}parameters infra/p {parameters}\ngateway gw\nlistener http HTTP 80")
    };
    for role in [Role::Alone, Role::Leader, Role::Follower] {
        let mut host = Host { role, ..host(&[]) };
        // Which means nothing without its interface.
        host.interfaces.get_mut("eth0").unwrap().insert("fe80::1".parse().unwrap());
        check_on(
            &host,
            &with("mode=Node interfaces=wlan0,eth?"),
            "gateway gw addresses [192.0.2.1 2001:db8::1]
             gateway gw Programmed=True:Programmed
             bound 192.0.2.1:80 http default/gw/http
             bound 2001:db8::1:80 http default/gw/http
             !bound *
             !bring up",
        );
        check_as(
            role,
            &with("mode=Node interfaces=eth1"),
            "gateway gw addresses []
             gateway gw Programmed=False:AddressNotAssigned
             gateway gw Programmed says none of this host's interfaces that have addresses (eth0, lo) fits spec.interfaces of SluiceParameters infra/p, eth1
             !bound",
        );
    }
    for parameters in ["interfaces=eth0", "interfaces=eth0 mode=Pool pool=10.0.0.0/29"] {
        check(
            &with(parameters),
            "class sluice Accepted=True:Accepted
             gateway gw Accepted=False:InvalidParameters
             gateway gw Accepted says spec.interfaces of SluiceParameters infra/p: an address out of a pool is on no interface
             !bound",
        );
    }
    // A Gateway's own parameters go over its class's, field by field.
    check(
        &format!(
            "{CLASS}parameters infra/p mode=Node\nparameters q interfaces=lo
             gateway gw parameters=q\nlistener http HTTP 80"
        ),
        "gateway gw addresses [127.0.0.1]",
    );
}
