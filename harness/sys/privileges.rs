//! The privileges of the calling thread, put down for a while.

use std::io;
use std::marker::PhantomData;

/// _LINUX_CAPABILITY_VERSION_3 (linux/capability.h): two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;
/// CAP_NET_ADMIN and CAP_NET_RAW (capabilities(7)).
const OF_THE_NETWORK: u32 = 1 << 12 | 1 << 13;

/// `struct __user_cap_header_struct`; process 0 is the calling thread.
#[repr(C)]
struct Header {
    version: u32,
    process: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Capabilities of the calling thread that do not count at present: they count again when this is
/// dropped, on the same thread.
pub(crate) struct Privileges {
    before: [Sets; 2],
    /// It stays on its thread.
    _here: PhantomData<*const ()>,
}

impl Privileges {
    /// Puts CAP_NET_RAW and CAP_NET_ADMIN down.
    pub(crate) fn dropped() -> io::Result<Privileges> {
        let mut before = [Sets::default(); 2];
        let mut header = Header { version: VERSION, process: 0 };
        // SAFETY: the kernel writes at most the two structures that this version has into `before`.
        let asked =
            unsafe { libc::syscall(libc::SYS_capget, &raw mut header, before.as_mut_ptr()) };
        answer(asked)?;
        let mut now = before;
        now[0].effective &= !OF_THE_NETWORK;
        set(&now)?;
        Ok(Privileges { before, _here: PhantomData })
    }
}

impl Drop for Privileges {
    fn drop(&mut self) {
        // What is permitted may be made effective at any time. If it were not, the laboratory's own
        // next request would be refused, and the trial be inconclusive.
        let _ = set(&self.before);
    }
}

fn set(sets: &[Sets; 2]) -> io::Result<()> {
    let mut header = Header { version: VERSION, process: 0 };
    // SAFETY: the kernel reads the two structures that this version has from `sets`.
    answer(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) })
}

fn answer(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
