//! Placeholders and link names to addresses: the one place that knows which address is whose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Link;
use crate::scenario::{Family, parse_prefix};

/// The target, outside every link's network (RFC 5737 TEST-NET-3, RFC 3849).
pub(super) fn target(family: Family) -> IpAddr {
    either(family, Ipv4Addr::new(203, 0, 113, 9), Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9))
}

/// A second address behind every link, which a scenario's routes may treat differently.
pub(super) fn elsewhere(family: Family) -> IpAddr {
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 10);
    either(family, Ipv4Addr::new(198, 51, 100, 10), v6)
}

/// The link-local address that every gateway owns beside its own.
pub(super) const LINK_LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9));

fn either(family: Family, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
    if family.is_v4() { IpAddr::V4(v4) } else { IpAddr::V6(v6) }
}

/// The link at place `at`: its subnet of 192.0.2.0/24 (RFC 5737) or 2001:db8::/32 (RFC 3849).
pub(super) fn link(at: usize, name: &str, family: Family) -> Link {
    let number = u8::try_from((at + 1) % 16).unwrap_or_default();
    let host = |last: u8| {
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, number.into(), 0, 0, 0, last.into());
        either(family, Ipv4Addr::new(192, 0, 2, 16 * number + last), v6)
    };
    Link {
        name: name.to_owned(),
        address: host(1),
        gateway: host(2),
        prefix_length: if family.is_v4() { 28 } else { 64 },
        link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, number.into(), 1),
        index: 10 + u32::from(number),
        near_mac: [2, 0, 0, 0, number, 1],
        far_mac: [2, 0, 0, 0, number, 2],
    }
}

/// The address that a placeholder, or a link's name, stands for; `None` where the family has no
/// such address.
pub(super) fn resolve(text: &str, links: &[Link], family: Family) -> Option<IpAddr> {
    let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) else {
        return links.iter().find(|link| link.name == text).map(|link| link.address);
    };
    let v6 = |address: Ipv6Addr| (!family.is_v4()).then_some(IpAddr::V6(address));
    match inner {
        "target" => Some(target(family)),
        "elsewhere" => Some(elsewhere(family)),
        // Addresses for documentation: RFC 5737 TEST-NET-2, RFC 3849; groups: RFC 6676.
        "foreign" => {
            let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 7);
            Some(either(family, Ipv4Addr::new(198, 51, 100, 200), v6))
        }
        "group" => {
            let v6 = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0xdb8, 0, 9);
            Some(either(family, Ipv4Addr::new(233, 252, 0, 9), v6))
        }
        "link-group" => v6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0xdb8, 0, 9)),
        "link-local" => (!family.is_v4()).then_some(LINK_LOCAL),
        "broadcast" => family.is_v4().then_some(IpAddr::V4(Ipv4Addr::BROADCAST)),
        "loopback" => Some(either(family, Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)),
        other => {
            let (name, part) = other.rsplit_once('.')?;
            let link = links.iter().find(|link| link.name == name)?;
            match part {
                "address" => Some(link.address),
                "gateway" => Some(link.gateway),
                "broadcast" => link.broadcast().map(IpAddr::V4),
                "link-local" => v6(link.link_local),
                _ => None,
            }
        }
    }
}

/// The hardware address that `{LINK.gateway-mac}` stands for, as `ip` takes it.
pub(super) fn gateway_mac(text: &str, links: &[Link]) -> Option<String> {
    let (name, part) = text.strip_prefix('{')?.strip_suffix('}')?.rsplit_once('.')?;
    let link = links.iter().find(|link| link.name == name && part == "gateway-mac")?;
    Some(link.far_mac.map(|byte| format!("{byte:02x}")).join(":"))
}

/// A prefix's address and length in this family; `None` for a literal prefix of the other family.
pub(super) fn prefix(text: &str, links: &[Link], family: Family) -> Option<(IpAddr, u8)> {
    let width = if family.is_v4() { 32 } else { 128 };
    if text == "default" {
        return Some((either(family, Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED), 0));
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        if let Some((name, "network")) = inner.rsplit_once('.') {
            return links.iter().find(|link| link.name == name).map(Link::network);
        }
        return resolve(text, links, family).map(|address| (address, width));
    }
    parse_prefix(text).filter(|(address, _)| address.is_ipv4() == family.is_v4())
}
