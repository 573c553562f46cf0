//! What the log says of connections with HTTP clients. (Requests and answers are recorded where they are
//! handled.)

use crate::application::{Closed, ClosedConnection, Refused};
use crate::config::format_duration;
use crate::errors::plain;
use crate::limits::ConfiguredLimits;
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, target};

/// A connection is closed: by a limit, by an error, or gracefully.
pub(super) fn closed(closed: &ClosedConnection<'_>, limits: &ConfiguredLimits) {
    let peer = closed.peer;
    match closed.why {
        Closed::Finished | Closed::Commanded | Closed::Unsolicited => {}
        Closed::Broken(reason) => {
            let reason = Escaped(reason.as_bytes());
            log::info!(target: target::HTTP, "The connection with {peer} is broken: {reason}");
        }
        Closed::InputTimeout => {
            let time = format_duration(limits.line_timeout);
            let text = format_args!("closed {peer}: request not completed within {time}");
            rate_limit::warn(Kind::NotFinished, text);
        }
        Closed::WriteTimeout => {
            let time = format_duration(limits.write_timeout);
            let text = format_args!("closed {peer}: write timed out after {time}");
            rate_limit::warn(Kind::WriteTimeout, text);
        }
        Closed::Evicted => {
            let text = format_args!("closed {peer}: idle for longest, evicted for a new client");
            rate_limit::warn(Kind::ClientEvicted, text);
        }
        Closed::OutOfMemory => {
            let text = format_args!(
                "closed {peer}: all buffers together are full, and its own were the largest"
            );
            rate_limit::warn(Kind::BuffersFull, text);
        }
    }
    log::info!(target: target::HTTP, "HTTP client {peer} is disconnected.");
}

/// A connection was not accepted, or failed in its handshake.
pub(super) fn refused(why: &Refused, limits: &ConfiguredLimits) {
    match why {
        Refused::Limit(peer) => {
            let limit = limits.client_connections;
            let text = format_args!("rejected {peer}: connection limit ({limit}) reached");
            rate_limit::warn(Kind::ClientRejected, text);
        }
        // Anybody who connects without TLS causes it: that is no error of the server.
        Refused::Handshake(peer, reason) => {
            let reason = Escaped(reason.as_bytes());
            log::info!(target: target::HTTP, "rejected {peer}: {reason}");
        }
        Refused::Kernel(error) => {
            let reason = plain(error);
            let text = format_args!("No connection can be accepted for now: {reason}");
            rate_limit::warn(Kind::AcceptFailed, text);
        }
    }
}
