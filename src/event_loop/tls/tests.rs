//! What TLS over a real socket does that the other side may make it do.

use std::net::TcpListener;
use std::thread;

use super::*;

/// Everything that is sent lies in the kernel when it is read.
#[test]
fn a_read_ends_although_records_without_plaintext_go_on() {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, pair.cert.pem()).expect("a file");
    let authorities = Authorities::read(&path).expect("a certificate");
    let server = ServerTls::new(&pair.cert.pem(), &pair.signing_key.serialize_pem());
    let mut config = ServerConfig::clone(&server.expect("a pair").0);
    // Some 50 KiB. (Where tickets lie across records, rustls takes no more than 64 KiB of them.)
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
    let stream = std::net::TcpStream::connect(address).expect("a connection");
    stream.set_nonblocking(true).expect("it can be set");
    let client = ClientTls::new("localhost", Some(&authorities)).expect("a client");
    let mut client = client.begin(TcpStream::from_std(stream)).expect("a session");
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
