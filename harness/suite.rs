//! The `cargo test` front end: one libtest-mimic trial for each of ours. The only user of
//! libtest-mimic.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::catalogue;
use crate::facts;
use crate::folder::Shared;
use crate::host;
use crate::plan::{Case, Product, Waiver};
use crate::probe::{Abilities, kernel_release};
use crate::report::human;
use crate::scenario::Outcome;
use crate::trial::Runner;
use crate::verdict::Verdict;

/// The exit code of a machine that cannot run laboratories.
pub const EXIT_CANNOT_RUN: u8 = 3;
/// The variable of the environment that names a folder for the records: with it every trial writes
/// its own into `FOLDER/TEST`, in whichever process it is made, for `airtight report FOLDER/*` to
/// put together. TEST is the name of the test program, as in `cargo test --test TEST`.
pub const OUT: &str = "AIRTIGHT_OUT";
/// The exit code of a broken scenario file or a wrong use.
pub const EXIT_USAGE: u8 = 2;

/// How many trials are made at once where some wait for a program or a timer.
const WAITING_THREADS: usize = 8;

/// A suite of trials for `cargo test`.
///
/// ```no_run
/// use airtight::suite::Suite;
///
/// fn main() -> std::process::ExitCode {
///     Suite::standard()
///         .select("product") // airtight's own traps
///         .dir("tests/egress") // and yours
///         .product(["target/debug/client", "{intended.device}", "{target}", "{port}"])
///         .main()
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Suite {
    selectors: Vec<String>,
    product: Option<Product>,
    known: Vec<(String, Waiver)>,
}

impl Suite {
    /// The embedded catalogue.
    pub fn standard() -> Suite {
        Suite::default()
    }

    /// Adds a file, a folder or the beginning of an id, as `airtight run` takes it. The first one
    /// takes the whole catalogue's place.
    #[must_use]
    pub fn select(mut self, selector: &str) -> Suite {
        self.selectors.push(selector.to_owned());
        self
    }

    /// Adds a folder of scenarios, as [`Suite::select`] does.
    #[must_use]
    pub fn dir(self, folder: &str) -> Suite {
        self.select(folder)
    }

    /// Puts a product through the traps: every trap of the catalogue, or those that were selected.
    /// A list of words is a command: the program and its arguments, with the placeholders of a
    /// scenario's command: `{intended.device}`, `{target}`, `{port}`, `{token}` ... [`Product`] has
    /// daemons, and functions for libraries.
    #[must_use]
    pub fn product(mut self, product: impl Into<Product>) -> Suite {
        self.product = Some(product.into());
        self
    }

    /// Accepts for now that the trials whose ids begin with `trials` come to `outcome` in the place
    /// of what is expected. `until` names what will end it: the address of an issue. Once it is no
    /// longer so the trial fails as stale; a waiver that no trial begins with is an error.
    #[must_use]
    pub fn known(mut self, trials: &str, outcome: Outcome, until: &str) -> Suite {
        let waiver = Waiver { outcome, until: until.to_owned() };
        self.known.push((trials.to_owned(), waiver));
        self
    }

    fn product_words(&self) -> Vec<String> {
        self.product.as_ref().map(Product::words).unwrap_or_default()
    }

    fn cases(&self) -> anyhow::Result<Vec<Case>> {
        let mut cases = match &self.product {
            None => catalogue::select(&self.selectors)?,
            Some(product) => catalogue::select_for(product, &self.selectors)?,
        };
        for (trials, waiver) in &self.known {
            let mut waived = cases.iter_mut().filter(|case| case.id.starts_with(trials)).peekable();
            anyhow::ensure!(
                waived.peek().is_some(),
                "no trial begins with `{trials}`, which is known to come to {} until {}: mend or \
                 remove the waiver",
                waiver.outcome.word(),
                waiver.until
            );
            waived.for_each(|case| case.known = Some(waiver.clone()));
        }
        Ok(cases)
    }

    /// Runs the suite as a test program's `main`: it must be called before any thread is started.
    /// Listing needs no privileges; a machine that cannot run laboratories fails.
    pub fn main(self) -> ExitCode {
        host::begin();
        let mut arguments = Arguments::from_args();
        let cases = match self.cases() {
            Ok(cases) => cases,
            Err(error) => return complain(EXIT_USAGE, &format!("{error:#}")),
        };
        let prepared = host::leave()
            .map_err(anyhow::Error::from)
            .and_then(|left| Ok(((left, Abilities::of(left, &cases)?), Runner::new(left)?)));
        let (abilities, runner) = match prepared {
            Ok((abilities, runner)) => (Some(abilities), Some(Arc::new(runner))),
            Err(_) if arguments.list => (None, None),
            Err(error) => return complain(EXIT_CANNOT_RUN, &format!("{error:#}")),
        };
        let kernel = kernel_release();
        // Trials that wait need no processor meanwhile.
        if cases.iter().any(Case::waits) {
            arguments.test_threads = arguments.test_threads.or(Some(WAITING_THREADS));
        }
        let shared = match (&abilities, std::env::var_os(OUT)) {
            // Nextest lists in another process, which makes no trial.
            (Some((left, abilities)), Some(out)) if !arguments.list => {
                let skip = |case: &Case| Some((case.clone(), abilities.skip(case, &kernel)?));
                let shared = Shared::join(
                    &Path::new(&out).join(own_name()),
                    || facts::run(*left, &cases, &self.product_words()),
                    || cases.iter().filter_map(skip).collect(),
                );
                match shared {
                    Ok(shared) => Some(Arc::new(shared)),
                    Err(error) => return complain(EXIT_USAGE, &format!("{error:#}")),
                }
            }
            _ => None,
        };
        let trials = cases.into_iter().map(|case| {
            let skip = abilities.as_ref().and_then(|(_, found)| found.skip(&case, &kernel));
            // A waiver is ignored only where it still holds, which only the trial can tell: it
            // runs, and a stale waiver fails.
            let ignored = skip.is_some();
            let (runner, shared) = (runner.clone(), shared.clone());
            Trial::ignorable_test(case.id.clone(), move || {
                attempt(&case, skip, runner.as_deref(), shared.as_deref())
            })
            .with_ignored_flag(ignored)
        });
        libtest_mimic::run(&arguments, trials.collect()).exit_code()
    }
}

fn attempt(
    case: &Case,
    skip: Option<String>,
    runner: Option<&Runner>,
    shared: Option<&Shared>,
) -> Result<libtest_mimic::Completion, Failed> {
    if let Some(reason) = skip {
        // Only with --include-ignored: what cannot be tried is then a failure, not a pass.
        return Err(Failed::from(reason));
    }
    let Some(runner) = runner else { return Err(Failed::from("the host was not left")) };
    let record = runner.run(case);
    if let Some(shared) = shared {
        shared.record(&record).map_err(|error| format!("{error:#}"))?;
    }
    match record.verdict {
        Verdict::Conforms => Ok(libtest_mimic::Completion::Completed),
        Verdict::Known => Ok(libtest_mimic::Completion::ignored_with(record.reason)),
        Verdict::Deviates | Verdict::Stale | Verdict::Inconclusive | Verdict::Skipped => {
            let rerun = format!("cargo test --test {} -- --exact {}", own_name(), record.id);
            let style = human::Style { colour: false };
            Err(Failed::from(human::failure(&record, &rerun, style)))
        }
    }
}

/// The name of this test program: cargo puts a hash behind it.
fn own_name() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    stem.rsplit_once('-').map_or(stem.clone(), |(name, _)| name.to_owned())
}

#[expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]
fn complain(code: u8, message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(code)
}
