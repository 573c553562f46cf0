//! A supervisor (`--herd`) and its servers.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::{follow, listens, send_signal};
use super::{Client, LIMIT, Next, Setup, wait_until};

/// A supervisor and what it and its children say. Dropped, it is killed, and so are they.
pub struct Herd {
    pub child: Child,
    said: Arc<Mutex<String>>,
    pub setup: Setup,
    /// Children that were seen: they are killed at the end, although their parent may be another process by then.
    seen: Mutex<Vec<u32>>,
}

impl Herd {
    /// The report's herd, once all of its servers listen.
    pub fn start() -> Herd {
        let setup = Setup::report();
        let command = Herd::command(&setup);
        Herd::spawn(setup, command)
    }

    /// Two servers that ask no service for places, once both listen.
    pub fn small() -> Herd {
        let setup = Herd::small_setup();
        let command = Herd::command(&setup);
        Herd::spawn(setup, command)
    }

    pub fn small_setup() -> Setup {
        let offline = "[places]\nprovider = \"offline\"";
        Setup::new(&[("Goloman", &["Hands"]), ("Hands", &[])]).section(offline)
    }

    /// The binary as the supervisor of this herd.
    pub fn command(setup: &Setup) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.arg("--herd").arg("--config").arg(setup.config_file("herd"));
        command.arg("--log-dir").arg(setup.folder.path()).env_remove("HERD_PLACES_KEY");
        command
    }

    /// Starts a supervisor and waits until all say that they listen.
    pub fn spawn(setup: Setup, mut command: Command) -> Herd {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let herd = Herd::spawn_as_it_is(setup, command);
        wait_until(LIMIT, "all say that they listen", || {
            let said = herd.said();
            herd.setup.names().iter().all(|name| listens(&said, name).is_some())
        });
        herd
    }

    /// Starts a supervisor whose standard streams are set already, and waits for nothing.
    pub fn spawn_as_it_is(setup: Setup, mut command: Command) -> Herd {
        let spawned = command.stdout(Stdio::null()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = match child.stderr.take() {
            Some(stderr) => follow(stderr),
            None => Arc::default(),
        };
        Herd { child, said, setup, seen: Mutex::default() }
    }

    pub fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").clone()
    }

    /// Waits until a process of the herd has printed this; that may be long before it is read here.
    pub fn wait_until_said(&self, text: &str) {
        wait_until(LIMIT, &format!("{text:?} is said"), || self.said().contains(text));
    }

    /// The process of each server, found by its parent and its command line.
    pub fn children(&self) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        for Process { pid, parent, is_zombie } in processes() {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = words.split(|&byte| byte == 0).collect();
            let server = words.iter().position(|word| word == b"--server");
            let name = server.and_then(|at| words.get(at + 1));
            let is_ours = parent == self.child.id() && !is_zombie;
            if let (true, Some(name)) = (is_ours, name) {
                found.push((String::from_utf8_lossy(name).into_owned(), pid));
            }
        }
        found.sort();
        self.seen.lock().expect("a list").extend(found.iter().map(|(_, pid)| pid));
        found
    }

    /// The process of one server.
    pub fn child(&self, name: &str) -> Option<u32> {
        self.children().into_iter().find(|(found, _)| found == name).map(|(_, pid)| pid)
    }

    /// Which of the processes that were seen as servers of this herd still run.
    pub fn left(&self) -> Vec<u32> {
        let seen = self.seen.lock().expect("a list").clone();
        seen.into_iter().filter(|&pid| is_of_ours(pid)).collect()
    }

    /// Whether a server answers a client.
    pub fn answers(&self, name: &str) -> bool {
        let Ok(mut client) = Client::try_connect(self.setup.clients_address(name)) else {
            return false;
        };
        client.try_send("IAMAT a +1.0+2.0 10\n").is_ok()
            && client.next(LIMIT) == Next::Line(b"AT AT a +1.0+2.0 10".to_vec())
    }

    /// Waits until every server answers.
    pub fn wait_until_served(&self) {
        for name in self.setup.names() {
            wait_until(LIMIT, &format!("{name} answers"), || self.answers(&name));
        }
    }

    /// Kills a server and waits until another process of its name serves.
    pub fn kill_and_wait_for_another(&self, name: &str) {
        let dead = self.child(name).expect("it runs");
        send_signal(dead, Signal::KILL);
        wait_until(LIMIT, "another one runs", || {
            self.child(name).is_some_and(|pid| pid != dead) && self.answers(name)
        });
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal);
    }

    /// Waits for the supervisor's end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(LIMIT, "the supervisor ends", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        status.expect("the wait has ended")
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        self.children();
        let ours = processes().into_iter().filter(|process| process.parent == self.child.id());
        let ours: Vec<u32> = ours.map(|process| process.pid).collect();
        _ = self.child.kill();
        _ = self.child.wait();
        for pid in self.left() {
            send_signal(pid, Signal::KILL);
        }
        // A Places service beside them has a folder to remove.
        let begin = Instant::now();
        while ours.iter().any(|&pid| is_of_ours(pid)) && begin.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(2));
        }
        for &pid in ours.iter().filter(|&&pid| is_of_ours(pid)) {
            send_signal(pid, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("the herd said {:?}", self.said());
        }
    }
}

/// A process of this machine.
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Whether it has ended and was not collected.
    pub is_zombie: bool,
}

/// Each process, also those that have ended and were not collected.
pub fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // State and parent follow the name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    Some(Process { pid, parent: fields.next()?.parse().ok()?, is_zombie })
}

/// Whether a process of this id runs the binary of these tests: another one may have got the id.
fn is_of_ours(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let ours = Path::new(env!("CARGO_BIN_EXE_herd-mio"));
    let is_running = process(pid).is_some_and(|process| !process.is_zombie);
    is_running && (program == ours || program.to_string_lossy().contains("herd-mio"))
}
