//! A herd's configuration on ports of our own, and the commands that run it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::ports::{Port, reserve};
use super::program::PLAIN;
use super::{FakeNeighbour, LIMIT, ServerProcess, wait_until};

/// The report's herd: each edge is named once.
pub const REPORT: [(&str, &[&str]); 5] = [
    ("Goloman", &["Hands", "Holiday", "Wilkes"]),
    ("Hands", &["Wilkes"]),
    ("Holiday", &["Welsh"]),
    ("Wilkes", &[]),
    ("Welsh", &[]),
];

/// A herd that can be started, server by server. Its folder and ports go with it.
pub struct Setup {
    pub folder: TempDir,
    servers: Vec<Member>,
    /// Who dials whom elsewhere than at its neighbours' port.
    detours: Vec<(String, String, String)>,
    top: String,
    sections: String,
    any_port: bool,
}

struct Member {
    name: String,
    neighbours: Vec<String>,
    listen: Port,
    peers: Port,
    /// Where its neighbours' port is.
    ip: IpAddr,
}

impl Setup {
    pub fn new(shape: &[(&str, &[&str])]) -> Setup {
        let member = |&(name, neighbours): &(&str, &[&str])| Member {
            name: name.to_owned(),
            neighbours: neighbours.iter().map(|&neighbour| neighbour.to_owned()).collect(),
            listen: reserve(),
            peers: reserve(),
            ip: Ipv4Addr::LOCALHOST.into(),
        };
        Setup {
            folder: tempfile::tempdir().expect("a temporary folder"),
            servers: shape.iter().map(member).collect(),
            detours: Vec::new(),
            top: String::new(),
            sections: String::new(),
            any_port: false,
        }
    }

    /// The five of the report.
    pub fn report() -> Setup {
        Setup::new(&REPORT)
    }

    /// Goloman without neighbours.
    pub fn alone() -> Setup {
        Setup::new(&[("Goloman", &[])])
    }

    /// Goloman and neighbours of these names, which the test may play itself.
    pub fn star(neighbours: &[&str]) -> Setup {
        let mut shape: Vec<(&str, &[&str])> = vec![("Goloman", neighbours)];
        shape.extend(neighbours.iter().map(|&name| (name, &[] as &[&str])));
        Setup::new(&shape)
    }

    /// Adds a server to the herd, for a reload.
    pub fn add(&mut self, name: &str, neighbours: &[&str]) {
        let mut added = Setup::new(&[(name, neighbours)]);
        self.servers.append(&mut added.servers);
    }

    /// Removes a server from the herd, for a reload.
    pub fn remove(&mut self, name: &str) {
        self.servers.retain(|member| member.name != name);
        for member in &mut self.servers {
            member.neighbours.retain(|neighbour| neighbour != name);
        }
    }

    /// The same server, with its ports, has another name from now on.
    pub fn rename(&mut self, old: &str, new: &str) {
        for member in &mut self.servers {
            let names = std::iter::once(&mut member.name).chain(&mut member.neighbours);
            names.filter(|name| *name == old).for_each(|name| *name = new.to_owned());
        }
    }

    /// Adds keys in front of all sections: `max_clients = 10`.
    pub fn top(mut self, toml: &str) -> Setup {
        self.top += &format!("{toml}\n");
        self
    }

    /// Adds a section: `[limits]\nline_bytes = 300`.
    pub fn section(mut self, toml: &str) -> Setup {
        self.sections += &format!("{toml}\n\n");
        self
    }

    /// A herd that notices a dead link soon.
    pub fn heartbeat(self, time: &str) -> Setup {
        self.section(&format!("[link]\nheartbeat = \"{time}\""))
    }

    /// The first server listens on port 0, so that many of it can run at once.
    pub fn any_port(mut self) -> Setup {
        self.any_port = true;
        self
    }

    /// Lets one server dial another elsewhere, at a proxy say.
    pub fn detour(&mut self, from: &str, to: &str, at: SocketAddr) {
        self.detour_by_name(from, to, &at.to_string());
    }

    /// The same, and where is said by a name: `host:port`.
    pub fn detour_by_name(&mut self, from: &str, to: &str, at: &str) {
        // A name may be another host's.
        let is_here = at.parse().is_ok_and(|address: SocketAddr| address.ip().is_loopback());
        self.allow_plain_text_unless(is_here);
        self.detours.push((from.to_owned(), to.to_owned(), at.to_owned()));
    }

    /// Lets a server listen for its neighbours at another address than 127.0.0.1.
    pub fn move_peers(&mut self, name: &str, ip: impl Into<IpAddr>) {
        let ip = ip.into();
        self.allow_plain_text_unless(ip.is_loopback());
        let member = self.servers.iter_mut().find(|member| member.name == name);
        member.unwrap_or_else(|| panic!("no server {name} in this herd")).ip = ip;
    }

    fn allow_plain_text_unless(&mut self, is_here: bool) {
        if !is_here && !self.top.contains(PLAIN) {
            self.top = format!("{PLAIN}{}", self.top);
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.servers.iter().map(|member| member.name.clone()).collect()
    }

    pub fn clients_address(&self, name: &str) -> SocketAddr {
        self.member(name).listen.address()
    }

    pub fn peers_address(&self, name: &str) -> SocketAddr {
        let member = self.member(name);
        SocketAddr::new(member.ip, member.peers.number)
    }

    /// Listens where this neighbour would.
    pub fn play(&self, name: &str) -> FakeNeighbour {
        FakeNeighbour::listen(name, self.peers_address(name))
    }

    /// The configuration as this server gets it.
    pub fn toml(&self, reader: &str) -> String {
        let mut text = format!("{}\n", self.top);
        for (place, member) in self.servers.iter().enumerate() {
            let (listen, peers) = match self.any_port && place == 0 {
                true => (0, 0),
                false => (member.listen.number, member.peers.number),
            };
            let peers = SocketAddr::new(member.ip, peers);
            text += &format!(
                "[[server]]\nname = {:?}\nlisten = \"127.0.0.1:{listen}\"\npeer_listen = \"{peers}\"\n",
                member.name
            );
            let detour =
                self.detours.iter().find(|(from, to, _)| from == reader && *to == member.name);
            if let Some((_, _, at)) = detour {
                text += &format!("advertise = \"{at}\"\n");
            } else if peers.port() == 0 {
                // Nobody dials this server here; but what has neighbours must have an address to be dialled at.
                text += &format!("advertise = \"{}\"\n", member.peers.address());
            }
            text += &format!("neighbours = {:?}\n\n", member.neighbours);
        }
        text + &self.sections
    }

    /// Writes this server's configuration and returns its path.
    pub fn config_file(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, self.toml(name)).expect("the temporary folder can be written");
        path
    }

    /// The binary as this server, its log in the herd's folder.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.arg("--server").arg(name);
        command.arg("--config").arg(self.config_file(name));
        command.arg("--log-dir").arg(self.folder.path());
        command.env_remove("HERD_PLACES_KEY");
        command
    }

    pub fn log_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}_log.txt"))
    }

    /// Moves a server's log away, as logrotate does. Returns where the new one will be.
    pub fn move_log_away(&self, name: &str) -> PathBuf {
        let log = self.log_file(name);
        wait_until(LIMIT, "there is a log", || log.exists());
        std::fs::rename(&log, log.with_extension("old")).expect("it is there");
        log
    }

    /// Starts this server and waits until it listens.
    pub fn start(&self, name: &str) -> ServerProcess {
        self.start_with(name, &[])
    }

    /// The same with more on its command line.
    pub fn start_with(&self, name: &str, arguments: &[&str]) -> ServerProcess {
        let mut command = self.command(name);
        command.args(arguments);
        ServerProcess::spawn(command, name, self.log_file(name))
    }

    /// Starts every server of the herd.
    pub fn start_all(&self) -> Vec<ServerProcess> {
        self.names().iter().map(|name| self.start(name)).collect()
    }

    fn member(&self, name: &str) -> &Member {
        let found = self.servers.iter().find(|member| member.name == name);
        found.unwrap_or_else(|| panic!("no server {name} in this herd"))
    }
}

/// Two servers of one host, whose neighbours' ports are at these addresses, learn what the other receives, and refuse
/// nobody.
pub fn each_learns_of_the_other(goloman: IpAddr, hands: IpAddr) {
    let mut setup = Setup::star(&["Hands"]).heartbeat("1s");
    setup.move_peers("Goloman", goloman);
    setup.move_peers("Hands", hands);
    let servers = setup.start_all();
    for (teller, learner, id) in [(0, 1, "kiwi"), (1, 0, "plum")] {
        servers[teller].client().ask(&format!("IAMAT {id} +1.0+2.0 10"));
        let goal =
            format!("{} learns what {} received", servers[learner].name, servers[teller].name);
        wait_until(LIMIT, &goal, || {
            let answer = servers[learner].client().ask(&format!("WHATSAT {id} 0 0"));
            answer == format!("AT AT {id} +1.0+2.0 10")
        });
    }
    for server in &servers {
        let log = server.log();
        let refused = log.lines().find(|record| record.contains("Refused on the neighbours' port"));
        assert_eq!(refused, None, "by {}", server.name);
    }
}
