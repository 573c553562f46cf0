//! The settings of the provider of places: which one, where it is, its key and limits.

use std::path::Path;
use std::time::Duration;

use super::{ConfigError, Overrides, ReadFile};
use crate::errors::plain;
use crate::places::Provider;
use crate::places::endpoint::Endpoint;
use crate::places::google::{Api, Shape};
use crate::places::key::ApiKey;
use crate::tls::Authorities;

/// The settings of the queries for places.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacesSettings {
    /// The chosen provider; if none is chosen, [`PlacesSettings::provider`] decides.
    pub provider_override: Option<Provider>,
    /// The shape in which answers of the New API reach the client.
    pub shape: Shape,
    /// The address of the service: the provider's own unless another one is given.
    pub endpoint: Endpoint,
    /// Certificates that are trusted for it, instead of the built-in roots.
    pub ca: Option<Authorities>,
    /// The API key, which is never printed ([`ApiKey`]).
    pub key: Option<ApiKey>,
    /// Warnings about how the key was given.
    pub warnings: Vec<String>,
    /// Time for one query, all its steps together.
    pub timeout: Duration,
    /// Queries in flight to a service at once, and so connections with it (and one more for each query
    /// whose kept connection is silent).
    pub max_in_flight: usize,
    /// Queries that wait in the queue.
    pub max_queued: usize,
    /// The body of one answer.
    pub response_bytes: usize,
}

impl PlacesSettings {
    /// The chosen provider; else the New API if there is a key (Google does not enable the legacy one
    /// for new projects), else the gazetteer.
    pub fn provider(&self) -> Provider {
        self.provider_override.unwrap_or(match self.key {
            Some(_) => Provider::GoogleNew,
            None => Provider::Offline,
        })
    }

    /// Whether nothing differs that decides about a query.
    pub fn is_same(&self, other: &PlacesSettings) -> bool {
        // The default is as good as the same provider, if it is chosen.
        let neutral = |settings: &PlacesSettings| PlacesSettings {
            provider_override: Some(settings.provider()),
            warnings: Vec::new(),
            ..settings.clone()
        };
        neutral(self) == neutral(other)
    }

    /// Applies the command line, and reads the key and the certificates.
    pub(super) fn apply_overrides(
        &mut self,
        overrides: &Overrides,
        read: ReadFile,
    ) -> Result<(), ConfigError> {
        self.provider_override = overrides.provider.or(self.provider_override);
        self.key = match (&overrides.places_key, &overrides.places_key_file) {
            (Some(key), _) => {
                self.warnings.push(KEY_IS_LISTED.to_owned());
                Some(key.clone())
            }
            (None, Some(path)) => {
                self.warnings.extend(readable_by_others(path, "key file"));
                Some(read_key(path, read)?)
            }
            (None, None) => key_in_environment()?,
        };
        if let Some(path) = &overrides.places_ca {
            let read_error = |reason: String| ConfigError::Read {
                path: path.clone(),
                option: "--places-ca",
                reason,
            };
            let text = read(path).map_err(|error| read_error(plain(&error)))?;
            let ca = Authorities::from_pem(&text).map_err(|error| read_error(error.to_string()))?;
            self.ca = Some(ca);
        }
        let api = match self.provider() {
            Provider::Offline => return Ok(()),
            Provider::Google => Api::NearbySearch,
            Provider::GoogleNew => Api::New(self.shape),
        };
        if overrides.places_url.is_none() && self.key.is_none() {
            let name = self.provider().name();
            return Err(ConfigError::Places(format!(
                "the places provider {name} needs an API key: use --places-key-file FILE or the \
                 variable {KEY_VARIABLE}, or choose --places offline"
            )));
        }
        self.endpoint = overrides.places_url.clone().unwrap_or_else(|| api.endpoint());
        Ok(())
    }
}

impl Default for PlacesSettings {
    fn default() -> PlacesSettings {
        PlacesSettings {
            provider_override: None,
            shape: Shape::Nearby,
            endpoint: Api::New(Shape::Nearby).endpoint(),
            ca: None,
            key: None,
            warnings: Vec::new(),
            timeout: Duration::from_secs(5),
            max_in_flight: 64,
            max_queued: 1_024,
            response_bytes: 4 * 1024 * 1024,
        }
    }
}

fn read_key(path: &Path, read: ReadFile) -> Result<ApiKey, ConfigError> {
    let read_error = |reason: String| ConfigError::Read {
        path: path.to_owned(),
        option: "--places-key-file",
        reason,
    };
    let text = read(path).map_err(|error| read_error(plain(&error)))?;
    ApiKey::parse(&text)
        .ok_or_else(|| ConfigError::Places(format!("{} is {NO_KEY}", path.display())))
}

fn key_in_environment() -> Result<Option<ApiKey>, ConfigError> {
    let Some(text) = std::env::var_os(KEY_VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let no_key = || ConfigError::Places(format!("{KEY_VARIABLE} is {NO_KEY}"));
    ApiKey::parse(text.as_encoded_bytes()).map(Some).ok_or_else(no_key)
}

/// A warning if users other than the owner can read the file of a secret. `what` it is, such as `key file`.
pub(super) fn readable_by_others(path: &Path, what: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let path = path.display();
    (mode & 0o077 != 0)
        .then(|| format!("other users can read the {what} {path}; run: chmod 600 {path}"))
}

/// The environment variable for the key.
pub const KEY_VARIABLE: &str = "HERD_PLACES_KEY";
const NO_KEY: &str = "not a valid API key: printable ASCII without spaces expected";
const KEY_IS_LISTED: &str = "`ps` shows the value of --places-key to every user of this machine: use \
                             --places-key-file or the variable HERD_PLACES_KEY";
