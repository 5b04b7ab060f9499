//! A socket's pins in the words of the lookup table's rows.

use super::{Info, Link, PinCall, Step};
use crate::scenario::DontRoute;

/// The pins of the socket under test, in their order: `device`, `address + device of the decoy`.
pub(super) fn label(steps: &[Step], links: &[Link], intended: &[bool]) -> String {
    let words: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Pin { socket: 0, call } => Some(word(call, links, intended)),
            _ => None,
        })
        .collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" + ") }
}

fn word(call: &PinCall, links: &[Link], intended: &[bool]) -> String {
    // Whose link it is: nothing where it is intended, its own words where it is no link's.
    let whose = |found: &dyn Fn(&Link) -> bool, other: String| match links.iter().position(found) {
        Some(at) if intended[at] => String::new(),
        Some(_) => " of the decoy".to_owned(),
        None => format!(" {other}"),
    };
    let named = |name: &String| whose(&|link: &Link| link.name == *name, name.clone());
    let index = |index: u32| whose(&|link: &Link| link.index == index, "of no link".to_owned());
    let address = |address: &std::net::IpAddr| {
        let own = |link: &Link| link.address == *address || link.link_local == *address;
        whose(&own, address.to_string())
    };
    let info = |word: &str, info: &Info| {
        let level = if info.as_v4 { " as v4" } else { "" };
        let parts = [
            (info.index != 0).then(|| format!("index{}", index(info.index))),
            info.source.as_ref().map(|source| format!("source{}", address(source))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("{word}{level} ({})", parts.join(", "))
    };
    let switch = |word: &str, on: bool| if on { word.to_owned() } else { format!("no {word}") };
    match call {
        PinCall::Device(name) => format!("device{}", named(name)),
        PinCall::Ifreq(name) => format!("ifreq{}", named(name)),
        PinCall::Index(number) => format!("index{}", index(*number)),
        PinCall::Address(bound) | PinCall::ScopedAddress(bound, _) => {
            format!("address{}", address(bound))
        }
        PinCall::BindLink(number) => format!("address{}", index(*number)),
        PinCall::UnicastIf(number) => format!("unicast_if{}", index(*number)),
        PinCall::MulticastIf(number) => format!("multicast_if{}", index(*number)),
        PinCall::Scope(number) => format!("scope{}", index(*number)),
        PinCall::PacketInfo(packet) => info("pktinfo", packet),
        PinCall::StickyPacketInfo(packet) => info("sticky_pktinfo", packet),
        PinCall::Mark(mark) => format!("mark {mark}"),
        PinCall::PacketMark(mark) => format!("packet_mark {mark}"),
        PinCall::DontRoute(DontRoute::Option) => "SO_DONTROUTE".to_owned(),
        PinCall::DontRoute(DontRoute::Flag) => "MSG_DONTROUTE".to_owned(),
        PinCall::Hops(hops) => format!("hops {hops}"),
        PinCall::Freebind(on) => switch("freebind", *on),
        PinCall::Transparent(on) => switch("transparent", *on),
        PinCall::Broadcast(on) => switch("broadcast", *on),
        PinCall::ReusePort(on) => switch("reuse_port", *on),
        PinCall::MulticastAll(on) => switch("multicast_all", *on),
    }
}
