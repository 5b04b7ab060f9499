//! Adversaries that are not what they claim to be: none may end in a proof.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

use std::process::ExitCode;
use std::sync::Arc;

use airtight::host;
use airtight::plan::{Case, expand};
use airtight::scenario::parse;
use airtight::trial::{Record, Runner};
use airtight::verdict::Verdict;
use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};

const ADVERSARY: &str = include_str!("../../fixtures/adversary.toml");
/// What the adversary does.
const LINE: &str = "{ at = \"host\", run = \"ip route add {target} via {uplink.gateway}\" }";
/// What nobody notices.
const NOTHING: &str = "{ at = \"host\", run = \"ip link show dev lo\" }";
/// A device by which frames leave that no capture sees.
const VETH: &str = "{ at = \"host\", run = \"ip link add x0 type veth peer name x1\" }, \
                    { at = \"host\", run = \"ip link set dev x0 up\" }, \
                    { at = \"host\", run = \"ip link set dev x1 up\" }";

/// An edit of the adversary, and what must come of it.
struct Fixture {
    name: &'static str,
    trial: &'static str,
    edits: Vec<(&'static str, String)>,
    verdict: Verdict,
    /// Words that the reason must contain.
    reason: &'static str,
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
    let trials = fixtures().into_iter().map(|fixture| {
        let runner = runner.clone();
        Trial::test(fixture.name, move || {
            let runner = runner.ok_or_else(|| Failed::from("the host was not left"))?;
            check(&runner, &fixture).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let trials = trials.collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn fixtures() -> Vec<Fixture> {
    let fixture = |name, trial, edits, reason| Fixture {
        name,
        trial,
        edits,
        verdict: Verdict::Inconclusive,
        reason,
    };
    let lines = |lines: &str| vec![(LINE, lines.to_owned())];
    let unbroken = |name, trial| Fixture {
        verdict: Verdict::Conforms,
        ..fixture(name, trial, Vec::new(), "")
    };
    let mirror = |to: &str| {
        format!(
            "{LINE}, {{ at = \"host\", run = \"tc qdisc add dev chassis clsact\" }}, \
             {{ at = \"host\", run = \"tc filter add dev chassis egress protocol ip u32 match \
             u32 0 0 action mirred egress mirror dev {to}\" }}"
        )
    };
    let drop = "{ at = \"host\", run = \"nft add table netdev t\" }, { at = \"host\", run = \"nft \
                add chain netdev t c { type filter hook egress device chassis priority 0 ; policy \
                drop ; }\" }";
    vec![
        unbroken("unbroken unpinned::v4-udp", "unpinned::v4-udp"),
        unbroken("unbroken unpinned::v6-tcp", "unpinned::v6-tcp"),
        unbroken("unbroken device::v4-tcp", "device::v4-tcp"),
        unbroken("unbroken device::v6-udp", "device::v6-udp"),
        fixture(
            "adversary that does nothing",
            "device::v4-udp",
            lines(NOTHING),
            "must leave through uplink, and went through chassis",
        ),
        fixture(
            "adversary that does nothing, and a leak expected",
            "unpinned::v6-tcp",
            lines(NOTHING),
            "must leave through uplink, and went through chassis",
        ),
        fixture(
            "adversary whose work the routes have done before",
            "device::v4-udp",
            vec![("metric = 200", "metric = 50".to_owned()), (LINE, NOTHING.to_owned())],
            "without the adversary the unpinned control must leave through chassis, and went \
             through uplink",
        ),
        fixture(
            "adversary without a route to be turned from",
            "device::v6-udp",
            vec![
                ("{ to = \"default\", via = \"chassis\", metric = 100 },", String::new()),
                ("{ to = \"default\", via = \"uplink\",  metric = 200 },", String::new()),
            ],
            "without the adversary the unpinned control must leave through chassis, and went \
             through no link",
        ),
        fixture(
            "adversary whose line fails",
            "device::v4-udp",
            lines("{ at = \"host\", run = \"ip link set dev nosuch0 up\" }"),
            "`ip link set dev nosuch0 up`: exit status",
        ),
        fixture(
            "adversary whose second line fails",
            "device::v6-tcp",
            lines(&format!("{LINE}, {{ at = \"uplink\", run = \"ip link set dev nosuch0 up\" }}")),
            "in the gateway of uplink: `ip link set dev nosuch0 up`: exit status",
        ),
        fixture(
            "adversary that takes the decoy down",
            "device::v4-udp",
            lines("{ at = \"host\", run = \"ip link set dev uplink down\" }"),
            "uplink",
        ),
        fixture(
            "adversary that lets nothing out, sentinels included",
            "device::v4-udp",
            lines(&format!("{LINE}, {drop}")),
            "chassis",
        ),
        fixture(
            "adversary that sends the control both ways",
            "device::v4-udp",
            vec![(LINE, mirror("uplink").replacen(LINE, NOTHING, 1))],
            "went through chassis, uplink",
        ),
        fixture(
            "adversary that copies to a device without a capture",
            "device::v4-udp",
            lines(&format!("{VETH}, {}", mirror("x0"))),
            "frames have left by x0, which is no link of the scenario",
        ),
        fixture(
            "adversary whose bridge has a port without a capture",
            "device::v4-udp",
            vec![
                (
                    LINE,
                    format!(
                        "{LINE}, {VETH}, {{ at = \"host\", run = \"ip link add br0 up type bridge \
                         mcast_snooping 0\" }}, {{ at = \"host\", run = \"ip link set dev x0 master br0\" }}, \
                         {{ at = \"host\", run = \"ip link set dev chassis master br0\" }}"
                    ),
                ),
                ("{ device = \"chassis\" }", "{ device_name = \"br0\" }".to_owned()),
            ],
            "frames have left by x0, which is no link of the scenario",
        ),
    ]
}

fn check(runner: &Runner, fixture: &Fixture) -> Result<()> {
    let text = fixture.edits.iter().fold(ADVERSARY.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the edit edits nothing: {from}");
        text.replace(from, to)
    });
    let record = runner.run(&case(&text, fixture.trial)?);
    expect(&record, fixture)
}

fn case(text: &str, name: &str) -> Result<Case> {
    let scenario = parse("adversary", "fixtures/adversary.toml", text.as_bytes())?;
    expand(&scenario)
        .into_iter()
        .find(|case| case.id == format!("adversary::{name}"))
        .with_context(|| format!("no trial {name}"))
}

fn expect(record: &Record, fixture: &Fixture) -> Result<()> {
    if record.verdict == fixture.verdict && record.reason.contains(fixture.reason) {
        return Ok(());
    }
    Err(anyhow!(
        "expected {:?} because of `{}`, got {:?}: {}\n{:#?}",
        fixture.verdict,
        fixture.reason,
        record.verdict,
        record.reason,
        record.frames
    ))
}
