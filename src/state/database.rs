//! One database: what is in it, and what one transaction writes.
//!
//! | table | key | value |
//! |---|---|---|
//! | `updates` | the client's id | its UPDATELOC line, without LF |
//! | `meta` | `format` | the version of this layout, decimal |
//! | | `server` | the name of the server whose database it is |
//! | | `floor` | the floor's age in nanoseconds, a space, its id; absent if there is none |
//!
//! Each transaction is synced before it counts as committed. redb has a mode without, which keeps transactions in memory
//! until a later one is synced: then one that was reported as committed could still fail.

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::sweep::Sweep;
use crate::errors::plain;
use crate::herd::{DiskBatch, Floor};
use crate::protocol::{FromDialler, PeerError, UpdateRef};

/// The version of the layout above.
pub const FORMAT: u64 = 1;

pub(super) const UPDATES: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("updates");
const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another process has locked it.
    InUse,
    /// It is the database of this other server.
    OtherServer(String),
    /// It has this format, which is newer than [`FORMAT`].
    NewerFormat(u64),
    /// Its contents are not what was written.
    Damaged(String),
    /// The disk, or the system.
    Io(String),
}

/// An open database, which this process has locked.
pub struct Database {
    redb: redb::Database,
    floor: Option<Floor>,
    /// What lies at or below the floor, as far as it was not deleted yet.
    sweep: Sweep,
    is_shared: bool,
}

/// What reading everything has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub updates: u64,
    /// Entries at or below the floor, which are left out.
    pub below_floor: u64,
    /// Entries that are no updates of their key's client, which are left out, too.
    pub unreadable: u64,
}

/// What one transaction has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub updates: u64,
    /// Clients that were deleted, by the floor, or because they were taken out of the table.
    pub deleted: u64,
}

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Updates that the database took.
    pub updates: u64,
    /// Those of which it had the same or a newer one.
    pub not_newer: u64,
    /// Those at or below the floor.
    pub below_floor: u64,
}

/// Adds updates that may be older than what is there.
pub struct Loading<'a> {
    updates: redb::Table<'a, &'static [u8], &'static [u8]>,
    floor: Option<Floor>,
    loaded: Loaded,
    line: Vec<u8>,
}

impl Loading<'_> {
    /// Nothing at or below this floor is taken any more. The higher one of two stays.
    pub fn raise_floor(&mut self, floor: Floor) {
        self.floor = self.floor.take().max(Some(floor));
    }

    /// Adds an update, unless the database has one that is as new.
    pub fn put(&mut self, update: &UpdateRef<'_>) -> Result<(), Fault> {
        if !is_above(self.floor.as_ref(), update) {
            self.loaded.below_floor += 1;
        } else if has_newer(&self.updates, update, self.floor.as_ref())? {
            self.loaded.not_newer += 1;
        } else {
            self.line.clear();
            update.write_updateloc(&mut self.line);
            self.line.pop(); // LF
            self.updates.insert(update.id, self.line.as_slice())?;
            self.loaded.updates += 1;
        }
        Ok(())
    }
}

/// What reading everything hands over.
pub trait Contents {
    /// Called once, first.
    fn floor(&mut self, floor: &Floor);
    /// The update, and its line without LF.
    fn update(&mut self, update: &UpdateRef<'_>, line: &[u8]);
}

impl Database {
    /// Takes an open database: that of `server`, or an empty one, which becomes it. `is_shared` says whether several loops
    /// write to it, so that an update may be older than what is there.
    pub fn new(redb: redb::Database, server: &str, is_shared: bool) -> Result<Database, Fault> {
        let floor = match check(&redb, server)? {
            Some(floor) => floor,
            None => {
                initialise(&redb, server)?;
                None
            }
        };
        // What it forgot in a former run may still be there.
        let sweep = if floor.is_some() { Sweep::begin() } else { Sweep::default() };
        Ok(Database { redb, floor, sweep, is_shared })
    }

    /// The floor that is stored.
    pub fn floor(&self) -> Option<&Floor> {
        self.floor.as_ref()
    }

    /// Hands over all that is in it, except for what lies at or below the floor.
    pub fn read(&self, to: &mut dyn Contents) -> Result<Restored, Fault> {
        if let Some(floor) = &self.floor {
            to.floor(floor);
        }
        let updates = self.redb.begin_read()?.open_table(UPDATES)?;
        let mut restored = Restored::default();
        for entry in updates.iter()? {
            let (id, line) = entry?;
            match parse(line.value()).ok().filter(|update| update.id == id.value()) {
                None => restored.unreadable += 1,
                Some(update) if !is_above(self.floor.as_ref(), &update) => {
                    restored.below_floor += 1
                }
                Some(update) => {
                    restored.updates += 1;
                    to.update(&update, line.value());
                }
            }
        }
        Ok(restored)
    }

    /// Lets `run` add updates, all of them or, if it fails, none.
    pub fn load<E: From<Fault>>(
        &mut self,
        run: impl FnOnce(&mut Loading<'_>) -> Result<(), E>,
    ) -> Result<Loaded, E> {
        let transaction = self.redb.begin_write().map_err(Fault::from)?;
        let (floor, loaded) = {
            let updates = transaction.open_table(UPDATES).map_err(Fault::from)?;
            let floor = self.floor.clone();
            let mut loading =
                Loading { updates, floor, loaded: Loaded::default(), line: Vec::new() };
            run(&mut loading)?;
            (loading.floor, loading.loaded)
        };
        if let Some(floor) = &floor {
            let mut meta = transaction.open_table(META).map_err(Fault::from)?;
            meta.insert(FLOOR, floor_text(floor).as_slice()).map_err(Fault::from)?;
        }
        transaction.commit().map_err(Fault::from)?;
        self.sweep = if floor.is_some() { Sweep::begin() } else { Sweep::default() };
        self.floor = floor;
        Ok(loaded)
    }

    /// Whether [`Database::commit`] has something to delete even without a batch.
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_under_way()
    }

    /// Commits the batches in one transaction, synced, and deletes a slice of what the floor forgot. Nothing has changed
    /// if it fails; the database must then be opened again.
    pub fn commit(&mut self, batches: &[DiskBatch]) -> Result<Written, Fault> {
        let transaction = self.redb.begin_write()?;
        let mut written = Written::default();
        let floor = batches.iter().filter_map(|batch| batch.floor.as_ref()).max();
        let raised = floor.filter(|floor| self.floor.as_ref() < Some(floor)).cloned();
        let floor = raised.as_ref().or(self.floor.as_ref());
        let sweep;
        {
            let mut updates = transaction.open_table(UPDATES)?;
            for batch in batches {
                for id in &batch.removed {
                    written.deleted += u64::from(updates.remove(id.as_slice())?.is_some());
                }
                written.updates += put(&mut updates, &batch.lines, floor, self.is_shared)?;
            }
            let begun =
                if raised.is_some() { self.sweep.clone().raised() } else { self.sweep.clone() };
            let (after, deleted) = begun.slice(&mut updates, floor, written.updates)?;
            sweep = after;
            written.deleted += deleted;
        }
        if let Some(raised) = &raised {
            transaction.open_table(META)?.insert(FLOOR, floor_text(raised).as_slice())?;
        }
        transaction.commit()?;
        self.sweep = sweep;
        self.floor = raised.or_else(|| self.floor.take());
        Ok(written)
    }
}

/// Writes the lines of a batch, in the order of their ids: neighbours in the tree are written together. Returns how many.
fn put(
    updates: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    lines: &[u8],
    floor: Option<&Floor>,
    is_shared: bool,
) -> Result<u64, Fault> {
    let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mut all: Vec<(UpdateRef<'_>, &[u8])> =
        lines.filter_map(|line| parse(line).ok().map(|update| (update, line))).collect();
    all.sort_unstable_by_key(|(update, _)| update.id);
    let mut count = 0;
    for (update, line) in all {
        if is_shared && has_newer(updates, &update, floor)? {
            continue;
        }
        updates.insert(update.id, line)?;
        count += 1;
    }
    Ok(count)
}

/// Whether the database has an update of this client that is as new. One that the floor forgot does not count: it may have
/// the later timestamp, and is gone nevertheless.
fn has_newer(
    updates: &impl ReadableTable<&'static [u8], &'static [u8]>,
    update: &UpdateRef<'_>,
    floor: Option<&Floor>,
) -> Result<bool, Fault> {
    let stored = updates.get(update.id)?;
    let stored = stored.as_ref().and_then(|stored| parse(stored.value()).ok());
    let stored = stored.filter(|stored| is_above(floor, stored));
    Ok(stored.is_some_and(|stored| stored.newness(update).is_ge()))
}

/// The update of a line without LF, or why it is none.
pub(super) fn parse(line: &[u8]) -> Result<UpdateRef<'_>, String> {
    match FromDialler::parse(line) {
        Ok(FromDialler::Update(update)) => Ok(update),
        Ok(_) | Err(PeerError::Unknown | PeerError::Version) => {
            Err("it is no UPDATELOC line".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the floor leaves the update.
pub(super) fn is_above(floor: Option<&Floor>, update: &UpdateRef<'_>) -> bool {
    floor.is_none_or(|floor| floor.is_below(update))
}

/// Checks that it is the database of this server, and returns its floor; None if it is empty.
fn check(redb: &redb::Database, server: &str) -> Result<Option<Option<Floor>>, Fault> {
    let read = redb.begin_read()?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) if read.list_tables()?.next().is_none() => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let text = |key: &str| -> Result<Option<Vec<u8>>, Fault> {
        Ok(meta.get(key)?.map(|value| value.value().to_vec()))
    };
    let damaged = |what: &str| Fault::Damaged(what.to_owned());
    let format = text("format")?.and_then(|format| String::from_utf8(format).ok()?.parse().ok());
    match format {
        None => return Err(damaged("it says no format")),
        Some(format) if format > FORMAT => return Err(Fault::NewerFormat(format)),
        Some(_) => {}
    }
    let of = text("server")?.ok_or_else(|| damaged("it says no server"))?;
    if of != server.as_bytes() {
        return Err(Fault::OtherServer(of.escape_ascii().to_string()));
    }
    read.open_table(UPDATES)?;
    let floor = text(FLOOR)?;
    let floor = floor.map(|text| parse_floor(&text).ok_or_else(|| damaged("its floor is none")));
    Ok(Some(floor.transpose()?))
}

/// Makes an empty database that of this server.
fn initialise(redb: &redb::Database, server: &str) -> Result<(), Fault> {
    let transaction = redb.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT.to_string().as_bytes())?;
        meta.insert("server", server.as_bytes())?;
        transaction.open_table(UPDATES)?;
    }
    Ok(transaction.commit()?)
}

/// The floor as it stands in the database and, after its first word, in a dump.
pub(super) fn floor_text(floor: &Floor) -> Vec<u8> {
    [floor.age.to_string().as_bytes(), b" ", &floor.id].concat()
}

/// What [`floor_text`] returns.
pub(super) fn parse_floor(text: &[u8]) -> Option<Floor> {
    let space = memchr::memchr(b' ', text)?;
    let age = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
    let id = &text[space + 1..];
    let is_id = !id.is_empty() && !id.iter().any(|byte| byte.is_ascii_whitespace());
    is_id.then(|| Floor { age, id: id.to_vec() })
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Fault {
        use std::io::ErrorKind::{InvalidData, UnexpectedEof};
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Fault::InUse,
            redb::Error::Corrupted(reason) => Fault::Damaged(reason),
            // That it is no database of redb, or ends too soon.
            redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
                Fault::Damaged(plain(&error))
            }
            redb::Error::Io(error) => Fault::Io(plain(&error)),
            error @ (redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableDoesNotExist(_)) => Fault::Damaged(error.to_string()),
            error => Fault::Io(error.to_string()),
        }
    }
}

macro_rules! faults {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Fault {
                redb::Error::from(error).into()
            }
        })*
    };
}
faults!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

const FLOOR: &str = "floor";
