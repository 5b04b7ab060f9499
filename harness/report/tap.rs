//! TAP version 14: a line for each trial, in the document's order.

use super::human::safe;
use super::result::Document;
use super::text::{failure, name};
use crate::trial::Record;
use crate::verdict::Verdict;

/// The document as TAP. A waived deviation is a `TODO`, which must not be ok; what was not tried is
/// a `SKIP`. What is wrong with the document as a whole is not ok.
pub(super) fn render(document: &Document) -> String {
    let problems = document.problems();
    let mut text = format!("TAP version 14\n1..{}\n", document.records.len() + problems.len());
    for (at, record) in document.records.iter().enumerate() {
        text += &line(document, record, at + 1);
    }
    for (at, problem) in problems.iter().enumerate() {
        let number = document.records.len() + at + 1;
        text += &format!("not ok {number} - {}\n", escape(&safe(problem)));
    }
    text
}

fn line(document: &Document, record: &Record, number: usize) -> String {
    let name = escape(&name(document, record));
    let reason = escape(&safe(&record.reason));
    match record.verdict {
        Verdict::Conforms => format!("ok {number} - {name}\n"),
        Verdict::Skipped => format!("ok {number} - {name} # SKIP {reason}\n"),
        Verdict::Known => format!("not ok {number} - {name} # TODO {reason}\n"),
        Verdict::Deviates | Verdict::Stale | Verdict::Inconclusive => {
            // As it stands, and the verdict first: the first line's indent is the block's.
            let told: String =
                failure(document, record).lines().map(|line| format!("    {line}\n")).collect();
            let verdict = record.verdict.word();
            format!("not ok {number} - {name}\n  ---\n  shown: |\n    {verdict}\n{told}  ...\n")
        }
    }
}

/// A description, in which `#` begins no directive.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('#', "\\#")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::report::text::assert_inert;

    #[test]
    fn each_verdict_has_its_line() {
        use Verdict::{Conforms, Inconclusive, Known, Skipped, Stale};
        let text = render(&sample::document(&[Conforms, Known, Stale, Inconclusive, Skipped]));
        for needed in [
            "TAP version 14\n1..6\nnot ok 1 - basics/sample::device::v4-udp\n  ---\n",
            "\nok 2 - basics/sample::conforms-1::v4-udp\n",
            "\nnot ok 3 - basics/sample::known-2::v4-udp # TODO it known\n",
            "\nnot ok 4 - ",
            "\nnot ok 5 - ",
            "\n    inconclusive\n",
            "\nok 6 - basics/sample::skipped-5::v4-udp # SKIP it skipped\n",
        ] {
            assert!(text.contains(needed), "{needed:?} is not in\n{text}");
        }
    }

    #[test]
    fn hostile_text_is_no_line_and_no_directive() {
        let document = Document { records: vec![sample::hostile()], ..sample::document(&[]) };
        let text = render(&document);
        assert_inert(&text);
        assert_eq!(text.lines().filter(|line| line.starts_with("not ok")).count(), 1);
        assert!(!text.lines().next_back().unwrap().contains(" # "), "{text}");
        let head = text.lines().nth(2).unwrap();
        assert!(head.contains("not ok 1 \\# SKIP"), "{head}");
    }
}
