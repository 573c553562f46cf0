//! Claim: `nc` is client enough: the README's transcript works as written with Debian's netcat-openbsd.

mod common;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{LIMIT, Setup, wait_until};

#[test]
fn nc_gets_its_answer_and_the_end() {
    let Some(()) = netcat_is_here() else { return };
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let line = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997";
    let answer = "AT AT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997\n";
    assert_eq!(netcat(server.clients, &format!("{line}\n")), answer);
    assert_eq!(netcat(server.clients, line), answer, "without the last LF");
    assert_eq!(netcat(server.clients, "what\nis this\n"), "? what\n? is this\n");
}

#[test]
fn the_transcript_of_the_readme() {
    let Some(()) = netcat_is_here() else { return };
    let setup = Setup::report();
    let mut herd = setup.start_all();
    let goloman = setup.clients_address("Goloman");
    let hands = setup.clients_address("Hands");
    let welsh = setup.clients_address("Welsh");

    let at = "AT AT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997";
    let told =
        netcat(goloman, "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997\n");
    assert_eq!(told, format!("{at}\n"));

    let mut answer = String::new();
    wait_until(LIMIT, "Welsh, two hops away, knows kiwi", || {
        answer = netcat(welsh, "WHATSAT kiwi.cs.ucla.edu 10 5\n");
        answer.starts_with(at)
    });
    let body = answer.strip_prefix(&format!("{at}\n")).expect("the AT line is the first");
    assert!(
        body.ends_with("\n\n") && !body.trim_end().contains("\n\n"),
        "a blank line ends it: {answer}"
    );
    let body: serde_json::Value = serde_json::from_str(body).expect("the body is JSON");
    let results = body["results"].as_array().expect("results is an array");
    assert_eq!((results.len(), &body["status"]), (5, &serde_json::json!("OK")), "{answer}");
    for place in results {
        assert!(
            place["name"].as_str().is_some_and(|name| !name.is_empty()),
            "a real place: {place}"
        );
        let (latitude, longitude) = location(place);
        // Ten miles are less than 0.15 degrees of latitude and 0.18 of longitude there.
        assert!(
            (latitude - 34.06893).abs() < 0.15 && (longitude + 118.445127).abs() < 0.18,
            "around kiwi: {place}"
        );
    }

    // Welsh hears of the herd through Holiday alone.
    let holiday = herd.remove(2);
    assert_eq!(holiday.name, "Holiday");
    assert_eq!(holiday.stop().code(), Some(0));
    let news = netcat(hands, "IAMAT kiwi.cs.ucla.edu +40.000000-100.000000 1559865099.5\n");
    assert_eq!(news, "AT AT kiwi.cs.ucla.edu +40.000000-100.000000 1559865099.5\n");
    let before = netcat(welsh, "WHATSAT kiwi.cs.ucla.edu 10 0\n");
    assert!(before.starts_with(at), "nobody can have told Welsh: {before}");

    herd.push(setup.start("Holiday"));
    wait_until(LIMIT, "Welsh catches up", || {
        netcat(welsh, "WHATSAT kiwi.cs.ucla.edu 10 0\n").starts_with(news.trim_end())
    });
}

fn location(place: &serde_json::Value) -> (f64, f64) {
    let location = &place["geometry"]["location"];
    (location["lat"].as_f64().expect("lat"), location["lng"].as_f64().expect("lng"))
}

/// Says so where the tests are skipped.
fn netcat_is_here() -> Option<()> {
    let help = Command::new("nc").arg("-h").stdin(Stdio::null()).output();
    let is_openbsd =
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stderr).contains("OpenBSD"));
    if !is_openbsd {
        println!("skipped: netcat-openbsd is not installed");
    }
    is_openbsd.then_some(())
}

/// `printf … | nc -N HOST PORT`: what came until the server closed.
fn netcat(address: SocketAddr, input: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("input");
    std::fs::write(&file, input).expect("the temporary folder can be written");
    let child = Command::new("nc")
        .arg("-N")
        .args(["-w", &Duration::as_secs(&LIMIT).to_string()])
        .args([address.ip().to_string(), address.port().to_string()])
        .stdin(std::fs::File::open(&file).expect("just written"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("nc is there");
    let output = child.wait_with_output().expect("nc ends, for it has a time limit");
    assert!(output.status.success(), "nc: {:?}", output.status);
    String::from_utf8(output.stdout).expect("text")
}
