//! `lint`: rustfmt, clippy and cargo-deny over the whole workspace.

use anyhow::Result;

use crate::sh;

/// Runs every linter; the first that complains ends it.
pub(crate) fn run() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    sh::run(sh::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}
