//! `sluice status`: the agent and every object's conditions.

use anyhow::Result;
use comfy_table::Cell;

use super::output;
use super::{AskArgs, Env, Exit};
use crate::admin::client;
use crate::admin::view::{ForwardingView, StatusView};

/// Show the agent, Gateways, listeners and routes with their conditions.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) fn status(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let view: StatusView = client::get(&args.ask.socket.admin_socket, "/status")?;
    if output::print_as(env, args.ask.output, &view)? {
        return Ok(Exit::Yes);
    }
    if let Some(agent) = &view.agent {
        let configuration = &agent.configuration;
        writeln!(
            env.stdout,
            "agent: {}, pid {}, version {}, {} worker{}, started {}",
            if agent.ready { "ready" } else { "not ready" },
            agent.pid,
            agent.version,
            agent.workers,
            if agent.workers == 1 { "" } else { "s" },
            agent.started
        )?;
        writeln!(
            env.stdout,
            "configuration: generation {}, applied {}, from {}",
            configuration.generation,
            configuration.applied.as_deref().unwrap_or("never"),
            configuration.sources.join(", ")
        )?;
        if let Some(error) = &configuration.error {
            writeln!(env.stdout, "error since {}: {}", error.time, error.message)?;
            for diagnostic in &error.diagnostics {
                writeln!(env.stdout, "  {}", output::diagnostic_of(diagnostic))?;
            }
        }
        for warning in &configuration.warnings {
            writeln!(env.stdout, "warning: {}", output::diagnostic_of(warning))?;
        }
        writeln!(env.stdout, "forwarding: {}\n", summary(&agent.forwarding))?;
        ways(env, &agent.forwarding)?;
    }
    output::status(env, &view)?;
    Ok(Exit::Yes)
}

/// Whether the kernel forwards.
fn summary(view: &ForwardingView) -> String {
    if view.on {
        return format!("on, room for {} flows, {} of them half open", view.flows, view.opening_flows);
    }
    format!("off ({}); the relay serves every TCPRoute", view.reason.as_deref().unwrap_or("unknown"))
}

/// Which interfaces are hooked, and which way leads to each backend.
fn ways(env: &mut Env<'_>, view: &ForwardingView) -> Result<()> {
    let words = |words: &[&str]| words.iter().map(Cell::new).collect();
    let interfaces = view.interfaces.iter();
    let rows = interfaces.map(|i| words(&[&i.name, &i.hook, i.reason.as_deref().unwrap_or("")]));
    output::table(env, &["INTERFACE", "HOOK", "REASON"], &[], rows.collect())?;
    let rows = view.backends.iter().map(|backend| {
        let interface = backend.interface.as_deref().unwrap_or("-");
        words(&[&backend.address, &backend.path, interface, &backend.reason])
    });
    output::table(env, &["BACKEND", "PATH", "INTERFACE", "REASON"], &[], rows.collect())
}
