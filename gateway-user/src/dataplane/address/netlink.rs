//! Netlink: interfaces listed; addresses and local routes added, found again and removed.
//!
//! Owns the messages. Must not decide where an address goes: that is `place`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{Stream, StreamExt as _};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{AddressMessageBuilder, Handle, RouteMessageBuilder, new_connection_with_strict_check};
use tokio::task::JoinHandle;

use super::place::{Interface, Place};
use super::{Error, PROTOCOL};

/// `RT_TABLE_LOCAL`.
pub(in crate::dataplane) const TABLE_LOCAL: u32 = 255;
/// The loopback interface of every network namespace.
const LOOPBACK: u32 = 1;

/// A netlink socket of one network namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens one in the network namespace of this thread. Strict: the kernel filters dumps, so that a table of a
    /// million routes is not copied for the few that are ours.
    pub(super) fn open() -> Result<Self, Error> {
        let (connection, handle, _) =
            new_connection_with_strict_check().map_err(Error::io("cannot open a netlink socket"))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// The interfaces with their addresses, ours left out.
    pub(super) async fn interfaces(&self) -> Result<Vec<Interface>, Error> {
        let addresses = self.addresses().await?;
        let links = collect("listing interfaces", self.handle.link().get().execute()).await?;
        let interface = |link: LinkMessage| {
            let index = link.header.index;
            let flags = link.header.flags;
            let name = link.attributes.iter().find_map(|a| match a {
                LinkAttribute::IfName(name) => Some(name.as_str()),
                _ => None,
            });
            let mac = link.attributes.iter().find_map(|a| match a {
                LinkAttribute::Address(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
                _ => None,
            });
            let of_it = addresses.iter().filter(|a| a.header.index == index && !is_ours(a));
            Interface {
                index,
                mac: mac.filter(|_| link.header.link_layer_type == LinkLayerType::Ether),
                outward: flags.contains(LinkFlags::Up) && !flags.contains(LinkFlags::Loopback),
                arp_ignore: name.is_some_and(arp_ignore),
                addresses: of_it.filter_map(|a| Some((local(a)?, a.header.prefix_len))).collect(),
            }
        };
        Ok(links.into_iter().map(interface).collect())
    }

    /// What is ours. Of an address that is there both ways, the interface.
    pub(super) async fn ours(&self) -> Result<BTreeMap<IpAddr, Place>, Error> {
        let mut ours = BTreeMap::new();
        for probe in [route(Ipv4Addr::UNSPECIFIED.into()), route(Ipv6Addr::UNSPECIFIED.into())] {
            let mut filter = RouteMessage::default();
            filter.header.address_family = probe.header.address_family;
            filter.header.table = probe.header.table;
            filter.header.protocol = probe.header.protocol;
            filter.header.kind = probe.header.kind;
            for route in collect("listing routes", self.handle.route().get(filter).execute()).await? {
                let of_us = route.header.protocol == RouteProtocol::from(PROTOCOL)
                    && route.header.kind == RouteType::Local;
                if let (true, Some(address)) = (of_us, destination(&route)) {
                    ours.insert(address, Place::Route);
                }
            }
        }
        for message in self.addresses().await?.iter().filter(|a| is_ours(a)) {
            if let Some(address) = local(message) {
                ours.insert(address, Place::Interface(message.header.index));
            }
        }
        Ok(ours)
    }

    async fn addresses(&self) -> Result<Vec<AddressMessage>, Error> {
        collect("listing addresses", self.handle.address().get().execute()).await
    }

    /// Brings an address up. That it is there already is no error.
    pub(super) async fn add(&self, address: IpAddr, at: Place) -> Result<(), Error> {
        let result = match at {
            Place::Route => self.handle.route().add(route(address)).execute().await,
            Place::Interface(index) => {
                let mut request = self.handle.address().add(index, address, 0);
                *request.message_mut() = message(address, index);
                request.execute().await
            }
        };
        match result {
            Err(e) if code(&e) == Some(libc::EEXIST) => Ok(()),
            other => other.map_err(failed(|| match at {
                Place::Route => format!(
                    "adding a local route to {address} on the loopback interface (which must be up)"
                ),
                Place::Interface(index) => format!(
                    "adding {address} to the interface with index {index} (which must be up, and have the family \
                     enabled)"
                ),
            })),
        }
    }

    /// Takes an address down. That it is gone already is no error.
    pub(super) async fn remove(&self, address: IpAddr, at: Place) -> Result<(), Error> {
        let result = match at {
            Place::Route => self.handle.route().del(route(address)).execute().await,
            Place::Interface(index) => self.handle.address().del(message(address, index)).execute().await,
        };
        match result {
            Err(e) if matches!(code(&e), Some(libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
            other => other.map_err(failed(|| format!("removing {address}"))),
        }
    }
}

/// The local route (AnyIP).
fn route(address: IpAddr) -> RouteMessage {
    match address {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, 32)
            .output_interface(LOOPBACK)
            .table_id(TABLE_LOCAL)
            .protocol(PROTOCOL.into())
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(v6, 128)
            .output_interface(LOOPBACK)
            .table_id(TABLE_LOCAL)
            .protocol(PROTOCOL.into())
            .kind(RouteType::Local)
            .build(),
    }
}

/// The address on an interface: alone in its network, usable at once, and never chosen as a source by default
/// (preferred lifetime 0).
fn message(address: IpAddr, index: u32) -> AddressMessage {
    let mut message = match address {
        IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, 32).build(),
        IpAddr::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, 128).build(),
    };
    message.header.flags = AddressHeaderFlags::Nodad;
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_preferred = 0;
    lifetime.ifa_valid = u32::MAX;
    message.attributes.extend([
        AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute),
        AddressAttribute::CacheInfo(lifetime),
        AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL)),
    ]);
    message
}

fn is_ours(message: &AddressMessage) -> bool {
    message.attributes.contains(&AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL)))
}

/// The interface's own address (on a point-to-point link the other attribute is the peer's).
fn local(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    find(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None })
        .or_else(|| find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None }))
}

/// A host route's destination.
pub(in crate::dataplane) fn destination(route: &RouteMessage) -> Option<IpAddr> {
    let prefix = if route.header.address_family == AddressFamily::Inet { 32 } else { 128 };
    if route.header.destination_prefix_length != prefix {
        return None;
    }
    route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}

/// Whether an interface answers ARP for none but its own addresses: the larger of its own setting and all's holds.
fn arp_ignore(name: &str) -> bool {
    ["all", name].into_iter().any(|of| {
        fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/arp_ignore"))
            .is_ok_and(|value| value.trim() != "0")
    })
}

pub(in crate::dataplane) async fn collect<T>(
    what: &str,
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, Error> {
    let mut stream = std::pin::pin!(stream);
    let mut all = Vec::new();
    while let Some(item) = stream.next().await {
        all.push(item.map_err(failed(|| what.to_owned()))?);
    }
    Ok(all)
}

pub(in crate::dataplane) fn failed(what: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |e| {
        let message = match code(&e) {
            Some(code) => std::io::Error::from_raw_os_error(code).to_string(),
            None => e.to_string(),
        };
        Error::Netlink { what: what(), message }
    }
}

/// The kernel's error number.
fn code(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}
