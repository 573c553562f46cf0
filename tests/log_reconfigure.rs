//! Claim: other settings of the log take effect between two turns of each thread: no record is lost or written twice,
//! outputs that are no longer in use get what they are owed and their threads end, a change that fails or is not
//! committed changes nothing, and the counters count each record once.
//!
//! The log is one for the process, so all of this is one test, in this process.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use herd_mio::logging::{self, Format, Log, LogSettings, OutputKind, Traffic, counters, target};
use log::LevelFilter;

use common::{LIMIT, wait_until};

/// How often each numbered record is in a text.
fn numbered(text: &str) -> BTreeMap<(usize, usize), usize> {
    let number = regex::Regex::new(r"(?:Received from T|Noted): (\d+) (\d+)\b").expect("a pattern");
    let mut counts = BTreeMap::new();
    for found in number.captures_iter(text) {
        let key = |at: usize| found[at].parse().expect("a number");
        *counts.entry((key(1), key(2))).or_default() += 1;
    }
    counts
}

/// Threads of this process that write to an output.
fn log_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    tasks
        .filter(|it| fs::read_to_string(it.path().join("comm")).is_ok_and(|name| name == "log\n"))
        .count()
}

fn total(level: &str) -> u64 {
    counters().records.iter().find(|(name, _)| *name == level).expect("a level").1
}

fn all_settings(socket: &Path) -> Vec<LogSettings> {
    let mut of_formats = LogSettings {
        outputs: vec![OutputKind::Journald, OutputKind::Syslog, OutputKind::File],
        syslog_socket: socket.to_owned(),
        journald_socket: socket.with_extension("journald"),
        format: Format::Json,
        ..LogSettings::default()
    };
    of_formats.formats.set(OutputKind::File, Format::Report);
    vec![
        LogSettings::default(),
        of_formats,
        LogSettings { format: Format::Json, ..LogSettings::default() },
        LogSettings {
            outputs: vec![OutputKind::File, OutputKind::Syslog],
            syslog_socket: socket.to_owned(),
            ..LogSettings::default()
        },
    ]
}

fn change(log: &Log, settings: &LogSettings) {
    log.reconfigure(settings).expect("the outputs open").commit();
}

#[test]
fn other_settings_lose_and_double_no_record_and_leave_no_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("Own_log.txt");
    let log = logging::start(folder.path(), "Own", &LogSettings::default()).expect("a log");
    no_record_is_lost_or_doubled(&log, folder.path(), &file);
    a_change_that_fails_or_is_dropped_changes_nothing(&log, &file);
    levels_change(&log, &file);
    drops_and_waiting_bytes_are_counted(&log, folder.path());
}

const THREADS: usize = 4;
const RECORDS: usize = 20_000;

fn no_record_is_lost_or_doubled(log: &Log, folder: &Path, file: &Path) {
    let before = total("info");
    let is_over = AtomicBool::new(false);
    let socket = folder.join("socket");
    let daemon = UnixDatagram::bind(&socket).expect("a socket");
    let journald = UnixDatagram::bind(socket.with_extension("journald")).expect("a socket");
    let mut reads = 0;
    let received = std::thread::scope(|scope| {
        let read = |daemon: UnixDatagram| {
            let is_over = &is_over;
            scope.spawn(move || {
                daemon.set_read_timeout(Some(std::time::Duration::from_millis(20))).expect("ours");
                let (mut texts, mut datagram) = (String::new(), [0; 4_096]);
                loop {
                    match daemon.recv(&mut datagram) {
                        Ok(length) => texts += &String::from_utf8_lossy(&datagram[..length]),
                        Err(_) if is_over.load(Relaxed) => return texts,
                        Err(_) => {}
                    }
                }
            })
        };
        let readers = [read(daemon), read(journald)];
        let write = |thread: usize| {
            move || {
                for number in 0..RECORDS {
                    match number % 3 {
                        0 => log::info!(target: target::CLIENT, "Noted: {thread} {number}"),
                        _ => Traffic::Client.received("T", format!("{thread} {number}").as_bytes()),
                    }
                    // The first one has no text of its own.
                    if thread > 0 && number % 10 == 0 {
                        log.submit();
                    }
                }
            }
        };
        let writers: Vec<_> = (0..THREADS).map(|thread| scope.spawn(write(thread))).collect();
        let settings = all_settings(&socket);
        while !writers.iter().all(|writer| writer.is_finished()) {
            // As logrotate does.
            fs::rename(file, file.with_extension(reads.to_string())).expect("it is there");
            log.reopen();
            change(log, &settings[reads % settings.len()]);
            reads += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        writers.into_iter().for_each(|writer| writer.join().expect("it ends"));
        change(log, &LogSettings::default());
        log.finish();
        wait_until(LIMIT, "one thread is left, that of the file", || log_threads() == 1);
        is_over.store(true, Relaxed);
        readers.map(|reader| reader.join().expect("it ends"))
    });
    assert!(reads > settings_count(), "{reads} changes");
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            text += &fs::read_to_string(entry.path()).expect("a log");
        }
    }
    let counts = numbered(&text);
    assert_eq!(counts.len(), THREADS * RECORDS);
    assert!(counts.values().all(|count| *count == 1), "a record is there twice");
    for text in received {
        let counts = numbered(&text);
        assert!(!counts.is_empty(), "it was in use for a while");
        // A journal's JSON message repeats nothing of the text.
        assert!(counts.values().all(|count| *count == 1), "a datagram is there twice");
    }
    let own = text.matches("Log reopened.").count();
    assert_eq!((total("info") - before) as usize, THREADS * RECORDS + own);
    let dropped: u64 = counters().outputs.iter().map(|it| it.dropped).sum();
    assert_eq!(dropped, 0, "{:?}", counters());
}

fn settings_count() -> usize {
    all_settings(Path::new("/")).len()
}

fn a_change_that_fails_or_is_dropped_changes_nothing(log: &Log, file: &Path) {
    let json = LogSettings { format: Format::Json, ..LogSettings::default() };
    let with_syslog =
        LogSettings { outputs: vec![OutputKind::File, OutputKind::Syslog], ..json.clone() };
    drop(log.reconfigure(&with_syslog).expect("the outputs open"));
    let moved = file.with_extension("moved");
    fs::rename(file, &moved).expect("it is there");
    fs::create_dir(file).expect("a folder in its place");
    let error = log.reconfigure(&with_syslog).expect_err("a folder is no file").to_string();
    assert!(
        error.starts_with("can't write the log ") && error.contains("Is a directory"),
        "{error}"
    );
    log::info!(target: target::CLIENT, "as before");
    log.finish();
    let text = fs::read_to_string(moved).expect("a log");
    assert!(text.ends_with(" - INFO: as before\n"), "{text}");
    wait_until(LIMIT, "the thread of syslog has ended", || log_threads() == 1);
    fs::remove_dir(file).expect("it is empty");
    change(log, &LogSettings::default());
    log.finish();
    // A change of settings opens no file that is in use already: a rotation asks for that.
    assert!(!file.exists() || fs::read_to_string(file).expect("a log").is_empty());
    log.reopen();
    log.finish();
    assert!(fs::read_to_string(file).expect("a log").ends_with("Log reopened.\n"));
}

fn levels_change(log: &Log, file: &Path) {
    let mut settings = LogSettings::default();
    settings.levels.all = LevelFilter::Warn;
    settings.levels.set(target::LINK, LevelFilter::Debug);
    change(log, &settings);
    log::info!(target: target::LOOP, "not recorded");
    Traffic::Client.received("T", b"not recorded");
    log::debug!(target: target::LINK, "recorded one");
    Traffic::LinkMarks.received("T", b"recorded two");
    log.finish();
    change(log, &LogSettings::default());
    log::debug!(target: target::LINK, "not recorded");
    Traffic::LinkMarks.received("T", b"not recorded");
    log::info!(target: target::LOOP, "recorded three");
    log.finish();
    let text = fs::read_to_string(file).expect("a log");
    let recorded = text.lines().filter(|it| it.contains("recorded"));
    let recorded: Vec<&str> = recorded.filter_map(|it| it.split(" - ").nth(1)).collect();
    let expected =
        ["DEBUG: recorded one", "DEBUG: Received from T: recorded two", "INFO: recorded three"];
    assert_eq!(recorded, expected);
}

fn drops_and_waiting_bytes_are_counted(log: &Log, folder: &Path) {
    let of = |output: OutputKind| {
        counters().outputs.into_iter().find(|it| it.output == output).expect("it was in use")
    };
    let before = of(OutputKind::Syslog).dropped;
    let settings = LogSettings {
        outputs: vec![OutputKind::File, OutputKind::Syslog],
        syslog_socket: folder.join("nobody"),
        ..LogSettings::default()
    };
    change(log, &settings);
    for _ in 0..10 {
        Traffic::Client.received("T", b"for nobody");
    }
    log.finish();
    assert_eq!(of(OutputKind::Syslog).dropped - before, 10);
    let daemon = UnixDatagram::bind(folder.join("nobody")).expect("a socket");
    // It is not read: what its queue does not take waits.
    for _ in 0..10_000 {
        Traffic::Client.received("T", b"waits");
    }
    log.submit();
    wait_until(LIMIT, "the file has all", || of(OutputKind::File).pending_bytes == 0);
    assert!(of(OutputKind::Syslog).pending_bytes > 100_000, "{:?}", counters());
    drop(daemon);
    wait_until(LIMIT, "nothing waits", || of(OutputKind::Syslog).pending_bytes == 0);
    assert_eq!(of(OutputKind::File).dropped, 0);
    assert!(of(OutputKind::Syslog).dropped - before > 9_000, "{:?}", counters());
}
