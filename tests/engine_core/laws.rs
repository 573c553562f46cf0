//! What must hold, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use herd_mio::protocol::{FromDialler, UpdateRef};

/// The laws, and what they have seen.
#[derive(Default)]
pub struct Laws {
    pub wrong: Option<String>,
    /// The newest update of each client that ever was in the bucket.
    ever: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The newest answered update of each client that is still somewhere.
    pub answered: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Clients that an operator has deleted.
    pub deleted: BTreeSet<Vec<u8>>,
    pub answers: u64,
}

/// The update of a line.
pub fn update(line: &[u8]) -> Option<UpdateRef<'_>> {
    match FromDialler::parse(line.strip_suffix(b"\n").unwrap_or(line)) {
        Ok(FromDialler::Update(update)) => Some(update),
        _ => None,
    }
}

/// Whether the first line is as new as the second one, which may be no update.
pub fn newer_or_equal(line: &[u8], other: &[u8]) -> bool {
    match (update(line), update(other)) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(line), Some(other)) => line.newness(&other).is_ge(),
    }
}

impl Laws {
    pub fn wrong(&mut self, text: String) {
        self.wrong.get_or_insert(text);
    }

    pub fn committed(&mut self, line: &[u8]) {
        let Some(update) = update(line) else { return };
        keep_newest(&mut self.ever, update.id, line);
    }

    /// An answer was given: its update, or a newer one, was in the bucket.
    pub fn answered(&mut self, line: &[u8]) {
        self.answers += 1;
        let Some(update) = update(line) else { return };
        let has_been = self.ever.get(update.id).is_some_and(|ever| newer_or_equal(ever, line));
        if !has_been && !self.deleted.contains(update.id) {
            let line = String::from_utf8_lossy(line).into_owned();
            self.wrong(format!("answered, and never in the bucket: {line}"));
        }
        keep_newest(&mut self.answered, update.id, line);
    }
}

/// Keeps the newest line of each client.
pub fn keep_newest(all: &mut BTreeMap<Vec<u8>, Vec<u8>>, id: &[u8], line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    match all.get_mut(id) {
        Some(known) if newer_or_equal(known, line) => {}
        _ => {
            all.insert(id.to_vec(), line.to_vec());
        }
    }
}
