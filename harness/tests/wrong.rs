//! Scenarios whose laboratory or script is not what it claims, by edits of the trap.

use airtight::verdict::Verdict::{self, Deviates, Inconclusive};

use crate::TRAP;
use crate::broken::{Fixture, fixture};

const LINKS: &str = "links    = [\"chassis\", \"uplink\"]";
const DECOY: &str = "{ to = \"default\", via = \"uplink\",  metric = 100 },";
const RECEIVER: &str = "inject  = { by = \"uplink\", to = \"chassis\" }\nexpect  = \"refused\"";
const DEVICE: &str = "pin    = { device = \"chassis\" }\nexpect = \"contained\"";

fn wrong(
    name: &str,
    trial: &'static str,
    edits: &[(&'static str, &str)],
    verdict: Verdict,
    reason: &'static str,
) -> Fixture {
    let edits = edits.iter().map(|(from, to)| (*from, (*to).to_owned())).collect();
    Fixture { edits, ..fixture(name, TRAP, trial, verdict, reason) }
}

pub(crate) fn fixtures() -> Vec<Fixture> {
    vec![
        wrong(
            "advertisement that the host does not hear",
            "device::v6-udp",
            &[
                (DECOY, ""),
                (
                    LINKS,
                    "links = [\"chassis\", \"uplink\"]\nadvertisements = [{ by = \"uplink\", \
                         prefix = \"2001:db8:9::/64\" }]",
                ),
            ],
            Inconclusive,
            "the trap is not armed",
        ),
        wrong(
            "setting that does not exist",
            "device::v4-udp",
            &[(LINKS, "links = [\"chassis\", \"uplink\"]\nsysctls = [\"net.ipv4.nonsense=1\"]")],
            Inconclusive,
            "net/ipv4/nonsense",
        ),
        wrong(
            "command line that fails",
            "device::v4-udp",
            &[(
                LINKS,
                "links = [\"chassis\", \"uplink\"]\nneeds = [\"program:ls\"]\n\
                      lines = [{ at = \"host\", run = \"ls /no/such/file\" }]",
            )],
            Inconclusive,
            "`ls /no/such/file`: exit status",
        ),
        wrong(
            "command line that does not end",
            "device::v4-udp",
            &[(
                LINKS,
                "links = [\"chassis\", \"uplink\"]\nneeds = [\"program:tail\"]\n\
                      lines = [{ at = \"host\", run = \"tail -f /dev/null\" }]",
            )],
            Inconclusive,
            "did not end within",
        ),
        // What is injected reaches nobody: that the pinned socket hears nothing proves nothing.
        wrong(
            "script whose twin is not reached either",
            "receiver::v4-udp",
            &[(
                RECEIVER,
                "steps = [{ call = \"listen\" }, { inject = { by = \"uplink\", to = \"{foreign}\" \
                 } }, { call = \"receive\" }]\n\
                 expect = \"refused\"",
            )],
            Inconclusive,
            "the same attempt without its pins did not receive",
        ),
        wrong(
            "wait for a frame that does not come",
            "device::v4-udp",
            &[(
                DEVICE,
                "pin = { device = \"chassis\" }\nsteps = [{ await = \"chassis\" }]\n\
                       expect = \"contained\"",
            )],
            Inconclusive,
            "no frame has left by chassis within",
        ),
        wrong(
            "script that ends before its leak",
            "device::v4-udp",
            &[(
                DEVICE,
                "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ send = \
                 \"{target}\" }, { call = \"close\" }, { call = \"send\" }, { open = \"udp\", \
                 on = \"b\" }, { on = \"b\", send = \"{target}\" }]",
            )],
            Inconclusive,
            "which ended the script",
        ),
        wrong(
            "refusal after which nothing is sent",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ pin = { device_name = \"nosuch0\" }, refused = \"ENODEV\" }, { call = \"drop-privileges\" }]\nexpect = \"silent\"",
            )],
            Inconclusive,
            "the sender made no attempt",
        ),
        wrong(
            "refusal that does not come",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ pin = { device = \"uplink\" }, refused = \"EPERM\" }, { send = \"{target}\" }]\nexpect = \"leaked\"\nthrough = \"uplink\"",
            )],
            Inconclusive,
            "refused with EPERM, and it was given no error",
        ),
        wrong(
            "another refusal than the script says",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ pin = { device_name = \"nosuch0\" }, refused = \"EPERM\" }, { send = \"{target}\" }]\nexpect = \"leaked\"\nthrough = \"uplink\"",
            )],
            Inconclusive,
            "it was given ENODEV",
        ),
        wrong(
            "disconnected socket that sends nothing",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ pin = { device = \"chassis\" } }, { call = \"disconnect\" }]\nexpect = \"silent\"",
            )],
            Inconclusive,
            "the sender made no attempt",
        ),
        wrong(
            "links that change, and nobody who sends",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ set = { link = \"uplink\", to = \"down\" } }, { set = { link = \"uplink\", to = \"whole\" } }]\nexpect = \"silent\"",
            )],
            Inconclusive,
            "the sender made no attempt",
        ),
        wrong(
            "leak by a link that has another index",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ pin = { device = \"chassis\" } }, { set = { link = \"chassis\", to = \"gone\" } }, { reindex = { link = \"uplink\", like = \"chassis\" } }, { send = \"{target}\" }]\nexpect = \"contained\"",
            )],
            Deviates,
            "expected contained, got leaked through uplink",
        ),
        wrong(
            "leak by a link that has another name",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ set = { link = \"chassis\", to = \"down\" } }, { set = { link = \"uplink\", to = \"down\" } }, { rename = { link = \"chassis\", to = \"x\" } }, { rename = { link = \"uplink\", to = \"chassis\" } }, { set = { link = \"uplink\", to = \"whole\" } }, { pin = { device_name = \"chassis\" } }, { send = \"{target}\" }]\nexpect = \"contained\"",
            )],
            Deviates,
            "expected contained, got leaked through uplink",
        ),
        wrong(
            "leak by a link that is taken away afterwards",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ send = \"{target}\" }, { set = { link = \"uplink\", to = \"gone\" } }]\nexpect = \"contained\"",
            )],
            Deviates,
            "expected contained, got leaked through uplink",
        ),
        wrong(
            "rename of a link that is not there",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ set = { link = \"chassis\", to = \"gone\" } }, { rename = { link = \"chassis\", to = \"x\" } }, { send = \"{target}\" }]\nexpect = \"leaked\"\nthrough = \"uplink\"",
            )],
            Inconclusive,
            "rename chassis to x",
        ),
        wrong(
            "sentinels by a link that has another index",
            "device::v4-udp",
            &[(
                DEVICE,
                "steps = [{ pin = { device = \"chassis\" } }, { set = { link = \"chassis\", to = \"gone\" } }, { reindex = { link = \"uplink\", like = \"chassis\" } }, { await = \"chassis\" }, { send = \"{target}\" }]\nexpect = \"contained\"",
            )],
            Inconclusive,
            "no frame has left by chassis within",
        ),
        wrong(
            "request that reaches nobody",
            "listener::v4-udp",
            &[
                ("unpinned = \"uplink\"", "unpinned = \"uplink\"\nto = \"{target}\""),
                (
                    "pin     = { device = \"chassis\" }\nrequest = { by = \"chassis\", to = \"chassis\" }",
                    "pin = { address = \"uplink\" }\nrequest = { by = \"chassis\", to = \"chassis\", \
                 from = \"{chassis.gateway}\" }",
                ),
            ],
            Inconclusive,
            "the request did not reach the socket",
        ),
        wrong(
            "receiver that nobody could reach",
            "receiver::v4-udp",
            &[(
                "inject  = { by = \"uplink\", to = \"chassis\" }",
                "inject  = { by = \"uplink\", to = \"{foreign}\" }",
            )],
            Inconclusive,
            "the same attempt without its pins did not receive",
        ),
        // Another socket of the host sends what is received; the injected datagram is kept out.
        wrong(
            "receiver that hears somebody else",
            "receiver::v4-udp",
            &[(
                RECEIVER,
                "steps = [{ call = \"listen\" }, { inject = { by = \"uplink\", to = \"chassis\" } }, \
                 { open = \"udp\", on = \"b\" }, { on = \"b\", send = \"{chassis.address}\" }, \
                 { call = \"receive\" }]\nexpect = \"delivered\"",
            )],
            Deviates,
            "expected delivered, got refused",
        ),
        wrong(
            "leak by a device that is no link",
            "device::v4-udp",
            &[
                (
                    LINKS,
                    "links = [\"chassis\", \"uplink\"]\nneeds = [\"program:ip\"]\nlines = [\
                     { at = \"host\", run = \"ip link add x0 type veth peer name x1\" }, \
                     { at = \"host\", run = \"ip addr add 198.18.0.1/24 dev x0\" }, \
                     { at = \"host\", run = \"ip link set x0 up\" }, \
                     { at = \"host\", run = \"ip link set x1 up\" }, \
                     { at = \"host\", run = \"ip neigh add {target} dev x0 lladdr 02:00:00:00:99:99\" }]",
                ),
                (DEVICE, "pin = { device_name = \"x0\" }\nexpect = \"silent\""),
            ],
            Inconclusive,
            "which is no link of the scenario",
        ),
        wrong(
            "packet that waits on the decoy",
            "device::v4-udp",
            &[
                (LINKS, "links = [\"chassis\", \"uplink\"]\nneighbours = \"unanswered\""),
                (
                    DEVICE,
                    "pin = { device = \"uplink\" }\nto = \"{uplink.address}\"\nexpect = \"silent\"",
                ),
            ],
            Inconclusive,
            "",
        ),
        wrong(
            "program that is not there",
            "device::v4-udp",
            &[(DEVICE, "command = [\"/no/such/program\"]\nexpect = \"contained\"")],
            Inconclusive,
            "was not started",
        ),
        wrong(
            "program that crashes",
            "device::v4-udp",
            &[(DEVICE, "command = [\"sh\", \"-c\", \"kill -SEGV $$\"]\nexpect = \"silent\"")],
            Inconclusive,
            "crashed, by signal 11",
        ),
        wrong(
            "program that hangs and forks away",
            "device::v4-udp",
            &[
                ("[control]", "[sender]\ntimeout_ms = 300\n\n[control]"),
                (
                    DEVICE,
                    "command = [\"sh\", \"-c\", \"setsid sh -c 'sleep 61' & sleep 61\"]\n\
                     expect = \"silent\"",
                ),
            ],
            Inconclusive,
            "did not end in its time",
        ),
        wrong(
            "program that writes without end",
            "device::v4-udp",
            &[
                ("[control]", "[sender]\ntimeout_ms = 300\n\n[control]"),
                (
                    DEVICE,
                    "command = [\"sh\", \"-c\", \"while :; do echo yes; done\"]\nexpect = \"silent\"",
                ),
            ],
            Inconclusive,
            "did not end in its time",
        ),
        wrong(
            "segment for a connection that never was",
            "listener::v4-tcp",
            &[(
                "request = { by = \"chassis\", to = \"chassis\" }",
                "steps = [{ call = \"listen\" }, { inject = { by = \"chassis\", \
                       to = \"chassis\", frame = \"fin\" } }]",
            )],
            Inconclusive,
            "no connection to continue",
        ),
        wrong(
            "trap without its decoy route",
            "device::v4-udp",
            &[(DECOY, "")],
            Inconclusive,
            "the trap is not armed",
        ),
        wrong(
            "receiver that could not be set up",
            "receiver::v4-udp",
            &[(
                "pin     = { device = \"chassis\" }\ninject",
                "pin     = { device_name = \"nosuch0\" }\ninject",
            )],
            Inconclusive,
            "could not be set up: ENODEV",
        ),
    ]
}

/// Sixteen links, of which the last is the decoy.
pub(crate) fn sixteen() -> [Fixture; 3] {
    let names: Vec<String> = (1..=14).map(|number| format!(", \"link{number}\"")).collect();
    let edits = || {
        vec![
            ("\"uplink\"]", format!("\"link0\"{}]", names.concat())),
            ("\"uplink\"", "\"link14\"".to_owned()),
        ]
    };
    let of = |name, trial, verdict, reason| Fixture {
        edits: edits(),
        ..fixture(name, TRAP, trial, verdict, reason)
    };
    let mut leak = of(
        "leak by the last of sixteen links",
        "device::v4-udp",
        Deviates,
        "got leaked through link14",
    );
    leak.edits.push(("pin    = { device = \"chassis\" }", "pin    = {}".to_owned()));
    [
        of("sixteen links, datagrams", "device::v4-udp", Verdict::Conforms, ""),
        of("sixteen links, connections", "device::v6-tcp", Verdict::Conforms, ""),
        leak,
    ]
}
