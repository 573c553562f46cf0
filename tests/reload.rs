//! Claim: a server that gets SIGHUP puts its changed configuration in force, all of it or nothing, names each change in
//! its log, and touches nothing that has not changed: no client is closed, and no other link. (`supervised_reload.rs`
//! shows the same of a herd.)

mod common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use common::ports::reserve;
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};

/// Goloman, whose file the test replaces.
struct Served {
    setup: Setup,
    server: ServerProcess,
    /// How far its log was read.
    read: std::cell::Cell<u64>,
}

impl Served {
    fn start(setup: Setup) -> Served {
        Served::start_with(setup, &[])
    }

    fn start_with(setup: Setup, arguments: &[&str]) -> Served {
        let server = setup.start_with("Goloman", arguments);
        let served = Served { setup, server, read: Default::default() };
        served.news();
        served
    }

    fn file(&self) -> PathBuf {
        self.setup.folder.path().join("Goloman.toml")
    }

    /// The file as the setup has it now, with more in front.
    fn text(&self, top: &str) -> String {
        format!("{top}\n{}", self.setup.toml("Goloman"))
    }

    fn write(&self, text: &str) {
        // As editors do: another file takes its place.
        let new = self.file().with_extension("new");
        std::fs::write(&new, text).expect("the folder can be written");
        std::fs::rename(new, self.file()).expect("the file can be replaced");
    }

    /// What the log says since the last time.
    fn news(&self) -> String {
        let mut log = File::open(&self.server.log_file).expect("there is a log");
        log.seek(SeekFrom::Start(self.read.get())).expect("a file");
        let mut news = String::new();
        log.read_to_string(&mut news).expect("text");
        let whole = news.rfind('\n').map_or(0, |end| end + 1);
        news.truncate(whole);
        self.read.set(self.read.get() + whole as u64);
        news
    }

    /// What the log says up to the end of the next reload.
    fn next_end(&self) -> String {
        let (begin, mut news) = (Instant::now(), String::new());
        loop {
            news += &self.news();
            let ends = ["configuration reloaded: ", "configuration not reloaded"];
            if ends.iter().any(|end| news.contains(end)) {
                return news;
            }
            assert!(begin.elapsed() < LIMIT, "no reload: {news}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The same, with the records of the changes, which follow.
    fn next_reload(&self) -> String {
        let (begin, mut news) = (Instant::now(), self.next_end());
        while !has_its_changes(&news) {
            assert!(begin.elapsed() < LIMIT, "not all changes are recorded: {news}");
            std::thread::sleep(Duration::from_millis(1));
            news += &self.news();
        }
        news
    }

    /// Asks for a reload, and returns what the log says of it.
    fn reload(&self) -> String {
        self.news();
        self.server.signal(Signal::HUP);
        self.next_reload()
    }

    fn reload_text(&self, text: &str) -> String {
        self.write(text);
        self.reload()
    }

    /// Reloads with more in front of the file; the log must say all of this.
    fn reloads(&self, top: &str, said: &[&str]) -> String {
        let news = self.reload_text(&self.text(top));
        for record in said {
            assert!(news.contains(record), "{record:?} in {news}");
        }
        news
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.server.pid())).expect("it runs").count()
    }

    /// In KiB.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

fn tells(client: &mut Client, id: &str) {
    assert_eq!(client.ask(&format!("IAMAT {id} +1.0+2.0 10")), format!("AT AT {id} +1.0+2.0 10"));
}

/// Whether as many records follow the last reload as it says that it has changed.
fn has_its_changes(news: &str) -> bool {
    let Some((_, reload)) = news.rsplit_once("configuration reloaded: ") else {
        return true; // It was refused.
    };
    let changes = reload.split(' ').next().and_then(|count| count.parse().ok());
    reload.lines().skip(1).count() >= changes.unwrap_or(0) // "no changes"
}

#[test]
fn a_heartbeat_and_a_neighbour_change_while_clients_and_the_other_link_stay() {
    let mut served = Served::start(Setup::star(&["Hands"]));
    let hands = served.setup.start("Hands");
    served.server.wait_for_log("missed updates from Hands");
    let mut client = served.server.client();
    tells(&mut client, "before");

    served.setup.add("South", &["Goloman"]);
    served.reloads(
        "link.heartbeat = \"2s\"",
        &["configuration reloaded: 2 changes", "link.heartbeat: 5s -> 2s", "neighbour South added"],
    );
    let south = served.setup.start("South");
    served.server.wait_for_log("The link to South is up");
    served.server.wait_for_log("missed updates from South");
    tells(&mut client, "between");
    for server in [&hands, &south] {
        let mut other = server.client();
        wait_until(LIMIT, "both learn of it", || {
            other.ask("WHATSAT between 0 0") == "AT AT between +1.0+2.0 10"
        });
    }

    served.setup.remove("South");
    served.reloads("link.heartbeat = \"2s\"", &["1 change", "neighbour South removed"]);
    served.server.wait_for_log("The link to South is closed: it is no longer a neighbour.");
    // South goes on to dial, and is refused.
    served.server.wait_for_log(
        "WARNING: Refused on the neighbours' port: no neighbour has that name: HELLO herd/1 South ",
    );
    tells(&mut client, "after");
    let mut other = hands.client();
    wait_until(LIMIT, "Hands learns of it", || {
        other.ask("WHATSAT after 0 0") == "AT AT after +1.0+2.0 10"
    });
    assert_ne!(south.client().ask("WHATSAT after 0 0"), "AT AT after +1.0+2.0 10");
    for (log, once) in [
        (served.server.log(), "The link to Hands is up"),
        (served.server.log(), "Connected to Hands"),
        (hands.log(), "The link to Goloman is up"),
    ] {
        assert_eq!(log.matches(once).count(), 1, "{log}");
    }
    drop(served.setup);
}

#[test]
fn a_thousand_reloads_without_a_change_leave_nothing_behind() {
    let served = Served::start(Setup::alone());
    let mut client = served.server.client();
    let reload = |times| {
        for _ in 0..times {
            served.server.signal(Signal::HUP);
            let news = served.next_end();
            assert!(news.contains("configuration reloaded: no changes"), "{news}");
        }
    };
    reload(100);
    let (descriptors, memory) = (served.descriptors(), served.memory());
    reload(900);
    assert_eq!(served.descriptors(), descriptors);
    assert!(served.memory() <= memory + 2_048, "{} KiB after {memory}", served.memory());
    tells(&mut client, "kiwi");
}

#[test]
fn a_storm_of_signals_ends_with_the_file_that_was_written_last() {
    let served = Served::start(Setup::alone());
    let mut client = served.server.client();
    for number in 1..=200 {
        served.write(&served.text(&format!("link.heartbeat = \"{}ms\"", 1_000 + number)));
        served.server.signal(Signal::HUP);
    }
    served.server.wait_for_log(" -> 1200ms");
    let descriptors = served.descriptors();
    let news = served.reload();
    assert!(news.contains("no changes"), "{news}");
    assert_eq!(served.descriptors(), descriptors);
    tells(&mut client, "kiwi");
}

#[test]
fn listeners_move_and_connections_stay() {
    for loops in [1, 2] {
        let served = Served::start(Setup::star(&["Hands"]).top(&format!("loops = {loops}")));
        let hands = served.setup.start("Hands");
        served.server.wait_for_log("missed updates from Hands");
        let (old, old_peers) = (served.server.clients, served.server.peers);
        let mut clients: Vec<Client> = (0..8).map(|_| served.server.client()).collect();
        let (new, new_peers) = (reserve(), reserve());
        let moved = served
            .text("")
            .replace(&format!("\"{old}\""), &format!("\"{}\"", new.address()))
            .replace(&format!("\"{old_peers}\""), &format!("\"{}\"", new_peers.address()));
        let news = served.reload_text(&moved);
        let changes = [
            format!("listen: {old} -> {}", new.address()),
            format!("peer_listen: {old_peers} -> {}", new_peers.address()),
        ];
        assert!(changes.iter().all(|change| news.contains(change)), "{news}");
        clients.iter_mut().for_each(|client| tells(client, "kiwi"));
        for _ in 0..8 {
            tells(&mut Client::connect(new.address()), "plum");
        }
        for gone in [old, old_peers] {
            wait_until(LIMIT, "the old port is closed", || Client::try_connect(gone).is_err());
        }
        assert!(Client::try_connect(new_peers.address()).is_ok());
        let links = served.server.log().matches("The link to Hands is up").count();
        assert_eq!((links, hands.log().matches("The link to Goloman is up").count()), (1, 1));
    }
}

#[test]
fn a_listener_whose_old_one_is_in_the_way_moves_at_a_restart_only() {
    let setup = Setup::alone();
    let local = setup.clients_address("Goloman");
    let any = SocketAddr::from(([0, 0, 0, 0], local.port()));
    let served = Served::start(setup);
    let to_any =
        served.text("").replace(&format!("listen = \"{local}\""), &format!("listen = \"{any}\""));
    let news = served.reload_text(&to_any);
    assert!(news.contains("configuration reloaded: no changes"), "{news}");
    let warning = format!("WARNING: listen: {local} -> {any} takes effect after a restart");
    assert!(news.contains(&warning), "{news}");
    served.server.assert_serves();
    // It is said again, as long as it is so.
    assert!(served.reload().contains(&warning));
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_is_in_force() {
    let served = Served::start(Setup::alone());
    served.reloads(
        "max_clients = 500000\ndialect = \"course\"\nloops = 2\nlimits.line_bytes = 100",
        &[
            "configuration reloaded: 1 change\n",
            "limits.line_bytes: 4096 -> 100",
            "WARNING: max_clients: 1000000 -> 500000 takes effect after a restart",
            "WARNING: dialect: report -> course takes effect after a restart",
            "WARNING: loops: 1 -> 2 takes effect after a restart",
        ],
    );
    let mut client = served.server.client();
    tells(&mut client, "kiwi"); // In the report's dialect.
    served.reloads("limits.line_bytes = 100", &["configuration reloaded: no changes"]);
}

#[test]
fn a_reload_is_recorded_with_the_log_that_it_puts_in_force() {
    let served = Served::start(Setup::alone().top("log.level = \"warning\""));
    let more = served.text("").replace("\"warning\"", "\"info\"");
    let news = served.reload_text(&more);
    for record in ["configuration reloaded: 1 change\n", "log.level: warning -> info\n"] {
        assert!(news.contains(record), "{record:?} in {news}");
    }
    // The signal has reopened the file; the change itself need not.
    assert_eq!(news.matches("Log reopened.").count(), 1, "{news}");
}

#[test]
fn limits_change_for_open_connections_and_lower_ones_close_nobody() {
    let served = Served::start(Setup::alone());
    let mut clients: Vec<Client> = (0..10).map(|_| served.server.client()).collect();
    clients.iter_mut().for_each(|client| tells(client, "kiwi"));
    served.reloads(
        "limits.client_connections = 4\nlimits.line_bytes = 60",
        &["limits.client_connections: 10000 -> 4", "limits.line_bytes: 4096 -> 60"],
    );
    let mut late = served.server.client();
    late.expect_end(); // Nobody was silent for a minute, so there is no room.
    clients.iter_mut().for_each(|client| tells(client, "kiwi"));
    clients[0].send(format!("{}\n", "x".repeat(61)));
    assert!(clients[0].line().starts_with("? xxx"));
    clients[0].expect_end();
    served.reloads("", &["2 changes", "limits.line_bytes: 60 -> 4096"]);
    tells(&mut served.server.client(), "plum");
}

#[test]
fn a_broken_file_changes_nothing_and_is_named() {
    let served = Served::start(Setup::star(&["Hands"]));
    let hands = served.setup.play("Hands");
    let _link = hands.greet_empty("00000000000000bb");
    served.server.wait_for_log("The link to Hands is up");
    let mut client = served.server.client();
    tells(&mut client, "kiwi");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken_at = taken.local_addr().expect("a port");
    let good = served.text("");
    let own = served.setup.clients_address("Goloman");
    let file = served.file();
    let name = file.display().to_string();
    let changed = served.text("link.heartbeat = \"1s\"");
    let cases: Vec<(String, String)> = vec![
        (format!("{changed}\n[link\n"), format!("{name}:")),
        (format!("colour = 1\n{changed}"), format!("{name}:1:1: unknown key `colour`")),
        (format!("max_clients = 0\n{changed}"), format!("{name}:1:15: invalid `max_clients`: 0")),
        (
            changed.replace(&own.to_string(), &taken_at.to_string()),
            format!("{name}: can't listen for clients on {taken_at}: "),
        ),
        (
            changed.replace("\"Goloman\"", "\"Other\""),
            format!("{name}: no server named \"Goloman\""),
        ),
        (format!("{changed}\u{fffd}").replace('\u{fffd}', "\u{1}"), format!("{name}:")),
    ];
    let descriptors = served.descriptors();
    let mut check = |news: String, reason: &str| {
        let errors: Vec<&str> = news.lines().filter(|line| line.contains("ERROR")).collect();
        let [error] = errors[..] else {
            panic!("one ERROR: {news}");
        };
        let said = format!("configuration not reloaded, nothing has changed: {reason}");
        assert!(error.contains(&said), "{said:?} in {error}");
        tells(&mut client, "kiwi");
        served.server.assert_serves();
    };
    for (text, reason) in cases {
        check(served.reload_text(&text), &reason);
    }
    std::fs::remove_file(&file).expect("it is there");
    check(served.reload(), &format!("cannot read {name} (--config): "));
    let made = Command::new("mkfifo").arg(&file).status().expect("it is in coreutils");
    assert!(made.success());
    check(served.reload(), &format!("cannot read {name} (--config): not a regular file"));
    std::fs::remove_file(&file).expect("it is there");
    File::create(&file).and_then(|it| it.set_len(1 << 30)).expect("a file with a hole");
    check(served.reload(), &format!("cannot read {name} (--config): larger than 1 MiB"));
    std::fs::remove_file(&file).expect("it is there");
    std::fs::create_dir(&file).expect("a folder");
    check(served.reload(), &format!("cannot read {name} (--config): not a regular file"));
    std::fs::remove_dir(&file).expect("it is there");
    wait_until(LIMIT, "nothing is left open", || served.descriptors() == descriptors);

    let news = served.reload_text(&good);
    assert!(news.contains("configuration reloaded: no changes"), "{news}");
    assert_eq!(served.server.log().matches("Connected to Hands").count(), 1);
    assert!(served.reload_text(&changed).contains("link.heartbeat: 5s -> 1s"));
}

#[test]
fn a_configuration_from_a_pipe_is_not_read_again() {
    let setup = Setup::alone();
    let fifo = setup.folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("in coreutils").success());
    let (to, text) = (fifo.clone(), setup.toml("Goloman"));
    let writer = std::thread::spawn(move || std::fs::write(to, text).expect("it is read"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["Goloman", "--config"]).arg(&fifo).arg("--log-dir").arg(setup.folder.path());
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    writer.join().expect("it has written");
    server.signal(Signal::HUP);
    server.wait_for_log("configuration not reloaded, nothing has changed: cannot read ");
    server.wait_for_log("(--config): not a regular file");
    server.assert_serves();
}

#[test]
fn a_key_is_read_again_and_stands_in_no_record() {
    let setup = Setup::alone();
    let key = setup.folder.path().join("key");
    std::fs::write(&key, "first-secret\n").expect("a file");
    let path = key.to_str().expect("a path").to_owned();
    let served = Served::start_with(setup, &["--places", "google-new", "--places-key-file", &path]);
    assert!(served.reload().contains("configuration reloaded: no changes"));
    std::fs::write(&key, "second-secret\n").expect("a file");
    let news = served.reload();
    assert!(news.contains("1 change\n") && news.contains("places key changed"), "{news}");
    std::fs::write(&key, "no key at all\n").expect("a file");
    let news = served.reload();
    assert!(
        news.contains(&format!("nothing has changed: {path} is not a valid API key")),
        "{news}"
    );
    assert!(!served.server.log().contains("secret"));
    served.server.assert_serves();
}

#[test]
fn a_watched_file_is_reloaded_without_a_signal() {
    let served = Served::start(Setup::alone().section("[reload]\nwatch = \"50ms\""));
    served.write(&served.text("link.heartbeat = \"2s\""));
    let news = served.next_reload();
    assert!(news.contains("link.heartbeat: 5s -> 2s"), "{news}");
    // A broken version is refused once, and not at each look.
    served.write("colour = 1");
    assert!(served.next_reload().contains("unknown key"));
    std::thread::sleep(Duration::from_millis(400));
    let news = served.news();
    assert!(!news.contains("not reloaded"), "{news}");
    // Switched off, it looks no more.
    served.write(&served.text("").replace("\"50ms\"", "\"off\""));
    assert!(served.next_reload().contains("reload.watch: 50ms -> off"));
    served.write(&served.text("link.heartbeat = \"3s\""));
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(served.news(), "");
    // And on again.
    assert!(served.reload().contains("reload.watch: off -> 50ms"));
    served.write(&served.text("link.heartbeat = \"4s\""));
    assert!(served.next_reload().contains("link.heartbeat: 3s -> 4s"));
    served.server.assert_serves();
}

#[test]
fn a_server_of_several_loops_changes_in_all_of_them() {
    let mut served = Served::start(Setup::star(&["Hands"]).top("loops = 3"));
    let hands = served.setup.start("Hands");
    served.server.wait_for_log("missed updates from Hands");
    let mut clients: Vec<Client> = (0..24).map(|_| served.server.client()).collect();
    clients.iter_mut().for_each(|client| tells(client, "kiwi"));
    served.setup.add("South", &["Goloman"]);
    served.reloads("limits.line_bytes = 60", &["2 changes", "neighbour South added"]);
    let south = served.setup.start("South");
    served.server.wait_for_log("missed updates from South");
    let mut other = south.client();
    wait_until(LIMIT, "South learns what each loop knows", || {
        other.ask("WHATSAT kiwi 0 0") == "AT AT kiwi +1.0+2.0 10"
    });
    for client in &mut clients {
        client.send(format!("{}\n", "x".repeat(61)));
        assert!(client.line().starts_with("? xxx"), "in each loop");
        client.expect_end();
    }
    assert_eq!(hands.log().matches("The link to Goloman is up").count(), 1);
}

#[test]
fn the_admin_listener_is_added_moved_and_removed_and_its_settings_change() {
    let served = Served::start(Setup::alone());
    let mut client = served.server.client();
    tells(&mut client, "kiwi");
    let with_admin = |at: SocketAddr, more: &str| {
        let place = format!("name = \"Goloman\"\nadmin_listen = \"{at}\"\n");
        served.text(more).replace("name = \"Goloman\"\n", &place)
    };
    let get = |at: SocketAddr, host: &str| {
        let mut asker = Client::connect(at);
        asker.send(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        String::from_utf8(asker.rest()).expect("text")
    };
    let (first, second) = (reserve(), reserve());
    let news = served.reload_text(&with_admin(first.address(), ""));
    assert!(news.contains(&format!("admin_listen: unset -> {}", first.address())), "{news}");
    let metrics = get(first.address(), "localhost");
    assert!(metrics.contains("\nherd_config_last_reload_successful 1\n"), "{metrics}");
    assert!(metrics.contains("\nherd_config_restart_required 0\n"), "{metrics}");
    assert!(get(first.address(), "mine.example").starts_with("HTTP/1.1 421 "));

    let mut kept = Client::connect(first.address());
    served.reload_text(&with_admin(
        second.address(),
        "max_clients = 7\nadmin.hosts = [\"mine.example\"]",
    ));
    let metrics = get(second.address(), "mine.example");
    assert!(metrics.contains("\nherd_config_restart_required 1\n"), "{metrics}");
    wait_until(LIMIT, "the old port is closed", || Client::try_connect(first.address()).is_err());
    kept.send("GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(kept.rest().starts_with(b"HTTP/1.1 200 "), "an open connection stays");

    served.reload_text("colour = 1");
    let metrics = get(second.address(), "mine.example");
    assert!(metrics.contains("\nherd_config_last_reload_successful 0\n"), "{metrics}");

    let mut kept = Client::connect(second.address());
    let news = served.reload_text(&served.text(""));
    assert!(news.contains(&format!("admin_listen: {} -> unset", second.address())), "{news}");
    wait_until(LIMIT, "the port is closed", || Client::try_connect(second.address()).is_err());
    kept.expect_end();
    tells(&mut client, "plum");
}

#[test]
fn the_logs_settings_change_and_a_log_that_cannot_be_opened_changes_nothing() {
    let served = Served::start(Setup::alone());
    let mut client = served.server.client();
    tells(&mut client, "kiwi");
    served.server.wait_for_log("IAMAT kiwi");
    let quiet = "log.levels = { client = \"warning\" }";
    served.reloads(quiet, &["1 change\n", "log.levels.client: unset -> warning"]);
    tells(&mut client, "plum");
    let json = "log.format = \"json\"\nlink.heartbeat = \"1s\"";
    let news = served.reload_text(&served.text(json));
    assert!(news.contains("configuration reloaded: 3 changes"), "{news}");
    assert!(!served.server.log().contains("IAMAT plum"));
    tells(&mut client, "pear");
    wait_until(LIMIT, "it is written as JSON", || {
        let is_it = |line: &str| line.starts_with('{') && line.contains("IAMAT pear");
        served.server.log().lines().any(is_it)
    });

    // A folder stands where the log should be: it goes on in the old file.
    let log = served.setup.move_log_away("Goloman");
    std::fs::create_dir(&log).expect("nothing is there");
    served.write(&served.text("link.heartbeat = \"2s\""));
    served.server.signal(Signal::HUP);
    let old = || std::fs::read_to_string(log.with_extension("old")).expect("text");
    wait_until(LIMIT, "it is refused", || old().contains("configuration not reloaded"));
    std::fs::remove_dir(&log).expect("it is empty");
    served.server.signal(Signal::HUP);
    wait_until(LIMIT, "there is a log again", || log.exists());
    // The log is reopened behind all records that wait to be written, which may be those of the reload, too.
    wait_until(LIMIT, "it is reloaded: the refused reload has changed nothing", || {
        (old() + &served.server.log()).contains("link.heartbeat: 1s -> 2s")
    });
    tells(&mut client, "fig");
}
