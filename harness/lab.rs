//! A case to a live laboratory: namespaces, links, addresses, neighbours and routes. The only user
//! of rtnetlink, netns-rs and tokio. It does not know what a leak is.
//!
//! A laboratory belongs to the thread that builds it, which nobody else may use: the thread
//! changes its namespace. When it is dropped, the kernel reclaims all of it.

mod netlink;
mod sysctl;

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use netns_rs::NetNs;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::packet_route::{AddressFamily, route::RouteType};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::{Builder, Runtime};

use crate::host::Left;
use crate::plan::{Case, Exchange, Link, Route};
use crate::scenario::{Family, Neighbours};
use netlink::Netlink;

pub use sysctl::Baseline;

/// A laboratory: the host under test and a gateway for each link.
pub struct Lab {
    runtime: Runtime,
    host: Space,
    gateways: Vec<Space>,
    case: Case,
}

/// One namespace: its descriptor and a conversation with it.
struct Space {
    name: String,
    netns: NetNs,
    netlink: Netlink,
}

impl Lab {
    /// Builds the namespaces and the links of `case`, every link still down. `baseline` tells
    /// which settings of a fresh namespace must be changed. Errors name the object.
    pub fn build(_left: Left, case: &Case, baseline: &Baseline) -> Result<Lab> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("start a tokio runtime")?;
        let host = Space::new(&runtime, "the host under test", case.family, baseline)?;
        let mut gateways = Vec::with_capacity(case.links.len());
        for link in &case.links {
            let name = format!("the gateway of {}", link.name);
            gateways.push(Space::new(&runtime, &name, case.family, baseline)?);
        }
        let lab = Lab { runtime, host, gateways, case: case.clone() };
        for (link, gateway) in lab.case.links.iter().zip(&lab.gateways) {
            let what = format!("create link {}", link.name);
            lab.host.netlink.create(&lab.runtime, Message::NewLink(veth(link, gateway)), &what)?;
        }
        Ok(lab)
    }

    /// Brings the links up and gives them addresses, neighbours and routes. Captures that are to
    /// see everything must be open before.
    pub fn raise(&self) -> Result<()> {
        let case = &self.case;
        // Without ARP while its addresses are set, a device joins no solicited-node group, and
        // so no MLD report disturbs the wire. Permanent neighbours make up for the group.
        let silent = case.family == Family::V6;
        for (at, link) in case.links.iter().enumerate() {
            self.host.up(&self.runtime, link.index, &link.name, silent)?;
            self.gateways[at].up(&self.runtime, link.index, &link.name, false)?;
        }
        for (at, link) in case.links.iter().enumerate() {
            self.host.address(&self.runtime, link, link.address, link.prefix_length)?;
            self.gateway(at, link)?;
        }
        if silent {
            self.settle_addresses()?;
        }
        for link in &case.links {
            if case.neighbours == Neighbours::Permanent {
                for address in [link.gateway, case.target] {
                    self.host.neighbour(&self.runtime, link, address, link.far_mac)?;
                }
            }
        }
        for route in &case.routes {
            self.host.route(&self.runtime, route, &case.links)?;
        }
        self.host.up(&self.runtime, LOOPBACK, "lo", false)
    }

    /// Waits until every IPv6 address is in use, and only then lets the host's devices resolve
    /// neighbours again.
    fn settle_addresses(&self) -> Result<()> {
        let (case, runtime) = (&self.case, &self.runtime);
        let what = |space: &Space| format!("take the addresses of {} into use", space.name);
        let near = case.links.iter().map(|link| (link.index, link.address)).collect();
        self.host.netlink.addresses_in_use(runtime, near, &what(&self.host))?;
        for (link, gateway) in case.links.iter().zip(&self.gateways) {
            let target = (case.exchange == Exchange::Send).then_some(case.target);
            let far = std::iter::once(link.gateway).chain(target);
            let far = far.map(|address| (link.index, address)).collect();
            gateway.netlink.addresses_in_use(runtime, far, &what(gateway))?;
        }
        for link in &case.links {
            let message = LinkUnspec::new_with_index(link.index).arp(true).build();
            let what = format!("switch ARP on for {}", link.name);
            self.host.netlink.change(runtime, Message::SetLink(message), &what)?;
        }
        Ok(())
    }

    /// A gateway knows the host for good. It owns the target and leads everything back to the
    /// host; where it is played by crafted frames it does not own the target, and must take what
    /// is sent there without a word (IPv6 would answer that there is no route).
    fn gateway(&self, at: usize, link: &Link) -> Result<()> {
        let (space, runtime) = (&self.gateways[at], &self.runtime);
        space.address(runtime, link, link.gateway, link.prefix_length)?;
        space.neighbour(runtime, link, link.address, link.near_mac)?;
        if self.case.exchange != Exchange::Send {
            let what = format!("make {} silent", space.name);
            let sink = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(unspecified(self.case.family), 0)
                .map_err(|error| anyhow!("{what}: {error}"))?
                .kind(RouteType::BlackHole);
            return space.netlink.create(runtime, Message::NewRoute(sink.build()), &what);
        }
        let width = if self.case.target.is_ipv4() { 32 } else { 128 };
        space.address(runtime, link, self.case.target, width)?;
        let back = Route {
            to: (unspecified(self.case.family), 0),
            link: 0,
            gatewayed: true,
            metric: None,
            table: None,
        };
        let towards = Link { gateway: link.address, ..link.clone() };
        space.route(runtime, &back, std::slice::from_ref(&towards))
    }

    /// Runs `action` on this thread, inside the namespace of the host under test.
    pub fn inside_host<T>(&self, action: impl FnOnce() -> T) -> Result<T> {
        self.host.inside(action)
    }

    /// Runs `action` on this thread, inside the gateway of the link at place `at`.
    pub fn inside_gateway<T>(&self, at: usize, action: impl FnOnce() -> T) -> Result<T> {
        self.gateways[at].inside(action)
    }

    /// How many frames each link's near end has transmitted since it was made.
    pub fn transmitted(&self) -> Result<Vec<u64>> {
        let ask = |link: &Link| {
            let what = format!("read the counters of {}", link.name);
            let message = LinkUnspec::new_with_index(link.index).build();
            let answer = self.host.netlink.get(&self.runtime, Message::GetLink(message), &what)?;
            let Message::NewLink(LinkMessage { attributes, .. }) = answer else {
                return Err(anyhow!("{what}: the answer is no link"));
            };
            let stats = attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::Stats64(stats) => Some(stats.tx_packets),
                _ => None,
            });
            stats.ok_or_else(|| anyhow!("{what}: the kernel gave none"))
        };
        self.case.links.iter().map(ask).collect()
    }

    /// Takes the near end of the link at place `at` down.
    pub fn take_down(&self, at: usize) -> Result<()> {
        let link = &self.case.links[at];
        let message = LinkUnspec::new_with_index(link.index).down().build();
        let what = format!("take {} down", link.name);
        self.host.netlink.change(&self.runtime, Message::SetLink(message), &what)
    }
}

/// The interface index of the loopback device of every namespace.
const LOOPBACK: u32 = 1;

impl Space {
    fn new(runtime: &Runtime, name: &str, family: Family, baseline: &Baseline) -> Result<Space> {
        unshare(CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("make the namespace of {name}"))?;
        let netns = netns_rs::get_from_current_thread()
            .map_err(|error| anyhow!("open the namespace of {name}: {error}"))?;
        baseline.settle(family).with_context(|| format!("set the sysctls of {name}"))?;
        Ok(Space { name: name.to_owned(), netns, netlink: Netlink::open(runtime)? })
    }

    fn inside<T>(&self, action: impl FnOnce() -> T) -> Result<T> {
        self.netns.enter().map_err(|error| anyhow!("enter {}: {error}", self.name))?;
        Ok(action())
    }

    fn up(&self, runtime: &Runtime, index: u32, name: &str, silent: bool) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).up();
        let message = if silent { message.arp(false) } else { message };
        let what = format!("bring {name} up in {}", self.name);
        self.netlink.change(runtime, Message::SetLink(message.build()), &what)
    }

    fn address(&self, runtime: &Runtime, link: &Link, address: IpAddr, length: u8) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family_of(address);
        message.header.prefix_len = length;
        message.header.index = link.index;
        message.attributes.push(AddressAttribute::Address(address));
        message.attributes.push(AddressAttribute::Local(address));
        if address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let what = format!("add address {address}/{length} to {} in {}", link.name, self.name);
        self.netlink.create(runtime, Message::NewAddress(message), &what)
    }

    fn neighbour(
        &self,
        runtime: &Runtime,
        link: &Link,
        address: IpAddr,
        mac: [u8; 6],
    ) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family_of(address);
        message.header.ifindex = link.index;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unspec;
        let destination = match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes.push(NeighbourAttribute::Destination(destination));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let what = format!("add neighbour {address} on {} in {}", link.name, self.name);
        self.netlink.create(runtime, Message::NewNeighbour(message), &what)
    }

    fn route(&self, runtime: &Runtime, route: &Route, links: &[Link]) -> Result<()> {
        let link = &links[route.link];
        let (to, length) = route.to;
        let what = format!(
            "add route {to}/{length} {} {} in {}",
            if route.gatewayed { "via" } else { "dev" },
            link.name,
            self.name
        );
        let message = route_message(route, link).with_context(|| what.clone())?;
        self.netlink.create(runtime, Message::NewRoute(message), &what)
    }
}

fn route_message(route: &Route, link: &Link) -> Result<RouteMessage> {
    let (to, length) = route.to;
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to, length)
        .map_err(|error| anyhow!("{error}"))?
        .output_interface(link.index);
    if route.gatewayed {
        builder = builder.gateway(link.gateway).map_err(|error| anyhow!("{error}"))?;
    } else if to.is_ipv4() {
        builder = builder.scope(RouteScope::Link);
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    if let Some(table) = route.table {
        builder = builder.table_id(table);
    }
    Ok(builder.build())
}

fn veth(link: &Link, gateway: &Space) -> LinkMessage {
    use std::os::fd::AsRawFd;
    let far = LinkMessageBuilder::<LinkUnspec>::new()
        .name(link.name.clone())
        .index(link.index)
        .address(link.far_mac.to_vec())
        .setns_by_fd(gateway.netns.file().as_raw_fd());
    LinkVeth::new(&link.name, &link.name)
        .index(link.index)
        .address(link.near_mac.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())))
        .build()
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

/// Makes a device of this kind (`vrf`, `macvlan`, ...) in the calling thread's namespace, which
/// should be a throwaway one. The error is the kernel's.
pub(crate) fn try_link_kind(kind: &str) -> Result<()> {
    use rtnetlink::packet_route::link::{InfoKind, InfoMacVlan, InfoVlan, InfoVrf, InfoVxlan};
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let netlink = Netlink::open(&runtime)?;
    let base = LinkVeth::new("probe-near", "probe-far").index(100).build();
    netlink.create(&runtime, Message::NewLink(base), "create a veth pair")?;
    let of = |kind: InfoKind| {
        LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind).name("probe".to_owned())
    };
    let message = match kind {
        "bond" => of(InfoKind::Bond).build(),
        "bridge" => of(InfoKind::Bridge).build(),
        "dummy" => of(InfoKind::Dummy).build(),
        "ipvlan" => of(InfoKind::IpVlan).link(100).build(),
        "macvlan" => of(InfoKind::MacVlan)
            .link(100)
            .set_info_data(InfoData::MacVlan(vec![InfoMacVlan::Mode(
                rtnetlink::packet_route::link::MacVlanMode::Bridge,
            )]))
            .build(),
        "vlan" => of(InfoKind::Vlan)
            .link(100)
            .set_info_data(InfoData::Vlan(vec![InfoVlan::Id(7)]))
            .build(),
        "vrf" => of(InfoKind::Vrf).set_info_data(InfoData::Vrf(vec![InfoVrf::TableId(7)])).build(),
        "vxlan" => of(InfoKind::Vxlan)
            .set_info_data(InfoData::Vxlan(vec![InfoVxlan::Id(7), InfoVxlan::Port(4789)]))
            .build(),
        "wireguard" => of(InfoKind::Wireguard).build(),
        other => return Err(anyhow!("no probe for `{other}`")),
    };
    netlink.create(&runtime, Message::NewLink(message), &format!("create a {kind} device"))
}
