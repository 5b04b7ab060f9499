//! The checks that the shape of a file cannot express: names that refer to each other, words that
//! exclude each other. A key without effect is a fault too: it would look proved.

mod attempt;
mod expectation;
mod lab;
mod life;
mod program;
mod story;
mod words;

use std::ops::Range;

use toml::Spanned;

use super::attempt::Case;
use super::diagnostic::accepted_words;
use super::file::{Family, File, Transport};
use super::{ABILITIES, KernelRange};

pub(crate) use words::parse_prefix;

/// One fault: where, what, and what would be accepted.
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

/// Every fault of `file`, in the order of the file's keys.
pub(super) fn check(file: &File) -> Vec<Fault> {
    let links = file.links.iter().map(|link| link.get_ref().as_str()).collect();
    let mut checker = Checker { file, links, faults: Vec::new() };
    checker.head();
    checker.lab();
    checker.sender();
    checker.world();
    checker.control();
    checker.matrix();
    checker.cases();
    checker.faults
}

struct Checker<'a> {
    file: &'a File,
    links: Vec<&'a str>,
    faults: Vec<Fault>,
}

/// The cells that a case is tried in: every family with every transport.
struct Cells {
    families: Vec<Family>,
    transports: Vec<Transport>,
}

impl<'a> Checker<'a> {
    fn fault(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Fault { span, message: message.into(), help: help.into() });
    }

    /// Whether `word` is one of `accepted`; a fault where it is not, `message` followed by the
    /// word.
    fn one_of<'b>(
        &mut self,
        word: &Spanned<String>,
        message: &str,
        accepted: impl IntoIterator<Item = &'b str>,
    ) -> bool {
        let accepted: Vec<&str> = accepted.into_iter().collect();
        let text = word.get_ref().as_str();
        let known = accepted.contains(&text);
        if !known {
            let help = accepted_words(text, accepted);
            self.fault(word.span(), format!("{message} `{text}`"), help);
        }
        known
    }

    /// Whether `name` is a link of the file; a fault where it is not.
    fn link(&mut self, name: &Spanned<String>) -> bool {
        let links = self.links.clone();
        self.one_of(name, "there is no link", links)
    }

    /// A link of the file, or the one word `other`.
    fn link_or(&mut self, name: &Spanned<String>, other: &str) {
        let links = self.links.clone();
        self.one_of(name, "there is no link", links.into_iter().chain([other]));
    }

    fn intended(&self, name: &str) -> bool {
        self.file.intended.iter().any(|link| link.get_ref() == name)
    }

    fn decoys(&self) -> Vec<&'a str> {
        self.links.iter().copied().filter(|link| !self.intended(link)).collect()
    }

    fn unique(&mut self, what: &str, names: &[Spanned<String>]) {
        for (at, name) in names.iter().enumerate() {
            if names[..at].iter().any(|before| before.get_ref() == name.get_ref()) {
                let message = format!("{what} `{}` stands twice", name.get_ref());
                self.fault(name.span(), message, "each once");
            }
        }
    }

    fn head(&mut self) {
        let file = self.file;
        if file.title.get_ref().trim().is_empty() {
            self.fault(file.title.span(), "the title is empty", "the claim in one sentence");
        }
        self.needs(&file.needs);
        self.kernel(file.kernel.as_ref());
    }

    fn needs(&mut self, needs: &[Spanned<String>]) {
        for need in needs {
            let program = need.get_ref().strip_prefix("program:");
            let line = need.get_ref().strip_prefix("line:");
            if program.is_none_or(|name| name.is_empty() || name.contains('/'))
                && line.is_none_or(|line| line.trim().is_empty())
            {
                let words = ABILITIES.iter().copied().chain(["program:NAME", "line:COMMAND"]);
                self.one_of(need, "unknown need", words);
            }
        }
    }

    /// A fault where `need` does not stand in the scenario's `needs`.
    fn needed(&mut self, need: &str, span: Range<usize>) {
        if !self.file.needs.iter().any(|known| known.get_ref() == need) {
            let help = format!("add \"{need}\" to `needs`");
            self.fault(span, format!("this takes `{need}`, which does not stand in `needs`"), help);
        }
    }

    fn kernel(&mut self, kernel: Option<&Spanned<String>>) {
        let Some(kernel) = kernel else { return };
        if KernelRange::parse(kernel.get_ref()).is_none() {
            let message = format!("`{}` is no range of kernels", kernel.get_ref());
            self.fault(kernel.span(), message, "accepted: `>=5.7`, `<6.1`, or both with a comma");
        }
    }

    fn control(&mut self) {
        let control = &self.file.control;
        let unpinned = &control.unpinned;
        if self.link(unpinned) && self.intended(unpinned.get_ref()) {
            let message = format!("the control names the intended link `{}`", unpinned.get_ref());
            self.fault(unpinned.span(), message, accepted_words("", self.decoys()));
        }
        if let Some(to) = &control.to {
            let families = self.families();
            self.address(to, &families);
        }
        let Some(arrives) = &control.arrives else { return };
        let span = arrives.first().map_or(unpinned.span(), Spanned::span);
        if arrives.is_empty() {
            let help = "at least one link, or no `arrives`: the decoy and the link of the case";
            self.fault(span, "the control's receiver is reached by no link", help);
        } else if !self.file.case.iter().any(|case| case.get_ref().judges_reception()) {
            let help = "it goes with a case that has `inject`, or `receive` as its last step";
            self.fault(span, "`arrives` says nothing where no reception is judged", help);
        }
        self.unique("link", arrives);
        for link in arrives {
            self.link(link);
        }
    }

    fn matrix(&mut self) {
        let file = self.file;
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

    fn cases(&mut self) {
        let file = self.file;
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
            let cells = self.cells(case);
            self.needs(&case.needs);
            self.kernel(case.kernel.as_ref());
            let program = self.program(case, &cells);
            if !program {
                self.attempt(case, &cells);
                self.story(case, &cells);
            }
            self.expectation(case, &cells, program);
            self.only(case);
        }
    }

    /// The cells of the matrix that `case` is for.
    fn cells(&self, case: &Case) -> Cells {
        fn part<T: Copy + PartialEq>(axis: &[T], only: Option<&Vec<T>>) -> Vec<T> {
            let concerns = |value: &T| only.is_none_or(|only| only.contains(value));
            axis.iter().copied().filter(concerns).collect()
        }
        let only = case.only.as_ref().map(Spanned::get_ref);
        let matrix = &self.file.matrix;
        Cells {
            families: part(matrix.family.get_ref(), only.and_then(|o| o.family.as_ref())),
            transports: part(matrix.transport.get_ref(), only.and_then(|o| o.transport.as_ref())),
        }
    }

    /// The families that any case is tried in.
    fn families(&self) -> Vec<Family> {
        let cells = self.file.case.iter().map(|case| self.cells(case.get_ref()));
        let mut families: Vec<Family> = cells.flat_map(|cells| cells.families).collect();
        families.sort();
        families.dedup();
        families
    }

    fn only(&mut self, case: &Case) {
        let Some(only) = &case.only else { return };
        let matrix = &self.file.matrix;
        let family = only.get_ref().family.as_deref();
        let transport = only.get_ref().transport.as_deref();
        if family.is_some_and(|part| {
            part.is_empty() || !part.iter().all(|v| matrix.family.get_ref().contains(v))
        }) || transport.is_some_and(|part| {
            part.is_empty() || !part.iter().all(|v| matrix.transport.get_ref().contains(v))
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

/// Where an optional key's value stands.
fn span<T>(key: &Option<Spanned<T>>) -> Option<Range<usize>> {
    key.as_ref().map(Spanned::span)
}
