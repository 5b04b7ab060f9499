//! A gateway played by crafted frames: the packets that it sends to the host under test from the
//! target's address, and a TCP client that completes an exchange whichever link the answers take.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use etherparse::PacketBuilder;

use crate::capture::{Flags, Frame, Packet, decode};
use crate::plan::Link;

/// The sequence number that the played client starts with.
const SEQUENCE: u32 = 1_000;
/// The window that the played client announces, in bytes.
const WINDOW: u16 = 65_000;

/// Where a gateway's packets come from and go to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    /// The link by which they arrive.
    pub(crate) by: &'a Link,
    /// The target's address and a port that nobody else of the trial has: they come from there.
    pub(crate) from: SocketAddr,
    /// The socket that they are sent to.
    pub(crate) to: SocketAddr,
}

/// A TCP segment to craft.
#[derive(Clone, Copy, Debug, Default)]
struct Segment<'a> {
    flags: Flags,
    sequence: u32,
    acknowledgement: u32,
    payload: &'a [u8],
}

impl Peer<'_> {
    /// A UDP datagram.
    pub(crate) fn datagram(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let builder = self.packet()?.udp(self.from.port(), self.to.port());
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut frame, payload).context("craft a datagram")?;
        Ok(frame)
    }

    /// The SYN that opens a connection.
    pub(crate) fn syn(&self) -> Result<Vec<u8>> {
        let flags = Flags { syn: true, ..Flags::default() };
        self.segment(Segment { flags, sequence: SEQUENCE, ..Segment::default() })
    }

    /// The segment that completes the handshake whose SYN-ACK has this sequence number, and
    /// carries `payload`.
    pub(crate) fn complete(&self, syn_ack_sequence: u32, payload: &[u8]) -> Result<Vec<u8>> {
        self.segment(Segment {
            flags: Flags { ack: true, ..Flags::default() },
            sequence: SEQUENCE + 1,
            acknowledgement: syn_ack_sequence.wrapping_add(1),
            payload,
        })
    }

    /// The sequence number of the SYN-ACK that answers [`Peer::syn`], on whichever link.
    pub(crate) fn syn_ack(&self, frames: &[Frame]) -> Option<u32> {
        frames.iter().find_map(|frame| match decode(&frame.bytes) {
            Packet::Tcp { from, to, flags, sequence, .. }
                if flags.syn && flags.ack && from == self.to && to == self.from =>
            {
                Some(sequence)
            }
            _ => None,
        })
    }

    fn packet(&self) -> Result<etherparse::PacketBuilderStep<etherparse::IpHeaders>> {
        let ethernet = PacketBuilder::ethernet2(self.by.far_mac, self.by.near_mac);
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = etherparse::Ipv4Header::new(
                    0,
                    64,
                    etherparse::IpNumber::UDP,
                    from.octets(),
                    to.octets(),
                )
                .context("craft an IPv4 header")?;
                Ok(ethernet.ip(etherparse::IpHeaders::Ipv4(header, Default::default())))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = etherparse::Ipv6Header {
                    hop_limit: 64,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Default::default()
                };
                Ok(ethernet.ip(etherparse::IpHeaders::Ipv6(header, Default::default())))
            }
            _ => anyhow::bail!("a packet cannot go from {} to {}", self.from, self.to),
        }
    }

    fn segment(&self, segment: Segment<'_>) -> Result<Vec<u8>> {
        let mut builder =
            self.packet()?.tcp(self.from.port(), self.to.port(), segment.sequence, WINDOW);
        if segment.flags.syn {
            builder = builder.syn();
        }
        if segment.flags.ack {
            builder = builder.ack(segment.acknowledgement);
        }
        let mut frame = Vec::with_capacity(builder.size(segment.payload.len()));
        builder.write(&mut frame, segment.payload).context("craft a segment")?;
        Ok(frame)
    }
}
