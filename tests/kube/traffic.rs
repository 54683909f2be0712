//! Requests that go on while something happens: each answer counts.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use gateway_tests::{client, netns::NetNs};

/// Between one request and the next.
const PAUSE: Duration = Duration::from_millis(5);

/// Requests for a path, one after the other over connections of their own, until they are told to stop.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    requests: JoinHandle<(usize, Vec<String>)>,
}

impl Traffic {
    pub(crate) fn start(client: &NetNs, at: IpAddr, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let requests = client.thread(move || {
            let (mut served, mut failed, start) = (0, Vec::new(), Instant::now());
            while !told.load(Ordering::Relaxed) {
                // This thread is in the client's namespace already.
                let sent = start.elapsed();
                match client::get(&NetNs::host(), SocketAddr::new(at, 80), "shop.example", path) {
                    Ok(answer) if answer.status == 200 => served += 1,
                    Ok(answer) => failed.push(format!("sent after {sent:?}: {}", answer.status)),
                    Err(error) => failed.push(format!("sent after {sent:?}: {error}")),
                }
                // It is to notice what fails, not to be a load.
                thread::sleep(PAUSE);
            }
            (served, failed)
        });
        Self { stop, requests }
    }

    /// Ends them.
    ///
    /// # Panics
    /// If one failed, or there were hardly any.
    pub(crate) fn none_failed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (served, failed) = self.requests.join().expect("the requests do not panic");
        assert_eq!(failed, Vec::<String>::new(), "of {served} requests");
        assert!(served > 100, "only {served} requests");
    }
}
