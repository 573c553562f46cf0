//! How the records of one stream are put into the turn's text: as lines, or as datagrams with their lengths.
//!
//! | envelope | a record in the text |
//! |---|---|
//! | `Line` | content, newline |
//! | `Priority` | `<6>`, content, newline |
//! | `Syslog` | length, `<30>Jun  6 18:30:55 herd-mio/Goloman[123]: `, content |
//! | `Journal` | length, the fields of journald, of which the last one is `MESSAGE=` and content |
//!
//! The content is that of the format: the report's words, with time and level in front in the envelope `Line`
//! alone, because the others carry both; or a JSON object, which is the same in each envelope.

use super::{Format, LogSettings, OutputKind, stderr};

/// The form of a stream's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) envelope: Envelope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    Line,
    /// For a standard error that journald reads: it takes the level from there.
    Priority,
    /// The local form of RFC 3164, without a host name.
    Syslog,
    /// The native protocol of journald.
    Journal,
}

impl Layout {
    pub(super) fn of(output: OutputKind, settings: &LogSettings) -> Layout {
        let envelope = match output {
            OutputKind::File => Envelope::Line,
            OutputKind::Stderr if stderr::is_read_by_journald() => Envelope::Priority,
            OutputKind::Stderr => Envelope::Line,
            OutputKind::Syslog => Envelope::Syslog,
            OutputKind::Journald => Envelope::Journal,
        };
        Layout { format: settings.format_of(output), envelope }
    }
}

/// Begins a datagram in a text. Returns where.
pub(super) fn begin_datagram(text: &mut Vec<u8>) -> usize {
    let begin = text.len();
    text.extend_from_slice(&[0; LENGTH_BYTES]);
    begin
}

/// Ends the datagram that begins there.
pub(super) fn end_datagram(text: &mut [u8], begin: usize) {
    let length = (text.len() - begin - LENGTH_BYTES) as u32;
    text[begin..begin + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// The datagrams of a text.
pub(super) fn datagrams(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = text.split_first_chunk::<LENGTH_BYTES>()?;
        let (datagram, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        text = rest;
        Some(datagram)
    })
}

/// How many records a text for an output holds.
pub(super) fn records(output: OutputKind, text: &[u8]) -> u64 {
    match output.has_datagrams() {
        true => datagrams(text).count() as u64,
        false => lines(text),
    }
}

/// How many lines a text holds.
pub(super) fn lines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

const LENGTH_BYTES: usize = size_of::<u32>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_found_again_whatever_they_contain() {
        let mut text = Vec::new();
        for datagram in [&b"a\nb"[..], b"", b"\0\0\0\x01c"] {
            let begin = begin_datagram(&mut text);
            text.extend_from_slice(datagram);
            end_datagram(&mut text, begin);
        }
        let found: Vec<_> = datagrams(&text).collect();
        assert_eq!(found, [&b"a\nb"[..], b"", b"\0\0\0\x01c"]);
        assert_eq!(records(OutputKind::Syslog, &text), 3);
        assert_eq!(datagrams(&text[..text.len() - 1]).count(), 2, "an incomplete one is none");
    }
}
