//! How the loop treats each kind of connection, by the limits that are in force.

use super::metrics::{BETWEEN_LOOPS, Kind};
use crate::application::{FlushAt, Framing, Policy};
use crate::limits::{ADMIN_HEAD_TIMEOUT, ConfiguredLimits, PEER_LINE_BYTES, PLAINTEXT_LINE_BYTES};

/// Of clients.
pub(super) fn client(limits: &ConfiguredLimits) -> Policy {
    Policy {
        input_timeout: limits.line_timeout,
        line_pause: limits.line_pause,
        ..Policy::lines(limits.line_bytes)
    }
}

/// Of connections on which neighbours send to us.
pub(super) fn peer(limits: &ConfiguredLimits) -> Policy {
    // All output for a neighbour leaves with one write.
    Policy {
        flush: FlushAt::TurnEnd,
        drains_on_stop: false,
        evictable: false,
        class: Kind::LinkIn.class(),
        input_timeout: limits.line_timeout,
        ..Policy::lines(PEER_LINE_BYTES)
    }
}

/// Of connections in plain text, on a port that takes only TLS, for connections of that kind: their first line is
/// refused.
pub(super) fn plaintext(limits: &ConfiguredLimits, kind: Kind) -> Policy {
    let of_kind = if kind == Kind::LinkIn { peer(limits) } else { client(limits) };
    Policy { framing: Framing::Lines(PLAINTEXT_LINE_BYTES), flush: FlushAt::Served, ..of_kind }
}

/// Of our links to neighbours. What comes on them are ACKs, which need no answer; if they were not read, the link
/// would break.
pub(super) fn link(limits: &ConfiguredLimits) -> Policy {
    Policy { reads_when_full: true, class: Kind::LinkOut.class(), ..peer(limits) }
}

/// Of the same between loops of this server.
pub(super) fn loop_peer(limits: &ConfiguredLimits) -> Policy {
    Policy { class: BETWEEN_LOOPS, ..peer(limits) }
}

/// The other end of such a pair.
pub(super) fn loop_link(limits: &ConfiguredLimits) -> Policy {
    Policy { class: BETWEEN_LOOPS, ..link(limits) }
}

/// Of our connection to the engine. What comes on it may need an answer, so it is read while there is room for one; and
/// it is left only once all that is owed is kept.
pub(super) fn engine(limits: &ConfiguredLimits) -> Policy {
    Policy {
        flush: FlushAt::TurnEnd,
        drains_on_stop: false,
        evictable: false,
        class: Kind::Engine.class(),
        input_timeout: limits.line_timeout,
        ..Policy::bytes()
    }
}

/// Of the admin port. Requests are answered at once; no client makes room for a session, and no session for a client.
pub(super) const ADMIN: Policy = Policy {
    evictable: false,
    class: Kind::Admin.class(),
    input_timeout: ADMIN_HEAD_TIMEOUT,
    ..Policy::bytes()
};

/// The policies that differ by the limits, each with the one that replaces it when the limits change.
pub fn changes(old: &ConfiguredLimits, new: &ConfiguredLimits) -> Vec<(Policy, Policy)> {
    let plain_client = |limits: &ConfiguredLimits| plaintext(limits, Kind::Client);
    let plain_peer = |limits: &ConfiguredLimits| plaintext(limits, Kind::LinkIn);
    let all: [fn(&ConfiguredLimits) -> Policy; 8] =
        [client, peer, link, loop_peer, loop_link, plain_client, plain_peer, engine];
    let all = all.map(|of| (of(old), of(new)));
    all.into_iter().filter(|(old, new)| old != new).collect()
}
