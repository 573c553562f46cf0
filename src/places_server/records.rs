//! The log records about connections with HTTP clients. (Requests and answers are recorded where they
//! are handled.)

use crate::application::{ClosedConnection, Refused};
use crate::connection_records;
use crate::limits::ConfiguredLimits;
use crate::logging::{Escaped, target};

/// Records that a connection is closed, and why, if it was not gracefully.
pub(super) fn closed(closed: &ClosedConnection<'_>, limits: &ConfiguredLimits) {
    let peer = closed.peer;
    connection_records::closed(closed, target::HTTP, "request", limits);
    log::info!(
        target: target::HTTP, event = "connection_closed", peer:% = peer;
        "HTTP client {peer} is disconnected."
    );
}

/// Records that a connection was not accepted, or failed in its handshake.
pub(super) fn refused(why: &Refused, limits: &ConfiguredLimits) {
    match why {
        Refused::Limit(peer) => connection_records::client_rejected(*peer, limits),
        Refused::Group(peer) => connection_records::group_rejected(*peer, limits),
        // Any connection without TLS causes it: that is not an error of the server.
        Refused::Handshake(peer, _, reason) => {
            let reason = Escaped(reason.as_bytes());
            log::info!(
                target: target::HTTP, event = "connection_refused", peer:% = peer, reason:% = reason;
                "rejected {peer}: {reason}"
            );
        }
        Refused::Kernel(error) => connection_records::accept_failed(error),
    }
}
