//! The words that stand for addresses and prefixes, as `plan` resolves them: placeholders, names
//! of links, literals.

use std::net::IpAddr;

use toml::Spanned;

use super::Checker;
use crate::scenario::diagnostic::nearest;
use crate::scenario::file::Family;

/// The families that have an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Any,
    /// Where the wires carry IPv4: `v4` and `mapped`.
    V4,
    V6,
}

/// The placeholders that stand for an address.
pub(super) const ADDRESSES: &[(&str, Kept)] = &[
    ("target", Kept::Any),
    ("elsewhere", Kept::Any),
    ("foreign", Kept::Any),
    ("group", Kept::Any),
    ("link-group", Kept::V6),
    ("link-local", Kept::V6),
    ("broadcast", Kept::V4),
    ("loopback", Kept::Any),
];

/// What a link has, as in `{LINK.address}`.
const PARTS: &[(&str, Kept)] = &[
    ("address", Kept::Any),
    ("gateway", Kept::Any),
    ("broadcast", Kept::V4),
    ("link-local", Kept::V6),
];

/// The part of a link that is a prefix.
const NETWORK: (&str, Kept) = ("network", Kept::Any);
/// What command lines alone can say: the hardware address of a link's gateway.
const GATEWAY_MAC: (&str, Kept) = ("gateway-mac", Kept::Any);

/// What placeholders stand in.
const BRACES: [char; 2] = ['{', '}'];

/// What a word may stand for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Address,
    AddressOrLink,
    Prefix,
    /// An argument of a command line.
    Argument,
}

impl Meaning {
    /// What a link has beside [`PARTS`].
    fn more_parts(self) -> &'static [(&'static str, Kept)] {
        match self {
            Meaning::Address | Meaning::AddressOrLink => &[],
            Meaning::Prefix => &[NETWORK],
            Meaning::Argument => &[NETWORK, GATEWAY_MAC],
        }
    }
}

impl Checker<'_> {
    /// A placeholder for an address that every one of `families` has.
    pub(super) fn address(&mut self, word: &Spanned<String>, families: &[Family]) {
        self.word(word, families, Meaning::Address);
    }

    /// Likewise, or a link for its address in the host under test.
    pub(super) fn address_or_link(&mut self, word: &Spanned<String>, families: &[Family]) {
        self.word(word, families, Meaning::AddressOrLink);
    }

    /// A prefix. `families` must all have it; without any it may be of one family alone.
    pub(super) fn prefix(&mut self, word: &Spanned<String>, families: &[Family]) {
        self.word(word, families, Meaning::Prefix);
    }

    /// What is wrong with a placeholder within a command line: a message and its help.
    pub(super) fn placeholder(&self, word: &str, families: &[Family]) -> Option<(String, String)> {
        let meaning = Meaning::Argument;
        match self.kept(word.strip_prefix('{')?.strip_suffix('}')?, meaning) {
            Some(kept) => lacking(word, kept, families),
            None => Some((format!("unknown placeholder `{word}`"), self.accepted(word, meaning))),
        }
    }

    fn word(&mut self, spanned: &Spanned<String>, families: &[Family], meaning: Meaning) {
        let text = spanned.get_ref().as_str();
        let wrong = if text.starts_with('{') && text.ends_with('}') {
            match self.kept(text.trim_matches(BRACES), meaning) {
                Some(kept) => lacking(text, kept, families),
                None => {
                    Some((format!("unknown placeholder `{text}`"), self.accepted(text, meaning)))
                }
            }
        } else if let (Meaning::Prefix, Some((address, _))) = (meaning, parse_prefix(text)) {
            lacking(text, if address.is_ipv4() { Kept::V4 } else { Kept::V6 }, families)
        } else if match meaning {
            Meaning::Address => false,
            Meaning::AddressOrLink => self.links.contains(&text),
            Meaning::Prefix | Meaning::Argument => text == "default",
        } {
            None
        } else {
            let what = if meaning == Meaning::Prefix { "prefix" } else { "address" };
            Some((format!("`{text}` is no {what}"), self.accepted(text, meaning)))
        };
        if let Some((message, help)) = wrong {
            self.fault(spanned.span(), message, help);
        }
    }

    /// The families that have what `inner` stands for; `None` where it stands for nothing.
    fn kept(&self, inner: &str, meaning: Meaning) -> Option<Kept> {
        let (words, more, word) = match inner.rsplit_once('.') {
            Some((link, part)) if self.links.contains(&link) => (PARTS, meaning.more_parts(), part),
            Some(_) => return None,
            None => (ADDRESSES, [].as_slice(), inner),
        };
        words.iter().chain(more).find(|(known, _)| *known == word).map(|(_, kept)| *kept)
    }

    /// What would be accepted in place of `text`. The list names no link's parts, which would make
    /// it long; the nearest word does.
    fn accepted(&self, text: &str, meaning: Meaning) -> String {
        let of = |link: &str| -> Vec<String> {
            let parts = PARTS.iter().chain(meaning.more_parts());
            parts.map(|(part, _)| format!("{{{link}.{part}}}")).collect()
        };
        let bare = match meaning {
            Meaning::Address | Meaning::Argument => Vec::new(),
            Meaning::AddressOrLink => self.links.clone(),
            Meaning::Prefix => vec!["default"],
        };
        let mut words: Vec<String> = bare.into_iter().map(str::to_owned).collect();
        words.extend(ADDRESSES.iter().map(|(word, _)| format!("{{{word}}}")));
        let mut list: Vec<String> =
            words.iter().cloned().chain(of("LINK")).map(|word| format!("`{word}`")).collect();
        if meaning == Meaning::Prefix {
            list.push(
                "a prefix such as `203.0.113.0/24` without bits behind its length".to_owned(),
            );
        }
        words.extend(self.links.iter().flat_map(|link| of(link)));
        let plain: Vec<&str> = words.iter().map(|word| word.trim_matches(BRACES)).collect();
        let near = nearest(text.trim_matches(BRACES), &plain)
            .and_then(|near| words.iter().find(|word| word.trim_matches(BRACES) == near))
            .map_or(String::new(), |near| format!("did you mean `{near}`? "));
        format!("{near}accepted: {}", list.join(", "))
    }
}

/// What is wrong where one of `families` has no such address.
fn lacking(text: &str, kept: Kept, families: &[Family]) -> Option<(String, String)> {
    let has = |family: Family| match kept {
        Kept::Any => true,
        Kept::V4 => family.is_v4(),
        Kept::V6 => !family.is_v4(),
    };
    let without = families.iter().find(|family| !has(**family))?;
    let has = if kept == Kept::V4 { "`v4` and `mapped`" } else { "`v6`" };
    let advice = "narrow the matrix or `only`, or name another";
    let message = format!("`{text}` does not exist in `{}` cells", without.word());
    Some((message, format!("it exists in {has} cells alone: {advice}")))
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
