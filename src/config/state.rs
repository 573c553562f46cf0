//! `[state]`: where the table is kept when the server does not run.

use std::path::PathBuf;

/// `[state]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateSettings {
    /// The folder of the databases, one for each server; None if everything is kept in memory only.
    pub dir: Option<PathBuf>,
    pub ack: StateAck,
}

/// When an IAMAT is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateAck {
    /// At once.
    #[default]
    Memory,
    /// Once its update, or a newer one of the client, is committed and synced.
    Disk,
}
