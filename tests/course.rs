//! Claim: the course's herds run as `examples/herds/` describes them, for the course's clients; and `max_future`
//! can be set very high.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::ports::{Port, reserve};
use common::{ServerProcess, Setup, wait_until};
use herd_mio::config::Config;
use herd_mio::protocol::Dialect;

/// Each herd's links, as the assignment of its year gives them.
const HERDS: [(&str, &str); 6] = [
    ("alford", "Alford-Hamilton Alford-Welsh Ball-Holiday Ball-Welsh Hamilton-Holiday"),
    ("bailey", "Bailey-Bona Bailey-Campbell Bona-Campbell Bona-Clark Campbell-Jaquez Clark-Jaquez"),
    (
        "goloman",
        "Goloman-Hands Goloman-Holiday Goloman-Wilkes Hands-Wilkes Holiday-Welsh Holiday-Wilkes",
    ),
    (
        "hill",
        "Campbell-Singleton Campbell-Smith Hill-Jaquez Hill-Smith Jaquez-Singleton Singleton-Smith",
    ),
    (
        "juzang",
        "Bernard-Jaquez Bernard-Johnson Bernard-Juzang Clark-Jaquez Clark-Juzang Johnson-Juzang",
    ),
    (
        "riley",
        "Bernard-Campbell Bernard-Jaquez Bernard-Juzang Campbell-Juzang Jaquez-Riley Juzang-Riley",
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/herds")
}

fn links(config: &Config) -> String {
    let mut links = Vec::new();
    for server in &config.servers {
        for &other in &server.neighbours {
            let mut ends = [server.name.as_str(), config.servers[other].name.as_str()];
            ends.sort_unstable();
            links.push(ends.join("-"));
        }
    }
    links.sort();
    links.dedup();
    links.join(" ")
}

#[test]
fn every_herd_of_the_course_can_run_and_has_the_links_of_its_assignment() {
    let files = std::fs::read_dir(folder()).expect("examples/herds");
    let mut found: Vec<String> = files
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, HERDS.map(|(name, _)| format!("{name}.toml")));
    for (name, expected) in HERDS {
        let path = folder().join(format!("{name}.toml"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--check", "--config"]).arg(&path).env_remove("HERD_PLACES_KEY");
        let output = command.output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{name}: {:?}", output);
        assert!(!said.contains("warning"), "{name}: {said}");
        let config = Config::parse(&said).expect("check prints a configuration");
        assert_eq!(links(&config), expected, "{name}");
        assert_eq!(config.servers.len(), 5, "{name}");
        assert_eq!(config.dialect, Dialect::Course, "{name}");
        assert!(config.limits.line_pause.is_some(), "{name}");
        let ports: Vec<u16> = config.servers.iter().map(|server| server.listen.port()).collect();
        assert_eq!(ports, [12138, 12139, 12140, 12141, 12142], "{name}");
    }
}

/// One of the herds with ports that are free.
fn on_free_ports(name: &str, folder: &Path) -> (PathBuf, Vec<Port>) {
    let text = std::fs::read_to_string(self::folder().join(name)).expect("an example");
    let mut ports = Vec::new();
    let lines = text.lines().map(|line| match line.starts_with("listen = ") {
        true => {
            let (listen, peers) = (reserve(), reserve());
            let text = format!(
                "listen = \"{}\"\npeer_listen = \"{}\"\n",
                listen.address(),
                peers.address()
            );
            ports.extend([listen, peers]);
            text
        }
        false => format!("{line}\n"),
    });
    let text: String = lines.collect();
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the temporary folder can be written");
    (path, ports)
}

#[test]
fn a_herd_of_the_course_answers_clients_that_send_no_newline() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, _ports) = on_free_ports("hill.toml", folder.path());
    let start = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.arg(name).arg("--config").arg(&path).arg("--log-dir").arg(folder.path());
        command.env_remove("HERD_PLACES_KEY");
        ServerProcess::spawn(command, name, folder.path().join(format!("{name}_log.txt")))
    };
    let servers = ["Hill", "Jaquez", "Smith", "Campbell", "Singleton"].map(start);
    let iamat = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1520023934.918963997";
    let mut hill = servers[0].client();
    hill.send(iamat);
    let at = hill.line();
    assert!(at.starts_with("AT Hill +"), "{at}");
    assert!(at.ends_with(" kiwi.cs.ucla.edu +34.068930-118.445127 1520023934.918963997"), "{at}");
    // Campbell is not linked to Hill.
    let mut campbell = servers[3].client();
    wait_until(common::LIMIT, "Campbell knows where kiwi is", || {
        campbell.whatsat("kiwi.cs.ucla.edu", "10", "0").first == at
    });
    campbell.send("WHATSAT kiwi.cs.ucla.edu 10 5");
    let answer = campbell.answer();
    assert_eq!((answer.results().len(), answer.first), (5, at));
}

#[test]
fn max_future_may_be_set_very_high() {
    let ask = |ahead: &str, timestamp: &str| {
        let setup = Setup::alone().top(&format!("max_future = {ahead:?}")).any_port();
        let server = setup.start("Goloman");
        let line = format!("IAMAT kiwi +1.0+2.0 {timestamp}");
        let answer = server.client().ask(&line);
        server.assert_serves();
        answer.starts_with("AT AT kiwi ")
    };
    let of_2100 = "4102444800.5";
    assert!(!ask("8760h", of_2100), "a year was the limit");
    assert!(ask("876000h", of_2100), "a hundred years");
    let most = format!("{}ms", u64::MAX);
    assert!(ask(&most, of_2100));
    assert!(ask(&most, "18446744073709551.615"), "all that can be written");
    assert!(!ask(&most, "999999999999999999"), "more than that");
}

#[test]
fn two_servers_that_allow_the_most_agree() {
    let setup = Setup::star(&["Hands"]).top(&format!("max_future = \"{}ms\"", u64::MAX));
    let (goloman, hands) = (setup.start("Goloman"), setup.start("Hands"));
    let line = "AT AT kiwi +1.0+2.0 18446744073709551.615";
    assert_eq!(goloman.client().ask("IAMAT kiwi +1.0+2.0 18446744073709551.615"), line);
    let mut client = hands.client();
    wait_until(common::LIMIT, "Hands knows it", || client.whatsat("kiwi", "1", "0").first == line);
    hands.wait_for_log(&format!("Received from Goloman: SETTINGS report 1000000 {}", u64::MAX));
    let log = hands.log();
    // Who is dialled before it listens is warned of, too.
    let is_of_settings = |record: &str| record.contains("WARNING") && record.contains("ahead");
    assert!(!log.lines().any(is_of_settings), "{log}");
}
