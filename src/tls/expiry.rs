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

impl CertificateUse {
    pub const ALL: [CertificateUse; 6] = [
        CertificateUse::Server,
        CertificateUse::HerdCa,
        CertificateUse::ClientsCa,
        CertificateUse::HerdCrl,
        CertificateUse::ClientsCrl,
        CertificateUse::AdminCa,
    ];

    /// As a label of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            CertificateUse::Server => "server",
            CertificateUse::HerdCa => "herd_ca",
            CertificateUse::ClientsCa => "clients_ca",
            CertificateUse::HerdCrl => "herd_crl",
            CertificateUse::ClientsCrl => "clients_crl",
            CertificateUse::AdminCa => "admin_ca",
        }
    }

    /// The setting that names the file.
    pub const fn setting(self) -> &'static str {
        match self {
            CertificateUse::Server => "[tls] certificate",
            CertificateUse::HerdCa => "[tls.neighbours] ca",
            CertificateUse::ClientsCa => "[tls.clients] ca",
            CertificateUse::HerdCrl => "[tls.neighbours] crl",
            CertificateUse::ClientsCrl => "[tls.clients] crl",
            CertificateUse::AdminCa => "[admin] ca",
        }
    }
}

/// Until when the files for one use are valid: the earliest end of all that are in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub what: CertificateUse,
    /// In seconds since 1970.
    pub not_after: i64,
}
