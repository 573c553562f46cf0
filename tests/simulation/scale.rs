//! How far a flood carries: herds of four sizes in three shapes, without a fault. What it takes until an
//! update is everywhere, and what it costs each server.

use crate::random::Random;
use crate::schedule::{Event, Schedule};
use crate::world::{World, Wrong};

/// Updates sent one after the other, each to another server.
const UPDATES: usize = 20;
/// Clients that send at one time.
const CROWD: usize = 1_000;
/// Longest time that bytes are under way, in milliseconds. The shortest is 0; the mean is half of it.
pub const DELAY: u64 = 20;
pub const HEARTBEAT: u64 = 5_000;

pub type Edges = Vec<(usize, usize)>;

pub fn shapes(servers: usize) -> [(&'static str, Edges); 3] {
    let ring = (0..servers).map(|it| (it, (it + 1) % servers)).collect();
    let tree = (1..servers).map(|it| ((it - 1) / 2, it)).collect();
    [("ring", ring), ("binary tree", tree), ("random, degree 4", random_regular(servers))]
}

/// Two rings through all, each in an order of its own: each server has four neighbours, a few three.
fn random_regular(servers: usize) -> Edges {
    let mut random = Random::new(servers as u64);
    let mut edges = Edges::new();
    for _ in 0..2 {
        let mut order: Vec<usize> = (0..servers).collect();
        for place in (1..servers).rev() {
            order.swap(place, random.below(place + 1));
        }
        let pairs = order.iter().zip(order.iter().cycle().skip(1));
        edges.extend(pairs.map(|(&one, &other)| (one.min(other), one.max(other))));
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// What a flood costs one herd.
pub struct Cost {
    /// The longest way from one server to another, in links.
    pub hops: usize,
    /// Until an update that one server received is at all: milliseconds, for each update.
    pub times: Vec<u64>,
    /// UPDATELOCs for each update, all servers together.
    pub copies: f64,
    /// UPDATELOCs for each of a thousand updates that one server received at once.
    pub crowd_copies: f64,
    /// Bytes that go out for each update, all servers together.
    pub bytes: f64,
    /// Bytes sent per second while there are no updates.
    pub idle_bytes: f64,
}

pub fn measure(servers: usize, edges: Edges) -> Result<Cost, Wrong> {
    let hops = hops(servers, &edges);
    let schedule = Schedule::quiet(servers, edges, DELAY, HEARTBEAT, CROWD + UPDATES);
    let mut world = World::new(&schedule);
    world.begin()?;
    world.run_until(10 * HEARTBEAT)?;
    let quiet = world.network.bytes_sent;
    world.run_until(world.now + 10 * HEARTBEAT)?;
    let idle_bytes_a_ms = (world.network.bytes_sent - quiet) as f64 / (10 * HEARTBEAT) as f64;
    let (bytes, copies, begin) = (world.network.bytes_sent, world.updates_sent(), world.now);
    let mut random = Random::new(7);
    let mut times = Vec::new();
    for update in 0..UPDATES {
        times.push(spread(
            &mut world,
            random.below(servers),
            &format!("kiwi{update}.cs.ucla.edu"),
        )?);
    }
    let idle_bytes = idle_bytes_a_ms * (world.now - begin) as f64;
    let bytes = (world.network.bytes_sent - bytes) as f64 - idle_bytes;
    let single = world.updates_sent() - copies;
    world.script(&Event::Crowd { server: 0, clients: CROWD })?;
    world.run_until(world.now + (hops as u64 + 10) * DELAY * 4)?;
    if world.servers.iter().any(|server| server.herd.table().len() != CROWD + UPDATES) {
        return Err("the crowd is not known everywhere".to_owned());
    }
    let crowd = world.updates_sent() - copies - single;
    Ok(Cost {
        hops,
        times,
        copies: single as f64 / UPDATES as f64,
        crowd_copies: crowd as f64 / CROWD as f64,
        bytes: bytes / UPDATES as f64,
        idle_bytes: idle_bytes_a_ms * 1_000.0,
    })
}

/// Sends an update to one server, and returns after how many milliseconds all have it.
fn spread(world: &mut World<'_>, at: usize, id: &str) -> Result<u64, Wrong> {
    let begin = world.now;
    let text = format!("{id} +34.068930-118.445127 1000.5");
    world.script(&Event::Tell { server: at, text })?;
    let mut missing: Vec<usize> = (0..world.servers.len()).collect();
    while !missing.is_empty() {
        world.run_until(world.now + 1)?;
        missing.retain(|&server| world.servers[server].herd.table().get(id.as_bytes()).is_none());
        if world.now > begin + 1_000_000 {
            return Err(format!("{} servers don't receive it", missing.len()));
        }
    }
    let took = world.now - begin;
    // What is still under way is part of its cost.
    world.run_until(world.now + 10 * DELAY)?;
    Ok(took)
}

/// The longest way from one server to another.
fn hops(servers: usize, edges: &Edges) -> usize {
    let mut neighbours = vec![Vec::new(); servers];
    for &(one, other) in edges {
        neighbours[one].push(other);
        neighbours[other].push(one);
    }
    let farthest = |from: usize| {
        let mut far = vec![usize::MAX; servers];
        far[from] = 0;
        let mut queue = std::collections::VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            for &next in &neighbours[at] {
                if far[next] == usize::MAX {
                    far[next] = far[at] + 1;
                    queue.push_back(next);
                }
            }
        }
        far.into_iter().max().unwrap_or(0)
    };
    (0..servers).map(farthest).max().unwrap_or(0)
}
