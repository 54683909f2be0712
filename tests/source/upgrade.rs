//! `sluice check --upgrade` and `--strict` as a person meets them: what is printed where, and the exit code.

use std::process::{Command, Output};

use gateway_tests::agent::binary;

use super::example;

fn sluice(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("sluice can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn what_upgrade_prints_is_in_todays_form_and_is_left_alone_by_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in
        ["old-dialect.yaml", "old-dialect-v1alpha1.yaml", "old-dialect-v1alpha2.yaml", "from-istio.yaml"]
    {
        let path = example(name).display().to_string();
        let out = sluice(&["check", "--upgrade", "-f", &path]);
        assert_eq!((out.status.code(), text(&out.stderr).as_str()), (Some(0), ""), "{name}");
        let file = folder.path().join(name);
        std::fs::write(&file, &out.stdout).expect("a file");
        let file = file.display().to_string();
        let again = sluice(&["check", "--upgrade", "-f", &file]);
        assert_eq!(text(&again.stdout), text(&out.stdout), "{name}");
        // The same conditions, and no warning but those about what is somebody else's.
        let status = |path: &str| {
            let out = sluice(&["check", "-f", path, "-o", "json"]);
            let said: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
            (said["status"]["gateways"].clone(), said["warnings"].as_array().expect("warnings").len())
        };
        let (before, after) = (status(&path), status(&file));
        assert_eq!(before.0, after.0, "{name}");
        assert_eq!(after.1, if name == "from-istio.yaml" { 2 } else { 0 }, "{name}");
    }
}

#[test]
fn what_cannot_be_upgraded_is_an_error_and_nothing_is_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("old.yaml");
    let policy = "apiVersion: networking.x-k8s.io/v1alpha1\nkind: BackendPolicy\nmetadata: {name: p}\n";
    std::fs::write(&file, policy).expect("a file");
    let file = file.display().to_string();
    let out = sluice(&["check", "--upgrade", "-f", &file]);
    assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(1), ""));
    let stderr = text(&out.stderr);
    assert!(stderr.starts_with(&format!("error: {file}:2:7: BackendPolicy default/p: kind: ")), "{stderr}");
    assert!(stderr.contains("write a BackendTLSPolicy"), "{stderr}");
    for beside in [&["--strict"][..], &["-o", "json"]] {
        let out = sluice(&[&["check", "--upgrade", "-f", &file], beside].concat());
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(2), ""), "{beside:?}");
    }
}

#[test]
fn strict_fails_on_conditions_and_names_them() {
    // No Service is there.
    let path = example("old-dialect.yaml").display().to_string();
    let told =
        "HTTPRoute default/my-route parent istio-system/my-gateway: ResolvedRefs=False (BackendNotFound): ";
    for (strict, code) in [(&[][..], 0), (&["--strict"][..], 1)] {
        let out = sluice(&[&["check", "-f", &path], strict].concat());
        assert_eq!(out.status.code(), Some(code));
        assert!(text(&out.stdout).contains(told), "{}", text(&out.stdout));
        let out = sluice(&[&["check", "-f", &path, "-o", "json"], strict].concat());
        assert_eq!(out.status.code(), Some(code));
        assert!(text(&out.stdout).contains("\"BackendNotFound\""), "{}", text(&out.stdout));
    }
    let endpoint = ["--endpoint", "default/my-service:80=127.0.0.1:9000"];
    let out = sluice(&[&["check", "-f", &path, "--strict"], &endpoint[..]].concat());
    assert_eq!(out.status.code(), Some(0), "old forms alone are no reason to fail: {}", text(&out.stdout));
}
