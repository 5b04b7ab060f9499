//! The first screen: what was proved, in words, and what was not.

use serde::Serialize;

use super::{Badge, grouped, outcome_sign, verdict, verdict_badge};
use crate::report::human::{Tally, plural};
use crate::report::result::Document;
use crate::scenario::Outcome;
use crate::verdict::Verdict;

/// How wide a part of the bar is at least.
const PART_MIN: f64 = 12.0;

/// The head of the page.
#[derive(Serialize)]
pub(super) struct Headline {
    /// The colour and the sign of the whole: `good` only where everything was tried and conforms.
    pub(super) tone: &'static str,
    pub(super) sign: &'static str,
    /// The verdict in a sentence.
    pub(super) sentence: String,
    /// What follows from it, a sentence each.
    pub(super) notes: Vec<String>,
    counts: Vec<Count>,
    outcomes: Vec<OutcomeCount>,
    total: usize,
    total_words: String,
    scenarios: usize,
    kernel: String,
    rootless: bool,
    tool: String,
    version: String,
    schema: u32,
}

/// How many trials have one verdict, and their part of the bar.
#[derive(Serialize)]
struct Count {
    badge: Badge,
    count: usize,
    words: String,
    meaning: &'static str,
    /// Where its part of a bar of 1,000 begins, and how wide it is.
    from: f64,
    width: f64,
}

#[derive(Serialize)]
struct OutcomeCount {
    word: &'static str,
    sign: &'static str,
    words: String,
    meaning: &'static str,
}

/// The head of this document's page.
pub(super) fn headline(document: &Document) -> Headline {
    let records = &document.records;
    let mut tally = Tally::default();
    records.iter().for_each(|record| tally.add(verdict(record)));
    let problems = document.problems();
    let (tone, sign, sentence) = match sentence(&tally) {
        // What is missing, or contradicts itself, may be whatever there is to know.
        ("good" | "partial", ..) if !problems.is_empty() => {
            let words = "Not all that was planned is proved, or it contradicts itself.";
            ("unproved", "?", words.to_owned())
        }
        told => told,
    };
    let scenarios: std::collections::BTreeSet<&str> =
        records.iter().map(|record| record.scenario.as_str()).collect();
    let outcome = |outcome: Outcome, meaning| {
        let proved = |record: &&crate::trial::Record| {
            record.observed.as_ref().is_some_and(|observed| observed.outcome == outcome)
        };
        OutcomeCount {
            word: outcome.word(),
            sign: outcome_sign(Some(outcome)),
            words: grouped(records.iter().filter(proved).count()),
            meaning,
        }
    };
    let outcomes = vec![
        outcome(Outcome::Contained, "frames on an intended link, and none elsewhere"),
        outcome(Outcome::Leaked, "at least one frame on a link that is not intended"),
        outcome(Outcome::Refused, "an error or no reception, and no frame anywhere"),
        outcome(Outcome::Silent, "no error, and no frame anywhere"),
        outcome(Outcome::Delivered, "what a gateway injected reached the socket"),
    ];
    let any = outcomes.iter().filter(|outcome| outcome.words != "0");
    let proved: Vec<String> = any.map(|o| format!("{} {}", o.words, o.word)).collect();
    Headline {
        tone,
        sign,
        sentence,
        notes: problems.into_iter().chain(notes(&tally, &proved)).collect(),
        counts: counts(&tally),
        outcomes,
        total: tally.total(),
        total_words: grouped(tally.total()),
        scenarios: scenarios.len(),
        kernel: document.host.kernel.clone(),
        rootless: document.host.rootless,
        tool: document.tool.name.clone(),
        version: document.tool.version.clone(),
        schema: document.schema,
    }
}

/// The verdict on the whole: its tone, its sign, its words. What was not proved outweighs whatever was.
fn sentence(tally: &Tally) -> (&'static str, &'static str, String) {
    let total = tally.total();
    let of = |count: usize| match total {
        1 => "The only trial".to_owned(),
        total => format!("{} of {} trials", grouped(count), grouped(total)),
    };
    let verb = |count: usize, one: &str, many: &str| {
        if count == 1 { one.to_owned() } else { many.to_owned() }
    };
    if total == 0 {
        ("unproved", "?", "Nothing was tried: nothing is proved.".to_owned())
    } else if tally.deviates + tally.stale > 0 {
        let count = tally.deviates + tally.stale;
        let words = match (tally.deviates, tally.stale) {
            (0, stale) => {
                format!("{} a waiver that is no longer true.", verb(stale, "has", "have"))
            }
            (deviates, 0) => {
                format!("{} from what is expected.", verb(deviates, "deviates", "deviate"))
            }
            _ => {
                "deviate from what is expected or have a waiver that is no longer true.".to_owned()
            }
        };
        ("bad", "✗", format!("{} {words}", of(count)))
    } else if tally.inconclusive > 0 {
        let count = tally.inconclusive;
        let words = verb(
            count,
            "is inconclusive: it proves nothing.",
            "are inconclusive: they prove nothing.",
        );
        ("unproved", "?", format!("{} {words}", of(count)))
    } else if tally.skipped == total {
        ("unproved", "?", "Every trial was skipped: nothing is proved.".to_owned())
    } else if tally.skipped > 0 || tally.known > 0 {
        let words = match (tally.skipped, tally.known) {
            (0, known) => format!("{} waived", grouped(known)),
            (skipped, 0) => format!("{} not tried", grouped(skipped)),
            (skipped, known) => {
                format!("{} not tried, {} waived", grouped(skipped), grouped(known))
            }
        };
        ("partial", "◐", format!("{} conform; {words}.", of(tally.conforms)))
    } else if total == 1 {
        ("good", "✓", "The only trial conforms.".to_owned())
    } else {
        ("good", "✓", format!("All {} trials conform.", grouped(total)))
    }
}

/// `proved` is how many trials came to each outcome, in words.
fn notes(tally: &Tally, proved: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    if !proved.is_empty() {
        notes.push(format!("What the wires showed: {}.", proved.join(", ")));
    }
    if tally.inconclusive > 0 {
        notes.push(format!(
            "{} inconclusive: neither a leak nor its absence is proved.",
            plural_grouped(tally.inconclusive, "trial")
        ));
    }
    if tally.skipped > 0 {
        notes.push(format!(
            "{} skipped, because this machine cannot try them: nothing is known of them.",
            plural_grouped(tally.skipped, "trial")
        ));
    }
    if tally.known > 0 {
        notes.push(format!(
            "{} known to deviate: waived, not mended.",
            plural_grouped(tally.known, "trial")
        ));
    }
    notes
}

fn plural_grouped(count: usize, noun: &str) -> String {
    let words = plural(count as u64, noun);
    words.replacen(&count.to_string(), &grouped(count), 1)
}

fn counts(tally: &Tally) -> Vec<Count> {
    let rows = [
        (Verdict::Conforms, tally.conforms, "the outcome is the expected one"),
        (Verdict::Deviates, tally.deviates, "the outcome is another"),
        (Verdict::Stale, tally.stale, "a waiver is no longer true"),
        (Verdict::Known, tally.known, "another outcome, and a waiver says so"),
        (Verdict::Inconclusive, tally.inconclusive, "nothing was proved"),
        (Verdict::Skipped, tally.skipped, "not tried on this machine"),
    ];
    // One trial among thousands must be seen.
    let parts = rows.iter().filter(|(_, count, _)| *count > 0).count() as f64;
    let scale = (1000.0 - PART_MIN * parts) / tally.total().max(1) as f64;
    let mut from = 0.0;
    let mut counts = Vec::new();
    for (verdict, count, meaning) in rows {
        let part = if count > 0 { PART_MIN + count as f64 * scale } else { 0.0 };
        let width = (part * 10.0).round() / 10.0;
        let badge = verdict_badge(verdict);
        counts.push(Count { badge, count, words: grouped(count), meaning, from, width });
        from += width;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_run_that_conforms_is_good() {
        let tally = |conforms, deviates, stale, inconclusive, skipped, known| Tally {
            conforms,
            deviates,
            known,
            stale,
            inconclusive,
            skipped,
        };
        let check = |tally: Tally, tone: &str, words: &str| {
            let (got, _, sentence) = sentence(&tally);
            assert_eq!((got, sentence.as_str()), (tone, words), "{tally:?}");
        };
        check(tally(1277, 0, 0, 0, 0, 0), "good", "All 1,277 trials conform.");
        check(tally(1, 0, 0, 0, 0, 0), "good", "The only trial conforms.");
        check(tally(9, 1, 0, 3, 2, 0), "bad", "1 of 15 trials deviates from what is expected.");
        check(
            tally(9, 0, 2, 0, 0, 0),
            "bad",
            "2 of 11 trials have a waiver that is no longer true.",
        );
        let words =
            "2 of 5 trials deviate from what is expected or have a waiver that is no longer true.";
        check(tally(3, 1, 1, 0, 0, 0), "bad", words);
        let words = "1 of 4 trials is inconclusive: it proves nothing.";
        check(tally(3, 0, 0, 1, 0, 0), "unproved", words);
        check(tally(0, 0, 0, 0, 2, 0), "unproved", "Every trial was skipped: nothing is proved.");
        check(tally(0, 0, 0, 0, 0, 0), "unproved", "Nothing was tried: nothing is proved.");
        check(tally(3, 0, 0, 0, 1, 0), "partial", "3 of 4 trials conform; 1 not tried.");
        check(tally(3, 0, 0, 0, 0, 1), "partial", "3 of 4 trials conform; 1 waived.");
    }
}
