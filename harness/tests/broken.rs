//! Trials with something broken on purpose: in the scenario, in the laboratory, or in the sender.

use airtight::plan::{Case, expand};
use airtight::probe::{Abilities, kernel_release};
use airtight::scenario::parse;
use airtight::sender::{Attempt, Call};
use airtight::trial::{Record, Sabotage, Scene, Stage};
use airtight::verdict::{Verdict, describe};
use anyhow::{Context, Result, ensure};

use crate::front::{Ground, Test};

/// What breaks, and what must come of it.
pub(crate) struct Fixture {
    /// The test's name.
    pub(crate) name: String,
    /// A scenario.
    pub(crate) text: &'static str,
    /// What is replaced in it, wherever it stands.
    pub(crate) edits: Vec<(&'static str, String)>,
    /// Which of its trials: `CASE::CELL`.
    pub(crate) trial: &'static str,
    /// Breaks the laboratory or its captures.
    pub(crate) at: fn(Stage, &mut Scene<'_, '_>) -> Result<()>,
    /// Makes the attempt in the sender's place.
    pub(crate) attempt: Option<fn(&Scene<'_, '_>) -> Result<Attempt>>,
    /// The verdict that must come of it.
    pub(crate) verdict: Verdict,
    /// Words that the reason must contain.
    pub(crate) reason: &'static str,
    /// What else its record must say.
    pub(crate) also: fn(&Record) -> Result<()>,
}

/// A trial in which nothing is broken yet.
pub(crate) fn fixture(
    name: impl Into<String>,
    text: &'static str,
    trial: &'static str,
    verdict: Verdict,
    reason: &'static str,
) -> Fixture {
    Fixture {
        name: name.into(),
        text,
        edits: Vec::new(),
        trial,
        at: |_, _| Ok(()),
        attempt: None,
        verdict,
        reason,
        also: |_| Ok(()),
    }
}

impl Fixture {
    /// Its test. Where the machine cannot try it, that is told.
    pub(crate) fn test(self) -> Test {
        (self.name.clone(), Box::new(move |ground| self.check(ground)))
    }

    fn case(&self) -> Result<Case> {
        let text = self.edits.iter().fold(self.text.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "the edit edits nothing: {from}");
            text.replace(from, to)
        });
        let scenario = parse("trap", "fixtures/trap.toml", text.as_bytes())?;
        let name = format!("trap::{}", self.trial);
        let found = expand(&scenario).into_iter().find(|case| case.id == name);
        found.with_context(|| format!("no trial {name}"))
    }

    fn check(&self, (left, runner): &Ground) -> Result<()> {
        let case = self.case()?;
        let abilities = Abilities::of(*left, std::slice::from_ref(&case))?;
        if let Some(reason) = abilities.skip(&case, &kernel_release()) {
            eprintln!("{}: {reason}", self.name);
            return Ok(());
        }
        let attempt = self.attempt.map(|attempt| {
            move |scene: &Scene<'_, '_>| attempt(scene).unwrap_or_else(|error| refused(&error))
        });
        let sabotage = Sabotage { at: Some(&self.at), attempt: attempt.as_ref().map(|a| a as _) };
        let record = runner.run_sabotaged(&case, &sabotage);
        ensure!(
            record.verdict == self.verdict && record.reason.contains(self.reason),
            "expected {:?} because of `{}`, got {:?}, {:?}: {}\n{:#?}",
            self.verdict,
            self.reason,
            record.verdict,
            record.observed.as_ref().map(describe),
            record.reason,
            record.frames
        );
        (self.also)(&record)
    }
}

fn refused(error: &anyhow::Error) -> Attempt {
    let call = Call { call: format!("{error:#}"), errno: Some("EIO".into()), remark: false };
    Attempt { calls: vec![call], ..Attempt::default() }
}
