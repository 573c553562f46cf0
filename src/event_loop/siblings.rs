//! Several loops in one server (`loops` in the configuration), each on a thread of its own.
//!
//! They share the clients' port, over whose listeners the kernel spreads newcomers, and nothing else:
//! each has its own connections, its own pool of those with the Places service, its own table. They keep
//! alike as servers do, over the same feed, as neighbours that are linked by a pair of sockets within
//! the process. The first loop is the server for everybody else: it alone has neighbours outside, hears
//! signals, and leaves last.
//!
//! ```text
//!      clients                clients                    neighbours
//!         |                      |                           |
//!         v                      v                           v
//!     +---------+   pairs   +---------+   links (TCP)   +---------+
//!     | Welsh/2 | <-------> |  Welsh  | <-------------> | Holiday |
//!     +---------+           +---------+                 +---------+
//! ```
//!
//! The price is that of asking another server: who tells by one connection and asks by another may meet a
//! loop that has not heard of it yet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::Waker;
use mio::net::UnixStream;

use super::EventLoop;
use super::connection::Life;
use super::start::{RunError, kernel};
use super::transport::Socket;
use crate::config::{Config, ServerConfig};
use crate::connections::Role;
use crate::errors::plain;
use crate::herd::{NeighbourId, Peer};

/// What one loop has for another.
#[derive(Debug)]
pub(super) enum Mail {
    /// The other end of a link to it, and which of its neighbours that is from.
    Link { from: NeighbourId, stream: UnixStream },
    /// The server stops.
    Stop,
    /// A further loop has ended; all must if it failed.
    Ended(Result<(), RunError>),
}

/// The way to another loop.
#[derive(Clone, Debug)]
pub(super) struct Post {
    mail: Sender<Mail>,
    waker: Arc<Waker>,
    /// Which of its neighbours we are.
    we_are: NeighbourId,
}

/// The other loops, as far as one has to do with them.
#[derive(Debug)]
pub(super) struct Siblings {
    received: Receiver<Mail>,
    /// Leads to `received`, for others.
    mail: Sender<Mail>,
    waker: Arc<Waker>,
    posts: Vec<Post>,
    /// The neighbour that `posts` begins with; those before it are other servers.
    first_neighbour: usize,
    /// Loops that this one looks after and that have not ended.
    running: usize,
    failure: Option<RunError>,
}

impl Siblings {
    pub(super) fn none(waker: Arc<Waker>) -> Siblings {
        let (mail, received) = mpsc::channel();
        let (posts, first_neighbour, running, failure) = (Vec::new(), 0, 0, None);
        Siblings { received, mail, waker, posts, first_neighbour, running, failure }
    }

    /// The next piece of mail, if there is one.
    pub(super) fn poll(&self) -> Option<Mail> {
        self.received.try_recv().ok()
    }

    /// The way to a neighbour, if it is a loop of this server.
    pub(super) fn post(&self, neighbour: NeighbourId) -> Option<Post> {
        self.posts.get(usize::from(neighbour.0).checked_sub(self.first_neighbour)?).cloned()
    }

    /// Tells those that this loop looks after to stop.
    pub(super) fn stop(&self) {
        if self.running > 0 {
            // One that has ended needs not be told.
            self.posts.iter().for_each(|post| drop(post.send(Mail::Stop)));
        }
    }

    /// Whether all have ended that this loop looks after.
    pub(super) fn have_ended(&self) -> bool {
        self.running == 0
    }

    /// Why the server can't go on, if one of its loops could not.
    pub(super) fn take_failure(&mut self) -> Option<RunError> {
        self.failure.take()
    }

    fn post_from(&self, neighbour: usize) -> Post {
        let we_are = NeighbourId(neighbour as u16);
        Post { mail: self.mail.clone(), waker: Arc::clone(&self.waker), we_are }
    }
}

impl Post {
    fn send(&self, mail: Mail) -> io::Result<()> {
        self.mail.send(mail).map_err(|_| io::Error::other("that loop has ended"))?;
        self.waker.wake()
    }
}

impl EventLoop {
    /// Starts the further loops of this server, and gets to know them. `servers` is how many
    /// neighbours of ours are other servers.
    pub(super) fn look_after(
        &mut self,
        servers: usize,
        further: Vec<EventLoop>,
    ) -> Result<(), RunError> {
        self.siblings.first_neighbour = servers;
        for mut event_loop in further {
            let home = self.siblings.post_from(servers + self.siblings.posts.len());
            event_loop.siblings.posts.push(home.clone());
            self.siblings.posts.push(event_loop.siblings.post_from(0));
            thread::Builder::new()
                .name(event_loop.server.title().to_owned())
                .spawn(move || {
                    let mut word = LastWord { home, result: None };
                    word.result = Some(event_loop.run());
                })
                .map_err(kernel("start a loop's thread"))?;
            self.siblings.running += 1;
        }
        Ok(())
    }

    /// Makes a link to another loop: a pair of sockets, of which it gets one.
    pub(super) fn dial_sibling(&mut self, neighbour: NeighbourId, to: &Post) {
        let ours = UnixStream::pair().and_then(|(ours, theirs)| {
            to.send(Mail::Link { from: to.we_are, stream: theirs })?;
            Ok(ours)
        });
        match ours {
            Ok(ours) => {
                let role = Role::Link(neighbour);
                let id = self.add(Socket::Pair(ours), WITHIN, role, Life::Connecting);
                self.server.link_connecting(neighbour, id);
            }
            // It has stopped before this one, and nobody needs to be told of that.
            Err(_) if self.stopping.is_some() => self.server.link_over(neighbour, self.now),
            Err(error) => self.server.link_failed(neighbour, &plain(&error), self.now),
        }
    }

    pub(super) fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Link { from, stream } => {
                let role = Role::Peer(Peer::Expected(from));
                self.add(Socket::Pair(stream), WITHIN, role, Life::Open);
            }
            Mail::Stop => self.stop(),
            Mail::Ended(result) => {
                self.siblings.running -= 1;
                self.siblings.failure = self.siblings.failure.take().or(result.err());
            }
        }
    }
}

/// Tells the first loop how a further one has ended, even if it was by a panic.
struct LastWord {
    home: Post,
    result: Option<Result<(), RunError>>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        let panicked = || Err(kernel("go on")(io::Error::other("one of its loops panicked")));
        let result = self.result.take().unwrap_or_else(panicked);
        crate::logging::submit();
        // The first loop may have left already; then nobody is left who must know.
        let _ = self.home.send(Mail::Ended(result));
    }
}

/// What a server's loop `number`, counted from 1, is told: its share of what is limited, and its siblings
/// as neighbours, which it dials by their titles.
pub(super) fn told(config: &Config, server: usize, number: usize) -> Config {
    let mut told = config.clone();
    for limit in [
        &mut told.limits.client_connections,
        &mut told.limits.buffer_bytes,
        &mut told.places.max_in_flight,
        &mut told.places.max_queued,
    ] {
        *limit = limit.div_ceil(config.loops);
    }
    let own = &config.servers[server];
    let siblings = match number {
        1 => 2..=config.loops,
        _ => {
            told.servers[server].neighbours.clear();
            1..=1
        }
    };
    for sibling in siblings {
        let (dial, neighbours) = (title(&own.name, sibling), Vec::new());
        let place = told.servers.len();
        told.servers[server].neighbours.push(place);
        told.servers.push(ServerConfig { advertise: dial, neighbours, ..own.clone() });
    }
    told
}

/// What the log calls a server's loop: by the server's name, and those after the first by their number,
/// too.
pub(super) fn title(server: &str, number: usize) -> String {
    match number {
        1 => server.to_owned(),
        _ => format!("{server}/{number}"),
    }
}

/// The address, for the log, of connections that have none.
const WITHIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
