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
/// Exits with 1 on errors, with --strict also if a condition is not as it should be.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// Exit with 1 also if a condition is not as it should be
    #[arg(long)]
    strict: bool,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

pub(super) fn check(env: &mut Env<'_>, args: Args) -> Result<Exit> {
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
        .map_or(0, |status| status.conditions().iter().filter(|(_, condition)| negative(condition)).count());
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
