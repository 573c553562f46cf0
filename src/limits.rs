//! Every bound of the server, with its reason (protocol, section 7).

use std::time::Duration;

/// The limits that a configuration can set (`[limits]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// A client's line, its ending not counted.
    pub line_bytes: usize,
    /// Time to finish a begun line.
    pub line_timeout: Duration,
    /// After such a pause in an unfinished line of a client it is handled as a line; never, if there is none.
    pub line_pause: Option<Duration>,
    /// Clients connected at once.
    pub client_connections: usize,
    /// Unsent bytes of a connection above which no further line of it is handled.
    pub output_bytes: usize,
    /// How long a connection with unsent bytes may take none of them.
    pub write_timeout: Duration,
    /// Memory of all connections' buffers together.
    pub buffer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line_bytes: 4_096,
            line_timeout: Duration::from_secs(60),
            line_pause: None,
            client_connections: 10_000,
            output_bytes: 1024 * 1024,
            write_timeout: Duration::from_secs(10),
            buffer_bytes: 256 * 1024 * 1024,
        }
    }
}

/// What `line_bytes` can be set to at most: an update between servers is longer than the IAMAT
/// that it came from, and must fit into [`PEER_LINE_BYTES`].
pub const MAX_CLIENT_LINE_BYTES: usize = 32_768;

/// A MARK follows after so many updates at the latest (section 4).
pub const MARK_UPDATES: usize = 1_000;
/// A MARK follows after so many bytes of updates at the latest (section 4).
pub const MARK_BYTES: usize = 64 * 1024;
/// The pause before a link is dialled again, at first.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(100);
/// The pause before a link is dialled again, at most.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a link must have been up for its next pause to be the first one again.
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(10);
/// How long a neighbour that is there may take to answer an attempt to connect: as long as TCP waits
/// before it sends a SYN again (RFC 6298). One that took longer was lost on a host that was not up yet,
/// and is tried again by TCP at ever longer intervals.
pub const CONNECT_ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Runs of one neighbour that are remembered, so that one of them that comes back is recognised: as many
/// servers may call themselves alike, and be told of.
pub const NAMESAKE_RUNS: usize = 4;
/// How often a run must come back after another one before two servers of one name are taken for a fact. A
/// HELLO that was under way for long, and then overtaken by that of the next run, makes one or two.
pub const NAMESAKE_RETURNS: u32 = 3;
/// When two servers of one name are no longer there: each that is pushed off dials again within 5 s.
pub const NAMESAKES_RESET_AFTER: Duration = Duration::from_secs(30);
/// Addresses of one neighbour's name that are tried. Names have a handful; a resolver may say hundreds.
pub const MAX_LINK_ADDRESSES: usize = 64;
/// How long one of several addresses of a neighbour may take, from the dial to the RESUME, so that one
/// that leads nowhere does not keep us from the next. Each round without success doubles it: a neighbour
/// may be slow.
pub const LINK_ATTEMPT: Duration = Duration::from_secs(1);
/// How long that may become: some round trips by satellite, and a SYN sent twice, and still one that the
/// next address can wait for. (A single address has three heartbeats.)
pub const LINK_ATTEMPT_MAX: Duration = Duration::from_secs(4);
/// How long after a look-up a HELLO from an address that is not known makes us look the name up again.
pub const LOOKUP_REFRESH: Duration = Duration::from_secs(5);
/// How long a look-up is waited for where an earlier one has found addresses.
pub const LOOKUP_WAIT: Duration = Duration::from_millis(500);
/// Look-ups of neighbours' names under way at once, each on a thread: one of a name whose server is silent
/// takes up to half a minute.
pub const MAX_LOOKUPS: usize = 16;
/// The Places service's name is looked up and the gazetteer unpacked at the same time.
pub const PLACES_JOBS: usize = 2;
/// Records of the feed that a link looks at in one turn: dead and skipped ones cost time, too.
pub const FEED_RECORDS_PER_STEP: usize = 4_096;
/// Longest line between servers, whatever the clients' limit (section 4).
pub const PEER_LINE_BYTES: usize = 65_536;
/// How much is read and dropped from a connection that we have closed on our side.
pub const LINGER_BYTES: usize = 256 * 1024;
/// How long a connection that we have closed on our side is read from.
pub const LINGER: Duration = Duration::from_secs(1);
/// Empty buffers kept for the next connection that has bytes.
pub const SPARE_BUFFERS: usize = 256;
/// A buffer larger than this is not kept.
pub const SPARE_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes read from one connection in one turn.
pub const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// Reads of a kept connection that signals may interrupt before it is given up.
pub const MAX_INTERRUPTED_READS: usize = 8;
/// Memory of a TLS session, about: keys, rustls's buffers for one record each way, and what the allocator
/// adds. A fixed share for each, because rustls doesn't tell.
pub const TLS_SESSION_BYTES: usize = 24 * 1024;
/// Time that a step of the loop's turn takes, give or take what was begun, so that nobody waits long for
/// the others and signals and deadlines are seen to in between.
pub const STEP_TIME: Duration = Duration::from_millis(10);
/// Effort, in units of a plain line, after which a step looks at the clock: some 30 us, so that a look
/// costs a thousandth of the work and the dearest lines keep [`STEP_TIME`].
pub const EFFORT_PER_CLOCK_READ: u32 = 64;
/// Effort of one connection in one turn: so many plain lines.
pub const LINES_PER_TURN: u32 = 1_024;
/// Effort of all ready connections together, before it is the first one's turn again: some 30 ms.
pub const EFFORT_PER_PASS: u32 = 65_536;
/// The least effort of one connection in one turn, however many are ready: to answer fewer plain lines
/// with one write would waste the write.
pub const MIN_EFFORT: u32 = 64;
/// Effort of a query that the gazetteer answers: 15 to 100 us.
pub const GAZETTEER_EFFORT: u32 = 64;
/// Effort of a system call or two on one connection.
pub const CALL_EFFORT: u32 = 4;
/// Effort of a step of a TLS handshake, which signs or checks.
pub const HANDSHAKE_EFFORT: u32 = 256;
/// Connections accepted in one turn, if there is time for so many: who waits to be accepted should not
/// wait for many turns that others fill.
pub const ACCEPTS_PER_TURN: usize = 1_024;
/// Events taken from the kernel in one turn.
pub const EVENTS_PER_TURN: usize = 1_024;
/// Unsent bytes of a link above which it takes nothing more from the feed.
pub const LINK_OUTPUT_BYTES: usize = 256 * 1024;
/// Connections that the kernel keeps for us until we accept them. (mio and std ask for 128.)
pub const BACKLOG: i32 = 4_096;
/// When to try to accept again after the kernel refused for want of descriptors or memory.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Callers on the neighbours' port that have not said who they are.
pub const MAX_UNIDENTIFIED_PEERS: usize = 64;
/// How long a client must have been silent before it makes room for another one.
pub const EVICT_IDLE_AFTER: Duration = Duration::from_secs(60);
/// An attempt at one address of the Places service, from dialling until TLS is finished, may take this
/// part of a query's time, so that some is left for the next address. (The last address has all the rest:
/// nobody waits behind it.)
pub const PLACES_ATTEMPT_PART: u32 = 4;
/// A kept connection with the Places service that brings no byte of an answer for this part of a query's
/// time may be dead: enough is left then to ask again on a fresh one.
pub const PLACES_SILENCE_PART: u32 = 5;
/// A query whose time is up gets this part of it once more while its answer is being read: what came in
/// time is then read, and a service that sends without end is not waited for.
pub const PLACES_READING_PART: u32 = 4;
/// How long a connection with the Places service is kept without a query. Services close theirs after
/// a minute or more; whoever closes first needs no second try.
pub const PLACES_IDLE: Duration = Duration::from_secs(50);
/// How long no connection with the Places service is kept after one on which more came than the answer.
/// What comes unasked may come a moment after the next request has gone out, and may look like that
/// request's answer. For as long a service is believed that was seen to answer different questions alike.
pub const PLACES_DISTRUST: Duration = Duration::from_secs(60);
/// How long an answer that is the one before once more is kept back, at least: a service that answers twice
/// has the next answer ready. One that does not costs that time once a minute.
pub const PLACES_DOUBT: Duration = Duration::from_millis(250);
/// How long answers and acknowledgements are waited for at the end.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// A second SIGTERM or SIGINT counts as one of its own after this time: `timeout`, service managers
/// and Ctrl-C signal a process and then its group, within milliseconds.
pub const SECOND_SIGNAL_AFTER: Duration = Duration::from_secs(1);
/// Log that waits for the disk (section 6). Beyond it records are dropped.
pub const LOG_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// One record of the log; the rest of a longer one is cut.
pub const LOG_RECORD_BYTES: usize = 16 * 1024;
/// The time between a warning of what lasts (a neighbour that can't be reached) and the next one. Each
/// further one is twice as long.
pub const LASTING_INTERVAL_INITIAL: Duration = Duration::from_secs(60);
/// The longest of these times: who reads the last few hours of a log finds it there.
pub const LASTING_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// What was well for that long is said at once when it goes wrong again. A problem that comes and goes
/// faster is one that lasts.
pub const LASTING_RESET_AFTER: Duration = Duration::from_secs(60);
/// The time between two warnings of one kind that somebody outside can cause as often as he likes. A
/// kind so writes less than 30 MB a day, and a person sees within a second that something is wrong.
pub const WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// How long a link must have been down before it is said that the neighbour can't be reached: servers that
/// are started together, or one that is restarted, find each other sooner.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(1);
/// How long the end of the program waits for the log to be written. With [`SHUTDOWN_GRACE`] before it a
/// server ends within the ten seconds that container engines wait before they kill.
pub const LOG_FLUSH_WAIT: Duration = Duration::from_secs(2);
/// The same where the program is to end at once.
pub const LOG_FLUSH_WAIT_HURRIED: Duration = Duration::from_millis(100);
/// How long a supervisor waits for its servers to stop before it kills them: they may use all of
/// [`SHUTDOWN_GRACE`], [`LOG_FLUSH_WAIT`] and [`STDERR_FLUSH_WAIT`], and the rest is for a busy machine.
pub const STOP_WAIT: Duration = Duration::from_secs(9);
/// How long a supervisor waits for a killed process. The kernel may keep one that waits for a disk.
pub const KILL_WAIT: Duration = Duration::from_millis(500);
/// How long a supervisor waits for ports that are in use: the last one's servers may just be stopping.
pub const PORTS_WAIT: Duration = Duration::from_secs(2);
/// A file that the operator names: a configuration of 10,000 servers has some 2 MB. It may be a device
/// that never ends.
pub const INPUT_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Messages that wait for standard error. Beyond it they are dropped: a supervisor whose servers
/// die again and again says some 100 bytes each time.
pub const STDERR_QUEUE_BYTES: usize = 64 * 1024;
/// How long the end of the program waits for standard error. Whoever reads it takes a message in
/// milliseconds; where nobody does, waiting longer helps nobody.
pub const STDERR_FLUSH_WAIT: Duration = Duration::from_millis(500);
/// The head of an HTTP request or answer, its blank line included: services send about 1 KiB, and
/// nginx and Apache take 8 KiB at most.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Fields in one HTTP head. The parser wants their places before it begins, 32 bytes each.
pub const HEAD_FIELDS: usize = 100;
/// A line before a chunk of an HTTP body: sixteen digits and its ending are 18 bytes, the rest is for
/// extensions, which nobody sends and which are skipped.
pub const CHUNK_LINE_BYTES: usize = 256;
/// Heads of status 1xx before the answer itself, so that they can't go on for ever.
pub const INTERIM_HEADS: usize = 8;
/// The names and links in an answer of places that must be shown with it: Google's have some 100 bytes,
/// and as HTML they may become six times as long.
pub const ATTRIBUTION_BYTES: usize = 16 * 1024;
/// The body of a request to the Places service of our own: one of the New API has some 200 bytes.
pub const REQUEST_BODY_BYTES: usize = 64 * 1024;
