//! The providers of places.

/// The provider that answers which places are near a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Google's Nearby Search (legacy).
    Google,
    /// Google's Places API (New).
    GoogleNew,
    /// The embedded gazetteer.
    Offline,
}

impl Provider {
    /// Its name in the configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Google => "google",
            Provider::GoogleNew => "google-new",
            Provider::Offline => "offline",
        }
    }

    /// A provider by its name.
    pub fn named(name: &str) -> Option<Provider> {
        let all = [Provider::Google, Provider::GoogleNew, Provider::Offline];
        all.into_iter().find(|provider| provider.name() == name)
    }
}
