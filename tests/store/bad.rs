//! Full disks, read-only folders, stores of others, sockets of others, users without rights.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use gateway_tests::agent::{Agent, binary};
use gateway_tests::lab::Lab;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Bed, WORKERS, config_map, said};

/// A small file system of its own at the place of a state directory, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn at(path: &Path) -> Self {
        fs::create_dir_all(path).expect("a folder");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=256k,mode=0700"))
            .expect("a file system can be mounted (this test needs root)");
        Self(path.to_owned())
    }

    fn read_only(&self, yes: bool) {
        let flags = if yes { MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY } else { MsFlags::MS_REMOUNT };
        mount(None::<&str>, &self.0, None::<&str>, flags, None::<&str>).expect("it can be mounted anew");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

/// An agent whose state directory is small.
fn small(lab: &Lab) -> (Bed<'_>, Small) {
    let mut agent = Agent::prepare(&lab.gateway, "", WORKERS).without_file();
    let small = Small::at(Path::new(&agent.places()[1]));
    agent.launch();
    agent.wait_ready();
    (Bed::on(agent), small)
}

fn value(bed: &Bed<'_>) -> String {
    bed.get(&["cm", "a"])["data"]["value"].as_str().expect("a value").to_owned()
}

#[test]
fn a_full_disk_refuses_and_keeps_what_was_there() {
    let lab = Lab::new("store-full");
    let (mut bed, small) = small(&lab);
    bed.apply(&config_map("a", "first"));
    let filler = small.0.join("filler");
    let mut file = fs::File::create(&filler).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let second = bed.file("second.yaml", &[config_map("a", "second"), config_map("b", "new")].concat());
    let told = bed.fails(&["apply", "-f", &second], 1);
    for words in ["cannot ", "No space left on device", "nothing was changed", "free some space there"] {
        assert!(told.contains(words), "no `{words}` in {told}");
    }
    assert_eq!(value(&bed), "first");
    bed.restart();
    assert_eq!(value(&bed), "first");
    fs::remove_file(filler).expect("the filler");
    assert_eq!(bed.sluice(&["apply", "-f", &second]).status.code(), Some(0));
    assert_eq!(value(&bed), "second");
    assert_eq!(fs::read_dir(bed.objects()).expect("the store").count(), 3);
}

#[test]
fn a_read_only_folder_refuses_and_keeps_what_was_there() {
    let lab = Lab::new("store-ro");
    let mut agent = Agent::prepare(&lab.gateway, "", WORKERS).without_file();
    let state = PathBuf::from(&agent.places()[1]);
    // What the agent has open for writing stays in a state directory that is writable.
    let small = Small::at(&state.join("objects"));
    agent.launch();
    agent.wait_ready();
    let mut bed = Bed::on(agent);
    bed.apply(&config_map("a", "first"));
    small.read_only(true);
    let second = bed.file("second.yaml", &config_map("a", "second"));
    for _ in 0..2 {
        for args in [&["apply", "-f", &second][..], &["delete", "cm", "a"]] {
            let told = bed.fails(args, 1);
            for words in ["Read-only file system", "nothing was changed", "mount the file system for writing"]
            {
                assert!(told.contains(words), "no `{words}` in {told}");
            }
        }
        assert_eq!(value(&bed), "first");
        assert_eq!(bed.sluice(&["diff", "-f", &second]).status.code(), Some(1), "reading goes on");
        bed.restart();
    }
    small.read_only(false);
    assert_eq!(bed.sluice(&["apply", "-f", &second]).status.code(), Some(0));
    assert_eq!(value(&bed), "second");

    bed.agent.kill();
    let other = Small::at(&state);
    other.read_only(true);
    bed.agent.launch();
    assert_eq!(bed.agent.wait_exit().code(), Some(1));
    let log = bed.agent.log();
    assert!(log.contains("state directory") && log.contains("Read-only file system"), "{log}");
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let lab = Lab::new("store-newer");
    let mut bed = Bed::new(&lab.gateway);
    bed.apply(&config_map("a", "first"));
    bed.agent.kill();
    let index = bed.objects().join("index.json");
    let text = fs::read_to_string(&index).expect("the index");
    let newer = text.replace("\"version\":1", "\"version\":7");
    fs::write(&index, &newer).expect("the index");
    fs::write(bed.objects().join("x_y_z_99.yaml"), "of the newer version").expect("a file");
    bed.agent.launch();
    assert_eq!(bed.agent.wait_exit().code(), Some(1));
    let log = bed.agent.log();
    assert!(log.contains("has the form 7") && log.contains("run the newer sluice"), "{log}");
    assert_eq!(fs::read_to_string(&index).expect("the index"), newer);
    assert_eq!(fs::read_dir(bed.objects()).expect("the store").count(), 3);
    // What a crash leaves half written is no such thing, and goes.
    fs::write(&index, text).expect("the index");
    fs::write(bed.objects().join("index.new"), "{\"version\":1,\"rev").expect("a file");
    bed.agent.launch();
    bed.agent.wait_ready();
    assert_eq!(value(&bed), "first");
    assert_eq!(fs::read_dir(bed.objects()).expect("the store").count(), 2);
}

#[test]
fn a_damaged_store_is_told_before_anything_is_touched() {
    let lab = Lab::new("store-damage");
    let mut bed = Bed::new(&lab.gateway);
    bed.apply(&config_map("a", "first"));
    bed.agent.kill();
    let file = bed.objects().join("configmap_default_a_1.yaml");
    let text = fs::read_to_string(&file).expect("the object");
    fs::write(&file, &text[..text.len() / 2]).expect("the object");
    bed.agent.launch();
    assert_eq!(bed.agent.wait_exit().code(), Some(1));
    let log = bed.agent.log();
    assert!(log.contains("configmap_default_a_1.yaml is not as it was written"), "{log}");
    fs::write(&file, text).expect("the object");
    bed.agent.launch();
    bed.agent.wait_ready();
    assert_eq!(value(&bed), "first");
}

#[test]
fn an_error_in_one_document_changes_nothing() {
    let lab = Lab::new("store-error");
    let bed = Bed::new(&lab.gateway);
    bed.apply(&config_map("a", "first"));
    let both = [config_map("a", "second"), config_map("b", "new").replace("\ndata: {", "\ndata: {n: 1, ")];
    let file = bed.file("both.yaml", &both.concat());
    let told = bed.fails(&["apply", "-f", &file], 1);
    assert!(
        told.contains(&format!("error: {file}:10:")) && told.contains("ConfigMap default/b: data"),
        "{told}"
    );
    assert!(told.contains("the input is refused and nothing was changed"), "{told}");
    assert_eq!(value(&bed), "first");
    let told = bed.fails(&["diff", "-f", &file], 2);
    assert_eq!(told.matches("ConfigMap default/b").count(), 1, "{told}");
    let told = bed.fails(&["apply", "-f", "/nonexistent.yaml"], 1);
    assert!(told.contains("/nonexistent.yaml: cannot be read"), "{told}");
}

#[test]
fn without_an_agent_or_with_another_program_in_its_place_it_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.yaml");
    fs::write(&file, config_map("a", "first")).expect("a file");
    let socket = folder.path().join("admin.sock");
    let sluice = |args: &[&str]| {
        let out = Command::new(binary()).args(args).arg("--admin-socket").arg(&socket).output();
        out.expect("sluice can be started")
    };
    let file = file.display().to_string();
    let all: [(&[&str], i32); 5] = [
        (&["apply", "-f", &file], 1),
        (&["diff", "-f", &file], 2),
        (&["get"], 1),
        (&["delete", "-f", &file], 1),
        (&["delete", "cm", "a"], 1),
    ];
    let calls = all.len();
    for (args, code) in all {
        let out = sluice(args);
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        assert!(said(&out).contains("no agent answers on "), "{args:?}: {}", said(&out));
    }
    let strangers = ["SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello"];
    for stranger in strangers {
        let listener = UnixListener::bind(&socket).expect("a socket");
        let served = thread::spawn(move || {
            for _ in 0..calls {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut some = [0; 1024];
                drop(stream.read(&mut some).and_then(|_| stream.write_all(stranger.as_bytes())));
            }
        });
        for (args, code) in all {
            let out = sluice(args);
            assert_eq!(out.status.code(), Some(code), "{args:?}");
            assert!(said(&out).contains("another program than an agent answers on "), "{}", said(&out));
        }
        served.join().expect("a server");
        fs::remove_file(&socket).expect("the socket");
    }
}

#[test]
fn a_user_without_rights_is_told_so() {
    let lab = Lab::new("store-rights");
    let bed = Bed::new(&lab.gateway);
    bed.apply(&config_map("a", "first"));
    let folder = tempfile::Builder::new().prefix("sluice-store-").tempdir_in("/tmp").expect("a folder");
    let mode = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    mode(folder.path());
    // `nobody` must be able to reach the program, and the socket's folder.
    let copy = folder.path().join("sluice");
    assert!(Command::new("cp").arg(binary()).arg(&copy).status().expect("cp").success());
    mode(bed.socket().parent().expect("a folder"));
    let file = folder.path().join("a.yaml");
    fs::write(&file, config_map("a", "theirs")).expect("a file");
    let file = file.display().to_string();
    for args in [&["apply", "-f", &file][..], &["get", "cm", "a"], &["delete", "cm", "a"]] {
        let mut command = Command::new(&copy);
        command.args(args).arg("--admin-socket").arg(bed.socket()).uid(65534).gid(65534);
        let out = command.output().expect("sluice can be started");
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        assert!(said(&out).contains("is for root alone; run this as root"), "{}", said(&out));
    }
    assert_eq!(value(&bed), "first");
}
