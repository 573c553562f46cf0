//! The file of a database in its folder. A lock file beside it, `DIR/<server>.lock`, is held for as long as the process
//! uses the database, and dies with its holder: redb's own lock is given back when the database is opened again after a
//! failure, and a file that is moved aside must not be another process's new one.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use redb::backends::FileBackend;

use super::StateError;
use super::database::{Contents, Database, Fault, Restored};
use crate::errors::plain;
use crate::limits::STATE_CACHE_BYTES;
use crate::logging::target;

/// A folder with databases of servers, and the lock on that of one of them.
#[derive(Clone, Debug)]
pub struct StateDir {
    dir: PathBuf,
    server: String,
    is_shared: bool,
    _lock: Arc<File>,
}

/// The database of a server at its start.
pub struct Opened {
    pub database: Database,
    /// Where the one was moved that was damaged, and why it was.
    pub moved: Option<(PathBuf, String)>,
}

impl StateDir {
    /// Makes the folder if it is missing, and locks the database of `server` in it. `is_shared` says whether several loops
    /// write to it.
    pub fn lock(dir: &Path, server: &str, is_shared: bool) -> Result<StateDir, StateError> {
        let folder =
            |error: io::Error| StateError::Folder { dir: dir.to_owned(), reason: plain(&error) };
        make_folder(dir).map_err(folder)?;
        let path = dir.join(format!("{server}.lock"));
        let lock = private_file(&path).map_err(folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (dir, server) = (dir.to_owned(), server.to_owned());
                return Err(StateError::InUse { dir, server });
            }
            Err(TryLockError::Error(error)) => return Err(folder(error)),
        }
        let (dir, server) = (dir.to_owned(), server.to_owned());
        Ok(StateDir { dir, server, is_shared, _lock: Arc::new(lock) })
    }

    /// Where the folder is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the database is.
    pub fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.redb", self.server))
    }

    /// Bytes of the disk that the database takes; 0 if that can't be found out.
    pub fn bytes(&self) -> u64 {
        std::fs::metadata(self.path()).map_or(0, |found| found.blocks() * 512)
    }

    /// Opens the database, or makes an empty one. Each page of it is verified.
    pub fn open(&self) -> Result<Database, StateError> {
        self.open_file(true).map_err(|fault| self.explain(fault))
    }

    /// Opens the database again, after a failure; it must be there. Each page of it is verified.
    pub fn reopen(&self) -> Result<Database, Fault> {
        self.open_file(false)
    }

    /// Opens the database and reads it. If it is damaged, it is moved aside, and an empty one takes its place; then `read`
    /// is called once more.
    pub fn start(
        &self,
        mut read: impl FnMut(&Database) -> Result<(), Fault>,
    ) -> Result<Opened, StateError> {
        let attempt = self.open_file(true).and_then(|database| {
            guarded(|| read(&database))?;
            Ok(database)
        });
        match attempt {
            Ok(database) => Ok(Opened { database, moved: None }),
            Err(Fault::Damaged(reason)) => {
                let moved = self.move_aside().map_err(|error| StateError::Damaged {
                    path: self.path(),
                    reason: format!("{reason}; moving it aside failed: {}", plain(&error)),
                })?;
                let path = self.path();
                // Not limited: once, at the start.
                log::error!(
                    target: target::STATE, event = "state_damaged", reason = reason.as_str();
                    "The database {} was damaged ({reason}). It is now {}, and the server starts without it: its \
                     neighbours send it what they know.",
                    path.display(), moved.display()
                );
                let database = self.open()?;
                read(&database).map_err(|fault| self.explain(fault))?;
                Ok(Opened { database, moved: Some((moved, reason)) })
            }
            Err(fault) => Err(self.explain(fault)),
        }
    }

    /// A fault of the database as an error that names it.
    pub fn explain(&self, fault: Fault) -> StateError {
        let (path, server) = (self.path(), self.server.clone());
        match fault {
            Fault::InUse => StateError::InUse { dir: self.dir.clone(), server },
            Fault::OtherServer(of) => StateError::OtherServer { path, of, server },
            Fault::NewerFormat(format) => StateError::NewerFormat { path, format },
            Fault::Damaged(reason) => StateError::Damaged { path, reason },
            Fault::Io(reason) => StateError::Io { path, reason },
        }
    }

    fn open_file(&self, makes: bool) -> Result<Database, Fault> {
        let path = self.path();
        let io = |error: io::Error| Fault::Io(plain(&error));
        let file = match makes {
            true => private_file(&path),
            false => OpenOptions::new().read(true).write(true).open(&path),
        };
        let file = file.map_err(io)?;
        let found = file.metadata().map_err(io)?;
        if !found.is_file() {
            return Err(Fault::Io("not a regular file".to_owned()));
        }
        // redb would make an empty database of it.
        if !makes && found.len() == 0 {
            return Err(Fault::Damaged("the file is empty".to_owned()));
        }
        let database = guarded(|| {
            let backend = FileBackend::new(file)?;
            let mut builder = redb::Database::builder();
            builder.set_cache_size(STATE_CACHE_BYTES).set_check_integrity_on_open(true);
            let redb = builder.create_with_backend(backend)?;
            Database::new(redb, &self.server, self.is_shared)
        })?;
        if makes {
            sync_folder(&self.dir).map_err(io)?;
        }
        Ok(database)
    }

    /// Renames the database, and returns its new name.
    fn move_aside(&self) -> io::Result<PathBuf> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut seconds = since_1970.map_or(0, |since| since.as_secs());
        let name = |seconds| self.dir.join(format!("{}.redb.damaged-{seconds}", self.server));
        while name(seconds).exists() {
            seconds += 1;
        }
        std::fs::rename(self.path(), name(seconds))?;
        sync_folder(&self.dir)?;
        Ok(name(seconds))
    }
}

impl Opened {
    /// Reads all of it.
    pub fn read(&self, to: &mut dyn Contents) -> Result<Restored, Fault> {
        guarded(|| self.database.read(to))
    }
}

/// Runs something that reads a file which may be damaged. Each page is verified when the file is opened; where redb
/// panics nevertheless, the file is not what redb has written.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(Fault::Damaged("reading it failed".to_owned())))
}

/// Makes a folder that only this user can read, if it is missing; it is there after a loss of power.
fn make_folder(dir: &Path) -> io::Result<()> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            match dir.parent() {
                Some(parent) if parent != Path::new("") => sync_folder(parent),
                _ => sync_folder(Path::new(".")),
            }
        }
        Err(error) => Err(error),
    }
}

/// After this a file that was made or renamed in the folder is there after a loss of power.
fn sync_folder(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some file systems can't.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Opens a file, or makes one that only this user can read: it says where clients are.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
