//! A supervisor's lifeline: a pipe whose end stops the loop, and on which the supervisor asks for things.
//!
//! | bytes | request |
//! |---|---|
//! | `L` | reopen the log |
//! | `D` | drain |
//! | `R`, a length as four bytes (big-endian), a text of that length | reload, with this text |
//! | the end; anything else; a length above [`LIFELINE_TEXT`] | stop |
//!
//! A request may arrive in pieces. What is no request means that the two sides no longer understand each
//! other, so nothing that follows can be trusted: it counts as the end.

use std::io::{ErrorKind, Read};

use super::controls::ControlRequests;
use super::limits::{LIFELINE_READS_PER_TURN, LIFELINE_TEXT};

/// What has arrived of a request.
#[derive(Debug, Default, PartialEq, Eq)]
enum Part {
    /// Nothing.
    #[default]
    Nothing,
    /// The beginning of a length: how many of its bytes, and their value.
    Length(u8, u32),
    /// The beginning of a text, and how many bytes are missing.
    Text(Vec<u8>, usize),
}

/// The reader of a lifeline.
pub(super) struct Lifeline<R> {
    pipe: R,
    part: Part,
}

/// How a look at a lifeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Nothing more is there now.
    Empty,
    /// There may be more, for which this turn has no time.
    More,
    /// The pipe has ended, or counts as ended.
    Ended,
}

impl<R: Read> Lifeline<R> {
    pub fn new(pipe: R) -> Lifeline<R> {
        Lifeline { pipe, part: Part::Nothing }
    }

    pub fn pipe(&mut self) -> &mut R {
        &mut self.pipe
    }

    /// Reads what is there, within a budget. Of several reloads the last one counts.
    pub fn look(&mut self, requests: &mut ControlRequests) -> Looked {
        let mut bytes = [0; 4096];
        for _ in 0..LIFELINE_READS_PER_TURN {
            match self.pipe.read(&mut bytes) {
                Ok(0) => return Looked::Ended,
                Ok(count) => {
                    if !self.take(&bytes[..count], requests) {
                        return Looked::Ended;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Looked::Empty,
                Err(_) => return Looked::Ended,
            }
        }
        Looked::More
    }

    /// Takes bytes. Returns false if they are no requests.
    fn take(&mut self, mut bytes: &[u8], requests: &mut ControlRequests) -> bool {
        while let [first, rest @ ..] = bytes {
            (self.part, bytes) = match (std::mem::take(&mut self.part), first) {
                (Part::Nothing, b'L') => {
                    requests.reopen_log = true;
                    (Part::Nothing, rest)
                }
                (Part::Nothing, b'D') => {
                    requests.drain = true;
                    (Part::Nothing, rest)
                }
                (Part::Nothing, b'R') => (Part::Length(0, 0), rest),
                (Part::Nothing, _) => return false,
                (Part::Length(count, value), byte) => {
                    let value = value << 8 | u32::from(*byte);
                    if count < 3 {
                        (Part::Length(count + 1, value), rest)
                    } else if value as usize <= LIFELINE_TEXT {
                        (Part::Text(Vec::new(), value as usize), rest)
                    } else {
                        return false;
                    }
                }
                (Part::Text(mut text, missing), _) => {
                    let (here, rest) = bytes.split_at(missing.min(bytes.len()));
                    text.extend_from_slice(here);
                    (Part::Text(text, missing - here.len()), rest)
                }
            };
            if let Part::Text(text, 0) = &mut self.part {
                requests.reload = Some(Some(std::mem::take(text)));
                self.part = Part::Nothing;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use super::*;

    /// A pipe: each read returns one of these pieces; then nothing is there, or the end has come.
    struct Script(VecDeque<Vec<u8>>, bool);

    impl Read for Script {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                Some(piece) => {
                    into[..piece.len()].copy_from_slice(&piece);
                    Ok(piece.len())
                }
                None if self.1 => Ok(0),
                None => Err(ErrorKind::WouldBlock.into()),
            }
        }
    }

    fn request(text: &[u8]) -> Vec<u8> {
        [&b"R"[..], &(text.len() as u32).to_be_bytes(), text].concat()
    }

    /// What the bytes ask for if each read returns `at_once` of them.
    fn look(bytes: &[u8], at_once: usize, ends: bool) -> (ControlRequests, Looked) {
        let pieces = bytes.chunks(at_once.min(4096)).map(<[u8]>::to_vec).collect();
        let mut lifeline = Lifeline::new(Script(pieces, ends));
        let mut requests = ControlRequests::default();
        loop {
            match lifeline.look(&mut requests) {
                Looked::More => {}
                looked => return (requests, looked),
            }
        }
    }

    #[test]
    fn requests_are_read_alike_however_the_pipe_cuts_them() {
        let texts: [&[u8]; 4] = [b"", b"L", b"RRRRRR\0\0\0\0", &[b'x'; 10_000]];
        for text in texts {
            let all = [b"L", &request(b"an older one")[..], b"L", &request(text)].concat();
            for at_once in [1, 2, 3, 5, 7, 4096] {
                let (requests, looked) = look(&all, at_once, false);
                assert_eq!(looked, Looked::Empty);
                assert!(requests.reopen_log && !requests.lifeline_ended);
                assert_eq!(requests.reload, Some(Some(text.to_vec())), "the newest text");
            }
        }
    }

    #[test]
    fn a_request_that_is_not_complete_asks_for_nothing() {
        let whole = request(b"text");
        for length in 0..whole.len() {
            let (requests, looked) = look(&whole[..length], 4096, false);
            assert_eq!((requests, looked), (ControlRequests::default(), Looked::Empty));
            let (requests, looked) = look(&whole[..length], 4096, true);
            assert_eq!((requests, looked), (ControlRequests::default(), Looked::Ended));
        }
    }

    #[test]
    fn a_length_above_the_bound_and_bytes_that_are_no_request_count_as_the_end() {
        let longest = vec![b'x'; LIFELINE_TEXT];
        let (requests, looked) = look(&request(&longest), 4096, false);
        assert_eq!((requests.reload, looked), (Some(Some(longest)), Looked::Empty));
        let too_long = (LIFELINE_TEXT as u32 + 1).to_be_bytes();
        for bytes in [&[b"R", &too_long[..]].concat()[..], b"R\xff\xff\xff\xff", b"\n", b"l", b"\0"]
        {
            let all = [b"L", bytes, b"L", &request(b"text")].concat();
            for at_once in [1, 4096] {
                let (requests, looked) = look(&all, at_once, false);
                assert_eq!(looked, Looked::Ended, "{}", bytes.escape_ascii());
                assert!(
                    requests.reopen_log && requests.reload.is_none(),
                    "what came before counts"
                );
            }
        }
    }

    /// A supervisor that writes without end must not hold the loop.
    #[test]
    fn a_look_has_a_budget() {
        let pieces = std::iter::repeat_n(b"L".to_vec(), LIFELINE_READS_PER_TURN + 1).collect();
        let mut lifeline = Lifeline::new(Script(pieces, false));
        let mut requests = ControlRequests::default();
        assert_eq!(lifeline.look(&mut requests), Looked::More);
        assert_eq!(lifeline.look(&mut requests), Looked::Empty);
    }
}
