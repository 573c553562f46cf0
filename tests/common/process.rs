//! Server processes: started, watched, ended.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::{Client, LIMIT, wait_until};

/// A server of the real binary. Dropped, it is killed.
pub struct ServerProcess {
    pub name: String,
    /// Where its clients connect.
    pub clients: SocketAddr,
    /// Where its neighbours do.
    pub peers: SocketAddr,
    pub log_file: PathBuf,
    child: Child,
    stderr: Arc<Mutex<String>>,
}

/// The number of the system call by which threads wait for each other.
const FUTEX: &str = if cfg!(target_arch = "x86_64") { "202" } else { "98" };

impl ServerProcess {
    /// Starts the command and waits for the line that says where it listens.
    pub fn spawn(mut command: Command, name: &str, log_file: PathBuf) -> ServerProcess {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = follow(child.stderr.take().expect("stderr is piped"));
        let begin = Instant::now();
        loop {
            let said = stderr.lock().expect("the reader does not panic").clone();
            if let Some((clients, peers)) = listens(&said, name) {
                return ServerProcess {
                    name: name.to_owned(),
                    clients,
                    peers,
                    log_file,
                    child,
                    stderr,
                };
            }
            let ended = child.try_wait().expect("the child can be waited for");
            if ended.is_some() || begin.elapsed() > LIMIT {
                _ = child.kill();
                _ = child.wait();
                panic!("{name} does not listen ({ended:?}); on standard error: {said:?}");
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where operators connect.
    pub fn admin(&self) -> SocketAddr {
        administered(&self.stderr()).expect("it was started with --admin")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.clients)
    }

    /// Connects to the neighbours' port.
    pub fn peer(&self) -> Client {
        Client::connect(self.peers)
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("the reader does not panic").clone()
    }

    /// The log so far; bytes that are no text are replaced. A server that has nothing to do has written all of it: its
    /// log's thread looks for records only some milliseconds after it has written others. One that goes on recording is
    /// not waited for.
    pub fn log(&self) -> String {
        for _ in 0..100 {
            if self.has_written_its_log() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.written_log()
    }

    fn written_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log_file).unwrap_or_default()).into_owned()
    }

    /// Waits until a record of the log holds this text.
    pub fn wait_for_log(&self, text: &str) {
        let begin = Instant::now();
        while !self.written_log().lines().any(|record| record.contains(text)) {
            let log = self.written_log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            assert!(
                begin.elapsed() < LIMIT,
                "{}'s log never says {text:?}; it ends (backwards) {tail:#?}",
                self.name
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// Stops the process (SIGSTOP), and waits until it stands. SIGCONT lets it go on.
    pub fn hold(&self) {
        self.signal(Signal::STOP);
        wait_until(LIMIT, "the server stands", || self.state() == Some('T'));
    }

    /// Waits until the process waits for something to do.
    pub fn wait_until_asleep(&self) {
        wait_until(LIMIT, "the server sleeps", || {
            let state = self.state();
            assert_ne!(state, Some('Z'), "the server has ended");
            state == Some('S')
        });
    }

    /// Whether no thread works, and each that waits for another one does so without a time limit (Linux, proc(5)); true
    /// if there is no telling.
    fn has_written_its_log(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        tasks.into_iter().flatten().flatten().all(|task| {
            // Its number, its arguments, where its stack is; or one word.
            let call = std::fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
            let words: Vec<&str> = call.split(' ').collect();
            match words[..] {
                [number, _, _, _, limit, ..] => number != FUTEX || limit == "0x0",
                _ => words[0].trim() != "running",
            }
        })
    }

    /// What the kernel says that the process does (Linux, proc(5)): R, S, T ...
    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("the process runs");
        // The state follows the name in parentheses, which may hold anything.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next())
    }

    /// SIGTERM, then the exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits for the end of a process that was signalled to end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(LIMIT, &format!("{} ends", self.name), || {
            status = self.child.try_wait().expect("the child can be waited for");
            status.is_some()
        });
        status.expect("the wait has ended")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }

    /// The server answers a client; for the end of tests that were unkind to it.
    pub fn assert_serves(&self) {
        let mut client = self.client();
        let line = "IAMAT still.serving +1.0+2.0 10";
        assert_eq!(client.ask(line), "AT AT still.serving +1.0+2.0 10");
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("{} said {:?}; its log ends (backwards) {tail:#?}", self.name, self.stderr());
        }
    }
}

/// Sends a signal to a process that this test started.
pub fn send_signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the process is ours and runs");
}

/// What a process that was not meant to stay left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
}

/// Runs a command that ends by itself; one that does not is killed and fails the test.
pub fn run_to_end(mut command: Command) -> Ended {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        _ = stderr.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break status;
        }
        if begin.elapsed() > LIMIT {
            _ = child.kill();
            _ = child.wait();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    Ended { code: status.code(), stderr: reader.join().expect("the reader does not panic") }
}

/// A process that is killed when the value is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Waits for the end of a process. One that does not end is killed, and has no status.
pub fn status_of(child: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return status.code();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    _ = child.kill();
    _ = child.wait();
    None
}

/// The command, started by way of another one that runs it in its own place (`env`, `nohup`).
pub fn through(words: &[&str], command: &Command) -> Command {
    let mut through = Command::new(words[0]);
    through.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    through.env_remove("HERD_PLACES_KEY");
    through
}

/// Collects a pipe until it ends, so that who writes to it never blocks.
pub fn follow(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&collected);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            into.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    collected
}

/// All that [`follow`] reads of a process that ends, once it has read to the end.
pub fn read_to_end(said: &Arc<Mutex<String>>) -> String {
    wait_until(LIMIT, "all is read", || Arc::strong_count(said) == 1);
    said.lock().expect("nobody panics with it").clone()
}

/// Finds `NAME listens on ADDRESS, for neighbours on ADDRESS` in what was said, as a whole line.
pub fn listens(said: &str, name: &str) -> Option<(SocketAddr, SocketAddr)> {
    let whole = &said[..said.rfind('\n')? + 1];
    whole.lines().rev().find_map(|line| {
        let (clients, peers) = line
            .strip_prefix(name)?
            .strip_prefix(" listens on ")?
            .split_once(", for neighbours on ")?;
        let peers = peers.split_once(", for administration on ").map_or(peers, |(peers, _)| peers);
        Some((clients.parse().ok()?, peers.parse().ok()?))
    })
}

/// Finds where a server listens for administration in what was said, as a whole line.
pub fn administered(said: &str) -> Option<SocketAddr> {
    let whole = &said[..said.rfind('\n')? + 1];
    let address = |line: &str| line.split_once(", for administration on ")?.1.parse().ok();
    whole.lines().rev().find_map(address)
}

/// Lets this process, and those that it starts, open as many files as they may.
pub fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
