//! `sluice man`: the man pages, from the same definitions as the help.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap_mangen::Man;

use super::{Env, Exit};

/// Print a man page, or write all of them: `sluice man status | man -l -`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The command; the program as a whole if there is none
    command: Option<String>,
    /// Write a page for the program and for each command into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

pub(super) fn man(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let mut all = super::command();
    if let Some(dir) = &args.dir {
        clap_mangen::generate_to(all, dir).with_context(|| format!("cannot write to {}", dir.display()))?;
        return Ok(Exit::Yes);
    }
    all.build();
    let wanted = match &args.command {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(found) => found.clone(),
            None => bail!("there is no command `{name}`; `sluice --help` lists them"),
        },
    };
    Man::new(wanted).render(env.stdout)?;
    Ok(Exit::Yes)
}
