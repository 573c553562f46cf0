//! Traps of event loops (`docs/the-loop.md`) that not every machine can set.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rustix::process::Signal;

use crate::common::needs::{Outcome, kernel};
use crate::common::{Client, ServerProcess, Setup};

const IAMAT: &str = "IAMAT a +1.0+2.0 10";
const AT: &str = "AT AT a +1.0+2.0 10";

/// mio and the standard library ask for 128.
pub fn a_crowd_that_comes_at_once_waits_in_the_backlog() -> Outcome {
    let crowd = 400;
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let is_enough = most.trim().parse::<usize>().is_ok_and(|most| most >= crowd);
    kernel(is_enough, format!("the kernel allows a backlog of {:?} only", most.trim()))?;
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    server.hold();
    let connect = |_| Client::try_connect(server.clients).expect("room in the backlog");
    let mut clients: Vec<Client> = (0..crowd).map(connect).collect();
    server.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.ask(IAMAT), AT);
    }
    Ok(())
}

/// With both families on one socket, IPv4 clients come as `::ffff:127.0.0.1`.
pub fn a_client_has_its_own_address_on_a_listener_for_both_families() -> Outcome {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    kernel(has_ipv6, "this machine has no IPv6")?;
    let setup = Setup::alone();
    let path = setup.folder.path().join("Goloman.toml");
    let toml =
        "[[server]]\nname = \"Goloman\"\nlisten = \"[::]:0\"\npeer_listen = \"127.0.0.1:0\"\n";
    let command = setup.command("Goloman"); // writes a configuration, which this one replaces
    std::fs::write(&path, toml).expect("the temporary folder can be written");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.clients.port()));
    let mut client = Client::connect(address);
    assert_eq!(client.ask(IAMAT), AT);
    let own = client.stream.local_addr().expect("it is connected");
    server.wait_for_log(&format!("Client {own} is connected."));
    assert!(!server.log().contains("ffff"), "{}", server.log());
    Ok(())
}
