//! Names in certificates: the subject's alternative names (RFC 5280, section 4.2.1.6), as bytes. Neither the common
//! name nor addresses are ever looked at.

use std::fmt;

/// How a certificate names a server of the herd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A URI, compared byte by byte.
    Uri(String),
    /// A host name, compared without regard to the case of ASCII letters; a wildcard in a certificate matches nothing.
    Dns(String),
}

/// The names in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub uris: Vec<String>,
    pub dns: Vec<String>,
}

impl Identity {
    /// The identity of a server that has none set.
    pub fn of_server(name: &str) -> Identity {
        Identity::Uri(format!("{SERVER}{name}"))
    }

    /// Whether a certificate with these names is that of this server.
    pub fn is_in(&self, names: &Names) -> bool {
        match self {
            Identity::Uri(uri) => names.uris.contains(uri),
            Identity::Dns(name) => names.dns.iter().any(|one| one.eq_ignore_ascii_case(name)),
        }
    }
}

/// As the configuration writes it: `uri:...` or `dns:...`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Uri(uri) => write!(f, "uri:{uri}"),
            Identity::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

/// Stands before a server's name in the URI of its certificate.
pub const SERVER: &str = "herd:server:";
/// Stands before a client's id, percent-encoded, in the URI of its certificate.
pub const CLIENT: &str = "herd:client:";
