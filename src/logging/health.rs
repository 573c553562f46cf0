//! Whether an output works. If it does not, the other outputs have the record about it.

use std::time::{Duration, Instant};

use super::severity::Severity;
use super::text::TurnText;
use super::writer::Writer;
use super::{LastingProblem, OutputKind, PROCESS, counters, stderr};

/// Whether the output works, for the records in the other outputs.
pub(super) struct Health {
    server: String,
    pub(super) kind: OutputKind,
    since: Instant,
    problem: LastingProblem,
    /// Of opening it by its name.
    reopening: LastingProblem,
}

impl Health {
    pub(super) fn new(server: String, kind: OutputKind) -> Health {
        let new = || LastingProblem::new(Duration::ZERO);
        Health { server, kind, since: Instant::now(), problem: new(), reopening: new() }
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// Reports that it can't be written, if that is due. `is_lossy`: records are dropped now, not only later.
    pub(super) fn fails(&mut self, reason: &str, is_lossy: bool) {
        if let Some(lasting) = self.problem.occurs(self.now()) {
            let device = self.kind.device();
            let what = match is_lossy {
                true => "its records are dropped and counted until it works",
                false => "its records wait, and are dropped and counted when there are too many",
            };
            let text = format!("The log cannot be written to {device}: {reason}; {what}{lasting}.");
            self.report(Severity::Error, "output_failed", &text, reason);
        }
    }

    pub(super) fn works(&mut self) {
        if self.problem.is_over(self.now()).is_some() {
            let text = format!("The log is written to {} again.", self.kind.device());
            self.report(Severity::Info, "output_works", &text, "");
        }
    }

    /// Returns whether that is reported now.
    pub(super) fn fails_to_reopen(&mut self, reason: &str) -> bool {
        let Some(lasting) = self.reopening.occurs(self.now()) else {
            return false;
        };
        let text = format!(
            "The log could not be reopened and continues in the old file: {reason}{lasting}"
        );
        self.report(Severity::Error, "log_reopen_failed", &text, reason);
        true
    }

    pub(super) fn is_reopened(&mut self) {
        if self.reopening.is_over(self.now()).is_some() {
            self.report(Severity::Info, "log_reopened", "Log reopened.", "");
        }
    }

    fn report(&self, level: Severity, event: &str, message: &str, reason: &str) {
        report(&self.server, self.kind, level, event, message, reason);
    }
}

/// Records something about one output in all others. If there is none, prints it on standard error, unless that
/// is the output.
fn report(
    server: &str,
    about: OutputKind,
    level: Severity,
    event: &str,
    message: &str,
    reason: &str,
) {
    let mut is_recorded = false;
    if let Some(log) = PROCESS.get() {
        let state = log.core.current();
        for stream in &state.streams.list {
            let is_other = |writer: &&Writer| writer.destination().kind() != about;
            for writer in stream.outputs.iter().filter(is_other) {
                let mut text = TurnText::new(stream.layout, &log.core.zone);
                text.record(level, server, event, message, reason);
                writer.push(&text.text, 0);
                is_recorded = true;
            }
        }
    }
    match is_recorded {
        true => counters::add_record(level),
        false if about == OutputKind::Stderr => {}
        false => stderr::print_line(&format!("herd-mio: {server}: {message}")),
    }
}
