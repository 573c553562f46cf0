//! Spare memory for connections: a buffer is lent to one only while there are bytes in it, so
//! ten thousand idle connections hold none, and busy ones allocate nothing.

use super::limits::{SPARE_BUFFER_BYTES, SPARE_BUFFERS};

/// Buffers that are not in use.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: Vec<Vec<u8>>,
    held: usize,
}

impl Buffers {
    /// An empty buffer.
    pub fn lend(&mut self) -> Vec<u8> {
        match self.spare.pop() {
            Some(memory) => {
                self.held -= memory.capacity();
                memory
            }
            None => Vec::with_capacity(SMALLEST_BYTES),
        }
    }

    /// Takes a buffer back. One that has grown large is freed, so that a single large answer does not hold
    /// its memory indefinitely.
    pub fn reclaim(&mut self, mut memory: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && memory.capacity() <= SPARE_BUFFER_BYTES {
            memory.clear();
            self.held += memory.capacity();
            self.spare.push(memory);
        }
    }

    /// Memory that is not in use.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Frees it.
    pub fn clear(&mut self) {
        *self = Buffers::default();
    }
}

/// The size of a new buffer: most answers fit.
const SMALLEST_BYTES: usize = 512;
