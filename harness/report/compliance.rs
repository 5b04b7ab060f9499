//! What an auditor reads: requirement to scenario to verdict to frame, as Markdown and as one HTML
//! file. Both say the same, from one view.

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::human::{controls, plural, safe};
use crate::compliance::{Assessed, Assessment, Evidence, Hold, Standing, WaiverState};
use crate::trial::FrameRecord;
use crate::verdict::describe;

/// The page, with its styles.
const PAGE: &str = include_str!("compliance/page.html");
const MARKDOWN: &str = include_str!("compliance/page.md");

/// How many frames of a trial are shown, and how many bytes of each. The record has all.
const FRAMES_SHOWN: usize = 8;
const BYTES_SHOWN: usize = 128;

/// How many trials of a requirement a terminal is shown.
const TRIALS_SHOWN: usize = 8;

/// Everything that a page says, as words that nothing interprets.
#[derive(Serialize)]
struct View {
    title: String,
    today: String,
    path: String,
    gate: &'static str,
    gate_words: String,
    counts: Vec<(&'static str, usize)>,
    sources: Vec<String>,
    requirements: Vec<RequirementView>,
    waivers: Vec<WaiverView>,
}

#[derive(Serialize)]
struct RequirementView {
    id: String,
    text: String,
    place: String,
    standing: &'static str,
    class: String,
    counts: String,
    /// The outcomes that hold, where the requirement names them.
    takes: String,
    gaps: Vec<String>,
    controls: Vec<ControlView>,
    trials: Vec<TrialView>,
}

#[derive(Serialize)]
struct ControlView {
    catalogue: String,
    href: String,
    id: String,
    name: String,
}

#[derive(Serialize)]
struct TrialView {
    id: String,
    hold: &'static str,
    class: &'static str,
    /// Why it does not hold; nothing where it does.
    why: String,
    claim: String,
    place: String,
    expected: &'static str,
    observed: String,
    verdict: &'static str,
    kernel: String,
    controls: String,
    start: String,
    frames: Vec<FrameView>,
    /// What stands where no frame is shown, or behind those that are.
    more: String,
}

#[derive(Serialize)]
struct FrameView {
    link: String,
    after: String,
    length: String,
    role: String,
    summary: String,
    hex: String,
}

#[derive(Serialize)]
struct WaiverView {
    selector: String,
    outcome: &'static str,
    owner: String,
    reason: String,
    expires: String,
    place: String,
    state: String,
    class: &'static str,
}

/// The assessment as Markdown.
pub fn markdown(assessment: &Assessment) -> Result<String> {
    render("compliance.md", MARKDOWN, assessment)
}

/// The assessment as one HTML file that needs nothing else.
pub fn html(assessment: &Assessment) -> Result<String> {
    render("compliance.html", PAGE, assessment)
}

/// The assessment on a terminal: a line for each requirement, what is wrong below it, the gate.
pub fn summary(assessment: &Assessment) -> String {
    let view = view(assessment);
    let left = view.requirements.iter().map(|one| one.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for one in &view.requirements {
        text += &format!("{:<10}  {:left$}  {}\n", one.standing, one.id, one.text);
        text += &format!("{:10}  {:left$}  {}\n", "", "", one.counts);
        one.gaps.iter().for_each(|gap| text += &format!("    {gap}\n"));
        let failing: Vec<&TrialView> = one.trials.iter().filter(|t| !t.why.is_empty()).collect();
        for trial in failing.iter().take(TRIALS_SHOWN) {
            text += &format!("    {} {}: {}\n", trial.id, trial.hold, trial.why);
        }
        if failing.len() > TRIALS_SHOWN {
            text += &format!("    ... and {} more\n", failing.len() - TRIALS_SHOWN);
        }
    }
    for waiver in &view.waivers {
        text += &format!("waiver {}: {} ({})\n", waiver.selector, waiver.state, waiver.place);
    }
    let counts = view.counts.iter().map(|(word, count)| format!("{count} {word}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    text + &format!("gate {}: {} ({counts})\n", view.gate, view.gate_words)
}

fn render(name: &str, template: &str, assessment: &Assessment) -> Result<String> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    environment.set_syntax(syntax.build()?);
    let html = name.ends_with(".html");
    environment.set_auto_escape_callback(
        move |_| {
            if html { AutoEscape::Html } else { AutoEscape::None }
        },
    );
    environment.add_filter("md", md);
    environment.add_filter("code", code);
    environment.add_template(name, template).with_context(|| format!("read template {name}"))?;
    let template = environment.get_template(name)?;
    template.render(Serde(view(assessment))).with_context(|| format!("render {name}"))
}

fn view(assessment: &Assessment) -> View {
    let requirements = assessment.requirements;
    let product = requirements.product().map_or_else(String::new, |name| format!(" of {name}"));
    let standings = [Standing::NotProved, Standing::Violated, Standing::Waived, Standing::Proved];
    let (gate, gate_words) = match assessment.exit_code() {
        0 => ("open", "every requirement is proved, or waived by a waiver in force"),
        1 => ("failed", "a requirement is violated, or a waiver is expired, stale or without use"),
        _ => ("not proved", "nothing that is required is violated, and not all of it is proved"),
    };
    let sources = assessment.sources.iter().map(|(tool, host)| {
        let how = if host.rootless { "without root" } else { "as root" };
        prose(&format!("{} {}, Linux {}, {how}", tool.name, tool.version, host.kernel))
    });
    View {
        title: prose(&format!("Egress requirements{product}")),
        today: assessment.today.to_string(),
        path: safe(requirements.path()),
        gate,
        gate_words: gate_words.to_owned(),
        counts: standings.map(|standing| (standing.word(), assessment.count(standing))).into(),
        sources: sources.collect(),
        requirements: assessment.assessed.iter().map(|one| requirement(one, assessment)).collect(),
        waivers: assessment
            .waivers
            .iter()
            .map(|used| {
                let waiver = used.waiver;
                let (class, state) = match &used.state {
                    WaiverState::Stands(count) => {
                        ("waived", format!("stands for {}", plural(*count as u64, "trial")))
                    }
                    WaiverState::Expired => ("violated", "expired: the gate fails".to_owned()),
                    WaiverState::Stale(why) => {
                        ("violated", format!("stale: {why}: the gate fails"))
                    }
                    WaiverState::Unmatched(why) => {
                        ("violated", format!("without use: {why}: the gate fails"))
                    }
                    WaiverState::Undecided => (
                        "not-proved",
                        "undecided: what it picks was not proved either way".to_owned(),
                    ),
                };
                WaiverView {
                    selector: safe(&waiver.selector),
                    outcome: waiver.outcome.word(),
                    owner: prose(&waiver.owner),
                    reason: prose(&waiver.reason),
                    expires: waiver.expires.to_string(),
                    place: safe(&format!("{}:{}", requirements.path(), waiver.line)),
                    state: prose(&state),
                    class,
                }
            })
            .collect(),
    }
}

fn requirement(one: &Assessed, assessment: &Assessment) -> RequirementView {
    let requirement = one.requirement;
    let holding = one.trials.iter().filter(|trial| trial.hold == Hold::Holds).count();
    RequirementView {
        id: safe(&requirement.id),
        text: prose(&requirement.text),
        place: safe(&format!("{}:{}", assessment.requirements.path(), requirement.line)),
        standing: one.standing.word(),
        class: one.standing.word().replace(' ', "-"),
        counts: match one.trials.len() {
            0 => "no trial".to_owned(),
            count => format!("{holding} of {count} trials hold"),
        },
        takes: requirement.named_outcomes().map_or_else(String::new, |outcomes| {
            outcomes.iter().map(|outcome| outcome.word()).collect::<Vec<_>>().join(", ")
        }),
        gaps: one.gaps.iter().map(|gap| prose(gap)).collect(),
        controls: requirement
            .controls
            .iter()
            .map(|supported| ControlView {
                catalogue: supported.catalogue.title.clone(),
                href: supported.catalogue.href.clone(),
                id: supported.control.id.clone(),
                name: supported.control.name.clone(),
            })
            .collect(),
        trials: one.trials.iter().map(|evidence| trial(evidence, assessment)).collect(),
    }
}

fn trial(evidence: &Evidence, assessment: &Assessment) -> TrialView {
    let record = evidence.record;
    let (hold, class, why) = match &evidence.hold {
        Hold::Holds => ("holds", "proved", String::new()),
        Hold::Fails(why) => ("does not hold", "violated", why.clone()),
        Hold::Open(why) => ("proves nothing", "not-proved", why.clone()),
        Hold::Waived(at, why) => {
            let waiver = assessment.waivers[*at].waiver;
            let until = format!("waived by {} until {}", waiver.owner, waiver.expires);
            ("waived", "waived", format!("{why}; {until}: {}", waiver.reason))
        }
    };
    let first = record.frames.iter().map(|frame| frame.at_ns).min();
    let hidden = evidence.frames.len().saturating_sub(FRAMES_SHOWN);
    let more = match (evidence.frames.len(), class) {
        (0, "not-proved") => "no frame decides it".to_owned(),
        (0, _) => "no frame of the attempt on any link".to_owned(),
        _ if hidden > 0 => format!("and {} more, in the record", plural(hidden as u64, "frame")),
        _ => String::new(),
    };
    let frames = evidence.frames.iter().take(FRAMES_SHOWN);
    TrialView {
        id: safe(&record.id),
        hold,
        class,
        why: prose(&why),
        claim: prose(&record.title),
        place: safe(&record.place),
        expected: record.expect.outcome.word(),
        observed: prose(&record.observed.as_ref().map_or_else(|| "nothing".to_owned(), describe)),
        verdict: record.verdict.word(),
        kernel: safe(&assessment.sources[evidence.source].1.kernel),
        controls: prose(&controls(record)),
        start: first.map_or_else(|| "no frame was captured".to_owned(), time),
        frames: frames.map(|frame| shown(frame, first.unwrap_or(0))).collect(),
        more,
    }
}

fn shown(frame: &FrameRecord, start: u64) -> FrameView {
    let hex: Vec<String> = frame
        .bytes
        .iter()
        .take(BYTES_SHOWN)
        .collect::<Vec<_>>()
        .chunks(16)
        .map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
        .collect();
    FrameView {
        link: safe(&frame.link),
        after: format!("+{:.3} ms", frame.at_ns.saturating_sub(start) as f64 / 1e6),
        length: plural(frame.length as u64, "byte"),
        role: safe(&frame.role),
        summary: prose(&frame.summary),
        hex: hex.join("\n"),
    }
}

/// A moment, as RFC 3339 writes it.
pub(super) fn time(at_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at_ns))
        .map_or_else(|_| "at no time".to_owned(), |moment| format!("{moment:.6}"))
}

/// Prose in one line, shown and not interpreted.
pub(super) fn prose(text: &str) -> String {
    safe(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Text as Markdown that shows it: no markup, no link, no mention, no cell's end.
fn md(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '@' | '#' | '>' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    // Addresses become links without any markup.
    escaped.replace("://", ":\\//").replace("www.", "www\\.")
}

/// Text as a span of code, which no table's cell must hold.
fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    format!("{fence} {text} {fence}")
}

#[cfg(test)]
mod tests {
    use toml::value::Date;

    use super::*;
    use crate::compliance::{assess, parse};
    use crate::report::result::Document;
    use crate::report::sample;
    use crate::trial::Record;

    const HOSTILE: &str = "<script>alert(1)</script> {{ 7*7 }} \u{1b}[31m \u{202e}evil `` ` | \
                           [x](http://e.example) </details> &amp; \" ' @team #1 -->";

    const REQUIREMENTS: &str = r#"
product = "HOSTILE"
[[requirement]]
id = "NET-1"
text = "HOSTILE"
trials = ["basics/sample", "HOSTILE"]
controls = ["nist-800-53r5:SC-7(21)"]
[[waiver]]
trials = "basics/sample"
outcome = "leaked"
owner = "HOSTILE"
reason = "HOSTILE"
expires = 2027-03-31
"#;

    fn hostile() -> Record {
        let mut record = sample::record();
        for text in [&mut record.title, &mut record.why, &mut record.reason, &mut record.place] {
            *text = HOSTILE.to_owned();
        }
        record.id += HOSTILE;
        record.frames[1].summary = HOSTILE.to_owned();
        record.frames[1].link = HOSTILE.to_owned();
        record
    }

    fn rendered(requirements: &str, record: Record) -> (String, String, String) {
        let text = format!(
            r#"{{"schema":1,"tool":{{"name":"airtight","version":"0"}},
            "host":{{"kernel":{},"rootless":false}},"records":[],"partial":false}}"#,
            serde_json::to_string(HOSTILE).unwrap()
        );
        let mut document: Document = serde_json::from_str(&text).unwrap();
        document.records = vec![record];
        let requirements = parse("r<b>.toml", requirements.as_bytes()).unwrap();
        let documents = [document];
        let assessment = assess(&requirements, &documents, Date { year: 2027, month: 1, day: 2 });
        (html(&assessment).unwrap(), markdown(&assessment).unwrap(), summary(&assessment))
    }

    fn toml_string(text: &str) -> String {
        let quoted = serde_json::to_string(text).unwrap();
        quoted.trim_matches('"').replace('\u{1b}', "\\u001b")
    }

    #[test]
    fn hostile_text_is_shown_in_every_field_and_interpreted_in_none() {
        let requirements = REQUIREMENTS.replace("HOSTILE", &toml_string(HOSTILE));
        let (html, markdown, summary) = rendered(&requirements, hostile());
        for page in [&html, &markdown, &summary] {
            for bad in ["\u{1b}", "\u{202e}"] {
                assert!(!page.contains(bad), "{bad:?}: {page}");
            }
            assert!(!page.contains(" 49 ") && page.contains("7 }}"), "{page}");
        }
        assert!(html.contains("&lt;script&gt;alert(1)"), "{html}");
        assert!(!html.contains("<script"), "{html}");
        // A place stands in a span of code, whose text nothing interprets.
        let outside = markdown.split("```").step_by(2).collect::<String>();
        assert!(!outside.contains("<script") && !outside.contains("[x]("), "{outside}");
        assert!(markdown.contains("&lt;script\\>alert(1)"), "{markdown}");
        assert!(markdown.contains("\\[x\\](http:\\//e.example)"), "{markdown}");
    }

    #[test]
    fn a_page_goes_from_requirement_to_frame_and_needs_no_network() {
        let requirements = REQUIREMENTS.replace("HOSTILE", "basics");
        let (html, markdown, summary) = rendered(&requirements, sample::record());
        assert!(summary.contains("gate open"), "{summary}");
        let html = html.replace("&#x2f;", "/");
        for page in [&html, &markdown] {
            for word in [
                "NET-1",
                "waived",
                "SC-7(21)",
                "supports evidence for",
                "basics/sample::device::v4-udp",
                "uplink",
                "+0.400 ms",
                "192.0.2.17:40922",
                "counters agree",
                "2027-03-31",
                "stands for 1 trial",
            ] {
                assert!(page.contains(word), "`{word}` is missing: {page}");
            }
            assert!(!page.contains("complies"), "{page}");
        }
        for loads in ["src=", "<link", "@import", "url(", "<script"] {
            assert!(!html.contains(loads), "{loads}");
        }
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{html}");
    }

    #[test]
    fn a_code_span_outlasts_its_backticks() {
        assert_eq!(code("a"), "` a `");
        assert_eq!(code("a``b"), "``` a``b ```");
    }
}
