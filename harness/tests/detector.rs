//! The detector is tested too: senders that misbehave in one known way and laboratories that are
//! broken in one known place, each of which must end in the stated verdict. None may conform.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

mod broken;
mod front;
mod senders;
mod wrong;

use std::process::ExitCode;
use std::time::Duration;

use airtight::program::{End, Ran, Said, Trace};
use airtight::sender::Attempt;
use airtight::trial::Stage;
use airtight::verdict::Verdict::{Conforms, Deviates, Inconclusive};
use broken::{Fixture, fixture};
use senders::{datagrams, ethernet, large, payload, raw, tried, wait};

const TRAP: &str = include_str!("../../fixtures/trap.toml");
/// The links of the trap, by their places.
const CHASSIS: usize = 0;
const UPLINK: usize = 1;

fn main() -> ExitCode {
    let fixtures = unbroken().chain(fixtures()).chain(wrong::fixtures()).chain(wrong::sixteen());
    front::main(Some(8), fixtures.map(Fixture::test).collect())
}

fn unbroken() -> impl Iterator<Item = Fixture> {
    let trials = [
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
    ];
    trials.into_iter().map(|trial| fixture(format!("unbroken {trial}"), TRAP, trial, Conforms, ""))
}

fn fixtures() -> Vec<Fixture> {
    let sender = |name: &str, reason, attempt| Fixture {
        attempt: Some(attempt),
        ..fixture(name, TRAP, "device::v4-udp", Deviates, reason)
    };
    let lab = |name: &str, trial, reason, at| Fixture {
        at,
        ..fixture(name, TRAP, trial, Inconclusive, reason)
    };
    vec![
        Fixture {
            verdict: Inconclusive,
            ..sender("sender that makes no attempt", "no attempt", |_| Ok(Attempt::default()))
        },
        sender("sender that claims to have sent", "got silent", |_| Ok(tried())),
        sender("sender by the decoy after a delay", "got leaked through uplink", |scene| {
            wait(Duration::from_millis(50));
            datagrams(scene, "uplink", 1)
        }),
        sender("sender by both links", "got leaked through uplink", |scene| {
            datagrams(scene, "chassis", 1)?;
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
            verdict: Inconclusive,
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
            verdict: Inconclusive,
            ..sender("sender of a datagram without the token", "not the attempt's", |scene| {
                payload(scene, "chassis", b"somebody else's", 1)
            })
        },
        Fixture {
            verdict: Inconclusive,
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
                Ok(Attempt { program: Some(program), ..datagrams(scene, "chassis", 1)? })
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
            verdict: Deviates,
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
                scene.lab.inside_host(|| raw(scene, CHASSIS, &ethernet(0x88cc, &[0; 46])))??;
            }
            Ok(())
        }),
        lab("receiver whose link is down", "receiver::v4-udp", "", |stage, scene| {
            if stage == Stage::Raised {
                scene.lab.take_down(UPLINK)?;
            }
            Ok(())
        }),
        lab("trial that panics", "device::v4-udp", "on purpose", |_, _| panic!("on purpose")),
    ]
}
