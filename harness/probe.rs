//! What this machine can do, found out by doing it. Decided before a run, so that a skip is never
//! counted as proved.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use anyhow::{Result, anyhow};
use nix::sched::{CloneFlags, unshare};

use crate::cgroup::cgroup;
use crate::host::Left;
use crate::lab;
use crate::plan::Case;
use crate::scenario::ABILITIES;
use crate::sys;

/// The kernel's release, as `uname -r` prints it.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_else(|errno| format!("unknown ({errno})"))
}

/// What the probes found: ability to nothing, or to the reason why it is missing.
#[derive(Clone, Debug, Default)]
pub struct Abilities(BTreeMap<String, Option<String>>);

impl Abilities {
    /// Probes what `cases` need, each once, in a namespace of its own.
    pub fn of(left: Left, cases: &[Case]) -> Result<Abilities> {
        let needs = cases.iter().flat_map(|case| case.needs.iter().map(String::as_str));
        Abilities::probe(left, needs)
    }

    /// Probes every ability that a scenario can need.
    pub fn all(left: Left) -> Result<Abilities> {
        Abilities::probe(left, ABILITIES.iter().copied())
    }

    fn probe<'a>(_left: Left, needs: impl Iterator<Item = &'a str>) -> Result<Abilities> {
        let names: std::collections::BTreeSet<String> = needs.map(str::to_owned).collect();
        if names.is_empty() {
            return Ok(Abilities::default());
        }
        let probe_all = move || -> Result<Abilities> {
            let mut found = BTreeMap::new();
            for name in names {
                // A namespace each, so that no probe finds what another has left.
                unshare(CloneFlags::CLONE_NEWNET)?;
                let missing = probe(&name);
                found.insert(name, missing);
            }
            Ok(Abilities(found))
        };
        std::thread::spawn(probe_all).join().map_err(|_| anyhow!("a probe panicked"))?
    }

    /// Each ability and, where it is missing, why.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, missing)| (name.as_str(), missing.as_deref()))
    }

    /// Why `case` is skipped on this kernel; `None` where it is tried.
    pub fn skip(&self, case: &Case, kernel: &str) -> Option<String> {
        if !case.kernel.contains(kernel) {
            return Some(format!("for kernels {}, this is {kernel}", case.kernel));
        }
        case.needs.iter().find_map(|need| match self.0.get(need) {
            Some(None) => None,
            Some(Some(reason)) => Some(format!("needs {need}: {reason}")),
            None => Some(format!("needs {need}: not probed")),
        })
    }
}

/// Tries an ability. `Some` is the reason why it is missing.
fn probe(name: &str) -> Option<String> {
    if let Some(program) = name.strip_prefix("program:") {
        return match find_program(program) {
            true => None,
            false => Some(format!(
                "no program `{program}` on the PATH (Debian: apt-get install {})",
                package(program)
            )),
        };
    }
    if let Some(line) = name.strip_prefix("line:") {
        let tried = line.split(" && ").try_for_each(lab::try_line);
        return tried.err().map(|error| format!("{error:#}"));
    }
    let tried = match name {
        "bpf-redirect" => sys::redirect(1, 1).map(drop).map_err(|error| error.to_string()),
        "ipv6" => std::net::TcpListener::bind("[::]:0").map(drop).map_err(|e| e.to_string()),
        "bind-to-ifindex" => UdpSocket::bind("0.0.0.0:0")
            .and_then(|socket| {
                let index = 1i32.to_ne_bytes();
                sys::setsockopt(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &index)
            })
            .map_err(|error| error.to_string()),
        "mptcp" => sys::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)
            .map(drop)
            .map_err(|error| error.to_string()),
        "nftables" => lab::try_line("nft add table inet probe").map_err(|e| format!("{e:#}")),
        "nftables-egress" => lab::try_line(EGRESS_HOOK).map_err(|e| format!("{e:#}")),
        "cgroup-bpf" => try_cgroup().map_err(|error| format!("{error:#}")),
        "other-users" => lab::try_user_rule().map_err(|error| format!("{error:#}")),
        "xdp" => sys::Xdp::open().map(drop).map_err(|error| error.to_string()),
        "multicast-routing" => try_multicast_routing().map_err(|error| error.to_string()),
        kind => lab::try_link_kind(kind).map_err(|error| format!("{error:#}")),
    };
    tried.err()
}

/// A chain in the egress hook of lo (Linux 5.16).
const EGRESS_HOOK: &str = "nft add table netdev probe ; add chain netdev probe out \
                           { type filter hook egress device lo priority 0 ; }";

/// Hooks both kinds of programs in at a cgroup of the calling thread's own.
fn try_cgroup() -> Result<()> {
    let cgroup = cgroup()?;
    sys::pin_sockets(cgroup.as_fd(), 1)?.end()?;
    Ok(sys::drop_others(cgroup.as_fd(), &[1])?.end()?)
}

/// Becomes the namespace's multicast router, for both families (MRT_INIT and MRT6_INIT in
/// include/uapi/linux/mroute.h and mroute6.h).
fn try_multicast_routing() -> std::io::Result<()> {
    const INIT: i32 = 200;
    let routers = [
        (libc::AF_INET, libc::IPPROTO_IGMP, libc::IPPROTO_IP),
        (libc::AF_INET6, libc::IPPROTO_ICMPV6, libc::IPPROTO_IPV6),
    ];
    routers.into_iter().try_for_each(|(domain, protocol, level)| {
        let socket = sys::socket(domain, libc::SOCK_RAW, protocol)?;
        sys::setsockopt(socket.as_fd(), level, INIT, &1i32.to_ne_bytes())
    })
}

/// Debian's package of a program, where it has another name than the program.
fn package(program: &str) -> &str {
    match program {
        "ip" | "tc" => "iproute2",
        "nc" => "netcat-openbsd",
        "nft" => "nftables",
        "ping" => "iputils-ping",
        "unshare" | "setpriv" => "util-linux",
        own => own,
    }
}

fn find_program(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        std::fs::metadata(folder.join(name))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}
