//! Flows that are over, out of the kernel's buffer: into the access log, and to those who follow.
//!
//! Owns the thread that reads, and the line. What finds no room in the buffer the kernel counts
//! (`sluice_forward_notes_total{reason="event_lost"}`); what is still in it when the agent ends, the next one reads.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gateway_ebpf::flow::Flow;
use serde::Serialize;
use tracing::warn;

use super::{Flows, view};
use crate::admin::view::FlowView;
use crate::agent::access_log::AccessLog;
use crate::dataplane::FlowEvents;

/// How long the thread waits before it looks whether it shall end.
const WAIT: Duration = Duration::from_millis(200);
/// How long it lets flows end before it reads them: each that ends while it waits for one interrupts a CPU and wakes it.
const GATHER: Duration = Duration::from_millis(20);
/// Lines that are written at once.
const BATCH: usize = 256;

/// The thread; it ends when this is dropped, and has written what it has read.
pub(in crate::agent) struct EventThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for EventThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            drop(thread.join());
        }
    }
}

/// Starts the thread.
pub(super) fn start(
    mut events: FlowEvents,
    flows: Arc<Flows>,
    mut access_log: Option<AccessLog>,
) -> io::Result<EventThread> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("flow-events".into()).spawn(move || {
        while !told.load(Ordering::Relaxed) {
            if let Err(error) = events.wait(WAIT) {
                warn!(%error, "the buffer of flows that are over cannot be waited for; their lines are lost");
                return;
            }
            std::thread::sleep(GATHER);
            while read(&mut events, &flows, access_log.as_mut()) {}
        }
    })?;
    Ok(EventThread { stop, thread: Some(thread) })
}

/// Reads what is there, a batch at most; false if there is no more.
fn read(events: &mut FlowEvents, flows: &Flows, access_log: Option<&mut AccessLog>) -> bool {
    let mut text = String::new();
    let mut count = 0;
    while count < BATCH
        && let Some(flow) = events.pop()
    {
        count += 1;
        flows.ended(&flow);
        if access_log.is_some() {
            text.push_str(&line(&flow, flows));
        }
    }
    if let Some(log) = access_log {
        // All at once, so that no other line gets between. A sink that fails loses lines, nothing else.
        let _lost = log.write_all(text.as_bytes()).and_then(|()| log.flush());
    }
    count == BATCH
}

fn line(flow: &Flow, flows: &Flows) -> String {
    let ledger = flows.ledger();
    let view = view::flow(flow, &view::labels(flow, &ledger), 0);
    drop(ledger);
    let took = flow.seen.saturating_sub(flow.begun) / 1_000;
    let line = Line::new(&view, jiff::Timestamp::now().to_string(), took);
    serde_json::to_string(&line).map_or_else(|_| String::new(), |json| json + "\n")
}

/// A line as it is written; its fields are called as in those of requests and relayed connections.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    kind: &'static str,
    protocol: String,
    client: &'a str,
    at: &'a str,
    close: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    listener: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    route: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    backend: &'a str,
    endpoint: &'a str,
    /// What the endpoint saw, if not the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    /// From the first packet to the last.
    duration_us: u64,
    bytes_in: u64,
    bytes_out: u64,
    packets_in: u64,
    packets_out: u64,
}

impl<'a> Line<'a> {
    fn new(flow: &'a FlowView, time: String, duration_us: u64) -> Self {
        Self {
            time,
            kind: "forward",
            protocol: flow.protocol.to_lowercase(),
            client: &flow.client,
            at: &flow.address,
            close: flow.close.as_deref().unwrap_or_default(),
            listener: &flow.listener,
            route: &flow.route,
            backend: &flow.service,
            endpoint: &flow.backend,
            source: flow.source.as_deref(),
            duration_us,
            bytes_in: flow.bytes_in,
            bytes_out: flow.bytes_out,
            packets_in: flow.packets_in,
            packets_out: flow.packets_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::life::{ANSWERED, IS_TCP, LIVE, SNAT};

    use super::*;
    use crate::core::flows::names::Labels;
    use crate::core::flows::testing;

    #[test]
    fn a_line_tells_all_of_a_flow() {
        let bits = IS_TCP | SNAT | ANSWERED;
        let flow =
            testing::flow("203.0.113.7:40000", "192.0.2.1:80", "10.0.0.2:8080", "10.0.0.1:60000", bits);
        let flow = Flow { life: flow.life & !u64::from(LIVE), packets: [3, 2], bytes: [300, 200], ..flow };
        let labels = Labels { service: "default/db:80".into(), ..Labels::default() };
        let view = view::flow(&flow, &labels, 0);
        let json = serde_json::to_string(&Line::new(&view, "T".to_owned(), 7)).unwrap();
        assert_eq!(
            json,
            r#"{"time":"T","kind":"forward","protocol":"tcp","client":"203.0.113.7:40000","at":"192.0.2.1:80","#
                .to_owned()
                + r#""close":"idle","backend":"default/db:80","endpoint":"10.0.0.2:8080","source":"10.0.0.1:60000","#
                + r#""duration_us":7,"bytes_in":300,"bytes_out":200,"packets_in":3,"packets_out":2}"#
        );
    }
}
