//! The list of all trials, scenario by scenario, and what it can be filtered by.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::pack::Place;
use super::{Badge, grouped, outcome_sign, verdict, verdict_badge};
use crate::report::table::{family, transport};
use crate::trial::Record;
use crate::verdict;

/// The list, and its filters.
#[derive(Serialize)]
pub(super) struct List {
    facets: Vec<Facet>,
    groups: Vec<Group>,
    total: usize,
    total_words: String,
}

/// What trials can be told apart by, with the values that occur.
#[derive(Serialize)]
struct Facet {
    name: &'static str,
    label: &'static str,
    values: Vec<(String, usize)>,
}

/// The trials of a scenario.
#[derive(Serialize)]
struct Group {
    scenario: String,
    title: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    anchor: String,
    /// Whether the trial is told in full where the page begins, and the list only leads there.
    told: bool,
    place: Place,
    /// For each facet the places of its values.
    facets: String,
    case: String,
    cell: String,
    pin: String,
    expected: String,
    observed: String,
    sign: &'static str,
    kind: &'static str,
    verdict: Badge,
}

/// What values a record has of each facet.
type Values = [fn(&Record) -> Vec<String>];

const FACETS: &[(&str, &str)] = &[
    ("verdict", "Verdict"),
    ("outcome", "Outcome"),
    ("pin", "Pin"),
    ("transport", "Transport"),
    ("family", "Family"),
    ("link", "Left through"),
];
const VALUES: &Values = &[
    |record| vec![verdict(record).word().to_owned()],
    |record| {
        let outcome = record.observed.as_ref().map(|observed| observed.outcome.word());
        vec![outcome.unwrap_or("nothing observed").to_owned()]
    },
    |record| vec![record.pin.clone()],
    |record| vec![transport(record).to_owned()],
    |record| vec![family(record).to_owned()],
    |record| match &record.observed {
        Some(observed) if !observed.through.is_empty() => observed.through.clone(),
        _ => vec!["no link".to_owned()],
    },
];

/// The list of these records. `told` are those that the page begins with.
pub(super) fn list(
    records: &[Record],
    anchors: &[String],
    places: &[Place],
    told: &BTreeSet<usize>,
) -> List {
    let mut counts: Vec<BTreeMap<String, usize>> = vec![BTreeMap::new(); VALUES.len()];
    for record in records {
        for (values, counts) in VALUES.iter().zip(&mut counts) {
            for value in values(record) {
                *counts.entry(value).or_default() += 1;
            }
        }
    }
    let positions: Vec<BTreeMap<&str, usize>> = counts
        .iter()
        .map(|of| of.keys().enumerate().map(|(at, value)| (value.as_str(), at)).collect())
        .collect();
    let facets = |record: &Record| {
        let each = VALUES.iter().zip(&positions).map(|(values, positions)| {
            let at = values(record)
                .iter()
                .filter_map(|v| positions.get(v.as_str()))
                .map(usize::to_string)
                .collect::<Vec<_>>();
            at.join(",")
        });
        each.collect::<Vec<_>>().join(" ")
    };
    let mut groups: Vec<Group> = Vec::new();
    for (at, record) in records.iter().enumerate() {
        let row = Row {
            facets: facets(record),
            ..row(record, &anchors[at], places[at], told.contains(&at))
        };
        match groups.last_mut() {
            Some(group) if group.scenario == record.scenario => group.rows.push(row),
            _ => groups.push(Group {
                scenario: record.scenario.clone(),
                title: record.title.clone(),
                rows: vec![row],
            }),
        }
    }
    List {
        facets: FACETS
            .iter()
            .zip(counts)
            .map(|((name, label), of)| Facet { name, label, values: of.into_iter().collect() })
            .collect(),
        groups,
        total: records.len(),
        total_words: grouped(records.len()),
    }
}

fn row(record: &Record, anchor: &str, place: Place, told: bool) -> Row {
    let outcome = record.observed.as_ref().map(|observed| observed.outcome);
    Row {
        anchor: anchor.to_owned(),
        told,
        place,
        facets: String::new(),
        case: record.case.clone(),
        cell: record.cell.values().cloned().collect::<Vec<_>>().join("-"),
        pin: record.pin.clone(),
        expected: expected(record),
        observed: observed(record),
        sign: outcome_sign(outcome),
        kind: outcome.map_or("untried", |outcome| outcome.word()),
        verdict: verdict_badge(verdict(record)),
    }
}

/// What was observed, in a few words.
pub(super) fn observed(record: &Record) -> String {
    record.observed.as_ref().map_or_else(|| "nothing observed".to_owned(), verdict::describe)
}

/// What is expected, in a few words.
pub(super) fn expected(record: &Record) -> String {
    let expect = &record.expect;
    let mut words = expect.outcome.word().to_owned();
    for (word, part) in [("through", &expect.through), ("with", &expect.errno)] {
        if let Some(part) = part {
            words += &format!(" {word} {part}");
        }
    }
    words
}
