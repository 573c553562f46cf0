//! Where a server of NATS is: `nats://host:port` or `tls://host:port`.

use std::fmt;

use crate::config::servers::dialable;

/// Where a server of NATS is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUrl {
    /// A name or an address, an IPv6 one in brackets.
    pub host: String,
    pub port: u16,
    /// Plain text is refused.
    pub needs_tls: bool,
}

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UrlError {
    /// It may hold a password, so it must not be shown.
    HasUser,
    /// This is expected instead.
    Invalid(String),
}

impl EngineUrl {
    pub(super) fn parse(text: &str) -> Result<EngineUrl, UrlError> {
        if text.contains('@') {
            return Err(UrlError::HasUser);
        }
        let invalid = |why: &str| UrlError::Invalid(format!("{EXPECTED}; {why}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(invalid("it begins with nats:// or tls://"));
        };
        let needs_tls = match scheme.to_ascii_lowercase().as_str() {
            "nats" => false,
            "tls" => true,
            "ws" | "wss" => return Err(invalid("WebSockets are not spoken")),
            _ => return Err(invalid("it begins with nats:// or tls://")),
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        if address.contains(['/', '?', '#']) {
            return Err(invalid("nothing follows the port"));
        }
        // In an IPv6 address without a port the last colon is within the brackets.
        let has_port = address.rfind(':').is_some_and(|colon| !address[colon..].contains(']'));
        let address = if has_port { address.to_owned() } else { format!("{address}:{PORT}") };
        dialable(&address).map_err(invalid)?;
        let (host, port) = address.rsplit_once(':').unwrap_or((&address, ""));
        let port = port.parse().map_err(|_| invalid("a port is a number from 1 to 65535"))?;
        Ok(EngineUrl { host: host.to_owned(), port, needs_tls })
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.needs_tls { "tls" } else { "nats" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// The port of NATS where none is given.
const PORT: u16 = 4222;
const EXPECTED: &str =
    "a server of NATS, such as \"nats://127.0.0.1:4222\" or \"tls://nats.example:4222\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port_that_may_be_left_out() {
        for (text, printed) in [
            ("nats://10.0.0.2:4222", "nats://10.0.0.2:4222"),
            ("nats://10.0.0.2", "nats://10.0.0.2:4222"),
            ("tls://nats-1.example", "tls://nats-1.example:4222"),
            ("TLS://nats-1.example:1/", "tls://nats-1.example:1"),
            ("nats://[::1]", "nats://[::1]:4222"),
            ("nats://[::1]:5", "nats://[::1]:5"),
        ] {
            let url = EngineUrl::parse(text).expect(text);
            assert_eq!(url.to_string(), printed);
            assert_eq!(EngineUrl::parse(printed), Ok(url));
        }
        for (text, part) in [
            ("10.0.0.2:4222", "begins with nats://"),
            ("http://a:1", "begins with nats://"),
            ("wss://a:1", "WebSockets"),
            ("nats://a:0", "port 0"),
            ("nats://a:65536", "a port is a number"),
            ("nats://", "a host name"),
            ("nats://::1", "brackets"),
            ("nats://a:1/b", "nothing follows"),
            ("nats://a?b", "nothing follows"),
            ("nats://0.0.0.0", "nothing can connect"),
        ] {
            match EngineUrl::parse(text) {
                Err(UrlError::Invalid(why)) => assert!(why.contains(part), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(EngineUrl::parse("nats://me:secret@a:1"), Err(UrlError::HasUser));
    }
}
