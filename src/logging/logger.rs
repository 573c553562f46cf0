//! The logger of the process. `fern` decides by the level of a record's target, formats, and writes nothing: its
//! own outputs make a system call for each record, and block. Each layout in use is a child of its dispatch,
//! whose output appends to the text of the turn.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use fern::{Dispatch, FormatCallback};
use log::{LevelFilter, Metadata, Record};

use super::escape::Harmless;
use super::layout::Envelope;
use super::severity::Severity;
use super::state::{Core, Streams};
use super::text::{self, TurnText};
use super::{Format, Levels, PROCESS, journal, json, limited, target};

/// Levels and formats of one set of settings.
pub(super) struct Fern {
    /// No record above it is written.
    pub(super) level: LevelFilter,
    dispatch: Box<dyn log::Log>,
}

/// Levels by target, then for each stream a child that formats.
pub(super) fn dispatch(server: &str, streams: &Arc<Streams>, levels: &Levels) -> Fern {
    let mut root = Dispatch::new().level(levels.all);
    for (target, level) in levels.of_targets() {
        root = root.level_for(target, level);
    }
    for (number, stream) in streams.list.iter().enumerate() {
        let child = match (stream.layout.envelope, stream.layout.format) {
            // The fields of a record do not get past a format.
            (Envelope::Journal, _) => Dispatch::new(),
            (_, Format::Report) => Dispatch::new().format(format_report),
            (_, Format::Json) => {
                let server = server.to_owned();
                Dispatch::new().format(move |out, message, record| {
                    format_json(&server, out, message, record);
                })
            }
        };
        let (server, streams) = (server.to_owned(), Arc::clone(streams));
        let sink: Box<dyn log::Log> = Box::new(Sink { server, streams, number });
        root = root.chain(child.chain(sink));
    }
    let (level, dispatch) = root.into_log();
    Fern { level, dispatch }
}

/// The message of a record, in the report's format.
fn format_report(out: FormatCallback<'_>, message: &fmt::Arguments<'_>, _: &Record<'_>) {
    out.finish(format_args!("{}", limited::Limited(message)));
}

/// The part of a record after the time, in a JSON object.
fn format_json(
    server: &str,
    out: FormatCallback<'_>,
    message: &fmt::Arguments<'_>,
    record: &Record<'_>,
) {
    let mut rest = Vec::new();
    append_json(server, message, record, &mut rest);
    out.finish(format_args!("{}", String::from_utf8_lossy(&rest)));
}

fn append_json(server: &str, message: &fmt::Arguments<'_>, record: &Record<'_>, out: &mut Vec<u8>) {
    let mut words = String::new();
    // Writing to a String fails only if a Display does.
    let _ = Harmless(&mut words).write_fmt(*message);
    let level = Severity::from(record.level()).name();
    // Fern's outputs get no key-values; here they are the event's own fields.
    json::append_rest(out, level, record.target(), server, &words, record.key_values());
}

/// The logger that is installed once. It hands records to the dispatch of the settings that its thread uses.
pub(super) struct Switch {
    pub(super) core: Arc<Core>,
}

impl log::Log for Switch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        text::state_of_thread(&self.core).logger.dispatch.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let state = text::state_of_thread(&self.core);
        state.logger.dispatch.log(record);
        self.core.settle(&state);
    }

    fn flush(&self) {
        if let Some(log) = PROCESS.get() {
            log.finish();
        }
    }
}

/// The output of fern: appends records to the text of the turn.
struct Sink {
    server: String,
    streams: Arc<Streams>,
    /// Of its stream.
    number: usize,
}

impl Sink {
    fn append(&self, record: &Record<'_>, scratch: &mut Scratch) {
        let Scratch { text, fields } = scratch;
        text.clear();
        fields.clear();
        let layout = self.streams.list[self.number].layout;
        // Formatted before the text is borrowed, so that whatever formatting does, a panic included, can log.
        match layout.envelope {
            Envelope::Journal => {
                journal::append_fields(fields, record.target(), record.key_values());
                append_content(&self.server, layout.format, record, text);
            }
            // Writing to a Vec fails only if a Display does.
            _ => drop(std::io::Write::write_fmt(text, *record.args())),
        }
        let level = Severity::from(record.level());
        let target = target::number(record.target());
        text::append(&self.streams, self.number, level, |turn: &mut TurnText| {
            if turn.begin(level, target, &self.server, |out| out.extend_from_slice(fields)) {
                turn.text.extend_from_slice(text);
                turn.end();
            }
        });
    }
}

/// What the formats append, for a record that came past none.
fn append_content(server: &str, format: Format, record: &Record<'_>, out: &mut Vec<u8>) {
    match format {
        // Writing to a Vec fails only if a Display does.
        Format::Report => {
            drop(std::io::Write::write_fmt(
                out,
                format_args!("{}", limited::Limited(record.args())),
            ));
        }
        Format::Json => append_json(server, record.args(), record, out),
    }
}

impl log::Log for Sink {
    /// Always true: fern has already decided.
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let is_done = SCRATCH.try_with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => {
                self.append(record, &mut scratch);
                true
            }
            // A Display that is being formatted writes a log record.
            Err(_) => false,
        });
        if !matches!(is_done, Ok(true)) {
            self.append(record, &mut Scratch::default());
        }
    }

    fn flush(&self) {}
}

/// Memory for one record, so that none is allocated for each.
#[derive(Default)]
struct Scratch {
    text: Vec<u8>,
    /// For journald only.
    fields: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { text: Vec::new(), fields: Vec::new() }) };
}
