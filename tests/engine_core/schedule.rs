//! What happens in a run, from its seed: so that it can be made smaller.

use std::fmt;

use crate::faults::{Fault, Rates};
use crate::random::Random;
use crate::world::Event;

#[derive(Clone, Debug)]
pub struct Schedule {
    pub seed: u64,
    pub members: usize,
    /// Whether members make a bucket that is missing.
    pub create: bool,
    pub rates: Rates,
    /// The number of clients.
    pub clients: usize,
    /// For each member how many clients it caches; None if it keeps all.
    pub caches: Vec<Option<usize>>,
    /// By how many milliseconds a copy of the bucket may lag.
    pub copy_lag: usize,
    /// Sorted by the time.
    pub events: Vec<(u64, Event)>,
    pub faults_end: u64,
}

impl Schedule {
    pub fn from_seed(seed: u64) -> Schedule {
        let mut random = Random::new(seed ^ 0x5eed);
        let members = random.between(1, 4);
        let clients = random.between(1, 8);
        let length = random.between(5, 90) as u64 * 1_000;
        let mut events = Vec::new();
        // Some tell often, some now and then.
        let pause = [20, 100, 500, 3_000][random.below(4)];
        let mut at = 0;
        while at < length {
            at += random.between(1, 2 * pause) as u64;
            let (member, client) = (random.below(members), random.below(clients));
            events.push((at, Event::Tell { member, client }));
        }
        for _ in 0..random.below(9) {
            let mut at = random.below(length as usize) as u64;
            let mut fault = any_fault(&mut random, members, clients);
            // What an operator does to a client matters most while an update of it is on its way.
            let tells = events.iter().filter_map(|(at, event)| match event {
                Event::Tell { client, .. } => Some((*at, *client)),
                _ => None,
            });
            let told: Vec<_> = tells.collect();
            if random.percent(60) && !told.is_empty() {
                let (told_at, client) = told[random.below(told.len())];
                let soon = told_at + random.between(1, 1_500) as u64;
                match &mut fault {
                    Fault::PutOld(of) | Fault::PutGarbage(of) | Fault::DeleteClient(of) => {
                        (at, *of) = (soon, client);
                    }
                    _ => {}
                }
            }
            events.push((at, Event::Fault(fault)));
        }
        let rates = match random.below(3) {
            0 => Rates::default(),
            _ => Rates {
                lost_acks: random.below(2) * random.below(30),
                slow_acks: random.below(2) * random.below(3_000),
                late: random.below(2) * random.below(20),
                deaf: random.below(2) * random.below(30),
                gaps: random.below(2) * random.below(10),
            },
        };
        let create = random.percent(80);
        // By numbers of their own, so that a schedule without caches stays what it was before there were any.
        let random = &mut Random::new(seed ^ 0xcac4e);
        let mut caches = vec![None; members];
        let mut copy_lag = 0;
        if random.percent(60) {
            let bound = [1, 2, 3, 3, 5, 1_000][random.below(6)];
            let some = random.percent(50);
            for cache in &mut caches {
                *cache = Some(bound).filter(|_| !some || random.percent(60));
            }
            copy_lag = random.below(2) * random.below(20_000);
            add_questions(random, &caches, clients, length, &mut events);
        }
        events.sort_by_key(|(at, _)| *at);
        let faults_end = length + 30_000;
        Schedule { seed, members, create, rates, clients, caches, copy_lag, events, faults_end }
    }
}

/// Clients ask for others.
fn add_questions(
    random: &mut Random,
    caches: &[Option<usize>],
    clients: usize,
    length: u64,
    events: &mut Vec<(u64, Event)>,
) {
    let pause = [20, 100, 500, 3_000][random.below(4)];
    let mut at = 0;
    while at < length {
        at += random.between(1, 2 * pause) as u64;
        let (member, client) = (random.below(caches.len()), random.below(clients));
        events.push((at, Event::Ask { member, client }));
        if random.percent(20) {
            // And some who tell something want to know it at once, or soon after others have driven it out.
            let soon = at + random.below(400) as u64;
            events.push((at, Event::Tell { member, client }));
            events.push((soon, Event::Ask { member, client }));
        }
    }
}

fn any_fault(random: &mut Random, members: usize, clients: usize) -> Fault {
    let (member, client) = (random.below(members), random.below(clients));
    let long = random.between(100, 20_000) as u64;
    match random.below(17) {
        0 | 1 => Fault::Election(random.between(100, 9_000) as u64),
        2 => Fault::StaleLeader(random.between(100, 5_000) as u64),
        3 => Fault::Delete,
        4 => Fault::Backup,
        5 => Fault::Restore { same_time: random.percent(60) },
        6 => Fault::Lose(random.between(1, 5)),
        7 => Fault::LoseConsumer(random.below(members)),
        8 => Fault::KillConsumer(random.below(members)),
        9 | 10 => Fault::Close(member),
        11 | 12 => Fault::Cut(member, long),
        13 => Fault::Crash(member, long),
        14 => Fault::PutOld(client),
        15 => Fault::PutGarbage(client),
        _ => Fault::DeleteClient(client),
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { seed, members, create, rates, caches, copy_lag, events, faults_end, .. } =
            self;
        writeln!(
            f,
            "seed {seed}: {members} members, caches {caches:?}, copies lag {copy_lag} ms, create {create}, {rates:?}, until {faults_end} ms"
        )?;
        for (at, event) in events {
            writeln!(f, "  {at:>6} {event:?}")?;
        }
        Ok(())
    }
}
