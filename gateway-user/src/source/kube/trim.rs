//! What is kept of an object that arrives.
//!
//! Owns which fields these are: those that it is identified by, and those that its translation reads. Most objects of a
//! cluster are Services and EndpointSlices that nobody refers to, and most of an object is what others want to know of it.
//! Must not know what the fields mean.

use serde_json::Value;

use super::super::annotation;
use super::super::kind::Kind;
use super::super::translate::{CERTIFICATE, SERVICE_NAME};
use super::infrastructure::MANAGED_BY;

/// Metadata of any kind.
const METADATA: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "labels",
    "annotations",
];
/// Metadata of kinds whose age and generation nobody looks at.
const FEW: &[&str] = &["name", "namespace", "uid", "resourceVersion", "labels"];

/// Leaves what is needed of an object.
pub(super) fn trim(kind: Kind, object: &mut Value) {
    let name_and = |fields: &[&'static str]| [&["apiVersion", "kind", "metadata"], fields].concat();
    match kind {
        Kind::Service => {
            keep(object, "", &name_and(&["spec"]));
            keep(object, "/metadata/labels", &[MANAGED_BY.0]);
            keep(object, "/spec", &["type", "externalName", "sessionAffinity", "ports"]);
            for port in list(object, "/spec/ports") {
                keep(port, "", &["name", "port", "protocol", "appProtocol"]);
            }
        }
        Kind::EndpointSlice => {
            keep(object, "", &name_and(&["addressType", "endpoints", "ports"]));
            keep(object, "/metadata/labels", &[SERVICE_NAME, MANAGED_BY.0]);
            list(object, "/endpoints").for_each(endpoint);
            for port in list(object, "/ports") {
                keep(port, "", &["name", "port", "protocol"]);
            }
        }
        Kind::Secret => {
            keep(object, "", &name_and(&["type", "data"]));
            keep(object, "/metadata/labels", &[]);
            keep(object, "/data", &CERTIFICATE);
        }
        Kind::Namespace => keep(object, "", &name_and(&[])),
        _ => return keep(object, "/metadata", METADATA),
    }
    keep(object, "/metadata", FEW);
}

/// An endpoint: of its addresses the first, which is the one that is read; of its conditions those that are not as they
/// are by default.
fn endpoint(endpoint: &mut Value) {
    keep(endpoint, "", &["addresses", "conditions"]);
    if let Some(addresses) = endpoint.pointer_mut("/addresses").and_then(Value::as_array_mut) {
        addresses.truncate(1);
    }
    let Some(conditions) = endpoint.pointer_mut("/conditions").and_then(Value::as_object_mut) else { return };
    let ready = conditions.get("ready").and_then(Value::as_bool).unwrap_or(true);
    let defaults = [("ready", true), ("serving", ready), ("terminating", false)];
    conditions.retain(|name, value| {
        let default = defaults.iter().find(|(known, _)| known == name);
        default.is_some_and(|(_, default)| value.as_bool().is_some_and(|it| it != *default))
    });
    if conditions.is_empty() {
        keep(endpoint, "", &["addresses"]);
    }
}

/// Removes all fields of a map but these, and annotations that are not ours. Does nothing where there is no map.
fn keep(object: &mut Value, at: &str, names: &[&str]) {
    let Some(fields) = object.pointer_mut(at).and_then(Value::as_object_mut) else { return };
    fields.retain(|name, _| names.contains(&&**name));
    if let Some(annotations) = fields.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| annotation::is_ours(name));
    }
}

/// The items of a list; none where there is none.
fn list<'a>(object: &'a mut Value, at: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(at).and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::object;
    use super::*;

    /// A trimmed object.
    fn trimmed(kind: Kind, object: &Value) -> Value {
        let mut trimmed = object.clone();
        trim(kind, &mut trimmed);
        trimmed
    }

    /// What an object means, but for its age, which nobody looks at.
    fn meaning(mut object: Value) -> String {
        object["metadata"]["creationTimestamp"] = Value::Null;
        let read = object::read_json(object);
        assert_eq!((read.errors, read.objects.len()), (vec![], 1));
        format!("{:?}", read.objects[0].body)
    }

    fn metadata(labels: &Value) -> Value {
        json!({
            "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3, "labels": labels,
            "creationTimestamp": "2026-01-31T12:00:00Z", "generateName": "a-", "deletionTimestamp": "2026-01-31T12:00:00Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "a", "uid": "v"}],
            "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": {"f:ports": {}}}],
            "finalizers": ["example.com/x"],
        })
    }

    #[test]
    fn a_service_means_the_same_without_what_nobody_reads() {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(&json!({"app": "a"})),
            "spec": {
                "type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "sessionAffinity": "ClientIP",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http", "targetPort": 8080,
                    "nodePort": 30080}],
                "selector": {"app": "a"}, "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            },
        });
        let small = trimmed(Kind::Service, &service);
        let spec = json!({"type": "ClusterIP", "sessionAffinity": "ClientIP",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}]});
        let few = json!({"name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7", "labels": {}});
        assert_eq!(small, json!({"apiVersion": "v1", "kind": "Service", "metadata": few, "spec": spec}));
        assert_eq!(meaning(small), meaning(service.clone()));
        service["spec"] = json!({"type": "ExternalName", "externalName": "db.example.org"});
        assert_eq!(meaning(trimmed(Kind::Service, &service)), meaning(service));
    }

    #[test]
    fn an_endpoint_slice_means_the_same_without_what_nobody_reads() {
        let endpoint = |address: &str, conditions: Value| {
            json!({"addresses": [address, "10.9.9.9"], "conditions": conditions, "nodeName": "n", "zone": "z", "hints": {},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "a-1", "uid": "p"}})
        };
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": metadata(&json!({"kubernetes.io/service-name": "a", "app": "a"})),
            "endpoints": [
                endpoint("10.0.0.1", json!({"ready": true, "serving": true, "terminating": false})),
                endpoint("10.0.0.2", json!({"ready": false, "serving": true, "terminating": true})),
                endpoint("10.0.0.3", json!({"ready": false, "serving": false, "terminating": false})),
                endpoint("10.0.0.4", json!({"serving": false})),
                endpoint("10.0.0.5", json!({"ready": null, "serving": null, "terminating": null})),
                endpoint("10.0.0.6", json!({})),
                {"addresses": ["10.0.0.7"]},
            ],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}],
        });
        let small = trimmed(Kind::EndpointSlice, &slice);
        assert_eq!(small["endpoints"][0], json!({"addresses": ["10.0.0.1"]}));
        assert_eq!(small["metadata"]["labels"], json!({"kubernetes.io/service-name": "a"}));
        assert_eq!(meaning(small), meaning(slice));
    }

    #[test]
    fn of_other_kinds_annotations_of_ours_and_labels_stay() {
        let mut metadata = metadata(&json!({"team": "shop"}));
        metadata["annotations"]["sluice-gateway.dev/idle-timeout"] = json!("30s");
        let spec =
            json!({"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": "a", "port": 80}]}]});
        let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute", "metadata": metadata,
            "spec": spec});
        let small = trimmed(Kind::TcpRoute, &route);
        assert_eq!(small["metadata"]["annotations"], json!({"sluice-gateway.dev/idle-timeout": "30s"}));
        assert_eq!((&small["metadata"]["labels"], &small["spec"]), (&json!({"team": "shop"}), &spec));
        assert_eq!(small["metadata"].get("managedFields"), None);
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "spec": {"finalizers": []}});
        let small = trimmed(Kind::Namespace, &namespace);
        assert_eq!((small.get("spec"), &small["metadata"]["labels"]), (None, &json!({"team": "shop"})));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls",
            "data": {"tls.crt": "YQ==", "tls.key": "Yg==", "ca.crt": "Yw=="}});
        let small = trimmed(Kind::Secret, &secret);
        assert_eq!(small["data"], json!({"tls.crt": "YQ==", "tls.key": "Yg=="}));
        // What is no object of its kind is left to the translation to refuse.
        for odd in [
            json!(null),
            json!({"metadata": 1, "spec": [1], "endpoints": {"a": 1}}),
            json!({"endpoints": [1]}),
        ] {
            trimmed(Kind::EndpointSlice, &odd);
            trimmed(Kind::Service, &odd);
        }
    }
}
