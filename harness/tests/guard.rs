//! Guards are tested too: that one holds counts only where the attempt leaks without it, was made
//! under it, the guard was in force, and everything that carries the proof is whole.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

mod broken;
mod front;

use std::net::UdpSocket;
use std::process::{Command, ExitCode};

use airtight::sender::{Attempt, Call};
use airtight::trial::{Record, Scene, Stage};
use airtight::verdict::Verdict::{Conforms, Deviates, Inconclusive};
use anyhow::{Result, ensure};
use broken::{Fixture, fixture};

/// Attempts that leak, one by its address, one by the packet's own choice, and one that does not.
const GUARDED: &str = r#"
title = "Leaks, and what holds them"
why   = "The guards' tests need leaks."

links    = ["chassis", "uplink"]
intended = ["chassis"]
routes   = [
  { to = "default", via = "uplink",  metric = 100 },
  { to = "default", via = "chassis", metric = 200 },
]

[control]
unpinned = "uplink"

[matrix]
family    = ["v4", "v6"]
transport = ["udp"]

[[case]]
name    = "address"
pin     = { address = "chassis" }
expect  = "leaked"
held_by = ["namespace", "nft-egress", "nft-output", "cgroup-drop", "cgroup-pin", "reject-rules"]

[[case]]
name    = "packet"
pin     = { device = "chassis", pktinfo = { index = "uplink" } }
only    = { family = ["v4"] }
expect  = "leaked"
held_by = ["namespace", "nft-egress", "nft-output", "cgroup-drop"]

[[case]]
name    = "harmless"
pin     = { device = "chassis" }
expect  = "leaked"
held_by = ["namespace"]

[[case]]
name    = "claimed"
pin     = { device = "chassis", pktinfo = { index = "uplink" } }
only    = { family = ["v4"] }
expect  = "leaked"
held_by = ["cgroup-pin"]
"#;

fn main() -> ExitCode {
    front::main(None, whole().chain(fixtures()).map(Fixture::test).collect())
}

/// Nothing is broken: each guard holds, or leaves open, what it is said to.
fn whole() -> impl Iterator<Item = Fixture> {
    let trials = [
        "address+namespace::v4-udp",
        "address+nft-egress::v4-udp",
        "address+nft-egress::v6-udp",
        "address+nft-output::v6-udp",
        "address+cgroup-drop::v4-udp",
        "address+cgroup-drop::v6-udp",
        "address+cgroup-pin::v4-udp",
        "address+cgroup-pin::v6-udp",
        "address+reject-rules::v4-udp",
        "address+reject-rules::v6-udp",
        "packet+namespace::v4-udp",
        "packet+cgroup-pin::v4-udp",
        "packet+reject-rules::v4-udp",
    ];
    let whole =
        |trial| Fixture { also: has_leaked, ..fixture(trial, GUARDED, trial, Conforms, "") };
    trials.into_iter().map(whole)
}

fn has_leaked(record: &Record) -> Result<()> {
    let leak = record.controls.unguarded.as_deref();
    ensure!(leak == Some("leaked through uplink"), "no leak without the guard: {leak:?}");
    Ok(())
}

fn fixtures() -> Vec<Fixture> {
    let plain = |name: &str, trial, verdict, reason| fixture(name, GUARDED, trial, verdict, reason);
    let sender = |name: &str, trial, verdict, reason, attempt| Fixture {
        attempt: Some(attempt),
        ..plain(name, trial, verdict, reason)
    };
    let lab =
        |name: &str, trial, reason, at| Fixture { at, ..plain(name, trial, Inconclusive, reason) };
    vec![
        plain(
            "guard of what does not leak",
            "harmless+namespace::v4-udp",
            Inconclusive,
            "without the guard the attempt does not leak",
        ),
        plain(
            "guard said to hold what it leaves open",
            "claimed+cgroup-pin::v4-udp",
            Deviates,
            "got leaked",
        ),
        plain(
            "guard said to leave open what it holds",
            "claimed+nft-output::v4-udp",
            Deviates,
            "expected leaked, got refused with EPERM",
        ),
        sender(
            "no attempt under the guard",
            "address+nft-output::v4-udp",
            Inconclusive,
            "the sender made no attempt",
            |_| Ok(Attempt::default()),
        ),
        sender(
            "error that is none of the guard's",
            "address+nft-output::v4-udp",
            Inconclusive,
            "which is none of the errors of nft-output",
            |_| Ok(refused("socket()", "ENOMEM")),
        ),
        sender(
            "error of the guard's by a call that it does not give it to",
            "address+nft-output::v4-udp",
            Inconclusive,
            "which is none of the errors of nft-output",
            |_| Ok(refused("sendto()", "EAGAIN")),
        ),
        sender(
            "guard that is taken away before the attempt",
            "address+nft-output::v4-udp",
            Deviates,
            "got leaked",
            |scene| {
                run("nft", &["delete", "table", "inet", "guard"])?;
                leak(scene)
            },
        ),
        sender(
            "rule that is taken away before the attempt",
            "address+reject-rules::v4-udp",
            Deviates,
            "got leaked",
            |scene| {
                run("ip", &["rule", "del", "priority", "1"])?;
                leak(scene)
            },
        ),
        lab(
            "namespace whose decoy carries no sentinel",
            "address+namespace::v4-udp",
            "did not see the sentinel",
            |stage, scene| {
                let down = || run("ip", &["link", "set", "uplink", "down"]);
                if stage == Stage::Attempted { scene.lab.inside_gateway(1, down)? } else { Ok(()) }
            },
        ),
        lab(
            "capture of the decoy that is closed under a namespace",
            "address+namespace::v4-udp",
            "uplink",
            |stage, scene| {
                if stage == Stage::Attempted {
                    scene.captures.close(1);
                }
                Ok(())
            },
        ),
        lab(
            "capture of the decoy that loses frames under a hook",
            "address+nft-egress::v4-udp",
            "uplink",
            |stage, scene| match stage {
                Stage::Attempted => scene.captures.reopen(scene.lab, 1),
                _ => Ok(()),
            },
        ),
        lab(
            "guard that is not in force",
            "address+reject-rules::v4-udp",
            "the guard reject-rules is not in force",
            outranked,
        ),
        lab(
            "guard that is not in force, and a leak expected",
            "packet+reject-rules::v4-udp",
            "the guard reject-rules is not in force",
            outranked,
        ),
    ]
}

/// A rule that comes before the guard's own.
fn outranked(stage: Stage, scene: &mut Scene<'_, '_>) -> Result<()> {
    let first = ["rule", "add", "priority", "0", "lookup", "main"];
    match stage {
        Stage::Alive => scene.lab.inside_host(|| run("ip", &first))?,
        _ => Ok(()),
    }
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    let status = Command::new(program).args(words).status()?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}

/// Sends from the chassis' address, as the case does.
fn leak(scene: &Scene<'_, '_>) -> Result<Attempt> {
    let socket = UdpSocket::bind((scene.case.links[0].address, 0))?;
    socket.send_to(scene.token, (scene.case.target, 7))?;
    Ok(Attempt { tried: true, ..Attempt::default() })
}

fn refused(call: &str, errno: &'static str) -> Attempt {
    let call = Call { call: call.to_owned(), errno: Some(errno.to_owned()), remark: false };
    Attempt { calls: vec![call], tried: true, ..Attempt::default() }
}
