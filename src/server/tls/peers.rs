//! A HELLO and the certificate of its connection: the name must be that of a neighbour whose identity the certificate
//! names. The address from which a peer calls is not looked at: addresses change, and prove nothing.
//!
//! ```text
//!   HELLO herd/1 Holiday ..     the certificate names     what happens
//!   a neighbour                 its identity              Peer::Expected, and the herd's core answers RESUME
//!   a neighbour                 others                    `? ..`, closed
//!   this server, or nobody                                `? ..`, closed
//!   any name                    this server               `? ..`, closed: it is our own connection, or our key
//! ```

use std::fmt;

use super::Shown;
use crate::application::{Io, Line, Next, Opened, Policy};
use crate::connection_records;
use crate::herd::{NeighbourId, Peer};
use crate::logging::rate_limit::Kind;
use crate::logging::{Escaped, Traffic};
use crate::protocol::{FromDialler, write_refusal};
use crate::server::metrics::{self, ClosedReason, RejectedReason};
use crate::server::{Server, Session, policy};

/// The other side of a connection on the neighbours' port that speaks TLS.
#[derive(Debug)]
pub struct CertifiedPeer {
    pub(in crate::server) peer: Peer,
    /// Without a certificate: nobody's names.
    pub(in crate::server) certificate: Shown,
}

/// Why a HELLO is not accepted.
enum Mismatch<'a> {
    /// The certificate is that of this server.
    Own,
    /// No neighbour has that name.
    Unknown(&'a [u8]),
    /// Its certificate names others.
    Other(&'a [u8]),
}

impl CertifiedPeer {
    /// Bytes of memory that it takes.
    pub(in crate::server) fn held_bytes(&self) -> usize {
        size_of::<CertifiedPeer>() + self.certificate.held_bytes()
    }
}

impl Server {
    /// The session of a peer that speaks TLS.
    pub(in crate::server) fn certified_peer(&self, opened: &Opened<'_>) -> (Session, Policy) {
        let certificate = Shown::of(opened).unwrap_or_default();
        let peer = CertifiedPeer { peer: Peer::Unidentified, certificate };
        (Session::CertifiedPeer(Box::new(peer)), policy::peer(&self.limits))
    }

    // Not inline, as all that a plain connection does not need.
    #[inline(never)]
    pub(in crate::server) fn certified_peer_line(
        &mut self,
        certified: &mut CertifiedPeer,
        line: Line<'_>,
        io: &mut Io<'_>,
    ) -> Next {
        let CertifiedPeer { peer, certificate } = certified;
        let Line::Whole(text) = line else {
            return self.peer_line(peer, line, io);
        };
        let Ok(FromDialler::Hello { server, .. }) = FromDialler::parse(text) else {
            return self.peer_line(peer, line, io);
        };
        if *peer != Peer::Unidentified || !self.unidentified.contains(io.id) {
            return self.peer_line(peer, line, io);
        }
        Traffic::Link.received(&io.peer, text);
        match self.judge_hello(server, certificate) {
            Ok(neighbour) => {
                // From now on the core lets this connection be that neighbour's alone.
                *peer = Peer::Expected(neighbour);
                let before = io.out.len();
                let outcome = self.herd_peer_line(peer, text, io);
                self.neighbour(neighbour).peer_certificate = Some(Box::new(certificate.clone()));
                self.peer_line_handled(peer, false, text, outcome, before, io)
            }
            Err(mismatch) => self.reject_hello(&mismatch, certificate, text, io),
        }
    }

    fn judge_hello<'a>(
        &self,
        name: &'a [u8],
        certificate: &Shown,
    ) -> Result<NeighbourId, Mismatch<'a>> {
        if certificate.is_of(&self.tls.rules.own) {
            return Err(Mismatch::Own);
        }
        let mut others = self.other_servers();
        let known = others.find(|(_, known)| known.name.as_bytes() == name);
        let (neighbour, known) = known.ok_or(Mismatch::Unknown(name))?;
        match certificate.is_of(&known.identity) {
            true => Ok(neighbour),
            false => Err(Mismatch::Other(name)),
        }
    }

    fn reject_hello(
        &mut self,
        mismatch: &Mismatch<'_>,
        certificate: &Shown,
        line: &[u8],
        io: &mut Io<'_>,
    ) -> Next {
        let before = io.out.len();
        write_refusal(line, io.out);
        Traffic::Link.sent(&io.peer, &io.out[before..]);
        let reason = format_args!("{mismatch}, the certificate names {certificate}");
        connection_records::rejected(Kind::PeerRejected, io.peer, reason);
        let reason = match mismatch {
            Mismatch::Unknown(_) => RejectedReason::NotANeighbour,
            Mismatch::Own | Mismatch::Other(_) => RejectedReason::Certificate,
        };
        self.metrics.count_rejected(metrics::Kind::LinkIn, reason);
        self.ends.insert(io.id, ClosedReason::Protocol);
        Next::Finish
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Own => f.write_str("that is this server's own identity"),
            Mismatch::Unknown(name) => {
                write!(f, "HELLO says {}, which is no neighbour", Escaped(name))
            }
            Mismatch::Other(name) => write!(f, "HELLO says {}", Escaped(name)),
        }
    }
}
