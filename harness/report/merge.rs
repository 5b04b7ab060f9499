//! Several results to one: shards of a run, runs on several kernels, of several products.

use std::collections::{BTreeMap, BTreeSet};

use super::result::{Conflict, Document, Product, Run};
use crate::trial::Record;
use crate::verdict::Verdict;

/// What runs must have in common for their records to be of the same trial.
type Group<'a> = (&'a str, Option<&'a Product>);

fn group(run: &Run) -> Group<'_> {
    (&run.kernel.release, run.product.as_ref())
}

/// Merges results, in their order. Of two records of the same trial, on the same kernel and with
/// the same product, one is kept: the worse, which is no green by a second try. Records with
/// different verdicts, and scenarios with different texts, are conflicts. What one run lacks and
/// another of its group has is no gap. Nothing to merge is an error.
pub fn merge(documents: Vec<Document>) -> anyhow::Result<Document> {
    let mut documents = documents.into_iter().map(with_run);
    let Some(mut merged) = documents.next() else { anyhow::bail!("there is no result to merge") };
    for document in documents {
        add(&mut merged, document);
    }
    let mut conflicts: BTreeSet<Conflict> =
        std::mem::take(&mut merged.conflicts).into_iter().collect();
    merged.records = settle(&merged.runs, std::mem::take(&mut merged.records), &mut conflicts);
    // Shards share scenarios: what belongs together stands together.
    let runs = &merged.runs;
    let first = |at: usize| runs.iter().position(|run| group(run) == group(&runs[at]));
    merged.records.sort_by_cached_key(|record| (first(record.run), record.scenario.clone()));
    conflicts.extend(texts(&merged.runs));
    merged.conflicts = conflicts.into_iter().collect();
    close_gaps(&mut merged);
    merged.sum();
    Ok(merged)
}

/// A result of before runs were told has one run, of which little is known.
fn with_run(mut document: Document) -> Document {
    if document.runs.is_empty() {
        let mut run = Run { version: document.tool.version.clone(), ..Run::default() };
        run.kernel.release.clone_from(&document.host.kernel);
        run.machine.rootless = document.host.rootless;
        run.planned = document.records.len();
        document.runs.push(run);
    }
    document
}

/// Adds runs and records. A run that is there already, as where a merged result is merged again,
/// is not there twice.
fn add(merged: &mut Document, document: Document) {
    let mut places = Vec::new();
    for run in document.runs {
        let same = |known: &Run| {
            let about = |run: &Run| {
                (run.started.clone(), run.command.clone(), run.kernel.clone(), run.machine.clone())
            };
            !run.started.is_empty() && about(known) == about(&run)
        };
        places.push(merged.runs.iter().position(same).unwrap_or(merged.runs.len()));
        match merged.runs.iter_mut().find(|known| same(known)) {
            Some(known) => known.missing.retain(|id| run.missing.contains(id)),
            None => merged.runs.push(run),
        }
    }
    merged.conflicts.extend(document.conflicts);
    merged.records.extend(document.records.into_iter().map(|mut record| {
        record.run = places.get(record.run).copied().unwrap_or(0);
        record
    }));
}

/// How bad a verdict is. What was not tried gives way to whatever was.
fn weight(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Skipped => 0,
        Verdict::Conforms => 1,
        Verdict::Known => 2,
        Verdict::Inconclusive => 3,
        Verdict::Stale => 4,
        Verdict::Deviates => 5,
    }
}

/// One record a trial and group, in the order of their first.
fn settle(runs: &[Run], records: Vec<Record>, conflicts: &mut BTreeSet<Conflict>) -> Vec<Record> {
    let mut places: BTreeMap<(Group<'_>, String), usize> = BTreeMap::new();
    let mut kept: Vec<Record> = Vec::new();
    for record in records {
        let Some(run) = runs.get(record.run) else { continue };
        let key = (group(run), record.id.clone());
        let Some(at) = places.get(&key) else {
            places.insert(key, kept.len());
            kept.push(record);
            continue;
        };
        let before = &mut kept[*at];
        let (was, is) = (before.verdict, record.verdict);
        if was != is && was != Verdict::Skipped && is != Verdict::Skipped {
            let what = format!(
                "{} in run {}, {} in run {}: of the two the worse is kept",
                was.word(),
                before.run,
                is.word(),
                record.run
            );
            conflicts.insert(Conflict { of: record.id.clone(), what });
        }
        if weight(is) > weight(was) {
            *before = record;
        }
    }
    kept
}

/// Scenarios of the same name whose files differ: their trials are not the same.
fn texts(runs: &[Run]) -> Vec<Conflict> {
    let mut known: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    let mut conflicts = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for file in &run.scenarios {
            let (digest, first) = *known.entry(&file.name).or_insert((&file.sha256, at));
            if digest != file.sha256 {
                let what = format!("its file in run {at} is another than in run {first}");
                conflicts.push(Conflict { of: file.name.clone(), what });
            }
        }
    }
    conflicts
}

/// What a run lacks, and another run of its group has a record of, is not missing.
fn close_gaps(merged: &mut Document) {
    let recorded: BTreeSet<(String, usize)> = {
        let first = |at: usize| {
            let of = group(&merged.runs[at]);
            merged.runs.iter().position(|run| group(run) == of).unwrap_or(at)
        };
        let firsts: Vec<usize> = (0..merged.runs.len()).map(first).collect();
        let all = merged.records.iter();
        let of = all.flat_map(|record| {
            let same = (0..firsts.len()).filter(|at| firsts[*at] == firsts[record.run]);
            same.map(|at| (record.id.clone(), at)).collect::<Vec<_>>()
        });
        of.collect()
    };
    for (at, run) in merged.runs.iter_mut().enumerate() {
        run.missing.retain(|id| !recorded.contains(&(id.clone(), at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::{Kernel, ScenarioFile};
    use crate::report::sample;

    /// A run on `kernel`, begun at `started`, of `planned` ids, with these records.
    fn result(kernel: &str, started: &str, planned: &[&str], made: &[(&str, Verdict)]) -> Document {
        let run = Run {
            kernel: Kernel { release: kernel.to_owned(), ..Kernel::default() },
            started: started.to_owned(),
            planned: planned.len(),
            missing: planned.iter().map(|id| (*id).to_owned()).collect(),
            ..Run::default()
        };
        let mut document = Document::new(run);
        document.records = made
            .iter()
            .map(|(id, verdict)| Record {
                id: (*id).to_owned(),
                verdict: *verdict,
                ..sample::record()
            })
            .collect();
        document.sum();
        document
    }

    use Verdict::{Conforms, Deviates, Skipped};

    #[test]
    fn shards_make_a_whole_and_gaps_are_told() {
        let planned = ["a", "b", "c"];
        let one = result("6.1", "1", &planned, &[("a", Conforms), ("c", Skipped)]);
        let two = result("6.1", "2", &planned, &[("b", Conforms), ("c", Skipped)]);
        assert!(one.partial);
        let both = merge(vec![one.clone(), two.clone()]).unwrap();
        assert_eq!((both.partial, both.exit_code(), both.records.len()), (false, 0, 3));
        let gap = merge(vec![one.clone(), one.clone()]).unwrap();
        assert_eq!((gap.partial, gap.exit_code(), gap.runs.len()), (true, 4, 1));
        assert!(gap.problems()[0].ends_with("no record of 1: b"), "{:?}", gap.problems());
        // A merged result can be merged again with what it was made of.
        let again = merge(vec![both.clone(), two]).unwrap();
        assert_eq!((again.records.len(), again.runs.len()), (3, 2));
        assert_eq!(again.conflicts, Vec::new());
    }

    #[test]
    fn kernels_stand_beside_each_other() {
        let one = result("6.1", "1", &["a"], &[("a", Conforms)]);
        let two = result("6.12", "2", &["a"], &[("a", Deviates)]);
        let both = merge(vec![one, two]).unwrap();
        assert_eq!((both.records.len(), both.conflicts.len(), both.exit_code()), (2, 0, 1));
        assert_eq!(both.label(&both.records[1]), "Linux 6.12");
        // A trial that was made on another kernel is missing on this one.
        let none = result("6.1", "3", &["b"], &[]);
        let other = result("6.12", "4", &["b"], &[("b", Conforms)]);
        assert!(merge(vec![none, other]).unwrap().partial);
    }

    #[test]
    fn a_second_try_makes_nothing_green() {
        let bad = result("6.1", "1", &["a"], &[("a", Deviates)]);
        let good = result("6.1", "2", &["a"], &[("a", Conforms)]);
        for order in [[bad.clone(), good.clone()], [good.clone(), bad.clone()]] {
            let merged = merge(order.into()).unwrap();
            assert_eq!((merged.records.len(), merged.conflicts.len()), (1, 1));
            assert_eq!(merged.exit_code(), 1);
        }
        let skipped = result("6.1", "3", &["a"], &[("a", Skipped)]);
        let merged = merge(vec![skipped, good]).unwrap();
        assert_eq!((merged.exit_code(), merged.conflicts.len()), (0, 0));
    }

    #[test]
    fn scenarios_that_differ_are_a_conflict() {
        let file = |sha256: &str| ScenarioFile {
            name: "basics/sample".to_owned(),
            path: String::new(),
            sha256: sha256.to_owned(),
        };
        let mut one = result("6.1", "1", &["a"], &[("a", Conforms)]);
        let mut two = result("6.1", "2", &["b"], &[("b", Conforms)]);
        one.runs[0].scenarios = vec![file("1")];
        two.runs[0].scenarios = vec![file("2")];
        let merged = merge(vec![one, two]).unwrap();
        assert_eq!((merged.conflicts.len(), merged.exit_code()), (1, 4));
    }

    #[test]
    fn nothing_is_no_result() {
        assert!(merge(Vec::new()).is_err());
    }
}
