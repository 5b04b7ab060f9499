//! The settings of a namespace that decide whether a wire is silent and a trap neutral. A fresh
//! namespace inherits some of them from the host's, so each is set to a stated value.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};

use crate::host::Left;
use crate::scenario::Family;

/// What every namespace of a laboratory has, below /proc/sys/net (ip-sysctl in the kernel's
/// documentation). New devices copy `default`.
const COMMON: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/arp_ignore", "0"),
    ("ipv4/conf/default/arp_ignore", "0"),
    ("ipv4/conf/all/arp_announce", "0"),
    ("ipv4/conf/default/arp_announce", "0"),
    ("ipv4/conf/all/arp_filter", "0"),
    ("ipv4/conf/default/arp_filter", "0"),
    ("ipv4/conf/all/arp_notify", "0"),
    ("ipv4/conf/default/arp_notify", "0"),
    ("ipv4/conf/all/accept_local", "0"),
    ("ipv4/conf/default/accept_local", "0"),
    ("ipv4/conf/all/route_localnet", "0"),
    ("ipv4/conf/default/route_localnet", "0"),
    ("ipv4/conf/all/ignore_routes_with_linkdown", "0"),
    ("ipv4/conf/default/ignore_routes_with_linkdown", "0"),
    ("ipv4/fwmark_reflect", "0"),
    ("ipv4/tcp_fwmark_accept", "0"),
    // A membership is reported once: what is reported again later would disturb a wire.
    ("ipv4/igmp_qrv", "1"),
];

/// Without IPv6 there is no neighbour discovery to disturb an IPv4 wire. `all` would be lo's alone, which
/// has no wire, and takes the routing lock (addrconf_disable_ipv6).
const V4: &[(&str, &str)] = &[("ipv6/conf/default/disable_ipv6", "1")];

/// No link-local addresses, no duplicate address detection, no router solicitations: silence.
const V6: &[(&str, &str)] = &[
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv6/conf/default/forwarding", "0"),
    ("ipv6/conf/default/ndisc_notify", "0"),
    ("ipv6/conf/all/ndisc_notify", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/mld_qrv", "1"),
];

/// What a fresh namespace has by itself where a laboratory states its own value: the machine's
/// settings that could matter, for the record. Paths below /proc/sys/net to values.
pub fn inherited(_left: Left) -> Result<BTreeMap<String, String>> {
    let read = || -> Result<BTreeMap<String, String>> {
        unshare(CloneFlags::CLONE_NEWNET).context("make a namespace")?;
        let names = [COMMON, V4, V6].concat();
        let now = names.iter().filter_map(|(name, _)| {
            let value = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
            Some(((*name).to_owned(), value.trim().to_owned()))
        });
        Ok(now.collect())
    };
    std::thread::spawn(read).join().map_err(|_| anyhow!("the thread panicked"))?
}

/// Which of the settings a fresh namespace does not have by itself, read once.
#[derive(Clone, Debug)]
pub struct Baseline {
    v4: Vec<(String, &'static str)>,
    v6: Vec<(String, &'static str)>,
}

impl Baseline {
    /// Reads the settings of a fresh namespace, on a thread of its own. A machine without IPv6
    /// has none of the settings for it; its `ipv6` probe says so.
    pub fn read(_left: Left) -> Result<Baseline> {
        let read = || -> Result<Baseline> {
            unshare(CloneFlags::CLONE_NEWNET).context("make a namespace")?;
            let differing = |settings: &[(&'static str, &'static str)]| {
                let differs = |(name, value): &(&'static str, &'static str)| {
                    let path = format!("/proc/sys/net/{name}");
                    let now = fs::read_to_string(&path).ok()?;
                    (now.trim() != *value).then_some((path, *value))
                };
                settings.iter().filter_map(differs).collect::<Vec<_>>()
            };
            let (v4, v6) = ([COMMON, V4].concat(), [COMMON, V6].concat());
            Ok(Baseline { v4: differing(&v4), v6: differing(&v6) })
        };
        std::thread::spawn(read).join().map_err(|_| anyhow!("the thread panicked"))?
    }

    /// Sets the calling thread's fresh namespace.
    pub(super) fn settle(&self, family: Family) -> Result<()> {
        let settings = match family {
            Family::V4 | Family::Mapped => &self.v4,
            Family::V6 => &self.v6,
        };
        // The kernel takes some of them with the routing lock or not at all, and lets write(2) begin anew
        // until it has it (addrconf_disable_ipv6): one of us at a time may turn in that circle.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, value) in settings {
            fs::write(path, value).with_context(|| format!("write {value} to {path}"))?;
        }
        Ok(())
    }
}
