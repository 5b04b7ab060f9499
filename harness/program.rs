//! A program as the sender: runs it on a machine that fits the laboratory, and keeps what it says.
//! It does not know what was captured.

mod function;
mod machine;
mod trace;

use std::collections::BTreeMap;
use std::fs;
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::plan::{Body, Program, Task};
use crate::scenario::{Ready, Signal as Stop};
use crate::sys;
use machine::{ORDER, Order, Report, STOPS};

pub use machine::End;
pub(crate) use machine::live;
pub use trace::{Trace, TracedCall, TracedSocket};

/// How much of what a program says is kept of each stream, in bytes. The rest is read and counted.
const SAID_BYTES_MAX: usize = 64 << 10;
/// Where programs are looked for where our own environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of a machine's report is read, in bytes: what is traced is bounded, and much less.
const REPORT_BYTES_MAX: u64 = 4 << 20;
/// How long the machine may take to end with its program.
const GRACE: Duration = Duration::from_secs(30);

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Ran {
    /// Its command line.
    pub command: Vec<String>,
    /// How it ended.
    pub end: End,
    /// The signal that it was stopped by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// The SHA-256 of its file, where it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What it said on standard output.
    pub stdout: Said,
    /// What it said on standard error.
    pub stderr: Said,
    /// The calls that decided its way out.
    #[serde(default)]
    pub trace: Trace,
    /// What it has asked the name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
    /// What gateways have asked it without an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
    /// Whether a function has left threads behind, which may send whenever they like.
    #[serde(default, skip_serializing_if = "is_false")]
    pub left: bool,
    /// How many of its connections had not ended when the window closed: the kernel may still send
    /// on their behalf.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsettled: usize,
    /// How long it ran, in microseconds, its machine's making included.
    pub micros: u64,
}

impl Ran {
    /// Whether the signal that it was stopped by is what ended it.
    pub fn died_of_its_stop(&self) -> bool {
        let End::Signalled(signal) = self.end else { return false };
        let name = Signal::try_from(signal).map(Signal::as_str).ok();
        name.is_some() && name == self.stopped.as_deref()
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A question that a name server was asked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Lookup {
    /// The name.
    pub name: String,
    /// The type of the record: `A`, `AAAA` ...
    pub kind: String,
    /// The link that it came by.
    pub link: String,
}

/// What a program said on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Said {
    /// The beginning, at most 64 KiB, with what is no UTF-8 replaced.
    pub text: String,
    /// How many bytes it was.
    pub bytes: u64,
}

/// A program that has been started, in the network namespace of the thread that started it.
pub(crate) struct Running {
    words: Vec<String>,
    sha256: Option<String>,
    started: Instant,
    deadline: Instant,
    hold: Hold,
    end: mpsc::Receiver<Result<Report>>,
    ended: Option<Report>,
    killed: bool,
    stopped: Option<String>,
    stdout: Heard,
    stderr: Heard,
    /// The file that it makes when it is ready.
    file: Option<PathBuf>,
    /// Can be read when it has ended.
    bell: UnixStream,
}

/// What rings a bell when it is dropped.
pub(super) struct Ringer(UnixStream);

impl Drop for Ringer {
    fn drop(&mut self) {
        // Not the hangup alone: a program that another thread is starting has copies of all
        // descriptors for a moment. Whoever does not listen any more needs no bell.
        let _ = self.0.write_all(&[0]);
    }
}

/// How a program is held.
enum Hold {
    /// The first process of its machine, and the connection to it.
    Machine { pid: Pid, wire: UnixStream },
    /// A thread, which nobody can end.
    Thread,
}

impl Running {
    /// Starts `program`, with `token` in its placeholders' place. Errors are ours: what happens to
    /// the program is told in the end.
    pub(crate) fn start(program: &Program, token: &str) -> Result<Running> {
        let started = Instant::now();
        let deadline = started + Duration::from_millis(program.timeout_ms.into());
        let fill = |text: &String| text.replace("{token}", token);
        let file = program.ready.as_ref().and_then(|ready| ready.file.as_ref());
        let file = file
            .map(|file| Path::new(program.directory.as_deref().unwrap_or(".")).join(fill(file)));
        if let Some(file) = file.as_ref().filter(|file| file.exists()) {
            bail!("{} is there before the program has started: remove it", file.display());
        }
        let (ended, end) = mpsc::channel();
        let (bell, ringer) = UnixStream::pair().context("make a bell")?;
        let ringer = Ringer(ringer);
        let mut running = Running {
            words: program.body.words().iter().map(fill).collect(),
            sha256: None,
            started,
            deadline,
            hold: Hold::Thread,
            end,
            ended: None,
            killed: false,
            stopped: None,
            stdout: Heard::default(),
            stderr: Heard::default(),
            file,
            bell,
        };
        match &program.body {
            Body::Function(function) => {
                let task = Task { token: token.to_owned(), ..program.task.clone() };
                function::start(function.clone(), task, program.fault.clone(), ended, ringer)?;
            }
            Body::Unnamed => bail!("nobody has named the product on trial"),
            Body::Command(_) => {
                let order = order(program, token);
                running.sha256 = find(&order).and_then(|path| digest(&path));
                running.begin(order, ended, ringer)?;
            }
        }
        Ok(running)
    }

    fn begin(
        &mut self,
        order: Order,
        ended: mpsc::Sender<Result<Report>>,
        ringer: Ringer,
    ) -> Result<()> {
        let (begun, begin) = mpsc::channel();
        // A thread of its own: its children alone are in the new process namespace, it can start no
        // other thread any more, and the machine dies with it.
        let keeper = std::thread::Builder::new().name("program".to_owned());
        let keeper = keeper.spawn(move || {
            // Whoever does not listen has given up, and has told why.
            let _ = ended.send(keep(&order, &begun));
            drop(ringer);
        });
        keeper.context("start a thread")?;
        let machine = begin.recv().context("start the program's machine")??;
        self.stdout = Heard::listen(machine.stdout);
        self.stderr = Heard::listen(machine.stderr);
        self.hold = Hold::Machine { pid: machine.pid, wire: machine.wire };
        Ok(())
    }

    /// Whether it has ended. One that runs for longer than it may is killed.
    pub(crate) fn ended(&mut self) -> Result<bool> {
        if self.ended.is_some() {
            return Ok(true);
        }
        match self.end.try_recv() {
            Ok(report) => {
                self.ended = Some(report?);
                return Ok(true);
            }
            Err(mpsc::TryRecvError::Disconnected) => bail!("the keeper of the program is gone"),
            Err(mpsc::TryRecvError::Empty) => {}
        }
        let now = Instant::now();
        if now >= self.deadline && !self.killed {
            self.killed = true;
            match &self.hold {
                // The first process takes all others along.
                Hold::Machine { pid, .. } => {
                    kill(*pid, Signal::SIGKILL).context("end the program")?;
                }
                Hold::Thread => {
                    let end = End::TimedOut;
                    let trace = Trace::none("the function has not returned");
                    self.ended = Some(Report { end, trace, said: String::new(), left: false });
                    return Ok(true);
                }
            }
        }
        ensure!(now < self.deadline + GRACE, "the program's machine does not end");
        Ok(false)
    }

    /// What can be read when it has ended, and how long it may still take.
    pub(crate) fn bell(&self) -> (BorrowedFd<'_>, Duration) {
        // A moment behind the deadline, which then has passed for certain.
        let left = self.deadline.saturating_duration_since(Instant::now());
        (self.bell.as_fd(), left + Duration::from_millis(1))
    }

    /// Gives it more time: the laboratory was being changed meanwhile.
    pub(crate) fn extend(&mut self, by: Duration) {
        self.deadline += by;
    }

    /// Whether it was killed because it ran for longer than it may.
    pub(crate) fn timed_out(&self) -> bool {
        self.killed
    }

    /// Whether it says by a line or a file that it is ready. Whether it listens on a port is to be
    /// asked elsewhere.
    pub(crate) fn says_ready(&self, ready: &Ready) -> bool {
        let line = ready.line.as_deref();
        let said = |line: &str| self.stdout.contains(line) || self.stderr.contains(line);
        line.is_some_and(said) || self.file.as_ref().is_some_and(|file| file.exists())
    }

    /// Asks it to end by a signal, and whatever it leaves by SIGTERM, unless it has ended.
    pub(crate) fn stop(&mut self, signal: Stop) -> Result<()> {
        if !self.ended()? {
            self.send(signal, STOPS)?;
            self.stopped = Some(signal.word().to_owned());
        }
        Ok(())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: Stop) -> Result<()> {
        self.send(signal, 0)
    }

    fn send(&mut self, signal: Stop, more: u8) -> Result<()> {
        let Hold::Machine { wire, .. } = &mut self.hold else {
            bail!("a function cannot be sent a signal");
        };
        let number: Signal = signal.word().parse().context("name a signal")?;
        // A machine that has ended meanwhile needs no signal.
        let _ = wire.write_all(&[number as u8 | more]);
        Ok(())
    }

    /// What it did, once it has ended.
    pub(crate) fn ran(mut self) -> Result<Ran> {
        ensure!(self.ended()?, "the program has not ended");
        let report = self.ended.take().context("the program has not ended")?;
        let file = self.file.take();
        // Whatever is left of what told that it was ready must not tell it of the next.
        file.into_iter().for_each(|file| drop(fs::remove_file(file)));
        let mut stderr = self.stderr.whole();
        // What a function says is its error.
        stderr.bytes += report.said.len() as u64;
        stderr.text += &report.said;
        Ok(Ran {
            command: std::mem::take(&mut self.words),
            end: if self.killed { End::TimedOut } else { report.end },
            stopped: self.stopped.take(),
            sha256: self.sha256.take(),
            stdout: self.stdout.whole(),
            stderr,
            trace: report.trace,
            lookups: Vec::new(),
            unanswered: Vec::new(),
            left: report.left,
            unsettled: 0,
            micros: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Hold::Machine { pid, .. }, None) = (&self.hold, &self.ended) {
            // The trial has failed: nothing of the program must outlive it.
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }
}

fn order(program: &Program, token: &str) -> Order {
    let fill = |text: &String| text.replace("{token}", token);
    let variable = |name: &str, other: &str| {
        (name.to_owned(), std::env::var(name).unwrap_or_else(|_| other.to_owned()))
    };
    let mut environment = BTreeMap::from([variable("PATH", PATH), variable("HOME", "/")]);
    environment.extend(program.environment.iter().map(|(name, v)| (name.clone(), fill(v))));
    Order {
        words: program.body.words().iter().map(fill).collect(),
        environment,
        directory: program.directory.clone(),
        user: program.user,
        input: fill(&program.input),
        resolver: format!("nameserver {}\noptions timeout:1 attempts:1\n", program.resolver),
        hosts: "127.0.0.1 localhost airtight\n::1 localhost\n".to_owned(),
        fault: program.fault.clone(),
    }
}

/// A machine that has begun.
struct Machine {
    pid: Pid,
    wire: UnixStream,
    stdout: PipeReader,
    stderr: PipeReader,
}

/// Starts a machine, and returns what it tells of its program, once that is over.
fn keep(order: &Order, begun: &mpsc::Sender<Result<Machine>>) -> Result<Report> {
    let not_started = |why: &str| Report {
        end: End::NotStarted(why.to_owned()),
        trace: Trace::none("it was not started"),
        said: String::new(),
        left: false,
    };
    let (mut wire, theirs) = UnixStream::pair().context("make a connection")?;
    let (stdout, stdout_theirs) = std::io::pipe().context("make a pipe")?;
    let (stderr, stderr_theirs) = std::io::pipe().context("make a pipe")?;
    let theirs: [OwnedFd; 3] = [theirs.into(), stdout_theirs.into(), stderr_theirs.into()];
    let numbers = [0, 1, 2].map(|at: usize| theirs[at].as_raw_fd());
    std::thread::scope(|scope| -> Result<()> {
        let (started, start) = mpsc::channel();
        let starter = scope.spawn(move || {
            let mut child = match machine(order, numbers) {
                Ok(child) => child,
                Err(error) => {
                    // Whoever waits for the beginning is told why there is none.
                    let _ = started.send(Err(error));
                    return Ok(());
                }
            };
            let pid = i32::try_from(child.id()).map(Pid::from_raw).map_err(anyhow::Error::from);
            let _ = started.send(pid);
            child.wait().map(drop).context("wait for the program's machine")
        });
        let pid = start.recv().context("the starter is gone")?;
        drop(theirs);
        let machine = pid.and_then(|pid| {
            Ok(Machine {
                pid,
                wire: wire.try_clone().context("take the connection")?,
                stdout,
                stderr,
            })
        });
        let _ = begun.send(machine);
        starter.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the starter panicked")))
    })?;
    let mut report = Vec::new();
    // A machine that ends without having read the last signal resets the connection, behind its
    // report: what has come tells.
    let read = (&mut wire).take(REPORT_BYTES_MAX).read_to_end(&mut report);
    match (report.as_slice(), read) {
        ([], _) => Ok(not_started("its machine ended without a word")),
        (report, _) => serde_json::from_slice(report)
            .with_context(|| format!("read its report: {}", String::from_utf8_lossy(report))),
    }
}

/// Starts a machine whose standard streams are these descriptors of the process. The calling thread
/// has no use for any descriptor afterwards, and the machine dies with it.
fn machine(order: &Order, streams: [i32; 3]) -> Result<Child> {
    let own = std::process::id();
    // What is being started would have a copy of every socket of every trial for a moment: then a
    // socket that is closed meanwhile is not. Some containers allow no pidfd_getfd(2).
    let apart = sys::copy_descriptor(own, streams[0]).is_ok() && sys::leave_descriptors();
    let copy = |stream| match apart {
        true => sys::copy_descriptor(own, stream),
        false => sys::duplicate(stream),
    };
    let [input, output, errors] = streams.map(copy);
    let streams = || Ok::<_, std::io::Error>((input?, output?, errors?));
    let (input, output, errors) = streams().context("hand the machine its streams")?;
    unshare(CloneFlags::CLONE_NEWPID).context("make a process namespace")?;
    let mut machine = Command::new("/proc/self/exe");
    machine.env_clear().env(ORDER, serde_json::to_string(order)?);
    machine.stdin(input).stdout(output).stderr(errors);
    machine.spawn().context("start the first process of the program's machine")
}

/// A stream that is read to its end, on a thread of its own, and of which the beginning is kept.
#[derive(Clone, Default)]
struct Heard(Arc<(Mutex<Hearing>, Condvar)>);

#[derive(Default)]
struct Hearing {
    kept: Vec<u8>,
    bytes: u64,
    listening: bool,
}

impl Heard {
    fn listen(mut stream: impl Read + Send + 'static) -> Heard {
        let heard = Heard::default();
        heard.hearing().listening = true;
        let writer = heard.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let mut hearing = writer.hearing();
                hearing.bytes += count as u64;
                let room = SAID_BYTES_MAX.saturating_sub(hearing.kept.len()).min(count);
                hearing.kept.extend_from_slice(&buffer[..room]);
            }
            writer.hearing().listening = false;
            writer.0.1.notify_all();
        });
        heard
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contains(&self, text: &str) -> bool {
        let (hearing, text) = (self.hearing(), text.as_bytes());
        !text.is_empty() && hearing.kept.windows(text.len()).any(|window| window == text)
    }

    /// All of it, once the stream has ended: with the machine all that could write to it are gone.
    fn whole(&self) -> Said {
        let (hearing, ended) = (self.hearing(), &self.0.1);
        let waited = ended.wait_timeout_while(hearing, GRACE, |hearing| hearing.listening);
        let (hearing, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&hearing.kept).into_owned();
        Said { text, bytes: hearing.bytes }
    }
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
pub(crate) fn digest(path: &Path) -> Option<String> {
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
