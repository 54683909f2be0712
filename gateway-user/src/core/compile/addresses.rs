//! Addresses: where each Gateway listens.
//!
//! Owns what a Gateway may ask for, and what is said of what it does not get. Which address of a pool it gets is
//! `pool`'s to decide. Must not know listeners.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::condition::{Problem, join, problem};
use super::gateways::{GatewayWork, Place};
use crate::core::host::{Host, Role};
use crate::core::locality::matches;
use crate::core::model::{AddressMode, GatewayAddress, PARAMETERS};
use crate::core::pool::{self, Assignment, Request, Wish};
use crate::core::snapshot::Ids;

/// What a Gateway asks for.
#[derive(Debug)]
struct Asked<'m> {
    /// On addresses of the host's own.
    own: Option<Place>,
    fixed: Vec<IpAddr>,
    wish: Wish<'m>,
    problems: Vec<Problem>,
}

/// Says of each Gateway where it listens. They come oldest first.
pub(super) fn assign(list: &mut [GatewayWork<'_>], host: &Host, previous: &Ids) {
    let asked: Vec<Asked<'_>> = list.iter().map(|work| ask(work, host)).collect();
    let requests: Vec<Request<'_>> = (list.iter().zip(&asked))
        .map(|(work, asked)| Request {
            fixed: asked.fixed.clone(),
            wish: asked.wish,
            had: had(work, host.role, previous),
        })
        .collect();
    let assigned = pool::assign(&requests, &host.addresses(), host.role != Role::Follower);
    let names: Vec<String> = list.iter().map(GatewayWork::name).collect();
    for ((work, asked), assigned) in list.iter_mut().zip(asked).zip(assigned) {
        let mut problems = asked.problems;
        problems.extend(assigned.taken.iter().map(|(ip, holder)| taken(*ip, &names[*holder])));
        problems.extend(missing(work, &assigned, host.role));
        work.unplaced = together(&problems);
        work.place = asked.own.unwrap_or_else(|| {
            let mut fixed = assigned.fixed;
            fixed.sort_unstable();
            fixed.dedup();
            // Those out of pools come first: a status has room for some only, and is what a cluster remembers.
            Place::At([assigned.given, fixed].concat())
        });
    }
}

/// What is to be known at the next compilation.
pub(super) fn kept(list: &[GatewayWork<'_>], ids: &mut Ids) {
    let kept = list.iter().filter_map(|work| match &work.place {
        Place::At(addresses) if !addresses.is_empty() => {
            Some((work.gateway.meta.name.clone(), addresses.clone()))
        }
        Place::At(_) | Place::On(_) | Place::Any => None,
    });
    ids.addresses = kept.collect();
}

/// The addresses that a Gateway had before.
fn had<'w>(work: &GatewayWork<'w>, role: Role, previous: &'w Ids) -> &'w [IpAddr] {
    let remembered = || previous.addresses.get(&work.gateway.meta.name).map_or(&[][..], Vec::as_slice);
    match role {
        Role::Alone => remembered(),
        Role::Leader if work.gateway.had.is_empty() => remembered(),
        Role::Leader | Role::Follower => &work.gateway.had,
    }
}

fn ask<'m>(work: &GatewayWork<'m>, host: &Host) -> Asked<'m> {
    let role = host.role;
    let mut asked = Asked { own: None, fixed: Vec::new(), wish: Wish::Nothing, problems: Vec::new() };
    if work.refused.is_some() {
        let fixed = work.gateway.addresses.iter().filter_map(|address| match address {
            GatewayAddress::Ip(ip) => Some(ip.to_canonical()),
            GatewayAddress::FromPool | GatewayAddress::Unsupported(_) => None,
        });
        return Asked { fixed: fixed.collect(), wish: Wish::Keep, ..asked };
    }
    let pools = work.parameters.pools;
    for (at, address) in work.gateway.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{at}]");
        match address {
            GatewayAddress::Ip(ip) => match unusable(work, *ip, role) {
                None => asked.fixed.push(ip.to_canonical()),
                Some(why) => {
                    asked.problems.push(problem("AddressNotUsable", format!("{field}: {ip} is {why}")));
                }
            },
            GatewayAddress::FromPool if asked.wish != Wish::Nothing => {
                let message = format!(
                    "{field}: no value, as in an entry before it: a Gateway gets one address of each family out of the pools (remove all of these entries but one)"
                );
                asked.problems.push(problem("AddressNotAssigned", message));
            }
            GatewayAddress::FromPool => match pools {
                Some((pools, _)) => asked.wish = Wish::From(pools),
                None => {
                    let message = format!("{field}: no value, and {}", no_pool(work, role));
                    asked.problems.push(problem("AddressNotAssigned", message));
                }
            },
            // The Gateway is refused for it.
            GatewayAddress::Unsupported(_) => {}
        }
    }
    if work.gateway.addresses.is_empty() {
        match (work.parameters.mode, pools) {
            (Some(AddressMode::Node), _) => match on_interfaces(work, host) {
                Ok(place) => asked.own = Some(place),
                Err(why) => asked.problems.push(why),
            },
            (_, Some((pools, _))) => asked.wish = Wish::From(pools),
            (None, None) if role == Role::Alone => asked.own = Some(Place::Any),
            (_, None) => asked.problems.push(problem("AddressNotAssigned", no_pool(work, role))),
        }
    }
    asked
}

/// The host's own addresses on the interfaces that count: all of them, unless some are named.
fn on_interfaces(work: &GatewayWork<'_>, host: &Host) -> Result<Place, Problem> {
    let Some((patterns, parameters)) = work.parameters.interfaces else { return Ok(Place::Any) };
    let fits = |name: &str| patterns.iter().any(|pattern| matches(pattern, name));
    let found = host.interfaces.iter().filter(|(name, _)| fits(name)).flat_map(|(_, addresses)| addresses);
    // A link-local address of IPv6 means nothing without its interface.
    let far = |ip: &IpAddr| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let addresses: BTreeSet<IpAddr> = found.copied().filter(far).collect();
    if !addresses.is_empty() {
        return Ok(Place::On(addresses.into_iter().collect()));
    }
    let there: Vec<&str> = host.interfaces.keys().map(|name| &**name).collect();
    let message = format!(
        "none of this host's interfaces that have addresses ({}) fits spec.interfaces of {PARAMETERS} {parameters}, {} (correct it)",
        there.join(", "),
        patterns.join(", ")
    );
    Err(problem("AddressNotAssigned", message))
}

/// What a Gateway without pools is told.
fn no_pool(work: &GatewayWork<'_>, role: Role) -> String {
    let class = &work.gateway.class;
    let other = match role {
        Role::Alone => "or write a static address",
        Role::Leader | Role::Follower => "with addressMode: Node a Gateway is on every address of the nodes",
    };
    format!(
        "there is no pool of addresses to take one from (refer to a {PARAMETERS} with addressPools, by parametersRef of the GatewayClass \"{class}\" or by spec.infrastructure.parametersRef; {other})"
    )
}

/// Why a static address cannot be used.
fn unusable(work: &GatewayWork<'_>, ip: IpAddr, role: Role) -> Option<String> {
    let what = match ip.to_canonical() {
        ip if ip.is_unspecified() => Some("no address to listen on"),
        ip if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        _ => None,
    };
    if let Some(what) = what {
        return Some(format!("{what} (use an address of one host)"));
    }
    match work.parameters.pools {
        Some((pools, _)) if pools.contains(ip.to_canonical()) => None,
        Some((pools, name)) => Some(format!(
            "outside of the pools of {PARAMETERS} {name}, which have {pools} (use an address of these, or add it to spec.addressPools)"
        )),
        None if role == Role::Alone => None,
        None => Some(format!("in no pool, for {}", no_pool(work, role))),
    }
}

fn taken(ip: IpAddr, holder: &str) -> Problem {
    let message = format!(
        "spec.addresses: {ip} is Gateway {holder}'s, which has it out of a pool (use another, or write it into that Gateway's spec.addresses to share it)"
    );
    problem("AddressNotUsable", message)
}

fn missing(work: &GatewayWork<'_>, assigned: &Assignment, role: Role) -> Option<Problem> {
    let (pools, name) = work.parameters.pools?;
    if assigned.missing.is_empty() {
        return None;
    }
    let families: Vec<String> = assigned.missing.iter().map(ToString::to_string).collect();
    let families = families.join(" and no ");
    let message = if role == Role::Follower {
        format!("the leader has given it no {families} address yet (wait for it)")
    } else {
        format!(
            "no {families} address of the pools of {PARAMETERS} {name} is free ({pools}): add some to spec.addressPools, or remove a Gateway"
        )
    };
    Some(problem("AddressNotAssigned", message))
}

/// Problems as one: the first's reason, everybody's message.
fn together(problems: &[Problem]) -> Option<Problem> {
    let messages: Vec<String> = problems.iter().map(|p| p.message.clone()).collect();
    Some(problem(problems.first()?.reason, join(&messages)))
}
