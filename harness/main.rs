//! The command line.
#![expect(clippy::print_stderr, reason = "a command line speaks to its terminal")]

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use airtight::host::{self, CannotLeave, Left};
use airtight::plan::Case;
use airtight::probe::{Abilities, kernel_release};
use airtight::report::{human, json, pcapng};
use airtight::suite::{EXIT_CANNOT_RUN, EXIT_USAGE};
use airtight::trial::{Record, Runner};
use airtight::verdict::Verdict;
use airtight::{catalogue, schema};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

/// Proves which ways of pinning traffic to a network link hold, and which leak.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 everything conforms; 1 something deviates or a \
    waiver is stale; 2 usage or a broken scenario; 3 this machine cannot run it (see `airtight \
    doctor`); 4 something is inconclusive, or everything was skipped."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes trials and judges them.
    Run {
        /// A file, a folder, or the beginning of a trial's id; without one, the whole catalogue.
        selectors: Vec<String>,
        /// Writes a record and a pcapng of each trial into this folder.
        #[arg(long)]
        out: Option<PathBuf>,
        /// What to print.
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
        /// How many trials to make at once; without it, one for each processor.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: Option<u16>,
    },
    /// Lists trials, one a line. Needs no privileges.
    List {
        /// As for `run`.
        selectors: Vec<String>,
    },
    /// Checks scenario files without running them. Needs no privileges.
    Check {
        /// Files or folders; without one, the embedded catalogue.
        files: Vec<PathBuf>,
    },
    /// Probes what this machine can do, and says what is missing.
    Doctor,
    /// Prints the JSON Schema of the scenario language, for editors.
    Schema {
        /// Prints the reference page instead, in Markdown.
        #[arg(long)]
        reference: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A table for each scenario, failures last.
    Human,
    /// One JSON document.
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Run { selectors, out, format, jobs } => {
            run(&selectors, out.as_deref(), format, jobs)
        }
        Command::List { selectors } => list(&selectors),
        Command::Check { files } => check(&files),
        Command::Doctor => doctor(),
        Command::Schema { reference } => print_schema(reference),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        // Whoever reads our output has enough of it: that is no fault.
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<CannotLeave>() || error.is::<CannotPrepare>() => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_CANNOT_RUN)
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The machine lets us leave the host and then refuses what every trial needs.
#[derive(Debug)]
struct CannotPrepare(String);

impl std::fmt::Display for CannotPrepare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this machine cannot run laboratories: {}", self.0)
    }
}

impl std::error::Error for CannotPrepare {}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn list(selectors: &[String]) -> Result<u8> {
    let ids: String =
        catalogue::select(selectors)?.iter().map(|case| format!("{}\n", case.id)).collect();
    say(&ids)?;
    Ok(0)
}

fn check(files: &[PathBuf]) -> Result<u8> {
    let mut broken = 0;
    let mut good = 0;
    if files.is_empty() {
        good += catalogue::embedded()?.len();
    }
    for file in files {
        match catalogue::read(file) {
            Ok(scenarios) => good += scenarios.len(),
            Err(error) => {
                eprintln!("{error:#}\n");
                broken += 1;
            }
        }
    }
    if broken == 0 && good == 0 {
        eprintln!("no scenario found: name a file, or a folder that holds `*.toml`");
        return Ok(EXIT_USAGE);
    }
    if good > 0 {
        say(&format!("{good} scenario{} well-formed\n", if good == 1 { " is" } else { "s are" }))?;
    }
    Ok(if broken > 0 { EXIT_USAGE } else { 0 })
}

fn print_schema(reference: bool) -> Result<u8> {
    say(&if reference { schema::reference() } else { schema::json()? })?;
    Ok(0)
}

fn doctor() -> Result<u8> {
    let left = host::leave()?;
    let kernel = kernel_release();
    let who = if left.rootless() { "without root, in a user namespace" } else { "as root" };
    let mut text = format!("kernel {kernel}, {who}\n\n");
    text.push_str("  leave the host       yes\n");
    let lab = first_trial(left);
    let answer = lab.as_ref().map_or_else(|reason| format!("no: {reason}"), |()| "yes".to_owned());
    text.push_str(&format!("  build and judge      {answer}\n"));
    for (name, missing) in Abilities::all(left)?.iter() {
        let answer = missing.map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}"));
        text.push_str(&format!("  {name:<20} {answer}\n"));
    }
    text.push_str("\nWhat is missing is skipped by the scenarios that need it.\n");
    say(&text)?;
    Ok(if lab.is_ok() { 0 } else { EXIT_CANNOT_RUN })
}

/// Makes the catalogue's first trial: the only probe of a laboratory that proves anything.
fn first_trial(left: Left) -> Result<(), String> {
    let cases = catalogue::select(&[]).map_err(|error| format!("{error:#}"))?;
    let case = cases.first().ok_or("the catalogue is empty")?;
    let runner = Runner::new(left).map_err(|error| format!("{error:#}"))?;
    let record = runner.run(case);
    if record.verdict == Verdict::Inconclusive { Err(record.reason) } else { Ok(()) }
}

fn run(selectors: &[String], out: Option<&Path>, format: Format, jobs: Option<u16>) -> Result<u8> {
    let cases = catalogue::select(selectors)?;
    if let Some(out) = out {
        fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    }
    let left = host::leave()?;
    let cannot = |error: anyhow::Error| CannotPrepare(format!("{error:#}"));
    let abilities = Abilities::of(left, &cases).map_err(cannot)?;
    let runner = Runner::new(left).map_err(cannot)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.map_or(processors, usize::from).min(cases.len().max(1));
    let mut printer = Printer::new(format, left, &cases);
    printer.begin()?;
    let kernel = kernel_release();
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel(4 * jobs);
    let first_error = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, cases, next) = (sender.clone(), &cases, &next);
            let (runner, abilities, kernel) = (&runner, &abilities, &kernel);
            scope.spawn(move || {
                while let Some((at, case)) = take(cases, next) {
                    let record = match abilities.skip(case, kernel) {
                        Some(reason) => Record::skipped(case, &reason),
                        None => runner.run(case),
                    };
                    if sender.send((at, record)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (at, record) in receiver {
            let done = out.map_or(Ok(()), |out| write_evidence(out, &record));
            if let Err(error) = done.and_then(|()| printer.record(at, record)) {
                // What was proved so far is written; nothing more can be.
                first_error.lock().map(|mut first| first.get_or_insert(error).to_string()).ok();
                break;
            }
        }
    });
    if let Some(error) = first_error.into_inner().unwrap_or_default() {
        return Err(error);
    }
    printer.end()
}

fn take<'a>(cases: &'a [Case], next: &AtomicUsize) -> Option<(usize, &'a Case)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    cases.get(at).map(|case| (at, case))
}

fn write_evidence(out: &Path, record: &Record) -> Result<()> {
    let stem: String = record
        .id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    let write = |extension: &str, bytes: &[u8]| {
        let path = out.join(format!("{stem}.{extension}"));
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    };
    write("json", serde_json::to_string_pretty(record)?.as_bytes())?;
    if record.verdict != Verdict::Skipped {
        write("pcapng", &pcapng::write(record)?)?;
    }
    Ok(())
}

/// Prints records in the plan's order, whichever order they come in.
struct Printer {
    format: Format,
    left: Left,
    style: human::Style,
    /// Records that came before their turn.
    early: std::collections::BTreeMap<usize, Record>,
    turn: usize,
    total: usize,
    /// The records of the scenario under way.
    scenario: Vec<Record>,
    failures: Vec<String>,
    tally: human::Tally,
    progress: Option<indicatif::ProgressBar>,
    started: Instant,
}

impl Printer {
    fn new(format: Format, left: Left, cases: &[Case]) -> Printer {
        let colour = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let bar = std::io::stderr().is_terminal() && matches!(format, Format::Human);
        Printer {
            format,
            left,
            style: human::Style { colour },
            early: std::collections::BTreeMap::new(),
            turn: 0,
            total: cases.len(),
            scenario: Vec::new(),
            failures: Vec::new(),
            tally: human::Tally::default(),
            progress: bar.then(|| indicatif::ProgressBar::new(cases.len() as u64)),
            started: Instant::now(),
        }
    }

    fn begin(&self) -> Result<()> {
        match self.format {
            Format::Human => Ok(()),
            Format::Json => say(&json::head(&kernel_release(), self.left.rootless())),
        }
    }

    fn record(&mut self, at: usize, record: Record) -> Result<()> {
        self.early.insert(at, record);
        while let Some(record) = self.early.remove(&self.turn) {
            self.turn += 1;
            self.in_turn(record)?;
        }
        Ok(())
    }

    fn in_turn(&mut self, mut record: Record) -> Result<()> {
        self.tally.add(record.verdict);
        if let Some(progress) = &self.progress {
            progress.inc(1);
        }
        if matches!(self.format, Format::Json) {
            let comma = if self.turn < self.total { ",\n" } else { "\n" };
            return say(&(json::record(&record)? + comma));
        }
        if matches!(record.verdict, Verdict::Deviates | Verdict::Stale | Verdict::Inconclusive) {
            let rerun = format!("airtight run {}", rerun_selector(&record));
            self.failures.push(human::failure(&record, &rerun, self.style));
        }
        record.frames = Vec::new();
        if self.scenario.last().is_some_and(|last| last.scenario != record.scenario) {
            self.flush()?;
        }
        self.scenario.push(record);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let table = human::table(&std::mem::take(&mut self.scenario), self.style) + "\n";
        match &self.progress {
            Some(progress) => progress.suspend(|| say(&table)),
            None => say(&table),
        }
    }

    fn end(mut self) -> Result<u8> {
        if matches!(self.format, Format::Json) {
            say(json::tail())?;
            return Ok(self.tally.exit_code());
        }
        if !self.scenario.is_empty() {
            self.flush()?;
        }
        if let Some(progress) = &self.progress {
            progress.finish_and_clear();
        }
        for failure in &self.failures {
            say(&format!("{failure}\n"))?;
        }
        say(&(human::summary(&self.tally, self.started.elapsed()) + "\n"))?;
        Ok(self.tally.exit_code())
    }
}

/// What reruns one trial: its id in the catalogue, its file otherwise.
fn rerun_selector(record: &Record) -> String {
    let file = record.place.rsplit_once(':').map_or(record.place.as_str(), |(file, _)| file);
    let embedded = catalogue::select(std::slice::from_ref(&record.id)).is_ok();
    if embedded { record.id.clone() } else { file.to_owned() }
}
