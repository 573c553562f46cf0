//! A dial's round over the addresses of a name: each is tried once, so an unreachable one costs only one
//! attempt. Pure: no socket, no clock.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// The remaining addresses, and why the earlier ones failed.
#[derive(Debug, Default)]
pub(super) struct Round {
    left: VecDeque<SocketAddr>,
    /// The failures that the text lists.
    failures: Vec<String>,
    failed: usize,
}

impl Round {
    pub fn new(addresses: Vec<SocketAddr>) -> Round {
        Round { left: addresses.into(), ..Round::default() }
    }

    /// The next address, and whether it is the last one, so that no other waits behind it.
    pub fn next(&mut self) -> Option<(SocketAddr, bool)> {
        let address = self.left.pop_front()?;
        Some((address, self.left.is_empty()))
    }

    pub fn failed(&mut self, address: SocketAddr, why: &str) {
        self.failed += 1;
        if self.failures.len() < FAILURES_SHOWN {
            self.failures.push(format!("{address}: {why}"));
        }
    }

    /// Why all addresses failed, in one text.
    pub fn failures_text(&self) -> String {
        let named = self.failures.join("; ");
        match self.failed - self.failures.len() {
            _ if self.failures.is_empty() => "its name stands for no address".to_owned(),
            0 => named,
            1 => format!("{named}; and 1 address more"),
            more => format!("{named}; and {more} addresses more"),
        }
    }
}

/// How many failures the text lists.
const FAILURES_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|last| SocketAddr::from(([1, 1, 1, last], 9))).collect()
    }

    #[test]
    fn a_round_tries_each_address_once_and_knows_the_last_one() {
        let mut round = Round::new(addresses(3));
        let tried: Vec<_> = std::iter::from_fn(|| round.next()).collect();
        let expected: Vec<_> = addresses(3).into_iter().zip([false, false, true]).collect();
        assert_eq!(tried, expected);
    }

    #[test]
    fn a_round_that_failed_says_why_and_of_many_addresses_names_four() {
        let text = |count: u8| {
            let mut round = Round::new(addresses(count));
            while let Some((address, _)) = round.next() {
                round.failed(address, "no");
            }
            round.failures_text()
        };
        let four = "1.1.1.1:9: no; 1.1.1.2:9: no; 1.1.1.3:9: no; 1.1.1.4:9: no";
        assert_eq!(text(0), "its name stands for no address");
        assert_eq!(text(1), "1.1.1.1:9: no");
        assert_eq!(text(4), four);
        assert_eq!(text(5), format!("{four}; and 1 address more"));
        assert_eq!(text(6), format!("{four}; and 2 addresses more"));
    }
}
