//! A program as the sender: its command line, with every placeholder but the token replaced, and
//! the story that is told with it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use toml::Spanned;

use super::address::{self, resolve};
use super::attempt::Names;
use super::{ATTEMPT_PORT, Case, Link, Route, Step};
use crate::scenario::{
    AskKind, Family, Fault, FileCase, FileStep, LinkState, ProgramStep, Ready, Scenario, Signal,
};

/// How long a program may run, in milliseconds, where the scenario does not say.
const TIMEOUT_MS: u32 = 10_000;
/// The name of the target, as the world's name server knows it.
const TARGET_NAME: &str = "target.airtight.test";

/// A program to run inside the host under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it is.
    pub body: Body,
    /// Its environment, beside `PATH` and `HOME`.
    pub environment: BTreeMap<String, String>,
    /// The folder that it runs in.
    pub directory: Option<String>,
    /// The user and group id that it runs as.
    pub user: Option<u32>,
    /// Its standard input.
    pub input: String,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u32,
    /// Whom it asks for names.
    pub resolver: IpAddr,
    /// How it tells that it is ready, where it goes on running.
    pub ready: Option<Ready>,
    /// What stops it.
    pub stop: Signal,
    /// What its pins are refused with.
    pub fault: Fault,
    /// What it is told of the laboratory.
    pub task: Task,
}

/// What makes the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The product on trial, which nobody has named yet.
    Unnamed,
    /// A program and its arguments. `{token}` stands in them still.
    Command(Vec<String>),
    /// A function.
    Function(Function),
}

/// What a function that makes an attempt is told: where it is, and what it is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The device that traffic must keep to.
    pub device: String,
    /// The host's address on it.
    pub address: IpAddr,
    /// The gateway on it.
    pub gateway: IpAddr,
    /// Whom to talk to.
    pub target: IpAddr,
    /// The target's name, which the name server knows.
    pub target_name: &'static str,
    /// Echo's port.
    pub port: u16,
    /// What to send, so that the frames can be told: unique to the trial.
    pub token: String,
}

type Call = dyn Fn(&Task) -> anyhow::Result<()> + Send + Sync;

/// A function that makes attempts. Two are equal where they are the same.
#[derive(Clone)]
pub struct Function(Arc<Call>);

impl Function {
    /// Calls it.
    pub(crate) fn call(&self, task: &Task) -> anyhow::Result<()> {
        (self.0)(task)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Function {}

/// A product on trial: a command, or a function of a library's.
///
/// ```
/// use airtight::plan::Product;
/// use airtight::scenario::Signal;
///
/// let client = Product::command(["./client", "{intended.device}", "{target}", "{port}"]);
/// let daemon = Product::command(["./daemon", "{intended.device}", "{target}"])
///     .ready_on_port(8080)
///     .stopped_by(Signal::SigInt);
/// let library = Product::function(|task| {
///     let socket = std::net::UdpSocket::bind((task.address, 0))?;
///     socket.send_to(task.token.as_bytes(), (task.target, task.port))?;
///     Ok(())
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    body: Body,
    ready: Option<Ready>,
    stop: Signal,
}

impl Product {
    /// A program and its arguments, with the placeholders of a scenario's command:
    /// `{intended.device}`, `{intended.address}`, `{target}`, `{target.name}`, `{port}`, `{token}` ...
    pub fn command<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Product {
        let words = words.into_iter().map(Into::into).collect();
        Product { body: Body::Command(words), ready: None, stop: Signal::default() }
    }

    /// A function, for libraries. It is called on a thread of its own inside the laboratory: whatever
    /// sockets it opens, and threads it starts, are there. An `Err` is taken as a program's exit
    /// status 1; a panic proves nothing.
    pub fn function(
        function: impl Fn(&Task) -> anyhow::Result<()> + Send + Sync + 'static,
    ) -> Product {
        let body = Body::Function(Function(Arc::new(function)));
        Product { body, ready: None, stop: Signal::default() }
    }

    /// It goes on running, and is ready when it listens on this TCP port. The intended link's
    /// gateway then makes a request there, and it is stopped.
    #[must_use]
    pub fn ready_on_port(self, port: u16) -> Product {
        Product { ready: Some(Ready { port: Some(port), ..Ready::default() }), ..self }
    }

    /// It goes on running, and is ready when it has printed this.
    #[must_use]
    pub fn ready_on_line(self, line: impl Into<String>) -> Product {
        Product { ready: Some(Ready { line: Some(line.into()), ..Ready::default() }), ..self }
    }

    /// It goes on running, and is ready when this file is there. `{token}` in it makes a name that
    /// nobody else has.
    #[must_use]
    pub fn ready_on_file(self, file: impl Into<String>) -> Product {
        Product { ready: Some(Ready { file: Some(file.into()), ..Ready::default() }), ..self }
    }

    /// The signal that ends it, in the place of SIGTERM.
    #[must_use]
    pub fn stopped_by(self, stop: Signal) -> Product {
        Product { stop, ..self }
    }

    /// It goes on running where `ready` tells when it is ready; `stop` is the signal that ends it.
    #[must_use]
    pub fn going_on(self, ready: Option<Ready>, stop: Option<Signal>) -> Product {
        Product { ready, stop: stop.unwrap_or_default(), ..self }
    }

    /// How it tells that it is ready, where it goes on running.
    pub fn is_ready(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }

    /// The signal that ends it.
    pub fn stops(&self) -> Signal {
        self.stop
    }

    /// Its command line; of a function, a word for it.
    pub fn words(&self) -> Vec<String> {
        self.body.words()
    }

    /// Whether it names nothing to run.
    pub fn is_empty(&self) -> bool {
        matches!(&self.body, Body::Command(words) if words.is_empty())
    }
}

impl<W: Into<String>, const N: usize> From<[W; N]> for Product {
    fn from(words: [W; N]) -> Product {
        Product::command(words)
    }
}

impl<W: Into<String>> From<Vec<W>> for Product {
    fn from(words: Vec<W>) -> Product {
        Product::command(words)
    }
}

impl Body {
    /// The command line; of a function, a word for it.
    pub fn words(&self) -> Vec<String> {
        match self {
            Body::Unnamed => Vec::new(),
            Body::Command(words) => words.clone(),
            Body::Function(_) => vec!["(function)".to_owned()],
        }
    }
}

/// A change of a link of the host under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// The link (an index into `links`).
    pub link: usize,
    /// What it becomes.
    pub to: LinkState,
}

/// How a gateway opens an exchange with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The link by which it arrives (an index into `links`).
    pub by: usize,
    /// What it is.
    pub what: AskKind,
    /// The address that it is sent to.
    pub to: IpAddr,
    /// The address that it comes from.
    pub from: IpAddr,
    /// The port that it is sent to; 0 where only the product tells.
    pub port: u16,
}

/// What programs find behind the links, beside what is always there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// More ports that accept anything.
    pub sinks: Vec<u16>,
    /// What the name server says of these names; `None`: that there is no such name.
    pub names: BTreeMap<String, Option<IpAddr>>,
    /// For each link, whether everything behind it answers late.
    pub slow: Vec<bool>,
    /// The other address family, where it is reachable too.
    pub beside: Option<Beside>,
}

/// The other address family, reachable by one decoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Which it is.
    pub family: Family,
    /// The decoy (an index into `links`).
    pub by: usize,
    /// The decoy's addresses in it.
    pub link: Link,
    /// The target's address in it.
    pub target: IpAddr,
}

/// What is behind the links of a scenario.
pub(super) fn surroundings(scenario: &Scenario, links: &[Link], family: Family) -> Surroundings {
    let world = &scenario.file().world;
    let place = |name: &Spanned<String>| links.iter().position(|link| &link.name == name.get_ref());
    let answer = |(name, text): (&String, &Spanned<String>)| {
        let text = text.get_ref();
        let address = resolve(text, links, family).or_else(|| text.parse().ok());
        (name.to_ascii_lowercase(), address)
    };
    Surroundings {
        sinks: world.sink.iter().map(|port| *port.get_ref()).collect(),
        names: world.names.iter().map(answer).collect(),
        slow: links
            .iter()
            .map(|link| world.slow.iter().any(|name| *name.get_ref() == link.name))
            .collect(),
        beside: world.beside.as_ref().and_then(place).map(|by| {
            let family = if family.is_v4() { Family::V6 } else { Family::V4 };
            Beside {
                family,
                by,
                link: address::link(by, &links[by].name, family),
                target: address::target(family),
            }
        }),
    }
}

/// What a program's placeholders are resolved against.
pub(super) struct Words<'a> {
    pub(super) links: &'a [Link],
    pub(super) intended: &'a [bool],
    pub(super) family: Family,
    pub(super) target: IpAddr,
}

/// The story of the program that makes the attempt of `case`; `None` where airtight's own sockets
/// do.
pub(super) fn story(
    scenario: &Scenario,
    case: &FileCase,
    at: &Words<'_>,
    names: &Names<'_>,
) -> Option<Vec<Step>> {
    let program = program(scenario, case, at)?;
    Some(steps(case, &program, at, names))
}

/// The command line of a case as it is written, placeholders and all: the same in every cell.
pub(super) fn written<'a>(scenario: &'a Scenario, case: &'a FileCase) -> &'a [String] {
    let sender = scenario.file().sender.as_ref();
    let words = case.command.as_ref().or(sender.and_then(|sender| sender.command.as_ref()));
    words.map_or(&[], |words| words.get_ref().as_slice())
}

fn program(scenario: &Scenario, case: &FileCase, at: &Words<'_>) -> Option<Program> {
    let file = scenario.file();
    let sender = file.sender.as_ref();
    let words = case.command.as_ref().or(sender.and_then(|sender| sender.command.as_ref()));
    let replace = |text: &String| at.replace(text);
    let body = match words {
        Some(words) => Body::Command(words.get_ref().iter().map(replace).collect()),
        None if sender.is_some_and(|sender| sender.product) => Body::Unnamed,
        None => return None,
    };
    let resolver = file.world.resolver.as_ref();
    let resolver = resolver.and_then(|to| resolve(to.get_ref(), at.links, at.family));
    Some(Program {
        body,
        environment: sender
            .map(|sender| sender.environment.iter().map(|(k, v)| (k.clone(), replace(v))).collect())
            .unwrap_or_default(),
        directory: sender.and_then(|sender| sender.directory.clone()),
        user: sender.and_then(|sender| sender.user),
        input: sender.map(|sender| replace(&sender.input)).unwrap_or_default(),
        timeout_ms: sender
            .and_then(|sender| sender.timeout_ms.as_ref())
            .map_or(TIMEOUT_MS, |timeout| *timeout.get_ref()),
        resolver: resolver.unwrap_or(at.target),
        ready: sender.and_then(|s| s.ready.as_ref()).map(|ready| at.ready(ready.get_ref())),
        stop: sender.and_then(|s| s.stop.as_ref()).map_or_else(Signal::default, |s| *s.get_ref()),
        fault: case.fault.as_ref().map(|fault| fault.get_ref().clone()).unwrap_or_default(),
        task: at.task(),
    })
}

/// A program's story: started before the first step and ended behind the last, where the case does
/// not say.
fn steps(case: &FileCase, program: &Program, at: &Words<'_>, names: &Names<'_>) -> Vec<Step> {
    let written = || case.steps.iter().map(|step| step.get_ref());
    let mut steps: Vec<Step> =
        written().filter_map(|step| names_step(step, program, at, names)).collect();
    if !written().any(|step| step.program == Some(ProgramStep::Start)) {
        steps.insert(0, Step::Start(Box::new(program.clone())));
    }
    let ends =
        |step: &FileStep| [Some(ProgramStep::Stop), Some(ProgramStep::End)].contains(&step.program);
    if !written().any(ends) {
        steps.push(Step::End);
    }
    steps
}

fn names_step(
    step: &FileStep,
    program: &Program,
    at: &Words<'_>,
    names: &Names<'_>,
) -> Option<Step> {
    Some(match step.program {
        Some(ProgramStep::Start) => Step::Start(Box::new(program.clone())),
        Some(ProgramStep::UnderWay) => Step::UnderWay,
        Some(ProgramStep::Stop) => Step::Stop,
        Some(ProgramStep::End) => Step::End,
        None if step.signal.is_some() => Step::Signal(step.signal?),
        None => match (&step.set, &step.ask, &step.watch) {
            (Some(change), ..) => {
                Step::Set(LinkChange { link: names.link(&change.link), to: change.to })
            }
            (None, Some(ask), _) => {
                let by = names.link(&ask.by);
                let ready = program.ready.as_ref().and_then(|ready| ready.port);
                Step::Ask(Ask {
                    by,
                    what: ask.what,
                    to: at.links[by].address,
                    from: ask.from.as_ref().map_or(at.target, |from| names.address(from)),
                    port: ask.port.or(ready).unwrap_or(0),
                })
            }
            (None, None, Some(watch)) => Step::Watch(*watch.get_ref()),
            (None, None, None) => return names.step(0, names.transport, step).into_iter().next(),
        },
    })
}

impl Case {
    /// Whether the sender is a product on trial that nobody has named yet.
    pub fn wants_product(&self) -> bool {
        let wants =
            |step: &Step| matches!(step, Step::Start(program) if program.body == Body::Unnamed);
        self.steps.iter().any(wants)
    }

    /// The trial with this product as its sender, where it wants one. Placeholders in its command
    /// line are replaced as in a scenario's.
    #[must_use]
    pub fn with_product(mut self, product: &Product) -> Case {
        let at = Words {
            links: &self.links,
            intended: &self.intended,
            family: self.family,
            target: self.target,
        };
        let body = match &product.body {
            Body::Command(words) => {
                Body::Command(words.iter().map(|word| at.replace(word)).collect())
            }
            other => other.clone(),
        };
        let ready = product.ready.as_ref().map(|ready| at.ready(ready));
        let mut named = false;
        let rehearsal = self.control.rehearsal.iter_mut().flatten();
        for step in self.steps.iter_mut().chain(rehearsal) {
            match step {
                Step::Start(program) if program.body == Body::Unnamed => {
                    program.body = body.clone();
                    program.ready = ready.clone();
                    program.stop = product.stop;
                    named = true;
                }
                Step::Ask(ask) if ask.port == 0 => {
                    ask.port = ready.as_ref().and_then(|ready| ready.port).unwrap_or(0);
                }
                _ => {}
            }
        }
        if named {
            self.pin = product.words().join(" ");
        }
        self
    }

    /// The program that makes the attempt.
    pub fn program(&self) -> Option<&Program> {
        self.steps.iter().find_map(|step| match step {
            Step::Start(program) => Some(&**program),
            _ => None,
        })
    }
}

/// The story without what it changes, to show that the program would have sent: `None` where the
/// expectation needs no such proof.
pub(super) fn rehearsal(steps: &[Step]) -> Vec<Step> {
    let changes = |step: &&Step| {
        !matches!(step, Step::Set(_) | Step::Route(_) | Step::Unroute(_) | Step::Await(_))
    };
    steps.iter().filter(changes).cloned().collect()
}

impl Words<'_> {
    fn task(&self) -> Task {
        let at = self.intended.iter().position(|is| *is).unwrap_or_default();
        let link = &self.links[at];
        Task {
            device: link.name.clone(),
            address: link.address,
            gateway: link.gateway,
            target: self.target,
            target_name: TARGET_NAME,
            port: ATTEMPT_PORT,
            token: String::new(),
        }
    }

    fn ready(&self, ready: &Ready) -> Ready {
        let replace = |text: &Option<String>| text.as_ref().map(|text| self.replace(text));
        Ready { port: ready.port, line: replace(&ready.line), file: replace(&ready.file) }
    }

    /// `text` with its placeholders replaced. What is no placeholder stays as it is: braces mean
    /// much to many programs.
    fn replace(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            replaced.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find('}').map(|end| end + 1);
            let meaning = end.and_then(|end| Some((self.word(&rest[..end])?, end)));
            match meaning {
                Some((meaning, end)) => {
                    replaced.push_str(&meaning);
                    rest = &rest[end..];
                }
                None => {
                    replaced.push('{');
                    rest = &rest[1..];
                }
            }
        }
        replaced + rest
    }

    fn word(&self, placeholder: &str) -> Option<String> {
        let (links, family) = (self.links, self.family);
        let inner = placeholder.trim_matches(['{', '}']);
        match inner {
            "port" => return Some(ATTEMPT_PORT.to_string()),
            "target.name" => return Some(TARGET_NAME.to_owned()),
            _ => {}
        }
        let named = |name: &str| match name {
            "intended" => self.intended.iter().position(|is| *is).map(|at| &links[at]),
            name => links.iter().find(|link| link.name == name),
        };
        // As a URL has it: IPv6 in brackets (RFC 3986, section 3.2.2).
        if let Some(host) = inner.strip_suffix(".url") {
            let own = named(host).map(|link| link.address);
            let address = own.or_else(|| resolve(&format!("{{{host}}}"), links, family))?;
            let v6 = address.is_ipv6();
            return Some(if v6 { format!("[{address}]") } else { address.to_string() });
        }
        match inner.rsplit_once('.') {
            Some((name, "device")) => named(name).map(|link| link.name.clone()),
            Some(("intended", part)) => {
                let link = named("intended")?;
                let text = format!("{{{}.{part}}}", link.name);
                resolve(&text, links, family).map(|address| address.to_string())
            }
            _ => resolve(placeholder, links, family).map(|address| address.to_string()),
        }
    }
}

impl Step {
    /// Whether it changes a route of the host under test.
    pub fn changes_route(&self) -> Option<&Route> {
        match self {
            Step::Route(route) | Step::Unroute(route) => Some(route),
            _ => None,
        }
    }
}
