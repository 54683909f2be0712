//! `sluice delete`: objects out of the store of a running agent.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::apply::{applied, documents, name};
use super::output::Form;
use super::{Env, Exit, SocketArgs};
use crate::admin::client;
use crate::admin::view::AppliedView;
use crate::agent::DeleteCall;
use crate::source::ObjectKind;

/// Delete objects that were applied, by kind and name or by file.
///
/// What of it is there is deleted, all or nothing. Objects in the agent's own files cannot be deleted here. Exits
/// with 1 if an object was not there.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kind, such as `httproute`, `HTTPRoute` or `gtw`
    #[arg(value_name = "KIND", required_unless_present = "files", requires = "names")]
    kind: Option<ObjectKind>,
    /// Names
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Namespace of the objects that are named
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// File, or directory of *.yaml, *.yml and *.json files, that names the objects; `-` is standard input. Can be
    /// repeated
    #[arg(short, long = "file", value_name = "FILE|DIR", conflicts_with = "kind")]
    files: Vec<PathBuf>,
    /// It is no error if an object is not there
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    socket: SocketArgs,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

pub(super) fn delete(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let kinds = args.kind.iter().map(|kind| kind.name().to_owned());
    let objects = kinds.flat_map(|kind| {
        args.names.iter().map(move |name| (kind.clone(), Some(args.namespace.clone()), name.clone()))
    });
    let call = DeleteCall { documents: documents(&args.files)?, objects: objects.collect() };
    if call.documents.is_empty() && call.objects.is_empty() {
        bail!("there is no *.yaml, *.yml or *.json file, so nothing is to be deleted");
    }
    let view: AppliedView = client::send(&args.socket.admin_socket, "/delete", &call)?;
    let exit = applied(env, args.output, &view, false)?;
    if args.ignore_not_found || view.missing.is_empty() {
        return Ok(exit);
    }
    for object in &view.missing {
        writeln!(env.stderr, "sluice: {} is not there", name(object))?;
    }
    Ok(Exit::No)
}
