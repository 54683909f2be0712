//! Ranges as they are written, and the assignment: by data, and by what must hold for whatever is asked.

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pools(ranges: &[&str]) -> Pools {
    let ranges: Vec<Range> = ranges.iter().map(|text| text.parse().unwrap()).collect();
    Pools::new(&ranges).unwrap().unwrap()
}

#[test]
fn ranges_are_written_as_networks_ranges_or_addresses() {
    for (text, shown) in [
        ("192.0.2.0/28", "192.0.2.1-192.0.2.14"),
        ("192.0.2.4/30", "192.0.2.5-192.0.2.6"),
        ("192.0.2.4/31", "192.0.2.4-192.0.2.5"),
        ("192.0.2.4/32", "192.0.2.4"),
        ("192.0.2.4", "192.0.2.4"),
        ("192.0.2.0-192.0.2.255", "192.0.2.0-192.0.2.255"),
        ("192.0.2.9-192.0.2.9", "192.0.2.9"),
        ("2001:db8::/120", "2001:db8::1-2001:db8::ff"),
        ("2001:db8::/127", "2001:db8::-2001:db8::1"),
        ("2001:db8::8/128", "2001:db8::8"),
        ("2001:db8::/32", "2001:db8::1-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fd00::a-fd00::b", "fd00::a-fd00::b"),
    ] {
        assert_eq!(text.parse::<Range>().map(|range| range.to_string()), Ok(shown.to_owned()), "{text}");
    }
}

#[test]
fn what_is_no_range_is_told_with_the_remedy() {
    for (text, message, remedy) in [
        ("", "is no network, range or address", "write a network such as 192.0.2.0/28"),
        ("192.0.2.0/33", "is no network, range or address", "write a network"),
        ("192.0.2.1 - 192.0.2.2", "is no network, range or address", "write a network"),
        ("a.example", "is no network, range or address", "write a network"),
        ("192.0.2.1-2001:db8::1", "mixes the families", "write a range for each family"),
        ("192.0.2.9-192.0.2.1", "is empty: 192.0.2.1 is below 192.0.2.9", "write 192.0.2.1-192.0.2.9"),
        (
            "192.0.2.5/24",
            "is no network",
            "write 192.0.2.0/24 for the network, or 192.0.2.5 for this address",
        ),
        ("2001:db8::5/64", "is no network", "write 2001:db8::/64 for"),
        (
            "0.0.0.0/0",
            "has addresses that no Gateway can have: 0.0.0.0-0.255.255.255 is unspecified",
            "use addr",
        ),
        (
            "126.0.0.0-128.0.0.0",
            "has addresses that no Gateway can have: 127.0.0.0-127.255.255.255 is loop",
            "",
        ),
        ("224.0.0.5", "has addresses that no Gateway can have: 224.0.0.0-239.255.255.255 is multicast", ""),
        ("255.255.255.255", "has addresses that no Gateway can have: 240.0.0.0-", ""),
        ("::/127", "has addresses that no Gateway can have: ::-:: is unspecified", ""),
        ("::1", "has addresses that no Gateway can have: ::1-::1 is loopback", ""),
        ("::ffff:192.0.2.0/120", "has addresses that no Gateway can have: ::ffff:0.0.0.0-", ""),
        ("fe80::/64", "has addresses that no Gateway can have: fe80::-febf:", ""),
        ("ff02::1", "has addresses that no Gateway can have: ff00::-", ""),
    ] {
        let error = text.parse::<Range>().expect_err(text);
        assert!(error.to_string().starts_with(message), "{text}: {error}");
        assert!(error.remedy().starts_with(remedy), "{text}: {}", error.remedy());
    }
}

#[test]
fn pools_know_their_addresses_and_do_not_overlap() {
    let some = pools(&["2001:db8::/120", "10.0.0.8-10.0.0.9", "10.0.0.0/30"]);
    for inside in ["10.0.0.1", "10.0.0.2", "10.0.0.8", "10.0.0.9", "2001:db8::1", "2001:db8::ff"] {
        assert!(some.contains(ip(inside)), "{inside}");
    }
    for outside in ["10.0.0.0", "10.0.0.3", "10.0.0.7", "10.0.0.10", "2001:db8::", "2001:db8::100", "9.9.9.9"]
    {
        assert!(!some.contains(ip(outside)), "{outside}");
    }
    assert_eq!(some.to_string(), "10.0.0.1-10.0.0.2, 10.0.0.8-10.0.0.9, 2001:db8::1-2001:db8::ff");
    let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Range>>();
    assert_eq!(Pools::new(&ranges(&["10.0.0.0/24", "10.1.0.0/24", "10.0.0.7"])), Err((0, 2)));
    assert_eq!(Pools::new(&ranges(&["10.0.0.7", "10.0.0.7"])), Err((0, 1)));
    assert_eq!(Pools::new(&[]), Ok(None));
    let many: Vec<String> = (0..6).map(|n| format!("10.0.{n}.1")).collect();
    let many = pools(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(many.to_string(), "10.0.0.1, 10.0.1.1, 10.0.2.1, 10.0.3.1 and 2 more");
}

/// Requests as `STATIC,… WISH HAD,…`, where the wish is `pool`, `keep` or `-`; what comes out as
/// `static …, given …, taken ADDRESS by N, no FAMILY`.
fn check(ranges: &[&str], own: &str, requests: &[&str], expected: &[&str]) {
    let pools = pools(ranges);
    let list = |text: &str| -> Vec<IpAddr> {
        text.split(',').filter(|text| !text.is_empty() && *text != "-").map(ip).collect()
    };
    let parsed: Vec<_> = requests
        .iter()
        .map(|text| {
            let mut words = text.split_whitespace();
            let (fixed, wish, had) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
            (list(fixed), wish, list(had))
        })
        .collect();
    let requests: Vec<Request<'_>> = parsed
        .iter()
        .map(|(fixed, wish, had)| {
            let wish = match *wish {
                "pool" => Wish::From(&pools),
                "keep" => Wish::Keep,
                _ => Wish::Nothing,
            };
            Request { fixed: fixed.clone(), wish, had }
        })
        .collect();
    let shown: Vec<String> = assign(&requests, &list(own).into_iter().collect(), true)
        .iter()
        .map(|a| {
            let mut words: Vec<String> = a.fixed.iter().map(|ip| format!("static {ip}")).collect();
            words.extend(a.given.iter().map(|ip| format!("given {ip}")));
            words.extend(a.taken.iter().map(|(ip, by)| format!("taken {ip} by {by}")));
            words.extend(a.missing.iter().map(|family| format!("no {family}")));
            words.join(", ")
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn a_new_one_gets_the_lowest_free_address_of_each_family() {
    check(
        &["10.0.0.4-10.0.0.5", "10.0.0.0/30", "fd00::/126"],
        "10.0.0.1",
        &["- pool", "- pool", "- pool", "- pool", "- -"],
        &[
            "given 10.0.0.2, given fd00::1",
            "given 10.0.0.4, given fd00::2",
            "given 10.0.0.5, given fd00::3",
            "no IPv4, no IPv6",
            "",
        ],
    );
}

#[test]
fn what_it_had_it_keeps_for_as_long_as_the_pools_have_it() {
    check(
        &["10.0.0.0/29"],
        "10.0.0.5",
        &["- pool", "- pool 10.0.0.1", "- pool 10.9.9.9", "- pool 10.0.0.5", "- pool 10.0.0.4,10.0.0.6"],
        &["given 10.0.0.2", "given 10.0.0.1", "given 10.0.0.3", "given 10.0.0.5", "given 10.0.0.4"],
    );
    // Of two that had the same the first keeps it.
    check(
        &["10.0.0.0/29"],
        "",
        &["- pool 10.0.0.3", "- pool 10.0.0.3"],
        &["given 10.0.0.3", "given 10.0.0.1"],
    );
}

#[test]
fn a_static_address_is_shared_and_never_given_out() {
    check(
        &["10.0.0.0/29"],
        "",
        &["- pool", "10.0.0.1 -", "10.0.0.1,10.0.0.2 pool", "192.0.2.1 -"],
        &[
            "given 10.0.0.3",
            "static 10.0.0.1",
            "static 10.0.0.1, static 10.0.0.2, given 10.0.0.4",
            "static 192.0.2.1",
        ],
    );
}

#[test]
fn a_static_address_that_came_later_does_not_take_what_was_given() {
    check(
        &["10.0.0.0/29"],
        "",
        &["10.0.0.1,10.0.0.7 -", "- pool 10.0.0.1", "- pool"],
        &["static 10.0.0.7, taken 10.0.0.1 by 1", "given 10.0.0.1", "given 10.0.0.2"],
    );
    // Its own, from the pool before: it is pinned now.
    check(&["10.0.0.0/29"], "", &["10.0.0.1 - 10.0.0.1", "- pool"], &["static 10.0.0.1", "given 10.0.0.2"]);
    // It was there first.
    check(
        &["10.0.0.0/29"],
        "",
        &["- pool 10.0.0.1", "10.0.0.1 - 10.0.0.1"],
        &["given 10.0.0.2", "static 10.0.0.1"],
    );
}

#[test]
fn who_is_not_served_keeps_what_it_had_and_gets_nothing_new() {
    check(
        &["10.0.0.0/29"],
        "",
        &["- keep 10.0.0.1,192.0.2.7", "- keep", "- pool", "- keep 10.0.0.1"],
        &["given 10.0.0.1, given 192.0.2.7", "", "given 10.0.0.2", ""],
    );
}

#[test]
fn who_does_not_hand_out_knows_only_what_was() {
    let pools = pools(&["10.0.0.0/29"]);
    let had = [ip("10.0.0.4")];
    let request = |had| Request { fixed: Vec::new(), wish: Wish::From(&pools), had };
    let assignments = assign(&[request(&[]), request(&had)], &BTreeSet::new(), false);
    assert_eq!(assignments[0], Assignment { missing: vec![Family::V4], ..Assignment::default() });
    assert_eq!(assignments[1], Assignment { given: had.to_vec(), ..Assignment::default() });
}

#[test]
fn a_pool_of_any_size_is_never_counted_out() {
    let pools = pools(&["1.0.0.0-126.255.255.255", "2001:db8::/32"]);
    let requests = vec![Request { fixed: Vec::new(), wish: Wish::From(&pools), had: &[] }; 20_000];
    let assignments = assign(&requests, &BTreeSet::new(), true);
    assert_eq!(assignments[19_999].given, [ip("1.0.78.31"), ip("2001:db8::4e20")]);
}

/// What a Gateway of the property tests asks for: static addresses, which pools, if any, and what it had.
#[derive(Clone, Debug)]
struct Asked {
    fixed: BTreeSet<IpAddr>,
    pool: Option<usize>,
    had: Vec<IpAddr>,
}

fn address() -> impl Strategy<Value = IpAddr> {
    (0..12u8, any::<bool>()).prop_map(|(n, v6)| {
        if v6 { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)]) } else { [10, 0, 0, n].into() }
    })
}

fn asked() -> impl Strategy<Value = Vec<Asked>> {
    let fixed = prop_oneof![
        2 => Just(BTreeSet::new()),
        1 => prop::collection::btree_set(address(), 1..3),
    ];
    let one = (fixed, prop::option::weighted(0.8, 0..3usize), prop::collection::vec(address(), 0..3));
    prop::collection::vec(one.prop_map(|(fixed, pool, had)| Asked { fixed, pool, had }), 0..10)
}

fn some_pools() -> [Pools; 3] {
    [
        pools(&["10.0.0.0/29", "fd00::/125"]),
        pools(&["10.0.0.4-10.0.0.11"]),
        pools(&["fd00::2-fd00::9", "10.0.0.2", "10.0.0.9"]),
    ]
}

fn given_out(asked: &[Asked], pools: &[Pools; 3], own: &BTreeSet<IpAddr>) -> Vec<Assignment> {
    let requests: Vec<Request<'_>> = asked
        .iter()
        .map(|asked| Request {
            fixed: asked.fixed.iter().copied().collect(),
            wish: asked.pool.map_or(Wish::Nothing, |pool| Wish::From(&pools[pool])),
            had: &asked.had,
        })
        .collect();
    assign(&requests, own, true)
}

/// What each has now, as what it had before the next time.
fn next(asked: &[Asked], assignments: &[Assignment]) -> Vec<Asked> {
    let had = |a: &Assignment| a.fixed.iter().chain(&a.given).copied().collect();
    asked.iter().zip(assignments).map(|(asked, a)| Asked { had: had(a), ..asked.clone() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_gateways_share_an_address_of_a_pool(asked in asked(), own in prop::collection::btree_set(address(), 0..3)) {
        let pools = some_pools();
        let assignments = given_out(&asked, &pools, &own);
        let mut seen = BTreeSet::new();
        for (asked, assignment) in asked.iter().zip(&assignments) {
            for ip in &assignment.given {
                prop_assert!(seen.insert(*ip), "{ip} twice");
                prop_assert!(pools[asked.pool.unwrap()].contains(*ip));
                // Nobody is on it by a static address either, and what is static is not given to who did not have it.
                prop_assert!(assignments.iter().all(|other| !other.fixed.contains(ip)));
                let new = !asked.had.contains(ip);
                prop_assert!(!new || !own.contains(ip), "{ip} is the host's own");
            }
            let one_each: BTreeSet<Family> = assignment.given.iter().map(|ip| Family::of(*ip)).collect();
            prop_assert_eq!(one_each.len(), assignment.given.len());
        }
        let fixed: BTreeSet<IpAddr> = asked.iter().flat_map(|asked| asked.fixed.iter().copied()).collect();
        for (asked, assignment) in asked.iter().zip(&assignments) {
            prop_assert!(assignment.given.iter().all(|ip| !fixed.contains(ip) || asked.had.contains(ip)));
        }
    }

    #[test]
    fn what_is_given_stays_whatever_the_order_and_whoever_comes(
        asked in asked(), newcomers in asked(), seed in any::<usize>(),
    ) {
        let pools = some_pools();
        let own = BTreeSet::new();
        let first = given_out(&asked, &pools, &own);
        prop_assert_eq!(&given_out(&asked, &pools, &own), &first, "the same input, the same output");
        let again = next(&asked, &first);
        prop_assert_eq!(&given_out(&again, &pools, &own), &first);
        // Newcomers, who have nothing yet, come before, between and behind; even with static addresses they take
        // nothing from anybody.
        let mut all: Vec<(Asked, Option<usize>)> = again.iter().cloned().zip((0..).map(Some)).collect();
        for (n, newcomer) in newcomers.iter().enumerate() {
            let at = seed.wrapping_mul(n + 1) % (all.len() + 1);
            all.insert(at, (Asked { had: Vec::new(), ..newcomer.clone() }, None));
        }
        if !all.is_empty() {
            let turn = seed % all.len();
            all.rotate_left(turn);
        }
        let list: Vec<Asked> = all.iter().map(|(asked, _)| asked.clone()).collect();
        for (assignment, (_, before)) in given_out(&list, &pools, &own).iter().zip(&all) {
            let Some(before) = before else { continue };
            let kept = first[*before].given.iter().all(|ip| assignment.given.contains(ip));
            prop_assert!(kept, "{:?} became {:?}", first[*before], assignment);
            prop_assert!(first[*before].fixed.iter().all(|ip| assignment.fixed.contains(ip)));
        }
    }

    #[test]
    fn nothing_is_missing_while_something_is_free(asked in asked()) {
        let pools = some_pools();
        let assignments = given_out(&asked, &pools, &BTreeSet::new());
        let fixed = asked.iter().flat_map(|asked| asked.fixed.iter());
        let used: BTreeSet<IpAddr> = assignments.iter().flat_map(|a| &a.given).chain(fixed).copied().collect();
        for (asked, assignment) in asked.iter().zip(&assignments) {
            let Some(pool) = asked.pool.map(|pool| &pools[pool]) else { continue };
            for family in &assignment.missing {
                let mut all = (0..12u8).flat_map(|n| [
                    IpAddr::from([10, 0, 0, n]),
                    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)]),
                ]);
                prop_assert!(!all.any(|ip| Family::of(ip) == *family && pool.contains(ip) && !used.contains(&ip)));
            }
        }
    }
}
