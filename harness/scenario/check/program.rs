//! A program as the sender: its command line, and what goes with one.

use std::net::IpAddr;

use toml::Spanned;

use super::{Cells, Checker, span};
use crate::scenario::attempt::{AskKind, Case, Fault, Outcome, ProgramStep, Step};
use crate::scenario::diagnostic::accepted_words;
use crate::scenario::file::{Neighbours, Ready};

/// The longest that a program may run, in milliseconds.
const TIMEOUT_MS_MAX: u32 = 600_000;

impl<'a> Checker<'a> {
    /// The sender of the file, whichever case it serves.
    pub(super) fn sender(&mut self) {
        let Some(sender) = &self.file.sender else { return };
        let commands = || self.file.case.iter().filter_map(|c| c.get_ref().command.as_ref());
        let named = sender.command.as_ref().or_else(|| commands().next());
        match named {
            None if !sender.product => {
                let help = "add `command` to it, or to a case, or `product = true`";
                self.fault(self.file.title.span(), "the sender has no command", help);
            }
            Some(command) if sender.product => {
                let message = "the sender is the product on trial, and has a command";
                self.fault(command.span(), message, "either `product = true` or `command`");
            }
            _ => {}
        }
        if let Some(command) = &sender.command {
            self.command(command);
        }
        if let Some(timeout) = &sender.timeout_ms
            && !(1..=TIMEOUT_MS_MAX).contains(timeout.get_ref())
        {
            let message = format!("`timeout_ms` is {}", timeout.get_ref());
            self.fault(timeout.span(), message, format!("accepted: 1 to {TIMEOUT_MS_MAX}"));
        }
        self.going_on();
        let wrong = sender.environment.keys().find(|name| name.is_empty() || name.contains('='));
        if let Some(name) = wrong {
            let message = format!("`{name}` cannot be a variable's name");
            self.fault(self.file.title.span(), message, "a name without `=`");
        }
    }

    fn command(&mut self, command: &Spanned<Vec<String>>) {
        let words = command.get_ref();
        if words.first().is_none_or(|program| program.is_empty()) {
            self.fault(command.span(), "the command line is empty", "a program and its arguments");
        }
        let unknown =
            words.iter().flat_map(|word| placeholders(word)).find(|word| !self.replaced(word));
        if let Some(word) = unknown {
            let help = "accepted: `{port}`, `{token}`, `{target}`, `{target.name}` and the other addresses, \
                        `{LINK.device}`, `{LINK.address}`, `{LINK.gateway}`; `intended` for LINK; \
                        `.url` behind an address's word for URLs";
            self.fault(command.span(), format!("unknown placeholder `{{{word}}}`"), help);
        }
        if words.iter().any(|word| word.contains('\0')) {
            self.fault(command.span(), "an argument holds a NUL", "no program can be given one");
        }
    }

    /// Whether `plan` replaces a placeholder of a command line.
    fn replaced(&self, word: &str) -> bool {
        if word == "target.name" {
            return true;
        }
        let host = word.strip_suffix(".url").unwrap_or(word);
        let link = |name: &str| name == "intended" || self.links.contains(&name);
        let part = |part: &str| {
            ["device", "address", "gateway", "broadcast", "link-local"].contains(&part)
        };
        ["port", "token"].contains(&word)
            || super::words::ADDRESSES.iter().any(|(known, _)| *known == host)
            || (host != word && link(host))
            || host.rsplit_once('.').is_some_and(|(name, last)| link(name) && part(last))
    }

    /// Whether a program makes the attempt of `case`. Then nothing else of it can say how.
    pub(super) fn program(&mut self, case: &'a Case, cells: &Cells) -> bool {
        let of_file = self.file.sender.as_ref().and_then(|sender| sender.command.as_ref());
        let product = self.file.sender.as_ref().is_some_and(|sender| sender.product);
        match case.command.as_ref().or(of_file) {
            Some(command) if case.command.is_some() => self.command(command),
            Some(_) => {}
            None if product => {}
            None => {
                if let Some(fault) = &case.fault {
                    let help = "it goes with a `command`, or a `[sender]`";
                    self.fault(fault.span(), "`fault` says nothing without a program", help);
                }
                return false;
            }
        }
        self.refusals(case);
        self.told(case, cells);
        let pins = super::attempt::pins(&case.pin).into_iter().next().map(|(_, span)| span);
        let idle = [
            ("pin", pins),
            ("to", span(&case.to)),
            ("size", span(&case.size)),
            ("flows", span(&case.flows)),
            ("request", span(&case.request)),
            ("inject", span(&case.inject)),
            ("provoke", span(&case.provoke)),
            ("call", span(&case.call)),
            ("unpinned", span(&case.unpinned)),
        ];
        for (key, span) in idle.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let help = "the program itself says how it sends: tell it by its arguments";
            self.fault(span, format!("`{key}` says nothing beside a command"), help);
        }
        if let Some(errno) = &case.errno
            && *case.expect.get_ref() == Outcome::Refused
            && !errno.get_ref().strip_prefix("exit ").is_some_and(exit_status)
        {
            let message = format!("`{}` is no exit status", errno.get_ref());
            self.fault(
                errno.span(),
                message,
                "accepted: `exit 1` to `exit 125`, `exit 128` to `exit 255`",
            );
        }
        true
    }
}

impl Checker<'_> {
    /// What tells that a program goes on running.
    fn going_on(&mut self) {
        let Some(sender) = &self.file.sender else { return };
        if let Some(ready) = &sender.ready {
            let Ready { port, line, file } = ready.get_ref();
            let said = [port.is_some(), line.is_some(), file.is_some()];
            let empty =
                *port == Some(0) || [line, file].into_iter().flatten().any(|text| text.is_empty());
            if said.into_iter().filter(|said| *said).count() != 1 || empty {
                let help = "one of `port` (1 to 65535), `line` and `file`";
                self.fault(ready.span(), "`ready` does not say one thing", help);
            }
            if sender.product {
                let message = "a product on trial brings its own `ready`";
                self.fault(ready.span(), message, "`airtight run --ready ... -- PROGRAM`");
            }
        } else if let Some(stop) = &sender.stop {
            let help = "add `ready`: a program without it is waited for until it ends";
            self.fault(stop.span(), "`stop` says nothing without `ready`", help);
        }
    }

    /// The surroundings of programs.
    pub(super) fn world(&mut self) {
        const TAKEN: [u16; 6] = [0, 7, 9, 53, 80, 123];
        let world = &self.file.world;
        let runs = self.file.sender.is_some()
            || self.file.case.iter().any(|case| case.get_ref().command.is_some());
        let places = [
            world.sink.first().map(Spanned::span),
            world.names.values().next().map(Spanned::span),
            span(&world.resolver),
            world.slow.first().map(Spanned::span),
            span(&world.beside),
        ];
        if let (false, Some(place)) = (runs, places.into_iter().flatten().next()) {
            let help = "the world is there for a `[sender]`, or a `command`";
            self.fault(place, "`world` says nothing without a program", help);
        }
        for (at, port) in world.sink.iter().enumerate() {
            let twice = world.sink[..at].iter().any(|other| other.get_ref() == port.get_ref());
            if twice || TAKEN.contains(port.get_ref()) {
                let message = format!("something else is at port {} already", port.get_ref());
                self.fault(port.span(), message, "accepted: 1 to 65535 but 7, 9, 53, 80, 123");
            }
        }
        for answer in world.names.values() {
            let text = answer.get_ref();
            let figures = text.parse::<IpAddr>().is_ok();
            if text != "nxdomain" && !figures {
                let families = self.families();
                self.address(answer, &families);
            }
        }
        if let Some(resolver) = &world.resolver {
            self.one_of(resolver, "no name server can be at", ["{target}", "{elsewhere}"]);
        }
        self.unique("slow link", &world.slow);
        for link in &world.slow {
            self.link(link);
        }
        let Some(beside) = &world.beside else { return };
        if self.link(beside) && self.intended(beside.get_ref()) {
            let message = format!("`{}` is intended: nothing leaks by it", beside.get_ref());
            self.fault(beside.span(), message, accepted_words("", self.decoys()));
        }
        if self.file.neighbours != Neighbours::Permanent {
            let help = "leave `neighbours` out";
            self.fault(beside.span(), "`beside` goes with permanent neighbours alone", help);
        }
    }

    /// The errors of a program's pins.
    fn refusals(&mut self, case: &Case) {
        let Some(fault) = &case.fault else { return };
        let Fault { setsockopt, bind } = fault.get_ref();
        let errors: Vec<&String> = [setsockopt, bind].into_iter().flatten().collect();
        if errors.is_empty() {
            let help = "add `setsockopt` or `bind`, with an errno";
            self.fault(fault.span(), "the fault refuses nothing", help);
        }
        for name in errors {
            if crate::errno::from_name(name).is_none() {
                let help = accepted_words(name, crate::errno::names());
                self.fault(fault.span(), format!("unknown errno `{name}`"), help);
            }
        }
    }

    /// A program's story: it is started once, then under way, then ended.
    fn told(&mut self, case: &Case, cells: &Cells) {
        let mut last = None;
        for spanned in &case.steps {
            let step = spanned.get_ref();
            let keys = super::attempt::keys(step);
            const KEYS: [&str; 8] =
                ["program", "signal", "set", "route", "unroute", "ask", "watch", "await"];
            let known = matches!(keys.as_slice(), [key] if KEYS.contains(key));
            if !known || step.on.is_some() || step.refused.is_some() {
                let message = "a program's story has no such step";
                let list = KEYS.map(|key| format!("`{key}`")).join(", ");
                self.fault(spanned.span(), message, format!("one of {list}"));
                continue;
            }
            self.told_step(spanned, cells);
            let rank = match (step.program, &last) {
                (Some(ProgramStep::Start), _) => 1,
                (Some(ProgramStep::UnderWay), _) => 2,
                (Some(ProgramStep::Stop | ProgramStep::End), _) => 3,
                (None, last) => {
                    let ended = *last == Some(3);
                    let idle = *last != Some(1) && *last != Some(2) && self.starts(case);
                    let waits = step.signal.is_some()
                        || step.ask.is_some()
                        || step.watch.is_some()
                        || step.await_frame.is_some();
                    if ended || (waits && idle) {
                        let help = "between its start and its end";
                        self.fault(spanned.span(), "the program does not run at this step", help);
                    }
                    continue;
                }
            };
            if last.is_some_and(|last| last >= rank) {
                let help = "in this order, each once: `start`, `under-way`, and `stop` or `end`";
                self.fault(spanned.span(), "the program cannot do this now", help);
            }
            last = Some(rank);
        }
    }

    fn starts(&self, case: &Case) -> bool {
        case.steps.iter().any(|step| step.get_ref().program == Some(ProgramStep::Start))
    }

    fn told_step(&mut self, spanned: &Spanned<Step>, cells: &Cells) {
        const WATCH_MS_MAX: u16 = 5_000;
        let step = spanned.get_ref();
        if let Some(change) = &step.set {
            self.link(&change.link);
        }
        for route in [&step.route, &step.unroute].into_iter().flatten() {
            self.route(route);
            // A step that some cells have not would be a step that is not made.
            self.prefix(&route.get_ref().to, &cells.families);
        }
        if let Some(link) = &step.await_frame {
            self.link(link);
        }
        if let Some(watch) = &step.watch
            && !(1..=WATCH_MS_MAX).contains(watch.get_ref())
        {
            let message = format!("`watch` is {} ms", watch.get_ref());
            self.fault(watch.span(), message, format!("accepted: 1 to {WATCH_MS_MAX}"));
        }
        let Some(ask) = &step.ask else { return };
        self.link(&ask.by);
        if let Some(from) = &ask.from {
            self.one_of(from, "no gateway can ask from", ["{target}", "{elsewhere}"]);
        }
        let sender = self.file.sender.as_ref();
        let ready = sender.and_then(|sender| sender.ready.as_ref());
        let known = ready.is_some_and(|ready| ready.get_ref().port.is_some())
            || sender.is_some_and(|sender| sender.product);
        let help = "add `port`";
        match (ask.what, ask.port) {
            (AskKind::Ping, Some(_)) => {
                self.fault(spanned.span(), "a ping goes to no port", "leave `port` out");
            }
            (_, Some(0)) => self.fault(spanned.span(), "there is no port 0", help),
            (AskKind::Ping, None) => {}
            (_, None) if known && ask.what == AskKind::Request => {}
            (_, None) => self.fault(spanned.span(), "what is asked has no port", help),
            (_, Some(_)) => {}
        }
    }
}

/// What stands in braces and looks like a placeholder: one word of lower-case letters, digits and
/// `.`, `-`, `_`. Other braces are the program's own.
fn placeholders(word: &str) -> Vec<&str> {
    let plain = |inner: &&str| {
        inner.starts_with(|c: char| c.is_ascii_lowercase())
            && inner
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c))
    };
    let inner = word.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    inner.map(|(inner, _)| inner).filter(plain).collect()
}

/// Whether it is the status of a program that ran and failed: 126 and 127 say that it did not.
fn exit_status(text: &str) -> bool {
    text.parse().is_ok_and(|status: u8| (1..=125).contains(&status) || status > 127)
}
