//! `sluice diff`: what applying would change.

use anyhow::Result;
use similar::TextDiff;

use super::apply::{GivenArgs, name, told};
use super::output::{self, Form};
use super::{Env, Exit, SocketArgs};
use crate::admin::client;
use crate::admin::view::{DifferenceView, DifferencesView};

/// Show what `sluice apply` would change, as a unified diff.
///
/// Secrets are not shown, only that they differ. Exits with 0 if nothing would change, with 1 if something would, and
/// with 2 if that cannot be told, because the input has errors or no agent runs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    given: GivenArgs,
    #[command(flatten)]
    socket: SocketArgs,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

pub(super) fn diff(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let answer = || -> Result<DifferencesView> {
        let call = args.given.call(true)?;
        Ok(client::send(&args.socket.admin_socket, "/diff", &call)?)
    };
    let view = match answer() {
        Ok(view) => view,
        Err(error) => {
            writeln!(env.stderr, "sluice: {error:#}")?;
            return Ok(Exit::Usage);
        }
    };
    if !output::print_as(env, args.output, &view)? {
        told(env, &view.errors, &view.warnings)?;
        for difference in &view.differences {
            show(env, difference)?;
        }
    }
    Ok(match (view.errors.is_empty(), view.differences.is_empty()) {
        (false, _) => Exit::Usage,
        (true, false) => Exit::No,
        (true, true) => Exit::Yes,
    })
}

fn show(env: &mut Env<'_>, difference: &DifferenceView) -> Result<()> {
    let DifferenceView { object, before, after } = difference;
    let title = name(object);
    let side = |side: &str, text: &str| {
        if text.is_empty() { "/dev/null".to_owned() } else { format!("{side}/{title}") }
    };
    let diff = TextDiff::from_lines(before.as_str(), after.as_str());
    let text = diff.unified_diff().header(&side("stored", before), &side("given", after)).to_string();
    if text.is_empty() {
        writeln!(env.stdout, "{title} {}", object.outcome)?;
    }
    for line in text.lines() {
        let color = match line.as_bytes().first() {
            Some(b'+') => "32",
            Some(b'-') => "31",
            Some(b'@') => "36",
            _ => "0",
        };
        if env.colors {
            writeln!(env.stdout, "\u{1b}[{color}m{line}\u{1b}[0m")?;
        } else {
            writeln!(env.stdout, "{line}")?;
        }
    }
    Ok(())
}
