//! `nc` is client enough: Debian's netcat-openbsd gets each answer, and the end.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use crate::common::needs::{Missing, Outcome, netcat};
use crate::common::{LIMIT, Setup};

pub fn nc_gets_its_answer_and_the_end() -> Outcome {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let line = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997";
    let answer = "AT AT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997\n";
    assert_eq!(say(server.clients, &format!("{line}\n"))?, answer);
    assert_eq!(say(server.clients, line)?, answer, "without the last LF");
    assert_eq!(say(server.clients, "what\nis this\n")?, "? what\n? is this\n");
    Ok(())
}

/// `printf … | nc -N HOST PORT`: what came until the server closed.
fn say(address: SocketAddr, input: &str) -> Result<String, Missing> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("input");
    std::fs::write(&file, input).expect("the temporary folder can be written");
    let child = netcat()?
        .arg("-N")
        .args(["-w", &Duration::as_secs(&LIMIT).to_string()])
        .args([address.ip().to_string(), address.port().to_string()])
        .stdin(std::fs::File::open(&file).expect("just written"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("nc is there");
    let output = child.wait_with_output().expect("nc ends, for it has a time limit");
    assert!(output.status.success(), "nc: {:?}", output.status);
    Ok(String::from_utf8(output.stdout).expect("text"))
}
