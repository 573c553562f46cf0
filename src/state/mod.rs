//! The state directory: a server's table in an embedded database (redb), and the thread that owns it.
//!
//! ```text
//!   loop 1 --DiskBatch--> +--------+                +----------+
//!   loop 2 --DiskBatch--> | thread | --transaction-> | database |   DIR/<server>.redb
//!   loop 1 <--committed-- +--------+     synced     +----------+
//! ```
//!
//! | file | what |
//! |---|---|
//! | `open.rs` | the file in its folder: made, locked, moved aside if it is damaged |
//! | `database.rs` | what is in it, and what one transaction writes |
//! | `sweep.rs` | what the floor forgot is deleted, a slice with each transaction |
//! | `thread.rs` | the thread: takes batches, commits them, answers, and tries again after a failure |
//! | `dump.rs` | its contents as lines, for backups and for moving |
//! | `metrics.rs` | what the thread counts |
//!
//! What it promises: whatever was answered as committed was synced before, so it is found after a `kill -9`, and after a
//! loss of power as far as the disk keeps what `fdatasync` promised. What fails keeps nothing in memory: a batch that
//! could not be written is dropped and handed over again, by then with newer updates. What it never does: block a loop.

mod database;
mod dump;
mod metrics;
mod open;
mod sweep;
mod thread;

use std::fmt;
use std::path::PathBuf;

pub use database::{Contents, Database, FORMAT, Fault, Loaded, Loading, Restored, Written};
pub use dump::{dump, load};
pub use metrics::StateMetrics;
pub use open::{Opened, StateDir};
pub use thread::{Opener, Outcome, Pace, Reply, StateThread};

/// Why a state directory can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The folder can't be made, or is none.
    Folder { dir: PathBuf, reason: String },
    /// There is no such database, and none is made to be read.
    Missing { path: PathBuf },
    /// Another process has the database of this server.
    InUse { dir: PathBuf, server: String },
    /// The database is another server's.
    OtherServer { path: PathBuf, of: String, server: String },
    /// A later version of this program has written it.
    NewerFormat { path: PathBuf, format: u64 },
    /// Its contents are not what was written.
    Damaged { path: PathBuf, reason: String },
    /// The system refused something.
    Io { path: PathBuf, reason: String },
    /// Lines that are no updates; `more` are not shown.
    BadLines { shown: Vec<String>, more: usize },
}

impl StateError {
    /// Whether the configuration or the operator's files are to blame, so that another start would fail, too.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            StateError::OtherServer { .. }
            | StateError::Missing { .. }
            | StateError::NewerFormat { .. }
            | StateError::Folder { .. }
            | StateError::BadLines { .. } => true,
            StateError::InUse { .. } | StateError::Damaged { .. } | StateError::Io { .. } => false,
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Folder { dir, reason } => {
                write!(f, "the state directory {} can't be used: {reason}", dir.display())
            }
            StateError::Missing { path } => write!(
                f,
                "there is no database {}; is the directory the one that the server uses?",
                path.display()
            ),
            StateError::InUse { dir, server } => write!(
                f,
                "the state directory {} is in use: another process has the database of {server}; stop it, or choose \
                 another directory",
                dir.display()
            ),
            StateError::OtherServer { path, of, server } => write!(
                f,
                "the database {} is that of {of}, not of {server}; move it away, or give it its name",
                path.display()
            ),
            StateError::NewerFormat { path, format } => write!(
                f,
                "the database {} has format {format}, which a later version of this program writes; this one knows \
                 formats up to {FORMAT}",
                path.display()
            ),
            StateError::Damaged { path, reason } => {
                write!(f, "the database {} is damaged: {reason}", path.display())
            }
            StateError::Io { path, reason } => {
                write!(f, "the database {} can't be used: {reason}", path.display())
            }
            StateError::BadLines { shown, more } => {
                f.write_str(&shown.join("; "))?;
                if *more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
            }
        }
    }
}

impl std::error::Error for StateError {}
