//! What the service's name stands for, kept for a while: the resolver gives no time to live, and
//! asking it for every connection would be asking it for nothing.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The addresses of one host.
#[derive(Debug)]
pub(super) struct Names {
    known: Option<Known>,
    is_under_way: bool,
    is_literal: bool,
}

#[derive(Debug)]
struct Known {
    result: Result<Vec<SocketAddr>, String>,
    until: Duration,
}

/// What is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Addresses(VecDeque<SocketAddr>),
    Failed(String),
    /// It must be resolved; the caller is told whether it is the one to ask for that.
    Unknown {
        ask: bool,
    },
}

impl Names {
    pub(super) fn new(host: &str, port: u16) -> Names {
        let literal = host
            .parse::<IpAddr>()
            .ok()
            .map(|ip| Known { result: Ok(vec![SocketAddr::new(ip, port)]), until: Duration::MAX });
        Names { is_literal: literal.is_some(), known: literal, is_under_way: false }
    }

    pub(super) fn look(&mut self, now: Duration) -> Look {
        match &self.known {
            Some(Known { result: Ok(addresses), until }) if now < *until => {
                Look::Addresses(addresses.iter().copied().collect())
            }
            Some(Known { result: Err(reason), until }) if now < *until => {
                Look::Failed(reason.clone())
            }
            _ => Look::Unknown { ask: !std::mem::replace(&mut self.is_under_way, true) },
        }
    }

    /// The resolver has answered.
    pub(super) fn resolved(&mut self, result: Result<Vec<SocketAddr>, String>, now: Duration) {
        self.is_under_way = false;
        if self.is_literal {
            return;
        }
        let result = match result.map(interleaved) {
            Ok(addresses) if addresses.is_empty() => Err("its name stands for no address".into()),
            result => result,
        };
        let kept = if result.is_ok() { KEPT } else { FAILURE_KEPT };
        self.known = Some(Known { result, until: now + kept });
    }

    /// One of its addresses answered: the next connection tries it first.
    pub(super) fn prefer(&mut self, address: SocketAddr) {
        if let Some(Known { result: Ok(addresses), .. }) = &mut self.known
            && let Some(at) = addresses.iter().position(|known| *known == address)
        {
            addresses[..=at].rotate_right(1);
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
/// Addresses of one name that are tried.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|one| one.parse().expect("an address")).collect()
    }

    #[test]
    fn a_name_is_asked_for_once_and_kept_for_a_minute() {
        let second = Duration::from_secs;
        let mut names = Names::new("a.example", 443);
        assert_eq!(names.look(second(0)), Look::Unknown { ask: true });
        assert_eq!(names.look(second(1)), Look::Unknown { ask: false });
        names.resolved(Ok(addresses("1.1.1.1:443 2.2.2.2:443 [::1]:443")), second(1));
        let expected = addresses("[::1]:443 1.1.1.1:443 2.2.2.2:443");
        assert_eq!(names.look(second(60)), Look::Addresses(expected.into()));
        names.prefer("2.2.2.2:443".parse().expect("an address"));
        let expected = addresses("2.2.2.2:443 [::1]:443 1.1.1.1:443");
        assert_eq!(names.look(second(60)), Look::Addresses(expected.into()));
        assert_eq!(names.look(second(61)), Look::Unknown { ask: true });
        names.resolved(Err("no".into()), second(61));
        assert_eq!(names.look(second(65)), Look::Failed("no".into()));
        assert_eq!(names.look(second(66)), Look::Unknown { ask: true });
    }

    #[test]
    fn an_address_stands_for_itself() {
        let mut names = Names::new("::1", 8443);
        let expected = addresses("[::1]:8443");
        assert_eq!(names.look(Duration::from_secs(1 << 40)), Look::Addresses(expected.into()));
    }
}
