//! What every peer has in common: an address, counters, and an end.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::{net::TcpStream, sync::watch};

use crate::netns::{NetNs, runtime};

/// A running peer; dropping it closes its sockets.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What a peer counted.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) open: AtomicU64,
}

impl Server {
    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Requests (HTTP) answered so far.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.seen.open.load(Ordering::Relaxed)
    }

    /// Listens in `ns` and serves each connection by `serve` on one thread.
    ///
    /// # Panics
    /// If the address cannot be bound.
    pub(super) fn start<S, F>(ns: &NetNs, at: SocketAddr, serve: S) -> Self
    where
        S: Fn(TcpStream, SocketAddr, Arc<Seen>) -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let listener = ns
            .enter(|| TcpListener::bind(at))
            .unwrap_or_else(|e| panic!("cannot listen on {at} in {}: {e}", ns.name()));
        let address = listener.local_addr().expect("a listener has an address");
        listener.set_nonblocking(true).expect("a listener can be set non-blocking");
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = watch::channel(false);
        let counted = seen.clone();
        let thread = ns.thread(move || {
            let runtime = runtime();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, accept(listener, serve, counted, stopped));
        });
        Self { address, seen, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the peer at {} panicked", self.address);
        }
    }
}

async fn accept<S, F>(listener: TcpListener, serve: S, seen: Arc<Seen>, mut stopped: watch::Receiver<bool>)
where
    S: Fn(TcpStream, SocketAddr, Arc<Seen>) -> F,
    F: Future<Output = ()> + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener fits the runtime");
    loop {
        let (stream, client) = tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => { eprintln!("accept: {e}"); continue }
            },
        };
        stream.set_nodelay(true).unwrap_or_else(|e| eprintln!("nodelay: {e}"));
        seen.connections.fetch_add(1, Ordering::Relaxed);
        seen.open.fetch_add(1, Ordering::Relaxed);
        let (work, done) = (serve(stream, client, seen.clone()), seen.clone());
        tokio::task::spawn_local(async move {
            work.await;
            done.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
