//! The lookup tables, as `report::table` has them: pins down, conflicts across, outcomes within.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{outcome_sign, verdict};
use crate::report::table::{self, COLUMNS, TABLES, Table, family, merged, transport};
use crate::trial::Record;
use crate::verdict::Verdict;

/// How a pin stands in all conflicts: with UDP, with TCP.
#[derive(Serialize)]
pub(super) struct PinStanding {
    pin: String,
    cells: Vec<StandingCell>,
}

#[derive(Serialize)]
struct StandingCell {
    words: String,
    /// `leaks`, `unproved`, `holds` or `untried`.
    kind: &'static str,
}

/// One table, in blocks of columns that fit a page.
#[derive(Serialize)]
pub(super) struct Grid {
    title: &'static str,
    across: &'static str,
    blocks: Vec<Block>,
}

#[derive(Serialize)]
struct Block {
    headings: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    pin: String,
    cells: Vec<Vec<Part>>,
}

/// An outcome in a cell, and the trials that came to it.
#[derive(Serialize)]
struct Part {
    /// The families (and transports) that it holds for, where they differ; empty: all.
    names: String,
    word: String,
    sign: &'static str,
    kind: &'static str,
    anchor: String,
    id: String,
}

/// How the pins stand that were tried often enough to tell.
pub(super) fn standings(records: &[Record]) -> Vec<PinStanding> {
    let cell = |standing: Option<table::Standing>| match standing {
        None => StandingCell { words: "not tried".to_owned(), kind: "untried" },
        Some(standing) => StandingCell {
            words: standing.words("leaks"),
            kind: match standing {
                table::Standing { leaks: 1.., .. } => "leaks",
                table::Standing { unproved: 1.., .. } => "unproved",
                _ => "holds",
            },
        },
    };
    let each = table::standings(records).into_iter();
    each.map(|(pin, standing)| PinStanding { pin, cells: standing.map(cell).into() }).collect()
}

/// The tables that have anything in them.
pub(super) fn tables(records: &[Record], anchors: &[String]) -> Vec<Grid> {
    let mut places: BTreeMap<*const Record, &str> = BTreeMap::new();
    for (record, anchor) in records.iter().zip(anchors) {
        places.insert(record, anchor);
    }
    let grids = TABLES.iter().map(|table| grid(records, table, &places));
    grids.filter(|grid| !grid.blocks.is_empty()).collect()
}

fn grid(records: &[Record], table: &Table, places: &BTreeMap<*const Record, &str>) -> Grid {
    let entries = table.records(records);
    let mut headings: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), Vec<&Record>> = BTreeMap::new();
    for (heading, record) in &entries {
        if !headings.contains(heading) {
            headings.push(heading);
        }
        cells.entry((record.pin.as_str(), heading)).or_default().push(record);
    }
    let pins = table::pins(entries.iter().map(|(_, record)| *record));
    let row = |pin: &String, headings: &[&str]| Row {
        pin: pin.clone(),
        cells: headings
            .iter()
            .map(|heading| {
                cells.get(&(pin.as_str(), *heading)).map_or_else(Vec::new, |of| parts(of, places))
            })
            .collect(),
    };
    let block = |headings: &[&str]| Block {
        headings: headings.iter().map(|heading| (*heading).to_owned()).collect(),
        rows: pins
            .iter()
            .map(|pin| row(pin, headings))
            .filter(|row| row.cells.iter().any(|cell| !cell.is_empty()))
            .collect(),
    };
    Grid {
        title: table.title,
        across: table.across,
        blocks: headings.chunks(COLUMNS).map(block).collect(),
    }
}

fn parts(records: &[&Record], places: &BTreeMap<*const Record, &str>) -> Vec<Part> {
    let several = records.iter().any(|record| transport(record) != transport(records[0]));
    let name = |record: &Record| match several {
        true => format!("{} {}", family(record), transport(record)),
        false => family(record).to_owned(),
    };
    let words = merged(records, name);
    let alone = words.len() == 1;
    let part = |(word, record, names): (String, &Record, Vec<String>)| {
        let verdict = verdict(record);
        let outcome = record.observed.as_ref().map(|observed| observed.outcome);
        let (sign, kind) = match verdict {
            Verdict::Deviates | Verdict::Stale => ("✗", "bad"),
            Verdict::Inconclusive => ("?", "unproved"),
            Verdict::Skipped => ("–", "untried"),
            Verdict::Conforms | Verdict::Known => {
                (outcome_sign(outcome), outcome.map_or("unproved", |outcome| outcome.word()))
            }
        };
        Part {
            names: if alone { String::new() } else { names.join(", ") },
            word: word.trim_matches(['*', '⚠', ' ']).to_owned(),
            sign,
            kind,
            anchor: places.get(&std::ptr::from_ref(record)).copied().unwrap_or_default().to_owned(),
            id: record.id.clone(),
        }
    };
    words.into_iter().map(part).collect()
}
