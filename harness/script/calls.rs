//! The calls of a socket as Python writes them: pins and sendings.

use std::net::IpAddr;

use super::python_bytes;
use crate::plan::{Info, PinCall};
use crate::scenario::DontRoute;

/// The longest device name with its NUL, and the size of `struct ifreq` (netdevice(7)).
const NAME_BYTES: usize = 16;
const IFREQ_BYTES: usize = 40;

/// The shortest of Python's calls that says all of it.
pub(super) fn sending(
    socket: usize,
    payload: &str,
    control: &[String],
    flags: &str,
    to: Option<&str>,
) -> String {
    if control.is_empty() {
        let words: Vec<&str> =
            [payload, flags].into_iter().filter(|word| !word.is_empty()).chain(to).collect();
        let call = if to.is_some() { "sendto" } else { "send" };
        return format!("s{socket}.{call}({})", words.join(", "));
    }
    let control: Vec<String> = control.iter().map(|message| format!("({message})")).collect();
    let flags = if flags.is_empty() { "0" } else { flags };
    let to = to.map_or_else(String::new, |to| format!(", {to}"));
    format!("s{socket}.sendmsg([{payload}], [{}], {flags}{to})", control.join(", "))
}

/// The arguments of setsockopt(2), where a pin is one.
pub(super) fn option(call: &PinCall, v6: bool) -> Option<String> {
    // An AF_INET6 socket is pinned by IPv6's options, also where its packets are IPv4's.
    let ip = |name: &str, value: String| {
        let word = if v6 { "IPV6" } else { "IP" };
        Some(format!("IPPROTO_{word}, {word}_{name}, {value}"))
    };
    let socket = |name: &str, value: String| Some(format!("SOL_SOCKET, {name}, {value}"));
    let switch = |on: bool| u8::from(on).to_string();
    match call {
        PinCall::Device(name) => socket("SO_BINDTODEVICE", python_bytes(name.as_bytes())),
        PinCall::Ifreq(name) => {
            let name = &name.as_bytes()[..name.len().min(NAME_BYTES - 1)];
            let value = format!("{}.ljust({IFREQ_BYTES}, b\"\\0\")", python_bytes(name));
            socket("SO_BINDTODEVICE", value)
        }
        PinCall::Index(index) => socket("SO_BINDTOIFINDEX", index.to_string()),
        PinCall::UnicastIf(index) => ip("UNICAST_IF", format!("struct.pack(\"!I\", {index})")),
        PinCall::MulticastIf(index) if v6 => ip("MULTICAST_IF", index.to_string()),
        PinCall::MulticastIf(index) => ip("MULTICAST_IF", format!("struct.pack(\"8xi\", {index})")),
        PinCall::StickyPacketInfo(info) => Some(packet_info(*info, v6)),
        PinCall::Mark(mark) => socket("SO_MARK", format!("struct.pack(\"I\", {mark})")),
        PinCall::DontRoute(DontRoute::Option) => socket("SO_DONTROUTE", switch(true)),
        PinCall::Freebind(on) => ip("FREEBIND", switch(*on)),
        PinCall::Transparent(on) => ip("TRANSPARENT", switch(*on)),
        PinCall::MulticastAll(on) => ip("MULTICAST_ALL", switch(*on)),
        PinCall::Broadcast(on) => socket("SO_BROADCAST", switch(*on)),
        PinCall::ReusePort(on) => socket("SO_REUSEPORT", switch(*on)),
        PinCall::Address(_)
        | PinCall::BindLink(_)
        | PinCall::PacketInfo(_)
        | PinCall::PacketMark(_)
        | PinCall::Scope(_)
        | PinCall::ScopedAddress(..)
        | PinCall::Hops(_)
        | PinCall::DontRoute(DontRoute::Flag) => None,
    }
}

pub(super) fn hop_options(socket: usize, hops: u8, v6: bool) -> Vec<String> {
    let (level, names) = if v6 {
        ("IPPROTO_IPV6", ["IPV6_UNICAST_HOPS", "IPV6_MULTICAST_HOPS"])
    } else {
        ("IPPROTO_IP", ["IP_TTL", "IP_MULTICAST_TTL"])
    };
    names.map(|name| format!("s{socket}.setsockopt({level}, {name}, {hops})")).to_vec()
}

/// `struct in_pktinfo` (ip(7)) or `struct in6_pktinfo` (RFC 3542, section 6).
pub(super) fn packet_info(info: Info, v6_socket: bool) -> String {
    let index = info.index;
    if !v6_socket || info.as_v4 {
        let source = info.source.filter(IpAddr::is_ipv4);
        let source = source.map_or_else(|| "0.0.0.0".to_owned(), |source| source.to_string());
        return format!(
            "IPPROTO_IP, IP_PKTINFO, struct.pack(\"=i4s4x\", {index}, address(\"{source}\"))"
        );
    }
    let source = match info.source {
        Some(IpAddr::V4(v4)) => format!("::ffff:{v4}"),
        Some(IpAddr::V6(v6)) => v6.to_string(),
        None => "::".to_owned(),
    };
    format!("IPPROTO_IPV6, IPV6_PKTINFO, struct.pack(\"=16si\", address(\"{source}\"), {index})")
}

/// The call that joins a group, with a `struct ip_mreqn` (ip(7)) or `struct ipv6_mreq`.
pub(super) fn join(socket: usize, group: IpAddr, index: u32) -> String {
    let (words, layout) = match group {
        IpAddr::V4(_) => ("IPPROTO_IP, IP_ADD_MEMBERSHIP", "=4s4xi"),
        IpAddr::V6(_) => ("IPPROTO_IPV6, IPV6_JOIN_GROUP", "=16si"),
    };
    format!(
        "s{socket}.setsockopt({words}, struct.pack(\"{layout}\", address(\"{group}\"), {index}))"
    )
}
