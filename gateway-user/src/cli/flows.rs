//! `sluice flows`: what is forwarded in the kernel.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use comfy_table::Cell;

use super::output::{self, Form};
use super::{AskArgs, Env, Exit};
use crate::admin::client;
use crate::admin::view::{
    FlowEventView, FlowFilterView, FlowView, FlowsPageView, FlowsQuestionView, FlowsView, FollowQuestionView,
    FollowView,
};

/// Between two questions of a follower.
const PAUSE: Duration = Duration::from_millis(250);

/// Show the connections and UDP flows that the kernel forwards by itself.
///
/// What the relay serves is not among them. Without a filter it shows all.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ask: AskArgs,
    /// Only those to this address and port: ADDRESS:PORT, *:PORT for any address, with /tcp or /udp behind it
    #[arg(long, value_name = "BINDING")]
    binding: Option<String>,
    /// Only those of this client, or of the clients in a network
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    client: Option<String>,
    /// Only those to this endpoint, or to the endpoints of a Service: NAMESPACE/SERVICE
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    backend: Option<String>,
    /// Only those in this state: opening, established, half_closed, closing, reset
    #[arg(long, value_name = "STATE", conflicts_with = "follow")]
    state: Option<String>,
    /// Only those of this protocol: tcp, udp
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Show what opens and what ends from now on, a line each, until interrupted
    #[arg(short, long)]
    follow: bool,
}

pub(super) fn flows(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let filter = FlowFilterView {
        binding: args.binding.clone(),
        client: args.client.clone(),
        backend: args.backend.clone(),
        state: args.state.clone(),
        protocol: args.protocol.clone(),
    };
    let socket = &args.ask.socket.admin_socket;
    if args.follow {
        return follow(env, socket, args.ask.output, filter);
    }
    let view = read(socket, filter)?;
    if output::print_as(env, args.ask.output, &view)? {
        return Ok(Exit::Yes);
    }
    let rows = view.flows.iter().map(|flow| {
        let names = [&flow.state, &flow.protocol, &flow.client, &flow.address, &flow.listener, &flow.route];
        let mut row: Vec<Cell> = names.into_iter().map(|name| Cell::new(or_dash(name))).collect();
        row.push(Cell::new(&flow.backend));
        row.push(Cell::new(path(flow)));
        row.push(Cell::new(seconds(flow.age_milliseconds)));
        row.push(Cell::new(seconds(flow.idle_milliseconds)));
        let counts = [flow.packets_in, flow.packets_out, flow.bytes_in, flow.bytes_out];
        row.extend(counts.map(Cell::new));
        row
    });
    let heading = [
        "STATE",
        "PROTOCOL",
        "CLIENT",
        "ADDRESS",
        "LISTENER",
        "ROUTE",
        "BACKEND",
        "PATH",
        "AGE",
        "IDLE",
        "PACKETS IN",
        "OUT",
        "BYTES IN",
        "OUT",
    ];
    output::table(env, &heading, &[8, 9, 10, 11, 12, 13], rows.collect())?;
    match (view.forwarding, view.flows.len()) {
        (false, _) => writeln!(env.stdout, "forwarding in the kernel is off; see `sluice status`")?,
        (true, count) => writeln!(env.stdout, "flows: {count}")?,
    }
    Ok(Exit::Yes)
}

/// All pages. A flow that moves meanwhile to a place that was read already is seen at most once.
fn read(socket: &Path, filter: FlowFilterView) -> Result<FlowsView> {
    let mut view = FlowsView::default();
    let mut question = FlowsQuestionView { filter, from: 0 };
    loop {
        let page: FlowsPageView = client::send(socket, "/flows", &question)?;
        view.forwarding = page.forwarding;
        view.flows.extend(page.flows);
        match page.next {
            Some(next) if next > question.from => question.from = next,
            _ => return Ok(view),
        }
    }
}

fn follow(env: &mut Env<'_>, socket: &Path, form: Form, filter: FlowFilterView) -> Result<Exit> {
    let mut question = FollowQuestionView { filter, cursor: None };
    let mut open = BTreeSet::new();
    let mut first = Some(Instant::now());
    loop {
        let view: FollowView = client::send(socket, "/flows/follow", &question)?;
        if !view.forwarding {
            bail!("forwarding in the kernel is off: there is nothing to follow (see `sluice status`)");
        }
        if let Some(begin) = first.take() {
            let flows = read(socket, question.filter.clone())?.flows;
            // What was open before is not news.
            let before = begin.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
            let old = flows.into_iter().filter(|flow| flow.age_milliseconds > before);
            open = old.map(|flow| flow.id).collect();
        }
        question.cursor = Some(view.cursor);
        for event in events(view, &mut open, env)? {
            print(env, form, &event)?;
        }
        env.stdout.flush()?;
        thread::sleep(PAUSE);
    }
}

/// What is news, in the order in which it is told. `open`: flows whose beginning was told of, or lies further back.
fn events(view: FollowView, open: &mut BTreeSet<String>, env: &mut Env<'_>) -> Result<Vec<FlowEventView>> {
    if view.lost > 0 {
        writeln!(env.stderr, "sluice: {} flows ended that could not be shown", view.lost)?;
    }
    let event = |event: &str, flow| FlowEventView { event: event.to_owned(), flow };
    let mut events = Vec::new();
    // A flow that was short has never been seen alive.
    for flow in view.opened.into_iter().chain(view.ended) {
        let over = flow.close.is_some();
        if open.insert(flow.id.clone()) {
            events.push(event("opened", FlowView { close: None, ..flow.clone() }));
        }
        if over {
            open.remove(&flow.id);
            events.push(event("ended", flow));
        }
    }
    Ok(events)
}

fn print(env: &mut Env<'_>, form: Form, event: &FlowEventView) -> Result<()> {
    match form {
        Form::Json => {
            serde_json::to_writer(&mut *env.stdout, event).map_err(std::io::Error::from)?;
            writeln!(env.stdout)?;
        }
        Form::Yaml => write!(env.stdout, "---\n{}", serde_yaml::to_string(event)?)?,
        Form::Table => {
            let FlowEventView { event, flow } = event;
            write!(
                env.stdout,
                "{event:<6}  {}  {} -> {} -> {}  {}  {}",
                flow.protocol,
                flow.client,
                flow.address,
                flow.backend,
                path(flow),
                or_dash(&flow.route)
            )?;
            match &flow.close {
                None => writeln!(env.stdout)?,
                Some(close) => writeln!(
                    env.stdout,
                    "  {close} after {}, {} packets in, {} out, {} bytes in, {} out",
                    seconds(flow.age_milliseconds),
                    flow.packets_in,
                    flow.packets_out,
                    flow.bytes_in,
                    flow.bytes_out
                )?,
            }
        }
    }
    Ok(())
}

/// The path, with what the endpoint sees instead of the client.
fn path(flow: &FlowView) -> String {
    match &flow.source {
        Some(source) => format!("{} {source}", flow.path),
        None => flow.path.clone(),
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{}s", milliseconds / 1_000, milliseconds % 1_000 / 100)
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(id: &str, close: Option<&str>) -> FlowView {
        FlowView { id: id.to_owned(), close: close.map(str::to_owned), ..FlowView::default() }
    }

    #[test]
    fn each_flow_opens_and_ends_once() {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut env =
            Env { args: Vec::new(), stdout: &mut stdout, stderr: &mut stderr, colors: false, width: None };
        let mut open = BTreeSet::from(["before".to_owned()]);
        let mut told = |opened: &[&str], ended: &[&str]| {
            let view = FollowView {
                opened: opened.iter().map(|id| flow(id, None)).collect(),
                ended: ended.iter().map(|id| flow(id, Some("closed"))).collect(),
                lost: u64::from(opened.is_empty()),
                ..FollowView::default()
            };
            let events = events(view, &mut open, &mut env).unwrap();
            events.into_iter().map(|e| format!("{} {}", e.event, e.flow.id)).collect::<Vec<_>>()
        };
        assert_eq!(told(&["a", "b"], &[]), ["opened a", "opened b"]);
        assert_eq!(told(&["b"], &["a", "short"]), ["ended a", "opened short", "ended short"]);
        assert_eq!(told(&[], &["before", "b"]), ["ended before", "ended b"]);
        assert_eq!(told(&["b"], &[]), ["opened b"], "another in the same place");
        assert_eq!(String::from_utf8(stderr).unwrap(), "sluice: 1 flows ended that could not be shown\n");
    }
}
