//! The one JSON document, in pieces that can be printed as the records come.

use serde_json::json;

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

/// The document behind its last record.
pub fn tail() -> &'static str {
    "] }\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::Document;
    use crate::report::sample;

    #[test]
    fn the_pieces_make_one_document() {
        let one = record(&sample::record()).unwrap();
        for count in 0..3 {
            let records = vec![one.clone(); count].join(",\n");
            let text = head("6.1.0 \"quoted\"", true) + &records + tail();
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(document["schema"], 1);
            assert_eq!(document["tool"]["name"], "airtight");
            assert_eq!(document["host"]["kernel"], "6.1.0 \"quoted\"");
            assert_eq!(document["host"]["rootless"], true);
            assert_eq!(document["records"].as_array().unwrap().len(), count);
            let document: Document = serde_json::from_str(&text).unwrap();
            let again = document.records.iter().map(|r| record(r).unwrap());
            assert_eq!(again.collect::<Vec<_>>(), vec![one.clone(); count]);
        }
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
