//! The values of the labels.

use crate::application::{Class, HandshakeFailure, ListenerId};
use crate::server::{ADMIN, PEERS};

/// Declares the values of a label, with their texts.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$note])* $value),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$value),+];
            pub(in crate::server) const COUNT: usize = $name::ALL.len();

            pub const fn text(self) -> &'static str {
                match self { $($name::$value => $text),+ }
            }
        }
    };
}

label! {
    /// The kind of a connection; the number is that of its [`Class`].
    Kind { Client = "client", LinkIn = "link_in", LinkOut = "link_out", Places = "places", Admin = "admin", Engine = "engine" }
}

impl Kind {
    pub const fn class(self) -> Class {
        Class(self as u8)
    }
}

impl ClosedReason {
    /// Whether connections of this kind can be closed for this reason.
    pub const fn is_of(self, kind: Kind) -> bool {
        match self {
            ClosedReason::FairShare
            | ClosedReason::Drained
            | ClosedReason::AnswerTimeout
            | ClosedReason::AnswerRefused => matches!(kind, Kind::Client),
            ClosedReason::LineTooLong => matches!(kind, Kind::Client | Kind::LinkIn),
            ClosedReason::IdleEvicted => matches!(kind, Kind::Client | Kind::LinkIn | Kind::Places),
            _ => true,
        }
    }
}

impl ClosedReason {
    /// Whether only connections with TLS can be closed for this reason.
    pub const fn is_of_tls(self) -> bool {
        matches!(self, ClosedReason::Tls | ClosedReason::Revoked)
    }
}

impl RejectedReason {
    /// Whether only a port with TLS can reject for this reason.
    pub const fn is_of_tls(self) -> bool {
        matches!(
            self,
            RejectedReason::Plaintext
                | RejectedReason::HandshakeTimeout
                | RejectedReason::Certificate
        )
    }
}

impl RejectedReason {
    /// Whether connections of this kind can be rejected for this reason.
    pub const fn is_of(self, kind: Kind) -> bool {
        match self {
            RejectedReason::Full => matches!(kind, Kind::Client | Kind::LinkIn | Kind::Admin),
            RejectedReason::PerAddress => matches!(kind, Kind::Client),
            RejectedReason::Unidentified | RejectedReason::NotANeighbour => {
                matches!(kind, Kind::LinkIn)
            }
            RejectedReason::Plaintext
            | RejectedReason::HandshakeTimeout
            | RejectedReason::Certificate => {
                matches!(kind, Kind::Client | Kind::LinkIn | Kind::Admin)
            }
        }
    }
}

/// The class of a pair of sockets between two loops of one server. It is no kind of connection with others.
pub const BETWEEN_LOOPS: Class = Class(Kind::COUNT as u8);

label! {
    /// What a client's line begins with.
    LineCommand { Iamat = "iamat", Whatsat = "whatsat", Other = "other" }
}
label! {
    /// How a client's line was judged.
    LineResult {
        Ok = "ok",
        Invalid = "invalid",
        UnknownId = "unknown_id",
        /// The client's certificate does not name the id.
        NotPermitted = "not_permitted",
        TooLong = "too_long",
    }
}
label! {
    /// How far a server has come with its engine.
    EngineStateLabel {
        Disconnected = "disconnected",
        /// It is connected, and the bucket can't be used.
        Refused = "refused",
        Filling = "filling",
        InSync = "in_sync",
    }
}
label! {
    /// How the engine answered a query for a client, where a cache is kept.
    QueryResult {
        /// The client is known.
        Known = "known",
        /// Neither the engine nor the cache knows it.
        Unknown = "unknown",
        /// The engine could not be asked, and the cache has answered.
        Cached = "cached",
        /// It was not answered in time.
        GivenUp = "given_up",
    }
}
label! {
    /// What kept an engine from being used.
    EngineError {
        /// No connection could be made or used: the name, the address, what the other side said.
        Unreachable = "unreachable",
        /// TLS did not begin, or a connection broke by it.
        Tls = "tls",
        /// What came is not the protocol of NATS.
        Protocol = "protocol",
        /// The server did not answer in time.
        Silent = "silent",
        /// An operator must change something: the login was refused, or a file can't be used.
        Refused = "refused",
        /// A connection that was in use ended.
        Lost = "lost",
        /// The server of NATS was about to stop.
        Left = "left",
        /// Something that the server needs is not allowed.
        Permissions = "permissions",
        /// NATS reported another error.
        Server = "server",
        /// There is no JetStream, or the bucket is not what it must be.
        Bucket = "bucket",
    }
}
label! {
    /// Where an update came from.
    UpdateSource { Client = "client", Neighbour = "neighbour", Engine = "engine" }
}
label! {
    /// What became of an update.
    UpdateResult {
        Stored = "stored",
        Stale = "stale",
        BelowFloor = "below_floor",
        /// A cache was full.
        NoRoom = "no_room",
    }
}
label! {
    /// Why a connection was closed.
    ClosedReason {
        /// The other side ended it.
        Peer = "peer",
        /// It was idle for longest, and made room for another one.
        IdleEvicted = "idle_evicted",
        FairShare = "fair_share",
        /// What was due did not come in time: the rest of a line, or an answer.
        LineTimeout = "line_timeout",
        WriteTimeout = "write_timeout",
        LineTooLong = "line_too_long",
        BuffersFull = "buffers_full",
        /// TLS reported an error, such as an end without a farewell.
        Tls = "tls",
        /// Another connection took its place, or a reload has removed what it was for.
        Replaced = "replaced",
        /// It sent what it may not send.
        Protocol = "protocol",
        /// A reload no longer trusts its certificate, or the certificate no longer names what it must.
        Revoked = "revoked",
        /// The server drained.
        Drained = "drained",
        /// What an answer confirms was not kept in time, so that the answer was not given.
        AnswerTimeout = "answer_timeout",
        /// The engine does not take what an answer confirms, so that the answer was not given.
        AnswerRefused = "answer_refused",
        /// The kernel reported an error.
        Reset = "reset",
        /// The server stopped.
        Stopped = "stopped",
    }
}
label! {
    /// Why a connection was not accepted, or not for long.
    RejectedReason {
        Full = "full",
        PerAddress = "per_address",
        /// It has not sent HELLO in time, or was one of too many that had not.
        Unidentified = "unidentified",
        /// Its HELLO names no neighbour, or comes from an address that is not that neighbour's.
        NotANeighbour = "not_a_neighbour",
        /// Its TLS handshake took too long.
        HandshakeTimeout = "handshake_timeout",
        /// Its certificate is missing or not trusted, or names others than its HELLO.
        Certificate = "certificate",
        /// It came in plain text to a port that takes only TLS.
        Plaintext = "plaintext",
    }
}
label! {
    /// What delays lines.
    RateLimit { NewIds = "new_ids" }
}
label! {
    /// Why connections wait for the server, besides a full output.
    Paused {
        Places = "places",
        NewIds = "new_ids",
        /// Answers are held back until what they confirm is kept.
        Kept = "kept",
        /// A line waits for the engine: a query for what that has of its client, or an IAMAT for room in a cache.
        Engine = "engine",
    }
}
label! {
    /// The direction of a link, seen from this server: `out` is the connection on which it sends updates.
    Direction { In = "in", Out = "out" }
}
label! {
    /// Why a link came up, went down, or did not come up.
    Transition {
        Connected = "connected",
        Timeout = "timeout",
        Closed = "closed",
        /// One side sent a line that the other did not accept.
        Refused = "refused",
        /// Another server answered.
        Name = "name",
        /// One side did not accept the other's certificate.
        Certificate = "certificate",
        Replaced = "replaced",
    }
}
label! {
    /// How an attempt to connect to a neighbour's address went.
    DialResult {
        Ok = "ok",
        Refused = "refused",
        Timeout = "timeout",
        Dns = "dns",
        /// Connected, but the TLS handshake failed.
        Tls = "tls",
    }
}
label! {
    /// A port.
    Listener { Clients = "clients", Peers = "peers", Admin = "admin" }
}
label! {
    /// How a TLS handshake of a connection that was accepted ended.
    HandshakeResult {
        Ok = "ok",
        /// The same, with the secrets of an earlier session.
        Resumed = "resumed",
        Timeout = "timeout",
        /// The other side ended it by an alert.
        Alert = "alert",
        /// The other side's certificate is missing or not trusted.
        Certificate = "certificate",
        /// What came is not TLS, or nothing in common was offered.
        Protocol = "protocol",
        /// The other side closed the connection, or it broke.
        Closed = "closed",
    }
}

impl Listener {
    /// The kind of its connections.
    pub(in crate::server) const fn kind(self) -> Kind {
        match self {
            Listener::Clients => Kind::Client,
            Listener::Peers => Kind::LinkIn,
            Listener::Admin => Kind::Admin,
        }
    }

    pub(in crate::server) fn of(listener: ListenerId) -> Listener {
        match listener {
            PEERS => Listener::Peers,
            ADMIN => Listener::Admin,
            _ => Listener::Clients,
        }
    }
}

impl From<HandshakeFailure> for HandshakeResult {
    fn from(failure: HandshakeFailure) -> HandshakeResult {
        match failure {
            HandshakeFailure::Timeout => HandshakeResult::Timeout,
            HandshakeFailure::Alert => HandshakeResult::Alert,
            HandshakeFailure::Certificate => HandshakeResult::Certificate,
            HandshakeFailure::Protocol => HandshakeResult::Protocol,
            HandshakeFailure::Closed => HandshakeResult::Closed,
        }
    }
}

label! {
    /// How a query for places ended.
    PlacesResult {
        Ok = "ok",
        Timeout = "timeout",
        /// The service could not be reached, or its connection broke.
        Refused = "refused",
        /// The service answered with a status other than 200, or not in HTTP.
        Http = "http",
        /// The answer has a content that cannot be passed on.
        Unusable = "unusable",
        /// Too many queries were waiting.
        Busy = "busy",
    }
}
label! {
    /// A path of the admin listener.
    AdminPath {
        Livez = "/livez",
        Readyz = "/readyz",
        Healthz = "/healthz",
        Metrics = "/metrics",
        Varz = "/varz",
        Connz = "/connz",
        Linksz = "/linksz",
        Turns = "/debug/turns",
        /// The page itself.
        Page = "/",
        /// Its event stream.
        Events = "/events",
        /// The other files of the page: its style, its script, its pictures and the licences.
        PageFile = "page_file",
        /// Every other path, and requests that were refused before their path counted.
        Other = "other",
    }
}

impl AdminPath {
    /// Whether a request for this path may be answered with this status: with 400, if a parameter is not one of the path's.
    /// (A request that is refused before its path counts is one for [`AdminPath::Other`].)
    pub const fn can_have(self, code: u16) -> bool {
        match self {
            AdminPath::Other => code != 200,
            AdminPath::Livez
            | AdminPath::Readyz
            | AdminPath::Healthz
            | AdminPath::Connz
            | AdminPath::Events => {
                matches!(code, 200 | 400 | 503)
            }
            AdminPath::Metrics
            | AdminPath::Varz
            | AdminPath::Linksz
            | AdminPath::Turns
            | AdminPath::Page
            | AdminPath::PageFile => {
                matches!(code, 200 | 400)
            }
        }
    }
}
