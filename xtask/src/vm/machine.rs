//! One virtual machine: started, listened to, and ended whatever happens.
//!
//! Owns how QEMU is called and when to give up. What the machine does is its first process's.

use std::{
    env::consts::ARCH,
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::setup;

/// Until the first process runs: 4 s on an idle machine, a minute beside two busy loops at a higher priority.
const BOOT: Duration = Duration::from_secs(300);
/// Until the tests have ended.
const TESTS: Duration = Duration::from_secs(20 * 60);
/// Until the machine is off.
const OFF: Duration = Duration::from_secs(60);

/// How a run went that came to its end.
pub(super) struct Ran {
    /// The tests' exit code.
    pub(super) code: i32,
    pub(super) boot: Duration,
    pub(super) tests: Duration,
    /// What the test harness said at its end.
    pub(super) result: String,
}

/// What a line of the console tells.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Started(&'a str),
    Ended(i32),
    Failed(&'a str),
    Panic(&'a str),
    Result(&'a str),
    Other,
}

fn read(line: &str) -> Line<'_> {
    if let Some((_, panic)) = line.split_once("Kernel panic - ") {
        return Line::Panic(panic);
    }
    if let Some(result) = line.strip_prefix("test result: ") {
        return Line::Result(result);
    }
    let Some((_, said)) = line.split_once("sluice-vm: ") else { return Line::Other };
    if let Some(what) = said.strip_prefix("started ") {
        return Line::Started(what);
    }
    match said.strip_prefix("ended ").and_then(|code| code.parse().ok()) {
        Some(code) => Line::Ended(code),
        None => Line::Failed(said),
    }
}

/// The processor's own virtualization where there is any, else emulation. A device that opens is not enough: in a
/// virtual machine it can be there and boot nothing.
///
/// Emulated processors take turns on one thread. On threads of their own, QEMU 7.2 (and 8.0) now and then lets one run
/// code that another has just patched, and the kernel dies of an `int3`.
pub(super) fn accelerator() -> &'static str {
    let opens = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if opens && can_virtualize(ARCH, &flags) { "kvm" } else { "tcg,thread=single" }
}

fn can_virtualize(arch: &str, cpuinfo: &str) -> bool {
    arch != "x86_64" || cpuinfo.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        if self.0.kill().is_ok()
            && let Err(e) = self.0.wait()
        {
            eprintln!("vm: cannot wait for QEMU (pid {}): {e}", self.0.id());
        }
    }
}

/// Boots a kernel with an archive, passes on what it writes, each line after `label`, and keeps it in `log`.
///
/// # Errors
/// The machine panics, ends or goes silent without having said how the tests went.
pub(super) fn run(image: &Path, archive: &Path, label: &str, log: &Path) -> Result<Ran> {
    let (machine, console) = match ARCH {
        "x86_64" => ("q35", "ttyS0"),
        "aarch64" => ("virt", "ttyAMA0"),
        other => bail!("there is no kernel of Debian's for {other} that this task knows how to boot"),
    };
    let qemu = setup::qemu().context("QEMU is not there after setup")?;
    let mut keep = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    let start = Instant::now();
    // It dies with the thread that starts it, which is this one, even if that is killed.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(qemu)
        .args(["-machine", machine, "-accel", accelerator(), "-cpu", "max", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-monitor", "none"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(archive)
        .arg("-append")
        // What guards against a hostile neighbour costs time and keeps nobody out here; an oops ends the run.
        .arg(format!("console={console} quiet panic=-1 oops=panic nowatchdog mitigations=off"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start QEMU")?;
    let output = child.stdout.take().context("its output is piped")?;
    let _machine = Machine(child);
    let (sender, lines) = mpsc::sync_channel(1024);
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            // Nobody listens any more when the run is over.
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });

    let (mut until, mut waits) = (start + BOOT, "for the boot");
    let (mut started, mut ended, mut result) = (None, None, String::new());
    loop {
        let line = match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            // It has said all; what it does not do is turn itself off.
            Err(RecvTimeoutError::Timeout) if ended.is_some() => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("no end {waits} after {:.0} s", start.elapsed().as_secs_f64())
            }
        };
        println!("{label} {line}");
        writeln!(keep, "{line}")?;
        match read(&line) {
            Line::Started(_) => {
                started = Some(Instant::now());
                (until, waits) = (Instant::now() + TESTS, "of the tests");
            }
            Line::Ended(code) => {
                ended = Some((code, Instant::now()));
                until = Instant::now() + OFF;
            }
            Line::Failed(what) => bail!("{what}"),
            Line::Panic(what) => bail!("kernel panic: {what}"),
            Line::Result(what) => what.clone_into(&mut result),
            Line::Other => {}
        }
    }
    match (started, ended) {
        (Some(at), Some((code, end))) => Ok(Ran { code, boot: at - start, tests: end - at, result }),
        (Some(_), None) => bail!("the machine ended before the tests did"),
        (None, _) => bail!("the machine ended before it had booted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_console_tell_what_happened() {
        for (line, want) in [
            ("sluice-vm: started Linux 6.1.0 on 2 CPUs", Line::Started("Linux 6.1.0 on 2 CPUs")),
            // What was written before without a line's end.
            ("\u{1b}[2Jsluice-vm: started Linux", Line::Started("Linux")),
            ("sluice-vm: ended 0", Line::Ended(0)),
            ("sluice-vm: ended 101", Line::Ended(101)),
            ("sluice-vm: cannot mount bpf at /sys/fs/bpf", Line::Failed("cannot mount bpf at /sys/fs/bpf")),
            ("[    1.87] Kernel panic - not syncing: VFS", Line::Panic("not syncing: VFS")),
            ("test result: ok. 30 passed; 0 failed", Line::Result("ok. 30 passed; 0 failed")),
            ("test steering::a ... ok", Line::Other),
        ] {
            assert_eq!(read(line), want, "{line}");
        }
    }

    #[test]
    fn a_processor_that_cannot_virtualize_is_emulated() {
        assert!(can_virtualize("x86_64", "flags\t\t: fpu vmx sse"));
        assert!(can_virtualize("x86_64", "flags\t\t: fpu svm"));
        assert!(!can_virtualize("x86_64", "flags\t\t: fpu svm_lock avx"));
        assert!(can_virtualize("aarch64", ""));
    }
}
