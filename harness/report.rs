//! Records to everything that a person or a machine reads. Pure: records in, text out.
//!
//! It must not know how a trial is made, nor judge one: what a record does not say is not said.

pub mod explain;
pub mod human;
pub mod json;
#[cfg(feature = "cli")]
pub mod pcapng;
pub mod programs;
pub mod result;
pub mod table;

/// A record of a leak, for the tests of each report.
#[cfg(test)]
mod sample {
    use std::collections::BTreeMap;

    use crate::plan::Role;
    use crate::scenario::{Carries, Outcome};
    use crate::sender::Call;
    use crate::trial::{Controls, Counter, Expected, FrameRecord, Record};
    use crate::verdict::{Observed, Verdict};

    /// A sentinel and a leak on `uplink`, whose proofs all stand.
    pub(super) fn record() -> Record {
        let both = || ["chassis".to_owned(), "uplink".to_owned()];
        let frame = |phase: &str, role: &str, at_ns, summary: &str| FrameRecord {
            link: "uplink".to_owned(),
            phase: phase.to_owned(),
            role: role.to_owned(),
            at_ns,
            length: 60,
            vlan: None,
            summary: summary.to_owned(),
            bytes: (0..42).collect(),
        };
        Record {
            id: "basics/sample::device::v4-udp".to_owned(),
            scenario: "basics/sample".to_owned(),
            case: "device".to_owned(),
            cell: [("family", "v4"), ("transport", "udp")]
                .map(|(axis, value)| (axis.to_owned(), value.to_owned()))
                .into(),
            title: "A sample\u{1b}[2J".to_owned(),
            why: "Because.".to_owned(),
            refs: vec!["catalogue C1".to_owned()],
            heading: None,
            pin: "device".to_owned(),
            role: Role::Sends,
            place: "scenarios/basics/sample.toml:40".to_owned(),
            expect: Expected {
                outcome: Outcome::Contained,
                through: None,
                source: None,
                errno: None,
                call: None,
                carries: Some(Carries::Data),
            },
            observed: Some(Observed {
                outcome: Outcome::Leaked,
                through: vec!["uplink".to_owned()],
                source: None,
                errno: None,
                call: None,
                carries: None,
            }),
            verdict: Verdict::Deviates,
            reason: "expected contained, got leaked through uplink".to_owned(),
            controls: Controls {
                unpinned: vec!["uplink".to_owned()],
                sentinels: both().map(|link| (link, [true; 3])).into(),
                twin: None,
                rehearsal: None,
                quiet: true,
                drops: both().map(|link| (link, 0)).into(),
                counters: BTreeMap::from([
                    ("chassis".to_owned(), Counter { transmitted: Some(0), captured: 0 }),
                    ("uplink".to_owned(), Counter { transmitted: Some(2), captured: 2 }),
                ]),
            },
            calls: vec![Call {
                call: "sendto".to_owned(),
                errno: Some("ENODEV".to_owned()),
                remark: false,
            }],
            program: None,
            decisions: Vec::new(),
            pending: Vec::new(),
            links: both().into(),
            intended: vec!["chassis".to_owned()],
            frames: vec![
                frame("control", "sentinel", 1_790_000_000_000_000_000, "sentinel"),
                frame(
                    "attempt",
                    "leak",
                    1_790_000_000_000_400_000,
                    "UDP 192.0.2.17:40922 > 203.0.113.9:7",
                ),
            ],
            micros: 2100,
        }
    }
}
