//! Apply, get, diff, delete, as a person uses them.

use std::net::SocketAddr;

use gateway_tests::agent::Agent;
use gateway_tests::client;
use gateway_tests::lab::{BACKEND4, GATEWAY4, Lab};
use gateway_tests::objects::{gateway, http_route, prefix, service};
use gateway_tests::peers::echo;

use super::{Bed, WORKERS, said};

const HTTP: SocketAddr = SocketAddr::new(GATEWAY4, 80);

#[test]
fn what_is_applied_is_served_at_once_and_after_a_crash() {
    let lab = Lab::new("store-life");
    let peer = echo::http(&lab.backend, SocketAddr::new(BACKEND4, 8080), "app");
    let mut bed = Bed::new(&lab.gateway);
    let status = |path: &str| client::get(&lab.client, HTTP, "a", path).map(|answer| answer.status).ok();
    assert_eq!(status("/"), None, "nothing listens yet");

    let web = [
        gateway("web", None, ["http HTTP 80"]),
        http_route("app", &["web/http"], &[], &[prefix("/", &["app"])]),
        service("app", &[peer.address]),
    ]
    .concat();
    let told = bed.apply(&web);
    for line in
        ["Gateway default/web created", "HTTPRoute default/app created", "Service default/app created"]
    {
        assert!(told.contains(line), "no `{line}` in\n{told}");
    }
    let route = "HTTPRoute  default/app  default/web/http  True      True";
    assert!(told.lines().any(|line| line == route), "{told}");
    assert_eq!(status("/"), Some(200), "what was answered serves");

    let before = bed.get(&["httproute", "app"]);
    assert_eq!(before["status"]["parents"][0]["conditions"][0]["type"], "Accepted");
    assert_eq!(before["status"]["parents"][0]["controllerName"], "sluice-gateway.dev/controller");
    let gateway = bed.get(&["gtw", "web"]);
    assert_eq!(gateway["status"]["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(gateway["status"]["listeners"][0]["supportedKinds"][0]["kind"], "HTTPRoute");

    bed.restart();
    assert_eq!(status("/"), Some(200));
    assert_eq!(bed.get(&["httproute", "app"])["metadata"], before["metadata"]);

    // All that get shows is what is there.
    let all = bed.sluice(&["get", "-o", "yaml"]);
    let told = bed.apply(&said(&all));
    assert_eq!(told.matches(" unchanged\n").count(), 4, "{told}");
    assert!(!told.contains("created") && !told.contains("configured"), "{told}");

    let other = bed.file("other.yaml", &http_route("app", &["web/http"], &[], &[prefix("/new", &["app"])]));
    let diff = bed.fails(&["diff", "-f", &other], 1);
    assert!(diff.contains("--- stored/HTTPRoute default/app\n+++ given/HTTPRoute default/app\n"), "{diff}");
    assert!(diff.contains("-        value: /\n+        value: /new\n"), "{diff}");
    assert!(said(&bed.sluice(&["apply", "-f", &other, "--dry-run"])).contains("configured (dry run)"));
    assert_eq!(status("/"), Some(200), "neither changes anything");
    assert!(said(&bed.sluice(&["apply", "-f", &other])).contains("HTTPRoute default/app configured\n"));
    assert_eq!((status("/"), status("/new")), (Some(404), Some(200)));
    assert_eq!(bed.sluice(&["diff", "-f", &other]).status.code(), Some(0));
    assert_eq!(bed.get(&["httproute", "app"])["metadata"]["generation"], 2);
    let observed = &bed.get(&["httproute", "app"])["status"]["parents"][0]["conditions"][0];
    assert_eq!(observed["observedGeneration"], 2);

    assert_eq!(said(&bed.sluice(&["delete", "httproute", "app"])), "HTTPRoute default/app deleted\n");
    assert_eq!(status("/new"), Some(404));
    assert!(bed.fails(&["delete", "httproute", "app"], 1).contains("HTTPRoute default/app is not there"));
    assert_eq!(bed.sluice(&["delete", "httproute", "app", "--ignore-not-found"]).status.code(), Some(0));
    assert!(
        bed.fails(&["get", "httproute", "app"], 1).contains("there is no HTTPRoute app in namespace default")
    );
}

#[test]
fn get_shows_files_and_store_in_tables_and_lists() {
    let lab = Lab::new("store-get");
    let own = gateway("web", None, ["http HTTP 80"]);
    let bed = Bed::on(Agent::start(&lab.gateway, &own, WORKERS));
    let route = |name: &str, namespace: &str| {
        http_route(name, &["web"], &[], &[prefix("/", &["nobody"])])
            .replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, namespace: {namespace}}}"))
    };
    let told = bed.apply(&[route("a", "default"), route("b", "other")].concat());
    assert!(told.contains("BackendNotFound"), "conditions are no errors:\n{told}");
    let table = said(&bed.sluice(&["get"]));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["KIND", "NAMESPACE", "NAME", "SOURCE", "GENERATION", "AGE", "STATUS"]);
    assert_eq!(rows[1][..3], ["Gateway", "default", "web"]);
    assert!(rows[1][3].ends_with("config.yaml"), "{table}");
    assert_eq!(rows[2][..5], ["HTTPRoute", "default", "a", "store", "1"]);
    assert_eq!(rows[2][6..], ["ResolvedRefs=False", "(BackendNotFound)"]);
    assert_eq!(rows[3][..3], ["HTTPRoute", "other", "b"]);

    let names = |which: &[&str]| -> Vec<String> {
        let list = bed.get(which);
        assert_eq!((&list["apiVersion"], &list["kind"]), (&"v1".into(), &"List".into()), "{list}");
        let items = list["items"].as_array().expect("items").clone();
        items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&["httproutes"]), ["a"]);
    assert_eq!(names(&["httproutes", "-A"]), ["a", "b"]);
    assert_eq!(names(&["httproutes", "-n", "other"]), ["b"]);
    assert_eq!(names(&["gtw,httproutes", "-A"]), ["web", "a", "b"]);
    assert_eq!(names(&["svc", "-A"]), [""; 0]);
    assert_eq!(bed.get(&["httproute/b", "-n", "other"])["metadata"]["name"], "b");
    assert!(bed.fails(&["get", "httproot"], 2).contains("did you mean `httproute`"));

    // What is in the file is the file's.
    let again = bed.file("again.yaml", &own);
    let told = bed.fails(&["apply", "-f", &again], 1);
    assert!(
        told.contains("Gateway default/web: is there already, at ") && told.contains("config.yaml:2"),
        "{told}"
    );
    let told = bed.fails(&["delete", "gtw", "web"], 1);
    assert!(told.contains("config.yaml") && told.contains("remove the object from the file"), "{told}");

    // And what is in the store is the store's.
    bed.agent.change(&[own.clone(), route("a", "default")].concat());
    let status = bed.agent.ask("status");
    let error = &status["agent"]["configuration"]["error"]["diagnostics"][0];
    let told = error["message"].as_str().expect("a message");
    assert_eq!(told, "is there already, in the store", "{error}");
    assert_eq!(names(&["gtw"]), ["web"], "what was there serves on");
    bed.agent.change(&own);
    assert_eq!(bed.agent.ask("status")["agent"]["configuration"]["error"], serde_json::Value::Null);
}

#[test]
fn an_endpoint_given_by_hand_lasts() {
    let lab = Lab::new("store-endpoint");
    let peer = echo::http(&lab.backend, SocketAddr::new(BACKEND4, 8080), "app");
    let mut bed = Bed::new(&lab.gateway);
    let web = [
        gateway("web", None, ["http HTTP 80"]),
        http_route("app", &["web/http"], &[], &[prefix("/", &["app"])]),
    ];
    let endpoint = format!("default/app:80={}", peer.address);
    let out = bed.sluice(&["apply", "-f", &bed.file("web.yaml", &web.concat()), "--endpoint", &endpoint]);
    assert!(said(&out).contains("EndpointSlice default/app-endpoint-0 created"), "{}", said(&out));
    let status = || client::get(&lab.client, HTTP, "a", "/").expect("an answer").status;
    assert_eq!(status(), 200);
    bed.restart();
    assert_eq!(status(), 200);
}

#[test]
fn a_secret_is_nowhere_to_be_read_but_in_its_file() {
    let lab = Lab::new("store-secret");
    let mut bed = Bed::new(&lab.gateway);
    let secret = |value: &str| {
        format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\ndata: {{tls.key: {value}}}\n")
    };
    let (first, second) = ("aHVudGVyMg", "c2VjcmV0Mw");
    let mut heard = bed.apply(&secret(first));
    assert!(heard.contains("warning: ") && heard.contains("every user may read this file"), "{heard}");
    let file = bed.file("second.yaml", &secret(second));
    heard.push_str(&bed.fails(&["diff", "-f", &file], 1));
    assert!(heard.contains("another than before"), "{heard}");
    heard.push_str(&bed.fails(&["diff", "-o", "json", "-f", &file], 1));
    for form in ["table", "yaml", "json"] {
        heard.push_str(&said(&bed.sluice(&["get", "secret", "-o", form])));
    }
    heard.push_str(&bed.apply(&secret(second)));
    let wrong =
        bed.file("wrong.yaml", &secret(second).replace("data: {", &format!("data: {{a: [{first}], ")));
    heard.push_str(&bed.fails(&["apply", "-f", &wrong], 1));
    heard.push_str(&bed.fails(&["apply", "-o", "json", "-f", &wrong], 1));
    bed.restart();
    heard.push_str(&said(&bed.sluice(&["get", "secret", "key", "-o", "yaml"])));
    heard.push_str(&bed.agent.log());
    assert!(!heard.contains(first) && !heard.contains(second), "{heard}");
    let kept = std::fs::read_to_string(bed.objects().join("secret_default_key_2.yaml")).expect("a file");
    assert!(kept.contains(second), "the store has it");
}
