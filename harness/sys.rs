//! The system calls for which no crate of ours has a safe form. The only module with `unsafe`; it
//! knows sockets and bytes, nothing of links, frames or outcomes.
#![expect(unsafe_code, reason = "the one module that speaks to the kernel by raw calls")]

mod bpf;
mod privileges;
mod seccomp;
mod xdp;

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{PoisonError, RwLock};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

pub(crate) use bpf::{Hooked, drop_others, pin_sockets, redirect};
pub(crate) use privileges::Privileges;
pub(crate) use seccomp::{
    Asked, answer_call, copy_descriptor, listen_for_calls, next_call, number_option,
};
pub(crate) use xdp::Xdp;

/// connect(2) to AF_UNSPEC: ends a connection at once, with a RST where one is due, and a listener
/// with its connections (tcp_disconnect in net/ipv4/tcp.c). Where [`leave_descriptors`] cannot work, a
/// close(2) alone may be put off: a program that another thread is starting has a copy of every
/// descriptor of ours, until its exec has closed it.
pub(crate) fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut nobody: libc::sockaddr = unsafe { zeroed() };
    nobody.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `nobody`, which outlives the call.
    check(unsafe { libc::connect(fd.as_raw_fd(), &raw const nobody, length) })?;
    Ok(())
}

/// What recvmsg(2) on an AF_PACKET socket said of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many bytes of the frame are in the buffer.
    pub(crate) captured: usize,
    /// The frame's true length in bytes, the VLAN tag that the kernel took off not counted.
    pub(crate) length: usize,
    /// When the kernel saw it, in nanoseconds since the epoch; 0 where it did not say.
    pub(crate) at_ns: u64,
    /// The VLAN tag that the kernel took off: protocol and control information.
    pub(crate) vlan: Option<(u16, u16)>,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An AF_PACKET socket (packet(7)) that is not blocking and receives only `protocol` (an
/// ethertype in host order) from every device; 0 receives nothing until it is bound.
pub(crate) fn packet_socket(protocol: u16) -> io::Result<OwnedFd> {
    socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol.to_be()))
}

/// The address of a device for an AF_PACKET socket; `protocol` is an ethertype.
fn device(index: u32, protocol: u16) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    Ok(address)
}

/// bind(2) of an AF_PACKET socket to the device with this index, receiving nothing.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let address = device(index, 0)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `address`, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

/// A control message (cmsg(3)): its level, its type and its data.
pub(crate) type Control = (i32, i32, Vec<u8>);

/// sendmsg(2) with these control messages, to `to` where the socket is not connected.
pub(crate) fn send_message(
    fd: BorrowedFd<'_>,
    to: Option<&SockaddrStorage>,
    payload: &[u8],
    control: &[Control],
    flags: i32,
) -> io::Result<usize> {
    let mut room = ControlRoom([0; 128]);
    let mut vector =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if let Some(to) = to {
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
    }
    let mut used = 0;
    for (level, kind, data) in control {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
        let (space, total) = unsafe { (libc::CMSG_SPACE(length), libc::CMSG_LEN(length)) };
        let place = room.0.get_mut(used..used + space as usize);
        let place = place.ok_or_else(|| io::Error::other("too many control messages"))?;
        let header = libc::cmsghdr { cmsg_len: total as _, cmsg_level: *level, cmsg_type: *kind };
        // SAFETY: `place` has the room that CMSG_SPACE asks for, and begins at a multiple of the
        // alignment, since the room does and every space is such a multiple.
        unsafe { place.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
        let start = (total - length) as usize;
        place[start..start + data.len()].copy_from_slice(data);
        used += space as usize;
    }
    if used > 0 {
        message.msg_control = room.0.as_mut_ptr().cast();
        message.msg_controllen = used as _;
    }
    // SAFETY: the message points at `to`, `payload` and `room`, which outlive the call, with their
    // true lengths; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// socket(2), not blocking, for a protocol that no crate of ours has a name for.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes no pointers.
    let fd = check(unsafe { libc::socket(domain, kind, protocol) })?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// setsockopt(2) with these very bytes as the value.
pub(crate) fn setsockopt(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) })?;
    Ok(())
}

/// Drops of an AF_PACKET socket since it was last asked (PACKET_STATISTICS resets on read).
pub(crate) fn packet_drops(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut stats: libc::tpacket_stats = unsafe { zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `stats`, which outlives the call.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    })?;
    Ok(stats.tp_drops)
}

/// Sends a whole frame out of the device with this index; `protocol` is its ethertype.
pub(crate) fn send_frame(
    fd: BorrowedFd<'_>,
    index: u32,
    protocol: u16,
    frame: &[u8],
) -> io::Result<()> {
    let address = device(index, protocol)?;
    // SAFETY: both pointers and lengths are those of live values.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    match usize::try_from(sent) {
        Ok(sent) if sent == frame.len() => Ok(()),
        Ok(sent) => Err(io::Error::other(format!("{sent} of {} bytes sent", frame.len()))),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Room for control messages, aligned as the kernel wants it.
#[repr(C, align(8))]
struct ControlRoom([u8; 128]);

/// The next frame of an AF_PACKET socket; `None` where none is waiting.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let mut control = ControlRoom([0; 128]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the message points at `buffer` and `control`, which outlive the call, with their
    // true lengths. MSG_TRUNC makes the kernel return the frame's own length.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
    let Ok(length) = usize::try_from(length) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    };
    let mut received =
        Received { captured: length.min(buffer.len()), length, ..Default::default() };
    // SAFETY: the kernel has filled `message`; CMSG_FIRSTHDR and CMSG_NXTHDR stay within its
    // control buffer, and each payload is read unaligned, only where its header says that it is
    // long enough.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let room = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)
                    if room >= size_of::<libc::timespec>() =>
                {
                    let time: libc::timespec = data.cast::<libc::timespec>().read_unaligned();
                    received.at_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA)
                    if room >= size_of::<libc::tpacket_auxdata>() =>
                {
                    let aux: libc::tpacket_auxdata =
                        data.cast::<libc::tpacket_auxdata>().read_unaligned();
                    if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        let tagged = aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
                        let protocol = if tagged { aux.tp_vlan_tpid } else { 0x8100 };
                        received.vlan = Some((protocol, aux.tp_vlan_tci));
                    }
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Some(received))
}

/// Held for reading by whoever closes, and for writing by whoever has copies of others' descriptors.
static COPIES: RwLock<()> = RwLock::new(());

/// Leaves the process's table of descriptors: from here on the calling thread has a table of its own,
/// with the standard streams alone (close_range(2), Linux 5.9). Tells whether the kernel can. For threads
/// that start processes: a process has a copy of its starter's table until it is another program's,
/// and as long as there is a copy a socket that others close is not closed, nor its port free.
///
/// The thread must own no descriptor, and take none from another.
pub(crate) fn leave_descriptors() -> bool {
    const UNSHARE: libc::c_uint = 1 << 1;
    // The kernel copies as many as fit into a word before it closes those that are to go
    // (sane_fdtable_size() and dup_fd() in fs/file.c, 6.18).
    let _copies = COPIES.write().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the call takes numbers only, and closes descriptors of a table that is made for this
    // thread alone, in which nothing of it is.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, UNSHARE) == 0 }
}

/// Closes a socket whose port must be free, or whose end be told, once this returns: not while a
/// thread that leaves its descriptors has a copy of it.
pub(crate) fn close(socket: OwnedFd) {
    let _no_copies = COPIES.read().unwrap_or_else(PoisonError::into_inner);
    drop(socket);
}

/// A copy of a descriptor of the calling thread's table.
pub(crate) fn duplicate(descriptor: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only, and gives back a new descriptor that nobody else knows.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(own(copy)) }
}

/// Takes a descriptor that a call has just given us.
pub(crate) fn own(fd: i32) -> OwnedFd {
    // SAFETY: callers pass only what accept4(2) has just returned to them.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_is_closed_has_ended_whoever_leaves_descriptors_meanwhile() {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let leaver = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let left = std::thread::spawn(super::leave_descriptors).join();
                    assert!(matches!(left, Ok(true)), "close_range(2) is refused");
                }
            });
            let ended = (0..20_000).map(|_| {
                let (ours, mut theirs) = UnixStream::pair()?;
                theirs.set_nonblocking(true)?;
                super::close(ours.into());
                theirs.read(&mut [0])
            });
            let late = ended.filter(|end| !matches!(end, Ok(0))).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(late, 0, "sockets that had not ended");
            leaver.join().expect("descriptors are left");
        });
    }
}
