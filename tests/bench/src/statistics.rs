//! What the rounds of a measurement say together.

use serde::Serialize;

/// The rounds of one variant, in the order in which they were taken.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Rounds(pub(crate) Vec<f64>);

impl Rounds {
    /// Adds a round.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The smallest round: noise only ever adds time.
    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest round.
    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// The round in the middle; the mean of the two if their number is even. NaN without rounds.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// Minimum and median; `None` without rounds.
    pub(crate) fn both(&self) -> Option<Pair> {
        (!self.0.is_empty()).then(|| Pair { min: self.min(), median: self.median() })
    }

    /// What this costs over `base`: minimum over minimum, and the median of the differences within a round, which a
    /// machine that grows slower from round to round does not move.
    pub(crate) fn over(&self, base: &Self) -> Option<Pair> {
        let differences: Self = self.0.iter().zip(&base.0).map(|(own, base)| own - base).collect();
        (!differences.0.is_empty()).then(|| Pair { min: self.min() - base.min(), median: differences.median() })
    }
}

impl FromIterator<f64> for Rounds {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// One figure by the minimum of its rounds and by their median. They agree when the machine was quiet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Pair {
    pub(crate) min: f64,
    pub(crate) median: f64,
}

impl Pair {
    /// How often `other` fits.
    pub(crate) fn ratio(self, other: Self) -> Self {
        Self { min: self.min / other.min, median: self.median / other.median }
    }
}

/// A mean ratio and the 95 % interval it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) mean: f64,
    pub(crate) high: f64,
}

/// The 95 % interval of the mean ratio of pairs, by Student's t over the logarithms; `None` below two pairs.
pub(crate) fn ratio_interval(on: &Rounds, off: &Rounds) -> Option<Interval> {
    let logs: Vec<f64> = on.0.iter().zip(&off.0).map(|(on, off)| (on / off).ln()).collect();
    let n = logs.len() as f64;
    if logs.len() < 2 {
        return None;
    }
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = student_t(logs.len() - 1) * (variance / n).sqrt();
    Some(Interval { low: (mean - half).exp(), mean: mean.exp(), high: (mean + half).exp() })
}

/// The 97.5 % quantile of Student's t by degrees of freedom; between the entries the next smaller degree counts, which
/// makes an interval wider, never narrower.
fn student_t(degrees: usize) -> f64 {
    const TABLE: [(usize, f64); 18] = [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (7, 2.365),
        (8, 2.306),
        (9, 2.262),
        (10, 2.228),
        (12, 2.179),
        (14, 2.145),
        (16, 2.120),
        (19, 2.093),
        (24, 2.064),
        (29, 2.045),
        (39, 2.023),
        (59, 2.001),
    ];
    TABLE.iter().rev().find(|(from, _)| *from <= degrees).map_or(f64::INFINITY, |(_, t)| *t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_rounds_is_the_mean_of_the_two_in_the_middle() {
        assert_eq!(Rounds(vec![4.0, 1.0, 3.0, 2.0]).both(), Some(Pair { min: 1.0, median: 2.5 }));
        assert_eq!(Rounds(vec![5.0, 1.0, 3.0]).both(), Some(Pair { min: 1.0, median: 3.0 }));
        assert_eq!(Rounds::default().both(), None);
    }

    #[test]
    fn a_machine_that_grows_slower_does_not_move_the_difference_within_a_round() {
        let (on, off) = (Rounds(vec![11.0, 21.0, 31.0]), Rounds(vec![10.0, 20.0, 30.0]));
        assert_eq!(on.over(&off), Some(Pair { min: 1.0, median: 1.0 }));
        assert_eq!(Rounds::default().over(&off), None);
    }

    #[test]
    fn equal_pairs_have_a_ratio_of_one_and_no_width() {
        let same = Rounds(vec![9.0, 10.0, 11.0]);
        let Interval { low, mean, high } = ratio_interval(&same, &same).unwrap();
        assert!((low - 1.0).abs() < 1e-12 && (mean - 1.0).abs() < 1e-12 && (high - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_interval_is_that_of_students_t() {
        // Logs of the ratios: 0.1 and 0.3, so mean 0.2, standard error 0.1, t(1) = 12.706.
        let on = Rounds(vec![0.1f64.exp(), 0.3f64.exp()]);
        let Interval { low, mean, high } = ratio_interval(&on, &Rounds(vec![1.0, 1.0])).unwrap();
        assert!((mean.ln() - 0.2).abs() < 1e-9);
        assert!((high.ln() - (0.2 + 1.2706)).abs() < 1e-9 && (low.ln() - (0.2 - 1.2706)).abs() < 1e-9);
    }

    #[test]
    fn degrees_between_two_entries_take_the_wider_interval() {
        assert!((student_t(15) - student_t(14)).abs() < 1e-12);
        assert!(student_t(0).is_infinite());
    }
}
