//! A program as the sender: runs it on a machine that fits the laboratory, and keeps what it says.
//! It does not know what was captured.

mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::plan::Program;
use machine::{ORDER, Order};

pub use machine::End;
pub(crate) use machine::live;

/// How much of what a program says is kept of each stream, in bytes. The rest is read and counted.
const SAID_BYTES_MAX: usize = 64 << 10;
/// Where programs are looked for where our own environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long the machine may take to end with its program.
const GRACE: Duration = Duration::from_secs(5);

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ran {
    /// Its command line.
    pub command: Vec<String>,
    /// How it ended.
    pub end: End,
    /// The SHA-256 of its file, where it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What it said on standard output.
    pub stdout: Said,
    /// What it said on standard error.
    pub stderr: Said,
    /// How many of its connections had not ended when the window closed: the kernel may still send
    /// on their behalf.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsettled: usize,
    /// How long it ran, in microseconds, its machine's making included.
    pub micros: u64,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What a program said on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Said {
    /// The beginning, at most 64 KiB, with what is no UTF-8 replaced.
    pub text: String,
    /// How many bytes it was.
    pub bytes: u64,
}

/// Runs `program`, with `token` in its placeholders' place, in the calling thread's network
/// namespace. `meanwhile` is called again and again until it has ended, and may wait a little each
/// time. Errors are ours: what happens to the program is in what is returned.
pub(crate) fn run(
    program: &Program,
    token: &str,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Ran> {
    let started = Instant::now();
    let order = order(program, token);
    let sha256 = find(&order).and_then(|path| digest(&path));
    let words = order.words.clone();
    let (ended, end) = mpsc::channel();
    let (begun, begin) = mpsc::channel();
    // A thread of its own: its children alone are in the new process namespace, it can start no
    // other thread any more, and the machine dies with it.
    let keeper = std::thread::Builder::new().name("program".to_owned());
    let keeper = keeper.spawn(move || {
        // Whoever does not listen has given up, and has told why.
        let _ = ended.send(keep(&order, &begun));
    });
    let keeper = keeper.context("start a thread")?;
    let machine = begin.recv().context("start the program's machine")??;
    let said = [listen(machine.stdout), listen(machine.stderr)];
    let deadline = started + Duration::from_millis(program.timeout_ms.into());
    let mut killed = false;
    let end = loop {
        meanwhile()?;
        match end.try_recv() {
            Ok(end) => break end?,
            Err(mpsc::TryRecvError::Disconnected) => return Err(anyhow!("the keeper is gone")),
            Err(mpsc::TryRecvError::Empty) => {}
        }
        let now = Instant::now();
        if now >= deadline && !killed {
            // The first process takes all others along.
            kill(machine.pid, Signal::SIGKILL).context("end the program")?;
            killed = true;
        }
        anyhow::ensure!(now < deadline + GRACE, "the program's machine does not end");
    };
    drop(keeper.join());
    let [stdout, stderr] = said.map(|said| said.recv().unwrap_or_default());
    Ok(Ran {
        command: words,
        end: if killed { End::TimedOut } else { end },
        sha256,
        stdout,
        stderr,
        unsettled: 0,
        micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

fn order(program: &Program, token: &str) -> Order {
    let fill = |text: &String| text.replace("{token}", token);
    let variable = |name: &str, other: &str| {
        (name.to_owned(), std::env::var(name).unwrap_or_else(|_| other.to_owned()))
    };
    let mut environment = BTreeMap::from([variable("PATH", PATH), variable("HOME", "/")]);
    environment.extend(program.environment.iter().map(|(name, v)| (name.clone(), fill(v))));
    Order {
        words: program.words.iter().map(fill).collect(),
        environment,
        directory: program.directory.clone(),
        user: program.user,
        input: fill(&program.input),
        resolver: format!("nameserver {}\noptions timeout:1 attempts:1\n", program.resolver),
        hosts: "127.0.0.1 localhost airtight\n::1 localhost\n".to_owned(),
    }
}

/// A machine that has begun.
struct Machine {
    pid: Pid,
    stdout: std::process::ChildStdout,
    stderr: std::process::ChildStderr,
}

/// Starts a machine, and returns how its program ended, once it is over.
fn keep(order: &Order, begun: &mpsc::Sender<Result<Machine>>) -> Result<End> {
    let start = || -> Result<(Child, OwnedFd)> {
        unshare(CloneFlags::CLONE_NEWPID).context("make a process namespace")?;
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("a pipe")?;
        let mut machine = Command::new("/proc/self/exe");
        machine.env_clear().env(ORDER, serde_json::to_string(order)?);
        machine.stdin(Stdio::from(write)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = machine.spawn().context("start the first process of the program's machine")?;
        Ok((child, read))
    };
    let (mut child, report) = match start() {
        Ok(started) => started,
        Err(error) => {
            // Whoever waits for the beginning is told why there is none.
            let _ = begun.send(Err(error));
            return Ok(End::NotStarted("the machine was not made".to_owned()));
        }
    };
    let mut machine = || -> Result<Machine> {
        Ok(Machine {
            pid: Pid::from_raw(i32::try_from(child.id())?),
            stdout: child.stdout.take().context("no standard output")?,
            stderr: child.stderr.take().context("no standard error")?,
        })
    };
    let _ = begun.send(machine());
    child.wait().context("wait for the program's machine")?;
    let mut text = String::new();
    fs::File::from(report).take(1 << 16).read_to_string(&mut text).context("read its report")?;
    if text.is_empty() {
        return Ok(End::NotStarted("its machine ended without a word".to_owned()));
    }
    serde_json::from_str(&text).with_context(|| format!("read its report: {text}"))
}

/// Reads a stream to its end, on a thread of its own, and keeps its beginning.
fn listen(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Said> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut kept, mut bytes, mut buffer) = (Vec::new(), 0, vec![0; 1 << 16]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            bytes += count as u64;
            let room = SAID_BYTES_MAX.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(&buffer[..room]);
        }
        let text = String::from_utf8_lossy(&kept).into_owned();
        // Whoever does not listen any more does not miss it.
        let _ = sender.send(Said { text, bytes });
    });
    receiver
}

/// The file that the first word names, as execvp(3) finds it.
fn find(order: &Order) -> Option<PathBuf> {
    let program = order.words.first()?;
    if program.contains('/') {
        let folder = order.directory.as_deref().unwrap_or(".");
        return Some(Path::new(folder).join(program));
    }
    let path = order.environment.get("PATH")?;
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The SHA-256 of a file, computed once as long as it does not change.
fn digest(path: &Path) -> Option<String> {
    type Known = BTreeMap<(u64, u64, i64, i64, u64), Arc<str>>;
    static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
    let about = fs::metadata(path).ok().filter(|about| about.is_file())?;
    let key = (about.dev(), about.ino(), about.mtime(), about.mtime_nsec(), about.size());
    if let Some(known) = KNOWN.lock().ok()?.get(&key) {
        return Some(known.to_string());
    }
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path).ok()?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let text: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    KNOWN.lock().ok()?.insert(key, text.as_str().into());
    Some(text)
}
