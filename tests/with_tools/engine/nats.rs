//! Real NATS servers: one, or three that hold each stream together. Each is a process of the test on a free port, with a
//! store of its own, and ends with the value.
//!
//! ```text
//! let nats = Nats::three(Release::Current)?;
//! let leader = nats.leader("KV_herd");
//! nats.nodes[leader].kill();      // also stop(), hold() and go_on(), lame_duck()
//! nats.nodes[leader].start();     // with the same store and ports
//! ```

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::hosts::Hosts;
use crate::common::needs::{Missing, kernel, nats_server, tool};
use crate::common::ports::{Port, reserve};
use crate::common::process::{Running, send_signal};
use crate::common::{LIMIT, wait_until};

/// Which NATS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The one that `NATS_SERVER` names, or the one that `.ci/tools` installs with pip.
    Current,
    /// The one of this system, which is Debian's.
    Debian,
}

/// What to start.
#[derive(Clone)]
pub struct Plan<'a> {
    pub release: Release,
    pub nodes: usize,
    /// Without it the server knows subjects only, and no streams.
    pub jetstream: bool,
    /// More of the configuration of each node, such as `authorization {...}`. `{folder}` is where [`Nats::file`] writes.
    pub more: String,
    /// The store is a file system in memory of this size, such as `24m`.
    pub store_size: Option<&'a str>,
    /// More in the section `jetstream`: `max_file: 1MB`.
    pub jetstream_more: &'a str,
    /// Each node is on the host of its number, at 10.77.0.N, port 4222.
    pub hosts: Option<&'a Hosts>,
}

impl Plan<'_> {
    /// One server with JetStream that anybody may use.
    pub fn one(release: Release) -> Plan<'static> {
        Plan {
            release,
            nodes: 1,
            jetstream: true,
            more: String::new(),
            store_size: None,
            jetstream_more: "",
            hosts: None,
        }
    }

    pub fn three(release: Release) -> Plan<'static> {
        Plan { nodes: 3, ..Plan::one(release) }
    }
}

/// The servers, and the folder of all that is theirs.
pub struct Nats {
    pub nodes: Vec<Node>,
    folder: tempfile::TempDir,
}

impl Nats {
    pub fn one(release: Release) -> Result<Nats, Missing> {
        Nats::start(&Plan::one(release))
    }

    pub fn three(release: Release) -> Result<Nats, Missing> {
        Nats::start(&Plan::three(release))
    }

    /// Starts them, and waits until they take requests of JetStream.
    pub fn start(plan: &Plan<'_>) -> Result<Nats, Missing> {
        let nats = Nats::prepare(plan)?;
        nats.nodes.iter().for_each(Node::start);
        if plan.jetstream {
            nats.wait_until_ready();
        }
        Ok(nats)
    }

    /// The same, and none is started yet: files can be written first.
    pub fn prepare(plan: &Plan<'_>) -> Result<Nats, Missing> {
        let program = nats_server(plan.release == Release::Debian)?;
        if plan.store_size.is_some() {
            let mut mount = tool("unshare")?;
            mount.args(["--mount", "--propagation", "private", "true"]);
            let may_mount = mount.output().is_ok_and(|output| output.status.success());
            kernel(may_mount, "mounts of a process's own are not permitted here")?;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut nodes: Vec<Node> = (0..plan.nodes)
            .map(|number| Node::new(number, plan, program.clone(), &folder))
            .collect();
        let routes: Vec<String> = nodes.iter().map(|node| node.route.clone()).collect();
        for node in &mut nodes {
            node.write_configuration(plan, &routes, &folder);
        }
        Ok(Nats { nodes, folder })
    }

    /// The path of a file in their folder, with these contents.
    pub fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).expect("the temporary folder can be written");
        path
    }

    /// Where clients connect, as `nats://ADDRESS` each.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("nats://{}", node.address)).collect()
    }

    /// `[engine]` of a herd that uses these servers, with more lines.
    pub fn section(&self, more: &str) -> String {
        let (urls, replicas) = (self.urls(), self.nodes.len());
        format!("[engine]\nprovider = \"nats\"\nservers = {urls:?}\nreplicas = {replicas}\n{more}")
    }

    /// Waits until requests of JetStream are answered: three nodes have agreed on a leader first.
    pub fn wait_until_ready(&self) {
        wait_until(LIMIT, "NATS has JetStream", || {
            let led = |node: &Node| {
                let state = node.monitor("/jsz")?;
                let is_on = state["disabled"].as_bool() != Some(true) && state["memory"].is_u64();
                let meta = &state["meta_cluster"];
                let leader = meta["leader"].as_str().unwrap_or_default().to_owned();
                let is_whole = meta["cluster_size"].as_u64() == Some(self.nodes.len() as u64);
                (is_on && (self.nodes.len() == 1 || is_whole && !leader.is_empty()))
                    .then_some(leader)
            };
            let leaders: Vec<Option<String>> = self.nodes.iter().map(led).collect();
            leaders[0].is_some() && leaders.iter().all(|leader| *leader == leaders[0])
        });
    }

    /// The node that leads a stream, as it says itself.
    pub fn try_leader(&self, stream: &str) -> Option<usize> {
        self.nodes.iter().position(|node| {
            let leader = node.stream(stream).map(|detail| detail["cluster"]["leader"].clone());
            leader.is_some_and(|leader| leader == node.name)
        })
    }

    /// The same, waited for.
    pub fn leader(&self, stream: &str) -> usize {
        let mut leader = None;
        wait_until(LIMIT, &format!("{stream} has a leader"), || {
            leader = self.try_leader(stream);
            leader.is_some()
        });
        leader.expect("the wait has ended")
    }

    /// Waits until each copy of a stream is up to date.
    pub fn wait_until_whole(&self, stream: &str) {
        wait_until(2 * LIMIT, &format!("each copy of {stream} is current"), || {
            let Some(leader) = self.try_leader(stream) else { return false };
            let detail = self.nodes[leader].stream(stream).unwrap_or_default();
            let replicas = detail["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
            replicas.len() + 1 == self.nodes.len()
                && replicas.iter().all(|replica| {
                    replica["current"] == true && replica["offline"].as_bool() != Some(true)
                })
        });
    }
}

/// One server.
pub struct Node {
    pub name: String,
    /// Where clients connect.
    pub address: SocketAddr,
    monitor: SocketAddr,
    route: String,
    /// The network namespace that it is in.
    host: Option<String>,
    program: PathBuf,
    configuration: PathBuf,
    store: PathBuf,
    store_size: Option<String>,
    /// Keeps the store mounted, also while the server does not run.
    mount: Mutex<Option<Running>>,
    log: PathBuf,
    /// None while it does not run.
    child: Mutex<Option<Child>>,
    /// Where it listens stays ours while it does not run.
    _ports: Vec<Port>,
}

impl Node {
    fn new(number: usize, plan: &Plan<'_>, program: PathBuf, folder: &tempfile::TempDir) -> Node {
        let name = format!("n{}", number + 1);
        let mut ports = Vec::new();
        let mut address = |of_host: u16| match plan.hosts {
            Some(_) => SocketAddr::from(([10, 77, 0, number as u8 + 1], of_host)),
            None => {
                ports.push(reserve());
                SocketAddr::from((Ipv4Addr::LOCALHOST, ports.last().expect("one").number))
            }
        };
        let (clients, routes, monitor) = (address(4222), address(6222), address(8222));
        Node {
            address: clients,
            monitor,
            route: routes.to_string(),
            host: plan.hosts.map(|hosts| hosts.name(number).to_owned()),
            program,
            configuration: folder.path().join(format!("{name}.conf")),
            store: folder.path().join(format!("store-{name}")),
            store_size: plan.store_size.map(str::to_owned),
            mount: Mutex::new(None),
            log: folder.path().join(format!("{name}.log")),
            child: Mutex::new(None),
            _ports: ports,
            name,
        }
    }

    fn write_configuration(&self, plan: &Plan<'_>, routes: &[String], folder: &tempfile::TempDir) {
        std::fs::create_dir(&self.store).expect("the temporary folder can be written");
        let Node { name, address, monitor, store, route, .. } = self;
        let mut text = format!("server_name: {name}\nlisten: \"{address}\"\nhttp: \"{monitor}\"\n");
        if plan.jetstream {
            let more = plan.jetstream_more;
            text += &format!("jetstream {{\n  store_dir: {store:?}\n  {more}\n}}\n");
        }
        if routes.len() > 1 {
            let routes: Vec<String> = routes.iter().map(|at| format!("\"nats://{at}\"")).collect();
            let routes = routes.join(", ");
            text += &format!(
                "cluster {{\n  name: herd\n  listen: \"{route}\"\n  routes: [{routes}]\n}}\n"
            );
        }
        text += &plan.more.replace("{folder}", folder.path().to_str().expect("text"));
        std::fs::write(&self.configuration, text).expect("the temporary folder can be written");
    }

    /// Starts it, also once more, and waits until it listens.
    pub fn start(&self) {
        let mut words: Vec<String> = Vec::new();
        if let Some(host) = &self.host {
            words.extend(["ip", "netns", "exec", host].map(str::to_owned));
        }
        if let Some(size) = &self.store_size {
            let namespace = format!("--mount=/proc/{}/ns/mnt", self.mount(size));
            words.extend(["nsenter", &namespace].map(str::to_owned));
        }
        let arguments = ["-c", path(&self.configuration)].map(str::to_owned);
        words.extend([path(&self.program).to_owned()].into_iter().chain(arguments));
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut running = self.child();
        assert!(running.is_none(), "{} runs already", self.name);
        *running = Some(child);
        drop(running);
        wait_until(LIMIT, &format!("{} listens", self.name), || {
            let mut child = self.child();
            let ended = child.as_mut().expect("it was started").try_wait();
            let ended = ended.expect("the child can be waited for");
            assert!(ended.is_none(), "{} has ended ({ended:?}): {}", self.name, self.log());
            drop(child);
            self.log().lines().rev().any(|line| line.contains("Server is ready"))
                && self.monitor("/varz").is_some()
        });
    }

    /// Mounts the store where only the server sees it. Returns the process that keeps it.
    fn mount(&self, size: &str) -> u32 {
        let mut mount = self.mount.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let keeper = mount.get_or_insert_with(|| {
            let script = format!(
                "mount -t tmpfs -o size={size} tmpfs \"$0\" && touch \"$0/mounted\" && exec sleep 3600"
            );
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
            command.arg(&self.store).stdin(Stdio::null()).stdout(Stdio::null());
            let keeper = command.spawn().expect("unshare starts");
            let mounted = of_process(keeper.id(), &self.store.join("mounted"));
            let keeper = Running(keeper);
            wait_until(LIMIT, "the store is mounted", || mounted.exists());
            keeper
        });
        keeper.0.id()
    }

    /// SIGKILL, and its end.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            _ = child.kill();
            _ = child.wait();
        }
    }

    /// SIGTERM, and its end.
    pub fn stop(&self) -> ExitStatus {
        let mut child = self.child().take().expect("it runs");
        send_signal(child.id(), Signal::TERM);
        ended(&mut child)
    }

    /// SIGUSR2: it sends its clients away, and ends.
    pub fn lame_duck(&self) -> ExitStatus {
        let mut child = self.child().take().expect("it runs");
        send_signal(child.id(), Signal::USR2);
        ended(&mut child)
    }

    /// SIGSTOP: it stands still, and its connections stay open.
    pub fn hold(&self) {
        send_signal(self.pid(), Signal::STOP);
        let stat = format!("/proc/{}/stat", self.pid());
        wait_until(LIMIT, "the node stands", || {
            std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
        });
    }

    /// SIGCONT
    pub fn go_on(&self) {
        send_signal(self.pid(), Signal::CONT);
    }

    /// SIGHUP: it reads its configuration again.
    pub fn reload(&self) {
        send_signal(self.pid(), Signal::HUP);
    }

    pub fn pid(&self) -> u32 {
        self.child().as_ref().expect("it runs").id()
    }

    pub fn is_running(&self) -> bool {
        self.child().is_some()
    }

    /// A file in its store, as it sees it.
    pub fn stored(&self, name: &str) -> PathBuf {
        of_process(self.pid(), &self.store.join(name))
    }

    /// The folder of its store, which may be copied while it does not run.
    pub fn store(&self) -> &PathBuf {
        &self.store
    }

    /// Its configuration file, which may be changed.
    pub fn configuration(&self) -> &PathBuf {
        &self.configuration
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has logged this.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(LIMIT, &format!("{} logs {text:?}", self.name), || self.log().contains(text));
    }

    /// What it says of itself, such as at `/varz`; None if it does not answer.
    pub fn monitor(&self, target: &str) -> Option<Value> {
        let address = self.monitor;
        match &self.host {
            None => get(address, target),
            Some(host) => thread::scope(|scope| {
                let asked = scope.spawn(move || {
                    Hosts::enter(host);
                    get(address, target)
                });
                asked.join().expect("a question to a node does not panic")
            }),
        }
    }

    /// How many clients are connected to it.
    pub fn connections(&self) -> u64 {
        let state = self.monitor("/connz").unwrap_or_default();
        state["num_connections"].as_u64().expect("it runs, and counts them")
    }

    /// What it says of a stream that it has a copy of.
    pub fn stream(&self, name: &str) -> Option<Value> {
        let state = self.monitor("/jsz?accounts=true&streams=true&config=true")?;
        let accounts = state["account_details"].as_array()?;
        let streams = accounts.iter().filter_map(|account| account["stream_detail"].as_array());
        streams.flatten().find(|stream| stream["name"] == name).cloned()
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("the log of {} ends (backwards) {tail:#?}", self.name);
        }
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until(2 * LIMIT, "the node ends", || {
        status = child.try_wait().expect("the child can be waited for");
        status.is_some()
    });
    status.expect("the wait has ended")
}

/// A path as a process sees it.
fn of_process(pid: u32, path: &Path) -> PathBuf {
    let below_root = path.strip_prefix("/").expect("temporary folders have whole paths");
    PathBuf::from(format!("/proc/{pid}/root")).join(below_root)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A GET of JSON. Who does not answer soon is taken for dead.
fn get(address: SocketAddr, target: &str) -> Option<Value> {
    use std::io::{Read, Write};
    let soon = Duration::from_secs(2);
    let mut stream = std::net::TcpStream::connect_timeout(&address, soon).ok()?;
    stream.set_read_timeout(Some(soon)).ok()?;
    let request = format!("GET {target} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let (head, body) = response.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| serde_json::from_str(body).ok())?
}
