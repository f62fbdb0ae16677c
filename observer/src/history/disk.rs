//! The database: redb, one table for each step and one for the names.
//!
//! The blocks of a commit are one [`Pack`] for each step, cut into pieces that fill a page each: a longer value would take the
//! next power of two of them. The number of its first block is the key, so that packs are added at one end of the tree and
//! removed at the other.

use super::{
    Block, SeriesId, Step,
    backing::{Backing, Handle},
    lock,
    pack::{self, Pack},
    queue::{Batch, Open, Sealed},
    registry::{self, Change, FIRST, Known},
};
use crate::ledger::WorkloadKey;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase as _, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use std::sync::{Arc, Mutex};

type Packs = TableDefinition<'static, u64, &'static [u8]>;
const PACKS: [Packs; 3] = [Packs::new("seconds"), Packs::new("minutes"), Packs::new("hours")];
const NAMES: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("names");
const META: TableDefinition<'static, &'static str, u32> = TableDefinition::new("meta");

/// What the tables hold; a file of another is not ours.
const FORMAT: u32 = 1;
/// Pages that are kept in memory; half of it may wait to be written.
const CACHE_BYTES: usize = 128 * 1024;
/// A piece, its key and the page's own fit into 4096 bytes.
const PIECE_BYTES: usize = 4000;
/// A pack has fewer pieces: the queue has room for fifty.
const PIECES: u64 = 256;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    /// What is in the file is not what we wrote.
    #[error("{0}")]
    Foreign(String),
    /// The disk does not do what it is told.
    #[error("{0}")]
    Failed(String),
}

impl From<redb::Error> for DiskError {
    fn from(error: redb::Error) -> Self {
        use redb::Error;
        let foreign = match &error {
            Error::Corrupted(_)
            | Error::UpgradeRequired(_)
            | Error::TableTypeMismatch { .. }
            | Error::TableIsMultimap(_)
            | Error::TypeDefinitionChanged { .. } => true,
            Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        };
        let text = error.to_string();
        if foreign { Self::Foreign(text) } else { Self::Failed(text) }
    }
}

impl From<std::io::Error> for DiskError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a store knew when it was opened.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) names: Vec<(WorkloadKey, Known)>,
    pub(super) open: Open,
    /// The number of the next block of each step.
    pub(super) next: [u64; 3],
    /// The windows of the minute that was not over.
    pub(super) windows: Vec<Block>,
    /// The minutes of the hour that was not over.
    pub(super) minutes: Vec<Block>,
}

/// An open database.
#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    backing: Arc<Backing>,
    /// The lowest number that may still be there, of each step.
    first: Mutex<[u64; 3]>,
}

impl Disk {
    /// Opens what is in the file, and makes it if the file is empty. Everything in it is read once: its checksums have to
    /// agree before any of it is believed.
    pub(super) fn open(backing: &Arc<Backing>) -> Result<(Self, Loaded), DiskError> {
        // What is there is to be readable on a full disk too: opening writes to pages that the file has.
        backing.claim().or_else(|error| if backing.is_empty() { Err(error) } else { Ok(()) })?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(Handle(Arc::clone(backing))).map_err(redb::Error::from)?;
        let transaction = database.begin_write().map_err(redb::Error::from)?;
        prepare(&transaction)?;
        transaction.commit().map_err(redb::Error::from)?;
        let disk = Self { database, backing: Arc::clone(backing), first: Mutex::default() };
        let loaded = disk.load()?;
        Ok((disk, loaded))
    }

    /// Writes a batch; all of it is there when this returns, or nothing.
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), DiskError> {
        let mut first = lock(&self.first);
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        let left = write(&transaction, batch, *first).map_err(DiskError::from)?;
        transaction.commit().map_err(redb::Error::from)?;
        *first = left;
        Ok(())
    }

    /// Claims the space of the next commit.
    pub(super) fn claim(&self) -> std::io::Result<()> {
        self.backing.claim()
    }

    /// Shows every block of a step with a number below `end`, oldest first.
    pub(super) fn scan(&self, step: Step, end: u64, mut show: impl FnMut(&[u8])) -> Result<(), DiskError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let scanned = scan(&transaction, step, 0, |number, block| {
            if number < end {
                show(block);
            }
        });
        scanned.map(drop).map_err(DiskError::from)
    }

    fn load(&self) -> Result<Loaded, DiskError> {
        let read = || -> Result<_, redb::Error> {
            let transaction = self.database.begin_read()?;
            let (mut first, mut next) = ([0; 3], [0; 3]);
            let mut open = Open { next_id: FIRST, ..Open::default() };
            for step in Step::ALL {
                let table = transaction.open_table(PACKS[step as usize])?;
                let number = |key: Option<(redb::AccessGuard<'_, u64>, _)>| key.map(|(key, _)| key.value() / PIECES);
                first[step as usize] = number(table.first()?).unwrap_or(0);
                let Some(last) = number(table.last()?) else { continue };
                let (end, newest) = scan(&transaction, step, last, |_, _| {})?;
                next[step as usize] = end;
                if let (Step::Second, Some(newest)) = (step, newest) {
                    open = newest;
                }
            }
            let mut names = Vec::new();
            for entry in transaction.open_table(NAMES)?.iter()? {
                let (id, bytes) = entry?;
                names.extend(registry::decode(SeriesId(id.value()), bytes.value()));
            }
            let blocks_from = |step, from| -> Result<Vec<Block>, redb::Error> {
                let mut blocks = Vec::new();
                scan(&transaction, step, from, |number, block| {
                    if number >= from {
                        blocks.extend(Block::decode(block));
                    }
                })?;
                Ok(blocks)
            };
            let windows = blocks_from(Step::Second, open.minute_from)?;
            let minutes = blocks_from(Step::Minute, open.hour_from)?;
            Ok((first, Loaded { names, open, next, windows, minutes }))
        };
        let (first, loaded) = read().map_err(DiskError::from)?;
        *lock(&self.first) = first;
        Ok(loaded)
    }
}

/// Makes the tables, or finds that they are ours.
fn prepare(transaction: &WriteTransaction) -> Result<(), DiskError> {
    let format = || -> Result<_, redb::Error> {
        for table in PACKS {
            transaction.open_table(table)?;
        }
        transaction.open_table(NAMES)?;
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("format")?.map(|format| format.value());
        if found.is_none() {
            meta.insert("format", FORMAT)?;
        }
        Ok(found)
    };
    match format()? {
        Some(found) if found != FORMAT => {
            Err(DiskError::Foreign(format!("it has the format {found} of another version, not {FORMAT}")))
        }
        _ => Ok(()),
    }
}

/// Shows the blocks of a step with their numbers, from the pack on that has the number `from`. Returns the number after the last,
/// and what the last pack says of what is open.
fn scan(
    transaction: &ReadTransaction,
    step: Step,
    from: u64,
    mut show: impl FnMut(u64, &[u8]),
) -> Result<(u64, Option<Open>), redb::Error> {
    let table = transaction.open_table(PACKS[step as usize])?;
    let begin = pack_with(&table, from)?;
    let (mut next, mut open) = (0, None);
    let mut whole = Vec::new();
    let mut current = None;
    let mut end_pack = |number: Option<u64>, whole: &mut Vec<u8>| {
        if let (Some(number), Ok(pack)) = (number, Pack::of(whole)) {
            open = Some(pack.open);
            for (number, block) in (number..).zip(pack) {
                // A commit of which nobody knew whether it had succeeded was made again.
                if number >= next {
                    show(number, block);
                    next = number + 1;
                }
            }
        }
        whole.clear();
    };
    for piece in table.range(begin..)? {
        let (key, piece) = piece?;
        let number = key.value() / PIECES;
        if current != Some(number) {
            end_pack(current.replace(number), &mut whole);
        }
        whole.extend_from_slice(piece.value());
    }
    end_pack(current, &mut whole);
    Ok((next, open))
}

/// The key of the first piece of the pack that has a block's number.
fn pack_with(table: &impl ReadableTable<u64, &'static [u8]>, number: u64) -> Result<u64, redb::Error> {
    let upto = number.saturating_mul(PIECES).saturating_add(PIECES - 1);
    let before = table.range(..=upto)?.next_back().transpose()?;
    Ok(before.map_or(0, |(key, _)| key.value() / PIECES * PIECES))
}

/// Returns the lowest number that is left of each step.
fn write(transaction: &WriteTransaction, batch: &Batch, mut first: [u64; 3]) -> Result<[u64; 3], redb::Error> {
    let Batch { blocks, sealed: Sealed { ends: _, open, changes } } = batch;
    for step in Step::ALL {
        let of_step = &blocks[step as usize];
        let Some((number, _)) = of_step.first() else { continue };
        let mut table = transaction.open_table(PACKS[step as usize])?;
        for (key, piece) in (number * PIECES..).zip(pack::encode(*open, of_step).chunks(PIECE_BYTES)) {
            table.insert(key, piece)?;
        }
        let end = number + of_step.len() as u64;
        if end > first[step as usize] + step.kept() + step.slack() {
            first[step as usize] = prune(&mut table, end - step.kept())?;
        }
    }
    if !changes.is_empty() {
        let mut names = transaction.open_table(NAMES)?;
        for (SeriesId(id), change) in changes {
            match change {
                Change::Put { key, known, .. } => names.insert(id, registry::encode(key, known).as_slice())?,
                Change::Removed => names.remove(id)?,
            };
        }
    }
    Ok(first)
}

/// Removes the packs before the one that has `number`. Returns the number with which that one begins.
fn prune(table: &mut Table<'_, u64, &'static [u8]>, number: u64) -> Result<u64, redb::Error> {
    let key = pack_with(table, number)?;
    table.retain_in(..key, |_, _| false)?;
    Ok(key / PIECES)
}
