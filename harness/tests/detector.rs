//! The detector is tested too: senders that misbehave in one known way and laboratories that are
//! broken in one known place, each of which must end in the stated verdict. None may conform.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use airtight::plan::{Case, expand};
use airtight::program::{End, Ran, Said, Trace};
use airtight::scenario::parse;
use airtight::sender::{Attempt, Call};
use airtight::trial::{Record, Runner, Sabotage, Scene, Stage};
use airtight::verdict::Verdict;
use airtight::{host, verdict};
use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use pnet::datalink::{self, Channel, MacAddr, NetworkInterface};

const TRAP: &str = include_str!("../../fixtures/trap.toml");
/// The links of the trap, by their places.
const CHASSIS: usize = 0;
const UPLINK: usize = 1;

/// What breaks, and what must come of it.
struct Fixture {
    name: &'static str,
    trial: &'static str,
    verdicts: &'static [Verdict],
    /// Words that the reason must contain.
    reason: &'static str,
    at: fn(Stage, &mut Scene<'_, '_>) -> Result<()>,
    attempt: Option<fn(&Scene<'_, '_>) -> Attempt>,
}

const INCONCLUSIVE: &[Verdict] = &[Verdict::Inconclusive];
const DEVIATES: &[Verdict] = &[Verdict::Deviates];

fn main() -> ExitCode {
    host::begin();
    let mut arguments = Arguments::from_args();
    // What is broken is waited for: most of the time nothing is done.
    arguments.test_threads = arguments.test_threads.or(Some(8));
    let runner = host::leave().map_err(anyhow::Error::from).and_then(Runner::new);
    let runner = match runner {
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
    for name in [
        "device::v4-udp",
        "device::v6-udp",
        "device::v4-tcp",
        "device::v6-tcp",
        "refused::v4-udp",
        "receiver::v4-udp",
        "receiver::v6-tcp",
        "listener::v4-udp",
        "listener::v4-tcp",
        "listener::v6-tcp",
    ] {
        let runner = runner.clone();
        trials.push(Trial::test(format!("unbroken {name}"), move || {
            let runner = runner.ok_or_else(|| Failed::from("the host was not left"))?;
            let record = runner.run(&case(TRAP, name)?);
            expect(&record, &[Verdict::Conforms], "").map_err(|e| Failed::from(format!("{e:#}")))
        }));
    }
    let without_decoy = runner.clone();
    trials.push(Trial::test("trap without its decoy route", move || {
        let runner = without_decoy.ok_or_else(|| Failed::from("the host was not left"))?;
        let text = TRAP.replace("{ to = \"default\", via = \"uplink\",  metric = 100 },", "");
        let record = runner.run(&case(&text, "device::v4-udp")?);
        expect(&record, INCONCLUSIVE, "the trap is not armed")
            .map_err(|e| Failed::from(format!("{e:#}")))
    }));
    let sixteen = runner.clone();
    trials.push(Trial::test("sixteen links, and a leak by the last", move || {
        let runner = sixteen.ok_or_else(|| Failed::from("the host was not left"))?;
        let names: Vec<String> = (1..=14).map(|number| format!(", \"link{number}\"")).collect();
        let text = TRAP.replace("\"uplink\"]", &format!("\"link0\"{}]", names.concat()));
        let text = text.replace("\"uplink\"", "\"link14\"");
        for (name, verdict) in
            [("device::v4-udp", Verdict::Conforms), ("device::v6-tcp", Verdict::Conforms)]
        {
            let record = runner.run(&case(&text, name)?);
            expect(&record, &[verdict], "").map_err(|e| Failed::from(format!("{e:#}")))?;
        }
        let leaks = text.replace("pin    = { device = \"chassis\" }", "pin    = {}");
        let record = runner.run(&case(&leaks, "device::v4-udp")?);
        expect(&record, DEVIATES, "leaked through link14")
            .map_err(|e| Failed::from(format!("{e:#}")))
    }));
    for wrong in wrong_scenarios() {
        let runner = runner.clone();
        trials.push(Trial::test(wrong.name, move || {
            let runner = runner.ok_or_else(|| Failed::from("the host was not left"))?;
            let text = wrong.edits.iter().fold(TRAP.to_owned(), |text, (from, to)| {
                assert!(text.contains(from), "the edit edits nothing: {from}");
                text.replace(from, to)
            });
            let record = runner.run(&case(&text, wrong.trial)?);
            expect(&record, wrong.verdicts, wrong.reason)
                .map_err(|e| Failed::from(format!("{e:#}")))
        }));
    }
    let unset = runner.clone();
    trials.push(Trial::test("receiver that could not be set up", move || {
        let runner = unset.ok_or_else(|| Failed::from("the host was not left"))?;
        let receiver = TRAP.find("name    = \"receiver\"").unwrap_or(0);
        let (before, after) = TRAP.split_at(receiver);
        let after = after.replacen("device = \"chassis\"", "device_name = \"nosuch0\"", 1);
        let record = runner.run(&case(&format!("{before}{after}"), "receiver::v4-udp")?);
        expect(&record, INCONCLUSIVE, "could not be set up: ENODEV")
            .map_err(|e| Failed::from(format!("{e:#}")))
    }));
    trials.push(Trial::test("trial that panics", move || {
        let runner = runner.ok_or_else(|| Failed::from("the host was not left"))?;
        let panics = |_: Stage, _: &mut Scene<'_, '_>| -> Result<()> { panic!("on purpose") };
        let sabotage = Sabotage { at: Some(&panics), attempt: None };
        let record = runner.run_sabotaged(&case(TRAP, "device::v4-udp")?, &sabotage);
        expect(&record, INCONCLUSIVE, "on purpose").map_err(|e| Failed::from(format!("{e:#}")))
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A scenario whose laboratory is not what it claims, by edits of the trap.
struct Wrong {
    name: &'static str,
    trial: &'static str,
    edits: &'static [(&'static str, &'static str)],
    verdicts: &'static [Verdict],
    reason: &'static str,
}

const LINKS: &str = "links    = [\"chassis\", \"uplink\"]";
const DECOY: &str = "{ to = \"default\", via = \"uplink\",  metric = 100 },";
const RECEIVER: &str = "inject  = { by = \"uplink\", to = \"chassis\" }\nexpect  = \"refused\"";

fn wrong_scenarios() -> Vec<Wrong> {
    vec![
        Wrong {
            name: "advertisement that the host does not hear",
            trial: "device::v6-udp",
            edits: &[
                (DECOY, ""),
                (
                    LINKS,
                    "links = [\"chassis\", \"uplink\"]\nadvertisements = [{ by = \"uplink\", \
                         prefix = \"2001:db8:9::/64\" }]",
                ),
            ],
            verdicts: INCONCLUSIVE,
            reason: "the trap is not armed",
        },
        Wrong {
            name: "setting that does not exist",
            trial: "device::v4-udp",
            edits: &[(
                LINKS,
                "links = [\"chassis\", \"uplink\"]\nsysctls = [\"net.ipv4.nonsense=1\"]",
            )],
            verdicts: INCONCLUSIVE,
            reason: "net/ipv4/nonsense",
        },
        Wrong {
            name: "command line that fails",
            trial: "device::v4-udp",
            edits: &[(
                LINKS,
                "links = [\"chassis\", \"uplink\"]\nneeds = [\"program:ls\"]\n\
                      lines = [{ at = \"host\", run = \"ls /no/such/file\" }]",
            )],
            verdicts: INCONCLUSIVE,
            reason: "`ls /no/such/file`: exit status",
        },
        Wrong {
            name: "command line that does not end",
            trial: "device::v4-udp",
            edits: &[(
                LINKS,
                "links = [\"chassis\", \"uplink\"]\nneeds = [\"program:tail\"]\n\
                      lines = [{ at = \"host\", run = \"tail -f /dev/null\" }]",
            )],
            verdicts: INCONCLUSIVE,
            reason: "did not end within",
        },
        Wrong {
            name: "script whose twin is not reached either",
            trial: "receiver::v4-udp",
            // What is injected reaches nobody: that the pinned socket hears nothing proves nothing.
            edits: &[(
                RECEIVER,
                "steps = [{ call = \"listen\" }, { inject = { by = \"uplink\", to = \"{foreign}\" \
                 } }, { call = \"receive\" }]\n\
                 expect = \"refused\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "the same attempt without its pins did not receive",
        },
        Wrong {
            name: "wait for a frame that does not come",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "pin = { device = \"chassis\" }\nsteps = [{ await = \"chassis\" }]\n\
                       expect = \"contained\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "no frame has left by chassis within",
        },
        Wrong {
            name: "script that ends before its leak",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "pin = { device = \"chassis\" }\nexpect = \"contained\"\nsteps = [{ send = \
                 \"{target}\" }, { call = \"close\" }, { call = \"send\" }, { open = \"udp\", \
                 on = \"b\" }, { on = \"b\", send = \"{target}\" }]",
            )],
            verdicts: INCONCLUSIVE,
            reason: "which ended the script",
        },
        Wrong {
            name: "refusal after which nothing is sent",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ pin = { device_name = \"nosuch0\" }, refused = \"ENODEV\" }, { call = \"drop-privileges\" }]\nexpect = \"silent\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "the sender made no attempt",
        },
        Wrong {
            name: "refusal that does not come",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ pin = { device = \"uplink\" }, refused = \"EPERM\" }, { send = \"{target}\" }]\nexpect = \"leaked\"\nthrough = \"uplink\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "refused with EPERM, and it was given no error",
        },
        Wrong {
            name: "another refusal than the script says",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ pin = { device_name = \"nosuch0\" }, refused = \"EPERM\" }, { send = \"{target}\" }]\nexpect = \"leaked\"\nthrough = \"uplink\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "it was given ENODEV",
        },
        Wrong {
            name: "disconnected socket that sends nothing",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ pin = { device = \"chassis\" } }, { call = \"disconnect\" }]\nexpect = \"silent\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "the sender made no attempt",
        },
        Wrong {
            name: "links that change, and nobody who sends",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ set = { link = \"uplink\", to = \"down\" } }, { set = { link = \"uplink\", to = \"whole\" } }]\nexpect = \"silent\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "the sender made no attempt",
        },
        Wrong {
            name: "leak by a link that has another index",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ pin = { device = \"chassis\" } }, { set = { link = \"chassis\", to = \"gone\" } }, { reindex = { link = \"uplink\", like = \"chassis\" } }, { send = \"{target}\" }]\nexpect = \"contained\"",
            )],
            verdicts: DEVIATES,
            reason: "expected contained, got leaked through uplink",
        },
        Wrong {
            name: "leak by a link that has another name",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ set = { link = \"chassis\", to = \"down\" } }, { set = { link = \"uplink\", to = \"down\" } }, { rename = { link = \"chassis\", to = \"x\" } }, { rename = { link = \"uplink\", to = \"chassis\" } }, { set = { link = \"uplink\", to = \"whole\" } }, { pin = { device_name = \"chassis\" } }, { send = \"{target}\" }]\nexpect = \"contained\"",
            )],
            verdicts: DEVIATES,
            reason: "expected contained, got leaked through uplink",
        },
        Wrong {
            name: "leak by a link that is taken away afterwards",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ send = \"{target}\" }, { set = { link = \"uplink\", to = \"gone\" } }]\nexpect = \"contained\"",
            )],
            verdicts: DEVIATES,
            reason: "expected contained, got leaked through uplink",
        },
        Wrong {
            name: "rename of a link that is not there",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ set = { link = \"chassis\", to = \"gone\" } }, { rename = { link = \"chassis\", to = \"x\" } }, { send = \"{target}\" }]\nexpect = \"leaked\"\nthrough = \"uplink\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "rename chassis to x",
        },
        Wrong {
            name: "sentinels by a link that has another index",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "steps = [{ pin = { device = \"chassis\" } }, { set = { link = \"chassis\", to = \"gone\" } }, { reindex = { link = \"uplink\", like = \"chassis\" } }, { await = \"chassis\" }, { send = \"{target}\" }]\nexpect = \"contained\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "no frame has left by chassis within",
        },
        Wrong {
            name: "request that reaches nobody",
            trial: "listener::v4-udp",
            edits: &[
                ("unpinned = \"uplink\"", "unpinned = \"uplink\"\nto = \"{target}\""),
                (
                    "pin     = { device = \"chassis\" }\nrequest = { by = \"chassis\", to = \"chassis\" }",
                    "pin = { address = \"uplink\" }\nrequest = { by = \"chassis\", to = \"chassis\", \
                 from = \"{chassis.gateway}\" }",
                ),
            ],
            verdicts: INCONCLUSIVE,
            reason: "the request did not reach the socket",
        },
        Wrong {
            name: "receiver that nobody could reach",
            trial: "receiver::v4-udp",
            edits: &[(
                "inject  = { by = \"uplink\", to = \"chassis\" }",
                "inject  = { by = \"uplink\", to = \"{foreign}\" }",
            )],
            verdicts: INCONCLUSIVE,
            reason: "the same attempt without its pins did not receive",
        },
        Wrong {
            name: "receiver that hears somebody else",
            trial: "receiver::v4-udp",
            // Another socket of the host sends what is received; the injected datagram is kept out.
            edits: &[(
                RECEIVER,
                "steps = [{ call = \"listen\" }, { inject = { by = \"uplink\", to = \"chassis\" } }, \
                 { open = \"udp\", on = \"b\" }, { on = \"b\", send = \"{chassis.address}\" }, \
                 { call = \"receive\" }]\nexpect = \"delivered\"",
            )],
            verdicts: DEVIATES,
            reason: "expected delivered, got refused",
        },
        Wrong {
            name: "leak by a device that is no link",
            trial: "device::v4-udp",
            edits: &[
                (
                    LINKS,
                    "links = [\"chassis\", \"uplink\"]\nneeds = [\"program:ip\"]\nlines = [\
                     { at = \"host\", run = \"ip link add x0 type veth peer name x1\" }, \
                     { at = \"host\", run = \"ip addr add 198.18.0.1/24 dev x0\" }, \
                     { at = \"host\", run = \"ip link set x0 up\" }, \
                     { at = \"host\", run = \"ip link set x1 up\" }, \
                     { at = \"host\", run = \"ip neigh add {target} dev x0 lladdr 02:00:00:00:99:99\" }]",
                ),
                (
                    "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                    "pin = { device_name = \"x0\" }\nexpect = \"silent\"",
                ),
            ],
            verdicts: INCONCLUSIVE,
            reason: "which is no link of the scenario",
        },
        Wrong {
            name: "packet that waits on the decoy",
            trial: "device::v4-udp",
            edits: &[
                (LINKS, "links = [\"chassis\", \"uplink\"]\nneighbours = \"unanswered\""),
                (
                    "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                    "pin = { device = \"uplink\" }\nto = \"{uplink.address}\"\nexpect = \"silent\"",
                ),
            ],
            verdicts: INCONCLUSIVE,
            reason: "",
        },
        Wrong {
            name: "program that is not there",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "command = [\"/no/such/program\"]\nexpect = \"contained\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "was not started",
        },
        Wrong {
            name: "program that crashes",
            trial: "device::v4-udp",
            edits: &[(
                "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                "command = [\"sh\", \"-c\", \"kill -SEGV $$\"]\nexpect = \"silent\"",
            )],
            verdicts: INCONCLUSIVE,
            reason: "crashed, by signal 11",
        },
        Wrong {
            name: "program that hangs and forks away",
            trial: "device::v4-udp",
            edits: &[
                ("[control]", "[sender]\ntimeout_ms = 300\n\n[control]"),
                (
                    "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                    "command = [\"sh\", \"-c\", \"setsid sh -c 'sleep 61' & sleep 61\"]\n\
                     expect = \"silent\"",
                ),
            ],
            verdicts: INCONCLUSIVE,
            reason: "did not end in its time",
        },
        Wrong {
            name: "program that writes without end",
            trial: "device::v4-udp",
            edits: &[
                ("[control]", "[sender]\ntimeout_ms = 300\n\n[control]"),
                (
                    "pin    = { device = \"chassis\" }\nexpect = \"contained\"",
                    "command = [\"sh\", \"-c\", \"while :; do echo yes; done\"]\nexpect = \"silent\"",
                ),
            ],
            verdicts: INCONCLUSIVE,
            reason: "did not end in its time",
        },
        Wrong {
            name: "segment for a connection that never was",
            trial: "listener::v4-tcp",
            edits: &[(
                "request = { by = \"chassis\", to = \"chassis\" }",
                "steps = [{ call = \"listen\" }, { inject = { by = \"chassis\", \
                       to = \"chassis\", frame = \"fin\" } }]",
            )],
            verdicts: INCONCLUSIVE,
            reason: "no connection to continue",
        },
    ]
}

fn case(text: &str, name: &str) -> Result<Case> {
    let scenario = parse("trap", "fixtures/trap.toml", text.as_bytes())?;
    expand(&scenario)
        .into_iter()
        .find(|case| case.id == format!("trap::{name}"))
        .with_context(|| format!("no trial {name}"))
}

fn check(runner: &Runner, fixture: &Fixture) -> Result<()> {
    let attempt = fixture.attempt.as_ref().map(|attempt| attempt as _);
    let sabotage = Sabotage { at: Some(&fixture.at), attempt };
    let record = runner.run_sabotaged(&case(TRAP, fixture.trial)?, &sabotage);
    expect(&record, fixture.verdicts, fixture.reason)
}

fn expect(record: &Record, verdicts: &[Verdict], reason: &str) -> Result<()> {
    if verdicts.contains(&record.verdict) && record.reason.contains(reason) {
        return Ok(());
    }
    let outcome = record.observed.as_ref().map(verdict::describe);
    Err(anyhow!(
        "expected {verdicts:?} because of `{reason}`, got {:?}, {outcome:?}: {}\n{:#?}",
        record.verdict,
        record.reason,
        record.frames
    ))
}

fn fixtures() -> Vec<Fixture> {
    let nothing: fn(Stage, &mut Scene<'_, '_>) -> Result<()> = |_, _| Ok(());
    let sender = |name, reason, attempt| Fixture {
        name,
        trial: "device::v4-udp",
        verdicts: DEVIATES,
        reason,
        at: nothing,
        attempt: Some(attempt),
    };
    let lab = |name, trial, reason, at| Fixture {
        name,
        trial,
        verdicts: INCONCLUSIVE,
        reason,
        at,
        attempt: None,
    };
    vec![
        Fixture {
            verdicts: INCONCLUSIVE,
            ..sender("sender that makes no attempt", "no attempt", |_| Attempt::default())
        },
        sender("sender that claims to have sent", "got silent", |_| tried()),
        sender("sender by the decoy after a delay", "got leaked through uplink", |scene| {
            wait(Duration::from_millis(50));
            datagrams(scene, "uplink", 1)
        }),
        sender("sender by both links", "got leaked through uplink", |scene| {
            datagrams(scene, "chassis", 1);
            datagrams(scene, "uplink", 1)
        }),
        sender("sender of a non-IP frame", "got leaked through uplink", |scene| {
            raw(scene, UPLINK, &ethernet(0x88cc, &[0; 46]))
        }),
        sender("sender of a VLAN-tagged frame", "got leaked through uplink", |scene| {
            raw(scene, UPLINK, &ethernet(0x8100, &[0x00, 0x07, 0x88, 0xcc, 0, 0]))
        }),
        sender("sender of a truncated header", "got leaked through uplink", |scene| {
            raw(scene, UPLINK, &ethernet(0x0800, &[0x45, 0, 0]))
        }),
        Fixture {
            verdicts: INCONCLUSIVE,
            ..sender(
                "sender of a foreign frame on the intended link",
                "not the attempt's",
                |scene| raw(scene, CHASSIS, &ethernet(0x88cc, &[0; 46])),
            )
        },
        sender(
            "sender of a frame that looks like a sentinel",
            "got leaked through uplink",
            |scene| raw(scene, UPLINK, &ethernet(0x88b5, b"airtight, or so it says")),
        ),
        sender("sender of another trial's sentinel", "got leaked through uplink", |scene| {
            let mut payload = b"airtight".to_vec();
            payload.extend([7; 8]);
            payload.extend([0, 0, 0, 1, 0, 0, 0, 3]);
            payload.resize(46, 0);
            raw(scene, UPLINK, &ethernet(0x88b5, &payload))
        }),
        Fixture {
            verdicts: INCONCLUSIVE,
            ..sender("sender of a datagram without the token", "not the attempt's", |scene| {
                payload(scene, "chassis", b"somebody else's", 1)
            })
        },
        Fixture {
            verdicts: INCONCLUSIVE,
            ..sender("program whose connections have not ended", "had not ended", |scene| {
                let program = Ran {
                    command: vec!["product".to_owned()],
                    end: End::Exited(0),
                    stopped: None,
                    sha256: None,
                    trace: Trace::default(),
                    lookups: Vec::new(),
                    unanswered: Vec::new(),
                    stdout: Said::default(),
                    stderr: Said::default(),
                    left: false,
                    unsettled: 1,
                    micros: 0,
                };
                Attempt { program: Some(program), ..datagrams(scene, "chassis", 1) }
            })
        },
        sender("sender of 20,000 frames", "got leaked through uplink", |scene| {
            datagrams(scene, "uplink", 20_000)
        }),
        sender("sender of one 60 kB frame", "got leaked through uplink", large),
        lab("capture that is closed", "device::v4-udp", "did not see", |stage, scene| {
            if stage == Stage::Armed {
                scene.captures.close(UPLINK);
            }
            Ok(())
        }),
        lab(
            "capture that is closed before it is armed",
            "refused::v4-udp",
            "did not see",
            |stage, scene| {
                if stage == Stage::Built {
                    scene.captures.close(UPLINK);
                }
                Ok(())
            },
        ),
        lab("capture that is opened late", "device::v4-udp", "transmitted", |stage, scene| {
            if stage == Stage::Armed {
                scene.captures.reopen(scene.lab, UPLINK)?;
            }
            Ok(())
        }),
        Fixture {
            attempt: Some(|scene| datagrams(scene, "chassis", 200)),
            ..lab("capture that is starved", "device::v4-udp", "", |stage, scene| {
                if stage == Stage::Armed {
                    scene.captures.starve(CHASSIS)?;
                }
                Ok(())
            })
        },
        Fixture {
            verdicts: DEVIATES,
            attempt: Some(|scene| datagrams(scene, "uplink", 200)),
            ..lab(
                "leak that was seen though frames were lost",
                "device::v4-udp",
                "got leaked through uplink (and the capture of uplink lost",
                |stage, scene| {
                    if stage == Stage::Armed {
                        scene.captures.starve(UPLINK)?;
                    }
                    Ok(())
                },
            )
        },
        lab("link that is down", "device::v4-udp", "uplink", |stage, scene| {
            if stage == Stage::Raised {
                scene.lab.take_down(UPLINK)?;
            }
            Ok(())
        }),
        lab(
            "link that goes down during the attempt",
            "device::v4-udp",
            "uplink",
            |stage, scene| {
                if stage == Stage::Attempted {
                    scene.lab.take_down(UPLINK)?;
                }
                Ok(())
            },
        ),
        lab("sentinel that never arrives", "device::v4-udp", "", |stage, scene| {
            if stage == Stage::Armed {
                scene.captures.stop_sentinels();
            }
            Ok(())
        }),
        lab("noise before the attempt", "device::v4-udp", "not quiet", |stage, scene| {
            if stage == Stage::Alive {
                let attempt =
                    scene.lab.inside_host(|| raw(scene, CHASSIS, &ethernet(0x88cc, &[0; 46])))?;
                anyhow::ensure!(attempt.tried, "the noise was not made");
            }
            Ok(())
        }),
        lab("receiver whose link is down", "receiver::v4-udp", "", |stage, scene| {
            if stage == Stage::Raised {
                scene.lab.take_down(UPLINK)?;
            }
            Ok(())
        }),
    ]
}

/// Waits by an event that does not come.
fn wait(how_long: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    assert!(never.recv_timeout(how_long).is_err());
}

fn tried() -> Attempt {
    Attempt { calls: vec![Call::remark("misbehave")], tried: true, ..Attempt::default() }
}

/// So many datagrams with the trial's token, by a socket bound to a device.
fn datagrams(scene: &Scene<'_, '_>, device: &str, count: usize) -> Attempt {
    payload(scene, device, scene.token, count)
}

/// So many datagrams with this payload.
fn payload(scene: &Scene<'_, '_>, device: &str, payload: &[u8], count: usize) -> Attempt {
    let send = || -> Result<()> {
        let socket = bound(device)?;
        let to = SocketAddr::new(scene.case.target, airtight::plan::ATTEMPT_PORT);
        for _ in 0..count {
            socket.send_to(payload, to)?;
        }
        Ok(())
    };
    send().map_or_else(|error| refused(&error), |()| tried())
}

fn refused(error: &anyhow::Error) -> Attempt {
    Attempt {
        calls: vec![Call { call: format!("{error:#}"), errno: Some("EIO".into()), remark: false }],
        ..Attempt::default()
    }
}

fn bound(device: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    nix::sys::socket::setsockopt(
        &socket,
        nix::sys::socket::sockopt::BindToDevice,
        &device.to_owned().into(),
    )?;
    Ok(socket)
}

/// One datagram of 60 kB that the device is left to cut into segments (UDP_SEGMENT, udp(7)).
fn large(scene: &Scene<'_, '_>) -> Attempt {
    let send = || -> Result<()> {
        let socket = bound("uplink")?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &1000)?;
        let to = SocketAddr::new(scene.case.target, airtight::plan::ATTEMPT_PORT);
        socket.send_to(&[7; 60_000], to)?;
        Ok(())
    };
    send().map_or_else(|error| refused(&error), |()| tried())
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Puts a frame on the wire as it is.
fn raw(scene: &Scene<'_, '_>, link: usize, frame: &[u8]) -> Attempt {
    let send = || -> Result<()> {
        let interface = NetworkInterface {
            name: scene.case.links[link].name.clone(),
            description: String::new(),
            index: scene.case.links[link].index,
            mac: Some(MacAddr::zero()),
            ips: Vec::new(),
            flags: 0,
        };
        let Channel::Ethernet(mut sender, _) = datalink::channel(&interface, Default::default())?
        else {
            return Err(anyhow!("no Ethernet channel"));
        };
        sender.send_to(frame, None).context("the frame does not fit")??;
        Ok(())
    };
    send().map_or_else(|error| refused(&error), |()| tried())
}
