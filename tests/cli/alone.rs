//! Commands that need neither an agent nor a privilege: help, version, check, exit codes, who may read what.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use gateway_tests::agent::binary;
use serde_json::Value;

use super::web;

fn sluice(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(binary())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sluice can be started");
    // What does not read its input closes it.
    drop(child.stdin.take().expect("a pipe").write_all(input.as_bytes()));
    child.wait_with_output().expect("sluice ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn good() -> String {
    let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    web(at(8080), at(5432))
}

#[test]
fn the_first_help_names_every_command() {
    let out = sluice(&["--help"], "");
    assert_eq!(out.status.code(), Some(0));
    let commands: Vec<String> = text(&out.stdout)
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert_eq!(
        commands,
        [
            "run",
            "check",
            "apply",
            "get",
            "diff",
            "delete",
            "status",
            "explain",
            "routes",
            "flows",
            "maps",
            "set",
            "uninstall",
            "version",
            "completions",
            "man"
        ]
    );
}

#[test]
fn version_says_what_it_is() {
    let version = env!("CARGO_PKG_VERSION");
    let out = sluice(&["version"], "");
    assert_eq!(
        text(&out.stdout),
        format!("sluice {version} (contract {}, Gateway API v1.6.1)\n", gateway_ebpf::VERSION)
    );
    let json: Value = serde_json::from_slice(&sluice(&["version", "-o", "json"], "").stdout).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({"version": version, "contract": gateway_ebpf::VERSION, "gatewayApi": "v1.6.1"})
    );
}

#[test]
fn usage_errors_end_with_2() {
    for args in [&[][..], &["fly"], &["apply"], &["check", "-f", "-", "-o", "xml"]] {
        let out = sluice(args, "");
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(2), ""), "{args:?}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for args in [&["--help"][..], &["version"], &["version", "-o", "json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let out = Command::new(binary()).args(args).stdout(writer).output().expect("sluice can be started");
        assert_eq!((out.status.code(), text(&out.stderr).as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn check_says_yes_to_good_input() {
    let out = sluice(&["check", "-f", "-", "--strict"], &good());
    let stdout = text(&out.stdout);
    assert_eq!((out.status.code(), text(&out.stderr).as_str()), (Some(0), ""), "{stdout}");
    for line in [
        "GATEWAY      CLASS   ADDRESSES  ACCEPTED  PROGRAMMED",
        "LISTENER          PROTOCOL  PORT  HOSTNAME  ROUTES  ACCEPTED  PROGRAMMED  RESOLVEDREFS",
        "default/web/http  HTTP        80  *              1  True      True        True",
        "default/web/tcp   TCP       9000  *              1  True      True        True",
        "HTTPRoute  default/app  default/web/http  True      True",
        "TCPRoute   default/db   default/web/tcp   True      True",
        "errors: 0, warnings: 0, conditions not as they should be: 0",
    ] {
        assert!(stdout.lines().any(|found| found == line), "no line `{line}` in\n{stdout}");
    }
    assert!(!stdout.contains('\x1b'), "colours where there is no terminal");
}

#[test]
fn check_says_no_to_errors_and_shows_where() {
    let input = good().replace("protocol: HTTP, port: 80", "protocol: HTTP, port: 0");
    let out = sluice(&["check", "-f", "-"], &input);
    assert_eq!(out.status.code(), Some(1));
    let stdout = text(&out.stdout);
    assert!(stdout.starts_with("error: <stdin>:8:"), "{stdout}");
    assert!(stdout.contains("Gateway default/web") && stdout.contains("spec.listeners[0].port"), "{stdout}");

    let out = sluice(&["check", "-f", "-", "-o", "json"], &input);
    let json: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(json["errors"][0]["field"], "spec.listeners[0].port");
    assert_eq!(json["errors"][0]["line"], 8);
    assert_eq!(json["status"], Value::Null);
}

#[test]
fn negative_conditions_count_only_with_strict() {
    let input = good().replace("backendRefs: [{name: db,", "backendRefs: [{name: nobody,");
    for (args, code) in [(&["check", "-f", "-"][..], 0), (&["check", "-f", "-", "--strict"], 1)] {
        let out = sluice(args, &input);
        let stdout = text(&out.stdout);
        assert_eq!(out.status.code(), Some(code), "{stdout}");
        assert!(stdout.contains("False (BackendNotFound)"), "{stdout}");
        assert!(
            stdout.contains(
                "TCPRoute default/db parent default/web/tcp: ResolvedRefs=False (BackendNotFound): "
            ),
            "{stdout}"
        );
    }
}

#[test]
fn check_looks_no_name_up_and_says_so() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples/outgoing.yaml");
    let out = sluice(&["check", "--strict", "-f", example], "");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let stdout = text(&out.stdout);
    for line in [
        "default/mirror  mirror.example  -",
        "Service default/db: externalName \"db.example.org\": names are looked up by the agent",
    ] {
        assert!(stdout.contains(line), "{line}\n{stdout}");
    }
    for (flag, value) in [("--resolver", "10.0.0.1"), ("--allow-external-name", "10.0.0.0/33")] {
        let out = sluice(&["run", "-f", example, flag, value], "");
        assert_eq!(out.status.code(), Some(2), "{flag} {value}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(value), "{}", text(&out.stderr));
    }
}

#[test]
fn json_and_yaml_say_the_same() {
    let json = sluice(&["check", "-f", "-", "-o", "json"], &good());
    let yaml = sluice(&["check", "-f", "-", "-o", "yaml"], &good());
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let yaml: Value = serde_yaml::from_slice(&yaml.stdout).expect("YAML");
    assert_eq!(json, yaml);
    let gateway = &json["status"]["gateways"][0];
    assert_eq!(gateway["namespace"], "default");
    assert_eq!(gateway["listeners"][0]["supportedKinds"], serde_json::json!(["HTTPRoute"]));
    assert_eq!(gateway["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(gateway["conditions"][0]["type"], "Accepted");
    assert_eq!(gateway["conditions"][0]["status"], "True");
    let parent = &json["status"]["routes"][0]["parents"][0];
    assert_eq!(parent["controllerName"], "sluice-gateway.dev/controller");
    assert_eq!(
        parent["parentRef"],
        serde_json::json!({
            "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default", "name": "web",
            "sectionName": "http"
        })
    );
}

#[test]
fn check_needs_no_privilege() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root, to give it up");
    // `nobody` must be able to reach the program.
    let directory = tempfile::Builder::new().prefix("sluice-cli-").tempdir_in("/tmp").expect("a folder");
    let copy = directory.path().join("sluice");
    copied(&copy);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), mode).expect("a mode");
    let file = directory.path().join("web.yaml");
    std::fs::write(&file, good()).expect("a file");
    let as_nobody = |args: &[&str]| {
        use std::os::unix::process::CommandExt;
        Command::new(&copy).args(args).uid(65534).gid(65534).output().expect("sluice can be started")
    };
    let out = as_nobody(&["check", "-f", path(&file)]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}

#[test]
fn without_rights_it_says_so() {
    use std::os::unix::process::CommandExt;
    assert!(nix::unistd::geteuid().is_root(), "this test needs root, to give it up");
    let directory = tempfile::Builder::new().prefix("sluice-cli-").tempdir_in("/tmp").expect("a folder");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(directory.path(), mode(0o755)).expect("a mode");
    let copy = directory.path().join("sluice");
    copied(&copy);
    let socket = directory.path().join("admin.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    std::fs::set_permissions(&socket, mode(0o600)).expect("a mode");
    let out = Command::new(&copy)
        .args(["status", "--admin-socket", path(&socket)])
        .uid(65534)
        .gid(65534)
        .output()
        .expect("sluice can be started");
    assert_eq!(out.status.code(), Some(1));
    let stderr = text(&out.stderr);
    assert!(stderr.contains("is for root alone; run this as root"), "{stderr}");
    let out = Command::new(&copy)
        .args(["run", "-f", "-", "--state-dir", "/nonexistent/state"])
        .stdin(Stdio::null())
        .uid(65534)
        .gid(65534)
        .output()
        .expect("sluice can be started");
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stderr.contains("state directory /nonexistent/state") && stderr.contains("run as root"),
        "{stderr}"
    );
}

/// Copies the program by a process of its own: a descriptor of ours that is open for writing could be inherited by
/// what another test starts at this moment, and then the copy cannot be executed.
fn copied(to: &Path) {
    assert!(Command::new("cp").arg(binary()).arg(to).status().expect("cp").success());
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
}
