//! What a result must say of the run that it is of: airtight's own build, the kernel, the machine,
//! the scenarios. Reads files, and knows nothing of trials.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::host::Left;
use crate::lab;
use crate::plan::Case;
use crate::program;
use crate::report::result::{Build, Kernel, Machine, Product, Run, ScenarioFile};

/// The kernel's options that decide what a scenario can try, and how it ends.
const OPTIONS: &[&str] = &[
    "BPF_SYSCALL",
    "BONDING",
    "BRIDGE",
    "DUMMY",
    "IPV6",
    "IPV6_MULTIPLE_TABLES",
    "IPV6_ROUTE_INFO",
    "IPV6_ROUTER_PREF",
    "IPV6_SUBTREES",
    "IPVLAN",
    "IP_ADVANCED_ROUTER",
    "IP_MROUTE",
    "IP_MULTICAST",
    "IP_MULTIPLE_TABLES",
    "IP_ROUTE_MULTIPATH",
    "MACVLAN",
    "MPTCP",
    "NETFILTER",
    "NETKIT",
    "NET_L3_MASTER_DEV",
    "NET_NS",
    "NET_VRF",
    "NF_TABLES",
    "PACKET",
    "PREEMPT",
    "TUN",
    "USER_NS",
    "VETH",
    "VLAN_8021Q",
    "VXLAN",
    "WIREGUARD",
    "XDP_SOCKETS",
    "XFRM",
];

/// The run that makes `cases` on this machine, of which it has no record yet. `product` is what
/// stands behind `--`, and empty without one. What cannot be found out is left unknown: it is no
/// reason not to run.
pub fn run(left: Left, cases: &[Case], product: &[String]) -> Run {
    Run {
        build: build(),
        kernel: kernel(left),
        machine: Machine {
            arch: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            rootless: left.rootless(),
        },
        ..plan(cases, product)
    }
}

/// The same without what must be read and computed first, some 30 ms of it: for runs that leave no
/// result.
pub fn plan(cases: &[Case], product: &[String]) -> Run {
    let mut scenarios: Vec<ScenarioFile> = Vec::new();
    for case in cases {
        if scenarios.last().is_none_or(|last| last.name != case.scenario) {
            scenarios.push(ScenarioFile {
                name: case.scenario.clone(),
                path: case.path.clone(),
                sha256: case.sha256.clone(),
            });
        }
    }
    let named = !product.is_empty();
    Run {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: now(),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        product: named.then(|| Product { command: product.to_vec(), sha256: None }),
        scenarios,
        planned: cases.len(),
        missing: cases.iter().map(|case| case.id.clone()).collect(),
        ..Run::default()
    }
}

fn build() -> Build {
    let debug = cfg!(debug_assertions);
    Build {
        profile: if debug { "debug" } else { "release" }.to_owned(),
        commit: option_env!("AIRTIGHT_COMMIT").filter(|of| !of.is_empty()).map(str::to_owned),
        // A hundred megabytes by code that is not optimised either would take a second.
        sha256: if debug { None } else { program::digest(Path::new("/proc/self/exe")) },
    }
}

fn kernel(left: Left) -> Kernel {
    let names = nix::sys::utsname::uname();
    let text = |of: &std::ffi::OsStr| of.to_string_lossy().into_owned();
    let (release, version) = names.map_or_else(
        |_| ("unknown".to_owned(), "unknown".to_owned()),
        |names| (text(names.release()), text(names.version())),
    );
    let (config_from, config) = config(&release).unzip();
    Kernel {
        release,
        version,
        config_from,
        config: config.map(|text| options(&text)).unwrap_or_default(),
        sysctls: lab::inherited(left).unwrap_or_default(),
    }
}

/// The kernel's configuration, and the file that it was read from.
fn config(release: &str) -> Option<(String, String)> {
    let packed = "/proc/config.gz";
    let plain = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    let unpacked = fs::read(packed).ok().and_then(|bytes| unpack(&bytes));
    unpacked.map(|text| (packed.to_owned(), text)).or_else(|| {
        plain.into_iter().find_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
    })
}

#[cfg(feature = "cli")]
fn unpack(bytes: &[u8]) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).take(8 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Whoever only runs `cargo test` need not compile what unpacks it: then it is unknown.
#[cfg(not(feature = "cli"))]
fn unpack(_bytes: &[u8]) -> Option<String> {
    None
}

/// The options that matter: `y`, `m`, or `n` where one is not set.
fn options(config: &str) -> BTreeMap<String, String> {
    let lines = config.lines().filter_map(|line| line.strip_prefix("CONFIG_"));
    let set: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once('=')).collect();
    let value = |name: &&str| {
        let value = set.get(name).copied().unwrap_or("n");
        ((*name).to_owned(), value.to_owned())
    };
    OPTIONS.iter().map(value).collect()
}

/// The time, in UTC, as RFC 3339 has it.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(now.as_secs(), now.subsec_millis())
}

/// A time since the epoch as RFC 3339 has it.
fn utc(seconds: u64, millis: u32) -> String {
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // `date -u -d @SECONDS +%FT%T`
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_799, "2000-02-29T23:59:59.007Z"),
            (1_767_225_599, "2025-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(utc(seconds, 7), expected);
        }
    }

    #[test]
    fn an_option_that_is_not_set_is_n() {
        let text = "CONFIG_VETH=m\n# CONFIG_NET_VRF is not set\nCONFIG_NET_NS=y\n";
        let options = options(text);
        assert_eq!((options["VETH"].as_str(), options["NET_NS"].as_str()), ("m", "y"));
        assert_eq!(options["NET_VRF"], "n");
    }
}
