//! When a name is asked for again, and what stays of an answer.

use super::*;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn found(addresses: &[&str], ttl: u64) -> Answer {
    Answer::Found(addresses.iter().map(|ip| ip.parse().unwrap()).collect(), seconds(ttl))
}

fn none(exists: bool, ttl: Option<u64>) -> Answer {
    Answer::None { exists, ttl: ttl.map(seconds) }
}

fn failed() -> Answer {
    Answer::Failed("why".to_owned())
}

#[test]
fn answers_are_asked_for_again_within_bounds() {
    for (answers, wanted) in [
        ([found(&["10.0.0.1"], 60), found(&["2001:db8::1"], 30)], 30),
        ([found(&["10.0.0.1"], 0), found(&["2001:db8::1"], 30)], 1),
        ([found(&["10.0.0.1"], 86_400), none(true, Some(5))], 300),
        ([found(&["10.0.0.1"], 60), none(true, Some(5))], 60),
        ([none(false, None), none(false, None)], 5),
        ([none(false, Some(3600)), none(false, Some(3600))], 30),
        ([none(false, Some(7)), none(true, None)], 5),
        ([none(true, Some(0)), none(true, Some(0))], 1),
        ([failed(), failed()], 1),
        ([found(&["10.0.0.1"], 60), failed()], 1),
    ] {
        assert_eq!(Last::default().wait(&answers), seconds(wanted), "{answers:?}");
    }
}

#[test]
fn name_servers_that_fail_are_asked_less_and_less() {
    let mut last = Last::default();
    let waits: Vec<_> = (0..9).map(|_| last.wait(&[failed(), failed()]).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // The one family's answer is not older than its TTL for the other's failures.
    assert_eq!(last.wait(&[found(&["10.0.0.1"], 5), failed()]), seconds(5));
    assert_eq!(last.wait(&[found(&["10.0.0.1"], 5), none(true, None)]), seconds(5));
    assert_eq!(last.wait(&[failed(), none(true, None)]), seconds(1));
}

#[test]
fn the_last_good_answer_outlives_failures_alone() {
    let mut last = Last::default();
    let mut take = |v4, v6| {
        let Resolution { addresses, problem } = last.take([v4, v6]);
        let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        format!("{} | {}", list.join(" "), problem.unwrap_or_default())
    };
    assert_eq!(take(failed(), failed()), " | why");
    assert_eq!(
        take(found(&["10.0.0.2", "10.0.0.1"], 1), found(&["2001:db8::1"], 1)),
        "10.0.0.1 10.0.0.2 2001:db8::1 | "
    );
    assert_eq!(take(failed(), failed()), "10.0.0.1 10.0.0.2 2001:db8::1 | why");
    assert_eq!(take(found(&["10.0.0.3"], 1), failed()), "10.0.0.3 2001:db8::1 | why");
    assert_eq!(take(failed(), none(true, None)), "10.0.0.3 | why");
    assert_eq!(take(found(&["10.0.0.3"], 1), none(true, None)), "10.0.0.3 | ");
    assert_eq!(take(none(false, None), none(false, None)), " | there is no such name (NXDOMAIN)");
    assert_eq!(take(failed(), failed()), " | why");
    assert_eq!(take(none(true, None), none(true, None)), " | the name has neither A nor AAAA records");
}

/// A server that nobody runs, on a port that is held.
#[tokio::test]
async fn what_is_wanted_is_told_once_and_forgotten() {
    let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut resolver = Resolver::new(Some(held.local_addr().unwrap()));
    resolver.settle(seconds(60)).await;
    let names = |list: &[&str]| list.iter().map(|name| Arc::from(*name)).collect();
    resolver.want(&names(&["a.example", "not_a..name"]));
    timeout(seconds(60), resolver.changed()).await.unwrap();
    let known = resolver.known();
    assert_eq!(known.keys().map(|name| &**name).collect::<Vec<_>>(), ["not_a..name"]);
    assert!(known["not_a..name"].problem.as_ref().unwrap().contains("no DNS name"), "{known:?}");
    // The one that hangs does not hold up whoever waits for it.
    resolver.settle(Duration::from_millis(10)).await;
    resolver.want(&names(&["a.example"]));
    assert_eq!(resolver.known().len(), 0);
}

#[tokio::test]
async fn the_systems_files_are_read_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let [resolv, hosts] = ["resolv.conf", "hosts"].map(|file| folder.path().join(file));
    let dns = Dns::new(None, [resolv.clone(), hosts.clone()]);
    let told = |answers: [Answer; 2]| {
        answers.map(|answer| match answer {
            Answer::Found(list, _) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Answer::None { .. } => "none".to_owned(),
            Answer::Failed(why) => why,
        })
    };
    let [why, _] = told(dns.look_up("a.example").await);
    assert!(why.contains(resolv.to_str().unwrap()) && why.contains("--resolver"), "{why}");
    std::fs::write(&resolv, "search elsewhere.example\nnameserver 127.0.0.1\noptions timeout:1\n").unwrap();
    std::fs::write(&hosts, "10.0.0.1 a.example b.elsewhere.example\n2001:db8::1 a.example # x\n").unwrap();
    assert_eq!(told(dns.look_up("a.example").await), ["10.0.0.1", "2001:db8::1"]);
    std::fs::write(&hosts, "10.0.0.22 a.example\n10.0.0.23 A.example\n2001:db8::1 a.example\n").unwrap();
    assert_eq!(told(dns.look_up("a.example").await), ["10.0.0.22 10.0.0.23", "2001:db8::1"]);
}
