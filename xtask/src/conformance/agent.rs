//! The agent under judgement: how it is started on a cluster, and whether it was the kernel that forwarded.
//!
//! Everything that a change of the agent's command line would touch is in this file.

use std::fs;

use anyhow::{Context, Result};
use gateway_tests::{
    agent::{self, Agent, sum},
    cluster::{Cluster, GATEWAYS4, GATEWAYS6},
    netns::NetNs,
};

use crate::sh;

/// The GatewayClass that the agent serves.
pub(super) const CLASS: &str = "sluice";

/// Our own kinds, where this checkout has them.
const CRD: &str = "config/kubernetes/crd-sluiceparameters.yaml";

/// Makes the objects that the agent is configured by, besides those of the suite.
pub(super) fn configure(cluster: &Cluster, class: &str) -> Result<()> {
    let crd = sh::root().join(CRD);
    let pools = crd.exists();
    if pools {
        cluster.apply(&fs::read_to_string(&crd).with_context(|| format!("cannot read {CRD}"))?);
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "--all", "crd"]);
    }
    cluster.apply(&objects(class, pools));
    Ok(())
}

/// A GatewayClass, and with `pools` the parameters by which its Gateways get addresses of the cluster's LAN.
fn objects(class: &str, pools: bool) -> String {
    let class = format!(
        "apiVersion: gateway.networking.k8s.io/v1\n\
         kind: GatewayClass\n\
         metadata:\n  name: {class}\n\
         spec:\n  controllerName: sluice-gateway.dev/controller\n"
    );
    if !pools {
        return class;
    }
    format!(
        "{class}  parametersRef:\n    group: sluice-gateway.dev\n    kind: SluiceParameters\n    \
         namespace: default\n    name: lan\n\
         ---\n\
         apiVersion: sluice-gateway.dev/v1\n\
         kind: SluiceParameters\n\
         metadata:\n  namespace: default\n  name: lan\n\
         spec:\n  addressPools:\n  - name: lan\n    addresses:\n    - {GATEWAYS4}\n    - {GATEWAYS6}\n"
    )
}

/// Starts the agent on a cluster, if it knows clusters, and waits until it is ready.
pub(super) fn start<'ns>(ns: &'ns NetNs, cluster: &Cluster, forward: bool) -> Result<Option<Agent<'ns>>> {
    let help = sh::read(std::process::Command::new(agent::binary()).args(["run", "--help"]))?;
    if !knows_kube(&help) {
        return Ok(None);
    }
    let kubeconfig = cluster.kubeconfig();
    let kubeconfig = kubeconfig.to_str().context("a temporary folder's name is text")?;
    let mut agent = Agent::prepare(ns, "", &args(forward))
        .without_file()
        .env("KUBECONFIG", kubeconfig)
        .tethered(&cluster.programs().podrunner);
    agent.launch();
    agent.wait_ready();
    Ok(Some(agent))
}

/// What is added to `sluice run`; the cluster is that of `$KUBECONFIG`. The agent is a node beside that of the pods.
fn args(forward: bool) -> [&'static str; 7] {
    let forward = if forward { "auto" } else { "off" };
    ["--kube", "--kube-namespace", "default", "--node", "gateway", "--forward", forward]
}

fn knows_kube(help: &str) -> bool {
    help.split(|c: char| c.is_whitespace() || c == ',' || c == '=').any(|word| word == "--kube")
}

/// How many connections and flows the kernel forwarded, at the most that was seen at a time.
#[derive(Default, Debug)]
pub(super) struct Forwarded {
    tcp: f64,
    udp: f64,
}

impl Forwarded {
    /// Looks at the agent's metrics. What leaves the configuration leaves them too, after some minutes: so this is to be
    /// done more often than that.
    pub(super) fn look(&mut self, metrics: &str) {
        let count = |protocol: &str| {
            sum(metrics, "sluice_forward_connections_total", &[&format!("/{protocol}\",listener=")])
        };
        self.tcp = self.tcp.max(count("tcp"));
        self.udp = self.udp.max(count("udp"));
    }

    /// What does not fit to whether the kernel is to forward, given whether any test of a protocol passed.
    pub(super) fn complaints(&self, on: bool, tcp: bool, udp: bool) -> Vec<String> {
        let protocols = [("TCP", self.tcp, tcp), ("UDP", self.udp, udp)];
        let wrong = protocols.into_iter().filter_map(|(name, count, passed)| {
            if on && passed && count == 0.0 {
                Some(format!("tests of {name} passed, but the kernel forwarded none of it"))
            } else if !on && count > 0.0 {
                Some(format!("the kernel forwarded {name} ({count} times) with --forward off"))
            } else {
                None
            }
        });
        wrong.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn only_a_binary_that_knows_the_flag_is_started() {
        for (help, want) in [
            ("      --kube\n          Take objects from a cluster", true),
            ("  -k, --kube <FILE>", true),
            ("      --kubeconfig <FILE>", false),
            ("", false),
        ] {
            assert_eq!(knows_kube(help), want, "{help}");
        }
    }

    #[test]
    fn a_class_has_pools_only_where_there_is_the_kind_for_them() {
        for (pools, count) in [(false, 1), (true, 2)] {
            let text = objects("c", pools);
            let kinds: Vec<_> = serde_yaml::Deserializer::from_str(&text)
                .map(|object| serde_json::Value::deserialize(object).unwrap())
                .collect();
            assert_eq!(kinds.len(), count, "{text}");
            assert_eq!(kinds[0]["metadata"]["name"], "c");
            assert_eq!(kinds[0]["spec"]["parametersRef"].is_object(), pools);
        }
    }

    #[test]
    fn the_counters_tell_whether_the_kernel_forwarded() {
        let line = |protocol: &str, count: u32| {
            format!(
                "sluice_forward_connections_total{{binding=\"10.0.0.1:80/{protocol}\",listener=\"a/b/tcp\",\
                 route=\"a/udp\",service=\"a/b:80\",backend=\"10.0.0.2:80\"}} {count}\n"
            )
        };
        let mut seen = Forwarded::default();
        assert_eq!(seen.complaints(true, true, true).len(), 2);
        assert_eq!(seen.complaints(true, false, false), Vec::<String>::new());
        assert_eq!(seen.complaints(false, true, true), Vec::<String>::new());
        seen.look(&[line("tcp", 1), line("tcp", 2)].concat());
        assert_eq!(seen.complaints(true, true, true).len(), 1);
        assert_eq!(seen.complaints(false, true, true).len(), 1);
        // Gone again by the next look.
        seen.look(&line("udp", 4));
        assert_eq!((seen.tcp, seen.udp), (3.0, 4.0));
        assert_eq!(seen.complaints(true, true, true), Vec::<String>::new());
        assert_eq!(seen.complaints(false, true, true).len(), 2);
    }
}
