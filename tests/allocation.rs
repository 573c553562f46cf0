//! Claim: in the steady state no line allocates, from the bytes of a read to the answer in the output; only the
//! feed's rewrite does, which happens once in some sixty changes of a small table, and more rarely in a large one.
//!
//! What is counted is the way of a line without its socket: framing, parsing, the table, the answer. The log is off, as
//! it is in a process that did not start one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use herd_mio::application::{
    Application, ConnectionId, Framing, Io, LineBuffer, Opened, Origin, Policy,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::event_loop::Buffers;
use herd_mio::server::{CLIENTS, Server, ServerSetup, Session};

/// The system's allocator, which counts what this thread asks it for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn allocations() -> usize {
    ALLOCATIONS.get()
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing, since the counter is made
// without any code of its own and never dropped.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn the_counter_counts() {
    let before = allocations();
    let text = std::hint::black_box(Vec::<u8>::with_capacity(100));
    assert_eq!(allocations(), before + 1);
    drop(text);
}

#[test]
fn a_refused_line_allocates_nothing() {
    let mut world = World::new();
    world.warm_up(b"IAMAT kiwi +34-200 1\n");
    let before = allocations();
    for _ in 0..LINES {
        world.ask(b"IAMAT kiwi +34-200 1\n", b"? IAMAT kiwi +34-200 1\n");
    }
    assert_eq!(allocations() - before, 0);
}

#[test]
fn a_stale_update_allocates_nothing() {
    let mut world = World::new();
    world.warm_up(b"IAMAT kiwi +34-118 1\n");
    let before = allocations();
    for _ in 0..LINES {
        world.ask(b"IAMAT kiwi +34-118 1\n", b"AT AT kiwi +34-118 1\n");
    }
    assert_eq!(allocations() - before, 0);
}

#[test]
fn an_update_that_moves_a_known_client_allocates_only_where_the_feed_is_rewritten() {
    let mut world = World::new();
    let mut request = *b"IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.000000\n";
    world.warm_up(&request);
    let mut lines_that_allocate = 0;
    for number in 0..LINES {
        let end = request.len() - 1;
        write_digits(&mut request[end - 6..end], number + 1);
        let mut answer = request;
        answer[..5].copy_from_slice(b"AT AT");
        let before = allocations();
        world.ask(&request, &answer);
        lines_that_allocate += usize::from(allocations() > before);
    }
    // A rewrite makes new room for the feed's records, one time in sixty.
    assert!(lines_that_allocate > 0, "the feed was never rewritten: the test has lost its sense");
    assert!(lines_that_allocate * 50 < LINES, "{lines_that_allocate} of {LINES} lines allocate");
}

/// One client of one server, and the memory that the loop would lend.
struct World {
    server: Server,
    session: Session,
    policy: Policy,
    buffers: Buffers,
    input: LineBuffer,
    output: Vec<u8>,
}

impl World {
    fn new() -> World {
        let config = &Config::default();
        let mut server = Server::new(ServerSetup::plain(config, NOW));
        let mut greeting = Vec::new();
        let mut io = io(&mut greeting);
        let opened = server.handle_open(Opened::plain(Origin::Accepted(CLIENTS)), &mut io);
        let (session, policy) = opened.expect("nobody is refused");
        World {
            server,
            session,
            policy,
            buffers: Buffers::default(),
            input: LineBuffer::default(),
            output: Vec::new(),
        }
    }

    /// Handles one line as the loop does: memory is lent while there are bytes in it.
    fn handle(&mut self, bytes: &[u8]) {
        self.input.lend(self.buffers.lend());
        self.input.push(bytes);
        self.output = self.buffers.lend();
        let Framing::Lines(limit) = self.policy.framing else {
            panic!("a client sends lines");
        };
        while let Some(line) = self.input.next_line(limit) {
            self.server.handle_line(&mut self.session, line, &mut io(&mut self.output));
            while self.server.poll_command().is_some() {}
        }
        self.input.reclaim().into_iter().for_each(|memory| self.buffers.reclaim(memory));
    }

    fn ask(&mut self, request: &[u8], answer: &[u8]) {
        self.handle(request);
        assert_eq!(self.output, answer);
        self.buffers.reclaim(std::mem::take(&mut self.output));
    }

    /// Until all memory that is kept is there.
    fn warm_up(&mut self, request: &[u8]) {
        for _ in 0..10 {
            self.handle(request);
            self.buffers.reclaim(std::mem::take(&mut self.output));
        }
    }
}

fn io(out: &mut Vec<u8>) -> Io<'_> {
    let (id, peer) = (ConnectionId { slot: 0, generation: 1 }, ([127, 0, 0, 1], 1).into());
    Io::new(id, peer, NOW, out, usize::MAX / 2)
}

fn write_digits(places: &mut [u8], number: usize) {
    let mut rest = number;
    for place in places.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

const LINES: usize = 10_000;
const NOW: Now = Now { elapsed: Duration::ZERO, wall: WallTime(1_700_000_000_000_000_000) };
