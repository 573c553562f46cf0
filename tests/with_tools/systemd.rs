//! The unit of `contrib/systemd` by systemd's own tools, and the server under what the unit forbids. No service manager
//! is started.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::common::certificates::Certificates;
use crate::common::http::get;
use crate::common::needs::{Outcome, kernel, tool};
use crate::common::ports::reserve;
use crate::common::process::{Running, through};
use crate::common::process::{administered, follow, listens, send_signal, status_of};
use crate::common::service_manager::{ServiceManager, count};
use crate::common::{Client, LIMIT, ServerProcess, Setup, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_herd-mio");
const LINE: &str = "IAMAT kiwi +1.0+2.0 10";
const ANSWER: &str = "AT AT kiwi +1.0+2.0 10";

pub fn unit_files_are_verified() -> Outcome {
    let folder = units()?;
    let at = |name: &str| folder.path().join(name);
    let mut analyze = tool("systemd-analyze")?;
    analyze.args(["verify", "--man=no"]).arg(at("herd-mio@.service")).arg(at("herd-mio@.socket"));
    let verified = analyze.output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // It may complain of units of the machine itself.
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("herd-mio")).collect();
    assert!(verified.status.success() && about_ours.is_empty(), "{said}");
    // It notices a mistake.
    let unit = fs::read_to_string(at("herd-mio@.service")).expect("a file");
    fs::write(at("herd-mio@.service"), unit.replace("WatchdogSec=15s", "WatchdogSec=soon"))
        .expect("one");
    let refused = analyze.output().expect("it runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("herd-mio@.service:"), "{refused:?}");
    Ok(())
}

pub fn unit_is_hardened() -> Outcome {
    let mut analyze = tool("systemd-analyze")?;
    analyze.args(["security", "--offline=true", "--threshold=20", "--no-pager"]);
    let judged = analyze.arg(contrib("herd-mio@.service")).output().expect("it runs");
    let said = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(judged.status.success(), "{said}");
    let level = said.split("Overall exposure level for herd-mio@i.service: ").nth(1);
    let level = level.and_then(|rest| rest.split(' ').next()).expect("a level");
    assert!(level.parse::<f64>().expect("a number") <= 1.2, "{level}");
    // What that level does not depend on.
    for line in [
        "Type=notify",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "TimeoutStopSec=75s",
        "WatchdogSec=15s",
        "LimitNOFILE=65536",
        "LogsDirectory=herd-mio",
        "StateDirectory=herd-mio",
        "User=herd-mio",
    ] {
        assert_eq!(
            values(line.split_once('=').expect("a value").0),
            [line.split_once('=').expect("one").1]
        );
    }
    Ok(())
}

pub fn unit_has_a_user_that_sysusers_makes() -> Outcome {
    tool("systemd-analyze")?; // Of the same package.
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(root.path().join("usr/lib/sysusers.d")).expect("a folder");
    fs::create_dir_all(root.path().join("etc")).expect("a folder");
    let file = root.path().join("usr/lib/sysusers.d/herd-mio.conf");
    fs::copy(contrib("herd-mio.sysusers"), file).expect("a file");
    let made = Command::new("systemd-sysusers").arg("--root").arg(root.path()).output();
    let made = made.expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for file in ["etc/passwd", "etc/group"] {
        let text = fs::read_to_string(root.path().join(file)).expect("it was made");
        assert!(text.lines().any(|line| line.starts_with("herd-mio:")), "{file}: {text}");
    }
    Ok(())
}

/// The words of `ExecStart=`, with the program and the folders of this test in place of those that are installed.
pub fn unit_starts_a_server_that_is_ready_and_reloads() -> Outcome {
    let setup = Setup::alone();
    let config = setup.config_file("Goloman");
    let [start] = &values("ExecStart")[..] else { panic!("one command") };
    let folder = setup.folder.path().to_str().expect("text");
    let start = start.replace("/usr/bin/herd-mio", PROGRAM).replace("%i", "Goloman");
    let start = start.replace("/etc/herd-mio/herd.toml", config.to_str().expect("text"));
    let start = start.replace("/var/log/herd-mio", folder);
    let mut words = start.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).env_remove("HERD_PLACES_KEY");
    let manager = ServiceManager::new();
    manager.watch(&mut command, Some(Duration::from_secs(15)));
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let seen = manager.wait_for("WATCHDOG=1");
    assert_eq!(count(&seen, "READY=1"), 1, "{seen:?}");
    let [reload] = &values("ExecReload")[..] else { panic!("one command") };
    let reload = reload.replace("$MAINPID", &server.pid().to_string());
    let words: Vec<&str> = reload.split(' ').collect();
    assert!(Command::new(words[0]).args(&words[1..]).status().expect("it is there").success());
    let seen = manager.wait_for("READY=1");
    assert_eq!(count(&seen, "RELOADING=1"), 1, "{seen:?}");
    server.assert_serves();
    assert!(server.stop().success());
    Ok(())
}

pub fn activation_passes_the_ports_of_clients_neighbours_and_operators() -> Outcome {
    let mut activate = tool("systemd-socket-activate")?;
    let setup = Setup::star(&["Hands"]);
    let ports = [reserve(), reserve(), reserve()];
    for port in &ports {
        activate.arg("-l").arg(port.address().to_string());
    }
    let command = setup.command("Goloman");
    activate
        .arg("--fdname=clients:peers:admin")
        .arg(command.get_program())
        .args(command.get_args());
    activate.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = activate.spawn().expect("it runs");
    let said = follow(child.stderr.take().expect("it is piped"));
    let mut server = Running(child);
    let [clients, peers, admin] = ports.each_ref().map(|port| port.address());
    // It starts the server when somebody connects, who waits so long.
    wait_until(LIMIT, "systemd listens", || Client::try_connect(clients).is_ok());
    assert_eq!(Client::connect(clients).ask(LINE), ANSWER);
    let said = || said.lock().expect("the reader does not panic").clone();
    // It answers whoever waited for it as soon as it serves, and says so when somebody reads that.
    wait_until(LIMIT, "it says where it listens", || listens(&said(), "Goloman").is_some());
    assert_eq!(listens(&said(), "Goloman"), Some((clients, peers)), "{}", said());
    assert_eq!(administered(&said()), Some(admin));
    assert_eq!(get(admin, "/livez").status, 200);
    send_signal(server.0.id(), Signal::TERM);
    assert_eq!(status_of(&mut server.0), Some(0));
    Ok(())
}

/// The filter of the unit would end the process at the first call that it does not know.
pub fn system_calls_are_those_that_the_unit_allows() -> Outcome {
    let allowed = allowed_calls()?;
    let mut strace = tool("strace")?;
    let traced = strace.args(["-qq", "-o", "/dev/null", "true"]).status();
    kernel(traced.is_ok_and(|status| status.success()), "strace may not trace here")?;
    let certificates = Certificates::new(&["Goloman", "Hands"]);
    let at = certificates.folder().display();
    let setup = Setup::star(&["Hands"]).section(&format!(
        "[log]\noutputs = [\"file\", \"stderr\", \"syslog\", \"journald\"]\nsyslog_socket = \"/nowhere\"\n\
         journald_socket = \"/nowhere\"\n[stop]\ndrain_delay = \"100ms\"\ndrain_duration = \"1s\"\n\
         [tls]\ncertificate = \"{at}/{{name}}.pem\"\nkey = \"{at}/{{name}}.key\"\n\
         [tls.clients]\naccept = \"both\"\n[admin]\ntls = true\n\
         [tls.neighbours]\naccept = \"tls\"\ndial = \"tls\"\nca = \"{at}/herd-ca.pem\""
    ));
    let trace = setup.folder.path().join("trace");
    let mut command = setup.command("Goloman");
    // A name is looked up, and an API key asks for TLS with a service that is not there.
    let url = format!("https://localhost:{}/x", reserve().number);
    command.args(["--admin", "127.0.0.1:0", "--places=google", "--places-url", &url]);
    let trace_file = trace.to_str().expect("text");
    // With -D the tracer is the server's child, and not the other way round.
    let mut command =
        through(&["strace", "-D", "-f", "-qq", "-s", "0", "-o", trace_file], &command);
    command.env("HERD_PLACES_KEY", "sesame");
    let manager = ServiceManager::new();
    manager.watch(&mut command, Some(Duration::from_secs(2)));
    let mut server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let hands = setup.start("Hands");
    busy(&server, &setup, &certificates.path("herd-ca.pem"));
    manager.wait_for("WATCHDOG=1");
    hands.stop();
    server.signal(Signal::USR2);
    assert!(server.wait().success());
    let traced = || fs::read_to_string(&trace).unwrap_or_default();
    wait_until(LIMIT, "the trace is complete", || traced().contains("exit_group("));
    let called = calls(&traced());
    assert!(called.len() > 30 && called.contains("epoll_wait"), "{called:?}");
    let outside: Vec<&String> = called.difference(&allowed).collect();
    assert!(outside.is_empty(), "not allowed by the unit: {outside:?}");
    Ok(())
}

/// `ProcSubset=pid` and `ProtectProc=invisible`.
pub fn process_metrics_are_right_where_only_processes_are_seen_in_proc() -> Outcome {
    let mut unshare = tool("unshare")?;
    let mount = "mount -t proc -o subset=pid,hidepid=invisible proc /proc && exec \"$@\"";
    let words = ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mount, "sh"];
    let can = unshare.args(words).args(["ls", "/proc/self/stat"]).output();
    kernel(can.is_ok_and(|it| it.status.success()), "no such /proc can be mounted")?;
    let setup = Setup::alone();
    let mut command = setup.command("Goloman");
    command.args(["--admin", "127.0.0.1:0"]);
    let command = through(&[&["unshare"], &words[..]].concat(), &command);
    let before = seconds_since_1970();
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let metrics = get(server.admin(), "/metrics").text();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.expect("the metric").trim().parse().expect("a number")
    };
    let start = value("process_start_time_seconds ");
    assert!((before - 60.0..=seconds_since_1970()).contains(&start), "{start}");
    assert!(value("process_resident_memory_bytes ") > 1e6);
    server.assert_serves();
    Ok(())
}

/// All that a server does in its life.
fn busy(server: &ServerProcess, setup: &Setup, ca: &Path) {
    let mut client = server.client();
    assert_eq!(client.ask(LINE), ANSWER);
    client.whatsat("kiwi", "10", "5");
    server.wait_for_log("The link to Hands is up");
    for path in ["/metrics", "/varz", "/connz", "/linksz", "/healthz"] {
        let url = format!("https://{}{path}", server.admin());
        let probe = Command::new(PROGRAM).args(["--probe", &url, "--probe-ca"]).arg(ca).output();
        let probe = probe.expect("it runs");
        assert!(probe.status.success(), "{}", String::from_utf8_lossy(&probe.stderr));
    }
    client.reset();
    let file = setup.folder.path().join("Goloman.toml");
    let text = fs::read_to_string(&file).expect("the file");
    let old = setup.clients_address("Goloman").to_string();
    let new: SocketAddr = reserve().address();
    let moved = text.replace(&old, &new.to_string()) + "\n[reload]\nwatch = \"1s\"\n";
    fs::write(&file, moved).expect("a file");
    server.signal(Signal::HUP);
    server.wait_for_log("configuration reloaded: ");
    setup.move_log_away("Goloman");
    server.signal(Signal::USR1);
    server.wait_for_log("Log reopened");
}

/// The names of the system calls in a trace.
fn calls(trace: &str) -> BTreeSet<String> {
    let of_line = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let name = call.split_once('(')?.0;
        let is_name =
            !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
        is_name.then(|| name.to_owned())
    };
    trace.lines().filter_map(of_line).collect()
}

/// The filter of the unit as systemd would apply it: what `@default` holds is always allowed.
fn allowed_calls() -> Result<BTreeSet<String>, crate::common::needs::Missing> {
    let mut allowed = expand("@default")?;
    let always = allowed.clone();
    for filter in values("SystemCallFilter") {
        let (is_removed, names) = match filter.strip_prefix('~') {
            Some(names) => (true, names.to_owned()),
            None => (false, filter),
        };
        for name in names.split_whitespace() {
            let set = expand(name)?;
            match is_removed {
                true => allowed.retain(|call| !set.contains(call)),
                false => allowed.extend(set),
            }
        }
    }
    assert!(!allowed.contains("setrlimit") && !allowed.contains("mount"), "what it forbids");
    allowed.extend(always);
    Ok(allowed)
}

/// The calls of a group, with those of the groups in it.
fn expand(name: &str) -> Result<BTreeSet<String>, crate::common::needs::Missing> {
    if !name.starts_with('@') {
        return Ok(BTreeSet::from([name.to_owned()]));
    }
    let output = tool("systemd-analyze")?.args(["syscall-filter", "--no-pager", name]).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{name}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut calls = BTreeSet::new();
    for member in text.lines().skip(1).map(str::trim).filter(|it| !it.starts_with('#')) {
        calls.extend(expand(member)?);
    }
    Ok(calls)
}

/// The values of a setting in the unit.
fn values(setting: &str) -> Vec<String> {
    let unit = fs::read_to_string(contrib("herd-mio@.service")).expect("the unit");
    let of_line = |line: &str| line.strip_prefix(setting)?.strip_prefix('=').map(str::to_owned);
    unit.lines().filter_map(of_line).collect()
}

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd").join(name)
}

/// The units, with a program that is there.
fn units() -> Result<tempfile::TempDir, crate::common::needs::Missing> {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["herd-mio@.service", "herd-mio@.socket"] {
        let text = fs::read_to_string(contrib(name)).expect("the unit");
        let text = text.replace("/usr/bin/herd-mio", PROGRAM);
        fs::write(folder.path().join(name), text).expect("a file");
    }
    Ok(folder)
}

fn seconds_since_1970() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("it is later").as_secs_f64()
}
