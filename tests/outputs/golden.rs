//! Tables, messages and help, as they are printed where there is no terminal.

use gateway_tests::netns::NetNs;

use super::{agent, committed};

/// Each command whose output is kept: its file, and its arguments. `FOLDER` is where the files are.
const KEPT: &[(&str, &[&str])] = &[
    ("check", &["check", "-f", "FOLDER/good.yaml"]),
    ("check-bad", &["check", "-f", "FOLDER/bad.yaml"]),
    ("status", &["status"]),
    ("maps", &["maps"]),
    ("version", &["version"]),
    ("routes", &["routes"]),
    ("explain-http", &["explain", "http", "GET", "http://app.example:8080/x", "--to", "127.0.0.1"]),
    ("explain-http-none", &["explain", "http", "GET", "http://other.example:8080/x", "--to", "127.0.0.1"]),
    ("explain-tcp", &["explain", "tcp", "127.0.0.1:9001", "--from", "127.0.0.1:40000"]),
    ("explain-udp", &["explain", "udp", "127.0.0.1:9001", "--from", "127.0.0.1:40000"]),
    ("check-upgrade", &["check", "--upgrade", "-f", "FOLDER/old.yaml"]),
    ("diff", &["diff", "-f", "FOLDER/more.yaml"]),
    ("apply-bad", &["apply", "-f", "FOLDER/bad.yaml"]),
    ("apply", &["apply", "-f", "FOLDER/more.yaml"]),
    ("get", &["get"]),
    ("get-none", &["get", "tcproute", "nobody"]),
    ("delete", &["delete", "httproute", "more"]),
    ("delete-none", &["delete", "httproute", "more"]),
    ("uninstall-refused", &["uninstall"]),
    ("uninstall", &["uninstall", "--stop"]),
    ("uninstall-nothing", &["uninstall"]),
    ("status-no-agent", &["status"]),
    ("help", &["--help"]),
];

#[test]
fn outputs_are_as_the_golden_files_have_them() {
    let ns = NetNs::new("golden");
    let (mut agent, folder) = agent(&ns);
    let pid = agent.pid().to_string();
    let places = [
        (folder.path().display().to_string(), "FOLDER"),
        (agent.pin_dir().display().to_string(), "/sys/fs/bpf/sluice"),
        (agent.config().with_file_name("state").display().to_string(), "/var/lib/sluice"),
        (agent.config().parent().expect("a folder").display().to_string(), "/run/sluice"),
    ];
    for (name, args) in KEPT {
        let args: Vec<_> = args.iter().map(|arg| arg.replace("FOLDER", &places[0].0)).collect();
        let out = agent.sluice(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let mut text =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        for (real, shown) in &places {
            text = text.replace(real, shown);
        }
        text = text.replace(&format!("pid {pid}"), "pid 4711");
        let lines = text.split_inclusive('\n').map(still);
        let code = out.status.code().map_or("a signal".to_owned(), |code| code.to_string());
        let text = format!("{}exit code {code}\n", lines.collect::<String>());
        committed(&format!("tests/outputs/golden/{name}.txt"), &text);
        if *name == "uninstall" {
            // It is a child of this process.
            agent.wait_exit();
        }
    }
}

/// A line with its times and ages, the count of lookups that are none of ours, and the worker that happens to be the
/// less loaded one, made the same.
fn still(line: &str) -> String {
    if line.starts_with("misses: ") {
        return "misses: 0\n".to_owned();
    }
    if line.starts_with("kernel ") {
        return line.replace("worker 1", "worker 0");
    }
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if word.len() >= 20 && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T' {
            word.replace_range(..20, "2026-01-01T00:00:00Z");
        } else if word.strip_suffix('s').is_some_and(digits) {
            "0s".clone_into(word);
        }
    }
    words.join(" ")
}
