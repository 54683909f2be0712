//! `sluice set`: changes a running agent.

use anyhow::Result;

use super::{Exit, SocketArgs, run};
use crate::admin::client;
use crate::dataplane::LogLevel;

/// Change a running agent, until it is started again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    socket: SocketArgs,
    /// How much the BPF programs log. They are loaded again with it; no lookup is lost
    #[arg(long, value_name = "LEVEL", required = true, value_parser = run::bpf_log_level())]
    bpf_log_level: LogLevel,
}

pub(super) fn set(args: &Args) -> Result<Exit> {
    client::post(&args.socket.admin_socket, "/bpf-log-level", args.bpf_log_level.name())?;
    Ok(Exit::Yes)
}
