//! A run's result as it comes to be: on standard output, in a folder, or both, and whole or partial
//! whatever ends the run.

use std::fmt;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use airtight::folder::{Folder, RESULT};
use airtight::report::json;
use airtight::report::result::{Document, Run};
use airtight::trial::Record;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The exit code of a run that was interrupted.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Somebody has asked the run to end.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted: the result is partial")
    }
}

impl std::error::Error for Interrupted {}

/// Whether SIGINT or SIGTERM has come. A second one ends the process at once.
///
/// By handlers and not by a mask, which the programs on trial would inherit.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn listen() -> Result<Interrupt> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let code = EXIT_INTERRUPTED.into();
            // In this order: the first signal finds the flag unset, and sets it.
            signal_hook::flag::register_conditional_shutdown(signal, code, flag.clone())
                .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
                .context("listen for SIGINT and SIGTERM")?;
        }
        Ok(Interrupt(flag))
    }

    /// An error once the signal has come: what ends after it may have ended by it.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::SeqCst) { Err(Interrupted.into()) } else { Ok(()) }
    }
}

/// Where records go.
pub(crate) struct Journal {
    folder: Option<Folder>,
    /// `result.json` as it grows, under another name.
    file: Option<(PathBuf, BufWriter<fs::File>)>,
    /// Whether the document is printed.
    print: bool,
    document: Document,
    count: usize,
    started: Instant,
}

impl Journal {
    /// Begins: writes a partial result into `out`, prints the document's head where `print` says
    /// so.
    pub(crate) fn begin(out: Option<&Path>, print: bool, run: Run) -> Result<Journal> {
        let folder = out.map(|out| Folder::begin(out, &run)).transpose()?;
        let file = folder.as_ref().map(|folder| -> Result<_> {
            let path = folder.path(&format!(".{RESULT}.new"));
            let file =
                fs::File::create(&path).with_context(|| format!("create {}", path.display()));
            Ok((path, BufWriter::new(file?)))
        });
        let file = file.transpose()?;
        let document = Document::new(run);
        let started = Instant::now();
        let mut journal = Journal { folder, file, print, document, count: 0, started };
        let host = &journal.document.host;
        let head = json::head(&host.kernel, host.rootless);
        journal.say(&head)?;
        Ok(journal)
    }

    fn say(&mut self, text: &str) -> Result<()> {
        if let Some((path, file)) = &mut self.file {
            file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
        }
        if self.print { super::say(text) } else { Ok(()) }
    }

    /// The run, as far as it is known.
    pub(crate) fn run(&self) -> &Run {
        &self.document.runs[0]
    }

    /// Keeps the evidence of a trial, as soon as there is any.
    pub(crate) fn keep(&self, record: &Record) -> Result<()> {
        self.folder.as_ref().map_or(Ok(()), |folder| folder.record(record))
    }

    /// Adds a record to the document, in its turn.
    pub(crate) fn add(&mut self, record: &Record) -> Result<()> {
        self.document.totals.add(record.verdict);
        self.document.checks.add(record);
        self.document.runs[0].take(record);
        if !self.print && self.file.is_none() {
            return Ok(());
        }
        let comma = if self.count == 0 { "" } else { ",\n" };
        self.count += 1;
        self.say(&format!("{comma}{}", json::record(record)?))
    }

    /// Ends the document. `why` says why before its time. Returns it, without its records.
    pub(crate) fn end(mut self, why: Option<String>) -> Result<Document> {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let run = &mut self.document.runs[0];
        run.micros = Some(micros);
        run.ended = why;
        self.document.partial = !run.missing.is_empty();
        let tail = format!("\n{}", json::tail(&self.document)?);
        self.say(&tail)?;
        if let (Some((path, file)), Some(folder)) = (self.file.take(), &self.folder) {
            let end = folder.path(RESULT);
            let done = file
                .into_inner()
                .map_err(std::io::IntoInnerError::into_error)
                // On the disk before it takes the partial one's place.
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&path, &end));
            done.with_context(|| format!("write {}", end.display()))?;
        }
        Ok(self.document.clone())
    }
}

impl Drop for Journal {
    /// What could not be ended leaves the partial result, and the room on the disk.
    fn drop(&mut self) {
        if let Some((path, _)) = self.file.take() {
            drop(fs::remove_file(path));
        }
    }
}
