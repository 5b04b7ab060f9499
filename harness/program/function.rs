//! A function as the sender: called on a thread of its own, which is in the laboratory's namespace
//! because the thread that starts it is, and which nobody else ever uses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use anyhow::{Context, Result};

use super::Ringer;
use super::machine::{End, Report};
use super::trace::{Notes, Trace, Tracer};
use crate::plan::{Function, Task};
use crate::scenario::Fault;
use crate::sys;

/// Starts it. Its end is sent to `ended`.
pub(super) fn start(
    function: Function,
    task: Task,
    fault: Fault,
    ended: mpsc::Sender<Result<Report>>,
    ringer: Ringer,
) -> Result<()> {
    let thread = std::thread::Builder::new().name("function".to_owned());
    let call = move || {
        // Whoever does not listen any more has given up, and has told why.
        let _ = ended.send(Ok(report(&function, &task, fault)));
        drop(ringer);
    };
    thread.spawn(call).context("start a thread for the function")?;
    Ok(())
}

fn report(function: &Function, task: &Task, fault: Fault) -> Report {
    let refuses = fault != Fault::default();
    let notes = match sys::listen_for_calls() {
        Ok(listener) => {
            let (tracer, notes) = Tracer::new(listener, fault);
            // Ends when the function's threads have.
            std::thread::spawn(move || tracer.answer());
            Ok(notes)
        }
        Err(error) => Err(format!("seccomp(2): {error}")),
    };
    if let (Err(why), true) = (&notes, refuses) {
        let end = End::NotStarted(format!("its pins cannot be refused here: {why}"));
        return Report { end, trace: Trace::none(why), said: String::new() };
    }
    let mut said = String::new();
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
    Report { end, trace, said }
}
