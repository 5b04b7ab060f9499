//! What the kernel of the host under test can still send by itself: by a timer, out of a queue, or
//! because a neighbour answers at last.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage, TcStats2};

use super::{Lab, family_of};
use crate::plan::Step;
use crate::scenario::Neighbours;

/// Something that can still be sent: by the link at this place, or by any; and what it is.
pub type Pending = (Option<usize>, String);

/// A multicast group, and the place of the link that it was joined on.
pub type Membership = (usize, IpAddr);

/// A TCP socket of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Its state, by the number that proc_net_tcp in the kernel's documentation has for it.
    pub state: u8,
    /// Its own port.
    pub port: u16,
    /// Whom it is connected to.
    pub peer: String,
    /// The timer that runs: 0 for none.
    pub timer: u8,
    /// Whether a process has it.
    pub held: bool,
}

impl TcpSocket {
    /// Whether it waits for connections.
    pub fn listens(&self) -> bool {
        self.state == 10
    }

    /// Whether it is a connection that can still send: all can that are not past their last
    /// acknowledgement. That none of the timers runs that are told proves nothing, since the timer
    /// of a delayed acknowledgement is not told (net/ipv4/tcp_ipv4.c, 6.18).
    pub fn moves(&self) -> bool {
        const TIME_WAIT: u8 = 6;
        const CLOSED: u8 = 7;
        !self.listens() && ![TIME_WAIT, CLOSED].contains(&self.state)
    }

    /// Whether it is a request for a connection whose listener is gone: when its timer comes it is
    /// dropped, and its SYN-ACK is not sent again (reqsk_timer_handler in
    /// net/ipv4/inet_connection_sock.c, 6.18).
    fn given_up(&self, sockets: &[TcpSocket]) -> bool {
        const SYN_RECV: u8 = 3;
        let listener = |other: &TcpSocket| other.listens() && other.port == self.port;
        self.state == SYN_RECV && !self.held && !sockets.iter().any(listener)
    }

    fn describe(&self) -> String {
        let states = [
            "ESTABLISHED",
            "SYN_SENT",
            "SYN_RECV",
            "FIN_WAIT1",
            "FIN_WAIT2",
            "TIME_WAIT",
            "CLOSE",
            "CLOSE_WAIT",
            "LAST_ACK",
            "LISTEN",
            "CLOSING",
            "SYN_RECV",
        ];
        let state = usize::from(self.state).checked_sub(1).and_then(|at| states.get(at));
        let timer = match self.timer {
            1 => ", which retransmits",
            2 => ", which is kept alive",
            4 => ", which probes a closed window",
            _ => "",
        };
        let state = state.copied().unwrap_or("an unknown state");
        format!("a connection to {} can still send: it is in {state}{timer}", self.peer)
    }
}

/// The TCP sockets of the calling thread's namespace.
pub fn tcp_sockets() -> Result<Vec<TcpSocket>> {
    let mut sockets = Vec::new();
    for file in ["tcp", "tcp6"] {
        let text = of_namespace(file)?;
        for line in text.lines().skip(1) {
            let socket = tcp_socket(line).with_context(|| format!("read a socket: {line}"))?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// A file of the calling thread's namespace. Without IPv6 there are none for it.
fn of_namespace(file: &str) -> Result<String> {
    match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
        Err(error) if error.kind() == ErrorKind::NotFound && file.ends_with('6') => {
            Ok(String::new())
        }
        text => text.with_context(|| format!("read /proc/thread-self/net/{file}")),
    }
}

fn tcp_socket(line: &str) -> Option<TcpSocket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = words.get(1)?.rsplit_once(':')?;
    let (peer, peer_port) = words.get(2)?.rsplit_once(':')?;
    let (timer, _) = words.get(5)?.split_once(':')?;
    Some(TcpSocket {
        state: u8::from_str_radix(words.get(3)?, 16).ok()?,
        port: u16::from_str_radix(port, 16).ok()?,
        peer: format!("{}, port {}", address(peer)?, u16::from_str_radix(peer_port, 16).ok()?),
        timer: u8::from_str_radix(timer, 16).ok()?,
        held: *words.get(9)? != "0",
    })
}

/// An address as words of four bytes in the machine's own order.
fn address(digits: &str) -> Option<IpAddr> {
    let words = digits.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|v4| IpAddr::V4(Ipv4Addr::from(v4)));
    let v6 = <[u8; 16]>::try_from(bytes.as_slice()).map(|v6| Ipv6Addr::from(v6).to_canonical());
    v4.or(v6).ok()
}

impl Lab {
    /// What the host under test can still send by itself. `strange` says that more than the steps
    /// of the case may have been done.
    pub fn pending(&self, strange: bool) -> Result<Vec<Pending>> {
        let mut pending = self.unresolved()?;
        let opens =
            |step: &Step| matches!(step, Step::Open { transport, .. } if transport.is_stream());
        if strange || self.altered() || self.case.steps.iter().any(opens) {
            let sockets = self.host.inside(tcp_sockets)??;
            let moving =
                sockets.iter().filter(|socket| socket.moves() && !socket.given_up(&sockets));
            pending.extend(moving.map(|socket| (None, socket.describe())));
        }
        if strange || self.altered() {
            pending.extend(self.queued()?);
        }
        Ok(pending)
    }

    /// The packets that wait for a neighbour of the host under test that has not answered yet, and
    /// the neighbours that it is about to ask whether they are still there (arp(7)).
    fn unresolved(&self) -> Result<Vec<Pending>> {
        if self.case.neighbours == Neighbours::Permanent && !self.altered() {
            return Ok(Vec::new());
        }
        let mut message = NeighbourMessage::default();
        message.header.family = family_of(self.case.target);
        let what = format!("list the neighbours of {}", self.host.name);
        let answers =
            self.host.netlink.list(&self.runtime, Message::GetNeighbour(message), &what)?;
        let unresolved = answers.into_iter().filter_map(|answer| {
            let Message::NewNeighbour(entry) = answer else { return None };
            let waits = match entry.header.state {
                NeighbourState::Incomplete => "a packet waits on",
                NeighbourState::Delay | NeighbourState::Probe => "a probe can still be sent by",
                _ => return None,
            };
            let at = self.place(entry.header.ifindex)?;
            let address = entry.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(v4.to_string()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    Some(v6.to_string())
                }
                _ => None,
            })?;
            let link = &self.case.links[at].name;
            Some((Some(at), format!("{waits} {link} for the neighbour {address}")))
        });
        Ok(unresolved.collect())
    }

    /// The queues of the host under test that packets wait in. A link has none (veth(4)), unless
    /// somebody gives it one.
    fn queued(&self) -> Result<Vec<Pending>> {
        let what = format!("list the queues of {}", self.host.name);
        let message = Message::GetQueueDiscipline(TcMessage::default());
        let queues = self.host.netlink.list(&self.runtime, message, &what)?;
        let waiting = queues.into_iter().filter_map(|queue| {
            let Message::NewQueueDiscipline(queue) = queue else { return None };
            let (mut kind, mut packets) = (String::new(), 0);
            for attribute in queue.attributes {
                match attribute {
                    TcAttribute::Kind(is) => kind = is,
                    TcAttribute::Stats2(stats) => {
                        packets += stats.iter().map(waiting).sum::<u32>();
                    }
                    _ => {}
                }
            }
            let at = u32::try_from(queue.header.index).ok().and_then(|index| self.place(index));
            let device = at.map(|at| self.case.links[at].name.clone());
            let device = device.unwrap_or_else(|| format!("device {}", queue.header.index));
            let words = format!("{packets} packets wait in the {kind} queue of {device}");
            (packets > 0).then_some((at, words))
        });
        Ok(waiting.collect())
    }

    /// The groups that the host under test is a member of and reports: not of those of all hosts,
    /// which are never reported, nor of those of a device that is no link.
    pub fn memberships(&self) -> Result<BTreeSet<Membership>> {
        let (v4, v6) = self.host.inside(|| (of_namespace("igmp"), of_namespace("igmp6")))?;
        let mut groups: BTreeSet<(u32, IpAddr)> = igmp(&v4?).into_iter().collect();
        groups.extend(v6?.lines().filter_map(igmp6));
        let on_links = groups.into_iter().filter_map(|(index, group)| {
            let link = self.place(index)?;
            Some((link, group))
        });
        Ok(on_links.collect())
    }

    /// The place of the link whose device has this index now.
    fn place(&self, index: u32) -> Option<usize> {
        self.devices.borrow().iter().position(|(_, now)| *now == index)
    }
}

fn waiting(stats: &TcStats2) -> u32 {
    match stats {
        TcStats2::Queue(queue) => queue.qlen,
        _ => 0,
    }
}

/// The groups in /proc/net/igmp: a line of each device, and behind it one of each group.
fn igmp(text: &str) -> Vec<(u32, IpAddr)> {
    let (mut index, mut groups) = (0, Vec::new());
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if !line.starts_with(char::is_whitespace) {
            index = first.parse().unwrap_or(0);
        } else if let Some(group) = address(first)
            && group != IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1))
        {
            groups.push((index, group));
        }
    }
    groups
}

/// The group in a line of /proc/net/igmp6, unless its flags say that it is not reported.
fn igmp6(line: &str) -> Option<(u32, IpAddr)> {
    const NOREPORT: u32 = 8;
    let words: Vec<&str> = line.split_whitespace().collect();
    let digits = u128::from_str_radix(words.get(2)?, 16).ok()?;
    let flags = u32::from_str_radix(words.get(4)?, 16).ok()?;
    let group = IpAddr::V6(Ipv6Addr::from(digits));
    (flags & NOREPORT == 0).then_some((words.first()?.parse().ok()?, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read() {
        let line = "   0: 110200C0:B1F4 097100CB:0007 02 00000001:00000000 01:00000063 00000001 \
                    00000000     0        0 5113 1";
        let socket = tcp_socket(line).unwrap();
        assert_eq!((socket.state, socket.port, socket.timer), (2, 0xb1f4, 1));
        let words = "a connection to 203.0.113.9, port 7 can still send: it is in SYN_SENT, which \
                     retransmits";
        assert_eq!(socket.describe(), words);
        assert!(socket.moves());
        assert!(!TcpSocket { state: 10, ..socket.clone() }.moves());
        assert!(!TcpSocket { state: 6, ..socket.clone() }.moves());
        let request = TcpSocket { state: 3, held: false, ..socket.clone() };
        let listener = TcpSocket { state: 10, ..socket };
        assert!(request.given_up(std::slice::from_ref(&request)));
        assert!(!request.given_up(&[request.clone(), listener]));
    }

    #[test]
    fn groups_are_read() {
        let text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
                    1\tlo        :     1      V3\n\
                    \t\t\t\t010000E0     1 0:00000000\t\t0\n\
                    7\tuplink    :     2      V3\n\
                    \t\t\t\t0100FCE9     1 0:00000000\t\t0\n\
                    \t\t\t\t010000E0     1 0:00000000\t\t0\n";
        assert_eq!(igmp(text), [(7, "233.252.0.1".parse().unwrap())]);
        let all = "7    uplink          ff020000000000000000000000000001     1 0000000C 0";
        assert_eq!(igmp6(all), None);
        let one = "7    uplink          ff3e00000000000000000000000000ab     1 00000004 0";
        assert_eq!(igmp6(one), Some((7, "ff3e::ab".parse().unwrap())));
    }
}
