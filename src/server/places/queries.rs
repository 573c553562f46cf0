//! The queries to a service: which clients wait for each, how far each has come, and which is next.
//!
//! A query is in flight from the time when it gets a slot; before that it waits in a queue. Both are
//! bounded. Clients that ask the same question share one query.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::application::{ConnectionId, Ticket};
use crate::server::PLACES_TICKETS;
use crate::server::metrics::{PlacesMetrics, PlacesResult};

/// A query's number; a later query has a greater one, and a later deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct QueryId(u64);

/// All of them.
#[derive(Debug)]
pub(super) struct Queries {
    by_id: BTreeMap<QueryId, PendingQuery>,
    by_request: HashMap<Vec<u8>, QueryId>,
    /// Those that have no slot yet.
    queue: VecDeque<QueryId>,
    max_in_flight: usize,
    max_queued: usize,
    last: QueryId,
    metrics: Arc<PlacesMetrics>,
    /// What the gauges show of it.
    shown: (u64, u64),
}

/// One request, and the clients that wait for its answer.
#[derive(Debug)]
pub(super) struct PendingQuery {
    pub(super) request: Vec<u8>,
    pub(super) waiters: Vec<Waiter>,
    since: Duration,
    /// When it fails, whatever its state.
    pub(super) deadline: Duration,
    /// When it timed out, if its answer was arriving and is still being read.
    pub(super) timed_out_since: Option<Duration>,
    pub(super) state: QueryState,
    /// The address that its dial tries.
    pub(super) address: Option<SocketAddr>,
    /// Why a TLS handshake for it failed. This is more informative than that another address did not
    /// answer.
    pub(super) handshake_failure: Option<String>,
    /// Why the last address that was tried failed.
    pub(super) attempt_failure: Option<String>,
    /// Whether it was sent a second time, because its connection of the pool had failed.
    pub(super) was_retried: bool,
    /// The connection of the pool that has carried it without an answer for so long that it was sent
    /// again on another one. An answer that comes there still counts.
    pub(super) suspect: Option<ConnectionId>,
}

/// A client that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) client: ConnectionId,
    /// The maximal number of places in its answer.
    pub(super) bound: usize,
}

/// The state of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryState {
    /// It waits for a slot.
    Queued,
    /// The loop is making a connection for it.
    Dialling(DialProgress),
    /// An exchange carries it.
    On(ConnectionId),
}

/// The state of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialProgress {
    Resolving,
    Connecting,
    Handshaking,
}

/// There is no room for another query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

impl QueryId {
    /// The number before the first query.
    pub(super) const NONE: QueryId = QueryId(0);

    /// The ticket of the query's dial. It has at most one at a time, so one ticket is enough.
    pub(super) fn ticket(self) -> Ticket {
        Ticket(PLACES_TICKETS + self.0)
    }

    /// The query for which a ticket was given.
    pub(super) fn of(ticket: Ticket) -> Option<QueryId> {
        ticket.0.checked_sub(PLACES_TICKETS).map(QueryId)
    }
}

impl PendingQuery {
    pub(super) fn set_state(&mut self, state: QueryState, metrics: &PlacesMetrics) {
        metrics.in_handshake.subtract(u64::from(self.is_in_handshake()));
        self.state = state;
        metrics.in_handshake.add(u64::from(self.is_in_handshake()));
    }

    fn is_in_handshake(&self) -> bool {
        self.state == QueryState::Dialling(DialProgress::Handshaking)
    }

    /// The connection that carries it.
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        if let QueryState::On(connection) = self.state { Some(connection) } else { None }
    }
}

impl Queries {
    /// Numbers queries from the one after `last`.
    pub(super) fn new(
        max_in_flight: usize,
        max_queued: usize,
        last: QueryId,
        metrics: Arc<PlacesMetrics>,
    ) -> Queries {
        Queries {
            by_id: BTreeMap::new(),
            by_request: HashMap::new(),
            queue: VecDeque::new(),
            max_in_flight,
            max_queued,
            last,
            metrics,
            shown: (0, 0),
        }
    }

    /// Adds a query at the queue's end, or a waiter to the one with the same request, if that one's
    /// deadline is not before `shared_until`: a client that joins late must have some time, too.
    pub(super) fn add(
        &mut self,
        request: Vec<u8>,
        waiter: Waiter,
        now: Duration,
        deadline: Duration,
        shared_until: Duration,
    ) -> Result<(), QueueFull> {
        let same = self.by_request.get(&request).and_then(|id| self.by_id.get_mut(id));
        if let Some(query) = same.filter(|query| query.deadline >= shared_until) {
            query.waiters.push(waiter);
            self.metrics.shared.add(1);
            return Ok(());
        }
        if self.in_flight() >= self.max_in_flight && self.queue.len() >= self.max_queued {
            return Err(QueueFull);
        }
        self.last = QueryId(self.last.0 + 1);
        self.by_request.insert(request.clone(), self.last);
        let query = PendingQuery {
            request,
            waiters: vec![waiter],
            since: now,
            deadline,
            timed_out_since: None,
            state: QueryState::Queued,
            address: None,
            handshake_failure: None,
            attempt_failure: None,
            was_retried: false,
            suspect: None,
        };
        self.by_id.insert(self.last, query);
        self.queue.push_back(self.last);
        self.show();
        Ok(())
    }

    /// Gives a slot to the query that has waited longest, if a slot is free.
    pub(super) fn next(&mut self) -> Option<QueryId> {
        let next =
            if self.in_flight() < self.max_in_flight { self.queue.pop_front() } else { None };
        self.show();
        next
    }

    /// The number of the latest query.
    pub(super) fn last(&self) -> QueryId {
        self.last
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, the oldest first.
    pub(super) fn ids(&self) -> Vec<QueryId> {
        self.by_id.keys().copied().collect()
    }

    pub(super) fn get(&self, id: QueryId) -> Option<&PendingQuery> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: QueryId) -> Option<&mut PendingQuery> {
        self.by_id.get_mut(&id)
    }

    /// Takes a query out, and frees its slot or its place in the queue.
    pub(super) fn take(&mut self, id: QueryId) -> Option<PendingQuery> {
        let query = self.by_id.remove(&id)?;
        // A later query may have the same request.
        if self.by_request.get(&query.request) == Some(&id) {
            self.by_request.remove(&query.request);
        }
        if query.state == QueryState::Queued {
            self.queue.retain(|queued| *queued != id);
        }
        self.metrics.in_handshake.subtract(u64::from(query.is_in_handshake()));
        self.show();
        Some(query)
    }

    /// Forgets a client that is gone. A query without waiters leaves the queue; one in
    /// flight goes on, because its connection is worth keeping.
    pub(super) fn forget(&mut self, client: ConnectionId) {
        let mut abandoned = None;
        for (id, query) in &mut self.by_id {
            query.waiters.retain(|waiter| waiter.client != client);
            if query.waiters.is_empty() && query.state == QueryState::Queued {
                abandoned = Some(*id); // A client waits for one answer at a time.
            }
        }
        abandoned.and_then(|id| self.take(id));
    }

    /// The nearest deadline: the oldest query's, because all have the same timeout.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.by_id.first_key_value().map(|(_, query)| query.deadline)
    }

    /// Those whose deadline was at `now` or before.
    pub(super) fn due(&self, now: Duration) -> Vec<QueryId> {
        let due = self.by_id.iter().take_while(|(_, query)| query.deadline <= now);
        due.map(|(id, _)| *id).collect()
    }

    /// Counts a query that has ended.
    pub(super) fn count(&self, query: &PendingQuery, result: PlacesResult, now: Duration) {
        self.metrics.count_request(result, Some(now.saturating_sub(query.since)));
    }

    /// Other queries, of former settings, may count in the same gauges.
    fn show(&mut self) {
        let now = (self.in_flight() as u64, self.queue.len() as u64);
        let before = std::mem::replace(&mut self.shown, now);
        for (gauge, before, now) in
            [(&self.metrics.in_flight, before.0, now.0), (&self.metrics.waiting, before.1, now.1)]
        {
            gauge.subtract(before);
            gauge.add(now);
        }
    }

    fn in_flight(&self) -> usize {
        self.by_id.len() - self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(slot: u32) -> Waiter {
        Waiter { client: ConnectionId { slot, generation: 1 }, bound: 5 }
    }

    #[test]
    fn slots_and_the_queue_are_bounded_and_same_requests_are_shared() {
        let mut queries = Queries::new(1, 1, QueryId::NONE, Arc::default());
        let deadline = Duration::from_secs(5);
        let add = |queries: &mut Queries, request: &str, slot| {
            queries.add(
                request.as_bytes().to_vec(),
                waiter(slot),
                Duration::ZERO,
                deadline,
                deadline,
            )
        };
        assert_eq!(add(&mut queries, "a", 1), Ok(()));
        let first = queries.next().expect("a slot is free");
        queries.get_mut(first).expect("it is there").state =
            QueryState::Dialling(DialProgress::Resolving);
        assert_eq!(add(&mut queries, "b", 2), Ok(()));
        assert_eq!(queries.next(), None, "the slot is taken");
        assert_eq!(add(&mut queries, "c", 3), Err(QueueFull));
        assert_eq!(add(&mut queries, "a", 3), Ok(()), "this request is in flight already");
        assert_eq!(add(&mut queries, "b", 4), Ok(()));
        queries.forget(waiter(2).client);
        assert_eq!(add(&mut queries, "c", 5), Err(QueueFull), "a client still waits for b");
        queries.forget(waiter(4).client);
        assert_eq!(add(&mut queries, "c", 5), Ok(()), "no client waits for b");
        let waiters = queries.take(first).expect("it is there").waiters;
        assert_eq!(waiters.iter().map(|waiter| waiter.client.slot).collect::<Vec<_>>(), [1, 3]);
        assert!(queries.next().is_some(), "its slot is free");
    }

    #[test]
    fn a_client_that_joins_close_to_the_deadline_gets_a_query_of_its_own() {
        let second = Duration::from_secs;
        let mut queries = Queries::new(5, 5, QueryId::NONE, Arc::default());
        let add = |queries: &mut Queries, now: u64, slot| {
            queries.add(b"a".to_vec(), waiter(slot), second(now), second(now + 4), second(now + 2))
        };
        for (now, slot) in [(0, 1), (2, 2), (3, 3), (5, 4)] {
            assert_eq!(add(&mut queries, now, slot), Ok(()));
        }
        let slots =
            |query: PendingQuery| query.waiters.iter().map(|it| it.client.slot).collect::<Vec<_>>();
        let (old, late) = (queries.next().expect("one"), queries.next().expect("another"));
        assert_eq!((queries.next_deadline(), queries.due(second(4))), (Some(second(4)), vec![old]));
        assert_eq!(queries.take(old).map(slots), Some(vec![1, 2]));
        assert_eq!(add(&mut queries, 5, 5), Ok(()), "the later one can still be joined");
        assert_eq!(queries.take(late).map(slots), Some(vec![3, 4, 5]));
        assert_eq!(queries.next(), None);
    }
}
