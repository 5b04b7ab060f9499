//! `airtight comply`: a product's requirements against results.

use std::fs;
use std::path::{Path, PathBuf};

use airtight::compliance::{assess, parse};
use airtight::report::result::Document;
use airtight::report::{compliance, oscal};
use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::civil;
use sha2::{Digest, Sha256};
use toml::value::Date;

use super::whole;

/// The versions of a result that are read.
const SCHEMA: u32 = 1;

/// What is said of the file, below the options.
const FILE: &str = r#"The file of requirements, in TOML:

  product = "Gateway 7"                      # optional: the report's title

  [[requirement]]
  id       = "NET-1"                         # letters, digits, `-`, `_`, `.`
  text     = "Control traffic leaves by the chassis link alone"
  trials   = ["product/better-metric"]       # beginnings of trial ids, as `airtight run` takes them
  controls = ["nist-800-53r5:SC-7(21)"]      # optional: what it supports evidence for
  outcomes = ["contained", "refused"]        # optional: what holds; without it, all but `leaked`

  [[waiver]]
  trials  = "product/option-121::product::v6-tcp"
  outcome = "leaked"                         # exactly what those trials show
  owner   = "jane@example.org"
  reason  = "the DHCP client is replaced in release 8"
  expires = 2027-03-31                       # its last day

Exit codes: 0 everything is proved, or waived by a waiver in force; 1 a requirement is violated, or a
waiver is expired, stale or without use; 2 usage, or a broken file; 4 something is not proved."#;

/// The options of `airtight comply`.
#[derive(Args)]
#[command(after_long_help = FILE)]
pub(crate) struct Options {
    /// The product's requirements, as `--help` shows them.
    requirements: PathBuf,
    /// Results: files that `airtight run --format json` printed, or folders that hold a result.json.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Writes compliance.md, compliance.html and oscal.json into this folder.
    #[arg(long)]
    to: Option<PathBuf>,
    /// Assesses as of this day, by which waivers expire; without it, today in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    today: Option<civil::Date>,
}

/// Assesses, writes, and gives what to print and the exit code.
pub(crate) fn comply(options: &Options) -> Result<(String, u8)> {
    let path = options.requirements.display().to_string();
    let bytes = fs::read(&options.requirements).with_context(|| format!("read {path}"))?;
    let requirements = parse(&path, &bytes)?;
    let now = jiff::Timestamp::now();
    let day = options.today.unwrap_or_else(|| jiff::tz::Offset::UTC.to_datetime(now).date());
    let mut digest = Sha256::new_with_prefix(format!("{day}\n"));
    digest.update(Sha256::digest(&bytes));
    let mut documents = Vec::new();
    for result in &options.results {
        let (document, bytes) = read(result)?;
        digest.update(Sha256::digest(&bytes));
        documents.push(document);
    }
    let assessment = assess(&requirements, &documents, date(day)?);
    let mut text = compliance::summary(&assessment);
    if let Some(folder) = &options.to {
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let modified = format!("{now:.0}");
        whole::folder(folder)?;
        for (name, content) in [
            ("compliance.md", compliance::markdown(&assessment)?),
            ("compliance.html", compliance::html(&assessment)?),
            ("oscal.json", oscal::oscal(&assessment, &modified, &digest)?),
        ] {
            whole::write(&folder.join(name), content.as_bytes())?;
        }
        text += &format!(
            "wrote compliance.md, compliance.html and oscal.json into {}\n",
            folder.display()
        );
    }
    Ok((text, assessment.exit_code()))
}

fn date(day: civil::Date) -> Result<Date> {
    Ok(Date {
        year: u16::try_from(day.year()).context("a year before the first")?,
        month: day.month().unsigned_abs(),
        day: day.day().unsigned_abs(),
    })
}

/// A result and its bytes: a file, or the result.json of a folder.
fn read(path: &Path) -> Result<(Document, Vec<u8>)> {
    let file = if path.is_dir() { path.join("result.json") } else { path.to_owned() };
    let shown = file.display();
    let bytes = fs::read(&file).with_context(|| {
        format!("read the result {shown}\n`airtight run --format json > {shown}` makes one")
    })?;
    let document: Document = serde_json::from_slice(&bytes).with_context(|| {
        format!("{shown} is no whole result as `airtight run --format json` prints it")
    })?;
    if document.schema != SCHEMA {
        bail!(
            "{shown} is a result of schema {}, and this airtight reads {SCHEMA}\nuse the airtight that \
             made it, or make the result anew",
            document.schema
        );
    }
    Ok((document, bytes))
}
