//! A loop whose listeners use TLS, with a small application on it, and clients that misbehave in a handshake.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use herd_mio::application::{
    Application, ClosedConnection, Command, ConnectionId, DialEvent, Inspected, Io, Line,
    ListenerId, LoopMetrics, Next, Opened, Origin, Policy, Refused, Ticket, TlsInfo, TlsVersion,
};
use herd_mio::clock::Now;
use herd_mio::event_loop::{Change, EventLoop, Limits, Listen, Mailbox, Security, Silent, Stopped};
use herd_mio::tls::{
    ClientAuthority, ClientTls, Remedies, Revocations, ServerSettings, ServerTls, TlsStream,
};

use crate::common::LIMIT;
use crate::common::certificates::{Certificates, Issue};

pub const ID: ListenerId = ListenerId(0);

/// Answers a line with itself and a `!`; "wait" waits for the message "go". It reports what happens.
pub struct App {
    pub events: Sender<String>,
    pub policy: Policy,
    /// The message "block" blocks on this, and with it the whole loop.
    pub gate: Receiver<()>,
    pub commands: VecDeque<Command<String>>,
    /// How long the latest handshake took, in nanoseconds.
    took: u128,
    waiting: Vec<ConnectionId>,
}

impl App {
    fn report(&self, event: String) {
        let _ = self.events.send(event); // The test may have ended.
    }
}

fn shown(tls: Option<TlsInfo>) -> String {
    match tls {
        Some(TlsInfo { version, resumed: true, .. }) => format!("{} resumed", version.number()),
        Some(TlsInfo { version, .. }) => version.number().to_owned(),
        None => "plain".to_owned(),
    }
}

impl Application for App {
    type Session = Option<TlsInfo>;
    type Message = String;

    fn handle_open(
        &mut self,
        opened: Opened<'_>,
        _io: &mut Io<'_>,
    ) -> Option<(Option<TlsInfo>, Policy)> {
        let from = match opened.origin {
            Origin::Accepted(ListenerId(listener)) => format!("open at {listener}"),
            Origin::Dialled(Ticket(ticket)) => format!("dialled {ticket}"),
            Origin::Loop(_) => "a pair".to_owned(),
        };
        self.took = opened.tls.map_or(0, |tls| tls.took.as_nanos());
        let certified = if opened.certificate.is_some() { " with a certificate" } else { "" };
        self.report(format!("{from}: {}{certified}", shown(opened.tls)));
        Some((opened.tls, self.policy))
    }

    fn handle_line(&mut self, _tls: &mut Option<TlsInfo>, line: Line<'_>, io: &mut Io<'_>) -> Next {
        match line {
            Line::Whole(b"wait") => {
                self.waiting.push(io.id);
                self.report("waits".to_owned());
                return Next::Wait;
            }
            Line::Whole(text) => io.out.extend_from_slice(text),
            Line::Unfinished(text) => {
                io.out.extend_from_slice(b"unfinished ");
                io.out.extend_from_slice(text);
            }
            Line::TooLong(_) => return Next::Finish,
        }
        io.out.extend_from_slice(b"!\n");
        Next::Read
    }

    fn fill(&mut self, _tls: &mut Option<TlsInfo>, io: &mut Io<'_>) -> Next {
        io.out.extend_from_slice(b"late!\n");
        Next::Read
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, tls: Option<TlsInfo>, _now: Now) {
        self.report(format!("closed {}: {:?}", shown(tls), closed.why));
    }

    fn handle_refused(&mut self, _listener: ListenerId, why: &Refused, _now: Now) {
        let event = match why {
            Refused::Handshake(_, failure, reason) => format!("refused {failure:?}: {reason}"),
            other => format!("refused {other:?}"),
        };
        self.report(event);
    }

    fn handle_dial(&mut self, _ticket: Ticket, event: DialEvent<'_>, _now: Now) {
        self.report(format!("{event:?}"));
    }

    fn handle_inspect(
        &mut self,
        _ticket: Ticket,
        all: &mut dyn Iterator<Item = Inspected<'_, Option<TlsInfo>>>,
        _now: Now,
    ) {
        let all: Vec<String> = all
            .map(|one| {
                assert_eq!(one.tls, one.session.copied().flatten());
                let state = if one.session.is_some() { "" } else { "not open, " };
                format!("{state}{}", shown(one.tls))
            })
            .collect();
        self.report(format!("inspected {}", all.join("; ")));
    }

    fn handle_message(&mut self, message: String, _now: Now) {
        match message.as_str() {
            "block" => {
                self.report("blocks".to_owned());
                let _ = self.gate.recv();
            }
            "go" => self.commands.extend(self.waiting.drain(..).map(Command::Fill)),
            "took" => self.report(self.took.to_string()),
            "inspect" => self.commands.push_back(Command::Inspect(Ticket(9))),
            _ => self.report(message),
        }
    }

    fn poll_command(&mut self) -> Option<Command<String>> {
        self.commands.pop_front()
    }
}

/// A loop that runs.
pub struct Running {
    pub address: SocketAddr,
    pub mailbox: Mailbox<String>,
    pub events: Receiver<String>,
    pub metrics: Arc<LoopMetrics>,
    open: Sender<()>,
    thread: JoinHandle<Stopped<App>>,
}

/// What a test starts with. Change what it is about.
pub struct Start {
    pub security: Security,
    pub limits: Limits,
    pub policy: Policy,
    pub listen: fn(Listen) -> Listen,
    /// Before it runs.
    pub dials: Vec<(herd_mio::application::TlsId, ClientTls)>,
    pub commands: Vec<Command<String>>,
}

impl Start {
    /// Its handshakes have all the time that a test has.
    pub fn with(security: Security) -> Start {
        Start {
            security,
            limits: Limits { handshake_timeout: LIMIT, ..Limits::default() },
            policy: Policy::lines(100),
            listen: |listen| listen,
            dials: Vec::new(),
            commands: Vec::new(),
        }
    }

    pub fn run(self) -> Running {
        let ((sender, events), (open, gate)) = (channel(), channel());
        let (policy, commands) = (self.policy, self.commands.into());
        let app = App { events: sender, policy, gate, commands, took: 0, waiting: Vec::new() };
        let mut event_loop = EventLoop::new(app, self.limits).expect("a loop");
        for (id, tls) in self.dials {
            event_loop.set_client_tls(id, tls);
        }
        let any_port = SocketAddr::from(([0, 0, 0, 0], 0));
        let listen = Listen { security: self.security, ..Listen::on(ID, any_port) };
        let port = event_loop.listen((self.listen)(listen)).expect("a free port").port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (mailbox, metrics) = (event_loop.mailbox(), event_loop.metrics());
        let thread = thread::spawn(move || event_loop.run().expect("it runs without an error"));
        Running { address, mailbox, events, metrics, open, thread }
    }
}

impl Running {
    pub fn next(&self) -> String {
        self.events.recv_timeout(LIMIT).expect("an event")
    }

    /// The next event that begins so; earlier ones are dropped.
    pub fn await_event(&self, begin: &str) -> String {
        loop {
            let event = self.next();
            if event.starts_with(begin) {
                return event;
            }
        }
    }

    /// The next `count` events that begin so.
    pub fn await_events(&self, begin: &str, count: usize) -> Vec<String> {
        (0..count).map(|_| self.await_event(begin)).collect()
    }

    pub fn send(&self, message: &str) {
        self.mailbox.send(message.to_owned()).expect("it runs");
    }

    /// Holds the loop until [`Running::go_on`].
    pub fn block(&self) {
        self.send("block");
        self.await_event("blocks");
    }

    pub fn go_on(&self) {
        self.open.send(()).expect("it waits for this");
    }

    /// Changes the loop, and waits until it has.
    pub fn change(&self, change: Change) {
        self.mailbox.reconfigure(change, |done| format!("changed: {done:?}")).expect("it runs");
        assert_eq!(self.await_event("changed"), "changed: Ok(())");
    }

    pub fn secure(&self, security: Security) {
        self.change(Change { security: vec![(ID, security)], ..Change::default() });
    }

    pub fn wait_until(&self, what: &str, holds: impl Fn(&LoopMetrics) -> bool) {
        crate::common::wait_until(LIMIT, what, || holds(&self.metrics));
    }

    /// A connection from an address of this host.
    pub fn connect_from(&self, last: u8) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let from = SocketAddr::from(([127, 0, 0, last], 0));
        socket.bind(&from.into()).expect("every address of 127.0.0.0/8 is this host's");
        socket.connect(&self.address.into()).expect("it listens");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream
    }

    pub fn connect(&self) -> TcpStream {
        self.connect_from(1)
    }

    /// A client whose handshake is complete.
    pub fn tls(&self, tls: &ClientTls) -> TlsClient {
        self.tls_from(1, tls)
    }

    pub fn tls_from(&self, last: u8, tls: &ClientTls) -> TlsClient {
        let mut client = TlsClient::new(self.connect_from(last), tls);
        client.handshake().expect("a handshake");
        client
    }

    /// Clients that have sent the first bytes of a ClientHello.
    pub fn half_hellos(&self, last: u8, count: usize) -> Vec<TcpStream> {
        let hello = client_hello();
        let half = &hello[..hello.len() / 2];
        let connect = |_| {
            let mut stream = self.connect_from(last);
            stream.write_all(half).expect("it is connected");
            stream
        };
        (0..count).map(connect).collect()
    }

    pub fn stop(self) -> Stopped<App> {
        self.mailbox.stop().expect("it runs");
        self.stop_is_over()
    }

    /// Waits until it has stopped.
    pub fn stop_is_over(self) -> Stopped<App> {
        self.thread.join().expect("it does not panic")
    }
}

/// A client that uses TLS.
pub struct TlsClient {
    pub tls: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl TlsClient {
    pub fn new(stream: TcpStream, tls: &ClientTls) -> TlsClient {
        stream.set_nonblocking(true).expect("a socket");
        TlsClient { tls: tls.begin(stream).expect("a session"), received: Vec::new() }
    }

    /// Reads until something is returned.
    fn drive<T>(&mut self, mut done: impl FnMut(&mut TlsClient) -> Option<T>) -> io::Result<T> {
        let begin = Instant::now();
        let mut into = [0; 4096];
        loop {
            let flushed = self.tls.flush();
            if let Some(value) = done(self) {
                return Ok(value);
            }
            match flushed.and_then(|()| self.tls.read(&mut into)) {
                Ok(0) => return Err(ErrorKind::NotConnected.into()),
                Ok(count) => self.received.extend_from_slice(&into[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(begin.elapsed() < LIMIT, "nothing came");
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what TLS wants to send: at first its ClientHello.
    pub fn flush(&mut self) {
        self.tls.flush().expect("it is connected");
    }

    /// Receives what completes its handshake, and sends no more than its ClientHello.
    pub fn complete_unsent(&mut self) {
        let begin = Instant::now();
        self.flush();
        while self.tls.is_handshaking() {
            assert!(begin.elapsed() < LIMIT, "nothing came");
            let _ = self.tls.read(&mut [0; 1]); // Nothing for the application can have come.
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn handshake(&mut self) -> io::Result<()> {
        self.drive(|client| (!client.tls.is_handshaking()).then_some(()))
    }

    pub fn send(&mut self, text: &str) {
        assert_eq!(self.tls.write(text.as_bytes()).expect("it is connected"), text.len());
    }

    /// The next line, or why there is none: `NotConnected` if the other side has ended cleanly.
    pub fn line(&mut self) -> io::Result<String> {
        self.drive(|client| {
            let end = client.received.iter().position(|byte| *byte == b'\n')?;
            let line = client.received.drain(..=end).collect::<Vec<u8>>();
            Some(String::from_utf8_lossy(&line[..end]).into_owned())
        })
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\n"));
        self.line().expect("an answer")
    }

    /// Ends this side as TLS wants it, and not the stream below.
    pub fn close_notify(&mut self) {
        self.tls.close().expect("it is connected");
    }

    /// Ends the stream below and says nothing of it.
    pub fn cut(&mut self) {
        self.tls.stream().shutdown(Shutdown::Write).expect("it is connected");
    }
}

/// Asks in plain text.
pub fn ask(stream: &mut TcpStream, line: &str) -> String {
    stream.write_all(format!("{line}\n").as_bytes()).expect("it is connected");
    read_line(stream)
}

pub fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("a byte") == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// Reads until the other side ends; a reset is an end, too.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => all,
    }
}

/// What a client sends first.
pub fn client_hello() -> Vec<u8> {
    struct Sink(Vec<u8>);
    impl Read for Sink {
        fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }
    }
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tls = ClientTls::new("localhost", None, &[], Remedies::default()).expect("a host");
    let mut session = tls.begin(Sink(Vec::new())).expect("a session");
    session.flush().expect("it takes all");
    std::mem::take(&mut session.stream().0)
}

/// A server with a certificate for `localhost`.
pub struct Pki {
    pub certificates: Certificates,
}

impl Pki {
    pub fn new() -> Pki {
        Pki { certificates: Certificates::new(&["Goloman"]) }
    }

    /// Asks for no certificate.
    pub fn server(&self) -> ServerTls {
        self.server_for(&[])
    }

    /// Requires certificates that one of these authorities has issued, unless there are none.
    pub fn server_for(&self, authorities: &[&str]) -> ServerTls {
        let pem: String = authorities.iter().map(|name| self.certificates.read(name)).collect();
        let trusted = herd_mio::tls::Authorities::from_pem(pem.as_bytes()).ok();
        let revoked = &Revocations::none();
        let clients = trusted.as_ref().map(|authorities| ClientAuthority {
            authorities,
            revoked,
            required: true,
        });
        ServerTls::with(ServerSettings {
            chain: &self.certificates.read("Goloman.pem"),
            key: &self.certificates.read("Goloman.key"),
            clients,
            alpn: &[],
            min_version: TlsVersion::V1_2,
            resumes: true,
        })
        .expect("certificates")
    }

    pub fn both(&self) -> Security {
        Security::Either { tls: self.server(), silent: Silent::Open }
    }

    pub fn tls_only(&self) -> Security {
        Security::Either { tls: self.server(), silent: Silent::Refuse }
    }

    /// A client without a certificate.
    pub fn client(&self) -> ClientTls {
        let trusted = self.certificates.authorities("herd-ca.pem");
        ClientTls::new("localhost", Some(&trusted), &[], Remedies::default()).expect("a host")
    }

    /// One with a certificate, which that authority issues.
    pub fn client_of(&self, by: crate::common::certificates::By) -> ClientTls {
        let file = format!("client-{by:?}");
        self.certificates.issue(&file, Issue { by, ..Issue::server("Holiday") });
        self.client_with(&file, "herd-ca.pem")
    }

    /// One with this certificate, that trusts Goloman if these authorities do.
    pub fn client_with(&self, file: &str, authorities: &str) -> ClientTls {
        ClientTls::of_server(herd_mio::tls::PeerSettings {
            identity: &herd_mio::tls::Identity::of_server("Goloman"),
            host: "localhost",
            authorities: &self.certificates.authorities(authorities),
            revoked: &Revocations::none(),
            chain: &self.certificates.read(&format!("{file}.pem")),
            key: &self.certificates.read(&format!("{file}.key")),
            alpn: &[],
        })
        .expect("certificates")
    }
}
