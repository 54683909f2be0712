//! A flow: a client's datagrams to a backend, and the answers back.
//!
//! Owns moving them and that every flow is counted and written down once. Nothing is kept but one datagram in each
//! direction that the other side's socket does not take yet; while it waits, nothing more is read. What arrives
//! meanwhile waits in the kernel's own buffer, which is bounded. No error ends a flow.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::table::{Ends, Life};
use super::{LARGEST, SHARED, arrived};
use crate::core::snapshot::L4Service;
use crate::core::transport::Transport;
use crate::proxy::counters::{Cells, RelayCells, UdpCells};
use crate::proxy::log::RelayLine;
use crate::proxy::totals::{DropReason, FlowEnd};
use crate::proxy::worker::Worker;

/// Datagrams of one direction before others have their turn.
const TURNS: usize = 64;

/// A flow; dropped, it is counted as ended and written down.
pub(in crate::proxy) struct Flow {
    pub(super) worker: Rc<Worker>,
    pub(super) ends: Ends,
    pub(super) id: u64,
    pub(super) life: Rc<Life>,
    pub(super) service: Arc<L4Service>,
    pub(super) backend: u32,
    pub(super) cells: Option<Cells<RelayCells>>,
    pub(super) upstream: UdpSocket,
    pub(super) downstream: UdpSocket,
    pub(super) began: Instant,
    pub(super) moved: Moved,
    pub(super) end: Cell<FlowEnd>,
}

/// What a flow has moved, and what waits: to the backend and to the client.
#[derive(Default)]
pub(super) struct Moved {
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    datagrams_in: Cell<u64>,
    datagrams_out: Cell<u64>,
    up: RefCell<Option<Vec<u8>>>,
    down: RefCell<Option<Vec<u8>>>,
}

/// The two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Moves datagrams until it is aborted.
pub(super) async fn run(flow: Rc<Flow>) {
    std::future::poll_fn(|cx| {
        let (up, down) = (flow.poll(Way::Up, cx), flow.poll(Way::Down, cx));
        debug_assert!(up.is_pending() && down.is_pending(), "a flow ends from outside");
        Poll::<()>::Pending
    })
    .await;
}

impl Flow {
    /// Says why it ends; without this it was cut.
    pub(super) fn ends(&self, why: FlowEnd) {
        self.end.set(why);
    }

    fn udp(&self) -> &UdpCells {
        &self.worker.cells().udp
    }

    fn count(&self, count: impl FnOnce(&RelayCells)) {
        if let Some(cells) = &self.cells {
            count(&cells[self.worker.id]);
        }
    }

    pub(super) fn begun(&self) {
        self.udp().open.add(1);
        self.count(|cells| cells.begun.add(1));
    }

    /// A datagram of the client's that arrived at the worker's socket: before the flow's own was connected, or on
    /// its way meanwhile.
    pub(super) fn take(&self, data: &[u8]) {
        self.received(data.len());
        if self.moved.up.borrow().is_some() {
            // What came before it goes before it.
            return self.udp().drop_one(DropReason::Busy);
        }
        let send = || SockRef::from(&self.upstream).send(data);
        let sent = send().or_else(|error| if self.is_notice(Way::Up, &error) { send() } else { Err(error) });
        match sent {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.udp().drop_one(DropReason::Busy),
            Err(error) => self.lost(Way::Up, &error),
        }
    }

    fn received(&self, bytes: usize) {
        self.life.asking.set(true);
        self.life.last.set(self.worker.tick());
        add(&self.moved.bytes_in, bytes as u64);
        add(&self.moved.datagrams_in, 1);
        self.count(|cells| {
            cells.bytes_in.add(bytes as u64);
            cells.datagrams_in.add(1);
        });
    }

    fn answered(&self, bytes: usize) {
        add(&self.moved.bytes_out, bytes as u64);
        add(&self.moved.datagrams_out, 1);
        self.count(|cells| {
            cells.bytes_out.add(bytes as u64);
            cells.datagrams_out.add(1);
        });
    }

    /// Whether an error is one that the other side sent by ICMP for an earlier datagram; it is counted then. The kernel
    /// tells of it with the next datagram of the same socket.
    fn is_notice(&self, to: Way, error: &io::Error) -> bool {
        let notice = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
        );
        if notice {
            match to {
                Way::Up => self.udp().backend_errors.add(1),
                Way::Down => self.udp().client_errors.add(1),
            }
        }
        notice
    }

    /// A datagram could not be sent.
    fn lost(&self, to: Way, error: &io::Error) {
        self.is_notice(to, error);
        self.udp().drop_one(DropReason::Unsent);
    }

    fn poll(&self, way: Way, cx: &mut Context<'_>) -> Poll<()> {
        let (source, waiting) = match way {
            Way::Up => (&self.downstream, &self.moved.up),
            Way::Down => (&self.upstream, &self.moved.down),
        };
        for _ in 0..TURNS {
            let rest = waiting.borrow_mut().take();
            if let Some(data) = rest
                && self.poll_send(way, cx, &data).is_pending()
            {
                *waiting.borrow_mut() = Some(data);
                return Poll::Pending;
            }
            ready!(SHARED.with_borrow_mut(|shared| {
                let mut buffer = ReadBuf::new(&mut shared[..LARGEST]);
                let from = match ready!(source.poll_recv_from(cx, &mut buffer)) {
                    Ok(from) => from,
                    Err(error) => {
                        let from = if way == Way::Up { Way::Down } else { Way::Up };
                        self.is_notice(from, &error);
                        return Poll::Ready(());
                    }
                };
                let data = buffer.filled();
                match way {
                    Way::Up if (from.ip(), from.port()) != (self.ends.0.ip(), self.ends.0.port()) => {
                        // It came in the moment before the socket was connected.
                        arrived(&self.worker, (from, self.ends.1), data);
                        return Poll::Ready(());
                    }
                    Way::Up => self.received(data.len()),
                    Way::Down => {
                        self.life.answered.set(true);
                        self.life.asking.set(false);
                        self.life.last.set(self.worker.tick());
                    }
                }
                if self.poll_send(way, cx, data).is_pending() {
                    *waiting.borrow_mut() = Some(data.to_vec());
                }
                Poll::Ready(())
            }));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends a datagram, or loses it for a reason that is counted.
    fn poll_send(&self, way: Way, cx: &mut Context<'_>, data: &[u8]) -> Poll<()> {
        let sink = if way == Way::Up { &self.upstream } else { &self.downstream };
        let mut result = ready!(sink.poll_send(cx, data));
        if let Err(error) = &result
            && self.is_notice(way, error)
        {
            result = ready!(sink.poll_send(cx, data));
        }
        match result {
            Ok(_) if way == Way::Down => self.answered(data.len()),
            Ok(_) => {}
            Err(error) => self.lost(way, &error),
        }
        Poll::Ready(())
    }
}

fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

impl Drop for Flow {
    fn drop(&mut self) {
        // What came back for the last datagrams, and nobody has asked for.
        for (way, socket) in [(Way::Up, &self.upstream), (Way::Down, &self.downstream)] {
            if let Ok(Some(error)) = socket.take_error() {
                self.is_notice(way, &error);
            }
        }
        self.udp().open.sub(1);
        self.udp().end(self.end.get());
        self.worker.forget(&self.ends, self.id);
        let Some(log) = &self.worker.shared.log else { return };
        let backend = self.service.backends.get(&self.backend);
        let line = RelayLine {
            transport: Transport::Udp,
            client: self.ends.0,
            at: self.ends.1,
            began: self.began,
            close: self.end.get().name(),
            listener: &self.service.listener,
            route: &self.service.route,
            backend: backend.map(|b| &*b.name),
            endpoint: backend.map(|b| b.at),
            bytes_in: self.moved.bytes_in.get(),
            bytes_out: self.moved.bytes_out.get(),
            datagrams: Some((self.moved.datagrams_in.get(), self.moved.datagrams_out.get())),
        };
        if !log.relayed(&line) {
            self.worker.cells().log_dropped.add(1);
        }
    }
}
