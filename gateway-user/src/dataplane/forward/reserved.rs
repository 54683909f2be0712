//! `net.ipv4.ip_local_reserved_ports`: the ports that forwarding takes are kept from the host's own connections.
//!
//! Owns our entry in it. Others' stay.

use std::fs;
use std::io;
use std::ops::RangeInclusive;

/// The setting of the network namespace of whoever opens it.
const PATH: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Reserves a range, and no longer the one of before, if there is one.
///
/// # Errors
/// The setting cannot be read or written.
pub(super) fn reserve(
    before: Option<RangeInclusive<u16>>,
    range: Option<RangeInclusive<u16>>,
) -> io::Result<()> {
    let text = fs::read_to_string(PATH)?;
    let new = merged(&text, before, range);
    if new == text.trim() { Ok(()) } else { fs::write(PATH, new + "\n") }
}

/// The list without one range and with another, as the kernel prints it.
fn merged(text: &str, without: Option<RangeInclusive<u16>>, with: Option<RangeInclusive<u16>>) -> String {
    let mut ports = vec![false; usize::from(u16::MAX) + 1];
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (first..=last).for_each(|port| ports[usize::from(port)] = true);
        }
    }
    without.into_iter().flatten().for_each(|port| ports[usize::from(port)] = false);
    with.into_iter().flatten().for_each(|port| ports[usize::from(port)] = true);
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(first) = (at..ports.len()).find(|port| ports[*port]) {
        at = (first..ports.len()).find(|port| !ports[*port]).unwrap_or(ports.len());
        parts.push(if at - first == 1 { first.to_string() } else { format!("{first}-{}", at - 1) });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_entries_stay() {
        for (text, without, with, result) in [
            ("\n", None, Some(40_000..=59_999), "40000-59999"),
            ("8080,9148-9150\n", None, Some(40_000..=40_001), "8080,9148-9150,40000-40001"),
            ("8080,40000-59999", Some(40_000..=59_999), None, "8080"),
            ("40000-59999", Some(40_000..=59_999), Some(1..=1), "1"),
            ("39999-40005", None, Some(40_000..=40_010), "39999-40010"),
            ("65535", None, Some(65_534..=65_534), "65534-65535"),
            ("", Some(1..=5), None, ""),
        ] {
            assert_eq!(merged(text, without, with), result, "{text:?}");
        }
    }
}
