//! The laboratory as lines of bash: namespaces, links, settings, addresses, neighbours, routes,
//! rules, command lines, and the kernel's own decision.

use std::net::IpAddr;

use super::{comment, ip, mac, prefix, shell};
use crate::plan::{Case, Hop, Line, Link, Route, RouteQuery, Rule};
use crate::scenario::{Neighbours, RouteKind, RuleProtocol};

/// Namespaces that vanish with the script, and the links between them.
pub(super) fn lines(case: &Case) -> Vec<String> {
    let parts = [
        namespaces(case),
        links(case),
        settings(case),
        addresses(case),
        neighbours(case),
        routes(case),
        command_lines(case),
        decisions(case),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter(|part| !part.is_empty()).map(|part| part.join("\n")).collect();
    vec![parts.join("\n\n")]
}

/// The variable that holds the name of the namespace of the link at place `at`.
pub(super) fn gateway(at: usize) -> String {
    format!("$gateway{}", at + 1)
}

fn namespaces(case: &Case) -> Vec<String> {
    let mut lines = comment("The host under test, and a gateway at the far end of each link.");
    lines.push("host=airtight-$$-host".to_owned());
    for (at, link) in case.links.iter().enumerate() {
        let name = link.name.replace(char::is_control, " ");
        lines.push(format!("gateway{0}=airtight-$$-gateway{0}  # of {name}", at + 1));
    }
    let gateways: Vec<String> = (0..case.links.len()).map(gateway).collect();
    lines.push(format!("namespaces=\"$host {}\"", gateways.join(" ")));
    lines.push(
        "trap 'for name in $namespaces; do ip netns del $name 2> /dev/null || true; done' EXIT"
            .to_owned(),
    );
    lines.extend(comment("Without the right to write to /run (unshare -rnm): a /run of our own."));
    lines.push("mkdir -p /run/netns 2> /dev/null || true".to_owned());
    lines.push("[ -w /run/netns ] || mount -t tmpfs tmpfs /run".to_owned());
    lines.push("for name in $namespaces; do ip netns add $name; done".to_owned());
    lines
}

fn links(case: &Case) -> Vec<String> {
    // What a fresh namespace may inherit from the machine, as `lab::sysctl` sets it.
    let zeros = "rp_filter arp_ignore arp_announce arp_filter arp_notify accept_local \
                 route_localnet ignore_routes_with_linkdown";
    let mut lines = comment("Settings that a fresh namespace may have inherited.");
    lines.push("for name in $namespaces; do ip netns exec $name sh -c '".to_owned());
    lines.push("    cd /proc/sys/net".to_owned());
    lines.push(format!("    for zero in {zeros}; do"));
    lines.push("        echo 0 > ipv4/conf/all/$zero; echo 0 > ipv4/conf/default/$zero".to_owned());
    lines.push("    done".to_owned());
    let set = |value: &str, path: &str| format!("    echo {value} > {path}");
    for zero in ["ipv4/ip_forward", "ipv4/fwmark_reflect", "ipv4/tcp_fwmark_accept"] {
        lines.push(set("0", zero));
    }
    if case.family.is_v4() {
        lines.push(set("1", "ipv6/conf/all/disable_ipv6"));
        lines.push(set("1", "ipv6/conf/default/disable_ipv6"));
    } else {
        for zero in ["disable_ipv6", "forwarding", "ndisc_notify"] {
            lines.push(set("0", &format!("ipv6/conf/all/{zero}")));
            lines.push(set("0", &format!("ipv6/conf/default/{zero}")));
        }
        lines.push(set("1", "ipv6/conf/default/addr_gen_mode"));
        for zero in ["accept_ra", "accept_dad", "dad_transmits", "router_solicitations"] {
            lines.push(set("0", &format!("ipv6/conf/default/{zero}")));
        }
    }
    lines.push("'; done".to_owned());
    lines.push(String::new());
    lines.extend(comment("The links: a veth pair each, its far end in the gateway."));
    for (at, link) in case.links.iter().enumerate() {
        let name = shell(&link.name);
        lines.push(format!(
            "ip -n $host link add name {name} index {index} address {near} type veth \\\n    \
             peer name {name} index {index} address {far} netns {gateway}",
            index = link.index,
            near = mac(link.near_mac),
            far = mac(link.far_mac),
            gateway = gateway(at),
        ));
    }
    lines
}

/// The case's own settings, before any device is up: what they set off is over when it counts.
fn settings(case: &Case) -> Vec<String> {
    if case.sysctls.is_empty() {
        return Vec::new();
    }
    let mut lines = comment("Settings of the host under test.");
    for (path, value) in &case.sysctls {
        lines.push(format!(
            "ip netns exec $host sh -c 'echo \"$1\" > \"/proc/sys/$2\"' sh {} {}",
            shell(value),
            shell(path)
        ));
    }
    lines
}

fn addresses(case: &Case) -> Vec<String> {
    let v4 = case.family.is_v4();
    let nodad = if v4 { "" } else { " nodad" };
    let mut lines = comment("Addresses of the host under test.");
    if !v4 {
        lines.extend(comment(
            "Without ARP and without a carrier its devices join no groups, which they would\n\
             report on the wire; ARP is back before the far ends are up.",
        ));
    }
    for link in &case.links {
        let name = shell(&link.name);
        lines.push(format!(
            "ip -n $host link set dev {name}{} up",
            if v4 { "" } else { " arp off" }
        ));
        let length = link.prefix_length;
        lines.push(format!("ip -n $host addr add {}/{length} dev {name}{nodad}", link.address));
        if case.link_local {
            lines.push(format!("ip -n $host addr add {}/64 dev {name} nodad", link.link_local));
        }
    }
    if !v4 {
        lines.extend(in_use(case));
    }
    lines.push(String::new());
    lines.extend(comment(if case.played {
        "The gateways are played by crafted frames: their kernels say nothing to what they get."
    } else if case.owned.is_empty() {
        "No gateway owns the destinations."
    } else {
        "Every gateway owns the destinations, and leads everything back to the host."
    }));
    for (at, link) in case.links.iter().enumerate() {
        let (name, space) = (shell(&link.name), gateway(at));
        let length = link.prefix_length;
        lines.push(format!("ip -n {space} link set dev {name} up"));
        lines.push(format!("ip -n {space} addr add {}/{length} dev {name}{nodad}", link.gateway));
        for address in case.owned.iter().filter(|_| !case.played) {
            let length = match address {
                IpAddr::V4(_) => 32,
                IpAddr::V6(v6) if v6.is_unicast_link_local() => 64,
                IpAddr::V6(_) => 128,
            };
            lines.push(format!("ip -n {space} addr add {address}/{length} dev {name}{nodad}"));
        }
        lines.push(neighbour(&space, link.address, link.near_mac, &name));
        if case.link_local {
            lines.push(neighbour(&space, link.link_local, link.near_mac, &name));
        }
        lines.push(if case.played {
            format!("{} -n {space} route add blackhole default", ip(case))
        } else {
            format!("{} -n {space} route add default via {} dev {name}", ip(case), link.address)
        });
    }
    lines.push("ip -n $host link set dev lo up".to_owned());
    lines.extend(carriers(case));
    lines
}

/// A function of bash that waits for a condition, and not for ever.
fn waiting(name: &str, condition: &str) -> String {
    format!(
        "{name}() {{\n    for _ in {{1..999}}; do\n        {condition} && return\n    done\n    \
         echo \"waited for {name} of $1 in vain\" >&2; false\n}}"
    )
}

/// Waits until every address of the host is in use, which a workqueue sees to.
fn in_use(case: &Case) -> Vec<String> {
    let mut lines =
        vec![waiting("in_use", "ip -n $host -6 route show table local \"$1\" | grep -q local")];
    for link in &case.links {
        lines.push(format!("in_use {}", link.address));
        if case.link_local {
            lines.push(format!("in_use {}", link.link_local));
        }
    }
    for link in &case.links {
        lines.push(format!("ip -n $host link set dev {} arp on", shell(&link.name)));
    }
    lines
}

/// Waits until every link has a carrier: routes over one without it are not what they seem.
fn carriers(case: &Case) -> Vec<String> {
    let mut lines = vec![waiting(
        "carrier",
        "ip -n $host link show dev \"$1\" 2> /dev/null | grep -q LOWER_UP",
    )];
    lines.extend(case.links.iter().map(|link| format!("carrier {}", shell(&link.name))));
    lines
}

fn neighbour(space: &str, address: impl std::fmt::Display, at: [u8; 6], device: &str) -> String {
    let at = mac(at);
    format!("ip -n {space} neigh add {address} lladdr {at} dev {device} nud permanent")
}

fn neighbours(case: &Case) -> Vec<String> {
    if case.neighbours != Neighbours::Permanent {
        return Vec::new();
    }
    let mut lines = comment(
        "Permanent neighbours, because an unanswered request would hide the frame behind it.",
    );
    for link in &case.links {
        let own = [link.address, link.gateway];
        let known = case.neighbour_addresses.iter().filter(|known| !own.contains(known));
        for address in std::iter::once(&link.gateway).chain(known) {
            lines.push(neighbour("$host", address, link.far_mac, &shell(&link.name)));
        }
    }
    lines
}

fn routes(case: &Case) -> Vec<String> {
    if case.routes.is_empty() && case.rules.is_empty() {
        return Vec::new();
    }
    let mut lines = comment("What the kernel is told of routes.");
    let quoted =
        |words: Vec<String>| words.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ");
    for route in &case.routes {
        let words = quoted(route_words(route, &case.links));
        lines.push(format!("{} -n $host route add {words}", ip(case)));
    }
    for rule in &case.rules {
        let words = quoted(rule_words(rule, case.family.is_v4()));
        lines.push(format!("{} -n $host rule add {words}", ip(case)));
    }
    lines
}

fn kind(kind: RouteKind) -> Option<&'static str> {
    match kind {
        RouteKind::Unicast => None,
        RouteKind::Unreachable => Some("unreachable"),
        RouteKind::Blackhole => Some("blackhole"),
        RouteKind::Prohibit => Some("prohibit"),
        RouteKind::Throw => Some("throw"),
    }
}

/// A command line, and where it is run.
pub(crate) fn line_words(line: &Line, links: &[Link]) -> String {
    let at = line.gateway.map_or("host", |at| links[at].name.as_str());
    format!("at {at}: {}", line.words.join(" "))
}

/// The arguments of `ip route add`.
pub(crate) fn route_words(route: &Route, links: &[Link]) -> Vec<String> {
    // IPv6 looks groups up in the table `local`, where its own ff00::/8 of each device stands.
    let group = route.to.0.is_ipv6() && route.to.0.is_multicast();
    let word = kind(route.kind).or(group.then_some("multicast"));
    let mut words: Vec<String> = word.map(str::to_owned).into_iter().collect();
    words.push(prefix(route.to));
    let hop = |hop: &Hop| -> Vec<String> {
        let via = hop.gateway.map(|gateway| ["via".to_owned(), gateway.to_string()]);
        let mut words: Vec<String> = via.into_iter().flatten().collect();
        words.extend(["dev".to_owned(), links[hop.link].name.clone()]);
        words.extend(hop.onlink.then(|| "onlink".to_owned()));
        words
    };
    if let [only] = route.hops.as_slice() {
        words.extend(hop(only));
    }
    let mut push = |pair: [String; 2]| words.extend(pair);
    if let Some(source) = route.source {
        push(["src".to_owned(), source.to_string()]);
    }
    if let Some(metric) = route.metric {
        push(["metric".to_owned(), metric.to_string()]);
    }
    match route.table {
        Some(table) => push(["table".to_owned(), table.to_string()]),
        None if group => push(["table".to_owned(), "local".to_owned()]),
        None => {}
    }
    // Several next hops stand last, each behind its own word.
    for next in route.hops.iter().filter(|_| route.hops.len() > 1) {
        words.push("nexthop".to_owned());
        words.extend(hop(next));
    }
    words
}

/// The arguments of `ip rule add`.
pub(crate) fn rule_words(rule: &Rule, v4: bool) -> Vec<String> {
    let protocol = rule.protocol.map(|protocol| match protocol {
        RuleProtocol::Udp => "udp",
        RuleProtocol::Tcp => "tcp",
        RuleProtocol::Icmp if v4 => "icmp",
        RuleProtocol::Icmp => "ipv6-icmp",
    });
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let port = |value: Option<u16>| value.map(|value| value.to_string());
    let pairs = [
        ("from", rule.from.map(prefix)),
        ("to", rule.to.map(prefix)),
        ("fwmark", number(rule.mark)),
        ("oif", rule.oif.clone()),
        ("iif", rule.iif.clone()),
        ("uidrange", rule.uid.map(|[first, last]| format!("{first}-{last}"))),
        ("ipproto", protocol.map(str::to_owned)),
        ("sport", port(rule.sport)),
        ("dport", port(rule.dport)),
        ("priority", number(rule.priority)),
        ("table", number(rule.table)),
    ];
    let word = kind(rule.kind).map(str::to_owned);
    let pairs = pairs.into_iter().filter_map(|(key, value)| Some([key.to_owned(), value?]));
    word.into_iter().chain(pairs.flatten()).collect()
}

fn command_lines(case: &Case) -> Vec<String> {
    let of = |line: &Line| {
        let space = line.gateway.map_or_else(|| "$host".to_owned(), gateway);
        let words: Vec<String> = line.words.iter().map(|word| shell(word)).collect();
        format!("ip netns exec {space} {}", words.join(" "))
    };
    let mut lines: Vec<String> = case.lines_before_control().map(of).collect();
    if let Some((from, to)) = case.adversary.as_ref().and_then(|adversary| adversary.redirect) {
        let [from, to] = [from, to].map(|at| shell(&case.links[at].name));
        lines.extend(comment("In place of airtight's BPF program, which does the same:"));
        lines.push(format!("ip netns exec $host tc qdisc add dev {from} clsact"));
        lines.extend(["ip", "ipv6"].map(|protocol| {
            format!(
                "ip netns exec $host tc filter add dev {from} egress protocol {protocol} u32 match u32 0 0 \
                 action mirred egress redirect dev {to}"
            )
        }));
    }
    lines
}

/// What the kernel says itself, without the pins and with them.
fn decisions(case: &Case) -> Vec<String> {
    let mut lines =
        comment("The kernel's own decision, without a pin and with what it is told of them.");
    lines.push(format!(
        "decide() {{ echo \"$ ip route get $*\"; {} -n $host route get \"$@\" 2>&1 || true; }}",
        ip(case)
    ));
    for RouteQuery { to, from, oif, mark } in case.route_queries() {
        let oif = oif.and_then(|oif| case.links.iter().find(|link| link.index == oif));
        let words = [
            from.map(|from| format!(" from {from}")),
            oif.map(|link| format!(" oif {}", shell(&link.name))),
            mark.map(|mark| format!(" mark {mark}")),
        ];
        lines.push(format!("decide {to}{}", words.into_iter().flatten().collect::<String>()));
    }
    lines
}
