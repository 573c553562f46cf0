//! What the service's name stands for, kept for a while: the resolver gives no time to live, and
//! asking it for every connection would be asking it for nothing.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The addresses of one host.
#[derive(Debug)]
pub(super) struct Names {
    addresses: Vec<SocketAddr>,
    /// Why the last look-up failed.
    failure: Option<String>,
    /// When it is looked up again; a failure is not told for longer.
    until: Duration,
    /// Until when the addresses may be used while there are no newer ones.
    usable_until: Duration,
    is_under_way: bool,
    is_literal: bool,
    /// The address that could be used last: it is tried first.
    worked: Option<SocketAddr>,
    /// Those that could not be used since, the one that failed last behind: they are tried last.
    failed: Vec<SocketAddr>,
}

/// What is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Addresses(VecDeque<SocketAddr>),
    Failed(String),
    /// It is being looked up.
    Unknown,
}

impl Names {
    pub(super) fn new(host: &str, port: u16) -> Names {
        let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Names {
            addresses: literal.into_iter().collect(),
            failure: None,
            until: Duration::ZERO,
            usable_until: Duration::ZERO,
            is_under_way: false,
            is_literal: literal.is_some(),
            worked: None,
            failed: Vec::new(),
        }
    }

    /// Whether the caller must have it looked up.
    pub(super) fn is_due(&mut self, now: Duration) -> bool {
        let is_due = !self.is_literal && !self.is_under_way && now >= self.until;
        self.is_under_way |= is_due;
        is_due
    }

    /// The addresses in the order in which they are to be tried. Those that were known are used while
    /// a look-up is under way, for a while: a name server that is silent must hold nobody up.
    pub(super) fn look(&self, now: Duration) -> Look {
        let is_usable = self.is_literal || now < self.usable_until;
        if is_usable && !self.addresses.is_empty() {
            let mut addresses = self.addresses.clone();
            addresses.sort_by_key(|address| self.rank(*address));
            return Look::Addresses(addresses.into());
        }
        match &self.failure {
            Some(reason) if now < self.until => Look::Failed(reason.clone()),
            _ => Look::Unknown,
        }
    }

    /// The resolver has answered.
    pub(super) fn resolved(&mut self, result: Result<Vec<SocketAddr>, String>, now: Duration) {
        self.is_under_way = false;
        match result.map(interleaved) {
            Ok(addresses) if !addresses.is_empty() => {
                self.failed.retain(|failed| addresses.contains(failed));
                (self.addresses, self.failure) = (addresses, None);
                self.until = now + KEPT;
                self.usable_until = self.until + STALE;
            }
            Ok(_) => self.fail("its name stands for no address".to_owned(), now),
            Err(reason) => self.fail(reason, now),
        }
    }

    fn fail(&mut self, reason: String, now: Duration) {
        self.until = now + FAILURE_KEPT;
        self.failure = Some(reason);
    }

    /// A connection with this address could be used: the next one tries it first.
    pub(super) fn worked(&mut self, address: SocketAddr) {
        self.failed.retain(|failed| *failed != address);
        self.worked = Some(address);
    }

    /// One could not: it is tried last.
    pub(super) fn failed(&mut self, address: SocketAddr) {
        self.failed.retain(|failed| *failed != address);
        if self.addresses.contains(&address) {
            self.failed.push(address);
        }
    }

    fn rank(&self, address: SocketAddr) -> usize {
        match self.failed.iter().position(|failed| *failed == address) {
            Some(place) => 2 + place,
            None => usize::from(self.worked != Some(address)),
        }
    }
}

/// IPv6 and IPv4 by turns (RFC 8305, section 4), so that one that leads nowhere costs one attempt
/// and not all of them.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (mut six, mut four): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().take(MOST).partition(SocketAddr::is_ipv6);
    let mut out = Vec::with_capacity(six.len() + four.len());
    while !(six.is_empty() && four.is_empty()) {
        out.extend(six.pop_front());
        out.extend(four.pop_front());
    }
    out
}

/// How long an answer of the resolver is used.
const KEPT: Duration = Duration::from_secs(60);
/// How long its failure is.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// How long an answer of the resolver is used beyond that, while there is no newer one.
const STALE: Duration = Duration::from_secs(600);
/// Addresses of one name that are tried.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|one| one.parse().expect("an address")).collect()
    }

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn known(text: &str) -> Look {
        Look::Addresses(addresses(text).into())
    }

    #[test]
    fn a_name_is_asked_for_once_and_kept_for_a_minute() {
        let mut names = Names::new("a.example", 443);
        assert!(names.is_due(second(0)) && names.look(second(0)) == Look::Unknown);
        assert!(!names.is_due(second(1)), "it is under way");
        names.resolved(Err("no".into()), second(1));
        assert_eq!(names.look(second(5)), Look::Failed("no".into()));
        assert!(names.is_due(second(6)) && names.look(second(6)) == Look::Unknown);
        names.resolved(Ok(addresses("1.1.1.1:443 2.2.2.2:443 [::1]:443")), second(7));
        assert_eq!(names.look(second(66)), known("[::1]:443 1.1.1.1:443 2.2.2.2:443"));
        assert!(!names.is_due(second(66)) && names.is_due(second(67)));
    }

    #[test]
    fn what_worked_last_is_tried_first_and_what_failed_last_whatever_the_resolver_says() {
        let mut names = Names::new("a.example", 443);
        names.resolved(Ok(addresses("1.1.1.1:1 2.2.2.2:1 3.3.3.3:1 4.4.4.4:1")), second(0));
        let one = |text: &str| text.parse::<SocketAddr>().expect("an address");
        names.failed(one("1.1.1.1:1"));
        names.failed(one("2.2.2.2:1"));
        names.failed(one("9.9.9.9:1")); // It is none of them.
        names.worked(one("4.4.4.4:1"));
        let order = "4.4.4.4:1 3.3.3.3:1 1.1.1.1:1 2.2.2.2:1";
        assert_eq!(names.look(second(1)), known(order));
        names.resolved(Ok(addresses("2.2.2.2:1 1.1.1.1:1 3.3.3.3:1 4.4.4.4:1")), second(60));
        assert_eq!(names.look(second(61)), known(order));
        names.failed(one("4.4.4.4:1"));
        names.worked(one("2.2.2.2:1"));
        let order = "2.2.2.2:1 3.3.3.3:1 1.1.1.1:1 4.4.4.4:1";
        assert_eq!(names.look(second(61)), known(order));
    }

    #[test]
    fn what_was_known_is_used_while_the_resolver_is_silent_or_fails_for_a_while() {
        let mut names = Names::new("a.example", 443);
        names.resolved(Ok(addresses("1.1.1.1:443")), second(0));
        assert!(names.is_due(second(60)));
        assert_eq!(names.look(second(100)), known("1.1.1.1:443"));
        names.resolved(Err("no".into()), second(101));
        assert_eq!(names.look(second(102)), known("1.1.1.1:443"));
        let late = second(60) + STALE;
        assert!(names.is_due(late));
        names.resolved(Err("no".into()), late);
        assert_eq!(names.look(late), Look::Failed("no".into()));
    }

    #[test]
    fn an_address_stands_for_itself() {
        let mut names = Names::new("::1", 8443);
        assert!(!names.is_due(second(1 << 40)));
        assert_eq!(names.look(second(1 << 40)), known("[::1]:8443"));
    }
}
