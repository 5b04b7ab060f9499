//! The only place that knows the order of things: a case to a record.
//!
//! Leave the host, build, arm, attempt, drain, account, judge. Whatever fails on the way is an
//! error of ours and ends in `inconclusive`; a leak is a value.

mod inbound;
mod record;
mod sabotage;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::capture::{Captures, Phase, Reaper};
use crate::host::Left;
use crate::lab::{Baseline, Lab};
use crate::peer::Peer;
use crate::plan::{ATTEMPT_PORT, Arrival, CONTROL_PORT, Case, Exchange, PinCall};
use crate::scenario::Transport;
use crate::sender::{self, Attempt, Listener, Recipe};
use crate::verdict::{self, Armed, Arming, Closing, Judgement};
use inbound::Inbound;

pub use record::{Controls, Counter, Expected, FrameRecord, Record};
pub use sabotage::{AtStage, InsteadOfSender, Sabotage, Scene, Stage};

/// How long a wire may take to carry a sentinel: it takes microseconds on an idle machine, and
/// what waits for it ends as soon as it comes.
const SENTINEL_WITHIN: Duration = Duration::from_secs(2);

/// Runs trials. One for a process; any number of threads may use it at once.
pub struct Runner {
    left: Left,
    baseline: Baseline,
    reaper: Reaper,
    nonces: AtomicU64,
    cpus: Vec<usize>,
    next_cpu: AtomicUsize,
}

impl Runner {
    /// Prepares for trials. Errors say what this machine refuses.
    pub fn new(left: Left) -> Result<Runner> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("read the allowed processors")?;
        let cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (now.as_nanos(), std::process::id()).hash(&mut hasher);
        Ok(Runner {
            left,
            baseline: Baseline::read(left).context("read the settings of a fresh namespace")?,
            reaper: Reaper::start(),
            nonces: AtomicU64::new(hasher.finish()),
            cpus: cpus.collect(),
            next_cpu: AtomicUsize::new(0),
        })
    }

    /// Makes the trial of `case` on a thread of its own.
    pub fn run(&self, case: &Case) -> Record {
        self.run_sabotaged(case, &Sabotage::none())
    }

    /// Makes the trial with something broken on purpose: how airtight's own tests show that a
    /// broken laboratory proves nothing.
    pub fn run_sabotaged(&self, case: &Case, sabotage: &Sabotage<'_>) -> Record {
        let started = Instant::now();
        let nonce = self.nonces.fetch_add(2, Ordering::Relaxed) & !1;
        let turn = self.next_cpu.fetch_add(1, Ordering::Relaxed);
        let cpu = self.cpus.get(turn % self.cpus.len().max(1)).copied();
        let mut record = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("trial".to_owned());
            let body = || self.on_own_thread(case, nonce, cpu, sabotage);
            match builder.spawn_scoped(scope, body).map(|thread| thread.join()) {
                Ok(Ok(record)) => record,
                Ok(Err(panic)) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or(panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
                    let text = text.unwrap_or_else(|| "without a message".to_owned());
                    Record::failed(case, &anyhow!("the trial panicked: {text}"))
                }
                Err(error) => Record::failed(case, &anyhow!("start a thread: {error}")),
            }
        });
        record.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        record
    }

    fn on_own_thread(
        &self,
        case: &Case,
        nonce: u64,
        cpu: Option<usize>,
        sabotage: &Sabotage<'_>,
    ) -> Record {
        let trial = || -> Result<Record> {
            hold_to(cpu)?;
            let lab = Lab::build(self.left, case, &self.baseline)?;
            let captures = Captures::open(&lab, &case.links, nonce, &self.reaper)?;
            Trial {
                case,
                lab: &lab,
                captures,
                nonce,
                inbound: None,
                peer_port: 40_000,
                reaper: &self.reaper,
            }
            .run(sabotage)
        };
        trial().unwrap_or_else(|error| Record::failed(case, &error))
    }
}

/// Holds the thread to one processor, so that a sentinel cannot overtake what went before it.
fn hold_to(cpu: Option<usize>) -> Result<()> {
    let cpu = cpu.context("no processor is allowed to hold the trial to")?;
    let mut set = CpuSet::new();
    set.set(cpu).context("name a processor")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("hold to processor {cpu}"))
}

struct Trial<'a> {
    case: &'a Case,
    lab: &'a Lab,
    captures: Captures<'a>,
    nonce: u64,
    inbound: Option<Inbound>,
    /// The port that the last approach came from: each has its own, so that no answer is another's.
    peer_port: u16,
    reaper: &'a Reaper,
}

impl Trial<'_> {
    fn run(mut self, sabotage: &Sabotage<'_>) -> Result<Record> {
        let case = self.case;
        self.stage(sabotage, Stage::Built)?;
        self.lab.raise()?;
        let _sinks = self.sinks()?;
        self.inbound = Inbound::open(case, self.lab, self.nonce, self.reaper)?;
        self.stage(sabotage, Stage::Raised)?;
        let (arming, armed) = self.arm(sabotage)?;
        let mut evidence = record::Evidence { arming, ..Default::default() };
        let armed = match armed {
            Ok(armed) => armed,
            Err(reason) => {
                evidence.closing.tallies = self.captures.tallies()?;
                evidence.frames = self.captures.into_frames();
                return Ok(Record::new(case, evidence, Judgement::inconclusive(reason)));
            }
        };
        self.stage(sabotage, Stage::Armed)?;
        let token = self.token("attempt");
        let attempt = match sabotage.attempt {
            Some(attempt) => self.lab.inside_host(|| {
                attempt(&Scene { case, lab: self.lab, captures: &mut self.captures, token: &token })
            })?,
            None => self.attempt(&case.pin, ATTEMPT_PORT, &token, arrival(case))?,
        };
        self.stage(sabotage, Stage::Attempted)?;
        self.close(&mut evidence)?;
        let frames = self.captures.into_frames();
        let judgement = match verdict::close(case, &evidence.closing) {
            Ok(closed) => verdict::judge(
                case,
                &armed,
                closed,
                &attempt,
                &token,
                &frames,
                &evidence.closing.tallies,
            ),
            Err(reason) => verdict::judge_unaccounted(case, &armed, &frames, &reason),
        };
        evidence.unpinned = armed.through().iter().map(|at| case.links[*at].name.clone()).collect();
        evidence.frames = frames;
        evidence.attempt = attempt;
        evidence.token = token;
        Ok(Record::new(case, evidence, judgement))
    }

    fn stage(&mut self, sabotage: &Sabotage<'_>, stage: Stage) -> Result<()> {
        let Some(at) = sabotage.at else { return Ok(()) };
        let (case, lab, captures) = (self.case, self.lab, &mut self.captures);
        at(stage, &mut Scene { case, lab, captures, token: &[] })
    }

    /// The gateways' sockets at the target, where they are played by the kernel.
    fn sinks(&self) -> Result<Vec<std::os::fd::OwnedFd>> {
        let mut sinks = Vec::new();
        if self.case.exchange != Exchange::Send {
            return Ok(sinks);
        }
        for (at, link) in self.case.links.iter().enumerate() {
            for port in [ATTEMPT_PORT, CONTROL_PORT] {
                let address = SocketAddr::new(self.case.target, port);
                let sink =
                    self.lab.inside_gateway(at, || sender::sink(self.case.transport, address))?;
                sinks.push(
                    sink.with_context(|| {
                        format!("open {address} in the gateway of {}", link.name)
                    })?,
                );
            }
        }
        Ok(sinks)
    }

    /// Arms the trap: every capture alive, the control, every wire quiet.
    fn arm(&mut self, sabotage: &Sabotage<'_>) -> Result<(Arming, Result<Armed, String>)> {
        let case = self.case;
        let mut arming = Arming { token: self.token("control"), ..Arming::default() };
        arming.alive = self.captures.end_phase(SENTINEL_WITHIN)?;
        if arming.alive.iter().all(|alive| *alive) {
            self.stage(sabotage, Stage::Alive)?;
            let token = arming.token.clone();
            match case.exchange {
                Exchange::Inject(Arrival { by, to }) => {
                    let mut links = vec![case.control, by];
                    links.dedup();
                    for by in links {
                        let way = Some(Arrival { by, to });
                        arming.control = self.attempt(&[], CONTROL_PORT, &token, way)?;
                        if arming.control.received == Some(true) {
                            arming.reached.push(by);
                        }
                    }
                }
                Exchange::Send | Exchange::Request(_) => {
                    arming.control = self.attempt(&[], CONTROL_PORT, &token, arrival(case))?;
                }
            }
            arming.settled = self.captures.end_phase(SENTINEL_WITHIN)?;
        }
        let armed = verdict::arm(case, &arming, self.captures.frames());
        Ok((arming, armed))
    }

    /// One attempt by a socket with these pins: the control's are none.
    fn attempt(
        &mut self,
        pin: &[PinCall],
        port: u16,
        token: &[u8],
        arrival: Option<Arrival>,
    ) -> Result<Attempt> {
        let case = self.case;
        let recipe = Recipe { family: case.family, transport: case.transport, pin };
        let Some(arrival) = arrival else {
            let to = SocketAddr::new(case.target, port);
            return self.lab.inside_host(|| sender::client(recipe, to, token));
        };
        let mut listener = self.lab.inside_host(|| Listener::open(recipe, port))?;
        if listener.listening() {
            let answered = self.approach(arrival, port, token)?;
            let answer = if matches!(case.exchange, Exchange::Request(_)) { token } else { &[] };
            listener.serve(token, answer);
            let attempt = listener.close();
            // A SYN that was answered has reached a socket: that it was not accepted is no proof
            // of the contrary.
            let contradicts = answered && attempt.received == Some(false);
            anyhow::ensure!(
                !contradicts || matches!(case.exchange, Exchange::Request(_)),
                "the handshake was answered and the connection was not accepted"
            );
            return Ok(attempt);
        }
        Ok(listener.close())
    }

    /// A gateway's packets: a datagram, or a whole TCP opening with data behind it. Tells whether
    /// a SYN was answered by a SYN-ACK.
    fn approach(&mut self, arrival: Arrival, port: u16, token: &[u8]) -> Result<bool> {
        let case = self.case;
        self.peer_port += 1;
        let peer = Peer {
            by: &case.links[arrival.by],
            from: SocketAddr::new(case.target, self.peer_port),
            to: SocketAddr::new(case.links[arrival.to].address, port),
        };
        if case.transport != Transport::Tcp {
            self.inject(arrival.by, &peer.datagram(token)?)?;
            return Ok(false);
        }
        self.inject(arrival.by, &peer.syn()?)?;
        anyhow::ensure!(self.captures.barrier(SENTINEL_WITHIN)?, "a wire carries no sentinel");
        let Some(sequence) = peer.syn_ack(self.captures.frames()) else { return Ok(false) };
        self.inject(arrival.by, &peer.complete(sequence, token)?)?;
        Ok(true)
    }

    /// Injects a frame, and returns when the host under test has processed it.
    fn inject(&mut self, by: usize, frame: &[u8]) -> Result<()> {
        self.captures.inject(by, frame)?;
        let inbound = self.inbound.as_mut().context("nothing listens for inbound sentinels")?;
        let link = &self.case.links[by];
        let sentinel = inbound.sentinel(by, link);
        self.captures.inject(by, &sentinel)?;
        inbound
            .wait(SENTINEL_WITHIN)
            .with_context(|| format!("wait for a frame injected by {}", link.name))
    }

    /// Drains the wires and takes the account.
    fn close(&mut self, evidence: &mut record::Evidence) -> Result<()> {
        evidence.closing =
            Closing { drained: self.captures.end_phase(SENTINEL_WITHIN)?, ..Closing::default() };
        evidence.closing.transmitted = self.lab.transmitted()?;
        self.captures.read()?;
        evidence.closing.tallies = self.captures.tallies()?;
        Ok(())
    }

    /// A token that no other trial and no other part of this one has.
    fn token(&self, part: &str) -> Vec<u8> {
        format!("airtight {part} {:016x}", self.nonce).into_bytes()
    }
}

fn arrival(case: &Case) -> Option<Arrival> {
    match case.exchange {
        Exchange::Send => None,
        Exchange::Request(arrival) | Exchange::Inject(arrival) => Some(arrival),
    }
}

/// The phase's word, as records have it.
fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Rising => "rising",
        Phase::Control => "control",
        Phase::Attempt => "attempt",
        Phase::Drained => "drained",
    }
}
