//! What can be seen only from inside the loop: which connection gets which slot, and when.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::UnixStream;

use super::connection::Awaits;
use super::limits::MESSAGES_PER_TURN;
use super::serve::Slot;
use super::state::ConnectionState;
use super::timers::Timer;
use super::{ControlRequest, Controls, EventLoop, Limits, Listen, Socket};
use crate::application::{
    Application, Closed, ClosedConnection, Command, ConnectionId, Control, Due, Io, Line,
    ListenerId, Next, Opened, Origin, Policy, Refused,
};
use crate::clock::Now;

mod counting;
mod drain;
mod owe;
mod stop;

/// Answers a line with itself and a `!`, and writes down its calls.
#[derive(Default)]
struct Echo {
    commands: Vec<Command<u32>>,
    messages: Vec<u32>,
    closed: Vec<(ConnectionId, Closed)>,
    refused: usize,
    deadline: Option<Duration>,
    timeouts: Vec<(Duration, bool)>,
    watched: Option<ConnectionId>,
    /// Connections receive bytes, and each `fill` probes.
    probes: bool,
    lines: usize,
    received: Vec<Vec<u8>>,
    /// How long the handling of a closed connection takes.
    pause_at_close: Duration,
    controls: Vec<Control>,
    /// It has something to wait for before the loop may stop.
    is_busy: bool,
}

impl Application for Echo {
    type Session = Vec<u8>;
    type Message = u32;

    fn handle_open(&mut self, _opened: Opened<'_>, _io: &mut Io<'_>) -> Option<(Vec<u8>, Policy)> {
        let policy = if self.probes { Policy::bytes() } else { Policy::lines(100) };
        Some((Vec::new(), policy))
    }

    fn handle_bytes(&mut self, _held: &mut Vec<u8>, bytes: &[u8], _io: &mut Io<'_>) -> Next {
        self.received.push(bytes.to_vec());
        Next::Read
    }

    fn fill(&mut self, _held: &mut Vec<u8>, _io: &mut Io<'_>) -> Next {
        if self.probes { Next::Probe } else { Next::Read }
    }

    /// `hold N` makes the session hold N bytes.
    fn handle_line(&mut self, held: &mut Vec<u8>, line: Line<'_>, io: &mut Io<'_>) -> Next {
        if let Some(count) = line.bytes().strip_prefix(b"hold ") {
            let count = std::str::from_utf8(count).expect("a number").parse().expect("a number");
            *held = Vec::with_capacity(count);
        }
        io.out.extend_from_slice(line.bytes());
        io.out.push(b'!');
        self.lines += 1;
        if line.bytes() == b"wait" { Next::Wait } else { Next::Read }
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, _held: Vec<u8>, _now: Now) {
        self.closed.push((closed.id, closed.why.clone()));
        std::thread::sleep(self.pause_at_close);
    }

    fn handle_refused(&mut self, _listener: ListenerId, _why: &Refused, _now: Now) {
        self.refused += 1;
    }

    fn handle_message(&mut self, message: u32, _now: Now) {
        self.messages.push(message);
    }

    fn poll_command(&mut self) -> Option<Command<u32>> {
        self.commands.pop()
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.deadline
    }

    fn handle_timeout(&mut self, due: &mut Due<'_>) {
        let is_behind = self.watched.is_some_and(|id| due.is_behind(id));
        self.timeouts.push((due.now.elapsed, is_behind));
        self.deadline = None;
    }

    fn handle_control(&mut self, control: Control, _now: Now) {
        self.controls.push(control);
    }

    fn may_stop(&self) -> bool {
        !self.is_busy
    }

    fn held_bytes(&self, held: &Vec<u8>) -> usize {
        held.capacity()
    }
}

fn event_loop(limits: Limits) -> EventLoop<Echo> {
    EventLoop::new(Echo::default(), limits).expect("a loop")
}

/// An accepted connection, and its other end.
fn add<A: Application>(event_loop: &mut EventLoop<A>) -> (ConnectionId, UnixStream) {
    add_at(event_loop, ListenerId(0))
}

/// The same at another listener.
fn add_at<A: Application>(
    event_loop: &mut EventLoop<A>,
    listener: ListenerId,
) -> (ConnectionId, UnixStream) {
    let (one, other) = UnixStream::pair().expect("a pair");
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let (origin, state) = (Origin::Accepted(listener), ConnectionState::Handshaking);
    let id = event_loop.connections.add(Socket::Pair(one), peer, origin, state);
    assert!(event_loop.connections.open(id, &mut event_loop.app));
    (id, other)
}

fn state(event_loop: &mut EventLoop<Echo>, id: ConnectionId) -> Option<ConnectionState> {
    event_loop.connections.state(id)
}

/// Runs a turn that does not wait: whatever has not arrived by now does not arrive.
fn turn<A: Application>(event_loop: &mut EventLoop<A>) {
    event_loop.was_woken = true;
    event_loop.turn().expect("a turn");
}

/// Until then an event of this turn's batch may name the slot.
#[test]
fn a_slot_is_given_back_at_the_end_of_a_turn_and_no_sooner() {
    let mut event_loop = event_loop(Limits::default());
    let (former, _other) = add(&mut event_loop);
    event_loop.connections.close(former, Closed::Commanded);
    event_loop.connections.close(former, Closed::WriteTimeout); // Once is enough.
    let (second, _other) = add(&mut event_loop);
    assert_ne!(second.slot, former.slot);
    assert_eq!(
        event_loop.connections.shared.counts.at(ListenerId(0)),
        1,
        "the former one no longer counts"
    );
    event_loop.reap();
    assert_eq!(state(&mut event_loop, former), None);
    assert_eq!(event_loop.app.closed, [(former, Closed::Commanded)]);
    let (third, _other) = add(&mut event_loop);
    assert_eq!(third.slot, former.slot);
    assert_eq!(event_loop.metrics().open(), 2);
    // The former id matches no connection.
    event_loop.connections.want_fill(former);
    event_loop.connections.finish(former);
    event_loop.connections.close(former, Closed::Commanded);
    event_loop.serve();
    event_loop.reap();
    assert_eq!(state(&mut event_loop, third), Some(ConnectionState::Open));
}

/// No event has announced it, so only another read can find it.
#[test]
fn input_after_the_last_poll_is_answered_at_a_stop() {
    let mut event_loop = event_loop(Limits::default());
    let (id, mut other) = add(&mut event_loop);
    turn(&mut event_loop);
    let slot = event_loop.connections.slots.get_mut(id).expect("it is open");
    assert!(!slot.connection.ready.readable);
    other.write_all(b"late\n").expect("it is connected");
    event_loop.stop();
    event_loop.serve();
    let mut answer = [0; 16];
    let count = other.read(&mut answer).expect("an answer, or the end");
    assert_eq!(&answer[..count], b"late!");
}

/// Two wake-ups may arrive as one event, and the second is not repeated.
#[test]
fn one_wake_up_delivers_all_results_in_that_turn() {
    let mut event_loop = event_loop(Limits::default());
    let mailbox = event_loop.mailbox();
    mailbox.send(1).expect("the loop is there");
    mailbox.send(2).expect("the loop is there");
    event_loop.turn().expect("a turn");
    assert_eq!(event_loop.app.messages, [1, 2]);
    assert!(!event_loop.was_woken);
}

#[test]
fn messages_beyond_the_budget_of_a_turn_need_no_other_wake_up() {
    let mut event_loop = event_loop(Limits::default());
    let mailbox = event_loop.mailbox();
    let count = MESSAGES_PER_TURN as u32 + 1;
    (0..count).for_each(|message| mailbox.send(message).expect("the loop is there"));
    event_loop.turn().expect("a turn");
    assert!(event_loop.app.messages.len() < count as usize && event_loop.has_work());
    while event_loop.has_work() {
        event_loop.turn().expect("a turn");
    }
    assert!(event_loop.app.messages.iter().copied().eq(0..count));
}

/// `timeout` and Ctrl-C signal a process and then its group.
#[test]
fn a_second_signal_ends_a_loop_that_still_answers_and_a_closed_lifeline_is_no_signal() {
    let mut event_loop = event_loop(Limits::default());
    let (lifeline, ours) =
        mio::unix::pipe::new().map(|(ours, theirs)| (theirs, ours)).expect("a pipe");
    let request = |_| Some(ControlRequest::Stop);
    let signals = vec![signal_hook::consts::SIGWINCH];
    let controls = Controls { signals, request, lifeline: Some(ours.into()) };
    event_loop.watch_controls(controls).expect("they can be watched");
    let (id, mut other) = add(&mut event_loop);
    other.write_all(b"hold 1\n").expect("it is connected");
    turn(&mut event_loop);
    // An answer that nobody reads keeps it open.
    let slot = event_loop.connections.slots.get_mut(id).expect("it is open");
    slot.connection.awaits = Awaits::Fill;
    let began = event_loop.connections.shared.now.elapsed;
    let signal = |event_loop: &mut EventLoop<Echo>, after| {
        event_loop.connections.shared.now.elapsed = began + Duration::from_millis(after);
        signal_hook::low_level::raise(signal_hook::consts::SIGWINCH).expect("a signal");
        event_loop.controls.note_signals();
        event_loop.handle_timers();
        event_loop.shutdown.is_over()
    };
    assert!(!signal(&mut event_loop, 0));
    assert!(!signal(&mut event_loop, 999), "it belongs to the first one");
    drop(lifeline);
    event_loop.connections.shared.now.elapsed = began + Duration::from_secs(2);
    event_loop.controls.note_lifeline();
    event_loop.handle_timers();
    assert!(!event_loop.shutdown.is_over(), "the lifeline is no signal");
    assert!(signal(&mut event_loop, 2_000));
    assert!(event_loop.shutdown.is_hurried());
}

/// The bytes that meet it may have arrived in time and still be in the kernel: the process was stopped after
/// the poll and before it read the clock.
#[test]
fn a_deadline_is_judged_only_after_earlier_input_was_served() {
    let mut event_loop = event_loop(Limits::default());
    let (id, mut other) = add(&mut event_loop);
    turn(&mut event_loop);
    turn(&mut event_loop);
    let deadline = event_loop.connections.shared.now.elapsed + Duration::from_secs(1);
    event_loop.connections.shared.timers.set(Timer::Input(id), deadline);
    event_loop.app.deadline = Some(deadline);
    event_loop.app.watched = Some(id);
    event_loop.was_woken = true;
    event_loop.wait().expect("a poll");
    other.write_all(b"in time\n").expect("it is connected");
    event_loop.start -= Duration::from_secs(10);
    event_loop.connections.shared.now.elapsed += Duration::from_secs(10);
    for step in [EventLoop::note, EventLoop::serve, EventLoop::flush, EventLoop::handle_timers] {
        step(&mut event_loop);
    }
    assert_eq!(event_loop.app.timeouts, [], "the input has not been read");
    turn(&mut event_loop);
    turn(&mut event_loop);
    assert_eq!(state(&mut event_loop, id), Some(ConnectionState::Open), "its line was handled");
    let timeouts = &event_loop.app.timeouts;
    assert!(timeouts.len() == 1 && timeouts[0].0 >= deadline && !timeouts[0].1, "{timeouts:?}");
}

#[test]
fn a_timer_waits_for_a_connection_that_is_behind() {
    let mut event_loop = event_loop(Limits::default());
    let (id, _other) = add(&mut event_loop);
    event_loop.flush();
    event_loop.connections.shared.timers.set(Timer::Input(id), Duration::ZERO);
    let Some(Slot { connection, .. }) = event_loop.connections.slots.get_mut(id) else {
        panic!("it is open");
    };
    connection.write_pending = false;
    event_loop.connections.shared.queue_serve(connection);
    event_loop.handle_timers();
    assert_eq!(state(&mut event_loop, id), Some(ConnectionState::Open), "it was not served yet");
    event_loop.serve();
    event_loop.flush();
    event_loop.connections.shared.timers.set(Timer::Input(id), Duration::ZERO);
    event_loop.handle_timers();
    assert_eq!(state(&mut event_loop, id), Some(ConnectionState::Closed));
}

#[test]
fn the_largest_is_closed_and_its_sessions_memory_is_free_in_the_same_step() {
    let mut event_loop = event_loop(Limits { buffer_bytes: 64 * 1024, ..Limits::default() });
    let (small, mut one) = add(&mut event_loop);
    let (large, mut other) = add(&mut event_loop);
    one.write_all(b"hold 20000\n").expect("it is connected");
    turn(&mut event_loop);
    other.write_all(b"hold 60000\n").expect("it is connected");
    event_loop.wait().expect("a poll");
    event_loop.note();
    event_loop.serve();
    assert_eq!(event_loop.app.closed, [(large, Closed::OutOfMemory)], "before it is reaped");
    assert!(event_loop.connections.shared.buffered < 40_000);
    event_loop.reap();
    assert_eq!(event_loop.app.closed.len(), 1, "it is reported once");
    assert_eq!(state(&mut event_loop, small), Some(ConnectionState::Open));
}

/// A short read has shown that there was nothing; input that arrived since then has no event yet.
#[test]
fn a_probe_asks_the_kernel_in_the_same_step() {
    let mut event_loop = event_loop(Limits::default());
    event_loop.app.probes = true;
    let (id, mut other) = add(&mut event_loop);
    turn(&mut event_loop);
    assert!(event_loop.app.received.is_empty());
    event_loop.connections.want_fill(id);
    event_loop.fill();
    assert_eq!(event_loop.app.received, [b""], "there is no input on it");
    other.write_all(b"stray").expect("it is connected");
    event_loop.connections.want_fill(id);
    event_loop.fill();
    assert_eq!(event_loop.app.received, [&b""[..], b"stray"]);
}

#[test]
fn an_idle_connection_is_closed_without_lingering_when_a_loop_stops() {
    let mut event_loop = event_loop(Limits::default());
    let (id, _other) = add(&mut event_loop);
    turn(&mut event_loop);
    event_loop.stop();
    turn(&mut event_loop);
    assert_eq!(state(&mut event_loop, id), None, "it was reaped in that turn");
    assert!(event_loop.shutdown.is_over());
}

/// The loop has slept since its last poll, so it does not know yet that nothing arrived meanwhile.
#[test]
fn an_idle_connection_is_evicted_even_after_a_long_sleep() {
    let mut event_loop = event_loop(Limits::default());
    let silence = Duration::from_millis(20);
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = Listen::on(ListenerId(0), address);
    let listen = Listen { connections: 1, evict_after: Some(silence), ..listen };
    let address = event_loop.listen(listen).expect("a free port");
    let _first = std::net::TcpStream::connect(address).expect("it listens");
    (0..3).for_each(|_| turn(&mut event_loop));
    let _early = std::net::TcpStream::connect(address).expect("it listens");
    turn(&mut event_loop);
    turn(&mut event_loop);
    assert_eq!((event_loop.app.refused, event_loop.app.closed.len()), (1, 0));
    std::thread::sleep(2 * silence);
    let _late = std::net::TcpStream::connect(address).expect("it listens");
    turn(&mut event_loop);
    assert_eq!(event_loop.app.closed.len(), 0, "the kernel must be asked again");
    assert!(event_loop.acceptor.has_work());
    (0..2).for_each(|_| turn(&mut event_loop));
    assert_eq!((event_loop.app.refused, event_loop.app.closed.len()), (1, 1));
    assert_eq!(event_loop.app.closed[0].1, Closed::Evicted);
    assert_eq!(event_loop.metrics().open(), 1);
}

#[test]
fn a_connection_with_many_lines_gets_only_its_share_of_a_turn() {
    let mut event_loop = event_loop(Limits::default());
    let (id, mut other) = add(&mut event_loop);
    other.write_all(&b"\n".repeat(3_000)).expect("it is connected");
    let mut handled = Vec::new();
    for _ in 0..4 {
        turn(&mut event_loop);
        handled.push(event_loop.app.lines);
    }
    assert_eq!(handled, [1_024, 2_048, 3_000, 3_000]);
    assert!(!event_loop.connections.is_behind(id));
}

#[test]
fn lines_after_a_waiting_one_are_handled_only_after_fill() {
    let mut event_loop = event_loop(Limits::default());
    let (id, mut other) = add(&mut event_loop);
    other.write_all(b"wait\nnext\n").expect("it is connected");
    (0..3).for_each(|_| turn(&mut event_loop));
    assert_eq!(event_loop.app.lines, 1);
    event_loop.app.commands.push(Command::Fill(id));
    turn(&mut event_loop);
    assert!(event_loop.has_work(), "it is filled without another event");
    (0..2).for_each(|_| turn(&mut event_loop));
    assert_eq!(event_loop.app.lines, 2);
}

/// A turn that serves it again would cost an `epoll_wait` without a wait.
#[test]
fn who_has_got_a_later_answer_is_served_again_only_if_more_has_come() {
    for (sent, is_more) in [(&b"wait\n"[..], false), (b"wait\nnext", true)] {
        let mut event_loop = event_loop(Limits::default());
        let (id, mut other) = add(&mut event_loop);
        other.write_all(sent).expect("it is connected");
        (0..2).for_each(|_| turn(&mut event_loop));
        assert!(!event_loop.has_work(), "it waits");
        event_loop.connections.want_fill(id);
        event_loop.fill();
        assert_eq!(event_loop.connections.has_work(), is_more, "{sent:?}");
    }
}

#[test]
fn a_stop_command_at_the_start_ends_the_loop_at_once() {
    let mut event_loop = event_loop(Limits::default());
    let listen = Listen::on(ListenerId(0), SocketAddr::from(([127, 0, 0, 1], 0)));
    event_loop.listen(listen).expect("a free port");
    event_loop.application().commands.push(Command::Stop);
    let stopped = event_loop.run().expect("it runs");
    assert_eq!((stopped.still_open, stopped.grace_expired, stopped.hurried), (0, false, false));
}

#[test]
fn unanswered_connections_are_counted_after_the_grace_time() {
    let grace = Duration::from_millis(20);
    let mut event_loop = event_loop(Limits { grace, ..Limits::default() });
    let (id, _other) = add(&mut event_loop);
    let slot = event_loop.connections.slots.get_mut(id).expect("it is open");
    slot.connection.awaits = Awaits::Fill;
    event_loop.application().commands.push(Command::Stop);
    let stopped = event_loop.run().expect("it runs");
    assert_eq!((stopped.still_open, stopped.grace_expired, stopped.hurried), (1, true, false));
}

/// Ten thousand idle connections cost 200 bytes each at most, the session of a client included.
#[test]
fn an_idle_connection_is_small() {
    type Client = (bool, [u64; 2]);
    // With debug assertions mio keeps a number with each socket.
    let of_mio = if cfg!(debug_assertions) { size_of::<usize>() } else { 0 };
    let slot = size_of::<Slot<Client>>();
    assert!(slot <= 200 + of_mio, "{slot} bytes");
}
