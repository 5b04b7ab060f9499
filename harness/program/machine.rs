//! The process's other life: the first process of a machine that fits a laboratory, which starts
//! one program, reaps whatever it leaves, and takes all of it along when it ends.
//!
//! Airtight starts its own executable anew for this, with an order in the environment, in a fresh
//! process namespace: what a program forks away, however it hides, dies with the first process of
//! its namespace (pid_namespaces(7)).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use serde::{Deserialize, Serialize};

use super::trace::{Notes, Trace, Tracer};
use crate::scenario::Fault;
use crate::sys;

/// The variable of the environment that holds the order.
pub(crate) const ORDER: &str = "AIRTIGHT_INSIDE";
/// Set in a signal's byte where it is what stops the program.
pub(crate) const STOPS: u8 = 0x80;
/// The name of the machine.
const HOSTNAME: &str = "airtight";

/// What the first process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// The folder that it runs in.
    pub(crate) directory: Option<String>,
    /// The user and group id that it runs as.
    pub(crate) user: Option<u32>,
    /// Its standard input.
    pub(crate) input: String,
    /// What stands in /etc/resolv.conf.
    pub(crate) resolver: String,
    /// What stands in /etc/hosts.
    pub(crate) hosts: String,
    /// What its pins are refused with.
    pub(crate) fault: Fault,
}

/// What the first process tells when its program has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) end: End,
    pub(crate) trace: Trace,
    /// What a function that failed says.
    pub(crate) said: String,
    /// Whether a function has left threads behind.
    pub(crate) left: bool,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was not started at all: what was tried, and the answer.
    NotStarted(String),
    /// It ran for longer than it may.
    TimedOut,
    /// A function panicked, with these words.
    Panicked(String),
}

/// Where the process was started as a machine's first, does that and ends.
#[expect(clippy::exit, reason = "this process has no other life, and nothing to drop")]
pub(crate) fn live() {
    let Some(order) = std::env::var_os(ORDER) else { return };
    // Nowhere else: it mounts, and ends every process that it sees.
    if nix::unistd::getpid() != Pid::from_raw(1) {
        std::process::exit(72);
    }
    let parsed = serde_json::from_str::<Order>(&order.to_string_lossy());
    let Ok(order) = parsed else { std::process::exit(70) };
    let told = wire().and_then(|wire| tell(&wire, &end(&order, &wire)));
    std::process::exit(if told.is_ok() { 0 } else { 71 });
}

/// Standard input is the connection to whoever waits: the one descriptor that can be passed on
/// without the program inheriting it.
fn wire() -> Result<UnixStream> {
    let wire = std::io::stdin().as_fd().try_clone_to_owned().context("take the connection")?;
    Ok(UnixStream::from(wire))
}

fn tell(mut wire: &UnixStream, report: &Report) -> Result<()> {
    Ok(wire.write_all(serde_json::to_string(report)?.as_bytes())?)
}

fn end(order: &Order, wire: &UnixStream) -> Report {
    let none = || Trace::none("it was not started");
    match prepare(order).and_then(|()| run(order, wire)) {
        Ok(report) => report,
        Err(error) => Report {
            end: End::NotStarted(format!("{error:#}")),
            trace: none(),
            said: String::new(),
            left: false,
        },
    }
}

/// Makes the machine: nothing of the host's network is to be seen on it.
fn prepare(order: &Order) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .context("ask to die with whoever waits")?;
    let spaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    unshare(spaces).context("make namespaces for the program")?;
    let mounted = |kind: &str, at: &str| {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount {kind} on {at}"))
    };
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make the mounts private")?;
    mounted("proc", "/proc")?;
    // Where a link leads may lie in /run, which is to be covered.
    let files = [("resolv.conf", &order.resolver), ("hosts", &order.hosts)]
        .map(|(name, text)| (name, text, fs::canonicalize(format!("/etc/{name}")).ok()));
    // The machine's own services are asked by sockets in /run: names, time, logs. They would answer by
    // the machine's own network.
    if fs::exists("/run").unwrap_or(false) {
        mounted("tmpfs", "/run")?;
    }
    // The files stand on a file system of their own, which /sys covers afterwards.
    mounted("tmpfs", "/sys")?;
    for (name, text, real) in files {
        let (from, to) = (format!("/sys/{name}"), format!("/etc/{name}"));
        fs::write(&from, text).with_context(|| format!("write {from}"))?;
        if let Some(real) = real.filter(|real| real.starts_with("/run")) {
            let above = real.parent().context("a file without a folder")?;
            fs::create_dir_all(above).with_context(|| format!("create {}", above.display()))?;
            fs::write(&real, text).with_context(|| format!("write {}", real.display()))?;
            continue;
        }
        let bound =
            mount(Some(from.as_str()), to.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>);
        match bound {
            // A machine without the file looks it up nowhere.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).with_context(|| format!("put a file at {to}")),
        }
    }
    mounted("sysfs", "/sys")?;
    sethostname(HOSTNAME).context("name the machine")
}

fn run(order: &Order, wire: &UnixStream) -> Result<Report> {
    let (child, notes) = start(order)?;
    let own = Pid::from_raw(i32::try_from(child.id())?);
    let asked = wire.try_clone().context("take the connection")?;
    let stopped = Arc::<AtomicBool>::default();
    let stopping = stopped.clone();
    // Ends with the process.
    std::thread::spawn(move || pass_on(asked, own, &stopping));
    let mut end = None;
    // Until nothing is left that it has started: that may send too.
    loop {
        match waitpid(None::<Pid>, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == own => end = Some(End::Exited(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == own => {
                end = Some(End::Signalled(signal as i32));
            }
            Ok(_) => {}
            Err(Errno::ECHILD) => break,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context("wait for the program"),
        }
        if end.is_some() && stopped.load(Ordering::SeqCst) {
            // What a program that was asked to end has left is asked too, as by a service manager:
            // -1 are all processes of the namespace but the first.
            let _ = kill(Pid::from_raw(-1), Signal::SIGTERM);
        }
    }
    let end = end.context("the program was reaped by nobody")?;
    let trace = match notes {
        Ok(notes) => Notes::trace(&notes),
        Err(why) => Trace::none(why),
    };
    Ok(Report { end, trace, said: String::new(), left: false })
}

/// Sends the program the signals that whoever waits asks for, a byte each.
fn pass_on(mut wire: UnixStream, program: Pid, stopped: &AtomicBool) {
    let mut byte = [0];
    while let Ok(1) = wire.read(&mut byte) {
        stopped.fetch_or(byte[0] & STOPS != 0, Ordering::SeqCst);
        if let Ok(signal) = Signal::try_from(i32::from(byte[0] & !STOPS)) {
            // A program that has ended meanwhile needs no signal.
            let _ = kill(program, signal);
        }
    }
}

type Noting = Result<Arc<Mutex<Notes>>, String>;

/// Starts the program from a thread of its own, which alone asks before it calls: a filter is
/// inherited, and the first process must answer.
fn start(order: &Order) -> Result<(Child, Noting)> {
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| -> Result<(Child, Noting)> {
            let notes = match sys::listen_for_calls() {
                Ok(listener) => {
                    let (tracer, notes) = Tracer::new(listener, order.fault.clone());
                    std::thread::spawn(move || tracer.answer());
                    Ok(notes)
                }
                Err(error) => Err(format!("seccomp(2): {error}")),
            };
            if let (Err(why), true) = (&notes, order.fault != Fault::default()) {
                anyhow::bail!("its pins cannot be refused here: {why}");
            }
            Ok((spawn(order)?, notes))
        });
        starter.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the starter panicked")))
    })
}

fn spawn(order: &Order) -> Result<Child> {
    let Some((program, arguments)) = order.words.split_first() else {
        anyhow::bail!("the command line is empty");
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&order.environment).stdin(Stdio::piped());
    command.process_group(0);
    if let Some(directory) = &order.directory {
        command.current_dir(directory);
    }
    if let Some(user) = order.user {
        command.uid(user).gid(user);
    }
    let mut child = command.spawn().with_context(|| format!("start `{program}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = order.input.clone();
        // A program need not read what it is given.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    }
    Ok(child)
}
