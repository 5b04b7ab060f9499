//! A seccomp filter whose listener is asked for the calls that decide a socket's way out
//! (seccomp_unotify(2), Linux 5.5).

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// The audit number of this machine's own calls (linux/audit.h); others are let through unseen.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// Where `struct seccomp_data` has the number of a call, its architecture and the halves of its
/// fifth argument (linux/seccomp.h, little-endian).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const FIFTH_AT: [u32; 2] = [48, 52];

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Names the call in the answer.
    id: u64,
    /// The thread that has made it, as the listener's process namespace numbers it.
    pub(crate) thread: u32,
    /// Which call it is: `SYS_connect` ...
    pub(crate) number: i64,
    /// Its arguments.
    pub(crate) arguments: [u64; 6],
}

/// Has the calling thread, and whatever it starts, ask before bind(2), connect(2), setsockopt(2),
/// sendmsg(2), sendmmsg(2), and a sendto(2) that names a destination. The descriptor is whom they
/// ask: while nobody answers they wait, and once it is closed they fail.
pub(crate) fn listen_for_calls() -> io::Result<OwnedFd> {
    let Some(architecture) = ARCHITECTURE else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not for this architecture"));
    };
    let mut filter = filter(architecture)?;
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the pointer and the length are those of `filter`, which outlives the call; the kernel
    // copies it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    let fd = check(i32::try_from(fd).map_err(io::Error::other)?)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let listener = unsafe { OwnedFd::from_raw_fd(fd) };
    // Whoever asks hands its processor to whoever answers, and back (Linux 6.6); without it each
    // call only takes longer.
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: the request takes a number only.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    Ok(listener)
}

fn filter(architecture: u32) -> io::Result<Vec<libc::sock_filter>> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let asked = [
        libc::SYS_bind,
        libc::SYS_connect,
        libc::SYS_setsockopt,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
    ];
    let mut steps = vec![
        step(LOAD, ARCHITECTURE_AT, 0, 0),
        // Behind the calls, sendto's test and its four steps stands the answer `allow`.
        step(EQUAL, architecture, 0, 11),
        step(LOAD, NUMBER_AT, 0, 0),
    ];
    for (at, number) in (0u8..).zip(asked) {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        steps.push(step(EQUAL, number, 10 - at, 0));
    }
    let sendto = u32::try_from(libc::SYS_sendto).map_err(io::Error::other)?;
    steps.push(step(EQUAL, sendto, 0, 4));
    steps.push(step(LOAD, FIFTH_AT[0], 0, 0));
    steps.push(step(EQUAL, 0, 0, 3));
    steps.push(step(LOAD, FIFTH_AT[1], 0, 0));
    // The destination's pointer is null in both halves, or the call asks.
    steps.push(step(EQUAL, 0, 0, 1));
    steps.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    steps.push(step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0));
    Ok(steps)
}

/// The next call that waits; `None` where its thread has given up meanwhile.
pub(crate) fn next_call(listener: BorrowedFd<'_>) -> io::Result<Option<Asked>> {
    // SAFETY: all-zero is a valid value of this plain structure, and what the kernel asks for.
    let mut asked: libc::seccomp_notif = unsafe { zeroed() };
    // SAFETY: the request takes a pointer to such a structure, which outlives the call.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked)
    };
    match check(result) {
        Ok(_) => Ok(Some(Asked {
            id: asked.id,
            thread: asked.pid,
            number: i64::from(asked.data.nr),
            arguments: asked.data.args,
        })),
        Err(error) if [Some(libc::ENOENT), Some(libc::EINTR)].contains(&error.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Lets a call go on, or has it fail with `errno`. A thread that has given up meanwhile is no error.
pub(crate) fn answer_call(
    listener: BorrowedFd<'_>,
    asked: &Asked,
    errno: Option<i32>,
) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp {
        id: asked.id,
        val: 0,
        error: errno.map_or(0, |errno| -errno),
        flags: if errno.is_some() { 0 } else { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 },
    };
    // SAFETY: the request takes a pointer to such a structure, which outlives the call.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
    };
    match check(result) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// A copy of another process's descriptor (pidfd_getfd(2), Linux 5.6).
pub(crate) fn copy_descriptor(process: u32, descriptor: i32) -> io::Result<OwnedFd> {
    let own = |fd: libc::c_long| -> io::Result<OwnedFd> {
        let fd = check(i32::try_from(fd).map_err(io::Error::other)?)?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: the call takes numbers only.
    let process = own(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: the call takes numbers only.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0) })
}

/// An option of a socket that is a number (getsockopt(2)).
pub(crate) fn number_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers are those of `value` and of its length, which outlive the call.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn the_calls_that_matter_ask_and_are_answered() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let caller = std::thread::spawn(move || {
            let listener = listen_for_calls();
            let listens = listener.is_ok();
            sender.send(listener).unwrap();
            if !listens {
                return None;
            }
            let bound = UdpSocket::bind("127.0.0.1:0").unwrap();
            let sent = bound.send_to(b"x", "127.0.0.1:9").map_err(|e| e.raw_os_error());
            Some(sent)
        });
        let listener = receiver.recv().unwrap();
        let Ok(listener) = listener else {
            assert_eq!(caller.join().unwrap(), None);
            return;
        };
        let bind = next_call(listener.as_fd()).unwrap().unwrap();
        assert_eq!(bind.number, libc::SYS_bind);
        answer_call(listener.as_fd(), &bind, None).unwrap();
        let send = next_call(listener.as_fd()).unwrap().unwrap();
        assert_eq!(send.number, libc::SYS_sendto);
        answer_call(listener.as_fd(), &send, Some(libc::ENODEV)).unwrap();
        assert_eq!(caller.join().unwrap(), Some(Err(Some(libc::ENODEV))));
    }
}
