//! A gateway played by crafted frames: what it sends to the host under test, and the state of the
//! conversation that its segments continue, read from the captured frames. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, Icmpv4Type, Icmpv6Type, IpHeaders,
    IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep, icmpv4,
};

use crate::capture::{Flags, Frame, Packet, decode};
use crate::plan::{Advertisement, Link, RAW_PROTOCOL};
use crate::scenario::Transport;

/// The sequence number that a played client starts with.
const SEQUENCE: u32 = 1_000;
/// The window that a played client announces, in bytes.
const WINDOW: u16 = 65_000;
/// How far outside of the window a stale sequence number lies.
const FAR: u32 = 100_000;
/// The largest packet that a `too-big` error lets through, in bytes.
const SMALLER_MTU: u16 = 1_400;
/// All nodes of a link (RFC 4291, section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A conversation with a socket of the host under test, as its peer sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Where its packets come from.
    pub(crate) from: SocketAddr,
    /// The socket that they are sent to.
    pub(crate) to: SocketAddr,
    /// The next sequence number, as far as the host has acknowledged.
    sequence: u32,
    /// The host's next sequence number, once it has sent one.
    expected: Option<u32>,
    /// How many frames have been read for the state.
    read: usize,
}

/// A TCP segment to craft.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment<'a> {
    pub(crate) flags: Flags,
    /// Added to the next sequence number.
    pub(crate) sequence: u32,
    /// Added to the host's next sequence number.
    pub(crate) acknowledgement: u32,
    pub(crate) payload: &'a [u8],
}

impl Segment<'_> {
    /// An acknowledgement whose sequence number lies before the window.
    pub(crate) fn stale() -> Self {
        Segment { sequence: FAR.wrapping_neg(), ..Segment::default() }
    }

    /// An acknowledgement of what was never sent.
    pub(crate) fn bad() -> Self {
        Segment { acknowledgement: FAR, ..Segment::default() }
    }
}

impl Peer {
    pub(crate) fn new(from: SocketAddr, to: SocketAddr) -> Peer {
        Peer { from, to, sequence: SEQUENCE, expected: None, read: 0 }
    }

    /// Learns from the frames captured so far, on whichever link.
    pub(crate) fn learn(&mut self, frames: &[Frame]) {
        for frame in frames.get(self.read..).unwrap_or_default() {
            let Packet::Tcp { from, to, flags, sequence, acknowledgement, payload } =
                decode(&frame.bytes)
            else {
                continue;
            };
            if from != self.to || to != self.from || flags.rst {
                continue;
            }
            let length = u32::try_from(payload.len()).unwrap_or(0)
                + u32::from(flags.syn)
                + u32::from(flags.fin);
            self.expected = Some(sequence.wrapping_add(length));
            if flags.ack {
                self.sequence = acknowledgement;
            }
        }
        self.read = frames.len();
    }

    /// Whether the host has answered.
    pub(crate) fn answered(&self) -> bool {
        self.expected.is_some()
    }

    /// A datagram, or what the transport has in its place.
    pub(crate) fn datagram(
        &self,
        by: &Link,
        transport: Transport,
        payload: &[u8],
    ) -> Result<Vec<u8>> {
        let step = self.packet(by, transport)?;
        let mut frame = Vec::new();
        if matches!(transport, Transport::Raw | Transport::RawHeader) {
            step.write(&mut frame, IpNumber(RAW_PROTOCOL), payload).context("craft a packet")?;
        } else {
            let step = step.udp(self.from.port(), self.to.port());
            step.write(&mut frame, payload).context("craft a datagram")?;
        }
        Ok(frame)
    }

    /// The SYN that opens a connection.
    pub(crate) fn syn(&self, by: &Link) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        let step = self.packet(by, Transport::Tcp)?;
        let step = step.tcp(self.from.port(), self.to.port(), SEQUENCE, WINDOW).syn();
        step.write(&mut frame, &[]).context("craft a SYN")?;
        Ok(frame)
    }

    /// A segment of the connection as it stands.
    pub(crate) fn segment(&self, by: &Link, segment: Segment<'_>) -> Result<Vec<u8>> {
        let Some(expected) = self.expected else {
            bail!("there is no connection to continue: the host has not answered {}", self.from);
        };
        let sequence = self.sequence.wrapping_add(segment.sequence);
        let acknowledgement = expected.wrapping_add(segment.acknowledgement);
        let step = self.packet(by, Transport::Tcp)?;
        let mut step =
            step.tcp(self.from.port(), self.to.port(), sequence, WINDOW).ack(acknowledgement);
        if segment.flags.fin {
            step = step.fin();
        }
        if segment.flags.rst {
            step = step.rst();
        }
        let mut frame = Vec::new();
        step.write(&mut frame, segment.payload).context("craft a segment")?;
        Ok(frame)
    }

    /// An echo request.
    pub(crate) fn echo_request(&self, by: &Link, payload: &[u8]) -> Result<Vec<u8>> {
        let step = self.packet(by, Transport::Ping)?;
        let mut frame = Vec::new();
        let written = if self.to.is_ipv4() {
            step.icmpv4_echo_request(7, 1).write(&mut frame, payload)
        } else {
            step.icmpv6_echo_request(7, 1).write(&mut frame, payload)
        };
        written.context("craft an echo request")?;
        Ok(frame)
    }

    /// An ICMP error from the link's gateway that quotes `frame`: packets to its destination are
    /// to go by another gateway on the link, or are too big.
    pub(crate) fn error(&self, by: &Link, frame: &[u8], redirect: bool) -> Result<Vec<u8>> {
        let quoted = frame.get(14..).context("the frame to quote is too short")?;
        let gateway = Peer { from: SocketAddr::new(by.gateway, 0), ..*self };
        let step = gateway.packet(by, Transport::Ping)?;
        let mut crafted = Vec::new();
        let written = match (by.gateway, next(by.gateway)) {
            (IpAddr::V4(_), IpAddr::V4(other)) => {
                // The header and eight bytes behind it (RFC 792).
                let quoted = quoted.get(..28).unwrap_or(quoted);
                let kind = if redirect {
                    Icmpv4Type::Redirect(icmpv4::RedirectHeader {
                        code: icmpv4::RedirectCode::RedirectForHost,
                        gateway_internet_address: other.octets(),
                    })
                } else {
                    Icmpv4Type::DestinationUnreachable(
                        icmpv4::DestUnreachableHeader::FragmentationNeeded {
                            next_hop_mtu: SMALLER_MTU,
                        },
                    )
                };
                step.icmpv4(kind).write(&mut crafted, quoted)
            }
            (_, IpAddr::V6(other)) => {
                let kind = Icmpv6Type::PacketTooBig { mtu: u32::from(SMALLER_MTU) };
                if redirect {
                    // RFC 4861, section 4.5: the better gateway, and the destination.
                    let destination = quoted.get(24..40).context("no destination to quote")?;
                    let body = [other.octets().as_slice(), destination].concat();
                    let kind = Icmpv6Type::Unknown { type_u8: 137, code_u8: 0, bytes5to8: [0; 4] };
                    step.icmpv6(kind).write(&mut crafted, &body)
                } else {
                    step.icmpv6(kind).write(&mut crafted, quoted.get(..48).unwrap_or(quoted))
                }
            }
            _ => bail!("{} and its neighbour differ in family", by.gateway),
        };
        written.context("craft an ICMP error")?;
        Ok(crafted)
    }

    /// A question for the hardware address of `self.to`, from `self.from`.
    pub(crate) fn who_has(&self, by: &Link) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let ethernet = Ethernet2Header {
                    source: by.far_mac,
                    destination: [0xff; 6],
                    ether_type: EtherType::ARP,
                };
                let question = ArpEthIpv4Packet {
                    operation: ArpOperation::REQUEST,
                    sender_mac: by.far_mac,
                    sender_ipv4: from.octets(),
                    target_mac: [0; 6],
                    target_ipv4: to.octets(),
                };
                ethernet.write(&mut frame).context("craft an ARP request")?;
                frame.extend_from_slice(&question.to_bytes());
                frame.resize(60, 0);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                // To the address itself (RFC 4861, section 7.2.2): the laboratory's devices have
                // joined no solicited-node group.
                let step = ethernet(by, self.to.ip()).ip(v6_header(from, to, 255));
                let kind = Icmpv6Type::Unknown { type_u8: 135, code_u8: 0, bytes5to8: [0; 4] };
                // The target, and our own hardware address as an option.
                let body = [&to.octets()[..], &[1, 1], &by.far_mac].concat();
                step.icmpv6(kind).write(&mut frame, &body).context("craft a solicitation")?;
            }
            _ => bail!("{} cannot ask for {}", self.from, self.to),
        }
        Ok(frame)
    }

    fn packet(&self, by: &Link, transport: Transport) -> Result<PacketBuilderStep<IpHeaders>> {
        let protocol = match transport {
            Transport::Raw | Transport::RawHeader => IpNumber(RAW_PROTOCOL),
            _ => IpNumber::UDP,
        };
        let ethernet = ethernet(by, self.to.ip());
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = Ipv4Header::new(0, 64, protocol, from.octets(), to.octets())
                    .context("craft an IPv4 header")?;
                Ok(ethernet.ip(IpHeaders::Ipv4(header, Default::default())))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                // Redirects must have come from the link itself (RFC 4861, section 8.1).
                let limit = if transport == Transport::Ping { 255 } else { 64 };
                Ok(ethernet.ip(v6_header(from, to, limit)))
            }
            _ => bail!("a packet cannot go from {} to {}", self.from, self.to),
        }
    }
}

/// A router advertisement of the gateway of `by` (RFC 4861, section 4.2; RFC 4191).
pub(crate) fn advertisement(by: &Link, advertisement: &Advertisement) -> Result<Vec<u8>> {
    const LIFETIME: u32 = 1_800;
    let lifetime = LIFETIME.to_be_bytes();
    // No reachable time and no retransmission timer of its own.
    let mut body = vec![0; 8];
    if let Some((IpAddr::V6(prefix), length)) = advertisement.prefix {
        // On the link, and no addresses to be made of it.
        body.extend([3, 4, length, 0x80]);
        body.extend([lifetime, lifetime, [0; 4]].concat());
        body.extend(prefix.octets());
    }
    if let Some((IpAddr::V6(prefix), length)) = advertisement.route {
        body.extend([24, 3, length, 0]);
        body.extend(lifetime);
        body.extend(prefix.octets());
    }
    // Our own hardware address, which the host then need not ask for.
    body.extend([1, 1]);
    body.extend(by.far_mac);
    let router = if advertisement.default { LIFETIME } else { 0 };
    let [.., high, low] = router.to_be_bytes();
    let kind = Icmpv6Type::Unknown { type_u8: 134, code_u8: 0, bytes5to8: [64, 0, high, low] };
    let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    let step = ethernet(by, IpAddr::V6(ALL_NODES)).ip(v6_header(from, ALL_NODES, 255));
    let mut frame = Vec::new();
    step.icmpv6(kind).write(&mut frame, &body).context("craft a router advertisement")?;
    Ok(frame)
}

fn v6_header(from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8) -> IpHeaders {
    let header = Ipv6Header {
        hop_limit,
        source: from.octets(),
        destination: to.octets(),
        ..Default::default()
    };
    IpHeaders::Ipv6(header, Default::default())
}

/// From the gateway to the host, or to the group that `to` is (RFC 1112, RFC 2464).
fn ethernet(by: &Link, to: IpAddr) -> PacketBuilderStep<Ethernet2Header> {
    let mac = match to {
        IpAddr::V4(v4) if v4.is_multicast() => {
            let [_, b, c, d] = v4.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V4(v4) if v4.is_broadcast() || Some(v4) == by.broadcast() => [0xff; 6],
        IpAddr::V6(v6) if v6.is_multicast() => {
            let [.., a, b, c, d] = v6.octets();
            [0x33, 0x33, a, b, c, d]
        }
        _ => by.near_mac,
    };
    PacketBuilder::ethernet2(by.far_mac, mac)
}

/// The address behind this one.
fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().wrapping_add(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().wrapping_add(1).into()),
    }
}
