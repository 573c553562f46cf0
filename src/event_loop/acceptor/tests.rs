//! Listeners alone: without a loop.

use super::*;

fn listen() -> Listen {
    Listen::on(ListenerId(0), SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn listener(listen: Listen) -> io::Result<Listener> {
    let bound = Bound::new(listen)?;
    bound.listen()?;
    Ok(Listener::new(bound, Token(0)))
}

#[test]
fn endless_new_connections_do_not_keep_a_listener_open() {
    let mut listener = listener(listen()).expect("a free port");
    let address = listener.socket.local_addr().expect("it is bound");
    listener.accept_the_last(Duration::ZERO);
    for number in 0..=BACKLOG {
        assert!(
            !listener.is_done(Duration::ZERO),
            "{number} of those that may have waited were accepted"
        );
        // Each connects in time, so `accept` never reports that none waits.
        let _waiting = std::net::TcpStream::connect(address).expect("it listens");
        assert!(matches!(listener.accept(), Accepted::Connection(..)));
    }
    assert!(listener.is_done(Duration::ZERO));
    let _late = std::net::TcpStream::connect(address).expect("it listens still");
    assert!(matches!(listener.accept(), Accepted::None));
}

#[test]
#[cfg(target_os = "linux")]
fn only_loops_of_one_process_share_a_port() {
    let first = Listen { sharing: Sharing::First, ..listen() };
    let first = listener(first).expect("a free port");
    let address = first.socket.local_addr().expect("it is bound");
    let other = Listen { address, sharing: Sharing::First, ..listen() };
    assert!(listener(other.clone()).is_err(), "it is another process's");
    let further = Listen { sharing: Sharing::Further, ..other };
    assert!(listener(further).is_ok());
}
