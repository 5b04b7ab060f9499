//! Senders that misbehave: what they put on the wires.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use airtight::sender::{Attempt, Call};
use airtight::trial::Scene;
use anyhow::{Context, Result, anyhow};
use pnet::datalink::{self, Channel, MacAddr, NetworkInterface};

/// Waits by an event that does not come.
pub(crate) fn wait(how_long: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    assert!(never.recv_timeout(how_long).is_err());
}

pub(crate) fn tried() -> Attempt {
    Attempt { calls: vec![Call::remark("misbehave")], tried: true, ..Attempt::default() }
}

/// So many datagrams with the trial's token, by a socket bound to a device.
pub(crate) fn datagrams(scene: &Scene<'_, '_>, device: &str, count: usize) -> Result<Attempt> {
    payload(scene, device, scene.token, count)
}

/// So many datagrams with this payload.
pub(crate) fn payload(
    scene: &Scene<'_, '_>,
    device: &str,
    payload: &[u8],
    count: usize,
) -> Result<Attempt> {
    let socket = bound(device)?;
    let to = SocketAddr::new(scene.case.target, airtight::plan::ATTEMPT_PORT);
    for _ in 0..count {
        socket.send_to(payload, to)?;
    }
    Ok(tried())
}

fn bound(device: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    nix::sys::socket::setsockopt(
        &socket,
        nix::sys::socket::sockopt::BindToDevice,
        &device.to_owned().into(),
    )?;
    Ok(socket)
}

/// One datagram of 60 kB that the device is left to cut into segments (UDP_SEGMENT, udp(7)).
pub(crate) fn large(scene: &Scene<'_, '_>) -> Result<Attempt> {
    let socket = bound("uplink")?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &1000)?;
    let to = SocketAddr::new(scene.case.target, airtight::plan::ATTEMPT_PORT);
    socket.send_to(&[7; 60_000], to)?;
    Ok(tried())
}

pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Puts a frame on the wire as it is.
pub(crate) fn raw(scene: &Scene<'_, '_>, link: usize, frame: &[u8]) -> Result<Attempt> {
    let interface = NetworkInterface {
        name: scene.case.links[link].name.clone(),
        description: String::new(),
        index: scene.case.links[link].index,
        mac: Some(MacAddr::zero()),
        ips: Vec::new(),
        flags: 0,
    };
    let Channel::Ethernet(mut sender, _) = datalink::channel(&interface, Default::default())?
    else {
        return Err(anyhow!("no Ethernet channel"));
    };
    sender.send_to(frame, None).context("the frame does not fit")??;
    Ok(tried())
}
