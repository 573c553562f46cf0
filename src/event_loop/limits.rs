//! Every bound of the loop, with its reason.

use std::time::Duration;

use crate::addresses::Prefix;

/// The bounds that a program can choose for its loop. Write `Limits { .., ..Limits::default() }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unsent bytes of a connection above which no more of its input is read or handled.
    pub output_bytes: usize,
    /// Unsent bytes of a connection above which [`fill`](crate::application::Application::fill) is not
    /// called. It keeps the memory of slow readers small.
    pub fill_bytes: usize,
    /// Memory of all connections together: buffers, TLS, and what sessions hold.
    pub buffer_bytes: usize,
    /// How long a peer may accept none of the bytes sent to it.
    pub write_timeout: Duration,
    /// How long an accepted connection may take from its acceptance to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// TLS handshakes of accepted connections in progress at once. Further ones begin later, and one group of addresses
    /// may have half of them at most.
    pub handshakes: usize,
    /// TLS handshakes that one group of addresses may begin in each second, after the burst; 0 if there is no such
    /// limit. Exempt groups have none.
    pub handshakes_per_second: usize,
    /// TLS handshakes that one group of addresses may begin at once.
    pub handshakes_burst: usize,
    /// How long the loop waits for answers when it stops.
    pub grace: Duration,
    /// How long a drain goes on as before, listeners included.
    pub drain_delay: Duration,
    /// How long a drain takes at most, its delay included, before it becomes an ordinary stop.
    pub drain_duration: Duration,
    /// Addresses that are free of limits for each group ([`GroupRules::per_group`](super::GroupRules)).
    pub exempt: Vec<Prefix>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            output_bytes: 1024 * 1024,
            fill_bytes: 256 * 1024,
            buffer_bytes: 256 * 1024 * 1024,
            write_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            handshakes: 256,
            handshakes_per_second: 0,
            handshakes_burst: 200,
            grace: Duration::from_secs(5),
            drain_delay: Duration::from_secs(10),
            drain_duration: Duration::from_secs(30),
            exempt: Vec::new(),
        }
    }
}

/// Bytes read from one connection in one turn.
pub(super) const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// How many interrupted reads a probe allows (by signals, or by TLS records without data). After that many,
/// the other side is sending without end.
pub(super) const MAX_INTERRUPTED_READS: usize = 8;
/// Time that a step of the turn may take, apart from finishing what it began, so that no connection waits
/// long for the others and signals and deadlines are handled in between.
pub(super) const STEP_TIME: Duration = Duration::from_millis(4);
/// Effort, in units of a plain line, after which a step looks at the clock: some 30 us, so that a look costs
/// a thousandth of the work, and even the most expensive lines keep to [`STEP_TIME`].
pub(super) const EFFORT_PER_LOOK: u32 = 64;
/// Most effort of one connection in one turn: this many plain lines.
pub(super) const LINES_PER_TURN: u32 = 1_024;
/// Most effort of all ready connections together in one pass, before the first one is served again: some 30
/// ms.
pub(super) const EFFORT_PER_PASS: u32 = 65_536;
/// The share of one connection in one turn is at least this, however many are ready: with fewer plain lines
/// per write, the write would be wasted.
pub(super) const MIN_EFFORT: u32 = 64;
/// Effort of a system call or two on one connection.
pub(super) const CALL_EFFORT: u32 = 4;
/// Effort of a step of a TLS handshake, which signs or verifies.
pub(super) const HANDSHAKE_EFFORT: u32 = 256;
/// Messages of TLS handshakes processed in one turn, of accepted connections: some 115 us each, so that those that are
/// open wait a millisecond at most for the handshakes of others.
pub(super) const HANDSHAKES_PER_TURN: usize = 8;
/// Certificates of open connections verified again in one turn after a change of TLS: some 100 us each.
pub(super) const VERIFICATIONS_PER_TURN: usize = 16;
/// Slots looked at in one turn in search of such connections: some microseconds where none is concerned.
pub(super) const SLOTS_PER_LOOK: usize = 1_024;
/// Bytes of a line that cost as much as the line itself: they are copied, searched and printed.
pub(super) const LINE_BYTES_PER_EFFORT: usize = 128;
/// Connections accepted in one turn at each listener, if there is time for so many: a new connection should
/// not wait for many full turns.
pub(super) const ACCEPTS_PER_TURN: usize = 1_024;
/// Events taken from the kernel in one turn.
pub(super) const EVENTS_PER_TURN: usize = 1_024;
/// Messages of other threads handled in one turn: a thread that sends faster than they are handled must
/// not hold the loop.
pub(super) const MESSAGES_PER_TURN: usize = 1_024;
/// Connections that the kernel queues until we accept them. (mio and std ask for 128.)
pub(super) const BACKLOG: i32 = 4_096;
/// When to try to accept again after the kernel refused because it lacked descriptors or memory.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long a listener that was replaced stays if the kernel lacks descriptors for the connections that wait
/// at it: to the other side they are connected, and closing it resets them.
pub(super) const RETIRE_WITHIN: Duration = Duration::from_secs(1);
/// How long to read from a connection that we have closed on our side.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// How much to read and drop from a connection that we have closed on our side.
pub(super) const LINGER_BYTES: u32 = 256 * 1024;
/// Empty buffers kept for the next connection that has bytes.
pub(super) const SPARE_BUFFERS: usize = 256;
/// A buffer larger than this is not kept.
pub(super) const SPARE_BUFFER_BYTES: usize = 64 * 1024;
/// The longest text of a reload that a lifeline may carry: a configuration of 1 MiB, and what is handed on with
/// it.
pub const LIFELINE_TEXT: usize = 1024 * 1024 + 128 * 1024;
/// Reads of a lifeline in one turn, 4 KiB each: what a pipe usually holds. A supervisor that writes without end
/// must not hold the loop.
pub(super) const LIFELINE_READS_PER_TURN: usize = 16;
/// After this time a second signal to stop counts as a separate one: `timeout`, service managers and Ctrl-C
/// signal a process and then its group, within milliseconds.
pub(super) const SECOND_SIGNAL_AFTER: Duration = Duration::from_secs(1);
/// The time between two steps of a drain: often enough for an even rate, and rarely enough that a step may look at all
/// connections.
pub(super) const DRAIN_STEP: Duration = Duration::from_millis(100);
/// The kernel counts a wait's milliseconds in 32 bits.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(86_400);
/// Groups of addresses that are counted one by one: more addresses than most servers have connections, in
/// some 8 MB. Connections of any further group count for one that is shared.
pub(super) const ADDRESS_GROUPS: usize = 65_536;
/// Groups of addresses that each new one looks at for one that can be forgotten: more than one, so that they become
/// fewer while there are some.
pub(super) const GROUPS_SWEPT: usize = 2;
/// Connections that are compared to find the one of a group that is silent for longest: those of one tick.
pub(super) const FAIR_LOOKS: usize = 64;
/// A tick has two to the power of this many nanoseconds, 134 ms: the order in which connections were read is
/// kept up to that. A connection that is read without pause is moved in its list eight times a second.
pub(super) const TICK_BITS: u32 = 27;
