//! Durations as the Gateway API writes them (GEP-2257): `1h30m`, `500ms`.
//!
//! Owns the format. Must not know what is timed.

use std::time::Duration;

/// One to four of a number of at most five digits and h, m, s or ms; the same unit may come again.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok().filter(|_| digits <= 5)?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        total += match &rest[digits..unit] {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        } * number;
        rest = &rest[unit..];
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_gep_lists() {
        for (text, millis) in [
            ("0h", Some(0)),
            ("1h", Some(3_600_000)),
            ("1m10s", Some(70_000)),
            ("500ms", Some(500)),
            ("2h34m1s3ms", Some(9_241_003)),
            ("99999h99999h99999h99999h", Some(4 * 99_999 * 3_600_000)),
            ("", None),
            ("1", None),
            ("s", None),
            ("1.5h", None),
            ("-1s", None),
            ("100000s", None),
            ("1h1m1s1ms1ms", None),
            ("1us", None),
            ("1 s", None),
        ] {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
