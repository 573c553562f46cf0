//! OpenSSL's certificates and its server: messages in plain words say what is wrong, and what `openssl req -x509` makes is
//! trusted where it is itself the file of `--places-ca`.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;

use crate::common::needs::{Missing, Outcome, tool};
use crate::common::ports::{Port, reserve};
use crate::common::process::Running;
use crate::common::tls_server::TlsServer;
use crate::common::{Client, LIMIT, wait_until};

const RSA: &[&str] = &["-newkey", "rsa:2048"];
const ECDSA: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const SHORT_RSA: &[&str] = &["-newkey", "rsa:1024"];
/// What OpenSSL would refuse by itself otherwise.
const ANY_SECURITY: &[&str] = &["-cipher", "DEFAULT:@SECLEVEL=0"];

/// Files of one test: `NAME.pem` is a certificate, `NAME.key` its key.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("OpenSSL has written it")
    }

    /// `openssl req -x509`, for localhost.
    fn make(&self, name: &str, how: &[&[&str]]) -> Result<(), Missing> {
        let mut openssl = tool("openssl")?;
        openssl.current_dir(self.path()).args(["req", "-x509", "-nodes", "-days", "30"]);
        openssl.args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost"]);
        openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
        let output = openssl.args(how.concat()).output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// `openssl s_server` with this certificate. It serves one file, which is what Goloman asks for.
    fn serve(&self, name: &str, how: &[&str]) -> Result<Server, Missing> {
        let file = "x?location=34.068930,-118.445127&radius=1609&key=sesame";
        std::fs::write(self.path().join(file), "{\"results\" : [ 1 ], \"status\" : \"OK\"}\n")
            .expect("a file");
        let port = reserve();
        let mut openssl = tool("openssl")?;
        openssl.current_dir(self.path()).args(["s_server", "-WWW", "-accept"]);
        openssl.arg(port.number.to_string()).args(["-cert", &format!("{name}.pem"), "-key"]);
        openssl.arg(format!("{name}.key")).args(how).stdin(Stdio::null());
        openssl.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running(openssl.spawn().expect("openssl runs"));
        wait_until(LIMIT, "OpenSSL listens", || Client::try_connect(port.address()).is_ok());
        Ok(Server { service: TlsServer { port: port.number }, _running: running, _port: port })
    }
}

struct Server {
    service: TlsServer,
    _running: Running,
    _port: Port,
}

pub fn its_self_signed_certificate_is_trusted_where_it_is_the_trusted_file() -> Outcome {
    for key in [RSA, ECDSA] {
        let files = Files::new();
        files.make("own", &[key])?;
        let server = files.serve("own", &[])?;
        server.service.is_trusted(&files.text("own.pem"), "localhost");
        files.make("other", &[key])?;
        server.service.fails(&files.text("other.pem"), "it is an authority's (CA:TRUE)");
    }
    Ok(())
}

pub fn a_key_that_is_too_short_is_named() -> Outcome {
    let files = Files::new();
    files.make("short", &[SHORT_RSA])?;
    let words = "is not trusted: its RSA key has 1024 bits; it needs 2048 to 8192";
    let server = files.serve("short", ANY_SECURITY)?;
    server.service.fails(&files.text("short.pem"), words);
    let below = ["-CA", "short.pem", "-CAkey", "short.key"];
    files.make("leaf", &[ECDSA, &below, &["-addext", "basicConstraints=CA:FALSE"]])?;
    let words = "is not trusted: its authority's RSA key has 1024 bits; it needs 2048 to 8192";
    let server = files.serve("leaf", ANY_SECURITY)?;
    server.service.fails(&files.text("short.pem"), words);
    Ok(())
}

pub fn a_signature_of_an_unsupported_kind_is_named() -> Outcome {
    let files = Files::new();
    files.make("ed448", &[&["-newkey", "ed448"]])?;
    let below = ["-CA", "ed448.pem", "-CAkey", "ed448.key"];
    files.make("leaf", &[ECDSA, &below, &["-addext", "basicConstraints=CA:FALSE"]])?;
    let server = files.serve("leaf", &[])?;
    let words = "it is signed in a way that is not supported here (1.3.101.113); it needs ECDSA";
    server.service.fails(&files.text("ed448.pem"), words);
    files.make("sha1", &[RSA])?;
    let below = ["-CA", "sha1.pem", "-CAkey", "sha1.key", "-sha1"];
    files.make("leaf", &[ECDSA, &below, &["-addext", "basicConstraints=CA:FALSE"]])?;
    let server = files.serve("leaf", ANY_SECURITY)?;
    let words = "it is signed in a way that is not supported here (1.2.840.113549.1.1.5); it needs";
    server.service.fails(&files.text("sha1.pem"), words);
    Ok(())
}

pub fn a_service_with_nothing_in_common_is_named() -> Outcome {
    let files = Files::new();
    files.make("own", &[RSA])?;
    let own = files.text("own.pem");
    let old = files.serve("own", &[&["-tls1_1"], ANY_SECURITY].concat())?;
    old.service.fails(&own, "it supports no version of TLS that is supported here (1.2 and 1.3)");
    let weak = files.serve("own", &["-tls1_2", "-cipher", "AES128-SHA"])?;
    weak.service.fails(&own, "it and this program have nothing in common to agree on");
    let asking = files.serve("own", &["-Verify", "1"])?;
    asking.service.fails(&own, "it wants a client's certificate, and this program has none");
    Ok(())
}
