//! Claim: a connection behaves the same whatever its stream does: reads and writes of any size, `WouldBlock`
//! and errors at any point.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use herd_mio::application::{Closed, ConnectionId, Line, ListenerId, Origin};
use herd_mio::event_loop::{Buffers, Connection, ConnectionState, Flush, Received, Transport};

/// One step of a script: the result of the next read or write.
#[derive(Debug)]
enum ScriptStep {
    Bytes(&'static [u8]),
    End,
    Takes(usize),
    Fails(ErrorKind),
}

/// A stream that follows a script, and fails the test if a call is not in it.
#[derive(Debug, Default)]
struct Script {
    reads: VecDeque<ScriptStep>,
    writes: VecDeque<ScriptStep>,
    written: Vec<u8>,
    is_shut_down: bool,
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reads.pop_front() {
            Some(ScriptStep::Bytes(bytes)) => {
                let count = bytes.len().min(buffer.len());
                buffer[..count].copy_from_slice(&bytes[..count]);
                if count < bytes.len() {
                    self.reads.push_front(ScriptStep::Bytes(&bytes[count..]));
                }
                Ok(count)
            }
            Some(ScriptStep::End) => Ok(0),
            Some(ScriptStep::Fails(kind)) => Err(kind.into()),
            step => panic!("a read that is not in the script: {step:?}"),
        }
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writes.pop_front() {
            Some(ScriptStep::Takes(most)) => {
                let count = most.min(bytes.len());
                self.written.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            Some(ScriptStep::Fails(kind)) => Err(kind.into()),
            step => panic!("a write that is not in the script: {step:?}"),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Script {
    fn shut_down_writing(&mut self) -> io::Result<()> {
        self.is_shut_down = true;
        Ok(())
    }
}

struct Fixture {
    connection: Connection<Script>,
    buffers: Buffers,
    scratch: Vec<u8>,
}

impl Fixture {
    fn new(reads: Vec<ScriptStep>, writes: Vec<ScriptStep>) -> Fixture {
        let script = Script { reads: reads.into(), writes: writes.into(), ..Script::default() };
        let (id, peer) = (ConnectionId { slot: 0, generation: 1 }, ([127, 0, 0, 1], 1).into());
        let (origin, state) = (Origin::Accepted(ListenerId(0)), ConnectionState::Open);
        let mut connection = Connection::new(id, script, peer, origin, state, Duration::ZERO);
        connection.ready.readable = true;
        Fixture { connection, buffers: Buffers::default(), scratch: vec![0; 8] }
    }

    fn receive(&mut self) -> io::Result<Received> {
        self.connection.receive(&mut self.scratch, &mut self.buffers)
    }

    /// Reads while the connection is readable, and echoes each line with a `!`.
    fn echo(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while self.connection.ready.readable {
            self.receive().expect("a read that works");
            while let Some((line, output, _)) = self.connection.next_line(64, &mut self.buffers) {
                let (Line::Whole(line) | Line::Unfinished(line) | Line::TooLong(line)) = line;
                lines.push(line.to_vec());
                output.extend_from_slice(line);
                output.push(b'!');
            }
        }
        lines
    }
}

#[test]
fn a_short_read_ends_readability_and_a_full_one_does_not() {
    let mut fixture =
        Fixture::new(vec![ScriptStep::Bytes(b"12345678"), ScriptStep::Bytes(b"9\n")], vec![]);
    assert_eq!(fixture.receive().expect("bytes"), Received::Bytes(8));
    assert!(fixture.connection.ready.readable, "there may be more");
    assert_eq!(fixture.receive().expect("bytes"), Received::Bytes(2));
    assert!(!fixture.connection.ready.readable, "a short read has emptied the socket");
}

#[test]
fn a_short_read_is_read_on_when_the_other_side_has_closed() {
    let mut fixture = Fixture::new(vec![ScriptStep::Bytes(b"a\n"), ScriptStep::End], vec![]);
    fixture.connection.ready.read_closed = true;
    assert_eq!(fixture.echo(), [b"a"]);
    assert!(fixture.connection.has_ended(), "no further edge would have reported the end");
    assert!(fixture.connection.is_read_to_its_end());
}

#[test]
fn a_short_read_is_read_on_once_urgent_data_has_come() {
    let pieces = [
        ScriptStep::Bytes(b"a\n"),
        ScriptStep::Bytes(b"b\n"),
        ScriptStep::Fails(ErrorKind::WouldBlock),
    ];
    let mut fixture = Fixture::new(pieces.into(), vec![]);
    fixture.connection.ready.has_urgent = true;
    assert_eq!(fixture.echo(), [b"a", b"b"], "a read ends early at the urgent mark");
}

#[test]
fn would_block_and_interrupted_lose_nothing() {
    let mut fixture = Fixture::new(
        vec![
            ScriptStep::Bytes(b"one\ntwo"),
            ScriptStep::Fails(ErrorKind::WouldBlock),
            ScriptStep::Fails(ErrorKind::Interrupted),
            ScriptStep::Bytes(b"\r\nth"),
            ScriptStep::Bytes(b"ree"),
            ScriptStep::End,
        ],
        vec![],
    );
    let mut lines = Vec::new();
    while !fixture.connection.has_ended() {
        fixture.connection.ready.readable = true;
        lines.extend(fixture.echo());
    }
    assert_eq!(lines, [&b"one"[..], b"two", b"three"]);
}

#[test]
fn would_block_ends_readability_and_an_interruption_does_not() {
    let steps =
        vec![ScriptStep::Fails(ErrorKind::Interrupted), ScriptStep::Fails(ErrorKind::WouldBlock)];
    let mut fixture = Fixture::new(steps, vec![]);
    assert_eq!(fixture.receive().expect("an interruption"), Received::Nothing);
    assert!(fixture.connection.ready.readable, "the kernel has not said that there is nothing");
    assert_eq!(fixture.receive().expect("nothing"), Received::Nothing);
    assert!(!fixture.connection.ready.readable, "now it has");
}

#[test]
fn an_error_is_returned_to_the_caller() {
    let mut fixture = Fixture::new(vec![ScriptStep::Fails(ErrorKind::ConnectionReset)], vec![]);
    let error = fixture.receive().expect_err("the connection is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut fixture = Fixture::new(vec![], vec![ScriptStep::Fails(ErrorKind::BrokenPipe)]);
    fixture.connection.output(&mut fixture.buffers).extend_from_slice(b"answer\n");
    assert_eq!(fixture.connection.flush().expect_err("broken").kind(), ErrorKind::BrokenPipe);
}

#[test]
fn output_arrives_whole_whatever_the_kernel_takes_at_a_time() {
    for step in 1..8 {
        let writes = std::iter::repeat_with(|| {
            [ScriptStep::Takes(step), ScriptStep::Fails(ErrorKind::WouldBlock)]
        });
        let mut fixture = Fixture::new(vec![], writes.take(8).flatten().collect());
        fixture.connection.output(&mut fixture.buffers).extend_from_slice(b"answer\n");
        let mut turns = 0;
        while fixture.connection.unsent() > 0 {
            fixture.connection.ready.writable = true;
            fixture.connection.flush().expect("a write that works");
            turns += 1;
            assert!(turns <= 16, "it makes no progress");
        }
        assert_eq!(fixture.connection.transport.written, b"answer\n", "{step} bytes at a time");
        fixture.connection.reclaim(&mut fixture.buffers);
        assert_eq!(fixture.connection.buffered(), 0);
    }
}

#[test]
fn nothing_is_written_until_the_kernel_reports_room() {
    let mut fixture = Fixture::new(vec![], vec![ScriptStep::Fails(ErrorKind::WouldBlock)]);
    fixture.connection.output(&mut fixture.buffers).extend_from_slice(b"answer\n");
    assert_eq!(
        fixture.connection.flush().expect("blocked"),
        Flush { wanted: 7, taken: 0, left: 7 }
    );
    // The script has no further write: a second one would fail the test.
    assert_eq!(
        fixture.connection.flush().expect("blocked"),
        Flush { wanted: 7, taken: 0, left: 7 }
    );
}

#[test]
fn a_closing_connection_is_flushed_shut_down_and_read_to_its_end() {
    let reads = vec![
        ScriptStep::Bytes(b"late\n"),
        ScriptStep::Fails(ErrorKind::WouldBlock),
        ScriptStep::End,
    ];
    let mut fixture = Fixture::new(reads, vec![ScriptStep::Takes(64)]);
    let connection = &mut fixture.connection;
    connection.output(&mut fixture.buffers).extend_from_slice(b"bye\n");
    connection.finish();
    assert_eq!(connection.state, ConnectionState::Flushing);
    assert_eq!(connection.flush().expect("taken").left, 0);
    assert!(!connection.shut_down(), "it must still read to the end");
    assert!(connection.transport.is_shut_down);
    assert_eq!(connection.state, ConnectionState::Lingering);
    let reads = (1..=9).find(|_| connection.drop_input(&mut fixture.scratch));
    assert_eq!(reads, Some(3), "until the end of the input");
    assert!(connection.close(Closed::Finished));
    assert!(!connection.close(Closed::Commanded), "it is closed once");
    assert_eq!((connection.state, &connection.why), (ConnectionState::Closed, &None));
    assert_eq!(connection.transport.written, b"bye\n");
}

#[test]
fn a_connection_whose_peer_has_ended_does_not_linger() {
    let mut fixture = Fixture::new(vec![ScriptStep::End], vec![]);
    assert_eq!(fixture.receive().expect("the end"), Received::End);
    fixture.connection.finish();
    assert!(fixture.connection.shut_down(), "nothing is left to wait for");
}

#[test]
fn the_first_reason_for_a_close_is_the_one_that_counts() {
    let mut fixture = Fixture::new(vec![], vec![]);
    fixture.connection.note_why(Closed::Broken("reset".to_owned()));
    assert!(fixture.connection.close(Closed::WriteTimeout));
    assert_eq!(fixture.connection.why.as_deref(), Some(&Closed::Broken("reset".to_owned())));
}
