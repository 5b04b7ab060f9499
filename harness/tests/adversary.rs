//! Adversaries that are not what they claim to be: none may end in a proof.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

mod broken;
mod front;

use std::process::ExitCode;

use airtight::verdict::Verdict::{Conforms, Inconclusive};
use broken::{Fixture, fixture};

const ADVERSARY: &str = include_str!("../../fixtures/adversary.toml");
/// What the adversary does.
const LINE: &str = "{ at = \"host\", run = \"ip route add {target} via {uplink.gateway}\" }";
/// What nobody notices.
const NOTHING: &str = "{ at = \"host\", run = \"ip link show dev lo\" }";
/// A device by which frames leave that no capture sees.
const VETH: &str = "{ at = \"host\", run = \"ip link add x0 type veth peer name x1\" }, \
                    { at = \"host\", run = \"ip link set dev x0 up\" }, \
                    { at = \"host\", run = \"ip link set dev x1 up\" }";

fn main() -> ExitCode {
    front::main(None, fixtures().into_iter().map(Fixture::test).collect())
}

fn fixtures() -> Vec<Fixture> {
    let broken = |name: &str, trial, edits, reason| Fixture {
        edits,
        ..fixture(name, ADVERSARY, trial, Inconclusive, reason)
    };
    let unbroken = |trial| fixture(format!("unbroken {trial}"), ADVERSARY, trial, Conforms, "");
    let lines = |lines: &str| vec![(LINE, lines.to_owned())];
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
        unbroken("unpinned::v4-udp"),
        unbroken("unpinned::v6-tcp"),
        unbroken("device::v4-tcp"),
        unbroken("device::v6-udp"),
        broken(
            "adversary that does nothing",
            "device::v4-udp",
            lines(NOTHING),
            "must leave through uplink, and went through chassis",
        ),
        broken(
            "adversary that does nothing, and a leak expected",
            "unpinned::v6-tcp",
            lines(NOTHING),
            "must leave through uplink, and went through chassis",
        ),
        broken(
            "adversary whose work the routes have done before",
            "device::v4-udp",
            vec![("metric = 200", "metric = 50".to_owned()), (LINE, NOTHING.to_owned())],
            "without the adversary the unpinned control must leave through chassis, and went \
             through uplink",
        ),
        broken(
            "adversary without a route to be turned from",
            "device::v6-udp",
            vec![
                ("{ to = \"default\", via = \"chassis\", metric = 100 },", String::new()),
                ("{ to = \"default\", via = \"uplink\",  metric = 200 },", String::new()),
            ],
            "without the adversary the unpinned control must leave through chassis, and went \
             through no link",
        ),
        broken(
            "adversary whose line fails",
            "device::v4-udp",
            lines("{ at = \"host\", run = \"ip link set dev nosuch0 up\" }"),
            "`ip link set dev nosuch0 up`: exit status",
        ),
        broken(
            "adversary whose second line fails",
            "device::v6-tcp",
            lines(&format!("{LINE}, {{ at = \"uplink\", run = \"ip link set dev nosuch0 up\" }}")),
            "in the gateway of uplink: `ip link set dev nosuch0 up`: exit status",
        ),
        broken(
            "adversary that takes the decoy down",
            "device::v4-udp",
            lines("{ at = \"host\", run = \"ip link set dev uplink down\" }"),
            "uplink",
        ),
        broken(
            "adversary that lets nothing out, sentinels included",
            "device::v4-udp",
            lines(&format!("{LINE}, {drop}")),
            "chassis",
        ),
        broken(
            "adversary that sends the control both ways",
            "device::v4-udp",
            vec![(LINE, mirror("uplink").replacen(LINE, NOTHING, 1))],
            "went through chassis, uplink",
        ),
        broken(
            "adversary that copies to a device without a capture",
            "device::v4-udp",
            lines(&format!("{VETH}, {}", mirror("x0"))),
            "frames have left by x0, which is no link of the scenario",
        ),
        broken(
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
