//! Our own tagged frames: what they look like on the wire. Pure.

use pnet::packet::ethernet::{EtherType, MutableEthernetPacket};
use pnet::util::MacAddr;

use crate::plan::SENTINEL_ETHERTYPE;

/// What a sentinel's payload begins with.
const MAGIC: &[u8; 8] = b"airtight";
/// The length of a sentinel in bytes: the shortest Ethernet frame.
const LENGTH: usize = 60;

/// A sentinel: which trial's, which link's, which round's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sentinel {
    /// The trial's own number.
    pub(crate) nonce: u64,
    /// The link that it was sent by, by its place in the case.
    pub(crate) link: usize,
    /// The round, counted from one.
    pub(crate) round: u32,
}

impl Sentinel {
    /// The whole frame.
    pub(crate) fn frame(self, from: [u8; 6], to: [u8; 6]) -> [u8; LENGTH] {
        let mut payload = [0; LENGTH - 14];
        payload[..8].copy_from_slice(MAGIC);
        payload[8..16].copy_from_slice(&self.nonce.to_be_bytes());
        payload[16..20]
            .copy_from_slice(&u32::try_from(self.link).unwrap_or(u32::MAX).to_be_bytes());
        payload[20..24].copy_from_slice(&self.round.to_be_bytes());
        let mut frame = [0; LENGTH];
        if let Some(mut packet) = MutableEthernetPacket::new(&mut frame) {
            packet.set_source(MacAddr::from(from));
            packet.set_destination(MacAddr::from(to));
            packet.set_ethertype(EtherType(SENTINEL_ETHERTYPE));
            packet.set_payload(&payload);
        }
        frame
    }

    /// The sentinel that a frame is, and `None` for every other frame: one that differs from a
    /// sentinel in any byte of its payload is not ours.
    pub(crate) fn read(frame: &[u8]) -> Option<Sentinel> {
        let payload = frame.get(14..LENGTH)?;
        let word = |at: usize| -> Option<[u8; 4]> { payload.get(at..at + 4)?.try_into().ok() };
        let sentinel = Sentinel {
            nonce: u64::from_be_bytes(payload.get(8..16)?.try_into().ok()?),
            link: usize::try_from(u32::from_be_bytes(word(16)?)).ok()?,
            round: u32::from_be_bytes(word(20)?),
        };
        let addresses: ([u8; 6], [u8; 6]) =
            (frame.get(6..12)?.try_into().ok()?, frame.get(..6)?.try_into().ok()?);
        (frame == sentinel.frame(addresses.0, addresses.1)).then_some(sentinel)
    }
}
