//! SARIF 2.1.0: a rule for each scenario, a result for each trial that fails a gate, at the line
//! of its expectation. Own types, of the few objects that are needed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::human::safe;
use super::result::Document;
use super::text::{cut, failing, failure, name, place};
use crate::verdict::Verdict;

/// GitHub shows so many results of a run. It refuses a file of more than 25,000.
const RESULTS_MAX: usize = 5000;
/// How many characters a rule's texts have at most: GitHub cuts at 1,024.
const RULE_CHARS_MAX: usize = 900;

#[derive(Serialize)]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [SarifRun; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifRun {
    tool: Tool,
    invocations: [Invocation; 1],
    column_kind: &'static str,
    results: Vec<Finding>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: String,
    semantic_version: String,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    short_description: Message,
    full_description: Message,
}

#[derive(Serialize)]
struct Message {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: &'static str,
    message: Message,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    rule_id: String,
    rule_index: usize,
    level: &'static str,
    message: Message,
    locations: [Location; 1],
    partial_fingerprints: BTreeMap<&'static str, String>,
    properties: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    region: Region,
}

#[derive(Serialize)]
struct ArtifactLocation {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
}

/// The document as SARIF. What is inconclusive is an error like what deviates: nothing is proved
/// by it. What is wrong with the document as a whole, and how many results are left out, are
/// notifications of a run that was not successful.
pub(super) fn render(document: &Document) -> serde_json::Result<String> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &document.records {
        places.entry(&record.scenario).or_insert_with(|| {
            let text = |text: &str| Message { text: cut(&safe(text.trim()), RULE_CHARS_MAX) };
            let why = if record.why.trim().is_empty() { &record.title } else { &record.why };
            rules.push(Rule {
                id: safe(&record.scenario),
                short_description: text(&record.title),
                full_description: text(&why.split_whitespace().collect::<Vec<_>>().join(" ")),
            });
            rules.len() - 1
        });
    }
    let failing = failing(document);
    let mut problems = document.problems();
    let successful = problems.is_empty();
    if failing.len() > RESULTS_MAX {
        let more = failing.len() - RESULTS_MAX;
        problems.push(format!("{more} more results are left out here: see result.json"));
    }
    let results = failing.into_iter().take(RESULTS_MAX).map(|record| {
        let (file, line) = place(record);
        let name = name(document, record);
        let kind = record.verdict.word();
        Finding {
            rule_id: safe(&record.scenario),
            rule_index: places[record.scenario.as_str()],
            level: "error",
            message: Message { text: format!("{kind}: {name}\n{}", failure(document, record)) },
            locations: [Location {
                physical_location: PhysicalLocation {
                    artifact_location: ArtifactLocation { uri: uri(file) },
                    region: Region { start_line: line },
                },
            }],
            partial_fingerprints: BTreeMap::from([("trial/v1", name)]),
            properties: BTreeMap::from([
                ("verdict", kind.to_owned()),
                ("conclusive", (record.verdict != Verdict::Inconclusive).to_string()),
            ]),
        }
    });
    let results = results.collect();
    let notifications = problems
        .iter()
        .map(|problem| Notification { level: "error", message: Message { text: safe(problem) } });
    let log = Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [SarifRun {
            tool: Tool {
                driver: Driver {
                    name: "airtight".to_owned(),
                    semantic_version: safe(&document.tool.version),
                    rules,
                },
            },
            invocations: [Invocation {
                execution_successful: successful,
                tool_execution_notifications: notifications.collect(),
            }],
            column_kind: "unicodeCodePoints",
            results,
        }],
    };
    Ok(serde_json::to_string_pretty(&log)? + "\n")
}

/// A path as a URI: relative to the repository's root, or absolute.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri += &format!("%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::report::text::assert_inert;

    fn parsed(document: &Document) -> serde_json::Value {
        serde_json::from_str(&render(document).unwrap()).unwrap()
    }

    #[test]
    fn only_what_fails_is_a_result() {
        use Verdict::{Conforms, Inconclusive, Known, Skipped, Stale};
        let log = parsed(&sample::document(&[Conforms, Known, Stale, Inconclusive, Skipped]));
        let run = &log["runs"][0];
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), 3);
        assert!(results.iter().all(|result| result["level"] == "error"));
        let place = &results[0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "scenarios/basics/sample.toml");
        assert_eq!(place["region"]["startLine"], 40);
        assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "basics/sample");
        assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    }

    #[test]
    fn what_github_does_not_show_is_counted() {
        let log = parsed(&sample::document(&vec![Verdict::Inconclusive; 5001]));
        let run = &log["runs"][0];
        assert_eq!(run["results"].as_array().unwrap().len(), 5000);
        assert_eq!(run["results"][0]["properties"]["verdict"], "deviates");
        let told = &run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"];
        assert_eq!(told, "2 more results are left out here: see result.json");
    }

    #[test]
    fn a_partial_result_was_no_success() {
        let mut document = sample::document(&[]);
        document.runs[0].missing.insert("a".to_owned());
        document.sum();
        let log = parsed(&document);
        assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], false);
    }

    #[test]
    fn hostile_text_is_spelled_out_and_paths_are_uris() {
        let document = Document { records: vec![sample::hostile()], ..sample::document(&[]) };
        assert_inert(&render(&document).unwrap());
        assert_eq!(uri("/a b/ä.toml"), "file:///a%20b/%C3%A4.toml");
        assert_eq!(uri("./javascript:x"), "javascript%3Ax");
    }
}
