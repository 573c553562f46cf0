//! Claim: what must hold for any bytes (`checks.rs`) holds for every kept input, and for some thousands
//! of variations. The fuzzer itself is run by `just fuzz`.

mod checks;
#[path = "../common/random.rs"]
mod random;

use std::path::{Path, PathBuf};

use random::next;

/// The inputs of a target: those that were written by hand, and those that the fuzzer has found.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("an input"))).collect()
}

/// A few bytes changed, left out, doubled, or taken from another input.
fn mutate(input: &[u8], other: &[u8], state: &mut u64) -> Vec<u8> {
    let mut made = input.to_vec();
    for _ in 0..=next(state) % 4 {
        let at = next(state) % (made.len() + 1);
        let end = (at + next(state) % 8).min(made.len());
        match next(state) % 5 {
            0 if at < made.len() => made[at] = next(state) as u8,
            1 => drop(made.drain(at..end)),
            2 => {
                let doubled = made[at..end].to_vec();
                made.splice(at..at, doubled);
            }
            3 => made.truncate(at),
            _ => {
                let from = next(state) % (other.len() + 1);
                let to = (from + next(state) % 64).min(other.len());
                made.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    made
}

#[test]
fn every_kept_input_and_what_is_made_of_it_passes() {
    for (target, check) in checks::ALL {
        let inputs = inputs(target);
        assert!(inputs.len() >= 5, "{target} has {} inputs", inputs.len());
        for (path, input) in &inputs {
            let outcome = std::panic::catch_unwind(|| check(input));
            assert!(outcome.is_ok(), "{target} fails for {}", path.display());
        }
        let mut state = 0x9E37_79B9_7F4A_7C15;
        for round in 0..MADE {
            let one = &inputs[next(&mut state) % inputs.len()].1;
            let other = &inputs[next(&mut state) % inputs.len()].1;
            let made = mutate(one, other, &mut state);
            let outcome = std::panic::catch_unwind(|| check(&made));
            assert!(outcome.is_ok(), "{target} fails in round {round} for {}", made.escape_ascii());
        }
    }
}

/// Inputs made for each target.
const MADE: usize = 2_000;
