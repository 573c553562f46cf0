//! The heartbeat, and its change while links are up.
//!
//! Neighbours learn of a new heartbeat one after the other. So for some time after a change this server sends by
//! the shorter and waits by the longer one: then no link breaks between a server that has the new heartbeat
//! already and one that still has the former, whichever of the two is shorter.

use std::time::Duration;

/// The heartbeat that is in force, and those before it that still count.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    shortest: Duration,
    longest: Duration,
    /// The one that is configured, and when it alone counts.
    next: Option<(Duration, Duration)>,
}

impl Heartbeat {
    pub(super) fn new(heartbeat: Duration) -> Heartbeat {
        Heartbeat { shortest: heartbeat, longest: heartbeat, next: None }
    }

    /// From now on this one is configured. The former ones count for three of the longest heartbeats more: in
    /// that time a neighbour that does not learn of the change would disconnect us in any case.
    pub(super) fn change(&mut self, heartbeat: Duration, now: Duration) {
        self.shortest = self.shortest.min(heartbeat);
        self.longest = self.longest.max(heartbeat);
        self.next = Some((heartbeat, now + self.silence()));
    }

    /// The maximal time between two MARKs.
    pub(super) fn interval(&self) -> Duration {
        self.shortest
    }

    /// How long a neighbour may be silent.
    pub(super) fn silence(&self) -> Duration {
        3 * self.longest
    }

    /// When [`Heartbeat::settle`] must be called.
    pub(super) fn settles_at(&self) -> Option<Duration> {
        self.next.map(|(_, at)| at)
    }

    /// From some time after a change on, only the configured heartbeat counts.
    pub(super) fn settle(&mut self, now: Duration) {
        if let Some((heartbeat, at)) = self.next
            && at <= now
        {
            *self = Heartbeat::new(heartbeat);
        }
    }
}
