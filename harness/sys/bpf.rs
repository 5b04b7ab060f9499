//! Programs of a few instructions for the kernel's BPF machine, written by hand, so that no compiler
//! is needed, and hooked in by links of their own (bpf(2), linux/bpf.h).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// bpf(2)'s commands.
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const LINK_DETACH: libc::c_long = 34;
/// The helper that sends a packet out of another device (bpf-helpers(7)).
const HELPER_REDIRECT: i32 = 23;
/// Where `struct bpf_sock` keeps the device that a socket is bound to.
const SOCK_BOUND_DEV_IF: i16 = 0;
/// Where `struct __sk_buff` keeps the protocol and the device of a packet.
const SKB_PROTOCOL: i16 = 16;
const SKB_IFINDEX: i16 = 40;
/// TCX_NEXT: the packet goes on as if there were no program.
const GO_ON: i32 = -1;

/// A program in force. Whoever drops it ends that at once: that its descriptor is closed would not be
/// enough, as long as a process that is just being started has a copy of it.
pub(crate) struct Hooked {
    link: OwnedFd,
    /// Of a device: it ends with the device, and unhooking it takes the kernel tens of milliseconds.
    of_device: bool,
}

impl Hooked {
    /// Unhooks the program (BPF_LINK_DETACH, Linux 5.9).
    pub(crate) fn end(&self) -> io::Result<()> {
        let request: u32 = number(self.link.as_raw_fd())?;
        let size = size_of_val(&request);
        // SAFETY: the request is of the given size, and the call only reads it.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, LINK_DETACH, &raw const request, size) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        // The probe has shown that it can be done; what is left then goes with the descriptor.
        if !self.of_device {
            let _ = self.end();
        }
    }
}

/// One instruction: `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What a program is and where it is hooked in: `BPF_PROG_TYPE_*` and `BPF_CGROUP_*` or `BPF_TCX_*`.
#[derive(Clone, Copy)]
struct Hook {
    program: u32,
    attach: u32,
}

const SOCKET_CREATION: Hook = Hook { program: 9, attach: 2 };
const CGROUP_EGRESS: Hook = Hook { program: 8, attach: 1 };
const DEVICE_EGRESS: Hook = Hook { program: 3, attach: 47 };

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// `register = value`.
const fn set(register: u8, value: i32) -> Instruction {
    instruction(0xb7, register, 0, value)
}

/// `register = *(u32 *)(r1 + offset)`.
const fn load(register: u8, offset: i16) -> Instruction {
    instruction(0x61, register | 1 << 4, offset, 0)
}

/// Over `skip` instructions where `register == value`.
const fn skip_if(register: u8, value: i32, skip: i16) -> Instruction {
    instruction(0x15, register, skip, value)
}

const EXIT: Instruction = instruction(0x95, 0, 0, 0);

/// Every IPv4 and IPv6 socket that tasks of the cgroup open from here on is bound to the device with
/// this index, as if by SO_BINDTODEVICE (BPF_CGROUP_INET_SOCK_CREATE, Linux 4.10).
pub(crate) fn pin_sockets(cgroup: BorrowedFd<'_>, index: u32) -> io::Result<Hooked> {
    let store = instruction(0x63, 1 | 2 << 4, SOCK_BOUND_DEV_IF, 0);
    let program = [set(2, number(index)?), store, set(0, 1), EXIT];
    hook(SOCKET_CREATION, &program, number(cgroup.as_raw_fd())?)
}

/// What sockets of the cgroup send is dropped unless it leaves by a device with one of these indexes
/// (BPF_CGROUP_INET_EGRESS, Linux 4.10). A socket is of the cgroup whose task has opened it.
pub(crate) fn drop_others(cgroup: BorrowedFd<'_>, indexes: &[u32]) -> io::Result<Hooked> {
    let mut program = vec![load(2, SKB_IFINDEX), set(0, 1)];
    for (at, index) in indexes.iter().enumerate() {
        // Over the comparisons behind this one, and over the refusal.
        program.push(skip_if(2, number(*index)?, number(indexes.len() - at)?));
    }
    program.extend([set(0, 0), EXIT]);
    hook(CGROUP_EGRESS, &program, number(cgroup.as_raw_fd())?)
}

/// IP packets that are about to leave by the device `from`, in the calling thread's namespace, leave by
/// `to` (BPF_TCX_EGRESS, Linux 6.6). All other frames pass.
pub(crate) fn redirect(from: u32, to: u32) -> io::Result<Hooked> {
    let protocol = |protocol: i32| number(u16::try_from(protocol).unwrap_or_default().to_be());
    let program = [
        load(2, SKB_PROTOCOL),
        skip_if(2, protocol(libc::ETH_P_IP)?, 3),
        skip_if(2, protocol(libc::ETH_P_IPV6)?, 2),
        set(0, GO_ON),
        EXIT,
        set(1, number(to)?),
        set(2, 0),
        instruction(0x85, 0, 0, HELPER_REDIRECT),
        EXIT,
    ];
    hook(DEVICE_EGRESS, &program, number(from)?)
}

fn number<A, B>(value: A) -> io::Result<B>
where
    B: TryFrom<A>,
{
    B::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct LoadRequest {
    program: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach: u32,
}

/// `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
#[derive(Default)]
struct LinkRequest {
    program: u32,
    target: u32,
    attach: u32,
    flags: u32,
    relative: u32,
    reserved: u32,
    revision: u64,
}

/// Loads a program and hooks it in at `target`, a descriptor of a cgroup or the index of a device. It
/// works until what is given back is dropped.
fn hook(hook: Hook, program: &[Instruction], target: u32) -> io::Result<Hooked> {
    let request = LoadRequest {
        program: hook.program,
        count: number(program.len())?,
        instructions: program.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        attach: hook.attach,
        ..LoadRequest::default()
    };
    let size = size_of_val(&request);
    // SAFETY: the request is of the given size; the instructions and the license that it points to
    // outlive the call, which only reads them.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const request, size) };
    let loaded = super::own(descriptor(loaded)?);
    let request = LinkRequest {
        program: number(loaded.as_raw_fd())?,
        target,
        attach: hook.attach,
        ..LinkRequest::default()
    };
    // A kernel that knows a shorter request takes a longer one whose rest is zero.
    let size = size_of_val(&request);
    // SAFETY: the request is of the given size, and the call only reads it.
    let linked = unsafe { libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw const request, size) };
    let of_device = hook.attach == DEVICE_EGRESS.attach;
    Ok(Hooked { link: super::own(descriptor(linked)?), of_device })
}

fn descriptor(answer: libc::c_long) -> io::Result<i32> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    number(answer)
}
