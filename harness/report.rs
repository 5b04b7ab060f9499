//! Records to everything that a person or a machine reads. Pure: records in, text out.
//!
//! It must not know how a trial is made, nor judge one: what a record does not say is not said.

#[cfg(feature = "cli")]
pub mod compliance;
pub mod diff;
pub mod explain;
pub mod github;
mod gitlab;
pub mod guards;
#[cfg(feature = "cli")]
pub mod html;
pub mod human;
pub mod json;
mod junit;
pub mod merge;
#[cfg(feature = "cli")]
pub mod oscal;
#[cfg(feature = "cli")]
pub mod pcapng;
pub mod programs;
pub mod result;
mod sarif;
mod summary;
pub mod table;
mod tap;
mod text;

/// Makes a file of a result.
pub type Render = fn(&result::Document) -> anyhow::Result<Vec<u8>>;

/// Every file that `airtight report` writes, and what makes it.
pub const FILES: &[(&str, Render)] = &[
    ("result.json", |document| Ok(json::document(document)?.into_bytes())),
    ("junit.xml", |document| Ok(junit::render(document).into_bytes())),
    ("results.sarif", |document| Ok(sarif::render(document)?.into_bytes())),
    ("results.tap", |document| Ok(tap::render(document).into_bytes())),
    ("gl-code-quality.json", |document| Ok(gitlab::render(document)?.into_bytes())),
    ("summary.md", |document| Ok(summary::render(document).into_bytes())),
    #[cfg(feature = "cli")]
    ("report.html", |document| Ok(html::page(document)?.into_bytes())),
];

/// A record of a leak, for the tests of each report.
#[cfg(test)]
pub(crate) mod sample {
    use std::collections::BTreeMap;

    use super::result::{Document, Run};
    use crate::plan::Role;
    use crate::program::{End, Lookup, Ran, Said, Trace, TracedCall, TracedSocket};
    use crate::scenario::{Carries, Outcome};
    use crate::sender::Call;
    use crate::trial::{Controls, Counter, Expected, FrameRecord, Record};
    use crate::verdict::{Observed, Verdict};

    /// A whole result of a leak, and of records with these verdicts beside it.
    pub(super) fn document(verdicts: &[Verdict]) -> Document {
        let mut document = Document::new(Run { planned: 1 + verdicts.len(), ..Run::default() });
        document.records.push(record());
        for verdict in verdicts {
            let case = format!("{}-{}", verdict.word(), document.records.len());
            let id = format!("basics/sample::{case}::v4-udp");
            let reason = format!("it {}", verdict.word());
            let more = Record { id, case, verdict: *verdict, reason, ..record() };
            document.records.push(more);
        }
        document.sum();
        document
    }

    /// Text that every format must show and none may interpret.
    pub(super) const HOSTILE: &str = "</failure><script>alert(1)</script>]]>&lt;\u{1b}[31m\u{202e}\
        \n::error file=x::y%0A::add-mask::z\r##[add-matcher]m\n  ---\nnot ok 1 # SKIP\n```\n| a | \
        **b** <img src=x onerror=alert(1)>\u{0}\u{ffff}\u{fffd}\"'\\";

    /// A record all of whose texts are hostile, and whose program has said a million lines.
    pub(super) fn hostile() -> Record {
        let text = || HOSTILE.to_owned();
        let said = format!("{HOSTILE}\n").repeat(1_000_000 / HOSTILE.lines().count());
        Record {
            id: text(),
            scenario: text(),
            case: text(),
            title: text(),
            why: text(),
            place: format!("{HOSTILE}:40"),
            reason: text(),
            program: Some(Ran {
                command: vec![text(), text()],
                end: End::NotStarted(text()),
                stopped: None,
                sha256: None,
                trace: Trace {
                    sockets: vec![TracedSocket {
                        kind: text(),
                        process: text(),
                        calls: vec![TracedCall {
                            call: text(),
                            held: Some(text()),
                            times: 2,
                            refused: Some(text()),
                        }],
                    }],
                    untraced: Some(text()),
                    ..Trace::default()
                },
                lookups: vec![Lookup { name: text(), kind: text(), link: text() }],
                unanswered: vec![text()],
                stdout: Said { bytes: said.len() as u64, text: said },
                stderr: Said::default(),
                left: false,
                unsettled: 0,
                micros: 1,
            }),
            ..record()
        }
    }

    /// A sentinel and a leak on `uplink`, whose proofs all stand.
    pub(crate) fn record() -> Record {
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
            guard: None,
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
                unguarded: None,
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
            waits: Vec::new(),
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
            run: 0,
        }
    }
}
