//! Which calls decided a program's way out: bind, connect, setsockopt and the destinations of
//! sendto, a socket a line, with what held the socket when it sent. It never changes what the
//! program does, but where a scenario has its pins refused.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::{SockaddrStorage, getsockname, getsockopt, sockopt};
use serde::{Deserialize, Serialize};

use crate::errno;
use crate::scenario::Fault;
use crate::sys::{self, Asked};

/// How many sockets are kept, and how many different calls of each.
const SOCKETS_MAX: usize = 64;
const CALLS_MAX: usize = 32;
/// How many calls are looked at. What sends more has told long before by what it is held, and is let
/// through as fast as can be.
const LOOKED_AT_MAX: u64 = 1_000;
/// The longest value of an option, and the longest address, that is looked at.
const VALUE_BYTES_MAX: usize = 64;

/// The calls that decided a program's way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Trace {
    /// Its internet sockets, in the order of their first such call.
    pub sockets: Vec<TracedSocket>,
    /// How many calls are not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// How many calls were refused on a scenario's behalf.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Whether a group was joined or left, which the kernel reports by a timer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub joins: bool,
    /// Why nothing, or not everything, was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untraced: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A socket's calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct TracedSocket {
    /// Its family and type: `AF_INET SOCK_STREAM`.
    pub kind: String,
    /// The process that made the first of them.
    pub process: String,
    /// The calls, each once, in the order of their first time.
    pub calls: Vec<TracedCall>,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct TracedCall {
    /// The call, as a reader of its manual page knows it.
    pub call: String,
    /// What held the socket when it connected or sent, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// How many times it was made.
    pub times: u64,
    /// The error that it was given on a scenario's behalf. What the kernel has answered is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Trace {
    /// Nothing was traced, and why.
    pub(crate) fn none(why: impl Into<String>) -> Trace {
        Trace { untraced: Some(why.into()), ..Trace::default() }
    }
}

/// Whoever is asked before each call, and takes notes.
pub(super) struct Tracer {
    listener: OwnedFd,
    fault: Fault,
    notes: Arc<Mutex<Notes>>,
    looked_at: Cell<u64>,
}

/// What is known so far.
#[derive(Default)]
pub(super) struct Notes {
    trace: Trace,
    /// The kernel's numbers of the sockets, in the order of the trace.
    numbers: Vec<String>,
    /// The sockets that are of no interest.
    others: BTreeMap<String, ()>,
}

impl Notes {
    /// What has been noted until now.
    pub(super) fn trace(notes: &Mutex<Notes>) -> Trace {
        notes.lock().unwrap_or_else(PoisonError::into_inner).trace.clone()
    }
}

impl Tracer {
    /// Whoever asks `listener` will be answered by `answer`.
    pub(super) fn new(listener: OwnedFd, fault: Fault) -> (Tracer, Arc<Mutex<Notes>>) {
        let notes = Arc::<Mutex<Notes>>::default();
        (Tracer { listener, fault, notes: notes.clone(), looked_at: Cell::new(0) }, notes)
    }

    /// Answers until nobody is left who could ask.
    pub(super) fn answer(&self) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        loop {
            let mut ask = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ask, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return,
            }
            let answered = ask[0].revents().unwrap_or(PollFlags::POLLHUP);
            if !answered.contains(PollFlags::POLLIN) {
                return;
            }
            match sys::next_call(self.listener.as_fd()) {
                Ok(None) => {}
                Ok(Some(asked)) => {
                    let refusal = self.note(&asked);
                    if let Err(error) = sys::answer_call(self.listener.as_fd(), &asked, refusal) {
                        self.give_up(&error);
                        return;
                    }
                }
                Err(error) => {
                    self.give_up(&error);
                    return;
                }
            }
        }
    }

    fn give_up(&self, error: &io::Error) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.trace.untraced = Some(format!("the tracing ended: {error}"));
    }

    /// Takes note of a call. What is returned is the error that it is refused with.
    fn note(&self, asked: &Asked) -> Option<i32> {
        let sends = [libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg];
        if sends.contains(&asked.number) && self.looked_at.get() >= LOOKED_AT_MAX {
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).trace.more += 1;
            return None;
        }
        self.looked_at.set(self.looked_at.get() + 1);
        let call = Call::read(asked)?;
        let name = match &call.what {
            What::Pin(_) => self.fault.setsockopt.as_deref(),
            // Addresses of no link are no pins.
            What::Bind(to) if !to.ip.is_unspecified() && !to.ip.is_loopback() => {
                self.fault.bind.as_deref()
            }
            _ => None,
        };
        let kind = call.copy.as_ref().and_then(|copy| kind(copy.as_fd()));
        // Whatever is kept of it, it is refused: not a socket of another family's.
        let refusal = name.and_then(|name| Some((name, errno::from_name(name)?)));
        let refusal = refusal.filter(|_| kind != Some(None));
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.trace.refused += u64::from(refusal.is_some());
        if let Some(at) = notes.socket(&call, kind, asked) {
            notes.keep(at, &call, refusal.map(|(name, _)| name));
            notes.trace.joins |= matches!(call.what, What::Join(_));
        }
        refusal.map(|(_, errno)| errno)
    }
}

impl Notes {
    /// The place of the call's socket in the trace; `None` where it is no internet socket's, or one
    /// too many.
    fn socket(
        &mut self,
        call: &Call,
        kind: Option<Option<String>>,
        asked: &Asked,
    ) -> Option<usize> {
        if let Some(at) = self.numbers.iter().position(|number| *number == call.socket) {
            return Some(at);
        }
        if self.others.contains_key(&call.socket) {
            return None;
        }
        // A socket that cannot be asked is told by its calls.
        let kind = match kind {
            Some(None) => {
                self.others.insert(call.socket.clone(), ());
                return None;
            }
            Some(Some(kind)) => kind,
            None => "a socket".to_owned(),
        };
        if self.trace.sockets.len() >= SOCKETS_MAX {
            self.trace.more += 1;
            return None;
        }
        let comm = fs::read_to_string(format!("/proc/{}/comm", asked.thread));
        self.numbers.push(call.socket.clone());
        self.trace.sockets.push(TracedSocket {
            kind,
            process: comm.map_or_else(|_| "?".to_owned(), |comm| comm.trim_end().to_owned()),
            calls: Vec::new(),
        });
        Some(self.numbers.len() - 1)
    }

    fn keep(&mut self, at: usize, call: &Call, refused: Option<&str>) {
        let words = call.words();
        let calls = &mut self.trace.sockets[at].calls;
        let same =
            |known: &&mut TracedCall| known.call == words && known.refused.as_deref() == refused;
        if let Some(known) = calls.iter_mut().find(same) {
            known.times += 1;
        } else if calls.len() < CALLS_MAX {
            let held = match call.what {
                What::Connect(_) | What::Send(_) => call.copy.as_ref().map(held),
                _ => None,
            };
            let refused = refused.map(str::to_owned);
            calls.push(TracedCall { call: words, held, times: 1, refused });
        } else {
            self.trace.more += 1;
        }
    }
}

/// A call that waits for its answer, read.
struct Call {
    /// The kernel's number of the socket.
    socket: String,
    /// A copy of the socket, to ask it.
    copy: Option<OwnedFd>,
    what: What,
}

enum What {
    /// setsockopt(2) of what holds a socket to a link.
    Pin(String),
    /// setsockopt(2) that joins or leaves a group.
    Join(&'static str),
    Bind(Address),
    Connect(Address),
    /// The call's name, its destination, and what goes with it.
    Send((&'static str, Address, String)),
}

impl Call {
    /// `None` where the call does not decide an internet packet's way out.
    fn read(asked: &Asked) -> Option<Call> {
        let thread = asked.thread;
        let memory = fs::File::open(format!("/proc/{thread}/mem")).ok()?;
        let [descriptor, second, third, fourth, fifth, sixth] = asked.arguments;
        let what = match asked.number {
            libc::SYS_bind => What::Bind(address(&memory, second, third)?),
            libc::SYS_connect => What::Connect(address(&memory, second, third)?),
            libc::SYS_sendto => {
                What::Send(("sendto", address(&memory, fifth, sixth)?, String::new()))
            }
            libc::SYS_sendmsg | libc::SYS_sendmmsg => {
                let name = if asked.number == libc::SYS_sendmsg { "sendmsg" } else { "sendmmsg" };
                let (to, with) = message(&memory, second)?;
                What::Send((name, to, with))
            }
            libc::SYS_setsockopt => {
                let number = |value: u64| i32::try_from(value & 0xffff_ffff).ok();
                let length = usize::try_from(fifth & 0xffff_ffff).ok()?.min(VALUE_BYTES_MAX);
                let value = bytes(&memory, fourth, length)?;
                let (level, name) = (number(second)?, number(third)?);
                match join(level, name) {
                    Some(words) => What::Join(words),
                    None => What::Pin(pin(level, name, &value)?),
                }
            }
            _ => return None,
        };
        let descriptor = i32::try_from(descriptor).ok()?;
        let socket = fs::read_link(format!("/proc/{thread}/fd/{descriptor}")).ok()?;
        let copy = sys::copy_descriptor(process(thread)?, descriptor).ok();
        Some(Call { socket: socket.to_string_lossy().into_owned(), copy, what })
    }

    fn words(&self) -> String {
        match &self.what {
            What::Pin(option) => format!("setsockopt({option})"),
            What::Join(option) => format!("setsockopt({option})"),
            What::Bind(address) => format!("bind({})", address.words()),
            What::Connect(address) => format!("connect({})", address.words()),
            What::Send((name, address, with)) => format!("{name}({}{with})", address.words()),
        }
    }
}

/// The process of a thread: its own number, or its group's (proc_pid_status(5)).
fn process(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

fn bytes(memory: &fs::File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

/// An internet address and port.
struct Address {
    ip: IpAddr,
    port: u16,
    scope: u32,
}

impl Address {
    fn words(&self) -> String {
        let scope = if self.scope == 0 { String::new() } else { format!("%{}", self.scope) };
        match self.ip {
            IpAddr::V4(v4) => format!("{v4}:{}", self.port),
            IpAddr::V6(v6) => format!("[{v6}{scope}]:{}", self.port),
        }
    }
}

/// The address at `at` in a process's memory; `None` for other families than the internet's.
fn address(memory: &fs::File, at: u64, length: u64) -> Option<Address> {
    let length = usize::try_from(length & 0xffff_ffff).ok()?.min(size_of::<libc::sockaddr_in6>());
    let bytes = bytes(memory, at, length)?;
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(Address { ip: Ipv4Addr::from(octets).into(), port, scope: 0 })
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let scope = bytes.get(24..28).and_then(|scope| scope.try_into().ok());
            let scope = scope.map_or(0, u32::from_ne_bytes);
            Some(Address { ip: Ipv6Addr::from(octets).into(), port, scope })
        }
        _ => None,
    }
}

/// The destination of a `struct msghdr`, and the control messages that choose a way out.
fn message(memory: &fs::File, at: u64) -> Option<(Address, String)> {
    let header = bytes(memory, at, size_of::<libc::msghdr>())?;
    let word = |at: usize| {
        Some(u64::from_ne_bytes(header.get(at..at + 8)?.try_into().ok()?)).filter(|_| at < 56)
    };
    let length = u32::from_ne_bytes(header.get(8..12)?.try_into().ok()?);
    let to = address(memory, word(0)?, length.into())?;
    let room = usize::try_from(word(40)?).ok()?.min(256);
    let control = bytes(memory, word(32)?, room).unwrap_or_default();
    let mut with = String::new();
    let mut rest = control.as_slice();
    // struct cmsghdr: its length, level and type; each begins at a multiple of eight bytes.
    while let (Some(length), Some(kinds)) = (rest.get(..8), rest.get(8..16)) {
        let length = u64::from_ne_bytes(length.try_into().ok()?);
        let Ok(length @ 16..) = usize::try_from(length) else { break };
        let level = i32::from_ne_bytes(kinds[..4].try_into().ok()?);
        let kind = i32::from_ne_bytes(kinds[4..].try_into().ok()?);
        with += match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => ", IP_PKTINFO",
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => ", IPV6_PKTINFO",
            (libc::SOL_SOCKET, libc::SO_MARK) => ", SO_MARK",
            _ => "",
        };
        rest = rest.get((length + 7) & !7..).unwrap_or_default();
    }
    Some((to, with))
}

/// An option that changes a multicast membership, in words; `None` for every other option.
fn join(level: i32, name: i32) -> Option<&'static str> {
    // The protocol-independent ones, linux/in.h.
    const MCAST_JOIN_GROUP: i32 = 42;
    const MCAST_LEAVE_GROUP: i32 = 45;
    const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
    Some(match (level, name) {
        (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP) => "IP_ADD_MEMBERSHIP",
        (libc::IPPROTO_IP, libc::IP_DROP_MEMBERSHIP) => "IP_DROP_MEMBERSHIP",
        (libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP) => "IPV6_JOIN_GROUP",
        (libc::IPPROTO_IPV6, libc::IPV6_DROP_MEMBERSHIP) => "IPV6_LEAVE_GROUP",
        (libc::IPPROTO_IP | libc::IPPROTO_IPV6, MCAST_JOIN_GROUP) => "MCAST_JOIN_GROUP",
        (libc::IPPROTO_IP | libc::IPPROTO_IPV6, MCAST_LEAVE_GROUP) => "MCAST_LEAVE_GROUP",
        (libc::IPPROTO_IP | libc::IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP) => {
            "MCAST_JOIN_SOURCE_GROUP"
        }
        _ => return None,
    })
}

/// An option that holds a socket to a link, in words; `None` for every other option.
fn pin(level: i32, name: i32, value: &[u8]) -> Option<String> {
    let number = value.get(..4).and_then(|value| Some(i32::from_ne_bytes(value.try_into().ok()?)));
    let number = number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    // IP_UNICAST_IF and its like take an index in network order, or a structure.
    let index = value.get(..4).and_then(|value| Some(u32::from_be_bytes(value.try_into().ok()?)));
    let index = index.map_or_else(|| "?".to_owned(), |index| index.to_string());
    Some(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => {
            let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
            format!("SO_BINDTODEVICE, \"{}\"", String::from_utf8_lossy(name).escape_debug())
        }
        (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX) => format!("SO_BINDTOIFINDEX, {number}"),
        (libc::SOL_SOCKET, libc::SO_MARK) => format!("SO_MARK, {number}"),
        (libc::IPPROTO_IP, libc::IP_UNICAST_IF) => format!("IP_UNICAST_IF, {index}"),
        (libc::IPPROTO_IP, libc::IP_MULTICAST_IF) => "IP_MULTICAST_IF".to_owned(),
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_IF) => format!("IPV6_UNICAST_IF, {index}"),
        (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF) => format!("IPV6_MULTICAST_IF, {number}"),
        _ => return None,
    })
}

/// The family and the type of a socket, `Some(None)` where it is not the internet's; `None` where it
/// does not tell.
fn kind(socket: std::os::fd::BorrowedFd<'_>) -> Option<Option<String>> {
    let ask = |name| sys::number_option(socket, libc::SOL_SOCKET, name).ok();
    let family = match ask(libc::SO_DOMAIN)? {
        libc::AF_INET => "AF_INET",
        libc::AF_INET6 => "AF_INET6",
        _ => return Some(None),
    };
    let kind = match ask(libc::SO_TYPE)? {
        libc::SOCK_STREAM => "SOCK_STREAM",
        libc::SOCK_DGRAM => "SOCK_DGRAM",
        libc::SOCK_RAW => "SOCK_RAW",
        _ => "of another type",
    };
    Some(Some(format!("{family} {kind}")))
}

/// What holds a socket now, in words.
fn held(socket: &OwnedFd) -> String {
    let mut by = Vec::new();
    if let Ok(device) = getsockopt(socket, sockopt::BindToDevice)
        && !device.is_empty()
    {
        let device = device.to_string_lossy();
        by.push(format!("device {}", device.trim_end_matches('\0')));
    }
    if let Ok(mark @ 1..) = getsockopt(socket, sockopt::Mark) {
        by.push(format!("mark {mark}"));
    }
    let name = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok();
    let v4 = name.as_ref().and_then(|name| name.as_sockaddr_in()).map(|name| name.ip().into());
    let v6 = name.as_ref().and_then(|name| name.as_sockaddr_in6()).map(|name| name.ip().into());
    if let Some(address) = v4.or(v6).filter(|address: &IpAddr| !address.is_unspecified()) {
        by.push(format!("address {address}"));
    }
    if by.is_empty() { "nothing".to_owned() } else { by.join(", ") }
}
