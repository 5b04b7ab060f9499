//! What a program's run, its rehearsal and its surroundings must have shown before anything of it
//! counts.

use super::{Arming, carries};
use crate::capture::{Frame, Phase, decode};
use crate::plan::{Case, Program, Step};
use crate::program::{End, Ran};
use crate::scenario::{AskKind, Fault, Outcome};
use crate::sender::Attempt;

/// Whether the rehearsal has shown that the program sends where nothing keeps it from it.
pub(super) fn rehearsed(case: &Case, arming: &Arming, frames: &[Frame]) -> Result<(), String> {
    if case.control.rehearsal.is_none() {
        return Ok(());
    }
    let Some(Attempt { program: Some(ran), cut, .. }) = &arming.rehearsal else {
        return Err("there was no rehearsal".to_owned());
    };
    if let Some(why) = cut {
        return Err(format!("in the rehearsal, without the changes, {why}{}", said(ran)));
    }
    exit_status(ran).map_err(|why| format!("in the rehearsal, without the changes, {why}"))?;
    if asked(&case.control.rehearsal) && idle(ran) {
        return Err(
            "in the rehearsal, without the changes, the kernel alone has answered".to_owned()
        );
    }
    let sent = |frame: &&Frame| {
        !frame.sentinel && frame.phase == Phase::Rehearsal && !decode(&frame.bytes).neighbour()
    };
    match frames.iter().any(|frame| sent(&frame)) {
        true => Ok(()),
        false => Err(format!(
            "in the rehearsal, without the changes, the program sent nothing either{}",
            said(ran)
        )),
    }
}

/// Whether an unpinned sender of the other family has left by the decoy.
pub(super) fn beside(case: &Case, arming: &Arming, frames: &[Frame]) -> Result<(), String> {
    let Some(beside) = &case.surroundings.beside else { return Ok(()) };
    let name = &case.links[beside.by].name;
    let came = |frame: &Frame| {
        let source = decode(&frame.bytes).source();
        frame.link == beside.by
            && frame.phase == Phase::Control
            && carries(frame, &arming.token)
            && source.is_some_and(|source| source.is_ipv4() == beside.target.is_ipv4())
    };
    match frames.iter().any(came) {
        true => Ok(()),
        false => Err(format!(
            "the trap is not armed: the other family's control did not leave through {name}"
        )),
    }
}

/// What a program's run must have shown, whatever its frames are.
pub(super) fn proved(case: &Case, program: &Program, ran: &Ran) -> Result<(), String> {
    if program.fault != Fault::default() && ran.trace.refused == 0 {
        let why = ran.trace.untraced.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        return Err(format!(
            "no call of the program was refused: it made none of those that the fault is for{why}"
        ));
    }
    // A program that fails closed says so, or makes a call; one that ends content without either has
    // found nothing to do, whatever it did in its rehearsal.
    let content = ran.end == End::Exited(0) && ran.stopped.is_none();
    if case.expect.outcome == Outcome::Kept && content && idle(ran) {
        return Err("the program ended without having tried, unlike in its rehearsal".to_owned());
    }
    if asked(&Some(case.steps.clone())) && idle(ran) {
        return Err("the kernel alone has answered, and the program has sent nothing".to_owned());
    }
    let contained = case.expect.outcome == Outcome::Contained;
    if let (true, Some(asked)) = (contained, ran.unanswered.first()) {
        return Err(format!("the program did not answer {asked}"));
    }
    if contained && program.ready.is_some() && ran.stopped.is_none() {
        return Err(format!("the program ended by itself before it was stopped{}", said(ran)));
    }
    Ok(())
}

/// Whether gateways draw answers of the kernel's, which are not the program's.
fn asked(steps: &Option<Vec<Step>>) -> bool {
    let draws = |step: &Step| match step {
        Step::Ask(ask) => [AskKind::Scan, AskKind::Ping].contains(&ask.what),
        _ => false,
    };
    steps.iter().flatten().any(draws)
}

/// Whether a program has made no call that decides a way out. One that was not traced may have.
fn idle(ran: &Ran) -> bool {
    ran.trace.untraced.is_none() && ran.trace.sockets.is_empty() && ran.trace.more == 0
}

/// What a program complained of first, where it did.
pub(super) fn said(ran: &Ran) -> String {
    let line = ran.stderr.text.lines().find(|line| !line.trim().is_empty());
    line.map_or_else(String::new, |line| format!(": {line}"))
}

/// The exit status of a program that ran to its end. A program that did not proves nothing but what
/// it has leaked: the error says what became of it.
pub(super) fn exit_status(ran: &Ran) -> Result<i32, String> {
    let program = ran.command.first().map_or("", String::as_str);
    let said = said(ran);
    match &ran.end {
        // What a shell and the dynamic loader say of what they could not start (bash(1), ld.so(8)).
        End::Exited(status @ (126 | 127)) => {
            Err(format!("`{program}` could not run, exit status {status}{said}"))
        }
        End::Exited(_) if ran.left => {
            Err(format!("`{program}` has left threads behind, which may send whenever they like"))
        }
        End::Exited(_) | End::Signalled(_) if ran.unsettled > 0 => Err(format!(
            "`{program}` has left {} connections that had not ended: what the kernel sends for them \
             later is not known",
            ran.unsettled
        )),
        // Whoever is asked to end may say with what status, or leave it to the signal.
        End::Exited(_) if ran.stopped.is_some() => Ok(0),
        End::Signalled(_) if ran.died_of_its_stop() => Ok(0),
        End::Exited(status) => Ok(*status),
        End::Signalled(signal) => Err(format!("`{program}` crashed, by signal {signal}{said}")),
        End::Panicked(words) => Err(format!("`{program}` panicked: {words}")),
        End::NotStarted(why) => Err(format!("`{program}` was not started: {why}")),
        End::TimedOut if ran.stopped.is_some() => Err(format!(
            "`{program}` did not end upon {}, and was killed{said}",
            ran.stopped.as_deref().unwrap_or_default()
        )),
        End::TimedOut => Err(format!(
            "`{program}` did not end in its time and was killed: what it would have sent later is \
             not known{said}"
        )),
    }
}
