//! `sluice completions`: what a shell needs to complete the command line.

use anyhow::Result;
use clap_complete::Shell;

use super::{Env, Exit};

/// Print the completions of a shell: `source <(sluice completions bash)`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn completions(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    // The generator panics where it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "sluice", &mut text);
    env.stdout.write_all(&text)?;
    Ok(Exit::Yes)
}
