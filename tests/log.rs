//! Claim: records are written by the level of their target, in the chosen format, to each of the chosen outputs, and one
//! output that is broken or full stops neither another output nor the server.

mod common;

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use herd_mio::logging::{self, Log, Traffic, target};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use common::herd::Herd;
use common::process::{Running, send_signal, status_of};
use common::{Client, LIMIT, Setup, wait_until};

fn herd_mio(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(words).env_remove("HERD_PLACES_KEY").output().expect("the program runs")
}

/// The log of this process, which its tests share.
fn own_log() -> (&'static Log, impl Fn() -> String) {
    static LOG: OnceLock<(Log, TempDir)> = OnceLock::new();
    let (log, folder) = LOG.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = logging::LogSettings::default();
        (logging::start(folder.path(), "Own", &settings).expect("a log"), folder)
    });
    let path = folder.path().join("Own_log.txt");
    (log, move || fs::read_to_string(&path).expect("a log"))
}

// In this process.

/// A value that logs while it is formatted, as one that looks something up may.
struct Talkative(u32);

impl Display for Talkative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 {
            log::info!(target: target::LINK, "depth {}", Talkative(self.0 - 1));
        }
        write!(f, "{}", self.0)
    }
}

#[test]
fn a_value_may_log_while_it_is_formatted() {
    let (log, text) = own_log();
    log::info!(target: target::LINK, "depth {}", Talkative(3));
    log.finish();
    let text = text();
    let depths: Vec<&str> = text.lines().filter_map(|it| it.split("INFO: depth ").nth(1)).collect();
    assert_eq!(depths, ["0", "1", "2", "3"], "{text}");
}

#[test]
fn records_of_all_threads_arrive_each_threads_in_their_order() {
    let (log, text) = own_log();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                for number in 0..1_000 {
                    match number % 2 {
                        0 => Traffic::Client.received("T", format!("{thread} {number}").as_bytes()),
                        _ => {
                            log::info!(target: target::CLIENT, "Received from T: {thread} {number}")
                        }
                    }
                    // One of them never submits.
                    if thread > 0 && number % 100 == thread {
                        log.submit();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    log.finish();
    let text = text();
    for thread in 0..4 {
        let begin = format!("Received from T: {thread} ");
        let numbers = text.lines().filter_map(|record| record.split(&begin).nth(1));
        let numbers: Vec<usize> = numbers.map(|number| number.parse().expect("a number")).collect();
        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>(), "thread {thread}");
    }
}

// Levels.

#[test]
fn a_target_has_a_level_of_its_own() {
    let setup = Setup::star(&["Hands"]).section(
        "[log]\nlevel = \"warning\"\nlevels = { loop = \"info\", flood = \"info\", link = \"debug\" }",
    );
    let server = setup.start_with("Goloman", &["--log-level", "table=debug,link=off"]);
    let mut client = server.client();
    assert!(client.ask("IAMAT a +1.0+2.0 10").starts_with("AT AT "));
    server.wait_for_log(" - INFO: Port Hands is down. Cannot send a at +1.0+2.0 to Hands.");
    server.wait_for_log(" - DEBUG: Stored a as change ");
    server.wait_for_log(" - INFO: Goloman listens on ");
    let log = server.log();
    assert!(!log.contains("Received from") && !log.contains("is connected"), "{log}");
    assert!(!log.contains("reached"), "{log}");
}

#[test]
fn an_unknown_level_or_target_is_refused_with_what_was_probably_meant() {
    for (level, reason) in [
        (
            "inof",
            "invalid value \"inof\" for --log-level: unknown level \"inof\"; did you mean info?",
        ),
        (
            "info,flod=off",
            ": unknown target \"flod\"; did you mean flood? (targets: client, link, ",
        ),
        ("info,herd_mio::herd=off", ": unknown target \"herd_mio::herd\" (targets: "),
    ] {
        let output = herd_mio(&["--check", "--log-level", level]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(reason), "{said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("herd.toml");
    let herd = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:4001\"\n";
    for (log, reason) in [
        ("level = \"loud\"", "5:9: invalid `log.level`: \"loud\"; expected off, error, "),
        (
            "levels = { lnik = \"info\" }",
            ":5:12: unknown key `lnik` of log.levels; did you mean link?",
        ),
        ("levels = { link = 3 }", "5:19: invalid `log.levels.link`: 3; expected off, error, "),
        (
            "outputs = [\"fiel\"]",
            "5:12: invalid `log.outputs`: \"fiel\"; expected \"file\", \"stderr\", \"syslog\" or \"journald\"",
        ),
        ("outputs = [\"file\", \"file\"]", "5:20: `log.outputs` names \"file\" more than once"),
        ("outputs = \"file\"", "5:11: invalid `log.outputs`: \"file\"; expected a list"),
        ("outputs = [3]", "5:12: invalid `log.outputs`: 3; expected text"),
        (
            "outputs = []",
            "`log.outputs` is empty; expected \"file\", \"stderr\", \"syslog\" or \"journald\", or ",
        ),
        (
            "formats = { stdout = \"json\" }",
            ":5:13: unknown key `stdout` of log.formats; known keys: file, stderr, syslog, journald",
        ),
        (
            "formats = { stderr = \"xml\" }",
            "5:22: invalid `log.formats.stderr`: \"xml\"; expected \"report\" or \"json\"",
        ),
        ("formats = \"json\"", "5:11: invalid `log.formats`: \"json\"; expected a "),
        (
            "syslog_socket = \"log\"",
            "5:17: invalid `log.syslog_socket`: \"log\"; expected the absolute path of a socket",
        ),
        (
            "format = \"xml\"",
            "5:10: invalid `log.format`: \"xml\"; expected \"report\" or \"json\"",
        ),
    ] {
        fs::write(&path, format!("{herd}[log]\n{log}\n")).expect("a file");
        let output = herd_mio(&["--check", "--config", path.to_str().expect("text")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(reason), "{log}: {said}");
        assert_eq!(said.lines().count(), 1, "{log}: one mistake: {said}");
    }
}

#[test]
fn the_output_of_check_for_the_log_means_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("herd.toml");
    let log = "[log]\nlevel = \"error\"\nlevels = { tls = \"debug\" }\noutputs = [\"stderr\", \"file\"]\n\
               format = \"json\"\nformats = { stderr = \"report\" }\njournald_socket = \"/run/\\\"j\"\n";
    let herd = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:4001\"\n";
    fs::write(&path, format!("{log}{herd}")).expect("a file");
    let check = |level: &[&str]| {
        let words = [&["--check", "--config", path.to_str().expect("text")], level].concat();
        let output = herd_mio(&words);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let printed = check(&["--log-level", "link=info"]);
    for line in [
        "log.level = \"error\"",
        "log.levels.link = \"info\"",
        "log.levels.tls = \"debug\"",
        "log.outputs = [\"stderr\", \"file\"]",
        "log.format = \"json\"",
        "log.formats.stderr = \"report\"",
        "log.syslog_socket = \"/dev/log\"",
        "log.journald_socket = '/run/\"j'",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    fs::write(&path, &printed).expect("a file");
    assert_eq!(check(&[]), printed);
}

// Formats.

/// What a client says in both formats, ids that are no text among it.
const LINES: [&[u8]; 5] = [
    b"IAMAT ki\"wi +1.0+2.0 10\n",
    b"IAMAT a\\b +1.0+2.0 10\n",
    b"IAMAT \xff\xe2\x80\xa8 +1.0+2.0 10\n",
    b"WHATSAT nobody 1 1\n",
    b"\x1b[31m,\"event\":\"forged\"}\n",
];

/// The log of a session, in this format.
fn session(format: &str) -> String {
    let setup = Setup::star(&["Hands"]).section(&format!("[log]\nformat = \"{format}\""));
    let server = setup.start_with("Goloman", &["--log-level", "link=off"]);
    let mut client = server.client();
    for line in LINES {
        client.send(line);
        client.line();
    }
    drop(client);
    server.wait_for_log(" is disconnected.");
    server.log()
}

#[test]
fn a_json_line_says_what_the_reports_record_says() {
    let report = session("report");
    let json = session("json");
    let objects: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    // Ports differ from one session to the other.
    let ports = regex::Regex::new(r":\d+").expect("a pattern");
    let same = |text: &str| ports.replace_all(text, ":port").into_owned();
    let messages: Vec<String> =
        objects.iter().map(|object| same(object["message"].as_str().expect("a message"))).collect();
    let records: Vec<String> = report
        .lines()
        .map(|record| record.split_once(" - ").expect("a time").1)
        .map(|record| same(record.split_once(": ").expect("a level").1))
        .collect();
    assert_eq!(messages, records);
    for object in &objects {
        assert_eq!(object["server"], "Goloman");
        let time = object["time"].as_str().expect("a time");
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
    }
    for line in json.lines() {
        assert!(line.starts_with("{\"time\":\"") && line.contains("Z\",\"level\":\""));
    }
    let of = |event: &str| objects.iter().filter(|it| it["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("line_received").len(), LINES.len());
    assert_eq!(of("line_sent").len(), LINES.len());
    assert!(of("forged").is_empty());
    let missed = of("flood_missed");
    assert_eq!(missed.len(), 3);
    assert_eq!((&missed[0]["id"], &missed[0]["neighbour"]), (&"ki\"wi".into(), &"Hands".into()));
    assert_eq!((&missed[1]["id"], &missed[1]["location"]), (&r"a\\b".into(), &"+1.0+2.0".into()));
    assert_eq!(missed[2]["id_base64"], "/+KAqA==");
    let peers: BTreeSet<_> = of("line_sent").iter().map(|it| it["peer"].to_string()).collect();
    assert_eq!(peers.len(), 1, "{peers:?}");
}

/// The fields that records have, in their order.
const FIELDS: [&str; 19] = [
    "time",
    "level",
    "target",
    "server",
    "loop",
    "event",
    "message",
    "peer",
    "id",
    "id_base64",
    "location",
    "neighbour",
    "reason",
    "bytes",
    "status",
    "updates",
    "of",
    "suppressed",
    "truncated",
];

/// The records of a log, each with its fields in their order.
fn objects(log: &str) -> Vec<Value> {
    let keys = regex::Regex::new(r#"[{,]"([a-z0-9_]+)":"#).expect("a pattern");
    let texts = regex::Regex::new(r#":"(?:[^"\\]|\\.)*""#).expect("a pattern");
    let object = |line: &str| {
        let object: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let without_texts = texts.replace_all(line, ":0");
        let names = keys.captures_iter(&without_texts).map(|key| key[1].to_owned());
        let names: Vec<String> = names.collect();
        let at = |name: &String| FIELDS.iter().position(|field| field == name);
        let order: Vec<usize> = names.iter().map(|name| at(name).expect(line)).collect();
        assert!(order.is_sorted_by(|one, next| one < next), "{line}");
        assert_eq!(names.len(), object.as_object().expect("an object").len(), "{line}");
        object
    };
    log.lines().map(object).collect()
}

#[test]
fn what_happens_to_a_server_has_its_event_and_its_fields() {
    let setup = Setup::star(&["Hands"])
        .section("[limits]\nclient_connections = 1\n[log]\nformat = \"json\"");
    let hands = setup.start("Hands");
    let server = setup.start_with("Goloman", &["--log-level", "info,table=debug"]);
    server.wait_for_log("\"in_sync\"");
    let mut client = server.client();
    client.send(b"IAMAT \xff +1.0+2.0 10\nnonsense\n");
    client.line_bytes();
    client.line_bytes();
    server.wait_for_log("\"flood_sent\"");
    server.client().expect_end();
    server.wait_for_log("\"connection_refused\"");
    drop(client);
    server.wait_for_log("\"connection_closed\"");
    hands.stop();
    server.wait_for_log("\"link_down\"");
    let log_file = server.log_file.clone();
    server.stop();
    let objects = objects(&fs::read_to_string(log_file).expect("a log"));
    for (event, fields) in [
        ("start", &[][..]),
        ("link_opened", &["peer", "neighbour"]),
        ("link_up", &["neighbour"]),
        ("peer_identified", &["neighbour"]),
        ("in_sync", &[]),
        ("connection_opened", &["peer"]),
        ("line_received", &["peer", "bytes"]),
        ("line_refused", &["peer", "reason"]),
        ("line_sent", &["peer", "bytes"]),
        ("line_sent", &["neighbour", "bytes"]),
        ("update_stored", &["id", "id_base64"]),
        ("flood_sent", &["id", "id_base64", "location", "neighbour"]),
        ("connection_refused", &["peer", "reason"]),
        ("connection_closed", &["peer"]),
        ("connection_closed", &["peer", "neighbour"]),
        ("link_down", &["peer", "neighbour"]),
        ("stop", &[]),
        ("stopped", &[]),
    ] {
        let has = |object: &&Value| {
            let own = &FIELDS[7..];
            let has = own.iter().filter(|field| object.get(field).is_some());
            object["event"] == event && has.eq(fields)
        };
        assert!(objects.iter().any(|object| has(&object)), "{event} {fields:?}: {objects:#?}");
    }
    assert!(objects.iter().all(|object| object["event"].is_string()), "{objects:#?}");
    let count = |event: &str| objects.iter().filter(|it| it["event"] == event).count();
    assert_eq!(count("connection_opened"), count("connection_closed"));
}

/// The Places server that `--herd` starts gets no configuration, but the log's settings.
#[test]
fn the_places_server_of_a_herd_logs_as_the_servers_do() {
    let setup = Setup::new(&[("Goloman", &[])]).section("[log]\nformat = \"json\"");
    let command = Herd::command(&setup);
    let log_file = setup.log_file("Places");
    let _herd = Herd::spawn(setup, command);
    let log = || fs::read_to_string(&log_file).unwrap_or_default();
    wait_until(LIMIT, "it listens", || log().contains("\"event\":\"start\""));
    assert!(objects(&log()).iter().all(|object| object["server"] == "Places"));
}

// Outputs.

#[test]
fn the_log_goes_to_the_file_to_standard_error_or_to_both() {
    for (outputs, in_file, in_stderr) in [
        ("\"file\"", true, false),
        ("\"stderr\"", false, true),
        ("\"file\", \"stderr\"", true, true),
    ] {
        let setup = Setup::alone().section(&format!("[log]\noutputs = [{outputs}]"));
        let server = setup.start("Goloman");
        assert!(server.client().ask("IAMAT a +1.0+2.0 10").starts_with("AT AT "));
        let record = "INFO: Received from 127.0.0.1:";
        wait_until(LIMIT, "the record is written", || {
            (!in_file || server.log().contains(record))
                && (!in_stderr || server.stderr().contains(record))
        });
        assert_eq!(server.log_file.exists(), in_file, "{outputs}");
        assert_eq!(server.log().contains(record), in_file, "{outputs}");
        assert_eq!(server.stderr().contains(record), in_stderr, "{outputs}");
    }
}

#[test]
fn a_full_standard_error_stops_neither_the_file_nor_the_server() {
    let setup = Setup::alone().section("[log]\noutputs = [\"stderr\", \"file\"]");
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("it is ours");
    while rustix::io::write(&writer, &[b'x'; 4_096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("it is ours");
    let mut command = setup.command("Goloman");
    let mut server = Running(command.stderr(writer).spawn().expect("it runs"));
    let address = setup.clients_address("Goloman");
    wait_until(LIMIT, "it listens", || Client::try_connect(address).is_ok());
    let mut client = Client::connect(address);
    for number in 0..2_000 {
        let line = format!("IAMAT a +1.0+2.0 {number}");
        assert!(client.ask(&line).starts_with("AT AT "));
    }
    let log = || fs::read_to_string(setup.log_file("Goloman")).unwrap_or_default();
    wait_until(LIMIT, "the file has the last record", || log().contains("+1.0+2.0 1999"));
    send_signal(server.0.id(), Signal::TERM);
    assert_eq!(status_of(&mut server.0), Some(0));
    assert_eq!(log().matches("INFO: Received from").count(), 2_000);
}

#[test]
fn a_full_disk_does_not_stop_standard_error() {
    let setup = Setup::alone().section("[log]\noutputs = [\"file\", \"stderr\"]");
    symlink("/dev/full", setup.log_file("Goloman")).expect("a link");
    let mut command = setup.command("Goloman");
    command.stdin(Stdio::null());
    let server = common::ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut client = server.client();
    for number in 0..100 {
        assert!(client.ask(&format!("IAMAT a +1.0+2.0 {number}")).starts_with("AT AT "));
    }
    wait_until(LIMIT, "standard error has all", || {
        server.stderr().matches("INFO: Received from").count() == 100
    });
}
