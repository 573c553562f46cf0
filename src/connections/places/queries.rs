//! The queries that a service is asked: who asked, how far each has come, and whose turn is next.
//!
//! A query is in flight from the moment when it has a slot; before that it waits in a queue. Both are
//! bounded. Two clients that ask the same share one query.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::connections::ConnectionId;

/// A query's number; a later one's is greater, and so is its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(u64);

/// All of them.
#[derive(Debug)]
pub(super) struct Queries {
    by_id: BTreeMap<QueryId, Query>,
    by_request: HashMap<Vec<u8>, QueryId>,
    /// Those that have no slot yet.
    waiting: VecDeque<QueryId>,
    most_in_flight: usize,
    most_waiting: usize,
    last: QueryId,
}

/// One request, and who wants its answer.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) request: Vec<u8>,
    pub(super) askers: Vec<Asker>,
    /// When it is given up, however far it has come.
    pub(super) until: Duration,
    /// Since when it would have been given up, had its answer not been on the way from the kernel.
    pub(super) overdue_since: Option<Duration>,
    pub(super) stage: Stage,
    /// Left to try.
    pub(super) addresses: VecDeque<SocketAddr>,
    /// What is to be told if no address is left and nothing else is known: how far the best attempt came.
    pub(super) reason: Option<String>,
    /// Whether it was begun anew already, after a connection of the pool had failed it.
    pub(super) is_repeated: bool,
    /// The connection of the pool that has carried it in silence for so long that it was begun anew. An
    /// answer that comes there counts all the same.
    pub(super) suspect: Option<ConnectionId>,
}

/// A client that waits.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) who: ConnectionId,
    /// Places in its answer at most.
    pub(super) bound: usize,
}

/// How far a query has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// For a slot.
    Waiting,
    /// For the service's addresses.
    Resolving,
    /// The loop was told to make a connection.
    Opening,
    /// An exchange carries it.
    On(ConnectionId),
}

/// There is no room for another query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queries {
    pub(super) fn new(most_in_flight: usize, most_waiting: usize) -> Queries {
        Queries {
            by_id: BTreeMap::new(),
            by_request: HashMap::new(),
            waiting: VecDeque::new(),
            most_in_flight,
            most_waiting,
            last: QueryId(0),
        }
    }

    /// Adds a query at the queue's end, or an asker to the one that asks the same already, if that one's
    /// deadline is not before `shared_until`: whoever comes late is owed time, too.
    pub(super) fn ask(
        &mut self,
        request: Vec<u8>,
        asker: Asker,
        until: Duration,
        shared_until: Duration,
    ) -> Result<(), Full> {
        let same = self.by_request.get(&request).and_then(|id| self.by_id.get_mut(id));
        if let Some(query) = same.filter(|query| query.until >= shared_until) {
            query.askers.push(asker);
            return Ok(());
        }
        if self.in_flight() >= self.most_in_flight && self.waiting.len() >= self.most_waiting {
            return Err(Full);
        }
        self.last = QueryId(self.last.0 + 1);
        self.by_request.insert(request.clone(), self.last);
        let query = Query {
            request,
            askers: vec![asker],
            until,
            overdue_since: None,
            stage: Stage::Waiting,
            addresses: VecDeque::new(),
            reason: None,
            is_repeated: false,
            suspect: None,
        };
        self.by_id.insert(self.last, query);
        self.waiting.push_back(self.last);
        Ok(())
    }

    /// Gives a slot to the one that waits for longest, if one is free.
    pub(super) fn next(&mut self) -> Option<QueryId> {
        if self.in_flight() < self.most_in_flight { self.waiting.pop_front() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: QueryId) -> Option<&mut Query> {
        self.by_id.get_mut(&id)
    }

    /// Takes a query out, and frees its slot or its place in the queue.
    pub(super) fn take(&mut self, id: QueryId) -> Option<Query> {
        let query = self.by_id.remove(&id)?;
        // A later query may ask the same.
        if self.by_request.get(&query.request) == Some(&id) {
            self.by_request.remove(&query.request);
        }
        if query.stage == Stage::Waiting {
            self.waiting.retain(|waiting| *waiting != id);
        }
        Some(query)
    }

    /// A client has left. A query that nobody waits for any more gives its place in the queue up; one
    /// in flight goes on, for its connection is worth keeping.
    pub(super) fn forget(&mut self, who: ConnectionId) {
        let mut abandoned = None;
        for (id, query) in &mut self.by_id {
            query.askers.retain(|asker| asker.who != who);
            if query.askers.is_empty() && query.stage == Stage::Waiting {
                abandoned = Some(*id); // A client waits for one answer at a time.
            }
        }
        abandoned.and_then(|id| self.take(id));
    }

    /// The nearest deadline, and whose it is: the oldest query's, for all have the same patience.
    pub(super) fn nearest(&self) -> Option<(Duration, QueryId)> {
        self.by_id.first_key_value().map(|(id, query)| (query.until, *id))
    }

    /// Those whose deadline was at `now` or before.
    pub(super) fn due(&self, now: Duration) -> Vec<QueryId> {
        let due = self.by_id.iter().take_while(|(_, query)| query.until <= now);
        due.map(|(id, _)| *id).collect()
    }

    /// Those that wait for the service's addresses.
    pub(super) fn resolving(&self) -> Vec<QueryId> {
        let resolving = self.by_id.iter().filter(|(_, query)| query.stage == Stage::Resolving);
        resolving.map(|(id, _)| *id).collect()
    }

    fn in_flight(&self) -> usize {
        self.by_id.len() - self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(slot: u32) -> Asker {
        Asker { who: ConnectionId { slot, generation: 1 }, bound: 5 }
    }

    #[test]
    fn slots_and_the_queue_are_bounded_and_same_requests_are_shared() {
        let mut queries = Queries::new(1, 1);
        let until = Duration::from_secs(5);
        let ask = |queries: &mut Queries, request: &str, slot| {
            queries.ask(request.as_bytes().to_vec(), asker(slot), until, until)
        };
        assert_eq!(ask(&mut queries, "a", 1), Ok(()));
        let first = queries.next().expect("a slot is free");
        queries.get_mut(first).expect("it is there").stage = Stage::Opening;
        assert_eq!(ask(&mut queries, "b", 2), Ok(()));
        assert_eq!(queries.next(), None, "the slot is taken");
        assert_eq!(ask(&mut queries, "c", 3), Err(Full));
        assert_eq!(ask(&mut queries, "a", 3), Ok(()), "it is asked already");
        assert_eq!(ask(&mut queries, "b", 4), Ok(()));
        queries.forget(asker(2).who);
        assert_eq!(ask(&mut queries, "c", 5), Err(Full), "somebody waits for b still");
        queries.forget(asker(4).who);
        assert_eq!(ask(&mut queries, "c", 5), Ok(()), "nobody waits for b");
        let askers = queries.take(first).expect("it is there").askers;
        assert_eq!(askers.iter().map(|asker| asker.who.slot).collect::<Vec<_>>(), [1, 3]);
        assert!(queries.next().is_some(), "its slot is free");
    }

    #[test]
    fn who_asks_the_same_close_to_the_deadline_begins_a_query_of_its_own() {
        let second = Duration::from_secs;
        let mut queries = Queries::new(5, 5);
        let ask = |queries: &mut Queries, now: u64, slot| {
            queries.ask(b"a".to_vec(), asker(slot), second(now + 4), second(now + 2))
        };
        for (now, slot) in [(0, 1), (2, 2), (3, 3), (5, 4)] {
            assert_eq!(ask(&mut queries, now, slot), Ok(()));
        }
        let slots = |query: Query| query.askers.iter().map(|it| it.who.slot).collect::<Vec<_>>();
        let (old, late) = (queries.next().expect("one"), queries.next().expect("another"));
        assert_eq!(queries.nearest(), Some((second(4), old)));
        assert_eq!(queries.take(old).map(slots), Some(vec![1, 2]));
        assert_eq!(ask(&mut queries, 5, 5), Ok(()), "the later one is still there to be joined");
        assert_eq!(queries.take(late).map(slots), Some(vec![3, 4, 5]));
        assert_eq!(queries.next(), None);
    }
}
