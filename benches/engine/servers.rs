//! The processes that are measured: NATS, one node or three, and members. Each ends with its value.

use std::fs;
use std::io::{Read, Write};
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
    admin: SocketAddr,
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
            // Without a leader no answer comes at all.
            let asked = Bare::connect(self.addresses[0]).and_then(|mut bare| {
                bare.stream().set_read_timeout(Some(Duration::from_secs(1)))?;
                bare.api("INFO", "")
            });
            match asked {
                Ok(_) => return Ok(()),
                Err(error) if begin.elapsed() > SOON => return Err(error),
                Err(_) => sleep(Duration::from_millis(100)),
            }
        }
    }

    /// The processes.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.nodes.iter().map(|node| node.0.id())
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
        Server::start_for(folder, name, 1_000_000, sections)
    }

    /// The same, for at most so many clients.
    pub fn start_for(
        folder: &Path,
        name: &str,
        max_clients: usize,
        sections: &str,
    ) -> Result<Server, Failure> {
        let (port, peers, admin) = (free_port()?, free_port()?, free_port()?);
        let config = folder.join(format!("{name}.toml"));
        let text = format!(
            "max_clients = {max_clients}\n[[server]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\n\
             peer_listen = \"127.0.0.1:{peers}\"\nadmin_listen = \"127.0.0.1:{admin}\"\n[places]\nprovider = \"offline\"\n{sections}"
        );
        fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--server", name, "--log-level", "warning"]);
        command.arg("--config").arg(&config).arg("--log-dir").arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let process = Process(command.spawn()?);
        let [clients, admin] = [port, admin].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut server = Server { process, clients, admin, begin };
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
        let begin = Instant::now();
        while self.metric("herd_engine_state{", "state=\"in_sync\"")? != 1.0 {
            if begin.elapsed() > 10 * SOON {
                return Err("a member does not get in sync".into());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(self.begin.elapsed())
    }

    /// What its admin listener says of a metric: the first of this name with this label.
    pub fn metric(&self, name: &str, label: &str) -> Result<f64, Failure> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(label));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.ok_or_else(|| format!("there is no metric {name}").into())
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
