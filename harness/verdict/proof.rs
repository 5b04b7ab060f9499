//! What must be proved before anything counts: that the trap is armed, and that the window is closed.

use std::collections::BTreeSet;

use super::program::{beside, rehearsed};
use super::{carries, names, segment};
use crate::capture::{Frame, Phase, Tally, decode};
use crate::plan::{ATTEMPT_PORT, CONTROL_PORT, Case, Judged};
use crate::scenario::Neighbours;
use crate::sender::Attempt;

/// What the arming of the trap showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arming {
    /// For each link, whether its capture saw every sentinel before the one behind the control.
    pub alive: Vec<bool>,
    /// For each link, whether it saw the sentinel behind the control.
    pub settled: Vec<bool>,
    /// What the control's sender tells.
    pub control: Attempt,
    /// For receivers: the links by which the unpinned receiver was reached.
    pub reached: Vec<usize>,
    /// For scripts whose reception is judged: whether the twin without pins was reached.
    pub twin: Option<bool>,
    /// Where an adversary is to turn the control: the payload of the one before it.
    pub untouched: Option<Vec<u8>>,
    /// Under a guard: what unpinned senders tell who have sent to the gateways of the decoys.
    pub guarded: Vec<Attempt>,
    /// For programs whose laboratory changes: what the rehearsal without the changes tells.
    pub rehearsal: Option<Attempt>,
    /// Where the other family is reachable too: what its control tells.
    pub beside: Option<Attempt>,
    /// The control's payload.
    pub token: Vec<u8>,
}

impl Arming {
    /// Takes down which captures saw the sentinel that has ended a phase: one that missed any was not
    /// alive, whatever it sees later.
    pub fn phase_ended(&mut self, seen: &[bool]) {
        match self.alive.is_empty() {
            true => self.alive = seen.to_vec(),
            false => self.alive.iter_mut().zip(seen).for_each(|(alive, seen)| *alive &= seen),
        }
    }
}

/// Proof that the trap is armed. Only [`arm`] makes one.
#[derive(Clone, Debug)]
pub struct Armed {
    through: Vec<usize>,
}

impl Armed {
    /// The links that the control went through.
    pub fn through(&self) -> &[usize] {
        &self.through
    }
}

/// Proof that the window is closed and accounted for. Only [`close`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Closed(());

/// Checks the arming of `case` against the frames captured so far. The error is the reason why
/// the trial is inconclusive.
pub fn arm(case: &Case, arming: &Arming, frames: &[Frame]) -> Result<Armed, String> {
    every(case, &arming.alive, "the capture of {} did not see its sentinel")?;
    every(case, &arming.settled, "the capture of {} did not see the sentinel behind the control")?;
    let mut through = BTreeSet::new();
    for frame in frames.iter().filter(|f| !f.sentinel && f.phase < Phase::Attempt) {
        let packet = decode(&frame.bytes);
        let ours = carries(frame, &arming.token)
            || [ATTEMPT_PORT, CONTROL_PORT].iter().any(|port| segment(case, &packet, *port));
        if frame.phase == Phase::Rehearsal
            && (case.control.rehearsal.is_some() || arming.untouched.is_some())
        {
            // Judged below.
        } else if frame.phase == Phase::Guarded {
            // Likewise.
        } else if ours && frame.phase == Phase::Control {
            through.insert(frame.link);
        } else if frame.phase == Phase::Rising && case.reports_memberships() && packet.membership()
        {
            // Waited for, so that none comes later.
        } else if case.control.twin.is_some() && case.joins() && packet.membership() {
            // The twin joins and leaves what the script does.
        } else if case.neighbours == Neighbours::Permanent || !packet.neighbour() {
            let link = &case.links[frame.link].name;
            return Err(format!("{link} is not quiet before the attempt: {packet}"));
        }
    }
    untouched(case, arming, frames)?;
    guarded(case, arming, frames)?;
    rehearsed(case, arming, frames)?;
    beside(case, arming, frames)?;
    if let Some(errno) = arming.control.errno() {
        return Err(format!("the control was refused: {errno}"));
    }
    let decoy = &case.links[case.control.link].name;
    if let Some(twin) = &case.control.twin
        && arming.twin != Some(twin.receives)
    {
        let verb = if twin.receives { "did not receive" } else { "has received" };
        return Err(format!("the control failed: the same attempt without its pins {verb}"));
    }
    if !case.control.arrives.is_empty() {
        for link in &case.control.arrives {
            if !arming.reached.contains(link) {
                let name = &case.links[*link].name;
                return Err(format!(
                    "the control failed: by {name} it did not reach an unpinned \
                    receiver"
                ));
            }
        }
        through = arming.reached.iter().copied().collect();
    } else if through != BTreeSet::from([case.control.link]) {
        return Err(format!(
            "the trap is not armed: the unpinned control must leave through {decoy}, and went through {}",
            went(case, &through)
        ));
    }
    Ok(Armed { through: through.into_iter().collect() })
}

/// Whether the unpinned sender has left by the intended link, and by it alone, while there was no
/// adversary: else it is not the adversary that turns it.
fn untouched(case: &Case, arming: &Arming, frames: &[Frame]) -> Result<(), String> {
    let wanted = case.adversary.as_ref().and_then(|adversary| adversary.untouched);
    let (Some(wanted), Some(token)) = (wanted, &arming.untouched) else {
        return match wanted {
            Some(_) => Err("there was no control before the adversary".to_owned()),
            None => Ok(()),
        };
    };
    let before: Vec<&Frame> =
        frames.iter().filter(|f| !f.sentinel && f.phase == Phase::Rehearsal).collect();
    let through: BTreeSet<usize> = before.iter().map(|frame| frame.link).collect();
    let seen = before.iter().any(|frame| carries(frame, token));
    if seen && through == BTreeSet::from([wanted]) {
        return Ok(());
    }
    Err(format!(
        "the trap is not armed: without the adversary the unpinned control must leave through {}, and \
         went through {}",
        case.links[wanted].name,
        went(case, &through)
    ))
}

/// The links that something went through, in words.
fn went(case: &Case, through: &BTreeSet<usize>) -> String {
    if through.is_empty() { "no link".to_owned() } else { names(case, through).join(", ") }
}

/// Whether the guard is in force: whoever is unpinned and sends to a decoy's gateway does not get a frame
/// onto the decoy. Beside an adversary a frame on the decoy need not have chosen it: what was turned away
/// from an intended link bears the hardware address of that link's gateway still, and what is sent
/// back from behind one has left by it before.
fn guarded(case: &Case, arming: &Arming, frames: &[Frame]) -> Result<(), String> {
    let Some(guard) = &case.guard else { return Ok(()) };
    let word = guard.kind.word();
    if arming.guarded.is_empty() || arming.guarded.iter().any(|attempt| !attempt.tried) {
        return Err(format!("nobody has tried whether the guard {word} is in force"));
    }
    let seen = || frames.iter().filter(|f| !f.sentinel && f.phase == Phase::Guarded);
    let turned = |frame: &Frame| {
        let mut kept = seen().filter(|other| case.intended[other.link]);
        let links = case.links.iter().zip(&case.intended);
        let mut intended = links.filter(|(_, intended)| **intended).map(|(link, _)| link);
        intended.any(|link| frame.bytes.starts_with(&link.far_mac))
            || kept.any(|other| other.at_ns < frame.at_ns)
    };
    let excused =
        |frame: &Frame| case.intended[frame.link] || case.adversary.is_some() && turned(frame);
    let chosen = seen().find(|frame| !excused(frame));
    match chosen {
        None => Ok(()),
        Some(frame) => Err(format!(
            "the guard {word} is not in force: {} leaves by {}",
            decode(&frame.bytes),
            case.links[frame.link].name
        )),
    }
}

/// What the end of a trial showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// For each link, whether its capture saw the sentinel behind the attempt.
    pub drained: Vec<bool>,
    /// For each link, what its capture counted.
    pub tallies: Vec<Tally>,
    /// For each link, how many frames its near end transmitted.
    pub transmitted: Vec<u64>,
    /// Devices of the host under test that are no links and have transmitted since the arming.
    pub others: Vec<String>,
    /// What the host under test can still send by itself: by the link at this place, or by any.
    pub pending: Vec<(Option<usize>, String)>,
}

/// Checks that the window is closed and that nothing was lost. The error is the reason why the
/// trial is inconclusive.
pub fn close(case: &Case, closing: &Closing) -> Result<Closed, String> {
    every(case, &closing.drained, "the capture of {} did not see the sentinel behind the attempt")?;
    if closing.tallies.len() != case.links.len() || closing.transmitted.len() != case.links.len() {
        return Err("a link has no account".to_owned());
    }
    let accounts = closing.tallies.iter().zip(&closing.transmitted);
    for (link, (tally, transmitted)) in case.links.iter().zip(accounts) {
        if tally.dropped > 0 {
            return Err(format!("the capture of {} lost {} frames", link.name, tally.dropped));
        }
        if tally.captured != *transmitted {
            return Err(format!(
                "{} transmitted {transmitted} frames and its capture saw {}",
                link.name, tally.captured
            ));
        }
    }
    if let Some(other) = closing.others.first() {
        return Err(format!("frames have left by {other}, which is no link of the scenario"));
    }
    let by_decoy = |link: &Option<usize>| link.is_none_or(|link| !case.intended[link]);
    let pending = closing.pending.iter().find(|(link, _)| by_decoy(link));
    if let (Some((_, what)), true) = (pending, case.judged == Judged::WayOut) {
        return Err(what.clone());
    }
    Ok(Closed(()))
}

fn every(case: &Case, seen: &[bool], complaint: &str) -> Result<(), String> {
    for (at, link) in case.links.iter().enumerate() {
        if !seen.get(at).copied().unwrap_or(false) {
            return Err(complaint.replace("{}", &link.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_that_missed_a_sentinel_stays_dead() {
        let mut arming = Arming::default();
        arming.phase_ended(&[true, true, false]);
        arming.phase_ended(&[true, false, true]);
        arming.phase_ended(&[true, true, true]);
        assert_eq!(arming.alive, [true, false, false]);
    }
}
