//! Filters of HTTPRoutes: header changes and redirects.
//!
//! Owns the meaning of their fields, and why a filter that keeps to the API's schema is refused all the same. Must not
//! know what a filter does to a request.

use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue};
use http::uri::Authority;

use crate::core::headers::{Action, Change, HeaderChanges, HeaderFilters, Message, forbidden};
use crate::core::model::{HttpMatch, PathMatch, Refusal};
use crate::core::redirect::{PathChange, Redirect, RedirectStatus, Scheme, is_path};
use crate::source::Diagnostic;
use crate::source::node::Node;

/// RequestHeaderModifier and ResponseHeaderModifier of a rule or a backendRef.
pub(super) fn headers(
    path: &str,
    holder: &Node,
    refusals: &mut Vec<Refusal>,
    warnings: &mut Vec<Diagnostic>,
) -> Option<Arc<HeaderFilters>> {
    let mut filters = HeaderFilters::default();
    for (i, node) in holder.list("filters").iter().enumerate() {
        for (field, message, changes) in [
            ("requestHeaderModifier", Message::Request, &mut filters.request),
            ("responseHeaderModifier", Message::Response, &mut filters.response),
        ] {
            if let Some(node) = node.get(field) {
                let path = format!("{path}.filters[{i}].{field}");
                *changes = modifier(&path, message, node, refusals, warnings);
            }
        }
    }
    (!filters.is_empty()).then(|| filters.into())
}

fn modifier(
    path: &str,
    message: Message,
    node: &Node,
    refusals: &mut Vec<Refusal>,
    warnings: &mut Vec<Diagnostic>,
) -> HeaderChanges {
    let mut changes = HeaderChanges::default();
    let mut seen: Vec<(HeaderName, Action, String)> = Vec::new();
    for action in [Action::Set, Action::Add, Action::Remove] {
        for (i, entry) in node.list(action.field()).iter().enumerate() {
            let field = format!("{path}.{}[{i}]", action.field());
            match change(message, action, entry, &seen) {
                Ok((name, change)) => {
                    seen.push((name.clone(), action, field));
                    changes.push(name, change);
                }
                Err(Unfit::Refused(message)) => refusals.push(Refusal { field, message }),
                Err(Unfit::Ignored(message)) => {
                    let remedy = "remove one of the two".to_owned();
                    warnings.push(Diagnostic { remedy, ..warning(entry, field, message) });
                }
            }
        }
    }
    changes
}

/// Why an entry of a filter changes nothing.
enum Unfit {
    /// It cannot be done, nor can what depends on it.
    Refused(String),
    /// The API says that it does not count.
    Ignored(String),
}

/// What an entry asks for. `seen`: those before it.
fn change(
    message: Message,
    action: Action,
    entry: &Node,
    seen: &[(HeaderName, Action, String)],
) -> Result<(HeaderName, Change), Unfit> {
    let refused = |why: String| Err(Unfit::Refused(why));
    let written = entry.as_str().or_else(|| entry.str("name")).unwrap_or_default();
    let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
        return refused(format!("\"{written}\" is not the name of a header (RFC 9110, 5.1); correct it"));
    };
    if let Some((_, earlier, first)) = seen.iter().find(|(other, ..)| *other == name) {
        // HTTPHeader: "Subsequent entries with an equivalent header name MUST be ignored." HTTPHeaderFilter: "Only one
        // action for a given header name is permitted."
        return if *earlier == action {
            Err(Unfit::Ignored(format!(
                "it has no effect: {first} names the same header, and the first one counts"
            )))
        } else {
            refused(format!(
                "{first} names \"{written}\" too, and a filter may do one thing to a header; keep one of them"
            ))
        };
    }
    if let Some(why) = forbidden(message, action, &name) {
        return refused(format!(
            "a filter may not {} \"{written}\": {why}; remove the entry",
            action.field()
        ));
    }
    if action == Action::Remove {
        return Ok((name, Change::Replace(Vec::new())));
    }
    let text = entry.str("value").unwrap_or_default();
    let Ok(value) = HeaderValue::from_str(text) else {
        return refused(format!(
            "\"{text}\" is not the value of a header (RFC 9110, 5.5); write printable ASCII"
        ));
    };
    if message == Message::Request && name == HOST && !is_authority(text) {
        return refused(format!(
            "\"{text}\" is not a host; write a name or an address, with or without a port"
        ));
    }
    let values = vec![value];
    Ok((name, if action == Action::Set { Change::Replace(values) } else { Change::Append(values) }))
}

fn warning(node: &Node, field: String, message: String) -> Diagnostic {
    let (line, column) = (node.at.line, node.at.column);
    Diagnostic { line, column, field, value: node.shown(), message, ..Diagnostic::default() }
}

/// Whether a text is a host, with or without a port (RFC 9110, 7.2): not empty, and without user information.
fn is_authority(text: &str) -> bool {
    let parsed = text.parse::<Authority>();
    parsed.is_ok_and(|a| !text.contains('@') && (a.port_u16().is_some() || a.host() == text))
}

/// RequestRedirect of a rule with these matches.
pub(super) fn redirect(
    rule_path: &str,
    rule: &Node,
    matches: &[HttpMatch],
    refusals: &mut Vec<Refusal>,
    warnings: &mut Vec<Diagnostic>,
) -> Option<Arc<Redirect>> {
    let filters = rule.list("filters");
    let (i, node) = filters.iter().enumerate().find_map(|(i, f)| Some((i, f.get("requestRedirect")?)))?;
    let path = format!("{rule_path}.filters[{i}].requestRedirect");
    for (i, filter) in filters.iter().enumerate() {
        if let Some(modifier) = filter.get("requestHeaderModifier") {
            let field = format!("{rule_path}.filters[{i}].requestHeaderModifier");
            let message = "it has no effect: the rule redirects, and no backend gets the request".to_owned();
            let remedy = "remove one of the two filters".to_owned();
            warnings.push(Diagnostic { remedy, ..warning(modifier, field, message) });
        }
    }
    let mut refuse = |field: &str, message: String| {
        refusals.push(Refusal { field: format!("{path}.{field}"), message });
    };
    let scheme = node.str("scheme").and_then(|scheme| match scheme {
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        other => {
            refuse("scheme", format!("\"{other}\" is not supported; write http or https"));
            None
        }
    });
    let code = node.int("statusCode").unwrap_or(302);
    let status = RedirectStatus::new(code).unwrap_or_else(|| {
        refuse("statusCode", format!("{code} is not supported; write 301, 302, 303, 307 or 308"));
        RedirectStatus::Found
    });
    let change = node.get("path").and_then(|node| match node.str("type") {
        Some("ReplaceFullPath") => {
            let to = node.str("replaceFullPath").unwrap_or_default();
            sound("path.replaceFullPath", to, &mut refuse).map(PathChange::Full)
        }
        Some("ReplacePrefixMatch") => {
            let to = node.str("replacePrefixMatch").unwrap_or_default();
            let to = sound("path.replacePrefixMatch", to, &mut refuse)?;
            let [HttpMatch { path: PathMatch::Prefix(from), .. }] = matches else {
                refuse(
                    "path",
                    "ReplacePrefixMatch needs exactly one match, a PathPrefix; write ReplaceFullPath"
                        .to_owned(),
                );
                return None;
            };
            Some(PathChange::Prefix { from: from.clone(), to })
        }
        other => {
            let other = other.unwrap_or_default();
            refuse(
                "path.type",
                format!("\"{other}\" is not supported; write ReplaceFullPath or ReplacePrefixMatch"),
            );
            None
        }
    });
    let redirect = Redirect {
        scheme,
        hostname: node.str("hostname").filter(|hostname| !hostname.is_empty()).map(Arc::from),
        path: change,
        port: super::port(node, "port"),
        status,
    };
    Some(redirect.into())
}

/// A path that may stand in a Location.
fn sound(field: &str, text: &str, refuse: &mut impl FnMut(&str, String)) -> Option<Arc<str>> {
    if is_path(text) {
        return Some(text.into());
    }
    refuse(
        field,
        format!(
            "\"{text}\" is not a path; begin it with /, without ? and #, and percent-encode what is not ASCII"
        ),
    );
    None
}
