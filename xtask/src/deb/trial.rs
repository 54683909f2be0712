//! The trial: in a fresh Debian with a network namespace and a BPF filesystem of its own, the package is installed by
//! apt, its unit is started as systemd would start it, every command of docs/quick-start.md is run, the last of which
//! purges the package; then nothing of it may be left.
//!
//! There is no systemd in there. [`manager`] stands in for it: the page's `systemctl`, and that of the package's
//! scripts, reach it over a named pipe.

mod left;
mod manager;
mod root;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use gateway_tests::{
    docs::{Shell, Step, steps},
    netns::NetNs,
};
use nix::sys::signal::{SigSet, Signal};

use self::{left::Left, manager::Manager, root::Root};
use crate::sh;

const PAGE: &str = "docs/quick-start.md";

/// Whether somebody wants the trial to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs it all; what it made is gone afterwards, whatever came of it.
pub(super) fn run(package: &Path) -> Result<()> {
    let start = Instant::now();
    // Ctrl-C ends the trial between two commands, so that it cleans up. What is started inherits the mask, and so must
    // be stopped by other signals.
    let signals = SigSet::from(Signal::SIGINT);
    signals.thread_block()?;
    thread::spawn(move || INTERRUPTED.store(signals.wait().is_ok(), Ordering::Relaxed));
    let page = fs::read_to_string(sh::root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let steps = steps(&page);
    ensure!(!steps.is_empty(), "{PAGE} has no commands");
    let ns = NetNs::new("deb");
    let root = Root::new(&ns)?;
    println!("a fresh Debian after {:.1} s", start.elapsed().as_secs_f64());
    let name = package.file_name().context("a package is a file")?;
    fs::copy(package, root.path().join("root").join(name)).context("cannot copy the package")?;
    let before = Left::look(&root, &ns)?;
    let count = commands(&root, &ns, &steps)?;
    let after = Left::look(&root, &ns)?;
    let more = after.beyond(&before);
    if !more.is_empty() {
        bail!("the purge leaves behind:\n{}", more.join("\n"));
    }
    println!(
        "{count} commands of {PAGE} worked as it shows; after the purge nothing is left ({} files, {} pins, {} \
         links, addresses and routes, {} processes compared); {:.1} s",
        after.files.len(),
        after.pins.len(),
        after.net.len(),
        after.processes.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Runs the page's commands beside what stands in for systemd; returns how many they were.
fn commands(root: &Root, ns: &NetNs, steps: &[Step]) -> Result<usize> {
    let manager = Manager::new(root, ns)?;
    thread::scope(|scope| {
        scope.spawn(|| manager.serve());
        scope.spawn(|| manager.listen());
        // Also if a command panics: the scope waits for the two.
        let _end = End(&manager);
        let mut shell = Shell::default();
        for step in steps {
            if let Err(error) = run_step(root, ns, &mut shell, step) {
                eprintln!("--- the unit's log ---\n{}", manager.log());
                return Err(error);
            }
        }
        Ok(steps.len())
    })
}

struct End<'a>(&'a Manager<'a>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn run_step(root: &Root, ns: &NetNs, shell: &mut Shell, step: &Step) -> Result<()> {
    let place = format!("{PAGE}:{}: `{}`", step.line, step.command);
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted before {place}");
    println!("$ {}", step.command);
    let mut command = root.command("sh");
    command.args(["-c", &format!("cd /root && {}", step.command)]);
    let (status, said) = ns.enter(|| shell.run(&mut command));
    print!("{said}");
    ensure!(status.success(), "{place}: {status}");
    ensure!(step.shows(&said), "{place}: the page shows\n{}", step.shows.join("\n"));
    Ok(())
}

/// A command's output, in the root folder and the namespace; it must succeed.
fn read(root: &Root, ns: &NetNs, words: &[&str]) -> Result<String> {
    let (program, args) = words.split_first().context("a command has a first word")?;
    let mut command = root.command(program);
    ns.enter(|| sh::read(command.args(args)))
}
