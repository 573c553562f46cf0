//! `[log]`: which records are written, how they look, and where they go. The command line's
//! `--log-level` overrides it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::Config;
use super::document::{Document, Section};
use super::file::HINTS;
use crate::logging::{self, Format, LEVELS, OutputKind, level_named, name_of, target};

/// Reads the section.
pub(super) fn read(
    document: &Document<'_>,
    mut section: Section<'_, '_>,
    log: &mut logging::LogSettings,
) {
    let level = section.parsed("level", level_named, LEVELS);
    log.levels.all = level.map_or(log.levels.all, Spanned::into_inner);
    let mut levels = section.section("levels");
    levels.call("log.levels".to_owned());
    for target in target::ALL {
        if let Some(level) = levels.parsed(target, level_named, LEVELS) {
            log.levels.set(target, level.into_inner());
        }
    }
    levels.finish(&HINTS);
    read_outputs(document, &mut section, log);
    let format = section.parsed("format", Format::named, FORMATS);
    log.format = format.map_or(log.format, Spanned::into_inner);
    let mut formats = section.section("formats");
    formats.call("log.formats".to_owned());
    for output in OutputKind::ALL {
        if let Some(format) = formats.parsed(output.name(), Format::named, FORMATS) {
            log.formats.set(output, format.into_inner());
        }
    }
    formats.finish(&HINTS);
    read_socket(&mut section, "syslog_socket", &mut log.syslog_socket);
    read_socket(&mut section, "journald_socket", &mut log.journald_socket);
    section.finish(&HINTS);
}

/// Reads the path of a socket.
fn read_socket(section: &mut Section<'_, '_>, key: &'static str, socket: &mut PathBuf) {
    if let Some(path) = section.text(key) {
        let text = path.get_ref();
        if text.starts_with('/') && text.len() <= MAX_SOCKET_BYTES && !text.contains('\0') {
            *socket = path.into_inner().into();
        } else {
            let expected =
                format!("the absolute path of a socket, of {MAX_SOCKET_BYTES} bytes at most");
            section.refuse(key, &path.span(), &expected);
        }
    }
}

fn read_outputs(
    document: &Document<'_>,
    section: &mut Section<'_, '_>,
    log: &mut logging::LogSettings,
) {
    let is_empty = section.has_empty_list("outputs");
    let names = section.texts("outputs", "[\"file\"]");
    if !section.has("outputs") {
        return;
    }
    let mut outputs = Vec::new();
    for name in &names {
        match OutputKind::named(name.get_ref()) {
            None => section.refuse("outputs", &name.span(), OUTPUTS),
            Some(output) if outputs.contains(&output) => {
                let text = format!("`log.outputs` names {:?} more than once", output.name());
                document.fault(&name.span(), text);
            }
            Some(output) => outputs.push(output),
        }
    }
    if is_empty {
        let text = format!(
            "`log.outputs` is empty; expected {OUTPUTS}, or several of them (log.level = \"off\" switches the log \
             off)"
        );
        document.fault(section.at(), text);
    }
    log.outputs = outputs;
}

impl Config {
    /// The log's settings as a text, for another process of this program.
    pub fn log_text(&self) -> String {
        let mut text = String::new();
        write(&self.log, &mut text);
        text
    }

    /// Applies the log's settings from such a text, and leaves them as they are if it is not valid.
    pub fn take_log(&mut self, text: &str) {
        let document = Document::new(Path::new("the log's settings"), text);
        if let Ok(mut top) = document.top() {
            let mut log = logging::LogSettings::default();
            read(&document, top.section("log"), &mut log);
            if document.check().is_ok() {
                self.log = log;
            }
        }
    }
}

/// The section as `--check` prints it.
pub(super) fn write(log: &logging::LogSettings, text: &mut String) {
    let outputs: Vec<&str> = log.outputs.iter().map(|output| output.name()).collect();
    // Writing to a String never fails.
    let _ = writeln!(text, "\nlog.level = {:?}", name_of(log.levels.all));
    for (target, level) in log.levels.of_targets() {
        let _ = writeln!(text, "log.levels.{target} = {:?}", name_of(level));
    }
    let _ = writeln!(text, "log.outputs = {outputs:?}\nlog.format = {:?}", log.format.name());
    for output in OutputKind::ALL {
        if let Some(format) = log.formats.of(output) {
            let _ = writeln!(text, "log.formats.{} = {:?}", output.name(), format.name());
        }
    }
    let _ = writeln!(text, "log.syslog_socket = {}", quoted(&log.syslog_socket));
    let _ = writeln!(text, "log.journald_socket = {}", quoted(&log.journald_socket));
}

/// A path from a configuration, as TOML.
fn quoted(path: &Path) -> toml::Value {
    toml::Value::String(path.to_string_lossy().into_owned())
}

const FORMATS: &str = "\"report\" or \"json\"";
const OUTPUTS: &str = "\"file\", \"stderr\", \"syslog\" or \"journald\"";
/// The kernel's limit for the name of a socket, without the NUL at its end.
const MAX_SOCKET_BYTES: usize = 107;
