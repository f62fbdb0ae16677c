//! The database: redb, one table for each step and one for the names.
//!
//! A block is cut into pieces that fit a page each: a longer value would take the next power of two of them. Its number is the
//! key, so that blocks are added on one end of the tree and removed at the other.

use super::{
    Block, SeriesId, Step,
    backing::{Backing, Handle},
    lock,
    queue::{Batch, Sealed},
    registry::{self, Change, FIRST, Known},
};
use crate::ledger::WorkloadKey;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use std::sync::{Arc, Mutex};

type Blocks = TableDefinition<'static, u64, &'static [u8]>;
const BLOCKS: [Blocks; 3] = [Blocks::new("seconds"), Blocks::new("minutes"), Blocks::new("hours")];
const NAMES: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("names");
const OPEN: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("open");

/// What the tables hold; a file of another is not ours.
const FORMAT: u32 = 1;
/// Pages that are kept in memory.
const CACHE_BYTES: usize = 128 * 1024;
/// A piece, its key and the page's own fit into 4096 bytes.
const PIECE_BYTES: usize = 4000;
/// A block has fewer pieces: a thousand rows of 33 bytes are nine.
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
            Error::Corrupted(_) | Error::UpgradeRequired(_) | Error::TableTypeMismatch { .. } => true,
            Error::TableIsMultimap(_) | Error::TypeDefinitionChanged { .. } => true,
            Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        };
        let text = error.to_string();
        if foreign { Self::Foreign(text) } else { Self::Failed(text) }
    }
}

/// What a store knew when it was opened.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) names: Vec<(WorkloadKey, Known)>,
    pub(super) next_id: u32,
    /// The number of the next block of each step.
    pub(super) next: [u64; 3],
    pub(super) minute: Option<Block>,
    pub(super) hour: Option<Block>,
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
        backing.claim().map_err(|error| DiskError::Failed(error.to_string()))?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(Handle(Arc::clone(backing))).map_err(redb::Error::from)?;
        let made = database.begin_write().map_err(redb::Error::from)?;
        prepare(&made)?;
        made.commit().map_err(redb::Error::from)?;
        let (first, loaded) = load(&database)?;
        Ok((Self { database, backing: Arc::clone(backing), first: Mutex::new(first) }, loaded))
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
        let mut read = || -> Result<_, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(BLOCKS[step as usize])?;
            let mut whole = Vec::new();
            let mut number = None;
            for piece in table.range(..end.saturating_mul(PIECES))? {
                let (key, piece) = piece?;
                if number.is_some_and(|number| number != key.value() / PIECES) {
                    show(&whole);
                    whole.clear();
                }
                number = Some(key.value() / PIECES);
                whole.extend_from_slice(piece.value());
            }
            if number.is_some() {
                show(&whole);
            }
            Ok(())
        };
        read().map_err(DiskError::from)
    }
}

/// Makes the tables, or finds that they are ours.
fn prepare(transaction: &WriteTransaction) -> Result<(), DiskError> {
    let format = || -> Result<_, redb::Error> {
        for table in BLOCKS {
            transaction.open_table(table)?;
        }
        transaction.open_table(NAMES)?;
        let mut open = transaction.open_table(OPEN)?;
        let found = open.get("format")?.map(|bytes| bytes.value().to_vec());
        if found.is_none() {
            open.insert("format", FORMAT.to_le_bytes().as_slice())?;
        }
        Ok(found)
    };
    match format()? {
        Some(found) if found != FORMAT.to_le_bytes() => {
            Err(DiskError::Foreign(format!("it has the format {found:?} of another version, not {FORMAT}")))
        }
        _ => Ok(()),
    }
}

fn load(database: &Database) -> Result<([u64; 3], Loaded), DiskError> {
    let read = || -> Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let (mut first, mut next) = ([0; 3], [0; 3]);
        for (at, table) in BLOCKS.into_iter().enumerate() {
            let table = transaction.open_table(table)?;
            first[at] = table.first()?.map_or(0, |(key, _)| key.value() / PIECES);
            next[at] = table.last()?.map_or(0, |(key, _)| key.value() / PIECES + 1);
        }
        let mut names = Vec::new();
        for entry in transaction.open_table(NAMES)?.iter()? {
            let (id, bytes) = entry?;
            names.extend(registry::decode(SeriesId(id.value()), bytes.value()));
        }
        let open = transaction.open_table(OPEN)?;
        let get = |key: &str| open.get(key).map(|found| found.map(|bytes| bytes.value().to_vec()));
        let block = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| Block::decode(&bytes).ok());
        let next_id = get("next_id")?.and_then(|bytes| bytes.try_into().ok()).map_or(FIRST, u32::from_le_bytes);
        let (minute, hour) = (block(get("minute")?), block(get("hour")?));
        Ok((first, Loaded { names, next_id, next, minute, hour }))
    };
    read().map_err(DiskError::from)
}

/// Returns the lowest number that is left of each step.
fn write(transaction: &WriteTransaction, batch: &Batch, mut first: [u64; 3]) -> Result<[u64; 3], redb::Error> {
    let Batch { blocks, sealed: Sealed { ends: _, minute, hour, changes, next_id } } = batch;
    for (at, step) in Step::ALL.into_iter().enumerate() {
        let Some((last, _)) = blocks[at].last() else { continue };
        let mut table = transaction.open_table(BLOCKS[at])?;
        for (number, block) in &blocks[at] {
            for (key, piece) in (number * PIECES..).zip(block.chunks(PIECE_BYTES)) {
                table.insert(key, piece)?;
            }
        }
        if last + 1 > first[at] + step.kept() + step.slack() {
            first[at] = last + 1 - step.kept();
            table.retain_in(..first[at] * PIECES, |_, _| false)?;
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
    let mut open = transaction.open_table(OPEN)?;
    let next_id = next_id.to_le_bytes().to_vec();
    for (key, value) in [("next_id", Some(&next_id)), ("minute", minute.as_ref()), ("hour", hour.as_ref())] {
        match value {
            Some(bytes) => open.insert(key, bytes.as_slice())?,
            None => open.remove(key)?,
        };
    }
    Ok(first)
}
