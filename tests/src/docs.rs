//! Pages whose commands are run: what is shown in a page is what happens.
//!
//! A block fenced as `console` holds commands and what they print. A command begins with `$ ` and goes on in lines
//! that begin with `> `; every command must succeed. The lines below it are what it prints, standard error included;
//! where there are none, the output is not looked at. A line `…` stands for any lines, and `…` within a line for
//! anything. Times, process ids and runs of blanks need not be the same.

use std::{
    fs::File,
    io::{Read, Seek},
    os::unix::process::CommandExt,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// A command of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The line of the page where it stands, from 1.
    pub line: usize,
    /// What is typed.
    pub command: String,
    /// What is shown below it.
    pub shows: Vec<String>,
}

/// The commands of a page, in order.
///
/// # Panics
/// If a block begins with something else than a command.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block: Option<usize> = None;
    for (number, line) in page.lines().enumerate() {
        match block {
            None if line == "```console" => block = Some(steps.len()),
            None => {}
            Some(_) if line == "```" => block = None,
            Some(first) => {
                if let Some(command) = line.strip_prefix("$ ") {
                    let step = Step { line: number + 1, command: command.to_owned(), shows: Vec::new() };
                    steps.push(step);
                    continue;
                }
                let known = steps.len() > first;
                let step = steps.last_mut().filter(|_| known);
                let step = step.unwrap_or_else(|| panic!("line {}: no command before it", number + 1));
                match line.strip_prefix('>').filter(|_| step.shows.is_empty()) {
                    Some(more) => {
                        step.command.push('\n');
                        step.command.push_str(more.strip_prefix(' ').unwrap_or(more));
                    }
                    None => step.shows.push(line.to_owned()),
                }
            }
        }
    }
    steps
}

impl Step {
    /// Whether a command printed what the page shows.
    pub fn shows(&self, said: &str) -> bool {
        let want: Vec<String> = self.shows.iter().map(|line| plain(line)).collect();
        let said: Vec<String> = said.trim_end().lines().map(plain).collect();
        want.is_empty() || lines(&want, &said)
    }
}

fn lines(want: &[String], said: &[String]) -> bool {
    match want.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == "…" => {
            (0..=said.len()).any(|skipped| lines(rest, &said[skipped..]))
        }
        Some((first, rest)) => {
            said.split_first().is_some_and(|(line, more)| fits(first, line) && lines(rest, more))
        }
    }
}

fn fits(want: &str, line: &str) -> bool {
    match want.split_once('…') {
        None => want == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(after, &rest[at..]))
        }),
    }
}

/// A line without what differs from run to run: times, process ids, the width of columns.
fn plain(line: &str) -> String {
    let mut pid = false;
    let words = line.split_whitespace().map(|word| {
        let digits = word.trim_start_matches('(').trim_end_matches([')', ',', ';', ':']);
        let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let word =
            if (pid && number) || is_time(digits) { word.replace(digits, "#") } else { word.to_owned() };
        pid = word.ends_with("pid");
        word
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a word is a time as of RFC 3339.
fn is_time(word: &str) -> bool {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let seconds = "0000-00-00T00:00:00";
    shape.strip_prefix(seconds).is_some_and(|rest| rest.ends_with('Z'))
}

/// A shell whose commands run one after the other; what they leave running ends with it.
#[derive(Debug, Default)]
pub struct Shell {
    groups: Vec<Pid>,
}

impl Shell {
    /// Runs a command, prepared up to its standard streams, and returns how it ended and all that was written
    /// meanwhile. What it starts in the background goes on.
    ///
    /// # Panics
    /// If it cannot be started, or does not end within a minute.
    pub fn run(&mut self, command: &mut Command) -> (ExitStatus, String) {
        // A pipe would stay open for as long as what goes on in the background.
        let mut output = tempfile::tempfile().expect("a file can be made");
        let copy = |file: &File| file.try_clone().expect("a descriptor can be duplicated");
        command.stdin(Stdio::null()).stdout(copy(&output)).stderr(copy(&output)).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        self.groups.push(Pid::from_raw(i32::try_from(child.id()).expect("a process id fits")));
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                break Some(status);
            }
            if begin.elapsed() > Duration::from_secs(60) {
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        output.rewind().and_then(|()| output.read_to_string(&mut said)).expect("text was written");
        let status = status.unwrap_or_else(|| panic!("{command:?} does not end; it wrote:\n{said}"));
        (status, said)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // What a signal does not reach is gone.
        let signal = |groups: &mut Vec<Pid>, signal| groups.retain(|group| killpg(*group, signal).is_ok());
        signal(&mut self.groups, Some(Signal::SIGTERM));
        let begin = Instant::now();
        while !self.groups.is_empty() && begin.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
            signal(&mut self.groups, None);
        }
        signal(&mut self.groups, Some(Signal::SIGKILL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_is_written() {
        let page = "text\n```console\n$ one\nshown\n> shown too\n$ two <<'E'\n> a\n>\n> b\n```\n\
                    ```sh\n$ not\n```\n```console\n$ three\n```\n";
        let step = |line, command: &str, shows: &[&str]| Step {
            line,
            command: command.to_owned(),
            shows: shows.iter().map(|&line| line.to_owned()).collect(),
        };
        assert_eq!(
            steps(page),
            [
                step(3, "one", &["shown", "> shown too"]),
                step(6, "two <<'E'\na\n\nb", &[]),
                step(15, "three", &[])
            ]
        );
    }

    #[test]
    fn what_is_shown_must_be_what_is_said() {
        for (shows, said, want) in [
            (&["a  b"][..], "a b\n", true),
            (&["a"], "a\nb\n", false),
            (&["a", "…"], "a\nb\nc\n", true),
            (&["…", "c"], "a\nb\nc\n", true),
            (&["…", "d"], "a\nb\nc\n", false),
            (&["x … z"], "x y z\n", true),
            (&["x … z"], "x y zz\n", false),
            (&[], "anything", true),
            (&["pid 1, at 2026-11-23T01:02:03Z"], "pid 77, at 2027-01-01T00:00:00Z\n", true),
            (&["(pid 1) did 1"], "(pid 77) did 1\n", true),
            (&["2026-11-23T01:02:03Z: a"], "2027-01-01T00:00:00Z: a\n", true),
            (&["did 1"], "did 2\n", false),
        ] {
            let step =
                Step { line: 1, command: String::new(), shows: shows.iter().map(|&s| s.into()).collect() };
            assert_eq!(step.shows(said), want, "{shows:?} {said:?}");
        }
    }
}
