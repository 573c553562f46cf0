//! What this machine takes for memory: some virtual machines get theirs from the host page by page, and then a log that
//! grows, and a table that does, cost several times as much as elsewhere.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use crate::Failure;
use crate::figures::Figures;
use crate::options::Options;
use crate::peers::{Peer, Workshop};

pub fn measure(
    workshop: &Workshop,
    _: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    for _ in 0..options.rounds {
        let begin = Instant::now();
        let mut memory = vec![0; PAGES * PAGE];
        memory.iter_mut().step_by(PAGE).for_each(|byte| *black_box(byte) = 1);
        figures.add("machine/touch", micros_a_page(begin));
        drop(memory);
        let mut file = File::create(workshop.scratch.path().join("appended"))?;
        let chunk = vec![b'x'; 16 * PAGE];
        let begin = Instant::now();
        for _ in 0..PAGES / 16 {
            file.write_all(&chunk)?;
        }
        figures.add("machine/append", micros_a_page(begin));
        file.set_len(0)?;
    }
    Ok(())
}

fn micros_a_page(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e6 / PAGES as f64
}

pub const PAGE: usize = 4_096;
/// 64 MiB.
const PAGES: usize = 16_384;
