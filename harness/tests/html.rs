//! The reviewer's page of a real result.

use std::path::PathBuf;
use std::process::Command;

use airtight::report::html;
use airtight::report::result::Document;

fn page(text: &[u8]) -> (Document, String) {
    let document: Document = serde_json::from_slice(text).expect("read the result");
    let page = html::page(&document).expect("render the page");
    (document, page)
}

#[test]
fn a_run_has_a_page() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    let mut run = Command::new(env!("CARGO_BIN_EXE_airtight"));
    let selectors = ["basics/source-address", "programs/curl"];
    let output = run
        .arg("run")
        .args(selectors)
        .args(["--format", "json"])
        .current_dir(root)
        .output()
        .unwrap();
    let (document, page) = page(&output.stdout);
    assert!(!document.records.is_empty());
    for record in &document.records {
        let anchor = format!("trial/{}", record.id).replace('/', "&#x2f;");
        assert!(page.contains(&format!("href=\"#{anchor}\"")), "{}", record.id);
    }
    assert!(page.contains("A bound source address does not choose the link"));
}

/// Turns the result in `AIRTIGHT_RESULT` into the page in `AIRTIGHT_PAGE`.
#[test]
#[ignore = "a tool of .ci/browser, which names the files"]
fn write_page() {
    let name = |name: &str| {
        PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("set {name} to a file")))
    };
    let (_, page) = page(&std::fs::read(name("AIRTIGHT_RESULT")).expect("read the result"));
    std::fs::write(name("AIRTIGHT_PAGE"), page).expect("write the page");
}
