//! What the loop counts: each number moves for its reason, by the right amount.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mio::net::UnixStream;

use super::super::state::ConnectionState;
use super::super::{EventLoop, Limits, Listen, Socket};
use crate::application::{
    Activity, Application, Budget, Class, Command, ConnectionId, FullOutput, Inspected, Io, Lack,
    Line, ListenerId, LoopMetrics, Never, Next, Opened, Origin, Policy, Ticket,
};
use crate::clock::Now;

/// Answers a line with as many bytes as it asks for.
struct App {
    policy: Policy,
    accepts: bool,
    pause_at_open: Duration,
    commands: Vec<Command<Never>>,
    inspected: Vec<Vec<Seen>>,
    full: Vec<bool>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    id: ConnectionId,
    session: Option<u8>,
    unsent: usize,
    activity: Option<Activity>,
    waits: bool,
    is_full: bool,
}

impl Application for App {
    type Session = u8;
    type Message = Never;

    fn handle_open(&mut self, _opened: Opened<'_>, _io: &mut Io<'_>) -> Option<(u8, Policy)> {
        std::thread::sleep(self.pause_at_open);
        self.accepts.then_some((self.policy.class.0, self.policy))
    }

    fn handle_line(&mut self, _session: &mut u8, line: Line<'_>, io: &mut Io<'_>) -> Next {
        let text = String::from_utf8_lossy(line.bytes());
        io.out.resize(io.out.len() + text.parse().unwrap_or(0), b'x');
        if text == "wait" { Next::Wait } else { Next::Read }
    }

    fn handle_bytes(&mut self, _session: &mut u8, _bytes: &[u8], _io: &mut Io<'_>) -> Next {
        Next::Read
    }

    fn fill(&mut self, _session: &mut u8, _io: &mut Io<'_>) -> Next {
        Next::Again
    }

    fn handle_full(&mut self, full: FullOutput, _session: &mut u8, _now: Now) {
        self.full.push(full.is_full);
    }

    fn handle_inspect(
        &mut self,
        _ticket: Ticket,
        all: &mut dyn Iterator<Item = Inspected<'_, u8>>,
        _now: Now,
    ) {
        let seen = |one: Inspected<'_, u8>| Seen {
            id: one.id,
            session: one.session.copied(),
            unsent: one.unsent,
            activity: one.activity,
            waits: one.waits,
            is_full: one.is_full,
        };
        let all: Vec<Seen> = all.map(seen).collect();
        self.commands.extend(all.first().map(|first| Command::Close(first.id)));
        self.inspected.push(all);
    }

    fn poll_command(&mut self) -> Option<Command<Never>> {
        self.commands.pop()
    }
}

fn event_loop(policy: Policy, limits: Limits) -> EventLoop<App> {
    let app = App {
        policy,
        accepts: true,
        pause_at_open: Duration::ZERO,
        commands: Vec::new(),
        inspected: Vec::new(),
        full: Vec::new(),
    };
    EventLoop::new(app, limits).expect("a loop")
}

fn of_class(class: u8) -> Policy {
    Policy { class: Class(class), ..Policy::lines(100) }
}

/// An accepted connection, and its other end; the events of its begin are over.
fn add(event_loop: &mut EventLoop<App>) -> (ConnectionId, UnixStream) {
    let (one, other) = UnixStream::pair().expect("a pair");
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let (origin, state) = (Origin::Accepted(ListenerId(0)), ConnectionState::Handshaking);
    let id = event_loop.connections.add(Socket::Pair(one), peer, origin, state);
    event_loop.connections.open(id, &mut event_loop.app);
    turn(event_loop);
    (id, other)
}

/// A turn that does not wait.
fn turn(event_loop: &mut EventLoop<App>) {
    event_loop.was_woken = true;
    event_loop.turn().expect("a turn");
}

fn say(event_loop: &mut EventLoop<App>, other: &mut UnixStream, text: &[u8]) {
    other.write_all(text).expect("it is connected");
    turn(event_loop);
}

fn budgets(metrics: &LoopMetrics) -> [u64; 4] {
    [Budget::Lines, Budget::Bytes, Budget::Accepts, Budget::Fill]
        .map(|budget| metrics.budget(budget).get())
}

#[test]
fn connections_and_bytes_are_counted_for_their_class_alone() {
    let mut event_loop = event_loop(of_class(2), Limits::default());
    let metrics = event_loop.metrics();
    let of = |class: u8| {
        let class = metrics.class(Class(class));
        let counts = [&class.opened, &class.bytes_in, &class.bytes_out].map(|count| count.get());
        (class.open.get(), counts)
    };
    let (id, mut other) = add(&mut event_loop);
    say(&mut event_loop, &mut other, b"5\n30\n");
    assert_eq!(of(2), (1, [1, 5, 35]));
    event_loop.app.policy = of_class(7);
    let (_second, mut second) = add(&mut event_loop);
    say(&mut event_loop, &mut second, b"\n");
    event_loop.app.accepts = false;
    let (_refused, _other) = add(&mut event_loop);
    assert_eq!((of(2), of(7)), ((1, [1, 5, 35]), (1, [1, 1, 0])));
    assert_eq!((of(0), metrics.open()), ((0, [0, 0, 0]), 2));
    event_loop.app.commands.push(Command::Close(id));
    turn(&mut event_loop);
    assert_eq!((of(2), metrics.open()), ((0, [1, 5, 35]), 1));
}

#[test]
fn turns_events_and_memory_are_counted() {
    let mut event_loop =
        event_loop(of_class(0), Limits { buffer_bytes: 1 << 20, ..Limits::default() });
    let metrics = event_loop.metrics();
    let (_one, mut other) = add(&mut event_loop);
    let (_two, mut second) = add(&mut event_loop);
    let before = (metrics.turns.get(), metrics.events.get());
    other.write_all(b"1\n").expect("it is connected");
    say(&mut event_loop, &mut second, b"begun");
    assert_eq!((metrics.turns.get(), metrics.events.get()), (before.0 + 1, before.1 + 2));
    assert_eq!(metrics.buffer_limit.get(), 1 << 20);
    let held = metrics.buffer_bytes.get();
    assert!(held >= 512, "{held}: the incomplete line is held");
    event_loop.app.commands.push(Command::Close(_two));
    turn(&mut event_loop);
    assert!(metrics.buffer_bytes.get() < held);
}

#[test]
fn what_is_left_for_the_next_turn_is_counted_by_the_budget_that_was_used_up() {
    let mut event_loop = event_loop(of_class(0), Limits::default());
    let metrics = event_loop.metrics();
    let (id, mut other) = add(&mut event_loop);
    say(&mut event_loop, &mut other, &b"\n".repeat(3_000)); // 1,024 in each turn.
    (0..3).for_each(|_| turn(&mut event_loop));
    assert_eq!(budgets(&metrics), [2, 0, 0, 0]);
    event_loop.app.policy = Policy::bytes();
    let (_id, mut bytes) = add(&mut event_loop);
    say(&mut event_loop, &mut bytes, &[b'x'; 100_000]); // 65,536 in each turn.
    turn(&mut event_loop);
    assert_eq!(budgets(&metrics), [2, 1, 0, 0]);
    event_loop.app.commands.push(Command::Fill(id)); // It answers that there is more, each time.
    (0..3).for_each(|_| turn(&mut event_loop));
    assert_eq!(budgets(&metrics), [2, 1, 0, 3]);
}

#[test]
fn new_connections_for_which_there_was_no_time_are_counted() {
    let mut event_loop = event_loop(of_class(0), Limits::default());
    let metrics = event_loop.metrics();
    let listen = Listen::on(ListenerId(0), SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = event_loop.listen(listen).expect("a free port");
    let _clients: Vec<_> =
        (0..12).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    event_loop.app.pause_at_open = Duration::from_millis(4);
    turn(&mut event_loop);
    assert_eq!(metrics.budget(Budget::Accepts).get(), 1);
    assert!(metrics.class(Class(0)).open.get() < 12);
}

#[test]
fn the_time_without_descriptors_is_counted() {
    let mut event_loop = event_loop(of_class(0), Limits::default());
    let metrics = event_loop.metrics();
    let listen = Listen::on(ListenerId(0), SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = event_loop.listen(Listen { max_open: 1, ..listen }).expect("a free port");
    let first = TcpStream::connect(address).expect("it listens");
    turn(&mut event_loop);
    let second = TcpStream::connect(address).expect("it listens");
    turn(&mut event_loop);
    assert_eq!(metrics.accept_paused_now.get(), 1);
    let pause = Duration::from_millis(30);
    std::thread::sleep(pause);
    drop(first);
    (0..4).for_each(|_| turn(&mut event_loop));
    assert_eq!(metrics.class(Class(0)).opened.get(), 2);
    assert_eq!(metrics.accept_paused_now.get(), 1, "there is a descriptor for one connection only");
    drop(second);
    (0..4).for_each(|_| turn(&mut event_loop));
    let paused = |lack: Lack| Duration::from_nanos(metrics.accept_paused[lack as usize].get());
    assert!(paused(Lack::Descriptors) >= pause, "{:?}", paused(Lack::Descriptors));
    assert_eq!(paused(Lack::Memory), Duration::ZERO);
    assert_eq!(metrics.accept_paused_now.get(), 0);
}

#[test]
fn turns_are_timed_and_kept_only_while_the_loop_is_observed() {
    let mut event_loop = event_loop(of_class(0), Limits::default());
    let metrics = event_loop.metrics();
    let (_id, mut other) = add(&mut event_loop);
    say(&mut event_loop, &mut other, b"1\n");
    assert_eq!((metrics.latest_turns(10), metrics.busy.get()), (Vec::new(), 0));
    metrics.observe(true);
    say(&mut event_loop, &mut other, b"1\n2\n3\n");
    turn(&mut event_loop);
    turn(&mut event_loop);
    let turns = metrics.latest_turns(10);
    assert_eq!(turns.len(), 2, "the last one has not ended");
    let counts = turns.iter().map(|turn| [turn.events, turn.lines, turn.reads, turn.writes]);
    assert_eq!(counts.collect::<Vec<_>>(), [[1, 3, 1, 1], [0, 0, 0, 0]]);
    assert!(turns[0].start + turns[0].duration + turns[1].wait <= turns[1].start);
    let sum: Duration = turns.iter().map(|turn| turn.duration).sum();
    assert_eq!((metrics.turn_duration.sum(), Duration::from_nanos(metrics.busy.get())), (sum, sum));
    let timed: u64 = metrics.turn_duration.buckets().map(|(_, count)| count).sum();
    assert_eq!(timed + metrics.turn_duration.above(), 2);
    metrics.observe(false);
    say(&mut event_loop, &mut other, b"1\n");
    turn(&mut event_loop);
    assert_eq!(metrics.latest_turns(10), turns, "what was kept stays");
}

#[test]
fn the_application_sees_its_connections_and_what_they_did_while_observed() {
    let mut event_loop = event_loop(of_class(3), Limits::default());
    let metrics = event_loop.metrics();
    let (former, mut before) = add(&mut event_loop);
    metrics.observe(true);
    turn(&mut event_loop);
    let began = event_loop.connections.shared.now.elapsed;
    let (waiting, mut other) = add(&mut event_loop);
    say(&mut event_loop, &mut before, b"1\n");
    say(&mut event_loop, &mut other, b"3\n4\nwait\n9\n");
    let (closed, _other) = add(&mut event_loop);
    event_loop.app.commands.extend([Command::Inspect(Ticket(1)), Command::Close(closed)]);
    turn(&mut event_loop);
    let all = event_loop.app.inspected.pop().expect("one inspection");
    let seen = |id, activity, waits| Seen {
        id,
        session: Some(3),
        unsent: 0,
        activity,
        waits,
        is_full: false,
    };
    let opened = all[1].activity.map_or(Duration::ZERO, |activity| activity.opened);
    assert!(began <= opened && opened <= event_loop.connections.shared.now.elapsed);
    let activity = Activity { opened, bytes_in: 11, bytes_out: 7, lines: 3 };
    assert_eq!(all, [seen(former, None, false), seen(waiting, Some(activity), true)]);
    // It has closed the first one, and commands were run after it.
    assert_eq!(event_loop.connections.state(former), Some(ConnectionState::Closed));
    metrics.observe(false);
    event_loop.app.commands.push(Command::Inspect(Ticket(2)));
    turn(&mut event_loop);
    assert_eq!(event_loop.app.inspected, [vec![seen(waiting, None, true)]]);
}

#[test]
fn a_slow_connection_is_reported_once_and_again_once_it_has_recovered() {
    let limits = Limits { output_bytes: 400_000, ..Limits::default() };
    let mut event_loop = event_loop(of_class(1), limits);
    let metrics = event_loop.metrics();
    let full = || metrics.class(Class(1)).full.get();
    let (id, mut other) = add(&mut event_loop);
    say(&mut event_loop, &mut other, b"10000\n");
    assert_eq!((full(), event_loop.app.full.len()), (0, 0), "the kernel has taken it");
    say(&mut event_loop, &mut other, b"4000000\n");
    (0..3).for_each(|_| say(&mut event_loop, &mut other, b"1\n"));
    event_loop.app.commands.push(Command::Fill(id)); // It has no room.
    turn(&mut event_loop);
    assert_eq!((full(), &event_loop.app.full[..]), (1, &[true][..]));
    event_loop.app.commands.push(Command::Inspect(Ticket(1)));
    turn(&mut event_loop);
    let seen = &event_loop.app.inspected[0][0];
    assert!(seen.is_full && seen.unsent > 400_000, "{seen:?}");
    // The application has closed what it saw: a closed connection is slow no longer.
    assert_eq!((full(), event_loop.app.full.len()), (0, 1));

    let (id, mut other) = add(&mut event_loop);
    say(&mut event_loop, &mut other, b"1000000\n");
    assert_eq!((full(), event_loop.app.full.len()), (1, 2));
    let mut left = 1_000_000;
    while left > 0 {
        left -= other.read(&mut [0; 10_000]).expect("there is more");
        turn(&mut event_loop);
        let slot = event_loop.connections.slots.get_mut(id).expect("it is open");
        let is_slow = slot.connection.unsent() > 200_000; // Half of the limit.
        assert_eq!(full() == 1, is_slow, "{left} bytes are left to read");
    }
    assert_eq!((full(), &event_loop.app.full[..]), (0, &[true, true, false][..]));
}
