//! Counts the connections that are closed or refused, by their kind and the reason.

use super::metrics::{ClosedReason, Kind, Listener, RejectedReason};
use super::{ADMIN, PEERS, Server, Session};
use crate::application::{Closed, ClosedConnection, HandshakeFailure, ListenerId, Refused};

impl Server {
    /// Counts a connection that is closed, unless it was one between loops. Returns the reason.
    pub(super) fn count_closed(
        &mut self,
        closed: &ClosedConnection<'_>,
        session: &Session,
    ) -> ClosedReason {
        let own = self.ends.remove(&closed.id);
        let reason = match closed.why {
            Closed::Finished | Closed::Commanded | Closed::Drained => match session {
                Session::Places(_) => self.places.why_closed(closed.id).or(own),
                _ => own,
            },
            _ => None,
        };
        let reason = reason.unwrap_or_else(|| self.reason_of(closed.why));
        let kind = match session {
            Session::Client(_) => Some(Kind::Client),
            Session::Peer(_) | Session::CertifiedPeer(_) => Some(Kind::LinkIn),
            Session::Plaintext(kind) => Some(*kind),
            Session::Link(_) => Some(Kind::LinkOut),
            Session::LoopPeer(_) | Session::LoopLink(_) => None,
            Session::Places(_) => Some(Kind::Places),
            Session::Admin(_) => Some(Kind::Admin),
            Session::Engine(_) => Some(Kind::Engine),
        };
        if let Some(kind) = kind {
            self.metrics.count_closed(kind, reason);
        }
        reason
    }

    /// The reason as far as the loop knows it.
    fn reason_of(&self, why: &Closed) -> ClosedReason {
        match why {
            Closed::Finished if self.is_stopping => ClosedReason::Stopped,
            Closed::Finished => ClosedReason::Peer,
            Closed::Commanded | Closed::InputTimeout => ClosedReason::LineTimeout,
            Closed::Broken(_) => ClosedReason::Reset,
            Closed::Tls(..) => ClosedReason::Tls,
            Closed::WriteTimeout => ClosedReason::WriteTimeout,
            Closed::Evicted => ClosedReason::IdleEvicted,
            Closed::FairShare => ClosedReason::FairShare,
            Closed::OutOfMemory => ClosedReason::BuffersFull,
            Closed::Drained => ClosedReason::Drained,
            Closed::Untrusted(_) => ClosedReason::Revoked,
            Closed::Unsolicited => ClosedReason::Protocol,
        }
    }

    /// Counts a connection that was not accepted. (The kernel's lack of descriptors refuses none: they wait.)
    pub(super) fn count_refused(&mut self, listener: ListenerId, why: &Refused) {
        let reason = match why {
            Refused::Limit(_) => RejectedReason::Full,
            Refused::Group(_) => RejectedReason::PerAddress,
            Refused::Handshake(_, failure, _) => {
                self.metrics.count_failed_handshake(Listener::of(listener), *failure);
                match failure {
                    HandshakeFailure::Timeout => RejectedReason::HandshakeTimeout,
                    HandshakeFailure::Certificate => RejectedReason::Certificate,
                    // A client that connects and goes away was not refused.
                    HandshakeFailure::Alert
                    | HandshakeFailure::Protocol
                    | HandshakeFailure::Closed => return,
                }
            }
            Refused::Kernel(_) => return,
        };
        let kind = match listener {
            PEERS => Kind::LinkIn,
            ADMIN => Kind::Admin,
            _ => Kind::Client,
        };
        self.metrics.count_rejected(kind, reason);
    }
}
