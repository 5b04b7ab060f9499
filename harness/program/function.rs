//! A function as the sender: called on a thread of its own, which is in the laboratory's namespace
//! because the thread that starts it is, and which nobody else ever uses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Ringer;
use super::machine::{End, Report};
use super::trace::{Notes, Trace, Tracer};
use crate::plan::{Function, Task};
use crate::scenario::Fault;
use crate::sys;

/// How long the threads that a function has started may take to end behind it.
const THREADS_END_WITHIN: Duration = Duration::from_secs(2);

/// Starts it. Its end is sent to `ended`.
pub(super) fn start(
    function: Function,
    task: Task,
    fault: Fault,
    ended: mpsc::Sender<Result<Report>>,
    ringer: Ringer,
) -> Result<()> {
    let (alone, last) = mpsc::channel();
    let thread = std::thread::Builder::new().name("function".to_owned());
    let thread = thread.spawn(move || report(&function, &task, fault, alone));
    let thread = thread.context("start a thread for the function")?;
    std::thread::spawn(move || {
        let mut report = thread.join().unwrap_or_else(|_| Report {
            end: End::NotStarted("its thread panicked".to_owned()),
            trace: Trace::none("its thread panicked"),
            said: String::new(),
            left: false,
        });
        // Nobody can ask any more once the last thread under the filter has ended.
        let traced = report.trace.untraced.is_none();
        report.left = traced && last.recv_timeout(THREADS_END_WITHIN).is_err();
        // Whoever does not listen any more has given up, and has told why.
        let _ = ended.send(Ok(report));
        drop(ringer);
    });
    Ok(())
}

fn report(function: &Function, task: &Task, fault: Fault, alone: mpsc::Sender<()>) -> Report {
    let refuses = fault != Fault::default();
    // Started before the filter, which it must not inherit.
    let (hand, taken) = mpsc::channel::<Tracer>();
    std::thread::spawn(move || {
        if let Ok(tracer) = taken.recv() {
            tracer.answer();
            // Whoever does not wait any more has given up.
            let _ = alone.send(());
        }
    });
    let notes = match sys::listen_for_calls() {
        Ok(listener) => {
            let (tracer, notes) = Tracer::new(listener, fault);
            // The receiver waits for it.
            let _ = hand.send(tracer);
            Ok(notes)
        }
        Err(error) => Err(format!("seccomp(2): {error}")),
    };
    let mut said = String::new();
    if let (Err(why), true) = (&notes, refuses) {
        let end = End::NotStarted(format!("its pins cannot be refused here: {why}"));
        return Report { end, trace: Trace::none(why), said, left: false };
    }
    let end = match catch_unwind(AssertUnwindSafe(|| function.call(task))) {
        Ok(Ok(())) => End::Exited(0),
        Ok(Err(error)) => {
            said = format!("{error:#}");
            End::Exited(1)
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            End::Panicked(text.unwrap_or_else(|| "without a message".to_owned()))
        }
    };
    let trace = match notes {
        Ok(notes) => Notes::trace(&notes),
        Err(why) => Trace::none(why),
    };
    Report { end, trace, said, left: false }
}
