//! Claim: values print as they were read, framing does not depend on how bytes were split, the table does not
//! depend on the order of its updates, and no cursor misses a change.

use std::collections::BTreeMap;

use herd_mio::application::{Line, LineBuffer};
use herd_mio::herd::{Applied, NeighbourId, Source, Table};
use herd_mio::protocol::{
    ClientRequest, Decimal, Dialect, Epoch, FromAcceptor, FromDialler, Location, Seq, Skew,
    Timestamp, Update, UpdateRef, Written, write_ack, write_hello, write_mark, write_resume,
};
use proptest::prelude::*;

/// An update as its fields, to be borrowed from.
#[derive(Clone, Debug)]
struct Fact {
    id: String,
    location: String,
    timestamp: String,
    server: String,
    skew: i64,
}

impl Fact {
    fn update(&self) -> UpdateRef<'_> {
        UpdateRef {
            id: self.id.as_bytes(),
            location: self.location.as_bytes(),
            timestamp: Timestamp::parse(self.timestamp.as_bytes()).expect("a timestamp"),
            server: self.server.as_bytes(),
            skew: Skew(i128::from(self.skew)),
        }
    }
}

/// Few ids, times and places, so that updates clash in every field.
fn fact() -> impl Strategy<Value = Fact> {
    let id = prop::sample::select(vec!["a", "b", "c", "d"]);
    let location = prop::sample::select(vec!["+1+2", "+1.0+2.0", "-33.8+151.2"]);
    let timestamp = prop::sample::select(vec!["10", "10.0", "010", "10.0000000001", "11", "9.5"]);
    let server = prop::sample::select(vec!["Hands", "Welsh"]);
    (id, location, timestamp, server, -2i64..2).prop_map(
        |(id, location, timestamp, server, skew)| Fact {
            id: id.into(),
            location: location.into(),
            timestamp: timestamp.into(),
            server: server.into(),
            skew,
        },
    )
}

fn content(table: &Table) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entry = |entry: &herd_mio::herd::Entry| (entry.update.id().to_vec(), entry.update.line());
    table.iter().map(entry).collect()
}

fn frame(pieces: &[&[u8]], limit: usize) -> Vec<String> {
    let mut buffer = LineBuffer::default();
    let mut lines = Vec::new();
    for piece in pieces {
        buffer.push(piece);
        while let Some(line) = buffer.next_line(limit) {
            lines.push(format!("{line:?}"));
        }
    }
    buffer.end();
    while let Some(line) = buffer.next_line(limit) {
        lines.push(format!("{line:?}"));
    }
    lines
}

proptest! {
    #[test]
    fn framing_does_not_depend_on_the_split(
        text in prop::collection::vec(prop::sample::select(b"ab \r\n".to_vec()), 0..600),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        limit in 1usize..300,
    ) {
        let whole = frame(&[&text], limit);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&frame(&pieces, limit), &whole);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        prop_assert_eq!(&frame(&bytes, limit), &whole);
    }

    #[test]
    fn lines_come_out_as_they_went_in(lines in prop::collection::vec("[a-z \t]{0,20}", 0..20)) {
        let text: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
        let whole: Vec<String> =
            lines.iter().map(|line| format!("{:?}", Line::Whole(line.as_bytes()))).collect();
        prop_assert_eq!(frame(&[&text], 20), whole);
    }

    #[test]
    fn an_update_prints_as_it_was_read(
        id in "[^ \t\r\n\x0b\x0c]{1,40}",
        location in "[+-][0-8][0-9]\\.[0-9]{1,6}[+-]1[0-7][0-9]\\.[0-9]{1,6}",
        timestamp in "[0-9]{1,18}(\\.[0-9]{1,12})?",
        server in "[A-Za-z0-9_-]{1,64}",
        skew in -999_999_999_999_999_999_999_999_999i128..999_999_999_999_999_999_999_999_999,
    ) {
        let update = UpdateRef {
            id: id.as_bytes(),
            location: location.as_bytes(),
            timestamp: Timestamp::parse(timestamp.as_bytes()).expect("a timestamp"),
            server: server.as_bytes(),
            skew: Skew(skew),
        };
        let mut line = Vec::new();
        update.write_updateloc(&mut line);
        let read = match FromDialler::parse(line.strip_suffix(b"\n").expect("an LF")) {
            Ok(FromDialler::Update(read)) => read,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert!(read.newness(&update).is_eq());
        prop_assert_eq!(read.skew, update.skew);
        let mut again = Vec::new();
        read.write_updateloc(&mut again);
        prop_assert_eq!(&again, &line);
        // And as it is kept, first or after another one of its client.
        let former = UpdateRef { location: b"+1+2", server: b"S", skew: Skew(1), ..update };
        let mut later = Update::new(&former);
        later.assign(&update, &Written);
        for kept in [Update::new(&update), later] {
            prop_assert_eq!(kept.line(), &line[..]);
            prop_assert!(kept.is_line(line.trim_ascii_end()) && !kept.is_line(&line));
            prop_assert!(kept.get().newness(&update).is_eq());
            prop_assert_eq!(
                (kept.id(), kept.age(), kept.get().skew, kept.get().timestamp.nanos),
                (update.id, update.age(), update.skew, update.timestamp.nanos)
            );
            prop_assert!(kept.is_older_than(&former) == former.newness(&update).is_gt());
        }
    }

    #[test]
    fn greetings_marks_and_acknowledgements_print_as_they_were_read(
        epoch in 1u64.., own in any::<u64>(), seq in any::<u64>(), name in "[A-Za-z0-9_-]{1,64}",
    ) {
        let (epoch, own, seq) = (Epoch(epoch), Epoch(own), Seq(seq));
        for mark in [None, Some((epoch, seq))] {
            let mut line = Vec::new();
            write_resume(mark, own, name.as_bytes(), &mut line);
            line.pop();
            let resume = FromAcceptor::Resume { mark, epoch: own, name: name.as_bytes() };
            prop_assert_eq!(FromAcceptor::parse(&line), Ok(resume));
        }
        let mut line = Vec::new();
        write_ack(seq, &mut line);
        line.pop();
        prop_assert_eq!(FromAcceptor::parse(&line), Ok(FromAcceptor::Ack(seq)));
        let mut line = Vec::new();
        write_mark(seq, &mut line);
        line.pop();
        prop_assert!(matches!(FromDialler::parse(&line), Ok(FromDialler::Mark(read)) if read == seq));
        let mut line = Vec::new();
        write_hello(name.as_bytes(), epoch, &mut line);
        line.pop();
        let is_same = matches!(FromDialler::parse(&line),
            Ok(FromDialler::Hello { server, epoch: read })
                if server == name.as_bytes() && read == epoch);
        prop_assert!(is_same);
    }

    #[test]
    fn no_bytes_make_a_parser_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        for dialect in [Dialect::Report, Dialect::Course] {
            let _ = ClientRequest::parse(&line, dialect);
        }
        let _ = (FromDialler::parse(&line), FromAcceptor::parse(&line), Location::parse(&line));
    }

    #[test]
    fn no_field_makes_a_parser_panic(fields in prop::collection::vec("[-+0-9.NaEx/CRSWG_48]{0,20}", 3)) {
        let line = fields.join(" ");
        for command in ["IAMAT", "WHATSAT", "UPDATELOC", "MARK", "SETTINGS", "HELLO herd/1"] {
            let line = format!("{command} {line}");
            let _ = ClientRequest::parse(line.as_bytes(), Dialect::Report);
            let _ = FromDialler::parse(line.as_bytes());
        }
    }

    #[test]
    fn degrees_minutes_and_seconds_mean_what_decimal_degrees_do(
        degrees in 0u32..90, minutes in 0u32..60, seconds in 0u32..60, thousandths in 0u32..1000,
    ) {
        let text = format!("-{degrees:02}{minutes:02}{seconds:02}.{thousandths:03}+0");
        let location = Location::parse(text.as_bytes()).expect("a location");
        let expected = f64::from(degrees)
            + f64::from(minutes) / 60.0
            + (f64::from(seconds) + f64::from(thousandths) / 1000.0) / 3600.0;
        prop_assert!((location.latitude.degrees() + expected).abs() < 1e-9);
    }

    #[test]
    fn decimals_are_ordered_as_numbers_are(a in 0u64..1_000_000, b in 0u64..1_000_000) {
        let text = |value: u64| format!("{:04}.{:03}0", value / 1000, value % 1000);
        let (left, right) = (text(a), text(b));
        let left = Decimal::parse(left.as_bytes()).expect("a number");
        let right = Decimal::parse(right.as_bytes()).expect("a number");
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
    }

    #[test]
    fn newest_wins_in_a_total_order(a in fact(), b in fact(), c in fact()) {
        let (x, y, z) = (a.update(), b.update(), c.update());
        prop_assert_eq!(x.newness(&y), y.newness(&x).reverse());
        if x.newness(&y).is_le() && y.newness(&z).is_le() {
            prop_assert!(x.newness(&z).is_le());
        }
        let mut lines = (Vec::new(), Vec::new());
        x.write_updateloc(&mut lines.0);
        y.write_updateloc(&mut lines.1);
        if a.id == b.id {
            prop_assert_eq!(x.newness(&y).is_eq(), lines.0 == lines.1);
        }
    }

    #[test]
    fn a_table_depends_on_its_updates_and_not_on_their_order(
        updates in prop::collection::vec(fact(), 0..40),
        order in any::<u64>(),
        routes in prop::collection::vec(0u16..3, 40),
    ) {
        let mut first = Table::new(1_000, 1);
        for fact in &updates {
            first.apply(&fact.update(), None);
        }
        // Shuffled, each sent twice, by other routes.
        let mut shuffled: Vec<(usize, &Fact)> = updates.iter().chain(&updates).enumerate().collect();
        shuffled.sort_by_key(|(place, _)| (*place as u64 + 1).wrapping_mul(order | 1).rotate_left(17));
        let mut second = Table::new(1_000, 2);
        for (place, fact) in shuffled {
            let neighbour = NeighbourId(routes[place % routes.len()]);
            second.apply(&fact.update(), Some(Source { neighbour, epoch: Epoch(9) }));
        }
        prop_assert_eq!(content(&first), content(&second));
    }

    #[test]
    fn a_cursor_misses_no_change_whatever_is_compacted(
        ids in prop::collection::vec(0u32..30, 1..2_000),
        pauses in prop::collection::vec(1usize..200, 1..20),
        bound in 5usize..60,
    ) {
        let mut table = Table::new(bound, 3);
        let mut reader = BTreeMap::new();
        let mut cursor = Seq(0);
        let mut pauses = pauses.iter().cycle();
        let mut left = 0;
        for (time, id) in ids.iter().enumerate() {
            let fact = Fact {
                id: id.to_string(),
                location: "+1+2".into(),
                timestamp: (time + 1).to_string(),
                server: "Hands".into(),
                skew: 0,
            };
            let stored = matches!(table.apply(&fact.update(), None), Applied::Stored(_));
            prop_assert!(stored, "each update is the newest of all");
            if left == 0 {
                catch_up(&table, &mut cursor, &mut reader);
                left = *pauses.next().expect("a cycle");
            }
            left -= 1;
        }
        catch_up(&table, &mut cursor, &mut reader);
        let known = content(&table);
        for (id, line) in &known {
            prop_assert_eq!(reader.get(id), Some(line));
        }
        prop_assert!(known.len() <= bound);
        prop_assert_eq!(known.len(), table.len());
        prop_assert_eq!(table.changes_after(Seq(0)).filter(|(_, entry)| entry.is_some()).count(), known.len());
        prop_assert!(table.feed_len() <= 4 * bound + 200, "the feed is never compacted");
    }
}

fn catch_up(table: &Table, cursor: &mut Seq, reader: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    for (seq, entry) in table.changes_after(*cursor) {
        assert!(seq > *cursor, "a cursor goes up");
        *cursor = seq;
        if let Some(entry) = entry {
            reader.insert(entry.update.id().to_vec(), entry.update.line());
        }
    }
}

/// The evicted tenth has the least age keys, the new entry among them (section 5).
#[test]
fn a_full_table_evicts_the_oldest_tenth_and_raises_its_floor() {
    let fact = |id: &str, timestamp: u64| Fact {
        id: id.into(),
        location: "+1+2".into(),
        timestamp: timestamp.to_string(),
        server: "Hands".into(),
        skew: 1_000_000_000,
    };
    let mut table = Table::new(20, 7);
    for number in 0..20 {
        table.apply(&fact(&format!("c{number:02}"), 100 + number).update(), None);
    }
    assert_eq!(table.len(), 20);
    // Two are evicted: the new one, which is older than all, and the oldest known one.
    assert_eq!(table.apply(&fact("old", 5).update(), None), Applied::BelowFloor);
    assert_eq!(table.len(), 19);
    assert!(table.get(b"c00").is_none());
    assert!(table.get(b"c01").is_some());
    // What is not above the floor is not stored, however much room there is.
    assert_eq!(table.apply(&fact("c00", 100).update(), None), Applied::BelowFloor);
    assert_eq!(table.apply(&fact("b99", 100).update(), None), Applied::BelowFloor);
    assert!(matches!(table.apply(&fact("c000", 100).update(), None), Applied::Stored(_)));
    assert_eq!(table.len(), 20);
    assert!(matches!(table.apply(&fact("new", 500).update(), None), Applied::Stored(_)));
    assert_eq!(table.len(), 19);
    assert!(table.get(b"c000").is_none() && table.get(b"c01").is_none());
    assert!(table.get(b"new").is_some());
}

/// A client's timestamp may be ahead of the time of receipt; then the time of receipt is its age.
#[test]
fn the_age_is_the_lesser_of_the_timestamp_and_the_time_of_receipt() {
    let fact = |id: &str, timestamp: u64, seconds: i64| Fact {
        id: id.into(),
        location: "+1+2".into(),
        timestamp: timestamp.to_string(),
        server: "Hands".into(),
        skew: seconds * 1_000_000_000,
    };
    let mut table = Table::new(10, 7);
    assert!(table.is_empty());
    // Received at 90, 100 … 170, 180 by their skews; the timestamp of the first is far ahead of that.
    table.apply(&fact("ahead", 9_000, -8_910).update(), None);
    (1..10).for_each(|number| {
        let late = fact(&format!("c{number}"), 90 + 10 * number, 5_000);
        table.apply(&late.update(), None);
    });
    assert_eq!((table.len(), table.is_empty()), (10, false));
    assert!(matches!(table.apply(&fact("new", 500, 0).update(), None), Applied::Stored(_)));
    assert!(
        table.get(b"ahead").is_none(),
        "the least of age, though its timestamp is the greatest"
    );
    assert!(table.get(b"c1").is_some());
    // The floor is at 90, by either of the two.
    assert_eq!(table.apply(&fact("a", 90, 700).update(), None), Applied::BelowFloor);
    assert_eq!(table.apply(&fact("a", 700, -610).update(), None), Applied::BelowFloor);
    // At 105 c1 is older, and goes.
    assert!(matches!(table.apply(&fact("a", 700, -595).update(), None), Applied::Stored(_)));
    assert!(table.get(b"c1").is_none());
}

/// Far more clients than the table holds: it stays within its bound, and keeps the newest.
#[test]
fn a_table_of_any_load_holds_the_newest() {
    let mut table = Table::new(100, 11);
    for number in 0..100_000u32 {
        let fact = Fact {
            id: format!("client-{number}"),
            location: "+1+2".into(),
            timestamp: number.to_string(),
            server: "Hands".into(),
            skew: 0,
        };
        table.apply(&fact.update(), None);
        assert!(table.len() <= 100);
    }
    assert!(table.len() >= 90);
    for number in 99_910..100_000 {
        assert!(table.get(format!("client-{number}").as_bytes()).is_some(), "{number}");
    }
    let records = table.feed_len();
    assert!((table.len()..=400).contains(&records), "{records} records");
}
