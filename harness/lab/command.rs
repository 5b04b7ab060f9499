//! Command lines inside the laboratory, for what routing netlink has no words for.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::sys;

/// The longest that a command line may take.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Runs a command line in the calling thread's namespace. An error tells what it has said.
pub(super) fn run(words: &[String]) -> Result<()> {
    std::thread::scope(|scope| {
        // A thread of its own, so that what is being started has no copy of anybody's sockets.
        let starter = scope.spawn(|| {
            sys::leave_descriptors();
            run_here(words)
        });
        starter.join().unwrap_or_else(|_| Err(anyhow!("the starter of a command panicked")))
    })
}

fn run_here(words: &[String]) -> Result<()> {
    let line = words.join(" ");
    let (program, arguments) = words.split_first().context("an empty command line")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.process_group(0);
    let mut child = command.spawn().with_context(|| format!("run `{line}`"))?;
    let mut errors = child.stderr.take().context("no standard error")?;
    let id = Pid::from_raw(i32::try_from(child.id())?);
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = errors.by_ref().take(1 << 16).read_to_end(&mut text).map(|_| text);
        // A program may close its standard error and go on. It stays to be reaped, so that its
        // number is nobody else's when it has to be killed.
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let read = read.and_then(|text| Ok(waitid(Id::Pid(id), ended).map(|_| text)?));
        // Whoever has given up waiting does not listen.
        let _ = sender.send(read);
    });
    let text = match ended.recv_timeout(ENDS_WITHIN) {
        Ok(text) => text.with_context(|| format!("read what `{line}` says"))?,
        Err(_) => {
            // With whatever it has started.
            killpg(id, Signal::SIGKILL).with_context(|| format!("end `{line}`"))?;
            child.wait().with_context(|| format!("wait for `{line}`"))?;
            return Err(anyhow!("`{line}` did not end within {ENDS_WITHIN:?}"));
        }
    };
    let status = child.wait().with_context(|| format!("wait for `{line}`"))?;
    if !status.success() {
        bail!("`{line}`: {status}: {}", String::from_utf8_lossy(&text).trim());
    }
    Ok(())
}
