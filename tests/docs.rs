//! Every command of the pages under docs/ is run, and prints what the page shows; every command of the program has a
//! section in docs/commands.md.
//!
//! Each page has a host of its own: a network namespace, with the places of a default installation, in which servers
//! listen on ports 9000 and 9001 (HTTP, `web` and `web-v2`) and 9002 (TCP, `db`). The quick start, which installs the
//! package, is run by `cargo xtask deb --try`, and what needs a cluster by `tests/kube/page.rs`.

use std::{env, fs, net::SocketAddr, path::Path, process::Command};

use gateway_ebpf::flow::{Reason, ReasonKind};
use gateway_ebpf::life::State;
use gateway_tests::agent::binary;
use gateway_tests::bpffs::BpfFs;
use gateway_tests::docs::{Shell, Step, steps};
use gateway_tests::netns::NetNs;
use gateway_tests::peers::{echo, server::Server};
use gateway_user::core::flows::ending::Ending;
use gateway_user::proxy::HandshakeFailure;
use tempfile::TempDir;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn page(name: &str) -> String {
    fs::read_to_string(format!("{ROOT}/docs/{name}")).unwrap_or_else(|e| panic!("docs/{name}: {e}"))
}

/// A host to run a page on. The fields end in this order: what was started, then what it used.
struct Host {
    shell: Shell,
    _servers: [Server; 3],
    /// What the page calls a place, and where it is.
    places: Vec<(&'static str, String)>,
    pins: BpfFs,
    folder: TempDir,
    ns: NetNs,
}

impl Host {
    fn new(name: &str) -> Self {
        let ns = NetNs::new(name);
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let servers = [
            echo::http(&ns, at(9000), "web"),
            echo::http(&ns, at(9001), "web-v2"),
            echo::tcp(&ns, at(9002), "db"),
        ];
        let folder = tempfile::Builder::new().prefix("sluice-docs-").tempdir().expect("a folder");
        let pins = BpfFs::new();
        let inside = |name: &str| folder.path().join(name).display().to_string();
        let places = vec![
            ("/usr/share/doc/sluice/examples", format!("{ROOT}/config/examples")),
            ("/etc/sluice", inside("etc")),
            ("/run/sluice", inside("run")),
            ("/var/lib/sluice", inside("state")),
            ("/sys/fs/bpf/sluice", pins.path().join("sluice").display().to_string()),
        ];
        for name in ["bin", "etc/conf.d", "home"] {
            fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        std::os::unix::fs::symlink(binary(), folder.path().join("bin/sluice")).expect("a link");
        Self { shell: Shell::default(), _servers: servers, places, pins, folder, ns }
    }

    /// Runs a command; what it printed, in the page's words.
    fn run(&mut self, step: &Step) -> Result<String, String> {
        let typed =
            self.places.iter().fold(step.command.clone(), |text, (page, real)| text.replace(page, real));
        let path = env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", &typed])
            .current_dir(self.folder.path().join("home"))
            .env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()))
            .env("HOME", self.folder.path().join("home"))
            .env("NO_COLOR", "1")
            .env("SLUICE_ADMIN_SOCKET", self.folder.path().join("run/admin.sock"))
            .env("SLUICE_STATE_DIR", self.folder.path().join("state"))
            .env("SLUICE_PIN_DIR", self.pins.path().join("sluice"))
            .env("SLUICE_WORKERS", "2");
        let (ns, shell) = (&self.ns, &mut self.shell);
        let (status, said) = ns.enter(|| shell.run(&mut command));
        let said = self.places.iter().fold(said, |text, (page, real)| text.replace(real, page));
        if status.success() { Ok(said) } else { Err(format!("{status}\n{said}")) }
    }
}

/// Runs every command of a page.
fn runs(name: &str) {
    let steps = steps(&page(name));
    assert!(!steps.is_empty(), "docs/{name} has no commands");
    let mut host = Host::new(name);
    for step in steps {
        let place = format!("docs/{name}:{}: `{}`", step.line, step.command);
        let said = host.run(&step).unwrap_or_else(|why| panic!("{place}: {why}"));
        assert!(
            step.shows(&said),
            "{place}: the page shows\n{}\nbut it printed\n{said}",
            step.shows.join("\n")
        );
    }
}

#[test]
fn commands() {
    runs("commands.md");
}

#[test]
fn forwarding() {
    runs("forwarding.md");
}

#[test]
fn addresses() {
    runs("addresses.md");
}

#[test]
fn https() {
    runs("https.md");
}

/// The first words of each row of the table with this heading, without backticks.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

#[test]
fn every_reason_is_explained() {
    let text = page("forwarding.md");
    let reasons = Reason::ALL.map(|reason| {
        let kind = match reason.kind() {
            ReasonKind::Fallback => "fallback",
            ReasonKind::Drop => "drop",
            ReasonKind::Note => "note",
        };
        [reason.name(), kind]
    });
    let told = rows(&text, "| reason | kind |");
    assert_eq!(told.iter().map(|row| &row[..2]).collect::<Vec<_>>(), reasons.iter().collect::<Vec<_>>());
    let names = |heading| rows(&text, heading).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(names("| close |"), Ending::ALL.map(Ending::name));
    assert_eq!(names("| state |"), State::ALL.map(State::name));
}

#[test]
fn troubleshooting() {
    runs("troubleshooting.md");
}

#[test]
fn coming_from_istio() {
    runs("coming-from-istio.md");
}

/// A section of its own for each command, in which it is run.
#[test]
fn every_command_has_a_section_with_an_example() {
    let text = page("commands.md");
    for command in gateway_user::cli::command().get_subcommands() {
        let name = command.get_name();
        let heading = format!("\n## `sluice {name}`\n");
        let section = text.split_once(&heading).map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
        let section = section.unwrap_or_else(|| panic!("docs/commands.md has no section of `sluice {name}`"));
        let run = steps(section).iter().any(|step| step.command.contains(&format!("sluice {name}")));
        assert!(run, "the section of `sluice {name}` in docs/commands.md has no block that runs it");
    }
}

#[test]
fn every_reason_of_a_failed_handshake_is_explained() {
    let page = page("https.md");
    for reason in HandshakeFailure::ALL {
        assert!(page.contains(&format!("| `{}` | ", reason.name())), "{}", reason.name());
    }
}

/// A page that no test runs would not stay true.
#[test]
fn every_page_is_run() {
    let code = ["docs.rs", "kube/page.rs"]
        .map(|name| fs::read_to_string(Path::new(ROOT).join("tests").join(name)).expect("code"))
        .concat();
    for entry in fs::read_dir(format!("{ROOT}/docs")).expect("docs/") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let run = code.contains(&format!("runs(\"{name}\")")) || name == "quick-start.md";
        assert!(run, "docs/{name} is run by nothing");
    }
}
