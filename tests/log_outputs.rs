//! Claim: syslog and the journal get each record as a datagram of their own protocol; an output that nobody reads or that
//! is broken costs its own records, which are counted and reported, and no record of another output; and no client can
//! forge a record, a field, a priority or a terminal's escape in any of them.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use common::{LIMIT, ServerProcess, Setup, run_to_end, wait_until};

/// Plays a daemon that takes the log's datagrams. It ends when it is dropped.
struct Daemon {
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn at(path: &Path) -> Daemon {
        Daemon::reading(UnixDatagram::bind(path).expect("a socket"))
    }

    fn reading(socket: UnixDatagram) -> Daemon {
        let received = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (all, has_to_end) = (Arc::clone(&received), Arc::clone(&is_over));
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("it is ours");
        let thread = std::thread::spawn(move || {
            let mut datagram = vec![0; 256 * 1024];
            while !has_to_end.load(Relaxed) {
                if let Ok(length) = socket.recv(&mut datagram) {
                    all.lock().expect("nobody panics with it").push(datagram[..length].to_vec());
                }
            }
        });
        Daemon { received, is_over, thread: Some(thread) }
    }

    fn datagrams(&self) -> Vec<Vec<u8>> {
        self.received.lock().expect("nobody panics with it").clone()
    }

    /// Waits until a datagram holds this text.
    fn wait_for(&self, text: &str) {
        let is_there =
            || self.datagrams().iter().rev().any(|it| String::from_utf8_lossy(it).contains(text));
        wait_until(LIMIT, text, is_there);
    }

    fn texts(&self) -> Vec<String> {
        let text = |it| String::from_utf8(it).expect("a record is UTF-8");
        self.datagrams().into_iter().map(text).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }
}

fn socket_of(setup: &Setup) -> PathBuf {
    setup.folder.path().join("socket")
}

/// A server with these lines in its `[log]`; a `{socket}` in them is the socket's path.
fn with_log(setup: Setup, log: &str) -> Setup {
    let socket = socket_of(&setup);
    let log = log.replace("{socket}", socket.to_str().expect("a path is text"));
    setup.section(&format!("[log]\n{log}"))
}

/// The message of each record of the file, in the report's format.
fn messages(log: &str) -> Vec<String> {
    let message = |record: &str| {
        let (_, record) = record.split_once(" - ").unwrap_or_else(|| panic!("{record}"));
        record.split_once(": ").expect("a level").1.to_owned()
    };
    log.lines().map(message).collect()
}

/// What hostile clients send.
const HOSTILE: [&[u8]; 6] = [
    b"IAMAT <3>forged\x1b[31m +1.0+2.0 10\n",
    b"IAMAT ki\"wi\\n +1.0+2.0 10\n",
    b"IAMAT \xff\xe2\x80\xa8\xe2\x80\xae\xc2\x9b31m +1.0+2.0 10\n",
    b"IAMAT a\rPRIORITY=0\0MESSAGE=forged +1.0+2.0 10\n",
    b"<0>forged\x00\x07\x7f\n",
    b"\x1b[31m,\"event\":\"forged\"}\n",
];

/// Lets a client send all of that, and waits until its end is in the log.
fn be_hostile(server: &ServerProcess) {
    let mut client = server.client();
    for line in HOSTILE {
        client.send(line);
        client.line_bytes();
    }
    drop(client);
    server.wait_for_log(" is disconnected.");
}

/// No byte in a record ends it, or moves a terminal's cursor.
fn assert_harmless(record: &str) {
    let is_layout = |letter: char| matches!(letter, '\u{2028}'..='\u{202e}');
    let harmful = record.chars().find(|letter| letter.is_control() || is_layout(*letter));
    assert_eq!(harmful, None, "{record:?}");
}

#[test]
fn syslog_gets_each_record_of_the_file_in_its_local_form() {
    for format in ["report", "json"] {
        let log = format!(
            "outputs = [\"file\", \"syslog\"]\nsyslog_socket = \"{{socket}}\"\n\
             formats = {{ syslog = \"{format}\" }}"
        );
        let setup = with_log(Setup::star(&["Hands"]), &log);
        let daemon = Daemon::at(&socket_of(&setup));
        let server = setup.start_with("Goloman", &["--log-level", "info,flood=debug,link=off"]);
        be_hostile(&server);
        let (pid, log_file) = (server.pid(), server.log_file.clone());
        server.stop();
        daemon.wait_for("Goloman has stopped.");
        let head = format!(
            r"^<(\d+)>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d herd-mio/Goloman\[{pid}\]: (.*)$"
        );
        let head = regex::Regex::new(&head).expect("a pattern");
        let log = fs::read_to_string(log_file).expect("a log");
        let records = daemon.texts();
        let mut found = Vec::new();
        for (record, in_file) in records.iter().zip(log.lines()) {
            assert_harmless(record);
            let parts = head.captures(record).unwrap_or_else(|| panic!("{record:?}"));
            // Facility 3, a daemon.
            let level = if in_file.contains(" - WARNING: ") { "28" } else { "30" };
            assert_eq!(&parts[1], level, "{record} {in_file}");
            found.push(match format {
                "report" => parts[2].to_owned(),
                _ => {
                    let object: Value = serde_json::from_str(&parts[2]).expect("JSON");
                    object["message"].as_str().expect("a message").to_owned()
                }
            });
        }
        assert_eq!(found, messages(&log));
        assert_eq!(records.len(), log.lines().count());
        assert!(records.iter().any(|it| it.starts_with("<28>")), "{records:#?}");
    }
}

/// The fields of a datagram of journald's protocol, which must be in it to the last byte.
fn fields(mut datagram: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut fields = BTreeMap::new();
    while !datagram.is_empty() {
        let at = datagram.iter().position(|byte| b"=\n".contains(byte)).expect("a name");
        let name = String::from_utf8(datagram[..at].to_vec()).expect("text");
        let (value, rest) = if datagram[at] == b'=' {
            let rest = &datagram[at + 1..];
            let end = rest.iter().position(|byte| *byte == b'\n').expect("an end");
            rest.split_at(end)
        } else {
            let (length, rest) = datagram[at + 1..].split_first_chunk::<8>().expect("a length");
            rest.split_at(u64::from_le_bytes(*length) as usize)
        };
        assert_eq!(rest.first(), Some(&b'\n'));
        assert_eq!(fields.insert(name.clone(), value.to_vec()), None, "{name} is there twice");
        datagram = &rest[1..];
    }
    fields
}

#[test]
fn the_journal_gets_each_record_of_the_file_with_its_fields() {
    let log = "outputs = [\"journald\", \"file\"]\njournald_socket = \"{socket}\"";
    let setup = with_log(Setup::star(&["Hands"]), log);
    let daemon = Daemon::at(&socket_of(&setup));
    let server = setup.start_with("Goloman", &["--log-level", "info,table=debug,link=off"]);
    be_hostile(&server);
    let log_file = server.log_file.clone();
    server.stop();
    daemon.wait_for("Goloman has stopped.");
    let log = fs::read_to_string(log_file).expect("a log");
    let entries: Vec<_> = daemon.datagrams().iter().map(|datagram| fields(datagram)).collect();
    let text = |entry: &BTreeMap<String, Vec<u8>>, name: &str| {
        entry.get(name).map(|value| String::from_utf8(value.clone()).expect("text"))
    };
    let found: Vec<_> = entries.iter().filter_map(|entry| text(entry, "MESSAGE")).collect();
    assert_eq!(found, messages(&log));
    for (entry, record) in entries.iter().zip(log.lines()) {
        entry.values().for_each(|value| assert_harmless(&String::from_utf8_lossy(value)));
        assert_eq!(text(entry, "SYSLOG_IDENTIFIER").as_deref(), Some("herd-mio"));
        assert_eq!(text(entry, "HERD_SERVER").as_deref(), Some("Goloman"));
        assert!(entry.contains_key("HERD_TARGET") && entry.contains_key("HERD_EVENT"), "{entry:?}");
        let level = record.split(" - ").nth(1).and_then(|it| it.split(':').next());
        let priority = match level {
            Some("DEBUG") => "7",
            Some("INFO") => "6",
            Some("WARNING") => "4",
            level => panic!("{level:?}"),
        };
        assert_eq!(text(entry, "PRIORITY").as_deref(), Some(priority), "{record}");
        let names = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"];
        let is_known = |name: &String| names.contains(&&name[..]) || name.starts_with("HERD_");
        assert!(entry.keys().all(is_known), "{entry:?}");
    }
    let of = |event: &str| {
        let is_it = |entry: &&_| text(entry, "HERD_EVENT").as_deref() == Some(event);
        entries.iter().filter(is_it).collect::<Vec<_>>()
    };
    assert_eq!((of("line_received").len(), of("forged").len()), (HOSTILE.len(), 0));
    assert!(text(of("line_received")[0], "HERD_PEER").expect("a peer").starts_with("127.0.0.1:"));
    assert_eq!(text(of("line_received")[0], "HERD_BYTES").as_deref(), Some("32"));
    let missed = of("flood_missed");
    assert_eq!(missed.len(), 3, "the fourth id has a NUL: {log}");
    assert_eq!(text(missed[1], "HERD_ID").as_deref(), Some(r#"ki"wi\\n"#));
    assert_eq!(text(missed[1], "HERD_ID_BASE64"), None);
    assert_eq!(text(missed[1], "HERD_NEIGHBOUR").as_deref(), Some("Hands"));
    assert_eq!(text(missed[1], "HERD_LOCATION").as_deref(), Some("+1.0+2.0"));
    assert_eq!(text(missed[2], "HERD_ID_BASE64").as_deref(), Some("/+KAqOKArsKbMzFt"));
    assert!(text(of("line_refused")[0], "HERD_REASON").is_some());
}

#[test]
fn a_syslog_that_nobody_reads_costs_its_own_records_only() {
    let log = "outputs = [\"syslog\", \"file\"]\nsyslog_socket = \"{socket}\"";
    let setup = with_log(Setup::alone(), log);
    let socket = UnixDatagram::bind(socket_of(&setup)).expect("a socket");
    let server = setup.start("Goloman");
    let mut client = server.client();
    let long = "x".repeat(4_000);
    // Two records of 4 KB each: nearly twice what may wait.
    for number in 0..2_000 {
        let line = format!("{number} {long}");
        assert_eq!(client.ask(&line), format!("? {line}"));
    }
    server.wait_for_log("The log cannot be written to the syslog daemon: nothing reads it; ");
    let daemon = Daemon::reading(socket);
    daemon.wait_for("records were dropped: the syslog daemon could not keep up.");
    server.wait_for_log("The log is written to the syslog daemon again.");
    assert_eq!(client.ask("IAMAT last +1.0+2.0 10"), "AT AT last +1.0+2.0 10");
    daemon.wait_for("Sent to ");
    drop(client);
    daemon.wait_for(" is disconnected.");
    let log = server.log();
    assert_eq!(log.matches(" - INFO: Received from").count(), 2_001);
    assert_eq!(log.matches(" - INFO: Sent to").count(), 2_001);
    let records = daemon.texts();
    let count = regex::Regex::new(r"]: (\d+) records? (?:was|were) dropped: ").expect("a pattern");
    let dropped = records.iter().filter_map(|it| count.captures(it)?[1].parse::<usize>().ok());
    let dropped: usize = dropped.sum();
    let own = records.iter().filter(|it| count.is_match(it)).count();
    // The file alone has the two records about syslog.
    assert_eq!(records.len() - own + dropped, log.lines().count() - 2);
    assert!(dropped > 1_000, "{dropped}");
}

#[test]
fn a_daemon_that_comes_later_and_again_gets_all_from_then_on_and_the_number_of_those_before() {
    let count = regex::Regex::new(r"(\d+) records? (?:was|were) dropped: ").expect("a pattern");
    for (output, device) in [("syslog", "the syslog daemon"), ("journald", "journald")] {
        let log = format!("outputs = [\"file\", \"{output}\"]\n{output}_socket = \"{{socket}}\"");
        let setup = with_log(Setup::alone(), &log);
        let server = setup.start("Goloman");
        server.wait_for_log(&format!("The log cannot be written to {device}: "));
        let ask = |id: &str, number: usize| {
            let line = format!("IAMAT {id} +1.0+2.0 1{number}");
            assert!(server.client().ask(&line).starts_with("AT AT "));
            wait_until(LIMIT, "its end is recorded", || {
                server.log().matches(" is disconnected.").count() == number
            });
        };
        let (mut received, mut dropped) = (0, 0);
        for round in 0..2 {
            ask("before", 2 * round + 1);
            let daemon = Daemon::at(&socket_of(&setup));
            ask("after", 2 * round + 2);
            daemon.wait_for(&format!(": AT AT after +1.0+2.0 1{}", 2 * round + 2));
            if round == 0 {
                server.wait_for_log(&format!("The log is written to {device} again."));
            }
            let all = || {
                let of_log = server.log();
                let of_log = of_log.lines().filter(|it| !it.contains(" - ERROR: The log "));
                let of_log = of_log.filter(|it| !it.contains(" - INFO: The log ")).count();
                let texts = daemon.texts();
                let counts = texts.iter().filter_map(|it| count.captures(it)?[1].parse().ok());
                let counts: Vec<usize> = counts.collect();
                let there = texts.len() - counts.len();
                (received + there, dropped + counts.iter().sum::<usize>(), of_log)
            };
            wait_until(LIMIT, "each record was received or counted", || {
                let (received, dropped, of_log) = all();
                received + dropped == of_log
            });
            (received, dropped, _) = all();
            assert!(dropped >= 1, "{received} {dropped}");
            fs::remove_file(socket_of(&setup)).expect("it is there");
        }
    }
}

#[test]
fn a_full_disk_is_reported_in_the_other_output_or_on_standard_error() {
    let log = "outputs = [\"file\", \"syslog\"]\nsyslog_socket = \"{socket}\"";
    let both = with_log(Setup::alone(), log);
    for (setup, has_other) in [(both, true), (Setup::alone(), false)] {
        symlink("/dev/full", setup.log_file("Goloman")).expect("a link");
        let daemon = Daemon::at(&socket_of(&setup));
        let server = setup.start("Goloman");
        let mut client = server.client();
        for number in 0..100 {
            assert!(client.ask(&format!("IAMAT a +1.0+2.0 {number}")).starts_with("AT AT "));
        }
        let text = "The log cannot be written to the disk: No space left on device; its records are dropped and \
                    counted until it works.";
        match has_other {
            true => {
                daemon.wait_for(text);
                let received = |daemon: &Daemon, text: &str| {
                    daemon.texts().iter().filter(|record| record.contains(text)).count()
                };
                wait_until(LIMIT, "all records", || received(&daemon, "Received from") == 100);
                assert_eq!(received(&daemon, text), 1, "once");
            }
            false => wait_until(LIMIT, text, || {
                server.stderr().contains(&format!("herd-mio: Goloman: {text}\n"))
            }),
        }
    }
}

#[test]
fn a_folder_that_has_gone_at_a_rotation_is_reported_beside_the_file_and_looked_for_again() {
    let log = "outputs = [\"file\", \"syslog\"]\nsyslog_socket = \"{socket}\"";
    let setup = with_log(Setup::alone(), log);
    let daemon = Daemon::at(&socket_of(&setup));
    let (logs, moved) = (setup.folder.path().join("logs"), setup.folder.path().join("moved"));
    fs::create_dir(&logs).expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--server", "Goloman", "--config"]).arg(setup.config_file("Goloman"));
    command.arg("--log-dir").arg(&logs).env_remove("HERD_PLACES_KEY");
    let log_file = logs.join("Goloman_log.txt");
    let server = ServerProcess::spawn(command, "Goloman", log_file.clone());
    fs::rename(&logs, &moved).expect("they are there");
    server.signal(Signal::USR1);
    let text =
        "The log could not be reopened and continues in the old file: No such file or directory";
    daemon.wait_for(text);
    assert!(server.client().ask("IAMAT a +1.0+2.0 10").starts_with("AT AT "));
    let old = || fs::read_to_string(moved.join("Goloman_log.txt")).expect("the old log");
    wait_until(LIMIT, "the old file goes on", || old().contains("Received from"));
    fs::create_dir(&logs).expect("a folder");
    wait_until(LIMIT, "the new file is there", || {
        let _ = server.client().ask("IAMAT a +1.0+2.0 10");
        log_file.exists()
    });
    server.wait_for_log(" - INFO: Log reopened.");
    daemon.wait_for("Log reopened.");
    assert_eq!(daemon.texts().iter().filter(|it| it.contains(text)).count(), 1);
}

#[test]
fn each_output_has_its_format() {
    let setup = with_log(
        Setup::alone(),
        "outputs = [\"file\", \"stderr\"]\nformats = { file = \"report\", stderr = \"json\" }",
    );
    let server = setup.start("Goloman");
    be_hostile(&server);
    let objects = || -> Vec<Value> {
        let stderr = server.stderr();
        let lines = stderr.lines().filter(|line| line.starts_with('{'));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let is_end = |it: &Value| it["event"] == "connection_closed";
    wait_until(LIMIT, "standard error has all", || objects().iter().any(is_end));
    let found: Vec<_> = objects().iter().map(|it| it["message"].to_string()).collect();
    let expected: Vec<_> =
        messages(&server.log()).into_iter().map(|it| Value::from(it).to_string()).collect();
    assert_eq!(found, expected);
    server.log().lines().for_each(assert_harmless);
    server.stderr().lines().for_each(assert_harmless);
}

/// Standard error in a file, for which the environment says that journald reads it, or something else.
fn with_journal_stream(setup: &Setup, stream: impl Fn(&File) -> String) -> String {
    let path = setup.folder.path().join("stderr");
    let file = File::create(&path).expect("a file");
    let mut command = setup.command("Goloman");
    command
        .env("JOURNAL_STREAM", stream(&file))
        .stderr(file.as_fd().try_clone_to_owned().expect("fd"));
    let server = common::process::Running(command.spawn().expect("it runs"));
    let said = || fs::read_to_string(&path).expect("a file");
    wait_until(LIMIT, "it listens", || {
        said().lines().any(|it| it.starts_with("Goloman listens on"))
    });
    let mut client = common::Client::connect(setup.clients_address("Goloman"));
    for line in HOSTILE {
        client.send(line);
        client.line_bytes();
    }
    drop(client);
    wait_until(LIMIT, "the end is recorded", || said().contains(" is disconnected."));
    drop(server);
    said()
}

#[test]
fn a_standard_error_that_journald_reads_begins_each_record_with_its_priority() {
    let own = |file: &File| {
        let found = file.metadata().expect("it is there");
        format!("{}:{}", found.dev(), found.ino())
    };
    let priority = regex::Regex::new("^<[46]>[^<]").expect("a pattern");
    for (format, begin) in [("report", "Received from "), ("json", "{\"time\":\"")] {
        let setup =
            with_log(Setup::alone(), &format!("outputs = [\"stderr\"]\nformat = \"{format}\""));
        let said = with_journal_stream(&setup, own);
        let records: Vec<_> =
            said.lines().filter(|line| !line.starts_with("Goloman listens on")).collect();
        assert!(records.iter().all(|it| priority.is_match(it)), "{records:#?}");
        assert!(records.iter().any(|it| it.starts_with(&format!("<6>{begin}"))), "{records:#?}");
        assert!(records.iter().any(|it| it.starts_with("<4>")), "{records:#?}");
    }
    let setup = with_log(Setup::alone(), "outputs = [\"stderr\"]");
    let said = with_journal_stream(&setup, |file| format!("{}0", own(file)));
    assert!(said.contains(" - INFO: Received from ") && !said.contains("\n<6>"), "{said}");
}

#[test]
fn a_json_line_is_cut_to_16_kib_and_stays_valid() {
    let setup =
        with_log(Setup::alone(), "format = \"json\"").section("[limits]\nline_bytes = 32768");
    let server = setup.start("Goloman");
    let mut client = server.client();
    for letter in ["\"", "\u{1}", "\u{2028}", "x"] {
        client.send(letter.repeat(30_000 / letter.len()).as_bytes());
        client.send(b"\n");
        client.line_bytes();
    }
    drop(client);
    server.wait_for_log(" is disconnected.");
    let log = fs::read_to_string(&server.log_file).expect("UTF-8");
    let mut cut = 0;
    for line in log.lines() {
        assert!(line.len() < 16 * 1024, "{} bytes", line.len());
        let object: Value = serde_json::from_str(line).expect("JSON");
        cut += usize::from(object["truncated"] == true);
    }
    assert!(cut >= 8, "the four lines and their answers: {cut}");
}

#[test]
fn a_log_folder_in_which_others_can_write_is_reported_and_no_link_in_it_is_followed() {
    let text = "all users can write in the log's folder ";
    for mode in [0o777, 0o1777, 0o755] {
        let setup = Setup::alone().any_port();
        fs::set_permissions(setup.folder.path(), Permissions::from_mode(mode)).expect("a mode");
        let server = setup.start("Goloman");
        server.wait_for_log(" listens on ");
        assert_eq!(server.log().contains(text), mode != 0o755, "{}", server.log());
        server.stop();
        fs::remove_file(setup.log_file("Goloman")).expect("it is there");
        let target = setup.folder.path().join("elsewhere");
        symlink(&target, setup.log_file("Goloman")).expect("a link");
        if mode == 0o755 {
            setup.start("Goloman").wait_for_log(" listens on ");
            assert!(target.exists());
        } else {
            let ended = run_to_end(setup.command("Goloman"));
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains("in which other users can write"), "{ended:?}");
            assert!(!target.exists());
        }
    }
}

#[test]
fn without_the_target_flood_only_its_records_are_missing() {
    let session = |levels: &str| {
        let setup = Setup::star(&["Hands"]);
        let server = setup.start_with("Goloman", &["--log-level", levels]);
        assert!(server.client().ask("IAMAT a +1.0+2.0 10").starts_with("AT AT "));
        server.wait_for_log(" is disconnected.");
        let ports = regex::Regex::new(r":\d+").expect("a pattern");
        let messages = messages(&server.log()).into_iter();
        messages.map(|it| ports.replace_all(&it, ":port").into_owned()).collect::<Vec<_>>()
    };
    let is_flood = |it: &String| it.starts_with("Sending ") || it.starts_with("Port Hands is down");
    let all = session("info,link=off");
    let rest: Vec<_> = all.iter().filter(|it| !is_flood(it)).cloned().collect();
    assert_eq!(rest.len() + 1, all.len(), "{all:#?}");
    assert_eq!(session("info,link=off,flood=off"), rest);
}
