//! The scenario language: every broken file has its message, every key changes something, and no
//! text makes the parser or the decoder panic. Needs no privileges.

use std::fs;
use std::path::{Path, PathBuf};

use airtight::capture::decode;
use airtight::plan::{Case, expand};
use airtight::scenario::{KernelRange, parse};
use proptest::prelude::*;

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned())).to_owned()
}

/// `UPDATE=1 cargo test --test language` writes the messages anew; read the difference.
#[test]
fn broken_files_have_their_messages() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("fixtures/invalid"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    for path in files {
        count += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let shown = format!("fixtures/invalid/{name}");
        let bytes = fs::read(&path).unwrap();
        let Err(message) = parse(name.trim_end_matches(".toml"), &shown, &bytes) else {
            wrong.push(format!("{name} is accepted"));
            continue;
        };
        let message = format!("{message}\n");
        for needed in [format!("{shown}:"), "^".to_owned(), "help:".to_owned()] {
            if !message.contains(&needed) && name != "empty-file.toml" {
                wrong.push(format!("{name}: the message lacks `{needed}`:\n{message}"));
            }
        }
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &message).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != message {
            wrong.push(format!("{name}: the message has changed:\n{message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 35, "only {count} broken files");
}

const BASE: &str = r#"
title = "claim"
why = "reason"
refs = ["here"]
links = ["a", "b", "c"]
intended = ["a"]
routes = [{ to = "default", via = "b", metric = 1, table = 254 }]
neighbours = "permanent"
needs = ["ipv6"]
kernel = ">=5.7"
[control]
unpinned = "b"
[matrix]
family = ["v4", "v6"]
transport = ["udp", "tcp"]
[[case]]
name = "one"
expect = "leaked"
through = "b"
source = "a"
needs = ["vrf"]
kernel = "<7.0"
only = { family = ["v4"], transport = ["udp"] }
known = { outcome = "silent", until = "there" }
[[case]]
name = "two"
expect = "refused"
errno = "ENODEV"
[[case]]
name = "three"
expect = "contained"
carries = "data"
request = { by = "a", to = "a" }
[[case]]
name = "four"
expect = "delivered"
inject = { by = "a", to = "a" }
[[case]]
name = "pins"
expect = "contained"
pin = { device = "a", device_name = "x", ifreq = "a", index = "a", address = "a" }
"#;

/// A key, and an edit of [`BASE`] that changes nothing but its value, or adds or removes it.
const EDITS: &[(&str, &str, &str)] = &[
    ("title", "title = \"claim\"", "title = \"other\""),
    ("why", "why = \"reason\"", "why = \"other\""),
    ("refs", "refs = [\"here\"]", "refs = []"),
    ("links", "[\"a\", \"b\", \"c\"]", "[\"a\", \"b\", \"d\"]"),
    ("intended", "intended = [\"a\"]", "intended = [\"a\", \"c\"]"),
    (
        "routes",
        "routes = [{ to = \"default\", via = \"b\", metric = 1, table = 254 }]",
        "routes = []",
    ),
    ("routes.to", "to = \"default\"", "to = \"{target}\""),
    ("routes.via", "via = \"b\"", "via = \"c\""),
    ("routes.dev", "via = \"b\"", "dev = \"b\""),
    ("routes.metric", "metric = 1", "metric = 2"),
    ("routes.table", "table = 254", "table = 100"),
    ("neighbours", "\"permanent\"", "\"learned\""),
    ("needs", "needs = [\"ipv6\"]", "needs = []"),
    ("kernel", ">=5.7", ">=5.8"),
    ("control", "unpinned = \"b\"", "unpinned = \"c\""),
    ("control.unpinned", "unpinned = \"b\"", "unpinned = \"c\""),
    ("matrix", "family = [\"v4\", \"v6\"]", "family = [\"v4\"]"),
    ("matrix.family", "family = [\"v4\", \"v6\"]", "family = [\"v4\"]"),
    ("matrix.transport", "transport = [\"udp\", \"tcp\"]", "transport = [\"udp\"]"),
    ("case", "[[case]]\nname = \"two\"\nexpect = \"refused\"\nerrno = \"ENODEV\"\n", ""),
    ("case.name", "\"two\"", "\"other\""),
    ("case.pin", "pin = {", "# pin = {"),
    ("case.pin.device", "device = \"a\"", "device = \"b\""),
    ("case.pin.device_name", "device_name = \"x\"", "device_name = \"y\""),
    ("case.pin.ifreq", "ifreq = \"a\"", "ifreq = \"b\""),
    ("case.pin.index", "index = \"a\"", "index = \"b\""),
    ("case.pin.address", "address = \"a\"", "address = \"b\""),
    ("case.request", "request = {", "# request = {"),
    ("case.request.by", "request = { by = \"a\"", "request = { by = \"b\""),
    ("case.request.to", "request = { by = \"a\", to = \"a\"", "request = { by = \"a\", to = \"b\""),
    ("case.inject", "inject = { by = \"a\", to = \"a\"", "inject = { by = \"b\", to = \"b\""),
    ("case.inject.by", "inject = { by = \"a\"", "inject = { by = \"b\""),
    ("case.inject.to", "inject = { by = \"a\", to = \"a\"", "inject = { by = \"a\", to = \"b\""),
    ("case.expect", "expect = \"delivered\"", "expect = \"refused\""),
    ("case.through", "through = \"b\"", "through = \"c\""),
    ("case.source", "source = \"a\"", "source = \"b\""),
    ("case.errno", "ENODEV", "EPERM"),
    ("case.carries", "carries = \"data\"", "carries = \"neighbour\""),
    ("case.only", "only = {", "# only = {"),
    ("case.only.family", "only = { family = [\"v4\"]", "only = { family = [\"v6\"]"),
    ("case.only.transport", "transport = [\"udp\"] }", "transport = [\"tcp\"] }"),
    ("case.needs", "needs = [\"vrf\"]", "needs = []"),
    ("case.kernel", "<7.0", "<7.1"),
    ("case.known", "known = {", "# known = {"),
    ("case.known.outcome", "outcome = \"silent\"", "outcome = \"contained\""),
    ("case.known.until", "\"there\"", "\"elsewhere\""),
];

/// The cases of a text, without what every edit moves: the lines.
fn cases(text: &str) -> Vec<Case> {
    let scenario = parse("s", "s.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let mut cases = expand(&scenario);
    cases.iter_mut().for_each(|case| case.line = 0);
    cases
}

#[test]
fn every_key_changes_something() {
    let base = cases(BASE);
    for (key, from, to) in EDITS {
        assert!(BASE.contains(from), "the edit of `{key}` edits nothing");
        assert_ne!(base, cases(&BASE.replacen(from, to, 1)), "`{key}` changes nothing");
    }
}

#[cfg(feature = "cli")]
#[test]
fn no_key_is_without_its_edit() {
    let edited: Vec<&str> = EDITS.iter().map(|(key, ..)| *key).collect();
    for key in airtight::schema::keys() {
        assert!(edited.contains(&key.as_str()), "`{key}` has no test that it changes something");
    }
}

#[test]
fn placeholders_follow_the_family() {
    let text = BASE.replace("to = \"default\"", "to = \"{b.network}\"");
    let networks: Vec<String> = cases(&text)
        .iter()
        .map(|case| format!("{}/{}", case.routes[0].to.0, case.routes[0].to.1))
        .collect();
    assert!(networks.contains(&"192.0.2.32/28".to_owned()), "{networks:?}");
    assert!(networks.contains(&"2001:db8:0:2::/64".to_owned()), "{networks:?}");
    let literal = BASE.replace("to = \"default\"", "to = \"198.51.100.0/24\"");
    for case in cases(&literal) {
        assert_eq!(case.routes.len(), usize::from(case.target.is_ipv4()));
    }
}

#[test]
fn kernel_ranges_are_half_open() {
    let range = KernelRange::parse(">=4.19, <6.1").unwrap();
    for (release, within) in
        [("4.19.0", true), ("6.0.99-x", true), ("6.1.0", false), ("4.18.7", false), ("?", false)]
    {
        assert_eq!(range.contains(release), within, "{release}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases_of_each(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_decoder_never_panics(frame in prop::collection::vec(any::<u8>(), 0..200), kind in 0..4usize) {
        let mut frame = frame;
        let kinds: [[u8; 2]; 4] = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]];
        if frame.len() > 14 {
            frame[12..14].copy_from_slice(&kinds[kind]);
        }
        let _ = decode(&frame).to_string();
    }

    #[test]
    fn the_parser_never_panics(text in "\\PC{0,200}", at in 0..BASE.len(), length in 0..40usize) {
        let _ = parse("s", "s.toml", text.as_bytes()).map_err(|error| error.to_string());
        let mut edited = BASE.as_bytes().to_vec();
        let end = (at + length).min(edited.len());
        edited.splice(at..end, text.bytes().take(8));
        if let Ok(scenario) = parse("s", "s.toml", &edited).map_err(|error| error.to_string()) {
            let _ = expand(&scenario);
        }
    }
}

/// How many inputs: some in every run, a million with `FUZZ=1000000`.
fn cases_of_each() -> u32 {
    std::env::var("FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000)
}
