//! Claim: a loop is changed while it runs, all at once or not at all, and nobody who is connected or about to be
//! notices.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use herd_mio::application::{
    Application, ClosedConnection, Io, Line, ListenerId, Next, Opened, Policy, Refused,
};
use herd_mio::clock::Now;
use herd_mio::event_loop::{Bound, Change, EventLoop, Limits, Listen, Mailbox, Stopped};

/// Answers each line with itself and the lengths that it asks for.
struct App {
    events: Sender<String>,
    policy: Policy,
    /// The line "block" blocks on this, and with it the whole loop.
    gate: Receiver<()>,
}

impl App {
    fn report(&self, event: String) {
        let _ = self.events.send(event); // The test may have ended.
    }
}

impl Application for App {
    type Session = ();
    type Message = String;

    fn handle_open(&mut self, _opened: Opened<'_>, _io: &mut Io<'_>) -> Option<((), Policy)> {
        Some(((), self.policy))
    }

    fn handle_line(&mut self, _session: &mut (), line: Line<'_>, io: &mut Io<'_>) -> Next {
        match line {
            Line::Whole(b"block") => {
                self.report("blocks".to_owned());
                let _ = self.gate.recv();
            }
            Line::Whole(b"wait") => return Next::Wait,
            Line::Whole(text) if text.starts_with(b"x") => {
                let length = String::from_utf8_lossy(&text[1..]).parse().unwrap_or_default();
                io.out.extend(std::iter::repeat_n(b'x', length));
            }
            Line::Whole(text) => io.out.extend_from_slice(text),
            Line::Unfinished(_) => io.out.extend_from_slice(b"unfinished"),
            Line::TooLong(_) => return Next::Finish,
        }
        io.out.push(b'\n');
        Next::Read
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, _session: (), _now: Now) {
        self.report(format!("{:?}", closed.why));
    }

    fn handle_refused(&mut self, listener: ListenerId, why: &Refused, _now: Now) {
        self.report(format!("refused at {}: {why:?}", listener.0));
    }

    fn handle_message(&mut self, message: String, _now: Now) {
        self.report(message);
    }
}

struct Running {
    address: SocketAddr,
    mailbox: Mailbox<String>,
    events: Receiver<String>,
    gate: Sender<()>,
    thread: JoinHandle<Stopped<App>>,
}

const ID: ListenerId = ListenerId(0);
const OTHER: ListenerId = ListenerId(1);
/// How long a test waits for what must happen, even on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

fn any(id: ListenerId) -> Listen {
    Listen::on(id, SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn run(listen: Listen, policy: Policy, limits: Limits) -> Running {
    let ((sender, events), (open, gate)) = (channel(), channel());
    let app = App { events: sender, policy, gate };
    let mut event_loop = EventLoop::new(app, limits).expect("a loop");
    let address = event_loop.listen(listen).expect("a free port");
    let mailbox = event_loop.mailbox();
    let thread = thread::spawn(move || event_loop.run().expect("the loop runs without an error"));
    Running { address, mailbox, events, gate: open, thread }
}

fn run_lines(listen: Listen) -> Running {
    run(listen, Policy::lines(100), Limits::default())
}

impl Running {
    /// Changes the loop, and returns the result in words.
    fn change(&self, change: Change) -> String {
        self.send(change);
        self.await_event("changed: ")
    }

    fn send(&self, change: Change) {
        let done = |result: std::io::Result<()>| match result {
            Ok(()) => "changed: well".to_owned(),
            Err(error) => format!("changed: {error}"),
        };
        self.mailbox.reconfigure(change, done).expect("it runs");
    }

    /// The next event that begins with `begin`; earlier ones are dropped.
    fn await_event(&self, begin: &str) -> String {
        loop {
            let event = self.events.recv_timeout(LIMIT).expect("an event");
            if event.starts_with(begin) {
                return event;
            }
        }
    }

    fn stop(self) -> Stopped<App> {
        self.mailbox.stop().expect("it runs");
        self.thread.join().expect("it does not panic")
    }
}

fn connect(to: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    BufReader::new(stream)
}

/// Sends a line and returns the answer; nothing if the connection is closed.
fn ask(stream: &mut BufReader<TcpStream>, line: &str) -> String {
    let _ = stream.get_mut().write_all(format!("{line}\n").as_bytes());
    let mut answer = String::new();
    let _ = stream.read_line(&mut answer);
    answer.trim_end().to_owned()
}

/// Waits until nobody listens at an address.
fn await_refused(at: SocketAddr) {
    let begin = Instant::now();
    while TcpStream::connect(at).is_ok() {
        assert!(begin.elapsed() < LIMIT, "{at} still accepts");
        thread::sleep(Duration::from_millis(1));
    }
}

fn bound(listen: Listen) -> Bound {
    let bound = Bound::new(listen).expect("a free port");
    bound.listen().expect("nobody else listens");
    bound
}

fn listening(bound: Vec<Bound>) -> Change {
    Change { listen: bound, ..Change::default() }
}

#[test]
fn a_listener_is_added_and_removed_while_connections_are_open() {
    let running = run_lines(any(ID));
    let mut first = connect(running.address);
    assert_eq!(ask(&mut first, "one"), "one");
    let other = bound(any(OTHER));
    let address = other.address();
    assert_eq!(running.change(listening(vec![other])), "changed: well");
    let mut second = connect(address);
    assert_eq!((ask(&mut first, "two"), ask(&mut second, "two")), ("two".into(), "two".into()));
    let unlisten = Change { unlisten: vec![OTHER, ListenerId(7)], ..Change::default() };
    assert_eq!(running.change(unlisten), "changed: well");
    await_refused(address);
    assert_eq!((ask(&mut first, "3"), ask(&mut second, "3")), ("3".into(), "3".into()));
    assert_eq!(ask(&mut connect(running.address), "4"), "4");
    running.stop();
}

#[test]
fn a_listener_that_moves_keeps_its_connections_and_their_count() {
    let running = run_lines(Listen { connections: 2, ..any(ID) });
    let mut first = connect(running.address);
    assert_eq!(ask(&mut first, "one"), "one");
    let moved = bound(Listen { connections: 2, ..any(ID) });
    let address = moved.address();
    assert_eq!(running.change(listening(vec![moved])), "changed: well");
    await_refused(running.address);
    assert_eq!(ask(&mut first, "still here"), "still here");
    let mut second = connect(address);
    assert_eq!(ask(&mut second, "two"), "two");
    assert_eq!(ask(&mut connect(address), "one too many"), "");
    running.await_event("refused at 0: Limit(");
    drop(first);
    running.await_event("Finished");
    assert_eq!(ask(&mut connect(address), "three"), "three");
    running.stop();
}

/// The loop is blocked while they connect, so they wait in the kernel when the change comes.
#[test]
fn connections_that_wait_at_a_listener_that_goes_are_answered() {
    const CROWD: usize = 150;
    for is_replaced in [true, false] {
        let running = run_lines(any(ID));
        let mut holder = connect(running.address);
        holder.get_mut().write_all(b"block\n").expect("a write");
        running.await_event("blocks");
        let mut crowd: Vec<_> = (0..CROWD).map(|_| connect(running.address)).collect();
        running.send(match is_replaced {
            true => listening(vec![bound(any(ID))]),
            false => Change { unlisten: vec![ID], ..Change::default() },
        });
        running.gate.send(()).expect("it waits");
        assert_eq!(running.await_event("changed: "), "changed: well");
        for one in &mut crowd {
            assert_eq!(ask(one, "hello"), "hello", "replaced: {is_replaced}");
        }
        await_refused(running.address);
        running.stop();
    }
}
