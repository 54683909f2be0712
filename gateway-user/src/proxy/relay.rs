//! TCP: a client's connection is relayed to the backend that the slots name.
//!
//! Owns the choice (the same pure function as in the kernel), what happens if a backend does not answer, and how
//! the connection ends: as the one side ended it, so it ends for the other.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use gateway_ebpf::abi::{REJECT_BACKEND, wire};
use gateway_ebpf::select::Tuple;
use tokio::net::TcpStream;

use self::copy::{Ended, Pair};
use super::connection::Connection;
use super::counters::{Cells, RelayCells};
use super::log::RelayLine;
use super::totals::CloseReason;
use super::upstream::dial;
use super::view::Bound;
use super::worker::{Worker, reset};
use crate::core::snapshot::L4Service;
use crate::core::transport::Transport;

mod copy;

/// A connection that is relayed; dropped, it is written down.
pub(super) struct Relayed {
    connection: Connection,
    service: Arc<L4Service>,
    backend: Cell<u32>,
    /// Ticks without a byte after which it ends.
    idle: u64,
    cells: RefCell<Option<Cells<RelayCells>>>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
}

/// Decides what becomes of a connection: `None` if the slot refuses it, and it has been reset.
pub(super) fn begin(
    bound: &Bound,
    service: &Arc<L4Service>,
    connection: Connection,
    stream: TcpStream,
) -> Option<impl Future<Output = ()> + use<>> {
    let order = service.order(&tuple(Transport::Tcp, connection.peer, connection.local));
    let relayed = Relayed {
        idle: connection.worker.ticks.idle(service),
        connection,
        service: service.clone(),
        backend: Cell::new(REJECT_BACKEND),
        cells: RefCell::new(None),
        bytes_in: Cell::new(0),
        bytes_out: Cell::new(0),
    };
    if order.is_empty() {
        relayed.goes_to(REJECT_BACKEND, bound.relayed.get(&REJECT_BACKEND));
        relayed.connection.ends(CloseReason::Refused);
        reset(stream);
        return None;
    }
    let cells: Vec<_> = order.iter().map(|id| (*id, bound.relayed.get(id).cloned())).collect();
    Some(relay(relayed, cells, stream))
}

/// The 5-tuple as the kernel sees it.
pub(super) fn tuple(transport: Transport, client: SocketAddr, asked: SocketAddr) -> Tuple {
    Tuple {
        source: wire(client.ip()),
        destination: wire(asked.ip()),
        source_port: client.port(),
        destination_port: asked.port(),
        protocol: transport.number(),
    }
}

async fn relay(relayed: Relayed, order: Vec<(u32, Option<Cells<RelayCells>>)>, client: TcpStream) {
    let Some(backend) = connect(&relayed, order).await else {
        relayed.connection.ends(CloseReason::NoEndpoint);
        return reset(client);
    };
    let mut pair = Pair::new(client, backend);
    let ended = pair.run(&relayed).await;
    relayed.connection.ends(match ended {
        Ended::Done => CloseReason::Done,
        Ended::ClientReset => CloseReason::ClientReset,
        Ended::BackendReset => CloseReason::BackendReset,
        Ended::Idle => CloseReason::Idle,
        Ended::Withdrawn => CloseReason::Withdrawn,
    });
}

async fn connect(relayed: &Relayed, order: Vec<(u32, Option<Cells<RelayCells>>)>) -> Option<TcpStream> {
    let worker = &relayed.connection.worker;
    let endpoint = |id: &u32| relayed.service.backends[id].at;
    let healthy = order.iter().any(|(id, _)| !worker.pool.is_failing(endpoint(id)));
    for (id, cells) in &order {
        if healthy && worker.pool.is_failing(endpoint(id)) {
            continue;
        }
        if let Ok(stream) = dial(worker, endpoint(id), worker.config().connect_timeout).await {
            relayed.goes_to(*id, cells.as_ref());
            return Some(stream);
        }
        if !healthy {
            break;
        }
    }
    None
}

impl Relayed {
    fn worker(&self) -> &Rc<Worker> {
        &self.connection.worker
    }

    fn goes_to(&self, backend: u32, cells: Option<&Cells<RelayCells>>) {
        self.backend.set(backend);
        if let Some(backend) = self.service.backends.get(&backend) {
            self.connection.leads_to(backend.at);
        }
        *self.cells.borrow_mut() = cells.cloned();
        self.count(|cells| cells.begun.add(1));
    }

    fn count(&self, count: impl FnOnce(&RelayCells)) {
        if let Some(cells) = &*self.cells.borrow() {
            count(&cells[self.worker().id]);
        }
    }

    /// Bytes that have arrived from the client and from the backend: progress.
    fn moved(&self, from_client: u64, from_backend: u64) {
        self.bytes_in.set(self.bytes_in.get() + from_client);
        self.bytes_out.set(self.bytes_out.get() + from_backend);
        self.count(|cells| {
            cells.bytes_in.add(from_client);
            cells.bytes_out.add(from_backend);
        });
        self.alive();
    }

    /// Something has moved.
    fn alive(&self) {
        self.connection.expire_in(self.idle);
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        let Some(log) = &self.worker().shared.log else { return };
        let backend = self.service.backends.get(&self.backend.get());
        let connection = &self.connection;
        let line = RelayLine {
            transport: Transport::Tcp,
            client: connection.peer,
            at: connection.local,
            began: connection.began,
            close: connection.reason().name(),
            listener: &self.service.listener,
            route: &self.service.route,
            backend: backend.map(|b| &*b.name),
            endpoint: backend.map(|b| b.at),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            datagrams: None,
        };
        if !log.relayed(&line) {
            self.worker().cells().log_dropped.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_stay_small() {
        fn size<F: Future>(
            _: impl Fn(Relayed, Vec<(u32, Option<Cells<RelayCells>>)>, TcpStream) -> F,
        ) -> usize {
            size_of::<F>()
        }
        assert!(size(relay) <= 1_200, "{}", size(relay));
    }
}
