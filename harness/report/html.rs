//! The reviewer's report: one HTML file that needs no network, with the verdict first, the lookup
//! tables, and all the evidence of every trial.
//!
//! Text of records is data to it, never markup: whatever the templates print is made visible and
//! escaped by `template`. What a browser cannot show at once (the details of thousands of trials) is
//! packed by `pack`, and unpacked when it is asked for.

mod compatibility;
mod detail;
mod headline;
mod lab;
mod list;
mod pack;
mod template;
mod timeline;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding};
use minijinja::context;
use minijinja::value::{Serde, Value};
use sha2::{Digest, Sha256};

use super::result::Document;
use crate::scenario::Outcome;
use crate::trial::Record;
use crate::verdict::Verdict;
use template::visible;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// How many trials that did not conform are told in full where the page begins: each takes some
/// 20 kB. The others are told as the trials that conform are, on demand.
const TOLD_AT_ONCE_MAX: usize = 50;

/// The page of a whole result. It is the same for the same document.
pub fn page(document: &Document) -> Result<String> {
    let records = &document.records;
    let anchors = anchors(records);
    let first = told_first(records);
    let told: BTreeSet<usize> = first.iter().copied().take(TOLD_AT_ONCE_MAX).collect();
    let templates = template::templates()?;
    let trial = templates.get_template("trial.html").context("find the template of a trial")?;

    let mut packs = pack::Packs::default();
    let mut failures = vec![String::new(); told.len()];
    let mut places = Vec::with_capacity(records.len());
    for (at, record) in records.iter().enumerate() {
        let evidence = detail::kept(record);
        let capture = detail::pcapng(record, &evidence);
        let detail = detail::detail(record, &evidence, &capture, &anchors[at]);
        let context = context! { trial => Serde(&detail) };
        let html = trial.render(context).with_context(|| format!("describe {}", record.id))?;
        let place = first.iter().take(TOLD_AT_ONCE_MAX).position(|told| *told == at);
        let packed = match place {
            Some(place) => {
                failures[place] = html;
                ""
            }
            None => html.as_str(),
        };
        places.push(packs.add(packed, capture.as_deref().unwrap_or_default())?);
    }

    let hash = |text: &str| Base64::encode_string(&Sha256::digest(text.as_bytes()));
    let list = list::list(records, &anchors, &places, &told);
    let page = templates.get_template("page.html").context("find the template of the page")?;
    let context = context! {
        head => Serde(&headline::headline(document)),
        failures => failures.into_iter().map(Value::from_safe_string).collect::<Vec<_>>(),
        failing => first.len(),
        standings => Serde(&compatibility::standings(records)),
        tables => Serde(&compatibility::tables(records, &anchors)),
        list => Serde(&list),
        // Base64: a script's text knows no escapes, and needs none here.
        packs => packs.finish()?.into_iter().map(Value::from_safe_string).collect::<Vec<_>>(),
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        style_hash => hash(STYLE),
        script_hash => hash(SCRIPT),
    };
    page.render(context).context("render the page")
}

/// The trials that a reviewer must see first: leaks that nobody expected, then waivers that are no
/// longer true, then what is not proved.
fn told_first(records: &[Record]) -> Vec<usize> {
    let mut first: Vec<usize> = (0..records.len())
        .filter(|at| {
            let verdict = verdict(&records[*at]);
            matches!(verdict, Verdict::Deviates | Verdict::Stale | Verdict::Inconclusive)
        })
        .collect();
    first.sort_by_key(|at| {
        let leaked = records[*at].observed.as_ref().is_some_and(|o| o.outcome == Outcome::Leaked);
        match verdict(&records[*at]) {
            Verdict::Deviates if leaked => 0,
            Verdict::Deviates => 1,
            Verdict::Stale => 2,
            _ => 3,
        }
    });
    first
}

/// A record's verdict; that something conforms without having been observed is not believed.
fn verdict(record: &Record) -> Verdict {
    match record.verdict {
        Verdict::Conforms | Verdict::Known if record.observed.is_none() => Verdict::Inconclusive,
        verdict => verdict,
    }
}

/// For each record, what its place in the page is called: its id, as far as an address can hold it
/// as it is, and a number where several records have one id (results that were merged).
fn anchors(records: &[Record]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let anchor = |record: &Record| {
        let plain =
            |c: char| if c.is_ascii_alphanumeric() || "-_./:".contains(c) { c } else { '_' };
        let base: String = format!("trial/{}", record.id).chars().map(plain).collect();
        let mut anchor = base.clone();
        let mut next = 2;
        while !taken.insert(anchor.clone()) {
            anchor = format!("{base}/{next}");
            next += 1;
        }
        anchor
    };
    records.iter().map(anchor).collect()
}

/// A verdict as the page shows it: a word, a sign that can be told without colour, and the name of
/// its colour.
#[derive(Clone, Copy, serde::Serialize)]
struct Badge {
    word: &'static str,
    sign: &'static str,
    tone: &'static str,
}

fn verdict_badge(verdict: Verdict) -> Badge {
    let (sign, tone) = match verdict {
        Verdict::Conforms => ("✓", "good"),
        Verdict::Deviates | Verdict::Stale => ("✗", "bad"),
        Verdict::Known => ("≈", "partial"),
        Verdict::Inconclusive => ("?", "unproved"),
        Verdict::Skipped => ("–", "untried"),
    };
    Badge { word: verdict.word(), sign, tone }
}

fn outcome_sign(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Contained | Outcome::Kept) => "●",
        Some(Outcome::Leaked) => "▲",
        Some(Outcome::Refused) => "■",
        Some(Outcome::Silent) => "○",
        Some(Outcome::Delivered) => "◆",
        None => "–",
    }
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The beginning of a text that must fit a drawing, and whether that is all of it.
fn fitting(text: &str, chars: usize) -> String {
    let text = visible(text);
    if text.chars().count() <= chars {
        return text;
    }
    text.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
