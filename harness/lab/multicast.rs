//! The host under test as a multicast router: the kernel routes groups only while a socket that has
//! become the router is open.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, ensure};

use crate::plan::{Case, Link, Step};
use crate::scenario::Family;
use crate::sys;

// include/uapi/linux/mroute.h and mroute6.h, which count alike: MRT6_INIT, MRT6_ADD_MIF and
// MRT6_ADD_MFC have the same numbers.
const MRT_INIT: i32 = 200;
const MRT_ADD_VIF: i32 = 202;
const MRT_ADD_MFC: i32 = 204;
const VIFF_USE_IFINDEX: u8 = 8;
/// MAXVIFS: how many thresholds an entry has.
const VIFS: usize = 32;
/// IF_SETSIZE: how many bits an IPv6 entry's set of ways out has.
const MIFS: usize = 256;

/// Becomes the multicast router of the calling thread's namespace, and routes the case's groups
/// between its links.
pub(super) fn open(case: &Case) -> Result<OwnedFd> {
    let (domain, protocol, level) = match case.family {
        Family::V4 | Family::Mapped => (libc::AF_INET, libc::IPPROTO_IGMP, libc::IPPROTO_IP),
        Family::V6 => (libc::AF_INET6, libc::IPPROTO_ICMPV6, libc::IPPROTO_IPV6),
    };
    let socket = sys::socket(domain, libc::SOCK_RAW, protocol)
        .context("open the socket of a multicast router")?;
    let set = |name: i32, value: &[u8], what: &str| {
        sys::setsockopt(socket.as_fd(), level, name, value).with_context(|| what.to_owned())
    };
    set(MRT_INIT, &1i32.to_ne_bytes(), "become the multicast router (MRT_INIT)")?;
    for (at, link) in case.links.iter().enumerate() {
        let device = device(at, link, case.family)?;
        set(MRT_ADD_VIF, &device, &format!("route groups on {} (MRT_ADD_VIF)", link.name))?;
    }
    let groups: BTreeSet<IpAddr> = destinations(case).map(|(_, group)| group).collect();
    ensure!(!groups.is_empty(), "the case sends to no group");
    // A second entry for one way in would replace the first, so each names all of its ways out.
    let mut ways: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (from, to) in &case.multicast_routes {
        ways.entry(*from).or_default().push(*to);
    }
    for (from, to) in &ways {
        for group in &groups {
            for origin in origins(case, *from) {
                let entry = entry(origin, *group, *from, to)?;
                set(MRT_ADD_MFC, &entry, &format!("route {group} from {origin} (MRT_ADD_MFC)"))?;
            }
        }
    }
    Ok(socket)
}

/// The groups that the case sends to or that are injected, each with the link and the source of
/// what is injected.
fn destinations(case: &Case) -> impl Iterator<Item = (Option<(usize, IpAddr)>, IpAddr)> {
    let all = case.steps.iter().filter_map(|step| match step {
        Step::Connect { to, .. } | Step::Send { to: Some(to), .. } => Some((None, *to)),
        Step::Inject(approach) => Some((Some((approach.by, approach.from)), approach.to)),
        _ => None,
    });
    all.filter(|(_, to)| to.is_multicast())
}

/// Whose packets come by the link at place `from`: the host's own, and what is injected there.
fn origins(case: &Case, from: usize) -> BTreeSet<IpAddr> {
    let injected = destinations(case).filter_map(|(approach, _)| approach);
    let injected = injected.filter(|(by, _)| *by == from).map(|(_, source)| source);
    std::iter::once(case.links[from].address).chain(injected).collect()
}

/// A link as the router knows it, by its place.
fn device(at: usize, link: &Link, family: Family) -> Result<Vec<u8>> {
    let number = u16::try_from(at)?.to_ne_bytes();
    let mut device = number.to_vec();
    if family == Family::V6 {
        // struct mif6ctl: number, flags, threshold, index, two bytes of padding, a rate.
        device.extend([0, 1]);
        device.extend(u16::try_from(link.index)?.to_ne_bytes());
        device.extend([0; 2 + 4]);
    } else {
        // struct vifctl: the number, flags, the threshold, a rate, the index, the remote address.
        device.extend([VIFF_USE_IFINDEX, 1]);
        device.extend([0; 4]);
        device.extend(link.index.to_ne_bytes());
        device.extend([0; 4]);
    }
    Ok(device)
}

/// The entry that sends a group's packets on: which come from `origin` by the link at place `from`.
fn entry(origin: IpAddr, group: IpAddr, from: usize, to: &[usize]) -> Result<Vec<u8>> {
    let parent = u16::try_from(from)?.to_ne_bytes();
    match (origin, group) {
        (IpAddr::V4(origin), IpAddr::V4(group)) => Ok(entry_v4(origin, group, parent, to)),
        (IpAddr::V6(origin), IpAddr::V6(group)) => Ok(entry_v6(origin, group, parent, to)),
        _ => anyhow::bail!("{origin} and {group} are of two families"),
    }
}

/// struct mfcctl: origin, group, the parent's number, a threshold for each way out (255: none),
/// two bytes of padding, and four counters.
fn entry_v4(origin: Ipv4Addr, group: Ipv4Addr, parent: [u8; 2], to: &[usize]) -> Vec<u8> {
    let mut thresholds = [255u8; VIFS];
    to.iter().for_each(|at| thresholds[*at] = 1);
    let mut entry = [origin.octets(), group.octets()].concat();
    entry.extend(parent);
    entry.extend(thresholds);
    entry.extend([0; 2 + 16]);
    entry
}

/// struct mf6cctl: origin and group, each a struct sockaddr_in6, the parent's number, two bytes of
/// padding, and a bit for each way out in words of 32 bits.
fn entry_v6(origin: Ipv6Addr, group: Ipv6Addr, parent: [u8; 2], to: &[usize]) -> Vec<u8> {
    let mut entry = Vec::new();
    for address in [origin, group] {
        // struct sockaddr_in6: family, port, flow label, address, scope.
        entry.extend((libc::AF_INET6 as u16).to_ne_bytes());
        entry.extend([0; 2 + 4]);
        entry.extend(address.octets());
        entry.extend([0; 4]);
    }
    entry.extend(parent);
    entry.extend([0; 2]);
    let mut words = [0u32; MIFS / 32];
    to.iter().for_each(|at| words[at / 32] |= 1 << (at % 32));
    entry.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    entry
}
