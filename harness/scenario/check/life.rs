//! What happens to links, namespaces and privileges in a script of sockets: whether a trial of it could
//! still be accounted for, and whether silence could be taken for a proof.

use super::Checker;
use crate::scenario::attempt::{Call, Case, LinkState, Reindex, Rename, Step};
use crate::scenario::diagnostic::accepted_words;
use crate::scenario::file::Neighbours;

/// The longest name of a device, in bytes (IFNAMSIZ, netdevice(7), without the NUL).
const NAME_BYTES_MAX: usize = 15;
/// What a step can do that the kernel may refuse.
const REFUSABLE: [&str; 6] = ["pin", "call", "connect", "send", "cork", "join"];

impl<'a> Checker<'a> {
    /// The step at place `at` of a script, which does `key`.
    pub(super) fn life(&mut self, case: &'a Case, at: usize, key: &str) {
        let spanned = &case.steps[at];
        let (step, before) = (spanned.get_ref(), &case.steps[..at]);
        self.refused(case, at, key);
        let changes = ["set", "unroute", "rename", "reindex"].contains(&key);
        if changes && case.judges_reception() {
            let help = "the attempt without its pins comes first, and would meet the change too";
            self.fault(spanned.span(), format!("`{key}` does not go with a reception"), help);
        }
        if changes && key != "unroute" && self.file.neighbours != Neighbours::Permanent {
            let help = "leave `neighbours` out: what is learned is asked for again, and reported, at \
                        a time that nobody knows";
            self.fault(
                spanned.span(),
                format!("`{key}` goes with permanent neighbours alone"),
                help,
            );
        }
        if let Some(change) = &step.set {
            self.link(&change.link);
        }
        if let Some(Rename { link, to }) = &step.rename {
            self.link(link);
            let name = to.get_ref();
            let wrong =
                |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
            if name.is_empty()
                || name.len() > NAME_BYTES_MAX
                || name.contains(wrong)
                || [".", "..", "lo", "all", "default"].contains(&name.as_str())
                || name.starts_with("airtight-")
            {
                let help = "accepted: at most 15 bytes, without `/`, `:`, `%` and blanks";
                self.fault(to.span(), format!("no device can be named `{name}`"), help);
            }
        }
        if let Some(Reindex { link, like }) = &step.reindex {
            let known = self.link(link) & self.link(like);
            let last = before.iter().rev().find_map(|step| {
                let set = step.get_ref().set.as_ref()?;
                (set.link.get_ref() == like.get_ref()).then_some(set.to)
            });
            if known && (link.get_ref() == like.get_ref() || last != Some(LinkState::Gone)) {
                let message = format!("the index of `{}` is not free", like.get_ref());
                let help = "it must be another link that a step before has `set` to `gone`";
                self.fault(like.span(), message, help);
            }
        }
        let reindexed = before.iter().find_map(|step| step.get_ref().reindex.as_ref());
        if let Some(Reindex { link, like }) = reindexed {
            let named = [
                step.set.as_ref().map(|set| &set.link),
                step.rename.as_ref().map(|rename| &rename.link),
                step.await_frame.as_ref(),
                step.inject.as_ref().map(|approach| &approach.by),
            ];
            let touched = named.into_iter().flatten().any(|name| {
                key != "await" && [link.get_ref(), like.get_ref()].contains(&name.get_ref())
            });
            if touched || ["inject", "reindex"].contains(&key) {
                let help = "a link with another index can only be sent by";
                self.fault(spanned.span(), format!("`{key}` comes after `reindex`"), help);
            }
        }
        if let (Some(Call::DropPrivileges), Some(on)) = (step.call, &step.on) {
            let help = "it is no call of a socket's: leave `on` out";
            self.fault(on.span(), "`on` says nothing beside `drop-privileges`", help);
        }
        let same = |other: &Step| {
            other.on.as_ref().map(|on| on.get_ref()) == step.on.as_ref().map(|on| on.get_ref())
        };
        let mut rest = case.steps[at + 1..].iter().map(|step| step.get_ref());
        if step.cork.is_some()
            && !rest.any(|other| {
                same(other) && (other.send.is_some() || other.call == Some(Call::Send))
            })
        {
            let help = "add a `send` of the same socket behind it";
            self.fault(spanned.span(), "the datagram is held back for good", help);
        }
    }

    /// A refusal that the script goes on from.
    fn refused(&mut self, case: &Case, at: usize, key: &str) {
        let Some(refused) = &case.steps[at].get_ref().refused else { return };
        let name = refused.get_ref();
        if !REFUSABLE.contains(&key) {
            let help = accepted_words("", REFUSABLE);
            self.fault(refused.span(), format!("`refused` says nothing beside `{key}`"), help);
        } else if crate::errno::from_name(name).is_none() {
            let help = accepted_words(name, crate::errno::names());
            self.fault(refused.span(), format!("unknown errno `{name}`"), help);
        } else if at + 1 == case.steps.len() {
            let help = "say it of the case: `expect = \"refused\"`, `errno`";
            self.fault(refused.span(), "nothing comes behind the step that is refused", help);
        } else if let Some(pin) = &case.steps[at].get_ref().pin
            && super::attempt::pins(pin).len() > 1
        {
            let help = "a step for each pin";
            self.fault(refused.span(), "it does not say which of the pins is refused", help);
        }
    }
}
