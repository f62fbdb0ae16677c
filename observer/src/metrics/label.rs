//! Label values as the text format wants them: escaped, bounded, and still distinct after the cut.

use bytes::{BufMut, BytesMut};

/// The longest label value, in bytes before escaping.
pub const MAX_VALUE_BYTES: usize = 256;
/// `~` and sixteen hexadecimal digits.
const MARK_BYTES: usize = 17;

/// Writes `name="value"`, escaped; a value that is too long is cut and marked with a hash of the whole.
pub(super) fn push(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(name.as_bytes());
    out.put_slice(b"=\"");
    if value.len() <= MAX_VALUE_BYTES && !ends_in_a_mark(value) {
        push_escaped(out, value);
    } else {
        push_escaped(out, &value[..value.floor_char_boundary(MAX_VALUE_BYTES - MARK_BYTES)]);
        push_mark(out, value);
    }
    out.put_u8(b'"');
}

/// A value that looks like a cut one is marked too: so it never equals one.
fn ends_in_a_mark(value: &str) -> bool {
    // The cut falls on a character's boundary, up to three bytes early.
    if value.len() < MAX_VALUE_BYTES - 3 {
        return false;
    }
    let Some(mark) = value.len().checked_sub(MARK_BYTES).map(|start| &value.as_bytes()[start..]) else { return false };
    mark[0] == b'~' && mark[1..].iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn push_escaped(out: &mut BytesMut, value: &str) {
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        out.put_slice(&rest[..at]);
        out.put_slice(match rest[at] {
            b'\\' => br"\\",
            b'"' => br#"\""#,
            _ => br"\n",
        });
        rest = &rest[at + 1..];
    }
    out.put_slice(rest);
}

/// FNV-1a with a final mix (`MurmurHash3`'s): the same in every version of the agent, so that a series keeps its name.
fn push_mark(out: &mut BytesMut, value: &str) {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = value.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^= hash >> 33;
    out.put_u8(b'~');
    for shift in (0..64).step_by(4).rev() {
        out.put_u8(b"0123456789abcdef"[(hash >> shift) as usize & 0xf]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(value: &str) -> String {
        let mut out = BytesMut::new();
        push(&mut out, "x", value);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn content(value: &str) -> String {
        label(value)[3..].trim_end_matches('"').to_owned()
    }

    #[test]
    fn what_the_format_reserves_is_escaped_and_nothing_else() {
        assert_eq!(label("a\\b\"c\nd\te\u{7}é"), "x=\"a\\\\b\\\"c\\nd\te\u{7}é\"");
    }

    #[test]
    fn a_value_of_the_greatest_length_is_whole_and_a_longer_one_is_cut_to_it() {
        let fits = "a".repeat(MAX_VALUE_BYTES);
        assert_eq!(content(&fits), fits);
        let cut = content(&"a".repeat(MAX_VALUE_BYTES + 1));
        assert_eq!(cut.len(), MAX_VALUE_BYTES);
        assert!(cut.starts_with(&fits[..MAX_VALUE_BYTES - MARK_BYTES]) && ends_in_a_mark(&cut), "{cut}");
    }

    #[test]
    fn long_values_that_differ_only_beyond_the_cut_stay_distinct() {
        let long = "é".repeat(300);
        let (one, other) = (content(&format!("{long}1")), content(&format!("{long}2")));
        assert_ne!(one, other);
        assert!(one.len() <= MAX_VALUE_BYTES && other.len() <= MAX_VALUE_BYTES);
    }

    #[test]
    fn a_value_that_imitates_a_cut_one_does_not_collide_with_it() {
        let cut = content(&"a".repeat(1000));
        assert_ne!(content(&cut), cut);
        assert!(content(&cut).len() <= MAX_VALUE_BYTES);
    }

    #[test]
    fn a_short_value_that_ends_like_a_cut_one_is_left_alone() {
        assert_eq!(content("/a~0123456789abcdef"), "/a~0123456789abcdef");
    }

    #[test]
    fn the_mark_does_not_change_between_versions() {
        // Computed apart from this code.
        assert!(content(&"a".repeat(257)).ends_with("~4341d76be9ec6222"));
    }
}
