//! Proxy: each client gets its own connection to a server; bytes and ends pass in both directions, with back-pressure.
//! Try it: `cargo run --example proxy 4003 localhost:4001` beside an echo, and `nc localhost 4003`.

use std::collections::{HashMap, VecDeque};

use herd_mio::application::{
    Application, ClosedConnection, Command, ConnectionId, Dial, DialEvent, Io, ListenerId, Never,
    Next, Opened, Origin, Policy, Target, Ticket,
};
use herd_mio::clock::Now;
use herd_mio::event_loop::{EventLoop, Limits, Listen};

#[derive(Default)]
struct Proxy {
    server: String,
    pairs: HashMap<Ticket, [Side; 2]>,
    last: u64,
    commands: VecDeque<Command<Never>>,
}

/// One side of a pair.
#[derive(Default)]
struct Side {
    id: Option<ConnectionId>,
    /// Bytes that it sent and that the other side has not received.
    pipe: Vec<u8>,
    has_ended: bool,
}

/// The pair, and the side: 0 is the client.
type Session = (Ticket, usize);

impl Proxy {
    fn wake(&mut self, pair: Ticket, which: usize) {
        let id = self.pairs.get(&pair).and_then(|sides| sides[which].id);
        self.commands.extend(id.map(Command::Fill));
    }
}

impl Application for Proxy {
    type Session = Session;
    type Message = Never;

    fn handle_open(&mut self, opened: Opened<'_>, io: &mut Io<'_>) -> Option<(Session, Policy)> {
        let session = match opened.origin {
            Origin::Dialled(ticket) => (ticket, 1),
            _ => {
                self.last += 1;
                let ticket = Ticket(self.last);
                self.pairs.insert(ticket, Default::default());
                let to = Target::Name(self.server.clone());
                self.commands.push_back(Command::Dial(Dial::new(ticket, to)));
                (ticket, 0)
            }
        };
        self.pairs.get_mut(&session.0)?[session.1].id = Some(io.id);
        self.commands.push_back(Command::Fill(io.id)); // The other side may have sent something already.
        Some((session, Policy { reads_when_full: true, ..Policy::bytes() }))
    }

    fn handle_bytes(&mut self, session: &mut Session, bytes: &[u8], _io: &mut Io<'_>) -> Next {
        let &mut (pair, which) = session;
        let Some(sides) = self.pairs.get_mut(&pair) else { return Next::Finish };
        sides[which].pipe.extend_from_slice(bytes);
        let is_full = sides[which].pipe.len() >= PIPE_BYTES;
        self.wake(pair, 1 - which);
        if is_full { Next::Wait } else { Next::Read }
    }

    fn handle_end(&mut self, &mut (pair, which): &mut Session, _io: &mut Io<'_>) -> Next {
        let Some(sides) = self.pairs.get_mut(&pair) else { return Next::Finish };
        sides[which].has_ended = true;
        self.wake(pair, 1 - which);
        Next::Read // Its output may continue.
    }

    fn fill(&mut self, &mut (pair, which): &mut Session, io: &mut Io<'_>) -> Next {
        let Some(sides) = self.pairs.get_mut(&pair) else { return Next::Finish };
        let other = &mut sides[1 - which];
        let was_full = other.pipe.len() >= PIPE_BYTES;
        io.out.append(&mut other.pipe);
        let other_has_ended = other.has_ended;
        if other_has_ended {
            io.end_output();
        }
        let Side { pipe, has_ended, .. } = &sides[which];
        let (is_over, is_full) = (other_has_ended && *has_ended, pipe.len() >= PIPE_BYTES);
        if was_full {
            self.wake(pair, 1 - which); // Its pipe is empty again: continue to read.
        }
        match (is_over, is_full) {
            (true, _) => Next::Finish,
            (false, true) => Next::Wait,
            (false, false) => Next::Read,
        }
    }

    fn handle_dial(&mut self, ticket: Ticket, event: DialEvent<'_>, _now: Now) {
        if let DialEvent::Failed(reason) = event {
            eprintln!("can't connect to {}: {reason}", self.server);
            let client = self.pairs.remove(&ticket).and_then(|sides| sides[0].id);
            self.commands.extend(client.map(Command::Finish));
        }
    }

    fn handle_closed(&mut self, _: ClosedConnection<'_>, (pair, which): Session, _now: Now) {
        self.commands.push_back(Command::Cancel(pair));
        let other = self.pairs.remove(&pair).and_then(|sides| sides[1 - which].id);
        self.commands.extend(other.map(Command::Finish));
    }

    fn held_bytes(&self, (pair, which): &Session) -> usize {
        self.pairs.get(pair).map_or(0, |sides| sides[*which].pipe.len())
    }

    fn poll_command(&mut self) -> Option<Command<Never>> {
        self.commands.pop_front()
    }
}

const PIPE_BYTES: usize = 64 << 10;

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).map_or(4003, |port| port.parse().expect("a port"));
    let server = std::env::args().nth(2).unwrap_or("localhost:4001".into());
    let mut event_loop = EventLoop::new(Proxy { server, ..Proxy::default() }, Limits::default())?;
    let address = event_loop.listen(Listen::on(ListenerId(0), ([127, 0, 0, 1], port).into()))?;
    println!("listening on {address}");
    event_loop.run().map(drop)
}
