//! A server of TLS with any certificate and any settings, or of bytes that are no TLS at all; and the
//! certificates for it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto, version};

use super::service::ok;
use super::{LIMIT, ServerProcess, Setup};

pub const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1559865055.5";

/// Its thread lives as long as the test's process.
pub struct TlsServer {
    pub port: u16,
}

impl TlsServer {
    /// Does this with each connection.
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> TlsServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                _ = stream.set_read_timeout(Some(LIMIT));
                serve(stream);
            }
        });
        TlsServer { port }
    }

    /// Answers each request with the same body.
    pub fn tls(config: ServerConfig) -> TlsServer {
        let config = Arc::new(config);
        TlsServer::start(move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut tls = StreamOwned::new(session, stream);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                match tls.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => return, // with the alert that rustls has sent
                }
            }
            _ = tls.write_all(&ok("{\"results\" : [ 1 ], \"status\" : \"OK\"}"));
            _ = tls.flush();
        })
    }

    /// Says these bytes to whatever comes, and closes once the client has.
    pub fn raw(bytes: Vec<u8>) -> TlsServer {
        TlsServer::start(move |mut stream| {
            let mut hello = [0; 4096];
            _ = stream.read(&mut hello);
            _ = stream.write_all(&bytes);
            _ = stream.shutdown(Shutdown::Write);
            while stream.read(&mut hello).is_ok_and(|count| count > 0) {}
        })
    }

    /// What a client of a server that trusts `authorities` is answered when it asks this service.
    pub fn ask(&self, authorities: &str, host: &str) -> (String, ServerProcess, Setup) {
        let setup = Setup::alone().any_port();
        let ca = setup.folder.path().join("ca.pem");
        std::fs::write(&ca, authorities).expect("the temporary folder can be written");
        let mut command = setup.command("Goloman");
        command.args(["--places=google", "--places-ca"]).arg(ca).env("HERD_PLACES_KEY", "sesame");
        command.arg(format!("--places-url=https://{host}:{}/x", self.port));
        let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
        let mut client = server.client();
        client.ask(IAMAT);
        let answer = client.whatsat("kiwi", "1", "5");
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let said = match body["error_message"].as_str() {
            Some(message) => message.to_owned(),
            None => answer.status(),
        };
        (said, server, setup)
    }

    /// Expects an answer with these words, and the same in the log.
    pub fn fails(&self, authorities: &str, words: &str) {
        let (said, server, _setup) = self.ask(authorities, "localhost");
        assert!(said.contains(words), "{words:?} in {said:?}");
        server.wait_for_log(words);
        assert!(!said.contains(['{', '"']), "no Debug form: {said}");
        server.assert_serves();
    }

    /// Expects that the service is trusted and its answer read.
    pub fn is_trusted(&self, authorities: &str, host: &str) {
        let (said, ..) = self.ask(authorities, host);
        assert_eq!(said, "OK");
    }
}

/// A certificate, those that lead from it to an authority, and its key.
pub struct Chain {
    pub certificates: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Chain {
    /// A server's configuration that presents it, whatever it is.
    pub fn config(&self) -> ServerConfig {
        let provider = Arc::new(crypto::ring::default_provider());
        self.present(
            ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&version::TLS13, &version::TLS12])
                .expect("versions")
                .with_no_client_auth(),
        )
    }

    pub fn present(
        &self,
        builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    ) -> ServerConfig {
        let key = PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes());
        let key = crypto::ring::sign::any_supported_type(&key.expect("a key")).expect("a key");
        let pair = CertifiedKey::new(self.certificates.clone(), key);
        builder.with_cert_resolver(Arc::new(Always(Arc::new(pair))))
    }

    pub fn serve(&self) -> TlsServer {
        TlsServer::tls(self.config())
    }
}

/// Other than rustls's own, it does not look whether certificate and key fit.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

pub type Authority = CertifiedIssuer<'static, KeyPair>;

/// Parameters of a certificate for these names.
pub fn names(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    CertificateParams::new(names).expect("parameters")
}

/// Parameters of an authority of this name.
pub fn authority_params(name: &str) -> CertificateParams {
    let mut params = names(&[]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub fn authority(params: CertificateParams) -> Authority {
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// Another name of any kind.
pub fn add_dns_name(params: &mut CertificateParams, name: &str) {
    let name = name.to_owned().try_into().expect("ASCII");
    params.subject_alt_names.push(SanType::DnsName(name));
}

/// A certificate of this authority's.
pub fn issued(params: CertificateParams, issuer: &Authority) -> Chain {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    Chain { certificates: vec![certificate.der().clone()], key }
}

/// A certificate of its own key's, and the same as PEM text.
pub fn self_signed(params: CertificateParams) -> (Chain, String) {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (Chain { certificates: vec![certificate.der().clone()], key }, certificate.pem())
}
