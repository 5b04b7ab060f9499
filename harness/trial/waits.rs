//! What a trial waits for because the kernel does it later: reports of memberships, which it sends by
//! a timer, and whatever else the record must say that it was waited for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Trial;
use super::record::Wait;
use crate::lab::Membership;

/// How long the report of a membership may take. It comes two ticks after the change, 8 ms at 250 a
/// second, whether a group was joined or left (igmp_ifc_event in net/ipv4/igmp.c and mld_ifc_event in
/// net/ipv6/mcast.c, 6.18); a machine that is busy is late.
const REPORTED_WITHIN: Duration = Duration::from_secs(1);

/// How long both sendings of a report take, the second up to a second after the first (RFC 3376 sections
/// 8.1 and 8.11, RFC 3810 sections 9.1 and 9.11): what has not come then, a guard has stopped.
const SENT_WITHIN: Duration = Duration::from_millis(2_500);

/// The types of a record in a report of IGMPv3 or MLDv2 (RFC 3376 section 4.2.12, RFC 3810 section
/// 5.2.12) that tell of a group that was left, and of one that was joined.
const LEFT: u8 = 3;
const JOINED: u8 = 4;

impl Trial<'_> {
    /// Notes that something was waited for.
    pub(super) fn waited(&mut self, what: impl Into<String>, begun: Instant) {
        self.waits.push(Wait::new(what, begun.elapsed()));
    }

    /// All that was waited for, the laboratory's own waits included.
    pub(super) fn all_waits(&mut self) -> Vec<Wait> {
        let of_lab = self.lab.waited().into_iter().map(|(what, took)| Wait::new(what, took));
        std::mem::take(&mut self.waits).into_iter().chain(of_lab).collect()
    }

    /// Waits for the reports of groups that have been left of those that were joined.
    pub(super) fn await_left(&mut self, before: &BTreeSet<Membership>) -> Result<()> {
        if before.is_empty() {
            return Ok(());
        }
        let now = self.lab.memberships()?;
        before.difference(&now).try_for_each(|group| self.await_report(*group, LEFT))
    }

    /// Waits for the reports of groups that were joined since the trap was armed and are joined still.
    pub(super) fn await_joined(&mut self, before: &BTreeSet<Membership>) -> Result<()> {
        let now = self.lab.memberships()?;
        now.difference(before).try_for_each(|group| self.await_report(*group, JOINED))
    }

    /// Waits until a link has carried the report of a membership. Where it has not in time, it can
    /// still come, unless a guard stops it: then the wait is for as long as the kernel tries.
    fn await_report(&mut self, (link, group): Membership, kind: u8) -> Result<()> {
        let octets = match group {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        // Neither auxiliary data nor sources: whoever filters sources is not waited for.
        let record = [&[kind, 0, 0, 0], octets.as_slice()].concat();
        let begun = Instant::now();
        let guarded = self.case.guard.is_some();
        let within = if guarded { SENT_WITHIN } else { REPORTED_WITHIN };
        let came = self.captures.await_report(link, &record, within)?;
        let name = &self.case.links[link].name;
        let verb = if kind == LEFT { "leaving" } else { "joining" };
        let what = format!("the report of {verb} {group} by {name}");
        if !came && !guarded {
            self.unreported.push((Some(link), format!("{what} can still be sent")));
        }
        self.waited(what, begun);
        Ok(())
    }
}
