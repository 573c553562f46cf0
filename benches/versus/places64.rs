//! 64 WHATSATs at once, each of which makes the server ask a service that answers after 20 ms, as one across a network
//! does. So nobody waits for a server, and what counts is the CPU that it takes for a request.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};

use crate::Failure;
use crate::cores::cpu_time;
use crate::figures::Figures;
use crate::load::histogram;
use crate::peers::{Running, Workshop};
use crate::places;

/// The servers that are compared, as figures name them.
pub const WAYS: [(&str, &str); 2] = [("ours", "herd-mio"), ("kept", "aiohttp, a session kept")];

/// Measures both in turns.
pub fn measure(
    workshop: &Workshop,
    time: Duration,
    rounds: usize,
    figures: &mut Figures,
) -> Result<(), Failure> {
    workshop.python_has("aiohttp")?;
    let (url, ca) = start_service(workshop)?;
    let servers =
        [places::ours(workshop, &url, &ca)?, places::aiohttp(workshop, &url, &ca, "kept")?];
    for round in 0..=rounds {
        for ((way, title), server) in WAYS.into_iter().zip(&servers) {
            let seen = ask(server, time)?;
            if round == 0 {
                continue; // Connections were opened, and caches filled.
            }
            eprintln!("places64 {title:28} {:9.0}/s {:7.1} us CPU", seen.rate, seen.cpu);
            let name = |what: &str| format!("places64/{way}/{what}");
            figures.add(name("cpu"), seen.cpu);
            figures.add(name("rate"), seen.rate);
            figures.add(name("p50"), seen.latency.value_at_quantile(0.5) as f64 / 1e3);
            figures.add(name("p99"), seen.latency.value_at_quantile(0.99) as f64 / 1e3);
        }
    }
    Ok(())
}

struct Seen {
    /// Requests a second.
    rate: f64,
    /// Microseconds of the server's CPU a request, in user space and kernel.
    cpu: f64,
    /// Nanoseconds.
    latency: Histogram<u64>,
}

/// All clients ask one request after the other, for so long.
fn ask(server: &Running, time: Duration) -> Result<Seen, Failure> {
    let (begin, end) = (Barrier::new(CLIENTS + 1), Barrier::new(CLIENTS + 1));
    let (address, begin, end) = (server.clients, &begin, &end);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    let client = Client::introduce(address, number);
                    begin.wait();
                    let seen = client.and_then(|mut client| client.ask_for(time));
                    end.wait();
                    seen
                })
            })
            .collect();
        begin.wait();
        let (before, since) = (cpu_time(server.id()), Instant::now());
        end.wait();
        let (cpu, took) = (cpu_time(server.id()) - before, since.elapsed());
        let mut latency = histogram();
        for client in clients {
            latency.add(client.join().map_err(|_| "a client panicked")??)?;
        }
        let requests = latency.len() as f64;
        let cpu = cpu.as_secs_f64() * 1e6 / requests;
        Ok(Seen { rate: requests / took.as_secs_f64(), cpu, latency })
    })
}

/// A client at a place of its own, so that no two share an answer.
struct Client {
    reader: BufReader<TcpStream>,
    question: String,
    /// The service repeats what it was asked.
    mark: String,
}

impl Client {
    fn introduce(server: SocketAddr, number: usize) -> io::Result<Client> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut reader = BufReader::new(stream);
        let iamat =
            format!("IAMAT client-{number} +34.{number:06}-118.445127 1559865055.918963997\n");
        reader.get_mut().write_all(iamat.as_bytes())?;
        reader.read_line(&mut String::new())?;
        let question = format!("WHATSAT client-{number} 10 5\n");
        Ok(Client { reader, question, mark: format!("34.{number:06}") })
    }

    fn ask_for(&mut self, time: Duration) -> io::Result<Histogram<u64>> {
        let (mut latency, begin) = (histogram(), Instant::now());
        let mut answer = String::new();
        while begin.elapsed() < time {
            let asked = Instant::now();
            self.reader.get_mut().write_all(self.question.as_bytes())?;
            answer.clear();
            while !answer.ends_with("\n\n") {
                if self.reader.read_line(&mut answer)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let names = answer.matches("\"name\"").count();
            if names != 5 || answer.matches(&self.mark).count() < 2 {
                return Err(io::Error::other(format!("a wrong answer: {answer}")));
            }
            latency.saturating_record(asked.elapsed().as_nanos() as u64);
        }
        Ok(latency)
    }
}

/// The service: a thread for each connection, on the load's core. Returns its address and the file of its certificate.
fn start_service(workshop: &Workshop) -> Result<(String, PathBuf), Failure> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
    let ca = workshop.scratch.path().join("places64-ca.pem");
    fs::write(&ca, certificate.pem())?;
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der())?,
        )?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // It lives as long as this process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                _ = stream.set_nodelay(true);
                let session = ServerConnection::new(config).map_err(io::Error::other)?;
                serve(&mut StreamOwned::new(session, stream))
            });
        }
    });
    Ok((format!("https://localhost:{port}/maps/api/place/nearbysearch/json"), ca))
}

/// One connection of the service, until its client ends it.
fn serve(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => request.extend_from_slice(&buffer[..count]),
            }
        }
        thread::sleep(AFTER);
        stream.write_all(&answer(&String::from_utf8_lossy(&request)))?;
        stream.flush()?;
    }
}

/// Twenty places in Google's form, some 7 KB, which repeat the location that was asked for.
fn answer(request: &str) -> Vec<u8> {
    let location = request.split("location=").nth(1).unwrap_or_default();
    let location = location.split(['&', ' ']).next().unwrap_or_default();
    let places: Vec<String> = (0..20)
        .map(|number| {
            format!(
                "      {{\n         \"geometry\" : {{\n            \"location\" : {{\n               \
                 \"lat\" : 34.{number:05},\n               \"lng\" : -118.{number:05}\n            }}\n         \
                 }},\n         \"name\" : \"Place {number} near {location}\",\n         \"place_id\" : \
                 \"geonames:53{number:05}\",\n         \"population\" : 1{number:04},\n         \"types\" : [ \
                 \"locality\", \"political\" ],\n         \"vicinity\" : \"US\"\n      }}"
            )
        })
        .collect();
    let body = format!(
        "{{\n   \"html_attributions\" : [],\n   \"results\" : [\n{}\n   ],\n   \"status\" : \"OK\"\n}}\n",
        places.join(",\n")
    );
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

const CLIENTS: usize = 64;
/// How long the service waits before it answers.
const AFTER: Duration = Duration::from_millis(20);
