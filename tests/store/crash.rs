//! `kill -9` in the middle of applies: what was answered is kept, and every apply is kept wholly or not at all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gateway_tests::lab::Lab;
use gateway_user::admin::client;
use gateway_user::admin::view::AppliedView;
use gateway_user::agent::ApplyCall;
use gateway_user::source::Given;

use super::{Bed, config_map};

const ROUNDS: usize = 40;
/// Objects of each apply.
const OBJECTS: usize = 8;

#[test]
fn kill_9_in_the_middle_of_applies_loses_and_mixes_nothing() {
    let lab = Lab::new("store-kill");
    let mut bed = Bed::new(&lab.gateway);
    let socket = bed.socket();
    // The last apply that was tried, and the last that was found to be kept.
    let (mut number, mut last) = (0, 0);
    let (mut in_the_middle, mut applies) = (0, 0);
    for round in 0..ROUNDS {
        let (tried, answered) = (AtomicUsize::new(number), AtomicUsize::new(last));
        thread::scope(|scope| {
            let (socket, tried, answered) = (&socket, &tried, &answered);
            scope.spawn(move || {
                loop {
                    let next = tried.fetch_add(1, Ordering::SeqCst) + 1;
                    let objects = (0..OBJECTS).map(|i| config_map(&format!("o{i}"), &next.to_string()));
                    let text = objects.collect::<String>();
                    let documents = vec![Given { file: "all.yaml".to_owned(), text, open: false }];
                    let call = ApplyCall { documents, ..ApplyCall::default() };
                    match client::send::<AppliedView>(socket, "/apply", &call) {
                        Ok(view) => assert!(view.errors.is_empty(), "{view:?}"),
                        // The agent is dead.
                        Err(_) => return,
                    }
                    answered.store(next, Ordering::SeqCst);
                }
            });
            thread::sleep(Duration::from_micros(fastrand::u64(50_000..500_000)));
            bed.agent.kill();
        });
        let (tried, answered) = (tried.into_inner(), answered.into_inner());
        bed.agent.launch();
        bed.agent.wait_ready();
        let list = bed.get(&["cm"]);
        let values: Vec<usize> = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["data"]["value"].as_str().expect("a value").parse().expect("a number"))
            .collect();
        if answered > 0 {
            assert_eq!(values.len(), OBJECTS, "round {round}: {values:?}");
        }
        let kept = values.first().copied().unwrap_or_default();
        assert!(values.iter().all(|value| *value == kept), "round {round}: a mixture: {values:?}");
        assert!((answered..=tried).contains(&kept), "round {round}: {kept} is not of {answered}..={tried}");
        let files = std::fs::read_dir(bed.objects()).expect("the store").count();
        assert_eq!(files, values.len() + 1, "round {round}: nothing is left over");
        in_the_middle += usize::from(kept > answered);
        applies += answered.saturating_sub(number);
        (number, last) = (tried, kept);
    }
    println!(
        "{ROUNDS} kills among {applies} answered applies; {in_the_middle} times the one under way was kept"
    );
    assert!(applies > ROUNDS, "too few applies to say anything: {applies}");
}
