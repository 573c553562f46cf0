//! The processes that are measured: NATS, one node or three, and members. Each ends with its value.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::bare::Bare;

/// NATS servers.
pub struct Nats {
    nodes: Vec<Process>,
    commands: Vec<(PathBuf, PathBuf)>,
    pub addresses: Vec<SocketAddr>,
}

/// A process that is killed with its value.
pub struct Process(Child);

/// One of our servers.
pub struct Server {
    process: Process,
    pub clients: SocketAddr,
    log: PathBuf,
    begin: Instant,
}

/// The NATS server: `NATS_SERVER`, or the one that `.ci/tools` has installed, or the one in `PATH`.
pub fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("venv/bin/nats-server");
    match std::env::var_os("NATS_SERVER") {
        Some(named) => named.into(),
        None if target.exists() => target,
        None => "nats-server".into(),
    }
}

impl Nats {
    /// Starts so many nodes with JetStream, and waits until they take requests.
    pub fn start(folder: &Path, nodes: usize) -> Result<Nats, Failure> {
        let ports: Vec<u16> = (0..2 * nodes).map(|_| free_port()).collect::<Result<_, _>>()?;
        let (clients, routes) = ports.split_at(nodes);
        let urls: Vec<String> =
            routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let mut nats = Nats { nodes: Vec::new(), commands: Vec::new(), addresses: Vec::new() };
        for (number, (port, route)) in clients.iter().zip(routes).enumerate() {
            let store = folder.join(format!("store-{number}"));
            let mut text = format!(
                "server_name: n{number}\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n"
            );
            if nodes > 1 {
                text += &format!(
                    "cluster {{ name: bench, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
                    urls.join(", ")
                );
            }
            let config = folder.join(format!("n{number}.conf"));
            fs::write(&config, text)?;
            nats.commands.push((config, folder.join(format!("n{number}.log"))));
            nats.addresses.push(SocketAddr::from(([127, 0, 0, 1], *port)));
        }
        nats.start_again()?;
        Ok(nats)
    }

    /// Starts all nodes, which do not run.
    pub fn start_again(&mut self) -> Result<(), Failure> {
        for (config, log) in &self.commands {
            let mut command = Command::new(program());
            command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(fs::File::options().create(true).append(true).open(log)?);
            self.nodes.push(Process(command.spawn()?));
        }
        let begin = Instant::now();
        loop {
            let asked = Bare::connect(self.addresses[0]).and_then(|mut bare| bare.api("INFO", ""));
            match asked {
                Ok(_) => return Ok(()),
                Err(error) if begin.elapsed() > SOON => return Err(error),
                Err(_) => sleep(Duration::from_millis(100)),
            }
        }
    }

    pub fn kill(&mut self) {
        self.nodes.clear();
    }

    pub fn version() -> String {
        let output = Command::new(program()).arg("--version").output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        said.unwrap_or_default().trim().to_owned()
    }

    /// `[engine]` for a member.
    pub fn section(&self, bucket: &str, more: &str) -> String {
        let urls: Vec<String> =
            self.addresses.iter().map(|address| format!("nats://{address}")).collect();
        let replicas = urls.len();
        format!(
            "[engine]\nprovider = \"nats\"\nservers = {urls:?}\nbucket = \"{bucket}\"\nreplicas = {replicas}\n{more}"
        )
    }
}

impl Server {
    /// Starts a member with these sections, and waits until it listens.
    pub fn start(folder: &Path, name: &str, sections: &str) -> Result<Server, Failure> {
        let (port, peers) = (free_port()?, free_port()?);
        let config = folder.join(format!("{name}.toml"));
        let text = format!(
            "max_clients = 5000000\n[[server]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\n\
             peer_listen = \"127.0.0.1:{peers}\"\n[places]\nprovider = \"offline\"\n{sections}"
        );
        fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--server", name, "--log-level", "warning,engine=info"]);
        command.arg("--config").arg(&config).arg("--log-dir").arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let log = folder.join(format!("{name}_log.txt"));
        _ = fs::remove_file(&log);
        let begin = Instant::now();
        let process = Process(command.spawn()?);
        let clients = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Server { process, clients, log, begin };
        while TcpStream::connect(clients).is_err() {
            if let Some(status) = server.process.0.try_wait()? {
                return Err(format!("{name} has ended: {status}").into());
            }
            if begin.elapsed() > SOON {
                return Err(format!("{name} does not listen").into());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// Waits until it knows all that the bucket holds. Returns the time since it was started.
    pub fn in_sync(&self) -> Result<Duration, Failure> {
        while self.times_in_sync() == 0 {
            if self.begin.elapsed() > 10 * SOON {
                return Err("a member does not get in sync".into());
            }
            sleep(Duration::from_millis(2));
        }
        Ok(self.begin.elapsed())
    }

    /// How often it has said so.
    pub fn times_in_sync(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.matches("is in sync with the engine").count()
    }

    pub fn id(&self) -> u32 {
        self.process.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A port that nobody has at the moment.
fn free_port() -> Result<u16, Failure> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 12_500 + (std::process::id() % 160) as u16 * 100;
    for _ in 0..3_000 {
        let port = begin + NEXT.fetch_add(1, Ordering::Relaxed) % 3_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no port is free".into())
}

const SOON: Duration = Duration::from_secs(30);
