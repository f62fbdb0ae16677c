//! The blocks of a commit, together: what is written at once takes whole pages once.
//!
//! ```text
//! minute_from  hour_from  next_id (varints)  each block: length (varint), bytes
//! ```

use super::{
    block::{Damaged, Reader, push_varint},
    queue::Open,
};
use std::sync::Arc;

/// The bytes of a pack.
pub(super) fn encode(open: Open, blocks: &[(u64, Arc<[u8]>)]) -> Vec<u8> {
    let bytes: usize = blocks.iter().map(|(_, block)| block.len() + 3).sum();
    let mut out = Vec::with_capacity(bytes + 24);
    for value in [open.minute_from, open.hour_from, open.next_id.into()] {
        push_varint(&mut out, value);
    }
    for (_, block) in blocks {
        push_varint(&mut out, block.len() as u64);
        out.extend_from_slice(block);
    }
    out
}

/// A pack that is read.
pub(super) struct Pack<'a> {
    pub(super) open: Open,
    rest: Reader<'a>,
}

impl<'a> Pack<'a> {
    /// Reads the head.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let mut rest = Reader(bytes);
        let (minute_from, hour_from) = (rest.varint()?, rest.varint()?);
        let next_id = u32::try_from(rest.varint()?).map_err(|_| Damaged)?;
        Ok(Self { open: Open { minute_from, hour_from, next_id }, rest })
    }
}

/// The blocks; what is damaged ends them.
impl<'a> Iterator for Pack<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = self.rest.varint().ok()?;
        self.rest.slice(length).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_reads_back() {
        let open = Open { minute_from: 300, hour_from: 7, next_id: u32::MAX };
        let blocks: Vec<(u64, Arc<[u8]>)> =
            [vec![1; 200], vec![], vec![2; 3]].into_iter().zip(5..).map(|(bytes, at)| (at, bytes.into())).collect();
        let bytes = encode(open, &blocks);
        let pack = Pack::of(&bytes).unwrap();
        assert_eq!(pack.open, open);
        assert!(pack.eq(blocks.iter().map(|(_, block)| &**block)));
        assert!(Pack::of(&bytes[..1]).is_err());
        assert_eq!(Pack::of(&bytes[..bytes.len() - 1]).unwrap().count(), 2, "the cut block is none");
    }
}
