//! The reviewer's page of a real result, for a browser to be tried with: `.ci/browser` asks for it.

use airtight::report::html;
use airtight::report::result::Document;

/// Turns the result in `AIRTIGHT_RESULT` into the page in `AIRTIGHT_PAGE`.
#[test]
#[ignore = "a tool of .ci/browser, which names the files"]
fn write_page() {
    let name =
        |name: &str| std::env::var_os(name).unwrap_or_else(|| panic!("set {name} to a file"));
    let text = std::fs::read(name("AIRTIGHT_RESULT")).unwrap();
    let document: Document = serde_json::from_slice(&text).unwrap();
    let started = std::time::Instant::now();
    let page = html::page(&document).unwrap();
    eprintln!("{} bytes in {:.2} s", page.len(), started.elapsed().as_secs_f64());
    std::fs::write(name("AIRTIGHT_PAGE"), page).unwrap();
}
