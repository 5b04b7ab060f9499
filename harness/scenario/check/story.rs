//! Whether an attempt can be judged at all: what receives must have somebody to hear and a place to
//! hear it, and what a timer sends must be waited for.

use toml::Spanned;

use super::{Cells, Checker};
use crate::scenario::attempt::{Approach, Call, Case, FrameKind, Outcome, Step};
use crate::scenario::file::Transport;

/// How many waits for a timer of the kernel's a case may have: each takes up to 2.5 s.
const AWAITS_MAX: usize = 4;
/// The addresses that no packet can come from (RFC 1122, section 3.2.1.3).
const NO_SOURCES: [&str; 4] = ["{group}", "{link-group}", "{broadcast}", "{loopback}"];

impl Checker<'_> {
    pub(super) fn story(&mut self, case: &Case, cells: &Cells) {
        if let Some(request) = &case.request
            && let Some(flows) = &request.get_ref().flows
        {
            let help = "one request is answered: write a case for each";
            self.fault(flows.span(), "`flows` says nothing beside `request`", help);
        }
        if let Some(inject) = &case.inject
            && inject.get_ref().frame != FrameKind::Opening
        {
            let help = "reception is judged of what carries the token: the frame `opening`";
            self.fault(inject.span(), "the injected frame reaches no socket by itself", help);
        }
        let listens = case.request.is_some() || case.inject.is_some();
        let deaf = |transport: &&Transport| {
            transport.is_frames() || [Transport::Ping, Transport::RawHeader].contains(transport)
        };
        if let (true, Some(transport)) = (listens, cells.transports.iter().find(deaf)) {
            let message = format!("a `{}` socket receives nothing here", transport.word());
            self.fault(case.name.span(), message, "narrow the matrix or `only`");
        }
        for approach in [&case.request, &case.inject, &case.provoke].into_iter().flatten() {
            self.source(approach.get_ref());
        }
        let steps: Vec<&Spanned<Step>> = case.steps.iter().collect();
        for step in &steps {
            if let Some(approach) = &step.get_ref().inject {
                self.source(approach);
            }
        }
        self.heard(&steps);
        self.reported(case, &steps);
        let awaits = steps.iter().filter(|step| step.get_ref().await_frame.is_some());
        if let Some(many) = awaits.clone().nth(AWAITS_MAX) {
            let message = format!("the case waits {} times", awaits.count());
            self.fault(many.span(), message, format!("accepted: {AWAITS_MAX} times at most"));
        }
        self.unpinned(case);
    }

    fn source(&mut self, approach: &Approach) {
        if let Some(from) = &approach.from
            && NO_SOURCES.contains(&from.get_ref().as_str())
        {
            let message = format!("no packet can come from `{}`", from.get_ref());
            self.fault(from.span(), message, "the host would drop it unseen: a unicast address");
        }
    }

    /// A socket that receives has been opened to somebody, who has said something.
    fn heard(&mut self, steps: &[&Spanned<Step>]) {
        let receives = |step: &&&Spanned<Step>| step.get_ref().call == Some(Call::Receive);
        let Some(receive) = steps.iter().find(receives) else { return };
        let said = |step: &&Spanned<Step>| {
            step.get_ref().inject.is_some() || step.get_ref().send.is_some()
        };
        if !steps.iter().any(said) {
            let help = "add an `inject`, or a `send` by another socket, before it";
            self.fault(receive.span(), "nobody has sent what is to be received", help);
        }
        let on = |step: &Step| step.on.as_ref().map(|on| on.get_ref().clone());
        let own = on(receive.get_ref());
        let open = |step: &&Spanned<Step>| {
            let step = step.get_ref();
            let opens = step.connect.is_some()
                || step.join.is_some()
                || [Some(Call::Listen), Some(Call::Accept)].contains(&step.call);
            opens && on(step) == own
        };
        let closed = |step: &&Spanned<Step>| {
            step.get_ref().call == Some(Call::Close) && on(step.get_ref()) == own
        };
        if !steps.iter().any(open) || steps.iter().any(closed) {
            let help = "it must `listen` or `connect` before, and not `close`";
            self.fault(receive.span(), "the socket cannot receive", help);
        }
    }

    /// A membership is reported some milliseconds later, by a timer.
    fn reported(&mut self, case: &Case, steps: &[&Spanned<Step>]) {
        if case.judges_reception() {
            return;
        }
        for (at, step) in steps.iter().enumerate() {
            let joins = step.get_ref().join.is_some();
            let waits = || steps[at..].iter().any(|step| step.get_ref().await_frame.is_some());
            if joins && !waits() {
                let help = "the kernel reports it by a timer: add `{ await = \"LINK\" }` behind it";
                self.fault(step.span(), "the report of this membership is not waited for", help);
            }
        }
    }

    fn unpinned(&mut self, case: &Case) {
        let Some(unpinned) = &case.unpinned else { return };
        let outcome = *unpinned.get_ref();
        if ![Outcome::Delivered, Outcome::Refused].contains(&outcome) {
            let message = format!("`{}` is no reception", outcome.word());
            self.fault(unpinned.span(), message, "accepted: `delivered`, `refused`");
        } else if !case.judges_reception() {
            let help = "it goes with a case that has `inject`, or `receive` as its last step";
            self.fault(
                unpinned.span(),
                "`unpinned` says nothing where no reception is judged",
                help,
            );
        } else if super::attempt::pins(&case.pin).is_empty()
            && !case.steps.iter().any(|step| step.get_ref().pin.is_some())
        {
            let help = "the case is that experiment itself";
            self.fault(unpinned.span(), "`unpinned` says nothing without a pin", help);
        }
    }
}
