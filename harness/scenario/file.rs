//! The scenario language as it is written: the shape of a file, key by key. The comments of this
//! module are the language's reference; `airtight schema` renders them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use toml::Spanned;

use super::attempt::Case;

/// A scenario file: one laboratory, one control and the cases tried in it. The file's path below
/// its root, without `.toml`, is the scenario's name.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The claim in one sentence, printed in every report.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub title: Spanned<String>,
    /// Why it is so: the mechanism behind the claim, printed in reports.
    pub why: String,
    /// Where it is written: manual pages, RFCs, kernel files, rows of the catalogue.
    #[serde(default)]
    pub refs: Vec<String>,
    /// The heading of the scenario's column in the lookup table of `airtight table`: the conflict
    /// in a few words. Without it the scenario has no column.
    #[serde(default, deserialize_with = "filled")]
    pub heading: Option<String>,
    /// The links of the host under test, 2 to 16. A link's name is the name of its device there
    /// (at most 15 bytes). The first link gets 192.0.2.17/28 and 2001:db8:0:1::1/64, its gateway
    /// .18 and ::2; the second 192.0.2.33 and 2001:db8:0:2::1, and so on.
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub links: Vec<Spanned<String>>,
    /// The links that the traffic must keep to. All others are decoys.
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub intended: Vec<Spanned<String>>,
    /// The routes of the host under test, beside the connected ones that its addresses bring.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Route>"))]
    pub routes: Vec<Spanned<Route>>,
    /// The policy rules of the host under test (ip-rule(8)), beside the kernel's own.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Rule>"))]
    pub rules: Vec<Spanned<Rule>>,
    /// Settings of the host under test, as sysctl(8) takes them:
    /// `net.ipv4.conf.all.rp_filter=1`. Those below `net.ipv6` are set in IPv6 cells only.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub sysctls: Vec<Spanned<String>>,
    /// Router advertisements (RFC 4861) that gateways send before the trap is armed, in IPv6
    /// cells only. The kernel has acted on each before the next is sent.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Advertisement>"))]
    pub advertisements: Vec<Spanned<Advertisement>>,
    /// Multicast routes of the host under test: it forwards a group's packets between its links,
    /// copies of its own included (MRT_ADD_MFC, ip(7)).
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<MulticastRoute>"))]
    pub multicast_routes: Vec<Spanned<MulticastRoute>>,
    /// Command lines run before the trap is armed, for what routing netlink has no words for.
    /// The program must stand in `needs`.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Line>"))]
    pub lines: Vec<Spanned<Line>>,
    /// What goes wrong below the sockets: a misconfiguration that the control must fall for too.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Adversary>"))]
    pub adversary: Option<Spanned<Adversary>>,
    /// How the host under test knows its neighbours. Without it: `permanent`.
    #[serde(default)]
    pub neighbours: Neighbours,
    /// What the machine must be able to do, or the scenario is skipped: `ipv6`, `bind-to-ifindex`,
    /// a link kind (`vrf`, `dummy`, `vlan`, ...), `program:NAME`, or `line:COMMAND`, a command line
    /// that must succeed in a fresh namespace, which has `lo` alone; ` && ` divides several. Probed by
    /// doing.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub needs: Vec<Spanned<String>>,
    /// The kernels that the claim is made for, as in `">=5.7"` or `">=4.19, <6.1"`. On others the
    /// scenario is skipped.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub kernel: Option<Spanned<String>>,
    /// A program that makes the attempts, in place of airtight's own sockets.
    pub sender: Option<Sender>,
    /// What a program finds behind the links, beside echo, HTTP, NTP and names.
    #[serde(default)]
    pub world: World,
    /// The experiment that arms the trap. Mandatory: without it silence would prove nothing.
    pub control: Control,
    /// The axes on which the claim is the same. Every case is tried in every cell.
    pub matrix: Matrix,
    /// The cases, each a pin and what is expected of it.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Case>"))]
    pub case: Vec<Spanned<Case>>,
}

/// A heading that says something. It has no place of its own, so the parser must complain.
fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let heading = String::deserialize(deserializer)?;
    if heading.trim().is_empty() {
        let accepted = "the conflict in a few words, or no heading and no column";
        return Err(D::Error::custom(format!("the heading is empty, expected {accepted}")));
    }
    Ok(Some(heading))
}

/// A route of the host under test.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where it leads: `default`, a prefix such as `203.0.113.0/24` (used in its own family only),
    /// or a placeholder. `{target}` and `{elsewhere}` are addresses that lie behind every link,
    /// `{group}` a multicast group, `{LINK.address}`, `{LINK.gateway}` and `{LINK.network}` a
    /// link's own.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub to: Spanned<String>,
    /// What it does with a packet. Without it: `unicast`.
    #[serde(default, rename = "type")]
    pub kind: RouteKind,
    /// The link whose gateway is the next hop. A unicast route has this, `dev` or `multipath`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub via: Option<Spanned<String>>,
    /// The link on which the destination is taken to be a neighbour; beside `onlink` the link by
    /// which `via`'s gateway is reached.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub dev: Option<Spanned<String>>,
    /// The links whose gateways share the traffic, flow by flow.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub multipath: Vec<Spanned<String>>,
    /// The gateway is taken to be a neighbour on `dev`, whatever its address (RTNH_F_ONLINK).
    #[serde(default)]
    pub onlink: bool,
    /// The link whose address unbound senders are given by this route.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub source: Option<Spanned<String>>,
    /// The metric: of two routes with one destination the lower wins. Without it the kernel's own
    /// (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
    /// The routing table. Without it: 254, `main`.
    pub table: Option<u32>,
}

/// How the host under test knows its neighbours.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Neighbours {
    /// Every gateway and the target are known on every link, for good. An unanswered request
    /// would hide the leak behind it.
    #[default]
    Permanent,
    /// By ARP and neighbour solicitation, whose frames are judged like any other.
    Learned,
    /// As `learned`, and no gateway owns the target: whoever asks for it by ARP gets no answer.
    Unanswered,
}

/// What a route or a rule does with a packet (ip-route(8)).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// It is sent on; for a rule: its table is looked up.
    #[default]
    Unicast,
    /// It is refused with EHOSTUNREACH.
    Unreachable,
    /// It is discarded; local senders get EINVAL.
    Blackhole,
    /// It is refused with EACCES.
    Prohibit,
    /// The lookup goes on with the next rule. Routes only.
    Throw,
}

/// A policy rule of the host under test. A packet must match every key that stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The packet's source: a prefix or a placeholder, as in a route's `to`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub from: Option<Spanned<String>>,
    /// The packet's destination, likewise.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub to: Option<Spanned<String>>,
    /// The packet's mark.
    pub mark: Option<u32>,
    /// The link that a socket is bound to.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub oif: Option<Spanned<String>>,
    /// The link that the packet came by, or `lo` for the host's own.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub iif: Option<Spanned<String>>,
    /// The first and the last user id of the socket's owner. Airtight's own is 0.
    pub uid: Option<[u32; 2]>,
    /// The protocol: `udp`, `tcp` or `icmp`.
    pub protocol: Option<RuleProtocol>,
    /// The source port.
    pub sport: Option<u16>,
    /// The destination port. Attempts go to 7, controls to 9.
    pub dport: Option<u16>,
    /// What is done with the packet. Without it: `table` is looked up.
    #[serde(default, rename = "type")]
    pub kind: RouteKind,
    /// The table that is looked up.
    pub table: Option<u32>,
    /// The priority: lower comes first. Without it: before the main table.
    pub priority: Option<u32>,
}

/// A protocol that a rule matches.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RuleProtocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// ICMP, or ICMPv6 in IPv6 cells.
    Icmp,
}

/// A router advertisement.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Advertisement {
    /// The link whose gateway sends it.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub by: Spanned<String>,
    /// A prefix said to be on the link (RFC 4861, section 4.6.2).
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub prefix: Option<Spanned<String>>,
    /// A prefix said to be reached by this router (RFC 4191).
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub route: Option<Spanned<String>>,
    /// Whether the router says to be a default router.
    #[serde(default)]
    pub default: bool,
}

/// A multicast route of the host under test.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MulticastRoute {
    /// The link by which the group's packets come, or by which the host itself sends them.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub from: Spanned<String>,
    /// The link by which copies leave.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub to: Spanned<String>,
}

/// A command line, run inside the laboratory.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Where: `host`, or the link whose gateway runs it.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub at: Spanned<String>,
    /// The program and its arguments, divided by spaces. Placeholders as in a route's `to`, each
    /// an argument of its own, are replaced by their addresses, and `{LINK.gateway-mac}` by the
    /// hardware address of the link's gateway.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub run: Spanned<String>,
    /// The families in whose cells it is run. Without it: all.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Vec<Family>>"))]
    pub family: Option<Spanned<Vec<Family>>>,
}

/// A misconfiguration below the sockets, made after the wires are known to be alive and before the
/// control: what undoes a pin that is right.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Adversary {
    /// The command lines that make it, in an administrator's words. The programs must stand in
    /// `needs`. Devices may be made whose frames leave by links or not at all: bridges, macvlans,
    /// tunnels.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Line>"))]
    pub lines: Vec<Spanned<Line>>,
    /// A program on the link's egress hook (BPF_TCX_EGRESS, Linux 6.6) that sends its IP packets out
    /// of another link.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Redirect>"))]
    pub redirect: Option<Spanned<Redirect>>,
    /// The intended link that the unpinned sender leaves through before the adversary is there. If it
    /// does not, the trial is inconclusive: then it would not be the adversary that turns the control
    /// to the decoy. Without it, the routes do that already, and a case must show what the adversary
    /// does: one that leaks. Of sockets, not of programs.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub untouched: Option<Spanned<String>>,
}

/// From which link to which.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// The link that packets are about to leave by.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub from: Spanned<String>,
    /// The link that they leave by.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub to: Spanned<String>,
}

/// A program that makes the attempts. It runs inside the host under test, on a machine that fits
/// the laboratory: its own interfaces, `/sys/class/net`, `/etc/resolv.conf`, `/etc/hosts`, hostname
/// and processes. It is judged strictly: any frame on a link that is not intended is a leak.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// The program and its arguments. In each of them placeholders are replaced: those of a case's
    /// `to`, `{LINK.device}`, `{intended.device}`, `{intended.address}`, `{intended.gateway}` (of the
    /// first intended link), `{port}` and `{token}`. A case may have its own `command`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Vec<String>>"))]
    pub command: Option<Spanned<Vec<String>>>,
    /// The program is whatever is on trial: `airtight run ... -- PROGRAM ARGUMENT ...`, or
    /// `Suite::product`. Then no case has a command.
    #[serde(default)]
    pub product: bool,
    /// Its environment, beside `PATH` and `HOME`: the rest of yours is not passed on.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The folder that it runs in. Without it: the one that airtight runs in.
    pub directory: Option<String>,
    /// The user and group id that it runs as. Without it: airtight's own.
    pub user: Option<u32>,
    /// What stands on its standard input.
    #[serde(default)]
    pub input: String,
    /// How long it may run, in milliseconds, at most 600,000. Without it: 10,000.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u32>"))]
    pub timeout_ms: Option<Spanned<u32>>,
    /// For a program that goes on running: how it tells that it is ready. A product on trial brings
    /// its own.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Ready>"))]
    pub ready: Option<Spanned<Ready>>,
    /// The signal that a program that goes on running is stopped by. Without it: `SIGTERM`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Signal>"))]
    pub stop: Option<Spanned<Signal>>,
}

/// How a program tells that it is ready: one of these.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// It listens on this TCP port. A gateway's `ask` goes there.
    pub port: Option<u16>,
    /// It prints this, on either stream.
    pub line: Option<String>,
    /// This file appears. It must not be there before; `{token}` makes a name that nobody has.
    pub file: Option<String>,
}

/// A signal that asks a program to end (signal(7)).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// SIGHUP.
    SigHup,
    /// SIGINT.
    SigInt,
    /// SIGKILL: what the kernel sends for a program that had no time to say anything.
    SigKill,
    /// SIGQUIT.
    SigQuit,
    /// SIGTERM.
    #[default]
    SigTerm,
    /// SIGUSR1.
    SigUsr1,
    /// SIGUSR2.
    SigUsr2,
}

/// What a program finds behind every link: at the target and the other addresses that gateways own,
/// echo (port 7), a sink (9), names (53), HTTP (80) and NTP (123), the same on every link, so that
/// only the capture can tell which way an answer came.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct World {
    /// More TCP and UDP ports that accept anything and say nothing.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<u16>"))]
    pub sink: Vec<Spanned<u16>>,
    /// What the name server says, by name: an address, a placeholder such as `{elsewhere}`, or
    /// `nxdomain`. Every other name is the target's.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "BTreeMap<String, String>"))]
    pub names: BTreeMap<String, Spanned<String>>,
    /// Where the name server is. Without it: `{target}`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub resolver: Option<Spanned<String>>,
    /// The links behind which everything answers 300 ms late.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub slow: Vec<Spanned<String>>,
    /// The decoy by which the other address family is reachable too: the names have both kinds of
    /// addresses, and an unpinned sender of that family must leave by it.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub beside: Option<Spanned<String>>,
}

/// The experiment that arms the trap.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// The decoy that an unpinned sender must leave through, and by which an unpinned receiver
    /// must be reached. If it does not, the trial is inconclusive.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub unpinned: Spanned<String>,
    /// Where the unpinned sender sends to. Without it: to where the case sends to. Needed where
    /// the case's own destination cannot leave by the decoy without a pin.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub to: Option<Spanned<String>>,
    /// The links by which an unpinned receiver must be reached. Without it: the decoy and the
    /// link that the case injects by.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Vec<String>>"))]
    pub arrives: Option<Vec<Spanned<String>>>,
}

/// The axes: always arrays, never empty.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// The address families.
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Family>"))]
    pub family: Spanned<Vec<Family>>,
    /// The transports.
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Transport>"))]
    pub transport: Spanned<Vec<Transport>>,
}

/// An address family.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// IPv4 by an AF_INET6 socket: its addresses are v4-mapped (RFC 4291, section 2.5.5.2).
    Mapped,
}

/// What carries the attempt.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// UDP from an unconnected socket: sendto(2).
    Udp,
    /// UDP from a connected socket: connect(2), send(2).
    UdpConnected,
    /// TCP: connect(2), send(2), and an abortive close.
    Tcp,
    /// TCP with MPTCP (IPPROTO_MPTCP, RFC 8684).
    Mptcp,
    /// TCP whose SYN carries the data: sendto(2) with MSG_FASTOPEN (RFC 7413).
    TcpFastopen,
    /// A raw socket of protocol 253 (RFC 3692).
    Raw,
    /// A raw socket whose packets bring their own IPv4 header: IP_HDRINCL (raw(7)). IPv4 only.
    RawHeader,
    /// A ping socket: SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6 (icmp(7)).
    Ping,
    /// A packet socket, SOCK_RAW: whole frames, whose link the destination address names by
    /// `scope`, or bind(2) by `address` (packet(7)).
    Packet,
    /// A packet socket with PACKET_QDISC_BYPASS.
    PacketBypass,
    /// An AF_XDP socket that sends: whole frames, by the link that bind(2) by `address` names
    /// (Documentation/networking/af_xdp.rst).
    Xdp,
}

impl Signal {
    /// Every signal that stops a program.
    pub const ALL: [Signal; 7] = [
        Signal::SigHup,
        Signal::SigInt,
        Signal::SigKill,
        Signal::SigQuit,
        Signal::SigTerm,
        Signal::SigUsr1,
        Signal::SigUsr2,
    ];

    /// Its name in signal(7).
    pub fn word(self) -> &'static str {
        match self {
            Signal::SigHup => "SIGHUP",
            Signal::SigInt => "SIGINT",
            Signal::SigKill => "SIGKILL",
            Signal::SigQuit => "SIGQUIT",
            Signal::SigTerm => "SIGTERM",
            Signal::SigUsr1 => "SIGUSR1",
            Signal::SigUsr2 => "SIGUSR2",
        }
    }
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 3] = [Family::V4, Family::V6, Family::Mapped];

    /// The family's word: `v4`, `v6` or `mapped`.
    pub fn word(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
            Family::Mapped => "mapped",
        }
    }

    /// Whether the wires carry IPv4.
    pub fn is_v4(self) -> bool {
        self != Family::V6
    }
}

impl Transport {
    /// Every transport.
    pub const ALL: [Transport; 11] = [
        Transport::Udp,
        Transport::UdpConnected,
        Transport::Tcp,
        Transport::Mptcp,
        Transport::TcpFastopen,
        Transport::Raw,
        Transport::RawHeader,
        Transport::Ping,
        Transport::Packet,
        Transport::PacketBypass,
        Transport::Xdp,
    ];

    /// The transport's word.
    pub fn word(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::UdpConnected => "udp-connected",
            Transport::Tcp => "tcp",
            Transport::Mptcp => "mptcp",
            Transport::TcpFastopen => "tcp-fastopen",
            Transport::Raw => "raw",
            Transport::RawHeader => "raw-header",
            Transport::Ping => "ping",
            Transport::Packet => "packet",
            Transport::PacketBypass => "packet-bypass",
            Transport::Xdp => "xdp",
        }
    }

    /// Whether it sends whole frames, which are routed by nobody.
    pub fn is_frames(self) -> bool {
        matches!(self, Transport::Packet | Transport::PacketBypass | Transport::Xdp)
    }

    /// Whether its packets are routed and sent like any socket's: to a guard these are alike.
    pub fn is_ordinary(self) -> bool {
        match self {
            Transport::Udp
            | Transport::UdpConnected
            | Transport::Tcp
            | Transport::Raw
            | Transport::RawHeader
            | Transport::Ping => true,
            // The kernel opens MPTCP's other sockets, and frames are routed by nobody.
            Transport::Mptcp
            | Transport::TcpFastopen
            | Transport::Packet
            | Transport::PacketBypass
            | Transport::Xdp => false,
        }
    }

    /// Whether it makes connections that are byte streams.
    pub fn is_stream(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Mptcp | Transport::TcpFastopen)
    }
}
