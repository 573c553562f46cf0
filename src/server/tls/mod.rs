//! What a server does with TLS beyond the loop, which speaks it: who may connect in plain text, whom a certificate
//! names, and until when certificates are valid.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the rules of the configuration |
//! | `shown.rs` | what a certificate says |
//! | `plaintext.rs` | connections in plain text on a port that takes only TLS |
//! | `peers.rs` | a HELLO and the certificate of its connection |
//! | `rights.rs` | for which ids a client may speak |
//! | `links.rs` | with which TLS neighbours are dialled |
//! | `changes.rs` | other rules for a server that runs |
//! | `expiries.rs` | warnings before a certificate expires |
//!
//! A connection in plain text costs nothing for all of this: what is known of a certificate is in a box.

mod changes;
mod expiries;
mod links;
mod peers;
mod plaintext;
mod rights;
mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use changes::PLAIN_CLIENTS;
pub(super) use expiries::Expiries;
pub use peers::CertifiedPeer;
pub(super) use rights::Rights;
pub(super) use shown::Shown;

use crate::application::{Opened, Origin, TlsId};
use crate::config::{Accept, Config, Who};
use crate::server::Server;
use crate::server::metrics::{Kind, Listener};
use crate::tls::Identity;

/// The rules of the configuration, as far as the server judges by them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TlsRules {
    pub(super) clients: Accept,
    pub(super) peers: Accept,
    pub(super) dials_tls: bool,
    pub(super) ids: Who,
    pub(super) queries: Who,
    /// How this server's own certificate names it.
    pub(super) own: Identity,
}

/// The rules, and what the program that set the loop up has made for them.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) rules: TlsRules,
    /// With which TLS configuration each neighbour is dialled, by its name.
    neighbours: Arc<BTreeMap<String, TlsId>>,
    pub(super) expiries: Expiries,
}

impl TlsRules {
    /// Of server number `index` of the configuration.
    pub(super) fn new(config: &Config, index: usize) -> TlsRules {
        let (clients, neighbours) = (&config.tls.clients, &config.tls.neighbours);
        TlsRules {
            clients: clients.accept,
            peers: neighbours.accept,
            dials_tls: neighbours.dials_tls,
            ids: clients.ids,
            queries: clients.queries,
            own: config.servers[index].identity.clone(),
        }
    }

    /// Whether the port for connections of that kind takes TLS alone.
    fn takes_only_tls(&self, kind: Kind) -> bool {
        match kind {
            Kind::Client => self.clients == Accept::Tls,
            Kind::LinkIn => self.peers == Accept::Tls,
            // The admin listener answers in HTTP; the others are dialled.
            Kind::Admin | Kind::LinkOut | Kind::Places | Kind::Engine => false,
        }
    }

    /// Whether clients may speak only for the ids that their certificates name.
    pub(super) fn judges_ids(&self) -> bool {
        self.ids == Who::Certificate || self.queries == Who::Certificate
    }
}

impl Tls {
    pub(super) fn new(
        rules: TlsRules,
        neighbours: Arc<BTreeMap<String, TlsId>>,
        expiries: Expiries,
    ) -> Tls {
        Tls { rules, neighbours, expiries }
    }
}

impl Server {
    /// Whether a connection of that kind may have TLS by the rules that are in force.
    pub(super) fn may_have_tls(&self, kind: Kind) -> bool {
        match kind {
            Kind::Client => self.tls.rules.clients != Accept::Plain,
            Kind::LinkIn => self.tls.rules.peers != Accept::Plain,
            Kind::LinkOut => self.tls.rules.dials_tls,
            Kind::Places | Kind::Engine => true,
            Kind::Admin => self.admin.as_ref().is_some_and(|admin| admin.takes_only_tls()),
        }
    }

    /// Counts the handshake of a connection that was accepted and is open.
    pub(super) fn count_handshake(&self, opened: &Opened<'_>) {
        if let (Some(tls), Origin::Accepted(listener)) = (opened.tls, opened.origin) {
            self.metrics.count_handshake(Listener::of(listener), &tls);
        }
    }
}
