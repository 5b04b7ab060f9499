//! A pure decoder: bytes to what they say. It never fails; what it cannot read it says so.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::{ArpOperation, EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A whole UDP datagram, or the first fragment of one.
    Udp {
        /// Where it comes from.
        from: SocketAddr,
        /// Where it goes to.
        to: SocketAddr,
        /// What it carries, as far as it was captured.
        payload: Vec<u8>,
    },
    /// A TCP segment.
    Tcp {
        /// Where it comes from.
        from: SocketAddr,
        /// Where it goes to.
        to: SocketAddr,
        /// Its flags.
        flags: Flags,
        /// Its sequence number.
        sequence: u32,
        /// Its acknowledgement number.
        acknowledgement: u32,
        /// What it carries, as far as it was captured.
        payload: Vec<u8>,
    },
    /// An ARP request or reply.
    Arp {
        /// Whether it asks.
        request: bool,
        /// The sender's protocol address.
        sender: IpAddr,
        /// The address asked for.
        target: IpAddr,
    },
    /// An IPv6 neighbour solicitation (ICMPv6 135) or advertisement (136).
    Neighbour {
        /// Whether it asks.
        solicitation: bool,
        /// The packet's source.
        from: IpAddr,
        /// The address asked for.
        target: IpAddr,
    },
    /// An IP packet of another kind.
    Ip {
        /// Where it comes from.
        from: IpAddr,
        /// Where it goes to.
        to: IpAddr,
        /// Its protocol, by IANA's number.
        protocol: u8,
        /// The type, where it is ICMP or ICMPv6.
        icmp_type: Option<u8>,
    },
    /// Neither IP nor ARP: an ethertype.
    Other(u16),
    /// What it claims to be cannot be read.
    Undecodable(String),
}

/// The flags of a TCP segment that tell its place in an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
}

impl Packet {
    /// The packet's source address, where it has one.
    pub fn source(&self) -> Option<IpAddr> {
        match self {
            Packet::Udp { from, .. } | Packet::Tcp { from, .. } => Some(from.ip()),
            Packet::Arp { sender, .. } => Some(*sender),
            Packet::Neighbour { from, .. } | Packet::Ip { from, .. } => Some(*from),
            Packet::Other(_) | Packet::Undecodable(_) => None,
        }
    }

    /// Where the packet goes to, where it says so.
    pub fn destination(&self) -> Option<IpAddr> {
        match self {
            Packet::Udp { to, .. } | Packet::Tcp { to, .. } => Some(to.ip()),
            Packet::Ip { to, .. } => Some(*to),
            // Whoever is told of a hardware address has asked for it.
            Packet::Arp { request: false, target, .. } => Some(*target),
            _ => None,
        }
    }

    /// Whether it reports a membership of a multicast group: IGMP (RFC 3376), or the ICMPv6 types
    /// of MLD (RFC 2710, RFC 3810).
    pub fn membership(&self) -> bool {
        match self {
            Packet::Ip { protocol: 2, .. } => true,
            Packet::Ip { icmp_type: Some(kind), to: IpAddr::V6(_), .. } => {
                [131, 132, 143].contains(kind)
            }
            _ => false,
        }
    }

    /// Whether it only asks for, or tells, a neighbour's hardware address.
    pub fn neighbour(&self) -> bool {
        matches!(self, Packet::Arp { .. } | Packet::Neighbour { .. })
    }
}

/// Decodes an Ethernet frame.
pub fn decode(frame: &[u8]) -> Packet {
    let sliced = match LaxSlicedPacket::from_ethernet(frame) {
        Ok(sliced) => sliced,
        Err(error) => return Packet::Undecodable(error.to_string()),
    };
    let unreadable = || match &sliced.stop_err {
        Some((error, _)) => Packet::Undecodable(error.to_string()),
        None => Packet::Undecodable("its payload cannot be read".to_owned()),
    };
    let Some(net) = &sliced.net else {
        return match sliced.ether_payload() {
            Some(payload) if !known(payload.ether_type) => Packet::Other(payload.ether_type.0),
            _ => unreadable(),
        };
    };
    let (from, to, protocol) = match net {
        LaxNetSlice::Ipv4(v4) => {
            let header = v4.header();
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                v4.payload().ip_number,
            )
        }
        LaxNetSlice::Ipv6(v6) => {
            let header = v6.header();
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                v6.payload().ip_number,
            )
        }
        LaxNetSlice::Arp(arp) => {
            let (Some(sender), Some(target)) =
                (v4(arp.sender_protocol_addr()), v4(arp.target_protocol_addr()))
            else {
                return Packet::Undecodable("ARP for a protocol other than IPv4".to_owned());
            };
            return Packet::Arp {
                request: arp.operation() == ArpOperation::REQUEST,
                sender,
                target,
            };
        }
    };
    let truncated = sliced.stop_err.is_some();
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => Packet::Udp {
            from: SocketAddr::new(from, udp.source_port()),
            to: SocketAddr::new(to, udp.destination_port()),
            payload: udp.payload().to_vec(),
        },
        Some(TransportSlice::Tcp(tcp)) => Packet::Tcp {
            from: SocketAddr::new(from, tcp.source_port()),
            to: SocketAddr::new(to, tcp.destination_port()),
            flags: Flags { syn: tcp.syn(), ack: tcp.ack(), fin: tcp.fin(), rst: tcp.rst() },
            sequence: tcp.sequence_number(),
            acknowledgement: tcp.acknowledgment_number(),
            payload: tcp.payload().to_vec(),
        },
        Some(TransportSlice::Icmpv6(icmp)) => {
            let asked = icmp.slice().get(8..24).and_then(v6);
            match (icmp.type_u8(), asked) {
                (kind @ (135 | 136), Some(target)) => {
                    Packet::Neighbour { solicitation: kind == 135, from, target }
                }
                (kind, _) => Packet::Ip { from, to, protocol: 58, icmp_type: Some(kind) },
            }
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            Packet::Ip { from, to, protocol: 1, icmp_type: Some(icmp.type_u8()) }
        }
        Some(TransportSlice::Igmp(_)) => Packet::Ip { from, to, protocol: 2, icmp_type: None },
        None if truncated => unreadable(),
        None => Packet::Ip { from, to, protocol: protocol.0, icmp_type: None },
    }
}

fn known(kind: EtherType) -> bool {
    [EtherType::IPV4, EtherType::IPV6, EtherType::ARP].contains(&kind)
}

fn v4(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from)
}

fn v6(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Packet::Udp { from, to, .. } => write!(f, "UDP {from} > {to}"),
            Packet::Tcp { from, to, flags, .. } => {
                let words = [
                    (flags.syn, "SYN"),
                    (flags.fin, "FIN"),
                    (flags.rst, "RST"),
                    (flags.ack, "ACK"),
                ];
                let words: Vec<&str> =
                    words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
                write!(f, "TCP {from} > {to} {}", words.join(","))
            }
            Packet::Arp { request: true, sender, target } => {
                write!(f, "ARP who-has {target} tell {sender}")
            }
            Packet::Arp { sender, .. } => write!(f, "ARP {sender} is-at"),
            Packet::Neighbour { solicitation: true, from, target } => {
                write!(f, "ICMPv6 {from} solicits neighbour {target}")
            }
            Packet::Neighbour { from, target, .. } => {
                write!(f, "ICMPv6 {from} advertises neighbour {target}")
            }
            Packet::Ip { from, to, protocol, icmp_type } => {
                match (IpNumber(*protocol).keyword_str(), icmp_type) {
                    (_, Some(kind)) => write!(f, "ICMP type {kind} {from} > {to}"),
                    (Some(name), None) => write!(f, "{name} {from} > {to}"),
                    (None, None) => write!(f, "IP protocol {protocol} {from} > {to}"),
                }
            }
            Packet::Other(kind) => write!(f, "ethertype 0x{kind:04x}"),
            Packet::Undecodable(why) => write!(f, "undecodable: {why}"),
        }
    }
}
