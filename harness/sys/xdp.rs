//! An AF_XDP socket that only sends (Documentation/networking/af_xdp.rst, include/uapi/linux/
//! if_xdp.h): one frame of memory shared with the kernel, and the rings that it insists on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{check, setsockopt, socket};

/// The size of the one frame of shared memory, in bytes: a page, the most that the kernel takes.
const FRAME_BYTES: usize = 4096;
/// The size of each ring: a power of two.
const RING: u32 = 2;

/// Memory that mmap(2) gave us.
struct Mapping {
    start: NonNull<libc::c_void>,
    length: usize,
}

impl Mapping {
    fn new(length: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("a mapping at 0"))?;
        Ok(Mapping { start, length })
    }

    /// The address `offset` bytes behind the start, where `room` bytes lie within the mapping.
    fn at(&self, offset: u64, room: usize) -> io::Result<*mut u8> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let fits = offset.checked_add(room).is_some_and(|end| end <= self.length);
        if !fits {
            return Err(io::Error::other("the kernel's ring lies outside of its mapping"));
        }
        // SAFETY: the offset lies within the mapping, as just checked.
        Ok(unsafe { self.start.as_ptr().cast::<u8>().add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and nobody uses it after its owner.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}

/// An AF_XDP socket for sending.
pub(crate) struct Xdp {
    fd: OwnedFd,
    memory: Mapping,
    ring: Mapping,
    /// Where in the mapping the ring's producer stands, and its descriptors.
    offsets: libc::xdp_ring_offset,
}

impl Xdp {
    /// Opens the socket and shares its memory with the kernel. Errors are the kernel's.
    pub(crate) fn open() -> io::Result<Xdp> {
        let fd = socket(libc::AF_XDP, libc::SOCK_RAW, 0)?;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let memory = Mapping::new(2 * FRAME_BYTES, anonymous, -1, 0)?;
        // struct xdp_umem_reg, as Linux 4.18 has it: address, length, size of a frame, headroom.
        let address = memory.start.as_ptr() as u64;
        let registration = [
            address.to_ne_bytes().as_slice(),
            &(memory.length as u64).to_ne_bytes(),
            &(FRAME_BYTES as u32).to_ne_bytes(),
            &0u32.to_ne_bytes(),
        ]
        .concat();
        let set = |name, value: &[u8]| setsockopt(fd.as_fd(), libc::SOL_XDP, name, value);
        set(libc::XDP_UMEM_REG, &registration)?;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
            set(ring, &RING.to_ne_bytes())?;
        }
        let offsets = offsets(&fd)?;
        let length = usize::try_from(offsets.desc).map_err(io::Error::other)?
            + RING as usize * size_of::<libc::xdp_desc>();
        let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
        let ring = Mapping::new(length, shared, fd.as_raw_fd(), libc::XDP_PGOFF_TX_RING)?;
        Ok(Xdp { fd, memory, ring, offsets })
    }

    /// Binds the socket to the first queue of the device with this index; frames are copied.
    pub(crate) fn bind(&self, index: u32) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: index,
            sxdp_queue_id: 0,
            sxdp_shared_umem_fd: 0,
        };
        let length = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: the pointer and the length are those of `address`, which outlives the call.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(())
    }

    /// Sends one whole frame out of the device. One that is under way would be overwritten, so
    /// that a socket sends one frame in its life.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        if frame.len() > FRAME_BYTES {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let room = self.memory.at(0, frame.len())?;
        // SAFETY: the memory has room for the frame, as just checked, and the kernel reads it only
        // once the ring tells it to, below.
        unsafe { room.copy_from_nonoverlapping(frame.as_ptr(), frame.len()) };
        let producer = self.ring.at(self.offsets.producer, size_of::<u32>())?;
        // SAFETY: the kernel keeps an aligned 32-bit counter at this offset, which only we write.
        let producer = unsafe { AtomicU32::from_ptr(producer.cast()) };
        let next = producer.load(Ordering::Relaxed);
        let place = u64::from(next % RING) * size_of::<libc::xdp_desc>() as u64;
        let description = libc::xdp_desc { addr: 0, len: frame.len() as u32, options: 0 };
        let slot = self.ring.at(self.offsets.desc + place, size_of::<libc::xdp_desc>())?;
        // SAFETY: the slot lies within the ring, is aligned as the kernel laid it out, and the
        // kernel does not read it before the producer has passed it.
        unsafe { slot.cast::<libc::xdp_desc>().write(description) };
        producer.store(next.wrapping_add(1), Ordering::Release);
        // SAFETY: sendto(2) without data and without an address; it makes the kernel read the ring.
        let sent = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, flags, std::ptr::null(), 0)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The socket's descriptor, for options.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

/// Where the kernel has laid out the ring of what is to be sent (XDP_MMAP_OFFSETS).
fn offsets(fd: &OwnedFd) -> io::Result<libc::xdp_ring_offset> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut all: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
    // SAFETY: the pointers are those of `all` and of its length, which outlive the call.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            (&raw mut all).cast(),
            &raw mut length,
        )
    })?;
    Ok(all.tx)
}
