//! On a terminal: colours where they are wanted, and tables that fit.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use gateway_tests::agent::Agent;
use gateway_tests::netns::NetNs;
use nix::pty::{Winsize, openpty};

use super::agent;

/// What a command shows on a terminal of so many columns.
fn shown(agent: &Agent<'_>, args: &[&str], columns: u16, no_color: Option<&str>) -> String {
    let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).expect("a terminal");
    let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor can be duplicated"));
    let mut command = agent.command(args);
    command.stdin(end()).stdout(end()).stderr(end()).env_remove("NO_COLOR").env("TERM", "xterm-256color");
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    let mut child = agent.ns().spawn(&mut command);
    drop(command);
    drop(pty.slave);
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    let mut terminal = File::from(pty.master);
    // The end of a terminal is an error, EIO.
    while let Ok(n @ 1..) = terminal.read(&mut buffer) {
        said.extend_from_slice(&buffer[..n]);
    }
    assert!(child.wait().expect("a child can be waited for").success());
    String::from_utf8(said).expect("text").replace("\r\n", "\n")
}

/// A text without its colours, and without the blanks that they stand before.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    let text = parts.fold(first, |all, part| all + part.split_once('m').map_or(part, |(_, rest)| rest));
    text.split_inclusive('\n').map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let ns = NetNs::new("colours");
    let (agent, _folder) = agent(&ns);
    let piped = String::from_utf8(agent.sluice(&["status"]).stdout).expect("text");
    assert!(!piped.contains('\u{1b}'), "{piped}");

    let coloured = shown(&agent, &["status"], 200, None);
    assert_eq!(plain(&coloured), piped, "a terminal that is wide enough shows the same");
    let red = coloured.lines().find(|line| line.contains("BackendNotFound")).expect("a line");
    assert!(red.contains("\u{1b}[38;5;9m") || red.contains("\u{1b}[31m"), "{red:?}");
    assert!(coloured.contains("\u{1b}[38;5;10m") || coloured.contains("\u{1b}[32m"), "{coloured:?}");

    assert_eq!(shown(&agent, &["status"], 200, Some("1")), piped);
    assert!(shown(&agent, &["status"], 200, Some("")).contains('\u{1b}'), "an empty NO_COLOR says nothing");
    assert!(shown(&agent, &["--help"], 200, None).contains("\u{1b}["));
    assert!(!shown(&agent, &["--help"], 200, Some("1")).contains('\u{1b}'));
    let json = shown(&agent, &["status", "-o", "json"], 200, None);
    serde_json::from_str::<serde_json::Value>(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
}

#[test]
fn tables_fit_a_narrow_terminal() {
    let ns = NetNs::new("narrow");
    let (agent, _folder) = agent(&ns);
    for columns in [100, 80] {
        for command in ["status", "maps", "get"] {
            let text = plain(&shown(&agent, &[command], columns, None));
            let tables = text.split("\n\n").filter(|part| {
                let heading = part.lines().next().unwrap_or_default();
                !heading.is_empty() && !heading.contains(|c: char| c.is_lowercase())
            });
            let mut count = 0;
            for heading in
                ["LISTENER", "PROTOCOL", "PROGRAMMED", "RESOLVEDREFS", "KEY+VALUE BYTES", "NO SOCKET"]
            {
                let there = String::from_utf8_lossy(&agent.sluice(&[command]).stdout).contains(heading);
                assert_eq!(text.contains(heading), there, "a heading is in one piece: {heading}\n{text}");
            }
            for line in tables.flat_map(str::lines) {
                assert!(line.chars().count() <= usize::from(columns), "{columns}: {line}\n{text}");
                count += 1;
            }
            assert!(count > 2, "{command}: no table in\n{text}");
        }
    }
}
