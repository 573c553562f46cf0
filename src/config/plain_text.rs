//! Plain text beyond this host, which `[security] allow_plaintext` must allow, in so many words.

use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;

use super::document::Document;
use super::{Accept, Config, PassedAddresses, PlainText, ServerConfig, admin};

/// Without TLS an admin listener must be on loopback. `listeners` are the servers' names and addresses.
pub(super) fn check_admin<'a>(
    document: &Document<'_>,
    listeners: impl Iterator<Item = (&'a Spanned<String>, &'a Spanned<SocketAddr>)>,
    settings: &Config,
) {
    if is_admin_secret(settings) {
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
        } else if !is_of_this_host(server) {
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

/// Why a server may not use the sockets that were passed to it, if it may not: they may be at other addresses than those
/// that were judged with the text.
pub(super) fn refused_sockets(
    settings: &Config,
    own: &ServerConfig,
    passed: &PassedAddresses,
) -> Option<String> {
    let is_far = |address: &SocketAddr| !admin::is_loopback(*address);
    if let Some(address) = passed.peers.filter(is_far)
        && !own.neighbours.is_empty()
        && !is_secret(settings)
    {
        return Some(refusal(&format!("the socket peers, which was passed ({address})")));
    }
    let address = passed.admin.filter(is_far).filter(|_| !is_admin_secret(settings))?;
    let listener = format!("the socket admin, which was passed ({address}),");
    Some(admin::refusal(&listener, address))
}

/// Whether admin listeners use TLS, or may be in plain text.
pub(super) fn is_admin_secret(settings: &Config) -> bool {
    settings.admin.tls || settings.security.allows(PlainText::Admin)
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

/// Whether a server is reached at an address of loopback, or at `localhost`.
fn is_of_this_host(server: &ServerConfig) -> bool {
    match server.advertise.parse::<SocketAddr>() {
        Ok(address) => admin::is_loopback(address),
        Err(_) => {
            let host = server.host();
            host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
        }
    }
}
