//! Complete answers that clients have not taken yet. An answer that many clients wait for is held once.
//!
//! ```text
//!   complete --> [ answer ] --Command::Fill for each waiter, in the order of their bounds-->
//!                    |
//!                    +-- take: trimmed for a bound when the first client of that bound takes it
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::queries::Waiter;
use crate::application::ConnectionId;
use crate::places::trim::ValidAnswer;

/// The answers, and which client gets which.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_number: HashMap<u64, Completed>,
    /// A client waits for one answer at a time.
    by_client: HashMap<ConnectionId, Share>,
    /// Clients for which the loop has not been asked to call `fill` yet.
    fills: VecDeque<ConnectionId>,
    last: u64,
    held_bytes: usize,
}

/// What one client gets.
#[derive(Clone, Copy, Debug)]
struct Share {
    number: u64,
    /// The maximal number of places in its answer.
    bound: usize,
}

/// One answer for all clients that asked the same question.
#[derive(Debug)]
struct Completed {
    answer: Result<ValidAnswer<'static>, Vec<u8>>,
    /// Clients that have not taken it yet.
    waiting: usize,
    /// The answer trimmed for one bound, made when the first client of that bound takes it: all bounds at
    /// once could be twenty times as large as the answer.
    trimmed: Option<(usize, Arc<Vec<u8>>)>,
}

impl Answers {
    /// Keeps an answer, or the body of a failure, for these clients.
    pub(super) fn complete(
        &mut self,
        mut waiters: Vec<Waiter>,
        answer: Result<ValidAnswer<'static>, Vec<u8>>,
    ) {
        if waiters.is_empty() {
            return;
        }
        waiters.sort_by_key(|waiter| waiter.bound);
        self.last += 1;
        let number = self.last;
        for &Waiter { client, bound } in &waiters {
            self.forget(client);
            self.by_client.insert(client, Share { number, bound });
            self.fills.push_back(client);
        }
        self.held_bytes += size(&answer);
        self.by_number.insert(number, Completed { answer, waiting: waiters.len(), trimmed: None });
    }

    /// The next client whose answer is complete.
    pub(super) fn poll_fill(&mut self) -> Option<ConnectionId> {
        self.fills.pop_front()
    }

    /// The body for a client, if its answer is complete.
    pub(super) fn take(&mut self, client: ConnectionId) -> Option<Arc<Vec<u8>>> {
        let Share { number, bound } = self.by_client.remove(&client)?;
        let completed = self.by_number.get_mut(&number)?;
        let body = match completed.trimmed.take() {
            Some((same, body)) if same == bound => body,
            before => {
                self.held_bytes -= before.map_or(0, |(_, body)| body.capacity());
                let body = match &completed.answer {
                    Ok(usable) => usable.trim(bound),
                    Err(failure) => failure.clone(),
                };
                self.held_bytes += body.capacity();
                Arc::new(body)
            }
        };
        completed.trimmed = Some((bound, Arc::clone(&body)));
        self.release(number);
        Some(body)
    }

    /// Forgets a client that is gone.
    pub(super) fn forget(&mut self, client: ConnectionId) {
        if let Some(Share { number, .. }) = self.by_client.remove(&client) {
            self.release(number);
        }
    }

    /// Bytes of answers that no client has taken yet.
    pub(super) fn is_empty(&self) -> bool {
        self.by_client.is_empty() && self.fills.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// One client fewer waits for an answer; it is dropped once none does.
    fn release(&mut self, number: u64) {
        let Some(completed) = self.by_number.get_mut(&number) else {
            return;
        };
        completed.waiting -= 1;
        if completed.waiting == 0 {
            let trimmed = completed.trimmed.as_ref().map_or(0, |(_, body)| body.capacity());
            self.held_bytes -= trimmed + size(&completed.answer);
            self.by_number.remove(&number);
        }
    }
}

fn size(answer: &Result<ValidAnswer<'static>, Vec<u8>>) -> usize {
    match answer {
        Ok(usable) => usable.held(),
        Err(failure) => failure.capacity(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 1 }
    }

    fn complete(answers: &mut Answers, clients: u32) -> String {
        let waiters =
            (0..clients).map(|slot| Waiter { client: client(slot), bound: slot as usize % 3 });
        let text = format!("{{\"results\":[1,2],\"x\":\"{}\"}}", "x".repeat(1_000));
        let answer = ValidAnswer::made(text.clone().into_bytes(), "results", 2).expect("usable");
        answers.complete(waiters.collect(), Ok(answer));
        text
    }

    #[test]
    fn an_answer_that_many_clients_wait_for_is_held_once_and_trimmed_once_for_each_bound() {
        let mut answers = Answers::default();
        let text = complete(&mut answers, 3_000);
        let mut taken = [0; 3_000];
        let mut last: Option<Arc<Vec<u8>>> = None;
        while let Some(client) = answers.poll_fill() {
            let body = answers.take(client).expect("its answer is complete");
            let list = ["[]", "[1]", "[1,2]"][client.slot as usize % 3];
            assert_eq!(*body, format!("{}\n\n", text.replace("[1,2]", list)).into_bytes());
            taken[client.slot as usize] += 1;
            if let Some(last) = last.filter(|last| *last == body) {
                assert!(Arc::ptr_eq(&last, &body), "clients with the same bound share it");
            }
            last = Some(body);
            // Only one bound's body exists at a time.
            assert!(answers.held_bytes() < 3 * text.len(), "{}", answers.held_bytes());
        }
        assert_eq!((taken, answers.held_bytes()), ([1; 3_000], 0));
    }

    #[test]
    fn an_answer_is_dropped_when_the_last_client_that_waits_for_it_is_gone() {
        let mut answers = Answers::default();
        complete(&mut answers, 3);
        assert!(answers.take(client(1)).is_some() && answers.take(client(1)).is_none());
        answers.forget(client(1));
        answers.forget(client(0));
        assert!(answers.held_bytes() > 0);
        answers.forget(client(2));
        assert!(answers.held_bytes() == 0 && answers.take(client(2)).is_none());
    }
}
