//! Products on trial, each behaving or misbehaving in one known way: fixtures/programs/product.py has
//! the ways. What must come of each is stated; nothing that misbehaves may conform.
#![expect(clippy::print_stderr, reason = "a test program speaks to its terminal")]

mod front;

use std::net::UdpSocket;
use std::process::ExitCode;

use airtight::plan::{Case, Product, Task, expand};
use airtight::scenario::parse;
use airtight::trial::{Record, Runner};
use airtight::verdict::Verdict::{self, Conforms, Deviates, Inconclusive};
use anyhow::{Context, Result, anyhow, bail, ensure};

/// The laboratory; CASE stands for what a trial adds.
const TRAP: &str = r#"
title = "The product keeps to its link"
why   = "The uplink has the better metric."
links    = ["chassis", "uplink"]
intended = ["chassis"]
routes   = [
  { to = "default", via = "uplink",  metric = 100 },
  { to = "default", via = "chassis", metric = 200 },
]
WORLD
[sender]
product = true
timeout_ms = 6000
[control]
unpinned = "uplink"
[matrix]
family    = ["v4", "v6"]
transport = ["udp"]
[[case]]
name = "product"
CASE
"#;
const CONTAINED: &str = "expect = \"contained\"";
const LEAKED: &str = "expect = \"leaked\"\nthrough = \"uplink\"";

/// What is tried, and what must come of it.
struct Way {
    name: String,
    family: &'static str,
    product: Product,
    world: &'static str,
    case: String,
    verdict: Verdict,
    /// Words that the reason, or the record, must contain.
    says: &'static str,
}

/// A way of product.py.
fn way(way: &str, case: &str, verdict: Verdict, says: &'static str) -> Way {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/programs/product.py");
    let words = ["python3", script, way, "{intended.device}", "{intended.address}", "{target}"];
    let product = Product::command(words.into_iter().chain(["{port}", "{token}"]));
    Way {
        name: way.to_owned(),
        family: "v4",
        product,
        world: "",
        case: case.to_owned(),
        verdict,
        says,
    }
}

impl Way {
    fn v6(mut self) -> Way {
        self.name += " v6";
        self.family = "v6";
        self
    }

    fn named(mut self, more: &str) -> Way {
        self.name += &format!(" {more}");
        self
    }

    fn on_port(self) -> Way {
        Way { product: self.product.ready_on_port(8080), ..self }
    }

    fn world(self, world: &'static str) -> Way {
        Way { world, ..self }
    }
}

/// A function as the product.
fn function(
    name: &str,
    case: &str,
    verdict: Verdict,
    says: &'static str,
    function: impl Fn(&Task) -> Result<()> + Send + Sync + 'static,
) -> Way {
    Way {
        name: format!("function that {name}"),
        product: Product::function(function),
        ..way("", case, verdict, says)
    }
}

/// A case whose laboratory changes.
fn story(steps: &str) -> String {
    format!("steps = [{steps}]\nexpect = \"kept\"")
}

fn fault(errors: &str) -> String {
    format!("fault = {{ {errors} }}\nexpect = \"kept\"")
}

const AFTER: &str = "{ program = \"start\" }, { watch = 1000 }, { program = \"stop\" }";
const REFUSED_PIN: &str = "setsockopt = \"EPERM\"";
const REFUSED_BIND: &str = "bind = \"EADDRNOTAVAIL\"";

fn ways() -> Vec<Way> {
    let gone = |state: &str| {
        story(&format!("{{ set = {{ link = \"chassis\", to = \"{state}\" }} }}, {AFTER}"))
    };
    let mut ways = vec![
        way("careful", CONTAINED, Conforms, "contained"),
        way("careful", CONTAINED, Conforms, "contained").v6(),
        way("careless", CONTAINED, Deviates, "leaked through uplink"),
        way("careless", LEAKED, Conforms, "\"held\":\"nothing\""),
        way("silent", CONTAINED, Deviates, "got silent"),
        way("crash", CONTAINED, Inconclusive, "crashed, by signal 11"),
        way("machine", CONTAINED, Conforms, "contained"),
        // Daemons.
        way("daemon", CONTAINED, Conforms, "answered").on_port(),
        way("daemon", CONTAINED, Conforms, "answered").on_port().v6(),
        way("daemon", CONTAINED, Inconclusive, "did not end in its time")
            .named("not said to be one"),
        way("daemon-unpinned", CONTAINED, Deviates, "leaked through uplink").on_port(),
        way("daemon-mute", CONTAINED, Inconclusive, "did not answer a request").on_port(),
        way("daemon-last-words", CONTAINED, Deviates, "leaked through uplink").on_port(),
        way("daemon-deaf", CONTAINED, Inconclusive, "did not end upon SIGTERM").on_port(),
        way("crash-early", CONTAINED, Inconclusive, "ended before it was ready: no configuration")
            .on_port(),
        way("hang", CONTAINED, Inconclusive, "was not ready in its time").on_port(),
        Way {
            product: way("daemon-on-line", "", Conforms, "").product.ready_on_line("now listening"),
            ..way("daemon-on-line", CONTAINED, Conforms, "contained")
        },
        Way {
            product: way("daemon-on-file", "", Conforms, "").product.ready_on_file("/tmp/{token}"),
            ..way("daemon-on-file", CONTAINED, Conforms, "contained")
        },
        // What gateways ask is answered by the kernel too, which keeps to no link.
        way("daemon", &asks("scan", ", port = 99"), Deviates, "leaked through uplink")
            .on_port()
            .named("scanned"),
        way("daemon", &asks("ping", ""), Deviates, "leaked through uplink")
            .on_port()
            .named("pinged"),
        way("daemon", &asks("request", ""), Conforms, "contained").on_port().named("asked"),
        // Faults at the pin.
        way("pin-careful", &fault(REFUSED_PIN), Conforms, "\"refused\":\"EPERM\""),
        way("pin-careless", &fault(REFUSED_PIN), Deviates, "leaked through uplink"),
        way("bind-careful", &fault(REFUSED_BIND), Conforms, "\"refused\":\"EADDRNOTAVAIL\""),
        way("bind-careless", &fault(REFUSED_BIND), Deviates, "leaked through uplink"),
        way("careless", &fault(REFUSED_BIND), Deviates, "leaked through uplink")
            .named("and unbound"),
        way("careful", &fault(REFUSED_BIND), Inconclusive, "no call of the program was refused")
            .named("and unbound"),
        // The laboratory changes.
        way("silent", &gone("down"), Inconclusive, "sent nothing either").named("rehearsed"),
        way("crash", &gone("down"), Inconclusive, "in the rehearsal").named("rehearsed"),
        way(
            "careful",
            &story(
                "{ program = \"under-way\" }, { route = { to = \"{target}\", via = \"uplink\" } }",
            ),
            Conforms,
            "left since the last change",
        )
        .named("while a route changes"),
        way(
            "silent",
            &story(
                "{ program = \"under-way\" }, { route = { to = \"{target}\", via = \"uplink\" } }",
            ),
            Inconclusive,
            "ended before it had sent anything",
        )
        .named("while a route changes"),
        // What an attack on these verdicts has found.
        way("fork-late", CONTAINED, Deviates, "leaked through uplink"),
        way("give-up", CONTAINED, Inconclusive, "gave up"),
        way("once", &gone("down"), Inconclusive, "without having tried"),
        way("rehearse-only", &gone("down"), Deviates, "leaked through uplink"),
        way(
            "careless-once",
            &story(
                "{ program = \"under-way\" }, { route = { to = \"{target}\", via = \"uplink\" } }",
            ),
            Deviates,
            "leaked through uplink",
        ),
        way("many-pins", &fault(REFUSED_PIN), Conforms, "\"refused\":70"),
        way(
            "loopback-only",
            &fault(REFUSED_BIND),
            Inconclusive,
            "no call of the program was refused",
        ),
        way("join", CONTAINED, Deviates, "leaked through uplink"),
        // The world.
        way("time", CONTAINED, Conforms, "contained"),
        way("sink", CONTAINED, Conforms, "contained").world("[world]\nsink = [8883]"),
        way("sink", CONTAINED, Inconclusive, "gave up, with exit status 1")
            .named("that is not there"),
        way(
            "names",
            CONTAINED,
            Conforms,
            "\"name\":\"gone.test\",\"kind\":\"A\",\"link\":\"chassis\"",
        )
        .world("[world.names]\n\"gone.test\" = \"nxdomain\"\n\"other.test\" = \"198.51.100.10\""),
        way("look-up", CONTAINED, Deviates, "leaked through uplink"),
        way("both-families", CONTAINED, Deviates, "leaked through uplink")
            .world("[world]\nbeside = \"uplink\""),
        way("both-families", CONTAINED, Deviates, "leaked through uplink")
            .world("[world]\nbeside = \"uplink\"")
            .v6(),
        way("careful", CONTAINED, Conforms, "contained")
            .world("[world]\nslow = [\"chassis\"]")
            .named("where answers are late"),
        // Whatever it does, it is judged by its frames, and ends.
        way("fork-away", CONTAINED, Inconclusive, "did not end in its time"),
        way("close-terminal", CONTAINED, Conforms, "contained"),
        way("shout", CONTAINED, Conforms, "\"bytes\":67108864"),
        way("leave", CONTAINED, Deviates, "got silent"),
        way("kill-parent", CONTAINED, Conforms, "contained"),
        way("own-routes", CONTAINED, Conforms, "contained"),
        way("flood", CONTAINED, Conforms, "contained"),
        Way {
            product: Product::command(["/etc/hostname"]),
            ..way("not executable", CONTAINED, Inconclusive, "was not started")
        },
        Way {
            product: Product::command(["sh", "-c", "exec no-such-program"]),
            ..way("missing library or program", CONTAINED, Inconclusive, "could not run")
        },
    ];
    for state in ["down", "unplugged", "bare", "gone"] {
        for family in ["v4", "v6"] {
            let of = |name, verdict, says| Way {
                family,
                name: format!("{name} {family} while its link is {state}"),
                ..way(name, &gone(state), verdict, says)
            };
            ways.push(of("careful", Conforms, ""));
            ways.push(of("careless", Deviates, "leaked through uplink"));
        }
    }
    ways.extend(functions());
    ways
}

fn asks(what: &str, port: &str) -> String {
    format!(
        "expect = \"contained\"\nsteps = [{{ program = \"under-way\" }}, {{ ask = {{ by = \"chassis\", \
         what = \"{what}\"{port} }} }}, {{ program = \"end\" }}]"
    )
}

fn functions() -> Vec<Way> {
    let send = |task: &Task, pinned: bool| -> Result<()> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        if pinned {
            use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
            setsockopt(&socket, BindToDevice, &task.device.clone().into())?;
        }
        socket.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
        socket.send_to(task.token.as_bytes(), (task.target, task.port))?;
        socket.recv(&mut [0; 100])?;
        Ok(())
    };
    vec![
        function("pins", CONTAINED, Conforms, "SO_BINDTODEVICE", move |task| send(task, true)),
        function("does not pin", CONTAINED, Deviates, "leaked through uplink", move |task| {
            send(task, false)
        }),
        function(
            "fails",
            "expect = \"refused\"\nerrno = \"exit 1\"",
            Conforms,
            "on purpose",
            |_| bail!("on purpose"),
        ),
        function("panics", CONTAINED, Inconclusive, "panicked: on purpose", |_| {
            panic!("on purpose")
        }),
        function("does not return", CONTAINED, Inconclusive, "did not end in its time", |_| {
            loop {
                std::thread::park();
            }
        }),
        function("leaves its namespace", CONTAINED, Deviates, "got silent", |_| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            Ok(())
        }),
        function("has its pin refused", &fault(REFUSED_PIN), Conforms, "EPERM", move |task| {
            send(task, true)
        }),
        function("ignores that", &fault(REFUSED_PIN), Deviates, "leaked", move |task| {
            send(task, true).or_else(|_| send(task, false))
        }),
        function("leaves a thread behind", CONTAINED, Inconclusive, "left threads", move |task| {
            std::thread::spawn(std::thread::park);
            send(task, true)
        }),
        function("starts a thread", CONTAINED, Conforms, "contained", move |task| {
            let task = task.clone();
            let thread = std::thread::spawn(move || send(&task, true));
            thread.join().map_err(|_| anyhow!("the thread panicked"))?
        }),
    ]
}

fn main() -> ExitCode {
    let test = |way: Way| -> front::Test {
        (way.name.clone(), Box::new(move |(_, runner)| check(runner, &way)))
    };
    front::main(Some(8), ways().into_iter().map(test).collect())
}

fn check(runner: &Runner, way: &Way) -> Result<()> {
    let text = TRAP.replace("WORLD", way.world).replace("CASE", &way.case);
    let scenario = parse("product", "product.toml", text.as_bytes())?;
    let cases: Vec<Case> = expand(&scenario);
    let case = cases.into_iter().find(|case| case.family.word() == way.family);
    let case = case.context("no such family")?.with_product(&way.product);
    let record: Record = runner.run(&case);
    let text = serde_json::to_string(&Record { frames: Vec::new(), ..record.clone() })?;
    ensure!(
        record.verdict == way.verdict
            && (record.reason.contains(way.says) || text.contains(way.says)),
        "expected {:?} that says `{}`, got {:?}: {}\n{text}",
        way.verdict,
        way.says,
        record.verdict,
        record.reason
    );
    Ok(())
}
