//! `[stop]`: how a server ends.

use std::time::Duration;

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
