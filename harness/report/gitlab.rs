//! GitLab's code quality report: an issue for each trial that fails a gate, at its scenario's line.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::human::safe;
use super::result::Document;
use super::text::{cut, failing, name, place};
use crate::verdict::Verdict;

/// How many characters of a reason an issue shows.
const REASON_CHARS_MAX: usize = 500;

#[derive(Serialize)]
struct Issue {
    description: String,
    check_name: String,
    fingerprint: String,
    severity: &'static str,
    location: Location,
}

#[derive(Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: usize,
}

/// The document's issues as JSON. What is wrong with it as a whole is a blocker too.
pub(super) fn render(document: &Document) -> serde_json::Result<String> {
    let mut issues: Vec<Issue> = failing(document)
        .into_iter()
        .map(|record| {
            let (file, line) = place(record);
            let name = name(document, record);
            let told = format!("{}: {name}: {}", record.verdict.word(), safe(&record.reason));
            Issue {
                description: cut(&told, REASON_CHARS_MAX),
                check_name: safe(&record.scenario),
                fingerprint: fingerprint(&name),
                severity: match record.verdict {
                    Verdict::Deviates => "blocker",
                    _ => "critical",
                },
                location: Location { path: path(file), lines: Lines { begin: line } },
            }
        })
        .collect();
    issues.extend(document.problems().iter().map(|problem| Issue {
        description: safe(problem),
        check_name: "the result as a whole".to_owned(),
        fingerprint: fingerprint(problem),
        severity: "blocker",
        location: Location { path: "result.json".to_owned(), lines: Lines { begin: 1 } },
    }));
    Ok(serde_json::to_string_pretty(&issues)? + "\n")
}

/// A path below the repository's root: GitLab takes no `./`.
fn path(file: &str) -> String {
    safe(file.trim_start_matches("./"))
}

fn fingerprint(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::report::text::assert_inert;

    #[test]
    fn only_what_fails_is_an_issue() {
        use Verdict::{Conforms, Inconclusive, Known, Skipped, Stale};
        let document = sample::document(&[Conforms, Known, Stale, Inconclusive, Skipped]);
        let issues: serde_json::Value = serde_json::from_str(&render(&document).unwrap()).unwrap();
        let issues = issues.as_array().unwrap();
        let severities: Vec<&str> =
            issues.iter().map(|issue| issue["severity"].as_str().unwrap()).collect();
        assert_eq!(severities, ["blocker", "critical", "critical"]);
        assert_eq!(issues[0]["location"]["path"], "scenarios/basics/sample.toml");
        assert_eq!(issues[0]["location"]["lines"]["begin"], 40);
        assert_ne!(issues[0]["fingerprint"], issues[1]["fingerprint"]);
    }

    #[test]
    fn hostile_text_is_spelled_out() {
        let document = Document { records: vec![sample::hostile()], ..sample::document(&[]) };
        assert_inert(&render(&document).unwrap());
    }
}
