//! LocalNames that one test's servers look up: a private `/etc/hosts` and a name server that may be silent.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::needs::{Missing, kernel, tool};
use super::{ServerProcess, Setup};

/// A server of the herd that runs with these names sees its own files in place of the system's.
pub struct LocalNames {
    hosts: PathBuf,
    resolver: PathBuf,
    /// Holds the port of the name server, which never answers.
    _silent_server: UdpSocket,
}

impl LocalNames {
    /// Needs mounts of a process's own, and port 53, which not everybody may have. LocalNames that are not in
    /// `hosts` are asked of a server that is silent for minutes.
    pub fn new(setup: &Setup, hosts: &str) -> Result<LocalNames, Missing> {
        tool("unshare")?;
        let folder = setup.folder.path();
        let bound = (1..255).find_map(|last| {
            let at = own_loopback(last);
            UdpSocket::bind((at, 53)).ok().map(|socket| (at, socket))
        });
        let Some((server, socket)) = bound else {
            return Err(Missing::Kernel("port 53 is not permitted here".to_owned()));
        };
        let names = LocalNames {
            hosts: folder.join("hosts"),
            resolver: folder.join("resolv.conf"),
            _silent_server: socket,
        };
        let text = format!("nameserver {server}\noptions timeout:30 attempts:5\n");
        fs::write(&names.resolver, text).expect("the temporary folder can be written");
        names.change(hosts);
        let mut probe = names.within("true");
        let works = probe.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        kernel(works, "mounts of one's own are not permitted here")?;
        Ok(names)
    }

    /// From now on the servers find this. A server that looks a name up at this very moment may find nothing.
    pub fn change(&self, hosts: &str) {
        fs::write(&self.hosts, hosts).expect("the temporary folder can be written");
    }

    /// The addresses of a name in the order in which a server gets them.
    pub fn order(&self, name: &str) -> Vec<IpAddr> {
        let output = self.within("getent").args(["ahosts", name]).output().expect("getent runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let streams = text.lines().filter(|line| line.contains("STREAM"));
        let addresses = streams.filter_map(|line| line.split_whitespace().next()?.parse().ok());
        addresses.collect()
    }

    /// Starts a server of the herd with these names.
    pub fn start(&self, setup: &Setup, name: &str) -> ServerProcess {
        self.start_with(setup, name, &[])
    }

    /// The same with more on its command line.
    pub fn start_with(&self, setup: &Setup, name: &str, arguments: &[String]) -> ServerProcess {
        let plain = setup.command(name);
        let mut command = self.within(plain.get_program());
        command.args(plain.get_args()).args(arguments).env_remove("HERD_PLACES_KEY");
        ServerProcess::spawn(command, name, setup.log_file(name))
    }

    /// A program with its own view of the two files. It keeps its process id.
    fn within(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let script = "mount --bind \"$0\" /etc/hosts && mount --bind \"$1\" /etc/resolv.conf \
                      && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private"]);
        if !rustix::process::geteuid().is_root() {
            command.arg("-r");
        }
        let files: [&Path; 2] = [&self.hosts, &self.resolver];
        command.args(["sh", "-c", script]).args(files).arg(program);
        command
    }
}

/// An address of 127.0.0.0/8 that other test processes hardly use.
pub fn own_loopback(last: u8) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 1, low, last)
}

/// A peer that accepts connections and never sends anything.
pub struct Mute {
    listener: TcpListener,
}

impl Mute {
    pub fn listen(at: SocketAddr) -> Mute {
        let listener = TcpListener::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
        listener.set_nonblocking(true).expect("non-blocking");
        Mute { listener }
    }

    /// How many have connected since it was asked last. They stay connected no longer.
    pub fn connections(&self) -> usize {
        std::iter::from_fn(|| self.listener.accept().ok()).count()
    }
}

/// A peer whose kernel silently drops what is sent to connect.
pub struct BlackHole {
    _listener: Socket,
    _connected: Vec<TcpStream>,
}

impl BlackHole {
    /// Needs a kernel that neither refuses nor accepts in place of dropping.
    pub fn listen(at: SocketAddr) -> Result<BlackHole, Missing> {
        let listener = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
        listener.bind(&at.into()).unwrap_or_else(|error| panic!("{at}: {error}"));
        listener.listen(0).expect("it listens");
        let mut connected = Vec::new();
        for _ in 0..16 {
            match TcpStream::connect_timeout(&at, Duration::from_secs(1)) {
                Ok(stream) => connected.push(stream),
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    return Ok(BlackHole { _listener: listener, _connected: connected });
                }
                Err(_) => break,
            }
        }
        Err(Missing::Kernel("the kernel drops no connection when a backlog is full".to_owned()))
    }
}
