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
