//! The attempt as lines of Python: captures in every gateway, the case's steps call by call, and
//! the frames that they led to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::calls::{hop_options, join, option, packet_info, sending};
use super::{guard, life, mac, python, shell};
use crate::plan::{
    ATTEMPT_PORT, Advertisement, Approach, Case, Judged, PinCall, Program, RAW_PROTOCOL, Step,
};
use crate::scenario::{Family, FrameKind, Namespace, Transport};

/// What the attempt's lines are built on. Only what a case uses of it is put in its script.
const PRELUDE: &str = include_str!("prelude.py");

pub(super) fn lines(case: &Case) -> Vec<String> {
    let mut body = data(case);
    body.extend(arming(case));
    body.extend(guard::lines(case));
    body.extend(steps(case));
    let reception = if case.judged == Judged::Reception { "True" } else { "False" };
    body.push(format!("report(refused, reception={reception})"));
    let body = body.join("\n");
    let gateways: Vec<String> = (0..case.links.len()).map(super::lab::gateway).collect();
    vec![
        format!("echo {}", shell(&format!("expected: {}", super::expected(case)))),
        format!("ip netns exec $host python3 - $host {} <<'PYTHON'", gateways.join(" ")),
        prelude(&body),
        String::new(),
        body,
        "PYTHON".to_owned(),
    ]
}

/// The parts of the prelude that `body` calls, and what they call in turn, beside those that define
/// no function.
fn prelude(body: &str) -> String {
    let parts: Vec<&str> = PRELUDE.trim_end().split("\n\n\n").collect();
    let name = |at: usize| parts[at].strip_prefix("def ").and_then(|rest| rest.split('(').next());
    let mut used: BTreeSet<usize> = (0..parts.len()).filter(|at| name(*at).is_none()).collect();
    loop {
        let calls =
            |name: &str| calls(body, name) || used.iter().any(|part| calls(parts[*part], name));
        let more: Vec<usize> = (0..parts.len())
            .filter(|at| !used.contains(at) && name(*at).is_some_and(calls))
            .collect();
        if more.is_empty() {
            break;
        }
        used.extend(more);
    }
    used.into_iter().map(|at| parts[at]).collect::<Vec<_>>().join("\n\n\n") + "\n\n"
}

/// Whether a text of Python calls the function of that name, and not a method that shares it.
fn calls(text: &str, name: &str) -> bool {
    text.match_indices(&format!("{name}(")).any(|(at, _)| {
        !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_.".contains(c))
    })
}

/// What the helpers must know of the case.
fn data(case: &Case) -> Vec<String> {
    let mut lines =
        vec!["# name, index, near and far hardware address, gateway, intended".to_owned()];
    for (link, intended) in case.links.iter().zip(&case.intended) {
        lines.push(format!(
            "links.append(Link({}, {}, \"{}\", \"{}\", \"{}\", {}))",
            python(&link.name),
            link.index,
            mac(link.near_mac),
            mac(link.far_mac),
            link.gateway,
            if *intended { "True" } else { "False" },
        ));
    }
    let injects = case.steps.iter().any(|step| matches!(step, Step::Inject(_)));
    if injects || !case.advertisements.is_empty() || sends_frames(case) {
        let broadcasts = case.links.iter().filter_map(|link| link.broadcast());
        let broadcasts: BTreeSet<String> =
            broadcasts.map(|address| format!("\"{address}\"")).collect();
        let broadcasts: Vec<String> = broadcasts.into_iter().collect();
        lines.push(format!("BROADCASTS = [\"255.255.255.255\", {}]", broadcasts.join(", ")));
    }
    let protocol = match transport(case) {
        transport if transport.is_stream() => Some(6),
        Transport::Raw | Transport::RawHeader => Some(RAW_PROTOCOL),
        _ => None,
    };
    if let (true, Some(protocol)) = (injects, protocol) {
        lines.push(format!("PROTOCOL = {protocol}"));
    }
    if case.size > 0 {
        let size = case.size;
        lines.push(format!("PAYLOAD = (TOKEN * {size})[:max({size}, len(TOKEN))]"));
    }
    lines
}

/// The transport of the socket under test, or of the cell where no socket is opened.
fn transport(case: &Case) -> Transport {
    let opened = case.steps.iter().find_map(|step| match step {
        Step::Open { socket: 0, transport } => Some(*transport),
        _ => None,
    });
    opened.unwrap_or(case.transport)
}

fn sends_frames(case: &Case) -> bool {
    transport(case).is_frames()
}

fn arming(case: &Case) -> Vec<String> {
    let words = match transport(case) {
        _ if case.played || case.owned.is_empty() => "",
        Transport::Mptcp => "owning=True, sink=IPPROTO_MPTCP",
        _ => "owning=True",
    };
    let mut lines = vec![String::new(), format!("arm({words})")];
    for Advertisement { by, prefix, route, default } in &case.advertisements {
        let pair = |name: &str, pair: &Option<(IpAddr, u8)>| {
            pair.map(|(address, length)| format!(", {name}=(\"{address}\", {length})"))
        };
        let words = [pair("prefix", prefix), pair("route", route)];
        let words: String = words.into_iter().flatten().collect();
        let default = if *default { ", default=True" } else { "" };
        lines.push(format!("advertise({by}{words}{default})"));
    }
    lines.extend(multicast_routes(case));
    if case.judged == Judged::WayOut {
        let control = &case.control;
        let kind = if control.transport.is_stream() { "SOCK_STREAM" } else { "SOCK_DGRAM" };
        let must = python(&case.links[control.link].name);
        lines.push(format!("control(\"{}\", {kind}, must={must})", control.to));
    }
    lines
}

fn multicast_routes(case: &Case) -> Vec<String> {
    let mut lines = Vec::new();
    let groups: BTreeSet<IpAddr> = case
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Connect { to, .. } | Step::Cork { to, .. } | Step::Send { to: Some(to), .. } => {
                Some(*to)
            }
            Step::Inject(approach) => Some(approach.to),
            _ => None,
        })
        .filter(IpAddr::is_multicast)
        .collect();
    let sources: Vec<String> =
        case.links.iter().map(|link| format!("\"{}\"", link.address)).collect();
    for (from, to) in &case.multicast_routes {
        for group in &groups {
            let sources = sources.join(", ");
            lines.push(format!("multicast_route(\"{group}\", [{sources}], by={from}, to={to})"));
        }
    }
    lines
}

/// The steps, as an argument of the helper that makes them one by one.
fn steps(case: &Case) -> Vec<String> {
    let (steps, flows) = flows(&case.steps);
    let mut writer = Writer::new(case, &steps);
    let mut blocks: Vec<String> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let block = match (writer.step(step), steps.get(at + 1)) {
            (block, Some(Step::Refused(errno))) => refusing(&block, errno),
            (block, _) => block,
        };
        blocks.extend(Some(block).filter(|block| !block.is_empty()));
    }
    let flows = if flows > 1 { format!(", flows={flows}") } else { String::new() };
    vec![
        String::new(),
        "refused = attempt(r'''".to_owned(),
        blocks.join("\n\n"),
        format!("'''{flows})"),
    ]
}

/// A block whose last line is to be refused.
fn refusing(block: &str, errno: &str) -> String {
    let (before, last) = block.rsplit_once('\n').map_or(("", block), |(rest, last)| (rest, last));
    let separator = if before.is_empty() { "" } else { "\n" };
    format!("{before}{separator}refusing({}, {})", python(errno), python(last))
}

/// The steps of one socket and how many sockets make the same, or all steps and 1.
fn flows(steps: &[Step]) -> (Vec<Step>, usize) {
    let opened = steps.iter().filter(|step| matches!(step, Step::Open { .. })).count();
    if opened > 1 && steps.len().is_multiple_of(opened) {
        let mut chunks = steps.chunks(steps.len() / opened).map(renumbered);
        if let Some(first) = chunks.next()
            && chunks.all(|chunk| chunk == first)
        {
            return (first, opened);
        }
    }
    (steps.to_vec(), 1)
}

/// The calls of a client's steps, as if the socket were the first.
fn renumbered(steps: &[Step]) -> Vec<Step> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        match step {
            Step::Open { socket, .. }
            | Step::Pin { socket, .. }
            | Step::Connect { socket, .. }
            | Step::Send { socket, .. } => *socket = 0,
            _ => {}
        }
    }
    steps
}

/// What was told to a socket, for the packets that it will send.
struct Socket {
    transport: Transport,
    listens: bool,
    bound: bool,
    accepted: bool,
    connected: Option<IpAddr>,
    source: Option<IpAddr>,
    scope: u32,
    control: Vec<String>,
    dont_route: bool,
}

/// Steps to lines of Python.
struct Writer<'a> {
    case: &'a Case,
    listening: BTreeSet<usize>,
    sockets: Vec<Socket>,
}

impl<'a> Writer<'a> {
    fn new(case: &'a Case, steps: &[Step]) -> Writer<'a> {
        let listening = steps.iter().filter_map(|step| match step {
            Step::Listen { socket } => Some(*socket),
            _ => None,
        });
        Writer { case, listening: listening.collect(), sockets: Vec::new() }
    }

    /// The lines of a step: none where it only tells what later steps do. A step that is no
    /// socket's, of which there is none in a plan, has none either.
    fn step(&mut self, step: &Step) -> String {
        let lines = match step {
            Step::Open { transport, .. } => Some(self.open(*transport)),
            Step::Pin { socket, call } => self.pin(*socket, call),
            Step::Listen { socket } => self.listen(*socket),
            Step::Accept { socket } => self.accept(*socket).map(|line| vec![line]),
            Step::Connect { socket, to } => self.connect(*socket, *to),
            Step::Send { socket, to } => self.send(*socket, *to),
            Step::Receive { socket } => self.take(*socket, false),
            Step::Answer { socket } => self.take(*socket, true),
            Step::Close { socket } => Some(vec![format!("s{socket}.close()")]),
            Step::CloseListener { socket } => Some(vec![format!("listener{socket}.close()")]),
            Step::Join { socket, group, index } => Some(vec![join(*socket, *group, *index)]),
            Step::Inject(approach) => Some(vec![self.approach(approach)]),
            Step::Route(route) => {
                let words = super::lab::route_words(route, &self.case.links);
                let mut all = vec!["\"ip\"".to_owned()];
                all.extend((!self.case.family.is_v4()).then(|| "\"-6\"".to_owned()));
                all.extend(["\"route\"".to_owned(), "\"add\"".to_owned()]);
                all.extend(words.iter().map(|word| python(word)));
                Some(vec![format!("run({})", all.join(", "))])
            }
            Step::Await(link) => Some(vec![format!("await_frame({link})")]),
            Step::Start(program) => Some(vec![self.program(program)]),
            Step::Cork { socket, to } => self.cork(*socket, *to),
            Step::Disconnect { socket } => Some(vec![self.disconnect(*socket)]),
            Step::Pass { socket } => Some(vec![format!("s{socket} = passed(s{socket})")]),
            Step::DropPrivileges => Some(vec!["drop_privileges()".to_owned()]),
            Step::Enter(Namespace::Elsewhere) => Some(vec!["go_to(1)".to_owned()]),
            Step::Enter(Namespace::Host) => Some(vec!["go_to(0)".to_owned()]),
            // What happens to a program meanwhile, a script cannot tell: see `story`.
            Step::Unroute(_) | Step::Set(_) if self.case.runs_program() => None,
            Step::Unroute(_) | Step::Set(_) | Step::Rename(..) | Step::Reindex(..) => {
                Some(life::lines(self.case, step))
            }
            // Written by `steps`, around the step that it is about.
            Step::Refused(_)
            | Step::UnderWay
            | Step::Signal(_)
            | Step::Ask(_)
            | Step::Watch(_)
            | Step::Stop
            | Step::End => None,
        };
        lines.unwrap_or_default().join("\n")
    }

    /// A program runs as it is, on the machine at hand.
    fn program(&self, program: &Program) -> String {
        let word = |word: &String| match word.split_once("{token}") {
            Some((before, after)) => {
                format!("{} + TOKEN.decode() + {}", python(before), python(after))
            }
            None => python(word),
        };
        let words: Vec<String> = program.body.words().iter().map(word).collect();
        format!("run({})", words.join(", "))
    }

    fn v6_socket(&self) -> bool {
        self.case.family != Family::V4
    }

    fn open(&mut self, transport: Transport) -> Vec<String> {
        let at = self.sockets.len();
        let family = if self.v6_socket() { "AF_INET6" } else { "AF_INET" };
        let ping = if self.v6_socket() { "IPPROTO_ICMPV6" } else { "IPPROTO_ICMP" };
        let words = match transport {
            Transport::Udp | Transport::UdpConnected => format!("{family}, SOCK_DGRAM"),
            Transport::Tcp | Transport::TcpFastopen => format!("{family}, SOCK_STREAM"),
            Transport::Mptcp => format!("{family}, SOCK_STREAM, IPPROTO_MPTCP"),
            Transport::Raw => format!("{family}, SOCK_RAW, {RAW_PROTOCOL}"),
            Transport::RawHeader => format!("{family}, SOCK_RAW, IPPROTO_RAW"),
            Transport::Ping => format!("{family}, SOCK_DGRAM, {ping}"),
            Transport::Packet | Transport::PacketBypass => "AF_PACKET, SOCK_RAW, 0".to_owned(),
            Transport::Xdp => String::new(),
        };
        let mut lines = vec![if transport == Transport::Xdp {
            format!("s{at} = xdp_socket()")
        } else {
            format!("s{at} = socket({words})")
        }];
        if transport == Transport::PacketBypass {
            lines.push(format!("s{at}.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)"));
        }
        self.sockets.push(Socket {
            transport,
            listens: self.listening.contains(&at),
            bound: false,
            accepted: false,
            connected: None,
            source: None,
            scope: 0,
            control: Vec::new(),
            dont_route: false,
        });
        lines
    }

    fn pin(&mut self, socket: usize, call: &PinCall) -> Option<Vec<String>> {
        if let Some(option) = option(call, self.v6_socket()) {
            return Some(vec![format!("s{socket}.setsockopt({option})")]);
        }
        let v6 = self.v6_socket();
        let at = self.sockets.get_mut(socket)?;
        match call {
            PinCall::PacketInfo(info) => at.control.push(packet_info(*info, v6)),
            PinCall::PacketMark(mark) => {
                at.control.push(format!("SOL_SOCKET, SO_MARK, struct.pack(\"I\", {mark})"));
            }
            PinCall::Scope(index) => at.scope = *index,
            PinCall::DontRoute(_) => at.dont_route = true,
            PinCall::BindLink(index) => {
                at.scope = *index;
                let xdp = at.transport == Transport::Xdp;
                let name = if xdp { "sxdp" } else { "sll" };
                return Some(vec![format!("bind_to(s{socket}, {name}({index}))")]);
            }
            PinCall::Address(address) => {
                at.source = Some(*address);
                return self.bind(socket, *address, 0);
            }
            PinCall::ScopedAddress(address, index) => {
                return self.bind(socket, *address, *index);
            }
            PinCall::Hops(hops) => return Some(hop_options(socket, *hops, v6)),
            _ => {}
        }
        None
    }

    fn bind(&mut self, socket: usize, address: IpAddr, scope: u32) -> Option<Vec<String>> {
        let at = self.sockets.get_mut(socket)?;
        at.bound = true;
        let port = if at.listens { ATTEMPT_PORT } else { 0 };
        let name = self.name(address, port, scope);
        Some(vec![format!("s{socket}.bind({name})")])
    }

    /// An address as the socket's family has it.
    fn name(&self, address: IpAddr, port: u16, scope: u32) -> String {
        match address {
            IpAddr::V4(_) if !self.v6_socket() => format!("(\"{address}\", {port})"),
            IpAddr::V4(_) => format!("(\"::ffff:{address}\", {port}, 0, {scope})"),
            IpAddr::V6(_) => format!("(\"{address}\", {port}, 0, {scope})"),
        }
    }

    fn listen(&mut self, socket: usize) -> Option<Vec<String>> {
        let at = self.sockets.get(socket)?;
        let (stream, bound) = (at.transport.is_stream(), at.bound);
        let any = if self.v6_socket() {
            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
        };
        let mut lines = if bound { Vec::new() } else { self.bind(socket, any, 0)? };
        if stream {
            lines.push(format!("s{socket}.listen(128)"));
        }
        Some(lines)
    }

    fn accept(&mut self, socket: usize) -> Option<String> {
        self.sockets.get_mut(socket)?.accepted = true;
        Some(format!("listener{socket}, s{socket} = s{socket}, s{socket}.accept()[0]"))
    }

    /// The port in a destination: raw and ping sockets have none.
    fn port(transport: Transport) -> u16 {
        match transport {
            Transport::Raw | Transport::RawHeader | Transport::Ping => 0,
            _ => ATTEMPT_PORT,
        }
    }

    fn connect(&mut self, socket: usize, to: IpAddr) -> Option<Vec<String>> {
        let at = self.sockets.get_mut(socket)?;
        at.connected = Some(to);
        let (port, scope) = (Self::port(at.transport), at.scope);
        Some(vec![format!("s{socket}.connect({})", self.name(to, port, scope))])
    }

    fn send(&mut self, socket: usize, to: Option<IpAddr>) -> Option<Vec<String>> {
        let at = self.sockets.get(socket)?;
        if at.transport.is_frames() {
            return self.send_frame(socket, to?);
        }
        let payload = self.payload(at, to);
        let name = to.map(|to| self.name(to, Self::port(at.transport), at.scope));
        let mut flags = Vec::new();
        flags.extend(at.dont_route.then_some("MSG_DONTROUTE"));
        flags.extend(
            (at.transport == Transport::TcpFastopen && to.is_some()).then_some("MSG_FASTOPEN"),
        );
        Some(vec![sending(socket, &payload, &at.control, &flags.join(" | "), name.as_deref())])
    }

    fn cork(&mut self, socket: usize, to: IpAddr) -> Option<Vec<String>> {
        let at = self.sockets.get(socket)?;
        let payload = self.payload(at, Some(to));
        let name = self.name(to, Self::port(at.transport), at.scope);
        let flags = if at.dont_route { "MSG_DONTROUTE | MSG_MORE" } else { "MSG_MORE" };
        Some(vec![sending(socket, &payload, &at.control, flags, Some(&name))])
    }

    fn disconnect(&mut self, socket: usize) -> String {
        if let Some(at) = self.sockets.get_mut(socket) {
            at.connected = None;
        }
        format!("disconnect(s{socket})")
    }

    fn token(&self) -> &'static str {
        if self.case.size > 0 { "PAYLOAD" } else { "TOKEN" }
    }

    /// What is sent: the payload, behind the header that the transport leaves to its user.
    fn payload(&self, socket: &Socket, to: Option<IpAddr>) -> String {
        let token = self.token();
        match (socket.transport, to.or(socket.connected)) {
            (Transport::Ping, to) => {
                let kind = if to.is_some_and(|to| to.is_ipv4()) { 8 } else { 128 };
                format!("bytes([{kind}, 0, 0, 0, 0, 0, 0, 1]) + {token}")
            }
            (Transport::RawHeader, Some(to)) => {
                // The kernel fills in length, checksum, and a source that is zero (raw(7)).
                let source = socket.source.filter(IpAddr::is_ipv4);
                let source = source.map_or_else(|| "0.0.0.0".to_owned(), |s| s.to_string());
                format!(
                    "bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, {RAW_PROTOCOL}, 0, 0]) + \
                     address(\"{source}\") + address(\"{to}\") + {token}"
                )
            }
            _ => token.to_owned(),
        }
    }

    /// A whole frame: a datagram from the first link's address, out of the link that the
    /// destination's index names, or else the one that the socket is bound to.
    fn send_frame(&mut self, socket: usize, to: IpAddr) -> Option<Vec<String>> {
        let index = self.sockets.get(socket)?.scope;
        let links = &self.case.links;
        let by = links.iter().find(|link| link.index == index).or(links.first())?;
        let source = links.first()?.address;
        let kind = if to.is_ipv4() { "0x0800" } else { "0x86dd" };
        let token = self.token();
        let xdp = self.sockets.get(socket)?.transport == Transport::Xdp;
        Some(vec![
            format!("datagram = udp(\"{source}\", \"{to}\", 40000, {ATTEMPT_PORT}, {token})"),
            format!(
                "frame = ethernet(\"{}\", \"{}\", \"{to}\", datagram)",
                mac(by.far_mac),
                mac(by.near_mac)
            ),
            if xdp {
                format!("xdp_send(s{socket}, frame)")
            } else {
                format!("send_to(s{socket}, frame, sll({index}, {kind}))")
            },
        ])
    }

    fn take(&mut self, socket: usize, answers: bool) -> Option<Vec<String>> {
        let at = self.sockets.get(socket)?;
        let stream = at.transport.is_stream();
        let waits = stream && at.listens && !at.accepted;
        let mut lines = vec!["received = False".to_owned()];
        if waits {
            lines.push(self.accept(socket)?);
            // A connection that stands has reached the socket, whatever it carries.
            lines.push("received = True".to_owned());
        }
        lines.push(format!("data, peer = s{socket}.recvfrom(65536)"));
        if !waits {
            lines.push("received = TOKEN in data".to_owned());
        }
        if answers {
            let at = self.sockets.get(socket)?;
            let flags = if at.dont_route { "MSG_DONTROUTE" } else { "" };
            let peer = (!stream).then_some("peer");
            lines.push(sending(socket, self.token(), &at.control, flags, peer));
        }
        Some(lines)
    }

    fn approach(&self, approach: &Approach) -> String {
        let Approach { by, to, from, frame, flows } = approach;
        let kind = match frame {
            FrameKind::Opening => "opening",
            FrameKind::Syn => "syn",
            FrameKind::Ack => "ack",
            FrameKind::Data => "data",
            FrameKind::Fin => "fin",
            FrameKind::Rst => "rst",
            FrameKind::StaleAck => "stale-ack",
            FrameKind::BadAck => "bad-ack",
            FrameKind::EchoRequest => "echo-request",
            FrameKind::Redirect => "redirect",
            FrameKind::TooBig => "too-big",
            FrameKind::WhoHas => "who-has",
        };
        let flows = if *flows == 1 { String::new() } else { format!(", flows={flows}") };
        // A frame for a socket that has connected comes as its peer's would.
        let connected = self.sockets.first().filter(|socket| socket.connected.is_some());
        let ports = connected.map_or_else(String::new, |socket| {
            let port = Self::port(socket.transport);
            format!(", sport={port}, dport=s0.getsockname()[1]")
        });
        format!("approach(\"{kind}\", {by}, \"{from}\", \"{to}\"{ports}{flows})")
    }
}
