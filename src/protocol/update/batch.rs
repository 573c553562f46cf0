//! Updates for another thread of this process: what one loop has read and checked, the other need not read and check
//! again. A batch has one piece of memory for all texts and one for all values, which are used again and again.
//!
//! ```text
//!   texts    a +1+2 3 A +0.500000000 LF b +1+2 ...
//!   places   ends at 24; the lengths of its fields; its timestamp and skew as numbers
//! ```

use super::super::time::Skew;
use super::{BEGIN, Copied, Update, UpdateRef, view};

/// Updates in their order, each with its text: the UPDATELOC line behind its first word, with its LF.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    texts: Vec<u8>,
    places: Vec<Place>,
}

/// Where an update is, and its numbers.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where its text ends among all.
    end: usize,
    /// The lengths of the first four fields; of the id one less.
    lengths: [u8; 4],
    nanos: i128,
    skew: Skew,
}

impl Batch {
    /// Appends a copy of an update.
    pub fn push(&mut self, update: &Update) {
        self.texts.extend_from_slice(&update.text);
        self.places.push(Place {
            end: self.texts.len(),
            lengths: update.lengths,
            nanos: update.nanos(),
            skew: update.skew(),
        });
    }

    /// Its updates, each with its text.
    pub fn iter(&self) -> impl Iterator<Item = (UpdateRef<'_>, Copied<'_>)> {
        let mut begin = 0;
        self.places.iter().map(move |place| {
            let text = &self.texts[begin..place.end];
            begin = place.end;
            (
                view(text, place.lengths, place.nanos, place.skew),
                Copied::of(&text[..text.len() - 1]),
            )
        })
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = 0;
        self.places.iter().map(move |place| {
            let id = &self.texts[begin..begin + usize::from(place.lengths[0]) + 1];
            begin = place.end;
            id
        })
    }

    /// How many updates it has.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How long their lines are together.
    pub fn bytes(&self) -> usize {
        self.texts.len() + BEGIN.len() * self.len()
    }

    /// Removes all updates, and keeps the memory.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.places.clear();
    }
}
