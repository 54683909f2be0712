//! What forwarded connections carry: every byte, whatever the devices leave to be done, and who is seen by whom.

use gateway_tests::client;

use super::forward_bed::{Bed, CASES, alive, all_forwarded, close, connect};

/// In bytes.
const GIGABYTE: usize = 1 << 30;

#[test]
fn the_endpoint_sees_the_client_or_the_reserved_ports() {
    let bed = Bed::new("seen");
    let listeners = bed.listeners();
    for forwarding in ["0", "1"] {
        bed.lab.gateway.sysctl("ipv4/ip_forward", forwarding);
        bed.lab.gateway.sysctl("ipv6/conf/all/forwarding", forwarding);
        let agent = bed.agent(&[]);
        for (case, listener) in CASES.iter().zip(&listeners) {
            for _ in 0..3 {
                let (near, far, seen) = connect(&bed.lab.client, case.asked(), listener);
                let client = near.local_addr().expect("an address");
                assert!(case.fits(seen, client), "{case:?}: {client} is seen as {seen}");
                alive(&near, &far);
                close(&near, &far);
            }
        }
        all_forwarded(&agent);
    }
}

/// So many bytes each way, by each way through the gateway.
fn carry(bed: &Bed, sizes: &[usize]) {
    let _echoes = bed.echoes();
    let agent = bed.agent(&[]);
    for size in sizes {
        for case in &CASES {
            let name = client::tcp(&bed.lab.client, case.asked(), *size)
                .unwrap_or_else(|e| panic!("{case:?}: {size} bytes: {e}"));
            assert_eq!(name, case.name, "{size}");
        }
    }
    all_forwarded(&agent);
}

#[test]
fn a_gigabyte_each_way_at_once_arrives() {
    carry(&Bed::new("bytes"), &[0, 1, 100_000, GIGABYTE]);
}

#[test]
fn what_is_sent_with_whole_checksums_arrives_with_right_ones() {
    let bed = Bed::new("checksums");
    bed.offload("tx off rx off");
    carry(&bed, &[0, 1, 100_000, GIGABYTE / CASES.len()]);
}

#[test]
fn a_gigabyte_in_single_packets_arrives() {
    let bed = Bed::new("packets");
    bed.offload("tso off gso off gro off");
    carry(&bed, &[0, 1, 100_000, GIGABYTE / CASES.len()]);
}
