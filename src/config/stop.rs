//! `[stop]`: how a server ends.

use std::fmt::Write;
use std::time::Duration;

use toml::Spanned;

use super::document::{Document, Section};
use super::file::{HINTS, MAX_DURATION, OFF, off_or_time};
use super::units::{parse_duration, written};

/// `[stop]`
#[derive(Clone, Debug, PartialEq)]
pub struct StopSettings {
    /// What SIGTERM asks for.
    pub on_sigterm: OnSigterm,
    /// How long a drain goes on as before, listeners included, because load balancers learn late.
    pub drain_delay: Duration,
    /// How long a drain takes at most, its delay included.
    pub drain_duration: Duration,
}

/// What SIGTERM asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSigterm {
    #[default]
    Stop,
    Drain,
}

impl Default for StopSettings {
    fn default() -> StopSettings {
        StopSettings {
            on_sigterm: OnSigterm::Stop,
            drain_delay: Duration::from_secs(10),
            drain_duration: Duration::from_secs(30),
        }
    }
}

/// Reads the section.
pub(super) fn read(document: &Document<'_>, mut section: Section<'_, '_>, stop: &mut StopSettings) {
    let on_sigterm = section.parsed("on_sigterm", OnSigterm::named, "\"stop\" or \"drain\"");
    stop.on_sigterm = on_sigterm.map_or(stop.on_sigterm, Spanned::into_inner);
    let expected = "\"off\", or a time such as \"10s\"";
    let delay = section.parsed_or("drain_delay", off_or_time, expected);
    let expected = format!("a time from \"1s\" to \"{}\", such as \"30s\"", written(MAX_DURATION));
    let duration = section.parsed_or("drain_duration", duration, &expected);
    let at = delay.as_ref().map(Spanned::span).or(duration.as_ref().map(Spanned::span));
    let (had_delay, had_duration) = (section.has("drain_delay"), section.has("drain_duration"));
    // A value that is wrong was reported.
    let is_known = had_delay == delay.is_some() && had_duration == duration.is_some();
    if let Some(delay) = delay {
        stop.drain_delay = delay.into_inner().unwrap_or_default();
    }
    stop.drain_duration = duration.map_or(stop.drain_duration, Spanned::into_inner);
    if let Some(at) = at.filter(|_| is_known && stop.drain_delay > stop.drain_duration) {
        let text = format!(
            "stop.drain_delay ({}) must not be longer than stop.drain_duration ({}), of which it is a part",
            or_off(stop.drain_delay),
            written(stop.drain_duration)
        );
        document.fault(&at, text);
    }
    section.finish(&HINTS);
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let duration = parse_duration(text)?;
    if (MIN_DRAIN..=MAX_DURATION).contains(&duration) { Ok(duration) } else { Err("") }
}

/// The settings as `--check` prints them.
pub(super) fn write(stop: &StopSettings, text: &mut String) {
    let StopSettings { on_sigterm, drain_delay, drain_duration } = stop;
    // Writing to a String never fails.
    let _ = writeln!(text, "\nstop.on_sigterm = {:?}", on_sigterm.name());
    let _ = writeln!(text, "stop.drain_delay = {:?}", or_off(*drain_delay));
    let _ = writeln!(text, "stop.drain_duration = {:?}", written(*drain_duration));
}

fn or_off(duration: Duration) -> String {
    if duration.is_zero() { OFF.to_owned() } else { written(duration) }
}

impl OnSigterm {
    pub fn name(self) -> &'static str {
        match self {
            OnSigterm::Stop => "stop",
            OnSigterm::Drain => "drain",
        }
    }

    fn named(name: &str) -> Option<OnSigterm> {
        [OnSigterm::Stop, OnSigterm::Drain].into_iter().find(|one| one.name() == name)
    }
}

/// A drain closes clients in batches, each 100 ms after the last; in less than this it would be a stop.
const MIN_DRAIN: Duration = Duration::from_secs(1);
