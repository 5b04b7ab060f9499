//! A program as the sender: its command line, and what goes with one.

use toml::Spanned;

use super::{Checker, span};
use crate::scenario::attempt::{Case, Outcome};

/// The longest that a program may run, in milliseconds.
const TIMEOUT_MS_MAX: u32 = 600_000;

impl<'a> Checker<'a> {
    /// The sender of the file, whichever case it serves.
    pub(super) fn sender(&mut self) {
        let Some(sender) = &self.file.sender else { return };
        let commands = || self.file.case.iter().filter_map(|c| c.get_ref().command.as_ref());
        let named = sender.command.as_ref().or_else(|| commands().next());
        match named {
            None if !sender.product => {
                let help = "add `command` to it, or to a case, or `product = true`";
                self.fault(self.file.title.span(), "the sender has no command", help);
            }
            Some(command) if sender.product => {
                let message = "the sender is the product on trial, and has a command";
                self.fault(command.span(), message, "either `product = true` or `command`");
            }
            _ => {}
        }
        if let Some(command) = &sender.command {
            self.command(command);
        }
        if let Some(timeout) = &sender.timeout_ms
            && !(1..=TIMEOUT_MS_MAX).contains(timeout.get_ref())
        {
            let message = format!("`timeout_ms` is {}", timeout.get_ref());
            self.fault(timeout.span(), message, format!("accepted: 1 to {TIMEOUT_MS_MAX}"));
        }
        let wrong = sender.environment.keys().find(|name| name.is_empty() || name.contains('='));
        if let Some(name) = wrong {
            let message = format!("`{name}` cannot be a variable's name");
            self.fault(self.file.title.span(), message, "a name without `=`");
        }
    }

    fn command(&mut self, command: &Spanned<Vec<String>>) {
        let words = command.get_ref();
        if words.first().is_none_or(|program| program.is_empty()) {
            self.fault(command.span(), "the command line is empty", "a program and its arguments");
        }
        let unknown =
            words.iter().flat_map(|word| placeholders(word)).find(|word| !self.replaced(word));
        if let Some(word) = unknown {
            let help = "accepted: `{port}`, `{token}`, `{target}` and the other addresses, \
                        `{LINK.device}`, `{LINK.address}`, `{LINK.gateway}`; `intended` for LINK; \
                        `.url` behind an address's word for URLs";
            self.fault(command.span(), format!("unknown placeholder `{{{word}}}`"), help);
        }
        if words.iter().any(|word| word.contains('\0')) {
            self.fault(command.span(), "an argument holds a NUL", "no program can be given one");
        }
    }

    /// Whether `plan` replaces a placeholder of a command line.
    fn replaced(&self, word: &str) -> bool {
        let host = word.strip_suffix(".url").unwrap_or(word);
        let link = |name: &str| name == "intended" || self.links.contains(&name);
        let part = |part: &str| {
            ["device", "address", "gateway", "broadcast", "link-local"].contains(&part)
        };
        ["port", "token"].contains(&word)
            || super::words::ADDRESSES.iter().any(|(known, _)| *known == host)
            || (host != word && link(host))
            || host.rsplit_once('.').is_some_and(|(name, last)| link(name) && part(last))
    }

    /// Whether a program makes the attempt of `case`. Then nothing else of it can say how.
    pub(super) fn program(&mut self, case: &'a Case) -> bool {
        let of_file = self.file.sender.as_ref().and_then(|sender| sender.command.as_ref());
        let product = self.file.sender.as_ref().is_some_and(|sender| sender.product);
        match case.command.as_ref().or(of_file) {
            Some(command) if case.command.is_some() => self.command(command),
            Some(_) => {}
            None if product => {}
            None => return false,
        }
        let steps = case.steps.first().map(Spanned::span);
        let pins = super::attempt::pins(&case.pin).into_iter().next().map(|(_, span)| span);
        let idle = [
            ("pin", pins),
            ("to", span(&case.to)),
            ("size", span(&case.size)),
            ("flows", span(&case.flows)),
            ("request", span(&case.request)),
            ("inject", span(&case.inject)),
            ("provoke", span(&case.provoke)),
            ("steps", steps),
            ("call", span(&case.call)),
            ("unpinned", span(&case.unpinned)),
        ];
        for (key, span) in idle.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let help = "the program itself says how it sends: tell it by its arguments";
            self.fault(span, format!("`{key}` says nothing beside a command"), help);
        }
        if let Some(errno) = &case.errno
            && *case.expect.get_ref() == Outcome::Refused
            && !errno.get_ref().strip_prefix("exit ").is_some_and(exit_status)
        {
            let message = format!("`{}` is no exit status", errno.get_ref());
            self.fault(
                errno.span(),
                message,
                "accepted: `exit 1` to `exit 125`, `exit 128` to `exit 255`",
            );
        }
        true
    }
}

/// What stands in braces and looks like a placeholder: one word of lower-case letters, digits and
/// `.`, `-`, `_`. Other braces are the program's own.
fn placeholders(word: &str) -> Vec<&str> {
    let plain = |inner: &&str| {
        inner.starts_with(|c: char| c.is_ascii_lowercase())
            && inner
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c))
    };
    let inner = word.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    inner.map(|(inner, _)| inner).filter(plain).collect()
}

/// Whether it is the status of a program that ran and failed: 126 and 127 say that it did not.
fn exit_status(text: &str) -> bool {
    text.parse().is_ok_and(|status: u8| (1..=125).contains(&status) || status > 127)
}
