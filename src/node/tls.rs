//! The TLS of a server: what its listeners and its dials of neighbours use, made from the settings and the files of
//! `[tls]` and `[admin]`, at the start and at each reload. What has not changed is not made again: a loop verifies the
//! connections of a configuration that is replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RunError;
use super::credentials::{Credentials, ErrorKind, OwnCredentials, Trusted};
use crate::application::{ListenerId, TlsId, TlsVersion};
use crate::config::{Accept, ClientCertificates, Config, ServerConfig};
use crate::event_loop::{Listen, Security, Silent};
use crate::limits::PLACES_GENERATIONS;
use crate::server::{ADMIN, CLIENTS, PEERS};
use crate::tls::{
    ClientAuthority, ClientTls, Expiry, Identity, PeerSettings, ServerSettings, ServerTls, TlsError,
};

/// The TLS that is in force.
#[derive(Clone)]
pub(super) struct Tls {
    credentials: Credentials,
    /// Of each neighbour that there ever was. An id is never used for another name: links that were dialled with it
    /// may still be open.
    ids: BTreeMap<String, TlsId>,
    clients: Security,
    peers: Security,
    admin: Security,
    /// Of the neighbours that are dialled with TLS.
    pub neighbours: Arc<BTreeMap<String, TlsId>>,
    pub expiries: Arc<[Expiry]>,
}

/// What a reload changes.
pub(super) struct TlsChange {
    /// In force from then on.
    pub tls: Tls,
    /// The listeners that are secured in another way.
    pub security: Vec<(ListenerId, Security)>,
    /// New configurations for dials of neighbours.
    pub dials: Vec<(TlsId, ClientTls)>,
}

/// From what the security of a listener is made. Two that are equal need no change.
#[derive(PartialEq)]
struct Listening<'a> {
    accept: Accept,
    /// None if nothing but plain text is accepted.
    tls: Option<ListeningTls<'a>>,
}

#[derive(PartialEq)]
struct ListeningTls<'a> {
    own: &'a OwnCredentials,
    /// Whose certificates may be shown, and whether they must be.
    shown: Option<(&'a Trusted, bool)>,
    alpn: &'static str,
    min_version: TlsVersion,
    /// What messages call the other side, and the setting of its authorities.
    names: (&'static str, &'static str),
}

/// From what a configuration for dials of one neighbour is made.
#[derive(PartialEq)]
struct Dialling<'a> {
    own: &'a OwnCredentials,
    identity: &'a Identity,
    host: &'a str,
    trusted: &'a Trusted,
}

impl Tls {
    /// Reads the files of a server, and makes everything from them.
    pub fn start(config: &Config, own: &ServerConfig) -> Result<TlsChange, RunError> {
        let credentials = Credentials::load(config, own).map_err(RunError::credentials)?;
        let nothing = Tls {
            credentials: Credentials::default(),
            ids: BTreeMap::new(),
            clients: Security::Plain,
            peers: Security::Plain,
            admin: Security::Plain,
            neighbours: Arc::default(),
            expiries: Arc::default(),
        };
        nothing.changed(None, (config, own), credentials)
    }

    /// What is to change for another configuration and what its files hold. `old` is the configuration in force.
    pub fn changed(
        &self,
        old: Option<(&Config, &ServerConfig)>,
        (config, own): (&Config, &ServerConfig),
        credentials: Credentials,
    ) -> Result<TlsChange, RunError> {
        let mut tls = Tls { expiries: credentials.expiries().into(), ..self.clone() };
        let mut security = Vec::new();
        for (id, place) in
            [(CLIENTS, &mut tls.clients), (PEERS, &mut tls.peers), (ADMIN, &mut tls.admin)]
        {
            let new = Listening::of(id, config, &credentials);
            let old = old.map(|(old, _)| Listening::of(id, old, &self.credentials));
            if old.is_none_or(|old| old != new) {
                *place = new.security().map_err(RunError::TlsSettings)?;
                security.push((id, place.clone()));
            }
        }
        let dials = self.dials(old, (config, own), &credentials, &mut tls)?;
        tls.credentials = credentials;
        Ok(TlsChange { tls, security, dials })
    }

    /// The configurations for dials that are new; the ids of all are in `tls` then.
    fn dials(
        &self,
        old: Option<(&Config, &ServerConfig)>,
        (config, own): (&Config, &ServerConfig),
        credentials: &Credentials,
        tls: &mut Tls,
    ) -> Result<Vec<(TlsId, ClientTls)>, RunError> {
        let (mut dials, mut neighbours) = (Vec::new(), BTreeMap::new());
        for &place in &own.neighbours {
            let neighbour = &config.servers[place];
            let Some(new) = Dialling::of(neighbour, config, credentials) else {
                continue;
            };
            let id = tls.id_of(&neighbour.name)?;
            neighbours.insert(neighbour.name.clone(), id);
            let before = old.and_then(|(old, own)| {
                let mut all = own.neighbours.iter().map(|&place| &old.servers[place]);
                let known = all.find(|known| known.name == neighbour.name)?;
                Dialling::of(known, old, &self.credentials)
            });
            if before.is_none_or(|before| before != new) {
                dials.push((id, new.client_tls().map_err(RunError::TlsSettings)?));
            }
        }
        tls.neighbours = Arc::new(neighbours);
        Ok(dials)
    }

    fn id_of(&mut self, name: &str) -> Result<TlsId, RunError> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        // The first ones are those for the Places service.
        let next = usize::from(PLACES_GENERATIONS) + self.ids.len();
        let next = u16::try_from(next).map_err(|_| RunError::TooManyNames)?;
        self.ids.insert(name.to_owned(), TlsId(next));
        Ok(TlsId(next))
    }

    /// The listener with its security.
    pub fn secure(&self, listen: Listen) -> Listen {
        let security = match listen.id {
            CLIENTS => self.clients.clone(),
            PEERS => self.peers.clone(),
            _ => self.admin.clone(),
        };
        Listen { security, ..listen }
    }

    /// What the files hold.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

impl<'a> Listening<'a> {
    fn of(listener: ListenerId, config: &Config, files: &'a Credentials) -> Listening<'a> {
        let (clients, min_version) = (&config.tls.clients, config.tls.min_version.0);
        let (accept, shown, alpn, min_version, names) = match listener {
            CLIENTS => {
                let is_required = clients.certificates == ClientCertificates::Required;
                let is_asked = clients.certificates != ClientCertificates::None;
                let shown = is_asked.then_some((&files.clients, is_required));
                let names = ("the client", "[tls.clients] ca");
                (clients.accept, shown, LINES, min_version, names)
            }
            PEERS => {
                let names = ("the neighbour", "[tls.neighbours] ca");
                let shown = Some((&files.herd, true));
                (config.tls.neighbours.accept, shown, LINES, TlsVersion::V1_3, names)
            }
            _ => {
                let accept = if config.admin.tls { Accept::Tls } else { Accept::Plain };
                // Probes can't show one: whether there must be one depends on the path.
                let shown = config.admin.ca.is_some().then_some((&files.operators, false));
                (accept, shown, super::HTTP_ALPN, min_version, ("the client", "[admin] ca"))
            }
        };
        let own = files.own.as_ref().filter(|_| accept != Accept::Plain);
        let tls = own.map(|own| ListeningTls { own, shown, alpn, min_version, names });
        Listening { accept, tls }
    }

    fn security(&self) -> Result<Security, TlsError> {
        let Some(ListeningTls { own, shown, alpn, min_version, names }) = &self.tls else {
            return Ok(Security::Plain);
        };
        let clients = match shown {
            None => None,
            // Without authorities nobody may get in: to ask for no certificate would let in all.
            Some((trusted, required)) => Some(ClientAuthority {
                authorities: trusted.authorities.as_ref().ok_or_else(|| nobody(names.1))?,
                revoked: &trusted.revoked,
                required: *required,
            }),
        };
        let settings = ServerSettings {
            chain: &own.chain,
            key: &own.key,
            clients,
            alpn: &[alpn],
            min_version: *min_version,
            resumes: shown.is_none(),
        };
        let tls = ServerTls::with(settings)?.naming(names.0, names.1);
        let silent = match self.accept {
            Accept::Tls => Silent::Refuse,
            Accept::Plain | Accept::Both => Silent::Open,
        };
        Ok(Security::Either { tls, silent })
    }
}

impl<'a> Dialling<'a> {
    /// None if neighbours are dialled in plain text.
    fn of(
        neighbour: &'a ServerConfig,
        config: &Config,
        files: &'a Credentials,
    ) -> Option<Dialling<'a>> {
        let own = files.own.as_ref().filter(|_| config.tls.neighbours.dials_tls)?;
        let ServerConfig { identity, .. } = neighbour;
        Some(Dialling { own, identity, host: neighbour.host(), trusted: &files.herd })
    }

    fn client_tls(&self) -> Result<ClientTls, TlsError> {
        let settings = PeerSettings {
            identity: self.identity,
            host: self.host,
            authorities: self
                .trusted
                .authorities
                .as_ref()
                .ok_or_else(|| nobody("[tls.neighbours] ca"))?,
            revoked: &self.trusted.revoked,
            chain: &self.own.chain,
            key: &self.own.key,
            alpn: &[LINES],
        };
        ClientTls::of_server(settings)
    }
}

fn nobody(setting: &str) -> TlsError {
    TlsError::Pem(format!("there are no authorities in {setting}"))
}

/// Reads and judges the files of every server, as `--check` does. A host may have those of its own server only: what it
/// lacks is a note each, unless it lacks all.
pub fn check_certificates(config: &Config) -> Result<Vec<String>, RunError> {
    let (mut notes, mut found, mut first) = (Vec::new(), false, None);
    let is_common = config.tls.own.as_ref().is_some_and(|own| !own.is_of_one());
    for server in &config.servers {
        match Credentials::load(config, server) {
            Ok(_) => found = true,
            Err(error) => match error.kind {
                ErrorKind::Missing => {
                    notes.push(format!(
                        "the certificate of {} was not checked: {error}",
                        server.name
                    ));
                    first.get_or_insert(error);
                }
                ErrorKind::OtherServer if is_common => {
                    let name = &server.name;
                    notes.push(format!(
                        "{error} (of {name}; the file may be another one on its host)"
                    ));
                    first.get_or_insert(error);
                }
                ErrorKind::OtherServer | ErrorKind::Unusable => {
                    return Err(RunError::credentials(error));
                }
            },
        }
    }
    match first {
        Some(error) if !found => Err(RunError::credentials(error)),
        _ => Ok(notes),
    }
}

/// The same for a herd that runs on this host as a whole: nothing may be missing.
pub fn require_certificates(config: &Config) -> Result<(), RunError> {
    let load = |server| Credentials::load(config, server).map(drop);
    config.servers.iter().try_for_each(load).map_err(RunError::credentials)
}

/// Warns if clients on other hosts may talk in plain text.
pub(super) fn warn_of_plain_text(config: &Config, own: &ServerConfig) {
    if let Some(warning) = config.plain_clients(own) {
        // Not limited: at the start, and at a reload that changes it.
        log::warn!(target: crate::logging::target::TLS, event = "plain_text"; "{warning}");
    }
}

/// The protocol of lines, in a handshake (RFC 7301).
const LINES: &str = "herd/1";
