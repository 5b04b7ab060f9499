//! The host under test as a multicast router: the kernel routes groups only while a socket that has
//! become the router is open.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};

use crate::plan::{Case, Step};
use crate::sys;

// include/uapi/linux/mroute.h.
const MRT_INIT: i32 = 200;
const MRT_ADD_VIF: i32 = 202;
const MRT_ADD_MFC: i32 = 204;
const VIFF_USE_IFINDEX: u8 = 8;
/// MAXVIFS: how many thresholds an entry has.
const VIFS: usize = 32;

/// Becomes the multicast router of the calling thread's namespace, and routes what the case sends
/// to a group between its links. Groups are IPv4's.
pub(super) fn open(case: &Case) -> Result<OwnedFd> {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_IGMP)
        .context("open the socket of a multicast router")?;
    let set = |name: i32, value: &[u8], what: &str| {
        sys::setsockopt(socket.as_fd(), libc::IPPROTO_IP, name, value)
            .with_context(|| what.to_owned())
    };
    set(MRT_INIT, &1i32.to_ne_bytes(), "become the multicast router (MRT_INIT)")?;
    for (at, link) in case.links.iter().enumerate() {
        // struct vifctl: the number, flags, the threshold, a rate, the index, the remote address.
        let number = u16::try_from(at)?.to_ne_bytes();
        let vif = [
            number.as_slice(),
            &[VIFF_USE_IFINDEX, 1],
            &0u32.to_ne_bytes(),
            &link.index.to_ne_bytes(),
            &[0; 4],
        ]
        .concat();
        set(MRT_ADD_VIF, &vif, &format!("route groups on {} (MRT_ADD_VIF)", link.name))?;
    }
    let group = case.steps.iter().find_map(|step| match step {
        Step::Send { to: Some(IpAddr::V4(to)), .. } if to.is_multicast() => Some(*to),
        _ => None,
    });
    let Some(group) = group else { bail!("the case sends to no IPv4 group") };
    for (from, to) in &case.multicast_routes {
        let IpAddr::V4(origin) = case.links[*from].address else {
            bail!("the multicast routes of a laboratory are IPv4's");
        };
        // struct mfcctl: origin, group, the parent's number, a threshold for each way out (255:
        // none), and counters.
        let mut thresholds = [255u8; VIFS];
        thresholds[*to] = 1;
        let mut entry = [origin.octets(), group.octets()].concat();
        entry.extend(u16::try_from(*from)?.to_ne_bytes());
        entry.extend(thresholds);
        // Aligned to four bytes: two of padding, then four counters.
        entry.resize(entry.len() + 2 + 16, 0);
        set(MRT_ADD_MFC, &entry, &format!("route {group} (MRT_ADD_MFC)"))?;
    }
    Ok(socket)
}
