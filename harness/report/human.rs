//! What a person reads on a terminal: a table for each scenario, failures, a summary.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::program::{End, Ran};
use crate::scenario::Outcome;
use crate::trial::{Counter, FrameRecord, Record};
use crate::verdict::Verdict;

/// How many frames of a link a failure shows.
const FRAMES_SHOWN: usize = 8;

/// How many lines of what a program said a failure shows, and how long each.
const LINES_SHOWN: usize = 4;
const LINE_SHOWN: usize = 160;

/// The rounds of sentinels, in the order of a record's.
pub(super) const ROUNDS: [&str; 3] = ["at first", "behind the control", "behind the attempt"];

/// How text may look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether the terminal shows colours.
    pub colour: bool,
}

/// How many trials ended in which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
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
        let cell = cell_name(record);
        if !cells.contains(&cell) {
            cells.push(cell);
        }
        if !cases.contains(&record.case.as_str()) {
            cases.push(&record.case);
        }
    }
    let entry = |case: &str, cell: &String| {
        let found = records.iter().find(|r| r.case == case && cell_name(r) == *cell);
        found.map_or_else(|| ("-".to_owned(), None), |r| (brief(r), Some(r.verdict)))
    };
    let left = cases.iter().map(|case| width(&safe(case))).max().unwrap_or(0);
    let widest = |cell: &String| {
        let words = cases.iter().map(|case| width(&entry(case, cell).0)).max();
        words.unwrap_or(0).max(width(cell))
    };
    let widths: Vec<usize> = cells.iter().map(widest).collect();
    let mut text = format!("{}  {}\n", safe(&first.scenario), safe(&first.title));
    let heads: Vec<String> =
        cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:width$}")).collect();
    text += format!("  {:left$}{}", "", heads.concat()).trim_end();
    text.push('\n');
    for case in &cases {
        let mut line = format!("  {:left$}", safe(case));
        for (cell, across) in cells.iter().zip(&widths) {
            let (words, verdict) = entry(case, cell);
            // Escapes take no room on the terminal, so the padding is the plain words'.
            let pad = " ".repeat(across - width(&words));
            line += &format!("  {}{pad}", paint(&words, verdict, style));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn cell_name(record: &Record) -> String {
    record.cell.values().cloned().collect::<Vec<_>>().join("-")
}

/// A cell's few words. The verdict can be read without colour.
fn brief(record: &Record) -> String {
    let mark = match record.verdict {
        Verdict::Conforms => "ok ",
        Verdict::Deviates => "FAIL ",
        Verdict::Known => "known ",
        Verdict::Stale => "STALE ",
        Verdict::Inconclusive => return "???? inconclusive".to_owned(),
        Verdict::Skipped => return "skip".to_owned(),
    };
    let Some(observed) = &record.observed else { return mark.trim_end().to_owned() };
    let more = match observed.outcome {
        Outcome::Leaked => observed.through.join(","),
        Outcome::Refused => observed.errno.clone().unwrap_or_default(),
        Outcome::Contained | Outcome::Silent | Outcome::Delivered | Outcome::Kept => String::new(),
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
    if !rerun.contains(&record.id) {
        // A file outside the catalogue is rerun whole, which does not tell its trials apart.
        text += &format!("  {} ({})\n", safe(&record.id), record.verdict.word());
    }
    let start = record.frames.iter().map(|frame| frame.at_ns).min().unwrap_or(0);
    let left = record.links.iter().map(|link| width(&safe(link))).max().unwrap_or(0);
    let counts: Vec<(&String, Vec<&FrameRecord>, String)> = record
        .links
        .iter()
        .map(|link| {
            let frames: Vec<&FrameRecord> = window(record, link);
            let count = plural(frames.len() as u64, "frame");
            (link, frames, count)
        })
        .collect();
    let across = counts.iter().map(|(_, _, count)| width(count)).max().unwrap_or(0);
    for (link, frames, count) in &counts {
        let listed = |frame: &&FrameRecord| {
            let rehearsal = if frame.phase == "rehearsal" { ", in the rehearsal" } else { "" };
            shown(frame, start) + rehearsal
        };
        let mut lines: Vec<String> = frames.iter().take(FRAMES_SHOWN).map(listed).collect();
        if frames.len() > FRAMES_SHOWN {
            lines.push(format!("... and {} more", frames.len() - FRAMES_SHOWN));
        }
        let unkept = unkept(record, link);
        if unkept > 0 {
            lines
                .push(format!("... and {} that the record does not keep", plural(unkept, "frame")));
        }
        let line = format!("  {:left$}  {count:across$}", safe(link));
        let first = lines.first().map_or_else(String::new, |first| format!("  {first}"));
        text += format!("{line}{first}").trim_end();
        text.push('\n');
        for line in lines.iter().skip(1) {
            text += &format!("  {:left$}  {:across$}  {line}\n", "", "");
        }
    }
    for call in &record.calls {
        let answer = match (&call.errno, call.remark) {
            (Some(errno), _) => format!(": {}", safe(errno)),
            (None, false) => ": granted".to_owned(),
            (None, true) => String::new(),
        };
        text += &format!("  {}{answer}\n", safe(&call.call));
    }
    if let Some(ran) = &record.program {
        text += &program(ran);
        text += &traced(record, ran);
    }
    text + &format!("  {}\n  rerun: {}\n", controls(record), safe(rerun))
}

/// The frames of a link that the verdict is about.
fn window<'a>(record: &'a Record, link: &str) -> Vec<&'a FrameRecord> {
    record.frames.iter().filter(|frame| frame.link == link && frame.judged()).collect()
}

/// How many frames a link's capture counted and the record has not: without them, "0 frames"
/// would be read as silence.
fn unkept(record: &Record, link: &str) -> u64 {
    let captured = record.controls.counters.get(link).map_or(0, |counter| counter.captured);
    let kept = record.frames.iter().filter(|frame| frame.link == link).count();
    captured.saturating_sub(kept as u64)
}

pub(super) fn shown(frame: &FrameRecord, start: u64) -> String {
    let after = frame.at_ns.saturating_sub(start) as f64 / 1e6;
    format!("+{after:.1} ms  {}", safe(&frame.summary))
}

pub(super) fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The proofs behind a verdict, or those that are missing. Every link of the record is asked for,
/// because an account that leaves a link out must not read as one that agrees.
pub(super) fn controls(record: &Record) -> String {
    let controls = &record.controls;
    let missing = missing(record);
    if !missing.is_empty() {
        let armed = if controls.unpinned.is_empty() { "not armed" } else { "not proved" };
        return safe(&format!("{armed}: {}", missing.join("; ")));
    }
    let drops: u64 = controls.drops.values().sum();
    let unguarded = controls.unguarded.as_ref();
    safe(&format!(
        "armed: unpinned through {}; sentinels on {}; quiet; {}; counters agree{}",
        controls.unpinned.join(", "),
        record.links.join(", "),
        plural(drops, "drop"),
        unguarded.map_or_else(String::new, |leak| format!("; without the guard {leak}")),
    ))
}

fn missing(record: &Record) -> Vec<String> {
    let controls = &record.controls;
    let mut missing = Vec::new();
    if controls.unpinned.is_empty() {
        missing.push("the unpinned control is not proved".to_owned());
    }
    if record.guard.is_some() && controls.unguarded.is_none() {
        missing.push("the leak without the guard is not proved".to_owned());
    }
    if !controls.quiet {
        missing.push("the wires are not proved quiet".to_owned());
    }
    for link in &record.links {
        let rounds = controls.sentinels.get(link).copied().unwrap_or_default();
        let unseen: Vec<&str> =
            ROUNDS.iter().zip(rounds).filter(|(_, seen)| !seen).map(|(round, _)| *round).collect();
        if unseen.len() == ROUNDS.len() {
            missing.push(format!("no sentinels on {link}"));
        } else if !unseen.is_empty() {
            missing.push(format!("no sentinel on {link} {}", unseen.join(", ")));
        }
        match controls.drops.get(link) {
            Some(0) => {}
            Some(drops) => missing.push(format!("{} on {link}", plural(*drops, "drop"))),
            None => missing.push(format!("drops on {link} not counted")),
        }
        match controls.counters.get(link) {
            Some(Counter { transmitted: Some(sent), captured }) if sent == captured => {}
            Some(Counter { transmitted: Some(sent), captured }) => {
                missing.push(format!("{link} transmitted {sent} and captured {captured}"));
            }
            Some(Counter { transmitted: None, .. }) | None => {
                missing.push(format!("transmissions on {link} not counted"));
            }
        }
    }
    missing
}

/// Why trials were skipped, each reason once, with how many it concerns.
pub fn skips(reasons: &BTreeMap<String, usize>) -> String {
    let line = |(reason, count): (&String, &usize)| {
        format!("skipped {}: {}\n", plural(*count as u64, "trial"), safe(reason))
    };
    reasons.iter().map(line).collect()
}

/// What a program did, in a line, and what it said.
pub(super) fn program(ran: &Ran) -> String {
    let end = match &ran.end {
        End::Exited(status) => format!("exit status {status}"),
        End::Signalled(signal) => format!("ended by signal {signal}"),
        End::NotStarted(why) => format!("not started: {why}"),
        End::TimedOut => "did not end in its time, and was killed".to_owned(),
        End::Panicked(words) => format!("panicked: {words}"),
    };
    let mut text = format!("  {}: {}\n", safe(&ran.command.join(" ")), safe(&end));
    let said = ran.stdout.text.lines().chain(ran.stderr.text.lines());
    for line in said.filter(|line| !line.trim().is_empty()).take(LINES_SHOWN) {
        let cut: String = line.chars().take(LINE_SHOWN).collect();
        text += &format!("    {}\n", safe(&cut));
    }
    text
}

/// The calls that decided a program's way out, a socket a line, and of a leak the route that took it
/// and the call that is missing.
pub(super) fn traced(record: &Record, ran: &Ran) -> String {
    let mut text = String::new();
    let leaked = record.observed.as_ref().is_some_and(|o| o.outcome == Outcome::Leaked);
    if let (true, Some(decision)) = (leaked, record.decisions.first()) {
        text += &format!("  {}: {}\n", safe(&decision.query), safe(&decision.answer));
    }
    let mut unheld = false;
    for socket in ran.trace.sockets.iter().take(LINES_SHOWN) {
        let words = socket.calls.iter().map(|call| {
            let mut words = call.call.clone();
            words += &call.refused.as_ref().map_or_else(String::new, |e| format!(" refused {e}"));
            words += &call.held.as_ref().map_or_else(String::new, |by| format!(" held by {by}"));
            words + &if call.times > 1 { format!(" x {}", call.times) } else { String::new() }
        });
        let words: Vec<String> = words.collect();
        unheld |= socket.calls.iter().any(|call| {
            call.held
                .as_ref()
                .is_some_and(|held| !held.split(", ").any(|by| by.starts_with("device")))
        });
        let line = format!("{} by {}: {}", socket.kind, socket.process, words.join("; "));
        text += &format!("    {}\n", safe(&line));
    }
    if ran.trace.sockets.len() > LINES_SHOWN {
        text += &format!("    ... and {} more sockets\n", ran.trace.sockets.len() - LINES_SHOWN);
    }
    if let Some(why) = &ran.trace.untraced {
        text += &format!("    its calls were not traced: {}\n", safe(why));
    }
    for lookup in ran.lookups.iter().take(LINES_SHOWN) {
        let words = format!("{} {} asked by {}", lookup.name, lookup.kind, lookup.link);
        text += &format!("    {}\n", safe(&words));
    }
    if let (true, true, Some(link)) = (leaked, unheld, record.intended.first()) {
        text += &format!(
            "  missing before it sends: setsockopt(SOL_SOCKET, SO_BINDTODEVICE, \"{}\"), on \
             each socket that no device holds\n",
            safe(link)
        );
    }
    text
}

/// The last line of a run.
pub fn summary(tally: &Tally, elapsed: Duration) -> String {
    let total = plural(tally.total() as u64, "trial");
    format!("{total} in {:.2} s: {}", elapsed.as_secs_f64(), verdicts(tally))
}

/// The counts of a result, in a line.
pub fn counts(tally: &Tally) -> String {
    format!("{}: {}", plural(tally.total() as u64, "trial"), verdicts(tally))
}

fn verdicts(tally: &Tally) -> String {
    let counts = [
        (tally.conforms, "conform"),
        (tally.deviates, "deviate"),
        (tally.known, "known"),
        (tally.stale, "stale"),
        (tally.inconclusive, "inconclusive"),
        (tally.skipped, "skipped"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, word)| *count > 0 || *word == "conform")
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    counts.join(", ")
}

/// Text of a scenario or a program, with whatever a terminal would interpret spelled out: control
/// characters, separators of lines, what turns the direction of text (UAX 9), and what is no
/// character and no XML may hold.
pub fn safe(text: &str) -> String {
    let interpreted = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
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
    use crate::report::sample::record;
    use crate::verdict::Observed;

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
        assert_eq!(safe("\u{9b}2J\u{2066}\u{2029}"), "\\u{9b}2J\\u{2066}\\u{2029}");
        assert_eq!(safe("plain – ä"), "plain – ä");
    }

    #[test]
    fn a_table_is_aligned_with_and_without_colour() {
        let mut second = record();
        second.case = "größe\u{1b}".to_owned();
        second.cell.insert("family".to_owned(), "v6".to_owned());
        second.verdict = Verdict::Inconclusive;
        let records = [record(), second];
        let plain = table(&records, Style { colour: false });
        let expected = "basics/sample  A sample\\u{1b}[2J\n\
                        \x20              v4-udp              v6-udp\n\
                        \x20 device       FAIL leaked uplink  -\n\
                        \x20 größe\\u{1b}  -                   ???? inconclusive\n";
        assert_eq!(plain, expected);
        let painted = table(&records, Style { colour: true });
        assert!(painted.contains("\u{1b}[1;31mFAIL leaked uplink\u{1b}[0m  -"), "{painted}");
        let stripped = ["\u{1b}[1;31m", "\u{1b}[33m", "\u{1b}[0m"]
            .iter()
            .fold(painted, |text, escape| text.replace(escape, ""));
        assert_eq!(stripped, plain);
    }

    #[test]
    fn each_verdict_reads_without_colour() {
        let check = |verdict, observed: Option<Observed>, expected: &str| {
            assert_eq!(brief(&Record { verdict, observed, ..record() }), expected);
        };
        let saw = |outcome, errno: Option<&str>| {
            let through = vec!["uplink".to_owned()];
            let errno = errno.map(str::to_owned);
            Some(Observed { outcome, through, source: None, errno, call: None, carries: None })
        };
        check(Verdict::Conforms, saw(Outcome::Contained, None), "ok contained");
        check(Verdict::Conforms, saw(Outcome::Leaked, None), "ok leaked uplink");
        check(Verdict::Conforms, saw(Outcome::Refused, Some("ENODEV")), "ok refused ENODEV");
        check(Verdict::Known, saw(Outcome::Leaked, None), "known leaked uplink");
        check(Verdict::Stale, saw(Outcome::Silent, None), "STALE silent");
        check(Verdict::Inconclusive, None, "???? inconclusive");
        check(Verdict::Skipped, None, "skip");
    }

    #[test]
    fn a_failure_shows_place_frames_controls_and_rerun() {
        let expected = "\
scenarios/basics/sample.toml:40: expected contained, got leaked through uplink
  chassis  0 frames
  uplink   1 frame   +0.4 ms  UDP 192.0.2.17:40922 > 203.0.113.9:7
  sendto: ENODEV
  armed: unpinned through uplink; sentinels on chassis, uplink; quiet; 0 drops; counters agree
  rerun: airtight run basics/sample::device::v4-udp
";
        let rerun = "airtight run basics/sample::device::v4-udp";
        assert_eq!(failure(&record(), rerun, Style { colour: false }), expected);
        let text = failure(&record(), "airtight run sample.toml", Style { colour: false });
        assert!(text.contains("\n  basics/sample::device::v4-udp (deviates)\n"), "{text}");
    }

    #[test]
    fn a_leak_of_the_rehearsal_is_listed() {
        let mut record = record();
        record.frames[1].phase = "rehearsal".to_owned();
        let text = failure(&record, "", Style { colour: false });
        let line =
            "uplink   1 frame   +0.4 ms  UDP 192.0.2.17:40922 > 203.0.113.9:7, in the rehearsal";
        assert!(text.contains(line), "{text}");
        record.frames[1].role = "frame".to_owned();
        let text = failure(&record, "", Style { colour: false });
        assert!(text.contains("uplink   0 frames"), "{text}");
    }

    #[test]
    fn many_frames_are_cut_and_what_is_not_kept_is_told() {
        let mut record = record();
        let leak = record.frames[1].clone();
        record.frames.extend(std::iter::repeat_n(leak, 9));
        record
            .controls
            .counters
            .insert("uplink".to_owned(), Counter { transmitted: Some(12), captured: 12 });
        let text = failure(&record, "", Style { colour: false });
        assert_eq!(text.matches("UDP").count(), FRAMES_SHOWN);
        assert!(text.contains("  uplink   10 frames  +0.4 ms  UDP"), "{text}");
        assert!(text.contains("\n                      ... and 2 more\n"), "{text}");
        assert!(text.contains("... and 1 frame that the record does not keep\n"), "{text}");
    }

    #[test]
    fn missing_proofs_are_named() {
        let mut unproved = record();
        unproved.controls.drops.insert("uplink".to_owned(), 3);
        unproved.controls.sentinels.insert("uplink".to_owned(), [true, true, false]);
        unproved.controls.counters.remove("chassis");
        let expected = "not proved: transmissions on chassis not counted; \
                        no sentinel on uplink behind the attempt; 3 drops on uplink";
        assert_eq!(controls(&unproved), expected);
        // A record of a trial that failed has no account at all, and must not seem to agree.
        unproved.controls = Default::default();
        let text = controls(&unproved);
        assert!(text.starts_with("not armed: the unpinned control is not proved; "), "{text}");
        assert!(!text.contains("agree"), "{text}");
    }

    #[test]
    fn the_summary_hides_no_skip_and_no_waiver() {
        let mut tally = Tally::default();
        assert_eq!(summary(&tally, Duration::ZERO), "0 trials in 0.00 s: 0 conform");
        for verdict in [Verdict::Conforms, Verdict::Known, Verdict::Skipped, Verdict::Skipped] {
            tally.add(verdict);
        }
        let expected = "4 trials in 1.50 s: 1 conform, 1 known, 2 skipped";
        assert_eq!(summary(&tally, Duration::from_millis(1500)), expected);
    }
}
