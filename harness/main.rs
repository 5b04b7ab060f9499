//! The command line.
#![expect(clippy::print_stderr, reason = "a command line speaks to its terminal")]

#[path = "main/journal.rs"]
mod journal;
#[path = "main/product.rs"]
mod product_options;
#[path = "main/report.rs"]
mod report_command;

use std::collections::BTreeMap;
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
use airtight::report::result::quoted;
use airtight::report::{self, github, human};
use airtight::scenario::{Ready, Signal};
use airtight::suite::{EXIT_CANNOT_RUN, EXIT_USAGE};
use airtight::trial::{Record, Runner};
use airtight::verdict::Verdict;
use airtight::{catalogue, facts, schema};
use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use journal::{EXIT_INTERRUPTED, Interrupt, Interrupted, Journal};

#[path = "main/bundle.rs"]
mod bundle;
#[path = "main/comply.rs"]
mod comply;
#[path = "main/whole.rs"]
mod whole;

/// Proves which ways of pinning traffic to a network link hold, and which leak.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 everything conforms; 1 something deviates or a \
    waiver is stale; 2 usage or a broken scenario; 3 this machine cannot run it (see `airtight \
    doctor`); 4 something is inconclusive, or everything was skipped; 130 interrupted."
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
        /// Writes the result, and a record and a pcapng of each trial, into this folder.
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
        #[arg(long, requires = "product", value_parser = product_options::ready)]
        ready: Option<Ready>,
        /// The signal that stops it; without it, SIGTERM.
        #[arg(long, requires = "ready", value_parser = product_options::signal)]
        stop: Option<Signal>,
        /// How many trials to make at once; without it, two for each processor. Those that wait for a timer
        /// of the kernel's, and one of a program, go on beside them.
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
    /// alone, a table of theirs; of `guards`, which guard stops which leak.
    Table {
        /// As for `run`; or `guards`, and what else there is to select.
        selectors: Vec<String>,
    },
    /// Merges the results of runs, and writes them in every format: JUnit, SARIF, TAP, Markdown ...
    Report {
        /// The folders of runs (`run --out`), or results (`result.json`): shards, kernels, products.
        #[arg(required = true)]
        results: Vec<PathBuf>,
        /// Writes into this folder; without it, into the first one.
        #[arg(long)]
        to: Option<PathBuf>,
    },
    /// Says what has changed between two results. Exit code 1: something is worse.
    Diff {
        /// The folder of a run, or a result.
        before: PathBuf,
        /// The folder of a run, or a result.
        after: PathBuf,
        /// What to print.
        #[arg(long, value_enum, default_value_t = DiffFormat::Human)]
        format: DiffFormat,
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
    /// Puts a run's files into one archive, with a list of their sums and a signed statement.
    Bundle(bundle::BundleOptions),
    /// Checks a bundle's every byte and its signature, and names what was altered.
    Verify(bundle::VerifyOptions),
    /// Makes a pair of ed25519 keys for bundles.
    Keygen(bundle::KeygenOptions),
    /// Assesses a product's requirements against results: what is proved, violated, waived.
    Comply(comply::Options),
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
        /// Prints the JSON Schema of a result instead.
        #[arg(long, conflicts_with = "reference")]
        result: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A table for each scenario, failures last.
    Human,
    /// One JSON document.
    Json,
    /// GitHub's annotations, and nothing else.
    Github,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    /// A list of each kind of change.
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
        Command::Bundle(options) => answer(bundle::bundle(&options)),
        Command::Verify(options) => answer(bundle::verify(&options)),
        Command::Keygen(options) => answer(bundle::keygen(&options)),
        Command::Comply(options) => answer(comply::comply(&options)),
        Command::Init => init(),
        Command::Doctor => doctor(),
        Command::Schema { reference, result } => print_schema(reference, result),
        Command::Report { results, to } => report_command::report(&results, to.as_deref()),
        Command::Diff { before, after, format } => {
            report_command::diff(&before, &after, format == DiffFormat::Json)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        // Whoever reads our output has enough of it: that is no fault.
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_INTERRUPTED)
        }
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

/// Says what a command has to say, and hands its exit code on.
fn answer(done: Result<(String, u8)>) -> Result<u8> {
    let (text, code) = done?;
    say(&text)?;
    Ok(code)
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

fn print_schema(reference: bool, result: bool) -> Result<u8> {
    say(&match (reference, result) {
        (true, _) => schema::reference(),
        (_, true) => schema::result()?,
        _ => schema::json()?,
    })?;
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
    let interrupt = Interrupt::listen()?;
    let batch = Batch::prepare(&cases)?;
    let print = matches!(format, Format::Json);
    let run = match out {
        None if !print => facts::plan(&cases, &product.words()),
        _ => facts::run(batch.left(), &cases, &product.words()),
    };
    let journal = Journal::begin(out, print, run)?;
    let mut printer = Printer::new(format, product, &cases, journal);
    let ran = batch.run(&cases, jobs, |at, record| {
        interrupt.check()?;
        // What was proved so far is written even where nothing more can be.
        printer.journal.keep(&record)?;
        printer.record(at, record)
    });
    printer.end(ran)
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
    let (guards, selectors) = match selectors.split_first() {
        Some((first, rest)) if first == "guards" => (true, rest),
        _ => (false, selectors),
    };
    let mut cases = catalogue::select(selectors)?;
    cases.retain(|case| case.guard.is_some() == guards);
    let (records, kernel) = records(&cases)?;
    let host = format!("linux-{}", series(&kernel));
    let programs = records.iter().all(|record| record.scenario.starts_with("programs/"));
    say(&match programs {
        _ if guards => report::guards::page(&records, &host),
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

/// Prints records in the plan's order, whichever order they come in.
struct Printer {
    format: Format,
    journal: Journal,
    annotations: github::Annotations,
    /// The product on trial, for reruns.
    product: Vec<String>,
    /// How it is told from one that ends.
    going_on: String,
    style: human::Style,
    /// Records that came before their turn.
    early: BTreeMap<usize, Record>,
    turn: usize,
    /// The records of the scenario under way.
    scenario: Vec<Record>,
    failures: Vec<String>,
    tally: human::Tally,
    skips: BTreeMap<String, usize>,
    progress: Option<indicatif::ProgressBar>,
    started: Instant,
}

impl Printer {
    fn new(format: Format, product: &Product, cases: &[Case], journal: Journal) -> Printer {
        let colour = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let bar = std::io::stderr().is_terminal() && matches!(format, Format::Human);
        Printer {
            format,
            journal,
            annotations: github::Annotations::default(),
            product: product.words(),
            going_on: product_options::going_on(product),
            style: human::Style { colour },
            early: BTreeMap::new(),
            turn: 0,
            scenario: Vec::new(),
            failures: Vec::new(),
            tally: human::Tally::default(),
            skips: BTreeMap::new(),
            progress: bar.then(|| indicatif::ProgressBar::new(cases.len() as u64)),
            started: Instant::now(),
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
        self.journal.add(&record)?;
        match self.format {
            Format::Human => {}
            Format::Json => return Ok(()),
            Format::Github => {
                self.annotations.add(&record, self.journal.run());
                return Ok(());
            }
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

    /// Prints what is left, and ends the journal, however the run has ended.
    fn end(mut self, ran: Result<()>) -> Result<u8> {
        // Those behind a trial that was not made.
        for (_, record) in std::mem::take(&mut self.early) {
            self.in_turn(record)?;
        }
        let why = ran.as_ref().err().map(|error| format!("{error:#}"));
        let told = self.tell();
        let ended = self.journal.end(why);
        if let (Format::Github, Ok(document)) = (self.format, &ended) {
            say(&self.annotations.end(&document.problems(), &self.tally))?;
        }
        // What has ended the run is told, and not what came of it.
        ran?;
        told?;
        ended?;
        Ok(self.tally.exit_code())
    }

    /// The end of what a person reads.
    fn tell(&mut self) -> Result<()> {
        if !matches!(self.format, Format::Human) {
            return Ok(());
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
        say(&(human::summary(&self.tally, self.started.elapsed()) + "\n"))
    }
}

/// What reruns one trial: its id in the catalogue, its file otherwise.
fn rerun_selector(record: &Record) -> String {
    let file = record.place.rsplit_once(':').map_or(record.place.as_str(), |(file, _)| file);
    let embedded = catalogue::list(std::slice::from_ref(&record.id)).is_ok();
    if embedded { record.id.clone() } else { file.to_owned() }
}
