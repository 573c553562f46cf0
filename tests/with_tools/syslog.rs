//! The log's outputs, read by the tools that operators have.

use std::fs;
use std::process::Stdio;

use crate::common::needs::{Outcome, tool};
use crate::common::process::Running;
use crate::common::{LIMIT, Setup, wait_until};

/// What a session of a hostile client has in its ids and lines.
const LINES: [&[u8]; 4] = [
    b"IAMAT <3>forged\x1b[31m +1.0+2.0 10\n",
    b"IAMAT ki\"wi\\n\xff\xe2\x80\xa8 +1.0+2.0 10\n",
    b"<0>Nov 26 18:30:55 other[1]: forged\n",
    b"\",\"event\":\"forged\"}\n",
];

pub fn rsyslogd_stores_each_record_with_its_level_and_its_server() -> Outcome {
    let mut rsyslogd = tool("rsyslogd")?;
    let setup = Setup::alone();
    let folder = setup.folder.path().to_str().expect("a path is text").to_owned();
    let socket = format!("{folder}/log");
    let configuration = format!(
        "module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imuxsock\" Socket=\"{socket}\")\n\
         global(workDirectory=\"{folder}\")\n\
         template(name=\"all\" type=\"string\" \
         string=\"%programname%|%syslogtag%|%syslogseverity%|%syslogfacility-text%|%msg%\\n\")\n\
         *.* action(type=\"omfile\" file=\"{folder}/stored\" template=\"all\")\n"
    );
    fs::write(setup.folder.path().join("rsyslog.conf"), configuration).expect("a file");
    rsyslogd.args(["-n", "-f", &format!("{folder}/rsyslog.conf"), "-i", &format!("{folder}/pid")]);
    rsyslogd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _rsyslogd = Running(rsyslogd.spawn().expect("it runs"));
    wait_until(LIMIT, "it listens", || fs::exists(&socket).is_ok_and(|is_there| is_there));
    let setup = setup
        .section(&format!("[log]\noutputs = [\"syslog\", \"file\"]\nsyslog_socket = \"{socket}\""));
    let server = setup.start("Goloman");
    say_all(&server);
    let pid = server.pid();
    let log_file = server.log_file.clone();
    server.stop();
    let stored = || fs::read_to_string(format!("{folder}/stored")).unwrap_or_default();
    let of_server = || -> Vec<String> {
        let head = format!("herd-mio|herd-mio/Goloman[{pid}]:|");
        stored().lines().filter_map(|it| it.strip_prefix(&head).map(str::to_owned)).collect()
    };
    wait_until(LIMIT, "the end is stored", || stored().contains("|daemon| Goloman has stopped.\n"));
    let log = fs::read_to_string(log_file).expect("a log");
    let level = |record: &str| {
        let (level, message) = record.split(" - ").nth(1)?.split_once(": ")?;
        let severity = if level == "WARNING" { "4" } else { "6" };
        Some(format!("{severity}|daemon| {message}"))
    };
    assert_eq!(of_server(), log.lines().filter_map(level).collect::<Vec<_>>());
    assert_eq!(of_server().len(), stored().lines().count(), "{}", stored());
    assert!(stored().contains("|4|daemon| Refused from"), "{}", stored());
    Ok(())
}

pub fn jq_reads_each_line_of_the_log() -> Outcome {
    let mut jq = tool("jq")?;
    let setup = Setup::alone().section("[log]\nformat = \"json\"");
    let server = setup.start("Goloman");
    say_all(&server);
    let log_file = server.log_file.clone();
    server.stop();
    let read = jq.args(["-e", "-r", ".event"]).arg(&log_file).output().expect("it runs");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let events = String::from_utf8(read.stdout).expect("text");
    let lines = fs::read_to_string(log_file).expect("a log").lines().count();
    assert_eq!(events.lines().count(), lines, "{events}");
    assert_eq!(events.matches("line_received\n").count(), LINES.len());
    assert!(!events.contains("forged"), "{events}");
    Ok(())
}

fn say_all(server: &crate::common::ServerProcess) {
    let mut client = server.client();
    for line in LINES {
        client.send(line);
        client.line_bytes();
    }
    drop(client);
    server.wait_for_log("is disconnected.");
}
