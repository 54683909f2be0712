//! Where the programs of a cluster are: in setup's cache, under the hash of what they were built from.
//!
//! Owns the list of modules and the names of their folders. Must not know how they are built: that is `cargo xtask
//! setup`'s.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// A Go module below `tests/cluster/`.
#[derive(Debug)]
pub struct Module {
    /// Its folder's name.
    pub name: &'static str,
    /// The packages of the programs that it builds, named as the last part of each.
    pub packages: &'static [&'static str],
}

/// All of them.
pub const MODULES: [Module; 4] = [
    Module { name: "etcd", packages: &["sluice-gateway.dev/cluster/etcd"] },
    Module { name: "podrunner", packages: &["sluice-gateway.dev/cluster/podrunner"] },
    Module { name: "conformance", packages: &["sigs.k8s.io/gateway-api/conformance/echo-basic"] },
    Module {
        name: "kube",
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kubectl",
        ],
    },
];

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) apiserver: PathBuf,
    pub(super) controller_manager: PathBuf,
    /// podrunner, for [`Tethered::start`](super::Tethered::start).
    pub podrunner: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// The suite's echo server.
    pub echo: PathBuf,
    /// The conformance suite.
    pub suite: PathBuf,
}

impl Programs {
    /// Looks for them.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn find() -> Result<Self, String> {
        let cache = cache().ok_or("no home directory; set SLUICE_CACHE to setup's folder")?;
        let of = |name: &str, program: &str| {
            let module = MODULES.iter().find(|module| module.name == name).expect("a module of the list");
            let folder = folder(&cache, module).map_err(|e| format!("cannot read {name}'s sources: {e}"))?;
            let path = folder.join(program);
            let there = path.exists();
            there.then_some(path.clone()).ok_or_else(|| {
                format!("{} is missing: `cargo xtask setup` builds it, in some minutes", path.display())
            })
        };
        Ok(Self {
            etcd: of("etcd", "etcd")?,
            apiserver: of("kube", "kube-apiserver")?,
            controller_manager: of("kube", "kube-controller-manager")?,
            kubectl: of("kube", "kubectl")?,
            podrunner: of("podrunner", "podrunner")?,
            echo: of("conformance", "echo-basic")?,
            suite: of("conformance", "conformance.test")?,
        })
    }

    /// The folder of a channel's CRDs.
    pub fn crds(&self, channel: &str) -> PathBuf {
        self.suite.with_file_name("crd").join(channel)
    }
}

/// The folder that holds the modules' sources.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

/// Where in a cache the programs of a module belong, as its sources are now.
///
/// # Errors
/// If these cannot be read.
pub fn folder(cache: &Path, module: &Module) -> io::Result<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sources().join(module.name))? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    Ok(cache.join("cluster").join(format!("{}-{}", module.name, digest(files))))
}

/// A hash of files by name and content, whatever their order.
pub fn digest(mut files: Vec<(String, Vec<u8>)>) -> String {
    files.sort();
    let mut hash = crc32fast::Hasher::new();
    for (name, content) in files {
        for part in [name.as_bytes(), &content] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part);
        }
    }
    format!("{:08x}", hash.finalize())
}

/// Setup's cache: `$SLUICE_CACHE`, else `~/.cache/sluice`.
fn cache() -> Option<PathBuf> {
    let set = env::var_os("SLUICE_CACHE").filter(|cache| !cache.is_empty());
    set.map(PathBuf::from).or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache/sluice")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> String {
        digest(files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect())
    }

    #[test]
    fn the_hash_is_that_of_names_and_contents() {
        let this = of(&[("go.mod", "a"), ("main.go", "b")]);
        assert_eq!(of(&[("main.go", "b"), ("go.mod", "a")]), this);
        for other in [
            &[("go.mod", "a"), ("main.go", "c")][..],
            &[("go.mod", "b"), ("main.go", "a")],
            &[("go.mod", "a"), ("other.go", "b")],
            &[("go.mo", "da"), ("main.go", "b")],
            &[("go.mod", "a")],
            &[],
        ] {
            assert_ne!(of(other), this, "{other:?}");
        }
    }

    #[test]
    fn every_module_has_its_sources_here() {
        for module in &MODULES {
            let folder = folder(Path::new("/cache"), module).expect("the sources can be read");
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(name.starts_with(module.name) && name.len() == module.name.len() + 9, "{name}");
            for file in ["go.mod", "go.sum"] {
                assert!(sources().join(module.name).join(file).exists(), "{}/{file}", module.name);
            }
        }
    }
}
