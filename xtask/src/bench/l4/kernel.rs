//! What the kernel counts: CPUs, packets, retransmissions, memory, and the run time of BPF programs.

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gateway_tests::{agent::Agent, netns::NetNs};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, gettid},
};
use serde_json::Value;

use super::super::peer::Process;
use crate::setup::which;

/// CPU time of the whole machine.
pub(super) struct Cpu {
    at: Instant,
    /// Ticks in which a CPU was not ours, in all CPUs together.
    free: u64,
    cpus: usize,
}

/// The kernel counts in this, whatever its own tick is.
const TICKS: f64 = 100.0;

impl Cpu {
    pub(super) fn now() -> Result<Self> {
        parse_cpu(&fs::read_to_string("/proc/stat")?).context("/proc/stat has another shape")
    }

    /// CPUs that were busy from then to `later`. Idle time is what the kernel accounts to the nanosecond; all the rest
    /// it samples, so what is busy is what was not idle.
    pub(super) fn busy(&self, later: &Self) -> f64 {
        let elapsed = (later.at - self.at).as_secs_f64();
        self.cpus as f64 - later.free.saturating_sub(self.free) as f64 / TICKS / elapsed
    }
}

/// CPUs that are busy now, with nothing of ours going on.
pub(super) fn background(time: Duration) -> Result<f64> {
    let before = Cpu::now()?;
    thread::sleep(time);
    Ok(before.busy(&Cpu::now()?))
}

/// What is left over of every CPU, spent by threads that run only when nobody else wants to: what others do is what these
/// cannot. Idle time would not tell it: a CPU that sleeps between packets is busy with falling asleep and waking up, most
/// of all in a virtual machine, and the cheaper the packets are, the more often it does.
pub(super) struct Soak {
    spent: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// What is spent in a second when nothing else runs.
    all: f64,
}

/// A reading of it.
pub(super) struct Spent(Instant, u64);

impl Soak {
    /// Starts to spend, and measures how much there is. The machine must be quiet.
    pub(super) fn start(time: Duration) -> Result<Self> {
        let cpus = thread::available_parallelism()?.get();
        let spent: Arc<Vec<_>> = Arc::new((0..cpus).map(|_| AtomicU64::new(0)).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, threads_ready) = mpsc::sync_channel(cpus);
        let mut soak = Self { spent, stop, threads: Vec::new(), all: 0.0 };
        for cpu in 0..cpus {
            let (spent, stop, ready) = (Arc::clone(&soak.spent), Arc::clone(&soak.stop), ready.clone());
            soak.threads.push(thread::spawn(move || {
                drop(ready.send(step_back(cpu)));
                let mut count = 0;
                while !stop.load(Relaxed) {
                    for n in 0..1000 {
                        let _kept = black_box(n);
                    }
                    count += 1;
                    spent[cpu].store(count, Relaxed);
                }
            }));
        }
        threads_ready.iter().take(cpus).collect::<Result<()>>()?;
        let first = soak.read();
        thread::sleep(time);
        soak.all = soak.rate(&first, &soak.read());
        Ok(soak)
    }

    pub(super) fn read(&self) -> Spent {
        Spent(Instant::now(), self.spent.iter().map(|spent| spent.load(Relaxed)).sum())
    }

    fn rate(&self, first: &Spent, last: &Spent) -> f64 {
        (last.1 - first.1) as f64 / (last.0 - first.0).as_secs_f64()
    }

    /// CPUs that others were busy with between two readings.
    pub(super) fn busy(&self, first: &Spent, last: &Spent) -> f64 {
        self.threads.len() as f64 * (1.0 - self.rate(first, last) / self.all)
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // It does nothing that could fail.
            drop(thread.join());
        }
    }
}

/// Makes this thread one that runs on one CPU, and there when nobody else wants to.
fn step_back(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot bind a thread to a CPU")?;
    let status = Command::new("chrt").args(["--idle", "--pid", "0", &gettid().to_string()]).status()?;
    ensure!(status.success(), "chrt: {status}");
    Ok(())
}

fn parse_cpu(text: &str) -> Option<Cpu> {
    let at = Instant::now();
    let all = text.lines().find(|line| line.starts_with("cpu "))?;
    // user, nice, system, idle, iowait, irq, softirq, steal
    let field = |n: usize| all.split_whitespace().nth(n + 1)?.parse::<u64>().ok();
    let cpus = text.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count();
    Some(Cpu { at, free: field(3)? + field(4)? + field(7)?, cpus })
}

/// Takes two readings amidst some work, away from its beginning and its end.
pub(super) fn amidst<T: Send, R: Send>(
    time: Duration,
    read: impl Fn() -> Result<R> + Sync,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<(R, R, T)> {
    thread::scope(|scope| {
        let work = scope.spawn(work);
        // A fifth off at either end: connections begin, windows grow.
        thread::sleep(time / 5);
        let first = read()?;
        thread::sleep(time * 3 / 5);
        let last = read()?;
        let done = work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((first, last, done))
    })
}

/// Packets that a device has received, and when.
pub(super) fn received(ns: &NetNs, device: &str) -> Result<(Instant, u64)> {
    let text = read(ns, "dev")?;
    let start = format!("{device}:");
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&start));
    let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    Ok((Instant::now(), packets.with_context(|| format!("no counter of {device}"))?))
}

/// SYNs that a namespace's sockets have sent again.
pub(super) fn syn_retransmissions(ns: &NetNs) -> Result<u64> {
    counter(&read(ns, "netstat")?, "TcpExt:", "TCPSynRetrans").context("no TCPSynRetrans")
}

/// The counters of the network namespace of this thread, not of the process.
fn read(ns: &NetNs, name: &str) -> Result<String> {
    Ok(ns.enter(|| fs::read_to_string(format!("/proc/thread-self/net/{name}")))?)
}

/// A counter of `/proc/net/netstat`: a line of names, then a line of numbers.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let at = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

/// Memory of the machine, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    /// What could still be had.
    pub(super) available: f64,
    /// Kernel objects, sockets among them.
    pub(super) slab: f64,
}

impl Memory {
    pub(super) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let field = |name: &str| -> Option<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
        };
        let both = field("MemAvailable:").zip(field("Slab:"));
        let (available, slab) = both.context("/proc/meminfo has another shape")?;
        Ok(Self { available, slab })
    }
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Fails if that clock runs already: somebody else's measurement would be in everything.
pub(super) fn no_clock() -> Result<()> {
    let on = fs::read_to_string(SWITCH).context("cannot read whether BPF programs are timed")?;
    ensure!(on.trim() == "0", "BPF programs are being timed, which costs each of them: echo 0 >{SWITCH}");
    Ok(())
}

/// Keeps the switch on until its input ends, even if who holds the other end is killed.
const HOLD: &str = r#"
trap '' INT TERM
before=$(cat "$0") && echo 1 >"$0" && echo on && read end
echo "$before" >"$0"
"#;

/// The kernel's clock on BPF programs, running as long as this lives. It costs every program of the machine some
/// nanoseconds a run, so nothing else is measured meanwhile.
pub(super) struct BpfClock(#[expect(dead_code, reason = "it runs until it is dropped")] Process);

impl BpfClock {
    pub(super) fn start() -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", HOLD, SWITCH]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::from(command.spawn().context("cannot start a shell")?);
        let mut line = String::new();
        BufReader::new(process.output().context("its output is piped")?).read_line(&mut line)?;
        ensure!(line.trim() == "on", "cannot switch {SWITCH} on");
        Ok(Self(process))
    }
}

/// Run time in nanoseconds and runs, by program, of the TC programs that an agent has pinned or attached by a pinned
/// link. A program that another tail-calls has no runs of its own: its time is in the other's.
pub(super) fn tc_programs(agent: &Agent<'_>) -> Result<BTreeMap<u64, (u64, u64)>> {
    let mut programs = BTreeMap::new();
    for pin in agent.bpffs().pins() {
        let path = agent.bpffs().path().join(pin);
        if path.is_dir() {
            continue;
        }
        // A pin does not say what it is; the wrong question gets an error.
        let program = match show(&["link", "show", "pinned"], &path) {
            Some(link) => {
                link["prog_id"].as_u64().and_then(|id| show(&["prog", "show", "id"], id.to_string()))
            }
            None => show(&["prog", "show", "pinned"], &path),
        };
        if let Some(program) = program
            && program["type"].as_str().is_some_and(|kind| kind.starts_with("sched_"))
            && let Some(id) = program["id"].as_u64()
        {
            let number = |name: &str| program[name].as_u64().unwrap_or(0);
            programs.insert(id, (number("run_time_ns"), number("run_cnt")));
        }
    }
    Ok(programs)
}

fn show(what: &[&str], which_one: impl AsRef<Path>) -> Option<Value> {
    let out = Command::new(which("bpftool")?).arg("-j").args(what).arg(which_one.as_ref()).output().ok()?;
    serde_json::from_slice(&out.stdout)
        .ok()
        .filter(|value: &Value| out.status.success() && value["error"].is_null())
}

/// Nanoseconds that a packet took in TC programs between two readings; `None` if there were no programs.
pub(super) fn nanoseconds_per_packet(
    before: &BTreeMap<u64, (u64, u64)>,
    after: &BTreeMap<u64, (u64, u64)>,
) -> Result<Option<f64>> {
    if after.is_empty() {
        return Ok(None);
    }
    let total = after.iter().fold((0, 0), |sum, (id, now)| {
        let then = before.get(id).copied().unwrap_or((0, 0));
        (sum.0 + now.0 - then.0, sum.1 + now.1 - then.1)
    });
    ensure!(total.1 > 0, "TC programs are attached, and no packet ran through them");
    Ok(Some(total.0 as f64 / total.1 as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_not_idle_waiting_or_stolen() {
        let text = |idle, iowait, steal| {
            format!("cpu  7 0 9 {idle} {iowait} 1 2 {steal} 0 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 1\n")
        };
        let first = parse_cpu(&text(1000, 10, 0)).expect("it parses");
        let mut last = parse_cpu(&text(1140, 15, 5)).expect("it parses");
        last.at = first.at + Duration::from_secs(1);
        assert!((first.busy(&last) - 0.5).abs() < 1e-9, "{}", first.busy(&last));
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let text = "TcpExt: A TCPSynRetrans B\nTcpExt: 1 22 3\nIpExt: A\nIpExt: 5\n";
        assert_eq!(counter(text, "TcpExt:", "TCPSynRetrans"), Some(22));
        assert_eq!(counter(text, "TcpExt:", "C"), None);
        assert_eq!(counter(text, "IpExt:", "A"), Some(5));
    }

    #[test]
    fn time_is_shared_out_over_the_packets_of_all_programs() {
        let before = BTreeMap::from([(1, (1000, 10))]);
        let after = BTreeMap::from([(1, (1600, 14)), (2, (400, 6))]);
        assert_eq!(nanoseconds_per_packet(&before, &after).expect("packets ran"), Some(100.0));
        assert_eq!(nanoseconds_per_packet(&before, &BTreeMap::new()).expect("none is right"), None);
        assert!(nanoseconds_per_packet(&before, &before).is_err());
    }
}
