//! `make bench`: the kernel's floor, airtight's trials, and a whole run, in one process, so that
//! the ratios hold whatever the machine's speed is.
//!
//! The floor is what a trial costs by raw netlink and nothing else: 3 namespaces, 2 links,
//! addresses, neighbours, routes, 2 captures, 2 datagrams, a sentinel a link.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use airtight::plan::Case;
use airtight::trial::Runner;
use airtight::verdict::Verdict;
use airtight::{catalogue, host};
use anyhow::{Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use pnet::datalink::{self, Channel, DataLinkReceiver, DataLinkSender, MacAddr, NetworkInterface};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::sys::{Socket, protocols::NETLINK_ROUTE};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

const ROUNDS: usize = 5;
const TRIALS: usize = 60;

type Wire = (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>);

fn main() -> Result<()> {
    let left = host::leave()?;
    let runner = Runner::new(left)?;
    let all = catalogue::select(&["basics".to_owned()])?;
    if std::env::args().any(|argument| argument == "--soak") {
        return soak(&runner, &all);
    }
    let closer = closers();
    let of = |transport: &str| -> Vec<Case> {
        all.iter().filter(|case| case.transport.word() == transport).cloned().collect()
    };
    let (udp, tcp) = (of("udp"), of("tcp"));
    // The whole catalogue's UDP trials that need nothing of the machine and wait for no timer.
    let wide: Vec<Case> = catalogue::select(&[])?
        .into_iter()
        .filter(|case| case.transport.word().starts_with("udp"))
        .filter(|case| case.needs.is_empty() && !case.waits())
        .collect();
    let (mut floors, mut udps, mut tcps, mut wholes) = (vec![], vec![], vec![], vec![]);
    let mut wides = vec![];
    for _ in 0..=ROUNDS {
        let floor_closer = closer.clone();
        let floor = move || -> Result<f64> {
            let started = Instant::now();
            for _ in 0..TRIALS {
                floor(&floor_closer)?;
            }
            Ok(started.elapsed().as_secs_f64() / TRIALS as f64)
        };
        floors.push(on_thread(floor)?);
        udps.push(trials(&runner, &udp, TRIALS)?);
        tcps.push(trials(&runner, &tcp, TRIALS)?);
        wides.push(trials(&runner, &wide, wide.len())?);
        let started = Instant::now();
        for case in &all {
            runner.run(case);
        }
        wholes.push(started.elapsed().as_secs_f64());
    }
    // The first round warms up.
    let [floor, udp, tcp, wide_median, whole] =
        [floors, udps, tcps, wides, wholes].map(|all| median(&all[1..]));
    println!("floor      {:7.3} ms a trial  {:6.0} trials/s", floor * 1e3, 1.0 / floor);
    println!(
        "udp        {:7.3} ms a trial  {:6.0} trials/s  {:.2} x floor",
        udp * 1e3,
        1.0 / udp,
        udp / floor
    );
    println!(
        "tcp        {:7.3} ms a trial  {:6.0} trials/s  {:.2} x floor",
        tcp * 1e3,
        1.0 / tcp,
        tcp / floor
    );
    println!(
        "catalogue  {:7.3} ms a trial  {:6.0} trials/s  {:.2} x floor ({} UDP trials)",
        wide_median * 1e3,
        1.0 / wide_median,
        wide_median / floor,
        wide.len()
    );
    println!("basics     {whole:7.3} s for {} trials, one after the other", all.len());
    Ok(())
}

/// `cargo bench --bench floor -- --soak`: 10,000 trials in one process, and what they leave.
fn soak(runner: &Runner, cases: &[Case]) -> Result<()> {
    for turn in 1..=10_000 {
        let record = runner.run(&cases[turn % cases.len()]);
        ensure!(record.verdict == Verdict::Conforms, "{}: {}", record.id, record.reason);
        if turn % 1_000 == 0 {
            let status = std::fs::read_to_string("/proc/self/status")?;
            let memory =
                status.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"));
            let memory: Vec<String> = memory.map(|line| line.replace('\t', " ")).collect();
            let files = std::fs::read_dir("/proc/self/fd")?.count();
            println!("{turn:6} trials  {}  {files} open files", memory.join("  "));
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    std::thread::spawn(work).join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

fn trials(runner: &Runner, cases: &[Case], count: usize) -> Result<f64> {
    let started = Instant::now();
    for turn in 0..count {
        let record = runner.run(&cases[turn % cases.len()]);
        ensure!(record.verdict == Verdict::Conforms, "{}: {}", record.id, record.reason);
    }
    Ok(started.elapsed().as_secs_f64() / count as f64)
}

/// Closes captures elsewhere, as airtight does: each close waits for an RCU grace period.
fn closers() -> SyncSender<Vec<Wire>> {
    let (sender, receiver): (_, Receiver<Vec<Wire>>) = sync_channel(256);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..128 {
        let receiver = Arc::clone(&receiver);
        std::thread::spawn(move || {
            while let Ok(wires) = receiver.lock().map_err(drop).and_then(|r| r.recv().map_err(drop))
            {
                drop(wires);
            }
        });
    }
    sender
}

fn namespace() -> Result<(OwnedFd, Socket)> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let file = std::fs::File::open("/proc/thread-self/ns/net")?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    Ok((file.into(), socket))
}

fn ask(socket: &Socket, message: Message, flags: u16) -> Result<()> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<Message>::deserialize(&answer)?;
    if let NetlinkPayload::Error(error) = answer.payload {
        ensure!(error.code.is_none(), "netlink: {error}");
    }
    Ok(())
}

fn create(socket: &Socket, message: Message) -> Result<()> {
    ask(socket, message, NLM_F_CREATE | NLM_F_EXCL)
}

fn address(socket: &Socket, index: u32, address: Ipv4Addr, length: u8) -> Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = length;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    create(socket, Message::NewAddress(message))
}

fn neighbour(socket: &Socket, index: u32, address: Ipv4Addr, mac: [u8; 6]) -> Result<()> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    create(socket, Message::NewNeighbour(message))
}

/// Opens a packet socket on a device of the current namespace.
fn wire(index: u32) -> Result<Wire> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Packet,
        nix::sys::socket::SockType::Raw,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let interface = NetworkInterface {
        name: String::new(),
        description: String::new(),
        index,
        mac: Some(MacAddr::zero()),
        ips: vec![],
        flags: 0,
    };
    let config = datalink::linux::Config {
        promiscuous: false,
        read_timeout: Some(std::time::Duration::from_micros(200)),
        socket_fd: Some(std::os::fd::IntoRawFd::into_raw_fd(socket)),
        ..Default::default()
    };
    match datalink::linux::channel(&interface, config)? {
        Channel::Ethernet(sender, receiver) => Ok((sender, receiver)),
        _ => anyhow::bail!("no Ethernet channel"),
    }
}

fn floor(closer: &SyncSender<Vec<Wire>>) -> Result<()> {
    let target = Ipv4Addr::new(203, 0, 113, 9);
    let (host, netlink) = namespace()?;
    let mut gateways = Vec::new();
    for _ in 0..2 {
        gateways.push(namespace()?);
    }
    let mut wires = Vec::new();
    for (at, (namespace, far)) in gateways.iter().enumerate() {
        let number = at as u8 + 1;
        let index = 10 + u32::from(number);
        let (near_mac, far_mac) = ([2, 0, 0, 0, number, 1], [2, 0, 0, 0, number, 2]);
        let name = format!("link{number}");
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(name.clone())
            .index(index)
            .address(far_mac.to_vec())
            .setns_by_fd(namespace.as_raw_fd());
        let veth = LinkVeth::new(&name, &name)
            .index(index)
            .address(near_mac.to_vec())
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
        create(&netlink, Message::NewLink(veth.build()))?;
        let up = LinkUnspec::new_with_index(index).up().build();
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        wires.push(wire(index)?);
        ask(far, Message::SetLink(up), 0)?;
        let [ours, theirs] = [1, 2].map(|last| Ipv4Addr::new(192, 0, 2, 16 * number + last));
        address(&netlink, index, ours, 28)?;
        address(far, index, theirs, 28)?;
        address(far, index, target, 32)?;
        neighbour(&netlink, index, theirs, far_mac)?;
        neighbour(far, index, ours, near_mac)?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(theirs)
            .output_interface(index)
            .priority(u32::from(number))
            .build();
        create(&netlink, Message::NewRoute(route))?;
    }
    setns(&host, CloneFlags::CLONE_NEWNET)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for _ in 0..2 {
        socket.send_to(b"airtight floor", SocketAddr::from((target, 7)))?;
    }
    // A sentinel a link, again until the link has risen, as any sound capture must.
    for (at, far) in wires.iter_mut().enumerate() {
        let index = 11 + at as u32;
        let (mut near, receiver) = wire(index)?;
        let mut frame = [0; 60];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        loop {
            if let Some(sent) = near.send_to(&frame, None) {
                sent?;
            }
            if far.1.next().is_ok_and(|bytes| bytes[12..14] == [0x88, 0xb5]) {
                break;
            }
        }
        closer.send(vec![(near, receiver)]).map_err(|_| anyhow::anyhow!("no closer"))?;
    }
    closer.send(wires).map_err(|_| anyhow::anyhow!("no closer"))?;
    Ok(())
}
