//! A connection: asked for, and then answered, refused, or given up.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockaddrStorage, connect, getsockname, getsockopt, sockopt};

use super::Sender;

impl Sender<'_> {
    pub(super) fn connect(&mut self, socket: usize, to: IpAddr) -> Option<()> {
        let (transport, scope) = self.sockets.get(socket).map(|s| (s.transport, s.scope))?;
        let shown = SocketAddr::new(to, self.port(transport));
        let address = self.sockaddr(scope, to, shown.port());
        let connected = match self.fd(socket).and_then(|fd| connect(fd.as_raw_fd(), &address)) {
            Err(Errno::EINPROGRESS) => {
                self.attempt.tried = true;
                self.under_way = Some(socket);
                Ok(())
            }
            other => other,
        };
        self.note(format!("connect({shown})"), connected)?;
        self.sockets.get_mut(socket)?.connected = Some(shown);
        Some(())
    }

    /// Whether the last call has opened a connection that has no answer `within` this time. A refusal that
    /// has come is that call's.
    pub fn awaits_answer(&mut self, within: Duration) -> bool {
        let Some(socket) = self.under_way else { return false };
        let refusal = match self.answered(socket, within) {
            Ok(false) => return true,
            Ok(true) => self.fd(socket).and_then(|fd| getsockopt(fd, sockopt::SocketError)),
            Err(errno) => Err(errno),
        };
        self.under_way = None;
        let refusal = refusal.unwrap_or_else(|errno| errno as i32);
        if let (1.., Some(call)) = (refusal, self.attempt.calls.last_mut()) {
            call.errno = Some(crate::errno::name(refusal));
        }
        false
    }

    /// Leaves a connection without an answer as it is, and notes `why`.
    pub fn give_up(&mut self, why: String) {
        self.under_way = None;
        self.remark(why);
    }

    /// Where the first socket has connected to, and from which port.
    pub fn connection(&self) -> Option<(SocketAddr, u16)> {
        let socket = self.sockets.first()?;
        let name: SockaddrStorage = getsockname(socket.fd.as_ref()?.as_raw_fd()).ok()?;
        let port = name.as_sockaddr_in().map(|v4| v4.port());
        let port = port.or(name.as_sockaddr_in6().map(|v6| v6.port()))?;
        Some((socket.connected?, port))
    }

    /// Whether a connection has an answer, at the latest `within` this time.
    pub(super) fn answered(&self, socket: usize, within: Duration) -> Result<bool, Errno> {
        let within = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.fd(socket)?.as_fd(), PollFlags::POLLOUT)];
        Ok(poll(&mut fds, within)? > 0)
    }
}
