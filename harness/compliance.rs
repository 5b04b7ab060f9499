//! What a product requires of its traffic, and whether a result proves it: requirement to trials to
//! verdicts to frames. Pure: it knows neither the file system nor the clock.
//!
//! A product's own `requirements.toml` names its requirements, the trials that must hold for each,
//! and the controls that each supports evidence for:
//!
//! ```toml
//! product = "Gateway 7"
//!
//! [[requirement]]
//! id       = "NET-1"
//! text     = "Control traffic leaves by the chassis link alone"
//! trials   = ["product/better-metric", "product/option-121"]
//! controls = ["nist-800-53r5:SC-7(21)", "iec-62443-3-3:SR 5.1"]
//!
//! [[waiver]]
//! trials  = "programs/name-lookup::curl::v6-tcp"
//! outcome = "leaked"
//! owner   = "jane@example.org"
//! reason  = "the resolver is replaced in release 8"
//! expires = 2027-03-31
//! ```
//!
//! `trials` are beginnings of trial ids, as `airtight run` takes them. A trial holds for a requirement
//! where it conforms and no frame left by a link that is not intended: a scenario may expect a
//! leak, and its conforming proves no containment. A requirement about leaks (that the trap bites)
//! says so by `outcomes = ["leaked"]`.
//!
//! A waiver stands for exactly what deviates: every trial that it names must show the outcome that it
//! names. It is in force up to and including the day on which it expires.

mod assess;
mod controls;

pub use assess::{Assessed, Assessment, Evidence, Hold, Standing, WaiverState, WaiverUse, assess};
pub use controls::{Catalogue, Control, Supported, catalogues};

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::value::{Date, Datetime};

use crate::scenario::{self, Diagnostic, Diagnostics, Outcome, accepted_words, nearest};

/// The outcomes that hold for a requirement that names none.
const HOLDING: &[Outcome] =
    &[Outcome::Contained, Outcome::Refused, Outcome::Silent, Outcome::Delivered];

const KIND: scenario::Kind = scenario::Kind {
    size: "a product's requirements are some pages of text",
    manual: "requirements are TOML 1.0; `airtight comply --help` shows a file",
    keys: "`airtight comply --help` shows what it takes",
};

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    product: Option<Spanned<String>>,
    #[serde(default)]
    requirement: Vec<Spanned<WrittenRequirement>>,
    #[serde(default)]
    waiver: Vec<Spanned<WrittenWaiver>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRequirement {
    id: Spanned<String>,
    text: Spanned<String>,
    trials: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    controls: Vec<Spanned<String>>,
    outcomes: Option<Spanned<Vec<Outcome>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWaiver {
    trials: Spanned<String>,
    outcome: Outcome,
    owner: Spanned<String>,
    reason: Spanned<String>,
    expires: Spanned<Datetime>,
}

/// What a product requires. Only [`parse`] makes one, so whatever holds one may rely on the checks.
#[derive(Clone, Debug)]
pub struct Requirements {
    path: String,
    product: Option<String>,
    requirements: Vec<Requirement>,
    waivers: Vec<Waiver>,
}

impl Requirements {
    /// The file's path, as the user named it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The product's name, where the file has one.
    pub fn product(&self) -> Option<&str> {
        self.product.as_deref()
    }

    /// The requirements, in the file's order.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The waivers, in the file's order.
    pub fn waivers(&self) -> &[Waiver] {
        &self.waivers
    }
}

/// One requirement.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// Its id, unique in its file.
    pub id: String,
    /// What is required.
    pub text: String,
    /// The line of the file.
    pub line: usize,
    /// The beginnings of the ids of the trials that must hold.
    pub selectors: Vec<String>,
    /// The outcomes with which a conforming trial holds.
    pub outcomes: Vec<Outcome>,
    /// The controls that it supports evidence for.
    pub controls: Vec<Supported>,
}

impl Requirement {
    /// The outcomes that hold, where they are not all but `leaked`.
    pub fn named_outcomes(&self) -> Option<&[Outcome]> {
        (self.outcomes != HOLDING).then_some(&self.outcomes)
    }
}

/// A deviation that its owner answers for, for a time.
#[derive(Clone, Debug)]
pub struct Waiver {
    /// The beginning of the ids of the trials that deviate.
    pub selector: String,
    /// The line of the file.
    pub line: usize,
    /// What they show.
    pub outcome: Outcome,
    /// Who answers for it.
    pub owner: String,
    /// Why it is borne.
    pub reason: String,
    /// The last day on which it is in force.
    pub expires: Date,
}

/// Parses and checks a product's requirements. `path` is the file's as messages show it. Errors hold
/// every fault that could be found, each with its place.
pub fn parse(path: &str, bytes: &[u8]) -> Result<Requirements, Diagnostics> {
    let (text, file): (&str, File) = scenario::read(path, bytes, &KIND)?;
    let mut checker = Checker { path, text, faults: Vec::new() };
    let requirements = checker.requirements(&file.requirement);
    let waivers = checker.waivers(&file.waiver);
    if let Some(product) = &file.product {
        checker.filled(product, "product");
    }
    if !checker.faults.is_empty() {
        return Err(Diagnostics(checker.faults));
    }
    let product = file.product.map(Spanned::into_inner);
    Ok(Requirements { path: path.to_owned(), product, requirements, waivers })
}

struct Checker<'a> {
    path: &'a str,
    text: &'a str,
    faults: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn fault(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Diagnostic {
            path: self.path.to_owned(),
            text: self.text.to_owned(),
            span,
            message: message.into(),
            help: Some(help.into()),
        });
    }

    fn filled(&mut self, word: &Spanned<String>, key: &str) {
        if word.get_ref().trim().is_empty() {
            self.fault(word.span(), format!("`{key}` is empty"), "at least one word");
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.text.as_bytes()[..span.start].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn requirements(&mut self, written: &[Spanned<WrittenRequirement>]) -> Vec<Requirement> {
        if written.is_empty() {
            self.fault(0..0, "the file requires nothing", "add a `[[requirement]]`");
        }
        let mut list: Vec<Requirement> = Vec::new();
        for spanned in written {
            let one = spanned.get_ref();
            self.id(&one.id, &list);
            self.filled(&one.text, "text");
            if one.trials.get_ref().is_empty() {
                let help = "at least one beginning of a trial's id; `airtight list` shows them";
                self.fault(one.trials.span(), "no trial is named", help);
            }
            self.unique("trials", one.trials.get_ref());
            one.trials.get_ref().iter().for_each(|selector| self.selector(selector));
            self.unique("controls", &one.controls);
            let controls = one.controls.iter().filter_map(|word| self.control(word)).collect();
            let outcomes = one.outcomes.as_ref().map(Spanned::get_ref);
            if let (Some(outcomes), Some([])) = (&one.outcomes, outcomes.map(Vec::as_slice)) {
                let help = "at least one outcome, or no `outcomes`: all but `leaked`";
                self.fault(outcomes.span(), "no outcome holds", help);
            }
            let selectors = one.trials.get_ref().iter();
            list.push(Requirement {
                id: one.id.get_ref().clone(),
                text: one.text.get_ref().trim().to_owned(),
                line: self.line(&spanned.span()),
                selectors: selectors.map(|selector| selector.get_ref().clone()).collect(),
                outcomes: outcomes.map_or(HOLDING, Vec::as_slice).to_vec(),
                controls,
            });
        }
        list
    }

    fn id(&mut self, id: &Spanned<String>, before: &[Requirement]) {
        let text = id.get_ref().as_str();
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        if !begins || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            self.fault(
                id.span(),
                format!("`{}` cannot be a requirement's id", text.escape_debug()),
                "accepted: letters, digits, `-`, `_` and `.`, a letter first",
            );
        }
        if before.iter().any(|requirement| requirement.id == text) {
            self.fault(id.span(), format!("requirement `{text}` stands twice"), "each once");
        }
    }

    fn unique(&mut self, key: &str, words: &[Spanned<String>]) {
        for (at, word) in words.iter().enumerate() {
            if words[..at].iter().any(|before| before.get_ref() == word.get_ref()) {
                let message = format!("`{}` stands twice in `{key}`", word.get_ref());
                self.fault(word.span(), message, "each once");
            }
        }
    }

    fn selector(&mut self, selector: &Spanned<String>) {
        if selector.get_ref().trim_end_matches('/').trim().is_empty() {
            let help = "the beginning of a trial's id; `airtight list` shows them";
            self.fault(selector.span(), "an empty selector would pick every trial", help);
        }
    }

    fn control(&mut self, word: &Spanned<String>) -> Option<Supported> {
        match controls::find(word.get_ref()) {
            Ok(supported) => Some(supported),
            Err((message, accepted)) => {
                let words = accepted.iter().map(String::as_str);
                let help = accepted_words(word.get_ref(), words);
                self.fault(word.span(), message, help);
                None
            }
        }
    }

    fn waivers(&mut self, written: &[Spanned<WrittenWaiver>]) -> Vec<Waiver> {
        let mut list: Vec<Waiver> = Vec::new();
        for spanned in written {
            let one = spanned.get_ref();
            self.selector(&one.trials);
            self.filled(&one.owner, "owner");
            self.filled(&one.reason, "reason");
            let date = one.expires.get_ref();
            let (Datetime { date: Some(expires), time: None, offset: None }, selector) =
                (*date, one.trials.get_ref())
            else {
                let message = format!("`{date}` is no date");
                self.fault(one.expires.span(), message, "accepted: a day, as in `2027-03-31`");
                continue;
            };
            if list.iter().any(|waiver| waiver.selector == *selector) {
                let message = format!("a waiver for `{selector}` stands twice");
                self.fault(one.trials.span(), message, "each once");
            }
            list.push(Waiver {
                selector: selector.clone(),
                line: self.line(&spanned.span()),
                outcome: one.outcome,
                owner: one.owner.get_ref().trim().to_owned(),
                reason: one.reason.get_ref().trim().to_owned(),
                expires,
            });
        }
        list
    }
}

/// Whether `selector` picks the trial `id`, as `airtight run` would.
fn picks(selector: &str, id: &str) -> bool {
    // A leak under a guard is a claim of its own, and must be asked for by its `+GUARD`.
    id.starts_with(selector.trim_end_matches('/')) && (!id.contains('+') || selector.contains('+'))
}

/// What to say where `selector` picks none of `ids`.
fn no_match(selector: &str, ids: &[&str]) -> String {
    let mut words: Vec<&str> = ids.to_vec();
    words.extend(ids.iter().map(|id| id.split("::").next().unwrap_or_default()));
    words.sort_unstable();
    words.dedup();
    let near = nearest(selector, &words).map(|near| format!("; did you mean `{near}`?"));
    format!("`{selector}` picks no trial of the result{}", near.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[requirement]]
id = "NET-1"
text = "Control traffic leaves by the chassis link alone"
trials = ["product/better-metric", "product/option-121"]
controls = ["nist-800-53r5:SC-7(21)", "iec-62443-3-3:SR 5.1"]
[[waiver]]
trials = "product/name-lookup::product::v6-tcp"
outcome = "leaked"
owner = "jane@example.org"
reason = "known"
expires = 2027-03-31
"#;

    #[test]
    fn a_good_file_is_read_whole() {
        let requirements = parse("r.toml", GOOD.as_bytes()).unwrap();
        let [one] = requirements.requirements() else { panic!("one") };
        assert_eq!((one.id.as_str(), one.line, one.selectors.len()), ("NET-1", 2, 2));
        assert_eq!(one.outcomes, HOLDING);
        assert_eq!(one.controls[1].control.name, "Network segmentation");
        let [waiver] = requirements.waivers() else { panic!("one") };
        assert_eq!((waiver.line, waiver.expires.to_string()), (7, "2027-03-31".to_owned()));
        assert_eq!(requirements.product(), None);
    }

    #[test]
    fn faults_have_their_place_and_the_accepted_words() {
        let check = |from: &str, to: &str, needed: &[&str]| {
            assert!(GOOD.contains(from), "{from}");
            let error = parse("r.toml", GOOD.replace(from, to).as_bytes()).unwrap_err();
            let said = error.to_string();
            for word in needed {
                assert!(said.contains(word), "`{to}` does not say `{word}`: {said}");
            }
        };
        check("owner =", "ownr =", &["r.toml:10:1", "^^^^", "did you mean `owner`?"]);
        check("id = \"NET-1\"", "", &["missing key `id`", "airtight comply --help"]);
        check("\"NET-1\"", "\"NET 1\"", &["r.toml:3:6", "a letter first"]);
        check("\"leaked\"", "\"leeked\"", &["r.toml:9:11", "did you mean `leaked`?"]);
        check("SC-7(21)", "SC-7(12", &["r.toml:6:13", "did you mean `nist-800-53r5:SC-7(12)`?"]);
        check("iec-62443-3-3:", "iec-62443:", &["did you mean `iec-62443-3-3:SR 5.1`?"]);
        check("nist-800-53r5:SC-7(21)", "SC-7(21)", &["names no catalogue", "niap-vpn-client:"]);
        check("2027-03-31", "2027-03-31T00:00:00Z", &["is no date", "`2027-03-31`"]);
        check("2027-03-31", "\"soon\"", &["r.toml:12:11"]);
        check("\"product/option-121\"", "\"/\"", &["would pick every trial"]);
        check("\"product/option-121\"", "\"product/better-metric\"", &["stands twice"]);
        check("[\"product/better-metric\", \"product/option-121\"]", "[]", &["no trial is named"]);
        check("reason = \"known\"", "reason = \" \"", &["`reason` is empty"]);
        check("[[waiver]]", "outcomes = []\n[[waiver]]", &["no outcome holds", "all but `leaked`"]);
        check("[[requirement]]", "product = ''\n[[requirement]]", &["`product` is empty"]);
    }

    #[test]
    fn nothing_required_is_a_fault_and_bytes_are_no_text() {
        assert!(parse("r.toml", b"").unwrap_err().to_string().contains("requires nothing"));
        assert!(parse("r.toml", b"\xff").unwrap_err().to_string().contains("not UTF-8"));
        let twice = format!("{GOOD}{GOOD}");
        let said = parse("r.toml", twice.as_bytes()).unwrap_err().to_string();
        assert!(said.contains("requirement `NET-1` stands twice"), "{said}");
        assert!(said.contains("a waiver for `product/name-lookup"), "{said}");
    }
}
