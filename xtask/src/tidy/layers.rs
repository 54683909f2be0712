//! Rules on who may use whom: layers inside `gateway-user`, and crates that only some modules may know.

use std::collections::BTreeSet;

use super::{
    Problem,
    files::problem,
    paths::{self, Path},
    tree::Tree,
};

const USER: &str = "gateway-user/src/";

/// The modules of `gateway-user`, lowest first. A module may use those of the layers below its own.
const LAYERS: &[&[&str]] =
    &[&["core"], &["source", "dataplane", "proxy", "admin", "metrics"], &["agent"], &["cli"], &["main"]];

/// Which modules of `gateway-user` may know a crate. What is not listed, every module but `core` may.
const CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["cli", "main"]),
    ("aya", &["dataplane"]),
    ("aya_log", &["dataplane"]),
    ("cel", &["source"]),
    ("clap", &["cli", "main"]),
    ("comfy_table", &["cli"]),
    ("hickory_resolver", &["source"]),
    ("http_body", &["proxy", "admin"]),
    ("http_body_util", &["proxy", "admin"]),
    ("hyper", &["proxy", "admin"]),
    ("hyper_util", &["proxy", "admin"]),
    ("k8s_openapi", &["source"]),
    ("kube", &["source::kube"]),
    ("notify", &["source"]),
    ("prometheus_client", &["metrics"]),
    ("rtnetlink", &["dataplane"]),
    // The source reads certificates with what the workers serve them with: nothing that they could not use gets there.
    ("rustls", &["proxy", "source::translate::secret"]),
    ("sd_notify", &["agent"]),
    ("saphyr_parser", &["source"]),
    ("tokio_rustls", &["proxy"]),
    ("webpki", &["proxy"]),
];

/// All that `core` may know. Time and randomness are arguments, input and output are others' work.
const CORE: &[&str] =
    &["gateway_ebpf", "http", "ipnet", "itertools", "proptest", "regex", "rustc_hash", "thiserror"];

/// What `core` may not use of `std`.
const IMPURE: &[&str] = &[
    "env",
    "fs",
    "io",
    "net::TcpListener",
    "net::TcpStream",
    "net::ToSocketAddrs",
    "net::UdpSocket",
    "os",
    "process",
    "thread",
    "time::Instant",
    "time::SystemTime",
];

/// The BPF programs' modules; the rest of `gateway-ebpf` is the contract, which knows nobody.
const BPF_ONLY: &[&str] = &["aya_ebpf", "aya_log_ebpf"];

/// Inside `gateway-user`, modules use only the layers below their own.
pub(super) fn layers(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, path) in user_paths(tree) {
        let Some(target) = internal(&file, &path) else { continue };
        let own = top(&file);
        let (Some(from), Some(to)) = (layer(&own), layer(&target)) else {
            if layer(&own).is_none() && own != "lib" {
                problems.push(problem(
                    &file,
                    0,
                    &format!("module {own} has no layer: list it in xtask's tidy/layers.rs"),
                ));
            }
            continue;
        };
        if own != target && to >= from {
            let message = format!("{own} may not use {target}: {}", path.names.join("::"));
            problems.push(problem(&file, path.line, &message));
        }
    }
    problems
}

/// Crates stay in the modules that own them.
pub(super) fn crates(tree: &Tree) -> Vec<Problem> {
    let none = BTreeSet::new();
    let dependencies =
        tree.crates.iter().find(|c| c.name == "gateway-user").map_or(&none, |c| &c.dependencies);
    let mut problems = Vec::new();
    for (file, path) in user_paths(tree) {
        let name = path.names[0].as_str();
        let module = module(&file).join("::");
        let own = top(&file);
        let inside = |place: &&str| module == **place || module.starts_with(&format!("{place}::"));
        let wrong = if own == "core" {
            let rest = path.names[1..].join("::");
            name == "std" && IMPURE.iter().any(|bad| rest == *bad || rest.starts_with(&format!("{bad}::")))
                || dependencies.contains(name) && !CORE.contains(&name)
        } else {
            CRATES.iter().any(|(crate_, places)| *crate_ == name && !places.iter().any(inside))
        };
        if wrong {
            problems.push(problem(
                &file,
                path.line,
                &format!("{own} may not know {}", path.names.join("::")),
            ));
        }
    }
    // The contract is what both sides share: it stands on nothing.
    for (file, source) in tree.sources.iter().filter(|(file, _)| file.starts_with("gateway-ebpf/src/")) {
        let program = file.starts_with("gateway-ebpf/src/forward/")
            || ["main.rs", "maps.rs", "shared.rs", "sk_lookup.rs"].iter().any(|f| file.ends_with(f));
        for path in paths::paths(&source.tokens) {
            let name = path.names[0].as_str();
            let test = path.inside.iter().any(|m| m == "tests") || file.ends_with("tests.rs");
            if BPF_ONLY.contains(&name) && !program || name == "std" && !test {
                let message = format!("the contract may not know {}", path.names.join("::"));
                problems.push(problem(file, path.line, &message));
            }
        }
    }
    problems
}

fn user_paths(tree: &Tree) -> impl Iterator<Item = (String, Path)> {
    tree.sources
        .iter()
        .filter(|(file, _)| file.starts_with(USER))
        .flat_map(|(file, source)| paths::paths(&source.tokens).into_iter().map(|p| (file.clone(), p)))
}

/// `gateway-user/src/core/plan.rs` → core, plan.
fn module(file: &str) -> Vec<&str> {
    let file = file.strip_prefix(USER).unwrap_or(file).trim_end_matches(".rs");
    file.trim_end_matches("/mod").split('/').collect()
}

/// The module of the crate that a file belongs to; `lib` and `main` for the roots.
fn top(file: &str) -> String {
    module(file)[0].to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The module of `gateway-user` that a path leads to, if it leads to one.
fn internal(file: &str, path: &Path) -> Option<String> {
    let mut names = path.names.iter().map(String::as_str);
    let mut here: Vec<&str> = match module(file)[..] {
        ["lib" | "main"] => Vec::new(),
        ref module => module.to_vec(),
    };
    here.extend(path.inside.iter().map(String::as_str));
    let target = match names.next()? {
        "gateway_user" | "crate" => names.next(),
        "self" => here.first().copied().or_else(|| names.next()),
        "super" => {
            here.pop();
            let rest = loop {
                match names.next() {
                    Some("super") => drop(here.pop()),
                    rest => break rest,
                }
            };
            here.first().copied().or(rest)
        }
        _ => None,
    };
    target.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::tree::Crate;
    use super::*;

    fn tree(file: &str, text: &str) -> Tree {
        let mut tree = Tree::default();
        tree.add(file, text).expect("tokens");
        let dependencies = ["tokio", "http", "aya", "hyper"].map(str::to_owned).into();
        tree.crates.push(Crate { name: "gateway-user".to_owned(), roots: vec![], dependencies });
        tree
    }

    #[test]
    fn layers_point_downward_only() {
        for (file, text, want) in [
            ("proxy.rs", "use crate::core::plan;", 0),
            ("proxy.rs", "use crate::source;", 1),
            ("proxy.rs", "use crate::{core::plan, source::Loaded, proxy::http};", 1),
            ("proxy/http.rs", "use super::super::dataplane;", 1),
            ("proxy/http.rs", "use super::relay;", 0),
            ("proxy/http.rs", "mod tests { use super::super::relay; }", 0),
            ("proxy/http.rs", "mod tests { use super::super::super::agent::x; }", 1),
            ("core/plan.rs", "fn f() { crate::metrics::count(); }", 1),
            ("agent.rs", "use crate::{core, source, dataplane, proxy, admin, metrics};", 0),
            ("agent/run.rs", "use crate::cli;", 1),
            ("cli.rs", "use crate::agent;", 0),
            ("main.rs", "use gateway_user::cli;", 0),
            ("lib.rs", "pub mod agent;", 0),
            ("utils.rs", "use crate::core;", 1),
        ] {
            let found = layers(&tree(&format!("{USER}{file}"), text));
            assert_eq!(found.len(), want, "{file}: {text}: {found:?}");
        }
    }

    #[test]
    fn crates_stay_with_their_owners() {
        for (file, text, want) in [
            ("core/route.rs", "use http::HeaderMap; use std::net::IpAddr;", 0),
            ("core/route.rs", "use tokio::sync::watch;", 1),
            ("core/route.rs", "fn f() { std::time::Instant::now(); }", 1),
            ("core/route.rs", "use std::{fs, time::{Duration, SystemTime}};", 2),
            ("dataplane/maps.rs", "use aya::maps;", 0),
            ("agent.rs", "use aya::maps;", 1),
            ("proxy/http.rs", "use hyper::body;", 0),
            ("metrics.rs", "use hyper::body;", 1),
            ("source.rs", "use kube::Api;", 1),
            ("source/kube.rs", "use kube::Api;", 0),
            ("source/kube/index.rs", "use kube::Api;", 0),
            ("source.rs", "use tokio::fs;", 0),
        ] {
            let found = crates(&tree(&format!("{USER}{file}"), text));
            assert_eq!(found.len(), want, "{file}: {text}: {found:?}");
        }
    }

    #[test]
    fn the_contract_stands_on_nothing() {
        for (file, text, want) in [
            ("abi.rs", "use core::mem;", 0),
            ("abi.rs", "use std::mem;", 1),
            ("abi.rs", "mod tests { use std::mem; }", 0),
            ("select.rs", "use aya_ebpf::maps;", 1),
            ("sk_lookup.rs", "use aya_ebpf::maps;", 0),
        ] {
            assert_eq!(
                crates(&tree(&format!("gateway-ebpf/src/{file}"), text)).len(),
                want,
                "{file}: {text}"
            );
        }
    }
}
