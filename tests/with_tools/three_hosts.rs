//! One herd from its first line in plain text to its end: on three hosts, clients write all the time, and each update that
//! was answered is found at each server that runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::common::hosts::{HostProcess, Hosts};
use crate::common::needs::Outcome;
use crate::common::{Client, LIMIT, Setup, wait_until};
use crate::page::Browser;

/// Each reload is awaited at all three servers before the next one.
pub fn a_herd_moves_to_mutual_tls_while_clients_write_changes_its_authority_and_drains_without_a_lost_answer()
-> Outcome {
    let hosts = Hosts::new(3)?;
    let mut herd = SecuredHerd::start(&hosts);
    let clients = Clients::start(&hosts, &herd);
    clients.all_write_on();
    herd.is_found(&clients, &[0, 1, 2]);

    herd.reload(Settings { neighbours: "accept = \"both\"\ndial = \"plain\"", ..Settings::FIRST });
    let lost = herd.lost_links();
    assert_eq!(lost, [0; 3], "to accept both costs no link");
    clients.begin_tls();
    herd.has_clients_by_tls();
    herd.reload(Settings { neighbours: "accept = \"both\"\ndial = \"tls\"", ..Settings::FIRST });
    herd.links_are("tls", [1, 2, 1]);
    let last = Settings { neighbours: "accept = \"tls\"\ndial = \"tls\"", plain: "" };
    herd.reload(last);
    herd.links_are("tls", [1, 2, 1]);
    clients.all_write_on();
    herd.is_found(&clients, &[0, 1, 2]);

    // Another authority: both for a time, the new certificates, and then the new one alone.
    let lost = herd.lost_links();
    herd.trust(&["first", "second"]);
    herd.reload(last);
    herd.show_certificates_of("second");
    herd.reload(last);
    clients.all_write_on();
    assert_eq!(herd.lost_links(), lost, "an exchange of certificates costs no link");
    herd.trust(&["second"]);
    herd.reload(last);
    herd.links_are("tls", [1, 2, 1]);
    clients.all_write_on();
    herd.is_found(&clients, &[0, 1, 2]);
    herd.is_shown_on_the_page(1, &["H1", "H3"])?;

    // One server after the other drains; its clients go on with another one.
    for number in [2, 1] {
        herd.drains(number);
        clients.all_write_on();
        let left: Vec<usize> = (0..number).collect();
        herd.is_found(&clients, &left);
    }
    clients.end();
    herd.is_found(&clients, &[0]);
    herd.drains(0);
    Ok(())
}

/// The three servers, in a line, and the files that they read.
struct SecuredHerd<'a> {
    hosts: &'a Hosts,
    setup: Setup,
    servers: Vec<Option<HostProcess>>,
}

/// What differs from reload to reload.
#[derive(Clone, Copy)]
struct Settings {
    /// In `[tls.neighbours]`.
    neighbours: &'static str,
    /// In `allow_plaintext`.
    plain: &'static str,
}

impl Settings {
    const FIRST: Settings =
        Settings { neighbours: "accept = \"plain\"\ndial = \"plain\"", plain: "\"neighbours\"" };
}

impl<'a> SecuredHerd<'a> {
    fn start(hosts: &'a Hosts) -> SecuredHerd<'a> {
        let setup = Setup::alone(); // For its folder.
        let mut herd = SecuredHerd { hosts, setup, servers: Vec::new() };
        herd.write(Settings::FIRST);
        for authority in ["first", "second"] {
            herd.make_certificates(authority);
        }
        fs::create_dir(herd.path("tls")).expect("a folder");
        herd.trust(&["first"]);
        herd.show_certificates_of("first");
        let path = herd.path("hosts.toml");
        for number in 0..3 {
            herd.servers.push(Some(hosts.start(&herd.setup, number, &path)));
        }
        herd.links_are("plain", [1, 2, 1]);
        herd
    }

    fn path(&self, name: &str) -> String {
        self.setup.folder.path().join(name).to_str().expect("text").to_owned()
    }

    fn write(&self, Settings { neighbours, plain }: Settings) {
        let server = |number: usize, neighbours: &str| {
            format!(
                "[[server]]\nname = \"H{number}\"\nlisten = \"10.77.0.{number}:4000\"\n\
                 peer_listen = \"10.77.0.{number}:14000\"\nadmin_listen = \"127.0.0.1:3213{number}\"\n\
                 neighbours = [{neighbours}]\n"
            )
        };
        let servers = [server(1, "\"H2\""), server(2, "\"H3\""), server(3, "")].concat();
        let text = format!(
            "{servers}[link]\nheartbeat = \"1s\"\n[security]\nallow_plaintext = [{plain}]\n\
             [stop]\ndrain_delay = \"1s\"\ndrain_duration = \"5s\"\n\
             [tls]\ncertificate = \"tls/{{name}}.pem\"\nkey = \"tls/{{name}}.key\"\n\
             [tls.clients]\naccept = \"both\"\n\
             [tls.neighbours]\nca = \"tls/herd-ca.pem\"\n{neighbours}\n"
        );
        let new = self.path("new.toml");
        fs::write(&new, text).expect("a file");
        fs::rename(new, self.path("hosts.toml")).expect("a file");
    }

    /// As an operator would.
    fn make_certificates(&self, authority: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--make-certificates", &self.path(authority)]);
        let status = command.args(["--config", &self.path("hosts.toml")]).stdout(Stdio::null());
        assert!(status.status().expect("it runs").success());
    }

    fn trust(&self, authorities: &[&str]) {
        let read = |one: &&str| fs::read_to_string(self.path(&format!("{one}/herd-ca.pem")));
        let all: Vec<String> = authorities.iter().map(|one| read(one).expect("a file")).collect();
        fs::write(self.path("tls/herd-ca.pem"), all.concat()).expect("a file");
    }

    fn show_certificates_of(&self, authority: &str) {
        for name in ["H1", "H2", "H3"] {
            for ending in ["pem", "key"] {
                let (from, to) =
                    (format!("{authority}/{name}.{ending}"), format!("tls/{name}.{ending}"));
                fs::copy(self.path(&from), self.path(&to)).expect("a file");
            }
        }
    }

    /// Waits until all have reloaded.
    fn reload(&self, settings: Settings) {
        self.write(settings);
        let count = |server: &HostProcess| server.log().matches("configuration reloaded").count();
        let before: Vec<usize> = self.running().map(count).collect();
        self.running().for_each(|server| server.signal(Signal::HUP));
        for (server, before) in self.running().zip(before) {
            wait_until(LIMIT, "the server has reloaded", || count(server) > before);
        }
    }

    fn running(&self) -> impl Iterator<Item = &HostProcess> {
        self.servers.iter().flatten()
    }

    fn lost_links(&self) -> Vec<usize> {
        let lost = |server: &HostProcess| {
            server
                .log()
                .lines()
                .filter(|line| line.contains("Link to") && line.contains("lost"))
                .count()
        };
        self.running().map(lost).collect()
    }

    /// Waits until each server's links are up in both directions, over this transport.
    fn links_are(&self, transport: &str, counts: [usize; 3]) {
        for (number, count) in counts.into_iter().enumerate() {
            wait_until(
                LIMIT,
                &format!("the links of H{} are up by {transport}", number + 1),
                || {
                    let linksz = self.get(number, "/linksz");
                    let links: serde_json::Value =
                        serde_json::from_str(&linksz).unwrap_or_default();
                    let all = links["links"].as_array().cloned().unwrap_or_default();
                    let is_up = |link: &&serde_json::Value| {
                        ["in", "out"].iter().all(|direction| {
                            link[direction]["state"] == "up"
                                && link[direction]["transport"] == transport
                        })
                    };
                    all.iter().filter(is_up).count() == count
                },
            );
        }
    }

    /// Waits until H2 and H3 have clients that speak TLS.
    fn has_clients_by_tls(&self) {
        for number in [1, 2] {
            wait_until(LIMIT, "a client speaks TLS", || {
                let connz = self.get(number, "/connz?kind=client");
                let connz: serde_json::Value = serde_json::from_str(&connz).unwrap_or_default();
                let all = connz["connections"].as_array().cloned().unwrap_or_default();
                all.iter().any(|one| one["transport"] == "tls")
            });
        }
    }

    fn admin(number: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 32131 + number as u16))
    }

    /// The body of an answer of the admin listener.
    fn get(&self, number: usize, path: &str) -> String {
        let admin = SecuredHerd::admin(number);
        self.hosts.within(number, || {
            let Ok(mut client) = Client::try_connect(admin) else { return String::new() };
            client.send(format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            ));
            let answer = String::from_utf8_lossy(&client.rest()).into_owned();
            answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
        })
    }

    /// Each answered update is known at each of these servers, or a newer one that was sent since.
    fn is_found(&self, clients: &Clients<'_>, numbers: &[usize]) {
        let told = clients.pause();
        assert!(!told.is_empty());
        for &number in numbers {
            let mut asks = self.hosts.client(number).expect("the server listens");
            for (id, Told { answered, sent }) in told.iter() {
                let what = format!("H{} knows {id} as of {answered} to {sent}", number + 1);
                wait_until(LIMIT, &what, || {
                    let first = asks.whatsat(id, "0", "0").first;
                    let time = first.rsplit(' ').next().and_then(|time| time.parse::<u64>().ok());
                    time.is_some_and(|time| (*answered..=*sent).contains(&time))
                });
            }
        }
    }

    /// A browser on that host shows the links to these neighbours as up, and the clients on the map.
    fn is_shown_on_the_page(&self, number: usize, neighbours: &[&str]) -> Outcome {
        // What it starts, runs on the host of its thread.
        let mut browser = self.hosts.within(number, Browser::start)?;
        browser.open(SecuredHerd::admin(number));
        for neighbour in neighbours {
            let row = format!("row.cells[0].textContent == '{neighbour}'");
            let is_up = "row.cells[1].textContent == 'up'";
            browser.wait(&format!(
                "[...document.querySelectorAll('#links-rows tr')].some(row => {row} && {is_up})"
            ));
        }
        browser.wait("document.getElementById('map-text').textContent.includes('3')");
        Ok(())
    }

    /// SIGUSR2: the server ends by itself, and well.
    fn drains(&mut self, number: usize) {
        let mut server = self.servers[number].take().expect("it runs");
        server.signal(Signal::USR2);
        assert!(server.wait().success(), "{}", server.log());
    }
}

/// A client of each host, which writes until the end, and goes on elsewhere if its server leaves.
struct Clients<'a> {
    shared: Arc<Shared>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    _hosts: &'a Hosts,
}

struct Shared {
    told: Mutex<BTreeMap<String, Told>>,
    is_over: AtomicBool,
    speaks_tls: AtomicBool,
    trusts: Arc<ClientConfig>,
}

/// The times of a client's updates.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    answered: u64,
    sent: u64,
}

impl<'a> Clients<'a> {
    fn start(hosts: &'a Hosts, herd: &SecuredHerd<'_>) -> Clients<'a> {
        let mut roots = RootCertStore::empty();
        for authority in ["first", "second"] {
            let ca = CertificateDer::from_pem_file(herd.path(&format!("{authority}/herd-ca.pem")));
            roots.add(ca.expect("a certificate")).expect("an authority");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusts = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let shared = Arc::new(Shared {
            told: Mutex::default(),
            is_over: AtomicBool::new(false),
            speaks_tls: AtomicBool::new(false),
            trusts: Arc::new(trusts),
        });
        let clients = (0..3).map(|number| {
            let (shared, host) = (Arc::clone(&shared), hosts.name(number).to_owned());
            thread::spawn(move || {
                Hosts::enter(&host);
                shared.write(number);
            })
        });
        Clients { threads: Mutex::new(clients.collect()), shared, _hosts: hosts }
    }

    /// From now on a client that connects speaks TLS, if it is not the first one.
    fn begin_tls(&self) {
        self.shared.speaks_tls.store(true, Ordering::SeqCst);
    }

    /// Nobody writes until the guard is dropped.
    fn pause(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.shared.told()
    }

    /// Waits until each client has been answered three times more.
    fn all_write_on(&self) {
        let answered = || {
            let told = self.shared.told();
            let of =
                |number: usize| told.get(&format!("client{number}")).map_or(0, |it| it.answered);
            [of(0), of(1), of(2)]
        };
        let before = answered();
        wait_until(LIMIT, "all clients are answered", || {
            answered().iter().zip(before).all(|(now, before)| *now >= before + 3)
        });
    }

    fn end(&self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.lock().expect("nobody panics with it").drain(..) {
            thread.join().expect("a client saw what it may not see");
        }
    }
}

impl Drop for Clients<'_> {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.told.lock().expect("nobody panics with it")
    }

    /// Writes until the end: to the server of this host first, and then to the next one that listens.
    fn write(&self, number: usize) {
        while !self.is_over.load(Ordering::SeqCst) {
            let places = [number, (number + 2) % 3, (number + 1) % 3];
            let addresses =
                places.map(|place| SocketAddr::from(([10, 77, 0, place as u8 + 1], 4000)));
            let connect = |address: SocketAddr| {
                let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
                Some((stream, address))
            };
            let Some((stream, address)) = addresses.into_iter().find_map(connect) else {
                continue;
            };
            stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            if number > 0 && self.speaks_tls.load(Ordering::SeqCst) {
                let name = ServerName::from(address.ip());
                let session = ClientConnection::new(Arc::clone(&self.trusts), name);
                let tls = StreamOwned::new(session.expect("a session"), stream);
                self.write_to(number, BufReader::new(tls));
            } else {
                self.write_to(number, BufReader::new(stream));
            }
        }
    }

    /// Until the server ends the connection, or the client changes to TLS.
    fn write_to<S: std::io::Read + Write>(&self, number: usize, mut stream: BufReader<S>) {
        let id = format!("client{number}");
        let speaks_tls = self.speaks_tls.load(Ordering::SeqCst);
        while !self.is_over.load(Ordering::SeqCst)
            && speaks_tls == self.speaks_tls.load(Ordering::SeqCst)
        {
            let time = {
                let mut told = self.told();
                let told = told.entry(id.clone()).or_default();
                told.sent = told.sent.max(told.answered) + 1;
                told.sent
            };
            let words = format!("{id} +1.0-2.0 {time}");
            let mut answer = String::new();
            let is_answered =
                stream.get_mut().write_all(format!("IAMAT {words}\n").as_bytes()).is_ok()
                    && stream.get_mut().flush().is_ok()
                    && stream.read_line(&mut answer).is_ok()
                    && !answer.is_empty();
            if !is_answered {
                return;
            }
            assert_eq!(answer, format!("AT AT {words}\n"));
            self.told().entry(id.clone()).or_default().answered = time;
            thread::sleep(Duration::from_millis(2)); // A client, not a load.
        }
    }
}
