//! Many trials at once: which are skipped, which run beside which, and their records as they come.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::Result;

use crate::host::{self, Left};
use crate::plan::Case;
use crate::probe::{Abilities, kernel_release};
use crate::trial::{Record, Runner};

/// How many trials that wait for a timer of the kernel's are made at once.
const WAITING_JOBS: usize = 32;

/// The machine lets us leave the host and then refuses what every trial needs.
#[derive(Debug)]
pub struct CannotPrepare(String);

impl fmt::Display for CannotPrepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine cannot run laboratories: {}", self.0)
    }
}

impl std::error::Error for CannotPrepare {}

/// Places of cases, taken one after the other by whichever thread comes.
struct Queue {
    places: Vec<usize>,
    next: AtomicUsize,
}

impl Queue {
    fn new(places: Vec<usize>) -> Queue {
        Queue { places, next: AtomicUsize::new(0) }
    }

    fn take(&self) -> Option<usize> {
        self.places.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }
}

/// What trials are made with, once the host is left and everything that they need is probed.
pub struct Batch {
    left: Left,
    runner: Runner,
    abilities: Abilities,
    kernel: String,
}

impl Batch {
    /// Leaves the host and probes what `cases` need. Must be called before any thread is started.
    /// Errors are [`host::CannotLeave`] and [`CannotPrepare`].
    pub fn prepare(cases: &[Case]) -> Result<Batch> {
        let left = host::leave()?;
        let cannot = |error: anyhow::Error| CannotPrepare(format!("{error:#}"));
        let abilities = Abilities::of(left, cases).map_err(cannot)?;
        let runner = Runner::new(left).map_err(cannot)?;
        Ok(Batch { left, runner, abilities, kernel: kernel_release() })
    }

    /// The proof of having left the host.
    pub fn left(&self) -> Left {
        self.left
    }

    /// Whether a user namespace was taken.
    pub fn rootless(&self) -> bool {
        self.left.rootless()
    }

    /// The kernel's release.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Makes one trial, or skips it.
    pub fn record(&self, case: &Case) -> Record {
        match self.abilities.skip(case, &self.kernel) {
            Some(reason) => Record::skipped(case, &reason),
            None => self.runner.run(case),
        }
    }

    /// Makes the trials of `cases`, `jobs` at once (without it: two for each processor; those that wait, and
    /// one of a program, beside them), and hands each record with its case's place to `receive`, in the
    /// order in which they end. The first error of `receive` ends the run, and is returned.
    pub fn run(
        &self,
        cases: &[Case],
        jobs: Option<NonZeroUsize>,
        mut receive: impl FnMut(usize, Record) -> Result<()>,
    ) -> Result<()> {
        // Trials that wait for a timer of the kernel's need no processor meanwhile: they run beside
        // the others, on threads of their own.
        let (waiting, others): (Vec<usize>, Vec<usize>) =
            (0..cases.len()).partition(|at| cases[*at].waits());
        let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        // Half of the time a trial waits for the kernel.
        let jobs = jobs.map_or_else(|| 2 * processors().get(), NonZeroUsize::get);
        // A program's trial waits for the program most of the time: one goes on beside the others.
        let (programs, others): (Vec<usize>, Vec<usize>) =
            others.into_iter().partition(|at| cases[*at].runs_program());
        let beside = usize::from(!others.is_empty());
        let [waiting, programs, others] = [waiting, programs, others].map(Queue::new);
        // How many threads there are of a kind, and which queues they empty, in this order.
        let workers = [
            (WAITING_JOBS, vec![&waiting]),
            (beside, vec![&programs]),
            (jobs, vec![&others, &programs]),
        ];
        let (sender, receiver) = mpsc::sync_channel(4 * jobs);
        std::thread::scope(|scope| {
            for (threads, queues) in &workers {
                let trials: usize = queues.iter().map(|queue| queue.places.len()).sum();
                for _ in 0..trials.min(*threads) {
                    let sender = sender.clone();
                    scope.spawn(move || {
                        while let Some(at) = queues.iter().find_map(|queue| queue.take()) {
                            if sender.send((at, self.record(&cases[at]))).is_err() {
                                return;
                            }
                        }
                    });
                }
            }
            drop(sender);
            // Dropped with the first error, so that nobody waits to be heard.
            receiver.into_iter().try_for_each(|(at, record)| receive(at, record))
        })
    }
}
