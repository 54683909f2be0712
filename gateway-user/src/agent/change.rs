//! A change, from a new input to conditions that tell what came of it.
//!
//! Owns the order: maps lose what goes, workers switch, maps get what comes, addresses follow. Must not know why an
//! input was read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_ebpf::abi::{ANY, Action, BindingKey, wire};
use tracing::{debug, error, info, warn};

use super::board::{Board, Serving, epoch_seconds, now};
use super::flows::Leaving;
use super::forward::{Forwarder, Look};
use super::memory::Memory;
use super::{diagnostic_view, heap, told, words};
use crate::admin::view::{Before, StatusView};
use crate::core::compile::{Kept, compile_after};
use crate::core::host::{Host, Listening};
use crate::core::model::{Model, Protocol};
use crate::core::plan;
use crate::core::snapshot::{MapImage, Snapshot, Ways};
use crate::core::status::{Outcome, Report, finish};
use crate::dataplane::{self, Addresses, Dataplane, LogLevel};
use crate::proxy::Running;
use crate::source::{Diagnostic, Loaded};

/// Pauses between two tries to apply.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often memory is given back after a change, at every look at the host: statuses are written for some time after it.
const RESTS: u32 = 6;

/// Everything that a change goes through.
pub(super) struct Engine {
    dataplane: Dataplane,
    /// The workers' sockets, until the first snapshot is published: before that no connection shall come to them.
    sockets: Option<Unregistered>,
    running: Running,
    addresses: Addresses,
    memory: Memory,
    board: Arc<Board>,
    /// Bindings that the kernel has from us.
    bound: BTreeSet<BindingKey>,
    /// The newest good input, and how many there were since the start.
    model: Arc<Model>,
    warnings: Vec<Diagnostic>,
    inputs: u64,
    /// The host that `snapshot` was compiled for.
    host: Host,
    /// The newest snapshot, applied or not.
    snapshot: Arc<Snapshot>,
    /// What its compilation left to the next one.
    kept: Kept,
    /// What was said of the objects when they were applied last.
    report: Arc<Report>,
    /// Forwarding, if it is on, or why it is not.
    forward: Result<Forwarder, String>,
    /// The ways that the kernel has, once the maps hold what the newest snapshot says.
    ways: Option<Ways>,
    leaving: Leaving,
    retry: Option<Retry>,
    /// How often memory is still to be given back after the last change.
    rests: u32,
}

/// Sockets that the kernel does not know yet: worker, whether of IPv6, descriptor. They are duplicates, to be let go of
/// once they are registered, since a socket listens for as long as one descriptor of it is open.
pub(super) struct Unregistered(Vec<(u32, bool, OwnedFd)>);

impl Unregistered {
    pub(super) fn new(sockets: &[(u32, bool, BorrowedFd<'_>)]) -> io::Result<Self> {
        let own = |(worker, v6, socket): &(u32, bool, BorrowedFd<'_>)| {
            Ok((*worker, *v6, socket.try_clone_to_owned()?))
        };
        sockets.iter().map(own).collect::<io::Result<_>>().map(Self)
    }

    fn borrow(&self) -> Vec<(u32, bool, BorrowedFd<'_>)> {
        self.0.iter().map(|(worker, v6, socket)| (*worker, *v6, socket.as_fd())).collect()
    }
}

struct Retry {
    at: Instant,
    pause: Duration,
}

/// Why a snapshot could not be applied.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Dataplane(#[from] dataplane::Error),
    #[error(transparent)]
    Full(#[from] plan::Full),
}

impl Engine {
    pub(super) fn new(
        dataplane: Dataplane,
        sockets: Unregistered,
        running: Running,
        addresses: Addresses,
        mut memory: Memory,
        board: Arc<Board>,
        input: Loaded,
    ) -> Result<Self, dataplane::Error> {
        let have = dataplane.have()?.image;
        memory.compare(&have, &dataplane.reader().counts()?.lookups);
        let engine = Self {
            dataplane,
            sockets: Some(sockets),
            running,
            addresses,
            memory,
            board,
            bound: have.bindings.into_keys().collect(),
            model: Arc::new(input.model),
            warnings: input.warnings,
            inputs: 1,
            host: Host::default(),
            snapshot: Arc::default(),
            kept: Kept::default(),
            report: Arc::default(),
            forward: Err(String::new()),
            ways: None,
            leaving: Leaving::default(),
            retry: None,
            rests: 0,
        };
        engine.warn_input();
        Ok(engine)
    }

    /// What became of forwarding, and what is done about flows of what leaves the configuration.
    pub(super) fn forward(&mut self, forward: Result<Forwarder, String>, leaving: Leaving) {
        (self.forward, self.leaving) = (forward, leaving);
    }

    /// The host's network may have changed: hooks and ways follow it. True if the host has other addresses.
    pub(super) async fn follow_network(&mut self, look: Look) -> bool {
        let Ok(forward) = &mut self.forward else { return false };
        // What could not be applied is tried again as a whole.
        let Some(before) = &self.ways else { return false };
        let backends = &self.snapshot.image.backends;
        let own = self.addresses.own();
        let ways = forward.survey(look, &mut self.dataplane, backends, &own).await;
        let moved = ways.local != before.local;
        let want = MapImage { backends: backends.clone(), ways, ..MapImage::default() };
        let steps = plan::follow(before, &want);
        if !steps.is_empty() {
            match self.dataplane.apply(&steps) {
                Ok(()) => info!(steps = steps.len(), "forwarding follows the host's network"),
                Err(error) => {
                    warn!(error = words(&error), "forwarding cannot follow the host's network");
                    // What the maps hold is read again.
                    self.ways = None;
                    self.pause();
                    return moved;
                }
            }
        }
        self.ways = Some(want.ways);
        self.show_forwarding();
        moved
    }

    /// Ends the flows that have to end, and gives up those that are over.
    pub(super) fn sweep(&mut self) {
        if let Some(flows) = self.board.flows() {
            self.leaving.look(flows, &self.dataplane);
        }
        if let Err(error) = self.dataplane.sweep() {
            warn!(error = words(&error), "flows that are over cannot be given up; new ones do it");
        }
    }

    /// Forgets flows of what left the configuration long enough ago.
    pub(super) fn forget_flows(&mut self) {
        match self.board.flows().map(|flows| flows.sweep()) {
            Some(Ok(Some(kept))) => {
                self.memory.keep_flows(kept);
                self.memory.save();
            }
            Some(Err(error)) => {
                warn!(
                    error = words(&error),
                    "what flows of earlier configurations carried cannot be forgotten"
                );
            }
            Some(Ok(None)) | None => {}
        }
    }

    /// Addresses that the kernel goes on forwarding for when the agent has stopped.
    pub(super) fn forwarded(&self) -> BTreeSet<IpAddr> {
        if self.forward.is_err() {
            return BTreeSet::new();
        }
        let bindings = self.snapshot.image.bindings.iter();
        bindings
            .filter(|(key, binding)| binding.action == Action::Forward && key.address != ANY)
            .map(|(key, _)| std::net::Ipv6Addr::from(key.address).to_canonical())
            .collect()
    }

    fn show_forwarding(&self) {
        let known = self.forward.as_ref().map(Forwarder::known).map_err(Clone::clone);
        self.board.forwarding.store(known.into());
    }

    /// A new good input, to be compiled. True if who listens is what it was: the host that was last compiled for will do.
    pub(super) fn take(&mut self, input: Loaded) -> bool {
        let same = self.warnings == input.warnings;
        let listeners = self.model.gateways == input.model.gateways
            && self.model.classes == input.model.classes
            && self.model.parameters == input.model.parameters;
        self.model = Arc::new(input.model);
        self.warnings = input.warnings;
        self.inputs += 1;
        if !same {
            self.warn_input();
        }
        listeners
    }

    /// The host that the newest snapshot was compiled for.
    pub(super) fn host(&self) -> Host {
        self.host.clone()
    }

    /// The input is refused: the last good snapshot stays.
    pub(super) fn refuse(&self, diagnostics: &[Diagnostic]) {
        for diagnostic in diagnostics {
            error!("{diagnostic}");
        }
        error!(errors = diagnostics.len(), "the input is refused; the configuration before goes on serving");
        self.board.change_numbers(|numbers| numbers.refused += 1);
        self.board.fail(
            "the input is refused; the configuration before goes on serving".to_owned(),
            diagnostics.iter().map(diagnostic_view).collect(),
        );
    }

    /// Compiles the input for a host and applies the result.
    pub(super) async fn compile_and_apply(&mut self, host: Host) {
        let begin = Instant::now();
        let (snapshot, kept) = self.compile(&host);
        debug!(step = "compile", took_us = begin.elapsed().as_micros());
        (self.snapshot, self.kept, self.host) = (Arc::new(snapshot), kept, host);
        self.retry = None;
        self.apply().await;
    }

    /// The host may have changed, or it is time to try again.
    pub(super) async fn follow(&mut self, host: Host) {
        if host != self.host {
            let (snapshot, kept) = self.compile(&host);
            self.host = host;
            let same = snapshot.image == self.snapshot.image
                && snapshot.listed == self.snapshot.listed
                && snapshot.addresses == self.snapshot.addresses
                && snapshot.report == self.snapshot.report;
            if !same {
                info!("the host has changed, or what a name resolves to");
                (self.snapshot, self.kept) = (Arc::new(snapshot), kept);
                self.apply().await;
                return;
            }
        }
        if self.retry_due() {
            self.apply().await;
        }
    }

    /// Brings back Gateway addresses that somebody else removed. What could not be applied is tried again anyway.
    pub(super) async fn keep_addresses(&mut self) {
        if self.retry.is_some() || self.snapshot.addresses.is_empty() {
            return;
        }
        match self.addresses.missing(&self.snapshot.addresses).await {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => {
                for address in missing {
                    warn!(%address, "somebody else removed a Gateway's address; it is brought up again");
                }
                self.apply().await;
            }
            Err(error) => warn!(error = words(&error), "cannot look after the Gateways' addresses"),
        }
    }

    /// Between changes: gives back the memory that the last ones took, and what was told of them.
    pub(super) fn rest(&mut self) {
        if let Some(rests) = self.rests.checked_sub(1) {
            self.rests = rests;
            heap::give_back();
        }
    }

    pub(super) fn retry_due(&self) -> bool {
        self.retry.as_ref().is_some_and(|retry| retry.at <= Instant::now())
    }

    /// What came of the objects when they were applied last.
    pub(super) fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report)
    }

    /// The newest input.
    pub(super) fn model(&self) -> Arc<Model> {
        Arc::clone(&self.model)
    }

    /// Gateway addresses that are up because of us.
    pub(super) fn own_addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.own()
    }

    /// Whether what is sent to a socket of the host comes to us already.
    pub(super) fn is_bound(&self, socket: &Listening) -> bool {
        let Listening { transport, at, .. } = socket;
        let address = wire(at.ip());
        self.bound.iter().any(|key| {
            key.protocol == transport.number()
                && key.port == at.port()
                && (key.address == ANY || key.address == address || at.ip().is_unspecified())
        })
    }

    /// The ports of UDP listeners of the newest input.
    pub(super) fn udp_ports(&self) -> BTreeSet<u16> {
        let listeners = self.model.gateways.values().flat_map(|gateway| &gateway.listeners);
        listeners.filter(|l| l.protocol == Protocol::Udp).map(|l| l.port).collect()
    }

    pub(super) fn set_log_level(&mut self, level: LogLevel) -> Result<(), dataplane::Error> {
        self.dataplane.set_log_level(level)?;
        info!(%level, "the BPF programs' log level is set");
        self.board.change_agent(|agent| agent.bpf_log_level = level.name().to_owned());
        Ok(())
    }

    /// What is needed to stop.
    pub(super) fn into_parts(self) -> (Running, Addresses) {
        (self.running, self.addresses)
    }

    fn compile(&self, host: &Host) -> (Snapshot, Kept) {
        compile_after(&self.kept, &self.model, host, &self.memory.ids, self.snapshot.generation + 1)
    }

    async fn apply(&mut self) {
        let begin = Instant::now();
        let mut outcome = Outcome::default();
        let result = self.switch().await;
        match &result {
            Ok(failed) => outcome.failed_addresses = failed.clone(),
            Err(error) => outcome.failed = Some(words(error)),
        }
        self.board.outcome.store(outcome.clone().into());
        self.show(&outcome);
        if result.is_ok() {
            self.announce();
        }
        match result {
            Ok(failed) if failed.is_empty() => {
                self.retry = None;
                info!(
                    generation = self.inputs,
                    bindings = self.snapshot.image.bindings.len(),
                    took_ms = begin.elapsed().as_millis(),
                    "configuration applied"
                );
            }
            Ok(failed) => {
                for (address, reason) in failed {
                    warn!(%address, reason, "a Gateway's address cannot be brought up; it is tried again");
                }
                self.pause();
            }
            Err(error) => {
                let error = words(&error);
                error!(error, "the configuration cannot be applied; it is tried again");
                self.board.change_numbers(|numbers| numbers.failed += 1);
                self.board.fail(format!("the configuration cannot be applied: {error}"), Vec::new());
                self.pause();
            }
        }
        self.rests = RESTS;
    }

    /// The steps, in their order. Returns the addresses that could not be brought up.
    async fn switch(&mut self) -> Result<BTreeMap<IpAddr, String>, ApplyError> {
        let mut begin = Instant::now();
        let mut step = |step| {
            debug!(step, took_us = begin.elapsed().as_micros());
            begin = Instant::now();
        };
        self.ways = None;
        let mut want = self.snapshot.image.clone();
        if let Ok(forward) = &mut self.forward {
            let own = self.addresses.own();
            want.ways = forward.survey(Look::New, &mut self.dataplane, &want.backends, &own).await;
            step("survey");
        }
        let plan = plan::plan(&self.dataplane.have()?, &want)?;
        step("plan");
        self.dataplane.apply(&plan.withdraw)?;
        step("withdraw");
        if let Some(flows) = self.board.flows() {
            self.memory.keep_flows(flows.turn(&self.snapshot)?);
        }
        let reader = self.dataplane.reader();
        self.memory.adopt(&self.snapshot.ids, || reader.counts().map(|counts| counts.lookups))?;
        self.board.baselines.store(self.memory.baselines.clone().into());
        self.running.publish(&self.snapshot);
        let mut addresses = self.host.addresses();
        addresses.extend(&self.snapshot.addresses);
        let (snapshot, model) = (Arc::clone(&self.snapshot), Arc::clone(&self.model));
        self.board.serving.store(Serving { snapshot, model, addresses }.into());
        step("publish");
        if let Some(sockets) = &self.sockets {
            self.dataplane.register(&sockets.borrow())?;
            self.sockets = None;
            step("register");
        }
        self.dataplane.apply(&plan.install)?;
        self.bound = self.snapshot.image.bindings.keys().copied().collect();
        self.ways = Some(want.ways);
        self.leaving.turn(&self.snapshot);
        step("install");
        let before = self.addresses.own();
        let failed = self.addresses.sync(&self.snapshot.addresses).await;
        step("addresses");
        if self.addresses.own() != before {
            self.follow_network(Look::Whole).await;
            step("ways");
        }
        self.show_forwarding();
        Ok(failed)
    }

    /// Says that the newest input serves: last of all, so that whoever waits for it finds its conditions.
    fn announce(&self) {
        self.board.change_numbers(|numbers| {
            numbers.generation = self.inputs;
            numbers.current = true;
            numbers.last_success = epoch_seconds();
        });
        self.board.change_agent(|agent| {
            let configuration = &mut agent.configuration;
            configuration.generation = self.inputs;
            configuration.applied = Some(now());
            configuration.error = None;
            configuration.warnings = self.warnings.iter().map(diagnostic_view).collect();
        });
        self.board.set_ready();
    }

    /// Shows the conditions as they are after applying, and logs those that turned bad.
    fn show(&mut self, outcome: &Outcome) {
        let report = finish(&self.snapshot.report, outcome);
        let (view, now) = (self.board.objects.load(), now());
        let before = Before { view: &view, report: &self.report, now: &now };
        let next = StatusView::new(&report, &self.model, Some(before));
        told::log(&view, &next);
        self.board.objects.store(next.into());
        self.report = report;
    }

    fn warn_input(&self) {
        for warning in &self.warnings {
            warn!("{warning}");
        }
    }

    fn pause(&mut self) {
        let pause = self.retry.as_ref().map_or(FIRST_PAUSE, |retry| (retry.pause * 2).min(LONGEST_PAUSE));
        self.retry = Some(Retry { at: Instant::now() + pause, pause });
    }
}
