//! The policies of all connections, each stored once: a loop's connections share a few policies, and an idle
//! connection should not hold a copy.

use std::time::Duration;

use super::counting::UNCOUNTED;
use crate::application::{FlushAt, Framing, Policy};

/// Policies by their number, and how many connections use each.
#[derive(Debug)]
pub struct Policies {
    all: Vec<(Policy, usize)>,
}

impl Default for Policies {
    fn default() -> Policies {
        Policies { all: vec![(Policies::UNOPENED, 0)] }
    }
}

impl Policies {
    /// The policy of a connection that the application has not seen yet.
    pub const UNOPENED: Policy = Policy {
        framing: Framing::Bytes,
        flush: FlushAt::TurnEnd,
        reads_when_full: false,
        drains_on_stop: true,
        evictable: true,
        class: UNCOUNTED,
        input_timeout: Duration::from_secs(60),
        line_pause: None,
    };

    /// The number of a policy, which one more connection uses.
    pub fn take(&mut self, policy: Policy) -> u32 {
        let known = self.all.iter().position(|(known, _)| *known == policy);
        let place = known.or_else(|| self.all.iter().position(|(_, count)| *count == 0));
        let place = place.unwrap_or_else(|| {
            self.all.push((policy, 0));
            self.all.len() - 1
        });
        self.all[place].0 = policy;
        self.all[place].1 += 1;
        place as u32 // There are at most as many as connections.
    }

    /// One connection fewer uses a policy.
    pub fn give_back(&mut self, number: u32) {
        self.all[number as usize].1 -= 1;
    }

    pub fn get(&self, number: u32) -> &Policy {
        &self.all[number as usize].0
    }

    /// Every connection with the first policy of a pair has the second one from now on; all pairs at once, so
    /// that two policies can be swapped.
    pub fn replace(&mut self, pairs: &[(Policy, Policy)]) {
        // A connection that the application has not seen yet has none of its policies.
        for (policy, _) in &mut self.all {
            if let Some((_, new)) = pairs.iter().find(|(old, _)| old == policy) {
                *policy = *new;
            }
        }
    }
}

/// Whether an open connection can change from one policy to the other. Its input is kept as its framing wants
/// it, and it is counted by its class and by whether it drains.
pub fn may_replace(old: &Policy, new: &Policy) -> bool {
    let framing = std::mem::discriminant::<Framing>;
    framing(&old.framing) == framing(&new.framing)
        && old.class == new.class
        && old.drains_on_stop == new.drains_on_stop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_stored_once_and_an_unused_number_is_reused() {
        let mut policies = Policies::default();
        let (lines, longer) = (Policy::lines(10), Policy::lines(20));
        let first = policies.take(lines);
        assert_eq!(policies.take(lines), first);
        let other = policies.take(longer);
        assert_ne!(other, first);
        policies.give_back(first);
        assert_eq!(*policies.get(first), lines);
        policies.give_back(first);
        assert_eq!(policies.take(Policy::bytes()), first);
        assert_eq!(*policies.get(other), longer);
        assert_eq!(policies.all.len(), 2);
    }
}
