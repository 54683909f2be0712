//! The host's links, addresses and routes, by netlink: read, and watched for changes.
//!
//! Owns the messages, and how soon a change is told. Must not decide what follows: that is `core::locality`.
//!
//! The kernel itself is asked for the way to each endpoint (as `ip route get` does), so that rules, tables, metrics and
//! next-hop objects count as they do for packets, and a table of a million routes is never copied.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use rtnetlink::{Handle, MulticastGroup, new_connection_with_strict_check, new_multicast_connection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::Error;
use super::address::netlink::{TABLE_LOCAL, collect, destination};
use crate::core::network::{Answer, Kind, Link, Medium, Network, Route};

/// What changes together is told together.
const CALM: Duration = Duration::from_millis(50);
/// Between two tellings, however much changes: a routing daemon may change thousands of routes for minutes.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads the network namespace that it was opened in, for as long as its [`Networks`] live.
#[derive(Clone, Debug)]
pub struct NetworkReader(Handle);

/// Watches the network namespace of the thread that opened it.
pub struct Networks {
    reader: NetworkReader,
    events: Box<dyn Stream<Item = ()> + Send + Unpin>,
    connections: [JoinHandle<()>; 2],
    /// When the change is told that has been seen.
    due: Option<Instant>,
    told: Instant,
}

impl Drop for Networks {
    fn drop(&mut self) {
        self.connections.iter().for_each(JoinHandle::abort);
    }
}

impl Networks {
    /// Opens netlink.
    ///
    /// # Errors
    /// It is refused.
    pub fn open() -> Result<Self, Error> {
        let refused = || Error::io("cannot open a netlink socket");
        let (asking, handle, _) = new_connection_with_strict_check().map_err(refused())?;
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ];
        let (watching, _, events) = new_multicast_connection(&groups).map_err(refused())?;
        Ok(Self {
            reader: NetworkReader(handle),
            events: Box::new(events.map(drop)),
            connections: [tokio::spawn(asking), tokio::spawn(watching)],
            due: None,
            told: Instant::now(),
        })
    }

    /// Waits until something has changed. Nothing is lost if it is not waited for to the end.
    pub async fn changed(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                if self.events.next().await.is_none() {
                    // The socket is gone: what is looked at from time to time must do.
                    pending::<()>().await;
                }
                *self.due.insert((Instant::now() + CALM).max(self.told + PAUSE))
            }
        };
        sleep_until(due).await;
        while let Some(Some(())) = self.events.next().now_or_never() {}
        self.due = None;
        self.told = Instant::now();
    }

    /// What reads it.
    #[must_use]
    pub fn reader(&self) -> NetworkReader {
        self.reader.clone()
    }
}

impl NetworkReader {
    /// What there is now, and the ways to these endpoints.
    ///
    /// # Errors
    /// Netlink is refused.
    pub async fn read(&self, endpoints: &BTreeSet<IpAddr>) -> Result<Network, Error> {
        let mut network = Network::default();
        for message in collect("listing interfaces", self.0.link().get().execute()).await? {
            network.links.extend(link(&message));
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            filter.header.table = TABLE_LOCAL as u8;
            filter.header.kind = RouteType::Local;
            let routes = collect("listing local addresses", self.0.route().get(filter).execute());
            let local = |route: &RouteMessage| route.header.kind == RouteType::Local;
            network.addresses.extend(routes.await?.iter().filter(|r| local(r)).filter_map(destination));
        }
        network.routes = self.ways(endpoints).await;
        Ok(network)
    }

    /// The ways to these endpoints.
    pub async fn ways(&self, endpoints: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Answer> {
        let mut routes = BTreeMap::new();
        for endpoint in endpoints {
            routes.insert(*endpoint, self.way(*endpoint).await);
        }
        routes
    }

    async fn way(&self, to: IpAddr) -> Answer {
        let mut question = RouteMessage::default();
        let (family, length) =
            if to.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
        question.header.address_family = family;
        question.header.destination_prefix_length = length;
        question.header.table = RouteHeader::RT_TABLE_UNSPEC;
        question.attributes.push(RouteAttribute::Destination(to.into()));
        let answers = collect("looking up a route", self.0.route().get(question).execute());
        match answers.await {
            Ok(answers) => answers.first().map_or_else(|| Answer::None("no answer".into()), answer),
            Err(Error::Netlink { message, .. }) => Answer::None(message),
            Err(e) => Answer::None(e.to_string()),
        }
    }
}

fn answer(message: &RouteMessage) -> Answer {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Anycast | RouteType::Broadcast => return Answer::Local,
        kind => return Answer::None(format!("{kind:?}").to_lowercase()),
    }
    let mut route = Route { interface: 0, gateway: None, source: None, mtu: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => route.interface = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => route.gateway = Some((*v4).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => route.gateway = Some((*v6).into()),
            RouteAttribute::Via(RouteVia::Inet(v4)) => route.gateway = Some((*v4).into()),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => route.gateway = Some((*v6).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => route.source = Some((*v4).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => route.source = Some((*v6).into()),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Answer::Route(route)
}

fn link(message: &LinkMessage) -> Option<(u32, Link)> {
    let mut link = Link {
        name: String::new(),
        kind: Kind::Other,
        medium: medium(message.header.link_layer_type),
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index > 0),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(kind).unwrap_or(Kind::Other);
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some((message.header.index, link))
}

fn kind(info: &LinkInfo) -> Option<Kind> {
    let LinkInfo::Kind(kind) = info else { return None };
    Some(match kind {
        InfoKind::Veth | InfoKind::Netkit => Kind::Veth,
        InfoKind::Tun => Kind::Tun,
        InfoKind::Bridge => Kind::Bridge,
        InfoKind::Vrf => Kind::Vrf,
        _ => Kind::Other,
    })
}

/// Of tunnels without a link header, a packet that arrives begins with the inner IP header.
fn medium(layer: LinkLayerType) -> Medium {
    match layer {
        LinkLayerType::Ether => Medium::Ethernet,
        LinkLayerType::Loopback => Medium::Loopback,
        LinkLayerType::None
        | LinkLayerType::Rawip
        | LinkLayerType::Ppp
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre => Medium::Raw,
        _ => Medium::Other,
    }
}
