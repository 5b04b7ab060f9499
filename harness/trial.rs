//! The only place that knows the order of things: a case to a record.
//!
//! Leave the host, build, arm, attempt, drain, account, judge. Whatever fails on the way is an
//! error of ours and ends in `inconclusive`; a leak is a value.

mod inbound;
mod record;
mod sabotage;
mod script;
mod story;
mod unguarded;
mod waits;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::capture::{Captures, Phase, Reaper, Tally};
use crate::cgroup::cgroup;
use crate::host::Left;
use crate::lab::{Baseline, Lab, Pending};
use crate::peer;
use crate::plan::{
    ATTEMPT_PORT, Approach, Beside, CONTROL_PORT, Case, Guarding, PinCall, RouteQuery, Step,
};
use crate::scenario::{FrameKind, Transport};
use crate::sender::{self, Attempt, Recipe, Sender};
use crate::verdict::{self, Armed, Arming, Closing, Judgement};
use crate::world::{self, World};
use inbound::Inbound;
use script::Script;
use unguarded::Unguarded;

pub use record::{Controls, Counter, Decision, Expected, FrameRecord, Record, Wait};
pub use sabotage::{AtStage, InsteadOfSender, Sabotage, Scene, Stage};

/// How long a wire may take to carry a sentinel: it takes microseconds on an idle machine, and
/// what waits for it ends as soon as it comes.
const SENTINEL_WITHIN: Duration = Duration::from_secs(10);
/// How often the two witnesses of a link are read until they agree: a frame that a timer sends between
/// the one and the other would make them differ.
const ACCOUNTS_MAX: usize = 5;

/// Runs trials. One for a process; any number of threads may use it at once.
pub struct Runner {
    left: Left,
    baseline: Baseline,
    reaper: Reaper,
    nonces: AtomicU64,
    cpus: Vec<usize>,
    next_cpu: AtomicUsize,
    unguarded: Unguarded,
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
            unguarded: Unguarded::default(),
        })
    }

    /// Makes the trial of `case` on a thread of its own.
    pub fn run(&self, case: &Case) -> Record {
        let trial = || self.run_sabotaged(case, &Sabotage::none());
        self.unguarded.note(case, trial)
    }

    /// Makes the trial with something broken on purpose: how airtight's own tests show that a
    /// broken laboratory proves nothing.
    pub fn run_sabotaged(&self, case: &Case, sabotage: &Sabotage<'_>) -> Record {
        let started = Instant::now();
        let ground = match self.ground(case) {
            Ok(ground) => ground,
            Err(error) => return Record::failed(case, &error),
        };
        let nonce = self.nonces.fetch_add(2, Ordering::Relaxed) & !1;
        let turn = self.next_cpu.fetch_add(1, Ordering::Relaxed);
        let cpu = self.cpus.get(turn % self.cpus.len().max(1)).copied();
        let mut record = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("trial".to_owned());
            let body = || self.on_own_thread(case, nonce, cpu, sabotage, ground);
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

    /// What a guard stands on: the leak without it, and the cgroup of this thread, which the trial's
    /// own is born into.
    fn ground(&self, case: &Case) -> Result<Option<Ground>> {
        let Some(guard) = &case.guard else { return Ok(None) };
        let without = || self.run_sabotaged(&guard.without, &Sabotage::none());
        let leak = self
            .unguarded
            .ask(&guard.without, without)
            .map_err(|why| anyhow!("without the guard the attempt does not leak: {why}"))?;
        let cgroup = guard.wants_cgroup().then(cgroup).transpose()?;
        Ok(Some(Ground { leak, cgroup }))
    }

    fn on_own_thread(
        &self,
        case: &Case,
        nonce: u64,
        cpu: Option<usize>,
        sabotage: &Sabotage<'_>,
        ground: Option<Ground>,
    ) -> Record {
        let trial = move || -> Result<Record> {
            hold_to(cpu)?;
            let mut lab = Lab::build(self.left, case, &self.baseline)?;
            let mut captures = Captures::open(&lab, &case.links, nonce, &self.reaper)?;
            captures.follow(&lab)?;
            if let Some(at) = sabotage.at {
                let captures = &mut captures;
                at(Stage::Built, &mut Scene { case, lab: &lab, captures, token: &[] })?;
            }
            lab.raise()?;
            Trial {
                case,
                lab: &lab,
                captures,
                nonce,
                inbound: None,
                peer_port: 40_000,
                reaper: &self.reaper,
                world: None,
                rehearsed: None,
                ground,
                waits: Vec::new(),
                unreported: Vec::new(),
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
    /// What programs talk to.
    world: Option<World>,
    /// How long the program took in its rehearsal until it had sent something.
    rehearsed: Option<Duration>,
    /// What was waited for.
    waits: Vec<Wait>,
    /// The reports of memberships that did not come in time.
    unreported: Vec<Pending>,
    /// What the guard stands on, where there is one.
    ground: Option<Ground>,
}

/// What a guard stands on.
struct Ground {
    /// What the same attempt has come to without it, in words.
    leak: String,
    /// The cgroup that the trial's thread is in.
    cgroup: Option<OwnedFd>,
}

impl Trial<'_> {
    fn run(mut self, sabotage: &Sabotage<'_>) -> Result<Record> {
        let case = self.case;
        let _sinks = match case.runs_program() {
            true => {
                self.world = Some(self.world()?);
                Vec::new()
            }
            false => self.sinks()?,
        };
        let approached = !case.advertisements.is_empty() || case.provokes();
        if approached {
            self.inbound = Some(Inbound::open(self.lab, self.nonce, self.reaper)?);
        }
        self.stage(sabotage, Stage::Raised)?;
        let (arming, armed) = self.arm(sabotage)?;
        let unguarded = self.ground.as_ref().map(|ground| ground.leak.clone());
        let mut evidence = record::Evidence { arming, unguarded, ..Default::default() };
        let armed = match armed {
            Ok(armed) => armed,
            Err(reason) => {
                evidence.closing.tallies = self.captures.tallies()?;
                evidence.waits = self.all_waits();
                evidence.frames = self.captures.into_frames();
                return Ok(Record::new(case, evidence, Judgement::inconclusive(reason)));
            }
        };
        self.stage(sabotage, Stage::Armed)?;
        evidence.decisions = self.decisions()?;
        evidence.others = self.lab.others()?;
        // Whoever is no script of ours may leave anything behind.
        let strange = sabotage.attempt.is_some() || case.runs_program();
        let before = if strange { self.lab.memberships()? } else { BTreeSet::new() };
        let token = self.token("attempt");
        let attempt = match sabotage.attempt {
            Some(attempt) => self.lab.inside_host(|| {
                attempt(&Scene { case, lab: self.lab, captures: &mut self.captures, token: &token })
            })?,
            None => {
                let script = Script::new(ATTEMPT_PORT, &token, case.size);
                self.perform(&case.steps, &script)?
            }
        };
        self.stage(sabotage, Stage::Attempted)?;
        evidence.revived = self.lab.revive()?;
        self.captures.follow(self.lab)?;
        if strange {
            self.await_joined(&before)?;
        }
        self.close(&mut evidence, strange)?;
        evidence.waits = self.all_waits();
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
        Ok(Record::new(case, evidence, judgement))
    }

    fn stage(&mut self, sabotage: &Sabotage<'_>, stage: Stage) -> Result<()> {
        let Some(at) = sabotage.at else { return Ok(()) };
        let (case, lab, captures) = (self.case, self.lab, &mut self.captures);
        at(stage, &mut Scene { case, lab, captures, token: &[] })
    }

    /// The gateways' sockets at the addresses that they own, where they are played by the kernel.
    fn sinks(&self) -> Result<Vec<std::os::fd::OwnedFd>> {
        let case = self.case;
        let stream = case.transport.is_stream();
        let multipath = case.transport == Transport::Mptcp;
        let ports = [(ATTEMPT_PORT, stream, multipath), (CONTROL_PORT, stream, false)];
        let owned = case.owned.iter().filter(|address| address.is_ipv4() || !link_local(address));
        let wanted: Vec<_> = owned
            .flat_map(|address| ports.map(|port| (SocketAddr::new(*address, port.0), port)))
            .collect();
        let mut sinks = Vec::with_capacity(wanted.len() * case.links.len());
        for (at, link) in case.links.iter().enumerate() {
            for (address, (_, stream, multipath)) in &wanted {
                let open = || sender::sink(*stream, *multipath, *address);
                let sink = self.lab.inside_gateway(at, open)?;
                let what = || format!("open {address} in the gateway of {}", link.name);
                sinks.push(sink.with_context(what)?);
            }
        }
        Ok(sinks)
    }

    /// The world behind every link, for programs.
    fn world(&self) -> Result<World> {
        let mut sockets = world::Sockets::default();
        let addresses = self.case.owned.iter().filter(|address| !link_local(address));
        let addresses: Vec<IpAddr> = addresses.copied().collect();
        for (at, link) in self.case.links.iter().enumerate() {
            let beside = self.case.surroundings.beside.as_ref().filter(|beside| beside.by == at);
            let own = [link.gateway];
            let all = addresses.iter().chain(&own).copied().chain(beside.map(|b| b.target));
            let sinks = &self.case.surroundings.sinks;
            let v4 = self.case.family.is_v4();
            let open = || -> Result<()> {
                all.clone().try_for_each(|address| sockets.open(at, address, sinks))?;
                if v4 { sockets.open_leases(at, &link.name) } else { Ok(()) }
            };
            let what = || format!("open the world behind {}", link.name);
            self.lab.inside_gateway(at, open)?.with_context(what)?;
        }
        let beside = self.case.surroundings.beside.as_ref().map(|beside| beside.target);
        let targets = std::iter::once(self.case.target).chain(beside).collect();
        sockets.serve(targets, &self.case.surroundings, &self.case.links)
    }

    /// Arms the trap: every capture alive, the control, every wire quiet.
    fn arm(&mut self, sabotage: &Sabotage<'_>) -> Result<(Arming, Result<Armed, String>)> {
        let case = self.case;
        let mut arming = Arming { token: self.token("control"), ..Arming::default() };
        if case.reports_memberships() {
            let begun = Instant::now();
            let reported = self.captures.await_memberships(SENTINEL_WITHIN)?;
            self.waited("the reports of the groups of every link's addresses", begun);
            anyhow::ensure!(reported, "a link has not reported the groups of its addresses");
        }
        let before = case.adversary.as_ref().is_some_and(|a| a.untouched.is_some());
        let first = match before || case.control.rehearsal.is_some() {
            true => Phase::Rehearsal,
            false => Phase::Control,
        };
        arming.phase_ended(&self.captures.end_phase(first, SENTINEL_WITHIN)?);
        if arming.alive.iter().all(|alive| *alive) {
            self.stage(sabotage, Stage::Alive)?;
            for advertisement in &case.advertisements {
                let frame = peer::advertisement(&case.links[advertisement.by], advertisement)?;
                self.inject(advertisement.by, &frame)?;
            }
            if before {
                let token = self.token("untouched");
                self.unpinned(&token)?;
                arming.untouched = Some(token);
                arming.phase_ended(&self.captures.end_phase(Phase::Control, SENTINEL_WITHIN)?);
            }
            if let Some(adversary) = &case.adversary {
                self.lab.admit(adversary)?;
            }
            if let Some(rehearsal) = &case.control.rehearsal {
                let token = self.token("rehearsal");
                let script =
                    Script { rehearsal: true, ..Script::new(ATTEMPT_PORT, &token, case.size) };
                arming.rehearsal = Some(self.perform(rehearsal, &script)?);
                arming.phase_ended(&self.captures.end_phase(Phase::Control, SENTINEL_WITHIN)?);
            }
            self.control(&mut arming)?;
            if let Some(beside) = &case.surroundings.beside {
                self.control_beside(beside, &mut arming)?;
            }
            if let Some(guard) = &case.guard {
                arming.phase_ended(&self.captures.end_phase(Phase::Guarded, SENTINEL_WITHIN)?);
                arming.guarded = self.guard(guard)?;
            }
            arming.settled = self.captures.end_phase(Phase::Attempt, SENTINEL_WITHIN)?;
        }
        let armed = verdict::arm(case, &arming, self.captures.frames());
        Ok((arming, armed))
    }

    /// The control: an unpinned sender, or an unpinned receiver on each link that it must be
    /// reached by.
    fn control(&mut self, arming: &mut Arming) -> Result<()> {
        let control = &self.case.control;
        let token = arming.token.clone();
        let script = Script::new(CONTROL_PORT, &token, 0);
        for by in &control.arrives {
            let approach = Approach {
                by: *by,
                to: control.receiver,
                from: self.case.target,
                frame: FrameKind::Opening,
                flows: 1,
            };
            // A connection can only be completed where the gateway is not the kernel's own.
            let stream = self.case.transport.is_stream() && self.case.played;
            let transport = if stream { Transport::Tcp } else { Transport::Udp };
            let steps = [
                Step::Open { socket: 0, transport },
                Step::Listen { socket: 0 },
                Step::Inject(approach),
                Step::Receive { socket: 0 },
            ];
            arming.control = self.perform(&steps, &script)?;
            if arming.control.received == Some(true) {
                arming.reached.push(*by);
            }
        }
        if let Some(twin) = &control.twin {
            let attempt = self.perform(&twin.steps, &script)?;
            arming.twin = attempt.received;
            for step in &twin.steps {
                if let Step::Route(route) = step {
                    self.lab.delete_route(route)?;
                }
            }
        }
        if control.arrives.is_empty() {
            arming.control = self.unpinned(&token)?;
        }
        Ok(())
    }

    /// Puts the guard underneath, and tries it: unpinned, to the gateway of each decoy, a neighbour on its
    /// link whatever the routes are.
    fn guard(&mut self, guard: &Guarding) -> Result<Vec<Attempt>> {
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.as_ref());
        self.lab.guard(guard, cgroup.map(AsFd::as_fd))?;
        self.captures.follow(self.lab)?;
        let token = self.token("guarded");
        let decoys = self.case.links.iter().zip(&self.case.intended).filter(|(_, is)| !**is);
        let gateways: Vec<IpAddr> = decoys.map(|(link, _)| link.gateway).collect();
        let tried = |gateway: IpAddr| {
            let steps = [
                Step::Open { socket: 0, transport: Transport::Udp },
                Step::Send { socket: 0, to: Some(gateway) },
            ];
            self.perform(&steps, &Script::new(CONTROL_PORT, &token, 0))
        };
        gateways.into_iter().map(tried).collect()
    }

    /// The unpinned sender's attempt.
    fn unpinned(&mut self, token: &[u8]) -> Result<Attempt> {
        let (transport, to) = (self.case.control.transport, self.case.control.to);
        let mut steps = vec![Step::Open { socket: 0, transport }];
        if self.case.is_broadcast(&to) {
            steps.push(Step::Pin { socket: 0, call: PinCall::Broadcast(true) });
        }
        let connects = matches!(transport, Transport::UdpConnected | Transport::Tcp);
        if connects {
            steps.push(Step::Connect { socket: 0, to });
        }
        steps.push(Step::Send { socket: 0, to: (!connects).then_some(to) });
        // To the very port of the attempt, so that a rule by ports tells them as little apart as
        // the routes do. A program's world would answer there, and nobody listens any more.
        let port = if self.case.runs_program() { CONTROL_PORT } else { ATTEMPT_PORT };
        let outside = self.case.guard.as_ref().is_some_and(|guard| guard.apart);
        self.perform(&steps, &Script { outside, ..Script::new(port, token, 0) })
    }

    /// The control of the other family: unpinned, it leaves by the decoy too.
    fn control_beside(&mut self, beside: &Beside, arming: &mut Arming) -> Result<()> {
        let recipe = Recipe {
            family: beside.family,
            port: CONTROL_PORT,
            payload: &arming.token,
            expected: &arming.token,
            peers: &[],
            lenient: true,
            links: &self.case.links,
        };
        let steps = [
            Step::Open { socket: 0, transport: Transport::Udp },
            Step::Send { socket: 0, to: Some(beside.target) },
        ];
        let mut sender = Sender::new(recipe, &steps);
        self.lab.inside_host(|| {
            steps.iter().all(|step| sender.step(step));
        })?;
        arming.beside = Some(sender.finish());
        Ok(())
    }

    /// The kernel's own word on which way packets take, before the attempt.
    fn decisions(&self) -> Result<Vec<Decision>> {
        let ask = |query: RouteQuery| {
            let answer = self.lab.route_decision(&query)?;
            let RouteQuery { to, from, oif, mark } = query;
            let device = |index| {
                let link = self.case.links.iter().find(|link| link.index == index);
                link.map_or_else(|| format!("if{index}"), |link| link.name.clone())
            };
            let mut words = format!("ip route get {to}");
            words += &from.map_or_else(String::new, |from| format!(" from {from}"));
            words += &oif.map_or_else(String::new, |oif| format!(" oif {}", device(oif)));
            words += &mark.map_or_else(String::new, |mark| format!(" mark {mark}"));
            Ok(Decision { query: words, answer })
        };
        self.case.route_queries().into_iter().map(ask).collect()
    }

    /// Drains the wires and takes the account.
    fn close(&mut self, evidence: &mut record::Evidence, strange: bool) -> Result<()> {
        evidence.closing = Closing {
            drained: self.captures.end_phase(Phase::Drained, SENTINEL_WITHIN)?,
            ..Closing::default()
        };
        evidence.closing.pending = self.lab.pending(strange)?;
        evidence.closing.pending.append(&mut self.unreported);
        let others = self.lab.others()?;
        evidence.closing.others = others
            .into_iter()
            .filter(|(name, sent)| *sent > evidence.others.get(name).copied().unwrap_or(0))
            .map(|(name, _)| name)
            .collect();
        let closing = &mut evidence.closing;
        for _ in 0..ACCOUNTS_MAX {
            closing.transmitted = self.lab.transmitted()?;
            self.captures.read()?;
            closing.tallies = self.captures.tallies()?;
            let agree = |(tally, sent): (&Tally, &u64)| tally.captured == *sent;
            if closing.tallies.iter().zip(&closing.transmitted).all(agree) {
                break;
            }
        }
        Ok(())
    }

    /// A token that no other trial and no other part of this one has. It can stand in a URL, and
    /// does not tell a program whether it rehearses.
    fn token(&self, part: &str) -> Vec<u8> {
        let mut hasher = DefaultHasher::new();
        (self.nonce, part).hash(&mut hasher);
        format!("airtight-{:016x}", hasher.finish()).into_bytes()
    }
}

fn link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The phase's word, as records have it.
fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Rising => "rising",
        Phase::Rehearsal => "rehearsal",
        Phase::Guarded => "guarded",
        Phase::Control => "control",
        Phase::Attempt => "attempt",
        Phase::Drained => "drained",
    }
}
