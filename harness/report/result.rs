//! The canonical result of a run: one JSON document, from which everything else is rendered.

use serde::{Deserialize, Serialize};

use crate::trial::Record;

/// A run's result, as `airtight run --format json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// The version of this shape.
    pub schema: u32,
    /// What made it.
    pub tool: Tool,
    /// What it was made on.
    pub host: Host,
    /// The trials.
    pub records: Vec<Record>,
}

/// What made a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `airtight`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The machine that a result was made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Whether a user namespace was taken, as it is without root.
    pub rootless: bool,
}
