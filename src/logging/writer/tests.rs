use std::io::Write;
use std::sync::mpsc;

use super::*;
use crate::limits::LOG_PAUSE_BYTES;
use crate::logging::Format;
use crate::logging::layout::Envelope;
use crate::logging::output::Lines;

/// A disk that accepts a write when the test permits it, and reports what was written.
struct Slow {
    permits: mpsc::Receiver<io::Result<usize>>,
    taken: mpsc::Sender<Vec<u8>>,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.permits.recv() {
            Ok(permit) => permit?.min(bytes.len()),
            Err(_) => bytes.len(),
        };
        let _ = self.taken.send(bytes[..count].to_vec());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn slow_disk() -> (Writer, mpsc::Sender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>) {
    disk_with(LOG_PAUSE)
}

/// A disk that is not slow, whose thread pauses for so long after each write.
fn disk_that_pauses(pause: Duration) -> (Writer, mpsc::Receiver<Vec<u8>>) {
    let (writer, _, seen) = disk_with(pause);
    (writer, seen)
}

fn disk_with(
    pause: Duration,
) -> (Writer, mpsc::Sender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>) {
    let (permit, permits) = mpsc::channel();
    let (taken, seen) = mpsc::channel();
    let disk = Slow { permits, taken };
    let layout = Layout { format: Format::Report, envelope: Envelope::Line };
    let own = OwnRecords { server: "A".to_owned(), zone: TimeZone::UTC, layout };
    let output = Box::new(Lines::new(disk));
    let writer = Writer::start_with(Destination::File("A".into()), output, own, pause);
    let writer = writer.expect("a thread");
    (writer, permit, seen)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[test]
fn records_that_the_disk_cannot_follow_are_dropped_and_counted() {
    let (writer, permit, seen) = slow_disk();
    let line = vec![b'x'; LOG_QUEUE_BYTES / 2 - 1];
    let piece = [line, b"\n".to_vec()].concat();
    for _ in 0..5 {
        writer.push(&piece, 0);
    }
    drop(permit);
    assert!(writer.flush(soon()));
    let written = seen.try_iter().flatten().collect::<Vec<u8>>();
    let last = String::from_utf8(written[2 * piece.len()..].to_vec()).expect("text");
    assert!(written.starts_with(&piece.repeat(2)) && !last.starts_with('x'), "{last}");
    assert!(last.ends_with("WARNING: 3 records were dropped: the disk could not keep up.\n"));
}

#[test]
fn a_full_disk_costs_its_records_and_nothing_else() {
    let (writer, permit, seen) = slow_disk();
    let full = || Err(io::ErrorKind::StorageFull.into());
    for answer in [Ok(3), full()] {
        permit.send(answer).expect("the disk is there");
    }
    writer.push(b"first\n", 0);
    let mut written = seen.recv_timeout(LONG).expect("the beginning is written");
    drop(permit);
    writer.push(b"second\n", 0);
    assert!(writer.flush(soon()));
    written.extend(seen.try_iter().flatten());
    let written = String::from_utf8(written).expect("text");
    assert!(written.starts_with("fir"), "{written}");
    assert!(written.contains("1 record was dropped"), "{written}");
    assert!(written.ends_with("second\n"), "{written}");
}

#[test]
fn a_pause_ends_by_itself_and_then_the_thread_sleeps_until_it_is_called() {
    let (writer, seen) = disk_that_pauses(LOG_PAUSE);
    for text in [b"first\n", b"other\n"] {
        writer.push(text, 0);
        assert_eq!(seen.recv_timeout(LONG).expect("it is written"), text);
    }
    let begin = Instant::now();
    while !writer.handle.shared.is_asleep() {
        assert!(begin.elapsed() < LONG, "it has a timer of its own");
        thread::yield_now();
    }
}

#[test]
fn a_pause_ends_for_who_waits_for_much_text_for_a_reopen_and_at_the_end() {
    let (writer, seen) = disk_that_pauses(2 * LONG);
    let pauses = |writer: &Writer| {
        while !writer.handle.shared.is_asleep() {
            writer.push(b"-\n", 0);
            assert!(writer.flush(soon()));
        }
        seen.try_iter().for_each(drop);
        writer.push(b"a\n", 0);
        assert_eq!(seen.recv_timeout(LONG).expect("it was asleep"), b"a\n");
        let begin = Instant::now();
        while !writer.handle.shared.is_pausing() {
            assert!(begin.elapsed() < LONG, "it does not pause");
            thread::yield_now();
        }
        writer.push(b"b\n", 0);
    };
    pauses(&writer);
    assert!(writer.flush(soon()), "somebody waits");
    assert_eq!(seen.recv_timeout(LONG).expect("it was written"), b"b\n");
    pauses(&writer);
    writer.push(&b"x\n".repeat(LOG_PAUSE_BYTES / 2), 0);
    assert_eq!(seen.recv_timeout(LONG).expect("it is much").len(), LOG_PAUSE_BYTES + 2);
    pauses(&writer);
    writer.reopen();
    assert_eq!(seen.recv_timeout(LONG).expect("another file comes"), b"b\n");
    pauses(&writer);
    drop(writer);
    assert_eq!(seen.recv_timeout(LONG).expect("it ends"), b"b\n");
}

/// Longer than a machine is slow.
const LONG: Duration = Duration::from_secs(30);
