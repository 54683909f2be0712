//! How answers are laid out: JSON, YAML, and tables for a person.

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use super::Env;
use crate::admin::view::{ConditionView, DiagnosticView, StatusView, negative};
use crate::source::Diagnostic;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// For a person
    Table,
    /// For programs
    Json,
    /// For programs and persons
    Yaml,
}

/// Prints a value as JSON or YAML; `false` if a table is wanted.
pub(super) fn print_as(env: &mut Env<'_>, form: Form, value: &impl Serialize) -> Result<bool> {
    match form {
        Form::Table => return Ok(false),
        Form::Json => {
            serde_json::to_writer_pretty(&mut *env.stdout, value).map_err(std::io::Error::from)?;
            writeln!(env.stdout)?;
        }
        Form::Yaml => env.stdout.write_all(serde_yaml::to_string(value)?.as_bytes())?,
    }
    Ok(true)
}

/// Prints a table with a heading, unless it is empty. Numbers stand to the right if `right` names their column.
pub(super) fn table(
    env: &mut Env<'_>,
    heading: &[&str],
    right: &[usize],
    rows: Vec<Vec<Cell>>,
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = env.width {
        // What is too long for its column goes on below it; the terminal itself would break the row anywhere.
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(heading.iter().copied()).add_rows(rows);
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    for (column, heading) in table.column_iter_mut().zip(heading) {
        let padding = 2;
        let least = u16::try_from(heading.len()).unwrap_or(u16::MAX).saturating_add(padding);
        column.set_padding((0, padding)).set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
    }
    if env.colors {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    writeln!(env.stdout, "{}\n", table.trim_fmt())?;
    Ok(())
}

/// A status as tables, and below them what is not as it should be.
pub(super) fn status(env: &mut Env<'_>, view: &StatusView) -> Result<()> {
    let mut listeners = Vec::new();
    let mut gateways = Vec::new();
    for gateway in &view.gateways {
        let name = format!("{}/{}", gateway.namespace, gateway.name);
        for listener in &gateway.listeners {
            let mut row = vec![
                Cell::new(format!("{name}/{}", listener.name)),
                Cell::new(&listener.protocol),
                Cell::new(listener.port),
                Cell::new(or(&listener.hostname, "*")),
                Cell::new(listener.attached_routes),
            ];
            row.extend(conditions(&listener.conditions, &["Accepted", "Programmed", "ResolvedRefs"]));
            listeners.push(row);
        }
        let mut row = vec![
            Cell::new(name),
            Cell::new(&gateway.class),
            Cell::new(or(&gateway.addresses.join(","), "-")),
        ];
        row.extend(conditions(&gateway.conditions, &["Accepted", "Programmed"]));
        gateways.push(row);
    }
    let mut routes = Vec::new();
    for route in &view.routes {
        for parent in &route.parents {
            let mut row = vec![
                Cell::new(&route.kind),
                Cell::new(format!("{}/{}", route.namespace, route.name)),
                Cell::new(parent.parent_ref.to_string()),
            ];
            row.extend(conditions(&parent.conditions, &["Accepted", "ResolvedRefs"]));
            routes.push(row);
        }
    }
    table(env, &["GATEWAY", "CLASS", "ADDRESSES", "ACCEPTED", "PROGRAMMED"], &[], gateways)?;
    table(
        env,
        &["LISTENER", "PROTOCOL", "PORT", "HOSTNAME", "ROUTES", "ACCEPTED", "PROGRAMMED", "RESOLVEDREFS"],
        &[2, 4],
        listeners,
    )?;
    table(env, &["ROUTE", "NAME", "PARENT", "ACCEPTED", "RESOLVEDREFS"], &[], routes)?;
    let mut names = Vec::new();
    for external in &view.external_names {
        let addresses = Cell::new(or(&external.addresses.join(","), "-"));
        names.push(vec![
            Cell::new(format!("{}/{}", external.namespace, external.name)),
            Cell::new(&external.external_name),
            if external.addresses.is_empty() { addresses.fg(Color::Red) } else { addresses },
        ]);
    }
    table(env, &["SERVICE", "EXTERNALNAME", "ADDRESSES"], &[], names)?;
    for (place, condition) in view.conditions().filter(|(_, condition)| negative(condition)) {
        let ConditionView { kind, status, reason, message, .. } = condition;
        writeln!(env.stdout, "{place}: {kind}={status} ({reason}): {message}")?;
    }
    for external in &view.external_names {
        for words in external.words() {
            writeln!(env.stdout, "{words}")?;
        }
    }
    for note in &view.notes {
        writeln!(env.stdout, "note: {note}")?;
    }
    Ok(())
}

/// The diagnostic that a view shows, for its words.
pub(super) fn diagnostic_of(view: &DiagnosticView) -> Diagnostic {
    let DiagnosticView { file, line, column, object, field, value, message, remedy } = view.clone();
    Diagnostic { file, line, column, object, field, value, message, remedy }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// A cell for each of these types: its status, with the reason where it is not as it should be.
fn conditions<'a>(all: &'a [ConditionView], kinds: &'a [&str]) -> impl Iterator<Item = Cell> + 'a {
    kinds.iter().map(|kind| match all.iter().find(|condition| condition.kind == *kind) {
        None => Cell::new("-"),
        Some(c) if negative(c) => Cell::new(format!("{} ({})", c.status, c.reason)).fg(Color::Red),
        Some(c) => Cell::new(&*c.status).fg(Color::Green),
    })
}
