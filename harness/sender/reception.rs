//! What a socket receives, and its answer: who has sent it, and whether it is what is waited for.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, SockaddrStorage, accept4, getpeername, recvfrom};

use super::{Sender, errno_of};
use crate::sys;

impl Sender<'_> {
    /// Takes what has arrived, and answers it where `answers`. Does not wait: the caller has made
    /// sure that whatever was sent has been processed.
    pub(super) fn serve(&mut self, socket: usize, answers: bool) -> Option<()> {
        self.attempt.received = Some(false);
        let at = self.sockets.get(socket)?;
        let waits = at.listens && at.listener.is_none() && at.transport.is_stream();
        if waits {
            let accepted = loop {
                let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
                let accepted = match self.fd(socket).and_then(|fd| accept4(fd.as_raw_fd(), flags)) {
                    Ok(accepted) => sys::own(accepted),
                    Err(errno) => return self.unreached("accept()", errno),
                };
                let peer: Option<SockaddrStorage> = getpeername(accepted.as_raw_fd()).ok();
                if self.expects(peer.as_ref()) {
                    break accepted;
                }
                self.remark("accept(): of somebody else".to_owned());
            };
            // A connection that stands has reached the socket, whatever it carries.
            self.attempt.received = Some(true);
            self.remark("accept()".to_owned());
            let socket = self.sockets.get_mut(socket)?;
            socket.listener = socket.fd.replace(accepted);
        }
        let mut buffer = vec![0; 1 << 16];
        let from = loop {
            let fd = self.fd(socket).ok()?.as_raw_fd();
            match recvfrom::<SockaddrStorage>(fd, &mut buffer) {
                Ok((0, _)) | Err(Errno::EAGAIN) if waits => break None,
                Ok((count, from))
                    if holds(&buffer[..count], self.recipe.expected)
                        && (from.is_none() || self.expects(from.as_ref())) =>
                {
                    break from;
                }
                Ok((0, _)) => return self.unreached("recvfrom()", Errno::EAGAIN),
                Ok(_) => {}
                Err(errno) => return self.unreached("recvfrom()", errno),
            }
        };
        self.attempt.received = Some(true);
        self.attempt.tried = true;
        self.remark("recvfrom()".to_owned());
        if answers {
            self.answer(socket, from)?;
        }
        Some(())
    }

    /// Whether somebody is who is waited for.
    fn expects(&self, peer: Option<&SockaddrStorage>) -> bool {
        let v4 = peer.and_then(|p| p.as_sockaddr_in()).map(|v4| IpAddr::V4(v4.ip()));
        let v6 = peer.and_then(|p| p.as_sockaddr_in6()).map(|v6| v6.ip().to_canonical());
        let peers = self.recipe.peers;
        peers.is_empty() || v4.or(v6).is_some_and(|address| peers.contains(&address))
    }

    fn answer(&mut self, socket: usize, from: Option<SockaddrStorage>) -> Option<()> {
        let at = self.sockets.get(socket)?;
        let to = from.filter(|_| !at.transport.is_stream());
        let sent = self.fd(socket).and_then(|fd| {
            let flags = at.flags | MsgFlags::MSG_NOSIGNAL.bits();
            sys::send_message(fd.as_fd(), to.as_ref(), self.recipe.payload, &at.control, flags)
                .map_err(errno_of)
        });
        let words = to.map_or_else(|| "send()".to_owned(), |to| format!("sendto({to})"));
        self.note(words, sent).map(drop)
    }

    /// Notes that nothing has arrived; any other error than that leaves it open whether it has.
    fn unreached(&mut self, call: &str, errno: Errno) -> Option<()> {
        if errno == Errno::EAGAIN {
            self.remark(format!("{call}: nothing has arrived"));
            return Some(());
        }
        self.attempt.received = None;
        self.note(call.to_owned(), Err(errno))
    }
}

fn holds(payload: &[u8], token: &[u8]) -> bool {
    !token.is_empty() && payload.windows(token.len()).any(|window| window == token)
}
