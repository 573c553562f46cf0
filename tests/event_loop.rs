//! Claim: the event loop alone, with a small application on it, keeps its promises when peers or the
//! application misbehave.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use herd_mio::application::{
    Application, ClosedConnection, Command, Dial, DialEvent, Io, Job, Line, ListenerId, LoopId,
    LoopMetrics, Next, Opened, Origin, Policy, Target, Ticket, TlsId,
};
use herd_mio::clock::Now;
use herd_mio::event_loop::{EventLoop, Limits, Listen, Mailbox, Stopped};
use herd_mio::tls::{Authorities, ClientTls, Remedies, ServerTls, TlsStream};

/// Answers a line with as many bytes as it asks for, and reports events.
struct App {
    commands: Vec<Command<String>>,
    events: Sender<String>,
    asks_for_fills: bool,
    cancels_in_handshake: bool,
    shortens_its_output: bool,
    /// The line "wait" blocks on this, and with it the whole loop.
    gate: Option<Receiver<()>>,
    fills: usize,
    messages: u64,
}

impl App {
    fn new(commands: Vec<Command<String>>) -> (App, Receiver<String>) {
        let (sender, events) = channel();
        let app = App {
            commands,
            events: sender,
            asks_for_fills: false,
            cancels_in_handshake: false,
            shortens_its_output: false,
            gate: None,
            fills: 0,
            messages: 0,
        };
        (app, events)
    }

    fn report(&self, event: String) {
        let _ = self.events.send(event); // The test may have ended.
    }
}

impl Application for App {
    type Session = ();
    type Message = String;

    fn handle_open(&mut self, opened: Opened<'_>, io: &mut Io<'_>) -> Option<((), Policy)> {
        if !matches!(opened.origin, Origin::Accepted(_)) {
            self.report(format!("{:?} open", opened.origin));
            io.out.extend_from_slice(b"1\n");
        }
        Some(((), Policy::lines(100)))
    }

    fn handle_line(&mut self, _session: &mut (), line: Line<'_>, io: &mut Io<'_>) -> Next {
        let Line::Whole(text) = line else { return Next::Finish };
        let text = String::from_utf8_lossy(text);
        if text.is_empty() {
            return Next::Read; // Otherwise two loops would answer each other forever.
        }
        if let (true, Some(gate)) = (text == "wait", &self.gate) {
            self.report("waits".to_owned());
            let _ = gate.recv();
        }
        if self.shortens_its_output {
            io.out.clear();
        }
        io.out.extend(std::iter::repeat_n(b'x', text.parse().unwrap_or_default()));
        io.out.push(b'\n');
        if self.asks_for_fills {
            let id = io.id;
            self.commands.extend((0..3).map(|_| Command::Fill(id)));
        }
        Next::Read
    }

    fn fill(&mut self, _session: &mut (), _io: &mut Io<'_>) -> Next {
        self.fills += 1;
        Next::Read
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, _session: (), _now: Now) {
        self.report(format!("{:?}", closed.why));
    }

    fn handle_dial(&mut self, ticket: Ticket, event: DialEvent<'_>, _now: Now) {
        if self.cancels_in_handshake && matches!(event, DialEvent::Handshaking(_)) {
            self.commands.push(Command::Cancel(ticket));
        }
        self.report(format!("{event:?}"));
    }

    fn handle_message(&mut self, message: String, _now: Now) {
        self.messages += 1;
        if !message.is_empty() {
            self.report(message);
        }
    }

    fn poll_command(&mut self) -> Option<Command<String>> {
        self.commands.pop()
    }
}

struct Running {
    address: SocketAddr,
    mailbox: Mailbox<String>,
    thread: JoinHandle<Stopped<App>>,
}

fn event_loop(app: App, limits: Limits) -> (EventLoop<App>, SocketAddr) {
    let mut event_loop = EventLoop::new(app, limits).expect("a loop");
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = event_loop.listen(Listen::on(ListenerId(0), any_port)).expect("a port");
    (event_loop, address)
}

fn run(app: App, limits: Limits) -> Running {
    let (event_loop, address) = event_loop(app, limits);
    start(event_loop, address)
}

fn start(event_loop: EventLoop<App>, address: SocketAddr) -> Running {
    let mailbox = event_loop.mailbox();
    let thread = thread::spawn(move || event_loop.run().expect("the loop runs without an error"));
    Running { address, mailbox, thread }
}

impl Running {
    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        BufReader::new(stream)
    }

    fn stop(self) -> App {
        self.mailbox.stop().expect("it runs");
        self.thread.join().expect("it does not panic").app
    }
}

/// How long the loop reads from a connection that it has closed on its side.
const LINGER: Duration = Duration::from_secs(1);
/// How long a test waits for what must happen, even on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

fn next(events: &Receiver<String>) -> String {
    events.recv_timeout(LIMIT).expect("an event")
}

/// The next event that begins with `begin`; earlier ones are dropped.
fn await_event(events: &Receiver<String>, begin: &str) -> String {
    loop {
        let event = next(events);
        if event.starts_with(begin) {
            return event;
        }
    }
}

fn ask(stream: &mut BufReader<TcpStream>, count: usize) -> usize {
    stream.get_mut().write_all(format!("{count}\n").as_bytes()).expect("a write");
    stream.read_line(&mut String::new()).expect("an answer")
}

fn job(run: impl FnOnce() -> String + Send + 'static) -> Command<String> {
    let failed = Box::new(|why| format!("failed: {why}"));
    Command::Run(Job { name: "job", run: Box::new(run), failed })
}

#[test]
fn a_job_that_panics_fails_and_the_loop_and_other_jobs_continue() {
    let commands = vec![job(|| "well".to_owned()), job(|| panic!("out of luck"))];
    let (app, events) = App::new(commands);
    let running = run(app, Limits::default());
    let mut both = [next(&events), next(&events)];
    both.sort();
    assert_eq!(both, ["failed: its thread panicked: out of luck", "well"]);
    assert_eq!(ask(&mut running.connect(), 1), 2);
    running.stop();
}

/// Both loops count time from their own start.
#[test]
fn a_stuck_loop_is_noticed_from_another_thread_by_how_long_its_turn_lasts() {
    let (app, events) = App::new(Vec::new());
    let (release, gate) = channel();
    let (event_loop, address) = event_loop(App { gate: Some(gate), ..app }, Limits::default());
    let metrics = event_loop.metrics();
    let began = Instant::now();
    let reader = LoopMetrics::new(began);
    let busy_for = || metrics.busy_for(&reader, began.elapsed());
    let running = start(event_loop, address);
    let mut client = running.connect();
    assert_eq!(ask(&mut client, 1), 2);
    await_that(|| busy_for().is_none(), "the loop waits");
    let (asked, limit) = (Instant::now(), Duration::from_millis(50));
    client.get_mut().write_all(b"wait\n").expect("a write");
    assert_eq!(await_event(&events, "waits"), "waits");
    await_that(|| busy_for() >= Some(limit), "it is seen to be stuck");
    assert!(asked.elapsed() >= limit, "{:?}", asked.elapsed());
    assert!(busy_for() <= Some(began.elapsed()));
    release.send(()).expect("it waits for this");
    await_that(|| busy_for().is_none(), "the loop waits again");
    running.stop();
}

fn await_that(is_true: impl Fn() -> bool, what: &str) {
    let until = Instant::now() + LIMIT;
    while !is_true() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_flood_of_messages_delays_nobody_and_none_is_lost() {
    let (app, _events) = App::new(Vec::new());
    let running = run(app, Limits::default());
    let mut client = running.connect();
    let is_over = std::sync::Arc::new(AtomicBool::new(false));
    let (mailbox, ends) = (running.mailbox.clone(), std::sync::Arc::clone(&is_over));
    let flood = thread::spawn(move || {
        let mut sent = 0;
        while !ends.load(Ordering::Relaxed) {
            mailbox.send(String::new()).expect("it runs");
            sent += 1;
            thread::yield_now();
        }
        sent
    });
    (0..200).for_each(|_| assert_eq!(ask(&mut client, 1), 2));
    is_over.store(true, Ordering::Relaxed);
    let sent: u64 = flood.join().expect("it does not panic");
    let app = running.stop(); // The stop is behind the messages in the same channel.
    assert_eq!(app.messages, sent);
}

#[test]
fn when_buffers_are_full_the_largest_is_closed() {
    let limits = Limits { buffer_bytes: 8 << 20, output_bytes: 64 << 20, ..Limits::default() };
    let (app, events) = App::new(Vec::new());
    let running = run(app, limits);
    let (mut modest, mut greedy) = (running.connect(), running.connect());
    greedy.get_mut().write_all("1000000\n".repeat(30).as_bytes()).expect("a write");
    assert_eq!(next(&events), "OutOfMemory");
    (0..100).for_each(|_| assert_eq!(ask(&mut modest, 1000), 1001));
    let mut all = Vec::new();
    let _ = greedy.read_to_end(&mut all); // A reset, perhaps.
    assert!(all.len() < 30_000_000);
    running.stop();
}

#[test]
fn fill_is_called_once_per_turn_however_often_it_is_requested() {
    let (mut app, _events) = App::new(Vec::new());
    app.asks_for_fills = true;
    let running = run(app, Limits::default());
    let mut client = running.connect();
    (0..100).for_each(|_| assert_eq!(ask(&mut client, 1), 2));
    let fills = running.stop().fills;
    assert!((99..=101).contains(&fills), "{fills}");
}

#[cfg(debug_assertions)]
#[test]
fn shortening_the_output_is_caught_where_debug_assertions_are_on() {
    let (mut app, _events) = App::new(Vec::new());
    app.shortens_its_output = true;
    let running = run(app, Limits::default());
    let mut client = running.connect();
    // The first answer is not sent yet when the second one is made.
    client.get_mut().write_all(b"9\n1\n").expect("a write");
    let Err(panic) = running.thread.join() else {
        panic!("the application's mistake was not caught")
    };
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    assert!(text.contains("append-only"), "{text}");
}

/// The loop is blocked while they connect, so one event of the listener stands for all of them.
#[test]
fn connections_in_the_backlog_are_answered_at_a_stop() {
    const CROWD: usize = 150;
    let (mut app, events) = App::new(Vec::new());
    let (open, gate) = channel();
    app.gate = Some(gate);
    let running = run(app, Limits::default());
    let mut holder = running.connect();
    holder.get_mut().write_all(b"wait\n").expect("a write");
    assert_eq!(next(&events), "waits");
    let mut crowd: Vec<_> = (0..CROWD).map(|_| running.connect()).collect();
    for one in &mut crowd {
        one.get_mut().write_all(b"3\n").expect("a write");
    }
    running.mailbox.stop().expect("it runs");
    open.send(()).expect("it waits");
    for one in &mut crowd {
        let mut all = String::new();
        one.read_to_string(&mut all).expect("an answer, and the end");
        assert_eq!(all, "xxx\n");
    }
    let stopped = running.thread.join().expect("it does not panic");
    assert!(!stopped.grace_expired && stopped.still_open == 0);
}

/// TLS for `localhost`, and the authorities that trust it.
fn certificates() -> (ServerTls, Authorities) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = pair.signing_key.serialize_pem();
    let server = ServerTls::new(&pair.cert.pem(), &key, None, &[]).expect("a certificate");
    (server, Authorities::from_pem(pair.cert.pem().as_bytes()).expect("a certificate"))
}

/// Reads the first bytes, or returns the error. Advances the handshake while it waits.
fn read_some(stream: &mut TlsStream<TcpStream>, into: &mut [u8]) -> std::io::Result<usize> {
    let begin = Instant::now();
    loop {
        let _ = stream.flush();
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && begin.elapsed() < LIMIT => {
                thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn client_tls(authorities: &Authorities) -> ClientTls {
    ClientTls::new("localhost", Some(authorities), &[], Remedies::default()).expect("a host")
}

fn by_tls(to: SocketAddr) -> Command<String> {
    let dial = Dial::new(Ticket(7), Target::Address(to));
    Command::Dial(Dial { tls: Some(TlsId(0)), timeout: LIMIT, ..dial })
}

#[test]
fn a_dial_is_open_only_after_its_handshake_and_a_failed_handshake_is_explained() {
    let (server_tls, authorities) = certificates();
    let (_, others) = certificates();
    for (trusted, opens) in [(&authorities, true), (&others, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("an address");
        let (app, events) = App::new(vec![by_tls(to)]);
        let (mut event_loop, address) = event_loop(app, Limits::default());
        assert_eq!(event_loop.client_tls(client_tls(trusted)), TlsId(0));
        let running = start(event_loop, address);
        let (stream, _) = listener.accept().expect("it dials");
        stream.set_nonblocking(true).expect("a socket");
        assert_eq!(next(&events), format!("Connecting({to})"));
        assert_eq!(next(&events), format!("Handshaking({to})"));
        let mut server = server_tls.begin(stream).expect("a session");
        let mut greeting = [0; 2];
        let read = read_some(&mut server, &mut greeting);
        if opens {
            assert_eq!(read.expect("the first bytes follow the handshake"), 2);
            assert_eq!(&greeting, b"1\n");
            assert_eq!(next(&events), "Dialled(Ticket(7)) open");
        } else {
            let words = "the certificate of localhost is not trusted: ";
            assert_eq!(next(&events), format!("HandshakeFailed({to}, Certificate)"));
            let attempt = next(&events);
            assert!(attempt.starts_with(&format!("AttemptFailed({to}, \"{words}")), "{attempt}");
            let failed = next(&events);
            assert!(failed.starts_with(&format!("Failed(\"{to}: {words}")), "{failed}");
            let alert = server.explain(&read.expect_err("an alert"));
            assert!(alert.starts_with("the client ended TLS: "), "{alert}");
        }
        running.stop();
    }
}

/// The TLS alert is sent before the close, and the other side has time to read it.
#[test]
fn an_application_learns_of_broken_tls_before_its_connection_is_closed() {
    let (server_tls, authorities) = certificates();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (app, events) = App::new(vec![by_tls(listener.local_addr().expect("an address"))]);
    let (mut event_loop, address) = event_loop(app, Limits::default());
    event_loop.client_tls(client_tls(&authorities));
    let running = start(event_loop, address);
    let (stream, _) = listener.accept().expect("it dials");
    stream.set_nonblocking(true).expect("a socket");
    let mut server = server_tls.begin(stream).expect("a session");
    assert_eq!(read_some(&mut server, &mut [0; 2]).expect("a greeting"), 2);
    await_event(&events, "Dialled(Ticket(7)) open");
    let begin = Instant::now();
    server.stream().write_all(b"not a TLS record").expect("it is connected");
    assert!(next(&events).starts_with("Tls(Protocol, "));
    assert!(begin.elapsed() < LINGER, "the application need not wait for the close");
    running.stop();
    assert_eq!(events.iter().count(), 0, "it is reported once");
}

#[test]
fn a_dial_cancelled_in_its_handshake_reports_nothing_more() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = silent.local_addr().expect("an address");
    let (mut app, events) = App::new(vec![by_tls(to)]);
    app.cancels_in_handshake = true;
    let (mut event_loop, address) = event_loop(app, Limits::default());
    event_loop.client_tls(client_tls(&certificates().1));
    let running = start(event_loop, address);
    let (mut other, _) = silent.accept().expect("it dials");
    other.set_read_timeout(Some(LIMIT)).expect("a socket");
    let ended = other.read_to_end(&mut Vec::new()); // Perhaps a ClientHello, and then the end.
    assert!(ended.is_ok() || ended.is_err_and(|it| it.kind() == ErrorKind::ConnectionReset));
    running.stop();
    let events: Vec<String> = events.iter().collect();
    assert_eq!(events, [format!("Connecting({to})"), format!("Handshaking({to})")]);
}

#[test]
fn a_ticket_that_is_dialled_again_has_one_connection() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = silent.local_addr().expect("an address");
    let (app, events) = App::new(vec![by_tls(to), by_tls(to)]);
    let (mut event_loop, address) = event_loop(app, Limits::default());
    event_loop.client_tls(client_tls(&certificates().1));
    let running = start(event_loop, address);
    let [first, second] = [(); 2].map(|()| silent.accept().expect("it dials").0);
    let connecting = format!("Connecting({to})");
    assert_eq!([next(&events), next(&events)], [connecting.clone(), connecting]);
    first.set_read_timeout(Some(LIMIT)).expect("a socket");
    let ended = (&first).read_to_end(&mut Vec::new());
    assert!(ended.is_ok() || ended.is_err_and(|it| it.kind() == ErrorKind::ConnectionReset));
    let mut record = [0];
    (&second).read_exact(&mut record).expect("the second one begins its handshake");
    assert_eq!(record, [22], "a handshake record");
    running.stop();
    assert!(events.iter().all(|event| !event.starts_with("Failed")));
}

#[test]
fn a_refused_dial_fails_with_its_address_and_a_silent_handshake_in_time() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (app, events) = App::new(vec![Command::Dial(Dial::new(Ticket(1), Target::Address(gone)))]);
    let running = run(app, Limits::default());
    let failed = await_event(&events, "Failed");
    assert_eq!(failed, format!("Failed(\"{gone}: Connection refused\")"));
    running.stop();

    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = silent.local_addr().expect("an address");
    let dial = Dial::new(Ticket(1), Target::Address(to));
    let timeout = Duration::from_millis(50);
    let (app, events) =
        App::new(vec![Command::Dial(Dial { tls: Some(TlsId(0)), timeout, ..dial })]);
    let (mut event_loop, address) = event_loop(app, Limits::default());
    event_loop.client_tls(client_tls(&certificates().1));
    let running = start(event_loop, address);
    let failed = await_event(&events, "Failed");
    assert_eq!(failed, format!("Failed(\"{to}: the TLS handshake was not complete in time\")"));
    running.stop();
}

#[test]
fn a_loop_dials_another_loop_and_a_dial_to_one_that_has_ended_fails() {
    let dial = || Command::Dial(Dial::new(Ticket(3), Target::Loop(LoopId(1))));
    let (app, one_events) = App::new(vec![dial()]);
    let (mut one, one_address) = event_loop(app, Limits::default());
    let (app, other_events) = App::new(Vec::new());
    let (other, other_address) = event_loop(app, Limits::default());
    one.know(LoopId(1), LoopId(0), other.mailbox());
    let (one, other) = (start(one, one_address), start(other, other_address));
    assert_eq!(next(&one_events), "Dialled(Ticket(3)) open");
    assert_eq!(next(&other_events), "Loop(LoopId(0)) open");
    other.stop();
    // Which of the two it is depends on whether this loop writes before it reads the end.
    let closed = next(&one_events);
    assert!(["Finished", "Broken(\"Broken pipe\")"].contains(&&closed[..]), "{closed}");
    one.stop();

    let (app, events) = App::new(vec![dial()]);
    let (mut alone, address) = event_loop(app, Limits::default());
    let (app, _) = App::new(Vec::new());
    alone.know(LoopId(1), LoopId(0), event_loop(app, Limits::default()).0.mailbox());
    let alone = start(alone, address);
    assert_eq!(next(&events), "Failed(\"that loop has ended\")");
    alone.stop();
}
