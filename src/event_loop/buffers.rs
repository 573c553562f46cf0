//! Spare memory for connections: a buffer is lent to one only while there are bytes in it, so
//! ten thousand idle connections hold none, and busy ones allocate nothing.

use super::limits::{SPARE_BUFFER_BYTES, SPARE_BUFFERS};

/// Buffers that nobody uses at the moment.
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

    /// Takes a buffer back. One that has grown large is freed: a single great answer should not
    /// hold its memory forever.
    pub fn reclaim(&mut self, mut memory: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && memory.capacity() <= SPARE_BUFFER_BYTES {
            memory.clear();
            self.held += memory.capacity();
            self.spare.push(memory);
        }
    }

    /// Memory that nobody uses at the moment.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Frees it.
    pub fn clear(&mut self) {
        *self = Buffers::default();
    }
}

/// What a new buffer has room for: most answers.
const SMALLEST_BYTES: usize = 512;
