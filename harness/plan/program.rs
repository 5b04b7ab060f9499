//! A program as the sender: its command line, with every placeholder but the token replaced.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::address::resolve;
use super::{ATTEMPT_PORT, Case, Link, Step};
use crate::scenario::{Family, FileCase, Scenario};

/// How long a program may run, in milliseconds, where the scenario does not say.
const TIMEOUT_MS: u32 = 10_000;

/// A program to run inside the host under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments. `{token}` stands in them still. Empty: the product on trial,
    /// which nobody has named yet.
    pub words: Vec<String>,
    /// Its environment, beside `PATH` and `HOME`.
    pub environment: BTreeMap<String, String>,
    /// The folder that it runs in.
    pub directory: Option<String>,
    /// The user and group id that it runs as.
    pub user: Option<u32>,
    /// Its standard input.
    pub input: String,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u32,
    /// Whom it asks for names.
    pub resolver: IpAddr,
}

/// The program that makes the attempt of `case`; `None` where airtight's own sockets do.
pub(super) fn program(
    scenario: &Scenario,
    case: &FileCase,
    links: &[Link],
    intended: &[bool],
    family: Family,
    target: IpAddr,
) -> Option<Program> {
    let sender = scenario.file().sender.as_ref();
    let words = case.command.as_ref().or(sender.and_then(|sender| sender.command.as_ref()));
    let words = match words {
        Some(words) => words.get_ref().as_slice(),
        None if sender.is_some_and(|sender| sender.product) => &[],
        None => return None,
    };
    let replace = |text: &String| replace(text, links, intended, family);
    Some(Program {
        words: words.iter().map(replace).collect(),
        environment: sender
            .map(|sender| sender.environment.iter().map(|(k, v)| (k.clone(), replace(v))).collect())
            .unwrap_or_default(),
        directory: sender.and_then(|sender| sender.directory.clone()),
        user: sender.and_then(|sender| sender.user),
        input: sender.map(|sender| replace(&sender.input)).unwrap_or_default(),
        timeout_ms: sender
            .and_then(|sender| sender.timeout_ms.as_ref())
            .map_or(TIMEOUT_MS, |timeout| *timeout.get_ref()),
        resolver: target,
    })
}

impl Case {
    /// Whether the sender is a product on trial that nobody has named yet.
    pub fn wants_product(&self) -> bool {
        let wants = |step: &Step| matches!(step, Step::Run(program) if program.words.is_empty());
        self.steps.iter().any(wants)
    }

    /// The trial with this product as its sender, where it wants one. Placeholders in its command
    /// line are replaced as in a scenario's.
    #[must_use]
    pub fn with_product(mut self, product: &[String]) -> Case {
        let words: Vec<String> = product
            .iter()
            .map(|word| replace(word, &self.links, &self.intended, self.family))
            .collect();
        for step in &mut self.steps {
            if let Step::Run(program) = step
                && program.words.is_empty()
            {
                self.pin = words.join(" ");
                program.words = words.clone();
            }
        }
        self
    }
}

/// `text` with its placeholders replaced. What is no placeholder stays as it is: braces mean much to
/// many programs.
fn replace(text: &str, links: &[Link], intended: &[bool], family: Family) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        replaced.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find('}').map(|end| end + 1);
        let meaning = end.and_then(|end| Some((word(&rest[..end], links, intended, family)?, end)));
        match meaning {
            Some((meaning, end)) => {
                replaced.push_str(&meaning);
                rest = &rest[end..];
            }
            None => {
                replaced.push('{');
                rest = &rest[1..];
            }
        }
    }
    replaced + rest
}

fn word(placeholder: &str, links: &[Link], intended: &[bool], family: Family) -> Option<String> {
    let inner = placeholder.trim_matches(['{', '}']);
    if inner == "port" {
        return Some(ATTEMPT_PORT.to_string());
    }
    let named = |name: &str| match name {
        "intended" => intended.iter().position(|is| *is).map(|at| &links[at]),
        name => links.iter().find(|link| link.name == name),
    };
    // As a URL has it: IPv6 in brackets (RFC 3986, section 3.2.2).
    if let Some(host) = inner.strip_suffix(".url") {
        let own = named(host).map(|link| link.address);
        let address = own.or_else(|| resolve(&format!("{{{host}}}"), links, family))?;
        return Some(if address.is_ipv6() { format!("[{address}]") } else { address.to_string() });
    }
    match inner.rsplit_once('.') {
        Some((name, "device")) => named(name).map(|link| link.name.clone()),
        Some(("intended", part)) => {
            let link = named("intended")?;
            resolve(&format!("{{{}.{part}}}", link.name), links, family).map(|a| a.to_string())
        }
        _ => resolve(placeholder, links, family).map(|address| address.to_string()),
    }
}
