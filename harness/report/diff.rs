//! Two results to what has changed between them: releases, kernels, days.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::human::{plural, safe};
use super::result::Document;
use crate::scenario::Outcome;
use crate::trial::Record;
use crate::verdict::Verdict;

/// What has changed. Each trial is in one list, the first that it fits, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Whether anything is worse: a trial that was contained or conformed, and now leaks, deviates,
    /// proves nothing or is gone.
    pub regression: bool,
    /// What must be known to read the rest: partial results, another kernel, other scenarios.
    pub remarks: Vec<String>,
    /// Trials that were contained and now leak, whatever is expected of them.
    pub leaks_now: Vec<Change>,
    /// Trials that conformed and now do not: they deviate, a waiver is stale, nothing is proved.
    pub worse: Vec<Change>,
    /// Trials of which there is no record any more.
    pub gone: Vec<Change>,
    /// Trials that were made and are now skipped.
    pub skipped_now: Vec<Change>,
    /// Trials that now conform.
    pub better: Vec<Change>,
    /// Other changes of the verdict.
    pub verdict: Vec<Change>,
    /// The verdict is as it was, and the outcome is another: the expectation has changed too.
    pub outcome: Vec<Change>,
    /// Trials that were not there before.
    pub new: Vec<Change>,
    /// How many trials are as they were.
    pub same: usize,
}

/// A trial that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its id, with its run's label where results are merged ones.
    pub id: String,
    /// What it was.
    pub before: Option<State>,
    /// What it is.
    pub after: Option<State>,
    /// Whether that is a regression.
    pub regression: bool,
}

/// How a trial stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// The verdict.
    pub verdict: Verdict,
    /// The outcome.
    pub outcome: Option<Outcome>,
    /// The links that frames left through.
    pub through: Vec<String>,
    /// The error that the sender was given.
    pub errno: Option<String>,
    /// The verdict in words.
    pub reason: String,
}

impl State {
    fn of(record: &Record) -> State {
        let observed = record.observed.as_ref();
        State {
            verdict: record.verdict,
            outcome: observed.map(|observed| observed.outcome),
            through: observed.map(|observed| observed.through.clone()).unwrap_or_default(),
            errno: observed.and_then(|observed| observed.errno.clone()),
            reason: record.reason.clone(),
        }
    }

    fn same(&self, other: &State) -> bool {
        let of = |state: &State| {
            (state.verdict, state.outcome, state.through.clone(), state.errno.clone())
        };
        of(self) == of(other)
    }

    /// Whether it was good: a change of it for the worse is a regression.
    fn good(&self) -> bool {
        self.verdict == Verdict::Conforms || self.outcome == Some(Outcome::Contained)
    }

    fn words(&self) -> String {
        let outcome = self.outcome.map_or(String::new(), |outcome| format!(" {}", outcome.word()));
        let more = match self.outcome {
            Some(Outcome::Leaked) => format!(" {}", self.through.join(",")),
            Some(Outcome::Refused) => format!(" {}", self.errno.as_deref().unwrap_or_default()),
            None if self.verdict == Verdict::Inconclusive => format!(" ({})", self.reason),
            _ => String::new(),
        };
        safe(format!("{}{outcome}{more}", self.verdict.word()).trim_end())
    }
}

/// Compares two results. A result without a record cannot be compared: that is an error.
pub fn diff(before: &Document, after: &Document) -> anyhow::Result<Diff> {
    anyhow::ensure!(!before.records.is_empty(), "the result before holds no trial");
    anyhow::ensure!(!after.records.is_empty(), "the result after holds no trial");
    let (was, is) = (states(before), states(after));
    let mut diff = Diff { remarks: remarks(before, after), ..Diff::default() };
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for key in keys {
        let (before, after) = (was.get(key).cloned(), is.get(key).cloned());
        if let (Some(before), Some(after)) = (&before, &after)
            && before.same(after)
        {
            diff.same += 1;
            continue;
        }
        let (regression, list) = class(&mut diff, before.as_ref(), after.as_ref());
        list.push(Change { id: key.clone(), before, after, regression });
        diff.regression |= regression;
    }
    Ok(diff)
}

/// Whether a change is a regression, and the list that it belongs to.
fn class<'a>(
    diff: &'a mut Diff,
    before: Option<&State>,
    after: Option<&State>,
) -> (bool, &'a mut Vec<Change>) {
    use Verdict::{Conforms, Deviates, Inconclusive, Skipped, Stale};
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (Some(before), None) => return (before.good(), &mut diff.gone),
        (None, _) => return (false, &mut diff.new),
    };
    let contained = before.outcome == Some(Outcome::Contained);
    if contained && after.outcome == Some(Outcome::Leaked) {
        (true, &mut diff.leaks_now)
    } else if before.good()
        && before.verdict != after.verdict
        && matches!(after.verdict, Deviates | Stale | Inconclusive)
    {
        (true, &mut diff.worse)
    } else if after.verdict == Skipped {
        (false, &mut diff.skipped_now)
    } else if after.verdict == Conforms && before.verdict != Conforms {
        (false, &mut diff.better)
    } else if before.verdict != after.verdict {
        (false, &mut diff.verdict)
    } else {
        (false, &mut diff.outcome)
    }
}

/// Each trial's state, by its id and its run's label.
fn states(document: &Document) -> BTreeMap<String, State> {
    let key = |record: &Record| match document.label(record).as_str() {
        "" => record.id.clone(),
        label => format!("{} [{label}]", record.id),
    };
    document.records.iter().map(|record| (key(record), State::of(record))).collect()
}

fn remarks(before: &Document, after: &Document) -> Vec<String> {
    let mut remarks = Vec::new();
    for (name, document) in [("before", before), ("after", after)] {
        remarks.extend(document.problems().into_iter().map(|p| format!("{name}: {p}")));
    }
    let kernels = |document: &Document| -> BTreeSet<String> {
        let runs = document.runs.iter().map(|run| run.kernel.release.clone());
        std::iter::once(document.host.kernel.clone()).chain(runs).collect()
    };
    let told = |of: BTreeSet<String>| of.into_iter().collect::<Vec<_>>().join(", ");
    let (was, is) = (kernels(before), kernels(after));
    if was != is {
        remarks.push(format!("another kernel: {}, then {}", told(was), told(is)));
    }
    if before.tool.version != after.tool.version {
        let (was, is) = (&before.tool.version, &after.tool.version);
        remarks.push(format!("another airtight: {was}, then {is}"));
    }
    let texts = |document: &Document| -> BTreeMap<String, String> {
        let files = document.runs.iter().flat_map(|run| run.scenarios.clone());
        files.map(|file| (file.name, file.sha256)).collect()
    };
    let (was, is) = (texts(before), texts(after));
    let changed: Vec<String> = was
        .iter()
        .filter(|(name, digest)| is.get(*name).is_some_and(|now| now != *digest))
        .map(|(name, _)| name.clone())
        .collect();
    if !changed.is_empty() {
        remarks.push(format!("other texts of the scenarios {}", changed.join(", ")));
    }
    remarks
}

/// The lists with a heading each, what matters most first.
fn lists(diff: &Diff) -> [(&'static str, &Vec<Change>); 8] {
    [
        ("contained before, leaks now", &diff.leaks_now),
        ("conformed or was contained before, and does not now", &diff.worse),
        ("gone", &diff.gone),
        ("skipped now", &diff.skipped_now),
        ("conforms now", &diff.better),
        ("another verdict", &diff.verdict),
        ("another outcome", &diff.outcome),
        ("new", &diff.new),
    ]
}

/// The difference as a person reads it. Regressions are marked with an exclamation mark.
pub fn human(diff: &Diff) -> String {
    let mut text: String =
        diff.remarks.iter().map(|remark| format!("note: {}\n", safe(remark))).collect();
    for (heading, changes) in lists(diff) {
        if changes.is_empty() {
            continue;
        }
        text += &format!("\n{heading} ({}):\n", changes.len());
        for change in changes {
            let mark = if change.regression { '!' } else { ' ' };
            let words = |state: &Option<State>| state.as_ref().map(State::words);
            let told = match (words(&change.before), words(&change.after)) {
                (Some(before), Some(after)) => format!("{before} -> {after}"),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => String::new(),
            };
            text += &format!("{mark} {}  {told}\n", safe(&change.id));
        }
    }
    let worse = lists(diff).iter().flat_map(|(_, of)| of.iter()).filter(|c| c.regression).count();
    let verdict = match worse {
        0 => "no regression".to_owned(),
        count => plural(count as u64, "regression"),
    };
    let changes: usize = lists(diff).iter().map(|(_, of)| of.len()).sum();
    let changes = plural(changes as u64, "change");
    text + &format!("\n{verdict}: {changes}, {} as before\n", plural(diff.same as u64, "trial"))
}

/// The difference as JSON.
pub fn json(diff: &Diff) -> serde_json::Result<String> {
    serde_json::to_string_pretty(diff).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::Run;
    use crate::report::sample;
    use Outcome::{Contained, Leaked};
    use Verdict::{Conforms, Deviates, Inconclusive, Known, Skipped, Stale};

    fn result(trials: &[(&str, Verdict, Option<Outcome>)]) -> Document {
        let mut document = Document::new(Run { planned: trials.len(), ..Run::default() });
        document.records = trials
            .iter()
            .map(|(id, verdict, outcome)| {
                let mut record = sample::record();
                record.id = (*id).to_owned();
                record.verdict = *verdict;
                match (&mut record.observed, outcome) {
                    (Some(observed), Some(outcome)) => observed.outcome = *outcome,
                    (observed, _) => *observed = None,
                }
                record
            })
            .collect();
        document.sum();
        document
    }

    /// One trial that changes so, beside one that stays: the list it is in, and the exit.
    fn check(
        before: Option<(Verdict, Option<Outcome>)>,
        after: Option<(Verdict, Option<Outcome>)>,
        list: &str,
        regression: bool,
    ) {
        let stays = ("stays", Conforms, Some(Contained));
        let of = |state: Option<(Verdict, Option<Outcome>)>| {
            let trial = state.map(|(verdict, outcome)| ("a", verdict, outcome));
            result(&trial.into_iter().chain([stays]).collect::<Vec<_>>())
        };
        let diff = diff(&of(before), &of(after)).unwrap();
        assert_eq!(diff.same, 1);
        let value = serde_json::to_value(&diff).unwrap();
        assert_eq!(value[list].as_array().map(Vec::len), Some(1), "{list}: {value}");
        assert_eq!(diff.regression, regression, "{list}: {value}");
        assert_eq!(human(&diff).contains("\n! a  "), regression, "{}", human(&diff));
    }

    #[test]
    fn each_change_is_in_its_list() {
        let good = Some((Conforms, Some(Contained)));
        check(good, Some((Deviates, Some(Leaked))), "leaks_now", true);
        // An expectation that was changed along does not hide it, nor does a waiver.
        check(good, Some((Conforms, Some(Leaked))), "leaks_now", true);
        check(good, Some((Known, Some(Leaked))), "leaks_now", true);
        check(Some((Conforms, Some(Leaked))), Some((Deviates, Some(Contained))), "worse", true);
        check(good, Some((Inconclusive, None)), "worse", true);
        check(good, Some((Stale, Some(Contained))), "worse", true);
        check(good, None, "gone", true);
        check(Some((Inconclusive, None)), None, "gone", false);
        check(good, Some((Skipped, None)), "skipped_now", false);
        check(Some((Deviates, Some(Leaked))), good, "better", false);
        check(Some((Deviates, Some(Leaked))), Some((Inconclusive, None)), "verdict", false);
        check(Some((Conforms, Some(Leaked))), good, "outcome", false);
        check(Some((Deviates, Some(Contained))), Some((Deviates, None)), "outcome", false);
        check(None, Some((Deviates, Some(Leaked))), "new", false);
    }

    #[test]
    fn nothing_cannot_be_compared() {
        assert!(diff(&result(&[]), &result(&[("a", Conforms, None)])).is_err());
        assert!(diff(&result(&[("a", Conforms, None)]), &result(&[])).is_err());
    }

    #[test]
    fn a_partial_result_and_hostile_text_are_told() {
        let before = result(&[("a\u{1b}[2J", Conforms, Some(Contained))]);
        let mut after = result(&[("b", Conforms, Some(Contained))]);
        after.runs[0].missing.insert("a".to_owned());
        after.sum();
        let text = human(&diff(&before, &after).unwrap());
        assert!(text.contains("note: after: the result is partial"), "{text}");
        assert!(text.contains("\n! a\\u{1b}[2J  conforms contained\n"), "{text}");
        assert!(text.ends_with("\n1 regression: 2 changes, 0 trials as before\n"), "{text}");
    }
}
