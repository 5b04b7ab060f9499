//! Airtight proves which ways of pinning traffic to a network link hold, and which leak.
//!
//! ```text
//!   host under test                 gateways (a namespace each)
//!     chassis .17 ---------------- .18   <- where control traffic belongs
//!     uplink  .33 ---------------- .34   <- what the kernel's routes prefer
//! ```
//!
//! A scenario file describes such a laboratory and a claim about it. A trial builds the
//! laboratory from throwaway namespaces, shows that the trap is armed (an unpinned sender leaves by the
//! decoy), makes the attempt, and judges the frames that were captured on every wire:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use airtight::{host, plan, scenario, trial};
//!
//! let left = host::leave()?; // Before any thread is started.
//! let runner = trial::Runner::new(left)?;
//! let text = std::fs::read("scenarios/basics/source-address.toml")?;
//! let scenario = scenario::parse("basics/source-address", "source-address.toml", &text)?;
//! for case in plan::expand(&scenario) {
//!     let record = runner.run(&case);
//!     assert_eq!(record.verdict.word(), "conforms", "{}", record.reason);
//! }
//! # Ok(())
//! # }
//! ```

pub mod batch;
#[cfg(feature = "cli")]
pub mod bundle;
pub mod capture;
pub mod catalogue;
mod cgroup;
#[cfg(feature = "cli")]
pub mod compliance;
pub mod coverage;
mod errno;
pub mod facts;
pub mod folder;
pub mod host;
#[cfg(feature = "cli")]
pub mod init;
pub mod lab;
mod peer;
pub mod plan;
pub mod probe;
pub mod program;
pub mod report;
pub mod scenario;
#[cfg(feature = "cli")]
pub mod schema;
pub mod script;
pub mod sender;
pub mod suite;
mod sys;
pub mod trial;
pub mod verdict;
mod world;
