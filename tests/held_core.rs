//! Claim: an answer is held until its update, or a newer one of that client, is committed, and no longer; each is given
//! once, in order, whatever the disk does and whoever leaves; and batches of any size leave on the disk what the table has.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::{
    AnswerAfter, DiskBatch, Event, HeldAnswers, Herd, Holder, Observer, Output, Settings,
};
use herd_mio::limits::DISK_BATCH_UPDATES;
use herd_mio::protocol::{ClientRequest, Dialect, Epoch, FromDialler};
use proptest::prelude::*;

struct Nobody;

impl Observer for Nobody {
    fn record(&mut self, _: Event<'_>) {}
}

const NOW: Now = Now { elapsed: Duration::ZERO, wall: WallTime(2_000_000_000_000_000_000) };
const ON_DISK: AnswerAfter = AnswerAfter { disk: true, engine: false };

fn herd(max_clients: usize) -> Herd {
    let settings = Settings {
        name: "A".to_owned(),
        neighbours: Vec::new(),
        dialect: Dialect::Report,
        max_clients,
        max_future: Duration::from_secs(1),
        heartbeat: Duration::from_secs(1),
        refill: true,
        epoch: Epoch(1),
        seed: 1,
    };
    Herd::new(settings, NOW)
}

fn herd_with_disk(max_clients: usize) -> Herd {
    let mut herd = herd(max_clients);
    herd.attach_disk(ON_DISK);
    herd
}

fn tell(herd: &mut Herd, id: &str, time: u64) {
    let line = format!("IAMAT {id} +1-1 {time}");
    let Ok(ClientRequest::Iamat(iamat)) = ClientRequest::parse(line.as_bytes(), Dialect::Report)
    else {
        panic!("{line} is no IAMAT")
    };
    herd.handle_iamat(&iamat, NOW, &mut Vec::new(), &mut Nobody).expect("it is not ahead");
}

/// Of each client its time, as the lines of a batch say it.
fn times(batch: &DiskBatch) -> BTreeMap<String, u64> {
    let lines = batch.lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let read = |line| match FromDialler::parse(line) {
        Ok(FromDialler::Update(update)) => {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
            (text(update.id), text(update.timestamp.text).parse().expect("whole seconds"))
        }
        other => panic!("{other:?}"),
    };
    lines.map(read).collect()
}

fn told(herd: &mut Herd) -> Vec<Holder> {
    let outputs = std::iter::from_fn(|| herd.poll_output());
    outputs
        .filter_map(|output| match output {
            Output::AnswersDue(holder) => Some(holder),
            _ => None,
        })
        .collect()
}

#[test]
fn an_update_that_was_overwritten_before_its_batch_is_not_kept_by_a_later_cursor() {
    let mut herd = herd_with_disk(100_000);
    herd.limit_disk_batches(2);
    for id in ["a", "b", "c", "d"] {
        tell(&mut herd, id, 1);
    }
    let awaited = herd.awaited(b"a").expect("it is not on the disk");
    tell(&mut herd, "a", 2);
    let first = herd.poll_disk_batch().expect("a batch");
    assert_eq!(times(&first).keys().collect::<Vec<_>>(), ["b", "c"]);
    herd.disk_committed(first.number);
    assert!(!herd.is_kept(awaited), "nothing of this client is on the disk");
    let second = herd.poll_disk_batch().expect("another");
    assert_eq!(times(&second)["a"], 2);
    herd.disk_committed(second.number);
    assert!(herd.is_kept(awaited));
    assert!(herd.is_on_disk() && herd.poll_disk_batch().is_none());
}

#[test]
fn a_batch_holds_so_many_updates_at_most_and_the_next_one_comes_once_it_is_committed() {
    let mut herd = herd_with_disk(100_000);
    for number in 0..DISK_BATCH_UPDATES + 10 {
        tell(&mut herd, &format!("c{number}"), 1);
    }
    let first = herd.poll_disk_batch().expect("a batch");
    assert_eq!((first.number, first.updates, first.must_sync), (1, DISK_BATCH_UPDATES, true));
    assert_eq!(herd.poll_disk_batch(), None, "the former one is not committed");
    herd.disk_committed(7);
    assert_eq!(herd.poll_disk_batch(), None, "that was none of its batches");
    herd.disk_failed(first.number);
    let again = herd.poll_disk_batch().expect("it is handed over again");
    assert_eq!((again.number, again.lines == first.lines), (2, true));
    herd.disk_committed(first.number);
    assert_eq!(herd.poll_disk_batch(), None, "the second attempt is not committed");
    herd.disk_committed(again.number);
    assert_eq!(herd.disk_uncommitted(), 10);
    assert_eq!(herd.poll_disk_batch().map(|batch| batch.updates), Some(10));
}

#[test]
fn those_who_wait_for_what_the_floor_passes_are_told_though_the_disk_stands_still() {
    let mut herd = herd_with_disk(10);
    let (mut old, mut new) = (HeldAnswers::default(), HeldAnswers::default());
    for number in 0..10 {
        tell(&mut herd, &format!("c{number}"), 100 + number);
    }
    let stuck = herd.poll_disk_batch().expect("a batch");
    old.push(herd.awaited(b"c0"), b"old\n", Duration::ZERO, Holder(1), &mut herd);
    new.push(herd.awaited(b"c9"), b"new\n", Duration::ZERO, Holder(2), &mut herd);
    for number in 10..24 {
        tell(&mut herd, &format!("c{number}"), 80 + number); // The later ones evict c0, and take its slot.
    }
    assert_eq!(herd.poll_disk_batch(), None);
    let mut out = Vec::new();
    for holder in told(&mut herd) {
        let held = if holder == Holder(1) { &mut old } else { &mut new };
        held.take_due(&mut out, holder, &mut herd, |_| {});
    }
    assert_eq!(out, b"old\n", "c0 is evicted, and c9 is not on the disk");
    herd.disk_committed(stuck.number);
    let floor = herd.table().floor().cloned();
    assert_eq!(herd.poll_disk_batch().expect("the rest").floor, floor);
}

#[test]
fn a_connection_that_closes_is_told_nothing_and_leaves_nothing() {
    let mut herd = herd_with_disk(10);
    tell(&mut herd, "a", 1);
    for number in 0..100 {
        let mut held = HeldAnswers::default();
        held.push(herd.awaited(b"a"), b"AT\n", Duration::ZERO, Holder(number), &mut herd);
        held.cancel(Holder(number), &mut herd);
        assert!(held.is_empty());
    }
    let batch = herd.poll_disk_batch().expect("a batch");
    herd.disk_committed(batch.number);
    assert_eq!(told(&mut herd), []);
}

#[test]
fn a_client_that_is_forgotten_is_removed_from_the_disk_before_it_comes_back() {
    let mut herd = herd_with_disk(10);
    herd.limit_disk_batches(1);
    tell(&mut herd, "a", 5);
    tell(&mut herd, "b", 5);
    let mut held = HeldAnswers::default();
    held.push(herd.awaited(b"a"), b"AT\n", Duration::ZERO, Holder(1), &mut herd);
    assert!(herd.forget(b"a") && herd.forget(b"b") && !herd.forget(b"c"));
    assert_eq!((herd.table().len(), told(&mut herd)), (0, vec![Holder(1)]));
    let mut out = Vec::new();
    held.take_due(&mut out, Holder(1), &mut herd, |_| {});
    assert_eq!(out, b"AT\n", "there is nothing left to wait for");
    tell(&mut herd, "b", 3);
    let first = herd.poll_disk_batch().expect("a removal");
    assert_eq!((&first.removed[..], first.updates), (&[b"a".to_vec()][..], 0));
    herd.disk_failed(first.number);
    let again = herd.poll_disk_batch().expect("it again");
    assert_eq!(again.removed, first.removed);
    herd.disk_committed(again.number);
    let second = herd.poll_disk_batch().expect("the other");
    assert_eq!((&second.removed[..], second.updates), (&[b"b".to_vec()][..], 1));
    herd.disk_committed(second.number);
    assert!(herd.is_on_disk() && herd.awaited(b"b").is_none());
}

#[test]
fn a_smaller_table_evicts_what_was_restored_and_hands_that_floor_to_the_disk() {
    let mut before = herd_with_disk(1_000);
    for number in 0..1_000 {
        tell(&mut before, &format!("c{number}"), 1_000 + number);
    }
    let mut after = herd(100);
    for entry in before.table().iter() {
        after.restore(&entry.update.get());
    }
    after.attach_disk(ON_DISK);
    assert!((90..=100).contains(&after.table().len()), "{}", after.table().len());
    let batch = after.poll_disk_batch().expect("a floor");
    assert_eq!((batch.updates, batch.floor.as_ref()), (0, after.table().floor()));
    assert!(batch.floor.is_some());
    after.disk_committed(batch.number);
    // The next run: what the floor passed does not come back, and what is there is known to be on the disk.
    let mut next = herd(1_000);
    next.restore_floor(batch.floor.expect("a floor"));
    for entry in before.table().iter() {
        next.restore(&entry.update.get());
    }
    next.attach_disk(ON_DISK);
    assert_eq!(next.table().len(), after.table().len());
    assert!(next.is_on_disk() && next.awaited(b"c999").is_none());
}

/// One thing that happens to a server.
#[derive(Clone, Debug)]
enum Step {
    Tell { connection: usize, client: u8, time: u64 },
    Poll,
    Committed,
    Failed,
    Forget { client: u8 },
    HangUp { connection: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 0..6_u8, 0..40_u64)
            .prop_map(|(connection, client, time)| Step::Tell { connection, client, time }),
        3 => Just(Step::Poll),
        2 => Just(Step::Committed),
        1 => Just(Step::Failed),
        1 => (0..6_u8).prop_map(|client| Step::Forget { client }),
        1 => (0..3_usize).prop_map(|connection| Step::HangUp { connection }),
    ]
}

/// What a server must do, said again as plainly as possible: the table and the disk are maps, and an answer waits until the
/// map of the disk has its client's time or a later one.
#[derive(Default)]
struct Naive {
    table: BTreeMap<String, u64>,
    disk: BTreeMap<String, u64>,
    in_flight: Option<DiskBatch>,
    /// By connection: client, time that must be on the disk, text. A client that was forgotten is waited for no longer.
    owed: [VecDeque<(String, Option<u64>, String)>; 3],
    out: [String; 3],
}

impl Naive {
    /// Gives what is due.
    fn settle(&mut self) {
        for (owed, out) in self.owed.iter_mut().zip(&mut self.out) {
            while owed.front().is_some_and(|(client, time, _)| {
                time.is_none_or(|time| self.disk.get(client).is_some_and(|it| *it >= time))
            }) {
                out.push_str(&owed.pop_front().expect("a first one").2);
            }
        }
    }
}

proptest! {
    #[test]
    fn answers_are_given_as_a_naive_model_gives_them(
        steps in prop::collection::vec(step(), 1..120),
        batch in 1..4_usize,
    ) {
        let mut herd = herd_with_disk(100);
        herd.limit_disk_batches(batch);
        let mut held: [HeldAnswers; 3] = Default::default();
        let mut out: [Vec<u8>; 3] = Default::default();
        let mut naive = Naive::default();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Tell { connection, client, time } => {
                    let id = format!("c{client}");
                    tell(&mut herd, &id, time);
                    let known = naive.table.entry(id.clone()).or_default();
                    *known = time.max(*known);
                    let text = format!("{number} ");
                    let awaited = herd.awaited(id.as_bytes());
                    let held = &mut held[connection];
                    if awaited.is_some() || !held.is_empty() {
                        let holder = Holder(connection as u64);
                        held.push(awaited, text.as_bytes(), Duration::ZERO, holder, &mut herd);
                    } else {
                        out[connection].extend(text.as_bytes());
                    }
                    naive.owed[connection].push_back((id, Some(*known), text));
                }
                Step::Poll => {
                    if let Some(batch) = herd.poll_disk_batch() {
                        prop_assert!(naive.in_flight.is_none());
                        for (client, time) in times(&batch) {
                            prop_assert_eq!(naive.table.get(&client), Some(&time));
                        }
                        naive.in_flight = Some(batch);
                    }
                }
                Step::Committed => {
                    if let Some(batch) = naive.in_flight.take() {
                        for id in &batch.removed {
                            naive.disk.remove(std::str::from_utf8(id).expect("ASCII"));
                        }
                        naive.disk.extend(times(&batch));
                        herd.disk_committed(batch.number);
                    }
                }
                Step::Failed => {
                    if let Some(batch) = naive.in_flight.take() {
                        herd.disk_failed(batch.number);
                    }
                }
                Step::Forget { client } => {
                    let id = format!("c{client}");
                    prop_assert_eq!(herd.forget(id.as_bytes()), naive.table.remove(&id).is_some());
                    // What it had on the disk is no later client's, and all who waited are told.
                    naive.disk.remove(&id);
                    if let Some(batch) = &mut naive.in_flight {
                        let lines = batch.lines.split_inclusive(|&byte| byte == b'\n');
                        let start = format!("UPDATELOC {id} ").into_bytes();
                        batch.lines = lines.filter(|line| !line.starts_with(&start)).flatten().copied().collect();
                    }
                    for (client, time, _) in naive.owed.iter_mut().flatten() {
                        if *client == id {
                            *time = None;
                        }
                    }
                }
                Step::HangUp { connection } => {
                    held[connection].cancel(Holder(connection as u64), &mut herd);
                    naive.owed[connection].clear();
                }
            }
            for Holder(connection) in told(&mut herd) {
                let connection = connection as usize;
                prop_assert!(!held[connection].is_empty(), "it waits for nothing");
                let holder = Holder(connection as u64);
                held[connection].take_due(&mut out[connection], holder, &mut herd, |_| {});
            }
            naive.settle();
            for connection in 0..3 {
                prop_assert_eq!(&String::from_utf8_lossy(&out[connection])[..], &naive.out[connection]);
                prop_assert_eq!(held[connection].len(), naive.owed[connection].len());
            }
        }
        // The disk works again: nothing is owed, and it has what the table has.
        if let Some(batch) = naive.in_flight.take() {
            herd.disk_failed(batch.number);
        }
        while let Some(batch) = herd.poll_disk_batch() {
            naive.disk.extend(times(&batch));
            herd.disk_committed(batch.number);
        }
        for Holder(connection) in told(&mut herd) {
            let connection = connection as usize;
            held[connection].take_due(&mut out[connection], Holder(connection as u64), &mut herd, |_| {});
            prop_assert!(held[connection].is_empty(), "an answer is never given");
        }
        prop_assert!(held.iter().all(HeldAnswers::is_empty) && herd.is_on_disk());
        prop_assert_eq!(naive.disk, naive.table);
    }
}
