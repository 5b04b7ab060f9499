//! What is put underneath so that nothing leaves by a decoy.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};

use super::Lab;
use crate::plan::Guarding;
use crate::sys;

impl Lab {
    /// Puts a guard underneath. Its programs are hooked in at `cgroup`, which the calling thread must
    /// be in; they and all else end with the laboratory.
    pub fn guard(&self, guarding: &Guarding, cgroup: Option<BorrowedFd<'_>>) -> Result<()> {
        if !guarding.apart && !guarding.away.is_empty() {
            self.remove_others()?;
            guarding.away.iter().try_for_each(|at| self.take_away(*at))?;
        }
        self.run_lines(&guarding.lines)?;
        guarding.routes.iter().try_for_each(|route| self.add_route(route))?;
        guarding.rules.iter().try_for_each(|rule| self.add_rule(&self.host, rule))?;
        if let Some(index) = guarding.pinned {
            let cgroup = cgroup.context("the trial has no cgroup of its own")?;
            let hook = sys::pin_sockets(cgroup, index);
            self.hooks.borrow_mut().push(hook.context("bind the cgroup's sockets to a device")?);
        }
        if let Some(kept) = &guarding.kept {
            let cgroup = cgroup.context("the trial has no cgroup of its own")?;
            let hook = sys::drop_others(cgroup, kept);
            self.hooks.borrow_mut().push(hook.context("drop what leaves by other devices")?);
        }
        Ok(())
    }
}
