//! Whether an archive is what was signed, and where it is not. Nothing is extracted.

use std::collections::BTreeMap;
use std::ops::Range;

use ed25519_dalek::VerifyingKey;

use super::archive::{self, Part};
use super::statement::{self, TestResult};
use super::{ROOT, RUN, SIGNED, SUMS, UNSIGNED, digest, shown, unfit};

/// What was found out about an archive.
#[derive(Debug, Default)]
pub struct Verified<'a> {
    /// What was altered, in words. Empty: every byte is as it was written.
    pub altered: Vec<String>,
    /// The name of the key that the archive says signed it; nothing where it is not signed.
    pub keyid: Option<String>,
    /// Whether the signature was checked by a key, and is right.
    pub authentic: bool,
    /// What the statement says was found.
    pub result: Option<TestResult>,
    /// The run's files: name and contents.
    pub files: Vec<(String, &'a [u8])>,
}

/// A file of an archive, by its name below the root.
struct Entry<'a> {
    name: String,
    all: Range<usize>,
    bytes: &'a [u8],
}

/// Checks every byte of `archive`: its spelling, the list against the files, the statement against
/// the list, and by `key` the signature.
pub fn verify<'a>(archive: &'a [u8], key: Option<&VerifyingKey>) -> Verified<'a> {
    let mut verified = Verified::default();
    let (entries, damaged) = entries(archive, &mut verified.altered);
    spelling(archive, &entries, &mut verified.altered);
    let sums = entries.iter().find(|entry| entry.name == SUMS);
    said(&entries, &damaged, sums.map(|entry| entry.bytes), key, &mut verified);
    let listed = sums.map(|entry| list(entry.bytes, &mut verified.altered)).unwrap_or_default();
    damages(&entries, &damaged, &listed, &mut verified.altered);
    files(&entries, &damaged, &listed, &mut verified);
    order(&entries, &mut verified.altered);
    verified.authentic &= verified.altered.is_empty();
    verified
}

/// The files of the archive, and where it is damaged: the number of files before it, and the bytes.
fn entries<'a>(
    archive: &'a [u8],
    altered: &mut Vec<String>,
) -> (Vec<Entry<'a>>, Vec<(usize, Range<usize>)>) {
    let mut entries = Vec::new();
    let mut damaged = Vec::new();
    for part in archive::walk(archive) {
        match part {
            Part::File { name: None, all, .. } => {
                altered.push(format!("the name of the file at byte {} is no text", all.start));
            }
            Part::File { name: Some(name), all, bytes } => match name.strip_prefix(ROOT) {
                Some(below) if unfit(below).is_none() => {
                    entries.push(Entry { name: below.to_owned(), all, bytes });
                }
                below => {
                    let wrong = below.and_then(unfit).unwrap_or("it is not in the bundle's folder");
                    altered.push(format!("{} was added: {wrong}", shown(&name)));
                }
            },
            Part::Other { kind, name } => {
                altered.push(format!("{} is {kind}, and a bundle holds files alone", shown(&name)));
            }
            Part::CutShort { name } => {
                altered.push(format!("the archive is cut short within {}", shown(&name)));
            }
            Part::Damaged(range) => damaged.push((entries.len(), range)),
            Part::End(wrong) => altered.push(wrong),
        }
    }
    (entries, damaged)
}

/// Whether each file is spelled as [`archive::entry`] spells it: headers and padding.
fn spelling(archive: &[u8], entries: &[Entry], altered: &mut Vec<String>) {
    for Entry { name, all, bytes } in entries {
        let spelled = archive::entry(&format!("{ROOT}{name}"), bytes).unwrap_or_default();
        let found = &archive[all.start..all.end.min(archive.len())];
        if spelled == found {
            continue;
        }
        let same = spelled.iter().zip(found).take_while(|(a, b)| a == b).count();
        let header = spelled.len() - spelled.len().min(bytes.len().next_multiple_of(512));
        let what = if same < header { "the header of" } else { "the padding behind" };
        let at = all.start + same;
        altered.push(format!("{what} {} is altered at byte {at} of the archive", shown(name)));
    }
}

/// What the statement says, and whether it is signed.
fn said(
    entries: &[Entry],
    damaged: &[(usize, Range<usize>)],
    sums: Option<&[u8]>,
    key: Option<&VerifyingKey>,
    verified: &mut Verified,
) {
    let Some(first) =
        entries.iter().find(|entry| [SIGNED, UNSIGNED].contains(&entry.name.as_str()))
    else {
        if damaged.iter().all(|(before, _)| *before > 0) {
            verified.altered.push("the statement is missing".to_owned());
        }
        return;
    };
    let name = shown(&first.name);
    let statement = if first.name == SIGNED {
        match statement::open(first.bytes) {
            Ok(opened) => {
                verified.keyid = Some(opened.keyid.clone());
                match key.map(|key| opened.check(key)) {
                    Some(Ok(())) => verified.authentic = true,
                    Some(Err(error)) => verified.altered.push(format!("{name}: {error:#}")),
                    None => {}
                }
                opened.statement
            }
            Err(error) => return verified.altered.push(format!("{name} is altered: {error:#}")),
        }
    } else {
        if key.is_some() {
            verified.altered.push("the archive is not signed, by this key or any other".to_owned());
        }
        first.bytes.to_vec()
    };
    match statement::read(&statement) {
        Ok((sha256, result)) => {
            verified.result = Some(result);
            if sums.is_some_and(|sums| digest(sums) != sha256) {
                verified
                    .altered
                    .push(format!("`{SUMS}` is altered: it is not what {name} is about"));
            }
        }
        Err(error) => verified.altered.push(format!("{name} is altered: {error:#}")),
    }
}

/// What the list says: name to digest.
fn list(sums: &[u8], altered: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut listed = BTreeMap::new();
    let text = String::from_utf8_lossy(sums);
    let mut before = String::new();
    for line in text.lines() {
        let hex = |word: &str| {
            word.len() == 64 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match line.split_once("  ") {
            Some((sha256, name)) if hex(sha256) && name > before.as_str() => {
                before = name.to_owned();
                listed.insert(name.to_owned(), sha256.to_owned());
            }
            _ => altered.push(format!("`{SUMS}` is altered: it has the line {}", shown(line))),
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        altered.push(format!("`{SUMS}` is altered: its last line has no end"));
    }
    listed
}

/// Says which files' headers are damaged: those that the list has behind the file before.
fn damages(
    entries: &[Entry],
    damaged: &[(usize, Range<usize>)],
    listed: &BTreeMap<String, String>,
    altered: &mut Vec<String>,
) {
    for (before, range) in damaged {
        let name = lost(entries, *before, listed);
        let name = name.map_or_else(|| "a file".to_owned(), |name| shown(&name));
        altered.push(format!(
            "the header of {name} is altered, within bytes {} to {} of the archive",
            range.start, range.end
        ));
    }
}

/// The name of the file that must stand behind the first `before` files.
fn lost(entries: &[Entry], before: usize, listed: &BTreeMap<String, String>) -> Option<String> {
    let fixed = |name: &str| name == SUMS || name == SIGNED || name == UNSIGNED;
    match before.checked_sub(1).map(|at| entries[at].name.as_str()) {
        None => Some("the statement".to_owned()),
        Some(SIGNED | UNSIGNED) => Some(SUMS.to_owned()),
        Some(last) => {
            let last = if fixed(last) { "" } else { last };
            listed.keys().find(|name| name.as_str() > last).cloned()
        }
    }
}

/// The files against the list.
fn files<'a>(
    entries: &[Entry<'a>],
    damaged: &[(usize, Range<usize>)],
    listed: &BTreeMap<String, String>,
    verified: &mut Verified<'a>,
) {
    let run = |entry: &&Entry| ![SUMS, SIGNED, UNSIGNED].contains(&entry.name.as_str());
    for entry in entries.iter().filter(run) {
        match listed.get(&entry.name) {
            None => verified.altered.push(format!("{} was added", shown(&entry.name))),
            Some(sha256) if *sha256 != digest(entry.bytes) => {
                verified
                    .altered
                    .push(format!("the contents of {} are altered", shown(&entry.name)));
            }
            Some(_) => {}
        }
        if let Some(name) = entry.name.strip_prefix(RUN) {
            verified.files.push((name.to_owned(), entry.bytes));
        }
    }
    let hidden: Vec<Option<String>> =
        damaged.iter().map(|(before, _)| lost(entries, *before, listed)).collect();
    for name in listed.keys() {
        let there = entries.iter().any(|entry| entry.name == *name);
        if !there && !hidden.iter().flatten().any(|hidden| hidden == name) {
            verified.altered.push(format!("{} was removed", shown(name)));
        }
    }
    let sums = entries.iter().any(|entry| entry.name == SUMS);
    if !sums && !hidden.iter().flatten().any(|hidden| hidden == SUMS) {
        verified.altered.push(format!("`{SUMS}` was removed"));
    }
}

/// The order of the files: the statement, the list, then by name, each once.
fn order(entries: &[Entry], altered: &mut Vec<String>) {
    let rank = |entry: &Entry| match entry.name.as_str() {
        SIGNED | UNSIGNED => 0,
        SUMS => 1,
        _ => 2,
    };
    for pair in entries.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        if a.name == b.name {
            altered.push(format!("{} stands twice", shown(&a.name)));
        } else if (rank(a), &a.name) >= (rank(b), &b.name) || rank(b) == 0 {
            altered.push(format!("{} stands behind {}", shown(&b.name), shown(&a.name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{File, SigningKey, VerifyingKey, make};
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn result() -> TestResult {
        TestResult {
            result: "PASSED".to_owned(),
            configuration: Vec::new(),
            passed_tests: vec!["basics/sample::device::v4-udp".to_owned()],
            warned_tests: Vec::new(),
            failed_tests: Vec::new(),
        }
    }

    const LONG: &str = "a-folder/of-a-name-that-no-header-holds-and-that-needs-an-entry-of-its-own/\
                        so-that-there-are-two-headers-for-one-file.json";

    fn files() -> Vec<File> {
        let file = |name: &str, bytes: &[u8]| File { name: name.to_owned(), bytes: bytes.to_vec() };
        vec![file("b.json", b"{}"), file("a.pcapng", &[9; 600]), file(LONG, b""), file("c", b"x")]
    }

    fn bundle() -> Vec<u8> {
        make(files(), result(), Some(&key())).unwrap()
    }

    fn altered(archive: &[u8], key: Option<&VerifyingKey>) -> Vec<String> {
        let verified = verify(archive, key);
        assert!(verified.altered.is_empty() || !verified.authentic);
        verified.altered
    }

    /// What is altered in `archive`, signed by our key; each of `needed` must be among it.
    fn check(archive: &[u8], needed: &[&str]) {
        let found = altered(archive, Some(&key().verifying_key()));
        assert!(!found.is_empty(), "{needed:?}: nothing was found");
        for word in needed {
            assert!(found.iter().any(|said| said.contains(word)), "no `{word}`: {found:#?}");
        }
    }

    /// An archive of these parts, each a file spelled as it must be.
    fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
        [parts.concat(), archive::END.to_vec()].concat()
    }

    /// The parts of the bundle: the statement, the list, the files.
    fn parts() -> Vec<Vec<u8>> {
        let bundle = bundle();
        let parts = archive::walk(&bundle).into_iter().map(|part| match part {
            Part::File { all, .. } => bundle[all].to_vec(),
            other => panic!("{other:?}"),
        });
        parts.collect()
    }

    #[test]
    fn a_bundle_is_intact_and_the_same_each_time() {
        let mut again = files();
        again.reverse();
        assert_eq!(bundle(), make(again, result(), Some(&key())).unwrap());
        let bundle = bundle();
        let verified = verify(&bundle, Some(&key().verifying_key()));
        assert_eq!(verified.altered, Vec::<String>::new());
        assert!(verified.authentic);
        assert_eq!(verified.result, Some(result()));
        let names: Vec<&str> = verified.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [LONG, "a.pcapng", "b.json", "c"]);
        // Without the key nobody's word is taken for it.
        let verified = verify(&bundle, None);
        assert!(verified.altered.is_empty() && !verified.authentic);
    }

    #[test]
    fn every_flipped_byte_is_found_and_its_file_named() {
        let bundle = bundle();
        let key = key().verifying_key();
        let mut owner = vec!["end of the archive"; bundle.len()];
        for part in archive::walk(&bundle) {
            let Part::File { name: Some(name), all, .. } = part else { panic!("a file") };
            let below = name.strip_prefix(ROOT).unwrap();
            let name = ["statement", SUMS, LONG, "a.pcapng", "b.json", "run/c"]
                .into_iter()
                .find(|known| below.contains(known));
            owner[all].fill(name.unwrap());
        }
        for at in 0..bundle.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut changed = bundle.clone();
                changed[at] ^= flip;
                let found = altered(&changed, Some(&key));
                let named = found.iter().any(|said| said.contains(owner[at]));
                assert!(named, "byte {at} ^ {flip:#x} of {}: {found:#?}", owner[at]);
            }
        }
    }

    #[test]
    fn every_cut_is_found() {
        let bundle = bundle();
        let key = key().verifying_key();
        for length in 0..bundle.len() {
            assert!(!altered(&bundle[..length], Some(&key)).is_empty(), "{length} bytes");
        }
        for more in [1, 512, 1024, 5000] {
            check(&[bundle.clone(), vec![0; more]].concat(), &["behind the end"]);
            check(&[bundle.clone(), vec![1; more]].concat(), &["behind the end"]);
        }
        check(&[bundle.clone(), bundle.clone()].concat(), &["behind the end"]);
    }

    #[test]
    fn what_is_added_removed_doubled_or_moved_is_named() {
        let [statement, sums, long, a, b, c] = parts().try_into().unwrap();
        let six = [&statement, &sums, &long, &a, &b, &c];
        let with =
            |order: &[usize]| archive(&order.iter().map(|at| six[*at].clone()).collect::<Vec<_>>());
        assert_eq!(with(&[0, 1, 2, 3, 4, 5]), bundle());
        check(&with(&[0, 1, 2, 3, 5]), &["`run/b.json` was removed"]);
        check(&with(&[0, 1, 2, 3, 4, 4, 5]), &["`run/b.json` stands twice"]);
        check(&with(&[0, 1, 2, 4, 3, 5]), &["`run/a.pcapng` stands behind `run/b.json`"]);
        check(&with(&[1, 0, 2, 3, 4, 5]), &["`statement.dsse.json` stands behind"]);
        check(&with(&[1, 2, 3, 4, 5]), &["the statement is missing"]);
        check(&with(&[0, 2, 3, 4, 5]), &["`SHA256SUMS` was removed", "`run/a.pcapng` was added"]);
        check(&with(&[]), &["the statement is missing"]);
        check(b"", &["cut short"]);
        check(b"no archive at all", &["end of the archive is altered"]);
        let added = |name: &str| {
            let more = archive::entry(name, b"x").unwrap();
            archive(&[&six[..], &[&more]].concat().into_iter().cloned().collect::<Vec<_>>())
        };
        check(&added("airtight-evidence/run/d"), &["`run/d` was added"]);
        check(
            &added("elsewhere/d"),
            &["`elsewhere/d` was added: it is not in the bundle's folder"],
        );
        let bidi = added("airtight-evidence/run/\u{202e}d\u{1b}[2J");
        check(&bidi, &["\\u{202e}d\\u{1b}[2J` was added: its name has"]);
    }

    #[test]
    fn names_that_lead_elsewhere_and_links_are_named() {
        // The writer takes no such name, so the header is forged.
        let forged = |name: &[u8], kind: tar::EntryType| {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o644);
            if kind != tar::EntryType::Regular {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            archive(&[parts(), vec![header.as_bytes().to_vec()]].concat())
        };
        let file = tar::EntryType::Regular;
        check(&forged(b"airtight-evidence/run/../../x", file), &["leads elsewhere"]);
        check(&forged(b"/etc/cron.d/x", file), &["`/etc/cron.d/x` was added"]);
        check(&forged(b"airtight-evidence//etc/x", file), &["begins at the root"]);
        check(&forged(b"airtight-evidence/run/\xff", file), &["is no text"]);
        for (kind, word) in [
            (tar::EntryType::Symlink, "a symbolic link"),
            (tar::EntryType::Link, "a hard link"),
            (tar::EntryType::Directory, "a folder"),
            (tar::EntryType::Fifo, "a pipe"),
            (tar::EntryType::XHeader, "an entry that no file"),
        ] {
            check(&forged(b"airtight-evidence/run/x", kind), &["`airtight-evidence/run/x`", word]);
        }
    }

    #[test]
    fn a_forged_list_and_another_key_are_named() {
        let mut forged = files();
        forged[0].bytes = b"[]".to_vec();
        let other = SigningKey::from_bytes(&[8; 32]);
        // Everything made anew by somebody else.
        let by_other = make(forged.clone(), result(), Some(&other)).unwrap();
        check(&by_other, &["it is not signed by this key"]);
        check(&make(forged.clone(), result(), None).unwrap(), &["not signed, by this key"]);
        // The signed statement on top of another list.
        let mut mixed = make(forged, result(), Some(&key())).unwrap();
        let statement = &parts()[0];
        mixed[..statement.len()].copy_from_slice(statement);
        check(&mixed, &["`SHA256SUMS` is altered: it is not what `statement.dsse.json` is about"]);
        // Another statement, spelled well, under the old signature.
        let first = |archive: &[u8]| match archive::walk(archive).into_iter().next() {
            Some(Part::File { bytes, .. }) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        let failed = TestResult { result: "FAILED".to_owned(), ..result() };
        let failed = first(&make(files(), failed, Some(&other)).unwrap());
        let field = |text: &str, name: &str| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            value.pointer(name).unwrap().as_str().unwrap().to_owned()
        };
        let passed = first(&bundle());
        let swapped = passed.replace(&field(&passed, "/payload"), &field(&failed, "/payload"));
        let swapped = archive::entry("airtight-evidence/statement.dsse.json", swapped.as_bytes());
        let mut parts = parts();
        parts[0] = swapped.unwrap();
        check(&archive(&parts), &["its signature is not one of this statement by this key"]);
    }

    #[test]
    fn what_must_not_go_in_is_refused() {
        let refused = |name: &str, bytes: &[u8], needed: &str| {
            let file = File { name: name.to_owned(), bytes: bytes.to_vec() };
            let error = make(vec![file], result(), Some(&key())).unwrap_err().to_string();
            assert!(error.contains(needed), "{error}");
        };
        refused("../x", b"", "leads elsewhere");
        refused("/x", b"", "at the root");
        refused("a//x", b"", "leads elsewhere");
        refused("a\nb", b"", "do not print");
        refused("a\\b", b"", "backslash");
        refused("key", super::super::pair().unwrap().private.as_bytes(), "is a private key");
        refused("seed", &key().to_bytes(), "holds the key that is to sign");
        let twice = vec![files()[0].clone(), files()[0].clone()];
        assert!(make(twice, result(), None).unwrap_err().to_string().contains("there already"));
    }
}
