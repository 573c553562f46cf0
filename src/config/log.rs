//! `[log]`: which records are written, how they look, and where they go. The command line's
//! `--log-level` overrides it.

use std::fmt::Write;
use std::path::Path;

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
    let format = section.parsed("format", Format::named, "\"report\" or \"json\"");
    log.format = format.map_or(log.format, Spanned::into_inner);
    section.finish(&HINTS);
}

fn read_outputs(
    document: &Document<'_>,
    section: &mut Section<'_, '_>,
    log: &mut logging::LogSettings,
) {
    let is_empty = section.has_empty_list("outputs");
    let names = section.texts("outputs");
    if !section.has("outputs") {
        return;
    }
    let mut outputs = Vec::new();
    for name in &names {
        match OutputKind::named(name.get_ref()) {
            None => section.refuse("outputs", &name.span(), "\"file\" or \"stderr\""),
            Some(output) if outputs.contains(&output) => {
                let text = format!("`log.outputs` names {:?} more than once", output.name());
                document.fault(&name.span(), text);
            }
            Some(output) => outputs.push(output),
        }
    }
    if is_empty {
        let text = "`log.outputs` is empty; expected \"file\", \"stderr\" or both (log.level = \"off\" \
                    switches the log off)";
        document.fault(section.at(), text.to_owned());
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
}
