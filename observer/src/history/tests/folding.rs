//! Folding against a computation that keeps everything.

use super::fixture::START;
use crate::history::{Block, Cell, Folder, METRICS, Row, SeriesId, Step};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn row(unknown: u8) -> impl Strategy<Value = Row> {
    let cell = (0.0_f32..1e9, 0_u8..10)
        .prop_map(move |(value, draw)| (draw >= unknown).then_some(Cell { mean: value, peak: value }));
    proptest::array::uniform5(cell)
}

/// Windows one after the other, of half a second to three, with gaps. Of ten values in them so many are not known.
fn windows(unknown: u8) -> impl Strategy<Value = Vec<Block>> {
    let rows = proptest::collection::btree_map(0_u32..4, row(unknown), 0..4);
    proptest::collection::vec((500_u64..3000, 0_u64..40, rows), 1..300).prop_map(|windows| {
        let mut at_ms = START * 1000;
        let block = |(covered_ms, gap, rows): (u64, u64, BTreeMap<u32, Row>)| {
            at_ms += covered_ms + gap * 1000;
            let rows = rows.into_iter().map(|(id, row)| (SeriesId(id), row)).collect();
            Block { time: at_ms / 1000, covered_ms, rows }
        };
        windows.into_iter().map(block).collect()
    })
}

/// All rows of a series in a period: what the words say, one after the other.
fn naive(windows: &[Block], step: Step, time: u64, id: u32) -> Row {
    let inside: Vec<&Block> = windows.iter().filter(|block| step.start_of(block.time) == time).collect();
    let of = |block: &Block| block.rows.iter().find(|(found, _)| found.0 == id).map(|(_, row)| *row);
    std::array::from_fn(|place| {
        let (mut sum, mut known, mut peak, mut was_known) = (0.0, 0.0, 0.0_f32, false);
        for block in &inside {
            match of(block).map(|row| row[place]) {
                Some(None) => continue,
                Some(Some(cell)) => {
                    was_known = true;
                    sum += f64::from(cell.mean) * block.covered_ms as f64;
                    peak = peak.max(cell.peak);
                }
                None => {}
            }
            known += block.covered_ms as f64;
        }
        was_known.then_some(Cell { mean: (sum / known) as f32, peak })
    })
}

fn assert_close(found: &Row, expected: &Row) -> Result<(), TestCaseError> {
    for place in 0..METRICS {
        match (found[place], expected[place]) {
            (None, None) => {}
            (Some(found), Some(expected)) => {
                let tolerance = expected.mean.abs() * 1e-4 + 1e-6;
                prop_assert!((found.mean - expected.mean).abs() <= tolerance, "{:?}, {:?}", found, expected);
                prop_assert_eq!(found.peak.to_bits(), expected.peak.to_bits());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn minutes_are_what_a_naive_computation_makes_of_seconds_of_which_some_are_unknown(windows in windows(3)) {
        let mut folder = Folder::default();
        let mut minutes: Vec<Block> = windows.iter().filter_map(|window| folder.push(window).minute).collect();
        minutes.extend(folder.so_far(Step::Minute));
        for block in &minutes {
            for (id, found) in &block.rows {
                assert_close(found, &naive(&windows, Step::Minute, block.time, id.0))?;
            }
        }
    }

    #[test]
    fn minutes_and_hours_are_what_a_naive_computation_makes_of_the_seconds(windows in windows(0)) {
        let mut folder = Folder::default();
        let (mut minutes, mut hours) = (Vec::new(), Vec::new());
        for window in &windows {
            let closed = folder.push(window);
            minutes.extend(closed.minute);
            hours.extend(closed.hour);
        }
        minutes.extend(folder.so_far(Step::Minute));
        hours.extend(folder.so_far(Step::Hour));
        for (step, blocks) in [(Step::Minute, &minutes), (Step::Hour, &hours)] {
            let mut times: Vec<u64> = windows.iter().map(|block| step.start_of(block.time)).collect();
            times.dedup();
            prop_assert_eq!(blocks.iter().map(|block| block.time).collect::<Vec<_>>(), times, "{}", step);
            for block in blocks {
                let inside = windows.iter().filter(|window| step.start_of(window.time) == block.time);
                prop_assert_eq!(block.covered_ms, inside.map(|window| window.covered_ms).sum::<u64>());
                for (id, found) in &block.rows {
                    assert_close(found, &naive(&windows, step, block.time, id.0))?;
                }
            }
        }
    }

    #[test]
    fn a_folder_that_is_resumed_goes_on_as_if_nothing_had_been(windows in windows(0), cut in 0_usize..300) {
        let mut whole = Folder::default();
        let mut first = Folder::default();
        // What a store has: the windows and minutes since the last that began something.
        let (mut seconds, mut minutes) = (Vec::new(), Vec::new());
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        for (at, window) in windows.iter().enumerate() {
            if at == cut {
                first = Folder::resumed(&seconds, &minutes);
            }
            expected.extend(whole.push(window).hour);
            let closed = first.push(window);
            if closed.begins_minute {
                seconds.clear();
            }
            if closed.begins_hour {
                minutes.clear();
            }
            let coded = |block: &Block| Block::decode(&block.encode()).unwrap();
            seconds.push(coded(window));
            minutes.extend(closed.minute.as_ref().map(coded));
            found.extend(closed.hour);
        }
        expected.extend(whole.so_far(Step::Hour));
        found.extend(first.so_far(Step::Hour));
        prop_assert_eq!(expected.len(), found.len());
        for (expected, found) in expected.iter().zip(&found) {
            prop_assert_eq!((expected.time, expected.covered_ms), (found.time, found.covered_ms));
            for ((_, expected), (_, found)) in expected.rows.iter().zip(&found.rows) {
                for (expected, found) in expected.iter().zip(found) {
                    let close = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b + 1e-6;
                    prop_assert!(match (expected, found) {
                        (Some(expected), Some(found)) => close(found.mean, expected.mean) && close(found.peak, expected.peak),
                        (None, None) => true,
                        _ => false,
                    }, "{:?}, {:?}", expected, found);
                }
            }
        }
    }
}

#[test]
fn a_burst_of_one_second_is_the_peak_of_its_hour_and_hardly_its_mean() {
    let mut folder = Folder::default();
    let at = |second: u64, bytes: f64| Block {
        time: START + second,
        covered_ms: 1000,
        rows: vec![(SeriesId(2), super::fixture::sends(bytes))],
    };
    for second in 0..3600 {
        assert_eq!(folder.push(&at(second, if second == 1234 { 36e6 } else { 0.0 })).hour, None);
    }
    // It is over with the first minute of the next.
    let hour = (3600..=3660).find_map(|second| folder.push(&at(second, 0.0)).hour).unwrap();
    let cell = hour.rows[0].1[0].unwrap();
    assert_eq!((hour.time, hour.covered_ms), (START, 3_600_000));
    assert!((cell.mean - 1e4).abs() < 1.0 && (cell.peak - 36e6).abs() < 1.0, "{cell:?}");
}

#[test]
fn what_was_never_known_is_not_zero() {
    let mut folder = Folder::default();
    let rows = vec![(SeriesId(2), super::fixture::sends(1.0))];
    folder.push(&Block { time: START, covered_ms: 1000, rows });
    // In the second it is not there.
    folder.push(&Block { time: START + 1, covered_ms: 1000, rows: Vec::new() });
    let minute = folder.so_far(Step::Minute).remove(0);
    assert_eq!(minute.rows[0].1[4], None, "memory");
    assert!((minute.rows[0].1[0].unwrap().mean - 0.5).abs() < 1e-6, "half of the time it sent");
}
