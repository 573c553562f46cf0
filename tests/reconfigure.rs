//! Claim: a loop is changed while it runs, all at once or not at all, and nobody who is connected or about to be
//! notices.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use herd_mio::application::{
    Application, Class, ClosedConnection, Io, Line, ListenerId, Next, Opened, Policy, Refused,
    TlsId,
};
use herd_mio::clock::Now;
use herd_mio::event_loop::{
    Bound, Change, EventLoop, Limits, Listen, Mailbox, Rules, Sharing, Stopped,
};
use herd_mio::tls::{ClientTls, Remedies};

/// Answers each line with itself and the lengths that it asks for.
struct App {
    events: Sender<String>,
    policy: Policy,
    /// The message "block" blocks on this, and with it the whole loop, just before the next message.
    gate: Receiver<()>,
    opened: usize,
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
        self.opened += 1;
        Some(((), self.policy))
    }

    fn handle_line(&mut self, _session: &mut (), line: Line<'_>, io: &mut Io<'_>) -> Next {
        match line {
            Line::Whole(b"wait") => return Next::Wait,
            Line::Whole(b"last") => self.report("last".to_owned()),
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
        match message.as_str() {
            "block" => {
                self.report("blocks".to_owned());
                let _ = self.gate.recv();
            }
            "count" => self.report(format!("count: {}", self.opened)),
            _ => self.report(message),
        }
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
    let app = App { events: sender, policy, gate, opened: 0 };
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

    /// From now on the loop does nothing until it may pass the gate.
    fn block(&self) {
        self.mailbox.send("block".to_owned()).expect("it runs");
        self.await_event("blocks");
    }

    /// How many connections were opened.
    fn count(&self) -> usize {
        self.mailbox.send("count".to_owned()).expect("it runs");
        let count = self.await_event("count: ");
        count.trim_start_matches("count: ").parse().expect("a number")
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

/// Waits until nobody listens at an address. (A full backlog makes an attempt fail, too, but not as refused.)
fn await_refused(at: SocketAddr) {
    let begin = Instant::now();
    loop {
        match TcpStream::connect_timeout(&at, LIMIT) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            _ => assert!(begin.elapsed() < LIMIT, "somebody still listens at {at}"),
        }
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
        running.block();
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

/// Binding succeeds as long as the other one does not listen.
#[test]
fn a_port_in_use_changes_nothing() {
    let running = run_lines(any(ID));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|at| (taken, at)).expect("an address");
    assert!(Bound::new(Listen::on(OTHER, taken.1)).is_err(), "it is known at once");
    for is_prepared in [true, false] {
        let late = Bound::new(any(OTHER)).expect("a free port");
        let _faster = TcpListener::bind(late.address()).expect("nobody listens yet");
        let good = Bound::new(any(ListenerId(2))).expect("a free port");
        let moved = Bound::new(any(ID)).expect("a free port");
        let (added, replacing) = (good.address(), moved.address());
        let mut change = Change {
            listen: vec![good, moved, late],
            unlisten: vec![ID],
            rules: vec![Rules { connections: 0, ..Rules::of(&any(ID)) }],
            limits: Some(Limits { output_bytes: 0, ..Limits::default() }),
            policies: vec![(Policy::lines(100), Policy::lines(1))],
            ..Change::default()
        };
        let said = match is_prepared {
            true => format!("changed: {}", change.prepare(&running.mailbox).expect_err("in use")),
            false => running.change(std::mem::take(&mut change)),
        };
        assert!(said.contains("in use"), "{said}");
        drop(change);
        let mut client = connect(running.address);
        assert_eq!(ask(&mut client, "as before"), "as before");
        // A listener that goes would still have accepted that one.
        assert_eq!(ask(&mut connect(running.address), "as before"), "as before");
        await_refused(added);
        await_refused(replacing);
    }
    running.stop();
}

#[test]
fn a_change_that_makes_no_sense_is_refused_as_a_whole() {
    let running = run_lines(any(ID));
    let lines = Policy::lines(100);
    let cases = [
        (Policy::bytes(), "framing"),
        (Policy { drains_on_stop: false, ..lines }, "drains_on_stop"),
        (Policy { class: Class(1), ..lines }, "class"),
    ];
    for (policy, word) in cases {
        let change =
            || Change { unlisten: vec![ID], policies: vec![(lines, policy)], ..Change::default() };
        let said = running.change(change());
        assert!(said.contains(word) && said.contains("can't become"), "{said}");
        let said = change().prepare(&running.mailbox).expect_err("the same").to_string();
        assert!(said.contains(word), "{said}");
    }
    let tls = client_tls();
    let with_gaps = vec![(TlsId(7), tls.clone()), (TlsId(1), tls.clone()), (TlsId(7), tls)];
    let with_gaps = Change { client_tls: with_gaps, ..Change::default() };
    assert_eq!(running.change(with_gaps), "changed: well");
    let other = run_lines(any(ID));
    let mut change = listening(vec![bound(any(OTHER))]);
    change.prepare(&other.mailbox).expect("it can be");
    assert_eq!(running.change(change), "changed: the listener was prepared for another loop");
    assert_eq!(ask(&mut connect(running.address), "as before"), "as before");
    running.stop();
    other.stop();
}

fn client_tls() -> ClientTls {
    ClientTls::new("localhost", None, &[], Remedies::default()).expect("a host")
}

/// The job prepares the changes of all loops before it sends one.
#[test]
fn two_loops_move_to_another_port_that_they_share() {
    let first = run_lines(Listen { sharing: Sharing::First, ..any(ID) });
    let shared = |at| Listen { sharing: Sharing::Further, ..Listen::on(ID, at) };
    let second = run_lines(shared(first.address));
    let one = Bound::new(Listen { sharing: Sharing::First, ..any(ID) }).expect("a free port");
    let to = one.address();
    let other = Bound::new(shared(to)).expect("the first one permits it");
    let mut changes = [listening(vec![one]), listening(vec![other])];
    for (change, running) in changes.iter_mut().zip([&first, &second]) {
        change.prepare(&running.mailbox).expect("it can be");
    }
    let stranger = Bound::new(Listen { sharing: Sharing::First, ..Listen::on(ID, to) });
    assert!(stranger.is_err(), "other processes have no part in it");
    for (change, running) in changes.into_iter().zip([&first, &second]) {
        assert_eq!(running.change(change), "changed: well");
    }
    await_refused(first.address);
    // The kernel spreads connections over both: each loop gets one of many.
    let before = [first.count(), second.count()];
    let mut clients: Vec<_> = (0..100).map(|_| connect(to)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(ask(client, "hello"), "hello"));
    let new = [first.count() - before[0], second.count() - before[1]];
    assert!(new[0] + new[1] == 100 && new[0] > 0 && new[1] > 0, "{new:?}");
    first.stop();
    second.stop();
}

#[test]
fn a_lower_limit_closes_nobody_and_a_higher_one_admits_who_waits() {
    let rules = |connections, max_open| Change {
        rules: vec![Rules { connections, max_open, ..Rules::of(&any(ID)) }],
        ..Change::default()
    };
    let running = run_lines(any(ID));
    let mut clients: Vec<_> = (0..3).map(|_| connect(running.address)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(ask(client, "hello"), "hello"));
    assert_eq!(running.change(rules(1, usize::MAX)), "changed: well");
    assert_eq!(ask(&mut connect(running.address), "one too many"), "");
    clients.iter_mut().for_each(|client| assert_eq!(ask(client, "still"), "still"));
    // Beyond `max_open` none is accepted: it waits in the kernel.
    assert_eq!(running.change(rules(10, 3)), "changed: well");
    let mut waits = connect(running.address);
    let soon = Some(Duration::from_millis(50));
    waits.get_ref().set_read_timeout(soon).expect("a socket");
    assert_eq!(ask(&mut waits, "waits"), "");
    waits.get_ref().set_read_timeout(Some(LIMIT)).expect("a socket");
    assert_eq!(running.change(rules(10, 4)), "changed: well");
    assert_eq!(ask(&mut waits, "more"), "waits");
    running.stop();
}

/// The loop has no descriptors for those that wait, so it tries for a while.
#[test]
fn who_waits_for_a_descriptor_at_a_listener_that_goes_is_accepted_when_one_is_free() {
    let running = run_lines(Listen { max_open: 1, ..any(ID) });
    let mut first = connect(running.address);
    assert_eq!(ask(&mut first, "hello"), "hello");
    let mut waits = connect(running.address);
    let moved = bound(Listen { max_open: 1, ..any(ID) });
    assert_eq!(running.change(listening(vec![moved])), "changed: well");
    drop(first);
    assert_eq!(ask(&mut waits, "at last"), "at last");
    // Nobody leaves now: the next one is not waited for without end.
    await_refused(running.address);
    running.stop();
}

#[test]
fn a_policy_changes_for_connections_that_are_open() {
    let (short, long) = (Policy::lines(3), Policy::lines(5));
    let running = run(any(ID), short, Limits::default());
    let mut clients: Vec<_> = (0..2).map(|_| connect(running.address)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(ask(client, "123"), "123"));
    let policies = |policies| Change { policies, ..Change::default() };
    assert_eq!(running.change(policies(vec![(short, long), (long, short)])), "changed: well");
    clients.iter_mut().for_each(|client| assert_eq!(ask(client, "12345"), "12345"));
    // A line that has begun is judged by the new length, too.
    clients[0].get_mut().write_all(b"1234").expect("a write");
    assert_eq!(ask(&mut clients[1], "1"), "1");
    assert_eq!(running.change(policies(vec![(long, short)])), "changed: well");
    assert_eq!(ask(&mut clients[0], ""), "", "it is too long now");
    assert_eq!(ask(&mut clients[1], "123"), "123");
    let hasty = Policy { input_timeout: Duration::from_millis(20), ..short };
    assert_eq!(running.change(policies(vec![(short, hasty)])), "changed: well");
    clients[1].get_mut().write_all(b"12").expect("a write");
    running.await_event("InputTimeout");
    running.stop();
}

#[test]
fn without_a_line_pause_an_unfinished_line_waits_for_its_rest() {
    let pause = Duration::from_millis(100);
    let (pausing, patient) =
        (Policy { line_pause: Some(pause), ..Policy::lines(100) }, Policy::lines(100));
    let running = run(any(ID), pausing, Limits::default());
    let mut client = connect(running.address);
    client.get_mut().write_all(b"be").expect("a write");
    assert_eq!(ask(&mut client, "gun"), "begun");
    let mut other = connect(running.address);
    assert_eq!(ask(&mut other, "hello"), "hello");
    client.get_mut().write_all(b"begun").expect("a write");
    assert_eq!(ask(&mut other, "hello"), "hello");
    let change = Change { policies: vec![(pausing, patient)], ..Change::default() };
    assert_eq!(running.change(change), "changed: well");
    thread::sleep(3 * pause);
    assert_eq!(ask(&mut client, ", and ended"), "begun, and ended");
    running.stop();
}

/// Nothing but the change tells the loop that it may go on: the kernel has reported the lines already, and
/// takes no more output.
#[test]
fn a_larger_output_lets_a_connection_go_on_that_was_full() {
    let running = run_lines(any(ID));
    let mut client = connect(running.address);
    // More than the kernel's buffers take, and than the bound.
    client.get_mut().write_all(b"x16000000\nlast\n").expect("a write");
    let mut other = connect(running.address);
    assert_eq!(ask(&mut other, "hello"), "hello");
    let larger = Limits { output_bytes: 1 << 30, buffer_bytes: 1 << 30, ..Limits::default() };
    running.send(Change { limits: Some(larger), ..Change::default() });
    assert_eq!(running.events.recv_timeout(LIMIT).as_deref(), Ok("changed: well"));
    running.await_event("last");
    let mut answer = String::new();
    client.read_line(&mut answer).expect("an answer");
    assert_eq!(answer.len(), 16_000_001);
    running.stop();
}

/// The kernel has reported it to a loop that did not know its listener.
#[test]
fn a_connection_to_a_listener_that_is_only_prepared_is_answered_after_the_change() {
    let running = run_lines(any(ID));
    let mut change = listening(vec![Bound::new(any(OTHER)).expect("a free port")]);
    let address = change.listen[0].address();
    change.prepare(&running.mailbox).expect("it can be");
    let mut early = connect(address);
    early.get_mut().write_all(b"early\n").expect("a write");
    assert_eq!(ask(&mut connect(running.address), "hello"), "hello");
    assert_eq!(running.count(), 1);
    assert_eq!(running.change(change), "changed: well");
    assert_eq!(ask(&mut early, "more"), "early");
    running.stop();
}

#[test]
fn a_thousand_changes_leave_no_descriptor_behind() {
    let running = run_lines(any(ID));
    let mut client = connect(running.address);
    let before = descriptors();
    let mut last = running.address;
    for _ in 0..1_000 {
        let next = bound(any(ID));
        last = next.address();
        running.send(listening(vec![next]));
    }
    for _ in 0..1_000 {
        assert_eq!(running.await_event("changed: "), "changed: well");
    }
    assert_eq!(ask(&mut client, "still here"), "still here");
    assert_eq!(ask(&mut connect(last), "hello"), "hello");
    // Other tests of this process have some open, too.
    assert!(descriptors() < before + 500, "{before} before, {} now", descriptors());
    running.stop();
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn a_change_has_its_turn_among_messages_and_ends_with_its_own() {
    let running = run_lines(any(ID));
    running.mailbox.send("before".to_owned()).expect("it runs");
    running.send(Change::default());
    running.mailbox.send("after".to_owned()).expect("it runs");
    let next = || running.events.recv_timeout(LIMIT).expect("an event");
    assert_eq!([next(), next(), next()], ["before", "changed: well", "after"]);
    running.stop();
}

#[test]
fn a_loop_that_stops_refuses_a_change_and_one_that_has_ended_says_so() {
    let running = run_lines(any(ID));
    let mut client = connect(running.address);
    client.get_mut().write_all(b"wait\n").expect("a write");
    assert_eq!(ask(&mut connect(running.address), "hello"), "hello");
    running.mailbox.stop().expect("it runs");
    let late = bound(any(OTHER));
    let address = late.address();
    assert_eq!(running.change(listening(vec![late])), "changed: the loop is stopping");
    await_refused(address);
    let Running { mailbox, thread, .. } = running;
    assert!(thread.join().expect("it does not panic").grace_expired);
    let change = listening(vec![bound(any(OTHER))]);
    let error = mailbox.reconfigure(change, |_| String::new()).expect_err("nobody is there");
    assert_eq!(error.to_string(), "that loop has ended");
}

/// A stop that comes behind the change still answers who waits at the old port.
#[test]
fn a_stop_right_behind_a_change_answers_who_waits_at_either_port() {
    let running = run_lines(any(ID));
    running.block();
    let moved = bound(any(ID));
    let mut crowd: Vec<_> =
        [running.address, moved.address()].repeat(20).into_iter().map(connect).collect();
    for one in &mut crowd {
        one.get_mut().write_all(b"hello\n").expect("a write");
    }
    running.send(listening(vec![moved]));
    running.mailbox.stop().expect("it runs");
    running.gate.send(()).expect("it waits");
    for one in &mut crowd {
        let mut all = String::new();
        one.read_to_string(&mut all).expect("an answer, and the end");
        assert_eq!(all, "hello\n");
    }
    let stopped = running.thread.join().expect("it does not panic");
    assert!(!stopped.grace_expired && stopped.still_open == 0);
}
