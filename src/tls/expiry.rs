//! Until when certificates and revocation lists are valid.

/// What a certificate or a revocation list is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateUse {
    /// The server's own.
    Server,
    /// The authorities of the servers' certificates.
    HerdCa,
    /// The authorities of clients' certificates.
    ClientsCa,
    /// Revoked certificates of servers.
    HerdCrl,
    /// Revoked certificates of clients.
    ClientsCrl,
    /// The authorities of operators' certificates.
    AdminCa,
}

/// Until when the files for one use are valid: the earliest end of all that are in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub what: CertificateUse,
    /// In seconds since 1970.
    pub not_after: i64,
}
