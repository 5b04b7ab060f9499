//! The command line: exit codes, the JSON document, evidence that Wireshark's tools read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ARTICLE: &str = include_str!("../../scenarios/basics/source-address.toml");

fn airtight(arguments: &[&str]) -> Output {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    Command::new(env!("CARGO_BIN_EXE_airtight")).args(arguments).current_dir(root).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fails_with(code: i32, arguments: &[&str], needed: &[&str]) {
    let output = airtight(arguments);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for word in needed {
        assert!(said.contains(word), "{arguments:?} does not say `{word}`: {said}");
    }
}

#[test]
fn a_selector_that_matches_nothing_is_an_error() {
    fails_with(2, &["run", "basics/source-adress"], &["matches no file", "basics/source-address"]);
    fails_with(2, &["list", "nothing-like-it"], &["matches no file"]);
    let folder = Folder::new("empty");
    fails_with(2, &["run", &folder.0.to_string_lossy()], &["holds no scenario"]);
}

#[test]
fn a_misspelt_key_has_its_place_and_a_caret() {
    let folder = Folder::new("misspelt");
    let file = folder.file("s.toml", &ARTICLE.replace("intended =", "intendd ="));
    for command in ["run", "check"] {
        fails_with(2, &[command, &file], &["s.toml:14:1", "^^^^^^^", "did you mean `intended`?"]);
    }
}

#[test]
fn a_large_file_and_a_folder_loop_are_refused() {
    let folder = Folder::new("large");
    let file = folder.file("s.toml", &"#".repeat((1 << 20) + 1));
    fails_with(2, &["check", &file], &["at most 1048576 bytes"]);
    let folder = Folder::new("loop");
    std::os::unix::fs::symlink(&folder.0, folder.0.join("inner")).unwrap();
    fails_with(2, &["check", &folder.0.to_string_lossy()], &["contains itself"]);
}

#[test]
fn a_trap_without_its_decoy_is_inconclusive() {
    let folder = Folder::new("unarmed");
    let decoy = "{ to = \"default\", via = \"uplink\",  metric = 100 },";
    let file = folder.file("s.toml", &ARTICLE.replace(decoy, ""));
    fails_with(4, &["run", &file], &["the trap is not armed", "inconclusive"]);
}

#[test]
fn a_wrong_claim_deviates_and_shows_its_frame() {
    let folder = Folder::new("wrong");
    let claim = "expect  = \"leaked\"\nthrough = \"uplink\"";
    let file = folder.file("s.toml", &ARTICLE.replace(claim, "expect  = \"contained\""));
    let needed = [
        "expected contained, got leaked through uplink",
        "UDP 192.0.2.33:",
        "rerun:",
        "counters agree",
    ];
    fails_with(1, &["run", &file], &needed);
}

#[test]
fn a_waiver_is_strict_both_ways() {
    let folder = Folder::new("waiver");
    let known = |outcome: &str| {
        ARTICLE.replace(
            "expect  = \"leaked\"\nthrough = \"uplink\"",
            &format!(
                "expect = \"contained\"\nknown = {{ outcome = \"{outcome}\", until = \"x\" }}"
            ),
        )
    };
    let file = folder.file("known.toml", &known("leaked"));
    fails_with(0, &["run", &file], &["known leaked uplink", "12 known"]);
    let file = folder.file("stale.toml", &known("silent"));
    fails_with(1, &["run", &file], &["STALE leaked"]);
}

#[test]
fn what_this_kernel_is_not_for_is_skipped_and_never_green() {
    let folder = Folder::new("skipped");
    let file =
        folder.file("s.toml", &ARTICLE.replace("links    =", "kernel = \"<2.6\"\nlinks    ="));
    fails_with(4, &["run", &file], &["12 skipped"]);
    let needs = "needs = [\"program:no-such-program\"]\nlinks    =";
    let file = folder.file("t.toml", &ARTICLE.replace("links    =", needs));
    fails_with(4, &["run", &file], &["12 skipped"]);
}

#[test]
fn the_json_document_holds_every_trial() {
    let output = airtight(&["run", "basics", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let records = document["records"].as_array().unwrap();
    let listed = text(&airtight(&["list", "basics"]).stdout);
    let ids: Vec<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!(ids, listed.lines().collect::<Vec<_>>());
    assert_eq!(document["schema"], 1);
    for record in records {
        let outcome = record["observed"]["outcome"].as_str().unwrap();
        let own = record["frames"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|frame| frame["role"] != "sentinel" && frame["phase"] == "attempt");
        let shows = ["contained", "leaked"].contains(&outcome);
        assert!(!shows || own.count() > 0, "{} shows no frame", record["id"]);
    }
}

#[test]
fn evidence_is_what_wireshark_reads() {
    let folder = Folder::new("evidence");
    let out = folder.0.join("out");
    let id = "basics/source-address::address::v4-udp";
    let output = airtight(&["run", id, "--out", &out.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let stem = "basics_source-address__address__v4-udp";
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join(format!("{stem}.json"))).unwrap()).unwrap();
    assert_eq!(record["verdict"], "conforms");
    let capture = out.join(format!("{stem}.pcapng"));
    tshark_reads(&capture);
}

/// tshark is not ours to install: where it is missing, the file is only read back as pcapng.
fn tshark_reads(capture: &Path) {
    let fields =
        ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment", "-e", "ip.src"];
    let Ok(output) = Command::new("tshark").arg("-r").arg(capture).args(fields).output() else {
        let bytes = fs::read(capture).unwrap();
        assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        return;
    };
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let leak = shown.lines().find(|line| line.contains("LEAK")).expect("no frame is marked");
    assert!(leak.starts_with("uplink\t") && leak.ends_with("192.0.2.17"), "{leak}");
    assert!(shown.contains("airtight: sentinel"), "{shown}");
}

#[test]
fn evidence_that_cannot_be_written_is_an_error() {
    fails_with(2, &["run", "basics/device", "--out", "/proc/no-such"], &["create /proc/no-such"]);
}

#[test]
fn doctor_tells_what_it_tried() {
    fails_with(0, &["doctor"], &["leave the host", "build and judge      yes", "vrf"]);
    // Every kernel has veth pairs here, so a probe that fails at its own scaffold is ours to mend.
    let told = text(&airtight(&["doctor"]).stdout);
    assert!(!told.contains("veth pair"), "{told}");
}

#[test]
fn generated_files_are_current() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    for (file, arguments) in
        [("schema.json", vec!["schema"]), ("REFERENCE.md", vec!["schema", "--reference"])]
    {
        let committed = fs::read_to_string(Path::new(&root).join("scenarios").join(file));
        let current = text(&airtight(&arguments).stdout);
        assert_eq!(committed.unwrap_or_default(), current, "`make generate` writes {file} anew");
    }
}
