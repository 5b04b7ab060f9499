//! No trial ends while something that it has started can still be sent: what the kernel would send
//! after the window is waited for, or nothing is proved.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

mod broken;
mod front;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use airtight::plan::{ATTEMPT_PORT, LinkChange};
use airtight::scenario::LinkState;
use airtight::sender::Attempt;
use airtight::trial::{Record, Scene};
use airtight::verdict::Verdict::{self, Conforms, Deviates, Inconclusive};
use anyhow::{Context, Result, ensure};
use broken::{Fixture, fixture};
use nix::errno::Errno;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, send, setsockopt,
    socket, sockopt,
};

const TRAP: &str = include_str!("../../fixtures/trap.toml");
const DEVICE: &str = "pin    = { device = \"chassis\" }\nexpect = \"contained\"";
const LINKS: &str = "links    = [\"chassis\", \"uplink\"]";
/// The second SYN-ACK is held back until the bucket has filled again, some 50 ms.
const SHAPED: &str = "links = [\"chassis\", \"uplink\"]\nneeds = [\"program:tc\"]\nlines = [{ at = \"chassis\", run = \
                      \"tc qdisc add dev chassis root tbf rate 8kbit burst 100 latency 1s\" }]";
const GROUP: Ipv4Addr = Ipv4Addr::new(233, 252, 0, 9);

fn main() -> ExitCode {
    front::main(None, fixtures().into_iter().map(Fixture::test).collect())
}

fn fixtures() -> Vec<Fixture> {
    let sender = |name: &str, sender, verdict, says| Fixture {
        attempt: Some(sender),
        also: named,
        ..fixture(name, TRAP, "device::v4-tcp", verdict, says)
    };
    let script = |name: &str, trial, script: &str, verdict: Verdict, says| Fixture {
        edits: vec![(DEVICE, script.to_owned())],
        also: named,
        ..fixture(name, TRAP, trial, verdict, says)
    };
    // The frame that is awaited is another, which has left before.
    let joins = "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ send = \
                 \"{target}\" }, { join = { group = \"{group}\", by = \"uplink\" } }, { await = \
                 \"chassis\" }]";
    let listens = "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ call = \
                   \"listen\" }, { inject = { by = \"chassis\", to = \"chassis\", frame = \
                   \"syn\" } }]";
    // The report is a frame like any other.
    let leaves = "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ join = { group = \
                  \"{group}\", by = \"chassis\" } }, { await = \"chassis\" }]";
    let connects = "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ connect = \"{target}\" }, \
                    { open = \"tcp\", on = \"b\" }, { on = \"b\", pin = { device = \"chassis\" } }, \
                    { on = \"b\", connect = \"{target}\" }]";
    vec![
        sender("connection that is reset", reset, Conforms, ""),
        Fixture {
            attempt: Some(unseen),
            ..fixture(
                "answer that the sender does not see",
                TRAP,
                "device::v4-tcp",
                Inconclusive,
                "the connection was answered, and the sender did not see it",
            )
        },
        sender("gateway that answers into the void", told_late, Conforms, ""),
        sender("connection that stands", stands, Inconclusive, "it is in ESTABLISHED"),
        sender(
            "connection that has no answer",
            unanswered,
            Inconclusive,
            "it is in SYN_SENT, which retransmits",
        ),
        sender(
            "orphan with data that was not acknowledged",
            orphaned,
            Inconclusive,
            "it is in FIN_WAIT1",
        ),
        sender(
            "group that is joined by the decoy, the report to come",
            joined,
            Deviates,
            "got leaked through uplink",
        ),
        script(
            "group that is joined by the decoy and left at once",
            "device::v4-udp",
            joins,
            Deviates,
            "got leaked through uplink",
        ),
        script(
            "IPv6 group that is joined by the decoy and left at once",
            "device::v6-udp",
            joins,
            Deviates,
            "got leaked through uplink",
        ),
        Fixture {
            edits: vec![(LINKS, SHAPED.to_owned()), (DEVICE, connects.to_owned())],
            also: answered,
            ..fixture("answer that is held back", TRAP, "device::v4-tcp", Conforms, "")
        },
        script("request whose listener is closed", "device::v4-tcp", listens, Conforms, ""),
        Fixture {
            also: waits,
            ..script(
                "what was waited for stands in the record",
                "device::v4-udp",
                leaves,
                Conforms,
                "",
            )
        },
    ]
}

/// What can still be sent is named where it is why nothing is proved.
fn named(record: &Record) -> Result<()> {
    let named = record.pending.contains(&record.reason);
    ensure!(named == (record.verdict == Inconclusive), "{:?}", record.pending);
    Ok(())
}

fn answered(record: &Record) -> Result<()> {
    let connects = record.calls.iter().filter(|call| call.call.starts_with("connect(")).count();
    ensure!(connects == 2, "{:?}", record.calls);
    ensure!(!record.calls.iter().any(|call| call.remark), "{:?}", record.calls);
    Ok(())
}

fn waits(record: &Record) -> Result<()> {
    let said: Vec<&str> = record.waits.iter().map(|wait| wait.what.as_str()).collect();
    ensure!(said.contains(&"a frame by chassis"), "{said:?}");
    ensure!(said.iter().any(|what| what.starts_with("the report of leaving ")), "{said:?}");
    let text = serde_json::to_string(record)?;
    ensure!(text.contains("\"waits\":[{\"for\":\"a frame by chassis\",\"micros\":"), "{text}");
    let read: Record = serde_json::from_str(&text)?;
    ensure!(read.waits.len() == record.waits.len(), "the record is read as it was written");
    Ok(())
}

fn tried() -> Attempt {
    Attempt { tried: true, ..Attempt::default() }
}

/// A connection by the intended link, under way.
fn connection(to: SocketAddr) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::BindToDevice, &"chassis".to_owned().into())?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno.into()),
    }
}

/// One that stands.
fn connected(scene: &Scene<'_, '_>) -> Result<OwnedFd> {
    let fd = connection(SocketAddr::new(scene.case.target, ATTEMPT_PORT))?;
    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&fd), PollFlags::POLLOUT)];
    let within = PollTimeout::try_from(Duration::from_secs(5))?;
    ensure!(poll(&mut fds, within)? == 1, "the connection does not stand");
    Ok(fd)
}

fn reset(scene: &Scene<'_, '_>) -> Result<Attempt> {
    let fd = connected(scene)?;
    setsockopt(&fd, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(tried())
}

fn unseen(scene: &Scene<'_, '_>) -> Result<Attempt> {
    Ok(Attempt { unsent: true, ..reset(scene)? })
}

/// A link that has come back is in use at its far end too: what is not, drops every answer.
fn told_late(scene: &Scene<'_, '_>) -> Result<Attempt> {
    let far = &scene.case.links[0].name;
    for _ in 0..20 {
        for to in [LinkState::Down, LinkState::Whole] {
            scene.lab.set_link(&LinkChange { link: 0, to })?;
        }
        let addresses = scene.lab.inside_gateway(0, getifaddrs)??;
        let mut ends = addresses.filter(|entry| entry.interface_name == *far);
        let in_use = |entry: InterfaceAddress| entry.flags.contains(InterfaceFlags::IFF_RUNNING);
        ensure!(ends.next().is_some_and(in_use), "{far} has no carrier yet at its gateway");
    }
    scene.lab.inside_host(|| reset(scene))?
}

/// The socket is never closed.
fn stands(scene: &Scene<'_, '_>) -> Result<Attempt> {
    let _kept = connected(scene)?.into_raw_fd();
    Ok(tried())
}

/// To an address that no gateway has.
fn unanswered(_: &Scene<'_, '_>) -> Result<Attempt> {
    let nobody = SocketAddr::new(Ipv4Addr::new(203, 0, 113, 77).into(), ATTEMPT_PORT);
    let _kept = connection(nobody)?.into_raw_fd();
    Ok(tried())
}

/// Nobody reads what is sent: the window closes, and the rest waits behind it.
fn orphaned(scene: &Scene<'_, '_>) -> Result<Attempt> {
    let fd = connected(scene)?;
    loop {
        match send(fd.as_raw_fd(), &[7; 1 << 16], MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(tried()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn joined(scene: &Scene<'_, '_>) -> Result<Attempt> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let uplink = scene.case.links.iter().find(|link| link.name == "uplink").context("no uplink")?;
    let std::net::IpAddr::V4(address) = uplink.address else { anyhow::bail!("no IPv4") };
    socket.join_multicast_v4(&GROUP, &address)?;
    let _kept = socket.into_raw_fd();
    Ok(tried())
}
