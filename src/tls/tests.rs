//! What the other side can make TLS do over a real socket, and the words for errors.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use explain::Other;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ServerConfig, ServerConnection};

use super::*;

/// All the data that was sent is in the kernel when it is read.
#[test]
fn a_read_ends_although_records_without_plaintext_continue() {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let authorities = Authorities::from_pem(pair.cert.pem().as_bytes()).expect("a certificate");
    let server = ServerTls::new(&pair.cert.pem(), &pair.signing_key.serialize_pem(), None, &[]);
    let mut config = ServerConfig::clone(&server.expect("a pair").config);
    // Some 50 KiB. (If tickets extend over several records, rustls accepts at most 64 KiB of them.)
    config.send_tls13_tickets = 600;

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut session = ServerConnection::new(Arc::new(config)).expect("a session");
        while session.is_handshaking() || session.wants_write() {
            session.complete_io(&mut stream).expect("a handshake");
        }
        stream
    });
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nonblocking(true).expect("it can be set");
    let client = ClientTls::new("localhost", Some(&authorities), &[], Remedies::default());
    let mut client = client.expect("a client").begin(stream).expect("a session");
    let mut into = [0; 1024];
    while client.is_handshaking() {
        client.flush().expect("it is connected");
        let read = client.read(&mut into).expect_err("no plaintext comes");
        assert_eq!(read.kind(), ErrorKind::WouldBlock);
    }
    client.flush().expect("it is connected");
    let _open = service.join().expect("it has sent all");

    let mut reads = 0;
    loop {
        let error = client.read(&mut into).expect_err("no plaintext comes");
        match error.kind() {
            ErrorKind::Interrupted => reads += 1,
            ErrorKind::WouldBlock => break,
            _ => panic!("{error}"),
        }
    }
    assert!(reads > 0, "one read has taken it all");
    assert!(client.is_between_records());
}

#[test]
fn remedies_are_named_as_the_caller_names_them() {
    let remedies = Remedies { authorities: "the file of --ca", address: "--url" };
    let side = explain::Side::Service;
    let other = Other { name: "localhost".to_owned(), remedies, side };
    let text_of = |reason: CertificateError| {
        explain::explain(&io::Error::new(ErrorKind::InvalidData, Error::from(reason)), &other)
    };
    let unknown = text_of(CertificateError::UnknownIssuer);
    let helps = "add its authority's certificate to the file of --ca, or";
    assert!(unknown.contains(helps), "{unknown}");
    let elsewhere = text_of(CertificateError::NotValidForName);
    assert!(elsewhere.ends_with("is the host in --url right?"), "{elsewhere}");
    let expected = ServerName::try_from("localhost").expect("a name");
    let presented = vec!["DnsName(\"{address}\")".to_owned()];
    let hostile = text_of(CertificateError::NotValidForNameContext { expected, presented });
    assert!(hostile.contains("another name, ?address?,"), "braces from the other side are removed");
}

#[test]
fn who_connects_is_called_by_its_name_in_the_whole_sentence() {
    for name in ["the client", "the neighbour"] {
        let side = explain::Side::Client;
        let other = Other { name: name.to_owned(), remedies: Remedies::default(), side };
        let revoked = explain::explain_tls(&Error::from(CertificateError::Revoked), &other);
        assert!(revoked.starts_with(&format!("the certificate of {name} is not")), "{revoked}");
        assert!(revoked.ends_with(&format!("; {name} needs a new one")), "{revoked}");
    }
}

#[test]
fn errors_of_the_system_are_shown_without_their_number() {
    for number in 1..134 {
        let error = io::Error::from_raw_os_error(number);
        assert_eq!(format!("{} (os error {number})", plain(&error)), error.to_string());
    }
    assert_eq!(plain(&io::Error::other("x (os error 5)")), "x (os error 5)");
}
