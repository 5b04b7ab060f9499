//! A cgroup of the calling thread's own, for BPF programs that are to see its sockets and nobody
//! else's (cgroups(7), Documentation/admin-guide/cgroup-v2.rst, "Threads").
//!
//! It is a threaded one below the cgroup that airtight runs in, so that nothing else is moved, and
//! no program is hooked in anywhere else. Threads and processes that the thread starts are born in
//! it: only the thread itself has to be moved, once, which takes the kernel milliseconds.
//!
//! A cgroup is a folder, and no kernel reclaims it when its process dies. Its thread removes it, and
//! where the whole process was killed, a keeper does: airtight's own executable, started anew.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long the last thread of a cgroup may take to leave it after its end was seen.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// The variable of the environment that tells the keeper what it keeps: what the paths of its
/// process's cgroups begin with.
const KEEPS: &str = "AIRTIGHT_KEEPS";

thread_local! {
    static OWN: RefCell<Option<Cgroup>> = const { RefCell::new(None) };
}

/// The calling thread's own cgroup, which it is in from its first call on and until it ends.
pub(crate) fn cgroup() -> Result<OwnedFd> {
    OWN.with_borrow_mut(|own| {
        let cgroup = match own {
            Some(cgroup) => cgroup,
            None => own.insert(Cgroup::enter()?),
        };
        cgroup.folder.try_clone().context("copy the descriptor of a cgroup")
    })
}

struct Cgroup {
    path: PathBuf,
    folder: OwnedFd,
}

impl Cgroup {
    fn enter() -> Result<Cgroup> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        static KEEPER: OnceLock<Result<Child, String>> = OnceLock::new();
        let mut path = here()?.join(format!("airtight-{}-", std::process::id())).into_os_string();
        if let Err(why) = KEEPER.get_or_init(|| keeper(&path)) {
            return Err(anyhow!("start the keeper of cgroups: {why}"));
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        path.push(count.to_string());
        let path = PathBuf::from(path);
        fs::create_dir(&path).with_context(|| format!("make the cgroup {}", path.display()))?;
        let entered = || -> Result<Cgroup> {
            let file = |name: &str, text: &str| {
                let file = path.join(name);
                fs::write(&file, text)
                    .with_context(|| format!("write {text} to {}", file.display()))
            };
            file("cgroup.type", "threaded")?;
            file("cgroup.threads", "0")?;
            let folder = fs::File::open(&path).context("open the cgroup")?.into();
            Ok(Cgroup { path: path.clone(), folder })
        };
        entered().inspect_err(|_| {
            // Nobody is in it, or the error tells more than this one would.
            let _ = fs::remove_dir(&path);
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What fails here the keeper tries again.
        if let Some(parent) = self.path.parent() {
            let _ = fs::write(parent.join("cgroup.threads"), "0");
        }
        let _ = remove(&self.path);
    }
}

/// Starts the keeper. It ends when its standard input does, which is when this process is gone.
fn keeper(prefix: &OsString) -> Result<Child, String> {
    let mut command = Command::new("/proc/self/exe");
    command.env_clear().env(KEEPS, prefix).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| error.to_string())
}

/// Where the process was started as a keeper, waits until whoever started it is gone, removes the
/// cgroups that it has left, and ends.
#[expect(clippy::exit, reason = "this process has no other life, and nothing to drop")]
pub(crate) fn live() {
    let Some(prefix) = std::env::var_os(KEEPS) else { return };
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let kept = sweep(Path::new(&prefix));
    std::process::exit(i32::from(kept.is_err()));
}

/// Removes every cgroup whose path begins with `prefix`.
fn sweep(prefix: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (prefix.parent(), prefix.file_name()) else { return Ok(()) };
    let name = name.as_encoded_bytes();
    for entry in fs::read_dir(folder).context("list cgroups")? {
        let entry = entry.context("list cgroups")?;
        if !name.is_empty() && entry.file_name().as_encoded_bytes().starts_with(name) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a cgroup when the last thread has left it.
fn remove(path: &Path) -> Result<()> {
    let deadline = Instant::now() + EMPTY_WITHIN;
    let name = path.join("cgroup.events");
    loop {
        // The kernel tells of a change to whoever has read the file before it.
        let events = fs::File::open(&name)?;
        let text = std::io::read_to_string(&events)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if text.contains("populated 0") || left.is_zero() {
            return fs::remove_dir(path).with_context(|| format!("remove {}", path.display()));
        }
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))?;
    }
}

/// The folder of the cgroup that this process runs in.
fn here() -> Result<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    folder(&own, &mounts).ok_or_else(|| anyhow!("no writable cgroup2 file system shows our cgroup"))
}

/// The folder where a cgroup2 file system of `mounts` (proc_pid_mountinfo(5)) shows the cgroup that
/// `own` (cgroups(7), /proc/pid/cgroup) tells.
fn folder(own: &str, mounts: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        let [_, _, _, root, point, options, ..] = fields[..] else { return None };
        let writable = options.split(',').any(|option| option == "rw");
        let below = Path::new(own).strip_prefix(root).ok()?;
        (kind.starts_with("cgroup2 ") && writable).then(|| Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_below_its_mount() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let own = "1:name=systemd:/x\n0::/user.slice/a.scope\n";
        let found = folder(own, mounts);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/user.slice/a.scope")));
        let below = mounts.replace(" / /sys", " /user.slice /sys");
        assert_eq!(folder(own, &below), Some(PathBuf::from("/sys/fs/cgroup/a.scope")));
        assert_eq!(folder(own, &mounts.replace("rw,nosuid", "ro,nosuid")), None);
        assert_eq!(folder(own, &mounts.replace(" / /sys", " /system.slice /sys")), None);
        assert_eq!(folder(own, &mounts.replace("cgroup2", "cgroup")), None);
    }
}
