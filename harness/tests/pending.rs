//! No trial ends while something that it has started can still be sent: what the kernel would send
//! after the window is waited for, or nothing is proved.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use airtight::host;
use airtight::plan::{ATTEMPT_PORT, Case, expand};
use airtight::scenario::parse;
use airtight::sender::{Attempt, Call};
use airtight::trial::{Record, Runner, Sabotage, Scene};
use airtight::verdict::Verdict;
use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, send, setsockopt,
    socket, sockopt,
};

const TRAP: &str = include_str!("../../fixtures/trap.toml");
const DEVICE: &str = "pin    = { device = \"chassis\" }\nexpect = \"contained\"";
const GROUP: Ipv4Addr = Ipv4Addr::new(233, 252, 0, 9);

/// Who makes the attempt, or which scenario is tried, and what must come of it.
struct Fixture {
    name: &'static str,
    trial: &'static str,
    by: By,
    verdict: Verdict,
    /// Words that the reason, what can still be sent, or what was waited for must contain.
    says: &'static str,
}

enum By {
    Sender(fn(&Scene<'_, '_>) -> Result<()>),
    /// In the place of the pin and the expectation of the trap's first case.
    Script(&'static str),
}

fn fixtures() -> Vec<Fixture> {
    let sender = |name, sender, verdict, says| {
        let by = By::Sender(sender);
        Fixture { name, trial: "device::v4-tcp", by, verdict, says }
    };
    let script = |name, trial, script, verdict, says| {
        let by = By::Script(script);
        Fixture { name, trial, by, verdict, says }
    };
    // The frame that is awaited is another, which has left before.
    let joins = "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ send = \
                 \"{target}\" }, { join = { group = \"{group}\", by = \"uplink\" } }, { await = \
                 \"chassis\" }]";
    let listens = "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ call = \
                   \"listen\" }, { inject = { by = \"chassis\", to = \"chassis\", frame = \
                   \"syn\" } }]";
    vec![
        sender("connection that is reset", reset, Verdict::Conforms, ""),
        sender("connection that stands", stands, Verdict::Inconclusive, "it is in ESTABLISHED"),
        sender(
            "connection that has no answer",
            unanswered,
            Verdict::Inconclusive,
            "it is in SYN_SENT, which retransmits",
        ),
        sender(
            "orphan with data that was not acknowledged",
            orphaned,
            Verdict::Inconclusive,
            "it is in FIN_WAIT1",
        ),
        sender(
            "group that is joined by the decoy, the report to come",
            joined,
            Verdict::Deviates,
            "got leaked through uplink",
        ),
        script(
            "group that is joined by the decoy and left at once",
            "device::v4-udp",
            joins,
            Verdict::Deviates,
            "got leaked through uplink",
        ),
        script(
            "IPv6 group that is joined by the decoy and left at once",
            "device::v6-udp",
            joins,
            Verdict::Deviates,
            "got leaked through uplink",
        ),
        script(
            "request whose listener is closed",
            "device::v4-tcp",
            listens,
            Verdict::Conforms,
            "",
        ),
    ]
}

fn main() -> ExitCode {
    host::begin();
    let arguments = Arguments::from_args();
    let runner = match host::leave().map_err(anyhow::Error::from).and_then(Runner::new) {
        Ok(runner) => Some(Arc::new(runner)),
        Err(_) if arguments.list => None,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(3);
        }
    };
    let mut trials: Vec<Trial> = fixtures()
        .into_iter()
        .map(|fixture| {
            let runner = runner.clone();
            Trial::test(fixture.name, move || {
                let runner = runner.ok_or_else(|| Failed::from("the host was not left"))?;
                check(&runner, &fixture).map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect();
    trials.push(Trial::test("what was waited for stands in the record", move || {
        let runner = runner.ok_or_else(|| Failed::from("the host was not left"))?;
        waits(&runner).map_err(|error| Failed::from(format!("{error:#}")))
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn case(text: &str, name: &str) -> Result<Case> {
    let scenario = parse("trap", "fixtures/trap.toml", text.as_bytes())?;
    let found = expand(&scenario).into_iter().find(|case| case.id == format!("trap::{name}"));
    found.with_context(|| format!("no trial {name}"))
}

fn check(runner: &Runner, fixture: &Fixture) -> Result<()> {
    let record = match fixture.by {
        By::Script(script) => runner.run(&case(&TRAP.replace(DEVICE, script), fixture.trial)?),
        By::Sender(sender) => {
            let attempt = |scene: &Scene<'_, '_>| match sender(scene) {
                Ok(()) => Attempt { tried: true, ..Attempt::default() },
                Err(error) => Attempt {
                    calls: vec![Call {
                        call: format!("{error:#}"),
                        errno: Some("EIO".into()),
                        remark: false,
                    }],
                    ..Attempt::default()
                },
            };
            let sabotage = Sabotage { at: None, attempt: Some(&attempt) };
            runner.run_sabotaged(&case(TRAP, fixture.trial)?, &sabotage)
        }
    };
    ensure!(
        record.verdict == fixture.verdict && record.reason.contains(fixture.says),
        "expected {:?} because of `{}`, got {:?}: {}\n{:#?}\n{:#?}",
        fixture.verdict,
        fixture.says,
        record.verdict,
        record.reason,
        record.pending,
        record.frames
    );
    let named = record.pending.contains(&record.reason);
    ensure!(named == (record.verdict == Verdict::Inconclusive), "{:?}", record.pending);
    Ok(())
}

/// A script that leaves a group by the intended link: the report is a frame like any other.
fn waits(runner: &Runner) -> Result<()> {
    let script = "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ join = { group \
                  = \"{group}\", by = \"chassis\" } }, { await = \"chassis\" }]";
    let record = runner.run(&case(&TRAP.replace(DEVICE, script), "device::v4-udp")?);
    ensure!(record.verdict == Verdict::Conforms, "{:?}: {}", record.verdict, record.reason);
    let said: Vec<&str> = record.waits.iter().map(|wait| wait.what.as_str()).collect();
    ensure!(said.contains(&"a frame by chassis"), "{said:?}");
    ensure!(said.iter().any(|what| what.starts_with("the report of leaving ")), "{said:?}");
    let text = serde_json::to_string(&record)?;
    ensure!(text.contains("\"waits\":[{\"for\":\"a frame by chassis\",\"micros\":"), "{text}");
    let read: Record = serde_json::from_str(&text)?;
    ensure!(read.waits.len() == record.waits.len(), "the record is read as it was written");
    Ok(())
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

fn reset(scene: &Scene<'_, '_>) -> Result<()> {
    let fd = connected(scene)?;
    setsockopt(&fd, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(())
}

/// The socket is never closed.
fn stands(scene: &Scene<'_, '_>) -> Result<()> {
    let _kept = connected(scene)?.into_raw_fd();
    Ok(())
}

/// To an address that no gateway has.
fn unanswered(_: &Scene<'_, '_>) -> Result<()> {
    let nobody = SocketAddr::new(Ipv4Addr::new(203, 0, 113, 77).into(), ATTEMPT_PORT);
    let _kept = connection(nobody)?.into_raw_fd();
    Ok(())
}

/// Nobody reads what is sent: the window closes, and the rest waits behind it.
fn orphaned(scene: &Scene<'_, '_>) -> Result<()> {
    let fd = connected(scene)?;
    loop {
        match send(fd.as_raw_fd(), &[7; 1 << 16], MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn joined(scene: &Scene<'_, '_>) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let uplink = scene.case.links.iter().find(|link| link.name == "uplink").context("no uplink")?;
    let std::net::IpAddr::V4(address) = uplink.address else { anyhow::bail!("no IPv4") };
    socket.join_multicast_v4(&GROUP, &address)?;
    let _kept = socket.into_raw_fd();
    Ok(())
}
