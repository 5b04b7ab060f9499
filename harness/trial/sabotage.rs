//! What airtight's own tests may break, and when.

use anyhow::Result;

use crate::capture::Captures;
use crate::lab::Lab;
use crate::plan::Case;
use crate::sender::Attempt;

/// The points of a trial at which something can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The links exist, the captures are open, and everything is down.
    Built,
    /// Everything is up and routed.
    Raised,
    /// Every capture has seen its first sentinel.
    Alive,
    /// The trap is armed.
    Armed,
    /// The attempt is made, and the wires are not drained yet.
    Attempted,
}

/// What is at hand at a stage.
pub struct Scene<'a, 'b> {
    /// The case on trial.
    pub case: &'a Case,
    /// Its laboratory.
    pub lab: &'a Lab,
    /// Its captures.
    pub captures: &'a mut Captures<'b>,
    /// The attempt's token, once there is one.
    pub token: &'a [u8],
}

/// Breaks something at a stage.
pub type AtStage<'a> = &'a (dyn Fn(Stage, &mut Scene<'_, '_>) -> Result<()> + Sync);
/// Makes the attempt in the sender's place, inside the host under test.
pub type InsteadOfSender<'a> = &'a (dyn Fn(&Scene<'_, '_>) -> Attempt + Sync);

/// What to break in a trial.
#[derive(Clone, Copy)]
pub struct Sabotage<'a> {
    /// Called at each stage.
    pub at: Option<AtStage<'a>>,
    /// Makes the attempt in the sender's place.
    pub attempt: Option<InsteadOfSender<'a>>,
}

impl Sabotage<'_> {
    /// Nothing is broken.
    pub fn none() -> Self {
        Sabotage { at: None, attempt: None }
    }
}
