//! The files of `[engine]`, as far as they are judged before the first connection: that they can be read, and who else can
//! read a secret. The connection reads them again each time.

use std::path::Path;

use super::EngineConfig;
use crate::config::places::readable_by_others;
use crate::config::{Config, ConfigError};
use crate::errors::plain;
use crate::files;
use crate::limits::RELOAD_FILE_BYTES;
use crate::tls::Authorities;

impl EngineConfig {
    /// Reads the files of a member, whose paths [`Config::engine_of`] has found, and returns warnings about them.
    pub fn check_files(&self) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        if let Some((key, path)) = self.login.file() {
            let secret = read(path, key)?;
            if secret.trim_ascii().is_empty() {
                return Err(unusable(path, key, "it is empty".to_owned()));
            }
            warnings.extend(readable_by_others(path, "file with the engine's secret"));
        }
        if let Some(path) = &self.ca {
            let text = read(path, "engine.ca")?;
            Authorities::from_pem(&text)
                .map_err(|error| unusable(path, "engine.ca", error.to_string()))?;
        }
        if let Some((certificate, key)) = &self.certificate {
            read(certificate, "engine.certificate")?;
            read(key, "engine.key")?;
            warnings.extend(readable_by_others(key, "key file"));
        }
        Ok(warnings)
    }
}

impl Config {
    /// Reads the files of all members. A host may have those of its own server only, so what can't be read is a note.
    pub fn engine_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for server in &self.servers {
            match self.engine_of(server).map(|engine| engine.check_files()) {
                None => {}
                Some(Ok(warnings)) => {
                    notes.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
                }
                Some(Err(error)) => notes.push(format!(
                    "note: the engine's files of {} were not checked: {error}",
                    server.name
                )),
            }
        }
        // Servers often share them.
        notes.dedup_by_key(|note| note.clone());
        notes
    }
}

fn read(path: &Path, option: &'static str) -> Result<Vec<u8>, ConfigError> {
    files::read_regular(path, RELOAD_FILE_BYTES)
        .map_err(|error| unusable(path, option, plain(&error)))
}

fn unusable(path: &Path, option: &'static str, reason: String) -> ConfigError {
    ConfigError::Read { path: path.to_owned(), option, reason }
}
