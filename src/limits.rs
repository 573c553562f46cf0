//! Every bound of the layers above the event loop, with its reason (protocol, section 7). The loop has its
//! own, in `event_loop/limits.rs`.

mod cache;
mod engine;
mod held;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub use cache::*;
pub use engine::*;
pub use held::*;

use crate::addresses::Prefix;

/// The limits that a configuration can set (`[limits]`).
#[derive(Clone, Debug, PartialEq)]
pub struct ConfiguredLimits {
    /// The longest line of a client, without its ending.
    pub line_bytes: usize,
    /// How long a client may take to complete a line.
    pub line_timeout: Duration,
    /// After a pause of this length an incomplete line of a client is handled as a line; with none, never.
    pub line_pause: Option<Duration>,
    /// The maximal number of connected clients.
    pub client_connections: usize,
    /// Unsent bytes of a connection above which no further line of it is handled.
    pub output_bytes: usize,
    /// How long a connection may take none of its unsent bytes.
    pub write_timeout: Duration,
    /// Memory of all connections' buffers together.
    pub buffer_bytes: usize,
    /// Addresses that are free of the limits for each group of addresses.
    pub exempt: Vec<Prefix>,
    /// The maximal number of connected clients of one group of addresses; 0 if there is no such limit.
    pub client_connections_per_address: usize,
    /// New ids that one group of addresses may add in each second, after the burst; 0 if there is no such limit.
    pub new_ids_per_second: usize,
    /// New ids that one group of addresses may add at once.
    pub new_ids_burst: usize,
    /// How long a connection may take from its acceptance to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// TLS handshakes in progress at once.
    pub handshakes: usize,
    /// TLS handshakes that one group of addresses may begin in each second, after the burst; 0 if there is no such limit.
    pub handshakes_per_second: usize,
    /// TLS handshakes that one group of addresses may begin at once.
    pub handshakes_burst: usize,
}

impl Default for ConfiguredLimits {
    fn default() -> ConfiguredLimits {
        ConfiguredLimits {
            line_bytes: 4_096,
            line_timeout: Duration::from_secs(60),
            line_pause: None,
            client_connections: 10_000,
            output_bytes: 1024 * 1024,
            write_timeout: Duration::from_secs(10),
            buffer_bytes: 256 * 1024 * 1024,
            exempt: vec![
                Prefix::new(Ipv4Addr::LOCALHOST.into(), 8),
                Prefix::new(Ipv6Addr::LOCALHOST.into(), 128),
            ],
            client_connections_per_address: 0,
            new_ids_per_second: 1_000,
            new_ids_burst: 100_000,
            handshake_timeout: Duration::from_secs(5),
            handshakes: 256,
            handshakes_per_second: 50,
            handshakes_burst: 200,
        }
    }
}

/// The longest control line that a server of NATS may send, with its end. INFO is the longest: it lists the other servers
/// of a cluster, some 30 bytes each.
pub const CONTROL_LINE_BYTES: usize = 64 * 1024;
/// Headers of a message of NATS that are looked at; those behind them are as if they were not there. A server adds at most
/// ten.
pub const MAX_HEADERS: usize = 64;

/// Prefixes in `exempt`: each new connection and each new id is compared with all of them.
pub const EXEMPT_PREFIXES: usize = 256;
/// Groups of addresses whose new ids are counted one by one, in some 8 MB. All others share one bucket. An attacker
/// with an IPv6 /48 has as many; but a bucket that is full again is forgotten, and each holds its place only as long
/// as it is used.
pub const ADDRESS_GROUPS: usize = 65_536;
/// Buckets that are looked at to be forgotten when a new one is made: more than one, so that those that are in use do
/// not keep full ones from being found.
pub const GROUPS_SWEPT: usize = 4;
/// Connections that get a token for a new id in one turn: some 0.2 ms.
pub const NEW_IDS_PER_STEP: usize = 1_024;

/// The greatest value of `line_bytes`: an update between servers is longer than the IAMAT that it came from,
/// and must fit into [`PEER_LINE_BYTES`].
pub const MAX_CLIENT_LINE_BYTES: usize = 32_768;

/// A MARK follows after this many updates at the latest (section 4).
pub const MARK_UPDATES: usize = 1_000;
/// A MARK follows after this many bytes of updates at the latest (section 4).
pub const MARK_BYTES: usize = 64 * 1024;
/// The first pause before a link is dialled again, or a process restarted.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(100);
/// The longest such pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A link that was up for this long, or a process that ran for it, starts again with the first pause.
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(10);
/// How long a reachable neighbour may take to answer an attempt to connect: as long as TCP waits before it
/// sends a SYN again (RFC 6298). An attempt that took longer was lost on a host that was not up yet, and TCP
/// repeats it at ever longer intervals.
pub const CONNECT_ANSWER_WAIT: Duration = Duration::from_secs(1);
/// The number of a neighbour's runs that are remembered, so that one that comes back is recognised: as many
/// servers may share one name and be reported.
pub const NAMESAKE_RUNS: usize = 4;
/// How often a run must come back after another one before the log reports two servers with the same name. A
/// HELLO that was delayed and overtaken by that of the next run causes one or two such returns.
pub const NAMESAKE_RETURNS: u32 = 3;
/// After this time without a return there are no longer two servers with the same name: each that is
/// displaced dials again within 5 s.
pub const NAMESAKES_RESET_AFTER: Duration = Duration::from_secs(30);
/// Addresses of one neighbour's name to try. Names have a handful; a resolver may return hundreds.
pub const MAX_LINK_ADDRESSES: usize = 64;
/// How long one of several addresses of a neighbour may take, from the dial to the RESUME, so that an address
/// that leads nowhere does not keep us from the next. Each round without success doubles it, because a
/// neighbour may be slow.
pub const LINK_ATTEMPT: Duration = Duration::from_secs(1);
/// The longest such attempt: enough for some round trips by satellite and a repeated SYN, and short enough
/// for the next address to wait. (A single address has three heartbeats.)
pub const LINK_ATTEMPT_MAX: Duration = Duration::from_secs(4);
/// A HELLO from an unknown address makes us look a neighbour's name up again, but not sooner than this after
/// the last look-up.
pub const LOOKUP_REFRESH: Duration = Duration::from_secs(5);
/// How long to wait for a look-up if an earlier one has found addresses.
pub const LOOKUP_WAIT: Duration = Duration::from_millis(500);
/// Records of the feed that a link visits in one turn: dead and skipped records cost time, too.
pub const FEED_RECORDS_PER_STEP: usize = 4_096;
/// The longest line between servers, whatever the clients' limit is (section 4).
pub const PEER_LINE_BYTES: usize = 65_536;
/// The cost of a query that the gazetteer answers, in units of a plain line: it takes 2 us, and some times as many where its
/// places are not in the processor's cache.
pub const GAZETTEER_EFFORT: u32 = 16;
/// Batches of updates that wait until another loop of this server takes them, each of [`MARK_UPDATES`] or [`MARK_BYTES`] at
/// most: two to take while the next two are filled. They are some 500 KiB.
pub const BATCHES_WAITING: usize = 4;
/// Unsent bytes of a link above which it takes nothing more from the feed.
pub const LINK_OUTPUT_BYTES: usize = 256 * 1024;
/// Connections on the neighbours' port that have not sent HELLO.
pub const MAX_UNIDENTIFIED_PEERS: usize = 64;
/// How long a client must have been idle before it may be evicted for a new one.
pub const EVICT_IDLE_AFTER: Duration = Duration::from_secs(60);
/// An attempt at one address of the Places service, from the dial until the TLS handshake is complete, may
/// take this part of a query's time, so that time is left for the next address. (The last address may take
/// all that is left.)
pub const PLACES_ATTEMPT_PART: u32 = 4;
/// A kept connection with the Places service that brings no byte of an answer for this part of a query's time
/// may be dead: enough time is left then to ask again on a fresh one.
pub const PLACES_SILENCE_PART: u32 = 5;
/// A query that times out while its answer is being read gets this part of its time once more: bytes that
/// came in time are then read, and a service that sends without end does not hold the query.
pub const PLACES_READING_PART: u32 = 4;
/// How long a connection with the Places service is kept without a query. Services close theirs after a
/// minute or more, and the side that closes first needs no second attempt.
pub const PLACES_IDLE: Duration = Duration::from_secs(50);
/// After more bytes than the answer came on a connection with the Places service, no connection is kept for
/// this long. Unrequested bytes may come a moment after the next request has gone out, and may look like its
/// answer. A service that is known to give equal answers to different queries is trusted for the same time.
pub const PLACES_DISTRUST: Duration = Duration::from_secs(60);
/// How long an answer that equals the one before is held back, at least: a service that answers twice has the
/// second answer ready. A service that does not loses that time once a minute.
pub const PLACES_DOUBT: Duration = Duration::from_millis(250);
/// The longest file of certificates, of a key, or of revoked certificates: a list of some 20,000 fits, and so do all of
/// Mozilla's authorities, in some 200 KB.
pub const CERTIFICATE_FILE_BYTES: u64 = 1024 * 1024;
/// TLS configurations for the Places service in one loop. Each reload that changes `[places]` uses the next one, so
/// that queries accepted before the last few changes can still be sent. Such reloads are rare, and a query takes
/// seconds.
pub const PLACES_GENERATIONS: u16 = 4;
/// How long a stopping server waits for answers and acknowledgements.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// How many heartbeats a drain waits for the last acknowledgements of neighbours, after its last client: a neighbour that
/// is silent for longer counts as gone.
pub const SETTLE_HEARTBEATS: u32 = 3;
/// A second SIGTERM or SIGINT counts as a second one after this time: `timeout`, service managers and Ctrl-C
/// signal a process and then its group, within milliseconds.
pub const SECOND_SIGNAL_AFTER: Duration = Duration::from_secs(1);
/// Bytes of the log that wait for the disk (section 6). Beyond that, records are dropped.
pub const LOG_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// How long the thread that writes the log does not look at its queue after a write: what `kill -9` may lose, beside what
/// the thread has not yet written. A pause costs two system calls: a sixth of one for each of 25,000 requests a second.
pub const LOG_PAUSE: Duration = Duration::from_micros(500);
/// Bytes of the log that end that pause: half of the processor's second cache, so that they are still there.
pub const LOG_PAUSE_BYTES: usize = 256 * 1024;
/// Memory that a text of the log keeps for the next one. Turns that record more are rare.
pub const LOG_KEPT_BYTES: usize = 512 * 1024;
/// Records that the page of the admin listener shows: what a person reads.
pub const LOG_TAIL_RECORDS: usize = 200;
/// The memory for them: records of 16 KiB in JSON are few.
pub const LOG_TAIL_BYTES: usize = 1024 * 1024;
/// The longest text of such a record: an id of 256 bytes, escaped, with what is around it.
pub const LOG_TAIL_TEXT_BYTES: usize = 2 * 1024;
/// How long a record waits for the socket of syslog or journald before the log reports in its other outputs that
/// nobody reads it. A daemon that works takes a record in microseconds.
pub const LOG_SOCKET_WAIT: Duration = Duration::from_secs(1);
/// The pause before a record is sent once more for which the kernel had no memory: it frees some in milliseconds.
pub const LOG_SOCKET_RETRY: Duration = Duration::from_millis(10);
/// The time between two attempts to reopen the log's file after one has failed: whoever moved the old file away
/// may be about to create the folder.
pub const LOG_REOPEN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest record of the log; a longer one is cut.
pub const LOG_RECORD_BYTES: usize = 16 * 1024;
/// The time between a warning of a lasting problem (a neighbour that can't be reached) and the next one. Each
/// further interval is twice as long.
pub const LASTING_INTERVAL_INITIAL: Duration = Duration::from_secs(60);
/// The longest such interval: the last few hours of a log show every lasting problem.
pub const LASTING_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// A problem that was over for this long is reported at once when it returns. One that comes and goes faster
/// counts as lasting.
pub const LASTING_RESET_AFTER: Duration = Duration::from_secs(60);
/// The time between two warnings of one kind that others can cause as often as they like. Such a kind writes
/// less than 30 MB per day, and a person sees within a second that something is wrong.
pub const WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// The same for what lasts until an operator acts, such as a bucket of the engine that is full: an hour of it are sixty
/// records.
pub const LASTING_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// How long a link must have been down before the log reports that the neighbour can't be reached: servers
/// that are started together, or one that is restarted, find each other sooner.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(1);
/// The pause before a server of NATS is dialled again, or the next one.
pub const ENGINE_PAUSE_INITIAL: Duration = Duration::from_millis(100);
/// The longest such pause: an outage ends at most so much later for us, and answers wait for it. A server of NATS that is
/// away is dialled less than twice a second by each member.
pub const ENGINE_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The same after a server of NATS has refused us: only an operator can change that, who needs minutes. It is tried
/// again all the same, because credentials are rotated.
pub const ENGINE_LOGIN_PAUSE_INITIAL: Duration = Duration::from_secs(5);
/// The longest such pause.
pub const ENGINE_LOGIN_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A connection that was in use for this long shows that the next one may be made at once.
pub const ENGINE_STABLE_AFTER: Duration = Duration::from_secs(10);
/// Servers of NATS that a server of NATS may tell us of: far more than a cluster has.
pub const MAX_ENGINE_ADDRESSES: usize = 64;
/// The longest address of such a server: a name has at most 255 bytes.
pub const MAX_ENGINE_ADDRESS_BYTES: usize = 300;
/// How long a server of NATS may take from the connection to its welcome. Its own time for our CONNECT is 2 s; the rest
/// is for a busy machine.
pub const ENGINE_LOGIN_WAIT: Duration = Duration::from_secs(5);
/// How long a connection to a server of NATS, and the TLS handshake, may take.
pub const ENGINE_DIAL_WAIT: Duration = Duration::from_secs(5);
/// The same for one of several addresses of a name.
pub const ENGINE_ATTEMPT_WAIT: Duration = Duration::from_secs(1);
/// After so much silence of a server of NATS at the beginning it is likely to wait for our TLS handshake.
pub const ENGINE_SILENCE: Duration = Duration::from_millis(300);
/// How long after its start a bucket with wrong settings ends a member: somebody looks at it then, and it has little that
/// would be lost. A member that has run for longer serves on, and looks at the bucket again.
pub const ENGINE_START: Duration = Duration::from_secs(10);
/// How long a server of NATS that is about to stop is waited for to answer what was sent to it.
pub const ENGINE_LEAVE_WAIT: Duration = Duration::from_secs(1);
/// How long the files of `[engine]` may take to be read before that is reported: they may lie on a network.
pub const ENGINE_FILES_WAIT: Duration = Duration::from_secs(5);
/// The longest payload of NATS that is accepted: the largest that a server of NATS can be set to.
pub const ENGINE_PAYLOAD_BYTES: usize = 64 * 1024 * 1024;
/// The cost of a message of the engine, in units of a plain line: it is applied to the table like a neighbour's update.
pub const ENGINE_EFFORT: u32 = 2;
/// TLS configurations for servers of NATS in one loop: one for each host whose certificate is checked. A cluster has
/// fewer.
pub const ENGINE_TLS_IDS: u16 = 128;
/// The first of their numbers: those of neighbours count upwards.
pub const ENGINE_TLS_IDS_FIRST: u16 = u16::MAX - ENGINE_TLS_IDS;
/// How long the end of the program waits for the log to be written. With [`SHUTDOWN_GRACE`] before it, a
/// server ends within the ten seconds that container engines wait before they kill.
pub const LOG_FLUSH_WAIT: Duration = Duration::from_secs(2);
/// The same after a second signal.
pub const LOG_FLUSH_WAIT_HURRIED: Duration = Duration::from_millis(100);
/// How long a supervisor waits for its servers to stop before it kills them: they may use all of
/// [`SHUTDOWN_GRACE`], [`STATE_END_WAIT_LATE`], [`LOG_FLUSH_WAIT`] and [`STDERR_FLUSH_WAIT`], and the rest is for a busy
/// machine.
pub const STOP_WAIT: Duration = Duration::from_secs(9);
/// Changes of a reload in one line of a supervisor's standard error: what a person can read; `--check --diff` shows
/// all.
pub const CHANGES_PRINTED: usize = 20;
/// How soon a supervisor writes on to a server's lifeline that is full. A server reads it in each turn, so the next
/// 64 KiB fit after a millisecond or so.
pub const LIFELINE_RETRY: Duration = Duration::from_millis(5);
/// The longest such pause: a server that does not read for long costs one attempt a second.
pub const LIFELINE_RETRY_MAX: Duration = Duration::from_secs(1);
/// How long a supervisor waits for a killed process. The kernel may keep one that waits for a disk.
pub const KILL_WAIT: Duration = Duration::from_millis(500);
/// How long a supervisor waits for ports that are in use: the servers of the previous supervisor may still be
/// stopping.
pub const PORTS_WAIT: Duration = Duration::from_secs(2);
/// The longest file that an operator may name: a configuration of 10,000 servers has some 2 MB. The file may
/// be a device that never ends.
pub const INPUT_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// The longest configuration that a reload reads: one of 5,000 servers. A supervisor holds it once, and hands it to
/// each server through a pipe.
pub const RELOAD_FILE_BYTES: u64 = 1024 * 1024;
/// The longest reason for a refused configuration that a supervisor passes on to its servers: a message has some 200
/// bytes.
pub const REFUSAL_BYTES: usize = 4 * 1024;
/// The longest list of admin addresses that a supervisor hands on, at the start as a variable of the environment, which
/// may have 128 KiB. It has at most 110 bytes for each server, so the pages of a herd of 800 are links, and those of a
/// larger one that is run on one host are not.
pub const HANDED_ADMIN_BYTES: usize = 96 * 1024;
/// Bytes that wait for standard error. Beyond that, messages are dropped: a supervisor whose servers die
/// again and again prints some 100 bytes each time.
pub const STDERR_QUEUE_BYTES: usize = 64 * 1024;
/// How long the end of the program waits for standard error. A reader takes a message in milliseconds;
/// without a reader, waiting longer does not help.
pub const STDERR_FLUSH_WAIT: Duration = Duration::from_millis(500);
/// The head of an HTTP request or answer, with its blank line: services send about 1 KiB, and nginx and
/// Apache accept at most 8 KiB.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Fields in one HTTP head. The parser needs an array of them before it begins, 32 bytes each.
pub const HEAD_FIELDS: usize = 100;
/// The line before a chunk of an HTTP body: sixteen digits and the line's ending are 18 bytes, the rest is
/// for extensions, which no service sends and which are skipped.
pub const CHUNK_LINE_BYTES: usize = 256;
/// Heads of status 1xx before the answer itself, so that they can't continue without end.
pub const INTERIM_HEADS: usize = 8;
/// The names and links in an answer of places that must be shown with it: Google's have some 100 bytes each,
/// and as HTML they may become six times as long.
pub const ATTRIBUTION_BYTES: usize = 16 * 1024;
/// The body of a request to our own Places server: one of the New API has some 200 bytes.
pub const REQUEST_BODY_BYTES: usize = 64 * 1024;
/// The head of a request to the admin listener: what nginx and Apache accept by default. Browsers and scrapers
/// send less than 2 KiB.
pub const ADMIN_HEAD_BYTES: usize = 8 * 1024;
/// Fields in such a head; browsers send some 20.
pub const ADMIN_HEAD_FIELDS: usize = 64;
/// How long a client of the admin listener may take for the head of a request, and for its first byte on a fresh
/// connection: it is on the same host or in the same data centre, so that seconds suffice, and a slow one holds
/// one of few sessions.
pub const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection of the admin listener is kept without a request: Prometheus asks every 15 s.
pub const ADMIN_IDLE: Duration = Duration::from_secs(30);
/// When a connection of the admin listener whose time is over, and which is still being read or written, is looked at
/// again: soon enough to free its place, and rarely enough to cost nothing.
pub const ADMIN_JUDGE_AGAIN: Duration = Duration::from_millis(500);
/// Connections of the admin listener that are served at once: a few scrapers, probes and people.
pub const ADMIN_SESSIONS: usize = 32;
/// Further ones that get the answer 503 and are closed; the loop closes new ones beyond them without an answer.
pub const ADMIN_REFUSALS: usize = 32;
/// How long a question to another loop of the server may stay unanswered: a turn takes milliseconds, and a
/// person waits.
pub const ADMIN_ANSWER_WAIT: Duration = Duration::from_secs(2);
/// The cost of an answer of the admin listener, in units of a plain line: metrics take some 100 us.
pub const ADMIN_EFFORT: u32 = 200;
/// The listener's part of the loop's time is one in so many, if answers are asked for without a pause: clients are
/// served by the same loop. Scrapers and people need a hundredth.
pub const ADMIN_SHARE: u32 = 10;
/// How far ahead of its part the listener may be: answers of 5 ms are given at once, such as those of a few scrapers that
/// come together.
pub const ADMIN_BURST: Duration = Duration::from_millis(50);
/// How long an answer takes, without its contents.
pub const ADMIN_ANSWER_TIME: Duration = Duration::from_micros(50);
/// How long a byte of an answer takes, to be counted and written.
pub const ADMIN_BYTE_TIME: Duration = Duration::from_nanos(3);
/// How long a connection in an answer of `/connz` takes, with an id of 256 bytes.
pub const ADMIN_ROW_TIME: Duration = Duration::from_micros(3);
/// How long a connection takes that is looked at for `/connz`, and not shown.
pub const ADMIN_CONNECTION_TIME: Duration = Duration::from_nanos(50);
/// How long a probe may take in all: less than the pause between two of them in an image or a cluster.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest body of an answer to a probe, which nobody reads.
pub const PROBE_BODY_BYTES: usize = 1 << 20;
/// How often a service manager is told how the server is: each time it wakes up and tells others.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How much longer a drain may take, told with each status: if the loop is stuck, the manager ends the process after it.
pub const DRAIN_EXTENSION: Duration = Duration::from_secs(30);
/// The shortest time within which a service manager gets its pings: they must not keep the loop busy.
pub const MIN_WATCHDOG: Duration = Duration::from_millis(200);
/// A loop that has not ended its turn for this long is stuck: a turn takes milliseconds.
pub const LOOP_STUCK_AFTER: Duration = Duration::from_secs(10);
/// Connections in one answer of `/connz`: some 400 bytes each, so that an answer fits into the output of a
/// connection (1 MiB) and is built within a millisecond.
pub const ADMIN_PAGE: usize = 1_024;
/// The same where the request does not say how many.
pub const ADMIN_PAGE_DEFAULT: usize = 256;
/// Turns in one answer of `/debug/turns`: as many as a loop keeps.
pub const ADMIN_TURNS: usize = 4_096;
/// The same where the request does not say how many.
pub const ADMIN_TURNS_DEFAULT: usize = 100;
/// How often the admin listener notes what may be wrong, for as long as it looks back.
pub const HEALTH_SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a server counts as degraded after a record was dropped, and how long its queries for places must have
/// failed: a single event should be seen, and a single failure should not.
pub const HEALTH_WINDOW: Duration = Duration::from_secs(60);
/// How far into its connections a page of `/connz` may begin: no machine has more.
pub const ADMIN_OFFSET: usize = 10_000_000;
/// Event streams of the page, among the sessions of the admin listener: operators' browsers, with one each.
pub const EVENT_STREAMS: usize = 8;
/// How often a stream gets what has changed: an operator sees a change at once, and a busy server does not work for
/// the page.
pub const EVENT_INTERVAL: Duration = Duration::from_millis(500);
/// How often a stream gets a comment, so that whatever is in between does not take it for idle.
pub const EVENT_COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// Events that streams have not taken yet, once for all streams. One that falls behind begins again.
pub const EVENT_RING_BYTES: usize = 1024 * 1024;
/// How long a stream may take for its last event when the server stops.
pub const EVENT_LEAVE_WAIT: Duration = Duration::from_secs(1);
/// Turns that the page shows.
pub const EVENT_TURNS: usize = 240;
/// Clients that are dots on the map: more are no longer told apart, and slow a browser down.
pub const MAP_DOTS: usize = 2_000;
/// Cells of one degree whose counts one event changes.
pub const MAP_CELLS: usize = 2_000;
/// The same in the event with which a stream begins: there are fewer cells on land, and writing them takes a third of
/// a millisecond.
pub const MAP_CELLS_AT_ONCE: usize = 16_384;
/// Bytes of dots in one event, about. Ids have up to 256 bytes, and five times as many as text.
pub const MAP_FRAME_BYTES: usize = 128 * 1024;
/// Records of the feed that the map looks at for one event: half a millisecond.
pub const MAP_LIVE_RECORDS: usize = 4_096;
/// Older records that it looks at in one step, so that a million clients are counted within a minute.
pub const MAP_BACK_RECORDS: usize = 2_048;
/// The time between two such steps.
pub const MAP_BACK_INTERVAL: Duration = Duration::from_millis(100);
/// The longest line that is copied into the refusal of plain text on a port that takes only TLS: enough to recognise it,
/// and no more than the beginning of a line that is too long.
pub const PLAINTEXT_LINE_BYTES: usize = 256;
/// How long before its end a certificate is warned of: an authority needs days, and people have holidays.
pub const EXPIRY_WARNED: Duration = Duration::from_secs(30 * 86_400);
/// How often that is said.
pub const EXPIRY_WARNING_INTERVAL: Duration = Duration::from_secs(86_400);
/// How long before its end the server counts as degraded: time for a person to act within working days.
pub const EXPIRY_DEGRADES: Duration = Duration::from_secs(7 * 86_400);
/// Slots that a search for a table's oldest tenth visits with each change: so few that a change takes no more than twice its
/// time, and so many that a search ends before the table is full that was nearly full when it began.
pub const FLOOR_SEARCH_SLOTS: usize = 64;
/// Entries in the sample that such a search begins with.
pub const FLOOR_SAMPLE: usize = 8_192;
/// Slots that a sample looks at with each change: to read them all at once would take milliseconds.
pub const FLOOR_SAMPLE_SLOTS: usize = 8;
/// The greatest `max_clients` of a table whose clients are all compared at once when it is full: a millisecond or two.
pub const FLOOR_AT_ONCE: usize = 65_536;
/// Slots swept with each change after the floor was raised. So a sweep ends after at most a sixteenth as many changes as the
/// table holds clients, and leaves time for a search before another tenth can have been added.
pub const FLOOR_SWEEP_SLOTS: usize = 32;

/// Servers of NATS that a configuration may name: any of them names the others of its cluster, which has a few.
pub const ENGINE_SERVERS: usize = 64;
/// Updates in one transaction of the disk at most: some 5 ms of copying in a turn would be too long, and transactions of a
/// thousand to ten thousand are about equally fast.
pub const DISK_BATCH_UPDATES: usize = 4_096;
/// Bytes of updates in one transaction of the disk, after which no further one is added.
pub const DISK_BATCH_BYTES: usize = 1024 * 1024;
/// Records of the feed that are looked at for one transaction of the disk, dead ones included: each may cost a miss of the
/// processor's cache, and so many of them a millisecond or two.
pub const DISK_BATCH_RECORDS: usize = 4 * DISK_BATCH_UPDATES;
/// The time between two transactions of the disk for which no answer waits, unless there is much to write: what a crash
/// may lose, and few enough syncs for any disk.
pub const STATE_COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// The pause after a transaction has failed; it doubles with each further failure.
pub const STATE_RETRY_INITIAL: Duration = Duration::from_millis(100);
/// The longest such pause: each attempt reads the whole database, and an operator who has made room sees it work soon.
pub const STATE_RETRY_MAX: Duration = Duration::from_secs(15);
/// Memory for pages of the database. Half of it bounds what one transaction keeps in memory.
pub const STATE_CACHE_BYTES: usize = 32 * 1024 * 1024;
/// A disk that has not answered a transaction for so long counts as one that fails: a sync takes milliseconds.
pub const STATE_STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long the end of a server waits for the last transaction, if all of it was committed before.
pub const STATE_END_WAIT: Duration = Duration::from_secs(5);
/// The same where the grace was over: the disk has had that time, too, and the whole stop takes less than [`STOP_WAIT`].
pub const STATE_END_WAIT_LATE: Duration = Duration::from_secs(1);
/// The longest line of a dump: an UPDATELOC line has some 450 bytes.
pub const DUMP_LINE_BYTES: usize = 4_096;
/// Bad lines of a dump that are shown.
pub const DUMP_BAD_LINES: usize = 10;
