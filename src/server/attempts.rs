//! The attempts to reach a neighbour. One round goes over its addresses: each is tried once, until a connection to one
//! of them brings a RESUME. Pure: no socket, no clock, no look-up.
//!
//! ```text
//!   begin ---> the loop dials the name --connected--> RESUME --------------> worked
//!                 |        |                             |
//!                 |        +-- failed: the loop's next   +-- none: our next address, by itself
//!                 +-- none is left: end(), and the herd's core pauses
//! ```
//! The loop goes from address to address as long as connections fail. It can't know that a neighbour does not answer:
//! from then on the round chooses from the rest of the same list. So an address that leads nowhere costs one attempt
//! in a round, and not all of them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::application::Start;
use crate::limits::{LINK_ATTEMPT, LINK_ATTEMPT_MAX, MAX_LINK_ADDRESSES};

/// One neighbour's attempts: those of this round, and results of earlier rounds.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Not tried yet in this round, in the order in which they are.
    left: VecDeque<SocketAddr>,
    /// The address that is being tried, and why those before it in this round failed.
    current: Option<SocketAddr>,
    failures: Vec<String>,
    /// Whether the loop's order of the addresses is no longer that of the round.
    has_own_order: bool,
    /// The address of the last usable link, or the one from which the neighbour has connected since.
    worked: Option<SocketAddr>,
    /// The address that was connected to last and brought no RESUME.
    unanswered: Option<SocketAddr>,
    /// The time limit of one of several addresses.
    limit: Duration,
}

impl Default for Attempts {
    fn default() -> Attempts {
        Attempts {
            left: VecDeque::new(),
            current: None,
            failures: Vec::new(),
            has_own_order: false,
            worked: None,
            unanswered: None,
            limit: LINK_ATTEMPT,
        }
    }
}

impl Attempts {
    /// Begins a round. `address` is the only one, if that is known; else a look-up brings them.
    pub(super) fn begin(&mut self, address: Option<SocketAddr>) {
        self.left.clear();
        self.failures.clear();
        self.current = address;
        self.has_own_order = false;
    }

    /// The name's address with which the loop begins.
    pub(super) fn start(&self) -> Start {
        match (self.worked, self.unanswered) {
            (Some(worked), _) => Start::At(worked),
            (None, Some(unanswered)) => Start::Behind(unanswered),
            (None, None) => Start::Best,
        }
    }

    /// The look-up has returned these, in the order in which the loop tries them.
    pub(super) fn resolved(&mut self, addresses: &[SocketAddr]) {
        self.left = addresses.iter().copied().take(MAX_LINK_ADDRESSES).collect();
    }

    /// An address is being tried.
    pub(super) fn trying(&mut self, address: SocketAddr) {
        self.left.retain(|left| *left != address);
        self.current = Some(address);
    }

    /// Whether the look-up has not returned any address yet.
    pub(super) fn awaits_addresses(&self) -> bool {
        !self.has_own_order && self.current.is_none() && self.failures.is_empty()
    }

    /// The address that is being tried.
    pub(super) fn current(&self) -> Option<SocketAddr> {
        self.current
    }

    /// Whether an address is being tried.
    pub(super) fn is_trying(&self) -> bool {
        self.current.is_some()
    }

    /// A connection to the neighbour was made: to the address that is being tried or, if none is known, to this one.
    pub(super) fn connected(&mut self, address: SocketAddr) {
        self.current.get_or_insert(address);
    }

    /// The time limit of one of several addresses until the link is usable.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// The time limit of the address that is being tried: a short time if other addresses are left or have failed;
    /// else all the time that there is.
    pub(super) fn time(&self, timeout: Duration) -> Duration {
        let is_one_of_several = !self.left.is_empty() || !self.failures.is_empty();
        if is_one_of_several { self.limit.min(timeout) } else { timeout }
    }

    /// The address that is being tried failed, for this reason.
    pub(super) fn failed(&mut self, reason: &str) {
        self.failures.push(match self.current.take() {
            Some(address) => format!("{address}: {reason}"),
            None => reason.to_owned(),
        });
    }

    /// The connection that was made is unusable, for this reason. The loop does not continue after it by itself.
    pub(super) fn unanswered(&mut self, reason: &str) {
        self.unanswered = self.current.or(self.unanswered);
        self.has_own_order = true;
        self.failed(reason);
    }

    /// Whether the round, and not the loop, chooses the address after one that failed.
    pub(super) fn chooses(&self) -> bool {
        self.has_own_order && !self.left.is_empty()
    }

    /// The next address of the round; from now on the round chooses.
    pub(super) fn next(&mut self) -> Option<SocketAddr> {
        let address = self.left.pop_front()?;
        self.has_own_order = true;
        self.current = Some(address);
        Some(address)
    }

    /// The neighbour has connected from this address. If it is one of the name's addresses, it is tried next, and
    /// earlier results about the others may no longer hold.
    pub(super) fn heard_from(&mut self, ip: IpAddr, addresses: &[SocketAddr]) {
        let is_there = |address: &&SocketAddr| address.ip().to_canonical() == ip;
        let Some(address) = addresses.iter().find(is_there).copied() else {
            return;
        };
        self.worked = Some(address);
        self.limit = LINK_ATTEMPT;
        match self.left.iter().position(|left| *left == address) {
            None | Some(0) => {}
            Some(place) => {
                self.left.remove(place);
                self.left.push_front(address);
                self.has_own_order = true;
            }
        }
    }

    /// The address that was tried last has become a usable link.
    pub(super) fn worked(&mut self) {
        self.worked = self.current.or(self.worked);
        self.unanswered = None;
        self.left.clear();
        self.failures.clear();
        self.limit = LINK_ATTEMPT;
    }

    /// Ends a round in which no address worked. Returns the reasons, all in one text, or `otherwise` if none was
    /// tried. Perhaps they were only too slow, so the next round gives each more time.
    pub(super) fn end(&mut self, otherwise: &str) -> String {
        self.limit = (self.limit * 2).min(LINK_ATTEMPT_MAX);
        self.current = None;
        let failures = std::mem::take(&mut self.failures);
        match failures.len() {
            0 => otherwise.to_owned(),
            count if count > FAILURES_SHOWN => {
                let more = count - FAILURES_SHOWN;
                let addresses = if more == 1 { "address" } else { "addresses" };
                format!("{}; and {more} {addresses} more", failures[..FAILURES_SHOWN].join("; "))
            }
            _ => failures.join("; "),
        }
    }
}

/// Addresses whose failures a record names.
const FAILURES_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|one| one.parse().expect("an address")).collect()
    }

    /// What the loop does with a name: one address after the other, none of which accepts a connection.
    fn failing_round(attempts: &mut Attempts, found: &[SocketAddr]) -> Vec<u64> {
        let mut limits = Vec::new();
        attempts.begin(None);
        attempts.resolved(found);
        for address in found {
            attempts.trying(*address);
            limits.push(attempts.time(PATIENCE).as_secs());
            attempts.failed("silence");
        }
        assert_eq!(attempts.next(), None, "each was tried once");
        attempts.end("none");
        limits
    }

    #[test]
    fn a_single_address_has_all_the_time_and_each_of_several_a_share_that_grows() {
        let mut attempts = Attempts::default();
        assert_eq!(failing_round(&mut attempts, &addresses("1.1.1.1:9")), [15]);
        let mut attempts = Attempts::default();
        let two = addresses("1.1.1.1:9 2.2.2.2:9");
        let rounds: Vec<_> = (0..4).map(|_| failing_round(&mut attempts, &two)).collect();
        assert_eq!(rounds, [[1, 1], [2, 2], [4, 4], [4, 4]]);
        attempts.begin(None);
        attempts.resolved(&two);
        attempts.trying(two[0]);
        attempts.worked();
        assert_eq!(failing_round(&mut attempts, &two), [1, 1]);
    }

    #[test]
    fn an_address_that_does_not_answer_is_tried_once_and_the_round_goes_on_from_there() {
        let mut attempts = Attempts::default();
        let three = addresses("1.1.1.1:9 2.2.2.2:9 3.3.3.3:9");
        assert_eq!(attempts.start(), Start::Best);
        attempts.begin(None);
        attempts.resolved(&three);
        attempts.trying(three[0]);
        attempts.connected(three[0]);
        assert!(!attempts.chooses(), "the loop goes on as long as connections fail");
        attempts.unanswered("another server answered");
        assert!(attempts.chooses());
        assert_eq!(attempts.next(), Some(three[1]));
        attempts.failed("refused");
        assert_eq!(attempts.next(), Some(three[2]));
        attempts.unanswered("silence");
        assert_eq!(attempts.next(), None);
        let reasons = "1.1.1.1:9: another server answered; 2.2.2.2:9: refused; 3.3.3.3:9: silence";
        assert_eq!(attempts.end("none"), reasons);
        assert_eq!(attempts.start(), Start::Behind(three[2]));
        attempts.begin(None);
        attempts.resolved(&three);
        attempts.trying(three[0]);
        attempts.worked();
        assert_eq!(attempts.start(), Start::At(three[0]));
    }

    #[test]
    fn the_address_that_the_neighbour_connected_from_is_tried_next() {
        let mut attempts = Attempts::default();
        let four = addresses("[::1]:9 [::2]:9 [::ffff:1.1.1.1]:9 [::3]:9");
        attempts.begin(None);
        attempts.resolved(&four);
        attempts.trying(four[0]);
        attempts.heard_from("9.9.9.9".parse().expect("an address"), &four);
        assert!(!attempts.chooses(), "it is none of its addresses");
        attempts.heard_from("1.1.1.1".parse().expect("an address"), &four);
        assert!(attempts.chooses());
        attempts.failed("silence");
        assert_eq!(attempts.next(), Some(four[2]));
        assert_eq!(attempts.next(), Some(four[1]), "the rest of the round is as it was");
        assert_eq!(attempts.start(), Start::At(four[2]), "and it is first in the next one");
    }

    #[test]
    fn of_many_failures_a_reason_names_only_some() {
        let mut attempts = Attempts::default();
        attempts.begin(None);
        assert_eq!(attempts.end("the look-up failed"), "the look-up failed");
        let many: Vec<_> = (1..=100).map(|last| SocketAddr::from(([1, 1, 1, last], 9))).collect();
        attempts.resolved(&many);
        let mut tried = 0;
        while attempts.next().is_some() {
            attempts.failed("no");
            tried += 1;
        }
        assert_eq!(tried, MAX_LINK_ADDRESSES);
        let reasons =
            "1.1.1.1:9: no; 1.1.1.2:9: no; 1.1.1.3:9: no; 1.1.1.4:9: no; and 60 addresses more";
        assert_eq!(attempts.end("none"), reasons);
    }
}
