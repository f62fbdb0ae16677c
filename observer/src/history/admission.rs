//! Who has a row of its own: as many workloads as there are places in an hour, the largest first. The others share one.

use super::{Row, SeriesId, row};
use std::collections::HashSet;

/// Workloads with rows of their own in an hour, beside the node.
pub(super) const PLACES: usize = 1024;

/// The places of an hour. Who has one keeps it until the hour is over, so that its mean and its peak are whole.
#[derive(Debug, Default)]
pub(super) struct Admission {
    hour: Option<u64>,
    admitted: HashSet<SeriesId>,
}

impl Admission {
    /// Those who have a row in the hour already.
    pub(super) fn resumed(hour: u64, admitted: impl Iterator<Item = SeriesId>) -> Self {
        let mut places = HashSet::new();
        for id in admitted {
            if places.len() < PLACES {
                places.insert(id);
            }
        }
        Self { hour: Some(hour), admitted: places }
    }

    /// Takes the rows without a place out of those of a window, and returns their sum and number.
    pub(super) fn admit(&mut self, hour: u64, rows: &mut Vec<(SeriesId, Row)>) -> Option<(Row, u64)> {
        if self.hour != Some(hour) {
            (self.hour, self.admitted) = (Some(hour), HashSet::new());
            if rows.len() > PLACES {
                self.give_to_the_largest(rows);
            }
        }
        let mut shared: Option<(Row, u64)> = None;
        rows.retain(|(id, of_one)| {
            if self.admitted.contains(id) || (self.admitted.len() < PLACES && self.admitted.insert(*id)) {
                return true;
            }
            match &mut shared {
                Some((sum, count)) => {
                    row::add(sum, of_one);
                    *count += 1;
                }
                None => shared = Some((*of_one, 1)),
            }
            false
        });
        shared
    }

    /// The largest share of the sum of any metric decides.
    fn give_to_the_largest(&mut self, rows: &[(SeriesId, Row)]) {
        let value = |row: &Row, place: usize| row[place].map_or(0.0, |cell| f64::from(cell.mean));
        let total = |place| rows.iter().map(|(_, row)| value(row, place)).sum::<f64>().max(f64::MIN_POSITIVE);
        let totals: [f64; super::METRICS] = std::array::from_fn(total);
        let share =
            |row: &Row| totals.iter().enumerate().map(|(place, total)| value(row, place) / total).fold(0.0, f64::max);
        let mut shares: Vec<(f64, SeriesId)> = rows.iter().map(|(id, row)| (share(row), *id)).collect();
        shares.sort_by(|(one, a), (two, b)| two.total_cmp(one).then(a.cmp(b)));
        self.admitted = shares.into_iter().take(PLACES).map(|(_, id)| id).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::reading;

    fn sends(bytes: f64) -> Row {
        reading([Some(bytes), Some(0.0), Some(0.0), Some(0.0), None])
    }

    #[test]
    fn with_room_for_all_nobody_shares() {
        let mut rows = (2..1026).map(|id| (SeriesId(id), sends(1.0))).collect::<Vec<_>>();
        assert_eq!(Admission::default().admit(0, &mut rows), None);
        assert_eq!(rows.len(), PLACES);
    }

    #[test]
    fn the_smallest_share_a_row_and_nothing_is_lost() {
        let mut admission = Admission::default();
        let all = || (2..2002).map(|id| (SeriesId(id), sends(f64::from(id)))).collect::<Vec<_>>();
        let mut rows = all();
        let (shared, count) = admission.admit(0, &mut rows).unwrap();
        assert_eq!((rows.len(), count), (PLACES, 2000 - PLACES as u64));
        assert!(rows.iter().all(|(id, _)| id.0 >= 2002 - PLACES as u32), "not the largest");
        let sum = |rows: &[(SeriesId, Row)]| rows.iter().map(|(_, row)| f64::from(row[0].unwrap().mean)).sum::<f64>();
        let whole = sum(&rows) + f64::from(shared[0].unwrap().mean);
        assert!((whole / sum(&all()) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn who_has_a_place_keeps_it_until_the_hour_is_over() {
        let mut admission = Admission::default();
        let mut first = (2..2002).map(|id| (SeriesId(id), sends(f64::from(id)))).collect::<Vec<_>>();
        admission.admit(0, &mut first);
        let turned = || (2..2002).map(|id| (SeriesId(id), sends(f64::from(5000 - id)))).collect::<Vec<_>>();
        let mut second = turned();
        admission.admit(0, &mut second);
        assert!(second.iter().map(|(id, _)| id).eq(first.iter().map(|(id, _)| id)));
        let mut third = turned();
        admission.admit(3600, &mut third);
        assert!(third.iter().all(|(id, _)| id.0 < 2 + PLACES as u32), "the largest of the new hour");
    }
}
