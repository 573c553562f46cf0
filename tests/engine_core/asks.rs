//! What clients ask a member for, and what must hold of the answers.

use std::collections::BTreeMap;

use herd_mio::herd::engine::EngineAnswer;

use crate::laws::{keep_newest, newer_or_equal, update};
use crate::member::{HOLDERS, name_of};
use crate::world::{Event, World};

/// The questions of one member.
#[derive(Default)]
pub struct Asks {
    waiting: BTreeMap<usize, Ask>,
    /// Answers that were not judged yet, and who has asked.
    pub answered: Vec<(usize, EngineAnswer)>,
    /// The newest update of each client that this member has answered an IAMAT with.
    pub own: BTreeMap<Vec<u8>, Vec<u8>>,
}

struct Ask {
    client: usize,
    at: u64,
    /// What this member had answered of the client by then, if that, or something newer, was in the bucket.
    own: Option<Vec<u8>>,
    /// Whether the bucket had an update of the client.
    was_there: bool,
    /// Nothing happens any more: the answer must be what the bucket holds.
    is_last: bool,
}

impl Asks {
    /// An IAMAT was answered.
    pub fn told(&mut self, line: &[u8]) {
        if let Some(update) = update(line) {
            keep_newest(&mut self.own, update.id, line);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl World {
    /// A client asks a member.
    pub fn ask(&mut self, member: usize, client: usize, is_last: bool) {
        if !self.members[member].is_up {
            return;
        }
        let holder = self.random.below(HOLDERS);
        if self.members[member].asks.waiting.contains_key(&holder) {
            if !is_last && self.random.percent(70) {
                return;
            }
            if self.random.percent(50) {
                self.members[member].forget_asker(holder);
            }
        }
        let id = name_of(client).into_bytes();
        let stored = self.in_bucket().remove(&id);
        let own = self.members[member].asks.own.get(&id).cloned();
        let own = own.filter(|own| stored.as_ref().is_some_and(|it| newer_or_equal(it, own)));
        let was_there = stored.is_some();
        let ask = Ask { client, at: self.now, own, was_there, is_last };
        self.members[member].asks.waiting.insert(holder, ask);
        self.members[member].ask(client, holder);
        self.drive(member);
    }

    /// Judges what a member has just answered.
    pub fn judge_answers(&mut self, member: usize) {
        for (holder, answer) in std::mem::take(&mut self.members[member].asks.answered) {
            match self.members[member].asks.waiting.remove(&holder) {
                Some(ask) => self.judge(member, &ask, &answer),
                None => self.laws.wrong(format!("member {member} answers who has not asked")),
            }
        }
    }

    fn judge(&mut self, member: usize, ask: &Ask, answer: &EngineAnswer) {
        self.asked += 1;
        let id = name_of(ask.client).into_bytes();
        let stored = self.in_bucket().remove(&id);
        let line = match answer {
            EngineAnswer::Known(it) | EngineAnswer::Cached(it) => Some(it.line()),
            EngineAnswer::Unknown => None,
        };
        let line = line.as_ref().map(|line| line.trim_ascii_end());
        let text = |line: Option<&[u8]>| {
            line.map_or("nothing".to_owned(), |it| String::from_utf8_lossy(it).into_owned())
        };
        let said = format!(
            "member {member} was asked for {} at {} ms and says {}",
            name_of(ask.client),
            ask.at,
            text(line)
        );
        if line.is_some_and(|line| update(line).is_none_or(|update| update.id != id)) {
            return self.laws.wrong(format!("{said}, which is another client"));
        }
        let cached = self.members[member].known(&id);
        if cached.is_some_and(|cached| !line.is_some_and(|line| newer_or_equal(line, &cached))) {
            return self.laws.wrong(format!("{said}, and knows something newer"));
        }
        if ask.is_last {
            let is_asked = !matches!(answer, EngineAnswer::Cached(_));
            if line != stored.as_deref() || !is_asked {
                let stored = text(stored.as_deref());
                self.laws.wrong(format!("{said} ({answer:?}), and the bucket holds {stored}"));
            }
            return;
        }
        // Who keeps all may not have read all. What the bucket has lost, and what an operator has deleted, may be missing.
        let is_replaced =
            self.replaced_at > 0 && self.replaced_at + self.schedule.copy_lag as u64 >= ask.at;
        let is_cache = self.members[member].is_cache();
        if !is_cache || is_replaced || self.laws.deleted.contains(&id) {
            return;
        }
        let was_there = ask.was_there && self.went_back_at < ask.at;
        if line.is_none() && was_there && stored.is_some() {
            return self.laws.wrong(format!("{said}, and the bucket held it all the time"));
        }
        let Some(own) = &ask.own else { return };
        let is_own = |line: &[u8]| newer_or_equal(line, own);
        let stream = self.stream.as_ref();
        if stream.is_some_and(|it| it.kept_since(&id, is_own)) && !line.is_some_and(is_own) {
            let own = text(Some(own));
            self.laws.wrong(format!("{said}, and had answered {own} before"));
        }
    }

    /// Each cache is told of each client, one after the other: it must have room.
    pub fn tell_all(&mut self, from: u64) {
        let mut at = from;
        let caches: Vec<bool> = self.schedule.caches.iter().map(Option::is_some).collect();
        for member in (0..self.schedule.members).filter(|member| caches[*member]) {
            for client in 0..self.schedule.clients {
                at += 3_000; // One publish may have to try first whether the engine answers again.
                self.at(at, Event::TellAtTheEnd { member, client });
            }
        }
    }

    /// Each member is asked for each client, so that each finds what the bucket has lost.
    pub fn ask_for_all(&mut self, from: u64, is_last: bool) {
        let mut at = from;
        for member in 0..self.schedule.members {
            // A cache that has room for all looks for what the bucket has lost by itself. That an operator has deleted a client
            // it learns when it is asked.
            let is_deleted = !self.laws.deleted.is_empty();
            if !is_last && !is_deleted && self.schedule.caches[member] == Some(1_000) {
                continue;
            }
            for client in 0..self.schedule.clients {
                at += 50;
                self.at(at, Event::AskAtTheEnd { member, client, is_last });
            }
        }
    }
}
