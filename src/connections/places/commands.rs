//! What the loop is to do for the queries, in order. Answers that many wait for are in it once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::queries::Asker;
use crate::connections::Command;

/// Commands that the loop has not fetched yet.
#[derive(Debug, Default)]
pub(super) struct Commands {
    queue: VecDeque<Command>,
    undelivered: usize,
}

impl Commands {
    pub(super) fn push_back(&mut self, command: Command) {
        self.queue.push_back(command);
    }

    pub(super) fn extend(&mut self, commands: impl IntoIterator<Item = Command>) {
        self.queue.extend(commands);
    }

    /// Delivers to each asker the body of its bound, which is made once.
    pub(super) fn deliver(&mut self, askers: Vec<Asker>, mut body: impl FnMut(usize) -> Vec<u8>) {
        let mut bodies: BTreeMap<usize, Arc<Vec<u8>>> = BTreeMap::new();
        for Asker { who, bound } in askers {
            let shared = bodies.entry(bound).or_insert_with(|| Arc::new(body(bound)));
            self.queue.push_back(Command::Deliver { to: who, body: Arc::clone(shared) });
        }
        self.undelivered += bodies.values().map(|body| body.capacity()).sum::<usize>();
    }

    pub(super) fn pop_front(&mut self) -> Option<Command> {
        let command = self.queue.pop_front();
        if let Some(Command::Deliver { body, .. }) = &command
            && Arc::strong_count(body) == 1
        {
            self.undelivered -= body.capacity();
        }
        command
    }

    /// Bytes of answers that are still to be delivered.
    pub(super) fn undelivered(&self) -> usize {
        self.undelivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::ConnectionId;

    #[test]
    fn an_answer_that_many_wait_for_is_held_once_for_each_bound() {
        let mut commands = Commands::default();
        let askers = (0..3_000).map(|slot| {
            let who = ConnectionId { slot, generation: 1 };
            Asker { who, bound: (slot % 3) as usize }
        });
        let mut made = 0;
        commands.deliver(askers.collect(), |bound| {
            made += 1;
            vec![b'x'; 1_000 + bound]
        });
        assert_eq!((made, commands.undelivered()), (3, 3_003));
        for slot in 0..3_000 {
            let Some(Command::Deliver { to, body }) = commands.pop_front() else {
                panic!("an answer for {slot}");
            };
            assert_eq!((to.slot, body.len()), (slot, 1_000 + (slot % 3) as usize));
        }
        assert_eq!(commands.undelivered(), 0);
    }
}
