//! Closes packet sockets behind the trials' backs: each close waits for an RCU grace period of 10
//! to 20 ms (packet_release in net/packet/af_packet.c), which many can wait for together.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};

/// How many closes wait together.
const THREADS: usize = 64;
/// How many sockets may wait to be closed. A trial that brings more waits: open files stay bounded.
const WAITING_MAX: usize = 256;

/// Whoever closes packet sockets. Clones are the same.
#[derive(Clone)]
pub(crate) struct Reaper(SyncSender<OwnedFd>);

impl Reaper {
    /// Starts the closing threads once a process. They stay in the caller's namespace, so it must
    /// not be a laboratory's thread.
    pub(crate) fn start() -> Reaper {
        static REAPER: OnceLock<Reaper> = OnceLock::new();
        let start = || {
            let (sender, receiver) = sync_channel(WAITING_MAX);
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..THREADS {
                let receiver = Arc::clone(&receiver);
                // A thread that cannot be started is one closer fewer.
                let closer = std::thread::Builder::new().name("closer".into()).stack_size(64 << 10);
                drop(closer.spawn(move || close_all(&receiver)));
            }
            Reaper(sender)
        };
        REAPER.get_or_init(start).clone()
    }

    /// Closes a socket some time soon.
    pub(crate) fn close(&self, fd: OwnedFd) {
        // Where nobody listens any more, the value that comes back is closed here and now.
        drop(self.0.send(fd));
    }
}

fn close_all(receiver: &Mutex<Receiver<OwnedFd>>) {
    loop {
        let next = match receiver.lock() {
            Ok(receiver) => receiver.recv(),
            Err(_) => return,
        };
        match next {
            Ok(fd) => drop(fd),
            Err(_) => return,
        }
    }
}
