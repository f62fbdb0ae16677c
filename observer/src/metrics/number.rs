//! Numbers as text, without a detour over floats where the number is none and without allocating.

use super::Value;
use bytes::{BufMut, BytesMut};
use std::fmt::Write;

/// The digits of 00 to 99.
static PAIRS: [[u8; 2]; 100] = pairs();

const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
}

/// From here on, and below its inverse, floats are written with an exponent.
const LARGEST_PLAIN: f64 = 1e15;

pub(super) fn push(out: &mut BytesMut, value: Value) {
    match value {
        Value::Count(count) => push_integer(out, count),
        Value::Nanoseconds(ns) => push_seconds::<9>(out, ns / 1_000_000_000, ns % 1_000_000_000),
        Value::Microseconds(us) => push_seconds::<6>(out, us / 1_000_000, us % 1_000_000),
        Value::Float(float) => push_float(out, float),
    }
}

pub(super) fn push_integer(out: &mut BytesMut, mut rest: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while rest >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[rest as usize]);
    } else {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    out.put_slice(&digits[at..]);
}

/// `fraction` has `DIGITS` decimal places; zeros at its end are not written.
fn push_seconds<const DIGITS: usize>(out: &mut BytesMut, whole: u64, mut fraction: u64) {
    push_integer(out, whole);
    if fraction == 0 {
        return;
    }
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    let used = DIGITS - digits.iter().rev().take_while(|digit| **digit == b'0').count();
    out.put_u8(b'.');
    out.put_slice(&digits[..used]);
}

fn push_float(out: &mut BytesMut, float: f64) {
    let size = float.abs();
    let written = if float.is_nan() {
        out.write_str("NaN")
    } else if float.is_infinite() {
        out.write_str(if float > 0.0 { "+Inf" } else { "-Inf" })
    } else if size < LARGEST_PLAIN && float.fract() == 0.0 && float.is_sign_positive() {
        push_integer(out, float as u64);
        Ok(())
    } else if size != 0.0 && !(1.0 / LARGEST_PLAIN..LARGEST_PLAIN).contains(&size) {
        write!(out, "{float:e}")
    } else {
        write!(out, "{float}")
    };
    written.expect("a BytesMut grows as needed");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: Value) -> String {
        let mut out = BytesMut::new();
        push(&mut out, value);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn integers_are_written_as_the_standard_library_writes_them() {
        for power in 0..20 {
            let edge = 10u64.pow(power);
            for n in [edge - 1, edge, edge + 1, u64::MAX - edge] {
                assert_eq!(text(Value::Count(n)), n.to_string());
            }
        }
    }

    #[test]
    fn seconds_are_exact_and_have_no_zeros_at_their_end() {
        for (ns, expected) in [
            (0, "0"),
            (1, "0.000000001"),
            (999_999_999, "0.999999999"),
            (1_000_000_000, "1"),
            (1_500_000_000, "1.5"),
            (1_010_203_040, "1.01020304"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(text(Value::Nanoseconds(ns)), expected);
        }
        assert_eq!(text(Value::Microseconds(12_000_034)), "12.000034");
        assert_eq!(text(Value::Microseconds(u64::MAX)), "18446744073709.551615");
    }

    #[test]
    fn floats_have_the_words_of_the_text_format() {
        for (float, expected) in [
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (0.0, "0"),
            (-0.0, "-0"),
            (0.25, "0.25"),
            (-3.0, "-3"),
            (1e300, "1e300"),
            (1.5e-30, "1.5e-30"),
        ] {
            assert_eq!(text(Value::Float(float)), expected);
        }
    }

    proptest! {
        #[test]
        fn every_float_reads_back_as_itself(bits in any::<u64>()) {
            let float = f64::from_bits(bits);
            prop_assume!(!float.is_nan());
            let text = text(Value::Float(float));
            let back: f64 = text.parse().unwrap();
            prop_assert_eq!(back.to_bits(), float.to_bits());
        }

        #[test]
        fn every_nanosecond_is_kept(ns in any::<u64>()) {
            let text = text(Value::Nanoseconds(ns));
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let back = whole.parse::<u64>().unwrap() * 1_000_000_000 + format!("{fraction:0<9}").parse::<u64>().unwrap();
            prop_assert_eq!(back, ns);
        }
    }
}
