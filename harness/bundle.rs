//! Evidence in one archive that can be shown to be whole: every file of a run, a list of their SHA-256,
//! and a signed statement about that list. It knows files and bytes, and nothing of trials.
//!
//! ```text
//! airtight-evidence/statement.dsse.json   the statement in its envelope; statement.json without a key
//! airtight-evidence/SHA256SUMS            as `sha256sum -c` reads it
//! airtight-evidence/run/...               the files, in the order of their names
//! ```
//!
//! The archive is a tar, because every auditor's machine lists one without airtight, and because it
//! has one spelling: names, sizes and contents fix every byte. To verify is to spell the archive anew
//! and to compare, so that no byte of it is without a check, the padding included. (A zip holds each
//! name twice and has room for data between its entries.)
//!
//! The statement is an in-toto Statement v1 with the predicate test-result v0.1, its subject the list;
//! the envelope is a DSSE with an ed25519 signature over the pre-authentication encoding.

mod archive;
mod key;
mod statement;
mod verify;

pub use key::{Pair, SigningKey, VerifyingKey, keyid, pair, private, public};
pub use statement::{Configuration, TestResult};
pub use verify::{Verified, verify};

use std::fmt::Write as _;

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

/// The folder that all entries are in.
const ROOT: &str = "airtight-evidence/";
const SUMS: &str = "SHA256SUMS";
const SIGNED: &str = "statement.dsse.json";
const UNSIGNED: &str = "statement.json";
/// Where a run's files are, below the root.
const RUN: &str = "run/";

/// The largest archive, in bytes: it is made and checked in memory.
pub const BYTES_MAX: u64 = 1 << 31;

/// A file of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name below the run's folder, with `/` between folders.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// One archive of `files` and of what was found, signed where there is a key. The same files, result
/// and key give the same bytes.
pub fn make(mut files: Vec<File>, result: TestResult, key: Option<&SigningKey>) -> Result<Vec<u8>> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sums = String::new();
    for (at, file) in files.iter().enumerate() {
        if let Some(wrong) = unfit(&file.name) {
            bail!("put {} into the archive: {wrong}", shown(&file.name));
        }
        if at > 0 && files[at - 1].name == file.name {
            bail!("put {} into the archive: it is there already", shown(&file.name));
        }
        if let Some(key) = key
            && key::holds(&file.bytes, key)
        {
            bail!("{} holds the key that is to sign\nkeep keys elsewhere", shown(&file.name));
        }
        if key::is_private(&file.bytes) {
            bail!("{} is a private key\nkeep keys elsewhere", shown(&file.name));
        }
        let _ = writeln!(sums, "{}  {RUN}{}", digest(&file.bytes), file.name);
    }
    let statement = statement::statement(&digest(sums.as_bytes()), result)?;
    let (name, first) = match key {
        Some(key) => (SIGNED, statement::seal(&statement, key)?),
        None => (UNSIGNED, statement),
    };
    let mut bytes = archive::entry(&format!("{ROOT}{name}"), first.as_bytes())?;
    bytes.extend(archive::entry(&format!("{ROOT}{SUMS}"), sums.as_bytes())?);
    for file in &files {
        bytes.extend(archive::entry(&format!("{ROOT}{RUN}{}", file.name), &file.bytes)?);
    }
    bytes.extend(archive::END);
    Ok(bytes)
}

/// Why `name` cannot be a file's name in an archive: it would lead elsewhere, or deceive who reads it.
fn unfit(name: &str) -> Option<&'static str> {
    if name.starts_with('/') {
        return Some("its name begins at the root");
    }
    if name.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        return Some("its name leads elsewhere");
    }
    // What escape_debug spells out is what a terminal or a reader would take for something else.
    let deceives = |c: char| c == '\\' || (c.escape_debug().count() > 1 && !"'\"".contains(c));
    name.chars().any(deceives).then_some("its name has a backslash or characters that do not print")
}

/// A name as a message shows it, in backticks, with whatever a terminal would interpret spelled out.
fn shown(name: &str) -> String {
    format!("`{}`", name.escape_debug())
}

/// The SHA-256 of `bytes`, in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
