//! The scenario language: every broken file has its message, every key changes something, and no
//! text makes the parser or the decoder panic. Needs no privileges.

mod edits;

use std::fs;
use std::path::{Path, PathBuf};

use airtight::capture::decode;
use airtight::coverage;
use airtight::plan::{Case, expand};
use airtight::scenario::{KernelRange, parse};
use edits::{ADVERSARY, BASE};
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
    assert!(count >= 80, "only {count} broken files");
}

/// The cases of a text, without what every edit moves: the lines.
fn cases(text: &str) -> Vec<Case> {
    let scenario = parse("s", "s.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let mut cases = expand(&scenario);
    cases.iter_mut().for_each(|case| case.line = 0);
    cases
}

#[test]
fn every_key_changes_something() {
    for (text, edits) in edits::ALL {
        let base = cases(text);
        for (key, from, to) in *edits {
            assert!(text.contains(from), "the edit of `{key}` edits nothing");
            assert_ne!(base, cases(&text.replacen(from, to, 1)), "`{key}` changes nothing");
        }
    }
}

#[cfg(feature = "cli")]
#[test]
fn no_key_is_without_its_edit() {
    let edited: Vec<&str> =
        edits::ALL.iter().flat_map(|(_, edits)| *edits).map(|(key, ..)| *key).collect();
    for key in airtight::schema::keys() {
        assert!(edited.contains(&key.as_str()), "`{key}` has no test that it changes something");
    }
}

/// Each row of the catalogue that is due has a scenario, and each scenario a row: the rows are in
/// `scenarios/ROWS.md`, and a scenario names its own in `refs`.
#[test]
fn every_row_has_a_scenario_and_every_scenario_a_row() {
    let scenarios = airtight::catalogue::embedded().unwrap();
    let cases: Vec<Case> = scenarios.iter().flat_map(expand).collect();
    let refs = cases.iter().map(|case| case.refs.as_slice());
    let untried: Vec<&str> = coverage::untried(refs).iter().map(|row| row.id).collect();
    assert!(untried.is_empty(), "rows without a trial: {untried:?}");
    for scenario in &scenarios {
        let refs = &scenario.file().refs;
        let unknown = coverage::unknown(refs);
        assert!(unknown.is_empty(), "{} names rows that are none: {unknown:?}", scenario.name());
        let named = coverage::named(refs).count() > 0;
        // The article's own claims, programs and the traps for products are no rows.
        let article = refs.iter().any(|entry| entry == "the founding article")
            || ["programs/", "product/"].iter().any(|own| scenario.name().starts_with(own));
        assert!(named || article, "{} names no row of the catalogue", scenario.name());
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
    let literal = BASE.replacen("to = \"default\"", "to = \"198.51.100.0/24\"", 1);
    for case in cases(&literal) {
        assert_eq!(case.routes.len(), 3 + usize::from(case.target.is_ipv4()));
    }
}

#[test]
fn lines_are_written_out() {
    let case = cases(ADVERSARY).remove(0);
    let run: Vec<String> = case.all_lines().map(|line| line.words.join(" ")).collect();
    assert_eq!(run, ["ip link", "ip neigh add 203.0.113.9 lladdr 02:00:00:00:02:02 dev a"]);
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
