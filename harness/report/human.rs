//! What a person reads on a terminal: a table for each scenario, failures, a summary.

use std::fmt::Write;
use std::time::Duration;

use crate::scenario::Outcome;
use crate::trial::{FrameRecord, Record};
use crate::verdict::Verdict;

/// How many frames of a link a failure shows.
const FRAMES_SHOWN: usize = 8;

/// How text may look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether the terminal shows colours.
    pub colour: bool,
}

/// How many trials ended in which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// As expected.
    pub conforms: usize,
    /// Not as expected.
    pub deviates: usize,
    /// Waived.
    pub known: usize,
    /// Waived without need.
    pub stale: usize,
    /// Nothing proved.
    pub inconclusive: usize,
    /// Not tried.
    pub skipped: usize,
}

impl Tally {
    /// Counts one trial.
    pub fn add(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Conforms => &mut self.conforms,
            Verdict::Deviates => &mut self.deviates,
            Verdict::Known => &mut self.known,
            Verdict::Stale => &mut self.stale,
            Verdict::Inconclusive => &mut self.inconclusive,
            Verdict::Skipped => &mut self.skipped,
        } += 1;
    }

    /// All trials.
    pub fn total(&self) -> usize {
        self.conforms + self.deviates + self.known + self.stale + self.inconclusive + self.skipped
    }

    /// The exit code of a run: 1 where something deviates or a waiver is stale, 4 where something
    /// is inconclusive or nothing was tried, 0 otherwise.
    pub fn exit_code(&self) -> u8 {
        if self.deviates + self.stale > 0 {
            1
        } else if self.inconclusive > 0 || self.skipped == self.total() {
            4
        } else {
            0
        }
    }
}

/// One scenario's table: cases down, cells across.
pub fn table(records: &[Record], style: Style) -> String {
    let Some(first) = records.first() else { return String::new() };
    let mut cells: Vec<String> = Vec::new();
    let mut cases: Vec<&str> = Vec::new();
    for record in records {
        if !cells.contains(&cell_name(record)) {
            cells.push(cell_name(record));
        }
        if !cases.contains(&record.case.as_str()) {
            cases.push(&record.case);
        }
    }
    let entry = |case: &str, cell: &String| {
        let found = records.iter().find(|r| r.case == case && cell_name(r) == *cell);
        found.map_or_else(|| ("-".to_owned(), None), |r| (brief(r), Some(r.verdict)))
    };
    let left = cases.iter().map(|case| case.len()).max().unwrap_or(0);
    let width = |cell: &String| {
        let widest = cases.iter().map(|case| entry(case, cell).0.chars().count()).max();
        widest.unwrap_or(0).max(cell.len())
    };
    let widths: Vec<usize> = cells.iter().map(width).collect();
    let mut text = format!("{}  {}\n", safe(&first.scenario), safe(&first.title));
    // Writing to a String cannot fail.
    let _ = write!(text, "  {:left$}", "");
    for (cell, width) in cells.iter().zip(&widths) {
        let _ = write!(text, "  {cell:width$}");
    }
    text = text.trim_end().to_owned() + "\n";
    for case in &cases {
        let mut line = format!("  {case:left$}");
        for (cell, width) in cells.iter().zip(&widths) {
            let (words, verdict) = entry(case, cell);
            let pad = " ".repeat(width - words.chars().count());
            let _ = write!(line, "  {}{pad}", paint(&words, verdict, style));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn cell_name(record: &Record) -> String {
    record.cell.values().copied().collect::<Vec<_>>().join("-")
}

/// A cell's few words. The verdict can be read without colour.
fn brief(record: &Record) -> String {
    let mark = match record.verdict {
        Verdict::Conforms => "ok ",
        Verdict::Deviates => "FAIL ",
        Verdict::Known => "known ",
        Verdict::Stale => "STALE ",
        Verdict::Inconclusive => return "?? inconclusive".to_owned(),
        Verdict::Skipped => return "skipped".to_owned(),
    };
    let Some(observed) = &record.observed else { return mark.trim_end().to_owned() };
    let more = match observed.outcome {
        Outcome::Leaked => observed.through.join(","),
        Outcome::Refused => observed.errno.clone().unwrap_or_default(),
        Outcome::Contained | Outcome::Silent | Outcome::Delivered => String::new(),
    };
    safe(format!("{mark}{} {more}", observed.outcome.word()).trim_end())
}

fn paint(words: &str, verdict: Option<Verdict>, style: Style) -> String {
    let code = match verdict {
        _ if !style.colour => return words.to_owned(),
        None => return words.to_owned(),
        Some(Verdict::Conforms) => "32",
        Some(Verdict::Deviates | Verdict::Stale) => "1;31",
        Some(Verdict::Known | Verdict::Inconclusive) => "33",
        Some(Verdict::Skipped) => "2",
    };
    format!("\u{1b}[{code}m{words}\u{1b}[0m")
}

/// A failure: place, frames, controls, and what reruns the trial.
pub fn failure(record: &Record, rerun: &str, style: Style) -> String {
    let head = format!("{}: {}", safe(&record.place), safe(&record.reason));
    let mut text = paint(&head, Some(record.verdict), style) + "\n";
    let _ = writeln!(text, "  {} ({})", record.id, record.verdict.word());
    let start = record.frames.iter().map(|frame| frame.at_ns).min().unwrap_or(0);
    let left = record.links.iter().map(String::len).max().unwrap_or(0);
    for link in &record.links {
        let window = |f: &&FrameRecord| {
            f.link == *link && f.role != "sentinel" && ["attempt", "drained"].contains(&f.phase)
        };
        let frames: Vec<&FrameRecord> = record.frames.iter().filter(window).collect();
        let s = if frames.len() == 1 { "" } else { "s" };
        let _ = writeln!(text, "  {link:left$}  {} frame{s}", frames.len());
        for frame in frames.iter().take(FRAMES_SHOWN) {
            let after = frame.at_ns.saturating_sub(start) as f64 / 1e6;
            let _ = writeln!(text, "  {:left$}    +{after:.1} ms  {}", "", safe(&frame.summary));
        }
        if frames.len() > FRAMES_SHOWN {
            let _ = writeln!(text, "  {:left$}    and {} more", "", frames.len() - FRAMES_SHOWN);
        }
    }
    for call in &record.calls {
        let answer = call.errno.as_deref().unwrap_or("granted");
        let _ = writeln!(text, "  {}: {answer}", safe(&call.call));
    }
    let _ = writeln!(text, "  {}", controls(record));
    let _ = writeln!(text, "  rerun: {rerun}");
    text
}

fn controls(record: &Record) -> String {
    let controls = &record.controls;
    if controls.unpinned.is_empty() {
        return "not armed: nothing was proved".to_owned();
    }
    let seen = controls.sentinels.iter().filter(|(_, rounds)| rounds.iter().all(|seen| *seen));
    let seen: Vec<&str> = seen.map(|(link, _)| link.as_str()).collect();
    let drops: u64 = controls.drops.values().sum();
    let agree = controls.counters.values().all(|c| c.transmitted == Some(c.captured));
    format!(
        "armed: unpinned through {}; sentinels on {}; quiet; {drops} drops; counters {}",
        controls.unpinned.join(", "),
        seen.join(", "),
        if agree { "agree" } else { "disagree" }
    )
}

/// The last line of a run.
pub fn summary(tally: &Tally, elapsed: Duration) -> String {
    let (total, seconds) = (tally.total(), elapsed.as_secs_f64());
    let s = if total == 1 { "" } else { "s" };
    let mut text = format!("{total} trial{s} in {seconds:.2} s:");
    let counts = [
        (tally.conforms, "conform"),
        (tally.deviates, "deviate"),
        (tally.known, "known"),
        (tally.stale, "stale"),
        (tally.inconclusive, "inconclusive"),
        (tally.skipped, "skipped"),
    ];
    for (at, (count, word)) in
        counts.iter().filter(|(count, word)| *count > 0 || *word == "conform").enumerate()
    {
        let _ = write!(text, "{} {count} {word}", if at > 0 { "," } else { "" });
    }
    text
}

/// Text of a scenario or a program, with whatever a terminal would interpret spelled out.
fn safe(text: &str) -> String {
    let interpreted = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if interpreted(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let tally = |conforms, deviates, stale, inconclusive, skipped, known| Tally {
            conforms,
            deviates,
            known,
            stale,
            inconclusive,
            skipped,
        };
        assert_eq!(tally(3, 0, 0, 0, 1, 1).exit_code(), 0);
        assert_eq!(tally(3, 1, 0, 1, 0, 0).exit_code(), 1);
        assert_eq!(tally(3, 0, 1, 1, 0, 0).exit_code(), 1);
        assert_eq!(tally(3, 0, 0, 1, 0, 0).exit_code(), 4);
        assert_eq!(tally(0, 0, 0, 0, 2, 0).exit_code(), 4);
        assert_eq!(tally(0, 0, 0, 0, 0, 0).exit_code(), 4);
    }

    #[test]
    fn a_terminal_is_shown_escapes_and_not_sent_them() {
        assert_eq!(safe("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(safe("a\u{202e}b\n"), "a\\u{202e}b\\u{a}");
        assert_eq!(safe("plain – ä"), "plain – ä");
    }
}
