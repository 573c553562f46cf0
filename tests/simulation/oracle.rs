//! What must hold, said a second time and independently of the server: the order of updates, and what
//! each server may hold and say.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use herd_mio::herd::{Applied, Event, NeighbourId, Observer};
use herd_mio::protocol::UpdateRef;

/// An update as the protocol (section 5) orders those of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    nanos: i128,
    location: Vec<u8>,
    skew: i128,
    server: Vec<u8>,
    timestamp: Vec<u8>,
}

impl Fact {
    /// What a client says to a server at a time (nanoseconds) of that server's clock.
    pub fn by_client(text: &str, server: &str, wall: i128) -> Fact {
        let mut fields = text.split(' ').skip(1);
        let mut next = || fields.next().unwrap_or_default().as_bytes().to_vec();
        let (location, timestamp) = (next(), next());
        let nanos = nanos(&timestamp);
        Fact { nanos, location, skew: wall - nanos, server: server.as_bytes().to_vec(), timestamp }
    }

    /// Whether its time was further ahead of its server's clock than so many milliseconds.
    pub fn is_ahead_by_more_than(&self, millis: u64) -> bool {
        -self.skew > i128::from(millis) * 1_000_000
    }

    /// The first half of its age key: the lesser of its timestamp and the time it was sent.
    pub fn age(&self) -> i128 {
        self.nanos.min(self.nanos + self.skew)
    }

    /// Whether it is this update, to the letter.
    pub fn is(&self, update: &UpdateRef<'_>) -> bool {
        (&self.location[..], self.skew) == (update.location, update.skew.0)
            && (&self.server[..], &self.timestamp[..]) == (update.server, update.timestamp.text)
    }

    pub fn of(update: &UpdateRef<'_>) -> Fact {
        Fact {
            nanos: nanos(update.timestamp.text),
            location: update.location.to_vec(),
            skew: update.skew.0,
            server: update.server.to_vec(),
            timestamp: update.timestamp.text.to_vec(),
        }
    }
}

/// Nanoseconds of a decimal timestamp; what is behind the ninth decimal is cut.
fn nanos(text: &[u8]) -> i128 {
    let text = std::str::from_utf8(text).expect("digits");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{:0<9}", &fraction[..fraction.len().min(9)]);
    digits.parse().expect("digits")
}

impl Ord for Fact {
    fn cmp(&self, other: &Fact) -> Ordering {
        self.nanos
            .cmp(&other.nanos)
            .then_with(|| self.location.cmp(&other.location))
            .then_with(|| other.skew.cmp(&self.skew)) // the first one wins
            .then_with(|| self.server.cmp(&other.server))
            .then_with(|| self.timestamp.cmp(&other.timestamp))
    }
}

impl PartialOrd for Fact {
    fn partial_cmp(&self, other: &Fact) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Who sent a server an entry: a server and its run.
pub type Source = Option<(usize, u64)>;

/// An age key: the age, then the id.
pub type AgeKey = (i128, Vec<u8>);

/// What one run of a server must hold, computed from what it received.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    pub table: HashMap<Vec<u8>, (Fact, Source)>,
    /// Clients that the table holds.
    pub bound: usize,
    /// What is not above it is not held.
    pub floor: Option<AgeKey>,
    /// Of each client that a full table dropped, the newest that it had.
    pub dropped: HashMap<Vec<u8>, Fact>,
    pub wrong: Option<String>,
    /// Whether a link begins with all that is known.
    pub refills: bool,
    /// The server that sends now.
    pub source: Source,
    pub is_in_sync: bool,
    /// Updates that went out to neighbours.
    pub sent: u64,
    /// Links that were lost, and neighbours that were disconnected for their silence.
    pub links_lost: u64,
    /// Why the last one was.
    pub reason: &'static str,
    /// Neighbours that have sent a MARK.
    pub marked: BTreeSet<u16>,
}

impl Observer for Shadow {
    fn record(&mut self, event: Event<'_>) {
        match event {
            Event::Applied { update, applied, .. } => self.applied(update, applied),
            Event::Sending { .. } => self.sent += 1,
            Event::InSync => self.is_in_sync = true,
            Event::CatchUpReceived { neighbour, .. } => drop(self.marked.insert(neighbour.0)),
            Event::PeerTimedOut { .. } => self.links_lost += 1,
            Event::LinkDown { reason, .. } => {
                self.links_lost += 1;
                self.reason = reason;
            }
            Event::LinkUp { behind, .. } if !self.refills && behind > 0 => {
                self.fail(format!("sends {behind} changes that were before the link"));
            }
            Event::AnswerRejected { line, neighbour } => {
                self.fail(format!("{neighbour:?} answered {}", line.escape_ascii()));
            }
            Event::PeerRejected { reason, line } => {
                self.fail(format!("refused for {reason}: {}", line.escape_ascii()));
            }
            Event::UpdateSkipped { line, error, .. } => {
                self.fail(format!("skipped for {error:?}: {}", line.escape_ascii()));
            }
            Event::WrongName { neighbour: NeighbourId(number), .. } => {
                self.fail(format!("neighbour {number} has another name"));
            }
            _ => {}
        }
    }
}

impl Shadow {
    /// Says again what becomes of an update (section 5): a full table makes room for a newcomer by its
    /// tenth with the least age keys, and nothing up to the last of these is held from then on.
    pub fn applied(&mut self, update: &UpdateRef<'_>, applied: Applied) {
        let fact = Fact::of(update);
        let key = (fact.age(), update.id.to_vec());
        let known = self.table.get(update.id);
        let right = if self.floor.as_ref().is_some_and(|floor| key <= *floor) {
            "below the floor"
        } else if known.is_some_and(|(known, _)| *known >= fact) {
            "stale"
        } else if known.is_none() && self.table.len() == self.bound && !self.make_room(&key) {
            self.drop_one(update.id, fact.clone());
            "below the floor"
        } else {
            self.table.insert(update.id.to_vec(), (fact.clone(), self.source));
            "stored"
        };
        let said = match applied {
            Applied::Stored(_) => "stored",
            Applied::Stale => "stale",
            Applied::BelowFloor => "below the floor",
            Applied::NoRoom => "no room",
        };
        if said != right {
            self.fail(format!("{fact:?} is {right}, and was taken for {said}"));
        }
    }

    /// Whether the newcomer is not one of those that go.
    fn make_room(&mut self, newcomer: &AgeKey) -> bool {
        let keys = self.table.iter().map(|(id, (fact, _))| (fact.age(), id.clone()));
        let mut keys: Vec<AgeKey> = keys.chain([newcomer.clone()]).collect();
        keys.sort_unstable();
        keys.truncate(self.bound.div_ceil(10));
        for (_, id) in &keys {
            if let Some((fact, _)) = self.table.remove(id) {
                self.drop_one(id, fact);
            }
        }
        self.floor = keys.last().cloned();
        self.floor.as_ref().is_some_and(|floor| floor < newcomer)
    }

    fn drop_one(&mut self, id: &[u8], fact: Fact) {
        let newest = self.dropped.entry(id.to_vec()).or_insert_with(|| fact.clone());
        if *newest < fact {
            *newest = fact;
        }
    }

    /// Whether it holds that, or what is newer.
    pub fn knows(&self, id: &[u8], fact: &Fact) -> bool {
        self.table.get(id).is_some_and(|(known, _)| known >= fact)
    }

    /// Whether it has no place for that: it lies below the floor, or what is newer did when it was dropped.
    pub fn has_no_place_for(&self, id: &[u8], fact: &Fact) -> bool {
        self.dropped.get(id).is_some_and(|it| it >= fact)
            || self.floor.as_ref().is_some_and(|floor| (fact.age(), id) <= (floor.0, &floor.1))
    }

    pub fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}

/// What a server's table holds.
pub fn contents<'a>(
    entries: impl Iterator<Item = UpdateRef<'a>>,
) -> std::collections::BTreeMap<Vec<u8>, Fact> {
    entries.map(|update| (update.id.to_vec(), Fact::of(&update))).collect()
}
