//! Files and directories: what is read, what is remembered, what is watched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::messages;
use crate::source::{FileSource, Loaded, Watch};

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

fn source(paths: &[&Path]) -> FileSource {
    FileSource::new(paths.iter().map(PathBuf::from).collect(), Vec::new())
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.model.namespaces.keys().map(|name| &**name).collect()
}

#[test]
fn a_directory_is_its_yaml_and_json() {
    let folder = TempDir::new().unwrap();
    for (file, name) in
        [("a.yaml", "a"), ("b.yml", "b"), (".hidden.yaml", "x"), ("c.yaml~", "x"), ("d.txt", "x")]
    {
        fs::write(folder.path().join(file), namespace(name)).unwrap();
    }
    fs::write(
        folder.path().join("e.json"),
        "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"e\"}}",
    )
    .unwrap();
    fs::create_dir(folder.path().join("inner.yaml")).unwrap();
    fs::write(folder.path().join("inner.yaml/f.yaml"), namespace("x")).unwrap();
    // A file that is named twice is one file.
    let mut source = source(&[folder.path(), &folder.path().join("a.yaml")]);
    assert_eq!(names(&source.load().unwrap()), ["a", "b", "e"]);
}

#[test]
fn an_object_in_two_files_names_both() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), namespace("a")).unwrap();
    fs::write(folder.path().join("b.yaml"), format!("---\n# b\n---\n{}", namespace("a"))).unwrap();
    let shown = messages(source(&[folder.path()]).load()).replace(&folder.path().display().to_string(), "");
    assert_eq!(shown, "/b.yaml:4:1: Namespace a: is there already, at /a.yaml:1; keep one of them\n");
}

#[test]
fn what_cannot_be_read_is_an_error_and_the_rest_is_looked_at() {
    let folder = TempDir::new().unwrap();
    let bytes = folder.path().join("bytes.yaml");
    fs::write(&bytes, b"a: \xff\n").unwrap();
    let wrong = folder.path().join("wrong.yaml");
    fs::write(&wrong, "a\n").unwrap();
    let huge = folder.path().join("huge.yaml");
    fs::File::create(&huge).unwrap().set_len(65 << 20).unwrap();
    let missing = folder.path().join("missing.yaml");
    let shown = messages(source(&[&missing, &bytes, &huge, &wrong]).load());
    let shown = shown.replace(&folder.path().display().to_string(), "");
    assert_eq!(
        shown,
        "/missing.yaml: cannot be read: No such file or directory (os error 2); create it, or leave it out\n\
         /bytes.yaml: cannot be read: no UTF-8 from byte 3 on\n\
         /huge.yaml: cannot be read: longer than 64 MiB; split it up\n\
         /wrong.yaml:1:1: this is no object: it has neither apiVersion nor kind\n"
    );
}

#[test]
fn a_pipe_is_read_once() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, namespace("a")).unwrap()
    });
    let mut source = source(&[&pipe]);
    assert_eq!(names(&source.load().unwrap()), ["a"]);
    writer.join().unwrap();
    assert_eq!(names(&source.load().unwrap()), ["a"]);
}

#[test]
fn lines_are_right_although_unchanged_parts_are_not_read_again() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.yaml");
    let wrong = "apiVersion: v1\nkind: Namespace\nmetadata: {name: A}\n";
    let mut source = source(&[&file]);
    for lines in 0..3 {
        fs::write(&file, format!("{}---\n{wrong}", namespace("b\n") + &"\n".repeat(lines))).unwrap();
        let errors = source.load().unwrap_err();
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [lines as u32 + 8]);
    }
}

/// A source that is loaded and watched.
fn watched(paths: &[&Path]) -> (FileSource, Watch) {
    let mut source = source(paths);
    source.load().unwrap();
    let watch = source.watch().unwrap();
    (source, watch)
}

#[track_caller]
fn soon<T>(result: Result<T, tokio::time::error::Elapsed>) -> T {
    result.expect("a change that is told")
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_write_a_rename_and_a_return_are_told() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, namespace("a")).unwrap();
    let (mut source, mut watch) = watched(&[&file]);

    fs::write(&file, namespace("bb")).unwrap();
    soon(timeout(SOON, watch.changed()).await);
    assert_eq!(names(&source.load().unwrap()), ["bb"]);

    let new = folder.path().join("new");
    fs::write(&new, namespace("cc")).unwrap();
    fs::rename(&new, &file).unwrap();
    soon(timeout(SOON, watch.changed()).await);
    assert_eq!(names(&source.load().unwrap()), ["cc"]);

    fs::remove_file(&file).unwrap();
    soon(timeout(SOON, watch.changed()).await);
    assert!(source.load().is_err());
    fs::write(&file, namespace("dd")).unwrap();
    soon(timeout(SOON, watch.changed()).await);
    assert_eq!(names(&source.load().unwrap()), ["dd"]);
}

#[tokio::test]
async fn what_an_editor_leaves_beside_a_file_is_not_told() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), namespace("a")).unwrap();
    let (_source, mut watch) = watched(&[folder.path()]);
    for litter in [".a.yaml.swp", "a.yaml~", "4913", "#a.yaml#"] {
        fs::write(folder.path().join(litter), "x").unwrap();
    }
    assert!(timeout(Duration::from_millis(500), watch.changed()).await.is_err());
    fs::write(folder.path().join("b.yaml"), namespace("b")).unwrap();
    soon(timeout(SOON, watch.changed()).await);
}

#[tokio::test]
async fn a_volume_that_swaps_its_link_is_told() {
    // As the kubelet mounts a ConfigMap: a.yaml → ..data/a.yaml, ..data → ..1.
    let folder = TempDir::new().unwrap();
    let at = |path: &str| folder.path().join(path);
    for (version, name) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("a.yaml"), namespace(name)).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    for path in [folder.path(), &at("a.yaml")] {
        let (mut source, mut watch) = watched(&[path]);
        let before = names(&source.load().unwrap())[0].to_owned();
        let (next, name) = if before == "one" { ("..2", "two") } else { ("..1", "one") };
        symlink(next, at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        soon(timeout(SOON, watch.changed()).await);
        assert_eq!(names(&source.load().unwrap()), [name]);
    }
}

#[tokio::test]
async fn a_link_to_elsewhere_and_a_directory_made_anew_are_told() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("a.yaml"), namespace("a")).unwrap();
    let link = folder.path().join("link.yaml");
    symlink("inner/a.yaml", &link).unwrap();
    let (mut source, mut watch) = watched(&[&link]);
    fs::write(inner.join("a.yaml"), namespace("bb")).unwrap();
    soon(timeout(SOON, watch.changed()).await);
    assert_eq!(names(&source.load().unwrap()), ["bb"]);
    fs::remove_dir_all(&inner).unwrap();
    soon(timeout(SOON, watch.changed()).await);
    assert!(source.load().is_err());
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("a.yaml"), namespace("cc")).unwrap();
    soon(timeout(SOON, watch.changed()).await);
    while source.load().is_err() {
        soon(timeout(SOON, watch.changed()).await);
    }
    assert_eq!(names(&source.load().unwrap()), ["cc"]);
}

#[tokio::test]
async fn a_change_between_load_and_watch_is_told() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, namespace("a")).unwrap();
    let mut source = source(&[&file]);
    source.load().unwrap();
    fs::write(&file, namespace("bb")).unwrap();
    soon(timeout(SOON, source.watch().unwrap().changed()).await);
}
