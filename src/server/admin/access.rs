//! Who may ask for what: with TLS only requests over TLS are answered, and with authorities only probes do without a
//! certificate. Probes of Kubernetes cannot show one, so the handshake accepts a client without a certificate, and each
//! request is judged by its path.

use super::Admin;
use super::records;
use super::reply::Reply;
use crate::application::{Io, Next, Opened};
use crate::config::{AdminSettings, Config};
use crate::server::Server;
use crate::server::metrics::{AdminPath, ClosedReason, Kind, RejectedReason};

/// The rules of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Whether only TLS is taken.
    pub(super) tls: bool,
    /// Whether all paths but those of health need a certificate.
    certificates: bool,
}

/// How a session is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    tls: bool,
    /// Whether it has shown a certificate, which TLS has verified.
    certificate: bool,
}

/// What a session may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Everything,
    /// The state of the server's health.
    Uncertified,
    /// Nothing: it is in plain text, and that is not taken.
    Plaintext,
}

/// Whether the admin listener of a server shows ids of clients.
pub(in crate::server) fn shows_ids(config: &Config, index: usize) -> bool {
    let address = config.servers[index].admin_listen;
    address.is_some_and(|address| config.admin.shows_positions(address))
}

impl Access {
    pub(super) fn new(admin: &AdminSettings) -> Access {
        Access { tls: admin.tls, certificates: admin.ca.is_some() }
    }
}

impl Admin {
    pub(in crate::server) fn takes_only_tls(&self) -> bool {
        self.settings.access.tls
    }
}

impl Carried {
    pub(super) fn of(opened: &Opened<'_>) -> Carried {
        Carried { tls: opened.tls.is_some(), certificate: opened.certificate.is_some() }
    }

    /// It is judged with each request: the rules may have changed since it was opened.
    pub(super) fn judge(self, access: Access) -> Verdict {
        match self {
            Carried { tls: false, .. } if access.tls => Verdict::Plaintext,
            Carried { certificate: false, .. } if access.certificates => Verdict::Uncertified,
            _ => Verdict::Everything,
        }
    }
}

impl Server {
    /// Answers a request in plain text where only TLS is taken.
    pub(super) fn refuse_plaintext(&mut self, io: &mut Io<'_>) -> Next {
        records::plaintext(io.peer);
        self.metrics.count_rejected(Kind::Admin, RejectedReason::Plaintext);
        self.metrics.count_admin_request(AdminPath::Other, 400);
        let text = "this port takes only TLS: use https\n".to_owned();
        Reply::text(400, text).write(false, false, io.out);
        self.ends.insert(io.id, ClosedReason::Protocol);
        Next::Finish
    }
}
