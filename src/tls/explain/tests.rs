//! Every variant of the versions in `Cargo.lock` has a text.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ContentType, HandshakeType, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use super::*;

/// The versions whose variants are listed here.
const RUSTLS: &str = "0.23.46";
const WEBPKI: &str = "0.103.17";

/// Variants without values, each by its name.
macro_rules! units {
    ($of:ident: $($variant:ident),* $(,)?) => {
        vec![$((stringify!($variant), $of::$variant)),*]
    };
}

#[test]
fn every_reason_has_plain_words_for_whoever_is_on_the_other_side() {
    for side in [Side::Client, Side::Server, Side::Service] {
        check_words_about(side);
    }
}

fn check_words_about(side: Side) {
    let mut words = Words { side, ..Words::default() };
    words.check("error.rs", "Error", every_error(), |it| super::words(it, "example.org"));
    words.check("error.rs", "CertificateError", every_certificate_error(), certificate);
    words.check("error.rs", "CertRevocationListError", every_list_error(), |it| {
        revocation_list(it).to_owned()
    });
    words.check("error.rs", "InvalidMessage", every_message(), |it| message(it).to_owned());
    words.check("error.rs", "PeerIncompatible", every_incompatibility(), |it| {
        incompatible(it).to_owned()
    });
    words.check("error.rs", "PeerMisbehaved", every_misbehaviour(), |it| misbehaved(it).to_owned());
    words.check("enums.rs", "AlertDescription", every_alert(), |it| alert(*it).to_owned());
    words.package = ("rustls-webpki", WEBPKI);
    words.check("error.rs", "Error", every_chain_error(), |it| {
        certificate(&CertificateError::Other(OtherError(Arc::new(it.clone()))))
    });
    assert!(words.complaints.is_empty(), "\n{}", words.complaints.join("\n"));
}

/// Checks the words for each variant, and that every variant is listed.
struct Words {
    package: (&'static str, &'static str),
    side: Side,
    complaints: Vec<String>,
}

impl Default for Words {
    fn default() -> Words {
        Words { package: ("rustls", RUSTLS), side: Side::Client, complaints: Vec::new() }
    }
}

impl Words {
    fn check<T: Debug>(
        &mut self,
        file: &str,
        of: &str,
        variants: Vec<(&'static str, T)>,
        explain: impl Fn(&T) -> String,
    ) {
        let camel_case = Regex::new(r"\b[A-Z][a-z0-9]+[A-Z]\w*").expect("a pattern");
        for (name, value) in &variants {
            let text = spelled(&explain(value), &Remedies::default(), self.side);
            // The text contains a name of several words, or a value in debug form.
            let is_dump = name.chars().filter(char::is_ascii_uppercase).count() > 1
                && text.contains(name)
                || text.contains(['{', '}', '"', '\x1b'])
                || camel_case.is_match(&text.replace("ChaCha20", ""));
            let is_general = ["this version of the program", "that is not known here"]
                .iter()
                .any(|words| text.contains(words));
            let may_be_general = matches!(*name, "Other" | "Unknown");
            if is_dump || is_general && !may_be_general || text.is_empty() {
                self.complaints.push(format!("{of}::{name}: {text}"));
            }
        }
        let listed: BTreeSet<String> = variants.iter().map(|(name, _)| name.to_string()).collect();
        let (package, version) = self.package;
        match variants_of(package, file, of) {
            Ok(mut there) => {
                // It contains a type that rustls does not export; `message` has a sentence for it.
                there.remove("UnsupportedKeyExchangeAlgorithm");
                if there != listed {
                    let differing: Vec<&String> = there.symmetric_difference(&listed).collect();
                    self.complaints.push(format!("{package}'s {of} and the list: {differing:?}"));
                }
            }
            Err(locked) if locked == version => {}
            Err(locked) => self.complaints.push(format!(
                "{package} {locked} is locked, and what is listed here is of {version}"
            )),
        }
    }
}

/// The names of an enum's variants in the source of the locked version; or that version, if its source is not
/// on this machine.
fn variants_of(package: &str, file: &str, of: &str) -> Result<BTreeSet<String>, String> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = std::fs::read_to_string(lock).expect("Cargo.lock");
    let entry = format!("name = \"{package}\"\nversion = \"");
    let version = lock.split_once(&entry).and_then(|(_, rest)| rest.split_once('"'));
    let (version, _) = version.unwrap_or_else(|| panic!("{package} is not locked"));
    let text = sources()
        .into_iter()
        .map(|folder| folder.join(format!("{package}-{version}/src/{file}")))
        .find_map(|path| std::fs::read_to_string(path).ok());
    let Some(text) = text else { return Err(version.to_owned()) };
    let (before, body) =
        text.split_once(&format!("pub enum {of} {{\n")).unwrap_or_else(|| panic!("no enum {of}"));
    let margin = before.rsplit('\n').next().unwrap_or_default();
    let body = body.split(&format!("\n{margin}}}")).next().unwrap_or_default();
    let variant =
        Regex::new(&format!("(?m)^{margin}    ([A-Z]\\w*)(,| \\{{|\\(| =>)")).expect("a pattern");
    let mut names: BTreeSet<String> =
        variant.captures_iter(body).map(|found| found[1].to_owned()).collect();
    assert!(names.len() > 5, "{of}: {names:?}");
    if body.contains(" => 0x") {
        names.insert("Unknown".to_owned()); // as rustls's macro does
    }
    Ok(names)
}

/// Where cargo keeps the sources of packages.
fn sources() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let registries = home.and_then(|home| std::fs::read_dir(home.join("registry/src")).ok());
    registries.into_iter().flatten().flatten().map(|registry| registry.path()).collect()
}

#[test]
fn times_names_and_keys_are_named() {
    let text_of = |reason: CertificateError| words(&reason.into(), "localhost");
    let expired = text_of(CertificateError::ExpiredContext {
        time: time(1_700_000_000),
        not_after: time(1_000_000_000),
    });
    assert!(expired.contains("it has expired at 2001-09-09 01:46:40 UTC"), "{expired}");
    assert!(expired.contains("the clock here says 2023-11-14 22:13:20 UTC"), "{expired}");
    let far =
        text_of(CertificateError::NotValidYetContext { time: time(0), not_before: time(u64::MAX) });
    assert!(far.contains("not valid before a time past the year 9999"), "{far}");
    let algorithm = unsupported_algorithm(SHA_1);
    assert!(algorithm.contains(" (1.2.840.113549.1.1.5);"), "{algorithm}");
    for cut in [&b""[..], b"\x06", b"\x06\x09\x2a", b"\x30\x01\x2a", b"\x06\x00"] {
        assert!(unsupported_algorithm(cut).contains("supported here; "), "{cut:?}");
    }
    let other = CertificateError::Other(OtherError(Arc::new(Distrust::OwnKey { bits: 1024 })));
    assert!(text_of(other).ends_with("its RSA key has 1024 bits; it needs 2048 to 8192"));
}

#[test]
fn names_from_a_certificate_are_few_and_harmless() {
    let text_of = |presented: &[&str]| {
        let presented = presented.iter().map(|name| name.to_string()).collect();
        certificate(&CertificateError::NotValidForNameContext { expected: localhost(), presented })
    };
    let none = text_of(&[]);
    assert!(
        none.contains("it is for no name at all; localhost must be in its subjectAltName"),
        "{none}"
    );
    let some = text_of(&[
        "DnsName(\"*.a.example\")",
        "IpAddress(10.0.0.1)",
        "Unsupported(0x81)",
        "DirectoryName",
    ]);
    assert!(
        some.contains("for another name, *.a.example, 10.0.0.1, 0x81, one of another kind,"),
        "{some}"
    );
    let hostile = text_of(&["DnsName(\"a\x1b[31m\n06-Jun-19 - INFO: \u{202e}\\\")"]);
    assert!(hostile.contains(" a?[31m?06-Jun-19 - INFO: ??,"), "{hostile}");
    let name = format!("DnsName(\"{}\")", "x".repeat(10_000));
    let many = text_of(&vec![name.as_str(); 1_000]);
    assert!(many.contains(" and 995 more,") && many.len() < 1_500, "{} bytes", many.len());
}

fn every_misbehaviour() -> Vec<(&'static str, PeerMisbehaved)> {
    units![PeerMisbehaved:
        AttemptedDowngradeToTls12WhenTls13IsSupported, BadCertChainExtensions,
        CipherSuiteDifferedOnRetry, DisallowedEncryptedExtension, DuplicateClientHelloExtensions,
        DuplicateEncryptedExtensions, DuplicateHelloRetryRequestExtensions,
        DuplicateNewSessionTicketExtensions, DuplicateServerHelloExtensions,
        DuplicateServerNameTypes, EarlyDataAttemptedInSecondClientHello,
        EarlyDataExtensionWithoutResumption, EarlyDataOfferedWithVariedCipherSuite,
        EchAcceptanceVariedAfterRetry, HandshakeHashVariedAfterRetry,
        IllegalHelloRetryRequestWithEmptyCookie, IllegalHelloRetryRequestWithNoChanges,
        IllegalHelloRetryRequestWithOfferedGroup, IllegalHelloRetryRequestWithUnofferedCipherSuite,
        IllegalHelloRetryRequestWithUnofferedNamedGroup,
        IllegalHelloRetryRequestWithUnsupportedVersion, IllegalHelloRetryRequestWithWrongSessionId,
        IllegalHelloRetryRequestWithInvalidEch, IllegalMiddleboxChangeCipherSpec,
        IllegalTlsInnerPlaintext, IncorrectBinder, InvalidCertCompression, InvalidMaxEarlyDataSize,
        InvalidKeyShare, KeyEpochWithPendingFragment, KeyUpdateReceivedInQuicConnection,
        MessageInterleavedWithHandshakeMessage, MissingBinderInPskExtension, MissingKeyShare,
        MissingPskExtensionInSecondClientHello, MissingPskModesExtension,
        MissingQuicTransportParameters, OfferedDuplicateCertificateCompressions,
        OfferedDuplicateKeyShares, OfferedEarlyDataWithOldProtocolVersion,
        OfferedEmptyApplicationProtocol, OfferedIncorrectCompressions, PskExtensionMustBeLast,
        PskExtensionWithMismatchedIdsAndBinders, RefusedToFollowHelloRetryRequest,
        RejectedEarlyDataInterleavedWithHandshakeMessage, ResumptionAttemptedWithVariedEms,
        ResumptionOfferedWithVariedCipherSuite, ResumptionOfferedWithVariedEms,
        ResumptionOfferedWithIncompatibleCipherSuite, SelectedDifferentCipherSuiteAfterRetry,
        SelectedInvalidPsk, SelectedTls12UsingTls13VersionExtension,
        SelectedUnofferedApplicationProtocol, SelectedUnofferedCertCompression,
        SelectedUnofferedCipherSuite, SelectedUnofferedCompression, SelectedUnofferedKxGroup,
        SelectedUnofferedPsk, SelectedUnusableCipherSuiteForVersion,
        ServerEchoedCompatibilitySessionId, ServerHelloMustOfferUncompressedEcPoints,
        ServerNameDifferedOnRetry, ServerNameMustContainOneHostName, SignedKxWithWrongAlgorithm,
        SignedHandshakeWithUnadvertisedSigScheme, TooManyEmptyFragments, TooManyKeyUpdateRequests,
        TooManyRenegotiationRequests, TooManyWarningAlertsReceived, TooMuchEarlyDataReceived,
        UnexpectedCleartextExtension, UnsolicitedCertExtension, UnsolicitedEncryptedExtension,
        UnsolicitedSctList, UnsolicitedServerHelloExtension, WrongGroupForKeyShare,
        UnsolicitedEchExtension,
    ]
}

fn every_alert() -> Vec<(&'static str, AlertDescription)> {
    let mut variants = units![AlertDescription:
        CloseNotify, UnexpectedMessage, BadRecordMac, DecryptionFailed, RecordOverflow,
        DecompressionFailure, HandshakeFailure, NoCertificate, BadCertificate,
        UnsupportedCertificate, CertificateRevoked, CertificateExpired, CertificateUnknown,
        IllegalParameter, UnknownCA, AccessDenied, DecodeError, DecryptError, ExportRestriction,
        ProtocolVersion, InsufficientSecurity, InternalError, InappropriateFallback, UserCanceled,
        NoRenegotiation, MissingExtension, UnsupportedExtension, CertificateUnobtainable,
        UnrecognisedName, BadCertificateStatusResponse, BadCertificateHashValue,
        UnknownPSKIdentity, CertificateRequired, NoApplicationProtocol,
        EncryptedClientHelloRequired,
    ];
    variants.push(("Unknown", AlertDescription::Unknown(200)));
    variants
}

fn every_incompatibility() -> Vec<(&'static str, PeerIncompatible)> {
    let mut variants = units![PeerIncompatible:
        EcPointsExtensionRequired, ExtendedMasterSecretExtensionRequired,
        IncorrectCertificateTypeExtension, KeyShareExtensionRequired, NamedGroupsExtensionRequired,
        NoCertificateRequestSignatureSchemesInCommon, NoCipherSuitesInCommon,
        NoEcPointFormatsInCommon, NoKxGroupsInCommon, NoSignatureSchemesInCommon,
        NullCompressionRequired, ServerDoesNotSupportTls12Or13,
        ServerSentHelloRetryRequestWithUnknownExtension, ServerTlsVersionIsDisabledByOurConfig,
        SignatureAlgorithmsExtensionRequired, SupportedVersionsExtensionRequired, Tls12NotOffered,
        Tls12NotOfferedOrEnabled, Tls13RequiredForQuic, UncompressedEcPointsRequired,
        UnsolicitedCertificateTypeExtension,
    ];
    variants.extend([(
        "ServerRejectedEncryptedClientHello",
        PeerIncompatible::ServerRejectedEncryptedClientHello(None),
    )]);
    variants
}

fn every_message() -> Vec<(&'static str, InvalidMessage)> {
    let mut variants = units![InvalidMessage:
        CertificatePayloadTooLarge, HandshakePayloadTooLarge, InvalidCcs, InvalidContentType,
        InvalidCertificateStatusType, InvalidCertRequest, InvalidDhParams, InvalidEmptyPayload,
        InvalidKeyUpdate, InvalidServerName, MessageTooLarge, MessageTooShort, MissingKeyExchange,
        NoSignatureSchemes, UnknownProtocolVersion, UnsupportedCompression, UnsupportedCurveType,
        EmptyTicketValue, IllegalEmptyValue, PreSharedKeyIsNotFinalExtension,
        UnknownHelloRetryRequestExtension, UnknownCertificateExtension,
    ];
    variants.extend([
        ("MissingData", InvalidMessage::MissingData("SessionId")),
        ("TrailingData", InvalidMessage::TrailingData("SessionId")),
        ("UnexpectedMessage", InvalidMessage::UnexpectedMessage("SessionId")),
        ("IllegalEmptyList", InvalidMessage::IllegalEmptyList("SessionId")),
        ("DuplicateExtension", InvalidMessage::DuplicateExtension(5)),
    ]);
    variants
}

#[allow(deprecated)]
fn every_certificate_error() -> Vec<(&'static str, CertificateError)> {
    let mut variants = units![CertificateError:
        BadEncoding, Expired, NotValidYet, Revoked, UnhandledCriticalExtension, UnknownIssuer,
        UnknownRevocationStatus, ExpiredRevocationList, BadSignature,
        UnsupportedSignatureAlgorithm, NotValidForName, InvalidPurpose, InvalidOcspResponse,
        ApplicationVerificationFailure,
    ];
    variants.extend([
        (
            "ExpiredContext",
            CertificateError::ExpiredContext { time: time(2_000_000_000), not_after: time(0) },
        ),
        (
            "NotValidYetContext",
            CertificateError::NotValidYetContext { time: time(0), not_before: time(2_000_000_000) },
        ),
        (
            "ExpiredRevocationListContext",
            CertificateError::ExpiredRevocationListContext { time: time(1), next_update: time(0) },
        ),
        (
            "UnsupportedSignatureAlgorithmContext",
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: SHA_1.to_vec(),
                supported_algorithms: Vec::new(),
            },
        ),
        (
            "UnsupportedSignatureAlgorithmForPublicKeyContext",
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: SHA_1.to_vec(),
                public_key_algorithm_id: SHA_1.to_vec(),
            },
        ),
        (
            "NotValidForNameContext",
            CertificateError::NotValidForNameContext {
                expected: localhost(),
                presented: vec!["DnsName(\"a\")".into()],
            },
        ),
        (
            "InvalidPurposeContext",
            CertificateError::InvalidPurposeContext {
                required: ExtendedKeyPurpose::ServerAuth,
                presented: vec![ExtendedKeyPurpose::ClientAuth],
            },
        ),
        ("Other", CertificateError::Other(OtherError(Arc::new(std::fmt::Error)))),
    ]);
    variants
}

#[allow(deprecated)]
fn every_list_error() -> Vec<(&'static str, CertRevocationListError)> {
    let mut variants = units![CertRevocationListError:
        BadSignature, UnsupportedSignatureAlgorithm, InvalidCrlNumber,
        InvalidRevokedCertSerialNumber, IssuerInvalidForCrl, ParseError, UnsupportedCrlVersion,
        UnsupportedCriticalExtension, UnsupportedDeltaCrl, UnsupportedIndirectCrl,
        UnsupportedRevocationReason,
    ];
    variants.extend([
        (
            "UnsupportedSignatureAlgorithmContext",
            CertRevocationListError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: SHA_1.to_vec(),
                supported_algorithms: Vec::new(),
            },
        ),
        (
            "UnsupportedSignatureAlgorithmForPublicKeyContext",
            CertRevocationListError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: SHA_1.to_vec(),
                public_key_algorithm_id: SHA_1.to_vec(),
            },
        ),
        ("Other", CertRevocationListError::Other(OtherError(Arc::new(std::fmt::Error)))),
    ]);
    variants
}

#[allow(deprecated)]
fn every_chain_error() -> Vec<(&'static str, webpki::Error)> {
    use webpki::Error as Chain;
    let mut variants = units![Chain:
        BadDer, BadDerTime, CaUsedAsEndEntity, CertDistrusted, CertRevoked, EmptyEkuExtension,
        EndEntityUsedAsCa, ExtensionValueInvalid, InvalidCertValidity, InvalidCrlNumber,
        InvalidNetworkMaskConstraint, InvalidSerialNumber, InvalidCrlSignatureForPublicKey,
        InvalidSignatureForPublicKey, IssuerNotCrlSigner, MalformedDnsIdentifier,
        MalformedExtensions, MalformedNameConstraint, MaximumNameConstraintComparisonsExceeded,
        MaximumPathBuildCallsExceeded, MaximumPathDepthExceeded, MaximumSignatureChecksExceeded,
        NameConstraintViolation, PathLenConstraintViolated, RequiredEkuNotFound,
        SignatureAlgorithmMismatch, UnknownIssuer, UnknownRevocationStatus, UnsupportedCertVersion,
        UnsupportedCriticalExtension, UnsupportedCrlIssuingDistributionPoint,
        UnsupportedCrlVersion, UnsupportedDeltaCrl, UnsupportedIndirectCrl, UnsupportedNameType,
        UnsupportedRevocationReason, UnsupportedRevocationReasonsPartitioning,
        UnsupportedCrlSignatureAlgorithm, UnsupportedSignatureAlgorithm,
        UnsupportedCrlSignatureAlgorithmForPublicKey, UnsupportedSignatureAlgorithmForPublicKey,
    ];
    variants.extend(every_chain_error_with_values());
    variants
}

fn every_chain_error_with_values() -> Vec<(&'static str, webpki::Error)> {
    use webpki::Error as Chain;
    vec![
        ("CertExpired", Chain::CertExpired { time: time(1), not_after: time(0) }),
        (
            "CertNotValidForName",
            Chain::CertNotValidForName(webpki::InvalidNameContext {
                expected: localhost(),
                presented: Vec::new(),
            }),
        ),
        ("CertNotValidYet", Chain::CertNotValidYet { time: time(0), not_before: time(1) }),
        ("CrlExpired", Chain::CrlExpired { time: time(1), next_update: time(0) }),
        (
            "RequiredEkuNotFoundContext",
            Chain::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext {
                required: webpki::KeyUsage::server_auth(),
                present: Vec::new(),
            }),
        ),
        ("TrailingData", Chain::TrailingData(webpki::DerTypeId::Time)),
        (
            "UnsupportedCrlSignatureAlgorithmContext",
            Chain::UnsupportedCrlSignatureAlgorithmContext(
                webpki::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: SHA_1.to_vec(),
                    supported_algorithms: Vec::new(),
                },
            ),
        ),
        (
            "UnsupportedSignatureAlgorithmContext",
            Chain::UnsupportedSignatureAlgorithmContext(
                webpki::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: SHA_1.to_vec(),
                    supported_algorithms: Vec::new(),
                },
            ),
        ),
        (
            "UnsupportedCrlSignatureAlgorithmForPublicKeyContext",
            Chain::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(
                webpki::UnsupportedSignatureAlgorithmForPublicKeyContext {
                    signature_algorithm_id: SHA_1.to_vec(),
                    public_key_algorithm_id: SHA_1.to_vec(),
                },
            ),
        ),
        (
            "UnsupportedSignatureAlgorithmForPublicKeyContext",
            Chain::UnsupportedSignatureAlgorithmForPublicKeyContext(
                webpki::UnsupportedSignatureAlgorithmForPublicKeyContext {
                    signature_algorithm_id: SHA_1.to_vec(),
                    public_key_algorithm_id: SHA_1.to_vec(),
                },
            ),
        ),
    ]
}

fn every_error() -> Vec<(&'static str, Error)> {
    let mut variants = units![Error:
        NoCertificatesPresented, UnsupportedNameType, DecryptError, EncryptError,
        FailedToGetCurrentTime, FailedToGetRandomBytes, HandshakeNotComplete,
        PeerSentOversizedRecord, NoApplicationProtocol, BadMaxFragmentSize,
    ];
    variants.extend([
        (
            "InappropriateMessage",
            Error::InappropriateMessage {
                expect_types: vec![ContentType::Handshake],
                got_type: ContentType::Alert,
            },
        ),
        (
            "InappropriateHandshakeMessage",
            Error::InappropriateHandshakeMessage {
                expect_types: Vec::new(),
                got_type: HandshakeType::Finished,
            },
        ),
        (
            "InvalidEncryptedClientHello",
            Error::InvalidEncryptedClientHello(rustls::EncryptedClientHelloError::SniRequired),
        ),
        ("InvalidMessage", InvalidMessage::InvalidCcs.into()),
        ("PeerIncompatible", PeerIncompatible::NoCipherSuitesInCommon.into()),
        ("PeerMisbehaved", PeerMisbehaved::InvalidKeyShare.into()),
        ("AlertReceived", Error::AlertReceived(AlertDescription::DecodeError)),
        ("InvalidCertificate", CertificateError::Revoked.into()),
        ("InvalidCertRevocationList", CertRevocationListError::ParseError.into()),
        ("General", Error::General("no more \x1b[31m".into())),
        ("InconsistentKeys", InconsistentKeys::Unknown.into()),
        ("Other", Error::Other(OtherError(Arc::new(std::fmt::Error)))),
    ]);
    variants
}

fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// sha1WithRSAEncryption, 1.2.840.113549.1.1.5.
const SHA_1: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05";
