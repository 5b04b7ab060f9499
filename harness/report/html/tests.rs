//! What must hold of the page, whatever the records.

use super::*;
use crate::report::result::{Document, Run};
use crate::report::sample;

fn document(records: Vec<Record>) -> Document {
    let mut document = Document::new(Run { planned: records.len(), ..Run::default() });
    document.records = records;
    document.sum();
    document
}

/// A record that conforms, so that it is packed.
fn conforming() -> Record {
    let mut record = sample::record();
    record.verdict = Verdict::Conforms;
    record.reason = "leaked through uplink".to_owned();
    record
}

#[test]
fn smoke() {
    page(&document(vec![sample::record(), conforming()])).unwrap();
}
