//! Guards are tested too: that one holds counts only where the attempt leaks without it, was made
//! under it, and everything that carries the proof is whole.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

use std::net::UdpSocket;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use airtight::host::{self, Left};
use airtight::plan::{Case, expand};
use airtight::probe::{Abilities, kernel_release};
use airtight::scenario::parse;
use airtight::sender::{Attempt, Call};
use airtight::trial::{Record, Runner, Sabotage, Scene, Stage};
use airtight::verdict::Verdict;
use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Arguments, Failed, Trial};

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

/// What breaks, and what must come of it.
struct Fixture {
    name: &'static str,
    trial: &'static str,
    verdict: Verdict,
    /// Words that the reason must contain.
    reason: &'static str,
    at: fn(Stage, &mut Scene<'_, '_>) -> Result<()>,
    attempt: Option<fn(&Scene<'_, '_>) -> Result<()>>,
}

fn fixtures() -> Vec<Fixture> {
    let whole = |_: Stage, _: &mut Scene<'_, '_>| Ok(());
    let plain = |name, trial, verdict, reason| {
        let (at, attempt) = (whole, None);
        Fixture { name, trial, verdict, reason, at, attempt }
    };
    use Verdict::{Conforms, Deviates, Inconclusive};
    let mut fixtures = vec![
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
        Fixture {
            name: "no attempt under the guard",
            trial: "address+nft-output::v4-udp",
            verdict: Inconclusive,
            reason: "the sender made no attempt",
            at: whole,
            attempt: Some(|_| Ok(())),
        },
        Fixture {
            name: "guard that is taken away before the attempt",
            trial: "address+nft-output::v4-udp",
            verdict: Deviates,
            reason: "got leaked",
            at: whole,
            attempt: Some(|scene| {
                let status =
                    Command::new("nft").args(["delete", "table", "inet", "guard"]).status()?;
                ensure!(status.success(), "nft: {status}");
                leak(scene)
            }),
        },
        Fixture {
            name: "rule that is taken away before the attempt",
            trial: "address+reject-rules::v4-udp",
            verdict: Deviates,
            reason: "got leaked",
            at: whole,
            attempt: Some(|scene| {
                let status = Command::new("ip").args(["rule", "del", "priority", "1"]).status()?;
                ensure!(status.success(), "ip: {status}");
                leak(scene)
            }),
        },
        Fixture {
            name: "namespace whose decoy carries no sentinel",
            trial: "address+namespace::v4-udp",
            verdict: Inconclusive,
            reason: "did not see the sentinel",
            at: |stage, scene| {
                if stage == Stage::Attempted {
                    let down =
                        || Command::new("ip").args(["link", "set", "uplink", "down"]).status();
                    ensure!(
                        scene.lab.inside_gateway(1, down)??.success(),
                        "ip link set uplink down"
                    );
                }
                Ok(())
            },
            attempt: None,
        },
        Fixture {
            name: "capture of the decoy that is closed under a namespace",
            trial: "address+namespace::v4-udp",
            verdict: Inconclusive,
            reason: "uplink",
            at: |stage, scene| {
                if stage == Stage::Attempted {
                    scene.captures.close(1);
                }
                Ok(())
            },
            attempt: None,
        },
        Fixture {
            name: "capture of the decoy that loses frames under a hook",
            trial: "address+nft-egress::v4-udp",
            verdict: Inconclusive,
            reason: "uplink",
            at: |stage, scene| {
                if stage == Stage::Attempted {
                    scene.captures.reopen(scene.lab, 1)?;
                }
                Ok(())
            },
            attempt: None,
        },
    ];
    let unbroken = [
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
    fixtures.extend(unbroken.map(|trial| plain(trial, trial, Conforms, "")));
    fixtures
}

/// Sends from the chassis' address, as the case does.
fn leak(scene: &Scene<'_, '_>) -> Result<()> {
    let socket = UdpSocket::bind((scene.case.links[0].address, 0))?;
    socket.send_to(scene.token, (scene.case.target, 7))?;
    Ok(())
}

fn main() -> ExitCode {
    host::begin();
    let arguments = Arguments::from_args();
    let left = match host::leave() {
        Ok(left) => Some(left),
        Err(_) if arguments.list => None,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(3);
        }
    };
    let runner =
        match left.map(|left| Ok::<_, anyhow::Error>((left, Runner::new(left)?))).transpose() {
            Ok(runner) => runner.map(Arc::new),
            Err(error) => {
                eprintln!("{error:#}");
                return ExitCode::from(3);
            }
        };
    let trials = fixtures().into_iter().map(|fixture| {
        let runner = runner.clone();
        Trial::test(fixture.name, move || {
            let runner = runner.ok_or_else(|| Failed::from("the host was not left"))?;
            check(&runner, &fixture).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn case(name: &str) -> Result<Case> {
    let scenario = parse("guarded", "guarded.toml", GUARDED.as_bytes())?;
    let found = expand(&scenario).into_iter().find(|case| case.id == format!("guarded::{name}"));
    found.with_context(|| format!("no trial {name}"))
}

fn check(ground: &(Left, Runner), fixture: &Fixture) -> Result<()> {
    let (left, runner) = ground;
    let case = case(fixture.trial)?;
    let abilities = Abilities::of(*left, std::slice::from_ref(&case))?;
    if let Some(reason) = abilities.skip(&case, &kernel_release()) {
        eprintln!("{}: {reason}", fixture.name);
        return Ok(());
    }
    let attempt = fixture.attempt.map(|attempt| {
        move |scene: &Scene<'_, '_>| match attempt(scene) {
            Ok(()) => {
                Attempt { tried: !scene.token.is_empty() && sends(fixture), ..Attempt::default() }
            }
            Err(error) => Attempt {
                calls: vec![Call {
                    call: format!("{error:#}"),
                    errno: Some("EIO".into()),
                    remark: false,
                }],
                ..Attempt::default()
            },
        }
    });
    let sabotage = Sabotage {
        at: Some(&fixture.at),
        attempt: attempt.as_ref().map(|attempt| attempt as airtight::trial::InsteadOfSender<'_>),
    };
    let record = runner.run_sabotaged(&case, &sabotage);
    expect(&record, fixture)
}

/// Whether the fixture's own attempt sends anything.
fn sends(fixture: &Fixture) -> bool {
    fixture.verdict == Verdict::Deviates
}

fn expect(record: &Record, fixture: &Fixture) -> Result<()> {
    ensure!(
        record.verdict == fixture.verdict && record.reason.contains(fixture.reason),
        "expected {:?} because of `{}`, got {:?}: {}",
        fixture.verdict,
        fixture.reason,
        record.verdict,
        record.reason
    );
    if record.verdict == Verdict::Conforms {
        let leak = record.controls.unguarded.as_deref();
        ensure!(leak == Some("leaked through uplink"), "no leak without the guard: {leak:?}");
        return Ok(());
    }
    record.guard.map(drop).ok_or_else(|| anyhow!("the record names no guard"))
}
