//! A trial's frames as a pcapng file (IETF draft-ietf-opsawg-pcapng), for Wireshark's own tools.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context, Result};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness};

use crate::trial::{FrameRecord, Record};

/// The whole file: an interface for each link, a packet for each frame, and each link's drops.
pub fn write(record: &Record) -> Result<Vec<u8>> {
    let section = SectionHeaderBlock {
        endianness: Endianness::Little,
        major_version: 1,
        minor_version: 0,
        section_length: -1,
        options: vec![
            SectionHeaderOption::UserApplication(
                concat!("airtight ", env!("CARGO_PKG_VERSION")).into(),
            ),
            SectionHeaderOption::Common(CommonOption::Comment(
                format!("{}: {}", record.id, record.reason).into(),
            )),
        ],
    };
    let mut writer =
        PcapNgWriter::with_section_header(Vec::new(), section).context("write a section header")?;
    for link in &record.links {
        let intended = if record.intended.contains(link) { "intended" } else { "decoy" };
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(link.as_str().into()),
                InterfaceDescriptionOption::IfDescription(intended.into()),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ],
        };
        writer.write_pcapng_block(interface).with_context(|| format!("describe {link}"))?;
    }
    for frame in &record.frames {
        writer.write_pcapng_block(packet(record, frame)?).context("write a frame")?;
    }
    let end = Duration::from_nanos(record.frames.iter().map(|f| f.at_ns).max().unwrap_or(0));
    for (at, link) in record.links.iter().enumerate() {
        let captured = record.controls.counters.get(link).map_or(0, |counter| counter.captured);
        let dropped = record.controls.drops.get(link).copied().unwrap_or(0);
        let statistics = InterfaceStatisticsBlock {
            interface_id: u32::try_from(at)?,
            timestamp: end,
            options: vec![
                InterfaceStatisticsOption::IsbIfRecv(captured),
                InterfaceStatisticsOption::IsbIfDrop(dropped),
            ],
        };
        writer.write_pcapng_block(statistics).with_context(|| format!("account for {link}"))?;
    }
    Ok(writer.into_inner())
}

fn packet<'a>(record: &Record, frame: &'a FrameRecord) -> Result<EnhancedPacketBlock<'a>> {
    let at = record.links.iter().position(|link| *link == frame.link);
    let comment = match frame.role {
        "sentinel" => format!("airtight: sentinel ({})", frame.phase),
        "leak" => format!("airtight: LEAK, left through {} which is not intended", frame.link),
        _ => format!("airtight: {}", frame.phase),
    };
    // The kernel takes a VLAN tag off; on the wire it stood behind the addresses.
    let (data, tag) = match (frame.vlan, frame.bytes.len()) {
        (Some((protocol, control)), 12..) => {
            let mut bytes = frame.bytes.clone();
            let tag = [protocol.to_be_bytes(), control.to_be_bytes()].concat();
            bytes.splice(12..12, tag);
            (Cow::Owned(bytes), 4)
        }
        _ => (Cow::Borrowed(frame.bytes.as_slice()), 0),
    };
    Ok(EnhancedPacketBlock {
        interface_id: u32::try_from(at.context("a frame of no link")?)?,
        timestamp: Duration::from_nanos(frame.at_ns),
        original_len: u32::try_from(frame.length + tag)?,
        data,
        options: vec![EnhancedPacketOption::Common(CommonOption::Comment(comment.into()))],
    })
}
