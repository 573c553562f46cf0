//! What the other side can make TLS do over a real socket, and the words for errors.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use explain::Other;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ServerConfig, ServerConnection};

use super::*;

/// A socket that counts its reads.
struct Counted {
    stream: TcpStream,
    reads: usize,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        self.stream.read(into)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client of a service that makes so many tickets and then sends these records; its thread ends, with the socket
/// open, once all of them are in the kernel.
fn client_of(tickets: usize, records: &[Vec<u8>]) -> (TlsStream<Counted>, JoinHandle<TcpStream>) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let authorities = Authorities::from_pem(pair.cert.pem().as_bytes()).expect("a certificate");
    let server = ServerTls::new(&pair.cert.pem(), &pair.signing_key.serialize_pem(), None, &[]);
    let mut config = ServerConfig::clone(&server.expect("a pair").config);
    config.send_tls13_tickets = tickets;

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let records = records.to_vec();
    let service = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut session = ServerConnection::new(Arc::new(config)).expect("a session");
        session.set_buffer_limit(None);
        while session.is_handshaking() || session.wants_write() {
            session.complete_io(&mut stream).expect("a handshake");
        }
        for record in records {
            session.writer().write_all(&record).expect("there is no limit");
        }
        while session.wants_write() {
            session.write_tls(&mut stream).expect("it is connected");
        }
        stream
    });
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nonblocking(true).expect("it can be set");
    let stream = Counted { stream, reads: 0 };
    let client = ClientTls::new("localhost", Some(&authorities), &[], Remedies::default());
    let mut client = client.expect("a client").begin(stream).expect("a session");
    while client.is_handshaking() {
        client.flush().expect("it is connected");
        match client.advance() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            advanced => advanced.expect("a handshake"),
        }
    }
    client.flush().expect("it is connected");
    (client, service)
}

/// All the data that was sent is in the kernel when it is read.
#[test]
fn a_read_ends_although_records_without_plaintext_continue() {
    for size in [1024, 64 * 1024] {
        // Some 50 KiB. (If tickets extend over several records, rustls accepts at most 64 KiB of them.)
        let (mut client, service) = client_of(600, &[]);
        let _open = service.join().expect("it has sent all");
        let mut into = vec![0; size];
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
}

/// rustls by itself reads 4 KiB at a time.
#[test]
fn an_answer_of_up_to_sixteen_kib_takes_one_read_of_the_socket() {
    for size in [1, 7_000, 16_000] {
        let (mut client, service) = client_of(0, &[vec![b'x'; size]]);
        let _open = service.join().expect("it has sent all");
        let mut into = vec![0; 64 * 1024];
        client.stream().reads = 0;
        assert_eq!(client.read(&mut into).expect("an answer"), size);
        assert_eq!((client.stream().reads, client.input_drained()), (1, true), "{size} bytes");
        assert!(into[..size].iter().all(|byte| *byte == b'x') && client.is_between_records());
        let nothing = client.read(&mut into).expect_err("there is no more");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    }
}

/// Each byte has its place: records of every length, read with room for much and for little.
#[test]
fn records_arrive_whole_and_in_order_however_they_are_read() {
    let records: Vec<Vec<u8>> = (0..200usize)
        .map(|n| (0..(n * 97) % 16_384 + 1).map(|at| (n + at) as u8).collect())
        .collect();
    let all = records.concat();
    for size in [1_000, 5_000, 20_000, 64 * 1024] {
        let (mut client, service) = client_of(0, &records);
        let (mut into, mut seen) = (vec![0; size], Vec::new());
        while seen.len() < all.len() {
            match client.read(&mut into) {
                Ok(count) => seen.extend_from_slice(&into[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        let _open = service.join().expect("it has sent all");
        assert!(seen == all, "with room for {size}");
        assert!(client.is_between_records());
    }
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
