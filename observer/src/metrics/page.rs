//! The lines of a page: families with their heads, samples with their labels.

use super::{Family, Value, label, number};
use bytes::{BufMut, BytesMut};

/// A page being written.
pub(super) struct Page<'a> {
    out: &'a mut BytesMut,
    samples: u64,
}

impl<'a> Page<'a> {
    pub(super) fn new(out: &'a mut BytesMut) -> Self {
        Self { out, samples: 0 }
    }

    /// How many samples have been written.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Writes a family: its head, and what `samples` writes below it. A family without a sample leaves no head either.
    pub(super) fn family(&mut self, family: &Family, samples: impl FnOnce(&mut Self)) {
        let (start, before) = (self.out.len(), self.samples);
        for part in ["# HELP ", family.name, " ", family.help, "\n# TYPE ", family.name, " ", family.kind.word(), "\n"]
        {
            self.out.put_slice(part.as_bytes());
        }
        samples(self);
        if self.samples == before {
            self.out.truncate(start);
        }
    }

    /// Writes a sample. `labels` is a set with its brace left open, or nothing; `more` follows in the same set and is
    /// there only if `labels` is.
    #[inline]
    pub(super) fn sample(&mut self, name: [&str; 2], labels: &[u8], more: &str, value: Value) {
        self.out.put_slice(name[0].as_bytes());
        self.out.put_slice(name[1].as_bytes());
        self.out.put_slice(labels);
        self.out.put_slice(more.as_bytes());
        self.out.put_slice(if labels.is_empty() { b" " } else { b"} " });
        self.value(value);
    }

    /// Writes a sample whose label values are escaped on the way.
    pub(super) fn labelled(&mut self, name: &str, labels: &[(&str, &str)], value: Value) {
        self.out.put_slice(name.as_bytes());
        for (at, (name, content)) in labels.iter().enumerate() {
            self.out.put_u8(if at == 0 { b'{' } else { b',' });
            label::push(self.out, name, content);
        }
        self.out.put_slice(b"} ");
        self.value(value);
    }

    fn value(&mut self, value: Value) {
        number::push(self.out, value);
        self.out.put_u8(b'\n');
        self.samples += 1;
    }
}
