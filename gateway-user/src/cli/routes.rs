//! `sluice routes`: what is served where.

use anyhow::Result;
use comfy_table::Cell;

use super::explain::{Offline, Whose, print};
use super::output::{self, Form};
use super::{Env, Exit};
use crate::admin::client;
use crate::admin::view::{RoutesView, ServedView};
use crate::agent;

/// Show what is served where, in the order in which it is tried.
///
/// Asks the running agent; with -f, shows what an input would serve.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Whose,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

pub(super) fn routes(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let view: RoutesView = if let Some(socket) = args.place.agent() {
        client::get(socket, "/routes")?
    } else {
        let Some(Offline { snapshot, .. }) = args.place.load(env)? else { return Ok(Exit::No) };
        agent::routes(&snapshot, None)
    };
    if output::print_as(env, args.output, &view)? {
        return Ok(Exit::Yes);
    }
    let filtered = view.routes.iter().any(|served| !filters(served).is_empty());
    let rows = view.routes.iter().map(|served| {
        let hostname = served.matched.as_ref().map_or("", |matched| &*matched.hostname);
        let hostname = if hostname.is_empty() { &served.listener.hostname } else { hostname };
        let backends = served.backends.iter().map(|backend| {
            let weight = backend.weight.filter(|_| served.backends.len() > 1);
            let weight = weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
            format!("{}{weight} ({})", backend.name, print::endpoints(backend))
        });
        let mut backends = backends.collect::<Vec<_>>().join(", ");
        if served.route.is_none() {
            backends = match &*served.protocol {
                "UDP" => "datagrams are dropped".to_owned(),
                _ => "connections are reset".to_owned(),
            };
        } else if backends.is_empty() {
            backends = served.status.map_or("-".to_owned(), |status| status.to_string());
        }
        let carrier = match (&*served.protocol, served.tls) {
            ("UDP", _) => "/UDP",
            (_, true) => "/TLS",
            _ => "",
        };
        let mut row = vec![
            Cell::new(format!("{}:{}{carrier}", print::address(&served.address), served.port)),
            Cell::new(&served.listener.name),
            Cell::new(if hostname.is_empty() { "*" } else { hostname }),
            Cell::new(served.matched.as_ref().map_or("-", |matched| &*matched.text)),
            Cell::new(served.route.as_ref().map_or("-".to_owned(), |route| {
                format!("{} {}/{}", route.kind, route.namespace, route.name)
            })),
            Cell::new(&served.rule),
            Cell::new(backends),
        ];
        if filtered {
            row.push(Cell::new(filters(served)));
        }
        row
    });
    let heading = ["ADDRESS", "LISTENER", "HOSTNAME", "MATCH", "ROUTE", "RULE", "BACKENDS", "FILTERS"];
    let heading = &heading[..heading.len() - usize::from(!filtered)];
    output::table(env, heading, &[], rows.collect())?;
    if view.routes.is_empty() {
        writeln!(env.stdout, "nothing is served; see `sluice status`")?;
    }
    for note in &view.notes {
        writeln!(env.stdout, "note: {note}")?;
    }
    Ok(Exit::Yes)
}

/// The filters of a rule, and those of its backends where they differ.
fn filters(served: &ServedView) -> String {
    let own = served.filters.iter().map(print::filter_text);
    let differ = served.backends.iter().filter(|backend| backend.filters != served.filters);
    let of_backends = differ.flat_map(|backend| {
        backend.filters.iter().map(|filter| format!("{}, for {}", print::filter_text(filter), backend.name))
    });
    own.chain(of_backends).collect::<Vec<_>>().join("; ")
}
