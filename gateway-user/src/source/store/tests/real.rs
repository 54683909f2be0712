//! The store on a real folder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::key;
use crate::core::model::ObjectName;
use crate::source::kind::Kind;
use crate::source::store::{Real, Store, StoreError};

fn open(folder: &Path) -> Result<Store<Real>, StoreError> {
    Store::open(Real, folder).map(|(store, _)| store)
}

fn files(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    files.sort();
    files
}

/// A store with two objects in a folder of its own.
fn two() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("objects");
    let mut store = open(&folder).unwrap();
    store.commit(&[(key("a"), Some("one".into())), (key("b"), Some("two".into()))]).unwrap();
    (directory, folder)
}

#[test]
fn one_file_for_each_object_for_its_owner_alone() {
    let (_directory, folder) = two();
    assert_eq!(files(&folder), ["httproute_default_a_1.yaml", "httproute_default_b_2.yaml", "index.json"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in files(&folder) {
        assert_eq!(mode(&folder.join(&file)), 0o600, "{file}");
    }
    let mut store = open(&folder).unwrap();
    store.commit(&[(key("a"), None), (key("b"), Some("three".into()))]).unwrap();
    assert_eq!(files(&folder), ["httproute_default_b_3.yaml", "index.json"]);
    assert_eq!(open(&folder).unwrap().get(&key("b")).unwrap().as_deref(), Some("three"));
}

#[test]
fn names_may_be_as_long_as_kubernetes_allows() {
    let (_directory, folder) = two();
    let long = |end: &str| {
        let name = format!("{}{end}", "n".repeat(252));
        (Kind::BackendTlsPolicy, ObjectName::new(&"s".repeat(63), &name))
    };
    let both = [(long("a"), Some("a".into())), (long("b"), Some("b".into()))];
    open(&folder).unwrap().commit(&both).unwrap();
    let store = open(&folder).unwrap();
    assert_eq!(store.get(&long("a")).unwrap().as_deref(), Some("a"));
    assert_eq!(store.get(&long("b")).unwrap().as_deref(), Some("b"));
}

#[test]
fn what_a_crash_left_is_removed_and_what_is_not_ours_stays() {
    let (_directory, folder) = two();
    for left in ["httproute_default_c_9.yaml", "index.new"] {
        fs::write(folder.join(left), "hal").unwrap();
    }
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    open(&folder).unwrap();
    assert_eq!(
        files(&folder),
        ["httproute_default_a_1.yaml", "httproute_default_b_2.yaml", "index.json", "notes.txt"]
    );
}

#[test]
fn a_newer_form_is_refused_and_left_alone() {
    let (_directory, folder) = two();
    fs::write(folder.join("index.json"), r#"{"version": 2, "shards": []}"#).unwrap();
    fs::write(folder.join("httproute_default_c_9.yaml"), "of the newer version").unwrap();
    let before = files(&folder);
    let error = open(&folder).unwrap_err().to_string();
    assert!(
        error.contains("has the form 2, this version of sluice knows those up to 1")
            && error.contains("run the newer sluice"),
        "{error}"
    );
    assert_eq!(files(&folder), before);
}

/// What happens to a store, by name.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);

#[test]
fn damage_is_told_with_the_file_and_the_remedy() {
    let damage: [Damage<'_>; 4] = [
        (
            "an object cut off",
            &|f| fs::write(f.join("httproute_default_a_1.yaml"), "on").unwrap(),
            "a_1.yaml",
        ),
        ("an object gone", &|f| fs::remove_file(f.join("httproute_default_a_1.yaml")).unwrap(), "is missing"),
        ("the index cut off", &|f| fs::write(f.join("index.json"), "{\"version\":").unwrap(), "index.json"),
        ("the index gone", &|f| fs::remove_file(f.join("index.json")).unwrap(), "index.json"),
    ];
    for (what, act, told) in damage {
        let (_directory, folder) = two();
        act(&folder);
        let before = files(&folder);
        let error = open(&folder).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("put it back from a backup"), "{what}: {error}");
        assert_eq!(files(&folder), before, "{what}");
    }
}
