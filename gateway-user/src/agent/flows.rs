//! The flows that are forwarded in the kernel, as the outputs ask for them: figures under names, pages of living ones,
//! what opens and ends.
//!
//! Owns the ledger between two readings. Must not know how a flow is forwarded, nor decide what a figure comes to: that
//! is `core::flows`.

mod leaving;
mod log;
mod recent;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway_ebpf::flow::{Flow, Reason};
use nix::time::{ClockId, clock_gettime};

use super::access_log::AccessLog;
use crate::admin::view::{
    FlowFilterView, FlowsPageView, FlowsQuestionView, FollowCursorView, FollowQuestionView, FollowView,
};
use crate::core::flows::filter::{Filter, NotAFilter, client_of, protocol_of, state_named};
use crate::core::flows::ledger::{Counts, Kept, Ledger};
use crate::core::flows::names::{Labels, Names};
use crate::core::snapshot::Snapshot;
use crate::dataplane::{Error, FlowCounts, FlowEvents, FlowReader, MapUse};

pub(super) use leaving::Leaving;
pub(super) use log::EventThread;
use recent::Recent;

/// Flows in a page.
const PAGE: usize = 1_000;
/// Places that are looked at for a page.
const PLACES: u32 = 16_384;
/// The kernel's clock for flows ticks this slowly, in nanoseconds: as long as a tick at 100 Hz, and as much again.
const TICK: u64 = 20_000_000;

/// Flows, while forwarding is on.
pub(super) struct Flows {
    reader: FlowReader,
    ledger: Mutex<Ledger>,
    recent: Mutex<Recent>,
    /// Flows that this agent ended.
    withdrawn: AtomicU64,
}

/// Everything that a scrape shows of flows.
pub(super) struct Figures {
    pub(super) counts: FlowCounts,
    pub(super) named: BTreeMap<Arc<Labels>, Counts>,
    pub(super) reasons: [u64; Reason::ALL.len()],
    pub(super) ports: u64,
    pub(super) withdrawn: u64,
    pub(super) maps: Vec<MapUse>,
}

impl Flows {
    /// Goes on with what was kept from the last run.
    pub(super) fn new(reader: FlowReader, kept: Kept) -> Result<Self, Error> {
        let counts = reader.counts()?;
        let ledger = Ledger::restore(kept, &counts.ended, &counts.living);
        let ledger = Mutex::new(ledger);
        Ok(Self { reader, ledger, recent: Mutex::default(), withdrawn: AtomicU64::new(0) })
    }

    /// Begins to read which flows are over.
    pub(super) fn read_ends(
        self: &Arc<Self>,
        events: FlowEvents,
        access_log: Option<AccessLog>,
    ) -> io::Result<EventThread> {
        log::start(events, Arc::clone(self), access_log)
    }

    /// Another snapshot begins to serve, and the kernel does not know it yet. Returns what shall outlive a restart.
    pub(super) fn turn(&self, snapshot: &Snapshot) -> Result<Kept, Error> {
        let mut ledger = self.ledger();
        let counts = self.reader.counts()?;
        ledger.turn(Names::of(snapshot), &counts.ended, &counts.living);
        Ok(ledger.kept())
    }

    /// Time passed: forgets what left the configuration. Returns what shall outlive a restart, if that changed.
    pub(super) fn sweep(&self) -> Result<Option<Kept>, Error> {
        let mut ledger = self.ledger();
        let counts = self.reader.counts()?;
        // Totals of keys that go are taken over before they are deleted.
        ledger.read(&counts.ended, &counts.living);
        let gone = ledger.sweep(&counts.living, now());
        if gone.is_empty() {
            return Ok(None);
        }
        self.reader.forget(&gone)?;
        Ok(Some(ledger.kept()))
    }

    /// What a scrape shows.
    pub(super) fn figures(&self) -> Result<Figures, Error> {
        // Within the lock, as everywhere: else what is forgotten meanwhile would come back.
        let mut ledger = self.ledger();
        let counts = self.reader.counts()?;
        let named = ledger.read(&counts.ended, &counts.living);
        drop(ledger);
        let maps = self.reader.maps(&counts)?;
        let withdrawn = self.withdrawn.load(Ordering::Relaxed);
        let (reasons, ports) = (self.reader.reasons()?, self.reader.ports()?);
        Ok(Figures { named, reasons, ports, withdrawn, maps, counts })
    }

    /// Size and fill of the maps.
    pub(super) fn maps(&self) -> Result<Vec<MapUse>, Error> {
        self.reader.maps(&self.reader.counts()?)
    }

    /// A page of living flows.
    pub(super) fn page(&self, from: u32, filter: &Filter) -> Result<FlowsPageView, Error> {
        let (now, ledger) = (now(), self.ledger());
        let mut flows = Vec::new();
        let next = self.reader.walk(from, PLACES, |_, flow| {
            let labels = view::labels(flow, &ledger);
            if filter.fits(flow, &labels) {
                flows.push(view::flow(flow, &labels, now));
            }
            flows.len() < PAGE
        })?;
        Ok(FlowsPageView { forwarding: true, flows, next })
    }

    /// What has happened since the cursor.
    pub(super) fn follow(
        &self,
        cursor: Option<FollowCursorView>,
        filter: &Filter,
    ) -> Result<FollowView, Error> {
        let now = now();
        let begun = now.saturating_sub(TICK);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.wanted(now);
        let Some(cursor) = cursor else {
            let cursor = FollowCursorView { begun, ended: recent.next() };
            return Ok(FollowView { forwarding: true, cursor, ..FollowView::default() });
        };
        let (ends, lost) = recent.since(cursor.ended);
        let cursor = FollowCursorView { begun: cursor.begun, ended: recent.next() };
        drop(recent);
        let ledger = self.ledger();
        let named = |flow: &Flow| {
            let labels = view::labels(flow, &ledger);
            filter.fits(flow, &labels).then(|| view::flow(flow, &labels, now))
        };
        let mut opened = Vec::new();
        self.reader.walk(0, u32::MAX, |_, flow| {
            if flow.begun >= cursor.begun {
                opened.extend(named(flow).map(|view| (flow.begun, view)));
            }
            true
        })?;
        opened.sort_by_key(|(begun, _)| *begun);
        Ok(FollowView {
            forwarding: true,
            opened: opened.into_iter().map(|(_, view)| view).collect(),
            ended: ends.iter().filter_map(named).collect(),
            lost,
            cursor: FollowCursorView { begun, ..cursor },
        })
    }

    /// A flow is over.
    fn ended(&self, flow: &Flow) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).push(flow, now());
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a question about living flows; `None`: forwarding is off.
pub(super) fn page(flows: Option<&Arc<Flows>>, question: &FlowsQuestionView) -> Answered<FlowsPageView> {
    let filter = filter(&question.filter)?;
    let Some(flows) = flows else { return Ok(FlowsPageView::default()) };
    flows.page(question.from, &filter).map_err(Refused::Kernel)
}

/// Answers a follower.
pub(super) fn follow(flows: Option<&Arc<Flows>>, question: &FollowQuestionView) -> Answered<FollowView> {
    let filter = filter(&question.filter)?;
    let Some(flows) = flows else { return Ok(FollowView::default()) };
    flows.follow(question.cursor, &filter).map_err(Refused::Kernel)
}

/// An answer, or why there is none.
pub(super) type Answered<T> = Result<T, Refused>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// The question.
    #[error(transparent)]
    Filter(#[from] NotAFilter),
    /// The kernel.
    #[error(transparent)]
    Kernel(Error),
}

fn filter(view: &FlowFilterView) -> Result<Filter, NotAFilter> {
    fn each<T>(
        text: Option<&String>,
        read: impl Fn(&str) -> Result<T, NotAFilter>,
    ) -> Result<Option<T>, NotAFilter> {
        text.map(|text| read(text)).transpose()
    }
    Ok(Filter {
        binding: each(view.binding.as_ref(), str::parse)?,
        client: each(view.client.as_ref(), client_of)?,
        backend: each(view.backend.as_ref(), str::parse)?,
        state: each(view.state.as_ref(), state_named)?,
        protocol: each(view.protocol.as_ref(), protocol_of)?,
    })
}

/// The time by which flows are counted: nanoseconds of CLOCK_MONOTONIC.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(std::time::Duration::ZERO, Into::into);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
