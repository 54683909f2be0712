//! UDP: a client's datagrams go to the backend that the slots name, and the answers leave from where it asked.
//!
//! Owns what becomes of a datagram at a worker's socket: it goes to its flow, begins one, or is dropped in silence. The
//! choice of the backend is the same pure function as in the kernel. A flow has two connected sockets of its own, so
//! that only the first datagrams of it come in here, and nobody else's come in there.

use std::cell::{Cell, RefCell};
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gateway_ebpf::abi::{BindingKey, REJECT_BACKEND};
use tokio::io::Interest;
use tokio::sync::watch;

use self::flow::{Flow, Moved};
use self::table::{Life, Sweep};
use super::leaving::Way;
use super::relay::tuple;
use super::totals::{DropReason, FlowEnd};
use super::view::Bound;
use super::worker::{Phase, Worker};
use crate::core::snapshot::{BoundService, L4Service};
use crate::core::transport::Transport;

pub(super) use self::socket::group;
pub(super) use self::table::{Ends, Flows};

mod flow;
mod socket;
mod table;

/// No datagram is larger: the length field of UDP has 16 bits.
const LARGEST: usize = 65_536;
/// Datagrams at a worker's socket before others have their turn.
const TURNS: usize = 64;

thread_local! {
    /// Where a worker's datagrams are read to.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGEST].into());
}

/// Takes what arrives at a worker's socket until the workers no longer serve: what is in the queue by then is taken
/// still.
pub(super) async fn serve(worker: Rc<Worker>, socket: UdpSocket, mut phases: watch::Receiver<Phase>) {
    let Ok(socket) = tokio::net::UdpSocket::from_std(socket) else { return };
    loop {
        tokio::select! {
            biased;
            readable = socket.readable() => {
                if readable.is_err() {
                    return;
                }
            }
            // Whoever started the workers has gone if it fails.
            _ = phases.wait_for(|phase| *phase != Phase::Serve) => return,
        }
        for _ in 0..TURNS {
            let received = SHARED.with_borrow_mut(|shared| {
                let arrival =
                    socket.try_io(Interest::READABLE, || socket::receive(&socket, &mut shared[..LARGEST]));
                // Nobody asks for errors of a socket that is not connected, so that there is none but "nothing left".
                let Ok(arrival) = arrival else { return false };
                if let Some(arrival) = arrival {
                    arrived(&worker, (arrival.client, arrival.asked), &shared[..arrival.length]);
                }
                true
            });
            if !received {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// A datagram goes where it belongs.
fn arrived(worker: &Rc<Worker>, ends: Ends, data: &[u8]) {
    let known = worker.flows.borrow().get(&ends);
    let flow = match known.map_or_else(|| begin(worker, ends), Ok) {
        Ok(flow) => flow,
        Err(why) => return worker.cells().udp.drop_one(why),
    };
    flow.take(data);
}

/// Begins a flow.
fn begin(worker: &Rc<Worker>, ends: Ends) -> Result<Rc<Flow>, DropReason> {
    let (client, asked) = ends;
    let view = worker.view();
    let bound = view.bound(Transport::Udp, asked).ok_or(DropReason::Unknown)?;
    let BoundService::L4(service) = &bound.listeners.service else { return Err(DropReason::Refused) };
    let order = service.order(&tuple(Transport::Udp, client, asked));
    if order.is_empty() || client == asked {
        if let Some(refused) = bound.relayed.get(&REJECT_BACKEND) {
            refused[worker.id].begun.add(1);
        }
        return Err(DropReason::Refused);
    }
    if worker.flows.borrow().len() >= worker.config().max_flows.max(1) {
        worker.flows.borrow_mut().evict();
    }
    let made = make(worker, ends, bound, service, &order);
    // No descriptor is left, for example: those that end leave some.
    let flow = made.inspect_err(|_| worker.flows.borrow_mut().evict())?;
    let task = tokio::task::spawn_local(flow::run(flow.clone())).abort_handle();
    let weak = Rc::downgrade(&flow);
    worker.flows.borrow_mut().add(ends, flow.id, flow.life.clone(), weak, task);
    Ok(flow)
}

/// A flow to the first backend that there is a way to.
fn make(
    worker: &Rc<Worker>,
    ends: Ends,
    bound: &Bound,
    service: &Arc<L4Service>,
    order: &[u32],
) -> Result<Rc<Flow>, DropReason> {
    let (client, asked) = ends;
    let open = |id: &u32| Some((*id, socket::upstream(service.backends.get(id)?.at).ok()?));
    let (backend, upstream) = order.iter().find_map(open).ok_or(DropReason::NoSocket)?;
    let downstream = socket::downstream(asked, client).map_err(|_| DropReason::NoSocket)?;
    let life = Life {
        last: Cell::new(worker.tick()),
        answered: Cell::new(false),
        asking: Cell::new(true),
        idle: worker.ticks.idle(service),
        binding: bound.listeners.key,
        way: Way::new(Transport::Udp, asked, service.backends[&backend].at),
    };
    let flow = Rc::new(Flow {
        worker: worker.clone(),
        ends,
        id: worker.flows.borrow_mut().number(),
        life: life.into(),
        service: service.clone(),
        backend,
        cells: bound.relayed.get(&backend).cloned(),
        upstream,
        downstream,
        began: Instant::now(),
        moved: Moved::default(),
        end: Cell::new(FlowEnd::Cut),
    });
    flow.begun();
    Ok(flow)
}

/// Ends the flows that have to end by now.
pub(super) fn sweep(worker: &Worker, draining_since: Option<u64>) {
    let view = worker.view();
    let binds = |key: &BindingKey| view.binds(key);
    worker.flows.borrow_mut().sweep(&Sweep {
        now: worker.tick(),
        draining: draining_since.map(|since| (since, worker.ticks.last_answers)),
        binds: &binds,
        leaving: worker.leaving(&view),
    });
}
