//! What the loop is to do for the queries, in order. Answers that many wait for are in it once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::queries::Asker;
use crate::connections::Command;
use crate::places::trim::ValidAnswer;

/// Commands that the loop has not fetched yet.
#[derive(Debug, Default)]
pub(super) struct Commands {
    queue: VecDeque<Waiting>,
    undelivered: usize,
}

/// What waits in it.
#[derive(Debug)]
enum Waiting {
    Command(Command),
    /// One answer for all who asked.
    Answer {
        /// In the order of their bounds.
        askers: VecDeque<Asker>,
        answer: Result<ValidAnswer<'static>, Vec<u8>>,
        /// What those of one bound get, made when the first of them is served: all of them at once could be
        /// twenty times as large as the answer.
        body: Option<(usize, Arc<Vec<u8>>)>,
    },
}

impl Commands {
    pub(super) fn push_back(&mut self, command: Command) {
        self.queue.push_back(Waiting::Command(command));
    }

    pub(super) fn extend(&mut self, commands: impl IntoIterator<Item = Command>) {
        self.queue.extend(commands.into_iter().map(Waiting::Command));
    }

    /// Delivers to each asker the answer as far as its bound goes, or the failure.
    pub(super) fn deliver(
        &mut self,
        mut askers: Vec<Asker>,
        answer: Result<ValidAnswer<'static>, Vec<u8>>,
    ) {
        if askers.is_empty() {
            return;
        }
        askers.sort_by_key(|asker| asker.bound);
        self.undelivered += held(&answer);
        self.queue.push_back(Waiting::Answer { askers: askers.into(), answer, body: None });
    }

    pub(super) fn pop_front(&mut self) -> Option<Command> {
        if let Some(Waiting::Answer { askers, answer, body }) = self.queue.front_mut() {
            let Asker { who, bound } = askers.pop_front()?;
            let made = match body.take() {
                Some((same, made)) if same == bound => made,
                before => {
                    self.undelivered -= before.map_or(0, |(_, made)| made.capacity());
                    let made = match answer {
                        Ok(usable) => usable.trim(bound),
                        Err(failed) => failed.clone(),
                    };
                    self.undelivered += made.capacity();
                    Arc::new(made)
                }
            };
            let command = Command::Deliver { to: who, body: Arc::clone(&made) };
            if askers.is_empty() {
                self.undelivered -= made.capacity() + held(answer);
                self.queue.pop_front();
            } else {
                *body = Some((bound, made));
            }
            return Some(command);
        }
        match self.queue.pop_front()? {
            Waiting::Command(command) => Some(command),
            Waiting::Answer { .. } => None, // It was looked for above.
        }
    }

    /// Bytes of answers that are still to be delivered.
    pub(super) fn undelivered(&self) -> usize {
        self.undelivered
    }
}

fn held(answer: &Result<ValidAnswer<'static>, Vec<u8>>) -> usize {
    match answer {
        Ok(usable) => usable.held(),
        Err(failed) => failed.capacity(),
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
        let text = format!("{{\"results\":[1,2],\"x\":\"{}\"}}", "x".repeat(1_000));
        let answer = ValidAnswer::made(text.clone().into_bytes(), "results", 2).expect("usable");
        commands.deliver(askers.collect(), Ok(answer));
        let mut told = [0; 3_000];
        let mut last: Option<Arc<Vec<u8>>> = None;
        while let Some(command) = commands.pop_front() {
            let Command::Deliver { to, body } = command else {
                panic!("only answers wait");
            };
            let list = ["[]", "[1]", "[1,2]"][to.slot as usize % 3];
            assert_eq!(*body, format!("{}\n\n", text.replace("[1,2]", list)).into_bytes());
            told[to.slot as usize] += 1;
            if let Some(last) = last.filter(|last| *last == body) {
                assert!(Arc::ptr_eq(&last, &body), "those of one bound share it");
            }
            last = Some(body);
            // And of the bounds, only one at a time.
            assert!(commands.undelivered() < 3 * text.len(), "{}", commands.undelivered());
        }
        assert_eq!((told, commands.undelivered()), ([1; 3_000], 0));
    }
}
