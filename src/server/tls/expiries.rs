//! Until when certificates and revocation lists are valid: a warning each day before a certificate expires, and while a
//! revocation list is out of date.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Now, WallTime};
use crate::limits::{EXPIRY_DEGRADES, EXPIRY_WARNED, EXPIRY_WARNING_INTERVAL};
use crate::logging::target;
use crate::server::Server;
use crate::tls::{CertificateUse, Expiry};

/// What is known of the files in force, and when their validity is looked at next.
#[derive(Debug)]
pub(in crate::server) struct Expiries {
    all: Arc<[Expiry]>,
    next: Duration,
}

impl Expiries {
    /// They are looked at for the first time at `next`, as [`Now::elapsed`] counts.
    pub(in crate::server) fn new(all: Arc<[Expiry]>, next: Duration) -> Expiries {
        Expiries { all, next }
    }

    pub(in crate::server) fn all(&self) -> &[Expiry] {
        &self.all
    }

    /// These are in force from now on. Where something differs, they are looked at soon.
    pub(super) fn change(&mut self, all: &Arc<[Expiry]>, now: Duration) {
        if self.all != *all {
            *self = Expiries { all: Arc::clone(all), next: now };
        }
    }

    /// What is to be warned of now, in words: nothing until a day after the last time.
    fn take_due(&mut self, now: Now) -> Vec<String> {
        if self.all.is_empty() || now.elapsed < self.next {
            return Vec::new();
        }
        self.next = now.elapsed + EXPIRY_WARNING_INTERVAL;
        let is_near = |expiry: &&Expiry| {
            let is_list = is_revocation_list(expiry.what);
            left(expiry, now.wall) < seconds(if is_list { Duration::ZERO } else { EXPIRY_WARNED })
        };
        self.all.iter().filter(is_near).map(|expiry| problem(expiry, now.wall)).collect()
    }

    pub(in crate::server) fn poll_timeout(&self) -> Option<Duration> {
        (!self.all.is_empty()).then_some(self.next)
    }

    /// What degrades the server, in words.
    pub(in crate::server) fn degraded(&self, now: WallTime) -> impl Iterator<Item = String> {
        let is_near = move |expiry: &&Expiry| {
            !is_revocation_list(expiry.what) && left(expiry, now) < seconds(EXPIRY_DEGRADES)
        };
        self.all.iter().filter(is_near).map(move |expiry| problem(expiry, now))
    }
}

impl Server {
    /// Warns of what expires soon, once a day.
    pub(in crate::server) fn check_expiries(&mut self, now: Now) {
        for problem in self.tls.expiries.take_due(now) {
            // It begins with "the" or "a".
            let (first, rest) = problem.split_at(1);
            let first = first.to_ascii_uppercase();
            // Not limited: once a day for each file.
            log::warn!(
                target: target::TLS, event = "certificate_expires";
                "{first}{rest}. Replace it, and reload."
            );
        }
    }
}

/// For how long it is still valid, in seconds.
fn left(expiry: &Expiry, WallTime(now): WallTime) -> i128 {
    i128::from(expiry.not_after) - now.div_euclid(1_000_000_000)
}

fn problem(expiry: &Expiry, now: WallTime) -> String {
    let what = name(expiry.what);
    let time = Timestamp::from_second(expiry.not_after).map(|time| format!(", at {time}"));
    let time = time.unwrap_or_default(); // A year that can't be written.
    match left(expiry, now) {
        left if left >= 0 => format!("{what} expires in {}{time}", days(left)),
        left => format!("{what} has expired, {} ago{time}", days(-left)),
    }
}

fn days(seconds: i128) -> String {
    match seconds / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn seconds(duration: Duration) -> i128 {
    duration.as_secs().into()
}

fn is_revocation_list(what: CertificateUse) -> bool {
    matches!(what, CertificateUse::HerdCrl | CertificateUse::ClientsCrl)
}

fn name(what: CertificateUse) -> String {
    let setting = what.setting();
    match what {
        CertificateUse::Server => "the server's certificate".to_owned(),
        CertificateUse::HerdCrl | CertificateUse::ClientsCrl => {
            format!("the revocation list of {setting}")
        }
        CertificateUse::HerdCa | CertificateUse::ClientsCa | CertificateUse::AdminCa => {
            format!("a certificate of {setting}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expires_is_named_with_its_time() {
        let at = |not_after| Expiry { what: CertificateUse::Server, not_after };
        let now = WallTime(1_800_000_000_000_000_000);
        for (not_after, text) in [
            (1_800_000_000 + 86_400 * 12 + 1, "expires in 12 days, at 2027-01-27T08:00:01Z"),
            (1_800_000_000 + 86_400, "expires in 1 day, at 2027-01-16T08:00:00Z"),
            (1_800_000_000, "expires in less than a day, at 2027-01-15T08:00:00Z"),
            (1_800_000_000 - 86_400 * 3, "has expired, 3 days ago, at 2027-01-12T08:00:00Z"),
        ] {
            assert_eq!(problem(&at(not_after), now), format!("the server's certificate {text}"));
        }
        assert_eq!(problem(&at(i64::MAX), now).split(',').count(), 1, "no such year");
    }

    #[test]
    fn a_certificate_degrades_the_server_in_its_last_week_and_a_revocation_list_never() {
        let day = 86_400;
        let all: Vec<Expiry> = [
            (CertificateUse::Server, 7 * day),
            (CertificateUse::HerdCa, 7 * day - 1),
            (CertificateUse::HerdCrl, -day),
        ]
        .into_iter()
        .map(|(what, not_after)| Expiry { what, not_after })
        .collect();
        let expiries = Expiries::new(all.into(), Duration::ZERO);
        let degraded: Vec<String> = expiries.degraded(WallTime(0)).collect();
        assert_eq!(degraded.len(), 1, "{degraded:?}");
        assert!(degraded[0].starts_with("a certificate of [tls.neighbours] ca expires in 6 days"));
    }

    #[test]
    fn warnings_come_once_a_day_and_at_once_for_other_files() {
        let day = Duration::from_secs(86_400);
        let ends = |what, days: i64| Expiry { what, not_after: days * 86_400 };
        let files = |days| -> Arc<[Expiry]> {
            let list = ends(CertificateUse::HerdCrl, 2);
            [ends(CertificateUse::Server, days), list].into()
        };
        let mut expiries = Expiries::new(files(31), Duration::ZERO);
        let warned = |expiries: &mut Expiries, elapsed: Duration| {
            let wall = WallTime(elapsed.as_nanos() as i128);
            expiries.take_due(Now { elapsed, wall }).len()
        };
        let mut at = |hours: u32| warned(&mut expiries, day * hours / 24);
        assert_eq!([at(0), at(1), at(23)], [0, 0, 0], "31 days, and the list is up to date");
        assert_eq!([at(24), at(25)], [0, 0], "30 days are enough");
        assert_eq!([at(48), at(49), at(71)], [1, 0, 0]);
        assert_eq!([at(72), at(73)], [2, 0], "the list is out of date");
        assert_eq!(expiries.poll_timeout(), Some(day * 4));
        expiries.change(&files(31), day * 3);
        assert_eq!(expiries.poll_timeout(), Some(day * 4), "the same files");
        expiries.change(&files(400), day * 3);
        assert_eq!(warned(&mut expiries, day * 3), 1, "others: the list alone");
        expiries.change(&Arc::default(), day * 3);
        assert_eq!(expiries.poll_timeout(), None);
    }
}
