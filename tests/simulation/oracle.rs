//! What must hold, said a second time and independently of the server: the order of updates, and what
//! each server may hold and say.

use std::cmp::Ordering;
use std::collections::HashMap;

use herd_mio::herd::{Event, NeighbourId, Offer, Witness};
use herd_mio::protocol::UpdateRef;

/// An update as the protocol (section 5) orders those of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    nanos: i128,
    location: Vec<u8>,
    skew: i128,
    server: Vec<u8>,
    timestamp: Vec<u8>,
}

impl Told {
    /// What a client says to a server at a time (nanoseconds) of that server's clock.
    pub fn by_client(text: &str, server: &str, wall: i128) -> Told {
        let mut fields = text.split(' ').skip(1);
        let mut next = || fields.next().unwrap_or_default().as_bytes().to_vec();
        let (location, timestamp) = (next(), next());
        let nanos = nanos(&timestamp);
        Told { nanos, location, skew: wall - nanos, server: server.as_bytes().to_vec(), timestamp }
    }

    /// Whether its time was further ahead of its server's clock than so many milliseconds.
    pub fn is_ahead_by_more_than(&self, millis: u64) -> bool {
        -self.skew > i128::from(millis) * 1_000_000
    }

    /// Whether it is this update, to the letter.
    pub fn is(&self, update: &UpdateRef<'_>) -> bool {
        (&self.location[..], self.skew) == (update.location, update.skew.0)
            && (&self.server[..], &self.timestamp[..]) == (update.server, update.timestamp.text)
    }

    pub fn of(update: &UpdateRef<'_>) -> Told {
        Told {
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

impl Ord for Told {
    fn cmp(&self, other: &Told) -> Ordering {
        self.nanos
            .cmp(&other.nanos)
            .then_with(|| self.location.cmp(&other.location))
            .then_with(|| other.skew.cmp(&self.skew)) // told first wins
            .then_with(|| self.server.cmp(&other.server))
            .then_with(|| self.timestamp.cmp(&other.timestamp))
    }
}

impl PartialOrd for Told {
    fn partial_cmp(&self, other: &Told) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Who told a server an entry: a server and its run.
pub type Source = Option<(usize, u64)>;

/// What one run of a server holds, by what it said of each step.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    pub table: HashMap<Vec<u8>, (Told, Source)>,
    pub wrong: Option<String>,
    /// Whether the table drops nothing, so that what it holds is known exactly.
    pub is_exact: bool,
    /// Who tells at the moment.
    pub source: Source,
    pub is_filled: bool,
    /// Updates that went out to neighbours.
    pub sent: u64,
}

impl Witness for Shadow {
    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Offered { update, offer } => self.offered(&update, offer),
            Event::Sending { .. } => self.sent += 1,
            Event::Filled => self.is_filled = true,
            Event::AnswerRefused { line, neighbour } => {
                self.fail(format!("{neighbour:?} answered {}", line.escape_ascii()));
            }
            Event::CallerRefused { reason, line } => {
                self.fail(format!("refused for {reason}: {}", line.escape_ascii()));
            }
            Event::Skipped { line, error, .. } => {
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
    fn offered(&mut self, update: &UpdateRef<'_>, offer: Offer) {
        let told = Told::of(update);
        let known = self.table.get(update.id);
        let is_newer = known.is_none_or(|(known, _)| *known < told);
        match offer {
            Offer::Stored(_) if !is_newer && self.is_exact => {
                self.fail(format!("{told:?} replaced the newer {known:?}"));
            }
            Offer::Stale if is_newer && self.is_exact => {
                self.fail(format!("{told:?} is newer than {known:?}"))
            }
            Offer::Stored(_) => {
                self.table.insert(update.id.to_vec(), (told, self.source));
            }
            Offer::Stale | Offer::BelowFloor => {}
        }
    }

    pub fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}

/// What a server's table holds.
pub fn contents<'a>(
    entries: impl Iterator<Item = UpdateRef<'a>>,
) -> std::collections::BTreeMap<Vec<u8>, Told> {
    entries.map(|update| (update.id.to_vec(), Told::of(&update))).collect()
}
