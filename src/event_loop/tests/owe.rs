//! Connections that are owed an answer: they are read on, and not taken for done.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::UnixStream;

use super::{add, turn};
use crate::application::{
    Application, Closed, ClosedConnection, Command, ConnectionId, Io, Line, ListenerId, Next,
    Opened, Policy,
};
use crate::clock::Now;
use crate::event_loop::state::ConnectionState;
use crate::event_loop::{EventLoop, Limits};

/// Owes an answer to "owe" until it is ready, and answers everything else at once.
#[derive(Default)]
struct Owing {
    is_ready: bool,
    takes_bytes: bool,
    commands: Vec<Command<u32>>,
    ends: usize,
    closed: Vec<Closed>,
}

impl Owing {
    fn handle(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        if input == b"owe" {
            return Next::Owe;
        }
        io.out.extend_from_slice(input);
        Next::Read
    }
}

impl Application for Owing {
    type Session = ();
    type Message = u32;

    fn handle_open(&mut self, _opened: Opened<'_>, _io: &mut Io<'_>) -> Option<((), Policy)> {
        Some(((), if self.takes_bytes { Policy::bytes() } else { Policy::lines(100) }))
    }

    fn handle_line(&mut self, _session: &mut (), line: Line<'_>, io: &mut Io<'_>) -> Next {
        self.handle(line.bytes(), io)
    }

    fn handle_bytes(&mut self, _session: &mut (), bytes: &[u8], io: &mut Io<'_>) -> Next {
        self.handle(bytes, io)
    }

    fn handle_end(&mut self, _session: &mut (), _io: &mut Io<'_>) -> Next {
        self.ends += 1;
        Next::Finish
    }

    fn fill(&mut self, _session: &mut (), io: &mut Io<'_>) -> Next {
        if !self.is_ready {
            return Next::Owe;
        }
        io.out.extend_from_slice(b"late");
        Next::Read
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, _session: (), _now: Now) {
        self.closed.push(closed.why.clone());
    }

    fn poll_command(&mut self) -> Option<Command<u32>> {
        self.commands.pop()
    }
}

struct Bed {
    event_loop: EventLoop<Owing>,
    id: ConnectionId,
    other: UnixStream,
}

impl Bed {
    /// A connection on which this was sent.
    fn new(takes_bytes: bool, sent: &[u8]) -> Bed {
        let app = Owing { takes_bytes, ..Owing::default() };
        let mut event_loop = EventLoop::new(app, Limits::default()).expect("a loop");
        let (id, other) = add(&mut event_loop);
        let mut bed = Bed { event_loop, id, other };
        bed.turns();
        bed.send(sent);
        bed
    }

    fn send(&mut self, bytes: &[u8]) {
        self.other.write_all(bytes).expect("it is connected");
        self.turns();
    }

    fn turns(&mut self) {
        (0..4).for_each(|_| turn(&mut self.event_loop));
    }

    fn fill(&mut self) {
        self.event_loop.app.commands.push(Command::Fill(self.id));
        self.turns();
    }

    /// The answer that is owed is given.
    fn pay(&mut self) {
        self.event_loop.app.is_ready = true;
        self.fill();
    }

    fn is_open(&mut self) -> bool {
        self.event_loop.connections.state(self.id) == Some(ConnectionState::Open)
    }

    /// What has come, and whether the end has.
    fn received(&mut self) -> (Vec<u8>, bool) {
        let mut received = Vec::new();
        match self.other.read_to_end(&mut received) {
            Ok(_) => (received, true),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                (received, false)
            }
        }
    }

    fn idlest(&mut self) -> Option<ConnectionId> {
        self.event_loop.connections.idlest(ListenerId(0)).map(|(_, id)| id)
    }
}

fn is_owed_nothing(bed: &mut Bed) -> bool {
    let slot = bed.event_loop.connections.slots.get_mut(bed.id).expect("it is open");
    slot.connection.is_owed_nothing
}

#[test]
fn a_stop_waits_for_an_answer_that_is_owed_and_handles_what_comes_meanwhile() {
    for takes_bytes in [false, true] {
        let mut bed = Bed::new(takes_bytes, if takes_bytes { b"owe" } else { b"owe\n" });
        bed.event_loop.stop();
        assert!(!is_owed_nothing(&mut bed), "it would be closed without lingering");
        bed.turns();
        bed.fill();
        assert!(bed.is_open() && bed.event_loop.shutdown.is_under_way());
        bed.send(b"more\n");
        assert!(matches!(bed.received(), (more, false) if more.starts_with(b"more")));
        bed.pay();
        assert_eq!(bed.received(), (b"late".to_vec(), true));
        drop(std::mem::replace(&mut bed.other, UnixStream::pair().expect("a pair").0));
        bed.turns();
        assert!(bed.event_loop.shutdown.is_over());
    }
}

#[test]
fn a_connection_that_is_released_is_closed_once_nothing_is_owed() {
    let mut bed = Bed::new(false, b"owe\n");
    bed.event_loop.app.commands.push(Command::Leave(bed.id));
    bed.turns();
    bed.fill();
    assert!(bed.is_open());
    bed.pay();
    assert_eq!(bed.received(), (b"late".to_vec(), true));
    bed.other.shutdown(Shutdown::Write).expect("it is open");
    bed.turns();
    assert_eq!(bed.event_loop.app.closed, [Closed::Drained]);
}

#[test]
fn the_end_of_the_input_is_reported_once_nothing_is_owed() {
    for takes_bytes in [false, true] {
        let mut bed = Bed::new(takes_bytes, if takes_bytes { b"owe" } else { b"owe\n" });
        bed.other.shutdown(Shutdown::Write).expect("it is open");
        bed.turns();
        bed.fill();
        assert!(bed.is_open());
        assert_eq!(bed.event_loop.app.ends, 0);
        bed.pay();
        assert_eq!(bed.event_loop.app.ends, 1);
        assert_eq!(bed.received(), (b"late".to_vec(), true));
    }
}

/// "owe" and the end of the input come together.
#[test]
fn an_answer_is_owed_from_the_line_on_that_it_belongs_to() {
    let mut bed = Bed::new(false, b"");
    bed.other.write_all(b"owe\n").expect("it is connected");
    bed.other.shutdown(Shutdown::Write).expect("it is open");
    bed.turns();
    assert!(bed.is_open());
    assert_eq!(bed.event_loop.app.ends, 0);
    bed.pay();
    assert_eq!(bed.received(), (b"late".to_vec(), true));
}

#[test]
fn only_fill_ends_what_is_owed() {
    for sent in [&b"owe\nmore\n"[..], b"owe\n"] {
        let mut bed = Bed::new(false, sent);
        bed.send(b"more\n");
        assert_eq!(bed.idlest(), None, "it does not make room for another one");
        bed.fill();
        assert_eq!(bed.idlest(), None);
        bed.pay();
        assert_eq!(bed.idlest(), Some(bed.id));
    }
}

/// The other side's stream was cut, as TLS notices: it may still read.
#[test]
fn an_answer_that_is_owed_is_given_after_the_stream_was_cut() {
    let mut bed = Bed::new(false, b"owe\nhalf a li");
    let EventLoop { connections, app, .. } = &mut bed.event_loop;
    let slot = connections.slots.get_mut(bed.id).expect("it is open");
    let cut = io::Error::from(ErrorKind::UnexpectedEof);
    slot.fail(&cut, app, &mut connections.shared);
    bed.turns();
    bed.send(b"ne\n");
    assert_eq!((bed.event_loop.app.closed.len(), bed.is_open()), (0, true));
    bed.pay();
    assert_eq!(bed.received(), (b"late".to_vec(), true), "and no part of a line");
    drop(std::mem::replace(&mut bed.other, UnixStream::pair().expect("a pair").0));
    bed.event_loop.start -= Duration::from_secs(10);
    bed.turns();
    assert!(matches!(bed.event_loop.app.closed[..], [Closed::Broken(_)]));
    assert_eq!(bed.event_loop.app.ends, 0, "a cut is no end");
}
