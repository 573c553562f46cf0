//! TLS that begins on an open connection: `Next::StartTls`. What the application does is recorded and replayed.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use herd_mio::application::recorder::{Recorder, replay};
use herd_mio::application::{
    Application, ClosedConnection, Command, ConnectionId, Dial, Due, Io, Next, Opened, Policy,
    Target, Ticket, TlsId,
};
use herd_mio::clock::Now;
use herd_mio::event_loop::{EventLoop, Limits, Mailbox};
use herd_mio::tls::{Authorities, ClientTls, Remedies, ServiceSettings};
use rcgen::KeyPair;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, crypto};

use crate::common::LIMIT;
use crate::common::sockets::wait_until_arrived;
use crate::common::tls_server::{authority, authority_params, issued, names};

const WITH: TlsId = TlsId(3);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Clear,
    Starting,
    Inside,
}

/// Dials; after a line it says some bytes in the clear and begins TLS. It reports what happens.
struct App {
    events: Sender<String>,
    commands: Vec<Command<String>>,
    with: TlsId,
    /// How many bytes it says in the clear.
    clear_bytes: usize,
    policy: Policy,
    id: Option<ConnectionId>,
    /// Begins TLS in `fill`, and not where the line came.
    starts_in_fill: bool,
    /// How many turns are to begin until it says that what a message asked for has been done.
    turns: u8,
}

impl App {
    fn report(&self, event: String) {
        let _ = self.events.send(event); // The test may have ended.
    }
}

impl Application for App {
    type Session = Stage;
    type Message = String;

    fn handle_open(&mut self, opened: Opened<'_>, io: &mut Io<'_>) -> Option<(Stage, Policy)> {
        assert_eq!(opened.tls, None);
        self.id = Some(io.id);
        Some((Stage::Clear, self.policy))
    }

    fn handle_bytes(&mut self, stage: &mut Stage, bytes: &[u8], io: &mut Io<'_>) -> Next {
        let text = String::from_utf8_lossy(bytes);
        self.report(format!("{stage:?}: {}", text.trim_end()));
        match *stage {
            Stage::Clear if self.starts_in_fill => return Next::Wait,
            Stage::Clear => {
                *stage = Stage::Starting;
                io.out.extend(std::iter::repeat_n(b'.', self.clear_bytes - 1));
                io.out.push(b'\n');
                return Next::StartTls(self.with);
            }
            Stage::Starting => {
                *stage = Stage::Inside;
                io.out.extend_from_slice(b"inside\n");
            }
            Stage::Inside if text.starts_with("again") => return Next::StartTls(self.with),
            Stage::Inside => {}
        }
        Next::Read
    }

    fn handle_end(&mut self, stage: &mut Stage, _io: &mut Io<'_>) -> Next {
        self.report(format!("{stage:?} ends"));
        Next::Finish
    }

    fn fill(&mut self, stage: &mut Stage, io: &mut Io<'_>) -> Next {
        self.report(format!("fill {stage:?}"));
        io.out.extend_from_slice(b"filled\n");
        if self.starts_in_fill && *stage == Stage::Clear {
            *stage = Stage::Starting;
            return Next::StartTls(self.with);
        }
        Next::Read
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, stage: Stage, _now: Now) {
        self.report(format!("{stage:?} closed: {:?}", closed.why));
        self.commands.push(Command::Stop);
    }

    fn handle_message(&mut self, message: String, _now: Now) {
        self.report(message);
        self.commands.extend(self.id.map(Command::Fill));
        self.turns = 2;
    }

    fn poll_timeout(&self) -> Option<Duration> {
        (self.turns > 0).then_some(Duration::ZERO)
    }

    fn handle_timeout(&mut self, _due: &mut Due<'_>) {
        self.turns = self.turns.saturating_sub(1);
        if self.turns == 0 {
            self.report("turned".to_owned());
        }
    }

    fn poll_command(&mut self) -> Option<Command<String>> {
        self.commands.pop()
    }
}

/// The certificate of "localhost", and who issued it.
struct Service {
    config: Arc<ServerConfig>,
    authority: String,
    /// A certificate that the same authority has issued, and its key.
    client: (String, String),
}

impl Service {
    fn new() -> Service {
        Service::make(false)
    }

    /// One that asks for a certificate, or not.
    fn make(asks: bool) -> Service {
        let issuer = authority(authority_params("an authority"));
        let chain = issued(names(&["localhost"]), &issuer);
        let key = KeyPair::generate().expect("a key");
        let client = names(&["a client"]).signed_by(&key, &issuer).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).expect("an authority");
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match asks {
            true => builder.with_client_cert_verifier(verifier.build().expect("an authority")),
            false => builder.with_no_client_auth(),
        };
        Service {
            config: Arc::new(chain.present(builder)),
            authority: issuer.pem(),
            client: (client.pem(), key.serialize_pem()),
        }
    }

    fn tls(&self, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
        let session = ServerConnection::new(Arc::clone(&self.config)).expect("a session");
        StreamOwned::new(session, stream)
    }
}

/// What a test starts with.
struct Start {
    authority: String,
    own: Option<(String, String)>,
    host: &'static str,
    limits: Limits,
    clear_bytes: usize,
    with: TlsId,
    policy: Policy,
    starts_in_fill: bool,
}

impl Start {
    fn trusting(service: &Service) -> Start {
        Start {
            authority: service.authority.clone(),
            own: None,
            host: "localhost",
            limits: Limits {
                handshake_timeout: LIMIT,
                output_bytes: 64 << 20,
                ..Limits::default()
            },
            clear_bytes: 6,
            with: WITH,
            policy: Policy { drains_on_stop: false, ..Policy::bytes() },
            starts_in_fill: false,
        }
    }

    /// Runs the other side with the connection until it returns, and then waits until the connection is closed. Returns what
    /// happened.
    fn run(self, other: impl FnOnce(TcpStream, &Running)) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, events) = channel();
        let again = self.app(address, channel().0);
        let (mailbox, thread) = self.spawn(address, sender);
        let stream = listener.accept().expect("a connection").0;
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let running = Running { mailbox, events, was_closed: Cell::new(false) };
        other(stream, &running);
        // The loop stops once the connection is closed, and drops its end.
        let mut all = Vec::new();
        while let Some(event) = running.poll() {
            all.push(event);
        }
        assert!(running.was_closed.get(), "it is not closed: {all:?}");
        let recording = thread.join().expect("it does not panic");
        assert!(recording.is_empty() || recording.contains("StartTls(TlsId("), "{recording}");
        let replayed = replay(&recording, again, &mut || Some("asks".to_owned()));
        assert_eq!(replayed.expect("it can be read").err(), None);
        all
    }

    fn app(&self, to: SocketAddr, events: Sender<String>) -> App {
        let dial = Dial::new(Ticket(1), Target::Address(to));
        App {
            events,
            commands: vec![Command::Dial(dial)],
            with: self.with,
            clear_bytes: self.clear_bytes,
            policy: self.policy,
            id: None,
            starts_in_fill: self.starts_in_fill,
            turns: 0,
        }
    }

    /// The loop, whose thread returns what was recorded. Nothing is of one that says much: that would take longer than the
    /// rest.
    fn spawn(
        self,
        to: SocketAddr,
        events: Sender<String>,
    ) -> (Mailbox<String>, JoinHandle<String>) {
        let app = self.app(to, events);
        match self.clear_bytes {
            0..1_000 => self.spawn_with(Recorder::new(app, Vec::new()), |recorder| {
                let recording = recorder.into_parts().1.expect("a vector takes all");
                String::from_utf8(recording).expect("ASCII")
            }),
            _ => self.spawn_with(app, |_| String::new()),
        }
    }

    fn spawn_with<A>(self, app: A, ended: fn(A) -> String) -> (Mailbox<String>, JoinHandle<String>)
    where
        A: Application<Message = String, Session = Stage> + Send + 'static,
    {
        let authorities = Authorities::from_pem(self.authority.as_bytes()).expect("an authority");
        let tls = ClientTls::of_service(ServiceSettings {
            host: self.host,
            authorities: Some(&authorities),
            own: self.own.as_ref().map(|(chain, key)| (&**chain, &**key)),
            alpn: &[],
            remedies: Remedies::default(),
        });
        let tls = tls.expect("usable settings");
        let mut event_loop = EventLoop::new(app, self.limits).expect("a loop");
        event_loop.set_client_tls(WITH, tls);
        let mailbox = event_loop.mailbox();
        let run = move || ended(event_loop.run().expect("it runs without an error").app);
        (mailbox, thread::spawn(run))
    }
}

struct Running {
    mailbox: Mailbox<String>,
    events: Receiver<String>,
    was_closed: Cell<bool>,
}

impl Running {
    fn poll(&self) -> Option<String> {
        let event = self.events.recv_timeout(LIMIT).ok()?;
        self.was_closed.set(self.was_closed.get() || event.contains("closed: "));
        Some(event)
    }

    fn next(&self) -> String {
        self.poll().expect("an event")
    }
}

/// The next line, byte by byte: nothing behind it is taken.
fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("a byte") == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

fn say(stream: &mut impl Write, text: &str) {
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).expect("it is connected");
}

#[test]
fn what_is_said_in_the_clear_goes_out_and_then_tls_begins() {
    let service = Service::new();
    let events = Start::trusting(&service).run(|mut stream, running| {
        say(&mut stream, "INFO\n");
        assert_eq!(line(&mut stream), ".....");
        let mut tls = service.tls(stream);
        assert_eq!(line(&mut tls), "inside");
        say(&mut tls, "welcome\n");
        assert_eq!(running.next(), "Clear: INFO");
        assert_eq!(running.next(), "Starting: ");
        assert_eq!(running.next(), "Inside: welcome");
        tls.conn.send_close_notify();
        tls.flush().expect("it is connected");
    });
    assert_eq!(events, ["Inside ends", "Inside closed: Finished"]);
}

/// Much more than the kernel takes at once.
#[test]
fn all_output_goes_out_before_tls_begins() {
    let service = Service::new();
    let clear_bytes = 16 << 20;
    let start = Start { clear_bytes, ..Start::trusting(&service) };
    let events = start.run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        let mut clear = vec![0; clear_bytes];
        stream.read_exact(&mut clear).expect("all of it");
        assert!(clear.iter().all(|byte| b".\n".contains(byte)));
        let mut tls = service.tls(stream);
        assert_eq!(line(&mut tls), "inside");
        drop(tls);
    });
    let expected = ["Clear: INFO", "Starting: "];
    assert_eq!(events[..2], expected);
}

/// Bytes of the application behind the last message of the handshake, all in one segment.
#[test]
fn what_comes_with_the_end_of_the_handshake_comes_after_the_call_without_bytes() {
    let service = Service::new();
    let events = Start::trusting(&service).run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        assert_eq!(line(&mut stream), ".....");
        let mut session = ServerConnection::new(Arc::clone(&service.config)).expect("a session");
        while session.read_tls(&mut stream).expect("a ClientHello") > 0 {
            session.process_new_packets().expect("a ClientHello");
            if session.wants_write() {
                break;
            }
        }
        // A server of TLS 1.3 may send before the client's last message.
        session.writer().write_all(b"early\n").expect("it fits");
        let mut flight = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut flight).expect("a vector");
        }
        stream.write_all(&flight).expect("it is connected");
        let mut tls = StreamOwned::new(session, stream);
        assert_eq!(line(&mut tls), "inside");
    });
    assert_eq!(events[..3], ["Clear: INFO", "Starting: ", "Inside: early"]);
}

#[test]
fn a_certificate_of_another_authority_closes_it() {
    let (service, other) = (Service::new(), Service::new());
    let start = Start { authority: other.authority, ..Start::trusting(&service) };
    let events = start.run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        line(&mut stream);
        let mut tls = service.tls(stream);
        let error = tls.read(&mut [0]).expect_err("no handshake");
        assert!(error.to_string().contains("fatal alert"), "the alert arrives: {error}");
    });
    assert!(events[1].starts_with("Starting closed: Tls(Certificate, "), "{events:?}");
    assert_eq!(events.len(), 2, "{events:?}");
}

#[test]
fn a_certificate_for_another_name_closes_it() {
    let service = Service::new();
    let start = Start { host: "nats.example", ..Start::trusting(&service) };
    let events = start.run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        line(&mut stream);
        service.tls(stream).read(&mut [0]).expect_err("no handshake");
    });
    assert!(events[1].starts_with("Starting closed: Tls(Certificate, "), "{events:?}");
    assert!(events[1].contains("nats.example"), "{events:?}");
}

/// In TLS 1.3 the handshake is complete for a client before the server has judged its certificate.
#[test]
fn our_certificate_is_shown_to_who_asks_for_one() {
    let service = Service::make(true);
    let own = Some(service.client.clone());
    Start { own, ..Start::trusting(&service) }.run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        line(&mut stream);
        let mut tls = service.tls(stream);
        assert_eq!(line(&mut tls), "inside");
        assert_eq!(tls.conn.peer_certificates().map(<[_]>::len), Some(1));
    });
    let events = Start::trusting(&service).run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        line(&mut stream);
        service.tls(stream).read(&mut [0]).expect_err("no handshake");
    });
    let closed = events.last().expect("it is closed");
    assert!(closed.contains("closed: Tls(Alert, "), "{events:?}");
    assert!(closed.contains("certificate"), "{events:?}");
}

#[test]
fn silence_in_place_of_a_handshake_closes_it_in_time() {
    let service = Service::new();
    let handshake_timeout = Duration::from_millis(100);
    let limits = Limits { handshake_timeout, ..Limits::default() };
    let events = Start { limits, ..Start::trusting(&service) }.run(|mut stream, _| {
        let begin = Instant::now();
        say(&mut stream, "INFO\n");
        line(&mut stream);
        while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
        assert!(begin.elapsed() >= handshake_timeout);
    });
    let why = r#"Tls(Timeout, "the TLS handshake was not complete in time")"#;
    assert_eq!(events[1], format!("Starting closed: {why}"));
}

#[test]
fn output_that_is_not_taken_keeps_tls_from_beginning_in_time() {
    let service = Service::new();
    let handshake_timeout = Duration::from_millis(100);
    let limits = Limits { handshake_timeout, output_bytes: 64 << 20, ..Limits::default() };
    let start = Start { limits, clear_bytes: 16 << 20, ..Start::trusting(&service) };
    let events = start.run(|mut stream, running| {
        say(&mut stream, "INFO\n");
        assert_eq!(running.next(), "Clear: INFO");
        let closed = running.next();
        assert!(closed.contains("TLS did not begin in time"), "{closed}");
        drop(stream);
    });
    assert_eq!(events, [""; 0]);
}

#[test]
fn plain_bytes_in_place_of_tls_close_it() {
    let service = Service::new();
    let events = Start::trusting(&service).run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        line(&mut stream);
        stream.read_exact(&mut [0; 5]).expect("the head of a record");
        say(&mut stream, "PONG\r\nPONG\r\n");
        while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
    });
    assert!(events[1].starts_with("Starting closed: Tls(Protocol, "), "{events:?}");
}

#[test]
fn an_end_within_the_handshake_closes_it() {
    let service = Service::new();
    let events = Start::trusting(&service).run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        line(&mut stream);
        stream.read_exact(&mut [0; 5]).expect("the head of a record");
        stream.shutdown(Shutdown::Write).expect("a socket");
        while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
    });
    let why = r#"Tls(Closed, "the connection was closed during the TLS handshake")"#;
    assert_eq!(events, ["Clear: INFO".to_owned(), format!("Starting closed: {why}")]);
}

/// The output is so large that TLS can't have begun when they come.
#[test]
fn bytes_or_an_end_between_the_clear_text_and_tls_break_the_connection() {
    let service = Service::new();
    let before_tls = |act: fn(&mut TcpStream)| {
        let start = Start { clear_bytes: 16 << 20, ..Start::trusting(&service) };
        let events = start.run(|mut stream, running| {
            say(&mut stream, "INFO\n");
            assert_eq!(running.next(), "Clear: INFO");
            act(&mut stream);
            wait_until_arrived(&stream);
            let mut all = 0;
            let mut into = vec![0; 1 << 16];
            while let Ok(count @ 1..) = stream.read(&mut into) {
                assert!(into[..count].iter().all(|byte| b".\n".contains(byte)), "after {all}");
                all += count;
            }
        });
        assert_eq!(events.len(), 1, "{events:?}");
        events[0].clone()
    };
    let bytes = before_tls(|stream| say(stream, "more\n"));
    let why = r#"Broken("bytes came in the clear where TLS had to begin")"#;
    assert_eq!(bytes, format!("Starting closed: {why}"));
    let end = before_tls(|stream| stream.shutdown(Shutdown::Write).expect("a socket"));
    let why = r#"Tls(Closed, "the connection was closed where TLS had to begin")"#;
    assert_eq!(end, format!("Starting closed: {why}"));
}

/// What it appended would be sent before TLS begins.
#[test]
fn a_fill_that_was_asked_for_waits_until_tls_has_begun() {
    let service = Service::new();
    let events = Start::trusting(&service).run(|mut stream, running| {
        say(&mut stream, "INFO\n");
        assert_eq!(running.next(), "Clear: INFO");
        assert_eq!(line(&mut stream), ".....");
        running.mailbox.send("asks".to_owned()).expect("it runs");
        assert_eq!(running.next(), "asks");
        assert_eq!(running.next(), "turned"); // While TLS could not go on.
        let mut tls = service.tls(stream);
        let lines = [line(&mut tls), line(&mut tls)];
        assert!(lines.contains(&"inside".to_owned()), "{lines:?}");
        assert!(lines.contains(&"filled".to_owned()), "{lines:?}");
    });
    assert!(!events.contains(&"fill Starting".to_owned()), "{events:?}");
}

#[test]
fn a_fill_may_begin_tls() {
    let service = Service::new();
    let start = Start { starts_in_fill: true, ..Start::trusting(&service) };
    let events = start.run(|mut stream, running| {
        say(&mut stream, "INFO\n");
        assert_eq!(running.next(), "Clear: INFO");
        running.mailbox.send("asks".to_owned()).expect("it runs");
        assert_eq!(line(&mut stream), "filled");
        assert_eq!(line(&mut service.tls(stream)), "inside");
    });
    let events: Vec<&str> = events.iter().map(|it| &it[..]).filter(|it| *it != "turned").collect();
    assert_eq!(events[..3], ["asks", "fill Clear", "Starting: "]);
}

#[test]
fn tls_that_can_not_begin_breaks_the_connection() {
    let service = Service::new();
    let start = Start { with: TlsId(9), ..Start::trusting(&service) };
    let events = start.run(|mut stream, _| say(&mut stream, "INFO\n"));
    assert_eq!(events[1], r#"Starting closed: Broken("no TLS has this number")"#);

    let events = Start::trusting(&service).run(|mut stream, _| {
        say(&mut stream, "INFO\n");
        line(&mut stream);
        let mut tls = service.tls(stream);
        assert_eq!(line(&mut tls), "inside");
        say(&mut tls, "again\n");
    });
    let why = r#"Inside closed: Broken("TLS has begun on this connection already")"#;
    assert_eq!(events.last().map(String::as_str), Some(why));
}

#[test]
fn a_stop_closes_one_that_drains_in_its_handshake() {
    let service = Service::new();
    let start = Start { policy: Policy::bytes(), ..Start::trusting(&service) };
    let events = start.run(|mut stream, running| {
        say(&mut stream, "INFO\n");
        line(&mut stream);
        running.mailbox.stop().expect("it runs");
        while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
    });
    let why = r#"Tls(Closed, "the TLS handshake was not complete when the loop stopped")"#;
    assert_eq!(events, ["Clear: INFO".to_owned(), format!("Starting closed: {why}")]);
}
