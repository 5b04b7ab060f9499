//! The calls that pin a socket: what each is called, and its bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plan::{Info, PinCall};
use crate::scenario::{DontRoute, Family};
use crate::sys::Control;

/// IPV6_UNICAST_IF (include/uapi/linux/in6.h), which libc lacks.
const IPV6_UNICAST_IF: i32 = 76;

/// An option of a socket: level, name, value, and the name's words.
pub(super) struct Setting {
    pub(super) level: i32,
    pub(super) name: i32,
    pub(super) value: Vec<u8>,
    pub(super) words: String,
}

/// What a packet-wise pin says with each packet; `None` where the pin is no such.
pub(super) fn control(call: &PinCall, family: Family) -> Option<(Control, String)> {
    match call {
        PinCall::PacketInfo(info) => {
            let (level, name, value, words) = packet_info(*info, family);
            Some(((level, name, value), words))
        }
        PinCall::PacketMark(mark) => Some((
            (libc::SOL_SOCKET, libc::SO_MARK, mark.to_ne_bytes().to_vec()),
            format!("SO_MARK {mark}"),
        )),
        _ => None,
    }
}

/// The option that a pin sets; `None` where it sets none.
pub(super) fn setting(call: &PinCall, family: Family) -> Option<Setting> {
    // An AF_INET6 socket is pinned by IPv6's options, also where its packets are IPv4's.
    let v4 = family == Family::V4;
    let of = |level: i32, name: i32, value: Vec<u8>, words: String| {
        Some(Setting { level, name, value, words })
    };
    let ip = |v4_name: (i32, &str), v6_name: (i32, &str), value: Vec<u8>, shown: String| {
        let (level, (name, word)) =
            if v4 { (libc::IPPROTO_IP, v4_name) } else { (libc::IPPROTO_IPV6, v6_name) };
        of(level, name, value, format!("{word}, {shown}"))
    };
    let switch = |on: bool| i32::from(on).to_ne_bytes().to_vec();
    let socket = |name: i32, word: &str, value: Vec<u8>, shown: String| {
        of(libc::SOL_SOCKET, name, value, format!("{word}, {shown}"))
    };
    match call {
        PinCall::Device(name) => socket(
            libc::SO_BINDTODEVICE,
            "SO_BINDTODEVICE",
            name.as_bytes().to_vec(),
            format!("{name:?}"),
        ),
        PinCall::Ifreq(name) => {
            // `struct ifreq` (netdevice(7)): 16 bytes of name, then a union of 24.
            let mut request = vec![0; size_of::<libc::ifreq>()];
            let length = name.len().min(libc::IFNAMSIZ - 1);
            request[..length].copy_from_slice(&name.as_bytes()[..length]);
            let shown = format!("struct ifreq {{ {name:?} }}");
            socket(libc::SO_BINDTODEVICE, "SO_BINDTODEVICE", request, shown)
        }
        PinCall::Index(index) => socket(
            libc::SO_BINDTOIFINDEX,
            "SO_BINDTOIFINDEX",
            index.to_ne_bytes().to_vec(),
            index.to_string(),
        ),
        // In network byte order (ip(7)).
        PinCall::UnicastIf(index) => ip(
            (libc::IP_UNICAST_IF, "IP_UNICAST_IF"),
            (IPV6_UNICAST_IF, "IPV6_UNICAST_IF"),
            index.to_be_bytes().to_vec(),
            index.to_string(),
        ),
        PinCall::MulticastIf(index) => {
            // IPv4 takes a struct ip_mreqn: two addresses, and the index.
            let value = if v4 {
                mreqn(Ipv4Addr::UNSPECIFIED, *index)
            } else {
                index.to_ne_bytes().to_vec()
            };
            ip(
                (libc::IP_MULTICAST_IF, "IP_MULTICAST_IF"),
                (libc::IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF"),
                value,
                index.to_string(),
            )
        }
        PinCall::StickyPacketInfo(info) => {
            let (level, name, value, words) = packet_info(*info, family);
            of(level, name, value, words)
        }
        PinCall::Mark(mark) => {
            socket(libc::SO_MARK, "SO_MARK", mark.to_ne_bytes().to_vec(), mark.to_string())
        }
        PinCall::DontRoute(DontRoute::Option) => {
            socket(libc::SO_DONTROUTE, "SO_DONTROUTE", switch(true), "1".to_owned())
        }
        PinCall::Freebind(on) => ip(
            (libc::IP_FREEBIND, "IP_FREEBIND"),
            (libc::IPV6_FREEBIND, "IPV6_FREEBIND"),
            switch(*on),
            i32::from(*on).to_string(),
        ),
        PinCall::Transparent(on) => ip(
            (libc::IP_TRANSPARENT, "IP_TRANSPARENT"),
            (libc::IPV6_TRANSPARENT, "IPV6_TRANSPARENT"),
            switch(*on),
            i32::from(*on).to_string(),
        ),
        PinCall::MulticastAll(on) => ip(
            (libc::IP_MULTICAST_ALL, "IP_MULTICAST_ALL"),
            (libc::IPV6_MULTICAST_ALL, "IPV6_MULTICAST_ALL"),
            switch(*on),
            i32::from(*on).to_string(),
        ),
        PinCall::Broadcast(on) => {
            socket(libc::SO_BROADCAST, "SO_BROADCAST", switch(*on), i32::from(*on).to_string())
        }
        PinCall::ReusePort(on) => {
            socket(libc::SO_REUSEPORT, "SO_REUSEPORT", switch(*on), i32::from(*on).to_string())
        }
        PinCall::Address(_)
        | PinCall::ScopedAddress(..)
        | PinCall::Hops(_)
        | PinCall::BindLink(_)
        | PinCall::PacketInfo(_)
        | PinCall::PacketMark(_)
        | PinCall::Scope(_)
        | PinCall::DontRoute(DontRoute::Flag) => None,
    }
}

/// The options that set how many hops a unicast and a multicast packet may take.
pub(super) fn hops(hops: u8, family: Family) -> [Setting; 2] {
    let value = i32::from(hops).to_ne_bytes().to_vec();
    let of = |level: i32, name: i32, word: &str| Setting {
        level,
        name,
        value: value.clone(),
        words: format!("{word}, {hops}"),
    };
    if family == Family::V4 {
        [
            of(libc::IPPROTO_IP, libc::IP_TTL, "IP_TTL"),
            of(libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, "IP_MULTICAST_TTL"),
        ]
    } else {
        [
            of(libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS"),
            of(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS"),
        ]
    }
}

/// The option that joins a multicast group.
pub(super) fn membership(group: IpAddr, index: u32) -> Setting {
    match group {
        IpAddr::V4(v4) => Setting {
            level: libc::IPPROTO_IP,
            name: libc::IP_ADD_MEMBERSHIP,
            value: mreqn(v4, index),
            words: format!("IP_ADD_MEMBERSHIP, {v4}, {index}"),
        },
        IpAddr::V6(v6) => Setting {
            level: libc::IPPROTO_IPV6,
            name: libc::IPV6_ADD_MEMBERSHIP,
            value: [v6.octets().as_slice(), &index.to_ne_bytes()].concat(),
            words: format!("IPV6_ADD_MEMBERSHIP, {v6}, {index}"),
        },
    }
}

/// A `struct ip_mreqn` (ip(7)): the group, no local address, the interface index.
fn mreqn(group: Ipv4Addr, index: u32) -> Vec<u8> {
    [group.octets(), [0; 4], index.to_ne_bytes()].concat()
}

/// `struct in_pktinfo` (ip(7)) or `struct in6_pktinfo` (RFC 3542, section 6), level and name.
fn packet_info(info: Info, family: Family) -> (i32, i32, Vec<u8>, String) {
    let shown = match info.source {
        Some(source) => format!("{{ index {}, source {source} }}", info.index),
        None => format!("{{ index {} }}", info.index),
    };
    if family == Family::V4 || info.as_v4 {
        let source = match info.source {
            Some(IpAddr::V4(v4)) => v4,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let value = [info.index.to_ne_bytes(), source.octets(), [0; 4]].concat();
        return (libc::IPPROTO_IP, libc::IP_PKTINFO, value, format!("IP_PKTINFO, {shown}"));
    }
    let source = match info.source {
        Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped(),
        Some(IpAddr::V6(v6)) => v6,
        None => Ipv6Addr::UNSPECIFIED,
    };
    let value = [source.octets().as_slice(), &info.index.to_ne_bytes()].concat();
    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, value, format!("IPV6_PKTINFO, {shown}"))
}
