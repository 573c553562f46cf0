//! `contrib/logrotate/herd-mio` as logrotate runs it: no record is lost or doubled, without `copytruncate`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use crate::common::needs::{Outcome, tool};
use crate::common::{LIMIT, ServerProcess, Setup, wait_until};

pub fn no_record_is_lost_or_doubled_by_a_rotation() -> Outcome {
    rotate_while_clients_write(Load {
        rotations: 5,
        pause: Duration::from_millis(100),
        lines: 2_000,
    })
}

/// At 50,000 records a second, two for each line.
pub fn rotations_for_a_minute() -> Outcome {
    rotate_while_clients_write(Load { rotations: 60, pause: Duration::from_secs(1), lines: 25_000 })
}

struct Load {
    rotations: usize,
    /// Between two rotations.
    pause: Duration,
    /// Sent in a second.
    lines: u32,
}

fn rotate_while_clients_write(load: Load) -> Outcome {
    tool("pgrep")?;
    let logrotate = || tool("logrotate");
    logrotate()?;
    let setup = Setup::alone().any_port();
    let server = setup.start("Goloman");
    let folder = setup.folder.path();
    let config = folder.join("logrotate.conf");
    fs::write(&config, as_here(&server, folder, load.rotations)).expect("it can be written");

    let time = load.pause * load.rotations as u32;
    let stream = TcpStream::connect(server.clients).expect("it listens");
    let writer = thread::spawn(move || write_lines(stream, load.lines, time));
    for _ in 0..load.rotations {
        let begin = Instant::now();
        let mut rotate = logrotate()?;
        rotate.arg("--force").arg("--state").arg(folder.join("state")).arg(&config);
        let output = rotate.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
        // The server makes the new file when it has read the signal; logrotate comes once a day.
        wait_until(LIMIT, "a new log is there", || server.log_file.exists());
        thread::sleep(load.pause.saturating_sub(begin.elapsed()));
    }
    let sent = writer.join().expect("it does not panic");
    server.stop();

    let found = records(folder);
    let lost = (0..sent).find(|number| !found.contains_key(number));
    assert_eq!(lost, None, "of {sent}");
    let doubled = found.iter().find(|(_, count)| **count != [1, 1]);
    assert_eq!(doubled, None, "received and sent once each");
    assert_eq!(found.len() as u32, sent);
    let files = fs::read_dir(folder).expect("it is there").flatten();
    let rotated =
        files.filter(|file| file.file_name().to_string_lossy().starts_with("Goloman_log.txt."));
    assert_eq!(rotated.count(), load.rotations, "each rotation renamed a log");
    Ok(())
}

/// The file of `contrib/`, for this folder, and with a signal for this server alone.
fn as_here(server: &ServerProcess, folder: &Path, rotations: usize) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/logrotate/herd-mio");
    let mut text = fs::read_to_string(path).expect("it is there");
    let pgrep = Command::new("pgrep").args(["-x", "herd-mio"]).output().expect("it runs");
    let found = String::from_utf8_lossy(&pgrep.stdout).into_owned();
    let pid = server.pid().to_string();
    assert!(found.lines().any(|line| line == pid), "its pattern matches {pid}: {found}");
    let folder = folder.display().to_string();
    for (written, here) in [
        ("/var/log/herd-mio/*", &format!("{folder}/*")),
        ("pkill -USR1 -x herd-mio || true", &format!("kill -USR1 {pid}")),
        ("    su herd-mio herd-mio\n", &String::new()), // The servers of this test run as its own user.
        ("rotate 14", &format!("rotate {}", rotations + 1)),
    ] {
        assert_eq!(text.matches(written).count(), 1, "{written}");
        text = text.replace(written, here);
    }
    text
}

/// Sends `rate` lines a second for this time, each with another id, and returns how many.
fn write_lines(mut stream: TcpStream, rate: u32, time: Duration) -> u32 {
    let mut answers = stream.try_clone().expect("a descriptor");
    let reader = thread::spawn(move || {
        let mut count = 0;
        let mut bytes = [0; 64 * 1024];
        while let Ok(length @ 1..) = answers.read(&mut bytes) {
            count += bytes[..length].iter().filter(|&&byte| byte == b'\n').count() as u32;
        }
        count
    });
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < time {
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as u32;
        let lines: String =
            (sent..due).map(|number| format!("IAMAT n{number} +1.0+2.0 10\n")).collect();
        stream.write_all(lines.as_bytes()).expect("the server reads");
        sent = sent.max(due);
        thread::sleep(Duration::from_millis(5));
    }
    stream.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(reader.join().expect("it does not panic"), sent, "each line is answered");
    sent
}

/// How often each number was received and sent, by the records in all files.
fn records(folder: &Path) -> HashMap<u32, [u32; 2]> {
    let mut found: HashMap<u32, [u32; 2]> = HashMap::new();
    for file in fs::read_dir(folder).expect("it is there").flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if !name.starts_with("Goloman_log.txt") {
            continue;
        }
        let mut text = String::new();
        let mut opened = File::open(file.path()).expect("it is there");
        let read = match name.ends_with(".gz") {
            true => GzDecoder::new(opened).read_to_string(&mut text),
            false => opened.read_to_string(&mut text),
        };
        read.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.is_empty() || text.ends_with('\n'), "{name} ends within a record");
        for record in text.lines() {
            let kind = match record {
                _ if record.contains(" INFO: Received from ") => 0,
                _ if record.contains(" INFO: Sent to ") => 1,
                _ => continue,
            };
            let number = record.split(" n").nth(1).and_then(|rest| rest.split(' ').next());
            let number = number.and_then(|number| number.parse().ok());
            found.entry(number.unwrap_or_else(|| panic!("{record}"))).or_default()[kind] += 1;
        }
    }
    found
}
