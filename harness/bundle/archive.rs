//! The archive's one spelling, and a reader that goes on behind what is damaged.

use std::ops::Range;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// A tar is made of blocks.
const BLOCK: usize = 512;

/// What ends an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// When every file says it was written: 1980, the first year that no tool finds implausible.
const MODIFIED: u64 = 315_532_800;

/// What a longer name than a header holds stands behind.
const LONG_NAME: &str = "././@LongLink";

/// One file's header, contents and padding.
pub(super) fn entry(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(MODIFIED);
    header.set_uid(0);
    header.set_gid(0);
    let mut builder = Builder::new(Vec::new());
    let context = || format!("put `{}` into the archive", name.escape_debug());
    builder.append_data(&mut header, name, bytes).with_context(context)?;
    let mut spelled = builder.into_inner().with_context(context)?;
    spelled.truncate(spelled.len() - END.len());
    Ok(spelled)
}

/// What a part of an archive is.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// A file.
    File {
        /// Its name; `None` where it is no UTF-8.
        name: Option<String>,
        /// All its bytes, headers and padding included.
        all: Range<usize>,
        /// What it holds.
        bytes: &'a [u8],
    },
    /// Something else than a file: a link, a folder, a device.
    Other {
        /// What it is.
        kind: &'static str,
        /// Its name, with what is no UTF-8 replaced.
        name: String,
    },
    /// Bytes that are no header where one must be.
    Damaged(Range<usize>),
    /// A file whose contents end before its header says.
    CutShort {
        /// Its name, with what is no UTF-8 replaced.
        name: String,
    },
    /// The end is not as it must be; what is wrong with it.
    End(String),
}

/// The parts of `archive`, in its order.
pub(super) fn walk(archive: &[u8]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < archive.len() {
        let Some(block) = archive.get(at..at + BLOCK) else { break };
        let zeros = block.iter().all(|byte| *byte == 0);
        if zeros || (archive.len() - at <= END.len() && header(archive, at).is_none()) {
            break;
        }
        let (part, next) = part(archive, at);
        parts.push(part);
        at = next;
    }
    let rest = archive.get(at..).unwrap_or_default();
    if rest != END {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        parts.push(Part::End(if zeros == rest.len() && rest.len() < END.len() {
            "the archive is cut short: its end is missing".to_owned()
        } else if zeros < END.len() {
            format!("the end of the archive is altered at byte {}", at + zeros)
        } else {
            format!("{} bytes stand behind the end of the archive", rest.len() - END.len())
        }));
    }
    parts
}

/// The part that begins at `start`, and where the next one does.
fn part(archive: &[u8], start: usize) -> (Part<'_>, usize) {
    let mut at = start;
    let mut long = None;
    loop {
        let Some(header) = header(archive, at) else {
            let next = resume(archive, at + BLOCK);
            return (Part::Damaged(start..next), next);
        };
        let own = header.path_bytes().into_owned();
        let from = at + BLOCK;
        let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok());
        let end = size.and_then(|size| from.checked_add(size)).filter(|end| *end <= archive.len());
        let Some(end) = end else {
            let name = String::from_utf8_lossy(&long.unwrap_or(own)).into_owned();
            return (Part::CutShort { name }, archive.len());
        };
        let next = end.next_multiple_of(BLOCK);
        let kind = header.entry_type();
        if kind.is_gnu_longname() && own == LONG_NAME.as_bytes() && long.is_none() {
            let name = &archive[from..end];
            long = Some(name.strip_suffix(&[0]).unwrap_or(name).to_vec());
            at = next;
            continue;
        }
        let name = long.unwrap_or(own);
        let part = match kind {
            EntryType::Regular => Part::File {
                name: String::from_utf8(name).ok(),
                all: start..next,
                bytes: &archive[from..end],
            },
            kind => {
                Part::Other { kind: word(kind), name: String::from_utf8_lossy(&name).into_owned() }
            }
        };
        return (part, next);
    }
}

/// The header at `at`, where there is one whose sum is right.
fn header(archive: &[u8], at: usize) -> Option<&Header> {
    let block = archive.get(at..at + BLOCK)?;
    let header = Header::from_byte_slice(block);
    let sum = |range: Range<usize>| block[range].iter().map(|byte| u32::from(*byte)).sum::<u32>();
    // The sum is taken with blanks in its own place.
    let right = sum(0..148) + 8 * u32::from(b' ') + sum(156..BLOCK);
    let magic = header.as_gnu().is_some() || header.as_ustar().is_some();
    (magic && header.cksum().is_ok_and(|said| said == right)).then_some(header)
}

/// The next block from `at` on that is a header, or the archive's end.
fn resume(archive: &[u8], at: usize) -> usize {
    let blocks = (at..archive.len()).step_by(BLOCK);
    let end = archive.len().saturating_sub(END.len());
    let found = blocks.into_iter().find(|at| *at >= end || header(archive, *at).is_some());
    found.unwrap_or(archive.len())
}

fn word(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Directory => "a folder",
        EntryType::Fifo => "a pipe",
        EntryType::Char | EntryType::Block => "a device",
        _ => "an entry that no file of a bundle is",
    }
}
