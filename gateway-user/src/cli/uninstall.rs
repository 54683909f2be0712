//! `sluice uninstall`: leaves no pin, link, route, address or process behind.
//!
//! An agent that runs is not pulled from under its connections unawares: without `--stop` it is refused. With it, the
//! agent is asked over its admin socket, drains, and is waited for. A supervisor that starts it again (systemd) must
//! be told to stop it instead.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Env, Exit, PlaceArgs, run};
use crate::admin::client::{self, Error};
use crate::admin::view::StatusView;
use crate::agent;
use crate::dataplane::{self, Dataplane, LogLevel};
use crate::source::Folders;

/// Remove everything that agents leave: programs, links, maps, addresses, routes, state.
///
/// What was applied stays, unless --objects is given. Must run in the network namespace of the agent. Refuses while
/// an agent runs, unless --stop is given.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    places: PlaceArgs,
    /// Stop the agent first, as SIGTERM does
    #[arg(long)]
    stop: bool,
    /// Remove the objects too that were applied; without it they stay in the state directory
    #[arg(long)]
    objects: bool,
    /// How long to wait for the agent to stop
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = run::duration)]
    stop_timeout: Duration,
}

pub(super) fn uninstall(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let socket = &args.places.socket.admin_socket;
    match client::get::<StatusView>(socket, "/status") {
        Ok(view) => {
            let pid = view.agent.map_or(0, |agent| agent.pid);
            if !args.stop {
                bail!(
                    "an agent (pid {pid}) runs on {}; stop it first (`systemctl stop sluice` where systemd \
                     started it), or use --stop",
                    socket.display()
                );
            }
            client::post(socket, "/stop", "")?;
            wait(pid, args.stop_timeout)?;
            writeln!(env.stdout, "stopped the agent (pid {pid})")?;
        }
        Err(Error::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut removed = Dataplane::uninstall(&dataplane::Config {
        pin_dir: args.places.pin_dir.clone(),
        workers: 1,
        log_level: LogLevel::Off,
    })?;
    // Nobody answers on it: what is there was left by an agent that was killed.
    if is_socket(socket) {
        std::fs::remove_file(socket).with_context(|| format!("cannot remove {}", socket.display()))?;
        removed.push(socket.display().to_string());
    }
    let state = &args.places.state_dir;
    let kept = agent::forget(state, &Folders::of(state, socket), args.objects)
        .with_context(|| format!("cannot remove {}", state.display()))?;
    removed.extend(kept.iter().map(|path| path.display().to_string()));
    for what in &removed {
        writeln!(env.stdout, "removed {what}")?;
    }
    if removed.is_empty() {
        writeln!(env.stdout, "there was nothing to remove")?;
    }
    if let Some(folder) = agent::stored(state) {
        writeln!(env.stdout, "kept the applied objects in {}; --objects removes them too", folder.display())?;
    }
    Ok(Exit::Yes)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
}

/// Waits until a process is gone (or is a zombie, whose parent has not looked yet).
fn wait(pid: u32, patience: Duration) -> Result<()> {
    let begin = Instant::now();
    let runs = || {
        procfs::process::Process::new(i32::try_from(pid).unwrap_or_default())
            .and_then(|process| process.stat())
            .is_ok_and(|stat| stat.state != 'Z')
    };
    while runs() {
        if begin.elapsed() > patience {
            bail!(
                "the agent (pid {pid}) still drains after {} s; nothing was removed (wait longer with \
                 --stop-timeout, or send it SIGTERM, which cuts its connections)",
                patience.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
