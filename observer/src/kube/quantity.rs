//! Kubernetes quantities, exactly: `500m`, `1.5`, `128Mi`, `1e3`, `2E`.
//!
//! The grammar is that of `resource.Quantity`: a decimal number, then nothing, a decimal exponent, a power of ten (`n u m k M G
//! T P E`) or of two (`Ki Mi Gi Ti Pi Ei`). No kept crate reads it without floats; this is all that the agent needs of it.

use serde::{Deserialize, Deserializer, de};
use std::{fmt, str::FromStr};

/// Billionths in one.
const NANO: u128 = 1_000_000_000;
/// Of what is smaller than a billionth, no more digits than these are looked at: a number that long is none.
const MOST_DIGITS: usize = 36;

/// An amount, in billionths; what is finer is rounded up, as the API server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    nano: u128,
}

/// A text that is no amount.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quantity of a resource, such as 500m, 1.5 or 128Mi")]
pub(super) struct NoQuantity(String);

impl Quantity {
    /// Billionths; `None` for what no machine has.
    pub(super) fn nano(self) -> Option<u64> {
        self.nano.try_into().ok()
    }

    /// Whole units, rounded up; `None` for what no machine has.
    pub(super) fn whole(self) -> Option<u64> {
        self.nano.div_ceil(NANO).try_into().ok()
    }
}

impl FromStr for Quantity {
    type Err = NoQuantity;

    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        parse(text).map(|nano| Self { nano }).ok_or_else(|| NoQuantity(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<u128> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let number_ends = unsigned.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(number_ends);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > MOST_DIGITS {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes());
    let mantissa = digits.fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    let (ten, two) = scale(suffix)?;
    let ten = ten + 9 - i32::try_from(fraction.len()).ok()?;
    let scaled = mantissa.checked_mul(1 << two)?;
    let power = 10_u128.checked_pow(ten.unsigned_abs());
    match (ten >= 0, power) {
        (true, power) => scaled.checked_mul(power?),
        (false, Some(power)) => Some(scaled.div_ceil(power)),
        // So small that it rounds up to a billionth, unless it is nothing.
        (false, None) => Some(u128::from(scaled > 0)),
    }
}

/// The powers of ten and of two that a suffix stands for.
fn scale(suffix: &str) -> Option<(i32, u32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            let size = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if size.is_empty() || size.len() > 4 || !size.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            (digits.parse().ok()?, 0)
        }
    })
}

/// As a pod's JSON has it; what is no quantity fails nobody else: it is told of, and counts as not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said(pub(super) Option<Quantity>);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SaidVisitor)
    }
}

struct SaidVisitor;

impl de::Visitor<'_> for SaidVisitor {
    type Value = Said;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a quantity of a resource")
    }

    fn visit_str<E>(self, text: &str) -> Result<Said, E> {
        Ok(said(text))
    }

    // The API server writes text; a manifest that was never there may have a number.
    fn visit_u64<E>(self, number: u64) -> Result<Said, E> {
        Ok(said(&number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Said, E> {
        Ok(said(&number.to_string()))
    }
}

fn said(text: &str) -> Said {
    let complain = |error: &NoQuantity| {
        tracing::warn!(%error, "an amount in a pod's spec cannot be read: it counts as not said");
    };
    Said(text.parse().inspect_err(complain).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nano(text: &str) -> Option<u128> {
        text.parse::<Quantity>().ok().map(|quantity| quantity.nano)
    }

    #[test]
    fn every_suffix_is_the_power_that_the_api_takes_it_for() {
        for (text, expected) in [
            ("0", 0),
            ("1", NANO),
            ("500m", NANO / 2),
            ("0.5", NANO / 2),
            (".5", NANO / 2),
            ("1.", NANO),
            ("+2", 2 * NANO),
            ("100u", 100_000),
            ("7n", 7),
            ("1k", 1_000 * NANO),
            ("1M", 1_000_000 * NANO),
            ("1G", 1_000_000_000 * NANO),
            ("1T", 1_000_000_000_000 * NANO),
            ("1P", 1_000_000_000_000_000 * NANO),
            ("2E", 2_000_000_000_000_000_000 * NANO),
            ("1Ki", 1024 * NANO),
            ("1.5Gi", 1_610_612_736 * NANO),
            ("128Mi", 134_217_728 * NANO),
            ("1Ti", (1 << 40) * NANO),
            ("1Pi", (1 << 50) * NANO),
            ("1Ei", (1 << 60) * NANO),
            ("1e3", 1000 * NANO),
            ("1E3", 1000 * NANO),
            ("12e-3", NANO / 1000 * 12),
            ("1.5e+2", 150 * NANO),
        ] {
            assert_eq!(nano(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_finer_than_a_billionth_is_rounded_up_and_bytes_to_whole_ones() {
        assert_eq!(
            (nano("0.1n"), nano("1e-20"), nano("0e-9999"), nano("1e-9999")),
            (Some(1), Some(1), Some(0), Some(1))
        );
        assert_eq!("100m".parse::<Quantity>().unwrap().whole(), Some(1));
        assert_eq!("1.5".parse::<Quantity>().unwrap().whole(), Some(2));
        assert_eq!("0.1Ki".parse::<Quantity>().unwrap().whole(), Some(103));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        let long = "9".repeat(40);
        for text in [
            "", " ", ".", "m", "-1", "1 Mi", "1mi", "1KI", "1K", "1e", "1e+", "1e1.5", "1.2.3", "0x10", "1Mib",
            "\u{661}", "1e9999", "1e99999", &long,
        ] {
            assert_eq!(nano(text), None, "{text:?}");
        }
        // An amount, but of nothing that a machine has.
        let vast: Quantity = "99E".parse().unwrap();
        assert_eq!((vast.nano(), vast.whole()), (None, None));
        assert_eq!("8Ei".parse::<Quantity>().unwrap().whole(), Some(1 << 63));
    }

    #[test]
    fn in_json_one_that_cannot_be_read_leaves_the_rest_alone() {
        let said: Vec<Said> = serde_json::from_str(r#"["2", "two", 3, 0.5]"#).unwrap();
        let nano: Vec<_> = said.into_iter().map(|Said(quantity)| quantity.map(|quantity| quantity.nano)).collect();
        assert_eq!(nano, [Some(2 * NANO), None, Some(3 * NANO), Some(NANO / 2)]);
    }

    proptest! {
        #[test]
        fn thousandths_and_decimals_agree(thousandths in 0..10_000_000_u64) {
            let decimal = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
            prop_assert_eq!(nano(&format!("{thousandths}m")), nano(&decimal));
            prop_assert_eq!(nano(&decimal), Some(u128::from(thousandths) * 1_000_000));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.eE+\\-KMGTPimunk]{0,45}") {
            let _ = nano(&text);
        }
    }
}
