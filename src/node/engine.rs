//! The engine of a server's loop: the files of `[engine]`, read again at each connection on a thread of its own, and TLS
//! with a server of NATS, made from them. So credentials and certificates can be rotated while the server runs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::process::is_restarted;
use super::{RunError, ServerLoop, kernel};
use crate::application::TlsId;
use crate::clock::Now;
use crate::config::{Config, EngineConfig, EngineLogin};
use crate::errors::plain;
use crate::event_loop::{Change, Mailbox};
use crate::files;
use crate::limits::{CERTIFICATE_FILE_BYTES, ENGINE_TLS_IDS, ENGINE_TLS_IDS_FIRST};
use crate::nats::Credentials;
use crate::server::{EngineMessage, EngineSetup, Message, PreparedEngine};
use crate::tls::{Authorities, ClientTls, Remedies, ServiceSettings};

/// What the connections of one loop are prepared from.
struct EngineFiles {
    config: EngineConfig,
    mailbox: Mailbox<Message>,
    /// The hosts for which the loop was given a TLS configuration, in the order of their ids.
    hosts: Mutex<Vec<String>>,
}

/// Lets a loop of server number `index` join the engine, if that is a member of one.
pub(super) fn join(
    event_loop: &mut ServerLoop,
    config: &Config,
    index: usize,
    now: Now,
) -> Result<(), RunError> {
    let Some(engine) = config.engine_of(&config.servers[index]) else {
        return Ok(());
    };
    let files = EngineFiles {
        config: engine.clone(),
        mailbox: event_loop.mailbox(),
        hosts: Mutex::default(),
    };
    let random = || getrandom::u64().map_err(std::io::Error::from);
    let random = || random().map_err(kernel("get random numbers"));
    let inbox = format!("_INBOX.{:016x}{:016x}", random()?, random()?);
    let setup = EngineSetup {
        config: engine,
        prepare: Arc::new(move |host| files.prepare(host)),
        inbox,
        seed: random()?,
        must_fit: !is_restarted(),
    };
    event_loop.application().join_engine(setup, now);
    Ok(())
}

impl EngineFiles {
    /// Reads all files, and gives the loop the TLS configuration for a host.
    fn prepare(&self, host: &str) -> Result<PreparedEngine, String> {
        let credentials = credentials(&self.config.login)?;
        let tls = self.client_tls(host)?;
        let id = self.id_of(host);
        let change = Change { client_tls: vec![(id, tls)], ..Change::default() };
        // A loop that stops refuses it; then the one that it has for this host must do.
        let done = |_| Message::Engine(EngineMessage::TlsReplaced);
        let _ = self.mailbox.reconfigure(change, done);
        Ok(PreparedEngine { credentials, tls: id })
    }

    fn client_tls(&self, host: &str) -> Result<ClientTls, String> {
        let own = self.config.certificate.as_ref().map(|(certificate, key)| {
            let chain = text(certificate, "certificate", files::read_regular)?;
            Ok::<_, String>((chain, text(key, "key", files::read_private)?))
        });
        let own = own.transpose()?;
        let ca = self.config.ca.as_ref().map(|path| {
            let bytes = read(path, "ca", files::read_regular)?;
            Authorities::from_pem(&bytes).map_err(|error| named("ca", path, &error.to_string()))
        });
        let ca = ca.transpose()?;
        let own = own.as_ref().map(|(chain, key)| (&chain[..], &key[..]));
        let remedies = Remedies { authorities: "[engine] ca", address: "servers of [engine]" };
        let authorities = ca.as_ref();
        let settings = ServiceSettings { host, authorities, own, alpn: &[], remedies };
        let tls = ClientTls::of_service(settings);
        tls.map_err(|error| match &self.config.certificate {
            Some((certificate, key)) => format!(
                "[engine] certificate {} with key {}: {error}",
                certificate.display(),
                key.display()
            ),
            None => format!("TLS can't be set up: {error}"),
        })
    }

    /// The id of the TLS configuration for a host. Servers of NATS tell of others, so those for hosts that come late take
    /// the place of earlier ones.
    fn id_of(&self, host: &str) -> TlsId {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = hosts.iter().position(|known| known == host);
        let place = known.unwrap_or_else(|| {
            hosts.push(host.to_owned());
            hosts.len() - 1
        });
        TlsId(ENGINE_TLS_IDS_FIRST + (place % usize::from(ENGINE_TLS_IDS)) as u16)
    }
}

/// What the login is proved by. No message shows what is in a file.
fn credentials(login: &EngineLogin) -> Result<Credentials, String> {
    let (setting, file) = match login {
        EngineLogin::None => return Ok(Credentials::None),
        EngineLogin::Password { file, .. } => ("password_file", file),
        EngineLogin::Token { file } => ("token_file", file),
        EngineLogin::Nkey { file } => ("nkey_file", file),
        EngineLogin::Creds { file } => ("creds_file", file),
    };
    let bytes = read(file, setting, files::read_regular)?;
    let proof = match login {
        EngineLogin::None => Ok(Credentials::None),
        EngineLogin::Password { user, .. } => Credentials::password(user, &bytes),
        EngineLogin::Token { .. } => Credentials::token(&bytes),
        EngineLogin::Nkey { .. } => Credentials::nkey(&bytes),
        EngineLogin::Creds { .. } => Credentials::creds(&bytes),
    };
    proof.map_err(|error| named(setting, file, &error.to_string()))
}

/// The text of a file of PEM.
fn text(path: &Path, setting: &str, read_file: ReadFile) -> Result<String, String> {
    let bytes = read(path, setting, read_file)?;
    let not_pem = |_| named(setting, path, "this is not PEM; convert it with openssl");
    String::from_utf8(bytes).map_err(not_pem)
}

/// The contents of the file of a setting.
fn read(path: &Path, setting: &str, read_file: ReadFile) -> Result<Vec<u8>, String> {
    read_file(path, CERTIFICATE_FILE_BYTES).map_err(|error| named(setting, path, &plain(&error)))
}

/// What is wrong with the file of a setting.
fn named(setting: &str, path: &Path, reason: &str) -> String {
    format!("[engine] {setting} {}: {reason}", path.display())
}

/// How a file of at most so many bytes is read.
type ReadFile = fn(&Path, u64) -> std::io::Result<Vec<u8>>;
