//! What the formats have in common: text that is shown and never interpreted, and what of a trial
//! is told where there is little room.

use super::human::{self, Style, safe};
use super::result::{Document, rerun};
use crate::trial::Record;
use crate::verdict::Verdict;

/// How many characters a message has at most.
const MESSAGE_CHARS_MAX: usize = 4000;

/// Whether a verdict fails a gate.
pub(super) fn fails(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Deviates | Verdict::Stale | Verdict::Inconclusive)
}

/// The records that fail a gate: what deviates first, then stale waivers, then what proves nothing.
pub(super) fn failing(document: &Document) -> Vec<&Record> {
    let mut failing: Vec<&Record> =
        document.records.iter().filter(|record| fails(record.verdict)).collect();
    failing.sort_by_key(|record| match record.verdict {
        Verdict::Deviates => 0,
        Verdict::Stale => 1,
        _ => 2,
    });
    failing
}

/// The file and the line of a record's expectation.
pub(super) fn place(record: &Record) -> (&str, usize) {
    let (file, line) = record.place.rsplit_once(':').unwrap_or((&record.place, ""));
    (file, line.parse().unwrap_or(1).max(1))
}

/// The trial's id, and what tells its run from the others.
pub(super) fn name(document: &Document, record: &Record) -> String {
    match document.label(record).as_str() {
        "" => safe(&record.id),
        label => safe(&format!("{} [{label}]", record.id)),
    }
}

/// A failure as a person reads it on a terminal, at most 4,000 characters of it: place, frames,
/// calls, program, controls, rerun. Its lines are its only control characters.
pub(super) fn failure(document: &Document, record: &Record) -> String {
    let rerun = rerun(record, document.run(record));
    cut(&human::failure(record, &rerun, Style { colour: false }), MESSAGE_CHARS_MAX)
}

/// At most so many characters of a text, and how many more there are.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(chars_max) else { return text.to_owned() };
    let more = text[end..].chars().count();
    format!("{}\n... cut: {more} more characters, see result.json\n", &text[..end])
}

/// Safe text as XML and HTML take it, within elements and within quotes.
pub(super) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Asks of a rendered text that no character in it is interpreted by whoever shows it.
#[cfg(test)]
pub(super) fn assert_inert(rendered: &str) {
    let bad = |c: char| {
        (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{ffff}')
    };
    let found = rendered.chars().find(|c| bad(*c));
    assert!(found.is_none(), "{:?} is not spelled out", found.unwrap());
    assert!(rendered.len() < 200_000, "{} bytes of one record", rendered.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_message_is_cut_and_says_so() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü!", 2), "äö\n... cut: 2 more characters, see result.json\n");
        let document = Document { records: vec![sample::hostile()], ..sample::document(&[]) };
        let text = failure(&document, &document.records[0]);
        assert!(text.chars().count() < MESSAGE_CHARS_MAX + 100);
        assert_inert(&text);
    }

    #[test]
    fn a_place_has_a_line() {
        let at = |place: &str| {
            let record = Record { place: place.to_owned(), ..sample::record() };
            let (file, line) = super::place(&record);
            (file.to_owned(), line)
        };
        assert_eq!(at("a:b.toml:7"), ("a:b.toml".to_owned(), 7));
        assert_eq!(at("a.toml:0").1, 1);
        assert_eq!(at("nothing"), ("nothing".to_owned(), 1));
    }
}
