//! What systemd is told, over a socket of the test's own.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use gateway_tests::agent::Agent;
use gateway_tests::netns::NetNs;
use gateway_tests::uninterrupted;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

use super::{WORKERS, web};

/// The socket, and all that came over it.
struct Told {
    socket: UnixDatagram,
    folder: TempDir,
    lines: Vec<String>,
}

impl Told {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        Self { socket, folder, lines: Vec::new() }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    /// Takes in what has come.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(n) = uninterrupted(|| self.socket.recv(&mut buffer)) {
            self.lines.extend(String::from_utf8_lossy(&buffer[..n]).lines().map(str::to_owned));
        }
    }

    /// Waits until a line that begins so has come, and forgets all up to it.
    fn wait(&mut self, begin: &str) -> String {
        let start = Instant::now();
        loop {
            self.read();
            if let Some(at) = self.lines.iter().position(|line| line.starts_with(begin)) {
                return self.lines.drain(..=at).next_back().expect("a line");
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no {begin}; there came {:?}", self.lines);
        }
    }
}

#[test]
fn systemd_is_told_how_the_agent_is() {
    let ns = NetNs::new("notify");
    let mut told = Told::new();
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let yaml = web(at(8080), at(5432));
    let mut agent = Agent::prepare(&ns, &yaml, WORKERS)
        .env("NOTIFY_SOCKET", &told.path())
        .env("WATCHDOG_USEC", "30000000");
    agent.launch();
    told.wait("READY=1");
    assert_eq!(told.wait("STATUS="), "STATUS=serves generation 1: Gateways: 1, routes: 2");
    for _ in 0..2 {
        told.wait("WATCHDOG=1");
    }

    let pid = Pid::from_raw(agent.pid());
    kill(pid, Signal::SIGHUP).expect("a signal");
    told.wait("RELOADING=1");
    told.wait("MONOTONIC_USEC=");
    told.wait("READY=1");
    agent.write("kind: Gateway\n");
    told.wait("RELOADING=1");
    told.wait("READY=1");
    let line = told.wait("STATUS=serves generation 2: ");
    assert!(line.contains("; the input is refused"), "{line}");

    // The loop hangs in reading its input; all the other threads go on.
    let fifo = agent.config().with_file_name("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("a fifo");
    fs::rename(&fifo, agent.config()).expect("a rename");
    told.wait("RELOADING=1");
    told.read();
    told.lines.clear();
    std::thread::sleep(Duration::from_millis(2500));
    told.read();
    assert!(told.lines.is_empty(), "a loop that hangs says {:?}", told.lines);
    agent.metrics();
    let mut fifo = fs::OpenOptions::new().write(true).open(agent.config()).expect("a fifo");
    fifo.write_all(yaml.as_bytes()).expect("a reader");
    drop(fifo);
    told.wait("WATCHDOG=1");
    agent.write(&yaml);

    kill(pid, Signal::SIGTERM).expect("a signal");
    told.wait("STOPPING=1");
    assert_eq!(told.wait("EXTEND_TIMEOUT_USEC="), "EXTEND_TIMEOUT_USEC=45000000");
    assert_eq!(agent.wait_exit().code(), Some(0));
}
