//! The text of a turn in one format, and the thread that owns it.
//!
//! A thread that submits (a loop) has a text of its own, so that no record waits for another thread. The
//! few records of other threads go into a text that all share, and leave with the next submit of any
//! thread.

use std::cell::RefCell;

use jiff::tz::TimeZone;

use super::json::Heads;
use super::local_time::LocalTime;
use super::{Core, Format, PROCESS, json, limited, target};
use crate::limits::{LOG_QUEUE_BYTES, LOG_RECORD_BYTES};

/// The records since the last submit.
#[derive(Debug)]
pub(super) struct TurnText {
    pub(super) format: Format,
    pub(super) text: Vec<u8>,
    /// Records for which there was no room.
    pub(super) dropped: u64,
    time: LocalTime,
    /// For JSON only.
    pub(super) heads: Heads,
}

impl TurnText {
    pub(super) fn new(format: Format, zone: &TimeZone) -> TurnText {
        let time = LocalTime::new(format, zone);
        TurnText { format, text: Vec::new(), dropped: 0, time, heads: Heads::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.dropped == 0
    }

    /// Begins a record with its time. If there is no room, counts the record and returns false.
    pub(super) fn begin(&mut self) -> bool {
        if self.text.len() > LOG_QUEUE_BYTES {
            self.dropped += 1;
            return false;
        }
        self.time.append(&mut self.text);
        true
    }

    /// A record that is complete except for the time.
    pub(super) fn push(&mut self, rest: &str) {
        if self.begin() {
            self.text.extend_from_slice(rest.as_bytes());
            self.text.push(b'\n');
        }
    }

    /// A record of the log itself, which did not come from a logger.
    pub(super) fn record(&mut self, level: &str, server: &str, event: &str, message: &str) {
        if !self.begin() {
            return;
        }
        match self.format {
            Format::Report => {
                for part in [" - ", level, ": ", limited::cut(message)] {
                    self.text.extend_from_slice(part.as_bytes());
                }
                limited::append_size(message.len(), &mut self.text);
            }
            Format::Json => {
                let fields = [(json::EVENT, event)];
                json::append_rest(&mut self.text, level, target::LOOP, server, message, &fields);
            }
        }
        self.text.push(b'\n');
    }

    /// In the report's format: cuts the message that begins at `begin`, if it is too long.
    pub(super) fn limit_message(&mut self, begin: usize) {
        let length = self.text.len() - begin;
        if length > LOG_RECORD_BYTES {
            let mut end = begin + LOG_RECORD_BYTES;
            while end > begin && self.text[end] & 0xc0 == 0x80 {
                end -= 1; // Not between the bytes of one character.
            }
            self.text.truncate(end);
            limited::append_size(length, &mut self.text);
        }
    }
}

/// The texts of one thread, in the order of the log's streams.
struct ThreadTexts {
    /// None until the thread has submitted for the first time.
    texts: Option<Vec<TurnText>>,
}

thread_local! {
    static TEXTS: RefCell<ThreadTexts> = const { RefCell::new(ThreadTexts { texts: None }) };
}

/// Lets `write` append to the text of this thread, or to the shared one if it has none.
pub(super) fn append(core: &Core, stream: usize, write: impl Fn(&mut TurnText)) {
    let is_own = TEXTS.try_with(|texts| match texts.try_borrow_mut() {
        Ok(mut texts) => match texts.texts.as_mut().and_then(|texts| texts.get_mut(stream)) {
            Some(text) => {
                write(text);
                true
            }
            None => false,
        },
        Err(_) => false,
    });
    if !matches!(is_own, Ok(true)) {
        core.append_shared(stream, write);
    }
}

/// Hands the texts of this thread to the writers. From the first call on, the thread has texts of its
/// own.
pub(super) fn submit_own(core: &Core) {
    let _ = TEXTS.try_with(|texts| {
        if let Ok(mut texts) = texts.try_borrow_mut() {
            let texts = texts.texts.get_or_insert_with(|| core.new_texts());
            core.submit(texts.iter_mut());
        }
    });
}

/// The last records of a thread are not lost if it ends without a submit.
impl Drop for ThreadTexts {
    fn drop(&mut self) {
        if let (Some(texts), Some(log)) = (&mut self.texts, PROCESS.get()) {
            log.core.submit(texts.iter_mut());
        }
    }
}
