//! Plain text beyond this host, which `[security] allow_plaintext` must allow, in so many words.

use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;

use super::document::Document;
use super::{Accept, Config, PlainText, ServerConfig, admin};

/// Without TLS an admin listener must be on loopback. `listeners` are the servers' names and addresses.
pub(super) fn check_admin<'a>(
    document: &Document<'_>,
    listeners: impl Iterator<Item = (&'a Spanned<String>, &'a Spanned<SocketAddr>)>,
    settings: &Config,
) {
    if settings.admin.tls || settings.security.allows(PlainText::Admin) {
        return;
    }
    for (name, admin) in listeners {
        let address = *admin.get_ref();
        if !admin::is_loopback(address) {
            let listener = format!("`admin_listen` of {} ({address})", name.get_ref());
            document.fault(&admin.span(), admin::refusal(&listener, address));
        }
    }
}

/// Without TLS both ends of each link must be on this host. A name is not resolved for this: it may mean another host
/// tomorrow. `servers` come with the places of their `advertise` and `peer_listen`.
pub(super) fn check_links<'a>(
    document: &Document<'_>,
    mut servers: impl Iterator<Item = (&'a ServerConfig, (Range<usize>, Range<usize>))>,
    settings: &Config,
) {
    if is_secret(settings) {
        return;
    }
    let elsewhere = servers.find_map(|(server, (advertise, peer_listen))| {
        if server.neighbours.is_empty() {
            None
        } else if !is_of_this_host(&server.advertise) {
            Some((server.advertise.clone(), advertise))
        } else if !admin::is_loopback(server.peer_listen) {
            Some((server.peer_listen.to_string(), peer_listen))
        } else {
            None
        }
    });
    // The remedy is the same for all others.
    if let Some((address, at)) = elsewhere {
        document.fault(&at, refusal(&address));
    }
}

impl Config {
    /// Why a server may not run with its addresses, if it may not. The text of a configuration was judged before; but
    /// sockets that were passed on may be at other addresses.
    pub fn refused_plain_text(&self, own: &ServerConfig) -> Option<String> {
        let is_secret = is_secret(self) || own.neighbours.is_empty();
        if !is_secret && !admin::is_loopback(own.peer_listen) {
            return Some(refusal(&own.peer_listen.to_string()));
        }
        let is_plain = !self.admin.tls && !self.security.allows(PlainText::Admin);
        let address = own.admin_listen.filter(|it| is_plain && !admin::is_loopback(*it))?;
        Some(admin::refusal(&format!("the admin listener ({address})"), address))
    }
}

/// Whether the links between neighbours use TLS only, or may be in plain text.
fn is_secret(settings: &Config) -> bool {
    let tls = &settings.tls.neighbours;
    let is_tls = tls.dials_tls && tls.accept == Accept::Tls;
    is_tls || settings.security.allows(PlainText::Neighbours)
}

fn refusal(address: &str) -> String {
    format!(
        "neighbours would talk in plain text with {address}: set [tls.neighbours], or allow it with allow_plaintext = \
         [\"neighbours\"] in [security]"
    )
}

/// Whether an address to connect to, `host:port`, is one of loopback, or `localhost`.
fn is_of_this_host(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => admin::is_loopback(address),
        Err(_) => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
        }
    }
}
