//! `sluice get`: the objects that an agent serves, out of its store and its files.

use anyhow::Result;
use comfy_table::{Cell, Color};
use serde_json::{Value, json};

use super::apply::told;
use super::output::{self, Form};
use super::{Env, Exit, SocketArgs};
use crate::admin::client;
use crate::admin::view::{ObjectView, ObjectsView, conditions_of, negative};
use crate::agent::GetCall;
use crate::source::ObjectKind;

/// Show the objects that the agent serves: of a kind, or all.
///
/// With -o yaml or json as an API server would, with their status; what `-o yaml` prints can be applied again. The
/// values of Secrets are never shown.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kind, such as `httproute`, `HTTPRoutes`, `gtw` or `svc`; several with commas; `KIND/NAME`. None: all
    #[arg(value_name = "KIND", value_parser = parse)]
    which: Option<Which>,
    /// Name
    #[arg(value_name = "NAME", requires = "which")]
    name: Option<String>,
    /// Namespace [default: default; all if no KIND is given]
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    socket: SocketArgs,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

/// `KIND[,KIND…]` or `KIND/NAME`.
#[derive(Clone, Debug)]
struct Which {
    kinds: Vec<String>,
    name: Option<String>,
}

fn parse(text: &str) -> Result<Which> {
    let (kinds, name) = match text.split_once('/') {
        Some((kinds, name)) => (kinds, Some(name.to_owned())),
        None => (text, None),
    };
    if kinds == "all" {
        return Ok(Which { kinds: Vec::new(), name });
    }
    let kinds = kinds.split(',').map(|kind| Ok(kind.parse::<ObjectKind>()?.name().to_owned()));
    Ok(Which { kinds: kinds.collect::<Result<_>>()?, name })
}

pub(super) fn get(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let which = args.which.clone().unwrap_or(Which { kinds: Vec::new(), name: None });
    let name = which.name.or_else(|| args.name.clone());
    let everywhere = args.all_namespaces || which.kinds.is_empty();
    let namespace = match &args.namespace {
        Some(namespace) => Some(namespace.clone()),
        None => (!everywhere).then(|| "default".to_owned()),
    };
    let call = GetCall { kinds: which.kinds, namespace, name };
    let view: ObjectsView = client::send(&args.socket.admin_socket, "/get", &call)?;
    told(env, &[], &view.errors)?;
    if let (Some(name), []) = (&call.name, &view.objects[..]) {
        let kinds = if call.kinds.is_empty() { "object".to_owned() } else { call.kinds.join(", ") };
        let at =
            call.namespace.as_ref().map_or(String::new(), |namespace| format!(" in namespace {namespace}"));
        writeln!(env.stderr, "sluice: there is no {kinds} {name}{at}")?;
        return Ok(Exit::No);
    }
    let value = match (&call.name, &view.objects[..]) {
        (Some(_), [one]) => one.object.clone(),
        (_, all) => {
            let items: Vec<_> = all.iter().map(|view| &view.object).collect();
            json!({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}})
        }
    };
    if !output::print_as(env, args.output, &value)? {
        if view.objects.is_empty() {
            writeln!(env.stderr, "there are no objects")?;
        }
        let heading = ["KIND", "NAMESPACE", "NAME", "SOURCE", "GENERATION", "AGE", "STATUS"];
        output::table(env, &heading, &[4, 5], view.objects.iter().map(row).collect())?;
    }
    Ok(Exit::Yes)
}

fn row(view: &ObjectView) -> Vec<Cell> {
    let metadata = &view.object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let conditions = conditions_of(&view.object);
    let bad: Vec<_> = conditions.iter().filter(|condition| negative(condition)).collect();
    let status = match (&conditions[..], &bad[..]) {
        ([], _) => Cell::new("-"),
        (_, []) => Cell::new("ok").fg(Color::Green),
        (_, bad) => {
            let mut words: Vec<_> =
                bad.iter().map(|c| format!("{}={} ({})", c.kind, c.status, c.reason)).collect();
            words.dedup();
            Cell::new(words.join(", ")).fg(Color::Red)
        }
    };
    vec![
        Cell::new(text(&view.object["kind"])),
        Cell::new(text(&metadata["namespace"])),
        Cell::new(text(&metadata["name"])),
        Cell::new(&view.source),
        Cell::new(metadata["generation"].as_i64().map_or("-".to_owned(), |n| n.to_string())),
        Cell::new(age(metadata["creationTimestamp"].as_str())),
        status,
    ]
}

/// How long ago that was, as kubectl writes it: `5s`, `3m`, `7h`, `12d`.
fn age(created: Option<&str>) -> String {
    let Some(created) = created.and_then(|time| time.parse::<jiff::Timestamp>().ok()) else {
        return "-".to_owned();
    };
    let seconds = (jiff::Timestamp::now().as_second() - created.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}
