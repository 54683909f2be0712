//! What outlives the agent: pins found again, compared, refused, replaced and removed.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use gateway_ebpf::abi::{Action, Affinity, TCP};
use gateway_ebpf::names::{MAPS, SK_LOOKUP_LINK};
use gateway_tests::bpffs::BpfFs;
use gateway_tests::netns::NetNs;
use gateway_user::core::snapshot::ServiceImage;
use gateway_user::dataplane::{Config, Dataplane, Error, LogLevel};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::bed::{Bed, WAIT, backend_key, config, image, key, loopback, pin_dir, start, wait};

#[test]
fn a_restart_finds_what_was_there() {
    let mut bed = Bed::new("restart", 2);
    let mut wanted = image(&[
        (key(None, 80, TCP), Action::Steer),
        (key(Some(loopback(false)), 81, TCP), Action::Forward),
        (key(Some(loopback(true)), 82, TCP), Action::Reject),
    ]);
    wanted.backends.insert(1, backend_key("192.0.2.1:80"));
    wanted.backends.insert(65_535, backend_key("[2001:db8::1]:8080"));
    let affinity = Affinity::ClientIp;
    wanted.services.insert(3, ServiceImage { affinity, ..ServiceImage::new([1, 65_535, 0, 1]) });
    for binding in wanted.bindings.values_mut().filter(|b| b.action == Action::Forward) {
        (binding.service, binding.idle) = (Some(3), NonZeroU32::new(30));
    }
    bed.install(&wanted);
    let before = bed.dataplane.have().unwrap();
    assert_eq!(before.image, wanted);

    let Bed { dataplane, sockets, fs, ns } = bed;
    drop((dataplane, sockets));
    let (dataplane, _sockets) = start(&ns, &config(&fs, 3));
    assert_eq!(dataplane.have().unwrap(), before);
}

#[test]
fn every_pin_has_its_name_and_nothing_else_is_there() {
    let bed = Bed::new("names", 1);
    let mut expected: Vec<_> = MAPS.iter().map(|spec| spec.name).collect();
    expected.push(SK_LOOKUP_LINK);
    expected.sort_unstable();
    let found: Vec<_> =
        bed.fs.pins().iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_second_agent_is_refused_and_told_by_whom() {
    let bed = Bed::new("second", 1);
    let error = Dataplane::open(&config(&bed.fs, 1)).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::InUse { .. }), "{message}");
    let pid = std::process::id().to_string();
    assert!(message.contains(&pid) && message.contains("--pin-dir"), "{message}");
    assert!(matches!(Dataplane::uninstall(&config(&bed.fs, 1)), Err(Error::InUse { .. })));
    // The first goes on.
    bed.dataplane.have().unwrap();
}

#[test]
fn another_namespace_is_refused() {
    let bed = Bed::new("here", 1);
    let Bed { dataplane, sockets, fs, ns } = bed;
    drop((dataplane, sockets));
    let elsewhere = NetNs::new("kernel-elsewhere");
    let attach = |at: &NetNs| {
        at.enter(|| {
            let mut dataplane = Dataplane::open(&config(&fs, 1)).unwrap();
            dataplane.attach()
        })
    };
    assert!(matches!(attach(&elsewhere), Err(Error::OtherNamespace { .. })));
    attach(&ns).unwrap();
    // When the namespace is gone, what was attached to it is no hindrance.
    drop(ns);
    wait("the link outlives its namespace", || match attach(&elsewhere) {
        Ok(()) => true,
        Err(Error::OtherNamespace { .. }) => false,
        Err(e) => panic!("{e}"),
    });
}

/// Pins a map under the name of one of ours.
fn pin_map(fs: &BpfFs, name: &str, kind: &str, value: u32, entries: u32, flags: u32) {
    fs::create_dir_all(pin_dir(fs)).unwrap();
    let status = Command::new("bpftool")
        .args(["map", "create"])
        .arg(pin_dir(fs).join(name))
        .args(["type", kind, "key", "4", "value", &value.to_string(), "entries", &entries.to_string()])
        .args(["name", name, "flags", &flags.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_pinned_map_that_differs_is_refused() {
    // LOADS is an array of 256 values of 128 bytes, mmapable (1024).
    for (kind, value, entries, flags, what) in [
        ("hash", 128, 256, 0, "type"),
        ("array", 16, 256, 1024, "size of its values"),
        ("array", 128, 128, 1024, "capacity"),
        ("array", 128, 256, 0, "flags"),
    ] {
        let fs = BpfFs::new();
        pin_map(&fs, "LOADS", kind, value, entries, flags);
        let error = Dataplane::open(&config(&fs, 1)).unwrap_err().to_string();
        assert!(error.contains("LOADS") && error.contains(what) && error.contains("uninstall"), "{error}");
        assert_eq!(fs.pins().len(), 1, "nothing was made beside it");
    }
    let fs = BpfFs::new();
    pin_map(&fs, "LOADS", "array", 128, 256, 1024);
    Dataplane::open(&config(&fs, 1)).unwrap();
}

#[test]
fn another_contract_is_refused() {
    let fs = BpfFs::new();
    drop(Dataplane::open(&config(&fs, 1)).unwrap());
    let meta = pin_dir(&fs).join("META");
    let update = Command::new("bpftool")
        .args(["map", "update", "pinned"])
        .arg(meta)
        .args(["key", "0", "0", "0", "0", "value", "99", "0", "0", "0", "0", "0", "0", "0"])
        .status()
        .unwrap();
    assert!(update.success());
    let error = Dataplane::open(&config(&fs, 1)).unwrap_err().to_string();
    assert!(error.contains("version 99") && error.contains("uninstall"), "{error}");
    Dataplane::uninstall(&config(&fs, 1)).unwrap();
    Dataplane::open(&config(&fs, 1)).unwrap();
}

#[test]
fn only_the_hosts_bpf_filesystem_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &std::path::Path| Config {
        pin_dir: path.join("sluice"),
        workers: 1,
        log_level: LogLevel::Off,
    };
    let error = Dataplane::open(&at(folder.path())).unwrap_err();
    assert!(matches!(error, Error::NotBpffs(_)), "{error}");
    assert!(error.to_string().contains("mount -t bpf"), "{error}");

    // As `ip netns exec` does it: a mount namespace of its own, and a filesystem mounted in there.
    let error = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
            Dataplane::open(&at(folder.path())).unwrap_err()
        });
        thread.join().unwrap()
    });
    assert!(matches!(error, Error::PrivateMount(_)), "{error}");
}

#[test]
fn uninstall_leaves_nothing() {
    let mut bed = Bed::new("uninstall", 1);
    bed.install(&image(&[(key(None, 8000, TCP), Action::Reject)]));
    let Bed { dataplane, sockets, fs, ns } = bed;
    drop((dataplane, sockets));
    let refused = |ns: &NetNs| {
        ns.enter(|| {
            [false, true]
                .map(|v6| TcpStream::connect_timeout(&SocketAddr::new(loopback(v6), 8000), WAIT).is_err())
        })
    };
    let listeners = ns.enter(|| {
        [false, true].map(|v6| std::net::TcpListener::bind(SocketAddr::new(loopback(v6), 8000)).unwrap())
    });
    assert_eq!(refused(&ns), [true, true], "the binding takes the port from the host");
    let removed = ns.enter(|| Dataplane::uninstall(&config(&fs, 1)).unwrap());
    assert_eq!(removed.len(), MAPS.len() + 2, "maps, link and directory: {removed:?}");
    assert_eq!(fs.pins(), Vec::<std::path::PathBuf>::new());
    assert!(!pin_dir(&fs).exists());
    assert_eq!(refused(&ns), [false, false], "nothing is attached any more");
    drop(listeners);
    assert_eq!(ns.enter(|| Dataplane::uninstall(&config(&fs, 1)).unwrap()), Vec::<String>::new());
}

/// Size of the attached program after the verifier removed what is dead, in bytes.
fn program_size(fs: &BpfFs) -> u64 {
    let show = |words: &[&str], pin: Option<std::path::PathBuf>| -> serde_json::Value {
        let output = Command::new("bpftool").arg("-j").args(words).args(pin).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let link = show(&["link", "show", "pinned"], Some(pin_dir(fs).join(SK_LOOKUP_LINK)));
    let program = show(&["prog", "show", "id", &link["prog_id"].to_string()], None);
    program["bytes_xlated"].as_u64().unwrap()
}

#[test]
fn logging_that_is_off_is_not_in_the_program() {
    let mut bed = Bed::new("size", 1);
    let off = program_size(&bed.fs);
    let mut sizes = Vec::new();
    for level in [LogLevel::Warn, LogLevel::Debug, LogLevel::Off] {
        bed.dataplane.set_log_level(level).unwrap();
        sizes.push(program_size(&bed.fs));
    }
    println!("off {off}, warn, debug and off again {sizes:?}");
    assert!(off < sizes[0] && sizes[0] < sizes[1] && off == sizes[2], "{off}, {sizes:?}");
}

/// What the process's logger was given.
static RECORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        RECORDS.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

#[test]
fn the_log_level_changes_while_running() {
    log::set_logger(&Recorder).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let mut bed = Bed::new("level", 1);
    bed.install(&image(&[(key(None, 8123, TCP), Action::Steer)]));
    let records = || {
        let records = RECORDS.lock().unwrap();
        records.iter().filter(|r| r.contains("port 8123: verdict 0")).count()
    };
    let connect = |bed: &Bed, v6: bool, expected: usize| {
        bed.ns.enter(|| TcpStream::connect_timeout(&SocketAddr::new(loopback(v6), 8123), WAIT).unwrap());
        bed.accepted(v6);
        wait("a record is missing", || records() >= expected);
        // One too many would come as late.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(records(), expected);
    };
    connect(&bed, false, 0);
    bed.dataplane.set_log_level(LogLevel::Debug).unwrap();
    connect(&bed, false, 1);
    connect(&bed, true, 2);
    bed.dataplane.set_log_level(LogLevel::Off).unwrap();
    connect(&bed, true, 2);
    assert_eq!(bed.dataplane.reader().counts().unwrap().lookups[&0][0], 4, "no connection was lost");
}
