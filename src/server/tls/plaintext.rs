//! Connections in plain text on a port that takes only TLS. Their first line is answered, so that a person with `nc`
//! sees that somebody is there; then they are closed, and the log says why.

use crate::application::{ClosedConnection, Io, Line, Next, Opened, Policy};
use crate::connection_records;
use crate::logging::rate_limit;
use crate::logging::{Traffic, target};
use crate::protocol::write_refusal;
use crate::server::metrics::{ClosedReason, Kind, RejectedReason};
use crate::server::{Server, Session, policy, records};

impl Server {
    /// Whether a connection is in plain text although its port takes only TLS.
    pub(in crate::server) fn is_unwanted_plaintext(&self, kind: Kind, opened: &Opened<'_>) -> bool {
        opened.tls.is_none() && self.tls.rules.takes_only_tls(kind)
    }

    /// A connection of that kind is open that only gets a refusal.
    pub(in crate::server) fn plaintext_opened(
        &mut self,
        kind: Kind,
        io: &Io<'_>,
    ) -> (Session, Policy) {
        log::info!(
            target: target::TLS, event = "connection_opened", peer:% = io.peer;
            "{} is connected, in plain text.", io.peer
        );
        (Session::Plaintext(kind), policy::plaintext(&self.limits, kind))
    }

    /// Refuses the first line; no further one is handled.
    #[inline(never)]
    pub(in crate::server) fn plaintext_line(
        &mut self,
        kind: Kind,
        line: Line<'_>,
        io: &mut Io<'_>,
    ) -> Next {
        let traffic = if kind == Kind::Client { Traffic::Client } else { Traffic::Link };
        traffic.received(&io.peer, line.bytes());
        let before = io.out.len();
        write_refusal(line.bytes(), io.out);
        traffic.sent(&io.peer, &io.out[before..]);
        let reason = format_args!("plain text on a port that takes only TLS");
        connection_records::rejected(rate_limit::Kind::PlainTextRejected, io.peer, reason);
        self.metrics.count_rejected(kind, RejectedReason::Plaintext);
        self.ends.insert(io.id, ClosedReason::Protocol);
        Next::Finish
    }

    pub(in crate::server) fn plaintext_closed(&mut self, closed: &ClosedConnection<'_>) {
        self.unidentified.remove(closed.id);
        records::disconnected(target::TLS, None, closed.peer);
    }
}
