//! Internet checksums (RFC 1071), each summed up from nothing over the bytes that it covers.
//!
//! Owns the specification that the kernel's arithmetic on differences is held against; knows none of that arithmetic.

use std::net::IpAddr;

use gateway_ebpf::abi::UDP;

/// The one's complement sum of 16-bit words, the last one filled up with zero.
fn sum(parts: &[&[u8]]) -> u32 {
    let mut sum = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum
}

/// The checksum over parts that are of an even length each, but the last.
pub(super) fn of(parts: &[&[u8]]) -> u16 {
    !(sum(parts) as u16)
}

/// The checksum over a transport header with its data, whose checksum field counts as zero, and the pseudo header
/// (RFC 9293, 3.1; RFC 768; RFC 8200, 8.1).
pub(super) fn transport(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    field: usize,
    segment: &[u8],
) -> u16 {
    let length = (segment.len() as u32).to_be_bytes();
    let next = [0, protocol];
    let pair = match (source, destination) {
        (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets().to_vec(), b.octets().to_vec()].concat(),
        (a, b) => [six(a), six(b)].concat(),
    };
    let checksum = of(&[&pair, &length, &next, &segment[..field], &segment[field + 2..]]);
    // Zero says that there is none (RFC 768).
    if checksum == 0 && protocol == UDP { 0xffff } else { checksum }
}

fn six(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// What the field holds after a change, given the checksums over what is there before and after it. One that was right
/// is right again; one that was wrong stays so, by as much: the receiver shall find out. So it is with that of a
/// fragment, most of whose words are elsewhere.
pub(super) fn follow(field: u16, before: u16, after: u16, protocol: u8) -> u16 {
    if field == before {
        return after;
    }
    let wrong = sum(&[&field.to_be_bytes(), &(!before).to_be_bytes()]);
    let new = sum(&[&after.to_be_bytes(), &(wrong as u16).to_be_bytes()]) as u16;
    match new {
        // A sum's two zeros: what is summed up is never nothing, so the field is not 0xffff; UDP says it the other way.
        0 | 0xffff => {
            if protocol == UDP {
                0xffff
            } else {
                0
            }
        }
        new => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_ebpf::abi::TCP;

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        assert_eq!(!of(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), 0xddf2);
        assert_eq!(!of(&[&[0x00, 0x01], &[0xf2]]), 0xf201, "an odd byte is the upper one");
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        let at = "10.0.0.1".parse().unwrap();
        // The last two bytes make up for the rest.
        let mut segment = [0, 1, 0, 2, 0, 10, 0, 0, 0, 0];
        let rest = transport(at, at, UDP, 6, &segment);
        segment[8..].copy_from_slice(&rest.to_be_bytes());
        assert_eq!(transport(at, at, UDP, 6, &segment), 0xffff);
        assert_eq!(transport(at, at, TCP, 6, &segment), 11, "the protocol's number counts");
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much() {
        for (field, before, after, want) in [
            (7, 7, 9, 9),
            (8, 7, 9, 10),
            (6, 7, 9, 8),
            (7, 9, 1, 0xfffe),
            (0xfffe, 7, 0xffff - 0xfff7, 0xffff),
        ] {
            assert_eq!(follow(field, before, after, UDP), want, "{field} {before} {after}");
        }
    }
}
