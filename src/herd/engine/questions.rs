//! Questions for single clients, in a cache: what the bucket holds of a client now.
//!
//! Any copy of the bucket may answer, and one may lag. So an answer is believed only if it is not behind what this server
//! knows; else the leader of the bucket is asked, and so it is for a client that a copy does not have: that one does not
//! exist must be true.
//!
//! Those who ask for one client share one request, if they asked before it was sent. Whoever asks later waits for the next
//! one: its answer holds all that was acknowledged before it was asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::EngineAnswer;
use crate::herd::{Holder, Output};
use crate::limits::{ENGINE_QUESTION_WAIT, ENGINE_QUESTIONS};

/// All that are not answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    all: BTreeMap<u64, Question>,
    by_id: BTreeMap<Box<[u8]>, u64>,
    by_asker: BTreeMap<Holder, u64>,
    /// Those that are to be sent, in their order.
    queue: BTreeSet<u64>,
    /// By the numbers of their requests, which grow, as their deadlines do.
    sent: BTreeMap<u64, Sent>,
    answers: BTreeMap<Holder, EngineAnswer>,
    last: u64,
    /// None is sent until then: nobody has heard the last one.
    pause_until: Option<Duration>,
    /// The engine does not answer.
    pub is_silent: bool,
    /// How many were sent.
    pub count: u64,
}

#[derive(Clone, Debug)]
struct Question {
    id: Box<[u8]>,
    /// Those who are told the next answer.
    askers: BTreeSet<Holder>,
    /// Those who came after it was sent: they wait for the next one.
    later: BTreeSet<Holder>,
    asks_leader: bool,
    /// It is asked for its own sake, and not dropped for want of askers.
    is_look: bool,
    /// The number of its request, while that is unanswered.
    sent: Option<u64>,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub question: u64,
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
        !self.queue.is_empty() && self.sent.len() < ENGINE_QUESTIONS && self.pause_until.is_none()
    }

    /// Asks for a client. The asker must not wait for another one.
    pub fn ask(&mut self, id: &[u8], asker: Option<Holder>) {
        let number = match self.by_id.get(id) {
            Some(number) => *number,
            None => self.begin(id, asker.is_none()),
        };
        let (Some(asker), Some(question)) = (asker, self.all.get_mut(&number)) else { return };
        self.by_asker.insert(asker, number);
        match question.sent {
            None => question.askers.insert(asker),
            Some(_) => question.later.insert(asker),
        };
    }

    fn begin(&mut self, id: &[u8], is_look: bool) -> u64 {
        self.last += 1;
        let question = Question {
            id: id.into(),
            askers: BTreeSet::new(),
            later: BTreeSet::new(),
            asks_leader: is_look,
            is_look,
            sent: None,
        };
        self.all.insert(self.last, question);
        self.by_id.insert(id.into(), self.last);
        self.queue.insert(self.last);
        self.last
    }

    /// The asker wants no answer any more.
    pub fn forget(&mut self, asker: Holder) {
        self.answers.remove(&asker);
        let Some(number) = self.by_asker.remove(&asker) else { return };
        let Some(question) = self.all.get_mut(&number) else { return };
        question.askers.remove(&asker);
        question.later.remove(&asker);
        // One that was sent ends with its answer, or when that does not come.
        if question.sent.is_none() && question.is_idle() {
            self.end(number);
        }
    }

    /// The question is not asked any more. Returns those who are still waiting for it.
    pub fn end(&mut self, number: u64) -> BTreeSet<Holder> {
        let Some(mut question) = self.all.remove(&number) else { return BTreeSet::new() };
        self.by_id.remove(&question.id);
        self.queue.remove(&number);
        if let Some(sent) = question.sent {
            self.sent.remove(&sent);
        }
        question.askers.append(&mut question.later);
        for asker in &question.askers {
            self.by_asker.remove(asker);
        }
        question.askers
    }

    /// The next one that is to be sent, with its client, and whether the leader is to be asked.
    pub fn next(&self) -> Option<(u64, &[u8], bool)> {
        let number = *self.queue.first().filter(|_| self.has_pending())?;
        let question = self.all.get(&number)?;
        Some((number, &question.id, question.asks_leader))
    }

    /// It was sent as the request with this number.
    pub fn sent(
        &mut self,
        request: u64,
        number: u64,
        asks_leader: bool,
        [known, least]: [u64; 2],
        now: Duration,
    ) {
        let Some(question) = self.all.get_mut(&number) else { return };
        question.sent = Some(request);
        // They have come before it was sent.
        question.askers.append(&mut question.later);
        let until = now + ENGINE_QUESTION_WAIT;
        self.queue.remove(&number);
        self.sent.insert(request, Sent { question: number, asks_leader, known, least, until });
        self.count += 1;
    }

    /// The request with this number is answered: what was sent, and its client.
    pub fn take_sent(&mut self, request: u64) -> Option<(Sent, Box<[u8]>)> {
        let sent = self.sent.remove(&request)?;
        let question = self.all.get_mut(&sent.question)?;
        question.sent = None;
        Some((sent, question.id.clone()))
    }

    /// It is asked again, as soon as there is room.
    pub fn ask_again(&mut self, number: u64, asks_leader: bool) {
        let Some(question) = self.all.get_mut(&number) else { return };
        if let Some(request) = question.sent.take() {
            self.sent.remove(&request);
        }
        question.asks_leader = asks_leader;
        if question.is_idle() {
            self.end(number);
        } else {
            self.queue.insert(number);
        }
    }

    /// This is the answer for all who asked before the last request was sent. The others wait for the next one.
    pub fn answer(&mut self, number: u64, answer: &EngineAnswer, outputs: &mut VecDeque<Output>) {
        let Some(question) = self.all.get_mut(&number) else { return };
        let id = question.id.clone();
        for asker in std::mem::take(&mut question.askers) {
            self.by_asker.remove(&asker);
            self.answers.insert(asker, answer.clone());
            outputs.push_back(Output::EngineAnswered(asker));
        }
        // Behind all that wait by now: clients that many ask for all the time must not keep others from being asked for.
        for asker in self.end(number) {
            self.ask(&id, Some(asker));
        }
    }

    /// The answer is there at once.
    pub fn answer_one(
        &mut self,
        asker: Holder,
        answer: EngineAnswer,
        outputs: &mut VecDeque<Output>,
    ) {
        self.answers.insert(asker, answer);
        outputs.push_back(Output::EngineAnswered(asker));
    }

    /// The answer for this asker, which has it from now on.
    pub fn take_answer(&mut self, asker: Holder) -> Option<EngineAnswer> {
        self.answers.remove(&asker)
    }

    /// All of them, with their clients.
    pub fn numbers(&self) -> Vec<(u64, Box<[u8]>)> {
        self.all.iter().map(|(number, question)| (*number, question.id.clone())).collect()
    }

    /// A question whose request was not answered in time.
    pub fn take_overdue(&mut self, now: Duration) -> Option<(Sent, Box<[u8]>)> {
        let (request, _) = self.sent.first_key_value().filter(|(_, sent)| sent.until <= now)?;
        self.take_sent(*request)
    }

    /// What was sent is asked again: the bucket is another one.
    pub fn begin_anew(&mut self) {
        while let Some((_, sent)) = self.sent.pop_first() {
            self.ask_again(sent.question, false);
        }
    }

    /// The connection is closed: the answers that were waited for do not come.
    pub fn closed(&mut self) {
        self.is_silent = false;
        self.pause_until = None;
        self.all.values_mut().for_each(|question| question.is_look = false);
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
        let sent = self.sent.first_key_value().map(|(_, sent)| sent.until);
        sent.into_iter().chain(self.pause_until).min()
    }
}

impl Question {
    /// Whether nobody wants it.
    fn is_idle(&self) -> bool {
        self.askers.is_empty() && self.later.is_empty() && !self.is_look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends all for which there is room, and returns the requests with their clients.
    fn send_all(questions: &mut Questions, last: &mut u64) -> Vec<(u64, Box<[u8]>)> {
        let mut sent = Vec::new();
        while let Some((number, id, asks_leader)) = questions.next() {
            *last += 1;
            sent.push((*last, id.into()));
            questions.sent(*last, number, asks_leader, [0, 0], Duration::ZERO);
        }
        sent
    }

    #[test]
    fn clients_that_are_asked_for_all_the_time_leave_room_for_others() {
        let (mut questions, mut outputs, mut last) = (Questions::default(), VecDeque::new(), 0);
        let crowd = |round: u64, number: usize| Holder(round << 32 | number as u64);
        let id = |number: usize| format!("client.{number}").into_bytes();
        for number in 0..ENGINE_QUESTIONS {
            questions.ask(&id(number), Some(crowd(0, number)));
        }
        let other = Holder(u64::MAX);
        for round in 1..3 {
            let sent = send_all(&mut questions, &mut last);
            // Somebody asks for each of them again before it is answered.
            for number in 0..ENGINE_QUESTIONS {
                questions.ask(&id(number), Some(crowd(round, number)));
            }
            if round == 1 {
                questions.ask(b"other", Some(other));
            }
            for (request, _) in sent {
                let (sent, _) = questions.take_sent(request).expect("it was sent");
                questions.answer(sent.question, &EngineAnswer::Unknown, &mut outputs);
            }
        }
        assert!(questions.take_answer(other).is_some(), "it stood first among those that waited");
        for round in 0..2 {
            for number in 0..ENGINE_QUESTIONS - 1 {
                assert!(questions.take_answer(crowd(round, number)).is_some(), "{round} {number}");
            }
        }
        assert_eq!((questions.all.len(), questions.sent.len()), (questions.by_id.len(), 0));
        let waiting = questions.by_asker.len();
        assert_eq!(questions.all.values().map(|it| it.askers.len()).sum::<usize>(), waiting);
    }
}
