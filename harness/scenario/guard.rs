//! Guards: what is put underneath so that nothing leaves by a decoy, whatever sockets do.

use serde::{Deserialize, Serialize};

use super::file::{Family, Transport};

/// A guard, by the name that scenarios and reports have for it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// A network namespace that holds only the intended links.
    Namespace,
    /// A cgroup-BPF program that binds every new socket to the intended link.
    CgroupPin,
    /// A cgroup-BPF program that drops what sockets send, unless it leaves by an intended link.
    CgroupDrop,
    /// An nftables rule in the output hook that drops what does not leave by an intended link or lo.
    NftOutput,
    /// An nftables egress hook on every decoy that drops everything (Linux 5.16).
    NftEgress,
    /// A rule that looks up a table of its own, which has the intended link's routes and rejects the
    /// rest, before any other.
    RejectRules,
    /// A VRF that holds only the intended links, and every new socket bound to it.
    Vrf,
}

impl Guard {
    /// Every guard, in the order of reports.
    pub const ALL: [Guard; 7] = [
        Guard::Namespace,
        Guard::NftEgress,
        Guard::NftOutput,
        Guard::CgroupDrop,
        Guard::CgroupPin,
        Guard::RejectRules,
        Guard::Vrf,
    ];

    /// The guard's word.
    pub fn word(self) -> &'static str {
        match self {
            Guard::Namespace => "namespace",
            Guard::CgroupPin => "cgroup-pin",
            Guard::CgroupDrop => "cgroup-drop",
            Guard::NftOutput => "nft-output",
            Guard::NftEgress => "nft-egress",
            Guard::RejectRules => "reject-rules",
            Guard::Vrf => "vrf",
        }
    }

    /// The row of the catalogue that it is.
    pub fn row(self) -> Option<&'static str> {
        match self {
            Guard::Namespace => Some("C36"),
            Guard::CgroupPin => Some("C37"),
            Guard::CgroupDrop => Some("C38"),
            Guard::NftOutput => Some("C39"),
            Guard::NftEgress => Some("C40"),
            Guard::RejectRules | Guard::Vrf => None,
        }
    }

    /// What it is, in a sentence's part.
    pub fn description(self) -> &'static str {
        match self {
            Guard::Namespace => "a network namespace that holds only the intended link",
            Guard::CgroupPin => {
                "a cgroup-BPF program that binds every new socket to the intended link"
            }
            Guard::CgroupDrop => {
                "a cgroup-BPF program that drops what its sockets send by any other link"
            }
            Guard::NftOutput => {
                "an nftables output rule that drops what leaves by any other link than the intended \
                 one or lo"
            }
            Guard::NftEgress => "an nftables egress hook on every other link that drops everything",
            Guard::RejectRules => {
                "a rule, before all others, for a table that has the intended link's routes and \
                 rejects the rest"
            }
            Guard::Vrf => {
                "a VRF that holds only the intended link, and every new socket bound to it"
            }
        }
    }

    /// The errors that it refuses senders with, by their names in errno(3). Another error is none of its
    /// doing, and proves nothing. EAGAIN is that of accept(2), where it stops a connection that opens.
    pub fn refusals(self) -> &'static [&'static str] {
        match self {
            Guard::Namespace => &["EADDRNOTAVAIL", "ENETUNREACH", "ENOBUFS", "ENODEV", "ENXIO"],
            Guard::NftEgress => &["EAGAIN", "ENOBUFS"],
            Guard::NftOutput | Guard::CgroupDrop => &["EAGAIN", "EPERM"],
            Guard::CgroupPin => &["EINVAL", "ENETUNREACH", "EPERM"],
            Guard::RejectRules => &["EHOSTUNREACH", "ENETUNREACH"],
            Guard::Vrf => &["EHOSTUNREACH", "EINVAL", "ENETUNREACH", "EPERM"],
        }
    }

    /// What the machine must be able to do for it.
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Guard::Namespace | Guard::RejectRules => &[],
            Guard::CgroupPin | Guard::CgroupDrop => &["cgroup-bpf"],
            Guard::NftOutput => &["program:nft", "nftables"],
            Guard::NftEgress => &["program:nft", "nftables-egress"],
            Guard::Vrf => &["program:ip", "vrf", "cgroup-bpf"],
        }
    }
}

/// Of these cells of a case, those that a guard is tried in. To a guard the ordinary transports are alike
/// (in 528 leaking trials it told none apart): the first of them is tried, and every other transport.
/// A link that is not there is there in no family, and what goes wrong below the sockets goes wrong in
/// both: then the first family alone.
pub(crate) fn tried(
    guard: Guard,
    cells: &[(Family, Transport)],
    beside_adversary: bool,
) -> Vec<(Family, Transport)> {
    let one_family = guard == Guard::Namespace || beside_adversary;
    let first = |at: usize| {
        let (family, transport) = cells[at];
        let alike = |(other, of): &(Family, Transport)| {
            of.is_ordinary() && (one_family || *other == family)
        };
        !transport.is_ordinary() || !cells[..at].iter().any(alike)
    };
    (0..cells.len()).filter(|at| first(*at)).map(|at| cells[at]).collect()
}

/// An entry of `held_by`: a guard, and the part of the matrix that it holds the leak in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldBy {
    /// The guard.
    pub(crate) guard: Guard,
    /// The family, where not all.
    pub(crate) family: Option<Family>,
    /// The transport, where not all.
    pub(crate) transport: Option<Transport>,
}

impl HeldBy {
    /// `GUARD`, or `PART:GUARD`, where `PART` is a family, a transport, or both with a hyphen.
    pub(crate) fn parse(text: &str) -> Option<HeldBy> {
        let (part, guard) = match text.split_once(':') {
            Some((part, guard)) => (Some(part), guard),
            None => (None, text),
        };
        let guard = Guard::ALL.into_iter().find(|known| known.word() == guard)?;
        let Some(part) = part else {
            return Some(HeldBy { guard, family: None, transport: None });
        };
        let family = Family::ALL.into_iter().find(|family| {
            part.strip_prefix(family.word()).is_some_and(|r| r.is_empty() || r.starts_with('-'))
        });
        let rest =
            family.map_or(Some(part), |family| part[family.word().len()..].strip_prefix('-'));
        let transport = match rest {
            None => None,
            Some(word) => Some(Transport::ALL.into_iter().find(|known| known.word() == word)?),
        };
        Some(HeldBy { guard, family, transport })
    }

    /// Whether it speaks of this cell.
    pub(crate) fn concerns(&self, family: Family, transport: Transport) -> bool {
        self.family.is_none_or(|only| only == family)
            && self.transport.is_none_or(|only| only == transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guard_cannot_tell_apart_is_tried_once() {
        use {Family::*, Transport::*};
        let cells = [(V4, Udp), (V4, Packet), (V4, Tcp), (V6, Udp), (V6, Packet), (V6, Tcp)];
        let each = [(V4, Udp), (V4, Packet), (V6, Udp), (V6, Packet)];
        assert_eq!(tried(Guard::NftOutput, &cells, false), each);
        let once = [(V4, Udp), (V4, Packet), (V6, Packet)];
        assert_eq!(tried(Guard::Namespace, &cells, false), once);
        assert_eq!(tried(Guard::NftOutput, &cells, true), once);
    }

    #[test]
    fn parts_are_cells_or_axes() {
        let parts = |text| HeldBy::parse(text).map(|held| (held.family, held.transport));
        assert_eq!(parts("namespace"), Some((None, None)));
        assert_eq!(parts("v4:namespace"), Some((Some(Family::V4), None)));
        assert_eq!(parts("udp-connected:vrf"), Some((None, Some(Transport::UdpConnected))));
        assert_eq!(
            parts("v6-udp-connected:vrf"),
            Some((Some(Family::V6), Some(Transport::UdpConnected)))
        );
        for broken in ["", "wall", "v5:vrf", "v4-:vrf", "v4-quic:vrf", ":vrf", "v4udp:vrf"] {
            assert_eq!(parts(broken), None, "{broken}");
        }
    }
}
