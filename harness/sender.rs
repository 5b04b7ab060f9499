//! Makes an attempt with sockets of the calling thread's namespace, step by step, and tells what
//! the kernel answered to each call. It does not know which link is intended, or what was captured.

mod connection;
mod life;
mod options;
mod reception;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use etherparse::PacketBuilder;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockaddrStorage, accept4, bind, listen,
    recv, shutdown, sockopt,
};

use crate::plan::{Link, PinCall, RAW_PROTOCOL, Step};
use crate::program::Ran;
use crate::scenario::{DontRoute, Family, Transport};
use crate::sys::{self, Control, Xdp};

/// One call that an attempt made, and what the kernel answered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Call {
    /// The call, as a reader of its manual page knows it.
    pub call: String,
    /// The error that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Whether it is no call of a socket's, but something else that happened meanwhile.
    #[serde(default, skip_serializing_if = "is_false")]
    pub remark: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Call {
    /// Something that happened, which nobody has answered.
    pub fn remark(words: impl Into<String>) -> Call {
        Call { call: words.into(), errno: None, remark: true }
    }
}

/// What an attempt tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attempt {
    /// Its calls, in their order. It ends with the first that is refused.
    pub calls: Vec<Call>,
    /// Whether it got as far as handing a packet to the kernel, or was refused on the way.
    pub tried: bool,
    /// Whether something was not sent, since its connection had no answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unsent: bool,
    /// For a socket that waits to be reached: whether it was.
    pub received: Option<bool>,
    /// For a program: what it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Ran>,
    /// Why the rest of a program's story was not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

impl Attempt {
    /// The error that ended the attempt.
    pub fn errno(&self) -> Option<&str> {
        self.calls.last()?.errno.as_deref()
    }

    /// The call that was given the error that ended the attempt.
    pub fn refused_call(&self) -> Option<&str> {
        self.calls.last().filter(|call| call.errno.is_some()).map(|call| call.call.as_str())
    }
}

/// What an attempt's sockets are told.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// The address family.
    pub family: Family,
    /// The port that is sent to, or listened on.
    pub port: u16,
    /// What is sent.
    pub payload: &'a [u8],
    /// What a received payload must contain.
    pub expected: &'a [u8],
    /// Who a received packet or connection must come from; empty: anybody.
    pub peers: &'a [IpAddr],
    /// Whether sending on a connection that has no answer yet is left out, as a client does that
    /// has nothing else to do. In a script it is a step that was not made.
    pub lenient: bool,
    /// The links, for whole frames: the first of them gives the source address.
    pub links: &'a [Link],
}

/// A socket, and what was told to it for the packets that it will send.
struct Socket {
    transport: Transport,
    fd: Option<OwnedFd>,
    /// In place of `fd` for AF_XDP.
    xdp: Option<Xdp>,
    /// The listener that the connection in `fd` came from.
    listener: Option<OwnedFd>,
    listens: bool,
    bound: bool,
    source: Option<IpAddr>,
    /// The interface index in destinations, or that a packet socket is bound to.
    scope: u32,
    control: Vec<Control>,
    flags: i32,
    connected: Option<SocketAddr>,
}

/// Makes an attempt's calls, and takes notes.
pub struct Sender<'a> {
    recipe: Recipe<'a>,
    sockets: Vec<Socket>,
    /// For each socket, whether it will listen: it is then bound to the port.
    listens: Vec<usize>,
    attempt: Attempt,
    /// Whether something had been tried before the last call.
    tried_before: bool,
    /// Whether calls are made without privileges.
    unprivileged: bool,
    /// The socket whose connection has no answer yet.
    under_way: Option<usize>,
}

impl<'a> Sender<'a> {
    /// Prepares for these steps. Nothing is called yet.
    pub fn new(recipe: Recipe<'a>, steps: &[Step]) -> Sender<'a> {
        let listens = steps.iter().filter_map(|step| match step {
            Step::Listen { socket } => Some(*socket),
            _ => None,
        });
        let listens = listens.collect();
        Sender {
            recipe,
            sockets: Vec::new(),
            listens,
            attempt: Attempt::default(),
            tried_before: false,
            unprivileged: false,
            under_way: None,
        }
    }

    /// Makes a step's calls. `false` says that one was refused, which ends the attempt. A step
    /// that is no socket's is not made.
    pub fn step(&mut self, step: &Step) -> bool {
        if !self.unprivileged {
            return self.make(step);
        }
        match sys::Privileges::dropped() {
            Ok(_dropped) => self.make(step),
            Err(error) => self.note("capset()".to_owned(), Err::<(), _>(errno_of(error))).is_some(),
        }
    }

    fn make(&mut self, step: &Step) -> bool {
        let made = match step {
            Step::Open { transport, .. } => self.open(*transport),
            Step::Pin { socket, call } => self.pin(*socket, call),
            Step::Listen { socket } => self.listen(*socket),
            Step::Accept { socket } => self.accept(*socket),
            Step::Connect { socket, to } => self.connect(*socket, *to),
            Step::Send { socket, to } => self.send(*socket, *to),
            Step::Receive { socket } => self.serve(*socket, false),
            Step::Answer { socket } => self.serve(*socket, true),
            Step::Close { socket } => self.close(*socket),
            Step::CloseListener { socket } => self.close_listener(*socket),
            Step::Join { socket, group, index } => self.join(*socket, *group, *index),
            Step::Cork { socket, to } => self.cork(*socket, *to),
            Step::Disconnect { socket } => self.disconnect(*socket),
            Step::Pass { socket } => self.pass(*socket),
            Step::DropPrivileges => self.drop_privileges(),
            // What is no socket's is made by the trial.
            _ => Some(()),
        };
        made.is_some()
    }

    /// Notes what happened outside of the sender's own calls.
    pub fn remark(&mut self, words: String) {
        self.attempt.calls.push(Call::remark(words));
    }

    /// Notes that a packet was handed to the host under test, which may answer it.
    pub fn approached(&mut self) {
        self.attempt.tried = true;
    }

    /// Whether the kernel has refused the last call.
    pub fn refused(&self) -> bool {
        self.attempt.errno().is_some()
    }

    /// The error that the last call was given.
    pub fn errno(&self) -> Option<&str> {
        self.attempt.errno()
    }

    /// The last call, or what was remarked after it.
    pub fn last(&self) -> &str {
        self.attempt.calls.last().map_or("nothing", |call| &call.call)
    }

    /// The refusal of the last call is a part of the script: what has been tried is for the rest of it
    /// to show.
    pub fn forgive(&mut self) {
        self.attempt.tried = self.tried_before;
    }

    /// Closes at once: a connection is reset, so that nothing is sent later.
    pub fn finish(self) -> Attempt {
        for socket in self.sockets {
            let fds = socket.fd.into_iter().chain(socket.listener);
            for fd in fds {
                abort(&fd, socket.transport);
                sys::close(fd);
            }
        }
        self.attempt
    }

    /// Notes a call and its answer. `None` ends the attempt.
    fn note<T>(&mut self, call: String, answer: Result<T, Errno>) -> Option<T> {
        let (value, errno) = match answer {
            Ok(value) => (Some(value), None),
            Err(errno) => (None, Some(crate::errno::name(errno as i32))),
        };
        self.tried_before = self.attempt.tried;
        // A refused call is a proof that the attempt was made: the kernel has answered it.
        self.attempt.tried |= errno.is_some();
        self.attempt.calls.push(Call { call, errno, remark: false });
        value
    }

    fn fd(&self, socket: usize) -> Result<&OwnedFd, Errno> {
        let socket = self.sockets.get(socket).ok_or(Errno::EBADF)?;
        socket.fd.as_ref().or(socket.xdp.as_ref().map(Xdp::fd)).ok_or(Errno::EBADF)
    }

    fn open(&mut self, transport: Transport) -> Option<()> {
        let (domain, kind, protocol, words) = kind(transport, self.recipe.family);
        let (mut fd, mut xdp) = (None, None);
        let words = format!("socket({words})");
        if transport == Transport::Xdp {
            xdp = Some(self.note(words, Xdp::open().map_err(errno_of))?);
        } else {
            let made = sys::socket(domain, kind, protocol).map_err(errno_of);
            fd = Some(self.note(words, made)?);
        }
        let listens = self.listens.contains(&self.sockets.len());
        self.sockets.push(Socket {
            transport,
            fd,
            xdp,
            listener: None,
            listens,
            bound: false,
            source: None,
            scope: 0,
            control: Vec::new(),
            flags: 0,
            connected: None,
        });
        if transport == Transport::PacketBypass {
            let (level, name) = (libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS);
            let answer = self.set(self.sockets.len() - 1, level, name, &1i32.to_ne_bytes());
            self.note("setsockopt(PACKET_QDISC_BYPASS, 1)".to_owned(), answer)?;
        }
        Some(())
    }

    fn set(&self, socket: usize, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        sys::setsockopt(self.fd(socket)?.as_fd(), level, name, value).map_err(errno_of)
    }

    fn apply(&mut self, socket: usize, setting: options::Setting) -> Option<()> {
        let answer = self.set(socket, setting.level, setting.name, &setting.value);
        self.note(format!("setsockopt({})", setting.words), answer)
    }

    fn pin(&mut self, socket: usize, call: &PinCall) -> Option<()> {
        let family = self.recipe.family;
        if let Some(setting) = options::setting(call, family) {
            return self.apply(socket, setting);
        }
        if let Some((control, words)) = options::control(call, family) {
            self.sockets.get_mut(socket)?.control.push(control);
            self.remark(format!("control message with every packet: {words}"));
            return Some(());
        }
        match call {
            PinCall::Address(address) => {
                self.sockets.get_mut(socket)?.source = Some(*address);
                self.bind(socket, *address, 0)
            }
            PinCall::ScopedAddress(address, index) => self.bind(socket, *address, *index),
            PinCall::Hops(hops) => options::hops(*hops, family)
                .into_iter()
                .try_for_each(|setting| self.apply(socket, setting)),
            PinCall::BindLink(index) => {
                let at = self.sockets.get_mut(socket)?;
                at.scope = *index;
                let (word, answer) = match (&at.xdp, &at.fd) {
                    (Some(xdp), _) => ("sxdp_ifindex", xdp.bind(*index)),
                    (None, Some(fd)) => ("sll_ifindex", sys::bind_packet(fd.as_fd(), *index)),
                    (None, None) => return None,
                };
                self.note(format!("bind({word} {index})"), answer.map_err(errno_of))
            }
            PinCall::Scope(index) => {
                self.sockets.get_mut(socket)?.scope = *index;
                Some(())
            }
            PinCall::DontRoute(DontRoute::Flag) => {
                self.sockets.get_mut(socket)?.flags |= libc::MSG_DONTROUTE;
                Some(())
            }
            _ => Some(()),
        }
    }

    fn bind(&mut self, socket: usize, address: IpAddr, scope: u32) -> Option<()> {
        let listens = self.sockets.get(socket).is_some_and(|socket| socket.listens);
        let port = if listens { self.recipe.port } else { 0 };
        let shown = SocketAddr::new(address, port);
        let to = self.sockaddr(scope, address, port);
        let answer = self.fd(socket).and_then(|fd| bind(fd.as_raw_fd(), &to));
        self.sockets.get_mut(socket)?.bound = true;
        self.note(format!("bind({shown})"), answer)
    }

    /// A destination as the socket's family has it.
    fn sockaddr(&self, scope: u32, address: IpAddr, port: u16) -> SockaddrStorage {
        let v6 = match (address, self.recipe.family) {
            (IpAddr::V4(_), Family::V4) => {
                return SockaddrStorage::from(SocketAddr::new(address, port));
            }
            (IpAddr::V4(v4), _) => v4.to_ipv6_mapped(),
            (IpAddr::V6(v6), _) => v6,
        };
        SockaddrStorage::from(SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope)))
    }

    /// The port in a destination: raw and ping sockets have none.
    fn port(&self, transport: Transport) -> u16 {
        match transport {
            Transport::Raw | Transport::RawHeader | Transport::Ping => 0,
            _ => self.recipe.port,
        }
    }

    fn listen(&mut self, socket: usize) -> Option<()> {
        if !self.sockets.get(socket)?.bound {
            let any = match self.recipe.family {
                Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::V6 | Family::Mapped => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            self.bind(socket, any, 0)?;
        }
        if !self.sockets.get(socket)?.transport.is_stream() {
            return Some(());
        }
        let answer = self
            .fd(socket)
            .and_then(|fd| Backlog::new(128).and_then(|backlog| listen(fd, backlog)));
        self.note("listen()".to_owned(), answer)
    }

    fn accept(&mut self, socket: usize) -> Option<()> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let answer = self.fd(socket).and_then(|fd| accept4(fd.as_raw_fd(), flags));
        let accepted = sys::own(self.note("accept()".to_owned(), answer)?);
        let socket = self.sockets.get_mut(socket)?;
        socket.listener = socket.fd.replace(accepted);
        Some(())
    }

    fn send(&mut self, socket: usize, to: Option<IpAddr>) -> Option<()> {
        let at = self.sockets.get(socket)?;
        let transport = at.transport;
        if transport.is_frames() {
            return self.send_frame(socket, to?);
        }
        let unanswered = || self.answered(socket, Duration::ZERO) == Ok(false);
        let stalled = transport.is_stream() && to.is_none() && unanswered();
        if stalled {
            self.attempt.unsent = true;
            self.remark("send(): not made, since the connection has no answer".to_owned());
            return self.recipe.lenient.then_some(());
        }
        let at = self.sockets.get(socket)?;
        let mut flags = at.flags | libc::MSG_NOSIGNAL;
        if transport == Transport::TcpFastopen && to.is_some() {
            flags |= libc::MSG_FASTOPEN;
        }
        let shown = to.map(|to| SocketAddr::new(to, self.port(transport)));
        let address = shown.map(|to| self.sockaddr(at.scope, to.ip(), to.port()));
        let payload = self.payload(at, to);
        let sent = self.fd(socket).and_then(|fd| {
            sys::send_message(fd.as_fd(), address.as_ref(), &payload, &at.control, flags)
                .map_err(errno_of)
        });
        // Fast open without a cookie sends the SYN, and says so.
        let sent = if sent == Err(Errno::EINPROGRESS) { Ok(0) } else { sent };
        let scope = if at.scope == 0 { String::new() } else { format!(" scope {}", at.scope) };
        let words = match shown {
            Some(to) => format!("sendto({to}{scope})"),
            None => "send()".to_owned(),
        };
        self.note(words, sent)?;
        self.attempt.tried = true;
        Some(())
    }

    /// What is sent: the payload, behind the header that the transport leaves to its user.
    fn payload(&self, socket: &Socket, to: Option<IpAddr>) -> Vec<u8> {
        let payload = self.recipe.payload;
        match (socket.transport, to.or(socket.connected.map(|to| to.ip()))) {
            (Transport::Ping, to) => {
                // An echo request; the kernel fills in identifier and checksum (icmp(7)).
                let kind = if to.is_some_and(|to| to.is_ipv4()) { 8 } else { 128 };
                [&[kind, 0, 0, 0, 0, 0, 0, 1], payload].concat()
            }
            (Transport::RawHeader, Some(IpAddr::V4(to))) => {
                // Without a source the kernel fills it in (raw(7)), as it does length and checksum.
                let source = match socket.source {
                    Some(IpAddr::V4(source)) => source,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, RAW_PROTOCOL, 0, 0];
                header.extend(source.octets());
                header.extend(to.octets());
                [header.as_slice(), payload].concat()
            }
            _ => payload.to_vec(),
        }
    }

    /// Sends a whole frame: a datagram from the first link's address, out of the link that the
    /// destination's index names, or else the one that the socket is bound to.
    fn send_frame(&mut self, socket: usize, to: IpAddr) -> Option<()> {
        let index = self.sockets.get(socket)?.scope;
        let links = self.recipe.links;
        let by = links.iter().find(|link| link.index == index).or(links.first())?;
        let source = links.first()?.address;
        let ethernet = PacketBuilder::ethernet2(by.near_mac, by.far_mac);
        let step = match (source, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            _ => return None,
        };
        let builder = step.udp(40_000, self.recipe.port);
        let mut frame = Vec::with_capacity(builder.size(self.recipe.payload.len()));
        builder.write(&mut frame, self.recipe.payload).ok()?;
        let kind = if to.is_ipv4() { 0x0800 } else { 0x86dd };
        let at = self.sockets.get(socket)?;
        let (words, sent) = match (&at.xdp, &at.fd) {
            (Some(xdp), _) => ("sendto(), of what is in the ring".to_owned(), xdp.send(&frame)),
            (None, Some(fd)) => {
                let sent = sys::send_frame(fd.as_fd(), index, kind, &frame);
                (format!("sendto(sll_ifindex {index})"), sent)
            }
            (None, None) => return None,
        };
        self.note(words, sent.map_err(errno_of))?;
        self.attempt.tried = true;
        Some(())
    }

    fn join(&mut self, socket: usize, group: IpAddr, index: u32) -> Option<()> {
        self.apply(socket, options::membership(group, index))?;
        self.attempt.tried = true;
        Some(())
    }

    fn close(&mut self, socket: usize) -> Option<()> {
        let at = self.sockets.get_mut(socket)?;
        if let Some(fd) = at.fd.take() {
            // Where threads cannot leave descriptors, a copy in a program that is being started must
            // not put off the end. With data unread it is close(2) itself that resets the connection.
            let unread = || recv(fd.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_PEEK);
            if at.transport.is_stream() && !matches!(unread(), Ok(1..)) {
                // Where it is refused there is no connection, and nothing to end.
                let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
            }
            sys::close(fd);
        }
        self.remark("close()".to_owned());
        Some(())
    }

    fn close_listener(&mut self, socket: usize) -> Option<()> {
        if let Some(listener) = self.sockets.get_mut(socket)?.listener.take() {
            drop(sys::disconnect(listener.as_fd()));
            sys::close(listener);
        }
        self.remark("close(), of the listener".to_owned());
        Some(())
    }
}

/// The domain, the type and the protocol of a transport's socket, and the three in words.
fn kind(transport: Transport, family: Family) -> (i32, i32, i32, String) {
    let v4 = family == Family::V4;
    let (domain, name) = if v4 { (libc::AF_INET, "AF_INET") } else { (libc::AF_INET6, "AF_INET6") };
    let of = |kind: i32, protocol: i32, words: &str| {
        (domain, kind, protocol, format!("{name}, {words}"))
    };
    let (datagram, stream, raw) = (libc::SOCK_DGRAM, libc::SOCK_STREAM, libc::SOCK_RAW);
    match transport {
        Transport::Udp | Transport::UdpConnected => of(datagram, 0, "SOCK_DGRAM"),
        Transport::Tcp | Transport::TcpFastopen => of(stream, 0, "SOCK_STREAM"),
        Transport::Mptcp => of(stream, libc::IPPROTO_MPTCP, "SOCK_STREAM, IPPROTO_MPTCP"),
        Transport::Raw => of(raw, i32::from(RAW_PROTOCOL), "SOCK_RAW, 253"),
        Transport::RawHeader => of(raw, libc::IPPROTO_RAW, "SOCK_RAW, IPPROTO_RAW"),
        Transport::Ping if v4 => of(datagram, libc::IPPROTO_ICMP, "SOCK_DGRAM, IPPROTO_ICMP"),
        Transport::Ping => of(datagram, libc::IPPROTO_ICMPV6, "SOCK_DGRAM, IPPROTO_ICMPV6"),
        Transport::Packet | Transport::PacketBypass => {
            (libc::AF_PACKET, raw, 0, "AF_PACKET, SOCK_RAW".to_owned())
        }
        Transport::Xdp => (libc::AF_XDP, raw, 0, "AF_XDP, SOCK_RAW".to_owned()),
    }
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn abort(fd: &OwnedFd, transport: Transport) {
    if transport.is_stream() {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // Where they are refused there is no connection, and nothing to reset.
        let _ = nix::sys::socket::setsockopt(fd, sockopt::Linger, &linger);
        let _ = sys::disconnect(fd.as_fd());
    }
}

/// A gateway's sockets at the target: they take what comes and say nothing of their own.
pub fn sink(stream: bool, multipath: bool, at: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    let protocol = if multipath { libc::IPPROTO_MPTCP } else { 0 };
    let fd = sys::socket(family as i32, kind, protocol).map_err(errno_of)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    if stream {
        listen(&fd, Backlog::new(64)?)?;
    }
    Ok(fd)
}
