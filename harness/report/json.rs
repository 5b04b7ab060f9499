//! The one JSON document, in pieces that can be printed as the records come.

use serde_json::json;

use super::result::Document;
use crate::trial::Record;

/// The document up to its first record.
pub fn head(kernel: &str, rootless: bool) -> String {
    let tool = json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
    let host = json!({ "kernel": kernel, "rootless": rootless });
    format!("{{ \"schema\": 1, \"tool\": {tool}, \"host\": {host}, \"records\": [\n")
}

/// One record. Records are separated by commas.
pub fn record(record: &Record) -> serde_json::Result<String> {
    serde_json::to_string(record)
}

/// The document behind its last record: the runs, and everything that is summed. The records of
/// `document` are not read.
pub fn tail(document: &Document) -> serde_json::Result<String> {
    let mut text = format!(
        "], \"runs\": {},\n\"totals\": {},\n\"checks\": {},\n",
        serde_json::to_string(&document.runs)?,
        serde_json::to_string(&document.totals)?,
        serde_json::to_string(&document.checks)?
    );
    if !document.conflicts.is_empty() {
        text += &format!("\"conflicts\": {},\n", serde_json::to_string(&document.conflicts)?);
    }
    Ok(text + &format!("\"partial\": {} }}\n", document.partial))
}

/// The whole document, a record a line.
pub fn document(document: &Document) -> serde_json::Result<String> {
    let mut text = head(&document.host.kernel, document.host.rootless);
    for (at, of) in document.records.iter().enumerate() {
        text += if at == 0 { "" } else { ",\n" };
        text += &record(of)?;
    }
    Ok(text + "\n" + &tail(document)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::{Conflict, Run};
    use crate::report::sample;

    #[test]
    fn the_pieces_make_one_document() {
        let mut made = Document::new(Run { version: "0".to_owned(), ..Run::default() });
        made.host.kernel = "6.1.0 \"quoted\"".to_owned();
        made.host.rootless = true;
        for count in 0..3 {
            made.records = vec![sample::record(); count];
            made.sum();
            let text = super::document(&made).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["schema"], 1);
            assert_eq!(value["tool"]["name"], "airtight");
            assert_eq!(value["host"]["kernel"], "6.1.0 \"quoted\"");
            assert_eq!(value["host"]["rootless"], true);
            assert_eq!(value["records"].as_array().unwrap().len(), count);
            assert_eq!(value["totals"]["deviates"], count);
            assert_eq!(value["partial"], false);
            let again = Document::parse(text.as_bytes()).unwrap();
            assert_eq!(super::document(&again).unwrap().lines().nth(1), text.lines().nth(1));
            assert_eq!(again.records.len(), count);
        }
        made.conflicts = vec![Conflict { of: "a".to_owned(), what: "b".to_owned() }];
        let again = Document::parse(super::document(&made).unwrap().as_bytes()).unwrap();
        assert_eq!(again.conflicts, made.conflicts);
    }

    #[test]
    fn a_record_has_what_the_outside_may_rely_on() {
        let text = record(&sample::record()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in [
            "id", "scenario", "case", "cell", "expect", "observed", "verdict", "reason",
            "controls", "frames", "micros",
        ] {
            assert!(!value[key].is_null(), "{key}");
        }
        assert_eq!(value["verdict"], "deviates");
        assert_eq!(value["cell"]["family"], "v4");
        assert_eq!(value["expect"]["outcome"], "contained");
        assert_eq!(value["observed"]["through"][0], "uplink");
        assert_eq!(value["controls"]["counters"]["uplink"]["captured"], 2);
    }
}
