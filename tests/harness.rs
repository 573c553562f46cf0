//! Claim: the helpers of the other tests work: reserved ports, the forwarder, waiting until a peer has read.

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use common::client::Next;
use common::ports::reserve;
use common::process::listens;
use common::sockets::wait_until_read;
use common::{Client, Proxy};

#[test]
fn a_reserved_port_refuses_clients_and_lets_a_server_listen_again_and_again() {
    let port = reserve();
    assert!(Client::try_connect(port.address()).is_err(), "no listener yet");
    for _ in 0..3 {
        let listener = TcpListener::bind(port.address()).expect("the port is ours");
        let mut client = Client::connect(port.address());
        let (server, _) = listener.accept().expect("a client");
        drop(server); // this side closes first, so the port is left in TIME_WAIT
        assert_eq!(client.next(common::LIMIT), Next::End(Vec::new()));
    }
    assert_ne!(reserve().number, port.number);
}

#[test]
fn a_proxy_forwards_is_cut_and_restored() {
    let port = reserve();
    let listener = TcpListener::bind(port.address()).expect("the port is ours");
    let proxy = Proxy::to(port.address());

    let mut near = Client::connect(proxy.address);
    let mut far = Client::of(listener.accept().expect("forwarded").0);
    near.send("there\n");
    assert_eq!(far.line(), "there");
    far.send("and back\n");
    assert_eq!(near.line(), "and back");

    proxy.freeze();
    std::thread::sleep(Duration::from_millis(20)); // a read that had begun before may still pass bytes on
    near.send("held\n");
    far.expect_silence(Duration::from_millis(50));
    proxy.restore();
    assert_eq!(far.line(), "held");

    proxy.cut();
    assert_eq!(near.next(common::LIMIT), Next::End(Vec::new()));
    assert_eq!(far.next(common::LIMIT), Next::End(Vec::new()));
    let mut refused = Client::connect(proxy.address);
    assert!(refused.is_closed_within(common::LIMIT));

    proxy.restore();
    let mut again = Client::connect(proxy.address);
    let mut far = Client::of(listener.accept().expect("forwarded").0);
    again.send("healed\n");
    assert_eq!(far.line(), "healed");
}

#[test]
fn waiting_until_read_waits_for_the_reader() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut client = Client::connect(address);
    client.send("eleven byte");
    let has_read = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let (mut server, _): (TcpStream, _) = listener.accept().expect("the client");
            std::thread::sleep(Duration::from_millis(50));
            has_read.store(true, std::sync::atomic::Ordering::SeqCst);
            let mut bytes = [0; 11];
            server.read_exact(&mut bytes).expect("eleven bytes");
            std::thread::sleep(Duration::from_millis(50));
        });
        wait_until_read(&client.stream);
        assert!(
            has_read.load(std::sync::atomic::Ordering::SeqCst),
            "it came back before anything was read"
        );
    });
}

#[test]
fn the_line_with_the_ports_is_recognised_only_when_complete() {
    let said = "a warning\nGoloman listens on 127.0.0.1:12138, for neighbours on 127.0.0.1:22138";
    assert_eq!(listens(said, "Goloman"), None, "its LF is still to come");
    let (clients, peers) = listens(&format!("{said}\n"), "Goloman").expect("it is there");
    assert_eq!((clients.port(), peers.port()), (12138, 22138));
    assert_eq!(listens(&format!("{said}\n"), "Hands"), None);
}
