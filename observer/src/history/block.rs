//! The bytes of a block: the rows of all series in one window or period.
//!
//! A number in a row takes three bytes: a float's exponent and sixteen bits of its mantissa, which is exact to a hundred-thousandth.
//! Two bits a metric say what is there: nothing (zero), one number (mean and peak are the same), two, or that it is not
//! known. A series that rests takes three bytes, one that does everything takes 33.
//!
//! ```text
//! time (varint, unix seconds)  covered (varint, milliseconds)  rows (varint)
//! each: id less the one before (varint)  flags (2 bytes)  numbers (3 bytes each)
//! ```

use super::{Cell, Row, SeriesId};

/// A window or period: what every series that was there had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// When it begins, in seconds since the epoch.
    pub time: u64,
    /// How long the windows inside of it were, together.
    pub covered_ms: u64,
    /// By rising id.
    pub rows: Vec<(SeriesId, Row)>,
}

/// Bytes that are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block of the history is damaged")]
pub struct Damaged;

const ZERO: u16 = 0;
const ONE: u16 = 1;
const TWO: u16 = 2;
const UNKNOWN: u16 = 3;

/// Bits of a float's mantissa that are not kept.
const CUT: u32 = 7;

/// Rounds to what three bytes hold. Negative numbers and what is no number are zero: there are none.
fn packed(value: f32) -> u32 {
    if value > 0.0 { (value.min(f32::MAX / 2.0).to_bits() + (1 << (CUT - 1))) >> CUT } else { 0 }
}

fn unpacked(bits: u32) -> f32 {
    f32::from_bits(bits << CUT)
}

impl Block {
    /// Its bytes. Rows have to be sorted by their ids.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 12 * self.rows.len());
        push_varint(&mut out, self.time);
        push_varint(&mut out, self.covered_ms);
        push_varint(&mut out, self.rows.len() as u64);
        let mut before = 0;
        for (SeriesId(id), row) in &self.rows {
            push_varint(&mut out, u64::from(id - before));
            before = *id;
            push_row(&mut out, row);
        }
        out
    }

    /// A block of these bytes.
    ///
    /// # Errors
    /// When they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = Reader(bytes);
        let (time, covered_ms, count) = reader.head()?;
        let mut rows = Vec::new();
        let mut id = 0;
        for _ in 0..count {
            id = reader.id(id)?;
            rows.push((SeriesId(id), reader.row()?));
        }
        if reader.0.is_empty() { Ok(Self { time, covered_ms, rows }) } else { Err(Damaged) }
    }

    /// Only one series' row of a block, and when it was: time and milliseconds. `None` when it was not there.
    ///
    /// # Errors
    /// When the bytes are no block.
    pub fn find(bytes: &[u8], wanted: SeriesId) -> Result<Option<(u64, u64, Row)>, Damaged> {
        let mut reader = Reader(bytes);
        let (time, covered_ms, count) = reader.head()?;
        let mut id = 0;
        for _ in 0..count {
            id = reader.id(id)?;
            let row = reader.row()?;
            if id >= wanted.0 {
                return Ok((id == wanted.0).then_some((time, covered_ms, row)));
            }
        }
        Ok(None)
    }

    /// How many rows a block's bytes hold; none, if they are damaged.
    pub(super) fn rows_in(bytes: &[u8]) -> u64 {
        Reader(bytes).head().map_or(0, |(_, _, count)| count)
    }
}

pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn push_row(out: &mut Vec<u8>, row: &Row) {
    let at = out.len();
    out.extend([0, 0]);
    let mut flags = 0;
    for (place, cell) in row.iter().enumerate() {
        let kind = match cell {
            None => UNKNOWN,
            Some(Cell { mean, peak }) => match (packed(*mean), packed(*peak)) {
                (0, 0) => ZERO,
                (mean, peak) if mean == peak => push_number(out, mean, ONE),
                (mean, peak) => {
                    push_number(out, mean, TWO);
                    push_number(out, peak, TWO)
                }
            },
        };
        flags |= kind << (2 * place);
    }
    out[at..at + 2].copy_from_slice(&flags.to_le_bytes());
}

fn push_number(out: &mut Vec<u8>, bits: u32, kind: u16) -> u16 {
    out.extend_from_slice(&bits.to_le_bytes()[..3]);
    kind
}

/// Reads from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    /// So many bytes.
    pub(super) fn slice(&mut self, length: u64) -> Result<&'a [u8], Damaged> {
        let length = usize::try_from(length).map_err(|_| Damaged)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<(u64, u64, u64), Damaged> {
        Ok((self.varint()?, self.varint()?, self.varint()?))
    }

    fn id(&mut self, before: u32) -> Result<u32, Damaged> {
        let step = u32::try_from(self.varint()?).map_err(|_| Damaged)?;
        before.checked_add(step).ok_or(Damaged)
    }

    fn row(&mut self) -> Result<Row, Damaged> {
        let flags = u16::from_le_bytes(self.take()?);
        let mut row = Row::default();
        for (place, cell) in row.iter_mut().enumerate() {
            *cell = match flags >> (2 * place) & 3 {
                ZERO => Some(Cell::default()),
                ONE => {
                    let value = self.number()?;
                    Some(Cell { mean: value, peak: value })
                }
                TWO => Some(Cell { mean: self.number()?, peak: self.number()? }),
                _ => None,
            };
        }
        Ok(row)
    }

    fn number(&mut self) -> Result<f32, Damaged> {
        let [a, b, c] = self.take()?;
        Ok(unpacked(u32::from_le_bytes([a, b, c, 0])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell() -> impl Strategy<Value = Option<Cell>> {
        let number = prop_oneof![Just(0.0_f32), 1e-6_f32..1e12, Just(f32::MAX), Just(1.0)];
        let apart = (number.clone(), number.clone()).prop_map(|(mean, peak)| Cell { mean, peak });
        let same = number.prop_map(|value| Cell { mean: value, peak: value });
        prop_oneof![Just(None), apart.prop_map(Some), same.prop_map(Some)]
    }

    fn block() -> impl Strategy<Value = Block> {
        let row = proptest::array::uniform5(cell());
        let rows = proptest::collection::btree_map(0_u32..=u32::MAX, row, 0..40);
        (0_u64..=u64::MAX, 0_u64..10_000_000, rows).prop_map(|(time, covered_ms, rows)| Block {
            time,
            covered_ms,
            rows: rows.into_iter().map(|(id, row)| (SeriesId(id), row)).collect(),
        })
    }

    fn close(read: f32, written: f32) -> bool {
        (read - written.min(f32::MAX / 2.0)).abs() <= written.min(f32::MAX / 2.0) * 1e-5
    }

    proptest! {
        #[test]
        fn a_block_reads_back_to_a_hundred_thousandth(block in block()) {
            let bytes = block.encode();
            let read = Block::decode(&bytes).unwrap();
            prop_assert_eq!((read.time, read.covered_ms, read.rows.len()), (block.time, block.covered_ms, block.rows.len()));
            for ((id, row), (read_id, read_row)) in block.rows.iter().zip(&read.rows) {
                prop_assert_eq!(id, read_id);
                for (cell, read) in row.iter().zip(read_row) {
                    match (cell, read) {
                        (None, None) => {}
                        (Some(cell), Some(read)) => {
                            prop_assert!(close(read.mean, cell.mean) && close(read.peak, cell.peak), "{:?}: {:?}", cell, read);
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                prop_assert_eq!(Block::find(&bytes, *id).unwrap(), Some((read.time, read.covered_ms, *read_row)));
            }
            prop_assert_eq!(Block::rows_in(&bytes), block.rows.len() as u64);
        }

        #[test]
        fn what_is_written_again_is_the_same(block in block()) {
            let bytes = block.encode();
            prop_assert_eq!(Block::decode(&bytes).unwrap().encode(), bytes);
        }

        #[test]
        fn damaged_bytes_are_refused_or_read_and_never_more(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Block::decode(&bytes);
            let _ = Block::find(&bytes, SeriesId(7));
        }
    }

    #[test]
    fn a_cut_block_is_damaged() {
        let rows = vec![(SeriesId(3), super::super::reading([Some(1.0), Some(2.0), None, Some(0.0), None]))];
        let bytes = Block { time: 5, covered_ms: 1000, rows }.encode();
        for length in 0..bytes.len() {
            assert_eq!(Block::decode(&bytes[..length]), Err(Damaged), "{length}");
        }
        assert_eq!(bytes.len(), 1 + 2 + 1 + 1 + 2 + 6);
    }

    #[test]
    fn who_rests_takes_three_bytes_and_who_does_everything_33() {
        let of = |row: Row| Block { time: 0, covered_ms: 0, rows: vec![(SeriesId(1), row)] }.encode().len() - 3;
        assert_eq!(of([Some(Cell::default()); 5]), 3);
        assert_eq!(of([Some(Cell { mean: 1.0, peak: 2.0 }); 5]), 33);
    }
}
