//! The file system that a virtual machine boots with: busybox, tools, modules and the tests, as one cpio archive.
//!
//! Everything is this machine's own, with the libraries that `ldd` names. No root is needed: the kernel makes the
//! devices, and the archive says that root owns all.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    setup::{Kernel, which},
    sh,
};

const INIT: &str = include_str!("init");

/// What the tests call, and what one wants at hand who looks into a machine.
const TOOLS: [&str; 8] = ["bpftool", "ip", "iperf3", "nft", "nstat", "ss", "tc", "ethtool"];

/// What the tests make of links, queues and rules, beyond what is built in. What these need comes along.
const MODULES: [&str; 17] = [
    "8021q",
    "bonding",
    "bridge",
    "cls_bpf",
    "cls_matchall",
    "dummy",
    "inet_diag",
    "ipip",
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "sch_ingress",
    "tcp_diag",
    "tun",
    "udp_diag",
];
/// Apart, since nearly every test needs it.
const VETH: &str = "veth";

/// What is the same for each kernel.
pub(super) struct Base {
    folder: tempfile::TempDir,
}

impl Base {
    /// Gathers programs and libraries.
    pub(super) fn new(tests: &Path, sluice: &Path) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("sluice-vm-").tempdir().context("no temporary folder")?;
        let base = Self { folder };
        let root = base.root();
        for place in ["bin", "dev", "proc", "root", "run", "sbin", "sys", "tmp"] {
            fs::create_dir_all(root.join(place))?;
        }
        let mut libraries = BTreeSet::new();
        for tool in TOOLS.iter().chain(&["busybox"]) {
            let program = which(tool).with_context(|| format!("{tool} is not there after setup"))?;
            libraries.append(&mut needs(&program)?);
            copy(&program, &root.join("bin").join(tool))?;
        }
        for (program, name) in [(tests, "kernel-tests"), (sluice, "sluice")] {
            libraries.append(&mut needs(program)?);
            // Debugging information is most of it.
            let to = root.join("bin").join(name);
            sh::read(Command::new("strip").arg("-o").arg(to).arg(program))?;
        }
        for library in libraries {
            copy(&library, &below(&root, &library))?;
        }
        // Where the kernel looks for it.
        std::os::unix::fs::symlink("/bin/busybox", root.join("sbin/modprobe"))?;
        fs::write(root.join("init"), INIT)?;
        sh::read(Command::new("chmod").arg("755").arg(root.join("init")))?;
        Ok(base)
    }

    /// Writes the archive for a kernel. The arguments are the tests'.
    pub(super) fn archive(&self, kernel: &Kernel, arguments: &[String]) -> Result<PathBuf> {
        let own = self.folder.path().join(&kernel.release);
        let modules = own.join("lib/modules").join(&kernel.release);
        fs::create_dir_all(&modules)?;
        let list = |name: &str| {
            let path = kernel.modules.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (dependencies, builtin) = (list("modules.dep")?, list("modules.builtin")?);
        let wanted: Vec<&str> = MODULES.iter().copied().chain([VETH]).collect();
        for file in closure(&dependencies, &builtin, &wanted)? {
            unpack(&kernel.modules.join(&file), &modules.join(&file))?;
        }
        for name in ["modules.builtin", "modules.order"] {
            fs::copy(kernel.modules.join(name), modules.join(name))?;
        }
        sh::read(Command::new(busybox()?).args(["depmod", "-b"]).arg(&own).arg(&kernel.release))?;
        fs::write(own.join("modules"), wanted.join("\n") + "\n")?;
        fs::write(own.join("arguments"), lines(arguments)?)?;

        let path = self.folder.path().join(format!("{}.cpio", kernel.release));
        let mut archive = File::create(&path)?;
        // The kernel reads archives one after the other.
        for part in [&self.root(), &own] {
            append(part, &mut archive)?;
        }
        Ok(path)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

fn busybox() -> Result<PathBuf> {
    which("busybox").context("busybox is not there after setup")
}

/// Where a file lies below another root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// Copies a module, out of its compression: here that takes milliseconds, on an emulated processor seconds.
fn unpack(from: &Path, to: &Path) -> Result<()> {
    let Some(to) = to.to_str().and_then(|name| name.strip_suffix(".xz")) else { return copy(from, to) };
    fs::create_dir_all(Path::new(to).parent().context("a file is in a folder")?)?;
    let status = Command::new(busybox()?).arg("xzcat").arg(from).stdout(File::create(to)?).status()?;
    ensure!(status.success(), "cannot unpack {}", from.display());
    Ok(())
}

/// One argument a line, as the first process reads them.
fn lines(arguments: &[String]) -> Result<String> {
    if let Some(wrong) = arguments.iter().find(|a| a.contains(['\n', '\\']) || a.trim() != a.as_str()) {
        bail!("argument {wrong:?}: spaces around it, line ends and backslashes do not reach the tests");
    }
    Ok(arguments.iter().map(|argument| format!("{argument}\n")).collect())
}

/// Adds a folder's content to an archive.
fn append(folder: &Path, archive: &mut File) -> Result<()> {
    let mut names = String::new();
    list(folder, Path::new(""), &mut names)?;
    let mut cpio = Command::new(busybox()?)
        .args(["cpio", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(archive.try_clone()?)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start busybox")?;
    cpio.stdin.take().context("its input is piped")?.write_all(names.as_bytes())?;
    let status = cpio.wait()?;
    ensure!(status.success(), "busybox cpio failed ({status})");
    Ok(())
}

/// Everything below a folder, folders before what is in them.
fn list(root: &Path, at: &Path, names: &mut String) -> Result<()> {
    for entry in fs::read_dir(root.join(at))? {
        let entry = entry?;
        let name = at.join(entry.file_name());
        names.push_str(name.to_str().context("names of files are text")?);
        names.push('\n');
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        }
    }
    Ok(())
}

/// The libraries of a program.
fn needs(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let out = Command::new("ldd").arg(program).env("LC_ALL", "C").output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    libraries(&text).with_context(|| format!("ldd {}", program.display()))
}

/// The libraries in what `ldd` wrote.
fn libraries(text: &str) -> Result<BTreeSet<PathBuf>> {
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}", line.trim());
    }
    let words = text.lines().filter_map(|line| line.split_whitespace().rfind(|word| !word.starts_with('(')));
    Ok(words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// The files of modules and of what they need, by `modules.dep`, without what is built in.
fn closure(dependencies: &str, builtin: &str, wanted: &[&str]) -> Result<BTreeSet<String>> {
    let name = |file: &str| -> String {
        let file = file.rsplit('/').next().unwrap_or(file);
        file.split(".ko").next().unwrap_or(file).replace('-', "_")
    };
    let mut files = BTreeSet::new();
    for module in wanted {
        let line = dependencies.lines().find_map(|line| {
            let (file, needs) = line.split_once(':')?;
            (name(file) == *module).then_some((file, needs))
        });
        match line {
            // All of them, those of those included.
            Some((file, needs)) => {
                files.extend([file].into_iter().chain(needs.split_whitespace()).map(str::to_owned));
            }
            None if builtin.lines().any(|file| name(file) == *module) => {}
            None => bail!("the kernel has no module {module}"),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_that_ldd_names() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x00007f5d)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f5d)\n";
        let want = ["/lib/x/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(text).unwrap(), want.into());
        assert_eq!(libraries("\tnot a dynamic executable\n").unwrap(), BTreeSet::new());
        assert_eq!(libraries("\tstatically linked\n").unwrap(), BTreeSet::new());
        let error = libraries("\tlibelf.so.1 => not found\n").unwrap_err().to_string();
        assert_eq!(error, "libelf.so.1 => not found");
    }

    #[test]
    fn modules_bring_what_they_need() {
        let dependencies = "kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz\n\
                            kernel/net/802/stp.ko.xz: kernel/net/llc/llc.ko.xz\nkernel/drivers/net/veth.ko:\n\
                            kernel/net/sched/sch-ingress.ko:\n";
        let builtin = "kernel/drivers/net/tun.ko\n";
        let of = |wanted: &[&str]| closure(dependencies, builtin, wanted);
        let names = |files: &[&str]| files.iter().map(|&file| file.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(
            of(&["bridge", "veth", "tun"]).unwrap(),
            names(&[
                "kernel/net/bridge/bridge.ko.xz",
                "kernel/net/802/stp.ko.xz",
                "kernel/net/llc/llc.ko.xz",
                "kernel/drivers/net/veth.ko"
            ])
        );
        assert_eq!(of(&["sch_ingress"]).unwrap(), names(&["kernel/net/sched/sch-ingress.ko"]));
        assert_eq!(of(&["bonding"]).unwrap_err().to_string(), "the kernel has no module bonding");
    }

    #[test]
    fn arguments_arrive_as_they_are_or_are_refused() {
        let of = |arguments: &[&str]| lines(&arguments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["--exact", "a b::c"]).unwrap(), "--exact\na b::c\n");
        assert_eq!(of(&[]).unwrap(), "");
        for wrong in [" a", "a\nb", "a\\b"] {
            assert!(of(&[wrong]).unwrap_err().to_string().contains("do not reach"), "{wrong:?}");
        }
    }
}
