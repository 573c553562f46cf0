//! Opening outputs, at the start and for other settings.

use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::datagram::Datagrams;
use super::layout::Layout;
use super::output::{Destination, Lines, LogFile, Output};
use super::state::{State, Streams};
use super::stderr::StderrOutput;
use super::writer::{OwnRecords, Writer};
use super::{Log, LogError, LogSettings, OutputKind, PROCESS, file, logger, target, traffic};

/// Settings of the log that are prepared and not yet in force.
#[derive(Debug)]
#[must_use = "it does nothing until it is committed"]
pub struct LogChange {
    log: Log,
    new: Arc<State>,
    warning: Option<String>,
}

impl Log {
    /// Prepares other settings: opens the outputs that are new. A file that is in use stays open, but its name must
    /// still lead to a file that can be opened. Nothing changes until the result is committed; if it is dropped, nothing ever does. Opening files may take time, so a job calls
    /// it, not a loop.
    pub fn reconfigure(&self, settings: &LogSettings) -> Result<LogChange, LogError> {
        let core = &self.core;
        let current = core.current();
        let mut outputs = Vec::new();
        let mut warning = None;
        for kind in &settings.outputs {
            let destination = destination(&core.folder, &core.server, *kind, settings);
            let layout = Layout::of(*kind, settings);
            let in_use = current.streams.writers().find(|it| *it.destination() == destination);
            let writer = match (in_use, &destination) {
                (Some(writer), Destination::File(path)) => {
                    // Not kept: by the commit a rotation may have given its name to another file.
                    file::open(path)
                        .map_err(|error| LogError::Open { path: path.clone(), error })?;
                    writer.clone()
                }
                (Some(writer), _) => writer.clone(),
                (None, _) => {
                    if *kind == OutputKind::File {
                        warning = file::folder_warning(&core.folder);
                    }
                    let (server, zone) = (core.server.clone(), core.zone.clone());
                    open(destination, OwnRecords { server, zone, layout })?
                }
            };
            outputs.push((layout, writer));
        }
        let new = Arc::new(new_state(&core.server, &core.zone, settings, outputs));
        Ok(LogChange { log: self.clone(), new, warning })
    }
}

impl LogChange {
    /// Puts the settings in force for the whole process: call it once, whatever the number of loops. It never
    /// waits for an output. The calling thread uses them at once, and each other one after its next submit, so no
    /// record is lost or written twice: a loop that sleeps must be woken for it. Outputs that are no longer in use are written to their end and closed.
    pub fn commit(self) {
        let LogChange { log, new, warning } = self;
        log.submit();
        let old = log.core.current();
        log.core.replace(Arc::clone(&new));
        if PROCESS.get().is_some_and(|process| Arc::ptr_eq(&process.core, &log.core)) {
            set_levels(&new);
        }
        for stream in &new.streams.list {
            stream.outputs.iter().for_each(|writer| writer.set_layout(stream.layout));
        }
        let is_kept = |writer: &Writer| {
            new.streams.writers().any(|it| it.destination() == writer.destination())
        };
        log.core.retire(old.streams.writers().filter(|it| !is_kept(it)).map(Writer::retired));
        drop(old);
        log.submit();
        if let Some(warning) = warning {
            // Not limited: the operator has changed the settings.
            log::warn!(target: target::CONFIG, event = "log_folder_unsafe"; "{warning}");
        }
    }
}

/// What is made for settings, with these outputs.
pub(super) fn new_state(
    server: &str,
    zone: &TimeZone,
    settings: &LogSettings,
    outputs: Vec<(Layout, Writer)>,
) -> State {
    let streams = Arc::new(Streams::new(outputs, zone));
    let logger = logger::dispatch(server, &streams, &settings.levels);
    State::new(settings.clone(), streams, logger)
}

/// From now on the process records by these levels.
pub(super) fn set_levels(state: &State) {
    log::set_max_level(state.logger.level);
    traffic::set(&state.settings.levels);
}

/// Where an output writes.
pub(super) fn destination(
    folder: &Path,
    server: &str,
    kind: OutputKind,
    settings: &LogSettings,
) -> Destination {
    match (kind, settings.socket_of(kind)) {
        (_, Some(socket)) => Destination::Socket(kind, socket.to_owned()),
        (OutputKind::File, _) => Destination::File(folder.join(format!("{server}_log.txt"))),
        _ => Destination::Stderr,
    }
}

/// Opens an output and starts its thread.
pub(super) fn open(destination: Destination, own: OwnRecords) -> Result<Writer, LogError> {
    let output: Box<dyn Output> = match &destination {
        Destination::File(path) => Box::new(
            LogFile::open(path).map_err(|error| LogError::Open { path: path.clone(), error })?,
        ),
        Destination::Stderr => Box::new(Lines::new(StderrOutput)),
        Destination::Socket(_, path) => Box::new(Datagrams::new(path.clone())),
    };
    Writer::start(destination, output, own).map_err(LogError::Thread)
}
