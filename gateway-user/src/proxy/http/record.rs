//! What is written down of a request: its counters, and a line of the access log.
//!
//! Owns that each request is counted once, when its answer is complete or has broken off, however that comes about.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;

use super::client::Client;
use crate::core::route::{HttpBackend, RuleEntry};
use crate::core::snapshot::SeriesAt;
use crate::proxy::counters::HttpCells;
use crate::proxy::log::{HttpLine, Log};
use crate::proxy::view::Held;

/// A request that is being served; dropped, it is counted.
pub(super) struct Record {
    pub(super) client: Rc<Client>,
    view: Rc<Held>,
    series: Option<SeriesAt>,
    began: Instant,
    status: u16,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    line: Option<Box<HttpLine>>,
}

impl Record {
    pub(super) fn new(client: Rc<Client>, view: Rc<Held>, parts: &Parts) -> Self {
        let line = client.connection.worker.shared.log.as_ref().map(|_| Box::new(HttpLine::new(parts)));
        Self { client, view, series: None, began: Instant::now(), status: 0, bytes_in: 0, bytes_out: 0, line }
    }

    /// When the request's header was complete.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The series that it belongs to, as far as known by now.
    pub(super) fn belongs_to(&mut self, series: SeriesAt) {
        self.series = Some(series);
    }

    /// This worker's counters of a series.
    pub(super) fn cells(&self, series: SeriesAt) -> Option<&HttpCells> {
        series.of(&self.view.series).map(|cells| &cells[self.client.connection.worker.id])
    }

    /// The answer's status is known.
    pub(super) fn answered(&mut self, status: u16) {
        self.status = status;
        self.client.answer_begins();
    }

    /// Notes for the access log.
    pub(super) fn listener(&mut self, listener: &Arc<str>) {
        if let Some(line) = &mut self.line {
            line.listener = Some(listener.clone());
        }
    }

    pub(super) fn rule(&mut self, rule: &RuleEntry) {
        if let Some(line) = &mut self.line {
            line.route = Some(rule.route.clone());
            line.rule = Some(rule.rule.clone());
        }
    }

    pub(super) fn backend(&mut self, backend: &HttpBackend) {
        self.series = Some(backend.series);
        if let Some(line) = &mut self.line {
            line.backend = Some(backend.name.clone());
        }
    }

    pub(super) fn endpoint(&mut self, endpoint: SocketAddr) {
        if let Some(line) = &mut self.line {
            line.endpoint = Some(endpoint);
        }
    }

    pub(super) fn because(&mut self, why: impl FnOnce() -> String) {
        if let Some(line) = &mut self.line {
            line.error = Some(why());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        if let Some(cells) = self.series.and_then(|series| self.cells(series)) {
            cells.record(self.status, took, self.bytes_in, self.bytes_out);
        }
        let connection = &self.client.connection;
        if let (Some(line), Some(log)) = (self.line.take(), &connection.worker.shared.log) {
            let numbers = (self.status, took, self.bytes_in, self.bytes_out);
            if !Log::http(log, &line, connection, self.client.version(), numbers) {
                connection.worker.cells().log_dropped.add(1);
            }
        }
        self.client.request_ends();
    }
}
