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
    // Without privileges there are no cgroups of ours, and the trials under such a guard are skipped.
    for record in records.iter().filter(|record| record["verdict"] != "skipped") {
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

/// The trials whose scripts are run: a pin, a route, a rule, a frame and a step of each kind.
const SCRIPTED: &[&str] = &[
    "basics/source-address::address::v6-tcp",
    "pins/packet-info-overrides::v4::v4-udp",
    "pins/packet-info-overrides::v6::v6-ping",
    "pins/unicast-if::connection::v4-tcp",
    "pins/xdp::bound-to-the-other::v4-xdp",
    "destinations/scope::link-local::v6-raw",
    "destinations/multicast-v4::address::v4-udp",
    "destinations/fragments::device::v6-udp",
    "routes/unreachable::device::v4-udp",
    "routes/advertised-route::none::v6-udp",
    "routes/multipath::none::v4-udp",
    "rules/from::address::v6-tcp",
    "kernel/reset::closed-port::v4-tcp",
    "kernel/request-acknowledgement::v4::v4-tcp",
    "kernel/time-wait::v6::v6-tcp",
    "kernel/mptcp-join::device::v4-mptcp",
    "kernel/membership::index-of-the-other::v4-udp",
    "kernel/shared-port::device-after-listen::v4-tcp",
    "order/disconnect::disconnected::v6-udp",
    "order/unprivileged::changed::v4-udp",
    "order/corked::source-of-raw::v4-raw",
    "order/link-down::address::v6-udp",
    "order/link-down::device-up-again::v6-tcp",
    "order/no-carrier::device::v4-udp",
    "order/renamed::swapped-before::v6-udp",
    "order/deleted::same-index::v4-tcp",
    "order/deleted::same-index::v6-udp",
    "order/another-namespace::device-passed::v4-udp",
    "order/another-namespace::opened-elsewhere-v6::v6-udp",
    "ingress/injected-segment::address::v4-tcp",
    "ingress/multicast::device::v6-udp",
];

/// A script needs ip, python3 and unshare, which are not ours to install: where they are missing,
/// only its syntax is tried.
#[test]
fn scripts_come_to_the_same_without_airtight() {
    let tools = [["ip", "-V"], ["python3", "-V"], ["unshare", "-V"]];
    let runs = tools.iter().all(|[tool, flag]| Command::new(tool).arg(flag).output().is_ok());
    for id in SCRIPTED {
        let script = airtight(&["explain", id, "--script"]);
        assert_eq!(script.status.code(), Some(0), "{id}: {}", text(&script.stderr));
        let record = airtight(&["run", id, "--format", "json"]);
        let document: serde_json::Value = serde_json::from_slice(&record.stdout).unwrap();
        if document["records"][0]["verdict"] == "skipped" {
            continue;
        }
        let observed = &document["records"][0]["observed"];
        let outcome = observed["outcome"].as_str().unwrap();
        let more = match (outcome, observed["errno"].as_str()) {
            ("leaked", _) => format!(" through {}", observed["through"][0].as_str().unwrap()),
            ("refused", Some(errno)) => format!(" with {errno}"),
            _ => String::new(),
        };
        let root = nix::unistd::geteuid().is_root();
        let flags = if root { "-nm" } else { "-rnm" };
        let mut shell = if runs {
            let mut shell = Command::new("unshare");
            shell.args([flags, "bash"]);
            shell
        } else {
            let mut shell = Command::new("bash");
            shell.arg("-n");
            shell
        };
        let output = with_input(&mut shell, &script.stdout);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{id}: {said}");
        let expected = format!("outcome: {outcome}{more}");
        assert!(!runs || said.lines().any(|line| line == expected), "{id}: {expected}\n{said}");
    }
}

fn with_input(command: &mut Command, input: &[u8]) -> Output {
    use std::io::Write;
    use std::process::Stdio;
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn explain_tells_the_claim_the_decision_and_the_frame() {
    let id = "basics/source-address::address::v4-udp";
    let needed = [
        "A bound source address does not choose the link",
        "ip route add default via 192.0.2.34 dev uplink metric 100",
        "ip route get 203.0.113.9 from 192.0.2.17",
        "203.0.113.9 via 192.0.2.34 dev uplink",
        "UDP 192.0.2.17:",
        "<- leak",
        "leaked through uplink: conforms",
    ];
    fails_with(0, &["explain", id], &needed);
    fails_with(2, &["explain", "basics/device"], &["one is explained at a time"]);
}

#[test]
fn a_product_is_put_through_the_traps() {
    let pinned = ["run", "--", "sh", "-c", PINNED, "sh", "{intended.device}", "{target}"];
    fails_with(0, &pinned, &["41 conform"]);
    let two = ["run", "product/better-metric", "product/link-down"];
    let wrong = [&two[..], &["--", "sh", "-c", PINNED, "sh", "lo", "{target}"]].concat();
    let words = ["0 conform", "sent nothing either", "rerun: airtight run product/", "-- sh -c"];
    fails_with(1, &wrong, &words);
    // The message says which call is missing, and which route took it.
    let words = [
        "held by nothing",
        "missing before it sends: setsockopt(SOL_SOCKET, SO_BINDTODEVICE",
        "ip route get",
    ];
    let unpinned = ["run", "product/better-metric", "--", "sh", "-c", UNPINNED, "sh", "{target}"];
    fails_with(1, &unpinned, &words);
    let daemon = ["run", "product/better-metric", "--ready", "port:8080", "--", "socat"];
    let listen = ["TCP6-LISTEN:8080,fork,so-bindtodevice={intended.device}", "EXEC:cat"];
    fails_with(0, &[&daemon[..], &listen].concat(), &["2 conform"]);
    fails_with(2, &["run", "--ready", "soon", "--", "true"], &["accepted: port:NUMBER"]);
    // A program that does nothing has not kept to anything.
    fails_with(1, &["run", "--", "true"], &["expected contained, got silent", "0 conform"]);
    fails_with(4, &["run", "--", "/no/such/program"], &["was not started", "0 conform"]);
    fails_with(2, &["run", "product"], &["name it: airtight run product -- PROGRAM"]);
    fails_with(2, &["run", "basics", "--", "true"], &["has a sender of its own"]);
}

/// A datagram by a socket bound to the device in `$1`, and its answer: a product in one line.
const PINNED: &str = "python3 -c \"import socket, sys; d, t = sys.argv[1:]; \
    s = socket.socket(socket.AF_INET6 if ':' in t else socket.AF_INET, socket.SOCK_DGRAM); \
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, d.encode()); s.settimeout(5); \
    s.sendto(b'x', (t, 7)); s.recv(9)\" \"$1\" \"$2\"";

/// The same without the pin.
const UNPINNED: &str = "python3 -c \"import socket, sys; t = sys.argv[1]; \
    s = socket.socket(socket.AF_INET6 if ':' in t else socket.AF_INET, socket.SOCK_DGRAM); \
    s.settimeout(5); s.sendto(b'x', (t, 7)); s.recv(9)\" \"$1\"";

#[test]
fn init_adds_a_gate_and_touches_nothing() {
    let folder = Folder::new("init");
    let init = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_airtight"));
        let output = command.arg("init").current_dir(&folder.0).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(init().contains("wrote  egress/first.toml"));
    assert!(init().contains("kept   egress/first.toml"));
    fails_with(0, &["check", &folder.0.join("egress").to_string_lossy()], &["1 scenario"]);
    // A Rust package gets a test of its own.
    folder.file("Cargo.toml", "[package]\nname = \"gadget\"\n");
    fs::create_dir(folder.0.join("tests")).unwrap();
    folder.file("tests/egress.rs", "mine");
    let told = init();
    assert!(
        told.contains("kept   tests/egress.rs") && told.contains("wrote  Cargo.toml"),
        "{told}"
    );
    assert_eq!(fs::read_to_string(folder.0.join("tests/egress.rs")).unwrap(), "mine");
    let manifest = fs::read_to_string(folder.0.join("Cargo.toml")).unwrap();
    assert!(manifest.starts_with("[package]\nname = \"gadget\"\n"), "{manifest}");
    assert!(manifest.contains("name = \"egress\"\nharness = false"), "{manifest}");
    assert!(init().contains("kept   Cargo.toml"));
}

#[test]
fn the_table_leads_from_pins_to_scenarios() {
    let output = airtight(&["table", "routes/better-metric", "kernel/reset"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = text(&output.stdout);
    for needed in [
        "| pin \\ conflict | a better metric |",
        "| address | [**leaks**](../scenarios/routes/better-metric.toml#L",
        "| device | [contained](../scenarios/routes/better-metric.toml#L",
        "RST of a closed port",
        "| C1 | no pin | proved | [routes/better-metric](../scenarios/routes/better-metric.toml) |",
    ] {
        assert!(page.contains(needed), "the table lacks `{needed}`: {page}");
    }
}

#[test]
fn generated_files_are_current() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    for (file, arguments) in [
        ("scenarios/schema.json", vec!["schema"]),
        ("scenarios/REFERENCE.md", vec!["schema", "--reference"]),
        ("reports/schema.json", vec!["schema", "--result"]),
    ] {
        let committed = fs::read_to_string(Path::new(&root).join(file));
        let current = text(&airtight(&arguments).stdout);
        // Not `assert_eq!`, which would print both files.
        assert!(committed.unwrap_or_default() == current, "`make generate` writes {file} anew");
    }
}
