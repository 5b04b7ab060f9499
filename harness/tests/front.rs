//! What test programs of airtight's own begin with: the process leaves the host, once for all tests.

use std::process::ExitCode;
use std::sync::Arc;

use airtight::host::{self, Left};
use airtight::trial::Runner;
use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

/// The proof of having left the host, and who runs trials.
pub(crate) type Ground = (Left, Runner);

/// A test by its name.
pub(crate) type Test = (String, Box<dyn FnOnce(&Ground) -> Result<()> + Send>);

/// Runs the tests that the command line selects, as many at once as `threads` says: most of the time
/// something broken is waited for.
pub(crate) fn main(threads: Option<usize>, tests: Vec<Test>) -> ExitCode {
    host::begin();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(threads);
    let ground = host::leave().map_err(anyhow::Error::from);
    let ground = match ground.and_then(|left| Ok((left, Runner::new(left)?))) {
        Ok(ground) => Some(Arc::new(ground)),
        Err(_) if arguments.list => None,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(3);
        }
    };
    let trial = |(name, test): Test| {
        let ground = ground.clone();
        Trial::test(name, move || {
            let ground = ground.ok_or_else(|| Failed::from("the host was not left"))?;
            test(&ground).map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}
