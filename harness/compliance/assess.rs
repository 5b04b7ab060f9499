//! Requirements against results: what is proved, what is not, what a waiver stands for.

use toml::value::Date;

use super::{Requirement, Requirements, Waiver, no_match, picks};
use crate::report::result::{Document, Host, Tool};
use crate::scenario::Outcome;
use crate::trial::{FrameRecord, Record};
use crate::verdict::{Verdict, describe};

/// Where a requirement stands, the one to be read first foremost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing deviates, and something that it names was not proved.
    NotProved,
    /// A trial deviates, and no waiver stands for it.
    Violated,
    /// Trials deviate, and a waiver stands for each.
    Waived,
    /// Every trial that it names holds, and there is at least one.
    Proved,
}

impl Standing {
    /// The standing in words.
    pub fn word(self) -> &'static str {
        match self {
            Standing::NotProved => "not proved",
            Standing::Violated => "violated",
            Standing::Waived => "waived",
            Standing::Proved => "proved",
        }
    }
}

/// What a trial says to a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It holds.
    Holds,
    /// It does not, and why.
    Fails(String),
    /// It does not, and the waiver of this number stands for it.
    Waived(usize, String),
    /// It proves nothing, and why.
    Open(String),
}

/// A trial as evidence for a requirement.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The number of the result that it is from.
    pub source: usize,
    /// Its record.
    pub record: &'a Record,
    /// What it says.
    pub hold: Hold,
    /// The frames that decide it: leaks, or what the attempt sent on intended links.
    pub frames: Vec<&'a FrameRecord>,
}

/// A requirement and what was found.
#[derive(Clone, Debug)]
pub struct Assessed<'a> {
    /// The requirement.
    pub requirement: &'a Requirement,
    /// Where it stands.
    pub standing: Standing,
    /// What is missing: selectors that pick nothing, trials that prove nothing.
    pub gaps: Vec<String>,
    /// The trials, those that do not hold first.
    pub trials: Vec<Evidence<'a>>,
}

/// What became of a waiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaiverState {
    /// It stands for so many trials.
    Stands(usize),
    /// It is past its last day.
    Expired,
    /// It no longer says what is, and why.
    Stale(String),
    /// No requirement names a trial that it picks.
    Unmatched(String),
    /// What it picks was not proved either way.
    Undecided,
}

impl WaiverState {
    /// Whether the gate fails by it.
    pub fn fails(&self) -> bool {
        matches!(self, WaiverState::Expired | WaiverState::Stale(_) | WaiverState::Unmatched(_))
    }
}

/// A waiver and what became of it.
#[derive(Clone, Debug)]
pub struct WaiverUse<'a> {
    /// The waiver.
    pub waiver: &'a Waiver,
    /// What became of it.
    pub state: WaiverState,
}

/// Requirements against results.
#[derive(Clone, Debug)]
pub struct Assessment<'a> {
    /// What is required.
    pub requirements: &'a Requirements,
    /// The day on which it was assessed: waivers expire by it.
    pub today: Date,
    /// What the results were made by and on.
    pub sources: Vec<(&'a Tool, &'a Host)>,
    /// The requirements: not proved, violated, waived, proved, each in the file's order.
    pub assessed: Vec<Assessed<'a>>,
    /// The waivers, in the file's order.
    pub waivers: Vec<WaiverUse<'a>>,
}

impl Assessment<'_> {
    /// How many requirements stand so.
    pub fn count(&self, standing: Standing) -> usize {
        self.assessed.iter().filter(|one| one.standing == standing).count()
    }

    /// The exit code of the gate: 1 where a requirement is violated or a waiver is expired, stale or
    /// without use, 4 where something is not proved, 0 otherwise.
    pub fn exit_code(&self) -> u8 {
        let broken = self.waivers.iter().any(|waiver| waiver.state.fails());
        if broken || self.count(Standing::Violated) > 0 {
            1
        } else if self.count(Standing::NotProved) > 0 || self.assessed.is_empty() {
            4
        } else {
            0
        }
    }
}

/// Assesses `requirements` against `documents`, on the day `today`. A trial that several results
/// have must hold in each.
pub fn assess<'a>(
    requirements: &'a Requirements,
    documents: &'a [Document],
    today: Date,
) -> Assessment<'a> {
    let records: Vec<(usize, &Record)> = documents
        .iter()
        .enumerate()
        .flat_map(|(at, document)| document.records.iter().map(move |record| (at, record)))
        .collect();
    let waivers: Vec<WaiverUse> = requirements
        .waivers
        .iter()
        .map(|waiver| WaiverUse { waiver, state: state(waiver, requirements, &records, today) })
        .collect();
    let one = |requirement| assess_one(requirement, documents, &records, &waivers);
    let mut assessed: Vec<Assessed> = requirements.requirements.iter().map(one).collect();
    assessed.sort_by_key(|one| one.standing);
    let sources = documents.iter().map(|document| (&document.tool, &document.host)).collect();
    Assessment { requirements, today, sources, assessed, waivers }
}

fn assess_one<'a>(
    requirement: &'a Requirement,
    documents: &[Document],
    records: &[(usize, &'a Record)],
    waivers: &[WaiverUse<'a>],
) -> Assessed<'a> {
    let ids: Vec<&str> = records.iter().map(|(_, record)| record.id.as_str()).collect();
    let mut gaps: Vec<String> = requirement
        .selectors
        .iter()
        .filter(|selector| !ids.iter().any(|id| picks(selector, id)))
        .map(|selector| no_match(selector, &ids))
        .collect();
    gaps.extend(documents.iter().flat_map(|document| lacking(requirement, document)));
    let mut trials: Vec<Evidence> = records
        .iter()
        .filter(|(_, record)| required(requirement, record))
        .map(|(source, record)| {
            let hold = waive(hold(requirement, record), record, waivers);
            Evidence { source: *source, record, hold, frames: deciding(record) }
        })
        .collect();
    let rank = |evidence: &Evidence| match evidence.hold {
        Hold::Open(_) => 0,
        Hold::Fails(_) => 1,
        Hold::Waived(..) => 2,
        Hold::Holds => 3,
    };
    trials.sort_by_key(rank);
    let any = |rank_of: usize| trials.iter().any(|evidence| rank(evidence) == rank_of);
    let open = trials.iter().filter(|evidence| rank(evidence) == 0).count();
    if open > 0 {
        gaps.push(format!("{open} of its {} trials prove nothing", trials.len()));
    }
    let standing = if any(1) {
        Standing::Violated
    } else if !gaps.is_empty() || trials.is_empty() {
        Standing::NotProved
    } else if any(2) {
        Standing::Waived
    } else {
        Standing::Proved
    };
    Assessed { requirement, standing, gaps, trials }
}

/// What a result lacks that a requirement asks for: trials that were planned and not made, and
/// whatever it contradicts itself in.
fn lacking(requirement: &Requirement, document: &Document) -> Vec<String> {
    let asked = |id: &str| requirement.selectors.iter().any(|selector| picks(selector, id));
    let planned = document.runs.iter().flat_map(|run| &run.missing);
    let mut gaps: Vec<String> = planned
        .filter(|id| asked(id))
        .map(|id| format!("{id} was planned and not made: the result is partial"))
        .collect();
    if document.partial && document.runs.iter().all(|run| run.missing.is_empty()) {
        gaps.push("the result does not say whether it is whole".to_owned());
    }
    let conflicts = document.conflicts.iter().filter(|conflict| asked(&conflict.of));
    gaps.extend(conflicts.map(|conflict| format!("{}: {}", conflict.of, conflict.what)));
    gaps
}

fn required(requirement: &Requirement, record: &Record) -> bool {
    requirement.selectors.iter().any(|selector| picks(selector, &record.id))
}

/// What `record` says to `requirement`, waivers aside.
fn hold(requirement: &Requirement, record: &Record) -> Hold {
    let deviates = || Hold::Fails(record.reason.clone());
    match (record.verdict, &record.observed) {
        (Verdict::Inconclusive | Verdict::Skipped, _) => {
            Hold::Open(format!("{}: {}", record.verdict.word(), record.reason))
        }
        (Verdict::Deviates, _) => deviates(),
        // The waiver of a scenario has no owner and no end: this file's decides.
        (Verdict::Known, Some(seen)) => Hold::Fails(format!(
            "{}, which the scenario itself knows of: {}",
            describe(seen),
            record.reason
        )),
        (Verdict::Known, None) => deviates(),
        (Verdict::Stale, _) => {
            Hold::Fails(format!("the scenario's own waiver is stale: {}", record.reason))
        }
        (Verdict::Conforms, None) => Hold::Open("nothing was observed".to_owned()),
        (Verdict::Conforms, Some(seen)) => {
            if let Some(missing) = unproved(record) {
                // A result is a file that anybody can write.
                Hold::Open(format!("the record does not prove its verdict: {missing}"))
            } else if requirement.outcomes.contains(&seen.outcome) {
                Hold::Holds
            } else {
                Hold::Fails(format!(
                    "{}: the scenario expects it, the requirement does not (its `outcomes` would)",
                    describe(seen)
                ))
            }
        }
    }
}

/// What is missing among the proofs of a record's verdict.
fn unproved(record: &Record) -> Option<String> {
    let controls = &record.controls;
    if controls.unpinned.is_empty() || !controls.quiet || record.links.is_empty() {
        return Some("the trap was not armed".to_owned());
    }
    for link in &record.links {
        if controls.sentinels.get(link) != Some(&[true; 3]) {
            return Some(format!("the capture of {link} did not see every sentinel"));
        }
        if controls.drops.get(link) != Some(&0) {
            return Some(format!("the capture of {link} is not known to have lost no frame"));
        }
        let counter = controls.counters.get(link);
        if counter.is_none_or(|counter| counter.transmitted != Some(counter.captured)) {
            return Some(format!("the counters of {link} do not agree"));
        }
    }
    None
}

fn waive(hold: Hold, record: &Record, waivers: &[WaiverUse]) -> Hold {
    let Hold::Fails(reason) = hold else { return hold };
    let stands = |waiver: &WaiverUse| {
        matches!(waiver.state, WaiverState::Stands(_)) && waives(waiver.waiver, record)
    };
    match waivers.iter().position(stands) {
        Some(at) => Hold::Waived(at, reason),
        None => Hold::Fails(reason),
    }
}

/// Whether `record` shows what `waiver` says, whatever the day.
fn waives(waiver: &Waiver, record: &Record) -> bool {
    let seen = record.observed.as_ref().is_some_and(|seen| seen.outcome == waiver.outcome);
    seen && record.verdict != Verdict::Stale && picks(&waiver.selector, &record.id)
}

fn state(
    waiver: &Waiver,
    requirements: &Requirements,
    records: &[(usize, &Record)],
    today: Date,
) -> WaiverState {
    if waiver.expires < today {
        return WaiverState::Expired;
    }
    let mut standing: Vec<&str> = Vec::new();
    let mut open = false;
    for (_, record) in records.iter().filter(|(_, record)| picks(&waiver.selector, &record.id)) {
        let named = requirements.requirements.iter().filter(|one| required(one, record));
        let holds: Vec<Hold> = named.map(|one| hold(one, record)).collect();
        let fails = holds.iter().any(|hold| matches!(hold, Hold::Fails(_)));
        if fails && waives(waiver, record) {
            standing.push(&record.id);
        } else if holds.iter().any(|hold| !matches!(hold, Hold::Open(_))) {
            // One that reaches further than what deviates would waive what is yet to come.
            let seen = record.observed.as_ref().map_or_else(|| "nothing".to_owned(), describe);
            let word = waiver.outcome.word();
            return WaiverState::Stale(format!("it says {word}, and {} is {seen}", record.id));
        } else {
            open |= !holds.is_empty();
        }
    }
    standing.sort_unstable();
    standing.dedup();
    match standing.len() {
        0 if open => WaiverState::Undecided,
        0 => {
            let ids: Vec<&str> = records.iter().map(|(_, record)| record.id.as_str()).collect();
            let picked = ids.iter().any(|id| picks(&waiver.selector, id));
            let unnamed = "no requirement names the trials that it picks".to_owned();
            WaiverState::Unmatched(if picked { unnamed } else { no_match(&waiver.selector, &ids) })
        }
        count => WaiverState::Stands(count),
    }
}

/// The frames that decide a trial: leaks where there are any, else what the attempt sent on intended
/// links.
fn deciding(record: &Record) -> Vec<&FrameRecord> {
    let leaks: Vec<&FrameRecord> =
        record.frames.iter().filter(|frame| frame.role == "leak").collect();
    if !leaks.is_empty() {
        return leaks;
    }
    let outcome = record.observed.as_ref().map(|seen| seen.outcome);
    if !matches!(outcome, Some(Outcome::Contained | Outcome::Delivered)) {
        return Vec::new();
    }
    let intended = |frame: &&FrameRecord| frame.judged() && record.intended.contains(&frame.link);
    record.frames.iter().filter(intended).collect()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::report::sample;

    const TODAY: Date = Date { year: 2027, month: 3, day: 31 };

    fn record(id: &str, verdict: Verdict, outcome: Outcome) -> Record {
        let mut record = Record { id: id.to_owned(), verdict, ..sample::record() };
        record.observed.as_mut().unwrap().outcome = outcome;
        if matches!(verdict, Verdict::Inconclusive | Verdict::Skipped) {
            record.observed = None;
        }
        record
    }

    fn document(records: Vec<Record>) -> Document {
        let text = r#"{"schema":1,"tool":{"name":"airtight","version":"0"},
            "host":{"kernel":"6.1.0","rootless":false},"records":[],"partial":false}"#;
        let mut document: Document = serde_json::from_str(text).unwrap();
        document.records = records;
        document
    }

    /// Two requirements, about trials that begin with `a` and with `b`; `waivers` as TOML.
    fn check(records: Vec<Record>, waivers: &str, expect: &[(&str, Standing)], code: u8) {
        let text = format!(
            "[[requirement]]\nid = 'A'\ntext = 'a'\ntrials = ['a::']\n\
             [[requirement]]\nid = 'B'\ntext = 'b'\ntrials = ['b::']\n{waivers}"
        );
        let requirements = parse("r.toml", text.as_bytes()).unwrap();
        let documents = [document(records)];
        let assessment = assess(&requirements, &documents, TODAY);
        let found: Vec<(&str, Standing)> =
            assessment.assessed.iter().map(|a| (a.requirement.id.as_str(), a.standing)).collect();
        assert_eq!(found, expect, "{:?}", assessment.waivers);
        assert_eq!(assessment.exit_code(), code, "{:?}", assessment.waivers);
    }

    fn waiver(selector: &str, outcome: &str, expires: &str) -> String {
        format!(
            "[[waiver]]\ntrials = '{selector}'\noutcome = '{outcome}'\nowner = 'o'\n\
             reason = 'r'\nexpires = {expires}\n"
        )
    }

    use Outcome::{Contained, Leaked, Refused};
    use Standing::{NotProved, Proved, Violated, Waived};
    use Verdict::{Conforms, Deviates, Inconclusive, Known, Skipped, Stale};

    #[test]
    fn only_what_conforms_whole_is_proved() {
        let a = |verdict, outcome| record("a::x", verdict, outcome);
        let b = || record("b::x", Conforms, Contained);
        let cases = [
            (vec![a(Conforms, Contained)], Proved, 0),
            (vec![a(Conforms, Refused)], Proved, 0),
            (vec![], NotProved, 4),
            (vec![a(Inconclusive, Contained)], NotProved, 4),
            (vec![a(Skipped, Contained)], NotProved, 4),
            (vec![a(Conforms, Contained), record("a::y", Skipped, Contained)], NotProved, 4),
            (vec![a(Deviates, Leaked)], Violated, 1),
            (vec![a(Known, Leaked)], Violated, 1),
            (vec![a(Stale, Contained)], Violated, 1),
            (vec![a(Deviates, Leaked), record("a::y", Skipped, Contained)], Violated, 1),
            // A scenario may expect a leak: it conforms, and proves no containment.
            (vec![a(Conforms, Leaked)], Violated, 1),
            // The same trial in two results must hold in both.
            (vec![a(Conforms, Contained), a(Deviates, Leaked)], Violated, 1),
        ];
        for (mut records, standing, code) in cases {
            records.push(b());
            let mut expect = [("A", standing), ("B", Proved)];
            expect.sort_by_key(|(_, standing)| *standing);
            check(records, "", &expect, code);
        }
    }

    #[test]
    fn a_verdict_without_its_proofs_proves_nothing() {
        let good = || record("a::x", Conforms, Contained);
        let breaks: [fn(&mut Record); 6] = [
            |record| record.observed = None,
            |record| record.controls.unpinned.clear(),
            |record| record.controls.quiet = false,
            |record| record.controls.drops.values_mut().for_each(|drops| *drops = 1),
            |record| record.controls.sentinels.clear(),
            |record| record.links.clear(),
        ];
        for breaks in breaks {
            let mut record = good();
            breaks(&mut record);
            let b = self::record("b::x", Conforms, Contained);
            check(vec![record, b], "", &[("A", NotProved), ("B", Proved)], 4);
        }
    }

    #[test]
    fn what_was_planned_and_not_made_is_a_gap() {
        let text = b"[[requirement]]\nid = \"A\"\ntext = \"t\"\ntrials = [\"a\"]\n";
        let requirements = parse("requirements.toml", text);
        let requirements = requirements.unwrap_or_else(|error| panic!("{error}"));
        let standing = |change: fn(&mut Document)| {
            let mut whole =
                document(vec![record("a/x::c::v4-udp", Verdict::Conforms, Outcome::Contained)]);
            change(&mut whole);
            assess(&requirements, &[whole], TODAY).assessed[0].standing
        };
        assert_eq!(standing(|_| {}), Standing::Proved);
        assert_eq!(standing(|whole| whole.partial = true), Standing::NotProved);
        assert_eq!(standing(|whole| lack(whole, "a/y::c::v4-udp")), Standing::NotProved);
        assert_eq!(standing(|whole| lack(whole, "b/y::c::v4-udp")), Standing::Proved);
    }

    fn lack(whole: &mut Document, id: &str) {
        whole.partial = true;
        let missing = [id.to_owned()].into();
        whole.runs.push(crate::report::result::Run { missing, ..Default::default() });
    }

    #[test]
    fn what_is_not_proved_comes_first() {
        let records = vec![record("a::x", Deviates, Leaked)];
        check(records, "", &[("B", NotProved), ("A", Violated)], 1);
    }

    #[test]
    fn a_waiver_stands_for_exactly_what_deviates() {
        let records = |verdict, outcome| {
            vec![record("a::x", verdict, outcome), record("b::x", Conforms, Contained)]
        };
        let waived = [("A", Waived), ("B", Proved)];
        let violated = [("A", Violated), ("B", Proved)];
        let leaked = |selector| waiver(selector, "leaked", "2027-03-31");
        check(records(Deviates, Leaked), &leaked("a::x"), &waived, 0);
        check(records(Known, Leaked), &leaked("a::x"), &waived, 0);
        // Yesterday's.
        let expired = waiver("a::x", "leaked", "2027-03-30");
        check(records(Deviates, Leaked), &expired, &violated, 1);
        // Another outcome than the one that is seen.
        check(records(Deviates, Leaked), &waiver("a::x", "refused", "2028-01-01"), &violated, 1);
        // One that is too wide.
        let wide = vec![
            record("a::x", Deviates, Leaked),
            record("a::y", Conforms, Contained),
            record("b::x", Conforms, Contained),
        ];
        check(wide, &leaked("a::"), &violated, 1);
        // One that is no longer true, one that picks nothing, one for what nobody requires.
        let proved = [("A", Proved), ("B", Proved)];
        check(records(Conforms, Contained), &leaked("a::x"), &proved, 1);
        check(records(Conforms, Contained), &leaked("c::x"), &proved, 1);
        let mut more = records(Conforms, Contained);
        more.push(record("c::x", Deviates, Leaked));
        check(more, &leaked("c::x"), &proved, 1);
        // What was not proved says nothing against it, nor for it.
        check(records(Skipped, Leaked), &leaked("a::x"), &[("A", NotProved), ("B", Proved)], 4);
    }

    #[test]
    fn a_selector_that_picks_nothing_is_said_with_a_near_one() {
        let text = "[[requirement]]\nid = 'A'\ntext = 'a'\n\
                    trials = ['basics/sampel', 'basics/sample::x']\n";
        let requirements = parse("r.toml", text.as_bytes()).unwrap();
        let documents = [document(vec![record("basics/sample::x", Conforms, Contained)])];
        let assessment = assess(&requirements, &documents, TODAY);
        assert_eq!(assessment.assessed[0].standing, NotProved);
        assert_eq!(
            assessment.assessed[0].gaps,
            ["`basics/sampel` picks no trial of the result; did you mean `basics/sample`?"]
        );
    }

    #[test]
    fn the_deciding_frames_are_leaks_or_the_attempt_on_its_link() {
        let mut record = record("a::x", Deviates, Leaked);
        assert_eq!(deciding(&record).len(), 1);
        assert_eq!(deciding(&record)[0].role, "leak");
        record.frames[1].role = "frame".to_owned();
        record.frames[1].link = "chassis".to_owned();
        assert_eq!(deciding(&record).len(), 0);
        record.observed.as_mut().unwrap().outcome = Contained;
        assert_eq!(deciding(&record).len(), 1);
    }
}
