//! Names in certificates: the subject's alternative names (RFC 5280, section 4.2.1.6), as bytes. Neither the common
//! name nor addresses are ever looked at.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

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

/// The ids that a client's certificate may speak for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientNames {
    /// Any id: the certificate of a gateway.
    pub any: bool,
    pub ids: Vec<Vec<u8>>,
}

impl Names {
    /// The names in a certificate. Names that are not UTF-8, longer than any of ours, or after the first
    /// [`MAX_NAMES`] are left out, and so match nothing.
    pub(super) fn in_certificate(certificate: &webpki::EndEntityCert<'_>) -> Names {
        let bounded = |names: &mut dyn Iterator<Item = &str>| {
            let short = names.filter(|name| name.len() <= MAX_NAME_BYTES);
            short.take(MAX_NAMES).map(str::to_owned).collect()
        };
        Names {
            uris: bounded(&mut certificate.valid_uri_names()),
            dns: bounded(&mut certificate.valid_dns_names()),
        }
    }
}

impl ClientNames {
    /// Reads the URIs `herd:client:...`. What follows is a client's id, percent-encoded, or `*` for any id. (The id `*`
    /// itself is written `%2A`.) Others, malformed ones, and those of ids that are too long are left out.
    pub fn of(names: &Names) -> ClientNames {
        let written = names.uris.iter().filter_map(|uri| uri.strip_prefix(CLIENT));
        let mut found = ClientNames::default();
        for id in written {
            match id {
                "*" => found.any = true,
                id => found.ids.extend(decoded(id)),
            }
        }
        found
    }

    /// Whether a client with this certificate may speak for this id.
    pub fn may_speak_for(&self, id: &[u8]) -> bool {
        let is_possible = (1..=MAX_ID_BYTES).contains(&id.len());
        is_possible && (self.any || self.ids.iter().any(|one| one == id))
    }
}

/// The name in the certificate of a client that may speak for this id.
pub fn client_uri(id: &[u8]) -> String {
    format!("{CLIENT}{}", percent_encode(id, ENCODED))
}

/// The bytes that a percent-encoded text stands for (RFC 3986, section 2.1); None if an escape is malformed or no client
/// can have such an id.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    let id: Vec<u8> = percent_decode_str(text).collect();
    (1..=MAX_ID_BYTES).contains(&id.len()).then_some(id)
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
/// The longest id of a client (`protocol::MAX_ID_BYTES`).
const MAX_ID_BYTES: usize = 256;
/// Names of one kind that are read from a certificate: a gateway names some ids; one for more has `herd:client:*`.
const MAX_NAMES: usize = 256;
/// The longest name that is read: no configured identity is longer, nor is the longest id with each byte encoded.
const MAX_NAME_BYTES: usize = 2_048;
/// All but the characters that never need it in a URI (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    fn speakers(uris: &[&str]) -> ClientNames {
        let uris = uris.iter().map(|&uri| uri.to_owned()).collect();
        ClientNames::of(&Names { uris, dns: vec!["herd:client:dns".to_owned(), "kiwi".to_owned()] })
    }

    #[test]
    fn an_id_is_spoken_for_if_its_bytes_are_the_decoded_rest_of_a_name() {
        let long = "a".repeat(MAX_ID_BYTES);
        let (fits, too_long) = (format!("herd:client:{long}"), format!("herd:client:{long}a"));
        let encoded = format!("herd:client:{}", "%61".repeat(MAX_ID_BYTES));
        for (uri, id, may) in [
            ("herd:client:kiwi", &b"kiwi"[..], true),
            ("herd:client:%6b%69wi", b"kiwi", true),
            ("herd:client:%6B%69wi", b"kiwi", true),
            ("herd:client:kiwi", b"KIWI", false),
            ("herd:client:KIWI", b"kiwi", false),
            ("HERD:client:kiwi", b"kiwi", false),
            ("herd:client:kiwi2", b"kiwi", false),
            ("herd:client:kiw", b"kiwi", false),
            ("herd:server:kiwi", b"kiwi", false),
            ("x:herd:client:kiwi", b"kiwi", false),
            ("herd:client:a%2Fb", b"a/b", true),
            ("herd:client:a/b", b"a/b", true),
            ("herd:client:%ff%00", b"\xff\x00", true),
            ("herd:client:kiwi%00", b"kiwi", false),
            ("herd:client:kiwi\0", b"kiwi", false),
            ("herd:client:%25", b"%", true),
            ("herd:client:%2525", b"%25", true),
            ("herd:client:%2525", b"%", false),
            // A malformed escape makes the whole name void.
            ("herd:client:%", b"%", false),
            ("herd:client:%4", b"%4", false),
            ("herd:client:%4", b"4", false),
            ("herd:client:%zz", b"%zz", false),
            ("herd:client:%+1", b"%+1", false),
            ("herd:client:kiwi%", b"kiwi", false),
            ("herd:client:%6%62", b"kb", false),
            ("herd:client:%€", "%€".as_bytes(), false),
            ("herd:client:", b"", false),
            (&fits, long.as_bytes(), true),
            (&encoded, long.as_bytes(), true),
            (&too_long, format!("{long}a").as_bytes(), false),
        ] {
            assert_eq!(speakers(&[uri]).may_speak_for(id), may, "{uri} {}", id.escape_ascii());
        }
        let two = speakers(&["herd:client:kiwi", "spiffe://x", "herd:client:koala"]);
        assert!(
            two.may_speak_for(b"kiwi") && two.may_speak_for(b"koala") && !two.may_speak_for(b"dns")
        );
    }

    #[test]
    fn a_star_alone_is_any_id_and_the_id_that_is_a_star_is_encoded() {
        let any = speakers(&["herd:client:*"]);
        assert!(any.may_speak_for(b"kiwi") && any.may_speak_for(b"*"));
        assert!(!any.may_speak_for(&[b'a'; MAX_ID_BYTES + 1]) && !any.may_speak_for(b""));
        let star = speakers(&["herd:client:%2A"]);
        assert!(star.may_speak_for(b"*") && !star.may_speak_for(b"kiwi"));
        let within = speakers(&["herd:client:ki*"]);
        assert!(within.may_speak_for(b"ki*") && !within.may_speak_for(b"kiwi"));
    }

    #[test]
    fn each_id_has_a_name_by_which_it_alone_is_spoken_for() {
        for id in
            [&b"kiwi"[..], b"*", b"%", b"%2A", b"\xff\x00 \n", b"a~b-c_d.e", &[0xe4; MAX_ID_BYTES]]
        {
            let uri = client_uri(id);
            assert!(uri.is_ascii() && uri.len() <= MAX_NAME_BYTES);
            let names = speakers(&[&uri]);
            assert!(names.may_speak_for(id) && !names.any, "{uri}");
            assert!(!names.may_speak_for(b"other"), "{uri}");
        }
    }
}
