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

/// How many bytes of a comment are written.
const COMMENT_MAX: usize = 4096;

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
            SectionHeaderOption::Common(comment(record.id.clone())),
            SectionHeaderOption::Common(comment(format!(
                "{}: {}",
                record.verdict.word(),
                record.reason
            ))),
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
    let words = match frame.role.as_str() {
        "sentinel" => "airtight: sentinel".to_owned(),
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
        options: vec![EnhancedPacketOption::Common(comment(words))],
    })
}

/// A comment. The length of an option has 16 bits, and a reason that is longer (a program's own
/// words, say) must not cost the evidence.
fn comment(mut words: String) -> CommonOption<'static> {
    words.truncate(words.floor_char_boundary(COMMENT_MAX));
    CommonOption::Comment(words.into())
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::report::sample;

    fn blocks(record: &Record) -> Vec<Block<'static>> {
        let file = write(record).unwrap();
        let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
        let mut blocks = vec![Block::SectionHeader(reader.section().clone())];
        while let Some(block) = reader.next_block() {
            blocks.push(block.unwrap().0.into_owned());
        }
        blocks
    }

    fn said(words: &'static str) -> CommonOption<'static> {
        CommonOption::Comment(words.into())
    }

    #[test]
    fn the_file_reads_back() {
        let mut record = sample::record();
        record.controls.drops.insert("uplink".to_owned(), 5);
        let blocks = blocks(&record);
        // A section, two interfaces, two frames, two accounts.
        assert_eq!(blocks.len(), 7);
        let Block::SectionHeader(section) = &blocks[0] else { panic!("{:?}", blocks[0]) };
        let name = concat!("airtight ", env!("CARGO_PKG_VERSION"));
        assert_eq!(section.options[0], SectionHeaderOption::UserApplication(name.into()));
        let id = said("basics/sample::device::v4-udp");
        assert_eq!(section.options[1], SectionHeaderOption::Common(id));
        for (block, (link, role)) in
            blocks[1..3].iter().zip([("chassis", "intended"), ("uplink", "decoy")])
        {
            let Block::InterfaceDescription(interface) = block else { panic!("{block:?}") };
            assert_eq!(interface.linktype, DataLink::ETHERNET);
            let expected = [
                InterfaceDescriptionOption::IfName(link.into()),
                InterfaceDescriptionOption::IfDescription(role.into()),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ];
            assert_eq!(interface.options, expected);
        }
        let Block::EnhancedPacket(leak) = &blocks[4] else { panic!("{:?}", blocks[4]) };
        assert_eq!((leak.interface_id, leak.original_len), (1, 60));
        assert_eq!(leak.timestamp, Duration::from_nanos(record.frames[1].at_ns));
        assert_eq!(*leak.data, record.frames[1].bytes);
        let words = said("airtight: LEAK, left through uplink which is not intended");
        assert_eq!(leak.options, [EnhancedPacketOption::Common(words)]);
        let Block::InterfaceStatistics(account) = &blocks[6] else { panic!("{:?}", blocks[6]) };
        let expected =
            [InterfaceStatisticsOption::IsbIfRecv(2), InterfaceStatisticsOption::IsbIfDrop(5)];
        assert_eq!((account.interface_id, account.options.as_slice()), (1, &expected[..]));
    }

    #[test]
    fn comments_tell_what_a_frame_is() {
        let check = |role: &str, phase: &str, expected| {
            let mut record = sample::record();
            record.frames[0].role = role.to_owned();
            record.frames[0].phase = phase.to_owned();
            let blocks = blocks(&record);
            let Block::EnhancedPacket(packet) = &blocks[3] else { panic!("{:?}", blocks[3]) };
            assert_eq!(packet.options, [EnhancedPacketOption::Common(said(expected))]);
        };
        check("sentinel", "attempt", "airtight: sentinel");
        check("frame", "control", "airtight: control");
        check("frame", "attempt", "airtight: attempt");
    }

    #[test]
    fn a_vlan_tag_is_put_back() {
        let mut record = sample::record();
        record.frames[0].vlan = Some((0x88a8, 0x2064));
        record.frames[0].bytes = (0..20).collect();
        record.frames[0].length = 100;
        // A stub has no place for a tag.
        record.frames[1].vlan = Some((0x8100, 1));
        record.frames[1].bytes = vec![7; 11];
        record.frames[1].length = 11;
        let blocks = blocks(&record);
        let Block::EnhancedPacket(tagged) = &blocks[3] else { panic!("{:?}", blocks[3]) };
        assert_eq!(tagged.data[10..18], [10, 11, 0x88, 0xa8, 0x20, 0x64, 12, 13]);
        assert_eq!((tagged.data.len(), tagged.original_len), (24, 104));
        let Block::EnhancedPacket(stub) = &blocks[4] else { panic!("{:?}", blocks[4]) };
        assert_eq!((&*stub.data, stub.original_len), (&[7; 11][..], 11));
    }

    #[test]
    fn a_long_reason_does_not_cost_the_evidence() {
        let mut record = sample::record();
        record.reason = "ä".repeat(100_000);
        assert_eq!(blocks(&record).len(), 7);
    }
}
