//! What an auditor is given, by the command line: compliance reports, evidence bundles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Requirements of every standing, for the trials of `basics`.
const REQUIREMENTS: &str = "fixtures/requirements.toml";

fn airtight(arguments: &[&str]) -> Output {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    Command::new(env!("CARGO_BIN_EXE_airtight")).args(arguments).current_dir(root).output().unwrap()
}

/// Exits with `code`, and says each of `needed`; what it said.
fn ends(code: i32, arguments: &[&str], needed: &[&str]) -> String {
    let output = airtight(arguments);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for word in needed {
        assert!(said.contains(word), "{arguments:?} does not say `{word}`: {said}");
    }
    said
}

/// A folder of this test's own, removed with its value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("airtight-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), bytes).unwrap();
        self.at(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A result of the trials that the requirements of the fixture name.
fn result() -> Vec<u8> {
    let trials = ["basics/source-address", "basics/device::device"];
    let output = airtight(&["run", trials[0], trials[1], "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn requirements_are_assessed_and_written() {
    let folder = Folder::new("comply");
    let result = folder.file("result.json", result());
    let standings =
        ["not proved  NET-5", "violated    NET-3", "waived      NET-4", "proved      NET-1"];
    let to = folder.at("out");
    let today = ["--today", "2027-01-02", "--to", &to];
    let said = ends(1, &[&["comply", REQUIREMENTS, &result], &today[..]].concat(), &standings);
    let places: Vec<usize> = standings.iter().map(|word| said.find(word).unwrap()).collect();
    assert!(places.is_sorted(), "what is not proved comes first: {said}");
    assert_eq!(names(Path::new(&to)), ["compliance.html", "compliance.md", "oscal.json"]);
    // A folder that holds the result is as good, and the same result gives the same reports.
    let read = |name: &str| fs::read_to_string(Path::new(&to).join(name)).unwrap();
    let before = ["compliance.html", "compliance.md", "oscal.json"].map(read);
    let holder = folder.0.to_string_lossy().into_owned();
    ends(1, &[&["comply", REQUIREMENTS, &holder], &today[..]].concat(), &standings);
    let after = ["compliance.html", "compliance.md", "oscal.json"].map(read);
    let but_for_time = |text: &String| {
        let lines = text.lines().filter(|line| !line.contains("\"last-modified\""));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(before.each_ref().map(but_for_time), after.each_ref().map(but_for_time));
}

#[test]
fn the_gate_ends_with_the_documented_codes() {
    let folder = Folder::new("gate");
    let result = folder.file("result.json", result());
    let requirement = |id: &str, trials: &str, more: &str| {
        format!("[[requirement]]\nid = '{id}'\ntext = 't'\ntrials = ['{trials}']\n{more}")
    };
    let proved = requirement("A", "basics/device::device", "");
    let open = requirement("B", "nothing/", "");
    let waiver = "[[waiver]]\ntrials = 'basics/source-address::address'\noutcome = 'leaked'\n\
                  owner = 'o'\nreason = 'r'\nexpires = 2027-03-31\n";
    let leaks = requirement("C", "basics/source-address::address", "");
    let check = |text: String, today: &str, code: i32, needed: &[&str]| {
        let file = folder.file("r.toml", text);
        ends(code, &["comply", &file, &result, "--today", today], needed);
    };
    check(proved.clone(), "2027-03-31", 0, &["gate open"]);
    check(proved.clone() + &open, "2027-03-31", 4, &["gate not proved", "picks no trial"]);
    check(proved.clone() + &leaks, "2027-03-31", 1, &["gate failed", "leaked through uplink"]);
    check(leaks.clone() + waiver, "2027-03-31", 0, &["gate open", "stands for 6 trials"]);
    check(leaks + waiver, "2027-04-01", 1, &["gate failed", "expired"]);
    check(proved.clone() + waiver, "2027-03-31", 1, &["gate failed", "no requirement names"]);
    check(proved + "ownr = 1", "2027-03-31", 2, &["r.toml:5:1", "^^^^"]);
}

#[test]
fn a_result_that_cannot_be_read_is_named() {
    let folder = Folder::new("unreadable");
    let holder = folder.0.to_string_lossy().into_owned();
    let missing = ["result.json", "airtight run --format json"];
    ends(2, &["comply", REQUIREMENTS, &holder], &missing);
    let half = folder.file("half.json", r#"{ "schema": 1, "tool": {"name": "a", "#);
    ends(2, &["comply", REQUIREMENTS, &half], &["half.json is no whole result"]);
    let good = r#"{"schema":1,"tool":{"name":"a","version":"0"},
        "host":{"kernel":"k","rootless":false},"records":[]}"#;
    let other = folder.file("other.json", good.replace(":1,", ":7,"));
    ends(2, &["comply", REQUIREMENTS, &other], &["schema 7"]);
    ends(2, &["comply", "nothing.toml", &other], &["read nothing.toml"]);
    // Where the reports cannot be written, that is said, and nothing half is left behind.
    let good = folder.file("good.json", good);
    let to = folder.file("file", "");
    ends(2, &["comply", REQUIREMENTS, &good, "--to", &to], &["make the folder", "file"]);
    let taken = folder.at("taken");
    fs::create_dir_all(Path::new(&taken).join("compliance.md/full")).unwrap();
    ends(2, &["comply", REQUIREMENTS, &good, "--to", &taken], &["write", "compliance.md"]);
    assert_eq!(names(Path::new(&taken)), ["compliance.md"]);
}
