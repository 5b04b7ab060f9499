//! Routes, rules and the kernel's own decisions, as routing netlink has them.

use std::net::IpAddr;

use anyhow::{Result, anyhow};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteScope,
    RouteType,
};
use rtnetlink::packet_route::rule::{
    RuleAction, RuleAttribute, RuleMessage, RulePortRange, RuleUidRange,
};
use rtnetlink::{RouteMessageBuilder, RouteNextHopBuilder};

use super::family_of;
use crate::plan::{Hop, Link, Route, RouteQuery, Rule};
use crate::scenario::{RouteKind, RuleProtocol};

/// The table in which IPv6 looks for the ways of groups (`ip -6 route show table local`).
const TABLE_LOCAL: u32 = 255;

/// The message that adds a route.
pub(super) fn route_message(route: &Route, links: &[Link]) -> Result<RouteMessage> {
    let (to, length) = route.to;
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to, length)
        .map_err(|error| anyhow!("{error}"))?
        .kind(kind(route));
    match route.hops.as_slice() {
        [] => {}
        [hop] => {
            builder = builder.output_interface(links[hop.link].index);
            if let Some(gateway) = hop.gateway {
                builder = builder.gateway(gateway).map_err(|error| anyhow!("{error}"))?;
            } else if to.is_ipv4() {
                builder = builder.scope(RouteScope::Link);
            }
            if hop.onlink {
                builder = builder.onlink();
            }
        }
        hops => {
            let hops: Result<Vec<_>> = hops.iter().map(|hop| next_hop(hop, links, to)).collect();
            builder = builder.multipath(hops?);
        }
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(|error| anyhow!("{error}"))?;
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    // IPv6 asks the local table first, which has a route to all groups by each device; a route of
    // the main table would never be met.
    let group = to.is_ipv6() && to.is_multicast();
    if let Some(table) = route.table.or(group.then_some(TABLE_LOCAL)) {
        builder = builder.table_id(table);
    }
    Ok(builder.build())
}

fn kind(route: &Route) -> RouteType {
    match route.kind {
        RouteKind::Unicast if route.to.0.is_ipv6() && route.to.0.is_multicast() => {
            RouteType::Multicast
        }
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Prohibit => RouteType::Prohibit,
        RouteKind::Throw => RouteType::Throw,
    }
}

fn next_hop(
    hop: &Hop,
    links: &[Link],
    to: IpAddr,
) -> Result<rtnetlink::packet_route::route::RouteNextHop> {
    let mut builder = RouteNextHopBuilder::new(family_of(to)).interface(links[hop.link].index);
    if let Some(gateway) = hop.gateway {
        builder = builder.via(gateway).map_err(|error| anyhow!("{error:?}"))?;
    }
    if hop.onlink {
        builder = builder.flags(RouteNextHopFlags::Onlink);
    }
    Ok(builder.build())
}

/// The message that adds a policy rule.
pub(super) fn rule_message(rule: &Rule, family: AddressFamily) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = match rule.kind {
        RouteKind::Unicast | RouteKind::Throw => RuleAction::ToTable,
        RouteKind::Unreachable => RuleAction::Unreachable,
        RouteKind::Blackhole => RuleAction::Blackhole,
        RouteKind::Prohibit => RuleAction::Prohibit,
    };
    if let Some((from, length)) = rule.from {
        message.header.src_len = length;
        message.attributes.push(RuleAttribute::Source(from));
    }
    if let Some((to, length)) = rule.to {
        message.header.dst_len = length;
        message.attributes.push(RuleAttribute::Destination(to));
    }
    let icmp = if family == AddressFamily::Inet { IpProtocol::Icmp } else { IpProtocol::Other(58) };
    let port = |port: u16| RulePortRange { start: port, end: port };
    let attributes = [
        rule.mark.map(RuleAttribute::FwMark),
        // Without a mask mark 0 would be no condition (fib_nl_newrule in net/core/fib_rules.c).
        rule.mark.map(|_| RuleAttribute::FwMask(u32::MAX)),
        rule.oif.clone().map(RuleAttribute::Oifname),
        rule.iif.clone().map(RuleAttribute::Iifname),
        rule.uid.map(|[start, end]| RuleAttribute::UidRange(RuleUidRange { start, end })),
        rule.protocol.map(|protocol| {
            RuleAttribute::IpProtocol(match protocol {
                RuleProtocol::Udp => IpProtocol::Udp,
                RuleProtocol::Tcp => IpProtocol::Tcp,
                RuleProtocol::Icmp => icmp,
            })
        }),
        rule.sport.map(|number| RuleAttribute::SourcePortRange(port(number))),
        rule.dport.map(|number| RuleAttribute::DestinationPortRange(port(number))),
        rule.table.map(RuleAttribute::Table),
        rule.priority.map(RuleAttribute::Priority),
    ];
    message.attributes.extend(attributes.into_iter().flatten());
    message
}

/// The message that asks for a route (RTM_GETROUTE).
pub(super) fn query_message(query: &RouteQuery) -> RouteMessage {
    let width = if query.to.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(query.to);
    message.header.destination_prefix_length = width;
    message.header.flags = RouteFlags::LookupTable;
    message.attributes.push(RouteAttribute::Destination(route_address(query.to)));
    if let Some(from) = query.from {
        message.header.source_prefix_length = width;
        message.attributes.push(RouteAttribute::Source(route_address(from)));
    }
    message.attributes.extend(query.oif.map(RouteAttribute::Oif));
    message.attributes.extend(query.mark.map(RouteAttribute::Mark));
    message
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

/// A route in words: `203.0.113.9 via 192.0.2.34 dev uplink src 192.0.2.33`. IPv6 answers with the
/// route that refuses, where IPv4 answers with the error alone: both read `TO: ERRNO`.
pub(super) fn describe(to: IpAddr, answer: &RouteMessage, links: &[Link]) -> String {
    let refused = answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::CacheInfo(info) if info.error != 0 => Some(info.error.cast_signed()),
        _ => None,
    });
    if let Some(errno) = refused {
        return format!("{to}: {}", crate::errno::name(errno.wrapping_abs()));
    }
    let kind = match answer.header.kind {
        RouteType::Unicast => String::new(),
        other => format!("{} ", format!("{other:?}").to_lowercase()),
    };
    let mut words = format!("{kind}{to}");
    let shown = |address: &RouteAddress| match address {
        RouteAddress::Inet(v4) => v4.to_string(),
        RouteAddress::Inet6(v6) => v6.to_string(),
        other => format!("{other:?}"),
    };
    // In the order of ip-route(8), whatever the kernel's.
    let find = |pick: fn(&RouteAttribute) -> bool| answer.attributes.iter().find(|a| pick(a));
    // IPv6 answers with `from ::` where no source was asked for (rt6_fill_node).
    if let Some(RouteAttribute::Source(from)) = find(|a| matches!(a, RouteAttribute::Source(_)))
        && shown(from) != "::"
    {
        words += &format!(" from {}", shown(from));
    }
    if let Some(RouteAttribute::Gateway(gateway)) =
        find(|a| matches!(a, RouteAttribute::Gateway(_)))
    {
        words += &format!(" via {}", shown(gateway));
    }
    if let Some(RouteAttribute::Oif(index)) = find(|a| matches!(a, RouteAttribute::Oif(_))) {
        let name = links.iter().find(|link| link.index == *index).map(|link| link.name.as_str());
        let lo = if *index == super::LOOPBACK { "lo" } else { "?" };
        words += &format!(" dev {}", name.unwrap_or(lo));
    }
    if let Some(RouteAttribute::PrefSource(source)) =
        find(|a| matches!(a, RouteAttribute::PrefSource(_)))
    {
        words += &format!(" src {}", shown(source));
    }
    words
}
