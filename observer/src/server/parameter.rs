//! Parameters that several routes take.

use std::ops::RangeInclusive;

/// Rows in an answer to whom no number was named.
pub(super) const USUAL: usize = 100;
/// Rows in an answer.
const MOST: RangeInclusive<usize> = 1..=10_000;

/// How many rows.
pub(super) fn top(value: &str) -> Result<usize, String> {
    let top = value.parse().ok().filter(|top| MOST.contains(top));
    top.ok_or_else(|| format!("top={value} is not right; wanted: a number from {} to {}", MOST.start(), MOST.end()))
}

/// Whose rows.
pub(super) fn entity(value: String) -> Result<String, String> {
    if value.is_empty() {
        return Err("entity is empty; wanted: NAMESPACE/POD, NAMESPACE/POD/CONTAINER or a cgroup's path".into());
    }
    Ok(value)
}
