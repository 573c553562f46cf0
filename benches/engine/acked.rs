//! Updates that are acknowledged, by a bare client and by members: how many a second, and what they cost each process.
//!
//! On a machine with few cores the load, the server and NATS share them, so the greatest rate of one that has clients of its
//! own is bounded by what all three need for an update. The CPU time of each tells how far that bound is reached, and is
//! what a busy machine can still tell.

use std::path::Path;
use std::time::Duration;

use crate::bare::{Bare, Publish};
use crate::cores::cpu_time;
use crate::load::Load;
use crate::many::Many;
use crate::servers::{Nats, Server};
use crate::{Failure, Options, median, row};

/// One way to have updates acknowledged.
struct Way {
    title: &'static str,
    seen: Vec<Seen>,
}

/// What is seen of one in one round.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Updates a second.
    pub rate: f64,
    /// CPU time of the load, the server and NATS for an update, in microseconds.
    pub cpu: [f64; 3],
}

/// The processes that take part.
pub struct Processes<'a> {
    pub nats: &'a Nats,
}

impl Processes<'_> {
    fn cpu(&self, server: Option<u32>) -> [Duration; 3] {
        let nats = self.nats.ids().map(cpu_time).sum();
        [cpu_time(std::process::id()), server.map_or(Duration::ZERO, cpu_time), nats]
    }

    /// What was seen while `work` had so many updates acknowledged, in that time.
    pub fn watch(
        &self,
        server: Option<u32>,
        work: impl FnOnce() -> Result<(usize, Duration), Failure>,
    ) -> Result<Seen, Failure> {
        let before = self.cpu(server);
        let (count, took) = work()?;
        let after = self.cpu(server);
        let each = |at: usize| (after[at] - before[at]).as_secs_f64() * 1e6 / count as f64;
        let rate = count as f64 / took.as_secs_f64();
        Ok(Seen { rate, cpu: [each(0), each(1), each(2)] })
    }
}

const WAYS: [&str; 10] = [
    "bare, 1 connection, 64 in flight",
    "the same, compare-and-set",
    "the same, and a consumer that follows",
    "the same, acknowledged by the consumer alone",
    "bare, 64 connections x 1",
    "the same, compare-and-set",
    "herd without engine, 64 x 1",
    "member, 64 x 1",
    "member, 64 x 16, 1,000 clients each",
    "member, 64 x 1, `ack = \"local\"`",
];

/// All ways in turns, so that what slows the machine down for a second slows all.
pub fn updates(folder: &Path, nats: &Nats, options: &Options) -> Result<(), Failure> {
    let address = nats.addresses[0];
    let mut bare = Bare::connect(address)?;
    bare.make_bucket("bare", options.nodes)?;
    bare.make_bucket("followed", options.nodes)?;
    bare.make_bucket("told", options.nodes)?;
    let mut many = Many::connect(address, 64)?;
    let plain = Server::start(folder, "Plain", "")?;
    let member = Server::start(folder, "Member", &nats.section("acked", ""))?;
    let mixed = Server::start(folder, "Mixed", &nats.section("mixed", ""))?;
    let local = Server::start(folder, "Local", &nats.section("local", "ack = \"local\"\n"))?;
    for member in [&member, &mixed, &local] {
        member.in_sync()?;
    }
    let mut loads = Vec::new();
    for server in [&plain, &member, &mixed, &local] {
        loads.push(Load::connect(server.clients, 64)?);
    }
    loads[2].mix_clients();
    let mut single = Load::connect(member.clients, 1)?;
    let processes = Processes { nats };
    let mut ways: Vec<Way> =
        WAYS.into_iter().map(|title| Way { title, seen: Vec::new() }).collect();
    let (mut raw_p50, mut our_p50) = (Vec::new(), Vec::new());
    let part = options.measured / ROUNDS;
    let count = (part.as_secs_f64() * 50_000.0) as usize;
    for _ in 0..ROUNDS {
        let mut seen = Vec::new();
        for how in [Publish::Plain, Publish::CompareAndSet] {
            bare.api("STREAM.PURGE.KV_bare", "")?;
            seen.push(
                processes
                    .watch(None, || Ok((count, bare.publish("bare", 64, count, 64, how)?.0)))?,
            );
        }
        bare.api("STREAM.PURGE.KV_followed", "")?;
        let follower = Follower::start(address, "followed")?;
        seen.push(processes.watch(None, || {
            Ok((count, bare.publish("followed", 64, count, 64, Publish::CompareAndSet)?.0))
        })?);
        follower.stop()?;
        // Its connection is left with its consumer, which nothing is put for any more.
        bare.api("STREAM.PURGE.KV_told", "")?;
        let mut told = Bare::connect(address)?;
        told.follow("told")?;
        seen.push(processes.watch(None, || Ok((count, told.publish_told("told", 64, count)?)))?);
        drop(told);
        for how in [Publish::Plain, Publish::CompareAndSet] {
            bare.api("STREAM.PURGE.KV_bare", "")?;
            many.forget();
            seen.push(processes.watch(None, || Ok((count, many.publish("bare", count, how)?)))?);
        }
        for (index, server) in [&plain, &member, &mixed, &local].into_iter().enumerate() {
            let depth = if index == 2 { 16 } else { 1 };
            let load = &mut loads[index];
            seen.push(processes.watch(Some(server.id()), || {
                let seen = load.closed(depth, part)?;
                Ok((seen.requests as usize, seen.elapsed))
            })?);
            load.drain()?;
        }
        ways.iter_mut().zip(seen).for_each(|(way, seen)| way.seen.push(seen));
        let (_, latency) = bare.publish("bare", 1, 2_000, 1, Publish::Plain)?;
        raw_p50.push(latency.value_at_quantile(0.5) as f64 / 1e3);
        let seen = single.closed(1, part)?;
        our_p50.push(seen.latency.value_at_quantile(0.5) as f64 / 1e3);
        single.drain()?;
    }
    show(&ways);
    println!("\n| what | bare | herd-mio | ratio | goal |\n|---|---|---|---|---|");
    let rate = |at: usize| ways[at].rate();
    row(
        "updates acknowledged a second, 64 x 1; bare: 64 in flight",
        rate(0),
        rate(7),
        "at least 0.6",
    );
    row("the same, bare with 64 connections", rate(4), rate(7), "");
    row("64 x 16; bare: 64 in flight", rate(0), rate(8), "");
    // What these cores would do if they were never idle, and a member cost no more than a server without an engine.
    let cores = std::thread::available_parallelism()?.get();
    let [load, server, _] = ways[6].cpu();
    for (what, at) in [("bare publishing", 0), ("compare-and-set and a consumer", 2)] {
        let [_, _, nats] = ways[at].cpu();
        let ceiling = cores as f64 * 1e6 / (load + server + nats);
        row(
            &format!("ceiling of {cores} cores: no engine, and NATS's {what}"),
            rate(0),
            ceiling,
            "",
        );
    }
    let ceiling = cores as f64 * 1e6 / ways[7].cpu().iter().sum::<f64>();
    row(&format!("the member, if {cores} cores were never idle"), rate(0), ceiling, "");
    let (raw, ours) = (median(raw_p50), median(our_p50));
    row("one at a time, p50, us", raw, ours, &format!("at most {:.0} us", raw + 100.0));
    Ok(())
}

/// One member and its clients, 64 x 1, for a profiler.
pub fn member(folder: &Path, nats: &Nats, options: &Options) -> Result<(), Failure> {
    let member = Server::start(folder, "Member", &nats.section("acked", ""))?;
    member.in_sync()?;
    let mut load = Load::connect(member.clients, 64)?;
    watched(nats, &member, || {
        let seen = load.closed(1, options.measured)?;
        Ok((seen.requests as usize, seen.elapsed))
    })
}

/// Says which processes take part, and what they need while `work` is done.
pub fn watched(
    nats: &Nats,
    member: &Server,
    work: impl FnOnce() -> Result<(usize, Duration), Failure>,
) -> Result<(), Failure> {
    let ids: Vec<u32> = nats.ids().collect();
    println!("processes: load {}, member {}, NATS {ids:?}", std::process::id(), member.id());
    let seen = Processes { nats }.watch(Some(member.id()), work)?;
    let [load, member, nats] = seen.cpu;
    let rate = seen.rate;
    println!("{rate:.0} a second; CPU us: load {load:.2}, member {member:.2}, NATS {nats:.2}");
    Ok(())
}

impl Way {
    /// CPU time for an update, as in [`Seen`].
    fn cpu(&self) -> [f64; 3] {
        [0, 1, 2].map(|at| median(self.seen.iter().map(|seen| seen.cpu[at]).collect()))
    }

    fn rate(&self) -> f64 {
        median(self.seen.iter().map(|seen| seen.rate).collect())
    }
}

fn show(ways: &[Way]) {
    println!(
        "| way | updates a second | least to greatest | of the first | CPU us an update: load | server | NATS | all | cores in use |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    for way in ways {
        let rates = || way.seen.iter().map(|seen| seen.rate);
        let (least, most) = (rates().fold(f64::MAX, f64::min), rates().fold(0.0, f64::max));
        let [load, server, nats] = way.cpu();
        let all = load + server + nats;
        let ratios = way.seen.iter().zip(&ways[0].seen).map(|(seen, first)| seen.rate / first.rate);
        println!(
            "| {} | {:.0} | {least:.0} to {most:.0} | {:.2} | {load:.1} | {server:.1} | {nats:.1} | {all:.1} | {:.2} |",
            way.title,
            way.rate(),
            median(ratios.collect()),
            way.rate() * all / 1e6
        );
    }
}

/// A thread that reads all that is put into a bucket.
struct Follower {
    thread: std::thread::JoinHandle<()>,
    stop: std::net::TcpStream,
}

impl Follower {
    fn start(address: std::net::SocketAddr, bucket: &str) -> Result<Follower, Failure> {
        let mut bare = Bare::connect(address)?;
        bare.follow(bucket)?;
        let stop = bare.stream().try_clone()?;
        let thread = std::thread::spawn(move || {
            // Until the connection is closed.
            while bare.followed().is_ok() {}
        });
        Ok(Follower { thread, stop })
    }

    fn stop(self) -> Result<(), Failure> {
        self.stop.shutdown(std::net::Shutdown::Both)?;
        _ = self.thread.join();
        Ok(())
    }
}

const ROUNDS: u32 = 5;
