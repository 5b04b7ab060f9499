//! A step summary in Markdown, within what GitHub takes.

use std::collections::BTreeMap;

use super::human::{self, Tally, safe};
use super::result::{Document, Run};
use super::text::{cut, failing, failure, name, xml};
use crate::verdict::Verdict;

/// GitHub takes 1 MiB a step; what is said behind the cut needs room too.
const BYTES_MAX: usize = 1_000_000;
/// How many characters of a reason a line shows.
const REASON_CHARS_MAX: usize = 300;

/// The document as Markdown: verdict, counts, what is wrong with it as a whole, failures, waivers,
/// skips, and what it was made with. Where that is too long, the failures behind the cut are
/// counted.
pub(super) fn render(document: &Document) -> String {
    let mut text = head(document);
    let tail = tail(document);
    let failures = failing(document);
    let room = BYTES_MAX.saturating_sub(text.len() + tail.len());
    let mut shown = String::new();
    for (at, record) in failures.iter().enumerate() {
        let head = format!("{} {}", record.verdict.word(), name(document, record));
        let told = format!(
            "<details{}><summary><code>{}</code></summary>\n<pre>\n{}</pre>\n</details>\n\n",
            if at < 3 { " open" } else { "" },
            xml(&cut(&head, REASON_CHARS_MAX)),
            pre(&failure(document, record))
        );
        if shown.len() + told.len() > room {
            let more = failures.len() - at;
            shown +=
                &format!("**{more} more failures do not fit: see junit.xml or result.json.**\n\n");
            break;
        }
        shown += &told;
    }
    if !shown.is_empty() {
        text += &format!("### What fails\n\n{shown}");
    }
    text + &tail
}

fn head(document: &Document) -> String {
    let word = match document.exit_code() {
        0 => "✅ everything conforms",
        1 => "❌ something deviates, or a waiver is stale",
        _ => "❓ not everything is proved",
    };
    let Tally { conforms, deviates, known, stale, inconclusive, skipped } = document.totals;
    let mut text = format!(
        "## airtight: {word}\n\n| trials | conform | deviate | known | stale | inconclusive | skipped \
         |\n|---|---|---|---|---|---|---|\n| {} | {conforms} | {deviates} | {known} | {stale} | \
         {inconclusive} | {skipped} |\n\n",
        document.totals.total()
    );
    for problem in document.problems() {
        text += &format!("- **{}**\n", line(&problem));
    }
    text + "\n"
}

fn tail(document: &Document) -> String {
    let mut text = String::new();
    let mut skips: BTreeMap<&str, usize> = BTreeMap::new();
    let mut waivers: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for record in &document.records {
        match record.verdict {
            Verdict::Skipped => *skips.entry(&record.reason).or_default() += 1,
            Verdict::Known => {
                *waivers.entry((&record.scenario, &record.reason)).or_default() += 1;
            }
            _ => {}
        }
    }
    let told = |count: usize| human::plural(count as u64, "trial");
    let waived = waivers.iter().map(|((scenario, reason), count)| {
        format!("- {} of {}: {}\n", told(*count), line(scenario), line(reason))
    });
    text += &listed("Waived", waived.collect());
    let skipped = skips.iter().map(|(why, count)| format!("- {}: {}\n", told(*count), line(why)));
    text += &listed("Skipped", skipped.collect());
    text += &listed("Made with", document.runs.iter().map(made).collect());
    let checks = document.checks;
    text + &format!(
        "\nSelf-checks of {} trials: {} armed, {} quiet, {} of {} sentinels seen, {} frames lost, \
         {} of {} links' counters agree.\n",
        checks.trials,
        checks.armed,
        checks.quiet,
        checks.sentinels_seen,
        checks.sentinels_expected,
        checks.drops,
        checks.links_agreed,
        checks.links
    )
}

/// How many lines a list of the summary has at most.
const LIST_LINES_MAX: usize = 100;

fn listed(heading: &str, lines: Vec<String>) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let more = lines.len().saturating_sub(LIST_LINES_MAX);
    let shown: String = lines.into_iter().take(LIST_LINES_MAX).collect();
    let more = if more > 0 { format!("- ... and {more} more\n") } else { String::new() };
    format!("### {heading}\n\n{shown}{more}\n")
}

fn made(run: &Run) -> String {
    format!(
        "- airtight {} on Linux {} ({}, {} processors{}), {}{}\n",
        line(&run.version),
        line(&run.kernel.release),
        line(&run.machine.arch),
        run.machine.cpus,
        if run.machine.rootless { ", without root" } else { "" },
        line(&run.started),
        run.product
            .as_ref()
            .map_or_else(String::new, |_| { format!(", of {}", line(&run.product_name())) })
    )
}

/// Text in a line of Markdown: nothing in it is markup.
fn line(text: &str) -> String {
    let mut escaped = String::new();
    for c in cut(&safe(text), REASON_CHARS_MAX).replace('\n', " ").chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '$' | '@' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Text within `<pre>`: neither HTML nor, by GitHub, Markdown.
fn pre(text: &str) -> String {
    xml(text).replace("\n\n", "\n \n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::report::text::assert_inert;

    #[test]
    fn the_verdict_comes_first() {
        let text =
            render(&sample::document(&[Verdict::Conforms, Verdict::Known, Verdict::Skipped]));
        for needed in [
            "## airtight: ❌ something deviates",
            "| 4 | 1 | 1 | 1 | 0 | 0 | 1 |",
            "<code>deviates basics/sample::device::v4-udp</code>",
            "UDP 192.0.2.17:40922 &gt; 203.0.113.9:7",
            "### Waived\n\n- 1 trial of basics/sample: it known",
            "### Skipped\n\n- 1 trial: it skipped",
            "Self-checks of 3 trials: 3 armed, 3 quiet, 18 of 18 sentinels seen, 0 frames lost",
        ] {
            assert!(text.contains(needed), "{needed} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_counted() {
        let text = render(&sample::document(&vec![Verdict::Deviates; 5000]));
        assert!(text.len() <= BYTES_MAX + 200, "{}", text.len());
        let more = text.split("more failures do not fit").next().unwrap();
        assert!(more.ends_with(' '), "the cut is not told");
        assert!(text.contains("Self-checks of"), "the tail is lost");
    }

    #[test]
    fn hostile_text_is_no_markup() {
        let mut document = Document { records: vec![sample::hostile()], ..sample::document(&[]) };
        for verdict in [Verdict::Deviates, Verdict::Known, Verdict::Skipped] {
            document.records[0].verdict = verdict;
            document.sum();
            let text = render(&document);
            assert_inert(&text);
            assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
            assert_eq!(text.matches("<pre>").count(), text.matches("</pre>").count());
        }
    }
}
