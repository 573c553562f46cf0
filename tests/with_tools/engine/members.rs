//! Servers that share the bucket, what they know, and clients that write to them all the time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bare::Pause;
use super::eye::{Entry, Eye, key};
use super::nats::Nats;
use crate::common::client::Next;
use crate::common::hosts::Hosts;
use crate::common::http::get;
use crate::common::random::next;
use crate::common::{Client, LIMIT, ServerProcess, Setup, wait_until};

/// Servers without links, which use these NATS servers.
pub fn members(nats: &Nats, names: &[&str], more: &str) -> Setup {
    members_by(names, &nats.section(more))
}

/// The same with this section `[engine]`.
pub fn members_by(names: &[&str], engine: &str) -> Setup {
    let shape: Vec<(&str, &[&str])> = names.iter().map(|&name| (name, &[] as &[&str])).collect();
    Setup::new(&shape).section("[places]\nprovider = \"offline\"").section(engine)
}

/// Starts a member for which NATS is at another address: a proxy's.
pub fn start_by(setup: &Setup, name: &str, nats: &Nats, at: SocketAddr) -> ServerProcess {
    let command = setup.command(name); // It writes the configuration, which this one replaces.
    let urls = format!("{:?}", nats.urls());
    let text = setup.toml(name).replace(&urls, &format!("[\"nats://{at}\"]"));
    std::fs::write(setup.folder.path().join(format!("{name}.toml")), text).expect("a file");
    ServerProcess::spawn(command, name, setup.log_file(name))
}

/// Starts every member, and waits until each knows all that the bucket holds.
pub fn start_all(setup: &Setup) -> Vec<ServerProcess> {
    let servers = setup.start_all();
    servers.iter().for_each(|server| wait_until_in_sync(server, 1));
    servers
}

/// Waits until a member has been in sync so many times or, if it keeps a cache, could ask.
pub fn wait_until_in_sync(server: &ServerProcess, times: usize) {
    let name = &server.name;
    let texts = ["is in sync with", "can ask"].map(|text| format!("{name} {text} the engine."));
    wait_until(2 * LIMIT, &format!("{} or the like, {times} times", texts[0]), || {
        let log = server.log();
        texts.iter().map(|text| log.matches(text).count()).sum::<usize>() >= times
    });
}

/// A client sends an update, and is answered.
pub fn tell(server: &ServerProcess, id: &str, timestamp: u64) {
    let text = format!("{id} +1.0-2.0 {timestamp}");
    assert_eq!(server.client().ask(&format!("IAMAT {text}")), format!("AT AT {text}"));
}

/// The sum of the samples of a metric that have this label, or of all. The member was started with `--admin`.
pub fn sample(server: &ServerProcess, name: &str, label: &str) -> u64 {
    let metrics = get(server.admin(), "/metrics").text();
    let is_of = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && line.contains(label)
    };
    let mut samples = metrics.lines().filter(is_of).peekable();
    assert!(samples.peek().is_some(), "no {name} with {label} in {metrics}");
    let values = samples.map(|line| line.rsplit(' ').next().expect("a value"));
    values.map(|value| value.parse::<f64>().expect("a number") as u64).sum()
}

/// How often a member was kept from using the engine by errors of this class. It was started with `--admin`.
pub fn errors(server: &ServerProcess, class: &str) -> u64 {
    let metrics = get(server.admin(), "/metrics").text();
    let begins = format!("herd_engine_errors_total{{class=\"{class}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&begins));
    let count = count.unwrap_or_else(|| panic!("no {begins:?} in {metrics}"));
    count.parse().expect("a number")
}

/// The timestamp of a client, as a member knows it.
pub fn known(server: &ServerProcess, id: &str) -> Option<String> {
    timestamps(server.clients, &[id])[0].clone()
}

/// Waits until all of them know this timestamp of a client.
pub fn wait_until_known(servers: &[ServerProcess], id: &str, timestamp: u64) {
    for server in servers {
        let what = format!("{} knows {id} {timestamp}", server.name);
        wait_until(LIMIT, &what, || known(server, id) == Some(timestamp.to_string()));
    }
}

/// The timestamps of clients, as the server there knows them.
pub fn timestamps(at: SocketAddr, ids: &[&str]) -> Vec<Option<String>> {
    let mut client = Client::connect(at);
    let mut all = Vec::new();
    for ids in ids.chunks(100) {
        let lines: String = ids.iter().map(|id| format!("WHATSAT {id} 0 0\n")).collect();
        client.send(lines);
        for _ in ids {
            let first = client.answer().first;
            let timestamp = first.strip_prefix("AT AT ").and_then(|rest| rest.rsplit(' ').next());
            all.push(timestamp.map(str::to_owned));
        }
    }
    all
}

/// The timestamp in the value of a bucket.
pub fn timestamp_of(entry: &Entry) -> String {
    let text = String::from_utf8_lossy(&entry.value).into_owned();
    assert!(text.starts_with("UPDATELOC "), "{text:?}");
    text.split(' ').nth(3).unwrap_or_else(|| panic!("{text:?}")).to_owned()
}

/// A server that clients write to.
#[derive(Clone, Debug)]
pub struct Place {
    pub address: SocketAddr,
    /// The network namespace in which it is reached.
    pub host: Option<String>,
}

impl Place {
    /// The members of a herd on this host.
    pub fn all(setup: &Setup) -> Vec<Place> {
        let place = |name: &String| Place { address: setup.clients_address(name), host: None };
        setup.names().iter().map(place).collect()
    }

    /// The timestamps of clients, as this server knows them.
    pub fn timestamps(&self, ids: &[&str]) -> Vec<Option<String>> {
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                if let Some(host) = &self.host {
                    Hosts::enter(host);
                }
                timestamps(self.address, ids)
            });
            asking.join().expect("a question does not panic")
        })
    }
}

/// Clients that write as fast as they are answered. Each has ids of its own, and shares some with all others; timestamps
/// go up and down by some seconds. Whoever is disconnected goes on at the next server.
pub struct Writers {
    is_over: Arc<AtomicBool>,
    answers: Arc<Vec<AtomicU64>>,
    threads: Vec<JoinHandle<Written>>,
}

/// What clients have seen.
#[derive(Debug, Default)]
pub struct Written {
    /// The greatest timestamp of each client that was answered, in milliseconds.
    pub answered: BTreeMap<String, u64>,
    /// The greatest that was sent.
    pub sent: BTreeMap<String, u64>,
    pub answers: u64,
    /// How long writers got no answer, each time that this was long.
    pub pauses: Vec<Pause>,
    /// Connections that ended before all was answered.
    pub lost_connections: u64,
}

impl Writers {
    pub fn start(count: usize, places: &[Place]) -> Writers {
        let is_over = Arc::new(AtomicBool::new(false));
        let answers: Arc<Vec<AtomicU64>> =
            Arc::new((0..count).map(|_| AtomicU64::default()).collect());
        // What these write is newer than what others have written.
        CLOCK.fetch_add(2 * SPREAD, Ordering::SeqCst);
        let threads = (0..count).map(|number| {
            let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
            let places = places.to_vec();
            thread::spawn(move || {
                let mut writer = Writer::new(number);
                while !is_over.load(Ordering::SeqCst) {
                    writer.write(&places, &is_over, &answers[number]);
                }
                writer.written
            })
        });
        Writers { threads: threads.collect(), is_over, answers }
    }

    pub fn answers(&self) -> u64 {
        self.answers.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    /// Waits until each of them has been answered once more.
    pub fn all_write_on(&self) {
        let count = |one: &AtomicU64| one.load(Ordering::SeqCst);
        let before: Vec<u64> = self.answers.iter().map(count).collect();
        wait_until(2 * LIMIT, "each writer is answered", || {
            self.answers.iter().zip(&before).all(|(one, before)| count(one) > before + BATCH)
        });
    }

    /// Lets them write for a time.
    pub fn write_for(&self, time: Duration) {
        self.all_write_on();
        thread::sleep(time);
        self.all_write_on();
    }

    /// Ends them, and adds up what they have seen.
    pub fn end(mut self) -> Written {
        self.is_over.store(true, Ordering::SeqCst);
        let mut all = Written::default();
        for thread in self.threads.drain(..) {
            let one = thread.join().expect("a writer does not panic");
            for (into, from) in [(&mut all.answered, one.answered), (&mut all.sent, one.sent)] {
                for (id, timestamp) in from {
                    let known = into.entry(id).or_default();
                    *known = timestamp.max(*known);
                }
            }
            all.answers += one.answers;
            all.pauses.extend(one.pauses);
            all.lost_connections += one.lost_connections;
        }
        all
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

struct Writer {
    number: usize,
    random: u64,
    /// Where it connects next.
    place: usize,
    last_answer: Instant,
    written: Written,
}

impl Writer {
    fn new(number: usize) -> Writer {
        let random = 0x9E37_79B9_7F4A_7C15 ^ (number as u64 + 1);
        let written = Written::default();
        Writer { number, random, place: number, last_answer: Instant::now(), written }
    }

    /// Writes on one connection until it ends.
    fn write(&mut self, places: &[Place], is_over: &AtomicBool, answers: &AtomicU64) {
        let place = &places[self.place % places.len()];
        self.place += 1;
        if let Some(host) = &place.host {
            Hosts::enter(host);
        }
        let Ok(mut client) = Client::try_connect(place.address) else {
            thread::sleep(Duration::from_millis(20)); // No server there: not as fast as possible.
            return;
        };
        while !is_over.load(Ordering::SeqCst) {
            let updates: Vec<(String, u64)> = (0..BATCH).map(|_| self.update()).collect();
            let line = |(id, at): &(String, u64)| format!("IAMAT {}\n", text(id, *at));
            let lines: String = updates.iter().map(line).collect();
            if client.try_send(lines).is_err() {
                self.written.lost_connections += 1;
                return;
            }
            for (id, at) in updates {
                match client.next(2 * LIMIT) {
                    Next::Line(line) => {
                        let due = format!("AT AT {}", text(&id, at));
                        assert_eq!(String::from_utf8_lossy(&line), due);
                    }
                    Next::Silence => panic!("the server at {} is silent", place.address),
                    Next::End(_) | Next::Reset => {
                        self.written.lost_connections += 1;
                        return;
                    }
                }
                self.answered(id, at);
                answers.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// What it sends next.
    fn update(&mut self) -> (String, u64) {
        let some = next(&mut self.random);
        let id = match some % 4 {
            0 => format!("hot.{}", some / 4 % 40),
            _ => format!("w{}.{}", self.number, some / 4 % 500),
        };
        let now = CLOCK.fetch_add(1, Ordering::SeqCst);
        let at = now - next(&mut self.random) as u64 % SPREAD;
        let sent = self.written.sent.entry(id.clone()).or_default();
        *sent = at.max(*sent);
        (id, at)
    }

    fn answered(&mut self, id: String, at: u64) {
        self.written.answers += 1;
        let pause = Pause { begin: self.last_answer, end: Instant::now() };
        if pause.length() > LONG {
            self.written.pauses.push(pause);
        }
        self.last_answer = pause.end;
        let known = self.written.answered.entry(id).or_default();
        *known = at.max(*known);
    }
}

impl Written {
    pub fn longest_pause(&self) -> Duration {
        self.pauses.iter().map(Pause::length).max().unwrap_or_default()
    }

    /// The most that a pause has lasted while NATS, which had these pauses, took updates.
    pub fn most_added_to(&self, pauses: &[Pause]) -> Duration {
        self.pauses.iter().map(|pause| pause.outside(pauses)).max().unwrap_or_default()
    }

    /// All that was answered, or something newer, is in the bucket, and nothing that nobody sent; and each member knows
    /// what the bucket holds, once what was not answered has settled, too.
    pub fn is_kept(&self, eye: &mut Eye, bucket: &str, places: &[Place]) {
        let lost = self.lost(&held(eye, bucket));
        if let Some(id) = lost.first() {
            // Is it lost, or only where the reader was? What NATS's leader has of it, and each server.
            let of_leader = eye.get(bucket, id.as_bytes()).as_ref().map(timestamp_of);
            let known: Vec<_> = places.iter().map(|place| place.timestamps(&[id])).collect();
            panic!(
                "{} of {} answered clients are not in the bucket, such as {id} {}: a look-up of its key has \
                 {of_leader:?}, servers know {known:?}; now {} are not",
                lost.len(),
                self.answered.len(),
                self.answered[*id],
                self.lost(&held(eye, bucket)).len()
            );
        }
        self.tables_are_equal(eye, bucket, places);
    }

    /// The clients of which the bucket has nothing as new as what was answered.
    fn lost(&self, held: &BTreeMap<String, String>) -> Vec<&str> {
        let is_lost = |(id, answered): &(&String, &u64)| {
            let held = held.get(&key(id.as_bytes())).map(|held| milliseconds(held));
            assert!(held <= Some(self.sent[*id]), "nobody sent {id} {held:?}");
            held < Some(**answered)
        };
        self.answered.iter().filter(is_lost).map(|(id, _)| id.as_str()).collect()
    }

    pub fn tables_are_equal(&self, eye: &mut Eye, bucket: &str, places: &[Place]) {
        let ids: Vec<&str> = self.answered.keys().map(String::as_str).collect();
        let keys: Vec<String> = ids.iter().map(|id| key(id.as_bytes())).collect();
        wait_until(LIMIT, "each server knows what the bucket holds", || {
            let all = held(eye, bucket);
            places.iter().all(|place| {
                let known = place.timestamps(&ids);
                keys.iter().zip(&known).all(|(key, known)| all.get(key) == known.as_ref())
            })
        });
    }

    /// All servers know the same of each client: what was answered, or something newer.
    pub fn is_known(&self, places: &[Place]) {
        let ids: Vec<&str> = self.answered.keys().map(String::as_str).collect();
        let mut all: Vec<Vec<Option<String>>> = Vec::new();
        wait_until(LIMIT, "all servers know the same", || {
            all = places.iter().map(|place| place.timestamps(&ids)).collect();
            all.iter().all(|one| *one == all[0])
        });
        for (id, known) in ids.iter().zip(&all[0]) {
            let (known, answered) = (known.as_deref().map_or(0, milliseconds), self.answered[*id]);
            assert!(known >= answered, "{id} {answered} was answered, and {known} is known");
        }
    }
}

/// The timestamp of each key.
pub fn held(eye: &mut Eye, bucket: &str) -> BTreeMap<String, String> {
    eye.all(bucket).iter().map(|(key, entry)| (key.clone(), timestamp_of(entry))).collect()
}

fn text(id: &str, at: u64) -> String {
    format!("{id} +{}.5-{}.25 {}.{:03}", at % 90, at % 180, at / 1_000, at % 1_000)
}

pub fn milliseconds(timestamp: &str) -> u64 {
    timestamp.replace('.', "").parse().unwrap_or_else(|_| panic!("{timestamp:?}"))
}

/// The next timestamp. The first was some years ago, so that none is in the future.
static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000_000);
/// How much older than the next timestamp an update may be.
const SPREAD: u64 = 1_500;
/// Pauses that are not longer are no news.
const LONG: Duration = Duration::from_millis(400);
/// Lines that a writer sends before it reads their answers.
const BATCH: u64 = 8;
