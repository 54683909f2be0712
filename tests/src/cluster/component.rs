//! The four programs that a cluster consists of, and their command lines.

use std::{path::Path, process::Command};

use super::{NODE4, NODE6, Programs, network};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Keeps the objects; without syncing them to disk.
    Etcd,
    /// kube-apiserver, with RBAC.
    ApiServer,
    /// kube-controller-manager: of its controllers those that make pods, EndpointSlices and service accounts, and clean up.
    ControllerManager,
    /// Scheduler and kubelet in one.
    PodRunner,
}

/// Where etcd serves, in the node's namespace.
pub(super) const ETCD: &str = "http://127.0.0.1:12379";
const ETCD_PEERS: &str = "http://127.0.0.1:12380";

/// Whose requests are written down, if there is this file among the cluster's.
pub(super) const AUDIT_POLICY: &str = "audit.json";
/// Where they are.
pub(super) const AUDIT_LOG: &str = "audit.log";

const CONTROLLERS: &str = "namespace-controller,deployment-controller,replicaset-controller,daemonset-controller,\
    statefulset-controller,job-controller,endpointslice-controller,serviceaccount-controller,\
    root-ca-certificate-publisher-controller,garbage-collector-controller";

impl Component {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::PodRunner => "podrunner",
        }
    }

    /// Its command line; everything that it keeps lies in `dir`.
    pub(super) fn command(self, programs: &Programs, dir: &Path) -> Command {
        let at = |name: &str| dir.join(name).display().to_string();
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let host = NODE4.to_string();
        let (program, mut args) = match self {
            Self::Etcd => (
                &programs.etcd,
                vec![
                    flag("name", "cluster"),
                    flag("data-dir", &at("etcd")),
                    "--unsafe-no-fsync".to_owned(),
                    flag("listen-client-urls", ETCD),
                    flag("advertise-client-urls", ETCD),
                    flag("listen-peer-urls", ETCD_PEERS),
                    flag("initial-advertise-peer-urls", ETCD_PEERS),
                    flag("initial-cluster", &format!("cluster={ETCD_PEERS}")),
                    flag("log-level", "warn"),
                ],
            ),
            Self::ApiServer => (
                &programs.apiserver,
                vec![
                    flag("etcd-servers", ETCD),
                    flag("bind-address", &host),
                    flag("advertise-address", &host),
                    flag("secure-port", "6443"),
                    flag("tls-cert-file", &at("pki/apiserver.crt")),
                    flag("tls-private-key-file", &at("pki/apiserver.key")),
                    flag("client-ca-file", &at("pki/ca.crt")),
                    flag("kubelet-client-certificate", &at("pki/kubelet-client.crt")),
                    flag("kubelet-client-key", &at("pki/kubelet-client.key")),
                    flag("kubelet-certificate-authority", &at("pki/ca.crt")),
                    flag("kubelet-preferred-address-types", "InternalIP"),
                    flag("service-account-issuer", "https://kubernetes.default.svc"),
                    flag("service-account-key-file", &at("pki/sa.pub")),
                    flag("service-account-signing-key-file", &at("pki/sa.key")),
                    flag("service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112"),
                    flag("authorization-mode", "RBAC"),
                    "--allow-privileged".to_owned(),
                    flag("enable-priority-and-fairness", "false"),
                    flag("profiling", "false"),
                    flag("shutdown-delay-duration", "0s"),
                ],
            ),
            Self::ControllerManager => (
                &programs.controller_manager,
                vec![
                    flag("kubeconfig", &at("kubeconfig")),
                    flag("leader-elect", "false"),
                    flag("secure-port", "0"),
                    flag("profiling", "false"),
                    flag("controllers", CONTROLLERS),
                    flag("service-account-private-key-file", &at("pki/sa.key")),
                    flag("root-ca-file", &at("pki/ca.crt")),
                    flag("kube-api-qps", "300"),
                    flag("kube-api-burst", "600"),
                ],
            ),
            Self::PodRunner => (
                &programs.podrunner,
                vec![
                    "run".to_owned(),
                    flag("kubeconfig", &at("kubeconfig")),
                    flag("state-dir", &at("podrunner")),
                    flag("bridge", network::PODS),
                    flag("host-ip4", &host),
                    flag("host-ip6", &NODE6.to_string()),
                    flag("pod-cidr4", network::PODS4),
                    flag("pod-cidr6", network::PODS6),
                    flag("tls-cert", &at("pki/kubelet.crt")),
                    flag("tls-key", &at("pki/kubelet.key")),
                    flag("client-ca", &at("pki/ca.crt")),
                    flag("images", &at("images.json")),
                    flag("api-host", &host),
                ],
            ),
        };
        if self == Self::ApiServer && dir.join(AUDIT_POLICY).exists() {
            args.push(flag("audit-policy-file", &at(AUDIT_POLICY)));
            args.push(flag("audit-log-path", &at(AUDIT_LOG)));
        }
        let mut command = Command::new(program);
        command.args(args);
        command
    }
}
