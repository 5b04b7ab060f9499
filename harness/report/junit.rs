//! JUnit XML, as Jenkins' own XSD has it and GitLab reads it: a suite for each scenario and run, a
//! test case for each trial.
//!
//! Written by hand: the XSD allows less than crates write (no `skipped` on the root, no properties
//! of a case), and they drop what XML may not hold where we spell it out.

use super::human::safe;
use super::result::Document;
use super::text::{cut, failure, xml};
use crate::trial::Record;
use crate::verdict::Verdict;

/// How many characters of a reason an attribute shows.
const REASON_CHARS_MAX: usize = 500;

/// How the cases of a suite ended.
#[derive(Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
    micros: u64,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.tests += other.tests;
        self.failures += other.failures;
        self.errors += other.errors;
        self.skipped += other.skipped;
        self.micros += other.micros;
    }
}

/// The document as JUnit XML. What is wrong with it as a whole is a suite of its own, of errors.
pub(super) fn render(document: &Document) -> String {
    let mut total = Counts::default();
    let mut suites = String::new();
    let mut rest = document.records.as_slice();
    while let Some(first) = rest.first() {
        let label = document.label(first);
        let other = |r: &Record| r.scenario != first.scenario || document.label(r) != label;
        let count = rest.iter().position(other).unwrap_or(rest.len());
        let (records, more) = rest.split_at(count);
        let (text, counts) = suite(document, records);
        suites += &text;
        total.add(&counts);
        rest = more;
    }
    let problems = document.problems();
    if !problems.is_empty() {
        let count = problems.len();
        total.add(&Counts { tests: count, errors: count, ..Counts::default() });
        suites += &format!(
            "  <testsuite name=\"airtight\" tests=\"{count}\" failures=\"0\" errors=\"{count}\" \
             skipped=\"0\">\n"
        );
        for (at, problem) in problems.iter().enumerate() {
            let problem = xml(&safe(problem));
            suites += &format!(
                "    <testcase name=\"the result as a whole, {}\" classname=\"airtight\">\n      \
                 <error type=\"inconclusive\" message=\"{problem}\"/>\n    </testcase>\n",
                at + 1
            );
        }
        suites += "  </testsuite>\n";
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"airtight\" tests=\"{}\" \
         failures=\"{}\" errors=\"{}\" time=\"{}\">\n{suites}</testsuites>\n",
        total.tests,
        total.failures,
        total.errors,
        seconds(total.micros)
    )
}

/// The trials of one scenario in one run: what the reader must know of it, and its cases.
fn suite(document: &Document, records: &[Record]) -> (String, Counts) {
    let first = &records[0];
    let label = document.label(first);
    let name = if label.is_empty() {
        first.scenario.clone()
    } else {
        format!("{} [{label}]", first.scenario)
    };
    let name = xml(&safe(&name));
    let mut counts = Counts::default();
    let mut cases = String::new();
    for record in records {
        counts.tests += 1;
        counts.micros += record.micros;
        match record.verdict {
            Verdict::Conforms => {}
            Verdict::Deviates | Verdict::Stale => counts.failures += 1,
            Verdict::Inconclusive => counts.errors += 1,
            Verdict::Known | Verdict::Skipped => counts.skipped += 1,
        }
        cases += &case(document, record, &name);
    }
    let properties: String = [
        ("title", first.title.as_str()),
        ("kernel", document.run(first).map_or(&document.host.kernel, |run| &run.kernel.release)),
    ]
    .iter()
    .map(|(key, value)| {
        format!("      <property name=\"{key}\" value=\"{}\"/>\n", xml(&safe(value)))
    })
    .collect();
    let text = format!(
        "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" \
         time=\"{}\">\n    <properties>\n{properties}    </properties>\n{cases}  </testsuite>\n",
        counts.tests,
        counts.failures,
        counts.errors,
        counts.skipped,
        seconds(counts.micros)
    );
    (text, counts)
}

fn case(document: &Document, record: &Record, class: &str) -> String {
    let cell: Vec<&str> = record.cell.values().map(String::as_str).collect();
    let head = format!(
        "    <testcase name=\"{}\" classname=\"{class}\" time=\"{}\"",
        xml(&safe(&format!("{}::{}", record.case, cell.join("-")))),
        seconds(record.micros)
    );
    let element = match record.verdict {
        Verdict::Conforms => return head + "/>\n",
        Verdict::Deviates | Verdict::Stale => "failure",
        Verdict::Inconclusive => "error",
        Verdict::Known | Verdict::Skipped => "skipped",
    };
    let reason = xml(&cut(&safe(&record.reason), REASON_CHARS_MAX).replace('\n', " "));
    let (kind, end) = (record.verdict.word(), "    </testcase>\n");
    if element == "skipped" {
        let message = format!("{kind}: {reason}");
        return format!("{head}>\n      <skipped message=\"{message}\"/>\n{end}");
    }
    let told = xml(&failure(document, record));
    format!(
        "{head}>\n      <{element} type=\"{kind}\" message=\"{reason}\">{told}</{element}>\n{end}"
    )
}

/// Three decimals, as one of the XSDs wants.
fn seconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1_000_000, micros / 1000 % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::report::text::assert_inert;

    #[test]
    fn each_verdict_has_its_element() {
        use Verdict::{Conforms, Inconclusive, Known, Skipped, Stale};
        let document = sample::document(&[Conforms, Known, Stale, Inconclusive, Skipped]);
        let text = render(&document);
        for needed in [
            "<testsuites name=\"airtight\" tests=\"6\" failures=\"2\" errors=\"1\" time=",
            "<testsuite name=\"basics/sample\" tests=\"6\" failures=\"2\" errors=\"1\" skipped=\"2\"",
            "<testcase name=\"conforms-1::v4-udp\" classname=\"basics/sample\" time=\"0.002\"/>",
            "<failure type=\"deviates\" message=\"expected contained, got leaked through uplink\">",
            "<skipped message=\"known: it known\"/>",
            "<failure type=\"stale\" message=\"it stale\">",
            "<error type=\"inconclusive\" message=\"it inconclusive\">",
            "<skipped message=\"skipped: it skipped\"/>",
            "UDP 192.0.2.17:40922 &gt; 203.0.113.9:7",
        ] {
            assert!(text.contains(needed), "{needed} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_wrong_as_a_whole_is_an_error() {
        let mut document = sample::document(&[]);
        document.records.clear();
        document.sum();
        let text = render(&document);
        assert!(text.contains("errors=\"1\"") && text.contains("no trial was made"), "{text}");
    }

    #[test]
    fn hostile_text_stays_text() {
        let document = Document { records: vec![sample::hostile()], ..sample::document(&[]) };
        let text = render(&document);
        assert_inert(&text);
        for tag in ["<script", "<img", "]]>", "</failure><"] {
            assert!(!text.contains(tag), "{tag}");
        }
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;]]&gt;&amp;lt;\\u{1b}[31m"));
    }
}
