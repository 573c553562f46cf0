//! A server that asks a Places service, with a script in the loop's place.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use herd_mio::application::{
    Application, Closed, ClosedConnection, Command, ConnectionId, Dial, DialEvent, Due, Io, Job,
    Line, Next, Opened, Origin, TlsId,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::{Config, PlacesSettings};
use herd_mio::places::Provider;
use herd_mio::places::endpoint::Endpoint;
use herd_mio::places::key::ApiKey;
use herd_mio::server::{
    CLIENTS, Message, PLACES_TICKETS, Reconfigured, Server, ServerSetup, Session,
};

/// An answer, behind which the service closes.
pub const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{\"results\":[]}";
/// An answer, behind which the connection can be used again.
pub const KEPT_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"results\":[]}";

/// Another one.
pub const OTHER_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"results\": []}";

/// A server that asks `places.example`, and gives a query eight seconds.
pub struct World {
    pub server: Server,
    config: Config,
    pub now: Duration,
    /// What the server has asked the loop for, but for its links, and the script has not done.
    pub commands: Vec<Command<Message>>,
    /// A connection of which more is to be read.
    pub behind: Option<ConnectionId>,
    clients: HashMap<u32, Session>,
    connections: u32,
}

/// A connection with the service.
pub struct Service {
    pub id: ConnectionId,
    session: Session,
    origin: Origin,
}

impl World {
    pub fn new() -> World {
        World::of(|_| {})
    }

    pub fn with_key(key: &str) -> World {
        World::of(|config| config.places.key = ApiKey::parse(key.as_bytes()))
    }

    pub fn with_bounds(in_flight: usize, queued: usize) -> World {
        World::of(|config| {
            config.places.max_in_flight = in_flight;
            config.places.max_queued = queued;
        })
    }

    /// A server that answers by the gazetteer.
    pub fn offline() -> World {
        World::of(|config| config.places.provider_override = None)
    }

    fn of(change: impl FnOnce(&mut Config)) -> World {
        let mut config = Config::default();
        config.places.provider_override = Some(Provider::Google);
        config.places.timeout = second(8);
        let (host, path) = ("places.example".to_owned(), "/x".to_owned());
        config.places.endpoint = Endpoint { host, port: 443, path };
        change(&mut config);
        let setup = ServerSetup::plain(&config, at(Duration::ZERO));
        let server = Server::new(ServerSetup { tls: Some(TlsId(0)), ..setup });
        let mut world = World {
            server,
            config,
            now: Duration::ZERO,
            commands: Vec::new(),
            behind: None,
            clients: HashMap::new(),
            connections: 0,
        };
        assert_eq!(world.line(99, b"IAMAT kiwi +1.0+2.0 1").1, Next::Read);
        world
    }

    /// Other settings of places, with this TLS configuration.
    pub fn change_places(&mut self, tls: u16, change: impl FnOnce(&mut PlacesSettings)) {
        change(&mut self.config.places);
        let reconfigured = Reconfigured::plain(&self.config, Some(TlsId(tls)));
        self.server.reconfigure(&reconfigured, at(self.now));
        self.fetch();
    }

    /// A client says a line: the answer, and how its connection goes on.
    pub fn line(&mut self, slot: u32, line: &[u8]) -> (String, Next) {
        let now = at(self.now);
        let mut out = Vec::new();
        let mut io =
            Io::new(client(slot), CLIENT.parse().expect("an address"), now, &mut out, ROOM);
        let server = &mut self.server;
        let session = self.clients.entry(slot).or_insert_with(|| {
            let opened = Opened::plain(Origin::Accepted(CLIENTS));
            server.handle_open(opened, &mut io).expect("a client").0
        });
        let next = server.handle_line(session, Line::Whole(line), &mut io);
        self.fetch();
        (String::from_utf8(out).expect("text"), next)
    }

    /// A client asks for places within so many kilometres.
    pub fn ask(&mut self, slot: u32, radius: u32) {
        let line = format!("WHATSAT kiwi {radius} 5");
        assert_eq!(self.line(slot, line.as_bytes()), (String::new(), Next::Wait));
    }

    /// A client's connection is closed.
    pub fn leaves(&mut self, slot: u32) {
        let session = self.clients.remove(&slot).expect("it is connected");
        let service = Service { id: client(slot), session, origin: Origin::Accepted(CLIENTS) };
        self.closed(service, Closed::Finished);
    }

    /// The loop calls a client's `fill`: what it appends, and how the connection goes on.
    pub fn fill_client(&mut self, slot: u32) -> (String, Next) {
        let mut out = Vec::new();
        let peer = CLIENT.parse().expect("an address");
        let mut io = Io::new(client(slot), peer, at(self.now), &mut out, ROOM);
        let session = self.clients.get_mut(&slot).expect("it is connected");
        let next = self.server.fill(session, &mut io);
        self.fetch();
        (String::from_utf8(out).expect("text"), next)
    }

    /// The loop calls `fill` for the clients that it was asked to: who gets which answer.
    pub fn answers(&mut self) -> Vec<(u32, String)> {
        let is_client = |command: &mut Command<Message>| matches!(command, Command::Fill(id) if id.slot >= FIRST_CLIENT);
        let fills: Vec<Command<Message>> = self.commands.extract_if(.., is_client).collect();
        let slots = fills.into_iter().filter_map(|command| match command {
            Command::Fill(id) => Some(id.slot - FIRST_CLIENT),
            _ => None,
        });
        let slots: Vec<u32> = slots.filter(|slot| self.clients.contains_key(slot)).collect();
        let answers = slots.into_iter().map(|slot| {
            let (text, next) = self.fill_client(slot);
            assert_eq!(next, Next::Read);
            (slot, text)
        });
        answers.collect()
    }

    /// Fetches what the server asks the loop for, but for its links.
    fn fetch(&mut self) {
        while let Some(command) = self.server.poll_command() {
            let is_of_link =
                matches!(&command, Command::Dial(dial) if dial.ticket.0 < PLACES_TICKETS);
            if !is_of_link {
                self.commands.push(command);
            }
        }
    }

    pub fn pass(&mut self, seconds: u64) {
        self.pass_time(second(seconds));
    }

    /// Time passes, and what is due is done.
    pub fn pass_time(&mut self, time: Duration) {
        self.now += time;
        let behind = self.behind;
        let mut is_behind = |id| Some(id) == behind;
        self.server.handle_timeout(&mut Due::new(at(self.now), &mut is_behind));
        self.fetch();
    }

    /// The dials that the loop was asked for.
    pub fn dials(&mut self) -> Vec<Dial> {
        let is_dial = |command: &mut Command<Message>| matches!(command, Command::Dial(_));
        let dials: Vec<Command<Message>> = self.commands.extract_if(.., is_dial).collect();
        let dials = dials.into_iter().filter_map(|command| match command {
            Command::Dial(dial) => Some(dial),
            _ => None,
        });
        dials.collect()
    }

    /// The jobs that the loop was asked to run.
    pub fn jobs(&mut self) -> Vec<Job<Message>> {
        let is_job = |command: &mut Command<Message>| matches!(command, Command::Run(_));
        let jobs: Vec<Command<Message>> = self.commands.extract_if(.., is_job).collect();
        let jobs = jobs.into_iter().filter_map(|command| match command {
            Command::Run(job) => Some(job),
            _ => None,
        });
        jobs.collect()
    }

    /// A message comes from another thread.
    pub fn message(&mut self, message: Message) {
        self.server.handle_message(message, at(self.now));
        self.fetch();
    }

    /// News of a dial.
    pub fn event(&mut self, dial: &Dial, event: DialEvent<'_>) {
        self.server.handle_dial(dial.ticket, event, at(self.now));
        self.fetch();
    }

    /// A dial of an address fails: its handshake fails, or it can't be connected to.
    pub fn attempt_fails(&mut self, dial: &Dial, to: &str, in_handshake: bool, reason: &str) {
        let to = address(to);
        self.event(dial, DialEvent::Connecting(to));
        if in_handshake {
            self.event(dial, DialEvent::Handshaking(to));
        }
        self.event(dial, DialEvent::AttemptFailed(to, reason));
    }

    /// No address is left.
    pub fn dial_fails(&mut self, dial: &Dial) {
        self.event(dial, DialEvent::Failed("all in one text".to_owned()));
    }

    /// A dial has led to a connection, if a query still needs it.
    pub fn try_open(&mut self, dial: &Dial) -> Option<(Service, Vec<u8>)> {
        self.connections += 1;
        let id = ConnectionId { slot: self.connections, generation: 1 };
        let origin = Origin::Dialled(dial.ticket);
        let (mut out, now) = (Vec::new(), at(self.now));
        let mut io = Io::new(id, address("1.1.1.1:443"), now, &mut out, ROOM);
        let opened = self.server.handle_open(Opened::plain(origin), &mut io);
        self.fetch();
        Some((Service { id, session: opened?.0, origin }, out))
    }

    /// The same: the request goes out at once.
    pub fn open(&mut self, dial: &Dial) -> Service {
        let (service, request) = self.try_open(dial).expect("a query needs it");
        assert!(request.starts_with(b"GET /x?"));
        service
    }

    /// Answers a client after so many seconds, on a connection that is kept.
    pub fn keep(&mut self, slot: u32, seconds: u64) -> Service {
        self.ask(slot, 1);
        let dial = self.dials().remove(0);
        let mut service = self.open(&dial);
        self.pass(seconds);
        assert_eq!(self.says(&mut service, KEPT_ANSWER), Next::Read);
        assert_eq!(self.answers().len(), 1);
        service
    }

    /// The loop has room for a request on a kept connection, as it was asked to report.
    pub fn fills(&mut self, service: &mut Service) -> Next {
        let is_fill = |command: &mut Command<Message>| matches!(command, Command::Fill(id) if *id == service.id);
        assert_eq!(self.commands.extract_if(.., is_fill).count(), 1, "it was chosen");
        self.on(service, |server, session, io| server.fill(session, io)).1
    }

    /// The same, and nothing is found on it: the request.
    pub fn sends(&mut self, service: &mut Service) -> String {
        assert_eq!(self.fills(service), Next::Probe);
        let (request, next) =
            self.on(service, |server, session, io| server.handle_bytes(session, b"", io));
        assert_eq!(next, Next::Read);
        String::from_utf8(request).expect("text")
    }

    /// The service sends bytes.
    pub fn says(&mut self, service: &mut Service, bytes: &[u8]) -> Next {
        self.on(service, |server, session, io| server.handle_bytes(session, bytes, io)).1
    }

    /// The service ends its side.
    pub fn ends(&mut self, service: &mut Service) -> Next {
        self.on(service, |server, session, io| server.handle_end(session, io)).1
    }

    fn on(
        &mut self,
        service: &mut Service,
        call: impl FnOnce(&mut Server, &mut Session, &mut Io<'_>) -> Next,
    ) -> (Vec<u8>, Next) {
        let mut out = Vec::new();
        let mut io = Io::new(service.id, address("1.1.1.1:443"), at(self.now), &mut out, ROOM);
        let next = call(&mut self.server, &mut service.session, &mut io);
        self.fetch();
        (out, next)
    }

    /// The loop has closed a connection.
    pub fn closed(&mut self, service: Service, why: Closed) {
        let Service { id, session, origin } = service;
        let closed = ClosedConnection { id, peer: address("1.1.1.1:443"), origin, why: &why };
        self.server.handle_closed(closed, session, at(self.now));
        self.fetch();
    }

    pub fn held_bytes(&self, service: &Service) -> usize {
        self.server.held_bytes(&service.session)
    }

    pub fn shared_bytes(&self) -> usize {
        self.server.shared_bytes()
    }

    pub fn closes(&self, service: &Service) -> bool {
        self.commands.iter().any(|it| matches!(it, Command::Close(id) if *id == service.id))
    }

    pub fn finishes(&self, service: &Service) -> bool {
        self.commands.iter().any(|it| matches!(it, Command::Finish(id) if *id == service.id))
    }

    pub fn cancels(&self, dial: &Dial) -> bool {
        self.commands
            .iter()
            .any(|it| matches!(it, Command::Cancel(ticket) if *ticket == dial.ticket))
    }
}

fn at(elapsed: Duration) -> Now {
    Now { elapsed, wall: WallTime(1_700_000_000_000_000_000 + elapsed.as_nanos() as i128) }
}

pub fn second(number: u64) -> Duration {
    Duration::from_secs(number)
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub fn client(slot: u32) -> ConnectionId {
    ConnectionId { slot: FIRST_CLIENT + slot, generation: 1 }
}

/// Slots from here on are clients'.
const FIRST_CLIENT: u32 = 1_000;
const CLIENT: &str = "9.9.9.9:9";
const ROOM: usize = 1024 * 1024;
