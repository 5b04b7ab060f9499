//! The checks that the shape of a file cannot express: names that refer to each other, words that
//! exclude each other.

use std::net::IpAddr;
use std::ops::Range;

use toml::Spanned;

use super::diagnostic::{accepted_words, nearest};
use super::file::{Approach, Case, File, Outcome, Pin};
use super::{ABILITIES, KernelRange};

/// The most links of one scenario: the subnets that 192.0.2.0/24 has room for.
const LINKS_MAX: usize = 16;
/// The longest device name in bytes (`IFNAMSIZ` less the NUL, linux/if.h).
const DEVICE_NAME_BYTES_MAX: usize = 15;

/// One fault: where, what, and what would be accepted.
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

/// Every fault of `file`, in the order of the file's keys.
pub(super) fn check(file: &File) -> Vec<Fault> {
    let mut checker = Checker {
        links: file.links.iter().map(|l| l.get_ref().as_str()).collect(),
        faults: Vec::new(),
    };
    checker.head(file);
    checker.lab(file);
    checker.control(file);
    checker.matrix(file);
    checker.cases(file);
    checker.faults
}

struct Checker<'a> {
    links: Vec<&'a str>,
    faults: Vec<Fault>,
}

impl<'a> Checker<'a> {
    fn fault(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Fault { span, message: message.into(), help: help.into() });
    }

    /// Whether `name` is a link of the file; a fault where it is not.
    fn link(&mut self, name: &Spanned<String>) -> bool {
        let known = self.links.contains(&name.get_ref().as_str());
        if !known {
            let message = format!("there is no link `{}`", name.get_ref());
            let help = accepted_words(name.get_ref(), self.links.iter().copied());
            self.fault(name.span(), message, help);
        }
        known
    }

    fn unique(&mut self, what: &str, names: &'a [Spanned<String>]) {
        for (at, name) in names.iter().enumerate() {
            if names[..at].iter().any(|before| before.get_ref() == name.get_ref()) {
                let message = format!("{what} `{}` stands twice", name.get_ref());
                self.fault(name.span(), message, "each once");
            }
        }
    }

    fn head(&mut self, file: &File) {
        if file.title.get_ref().trim().is_empty() {
            self.fault(file.title.span(), "the title is empty", "the claim in one sentence");
        }
        self.needs(&file.needs);
        self.kernel(file.kernel.as_ref());
    }

    fn needs(&mut self, needs: &[Spanned<String>]) {
        for need in needs {
            let word = need.get_ref().as_str();
            let program = word.strip_prefix("program:");
            if program.is_some_and(|name| !name.is_empty() && !name.contains('/'))
                || ABILITIES.contains(&word)
            {
                continue;
            }
            let words = ABILITIES.iter().copied().chain(["program:NAME"]);
            let help = accepted_words(word, words);
            self.fault(need.span(), format!("unknown need `{word}`"), help);
        }
    }

    fn kernel(&mut self, kernel: Option<&Spanned<String>>) {
        let Some(kernel) = kernel else { return };
        if KernelRange::parse(kernel.get_ref()).is_none() {
            let message = format!("`{}` is no range of kernels", kernel.get_ref());
            self.fault(kernel.span(), message, "accepted: `>=5.7`, `<6.1`, or both with a comma");
        }
    }

    fn lab(&mut self, file: &'a File) {
        let whole = file.links.first().map_or(0, |l| l.span().start)
            ..file.links.last().map_or(0, |l| l.span().end);
        if !(2..=LINKS_MAX).contains(&file.links.len()) {
            let message = format!("the number of links is {}", file.links.len());
            self.fault(whole, message, format!("accepted: 2 to {LINKS_MAX} links"));
        }
        for link in &file.links {
            let name = link.get_ref();
            let fits = (1..=DEVICE_NAME_BYTES_MAX).contains(&name.len());
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !fits || !plain || [".", "..", "lo", "all", "default"].contains(&name.as_str()) {
                let help = format!(
                    "accepted: 1 to {DEVICE_NAME_BYTES_MAX} letters, digits, `-`, `_`, `.`; not \
                     `lo`, `all`, `default`"
                );
                self.fault(link.span(), format!("`{name}` cannot be a device's name"), help);
            }
        }
        self.unique("link", &file.links);
        self.unique("intended link", &file.intended);
        for link in &file.intended {
            self.link(link);
        }
        if file.intended.is_empty() || file.intended.len() >= file.links.len() {
            let message =
                format!("{} of {} links are intended", file.intended.len(), file.links.len());
            let span = file.intended.first().map_or(whole_start(file), |l| l.span());
            self.fault(span, message, "at least one link is intended and one is a decoy");
        }
        for route in &file.routes {
            self.route(route);
        }
    }

    fn route(&mut self, spanned: &Spanned<super::Route>) {
        let route = spanned.get_ref();
        self.destination(&route.to);
        match (&route.via, &route.dev) {
            (Some(link), None) | (None, Some(link)) => {
                self.link(link);
            }
            (Some(_), Some(_)) => {
                self.fault(
                    spanned.span(),
                    "the route has both `via` and `dev`",
                    "`via` for the link's gateway, `dev` for a neighbour on the link",
                );
            }
            (None, None) => {
                self.fault(
                    spanned.span(),
                    "the route leads nowhere",
                    "add `via` (the link's gateway) or `dev` (a neighbour on the link)",
                );
            }
        }
        if route.table == Some(0) {
            self.fault(spanned.span(), "there is no routing table 0", "accepted: 1 to 4294967295");
        }
    }

    fn destination(&mut self, to: &Spanned<String>) {
        let text = to.get_ref().as_str();
        if let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            let mut accepted = vec!["target".to_owned()];
            for link in &self.links {
                for part in ["address", "gateway", "network"] {
                    accepted.push(format!("{link}.{part}"));
                }
            }
            if !accepted.iter().any(|word| word == inner) {
                let help = accepted_words(inner, accepted.iter().map(String::as_str));
                self.fault(to.span(), format!("unknown placeholder `{text}`"), help);
            }
            return;
        }
        if text != "default" && parse_prefix(text).is_none() {
            let near =
                nearest(text, &["default", "{target}"]).map(|n| format!("did you mean `{n}`? "));
            self.fault(to.span(), format!("`{text}` is no destination"), format!(
                "{}accepted: `default`, a prefix such as `203.0.113.0/24` without bits behind its \
                 length, `{{target}}`, `{{LINK.address}}`, `{{LINK.gateway}}`, `{{LINK.network}}`",
                near.unwrap_or_default()));
        }
    }

    fn control(&mut self, file: &File) {
        let unpinned = &file.control.unpinned;
        let intended = file.intended.iter().any(|l| l.get_ref() == unpinned.get_ref());
        if self.link(unpinned) && intended {
            let decoys: Vec<&str> = self
                .links
                .iter()
                .copied()
                .filter(|link| !file.intended.iter().any(|l| l.get_ref() == link))
                .collect();
            let message = format!("the control names the intended link `{}`", unpinned.get_ref());
            self.fault(unpinned.span(), message, accepted_words("", decoys));
        }
    }

    fn matrix(&mut self, file: &File) {
        self.axis("family", &file.matrix.family);
        self.axis("transport", &file.matrix.transport);
        if file.case.is_empty() {
            self.fault(file.title.span(), "the scenario has no case", "add a `[[case]]`");
        }
    }

    fn axis<T: PartialEq>(&mut self, name: &str, axis: &Spanned<Vec<T>>) {
        let values = axis.get_ref();
        if values.is_empty() {
            self.fault(axis.span(), format!("the axis `{name}` is empty"), "at least one value");
        }
        if values.iter().enumerate().any(|(at, value)| values[..at].contains(value)) {
            self.fault(axis.span(), format!("the axis `{name}` has a value twice"), "each once");
        }
    }

    fn cases(&mut self, file: &'a File) {
        for (at, spanned) in file.case.iter().enumerate() {
            let case = spanned.get_ref();
            let name = case.name.get_ref();
            if name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            {
                self.fault(
                    case.name.span(),
                    format!("`{name}` cannot be a case's name"),
                    "accepted: lower-case letters, digits and hyphens",
                );
            }
            if file.case[..at].iter().any(|c| c.get_ref().name.get_ref() == name) {
                self.fault(case.name.span(), format!("case `{name}` stands twice"), "each once");
            }
            self.pin(&case.pin);
            self.needs(&case.needs);
            self.kernel(case.kernel.as_ref());
            self.expectation(case, file);
            self.only(case, file);
        }
    }

    fn pin(&mut self, pin: &Pin) {
        for link in [&pin.device, &pin.ifreq, &pin.index, &pin.address].into_iter().flatten() {
            self.link(link);
        }
    }

    fn expectation(&mut self, case: &Case, file: &File) {
        if let (Some(request), Some(_)) = (&case.request, &case.inject) {
            self.fault(
                request.span(),
                "the case has both `request` and `inject`",
                "`request` judges the answers, `inject` the reception",
            );
        }
        for approach in [&case.request, &case.inject].into_iter().flatten() {
            let Approach { by, to } = approach.get_ref();
            self.link(by);
            self.link(to);
        }
        let outcome = *case.expect.get_ref();
        let accepted: &[Outcome] = match case.inject {
            Some(_) => &[Outcome::Delivered, Outcome::Refused],
            None => &[Outcome::Contained, Outcome::Leaked, Outcome::Refused, Outcome::Silent],
        };
        if !accepted.contains(&outcome) {
            let words = accepted.iter().map(|o| format!("`{}`", o.word())).collect::<Vec<_>>();
            let whose = if case.inject.is_some() { "with `inject`" } else { "without `inject`" };
            self.fault(
                case.expect.span(),
                format!("`{}` cannot be the outcome {whose}", outcome.word()),
                format!("accepted: {}", words.join(", ")),
            );
        }
        if let Some(known) = &case.known
            && (known.get_ref().outcome == outcome || !accepted.contains(&known.get_ref().outcome))
        {
            self.fault(
                known.span(),
                "the waiver's outcome is the expected one, or cannot be",
                "name the outcome that is observed instead of the expected one",
            );
        }
        if let Some(through) = &case.through {
            let intended = file.intended.iter().any(|l| l.get_ref() == through.get_ref());
            if self.link(through) && intended {
                self.fault(
                    through.span(),
                    format!("`{}` is intended: frames on it do not leak", through.get_ref()),
                    "name the decoy",
                );
            }
        }
        if let Some(source) = &case.source {
            self.link(source);
        }
        if let Some(errno) = &case.errno
            && crate::errno::from_name(errno.get_ref()).is_none()
        {
            let help = accepted_words(errno.get_ref(), crate::errno::names());
            self.fault(errno.span(), format!("unknown errno `{}`", errno.get_ref()), help);
        }
        self.fits(case, outcome);
    }

    /// A key that the expected outcome leaves without effect is a fault: it would look proved.
    fn fits(&mut self, case: &Case, outcome: Outcome) {
        let frames = [Outcome::Contained, Outcome::Leaked].as_slice();
        type Fit<'a> = (&'a str, Option<Range<usize>>, &'a [Outcome]);
        let pairs: [Fit<'_>; 4] = [
            ("through", case.through.as_ref().map(Spanned::span), &[Outcome::Leaked]),
            ("source", case.source.as_ref().map(Spanned::span), frames),
            ("errno", case.errno.as_ref().map(Spanned::span), &[Outcome::Refused]),
            ("carries", case.carries.as_ref().map(Spanned::span), &[Outcome::Contained]),
        ];
        for (key, span, outcomes) in pairs {
            if let Some(span) = span
                && !outcomes.contains(&outcome)
            {
                let words = outcomes.iter().map(|o| format!("`{}`", o.word())).collect::<Vec<_>>();
                self.fault(
                    span,
                    format!("`{key}` says nothing beside `{}`", outcome.word()),
                    format!("it goes with expect = {}", words.join(" or ")),
                );
            }
        }
    }

    fn only(&mut self, case: &Case, file: &File) {
        let Some(only) = &case.only else { return };
        let family = only.get_ref().family.as_deref();
        let transport = only.get_ref().transport.as_deref();
        if family.is_some_and(|part| {
            part.is_empty() || !part.iter().all(|v| file.matrix.family.get_ref().contains(v))
        }) || transport.is_some_and(|part| {
            part.is_empty() || !part.iter().all(|v| file.matrix.transport.get_ref().contains(v))
        }) || (family.is_none() && transport.is_none())
        {
            self.fault(
                only.span(),
                "`only` names no part of the matrix",
                "accepted: values that the matrix has, at least one on an axis",
            );
        }
    }
}

/// Where the file's links are named, or its first byte.
fn whole_start(file: &File) -> Range<usize> {
    file.links.first().map_or(0..0, Spanned::span)
}

/// An address prefix with no bits set behind its length.
pub(crate) fn parse_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let stray = if length >= 128 { 0 } else { bits & (u128::MAX >> length) };
    (length <= width && stray == 0).then_some((address, length))
}
