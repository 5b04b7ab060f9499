//! Guards: a case that leaks, once more with something underneath that is to hold it.

use std::net::IpAddr;

use super::{Case, Expectation, Hop, Line, Link, Route, Rule, SENTINEL_ETHERTYPE, Step};
use crate::scenario::{
    Carries, Family, FileCase, Guard, HeldBy, Outcome, RouteKind, Scenario, Transport, tried,
};

/// The table that the guard's rule looks up, and its VRF is.
const TABLE: u32 = 7_000;
/// The rule's priority: behind the table `local` alone.
const PRIORITY: u32 = 1;
/// The metric of the route that rejects: worse than any.
const LAST_METRIC: u32 = 4_000_000_000;
/// The VRF's device.
const VRF: &str = "guard";
/// Its interface index, which no link has.
const VRF_INDEX: u32 = 7_000;
/// The interface index of lo.
const LOOPBACK: u32 = 1;

/// What is put underneath, when the trap is armed and before the attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Guarding {
    /// Which guard it is.
    pub kind: Guard,
    /// The links (indexes into `links`) that are out of the host's namespace, in another.
    pub away: Vec<usize>,
    /// Whether they have been there from the start, where the control is sent from, and are not taken
    /// there behind it: moving a device holds up every laboratory of the machine.
    pub apart: bool,
    /// The command lines that make it.
    pub lines: Vec<Line>,
    /// Routes that are added.
    pub routes: Vec<Route>,
    /// Rules that are added.
    pub rules: Vec<Rule>,
    /// The interface index that a program binds new sockets to.
    pub pinned: Option<u32>,
    /// The interface indexes by which alone a program lets sockets send.
    pub kept: Option<Vec<u32>>,
    /// The same attempt without the guard, which must leak.
    pub without: Box<Case>,
}

impl Guarding {
    /// Whether it takes a cgroup of the trial's own.
    pub fn wants_cgroup(&self) -> bool {
        self.pinned.is_some() || self.kept.is_some()
    }
}

/// Adds to the trials of `written`, the last of `cases`, those under each guard.
pub(super) fn guard(scenario: &Scenario, written: &FileCase, cases: &mut Vec<Case>) {
    let Some(held_by) = &written.held_by else { return };
    let line = scenario.line(held_by.span().start);
    let held: Vec<HeldBy> =
        held_by.get_ref().iter().filter_map(|text| HeldBy::parse(text)).collect();
    let name = written.name.get_ref();
    let own: Vec<Case> = cases.iter().filter(|case| case.name == *name).cloned().collect();
    let cell = |case: &Case| (case.family, case.transport);
    let cells: Vec<(Family, Transport)> = own.iter().map(cell).collect();
    for kind in Guard::ALL {
        let tried = tried(kind, &cells, scenario.file().adversary.is_some());
        for case in own.iter().filter(|case| tried.contains(&cell(case))) {
            let holds = held
                .iter()
                .any(|held| held.guard == kind && held.concerns(case.family, case.transport));
            // What a VRF leaves open nobody has seen yet: it is tried where it is said to hold.
            if holds || kind != Guard::Vrf {
                cases.extend(guarded(case, kind, holds, line));
            }
        }
    }
}

/// The trial of `case` under a guard. `None` where nothing of the attempt is left: what gateways
/// behind a decoy send reaches no namespace that lacks it.
fn guarded(case: &Case, kind: Guard, holds: bool, line: usize) -> Option<Case> {
    let guarding = guarding(case, kind);
    let mut guarded = case.clone();
    guarded.steps.retain(|step| !concerns(step, &guarding.away));
    if case.provokes() && !guarded.provokes() {
        return None;
    }
    guarded.name = format!("{}+{}", case.name, kind.word());
    guarded.id = format!(
        "{}::{}::{}-{}",
        case.scenario,
        guarded.name,
        case.family.word(),
        case.transport.word()
    );
    guarded.line = line;
    guarded.refs.retain(|entry| !entry.starts_with("catalogue "));
    guarded.refs.extend(kind.row().map(|row| format!("catalogue {row}")));
    guarded.needs.extend(kind.needs().iter().map(|need| (*need).to_owned()));
    guarded.expect = Expectation {
        outcome: if holds { Outcome::Kept } else { Outcome::Leaked },
        through: None,
        source: None,
        errno: None,
        call: None,
        carries: Carries::Data,
    };
    guarded.known = None;
    guarded.guard = Some(guarding);
    Some(guarded)
}

/// Whether a step is about a link that is not there.
fn concerns(step: &Step, away: &[usize]) -> bool {
    let route = |route: &Route| route.hops.iter().any(|hop| away.contains(&hop.link));
    match step {
        Step::Set(change) => away.contains(&change.link),
        Step::Rename(link, _) | Step::Await(link) => away.contains(link),
        Step::Reindex(link, like) => away.contains(link) || away.contains(like),
        Step::Route(to) | Step::Unroute(to) => route(to),
        Step::Inject(approach) => away.contains(&approach.by),
        _ => false,
    }
}

fn guarding(case: &Case, kind: Guard) -> Guarding {
    let places = |intended: bool| {
        let of = move |at: &usize| case.intended[*at] == intended;
        (0..case.links.len()).filter(of).collect::<Vec<usize>>()
    };
    let (intended, decoys) = (places(true), places(false));
    let mut guarding = Guarding {
        kind,
        away: Vec::new(),
        apart: false,
        lines: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        pinned: None,
        kept: None,
        without: Box::new(case.clone()),
    };
    let links = |places: &[usize]| places.iter().map(|at| &case.links[*at]).collect::<Vec<&Link>>();
    match kind {
        Guard::Namespace => {
            guarding.away = decoys;
            guarding.apart = separable(case);
        }
        Guard::CgroupPin => guarding.pinned = links(&intended).first().map(|link| link.index),
        Guard::CgroupDrop => {
            let indexes = links(&intended).into_iter().map(|link| link.index);
            guarding.kept = Some(indexes.chain([LOOPBACK]).collect());
        }
        Guard::NftOutput => guarding.lines = vec![output_rule(&links(&intended))],
        Guard::NftEgress => guarding.lines = vec![egress_hooks(&links(&decoys))],
        Guard::RejectRules => {
            guarding.routes = table(case, &intended);
            guarding.rules =
                vec![Rule { table: Some(TABLE), priority: Some(PRIORITY), ..Rule::default() }];
        }
        Guard::Vrf => {
            guarding.lines = vrf(case, &links(&intended));
            guarding.routes = table(case, &intended);
            guarding.pinned = Some(VRF_INDEX);
        }
    }
    guarding
}

/// Whether the decoys may be in another namespace from the start: nothing but routes and rules has to do
/// with them.
fn separable(case: &Case) -> bool {
    case.adversary.is_none()
        && case.lines.is_empty()
        && case.advertisements.is_empty()
        && case.multicast_routes.is_empty()
        && case.control.arrives.is_empty()
        && case.surroundings.beside.is_none()
        && case.routes.iter().all(|route| route.hops.len() < 2 && route.source.is_none())
}

fn line(words: &str) -> Line {
    Line { gateway: None, words: words.split_whitespace().map(str::to_owned).collect() }
}

fn output_rule(intended: &[&Link]) -> Line {
    let names: Vec<String> = intended.iter().map(|link| format!("\"{}\"", link.name)).collect();
    line(&format!(
        "nft add table inet guard ; add chain inet guard out \
         {{ type filter hook output priority 0 ; }} ; \
         add rule inet guard out oifname != {{ \"lo\" , {} }} drop",
        names.join(" , ")
    ))
}

/// Everything but our own sentinels, without which nothing would be proved.
fn egress_hooks(decoys: &[&Link]) -> Line {
    let hook = |(at, link): (usize, &&Link)| {
        let name = &link.name;
        format!(
            " ; add chain netdev guard out{at} \
             {{ type filter hook egress device \"{name}\" priority 0 ; policy drop ; }} ; \
             add rule netdev guard out{at} meta protocol {SENTINEL_ETHERTYPE:#x} accept"
        )
    };
    let hooks: String = decoys.iter().enumerate().map(hook).collect();
    line(&format!("nft add table netdev guard{hooks}"))
}

/// A table that has the intended links' routes, and rejects the rest.
fn table(case: &Case, intended: &[usize]) -> Vec<Route> {
    let everywhere: (IpAddr, u8) = match case.target {
        IpAddr::V4(_) => ([0, 0, 0, 0].into(), 0),
        IpAddr::V6(_) => ([0u16; 8].into(), 0),
    };
    let route =
        |to, kind, hops, metric| Route { to, kind, hops, source: None, metric, table: Some(TABLE) };
    let mut routes = Vec::new();
    for (rank, at) in (1..).zip(intended) {
        let link = &case.links[*at];
        let hop = |gateway| vec![Hop { link: *at, gateway, onlink: false }];
        routes.push(route(link.network(), RouteKind::Unicast, hop(None), None));
        routes.push(route(everywhere, RouteKind::Unicast, hop(Some(link.gateway)), Some(rank)));
    }
    routes.push(route(everywhere, RouteKind::Unreachable, Vec::new(), Some(LAST_METRIC)));
    routes
}

/// A VRF with the intended links (Documentation/networking/vrf.rst). A device that is enslaved loses
/// its IPv6 addresses and its neighbours.
fn vrf(case: &Case, intended: &[&Link]) -> Vec<Line> {
    let mut lines = vec![
        line(&format!("ip link add name {VRF} index {VRF_INDEX} type vrf table {TABLE}")),
        line(&format!("ip link set {VRF} up")),
    ];
    for link in intended {
        let (name, address, length) = (&link.name, link.address, link.prefix_length);
        let mac: Vec<String> = link.far_mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        lines.push(line(&format!("ip link set {name} master {VRF}")));
        lines.push(line(&format!("ip address replace {address}/{length} dev {name}{nodad}")));
        let others = case.neighbour_addresses.iter().filter(|a| **a != link.address);
        for neighbour in [link.gateway].iter().chain(others) {
            lines.push(line(&format!(
                "ip neighbour replace {neighbour} lladdr {} dev {name} nud permanent",
                mac.join(":")
            )));
        }
    }
    lines
}
