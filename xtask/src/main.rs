//! Sluice's own tasks, one file each. They depend on nothing that needs the BPF toolchain: `setup` installs it.

mod bench;
mod ci;
mod conformance;
mod crds;
mod deb;
mod demo;
mod lint;
mod load;
mod setup;
mod sh;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::Parser;

use crate::setup::Part;

/// Sluice's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Measure speed and cost as ratios within one run.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run the Gateway API's conformance suite against the agent, in a cluster made for it.
    Conformance(conformance::Args),
    /// Generate the schemas of the Gateway API's kinds from its CRDs.
    Crds {
        /// Write nothing; fail if the committed files differ.
        #[arg(long)]
        check: bool,
    },
    /// Build the Debian package.
    Deb(deb::Args),
    #[command(subcommand, hide = true)]
    Load(load::Load),
    /// Get everything that is missing on this machine: toolchain, linters, peers.
    Setup {
        /// Get nothing; fail if something is missing.
        #[arg(long)]
        check: bool,
    },
    /// Show the main job in network namespaces: routes, a change under traffic, and the hit counts.
    Demo,
    /// Run rustfmt, clippy, cargo-deny and gofmt.
    Lint,
    /// Hold the sources against the house rules.
    Tidy,
    /// Lint, tidy and run every test, the conformance suite among them.
    Test {
        /// Leave out what needs a Kubernetes cluster, whose programs take ten minutes or more to build, once.
        #[arg(long)]
        no_cluster: bool,
    },
    /// Do the same in a fresh clone of HEAD.
    Ci,
    /// Run the kernel tests on Debian's kernels 6.1 and 6.12, in virtual machines; needs no root.
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Bench(bench) => bench::run(&bench),
        Task::Conformance(args) => conformance::run(&args),
        Task::Crds { check } => setup::ensure(&[Part::Go]).and_then(|()| crds::run(check)),
        Task::Deb(args) => deb::run(&args),
        Task::Load(load) => load::run(load),
        Task::Setup { check } => setup::run(check),
        Task::Demo => demo::run(),
        Task::Lint => lint::run(),
        Task::Tidy => tidy::run(),
        Task::Test { no_cluster } => test::run(!no_cluster),
        Task::Ci => ci::run(),
        Task::Vm(args) => vm::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
