//! What a case attempts: its pins, its approach or its steps.

use std::ops::Range;

use toml::Spanned;

use super::{Cells, Checker, span};
use crate::scenario::attempt::{Approach, Call, Case, Membership, PacketInfo, Pin, Step};
use crate::scenario::file::{Family, Transport};

/// How many bytes may be sent at once: the token has room, and one IPv4 packet too.
const SIZE_BYTES: std::ops::RangeInclusive<u16> = 64..=65_000;
/// How many flows an attempt may have.
const FLOWS: std::ops::RangeInclusive<u16> = 1..=256;
/// The groups that a socket may join.
const GROUPS: [&str; 2] = ["{group}", "{link-group}"];
/// Stands for an interface index that no device has.
const MISSING: &str = "{missing}";
/// The pins that a packet socket takes: it has no addresses, and no options of IP.
const PACKET_PINS: [&str; 7] =
    ["device", "device_name", "ifreq", "index", "address", "scope", "mark"];

/// The transports whose sockets hold datagrams back.
const CORKED: [Transport; 3] = [Transport::Udp, Transport::UdpConnected, Transport::Raw];

/// A socket of a script: its name, and the transports that it may have.
struct Socket<'a> {
    name: &'a str,
    transports: Vec<Transport>,
}

impl<'a> Checker<'a> {
    pub(super) fn attempt(&mut self, case: &'a Case, cells: &Cells) {
        self.raw_header(case.name.span(), &cells.transports, &cells.families);
        self.kind(case);
        if let Some(to) = &case.to {
            self.address(to, &cells.families);
        }
        self.within("size", case.size.as_ref(), SIZE_BYTES);
        self.within("flows", case.flows.as_ref(), FLOWS);
        for approach in [&case.request, &case.inject, &case.provoke].into_iter().flatten() {
            self.approach(approach.get_ref(), &cells.families);
        }
        self.pin(&case.pin, &cells.families, &cells.transports);
        self.steps(case, cells);
    }

    /// What opens the exchange is one thing, and takes the words of the others their effect.
    fn kind(&mut self, case: &Case) {
        let steps = case.steps.first().zip(case.steps.last());
        let kinds = [
            ("request", span(&case.request)),
            ("inject", span(&case.inject)),
            ("provoke", span(&case.provoke)),
            ("steps", steps.map(|(first, last)| first.span().start..last.span().end)),
        ];
        let mut kinds = kinds.into_iter().filter_map(|(key, span)| Some((key, span?)));
        let Some((kind, place)) = kinds.next() else { return };
        if let Some((other, _)) = kinds.next() {
            let message = format!("the case has both `{kind}` and `{other}`");
            let help = "`request` judges the socket's answers, `inject` the reception, `provoke` \
                        the kernel's answers; `steps` are a script of their own";
            self.fault(place, message, help);
        }
        let silent = ["inject", "provoke"].contains(&kind);
        let idle = [
            ("to", span(&case.to)),
            ("flows", span(&case.flows)),
            ("size", span(&case.size).filter(|_| silent)),
        ];
        for (key, span) in idle.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let help = match (key, kind) {
                ("size", _) => "it goes with what the socket itself sends",
                (_, "steps") => "say it in the steps: `send`, `connect`, `open`",
                ("to", _) => "it goes back to where the approach comes `from`",
                _ => "say it in the approach: `flows`",
            };
            self.fault(span, format!("`{key}` says nothing beside `{kind}`"), help);
        }
    }

    fn within(
        &mut self,
        key: &str,
        number: Option<&Spanned<u16>>,
        accepted: std::ops::RangeInclusive<u16>,
    ) {
        let Some(number) = number.filter(|n| !accepted.contains(n.get_ref())) else { return };
        let help = format!("accepted: {} to {}", accepted.start(), accepted.end());
        self.fault(number.span(), format!("`{key}` is {}", number.get_ref()), help);
    }

    fn raw_header(&mut self, span: Range<usize>, transports: &[Transport], families: &[Family]) {
        let other = families.iter().find(|family| **family != Family::V4);
        if let (true, Some(family)) = (transports.contains(&Transport::RawHeader), other) {
            let message = format!("`raw-header` does not exist in `{}` cells", family.word());
            let help = "packets with their own header are IPv4: narrow the matrix or `only`";
            self.fault(span, message, help);
        }
    }

    fn approach(&mut self, approach: &Approach, families: &[Family]) {
        self.link(&approach.by);
        self.address_or_link(&approach.to, families);
        if let Some(from) = &approach.from {
            self.address(from, families);
        }
        self.within("flows", approach.flows.as_ref(), FLOWS);
    }

    fn pin(&mut self, pin: &Pin, families: &[Family], transports: &[Transport]) {
        for link in [&pin.device, &pin.ifreq].into_iter().flatten() {
            self.link(link);
        }
        let indices = [&pin.index, &pin.unicast_if, &pin.multicast_if, &pin.scope];
        for link in indices.into_iter().flatten() {
            self.link_or(link, MISSING);
        }
        for info in [&pin.pktinfo, &pin.sticky_pktinfo].into_iter().flatten() {
            self.packet_info(info.get_ref(), families);
        }
        self.sockets_of_v6(pin, families);
        let v4 = families.iter().any(|family| *family != Family::V6);
        let frames = transports.iter().all(|transport| transport.is_frames());
        if let (Some(scope), true) = (&pin.scope, v4 && !frames) {
            let help = "IPv4 destinations have no scope: narrow the matrix or `only`";
            self.fault(scope.span(), "`scope` does not exist in IPv4 cells", help);
        }
        let packet = transports.iter().find(|transport| transport.is_frames());
        match (&pin.address, packet) {
            (None, _) => {}
            // bind(2) of a packet socket takes an interface index.
            (Some(link), Some(_)) => {
                self.link(link);
            }
            (Some(address), None) => self.address_or_link(address, families),
        }
        let Some(packet) = packet else { return };
        for (key, span) in pins(pin).into_iter().filter(|(key, _)| !PACKET_PINS.contains(key)) {
            let message = format!("`{key}` does not pin a `{}` socket", packet.word());
            let words = PACKET_PINS.map(|key| format!("`{key}`")).join(", ");
            self.fault(span, message, format!("accepted: {words}"));
        }
    }

    fn packet_info(&mut self, info: &PacketInfo, families: &[Family]) {
        if let Some(index) = &info.index {
            self.link_or(index, MISSING);
        }
        if let Some(source) = &info.source {
            self.address_or_link(source, families);
        }
    }

    /// Pins that an AF_INET6 socket alone has.
    fn sockets_of_v6(&mut self, pin: &Pin, families: &[Family]) {
        let as_v4 = |info: &&Spanned<PacketInfo>| info.get_ref().as_v4;
        if let Some(sticky) = pin.sticky_pktinfo.as_ref().filter(as_v4) {
            let help = "IPv4 has no such option of a socket: `pktinfo` takes `as_v4`";
            self.fault(sticky.span(), "`sticky_pktinfo` cannot be `as_v4`", help);
        }
        if !families.contains(&Family::V4) {
            return;
        }
        let keys = [
            ("sticky_pktinfo", pin.sticky_pktinfo.as_ref()),
            ("as_v4", pin.pktinfo.as_ref().filter(as_v4)),
        ];
        for (key, info) in keys.into_iter().filter_map(|(key, info)| Some((key, info?))) {
            let message = format!("`{key}` does not exist in `v4` cells");
            let help = "it is for AF_INET6 sockets, `v6` and `mapped`: narrow the matrix or `only`";
            self.fault(info.span(), message, help);
        }
    }

    fn steps(&mut self, case: &'a Case, cells: &Cells) {
        let mut sockets: Vec<Socket<'a>> = Vec::new();
        for (at, spanned) in case.steps.iter().enumerate() {
            let step = spanned.get_ref();
            let keys = keys(step);
            let &[key] = keys.as_slice() else {
                let list = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>();
                let message = match list.as_slice() {
                    [] => "the step does nothing".to_owned(),
                    list => format!("the step does several things: {}", list.join(", ")),
                };
                let help = "one of `open`, `pin`, `call`, `connect`, `send`, `join`, `inject`, \
                            `route`, `await`, `cork`, `set`, `unroute`, `rename`, `reindex`, `enter`, \
                            beside `on` and `refused`";
                self.fault(spanned.span(), message, help);
                continue;
            };
            self.life(case, at, key);
            if ["program", "signal", "ask", "watch"].contains(&key) {
                let help = "it goes with a `command`, or a `[sender]`";
                self.fault(spanned.span(), format!("`{key}` says nothing without a program"), help);
                continue;
            }
            if step.call == Some(Call::Receive) && at + 1 < case.steps.len() {
                let help = "it is what is judged: `answer` receives on the way";
                self.fault(spanned.span(), "`receive` is not the last step", help);
            }
            let transports = match (&step.open, &step.on) {
                (Some(transport), _) => {
                    self.open(spanned, *transport, cells, &mut sockets);
                    vec![*transport]
                }
                (None, Some(on)) => self.on(on, key, &sockets),
                (None, None) => cells.transports.clone(),
            };
            self.step(step, &cells.families, &transports);
        }
    }

    /// What the one key of a step says.
    fn step(&mut self, step: &Step, families: &[Family], transports: &[Transport]) {
        if let Some(pin) = &step.pin {
            self.pin(pin, families, transports);
        }
        for to in [&step.connect, &step.send, &step.cork].into_iter().flatten() {
            self.address(to, families);
        }
        if let Some(Membership { group, by }) = &step.join {
            if self.one_of(group, "there is no group", GROUPS) {
                self.address(group, families);
            }
            by.iter().for_each(|by| {
                self.link(by);
            });
        }
        if let Some(approach) = &step.inject {
            self.approach(approach, families);
        }
        for route in [&step.route, &step.unroute].into_iter().flatten() {
            self.route(route);
            // A step that some cells have not would be a step that is not made.
            self.prefix(&route.get_ref().to, families);
        }
        if let Some(link) = &step.await_frame {
            self.link(link);
        }
        if let (Some(cork), Some(other)) =
            (&step.cork, transports.iter().find(|transport| !CORKED.contains(transport)))
        {
            let message = format!("a `{}` socket holds no datagram back", other.word());
            let words = CORKED.map(|transport| format!("`{}`", transport.word())).join(", ");
            self.fault(cork.span(), message, format!("accepted: {words}"));
        }
    }

    fn open(
        &mut self,
        spanned: &'a Spanned<Step>,
        transport: Transport,
        cells: &Cells,
        sockets: &mut Vec<Socket<'a>>,
    ) {
        self.raw_header(spanned.span(), &[transport], &cells.families);
        let Some(on) = spanned.get_ref().on.as_ref().filter(|on| !on.get_ref().is_empty()) else {
            let help = "add `on` with a name: the socket under test is open before the first step";
            self.fault(spanned.span(), "the step opens a socket without a name", help);
            return;
        };
        if sockets.iter().any(|socket| socket.name == on.get_ref()) {
            let message = format!("socket `{}` is open already", on.get_ref());
            self.fault(on.span(), message, "each name once");
        }
        sockets.push(Socket { name: on.get_ref(), transports: vec![transport] });
    }

    /// The transports of the socket that a step names.
    fn on(&mut self, on: &Spanned<String>, key: &str, sockets: &[Socket<'a>]) -> Vec<Transport> {
        let others = ["inject", "route", "await", "set", "unroute", "rename", "reindex", "enter"];
        if others.contains(&key) {
            let help = "it goes with `open`, `pin`, `call`, `connect`, `send`, `cork`, `join`";
            self.fault(on.span(), format!("`on` says nothing beside `{key}`"), help);
        } else if let Some(socket) = sockets.iter().find(|socket| socket.name == on.get_ref()) {
            return socket.transports.clone();
        } else if sockets.is_empty() {
            let message = format!("there is no socket `{}`", on.get_ref());
            let help = "no step before has opened one; without `on` it is the socket under test";
            self.fault(on.span(), message, help);
        } else {
            let names: Vec<&str> = sockets.iter().map(|socket| socket.name).collect();
            self.one_of(on, "there is no socket", names);
        }
        Vec::new()
    }
}

/// The keys of a step, `on` aside.
pub(super) fn keys(step: &Step) -> Vec<&'static str> {
    let keys = [
        ("open", step.open.is_some()),
        ("pin", step.pin.is_some()),
        ("call", step.call.is_some()),
        ("connect", step.connect.is_some()),
        ("send", step.send.is_some()),
        ("join", step.join.is_some()),
        ("inject", step.inject.is_some()),
        ("route", step.route.is_some()),
        ("await", step.await_frame.is_some()),
        ("program", step.program.is_some()),
        ("cork", step.cork.is_some()),
        ("rename", step.rename.is_some()),
        ("reindex", step.reindex.is_some()),
        ("enter", step.enter.is_some()),
        ("set", step.set.is_some()),
        ("unroute", step.unroute.is_some()),
        ("ask", step.ask.is_some()),
        ("watch", step.watch.is_some()),
        ("signal", step.signal.is_some()),
    ];
    keys.into_iter().filter(|(_, stands)| *stands).map(|(key, _)| key).collect()
}

/// The keys of a pin, and where they stand.
pub(super) fn pins(pin: &Pin) -> Vec<(&'static str, Range<usize>)> {
    let keys = [
        ("device", span(&pin.device)),
        ("device_name", span(&pin.device_name)),
        ("ifreq", span(&pin.ifreq)),
        ("index", span(&pin.index)),
        ("address", span(&pin.address)),
        ("unicast_if", span(&pin.unicast_if)),
        ("multicast_if", span(&pin.multicast_if)),
        ("pktinfo", span(&pin.pktinfo)),
        ("sticky_pktinfo", span(&pin.sticky_pktinfo)),
        ("scope", span(&pin.scope)),
        ("mark", span(&pin.mark)),
        ("packet_mark", span(&pin.packet_mark)),
        ("dont_route", span(&pin.dont_route)),
        ("freebind", span(&pin.freebind)),
        ("transparent", span(&pin.transparent)),
        ("broadcast", span(&pin.broadcast)),
        ("reuse_port", span(&pin.reuse_port)),
        ("multicast_all", span(&pin.multicast_all)),
    ];
    keys.into_iter().filter_map(|(key, span)| Some((key, span?))).collect()
}
