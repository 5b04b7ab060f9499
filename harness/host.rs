//! Leaving the host: the process moves itself into fresh namespaces, before any thread. Nothing
//! that follows can touch the machine's own network, and the kernel reclaims all of it when the
//! process dies. Knows nothing of scenarios.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// How many connections the table of a laboratory's namespace has room for without a detour.
const CONNECTIONS: &str = "512";

/// Proof that the process has left the host. Whatever builds a laboratory asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    rootless: bool,
}

impl Left {
    /// Whether it took a user namespace, as it does without root.
    pub fn rootless(self) -> bool {
        self.rootless
    }
}

/// Why the process cannot leave the host: what failed, and the one remedy for this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotLeave {
    /// What was tried, and the kernel's answer.
    pub failure: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for CannotLeave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine cannot run laboratories: {}\nremedy: {}", self.failure, self.remedy)
    }
}

impl std::error::Error for CannotLeave {}

/// The first call of a `main` that does anything before [`leave`], reading its arguments included.
/// Airtight starts its own executable anew as the first process of a program's machine, and as the
/// keeper of its cgroups; there this never returns.
pub fn begin() {
    crate::program::live();
    crate::cgroup::live();
}

/// Moves the process into its own network and mount namespaces, and without CAP_SYS_ADMIN into a
/// user namespace of its own first. Must be called before any thread is started: a process with
/// threads cannot enter a user namespace (unshare(2)). Calling it again returns the first proof.
pub fn leave() -> Result<Left, CannotLeave> {
    begin();
    static LEFT: OnceLock<Result<Left, CannotLeave>> = OnceLock::new();
    LEFT.get_or_init(leave_once).clone()
}

fn leave_once() -> Result<Left, CannotLeave> {
    let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let (user, group) = (geteuid(), getegid());
    let rootless = match unshare(spaces) {
        Ok(()) => false,
        Err(Errno::EPERM) => {
            unshare(spaces | CloneFlags::CLONE_NEWUSER)
                .map_err(|errno| cannot("unshare user, network and mount namespaces", errno))?;
            let write = |file: &str, text: String| {
                fs::write(format!("/proc/self/{file}"), text).map_err(|error| {
                    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                    cannot(&format!("write /proc/self/{file}"), errno)
                })
            };
            write("setgroups", "deny".to_owned())?;
            write("uid_map", format!("0 {user} 1"))?;
            write("gid_map", format!("0 {group} 1"))?;
            true
        }
        Err(errno) => return Err(cannot("unshare network and mount namespaces", errno)),
    };
    // Namespaces made from here on have a table of connections of their own: the machine's, which has
    // room for hundreds of thousands, would be gone through whenever one of ours is asked for its
    // connections, or dies (Linux 6.1). Without it all takes longer.
    let _ = fs::write("/proc/sys/net/ipv4/tcp_child_ehash_entries", CONNECTIONS);
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    // Our mounts stay ours. A container's AppArmor may forbid it even to root: nothing that
    // follows mounts anything, so that alone is no reason to give up.
    if let Err(errno) = mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        && errno != Errno::EACCES
    {
        return Err(cannot("make the mounts private", errno));
    }
    Ok(Left { rootless })
}

fn setting(path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|text| text.trim().to_owned())
}

/// What failed, and the remedy that fits this machine.
fn cannot(what: &str, errno: Errno) -> CannotLeave {
    let container =
        ["/.dockerenv", "/run/.containerenv"].iter().any(|path| fs::exists(path).unwrap_or(false));
    let facts = Facts {
        errno,
        userns_clone: setting("kernel/unprivileged_userns_clone"),
        apparmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
        container,
    };
    CannotLeave { failure: format!("{what}: {errno}"), remedy: remedy(&facts) }
}

struct Facts {
    errno: Errno,
    userns_clone: Option<String>,
    apparmor: Option<String>,
    container: bool,
}

/// The one remedy for these facts. Pure.
fn remedy(facts: &Facts) -> String {
    let on = |setting: &Option<String>, value: &str| setting.as_deref() == Some(value);
    let text = match facts.errno {
        Errno::ENOSPC | Errno::EUSERS => {
            "raise the limits on namespaces: sudo sysctl -w user.max_user_namespaces=10000 \
             user.max_net_namespaces=10000 user.max_mnt_namespaces=10000"
        }
        Errno::EINVAL => "call airtight before the process starts a thread",
        _ if facts.container => {
            "give the container more rights: --cap-add SYS_ADMIN --cap-add NET_ADMIN \
             --security-opt apparmor=unconfined (or --privileged)"
        }
        _ if on(&facts.userns_clone, "0") => {
            "allow user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1 (or run \
             airtight with sudo)"
        }
        _ if on(&facts.apparmor, "1") => {
            "allow user namespaces: sudo sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0 (or run airtight with sudo)"
        }
        _ => "run airtight with sudo",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        errno: Errno,
        userns: Option<&str>,
        apparmor: Option<&str>,
        container: bool,
    ) -> String {
        remedy(&Facts {
            errno,
            userns_clone: userns.map(str::to_owned),
            apparmor: apparmor.map(str::to_owned),
            container,
        })
    }

    #[test]
    fn each_cause_has_its_remedy() {
        assert!(check(Errno::EPERM, Some("0"), None, false).contains("userns_clone=1"));
        assert!(check(Errno::EACCES, Some("1"), Some("1"), false).contains("apparmor_restrict"));
        assert!(check(Errno::EPERM, None, None, true).contains("--cap-add SYS_ADMIN"));
        assert!(check(Errno::ENOSPC, None, None, false).contains("max_user_namespaces"));
        assert!(check(Errno::EPERM, None, None, false).contains("sudo"));
    }
}
