//! `[[server]] identity`: how the servers' certificates name them. A certificate must not be that of two servers.

use std::collections::HashMap;
use std::net::IpAddr;

use toml::Spanned;

use super::document::Document;
use super::servers::is_host_name;
use crate::tls::Identity;
use crate::tls::names::CLIENT;

/// Reads an identity; the error adds to [`EXPECTED`].
pub(super) fn parse(text: &str) -> Result<Identity, &'static str> {
    match text.split_once(':') {
        // Whoever has such a certificate could speak for a client, too, where both have one authority.
        Some(("uri", uri)) if uri.starts_with(CLIENT) => {
            Err("; \"herd:client:\" begins the names of clients")
        }
        Some(("dns", name)) if name.parse::<IpAddr>().is_ok() => {
            Err("; addresses in certificates are not looked at")
        }
        Some(("uri", uri)) if is_uri(uri) => Ok(Identity::Uri(uri.to_owned())),
        Some(("dns", name)) if is_host_name(name) => Ok(Identity::Dns(name.to_owned())),
        Some(("dns", name)) if name.contains('*') => {
            Err("; a name with a wildcard would be that of several servers")
        }
        _ => Err(""),
    }
}

/// Whether a text can stand in a certificate as a URI: visible ASCII, with a scheme.
fn is_uri(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let is_scheme = scheme.is_some_and(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    is_scheme && text.bytes().all(|byte| byte.is_ascii_graphic()) && text.len() <= URI_BYTES
}

/// The identity of the server of this name.
pub(super) fn of(name: &Spanned<String>, identity: Option<&Spanned<Identity>>) -> Identity {
    let set = identity.map(|identity| identity.get_ref().clone());
    set.unwrap_or_else(|| Identity::of_server(name.get_ref()))
}

/// Reports identities that two servers have. `servers` are their names, and the identities that are set.
pub(super) fn check<'a>(
    document: &Document<'_>,
    servers: impl Iterator<Item = (&'a Spanned<String>, Option<&'a Spanned<Identity>>)>,
) {
    let mut seen = HashMap::new();
    for (name, set) in servers {
        let identity = of(name, set);
        let comparable = match &identity {
            Identity::Uri(_) => identity.to_string(),
            Identity::Dns(_) => identity.to_string().to_ascii_lowercase(),
        };
        let Some((first, first_set)) = seen.insert(comparable, (name, set)) else {
            continue;
        };
        // With neither set, their names are the same, which was reported.
        if let Some(at) = set.or(first_set) {
            let text = format!(
                "{} (line {}) and {} would have the same identity, \"{identity}\"; choose another `identity`",
                first.get_ref(),
                document.line(&first.span()),
                name.get_ref()
            );
            document.fault(&at.span(), text);
        }
    }
}

/// What is expected of an identity.
pub(super) const EXPECTED: &str =
    "\"uri:\" and a URI, such as \"uri:herd:server:Goloman\", or \"dns:\" and a host name";
/// More than any PKI writes into a certificate (RFC 3986 has no limit; SPIFFE allows 2,048).
const URI_BYTES: usize = 2_048;
