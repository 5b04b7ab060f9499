//! The laboratory as a drawing: the host under test, its links and their gateways, and the way that
//! the frames of the control and of the attempt took. It is drawn from what a record says alone.

use serde::Serialize;

use super::fitting;
use crate::report::human::plural;
use crate::scenario::Outcome;
use crate::trial::{FrameRecord, Record};

/// How high the lane of a link is, and where the first begins.
const LANE: usize = 84;
const TOP: usize = 34;

/// The drawing's parts. What does not move is in the template.
#[derive(Serialize)]
pub(super) struct Drawing {
    height: usize,
    /// How high the host under test is: as high as all its links.
    host: usize,
    pin: String,
    /// What became of the attempt at the host, where no frame tells.
    ended: String,
    ended_kind: &'static str,
    lanes: Vec<Lane>,
    /// The drawing in words.
    words: String,
}

#[derive(Serialize)]
struct Lane {
    y: usize,
    link: String,
    role: &'static str,
    intended: bool,
    /// What the attempt sent by it; empty: nothing.
    attempt: String,
    leak: bool,
    /// The attempt's first frame.
    summary: String,
    control: String,
    /// Whether the control was reached by it, and has sent nothing.
    reached: bool,
    arrives: bool,
}

/// The drawing of this record's laboratory.
pub(super) fn drawing(record: &Record) -> Drawing {
    let lane = |(at, link): (usize, &String)| {
        let frames = || record.frames.iter().filter(|frame| frame.link == *link);
        let attempt: Vec<&FrameRecord> = frames().filter(|frame| frame.judged()).collect();
        let control = frames().filter(|f| f.phase == "control" && f.role != "sentinel").count();
        let reached = record.controls.unpinned.contains(link);
        let intended = record.intended.contains(link);
        let leak =
            attempt.iter().any(|frame| frame.role == "leak") || (!attempt.is_empty() && !intended);
        let count = plural(attempt.len() as u64, "frame");
        Lane {
            y: TOP + at * LANE,
            link: fitting(link, 20),
            role: if intended { "intended" } else { "decoy" },
            intended,
            attempt: match (attempt.len(), leak) {
                (0, _) => String::new(),
                (_, true) => format!("▲ LEAK: {count} of the attempt"),
                (_, false) => format!("● {count} of the attempt"),
            },
            leak,
            summary: attempt.first().map_or_else(String::new, |frame| fitting(&frame.summary, 56)),
            reached: control == 0 && reached,
            control: match control {
                0 if reached => "the control arrives".to_owned(),
                0 => String::new(),
                count => format!("control: {}", plural(count as u64, "frame")),
            },
            arrives: record
                .calls
                .iter()
                .any(|call| call.call.ends_with(&format!(" arrives by {link}"))),
        }
    };
    let lanes: Vec<Lane> = record.links.iter().enumerate().map(lane).collect();
    let (ended, ended_kind) = ended(record);
    let each = lanes.iter().map(|lane| {
        let went = if lane.attempt.is_empty() { "nothing of the attempt" } else { &lane.attempt };
        format!("{} ({}): {went}", lane.link, lane.role)
    });
    let mut words: Vec<String> = each.collect();
    words.extend((!ended.is_empty()).then(|| ended.clone()));
    Drawing {
        height: TOP + LANE * lanes.len().max(1) + 30,
        host: LANE * lanes.len().max(1),
        pin: fitting(&record.pin, 22),
        ended: fitting(&ended, 24),
        ended_kind,
        lanes,
        words: format!("The host under test and its links. {}.", words.join("; ")),
    }
}

/// What became of an attempt that left no frame to follow.
fn ended(record: &Record) -> (String, &'static str) {
    let Some(observed) = &record.observed else {
        return ("? nothing proved".to_owned(), "unproved");
    };
    match observed.outcome {
        Outcome::Refused => {
            let errno =
                observed.errno.as_ref().map_or_else(|| "not heard".to_owned(), Clone::clone);
            (format!("■ refused: {errno}"), "refused")
        }
        Outcome::Silent => ("○ silent: no frame".to_owned(), "silent"),
        Outcome::Delivered => ("◆ delivered".to_owned(), "delivered"),
        Outcome::Contained | Outcome::Leaked | Outcome::Kept => (String::new(), ""),
    }
}
