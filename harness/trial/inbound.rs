//! Sentinels the other way: from a gateway to the host under test. When one has arrived, the host
//! has processed every frame that was injected before it by that link.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::capture::{Reaper, Sentinel};
use crate::lab::Lab;
use crate::plan::{Link, SENTINEL_ETHERTYPE};
use crate::sys;

pub(super) struct Inbound {
    fd: Option<OwnedFd>,
    nonce: u64,
    expected: Option<Sentinel>,
    round: u32,
    reaper: Reaper,
}

impl Inbound {
    /// Listens for inbound sentinels.
    pub(super) fn open(lab: &Lab, nonce: u64, reaper: &Reaper) -> Result<Inbound> {
        let fd = lab
            .inside_host(|| sys::packet_socket(SENTINEL_ETHERTYPE))?
            .context("listen for inbound sentinels")?;
        let (expected, round, reaper) = (None, 0, reaper.clone());
        Ok(Inbound { fd: Some(fd), nonce, expected, round, reaper })
    }

    /// The next sentinel to inject by the link at place `at`.
    pub(super) fn sentinel(&mut self, at: usize, link: &Link) -> Vec<u8> {
        self.round += 1;
        let sentinel = Sentinel { nonce: self.nonce, link: at, round: self.round };
        self.expected = Some(sentinel);
        sentinel.frame(link.far_mac, link.near_mac).to_vec()
    }

    /// Returns when the sentinel has arrived.
    pub(super) fn wait(&mut self, within: Duration) -> Result<()> {
        let Some(fd) = &self.fd else { bail!("the socket is closed") };
        let deadline = Instant::now() + within;
        let mut buffer = [0; 256];
        loop {
            while let Some(received) = sys::receive(fd.as_fd(), &mut buffer)? {
                if Sentinel::read(&buffer[..received.captured]) == self.expected {
                    return Ok(());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the sentinel behind it did not arrive within {within:?}");
            }
            let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, left) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("wait for a sentinel"),
            }
        }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            self.reaper.close(fd);
        }
    }
}
