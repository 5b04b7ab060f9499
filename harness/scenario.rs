//! Text to [`Scenario`]: parsing, every check, every message with its place. Pure: it knows
//! neither the kernel nor the file system.

mod attempt;
mod check;
mod diagnostic;
mod file;
mod guard;
mod kernel;

pub use attempt::{
    Approach, Ask, AskKind, Call, Carries, Case as FileCase, DontRoute, Fault, FrameKind, Known,
    LinkChange, LinkState, Membership, Namespace, Only, Outcome, PacketInfo, Pin, ProgramStep,
    Reindex, Rename, Step as FileStep,
};
pub(crate) use check::parse_prefix;
pub use diagnostic::{Diagnostic, Diagnostics, nearest};
pub use file::{
    Adversary, Advertisement, Control, Family, File, Line, Matrix, MulticastRoute, Neighbours,
    Ready, Redirect, Route, RouteKind, Rule, RuleProtocol, Sender, Signal, Transport, World,
};
pub use guard::Guard;
pub use kernel::KernelRange;

pub(crate) use diagnostic::accepted_words;
pub(crate) use guard::{HeldBy, tried};

use sha2::{Digest, Sha256};

/// The largest scenario file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The abilities that `needs` may name, beside `program:NAME`. Each is probed by doing.
pub const ABILITIES: &[&str] = &[
    "bind-to-ifindex",
    "bpf-redirect",
    "bond",
    "bridge",
    "cgroup-bpf",
    "dummy",
    "ipv6",
    "ipvlan",
    "macvlan",
    "mptcp",
    "multicast-routing",
    "nftables",
    "nftables-egress",
    "other-users",
    "vlan",
    "vrf",
    "vxlan",
    "wireguard",
    "xdp",
];

/// A checked scenario: one claim, its laboratory and its cases. Only [`parse`] makes one, so
/// whatever holds one may rely on the checks.
#[derive(Clone, Debug)]
pub struct Scenario {
    name: String,
    path: String,
    text: String,
    sha256: String,
    file: File,
}

impl Scenario {
    /// The scenario's name: its path below its root, without `.toml`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's path, as the user named it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file as it is written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The SHA-256 of the file, as hexadecimal digits: which text a result speaks of.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The line, counted from one, of byte `offset`.
    pub fn line(&self, offset: usize) -> usize {
        diagnostic::place(&self.text, offset).0
    }
}

/// Parses and checks one file. `name` is the scenario's name, `path` the file's as messages show
/// it. Errors hold every fault that could be found, each with its place.
pub fn parse(name: &str, path: &str, bytes: &[u8]) -> Result<Scenario, Diagnostics> {
    let kind = Kind {
        size: "a scenario is a page of text",
        manual: "scenarios are TOML 1.0; see scenarios/REFERENCE.md",
        keys: "scenarios/REFERENCE.md tells what it takes",
    };
    let (text, file): (&str, File) = read(path, bytes, &kind)?;
    let found = check::check(&file);
    if !found.is_empty() {
        let diagnostics = found.into_iter().map(|fault| Diagnostic {
            path: path.to_owned(),
            text: text.to_owned(),
            span: fault.span,
            message: fault.message,
            help: Some(fault.help),
        });
        return Err(Diagnostics(diagnostics.collect()));
    }
    Ok(Scenario {
        name: name.to_owned(),
        path: path.to_owned(),
        text: text.to_owned(),
        sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        file,
    })
}

/// What messages say of a kind of TOML file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// How long such a file is.
    pub(crate) size: &'static str,
    /// What it is written in, and where that is explained.
    pub(crate) manual: &'static str,
    /// Where its keys are explained.
    pub(crate) keys: &'static str,
}

/// Reads the TOML file `path`: its text, and what it says. Errors have the fault's place.
pub(crate) fn read<'a, T: serde::de::DeserializeOwned>(
    path: &str,
    bytes: &'a [u8],
    kind: &Kind,
) -> Result<(&'a str, T), Diagnostics> {
    let fault = |text: &str, span, message: String, help: Option<String>| {
        Diagnostics(vec![Diagnostic {
            path: path.to_owned(),
            text: text.to_owned(),
            span,
            message,
            help,
        }])
    };
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes", bytes.len());
        let help = format!("{}: at most {FILE_BYTES_MAX} bytes", kind.size);
        return Err(fault("", 0..0, message, Some(help)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        let at = good.len();
        let message = format!("the file is not UTF-8 at byte {}", error.valid_up_to());
        fault(&format!("{good}\u{fffd}"), at..at + 3, message, Some("save it as UTF-8".into()))
    })?;
    let file: T = toml::from_str(text).map_err(|error| {
        let (message, help) = explain(error.message(), kind);
        fault(text, error.span().unwrap_or(0..0), message, help)
    })?;
    Ok((text, file))
}

/// Splits serde's sentence (``unknown field `x`, expected one of `a`, `b` ``) into what is wrong
/// and what would be accepted.
fn explain(message: &str, kind: &Kind) -> (String, Option<String>) {
    let message = message.replace('\n', " ").trim().replace("field", "key");
    if let Some(key) = message.strip_prefix("missing key ") {
        let help = format!("add {key}; {}", kind.keys);
        return (message.clone(), Some(help));
    }
    let Some((fault, expected)) = message.split_once(", expected ") else {
        return (message, Some(kind.manual.to_owned()));
    };
    let words: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let (Some(word), false) = (fault.split('`').nth(1), words.is_empty()) else {
        return (fault.to_owned(), Some(format!("accepted: {expected}")));
    };
    (fault.replace("variant", "word"), Some(accepted_words(word, words)))
}
