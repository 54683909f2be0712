//! What the API server tells of a kind, for as long as the process runs.
//!
//! Owns the pauses after errors, what is said of these, and when a list is had anew where a watch cannot go on: after it was
//! refused, since that it is allowed again is told by a list alone; and when the API server's past is another than it was.
//! What has expired is listed anew by kube's watcher. Must not know what an event means.

use std::fmt::Debug;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::Resource;
use kube::api::Api;
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::watch as channel;
use tokio::time::Instant;
use tracing::{info, warn};

/// What is told of a kind.
pub(super) struct Feed<K> {
    kind: &'static str,
    api: Api<K>,
    config: watcher::Config,
    stream: BoxStream<'static, watcher::Result<Event<K>>>,
    /// Counts how often all lists are to be had anew.
    anew: channel::Receiver<u64>,
    backoff: DefaultBackoff,
    /// Until when nothing is asked, after an error.
    pause: Option<Instant>,
    failing: bool,
}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> Feed<K> {
    pub(super) fn new(
        kind: &'static str,
        api: Api<K>,
        config: watcher::Config,
        anew: channel::Receiver<u64>,
    ) -> Self {
        let stream = watcher(api.clone(), config.clone()).boxed();
        let backoff = DefaultBackoff::default();
        Self { kind, api, config, stream, anew, backoff, pause: None, failing: false }
    }

    /// The next event; or why the API server refuses a list or a watch for good. To be called off loses none.
    pub(super) async fn next(&mut self) -> Result<Event<K>, String> {
        loop {
            if let Some(pause) = self.pause {
                tokio::time::sleep_until(pause).await;
                self.pause = None;
            }
            let event = tokio::select! {
                Ok(()) = self.anew.changed() => None,
                event = self.stream.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    // That a list begins is said before the API server is asked for it.
                    if !matches!(event, Event::Init) {
                        self.backoff.reset();
                        if std::mem::take(&mut self.failing) {
                            info!(kind = self.kind, "the API server answers again");
                        }
                    }
                    return Ok(event);
                }
                Some(Err(error)) => {
                    self.pause = self.backoff.next().map(|pause| Instant::now() + pause);
                    let answer = answer(&error);
                    match answer.map(|status| status.code) {
                        Some(410) => info!(kind = self.kind, %error, "all objects are listed anew"),
                        _ if !std::mem::replace(&mut self.failing, true) => {
                            warn!(kind = self.kind, %error, "cannot be watched; what is known goes on serving, and it is tried again");
                        }
                        _ => {}
                    }
                    let refused = answer.filter(|status| is_refusal(status.code));
                    let refused = refused.map(|status| status.message.clone());
                    if answer.is_some_and(|status| starts_over(status.code)) {
                        self.start_over();
                    }
                    if let Some(why) = refused {
                        return Err(why);
                    }
                }
                None => self.start_over(),
            }
        }
    }

    /// Begins with a list.
    fn start_over(&mut self) {
        self.stream = watcher(self.api.clone(), self.config.clone()).boxed();
    }
}

/// What the API server answered, if an error is its answer.
fn answer(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// Whether an answer is for good: for want of a right.
fn is_refusal(code: u16) -> bool {
    matches!(code, 401 | 403)
}

/// Whether a watch cannot go on from where it was.
fn starts_over(code: u16) -> bool {
    is_refusal(code) || code == 410
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_the_api_server_answers_decides_whether_a_list_is_had_anew() {
        for (code, refusal, anew) in [
            (401, true, true),
            (403, true, true),
            (410, false, true),
            (429, false, false),
            (500, false, false),
        ] {
            let status = || Box::new(Status { code, ..Status::default() });
            for error in [
                watcher::Error::InitialListFailed(kube::Error::Api(status())),
                watcher::Error::WatchStartFailed(kube::Error::Api(status())),
                watcher::Error::WatchError(status()),
            ] {
                let answered = answer(&error).map(|status| status.code).unwrap();
                assert_eq!((is_refusal(answered), starts_over(answered)), (refusal, anew), "{error}");
            }
        }
        assert!(answer(&watcher::Error::NoResourceVersion).is_none());
    }
}
