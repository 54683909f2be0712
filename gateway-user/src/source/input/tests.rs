//! Applying, deleting, comparing and finding, on files and a store of a test's own.

use std::fs;

use super::{Input, ObjectRef, Outcome, Refused, Wanted};
use crate::source::{Diagnostic, EndpointFlag, Given, Loaded, ObjectKind};

const NOW: &str = "2026-01-31T12:00:00Z";
const LATER: &str = "2026-02-28T12:00:00Z";

/// A folder with a store and a file for the agent's own input.
struct Bed {
    directory: tempfile::TempDir,
    input: Input,
}

impl Bed {
    fn new(file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("own.yaml"), file).unwrap();
        let input = Self::open(&directory);
        Self { directory, input }
    }

    fn open(directory: &tempfile::TempDir) -> Input {
        let path = directory.path();
        Input::open(vec![path.join("own.yaml")], Vec::new(), &path.join("objects")).unwrap()
    }

    fn again(self) -> Self {
        let input = Self::open(&self.directory);
        Self { input, ..self }
    }

    fn apply(&mut self, text: &str) -> Result<(Vec<Outcome>, Option<Loaded>), Vec<Diagnostic>> {
        match self.input.apply(&[given(text)], &[], NOW, false) {
            Ok(applied) => {
                Ok((applied.objects.into_iter().map(|(_, outcome)| outcome).collect(), applied.loaded))
            }
            Err(Refused::Input(errors)) => Err(errors),
            Err(error) => panic!("{error}"),
        }
    }

    fn one(&mut self, kind: &str, name: &str) -> serde_json::Value {
        let kinds = vec![kind.parse().unwrap()];
        let wanted = Wanted { kinds, namespace: None, name: Some(name.to_owned()) };
        let (mut found, errors) = self.input.find(&wanted).unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0).value
    }
}

fn given(text: &str) -> Given {
    Given { file: "new.yaml".to_owned(), text: text.to_owned(), open: false }
}

fn route(name: &str, path: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec:\n  parentRefs: [{{name: web}}]\n  rules: [{{matches: [{{path: {{value: {path}}}}}]}}]\n"
    )
}

fn secret(value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: key\n  annotations: {{kubectl.kubernetes.io/\
         last-applied-configuration: '{{\"data\":\"{value}\"}}'}}\ndata: {{tls.key: {value}}}\n"
    )
}

#[test]
fn what_is_applied_is_stamped_once_and_counts_changes_of_the_spec() {
    let mut bed = Bed::new("");
    let (outcomes, loaded) = bed.apply(&route("a", "/a")).unwrap();
    assert_eq!(outcomes, [Outcome::Created]);
    assert_eq!(loaded.unwrap().model.http_routes.len(), 1);
    let first = bed.one("httproute", "a")["metadata"].clone();
    assert_eq!((first["generation"].as_i64(), first["creationTimestamp"].as_str()), (Some(1), Some(NOW)));
    assert_eq!(first["uid"].as_str().unwrap().len(), 36);
    assert_eq!(first["resourceVersion"], "1");

    let (outcomes, loaded) = bed.apply(&route("a", "/a")).unwrap();
    assert_eq!((outcomes, loaded), (vec![Outcome::Unchanged], None));

    let labelled = route("a", "/a").replace("{name: a}", "{name: a, labels: {team: red}}");
    assert_eq!(bed.apply(&labelled).unwrap().0, [Outcome::Configured]);
    assert_eq!(bed.one("httproute", "a")["metadata"]["generation"], 1, "labels are no spec");
    assert_eq!(bed.one("httproute", "a")["metadata"]["resourceVersion"], "2");

    let (outcomes, loaded) = bed.apply(&route("a", "/b")).unwrap();
    assert_eq!(outcomes, [Outcome::Configured]);
    let model = loaded.unwrap().model;
    assert_eq!(model.http_routes.values().next().unwrap().meta.generation, 2);
    let now = bed.one("httproute", "a")["metadata"].clone();
    assert_eq!((&now["uid"], &now["creationTimestamp"]), (&first["uid"], &first["creationTimestamp"]));

    // All of it survives a restart.
    let mut bed = bed.again();
    assert_eq!(bed.one("httproute", "a")["metadata"], now);
    let model = bed.input.load().unwrap().model;
    let meta = &model.http_routes.values().next().unwrap().meta;
    assert_eq!((meta.generation, meta.created.is_some()), (2, true));
}

#[test]
fn an_error_in_one_document_refuses_all() {
    let mut bed = Bed::new("");
    let both = [route("a", "/a"), route("b", "b")].concat();
    let errors = bed.apply(&both).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].file.as_str(), errors[0].object.as_str()), ("new.yaml", "HTTPRoute default/b"));
    assert_eq!(errors[0].line, 14, "{}", errors[0]);
    assert_eq!(bed.input.stored_objects(), 0);
    assert!(bed.input.load().unwrap().model.http_routes.is_empty());
    assert_eq!(bed.apply(&route("a", "/a")).unwrap().0, [Outcome::Created]);
    let twice = [route("b", "/1"), route("b", "/2")].concat();
    let error = bed.apply(&twice).unwrap_err().remove(0).to_string();
    assert_eq!(error, "new.yaml:9:1: HTTPRoute default/b: is there already, at new.yaml:2; keep one of them");
}

#[test]
fn the_same_object_in_file_and_store_names_both() {
    let mut bed = Bed::new(&route("own", "/"));
    bed.input.load().unwrap();
    let own = bed.directory.path().join("own.yaml");
    let own = own.display();
    let error = bed.apply(&route("own", "/other")).unwrap_err().remove(0).to_string();
    assert_eq!(
        error,
        format!(
            "new.yaml:2:1: HTTPRoute default/own: is there already, at {own}:2; that file is the agent's own input: \
             change the object there, or remove it there first"
        )
    );
    bed.apply(&route("a", "/a")).unwrap();
    fs::write(bed.directory.path().join("own.yaml"), [route("own", "/"), route("a", "/")].concat()).unwrap();
    let told = |errors: Vec<Diagnostic>| errors[0].to_string();
    let expected = format!(
        "{own}:9:1: HTTPRoute default/a: is there already, in the store; remove it here, or from the store with \
         `sluice delete HTTPRoute a -n default`"
    );
    assert_eq!(told(bed.input.load().unwrap_err()), expected);
    // With files that are wrong nothing is applied, either.
    assert_eq!(told(bed.apply(&route("b", "/b")).unwrap_err()), expected);
    // The way out: what stands in the way is deleted.
    let route = "httproute".parse().unwrap();
    assert!(bed.input.delete(&[(route, None, "a".to_owned())]).unwrap().loaded.is_some());
    assert_eq!(bed.input.load().unwrap().model.http_routes.len(), 2);
}

#[test]
fn what_is_not_in_the_store_is_not_deleted() {
    let mut bed = Bed::new(&route("own", "/"));
    bed.apply(&[route("a", "/a"), route("b", "/b")].concat()).unwrap();
    let name = |name: &str| ("httproute".parse().unwrap(), None, name.to_owned());
    let Err(Refused::Input(errors)) = bed.input.delete(&[name("a"), name("own")]) else {
        panic!("an object of a file was deleted");
    };
    assert!(errors[0].to_string().ends_with("; remove the object from the file"), "{}", errors[0]);
    assert_eq!(bed.input.stored_objects(), 2);
    let applied = bed.input.delete(&[name("a"), name("nobody")]).unwrap();
    let object =
        |name: &str| ObjectRef { kind: "HTTPRoute", namespace: "default".to_owned(), name: name.to_owned() };
    assert_eq!(applied.objects, [(object("a"), Outcome::Deleted)]);
    assert_eq!(applied.missing, [object("nobody")]);
    let applied = bed.input.delete_given(&[given(&route("b", "/whatever"))]).unwrap();
    assert_eq!(applied.objects, [(object("b"), Outcome::Deleted)]);
    assert_eq!(bed.again().input.load().unwrap().model.http_routes.len(), 1);
}

#[test]
fn what_get_shows_can_be_applied_again() {
    let mut bed = Bed::new("");
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples");
    let mut names = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // Examples are about the same names: each in its turn.
        let mut alone = Bed::new("");
        let Ok((outcomes, _)) = alone.apply(&text) else { continue };
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Created), "{}", path.display());
        let (found, _) = alone.input.find(&Wanted::default()).unwrap();
        assert_eq!(found.len(), outcomes.len());
        let items: Vec<_> = found.into_iter().map(|found| found.value).collect();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
        let (outcomes, _) = alone.apply(&serde_yaml::to_string(&list).unwrap()).unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Unchanged), "{}", path.display());
        names += outcomes.len();
    }
    assert!(names > 10, "{names} objects");
    // Values that YAML could take for something else.
    let odd = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd, annotations: {a: 'yes', b: '0x1F', c: '1e3'}}\n\
               data: {a: '0o17', b: 'null', c: '~', d: '.5', e: '+.inf', f: \"a: b\\n# c\\n\", g: ' x ', h: '1_000', i: 'No'}\n";
    bed.apply(odd).unwrap();
    let shown = bed.one("cm", "odd");
    assert_eq!(shown["data"]["b"], "null");
    for text in [serde_yaml::to_string(&shown).unwrap(), shown.to_string()] {
        assert_eq!(bed.apply(&text).unwrap().0, [Outcome::Unchanged], "{text}");
    }
    let mut bed = bed.again();
    assert_eq!(bed.one("cm", "odd"), shown);
}

#[test]
fn secrets_are_kept_and_never_shown() {
    let mut bed = Bed::new("");
    bed.apply(&secret("aHVudGVyMg")).unwrap();
    let shown = bed.one("secret", "key");
    assert_eq!(shown["data"]["tls.key"], "<redacted: 10 characters>");
    assert!(!shown.to_string().contains("aHVudGVyMg"), "{shown}");
    // What was shown stands for what is stored.
    let text = shown.to_string();
    assert_eq!(bed.apply(&text).unwrap().0, [Outcome::Unchanged]);
    let file = bed.directory.path().join("objects/secret_default_key_1.yaml");
    assert!(fs::read_to_string(&file).unwrap().contains("tls.key: aHVudGVyMg"));
    // For another it does not.
    let other = text.replace("\"key\"", "\"other\"");
    let error = bed.apply(&other).unwrap_err().remove(0).to_string();
    assert!(error.contains("data.tls.key: stands for a value that is not in the store"), "{error}");
    // That it differs is shown, and not how.
    let (differences, _) = bed.input.diff(&[given(&secret("c2VjcmV0Mw"))], &[], LATER).unwrap();
    assert!(differences[0].before.contains("tls.key: '<redacted: 10 characters>'\n"), "{differences:?}");
    let after = "tls.key: '<redacted: 10 characters, another than before>'\n";
    assert!(differences[0].after.contains(after), "{differences:?}");
    // Nor do errors show it.
    let wrong = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: key}\ndata: {tls.key: 31337, a: [31337]}\nsecret: 31337\n";
    let errors = bed.apply(wrong).unwrap_err();
    assert_eq!(errors.len(), 3);
    for error in errors {
        assert!(!error.to_string().contains("31337"), "{error}");
    }
    let error = bed.apply("-----BEGIN PRIVATE KEY-----\nhunter2\n").unwrap_err().remove(0).to_string();
    assert!(!error.contains("hunter2") && !error.contains("BEGIN"), "{error}");
    let tagged = "kind: Secret\napiVersion: v1\nmetadata: {name: key}\ndata: {a: !!int hunter2}\n";
    let error = bed.apply(tagged).unwrap_err().remove(0).to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_secret_in_a_file_that_everybody_may_read_warns() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bed = Bed::new(&secret("aHVudGVyMg"));
    let own = bed.directory.path().join("own.yaml");
    let mut warnings = |mode| {
        fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
        bed.input.load().unwrap().warnings
    };
    assert_eq!(warnings(0o640), []);
    let told = warnings(0o644)[0].to_string();
    let own = own.display();
    assert_eq!(told, format!("{own}: Secret default/key: every user may read this file; `chmod o-r {own}`"));
    let public = Given { open: true, ..given(&secret("aHVudGVyMg").replace("name: key", "name: two")) };
    let applied = bed.input.apply(&[public], &[], NOW, false).unwrap();
    assert_eq!(applied.warnings[0].object, "Secret default/two");
}

#[test]
fn old_dialects_are_stored_in_todays_form() {
    let mut bed = Bed::new("");
    let old = route("a", "/a").replace("/v1\n", "/v1beta1\n");
    let applied = bed.input.apply(&[given(&old)], &[], NOW, false).unwrap();
    assert!(applied.warnings[0].message.contains("v1beta1"), "{:?}", applied.warnings);
    assert_eq!(bed.one("httproute", "a")["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!(bed.apply(&route("a", "/a")).unwrap().0, [Outcome::Unchanged]);
    // What today's form cannot say is not changed unasked.
    let named = "---\napiVersion: networking.x-k8s.io/v1alpha1\n"
        .replace("networking.x-k8s.io/v1alpha1", "gateway.networking.k8s.io/v1alpha2")
        + "kind: Gateway\nmetadata: {name: web}\nspec:\n  gatewayClassName: sluice\n  listeners:\n  - protocol: HTTP\n    \
           port: 80\n    routes: [{kind: HTTPRoute, name: a}]\n";
    let error = bed.apply(&named).unwrap_err().remove(0).to_string();
    assert!(
        error.contains("Gateway default/web") && error.contains("write allowedRoutes instead"),
        "{error}"
    );
    let chosen = "---\napiVersion: networking.x-k8s.io/v1alpha1\nkind: TCPRoute\nmetadata: {name: t}\nspec:\n  rules:\n  \
                  - forwardTo: [{serviceName: s, port: 80}]\n";
    let error = bed.apply(chosen).unwrap_err().remove(0).to_string();
    assert!(
        error.contains("TCPRoute default/t") && error.contains("name the Gateways in parentRefs"),
        "{error}"
    );
}

#[test]
fn endpoints_given_by_hand_last_and_replace_those_before() {
    let mut bed = Bed::new("");
    let flags = |flags: &[&str]| flags.iter().map(|flag| flag.parse().unwrap()).collect::<Vec<_>>();
    let two = flags(&["default/web:80=127.0.0.1:8080", "default/web:80=[::1]:8080"]);
    let outcomes = |bed: &mut Bed, flags: &[EndpointFlag]| {
        let applied = bed.input.apply(&[], flags, NOW, false).unwrap();
        let objects: Vec<_> =
            applied.objects.iter().map(|(object, outcome)| (object.name.clone(), outcome.name())).collect();
        let model = bed.input.load().unwrap().model;
        (objects, model.services.len(), model.slices.len())
    };
    let all = |how: &'static str| {
        ["web", "web-endpoint-0", "web-endpoint-1"].map(|name| (name.to_owned(), how)).to_vec()
    };
    assert_eq!(outcomes(&mut bed, &two), (all("created"), 1, 2));
    assert_eq!(outcomes(&mut bed, &two), (all("unchanged"), 1, 2));
    let (objects, services, slices) = outcomes(&mut bed, &flags(&["default/web=127.0.0.1:8080"]));
    assert_eq!((services, slices), (1, 1));
    assert_eq!(
        objects.iter().map(|(_, how)| *how).collect::<Vec<_>>(),
        ["configured", "configured", "deleted"]
    );
    let mut bed = bed.again();
    assert_eq!(bed.one("svc", "web")["spec"]["ports"][0]["port"], 8080);
    // A Service that somebody wrote is not replaced.
    let written = "---\napiVersion: v1\nkind: Service\nmetadata: {name: own}\nspec: {ports: [{name: main, port: 80}]}\n";
    bed.apply(written).unwrap();
    outcomes(&mut bed, &flags(&["default/own:80=127.0.0.1:9000"]));
    assert_eq!(bed.one("eps", "own-endpoint-0")["ports"][0]["name"], "main");
    let wrong = flags(&["default/own:81=127.0.0.1:9000"]);
    let Err(Refused::Input(errors)) = bed.input.apply(&[], &wrong, NOW, false) else {
        panic!("no such port")
    };
    assert!(errors[0].to_string().contains("the Service has no such port"), "{}", errors[0]);
}

#[test]
fn a_dry_run_and_a_diff_change_nothing() {
    let mut bed = Bed::new("");
    bed.apply(&route("a", "/a")).unwrap();
    let new = [route("a", "/x"), route("b", "/b")].concat();
    let applied = bed.input.apply(&[given(&new)], &[], LATER, true).unwrap();
    let outcomes: Vec<_> = applied.objects.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!((outcomes, applied.loaded), (vec![Outcome::Configured, Outcome::Created], None));
    let (differences, _) = bed.input.diff(&[given(&new)], &[], LATER).unwrap();
    assert_eq!(differences.len(), 2);
    assert!(differences[0].before.contains("value: /a") && differences[0].after.contains("value: /x"));
    assert!(differences[1].before.is_empty() && differences[1].after.contains("name: b"));
    assert!(!differences[1].after.contains("uid"), "{}", differences[1].after);
    assert_eq!(bed.input.stored_objects(), 1);
    let (none, _) = bed.input.diff(&[given(&route("a", "/a"))], &[], LATER).unwrap();
    assert!(none.is_empty());
}

#[test]
fn objects_of_files_are_found_too() {
    let mut bed = Bed::new(&route("own", "/"));
    bed.input.load().unwrap();
    bed.apply(&route("a", "/a")).unwrap();
    let (found, _) = bed.input.find(&Wanted::default()).unwrap();
    let sources: Vec<_> =
        found.iter().map(|found| (found.object.name.as_str(), found.file.is_some())).collect();
    assert_eq!(sources, [("a", false), ("own", true)]);
    assert_eq!(found[1].value["metadata"]["generation"], 1);
    assert_eq!(found[1].value["metadata"]["uid"], serde_json::Value::Null);
    let wanted = Wanted { namespace: Some("other".to_owned()), ..Wanted::default() };
    assert!(bed.input.find(&wanted).unwrap().0.is_empty());
}

#[test]
fn kinds_have_the_names_that_people_use() {
    for (written, kind) in [
        ("HTTPRoute", "HTTPRoute"),
        ("httproutes", "HTTPRoute"),
        ("gtw", "Gateway"),
        ("gateways.gateway.networking.k8s.io", "Gateway"),
        ("gatewayclasses", "GatewayClass"),
        ("gc", "GatewayClass"),
        ("svc", "Service"),
        ("services", "Service"),
        ("btlspolicy", "BackendTLSPolicy"),
        ("backendtlspolicies", "BackendTLSPolicy"),
        ("ns", "Namespace"),
        ("endpointslices", "EndpointSlice"),
        ("refgrant", "ReferenceGrant"),
        ("cm", "ConfigMap"),
    ] {
        assert_eq!(written.parse::<ObjectKind>().map(ObjectKind::name), Ok(kind), "{written}");
    }
    let error = "httproot".parse::<ObjectKind>().unwrap_err().to_string();
    assert!(error.contains("there is no kind `httproot`") && error.contains("httproute"), "{error}");
}
