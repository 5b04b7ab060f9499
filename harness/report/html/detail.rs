//! All that there is to say of one trial, as its template takes it.

use serde::Serialize;

use super::list::{expected, observed};
use super::{Badge, grouped, lab, outcome_sign, timeline, verdict, verdict_badge};
use crate::plan::Role;
use crate::program::{End, Ran, Said};
use crate::report::human;
use crate::report::pcapng as capture;
use crate::sender::Call;
use crate::trial::{FrameRecord, Record};

/// How many frames of a trial the page keeps, leaks first.
const FRAMES_MAX: usize = 256;
/// How many bytes of frames it keeps of one trial before it cuts each to `CUT_BYTES`.
const BYTES_MAX: usize = 128 << 10;
const CUT_BYTES: usize = 256;
/// How many bytes of a frame are shown; the capture has all that are kept.
const HEX_BYTES: usize = 512;
/// How much of what a program said is shown of each stream.
const SAID_LINES: usize = 200;
const SAID_BYTES: usize = 8 << 10;

/// The frames that the page keeps of a trial.
pub(super) struct Kept {
    /// Their places in the record.
    frames: Vec<usize>,
    bytes_max: usize,
    /// What was left out, in words; empty: nothing.
    note: String,
}

/// What the page keeps of this record's frames. A flood of them must not drown the page, and no leak
/// must drown in the flood.
pub(super) fn kept(record: &Record) -> Kept {
    let weight = |frame: &FrameRecord| match timeline::kind(frame) {
        "leak" => 0,
        "attempt" => 1,
        "control" => 2,
        "before" => 3,
        _ => 4,
    };
    let total = record.frames.len();
    let mut frames: Vec<usize> = (0..total).collect();
    let mut notes = Vec::new();
    if total > FRAMES_MAX {
        frames.sort_by_key(|at| weight(&record.frames[*at]));
        frames.truncate(FRAMES_MAX);
        frames.sort_unstable();
        notes.push(format!("{FRAMES_MAX} of {} frames are kept here, leaks first", grouped(total)));
    }
    let bytes: usize = frames.iter().map(|at| record.frames[*at].bytes.len()).sum();
    let bytes_max = if bytes > BYTES_MAX { CUT_BYTES } else { usize::MAX };
    if bytes > BYTES_MAX {
        notes.push(format!("of each at most {CUT_BYTES} bytes"));
    }
    if !notes.is_empty() {
        notes.push("what `airtight run --out DIR` writes has all that were captured".to_owned());
    }
    Kept { frames, bytes_max, note: notes.join("; ") }
}

/// The capture of what is kept, or why there is none.
pub(super) fn pcapng(record: &Record, kept: &Kept) -> Result<Vec<u8>, String> {
    if kept.frames.is_empty() {
        return Err(String::new());
    }
    let written = if kept.note.is_empty() {
        capture::write(record)
    } else {
        let mut less = record.clone();
        less.frames = kept.frames.iter().map(|at| record.frames[*at].clone()).collect();
        less.frames.iter_mut().for_each(|frame| frame.bytes.truncate(kept.bytes_max));
        capture::write(&less)
    };
    // A record that contradicts itself is told as far as it goes.
    written.map_err(|error| format!("no capture can be made of these frames: {error:#}"))
}

/// A trial's description.
#[derive(Serialize)]
pub(super) struct Detail {
    id: String,
    anchor: String,
    title: String,
    why: String,
    refs: Vec<Reference>,
    facts: Vec<(&'static str, String)>,
    verdict: Badge,
    expected: String,
    observed: String,
    sign: &'static str,
    kind: &'static str,
    /// Why, where that is more than what is expected and observed.
    reason: String,
    lab: lab::Drawing,
    timeline: Option<timeline::Drawing>,
    controls: Controls,
    decisions: Vec<(String, String)>,
    calls: Vec<(String, String)>,
    program: Option<Program>,
    frames: Vec<Frame>,
    left_out: String,
    /// What the capture is called; empty: there is none.
    file: String,
    /// Why there is none.
    no_file: String,
    again: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct Reference {
    text: String,
    /// Whether it is an address that a browser may be led to.
    leads: bool,
}

#[derive(Serialize)]
struct Controls {
    summary: String,
    proofs: Vec<Proof>,
    links: Vec<Link>,
    rounds: [&'static str; 3],
}

/// One proof, whether it stands, and what it showed.
#[derive(Serialize)]
struct Proof {
    name: &'static str,
    stands: bool,
    words: String,
}

#[derive(Serialize)]
struct Link {
    name: String,
    role: &'static str,
    sentinels: [bool; 3],
    drops: String,
    transmitted: String,
    captured: u64,
    agree: bool,
}

#[derive(Serialize)]
struct Program {
    command: String,
    end: String,
    sha256: String,
    millis: String,
    /// The calls that decided its way out.
    trace: String,
    streams: Vec<Stream>,
}

#[derive(Serialize)]
struct Stream {
    name: &'static str,
    text: String,
    note: String,
}

#[derive(Serialize)]
struct Frame {
    number: usize,
    at: String,
    link: String,
    phase: String,
    kind: &'static str,
    length: usize,
    vlan: String,
    summary: String,
    hex: String,
    hex_note: String,
    /// Whether its bytes are shown at once.
    open: bool,
}

/// The description of this record, with the frames that are kept.
pub(super) fn detail(
    record: &Record,
    kept: &Kept,
    capture: &Result<Vec<u8>, String>,
    anchor: &str,
) -> Detail {
    let word = |axis: &str| record.cell.get(axis).cloned().unwrap_or_default();
    let role = match record.role {
        Role::Sends => "sends first",
        Role::Answers => "answers a gateway",
        Role::Receives => "is sent to by a gateway",
        Role::Script => "does what the script says",
    };
    let outcome = record.observed.as_ref().map(|observed| observed.outcome);
    let mut facts = vec![
        ("pin", record.pin.clone()),
        ("family", word("family")),
        ("transport", word("transport")),
        ("the socket", role.to_owned()),
    ];
    if let Some(source) = record.observed.as_ref().and_then(|observed| observed.source.clone()) {
        facts.push(("source", source));
    }
    facts.push(("expectation", record.place.clone()));
    facts.push(("took", millis(record.micros)));
    let reference = |text: &String| {
        let leads = text.starts_with("https://") && !text.contains(char::is_whitespace);
        Reference { text: text.clone(), leads }
    };
    // What merely happened meanwhile has no answer.
    let answer = |call: &Call| match (&call.errno, call.remark) {
        (Some(errno), _) => errno.clone(),
        (None, false) => "granted".to_owned(),
        (None, true) => String::new(),
    };
    let frames = frames(record, kept);
    Detail {
        id: record.id.clone(),
        anchor: anchor.to_owned(),
        title: record.title.clone(),
        why: record.why.clone(),
        refs: record.refs.iter().map(reference).collect(),
        facts,
        verdict: verdict_badge(verdict(record)),
        expected: expected(record),
        observed: observed(record),
        sign: outcome_sign(outcome),
        kind: outcome.map_or("untried", |outcome| outcome.word()),
        reason: match record.reason == observed(record) || record.reason.starts_with("expected ") {
            true => String::new(),
            false => record.reason.clone(),
        },
        lab: lab::drawing(record),
        timeline: timeline::drawing(record),
        controls: controls(record),
        decisions: record.decisions.iter().map(|d| (d.query.clone(), d.answer.clone())).collect(),
        calls: record.calls.iter().map(|c| (c.call.clone(), answer(c))).collect(),
        program: record.program.as_ref().map(|ran| program(record, ran)),
        left_out: kept.note.clone(),
        file: capture.as_ref().map_or_else(|_| String::new(), |_| file(&record.id)),
        no_file: capture.as_ref().err().cloned().unwrap_or_default(),
        frames,
        again: again(record),
    }
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1e3)
}

fn file(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    id.chars().map(plain).collect::<String>() + ".pcapng"
}

fn controls(record: &Record) -> Controls {
    let controls = &record.controls;
    let list = |names: &[String], none: &str| {
        if names.is_empty() { none.to_owned() } else { names.join(", ") }
    };
    let mut proofs = vec![
        Proof {
            name: "the trap is armed",
            stands: !controls.unpinned.is_empty(),
            words: match controls.unpinned.as_slice() {
                [] => "no unpinned sender was seen to leave by the decoy".to_owned(),
                links => format!("unpinned, it goes through {}", links.join(", ")),
            },
        },
        Proof {
            name: "the wires are quiet",
            stands: controls.quiet,
            words: match controls.quiet {
                true => "nothing but the control before the attempt".to_owned(),
                false => "not proved".to_owned(),
            },
        },
    ];
    if let Some(twin) = controls.twin {
        proofs.push(Proof {
            name: "the twin",
            stands: true,
            words: match twin {
                true => "the same without its pins received".to_owned(),
                false => "the same without its pins did not receive either".to_owned(),
            },
        });
    }
    if !record.pending.is_empty() {
        proofs.push(Proof {
            name: "still under way",
            stands: false,
            words: list(&record.pending, "nothing"),
        });
    }
    if !record.waits.is_empty() {
        let waits = record.waits.iter().map(|w| format!("{} ({})", w.what, millis(w.micros)));
        proofs.push(Proof {
            name: "waited for",
            stands: true,
            words: list(&waits.collect::<Vec<_>>(), "nothing"),
        });
    }
    if let Some(unsettled) = record.program.as_ref().map(|ran| ran.unsettled).filter(|n| *n > 0) {
        proofs.push(Proof {
            name: "still under way",
            stands: false,
            words: human::plural(unsettled as u64, "connection") + " of the program",
        });
    }
    let link = |link: &String| {
        let counter = controls.counters.get(link);
        let transmitted = counter.and_then(|counter| counter.transmitted);
        let captured = counter.map_or(0, |counter| counter.captured);
        let number = |n: Option<u64>| n.map_or_else(|| "not counted".to_owned(), |n| n.to_string());
        Link {
            name: link.clone(),
            role: if record.intended.contains(link) { "intended" } else { "decoy" },
            sentinels: controls.sentinels.get(link).copied().unwrap_or_default(),
            drops: number(controls.drops.get(link).copied()),
            transmitted: number(transmitted),
            captured,
            agree: transmitted == Some(captured),
        }
    };
    Controls {
        summary: human::controls(record),
        proofs,
        links: record.links.iter().map(link).collect(),
        rounds: human::ROUNDS,
    }
}

fn program(record: &Record, ran: &Ran) -> Program {
    let stream = |name, said: &Said| {
        let mut end = said.text.floor_char_boundary(SAID_BYTES);
        if let Some((at, _)) = said.text.match_indices('\n').nth(SAID_LINES - 1) {
            end = end.min(at + 1);
        }
        let text = said.text[..end].to_owned();
        let left_out = (text.len() as u64) < said.bytes;
        let note = match (said.bytes, left_out) {
            (0, _) => "said nothing".to_owned(),
            (bytes, false) => human::plural(bytes, "byte"),
            (bytes, true) => format!(
                "the first {} of {} bytes; the rest is not shown",
                grouped(text.len()),
                grouped(usize::try_from(bytes).unwrap_or(usize::MAX))
            ),
        };
        Stream { name, text, note }
    };
    Program {
        command: ran.command.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" "),
        end: match &ran.end {
            End::Exited(status) => format!("exit status {status}"),
            End::Signalled(signal) => format!("ended by signal {signal}"),
            End::NotStarted(why) => format!("not started: {why}"),
            End::TimedOut => "did not end in its time, and was killed".to_owned(),
            End::Panicked(words) => format!("panicked: {words}"),
        },
        sha256: ran.sha256.clone().unwrap_or_default(),
        millis: millis(ran.micros),
        trace: human::traced(record, ran),
        streams: vec![
            stream("standard output", &ran.stdout),
            stream("standard error", &ran.stderr),
        ],
    }
}

fn frames(record: &Record, kept: &Kept) -> Vec<Frame> {
    let start = record.frames.iter().map(|frame| frame.at_ns).min().unwrap_or(0);
    let leak = kept.frames.iter().copied().find(|at| record.frames[*at].role == "leak");
    let frame = |at: &usize| {
        let frame = &record.frames[*at];
        let shown_bytes = frame.bytes.len().min(HEX_BYTES).min(kept.bytes_max);
        let hex_note = match shown_bytes < frame.length {
            true => format!("the first {shown_bytes} of {} bytes", grouped(frame.length)),
            false => String::new(),
        };
        Frame {
            number: at + 1,
            at: format!("{:.3}", frame.at_ns.saturating_sub(start) as f64 / 1e6),
            link: frame.link.clone(),
            phase: frame.phase.clone(),
            kind: timeline::kind(frame),
            length: frame.length,
            vlan: frame.vlan.map_or_else(String::new, |(_, tag)| format!("VLAN {}", tag & 0xfff)),
            summary: frame.summary.clone(),
            hex: hexadecimal(&frame.bytes[..shown_bytes]),
            hex_note,
            open: Some(*at) == leak,
        }
    };
    let mut ordered = kept.frames.clone();
    ordered.sort_by_key(|at| timeline::order(&record.frames[*at]));
    ordered.iter().map(frame).collect()
}

/// Bytes as hexdump(1) has them: offset, sixteen bytes, what of them is ASCII.
fn hexadecimal(bytes: &[u8]) -> String {
    let line = |(at, chunk): (usize, &[u8])| {
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
        let text: String = chunk.iter().map(ascii).collect();
        format!("{:04x}  {:<47}  {text}\n", at * 16, digits.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

/// What makes the trial again. A trial outside the catalogue is made again by its file; one of a
/// product needs the product's own command line.
fn again(record: &Record) -> Vec<(&'static str, String)> {
    let file = record.place.rsplit_once(':').map_or(record.place.as_str(), |(file, _)| file);
    let id = shell(&record.id);
    if file != format!("scenarios/{}.toml", record.scenario) {
        return vec![(
            "make it again, with all trials of its file",
            format!("airtight run {}", shell(file)),
        )];
    }
    if record.scenario.starts_with("product/") {
        return vec![("make it again", format!("airtight run {id} -- PROGRAM ARGUMENT ..."))];
    }
    vec![
        ("make it again", format!("airtight run {id}")),
        ("all about it on your machine", format!("airtight explain {id}")),
        ("reproduce it without airtight, by plain ip and python3, as root", {
            format!("sudo unshare -n bash <(airtight explain {id} --script)")
        }),
        ("read that script", format!("airtight explain {id} --script")),
    ]
}

/// A word as a shell takes it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
