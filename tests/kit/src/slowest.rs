//! How long tests took: the longest are told at the end, so that whoever waits for them knows for which.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many are told.
const MOST: usize = 12;
/// Those that take less are not worth a line.
const LEAST: Duration = Duration::from_secs(2);

static TOOK: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Runs a test and notes how long it took.
pub fn timed<T>(name: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let outcome = run();
    TOOK.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), begun.elapsed()));
    outcome
}

/// The longest so far, a line each; nothing if none took long.
pub fn told() -> String {
    let mut took = TOOK.lock().unwrap_or_else(PoisonError::into_inner).clone();
    took.retain(|(_, time)| *time >= LEAST);
    took.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    let mut text = String::new();
    if !took.is_empty() {
        text.push_str("slowest:\n");
    }
    for (name, time) in took.iter().take(MOST) {
        let _ = writeln!(text, "  {:5.1} s  {name}", time.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_come_first_and_the_quick_are_not_told() {
        timed("quick", || {});
        assert_eq!(told(), "");
        TOOK.lock()
            .unwrap()
            .extend([("long".to_owned(), Duration::from_secs(3)), ("longer".to_owned(), Duration::from_secs(70))]);
        assert_eq!(told(), "slowest:\n   70.0 s  longer\n    3.0 s  long\n");
    }
}
