//! Answers that one connection holds back until what they confirm is kept (`kept.rs`).
//!
//! They are given in the order of their lines, so one that is not due holds up those behind it.

use std::collections::VecDeque;
use std::time::Duration;

use super::Herd;
use super::kept::{Awaited, Holder};

/// The answers of one connection that are not due yet.
#[derive(Debug, Default)]
pub struct HeldAnswers {
    answers: VecDeque<HeldAnswer>,
    /// Their texts, one behind the other.
    texts: VecDeque<u8>,
}

#[derive(Clone, Copy, Debug)]
struct HeldAnswer {
    /// None if it waits only for those before it.
    awaited: Option<Awaited>,
    length: usize,
    since: Duration,
}

impl HeldAnswers {
    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The number of held answers.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Bytes of memory that they take.
    pub fn held_bytes(&self) -> usize {
        self.texts.capacity() + self.answers.capacity() * size_of::<HeldAnswer>()
    }

    /// Since when the oldest one is held.
    pub fn since(&self) -> Option<Duration> {
        self.answers.front().map(|answer| answer.since)
    }

    /// Holds an answer back that waits for this, or, if for nothing, for those before it. `holder` is told when it may be
    /// due ([`Output::AnswersDue`](super::Output::AnswersDue)).
    pub fn push(
        &mut self,
        awaited: Option<Awaited>,
        text: &[u8],
        now: Duration,
        holder: Holder,
        herd: &mut Herd,
    ) {
        if let Some(awaited) = awaited.filter(|_| self.is_empty()) {
            herd.hold(awaited, holder);
        }
        self.answers.push_back(HeldAnswer { awaited, length: text.len(), since: now });
        self.texts.extend(text);
    }

    /// Takes the answers that are due, appends them to `out`, and calls `taken` with the time since which each was held.
    /// `holder` is told when the next one may be due.
    pub fn take_due(
        &mut self,
        out: &mut Vec<u8>,
        holder: Holder,
        herd: &mut Herd,
        mut taken: impl FnMut(Duration),
    ) {
        while let Some(answer) = self.answers.front() {
            if let Some(awaited) = answer.awaited.filter(|awaited| !herd.is_kept(*awaited)) {
                herd.hold(awaited, holder);
                return;
            }
            taken(answer.since);
            out.extend(self.texts.drain(..answer.length));
            self.answers.pop_front();
        }
    }
}
