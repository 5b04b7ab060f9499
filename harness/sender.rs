//! Makes one attempt with a pinned socket, in the calling thread's namespace, and tells what the
//! kernel answered to each call. It does not know which link is intended, or what was captured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, accept4, bind, connect,
    getsockopt, listen, recvfrom, send, sendto, socket, sockopt,
};

use crate::plan::PinCall;
use crate::scenario::{Family, Transport};
use crate::sys;

/// How long a TCP connection may take. The wires are synchronous: an answer that is not there at
/// once comes with a retransmission, after 1 s, or not at all.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

/// One call that an attempt made, and what the kernel answered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Call {
    /// The call, as a reader of its manual page knows it.
    pub call: String,
    /// The error that it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
}

/// What an attempt tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Attempt {
    /// Its calls, in their order. It ends with the first that is refused.
    pub calls: Vec<Call>,
    /// Whether it got as far as handing a packet to the kernel, or was refused on the way.
    pub tried: bool,
    /// For a socket that waits to be reached: whether it was.
    pub received: Option<bool>,
}

impl Attempt {
    /// The error that ended the attempt.
    pub fn errno(&self) -> Option<&str> {
        self.calls.last()?.errno.as_deref()
    }
}

/// How a socket is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// The address family.
    pub family: Family,
    /// The transport.
    pub transport: Transport,
    /// The calls that pin it.
    pub pin: &'a [PinCall],
}

/// A socket that the calls of a recipe have been applied to.
struct Pinned<'a> {
    recipe: Recipe<'a>,
    fd: Option<OwnedFd>,
    attempt: Attempt,
}

impl<'a> Pinned<'a> {
    fn new(recipe: Recipe<'a>) -> Pinned<'a> {
        Pinned { recipe, fd: None, attempt: Attempt::default() }
    }

    /// Notes a call and its answer. `None` ends the attempt.
    fn note<T>(&mut self, call: String, answer: Result<T, Errno>) -> Option<T> {
        let (value, errno) = match answer {
            Ok(value) => (Some(value), None),
            Err(errno) => (None, Some(crate::errno::name(errno as i32))),
        };
        // A refused call is a proof that the attempt was made: the kernel has answered it.
        self.attempt.tried |= errno.is_some();
        self.attempt.calls.push(Call { call, errno });
        value
    }

    /// Makes and pins the socket; listening sockets are bound to `port`, clients to any.
    fn make(&mut self, port: u16) -> Option<()> {
        let family = match self.recipe.family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let (kind, word) = match self.recipe.transport {
            Transport::Udp | Transport::UdpConnected => (SockType::Datagram, "SOCK_DGRAM"),
            Transport::Tcp => (SockType::Stream, "SOCK_STREAM"),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket(family, kind, flags, None);
        self.fd = Some(self.note(format!("socket({family:?}, {word})"), made)?);
        let mut bound = false;
        for call in self.recipe.pin {
            let (name, answer) = self.apply(call, port);
            self.note(name, answer)?;
            bound |= matches!(call, PinCall::Address(_));
        }
        if port != 0 && !bound {
            let any = SocketAddr::new(any(self.recipe.family), port);
            let answer = self.bind(any);
            self.note(format!("bind({any})"), answer)?;
        }
        Some(())
    }

    fn fd(&self) -> Result<&OwnedFd, Errno> {
        self.fd.as_ref().ok_or(Errno::EBADF)
    }

    fn apply(&self, call: &PinCall, port: u16) -> (String, Result<(), Errno>) {
        match call {
            PinCall::Device(name) => (
                format!("setsockopt(SO_BINDTODEVICE, {name:?})"),
                self.option(libc::SO_BINDTODEVICE, name.as_bytes()),
            ),
            PinCall::Ifreq(name) => {
                // `struct ifreq` (netdevice(7)): 16 bytes of name, then a union of 24.
                let mut request = [0; size_of::<libc::ifreq>()];
                let length = name.len().min(libc::IFNAMSIZ - 1);
                request[..length].copy_from_slice(&name.as_bytes()[..length]);
                let call = format!("setsockopt(SO_BINDTODEVICE, struct ifreq {{ {name:?} }})");
                (call, self.option(libc::SO_BINDTODEVICE, &request))
            }
            PinCall::Index(index) => (
                format!("setsockopt(SO_BINDTOIFINDEX, {index})"),
                self.option(libc::SO_BINDTOIFINDEX, &index.to_ne_bytes()),
            ),
            PinCall::Address(address) => {
                let address = SocketAddr::new(*address, port);
                (format!("bind({address})"), self.bind(address))
            }
        }
    }

    fn option(&self, name: i32, value: &[u8]) -> Result<(), Errno> {
        sys::setsockopt(self.fd()?.as_fd(), libc::SOL_SOCKET, name, value)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }

    fn bind(&self, address: SocketAddr) -> Result<(), Errno> {
        bind(self.fd()?.as_raw_fd(), &SockaddrStorage::from(address))
    }

    /// Notes that nothing has arrived; any other error than that leaves it open whether it has.
    fn unreached(&mut self, call: &str, errno: Errno) {
        if errno != Errno::EAGAIN {
            self.attempt.received = None;
            self.note::<()>(call.to_owned(), Err(errno));
        }
    }

    /// Closes at once: a TCP connection is reset, so that nothing is sent later.
    fn close(mut self) -> Attempt {
        if let Some(fd) = self.fd.take() {
            abort(fd, self.recipe.transport);
        }
        self.attempt
    }
}

fn abort(fd: OwnedFd, transport: Transport) {
    if transport == Transport::Tcp {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // Where it is refused there is no connection, and nothing to reset.
        let _ = nix::sys::socket::setsockopt(&fd, sockopt::Linger, &linger);
    }
}

fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Sends `payload` to `to` as a client. TCP: connects, sends, and resets the connection.
pub fn client(recipe: Recipe<'_>, to: SocketAddr, payload: &[u8]) -> Attempt {
    let mut socket = Pinned::new(recipe);
    // `None` says that a call was refused; the attempt has noted which.
    let _ = try_client(&mut socket, to, payload);
    socket.close()
}

fn try_client(socket: &mut Pinned<'_>, to: SocketAddr, payload: &[u8]) -> Option<()> {
    socket.make(0)?;
    let fd = socket.fd().ok()?.as_raw_fd();
    let address = SockaddrStorage::from(to);
    if socket.recipe.transport == Transport::Udp {
        let sent = sendto(fd, payload, &address, MsgFlags::empty());
        socket.note(format!("sendto({to})"), sent)?;
    } else {
        let connected = match connect(fd, &address) {
            Err(Errno::EINPROGRESS) => {
                socket.attempt.tried = true;
                answer(socket.fd().ok()?)
            }
            other => other.map(|()| true),
        };
        if !socket.note(format!("connect({to})"), connected)? {
            let call = format!("poll: no answer within {CONNECT_WITHIN:?}");
            return socket.note(call, Ok(()));
        }
        let sent = send(fd, payload, MsgFlags::MSG_NOSIGNAL);
        socket.note("send()".to_owned(), sent)?;
    }
    socket.attempt.tried = true;
    Some(())
}

/// What became of a connection under way: whether it stands, is refused, or has no answer yet.
fn answer(fd: &OwnedFd) -> Result<bool, Errno> {
    let within = PollTimeout::try_from(CONNECT_WITHIN).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, within)? == 0 {
        return Ok(false);
    }
    match getsockopt(fd, sockopt::SocketError)? {
        0 => Ok(true),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// A socket that waits to be reached.
pub struct Listener<'a>(Pinned<'a>);

impl<'a> Listener<'a> {
    /// Makes, pins and binds a socket to `port`; TCP: listens.
    pub fn open(recipe: Recipe<'a>, port: u16) -> Listener<'a> {
        let mut socket = Pinned::new(recipe);
        if socket.make(port).is_some() && recipe.transport == Transport::Tcp {
            let answer =
                socket.fd().and_then(|fd| Backlog::new(8).and_then(|backlog| listen(fd, backlog)));
            // A refusal stands in the attempt.
            let _ = socket.note("listen()".to_owned(), answer);
        }
        Listener(socket)
    }

    /// Whether every call so far was granted.
    pub fn listening(&self) -> bool {
        self.0.attempt.errno().is_none()
    }

    /// Takes what has arrived and answers with `answer`, if it was `question`. Does not wait: the
    /// caller has made sure that whatever was sent has been processed.
    pub fn serve(&mut self, question: &[u8], answer: &[u8]) {
        let socket = &mut self.0;
        if socket.attempt.errno().is_some() {
            return;
        }
        socket.attempt.received = Some(false);
        let Ok(fd) = socket.fd().map(AsRawFd::as_raw_fd) else { return };
        let mut buffer = [0; 256];
        if socket.recipe.transport == Transport::Tcp {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let accepted = match accept4(fd, flags) {
                Ok(accepted) => sys::own(accepted),
                Err(errno) => return socket.unreached("accept()", errno),
            };
            // A connection that stands has reached the socket, whatever it carries.
            socket.attempt.received = Some(true);
            let read = nix::unistd::read(&accepted, &mut buffer).unwrap_or(0);
            let asked = &buffer[..read] == question;
            socket.note("accept(), read()".to_owned(), Ok(()));
            if asked && !answer.is_empty() {
                let sent = send(accepted.as_raw_fd(), answer, MsgFlags::MSG_NOSIGNAL);
                socket.note("send()".to_owned(), sent);
            }
            abort(accepted, Transport::Tcp);
        } else {
            let (count, from) = match recvfrom::<SockaddrStorage>(fd, &mut buffer) {
                Ok((count, Some(from))) => (count, from),
                Ok((_, None)) => return socket.unreached("recvfrom()", Errno::EDESTADDRREQ),
                Err(errno) => return socket.unreached("recvfrom()", errno),
            };
            socket.attempt.received = Some(&buffer[..count] == question);
            socket.note("recvfrom()".to_owned(), Ok(()));
            if !answer.is_empty() {
                let sent = sendto(fd, answer, &from, MsgFlags::empty());
                socket.note(format!("sendto({from})"), sent);
            }
        }
        socket.attempt.tried = true;
    }

    /// Closes the socket, and tells how it went.
    pub fn close(self) -> Attempt {
        self.0.close()
    }
}

/// A gateway's sockets at the target: they take what comes and say nothing of their own.
pub fn sink(transport: Transport, at: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if transport == Transport::Tcp { SockType::Stream } else { SockType::Datagram };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, kind, flags, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    if transport == Transport::Tcp {
        listen(&fd, Backlog::new(64)?)?;
    }
    Ok(fd)
}
