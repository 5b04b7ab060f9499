//! The world that a program talks to, behind every link alike: echo, sinks, HTTP, NTP and a name
//! server at every address that the gateways own, and what gateways ask a program. Its answers are
//! the same on each link, so that only the capture can tell which way they came. It does not know
//! which link is intended.

mod ask;
mod services;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use crate::plan::{Link, Surroundings};
use crate::program::Lookup;
use services::{PORTS, Service};

pub(crate) use ask::Asking;

/// The longest request that is waited for, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// The most connections that are served at once.
const CONNECTIONS_MAX: usize = 256;
/// How many questions to the name servers are kept.
const LOOKUPS_MAX: usize = 256;
/// How late everything behind a slow link answers.
const LATE: Duration = Duration::from_millis(300);

/// The sockets of the world, before it turns.
#[derive(Default)]
pub(crate) struct Sockets(Vec<Endpoint>);

/// A socket of the world.
struct Endpoint {
    kind: Kind,
    service: Service,
    /// The link that it stands behind, by its place.
    link: usize,
    /// For a socket behind a slow link: when what has come is looked at.
    due: Option<Instant>,
}

enum Kind {
    Datagrams(UdpSocket),
    Listener(TcpListener),
    Connection(TcpStream, Vec<u8>),
}

impl Kind {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Kind::Datagrams(socket) => socket.as_fd(),
            Kind::Listener(listener) => listener.as_fd(),
            Kind::Connection(stream, _) => stream.as_fd(),
        }
    }
}

impl Sockets {
    /// Opens every service at `address`, in the calling thread's namespace: the gateway of the link
    /// at place `link`.
    pub(crate) fn open(&mut self, link: usize, address: IpAddr, sinks: &[u16]) -> Result<()> {
        let sinks = sinks.iter().map(|port| (*port, Service::Sink));
        for (port, service) in PORTS.into_iter().chain(sinks) {
            let at = SocketAddr::new(address, port);
            let datagrams = UdpSocket::bind(at).with_context(|| format!("open UDP {at}"))?;
            datagrams.set_nonblocking(true)?;
            let listener = TcpListener::bind(at).with_context(|| format!("open TCP {at}"))?;
            listener.set_nonblocking(true)?;
            for kind in [Kind::Datagrams(datagrams), Kind::Listener(listener)] {
                self.0.push(Endpoint { kind, service, link, due: None });
            }
        }
        Ok(())
    }

    /// Opens the DHCP server of the link, in the calling thread's namespace: its gateway's. It hears
    /// what is broadcast, and answers to everybody.
    pub(crate) fn open_leases(&mut self, link: usize, device: &str) -> Result<()> {
        let at = SocketAddr::from(([0, 0, 0, 0], 67));
        let socket = UdpSocket::bind(at).with_context(|| format!("open UDP {at}"))?;
        socket.set_nonblocking(true)?;
        socket.set_broadcast(true)?;
        setsockopt(&socket, sockopt::BindToDevice, &device.to_owned().into())
            .with_context(|| format!("bind the DHCP server to {device}"))?;
        let kind = Kind::Datagrams(socket);
        self.0.push(Endpoint { kind, service: Service::Leases, link, due: None });
        Ok(())
    }

    /// Serves them on a thread of its own, until the value is dropped. `target` and its address in
    /// the other family, where it has one, are those of every name.
    pub(crate) fn serve(
        self,
        targets: Vec<IpAddr>,
        surroundings: &Surroundings,
        links: &[Link],
    ) -> Result<World> {
        let (ours, theirs) = UnixStream::pair().context("make a connection")?;
        let muted = Arc::<AtomicBool>::default();
        let lookups = Arc::<Mutex<Vec<Lookup>>>::default();
        let world = Turning {
            endpoints: (0u64..).zip(self.0).collect(),
            targets,
            surroundings: surroundings.clone(),
            links: links.to_vec(),
            muted: muted.clone(),
            lookups: lookups.clone(),
        };
        let thread = std::thread::Builder::new().name("world".to_owned());
        let thread = thread.spawn(move || world.turn(&theirs)).context("start the world")?;
        Ok(World { wire: Some(ours), thread: Some(thread), muted, lookups })
    }
}

/// A world that turns until it is dropped.
pub(crate) struct World {
    wire: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    muted: Arc<AtomicBool>,
    lookups: Arc<Mutex<Vec<Lookup>>>,
}

impl World {
    /// Keeps all answers back, or gives them.
    pub(crate) fn mute(&mut self, muted: bool) -> Result<()> {
        self.muted.store(muted, Ordering::SeqCst);
        let wire = self.wire.as_mut().context("the world has ended")?;
        wire.write_all(&[0]).context("wake the world")
    }

    /// What the name servers were asked since the last call.
    pub(crate) fn lookups(&self) -> Vec<Lookup> {
        std::mem::take(&mut *self.lookups.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The other end hangs up, which the thread sees.
        self.wire = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Turning {
    endpoints: BTreeMap<u64, Endpoint>,
    targets: Vec<IpAddr>,
    surroundings: Surroundings,
    links: Vec<Link>,
    muted: Arc<AtomicBool>,
    lookups: Arc<Mutex<Vec<Lookup>>>,
}

impl Turning {
    fn turn(mut self, mut wire: &UnixStream) {
        loop {
            let muted = self.muted.load(Ordering::SeqCst);
            let now = Instant::now();
            let idle = |(_, endpoint): &(&u64, &Endpoint)| !muted && endpoint.due.is_none();
            let asked: Vec<u64> = self.endpoints.iter().filter(idle).map(|(id, _)| *id).collect();
            let mut fds = vec![PollFd::new(wire.as_fd(), PollFlags::POLLIN)];
            fds.extend(
                asked.iter().map(|id| PollFd::new(self.endpoints[id].kind.fd(), PollFlags::POLLIN)),
            );
            let due = self.endpoints.values().filter(|_| !muted).filter_map(|e| e.due).min();
            let timeout = due.map_or(PollTimeout::NONE, |due| {
                let left = due.saturating_duration_since(now).as_millis() + 1;
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
            let woken = ready(&fds[0]);
            let came: Vec<u64> = asked
                .iter()
                .zip(&fds[1..])
                .filter(|(_, fd)| ready(fd))
                .map(|(id, _)| *id)
                .collect();
            drop(fds);
            if woken && !matches!(wire.read(&mut [0; 16]), Ok(1..)) {
                return;
            }
            // Muted meanwhile: what has come waits.
            if self.muted.load(Ordering::SeqCst) {
                continue;
            }
            let now = Instant::now();
            let overdue = |e: &Endpoint| e.due.is_some_and(|due| due <= now);
            let late: Vec<u64> =
                self.endpoints.iter().filter(|(_, e)| overdue(e)).map(|(id, _)| *id).collect();
            for id in late {
                self.serve(id);
            }
            for id in came {
                let slow = &self.surroundings.slow;
                match self.endpoints.get_mut(&id) {
                    // A connection is taken at once, and what comes by it waits.
                    Some(endpoint)
                        if slow.get(endpoint.link) == Some(&true)
                            && !matches!(endpoint.kind, Kind::Listener(_)) =>
                    {
                        endpoint.due = Some(now + LATE);
                    }
                    Some(_) => self.serve(id),
                    None => {}
                }
            }
        }
    }

    /// Takes what has come by a socket, and answers it.
    fn serve(&mut self, id: u64) {
        let Some(mut endpoint) = self.endpoints.remove(&id) else { return };
        endpoint.due = None;
        let over = match &mut endpoint.kind {
            Kind::Datagrams(socket) => {
                let mut buffer = vec![0; 1 << 16];
                while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                    let answer = self.answer(endpoint.service, endpoint.link, &buffer[..count]);
                    // An answer that cannot be sent is one that is not sent: the program will ask
                    // again.
                    let everybody = SocketAddr::from((Ipv4Addr::BROADCAST, 68));
                    let to = match endpoint.service {
                        Service::Leases if from.ip().is_unspecified() => everybody,
                        _ => from,
                    };
                    drop(answer.map(|answer| socket.send_to(&answer, to)));
                }
                false
            }
            Kind::Listener(listener) => {
                while let Ok((stream, _)) = listener.accept() {
                    let connection = |e: &&Endpoint| matches!(e.kind, Kind::Connection(..));
                    let room = self.endpoints.values().filter(connection).count() < CONNECTIONS_MAX;
                    if room && stream.set_nonblocking(true).is_ok() {
                        let next = self.endpoints.last_key_value().map_or(0, |(last, _)| last + 1);
                        let next = next.max(id + 1);
                        let kind = Kind::Connection(stream, Vec::new());
                        let (service, link) = (endpoint.service, endpoint.link);
                        self.endpoints.insert(next, Endpoint { kind, service, link, due: None });
                    }
                }
                false
            }
            Kind::Connection(stream, read) => {
                self.converse(stream, read, endpoint.service, endpoint.link)
            }
        };
        if !over {
            self.endpoints.insert(id, endpoint);
        }
    }

    /// Takes what has come by a connection, and answers it. Tells whether the connection is over.
    fn converse(
        &self,
        stream: &mut TcpStream,
        read: &mut Vec<u8>,
        service: Service,
        link: usize,
    ) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
            let answer = match service {
                Service::Http => services::http(read),
                Service::Names => services::framed(read)
                    .and_then(|query| self.answer(service, link, &query))
                    .map(|answer| {
                        let length = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
                        [&length[..], &answer].concat()
                    }),
                // Each read is answered by itself, as a stream's echo may be.
                other => self.answer(other, link, &std::mem::take(read)),
            };
            if let Some(answer) = answer {
                let written = stream.write_all(&answer).is_ok();
                if !written || service == Service::Http {
                    return true;
                }
            }
            if read.len() > REQUEST_BYTES_MAX {
                return true;
            }
        }
    }

    fn answer(&self, service: Service, link: usize, asked: &[u8]) -> Option<Vec<u8>> {
        match service {
            Service::Echo => Some(asked.to_vec()),
            Service::Sink | Service::Http => None,
            Service::Time => services::time(asked),
            Service::Leases => {
                let link = self.links.get(link)?;
                let (IpAddr::V4(address), IpAddr::V4(server)) =
                    (link.address, *self.targets.first()?)
                else {
                    return None;
                };
                let prefix_length = link.prefix_length;
                services::lease(asked, &services::Lease { address, server, prefix_length })
            }
            Service::Names => {
                let (answer, questions) =
                    services::names(asked, &self.targets, &self.surroundings.names)?;
                let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
                let room = LOOKUPS_MAX.saturating_sub(lookups.len());
                lookups.extend(questions.into_iter().take(room).map(|(name, kind)| Lookup {
                    name,
                    kind,
                    link: self.links.get(link).map_or_else(String::new, |link| link.name.clone()),
                }));
                Some(answer)
            }
        }
    }
}
