//! The programs of the tests' cluster (`tests/cluster/`), built from the Go module proxy, once for each state of their
//! sources. Go's own caches are the user's; Go trims them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};
use gateway_tests::cluster::{MODULES, Module, folder, sources};
use serde_json::Value;

use super::{cache, go};
use crate::sh;

/// The modules of our own Go.
const OURS: [&str; 3] = ["etcd", "podrunner", "conformance"];

pub(super) fn has() -> bool {
    cache().is_ok_and(|cache| MODULES.iter().all(|module| folder(&cache, module).is_ok_and(|f| f.exists())))
}

/// Builds what is missing.
pub(super) fn get() -> Result<()> {
    let cache = cache()?;
    for module in &MODULES {
        let folder = folder(&cache, module)?;
        if folder.exists() {
            continue;
        }
        let start = Instant::now();
        // Renamed when all of it is there, so that what was interrupted is built again.
        let above = folder.parent().context("the cache has folders")?;
        fs::create_dir_all(above)?;
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(above)?;
        build(module, new.path()).with_context(|| format!("tests/cluster/{} does not build", module.name))?;
        fs::rename(new.path(), &folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // It is gone under this name.
        drop(new.keep());
        eprintln!("setup: {}: {:.0} s", module.packages.join(", "), start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Whether our Go is formatted as gofmt does it. What `go vet` finds ends the build.
pub(crate) fn format() -> Result<()> {
    let gofmt = go().context("there is no Go 1.26; `cargo xtask setup` gets it")?.with_file_name("gofmt");
    let wrong = sh::read(Command::new(gofmt).arg("-l").arg(sources()))?;
    anyhow::ensure!(wrong.is_empty(), "not formatted as gofmt does it: {}", wrong.replace('\n', ", "));
    Ok(())
}

fn build(module: &Module, into: &Path) -> Result<()> {
    if OURS.contains(&module.name) {
        sh::run(command(module)?.args(["vet", "./..."]))?;
    }
    let mut out = into.as_os_str().to_owned();
    // As a folder.
    out.push("/");
    sh::run(
        command(module)?.args(["build", "-ldflags", &flags(module)?, "-o"]).arg(&out).args(module.packages),
    )?;
    if module.name == "conformance" {
        let suite = into.join("conformance.test");
        sh::run(command(module)?.args(["test", "-c", "-ldflags", "-s -w", "-o"]).arg(suite))?;
        crds(module, into)?;
    }
    Ok(())
}

/// Go in a module's folder, for static programs of exactly what `go.mod` and `go.sum` name.
fn command(module: &Module) -> Result<Command> {
    let mut command = Command::new(go().context("there is no Go 1.26; `cargo xtask setup` gets it")?);
    command.current_dir(sources().join(module.name)).envs([
        ("CGO_ENABLED", "0"),
        ("GOTOOLCHAIN", "local"),
        // In all of them, so that what one compiles serves the next.
        ("GOFLAGS", "-trimpath -buildvcs=false -mod=readonly"),
        ("GO111MODULE", "on"),
    ]);
    Ok(command)
}

/// What the linker is told: no symbols, and Kubernetes' version, which it does not know from its source.
fn flags(module: &Module) -> Result<String> {
    let strip = "-s -w";
    if module.name != "kube" {
        return Ok(strip.to_owned());
    }
    let version = sh::read(command(module)?.args(["list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"]))?;
    let minor = version.split('.').nth(1).context("a version has a minor")?;
    let set = "-X k8s.io/component-base/version";
    Ok(format!("{strip} {set}.gitVersion={version} {set}.gitMajor=1 {set}.gitMinor={minor}"))
}

/// Copies the Gateway API's CRDs of both channels out of its module.
fn crds(module: &Module, into: &Path) -> Result<()> {
    let answer = sh::read(command(module)?.args(["mod", "download", "-json", "sigs.k8s.io/gateway-api"]))?;
    let answer: Value = serde_json::from_str(&answer).context("`go mod download` answers with JSON")?;
    let dir = PathBuf::from(answer["Dir"].as_str().context("`go mod download` names a folder")?);
    for channel in ["standard", "experimental"] {
        let to = into.join("crd").join(channel);
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(dir.join("config/crd").join(channel))? {
            let from = entry?.path();
            let name = from.file_name().context("a file has a name")?;
            // That one is no object for an API server.
            if name != "kustomization.yaml" {
                // Not `copy`: the cache of modules is read-only, and this one is to be removable.
                fs::write(to.join(name), fs::read(&from)?)?;
            }
        }
    }
    Ok(())
}
