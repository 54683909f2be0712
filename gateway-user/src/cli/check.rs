//! `sluice check`: what an input would come to, without kernel or agent.

use anyhow::Result;

use super::output::{self, Form};
use super::{Env, Exit, InputArgs};
use crate::admin::view::{CheckView, StatusView, negative};
use crate::agent::diagnostic_view;
use crate::core::compile::compile;
use crate::core::host::Host;
use crate::core::snapshot::Ids;
use crate::source::FileSource;

/// Check an input: errors, warnings, and the conditions that its objects would get.
///
/// Needs no privilege, no kernel and no agent, and knows nothing of the host's addresses and listening processes.
/// Exits with 1 on errors, with --strict also if a condition is not as it should be. With --upgrade it prints the input
/// in today's form instead, as YAML: all documents, with their comments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// Exit with 1 also if a condition is not as it should be
    #[arg(long)]
    strict: bool,
    /// Print the input in today's version of the API; what is in it already stays as it is written
    #[arg(long, conflicts_with_all = ["strict", "output"])]
    upgrade: bool,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

pub(super) fn check(env: &mut Env<'_>, args: Args) -> Result<Exit> {
    if args.upgrade {
        return upgrade(env, args.input);
    }
    let (view, diagnostics, warnings) = match FileSource::new(args.input.files, args.input.endpoints).load() {
        Ok(loaded) => {
            let snapshot = compile(&loaded.model, &Host::default(), &Ids::default(), 1);
            let mut status = StatusView::new(&snapshot.report, &loaded.model, None);
            for name in &mut status.external_names {
                name.problem = Some("names are looked up by the agent, not by `sluice check`".to_owned());
            }
            let view = CheckView {
                errors: Vec::new(),
                warnings: loaded.warnings.iter().map(diagnostic_view).collect(),
                status: Some(status),
            };
            (view, Vec::new(), loaded.warnings)
        }
        Err(errors) => {
            let view =
                CheckView { errors: errors.iter().map(diagnostic_view).collect(), ..CheckView::default() };
            (view, errors, Vec::new())
        }
    };
    let bad = view
        .status
        .as_ref()
        .map_or(0, |status| status.conditions().filter(|(_, condition)| negative(condition)).count());
    if !output::print_as(env, args.output, &view)? {
        for error in &diagnostics {
            writeln!(env.stdout, "error: {error}")?;
        }
        for warning in &warnings {
            writeln!(env.stdout, "warning: {warning}")?;
        }
        if let Some(status) = &view.status {
            if !warnings.is_empty() {
                writeln!(env.stdout)?;
            }
            output::status(env, status)?;
        }
        let (errors, warnings) = (diagnostics.len(), warnings.len());
        writeln!(
            env.stdout,
            "errors: {errors}, warnings: {warnings}, conditions not as they should be: {bad}"
        )?;
    }
    Ok(if view.errors.is_empty() && !(args.strict && bad > 0) { Exit::Yes } else { Exit::No })
}

/// Prints today's YAML; what it could not say goes to standard error.
fn upgrade(env: &mut Env<'_>, input: InputArgs) -> Result<Exit> {
    let upgraded = match FileSource::new(input.files, input.endpoints).upgrade() {
        Ok(upgraded) => upgraded,
        Err(errors) => {
            for error in &errors {
                writeln!(env.stderr, "error: {error}")?;
            }
            return Ok(Exit::No);
        }
    };
    env.stdout.write_all(upgraded.text.as_bytes())?;
    let compiled = |model| compile(model, &Host::default(), &Ids::default(), 1);
    let (before, after) = (compiled(&upgraded.before.model), compiled(&upgraded.after.model));
    if before.image != after.image || before.series != after.series {
        writeln!(
            env.stderr,
            "warning: today's form does not serve all that the input serves; compare `sluice check` of both"
        )?;
    }
    Ok(Exit::Yes)
}
