//! What a certificate says (RFC 5280): its names, its serial number, and when it is valid.
//!
//! It is read, not judged: in a handshake it has been verified before, and a file of ours is judged by `own.rs`. All text
//! in it may hold any character, and must be escaped where it is logged or printed.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Names, TlsError};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub names: Names,
    /// Hexadecimal bytes with colons, as openssl prints it: `3f:0a:...`.
    pub serial: String,
    /// Whose it is, and whose signature it has, as text: `CN=...`. At most some 500 bytes.
    pub subject: String,
    pub issuer: String,
    /// Valid from this time (Unix seconds) on.
    pub not_before: i64,
    /// Valid until this time (Unix seconds).
    pub not_after: i64,
    /// Whether its extended key usages allow that a server shows it. Without the extension all is allowed.
    pub allows_server: bool,
    /// The same for a client.
    pub allows_client: bool,
    /// Whether it is an authority's.
    pub is_authority: bool,
}

impl Certificate {
    /// Reads a certificate (DER).
    pub fn read(der: &[u8]) -> Result<Certificate, TlsError> {
        let malformed = || TlsError::Certificate;
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| malformed())?;
        let certificate = CertificateDer::from(der);
        let entity = webpki::EndEntityCert::try_from(&certificate).map_err(|_| malformed())?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        let usages = parsed.extended_key_usage().map_err(|_| malformed())?.map(|it| it.value);
        Ok(Certificate {
            names: Names::in_certificate(&entity),
            serial: with_colons(parsed.raw_serial()),
            subject: bounded(parsed.subject().to_string()),
            issuer: bounded(parsed.issuer().to_string()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            allows_server: usages.is_none_or(|usages| usages.server_auth),
            allows_client: usages.is_none_or(|usages| usages.client_auth),
            is_authority: parsed.is_ca(),
        })
    }
}

/// A serial number, without the zero that only keeps it positive.
fn with_colons(serial: &[u8]) -> String {
    let serial = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let bytes = serial.iter().take(SERIAL_BYTES).map(|byte| format!("{byte:02x}"));
    bytes.collect::<Vec<_>>().join(":")
}

fn bounded(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(NAME_CHARACTERS) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Characters of a subject or an issuer that are kept for messages: real ones have fewer than 100.
const NAME_CHARACTERS: usize = 120;
/// Bytes of a serial number that are kept; more than 20 are not allowed (RFC 5280, section 4.1.2.2).
const SERIAL_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SerialNumber};

    use super::*;
    use crate::tls::Identity;

    /// A certificate with these alternative names: a tag (RFC 5280: 2 is a DNS name, 6 a URI) and bytes.
    fn with_names(names: &[(u8, &[u8])]) -> Vec<u8> {
        let wrap = |tag: u8, value: &[u8]| {
            let length = u32::try_from(value.len()).expect("a short one").to_be_bytes();
            [&[tag, 0x83], &length[1..], value].concat()
        };
        let names: Vec<u8> =
            names.iter().flat_map(|(tag, value)| wrap(0x80 | tag, value)).collect();
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "x\n\x1b[31m\"");
        params.serial_number = Some(SerialNumber::from_slice(&[0x9f, 0, 0x0a]));
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], shortest(&names));
        params.custom_extensions.push(extension);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    /// A SEQUENCE whose length is written as DER wants it, as are those of names below 128 bytes.
    fn shortest(content: &[u8]) -> Vec<u8> {
        let mut names = Vec::new();
        let mut rest = content;
        while let [tag, _, a, b, c, after @ ..] = rest {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let (value, after) = after.split_at(length);
            names.extend(der(*tag, value));
            rest = after;
        }
        der(0x30, &names)
    }

    fn der(tag: u8, value: &[u8]) -> Vec<u8> {
        let length = value.len().to_be_bytes();
        let digits = &length[length.iter().position(|byte| *byte != 0).unwrap_or(7)..];
        match value.len() {
            short @ 0..=127 => [&[tag, short as u8], value].concat(),
            _ => [&[tag, 0x80 | digits.len() as u8], digits, value].concat(),
        }
    }

    #[test]
    fn names_are_read_as_they_are_and_no_more_than_a_bounded_number_of_them() {
        let long = vec![b'x'; 3_000];
        let der = with_names(&[
            (6, b"herd:server:Welsh"),
            (6, b"herd:server:Welsh\0.example"),
            (6, b"herd:client:%4B%00"),
            (6, b"\xff\xfe"),
            (6, &long),
            (2, b"Welsh.example"),
            (2, b"welsh\0.example"),
            (2, b"*.a.example"),
            (1, b"mail@example.org"),
            (6, b"last"),
        ]);
        let read = Certificate::read(&der).expect("a certificate");
        let expected =
            ["herd:server:Welsh", "herd:server:Welsh\0.example", "herd:client:%4B%00", "last"];
        assert_eq!(read.names.uris, expected);
        assert_eq!(read.names.dns, ["Welsh.example", "*.a.example"]);
        let identity = |name: &str| Identity::of_server(name).is_in(&read.names);
        assert!(identity("Welsh") && !identity("welsh") && !identity("Wels"));
        assert!(Identity::Dns("WELSH.example".to_owned()).is_in(&read.names));
        assert!(!Identity::Dns("a.example".to_owned()).is_in(&read.names));
        let many: Vec<(u8, &[u8])> = (0..3_000).map(|_| (6, &b"herd:client:a"[..])).collect();
        let read = Certificate::read(&with_names(&many)).expect("a certificate");
        assert_eq!(read.names.uris.len(), 256);
    }

    #[test]
    fn the_rest_is_for_messages_and_bounded() {
        let read = Certificate::read(&with_names(&[])).expect("a certificate");
        assert_eq!(read.serial, "9f:00:0a");
        assert!(read.subject.len() < 500 && read.allows_client && read.allows_server);
        assert!(!read.is_authority && read.not_before < read.not_after);
    }

    #[test]
    fn what_is_no_certificate_is_an_error_and_never_a_panic() {
        let der = with_names(&[(6, b"herd:server:Welsh"), (2, b"a.example")]);
        assert!(Certificate::read(&[&der[..], b"x"].concat()).is_err());
        for at in 0..der.len() {
            assert!(Certificate::read(&der[..at]).is_err());
            let mut damaged = der.clone();
            damaged[at] ^= 0x41;
            let _ = Certificate::read(&damaged);
        }
        assert_eq!(Certificate::read(b""), Err(TlsError::Certificate));
        // One of 100 kB is more than this program reads.
        let huge = with_names(&[(6, &vec![b'x'; 100_000])]);
        assert!(Certificate::read(&huge).is_err());
    }
}
