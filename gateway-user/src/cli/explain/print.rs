//! An explanation laid out for a person.
//!
//! Owns the layout alone.

use anyhow::Result;
use comfy_table::{Cell, Color};

use crate::admin::view::{
    AnswerView, BackendView, CandidateView, EndpointView, EndsView, ExplainView, FilterView, KernelView,
    ListenerRefView, MatchView, QuestionView,
};
use crate::cli::Env;
use crate::cli::output::table;
use crate::core::transport::Transport;

/// Candidates that are shown unless all are asked for.
const SHOWN: usize = 20;

pub(super) fn view(env: &mut Env<'_>, question: &QuestionView, view: &ExplainView, all: bool) -> Result<()> {
    let what = match question {
        QuestionView::Http { method, target, headers, .. } => {
            let host = headers.iter().find(|h| h.name.eq_ignore_ascii_case("host"));
            format!("{method} {target} for {}", host.map_or("no host", |h| &*h.value))
        }
        QuestionView::Tcp(EndsView { to, from }) => format!("connection from {from} to {to}"),
        QuestionView::Udp(EndsView { to, from }) => format!("datagrams from {from} to {to}"),
    };
    for answer in &view.answers {
        writeln!(env.stdout, "{what}: {}\n", verdict(answer))?;
        facts(env, question, answer)?;
        backends(env, &answer.backends)?;
        if !answer.forwarded.is_empty() {
            let alike = answer.backends.windows(2).all(|pair| pair[0].filters == pair[1].filters);
            let first = answer.backends.iter().find(|b| b.share > 0.0 && b.message.is_empty());
            match first.filter(|_| !alike) {
                Some(first) => writeln!(env.stdout, "backend {} gets:", first.name)?,
                None => writeln!(env.stdout, "the backend gets:")?,
            }
            for line in &answer.forwarded {
                writeln!(env.stdout, "  {line}")?;
            }
            writeln!(env.stdout)?;
        }
        candidates(env, &answer.candidates, all)?;
    }
    for note in &view.notes {
        writeln!(env.stdout, "note: {note}")?;
    }
    Ok(())
}

fn verdict(answer: &AnswerView) -> String {
    if let (Some(location), Some(status)) = (&answer.location, answer.status) {
        return format!("redirected ({status}) to {location}");
    }
    if answer.served {
        return match (answer.pick, answer.message.as_str()) {
            (Some(pick), _) => format!("served by {pick}"),
            (None, "") => "served".to_owned(),
            (None, message) => message.to_owned(),
        };
    }
    let status = answer.status.map(|status| format!(" ({status})")).unwrap_or_default();
    let remedy =
        if answer.remedy.is_empty() { String::new() } else { format!("\nwhat to do: {}", answer.remedy) };
    format!("not served{status}: {}{remedy}", answer.message)
}

fn facts(env: &mut Env<'_>, question: &QuestionView, answer: &AnswerView) -> Result<()> {
    let mut lines: Vec<(&str, String)> = Vec::new();
    if let Some(place) = &answer.binding {
        lines.push((
            "binding",
            format!("{}:{} ({})", address(&place.address), place.port, place.listeners.join(", ")),
        ));
    }
    lines.extend(answer.kernel.as_ref().map(|k| ("kernel", kernel(k, question.transport()))));
    if let Some(ListenerRefView { name, hostname }) = &answer.listener {
        let hostname = if hostname.is_empty() { String::new() } else { format!(" (hostname {hostname})") };
        lines.push(("listener", format!("{name}{hostname}")));
    }
    if let Some(route) = &answer.route {
        lines.push(("route", format!("{} {}/{}", route.kind, route.namespace, route.name)));
    }
    lines.extend(answer.rule.clone().map(|rule| ("rule", rule)));
    lines.extend(answer.matched.as_ref().map(|matched| ("match", match_text(matched))));
    lines.extend(answer.filters.iter().map(|filter| ("filter", filter_text(filter))));
    for backend in answer.backends.iter().filter(|backend| backend.filters != answer.filters) {
        let of_backend = |filter| ("filter", format!("{}, for {}", filter_text(filter), backend.name));
        lines.extend(backend.filters.iter().map(of_backend));
    }
    if !answer.order.is_empty() {
        let order: Vec<String> = answer.order.iter().map(ToString::to_string).collect();
        lines.push(("tried", order.join(", then ")));
    }
    if answer.affinity.is_some() {
        let all = match question.transport() {
            Transport::Tcp => "connections",
            Transport::Udp => "flows",
        };
        lines.push(("picked", format!("by the client's address alone: the same for all of its {all}")));
    }
    if let Some(seconds) = answer.idle_seconds {
        lines.push(("idle", format!("ends after {seconds} s without a packet")));
    }
    for (name, value) in &lines {
        writeln!(env.stdout, "{name:<9}{value}")?;
    }
    if !lines.is_empty() {
        writeln!(env.stdout)?;
    }
    Ok(())
}

fn kernel(kernel: &KernelView, transport: Transport) -> String {
    let KernelView { action, verdict, worker, workers } = kernel;
    match (worker, verdict, workers) {
        (Some(worker), _, _) => match transport {
            Transport::Tcp => format!("{action}: to worker {worker}, as their loads are now"),
            Transport::Udp => format!("{action}: to worker {worker}"),
        },
        (None, Some(verdict), _) => format!("{action}: {verdict}"),
        (None, None, Some(1)) => format!("{action}: to worker 0"),
        (None, None, Some(workers)) if action != "Reject" => format!("{action}: to one of {workers} workers"),
        _ => action.clone(),
    }
}

/// An address as it stands before a port.
pub(in crate::cli) fn address(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// A match in a line.
pub(in crate::cli) fn match_text(matched: &MatchView) -> String {
    let hostname =
        if matched.hostname.is_empty() { String::new() } else { format!(" (hostname {})", matched.hostname) };
    format!("{}: {}{hostname}", matched.index, matched.text)
}

/// A filter in a line.
pub(in crate::cli) fn filter_text(filter: &FilterView) -> String {
    format!("{}: {}", filter.kind, filter.text)
}

/// Endpoints in a cell, or why there is none.
pub(in crate::cli) fn endpoints(backend: &BackendView) -> String {
    if !backend.message.is_empty() {
        return match backend.status {
            Some(status) => format!("{status}: {}", backend.message),
            None => backend.message.clone(),
        };
    }
    let one = |endpoint: &EndpointView| {
        let skipped: Vec<String> = endpoint
            .skipped
            .iter()
            .map(|skip| format!("worker {} leaves it alone for {} s", skip.worker, skip.seconds))
            .collect();
        if skipped.is_empty() {
            endpoint.address.clone()
        } else {
            format!("{} ({})", endpoint.address, skipped.join(", "))
        }
    };
    match backend.endpoints.iter().map(one).collect::<Vec<_>>() {
        none if none.is_empty() => "-".to_owned(),
        some => some.join(", "),
    }
}

fn backends(env: &mut Env<'_>, backends: &[BackendView]) -> Result<()> {
    let rows = backends.iter().map(|backend| {
        let color = if backend.message.is_empty() { Color::Green } else { Color::Red };
        vec![
            Cell::new(&backend.name),
            Cell::new(backend.weight.map_or("-".to_owned(), |weight| weight.to_string())),
            Cell::new(format!("{}%", backend.share)),
            Cell::new(endpoints(backend)).fg(color),
        ]
    });
    table(env, &["BACKEND", "WEIGHT", "SHARE", "ENDPOINTS"], &[1, 2], rows.collect())
}

fn candidates(env: &mut Env<'_>, all: &[CandidateView], show_all: bool) -> Result<()> {
    let shown = if show_all { all.len() } else { all.len().min(SHOWN) };
    let rows = all[..shown].iter().map(|lost| {
        let route = &lost.route;
        vec![
            Cell::new(format!("{} {}/{}", route.kind, route.namespace, route.name)),
            Cell::new(lost.rule.as_deref().unwrap_or("-")),
            Cell::new(lost.matched.as_ref().map_or("-".to_owned(), match_text)),
            Cell::new(&lost.reason),
            Cell::new(&lost.message),
        ]
    });
    table(env, &["NOT SERVED BY", "RULE", "MATCH", "REASON", "WHY"], &[], rows.collect())?;
    if shown < all.len() {
        writeln!(env.stdout, "{} more candidates lost; --all shows them\n", all.len() - shown)?;
    }
    Ok(())
}
