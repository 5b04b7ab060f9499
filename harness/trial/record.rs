//! A trial's record: evidence plus verdict, as every report reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::phase_word;
use crate::capture::{Frame, Phase, decode};
use crate::plan::{Case, Role};
use crate::program::Ran;
use crate::scenario::{Carries, Guard, Outcome};
use crate::sender::{Attempt, Call};
use crate::verdict::{Arming, Closing, Judgement, Observed, Verdict};

/// Evidence plus verdict of one trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Record {
    /// The trial's id.
    pub id: String,
    /// The scenario's name.
    pub scenario: String,
    /// The case's name.
    pub case: String,
    /// The cell: axis to value.
    pub cell: BTreeMap<String, String>,
    /// The scenario's claim.
    pub title: String,
    /// Why it holds.
    pub why: String,
    /// Where it is written.
    pub refs: Vec<String>,
    /// The heading of the scenario's column in the lookup table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heading: Option<String>,
    /// The pin, in the words of the lookup table's rows.
    pub pin: String,
    /// How the socket under test takes part.
    pub role: Role,
    /// The guard that stood underneath.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// The file and the line of the expectation.
    pub place: String,
    /// What is expected.
    pub expect: Expected,
    /// What was observed; nothing where nothing was proved.
    pub observed: Option<Observed>,
    /// The verdict.
    pub verdict: Verdict,
    /// The verdict in words.
    pub reason: String,
    /// The proofs behind it.
    pub controls: Controls,
    /// The calls of the attempt.
    pub calls: Vec<Call>,
    /// What the program did, where one makes the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Ran>,
    /// The kernel's own decisions: which way it says that packets take, without and with the pins.
    pub decisions: Vec<Decision>,
    /// What the host under test could still send by itself when the window closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// What was waited for: frames by a timer or a workqueue of the kernel's, and devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
    /// The links, in the file's order.
    pub links: Vec<String>,
    /// The links that are intended.
    pub intended: Vec<String>,
    /// The frames that were captured, link by link in the order of the wire.
    pub frames: Vec<FrameRecord>,
    /// How long the trial took, in microseconds.
    pub micros: u64,
    /// Which of the result's runs it is of: 0 where there is one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub run: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The kernel's answer to a question for its route.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Decision {
    /// The question, as ip-route(8) takes it.
    pub query: String,
    /// The answer.
    pub answer: String,
}

/// A wait of a trial's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Wait {
    /// What was waited for.
    #[serde(rename = "for")]
    pub what: String,
    /// How long, in microseconds.
    pub micros: u64,
}

impl Wait {
    pub(super) fn new(what: impl Into<String>, took: Duration) -> Wait {
        Wait { what: what.into(), micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) }
    }
}

/// What is expected of a trial, as the scenario has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Expected {
    /// The outcome.
    pub outcome: Outcome,
    /// The decoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// The source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// The call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// What the frames are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carries: Option<Carries>,
}

/// The proofs behind a verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Controls {
    /// The links that the unpinned control went through. Empty: the trap was not armed.
    pub unpinned: Vec<String>,
    /// For each link, whether its sentinels were seen: first, behind the control, behind the
    /// attempt.
    pub sentinels: BTreeMap<String, [bool; 3]>,
    /// Where the reception of a script is judged: whether the same script without its pins
    /// received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<bool>,
    /// Where it must be shown that the program would have sent: the frames that it sent in the
    /// rehearsal, without the changes of the laboratory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<u64>,
    /// Of a guard: what the same attempt has come to without it, in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unguarded: Option<String>,
    /// Whether nothing but the control was seen before the attempt.
    pub quiet: bool,
    /// For each link, the frames that its capture lost.
    pub drops: BTreeMap<String, u64>,
    /// For each link, the frames transmitted and captured.
    pub counters: BTreeMap<String, Counter>,
}

/// The two witnesses of a link.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Counter {
    /// What the near end's transmit counter says.
    pub transmitted: Option<u64>,
    /// What the capture on the far end saw.
    pub captured: u64,
}

/// A captured frame, as records have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct FrameRecord {
    /// The link's name.
    pub link: String,
    /// The part of the trial.
    pub phase: String,
    /// `sentinel`, `frame`, or `leak`.
    pub role: String,
    /// When the kernel saw it, in nanoseconds since the epoch.
    pub at_ns: u64,
    /// Its true length in bytes.
    pub length: usize,
    /// The VLAN tag's protocol and control information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<(u16, u16)>,
    /// What it says.
    pub summary: String,
    /// Its bytes in hexadecimal, as far as they are kept.
    #[serde(with = "hexadecimal", rename = "hex")]
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub bytes: Vec<u8>,
}

impl FrameRecord {
    /// Whether the verdict is about it: no sentinel, and sent in the attempt or behind it, or a leak of
    /// the rehearsal, which is one like any other.
    pub fn judged(&self) -> bool {
        let attempt = ["attempt", "drained"].contains(&self.phase.as_str());
        self.role == "leak" || (attempt && self.role != "sentinel")
    }
}

/// Bytes as a string of hexadecimal digits.
mod hexadecimal {
    use serde::de::{Deserialize, Deserializer, Error};

    pub(super) fn serialize<S: serde::Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        serializer.serialize_str(&digits.collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let pairs = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2);
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        bytes.ok_or_else(|| D::Error::custom("these are no bytes in hexadecimal digits"))
    }
}

/// Everything that a trial has gathered.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) arming: Arming,
    pub(super) closing: Closing,
    pub(super) unpinned: Vec<String>,
    pub(super) attempt: Attempt,
    pub(super) frames: Vec<Frame>,
    pub(super) decisions: Vec<Decision>,
    /// What other devices than links had transmitted when the trap was armed.
    pub(super) others: BTreeMap<String, u64>,
    /// What the attempt has come to without the guard.
    pub(super) unguarded: Option<String>,
    /// The links that had to be brought up again so that their wires could be drained.
    pub(super) revived: Vec<String>,
    /// What was waited for.
    pub(super) waits: Vec<Wait>,
}

impl Record {
    pub(super) fn new(case: &Case, evidence: Evidence, judgement: Judgement) -> Record {
        let Evidence {
            arming,
            closing,
            unpinned,
            mut attempt,
            frames,
            decisions,
            others: _,
            unguarded,
            revived,
            waits,
        } = evidence;
        let back = |link| format!("{link} is brought up again, so that its wire can be drained");
        attempt.calls.extend(revived.iter().map(|link| Call::remark(back(link))));
        let pending = closing.pending.iter().map(|(_, what)| what.clone()).collect();
        let seen = |list: &[bool], at: usize| list.get(at).copied().unwrap_or(false);
        let links = || case.links.iter().map(|link| link.name.clone()).enumerate();
        let controls = Controls {
            quiet: !unpinned.is_empty(),
            twin: arming.twin,
            rehearsal: arming.rehearsal.as_ref().map(|_| rehearsed(&frames)),
            unguarded,
            unpinned,
            sentinels: links()
                .map(|(at, name)| {
                    let rounds = [&arming.alive, &arming.settled, &closing.drained];
                    (name, rounds.map(|round| seen(round, at)))
                })
                .collect(),
            drops: links()
                .map(|(at, name)| (name, closing.tallies.get(at).map_or(0, |t| t.dropped)))
                .collect(),
            counters: links()
                .map(|(at, name)| {
                    let captured = closing.tallies.get(at).map_or(0, |tally| tally.captured);
                    let transmitted = closing.transmitted.get(at).copied();
                    (name, Counter { transmitted, captured })
                })
                .collect(),
        };
        let frames = frames.into_iter().map(|frame| frame_record(case, frame)).collect();
        Record {
            observed: judgement.observed,
            verdict: judgement.verdict,
            reason: judgement.reason,
            controls,
            calls: attempt.calls,
            program: attempt.program,
            decisions,
            pending,
            waits,
            frames,
            ..Record::empty(case)
        }
    }

    /// The record of a trial that we could not make.
    pub(super) fn failed(case: &Case, error: &anyhow::Error) -> Record {
        Record { reason: format!("{error:#}"), ..Record::empty(case) }
    }

    /// The record of a trial that was decided not to be made.
    pub fn skipped(case: &Case, reason: &str) -> Record {
        Record { verdict: Verdict::Skipped, reason: reason.to_owned(), ..Record::empty(case) }
    }

    /// A record that says nothing yet, and so is inconclusive.
    fn empty(case: &Case) -> Record {
        let expect = &case.expect;
        let carries = (expect.outcome == Outcome::Contained).then_some(expect.carries);
        let intended = case.links.iter().zip(&case.intended).filter(|(_, intended)| **intended);
        Record {
            id: case.id.clone(),
            scenario: case.scenario.clone(),
            case: case.name.clone(),
            cell: BTreeMap::from([
                ("family".to_owned(), case.family.word().to_owned()),
                ("transport".to_owned(), case.transport.word().to_owned()),
            ]),
            title: case.title.clone(),
            why: case.why.clone(),
            refs: case.refs.clone(),
            heading: case.heading.clone(),
            pin: case.pin.clone(),
            role: case.role,
            guard: case.guard.as_ref().map(|guard| guard.kind),
            place: format!("{}:{}", case.path, case.line),
            expect: Expected {
                outcome: expect.outcome,
                through: expect.through.clone(),
                source: expect.source.clone(),
                errno: expect.errno.clone(),
                call: expect.call.clone(),
                carries,
            },
            observed: None,
            verdict: Verdict::Inconclusive,
            reason: "nothing was tried".to_owned(),
            controls: Controls::default(),
            calls: Vec::new(),
            program: None,
            decisions: Vec::new(),
            pending: Vec::new(),
            waits: Vec::new(),
            links: case.links.iter().map(|link| link.name.clone()).collect(),
            intended: intended.map(|(link, _)| link.name.clone()).collect(),
            frames: Vec::new(),
            micros: 0,
            run: 0,
        }
    }
}

fn rehearsed(frames: &[Frame]) -> u64 {
    let of = |frame: &&Frame| !frame.sentinel && frame.phase == Phase::Rehearsal;
    frames.iter().filter(of).count() as u64
}

fn frame_record(case: &Case, frame: Frame) -> FrameRecord {
    let tried = frame.phase >= Phase::Attempt || frame.phase == Phase::Rehearsal;
    let stray = tried && !case.intended[frame.link];
    let (role, summary) = match (frame.sentinel, stray) {
        (true, _) => ("sentinel", "sentinel".to_owned()),
        (false, true) => ("leak", decode(&frame.bytes).to_string()),
        (false, false) => ("frame", decode(&frame.bytes).to_string()),
    };
    FrameRecord {
        link: case.links[frame.link].name.clone(),
        phase: phase_word(frame.phase).to_owned(),
        role: role.to_owned(),
        at_ns: frame.at_ns,
        length: frame.length,
        vlan: frame.vlan,
        summary,
        bytes: frame.bytes,
    }
}
