//! What is known of an HTTP client's connection, shared by its socket, its requests and whoever drives it.
//!
//! Owns the deadlines: for a header, between two requests, and without progress within one.

use std::cell::{Cell, RefCell};

use rustls::{HandshakeKind, ServerConnection};

use super::watch::Watch;
use crate::core::redirect::{Arrival, Scheme};
use crate::proxy::connection::Connection;
use crate::proxy::totals::{CloseReason, TlsVersion};
use crate::proxy::upstream::encode::about_client;

/// What the connection is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Between two requests.
    Idle,
    /// A header is arriving.
    Head,
    /// A request waits for its answer.
    Waiting,
    /// An answer is being sent.
    Answering,
}

/// An HTTP client's connection.
pub(super) struct Client {
    pub(super) connection: Connection,
    /// Ends the header of each request that is passed on.
    pub(super) about: Vec<u8>,
    version: Cell<Option<TlsVersion>>,
    doing: Cell<Doing>,
    watch: RefCell<Watch>,
    requests: Cell<u64>,
    /// The connection ends with the answer under way.
    last: Cell<bool>,
    /// Why an answer broke off.
    broken: Cell<Option<CloseReason>>,
}

impl Client {
    pub(super) fn new(connection: Connection, tls: bool) -> Self {
        // A client that connects and says nothing gets no longer than one that sends slowly.
        connection.expire_in(connection.worker.ticks.header);
        Self {
            about: about_client(connection.peer.ip(), tls),
            version: Cell::new(None),
            doing: Cell::new(Doing::Idle),
            watch: RefCell::default(),
            requests: Cell::new(0),
            last: Cell::new(false),
            broken: Cell::new(None),
            connection,
        }
    }

    /// How its requests come.
    pub(super) fn arrival(&self) -> Arrival {
        Arrival {
            scheme: if self.version.get().is_some() { Scheme::Https } else { Scheme::Http },
            at: self.connection.local,
        }
    }

    /// Hands are shaken: the first header may take its time.
    pub(super) fn secured(&self, session: &ServerConnection) {
        let version = TlsVersion::of(session.protocol_version());
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        self.version.set(Some(version));
        self.connection.worker.cells().tls.shake(version, resumed);
        self.connection.expire_in(self.connection.worker.ticks.header);
    }

    /// The version of TLS that is spoken, if one is.
    pub(super) fn version(&self) -> Option<TlsVersion> {
        self.version.get()
    }

    pub(super) fn doing(&self) -> Doing {
        self.doing.get()
    }

    /// Bytes have arrived.
    pub(super) fn received(&self, bytes: &[u8]) {
        self.watch.borrow_mut().see(bytes);
        if self.doing.get() == Doing::Idle {
            self.doing.set(Doing::Head);
            self.connection.expire_in(self.connection.worker.ticks.header);
        } else {
            self.progress();
        }
    }

    /// Bytes have moved.
    pub(super) fn progress(&self) {
        if matches!(self.doing.get(), Doing::Waiting | Doing::Answering) {
            self.connection.expire_in(self.connection.worker.ticks.body);
        }
    }

    /// A header is complete; returns whether the request could be read in two ways.
    pub(super) fn request_begins(&self) -> bool {
        self.requests.set(self.requests.get() + 1);
        self.doing.set(Doing::Waiting);
        self.connection.expire_in(self.connection.worker.ticks.body);
        self.watch.borrow().is_ambiguous(self.requests.get())
    }

    /// The connection ends with the answer to the request under way.
    pub(super) fn request_is_last(&self) {
        self.last.set(true);
    }

    /// Whether nothing follows the bytes that are now to be sent but the close.
    pub(super) fn has_said_all(&self) -> bool {
        self.last.get() && matches!(self.doing.get(), Doing::Idle | Doing::Head)
    }

    /// The answer's header is known.
    pub(super) fn answer_begins(&self) {
        self.doing.set(Doing::Answering);
        self.connection.expire_in(self.connection.worker.ticks.body);
        self.connection.forgive();
    }

    /// The answer is complete, or has broken off.
    pub(super) fn request_ends(&self) {
        let ticks = &self.connection.worker.ticks;
        if self.watch.borrow().is_within_head() {
            self.doing.set(Doing::Head);
            self.connection.expire_in(ticks.header);
        } else {
            self.doing.set(Doing::Idle);
            self.connection.expire_in(ticks.keep_alive);
        }
    }

    /// Whether nothing has been asked yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.requests.get() == 0 && self.doing.get() == Doing::Idle
    }

    /// Whether the client has sent what nobody will read.
    pub(super) fn has_unread(&self) -> bool {
        !self.watch.borrow().is_between()
    }

    /// An answer broke off: the connection must not end as if it were complete.
    pub(super) fn breaks(&self, reason: CloseReason) {
        self.broken.set(Some(reason));
    }

    /// Why an answer broke off, if one did.
    pub(super) fn broken(&self) -> Option<CloseReason> {
        self.broken.get()
    }
}
