//! `sluice apply`: objects into the store of a running agent.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::output::{self, Form};
use super::{Env, Exit, SocketArgs};
use crate::admin::client;
use crate::admin::view::{AppliedView, DiagnosticView, OutcomeView};
use crate::agent::ApplyCall;
use crate::source::{self, EndpointFlag, Given};

/// Objects to apply.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GivenArgs {
    /// File, or directory of *.yaml, *.yml and *.json files, with Kubernetes objects; `-` is standard input.
    /// Can be repeated: all of it is one input
    #[arg(short, long = "file", value_name = "FILE|DIR", required_unless_present = "endpoints")]
    files: Vec<PathBuf>,
    /// An endpoint for a Service. Makes the Service if it is not in the input, and replaces what was given so for the
    /// Service before. Can be repeated
    #[arg(long = "endpoint", value_name = "NAMESPACE/SERVICE[:PORT]=ADDRESS:PORT")]
    endpoints: Vec<EndpointFlag>,
}

impl GivenArgs {
    /// Reads the files.
    pub(super) fn call(&self, dry_run: bool) -> Result<ApplyCall> {
        let endpoints = self.endpoints.iter().map(ToString::to_string).collect();
        Ok(ApplyCall { documents: documents(&self.files)?, endpoints, dry_run })
    }
}

/// Reads files as they are.
pub(super) fn documents(files: &[PathBuf]) -> Result<Vec<Given>> {
    source::given(files).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })
}

/// Apply objects: the running agent keeps them, over restarts too, and serves them.
///
/// All or nothing: with an error in any document nothing is changed. What is there already is replaced by what is
/// given; nothing is deleted. Tells what became of each object, and its conditions. Objects in the agent's own files
/// cannot be applied over.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    given: GivenArgs,
    #[command(flatten)]
    socket: SocketArgs,
    /// Only tell what would become of the objects
    #[arg(long)]
    dry_run: bool,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

pub(super) fn apply(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let call = args.given.call(args.dry_run)?;
    let view: AppliedView = client::send(&args.socket.admin_socket, "/apply", &call)?;
    applied(env, args.output, &view, args.dry_run)
}

/// Prints what became of objects.
pub(super) fn applied(env: &mut Env<'_>, form: Form, view: &AppliedView, dry_run: bool) -> Result<Exit> {
    let exit = if view.errors.is_empty() { Exit::Yes } else { Exit::No };
    if output::print_as(env, form, view)? {
        return Ok(exit);
    }
    told(env, &view.errors, &view.warnings)?;
    if exit == Exit::No {
        bail!("the input is refused and nothing was changed");
    }
    let note = if dry_run { " (dry run)" } else { "" };
    for object in &view.objects {
        writeln!(env.stdout, "{} {}{note}", name(object), object.outcome)?;
    }
    if let Some(status) =
        view.status.as_ref().filter(|status| !dry_run && status.conditions().next().is_some())
    {
        writeln!(env.stdout)?;
        output::status(env, status)?;
    }
    Ok(Exit::Yes)
}

/// Prints errors and warnings to standard error.
pub(super) fn told(env: &mut Env<'_>, errors: &[DiagnosticView], warnings: &[DiagnosticView]) -> Result<()> {
    for (word, diagnostics) in [("error", errors), ("warning", warnings)] {
        for diagnostic in diagnostics {
            writeln!(env.stderr, "{word}: {}", output::diagnostic_of(diagnostic))?;
        }
    }
    Ok(())
}

/// `HTTPRoute default/app`.
pub(super) fn name(object: &OutcomeView) -> String {
    match object.namespace.as_str() {
        "" => format!("{} {}", object.kind, object.name),
        namespace => format!("{} {namespace}/{}", object.kind, object.name),
    }
}
