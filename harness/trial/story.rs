//! A program's story: how it is started, what happens to the laboratory meanwhile, what gateways ask
//! it, and how it ends. Frames are read all the while: a program may send more than the captures
//! have room for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Trial;
use super::script::{AWAIT_WITHIN, Script};
use crate::lab;
use crate::plan::{Ask, LinkChange, Program, Route, Step};
use crate::program::{Ran, Running};
use crate::scenario::{AskKind, LinkState, Ready};
use crate::sender::{Attempt, Call};
use crate::world::Asking;

/// How long the connections that a program has left may take to end.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// How long a program that goes on running is watched before it is stopped.
const DAEMON_WATCH: Duration = Duration::from_secs(1);
/// How long the report of a membership is waited for behind a program's end. The kernel sends it by a
/// timer, mostly within milliseconds.
const REPORTED_WITHIN: Duration = Duration::from_millis(100);

/// How long is waited where nothing tells that something has come true.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The story under way.
struct Story<'a> {
    program: &'a Program,
    running: Running,
    /// When the program was started, and how many frames had left before.
    began: Instant,
    before: u64,
    /// How long it took until its first frame had left.
    first: Option<Duration>,
    /// Whether this is the rehearsal.
    rehearsing: bool,
    /// How many frames had left when the laboratory last changed.
    changed: Option<u64>,
    /// How many frames each link had carried when the last step began: what is awaited comes later.
    seen: Vec<usize>,
    under_way: bool,
    remarks: Vec<String>,
    unanswered: Vec<String>,
    /// Why the rest of the story is not told.
    cut: Option<String>,
}

impl Trial<'_> {
    /// Tells the story of these steps.
    pub(super) fn story(&mut self, steps: &[Step], script: &Script<'_>) -> Result<Attempt> {
        let token = String::from_utf8_lossy(script.token).into_owned();
        let mut steps = steps.iter().peekable();
        let mut remarks = Vec::new();
        // What happens before the program is started.
        let program = loop {
            match steps.next() {
                Some(Step::Start(program)) => break program,
                Some(step) => remarks.push(self.change(step)?),
                None => anyhow::bail!("the story starts no program"),
            }
        };
        let waits = steps.clone().any(|step| matches!(step, Step::UnderWay));
        // Answers are kept back until the laboratory has changed: a program that waits for one is
        // under way for certain.
        let muted = waits && program.ready.is_none();
        self.world.as_mut().context("there is no world")?.mute(muted)?;
        let before = self.captures.sent();
        let running = self.lab.inside_host(|| Running::start(program, &token))??;
        let mut story = Story {
            program,
            running,
            began: Instant::now(),
            before,
            first: None,
            rehearsing: script.rehearsal,
            changed: None,
            seen: vec![0; self.case.links.len()],
            under_way: false,
            remarks,
            unanswered: Vec::new(),
            cut: None,
        };
        let mut muted = muted;
        for step in steps {
            let changes = matches!(step, Step::Set(_) | Step::Route(_) | Step::Unroute(_));
            if muted && !changes && !matches!(step, Step::UnderWay) {
                self.world.as_mut().context("there is no world")?.mute(false)?;
                muted = false;
            }
            if story.cut.is_some() {
                break;
            }
            self.tell(&mut story, step, script)?;
        }
        if muted {
            self.world.as_mut().context("there is no world")?.mute(false)?;
        }
        self.finish(story)
    }

    fn tell(&mut self, story: &mut Story<'_>, step: &Step, script: &Script<'_>) -> Result<()> {
        if !matches!(step, Step::Await(_)) {
            self.captures.read()?;
            story.seen = (0..self.case.links.len()).map(|at| self.captures.attempted(at)).collect();
        }
        match step {
            Step::Set(_) | Step::Route(_) | Step::Unroute(_) => {
                if story.running.ended()? {
                    story.cut = Some("the program ended before its laboratory changed".to_owned());
                    return Ok(());
                }
                let begun = Instant::now();
                story.remarks.push(self.change(step)?);
                story.running.extend(begun.elapsed());
                self.captures.read()?;
                story.changed = Some(self.captures.sent());
            }
            Step::UnderWay => self.under_way(story)?,
            Step::Ask(ask) => self.ask(story, *ask, script)?,
            Step::Watch(millis) => {
                self.watch(story, Duration::from_millis((*millis).into()))?;
            }
            Step::Await(link) => {
                let name = &self.case.links[*link].name;
                let begun = Instant::now();
                let came = self.captures.await_frame(*link, story.seen[*link], AWAIT_WITHIN)?;
                self.waited(format!("a frame by {name}"), begun);
                story.remarks.push(format!(
                    "await a frame by {name}: {}",
                    if came { "one has come" } else { "none has come" }
                ));
                // On a decoy that nothing comes is what the verdict is about; on an intended link
                // it is a claim of the story's that did not come true.
                if !came && self.case.intended[*link] {
                    story.cut =
                        Some(format!("no frame has left by {name} within {AWAIT_WITHIN:?}"));
                }
            }
            Step::Signal(signal) => {
                story.running.signal(*signal)?;
                story.remarks.push(format!("the program is sent {}", signal.word()));
            }
            Step::Stop => story.running.stop(story.program.stop)?,
            Step::End => self.end(story, script)?,
            other => anyhow::bail!("a program cannot make this step: {other:?}"),
        }
        if matches!(step, Step::Stop | Step::End) {
            self.await_end(&mut story.running)?;
        }
        Ok(())
    }

    /// Watches the program. On a busy machine programs are slow: in a rehearsal it is watched until it
    /// has sent something, and then at least twice as long as that took.
    fn watch(&mut self, story: &mut Story<'_>, within: Duration) -> Result<()> {
        let within = self.rehearsed.map_or(within, |took| within.max(2 * took));
        let begun = Instant::now();
        let deadline = begun + within;
        while !story.running.ended()? {
            let left = deadline.saturating_duration_since(Instant::now());
            self.note_first(story);
            let silent = story.rehearsing && story.first.is_none();
            if left.is_zero() && !silent {
                break;
            }
            self.meanwhile(&story.running, if silent { Duration::MAX } else { left })?;
        }
        self.note_first(story);
        self.waited("what the program does by itself", begun);
        Ok(())
    }

    /// Notes when the program's first frame has left.
    fn note_first(&self, story: &mut Story<'_>) {
        if story.first.is_none() && self.captures.sent() > story.before {
            story.first = Some(story.began.elapsed());
        }
    }

    /// A program that goes on running is asked and stopped.
    fn end(&mut self, story: &mut Story<'_>, script: &Script<'_>) -> Result<()> {
        let Some(ready) = &story.program.ready else { return Ok(()) };
        if !story.under_way {
            self.under_way(story)?;
        }
        if let (Some(port), None) = (ready.port, &story.cut) {
            let by = self.case.intended.iter().position(|is| *is).unwrap_or_default();
            let (to, from) = (self.case.links[by].address, self.case.target);
            let ask = Ask { by, what: AskKind::Request, to, from, port };
            self.ask(story, ask, script)?;
        }
        // What it does of its own accord.
        self.watch(story, DAEMON_WATCH)?;
        story.running.stop(story.program.stop)
    }

    /// Changes the laboratory, and tells how.
    pub(super) fn change(&self, step: &Step) -> Result<String> {
        let words = |verb: &str, route: &Route| {
            let (to, length) = route.to;
            format!("the route to {to}/{length} is {verb}")
        };
        Ok(match step {
            Step::Set(LinkChange { link, to }) => {
                self.lab.set_link(&LinkChange { link: *link, to: *to })?;
                let name = &self.case.links[*link].name;
                match to {
                    LinkState::Down => format!("{name} is taken down"),
                    LinkState::Unplugged => format!("{name} is unplugged"),
                    LinkState::Bare => format!("{name} loses its addresses"),
                    LinkState::Gone => format!("{name} is taken away"),
                    LinkState::Whole => format!("{name} is given back"),
                }
            }
            Step::Route(route) => {
                self.lab.add_route(route)?;
                words("added", route)
            }
            Step::Unroute(route) => {
                self.lab.delete_route(route)?;
                words("deleted", route)
            }
            Step::Rename(link, name) => {
                self.lab.rename(*link, name)?;
                format!("the device of {} is renamed to {name}", self.case.links[*link].name)
            }
            Step::Reindex(link, like) => {
                self.lab.reindex(*link, *like)?;
                let (link, like) = (&self.case.links[*link].name, &self.case.links[*like]);
                format!("{link} comes back with the index of {}, {}", like.name, like.index)
            }
            other => anyhow::bail!("no change of the laboratory: {other:?}"),
        })
    }

    /// Waits until the program is ready or, where it does not tell, until its first frame has left.
    fn under_way(&mut self, story: &mut Story<'_>) -> Result<()> {
        story.under_way = true;
        loop {
            self.note_first(story);
            let under_way = match &story.program.ready {
                Some(ready) => self.is_ready(story, ready)?,
                None => self.captures.sent() > story.before,
            };
            if under_way {
                return Ok(());
            }
            if story.running.ended()? {
                self.captures.read()?;
                if story.program.ready.is_none() && self.captures.sent() > story.before {
                    return Ok(());
                }
                let (missing, own) = match story.program.ready {
                    Some(_) => ("was ready", "was not ready"),
                    None => ("had sent anything", "sent nothing"),
                };
                story.cut = Some(match story.running.timed_out() {
                    true => format!("the program {own} in its time, and was killed"),
                    false => format!("the program ended before it {missing}"),
                });
                return Ok(());
            }
            // A frame is an event; for a line, a file and a port there is none.
            let within = match story.program.ready {
                Some(_) => LOOK_AGAIN,
                None => Duration::MAX,
            };
            self.meanwhile(&story.running, within)?;
        }
    }

    fn is_ready(&self, story: &Story<'_>, ready: &Ready) -> Result<bool> {
        match ready.port {
            Some(port) => self.lab.inside_host(|| listens_on(port))?,
            None => Ok(story.running.says_ready(ready)),
        }
    }

    fn ask(&mut self, story: &mut Story<'_>, ask: Ask, script: &Script<'_>) -> Result<()> {
        let link = &self.case.links[ask.by].name;
        let waits = [AskKind::Request, AskKind::Datagram].contains(&ask.what);
        if ask.port == 0 && ask.what != AskKind::Ping {
            story.cut = Some("nobody knows a port of the program to ask: say `ready`".to_owned());
            return Ok(());
        }
        let asking = self.lab.inside_gateway(ask.by, || Asking::open(ask))?;
        let asking = asking.with_context(|| format!("in the gateway of {link}"))?;
        let captures = &mut self.captures;
        let answered = asking.make(script.token, || captures.read())?;
        let what = match ask.what {
            AskKind::Request => "a request",
            AskKind::Datagram => "a datagram",
            AskKind::Scan => "a scan",
            AskKind::Ping => "a ping",
        };
        let port = match ask.what {
            AskKind::Ping => String::new(),
            _ => format!(", port {}", ask.port),
        };
        let words = format!("{what} by {link} from {} to {}{port}", ask.from, ask.to);
        story.remarks.push(match (answered, waits) {
            (true, _) => format!("{words}: answered"),
            (false, _) => format!("{words}: not answered"),
        });
        if waits && !answered {
            story.unanswered.push(words);
        }
        Ok(())
    }

    /// Waits for another frame, the program's end, or until `within` has passed, and reads what has
    /// come: whoever looks at it afterwards has seen all that woke us.
    fn meanwhile(&mut self, running: &Running, within: Duration) -> Result<()> {
        let (bell, left) = running.bell();
        self.captures.poll_beside(Some(bell), within.min(left))?;
        self.captures.read()
    }

    fn await_end(&mut self, running: &mut Running) -> Result<()> {
        while !running.ended()? {
            self.meanwhile(running, Duration::MAX)?;
        }
        Ok(())
    }

    fn finish(&mut self, mut story: Story<'_>) -> Result<Attempt> {
        if story.cut.is_some() {
            story.running.stop(story.program.stop)?;
        }
        self.await_end(&mut story.running)?;
        if story.rehearsing {
            self.rehearsed = story.first;
        }
        let mut ran = story.running.ran()?;
        ran.unanswered = story.unanswered;
        ran.lookups = self.world.as_ref().map(|world| world.lookups()).unwrap_or_default();
        self.settle(&mut ran)?;
        if ran.trace.joins {
            let begun = Instant::now();
            let deadline = begun + REPORTED_WITHIN;
            while let left @ 1.. = deadline.saturating_duration_since(Instant::now()).as_millis() {
                self.captures.poll(Duration::from_millis(left.try_into().unwrap_or(1)))?;
                self.captures.read()?;
            }
            self.waited("reports of the program's memberships", begun);
        }
        if let (Some(signal), false) = (&ran.stopped, story.program.ready.is_some()) {
            let after = story.began.elapsed().as_millis();
            story
                .remarks
                .push(format!("the program still ran after {after} ms, and was sent {signal}"));
        }
        if let Some(changed) = story.changed {
            let since = self.captures.sent().saturating_sub(changed);
            let frames = if since == 1 { "frame has" } else { "frames have" };
            story.remarks.push(format!("{since} {frames} left since the last change"));
        }
        let calls = story.remarks.into_iter().map(Call::remark).collect();
        let cut = story.cut;
        Ok(Attempt { calls, tried: true, program: Some(ran), cut, ..Attempt::default() })
    }

    /// Waits until the connections that the program has left have ended.
    fn settle(&mut self, ran: &mut Ran) -> Result<()> {
        let (begun, mut waited) = (Instant::now(), false);
        let deadline = begun + SETTLES_WITHIN;
        loop {
            let sockets = self.lab.inside_host(lab::tcp_sockets)??;
            let moving = sockets.iter().filter(|socket| socket.moves()).count();
            if moving == 0 {
                break;
            }
            if Instant::now() >= deadline {
                ran.unsettled = moving;
                break;
            }
            // Each of their segments is a frame.
            self.captures.read()?;
            self.captures.poll(LOOK_AGAIN)?;
            waited = true;
        }
        if waited {
            self.waited("the end of the program's connections", begun);
        }
        Ok(())
    }
}

/// Whether a socket of the calling thread's namespace waits for connections to this port.
fn listens_on(port: u16) -> Result<bool> {
    Ok(lab::tcp_sockets()?.iter().any(|socket| socket.listens() && socket.port == port))
}
