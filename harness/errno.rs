//! The names of error numbers, as errno(3) has them.

use nix::errno::Errno;

/// The error numbers that the socket and routing calls of this crate can meet.
const NUMBERS: &[Errno] = &[
    Errno::EACCES,
    Errno::EADDRINUSE,
    Errno::EADDRNOTAVAIL,
    Errno::EAFNOSUPPORT,
    Errno::EAGAIN,
    Errno::EALREADY,
    Errno::EBADF,
    Errno::EBUSY,
    Errno::ECONNABORTED,
    Errno::ECONNREFUSED,
    Errno::ECONNRESET,
    Errno::EDESTADDRREQ,
    Errno::EEXIST,
    Errno::EFAULT,
    Errno::EHOSTDOWN,
    Errno::EHOSTUNREACH,
    Errno::EINPROGRESS,
    Errno::EINTR,
    Errno::EINVAL,
    Errno::EIO,
    Errno::EISCONN,
    Errno::EMFILE,
    Errno::EMSGSIZE,
    Errno::ENETDOWN,
    Errno::ENETUNREACH,
    Errno::ENFILE,
    Errno::ENOBUFS,
    Errno::ENODEV,
    Errno::ENOENT,
    Errno::ENOMEM,
    Errno::ENOPROTOOPT,
    Errno::ENOSPC,
    Errno::ENOSYS,
    Errno::ENOTCONN,
    Errno::ENXIO,
    Errno::EOPNOTSUPP,
    Errno::EPERM,
    Errno::EPIPE,
    Errno::EPROTONOSUPPORT,
    Errno::EPROTOTYPE,
    Errno::ETIMEDOUT,
];

/// The name of error number `errno`: `ENODEV`, or `errno 999` where it has none.
pub(crate) fn name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}

/// The error number of that name, among those that a sender can be given.
pub(crate) fn from_name(name: &str) -> Option<i32> {
    NUMBERS.iter().find(|errno| format!("{errno:?}") == name).map(|errno| *errno as i32)
}

/// Every name that [`from_name`] accepts.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    static NAMES: std::sync::LazyLock<Vec<String>> =
        std::sync::LazyLock::new(|| NUMBERS.iter().map(|errno| format!("{errno:?}")).collect());
    NAMES.iter().map(String::as_str)
}
