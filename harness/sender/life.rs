//! Calls by which a socket changes hands, or loses its peer, its privileges or its time.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

use super::{Sender, errno_of};
use crate::sys;

impl Sender<'_> {
    /// A datagram that is held back: nothing is tried until it is let go.
    pub(super) fn cork(&mut self, socket: usize, to: IpAddr) -> Option<()> {
        let at = self.sockets.get(socket)?;
        let shown = SocketAddr::new(to, self.port(at.transport));
        let address = self.sockaddr(at.scope, to, shown.port());
        let flags = at.flags | libc::MSG_NOSIGNAL | libc::MSG_MORE;
        let payload = self.payload(at, Some(to));
        let sent = self.fd(socket).and_then(|fd| {
            sys::send_message(fd.as_fd(), Some(&address), &payload, &at.control, flags)
                .map_err(errno_of)
        });
        self.note(format!("sendto({shown}), MSG_MORE"), sent).map(drop)
    }

    pub(super) fn disconnect(&mut self, socket: usize) -> Option<()> {
        let answer = self.fd(socket).and_then(|fd| sys::disconnect(fd.as_fd()).map_err(errno_of));
        self.note("connect(AF_UNSPEC)".to_owned(), answer)?;
        self.sockets.get_mut(socket)?.connected = None;
        Some(())
    }

    pub(super) fn pass(&mut self, socket: usize) -> Option<()> {
        let passed = self.fd(socket).and_then(passed);
        let fd = self.note("sendmsg(SCM_RIGHTS), recvmsg() and close()".to_owned(), passed)?;
        self.sockets.get_mut(socket)?.fd = Some(fd);
        Some(())
    }

    pub(super) fn drop_privileges(&mut self) -> Option<()> {
        let answer = sys::Privileges::dropped().map(drop).map_err(errno_of);
        self.note("capset(without CAP_NET_RAW, CAP_NET_ADMIN)".to_owned(), answer)?;
        self.unprivileged = true;
        Some(())
    }
}

/// The same socket by another descriptor, which has come over a UNIX socket.
fn passed(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let (near, far) = socketpair(AddressFamily::Unix, kind, None, flags)?;
    let descriptors = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [IoSlice::new(b"s")];
    sendmsg::<()>(near.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None)?;
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut room = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(far.as_raw_fd(), &mut bytes, Some(&mut room), flags)?;
    let received = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    received.map(sys::own).ok_or(Errno::EBADF)
}
