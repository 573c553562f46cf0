//! Values in errors, in readable form: times, names from certificates, object identifiers.

use jiff::Timestamp;
use rustls::pki_types::UnixTime;

/// Unwraps a name: webpki shows it with its kind, `DnsName("a")`.
pub(super) fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or("one of another kind", |inner| inner.trim_matches('"'))
}

/// The text with `?` for every character that does not occur in host names, addresses or our own texts.
pub(in crate::tls) fn harmless(text: &str) -> String {
    let is_fine = |it: &char| it.is_ascii_alphanumeric() || " .,:;*%=-_/()[]'".contains(*it);
    let shown = text.chars().map(|it| if is_fine(&it) { it } else { '?' });
    shown.take(TEXT_SHOWN).collect()
}

/// An object identifier in dotted form, or an empty string if there is none: the first value of an
/// AlgorithmIdentifier without its own tag (X.690, section 8.19).
pub(super) fn dotted(id: &[u8]) -> String {
    let Some((value, _)) = id
        .strip_prefix(&[0x06])
        .and_then(|rest| rest.split_first())
        .and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)))
    else {
        return String::new();
    };
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0_u64;
    for byte in value {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            arcs.push(arc);
            arc = 0;
        }
    }
    let Some((first, rest)) = arcs.split_first() else {
        return String::new();
    };
    let root = (first / 40).min(2);
    let rest: String = rest.iter().map(|arc| format!(".{arc}")).collect();
    format!(" ({root}.{}{rest})", first - 40 * root)
}

pub(super) fn date(time: UnixTime) -> String {
    day(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// A time in Unix seconds.
pub(in crate::tls) fn day(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "a time past the year 9999".to_owned(),
    }
}

/// How many characters of a text from the other side are shown.
const TEXT_SHOWN: usize = 200;
