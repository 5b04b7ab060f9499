//! A case to a live laboratory: namespaces, links, addresses, neighbours and routes. The only user
//! of rtnetlink, netns-rs and tokio. It does not know what a leak is.
//!
//! A laboratory belongs to the thread that builds it, which nobody else may use: the thread
//! changes its namespace. When it is dropped, the kernel reclaims all of it.

mod adversary;
mod command;
mod guard;
mod links;
mod multicast;
mod netlink;
mod pending;
mod routes;
mod sysctl;

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use netns_rs::NetNs;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, route::RouteType};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, MulticastGroup};
use tokio::runtime::{Builder, Runtime};

use crate::host::Left;
use crate::plan::{Case, Hop, Link, Route, RouteQuery, Rule};
use crate::scenario::{Family, LinkState, Neighbours, RouteKind};
use crate::sys;
use netlink::Netlink;

pub use pending::{Membership, Pending, TcpSocket, tcp_sockets};
pub use sysctl::{Baseline, inherited};

/// A laboratory: the host under test and a gateway for each link.
pub struct Lab {
    runtime: Runtime,
    host: Space,
    gateways: Vec<Space>,
    case: Case,
    /// Keeps the host under test a multicast router.
    router: Option<OwnedFd>,
    baseline: Baseline,
    /// What each link is now.
    states: RefCell<Vec<LinkState>>,
    /// BPF programs in force.
    hooks: RefCell<Vec<sys::Hooked>>,
    /// What each link's device is called now, and its index.
    devices: RefCell<Vec<(String, u32)>>,
    /// The links that were taken away for good.
    away: RefCell<Vec<usize>>,
    /// Where links are that were moved away.
    drawer: Cell<Option<Space>>,
    /// What has been waited for, and how long.
    waits: RefCell<Vec<(String, Duration)>>,
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
        let host = Space::new(&runtime, "the host under test", case.settled(), baseline)?;
        let mut gateways = Vec::with_capacity(case.links.len());
        for link in &case.links {
            let name = format!("the gateway of {}", link.name);
            gateways.push(Space::new(&runtime, &name, case.settled(), baseline)?);
        }
        let lab = Lab {
            runtime,
            host,
            gateways,
            case: case.clone(),
            router: None,
            baseline: baseline.clone(),
            states: RefCell::new(vec![LinkState::Whole; case.links.len()]),
            hooks: RefCell::new(Vec::new()),
            devices: RefCell::new(case.links.iter().map(|l| (l.name.clone(), l.index)).collect()),
            away: RefCell::new(Vec::new()),
            drawer: Cell::new(None),
            waits: RefCell::default(),
        };
        if let Some(guard) = case.guard.as_ref().filter(|guard| guard.apart) {
            *lab.away.borrow_mut() = guard.away.clone();
        }
        for (at, (link, gateway)) in lab.case.links.iter().zip(&lab.gateways).enumerate() {
            let what = format!("create link {}", link.name);
            let message = Message::NewLink(veth(link, gateway));
            lab.near(at, |space| space.netlink.create(&lab.runtime, message, &what))??;
        }
        if !case.sysctls.is_empty() {
            lab.everywhere(|space| space.inside(|| set(&case.sysctls))?)?;
        }
        Ok(lab)
    }

    /// Brings the links up and gives them addresses, neighbours, routes and rules. Captures that
    /// are to see everything must be open before.
    pub fn raise(&mut self) -> Result<()> {
        let case = &self.case;
        // A device without neighbour discovery joins no solicited-node group for its addresses, and
        // so no MLD report disturbs the wire, neither at once nor by a timer (addrconf_join_solict
        // and mld_ifc_event in net/ipv6). Permanent neighbours make up for it. Where neighbours are
        // to be learned, the reports are waited for instead.
        let silent = case.settled() == Family::V6 && case.neighbours == Neighbours::Permanent;
        for (at, link) in case.links.iter().enumerate() {
            self.near(at, |host| host.up(&self.runtime, link.index, &link.name, silent))??;
            // A bridge would carry its gateway's reports over to another link.
            let silent = silent && case.adversary.is_some();
            self.gateways[at].up(&self.runtime, link.index, &link.name, silent)?;
            if case.settled() == Family::V6 {
                // The route to all groups leads by the device that is told of its carrier first, and a device
                // that is told late reports its groups once more (addrconf_notify in net/ipv6/addrconf.c).
                self.near(at, |space| self.await_carrier_in(space, link.index, true))??;
            }
        }
        for (at, link) in case.links.iter().enumerate() {
            self.near(at, |host| -> Result<()> {
                host.address(&self.runtime, link, link.address, link.prefix_length)?;
                let link_local = link.link_local.into();
                match case.link_local {
                    true => host.address(&self.runtime, link, link_local, LINK_LOCAL_LENGTH),
                    false => Ok(()),
                }
            })??;
            self.gateway(at, link)?;
        }
        if case.family == Family::V6 {
            self.settle_addresses()?;
        }
        if case.neighbours == Neighbours::Permanent {
            for (at, link) in case.links.iter().enumerate() {
                for address in self.known_neighbours(at) {
                    let known =
                        |host: &Space| host.neighbour(&self.runtime, link, address, link.far_mac);
                    self.near(at, known)??;
                }
            }
        }
        if let Some(beside) = &case.surroundings.beside {
            self.raise_beside(beside)?;
        }
        // A preferred source must be in use, and a loopback address is lo's.
        self.everywhere(|space| space.up(&self.runtime, LOOPBACK, "lo", false))?;
        case.routes.iter().try_for_each(|route| self.add_route(route))?;
        case.rules
            .iter()
            .try_for_each(|rule| self.everywhere(|space| self.add_rule(space, rule)))?;
        self.run_lines(&case.lines)?;
        if !case.multicast_routes.is_empty() {
            self.router = Some(self.host.inside(|| multicast::open(case))??);
        }
        Ok(())
    }

    /// The addresses that the host under test knows as neighbours on a link, for good.
    fn known_neighbours(&self, at: usize) -> Vec<IpAddr> {
        let link = &self.case.links[at];
        let own = [link.address, link.gateway];
        let others = self.case.neighbour_addresses.iter().filter(|a| !own.contains(a));
        std::iter::once(&link.gateway).chain(others).copied().collect()
    }

    /// Waits until every IPv6 address is in use.
    fn settle_addresses(&self) -> Result<()> {
        let (case, runtime) = (&self.case, &self.runtime);
        let what = |space: &Space| format!("take the addresses of {} into use", space.name);
        let near = |away: bool| {
            let here = |(at, _): &(usize, &Link)| self.away.borrow().contains(at) == away;
            let links = case.links.iter().enumerate().filter(here);
            let addresses = links.flat_map(|(_, link)| {
                let link_local = case.link_local.then_some(link.link_local.into());
                std::iter::once(link.address).chain(link_local).map(|address| (link.index, address))
            });
            addresses.collect()
        };
        self.host.netlink.addresses_in_use(runtime, near(false), &what(&self.host))?;
        if !self.away.borrow().is_empty() {
            self.with_drawer(|drawer| {
                drawer.netlink.addresses_in_use(runtime, near(true), &what(drawer))
            })??;
        }
        for (link, gateway) in case.links.iter().zip(&self.gateways) {
            let far = std::iter::once(&link.gateway).chain(&case.owned);
            let far = far.map(|address| (link.index, *address)).collect();
            gateway.netlink.addresses_in_use(runtime, far, &what(gateway))?;
        }
        Ok(())
    }

    /// A gateway knows the host for good. It owns the target and leads everything back to the
    /// host; where it is played by crafted frames it does not own the target, and must take what
    /// is sent there without a word (IPv6 would answer that there is no route).
    fn gateway(&self, at: usize, link: &Link) -> Result<()> {
        let (space, runtime, case) = (&self.gateways[at], &self.runtime, &self.case);
        space.address(runtime, link, link.gateway, link.prefix_length)?;
        space.neighbour(runtime, link, link.address, link.near_mac)?;
        if case.link_local {
            space.neighbour(runtime, link, link.link_local.into(), link.near_mac)?;
        }
        let everything = (unspecified(case.family), 0);
        let mut back = Route {
            to: everything,
            kind: RouteKind::Blackhole,
            hops: Vec::new(),
            source: None,
            metric: None,
            table: None,
        };
        if !case.played {
            for address in &case.owned {
                let whole = if address.is_ipv4() { 32 } else { 128 };
                let local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
                let length = if local { LINK_LOCAL_LENGTH } else { whole };
                space.address(runtime, link, *address, length)?;
            }
            back.kind = RouteKind::Unicast;
            back.hops = vec![Hop { link: at, gateway: Some(link.address), onlink: false }];
        }
        space.route(runtime, &back, &case.links)
    }

    /// Adds a route to the host under test.
    pub fn add_route(&self, route: &Route) -> Result<()> {
        let add = |space: &Space| space.route(&self.runtime, route, &self.links_now());
        // What has no hop is refused wherever it is looked up.
        match route.hops.first() {
            Some(hop) => self.near(hop.link, add)?,
            None => self.everywhere(add),
        }
    }

    fn add_rule(&self, space: &Space, rule: &Rule) -> Result<()> {
        let what = format!("add a rule in {}: {rule:?}", space.name);
        let message = Message::NewRule(routes::rule_message(rule, family_of(self.case.target)));
        space.netlink.create(&self.runtime, message, &what)
    }

    /// The places of the links whose near ends were taken away for good.
    pub(crate) fn away(&self) -> Vec<usize> {
        self.away.borrow().clone()
    }

    /// The interface index that each link's near end has now, wherever it is.
    pub(crate) fn indexes(&self) -> Vec<u32> {
        self.devices.borrow().iter().map(|(_, index)| *index).collect()
    }

    /// Does something in the namespace of the near end of the link at place `at`.
    fn near<T>(&self, at: usize, action: impl FnOnce(&Space) -> T) -> Result<T> {
        match self.away.borrow().contains(&at) {
            true => self.with_drawer(action),
            false => Ok(action(&self.host)),
        }
    }

    /// Does something in every namespace that has a near end.
    fn everywhere(&self, action: impl Fn(&Space) -> Result<()>) -> Result<()> {
        action(&self.host)?;
        match self.away.borrow().is_empty() {
            true => Ok(()),
            false => self.with_drawer(action)?,
        }
    }

    /// Deletes a route of the host under test.
    pub fn delete_route(&self, route: &Route) -> Result<()> {
        let (to, length) = route.to;
        let what = || format!("delete route {to}/{length} in {}", self.host.name);
        let message = routes::route_message(route, &self.links_now()).with_context(what)?;
        self.host.netlink.change(&self.runtime, Message::DelRoute(message), &what())
    }

    /// The kernel's own decision on which way a packet takes, in the words of ip-route(8); its
    /// refusal is an answer too.
    pub fn route_decision(&self, query: &RouteQuery) -> Result<String> {
        let what = format!("ask for the route to {}", query.to);
        let message = Message::GetRoute(routes::query_message(query));
        match self.host.netlink.question(&self.runtime, message, &what)? {
            Ok(Message::NewRoute(answer)) => {
                Ok(routes::describe(query.to, &answer, &self.case.links))
            }
            Ok(other) => Err(anyhow!("{what}: the answer is no route: {other:?}")),
            Err(errno) => Ok(format!("{}: {errno}", query.to)),
        }
    }

    /// Whether others than the laboratory itself may have changed the host under test.
    fn altered(&self) -> bool {
        let case = &self.case;
        case.all_lines().next().is_some() || case.runs_program() || case.changes_links()
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
        let ask = |(at, index): (usize, u32)| {
            let what = format!("read the counters of {}", self.case.links[at].name);
            let from = |space: &Space| space.netlink.device(&self.runtime, index, &what);
            let LinkMessage { attributes, .. } = self.near(at, from)??;
            let stats = attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::Stats64(stats) => Some(stats.tx_packets),
                _ => None,
            });
            stats.ok_or_else(|| anyhow!("{what}: the kernel gave none"))
        };
        self.indexes().into_iter().enumerate().map(ask).collect()
    }

    /// Runs `action` on this thread, inside the namespace of links that were taken away.
    pub fn inside_drawer<T>(&self, action: impl FnOnce() -> T) -> Result<T> {
        self.with_drawer(|drawer| drawer.inside(action))?
    }

    /// What has been waited for since this was last asked, and how long.
    pub fn waited(&self) -> Vec<(String, Duration)> {
        self.waits.take()
    }

    /// Takes the near end of the link at place `at` down.
    pub fn take_down(&self, at: usize) -> Result<()> {
        let link = self.link_now(at);
        let message = LinkUnspec::new_with_index(link.index).down().build();
        let what = format!("take {} down", link.name);
        self.host.netlink.change(&self.runtime, Message::SetLink(message), &what)
    }
}

/// The length of a link-local prefix, in bits.
const LINK_LOCAL_LENGTH: u8 = 64;
/// The interface index of the loopback device of every namespace.
const LOOPBACK: u32 = 1;

impl Space {
    fn new(runtime: &Runtime, name: &str, family: Family, baseline: &Baseline) -> Result<Space> {
        unshare(CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("make the namespace of {name}"))?;
        let netns = netns_rs::get_from_current_thread()
            .map_err(|error| anyhow!("open the namespace of {name}: {error}"))?;
        baseline.settle(family).with_context(|| format!("set the sysctls of {name}"))?;
        Ok(Space {
            name: name.to_owned(),
            netns,
            netlink: Netlink::open(runtime, MulticastGroup::Ipv6Ifaddr)?,
        })
    }

    /// Runs `action` in this namespace, where the thread stays until it is led into another.
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

    fn address_message(link: &Link, address: IpAddr, length: u8) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family_of(address);
        message.header.prefix_len = length;
        message.header.index = link.index;
        message.attributes.push(AddressAttribute::Address(address));
        message.attributes.push(AddressAttribute::Local(address));
        if address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        message
    }

    fn address(&self, runtime: &Runtime, link: &Link, address: IpAddr, length: u8) -> Result<()> {
        let message = Space::address_message(link, address, length);
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
        self.netlink.replace(runtime, Message::NewNeighbour(message), &what)
    }

    fn route(&self, runtime: &Runtime, route: &Route, links: &[Link]) -> Result<()> {
        let (to, length) = route.to;
        let what = || format!("add route {to}/{length} in {}", self.name);
        let message = routes::route_message(route, links).with_context(what)?;
        self.netlink.append(runtime, Message::NewRoute(message), &what())
    }
}

/// Writes settings of the calling thread's namespace, each below /proc/sys.
fn set(settings: &[(String, String)]) -> Result<()> {
    for (name, value) in settings {
        let path = format!("/proc/sys/{name}");
        fs::write(&path, value).with_context(|| format!("write {value} to {path}"))?;
    }
    Ok(())
}

fn veth(link: &Link, gateway: &Space) -> LinkMessage {
    use std::os::fd::AsRawFd;
    // One queue each way, and said so: else the kernel makes one for each processor and then takes all
    // but one away, and waits for a grace period with the routing lock held (veth_init_queues).
    let queues = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
    let far = LinkMessageBuilder::<LinkUnspec>::new()
        .name(link.name.clone())
        .index(link.index)
        .address(link.far_mac.to_vec())
        .append_extra_attribute(queues[0].clone())
        .append_extra_attribute(queues[1].clone())
        .setns_by_fd(gateway.netns.file().as_raw_fd());
    let [transmit, receive] = queues;
    LinkVeth::new(&link.name, &link.name)
        .index(link.index)
        .address(link.near_mac.to_vec())
        .append_extra_attribute(transmit)
        .append_extra_attribute(receive)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())))
        .build()
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 | Family::Mapped => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

/// Adds a rule for another user than our own in the calling thread's namespace, which should be a
/// throwaway one. Without root a user namespace has no other user.
pub(crate) fn try_user_rule() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let netlink = Netlink::open(&runtime, MulticastGroup::Ipv6Ifaddr)?;
    let rule = crate::plan::Rule { uid: Some([1, 1]), table: Some(100), ..Default::default() };
    let message = Message::NewRule(routes::rule_message(&rule, AddressFamily::Inet));
    netlink.create(&runtime, message, "add a rule for user 1")
}

/// Runs a command line in the calling thread's namespace, which should be a throwaway one.
pub(crate) fn try_line(line: &str) -> Result<()> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    command::run(&words)
}

/// Makes a device of this kind (`vrf`, `macvlan`, ...) in the calling thread's namespace, which
/// should be a throwaway one. The error is the kernel's.
pub(crate) fn try_link_kind(kind: &str) -> Result<()> {
    use rtnetlink::packet_route::link::{InfoKind, InfoMacVlan, InfoVlan, InfoVrf, InfoVxlan};
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let netlink = Netlink::open(&runtime, MulticastGroup::Ipv6Ifaddr)?;
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
