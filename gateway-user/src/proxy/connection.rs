//! A client's connection as the worker watches over it: its deadline, the orders it is given, and its end.
//!
//! Owns that every connection is counted once when it begins and once, with a reason, when it ends, however it
//! ends. Must not know what is spoken on it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

use super::leaving::{Leaving, Way};
use super::totals::CloseReason;
use super::worker::Worker;
use crate::core::transport::Transport;

/// What a connection is told by its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    Serve,
    /// End when what is under way is done.
    Drain,
    /// The deadline has passed.
    Expire,
}

/// State that a connection shares with its worker's sweep.
#[derive(Debug)]
pub(super) struct Watched {
    /// The tick at which it expires.
    deadline: Cell<u64>,
    expired: Cell<bool>,
    /// Where it is relayed to.
    way: RefCell<Option<Way>>,
    withdrawn: Cell<bool>,
    draining: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watched {
    /// The sweep: expires what is due.
    pub(super) fn sweep(&self, tick: u64, leaving: Option<&Leaving<'_>>) {
        if let (Some(leaving), Some(way)) = (leaving, &*self.way.borrow())
            && way.is_over(leaving)
        {
            self.withdrawn.set(true);
        }
        let due = tick >= self.deadline.get() || self.withdrawn.get();
        if due && !self.expired.replace(true) {
            self.wake();
        }
    }

    /// Tells it to end when it can.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A client's connection.
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    /// The client.
    pub(super) peer: SocketAddr,
    /// The address and port that the client asked for.
    pub(super) local: SocketAddr,
    /// When it was accepted.
    pub(super) began: Instant,
    watched: Rc<Watched>,
    id: u64,
    reason: Cell<CloseReason>,
}

impl Connection {
    /// Enters a connection into its worker's books.
    pub(super) fn open(worker: Rc<Worker>, peer: SocketAddr, local: SocketAddr) -> Self {
        let watched = Rc::new(Watched {
            deadline: Cell::new(u64::MAX),
            expired: Cell::new(false),
            way: RefCell::new(None),
            withdrawn: Cell::new(false),
            draining: Cell::new(worker.is_draining()),
            waker: RefCell::new(None),
        });
        let id = worker.enter(watched.clone());
        Self { worker, peer, local, began: Instant::now(), watched, id, reason: Cell::new(CloseReason::Cut) }
    }

    /// Sets the deadline, as many ticks from now on (see [`Worker::ticks`]).
    #[inline]
    pub(super) fn expire_in(&self, ticks: u64) {
        self.watched.deadline.set(self.worker.tick() + ticks);
    }

    /// What the worker wants; to be asked in each poll of the connection's task, which is woken when it changes.
    #[inline]
    pub(super) fn order(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.watched.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if self.watched.expired.get() {
            return Order::Expire;
        }
        if self.watched.draining.get() {
            return Order::Drain;
        }
        Order::Serve
    }

    /// Goes on after the deadline: what expired has been dealt with, another deadline has been set.
    pub(super) fn forgive(&self) {
        self.watched.expired.set(false);
    }

    /// It is relayed to this endpoint from now on.
    pub(super) fn leads_to(&self, endpoint: SocketAddr) {
        *self.watched.way.borrow_mut() = Some(Way::new(Transport::Tcp, self.local, endpoint));
    }

    /// Whether it expired since what it is relayed for has left the configuration.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.watched.withdrawn.get()
    }

    /// Whether the deadline has passed.
    pub(super) fn is_expired(&self) -> bool {
        self.watched.expired.get()
    }

    /// Why it ends; without this it was cut.
    pub(super) fn ends(&self, reason: CloseReason) {
        self.reason.set(reason);
    }

    /// Why it ends, as far as known.
    pub(super) fn reason(&self) -> CloseReason {
        self.reason.get()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.leave(self.id, self.reason.get());
    }
}
