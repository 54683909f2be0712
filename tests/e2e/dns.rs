//! A name server that says what a test tells it to say, on UDP.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use gateway_tests::{netns::NetNs, uninterrupted};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SOA},
};

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As the zone says.
    Answers,
    /// Not at all.
    Hangs,
    /// With SERVFAIL.
    Fails,
}

/// What it knows: by name, in lower case with a dot at its end, its addresses.
#[derive(Debug)]
struct Zone {
    mood: Mood,
    /// Of every answer, in seconds.
    ttl: u32,
    names: BTreeMap<String, Vec<IpAddr>>,
}

/// A running name server; dropping it closes its socket.
#[derive(Debug)]
pub(crate) struct Dns {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Dns {
    /// Starts a name server whose answers live for `ttl` seconds.
    pub(crate) fn start(ns: &NetNs, at: SocketAddr, ttl: u32) -> Self {
        let socket = ns.enter(|| UdpSocket::bind(at)).expect("the name server's socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let zone = Arc::new(Mutex::new(Zone { mood: Mood::Answers, ttl, names: BTreeMap::new() }));
        let (asked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (known, count, end) = (zone.clone(), asked.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                let (length, client) = match uninterrupted(|| socket.recv_from(&mut buffer)) {
                    Ok(received) => received,
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                    Err(e) => panic!("the name server cannot read: {e}"),
                };
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&buffer[..length], &known.lock().expect("a zone")) {
                    // Whoever asked may have gone.
                    drop(socket.send_to(&answer, client));
                }
            }
        });
        Self { address: at, zone, asked, stop, thread: Some(thread) }
    }

    /// Says from now on that a name has these addresses; without any, that it exists.
    pub(crate) fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.zone.lock().expect("a zone").names.insert(format!("{name}."), addresses.to_vec());
    }

    /// Changes how it answers.
    pub(crate) fn mood(&self, mood: Mood) {
        self.zone.lock().expect("a zone").mood = mood;
    }

    /// How many questions came.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the name server at {} panicked", self.address);
        }
    }
}

fn answer(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).expect("a question is DNS");
    let query = question.queries.first().expect("a question asks").clone();
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    match zone.mood {
        Mood::Hangs => return None,
        Mood::Fails => answer.metadata.response_code = ResponseCode::ServFail,
        Mood::Answers => match zone.names.get(&query.name().to_ascii().to_lowercase()) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(addresses) => {
                let asked = |ip: &&IpAddr| ip.is_ipv4() == (query.query_type() == RecordType::A);
                answer.add_answers(
                    addresses
                        .iter()
                        .filter(asked)
                        .map(|ip| Record::from_rdata(query.name().clone(), zone.ttl, RData::from(*ip))),
                );
            }
        },
    }
    if answer.answers.is_empty() {
        // How long the negative answer lives.
        let name = || Name::from_ascii("example.org.").expect("a name");
        let soa = SOA::new(name(), name(), 1, 1, 1, 1, zone.ttl);
        answer.add_authority(Record::from_rdata(name(), zone.ttl, RData::SOA(soa)));
    }
    Some(answer.to_vec().expect("an answer is DNS"))
}
