//! The words for the other side's alerts and for its errors in the protocol itself.

use rustls::{AlertDescription, InvalidMessage, PeerIncompatible, PeerMisbehaved};

/// The text after "… ended TLS: ".
pub(super) fn alert(alert: AlertDescription) -> &'static str {
    use AlertDescription as Alert;
    match alert {
        Alert::CloseNotify => "it closed the connection",
        Alert::UnexpectedMessage => "it got a message out of turn, it says",
        Alert::BadRecordMac | Alert::DecryptionFailed | Alert::DecryptError => {
            "it can't verify or decrypt what it got, it says; was it changed on the way?"
        }
        Alert::RecordOverflow => "it got a record that is too large, it says",
        Alert::DecompressionFailure => "it can't decompress what it got, it says",
        Alert::HandshakeFailure => {
            "it and this program have nothing in common to agree on (cipher suites, key exchange, \
             signatures), or it wants a client's certificate; TLS 1.2 and 1.3 with AEAD suites and \
             ECDHE are supported here"
        }
        Alert::InsufficientSecurity => "it wants stronger cipher suites than are supported here",
        Alert::NoCertificate | Alert::CertificateRequired => {
            "it wants a client's certificate, and this program has none; switch that off at the service"
        }
        Alert::BadCertificate | Alert::CertificateUnknown => "it does not accept our certificate",
        Alert::UnsupportedCertificate => "it does not accept certificates of our kind",
        Alert::CertificateRevoked => "our certificate has been revoked, it says",
        Alert::CertificateExpired => {
            "our certificate has expired, or is not valid yet, it says; is its clock right?"
        }
        Alert::UnknownCA => "it does not trust the authority of our certificate; {trust}",
        Alert::IllegalParameter | Alert::DecodeError => {
            "it does not understand what it got, it says; is there a proxy in between?"
        }
        Alert::AccessDenied => "it refuses us access; ask who runs it",
        Alert::ExportRestriction => "it restricts keys in a way that is not supported any more",
        Alert::ProtocolVersion => {
            "it supports no version of TLS that is supported here (1.2 and 1.3); update its program"
        }
        Alert::InternalError => "it has failed within; its own log may say why",
        Alert::InappropriateFallback => {
            "it refuses an older version of TLS than both sides support; is there a proxy in between?"
        }
        Alert::UserCanceled => "its operator or user stopped it",
        Alert::NoRenegotiation => "it does not agree on new keys",
        Alert::MissingExtension | Alert::UnsupportedExtension => {
            "it and this program differ over the extensions of TLS, it says; it may need an update"
        }
        Alert::CertificateUnobtainable
        | Alert::BadCertificateStatusResponse
        | Alert::BadCertificateHashValue => {
            "it can't verify what came with our certificate, it says"
        }
        Alert::UnrecognisedName => "it knows no host of that name; is the host in {address} right?",
        Alert::UnknownPSKIdentity => "it does not know the shared key, it says",
        Alert::NoApplicationProtocol => {
            "it does not support our protocol over TLS (ALPN); is the port in {address} right?"
        }
        Alert::EncryptedClientHelloRequired => {
            "it wants an encrypted greeting (ECH), which is not supported here; switch that off at the service"
        }
        Alert::Unknown(_) => "by an alert that is not known here",
        _ => "by an alert that this version of the program does not know",
    }
}

/// Messages that are not valid TLS. Most often the other side does not use TLS at all.
pub(super) fn message(reason: &InvalidMessage) -> &'static str {
    use InvalidMessage as Message;
    match reason {
        Message::InvalidContentType
        | Message::UnknownProtocolVersion
        | Message::MessageTooLarge => {
            "what came is no TLS; does the other side use another protocol at this port?"
        }
        Message::CertificatePayloadTooLarge | Message::HandshakePayloadTooLarge => {
            "it sent more certificates, or larger ones, than are read here; have it send its own chain alone"
        }
        Message::InvalidCertificateStatusType
        | Message::InvalidCertRequest
        | Message::UnknownCertificateExtension => {
            "what it sent with its certificate is malformed; its TLS may need an update"
        }
        Message::InvalidDhParams
        | Message::MissingKeyExchange
        | Message::NoSignatureSchemes
        | Message::UnsupportedCompression
        | Message::UnsupportedCurveType
        | Message::UnsupportedKeyExchangeAlgorithm(_) => {
            "it wants to agree on keys in a way that is not supported here; TLS 1.2 and 1.3 with ECDHE are"
        }
        Message::InvalidServerName => "the host's name in it is malformed",
        Message::InvalidCcs
        | Message::InvalidEmptyPayload
        | Message::InvalidKeyUpdate
        | Message::MessageTooShort
        | Message::MissingData(_)
        | Message::TrailingData(_)
        | Message::UnexpectedMessage(_)
        | Message::EmptyTicketValue
        | Message::IllegalEmptyList(_)
        | Message::IllegalEmptyValue
        | Message::DuplicateExtension(_)
        | Message::PreSharedKeyIsNotFinalExtension
        | Message::UnknownHelloRetryRequestExtension => {
            "it sent a malformed message; is there a proxy in between, or a faulty TLS?"
        }
        _ => "it sent a message that this version of the program can't read",
    }
}

/// What one side requires and the other does not support.
pub(super) fn incompatible(reason: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as Missing;
    match reason {
        Missing::ServerDoesNotSupportTls12Or13
        | Missing::ServerTlsVersionIsDisabledByOurConfig
        | Missing::SupportedVersionsExtensionRequired
        | Missing::Tls12NotOffered
        | Missing::Tls12NotOfferedOrEnabled
        | Missing::Tls13RequiredForQuic => {
            "both sides have no version of TLS in common; 1.3 is supported here, and 1.2 where the \
             configuration allows it; update the program of the other side"
        }
        Missing::NoCipherSuitesInCommon => {
            "both sides have no cipher suite in common; those with AES-GCM and ChaCha20 are supported here"
        }
        Missing::NoKxGroupsInCommon
        | Missing::KeyShareExtensionRequired
        | Missing::NamedGroupsExtensionRequired
        | Missing::EcPointsExtensionRequired
        | Missing::NoEcPointFormatsInCommon
        | Missing::UncompressedEcPointsRequired => {
            "both sides have no key exchange in common; X25519, P-256 and P-384 are supported here"
        }
        Missing::NoSignatureSchemesInCommon
        | Missing::SignatureAlgorithmsExtensionRequired
        | Missing::NoCertificateRequestSignatureSchemesInCommon => {
            "both sides have no kind of signature in common; ECDSA (P-256, P-384), Ed25519 and RSA \
             with SHA-256 or better are supported here"
        }
        Missing::ExtendedMasterSecretExtensionRequired => {
            "it lacks the extended master secret (RFC 7627); update its program"
        }
        Missing::NullCompressionRequired => "it insists on compression, which TLS has no more",
        Missing::IncorrectCertificateTypeExtension
        | Missing::UnsolicitedCertificateTypeExtension => {
            "it wants a kind of certificate that is not X.509; only that one is supported here"
        }
        Missing::ServerSentHelloRetryRequestWithUnknownExtension => {
            "it asks in the handshake for something that is not understood here; is there a proxy in between?"
        }
        Missing::ServerRejectedEncryptedClientHello(_) => {
            "it refuses the encrypted greeting (ECH), which is not used here"
        }
        _ => "it needs something that this version of the program does not have",
    }
}

/// Violations of the rules of TLS. Most have the same remedy, so the sentences say which rule was broken.
pub(super) fn misbehaved(reason: &PeerMisbehaved) -> &'static str {
    use PeerMisbehaved as Rule;
    match reason {
        Rule::AttemptedDowngradeToTls12WhenTls13IsSupported => {
            "something on the way tries to lower the version of TLS; is there a proxy in between?"
        }
        Rule::DuplicateClientHelloExtensions
        | Rule::DuplicateEncryptedExtensions
        | Rule::DuplicateHelloRetryRequestExtensions
        | Rule::DuplicateNewSessionTicketExtensions
        | Rule::DuplicateServerHelloExtensions
        | Rule::DuplicateServerNameTypes
        | Rule::OfferedDuplicateCertificateCompressions
        | Rule::OfferedDuplicateKeyShares => {
            "it said a thing twice that may be said once; its TLS is faulty"
        }
        Rule::SelectedDifferentCipherSuiteAfterRetry
        | Rule::SelectedInvalidPsk
        | Rule::SelectedTls12UsingTls13VersionExtension
        | Rule::SelectedUnofferedApplicationProtocol
        | Rule::SelectedUnofferedCertCompression
        | Rule::SelectedUnofferedCipherSuite
        | Rule::SelectedUnofferedCompression
        | Rule::SelectedUnofferedKxGroup
        | Rule::SelectedUnofferedPsk
        | Rule::SelectedUnusableCipherSuiteForVersion
        | Rule::WrongGroupForKeyShare
        | Rule::ServerEchoedCompatibilitySessionId => {
            "it chose what it was not offered; its TLS is faulty"
        }
        Rule::UnexpectedCleartextExtension
        | Rule::DisallowedEncryptedExtension
        | Rule::UnsolicitedCertExtension
        | Rule::UnsolicitedEncryptedExtension
        | Rule::UnsolicitedSctList
        | Rule::UnsolicitedServerHelloExtension
        | Rule::UnsolicitedEchExtension
        | Rule::BadCertChainExtensions => "it answered what it was not asked; its TLS is faulty",
        other => misbehaved_with_state(other),
    }
}

/// The same for rules about several messages: retries, sessions, early data, and repetition.
fn misbehaved_with_state(reason: &PeerMisbehaved) -> &'static str {
    use PeerMisbehaved as Rule;
    match reason {
        Rule::CipherSuiteDifferedOnRetry
        | Rule::EchAcceptanceVariedAfterRetry
        | Rule::HandshakeHashVariedAfterRetry
        | Rule::IllegalHelloRetryRequestWithEmptyCookie
        | Rule::IllegalHelloRetryRequestWithNoChanges
        | Rule::IllegalHelloRetryRequestWithOfferedGroup
        | Rule::IllegalHelloRetryRequestWithUnofferedCipherSuite
        | Rule::IllegalHelloRetryRequestWithUnofferedNamedGroup
        | Rule::IllegalHelloRetryRequestWithUnsupportedVersion
        | Rule::IllegalHelloRetryRequestWithWrongSessionId
        | Rule::IllegalHelloRetryRequestWithInvalidEch
        | Rule::RefusedToFollowHelloRetryRequest
        | Rule::ServerNameDifferedOnRetry => {
            "it broke the rules when the handshake was begun again; are there several services \
             behind one address?"
        }
        Rule::IncorrectBinder
        | Rule::MissingBinderInPskExtension
        | Rule::MissingPskExtensionInSecondClientHello
        | Rule::MissingPskModesExtension
        | Rule::PskExtensionMustBeLast
        | Rule::PskExtensionWithMismatchedIdsAndBinders
        | Rule::ResumptionAttemptedWithVariedEms
        | Rule::ResumptionOfferedWithVariedCipherSuite
        | Rule::ResumptionOfferedWithVariedEms
        | Rule::ResumptionOfferedWithIncompatibleCipherSuite => {
            "it took up an earlier session in a wrong way; are there several services behind one address?"
        }
        Rule::EarlyDataAttemptedInSecondClientHello
        | Rule::EarlyDataExtensionWithoutResumption
        | Rule::EarlyDataOfferedWithVariedCipherSuite
        | Rule::InvalidMaxEarlyDataSize
        | Rule::OfferedEarlyDataWithOldProtocolVersion
        | Rule::RejectedEarlyDataInterleavedWithHandshakeMessage
        | Rule::TooMuchEarlyDataReceived => {
            "it sent early data, which is not supported here, in a wrong way"
        }
        Rule::TooManyEmptyFragments
        | Rule::TooManyKeyUpdateRequests
        | Rule::TooManyRenegotiationRequests
        | Rule::TooManyWarningAlertsReceived => "it sent the same again and again, to no end",
        Rule::SignedKxWithWrongAlgorithm | Rule::SignedHandshakeWithUnadvertisedSigScheme => {
            "it signed in a way that was not offered to it; does its key fit its certificate?"
        }
        Rule::ServerNameMustContainOneHostName => {
            "the host that it asks for (SNI) is no valid name, or there is more than one"
        }
        Rule::KeyUpdateReceivedInQuicConnection | Rule::MissingQuicTransportParameters => {
            "it seems to speak QUIC, which is not supported here"
        }
        Rule::IllegalMiddleboxChangeCipherSpec
        | Rule::IllegalTlsInnerPlaintext
        | Rule::InvalidCertCompression
        | Rule::InvalidKeyShare
        | Rule::KeyEpochWithPendingFragment
        | Rule::MessageInterleavedWithHandshakeMessage
        | Rule::MissingKeyShare
        | Rule::OfferedEmptyApplicationProtocol
        | Rule::OfferedIncorrectCompressions
        | Rule::ServerHelloMustOfferUncompressedEcPoints => {
            "its messages are not what TLS allows; is there a proxy in between, or a faulty TLS?"
        }
        _ => "it broke a rule of TLS that this version of the program does not know",
    }
}
