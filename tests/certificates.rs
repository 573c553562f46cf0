//! Claim: the client's answer and the log explain in plain words what is wrong with a service's certificate or with
//! its TLS, and what helps; and a certificate that is itself in the file of `--places-ca` is trusted if it matches.

mod common;

use std::process::Command;
use std::sync::Arc;

use common::run_to_end;
use common::tls_server::{
    Chain, TlsServer, add_dns_name, authority, authority_params, issued, names, self_signed,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, NameConstraints, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, crypto, version};

/// A certificate for localhost with this changed, of the one authority that is trusted.
fn fails(change: impl Fn(&mut CertificateParams), words: &str) {
    let trusted = authority(authority_params("trusted"));
    let mut params = names(&["localhost"]);
    change(&mut params);
    issued(params, &trusted).serve().fails(&trusted.pem(), words);
}

#[test]
fn an_expired_certificate_is_reported_with_both_times() {
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    fails(
        expired,
        "the certificate of localhost is not trusted: it has expired at 2002-01-01 00:00:00 UTC (the clock here says 20",
    );
    let early = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2100, 1, 1);
        params.not_after = date_time_ymd(2101, 1, 1);
    };
    fails(early, "it is not valid before 2100-01-01 00:00:00 UTC (the clock here says 20");
    let reversed = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2002, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    };
    fails(reversed, "or ends before it begins; the service needs a new one");
}

#[test]
fn a_certificate_for_another_name_is_reported_with_its_names() {
    let others = names(&["elsewhere", "*.example.org", "10.0.0.1"]).subject_alt_names;
    fails(
        move |params| params.subject_alt_names = others.clone(),
        "it is for another name, elsewhere, *.example.org, 10.0.0.1, and not for localhost; is the host in --places-url",
    );
    fails(
        |params| params.subject_alt_names.clear(),
        "it is for no name at all; localhost must be in its subjectAltName",
    );
    let hostile = |params: &mut CertificateParams| {
        params.subject_alt_names.clear();
        add_dns_name(params, "a\x1b[31m\r\n06-Jun-19 18:30:55 - INFO: forged");
    };
    fails(hostile, "for another name, a?[31m??06-Jun-19 18:30:55 - INFO: forged, and not");
}

/// A service that was asked before knows the key.
#[test]
fn a_certificate_that_names_the_key_is_not_quoted() {
    let trusted = authority(authority_params("trusted"));
    let service = issued(names(&["a.sesame.example"]), &trusted).serve();
    let (said, server, _setup) = service.ask(&trusted.pem(), "localhost");
    let reason = "for a reason that can't be shown, because it contains the API key";
    assert!(said.ends_with(reason), "{said}");
    server.wait_for_log("The Places service failed a query");
    assert!(!server.log().contains("sesame"), "{}", server.log());
}

#[test]
fn a_certificate_that_is_not_for_servers_is_reported() {
    fails(
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        "it is for clients only; it needs serverAuth",
    );
    fails(
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
        "it is not for servers; it needs serverAuth",
    );
    fails(
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        "it is an authority's (CA:TRUE), and not a server's; add this very certificate to the file of --places-ca",
    );
    let critical = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
    };
    fails(critical, "it has a critical extension that is not understood here");
}

#[test]
fn an_authority_that_may_not_issue_the_certificate_is_reported() {
    let trusted = authority(authority_params("trusted"));
    let elsewhere = authority(authority_params("elsewhere"));
    let chain = issued(names(&["localhost"]), &elsewhere);
    chain.serve().fails(
        &trusted.pem(),
        "no authority that is trusted here has issued it; add its authority's",
    );
    // Another one of the trusted one's name.
    let forged = authority(authority_params("trusted"));
    let chain = issued(names(&["localhost"]), &forged);
    chain.serve().fails(&trusted.pem(), "its signature is not that of the authority that it names");

    let mut params = authority_params("limited");
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.org".into())],
        excluded_subtrees: Vec::new(),
    });
    let limited = authority(params);
    let chain = issued(names(&["localhost"]), &limited);
    chain.serve().fails(&limited.pem(), "its authority may not issue certificates for such a name");

    let below = |name: &str, is_ca: IsCa, issuer: &common::tls_server::Authority| {
        let mut params = authority_params(name);
        params.is_ca = is_ca;
        let key = KeyPair::generate().expect("a key");
        CertifiedIssuer::signed_by(params, key, issuer).expect("an authority")
    };
    let no_authority = below("none", IsCa::ExplicitNoCa, &trusted);
    let mut chain = issued(names(&["localhost"]), &no_authority);
    chain.certificates.push(no_authority.der().clone());
    chain.serve().fails(&trusted.pem(), "what has issued it is no authority (CA:FALSE)");

    let last = below("last", IsCa::Ca(BasicConstraints::Constrained(0)), &trusted);
    let past = below("past", IsCa::Ca(BasicConstraints::Unconstrained), &last);
    let mut chain = issued(names(&["localhost"]), &past);
    chain.certificates.extend([past.der().clone(), last.der().clone()]);
    chain
        .serve()
        .fails(&trusted.pem(), "there are more authorities between it and the trusted one");
}

#[test]
fn a_malformed_certificate_or_one_of_another_key_is_reported() {
    let trusted = authority(authority_params("trusted"));
    let good = issued(names(&["localhost"]), &trusted);
    let malformed = CertificateDer::from(vec![0x30, 3, 1, 1, 1]);
    let key = KeyPair::generate().expect("a key");
    let chain = Chain { certificates: vec![malformed], key };
    chain.serve().fails(&trusted.pem(), "it is malformed; the service needs another one");
    let key = KeyPair::generate().expect("a key");
    let chain = Chain { certificates: good.certificates.clone(), key };
    chain.serve().fails(&trusted.pem(), "or not of its own key");
}

#[test]
fn a_service_that_requires_a_client_certificate_is_reported() {
    let trusted = authority(authority_params("trusted"));
    let chain = issued(names(&["localhost"]), &trusted);
    let provider = Arc::new(crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).expect("a root");
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots.clone()),
            Arc::clone(&provider),
        );
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"));
        TlsServer::tls(chain.present(builder))
            .fails(&trusted.pem(), "localhost ended TLS: it wants a client's certificate");
    }
}

#[test]
fn a_service_without_a_common_protocol_is_reported() {
    let trusted = authority(authority_params("trusted"));
    let mut config = issued(names(&["localhost"]), &trusted).config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsServer::tls(config).fails(
        &trusted.pem(),
        "localhost ended TLS: it does not support our protocol over TLS (ALPN)",
    );
    let no_tls = "TLS with localhost failed: what came is no TLS; does the other side use another protocol at this port?";
    for said in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-OpenSSH_9.6\r\n"]
    {
        TlsServer::raw(said.into()).fails(&trusted.pem(), no_tls);
    }
    TlsServer::raw(Vec::new()).fails(
        &trusted.pem(),
        "the TLS handshake failed: the connection was cut; does the other side use TLS at this port?",
    );
}

#[test]
fn a_tls_alert_is_explained_in_words() {
    let trusted = authority(authority_params("trusted"));
    for (alert, words) in [
        (40, "it and this program have nothing in common to agree on"),
        (48, "it does not trust the authority of our certificate"),
        (70, "it supports no version of TLS that is supported here (1.2 and 1.3)"),
        (80, "it has failed within; its own log may say why"),
        (112, "it knows no host of that name; is the host in --places-url right?"),
        (116, "it wants a client's certificate, and this program has none"),
        (200, "by an alert that is not known here"),
    ] {
        let fatal = vec![0x15, 3, 3, 0, 2, 2, alert];
        TlsServer::raw(fatal).fails(&trusted.pem(), &format!("localhost ended TLS: {words}"));
    }
}

/// As `openssl req -x509` makes it.
fn own_authority(change: impl Fn(&mut CertificateParams)) -> (Chain, String) {
    let mut params = authority_params("localhost");
    params.subject_alt_names = names(&["localhost", "127.0.0.1"]).subject_alt_names;
    change(&mut params);
    self_signed(params)
}

#[test]
fn a_certificate_that_is_itself_the_trusted_file_is_trusted() {
    let (chain, own) = own_authority(|_| {});
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth();
        let service = TlsServer::tls(chain.present(builder));
        for host in ["localhost", "127.0.0.1"] {
            service.is_trusted(&own, host);
        }
        // Among others in the file, too.
        let other = authority(authority_params("other")).pem();
        service.is_trusted(&[other, own.clone()].concat(), "localhost");
    }
}

#[test]
fn a_certificate_that_is_itself_the_trusted_file_must_still_match() {
    let fails = |change: &dyn Fn(&mut CertificateParams), words: &str| {
        let (chain, own) = own_authority(change);
        chain.serve().fails(&own, words);
    };
    fails(
        &|params| params.subject_alt_names = names(&["elsewhere"]).subject_alt_names,
        "it is for another name, elsewhere, and not for localhost",
    );
    fails(&|params| params.subject_alt_names.clear(), "it is for no name at all");
    fails(&|params| params.not_after = date_time_ymd(2002, 1, 1), "it has expired at 2002-01-01");
    fails(&|params| params.not_before = date_time_ymd(2100, 1, 1), "it is not valid before 2100-");

    // The trusted one, presented by a service that does not have its key.
    let (own, trusted) = own_authority(|_| {});
    let key = KeyPair::generate().expect("a key");
    Chain { certificates: own.certificates.clone(), key }
        .serve()
        .fails(&trusted, "or not of its own key");

    // One that differs from the trusted one in a byte, with its key and its names.
    let mut params = authority_params("localhost");
    params.subject_alt_names = names(&["localhost"]).subject_alt_names;
    let like = params.clone().self_signed(&own.key).expect("a certificate");
    let other = Chain { certificates: vec![like.der().clone()], key: own.key };
    other.serve().fails(&trusted, "it is an authority's (CA:TRUE)");

    // One that the trusted one has issued, and that is an authority's as well.
    let trusted = authority(authority_params("trusted"));
    let mut params = authority_params("below");
    params.subject_alt_names = names(&["localhost"]).subject_alt_names;
    issued(params, &trusted).serve().fails(&trusted.pem(), "it is an authority's (CA:TRUE)");
}

#[test]
fn an_unusable_certificate_file_is_explained_in_words() {
    let good = authority(authority_params("trusted")).pem();
    let cases: [(Vec<u8>, &str); 5] = [
        (
            Vec::new(),
            "there is no certificate in it, which would begin with -----BEGIN CERTIFICATE-----",
        ),
        (vec![0x30, 0x82, 1, 1], "there is no certificate in it, which would begin with"),
        (good[..good.len() / 2].into(), "a section in it has no -----END … line: is the file cut?"),
        (good.replace("MII", "M!!").into(), "a section in it is not base64: is the file damaged?"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            "a certificate can't be used: it is malformed",
        ),
    ];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ca.pem");
    for (bytes, words) in cases {
        std::fs::write(&path, bytes).expect("the temporary folder can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--check", "--places-ca"]).arg(&path);
        let ended = run_to_end(command);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{words:?} in {:?}", ended.stderr);
    }
}
