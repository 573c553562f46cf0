//! A cache of the addresses of names: the resolver gives no time to live, so results are kept for a fixed
//! time instead of asking it for every connection. Pure: no socket, no thread, no clock.
//!
//! ```text
//!            ask                          store
//!   dial ----------> known? ---> use it     ^
//!                      | no, or old         |
//! +---> one look-up per name, for which all its dials wait
//! ```
//!
//! Addresses stay in the cache until another look-up finds others: a resolver that is silent or fails must
//! not cut off a host whose address has not changed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::application::{Freshness, Start};

/// Answers of the resolver by `host:port`.
#[derive(Debug, Default)]
pub struct DnsCache {
    names: HashMap<String, Name>,
}

#[derive(Debug, Default)]
struct Name {
    /// The two families alternate; each address occurs once.
    addresses: Vec<SocketAddr>,
    /// Why the last look-up failed.
    failure: Option<String>,
    /// When it is looked up again; until then a failure is returned, too.
    until: Duration,
    /// How long the addresses may be used if there are no newer ones.
    usable_until: Duration,
    /// When the look-up in progress began.
    asked_at: Option<Duration>,
    /// When a dial last asked for it.
    wanted_at: Duration,
    /// The address that worked last: it is tried first.
    worked: Option<SocketAddr>,
    /// The addresses that have failed since, in the order of their failures: they are tried last.
    failed: Vec<SocketAddr>,
}

/// The answer to [`DnsCache::ask`].
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The caller must look the name up, and report the result to [`DnsCache::store`].
    pub must_look_up: bool,
    pub known: CacheAnswer,
}

/// What a dial does with a name.
#[derive(Debug, PartialEq, Eq)]
pub enum CacheAnswer {
    /// It uses the addresses ([`DnsCache::in_order`]).
    Addresses,
    /// It fails: the resolver reported this failure a moment ago.
    Failure(String),
    /// It waits for the look-up, and from this time on, if there is one, uses the cached addresses.
    Nothing(Option<Duration>),
}

impl DnsCache {
    /// What the cache has for a dial that begins `now`.
    pub fn ask(&mut self, name: &str, freshness: Freshness, now: Duration) -> Asked {
        self.forget_one(name);
        let entry = self.names.entry(name.to_owned()).or_default();
        entry.wanted_at = now;
        let is_old = now >= entry.until || matches!(freshness, Freshness::Ask(_));
        let must_look_up = is_old && entry.asked_at.is_none();
        if must_look_up {
            entry.asked_at = Some(now);
        }
        Asked { must_look_up, known: entry.known(freshness, now) }
    }

    /// The resolver has answered.
    pub fn store(
        &mut self,
        name: &str,
        result: Result<Vec<SocketAddr>, String>,
        now: Duration,
    ) -> Result<(), String> {
        let entry = self.names.entry(name.to_owned()).or_default();
        entry.asked_at = None;
        let reason = match result.map(alternating) {
            Ok(addresses) if !addresses.is_empty() => {
                entry.failed.retain(|failed| addresses.contains(failed));
                (entry.addresses, entry.failure) = (addresses, None);
                entry.until = now + DNS_TTL;
                entry.usable_until = entry.until + STALE;
                return Ok(());
            }
            Ok(_) => NO_ADDRESS.to_owned(),
            Err(reason) => reason,
        };
        entry.until = now + DNS_NEGATIVE_TTL;
        entry.failure = Some(reason.clone());
        Err(reason)
    }

    /// Whether a dial may use the cached addresses although its look-up failed or takes long.
    pub fn is_usable(&self, name: &str, freshness: Freshness, now: Duration) -> bool {
        self.names.get(name).is_some_and(|entry| entry.is_usable(freshness, now))
    }

    /// All cached addresses, in the order in which a dial tries them.
    pub fn in_order(&self, name: &str, start: Start) -> Vec<SocketAddr> {
        let Some(entry) = self.names.get(name) else {
            return Vec::new();
        };
        let mut addresses = entry.addresses.clone();
        let place = |address| addresses.iter().position(|known| *known == address);
        let first = match start {
            Start::Best => None,
            Start::At(address) => place(address),
            Start::Behind(address) => place(address).map(|place| place + 1),
        };
        match first {
            Some(first) => addresses.rotate_left(first),
            None => addresses.sort_by_key(|address| entry.rank(*address)),
        }
        addresses
    }

    /// A connection to this address worked: the next dial tries it first.
    pub fn worked(&mut self, name: &str, address: SocketAddr) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.failed.retain(|failed| *failed != address);
            entry.worked = Some(address);
        }
    }

    /// A connection to this address failed: it is tried last.
    pub fn failed(&mut self, name: &str, address: SocketAddr) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.failed.retain(|failed| *failed != address);
            if entry.addresses.contains(&address) {
                entry.failed.push(address);
            }
        }
    }

    /// If there are too many names, forgets the one that no dial has asked for the longest. A name with a
    /// look-up in progress is kept: otherwise there would be a second look-up.
    fn forget_one(&mut self, name: &str) {
        if self.names.len() < MAX_NAMES || self.names.contains_key(name) {
            return;
        }
        let idle = self.names.iter().filter(|(_, entry)| entry.asked_at.is_none());
        let oldest = idle.min_by_key(|(_, entry)| entry.wanted_at);
        if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
            self.names.remove(&oldest);
        }
    }
}

impl Name {
    fn known(&self, freshness: Freshness, now: Duration) -> CacheAnswer {
        let lookup_wait = match freshness {
            Freshness::Cached => Duration::ZERO,
            Freshness::Ask(lookup_wait) => lookup_wait,
        };
        match (self.is_usable(freshness, now), self.asked_at, &self.failure) {
            (true, Some(since), _) if since.saturating_add(lookup_wait) > now => {
                CacheAnswer::Nothing(Some(since.saturating_add(lookup_wait)))
            }
            (true, ..) => CacheAnswer::Addresses,
            (false, None, Some(reason)) => CacheAnswer::Failure(reason.clone()),
            (false, ..) => CacheAnswer::Nothing(None),
        }
    }

    /// A dial that asks again would rather have old addresses than none, whatever their age.
    fn is_usable(&self, freshness: Freshness, now: Duration) -> bool {
        let is_young = now < self.usable_until || matches!(freshness, Freshness::Ask(_));
        is_young && !self.addresses.is_empty()
    }

    fn rank(&self, address: SocketAddr) -> usize {
        match self.failed.iter().position(|failed| *failed == address) {
            Some(place) => 2 + place,
            None => usize::from(self.worked != Some(address)),
        }
    }
}

/// IPv6 and IPv4 alternately (RFC 8305, section 4), beginning with the family of the resolver's first
/// address; each address once. So an unreachable family costs one attempt before the other is tried.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_six = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut one, mut other) = match begins_with_six {
        true => (six.into_iter(), four.into_iter()),
        false => (four.into_iter(), six.into_iter()),
    };
    let mut out: Vec<SocketAddr> = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] || out.len() >= MAX_ADDRESSES {
            out.truncate(MAX_ADDRESSES);
            return out;
        }
        for address in pair.into_iter().flatten() {
            if !out.contains(&address) {
                out.push(address);
            }
        }
    }
}

/// How long the addresses of a look-up are used.
const DNS_TTL: Duration = Duration::from_secs(60);
/// How long a failure is used.
const DNS_NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// How long addresses are used beyond that, while there are no newer ones: a silent name server must not
/// delay dials, but the new address of a host that has moved must be found eventually.
const STALE: Duration = Duration::from_secs(600);
/// How many addresses of a name are tried: with some seconds for each, a dial ends within minutes.
const MAX_ADDRESSES: usize = 64;
/// How many names are cached: some 100 bytes each, and more than any program dials.
const MAX_NAMES: usize = 1_024;
const NO_ADDRESS: &str = "its name stands for no address";

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "a.example:443";
    const ASK: Freshness = Freshness::Ask(Duration::from_millis(500));

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|one| one.parse().expect("an address")).collect()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn found(text: &str, at: Duration) -> DnsCache {
        let mut cache = DnsCache::default();
        cache.store(HOST, Ok(addresses(text)), at).expect("an address");
        cache
    }

    #[track_caller]
    fn asks(
        cache: &mut DnsCache,
        freshness: Freshness,
        at: Duration,
        looks_up: bool,
        known: CacheAnswer,
    ) {
        assert_eq!(cache.ask(HOST, freshness, at), Asked { must_look_up: looks_up, known });
    }

    #[test]
    fn a_name_is_looked_up_once_at_a_time_and_kept_for_a_minute_and_a_failure_for_five_seconds() {
        let mut cache = DnsCache::default();
        asks(&mut cache, Freshness::Cached, second(0), true, CacheAnswer::Nothing(None));
        asks(&mut cache, Freshness::Cached, second(1), false, CacheAnswer::Nothing(None));
        assert_eq!(cache.store(HOST, Err("no".into()), second(1)), Err("no".into()));
        asks(&mut cache, Freshness::Cached, second(5), false, CacheAnswer::Failure("no".into()));
        asks(&mut cache, Freshness::Cached, second(6), true, CacheAnswer::Nothing(None));
        let found = addresses("1.1.1.1:443 2.2.2.2:443 [::1]:443");
        assert_eq!(cache.store(HOST, Ok(found), second(7)), Ok(()));
        asks(&mut cache, Freshness::Cached, second(66), false, CacheAnswer::Addresses);
        assert_eq!(
            cache.in_order(HOST, Start::Best),
            addresses("1.1.1.1:443 [::1]:443 2.2.2.2:443")
        );
        asks(&mut cache, Freshness::Cached, second(67), true, CacheAnswer::Addresses);
        asks(&mut cache, Freshness::Cached, second(67), false, CacheAnswer::Addresses);
    }

    #[test]
    fn names_are_independent_and_a_name_without_addresses_fails() {
        let mut cache = found("1.1.1.1:443", second(0));
        let other = cache.ask("b.example:443", Freshness::Cached, second(0));
        assert_eq!(other, Asked { must_look_up: true, known: CacheAnswer::Nothing(None) });
        asks(&mut cache, Freshness::Cached, second(0), false, CacheAnswer::Addresses);
        let none = cache.store("b.example:443", Ok(Vec::new()), second(0));
        assert_eq!(none, Err("its name stands for no address".into()));
    }

    #[test]
    fn known_addresses_are_used_for_ten_minutes_while_the_resolver_fails() {
        let mut cache = found("1.1.1.1:443", second(0));
        asks(&mut cache, Freshness::Cached, second(60), true, CacheAnswer::Addresses);
        asks(&mut cache, Freshness::Cached, second(100), false, CacheAnswer::Addresses);
        assert!(cache.store(HOST, Err("no".into()), second(101)).is_err());
        assert!(cache.is_usable(HOST, Freshness::Cached, second(102)));
        asks(&mut cache, Freshness::Cached, second(102), false, CacheAnswer::Addresses);
        let late = second(60) + STALE;
        asks(&mut cache, Freshness::Cached, late, true, CacheAnswer::Nothing(None));
        assert!(!cache.is_usable(HOST, Freshness::Cached, late));
        assert!(cache.store(HOST, Err("no".into()), late).is_err());
        asks(&mut cache, Freshness::Cached, late, false, CacheAnswer::Failure("no".into()));
    }

    #[test]
    fn a_fresh_look_up_falls_back_to_known_addresses_of_any_age() {
        let mut cache = found("1.1.1.1:443", second(0));
        let until = second(9_000) + Duration::from_millis(500);
        asks(&mut cache, ASK, second(9_000), true, CacheAnswer::Nothing(Some(until)));
        let sooner = second(9_000) + Duration::from_millis(200);
        asks(&mut cache, ASK, sooner, false, CacheAnswer::Nothing(Some(until)));
        asks(&mut cache, ASK, until, false, CacheAnswer::Addresses);
        assert!(cache.store(HOST, Err("no".into()), second(9_010)).is_err());
        assert!(cache.is_usable(HOST, ASK, second(9_010)));
        asks(
            &mut cache,
            ASK,
            second(9_011),
            true,
            CacheAnswer::Nothing(Some(second(9_011) + Duration::from_millis(500))),
        );
        let mut unknown = DnsCache::default();
        asks(&mut unknown, ASK, second(0), true, CacheAnswer::Nothing(None));
        assert!(unknown.store(HOST, Err("no".into()), second(1)).is_err());
        asks(&mut unknown, ASK, second(2), true, CacheAnswer::Nothing(None));
    }

    #[test]
    fn the_last_working_address_is_first_and_a_failed_one_last() {
        let mut cache = found("1.1.1.1:1 2.2.2.2:1 3.3.3.3:1 4.4.4.4:1", second(0));
        cache.failed(HOST, address("1.1.1.1:1"));
        cache.failed(HOST, address("2.2.2.2:1"));
        cache.failed(HOST, address("9.9.9.9:1")); // It is none of them.
        cache.worked(HOST, address("4.4.4.4:1"));
        let order = addresses("4.4.4.4:1 3.3.3.3:1 1.1.1.1:1 2.2.2.2:1");
        assert_eq!(cache.in_order(HOST, Start::Best), order);
        let others = addresses("2.2.2.2:1 1.1.1.1:1 3.3.3.3:1 4.4.4.4:1");
        cache.store(HOST, Ok(others), second(60)).expect("addresses");
        assert_eq!(cache.in_order(HOST, Start::Best), order);
        cache.failed(HOST, address("4.4.4.4:1"));
        cache.worked(HOST, address("2.2.2.2:1"));
        let order = addresses("2.2.2.2:1 3.3.3.3:1 1.1.1.1:1 4.4.4.4:1");
        assert_eq!(cache.in_order(HOST, Start::Best), order);
    }

    #[test]
    fn both_families_take_turns_and_a_dial_may_begin_at_or_behind_an_address() {
        let cache = found("[::1]:1 [::2]:1 [::1]:1 [::3]:1 1.1.1.1:1 2.2.2.2:1", second(0));
        let order = |start| cache.in_order(HOST, start);
        let all = addresses("[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1");
        assert_eq!(order(Start::Best), all);
        let around = addresses("1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1 [::1]:1");
        assert_eq!(order(Start::At(address("1.1.1.1:1"))), around);
        assert_eq!(order(Start::Behind(address("[::1]:1"))), around);
        assert_eq!(order(Start::Behind(address("[::3]:1"))), all);
        assert_eq!(order(Start::At(address("9.9.9.9:1"))), all);
        assert_eq!(order(Start::Behind(address("9.9.9.9:1"))), all);
        assert_eq!(DnsCache::default().in_order(HOST, Start::Best), []);
    }

    #[test]
    fn the_addresses_of_a_name_and_the_names_are_bounded() {
        let many = |last: u8| SocketAddr::from(([1, 1, 1, last], 9));
        let mut cache = DnsCache::default();
        cache.store(HOST, Ok((1..=200).map(many).collect()), second(0)).expect("addresses");
        assert_eq!(cache.in_order(HOST, Start::Best).len(), MAX_ADDRESSES);
        for number in 0..2 * MAX_NAMES {
            let name = format!("{number}.example:1");
            assert!(cache.ask(&name, Freshness::Cached, second(number as u64)).must_look_up);
            if number > 0 {
                let _ = cache.store(&name, Err("no".into()), second(number as u64));
            }
        }
        assert_eq!(cache.names.len(), MAX_NAMES);
        let first = cache.ask("0.example:1", Freshness::Cached, second(5_000));
        assert!(!first.must_look_up, "its look-up is still in progress");
    }
}
