//! Against a blob written here.

mod running_kernel;

use super::*;
use proptest::prelude::*;

const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;

/// Writes BTF type by type.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Writer {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn string(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    /// Adds a type and returns its id.
    fn add(&mut self, kind: u32, name: &str, count: u32, size_or_id: u32, tail: &[u32]) -> u32 {
        let name = self.string(name);
        self.words(&[name, kind << 24 | count, size_or_id]);
        self.words(tail);
        self.count += 1;
        self.count
    }

    /// A struct or union with members `(name, type, bit offset, bit-field width)`.
    fn record(&mut self, kind: u32, name: &str, size: u32, members: &[(&str, u32, u32, u32)]) -> u32 {
        let name = self.string(name);
        let has_widths = u32::from(members.iter().any(|member| member.3 != 0));
        self.words(&[name, has_widths << 31 | kind << 24 | members.len() as u32, size]);
        for (member, type_id, offset, width) in members {
            let member = self.string(member);
            self.words(&[member, *type_id, width << 24 | offset]);
        }
        self.count += 1;
        self.count
    }

    fn finish(&self) -> Vec<u8> {
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        blob.extend([24, 0, types, types, strings].iter().flat_map(|word| word.to_le_bytes()));
        blob.extend(&self.types);
        blob.extend(&self.strings);
        blob
    }
}

/// A small kernel: `task` with everything the reader has to get past.
fn small_kernel() -> Vec<u8> {
    let mut w = Writer::new();
    let int = w.add(INT, "unsigned int", 0, 4, &[32]);
    let long = w.add(INT, "long", 0, 8, &[64]);
    let old_bits = w.add(INT, "unsigned int", 0, 4, &[3 << 16 | 2]);
    let volatile = w.add(VOLATILE, "", 0, long, &[]);
    let state = w.add(TYPEDEF, "state_t", 0, volatile, &[]);
    let info = w.record(STRUCT, "info", 16, &[("count", long, 0, 0), ("last", state, 64, 0)]);
    let info_alias = w.add(TYPEDEF, "info_t", 0, info, &[]);
    let pointer = w.add(POINTER, "", 0, info, &[]);
    let array = w.add(ARRAY, "", 0, 0, &[int, int, 5]);
    let inner = w.record(UNION, "", 8, &[("id", long, 0, 0), ("ptr", pointer, 0, 0)]);
    let middle = w.record(STRUCT, "", 16, &[("pad", long, 0, 0), ("", inner, 64, 0)]);
    let task = w.record(
        STRUCT,
        "task",
        100,
        &[
            ("state", state, 0, 0),
            ("", middle, 64, 0),
            ("", int, 192, 7),
            ("woken", int, 199, 1),
            ("loaded", int, 205, 3),
            ("info", info_alias, 256, 0),
            ("link", pointer, 384, 0),
            ("name", array, 448, 0),
        ],
    );
    w.record(STRUCT, "old", 4, &[("low", old_bits, 32, 0)]);
    w.add(FORWARD, "unknown", 0, 0, &[]);
    let prototype = w.add(PROTOTYPE, "", 3, 0, &[0, pointer, 0, int, 0, task]);
    let pointer = w.add(POINTER, "", 0, prototype, &[]);
    w.add(TYPEDEF, "btf_trace_switch", 0, pointer, &[]);
    w.add(FUNCTION, "schedule", 0, prototype, &[]);
    w.record(STRUCT, "twin", 8, &[("a", int, 0, 0), ("same", int, 32, 0)]);
    w.record(STRUCT, "twin", 12, &[("b", int, 0, 0), ("a", int, 64, 0), ("same", int, 32, 0)]);
    w.finish()
}

fn plain(byte_offset: u32, bit_size: u32) -> Field {
    Field { byte_offset, bit_offset_in_byte: None, bit_size }
}

fn bits(byte_offset: u32, bit: u8, bit_size: u32) -> Field {
    Field { byte_offset, bit_offset_in_byte: Some(bit), bit_size }
}

#[test]
fn fields_are_found_through_anonymous_members_typedefs_and_embedded_structs() {
    let blob = small_kernel();
    let btf = Btf::parse(&blob).unwrap();
    let at = |path| btf.field("task", path).unwrap();
    assert_eq!(at("state"), plain(0, 64));
    assert_eq!(at("pad"), plain(8, 64));
    assert_eq!(at("id"), plain(16, 64));
    assert_eq!(at("ptr"), plain(16, 64));
    assert_eq!(at("info"), plain(32, 128));
    assert_eq!(at("info.count"), plain(32, 64));
    assert_eq!(at("info.last"), plain(40, 64));
    assert_eq!(at("name"), plain(56, 160));
}

#[test]
fn bit_fields_have_a_byte_a_bit_and_a_width() {
    let blob = small_kernel();
    let btf = Btf::parse(&blob).unwrap();
    assert_eq!(btf.field("task", "woken").unwrap(), bits(24, 7, 1));
    assert_eq!(btf.field("task", "loaded").unwrap(), bits(25, 5, 3));
    assert_eq!(btf.field("old", "low").unwrap(), bits(4, 3, 2), "the encoding in the integer type");
}

#[test]
fn errors_name_the_struct_and_the_field() {
    let blob = small_kernel();
    let btf = Btf::parse(&blob).unwrap();
    let error = |record, path| btf.field(record, path).unwrap_err().to_string();
    assert_eq!(error("tusk", "state"), "this kernel has no struct tusk");
    assert_eq!(error("unknown", "state"), "this kernel has no struct unknown");
    assert_eq!(error("task", "__state"), "this kernel's struct task has no field __state");
    assert_eq!(error("task", "info.first"), "this kernel's struct task has no field info.first");
    for through in ["link.count", "state.x", "woken.x", "name.x"] {
        assert!(matches!(btf.field("task", through), Err(BtfError::NotEmbedded { .. })), "{through}");
    }
    for empty in ["", ".", "info.", ".info"] {
        assert!(matches!(btf.field("task", empty), Err(BtfError::NoField { .. })), "{empty:?}");
    }
    assert_eq!(btf.offset("task", "info.last", 64).unwrap(), 40);
    let narrow = btf.offset("task", "woken", 8).unwrap_err().to_string();
    assert_eq!(narrow, "this kernel's struct task has a field woken of 1 bits, where 8 are expected");
    let missing = read(Path::new("/nonexistent/btf")).unwrap_err().to_string();
    assert!(missing.contains("/nonexistent/btf") && missing.contains("CONFIG_DEBUG_INFO_BTF"), "{missing}");
}

#[test]
fn structs_of_one_name_must_agree() {
    let blob = small_kernel();
    let btf = Btf::parse(&blob).unwrap();
    assert_eq!(btf.field("twin", "same").unwrap(), plain(4, 32));
    assert_eq!(btf.field("twin", "b").unwrap(), plain(0, 32), "only one of them has it");
    assert!(matches!(btf.field("twin", "a"), Err(BtfError::Ambiguous { .. })));
}

#[test]
fn prototypes_and_names_are_found() {
    let blob = small_kernel();
    let btf = Btf::parse(&blob).unwrap();
    assert_eq!(btf.function_prototype_parameters("btf_trace_switch"), Some(3));
    assert_eq!(btf.function_prototype_parameters("state_t"), None);
    assert_eq!(btf.function_prototype_parameters("nothing"), None);
    assert!(btf.has_function("schedule") && !btf.has_function("task"));
    assert!(btf.has_typedef("info_t") && !btf.has_typedef("info"));
    assert!(btf.has_record("info") && !btf.has_record("unknown") && !btf.has_record("inf"));
}

#[test]
fn cycles_end_in_an_error() {
    let mut w = Writer::new();
    w.add(TYPEDEF, "a", 0, 2, &[]);
    w.add(TYPEDEF, "b", 0, 1, &[]);
    w.record(STRUCT, "loop", 8, &[("x", 1, 0, 0), ("", 1, 0, 0)]);
    w.record(STRUCT, "self", 8, &[("", 4, 0, 0), ("", 4, 0, 0)]);
    w.add(ARRAY, "", 0, 0, &[5, 5, 2]);
    w.record(STRUCT, "array", 8, &[("x", 5, 0, 0)]);
    let blob = w.finish();
    let btf = Btf::parse(&blob).unwrap();
    for (record, path) in [("loop", "x"), ("loop", "y"), ("loop", "x.y"), ("self", "x"), ("array", "x")] {
        assert!(matches!(btf.field(record, path), Err(BtfError::Malformed { .. })), "{record}.{path}");
    }
    assert_eq!(btf.function_prototype_parameters("a"), None);
}

#[test]
fn foreign_files_are_refused() {
    assert!(matches!(Btf::parse(&[]), Err(BtfError::Malformed { .. })));
    assert!(matches!(Btf::parse(&[0x7f; 64]), Err(BtfError::Malformed { offset: 0, .. })));
    let mut blob = small_kernel();
    blob.swap(0, 1);
    assert!(Btf::parse(&blob).unwrap_err().to_string().contains("big-endian"));
}

/// Asks everything of a blob that may be broken; the answers do not matter, coming back does.
fn ask_everything(blob: &[u8]) {
    let Ok(btf) = Btf::parse(blob) else { return };
    for path in ["state", "id", "info.last", "loaded", "link.count", "name", "nothing", "low", "sched_info.last_queued"]
    {
        for record in ["task", "old", "twin", "task_struct"] {
            let _ = btf.field(record, path);
        }
    }
    for name in ["btf_trace_switch", "btf_trace_sched_switch"] {
        let _ = btf.function_prototype_parameters(name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn broken_blobs_never_panic(
        cut in 0_usize..2000,
        changes in prop::collection::vec((0_usize..2000, any::<u8>()), 0..24),
    ) {
        let mut blob = small_kernel();
        for (at, byte) in changes {
            let len = blob.len();
            blob[at % len] = byte;
        }
        if cut.is_multiple_of(3) {
            blob.truncate(cut % blob.len());
        }
        ask_everything(&blob);
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut blob = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0];
        blob.extend(((noise.len() / 2) as u32).to_le_bytes());
        blob.extend(((noise.len() / 2) as u32).to_le_bytes());
        blob.extend(((noise.len() / 2) as u32).to_le_bytes());
        blob.extend(noise);
        ask_everything(&blob);
    }
}
