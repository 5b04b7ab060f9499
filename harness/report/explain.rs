//! One trial, told to a person: the claim, the laboratory as a diagram, the kernel's own route
//! decision, the calls, the frames.

use super::human::{controls, safe, shown};
use crate::plan::{Adversary, Case, Guarding};
use crate::script;
use crate::trial::{FrameRecord, Record};
use crate::verdict;

/// How wide prose is set, in characters.
const WIDTH: usize = 92;

/// Everything that there is to say of a trial, as plain text.
pub fn explain(case: &Case, record: &Record) -> String {
    let mut text = format!("{}\n\n", safe(&case.id));
    text += &section("claim", &claim(case));
    text += &section("laboratory", &laboratory(case));
    if let Some(it) = &case.adversary {
        text += &section("adversary", &adversary(case, it));
    }
    if let Some(guarding) = &case.guard {
        text += &section("guard", &guard(case, guarding, record));
    }
    let decisions = record.decisions.iter().map(|d| format!("{}\n  {}", d.query, d.answer));
    text += &section("what the kernel decides", &decisions.collect::<Vec<_>>().join("\n"));
    text += &section("attempt", &calls(record));
    if let Some(ran) = &record.program {
        text += &section("program", &super::human::program(ran));
    }
    text += &section("frames", &frames(record));
    let observed = record.observed.as_ref().map_or_else(|| "nothing".to_owned(), verdict::describe);
    let mut outcome = format!("{observed}: {}\n{}", record.verdict.word(), record.reason);
    outcome += &format!("\n{}", controls(record));
    for pending in &record.pending {
        outcome += &format!("\nstill under way when the window closed: {pending}");
    }
    for wait in &record.waits {
        let millis = wait.micros as f64 / 1e3;
        outcome += &format!("\nwaited {millis:.1} ms for {}", wait.what);
    }
    text += &section("observed", &outcome);
    let rerun = format!(
        "airtight run {id}\nbash <(airtight explain {id} --script)   # without airtight, as root",
        id = case.id
    );
    text + &section("again", &rerun)
}

fn section(name: &str, body: &str) -> String {
    let lines = body.lines().map(|line| format!("  {}", safe(line)).trim_end().to_owned() + "\n");
    format!("{name}\n{}\n", lines.collect::<String>())
}

fn claim(case: &Case) -> String {
    let mut text = format!("{}\n\n{}\n", case.title, fill(&case.why));
    let expect = &case.expect;
    let mut words = format!("expected: {}", expect.outcome.word());
    let parts = [("through", &expect.through), ("with", &expect.errno), ("by", &expect.call)];
    for (word, part) in parts {
        words += &part.as_ref().map_or_else(String::new, |part| format!(" {word} {part}"));
    }
    if let Some(source) = &expect.source {
        words += &format!(", with the source of {source}");
    }
    text += &format!("\n{words}\npin: {}\n", case.pin);
    text + &format!("see: {}", case.refs.join("; "))
}

/// Prose, its lines filled anew.
fn fill(prose: &str) -> String {
    let mut lines = vec![String::new()];
    for word in prose.split_whitespace() {
        let full = lines.last().is_some_and(|l| !l.is_empty() && l.len() + word.len() >= WIDTH);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

fn laboratory(case: &Case) -> String {
    let name = case.links.iter().map(|link| link.name.len()).max().unwrap_or(0);
    let near = case.links.iter().map(|link| link.address.to_string().len()).max().unwrap_or(0);
    let far = case.links.iter().map(|link| link.gateway.to_string().len()).max().unwrap_or(0);
    let left = "host under test";
    let mut text = format!("{left:<width$}gateways\n", width = name + near + 16);
    for (link, intended) in case.links.iter().zip(&case.intended) {
        let role = if *intended { "intended" } else { "decoy" };
        text += &format!(
            "  {:name$}  {:near$} ------------ {:far$}  {role}\n",
            link.name,
            link.address.to_string(),
            link.gateway.to_string()
        );
    }
    let owned: Vec<String> = case.owned.iter().map(ToString::to_string).collect();
    if !owned.is_empty() {
        text += &format!("  every gateway owns {}\n", owned.join(", "));
    }
    let mut add = |line: String| text += &format!("  {line}\n");
    for route in &case.routes {
        add(format!("ip route add {}", script::route_words(route, &case.links).join(" ")));
    }
    for rule in &case.rules {
        add(format!("ip rule add {}", script::rule_words(rule, case.family.is_v4()).join(" ")));
    }
    for (name, value) in &case.sysctls {
        add(format!("sysctl {}={value}", name.replace('/', ".")));
    }
    for advertisement in &case.advertisements {
        let by = &case.links[advertisement.by].name;
        let prefix = |what: &str, prefix: &Option<(std::net::IpAddr, u8)>| {
            prefix.map_or_else(String::new, |(to, length)| format!(" {what} {to}/{length}"))
        };
        add(format!(
            "router advertisement by {by}:{}{}{}",
            prefix("on the link", &advertisement.prefix),
            prefix("routed", &advertisement.route),
            if advertisement.default { " default router" } else { "" }
        ));
    }
    for (from, to) in &case.multicast_routes {
        let (from, to) = (&case.links[*from].name, &case.links[*to].name);
        add(format!("multicast route from {from} to {to}"));
    }
    for line in &case.lines {
        add(script::line_words(line, &case.links));
    }
    text
}

/// What goes wrong below the sockets, and when.
fn adversary(case: &Case, adversary: &Adversary) -> String {
    let name = |at: usize| case.links[at].name.as_str();
    let mut text = match adversary.untouched {
        Some(at) => format!("before it, the unpinned control leaves by {}\n", name(at)),
        None => String::new(),
    };
    for line in &adversary.lines {
        text += &format!("{}\n", script::line_words(line, &case.links));
    }
    if let Some((from, to)) = adversary.redirect {
        let (from, to) = (name(from), name(to));
        text +=
            &format!("a BPF program on the egress hook of {from} redirects IP packets to {to}\n");
    }
    text
}

/// What is put underneath, and what the attempt comes to without it.
fn guard(case: &Case, guarding: &Guarding, record: &Record) -> String {
    let mut text = format!("{}: {}\n", guarding.kind.word(), guarding.kind.description());
    if let Some(leak) = &record.controls.unguarded {
        text += &format!("without it, in this run: {leak}\n");
    }
    text += match guarding.apart {
        true => "there from the start; the control is sent where the decoys are:\n",
        false => "put underneath behind the control and before the attempt:\n",
    };
    let name = |index: &u32| {
        let link = case.links.iter().find(|link| link.index == *index);
        link.map_or_else(|| format!("device {index}"), |link| link.name.clone())
    };
    for at in &guarding.away {
        text += &format!("  {} is in another namespace\n", case.links[*at].name);
    }
    for line in &guarding.lines {
        text += &format!("  {}\n", script::line_words(line, &case.links));
    }
    for route in &guarding.routes {
        text += &format!("  ip route add {}\n", script::route_words(route, &case.links).join(" "));
    }
    for rule in &guarding.rules {
        let words = script::rule_words(rule, case.family.is_v4());
        text += &format!("  ip rule add {}\n", words.join(" "));
    }
    if let Some(index) = &guarding.pinned {
        text += &format!("  BPF_CGROUP_INET_SOCK_CREATE: bound_dev_if = {}\n", name(index));
    }
    if let Some(kept) = &guarding.kept {
        let names: Vec<String> = kept.iter().filter(|index| **index != 1).map(name).collect();
        text += &format!("  BPF_CGROUP_INET_EGRESS: nothing but by {} and lo\n", names.join(", "));
    }
    text
}

fn calls(record: &Record) -> String {
    let call = |call: &crate::sender::Call| match &call.errno {
        Some(errno) => format!("{}: {errno}", call.call),
        None => call.call.clone(),
    };
    record.calls.iter().map(call).collect::<Vec<_>>().join("\n")
}

/// The frames of the control and of the attempt, link by link, with their bytes.
fn frames(record: &Record) -> String {
    let start = record.frames.iter().map(|frame| frame.at_ns).min().unwrap_or(0);
    let mut text = String::new();
    for link in &record.links {
        let ours = |frame: &&FrameRecord| frame.link == *link && frame.role != "sentinel";
        let frames: Vec<&FrameRecord> = record.frames.iter().filter(ours).collect();
        text += &format!("{link}: {}\n", super::human::plural(frames.len() as u64, "frame"));
        for frame in frames {
            let leak = if frame.role == "leak" { "  <- leak" } else { "" };
            text += &format!("  {:8} {}{leak}\n", frame.phase, shown(frame, start));
            if frame.phase != "control" {
                text += &hexadecimal(&frame.bytes);
            }
        }
    }
    text
}

fn hexadecimal(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| {
        let words = chunk.chunks(2).map(|pair| pair.iter().map(|b| format!("{b:02x}")).collect());
        format!("           {}\n", words.collect::<Vec<String>>().join(" "))
    };
    bytes.chunks(16).map(line).collect()
}
