//! Scenario times matrix to cases: names, addresses, expectations. Pure: it knows neither the
//! kernel nor the clock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml::Spanned;

use crate::scenario::{
    Approach, Carries, Family, FileCase, KernelRange, Known, Neighbours, Outcome, Pin, Scenario,
    Transport, parse_prefix,
};

/// The port that attempts are made to, or that the socket under test listens on: echo.
pub const ATTEMPT_PORT: u16 = 7;
/// The port that controls use, so that no frame of a control is taken for an attempt's: discard.
pub const CONTROL_PORT: u16 = 9;

/// One trial to be made: a case in one cell, with nothing left to default.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The trial's id: `basics/source-address::address-only::v4-udp`.
    pub id: String,
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's file, as the user named it.
    pub path: String,
    /// The line of the expectation, counted from one.
    pub line: usize,
    /// The scenario's claim.
    pub title: String,
    /// Why the claim holds.
    pub why: String,
    /// Where it is written.
    pub refs: Vec<String>,
    /// The case's name.
    pub name: String,
    /// The address family.
    pub family: Family,
    /// The transport.
    pub transport: Transport,
    /// The links, in the file's order.
    pub links: Vec<Link>,
    /// For each link, whether it is intended.
    pub intended: Vec<bool>,
    /// The routes of the host under test.
    pub routes: Vec<Route>,
    /// Whether the host under test must learn its neighbours.
    pub neighbours: Neighbours,
    /// The target, which every gateway owns.
    pub target: IpAddr,
    /// The decoy by which the control must leave (an index into `links`).
    pub control: usize,
    /// The calls that pin the socket, in their order. Empty: unpinned.
    pub pin: Vec<PinCall>,
    /// Who opens the exchange.
    pub exchange: Exchange,
    /// What is expected.
    pub expect: Expectation,
    /// What the machine must be able to do.
    pub needs: Vec<String>,
    /// The kernels that the case is for.
    pub kernel: KernelRange,
    /// The waiver.
    pub known: Option<Waiver>,
}

/// A link: a veth pair from the host under test to its own gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name, which is its device's on both ends.
    pub name: String,
    /// The address of the host under test on it.
    pub address: IpAddr,
    /// The gateway's address on it.
    pub gateway: IpAddr,
    /// The length of its network's prefix, in bits.
    pub prefix_length: u8,
    /// The interface index of its device, the same on both ends.
    pub index: u32,
    /// The hardware address of the near end, in the host under test.
    pub near_mac: [u8; 6],
    /// The hardware address of the far end, in the gateway.
    pub far_mac: [u8; 6],
}

impl Link {
    /// The link's network: its prefix without the host's bits.
    pub fn network(&self) -> (IpAddr, u8) {
        let network = match self.address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(
                v4.to_bits() & (u32::MAX << (32 - self.prefix_length)),
            )),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(
                v6.to_bits() & (u128::MAX << (128 - self.prefix_length)),
            )),
        };
        (network, self.prefix_length)
    }
}

/// A route of the host under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination's prefix; length 0 is the default route.
    pub to: (IpAddr, u8),
    /// The link that it leads through (an index into `links`).
    pub link: usize,
    /// Whether the next hop is the link's gateway, or the destination itself.
    pub gatewayed: bool,
    /// The metric, where the scenario chooses it.
    pub metric: Option<u32>,
    /// The routing table, where the scenario chooses it.
    pub table: Option<u32>,
}

/// One call that pins a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinCall {
    /// SO_BINDTODEVICE with this name.
    Device(String),
    /// SO_BINDTODEVICE with a whole `struct ifreq` of this name.
    Ifreq(String),
    /// SO_BINDTOIFINDEX with this index.
    Index(u32),
    /// bind(2) to this address.
    Address(IpAddr),
}

/// Who opens the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// The socket under test is the client.
    Send,
    /// A gateway asks, and the answers of the socket under test are judged.
    Request(Arrival),
    /// A gateway injects, and the reception by the socket under test is judged.
    Inject(Arrival),
}

/// How a gateway's packet arrives: indices into `links`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The link by which it arrives.
    pub by: usize,
    /// The link whose address of the host under test it is sent to.
    pub to: usize,
}

/// What is expected of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The outcome.
    pub outcome: Outcome,
    /// The decoy that leaked frames are expected on, where the case names it.
    pub through: Option<String>,
    /// The link whose address is the frames' source, where the case names it.
    pub source: Option<String>,
    /// The errno, where the case names it.
    pub errno: Option<String>,
    /// What contained frames are.
    pub carries: Carries,
}

/// A waiver for a known deviation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver {
    /// What is observed for now.
    pub outcome: Outcome,
    /// The link to what will end it.
    pub until: String,
}

/// Every trial of `scenario`, cases in the file's order, cells family by family.
pub fn expand(scenario: &Scenario) -> Vec<Case> {
    let file = scenario.file();
    let mut cases = Vec::new();
    for written in &file.case {
        for family in file.matrix.family.get_ref() {
            for transport in file.matrix.transport.get_ref() {
                if concerns(written.get_ref(), *family, *transport) {
                    cases.push(cell(scenario, written.get_ref(), *family, *transport));
                }
            }
        }
    }
    cases
}

fn concerns(case: &FileCase, family: Family, transport: Transport) -> bool {
    let Some(only) = &case.only else { return true };
    let only = only.get_ref();
    only.family.as_ref().is_none_or(|part| part.contains(&family))
        && only.transport.as_ref().is_none_or(|part| part.contains(&transport))
}

fn cell(scenario: &Scenario, case: &FileCase, family: Family, transport: Transport) -> Case {
    let file = scenario.file();
    let links: Vec<Link> =
        file.links.iter().enumerate().map(|(at, name)| link(at, name.get_ref(), family)).collect();
    // The checks made sure that every name is a link's.
    let of = |name: &Spanned<String>| {
        links.iter().position(|link| &link.name == name.get_ref()).unwrap_or_default()
    };
    let target = target(family);
    let routes = file.routes.iter().filter_map(|route| {
        let route = route.get_ref();
        let next = route.via.as_ref().or(route.dev.as_ref())?;
        Some(Route {
            to: destination(route.to.get_ref(), &links, target)?,
            link: of(next),
            gatewayed: route.via.is_some(),
            metric: route.metric,
            table: route.table,
        })
    });
    let arrival = |approach: &Spanned<Approach>| {
        let approach = approach.get_ref();
        Arrival { by: of(&approach.by), to: of(&approach.to) }
    };
    let exchange = match (&case.request, &case.inject) {
        (Some(request), _) => Exchange::Request(arrival(request)),
        (None, Some(inject)) => Exchange::Inject(arrival(inject)),
        (None, None) => Exchange::Send,
    };
    let text = |name: &Option<Spanned<String>>| name.as_ref().map(|n| n.get_ref().clone());
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
        line: scenario.line(case.expect.span().start),
        title: file.title.get_ref().clone(),
        why: file.why.clone(),
        refs: file.refs.clone(),
        name: case.name.get_ref().clone(),
        family,
        transport,
        intended: file
            .links
            .iter()
            .map(|l| file.intended.iter().any(|i| i.get_ref() == l.get_ref()))
            .collect(),
        routes: routes.collect(),
        neighbours: file.neighbours,
        target,
        control: of(&file.control.unpinned),
        pin: pin(&case.pin, &links),
        exchange,
        expect: Expectation {
            outcome: *case.expect.get_ref(),
            through: text(&case.through),
            source: text(&case.source),
            errno: text(&case.errno),
            carries: case.carries.as_ref().map_or(Carries::Data, |c| *c.get_ref()),
        },
        needs: needs.collect(),
        kernel: range(&file.kernel).and(range(&case.kernel)),
        known: case.known.as_ref().map(|known| {
            let Known { outcome, until } = known.get_ref();
            Waiver { outcome: *outcome, until: until.clone() }
        }),
        links,
    }
}

/// The target, outside every link's network (RFC 5737 TEST-NET-3, RFC 3849).
fn target(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x9, 0, 0, 0, 0, 9)),
    }
}

/// The link at place `at`: its subnet of 192.0.2.0/24 (RFC 5737) or 2001:db8::/32 (RFC 3849).
fn link(at: usize, name: &str, family: Family) -> Link {
    let number = u8::try_from((at + 1) % 16).unwrap_or_default();
    let (address, gateway, prefix_length) = match family {
        Family::V4 => {
            let host = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, 16 * number + last));
            (host(1), host(2), 28)
        }
        Family::V6 => {
            let host = |last| {
                let subnet = u16::from(number);
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, subnet, 0, 0, 0, last))
            };
            (host(1), host(2), 64)
        }
    };
    Link {
        name: name.to_owned(),
        address,
        gateway,
        prefix_length,
        index: 10 + u32::from(number),
        near_mac: [2, 0, 0, 0, number, 1],
        far_mac: [2, 0, 0, 0, number, 2],
    }
}

/// A route's destination in this family; `None` for a literal prefix of the other family.
fn destination(text: &str, links: &[Link], target: IpAddr) -> Option<(IpAddr, u8)> {
    let width = if target.is_ipv4() { 32 } else { 128 };
    if text == "default" {
        let any = match target {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        return Some((any, 0));
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        if inner == "target" {
            return Some((target, width));
        }
        let (name, part) = inner.rsplit_once('.')?;
        let link = links.iter().find(|link| link.name == name)?;
        return match part {
            "address" => Some((link.address, width)),
            "gateway" => Some((link.gateway, width)),
            _ => Some(link.network()),
        };
    }
    parse_prefix(text).filter(|(address, _)| address.is_ipv4() == target.is_ipv4())
}

/// The calls of a pin, in the order that the reference gives them.
fn pin(pin: &Pin, links: &[Link]) -> Vec<PinCall> {
    let of = |name: &Option<Spanned<String>>| {
        let name = name.as_ref()?.get_ref();
        links.iter().find(|link| &link.name == name)
    };
    let calls = [
        of(&pin.device).map(|link| PinCall::Device(link.name.clone())),
        pin.device_name.as_ref().map(|name| PinCall::Device(name.get_ref().clone())),
        of(&pin.ifreq).map(|link| PinCall::Ifreq(link.name.clone())),
        of(&pin.index).map(|link| PinCall::Index(link.index)),
        of(&pin.address).map(|link| PinCall::Address(link.address)),
    ];
    calls.into_iter().flatten().collect()
}
