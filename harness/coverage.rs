//! Which rows of the catalogue have a scenario. Pure.

use std::collections::BTreeSet;

/// The rows, as `scenarios/ROWS.md` lists them.
const ROWS: &str = include_str!("../scenarios/ROWS.md");
/// What an entry of `refs` that names a row begins with.
const PREFIX: &str = "catalogue ";

/// A row of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id: `C14`.
    pub id: &'static str,
    /// The attempt, in a few words.
    pub attempt: &'static str,
    /// The part of the catalogue that it stands in.
    pub section: &'static str,
    /// Whether scenarios must cover it by now.
    pub due: bool,
}

/// Every row, in the order of the list.
pub fn rows() -> Vec<Row> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in ROWS.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", id, attempt, half @ ("1" | "2"), ""] = cells[..] {
            rows.push(Row { id, attempt, section, due: half == "1" });
        }
    }
    rows
}

/// The ids of the rows that a scenario's `refs` name.
pub fn named(refs: &[String]) -> impl Iterator<Item = &str> {
    refs.iter().filter_map(|entry| entry.strip_prefix(PREFIX))
}

/// The rows that are due and that none of these `refs` name.
pub fn untried<'a>(refs: impl Iterator<Item = &'a [String]>) -> Vec<Row> {
    let named: BTreeSet<&str> = refs.flat_map(named).collect();
    rows().into_iter().filter(|row| row.due && !named.contains(row.id)).collect()
}

/// The ids that `refs` name and that no row has.
pub fn unknown(refs: &[String]) -> Vec<&str> {
    let rows = rows();
    named(refs).filter(|id| rows.iter().all(|row| row.id != *id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_whole() {
        let rows = rows();
        let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), rows.len(), "a row stands twice");
        let lines = ROWS.lines().filter(|line| line.starts_with("| ") && !line.contains("attempt"));
        assert_eq!(lines.count(), rows.len(), "a line of the list is not read");
        assert!(rows.iter().any(|row| row.id == "C12b" && row.due));
        assert!(rows.iter().any(|row| row.id == "X15"));
    }

    #[test]
    fn what_is_missing_and_what_is_unknown_is_told() {
        let all: Vec<String> =
            rows().iter().skip(1).map(|row| format!("catalogue {}", row.id)).collect();
        let untried = untried([all.as_slice()].into_iter());
        assert_eq!(untried.iter().map(|row| row.id).collect::<Vec<_>>(), ["C1"]);
        let refs = ["catalogue C1", "catalogue C999", "ip(7)"].map(str::to_owned);
        assert_eq!(unknown(&refs), ["C999"]);
    }
}
