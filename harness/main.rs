//! The command line.
#![expect(clippy::print_stderr, reason = "a command line speaks to its terminal")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use airtight::batch::{Batch, CannotPrepare};
use airtight::host::{self, CannotLeave, Left};
use airtight::init::Step;
use airtight::plan::{Case, Product};
use airtight::probe::{Abilities, kernel_release};
use airtight::report::{self, human, json, pcapng};
use airtight::scenario::{Ready, Signal};
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
        /// Your own program, behind `--`: puts it through the traps for products. Placeholders as in
        /// a scenario's command: {intended.device}, {target}, {port}, {token} ...
        #[arg(last = true)]
        product: Vec<String>,
        /// Your program goes on running, and is ready when it listens on a TCP port (`port:8080`),
        /// has printed something (`line:listening`) or made a file (`file:/tmp/{token}`). It is then
        /// asked, and stopped.
        #[arg(long, requires = "product", value_parser = ready)]
        ready: Option<Ready>,
        /// The signal that stops it; without it, SIGTERM.
        #[arg(long, requires = "ready", value_parser = signal)]
        stop: Option<Signal>,
        /// How many trials to make at once; without it, one for each processor.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: Option<u16>,
    },
    /// Tells all about one trial: the claim, the laboratory, the kernel's decision, the frames.
    Explain {
        /// The trial's id, or a file's or catalogue's selector that picks one trial.
        id: String,
        /// Prints a script of plain ip and python3 lines that reproduces it without airtight.
        #[arg(long)]
        script: bool,
    },
    /// Makes the catalogue's trials, and prints them as a lookup table in Markdown; of `programs`
    /// alone, a table of theirs.
    Table {
        /// As for `run`.
        selectors: Vec<String>,
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
    /// Adds a gate to the repository in this folder: a test or a command line, a first scenario, a
    /// CI job. What is there already stays as it is.
    Init,
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
    host::begin();
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Run { selectors, out, format, product, ready, stop, jobs } => {
            let product = Product::command(product).going_on(ready, stop);
            let jobs = jobs.and_then(|jobs| NonZeroUsize::new(jobs.into()));
            run(&selectors, &product, out.as_deref(), format, jobs)
        }
        Command::Explain { id, script } => explain(&id, script),
        Command::Table { selectors } => table(&selectors),
        Command::List { selectors } => list(&selectors),
        Command::Check { files } => check(&files),
        Command::Init => init(),
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
        catalogue::list(selectors)?.iter().map(|case| format!("{}\n", case.id)).collect();
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

fn init() -> Result<u8> {
    let mut text = String::new();
    for step in airtight::init::init(Path::new("."))? {
        text += &match step {
            Step::Wrote(name) => format!("wrote  {name}\n"),
            Step::Kept(name) => format!("kept   {name}\n"),
        };
    }
    text.push_str("\nsay in it how your program is told its link, then run it\n");
    say(&text)?;
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

fn run(
    selectors: &[String],
    product: &Product,
    out: Option<&Path>,
    format: Format,
    jobs: Option<NonZeroUsize>,
) -> Result<u8> {
    let cases = match product.is_empty() {
        true => catalogue::select(selectors)?,
        false => catalogue::select_for(product, selectors)?,
    };
    if let Some(out) = out {
        fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    }
    let batch = Batch::prepare(&cases)?;
    let mut printer = Printer::new(format, batch.rootless(), product, &cases);
    printer.begin()?;
    batch.run(&cases, jobs, |at, record| {
        // What was proved so far is written even where nothing more can be.
        out.map_or(Ok(()), |out| write_evidence(out, &record))?;
        printer.record(at, record)
    })?;
    printer.end()
}

/// The records of `cases`, in their order, and the kernel that they speak of.
fn records(cases: &[Case]) -> Result<(Vec<Record>, String)> {
    let batch = Batch::prepare(cases)?;
    let mut records: Vec<Option<Record>> = cases.iter().map(|_| None).collect();
    batch.run(cases, None, |at, mut record| {
        // A table tells of outcomes: frames would only fill the memory.
        record.frames = Vec::new();
        records[at] = Some(record);
        Ok(())
    })?;
    Ok((records.into_iter().flatten().collect(), batch.kernel().to_owned()))
}

fn table(selectors: &[String]) -> Result<u8> {
    let (records, kernel) = records(&catalogue::select(selectors)?)?;
    let host = format!("linux-{}", series(&kernel));
    let programs = records.iter().all(|record| record.scenario.starts_with("programs/"));
    say(&match programs {
        true => report::programs::page(&records, &host),
        false => report::table::page(&records, &host),
    })?;
    let mut tally = human::Tally::default();
    records.iter().for_each(|record| tally.add(record.verdict));
    Ok(tally.exit_code())
}

/// The first two numbers of a kernel's release: `6.18` of `6.18.44-x`.
fn series(kernel: &str) -> String {
    kernel.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn explain(id: &str, script: bool) -> Result<u8> {
    let cases = catalogue::select(&[id.to_owned()])?;
    let exact = cases.iter().find(|case| case.id == id);
    let case = match (exact, cases.as_slice()) {
        (Some(case), _) | (None, [case]) => case,
        (None, cases) => {
            let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).take(8).collect();
            anyhow::bail!(
                "`{id}` picks {} trials, and one is explained at a time: {}{}",
                cases.len(),
                ids.join(", "),
                if cases.len() > ids.len() { ", ..." } else { "" }
            );
        }
    };
    if script {
        say(&airtight::script::script(case))?;
        return Ok(0);
    }
    let record = Batch::prepare(std::slice::from_ref(case))?.record(case);
    say(&report::explain::explain(case, &record))?;
    let mut tally = human::Tally::default();
    tally.add(record.verdict);
    Ok(tally.exit_code())
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
    rootless: bool,
    /// The product on trial, for reruns.
    product: Vec<String>,
    /// How it is told from one that ends.
    going_on: String,
    style: human::Style,
    /// Records that came before their turn.
    early: BTreeMap<usize, Record>,
    turn: usize,
    total: usize,
    /// The records of the scenario under way.
    scenario: Vec<Record>,
    failures: Vec<String>,
    tally: human::Tally,
    skips: BTreeMap<String, usize>,
    progress: Option<indicatif::ProgressBar>,
    started: Instant,
}

impl Printer {
    fn new(format: Format, rootless: bool, product: &Product, cases: &[Case]) -> Printer {
        let colour = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let bar = std::io::stderr().is_terminal() && matches!(format, Format::Human);
        Printer {
            format,
            rootless,
            product: product.words(),
            going_on: going_on(product),
            style: human::Style { colour },
            early: BTreeMap::new(),
            turn: 0,
            total: cases.len(),
            scenario: Vec::new(),
            failures: Vec::new(),
            tally: human::Tally::default(),
            skips: BTreeMap::new(),
            progress: bar.then(|| indicatif::ProgressBar::new(cases.len() as u64)),
            started: Instant::now(),
        }
    }

    fn begin(&self) -> Result<()> {
        match self.format {
            Format::Human => Ok(()),
            Format::Json => say(&json::head(&kernel_release(), self.rootless)),
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
        if record.verdict == Verdict::Skipped {
            *self.skips.entry(record.reason.clone()).or_default() += 1;
        }
        if let Some(progress) = &self.progress {
            progress.inc(1);
        }
        if matches!(self.format, Format::Json) {
            let comma = if self.turn < self.total { ",\n" } else { "\n" };
            return say(&(json::record(&record)? + comma));
        }
        if matches!(record.verdict, Verdict::Deviates | Verdict::Stale | Verdict::Inconclusive) {
            let mut rerun = format!("airtight run {}", rerun_selector(&record));
            if !self.product.is_empty() {
                rerun += &self.going_on;
                let words: Vec<String> = self.product.iter().map(|word| quoted(word)).collect();
                rerun += &format!(" -- {}", words.join(" "));
            }
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
        say(&human::skips(&self.skips))?;
        say(&(human::summary(&self.tally, self.started.elapsed()) + "\n"))?;
        Ok(self.tally.exit_code())
    }
}

/// The options that a product which goes on running was given.
fn going_on(product: &Product) -> String {
    let (Some(ready), stop) = (product.is_ready(), product.stops()) else { return String::new() };
    let ready = match ready {
        Ready { port: Some(port), .. } => format!("port:{port}"),
        Ready { line: Some(line), .. } => format!("line:{line}"),
        Ready { file, .. } => format!("file:{}", file.as_deref().unwrap_or_default()),
    };
    format!(" --ready {} --stop {}", quoted(&ready), stop.word())
}

/// How a program tells that it is ready, as the command line takes it.
fn ready(text: &str) -> Result<Ready, String> {
    let own = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let ready = match text.split_once(':') {
        Some(("port", port)) => Ready { port: port.parse().ok(), ..Ready::default() },
        Some(("line", line)) => Ready { line: own(line), ..Ready::default() },
        Some(("file", file)) => Ready { file: own(file), ..Ready::default() },
        _ => Ready::default(),
    };
    let said = ready != Ready::default() && ready.port != Some(0);
    said.then_some(ready).ok_or_else(|| "accepted: port:NUMBER, line:TEXT, file:PATH".to_owned())
}

fn signal(name: &str) -> Result<Signal, String> {
    let named = Signal::ALL.iter().find(|signal| signal.word() == name);
    let words = || Signal::ALL.map(Signal::word).join(", ");
    named.copied().ok_or_else(|| format!("accepted: {}", words()))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What reruns one trial: its id in the catalogue, its file otherwise.
fn rerun_selector(record: &Record) -> String {
    let file = record.place.rsplit_once(':').map_or(record.place.as_str(), |(file, _)| file);
    let embedded = catalogue::list(std::slice::from_ref(&record.id)).is_ok();
    if embedded { record.id.clone() } else { file.to_owned() }
}
