//! Questions for single clients, in a cache: what the bucket holds of a client now.
//!
//! Any copy of the bucket may answer, and one may lag. So an answer is believed only if it is not behind what this server
//! knows; else the leader of the bucket is asked, and so it is for a client that a copy does not have: that one does not
//! exist must be true.
//!
//! Those who ask for one client share one request, if they asked before it was sent. Whoever asks later waits for the next
//! one: its answer holds all that was acknowledged before it was asked for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use slab::Slab;

use super::EngineAnswer;
use crate::herd::{Holder, Output};
use crate::limits::{ENGINE_QUESTION_WAIT, ENGINE_QUESTION_WAIT_MAX, ENGINE_QUESTIONS};

/// All that are not answered. Each has a place, which its request names.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    all: Slab<Question>,
    /// Their places, by the hashes of their clients.
    by_id: HashTable<u32>,
    askers: HashTable<(Holder, Asker)>,
    /// The numbers and places of those that are to be sent, in their order.
    queue: BTreeSet<(u64, u32)>,
    /// How many requests are not answered.
    in_flight: usize,
    /// None of them is overdue before that. Most are answered long before, and so their deadlines are not kept in order: all
    /// questions are looked at when this comes.
    next_look: Option<Duration>,
    last: u64,
    /// None is sent until then: nobody has heard the last one.
    pause_until: Option<Duration>,
    /// The engine does not answer.
    pub is_silent: bool,
    /// How many were sent.
    pub count: u64,
}

#[derive(Clone, Debug)]
enum Asker {
    /// For the answer to the question at this place.
    Waits(u32),
    Has(EngineAnswer),
}

#[derive(Clone, Debug)]
struct Question {
    id: Arc<[u8]>,
    /// The table's, of its client.
    hash: u64,
    /// Its place in the order of questions.
    number: u64,
    /// Those who are told the next answer.
    askers: Holders,
    /// Those who came after it was sent: they wait for the next one.
    later: Holders,
    asks_leader: bool,
    /// It is asked for its own sake, and not dropped for want of askers.
    is_look: bool,
    /// How long its next request is waited for.
    patience: Duration,
    /// Its request, while that is unanswered.
    sent: Option<Sent>,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Its number.
    pub request: u64,
    /// The place of its question.
    pub question: u32,
    /// The hash of its client.
    pub hash: u64,
    pub asks_leader: bool,
    /// The number of the client's last message that was known when it was sent; 0 if none was.
    pub known: u64,
    /// What [`Table::least_sequence`](crate::herd::Table) was when it was sent.
    pub least: u64,
    until: Duration,
}

impl Questions {
    /// Questions whose answers are waited for, sent or not.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn has_pending(&self) -> bool {
        !self.queue.is_empty() && self.in_flight < ENGINE_QUESTIONS && self.pause_until.is_none()
    }

    /// Asks for the client with this hash. The asker must not wait for another one.
    pub fn ask(&mut self, id: &[u8], hash: u64, asker: Option<Holder>) {
        let is_it = |place: &u32| self.get(*place).is_some_and(|question| *question.id == *id);
        let place = match self.by_id.find(hash, is_it) {
            Some(place) => *place,
            None => self.begin(id.into(), hash, asker.is_none()),
        };
        let (Some(asker), Some(question)) = (asker, self.all.get_mut(place as usize)) else {
            return;
        };
        match question.sent {
            None => question.askers.insert(asker),
            Some(_) => question.later.insert(asker),
        }
        self.set_asker(asker, Asker::Waits(place));
    }

    fn begin(&mut self, id: Arc<[u8]>, hash: u64, is_look: bool) -> u32 {
        self.last += 1;
        let question = Question {
            id,
            hash,
            number: self.last,
            askers: Holders::Nobody,
            later: Holders::Nobody,
            asks_leader: is_look,
            is_look,
            patience: ENGINE_QUESTION_WAIT,
            sent: None,
        };
        let place = self.all.insert(question) as u32;
        let Questions { all, by_id, .. } = self;
        by_id.insert_unique(hash, place, |place| {
            all.get(*place as usize).map_or(0, |question| question.hash)
        });
        self.queue.insert((self.last, place));
        place
    }

    fn get(&self, place: u32) -> Option<&Question> {
        self.all.get(place as usize)
    }

    fn set_asker(&mut self, asker: Holder, now: Asker) {
        let is_it = |(other, _): &(Holder, Asker)| *other == asker;
        match self.askers.entry(holder_hash(asker), is_it, |(other, _)| holder_hash(*other)) {
            Entry::Occupied(mut known) => known.get_mut().1 = now,
            Entry::Vacant(place) => drop(place.insert((asker, now))),
        }
    }

    fn take_asker(&mut self, asker: Holder) -> Option<Asker> {
        let found = self.askers.find_entry(holder_hash(asker), |(other, _)| *other == asker);
        found.ok().map(|found| found.remove().0.1)
    }

    /// The asker wants no answer any more.
    pub fn forget(&mut self, asker: Holder) {
        let Some(Asker::Waits(place)) = self.take_asker(asker) else { return };
        let Some(question) = self.all.get_mut(place as usize) else { return };
        question.askers.remove(asker);
        question.later.remove(asker);
        // One that was sent ends with its answer, or when that does not come.
        if question.sent.is_none() && question.is_idle() {
            drop(self.end(place));
        }
    }

    /// The question is not asked any more. Returns those who are still waiting for it.
    pub fn end(&mut self, place: u32) -> impl Iterator<Item = Holder> + use<> {
        let mut askers = Holders::Nobody;
        if let Some(mut question) = self.all.try_remove(place as usize) {
            if let Ok(found) = self.by_id.find_entry(question.hash, |other| *other == place) {
                found.remove();
            }
            self.queue.remove(&(question.number, place));
            self.answered(question.sent);
            askers = std::mem::take(&mut question.askers);
            question.later.into_iter().for_each(|asker| askers.insert(asker));
        }
        for asker in askers.iter() {
            self.take_asker(asker);
        }
        askers.into_iter()
    }

    /// The next one that is to be sent: its place, client and hash, and whether the leader is to be asked.
    pub fn next(&self) -> Option<(u32, &[u8], u64, bool)> {
        let (_, place) = *self.queue.first().filter(|_| self.has_pending())?;
        let question = self.get(place)?;
        Some((place, &question.id, question.hash, question.asks_leader))
    }

    /// It was sent as the request with this number.
    pub fn sent(
        &mut self,
        request: u64,
        place: u32,
        asks_leader: bool,
        [known, least]: [u64; 2],
        now: Duration,
    ) {
        let Some(question) = self.all.get_mut(place as usize) else { return };
        let (until, hash) = (now + question.patience, question.hash);
        question.sent =
            Some(Sent { request, question: place, hash, asks_leader, known, least, until });
        // They have come before it was sent.
        let later = std::mem::take(&mut question.later);
        later.into_iter().for_each(|asker| question.askers.insert(asker));
        self.queue.remove(&(question.number, place));
        self.in_flight += 1;
        self.next_look = Some(self.next_look.map_or(until, |look| look.min(until)));
        self.count += 1;
    }

    /// One request fewer is on its way, if there was one.
    fn answered(&mut self, sent: Option<Sent>) {
        self.in_flight -= usize::from(sent.is_some());
        if self.in_flight == 0 {
            self.next_look = None;
        }
    }

    /// The request with this number, of the question at this place, is answered: what was sent, and its client.
    pub fn take_sent(&mut self, place: u32, request: u64) -> Option<(Sent, Arc<[u8]>)> {
        let question = self.all.get_mut(place as usize)?;
        let sent = question.sent.take_if(|sent| sent.request == request)?;
        let id = Arc::clone(&question.id);
        self.answered(Some(sent));
        Some((sent, id))
    }

    /// It is asked again, as soon as there is room.
    pub fn ask_again(&mut self, place: u32, asks_leader: bool) {
        let Some(question) = self.all.get_mut(place as usize) else { return };
        let sent = question.sent.take();
        question.asks_leader = asks_leader;
        let (number, is_idle) = (question.number, question.is_idle());
        self.answered(sent);
        if is_idle {
            drop(self.end(place));
        } else {
            self.queue.insert((number, place));
        }
    }

    /// This is the answer for all who asked before the last request was sent. The others wait for the next one.
    pub fn answer(&mut self, place: u32, answer: EngineAnswer, outputs: &mut VecDeque<Output>) {
        let Some(question) = self.all.get_mut(place as usize) else { return };
        let (id, hash) = (Arc::clone(&question.id), question.hash);
        let mut askers = std::mem::take(&mut question.askers).into_iter();
        let last = askers.next_back();
        for asker in askers {
            self.answer_one(asker, answer.clone(), outputs);
        }
        if let Some(last) = last {
            self.answer_one(last, answer, outputs);
        }
        // Behind all that wait by now: clients that many ask for all the time must not keep others from being asked for.
        for asker in self.end(place) {
            self.ask(&id, hash, Some(asker));
        }
    }

    /// The answer is there at once.
    pub fn answer_one(
        &mut self,
        asker: Holder,
        answer: EngineAnswer,
        outputs: &mut VecDeque<Output>,
    ) {
        self.set_asker(asker, Asker::Has(answer));
        outputs.push_back(Output::EngineAnswered(asker));
    }

    /// The answer for this asker, which has it from now on.
    pub fn take_answer(&mut self, asker: Holder) -> Option<EngineAnswer> {
        let is_it =
            |(other, state): &(Holder, Asker)| *other == asker && matches!(state, Asker::Has(_));
        let found = self.askers.find_entry(holder_hash(asker), is_it).ok()?;
        match found.remove().0.1 {
            Asker::Has(answer) => Some(answer),
            Asker::Waits(_) => None,
        }
    }

    /// The places of all of them, with their clients.
    pub fn places(&self) -> Vec<(u32, Arc<[u8]>)> {
        let each = self.all.iter();
        each.map(|(place, question)| (place as u32, Arc::clone(&question.id))).collect()
    }

    /// The requests that were not answered in time, with their clients.
    pub fn take_overdue(&mut self, now: Duration) -> Vec<(Sent, Arc<[u8]>)> {
        let mut overdue = Vec::new();
        if self.next_look.is_none_or(|look| look > now) {
            return overdue;
        }
        self.next_look = None;
        for (_, question) in &mut self.all {
            if let Some(sent) = question.sent.take_if(|sent| sent.until <= now) {
                // An engine that is slow answers one of its requests in time.
                question.patience = (2 * question.patience).min(ENGINE_QUESTION_WAIT_MAX);
                overdue.push((sent, Arc::clone(&question.id)));
            } else if let Some(Sent { until, .. }) = question.sent {
                self.next_look = Some(self.next_look.map_or(until, |look| look.min(until)));
            }
        }
        self.in_flight -= overdue.len();
        overdue.sort_unstable_by_key(|(sent, _)| sent.request);
        overdue
    }

    /// What was sent is asked again: the bucket is another one.
    pub fn begin_anew(&mut self) {
        let sent: Vec<u32> =
            self.all.iter().filter_map(|(_, it)| Some(it.sent?.question)).collect();
        sent.into_iter().for_each(|place| self.ask_again(place, false));
    }

    /// The connection is closed: the answers that were waited for do not come.
    pub fn closed(&mut self) {
        self.is_silent = false;
        self.pause_until = None;
        self.all.iter_mut().for_each(|(_, question)| question.is_look = false);
        self.begin_anew();
    }

    /// Nothing is asked until then.
    pub fn pause(&mut self, until: Duration) {
        self.pause_until = Some(until);
    }

    pub fn end_pause(&mut self, now: Duration) {
        self.pause_until = self.pause_until.filter(|until| *until > now);
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.next_look.into_iter().chain(self.pause_until).min()
    }
}

impl Question {
    /// Whether nobody wants it.
    fn is_idle(&self) -> bool {
        self.askers.is_empty() && self.later.is_empty() && !self.is_look
    }
}

/// Who asks for one client: usually a single one, which costs no memory of its own.
#[derive(Clone, Debug, Default)]
enum Holders {
    #[default]
    Nobody,
    One(Holder),
    /// Ordered, so that one that leaves is found among many, and a run can be repeated.
    Many(BTreeSet<Holder>),
}

impl Holders {
    fn is_empty(&self) -> bool {
        match self {
            Holders::Nobody => true,
            Holders::One(_) => false,
            Holders::Many(all) => all.is_empty(),
        }
    }

    fn insert(&mut self, holder: Holder) {
        match self {
            Holders::Nobody => *self = Holders::One(holder),
            Holders::One(other) => *self = Holders::Many(BTreeSet::from([*other, holder])),
            Holders::Many(all) => drop(all.insert(holder)),
        }
    }

    fn remove(&mut self, holder: Holder) {
        match self {
            Holders::One(other) if *other == holder => *self = Holders::Nobody,
            Holders::Nobody | Holders::One(_) => {}
            Holders::Many(all) => drop(all.remove(&holder)),
        }
    }

    fn iter(&self) -> impl Iterator<Item = Holder> {
        let (one, many) = match self {
            Holders::Nobody => (None, None),
            Holders::One(holder) => (Some(*holder), None),
            Holders::Many(all) => (None, Some(all)),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }

    fn into_iter(self) -> impl DoubleEndedIterator<Item = Holder> {
        let (one, many) = match self {
            Holders::Nobody => (None, None),
            Holders::One(holder) => (Some(holder), None),
            Holders::Many(all) => (None, Some(all)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// A hash of the numbers of connections, which no client chooses. Both halves of a number count.
fn holder_hash(Holder(number): Holder) -> u64 {
    (number ^ number >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends all for which there is room, and returns the requests with the places of their questions.
    fn send_all(questions: &mut Questions, last: &mut u64) -> Vec<(u64, u32)> {
        let mut sent = Vec::new();
        while let Some((place, _, _, asks_leader)) = questions.next() {
            *last += 1;
            sent.push((*last, place));
            questions.sent(*last, place, asks_leader, [0, 0], Duration::ZERO);
        }
        sent
    }

    #[test]
    fn clients_that_are_asked_for_all_the_time_leave_room_for_others() {
        let (mut questions, mut outputs, mut last) = (Questions::default(), VecDeque::new(), 0);
        let crowd = |round: u64, number: usize| Holder(round << 32 | number as u64);
        let id = |number: usize| format!("client.{number}").into_bytes();
        for number in 0..ENGINE_QUESTIONS {
            questions.ask(&id(number), 7, Some(crowd(0, number)));
        }
        let other = Holder(u64::MAX);
        for round in 1..3 {
            let sent = send_all(&mut questions, &mut last);
            // Somebody asks for each of them again before it is answered.
            for number in 0..ENGINE_QUESTIONS {
                questions.ask(&id(number), 7, Some(crowd(round, number)));
            }
            if round == 1 {
                questions.ask(b"other", 7, Some(other));
            }
            for (request, place) in sent {
                let (sent, _) = questions.take_sent(place, request).expect("it was sent");
                questions.answer(sent.question, EngineAnswer::Unknown, &mut outputs);
            }
        }
        assert!(questions.take_answer(other).is_some(), "it stood first among those that waited");
        for round in 0..2 {
            for number in 0..ENGINE_QUESTIONS - 1 {
                assert!(questions.take_answer(crowd(round, number)).is_some(), "{round} {number}");
            }
        }
        assert_eq!((questions.all.len(), questions.in_flight), (questions.by_id.len(), 0));
        let waits = |(_, asker): &&(Holder, Asker)| matches!(asker, Asker::Waits(_));
        let waiting = questions.askers.iter().filter(waits).count();
        assert_eq!(
            questions.all.iter().map(|(_, it)| it.askers.iter().count()).sum::<usize>(),
            waiting
        );
    }

    #[test]
    fn an_answer_counts_only_for_the_request_that_it_names() {
        let (mut questions, mut outputs, mut last) = (Questions::default(), VecDeque::new(), 0);
        questions.ask(b"kiwi", 1, Some(Holder(1)));
        let [(first, place)] = send_all(&mut questions, &mut last)[..] else {
            panic!("one is sent")
        };
        // Its asker has left, and when it was not answered in time, another question gets its place.
        questions.forget(Holder(1));
        assert_eq!(questions.poll_timeout(), Some(ENGINE_QUESTION_WAIT));
        let [(sent, _)] = &questions.take_overdue(ENGINE_QUESTION_WAIT)[..] else {
            panic!("overdue")
        };
        questions.ask_again(sent.question, true);
        assert_eq!((questions.len(), questions.poll_timeout()), (0, None));
        questions.ask(b"melon", 1, Some(Holder(2)));
        assert_eq!(send_all(&mut questions, &mut last), [(first + 1, place)]);
        assert!(questions.take_sent(place, first).is_none());
        let (sent, id) = questions.take_sent(place, first + 1).expect("it was sent");
        assert_eq!(*id, *b"melon");
        questions.answer(sent.question, EngineAnswer::Unknown, &mut outputs);
        assert!(questions.take_answer(Holder(1)).is_none());
        assert!(matches!(questions.take_answer(Holder(2)), Some(EngineAnswer::Unknown)));
        assert!(questions.take_answer(Holder(2)).is_none());
    }
}
