//! Scenario times matrix to cases: names, addresses, steps, expectations. Pure: it knows neither
//! the kernel nor the clock.

mod address;
mod attempt;
mod cell;
mod guard;
mod label;
mod program;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::scenario::{
    Carries, Family, FileCase, KernelRange, Neighbours, Outcome, RouteKind, RuleProtocol, Scenario,
    Transport,
};

pub use attempt::{Approach, Info, MISSING_INDEX, PinCall, Step};
pub use guard::Guarding;
pub use program::{Ask, Beside, Body, Function, LinkChange, Product, Program, Surroundings, Task};

/// The port that attempts are made to, or that the socket under test listens on: echo.
pub const ATTEMPT_PORT: u16 = 7;
/// The port that controls use, so that no frame of a control is taken for an attempt's: discard.
pub const CONTROL_PORT: u16 = 9;
/// The ethertype of sentinels: IEEE Std 802, local experimental 1.
pub const SENTINEL_ETHERTYPE: u16 = 0x88b5;
/// The protocol of raw sockets: for experiments (RFC 3692).
pub const RAW_PROTOCOL: u8 = 253;

/// One trial to be made: a case in one cell, with nothing left to default.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The trial's id: `basics/source-address::address-only::v4-udp`.
    pub id: String,
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's file, as the user named it.
    pub path: String,
    /// The SHA-256 of the scenario's file, as hexadecimal digits.
    pub sha256: String,
    /// The line of the expectation, counted from one.
    pub line: usize,
    /// The scenario's claim.
    pub title: String,
    /// Why the claim holds.
    pub why: String,
    /// Where it is written.
    pub refs: Vec<String>,
    /// The heading of the scenario's column in the lookup table.
    pub heading: Option<String>,
    /// The case's name.
    pub name: String,
    /// The case's pin in the words of the lookup table's rows.
    pub pin: String,
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
    /// Its policy rules.
    pub rules: Vec<Rule>,
    /// Its settings: paths below /proc/sys and values.
    pub sysctls: Vec<(String, String)>,
    /// The router advertisements that it hears before the trap is armed.
    pub advertisements: Vec<Advertisement>,
    /// Its multicast routes: from which link to which.
    pub multicast_routes: Vec<(usize, usize)>,
    /// Command lines run before the trap is armed.
    pub lines: Vec<Line>,
    /// What goes wrong below the sockets.
    pub adversary: Option<Adversary>,
    /// Whether the host under test must learn its neighbours.
    pub neighbours: Neighbours,
    /// The addresses that are known as neighbours on every link, for good.
    pub neighbour_addresses: Vec<IpAddr>,
    /// The addresses that every gateway owns beside its own. Where gateways are played by crafted
    /// frames they own none.
    pub owned: Vec<IpAddr>,
    /// Whether the gateways are played by crafted frames.
    pub played: bool,
    /// Whether the links have link-local addresses.
    pub link_local: bool,
    /// The target.
    pub target: IpAddr,
    /// The experiment that arms the trap.
    pub control: Control,
    /// How the socket under test takes part.
    pub role: Role,
    /// The attempt.
    pub steps: Vec<Step>,
    /// How many bytes are sent at once; 0 for the token alone.
    pub size: usize,
    /// What is judged.
    pub judged: Judged,
    /// What is expected.
    pub expect: Expectation,
    /// What programs find behind the links.
    pub surroundings: Surroundings,
    /// What the machine must be able to do.
    pub needs: Vec<String>,
    /// The kernels that the case is for.
    pub kernel: KernelRange,
    /// The waiver.
    pub known: Option<Waiver>,
    /// The guard that is put underneath before the attempt.
    pub guard: Option<Guarding>,
}

/// The experiment that arms the trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The decoy by which the unpinned sender must leave (an index into `links`).
    pub link: usize,
    /// Where it sends to.
    pub to: IpAddr,
    /// What carries it.
    pub transport: Transport,
    /// The links by which an unpinned receiver must be reached. Empty: nothing is received.
    pub arrives: Vec<usize>,
    /// Where the receiver is reached.
    pub receiver: IpAddr,
    /// The attempt without its pins, where reception is judged.
    pub twin: Option<Twin>,
    /// The program's story without the changes of the laboratory, where it must be shown that the
    /// program would have sent.
    pub rehearsal: Option<Vec<Step>>,
}

/// An attempt whose reception is judged, without what holds its sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Its steps.
    pub steps: Vec<Step>,
    /// Whether it must receive, or must not.
    pub receives: bool,
}

/// A question to the kernel: which way a packet would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// Where to.
    pub to: IpAddr,
    /// The source that it is bound to.
    pub from: Option<IpAddr>,
    /// The interface index that it is bound to.
    pub oif: Option<u32>,
    /// Its mark.
    pub mark: Option<u32>,
}

/// How the socket under test takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub enum Role {
    /// It sends first.
    Sends,
    /// It, or the kernel, answers a gateway.
    Answers,
    /// A gateway sends to it, and its reception is judged.
    Receives,
    /// A script says.
    Script,
}

/// What of an attempt is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The way out: which links carried frames.
    WayOut,
    /// The reception: whether the socket was reached.
    Reception,
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
    /// The link-local address of the host under test on it.
    pub link_local: Ipv6Addr,
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

    /// The broadcast address of an IPv4 link's network.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        let (IpAddr::V4(network), length) = self.network() else { return None };
        Some(Ipv4Addr::from_bits(network.to_bits() | u32::MAX.checked_shr(length.into())?))
    }
}

/// A route of the host under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination's prefix; length 0 is the default route.
    pub to: (IpAddr, u8),
    /// What it does.
    pub kind: RouteKind,
    /// Its next hops: none where it refuses, several where they share the traffic.
    pub hops: Vec<Hop>,
    /// The address that unbound senders are given by it.
    pub source: Option<IpAddr>,
    /// The metric, where the scenario chooses it.
    pub metric: Option<u32>,
    /// The routing table, where the scenario chooses it.
    pub table: Option<u32>,
}

/// A route's next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The link that it leads through (an index into `links`).
    pub link: usize,
    /// The next hop's address; without one the destination itself is a neighbour.
    pub gateway: Option<IpAddr>,
    /// Whether the gateway is taken to be a neighbour whatever its address.
    pub onlink: bool,
}

/// A policy rule of the host under test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The packet's source.
    pub from: Option<(IpAddr, u8)>,
    /// The packet's destination.
    pub to: Option<(IpAddr, u8)>,
    /// The packet's mark.
    pub mark: Option<u32>,
    /// The device that the socket is bound to.
    pub oif: Option<String>,
    /// The device that the packet came by.
    pub iif: Option<String>,
    /// The socket's owner: the first and the last user id.
    pub uid: Option<[u32; 2]>,
    /// The protocol.
    pub protocol: Option<RuleProtocol>,
    /// The source port.
    pub sport: Option<u16>,
    /// The destination port.
    pub dport: Option<u16>,
    /// What is done.
    pub kind: RouteKind,
    /// The table that is looked up.
    pub table: Option<u32>,
    /// The priority.
    pub priority: Option<u32>,
}

/// A router advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The link whose gateway sends it (an index into `links`).
    pub by: usize,
    /// A prefix said to be on the link.
    pub prefix: Option<(IpAddr, u8)>,
    /// A prefix said to be reached by the router.
    pub route: Option<(IpAddr, u8)>,
    /// Whether it is a default router.
    pub default: bool,
}

/// A command line, run in the laboratory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The gateway that runs it, by its link's place; `None` for the host under test.
    pub gateway: Option<usize>,
    /// The program and its arguments.
    pub words: Vec<String>,
}

/// What goes wrong below the sockets, once the wires are known to be alive and before the control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adversary {
    /// The command lines that make it.
    pub lines: Vec<Line>,
    /// The link (an index into `links`) whose IP packets a BPF program sends out of the other.
    pub redirect: Option<(usize, usize)>,
    /// The intended link that the unpinned sender leaves by before (an index into `links`).
    pub untouched: Option<usize>,
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
    /// The call that is given it, where the case names it.
    pub call: Option<String>,
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
                    cases.push(cell::cell(scenario, written.get_ref(), *family, *transport));
                }
            }
        }
        guard::guard(scenario, written.get_ref(), &mut cases);
    }
    cases
}

fn concerns(case: &FileCase, family: Family, transport: Transport) -> bool {
    let Some(only) = &case.only else { return true };
    let only = only.get_ref();
    only.family.as_ref().is_none_or(|part| part.contains(&family))
        && only.transport.as_ref().is_none_or(|part| part.contains(&transport))
}

/// The link whose address it is, or the address in figures.
pub fn owner(links: &[Link], address: IpAddr) -> String {
    let link = links.iter().find(|link| link.address == address);
    link.map_or_else(|| address.to_string(), |link| link.name.clone())
}

impl Case {
    /// Whether the attempt waits for a timer or a workqueue of the kernel's: under a guard also for
    /// connections and reports that it may stop.
    pub fn waits(&self) -> bool {
        let stopped = self.guard.is_some() && (self.transport.is_stream() || self.joins());
        stopped
            || self.steps.iter().any(|step| matches!(step, Step::Await(_) | Step::Watch(_)))
            || self.program().is_some_and(|program| program.ready.is_some())
    }

    /// Whether a gateway's frame is what an answer is expected to, and not a socket's own
    /// sending.
    pub fn provokes(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Inject(_)))
    }

    /// Whether the attempt changes a multicast membership, whose reports are then its own.
    pub fn joins(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Join { .. }))
    }

    /// What the kernel is asked for its own decision: without a pin, and, where they differ, with
    /// the pins of the socket under test.
    pub fn route_queries(&self) -> Vec<RouteQuery> {
        let to = self.steps.iter().find_map(|step| match step {
            Step::Connect { socket: 0, to }
            | Step::Cork { socket: 0, to }
            | Step::Send { socket: 0, to: Some(to) } => Some(*to),
            Step::Inject(approach) => Some(approach.from),
            _ => None,
        });
        let to = to.unwrap_or(self.control.to);
        let plain = RouteQuery { to, from: None, oif: None, mark: None };
        let mut pinned = plain.clone();
        for step in &self.steps {
            let Step::Pin { socket: 0, call } = step else { continue };
            match call {
                PinCall::Device(name) | PinCall::Ifreq(name) => {
                    pinned.oif = self.links.iter().find(|l| l.name == *name).map(|l| l.index);
                }
                PinCall::Index(index) | PinCall::UnicastIf(index) | PinCall::Scope(index) => {
                    pinned.oif = Some(*index);
                }
                PinCall::MulticastIf(index) if to.is_multicast() => pinned.oif = Some(*index),
                PinCall::PacketInfo(info) | PinCall::StickyPacketInfo(info) => {
                    pinned.oif = Some(info.index).filter(|index| *index != 0).or(pinned.oif);
                    pinned.from = info.source.or(pinned.from);
                }
                PinCall::Address(address) => pinned.from = Some(*address),
                PinCall::Mark(mark) | PinCall::PacketMark(mark) => pinned.mark = Some(*mark),
                _ => {}
            }
        }
        if pinned == plain { vec![plain] } else { vec![plain, pinned] }
    }

    /// Whether the links report the solicited-node groups of their addresses when they come up: an
    /// IPv6 link that learns its neighbours does (RFC 4861, section 7.2.1).
    pub fn reports_memberships(&self) -> bool {
        self.family == Family::V6 && self.neighbours != Neighbours::Permanent
    }

    /// Every command line that is run in the laboratory.
    pub fn all_lines(&self) -> impl Iterator<Item = &Line> {
        let guard = self.guard.iter().flat_map(|guard| &guard.lines);
        self.lines_before_control().chain(guard)
    }

    /// Those that are run before the control.
    pub fn lines_before_control(&self) -> impl Iterator<Item = &Line> {
        let adversary = self.adversary.iter().flat_map(|adversary| &adversary.lines);
        self.lines.iter().chain(adversary)
    }

    /// Whether the attempt changes devices of the host under test.
    pub fn changes_links(&self) -> bool {
        let changes =
            |step: &Step| matches!(step, Step::Set(_) | Step::Rename(..) | Step::Reindex(..));
        self.steps.iter().any(changes)
            || self.guard.as_ref().is_some_and(|guard| !guard.away.is_empty())
    }

    /// Whether a program makes the attempt.
    pub fn runs_program(&self) -> bool {
        self.program().is_some()
    }

    /// The family whose settings silence every wire: IPv6's where it is there at all.
    pub fn settled(&self) -> Family {
        match &self.surroundings.beside {
            Some(_) => Family::V6,
            None => self.family,
        }
    }

    /// Whether an address is a broadcast address: everybody's, or a link's.
    pub fn is_broadcast(&self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                v4.is_broadcast() || self.links.iter().any(|link| link.broadcast() == Some(*v4))
            }
            IpAddr::V6(_) => false,
        }
    }
}
