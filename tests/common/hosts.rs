//! Hosts of a test: each a network namespace, all on one bridge, and cables and weather between them.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::needs::{Missing, kernel, netcat, tool};
use super::process::{follow, send_signal};
use super::{Client, LIMIT, Setup, wait_until};

/// Hosts on one bridge. The names of the namespaces are those of this process.
pub struct Hosts {
    bridge: String,
    names: Vec<String>,
}

impl Hosts {
    /// Needs namespaces, which not everybody may make.
    pub fn new(count: usize) -> Result<Hosts, Missing> {
        tool("ip")?;
        netcat()?; // by which they are spoken with
        // Tests of one process run side by side.
        static HERDS: AtomicUsize = AtomicUsize::new(0);
        let tag = format!("{}.{}", std::process::id(), HERDS.fetch_add(1, Ordering::SeqCst));
        let bridge = format!("herdbr{tag}");
        let names = (0..count).map(|number| format!("herd{tag}.{number}")).collect();
        let hosts = Hosts { bridge, names };
        let hub = &hosts.bridge;
        let mut fine = ip(&["netns", "add", hub])
            && ip(&["-n", hub, "link", "add", "br0", "type", "bridge"])
            && ip(&["-n", hub, "link", "set", "br0", "up"]);
        for (number, name) in hosts.names.iter().enumerate() {
            let port = format!("port{number}");
            let address = format!("10.77.0.{}/24", number + 1);
            let pair = ["link", "add", "eth0", "netns", name, "type", "veth", "peer", "name"];
            fine = fine
                && ip(&["netns", "add", name])
                && ip(&[&pair[..], &[&port, "netns", hub]].concat())
                && ip(&["-n", hub, "link", "set", &port, "master", "br0", "up"])
                && ip(&["-n", name, "addr", "add", &address, "dev", "eth0"])
                && ip(&["-n", name, "link", "set", "lo", "up"])
                && ip(&["-n", name, "link", "set", "eth0", "up"]);
        }
        kernel(fine, "network namespaces are not permitted here")?;
        Ok(hosts)
    }

    /// A configuration of two servers, of which the first listens for neighbours at a loopback address only.
    pub fn deaf_and_hearing(setup: &Setup) -> String {
        let text = "security.allow_plaintext = [\"neighbours\"]\n\
                    [[server]]\nname = \"H1\"\nlisten = \"10.77.0.1:4000\"\nneighbours = [\"H2\"]\n\
                    peer_listen = \"127.0.0.1:14000\"\nadvertise = \"10.77.0.1:14000\"\n\
                    [[server]]\nname = \"H2\"\nlisten = \"10.77.0.2:4000\"\npeer_listen = \"10.77.0.2:14000\"\n";
        let path = setup.folder.path().join("hosts.toml");
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("text").to_owned()
    }

    /// A configuration of three servers in a line, H1 to H3, each on its host.
    pub fn line(setup: &Setup, heartbeat: &str) -> String {
        let server = |number: usize, neighbours: &str| {
            format!(
                "[[server]]\nname = \"H{number}\"\nlisten = \"10.77.0.{number}:4000\"\n\
                 peer_listen = \"10.77.0.{number}:14000\"\nneighbours = [{neighbours}]\n"
            )
        };
        let config = [server(1, "\"H2\""), server(2, "\"H3\""), server(3, "")].concat();
        let path = setup.folder.path().join("hosts.toml");
        let text = format!(
            "{config}[link]\nheartbeat = \"{heartbeat}\"\n[security]\nallow_plaintext = [\"neighbours\"]\n"
        );
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("text").to_owned()
    }

    /// A configuration of two servers, H1 and H2, each on its host, with these sections.
    pub fn pair(setup: &Setup, sections: &str) -> String {
        let server = |number: usize, neighbours: &str| {
            format!(
                "[[server]]\nname = \"H{number}\"\nlisten = \"10.77.0.{number}:4000\"\n\
                 peer_listen = \"10.77.0.{number}:14000\"\nneighbours = [{neighbours}]\n"
            )
        };
        let path = setup.folder.path().join("hosts.toml");
        let text = server(1, "\"H2\"") + &server(2, "") + sections;
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("text").to_owned()
    }

    /// Waits until each host's server answers so about a client.
    pub fn wait_for(&self, id: &str, line: &str) {
        for number in 0..self.names.len() {
            let what = format!("host {} knows {line}", number + 1);
            wait_until(LIMIT, &what, || self.knows(number, id) == line);
        }
    }

    /// The name of a host's namespace.
    pub fn name(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// From now on the calling thread is on this host: what it connects to, it sees from there.
    pub fn enter(name: &str) {
        let namespace = File::open(format!("/run/netns/{name}")).expect("a namespace");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind).expect("root may enter it");
    }

    /// Does this on a host, on a thread of its own.
    pub fn within<R: Send>(&self, number: usize, act: impl FnOnce() -> R + Send) -> R {
        let name = self.name(number);
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                Hosts::enter(name);
                act()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// A client of a host's server, on that host.
    pub fn client(&self, number: usize) -> io::Result<Client> {
        let address = SocketAddr::from(([10, 77, 0, number as u8 + 1], 4000));
        self.within(number, || Client::try_connect(address))
    }

    /// Runs a server of the configuration on its host.
    pub fn start(&self, setup: &Setup, number: usize, config: &str) -> HostProcess {
        let name = format!("H{}", number + 1);
        let log = setup.folder.path().join(format!("{name}_log.txt"));
        let mut command = self.server(setup, number, config);
        command.stderr(Stdio::null());
        let process = HostProcess { child: command.spawn().expect("ip runs"), log };
        wait_until(LIMIT, &format!("{name} listens"), || process.log().contains("listens on"));
        process
    }

    /// The command that runs a server of the configuration on its host.
    pub fn server(&self, setup: &Setup, number: usize, config: &str) -> Command {
        let mut command = self.command(number, env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--server", &format!("H{}", number + 1), "--config", config, "--log-dir"]);
        command.arg(setup.folder.path());
        command
    }

    fn command(&self, number: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[number], program]);
        command
    }

    /// Records what passes the cable of a host from now on.
    pub fn record(&self, setup: &Setup, number: usize) -> Result<Recording, Missing> {
        tool("tcpdump")?;
        let path = setup.folder.path().join("packets");
        let mut command = self.command(number, "tcpdump");
        // As root it would write as another user.
        command.args(["-i", "eth0", "-U", "-Z", "root", "-w"]).arg(&path).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ip runs");
        let said = follow(child.stderr.take().expect("a pipe"));
        let recording = Recording { child, path };
        wait_until(LIMIT, "tcpdump listens", || {
            said.lock().expect("nobody panics with it").contains("listening on eth0")
        });
        Ok(recording)
    }

    /// A program on a host, where names have the addresses that this file says, in the form of /etc/hosts.
    pub fn command_with(&self, number: usize, names: &Path, program: &str) -> Command {
        let mut command = self.command(number, "sh");
        command
            .args(["-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""])
            .arg(names)
            .arg(program);
        command
    }

    /// Says a line to the server of a host, from that host, with Debian's nc.
    pub fn say(&self, number: usize, line: &str) -> String {
        let script = format!("printf '{line}\\n' | nc -N -w 5 10.77.0.{} 4000", number + 1);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[number], "sh", "-c", &script]);
        let output = command.output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn knows(&self, number: usize, id: &str) -> String {
        let answer = self.say(number, &format!("WHATSAT {id} 0 0"));
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// Between all hosts packets take 200 ms and one in twenty is lost, or, where the kernel has no netem,
    /// one in twenty is lost and the rest wait for a line of 256 kbit/s. Says what it is.
    pub fn storm(&self) -> Result<&'static str, Missing> {
        tool("tc")?;
        let ports = || (0..self.names.len()).map(|number| format!("port{number}"));
        let qdisc = |port: &str, how: &[&str]| {
            let words = ["-n", &self.bridge, "qdisc", "replace", "dev", port, "root"];
            run("tc", &[&words[..], how].concat())
        };
        if ports().all(|port| qdisc(&port, &["netem", "delay", "200ms", "loss", "5%"])) {
            return Ok("netem");
        }
        tool("nft")?;
        let slow = ["tbf", "rate", "256kbit", "burst", "4kb", "latency", "400ms"];
        let lossy = "table inet storm { chain in { type filter hook input priority 0; \
                     numgen random mod 100 < 5 counter drop; }; }";
        let is_there = ports().all(|port| qdisc(&port, &slow))
            && self.names.iter().all(|name| ip(&["netns", "exec", name, "nft", lossy]));
        kernel(is_there, "the kernel has neither netem nor nft with tbf")?;
        Ok("nft and tbf")
    }

    /// Packets that the storm has dropped.
    pub fn dropped(&self) -> u64 {
        let of_qdiscs = output("tc", &["-n", &self.bridge, "-s", "qdisc", "show"]);
        let rules =
            |name: &String| output("ip", &["netns", "exec", name, "nft", "list", "ruleset"]);
        let all = self.names.iter().map(rules).fold(of_qdiscs, |all, one| all + &one);
        ["dropped ", "counter packets "].iter().map(|word| sum_behind(&all, word)).sum()
    }

    pub fn cable(&self, number: usize, state: &str) {
        assert!(ip(&["-n", &self.bridge, "link", "set", &format!("port{number}"), state]));
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.bridge]) {
            ip(&["netns", "del", name]);
        }
    }
}

/// Packets that are being recorded.
pub struct Recording {
    child: Child,
    path: PathBuf,
}

impl Recording {
    /// Whether some packet has these bytes so far.
    pub fn has(&self, bytes: &[u8]) -> bool {
        let recorded = std::fs::read(&self.path).unwrap_or_default();
        recorded.windows(bytes.len()).any(|window| window == bytes)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

pub struct HostProcess {
    child: Child,
    log: PathBuf,
}

impl HostProcess {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal);
    }

    /// Waits for the end of a server that was signalled to end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(LIMIT, "the server ends", || {
            status = self.child.try_wait().expect("the child can be waited for");
            status.is_some()
        });
        status.expect("the wait has ended")
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn ip(words: &[&str]) -> bool {
    run("ip", words)
}

fn run(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn output(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The sum of the numbers that stand behind a word.
fn sum_behind(text: &str, word: &str) -> u64 {
    let numbers = text
        .split(word)
        .skip(1)
        .filter_map(|rest| rest.split(|it: char| !it.is_ascii_digit()).next()?.parse::<u64>().ok());
    numbers.sum()
}
