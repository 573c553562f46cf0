//! Warnings that a client or a neighbour can cause at will: one per second for each kind, with the number of those
//! that were suppressed. So at `--log-level warning` nobody can fill the disk, and yet each event is counted: the
//! warnings and the suppressed ones together are as many as the events. At INFO every event has its record, next
//! to the traffic that caused it.
//!
//! ```text
//!   events      x x xxxxxx xxxxxxxxx                       x
//!   WARNING     x          x (7 similar ..)  8 similar ..  x
//!               |<- 1 s -->|<- 1 s --->|<-1 s ->|
//! ```
//! If no further event of a kind comes, the rest of the count is reported a second later, or at the end of the
//! program. Memory is bounded: kinds are an enum, and those of neighbours are counted for each neighbour, so
//! nothing here grows with client input. Like the log itself, the limiter exists once in the process: several
//! loops share it, and a caller needs no reference to it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::kv::{self, Key, Source, Value, VisitSource};
use log::{Level, Record};

use super::json::EVENT;
use super::{Field, target};
use crate::limits::{LASTING_WARNING_INTERVAL, WARNING_INTERVAL};

/// The subject of a warning. Each kind is limited separately, so that a flood of one hides no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ClientLineRefused,
    PeerLineRefused,
    HttpRequestRefused,
    /// A line, request or handshake that was not completed in time.
    NotFinished,
    /// A connection whose other side read nothing for too long.
    WriteTimeout,
    /// A connection whose other side reads more slowly than it asks.
    SlowConsumer,
    SlowConsumerRecovered,
    HelloMissing,
    TooManyUnidentified,
    BuffersFull,
    ClientEvicted,
    ClientRejected,
    AdminRejected,
    AdminRequestRefused,
    /// A line that waits, because its addresses add ids too fast.
    NewIdDelayed,
    /// An answer that was held back for too long.
    AnswerGivenUp,
    AcceptFailed,
    /// Plain text on a port that takes only TLS.
    PlainTextRejected,
    /// A client in plain text, where a reload has made that end.
    PlainTextEnded,
    /// A peer whose certificate does not name what its HELLO says.
    PeerRejected,
    TlsFailed,
    NotWatched,
    TooManyQueries,
    QueryFailed,
    ServiceDistrusted,
    LegacyRefused,
    GazetteerFailed,
    LinkLineRefused,
    LinkLost,
    UpdateSkipped,
    NeighbourSilent,
    /// The bucket is not what it must be, or can't be had.
    EngineRefused,
    /// The bucket is not what the settings ask for.
    EngineUnfit,
    EngineReplaced,
    EngineSilent,
    EngineValueSkipped,
    /// The engine does not take updates for now.
    EnginePublishRefused,
    /// The engine does not take an update of a client at all.
    EngineGivenUp,
    /// An error that a server of NATS reports, and after which its connection stays.
    EngineError,
    /// A query that a cache answers in the engine's place.
    EngineCacheAnswers,
    /// An update for which a cache has no room.
    EngineNoRoom,
}

impl Kind {
    fn level(self) -> Level {
        match self {
            Kind::NotWatched
            | Kind::GazetteerFailed
            | Kind::EngineRefused
            | Kind::EnginePublishRefused
            | Kind::EngineGivenUp => Level::Error,
            _ => Level::Warn,
        }
    }

    /// The time between two records of this kind: what lasts until an operator acts is not reported each second.
    fn interval(self) -> Duration {
        match self {
            Kind::EngineRefused
            | Kind::EngineUnfit
            | Kind::EnginePublishRefused
            | Kind::EngineCacheAnswers
            | Kind::EngineNoRoom => LASTING_WARNING_INTERVAL,
            _ => WARNING_INTERVAL,
        }
    }

    /// The target of its records.
    pub fn target(self) -> &'static str {
        match self {
            Kind::ClientLineRefused
            | Kind::ClientEvicted
            | Kind::ClientRejected
            | Kind::NewIdDelayed => target::CLIENT,
            Kind::AnswerGivenUp
            | Kind::EngineRefused
            | Kind::EngineUnfit
            | Kind::EngineReplaced
            | Kind::EngineSilent
            | Kind::EngineValueSkipped
            | Kind::EnginePublishRefused
            | Kind::EngineGivenUp
            | Kind::EngineCacheAnswers
            | Kind::EngineNoRoom => target::ENGINE,
            Kind::PeerLineRefused
            | Kind::HelloMissing
            | Kind::TooManyUnidentified
            | Kind::PeerRejected
            | Kind::LinkLineRefused
            | Kind::LinkLost
            | Kind::UpdateSkipped
            | Kind::NeighbourSilent => target::LINK,
            Kind::EngineError => target::ENGINE,
            Kind::HttpRequestRefused => target::HTTP,
            Kind::AdminRejected | Kind::AdminRequestRefused => target::ADMIN,
            Kind::TlsFailed | Kind::PlainTextRejected | Kind::PlainTextEnded => target::TLS,
            Kind::TooManyQueries
            | Kind::QueryFailed
            | Kind::ServiceDistrusted
            | Kind::LegacyRefused
            | Kind::GazetteerFailed => target::PLACES,
            Kind::NotFinished
            | Kind::WriteTimeout
            | Kind::SlowConsumer
            | Kind::SlowConsumerRecovered
            | Kind::BuffersFull
            | Kind::AcceptFailed
            | Kind::NotWatched => target::LOOP,
        }
    }

    /// The name of its records' event.
    pub fn event(self) -> &'static str {
        match self {
            Kind::ClientLineRefused | Kind::PeerLineRefused | Kind::LinkLineRefused => {
                "line_refused"
            }
            Kind::HttpRequestRefused | Kind::AdminRequestRefused => "request_refused",
            Kind::NotFinished
            | Kind::WriteTimeout
            | Kind::HelloMissing
            | Kind::TooManyUnidentified
            | Kind::BuffersFull
            | Kind::PlainTextEnded
            | Kind::AnswerGivenUp
            | Kind::ClientEvicted => "connection_aborted",
            Kind::ClientRejected
            | Kind::AdminRejected
            | Kind::PlainTextRejected
            | Kind::PeerRejected
            | Kind::TlsFailed => "connection_refused",
            Kind::NewIdDelayed => "line_delayed",
            Kind::SlowConsumer => "slow_consumer",
            Kind::SlowConsumerRecovered => "slow_consumer_recovered",
            Kind::AcceptFailed | Kind::NotWatched => "accept_failed",
            Kind::TooManyQueries => "query_refused",
            Kind::QueryFailed => "query_failed",
            Kind::ServiceDistrusted => "service_distrusted",
            Kind::LegacyRefused => "legacy_refused",
            Kind::GazetteerFailed => "gazetteer_failed",
            Kind::LinkLost => "link_down",
            Kind::UpdateSkipped => "update_skipped",
            Kind::NeighbourSilent => "neighbour_silent",
            Kind::EngineRefused => "engine_refused",
            Kind::EngineUnfit => "engine_unfit",
            Kind::EngineReplaced => "engine_bucket_replaced",
            Kind::EngineSilent => "engine_silent",
            Kind::EngineValueSkipped => "engine_value_skipped",
            Kind::EnginePublishRefused => "engine_publish_refused",
            Kind::EngineGivenUp => "engine_update_given_up",
            Kind::EngineError => "engine_error",
            Kind::EngineCacheAnswers => "engine_cache_answers",
            Kind::EngineNoRoom => "engine_no_room",
        }
    }

    /// The text for a count without an example.
    fn description(self) -> &'static str {
        match self {
            Kind::ClientLineRefused => "refused lines of clients",
            Kind::PeerLineRefused => "refused lines on the neighbours' port",
            Kind::HttpRequestRefused => "refused HTTP requests",
            Kind::NotFinished => "lines, requests or handshakes not completed in time",
            Kind::WriteTimeout => "connections closed because a write timed out",
            Kind::SlowConsumer => "connections that do not read their output fast enough",
            Kind::SlowConsumerRecovered => "slow connections recovered",
            Kind::HelloMissing => "connections that did not send HELLO in time",
            Kind::TooManyUnidentified => "connections closed before their HELLO, for newer ones",
            Kind::BuffersFull => "connections closed because all buffers together were full",
            Kind::ClientEvicted => "idle clients evicted for new ones",
            Kind::ClientRejected => "clients rejected",
            Kind::AdminRejected => "connections to the admin listener rejected",
            Kind::AdminRequestRefused => "refused requests to the admin listener",
            Kind::NewIdDelayed => "lines that waited because their addresses add ids too fast",
            Kind::AnswerGivenUp => "answers that were held back for too long and not given",
            Kind::AcceptFailed => "connections that could not be accepted",
            Kind::PlainTextRejected => {
                "connections in plain text rejected, where only TLS is taken"
            }
            Kind::PlainTextEnded => "clients in plain text closed, where only TLS is taken now",
            Kind::PeerRejected => "peers rejected for what their certificates name",
            Kind::TlsFailed => "failed TLS handshakes",
            Kind::NotWatched => "connections that could not be watched",
            Kind::TooManyQueries => "queries for places refused",
            Kind::QueryFailed => "queries for places failed",
            Kind::ServiceDistrusted => "unrequested answers of the Places service",
            Kind::LegacyRefused => "refusals of Google's legacy Nearby Search",
            Kind::GazetteerFailed => "failures of the gazetteer",
            Kind::LinkLineRefused => "refused answers of a neighbour",
            Kind::LinkLost => "links lost",
            Kind::UpdateSkipped => "malformed updates skipped",
            Kind::NeighbourSilent => "silent neighbours disconnected",
            Kind::EngineRefused => "refusals of the engine's bucket",
            Kind::EngineUnfit => "doubts about the engine's bucket",
            Kind::EngineReplaced => "buckets of the engine replaced",
            Kind::EngineSilent => "requests that the engine did not answer",
            Kind::EngineValueSkipped => "values of the engine's bucket skipped",
            Kind::EnginePublishRefused => "updates that the engine refused",
            Kind::EngineGivenUp => "updates that the engine does not take",
            Kind::EngineError => "errors that the engine reported",
            Kind::EngineCacheAnswers => {
                "queries answered from the cache, because the engine does not answer"
            }
            Kind::EngineNoRoom => "updates that waited for room in the cache",
        }
    }
}

/// Records a warning, or counts it and records it at INFO. `fields` are those of its event.
pub fn warn(kind: Kind, fields: &[Field<'_>], text: fmt::Arguments<'_>) {
    warn_of(kind, 0, fields, text);
}

/// The same for neighbours, whose number the configuration bounds. Each is limited separately.
pub fn warn_of(kind: Kind, which: u16, fields: &[Field<'_>], text: fmt::Arguments<'_>) {
    if !say_or_count(kind, which, fields, text) {
        record(
            Level::Info,
            kind,
            &Fields { event: kind.event(), own: fields, suppressed: 0 },
            text,
        );
    }
}

/// Records at INFO, and also as a rate-limited warning, for logs that do not record traffic.
pub fn note(kind: Kind, fields: &[Field<'_>], text: fmt::Arguments<'_>) {
    record(Level::Info, kind, &Fields { event: kind.event(), own: fields, suppressed: 0 }, text);
    say_or_count(kind, 0, fields, text);
}

/// Returns whether it was reported.
fn say_or_count(kind: Kind, which: u16, own: &[Field<'_>], text: fmt::Arguments<'_>) -> bool {
    let admitted = {
        let mut limiter = lock();
        let admitted = limiter.admit((kind, which), now());
        limiter.publish();
        admitted
    };
    let Some(suppressed) = admitted else {
        return false;
    };
    let fields = Fields { event: kind.event(), own, suppressed };
    match suppressed {
        0 => record(kind.level(), kind, &fields, text),
        count => {
            record(kind.level(), kind, &fields, format_args!("{text} ({})", Suppressed(count)));
        }
    }
    true
}

/// The macros of `log` take no list of fields.
fn record(level: Level, kind: Kind, fields: &Fields<'_>, text: fmt::Arguments<'_>) {
    if level <= log::max_level() {
        let mut record = Record::builder();
        record.level(level).target(kind.target()).key_values(fields);
        log::logger().log(&record.args(text).build());
    }
}

/// The fields of a record of this module.
struct Fields<'a> {
    event: &'a str,
    own: &'a [Field<'a>],
    /// How many similar messages were suppressed before it.
    suppressed: u64,
}

impl Source for Fields<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        visitor.visit_pair(Key::from(EVENT), Value::from(self.event))?;
        self.own.visit(visitor)?;
        match self.suppressed {
            0 => Ok(()),
            count => visitor.visit_pair(Key::from("suppressed"), Value::from(count)),
        }
    }
}

/// How long until the next count is to be reported, unless a further event of its kind reports it first. None
/// while nothing is suppressed, which costs one load of a number.
pub fn until_rest() -> Option<Duration> {
    match NEXT_REST.load(Ordering::Relaxed) {
        u64::MAX => None,
        millis => Some(Duration::from_millis(millis).saturating_sub(now())),
    }
}

/// Reports the counts that are due.
pub fn say_rest() {
    if until_rest().is_some_and(|time| time.is_zero()) {
        report(|limiter| limiter.take(Some(now())));
    }
}

/// Reports all counts, at the end of the program.
pub fn say_all() {
    if until_rest().is_some() {
        report(|limiter| limiter.take(None));
    }
}

fn report(take: impl FnOnce(&mut RateLimiter) -> Vec<(Kind, u64)>) {
    let counts = {
        let mut limiter = lock();
        let counts = take(&mut limiter);
        limiter.publish();
        counts
    };
    for (kind, count) in counts {
        let of = [("of", Value::from(kind.event()))];
        let fields = Fields { event: "suppressed", own: &of, suppressed: count };
        let description = kind.description();
        let text = format_args!("{}: {description}.", Suppressed(count));
        record(kind.level(), kind, &fields, text);
    }
}

/// How many of each kind were suppressed since the last report.
#[derive(Debug, Default)]
struct RateLimiter {
    limits: BTreeMap<(Kind, u16), Limit>,
}

#[derive(Debug, Default)]
struct Limit {
    not_before: Duration,
    suppressed: u64,
}

impl RateLimiter {
    /// An event. Returns how many were suppressed before it if it is to be reported, else counts it.
    fn admit(&mut self, key: (Kind, u16), now: Duration) -> Option<u64> {
        let limit = self.limits.entry(key).or_default();
        if now < limit.not_before {
            limit.suppressed += 1;
            return None;
        }
        limit.not_before = now + key.0.interval();
        Some(std::mem::take(&mut limit.suppressed))
    }

    /// When a count is to be reported, at the latest. An event may report it before, from one interval earlier on.
    fn next(&self) -> Option<Duration> {
        let waiting = self.limits.iter().filter(|(_, limit)| limit.suppressed > 0);
        waiting.map(|((kind, _), limit)| limit.not_before + kind.interval()).min()
    }

    /// The counts that are to be reported at a time, or all.
    fn take(&mut self, now: Option<Duration>) -> Vec<(Kind, u64)> {
        let mut counts = Vec::new();
        for ((kind, _), limit) in &mut self.limits {
            let is_due = now.is_none_or(|now| limit.not_before + kind.interval() <= now);
            if limit.suppressed > 0 && is_due {
                counts.push((*kind, std::mem::take(&mut limit.suppressed)));
                limit.not_before = now.unwrap_or(limit.not_before) + kind.interval();
            }
        }
        counts
    }

    /// Stores the time for [`until_rest`], rounded up.
    fn publish(&self) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 2) + 1;
        NEXT_REST.store(self.next().map_or(u64::MAX, millis), Ordering::Relaxed);
    }
}

/// A count as text: `12 similar messages suppressed`.
pub(super) struct Suppressed(pub u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} similar message{plural} suppressed", self.0)
    }
}

fn lock() -> MutexGuard<'static, RateLimiter> {
    // Nothing is done under the lock that could leave a count half changed.
    LIMITER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Duration {
    START.elapsed()
}

static LIMITER: Mutex<RateLimiter> = Mutex::new(RateLimiter { limits: BTreeMap::new() });
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// When the next count is to be reported, in milliseconds since [`START`].
static NEXT_REST: AtomicU64 = AtomicU64::new(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (Kind, u16) = (Kind::ClientLineRefused, 0);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_flood_is_reported_once_a_second_and_every_event_is_counted() {
        let mut limiter = RateLimiter::default();
        let mut reported = Vec::new();
        for time in 0..2_500 {
            if let Some(count) = limiter.admit(KEY, at(time)) {
                reported.push((time, count));
            }
        }
        assert_eq!(reported, [(0, 0), (1_000, 999), (2_000, 999)]);
        assert_eq!(limiter.next(), Some(at(4_000)));
        assert_eq!(limiter.take(Some(at(3_999))), []);
        assert_eq!(limiter.take(Some(at(4_000))), [(KEY.0, 499)]);
        assert_eq!((limiter.next(), limiter.take(None)), (None, vec![]));
        // A count was reported just now, so the next event waits for its second.
        assert_eq!(limiter.admit(KEY, at(4_999)), None);
        assert_eq!(limiter.admit(KEY, at(5_000)), Some(1));
        assert_eq!(limiter.next(), None, "an idle server has nothing to wake up for");
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other_and_no_other_neighbour() {
        let mut limiter = RateLimiter::default();
        for _ in 0..10 {
            limiter.admit(KEY, at(0));
            limiter.admit((Kind::UpdateSkipped, 1), at(0));
        }
        assert_eq!(limiter.admit((Kind::WriteTimeout, 0), at(0)), Some(0));
        assert_eq!(limiter.admit((Kind::UpdateSkipped, 2), at(0)), Some(0));
        assert_eq!(limiter.take(None), [(KEY.0, 9), (Kind::UpdateSkipped, 9)]);
    }

    #[test]
    fn one_message_is_not_messages() {
        let texts = [1, 12].map(|count| Suppressed(count).to_string());
        assert_eq!(texts, ["1 similar message suppressed", "12 similar messages suppressed"]);
    }
}
