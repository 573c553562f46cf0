//! The text of a turn in one layout, and the thread that owns it.
//!
//! A thread that submits (a loop) has a text of its own, so that no record waits for another thread. The
//! few records of other threads go into a text that all share, and leave with the next submit of any
//! thread.
//!
//! A thread with texts of its own uses the settings with which they were made until its next submit. So a loop
//! changes them between two turns, and each record is written once, in one format.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use jiff::tz::TimeZone;

use super::counters::{self, RecordCounts};
use super::json::Heads;
use super::layout::{self, Envelope, Layout};
use super::local_time::{LocalTime, TimeStyle};
use super::severity::Severity;
use super::state::{Core, State, Streams};
use super::tail::Marks;
use super::traffic::PeerText;
use super::{Format, journal, json, limited, target};
use crate::limits::{LOG_QUEUE_BYTES, LOG_RECORD_BYTES};

/// The records since the last submit.
#[derive(Debug)]
pub(super) struct TurnText {
    pub(super) layout: Layout,
    pub(super) text: Vec<u8>,
    /// Records for which there was no room.
    pub(super) dropped: u64,
    /// It is submitted at the end of each turn of the thread whose records it has.
    is_own: bool,
    time: LocalTime,
    /// For JSON only.
    pub(super) heads: Heads,
    pub(super) peer: PeerText,
    /// For syslog only: the time in front of the content.
    stamp: LocalTime,
    /// For syslog only: what stands between that time and the content, from the first record on.
    tag: String,
    /// For datagrams only: where the last one begins.
    datagram: usize,
    /// Where its last records are, if somebody looks at them.
    pub(super) marks: Marks,
}

impl TurnText {
    pub(super) fn new(layout: Layout, zone: &TimeZone) -> TurnText {
        let style = match layout.format {
            Format::Report => TimeStyle::Report,
            Format::Json => TimeStyle::Json,
        };
        TurnText {
            layout,
            text: Vec::new(),
            dropped: 0,
            is_own: false,
            time: LocalTime::new(style, zone),
            heads: Heads::default(),
            peer: PeerText::default(),
            stamp: LocalTime::new(TimeStyle::Syslog, zone),
            tag: String::new(),
            datagram: 0,
            marks: Marks::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.dropped == 0
    }

    /// Begins a record, up to its message in the report's format, and up to its time in JSON. If there is no
    /// room, counts the record and returns false. `target` is the target's number, and `fields` appends the record's own
    /// fields for journald.
    #[inline]
    pub(super) fn begin(
        &mut self,
        level: Severity,
        target: u8,
        server: &str,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        self.begin_at(level, target, server, fields, false)
    }

    /// The same for one of many records of a turn: where the time shows only seconds, it is that of the one before.
    #[inline]
    pub(super) fn begin_again(
        &mut self,
        level: Severity,
        target: u8,
        server: &str,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let is_same_turn = self.is_own && !self.text.is_empty();
        self.begin_at(level, target, server, fields, is_same_turn)
    }

    #[inline(always)]
    fn begin_at(
        &mut self,
        level: Severity,
        target: u8,
        server: &str,
        fields: impl FnOnce(&mut Vec<u8>),
        is_same_turn: bool,
    ) -> bool {
        if self.text.len() > LOG_QUEUE_BYTES {
            self.dropped += 1;
            return false;
        }
        match self.layout.envelope {
            Envelope::Line => {}
            Envelope::Priority => self.append_priority(level),
            Envelope::Syslog => self.begin_syslog(level, server, is_same_turn),
            Envelope::Journal => {
                self.datagram = layout::begin_datagram(&mut self.text);
                journal::append_head(&mut self.text, level, server);
                fields(&mut self.text);
                self.text.extend_from_slice(b"MESSAGE=");
            }
        }
        match self.layout {
            Layout { format: Format::Report, envelope: Envelope::Line } => {
                self.time.append_again(is_same_turn, &mut self.text);
                self.text.extend_from_slice(level.mark().as_bytes());
            }
            Layout { format: Format::Report, .. } => {}
            Layout { format: Format::Json, .. } => {
                self.marks.begin(self.text.len(), level, target);
                self.time.append(&mut self.text);
                return true;
            }
        }
        self.marks.begin(self.text.len(), level, target);
        true
    }

    /// `<6>`
    fn append_priority(&mut self, level: Severity) {
        self.text.extend_from_slice(&[b'<', b'0' + level.priority(), b'>']);
    }

    fn begin_syslog(&mut self, level: Severity, server: &str, is_same_turn: bool) {
        self.datagram = layout::begin_datagram(&mut self.text);
        self.text.push(b'<');
        json::append_digits(&mut self.text, (DAEMON + level.priority()).into());
        self.text.push(b'>');
        self.stamp.append_again(is_same_turn, &mut self.text);
        if self.tag.is_empty() {
            // Asking for the process's number is a system call.
            self.tag = format!(" herd-mio/{server}[{}]: ", std::process::id());
        }
        self.text.extend_from_slice(self.tag.as_bytes());
    }

    /// Ends the record.
    #[inline]
    pub(super) fn end(&mut self) {
        self.marks.end(self.text.len());
        match self.layout.envelope {
            Envelope::Line | Envelope::Priority => self.text.push(b'\n'),
            Envelope::Syslog => layout::end_datagram(&mut self.text, self.datagram),
            Envelope::Journal => {
                self.text.push(b'\n');
                layout::end_datagram(&mut self.text, self.datagram);
            }
        }
    }

    /// A record of the log itself, which did not come from a logger. An empty reason is none.
    pub(super) fn record(
        &mut self,
        level: Severity,
        server: &str,
        event: &str,
        message: &str,
        reason: &str,
    ) {
        let fields = [(json::EVENT, event), ("reason", reason)];
        let number = target::number(target::LOOP);
        let append_fields = |out: &mut Vec<u8>| journal::append_fields(out, target::LOOP, &fields);
        if !self.begin(level, number, server, append_fields) {
            return;
        }
        match self.layout.format {
            Format::Report => {
                self.text.extend_from_slice(limited::cut(message).as_bytes());
                limited::append_size(message.len(), &mut self.text);
            }
            Format::Json => {
                let level = level.name();
                json::append_rest(&mut self.text, level, target::LOOP, server, message, &fields);
            }
        }
        self.end();
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

/// The texts of one thread, in the order of the streams.
struct ThreadTexts {
    /// None until the thread has submitted for the first time.
    own: Option<OwnTexts>,
}

struct OwnTexts {
    /// The settings and outputs that they are for.
    state: Arc<State>,
    texts: Vec<TurnText>,
    counts: RecordCounts,
    /// Nothing was recorded since the last submit, as in each turn of a server that logs no traffic.
    is_empty: bool,
}

thread_local! {
    static TEXTS: RefCell<ThreadTexts> = const { RefCell::new(ThreadTexts { own: None }) };
}

/// Lets `write` append one record to the text of this thread in each layout, or to the shared ones if it has
/// none.
pub(super) fn append_each(core: &Core, level: Severity, write: impl Fn(&mut TurnText)) {
    let is_own = TEXTS.try_with(|texts| match texts.try_borrow_mut() {
        Ok(mut texts) => match &mut texts.own {
            Some(own) => {
                own.is_empty = false;
                own.counts[level as usize] += 1;
                own.texts.iter_mut().for_each(&write);
                true
            }
            None => false,
        },
        Err(_) => false,
    });
    if !matches!(is_own, Ok(true)) {
        let state = core.current();
        counters::add_record(level);
        for number in 0..state.streams.list.len() {
            state.streams.append_shared(number, &write);
        }
        core.settle(&state);
    }
}

/// Lets `write` append to the text of this thread in one stream, or to the stream's shared one if this thread
/// has none for it. The first stream counts the record.
pub(super) fn append(
    streams: &Arc<Streams>,
    number: usize,
    level: Severity,
    write: impl Fn(&mut TurnText),
) {
    let is_own = TEXTS.try_with(|texts| match texts.try_borrow_mut() {
        Ok(mut texts) => match &mut texts.own {
            Some(own) if Arc::ptr_eq(&own.state.streams, streams) => {
                own.is_empty = false;
                own.counts[level as usize] += u32::from(number == 0);
                own.texts.get_mut(number).map(&write);
                true
            }
            _ => false,
        },
        Err(_) => false,
    });
    if !matches!(is_own, Ok(true)) {
        if number == 0 {
            counters::add_record(level);
        }
        streams.append_shared(number, write);
    }
}

/// The settings and outputs that this thread uses now.
pub(super) fn state_of_thread(core: &Core) -> Arc<State> {
    let own = TEXTS.try_with(|texts| {
        texts.try_borrow().ok().and_then(|texts| texts.own.as_ref().map(|own| own.state.clone()))
    });
    own.ok().flatten().unwrap_or_else(|| core.current())
}

/// Hands the texts of this thread to the writers, and takes the log's present settings. From the first call on,
/// the thread has texts of its own.
pub(super) fn submit_own(core: &Core) {
    let _ = TEXTS.try_with(|texts| {
        if let Ok(mut texts) = texts.try_borrow_mut() {
            let own = texts.own.get_or_insert_with(|| OwnTexts::new(core));
            own.state.streams.submit_shared();
            own.submit();
            if core.generation.load(Acquire) != own.state.generation {
                *own = OwnTexts::new(core);
            }
        }
    });
}

impl OwnTexts {
    fn new(core: &Core) -> OwnTexts {
        let state = core.current();
        let new_text = |layout| TurnText { is_own: true, ..TurnText::new(layout, &core.zone) };
        let texts = state.streams.list.iter().map(|stream| new_text(stream.layout)).collect();
        OwnTexts { state, texts, counts: RecordCounts::default(), is_empty: true }
    }

    #[inline]
    fn submit(&mut self) {
        if !std::mem::replace(&mut self.is_empty, true) {
            self.submit_records();
        }
    }

    fn submit_records(&mut self) {
        counters::add_records(&mut self.counts);
        for (stream, text) in self.state.streams.list.iter().zip(&mut self.texts) {
            stream.submit(text);
        }
    }
}

/// The last records of a thread are not lost if it ends without a submit.
impl Drop for ThreadTexts {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            own.submit();
        }
    }
}

/// The facility of syslog, times 8: a service in the background.
const DAEMON: u8 = 3 * 8;
