//! Issues certificates: ECDSA with P-256, which every TLS knows. Nothing here reads or writes a file.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

/// A certificate of a server or a client.
pub struct Leaf<'a> {
    /// For people alone: no server looks at it.
    pub common_name: String,
    pub uris: &'a [String],
    /// Host names and addresses.
    pub hosts: &'a [String],
    /// Whether it is for a server of the herd, which accepts and dials, or for a client.
    pub is_server: bool,
}

/// The certificate (PEM) of an authority that issues those of servers and clients, but no further authority. `whose`
/// begins its name; the rest comes from its key, so that no two authorities have the same name. With the same key it may
/// be issued again: what it has signed stays valid.
pub fn authority(whose: &str, key: &KeyPair, now: i64) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    let id: String =
        params.key_identifier(key).iter().take(NAME_BYTES).map(|it| format!("{it:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("{whose} {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    date(&mut params, now, now + AUTHORITY_DAYS * DAY)?;
    Ok(params.self_signed(key)?.pem())
}

/// A certificate (PEM) that the authority signs; `ends` are Unix seconds.
pub fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    key: &KeyPair,
    leaf: &Leaf<'_>,
    now: i64,
    ends: i64,
) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, &leaf.common_name);
    for uri in leaf.uris {
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
    }
    for host in leaf.hosts {
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        };
        params.subject_alt_names.push(name);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if leaf.is_server {
        params.extended_key_usages.insert(0, ExtendedKeyUsagePurpose::ServerAuth);
    }
    date(&mut params, now, ends)?;
    Ok(params.signed_by(key, issuer)?.pem())
}

/// Sets the validity, and a random serial number: the default one would be the same for each certificate of a key.
fn date(params: &mut CertificateParams, now: i64, ends: i64) -> Result<(), rcgen::Error> {
    let since_1970 = |seconds: i64| Duration::from_secs(seconds.try_into().unwrap_or_default());
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now - CLOCK_SKEW);
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(ends);
    let mut serial = [0; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and never shorter
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

/// Seconds of a day.
pub const DAY: i64 = 24 * 60 * 60;
/// How long an authority is valid.
const AUTHORITY_DAYS: i64 = 3_652;
/// Certificates begin so many seconds before they are made: clocks of other machines may be behind.
const CLOCK_SKEW: i64 = 60 * 60;
/// Bytes of a key's identifier that stand in an authority's name.
const NAME_BYTES: usize = 4;
/// RFC 5280 allows 20 at most; 16 random ones never repeat.
const SERIAL_BYTES: usize = 16;
