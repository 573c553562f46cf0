//! The addresses of a neighbour, and which of them is tried next. Pure: no socket, no clock.
//!
//! ```text
//!   look-up --found--> known, what worked last first --begin--> round --next--> one attempt each
//!                        ^                                                        |
//!                        +---------------------- worked --------------------------+
//! ```
//!
//! A dial is a round: each address is tried once, so that one that leads nowhere costs one attempt and
//! not all of them. What is known stays known until another look-up has found something else: a
//! resolver that hangs or fails must not cut off a neighbour whose address has not changed.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::limits::{LINK_ATTEMPT, LINK_ATTEMPT_MAX, MAX_LINK_ADDRESSES};

/// The addresses of one neighbour.
#[derive(Debug)]
pub(super) struct Addresses {
    known: Vec<SocketAddr>,
    /// The address that the last usable link was made to, or that the neighbour was heard of from since.
    worked: Option<SocketAddr>,
    /// Not tried yet in this round.
    left: VecDeque<SocketAddr>,
    /// What is tried at present, and why those before it in this round were of no use.
    current: Option<SocketAddr>,
    failures: Vec<String>,
    /// How long one of several addresses has time.
    limit: Duration,
}

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses {
            known: Vec::new(),
            worked: None,
            left: VecDeque::new(),
            current: None,
            failures: Vec::new(),
            limit: LINK_ATTEMPT,
        }
    }
}

impl Addresses {
    /// A look-up has found these.
    pub(super) fn found(&mut self, addresses: Vec<SocketAddr>) {
        self.known = interleaved(addresses);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The neighbour was heard of from there: if that is one of its addresses, it is the next to be tried, and
    /// what else was found out about how it can be reached may hold no longer.
    pub(super) fn heard_from(&mut self, ip: IpAddr) {
        let is_there = |address: &SocketAddr| address.ip().to_canonical() == ip;
        if let Some(address) = self.known.iter().copied().find(is_there) {
            self.worked = Some(address);
            self.limit = LINK_ATTEMPT;
            if let Some(at) = self.left.iter().position(|left| *left == address)
                && let Some(address) = self.left.remove(at)
            {
                self.left.push_front(address);
            }
        }
    }

    /// Begins a round: each address that is known now is tried, first the one that worked last.
    pub(super) fn begin(&mut self) {
        self.left = self.known.iter().copied().collect();
        if let Some(at) = self.left.iter().position(|address| Some(*address) == self.worked)
            && let Some(worked) = self.left.remove(at)
        {
            self.left.push_front(worked);
        }
        self.current = None;
        self.failures.clear();
    }

    /// The next address of this round, and how long it may take until the link is of use: with others
    /// behind it, or tried before it, a short time, else all the time that there is.
    pub(super) fn next(&mut self, patience: Duration) -> Option<(SocketAddr, Duration)> {
        let is_one_of_several = self.left.len() > 1 || !self.failures.is_empty();
        let address = self.left.pop_front()?;
        self.current = Some(address);
        let limit = if is_one_of_several { self.limit.min(patience) } else { patience };
        Some((address, limit))
    }

    /// The address that is tried is of no use, for this reason.
    pub(super) fn failed(&mut self, reason: &str) {
        self.failures.push(match self.current.take() {
            Some(address) => format!("{address}: {reason}"),
            None => reason.to_owned(),
        });
    }

    /// Ends a round in which no address was of use, and tells why, all in one text. Perhaps they were
    /// too slow only, so the next round gives each more time.
    pub(super) fn give_up(&mut self) -> String {
        self.limit = (self.limit * 2).min(LINK_ATTEMPT_MAX);
        let failures = std::mem::take(&mut self.failures);
        match failures.len() {
            0 => "its name stands for no address".to_owned(),
            count if count > FAILURES_SHOWN => {
                let more = count - FAILURES_SHOWN;
                format!("{}; and {more} addresses more", failures[..FAILURES_SHOWN].join("; "))
            }
            _ => failures.join("; "),
        }
    }

    /// The address that was tried last has become a link that is of use.
    pub(super) fn worked(&mut self) {
        self.worked = self.current.or(self.worked);
        self.left.clear();
        self.failures.clear();
        self.limit = LINK_ATTEMPT;
    }
}

/// IPv6 and IPv4 by turns (RFC 8305, section 4), beginning as the resolver does, each address once.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_six = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut one, mut other) = match begins_with_six {
        true => (six.into_iter(), four.into_iter()),
        false => (four.into_iter(), six.into_iter()),
    };
    let mut out: Vec<SocketAddr> = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] || out.len() >= MAX_LINK_ADDRESSES {
            return out;
        }
        for address in pair.into_iter().flatten() {
            if !out.contains(&address) {
                out.push(address);
            }
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

    /// The addresses of a round in which nothing answers.
    fn round(of: &mut Addresses) -> Vec<SocketAddr> {
        let mut tried = Vec::new();
        of.begin();
        while let Some((address, _)) = of.next(PATIENCE) {
            tried.push(address);
            of.failed("silence");
        }
        of.give_up();
        tried
    }

    #[test]
    fn both_families_take_turns_and_what_worked_last_is_first() {
        let mut dial = Addresses::default();
        dial.found(addresses("[::1]:9 [::2]:9 [::1]:9 [::3]:9 1.1.1.1:9 2.2.2.2:9"));
        let order = addresses("[::1]:9 1.1.1.1:9 [::2]:9 2.2.2.2:9 [::3]:9");
        assert_eq!(round(&mut dial), order);
        assert_eq!(round(&mut dial), order, "each round tries all of them");
        dial.begin();
        for _ in 0..3 {
            dial.failed("silence");
            dial.next(PATIENCE).expect("more addresses");
        }
        dial.worked();
        let order = addresses("[::2]:9 [::1]:9 1.1.1.1:9 2.2.2.2:9 [::3]:9");
        assert_eq!(round(&mut dial), order);
        dial.found(addresses("3.3.3.3:9 [::2]:9"));
        assert_eq!(round(&mut dial), addresses("[::2]:9 3.3.3.3:9"), "it is there still");
        dial.found(addresses("3.3.3.3:9 [::4]:9"));
        assert_eq!(round(&mut dial), addresses("3.3.3.3:9 [::4]:9"), "it has gone");
    }

    #[test]
    fn one_address_has_all_the_time_and_each_of_several_a_share_that_grows() {
        let limits = |dial: &mut Addresses| -> Vec<u64> {
            let mut limits = Vec::new();
            dial.begin();
            while let Some((_, limit)) = dial.next(PATIENCE) {
                limits.push(limit.as_secs());
                dial.failed("silence");
            }
            dial.give_up();
            limits
        };
        let mut dial = Addresses::default();
        dial.found(addresses("1.1.1.1:9"));
        assert_eq!(limits(&mut dial), [15]);
        let mut dial = Addresses::default();
        dial.found(addresses("1.1.1.1:9 2.2.2.2:9"));
        let rounds: Vec<_> = (0..4).map(|_| limits(&mut dial)).collect();
        assert_eq!(rounds, [[1, 1], [2, 2], [4, 4], [4, 4]]);
        dial.begin();
        dial.next(PATIENCE).expect("an address");
        dial.worked();
        assert_eq!(limits(&mut dial), [1, 1]);
    }

    #[test]
    fn where_the_neighbour_was_heard_of_from_is_tried_next() {
        let mut dial = Addresses::default();
        dial.found(addresses("[::1]:9 [::2]:9 [::ffff:1.1.1.1]:9 [::3]:9"));
        let tried = |of: &mut Addresses| {
            of.failed("silence");
            of.next(PATIENCE).map(|(address, _)| address.to_string()).unwrap_or_default()
        };
        dial.begin();
        assert_eq!(tried(&mut dial), "[::1]:9");
        dial.heard_from("1.1.1.1".parse().expect("an address"));
        dial.heard_from("9.9.9.9".parse().expect("an address"));
        assert_eq!(tried(&mut dial), "[::ffff:1.1.1.1]:9");
        assert_eq!(tried(&mut dial), "[::2]:9", "the rest of the round is as it was");
        dial.begin();
        assert_eq!(tried(&mut dial), "[::ffff:1.1.1.1]:9", "and first in the next one");
    }

    #[test]
    fn a_round_that_failed_tells_why_and_of_many_addresses_only_some() {
        let mut dial = Addresses::default();
        dial.begin();
        assert_eq!(dial.next(PATIENCE), None);
        assert_eq!(dial.give_up(), "its name stands for no address");
        let many = (1..=100).map(|last| SocketAddr::from(([1, 1, 1, last], 9)));
        dial.found(many.collect());
        assert_eq!(round(&mut dial).len(), MAX_LINK_ADDRESSES);
        dial.begin();
        for _ in 0..6 {
            dial.next(PATIENCE).expect("more addresses");
            dial.failed("no");
        }
        let told =
            "1.1.1.1:9: no; 1.1.1.2:9: no; 1.1.1.3:9: no; 1.1.1.4:9: no; and 2 addresses more";
        assert_eq!(dial.give_up(), told);
    }
}
