//! The log records about connections that the event loop has closed or refused: the same for each application.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::application::{Closed, ClosedConnection, FullOutput};
use crate::config::format_duration;
use crate::errors::plain;
use crate::limits::ConfiguredLimits;
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, field};

/// Records why a connection was closed, if it was by a limit or by an error. The end of one that was closed
/// gracefully is recorded by its session. `message` is what its peer sends: "line" or "request".
pub fn closed(
    closed: &ClosedConnection<'_>,
    target: &str,
    message: &str,
    limits: &ConfiguredLimits,
) {
    let peer = closed.peer;
    match closed.why {
        Closed::Finished | Closed::Drained | Closed::Commanded | Closed::Unsolicited => {}
        // It may quote the other side's certificate.
        Closed::Broken(reason) | Closed::Tls(_, reason) | Closed::Untrusted(reason) => {
            let reason = Escaped(reason.as_bytes());
            log::info!(
                target: target, event = "connection_aborted", peer:% = peer, reason:% = reason;
                "The connection with {peer} is broken: {reason}"
            );
        }
        Closed::InputTimeout => {
            let time = format_duration(limits.line_timeout);
            abort(Kind::NotFinished, peer, format_args!("{message} not completed within {time}"));
        }
        Closed::WriteTimeout => {
            let time = format_duration(limits.write_timeout);
            abort(Kind::WriteTimeout, peer, format_args!("write timed out after {time}"));
        }
        Closed::Evicted => {
            let reason = format_args!("idle for longest, evicted for a new client");
            abort(Kind::ClientEvicted, peer, reason);
        }
        Closed::FairShare => {
            let reason = format_args!(
                "its addresses had the most connections (fair_share), evicted for a new client"
            );
            abort(Kind::ClientEvicted, peer, reason);
        }
        Closed::OutOfMemory => {
            let reason =
                format_args!("all buffers together are full, and its own were the largest");
            abort(Kind::BuffersFull, peer, reason);
        }
    }
}

/// Records that a limit has closed a connection.
pub fn abort(kind: Kind, peer: SocketAddr, reason: fmt::Arguments<'_>) {
    let fields = [field("peer", &peer), field("reason", &reason)];
    rate_limit::warn(kind, &fields, format_args!("closed {peer}: {reason}"));
}

/// Records that a connection's output is full, so that it is not read, or that this is over.
pub fn full(full: &FullOutput) {
    let FullOutput { peer, unsent, .. } = *full;
    let fields = [field("peer", &peer), ("pending", unsent.into())];
    if full.is_full {
        let text = format_args!(
            "{peer} is slow: {unsent} bytes are not sent yet, and nothing is read from it."
        );
        rate_limit::warn(Kind::SlowConsumer, &fields, text);
    } else {
        let text = format_args!("{peer} has recovered: {unsent} bytes are not sent yet.");
        rate_limit::warn(Kind::SlowConsumerRecovered, &fields, text);
    }
}

/// Records that a client was refused at the limit.
pub fn client_rejected(peer: SocketAddr, limits: &ConfiguredLimits) {
    let limit = limits.client_connections;
    rejected(Kind::ClientRejected, peer, format_args!("connection limit ({limit}) reached"));
}

/// Records that a client was refused because its group of addresses has enough connections.
pub fn group_rejected(peer: SocketAddr, limits: &ConfiguredLimits) {
    let limit = limits.client_connections_per_address;
    let reason = format_args!(
        "its addresses have as many connections as limits.client_connections_per_address ({limit}) \
         allows"
    );
    rejected(Kind::ClientRejected, peer, reason);
}

/// Records that a connection was not accepted.
pub fn rejected(kind: Kind, peer: SocketAddr, reason: fmt::Arguments<'_>) {
    let fields = [field("peer", &peer), field("reason", &reason)];
    rate_limit::warn(kind, &fields, format_args!("rejected {peer}: {reason}"));
}

/// Records that the kernel lacks descriptors or memory for further connections.
pub fn accept_failed(error: &io::Error) {
    let reason = plain(error);
    let text = format_args!("No connection can be accepted for now: {reason}");
    rate_limit::warn(Kind::AcceptFailed, &[field("reason", &reason)], text);
}
