//! The end of a loop: everything that must be reported or answered is.

use std::time::Duration;

use super::{add, event_loop, turn};
use crate::application::Command;
use crate::event_loop::Limits;
use crate::event_loop::state::Owed;

/// There is no time for all of them in one turn.
#[test]
fn each_closed_connection_is_reported_before_the_loop_ends() {
    const COUNT: usize = 60;
    let mut event_loop = event_loop(Limits::default());
    event_loop.app.pause_at_close = Duration::from_millis(1);
    let _others: Vec<_> = (0..COUNT).map(|_| add(&mut event_loop)).collect();
    event_loop.application().commands.push(Command::Stop);
    let stopped = event_loop.run().expect("it runs");
    assert!(!stopped.grace_expired);
    assert_eq!(stopped.app.closed.len(), COUNT);
}

/// A session that asked to be called again holds a message that it has not answered yet.
#[test]
fn a_connection_that_is_called_again_is_owed_an_answer_at_a_stop() {
    let is_owed_nothing = |owed| {
        let mut event_loop = event_loop(Limits::default());
        event_loop.app.probes = true;
        let (id, _other) = add(&mut event_loop);
        turn(&mut event_loop);
        let slot = event_loop.connections.slots.get_mut(id).expect("it is open");
        slot.connection.owed = owed;
        event_loop.stop();
        let slot = event_loop.connections.slots.get_mut(id).expect("it is open");
        slot.connection.is_owed_nothing
    };
    assert!(is_owed_nothing(Owed::Nothing));
    assert!(!is_owed_nothing(Owed::Again));
}
