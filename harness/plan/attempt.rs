//! A case's pins and steps, resolved: every shorthand of the language becomes a list of steps.

use std::net::IpAddr;

use toml::Spanned;

use super::address::resolve;
use super::cell::route;
use super::program::{Ask, LinkChange};
use super::{Link, Program, Route};
use crate::scenario::{
    Approach as FileApproach, Call, DontRoute, Family, FileCase, FileStep, FrameKind, Namespace,
    PacketInfo, Pin, Reindex, Rename, Signal, Transport,
};

/// The interface index that no device has.
pub const MISSING_INDEX: u32 = 99_999;

/// One call that pins a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinCall {
    /// SO_BINDTODEVICE with this name.
    Device(String),
    /// SO_BINDTODEVICE with a whole `struct ifreq` of this name.
    Ifreq(String),
    /// SO_BINDTOIFINDEX with this index.
    Index(u32),
    /// bind(2) to this address.
    Address(IpAddr),
    /// bind(2) to this link-local address of the device with this index.
    ScopedAddress(IpAddr, u32),
    /// bind(2) of a packet socket to the device with this index.
    BindLink(u32),
    /// IP_UNICAST_IF or IPV6_UNICAST_IF with this index.
    UnicastIf(u32),
    /// IP_MULTICAST_IF or IPV6_MULTICAST_IF with this index.
    MulticastIf(u32),
    /// A control message with every packet from here on.
    PacketInfo(Info),
    /// IPV6_PKTINFO as an option.
    StickyPacketInfo(Info),
    /// The interface index in the destinations from here on.
    Scope(u32),
    /// SO_MARK.
    Mark(u32),
    /// SO_MARK as a control message with every packet from here on.
    PacketMark(u32),
    /// SO_DONTROUTE or, with every packet from here on, MSG_DONTROUTE.
    DontRoute(DontRoute),
    /// IP_FREEBIND or IPV6_FREEBIND.
    Freebind(bool),
    /// IP_TRANSPARENT or IPV6_TRANSPARENT.
    Transparent(bool),
    /// The hops that a packet may take: the options of unicast and of multicast.
    Hops(u8),
    /// SO_BROADCAST.
    Broadcast(bool),
    /// SO_REUSEPORT.
    ReusePort(bool),
    /// IP_MULTICAST_ALL or IPV6_MULTICAST_ALL.
    MulticastAll(bool),
}

/// What an IP_PKTINFO or IPV6_PKTINFO says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// IP_PKTINFO on an AF_INET6 socket.
    pub as_v4: bool,
    /// The interface index; 0 for none.
    pub index: u32,
    /// The source address.
    pub source: Option<IpAddr>,
}

/// One step of an attempt. Sockets are named by their places in the order of opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// socket(2).
    Open {
        /// The socket.
        socket: usize,
        /// Its transport.
        transport: Transport,
    },
    /// A call that pins it.
    Pin {
        /// The socket.
        socket: usize,
        /// The call.
        call: PinCall,
    },
    /// bind(2) to the port where it is not bound, and for byte streams listen(2).
    Listen {
        /// The socket.
        socket: usize,
    },
    /// accept(2).
    Accept {
        /// The listener; from here on the connection.
        socket: usize,
    },
    /// connect(2).
    Connect {
        /// The socket.
        socket: usize,
        /// Where to.
        to: IpAddr,
    },
    /// sendto(2), or send(2) without a destination.
    Send {
        /// The socket.
        socket: usize,
        /// Where to.
        to: Option<IpAddr>,
    },
    /// Takes what has arrived.
    Receive {
        /// The socket.
        socket: usize,
    },
    /// Takes what has arrived, and answers it.
    Answer {
        /// The socket.
        socket: usize,
    },
    /// Ends a connection in order.
    Close {
        /// The socket.
        socket: usize,
    },
    /// Closes the listener that a connection came from.
    CloseListener {
        /// The socket.
        socket: usize,
    },
    /// Joins a multicast group.
    Join {
        /// The socket.
        socket: usize,
        /// The group.
        group: IpAddr,
        /// The interface index; 0 leaves the choice to the kernel.
        index: u32,
    },
    /// A gateway's frames.
    Inject(Approach),
    /// sendto(2) with MSG_MORE.
    Cork {
        /// The socket.
        socket: usize,
        /// Where to.
        to: IpAddr,
    },
    /// connect(2) to AF_UNSPEC.
    Disconnect {
        /// The socket.
        socket: usize,
    },
    /// Sends the socket over a UNIX socket, and receives it.
    Pass {
        /// The socket.
        socket: usize,
    },
    /// The calls from here on are made without privileges.
    DropPrivileges,
    /// Whether the calls from here on are made in another namespace.
    Enter(Namespace),
    /// The step before must be refused with this error.
    Refused(String),
    /// Gives the device of this link this name.
    Rename(usize, String),
    /// Gives the device of the first link the index of the second.
    Reindex(usize, usize),
    /// Adds a route to the host under test.
    Route(Route),
    /// Waits for a frame on this link.
    Await(usize),
    /// Deletes a route of the host under test.
    Unroute(Route),
    /// Changes a link of the host under test.
    Set(LinkChange),
    /// Starts a program.
    Start(Box<Program>),
    /// Waits until it is ready, or until its first frame has left.
    UnderWay,
    /// Sends it a signal.
    Signal(Signal),
    /// A gateway opens an exchange with it.
    Ask(Ask),
    /// Watches it for so many milliseconds, or until it ends.
    Watch(u16),
    /// Stops it, unless it has ended.
    Stop,
    /// Waits for its end; one that goes on running is asked, and stopped.
    End,
}

impl PinCall {
    /// Whether it holds a socket to a link or an address. The others only allow or choose
    /// something.
    pub fn holds(&self) -> bool {
        !matches!(
            self,
            PinCall::Freebind(_)
                | PinCall::Transparent(_)
                | PinCall::Hops(_)
                | PinCall::Broadcast(_)
                | PinCall::ReusePort(_)
        )
    }
}

/// The steps without what holds the sockets, and without other sockets that listen, of which any
/// may be reached. What becomes of them tells whether a pin has to do with it that a socket is not
/// reached. None where nothing is received, or nothing is held.
pub(super) fn twin(steps: &[Step]) -> Option<Vec<Step>> {
    let held = |step: &Step| matches!(step, Step::Pin { call, .. } if call.holds());
    let rival = |of: usize| {
        of != 0 && steps.iter().any(|step| matches!(step, Step::Listen { socket } if *socket == of))
    };
    let receives = steps.iter().any(|step| matches!(step, Step::Receive { .. }));
    let others = steps.iter().any(|step| step.socket().is_some_and(rival));
    let twin = receives && (steps.iter().any(held) || others);
    let kept = |step: &&Step| !held(step) && !step.socket().is_some_and(rival);
    twin.then(|| renumbered(steps.iter().filter(kept).cloned().collect()))
}

/// Sockets are named by the order of their opening, which a twin may have changed.
fn renumbered(mut steps: Vec<Step>) -> Vec<Step> {
    let mut opened: Vec<usize> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Open { socket, .. } => Some(*socket),
            _ => None,
        })
        .collect();
    opened.dedup();
    for step in &mut steps {
        if let Some(socket) = step.socket_mut()
            && let Some(at) = opened.iter().position(|of| of == socket)
        {
            *socket = at;
        }
    }
    steps
}

impl Step {
    /// The socket that the step is about.
    pub fn socket(&self) -> Option<usize> {
        self.clone().socket_mut().copied()
    }

    fn socket_mut(&mut self) -> Option<&mut usize> {
        match self {
            Step::Open { socket, .. }
            | Step::Pin { socket, .. }
            | Step::Listen { socket }
            | Step::Accept { socket }
            | Step::Connect { socket, .. }
            | Step::Send { socket, .. }
            | Step::Receive { socket }
            | Step::Answer { socket }
            | Step::Close { socket }
            | Step::CloseListener { socket }
            | Step::Cork { socket, .. }
            | Step::Disconnect { socket }
            | Step::Pass { socket }
            | Step::Join { socket, .. } => Some(socket),
            Step::Inject(_)
            | Step::DropPrivileges
            | Step::Enter(_)
            | Step::Refused(_)
            | Step::Rename(..)
            | Step::Reindex(..)
            | Step::Route(_)
            | Step::Await(_)
            | Step::Unroute(_)
            | Step::Set(_)
            | Step::Start(_)
            | Step::UnderWay
            | Step::Signal(_)
            | Step::Ask(_)
            | Step::Watch(_)
            | Step::Stop
            | Step::End => None,
        }
    }
}

/// How a gateway approaches the host under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approach {
    /// The link by which it arrives (an index into `links`).
    pub by: usize,
    /// The address that it is sent to.
    pub to: IpAddr,
    /// The address that it comes from.
    pub from: IpAddr,
    /// What it is.
    pub frame: FrameKind,
    /// How many, each from a port of its own.
    pub flows: u16,
}

/// What names are resolved against.
pub(super) struct Names<'a> {
    pub(super) links: &'a [Link],
    pub(super) family: Family,
    pub(super) transport: Transport,
    pub(super) target: IpAddr,
}

impl Names<'_> {
    // The checks made sure that every name is a link's, and that the family has every address.
    pub(super) fn address(&self, text: &Spanned<String>) -> IpAddr {
        resolve(text.get_ref(), self.links, self.family).unwrap_or(self.target)
    }

    pub(super) fn link(&self, name: &Spanned<String>) -> usize {
        self.links.iter().position(|link| &link.name == name.get_ref()).unwrap_or_default()
    }

    fn index(&self, name: &Spanned<String>) -> u32 {
        if name.get_ref() == "{missing}" {
            MISSING_INDEX
        } else {
            self.links[self.link(name)].index
        }
    }

    pub(super) fn approach(&self, approach: &FileApproach) -> Approach {
        Approach {
            by: self.link(&approach.by),
            to: self.address(&approach.to),
            from: approach.from.as_ref().map_or(self.target, |from| self.address(from)),
            frame: approach.frame,
            flows: approach.flows.as_ref().map_or(1, |flows| *flows.get_ref()),
        }
    }

    /// The steps of a case.
    pub(super) fn steps(&self, case: &FileCase) -> Vec<Step> {
        let open = Step::Open { socket: 0, transport: self.transport };
        let pins = self.pin(0, self.transport, &case.pin);
        let opened = || std::iter::once(open.clone()).chain(pins.iter().cloned());
        let listening = || opened().chain([Step::Listen { socket: 0 }]).collect::<Vec<_>>();
        if let Some(request) = &case.request {
            let inject = Step::Inject(self.approach(request.get_ref()));
            return [listening(), vec![inject, Step::Answer { socket: 0 }]].concat();
        }
        if let Some(inject) = &case.inject {
            let inject = Step::Inject(self.approach(inject.get_ref()));
            return [listening(), vec![inject, Step::Receive { socket: 0 }]].concat();
        }
        if let Some(provoke) = &case.provoke {
            let inject = vec![Step::Inject(self.approach(provoke.get_ref()))];
            return if pins.is_empty() { inject } else { [listening(), inject].concat() };
        }
        if !case.steps.is_empty() {
            return self.script(case, opened().collect());
        }
        let to = case.to.as_ref().map_or(self.target, |to| self.address(to));
        let flows = usize::from(case.flows.as_ref().map_or(1, |flows| *flows.get_ref()));
        (0..flows).flat_map(|socket| self.client(socket, &case.pin, to)).collect()
    }

    fn client(&self, socket: usize, pin: &Pin, to: IpAddr) -> Vec<Step> {
        let mut steps = vec![Step::Open { socket, transport: self.transport }];
        steps.extend(self.pin(socket, self.transport, pin));
        let connects =
            matches!(self.transport, Transport::UdpConnected | Transport::Tcp | Transport::Mptcp);
        if connects {
            steps.push(Step::Connect { socket, to });
        }
        steps.push(Step::Send { socket, to: (!connects).then_some(to) });
        steps
    }

    fn script(&self, case: &FileCase, mut steps: Vec<Step>) -> Vec<Step> {
        let mut sockets = vec![("", self.transport)];
        for step in &case.steps {
            let step = step.get_ref();
            let on = step.on.as_ref().map_or("", |on| on.get_ref());
            if let Some(transport) = step.open {
                sockets.push((on, transport));
                steps.push(Step::Open { socket: sockets.len() - 1, transport });
                continue;
            }
            let socket = sockets.iter().position(|(name, _)| *name == on).unwrap_or_default();
            steps.extend(self.step(socket, sockets[socket].1, step));
            steps.extend(step.refused.as_ref().map(|name| Step::Refused(name.get_ref().clone())));
        }
        steps
    }

    pub(super) fn step(&self, socket: usize, transport: Transport, step: &FileStep) -> Vec<Step> {
        let one = if let Some(pin) = &step.pin {
            return self.pin(socket, transport, pin);
        } else if let Some(to) = &step.connect {
            Step::Connect { socket, to: self.address(to) }
        } else if let Some(to) = &step.send {
            Step::Send { socket, to: Some(self.address(to)) }
        } else if let Some(to) = &step.cork {
            Step::Cork { socket, to: self.address(to) }
        } else if let Some(join) = &step.join {
            let index = join.by.as_ref().map_or(0, |by| self.index(by));
            Step::Join { socket, group: self.address(&join.group), index }
        } else if let Some(approach) = &step.inject {
            Step::Inject(self.approach(approach))
        } else if let Some(written) = &step.route {
            let route = route(written.get_ref(), self.links, self.family);
            return route.map(Step::Route).into_iter().collect();
        } else if let Some(written) = &step.unroute {
            let route = route(written.get_ref(), self.links, self.family);
            return route.map(Step::Unroute).into_iter().collect();
        } else if let Some(change) = &step.set {
            Step::Set(LinkChange { link: self.link(&change.link), to: change.to })
        } else if let Some(Rename { link, to }) = &step.rename {
            Step::Rename(self.link(link), to.get_ref().clone())
        } else if let Some(Reindex { link, like }) = &step.reindex {
            Step::Reindex(self.link(link), self.link(like))
        } else if let Some(space) = step.enter {
            Step::Enter(space)
        } else if let Some(link) = &step.await_frame {
            Step::Await(self.link(link))
        } else {
            match step.call {
                Some(Call::Listen) => Step::Listen { socket },
                Some(Call::Accept) => Step::Accept { socket },
                Some(Call::Send) => Step::Send { socket, to: None },
                Some(Call::Receive) => Step::Receive { socket },
                Some(Call::Answer) => Step::Answer { socket },
                Some(Call::Close) => Step::Close { socket },
                Some(Call::CloseListener) => Step::CloseListener { socket },
                Some(Call::Disconnect) => Step::Disconnect { socket },
                Some(Call::Pass) => Step::Pass { socket },
                Some(Call::DropPrivileges) => Step::DropPrivileges,
                None => return Vec::new(),
            }
        };
        vec![one]
    }

    /// A link-local address is bound to on its own link.
    fn bind(&self, name: &Spanned<String>) -> PinCall {
        let address = self.address(name);
        let local = self.links.iter().find(|link| IpAddr::V6(link.link_local) == address);
        match local {
            Some(link) => PinCall::ScopedAddress(address, link.index),
            None => PinCall::Address(address),
        }
    }

    fn info(&self, info: &PacketInfo) -> Info {
        Info {
            as_v4: info.as_v4,
            index: info.index.as_ref().map_or(0, |index| self.index(index)),
            source: info.source.as_ref().map(|source| self.address(source)),
        }
    }

    fn pin(&self, socket: usize, transport: Transport, pin: &Pin) -> Vec<Step> {
        let mut calls: Vec<(usize, PinCall)> = Vec::new();
        let mut add = |start: usize, call: PinCall| calls.push((start, call));
        let packet = transport.is_frames();
        macro_rules! pins {
            ($($key:ident => |$value:ident| $call:expr;)*) => {
                $(if let Some(spanned) = &pin.$key {
                    let start = spanned.span().start;
                    let $value = spanned;
                    add(start, $call);
                })*
            };
        }
        pins! {
            device => |name| PinCall::Device(name.get_ref().clone());
            device_name => |name| PinCall::Device(name.get_ref().clone());
            ifreq => |name| PinCall::Ifreq(name.get_ref().clone());
            index => |name| PinCall::Index(self.index(name));
            address => |name| if packet {
                PinCall::BindLink(self.index(name))
            } else {
                self.bind(name)
            };
            unicast_if => |name| PinCall::UnicastIf(self.index(name));
            multicast_if => |name| PinCall::MulticastIf(self.index(name));
            pktinfo => |info| PinCall::PacketInfo(self.info(info.get_ref()));
            sticky_pktinfo => |info| PinCall::StickyPacketInfo(self.info(info.get_ref()));
            scope => |name| PinCall::Scope(self.index(name));
            mark => |mark| PinCall::Mark(*mark.get_ref());
            packet_mark => |mark| PinCall::PacketMark(*mark.get_ref());
            dont_route => |how| PinCall::DontRoute(*how.get_ref());
            freebind => |on| PinCall::Freebind(*on.get_ref());
            transparent => |on| PinCall::Transparent(*on.get_ref());
            hops => |hops| PinCall::Hops(*hops.get_ref());
            broadcast => |on| PinCall::Broadcast(*on.get_ref());
            reuse_port => |on| PinCall::ReusePort(*on.get_ref());
            multicast_all => |on| PinCall::MulticastAll(*on.get_ref());
        }
        // In the order in which they are written, which is the order in which they are applied.
        calls.sort_by_key(|(start, _)| *start);
        calls.into_iter().map(|(_, call)| Step::Pin { socket, call }).collect()
    }
}
