//! What is spoken on the world's ports. Each takes what has come, and gives the answer to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::plan::{ATTEMPT_PORT, CONTROL_PORT};

/// How long a name may be remembered, in seconds: not at all, so that each lookup is seen.
const LIFETIME_S: u32 = 0;
/// The seconds from NTP's epoch, 1900, to 1970 (RFC 5905, section 6).
const NTP_EPOCH_S: u64 = 2_208_988_800;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Sends back what comes (RFC 862).
    Echo,
    /// Takes anything, and says nothing (RFC 863).
    Sink,
    /// Answers every request with 200.
    Http,
    /// Knows every name.
    Names,
    /// Tells the time (RFC 4330).
    Time,
    /// Leases addresses (RFC 2131).
    Leases,
}

/// What is always there.
pub(super) const PORTS: [(u16, Service); 5] = [
    (ATTEMPT_PORT, Service::Echo),
    (CONTROL_PORT, Service::Sink),
    (80, Service::Http),
    (53, Service::Names),
    (123, Service::Time),
];

/// The answer to a request, once its head is whole.
pub(super) fn http(read: &[u8]) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let head = httparse::Request::new(&mut headers).parse(read);
    match head {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => Some(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\
              Connection: close\r\n\r\nairtight\n"
                .to_vec(),
        ),
        Err(_) => Some(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
    }
}

/// The query behind its length (RFC 1035, section 4.2.2), once it is whole.
pub(super) fn framed(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([*read.first()?, *read.get(1)?]));
    let query = read.get(2..2 + length)?.to_vec();
    read.drain(..2 + length);
    Some(query)
}

/// The answer to a client's question for the time (RFC 4330, section 5).
pub(super) fn time(asked: &[u8]) -> Option<Vec<u8>> {
    const CLIENT: u8 = 3;
    const SERVER: u8 = 4;
    let version = asked.first()? & 0b0011_1000;
    if asked.len() < 48 || asked[0] & 0b111 != CLIENT {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = u32::try_from((now.as_secs() + NTP_EPOCH_S) & 0xffff_ffff).unwrap_or_default();
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    let stamp =
        [seconds, u32::try_from(fraction).unwrap_or_default()].map(u32::to_be_bytes).concat();
    // Stratum 1, poll 2^4 s, precision 2^-20 s, no delay and dispersion, the clock "LOCL".
    let mut answer = vec![version | SERVER, 1, 4, 0xec, 0, 0, 0, 0, 0, 0, 0, 0];
    answer.extend_from_slice(b"LOCL");
    answer.extend_from_slice(&stamp);
    answer.extend_from_slice(&asked[40..48]);
    answer.extend_from_slice(&stamp);
    answer.extend_from_slice(&stamp);
    Some(answer)
}

/// What a DHCP server tells a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    /// The client's address.
    pub(super) address: Ipv4Addr,
    /// The server's: where the client renews its lease.
    pub(super) server: Ipv4Addr,
    /// The length of the network's prefix, in bits.
    pub(super) prefix_length: u8,
}

/// The answer to a DHCP client's DISCOVER or REQUEST (RFC 2131, section 4.3): an OFFER or an ACK.
pub(super) fn lease(asked: &[u8], lease: &Lease) -> Option<Vec<u8>> {
    const COOKIE: [u8; 4] = [99, 130, 83, 99];
    const OPTIONS_AT: usize = 240;
    if asked.first() != Some(&1) || asked.get(236..OPTIONS_AT)? != COOKIE {
        return None;
    }
    let mut options = asked.get(OPTIONS_AT..)?;
    let mut kind = None;
    while let [code, rest @ ..] = options {
        let (length, rest) = match (*code, rest) {
            (0, rest) => (0, rest),
            (255, _) | (_, []) => break,
            (_, [length, rest @ ..]) => (usize::from(*length), rest),
        };
        if *code == 53 {
            kind = rest.first().copied();
        }
        options = rest.get(length..)?;
    }
    let answer = match kind? {
        1 => 2,
        3 => 5,
        _ => return None,
    };
    // BOOTREPLY with the client's transaction, flags and hardware address.
    let mut reply = asked[..OPTIONS_AT].to_vec();
    reply[0] = 2;
    reply[16..20].copy_from_slice(&lease.address.octets());
    let mask = u32::MAX.checked_shl(32 - u32::from(lease.prefix_length)).unwrap_or(0);
    for (code, value) in [
        (53, vec![answer]),
        (54, lease.server.octets().to_vec()),
        (51, 3600u32.to_be_bytes().to_vec()),
        (1, mask.to_be_bytes().to_vec()),
    ] {
        reply.extend([code, u8::try_from(value.len()).ok()?]);
        reply.extend(value);
    }
    reply.push(255);
    Some(reply)
}

/// A question to a name server: the name and the type of the record.
pub(super) type Question = (String, String);

/// The answer to a query, and its questions: name and type. A name has the addresses that the
/// scenario gives it, or else the target's, of the type that was asked for.
pub(super) fn names(
    query: &[u8],
    targets: &[IpAddr],
    known: &BTreeMap<String, Option<IpAddr>>,
) -> Option<(Vec<u8>, Vec<Question>)> {
    let query = simple_dns::Packet::parse(query).ok()?;
    let mut reply = simple_dns::Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    *reply.rcode_mut() = RCODE::NoError;
    let mut questions = Vec::new();
    for question in &query.questions {
        let name = question.qname.to_string().to_ascii_lowercase();
        questions.push((name.clone(), kind(question.qtype)));
        let addresses = match known.get(&name) {
            Some(None) => {
                *reply.rcode_mut() = RCODE::NameError;
                Vec::new()
            }
            Some(Some(address)) => vec![*address],
            None => targets.to_vec(),
        };
        for address in addresses {
            let data = match (question.qtype, address) {
                (QTYPE::TYPE(TYPE::A), IpAddr::V4(v4)) => RData::A(A { address: v4.to_bits() }),
                (QTYPE::TYPE(TYPE::AAAA), IpAddr::V6(v6)) => {
                    RData::AAAA(AAAA { address: v6.to_bits() })
                }
                _ => continue,
            };
            let name = question.qname.clone();
            reply.answers.push(ResourceRecord::new(name, CLASS::IN, LIFETIME_S, data));
        }
    }
    reply.questions = query.questions.clone();
    Some((reply.build_bytes_vec().ok()?, questions))
}

fn kind(kind: QTYPE) -> String {
    match kind {
        QTYPE::TYPE(kind) => format!("{kind:?}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_at_the_target_or_where_the_scenario_says() {
        let ask = |name: &'static str, kind: TYPE| {
            let mut query = simple_dns::Packet::new_query(7);
            let name = simple_dns::Name::new_unchecked(name);
            let class = simple_dns::QCLASS::CLASS(CLASS::IN);
            query.questions.push(simple_dns::Question::new(name, kind.into(), class, false));
            query.build_bytes_vec().unwrap()
        };
        let target: IpAddr = "203.0.113.9".parse().unwrap();
        let known = BTreeMap::from([
            ("gone.test".to_owned(), None),
            ("other.test".to_owned(), Some(IpAddr::from([198, 51, 100, 10]))),
        ]);
        let answer = |name, kind| {
            let (bytes, questions) = names(&ask(name, kind), &[target], &known).unwrap();
            let reply = simple_dns::Packet::parse(&bytes).unwrap();
            assert_eq!((reply.id(), questions[0].0.as_str()), (7, name));
            let addresses: Vec<u32> = reply
                .answers
                .iter()
                .map(|answer| match &answer.rdata {
                    RData::A(a) => a.address,
                    other => panic!("{other:?}"),
                })
                .collect();
            (reply.rcode() == RCODE::NoError, addresses)
        };
        assert_eq!(answer("control.test", TYPE::A), (true, vec![0xcb00_7109]));
        assert_eq!(answer("control.test", TYPE::AAAA), (true, vec![]));
        assert_eq!(answer("other.test", TYPE::A), (true, vec![0xc633_640a]));
        assert_eq!(answer("gone.test", TYPE::A), (false, vec![]));
        assert!(names(b"no query", &[target], &known).is_none());
    }

    #[test]
    fn a_request_is_answered_once_it_is_whole() {
        assert!(http(b"GET / HTTP/1.1\r\nHost: x").is_none());
        assert!(http(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().starts_with(b"HTTP/1.1 200"));
        assert!(http(b"\x16\x03\x01\0\0").unwrap().starts_with(b"HTTP/1.1 400"));
        let mut query = vec![0, 3, 0];
        assert!(framed(&mut query).is_none());
        query.extend([1, 2, 9]);
        assert_eq!((framed(&mut query), query), (Some(vec![0, 1, 2]), vec![9]));
    }

    #[test]
    fn a_lease_is_offered_and_then_acknowledged() {
        let given = Lease {
            address: Ipv4Addr::new(192, 0, 2, 17),
            server: Ipv4Addr::new(203, 0, 113, 9),
            prefix_length: 28,
        };
        let lease_of = |kind: u8| {
            let mut asked = vec![0; 240];
            asked[0] = 1;
            asked[4..8].copy_from_slice(b"xid!");
            asked[236..].copy_from_slice(&[99, 130, 83, 99]);
            asked.extend([0, 61, 2, 1, 2, 53, 1, kind, 255]);
            lease(&asked, &given)
        };
        for (asked, answered) in [(1, 2), (3, 5)] {
            let reply = lease_of(asked).unwrap();
            assert_eq!(
                (reply[0], &reply[4..8], &reply[16..20]),
                (2, &b"xid!"[..], &[192, 0, 2, 17][..])
            );
            assert_eq!(reply[240..243], [53, 1, answered]);
            assert!(reply.windows(6).any(|option| option == [1, 4, 255, 255, 255, 240]));
        }
        assert!(lease_of(7).is_none(), "a release has no answer");
        assert!(lease(b"short", &given).is_none());
    }

    #[test]
    fn the_time_is_told_to_clients_alone() {
        let mut asked = vec![0b0010_0011; 1];
        asked.resize(48, 7);
        let answer = time(&asked).unwrap();
        assert_eq!((answer.len(), answer[0], answer[1]), (48, 0b0010_0100, 1));
        assert_eq!(answer[24..32], asked[40..48], "the question's time comes back");
        asked[0] = 0b0010_0100;
        assert!(time(&asked).is_none());
        assert!(time(b"short").is_none());
    }
}
