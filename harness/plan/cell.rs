//! One case in one cell: what the scenario says, with every name resolved and nothing left to
//! default.

use std::collections::BTreeSet;
use std::net::IpAddr;

use toml::Spanned;

use super::attempt::{self, Names};
use super::label::label;
use super::program::{self, Words};
use super::{
    Adversary, Advertisement, Case, Control, Expectation, Hop, Judged, Line, Link, PinCall, Role,
    Route, Rule, Step, Twin, Waiver, address, owner,
};
use crate::scenario::{
    Carries, Family, FileCase, KernelRange, Known, Line as FileLine, Neighbours, Outcome, Redirect,
    Scenario, Transport,
};

/// The trial of `case` in one cell.
pub(super) fn cell(
    scenario: &Scenario,
    case: &FileCase,
    family: Family,
    transport: Transport,
) -> Case {
    let file = scenario.file();
    let links: Vec<Link> = file
        .links
        .iter()
        .enumerate()
        .map(|(at, name)| address::link(at, name.get_ref(), family))
        .collect();
    let intended: Vec<bool> = file
        .links
        .iter()
        .map(|l| file.intended.iter().any(|i| i.get_ref() == l.get_ref()))
        .collect();
    let target = address::target(family);
    let names = Names { links: &links, family, transport, target };
    let words = Words { links: &links, intended: &intended, family, target };
    let steps = program::story(scenario, case, &words, &names);
    let steps = steps.unwrap_or_else(|| names.steps(case));
    let control = control(scenario, case, &steps, &links, family, transport);
    let played = played(&steps, &links);
    let mut used = destinations(&steps, &control);
    let routes: Vec<Route> =
        file.routes.iter().filter_map(|written| route(written.get_ref(), &links, family)).collect();
    // The gateway of an onlink route is a neighbour wherever it is said to be.
    let hops = routes.iter().flat_map(|route| &route.hops);
    used.extend(hops.filter(|hop| hop.onlink).filter_map(|hop| hop.gateway));
    let behind = [address::elsewhere(family), address::LINK_LOCAL];
    let reachable: Vec<IpAddr> = std::iter::once(target)
        .chain(behind.into_iter().filter(|address| used.contains(address)))
        .collect();
    let range = |kernel: &Option<Spanned<String>>| {
        kernel.as_ref().and_then(|k| KernelRange::parse(k.get_ref())).unwrap_or_default()
    };
    let needs = file.needs.iter().chain(&case.needs).map(|need| need.get_ref().clone());
    Case {
        id: format!(
            "{}::{}::{}-{}",
            scenario.name(),
            case.name.get_ref(),
            family.word(),
            transport.word()
        ),
        scenario: scenario.name().to_owned(),
        path: scenario.path().to_owned(),
        sha256: scenario.sha256().to_owned(),
        line: scenario.line(case.expect.span().start),
        title: file.title.get_ref().clone(),
        why: file.why.clone(),
        refs: file.refs.clone(),
        heading: file.heading.clone(),
        name: case.name.get_ref().clone(),
        pin: match steps.iter().any(|step| matches!(step, Step::Start(_))) {
            true => program::written(scenario, case).join(" "),
            false => label(&steps, &links, &intended),
        },
        family,
        transport,
        routes,
        rules: file
            .rules
            .iter()
            .filter_map(|written| rule(written.get_ref(), &links, family))
            .collect(),
        sysctls: sysctls(scenario, family, &steps),
        advertisements: advertisements(scenario, &links, family),
        multicast_routes: file
            .multicast_routes
            .iter()
            .map(|route| {
                let route = route.get_ref();
                (place(&links, &route.from), place(&links, &route.to))
            })
            .collect(),
        lines: lines(&file.lines, &links, family),
        adversary: file.adversary.as_ref().map(Spanned::get_ref).map(|adversary| Adversary {
            lines: lines(&adversary.lines, &links, family),
            redirect: adversary.redirect.as_ref().map(|redirect| {
                let Redirect { from, to } = redirect.get_ref();
                (place(&links, from), place(&links, to))
            }),
            untouched: adversary.untouched.as_ref().map(|link| place(&links, link)),
        }),
        neighbours: file.neighbours,
        neighbour_addresses: neighbour_addresses(&used, &reachable, &links),
        owned: if played || file.neighbours == Neighbours::Unanswered {
            Vec::new()
        } else {
            reachable
        },
        played,
        link_local: link_local(&steps, &used),
        target,
        control,
        role: role(case, &steps),
        steps,
        size: case.size.as_ref().map_or(0, |size| usize::from(*size.get_ref())),
        judged: if case.judges_reception() { Judged::Reception } else { Judged::WayOut },
        expect: expectation(case, &links, family),
        needs: needs.collect(),
        kernel: range(&file.kernel).and(range(&case.kernel)),
        surroundings: program::surroundings(scenario, &links, family),
        known: case.known.as_ref().map(|known| {
            let Known { outcome, until } = known.get_ref();
            Waiver { outcome: *outcome, until: until.clone() }
        }),
        guard: None,
        intended,
        links,
    }
}

fn role(case: &FileCase, steps: &[Step]) -> Role {
    if steps.iter().any(|step| matches!(step, Step::Start(_))) {
        Role::Sends
    } else if !case.steps.is_empty() {
        Role::Script
    } else if case.inject.is_some() {
        Role::Receives
    } else if case.request.is_some() || case.provoke.is_some() {
        Role::Answers
    } else {
        Role::Sends
    }
}

fn expectation(case: &FileCase, links: &[Link], family: Family) -> Expectation {
    let text = |name: &Option<Spanned<String>>| name.as_ref().map(|n| n.get_ref().clone());
    Expectation {
        outcome: *case.expect.get_ref(),
        through: text(&case.through),
        source: case.source.as_ref().map(|source| {
            // A placeholder may stand for an address that is no link's.
            let name = source.get_ref();
            let address = address::resolve(name, links, family);
            address.map_or_else(|| name.clone(), |address| owner(links, address))
        }),
        errno: text(&case.errno),
        call: text(&case.call),
        carries: case.carries.as_ref().map_or(Carries::Data, |c| *c.get_ref()),
    }
}

/// The place of the link of that name. The checks made sure that there is one.
fn place(links: &[Link], name: &Spanned<String>) -> usize {
    links.iter().position(|link| &link.name == name.get_ref()).unwrap_or_default()
}

fn control(
    scenario: &Scenario,
    case: &FileCase,
    steps: &[Step],
    links: &[Link],
    family: Family,
    transport: Transport,
) -> Control {
    let written = &scenario.file().control;
    let link = place(links, &written.unpinned);
    let injected = steps.iter().find_map(|step| match step {
        Step::Inject(approach) => Some(*approach),
        _ => None,
    });
    let to = written.to.as_ref().or(case.to.as_ref());
    let to = to.and_then(|to| address::resolve(to.get_ref(), links, family));
    let mut arrives = Vec::new();
    if let (true, Some(approach)) = (case.judges_reception(), injected) {
        arrives = match &written.arrives {
            Some(names) => names.iter().map(|name| place(links, name)).collect(),
            None => vec![link, approach.by],
        };
        arrives.dedup();
    }
    let connected = played(steps, links).then_some(Transport::Udp);
    Control {
        link,
        // What answers goes back to whoever has approached.
        to: to
            .or(sent(steps, links))
            .or(injected.map(|approach| approach.from))
            .unwrap_or(address::target(family)),
        transport: connected.unwrap_or(match transport {
            Transport::Mptcp | Transport::TcpFastopen => Transport::Tcp,
            frames if frames.is_frames() => Transport::Udp,
            own => own,
        }),
        arrives,
        // Groups and foreign addresses reach nobody who has not asked for them.
        receiver: injected
            .map(|approach| approach.to)
            .filter(|to| links.iter().any(|link| link.address == *to))
            .unwrap_or(links[link].address),
        twin: attempt::twin(steps).map(|steps| Twin {
            steps,
            receives: case.unpinned.as_ref().is_none_or(|o| *o.get_ref() != Outcome::Refused),
        }),
        rehearsal: (*case.expect.get_ref() == Outcome::Kept && case.fault.is_none())
            .then(|| program::rehearsal(steps)),
    }
}

/// Whether the gateways are played by crafted frames: they open the exchange, and no socket of
/// the host under test sends to them first.
fn played(steps: &[Step], links: &[Link]) -> bool {
    let injects = steps.iter().any(|step| matches!(step, Step::Inject(_)));
    injects && sent(steps, links).is_none()
}

/// The first address, other than the host's own, that a socket sends to.
fn sent(steps: &[Step], links: &[Link]) -> Option<IpAddr> {
    let own = |to: &IpAddr| links.iter().any(|link| link.address == *to) || to.is_loopback();
    steps.iter().find_map(|step| match step {
        Step::Connect { to, .. } | Step::Cork { to, .. } | Step::Send { to: Some(to), .. }
            if !own(to) =>
        {
            Some(*to)
        }
        _ => None,
    })
}

/// Every address that a step or the control sends to or answers.
fn destinations(steps: &[Step], control: &Control) -> BTreeSet<IpAddr> {
    let mut used = BTreeSet::from([control.to]);
    for step in steps {
        match step {
            Step::Connect { to, .. } | Step::Cork { to, .. } | Step::Send { to: Some(to), .. } => {
                used.insert(*to);
            }
            Step::Inject(approach) => {
                used.insert(approach.from);
            }
            Step::Ask(ask) => {
                used.insert(ask.from);
            }
            Step::Start(program) => {
                used.insert(program.resolver);
            }
            _ => {}
        }
    }
    used
}

/// Whether any address of the attempt lives on a link alone (RFC 4291, sections 2.5.6 and 2.7).
fn link_local(steps: &[Step], used: &BTreeSet<IpAddr>) -> bool {
    let of = |address: &IpAddr| match address {
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments()[0] == 0xff02,
        IpAddr::V4(_) => false,
    };
    let step = |step: &Step| match step {
        Step::Pin {
            call: PinCall::Address(address) | PinCall::ScopedAddress(address, _), ..
        } => of(address),
        Step::Pin { call: PinCall::PacketInfo(info) | PinCall::StickyPacketInfo(info), .. } => {
            info.source.as_ref().is_some_and(of)
        }
        Step::Inject(approach) => of(&approach.to),
        Step::Join { group, .. } => of(group),
        _ => false,
    };
    used.iter().any(of) || steps.iter().any(step)
}

/// What every link knows as a neighbour, its gateway aside.
fn neighbour_addresses(
    used: &BTreeSet<IpAddr>,
    reachable: &[IpAddr],
    links: &[Link],
) -> Vec<IpAddr> {
    let broadcast = |to: &IpAddr| match to {
        IpAddr::V4(v4) => {
            v4.is_broadcast() || links.iter().any(|link| link.broadcast() == Some(*v4))
        }
        IpAddr::V6(_) => false,
    };
    let known = used.iter().filter(|to| !to.is_multicast() && !broadcast(to));
    let all: BTreeSet<IpAddr> = known.chain(reachable).copied().collect();
    all.into_iter().collect()
}

/// A route in this family; `None` for a literal prefix of the other family.
pub(super) fn route(
    route: &crate::scenario::Route,
    links: &[Link],
    family: Family,
) -> Option<Route> {
    let onlink = route.onlink;
    let mut hops: Vec<Hop> = Vec::new();
    match (&route.via, &route.dev) {
        (Some(via), dev) => {
            let gateway = Some(links[place(links, via)].gateway);
            hops.push(Hop { link: place(links, dev.as_ref().unwrap_or(via)), gateway, onlink });
        }
        (None, Some(dev)) => {
            hops.push(Hop { link: place(links, dev), gateway: None, onlink });
        }
        (None, None) => {}
    }
    for name in &route.multipath {
        let link = place(links, name);
        hops.push(Hop { link, gateway: Some(links[link].gateway), onlink });
    }
    Some(Route {
        to: address::prefix(route.to.get_ref(), links, family)?,
        kind: route.kind,
        hops,
        source: route.source.as_ref().map(|source| links[place(links, source)].address),
        metric: route.metric,
        table: route.table,
    })
}

/// A rule in this family; `None` where one of its prefixes is of the other family.
fn rule(rule: &crate::scenario::Rule, links: &[Link], family: Family) -> Option<Rule> {
    let prefix = |text: &Option<Spanned<String>>| match text {
        Some(text) => address::prefix(text.get_ref(), links, family).map(Some),
        None => Some(None),
    };
    Some(Rule {
        from: prefix(&rule.from)?,
        to: prefix(&rule.to)?,
        mark: rule.mark,
        oif: rule.oif.as_ref().map(|name| name.get_ref().clone()),
        iif: rule.iif.as_ref().map(|name| name.get_ref().clone()),
        uid: rule.uid,
        protocol: rule.protocol,
        sport: rule.sport,
        dport: rule.dport,
        kind: rule.kind,
        table: rule.table,
        priority: rule.priority,
    })
}

fn sysctls(scenario: &Scenario, family: Family, steps: &[Step]) -> Vec<(String, String)> {
    let written = scenario.file().sysctls.iter().filter_map(|setting| {
        let (name, value) = setting.get_ref().split_once('=')?;
        let wanted = !family.is_v4() || !name.trim().starts_with("net.ipv6.");
        // As sysctl(8) takes them: a name with slashes is a path already, dots and all.
        let path = name.trim();
        let path = if path.contains('/') { path.to_owned() } else { path.replace('.', "/") };
        wanted.then(|| (path, value.trim().to_owned()))
    });
    // Ping sockets are for the groups of this range alone (icmp(7)); a scenario may say otherwise.
    let ping = Transport::Ping;
    let pings =
        steps.iter().any(|s| matches!(s, Step::Open { transport, .. } if *transport == ping));
    let pings = pings.then(|| ("net/ipv4/ping_group_range".to_owned(), "0 0".to_owned()));
    pings.into_iter().chain(written).collect()
}

fn advertisements(scenario: &Scenario, links: &[Link], family: Family) -> Vec<Advertisement> {
    if family.is_v4() {
        return Vec::new();
    }
    let prefix = |text: &Option<Spanned<String>>| {
        text.as_ref().and_then(|text| address::prefix(text.get_ref(), links, family))
    };
    let of = |written: &Spanned<crate::scenario::Advertisement>| {
        let written = written.get_ref();
        Advertisement {
            by: place(links, &written.by),
            prefix: prefix(&written.prefix),
            route: prefix(&written.route),
            default: written.default,
        }
    };
    scenario.file().advertisements.iter().map(of).collect()
}

fn lines(written: &[Spanned<FileLine>], links: &[Link], family: Family) -> Vec<Line> {
    let of = |written: &FileLine| {
        let words = written.run.get_ref().split_whitespace().map(|word| {
            if let Some(mac) = address::gateway_mac(word, links) {
                return mac;
            }
            match address::prefix(word, links, family) {
                Some((network, length)) if word.ends_with(".network}") => {
                    format!("{network}/{length}")
                }
                Some((address, _)) if word.starts_with('{') => address.to_string(),
                _ => word.to_owned(),
            }
        });
        let host = written.at.get_ref() == "host";
        Line { gateway: (!host).then(|| place(links, &written.at)), words: words.collect() }
    };
    let concerned = |line: &&FileLine| {
        line.family.as_ref().is_none_or(|families| families.get_ref().contains(&family))
    };
    written.iter().map(Spanned::get_ref).filter(concerned).map(of).collect()
}
