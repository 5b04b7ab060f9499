//! A case to a bash script that makes its trial again with plain `ip` and `python3` lines, for
//! whoever doubts airtight. Pure: it writes text, and runs nothing.

mod attempt;
mod calls;
mod guard;
mod lab;
mod life;

use std::net::IpAddr;

pub(crate) use lab::{line_words, route_words, rule_words};

use crate::plan::{Case, Judged};
use crate::scenario::{Carries, Outcome};

/// The bash script that makes the trial of `case`, for `unshare -n bash SCRIPT`. Its last line of
/// output tells the outcome.
pub fn script(case: &Case) -> String {
    let parts = [header(case), lab::lines(case), attempt::lines(case)];
    let mut text = parts.map(|lines| lines.join("\n")).join("\n\n");
    text.push('\n');
    text
}

fn header(case: &Case) -> Vec<String> {
    let mut lines = vec!["#!/bin/bash".to_owned()];
    lines.extend(comment(&case.id));
    lines.push("#".to_owned());
    lines.extend(comment(&case.title));
    lines.push("#".to_owned());
    lines.extend(comment(&sought(case)));
    lines.push("#".to_owned());
    lines.extend(comment(
        "Run it as root in a network namespace of its own (unshare -n bash SCRIPT)",
    ));
    lines.extend(comment("or without root in namespaces of its own (unshare -rnm bash SCRIPT)."));
    if case.runs_program() {
        lines.push("#".to_owned());
        lines.extend(comment(
            "The program is started as it is, on this machine. What it would talk to (echo, HTTP, \
             names), what its laboratory goes through meanwhile, and what gateways ask it are not part \
             of this script: `airtight run` makes them.",
        ));
    }
    lines.push("set -eu".to_owned());
    lines
}

/// What to look for in the script's output.
fn sought(case: &Case) -> String {
    let named = |intended: bool| {
        let links = case.links.iter().zip(&case.intended).filter(|(_, is)| **is == intended);
        links.map(|(link, _)| link.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let expect = &case.expect;
    let what = match expect.outcome {
        Outcome::Contained if expect.carries == Carries::Neighbour => format!(
            "only ARP or neighbour discovery leaves, by {}, and nothing by {}",
            named(true),
            named(false)
        ),
        Outcome::Contained => {
            format!("the attempt's frames leave by {}, and none by {}", named(true), named(false))
        }
        Outcome::Leaked => format!(
            "a frame leaves by {}, although only {} is intended",
            expect.through.clone().unwrap_or_else(|| named(false)),
            named(true)
        ),
        Outcome::Refused if case.judged == Judged::Reception => {
            "the socket does not receive what is sent to it".to_owned()
        }
        Outcome::Refused => {
            let call = expect.call.as_deref().unwrap_or("a call");
            let errno = expect.errno.as_deref().unwrap_or("an error");
            format!("{call} is refused with {errno}, and no frame leaves")
        }
        Outcome::Silent => "no call is refused, and yet no frame leaves".to_owned(),
        Outcome::Delivered => "the socket receives what is sent to it".to_owned(),
        Outcome::Kept => format!("no frame leaves by {}", named(false)),
    };
    let source = expect.source.as_ref().map_or_else(String::new, |source| {
        let link = case.links.iter().find(|link| link.name == *source);
        let address = link.map_or_else(String::new, |link| format!(" ({})", link.address));
        format!("; its source is that of {source}{address}")
    });
    format!("Expected: {}. Look for it: {what}{source}.", expected(case))
}

/// The expected outcome in the words of the script's last line, as far as the case names it.
fn expected(case: &Case) -> String {
    let expect = &case.expect;
    let detail = match (&expect.through, &expect.errno) {
        (Some(through), _) => format!(" through {through}"),
        (None, Some(errno)) => format!(" with {errno}"),
        (None, None) => String::new(),
    };
    format!("{}{detail}", expect.outcome.word())
}

/// A comment. What is in the text cannot end it.
fn comment(text: &str) -> Vec<String> {
    let clean = |line: &str| -> String {
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    };
    text.lines().map(|line| format!("# {}", clean(line)).trim_end().to_owned()).collect()
}

/// A word of bash, quoted where it needs to be. No word of a shell can hold a NUL.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

/// A literal of Python on one line: everything that could end it is escaped.
fn python(text: &str) -> String {
    let escape = |c: char| match c {
        ' ' | '_' | '-' | '.' | '/' | ':' | '{' | '}' => c.to_string(),
        c if c.is_ascii_alphanumeric() => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// The same for bytes.
fn python_bytes(bytes: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        b'_' | b'-' | b'.' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    format!("b\"{}\"", bytes.iter().map(escape).collect::<String>())
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// `ip` with the option that routes and rules of the family need.
fn ip(case: &Case) -> &'static str {
    if case.family.is_v4() { "ip" } else { "ip -6" }
}

fn prefix((address, length): (IpAddr, u8)) -> String {
    if length == 0 { "default".to_owned() } else { format!("{address}/{length}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Line, PinCall, Step, expand};

    const SAMPLE: &str = r#"
title    = "A bound device isn't left"
why      = "Because it is bound."
links    = ["chassis", "uplink"]
intended = ["chassis"]
routes   = [
  { to = "default", via = "uplink" },
  { to = "{target}", multipath = ["chassis", "uplink"] },
]
rules    = [{ oif = "chassis", type = "unreachable", priority = 7 }]
control  = { unpinned = "uplink" }
matrix   = { family = ["v4", "v6"], transport = ["udp"] }

[[case]]
name   = "device"
pin    = { device = "chassis", pktinfo = { index = "uplink" } }
expect = "leaked"
"#;

    fn case(at: usize) -> Case {
        let scenario = crate::scenario::parse("sample", "sample.toml", SAMPLE.as_bytes());
        expand(&scenario.expect("the sample is a scenario")).swap_remove(at)
    }

    /// What bash takes for code: comments, here-documents and quoted words are left out.
    fn code(script: &str) -> String {
        let shell = script.split("<<'PYTHON'").next().unwrap_or_default();
        let lines = shell.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.map(|line| line.split("  # ").next().unwrap_or_default());
        let text = lines.collect::<Vec<_>>().join("\n").replace(r"\'", "");
        text.split('\'').step_by(2).collect()
    }

    #[test]
    fn a_sample_is_all_there() {
        for (at, expected) in [
            [
                "peer name chassis index 11 address 02:00:00:00:01:02 netns $gateway1",
                "neigh add 203.0.113.9 lladdr 02:00:00:00:02:02 dev uplink nud permanent",
                "ip -n $host route add default via 192.0.2.34 dev uplink",
                "nexthop via 192.0.2.18 dev chassis nexthop via 192.0.2.34 dev uplink",
                "ip -n $host rule add unreachable oif chassis priority 7",
                "decide 203.0.113.9 oif uplink",
                "s0.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b\"chassis\")",
                "[(IPPROTO_IP, IP_PKTINFO, struct.pack(\"=i4s4x\", 12, address(\"0.0.0.0\")))]",
                "0, (\"203.0.113.9\", 7))",
            ],
            [
                "ip -n $host link set dev chassis arp off up",
                "ip -n $host addr add 2001:db8:0:1::1/64 dev chassis nodad",
                "in_use 2001:db8:0:2::1",
                "ip -6 -n $host route add default via 2001:db8:0:2::2 dev uplink",
                "ip -6 -n $host rule add unreachable oif chassis priority 7",
                "decide 2001:db8:9::9 oif uplink",
                "IPPROTO_IPV6, IPV6_PKTINFO, struct.pack(\"=16si\", address(\"::\"), 12)",
                "control(\"2001:db8:9::9\", SOCK_DGRAM, must=\"uplink\")",
                "report(refused, reception=False)",
            ],
        ]
        .into_iter()
        .enumerate()
        {
            let script = script(&case(at));
            for line in expected {
                assert!(script.contains(line), "no `{line}` in\n{script}");
            }
            assert!(!script.contains("def approach"), "a helper that nobody calls:\n{script}");
        }
    }

    #[test]
    fn no_name_becomes_code() {
        let hostile = "a'\"$(id)`id`\\\n'''\nPYTHON\nid\r#";
        let mut case = case(0);
        case.id = hostile.to_owned();
        case.title = hostile.to_owned();
        case.links.iter_mut().for_each(|link| link.name = hostile.to_owned());
        case.expect.source = Some(hostile.to_owned());
        case.expect.through = Some(hostile.to_owned());
        case.rules[0].oif = Some(hostile.to_owned());
        case.sysctls.push((hostile.to_owned(), hostile.to_owned()));
        case.lines.push(Line { gateway: Some(0), words: vec![hostile.to_owned()] });
        let route = case.routes[0].clone();
        for call in [PinCall::Device(hostile.to_owned()), PinCall::Ifreq(hostile.to_owned())] {
            case.steps.push(Step::Pin { socket: 0, call });
        }
        case.steps.push(Step::Route(route));
        let script = script(&case);
        assert!(!code(&script).contains("id)"), "{}", code(&script));
        assert!(!code(&script).lines().any(|line| line.trim() == "id"), "{}", code(&script));
        let python = script.split("<<'PYTHON'").nth(1).expect("a here-document");
        assert_eq!(python.lines().filter(|line| *line == "PYTHON").count(), 1, "{python}");
        assert!(script.ends_with("\nPYTHON\n"));
        assert!(!python.contains("$(id)"), "{python}");
        assert_eq!(python.matches("'''").count(), 2, "{python}");
    }

    #[test]
    fn words_are_quoted() {
        assert_eq!(shell("uplink.7"), "uplink.7");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("a'b\n$(c)"), "'a'\\''b\n$(c)'");
        assert_eq!(python("a\"\\"), r#""a\U00000022\U0000005c""#);
        assert_eq!(python("\n'é"), r#""\U0000000a\U00000027\U000000e9""#);
        assert_eq!(python_bytes(b"a\"\\\n\xff"), r#"b"a\x22\x5c\x0a\xff""#);
        assert_eq!(comment("a\nb\rc\n"), ["# a", "# b c"]);
    }
}
