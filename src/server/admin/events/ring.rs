//! The latest events, for all streams: each stream has a cursor, so one that reads slowly holds nothing of its own.

use std::collections::VecDeque;

use crate::limits::EVENT_RING_BYTES;

/// The latest events, each as a stream gets it, up to [`EVENT_RING_BYTES`].
#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<Vec<u8>>,
    /// The number of the oldest one.
    first: u64,
    bytes: usize,
}

impl Ring {
    /// The number that the next event will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Bytes of all events.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, event: Vec<u8>) {
        self.bytes += event.len();
        self.events.push_back(event);
        while self.bytes > EVENT_RING_BYTES
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.len();
            self.first += 1;
        }
    }

    /// Drops all events, as if one had been lost: every stream is behind.
    pub(super) fn skip(&mut self) {
        self.first = self.end() + 1;
        self.events.clear();
        self.bytes = 0;
    }

    /// The events from a number on; None if some of them are dropped already.
    pub(super) fn from(&self, next: u64) -> Option<impl Iterator<Item = &[u8]>> {
        let place = usize::try_from(next.checked_sub(self.first)?).ok()?;
        Some(self.events.range(place.min(self.events.len())..).map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_gets_every_event_or_learns_that_it_is_behind() {
        let mut ring = Ring::default();
        let all = |ring: &Ring, next| ring.from(next).map(|events| events.count());
        assert_eq!((ring.end(), all(&ring, 0)), (0, Some(0)));
        ring.push(b"one".to_vec());
        ring.push(b"two".to_vec());
        assert_eq!((all(&ring, 0), all(&ring, 1), all(&ring, 2)), (Some(2), Some(1), Some(0)));
        let before = ring.end();
        ring.push(vec![0; EVENT_RING_BYTES - 4]);
        assert_eq!((all(&ring, 0), all(&ring, 1), all(&ring, before)), (None, Some(2), Some(1)));
        assert_eq!(ring.bytes(), EVENT_RING_BYTES - 1);
        ring.push(vec![0; EVENT_RING_BYTES + 1]);
        assert_eq!((ring.bytes(), all(&ring, before)), (0, None), "one that is too large is lost");
        assert_eq!(all(&ring, ring.end()), Some(0));
        let before = ring.end();
        ring.skip();
        assert_eq!((all(&ring, before), all(&ring, ring.end())), (None, Some(0)));
    }
}
