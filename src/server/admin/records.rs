//! The log records of the admin listener. Requests are recorded at DEBUG, because monitoring repeats them all the time;
//! warnings that an attacker could repeat are rate-limited.

use std::fmt::Display;
use std::net::SocketAddr;

use crate::application::{Closed, ClosedConnection};
use crate::config::format_duration;
use crate::connection_records;
use crate::http::Get;
use crate::limits::{ADMIN_HEAD_TIMEOUT, ADMIN_SESSIONS, ConfiguredLimits};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, field, target};
use crate::server::records::tls_hint;

pub(super) fn opened(peer: SocketAddr) {
    log::debug!(
        target: target::ADMIN, event = "connection_opened", peer:% = peer;
        "Admin client {peer} is connected."
    );
}

/// A connection was refused because there are enough.
pub(super) fn full(peer: SocketAddr) {
    let reason = format_args!("{ADMIN_SESSIONS} connections to the admin listener are open");
    connection_records::rejected(Kind::AdminRejected, peer, reason);
}

/// A request came in plain text where only TLS is taken.
pub(super) fn plaintext(peer: SocketAddr) {
    let reason = format_args!("plain text on a port that takes only TLS");
    connection_records::rejected(Kind::PlainTextRejected, peer, reason);
}

/// A request that can't be read was refused.
pub(super) fn refused(peer: SocketAddr, bytes: &[u8], reason: &impl Display) {
    let fields = [field("peer", &peer), field("reason", reason)];
    let text = format_args!("Refused from {peer}: {reason}{}.", tls_hint(bytes));
    rate_limit::warn(Kind::AdminRequestRefused, &fields, text);
}

pub(super) fn answered(peer: SocketAddr, request: &Get, status: u16) {
    let (method, target) = (&request.method, Escaped(request.target.as_bytes()));
    log::debug!(
        target: target::ADMIN, event = "request_answered", peer:% = peer;
        "Answered {peer}: {method} {target} with {status}."
    );
}

/// Records that a connection is closed, and why, if it was not gracefully.
pub(super) fn closed(closed: &ClosedConnection<'_>, limits: &ConfiguredLimits) {
    let peer = closed.peer;
    match closed.why {
        Closed::InputTimeout => {
            let time = format_duration(ADMIN_HEAD_TIMEOUT);
            let reason = format_args!("request not completed within {time}");
            connection_records::abort(Kind::AdminRequestRefused, peer, reason);
        }
        // A client may leave before the end of the answer.
        Closed::Broken(_) | Closed::Tls(..) => {}
        _ => connection_records::closed(closed, target::ADMIN, "request", limits),
    }
    log::debug!(
        target: target::ADMIN, event = "connection_closed", peer:% = peer;
        "Admin client {peer} is disconnected."
    );
}
