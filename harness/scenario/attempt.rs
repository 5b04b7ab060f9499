//! The scenario language's cases: pins, steps, approaches and expectations. The comments are the
//! language's reference, as in `file`.

use serde::Deserialize;
use toml::Spanned;

use super::file::{Family, Route, Signal, Transport};

/// A case: one pin, or steps, and one expectation.
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
    /// Where the socket sends to: `{target}` (without it), `{elsewhere}`, `{group}`,
    /// `{link-group}`, `{link-local}`, `{broadcast}`, `{loopback}`, `{foreign}`,
    /// `{LINK.address}`, `{LINK.gateway}`, `{LINK.broadcast}` or `{LINK.link-local}`. Broadcast
    /// addresses are IPv4's, `{link-group}` and link-local ones IPv6's.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub to: Option<Spanned<String>>,
    /// How many bytes the socket sends at once, 64 to 65000: more than the link's 1500 is cut
    /// into fragments. Without it: a few.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u16>"))]
    pub size: Option<Spanned<u16>>,
    /// How many sockets make the attempt, one after the other, at most 256. Without it: one.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u16>"))]
    pub flows: Option<Spanned<u16>>,
    /// A gateway opens the exchange: the pinned socket listens and answers, and its answers are
    /// judged. Without it, `inject`, `provoke` and `steps` the pinned socket is the client.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Approach>"))]
    pub request: Option<Spanned<Approach>>,
    /// A gateway injects a datagram or a connection, and whether the pinned socket receives it is
    /// judged.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Approach>"))]
    pub inject: Option<Spanned<Approach>>,
    /// A gateway provokes the kernel of the host under test into an answer, whose way is judged.
    /// With a `pin` a pinned socket listens on the port; without one nobody does.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Approach>"))]
    pub provoke: Option<Spanned<Approach>>,
    /// The attempt as a script, where order matters. The socket under test is open before the
    /// first step.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Step>"))]
    pub steps: Vec<Spanned<Step>>,
    /// The command line that makes the attempt, in place of the sender's.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Vec<String>>"))]
    pub command: Option<Spanned<Vec<String>>>,
    /// The errors that the program's pins are refused with.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Fault>"))]
    pub fault: Option<Spanned<Fault>>,
    /// What is expected: `contained`, `leaked`, `refused` or `silent`; where reception is judged
    /// `delivered` or `refused`; of a program whose laboratory changes, or whose pins are refused,
    /// `kept`.
    #[cfg_attr(feature = "cli", schemars(with = "Outcome"))]
    pub expect: Spanned<Outcome>,
    /// With `leaked`: the decoy that the frames are expected on.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub through: Option<Spanned<String>>,
    /// With `leaked`: the guards that stop the leak, each `GUARD` or, in a part of the matrix alone,
    /// `PART:GUARD` (`v4:`, `tcp:`, `v6-udp:`). Guards are `namespace`, `nft-egress`, `nft-output`,
    /// `cgroup-drop`, `cgroup-pin`, `reject-rules` and `vrf`; those that are not named leave the leak
    /// open. The case is then tried under every guard too (under `vrf` where it is named): a trial
    /// whose name ends with `+GUARD`, in each family (under `namespace`, and beside an adversary, in the first) with the first of
    /// `udp`, `udp-connected`, `tcp`, `raw`, `raw-header` and `ping`, which are alike to a guard, and
    /// with every other transport.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Vec<String>>"))]
    pub held_by: Option<Spanned<Vec<String>>>,
    /// Where reception is judged and a pin stands: what the same attempt without its pins must come
    /// to, or nothing counts: `delivered` (without it) or, where something else than the pin keeps
    /// packets out, `refused`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Outcome>"))]
    pub unpinned: Option<Spanned<Outcome>>,
    /// With `contained` and `leaked`: the link whose address the frames carry as their source, or
    /// another address, such as `{foreign}` or `{loopback}`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub source: Option<Spanned<String>>,
    /// With `refused`: the error that the sender is given, by its name in errno(3); for a program
    /// its exit status, as `exit 7`. With `contained` in `steps`: the error that ends them.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub errno: Option<Spanned<String>>,
    /// With `errno`: the call that is given it: `sendto`, `connect`, `setsockopt(IP_UNICAST_IF`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub call: Option<Spanned<String>>,
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

/// Errors that a program's calls are given in place of the kernel's answer, by a seccomp filter
/// (seccomp_unotify(2)). A program that makes none of these calls proves nothing.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The error, by its name in errno(3), of every setsockopt(2) that holds a socket to a link:
    /// SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_MARK, IP_UNICAST_IF, IP_MULTICAST_IF and IPv6's.
    pub setsockopt: Option<String>,
    /// The error of every bind(2) to an IPv4 or IPv6 address.
    pub bind: Option<String>,
}

/// What holds a socket to a link. Pins compose: they are applied in the order in which they are
/// written, all of them after socket(2) and before connect(2), listen(2) or sendto(2). A pin that
/// the kernel refuses is an errno, part of the outcome. Where a link is named, `{missing}` stands
/// for an interface index that no device has.
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
    /// bind(2) to this link's address, or to `{foreign}` (an address that nobody has),
    /// `{loopback}` or `{LINK.link-local}`. A packet socket is bound to the link itself.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub address: Option<Spanned<String>>,
    /// IP_UNICAST_IF (ip(7)) or IPV6_UNICAST_IF: the link for unicast packets.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub unicast_if: Option<Spanned<String>>,
    /// IP_MULTICAST_IF (ip(7)) or IPV6_MULTICAST_IF (ipv6(7)): the link for multicast packets.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub multicast_if: Option<Spanned<String>>,
    /// IP_PKTINFO or IPV6_PKTINFO as a control message with every packet.
    #[cfg_attr(feature = "cli", schemars(with = "Option<PacketInfo>"))]
    pub pktinfo: Option<Spanned<PacketInfo>>,
    /// IPV6_PKTINFO as an option of the socket (RFC 3542, section 6.2). IPv4 has no such option.
    #[cfg_attr(feature = "cli", schemars(with = "Option<PacketInfo>"))]
    pub sticky_pktinfo: Option<Spanned<PacketInfo>>,
    /// The link in the destination's address: sin6_scope_id, or sll_ifindex of a packet socket.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub scope: Option<Spanned<String>>,
    /// SO_MARK (socket(7)) with this value.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u32>"))]
    pub mark: Option<Spanned<u32>>,
    /// SO_MARK as a control message with every packet.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u32>"))]
    pub packet_mark: Option<Spanned<u32>>,
    /// SO_DONTROUTE, or MSG_DONTROUTE with every packet: only to hosts on a link.
    #[cfg_attr(feature = "cli", schemars(with = "Option<DontRoute>"))]
    pub dont_route: Option<Spanned<DontRoute>>,
    /// IP_FREEBIND or IPV6_FREEBIND: bind(2) takes addresses that the host does not have.
    #[cfg_attr(feature = "cli", schemars(with = "Option<bool>"))]
    pub freebind: Option<Spanned<bool>>,
    /// IP_TRANSPARENT or IPV6_TRANSPARENT, likewise, and packets may be sent from them.
    #[cfg_attr(feature = "cli", schemars(with = "Option<bool>"))]
    pub transparent: Option<Spanned<bool>>,
    /// The hops that a packet may take: IP_TTL and IP_MULTICAST_TTL (ip(7)), or IPV6_UNICAST_HOPS
    /// and IPV6_MULTICAST_HOPS. Without it the kernel's own: 64, and 1 for groups.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u8>"))]
    pub hops: Option<Spanned<u8>>,
    /// SO_BROADCAST: packets may be sent to broadcast addresses.
    #[cfg_attr(feature = "cli", schemars(with = "Option<bool>"))]
    pub broadcast: Option<Spanned<bool>>,
    /// SO_REUSEPORT: several sockets share a port.
    #[cfg_attr(feature = "cli", schemars(with = "Option<bool>"))]
    pub reuse_port: Option<Spanned<bool>>,
    /// IP_MULTICAST_ALL or IPV6_MULTICAST_ALL: `false` refuses groups that this socket has not
    /// joined.
    #[cfg_attr(feature = "cli", schemars(with = "Option<bool>"))]
    pub multicast_all: Option<Spanned<bool>>,
}

/// What an IP_PKTINFO or IPV6_PKTINFO says. What is left out is zero.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PacketInfo {
    /// The link by which the packet is to leave.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub index: Option<Spanned<String>>,
    /// The link whose address is the packet's source.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub source: Option<Spanned<String>>,
    /// The control message of the other family than the socket's own: IP_PKTINFO on an AF_INET6
    /// socket.
    #[serde(default)]
    pub as_v4: bool,
}

/// How a socket asks not to be routed by a gateway.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DontRoute {
    /// SO_DONTROUTE.
    Option,
    /// MSG_DONTROUTE.
    Flag,
}

/// One step of an attempt: `on` which socket, and one other key.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The socket, by the name that `open` gave it. Without it: the socket under test.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub on: Option<Spanned<String>>,
    /// Opens another socket of this transport, by the name in `on`.
    pub open: Option<Transport>,
    /// Pins the socket.
    pub pin: Option<Pin>,
    /// A call of the socket that needs no other word.
    pub call: Option<Call>,
    /// connect(2) to this destination, written as a case's `to`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub connect: Option<Spanned<String>>,
    /// sendto(2) to this destination.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub send: Option<Spanned<String>>,
    /// sendto(2) with MSG_MORE to this destination: the datagram is held back until the socket sends
    /// again without it. Of `udp`, `udp-connected` and `raw` sockets.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub cork: Option<Spanned<String>>,
    /// Joins a multicast group.
    pub join: Option<Membership>,
    /// A gateway's frame.
    pub inject: Option<Approach>,
    /// Adds a route to the host under test.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Route>"))]
    pub route: Option<Spanned<Route>>,
    /// Gives a link's device another name. Most kernels want it `down` for that.
    pub rename: Option<Rename>,
    /// Gives a link's device another interface index.
    pub reindex: Option<Reindex>,
    /// The namespace in which the calls that follow are made. A socket stays in the one in which it
    /// was opened.
    pub enter: Option<Namespace>,
    /// Beside `pin`, `call`, `connect`, `send`, `cork` and `join`: the error, by its name in errno(3),
    /// that this step must be given; the script then goes on. Without it a call that is refused ends
    /// the script.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub refused: Option<Spanned<String>>,
    /// What becomes of the program that makes the attempt. A script of a program has these,
    /// `signal`, `set`, `route`, `unroute`, `ask`, `watch` and `await`.
    pub program: Option<ProgramStep>,
    /// Sends the program a signal, and goes on.
    pub signal: Option<Signal>,
    /// Changes a link of the host under test.
    /// In a script of sockets neighbours must be permanent, and no reception be judged.
    pub set: Option<LinkChange>,
    /// Deletes a route of the host under test, written as it was added.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Route>"))]
    pub unroute: Option<Spanned<Route>>,
    /// A gateway opens an exchange with the program.
    pub ask: Option<Ask>,
    /// Watches the program for this many milliseconds, at most 5,000, or until it ends.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u16>"))]
    pub watch: Option<Spanned<u16>>,
    /// Waits for a frame that leaves by this link, sent by a timer or a workqueue of the kernel's;
    /// at most 2.5 s.
    #[serde(rename = "await")]
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub await_frame: Option<Spanned<String>>,
}

/// A new name for a link's device. Elsewhere in the scenario `LINK` goes on meaning the same link;
/// `device_name` pins to whoever has the name.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The link.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub link: Spanned<String>,
    /// The name: at most 15 bytes, and nobody else's.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub to: Spanned<String>,
}

/// A new interface index for a link's device: it is taken to another namespace and back (Linux 5.13),
/// and has its addresses, neighbours and routes again. To the sockets of the host under test it is a
/// device that was not there before.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reindex {
    /// The link.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub link: Spanned<String>,
    /// Whose index it gets: a link that is `gone`.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub like: Spanned<String>,
}

/// Where calls are made.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// The host under test.
    Host,
    /// Another network namespace, from which nothing can be sent.
    Elsewhere,
}

/// What becomes of a program.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ProgramStep {
    /// It is started. Without this step: before the first.
    Start,
    /// It is waited for until it is ready; one that does not tell, until its first frame has left, and
    /// the world then keeps its answers back until the changes that follow are made.
    UnderWay,
    /// It is stopped by its signal, unless it has ended.
    Stop,
    /// It is waited for until it ends; one that has `ready` is asked, and stopped. Without this
    /// step, and without `stop`: behind the last.
    End,
}

/// A change of a link.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LinkChange {
    /// The link.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub link: Spanned<String>,
    /// What it becomes.
    pub to: LinkState,
}

/// What a link of the host under test can be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Administratively down: the kernel takes its routes away.
    Down,
    /// Up and without a carrier: its far end is down.
    Unplugged,
    /// Without the addresses that the laboratory gave it, and so without their routes.
    Bare,
    /// Not there: its device is in another namespace.
    Gone,
    /// As the scenario has it: there, up, with its addresses, neighbours and routes.
    Whole,
}

/// How a gateway opens an exchange with a program.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The link by which it arrives, at the host's address on it.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub by: Spanned<String>,
    /// What it is.
    pub what: AskKind,
    /// The port. Without it: the one that the program is ready on.
    pub port: Option<u16>,
    /// Where it comes from: an address that gateways own. Without it: `{target}`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub from: Option<Spanned<String>>,
}

/// What a gateway asks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AskKind {
    /// A TCP connection with an HTTP request, which must be answered.
    Request,
    /// A UDP datagram, which must be answered.
    Datagram,
    /// A TCP connection and a UDP datagram to a port where nobody need listen.
    Scan,
    /// An ICMP or ICMPv6 echo request.
    Ping,
}

/// A call of a socket.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// bind(2) to the port where that is not done, and for TCP listen(2).
    Listen,
    /// accept(2): the steps that follow concern the connection.
    Accept,
    /// send(2) on a connected socket or a connection.
    Send,
    /// recvfrom(2) or read(2), after accept(2) on a listener: whether the token has arrived is
    /// what is judged. The last step.
    Receive,
    /// Receives, and answers whoever has sent.
    Answer,
    /// shutdown(2) and close(2), without lingering: the kernel ends the connection in order.
    Close,
    /// close(2) of the listener that a connection came from.
    CloseListener,
    /// connect(2) to AF_UNSPEC: the socket has no peer any more.
    Disconnect,
    /// The socket is sent over a UNIX socket and received again (SCM_RIGHTS, unix(7)), and the first
    /// descriptor is closed.
    Pass,
    /// The calls that follow, whatever their socket, are made without CAP_NET_RAW and CAP_NET_ADMIN
    /// (capabilities(7)).
    DropPrivileges,
}

/// A membership of a multicast group.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The group, `{group}` or `{link-group}`.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub group: Spanned<String>,
    /// The link on which it is joined. Without it: index 0, and the kernel chooses.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub by: Option<Spanned<String>>,
}

/// How a gateway approaches the host under test.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Approach {
    /// The link by which the packets arrive.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub by: Spanned<String>,
    /// The link whose address of the host under test they are sent to, or another destination,
    /// written as a case's `to`.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub to: Spanned<String>,
    /// Where they come from. Without it: `{target}`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub from: Option<Spanned<String>>,
    /// What they are. Without it: `opening`.
    #[serde(default)]
    pub frame: FrameKind,
    /// How many, each from a port of its own, at most 256. Without it: one.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u16>"))]
    pub flows: Option<Spanned<u16>>,
}

/// A gateway's frame. TCP segments continue the connection that the script has, from its last
/// sequence number.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FrameKind {
    /// A datagram with the token. With TCP: a SYN, and where it is answered the segment that
    /// completes the handshake and carries the token.
    #[default]
    Opening,
    /// A SYN.
    Syn,
    /// The segment that completes the handshake, without data.
    Ack,
    /// The next segment, with the token as its data.
    Data,
    /// FIN and ACK.
    Fin,
    /// RST.
    Rst,
    /// An acknowledgement whose sequence number lies outside the window.
    StaleAck,
    /// An acknowledgement of what was never sent.
    BadAck,
    /// An ICMP or ICMPv6 echo request.
    EchoRequest,
    /// An ICMP or ICMPv6 redirect that quotes the last packet of the attempt, and names another
    /// gateway on the link.
    Redirect,
    /// ICMP fragmentation needed, or ICMPv6 packet too big, that quotes the last packet.
    TooBig,
    /// An ARP request or neighbour solicitation for the address in `to`.
    WhoHas,
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
    /// Only ever expected: no frame on a link that is not intended, whether `contained`, `refused`
    /// or `silent`. That the program would have sent must be shown: by a rehearsal, the same
    /// without the changes, or by a pin that was refused.
    Kept,
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

impl Case {
    /// Whether reception is judged, and not the way out.
    pub fn judges_reception(&self) -> bool {
        let receives = |step: &Spanned<Step>| step.get_ref().call == Some(Call::Receive);
        self.inject.is_some() || self.steps.iter().any(receives)
    }
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
            Outcome::Kept => "kept",
        }
    }
}
