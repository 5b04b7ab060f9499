//! From evidence to outcome and verdict. Pure: it knows neither namespaces nor sockets.
//!
//! An outcome needs proofs, in this order: [`Armed`] (every capture alive, the control left where
//! it must, every wire quiet) and [`Closed`] (every wire drained, nothing lost, counters agreed).
//! Neither can be made but by the functions that check them.
//!
//! ```compile_fail
//! let armed = airtight::verdict::Armed { through: vec![] };
//! ```

mod program;
mod proof;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::capture::{Frame, Packet, Phase, Tally, decode};
use crate::plan::{ATTEMPT_PORT, Approach, Case, Judged, Role, Step, owner};
use crate::scenario::{Carries, Outcome};
use crate::sender::Attempt;
use program::{exit_status, proved, said};
pub use proof::{Armed, Arming, Closed, Closing, arm, close};

/// How a trial stands against its expectation.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub enum Verdict {
    /// The outcome is the expected one.
    Conforms,
    /// It is another.
    Deviates,
    /// It is another, and a waiver says so.
    Known,
    /// A waiver says that it is another, and it is not.
    Stale,
    /// Nothing was proved.
    Inconclusive,
    /// It was decided before the run that this machine cannot try it.
    Skipped,
}

impl Verdict {
    /// The verdict's word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Conforms => "conforms",
            Verdict::Deviates => "deviates",
            Verdict::Known => "known",
            Verdict::Stale => "stale",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Skipped => "skipped",
        }
    }
}

/// What a trial's wires showed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Observed {
    /// The outcome.
    pub outcome: Outcome,
    /// The links that frames of the attempt left through.
    pub through: Vec<String>,
    /// The source of the attempt's frames: the link whose address it is, or the address itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The error that the sender was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// The call that was given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// What the frames on the intended link are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carries: Option<Carries>,
}

/// A verdict, what was observed and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What was observed; nothing where nothing was proved.
    pub observed: Option<Observed>,
    /// The verdict in words.
    pub reason: String,
}

impl Judgement {
    /// Nothing was proved, and why.
    pub fn inconclusive(reason: impl Into<String>) -> Judgement {
        Judgement { verdict: Verdict::Inconclusive, observed: None, reason: reason.into() }
    }
}

/// Judges a trial whose proofs stand.
pub fn judge(
    case: &Case,
    _armed: &Armed,
    _closed: Closed,
    attempt: &Attempt,
    token: &[u8],
    frames: &[Frame],
    tallies: &[Tally],
) -> Judgement {
    match observe(case, attempt, token, frames, tallies) {
        // A call that was refused has ended the attempt: what the rest of it would have sent is not
        // known, unless the case is about that very error, or a guard is what refuses. A client has
        // nothing behind it.
        Ok(observed)
            if observed.outcome == Outcome::Contained
                && case.role == Role::Script
                && observed.errno.is_some()
                && observed.errno != case.expect.errno
                && case.guard.is_none() =>
        {
            let call = observed.call.as_deref().unwrap_or_default();
            let errno = observed.errno.as_deref().unwrap_or_default();
            Judgement::inconclusive(format!(
                "{call} was refused with {errno}, which ended the script"
            ))
        }
        Ok(observed) => compare(case, observed),
        Err(reason) => Judgement::inconclusive(reason),
    }
}

/// Judges a trial whose window could not be accounted for: a loss can hide a frame, but it cannot
/// unsee one. A leak that was seen and not expected deviates; everything else is inconclusive.
pub fn judge_unaccounted(case: &Case, _armed: &Armed, frames: &[Frame], reason: &str) -> Judgement {
    let strays: BTreeSet<usize> = frames
        .iter()
        .filter(|f| !f.sentinel && f.phase >= Phase::Attempt && !case.intended[f.link])
        .map(|f| f.link)
        .collect();
    if strays.is_empty()
        || case.expect.outcome == Outcome::Leaked
        || case.known.is_some()
        || case.judged == Judged::Reception
    {
        return Judgement::inconclusive(reason);
    }
    let through = names(case, &strays);
    let reason = format!(
        "expected {}, got leaked through {} (and {reason})",
        case.expect.outcome.word(),
        through.join(", ")
    );
    let observed = Observed {
        outcome: Outcome::Leaked,
        through,
        source: None,
        errno: None,
        call: None,
        carries: None,
    };
    Judgement { verdict: Verdict::Deviates, observed: Some(observed), reason }
}

/// What the wires showed, or why they prove nothing.
fn observe(
    case: &Case,
    attempt: &Attempt,
    token: &[u8],
    frames: &[Frame],
    tallies: &[Tally],
) -> Result<Observed, String> {
    let window: Vec<(&Frame, Packet)> = frames
        .iter()
        .filter(|frame| !frame.sentinel && frame.phase >= Phase::Attempt)
        .map(|frame| (frame, decode(&frame.bytes)))
        .collect();
    let unkept = |at: usize| tallies.get(at).is_some_and(|tally| tally.beyond > 0);
    let used: BTreeSet<usize> = (0..case.links.len())
        .filter(|at| unkept(*at) || window.iter().any(|(frame, _)| frame.link == *at))
        .collect();
    // A rehearsal leaks like any other run of the program.
    let rehearsed = frames.iter().filter(|f| !f.sentinel && f.phase == Phase::Rehearsal);
    let strays: BTreeSet<usize> = used
        .iter()
        .copied()
        .chain(rehearsed.map(|frame| frame.link))
        .filter(|at| !case.intended[*at])
        .collect();
    let own: Vec<&(&Frame, Packet)> =
        window.iter().filter(|(frame, packet)| belongs(case, frame, packet, token)).collect();
    // Of a leak, the leaked frames; where the attempt's own are not among them, whatever is.
    let told = |(frame, _): &&(&Frame, Packet)| strays.is_empty() || strays.contains(&frame.link);
    let mut tellers: Vec<&(&Frame, Packet)> = own.iter().copied().filter(told).collect();
    if tellers.is_empty() {
        tellers = window.iter().filter(told).collect();
    }
    let sources: BTreeSet<IpAddr> =
        tellers.iter().filter_map(|(_, packet)| packet.source()).collect();
    let mut observed = Observed {
        outcome: Outcome::Silent,
        through: names(case, &used),
        source: match sources.len() {
            0 => None,
            _ => {
                Some(sources.iter().map(|a| owner(&case.links, *a)).collect::<Vec<_>>().join(", "))
            }
        },
        errno: attempt.errno().map(str::to_owned),
        call: attempt.refused_call().map(str::to_owned),
        carries: None,
    };
    if case.judged == Judged::Reception {
        observed.outcome = match (attempt.received, attempt.errno()) {
            (Some(true), _) => Outcome::Delivered,
            (Some(false), _) => Outcome::Refused,
            // A socket that could not be set up was never there to be reached: that says nothing
            // of reception, unless the case is about the error itself.
            (None, Some(errno)) if case.expect.errno.is_none() => {
                return Err(format!("the receiver could not be set up: {errno}"));
            }
            (None, Some(_)) => Outcome::Refused,
            (None, None) => return Err("the receiver does not tell whether it was reached".into()),
        };
        return Ok(observed);
    }
    if !strays.is_empty() {
        observed.outcome = Outcome::Leaked;
        observed.through = names(case, &strays);
        return Ok(observed);
    }
    // A program whose pins are refused may well end before it is ready: that it has tried is known.
    let failed_closed = attempt.program.as_ref().is_some_and(|ran| ran.trace.refused > 0);
    if let (Some(why), false) = (&attempt.cut, failed_closed) {
        let said = attempt.program.as_ref().map_or_else(String::new, said);
        return Err(format!("{why}{said}"));
    }
    if let (Some(program), Some(ran)) = (case.program(), &attempt.program) {
        proved(case, program, ran)?;
    }
    let status = match &attempt.program {
        Some(ran) => Some(exit_status(ran)?),
        None => None,
    };
    if let Some(status @ 1..) = status {
        observed.errno = Some(format!("exit {status}"));
    }
    // Whoever gives up has not done what it does otherwise, and what follows is not known.
    if let (Some(status @ 1..), Outcome::Contained, true) =
        (status, case.expect.outcome, !used.is_empty())
        && case.expect.errno != observed.errno
    {
        let said = attempt.program.as_ref().map_or_else(String::new, said);
        return Err(format!("the program gave up, with exit status {status}{said}"));
    }
    let answers = case.steps.iter().any(|step| matches!(step, Step::Answer { .. }));
    // A guard may keep the kernel from answering before there is a request.
    if answers && attempt.received == Some(false) && case.guard.is_none() {
        let why = "the request did not reach the socket, which had nothing to answer";
        return Err(why.to_owned());
    }
    if !attempt.tried {
        return Err("the sender made no attempt".to_owned());
    }
    let call = observed.call.as_deref().unwrap_or_default();
    if let (Some(guard), Some(errno)) = (&case.guard, &observed.errno)
        && !(guard.kind.refusals().contains(&errno.as_str())
            && (errno == "EAGAIN") == names_call(call, "accept"))
    {
        return Err(format!(
            "{call} was refused with {errno}, which is none of the errors of {}",
            guard.kind.word()
        ));
    }
    // The kernel goes on with a connection as soon as it is answered, whatever the sender has seen of it.
    let goes_on = |packet: &Packet| matches!(packet, Packet::Tcp { flags, .. } if !flags.syn);
    if attempt.unsent && own.iter().any(|(_, packet)| goes_on(packet)) {
        let why = "the connection was answered, and the sender did not see it and sent nothing";
        return Err(why.to_owned());
    }
    if !used.is_empty() {
        let neighbours = window.iter().all(|(_, packet)| packet.neighbour());
        if own.is_empty() && !neighbours {
            return Err("the frames on the intended link are not the attempt's".to_owned());
        }
        observed.outcome = Outcome::Contained;
        observed.carries = Some(if neighbours { Carries::Neighbour } else { Carries::Data });
    } else if observed.errno.is_some() {
        observed.outcome = Outcome::Refused;
    }
    Ok(observed)
}

/// Whether a frame is part of the attempt: it carries the token, or is a segment of its
/// connection, or what an approach has drawn from the kernel, or the report of a membership.
fn belongs(case: &Case, frame: &Frame, packet: &Packet, token: &[u8]) -> bool {
    // The wires were quiet before, and nobody but the program, and the kernel on its behalf, has
    // anything to send: neighbours are asked for whatever it sends.
    (case.runs_program() && !packet.neighbour())
        || carries(frame, token)
        || segment(case, packet, ATTEMPT_PORT)
        || answers(case, packet)
        || (case.joins() && packet.membership())
}

fn carries(frame: &Frame, token: &[u8]) -> bool {
    !token.is_empty() && frame.bytes.windows(token.len()).any(|window| window == token)
}

/// Whether a packet is a segment to or from `port`, in an exchange with somebody that the case
/// sends to or is approached by.
fn segment(case: &Case, packet: &Packet, port: u16) -> bool {
    let Packet::Tcp { from, to, .. } = packet else { return false };
    let peers = case.steps.iter().filter_map(|step| match step {
        Step::Connect { to, .. } | Step::Cork { to, .. } => Some(*to),
        Step::Send { to, .. } => *to,
        Step::Inject(approach) => Some(approach.from),
        _ => None,
    });
    let known = peers.chain([case.target, case.control.to]).any(|peer| peer == to.ip());
    known && (from.port() == port || to.port() == port)
}

/// Whether a packet goes to somebody who has approached the host under test.
fn answers(case: &Case, packet: &Packet) -> bool {
    let approached = |step: &Step| match step {
        Step::Inject(Approach { from, .. }) => packet.destination() == Some(*from),
        _ => false,
    };
    case.steps.iter().any(approached)
}

fn names(case: &Case, links: &BTreeSet<usize>) -> Vec<String> {
    links.iter().map(|at| case.links[*at].name.clone()).collect()
}

/// The outcome against the expectation and the waiver.
fn compare(case: &Case, observed: Observed) -> Judgement {
    let difference = differs(case, &observed);
    let (verdict, reason) = match (&case.known, difference) {
        (None, None) => (Verdict::Conforms, describe(&observed)),
        (None, Some(difference)) => (Verdict::Deviates, difference),
        (Some(waiver), None) => (
            Verdict::Stale,
            format!("the waiver until {} is stale: {}", waiver.until, describe(&observed)),
        ),
        (Some(waiver), Some(difference)) if waiver.outcome == observed.outcome => {
            (Verdict::Known, format!("{difference}; known until {}", waiver.until))
        }
        (Some(waiver), Some(difference)) => (
            Verdict::Stale,
            format!(
                "{difference}; the waiver until {} says {}",
                waiver.until,
                waiver.outcome.word()
            ),
        ),
    };
    Judgement { verdict, observed: Some(observed), reason }
}

fn differs(case: &Case, observed: &Observed) -> Option<String> {
    let expect = &case.expect;
    let fails = |what: &str, expected: &str, got: &str| {
        Some(format!(
            "expected {}{what}{expected}, got {}{what}{got}",
            expect.outcome.word(),
            observed.outcome.word()
        ))
    };
    let kept = [Outcome::Contained, Outcome::Refused, Outcome::Silent];
    let as_expected = match expect.outcome {
        Outcome::Kept => kept.contains(&observed.outcome),
        outcome => observed.outcome == outcome,
    };
    if !as_expected {
        return Some(format!("expected {}, got {}", expect.outcome.word(), describe(observed)));
    }
    if let Some(through) = &expect.through
        && observed.through != [through.clone()]
    {
        return fails(" through ", through, &observed.through.join(", "));
    }
    if let Some(source) = &expect.source
        && observed.source.as_ref() != Some(source)
    {
        return fails(" with the source of ", source, observed.source.as_deref().unwrap_or("none"));
    }
    if let Some(errno) = &expect.errno
        && observed.errno.as_ref() != Some(errno)
    {
        return fails(" with ", errno, observed.errno.as_deref().unwrap_or("no error"));
    }
    if let Some(call) = &expect.call
        && !observed.call.as_ref().is_some_and(|refused| names_call(refused, call))
    {
        return fails(" by ", call, observed.call.as_deref().unwrap_or("no call"));
    }
    let carries = observed.carries.unwrap_or(Carries::Data);
    if expect.outcome == Outcome::Contained && carries != expect.carries {
        let word = |carries| if carries == Carries::Data { "data" } else { "neighbour traffic" };
        return fails(" carrying ", word(expect.carries), word(carries));
    }
    None
}

/// Whether `refused` is the call that `call` names: `sendto` names `sendto(...)`, `send` names
/// `sendto(...)` too, and `setsockopt(IP_TTL` names `setsockopt(IP_TTL, 1)`.
fn names_call(refused: &str, call: &str) -> bool {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with(['(', ',', ')', ' ']);
    refused.strip_prefix(call).is_some_and(|rest| {
        ends(rest) || (call == "send" && rest.strip_prefix("to").is_some_and(ends))
    })
}

/// An outcome in words: `leaked through uplink`, `refused with ENODEV`.
pub fn describe(observed: &Observed) -> String {
    let mut text = observed.outcome.word().to_owned();
    match observed.outcome {
        Outcome::Leaked => text.push_str(&format!(" through {}", observed.through.join(", "))),
        Outcome::Refused => {
            if let Some(errno) = &observed.errno {
                text.push_str(&format!(" with {errno}"));
            }
        }
        Outcome::Contained if observed.carries == Some(Carries::Neighbour) => {
            text.push_str(" (neighbour traffic only)");
        }
        Outcome::Contained | Outcome::Silent | Outcome::Delivered | Outcome::Kept => {}
    }
    text
}
