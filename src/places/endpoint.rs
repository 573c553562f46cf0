//! The address of a Places service: an `https` URL, up to its query.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A URL, split into its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, an IPv6 one without its brackets.
    pub host: String,
    pub port: u16,
    /// Begins with `/`.
    pub path: String,
}

impl Endpoint {
    /// Reads `https://host[:port]/path`. None for anything else: another scheme, a user or password,
    /// a query or fragment, and bytes that would need escaping.
    pub fn parse(url: &str) -> Option<Endpoint> {
        let scheme = url.get(..SCHEME.len())?;
        match scheme.eq_ignore_ascii_case(SCHEME) {
            true => Endpoint::parse_rest(&url[SCHEME.len()..], HTTPS_PORT),
            false => None,
        }
    }

    /// Reads `host[:port]/path`: what follows the scheme, which has this port by default.
    pub fn parse_rest(rest: &str, default_port: u16) -> Option<Endpoint> {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@\\\"<>^`{|}".contains(&byte);
        if !rest.bytes().all(plain) {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (address, after) = literal.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (address.to_string(), after)
            }
            None => {
                let (host, port) =
                    authority.split_at(authority.find(':').unwrap_or(authority.len()));
                (host.to_ascii_lowercase(), port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            Some(_) => return None,
            None if port.is_empty() => default_port,
            None => return None,
        };
        let path = if path.is_empty() { "/" } else { path };
        let fits =
            !host.is_empty() && port != 0 && host.len() <= MAX_HOST && path.len() <= MAX_PATH;
        fits.then(|| Endpoint { host, port, path: path.to_owned() })
    }

    /// As written in a request's `Host` (RFC 9110, section 7.2).
    pub fn authority(&self) -> String {
        let host = match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.host.clone(),
        };
        match self.port {
            HTTPS_PORT => host,
            port => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.authority(), self.path)
    }
}

const SCHEME: &str = "https://";
const HTTPS_PORT: u16 = 443;
/// Longer than a DNS name can be.
const MAX_HOST: usize = 255;
const MAX_PATH: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_printed() {
        for (url, host, port, path, authority) in [
            ("https://a.example", "a.example", 443, "/", "a.example"),
            ("HTTPS://A.example:443/x/y", "a.example", 443, "/x/y", "a.example"),
            ("https://localhost:8443/v1/p:q", "localhost", 8443, "/v1/p:q", "localhost:8443"),
            ("https://[::1]:1/", "::1", 1, "/", "[::1]:1"),
        ] {
            let endpoint = Endpoint::parse(url).expect(url);
            let got = (endpoint.host.as_str(), endpoint.port, endpoint.path.as_str());
            assert_eq!(got, (host, port, path));
            assert_eq!(endpoint.authority(), authority);
            assert_eq!(Endpoint::parse(&endpoint.to_string()), Some(endpoint));
        }
    }

    #[test]
    fn an_invalid_https_url_is_refused() {
        for url in [
            "",
            "https://",
            "http://a/",
            "https:///x",
            "https://a:0/",
            "https://a:65536/",
            "https://a:/x",
            "https://a:+1/",
            "https://u:p@a/",
            "https://a/x?y",
            "https://a/#z",
            "https://a/ b",
            "https://a/\r\nX: y",
            "https://[::1/",
            "https://[::1]x/",
            "https://é/",
        ] {
            assert_eq!(Endpoint::parse(url), None, "{url:?}");
        }
    }
}
