//! The steps of an attempt, in their order: the sender's calls, gateways' frames, changes of the
//! laboratory, and waits for what the kernel sends by a timer of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::inbound::Inbound;
use super::{SENTINEL_WITHIN, Trial};
use crate::capture::Flags;
use crate::peer::{Peer, Segment};
use crate::plan::{Approach, Role, Step};
use crate::scenario::{FrameKind, Namespace, Transport};
use crate::sender::{Attempt, Recipe, Sender};

/// How many rounds of sentinels go by before a connection that has no answer is taken to have none. A
/// processor takes the frames of all wires in turn, so that each round is one leg of the way: the question
/// for a neighbour and its answer, the SYN and its answer, and as many again for what takes a detour.
const ROUNDS: usize = 8;
/// How long a connection may take where no sentinel tells: no wire is up, or command lines may have put
/// something in its way that holds frames back by the clock (tc-netem(8)).
const HELD_BACK_WITHIN: Duration = Duration::from_millis(200);
/// The longest wait for a frame that a timer or a workqueue of the kernel's sends: the first
/// retransmission of a SYN comes after 1 s, the second 2 s later (RFC 6298).
pub(super) const AWAIT_WITHIN: Duration = Duration::from_millis(2_500);

/// What a script works with.
pub(super) struct Script<'a> {
    /// The port that is sent to, or listened on.
    pub(super) port: u16,
    /// What is sent begins with it.
    pub(super) token: &'a [u8],
    /// How many bytes are sent at once; fewer than the token has are the token.
    pub(super) size: usize,
    /// Whether it is a program's rehearsal.
    pub(super) rehearsal: bool,
    /// Whether it is told in the other namespace, where the decoys are.
    pub(super) outside: bool,
}

impl<'a> Script<'a> {
    pub(super) fn new(port: u16, token: &'a [u8], size: usize) -> Script<'a> {
        Script { port, token, size, rehearsal: false, outside: false }
    }
}

/// The conversations of a script, by who approaches whom and by which flow.
type Peers = BTreeMap<(IpAddr, IpAddr, u16), Peer>;

impl Trial<'_> {
    /// Makes the steps, up to the first call that is refused.
    pub(super) fn perform(&mut self, steps: &[Step], script: &Script<'_>) -> Result<Attempt> {
        let case = self.case;
        if steps.iter().any(|step| matches!(step, Step::Start(_))) {
            return self.story(steps, script);
        }
        // Every fragment of a large payload carries the token.
        let length = script.size.max(script.token.len());
        let payload: Vec<u8> = script.token.iter().copied().cycle().take(length).collect();
        // What gateways inject says so: no socket of the host under test can be taken for them.
        let injected = [script.token, b"-injected"].concat();
        let peers: Vec<IpAddr> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Inject(approach) => Some(approach.from),
                _ => None,
            })
            .collect();
        let recipe = Recipe {
            family: case.family,
            port: script.port,
            payload: &payload,
            expected: if peers.is_empty() { script.token } else { &injected },
            peers: &peers,
            // A guard may stop any call of a script.
            lenient: case.role != Role::Script || case.guard.is_some(),
            links: &case.links,
        };
        let mut sender = Sender::new(recipe, steps);
        let mut talks = Peers::new();
        let mut awaited = vec![0; case.links.len()];
        let mut joined = BTreeSet::new();
        let mut away = script.outside;
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Inject(approach) => {
                    self.approach(approach, steps, script, &mut sender, &mut talks)?;
                }
                Step::Route(route) => {
                    self.lab.add_route(route)?;
                    sender.remark("a route is added".to_owned());
                }
                Step::Unroute(_) | Step::Set(_) | Step::Rename(..) | Step::Reindex(..) => {
                    sender.remark(self.change(step)?);
                }
                Step::Await(link) => self.wait(*link, &mut awaited[*link], &mut sender)?,
                Step::Enter(space) => {
                    away = *space == Namespace::Elsewhere;
                    let place = if away { "another namespace" } else { "the host under test" };
                    sender.remark(format!("what follows is called in {place}"));
                }
                // Looked at together with the step that it is about.
                Step::Refused(_) => {}
                call => {
                    let made = match away {
                        true => self.lab.inside_drawer(|| sender.step(call))?,
                        false => self.lab.inside_host(|| sender.step(call))?,
                    };
                    self.await_answer(&mut sender)?;
                    let made = made && !sender.refused();
                    ensure!(
                        made || sender.refused(),
                        "a step was not made: {call:?}, after: {}",
                        sender.last()
                    );
                    if matches!(call, Step::Join { .. }) {
                        joined.append(&mut self.lab.memberships()?);
                    }
                    match steps.get(at + 1) {
                        Some(Step::Refused(errno)) => {
                            let got = sender.errno().unwrap_or("no error");
                            if case.guard.is_some() && got != errno {
                                // It is the guard's doing, and what comes of it is judged.
                                if made { continue } else { break }
                            }
                            let what = "the script says that a call is refused with";
                            ensure!(got == errno, "{what} {errno}, and it was given {got}");
                            sender.forgive();
                        }
                        _ if made => {}
                        _ => break,
                    }
                }
            }
        }
        let attempt = self.lab.inside_host(|| sender.finish())?;
        self.await_left(&joined)?;
        // A SYN that was answered has reached a socket: that it was not accepted is no proof of
        // the contrary.
        let stands = talks.values().any(Peer::answered);
        let received = steps.iter().any(|step| matches!(step, Step::Receive { .. }));
        ensure!(
            !(stands && received && attempt.received == Some(false) && opens(steps)),
            "the handshake was answered and the connection was not accepted"
        );
        Ok(attempt)
    }

    /// Waits for the answer to a connection that is under way: until it has come, or nothing that has been
    /// sent for it is under way any more. What is retransmitted later is others' to wait for.
    fn await_answer(&mut self, sender: &mut Sender<'_>) -> Result<()> {
        if !sender.awaits_answer(Duration::ZERO) {
            return Ok(());
        }
        self.captures.follow(self.lab)?;
        let wires = self.lab.carrying();
        for _ in 0..ROUNDS {
            let quiet = self.captures.barrier_of(&wires, SENTINEL_WITHIN)?;
            ensure!(quiet, "a wire carries no sentinel");
            if !sender.awaits_answer(Duration::ZERO) {
                return Ok(());
            }
        }
        let told = !wires.is_empty() && self.case.all_lines().next().is_none();
        let within = if told { Duration::ZERO } else { HELD_BACK_WITHIN };
        if sender.awaits_answer(within) {
            sender.give_up(match told {
                true => "no answer, and every wire is quiet".to_owned(),
                false => format!("no answer within {within:?}, and every wire is quiet"),
            });
        }
        Ok(())
    }

    fn wait(&mut self, link: usize, awaited: &mut usize, sender: &mut Sender<'_>) -> Result<()> {
        let name = &self.case.links[link].name;
        let begun = Instant::now();
        let came = self.captures.await_frame(link, *awaited, AWAIT_WITHIN)?;
        self.waited(format!("a frame by {name}"), begun);
        *awaited += usize::from(came);
        // On a decoy that nothing comes is what the verdict is about; on an intended link it is a
        // claim of the script's that did not come true.
        ensure!(
            came || !self.case.intended[link] || self.case.guard.is_some(),
            "no frame has left by {name} within {AWAIT_WITHIN:?}"
        );
        sender.remark(if came {
            format!("await a frame by {name}: one has come")
        } else {
            format!("await a frame by {name}: none within {AWAIT_WITHIN:?}")
        });
        Ok(())
    }

    fn approach(
        &mut self,
        approach: &Approach,
        steps: &[Step],
        script: &Script<'_>,
        sender: &mut Sender<'_>,
        peers: &mut Peers,
    ) -> Result<()> {
        let transport = steps.iter().find_map(|step| match step {
            Step::Open { socket: 0, transport } => Some(*transport),
            _ => None,
        });
        let transport = transport.unwrap_or(self.case.transport);
        let connection = self.lab.inside_host(|| sender.connection())?;
        for flow in 0..approach.flows {
            let known = peers.get(&(approach.from, approach.to, flow)).copied();
            let mut peer = known.unwrap_or_else(|| {
                let (from, to) = match connection {
                    // A frame for a socket that has connected comes as its peer's would.
                    Some((peer, local)) => (peer.port(), local),
                    None => {
                        self.peer_port += 1;
                        (self.peer_port, script.port)
                    }
                };
                Peer::new(SocketAddr::new(approach.from, from), SocketAddr::new(approach.to, to))
            });
            if transport.is_stream() {
                ensure!(self.captures.barrier(SENTINEL_WITHIN)?, "a wire carries no sentinel");
                peer.learn(self.captures.frames());
            }
            let payload = [script.token, b"-injected"].concat();
            self.send_frames(approach, transport, &payload, &mut peer)?;
            peers.insert((approach.from, approach.to, flow), peer);
        }
        sender.approached();
        let (name, from, to) = (&self.case.links[approach.by].name, approach.from, approach.to);
        sender.remark(format!("{:?} from {from} to {to} arrives by {name}", approach.frame));
        Ok(())
    }

    fn send_frames(
        &mut self,
        approach: &Approach,
        transport: Transport,
        token: &[u8],
        peer: &mut Peer,
    ) -> Result<()> {
        let by = &self.case.links[approach.by];
        let segment =
            |flags, payload| peer.segment(by, Segment { flags, payload, ..Segment::default() });
        let none = Flags::default();
        let frame = match approach.frame {
            FrameKind::Opening if transport.is_stream() => {
                self.inject(approach.by, &peer.syn(by)?)?;
                ensure!(self.captures.barrier(SENTINEL_WITHIN)?, "a wire carries no sentinel");
                peer.learn(self.captures.frames());
                if !peer.answered() {
                    return Ok(());
                }
                peer.segment(by, Segment { payload: token, ..Segment::default() })?
            }
            FrameKind::Opening => peer.datagram(by, transport, token)?,
            FrameKind::Syn => peer.syn(by)?,
            FrameKind::Ack => segment(none, &[])?,
            FrameKind::Data => segment(none, token)?,
            FrameKind::Fin => segment(Flags { fin: true, ..none }, &[])?,
            FrameKind::Rst => segment(Flags { rst: true, ..none }, &[])?,
            FrameKind::StaleAck => peer.segment(by, Segment::stale())?,
            FrameKind::BadAck => peer.segment(by, Segment::bad())?,
            FrameKind::EchoRequest => peer.echo_request(by, token)?,
            FrameKind::WhoHas => peer.who_has(by)?,
            FrameKind::Redirect | FrameKind::TooBig => {
                let quoted = self.last_attempted(approach.by)?;
                peer.error(by, &quoted, approach.frame == FrameKind::Redirect)?
            }
        };
        self.inject(approach.by, &frame)
    }

    /// The last frame of the attempt that the link at place `at` has carried.
    fn last_attempted(&mut self, at: usize) -> Result<Vec<u8>> {
        ensure!(self.captures.barrier(SENTINEL_WITHIN)?, "a wire carries no sentinel");
        let mut frames = self.captures.frames().iter().rev();
        let last = frames.find(|frame| !frame.sentinel && frame.link == at);
        let name = &self.case.links[at].name;
        last.map(|frame| frame.bytes.clone())
            .with_context(|| format!("no frame has left by {name} that an ICMP error could quote"))
    }

    /// Injects a frame, and returns when the host under test has processed it.
    pub(super) fn inject(&mut self, by: usize, frame: &[u8]) -> Result<()> {
        self.captures.inject(by, frame)?;
        let Some(inbound) = self.inbound.as_mut() else {
            bail!("nothing listens for inbound sentinels");
        };
        let link = &self.case.links[by];
        let sentinel = Inbound::sentinel(inbound, by, link);
        self.captures.inject(by, &sentinel)?;
        inbound
            .wait(SENTINEL_WITHIN)
            .with_context(|| format!("wait for a frame injected by {}", link.name))
    }
}

/// Whether an approach opens a connection and completes it.
fn opens(steps: &[Step]) -> bool {
    let opening =
        |step: &Step| matches!(step, Step::Inject(Approach { frame: FrameKind::Opening, .. }));
    steps.iter().any(opening)
}
