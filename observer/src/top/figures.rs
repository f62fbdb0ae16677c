//! Numbers in few columns: bytes are counted by thousands, as network devices are sold.

const STEPS: [&str; 6] = ["", "k", "M", "G", "T", "P"];

/// Three digits and a unit: `1.25 M`.
fn scaled(value: f64) -> String {
    let (mut rest, mut step) = (value, 0);
    while rest.abs() >= 999.5 && step < STEPS.len() - 1 {
        rest /= 1000.0;
        step += 1;
    }
    let digits = if step == 0 || rest.abs() >= 99.5 { 0 } else { 1 + usize::from(rest.abs() < 9.95) };
    format!("{rest:.digits$} {}", STEPS[step])
}

/// Bytes.
pub(crate) fn bytes(value: f64) -> String {
    format!("{}B", scaled(value))
}

/// Bytes a second.
pub(crate) fn rate(value: f64) -> String {
    format!("{}B/s", scaled(value))
}

/// Tasks, or seconds a second.
pub(crate) fn tasks(value: f64) -> String {
    format!("{value:.2}")
}

/// A span.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        long if long >= 3600.0 => format!("{:.1} h", long / 3600.0),
        some if some >= 1.0 => format!("{some:.1} s"),
        short if short >= 1e-3 => format!("{:.1} ms", short * 1e3),
        least => format!("{:.0} us", least * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_shown_and_no_more_are_claimed() {
        for (value, text) in [
            (0.0, "0 B"),
            (12.4, "12 B"),
            (999.0, "999 B"),
            (999.6, "1.00 kB"),
            (12_345.0, "12.3 kB"),
            (999_600.0, "1.00 MB"),
            (123_400_000.0, "123 MB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(
            [seconds(7200.0), seconds(2.0), seconds(0.0021), seconds(4e-6)],
            ["2.0 h", "2.0 s", "2.1 ms", "4 us"]
        );
    }
}
