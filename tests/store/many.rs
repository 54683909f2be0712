//! Many at once: applies are served one after the other, and none is lost.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::lab::Lab;
use gateway_tests::objects::{http_route, prefix};
use gateway_user::admin::client;
use gateway_user::admin::view::AppliedView;
use gateway_user::agent::ApplyCall;
use gateway_user::source::Given;

use super::{Bed, config_map};

const APPLIES: usize = 200;

#[test]
fn two_hundred_applies_at_once_are_all_kept() {
    let lab = Lab::new("store-many");
    let mut bed = Bed::new(&lab.gateway);
    let socket = bed.socket();
    let barrier = Barrier::new(APPLIES);
    let begin = Instant::now();
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        let apply = |number: usize| {
            let (socket, barrier) = (&socket, &barrier);
            move || {
                // One object of its own, and one that all of them change.
                let own = http_route(&format!("own-{number}"), &["web"], &[], &[prefix("/", &["nobody"])]);
                let text = [own, config_map("shared", &number.to_string())].concat();
                let documents = vec![Given { file: format!("{number}.yaml"), text, open: false }];
                let call = ApplyCall { documents, ..ApplyCall::default() };
                barrier.wait();
                let begin = Instant::now();
                let view: AppliedView = client::send(socket, "/apply", &call).expect("an answer");
                assert_eq!((view.errors.len(), view.objects.len()), (0, 2), "{view:?}");
                assert_eq!(view.objects[0].outcome, "created");
                begin.elapsed()
            }
        };
        let threads: Vec<_> = (0..APPLIES).map(|number| scope.spawn(apply(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an apply")).collect()
    });
    waits.sort();
    println!("{APPLIES} applies in {:?}, the longest waited {:?}", begin.elapsed(), waits[APPLIES - 1]);
    let check = |bed: &Bed<'_>| {
        let routes = bed.get(&["httproute"]);
        assert_eq!(routes["items"].as_array().expect("items").len(), APPLIES);
        let shared = bed.get(&["cm", "shared"]);
        assert_eq!(shared["metadata"]["generation"], APPLIES, "each changed it once: {shared}");
        let files = std::fs::read_dir(bed.objects()).expect("the store").count();
        assert_eq!(files, APPLIES + 2, "one for each object, and the index");
        (routes, shared)
    };
    let (routes, shared) = check(&bed);
    bed.restart();
    let (routes_after, shared_after) = check(&bed);
    assert_eq!(shared_after, shared);
    let metadata = |list: &serde_json::Value| -> Vec<serde_json::Value> {
        list["items"].as_array().expect("items").iter().map(|item| item["metadata"].clone()).collect()
    };
    assert_eq!(metadata(&routes), metadata(&routes_after));
}

#[test]
fn a_thousand_objects_are_one_apply() {
    const OBJECTS: usize = 1000;
    let lab = Lab::new("store-large");
    let mut bed = Bed::new(&lab.gateway);
    let all = |path: &str| -> String {
        (0..OBJECTS)
            .map(|n| http_route(&format!("r{n}"), &["web"], &[], &[prefix(path, &["nobody"])]))
            .collect()
    };
    for (path, outcome) in [("/a", "created"), ("/b", "configured")] {
        let begin = Instant::now();
        let told = bed.apply(&all(path));
        println!("{OBJECTS} objects {outcome} in {:?}", begin.elapsed());
        assert_eq!(told.matches(&format!(" {outcome}\n")).count(), OBJECTS);
    }
    let files = || std::fs::read_dir(bed.objects()).expect("the store").count();
    assert_eq!(files(), OBJECTS + 1);
    let route = bed.get(&["httproute", "r7"]);
    bed.restart();
    let after = bed.get(&["httproute", "r7"]);
    assert_eq!((&after["spec"], &after["metadata"]), (&route["spec"], &route["metadata"]));
    let file = bed.file("all.yaml", &all("/c"));
    assert_eq!(bed.sluice(&["delete", "-f", &file]).status.code(), Some(0));
    assert_eq!(std::fs::read_dir(bed.objects()).expect("the store").count(), 1);
}
