//! The world that a program talks to, behind every link alike: echo, a sink, HTTP and a name server
//! at every address that the gateways own. Its answers are the same on each link, so that only the
//! capture can tell which way they came. It does not know which link is intended.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::plan::{ATTEMPT_PORT, CONTROL_PORT};

/// How long a name may be remembered, in seconds: not at all, so that each lookup is seen.
const LIFETIME_S: u32 = 0;
/// The longest request that is waited for, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// The most connections that are served at once.
const CONNECTIONS_MAX: usize = 256;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// Sends back what comes (RFC 862).
    Echo,
    /// Says nothing (RFC 863).
    Discard,
    /// Answers every request with 200.
    Http,
    /// Knows every name, at the target's address.
    Names,
}

const PORTS: [(u16, Service); 4] = [
    (ATTEMPT_PORT, Service::Echo),
    (CONTROL_PORT, Service::Discard),
    (80, Service::Http),
    (53, Service::Names),
];

/// The sockets of the world, before it turns.
#[derive(Default)]
pub(crate) struct Sockets {
    datagrams: Vec<(UdpSocket, Service)>,
    listeners: Vec<(TcpListener, Service)>,
}

impl Sockets {
    /// Opens every service at `address`, in the calling thread's namespace.
    pub(crate) fn open(&mut self, address: IpAddr) -> Result<()> {
        for (port, service) in PORTS {
            let at = SocketAddr::new(address, port);
            let datagram = UdpSocket::bind(at).with_context(|| format!("open UDP {at}"))?;
            datagram.set_nonblocking(true)?;
            self.datagrams.push((datagram, service));
            let listener = TcpListener::bind(at).with_context(|| format!("open TCP {at}"))?;
            listener.set_nonblocking(true)?;
            self.listeners.push((listener, service));
        }
        Ok(())
    }

    /// Serves them on a thread of its own, until the value is dropped. `target` is the address of
    /// every name.
    pub(crate) fn serve(self, target: IpAddr) -> Result<World> {
        let (stopped, stop) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("make a pipe")?;
        let world = Turning { sockets: self, connections: BTreeMap::new(), next: 0, target };
        let thread = std::thread::Builder::new().name("world".to_owned());
        let thread = thread.spawn(move || world.turn(&stopped)).context("start the world")?;
        Ok(World { stop: Some(stop), thread: Some(thread) })
    }
}

/// A world that turns until it is dropped.
pub(crate) struct World {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        // The other end of the pipe hangs up, which the thread sees.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Connection {
    stream: TcpStream,
    service: Service,
    read: Vec<u8>,
}

struct Turning {
    sockets: Sockets,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    target: IpAddr,
}

impl Turning {
    fn turn(mut self, stopped: &OwnedFd) {
        loop {
            let mut fds = vec![PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
            let read = |fd| PollFd::new(fd, PollFlags::POLLIN);
            fds.extend(self.sockets.datagrams.iter().map(|(socket, _)| read(socket.as_fd())));
            fds.extend(self.sockets.listeners.iter().map(|(socket, _)| read(socket.as_fd())));
            fds.extend(self.connections.values().map(|c| read(c.stream.as_fd())));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            if fds[0].any().unwrap_or(true) {
                return;
            }
            drop(fds);
            self.datagrams();
            self.accept();
            let served: Vec<u64> = self.connections.keys().copied().collect();
            for id in served {
                let done = self.connections.get_mut(&id).is_none_or(|c| c.serve(self.target));
                if done {
                    self.connections.remove(&id);
                }
            }
        }
    }

    fn datagrams(&mut self) {
        let mut buffer = vec![0; 1 << 16];
        for (socket, service) in &self.sockets.datagrams {
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                let answer = match service {
                    Service::Echo => Some(buffer[..count].to_vec()),
                    Service::Names => names(&buffer[..count], self.target),
                    Service::Discard | Service::Http => None,
                };
                // An answer that cannot be sent is one that is not sent: the program will ask again.
                drop(answer.map(|answer| socket.send_to(&answer, from)));
            }
        }
    }

    fn accept(&mut self) {
        for (listener, service) in &self.sockets.listeners {
            while let Ok((stream, _)) = listener.accept() {
                if self.connections.len() < CONNECTIONS_MAX && stream.set_nonblocking(true).is_ok()
                {
                    let connection = Connection { stream, service: *service, read: Vec::new() };
                    self.connections.insert(self.next, connection);
                    self.next += 1;
                }
            }
        }
    }
}

impl Connection {
    /// Takes what has come, and answers it. Tells whether the connection is over.
    fn serve(&mut self, target: IpAddr) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
            let answer = match self.service {
                Service::Echo => Some(std::mem::take(&mut self.read)),
                Service::Discard => {
                    self.read.clear();
                    None
                }
                Service::Http => http(&self.read),
                Service::Names => framed(&mut self.read, target),
            };
            if let Some(answer) = answer {
                let written = self.stream.write_all(&answer).is_ok();
                if !written || self.service == Service::Http {
                    return true;
                }
            }
            if self.read.len() > REQUEST_BYTES_MAX {
                return true;
            }
        }
    }
}

/// The answer to a request, once its head is whole.
fn http(read: &[u8]) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let head = httparse::Request::new(&mut headers).parse(read);
    match head {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => Some(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\
              Connection: close\r\n\r\nairtight\n"
                .to_vec(),
        ),
        Err(_) => Some(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
    }
}

/// The answer to a query behind its length (RFC 1035, section 4.2.2), once it is whole.
fn framed(read: &mut Vec<u8>, target: IpAddr) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([*read.first()?, *read.get(1)?]));
    let answer = names(read.get(2..2 + length)?, target);
    read.drain(..2 + length);
    let answer = answer?;
    let length = u16::try_from(answer.len()).ok()?.to_be_bytes();
    Some([&length[..], &answer].concat())
}

/// The answer to a query: every name has the target's address, and none of the other family.
fn names(query: &[u8], target: IpAddr) -> Option<Vec<u8>> {
    let query = simple_dns::Packet::parse(query).ok()?;
    let mut reply = simple_dns::Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    *reply.rcode_mut() = RCODE::NoError;
    for question in &query.questions {
        let data = match (question.qtype, target) {
            (QTYPE::TYPE(TYPE::A), IpAddr::V4(v4)) => Some(RData::A(A { address: v4.to_bits() })),
            (QTYPE::TYPE(TYPE::AAAA), IpAddr::V6(v6)) => {
                Some(RData::AAAA(AAAA { address: v6.to_bits() }))
            }
            _ => None,
        };
        if let Some(data) = data {
            let name = question.qname.clone();
            reply.answers.push(ResourceRecord::new(name, CLASS::IN, LIFETIME_S, data));
        }
    }
    reply.questions = query.questions.clone();
    reply.build_bytes_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_at_the_target_in_its_family() {
        let ask = |kind: TYPE| {
            let mut query = simple_dns::Packet::new_query(7);
            let name = simple_dns::Name::new_unchecked("control.test");
            let class = simple_dns::QCLASS::CLASS(CLASS::IN);
            query.questions.push(simple_dns::Question::new(name, kind.into(), class, false));
            query.build_bytes_vec().unwrap()
        };
        let target: IpAddr = "203.0.113.9".parse().unwrap();
        let bytes = names(&ask(TYPE::A), target).unwrap();
        let reply = simple_dns::Packet::parse(&bytes).unwrap();
        assert_eq!((reply.id(), reply.answers.len()), (7, 1));
        assert!(matches!(&reply.answers[0].rdata, RData::A(a) if a.address == 0xcb00_7109));
        let bytes = names(&ask(TYPE::AAAA), target).unwrap();
        assert!(simple_dns::Packet::parse(&bytes).unwrap().answers.is_empty());
        assert!(names(b"no query", target).is_none());
    }

    #[test]
    fn a_request_is_answered_once_it_is_whole() {
        assert!(http(b"GET / HTTP/1.1\r\nHost: x").is_none());
        assert!(http(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().starts_with(b"HTTP/1.1 200"));
        assert!(http(b"\x16\x03\x01\0\0").unwrap().starts_with(b"HTTP/1.1 400"));
        let mut framed_query = vec![0, 12, 0];
        assert!(framed(&mut framed_query, IpAddr::from([203, 0, 113, 9])).is_none());
    }
}
