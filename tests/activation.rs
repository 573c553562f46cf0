//! Claim: a server takes the sockets that its parent has opened for it, and no others; connections wait in them while it
//! restarts, and are not refused.

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::process::{Running, follow, listens, read_to_end, send_signal, status_of};
use common::{Client, LIMIT, Next, Setup, raise_descriptor_limit, wait_until};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

const LINE: &str = "IAMAT kiwi +1.0+2.0 10";
const ANSWER: &str = "AT AT kiwi +1.0+2.0 10";

#[test]
fn a_passed_socket_is_served_and_wins_over_the_configuration() {
    let (setup, socket) = (Setup::alone(), listener("127.0.0.1:0"));
    let at = socket.local_addr().expect("an address");
    let server = Server::start(&setup, socket, &[]);
    assert_eq!(server.clients, at);
    assert_eq!(Client::connect(at).ask(LINE), ANSWER);
    let configured = setup.clients_address("Goloman");
    let refused = Client::try_connect(configured).err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    let warning = format!(
        "WARNING: listen is {configured}, but the service manager has passed a socket at {at}: that one is used"
    );
    server.wait_for_log(&warning);
    assert_eq!(server.log().matches("WARNING").count(), 1);
}

#[test]
fn a_socket_at_the_configured_address_is_nothing_to_warn_of() {
    let setup = Setup::alone();
    let address = setup.clients_address("Goloman");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&address.into()).expect("the port is ours");
    socket.listen(16).expect("a listener");
    let server = Server::start(&setup, socket, &[]);
    assert_eq!(Client::connect(address).ask(LINE), ANSWER);
    assert!(!server.log().contains("WARNING"), "{}", server.log());
}

#[test]
fn each_loop_accepts_from_the_one_socket() {
    let (setup, socket) = (Setup::alone().top("loops = 3"), listener("127.0.0.1:0"));
    let server = Server::start(&setup, socket, &[]);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.clients)).collect();
    for client in &mut clients {
        assert_eq!(client.ask(LINE), ANSWER);
    }
}

#[test]
fn nobody_is_refused_while_the_process_restarts() {
    let (setup, socket) = (Setup::alone(), listener("127.0.0.1:0"));
    let at = socket.local_addr().expect("an address");
    let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let mut client = Client::try_connect(at).expect("nobody is refused");
                    _ = client.try_send(format!("{LINE}\n"));
                    match client.next(LIMIT) {
                        Next::Line(line) => {
                            assert_eq!(line, ANSWER.as_bytes());
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        // It was accepted just before the end, and its line came after it.
                        Next::End(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let mut server = Server::start(&setup, socket.try_clone().expect("a copy"), &[]);
        let before = answered.load(Ordering::SeqCst);
        wait_until(LIMIT, "clients are served", || answered.load(Ordering::SeqCst) > before + 20);
        send_signal(server.child.0.id(), Signal::TERM);
        assert_eq!(status_of(&mut server.child.0), Some(0));
    }
    // Those that connect while no process runs wait for the next one.
    let mut waiting: Vec<Client> = (0..10).map(|_| Client::connect(at)).collect();
    waiting.iter_mut().for_each(|client| client.send(format!("{LINE}\n")));
    let _server = Server::start(&setup, socket.try_clone().expect("a copy"), &[]);
    waiting.iter_mut().for_each(|client| assert_eq!(client.line(), ANSWER));
    is_over.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("it had no reason to panic"));
}

#[test]
fn those_that_still_wait_when_it_stops_are_the_next_process_s() {
    raise_descriptor_limit();
    let (setup, socket) = (Setup::alone(), listener("127.0.0.1:0"));
    let mut server = Server::start(&setup, socket.try_clone().expect("a copy"), &[]);
    let pid = server.child.0.id();
    send_signal(pid, Signal::STOP);
    // More than it accepts before it looks at its signals.
    let mut clients: Vec<Client> = (0..2_000).map(|_| Client::connect(server.clients)).collect();
    send_signal(pid, Signal::TERM);
    send_signal(pid, Signal::CONT);
    assert_eq!(status_of(&mut server.child.0), Some(0));
    let _next = Server::start(&setup, socket, &[]);
    let mut answered = 0;
    for client in &mut clients {
        _ = client.try_send(format!("{LINE}\n"));
        answered += usize::from(client.next(LIMIT) == Next::Line(ANSWER.into()));
    }
    assert!(answered > 0, "all were accepted by a server that stops");
}

#[test]
fn a_reload_moves_no_passed_socket() {
    let (setup, socket) = (Setup::alone(), listener("127.0.0.1:0"));
    let server = Server::start(&setup, socket, &[]);
    let mut client = Client::connect(server.clients);
    let configured = setup.clients_address("Goloman").to_string();
    let moved = setup.toml("Goloman").replace(&configured, "127.0.0.1:1");
    std::fs::write(setup.folder.path().join("Goloman.toml"), moved).expect("a file");
    send_signal(server.child.0.id(), Signal::HUP);
    server.wait_for_log("configuration reloaded: no changes");
    let at = server.clients;
    server.wait_for_log(&format!(
        "listen is 127.0.0.1:1, but the service manager has passed a socket at {at}"
    ));
    assert_eq!(client.ask(LINE), ANSWER);
    assert_eq!(Client::connect(at).ask(LINE), ANSWER);
}

#[test]
fn what_is_not_meant_for_the_process_is_ignored() {
    for (words, why) in [
        (["LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=clients"], "of another process"),
        (["LISTEN_PID=", "LISTEN_FDS=1", "LISTEN_FDNAMES=clients"], "of no process"),
        (["LISTEN_PID=$$x", "LISTEN_FDS=1", "LISTEN_FDNAMES=clients"], "of none that there is"),
        (["LISTEN_FDS=99999999", "LISTEN_PID=1", "LISTEN_FDNAMES=x"], "nor its number"),
        (["LISTEN_PID=$$", "LISTEN_FDNAMES=clients", "X=1"], "without a number"),
        (["LISTEN_PID=$$", "LISTEN_FDS=0", "LISTEN_FDNAMES="], "none"),
    ] {
        let setup = Setup::alone();
        let server = Server::start(&setup, listener("127.0.0.1:0"), &words);
        assert_eq!(server.clients, setup.clients_address("Goloman"), "{why}");
        assert_eq!(Client::connect(server.clients).ask(LINE), ANSWER);
    }
}

#[test]
fn sockets_that_are_unusable_or_have_no_place_end_the_program_with_status_2() {
    let one = |name: &'static str| ["LISTEN_PID=$$", "LISTEN_FDS=1", name];
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let unix = UnixListener::bind(folder.path().join("socket")).expect("a socket");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let file = std::fs::File::open("/dev/null").expect("it is there");
    let tcp = || OwnedFd::from(listener("127.0.0.1:0"));
    let clients = one("LISTEN_FDNAMES=clients");
    for (socket, words, part) in [
        (tcp(), one("LISTEN_FDNAMES=herd-mio@Goloman.socket"), "set FileDescriptorName= to one of"),
        (tcp(), one("LISTEN_FDNAMES="), "LISTEN_FDS=1, but LISTEN_FDNAMES has 0 names"),
        (tcp(), one("LISTEN_FDNAMES=clients:peers"), "LISTEN_FDNAMES has 2 names"),
        (tcp(), ["LISTEN_PID=$$", "LISTEN_FDS=2", "LISTEN_FDNAMES=clients:clients"], "two passed"),
        (
            tcp(),
            ["LISTEN_PID=$$", "LISTEN_FDS=2", "LISTEN_FDNAMES=clients:peers"],
            "(descriptor 4)",
        ),
        (tcp(), ["LISTEN_PID=$$", "LISTEN_FDS=4", "LISTEN_FDNAMES=a:b:c:d"], "at most 3 sockets"),
        (tcp(), ["LISTEN_PID=$$", "LISTEN_FDS=-1", "LISTEN_FDNAMES=a"], "LISTEN_FDS=-1 is not"),
        (
            tcp(),
            ["LISTEN_PID=$$", "LISTEN_FDS=99999999999", "LISTEN_FDNAMES=a"],
            "is not the number",
        ),
        (bound.into(), clients, "is not a TCP socket that listens"),
        (unix.into(), clients, "(descriptor 3) is unusable"),
        (udp.into(), clients, "(descriptor 3) is unusable"),
        (file.into(), clients, "(descriptor 3) is unusable"),
    ] {
        let setup = Setup::alone();
        let (status, said) = end_of(activated(&setup.command("Goloman"), socket, &words));
        assert_eq!(status, Some(2), "{words:?}: {said}");
        assert!(said.contains(part), "{words:?}: {said}");
    }
}

#[test]
fn a_herd_takes_none() {
    let setup = Setup::report();
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.arg("--herd").arg("--config").arg(setup.config_file("herd"));
    let words = ["LISTEN_PID=$$", "LISTEN_FDS=1", "LISTEN_FDNAMES=clients"];
    let (status, said) = end_of(activated(&command, listener("127.0.0.1:0"), &words));
    assert_eq!(status, Some(2));
    assert!(said.contains("run each server as a service of its own"), "{said}");
}

#[test]
fn plain_text_beyond_this_host_is_refused_from_a_passed_socket_too() {
    let words = |name: &'static str| ["LISTEN_PID=$$", "LISTEN_FDS=1", name];
    for words in [words("LISTEN_FDNAMES=peers"), words("LISTEN_FDNAMES=admin")] {
        let setup = Setup::star(&["Hands"]);
        let command = activated(&setup.command("Goloman"), listener("0.0.0.0:0"), &words);
        let (status, said) = end_of(command);
        assert!(status == Some(2) && said.contains("allow_plaintext"), "{words:?}: {said}");
    }
}

/// Goloman, whose parent has opened a socket for it.
struct Server {
    child: Running,
    clients: SocketAddr,
    log_file: std::path::PathBuf,
}

impl Server {
    /// With `words` in place of the variables that name the socket `clients`.
    fn start(setup: &Setup, socket: impl Into<OwnedFd>, words: &[&str]) -> Server {
        let words = match words {
            [] => &["LISTEN_PID=$$", "LISTEN_FDS=1", "LISTEN_FDNAMES=clients"],
            words => words,
        };
        let (child, said) = activated(&setup.command("Goloman"), socket, words);
        let mut server = Server {
            child: Running(child),
            clients: SocketAddr::from(([0; 4], 0)),
            log_file: setup.log_file("Goloman"),
        };
        wait_until(LIMIT, "it listens", || {
            let said = said.lock().expect("the reader does not panic");
            assert_eq!(server.child.0.try_wait().expect("it is ours"), None, "{said}");
            listens(&said, "Goloman").map(|(clients, _)| server.clients = clients).is_some()
        });
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log_file).unwrap_or_default()
    }

    fn wait_for_log(&self, text: &str) {
        wait_until(LIMIT, text, || self.log().contains(text));
    }
}

/// Starts a command with a socket as its descriptor 3, and these variables, of which a shell makes the words. (Only in
/// the process itself its id is known.)
fn activated(
    command: &Command,
    socket: impl Into<OwnedFd>,
    words: &[&str],
) -> (std::process::Child, Arc<Mutex<String>>) {
    let script = format!("exec 3<&0 </dev/null; export {}; exec \"$@\"", words.join(" "));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.stdin(Stdio::from(socket.into())).stdout(Stdio::null()).stderr(Stdio::piped());
    shell.env_remove("HERD_PLACES_KEY");
    let mut child = shell.spawn().expect("there is a shell");
    let said = follow(child.stderr.take().expect("it is piped"));
    (child, said)
}

fn end_of((child, said): (std::process::Child, Arc<Mutex<String>>)) -> (Option<i32>, String) {
    let mut child = Running(child);
    let status = status_of(&mut child.0);
    (status, read_to_end(&said))
}

fn listener(address: &str) -> TcpListener {
    TcpListener::bind(address).expect("a port")
}
