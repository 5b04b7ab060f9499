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

/// A folder with a small run's evidence, its keys beside it, and its bundle.
fn bundled(name: &str) -> (Folder, String, String) {
    let folder = Folder::new(name);
    let (run, key, to) = (folder.at("run"), folder.at("key"), folder.at("evidence.tar"));
    let trials = "basics/device::device::v4";
    assert!(airtight(&["run", trials, "--out", &run]).status.success());
    ends(0, &["keygen", &key], &["the private key", "key.pub"]);
    ends(0, &["bundle", &run, "--key", &key, "--to", &to], &["PASSED: 3 passed", "signed by"]);
    (folder, key, to)
}

#[test]
fn a_bundle_is_made_signed_and_verified() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, key, to) = bundled("bundle");
    let public = format!("{key}.pub");
    ends(0, &["verify", &to, "--key", &public], &["is intact: 7 files", "3 passed", "signed by"]);
    // What was not checked is said, and is no success.
    ends(4, &["verify", &to], &["not checked: who made it", "--key PUB"]);
    let other = folder.at("other");
    ends(0, &["keygen", &other], &[]);
    let other = format!("{other}.pub");
    ends(1, &["verify", &to, "--key", &other], &["not signed by this key"]);
    ends(2, &["verify", &to, "--key", &key], &["a private key"]);
    ends(2, &["verify", &folder.at("nothing")], &["read", "nothing"]);
    // The same folder and key give the same archive.
    let again = folder.at("again.tar");
    ends(0, &["bundle", &folder.at("run"), "--key", &key, "--to", &again], &[]);
    assert!(fs::read(&to).unwrap() == fs::read(&again).unwrap());
    let plain = folder.at("plain.tar");
    ends(0, &["bundle", &folder.at("run"), "--to", &plain], &["not signed"]);
    ends(4, &["verify", &plain], &["not checked", "It is not signed"]);
    ends(1, &["verify", &plain, "--key", &public], &["not signed, by this key"]);
    // Keys are private, are not written over, and are in nothing else.
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    ends(2, &["keygen", &key], &["is there already"]);
    fs::remove_file(&key).unwrap();
    ends(2, &["keygen", &key], &["key.pub is there already"]);
    assert!(!Path::new(&key).exists());
}

#[test]
fn flipped_bytes_of_a_whole_bundle_are_found() {
    let (folder, key, to) = bundled("flips");
    let public = format!("{key}.pub");
    let good = fs::read(&to).unwrap();
    let step = good.len() / 40;
    for at in (0..good.len()).step_by(step) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let file = folder.file("flipped.tar", bytes);
        ends(1, &["verify", &file, "--key", &public], &["is altered:\n  "]);
    }
    let file = folder.file("cut.tar", &good[..good.len() - 512]);
    ends(1, &["verify", &file, "--key", &public], &["cut short"]);
}

#[test]
fn what_cannot_be_bundled_is_said_and_leaves_nothing() {
    let (folder, key, to) = bundled("refused");
    let run = folder.at("run");
    let before = names(&folder.0);
    let refused = |needed: &[&str]| {
        ends(2, &["bundle", &run, "--key", &key, "--to", &folder.at("new.tar")], needed);
        assert_eq!(names(&folder.0), before);
    };
    let within = |name: &str| Path::new(&run).join(name);
    fs::copy(&key, within("key")).unwrap();
    refused(&["`key`", "keep keys elsewhere"]);
    fs::remove_file(within("key")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", within("link")).unwrap();
    refused(&["link is neither a file nor a folder"]);
    fs::remove_file(within("link")).unwrap();
    fs::write(within("half.json"), "{ \"verdict\": \"conf").unwrap();
    refused(&["`half.json` is no whole JSON", "cut short"]);
    fs::remove_file(within("half.json")).unwrap();
    fs::write(within("\u{1b}[2J"), "").unwrap();
    refused(&["`\\u{1b}[2J`", "do not print"]);
    fs::remove_file(within("\u{1b}[2J")).unwrap();
    ends(2, &["bundle", &run, "--to", &format!("{run}/in.tar")], &["is within"]);
    ends(2, &["bundle", &run, "--to", &folder.at("no/x.tar")], &["its folder is not there"]);
    let empty = folder.at("empty");
    fs::create_dir(&empty).unwrap();
    let alone = ["bundle", &empty, "--to", &to];
    ends(2, &alone, &["holds no record", "airtight run --out"]);
    ends(2, &["bundle", &run, "--key", &to, "--to", &to], &["read"]);
}

#[test]
fn a_disk_that_fills_up_leaves_the_archive_that_was_there() {
    let (folder, key, to) = bundled("full");
    let before = fs::read(&to).unwrap();
    // A limit on the size of files stands for a full disk: it needs no privileges.
    let script = format!(
        "trap '' XFSZ; ulimit -f 4; exec {} bundle {} --key {key} --to {to}",
        env!("CARGO_BIN_EXE_airtight"),
        folder.at("run"),
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("write") && said.contains("evidence.tar"), "{said}");
    assert!(fs::read(&to).unwrap() == before);
    assert!(!names(&folder.0).iter().any(|name| name.ends_with(".new")), "{said}");
}
