//! Claim: a reload puts certificates, keys, authorities and lists of revoked certificates in force, and nothing else is
//! touched: a running herd goes from plain text to TLS in three reloads, and to other authorities in two, without losing
//! a client; whom the new files do not cover is disconnected; and a file that can't be used changes nothing.

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;

use common::certificates::{By, Certificates, Issue};
use common::certified_client::CertifiedClient;
use common::{Client, Herd, LIMIT, ServerProcess, Setup, http, wait_until};

const NAMES: [&str; 3] = ["Goloman", "Hands", "Holiday"];

/// Three servers, each linked with the others, and a folder with their certificates.
struct Three {
    setup: Setup,
    /// Where the configuration's files are: `NAME.pem`, `NAME.key`, `herd-ca.pem`, `clients-ca.pem`, lists.
    files: tempfile::TempDir,
    servers: Vec<ServerProcess>,
}

impl Three {
    fn start(sections: impl Fn(&Three) -> String) -> Three {
        let shape: [(&str, &[&str]); 3] =
            [("Goloman", &["Hands", "Holiday"]), ("Hands", &["Holiday"]), ("Holiday", &[])];
        // Long enough that no link is silent for three of them because the machine is busy.
        let setup = Setup::new(&shape).heartbeat("3s");
        let files = tempfile::tempdir().expect("a folder");
        let mut three = Three { setup, files, servers: Vec::new() };
        let made = Certificates::new(&NAMES);
        three.take(&made, &[]);
        let text = sections(&three);
        three.setup = std::mem::replace(&mut three.setup, Setup::alone()).section(&text);
        let start = |name: &&str| three.setup.start_with(name, &["--admin", "127.0.0.1:0"]);
        three.servers = NAMES.iter().map(start).collect();
        three.wait_for_links();
        three
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Copies files of certificates; all if none is named.
    fn take(&self, made: &Certificates, names: &[&str]) {
        for entry in std::fs::read_dir(made.folder()).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            if names.is_empty() || names.iter().any(|one| name.to_str() == Some(one)) {
                std::fs::copy(
                    made.path(name.to_str().expect("text")),
                    self.path(name.to_str().expect("text")),
                )
                .expect("it can be copied");
            }
        }
    }

    /// `[tls]` with its files.
    fn tls(&self, clients: &str, neighbours: &str) -> String {
        let file = |name: &str| format!("{:?}", self.path(name).display().to_string());
        format!(
            "[tls]\ncertificate = {}\nkey = {}\n[tls.clients]\nca = {}\n{clients}\n[tls.neighbours]\nca = {}\n{neighbours}",
            file("{name}.pem"),
            file("{name}.key"),
            file("clients-ca.pem"),
            file("herd-ca.pem"),
        )
    }

    /// Reloads all servers with these sections; returns what the log of each says of it.
    fn reload(&self, sections: &str) -> Vec<String> {
        let all = 0..self.servers.len();
        all.map(|number| self.reload_one(number, Some(sections))).collect()
    }

    /// Reloads one server, with other sections if they are given.
    fn reload_one(&self, number: usize, sections: Option<&str>) -> String {
        let server = &self.servers[number];
        if let Some(sections) = sections {
            let path = self.setup.config_file(&server.name);
            let text = self.setup.toml(&server.name);
            // Behind the sections of the start, which these replace.
            let begin = text.find("[tls]").unwrap_or(text.len());
            std::fs::write(path, format!("{}{sections}\n", &text[..begin])).expect("a file");
        }
        let before = server.log().len();
        server.signal(Signal::HUP);
        let mut news = String::new();
        wait_until(LIMIT, &format!("{} reloads", server.name), || {
            news = server.log()[before..].to_owned();
            match news.rsplit_once("configuration reloaded: ") {
                None => news.contains("configuration not reloaded") && news.ends_with('\n'),
                Some((_, rest)) => {
                    let count = rest.split(' ').next().and_then(|count| count.parse().ok());
                    rest.matches(" - INFO: ").count() >= count.unwrap_or(0) && rest.ends_with('\n')
                }
            }
        });
        news
    }

    fn metric(&self, number: usize, name: &str) -> i64 {
        let metrics = http::get(self.servers[number].admin(), "/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        let value = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        value.parse().unwrap_or_else(|_| panic!("{name} {value}"))
    }

    /// Waits until each server has a link from and to each other one.
    fn wait_for_links(&self) {
        for (number, own) in NAMES.iter().enumerate() {
            for (place, name) in NAMES.iter().enumerate() {
                for direction in ["in", "out"] {
                    let metric =
                        format!("herd_link_up{{neighbour=\"{name}\",direction=\"{direction}\"}}");
                    if place != number {
                        wait_until(LIMIT, &format!("{own} {metric}"), || {
                            self.metric(number, &metric) == 1
                        });
                    }
                }
            }
        }
    }

    /// How many links are dialled, accepted with this transport.
    fn links(&self, number: usize, transport: &str) -> (i64, i64) {
        let of = |kind: &str| {
            let name = format!("herd_connections{{kind=\"{kind}\",transport=\"{transport}\"}}");
            self.metric(number, &name)
        };
        (of("link_out"), of("link_in"))
    }

    /// How many links of all servers came up since their start.
    fn connected(&self) -> i64 {
        let mut sum = 0;
        for (number, own) in NAMES.iter().enumerate() {
            for neighbour in NAMES.iter().filter(|name| *name != own) {
                let labels =
                    format!("neighbour=\"{neighbour}\",direction=\"out\",reason=\"connected\"");
                sum += self.metric(number, &format!("herd_link_transitions_total{{{labels}}}"));
            }
        }
        sum
    }

    /// What one server is told reaches the others.
    fn assert_floods(&self, id: &str, ask: impl Fn(usize, &str) -> String) {
        assert_eq!(ask(0, &format!("IAMAT {id} +1.0+2.0 10")), format!("AT AT {id} +1.0+2.0 10"));
        for number in 1..NAMES.len() {
            wait_until(LIMIT, "the update arrives", || {
                ask(number, &format!("WHATSAT {id} 0 0")).starts_with("AT AT ")
            });
        }
    }

    fn plain(&self, number: usize) -> Client {
        self.servers[number].client()
    }

    fn secure(&self, number: usize) -> CertifiedClient {
        let authorities = std::fs::read_to_string(self.path("herd-ca.pem")).expect("a file");
        CertifiedClient::trusting(self.servers[number].clients, &authorities, None)
    }
}

/// A client that writes without a pause and reads every answer, until it is told to end.
struct Writer {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Writer {
    fn start(number: usize, mut ask: impl FnMut(&str) -> String + Send + 'static) -> Writer {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut count = 0;
            while !told.load(Ordering::SeqCst) {
                count += 1;
                let line = format!("writer{number} +1.0+2.0 {count}");
                assert_eq!(ask(&format!("IAMAT {line}")), format!("AT AT {line}"));
                thread::sleep(Duration::from_millis(1)); // The machine is for the servers, too.
            }
            count
        });
        Writer { ends, thread }
    }

    /// Ends it; it fails if a line of it was not answered.
    fn end(self) {
        self.ends.store(true, Ordering::SeqCst);
        assert!(self.thread.join().expect("every line is answered") > 0);
    }
}

#[test]
fn a_running_herd_goes_from_plain_text_to_tls_in_three_reloads() {
    let three = Three::start(|_| String::new());
    let writers: Vec<Writer> = (0..NAMES.len())
        .map(|number| {
            let mut client = three.plain(number);
            Writer::start(number, move |line| client.ask(line))
        })
        .collect();
    let links = three.connected();

    for news in three.reload(&three.tls("accept = \"both\"", "accept = \"both\"\ndial = \"plain\""))
    {
        assert!(news.contains("tls.neighbours.accept: plain -> both"), "{news}");
        assert!(!news.contains("Link to") && !news.contains("link to"), "{news}");
    }
    assert_eq!(three.connected(), links, "no link was dialled again");
    assert_eq!(three.secure(1).ask("IAMAT kiwi +1.0+2.0 10"), "AT AT kiwi +1.0+2.0 10");

    three.reload(&three.tls("accept = \"both\"", "accept = \"both\"\ndial = \"tls\""));
    for number in 0..NAMES.len() {
        wait_until(LIMIT, "all links are TLS", || three.links(number, "tls") == (2, 2));
    }
    three.wait_for_links();
    assert_eq!(three.connected(), 2 * links, "each link was dialled again, once");
    three.assert_floods("pear", |number, line| three.plain(number).ask(line));
    writers.into_iter().for_each(Writer::end);

    let mut plain: Vec<Client> = (0..NAMES.len()).map(|number| three.plain(number)).collect();
    let mut secure: Vec<CertifiedClient> =
        (0..NAMES.len()).map(|number| three.secure(number)).collect();
    secure.iter_mut().for_each(|client| drop(client.ask("IAMAT plum +1.0+2.0 10")));
    three.reload(&three.tls("accept = \"tls\"", "accept = \"tls\"\ndial = \"tls\""));
    for client in &mut plain {
        assert!(client.is_closed_within(LIMIT), "plain text is no longer accepted");
    }
    for client in &mut secure {
        assert_eq!(client.ask("IAMAT plum +1.0+2.0 11"), "AT AT plum +1.0+2.0 11");
    }
    assert_eq!(three.connected(), 2 * links, "no link was dialled again");
    three.assert_floods("fig", |number, line| three.secure(number).ask(line));
    for server in &three.servers {
        assert!(!server.log().contains("can't be reached"), "{}", server.name);
    }
}

#[test]
fn all_certificates_are_replaced_by_those_of_another_authority_without_losing_a_link_or_a_client() {
    let of = |three: &Three| three.tls("certificates = \"required\"", "");
    let (old, new) = (Certificates::new(&NAMES), Certificates::new(&NAMES));
    let three = Three::start(|three| {
        three.take(&old, &[]);
        of(three)
    });
    let sections = of(&three);
    old.client(b"kiwi");
    new.client(b"pear");
    let client = |number: usize, made: &Certificates, id: &str, ca: &Certificates| {
        let address = three.servers[number].clients;
        CertifiedClient::trusting(address, &ca.read("herd-ca.pem"), Some((made, id)))
    };
    let mut writers = Vec::new();
    for number in 0..NAMES.len() {
        let mut client = client(number, &old, "kiwi", &old);
        writers.push(Writer::start(number, move |line| client.ask(line)));
    }
    let mut olds: Vec<CertifiedClient> =
        (0..NAMES.len()).map(|number| client(number, &old, "kiwi", &old)).collect();
    olds.iter_mut().for_each(|client| drop(client.ask("IAMAT kiwi +1.0+2.0 10")));
    let links = three.connected();

    // Both authorities, then the new certificates.
    for ca in ["herd-ca.pem", "clients-ca.pem"] {
        std::fs::write(three.path(ca), old.read(ca) + &new.read(ca)).expect("a file");
    }
    for news in three.reload(&sections) {
        assert!(news.contains("2 changes") && news.contains("tls neighbours ca changed"), "{news}");
    }
    let files: Vec<String> =
        NAMES.iter().flat_map(|name| [format!("{name}.pem"), format!("{name}.key")]).collect();
    three.take(&new, &files.iter().map(String::as_str).collect::<Vec<_>>());
    for news in three.reload(&sections) {
        assert!(news.contains("tls certificate changed (valid until 20"), "{news}");
        assert!(news.contains("tls key changed") && !news.contains("PRIVATE"), "{news}");
    }
    let mut news: Vec<CertifiedClient> =
        (0..NAMES.len()).map(|number| client(number, &new, "pear", &new)).collect();
    for one in news.iter_mut().chain(&mut olds) {
        assert_eq!(one.ask("IAMAT kiwi +1.0+2.0 11"), "AT AT kiwi +1.0+2.0 11");
    }
    writers.into_iter().for_each(Writer::end);
    assert_eq!(three.connected(), links, "no link went down");

    // Whom the old authority alone covers is disconnected: the links, whose handshakes were with the old certificates, and
    // the old clients.
    for ca in ["herd-ca.pem", "clients-ca.pem"] {
        std::fs::write(three.path(ca), new.read(ca)).expect("a file");
    }
    three.reload(&sections);
    for client in &mut olds {
        assert!(client.is_closed_within(LIMIT), "its authority is gone");
    }
    for client in &mut news {
        assert_eq!(client.ask("IAMAT kiwi +1.0+2.0 12"), "AT AT kiwi +1.0+2.0 12");
    }
    three.wait_for_links();
    assert!(three.connected() > links, "the links were dialled again");
    for server in &three.servers {
        server.wait_for_log("[tls.clients] ca");
    }
    three.assert_floods("fig", |number, line| client(number, &new, "pear", &new).ask(line));
}

#[test]
fn a_client_and_a_server_that_are_revoked_are_disconnected() {
    let made = Certificates::new(&NAMES);
    made.client(b"kiwi");
    made.client(b"pear");
    let of = |three: &Three, crl: bool| {
        let list = |name: &str| match crl {
            true => format!("crl = {:?}\n", three.path(name).display().to_string()),
            false => String::new(),
        };
        let clients = format!("certificates = \"required\"\n{}", list("clients.crl"));
        three.tls(&clients, &list("herd.crl"))
    };
    let three = Three::start(|three| {
        three.take(&made, &[]);
        of(three, false)
    });
    let client = |id| CertifiedClient::connect(three.servers[0].clients, &made, Some(id));
    let (mut kiwi, mut pear) = (client("kiwi"), client("pear"));
    kiwi.ask("IAMAT kiwi +1.0+2.0 10");
    pear.ask("IAMAT pear +1.0+2.0 10");
    made.revoke(By::Clients, &["kiwi.pem"], 30);
    made.revoke(By::Herd, &["Holiday.pem"], 30);
    three.take(&made, &["clients.crl", "herd.crl"]);
    three.reload_one(0, Some(&of(&three, true)));
    assert!(kiwi.is_closed_within(LIMIT), "it is revoked");
    assert_eq!(pear.ask("IAMAT pear +1.0+2.0 11"), "AT AT pear +1.0+2.0 11");
    let up = |name: &str, direction: &str| {
        three.metric(0, &format!("herd_link_up{{neighbour=\"{name}\",direction=\"{direction}\"}}"))
    };
    for direction in ["in", "out"] {
        wait_until(LIMIT, "no link with Holiday", || up("Holiday", direction) == 0);
        assert_eq!(up("Hands", direction), 1);
    }
    three.servers[0].wait_for_log("revoked");
    // The list is exchanged under its path: nobody is revoked any more.
    made.revoke(By::Herd, &[], 30);
    three.take(&made, &["herd.crl"]);
    let news = three.reload_one(0, None);
    assert!(
        news.contains("1 change\n") && news.contains("tls neighbours crl changed (next update 20"),
        "{news}"
    );
    three.wait_for_links();
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_is_named() {
    let made = Certificates::new(&NAMES);
    let of = |three: &Three| three.tls("accept = \"both\"", "");
    let three = Three::start(|three| {
        three.take(&made, &[]);
        of(three)
    });
    let mut client = three.secure(0);
    client.ask("IAMAT kiwi +1.0+2.0 1");
    let links = three.connected();
    let write = |name: &str, text: &str| std::fs::write(three.path(name), text).expect("a file");
    let expired = Certificates::new(&[]);
    expired.issue("Goloman", Issue { days: -1, ..Issue::server("Goloman") });
    type Case<'a> = (&'a str, &'a str, Box<dyn Fn() + 'a>);
    let cases: [Case<'_>; 6] = [
        ("Goloman.pem", "key", Box::new(|| three.take(&made, &["Goloman.pem"]))),
        (
            "Goloman.pem",
            "there is no certificate in it",
            Box::new(|| write("Goloman.pem", "nothing")),
        ),
        (
            "Goloman.key",
            "[tls] key: No such file or directory",
            Box::new(|| {
                std::fs::remove_file(three.path("Goloman.key")).expect("it is there");
            }),
        ),
        (
            "Goloman.pem",
            "it has expired",
            Box::new(|| three.take(&expired, &["Goloman.pem", "Goloman.key"])),
        ),
        ("herd-ca.pem", "[tls.neighbours] ca", Box::new(|| write("herd-ca.pem", ""))),
        (
            "clients-ca.pem",
            "[tls.clients] ca: not a regular file",
            Box::new(|| {
                std::fs::remove_file(three.path("clients-ca.pem")).expect("it is there");
                std::fs::create_dir(three.path("clients-ca.pem")).expect("a folder");
            }),
        ),
    ];
    for (number, (file, reason, breaks)) in cases.iter().enumerate() {
        if number == 0 {
            write("Goloman.key", &made.read("Hands.key"));
        } else {
            breaks();
        }
        let news = three.reload_one(0, None);
        let path = three.path(file).display().to_string();
        let failed = news.lines().filter(|line| line.contains(" - ERROR: ")).collect::<Vec<_>>();
        assert_eq!(failed.len(), 1, "{news}");
        let is_named = failed[0].contains("nothing has changed") && failed[0].contains(&path);
        assert!(is_named && failed[0].contains(reason), "{reason}: {news}");
        assert_eq!(three.metric(0, "herd_config_last_reload_successful"), 0);
        let line = format!("kiwi +1.0+2.0 {}", number + 2);
        assert_eq!(client.ask(&format!("IAMAT {line}")), format!("AT AT {line}"));
        // Old behaviour for new clients, too.
        let mut another = CertifiedClient::connect(three.servers[0].clients, &made, None);
        assert_eq!(another.ask(&format!("IAMAT {line}")), format!("AT AT {line}"));
        if three.path("clients-ca.pem").is_dir() {
            std::fs::remove_dir(three.path("clients-ca.pem")).expect("it is empty");
        }
        three.take(&made, &[]);
        let news = three.reload_one(0, None);
        assert!(news.contains("configuration reloaded: no changes"), "{news}");
        assert_eq!(three.metric(0, "herd_config_last_reload_successful"), 1);
    }
    assert_eq!(three.connected(), links);
    three.assert_floods("fig", |number, line| three.plain(number).ask(line));
}

#[test]
fn a_certificate_that_was_exchanged_under_its_path_is_noticed_by_the_watch() {
    let made = Certificates::new(&["Goloman"]);
    let file = |name: &str| format!("{:?}", made.path(name).display().to_string());
    let setup = Setup::alone().section(&format!(
        "[tls]\ncertificate = {}\nkey = {}\n[tls.neighbours]\nca = {}\n[reload]\nwatch = \"50ms\"",
        file("Goloman.pem"),
        file("Goloman.key"),
        file("herd-ca.pem")
    ));
    let server = setup.start("Goloman");
    made.issue("Goloman", Issue::server("Goloman"));
    server.wait_for_log("tls certificate changed (valid until 20");
    server.wait_for_log("configuration reloaded: 2 changes");
    let mut client = CertifiedClient::connect(server.clients, &made, None);
    client.ask("IAMAT kiwi +1.0+2.0 1");
    // Files that a reload has brought are watched from then on.
    made.issue("another", Issue::server("Goloman"));
    let path = setup.folder.path().join("Goloman.toml");
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(
        &path,
        text.replace("Goloman.pem", "another.pem").replace("Goloman.key", "another.key"),
    )
    .expect("a file");
    let count = |text: &str| server.log().matches(text).count();
    wait_until(LIMIT, "the other files are in force", || {
        count("tls certificate changed") == 2 && count("tls.key: ") == 1
    });
    made.issue("another", Issue::server("Goloman"));
    wait_until(LIMIT, "they are watched", || count("tls certificate changed") == 3);
    // Nobody looks at what is not used any more, and a version is read once.
    let reloads = count("configuration reloaded");
    made.issue("Goloman", Issue::server("Goloman"));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count("configuration reloaded"), reloads);
}

#[test]
fn a_herd_reads_its_certificates_again_although_its_configuration_is_the_same() {
    let made = Certificates::new(&["Goloman", "Hands"]);
    let (tls, ca) = (made.section(), made.path("herd-ca.pem"));
    let setup = Herd::small_setup().section(&format!("{tls}[tls.neighbours]\nca = {ca:?}"));
    let command = Herd::command(&setup);
    let herd = Herd::spawn(setup, command);
    let log = |name: &str| std::fs::read_to_string(herd.setup.log_file(name)).unwrap_or_default();
    for name in ["Goloman", "Hands"] {
        wait_until(LIMIT, "the herd is linked", || log(name).contains(" is up"));
    }
    made.issue("Hands", Issue::server("Hands"));
    herd.signal(Signal::HUP);
    herd.wait_until_said("certificates were read again");
    wait_until(LIMIT, "Hands has it", || log("Hands").contains("tls certificate changed"));
    wait_until(LIMIT, "Goloman has reloaded", || {
        log("Goloman").contains("configuration reloaded: no changes")
    });
    // A server's broken file keeps the whole herd as it was.
    made.write("Goloman.pem", "nothing");
    made.issue("Hands", Issue::server("Hands"));
    herd.signal(Signal::HUP);
    herd.wait_until_said("configuration not reloaded: can't use ");
    for name in ["Goloman", "Hands"] {
        wait_until(LIMIT, "it says so", || log(name).contains("Goloman.pem: [tls] certificate"));
    }
    assert_eq!(log("Hands").matches("tls certificate changed").count(), 1);
}
