//! Where the running kernel keeps its struct fields: a reader of raw kernel BTF.
//!
//! Rust emits no CO-RE relocations, so the programs get their offsets as read-only globals that user space fills from
//! `/sys/kernel/btf/vmlinux` before the load. The usual BTF libraries rebuild all 150 000 types as objects for that; this
//! reader makes one pass that remembers where each type starts and answers by scanning the few kinds that bear names.
//! It is fed a file of the kernel's, and yet trusts no byte of it: whatever is malformed is an error, never a panic.
//!
//! The format: <https://docs.kernel.org/bpf/btf.html>.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Where Linux 5.4 and later show their own BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
/// A type's name, info and size: what every kind starts with.
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
/// Longer chains of typedefs and qualifiers, and deeper nests of anonymous members, are malformed; the kernel's own limit is 32.
const MAX_DEPTH: u32 = 32;
/// Members that one lookup may look at. `task_struct` has some 300; only a malformed nest reaches this.
const MEMBER_BUDGET: u32 = 200_000;

/// Why a field could not be found.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or not readable.
    #[error("cannot read the kernel's type information at {path}: {source}; use a kernel built with CONFIG_DEBUG_INFO_BTF=y", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The BTF was written by a machine of the other byte order.
    #[error("the kernel's BTF is big-endian, which is not supported: run on a little-endian machine")]
    BigEndian,
    /// Not BTF, or broken.
    #[error("malformed BTF at byte {offset}: {what}")]
    Malformed {
        /// Where, from the start of the blob.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// No complete struct or union has this name.
    #[error("this kernel has no struct {record}")]
    NoRecord {
        /// The struct.
        record: String,
    },
    /// The struct has no such member, not in its anonymous members either.
    #[error("this kernel's struct {record} has no field {field}")]
    NoField {
        /// The struct.
        record: String,
        /// The path up to and including the missing component.
        field: String,
    },
    /// A component of the path is no embedded struct: a pointer, for instance, has to be followed in the kernel.
    #[error("struct {record}: {field} is not an embedded struct, so nothing inside it has an offset in {record}")]
    NotEmbedded {
        /// The struct.
        record: String,
        /// The path up to and including the component that cannot be entered.
        field: String,
    },
    /// The field is another one than it was.
    #[error("this kernel's struct {record} has a field {field} of {has} bits, where {needs} are expected")]
    Narrow {
        /// The struct.
        record: String,
        /// The path.
        field: String,
        /// How many bits it has.
        has: u32,
        /// How many would be read.
        needs: u32,
    },
    /// The kernel has several structs of this name, which disagree.
    #[error("this kernel has several structs {record} that disagree on {field}")]
    Ambiguous {
        /// The struct.
        record: String,
        /// The path.
        field: String,
    },
}

/// Where a field is, from the start of the outermost struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The byte that holds it, or for a bit-field its first bit.
    pub byte_offset: u32,
    /// For a bit-field: the number of its first bit within that byte, 0 is the least significant.
    pub bit_offset_in_byte: Option<u8>,
    /// Its width in bits: 64 for a pointer, 32 for an `unsigned int`, the whole size for an array or struct.
    pub bit_size: u32,
}

/// BTF that has been indexed. Borrows the blob.
#[derive(Debug)]
pub struct Btf<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Where type `id` starts: entry `id - 1`.
    starts: Vec<u32>,
    /// Ids of the structs and unions that have a name.
    records: Vec<u32>,
    typedefs: Vec<u32>,
    functions: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Pointer,
    Array,
    Record,
    Enum,
    Forward,
    Typedef,
    /// `volatile`, `const`, `restrict`, and type tags.
    Qualifier,
    Function,
    Prototype,
    Variable,
    Section,
    Float,
    DeclarationTag,
    Enum64,
}

/// The part that all types have, decoded.
#[derive(Clone, Copy, Debug)]
struct Type {
    start: usize,
    name: u32,
    kind: Kind,
    /// Members, parameters or values.
    count: usize,
    /// Of a record: members hold a bit-field's width beside the offset.
    has_widths: bool,
    /// The size in bytes, or the id of the type referred to.
    size_or_id: u32,
}

impl Type {
    /// How many bytes follow the common part.
    fn tail_bytes(&self) -> usize {
        match self.kind {
            Kind::Int | Kind::Variable | Kind::DeclarationTag => 4,
            Kind::Array => 12,
            Kind::Record => self.count * MEMBER_BYTES,
            Kind::Section | Kind::Enum64 => self.count * 12,
            Kind::Enum | Kind::Prototype => self.count * 8,
            Kind::Pointer | Kind::Forward | Kind::Typedef | Kind::Qualifier | Kind::Function | Kind::Float => 0,
        }
    }
}

/// A member, found.
#[derive(Clone, Copy, Debug)]
struct Member {
    type_id: u32,
    /// From the start of the record that was searched.
    bit_offset: u32,
    /// 0: not a bit-field.
    width: u32,
}

/// Reads the blob, usually [`VMLINUX`] (some 5 MB). Needs no privilege.
pub fn read(path: &Path) -> Result<Vec<u8>, BtfError> {
    std::fs::read(path).map_err(|source| BtfError::Unreadable { path: path.to_owned(), source })
}

impl<'a> Btf<'a> {
    /// Indexes a blob.
    ///
    /// # Errors
    /// [`BtfError::BigEndian`] and [`BtfError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let (types, strings) = sections(bytes)?;
        let mut btf = Self {
            bytes: &bytes[..types.end],
            strings,
            starts: Vec::with_capacity(types.len() / 20),
            records: Vec::new(),
            typedefs: Vec::new(),
            functions: Vec::new(),
        };
        let mut at = types.start;
        while at < types.end {
            let found = btf.type_at(at)?;
            let end = at + TYPE_BYTES + found.tail_bytes();
            if end > types.end {
                return Err(malformed(at, "a type runs over the end of the type section"));
            }
            btf.starts.push(at as u32);
            let id = btf.starts.len() as u32;
            match found.kind {
                Kind::Record if found.name != 0 => btf.records.push(id),
                Kind::Typedef => btf.typedefs.push(id),
                Kind::Function => btf.functions.push(id),
                _ => {}
            }
            at = end;
        }
        Ok(btf)
    }

    /// Where `path` is in `struct record` (or `union record`): one field's name, or several joined by dots, such as
    /// `sched_info.last_queued`, that lead through embedded structs. Members of anonymous structs and unions count as the
    /// outer struct's own, as in C.
    ///
    /// # Errors
    /// Each names the struct and the field: [`BtfError::NoRecord`], [`BtfError::NoField`], [`BtfError::NotEmbedded`],
    /// [`BtfError::Ambiguous`], [`BtfError::Malformed`].
    pub fn field(&self, record: &str, path: &str) -> Result<Field, BtfError> {
        let mut found = None;
        let mut refused = None;
        let mut budget = MEMBER_BUDGET;
        for id in self.named(&self.records, record) {
            match (self.field_of(id, record, path, &mut budget), found) {
                (Ok(field), None) => found = Some(field),
                (Ok(field), Some(other)) if field == other => {}
                (Ok(_), Some(_)) => return Err(BtfError::Ambiguous { record: record.into(), field: path.into() }),
                (Err(error), _) => refused = refused.or(Some(error)),
            }
        }
        found.ok_or_else(|| refused.unwrap_or_else(|| BtfError::NoRecord { record: record.into() }))
    }

    /// The byte that a field starts at, of which so many bits are read: the verifier does not see what is read of others.
    ///
    /// # Errors
    /// As [`Btf::field`], and [`BtfError::Narrow`].
    pub fn offset(&self, record: &str, path: &str, bits: u32) -> Result<u64, BtfError> {
        let Field { byte_offset, bit_size, .. } = self.field(record, path)?;
        if bit_size < bits {
            return Err(BtfError::Narrow { record: record.into(), field: path.into(), has: bit_size, needs: bits });
        }
        Ok(u64::from(byte_offset))
    }

    /// How many parameters the function has that the typedef `name` points to. For a tracepoint's `btf_trace_NAME` that is
    /// one more than the tracepoint has: the first is its `void *__data`.
    pub fn function_prototype_parameters(&self, name: &str) -> Option<usize> {
        self.named(&self.typedefs, name).find_map(|id| {
            let pointer = self.resolve(self.find(id).ok()?.size_or_id).ok()?;
            let target = self.resolve(pointer.size_or_id).ok()?;
            (pointer.kind == Kind::Pointer && target.kind == Kind::Prototype).then_some(target.count)
        })
    }

    /// The id of a typedef, by which bpf(2) names the tracepoint behind `btf_trace_NAME`.
    pub fn typedef_id(&self, name: &str) -> Option<u32> {
        self.named(&self.typedefs, name).next()
    }

    /// Whether there is a complete struct or union of this name.
    pub fn has_record(&self, name: &str) -> bool {
        self.named(&self.records, name).next().is_some()
    }

    /// Whether there is a typedef of this name.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.typedef_id(name).is_some()
    }

    /// The id of a function, by which bpf(2) names the iterator behind `bpf_iter_NAME`.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.named(&self.functions, name).next()
    }

    /// Whether there is a function of this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.function_id(name).is_some()
    }

    fn field_of(&self, id: u32, record: &str, path: &str, budget: &mut u32) -> Result<Field, BtfError> {
        let up_to = |component: &str| {
            let end = component.as_ptr() as usize - path.as_ptr() as usize + component.len();
            path[..end].to_owned()
        };
        let mut current = self.find(id)?;
        let mut bits = 0_u32;
        let mut components = path.split('.').peekable();
        while let Some(component) = components.next() {
            let member = self
                .member(&current, component, 0, budget)?
                .ok_or_else(|| BtfError::NoField { record: record.into(), field: up_to(component) })?;
            bits = bits
                .checked_add(member.bit_offset)
                .ok_or_else(|| malformed(current.start, "a member's offset is out of range"))?;
            if components.peek().is_none() {
                return self.located(&member, bits);
            }
            let inner = self.resolve(member.type_id)?;
            if inner.kind != Kind::Record || member.width != 0 {
                return Err(BtfError::NotEmbedded { record: record.into(), field: up_to(component) });
            }
            current = inner;
        }
        Err(BtfError::NoField { record: record.into(), field: path.into() })
    }

    /// Looks for a member by name, entering anonymous members.
    fn member(&self, record: &Type, name: &str, depth: u32, budget: &mut u32) -> Result<Option<Member>, BtfError> {
        if depth > MAX_DEPTH {
            return Err(malformed(record.start, "anonymous members nest too deep"));
        }
        for index in 0..record.count {
            *budget =
                budget.checked_sub(1).ok_or_else(|| malformed(record.start, "anonymous members contain themselves"))?;
            let at = record.start + TYPE_BYTES + index * MEMBER_BYTES;
            let (name_offset, type_id, offset) = (self.u32(at)?, self.u32(at + 4)?, self.u32(at + 8)?);
            let (bit_offset, width) =
                if record.has_widths { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            if !name.is_empty() && self.string_is(name_offset, name) {
                return Ok(Some(Member { type_id, bit_offset, width }));
            }
            if !self.string_is(name_offset, "") {
                continue;
            }
            let inner = self.resolve(type_id)?;
            if inner.kind != Kind::Record {
                continue; // An unnamed bit-field: padding.
            }
            if let Some(mut member) = self.member(&inner, name, depth + 1, budget)? {
                member.bit_offset = member
                    .bit_offset
                    .checked_add(bit_offset)
                    .ok_or_else(|| malformed(at, "a member's offset is out of range"))?;
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    fn located(&self, member: &Member, mut bits: u32) -> Result<Field, BtfError> {
        let target = self.resolve(member.type_id)?;
        let whole = self.bit_size(&target, 0)?;
        let mut width = member.width;
        if width == 0 && target.kind == Kind::Int {
            // The older way to write a bit-field: an integer type with fewer bits than its size.
            let encoding = self.u32(target.start + TYPE_BYTES)?;
            let (shift, size) = ((encoding >> 16) & 0xff, encoding & 0xff);
            if shift != 0 || size != whole {
                bits = bits.checked_add(shift).ok_or_else(|| malformed(target.start, "an integer is out of range"))?;
                width = size;
            }
        }
        if width == 0 && !bits.is_multiple_of(8) {
            return Err(malformed(target.start, "a member that is no bit-field starts within a byte"));
        }
        Ok(Field {
            byte_offset: bits / 8,
            bit_offset_in_byte: (width != 0).then_some((bits % 8) as u8),
            bit_size: if width == 0 { whole } else { width },
        })
    }

    fn bit_size(&self, of: &Type, depth: u32) -> Result<u32, BtfError> {
        let too_large = || malformed(of.start, "a type is too large");
        match of.kind {
            Kind::Int | Kind::Record | Kind::Enum | Kind::Enum64 | Kind::Float => {
                of.size_or_id.checked_mul(8).ok_or_else(too_large)
            }
            Kind::Pointer => Ok(64),
            Kind::Array if depth < MAX_DEPTH => {
                let element = self.resolve(self.u32(of.start + TYPE_BYTES)?)?;
                let count = self.u32(of.start + TYPE_BYTES + 8)?;
                self.bit_size(&element, depth + 1)?.checked_mul(count).ok_or_else(too_large)
            }
            _ => Err(malformed(of.start, "a member's type has no size")),
        }
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Result<Type, BtfError> {
        for _ in 0..MAX_DEPTH {
            let found = self.find(id)?;
            match found.kind {
                Kind::Typedef | Kind::Qualifier => id = found.size_or_id,
                _ => return Ok(found),
            }
        }
        Err(malformed(self.find(id)?.start, "a chain of typedefs does not end"))
    }

    fn find(&self, id: u32) -> Result<Type, BtfError> {
        let start = (id as usize)
            .checked_sub(1)
            .and_then(|index| self.starts.get(index))
            .ok_or_else(|| malformed(0, "a type refers to void or to a type that does not exist"))?;
        self.type_at(*start as usize)
    }

    fn type_at(&self, start: usize) -> Result<Type, BtfError> {
        let (name, info, size_or_id) = (self.u32(start)?, self.u32(start + 4)?, self.u32(start + 8)?);
        let kind = match (info >> 24) & 0x1f {
            1 => Kind::Int,
            2 => Kind::Pointer,
            3 => Kind::Array,
            4 | 5 => Kind::Record,
            6 => Kind::Enum,
            7 => Kind::Forward,
            8 => Kind::Typedef,
            9..=11 | 18 => Kind::Qualifier,
            12 => Kind::Function,
            13 => Kind::Prototype,
            14 => Kind::Variable,
            15 => Kind::Section,
            16 => Kind::Float,
            17 => Kind::DeclarationTag,
            19 => Kind::Enum64,
            _ => return Err(malformed(start, "a kind of type that this reader does not know")),
        };
        Ok(Type { start, name, kind, count: (info & 0xffff) as usize, has_widths: info >> 31 == 1, size_or_id })
    }

    fn named<'b>(&'b self, ids: &'b [u32], name: &'b str) -> impl Iterator<Item = u32> + 'b {
        ids.iter().copied().filter(move |id| self.find(*id).is_ok_and(|found| self.string_is(found.name, name)))
    }

    fn string_is(&self, offset: u32, expected: &str) -> bool {
        self.strings
            .get(offset as usize..)
            .and_then(|rest| rest.strip_prefix(expected.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        let word = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        word.map(|word| u32::from_le_bytes(*word)).ok_or_else(|| malformed(at, "the data end within a type"))
    }
}

/// The bytes of the type section, and the strings.
fn sections(bytes: &[u8]) -> Result<(std::ops::Range<usize>, &[u8]), BtfError> {
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| malformed(bytes.len(), "the data end within the header"))?;
    let magic = u16::from_le_bytes([header[0], header[1]]);
    if magic == MAGIC.swap_bytes() {
        return Err(BtfError::BigEndian);
    }
    if magic != MAGIC || header[2] != 1 {
        return Err(malformed(0, "not BTF version 1"));
    }
    let word =
        |index: usize| u32::from_le_bytes([header[index], header[index + 1], header[index + 2], header[index + 3]]);
    let section = |offset: u32, len: u32| {
        let start = u64::from(word(4)) + u64::from(offset);
        let end = start + u64::from(len);
        (end <= bytes.len() as u64)
            .then_some(start as usize..end as usize)
            .ok_or_else(|| malformed(4, "a section runs over the end of the data"))
    };
    // An index into the blob is kept in 32 bits.
    if u32::try_from(bytes.len()).is_err() || (word(4) as usize) < HEADER_BYTES {
        return Err(malformed(4, "the header's sizes are out of range"));
    }
    let strings = section(word(16), word(20))?;
    Ok((section(word(8), word(12))?, &bytes[strings]))
}

fn malformed(offset: usize, what: &'static str) -> BtfError {
    BtfError::Malformed { offset, what }
}
