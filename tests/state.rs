//! Claim: what the thread of the state directory has answered as committed is there after any loss of power, a damaged
//! database never panics nor gives an update that nobody wrote, what the floor forgot never comes back, and a disk that
//! fails is tried again until it works.

#[path = "state/disks.rs"]
mod disks;
#[path = "common/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use disks::{Disk, Power};
use herd_mio::herd::{DiskBatch, Floor};
use herd_mio::protocol::UpdateRef;
use herd_mio::state::{
    Contents, Database, Fault, Outcome, Pace, Reply, StateDir, StateError, StateMetrics,
    StateThread, dump, load,
};

const LIMIT: Duration = Duration::from_secs(30);
const MAX_FUTURE: Duration = Duration::from_secs(300);

/// All that is in a database.
#[derive(Debug, Default, PartialEq)]
struct All {
    floor: Option<Floor>,
    lines: BTreeMap<String, String>,
}

impl Contents for All {
    fn floor(&mut self, floor: &Floor) {
        self.floor = Some(floor.clone());
    }

    fn update(&mut self, update: &UpdateRef<'_>, line: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("tests write text");
        self.lines.insert(text(update.id), text(line));
    }
}

fn all(database: &Database) -> All {
    let mut all = All::default();
    database.read(&mut all).expect("it can be read");
    all
}

/// A client's update at this second, received a quarter of a second later.
fn line(client: usize, second: usize) -> String {
    format!("UPDATELOC c{client} +34.0-118.0 {second} Goloman +0.250000000")
}

/// A batch with the updates of these clients and seconds.
fn batch(number: u64, updates: impl IntoIterator<Item = (usize, usize)>) -> DiskBatch {
    let lines: Vec<String> = updates.into_iter().map(|(c, s)| line(c, s) + "\n").collect();
    let updates = lines.len();
    DiskBatch {
        number,
        lines: lines.concat().into(),
        updates,
        must_sync: true,
        ..DiskBatch::default()
    }
}

fn floor(second: i128, id: &str) -> Floor {
    Floor { age: second * 1_000_000_000, id: id.into() }
}

fn open_disk(disk: &Disk) -> Result<Database, Fault> {
    let redb = redb::Database::builder().create_with_backend(disk.clone())?;
    Database::new(redb, "Goloman", false)
}

const QUICK: Pace = Pace {
    interval: Duration::ZERO,
    retry_initial: Duration::from_millis(1),
    retry_max: Duration::from_millis(4),
};

/// A thread on a disk, with one loop.
fn start(disk: &Disk, metrics: &Arc<StateMetrics>) -> (StateThread, Receiver<Outcome>) {
    let (send, outcomes) = mpsc::channel();
    let reply: Reply = Box::new(move |outcome| drop(send.send(outcome)));
    let database = open_disk(disk).expect("a database");
    let again = disk.clone();
    let thread = StateThread::start_with(
        "a disk of the test".into(),
        database,
        Box::new(move || open_disk(&again)),
        Box::new(|| 0),
        vec![reply],
        Arc::clone(metrics),
        QUICK,
    );
    (thread.expect("a thread"), outcomes)
}

/// Writes until the power goes, at a random sync, and returns a loss, if there is one: an update that was answered as
/// committed, and is not there.
fn lose_power(seed: u64, power: fn(usize) -> Power) -> Result<usize, String> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ ((seed << 17) | (seed + 1));
    let mut below = |bound: usize| random::next(&mut state) % bound;
    let disk = Disk::default();
    drop(open_disk(&disk));
    disk.set_power(power(2 + below(40)));
    let (thread, outcomes) = start(&disk, &Arc::default());
    let port = thread.port(0);
    let (mut answered, mut last) = (BTreeMap::new(), BTreeMap::new());
    for number in 1.. {
        let clients: Vec<usize> = (0..1 + below(60)).map(|_| below(300)).collect();
        let updates: BTreeMap<usize, usize> =
            clients.into_iter().map(|client| (client, number)).collect();
        last.extend(updates.clone());
        port(batch(number as u64, updates.clone()));
        match outcomes.recv_timeout(LIMIT).expect("an outcome") {
            Outcome::Committed(_) => answered.extend(updates),
            Outcome::Failed(_) => break,
        }
    }
    assert!(thread.finish(LIMIT));
    let after = disk.after_loss(|| below(2) == 0);
    let found = match open_disk(&after) {
        Ok(database) => all(&database).lines,
        Err(fault) => return Err(format!("{fault:?}")),
    };
    for (client, second) in &answered {
        let found = found.get(&format!("c{client}"));
        let is_kept = found.is_some_and(|it| *it == line(*client, *second))
            || found.is_some_and(|it| *it == line(*client, last[client]));
        if !is_kept {
            return Err(format!("c{client} at {second}, found {found:?}"));
        }
    }
    Ok(answered.len())
}

#[test]
fn what_was_answered_is_there_after_a_loss_of_power() {
    let mut answered = 0;
    for seed in 0..60 {
        answered +=
            lose_power(seed, Power::GoesAt).unwrap_or_else(|lost| panic!("seed {seed}: {lost}"));
    }
    assert!(answered > 1_000, "{answered} updates were answered");
}

/// The test above would find a commit without a sync.
#[test]
fn without_syncs_a_loss_of_power_is_found() {
    let losses = (0..20).filter(|seed| lose_power(*seed, Power::GoesAtAndNeverSyncs).is_err());
    assert!(losses.count() >= 10);
}

#[test]
fn a_disk_that_fails_is_tried_again_until_it_works_and_keeps_nothing_half() {
    let (disk, metrics) = (Disk::default(), Arc::default());
    let (thread, outcomes) = start(&disk, &metrics);
    let port = thread.port(0);
    port(batch(1, [(1, 1), (2, 1)]));
    assert_eq!(outcomes.recv_timeout(LIMIT), Ok(Outcome::Committed(1)));
    disk.set_fails(true);
    for number in 2..6 {
        port(batch(number, [(1, number as usize), (3, 1)]));
        assert_eq!(outcomes.recv_timeout(LIMIT), Ok(Outcome::Failed(number)));
        assert!(metrics.is_failing());
    }
    disk.set_fails(false);
    port(batch(6, [(1, 6)]));
    assert_eq!(outcomes.recv_timeout(LIMIT), Ok(Outcome::Committed(6)));
    assert!(!metrics.is_failing());
    assert_eq!((metrics.commits(), metrics.updates(), metrics.failures()), (2, 3, 4));
    assert!(thread.finish(LIMIT));
    let lines = all(&open_disk(&disk).expect("it opens")).lines;
    assert_eq!(lines.into_values().collect::<Vec<_>>(), [line(1, 6), line(2, 1)]);
}

#[test]
fn what_the_floor_forgot_never_comes_back() {
    let disk = Disk::default();
    let mut database = open_disk(&disk).expect("a database");
    for number in 0..30 {
        let clients = (1_000 * number)..(1_000 * (number + 1));
        database.commit(&[batch(1, clients.map(|client| (client, client)))]).expect("committed");
    }
    let raised = DiskBatch { floor: Some(floor(20_000, "c20000")), ..batch(2, [(5, 40_000)]) };
    database.commit(&[raised]).expect("committed");
    // The power goes while most of it is not deleted yet.
    let mut database = open_disk(&disk.after_loss(|| false)).expect("it opens");
    let kept = all(&database);
    assert_eq!(kept.floor, Some(floor(20_000, "c20000")));
    assert_eq!(kept.lines.len(), 10_000, "20,001 to 29,999 and c5");
    let mut deleted = 0;
    for _ in 0..100 {
        deleted += database.commit(&[]).expect("a slice").deleted;
    }
    assert!(!database.is_sweeping() && deleted > 10_000, "{deleted} were deleted");
    assert_eq!(all(&database), kept);
}

/// An update that was evicted may have the later timestamp: it was received early.
#[test]
fn of_two_loops_the_newer_update_stays_unless_the_floor_forgot_it() {
    let disk = Disk::default();
    let redb = redb::Database::builder().create_with_backend(disk.clone()).expect("a database");
    let mut database = Database::new(redb, "Goloman", true).expect("an empty one");
    let written = database.commit(&[batch(1, [(1, 5), (2, 5)]), batch(1, [(1, 4), (2, 6)])]);
    assert_eq!(written.expect("committed").updates, 3);
    let lines: Vec<_> = all(&database).lines.into_values().collect();
    assert_eq!(lines, [line(1, 5), line(2, 6)]);
    let early = b"UPDATELOC c9 +34.0-118.0 100 Goloman -90.000000000\n"; // Received at 10.
    let early = DiskBatch { lines: early.to_vec(), updates: 1, ..batch(2, []) };
    database.commit(&[early]).expect("committed");
    let raised = DiskBatch { floor: Some(floor(50, "x")), ..batch(3, [(9, 60)]) };
    database.commit(&[raised]).expect("committed");
    assert_eq!(all(&database).lines.into_values().collect::<Vec<_>>(), [line(9, 60)]);
}

fn filled(dir: &Path) -> BTreeMap<String, String> {
    let dir = StateDir::lock(dir, "Goloman", false).expect("it is free");
    let mut database = dir.open().expect("a database");
    for second in 1..6 {
        let clients = (0..400).filter(|client| client % second == 0);
        database.commit(&[batch(1, clients.map(|client| (client, second)))]).expect("committed");
    }
    all(&database).lines
}

/// Every bit of each page that is in use is covered by a checksum; redb can't notice that its pointer to the newer of two
/// commits is flipped to the older one, which is what was true before.
#[test]
fn a_damaged_database_never_panics_and_never_gives_what_nobody_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = filled(folder.path());
    let path = folder.path().join("Goloman.redb");
    let whole = fs::read(&path).expect("the database");
    let mut state = 11;
    let (mut same, mut older, mut moved) = (0, 0, 0);
    for round in 0..240 {
        let mut bytes = whole.clone();
        let at = random::next(&mut state) % bytes.len();
        match round % 4 {
            0 => bytes.truncate(at),
            1 => bytes[at % 4_096] ^= 1 << (at % 8),
            _ => bytes[at] ^= 1 << (at % 8),
        }
        fs::write(&path, &bytes).expect("it can be written");
        let dir = StateDir::lock(folder.path(), "Goloman", false).expect("it is free");
        let mut found = All::default();
        let opened = dir.start(|database| {
            found = All::default();
            database.read(&mut found).map(drop)
        });
        let opened = opened.unwrap_or_else(|error| panic!("round {round}, byte {at}: {error}"));
        for (client, line) in &found.lines {
            let is_written = written.get(client).is_some_and(|newest| {
                let second = |line: &str| line.split(' ').nth(3).map(str::to_owned);
                second(line) <= second(newest)
            });
            assert!(is_written, "round {round}, byte {at}: {line}");
        }
        match (&opened.moved, found.lines == written) {
            (Some((aside, _)), _) => {
                assert_eq!(fs::read(aside).expect("it is there").len(), bytes.len());
                fs::remove_file(aside).expect("it is there");
                moved += 1;
            }
            (None, true) => same += 1,
            (None, false) => older += 1,
        }
    }
    println!("{same} as before, {older} at an older commit, {moved} moved aside");
    assert!(moved > 60 && older < 12, "{same} same, {older} older, {moved} moved aside");
}

#[test]
fn a_database_is_locked_named_and_of_a_known_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a/b");
    drop(filled(&dir));
    let held = StateDir::lock(&dir, "Goloman", false).expect("it is free");
    let refused = StateDir::lock(&dir, "Goloman", false).expect_err("it is in use");
    assert!(matches!(refused, StateError::InUse { .. }));
    assert!(refused.to_string().contains(&format!("{} is in use", dir.display())), "{refused}");
    StateDir::lock(&dir, "Hands", false).expect("another server shares the folder");
    drop(held);
    fs::copy(dir.join("Goloman.redb"), dir.join("Welsh.redb")).expect("it can be copied");
    let welsh = StateDir::lock(&dir, "Welsh", false).expect("it is free");
    let refused = welsh.start(|_| Ok(())).map(drop).expect_err("it is another server's");
    assert!(refused.is_of_configuration());
    assert!(refused.to_string().contains("is that of Goloman, not of Welsh"), "{refused}");
    let disk = redb::Database::create(dir.join("Goloman.redb")).expect("it is free");
    let write = disk.begin_write().expect("a transaction");
    let meta: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    write.open_table(meta).expect("a table").insert("format", &b"7"[..]).expect("written");
    write.commit().expect("committed");
    drop(disk);
    let goloman = StateDir::lock(&dir, "Goloman", false).expect("it is free");
    let refused = goloman.start(|_| Ok(())).map(drop).expect_err("it is newer");
    assert!(refused.is_of_configuration());
    assert!(refused.to_string().contains("has format 7"), "{refused}");
}

#[test]
fn a_dump_can_be_loaded_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    filled(&from);
    let dir = |path: &Path| StateDir::lock(path, "Goloman", false).expect("it is free");
    let raised = DiskBatch { floor: Some(floor(1, "c7")), ..batch(1, []) };
    dir(&from).open().expect("it opens").commit(&[raised]).expect("committed");
    let mut text = Vec::new();
    dump(&dir(&from), &mut text).expect("memory").expect("it can be read");
    text.extend_from_slice(b"UPDATELOC z +1.0+1.0 301 A -300.000000000\n");
    let lines = text.split_inclusive(|byte| *byte == b'\n').count();
    assert!(text.starts_with(b"FLOOR 1000000000 c7\nUPDATELOC "));
    for (bad, why) in [
        (&b"UPDATELOC c1 here 1 A +0.250000000\n"[..], "line 1"),
        (b"UPDATELOC c1 +1.0+1.0 1 A", "it does not end"),
        (b"IAMAT c1 +1.0+1.0 1\n", "it is no UPDATELOC line"),
        (b"UPDATELOC c1 +1.0+1.0 301 A -300.000000001\n", "future"),
    ] {
        let whole = [&text[..], bad].concat();
        let refused = load(&dir(&to), &mut &whole[..], MAX_FUTURE).expect_err("one line is wrong");
        let number = format!("line {}: ", lines + 1);
        let expected = if why == "line 1" { &number } else { why };
        assert!(refused.to_string().contains(expected), "{refused}");
        assert_eq!(all(&dir(&to).open().expect("it opens")), All::default());
    }
    let loaded = load(&dir(&to), &mut &text[..], MAX_FUTURE).expect("all is right");
    assert_eq!((loaded.updates, loaded.not_newer), (lines as u64 - 1, 0));
    let again = load(&dir(&to), &mut &text[..], MAX_FUTURE).expect("all is right");
    assert_eq!((again.updates, again.not_newer), (0, lines as u64 - 1));
    let mut copy = Vec::new();
    dump(&dir(&to), &mut copy).expect("memory").expect("it can be read");
    assert!(copy == text, "the copy is not the same");
}
