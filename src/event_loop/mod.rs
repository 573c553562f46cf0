//! The event loop: when. It waits for readiness, moves bytes between sockets and buffers, and
//! asks a [`Server`] what to answer. It knows lines, and nothing of what they say.
//!
//! One thread, one `EventLoop::turn` after the other:
//!
//! ```text
//!      +-----------------------------------------------------------------+
//!      v                                                                 |
//!   1 wait -> 2 note -> 3 serve -> 4 flood -> 5 flush -> 6 timers -> 7 reap -> 8 log
//!             bits,     read,      links      one write  what is     give       one piece
//!             only      frame,     read the   each       due         slots      to the
//!                       answer     feed                              back       writer
//! ```
//!
//! What it promises: sockets are registered once, for both directions and edges, and never
//! again; only the kernel's `WouldBlock` (or a short read, where that says as much) clears a
//! ready flag; a connection that used up its budget is served again next turn, without waiting;
//! a slot is given back at the end of a turn only; no line acts on another connection.

mod addresses;
mod buffers;
mod connection;
mod deadlines;
mod dialling;
mod listener;
mod memory;
mod pace;
mod places;
mod serve;
mod siblings;
mod signals;
mod slots;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod timers;
mod tls;
mod tls_records;
mod transport;
mod worker;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

pub use buffers::Buffers;
pub use connection::{Connection, Fill, Flush, Life, Ready};
pub use signals::{LIFELINE, lifeline_has_ended};
pub use start::{RunError, run, run_places};
pub use tls::{Authorities, ClientTls, ServerTls, TlsError};
pub use transport::{Socket, Transport};

use crate::clock::{Now, WallTime};
use crate::connections::{self, Command, ConnectionId, Role, Server};
use crate::errors::plain;
use crate::herd::NeighbourId;
use crate::limits::{
    CALL_EFFORT, EFFORT_PER_CLOCK_READ, HANDSHAKE_EFFORT, LINK_OUTPUT_BYTES, Limits,
};
use crate::logging::Log;
use crate::logging::rate_limit::{self, Kind};
use dialling::Dial;
use listener::Listener;
use pace::{Allowance, CaughtUp, effort_of};
use siblings::Siblings;
use signals::{Wish, Wishes};
use slots::Slots;
use stop::Stopping;
use timers::{Timer, Timers};
use worker::{Done, Job, Worker};

/// A connection, and what is on its other end.
#[derive(Debug)]
struct Entry {
    connection: Connection<Socket>,
    role: Role,
}

/// The loop and all that it looks after.
pub struct EventLoop {
    poll: Poll,
    events: Events,
    slots: Slots<Entry>,
    timers: Timers,
    buffers: Buffers,
    /// Where every read goes first; one for all connections.
    scratch: Vec<u8>,
    /// None once the server stops.
    listeners: Vec<Listener>,
    /// How we speak with the Places service, where one is asked.
    client_tls: Option<ClientTls>,
    /// Of the operator; they come to one loop of a server.
    wishes: Option<Wishes>,
    /// Looks up the neighbours' names.
    worker: Worker,
    /// Looks up the Places service's name and unpacks the gazetteer: neighbours whose names hang shall not
    /// have all threads.
    places_worker: Worker,
    /// Other loops of the same server.
    siblings: Siblings,
    server: Server,
    limits: Limits,
    log: Log,
    start: Instant,
    /// The time of this turn.
    now: Now,
    /// To be served, flushed and reaped.
    ready: VecDeque<ConnectionId>,
    dirty: VecDeque<ConnectionId>,
    dead: VecDeque<ConnectionId>,
    /// How many were ever put on the list `ready`, and how many have left it.
    queued: u64,
    served: u64,
    /// Of the present step.
    allowance: Allowance,
    /// Up to when deadlines may be judged.
    caught_up: CaughtUp,
    /// The poll of this turn began after this; none where a signal interrupted it.
    polled_after: Option<Duration>,
    /// Whether the server may have commands that there was no time for.
    has_commands: bool,
    /// The link that is the first one to be told in this turn.
    first_link: usize,
    /// How each neighbour is dialled.
    dials: Vec<Dial>,
    /// Our address on the neighbours' port, by which they know us.
    calls_from: SocketAddr,
    /// Callers that have not said who they are, the longest waiting first.
    strangers: Vec<ConnectionId>,
    /// Connections of those that are served: clients, or visitors of a Places service.
    guests: usize,
    /// Guests that the descriptors of this process suffice for.
    guests_at_most: usize,
    /// Before this, no client has been silent long enough to make room.
    nobody_silent_before: Duration,
    /// Memory of all connections' buffers.
    buffered: usize,
    stopping: Option<Stopping>,
}

impl EventLoop {
    /// One turn. The steps bear the numbers that they have in `docs/the-loop.md`.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?; // 1
        self.note(); // 2
        self.serve(); // 3
        self.flood(); // 4
        self.flush(); // 5
        self.handle_timers(); // 6
        self.reap(); // 7
        self.record(); // 8
        Ok(())
    }

    /// Step 1. Waits for readiness, a wake-up or the nearest deadline; not at all if work was left.
    fn wait(&mut self) -> io::Result<()> {
        let timeout = if self.has_work() {
            Some(Duration::ZERO)
        } else {
            let deadlines = self.timers.next().into_iter().chain(self.server.poll_timeout());
            deadlines.min().map(|at| at.saturating_sub(self.start.elapsed()).min(LONGEST_WAIT))
        };
        self.polled_after = Some(self.now.elapsed);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            // A wait that a signal interrupted has brought nothing, whatever it left behind.
            Err(_) => {
                self.events.clear();
                self.polled_after = None;
            }
            Ok(()) => {}
        }
        self.now = moment(self.start);
        Ok(())
    }

    /// Whether something is to be done that no event will announce.
    fn has_work(&self) -> bool {
        let accepting = |listener: &Listener| listener.is_ready && !listener.is_paused;
        !self.ready.is_empty()
            || !self.dirty.is_empty()
            || !self.dead.is_empty()
            || self.has_commands
            || self.listeners.iter().any(accepting)
    }

    /// Step 2. Notes what the kernel said, and does nothing else with it.
    fn note(&mut self) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut count = 0;
        for event in &events {
            count += 1;
            match event.token() {
                Token(which @ 0..LISTENERS) => self.note_listener(which),
                WAKER => {}
                SIGNALS => self.note_wishes(Wishes::signals),
                LIFELINE_PIPE => self.note_wishes(Wishes::lifeline),
                token => self.note_connection(slots::connection(token), event),
            }
        }
        self.events = events;
        if let Some(begun) = self.polled_after {
            let sockets = self.slots.len() + OWN_TOKENS;
            self.caught_up.polled(begun, count, sockets, self.queued);
        }
    }

    fn note_listener(&mut self, which: usize) {
        if let Some(listener) = self.listeners.get_mut(which) {
            listener.is_ready = true;
        }
    }

    fn note_wishes(&mut self, pending: impl Fn(&mut Wishes) -> Vec<Wish>) {
        for wish in self.wishes.as_mut().map(pending).unwrap_or_default() {
            match wish {
                Wish::ReopenLog => self.log.reopen(),
                Wish::Stop => self.stop_by_signal(),
                Wish::LifelineEnded => self.stop(),
            }
        }
    }

    fn note_connection(&mut self, id: ConnectionId, event: &Event) {
        let Some(entry) = self.slots.get_mut(id) else {
            return; // It was closed, and the event is late.
        };
        let ready = &mut entry.connection.ready;
        // Error and closed are hints: the next read or write will tell.
        let broken = event.is_error();
        ready.readable |= event.is_readable() || event.is_read_closed() || broken;
        ready.read_closed |= event.is_read_closed() || broken;
        ready.has_urgent |= event.is_priority();
        ready.writable |= event.is_writable() || event.is_write_closed() || broken;
        let is_flushed_when_served =
            matches!(entry.role, Role::Client(_)) && entry.connection.life == Life::Open;
        self.queue_serve(id);
        if !is_flushed_when_served {
            self.queue_flush(id);
        }
    }

    /// Step 4. Each link that lags behind the feed copies from it while it has room.
    fn flood(&mut self) {
        let mut links = self.links_with_room();
        if links.is_empty() {
            return;
        }
        self.allowance = Allowance::new(self.start);
        // Whom there was no time for is the first one next turn.
        let first = self.first_link % links.len();
        links.rotate_left(first);
        for (nth, (neighbour, id)) in links.into_iter().enumerate() {
            if let Some(Entry { connection, .. }) = self.slots.get_mut(id) {
                let full = connection.sent() + LINK_OUTPUT_BYTES;
                let output = connection.queue(&mut self.buffers);
                let before = output.len();
                self.server.poll_link(neighbour, full, self.now, output);
                let effort = CALL_EFFORT + effort_of(output.len() - before);
                self.queue_flush(id);
                if !self.allowance.spend(effort) {
                    self.first_link = first + nth + 1;
                    break;
                }
            }
        }
    }

    /// The links that have something to be told and room for it. One without room goes on when
    /// the kernel has taken some of its output.
    fn links_with_room(&mut self) -> Vec<(NeighbourId, ConnectionId)> {
        let mut links: Vec<_> = self.server.lagging_links().collect();
        links.retain(|(_, id)| {
            self.slots.get_mut(*id).is_some_and(|Entry { connection, .. }| {
                connection.life == Life::Open && connection.unsent() < LINK_OUTPUT_BYTES
            })
        });
        links
    }

    fn handle_done(&mut self, done: Done) {
        match done {
            Done::Resolved { neighbour, result } => self.resolved(neighbour, result),
            Done::Gazetteer(gazetteer) => self.server.gazetteer_unpacked(gazetteer),
            Done::PlacesResolved(result) => self.places_resolved(result),
            Done::Failed { job: Job::ResolvePlaces { .. }, error } => {
                self.places_resolved(Err(error));
            }
            Done::Failed { job: Job::Resolve { neighbour, .. }, error } => {
                self.resolved(neighbour, Err(error));
            }
            Done::Failed { job: Job::UnpackGazetteer, error } => {
                self.server.gazetteer_failed(&plain(&error));
            }
        }
    }

    /// Does all that the server asked for, as far as there is time: after the lines, so that what it has
    /// to say to others goes out with the same flush, and after the timers.
    fn obey_all(&mut self) {
        self.allowance = Allowance::new(self.start);
        self.has_commands = true;
        while self.allowance.is_left() {
            let Some(command) = self.server.poll_command() else {
                self.has_commands = false;
                return;
            };
            let effort = match &command {
                Command::Deliver { body, .. } => CALL_EFFORT + effort_of(body.len()),
                Command::OpenPlaces { .. } => HANDSHAKE_EFFORT,
                _ => EFFORT_PER_CLOCK_READ,
            };
            self.obey(command);
            self.allowance.spend(effort);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Dial { neighbour, address } => self.dial(neighbour, address),
            Command::Called { neighbour, from } => self.neighbour_called(neighbour, from),
            Command::LookUp { neighbour, address } => self.look_up_again(neighbour, address),
            Command::LinkUp(neighbour) => self.link_is_up(neighbour),
            Command::Close(id) => self.kill(id),
            Command::Finish(id) => self.finish(id),
            Command::UnpackGazetteer => self.places_worker.start(Job::UnpackGazetteer),
            Command::ResolvePlaces { host, port } => {
                self.places_worker.start(Job::ResolvePlaces { host, port });
            }
            Command::OpenPlaces { query, address } => self.open_places(query, address),
            Command::AskOn(kept) => self.ask_on(kept),
            Command::Deliver { to, body } => {
                if !self.make_room_for(body.len()) {
                    let reason = "all buffers together are full, and its answer is too large";
                    return self.give_up(to, Kind::BuffersFull, reason);
                }
                let Some(Entry { connection, role: Role::Client(client) }) = self.slots.get_mut(to)
                else {
                    return; // The client has left.
                };
                let peer = connection.peer;
                let output = connection.queue(&mut self.buffers);
                self.server.deliver(client, peer, &body, output);
                // At once: what the kernel takes need not wait in memory.
                self.flush_connection(to);
                self.queue_serve(to);
            }
        }
    }

    /// Step 7. Gives back the slots of connections that are dead.
    fn reap(&mut self) {
        self.allowance = Allowance::new(self.start);
        while self.allowance.spend(CALL_EFFORT)
            && let Some(id) = self.dead.pop_front()
        {
            let Some(mut entry) = self.slots.remove(id) else {
                continue;
            };
            self.timers.clear_all(id);
            self.buffered -= entry.connection.counted;
            self.guests -= usize::from(entry.role.is_guest());
            let peer = entry.connection.peer;
            match entry.role {
                Role::Link(neighbour) if self.server.link_being_made(neighbour) == Some(id) => {
                    self.attempt_failed(neighbour, "the connection ended before RESUME came");
                }
                ref mut role => {
                    self.server.closed(connections::Connection { id, role, peer }, self.now);
                }
            }
            self.resume_accepting();
        }
        self.leave_if_done();
    }

    /// Step 8. Hands the turn's records over. Where warnings were suppressed, a timer says their number
    /// if no other warning of their kind does.
    fn record(&mut self) {
        if let Some(time) = rate_limit::until_rest() {
            self.timers.set_once(Timer::Suppressed, self.now.elapsed + time);
        }
        self.log.submit();
    }

    /// Puts a connection on the list of those that are served next.
    fn queue_serve(&mut self, id: ConnectionId) {
        if let Some(Entry { connection, .. }) = self.slots.get_mut(id)
            && !std::mem::replace(&mut connection.is_queued, true)
        {
            self.ready.push_back(id);
            self.queued += 1;
        }
    }

    /// Puts a connection on the list of those that are flushed next.
    fn queue_flush(&mut self, id: ConnectionId) {
        if let Some(Entry { connection, .. }) = self.slots.get_mut(id)
            && !std::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push_back(id);
        }
    }

    /// No further byte of a connection is handled; what is queued goes out, and then it is closed.
    fn finish(&mut self, id: ConnectionId) {
        if let Some(Entry { connection, .. }) = self.slots.get_mut(id) {
            connection.finish();
            self.queue_flush(id);
        }
    }

    /// Nothing more happens on a connection; its slot is given back at the end of the turn.
    fn kill(&mut self, id: ConnectionId) {
        if let Some(Entry { connection, .. }) = self.slots.get_mut(id)
            && connection.life != Life::Dead
        {
            connection.life = Life::Dead;
            self.dead.push_back(id);
        }
    }

    /// Takes a socket in: gives it a slot and registers it, once and for all.
    fn add(&mut self, socket: Socket, peer: SocketAddr, role: Role, life: Life) -> ConnectionId {
        let mut connection = Connection::new(socket, peer, life, self.now.elapsed);
        let id = self.slots.next_id();
        let source = connection.transport.source();
        let registered = self.poll.registry().register(source, slots::token(id), INTEREST);
        let is_late = role.is_guest() && self.stopping.is_some();
        self.guests += usize::from(role.is_guest());
        self.slots.insert(Entry { connection, role });
        self.count_buffers(id);
        if let Err(error) = registered {
            let reason = plain(&error);
            rate_limit::warn(
                Kind::NotWatched,
                format_args!("{peer} can't be watched, so it is disconnected: {reason}"),
            );
            self.kill(id);
        } else if is_late {
            self.drain(id);
        }
        id
    }
}

/// The time, by both clocks.
fn moment(start: Instant) -> Now {
    let since_1970 = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    Now { elapsed: start.elapsed(), wall: WallTime(since_1970) }
}

/// Both directions, and word of urgent data where a short read is trusted: it would be wrong then.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);
/// The kernel counts a wait's milliseconds in 32 bits.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
/// Tokens of what is not a connection: their generation is 0. The first ones are the listeners'.
const LISTENERS: usize = 2;
const WAKER: Token = Token(LISTENERS);
const SIGNALS: Token = Token(LISTENERS + 1);
const LIFELINE_PIPE: Token = Token(LISTENERS + 2);
const OWN_TOKENS: usize = LISTENERS + 3;
