//! Claim: whatever a network and its machines do to a herd, afterwards all tables are equal, and equal to the
//! newest of what survived; and on the way no rule of `judge.rs` and `watch.rs` is ever broken.
//!
//! The herd's core, exactly as the server runs it, over a virtual network and clock; all from a seed.
//! `just simulate` runs as many schedules as there is time for.

mod disk;
mod faults;
mod held;
mod judge;
mod network;
mod oracle;
mod random;
mod runs;
mod scale;
mod schedule;
mod tell;
mod watch;
mod world;

use runs::{check, shrunk};
use schedule::Schedule;

#[test]
fn every_schedule_ends_with_equal_tables() {
    let half = |first: u64| {
        for seed in (first..SCHEDULES).step_by(2) {
            if let Err(wrong) = check(&Schedule::from_seed(seed, None)) {
                let smallest = shrunk(Schedule::from_seed(seed, None));
                panic!("{wrong}\n\nsmallest schedule that fails, of {smallest}");
            }
        }
    };
    std::thread::scope(|scope| [0, 1].map(|first| scope.spawn(move || half(first))).map(drop));
}

/// Here a batch of 64 KiB ends just before the feed does, with a record that was swept since.
#[test]
fn a_mark_that_ends_a_batch_says_all_if_only_what_was_swept_is_behind_it() {
    let schedule = Schedule::from_seed(69_731, None);
    assert_eq!(check(&schedule).err(), None, "{schedule}");
}

#[test]
fn larger_herds_end_with_equal_tables() {
    for seed in 0..5 {
        let schedule = Schedule::from_seed(seed, Some(20));
        assert_eq!(check(&schedule).err(), None, "{schedule}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..50 {
        let schedule = Schedule::from_seed(seed, None);
        assert_eq!(check(&schedule), check(&schedule), "seed {seed}");
    }
}

#[test]
fn an_update_crosses_each_link_once_and_comes_back_by_none() {
    for (shape, edges) in scale::shapes(20) {
        let (servers, links) = (20, edges.len());
        let cost = scale::measure(servers, edges).expect(shape);
        // By a tree each server but one receives it. Another link is crossed once, or from both sides
        // while the update is on its way.
        let (least, most) = (servers - 1, 2 * links - (servers - 1));
        for copies in [cost.copies, cost.crowd_copies] {
            assert!(copies >= least as f64, "{shape}: {copies} copies reach {servers} servers");
            assert!(copies <= most as f64, "{shape}: {copies} copies over {links} links");
        }
        assert!(cost.bytes >= 60.0 * cost.copies, "{shape}: {} bytes", cost.bytes);
        let longest = cost.times.iter().max().copied().unwrap_or(0);
        assert!(longest <= cost.hops as u64 * scale::DELAY + 1, "{shape}: {longest} ms");
        // Without updates each link sends MARK and ACK once per heartbeat.
        let beats = 2.0 * links as f64 * 1_000.0 / scale::HEARTBEAT as f64;
        let said = beats * "MARK 20\nACK 20\n".len() as f64;
        assert!(cost.idle_bytes <= said, "{shape}: {} bytes a second, idle", cost.idle_bytes);
    }
}

/// Schedules in `cargo test`.
const SCHEDULES: u64 = 2_000;
