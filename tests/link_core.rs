//! Claim: on a link the core sends what section 4 of the protocol demands and nothing else, to the letter and to
//! the millisecond: where it resumes, which answers it accepts, when it sends heartbeats, disconnects and dials
//! again; and it reports to its observer what happens.
//!
//! `links.rs` shows the same of the whole server, over sockets; here every border is met exactly.

use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::{
    Differing, Event, Feed, Herd, NeighbourId, Observer, Outcome, Output, Peer, Record, Settings,
};
use herd_mio::protocol::{ClientRequest, Dialect, Epoch, RequestError, Seq};

const HEARTBEAT: u64 = 1_000;
const AHEAD: u64 = 300_000;
/// Of the core under test.
const OWN: Epoch = Epoch(0xaa);

/// A core whose neighbours are A, B, …, a clock, and what its observer received.
struct Bench {
    herd: Herd,
    now: u64,
    said: Said,
}

/// The names of the events, and what identifies them.
#[derive(Default)]
struct Said(Vec<String>);

impl Observer for Said {
    fn record(&mut self, event: Event<'_>) {
        match event {
            Event::CannotSend { neighbour, .. } => {
                self.0.push(format!("cannot send {}", neighbour.0))
            }
            Event::Sending { neighbour, .. } => self.0.push(format!("sending {}", neighbour.0)),
            Event::LinkUp { neighbour, from, behind } => {
                self.0.push(format!("up {} from {} behind {behind}", neighbour.0, from.0));
            }
            Event::CatchUpSent { neighbour, updates } => {
                self.0.push(format!("sent {} all {updates}", neighbour.0));
            }
            Event::CatchUpReceived { neighbour, updates } => {
                self.0.push(format!("caught up with {} by {updates}", neighbour.0));
            }
            Event::WrongName { .. } => self.0.push("wrong name".into()),
            Event::AnswerRejected { .. } => self.0.push("refused".into()),
            Event::LinkDown { reason, .. } => self.0.push(reason.into()),
            Event::PeerTimedOut { neighbour } => self.0.push(format!("silent {}", neighbour.0)),
            Event::InSync => self.0.push("in sync".into()),
            _ => {}
        }
    }
}

impl Said {
    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0)
    }
}

impl Bench {
    fn new(neighbours: usize) -> Bench {
        Bench::with(neighbours, true, 1)
    }

    fn with(neighbours: usize, refill: bool, seed: u128) -> Bench {
        let settings = Settings {
            name: "Own".into(),
            neighbours: ["A", "B", "C"][..neighbours].iter().map(|name| (*name).into()).collect(),
            dialect: Dialect::Report,
            max_clients: 1_000_000,
            max_future: Duration::from_millis(AHEAD),
            heartbeat: Duration::from_millis(HEARTBEAT),
            refill,
            epoch: OWN,
            seed,
        };
        Bench { herd: Herd::new(settings, moment(0)), now: 0, said: Said::default() }
    }

    fn tell(&mut self, id: &str) -> Result<(), RequestError> {
        self.tell_at(id, "500")
    }

    fn tell_at(&mut self, id: &str, timestamp: &str) -> Result<(), RequestError> {
        let line = format!("IAMAT {id} +1-2 {timestamp}");
        let Ok(ClientRequest::Iamat(iamat)) =
            ClientRequest::parse(line.as_bytes(), Dialect::Report)
        else {
            panic!("{line}");
        };
        self.herd.handle_iamat(&iamat, moment(self.now), &mut Vec::new(), &mut self.said)
    }

    /// Lets the time come, and returns what is to be done.
    fn at(&mut self, now: u64) -> Vec<Output> {
        self.now = now;
        self.herd.handle_timeout(moment(now), &mut self.said);
        std::iter::from_fn(|| self.herd.poll_output()).collect()
    }

    fn due(&self) -> Option<u64> {
        self.herd.poll_timeout().map(|at| at.as_nanos().div_ceil(1_000_000) as u64)
    }

    /// Connects a link that was asked for; returns the HELLO.
    fn connected(&mut self, neighbour: u16) -> String {
        let mut out = Vec::new();
        self.herd.link_connected(NeighbourId(neighbour), moment(self.now), &mut out);
        String::from_utf8(out).expect("text")
    }

    fn answer(&mut self, neighbour: u16, line: &str) -> Outcome {
        let to = NeighbourId(neighbour);
        let outcome =
            self.herd.handle_answer(to, line.as_bytes(), moment(self.now), &mut self.said);
        if line.starts_with("RESUME") && outcome == Outcome::Continue {
            // Its settings alone: they fill this room.
            let mut out = Vec::new();
            self.herd.poll_link(to, 1, moment(self.now), &mut out, &mut self.said);
            assert_eq!(out, b"SETTINGS report 1000000 300000\n");
        }
        outcome
    }

    /// What a link says next.
    fn says(&mut self, neighbour: u16) -> Vec<String> {
        let mut out = Vec::new();
        let to = NeighbourId(neighbour);
        self.herd.poll_link(to, 1 << 20, moment(self.now), &mut out, &mut self.said);
        String::from_utf8(out).expect("text").lines().map(str::to_owned).collect()
    }

    /// Brings link 0 up, from a mark of this run.
    fn up(&mut self, mark: u64) {
        assert!(self.at(self.now).contains(&Output::Dial(NeighbourId(0))));
        self.connected(0);
        assert_eq!(self.answer(0, &resume(OWN, mark)), Outcome::Continue);
    }
}

fn moment(now: u64) -> Now {
    let wall = WallTime((1_000_000 + i128::from(now)) * 1_000_000);
    Now { elapsed: Duration::from_millis(now), wall }
}

fn resume(epoch: Epoch, mark: u64) -> String {
    format!("RESUME {:016x} {mark} 00000000000000bb A", epoch.0)
}

#[test]
fn a_link_resumes_from_a_mark_of_its_epoch_within_the_feed() {
    for (line, from) in [
        (resume(OWN, 0), 0),
        (resume(OWN, 2), 2),
        (resume(OWN, 3), 3),
        (resume(OWN, 4), 0),
        (resume(Epoch(0xab), 2), 0),
        ("RESUME 0 0 00000000000000bb A".into(), 0),
    ] {
        let mut bench = Bench::new(1);
        ["a", "b", "c"].into_iter().for_each(|id| bench.tell(id).expect("stored"));
        bench.at(0);
        assert_eq!(bench.connected(0), "HELLO herd/1 Own 00000000000000aa\n");
        bench.said.take();
        assert_eq!(bench.answer(0, &line), Outcome::Continue, "{line}");
        let behind = 3 - from;
        assert_eq!(bench.said.take(), [format!("up 0 from {from} behind {behind}")], "{line}");
        let said = bench.says(0);
        assert_eq!(said.len() as u64, behind + 1, "{line}: {said:?}");
        assert_eq!(said.last().map(String::as_str), Some("MARK 3"));
        assert_eq!(bench.said.take(), [format!("sent 0 all {behind}")]);
    }
}

#[test]
fn without_refill_a_link_begins_at_the_end() {
    let mut bench = Bench::with(1, false, 1);
    bench.tell("a").expect("stored");
    bench.up(0);
    assert_eq!(bench.says(0), ["MARK 1"]);
    bench.tell("b").expect("stored");
    assert_eq!(bench.says(0).len(), 2);
}

#[test]
fn before_resume_only_resume_counts_and_after_it_only_ack() {
    let mut bench = Bench::new(1);
    bench.at(0);
    bench.connected(0);
    assert_eq!(bench.answer(0, "ACK 0"), Outcome::Close);
    assert_eq!(bench.answer(0, "RESUME 0 0 00000000000000bb B"), Outcome::Close);
    assert_eq!(bench.said.take(), ["refused", "wrong name"]);
    assert_eq!(bench.answer(0, &resume(OWN, 0)), Outcome::Continue);
    bench.said.take();
    assert_eq!(bench.answer(0, &resume(OWN, 0)), Outcome::Close);
    assert_eq!(bench.answer(0, "RESUME 0 0 00000000000000bb B"), Outcome::Close);
    assert_eq!(bench.answer(0, "OK"), Outcome::Close);
    assert_eq!(bench.said.take(), ["refused", "refused", "refused"]);
    assert_eq!(bench.answer(0, "ACK 0"), Outcome::Continue);
}

#[test]
fn settings_are_sent_once_after_resume_and_before_anything_else() {
    let mut bench = Bench::new(1);
    bench.tell("a").expect("stored");
    bench.at(0);
    bench.connected(0);
    assert!(bench.says(0).is_empty(), "no RESUME yet");
    let (link, resumed) = (NeighbourId(0), resume(OWN, 0));
    bench.herd.handle_answer(link, resumed.as_bytes(), moment(0), &mut bench.said);
    let mut out = b"full".to_vec();
    bench.herd.poll_link(link, 4, moment(0), &mut out, &mut bench.said);
    assert_eq!(out, b"full", "no room");
    let said = bench.says(0);
    assert_eq!(said[0], "SETTINGS report 1000000 300000");
    assert!(said[1].starts_with("UPDATELOC a ") && said[2] == "MARK 1", "{said:?}");
    bench.tell("b").expect("stored");
    assert_eq!(bench.says(0).len(), 2, "once");
    bench.answer(0, "ACK 2");
    bench.at(HEARTBEAT);
    assert_eq!(bench.says(0), ["MARK 2"]);
}

#[test]
fn the_state_of_a_link_can_be_queried() {
    let mut bench = Bench::new(1);
    let link = NeighbourId(0);
    let ask = |bench: &Bench| {
        let herd = &bench.herd;
        (
            herd.link_is_dialling(link),
            herd.link_is_up(link),
            herd.link_has_pending(link),
            herd.is_settled(),
        )
    };
    assert_eq!(ask(&bench), (false, false, false, true), "no neighbour to send to");
    bench.at(0);
    assert_eq!(ask(&bench), (true, false, false, true));
    bench.connected(0);
    assert_eq!(ask(&bench), (false, false, false, true));
    bench.answer(0, &resume(OWN, 0));
    assert_eq!(ask(&bench), (false, true, true, false), "it owes a MARK");
    bench.says(0);
    assert_eq!(ask(&bench), (false, true, false, false), "the MARK waits for its ACK");
    bench.answer(0, "ACK 0");
    assert_eq!(ask(&bench), (false, true, false, true));
    bench.tell("a").expect("stored");
    assert_eq!(ask(&bench), (false, true, true, false));
    bench.says(0);
    bench.answer(0, "ACK 0");
    assert_eq!(ask(&bench), (false, true, false, false), "of an older MARK");
    bench.answer(0, "ACK 1");
    assert_eq!(ask(&bench), (false, true, false, true));
}

#[test]
fn an_update_that_a_neighbour_misses_is_reported_to_the_observer() {
    let mut bench = Bench::new(2);
    bench.at(0);
    bench.said.take();
    bench.tell("a").expect("stored");
    assert_eq!(bench.said.take(), ["cannot send 0", "cannot send 1"]);
    bench.tell("a").expect("stale");
    assert!(bench.said.take().is_empty(), "what is not news is not sent");
    // B sends it: it does not miss it. A is up, and will receive it.
    bench.connected(0);
    bench.answer(0, &resume(OWN, 1));
    bench.says(0);
    bench.said.take();
    let mut teller = Teller::unidentified();
    for line in [
        "HELLO herd/1 B 00000000000000cc",
        "UPDATELOC b +1-2 500 B +0.000000000",
        "UPDATELOC b +1-2 500 B +0.000000000",
    ] {
        teller.say(&mut bench, line);
    }
    assert!(bench.said.take().is_empty());
    assert_eq!(bench.says(0)[0], "UPDATELOC b +1-2 500 B +0.000000000");
    assert_eq!(bench.said.take(), ["sending 0"]);
}

#[test]
fn a_timestamp_may_be_as_far_in_the_future_as_allowed_and_not_a_nanosecond_more() {
    let mut bench = Bench::new(0);
    assert_eq!(bench.tell_at("a", "1300"), Ok(()));
    assert_eq!(bench.tell_at("a", "1300.000000001"), Err(RequestError::Future));
    assert_eq!(bench.tell_at("a", "1300.0000000009"), Ok(()), "ten decimals are cut to nine");
}

#[test]
fn a_server_is_in_sync_once_each_neighbour_has_marked_or_is_unreachable() {
    let mut alone = Bench::new(0);
    assert_eq!(alone.due(), Some(0));
    alone.at(0);
    assert_eq!((alone.said.take(), alone.due()), (vec!["in sync".to_owned()], None));

    let mut bench = Bench::new(2);
    bench.at(0);
    bench.herd.link_closed(NeighbourId(0), moment(0), &mut bench.said);
    assert!(bench.said.take().is_empty(), "B may have something");
    let mut teller = Teller::unidentified();
    for (line, said) in [
        ("HELLO herd/1 B 00000000000000cc", &[][..]),
        ("UPDATELOC b +1-2 500 B +0.000000000", &["cannot send 0"][..]),
        ("MARK 7", &["caught up with 1 by 1", "in sync"][..]),
        ("MARK 7", &[][..]),
    ] {
        teller.say(&mut bench, line);
        assert_eq!(bench.said.take(), said, "{line}");
    }
}

/// A MARK also comes in the middle, and what is still missing is not known here.
#[test]
fn a_server_is_in_sync_once_a_neighbour_has_sent_all_and_not_after_its_first_batch() {
    let mut bench = Bench::new(1);
    bench.at(0);
    let mut teller = Teller::unidentified();
    teller.say(&mut bench, "HELLO herd/1 A 00000000000000cc");
    for client in 0..1_500 {
        teller.say(&mut bench, &format!("UPDATELOC c{client} +1-2 500 A +0.000000000"));
        if client == 999 {
            bench.said.take();
            teller.say(&mut bench, "MARK 1000");
            assert!(bench.said.take().is_empty() && !bench.herd.is_in_sync(), "500 are missing");
        }
    }
    bench.said.take();
    teller.say(&mut bench, "MARK 1500");
    assert_eq!(bench.said.take(), ["caught up with 0 by 1500", "in sync"]);
}

#[test]
fn an_expected_peer_is_identified_whatever_its_name_but_must_say_hello() {
    let mut bench = Bench::new(2);
    let nobody = |_| false; // An address is not asked for.
    let expected = || Teller { inbound: Peer::Expected(NeighbourId(1)) };
    for line in ["MARK 7", "HELLO herd/2 A 00000000000000cc", ""] {
        let mut teller = expected();
        let said = teller.say_from(&mut bench, line, &nobody);
        assert_eq!(said, (Outcome::Close, format!("? {line}\n")));
        assert_eq!(teller.inbound, Peer::Expected(NeighbourId(1)));
    }
    let mut teller = expected();
    let hello = "HELLO herd/1 A 00000000000000cc";
    let (outcome, answer) = teller.say_from(&mut bench, hello, &nobody);
    assert_eq!(outcome, Outcome::Continue);
    assert!(answer.starts_with("RESUME 0 0 "), "{answer}");
    let inbound = teller.inbound;
    assert!(matches!(inbound, Peer::Identified { neighbour: NeighbourId(1), .. }), "{inbound:?}");
}

#[test]
fn heartbeats_and_time_outs_of_a_link_are_exact_to_the_millisecond() {
    let mut bench = Bench::new(1);
    bench.up(0);
    assert_eq!(bench.says(0), ["MARK 0"]);
    assert_eq!(bench.due(), Some(HEARTBEAT));
    bench.at(HEARTBEAT - 1);
    assert!(bench.says(0).is_empty());
    bench.at(HEARTBEAT);
    assert_eq!(bench.says(0), ["MARK 0"], "a beat, though the first one was not acknowledged");
    assert_eq!(bench.due(), Some(2 * HEARTBEAT));
    bench.at(2 * HEARTBEAT);
    bench.said.take();
    assert!(bench.at(3 * HEARTBEAT - 1).is_empty());
    assert_eq!(bench.at(3 * HEARTBEAT), [Output::CloseLink(NeighbourId(0))]);
    let said = bench.said.take();
    assert_eq!(said[0], "it acknowledged nothing for three heartbeats");
    // It is dialled again after half of 100 ms and up to all of it.
    let pause = bench.due().expect("a dial") - 3 * HEARTBEAT;
    assert!((50..=100).contains(&pause), "{pause} ms");
}

#[test]
fn an_ack_of_an_older_mark_restarts_the_time_out() {
    let mut bench = Bench::new(1);
    bench.up(0);
    bench.says(0);
    bench.now = 2_000;
    bench.tell("a").expect("stored");
    bench.says(0);
    assert_eq!(bench.answer(0, "ACK 0"), Outcome::Continue);
    bench.at(4_000);
    assert!(bench.at(4_999).is_empty());
    assert_eq!(bench.at(5_000), [Output::CloseLink(NeighbourId(0))]);
}

#[test]
fn pauses_double_up_to_five_seconds_each_with_jitter_of_its_own() {
    let mut bench = Bench::new(1);
    let mut most: f64 = 100.0;
    let mut shares = Vec::new();
    for _ in 0..200 {
        let now = bench.due().expect("a dial");
        assert_eq!(bench.at(now), [Output::Dial(NeighbourId(0))]);
        bench.herd.link_closed(NeighbourId(0), moment(now), &mut bench.said);
        let pause = (bench.due().expect("a dial") - now) as f64;
        assert!((most / 2.0..=most + 1.0).contains(&pause), "{pause} of {most} ms");
        shares.push(pause / most);
        most = (2.0 * most).min(5_000.0);
    }
    // All over the upper half, evenly enough for anyone.
    for quarter in [0.5, 0.625, 0.75, 0.875] {
        let count = shares.iter().filter(|&&it| (quarter..quarter + 0.125).contains(&it)).count();
        assert!((25..=75).contains(&count), "{count} of 200 from {quarter}");
    }
    let other = |seed: u128| {
        let mut bench = Bench::with(1, true, seed);
        bench.at(0);
        bench.herd.link_closed(NeighbourId(0), moment(0), &mut bench.said);
        bench.herd.poll_timeout()
    };
    assert_eq!(other(5), other(5));
    assert_ne!(other(5), other(6));
}

#[test]
fn the_backoff_resets_after_ten_seconds_up_and_an_ack() {
    for (acks, up_for, pause) in [(true, 10_000, 100), (true, 9_999, 200), (false, 10_000, 200)] {
        let mut bench = Bench::new(1);
        bench.at(0);
        bench.herd.link_closed(NeighbourId(0), moment(0), &mut bench.said);
        let now = bench.due().expect("a dial");
        bench.now = now;
        bench.up(0);
        bench.says(0);
        if acks {
            bench.answer(0, "ACK 0");
        }
        let end = now + up_for;
        bench.herd.link_closed(NeighbourId(0), moment(end), &mut bench.said);
        let took = bench.due().expect("a dial") - end;
        assert!((pause / 2..=pause).contains(&took), "{took} ms of {pause}: {acks}, {up_for}");
    }
}

#[test]
fn a_feed_is_rewritten_once_dead_records_outweigh_live_ones_and_sixty_four() {
    let mut feed = Feed::default();
    assert_eq!((feed.len(), feed.is_empty()), (0, true));
    let is_alive = |record: Record| record.slot == 1;
    // One live entry: up to 66 records nothing is rewritten, however many are dead.
    feed.append(1);
    for length in 2..=66 {
        feed.append(0);
        feed.compact(1, is_alive);
        assert_eq!((feed.len(), feed.is_empty()), (length, false));
    }
    // The 67th begins a rewrite, which looks at eight records each time until it has caught up.
    for length in 67..=75 {
        feed.append(0);
        feed.compact(1, is_alive);
        assert_eq!(feed.len(), length);
    }
    feed.append(0);
    feed.compact(1, is_alive);
    assert_eq!(feed.len(), 1);
    assert_eq!(feed.after(Seq(0)).collect::<Vec<_>>(), [Record { seq: Seq(1), slot: 1 }]);
    assert_eq!(feed.end(), Seq(76));
}

/// A neighbour that sends the core updates.
struct Teller {
    inbound: Peer,
}

impl Teller {
    /// A connection on which nothing has been said.
    fn unidentified() -> Teller {
        Teller { inbound: Peer::Unidentified }
    }

    /// A connection on which B has said HELLO; and the RESUME.
    fn hello(bench: &mut Bench, epoch: u64) -> (Teller, String) {
        let mut teller = Teller::unidentified();
        let (outcome, answer) = teller.say(bench, &format!("HELLO herd/1 B {epoch:016x}"));
        assert_eq!(outcome, Outcome::Continue);
        (teller, answer)
    }

    fn say(&mut self, bench: &mut Bench, line: &str) -> (Outcome, String) {
        self.say_from(bench, line, &|_| true)
    }

    /// From an address that only some neighbours may call from.
    fn say_from(
        &mut self,
        bench: &mut Bench,
        line: &str,
        admits: &dyn Fn(NeighbourId) -> bool,
    ) -> (Outcome, String) {
        let mut out = Vec::new();
        let (now, said) = (moment(bench.now), &mut bench.said);
        let inbound = &mut self.inbound;
        let outcome =
            bench.herd.handle_peer_line(inbound, line.as_bytes(), admits, now, &mut out, said);
        (outcome, String::from_utf8(out).expect("text"))
    }
}

fn update(number: usize, bytes: usize) -> String {
    let line = format!("UPDATELOC {number:05} +1-2 500 B +0.000000000");
    let padding = "x".repeat(bytes - line.len());
    line.replacen(' ', &format!(" {padding}"), 1)
}

#[test]
fn a_neighbour_is_resumed_from_the_last_mark_of_its_epoch() {
    let mut bench = Bench::new(2);
    let nothing = "RESUME 0 0 00000000000000aa Own\n";
    let (mut first, answer) = Teller::hello(&mut bench, 0xcc);
    assert_eq!(answer, nothing);
    assert_eq!(first.say(&mut bench, "MARK 9"), (Outcome::Continue, "ACK 9\n".into()));
    let (mut second, answer) = Teller::hello(&mut bench, 0xcc);
    assert_eq!(answer, "RESUME 00000000000000cc 9 00000000000000aa Own\n");
    // The second replaces the first.
    assert_eq!(first.say(&mut bench, "MARK 10"), (Outcome::Close, String::new()));
    bench.herd.peer_closed(first.inbound);
    assert_eq!(
        second.say(&mut bench, "MARK 5"),
        (Outcome::Continue, "ACK 5\n".into()),
        "downwards"
    );
    bench.herd.peer_closed(second.inbound);
    assert_eq!(second.say(&mut bench, "MARK 6").0, Outcome::Close, "it has left");
    assert_eq!(
        Teller::hello(&mut bench, 0xcc).1,
        "RESUME 00000000000000cc 5 00000000000000aa Own\n"
    );
    assert_eq!(Teller::hello(&mut bench, 0xcd).1, nothing, "another run");
    assert_eq!(Teller::hello(&mut bench, 0xcc).1, nothing, "the mark is forgotten");
}

#[test]
fn a_silent_neighbour_is_disconnected_after_three_heartbeats_and_ignored_from_then_on() {
    let mut bench = Bench::new(2);
    for link in [0, 1] {
        // The links' own deadlines are not in the way.
        bench.at(0);
        bench.connected(link);
        bench.answer(link, &resume(OWN, 0).replace(" A", if link == 0 { " A" } else { " B" }));
    }
    let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
    bench.now = 500;
    teller.say(&mut bench, "MARK 1");
    bench.said.take();
    let sent_away = Output::ClosePeer(NeighbourId(1));
    bench.at(1_000);
    assert!(!bench.at(3_499).contains(&sent_away));
    assert_eq!(bench.due(), Some(3_500));
    assert!(bench.at(3_500).contains(&sent_away));
    assert!(bench.said.take().contains(&"silent 1".to_owned()));
    assert_eq!(teller.say(&mut bench, "MARK 2"), (Outcome::Close, String::new()));
    assert!(!bench.at(9_000).contains(&sent_away), "once is enough");
}

#[test]
fn a_hello_ends_the_pause_of_the_link_to_its_sender() {
    let mut bench = Bench::new(2);
    let link = NeighbourId(1);
    let fail = |bench: &mut Bench| {
        bench.herd.link_closed(link, moment(bench.now), &mut bench.said);
    };
    // Both can't be reached, until the pauses have grown.
    for _ in 0..20 {
        let now = bench.due().expect("a dial");
        for output in bench.at(now) {
            let Output::Dial(neighbour) = output else { panic!("{output:?}") };
            bench.herd.link_closed(neighbour, moment(now), &mut bench.said);
        }
    }
    let now = bench.now + 1;
    assert!(bench.at(now).is_empty());
    let (_, _) = Teller::hello(&mut bench, 0xcc);
    let first = std::iter::from_fn(|| bench.herd.poll_output());
    assert_eq!(first.collect::<Vec<_>>(), [Output::Dial(link)], "A has sent nothing");
    // It can't be reached all the same. Its next HELLOs don't make us dial without a pause, be they of
    // the same run or of others.
    fail(&mut bench);
    let mut dials = 0;
    for step in 0..10_000 {
        if step % 10 == 0 {
            Teller::hello(&mut bench, 0xcd + step % 7);
        }
        for output in bench.at(now + step) {
            if output == Output::Dial(link) {
                fail(&mut bench);
                dials += 1;
            }
        }
    }
    assert!((2..=5).contains(&dials), "{dials} dials in ten seconds");
}

#[test]
fn a_hello_that_is_refused_ends_no_pause() {
    let mut bench = Bench::new(2);
    bench.at(0);
    for neighbour in [0, 1] {
        bench.herd.link_closed(NeighbourId(neighbour), moment(0), &mut bench.said);
    }
    let due = bench.due().expect("a dial");
    assert!(due >= 50);
    let refused = |line: &str, bench: &mut Bench| {
        let admits_a = |neighbour| neighbour == NeighbourId(0);
        assert_eq!(Teller::unidentified().say_from(bench, line, &admits_a).0, Outcome::Close);
        assert_eq!(bench.due(), Some(due), "{line}");
    };
    refused("HELLO herd/1 B 00000000000000cc", &mut bench);
    refused("HELLO herd/2 A 00000000000000cc", &mut bench);
    refused("HELLO herd/1 D 00000000000000cc", &mut bench);
    refused("HELLO herd/1 Own 00000000000000cc", &mut bench);
}

#[test]
fn a_neighbour_that_comes_and_goes_is_dialled_at_each_hello_as_long_as_it_is_reached() {
    let mut bench = Bench::new(2);
    let link = NeighbourId(1);
    let mut now = 0;
    bench.at(0);
    bench.herd.link_closed(link, moment(0), &mut bench.said);
    for run in 0..20 {
        // It is back after 200 ms, and dies again 200 ms later: before its pauses are reset.
        now += 200;
        let outputs = bench.at(now);
        let (teller, _) = Teller::hello(&mut bench, 0x100 + run);
        let dialled = [outputs, bench.at(now)].concat().contains(&Output::Dial(link));
        assert!(dialled || bench.herd.link_is_dialling(link), "run {run}");
        bench.connected(1);
        let resume = format!("RESUME 0 0 {:016x} B", 0x100 + run);
        assert_eq!(bench.answer(1, &resume), Outcome::Continue);
        bench.says(1);
        bench.answer(1, "ACK 0");
        now += 200;
        bench.at(now);
        bench.herd.link_closed(link, moment(now), &mut bench.said);
        bench.herd.peer_closed(teller.inbound);
        assert!(!bench.at(now).contains(&Output::Dial(link)), "it has not said HELLO again");
    }
}

/// A host that reboots drops what is sent to it in that time, and TCP tries again at ever longer intervals.
#[test]
fn an_attempt_from_before_the_neighbour_was_up_is_abandoned_at_its_hello() {
    let mut bench = Bench::new(2);
    let link = NeighbourId(1);
    assert!(bench.at(0).contains(&Output::Dial(link)));
    Teller::hello(&mut bench, 0xcc);
    assert!(bench.at(999).is_empty(), "it may be answered yet");
    bench.now = 1_000;
    Teller::hello(&mut bench, 0xcd);
    let outputs = bench.at(1_000);
    assert_eq!(outputs[..], [Output::CloseLink(link), Output::Dial(link)]);
    // The next HELLO does not cancel the new attempt.
    bench.now = 1_050;
    Teller::hello(&mut bench, 0xce);
    assert!(bench.at(1_050).is_empty());
}

/// The old connection of a host that was restarted does not end by itself.
#[test]
fn a_hello_of_another_epoch_makes_the_link_send_a_mark() {
    let mut bench = Bench::new(2);
    let link = NeighbourId(1);
    bench.at(0);
    bench.connected(1);
    assert_eq!(bench.answer(1, "RESUME 0 0 00000000000000cc B"), Outcome::Continue);
    assert_eq!(bench.says(1), ["MARK 0"]);
    bench.answer(1, "ACK 0");
    Teller::hello(&mut bench, 0xcc);
    assert!(bench.says(1).is_empty(), "its own run");
    Teller::hello(&mut bench, 0xcd);
    assert_eq!(bench.says(1), ["MARK 0"]);
    bench.herd.link_closed(link, moment(0), &mut bench.said);
    assert_eq!(bench.at(0), [Output::Dial(link)], "its new run is known");
}

#[test]
fn settings_of_a_neighbour_are_compared_and_must_come_first() {
    let hello = |bench: &mut Bench| Teller::hello(bench, 0xcc).0;
    for (line, dialect, clients, ahead) in [
        ("SETTINGS report 1000000 300000", None, None, None),
        (
            "SETTINGS report 01000000 300000 more of a later version, even much more",
            None,
            None,
            None,
        ),
        ("SETTINGS course 1000000 300000", Some("course"), None, None),
        ("SETTINGS lines 5 300001", Some("lines"), Some(5), Some(300_001)),
        ("SETTINGS report 99999999999999999999999 0", None, Some(u64::MAX), Some(0)),
    ] {
        let mut bench = Bench::new(2);
        let mut teller = hello(&mut bench);
        assert_eq!(bench.herd.differing(NeighbourId(1)), None);
        assert_eq!(teller.say(&mut bench, line), (Outcome::Continue, String::new()), "{line}");
        let differing = Differing {
            dialect: dialect.map(str::to_owned),
            max_clients: clients,
            max_future: ahead,
        };
        assert_eq!(bench.herd.differing(NeighbourId(1)), Some(&differing), "{line}");
        assert_eq!(teller.say(&mut bench, "MARK 0"), (Outcome::Continue, "ACK 0\n".into()));
    }
    for line in [
        "SETTINGS",
        "SETTINGS report",
        "SETTINGS report 1000000",
        "SETTINGS report 1000000 300s",
        "SETTINGS report -1 300000",
        "SETTINGS report 1000000 +300000",
        "SETTINGS Report 1000000 300000",
        "SETTINGS report.of.a.long.name 1000000 300000",
        "settings report 1000000 300000",
    ] {
        let mut bench = Bench::new(2);
        let mut teller = hello(&mut bench);
        let refused = (Outcome::Close, format!("? {line}\n"));
        assert_eq!(teller.say(&mut bench, line), refused);
    }
    let line = "SETTINGS report 1000000 300000";
    for before in [line, "MARK 1", "UPDATELOC b +1-2 500 B +0.000000000", "UPDATELOC"] {
        let mut bench = Bench::new(2);
        let mut teller = hello(&mut bench);
        assert_eq!(teller.say(&mut bench, before).0, Outcome::Continue);
        assert_eq!(teller.say(&mut bench, line).0, Outcome::Close, "after {before}");
        assert_eq!(Teller::unidentified().say(&mut bench, line).0, Outcome::Close, "before HELLO");
    }
}

#[test]
fn alternating_epochs_are_duplicate_names_and_restarts_are_not() {
    let is_so = |bench: &Bench| bench.herd.has_namesakes(NeighbourId(1), moment(bench.now));
    let mut bench = Bench::new(2);
    for run in 0..100 {
        // Restarted again and again, and each run is connected twice.
        Teller::hello(&mut bench, run);
        Teller::hello(&mut bench, run);
        assert!(!is_so(&bench), "run {run}");
    }
    for epochs in [&[7, 8][..], &[7, 8, 9], &[7, 8, 9, 10]] {
        let mut bench = Bench::new(2);
        let mut seen = 0;
        for (turn, epoch) in epochs.iter().cycle().take(20).enumerate() {
            bench.now = 4_000 * turn as u64;
            Teller::hello(&mut bench, *epoch);
            seen += usize::from(is_so(&bench));
        }
        assert_eq!(seen, 20 - epochs.len() - 2, "{epochs:?}: from the third return on");
        bench.now += 29_999;
        assert!(is_so(&bench));
        bench.now += 1;
        assert!(!is_so(&bench), "it is over");
        Teller::hello(&mut bench, 7);
        assert!(!is_so(&bench), "one return is none");
    }
}

#[test]
fn catching_up_ends_with_the_first_mark_that_has_no_full_batch_before_it() {
    // A batch of 1,000 updates, one more, and the end.
    let marks = |batches: &[(usize, usize)]| {
        let mut bench = Bench::new(2);
        let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
        let mut number = 0;
        let mut events = Vec::new();
        for &(updates, bytes) in batches {
            for _ in 0..updates {
                number += 1;
                teller.say(&mut bench, &update(number, bytes));
            }
            bench.said.take();
            teller.say(&mut bench, "MARK 1");
            let said = bench.said.take();
            events.push(said.into_iter().find(|it| it.starts_with("caught up")));
        }
        events
    };
    let caught_up = |updates: usize| Some(format!("caught up with 1 by {updates}"));
    assert_eq!(marks(&[(999, 50), (1, 50)]), [caught_up(999), None]);
    assert_eq!(marks(&[(1_000, 50), (1, 50), (1, 50)]), [None, caught_up(1_001), None]);
    assert_eq!(marks(&[(0, 50)]), [caught_up(0)]);
    // 64 KiB with the LFs: 256 lines of 255 bytes are just that.
    assert_eq!(marks(&[(256, 255), (1, 50)]), [None, caught_up(257)]);
    assert_eq!(marks(&[(256, 254)]), [caught_up(256)]);
}

#[test]
fn batches_end_after_a_thousand_updates_or_64_kib() {
    for (updates, bytes, marks) in
        [(999, 60, vec!["MARK 999"]), (1_001, 60, vec!["MARK 1000", "MARK 1001"])]
    {
        let mut bench = Bench::new(2);
        let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
        (0..updates).for_each(|number| drop(teller.say(&mut bench, &update(number, bytes))));
        bench.up(0);
        let said = bench.says(0);
        let seen: Vec<&String> = said.iter().filter(|line| line.starts_with("MARK")).collect();
        assert_eq!(seen, marks);
    }
    // 65,536 bytes of lines with their LFs: 256 of 256.
    let mut bench = Bench::new(2);
    let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
    (0..300).for_each(|number| drop(teller.say(&mut bench, &update(number, 255))));
    bench.up(0);
    let said = bench.says(0);
    assert_eq!((said[256].as_str(), said[301].as_str(), said.len()), ("MARK 256", "MARK 300", 302));
}

/// Else the neighbour would expect more until the next heartbeat.
#[test]
fn a_full_batch_that_ends_the_catching_up_has_a_second_mark_and_later_ones_do_not() {
    for room in [1 << 20, 1] {
        let mut bench = Bench::new(2);
        let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
        (0..1_000).for_each(|number| drop(teller.say(&mut bench, &update(number, 60))));
        bench.up(0);
        let marks = |bench: &mut Bench| {
            let (mut said, now) = (Vec::new(), moment(bench.now));
            while bench.herd.link_has_pending(NeighbourId(0)) {
                let full = said.len() + room;
                bench.herd.poll_link(NeighbourId(0), full, now, &mut said, &mut bench.said);
            }
            let said = String::from_utf8(said).expect("text");
            said.lines().filter(|line| line.starts_with("MARK")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(marks(&mut bench), "MARK 1000 MARK 1000");
        assert!(bench.said.take().contains(&"sent 0 all 1000".to_owned()));
        (1_000..2_000).for_each(|number| drop(teller.say(&mut bench, &update(number, 60))));
        assert_eq!(marks(&mut bench), "MARK 2000");
    }
}

/// The feed goes on with what is not sent to this neighbour: a MARK for it would say nothing new.
#[test]
fn a_mark_that_ends_a_batch_says_all_if_only_what_the_neighbour_said_is_behind_it() {
    let mut bench = Bench::new(2);
    let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
    bench.up(0);
    assert_eq!(bench.says(0), ["MARK 0"]);
    (0..1_000).for_each(|number| drop(teller.say(&mut bench, &update(number, 60))));
    let mut neighbour = Teller::unidentified();
    for line in ["HELLO herd/1 A 00000000000000bb", "UPDATELOC b +1-2 500 C +0.000000000", "MARK 1"]
    {
        neighbour.say(&mut bench, line);
    }
    let said = bench.says(0);
    assert_eq!((said.len(), said.last().map(String::as_str)), (1_001, Some("MARK 1000")));
    assert!(!bench.herd.link_has_pending(NeighbourId(0)) && !bench.herd.is_settled());
    bench.answer(0, "ACK 1000");
    assert!(bench.herd.is_settled());
}

#[test]
fn a_full_output_takes_nothing_more_until_there_is_room() {
    let mut bench = Bench::new(2);
    let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
    (0..3).for_each(|number| drop(teller.say(&mut bench, &update(number, 99))));
    bench.up(0);
    let mut out = Vec::new();
    let link = NeighbourId(0);
    let poll = |bench: &mut Bench, full: usize, out: &mut Vec<u8>| {
        bench.herd.poll_link(link, full, moment(0), out, &mut bench.said);
    };
    poll(&mut bench, 100, &mut out);
    assert_eq!(out.len(), 100, "one update fills it");
    poll(&mut bench, 100, &mut out);
    assert_eq!(out.len(), 100, "it is full");
    poll(&mut bench, 101, &mut out);
    assert_eq!(out.len(), 200, "one byte of room is room for a line");
    poll(&mut bench, 300, &mut out);
    assert_eq!(out.len(), 300, "three updates, and no room for a MARK");
    assert!(bench.herd.link_has_pending(link));
    poll(&mut bench, 301, &mut out);
    assert!(out.ends_with(b"\nMARK 3\n"));
    assert!(!bench.herd.link_has_pending(link));
}

/// Each deadline of a link is met by itself, not when something else of the server is due.
#[test]
fn timeouts_of_a_link_are_independent() {
    let mut bench = Bench::new(1);
    let link = NeighbourId(0);
    let hang_up = [Output::CloseLink(link)];
    let fails = |bench: &mut Bench, reason: &str| {
        let due = bench.due().expect("the end of the time-out");
        assert!(bench.at(due - 1).is_empty());
        bench.said.take();
        assert_eq!(bench.at(due), hang_up);
        assert_eq!(bench.said.take()[0], reason);
    };
    assert_eq!(bench.at(0), [Output::Dial(link)]);
    fails(&mut bench, "it could not be reached in time");
    let due = bench.due().expect("a dial");
    assert!(bench.at(due - 1).is_empty(), "it waits");
    assert_eq!(bench.at(due), [Output::Dial(link)]);
    bench.connected(0);
    fails(&mut bench, "it sent no RESUME in time");
}

/// Another address of the same neighbour is tried at once, has all the time that the first one had, and its
/// failure is followed by the same pause.
#[test]
fn a_further_address_is_tried_without_a_pause_and_with_its_own_time_out() {
    let mut bench = Bench::new(1);
    let link = NeighbourId(0);
    assert_eq!(bench.at(0), [Output::Dial(link)]);
    let mut now = 0;
    for greets in [false, true, false] {
        now += 2 * HEARTBEAT;
        assert!(bench.at(now).is_empty(), "it is being tried");
        if greets {
            bench.connected(0);
        }
        bench.herd.link_tries_again(link, moment(now));
        assert!(bench.at(now).is_empty(), "the event loop knows what to do");
        assert!(bench.herd.link_is_dialling(link));
        assert!(bench.herd.link_is_being_made(link));
    }
    assert_eq!(bench.due(), Some(now + 3 * HEARTBEAT));
    bench.herd.link_closed(link, moment(now), &mut bench.said);
    assert!(!bench.herd.link_is_being_made(link));
    let pause = bench.due().expect("a dial") - now;
    assert!((50..=100).contains(&pause), "{pause} ms: the first pause, since this was one dial");
}

#[test]
fn the_ack_time_out_starts_at_the_first_unacknowledged_mark() {
    let mut bench = Bench::new(1);
    bench.up(0);
    bench.says(0);
    bench.now = 500;
    bench.answer(0, "ACK 0");
    assert!(bench.at(HEARTBEAT).is_empty());
    assert!(bench.herd.link_has_pending(NeighbourId(0)), "a beat is due");
    assert_eq!(bench.says(0), ["MARK 0"]);
    assert!(!bench.herd.link_has_pending(NeighbourId(0)));
    // The server sends beats on it, unanswered, and closes it three heartbeats after the first one.
    for beat in [2 * HEARTBEAT, 3 * HEARTBEAT, 4 * HEARTBEAT - 1] {
        assert!(bench.at(beat).is_empty());
        bench.says(0);
    }
    assert_eq!(bench.at(4 * HEARTBEAT), [Output::CloseLink(NeighbourId(0))]);
}

#[test]
fn a_mark_is_owed_after_updates_that_left_no_room_for_it() {
    let mut bench = Bench::new(1);
    bench.up(0);
    bench.says(0);
    bench.tell("a").expect("stored");
    let mut out = Vec::new();
    let link = NeighbourId(0);
    bench.herd.poll_link(link, 1, moment(0), &mut out, &mut bench.said);
    assert!(out.starts_with(b"UPDATELOC a ") && !out.windows(4).any(|four| four == b"MARK"));
    assert!(bench.herd.link_has_pending(link));
    assert!(!bench.herd.is_settled());
    assert_eq!(bench.says(0), ["MARK 1"]);
}

/// What came from a neighbour's present epoch is not sent back; what came from another epoch of it, or from
/// another neighbour, is sent.
#[test]
fn a_neighbour_is_not_sent_what_its_present_epoch_sent() {
    // The link's neighbour A runs as bb.
    for (teller, epoch, is_reported) in [("A", 0xbb, false), ("A", 0xbc, true), ("B", 0xbb, true)] {
        let mut bench = Bench::new(2);
        let mut inbound = Teller::unidentified();
        let hello = format!("HELLO herd/1 {teller} {epoch:016x}");
        for line in [hello.as_str(), "UPDATELOC b +1-2 500 C +0.000000000", "MARK 1"] {
            inbound.say(&mut bench, line);
        }
        bench.up(0);
        let said = bench.says(0);
        assert_eq!(said.len(), 1 + usize::from(is_reported), "{teller} {epoch:x}: {said:?}");
    }
}

#[test]
fn a_peer_is_accepted_only_from_an_address_of_its_name() {
    let mut bench = Bench::new(2);
    for (line, admitted, outcome, answer) in [
        ("HELLO herd/1 B 00000000000000cc", NeighbourId(0), Outcome::Close, "? HELLO"),
        ("HELLO herd/1 B 00000000000000cc", NeighbourId(1), Outcome::Continue, "RESUME"),
        ("HELLO herd/1 D 00000000000000cc", NeighbourId(0), Outcome::Close, "? HELLO"),
        ("HELLO herd/2 B 00000000000000cc", NeighbourId(1), Outcome::Close, "? HELLO"),
        ("MARK 1", NeighbourId(1), Outcome::Close, "? MARK"),
    ] {
        let admits = |neighbour| neighbour == admitted;
        let (got, said) = Teller::unidentified().say_from(&mut bench, line, &admits);
        assert_eq!(got, outcome);
        assert!(said.starts_with(answer), "{said}");
    }
}

#[test]
fn catching_up_can_be_queried() {
    let mut bench = Bench::new(2);
    let ask = |bench: &Bench| [0, 1].map(|at| bench.herd.is_catching_up(NeighbourId(at)));
    assert_eq!(ask(&bench), [false, false], "nobody is there");
    let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
    assert_eq!(ask(&bench), [false, true]);
    teller.say(&mut bench, &update(1, 60));
    assert_eq!(ask(&bench), [false, true]);
    teller.say(&mut bench, "MARK 1");
    assert_eq!(ask(&bench), [false, false]);
}

/// A neighbour is held to the same border as a client, by the skew that it sends.
#[test]
fn an_update_may_be_as_far_in_the_future_as_allowed_and_not_a_nanosecond_more() {
    let mut bench = Bench::new(2);
    let (mut teller, _) = Teller::hello(&mut bench, 0xcc);
    for (skew, stored) in [("-300.000000000", true), ("-300.000000001", false)] {
        let id = if stored { "a" } else { "b" };
        let line = format!("UPDATELOC {id} +1-2 500 B {skew}");
        assert_eq!(teller.say(&mut bench, &line).0, Outcome::Continue);
        assert_eq!(bench.herd.table().get(id.as_bytes()).is_some(), stored, "{skew}");
    }
}

#[test]
fn a_feed_of_many_live_records_is_rewritten_no_sooner_than_it_is_half_dead() {
    let mut feed = Feed::default();
    while feed.len() < 100 {
        feed.append(1);
    }
    let live = feed.len();
    // Twice as many as are alive, and the sixty-four that are not worth it.
    while feed.len() < 2 * live + 64 {
        let before = feed.len();
        feed.append(0);
        feed.compact(live, |record| record.slot == 1);
        assert_eq!(feed.len(), before + 1);
    }
    (0..100).for_each(|_| {
        feed.append(0);
        feed.compact(live, |record| record.slot == 1);
    });
    assert!(feed.len() < 2 * live, "{} records", feed.len());
}

// Changes while it runs.

#[test]
fn after_a_change_of_the_heartbeat_it_sends_by_the_shorter_and_waits_by_the_longer_for_a_while() {
    for (to, beat, silence) in [(200, 200, 3_000), (5_000, 1_000, 15_000)] {
        let mut bench = Bench::new(1);
        bench.up(0);
        let mut teller = Teller::unidentified();
        teller.say(&mut bench, "HELLO herd/1 A 00000000000000bb");
        bench.says(0);
        bench.answer(0, "ACK 0");
        bench.said.take();
        bench.herd.set_heartbeat(Duration::from_millis(to), moment(0));
        assert_eq!(bench.due(), Some(beat), "the next MARK");
        let mut now = 0;
        while now < silence - 100 {
            now += 100;
            assert_eq!(bench.at(now), [], "at {now}");
            if !bench.says(0).is_empty() {
                assert_eq!(now % beat, 0, "a MARK at {now}");
                bench.answer(0, "ACK 0");
            }
        }
        assert_eq!(bench.said.take(), [""; 0], "no link broke");
        // Silence of a neighbour is judged by the longer one, and then by the new one alone.
        teller.say(&mut bench, "MARK 0");
        bench.at(silence);
        let silent_until = now + 3 * to;
        let (mut early, mut late) = (bench.at(silent_until - 1), bench.at(silent_until));
        early.retain(|output| matches!(output, Output::ClosePeer(_)));
        late.retain(|output| matches!(output, Output::ClosePeer(_)));
        assert_eq!((early, late), (vec![], vec![Output::ClosePeer(NeighbourId(0))]));
    }
}

#[test]
fn a_removed_neighbour_is_neither_dialled_nor_served_and_its_id_is_used_again() {
    let mut bench = Bench::new(2);
    bench.up(0);
    bench.says(0);
    let mut teller = Teller::unidentified();
    teller.say(&mut bench, "HELLO herd/1 A 00000000000000bb");
    teller.say(&mut bench, "UPDATELOC a +1-2 500 A +0.000000000");
    teller.say(&mut bench, "MARK 7");
    bench.said.take();
    let (gone, stays) = (NeighbourId(0), NeighbourId(1));
    bench.herd.remove_neighbour(gone, &mut bench.said);
    assert_eq!(teller.say(&mut bench, "MARK 8").0, Outcome::Close, "its connection");
    let mut again = Teller::unidentified();
    assert_eq!(again.say(&mut bench, "HELLO herd/1 A 00000000000000bb").0, Outcome::Close);
    bench.said.take();
    bench.tell("b").expect("stored");
    assert_eq!(bench.said.take(), ["cannot send 1"], "nobody misses it on the other link");
    assert!(!bench.herd.link_is_up(gone) && !bench.herd.link_has_pending(gone));
    bench.herd.link_closed(gone, moment(0), &mut bench.said);
    bench.herd.link_tries_again(gone, moment(0));
    for now in [HEARTBEAT, 10 * HEARTBEAT, 100 * HEARTBEAT] {
        let outputs = bench.at(now);
        assert!(outputs.iter().all(|output| *output == Output::Dial(stays) || *output == Output::CloseLink(stays)));
    }

    // The next one gets its place, but neither its mark nor its sessions.
    assert_eq!(bench.herd.add_neighbour("C", moment(bench.now)), Some(gone));
    assert_eq!(bench.herd.name(gone), "C");
    assert_eq!(bench.at(bench.now), [Output::Dial(gone)]);
    bench.connected(0);
    assert_eq!(bench.answer(0, "RESUME 0 0 00000000000000cc C"), Outcome::Continue);
    assert_eq!(bench.says(0).len(), 3, "also what A has sent");
    let mut new = Teller::unidentified();
    let (_, resume) = new.say(&mut bench, "HELLO herd/1 C 00000000000000bb");
    assert_eq!(resume, "RESUME 0 0 00000000000000aa Own\n", "its epoch was A's: no mark is left");
    assert_eq!(teller.say(&mut bench, "MARK 9").0, Outcome::Close, "a line of A's old connection");
    assert_eq!(new.say(&mut bench, "MARK 1").0, Outcome::Continue);
    assert_eq!(bench.herd.add_neighbour("A", moment(bench.now)), Some(NeighbourId(2)));
}

#[test]
fn a_server_without_its_last_missing_neighbour_is_in_sync() {
    let mut bench = Bench::new(1);
    bench.at(0);
    assert!(bench.said.take().is_empty());
    bench.herd.remove_neighbour(NeighbourId(0), &mut bench.said);
    assert_eq!(bench.said.take(), ["in sync"]);
    assert_eq!(bench.due(), None, "nothing is left to do");
}

#[test]
fn a_neighbour_that_has_moved_is_dialled_at_once_and_resumes_from_its_mark() {
    let mut bench = Bench::new(2);
    bench.tell("a").expect("stored");
    bench.up(1);
    bench.says(0);
    bench.said.take();
    bench.herd.neighbour_moved(NeighbourId(0), moment(5));
    assert_eq!(bench.at(5), [Output::Dial(NeighbourId(0))], "without a pause, and no other one");
    bench.connected(0);
    assert_eq!(bench.answer(0, &resume(OWN, 1)), Outcome::Continue);
    assert_eq!(bench.says(0), ["MARK 1"]);
}
