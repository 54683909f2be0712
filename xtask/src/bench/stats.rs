//! Paired ratios: the median, and an interval that holds it with 95 % confidence. Single values: how they are spread.
//!
//! The interval is that of the sign test: two order statistics, no assumption on how the ratios are spread.

/// A median with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Median {
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The median of some values and its 95 % interval (the whole range where there are fewer than six).
///
/// # Panics
/// If there is no value.
pub(super) fn median(values: &[f64]) -> Median {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let value = if n % 2 == 1 { sorted[n / 2] } else { f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]) };
    let rank = rank(n);
    Median { value, low: sorted[rank], high: sorted[n - 1 - rank] }
}

/// The smallest value that so many percent of all do not exceed (nearest rank); of none, none.
pub(super) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// How many values may be cut off at either end so that the rest holds the median with at least 95 %: the largest
/// k with 2 × P(Binomial(n, ½) ≤ k) ≤ 5 %.
fn rank(n: usize) -> usize {
    let mut probability = 0.5f64.powi(i32::try_from(n).expect("a number of rounds"));
    let mut below = 0.0;
    for k in 0..n / 2 {
        below += probability;
        if 2.0 * below > 0.05 {
            return k.saturating_sub(1);
        }
        probability *= (n - k) as f64 / (k + 1) as f64;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // Tables of the sign test: n = 15 → 4th and 12th value, n = 20 → 6th and 15th, n = 6 → the extremes.
        assert_eq!([rank(5), rank(6), rank(15), rank(20)], [0, 0, 3, 5]);
        let values: Vec<_> = (1..=15).map(f64::from).collect();
        assert_eq!(median(&values), Median { value: 8.0, low: 4.0, high: 12.0 });
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<_> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([50.0, 99.0, 100.0].map(|percent| percentile(&values, percent)), [100.0, 198.0, 200.0]);
        assert_eq!(percentile(&[7.0], 50.0), 7.0);
        assert!(percentile(&[], 50.0).is_nan());
    }

    #[test]
    fn an_even_number_of_values_has_its_median_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Median { value: 2.5, low: 1.0, high: 4.0 });
    }
}
