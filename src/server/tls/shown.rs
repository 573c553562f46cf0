//! What a certificate says, which the other side of a connection has shown and TLS has verified.

use std::fmt;

use crate::application::Opened;
use crate::logging::Escaped;
use crate::tls::{Certificate, Identity, Names};

/// The facts of a certificate by which a connection is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Shown {
    names: Names,
    /// In hexadecimal digits; empty if the certificate can't be read.
    serial: String,
}

impl Shown {
    /// Those of a connection that is open; None if its other side has shown no certificate.
    pub(in crate::server) fn of(opened: &Opened<'_>) -> Option<Shown> {
        // A certificate that TLS has verified and that can't be read all the same names nobody.
        opened.certificate.map(|der| match Certificate::read(der) {
            Ok(certificate) => Shown { names: certificate.names, serial: certificate.serial },
            Err(_) => Shown::default(),
        })
    }

    pub(in crate::server) fn names(&self) -> &Names {
        &self.names
    }

    pub(in crate::server) fn is_of(&self, identity: &Identity) -> bool {
        identity.is_in(&self.names)
    }

    /// All names, for JSON: with `URI:` and `DNS:` in front, as OpenSSL shows them.
    pub(in crate::server) fn listed(&self) -> Vec<String> {
        let of = |kind: &'static str| move |name: &String| format!("{kind}:{name}");
        let uris = self.names.uris.iter().map(of("URI"));
        uris.chain(self.names.dns.iter().map(of("DNS"))).take(NAMES_LISTED).collect()
    }

    /// Bytes of memory that it takes.
    pub(in crate::server) fn held_bytes(&self) -> usize {
        let names = self.names.uris.iter().chain(&self.names.dns);
        names.map(|name| name.capacity() + size_of::<String>()).sum::<usize>()
            + self.serial.capacity()
            + size_of::<Shown>()
    }
}

/// For the log: `herd:server:Welsh (serial 3f:01)`, escaped and with a bound.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Names { uris, dns, .. } = &self.names;
        let count = uris.len() + dns.len();
        // A URI tells its kind; a host's name could be taken for a server's.
        let uris = uris.iter().map(|name| ("", name));
        let names = uris.chain(dns.iter().map(|name| ("dns:", name)));
        for (place, (kind, name)) in names.take(NAMES_SHOWN).enumerate() {
            let cut = &name.as_bytes()[..name.len().min(NAME_SHOWN_BYTES)];
            let (comma, more) =
                (if place > 0 { ", " } else { "" }, if cut.len() < name.len() { "…" } else { "" });
            write!(f, "{comma}{kind}{}{more}", Escaped(cut))?;
        }
        match count {
            0 => f.write_str("nobody")?,
            count if count > NAMES_SHOWN => write!(f, " and {} more", count - NAMES_SHOWN)?,
            _ => {}
        }
        match self.serial.is_empty() {
            true => f.write_str(" (it can't be read)"),
            false => write!(f, " (serial {})", Escaped(self.serial.as_bytes())),
        }
    }
}

/// Names in a record. A certificate may have thousands.
const NAMES_SHOWN: usize = 4;
/// Bytes of a name in a record.
const NAME_SHOWN_BYTES: usize = 256;
/// Names of one certificate in JSON.
const NAMES_LISTED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(uris: &[&str], serial: &str) -> String {
        let uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        let names = Names { uris, dns: vec!["welsh.example".to_owned()] };
        Shown { names, serial: serial.to_owned() }.to_string()
    }

    #[test]
    fn names_are_escaped_and_neither_many_nor_long_ones_fill_the_log() {
        assert_eq!(
            shown(&["herd:server:Welsh"], "3f:01"),
            "herd:server:Welsh, dns:welsh.example (serial 3f:01)"
        );
        assert_eq!(
            shown(&["a\nb", "\u{1b}[2J"], "1"),
            "a\\x0ab, \\x1b[2J, dns:welsh.example (serial 1)"
        );
        let many = vec!["x"; 100];
        assert_eq!(shown(&many, "1"), "x, x, x, x and 97 more (serial 1)");
        let long = shown(&[&"y".repeat(100_000)], "1");
        assert_eq!(long, format!("{}…, dns:welsh.example (serial 1)", "y".repeat(256)));
        assert_eq!(Shown::default().to_string(), "nobody (it can't be read)");
    }
}
