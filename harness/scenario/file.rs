//! The scenario language as it is written: the shape of a file, key by key. The comments of this
//! module are the language's reference; `airtight schema` renders them.

use serde::Deserialize;
use toml::Spanned;

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
    /// How the host under test knows its neighbours. Without it: `permanent`.
    #[serde(default)]
    pub neighbours: Neighbours,
    /// What the machine must be able to do, or the scenario is skipped: `ipv6`, `bind-to-ifindex`,
    /// a link kind (`vrf`, `dummy`, `vlan`, ...), or `program:NAME`. Probed by doing.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub needs: Vec<Spanned<String>>,
    /// The kernels that the claim is made for, as in `">=5.7"` or `">=4.19, <6.1"`. On others the
    /// scenario is skipped.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub kernel: Option<Spanned<String>>,
    /// The experiment that arms the trap. Mandatory: without it silence would prove nothing.
    pub control: Control,
    /// The axes on which the claim is the same. Every case is tried in every cell.
    pub matrix: Matrix,
    /// The cases, each a pin and what is expected of it.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Case>"))]
    pub case: Vec<Spanned<Case>>,
}

/// A route of the host under test.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where it leads: `default`, a prefix such as `203.0.113.0/24` (used in its own family only),
    /// or a placeholder: `{target}`, `{LINK.address}`, `{LINK.gateway}`, `{LINK.network}`.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub to: Spanned<String>,
    /// The link whose gateway is the next hop. Either this or `dev`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub via: Option<Spanned<String>>,
    /// The link on which the destination is taken to be a neighbour. Either this or `via`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub dev: Option<Spanned<String>>,
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
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
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
}

/// A case: one pin and one expectation.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name: lower-case letters, digits and hyphens, unique in the file.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub name: Spanned<String>,
    /// What holds the socket to a link. Without it the socket is unpinned.
    #[serde(default)]
    pub pin: Pin,
    /// A gateway opens the exchange: the pinned socket listens and answers, and its answers are
    /// judged. Without it and `inject` the pinned socket is the client.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Approach>"))]
    pub request: Option<Spanned<Approach>>,
    /// A gateway injects a datagram or a SYN, and whether the pinned socket receives it is judged.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Approach>"))]
    pub inject: Option<Spanned<Approach>>,
    /// What is expected: `contained`, `leaked`, `refused` or `silent`; with `inject` `delivered`
    /// or `refused`.
    #[cfg_attr(feature = "cli", schemars(with = "Outcome"))]
    pub expect: Spanned<Outcome>,
    /// With `leaked`: the decoy that the frames are expected on.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub through: Option<Spanned<String>>,
    /// With `contained` and `leaked`: the link whose address the frames carry as their source.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub source: Option<Spanned<String>>,
    /// With `refused`: the error that the sender is given, by its name in errno(3).
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub errno: Option<Spanned<String>>,
    /// With `contained`: what the frames are. Without it: `data`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Carries>"))]
    pub carries: Option<Spanned<Carries>>,
    /// The cells of the matrix that the case is for. Without it: all.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Only>"))]
    pub only: Option<Spanned<Only>>,
    /// What the machine must be able to do, beside what the scenario needs.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub needs: Vec<Spanned<String>>,
    /// The kernels that the case is for, beside those of the scenario.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub kernel: Option<Spanned<String>>,
    /// A waiver: what is observed instead, and the link to what will mend it. Strict both ways.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Known>"))]
    pub known: Option<Spanned<Known>>,
}

/// What holds a socket to a link. Pins compose: they are applied in the order of this list, all of
/// them after socket(2) and before connect(2), listen(2) or sendto(2). A pin that the kernel
/// refuses is an errno, part of the outcome.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// SO_BINDTODEVICE (socket(7)) to this link's device.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub device: Option<Spanned<String>>,
    /// SO_BINDTODEVICE to this very name, which need not be a link's.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub device_name: Option<Spanned<String>>,
    /// SO_BINDTODEVICE to this link's device, passed as a whole `struct ifreq`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub ifreq: Option<Spanned<String>>,
    /// SO_BINDTOIFINDEX (Linux 5.1) to this link's interface index.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub index: Option<Spanned<String>>,
    /// bind(2) to this link's address.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub address: Option<Spanned<String>>,
}

/// How a gateway approaches the host under test. Its packets come from the target's address.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Approach {
    /// The link by which the packets arrive.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub by: Spanned<String>,
    /// The link whose address of the host under test they are sent to.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub to: Spanned<String>,
}

/// What the wires showed.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Frames of the attempt on an intended link, and none at all elsewhere.
    Contained,
    /// At least one frame, whatever it was, on a link that is not intended.
    Leaked,
    /// The sender was given an error and no frame appeared; the injected packet did not reach the
    /// socket.
    Refused,
    /// The sender was told that all went well, and no frame appeared anywhere.
    Silent,
    /// The injected packet reached the socket.
    Delivered,
}

/// What the contained frames are.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// The attempt's own packets.
    Data,
    /// Only ARP or neighbour solicitations.
    Neighbour,
}

/// A part of the matrix.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Only {
    /// Of the axis `family`. Without it: all.
    pub family: Option<Vec<Family>>,
    /// Of the axis `transport`. Without it: all.
    pub transport: Option<Vec<Transport>>,
}

/// A waiver for a deviation that is known.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The outcome that is observed for now. Once it is no longer, the waiver is stale.
    pub outcome: Outcome,
    /// The link to the issue that will end it.
    pub until: String,
}

impl Outcome {
    /// The outcome's word, as scenarios and reports have it.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Contained => "contained",
            Outcome::Leaked => "leaked",
            Outcome::Refused => "refused",
            Outcome::Silent => "silent",
            Outcome::Delivered => "delivered",
        }
    }
}

impl Family {
    /// The family's word: `v4` or `v6`.
    pub fn word(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        }
    }
}

impl Transport {
    /// The transport's word.
    pub fn word(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::UdpConnected => "udp-connected",
            Transport::Tcp => "tcp",
        }
    }
}
