//! Disks that lose power or fail, for redb.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// A disk in memory. What was written after the last sync may be lost.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    present: Vec<u8>,
    /// What the disk has as of the last sync.
    synced: Vec<u8>,
    /// Since then.
    since: Vec<Change>,
    power: Power,
    syncs: usize,
    fails: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// How the disk treats a sync.
#[derive(Clone, Copy, Debug, Default)]
pub enum Power {
    #[default]
    On,
    /// It goes at the sync with this number, which fails, as does all after it.
    GoesAt(usize),
    /// The same, on a disk that does nothing at a sync and says that it has.
    GoesAtAndNeverSyncs(usize),
}

impl Disk {
    pub fn set_power(&self, power: Power) {
        let mut state = self.state();
        (state.power, state.syncs) = (power, 0);
    }

    /// From now on every write and sync fails, or none.
    pub fn set_fails(&self, fails: bool) {
        self.state().fails = fails;
    }

    /// The disk after the loss of power: what was synced and, of what was written after that, any part (`survives` is asked
    /// for each sector), in any order.
    pub fn after_loss(&self, mut survives: impl FnMut() -> bool) -> Disk {
        let state = self.state();
        let mut left = state.synced.clone();
        for change in &state.since {
            match change {
                Change::Length(length) if survives() => left.resize(*length, 0),
                Change::Length(_) => {}
                Change::Write(at, bytes) => {
                    for (number, sector) in bytes.chunks(512).enumerate() {
                        if survives() {
                            put(&mut left, at + 512 * number, sector);
                        }
                    }
                }
            }
        }
        let state = State { present: left.clone(), synced: left, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_off(&self) -> bool {
        match self.power {
            Power::On => false,
            Power::GoesAt(at) | Power::GoesAtAndNeverSyncs(at) => self.syncs >= at,
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.fails || self.is_off() {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

fn put(disk: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    disk.resize(disk.len().max(end), 0);
    disk[at..end].copy_from_slice(bytes);
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().present.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let at = offset as usize;
        let found = state.present.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        state.present.resize(len as usize, 0);
        state.since.push(Change::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.syncs += 1;
        state.check()?;
        if !matches!(state.power, Power::GoesAtAndNeverSyncs(_)) {
            state.synced = state.present.clone();
            state.since.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        put(&mut state.present, offset as usize, data);
        state.since.push(Change::Write(offset as usize, data.to_vec()));
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
