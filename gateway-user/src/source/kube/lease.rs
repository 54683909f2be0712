//! Who of several agents leads: the holder of a Lease (coordination.k8s.io/v1).
//!
//! Owns when it is taken, renewed and given up. Clocks of other nodes are not trusted: a Lease is old once it was seen
//! unchanged for as long as it lasts, by this process's own clock. Must not know what a leader does.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch as channel;
use tracing::{info, warn};

use super::request::within;
use super::revisions::Revisions;

/// How long a Lease lasts that is not renewed.
const LASTS: Duration = Duration::from_secs(15);
/// How often it is renewed, and looked at by those who do not hold it.
const LOOK: Duration = Duration::from_secs(3);
/// A leader that could not renew for so long leads no more: before another can take the Lease.
const GIVES_UP: Duration = Duration::from_secs(10);
/// So long the API server may take to answer. After two looks in vain, with the pauses before them, a leader has given up,
/// and the Lease still lasts.
const LIMIT: Duration = Duration::from_secs(4);
const _: () = {
    let two = 2 * (LOOK.as_secs() + LIMIT.as_secs());
    assert!(two > GIVES_UP.as_secs() && two < LASTS.as_secs(), "a leader must give up before another leads");
};

/// What was seen of a Lease, and when first so.
#[derive(Debug)]
struct Sight {
    holder: String,
    renewed: Option<Timestamp>,
    since: Instant,
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is ours: renew it.
    Renew,
    /// Nobody holds it, or its holder has gone: take it.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// What is seen of a Lease after what was seen before: the same for as long as its holder does not renew it. What the time
/// of the renewal is does not matter, but that it is another: clocks jump.
fn sighted(before: Option<Sight>, holder: String, renewed: Option<Timestamp>, now: Instant) -> Sight {
    match before {
        Some(before) if before.holder == holder && before.renewed == renewed => before,
        _ => Sight { holder, renewed, since: now },
    }
}

/// Decides.
fn step(sight: &Sight, me: &str, now: Instant) -> Step {
    if sight.holder == me {
        Step::Renew
    } else if sight.holder.is_empty() || now.duration_since(sight.since) > LASTS {
        Step::Take
    } else {
        Step::Wait
    }
}

/// A candidate.
pub(super) struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    sight: Option<Sight>,
    renewed: Option<Instant>,
    revisions: Revisions,
    /// The Lease is one of before: etcd was restored.
    restored: bool,
}

impl Candidate {
    pub(super) fn new(client: Client, namespace: &str, name: &str, me: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me,
            sight: None,
            renewed: None,
            revisions: Revisions::default(),
            restored: false,
        }
    }

    /// Takes part until it is told to leave; tells each time whether it leads, and when the API server's past is another
    /// than it was. A leader that leaves gives the Lease up, so that another need not wait.
    pub(super) async fn take_part(
        mut self,
        leads: impl Fn(bool),
        restored: impl Fn(),
        mut leaving: channel::Receiver<bool>,
    ) {
        let mut leading = false;
        let mut failing = false;
        loop {
            let now = match within(LIMIT, self.look()).await {
                Ok(now) => {
                    failing = false;
                    now
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(
                            lease = self.name,
                            %error, "the leader's Lease cannot be had; statuses are written by who has it"
                        );
                    }
                    leading && self.renewed.is_some_and(|at| at.elapsed() < GIVES_UP)
                }
            };
            if now != leading {
                info!(
                    lease = self.name,
                    leader = now,
                    "this agent {}",
                    if now { "writes statuses" } else { "writes none" }
                );
                leading = now;
            }
            leads(leading);
            if std::mem::take(&mut self.restored) {
                restored();
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = leaving.wait_for(|leaving| *leaving) => break,
            }
        }
        if leading {
            leads(false);
            if let Err(error) = self.give_up().await {
                warn!(lease = self.name, %error, "the leader's Lease cannot be given up; it runs out");
            }
        }
    }

    async fn give_up(&self) -> Result<(), kube::Error> {
        let lease = self.api.get(&self.name).await?;
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.me) {
            return Ok(());
        }
        let spec = LeaseSpec { holder_identity: Some(String::new()), ..spec };
        let lease = Lease { spec: Some(spec), ..lease };
        self.api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| ())
    }

    /// Looks at the Lease and does what is to be done. Whether it is ours.
    async fn look(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            return self.written(self.api.create(&PostParams::default(), &lease).await);
        };
        self.saw(&lease);
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let renewed = spec.renew_time.as_ref().map(|time| time.0);
        let now = Instant::now();
        let sight = sighted(self.sight.take(), holder, renewed, now);
        let step = step(&sight, &self.me, now);
        self.sight = Some(sight);
        if step == Step::Wait {
            return Ok(false);
        }
        // With its revision: of two that take it, one is refused.
        let lease = Lease { spec: Some(self.spec(Some(spec))), ..lease };
        self.written(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn saw(&mut self, lease: &Lease) {
        self.restored |= !self.revisions.see(lease.metadata.resource_version.as_deref());
    }

    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let before = before.unwrap_or_default();
        let mine = before.holder_identity.as_deref() == Some(&self.me);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
            acquire_time: if mine { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!mine)),
            ..LeaseSpec::default()
        }
    }

    fn written(&mut self, result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
        match result {
            Ok(lease) => {
                self.saw(&lease);
                self.renewed = Some(Instant::now());
                Ok(true)
            }
            // Another one was faster.
            Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_once_its_holder_has_gone() {
        let start = Instant::now();
        let sight = |holder: &str| Sight { holder: holder.to_owned(), renewed: None, since: start };
        for (holder, after, want) in [
            ("me", 0, Step::Renew),
            ("me", 99, Step::Renew),
            ("", 0, Step::Take),
            ("other", 0, Step::Wait),
            ("other", 15, Step::Wait),
            ("other", 16, Step::Take),
        ] {
            assert_eq!(
                step(&sight(holder), "me", start + Duration::from_secs(after)),
                want,
                "{holder} {after}"
            );
        }
    }

    #[test]
    fn a_clock_that_jumps_neither_keeps_a_lease_nor_takes_it() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        // The holder's clock goes back, and stands in the past, in the future, and nowhere: it renews all the same.
        let times =
            [time("2026-01-31T12:00:00Z"), time("1970-01-01T00:00:00Z"), time("2999-01-01T00:00:00Z"), None];
        let mut sight = None;
        for (round, renewed) in (0..).zip(times.into_iter().cycle().take(12)) {
            let now = sighted(sight, "other".to_owned(), renewed, at(10 * round));
            assert_eq!(step(&now, "me", at(10 * round)), Step::Wait);
            sight = Some(now);
        }
        // It has gone, and the time that it left is far ahead of ours.
        let left = sighted(sight, "other".to_owned(), time("2999-01-01T00:00:00Z"), at(200));
        let again = sighted(Some(left), "other".to_owned(), time("2999-01-01T00:00:00Z"), at(216));
        assert_eq!(step(&again, "me", at(216)), Step::Take);
    }
}
