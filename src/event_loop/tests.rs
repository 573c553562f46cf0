//! What can be seen only from within: who gets which slot, and when.

use std::net::SocketAddr;

use log::LevelFilter;
use mio::net::UnixStream;

use super::{EventLoop, Life, Socket};
use crate::config::Config;
use crate::connections::{Client, ConnectionId, Role};

/// An event of this turn's batch may still name the slot.
#[test]
fn a_slot_is_given_back_at_the_end_of_a_turn_and_no_sooner() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = crate::logging::start(folder.path(), "Slots", LevelFilter::Off).expect("a log");
    let mut event_loop =
        EventLoop::new(&Config::default(), 0, Vec::new(), 10, log).expect("a loop");
    let mut theirs = Vec::new();
    let mut add = |event_loop: &mut EventLoop| -> ConnectionId {
        let (one, other) = UnixStream::pair().expect("a pair");
        theirs.push(other);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        event_loop.add(Socket::Pair(one), peer, Role::Client(Client::default()), Life::Open)
    };
    let former = add(&mut event_loop);
    event_loop.kill(former);
    event_loop.kill(former); // Once is enough.
    let newcomer = add(&mut event_loop);
    assert_ne!(newcomer.slot, former.slot);
    event_loop.reap();
    assert!(event_loop.slots.get_mut(former).is_none());
    let heir = add(&mut event_loop);
    assert_eq!(heir.slot, former.slot);
    assert_eq!(event_loop.guests, 2);
    // Whatever still bears the name from before finds nobody.
    event_loop.queue_serve(former);
    event_loop.finish(former);
    event_loop.kill(former);
    event_loop.serve();
    event_loop.reap();
    assert!(event_loop.slots.get_mut(heir).is_some_and(|heir| heir.connection.life == Life::Open));
}
