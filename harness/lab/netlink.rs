//! One routing-netlink conversation with one namespace: each request awaited, with a deadline,
//! and the kernel's own explanation where it refuses.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::{Stream, StreamExt};
use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::sys::AsyncSocket;
use rtnetlink::{Handle, LinkUnspec, MulticastGroup};
use tokio::runtime::Runtime;

/// The longest that the kernel may take for one request: a lost acknowledgement must not hang us. On a
/// machine whose processors are busy with something else it takes seconds for many at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The conversation. It stays in the namespace in which it was opened.
pub(super) struct Netlink {
    handle: Handle,
    /// What the kernel tells of its own accord.
    news: RefCell<News>,
}

type News = Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin>;

impl Netlink {
    /// Opens a conversation with the calling thread's namespace, and listens for news of `topic`.
    pub(super) fn open(runtime: &Runtime, topic: MulticastGroup) -> Result<Netlink> {
        let _guard = runtime.enter();
        let (mut connection, handle, news) = rtnetlink::new_multicast_connection(&[topic])
            .context("open a routing netlink socket")?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true).context("ask the kernel for explanations (NETLINK_EXT_ACK)")?;
        runtime.spawn(connection);
        let news: News = Box::new(news.map(|(message, _)| message));
        Ok(Netlink { handle, news: RefCell::new(news) })
    }

    /// Asks for something new: fails where it exists. `what` names the object in errors.
    pub(super) fn create(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<()> {
        self.ask(runtime, message, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, what).map(drop)
    }

    /// Asks for something new beside what exists already.
    pub(super) fn append(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<()> {
        self.ask(runtime, message, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, what).map(drop)
    }

    /// Asks for something new, or for the same in the place of what exists.
    pub(super) fn replace(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<()> {
        self.ask(runtime, message, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, what).map(drop)
    }

    /// The device with this index.
    pub(super) fn device(&self, runtime: &Runtime, index: u32, what: &str) -> Result<LinkMessage> {
        let question = LinkUnspec::new_with_index(index).build();
        match self.get(runtime, RouteNetlinkMessage::GetLink(question), what)? {
            RouteNetlinkMessage::NewLink(device) => Ok(device),
            other => Err(anyhow!("{what}: the answer is no link: {other:?}")),
        }
    }

    /// Waits until `done`, which is asked whenever the kernel has told something.
    pub(super) fn until(
        &self,
        runtime: &Runtime,
        what: &str,
        done: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            if done()? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{what}: not within {ANSWER_WITHIN:?}");
            }
            // Whatever is told next may be about this; asking again tells.
            let mut news = self.news.borrow_mut();
            let left = deadline.saturating_duration_since(Instant::now());
            let told = runtime.block_on(async { tokio::time::timeout(left, news.next()).await });
            ensure!(!matches!(told, Ok(None)), "{what}: the conversation with the kernel ended");
        }
    }

    /// Forgets what has been told until now.
    pub(super) fn forget_news(&self, runtime: &Runtime) {
        let mut news = self.news.borrow_mut();
        let mut next =
            || runtime.block_on(async { tokio::time::timeout(Duration::ZERO, news.next()).await });
        while let Ok(Some(_)) = next() {}
    }

    /// Asks for a change of something that exists.
    pub(super) fn change(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<()> {
        self.ask(runtime, message, NLM_F_ACK, what).map(drop)
    }

    /// Asks for the one answer to a question.
    pub(super) fn get(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<RouteNetlinkMessage> {
        self.ask(runtime, message, 0, what)?.ok_or_else(|| anyhow!("{what}: no answer"))
    }

    /// Asks a question that the kernel may refuse: its refusal is the error's name.
    pub(super) fn question(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Result<RouteNetlinkMessage, String>> {
        let answer = self.answers(runtime, message, 0, what)?.into_iter().next();
        match answer {
            Some(NetlinkPayload::InnerMessage(message)) => Ok(Ok(message)),
            Some(NetlinkPayload::Error(error)) if error.code.is_some() => {
                Ok(Err(crate::errno::name(-error.raw_code())))
            }
            other => Err(anyhow!("{what}: unexpected answer {other:?}")),
        }
    }

    /// Asks for every object of a kind.
    pub(super) fn list(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let answers = self.answers(runtime, message, NLM_F_DUMP, what)?;
        let objects = answers.into_iter().filter_map(|answer| match answer {
            NetlinkPayload::InnerMessage(message) => Some(Ok(message)),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                Some(Err(anyhow!("{what}: {}", explain(&error))))
            }
            _ => None,
        });
        objects.collect()
    }

    /// Waits until the kernel has told that all of these IPv6 addresses are in use. It takes them
    /// into use by a workqueue (addrconf_dad_work in net/ipv6/addrconf.c), even without duplicate
    /// address detection, and tells when it has.
    pub(super) fn addresses_in_use(
        &self,
        runtime: &Runtime,
        mut missing: BTreeSet<(u32, IpAddr)>,
        what: &str,
    ) -> Result<()> {
        let mut news = self.news.borrow_mut();
        let wait = async {
            while !missing.is_empty() {
                match news.next().await.map(|message| message.payload) {
                    Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(new))) => {
                        let addresses =
                            new.attributes.iter().filter_map(|attribute| match attribute {
                                AddressAttribute::Address(address) => Some(*address),
                                _ => None,
                            });
                        for address in addresses {
                            missing.remove(&(new.header.index, address));
                        }
                    }
                    Some(_) => {}
                    None => return false,
                }
            }
            true
        };
        match runtime.block_on(async { tokio::time::timeout(ANSWER_WITHIN, wait).await }) {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{what}: the conversation with the kernel ended"),
            Err(_) => bail!("{what}: not in use within {ANSWER_WITHIN:?}"),
        }
    }

    fn ask(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        flags: u16,
        what: &str,
    ) -> Result<Option<RouteNetlinkMessage>> {
        match self.answers(runtime, message, flags, what)?.into_iter().next() {
            None => Ok(None),
            Some(NetlinkPayload::InnerMessage(message)) => Ok(Some(message)),
            Some(NetlinkPayload::Error(error)) if error.code.is_some() => {
                Err(anyhow!("{what}: {}", explain(&error)))
            }
            Some(NetlinkPayload::Error(_) | NetlinkPayload::Done(_)) => Ok(None),
            Some(other) => Err(anyhow!("{what}: unexpected answer {other:?}")),
        }
    }

    /// The kernel's answers to a request: one, or, to a dump, all.
    fn answers(
        &self,
        runtime: &Runtime,
        message: RouteNetlinkMessage,
        flags: u16,
        what: &str,
    ) -> Result<Vec<NetlinkPayload<RouteNetlinkMessage>>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request).map_err(|error| anyhow!("{what}: {error}"))?;
        let collect = async {
            let mut all = Vec::new();
            while let Some(answer) = answers.next().await {
                all.push(answer.payload);
                if flags & NLM_F_DUMP != NLM_F_DUMP {
                    break;
                }
            }
            all
        };
        let all = runtime.block_on(async { tokio::time::timeout(ANSWER_WITHIN, collect).await });
        all.map_err(|_| anyhow!("{what}: the kernel did not answer within {ANSWER_WITHIN:?}"))
    }
}

/// The error's name and, where the kernel gave one, its explanation (netlink(7), NLMSGERR_ATTR_MSG).
fn explain(error: &ErrorMessage) -> String {
    let name = crate::errno::name(-error.raw_code());
    match explanation(&error.header) {
        Some(text) => format!("{name}: {text}"),
        None => name,
    }
}

/// The text behind the copy of the request: a list of attributes, of which type 1 is the message.
fn explanation(bytes: &[u8]) -> Option<String> {
    const MESSAGE: u16 = 1;
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let mut rest = bytes.get((usize::try_from(length).ok()? + 3) & !3..)?;
    while let [l0, l1, t0, t1, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([t0, t1]) == MESSAGE {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get((length + 3) & !3..)?;
    }
    None
}
