//! What becomes of a link after the trap is armed: taken down, unplugged, stripped of its addresses,
//! moved away, and given back. And the other address family, where it is reachable by a decoy.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, MulticastGroup};

use super::netlink::Netlink;
use super::{LINK_LOCAL_LENGTH, Lab, Space, unspecified};
use crate::plan::{Beside, Hop, Link, LinkChange, Route};
use crate::scenario::{Family, LinkState, Neighbours, RouteKind};

impl Lab {
    /// Makes a change, and returns when the kernel has made it.
    pub fn set_link(&self, change: &LinkChange) -> Result<()> {
        let (at, link) = (change.link, &self.link_now(change.link));
        let runtime = &self.runtime;
        match change.to {
            LinkState::Whole => return self.make_whole(at),
            LinkState::Down => self.take_down(at)?,
            LinkState::Unplugged => {
                let far = self.case.links[at].index;
                let message = LinkUnspec::new_with_index(far).down().build();
                let what = format!("take the far end of {} down", link.name);
                self.gateways[at].netlink.change(runtime, Message::SetLink(message), &what)?;
                // The device's state follows by a workqueue (net/core/link_watch.c).
                self.await_carrier(at, false)?;
            }
            LinkState::Bare => {
                for (address, length) in self.addresses(at) {
                    let message = Space::address_message(link, address, length);
                    let what = format!("delete address {address} of {}", link.name);
                    let delete = Message::DelAddress(message);
                    self.host.netlink.change(runtime, delete, &what)?;
                }
            }
            LinkState::Gone => {
                self.with_drawer(|drawer| self.carry(at, &self.host, drawer, None))??;
            }
        }
        self.states.borrow_mut()[at] = change.to;
        Ok(())
    }

    /// Takes the near end of the link at place `at` to a namespace of its own for good.
    pub(super) fn take_away(&self, at: usize) -> Result<()> {
        self.with_drawer(|drawer| self.carry(at, &self.host, drawer, None))??;
        self.leave_away(at)
    }

    /// Leaves the near end of a link where it was moved to. There it has no address and no route, and is
    /// up, so that its wire can still carry sentinels.
    fn leave_away(&self, at: usize) -> Result<()> {
        let silent = self.case.settled() == Family::V6;
        let link = self.link_now(at);
        self.with_drawer(|drawer| -> Result<()> {
            drawer.up(&self.runtime, link.index, &link.name, silent)?;
            self.await_carrier_in(drawer, link.index, true)
        })??;
        self.away.borrow_mut().push(at);
        Ok(())
    }

    /// The places of the links that are up.
    pub(crate) fn carrying(&self) -> Vec<usize> {
        let states = self.states.borrow();
        let up = |at: &usize| matches!(states[*at], LinkState::Whole | LinkState::Bare);
        (0..states.len()).filter(up).collect()
    }

    /// Gives the device of the link at place `at` another name.
    pub fn rename(&self, at: usize, name: &str) -> Result<()> {
        let link = self.link_now(at);
        let message = LinkUnspec::new_with_index(link.index).name(name.to_owned()).build();
        let what = format!("rename {} to {name}", link.name);
        self.host.netlink.change(&self.runtime, Message::SetLink(message), &what)?;
        self.devices.borrow_mut()[at].0 = name.to_owned();
        Ok(())
    }

    /// Gives the device of the link at place `at` the interface index of the link at `like`, which is
    /// gone: a device that is moved may choose its index. It is the same device, with the counters and
    /// the wire that it had.
    pub fn reindex(&self, at: usize, like: usize) -> Result<()> {
        let index = self.case.links[like].index;
        self.with_drawer(|drawer| {
            self.carry(at, &self.host, drawer, None)?;
            self.states.borrow_mut()[at] = LinkState::Gone;
            self.carry(at, drawer, &self.host, Some(index))
        })??;
        let link = self.link_now(at);
        let what = format!("ask for the device with index {index}");
        let device = self.host.netlink.device(&self.runtime, index, &what)?;
        let own = LinkAttribute::Address(link.near_mac.to_vec());
        ensure!(device.attributes.contains(&own), "{what}: it is not {}", link.name);
        self.host.up(&self.runtime, link.index, &link.name, false)?;
        self.await_carrier(at, true)?;
        self.states.borrow_mut()[at] = LinkState::Bare;
        self.make_whole(at)
    }

    /// The link at place `at`, its device with the name and index that it has now.
    pub(super) fn link_now(&self, at: usize) -> Link {
        let (name, index) = self.devices.borrow()[at].clone();
        Link { name, index, ..self.case.links[at].clone() }
    }

    pub(super) fn links_now(&self) -> Vec<Link> {
        (0..self.case.links.len()).map(|at| self.link_now(at)).collect()
    }

    /// Does something with the namespace where links are that were taken away, which is made when it
    /// is first needed.
    pub(super) fn with_drawer<T>(&self, action: impl FnOnce(&Space) -> T) -> Result<T> {
        let drawer = match self.drawer.take() {
            Some(drawer) => drawer,
            None => Space::new(&self.runtime, "the drawer", self.case.settled(), &self.baseline)?,
        };
        let done = action(&drawer);
        self.drawer.replace(Some(drawer));
        Ok(done)
    }

    /// Brings every link up again that was taken from the host, without its addresses and routes, so that
    /// wires can be drained. One that was moved stays where it is: moving a device holds up whoever else
    /// has a request for the kernel's routing, for some 10 ms (6.18). Its name and its index are whatever
    /// they were made.
    pub fn revive(&self) -> Result<Vec<String>> {
        let mut revived = Vec::new();
        for (at, link) in self.case.links.iter().enumerate() {
            let state = self.states.borrow()[at];
            if !matches!(state, LinkState::Whole | LinkState::Bare) {
                match state {
                    LinkState::Gone => self.leave_away(at)?,
                    _ => self.revive_one(at, state)?,
                }
                revived.push(link.name.clone());
                self.states.borrow_mut()[at] = LinkState::Bare;
            }
        }
        Ok(revived)
    }

    fn revive_one(&self, at: usize, state: LinkState) -> Result<()> {
        let (runtime, link) = (&self.runtime, &self.link_now(at));
        match state {
            LinkState::Whole | LinkState::Bare => return Ok(()),
            LinkState::Down => self.host.up(runtime, link.index, &link.name, false)?,
            LinkState::Unplugged => {
                let far = self.case.links[at].index;
                self.gateways[at].up(runtime, far, &link.name, false)?;
            }
            LinkState::Gone => {
                self.with_drawer(|drawer| self.carry(at, drawer, &self.host, None))??;
                self.host.up(runtime, link.index, &link.name, false)?;
            }
        }
        self.await_carrier(at, true)
    }

    /// As the scenario has it.
    fn make_whole(&self, at: usize) -> Result<()> {
        let state = self.states.borrow()[at];
        if state == LinkState::Whole {
            return Ok(());
        }
        self.revive_one(at, state)?;
        let (runtime, case, link) = (&self.runtime, &self.case, &self.link_now(at));
        let links = self.links_now();
        self.host.netlink.forget_news(runtime);
        for (address, length) in self.addresses(at) {
            let message = Space::address_message(link, address, length);
            let what = format!("give {} its address {address} back", link.name);
            let message = Message::NewAddress(message);
            self.host.netlink.replace(runtime, message, &what)?;
        }
        if state != LinkState::Unplugged {
            let v6 = self.addresses(at).into_iter().filter(|(address, _)| address.is_ipv6());
            let v6 = v6.map(|(address, _)| (link.index, address)).collect();
            let what = format!("take the addresses of {} into use again", link.name);
            self.host.netlink.addresses_in_use(runtime, v6, &what)?;
        }
        if case.neighbours == Neighbours::Permanent {
            for address in self.known_neighbours(at) {
                self.host.neighbour(runtime, link, address, link.far_mac)?;
            }
        }
        let beside = case.surroundings.beside.as_ref().filter(|beside| beside.by == at);
        if let Some(beside) = beside {
            self.host.neighbour(runtime, link, beside.link.gateway, link.far_mac)?;
            self.host.neighbour(runtime, link, beside.target, link.far_mac)?;
        }
        let routes = case.routes.iter().filter(|route| route.hops.iter().any(|hop| hop.link == at));
        let other = beside.map(default_route);
        for route in routes.chain(&other) {
            let (to, length) = route.to;
            let what = format!("give {} its route {to}/{length} back", link.name);
            let message = super::routes::route_message(route, &links)?;
            let message = Message::NewRoute(message);
            self.host.netlink.replace(runtime, message, &what)?;
        }
        self.states.borrow_mut()[at] = LinkState::Whole;
        Ok(())
    }

    /// The addresses of the host under test on a link, with their prefixes' lengths.
    fn addresses(&self, at: usize) -> Vec<(IpAddr, u8)> {
        let link = &self.case.links[at];
        let mut addresses = vec![(link.address, link.prefix_length)];
        if self.case.link_local {
            addresses.push((link.link_local.into(), LINK_LOCAL_LENGTH));
        }
        if let Some(beside) = self.case.surroundings.beside.as_ref().filter(|b| b.by == at) {
            addresses.push((beside.link.address, beside.link.prefix_length));
        }
        addresses
    }

    /// Moves the near end of a link, with its index, or under another.
    fn carry(&self, at: usize, from: &Space, to: &Space, index: Option<u32>) -> Result<()> {
        let link = self.link_now(at);
        let mut message: LinkMessage = LinkMessageBuilder::<LinkUnspec>::new()
            .index(link.index)
            .setns_by_fd(to.netns.file().as_raw_fd())
            .build();
        if let Some(index) = index {
            let wanted = i32::try_from(index).context("name an interface index")?;
            message.attributes.push(LinkAttribute::NewIfIndex(wanted));
        }
        let what = format!("move {} from {} to {}", link.name, from.name, to.name);
        from.netlink.change(&self.runtime, Message::SetLink(message), &what)?;
        self.devices.borrow_mut()[at].1 = index.unwrap_or(link.index);
        Ok(())
    }

    /// Waits until the near end of a link in the host under test has a carrier, or has none, and so the far
    /// end: a gateway that is told late answers into the void (noop_qdisc in net/sched/sch_generic.c).
    fn await_carrier(&self, at: usize, wanted: bool) -> Result<()> {
        let begun = Instant::now();
        self.await_carrier_in(&self.host, self.link_now(at).index, wanted)?;
        self.await_carrier_in(&self.gateways[at], self.case.links[at].index, wanted)?;
        let word = if wanted { "carrier" } else { "loss of the carrier" };
        let what = format!("the {word} of {}", self.link_now(at).name);
        self.waits.borrow_mut().push((what, begun.elapsed()));
        Ok(())
    }

    /// Waits until the device with this index in `space` has a carrier, or has none: not as soon as it says so,
    /// but when the rest of the kernel knows (IFF_RUNNING, netdevice(7)). Since Linux 6.8 the question itself
    /// makes the kernel bring its knowledge up to date (rtnl_getlink in net/core/rtnetlink.c).
    pub(super) fn await_carrier_in(&self, space: &Space, index: u32, wanted: bool) -> Result<()> {
        let what = format!("wait for the carrier of device {index} of {}", space.name);
        self.await_devices(space, &what, || {
            let device = space.netlink.device(&self.runtime, index, &what)?;
            Ok(device.header.flags.contains(LinkFlags::Running) == wanted)
        })
    }

    /// Waits until `done`, which is asked again whenever the kernel tells something of the devices of `space`.
    pub(super) fn await_devices(
        &self,
        space: &Space,
        what: &str,
        done: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        if done()? {
            return Ok(());
        }
        let news = space.inside(|| Netlink::open(&self.runtime, MulticastGroup::Link))??;
        news.until(&self.runtime, what, done)
    }

    /// The other address family, reachable by one decoy.
    pub(super) fn raise_beside(&self, beside: &Beside) -> Result<()> {
        let Beside { family, by, link, target } = beside;
        let (runtime, gateway) = (&self.runtime, &self.gateways[*by]);
        self.host.address(runtime, link, link.address, link.prefix_length)?;
        gateway.address(runtime, link, link.gateway, link.prefix_length)?;
        gateway.neighbour(runtime, link, link.address, link.near_mac)?;
        let whole = if target.is_ipv4() { 32 } else { 128 };
        gateway.address(runtime, link, *target, whole)?;
        for address in [link.gateway, *target] {
            self.host.neighbour(runtime, link, address, link.far_mac)?;
        }
        if *family == Family::V6 {
            let near = [(link.index, link.address)].into();
            self.host.netlink.addresses_in_use(runtime, near, "take the other family into use")?;
            let far = [(link.index, link.gateway), (link.index, *target)].into();
            gateway.netlink.addresses_in_use(runtime, far, "take the other family into use")?;
        }
        let back = Route {
            hops: vec![Hop { link: *by, gateway: Some(link.address), onlink: false }],
            ..default_route(beside)
        };
        gateway.route(runtime, &back, &self.case.links)?;
        self.host.route(runtime, &default_route(beside), &self.case.links)
    }
}

fn default_route(beside: &Beside) -> Route {
    Route {
        to: (unspecified(beside.family), 0),
        kind: RouteKind::Unicast,
        hops: vec![Hop { link: beside.by, gateway: Some(beside.link.gateway), onlink: false }],
        source: None,
        metric: None,
        table: None,
    }
}
