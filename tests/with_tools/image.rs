//! The image of `contrib/image`, built without a registry or a daemon: the program in it runs as a user without
//! privileges, is healthy, and stops as a container is stopped.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::LIMIT;
use crate::common::needs::{Outcome, kernel, tool};

/// Everything that `image.sh` mounts, starts and listens on goes with its namespaces.
const NAMESPACES: [&str; 6] =
    ["--net", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child"];

pub fn the_image_serves_clients_is_healthy_and_stops() -> Outcome {
    for program in ["bash", "buildah", "ip", "jq", "pgrep", "timeout", "unshare"] {
        tool(program)?;
    }
    let is_root = rustix::process::geteuid().is_root();
    kernel(is_root, "buildah runs a container in a chroot, which only root may do")?;
    let made = Command::new("unshare").args(NAMESPACES).arg("true").stderr(Stdio::null()).status();
    kernel(made.is_ok_and(|status| status.success()), "namespaces are not permitted here")?;

    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/with_tools/image.sh");
    let mut run = Command::new("unshare");
    run.args(NAMESPACES).args(["timeout", "240"]).arg(script);
    run.arg(env!("CARGO_BIN_EXE_herd-mio")).arg(folder.path()).stdin(Stdio::null());
    let output = run.output().expect("it runs");
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{failed}");
    let said: Vec<&str> = said.lines().collect();
    assert!(said[0].starts_with("herd-mio "), "{said:?}");
    assert_eq!(said[1..], ["AT AT kiwi +1.0-2.0 1", "status 0"]);

    // The builder copies standard error, and may end before it has written all of that.
    let read =
        || fs::read_to_string(folder.path().join("log")).expect("standard error of the server");
    let begin = Instant::now();
    let mut log = read();
    while !log.contains("INFO: Goloman has stopped") {
        assert!(begin.elapsed() < LIMIT, "{log}");
        std::thread::sleep(Duration::from_millis(20));
        log = read();
    }
    assert!(!log.contains("time zone"), "{log}");
    let image = fs::read(folder.path().join("image.json")).expect("what buildah says of the image");
    let image: Value = serde_json::from_slice(&image).expect("valid JSON");
    let config = &image["Docker"]["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["ExposedPorts"], json!({"12138/tcp": {}, "22138/tcp": {}}));
    let check = json!(["CMD", "/herd-mio", "--probe", "http://127.0.0.1:32138/livez"]);
    assert_eq!(config["Healthcheck"]["Test"], check);
    Ok(())
}
