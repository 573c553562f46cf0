//! The log records about connections with HTTP clients. (Requests and answers are recorded where they
//! are handled.)

use std::fmt;
use std::net::SocketAddr;

use crate::application::{Closed, ClosedConnection, Refused};
use crate::config::format_duration;
use crate::errors::plain;
use crate::limits::ConfiguredLimits;
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, field, target};

/// A connection is closed: by a limit, by an error, or gracefully.
pub(super) fn closed(closed: &ClosedConnection<'_>, limits: &ConfiguredLimits) {
    let peer = closed.peer;
    match closed.why {
        Closed::Finished | Closed::Commanded | Closed::Unsolicited => {}
        Closed::Broken(reason) => {
            let reason = Escaped(reason.as_bytes());
            log::info!(
                target: target::HTTP, event = "connection_aborted", peer:% = peer, reason:% = reason;
                "The connection with {peer} is broken: {reason}"
            );
        }
        Closed::InputTimeout => {
            let time = format_duration(limits.line_timeout);
            abort(Kind::NotFinished, peer, format_args!("request not completed within {time}"));
        }
        Closed::WriteTimeout => {
            let time = format_duration(limits.write_timeout);
            abort(Kind::WriteTimeout, peer, format_args!("write timed out after {time}"));
        }
        Closed::Evicted => {
            let reason = format_args!("idle for longest, evicted for a new client");
            abort(Kind::ClientEvicted, peer, reason);
        }
        Closed::OutOfMemory => {
            let reason =
                format_args!("all buffers together are full, and its own were the largest");
            abort(Kind::BuffersFull, peer, reason);
        }
    }
    log::info!(
        target: target::HTTP, event = "connection_closed", peer:% = peer;
        "HTTP client {peer} is disconnected."
    );
}

/// A limit has closed a connection.
fn abort(kind: Kind, peer: SocketAddr, reason: fmt::Arguments<'_>) {
    let fields = [field("peer", &peer), field("reason", &reason)];
    rate_limit::warn(kind, &fields, format_args!("closed {peer}: {reason}"));
}

/// A connection was not accepted, or failed in its handshake.
pub(super) fn refused(why: &Refused, limits: &ConfiguredLimits) {
    match why {
        Refused::Limit(peer) => {
            let limit = limits.client_connections;
            let reason = format_args!("connection limit ({limit}) reached");
            let fields = [field("peer", peer), field("reason", &reason)];
            rate_limit::warn(
                Kind::ClientRejected,
                &fields,
                format_args!("rejected {peer}: {reason}"),
            );
        }
        // Any connection without TLS causes it: that is not an error of the server.
        Refused::Handshake(peer, reason) => {
            let reason = Escaped(reason.as_bytes());
            log::info!(
                target: target::HTTP, event = "connection_refused", peer:% = peer, reason:% = reason;
                "rejected {peer}: {reason}"
            );
        }
        Refused::Kernel(error) => {
            let reason = plain(error);
            let text = format_args!("No connection can be accepted for now: {reason}");
            rate_limit::warn(Kind::AcceptFailed, &[field("reason", &reason)], text);
        }
    }
}
