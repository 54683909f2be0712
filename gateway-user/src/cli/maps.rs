//! `sluice maps`: what the kernel's maps hold and counted.

use anyhow::Result;
use comfy_table::Cell;

use super::output;
use super::{AskArgs, Env, Exit};
use crate::admin::client;
use crate::admin::view::MapsView;

/// Show the kernel's maps: size and fill, lookups by binding and verdict, misses.
///
/// A hit is a lookup that found a binding; there is at least one for each connection.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) fn maps(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let view: MapsView = client::get(&args.ask.socket.admin_socket, "/maps")?;
    if output::print_as(env, args.ask.output, &view)? {
        return Ok(Exit::Yes);
    }
    let maps = view.maps.iter().map(|map| {
        vec![
            Cell::new(&map.name),
            Cell::new(&map.kind),
            Cell::new(map.used),
            Cell::new(map.capacity),
            Cell::new(format!("{:.1}%", f64::from(map.used) * 100.0 / f64::from(map.capacity.max(1)))),
            Cell::new(format!("{}+{}", map.key_bytes, map.value_bytes)),
        ]
    });
    let heading = ["MAP", "KIND", "USED", "CAPACITY", "FILL", "KEY+VALUE BYTES"];
    output::table(env, &heading, &[2, 3, 4, 5], maps.collect())?;
    let bindings = view.bindings.iter().map(|binding| {
        let action = match binding.idle_seconds {
            Some(seconds) => format!("{}, idle {seconds}s", binding.action),
            None => binding.action.clone(),
        };
        let mut row = vec![
            Cell::new(&binding.address),
            Cell::new(format!("{}/{}", binding.port, binding.protocol)),
            Cell::new(action),
            Cell::new(binding.listeners.join(",")),
        ];
        let lookups = &binding.lookups;
        let counts = [binding.hits, lookups.steered, lookups.rejected, lookups.no_socket, lookups.failed];
        row.extend(counts.map(Cell::new));
        row
    });
    let heading =
        ["ADDRESS", "PORT", "ACTION", "LISTENERS", "HITS", "STEERED", "REJECTED", "NO SOCKET", "FAILED"];
    output::table(env, &heading, &[4, 5, 6, 7, 8], bindings.collect())?;
    writeln!(env.stdout, "misses: {}", view.misses)?;
    Ok(Exit::Yes)
}
