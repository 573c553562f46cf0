//! A state directory on a disk that is full, or that can only be read. Each file system is mounted where the test's own
//! server sees it, and nobody else.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use herd_mio::limits::STATE_STUCK_AFTER;
use rustix::process::Signal;

use crate::common::client::Next;
use crate::common::http::get;
use crate::common::needs::{Missing, Outcome, kernel, tool};
use crate::common::process::{Running, through};
use crate::common::{Client, LIMIT, ServerProcess, Setup, run_to_end, wait_until};

const SMALL: &str = "mount -t tmpfs -o size=8m tmpfs \"$0\"";
const EXT4: &str = "truncate -s 64M \"$0.image\" && mke2fs -t ext4 -q -F \"$0.image\" && \
                    mount -o loop,errors=remount-ro \"$0.image\" \"$0\"";

/// A server whose state directory is the root of a file system of its own.
struct Mounted {
    setup: Setup,
    folder: PathBuf,
    /// The process in whose mount namespace it is.
    keeper: Running,
}

impl Mounted {
    /// `script` mounts it at `$0`.
    fn new(script: &str, ack: &str) -> Result<Mounted, Missing> {
        let mut unshare = tool("unshare")?;
        let setup = Setup::alone();
        let folder = setup.folder.path().join("state");
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        let said = setup.folder.path().join("mounted");
        let script = format!("{script} && touch \"$1\" && exec sleep 3600");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        unshare.args([&folder, &said]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut keeper = Running(unshare.stderr(Stdio::null()).spawn().expect("unshare starts"));
        let mut has_ended = false;
        wait_until(LIMIT, "the file system is mounted, or is not", || {
            has_ended = keeper.0.try_wait().expect("it is our child").is_some();
            has_ended || said.exists()
        });
        kernel(!has_ended, "mounts of a process's own are not permitted here")?;
        let section = format!("[state]\ndir = {folder:?}\nack = {ack:?}");
        Ok(Mounted { setup: setup.section(&section), folder, keeper })
    }

    fn command(&self) -> Command {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.keeper.0.id());
        let mut command = self.setup.command("Goloman");
        command.args(["--admin", "127.0.0.1:0"]);
        through(&["nsenter", &namespace], &command)
    }

    fn start(&self) -> ServerProcess {
        ServerProcess::spawn(self.command(), "Goloman", self.setup.log_file("Goloman"))
    }

    /// Runs a script where the file system is seen, as `$0`.
    fn run(&self, script: &str) {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.keeper.0.id());
        let mut command = Command::new("nsenter");
        command.args([&namespace, "sh", "-c", script]).arg(&self.folder);
        let ended = run_to_end(command);
        assert_eq!(ended.code, Some(0), "{script}: {}", ended.stderr);
    }

    /// The path of a file of the file system, as this process sees it.
    fn file(&self, name: &str) -> PathBuf {
        let below_root = self.folder.strip_prefix("/").expect("temporary folders have whole paths");
        Path::new(&format!("/proc/{}/root", self.keeper.0.id())).join(below_root).join(name)
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let ballast = OpenOptions::new().append(true).create(true).open(self.file("ballast"));
        let mut ballast = ballast.expect("a file");
        for size in [1 << 20, 4_096, 1] {
            let bytes = vec![1; size];
            while ballast.write_all(&bytes).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.file("ballast")).expect("it is there");
    }
}

fn errors(server: &ServerProcess) -> usize {
    server.log().lines().filter(|line| line.contains("can't be written: ")).count()
}

fn metric(server: &ServerProcess, name: &str) -> f64 {
    let metrics = get(server.admin(), "/metrics").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

/// Clients that have written, and whose answers may be held back.
struct Writers {
    client: Client,
    written: usize,
    answered: usize,
}

impl Writers {
    fn new(server: &ServerProcess) -> Writers {
        Writers { client: server.client(), written: 0, answered: 0 }
    }

    fn write(&mut self, count: usize) {
        let ids = self.written..self.written + count;
        self.client.send(ids.map(|id| format!("IAMAT c{id} +1.0-2.0 5\n")).collect::<String>());
        self.written += count;
    }

    /// Reads answers until all are given, or none comes within this time.
    fn read(&mut self, limit: Duration) {
        while self.answered < self.written {
            match self.client.next(limit) {
                Next::Line(line) => {
                    let expected = format!("AT AT c{} +1.0-2.0 5", self.answered);
                    assert_eq!(String::from_utf8_lossy(&line), expected);
                    self.answered += 1;
                }
                Next::Silence => return,
                other => panic!("{other:?} instead of the answer to c{}", self.answered),
            }
        }
    }

    /// Writes until the log says that the disk does not take it.
    fn write_until_it_fails(&mut self, server: &ServerProcess, failed: usize) {
        for _ in 0..2_000 {
            self.write(100);
            self.read(Duration::from_millis(50));
            if errors(server) > failed {
                return;
            }
        }
        panic!("{} clients had room", self.written);
    }
}

/// All these clients are known, which WHATSAT says without waiting for the disk.
fn all_known(server: &ServerProcess, count: usize) {
    let mut reader = server.client();
    for id in 0..count {
        let answer = reader.whatsat(&format!("c{id}"), "0", "0").first;
        assert_eq!(answer, format!("AT AT c{id} +1.0-2.0 5"), "{count} must be known");
    }
}

/// The disk fails again and again, and the log says so now and then.
fn fails_repeatedly(server: &ServerProcess, begin: Instant) {
    let before = metric(server, "herd_state_failures_total");
    wait_until(LIMIT, "it is tried again", || {
        metric(server, "herd_state_failures_total") >= before + 3.0
    });
    assert_eq!(metric(server, "herd_state_failing"), 1.0);
    let most = 1 + begin.elapsed().as_secs() as usize / 60;
    assert!(errors(server) <= most, "{} ERRORs, {most} are the most", errors(server));
}

/// What operators and load balancers are told of a disk that fails for this reason, or works. `is_ready`: answers do not
/// wait for it.
fn reports(server: &ServerProcess, failure: Option<&str>, is_ready: bool) {
    let ready = get(server.admin(), "/readyz");
    assert_eq!(ready.status, if is_ready { 200 } else { 503 }, "{}", ready.text());
    assert_eq!(ready.json()["checks"]["state_works"], failure.is_none(), "{}", ready.text());
    assert_eq!(metric(server, "herd_state_failing"), f64::from(failure.is_some()));
    let health = get(server.admin(), "/healthz");
    let strict = get(server.admin(), "/healthz?strict=1").status;
    let reasons = health.json()["reasons"].to_string();
    assert_eq!(
        (health.status, strict),
        (200, if failure.is_some() { 503 } else { 200 }),
        "{reasons}"
    );
    match failure {
        Some(reason) => {
            assert!(reasons.contains("the state directory can't be written, for "), "{reasons}");
            assert!(reasons.contains(&format!(" s: {reason}")), "{reasons}");
        }
        None => assert_eq!(reasons, "null"),
    }
    assert_eq!(get(server.admin(), "/livez").status, 200, "a restart would not help");
}

const FULL: Option<&str> = Some("No space left on device");

pub fn a_full_disk_gives_no_false_answers_and_is_used_on_once_it_has_room() -> Outcome {
    let mounted = Mounted::new(SMALL, "disk")?;
    let (server, begin) = (mounted.start(), Instant::now());
    let mut writers = Writers::new(&server);
    writers.write(100);
    writers.read(LIMIT);
    reports(&server, None, true);
    mounted.fill();
    writers.write_until_it_fails(&server, 0);
    fails_repeatedly(&server, begin);
    reports(&server, FULL, false);
    writers.read(Duration::from_millis(500));
    assert!(writers.answered < writers.written, "all were answered");
    all_known(&server, writers.written);
    // What was answered while there was hardly room is there, and nothing else has to be.
    let answered = writers.answered;
    server.kill();
    mounted.make_room();
    let server = mounted.start();
    all_known(&server, answered);
    // The same again; now the server lives to see that there is room.
    mounted.fill();
    let mut writers = Writers::new(&server);
    let failed = errors(&server);
    writers.write_until_it_fails(&server, failed);
    mounted.make_room();
    writers.read(2 * LIMIT);
    assert_eq!(writers.answered, writers.written);
    server.wait_for_log("is written again, after");
    reports(&server, None, true);
    server.kill();
    all_known(&mounted.start(), writers.written);
    Ok(())
}

pub fn clients_do_not_notice_a_full_disk_where_answers_do_not_wait_for_it() -> Outcome {
    let mounted = Mounted::new(SMALL, "memory")?;
    let (server, begin) = (mounted.start(), Instant::now());
    mounted.fill();
    let mut writers = Writers::new(&server);
    for _ in 0..2_000 {
        writers.write(100);
        writers.read(LIMIT);
        assert_eq!(writers.answered, writers.written, "an answer is missing");
        if errors(&server) > 0 {
            break;
        }
    }
    fails_repeatedly(&server, begin);
    reports(&server, FULL, true);
    writers.write(1_000);
    writers.read(LIMIT);
    assert_eq!(writers.answered, writers.written, "an answer is missing");
    assert!(metric(&server, "herd_state_unwritten_updates") > 0.0);
    mounted.make_room();
    wait_until(2 * LIMIT, "all is written", || {
        metric(&server, "herd_state_unwritten_updates") == 0.0
    });
    server.kill();
    all_known(&mounted.start(), writers.written);
    Ok(())
}

pub fn a_stop_while_the_disk_is_full_says_that_the_last_updates_are_not_in_the_state_directory()
-> Outcome {
    for ack in ["memory", "disk"] {
        let mounted = Mounted::new(SMALL, ack)?;
        let mut server = mounted.start();
        mounted.fill();
        let mut writers = Writers::new(&server);
        writers.write_until_it_fails(&server, 0);
        drop(writers);
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        let log = server.log();
        let says = "ERROR: Goloman ends although its last updates are not in the state directory, \
                    which can't be written, for ";
        assert!(log.contains(says), "{ack}: {log}");
        let says = "and all updates are acknowledged; the state directory lacks the last ones.";
        assert!(log.contains(says), "{ack}: {log}");
    }
    Ok(())
}

pub fn a_disk_that_can_only_be_read_ends_a_start_with_status_2() -> Outcome {
    let script = format!("{SMALL} && mount -o remount,ro \"$0\"");
    let mounted = Mounted::new(&script, "disk")?;
    let refused = |mounted: &Mounted| {
        let ended = run_to_end(mounted.command());
        let folder = mounted.folder.display();
        let says = format!("the state directory {folder} can't be used: Read-only file system");
        assert!(ended.stderr.contains(&says), "{}", ended.stderr);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    };
    refused(&mounted);
    mounted.run("mount -o remount,rw \"$0\"");
    let server = mounted.start();
    server.assert_serves();
    assert!(server.stop().success());
    mounted.run("mount -o remount,ro \"$0\"");
    refused(&mounted);
    Ok(())
}

/// ext4 does that to itself after an error.
pub fn a_disk_that_becomes_read_only_gives_no_false_answers_and_is_used_on_after_a_restart()
-> Outcome {
    tool("mke2fs")?;
    let mounted = Mounted::new(EXT4, "disk")?;
    let (server, begin) = (mounted.start(), Instant::now());
    let mut writers = Writers::new(&server);
    writers.write(100);
    writers.read(LIMIT);
    assert_eq!(writers.answered, 100);
    mounted.run("device=$(findmnt -n -o SOURCE \"$0\") && echo 1 >/sys/fs/ext4/${device#/dev/}/trigger_fs_error");
    writers.write_until_it_fails(&server, 0);
    fails_repeatedly(&server, begin);
    assert!(server.log().contains("can't be written: Read-only file system"), "{}", server.log());
    reports(&server, Some("Read-only file system"), false);
    writers.read(Duration::from_millis(500));
    assert_eq!(writers.answered, 100);
    all_known(&server, writers.written);
    drop(writers); // A stop waits for answers that are held.
    server.stop();
    mounted.run("umount \"$0\" && mount -o loop \"$0.image\" \"$0\"");
    let server = mounted.start();
    all_known(&server, 100);
    server.assert_serves();
    Ok(())
}

/// A sync that hangs, as on a network that is cut: nothing fails, and nothing is answered.
pub fn a_disk_that_does_not_answer_is_reported_as_one_that_fails_and_used_on_once_it_does()
-> Outcome {
    let setup = Setup::alone().section("[state]\ndir = \".\"\nack = \"disk\"");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    assert_eq!(server.client().ask("IAMAT a +1.0+2.0 1"), "AT AT a +1.0+2.0 1");
    let late = setup.folder.path().join("late");
    let mut strace = tool("strace")?;
    strace.args(["-f", "-qq", "-e", "trace=fdatasync,fsync", "-e"]);
    strace.arg(format!("inject=fdatasync,fsync:delay_enter={}", 2 * STATE_STUCK_AFTER.as_micros()));
    strace.arg("-o").arg(&late).args(["-p", &server.pid().to_string()]);
    let mut strace = Running(strace.stderr(Stdio::null()).spawn().expect("strace starts"));
    let traced = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
        status
            .expect("it runs")
            .lines()
            .any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
    };
    let mut has_ended = false;
    wait_until(LIMIT, "it is traced, or may not be", || {
        has_ended = strace.0.try_wait().expect("it is our child").is_some();
        has_ended || traced()
    });
    kernel(!has_ended, "strace may not trace here")?;
    let mut client = server.client();
    client.send("IAMAT a +1.0+2.0 2\n");
    wait_until(2 * STATE_STUCK_AFTER, "it is reported", || {
        get(server.admin(), "/readyz").status == 503
    });
    assert_eq!(client.next(Duration::ZERO), Next::Silence);
    reports(&server, Some("the disk does not answer"), false);
    server.wait_for_log("ERROR: The disk of the state directory has not answered for ");
    assert_eq!(server.client().whatsat("a", "0", "0").first, "AT AT a +1.0+2.0 2");
    wait_until(4 * STATE_STUCK_AFTER, "the answer comes", || {
        client.next(LIMIT) == Next::Line(b"AT AT a +1.0+2.0 2".to_vec())
    });
    drop(strace);
    wait_until(LIMIT, "it is well again", || get(server.admin(), "/readyz").status == 200);
    reports(&server, None, true);
    server.wait_for_log("INFO: The disk of the state directory answers again, after ");
    Ok(())
}
