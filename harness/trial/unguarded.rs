//! What attempts come to without a guard. That a guard holds says something only of an attempt that
//! leaks where there is none: the same one, in the same run.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Record;
use crate::plan::Case;
use crate::scenario::Outcome;
use crate::verdict::{Verdict, describe};

/// The leak in words, or the reason why there is none.
type Answer = Result<String, String>;

/// What is known so far of the run's leaking attempts. Each is made once, however many guards ask.
#[derive(Default)]
pub(super) struct Unguarded(Mutex<HashMap<u64, Arc<OnceLock<Answer>>>>);

impl Unguarded {
    /// Makes the trial of `case`, and remembers what guards will ask.
    pub(super) fn note(&self, case: &Case, trial: impl Fn() -> Record) -> Record {
        if case.guard.is_some() || case.expect.outcome != Outcome::Leaked {
            return trial();
        }
        let mut made = None;
        self.slot(case).get_or_init(|| {
            let record = trial();
            let answer = answer(&record);
            made = Some(record);
            answer
        });
        // A guard may have asked before.
        made.unwrap_or_else(trial)
    }

    /// What `case` comes to. Its trial is made unless it has been.
    pub(super) fn ask(&self, case: &Case, trial: impl FnOnce() -> Record) -> Answer {
        self.slot(case).get_or_init(|| answer(&trial())).clone()
    }

    fn slot(&self, case: &Case) -> Arc<OnceLock<Answer>> {
        // Everything that a trial is made from, so that no other case with its name answers for it.
        let mut hasher = DefaultHasher::new();
        format!("{case:?}").hash(&mut hasher);
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(hasher.finish()).or_default())
    }
}

fn answer(record: &Record) -> Answer {
    match &record.observed {
        Some(observed)
            if observed.outcome == Outcome::Leaked && record.verdict == Verdict::Conforms =>
        {
            Ok(describe(observed))
        }
        _ => Err(format!("{}: {}", record.verdict.word(), record.reason)),
    }
}
