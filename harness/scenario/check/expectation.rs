//! What is expected of a case, and whether it can be.

use std::ops::Range;

use super::{Cells, Checker, span};
use crate::scenario::attempt::{Case, Outcome, Step};
use crate::scenario::diagnostic::accepted_words;
use crate::scenario::file::{Family, Transport};
use crate::scenario::{Guard, HeldBy, tried};

/// What can come of it where the way out is judged.
const WAYS_OUT: &[Outcome] =
    &[Outcome::Contained, Outcome::Leaked, Outcome::Refused, Outcome::Silent];
/// What can be expected of a program, whose way out is judged.
const OF_PROGRAMS: &[Outcome] =
    &[Outcome::Contained, Outcome::Leaked, Outcome::Refused, Outcome::Silent, Outcome::Kept];
/// What can come of it where reception is judged.
const RECEPTIONS: &[Outcome] = &[Outcome::Delivered, Outcome::Refused];

impl Checker<'_> {
    pub(super) fn expectation(&mut self, case: &Case, cells: &Cells, program: bool) {
        let outcome = *case.expect.get_ref();
        let (accepted, judged) = match case.judges_reception() {
            true => (RECEPTIONS, "reception is judged"),
            false if program => (OF_PROGRAMS, "the way out is judged"),
            false => (WAYS_OUT, "the way out is judged"),
        };
        if !accepted.contains(&outcome) {
            let message = format!("`{}` cannot be the outcome where {judged}", outcome.word());
            let help = format!("accepted: {}", list(accepted, ", "));
            self.fault(case.expect.span(), message, help);
        }
        if let Some(known) = &case.known
            && (known.get_ref().outcome == outcome
                || known.get_ref().outcome == Outcome::Kept
                || !accepted.contains(&known.get_ref().outcome))
        {
            self.fault(
                known.span(),
                "the waiver's outcome is the expected one, or cannot be",
                "name the outcome that is observed instead of the expected one",
            );
        }
        if let Some(through) = &case.through
            && self.link(through)
            && self.intended(through.get_ref())
        {
            let message = format!("`{}` is intended: frames on it do not leak", through.get_ref());
            self.fault(through.span(), message, accepted_words("", self.decoys()));
        }
        if let Some(source) = &case.source {
            self.address_or_link(source, &cells.families);
        }
        if let Some(errno) = case.errno.as_ref().filter(|_| !program)
            && crate::errno::from_name(errno.get_ref()).is_none()
        {
            let help = accepted_words(errno.get_ref(), crate::errno::names());
            self.fault(errno.span(), format!("unknown errno `{}`", errno.get_ref()), help);
        }
        if outcome == Outcome::Kept && program && !changes(case) {
            let help = "`kept` goes with steps that change the laboratory, or with `fault`: \
                        otherwise it is `contained`, `refused` or `silent`";
            self.fault(case.expect.span(), "nothing keeps the program from sending", help);
        }
        let said = case.errno.is_some() || case.call.is_some();
        if outcome == Outcome::Refused && !case.judges_reception() && !said {
            let help = "add the `errno` that the sender is given: another error is no proof";
            self.fault(case.expect.span(), "`refused` does not say with what error", help);
        }
        self.call(case);
        self.held_by(case, cells, program);
        self.fits(case, outcome, program);
    }

    fn call(&mut self, case: &Case) {
        let Some(call) = &case.call else { return };
        if call.get_ref().trim().is_empty() {
            let help = "the call as the record has it: `sendto`, `connect`, `setsockopt(...`";
            self.fault(call.span(), "the call is empty", help);
        } else if case.errno.is_none() {
            let help = "add the `errno` that the call is given";
            self.fault(call.span(), "`call` says nothing without `errno`", help);
        }
    }

    fn held_by(&mut self, case: &Case, cells: &Cells, program: bool) {
        let Some(held_by) = &case.held_by else { return };
        if program {
            let help = "guards are tried with sockets; leave `held_by` out";
            self.fault(held_by.span(), "`held_by` is not for programs", help);
        }
        let families = cells.families.iter();
        let all: Vec<(Family, Transport)> =
            families.flat_map(|f| cells.transports.iter().map(|t| (*f, *t))).collect();
        let adversary = self.file.adversary.is_some();
        let mut known: Vec<HeldBy> = Vec::new();
        for entry in held_by.get_ref() {
            let Some(held) = HeldBy::parse(entry) else {
                let words = Guard::ALL.iter().map(|guard| guard.word());
                let help = format!("{}, or `PART:GUARD`", accepted_words(entry, words));
                self.fault(held_by.span(), format!("there is no guard `{entry}`"), help);
                continue;
            };
            let cells = tried(held.guard, &all, adversary);
            let concerned: Vec<_> = cells.iter().filter(|(f, t)| held.concerns(*f, *t)).collect();
            if concerned.is_empty() {
                let word = |(f, t): &(Family, Transport)| {
                    format!("`{}-{}:{}`", f.word(), t.word(), held.guard.word())
                };
                let words = cells.iter().map(word).collect::<Vec<_>>().join(", ");
                let help = format!("accepted: {words}, or the family or transport of one alone");
                let message = format!("under `{entry}` nothing of the case is tried");
                self.fault(held_by.span(), message, help);
            }
            let mut same = known.iter().filter(|known| known.guard == held.guard);
            if same.any(|known| concerned.iter().any(|(f, t)| known.concerns(*f, *t))) {
                let message = format!("`{entry}` says again what stands before it");
                self.fault(held_by.span(), message, "each guard once for each part of the matrix");
            }
            known.push(held);
        }
    }

    /// A key that the expected outcome leaves without effect is a fault: it would look proved.
    fn fits(&mut self, case: &Case, outcome: Outcome, program: bool) {
        let frames = [Outcome::Contained, Outcome::Leaked].as_slice();
        // In a script an error may end what has sent before; a program may fail behind it.
        let errors: &[Outcome] = match case.steps.is_empty() && !program {
            true => &[Outcome::Refused],
            false => &[Outcome::Refused, Outcome::Contained],
        };
        type Fit<'a> = (&'a str, Option<Range<usize>>, &'a [Outcome]);
        let fits: [Fit<'_>; 6] = [
            ("held_by", span(&case.held_by), &[Outcome::Leaked]),
            ("through", span(&case.through), &[Outcome::Leaked]),
            ("source", span(&case.source), frames),
            ("errno", span(&case.errno), errors),
            // Without `errno` there is a fault already.
            ("call", span(&case.call).filter(|_| case.errno.is_some()), errors),
            ("carries", span(&case.carries), &[Outcome::Contained]),
        ];
        for (key, span, outcomes) in fits {
            if let Some(span) = span
                && !outcomes.contains(&outcome)
            {
                self.fault(
                    span,
                    format!("`{key}` says nothing beside `{}`", outcome.word()),
                    format!("it goes with expect = {}", list(outcomes, " or ")),
                );
            }
        }
    }
}

/// Whether a program's laboratory changes, or its pins are refused.
fn changes(case: &Case) -> bool {
    let change = |step: &toml::Spanned<Step>| {
        let step = step.get_ref();
        step.set.is_some() || step.route.is_some() || step.unroute.is_some()
    };
    case.fault.is_some() || case.steps.iter().any(change)
}

fn list(outcomes: &[Outcome], between: &str) -> String {
    outcomes.iter().map(|o| format!("`{}`", o.word())).collect::<Vec<_>>().join(between)
}
