//! The canonical result of one run or of several: one JSON document, from which everything else
//! is rendered.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::human::Tally;
use crate::trial::Record;
use crate::verdict::Verdict;

/// The version of the document's shape. Keys are added without another one.
pub const SCHEMA: u32 = 1;

/// A result, as `airtight run --format json` prints it and `result.json` holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Document {
    /// The version of this shape: 1.
    pub schema: u32,
    /// What made it.
    pub tool: Tool,
    /// What it was made on; in a merged result, what its first run was made on.
    pub host: Host,
    /// The trials.
    pub records: Vec<Record>,
    /// The runs that it is of: one, unless results were merged. A record's `run` counts them from
    /// 0. Empty in results of before 0.2.
    #[serde(default)]
    pub runs: Vec<Run>,
    /// How many trials ended in which verdict.
    #[serde(default)]
    pub totals: Tally,
    /// The self-checks behind the verdicts, summed.
    #[serde(default)]
    pub checks: Checks,
    /// Where results were merged: what they do not agree in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
    /// Whether trials that were planned are missing. A result that does not say so does not say
    /// that it is whole.
    #[serde(default = "yes")]
    pub partial: bool,
}

fn yes() -> bool {
    true
}

/// What made a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Tool {
    /// `airtight`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The machine that a result was made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Host {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Whether a user namespace was taken, as it is without root.
    pub rootless: bool,
}

/// One run: what is needed to trust it, and to repeat it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Run {
    /// Airtight's version.
    pub version: String,
    /// Airtight's own build.
    pub build: Build,
    /// The kernel.
    pub kernel: Kernel,
    /// The machine.
    pub machine: Machine,
    /// When it began, as RFC 3339 has it, in UTC.
    pub started: String,
    /// How long it took, in microseconds; nothing where it has not ended.
    pub micros: Option<u64>,
    /// The command line.
    pub command: Vec<String>,
    /// The product on trial.
    pub product: Option<Product>,
    /// The scenario files.
    pub scenarios: Vec<ScenarioFile>,
    /// How many trials were planned.
    pub planned: usize,
    /// The ids of those of which there is no record.
    pub missing: BTreeSet<String>,
    /// Why it ended before its time.
    pub ended: Option<String>,
}

/// How airtight was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Build {
    /// `release` or `debug`.
    pub profile: String,
    /// The commit, where whoever built it said so in AIRTIGHT_COMMIT.
    pub commit: Option<String>,
    /// The SHA-256 of the executable; of a release build only.
    pub sha256: Option<String>,
}

/// A kernel, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
    /// The file that its configuration was read from; nothing where none can be read.
    pub config_from: Option<String>,
    /// Its configuration, as far as it matters: `n` where an option is not set. Empty: unknown.
    pub config: BTreeMap<String, String>,
    /// What a fresh network namespace has by itself, where laboratories state their own values:
    /// paths below /proc/sys/net to values.
    pub sysctls: BTreeMap<String, String>,
}

/// A machine, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Machine {
    /// The processor's architecture.
    pub arch: String,
    /// How many processors airtight may use.
    pub cpus: usize,
    /// Whether a user namespace was taken, as it is without root.
    pub rootless: bool,
}

/// The product on trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Product {
    /// Its command line, with placeholders.
    pub command: Vec<String>,
    /// The SHA-256 of its file, once a trial has found it.
    pub sha256: Option<String>,
}

/// A scenario file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct ScenarioFile {
    /// The scenario's name.
    pub name: String,
    /// The file, as the user named it.
    pub path: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// The self-checks of trials, summed. Skipped trials have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Checks {
    /// The trials that were made.
    pub trials: u64,
    /// Those whose control has shown that the trap works.
    pub armed: u64,
    /// Those whose wires were quiet before the attempt.
    pub quiet: u64,
    /// The sentinels that should have been seen: three a link.
    pub sentinels_expected: u64,
    /// Those that were.
    pub sentinels_seen: u64,
    /// The frames that captures lost.
    pub drops: u64,
    /// The links whose frames were counted.
    pub links: u64,
    /// Those on which as many frames were transmitted as captured.
    pub links_agreed: u64,
}

/// What merged results do not agree in. Whichever is right: nothing is proved by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Conflict {
    /// The trial's id, or the scenario's name.
    pub of: String,
    /// What each says.
    pub what: String,
}

impl Checks {
    /// Adds the checks of one trial.
    pub fn add(&mut self, record: &Record) {
        if record.verdict == Verdict::Skipped {
            return;
        }
        let controls = &record.controls;
        self.trials += 1;
        self.armed += u64::from(!controls.unpinned.is_empty());
        self.quiet += u64::from(controls.quiet);
        for link in &record.links {
            let seen = controls.sentinels.get(link).copied().unwrap_or_default();
            self.sentinels_expected += seen.len() as u64;
            self.sentinels_seen += seen.iter().filter(|seen| **seen).count() as u64;
            self.drops += controls.drops.get(link).copied().unwrap_or(0);
            self.links += 1;
            let counter = controls.counters.get(link);
            let agreed = counter.is_some_and(|c| c.transmitted == Some(c.captured));
            self.links_agreed += u64::from(agreed);
        }
    }
}

impl Run {
    /// Takes note of a record: it is not missing, and tells the product's digest.
    pub fn take(&mut self, record: &Record) {
        self.missing.remove(&record.id);
        if let (Some(product), Some(ran)) = (&mut self.product, &record.program)
            && product.sha256.is_none()
        {
            product.sha256.clone_from(&ran.sha256);
        }
    }
}

impl Document {
    /// The result of `run` before its first record.
    pub fn new(run: Run) -> Document {
        let name = env!("CARGO_PKG_NAME").to_owned();
        Document {
            schema: SCHEMA,
            tool: Tool { name, version: run.version.clone() },
            host: Host { kernel: run.kernel.release.clone(), rootless: run.machine.rootless },
            records: Vec::new(),
            partial: !run.missing.is_empty(),
            runs: vec![run],
            totals: Tally::default(),
            checks: Checks::default(),
            conflicts: Vec::new(),
        }
    }

    /// Reads a document. Errors say what is wrong with it.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Document> {
        let mut document: Document = serde_json::from_slice(bytes)?;
        anyhow::ensure!(
            document.schema == SCHEMA,
            "it is a result of schema {}, and this airtight reads schema {SCHEMA}",
            document.schema
        );
        document.sum();
        Ok(document)
    }

    /// Sums the records anew, and asks once more what is missing.
    pub fn sum(&mut self) {
        self.totals = Tally::default();
        self.checks = Checks::default();
        for record in &self.records {
            self.totals.add(record.verdict);
            self.checks.add(record);
            if let Some(run) = self.runs.get_mut(record.run) {
                run.take(record);
            }
        }
        if !self.runs.is_empty() {
            self.partial = self.runs.iter().any(|run| !run.missing.is_empty());
        }
    }

    /// The exit code: the records', and 4 where they conform and are not all, or do not agree.
    pub fn exit_code(&self) -> u8 {
        match self.totals.exit_code() {
            0 if self.partial || !self.conflicts.is_empty() => 4,
            code => code,
        }
    }

    /// The run that a record is of.
    pub fn run(&self, record: &Record) -> Option<&Run> {
        self.runs.get(record.run)
    }

    /// What tells a record's run from the others, in a few words: its kernel where there are
    /// several, its product where there are several. Empty where there is nothing to tell.
    pub fn label(&self, record: &Record) -> String {
        let differ = |of: fn(&Run) -> String| {
            let mut all = self.runs.iter().map(of);
            let first = all.next();
            all.any(|other| Some(other) != first)
        };
        let Some(run) = self.run(record) else { return String::new() };
        let mut words = Vec::new();
        if differ(|run| run.kernel.release.clone()) {
            words.push(format!("Linux {}", run.kernel.release));
        }
        if differ(Run::product_name) {
            words.push(run.product_name());
        }
        words.join(", ")
    }

    /// What is wrong with the result as a whole, each in a sentence: no format may leave it out.
    pub fn problems(&self) -> Vec<String> {
        const NAMED: usize = 5;
        let mut problems = Vec::new();
        let lacking = || self.runs.iter().filter(|run| !run.missing.is_empty());
        // Shards plan the same trials: each is counted once, on each kernel and for each product.
        let missing: BTreeSet<(&String, &String, Option<&Product>)> = lacking()
            .flat_map(|run| run.missing.iter().map(move |id| (run, id)))
            .map(|(run, id)| (id, &run.kernel.release, run.product.as_ref()))
            .collect();
        if self.partial && missing.is_empty() {
            problems.push("the result is partial, and what was planned is unknown".to_owned());
        } else if self.partial {
            let names: Vec<&str> = missing.iter().take(NAMED).map(|(id, ..)| id.as_str()).collect();
            problems.push(format!(
                "the result is partial: of {} planned trials there is no record of {}: {}{}",
                self.totals.total() + missing.len(),
                missing.len(),
                names.join(", "),
                if missing.len() > NAMED { ", ..." } else { "" }
            ));
        }
        let ended = lacking().filter_map(|run| run.ended.as_ref());
        problems.extend(ended.map(|why| format!("a run ended before its time: {why}")));
        problems.extend(self.conflicts.iter().map(|c| format!("{}: {}", c.of, c.what)));
        // By the totals: a run that streams its records has no others at its end.
        if self.totals.total() == 0 {
            problems.push("no trial was made: nothing is proved".to_owned());
        } else if self.totals.skipped == self.totals.total() {
            problems.push("every trial was skipped: nothing is proved".to_owned());
        }
        problems
    }
}

impl Run {
    /// The product's name: its command line and the beginning of its digest; `the catalogue's own
    /// senders` without one.
    pub fn product_name(&self) -> String {
        let Some(product) = &self.product else {
            return "the catalogue's own senders".to_owned();
        };
        let digest = product.sha256.as_deref().unwrap_or("of unknown digest");
        let digest: String = digest.chars().take(17).collect();
        format!("{} ({digest})", product.command.join(" "))
    }
}

/// The command line that reruns one trial: by its id in the catalogue, by its file otherwise.
pub fn rerun(record: &Record, run: Option<&Run>) -> String {
    let file = record.place.rsplit_once(':').map_or(record.place.as_str(), |(file, _)| file);
    let embedded = file == format!("scenarios/{}.toml", record.scenario);
    let mut line = format!("airtight run {}", quoted(if embedded { &record.id } else { file }));
    if let Some(product) = run.and_then(|run| run.product.as_ref()) {
        let words: Vec<String> = product.command.iter().map(|word| quoted(word)).collect();
        line += &format!(" -- {}", words.join(" "));
    }
    line
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::record;

    #[test]
    fn a_document_that_does_not_say_that_it_is_whole_is_partial() {
        let text = r#"{"schema": 1, "tool": {"name": "airtight", "version": "0"},
            "host": {"kernel": "6.1", "rootless": false}, "records": []}"#;
        let document = Document::parse(text.as_bytes()).unwrap();
        assert!(document.partial);
        assert_eq!(document.exit_code(), 4);
        let later = text.replace("\"schema\": 1", "\"schema\": 2");
        let error = Document::parse(later.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("schema 2"), "{error}");
    }

    #[test]
    fn what_conforms_and_is_not_all_is_not_green() {
        let good = Record { verdict: Verdict::Conforms, ..record() };
        let missing = ["a".to_owned(), good.id.clone()].into();
        let run = Run { planned: 2, missing, ..Run::default() };
        let mut document = Document { records: vec![good], ..Document::new(run) };
        document.sum();
        assert_eq!(document.exit_code(), 4);
        assert!(document.problems()[0].contains("of 2 planned trials there is no record of 1: a"));
        document.runs[0].missing.clear();
        document.sum();
        assert_eq!((document.exit_code(), document.problems()), (0, Vec::new()));
        // What has ended a run is of no weight once nothing is missing.
        document.runs[0].ended = Some("interrupted".to_owned());
        assert_eq!(document.problems(), Vec::<String>::new());
        document.conflicts.push(Conflict { of: "a".into(), what: "b".into() });
        assert_eq!((document.exit_code(), document.problems().len()), (4, 1));
    }

    #[test]
    fn checks_count_what_a_trial_lacks() {
        let mut unproved = record();
        unproved.controls.drops.insert("uplink".to_owned(), 3);
        unproved.controls.sentinels.insert("uplink".to_owned(), [true, true, false]);
        unproved.controls.counters.remove("chassis");
        let mut checks = Checks::default();
        checks.add(&unproved);
        checks.add(&Record { verdict: Verdict::Skipped, ..record() });
        let expected = Checks {
            trials: 1,
            armed: 1,
            quiet: 1,
            sentinels_expected: 6,
            sentinels_seen: 5,
            drops: 3,
            links: 2,
            links_agreed: 1,
        };
        assert_eq!(checks, expected);
    }

    #[test]
    fn a_rerun_is_by_id_or_by_file_and_names_the_product() {
        let mut record = record();
        assert_eq!(rerun(&record, None), "airtight run basics/sample::device::v4-udp");
        record.place = "/tmp/a b.toml:3".to_owned();
        let product = Product { command: vec!["./x".into(), "{target}".into()], sha256: None };
        let run = Run { product: Some(product), ..Run::default() };
        let expected = "airtight run '/tmp/a b.toml' -- ./x '{target}'";
        assert_eq!(rerun(&record, Some(&run)), expected);
    }
}
