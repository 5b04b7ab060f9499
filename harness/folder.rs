//! A run's folder: `result.json`, and a record and a capture for each trial. What was proved so far
//! stays readable, whatever ends the run: a file appears whole or not at all, and `result.json`
//! says from the first moment what is still missing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::plan::Case;
use crate::report::json;
use crate::report::result::{Document, Run};
use crate::trial::Record;
use crate::verdict::Verdict;

/// The result's file.
pub const RESULT: &str = "result.json";

/// Where a run is written to.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A folder that is there, to write files into.
    pub fn at(path: &Path) -> Folder {
        Folder(path.to_owned())
    }

    /// Begins a run: makes the folder, removes what an earlier run has left under the names of this
    /// one's trials, and writes a result that lacks them all.
    pub fn begin(path: &Path, run: &Run) -> Result<Folder> {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let folder = Folder(path.to_owned());
        for id in &run.missing {
            for extension in ["json", "pcapng"] {
                let file = path.join(format!("{}.{extension}", stem(id)));
                match fs::remove_file(&file) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        let what = format!("remove an earlier run's {}", file.display());
                        return Err(error).context(what);
                    }
                    _ => {}
                }
            }
        }
        let document = json::document(&Document::new(run.clone()))?;
        folder.write(RESULT, document.as_bytes())?;
        Ok(folder)
    }

    /// Writes a trial's record, and its capture unless it was skipped.
    pub fn record(&self, record: &Record) -> Result<()> {
        let stem = stem(&record.id);
        self.write(&format!("{stem}.json"), serde_json::to_string_pretty(record)?.as_bytes())?;
        #[cfg(feature = "cli")]
        if record.verdict != Verdict::Skipped {
            self.write(&format!("{stem}.pcapng"), &crate::report::pcapng::write(record)?)?;
        }
        Ok(())
    }

    /// Writes a file, whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        let new = self.0.join(format!(".{name}.{}", std::process::id()));
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        written.inspect_err(|_| drop(fs::remove_file(&new))).with_context(|| {
            format!("write {} (what is already in the folder stays readable)", path.display())
        })
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Reads a result: a file, or the folder of a run. What a folder's `result.json` lacks is looked
/// for among the records beside it. Returned with it: what could not be read.
pub fn read(path: &Path) -> Result<(Document, Vec<String>)> {
    let folder = path.is_dir();
    let file = if folder { path.join(RESULT) } else { path.to_owned() };
    let remedy = "a run's folder is what `airtight run --out DIR` writes";
    let bytes = fs::read(&file).with_context(|| format!("read {}: {remedy}", file.display()))?;
    let mut document = Document::parse(&bytes)
        .with_context(|| format!("read {} as a result of airtight's", file.display()))?;
    let mut remarks = Vec::new();
    // A merged result has been through this: what it lacks is not what the records beside it are of.
    if folder && document.runs.len() == 1 {
        adopt(path, &mut document, &mut remarks);
        document.records.sort_by_cached_key(|record| record.scenario.clone());
        document.sum();
    }
    Ok((document, remarks))
}

/// Adds the records that the run lacks, where they are in the folder.
fn adopt(folder: &Path, document: &mut Document, remarks: &mut Vec<String>) {
    for id in document.runs[0].missing.clone() {
        let path = folder.join(format!("{}.json", stem(&id)));
        let Ok(bytes) = fs::read(&path) else { continue };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.id == id => document.records.push(Record { run: 0, ..record }),
            Ok(record) => {
                remarks.push(format!("{}: the record of {}, not {id}", path.display(), record.id));
            }
            Err(error) => remarks.push(format!("{}: {error}", path.display())),
        }
    }
}

/// The name of a trial's files, without what a file system or a shell could take amiss.
fn stem(id: &str) -> String {
    id.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect()
}

/// A folder that several processes write into, a trial each, as under `cargo nextest`.
pub struct Shared {
    folder: Folder,
}

/// What tells the processes of one run from those of another: nextest's id of the run.
fn session() -> Option<String> {
    std::env::var("NEXTEST_RUN_ID").ok()
}

impl Shared {
    /// Joins the run in the folder, or begins one: whoever comes first does, and writes the records
    /// of what is skipped, since nobody else will. `run` and `skipped` are asked only then.
    pub fn join(
        path: &Path,
        run: impl FnOnce() -> Run,
        skipped: impl FnOnce() -> Vec<(Case, String)>,
    ) -> Result<Shared> {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let lock = path.join(".session");
        let what = || format!("lock {}", lock.display());
        let file = fs::File::options().create(true).append(true).read(true).open(&lock);
        let file = file.with_context(what)?;
        file.lock().with_context(what)?;
        let folder = Folder(path.to_owned());
        let known = fs::read_to_string(&lock).with_context(what)?;
        if session().is_none_or(|session| session != known) {
            let folder = Folder::begin(path, &run())?;
            for (case, reason) in skipped() {
                folder.record(&Record::skipped(&case, &reason))?;
            }
            let session = session().unwrap_or_default();
            fs::write(&lock, session).with_context(what)?;
        }
        Ok(Shared { folder })
    }

    /// Writes a record. Where this run has one of the trial already, as with retries, the one that
    /// fails is kept: a second try makes nothing green.
    pub fn record(&self, record: &Record) -> Result<()> {
        let path = self.folder.path(&format!("{}.json", stem(&record.id)));
        let before = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let fails = |record: &Record| {
            matches!(record.verdict, Verdict::Deviates | Verdict::Stale | Verdict::Inconclusive)
        };
        match before {
            Some(before) if fails(&before) => Ok(()),
            _ => self.folder.record(record),
        }
    }
}
