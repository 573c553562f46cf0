//! The servers of NATS that are tried, and the pauses between two attempts.
//!
//! ```text
//!   configured, shuffled | told by a server, shuffled |
//!   ^ first              ^                            then the first again, after a longer pause
//! ```

use std::time::Duration;

use crate::config::EngineUrl;
use crate::herd::Random;
use crate::limits::{
    ENGINE_LOGIN_PAUSE_INITIAL, ENGINE_LOGIN_PAUSE_MAX, ENGINE_PAUSE_INITIAL, ENGINE_PAUSE_MAX,
    ENGINE_STABLE_AFTER, MAX_ENGINE_ADDRESS_BYTES, MAX_ENGINE_ADDRESSES,
};

/// A server of NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NatsServer {
    pub(super) host: String,
    pub(super) port: u16,
    /// Plain text is refused.
    pub(super) needs_tls: bool,
    /// What its certificate must name: its host or, for an address that another server told, that server's.
    pub(super) certified: String,
}

/// All that are known, and when the next one is tried.
#[derive(Debug)]
pub(super) struct Servers {
    /// The configured ones, then those that servers have told.
    all: Vec<NatsServer>,
    configured: usize,
    /// The place of the one that is tried next.
    next: usize,
    random: Random,
    pause: Pause,
    /// The pause after a server has refused us, which only an operator can change.
    refused: Pause,
    /// Attempts since a connection was last in use or the pause last grew.
    tries: usize,
}

/// A pause that doubles.
#[derive(Debug)]
struct Pause {
    next: Duration,
    initial: Duration,
    max: Duration,
}

impl NatsServer {
    fn configured(url: &EngineUrl) -> NatsServer {
        let EngineUrl { host, port, needs_tls } = url;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        NatsServer { certified: certified(&host), host, port: *port, needs_tls: *needs_tls }
    }

    /// What `teller` calls another server of its cluster: `host:port`. None if it is none.
    fn told(text: &str, teller: &NatsServer) -> Option<NatsServer> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if host.is_empty() || text.len() > MAX_ENGINE_ADDRESS_BYTES || !host.bytes().all(is_plain) {
            return None;
        }
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let certified = if is_address { teller.certified.clone() } else { certified(host) };
        let (host, port) = (host.to_owned(), port.parse().ok().filter(|port| *port != 0)?);
        Some(NatsServer { host, port, needs_tls: teller.needs_tls, certified })
    }

    /// What is dialled, and how messages name it: `host:port`.
    pub(super) fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// What the certificate of a host must name: a zone is of this machine alone.
fn certified(host: &str) -> String {
    host.split('%').next().unwrap_or(host).to_owned()
}

impl Servers {
    /// Those of the configuration, of which there is at least one.
    pub(super) fn new(urls: &[EngineUrl], seed: u64) -> Servers {
        let mut random = Random(seed);
        let mut all: Vec<_> = urls.iter().map(NatsServer::configured).collect();
        shuffle(&mut all, &mut random);
        Servers {
            configured: all.len(),
            all,
            next: 0,
            random,
            pause: Pause::new(ENGINE_PAUSE_INITIAL, ENGINE_PAUSE_MAX),
            refused: Pause::new(ENGINE_LOGIN_PAUSE_INITIAL, ENGINE_LOGIN_PAUSE_MAX),
            tries: 0,
        }
    }

    /// The one that is tried now.
    pub(super) fn next(&mut self) -> NatsServer {
        let at = self.next % self.all.len();
        self.next = at + 1;
        self.all[at].clone()
    }

    /// `teller` says that its cluster has these; they replace those that were told before.
    pub(super) fn learn(&mut self, told: &[String], teller: &NatsServer) {
        let known = self.all[..self.configured].to_vec();
        let is_new = |new: &NatsServer| {
            !known.iter().any(|known| known.host == new.host && known.port == new.port)
        };
        let told = told.iter().filter_map(|text| NatsServer::told(text, teller)).filter(is_new);
        let mut told: Vec<_> = told.take(MAX_ENGINE_ADDRESSES).collect();
        let is_unchanged = told.len() == self.all.len() - self.configured
            && told.iter().all(|told| self.all[self.configured..].contains(told));
        if is_unchanged {
            return;
        }
        shuffle(&mut told, &mut self.random);
        self.all.truncate(self.configured);
        self.all.extend(told);
        let place = self.all.iter().position(|known| known == teller);
        self.next = place.map_or(0, |place| place + 1);
    }

    /// How long to wait after a connection that was not made, or was lost after it had been in use for so long.
    pub(super) fn pause(&mut self, in_use: Option<Duration>) -> Duration {
        if in_use.is_some() {
            self.refused.reset();
            self.tries = 0;
        }
        if in_use.is_some_and(|time| time >= ENGINE_STABLE_AFTER) {
            self.pause.reset();
        }
        let pause = self.pause.next;
        self.tries += 1;
        if self.tries >= self.all.len() {
            self.tries = 0;
            self.pause.grow();
        }
        // So that servers that lost the same server of NATS do not come back together.
        pause / 2 + (pause / 2).mul_f64(self.random.part())
    }

    /// The same after a server has refused us.
    pub(super) fn refused_pause(&mut self) -> Duration {
        let pause = self.refused.next;
        self.refused.grow();
        pause
    }
}

impl Pause {
    fn new(initial: Duration, max: Duration) -> Pause {
        Pause { next: initial, initial, max }
    }

    fn grow(&mut self) {
        self.next = (self.next * 2).min(self.max);
    }

    fn reset(&mut self) {
        self.next = self.initial;
    }
}

/// Puts servers into an order by chance.
fn shuffle(all: &mut [NatsServer], random: &mut Random) {
    for at in (1..all.len()).rev() {
        let other = random.number() % (at as u64 + 1);
        all.swap(at, other as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(hosts: &[&str]) -> Vec<EngineUrl> {
        let url = |host: &&str| EngineUrl { host: (*host).into(), port: 4222, needs_tls: true };
        hosts.iter().map(url).collect()
    }

    fn hosts(servers: &mut Servers, count: usize) -> Vec<String> {
        (0..count).map(|_| servers.next().host).collect()
    }

    fn sorted(mut hosts: Vec<String>) -> Vec<String> {
        hosts.sort();
        hosts
    }

    #[test]
    fn configured_servers_come_first_in_an_order_of_the_seed_and_told_ones_behind_them() {
        let configured = urls(&["a", "b", "c"]);
        let mut servers = Servers::new(&configured, 7);
        let first = hosts(&mut servers, 3);
        assert_eq!(sorted(first.clone()), ["a", "b", "c"]);
        assert_eq!(hosts(&mut servers, 3), first, "the same order again");
        assert_eq!(hosts(&mut Servers::new(&configured, 7), 3), first);
        let orders: std::collections::BTreeSet<_> =
            (0..50).map(|seed| hosts(&mut Servers::new(&configured, seed), 3)).collect();
        assert_eq!(orders.len(), 6, "every order occurs");
        let teller = servers.next();
        let told = ["a:4222", "x:4222", "[::1]:4223", "y:0", ":4", "no port", "e\nvil:1"];
        servers.learn(&told.map(String::from), &teller);
        let all = hosts(&mut servers, 5);
        assert_eq!(sorted(all.clone()), ["::1", "a", "b", "c", "x"]);
        let behind = hosts(&mut servers, 10);
        let of_seed = behind.iter().position(|host| *host == first[0]).expect("it is there");
        assert_eq!(behind[of_seed..of_seed + 3], first, "the order of the configured ones stays");
    }

    #[test]
    fn a_told_address_is_checked_against_the_name_it_was_found_through_and_a_told_name_by_itself() {
        let mut servers = Servers::new(&urls(&["nats.example"]), 1);
        let teller = servers.next();
        servers.learn(&["10.0.0.2:4222".into(), "other.example:4222".into()], &teller);
        let told = [servers.next(), servers.next()];
        let of = |host: &str| told.iter().find(|told| told.host == host).expect("it is there");
        assert_eq!(of("10.0.0.2").certified, "nats.example");
        assert_eq!(of("other.example").certified, "other.example");
        assert!(told.iter().all(|told| told.needs_tls), "plain text stays refused");
        assert_eq!(of("10.0.0.2").address(), "10.0.0.2:4222");
        let v6 = NatsServer::told("[fe80::1%eth0]:1", &teller).expect("an address with its zone");
        assert_eq!(v6.address(), "[fe80::1%eth0]:1");
    }

    #[test]
    fn a_server_tells_no_more_than_there_is_room_for() {
        let mut servers = Servers::new(&urls(&["a"]), 1);
        let teller = servers.next();
        let told: Vec<_> = (1..5_000).map(|number| format!("host-{number}:4222")).collect();
        servers.learn(&told, &teller);
        assert_eq!(servers.all.len(), 1 + MAX_ENGINE_ADDRESSES);
        servers.learn(&[format!("{}:1", "h".repeat(MAX_ENGINE_ADDRESS_BYTES))], &teller);
        assert_eq!(servers.all.len(), 1);
    }

    #[test]
    fn pauses_double_once_all_were_tried_up_to_a_bound_and_half_of_each_is_jitter() {
        let mut servers = Servers::new(&urls(&["a", "b"]), 3);
        let expected = [100, 100, 200, 200, 400, 400, 800, 800, 1_000, 1_000];
        for whole in expected.into_iter().chain([1_000; 20]) {
            let pause = servers.pause(None);
            let whole = Duration::from_millis(whole);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        let pause = servers.pause(Some(Duration::from_secs(9)));
        assert!(pause >= Duration::from_millis(500), "{pause:?}: it was lost too soon");
        let pause = servers.pause(Some(Duration::from_secs(10)));
        assert!(pause <= Duration::from_millis(100), "{pause:?}");
        for whole in [5, 10, 20, 40, 60, 60, 60] {
            assert_eq!(servers.refused_pause(), Duration::from_secs(whole));
        }
        servers.pause(Some(Duration::ZERO));
        assert!(servers.refused_pause() <= Duration::from_secs(5), "it had been in use");
    }
}
