//! The names of ExternalName Services, kept resolved: asked again when an answer expires, for as long as a route
//! refers to them.
//!
//! Owns when a name is asked for again, and that the last good answer outlives a name server that fails. Must not know
//! what an address is used for. Each name has a task of its own, so that one that hangs holds up no other.

mod dns;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use self::dns::{Answer, Dns};
use crate::core::names::Resolution;

/// An answer is used at least so long, whatever its TTL.
const SHORTEST: Duration = Duration::from_secs(1);
/// At most so long.
const LONGEST: Duration = Duration::from_mins(5);
/// That there is no such name is believed at most so long: it may be about to be made.
const LONGEST_NONE: Duration = Duration::from_secs(30);
/// If the name server does not say for how long, so long.
const USUAL_NONE: Duration = Duration::from_secs(5);
/// Between two tries while the name servers fail: doubled from the one to the other.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(1);
/// Names that are asked for at the same time.
const AT_ONCE: usize = 64;

type Known = BTreeMap<Arc<str>, Resolution>;

/// Resolves the names that are wanted, by tasks of its own.
#[derive(Debug)]
pub struct Resolver {
    dns: Arc<Dns>,
    turns: Arc<Semaphore>,
    known: watch::Sender<Known>,
    seen: watch::Receiver<Known>,
    tasks: JoinSet<()>,
    wanted: BTreeMap<Arc<str>, AbortHandle>,
}

impl Resolver {
    /// Asks this name server, or those of the system (`/etc/resolv.conf`, after a look into `/etc/hosts`). Asks for
    /// nothing until something is wanted.
    #[must_use]
    pub fn new(server: Option<SocketAddr>) -> Self {
        let (known, seen) = watch::channel(Known::new());
        Self {
            dns: Arc::new(Dns::new(server, dns::FILES.map(PathBuf::from))),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            known,
            seen,
            tasks: JoinSet::new(),
            wanted: BTreeMap::new(),
        }
    }

    /// From now on these names are kept resolved, and no other. Must be called within a tokio runtime.
    pub fn want(&mut self, names: &BTreeSet<Arc<str>>) {
        while self.tasks.try_join_next().is_some() {}
        self.wanted.retain(|name, task| {
            let wanted = names.contains(name);
            if !wanted {
                task.abort();
            }
            wanted
        });
        // What nobody wants is no change that anybody must be told.
        self.known.send_if_modified(|known| {
            known.retain(|name, _| names.contains(name));
            false
        });
        for name in names {
            if !self.wanted.contains_key(name) {
                let follow = follow(name.clone(), self.dns.clone(), self.turns.clone(), self.known.clone());
                self.wanted.insert(name.clone(), self.tasks.spawn(follow));
            }
        }
    }

    /// What is known now. A name that is missing has not been looked up to its end yet.
    #[must_use]
    pub fn known(&mut self) -> Known {
        self.seen.borrow_and_update().clone()
    }

    /// Waits until something has changed since [`Self::known`]. May be dropped and called again.
    pub async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until something is known of every name that is wanted, but no longer than `patience`.
    pub async fn settle(&mut self, patience: Duration) {
        let wanted: BTreeSet<_> = self.wanted.keys().cloned().collect();
        let all = |known: &Known| wanted.iter().all(|name| known.contains_key(name));
        let mut seen = self.known.subscribe();
        // Whatever comes of it, the caller goes on.
        drop(timeout(patience, seen.wait_for(all)).await);
    }
}

/// Keeps one name resolved.
async fn follow(name: Arc<str>, dns: Arc<Dns>, turns: Arc<Semaphore>, known: watch::Sender<Known>) {
    let mut last = Last::default();
    loop {
        let answers = {
            let _turn = turns.acquire().await;
            dns.look_up(&name).await
        };
        let wait = last.wait(&answers);
        let resolution = last.take(answers);
        tracing::debug!(name = &*name, ?resolution, wait_s = wait.as_secs_f64(), "looked up");
        known.send_if_modified(|known| {
            let changed = known.get(&name) != Some(&resolution);
            if changed {
                known.insert(name.clone(), resolution);
            }
            changed
        });
        // Later by up to a tenth, so that names that were asked for together are not for ever.
        sleep(wait.mul_f64(1.0 + fastrand::f64() / 10.0)).await;
    }
}

/// What is remembered of a name.
#[derive(Debug, Default)]
struct Last {
    /// The last good answers: A, AAAA.
    good: [BTreeSet<IpAddr>; 2],
    /// How often in a row not both questions were answered.
    failures: u32,
}

impl Last {
    /// How long these answers, to A and AAAA, are good for; how long to leave name servers alone that fail.
    fn wait(&mut self, answers: &[Answer; 2]) -> Duration {
        let mut wait = LONGEST;
        let found = answers.iter().any(|answer| matches!(answer, Answer::Found(..)));
        let mut failed = false;
        for answer in answers {
            match answer {
                Answer::Found(_, ttl) => wait = wait.min(*ttl),
                // Most names lack one of the two; for how long is of no interest.
                Answer::None { .. } if found => {}
                Answer::None { ttl, .. } => wait = wait.min(ttl.unwrap_or(USUAL_NONE)).min(LONGEST_NONE),
                Answer::Failed(_) => failed = true,
            }
        }
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        if failed {
            let retry = FIRST_RETRY.saturating_mul(1 << (self.failures - 1).min(16)).min(LAST_RETRY);
            wait = wait.min(retry);
        }
        wait.max(SHORTEST)
    }

    /// Takes the answers in: what fails leaves the last good answer as it is.
    fn take(&mut self, answers: [Answer; 2]) -> Resolution {
        let mut failed = None;
        let mut none = None;
        for (good, answer) in self.good.iter_mut().zip(answers) {
            match answer {
                Answer::Found(addresses, _) => *good = addresses,
                Answer::None { exists, .. } => {
                    good.clear();
                    none = Some(exists);
                }
                Answer::Failed(why) => failed = failed.or(Some(why)),
            }
        }
        let addresses: BTreeSet<IpAddr> = self.good.iter().flatten().copied().collect();
        let problem = failed.or_else(|| match none {
            Some(false) if addresses.is_empty() => Some("there is no such name (NXDOMAIN)".to_owned()),
            Some(true) if addresses.is_empty() => Some("the name has neither A nor AAAA records".to_owned()),
            _ => None,
        });
        Resolution { addresses, problem }
    }
}

#[cfg(test)]
mod tests;
