//! What is unpacked on demand: descriptions and captures, compressed (zlib, RFC 1950), since most of
//! what trials say they say alike, and written in base64, which no parser can take for markup.
//!
//! A pack is the length of its table of contents (four bytes, little-endian), the table (JSON: for
//! each trial its description and the length of its capture), then the captures, end to end.

use std::io::Write;

use anyhow::Result;
use base64ct::{Base64, Encoding};
use flate2::Compression;
use flate2::write::ZlibEncoder;

/// How large a pack becomes before another is begun, uncompressed: unpacked in milliseconds, and
/// large enough to find what its trials have in common.
const PACK_BYTES: usize = 512 << 10;
/// How hard the compressor tries: beyond it a page takes much longer and is little smaller.
const LEVEL: u8 = 8;

/// Where a trial is packed: the pack, and the place in it.
#[derive(Clone, Copy, serde::Serialize)]
pub(super) struct Place {
    pub(super) pack: usize,
    pub(super) at: usize,
}

#[derive(serde::Serialize)]
struct Entry {
    html: String,
    pcapng: usize,
}

/// The packs of a page.
#[derive(Default)]
pub(super) struct Packs {
    done: Vec<String>,
    entries: Vec<Entry>,
    captures: Vec<u8>,
    bytes: usize,
}

impl Packs {
    /// Packs a trial's description and its capture.
    pub(super) fn add(&mut self, html: &str, pcapng: &[u8]) -> Result<Place> {
        if self.bytes >= PACK_BYTES {
            self.close()?;
        }
        let place = Place { pack: self.done.len(), at: self.entries.len() };
        self.bytes += html.len() + pcapng.len();
        self.entries.push(Entry { html: html.to_owned(), pcapng: pcapng.len() });
        self.captures.extend_from_slice(pcapng);
        Ok(place)
    }

    fn close(&mut self) -> Result<()> {
        let contents = serde_json::to_vec(&std::mem::take(&mut self.entries))?;
        let mut pack = u32::try_from(contents.len())?.to_le_bytes().to_vec();
        pack.extend_from_slice(&contents);
        pack.append(&mut self.captures);
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::new(LEVEL.into()));
        packer.write_all(&pack)?;
        self.done.push(Base64::encode_string(&packer.finish()?));
        self.bytes = 0;
        Ok(())
    }

    /// All packs.
    pub(super) fn finish(mut self) -> Result<Vec<String>> {
        if !self.entries.is_empty() {
            self.close()?;
        }
        Ok(self.done)
    }
}

/// What a pack holds, as the page's script unpacks it.
#[cfg(test)]
pub(super) fn unpacked(pack: &str) -> Vec<(String, Vec<u8>)> {
    #[derive(serde::Deserialize)]
    struct Entry {
        html: String,
        pcapng: usize,
    }
    let packed = Base64::decode_vec(pack).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&packed[..]), &mut bytes)
        .unwrap();
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let entries: Vec<Entry> = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
    let mut at = 4 + length;
    let mut next = |length: usize| {
        at += length;
        bytes[at - length..at].to_vec()
    };
    entries.into_iter().map(|entry| (entry.html, next(entry.pcapng))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_give_back_what_was_packed() {
        let mut packs = Packs::default();
        let long = "x".repeat(PACK_BYTES);
        let given = [("a", &b"12"[..]), (&long, b""), ("</script>", b"\0\xff")];
        let places: Vec<Place> =
            given.iter().map(|(html, pcapng)| packs.add(html, pcapng).unwrap()).collect();
        let packs = packs.finish().unwrap();
        assert_eq!(packs.len(), 2);
        for ((html, pcapng), place) in given.iter().zip(places) {
            let (text, bytes) = &unpacked(&packs[place.pack])[place.at];
            assert_eq!((text.as_str(), bytes.as_slice()), (*html, *pcapng));
        }
        assert!(packs.iter().all(|pack| !pack.contains('<')));
    }
}
