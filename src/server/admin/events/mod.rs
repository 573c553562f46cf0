//! `/events`: what the page shows, as server-sent events. While no stream is open, nothing here costs anything.
//!
//! ```text
//!   feed, links, turns, log --each half second--> Ring (1 MiB) --fill--> stream, with its cursor
//!                                                   |
//!                    a cursor that fell behind -----+--> `state` instead: all of it again
//! ```
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | streams and times |
//! | `ring.rs` | events that wait to be taken |
//! | `contents.rs`, `state.rs` | what they say, and how it is written |
//! | `clients.rs`, `herd.rs` | the map and the graph |

mod clients;
mod contents;
mod herd;
mod ring;
mod state;

use std::time::Duration;

pub(super) use herd::HerdMap;

use super::reply::{EVENT_STREAM_HEAD, Reply};
use super::{AdminSession, OpenSession, SessionState, pace, records};
use crate::application::{ConnectionId, Io, Next};
use crate::clock::Now;
use crate::http::Get;
use crate::limits::{
    EVENT_COMMENT_INTERVAL, EVENT_INTERVAL, EVENT_LEAVE_WAIT, EVENT_STREAMS, MAP_BACK_INTERVAL,
};
use crate::server::metrics::AdminPath;
use crate::server::{Server, ServerCommand};
use clients::ClientMap;
use ring::Ring;
use state::event;

/// What the streams share, while there are any. Times are as [`Now::elapsed`] counts.
#[derive(Debug)]
pub(super) struct Events {
    streams: Vec<ConnectionId>,
    ring: Ring,
    /// None if positions are not shown.
    map: Option<ClientMap>,
    next_delta: Duration,
    next_step: Duration,
    next_comment: Duration,
    /// When the latest turn that was shown began.
    last_turn: Duration,
    /// The number of the latest record of the log that was shown.
    last_record: u64,
    /// The links that were shown last, as an event.
    links: Vec<u8>,
    /// The last event is in the ring.
    is_leaving: bool,
}

/// A session's place in the events.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The number of its next event; None before its `state`.
    next: Option<u64>,
}

impl Events {
    fn new(now: Duration) -> Events {
        Events {
            streams: Vec::new(),
            ring: Ring::default(),
            map: None,
            next_delta: now + EVENT_INTERVAL,
            next_step: now + MAP_BACK_INTERVAL,
            next_comment: now + EVENT_COMMENT_INTERVAL,
            last_turn: Duration::ZERO,
            last_record: 0,
            links: Vec::new(),
            is_leaving: false,
        }
    }

    /// When [`Server::advance_events`] must be called at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let is_behind = self.map.as_ref().is_some_and(ClientMap::is_behind);
        let next = if is_behind { self.next_delta.min(self.next_step) } else { self.next_delta };
        (!self.is_leaving).then_some(next)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.ring.bytes() + self.map.as_ref().map_or(0, ClientMap::held_bytes)
    }

    /// The configuration has changed: all streams begin again, with a `state`.
    pub(super) fn begin_anew(&mut self) {
        self.map = None;
        self.ring.skip();
    }

    /// A session is closed.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        self.streams.retain(|stream| *stream != id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

impl Server {
    /// Begins a stream, unless there are enough.
    pub(super) fn open_events(
        &mut self,
        request: &Get,
        session: &mut AdminSession,
        io: &mut Io<'_>,
    ) -> Next {
        let now = io.now.elapsed;
        let is_stopping = self.is_stopping;
        let Some(admin) = &mut self.admin else {
            return Next::Finish; // The listener was removed.
        };
        let is_head = request.method == "HEAD";
        let open = admin.events.as_ref().map_or(0, |events| events.streams.len());
        if is_stopping || open >= EVENT_STREAMS {
            let reason = match is_stopping {
                true => "the server stops\n".to_owned(),
                false => format!("too many event streams: {EVENT_STREAMS} are open\n"),
            };
            return self.write_reply(
                AdminPath::Events,
                request,
                &Reply::text(503, reason),
                session,
                io,
            );
        }
        self.metrics.count_admin_request(AdminPath::Events, 200);
        records::answered(io.peer, request, 200);
        io.out.extend_from_slice(EVENT_STREAM_HEAD.as_bytes());
        if is_head {
            return Next::Finish;
        }
        io.out.extend_from_slice(b"retry: 2000\n\n");
        admin.events.get_or_insert_with(|| Box::new(Events::new(now))).streams.push(io.id);
        if let Some(OpenSession { until, state, .. }) = admin.session(io.id) {
            (*until, *state) = (Duration::MAX, SessionState::Streaming);
        }
        session.stream = Some(Stream::default());
        self.commands.push_back(ServerCommand::Fill(io.id));
        // Its input is not read any more: a client that is gone is noticed with the next event.
        Next::Wait
    }

    /// Appends the events that a stream does not have yet, or everything if it is behind.
    pub(super) fn fill_events(&mut self, stream: &mut Stream, io: &mut Io<'_>) -> Next {
        let Some(mut events) = self.admin.as_mut().and_then(|admin| admin.events.take()) else {
            return Next::Finish; // The listener was removed.
        };
        let is_behind = stream.next.is_none_or(|next| events.ring.from(next).is_none());
        if is_behind && !events.is_leaving {
            let state = self.event_state(&mut events, io.now);
            if let Some(admin) = &mut self.admin {
                admin.pace.spend(pace::of_body(state.len()), io.now.elapsed);
            }
            io.out.extend_from_slice(&state);
        }
        let next = stream.next.get_or_insert(0);
        if is_behind {
            // Of all events that it has missed, the last one matters.
            *next = events.ring.end() - u64::from(events.is_leaving);
        }
        for event in events.ring.from(*next).into_iter().flatten() {
            if !io.has_room() {
                break;
            }
            io.out.extend_from_slice(event);
            *next += 1;
        }
        let is_done = events.is_leaving && *next >= events.ring.end();
        if let Some(admin) = &mut self.admin {
            admin.events = Some(events);
        }
        if is_done { Next::Finish } else { Next::Wait }
    }

    /// Makes the events that are due.
    pub(super) fn advance_events(&mut self, now: Now) {
        let Some(mut events) = self.admin.as_mut().and_then(|admin| admin.events.take()) else {
            return;
        };
        if events.is_empty() {
            return; // It is dropped: nobody looks.
        }
        let elapsed = now.elapsed;
        if events.poll_timeout().is_some_and(|at| at <= elapsed) {
            self.step_map(&mut events, elapsed);
            if events.next_delta <= elapsed {
                events.next_delta = elapsed + EVENT_INTERVAL;
                self.add_delta(&mut events, now);
                if events.next_comment <= elapsed {
                    events.next_comment = elapsed + EVENT_COMMENT_INTERVAL;
                    events.ring.push(b": still here\n\n".to_vec());
                }
                self.commands.extend(events.streams.iter().copied().map(ServerCommand::Fill));
            }
        }
        if let Some(admin) = &mut self.admin {
            admin.events = Some(events);
        }
    }

    fn step_map(&self, events: &mut Events, now: Duration) {
        let table = self.herd.table();
        match &mut events.map {
            Some(map) if map.is_outdated(table) => events.begin_anew(),
            Some(map) if map.is_behind() && events.next_step <= now => {
                events.next_step = now + MAP_BACK_INTERVAL;
                map.walk_back(table);
            }
            _ => {}
        }
    }

    /// The server stops: the streams get their last event, and little time for it.
    pub(in crate::server) fn leave_events(&mut self, now: Now) {
        let Some(admin) = &mut self.admin else { return };
        let Some(events) = &mut admin.events else { return };
        events.ring.push(event("leaving", &"the server stops"));
        events.is_leaving = true;
        self.commands.extend(events.streams.iter().copied().map(ServerCommand::Fill));
        for session in &mut admin.open {
            if matches!(session.state, SessionState::Streaming) {
                session.until = now.elapsed + EVENT_LEAVE_WAIT;
            }
        }
    }
}
