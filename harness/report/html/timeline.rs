//! The frames of a trial in the order of time, a lane for each link, phase by phase. Distances are
//! not to scale: microseconds between frames of one phase would vanish beside the rest.

use serde::Serialize;

use super::fitting;
use crate::report::human::{plural, shown};
use crate::trial::{FrameRecord, Record};

/// The parts of a trial, in their order.
const PHASES: [&str; 6] = ["rising", "rehearsal", "control", "guarded", "attempt", "drained"];

const LEFT: f64 = 144.0;
const RIGHT: f64 = 744.0;
const TOP: f64 = 40.0;
const LANE: f64 = 34.0;
/// How far apart marks stand, at least and at most.
const APART: (f64, f64) = (7.0, 64.0);
/// How wide a phase is at least, so that its name fits.
const PHASE_WIDTH: f64 = 84.0;

/// The drawing's parts.
#[derive(Serialize)]
pub(super) struct Drawing {
    width: f64,
    height: f64,
    /// Whether it can be as wide as its page, and need not be moved along.
    fits: bool,
    lanes: Vec<Lane>,
    phases: Vec<Phase>,
    words: String,
}

#[derive(Serialize)]
struct Lane {
    y: f64,
    link: String,
    marks: Vec<Mark>,
}

#[derive(Serialize)]
struct Phase {
    x: f64,
    width: f64,
    name: String,
    begins: String,
    even: bool,
}

#[derive(Serialize)]
struct Mark {
    x: f64,
    kind: &'static str,
    words: String,
}

/// What a frame is, in the words of the legend.
pub(super) fn kind(frame: &FrameRecord) -> &'static str {
    match (frame.role.as_str(), frame.phase.as_str()) {
        ("sentinel", _) => "sentinel",
        ("leak", _) => "leak",
        (_, "attempt" | "drained") => "attempt",
        (_, "control") => "control",
        _ => "before",
    }
}

/// Where a frame stands among those of all links. Phases follow each other on all wires, whichever
/// wire was read first.
pub(super) fn order(frame: &FrameRecord) -> (usize, u64) {
    let rank = PHASES.iter().position(|phase| *phase == frame.phase).unwrap_or(PHASES.len());
    (rank, frame.at_ns)
}

/// The drawing of this record's frames; nothing where it has none.
pub(super) fn drawing(record: &Record) -> Option<Drawing> {
    let start = record.frames.iter().map(|frame| frame.at_ns).min()?;
    let mut ordered: Vec<&FrameRecord> = record.frames.iter().collect();
    ordered.sort_by_key(|frame| order(frame));
    let apart = ((RIGHT - LEFT) / (ordered.len() as f64 + 1.0)).clamp(APART.0, APART.1);

    let mut phases: Vec<Phase> = Vec::new();
    let mut places: Vec<f64> = Vec::with_capacity(ordered.len());
    let mut x = LEFT;
    for of in ordered.chunk_by(|one, other| order(one).0 == order(other).0) {
        let needed = apart * of.len() as f64;
        let width = needed.max(PHASE_WIDTH);
        let first = x + (width - needed) / 2.0 + apart / 2.0;
        places.extend((0..of.len()).map(|at| rounded(first + apart * at as f64)));
        phases.push(Phase {
            x: rounded(x),
            width: rounded(width),
            name: fitting(&of[0].phase, 12),
            begins: format!("+{:.2} ms", of[0].at_ns.saturating_sub(start) as f64 / 1e6),
            even: phases.len().is_multiple_of(2),
        });
        x += width;
    }
    let lane = |(at, link): (usize, &String)| {
        let on = ordered.iter().zip(&places).filter(|(frame, _)| frame.link == *link);
        let mark = |(frame, x): (&&FrameRecord, &f64)| Mark {
            x: *x,
            kind: kind(frame),
            words: format!("{}: {}", kind(frame), shown(frame, start)),
        };
        Lane { y: TOP + LANE * at as f64, link: fitting(link, 15), marks: on.map(mark).collect() }
    };
    let lanes: Vec<Lane> = record.links.iter().enumerate().map(lane).collect();
    let each = lanes.iter().map(|lane| {
        let leaks = lane.marks.iter().filter(|mark| mark.kind == "leak").count();
        let leaks = if leaks > 0 { format!(", {leaks} of them leaked") } else { String::new() };
        format!("{}: {}{leaks}", lane.link, plural(lane.marks.len() as u64, "frame"))
    });
    let words = format!("Frames in the order of time. {}.", each.collect::<Vec<_>>().join("; "));
    let height = TOP + LANE * lanes.len() as f64 + 40.0;
    Some(Drawing {
        width: rounded(x.max(RIGHT) + 16.0),
        height,
        fits: x <= RIGHT + 100.0,
        lanes,
        phases,
        words,
    })
}

fn rounded(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}
