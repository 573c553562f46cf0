//! What can be seen only from within: who gets which slot, and when.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::UnixStream;

use super::worker::Done;
use super::{EventLoop, Life, Socket};
use crate::config::Config;
use crate::connections::{Client, ConnectionId, Role};
use crate::herd::NeighbourId;
use crate::logging::Log;

fn event_loop(config: &Config) -> EventLoop {
    EventLoop::new(config, 0, Vec::new(), 10, Log::none()).expect("a loop")
}

/// A connection of a client, and the client's end of it.
fn add_client(event_loop: &mut EventLoop) -> (ConnectionId, UnixStream) {
    let (one, other) = UnixStream::pair().expect("a pair");
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let role = Role::Client(Client::default());
    (event_loop.add(Socket::Pair(one), peer, role, Life::Open), other)
}

/// A herd in which the first server dials two others by names that nobody knows.
fn dials_by_name() -> Config {
    let mut text = "[[server]]\nname = \"A\"\nneighbours = [\"B\", \"C\"]\n".to_owned();
    for (name, port) in [("A", 2), ("B", 4), ("C", 6)] {
        if name != "A" {
            text += &format!("[[server]]\nname = \"{name}\"\nadvertise = \"{name}.invalid:9\"\n");
        }
        text +=
            &format!("listen = \"127.0.0.1:{port}\"\npeer_listen = \"127.0.0.1:{}\"\n", port + 1);
    }
    Config::parse(&text).expect("a herd")
}

/// An event of this turn's batch may still name the slot.
#[test]
fn a_slot_is_given_back_at_the_end_of_a_turn_and_no_sooner() {
    let mut event_loop = event_loop(&Config::default());
    let mut theirs = Vec::new();
    let mut add = |event_loop: &mut EventLoop| -> ConnectionId {
        let (id, other) = add_client(event_loop);
        theirs.push(other);
        id
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

/// No event has told of it, so nothing but another read can find it.
#[test]
fn what_came_after_the_last_poll_is_answered_when_a_server_stops() {
    let mut event_loop = event_loop(&Config::default());
    let (id, mut client) = add_client(&mut event_loop);
    event_loop.wait().expect("a poll");
    event_loop.note();
    event_loop.serve();
    assert!(event_loop.slots.get_mut(id).is_some_and(|it| !it.connection.ready.readable));
    client.write_all(b"late\n").expect("it is connected");
    event_loop.stop();
    event_loop.serve();
    let mut answer = [0; 16];
    let count = client.read(&mut answer).expect("an answer, or the end");
    assert_eq!(&answer[..count], b"? late\n");
}

/// Two wakes may come as one event, and the second of them will not come again.
#[test]
fn each_result_that_one_wake_tells_of_is_taken_in_that_turn() {
    let mut event_loop = event_loop(&dials_by_name());
    let neighbours = [NeighbourId(0), NeighbourId(1)];
    for neighbour in neighbours {
        let result = Ok(vec![SocketAddr::from(([127, 0, 0, 1], 9))]);
        event_loop.worker.report_done(Done::Resolved { neighbour, result });
    }
    event_loop.turn().expect("a turn");
    assert!(neighbours.iter().all(|neighbour| event_loop.knows_addresses_of(*neighbour)));
}

/// The look-up of the next dial may take as long.
#[test]
fn what_a_look_up_found_too_late_is_used_by_the_next_dial() {
    let mut event_loop = event_loop(&dials_by_name());
    let neighbour = NeighbourId(0);
    assert!(!event_loop.server.awaits_connection(neighbour), "its dial was given up");
    event_loop.resolved(neighbour, Ok(vec![SocketAddr::from(([127, 0, 0, 1], 9))]));
    assert!(event_loop.knows_addresses_of(neighbour));
    assert_eq!(event_loop.slots.iter_mut().count(), 0, "nobody is dialled for it");
}

/// `timeout` and Ctrl-C signal a process and then its group.
#[test]
fn a_second_signal_is_impatience_only_after_a_second() {
    let mut event_loop = event_loop(&Config::default());
    let (_id, _client) = add_client(&mut event_loop);
    let began = event_loop.now.elapsed;
    for (after, ends) in [(0, false), (0, false), (999, false), (1_000, true)] {
        event_loop.now.elapsed = began + Duration::from_millis(after);
        event_loop.stop_by_signal();
        assert_eq!(event_loop.is_over(), ends, "after {after} ms");
    }
}
