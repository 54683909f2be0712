//! A network namespace that is gone when its owner is gone.
//!
//! It is held by a file descriptor alone, so even a killed test leaves none behind. Nothing is mounted, and
//! entering one never leaves the mount namespace: a BPF filesystem seen inside is the host's.

use std::{
    fs::{self, File},
    net::IpAddr,
    os::fd::AsRawFd,
    panic,
    path::PathBuf,
    process::{self, Child, Command},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, or the one this process is in (`NetNs::host`).
#[derive(Debug)]
pub struct NetNs {
    name: String,
    file: Option<File>,
}

impl NetNs {
    /// A new namespace with loopback up. `name` only serves messages.
    ///
    /// # Panics
    /// Without CAP_NET_ADMIN and CAP_SYS_ADMIN.
    pub fn new(name: &str) -> Self {
        let file = thread::scope(|scope| {
            join(scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| {
                    panic!("cannot make the network namespace {name}: {e} (this test needs root)")
                });
                File::open("/proc/thread-self/ns/net").expect("a thread can open its own namespace")
            }))
        });
        let ns = Self { name: name.to_owned(), file: Some(file) };
        ns.run("ip link set lo up");
        // Link-local addresses, which neighbours are asked from, are to work at once.
        ns.sysctl("ipv6/conf/default/accept_dad", "0");
        ns
    }

    /// The namespace of this process; entering it needs no privilege.
    pub fn host() -> Self {
        Self { name: "host".to_owned(), file: None }
    }

    /// The name given at creation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path by which other programs find the namespace while this process lives: `nsenter --net=PATH`.
    pub fn path(&self) -> PathBuf {
        match &self.file {
            Some(file) => format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()).into(),
            None => format!("/proc/{}/ns/net", process::id()).into(),
        }
    }

    /// Runs `f` on a thread inside the namespace and waits for it; its panic goes on here.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            join(scope.spawn(|| {
                self.set();
                f()
            }))
        })
    }

    /// Runs a future made inside the namespace on a runtime of its own.
    pub fn block_on<F: Future>(&self, make: impl FnOnce() -> F + Send) -> F::Output
    where
        F::Output: Send,
    {
        self.enter(|| runtime().block_on(make()))
    }

    /// Starts a thread that lives inside the namespace.
    pub fn thread<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        let file = self.file.as_ref().map(|f| f.try_clone().expect("a descriptor can be duplicated"));
        let ns = Self { name: self.name.clone(), file };
        thread::spawn(move || {
            ns.set();
            f()
        })
    }

    /// Starts a program inside the namespace.
    pub fn spawn(&self, command: &mut Command) -> Child {
        self.enter(|| command.spawn()).unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"))
    }

    /// Runs a program inside the namespace and returns what it wrote.
    ///
    /// # Panics
    /// If it cannot be started or fails; the message holds its errors.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a program to run"));
        command.args(words);
        let out = self.enter(|| command.output()).unwrap_or_else(|e| panic!("cannot run `{line}`: {e}"));
        assert!(
            out.status.success(),
            "`{line}` in {}: {}: {}",
            self.name,
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Joins two namespaces by a veth pair, both ends up.
    pub fn veth(&self, device: &str, other: &Self, other_device: &str) {
        let path = other.path();
        self.run(&format!(
            "ip link add {device} type veth peer name {other_device} netns {}",
            path.display()
        ));
        self.run(&format!("ip link set {device} up"));
        other.run(&format!("ip link set {other_device} up"));
    }

    /// Puts an address onto a device; IPv6 without duplicate address detection, so that it works at once.
    pub fn address(&self, device: &str, address: IpAddr, prefix: u8) {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        self.run(&format!("ip address add {address}/{prefix} dev {device}{nodad}"));
    }

    /// The default route of one family.
    pub fn default_route(&self, via: IpAddr) {
        let family = if via.is_ipv6() { 6 } else { 4 };
        self.run(&format!("ip -{family} route add default via {via}"));
    }

    /// Sets a sysctl below `net`, by its path: `ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) {
        self.enter(|| fs::write(format!("/proc/sys/net/{key}"), value))
            .unwrap_or_else(|e| panic!("cannot set net/{key} to {value} in {}: {e}", self.name));
    }

    fn set(&self) {
        if let Some(file) = &self.file {
            setns(file, CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|e| panic!("cannot enter the network namespace {}: {e}", self.name));
        }
    }
}

/// A runtime for one thread, as the harness uses it everywhere.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}
