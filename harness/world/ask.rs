//! What a gateway asks a program of the host under test: a request, a datagram, a scan, a ping.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    MsgFlags, Shutdown, SockaddrStorage, bind, connect, getsockopt, recv, send, shutdown, sockopt,
};

use crate::plan::Ask;
use crate::scenario::AskKind;
use crate::sys;

/// How long an answer may take. What it is waited for comes as soon as it is sent.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// How long a refusal may take where nobody need answer.
const REFUSED_WITHIN: Duration = Duration::from_millis(50);

/// An exchange that a gateway opens.
pub(crate) struct Asking {
    ask: Ask,
    sockets: Vec<(OwnedFd, i32)>,
}

impl Asking {
    /// Opens it from the calling thread's namespace, which is a gateway's.
    pub(crate) fn open(ask: Ask) -> Result<Asking> {
        let kinds: &[(i32, i32)] = match (ask.what, ask.to.is_ipv4()) {
            (AskKind::Request, _) => &[(libc::SOCK_STREAM, 0)],
            (AskKind::Datagram, _) => &[(libc::SOCK_DGRAM, 0)],
            (AskKind::Scan, _) => &[(libc::SOCK_STREAM, 0), (libc::SOCK_DGRAM, 0)],
            (AskKind::Ping, true) => &[(libc::SOCK_RAW, libc::IPPROTO_ICMP)],
            (AskKind::Ping, false) => &[(libc::SOCK_RAW, libc::IPPROTO_ICMPV6)],
        };
        let domain = if ask.to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let sockets = kinds.iter().map(|(kind, protocol)| {
            let fd = sys::socket(domain, *kind, *protocol).context("open a gateway's socket")?;
            let from = SockaddrStorage::from(SocketAddr::new(ask.from, 0));
            bind(fd.as_raw_fd(), &from)
                .with_context(|| format!("bind a gateway's socket to {}", ask.from))?;
            Ok((fd, *kind))
        });
        Ok(Asking { ask, sockets: sockets.collect::<Result<_>>()? })
    }

    /// Makes the exchange; `meanwhile` is called again and again. Tells whether it was answered.
    pub(crate) fn make(
        self,
        token: &[u8],
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<bool> {
        let waits = [AskKind::Request, AskKind::Datagram].contains(&self.ask.what);
        let within = if waits { ANSWERED_WITHIN } else { REFUSED_WITHIN };
        let port = if self.ask.what == AskKind::Ping { 0 } else { self.ask.port };
        let to = SockaddrStorage::from(SocketAddr::new(self.ask.to, port));
        let mut answered = false;
        for (fd, kind) in &self.sockets {
            let deadline = Instant::now() + within;
            let mut wait = |events| -> Result<bool> {
                loop {
                    meanwhile()?;
                    let mut fds = [PollFd::new(fd.as_fd(), events)];
                    match poll(&mut fds, PollTimeout::from(1u8)) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno).context("wait for an answer"),
                    }
                    if fds[0].any().unwrap_or(true) {
                        return Ok(true);
                    }
                    if Instant::now() >= deadline {
                        return Ok(false);
                    }
                }
            };
            match connect(fd.as_raw_fd(), &to) {
                Ok(()) => {}
                Err(Errno::EINPROGRESS) => {
                    if !wait(PollFlags::POLLOUT)? {
                        continue;
                    }
                }
                Err(errno) => return Err(errno).context("connect a gateway's socket"),
            }
            if getsockopt(fd, sockopt::SocketError).unwrap_or(0) != 0 {
                continue;
            }
            let payload = match (self.ask.what, *kind) {
                (AskKind::Ping, _) => echo_request(self.ask.from, self.ask.to, token)?,
                (_, libc::SOCK_STREAM) => [b"GET /", token, REQUEST].concat(),
                _ => token.to_vec(),
            };
            // What was refused meanwhile has no answer.
            if send(fd.as_raw_fd(), &payload, MsgFlags::MSG_NOSIGNAL).is_err() {
                continue;
            }
            let mut said = false;
            let mut buffer = [0; 4096];
            // A connection is read to its end, which the program may bring about; one that it keeps
            // open is ended here.
            while wait(PollFlags::POLLIN)? {
                match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    Ok(1..) => said = true,
                    Ok(0) | Err(_) => break,
                }
                if *kind != libc::SOCK_STREAM {
                    break;
                }
                if said {
                    // The rest of an answer needs not be waited for: our end tells it.
                    let _ = shutdown(fd.as_raw_fd(), Shutdown::Write);
                }
            }
            answered |= said;
        }
        for (fd, kind) in &self.sockets {
            if *kind == libc::SOCK_STREAM {
                // Whatever has not ended by now is ended at once.
                drop(sys::disconnect(fd.as_fd()));
            }
        }
        Ok(answered)
    }
}

const REQUEST: &[u8] = b" HTTP/1.1\r\nHost: airtight\r\nConnection: close\r\n\r\n";

/// An ICMP or ICMPv6 echo request with `token`.
fn echo_request(from: IpAddr, to: IpAddr, token: &[u8]) -> Result<Vec<u8>> {
    let echo = IcmpEchoHeader { id: 7, seq: 1 };
    let mut bytes = Vec::new();
    let written: io::Result<()> = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let kind = Icmpv6Type::EchoRequest(echo);
            Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), token)
                .context("make an echo request")?
                .write(&mut bytes)
        }
        _ => Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), token).write(&mut bytes),
    };
    written.context("make an echo request")?;
    Ok([bytes, token.to_vec()].concat())
}
