//! What goes wrong below the sockets: command lines, redirections, and the devices that they make.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::{LOOPBACK, Lab, Space, command};
use crate::plan::{Adversary, Line};
use crate::sys;

impl Lab {
    /// Runs command lines, each in its namespace, and returns when the devices that they have made or
    /// changed are in use at both ends.
    pub(super) fn run_lines(&self, lines: &[Line]) -> Result<()> {
        for line in lines {
            let space = line.gateway.map_or(&self.host, |at| &self.gateways[at]);
            space
                .inside(|| command::run(&line.words))?
                .with_context(|| format!("in {}", space.name))?;
        }
        if lines.is_empty() {
            return Ok(());
        }
        std::iter::once(&self.host)
            .chain(&self.gateways)
            .try_for_each(|space| self.await_use(space))
    }

    /// Lets the adversary in: what goes wrong below the sockets from here on.
    pub fn admit(&self, adversary: &Adversary) -> Result<()> {
        self.run_lines(&adversary.lines)?;
        if let Some((from, to)) = adversary.redirect {
            let [from, to] = [from, to].map(|at| self.link_now(at));
            let hook = self.host.inside(|| sys::redirect(from.index, to.index))?;
            let what = || format!("redirect what leaves by {} to {}", from.name, to.name);
            self.hooks.borrow_mut().push(hook.with_context(what)?);
        }
        Ok(())
    }

    /// Waits until every device of `space` that has a carrier is in use. The kernel activates it by a
    /// workqueue (net/core/link_watch.c), and until then drops what it is to send without a word.
    fn await_use(&self, space: &Space) -> Result<()> {
        let what = format!("wait for the devices of {}", space.name);
        self.await_devices(space, &what, || {
            let mut devices = self.devices(space)?.into_iter().map(|device| device.header.flags);
            Ok(devices.all(|flags| {
                flags.contains(LinkFlags::Running) || !flags.contains(LinkFlags::LowerUp)
            }))
        })
    }

    /// Deletes every device of the host under test that is neither a link nor lo.
    pub(super) fn remove_others(&self) -> Result<()> {
        if self.case.lines_before_control().next().is_none() {
            return Ok(());
        }
        let links = self.indexes();
        for LinkMessage { header, attributes, .. } in self.devices(&self.host)? {
            let linked = links.contains(&header.index);
            // What needs no deleting (tunl0 and its like) cannot be deleted either.
            if linked || header.index == LOOPBACK || !stacked(&attributes) {
                continue;
            }
            let message = LinkUnspec::new_with_index(header.index).build();
            let what = format!("delete device {} of {}", header.index, self.host.name);
            self.host.netlink.change(&self.runtime, Message::DelLink(message), &what)?;
        }
        Ok(())
    }

    fn devices(&self, space: &Space) -> Result<Vec<LinkMessage>> {
        let what = format!("list the devices of {}", space.name);
        let message = Message::GetLink(LinkMessage::default());
        let devices = space.netlink.list(&self.runtime, message, &what)?;
        let link = |device| match device {
            Message::NewLink(link) => Some(link),
            _ => None,
        };
        Ok(devices.into_iter().filter_map(link).collect())
    }

    /// What other devices of the host under test than its links and lo have transmitted, where no
    /// capture sees it. None where nobody can have made one.
    pub fn others(&self) -> Result<BTreeMap<String, u64>> {
        if !self.altered() {
            return Ok(BTreeMap::new());
        }
        let links = self.indexes();
        let others = self.devices(&self.host)?.into_iter().filter_map(|device| {
            let LinkMessage { header, attributes, .. } = device;
            let known = links.contains(&header.index);
            if known || header.index == LOOPBACK || stacked(&attributes) {
                return None;
            }
            let mut name = format!("device {}", header.index);
            let mut sent = 0;
            for attribute in attributes {
                match attribute {
                    LinkAttribute::IfName(is) => name = is,
                    LinkAttribute::Stats64(stats) => sent = stats.tx_packets,
                    _ => {}
                }
            }
            Some((name, sent))
        });
        Ok(others.collect())
    }
}

/// Whether what a device sends leaves by other devices of its own namespace, or not at all, so that
/// captures of those see it. What a veth or a tun device sends is somebody else's at once.
fn stacked(attributes: &[LinkAttribute]) -> bool {
    let astray = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkNetNsId(_));
    let above = |info: &LinkInfo| match info {
        LinkInfo::Kind(kind) => matches!(
            kind,
            InfoKind::Bond
                | InfoKind::Bridge
                | InfoKind::Dummy
                | InfoKind::GreTap
                | InfoKind::GreTun
                | InfoKind::Ifb
                | InfoKind::IpIp
                | InfoKind::IpVlan
                | InfoKind::MacVlan
                | InfoKind::SitTun
                | InfoKind::Vlan
                | InfoKind::Vrf
                | InfoKind::Vxlan
        ),
        _ => false,
    };
    let kind = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().any(above),
        _ => false,
    };
    attributes.iter().any(kind) && !attributes.iter().any(astray)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_see_what_leaves_by_a_stacked_device_and_by_no_other() {
        let of = |kind| vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
        for kind in [InfoKind::Bridge, InfoKind::MacVlan, InfoKind::Vxlan, InfoKind::Ifb] {
            assert!(stacked(&of(kind.clone())), "{kind:?}");
            // A device may lie over one of another namespace.
            let astray = LinkAttribute::LinkNetNsId(0);
            let away = [of(kind.clone()), vec![astray]].concat();
            assert!(!stacked(&away), "{kind:?} over another namespace's device");
        }
        let unknown = InfoKind::Other("unknown".to_owned());
        for kind in [InfoKind::Veth, InfoKind::Tun, InfoKind::Wireguard, unknown] {
            assert!(!stacked(&of(kind.clone())), "{kind:?}");
        }
        assert!(!stacked(&[]), "a device of no kind, as hardware is");
    }
}
