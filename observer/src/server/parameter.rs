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
    const WANTED: &str = "NAMESPACE/POD, NAMESPACE/POD/CONTAINER or a cgroup's path";
    if value.is_empty() {
        return Err(format!("entity is empty; wanted: {WANTED}"));
    }
    if !value.starts_with('/') && value.split('/').count() > 3 {
        return Err(format!("entity={value} is not right; wanted: {WANTED}, which begins with /"));
    }
    let path = value.strip_suffix('/').filter(|path| path.starts_with('/'));
    Ok(path.map(str::to_owned).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_a_pod_a_container_or_a_path() {
        for right in ["shop/web-1", "shop/web-1/app", "/system.slice/a.service", "/a/b/c/d", "/", "unattributed"] {
            assert_eq!(entity(right.into()).as_deref(), Ok(right));
        }
        assert_eq!(entity("/a/b/".into()).as_deref(), Ok("/a/b"));
        for wrong in ["", "a/b/c/d", "system.slice/a/b/c"] {
            assert!(entity(wrong.into()).unwrap_err().contains("NAMESPACE/POD"), "{wrong}");
        }
    }
}
