//! What the wires carried: one capture on the far end of every link, sentinels, drop counters and
//! a pure decoder. It does not know which link is intended.

mod decode;
mod reaper;
mod sentinel;

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pnet::datalink::{self, MacAddr, NetworkInterface};

use crate::lab::Lab;
use crate::plan::{Link, SENTINEL_ETHERTYPE};
use crate::sys;

pub use decode::{Flags, Packet, decode};
pub(crate) use reaper::Reaper;
pub(crate) use sentinel::Sentinel;

/// After how long a wire that has not carried a sentinel is asked for the first time again.
const ASK_AGAIN_AFTER: Duration = Duration::from_micros(200);
/// The longest between two times.
const ASK_AGAIN_AT_LEAST: Duration = Duration::from_millis(200);

/// How many bytes of each frame are kept.
const FRAME_BYTES_MAX: usize = 2048;
/// How many frames of one trial are kept on one link. The others are read and counted.
const FRAMES_MAX: usize = 2000;
/// The receive buffer asked for, in bytes: it is used only as far as frames are waiting.
const RECEIVE_BUFFER_BYTES: i32 = 32 << 20;

/// One frame that a link carried out of the host under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The link, by its place in the case.
    pub link: usize,
    /// The part of the trial in which it was captured.
    pub phase: Phase,
    /// When the kernel saw it, in nanoseconds since the epoch.
    pub at_ns: u64,
    /// Its true length in bytes.
    pub length: usize,
    /// The VLAN tag that the kernel took off: protocol and control information.
    pub vlan: Option<(u16, u16)>,
    /// Whether it is our own sentinel.
    pub sentinel: bool,
    /// Its bytes, as far as they are kept.
    pub bytes: Vec<u8>,
}

/// The parts of a trial, as each link's own sentinels delimit them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// From the link's birth to its first sentinel.
    Rising,
    /// From there, where a program rehearses, to the sentinel that ends the rehearsal.
    Rehearsal,
    /// From there to the sentinel that ends the control.
    Control,
    /// From there, where there is a guard, to the sentinel behind the proof that it is in force.
    Guarded,
    /// From there to the sentinel that drains the wire.
    Attempt,
    /// Behind it.
    Drained,
}

/// The account of one link's capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Frames read, sentinels included.
    pub captured: u64,
    /// Frames that the capture lost.
    pub dropped: u64,
    /// Frames that are not sentinels, were read in the attempt or later, and are not kept.
    pub beyond: u64,
}

struct Capture {
    fd: Option<OwnedFd>,
    phase: Phase,
    tally: Tally,
    kept: usize,
}

/// The captures of all links of a laboratory, and the socket that sends sentinels.
pub struct Captures<'a> {
    captures: Vec<Capture>,
    frames: Vec<Frame>,
    links: &'a [Link],
    sender: Option<OwnedFd>,
    /// The interface index of each link's near end.
    indexes: Vec<u32>,
    /// The links whose near ends are in another namespace, and the socket there.
    away: Option<(Vec<usize>, OwnedFd)>,
    nonce: u64,
    seen: Vec<u32>,
    round: u32,
    /// The phase that the round under way leads to.
    next: Option<Phase>,
    buffer: Vec<u8>,
    reaper: Reaper,
}

impl<'a> Captures<'a> {
    /// Opens a capture on the far end of every link of `lab`. `nonce` marks this trial's
    /// sentinels. The links must still be down, or what went before is lost.
    pub(crate) fn open(
        lab: &Lab,
        links: &'a [Link],
        nonce: u64,
        reaper: &Reaper,
    ) -> Result<Captures<'a>> {
        let mut captures = Vec::with_capacity(links.len());
        for (at, link) in links.iter().enumerate() {
            let what = || format!("open the capture of {}", link.name);
            let fd =
                lab.inside_gateway(at, || open(link.index)).and_then(|r| r).with_context(what)?;
            captures.push(Capture {
                fd: Some(fd),
                phase: Phase::Rising,
                tally: Tally::default(),
                kept: 0,
            });
        }
        let sender = lab
            .inside_host(|| sys::packet_socket(0))?
            .context("open the socket that sends sentinels")?;
        Ok(Captures {
            captures,
            frames: Vec::new(),
            links,
            sender: Some(sender),
            indexes: lab.indexes(),
            away: None,
            nonce,
            seen: vec![0; links.len()],
            round: 0,
            next: None,
            buffer: vec![0; 1 << 16],
            reaper: reaper.clone(),
        })
    }

    /// Sends the sentinels of links that were changed or taken away from where they are.
    pub(crate) fn follow(&mut self, lab: &Lab) -> Result<()> {
        self.indexes = lab.indexes();
        let links = lab.away();
        if !links.is_empty() {
            let sender = match self.away.take() {
                Some((_, sender)) => sender,
                None => lab
                    .inside_drawer(|| sys::packet_socket(0))?
                    .context("open the socket that sends sentinels of links taken away")?,
            };
            self.away = Some((links, sender));
        }
        Ok(())
    }

    /// Sends a sentinel out of every link and reads until every capture has seen its own, or
    /// until `within` has passed. Sent again while a link has not carried one, since a link that
    /// has just come up drops frames without a word. Tells for each link whether it was seen.
    /// Where it was seen the link enters the phase `next`.
    pub fn end_phase(&mut self, next: Phase, within: Duration) -> Result<Vec<bool>> {
        self.next = Some(next);
        self.round(within, |_| true)
    }

    /// A round within a phase: when it returns true, everything that the host has sent before has
    /// been read.
    pub fn barrier(&mut self, within: Duration) -> Result<bool> {
        let all: Vec<usize> = (0..self.links.len()).collect();
        self.barrier_of(&all, within)
    }

    /// The same on the wires at places `wires` alone, and true at once where there is none.
    pub(crate) fn barrier_of(&mut self, wires: &[usize], within: Duration) -> Result<bool> {
        self.next = None;
        let seen = self.round(within, |at| wires.contains(&at))?;
        Ok(wires.iter().all(|at| seen.get(*at) == Some(&true)))
    }

    fn round(&mut self, within: Duration, asked: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
        self.round += 1;
        let (round, deadline) = (self.round, Instant::now() + within);
        let waits = |seen: &[u32], at: usize| asked(at) && seen[at] < round;
        let any = |seen: &[u32]| (0..seen.len()).any(|at| waits(seen, at));
        let mut patience = ASK_AGAIN_AFTER;
        loop {
            for at in 0..self.links.len() {
                if waits(&self.seen, at) {
                    self.send_sentinel(at, round)?;
                }
            }
            // A wire that is up carries the frame before sendto(2) returns, or soon after on a busy machine.
            // One that is still rising loses it, and is asked again: ever less often, because many trials
            // that ask 5,000 times a second keep the kernel's threads, and so each other's frames, waiting.
            let again = Instant::now() + patience;
            patience = (2 * patience).min(ASK_AGAIN_AT_LEAST);
            while any(&self.seen) {
                self.read()?;
                let now = Instant::now();
                if now >= again || now >= deadline {
                    break;
                }
                if any(&self.seen) {
                    self.poll(again.saturating_duration_since(now))?;
                }
            }
            if !any(&self.seen) || Instant::now() >= deadline {
                return Ok(self.seen.iter().map(|seen| *seen >= round).collect());
            }
        }
    }

    fn send_sentinel(&mut self, at: usize, round: u32) -> Result<()> {
        let Some(sender) = &self.sender else { bail!("the sender of sentinels is closed") };
        let sender = match &self.away {
            Some((links, away)) if links.contains(&at) => away,
            _ => sender,
        };
        let link = &self.links[at];
        let frame =
            Sentinel { nonce: self.nonce, link: at, round }.frame(link.near_mac, link.far_mac);
        // A link that is down answers ENETDOWN: its capture will not see the sentinel, which is
        // what the round tells.
        match sys::send_frame(sender.as_fd(), self.indexes[at], SENTINEL_ETHERTYPE, &frame) {
            Err(error)
                if [Some(libc::ENETDOWN), Some(libc::ENXIO), Some(libc::ENOBUFS)]
                    .contains(&error.raw_os_error()) =>
            {
                Ok(())
            }
            sent => sent.with_context(|| format!("send a sentinel out of {}", link.name)),
        }
    }

    /// Sends a frame from the far end of the link at place `at`, towards the host under test.
    pub fn inject(&self, at: usize, frame: &[u8]) -> Result<()> {
        let link = &self.links[at];
        let Some(fd) = &self.captures[at].fd else {
            bail!("the capture of {} is closed", link.name)
        };
        let kind = frame.get(12..14).map_or(0, |kind| u16::from_be_bytes([kind[0], kind[1]]));
        sys::send_frame(fd.as_fd(), link.index, kind, frame)
            .with_context(|| format!("inject a frame by {}", link.name))
    }

    /// Waits until a frame may be there, at most `within`.
    pub(crate) fn poll(&self, within: Duration) -> Result<()> {
        self.poll_beside(None, within)
    }

    /// Waits until a frame may be there, or something may be read from `other`, at most `within`.
    pub(crate) fn poll_beside(
        &self,
        other: Option<BorrowedFd<'_>>,
        within: Duration,
    ) -> Result<()> {
        let captures = self.captures.iter().filter_map(|capture| capture.fd.as_ref());
        let mut fds: Vec<PollFd<'_>> = captures
            .map(|fd| fd.as_fd())
            .chain(other)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let within =
            PollTimeout::try_from(within.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, within) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("wait for frames"),
        }
    }

    /// Reads whatever the captures hold.
    pub fn read(&mut self) -> Result<()> {
        for at in 0..self.captures.len() {
            while self.read_one(at)? {}
        }
        Ok(())
    }

    fn read_one(&mut self, at: usize) -> Result<bool> {
        let capture = &mut self.captures[at];
        let Some(fd) = &capture.fd else { return Ok(false) };
        let received = match sys::receive(fd.as_fd(), &mut self.buffer) {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(false),
            // Told once when the device goes down; the capture survives.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => return Ok(true),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("read the capture of {}", self.links[at].name));
            }
        };
        capture.tally.captured += 1;
        let bytes = &self.buffer[..received.captured];
        // One of a round that has not begun is somebody else's.
        let ours = Sentinel::read(bytes)
            .filter(|s| s.nonce == self.nonce && s.link == at && s.round <= self.round);
        if let Some(sentinel) = ours {
            if let Some(next) = self.next
                && sentinel.round == self.round
                && self.seen[at] < self.round
            {
                capture.phase = next;
            }
            self.seen[at] = self.seen[at].max(sentinel.round);
        }
        if capture.kept >= FRAMES_MAX && ours.is_none() {
            capture.tally.beyond += u64::from(capture.phase >= Phase::Attempt);
            return Ok(true);
        }
        capture.kept += usize::from(ours.is_none());
        self.frames.push(Frame {
            link: at,
            phase: capture.phase,
            at_ns: received.at_ns,
            length: received.length,
            vlan: received.vlan,
            sentinel: ours.is_some(),
            bytes: bytes[..bytes.len().min(FRAME_BYTES_MAX)].to_vec(),
        });
        Ok(true)
    }

    /// Waits until the link at place `at` has carried more than `count` frames of the attempt that
    /// are no sentinels, at most `within`. Tells whether it has.
    pub(crate) fn await_frame(
        &mut self,
        at: usize,
        count: usize,
        within: Duration,
    ) -> Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            self.read()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if self.attempted(at) > count || left.is_zero() {
                return Ok(self.attempted(at) > count);
            }
            self.poll(left)?;
        }
    }

    /// Waits until every link has carried a report of a multicast membership, at most `within`
    /// each. Tells whether all have.
    pub(crate) fn await_memberships(&mut self, within: Duration) -> Result<bool> {
        let deadline = Instant::now() + within;
        let reported = |frames: &[Frame], at: usize| {
            frames.iter().any(|frame| frame.link == at && decode(&frame.bytes).membership())
        };
        for at in 0..self.links.len() {
            loop {
                self.read()?;
                if reported(&self.frames, at) {
                    break;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(false);
                }
                self.poll(left)?;
            }
        }
        Ok(true)
    }

    /// Waits until the link at place `at` has carried a report of a multicast membership that contains
    /// `record` in this phase, at most `within`. Tells whether it has.
    pub(crate) fn await_report(
        &mut self,
        at: usize,
        record: &[u8],
        within: Duration,
    ) -> Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            self.read()?;
            let phase = self.captures[at].phase;
            let reports = |frame: &Frame| {
                frame.link == at
                    && frame.phase == phase
                    && frame.bytes.windows(record.len()).any(|bytes| bytes == record)
                    && decode(&frame.bytes).membership()
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let came = self.frames.iter().any(reports);
            if came || left.is_zero() {
                return Ok(came);
            }
            self.poll(left)?;
        }
    }

    /// How many frames of the attempt that are no sentinels the link at place `at` has carried.
    pub(crate) fn attempted(&self, at: usize) -> usize {
        let ours =
            |frame: &&Frame| frame.link == at && !frame.sentinel && frame.phase >= Phase::Attempt;
        self.frames.iter().filter(ours).count()
    }

    /// How many frames that are no sentinels all links together have carried in their phases.
    pub(crate) fn sent(&self) -> u64 {
        let of = |capture: &Capture| capture.kept as u64 + capture.tally.beyond;
        self.captures.iter().map(of).sum()
    }

    /// The frames read so far, link by link in the order of the wire.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The account of each link, with the kernel's drop counters read now.
    pub fn tallies(&mut self) -> Result<Vec<Tally>> {
        for (capture, link) in self.captures.iter_mut().zip(self.links) {
            if let Some(fd) = &capture.fd {
                let dropped = sys::packet_drops(fd.as_fd())
                    .with_context(|| format!("read the drop counter of {}", link.name))?;
                capture.tally.dropped += u64::from(dropped);
            }
        }
        Ok(self.captures.iter().map(|capture| capture.tally).collect())
    }

    /// Closes the capture at place `at`: what a broken harness would do.
    pub fn close(&mut self, at: usize) {
        if let Some(fd) = self.captures[at].fd.take() {
            self.reaper.close(fd);
        }
    }

    /// Shrinks the capture at place `at` to the smallest buffer that the kernel allows.
    pub fn starve(&mut self, at: usize) -> Result<()> {
        let Some(fd) = &self.captures[at].fd else { bail!("the capture is closed") };
        sys::setsockopt(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &1i32.to_ne_bytes())
            .context("shrink a capture's buffer")
    }

    /// Opens the capture at place `at` again: what came before is lost.
    pub fn reopen(&mut self, lab: &Lab, at: usize) -> Result<()> {
        self.close(at);
        let index = self.links[at].index;
        self.captures[at].fd = Some(lab.inside_gateway(at, || open(index)).and_then(|r| r)?);
        self.captures[at].tally = Tally::default();
        Ok(())
    }

    /// Ends the sending of sentinels: they never arrive again.
    pub fn stop_sentinels(&mut self) {
        let away = self.away.take().map(|(_, fd)| fd);
        self.sender.take().into_iter().chain(away).for_each(|fd| self.reaper.close(fd));
        self.nonce ^= 1;
    }

    /// The frames, for whoever judges them.
    pub fn into_frames(mut self) -> Vec<Frame> {
        std::mem::take(&mut self.frames)
    }
}

impl Drop for Captures<'_> {
    fn drop(&mut self) {
        self.stop_sentinels();
        (0..self.captures.len()).for_each(|at| self.close(at));
    }
}

/// A capture of the device with this index, in the calling thread's namespace.
fn open(index: u32) -> Result<OwnedFd> {
    // Opened with protocol 0, so that no other device's frame can slip in before the bind.
    let fd = sys::packet_socket(0).context("open a packet socket")?;
    let option =
        |level, name, value: i32| sys::setsockopt(fd.as_fd(), level, name, &value.to_ne_bytes());
    option(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1).context("ignore outgoing frames")?;
    option(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1).context("ask for VLAN tags")?;
    option(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1).context("ask for timestamps")?;
    // Without CAP_NET_ADMIN in the first user namespace only SO_RCVBUF is allowed, up to rmem_max.
    if option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
        option(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            .context("grow the buffer")?;
    }
    // pnet binds it to the device. Our own descriptor of the same socket stays with us, because
    // pnet's reader loses tags, lengths and times.
    let interface = NetworkInterface {
        name: String::new(),
        description: String::new(),
        index,
        mac: Some(MacAddr::zero()),
        ips: Vec::new(),
        flags: 0,
    };
    let config = datalink::linux::Config {
        write_buffer_size: 0,
        read_buffer_size: 0,
        promiscuous: false,
        socket_fd: Some(fd.try_clone().context("duplicate a packet socket")?.into_raw_fd()),
        ..Default::default()
    };
    datalink::linux::channel(&interface, config).context("bind a packet socket to its device")?;
    Ok(fd)
}
