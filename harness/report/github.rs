//! GitHub's workflow commands: annotations at the scenarios' lines, within what GitHub shows.
//!
//! Nothing else is printed with them. The runner takes a line for a command wherever `::` stands
//! behind spaces, so a program's own words must not reach the log on lines of their own.

use super::human::{self, Tally, safe};
use super::result::{Document, Run};
use super::text::{cut, fails, failure, place};
use crate::trial::Record;
use crate::verdict::Verdict;

/// How many annotations of a kind GitHub shows of one step.
const SHOWN_MAX: usize = 10;
/// How many characters a title has at most.
const TITLE_CHARS_MAX: usize = 200;

/// The annotations of a run, gathered as its records come.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    /// What deviates, which is shown before anything else.
    deviations: Vec<String>,
    /// Stale waivers, and what proves nothing.
    others: Vec<String>,
    errors: usize,
    waivers: Vec<String>,
    waived: usize,
}

impl Annotations {
    /// Takes a record of `run` in. Only so many are kept as can be shown.
    pub fn add(&mut self, record: &Record, run: &Run) {
        let list = match record.verdict {
            Verdict::Deviates => &mut self.deviations,
            Verdict::Stale | Verdict::Inconclusive => &mut self.others,
            Verdict::Known => &mut self.waivers,
            Verdict::Conforms | Verdict::Skipped => return,
        };
        let failing = fails(record.verdict);
        *(if failing { &mut self.errors } else { &mut self.waived }) += 1;
        if list.len() >= SHOWN_MAX {
            return;
        }
        let (file, line) = place(record);
        let title = cut(&safe(&record.id), TITLE_CHARS_MAX);
        let told = if failing {
            let mut alone = Document::new(run.clone());
            alone.records.push(Record { run: 0, ..record.clone() });
            failure(&alone, &alone.records[0])
        } else {
            safe(&record.reason)
        };
        list.push(command(
            if failing { "error" } else { "warning" },
            &[
                ("file", &safe(file)),
                ("line", &line.to_string()),
                ("title", &format!("{}: {title}", record.verdict.word())),
            ],
            &told,
        ));
    }

    /// The commands, a line each: at most ten errors, ten warnings and a notice. Where there are
    /// more, the tenth says how many. `problems` are what is wrong with the result as a whole.
    pub fn end(self, problems: &[String], tally: &Tally) -> String {
        let whole = problems
            .iter()
            .map(|problem| command("error", &[("title", "the result as a whole")], &safe(problem)));
        let errors = whole.chain(self.deviations).chain(self.others).collect();
        let mut text = shown("error", errors, self.errors + problems.len());
        text += &shown("warning", self.waivers, self.waived);
        text + &command("notice", &[("title", "airtight")], &human::counts(tally))
    }
}

/// As many of `lines` as are shown, of `count` in all.
fn shown(kind: &str, mut lines: Vec<String>, count: usize) -> String {
    if count > SHOWN_MAX {
        lines.truncate(SHOWN_MAX - 1);
        let more = count - lines.len();
        let told = format!("{more} more are not shown here: see the step summary and junit.xml");
        lines.push(command(kind, &[("title", "and more")], &told));
    }
    lines.concat()
}

/// A workflow command, as the runner takes it apart.
fn command(kind: &str, properties: &[(&str, &str)], message: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let properties: Vec<String> =
        properties.iter().map(|(key, value)| format!("{key}={}", property(value))).collect();
    format!("::{kind} {}::{}\n", properties.join(","), data(message.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::report::text::assert_inert;

    fn annotate(document: &Document) -> String {
        let mut annotations = Annotations::default();
        document.records.iter().for_each(|record| annotations.add(record, &document.runs[0]));
        annotations.end(&document.problems(), &document.totals)
    }

    #[test]
    fn a_leak_is_an_error_at_its_line() {
        let text = annotate(&sample::document(&[Verdict::Known, Verdict::Skipped]));
        let start = "::error file=scenarios/basics/sample.toml,line=40,title=deviates%3A \
                     basics/sample%3A%3Adevice%3A%3Av4-udp::scenarios/basics/sample.toml:40: \
                     expected contained, got leaked through uplink%0A  chassis";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("\n::warning file=scenarios/basics/sample.toml,line=40,title=known"));
        assert!(text.contains(
            "\n::notice title=airtight::3 trials: 0 conform, 1 deviate, 1 known, 1 skipped"
        ));
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn no_more_than_github_shows_and_the_rest_is_told() {
        let text = annotate(&sample::document(
            &[[Verdict::Inconclusive; 20], [Verdict::Known; 20]].concat(),
        ));
        assert_eq!(text.matches("::error ").count(), 10);
        assert_eq!(text.matches("::warning ").count(), 10);
        assert!(
            text.starts_with("::error file=scenarios/basics/sample.toml,line=40,title=deviates")
        );
        assert!(text.contains("::error title=and more::12 more are not shown"), "{text}");
        assert!(text.contains("::warning title=and more::11 more are not shown"), "{text}");
    }

    #[test]
    fn nothing_said_by_a_program_is_a_command() {
        let document = Document { records: vec![sample::hostile()], ..sample::document(&[]) };
        let text = annotate(&document);
        assert_inert(&text);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.starts_with("::")));
        let (_, after) = text.lines().next().unwrap()[2..].split_once("::").unwrap();
        // A percent sign of the program's is not one of ours.
        assert!(after.contains("y%250A::add-mask"), "{after}");
    }
}
