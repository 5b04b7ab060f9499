//! `airtight report` and `airtight diff`: results that are there already, read again.
#![expect(clippy::print_stderr, reason = "a command line speaks to its terminal")]

use std::fs;
use std::path::{Path, PathBuf};

use airtight::folder::{self, Folder};
use airtight::report::result::Document;
use airtight::report::{self, diff, human, merge};
use anyhow::{Context, Result};

fn read(path: &Path) -> Result<Document> {
    let (document, remarks) = folder::read(path)?;
    for remark in remarks {
        eprintln!("not readable, and so counted as missing: {remark}");
    }
    Ok(document)
}

/// Merges the results in `from`, writes every format into `to` (without it: the first of `from`),
/// and says what is wrong with the whole. Returns the merged result's exit code.
pub(crate) fn report(from: &[PathBuf], to: Option<&Path>) -> Result<u8> {
    let documents: Vec<Document> = from.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let merged = merge::merge(documents)?;
    let first = from.first().map(PathBuf::as_path).context("no result is named")?;
    let out = match to {
        Some(to) => to,
        None if first.is_dir() => first,
        None => first.parent().unwrap_or(Path::new(".")),
    };
    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let folder = Folder::at(out);
    for (name, render) in report::FILES {
        let bytes = render(&merged).with_context(|| format!("make {name}"))?;
        folder.write(name, &bytes)?;
    }
    let mut text = String::new();
    for problem in merged.problems() {
        text += &format!("{}\n", human::safe(&problem));
    }
    let names: Vec<&str> = report::FILES.iter().map(|(name, _)| *name).collect();
    text += &format!("{}: {}\n", out.display(), names.join(", "));
    text += &format!("{}\n", human::counts(&merged.totals));
    super::say(&text)?;
    Ok(merged.exit_code())
}

/// Compares two results: 1 where anything is worse.
pub(crate) fn diff(before: &Path, after: &Path, json: bool) -> Result<u8> {
    let diff = diff::diff(&read(before)?, &read(after)?)?;
    super::say(&if json { diff::json(&diff)? } else { diff::human(&diff) })?;
    Ok(diff.regression.into())
}
