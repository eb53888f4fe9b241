use dp2o_curation::{mean, percentile};
use dp2o_schema::seed::Key;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean over pictures.
    pub mean: f64,
    /// 2.5th percentile over resamples; `None` with fewer than two pictures.
    pub low: Option<f64>,
    /// 97.5th percentile over resamples; `None` with fewer than two pictures.
    pub high: Option<f64>,
}

impl Interval {
    /// Whether all of the interval lies above 0.
    pub fn is_above_zero(self) -> bool {
        self.low.is_some_and(|low| low > 0.0)
    }

    /// Whether all of the interval lies below 0.
    pub fn is_below_zero(self) -> bool {
        self.high.is_some_and(|high| high < 0.0)
    }
}

/// The mean of one value a picture and its percentile-bootstrap interval: `resamples` times as many
/// pictures are drawn with replacement, from the stream of `key`.
///
/// The interval speaks for other pictures of the same kind, not for other seeds of the same
/// pictures; with few pictures it is somewhat too narrow, as every bootstrap is.
///
/// # Panics
/// Without values or resamples.
///
/// # Source
/// Efron (1979), "Bootstrap methods", percentile interval.
pub fn interval(values: &[f64], resamples: usize, key: &Key) -> Interval {
    assert!(!values.is_empty() && resamples > 0, "values and resamples are needed");
    let centre = mean(values);
    if values.len() < 2 {
        return Interval { mean: centre, low: None, high: None };
    }
    let mut rng = key.rng();
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| {
            let draw = (0..values.len()).map(|_| values[rng.random_range(0..values.len())]);
            draw.sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Interval {
        mean: centre,
        low: Some(percentile(&means, 0.025)),
        high: Some(percentile(&means, 0.975)),
    }
}

/// The mean of `values[run][picture]` and its interval for other photographs and other runs:
/// photographs are drawn with replacement with all their pictures, runs likewise where there are
/// several. `photographs[picture]` numbers the photograph that a picture is of, from 0.
///
/// There is no interval with fewer than two photographs.
///
/// # Panics
/// Without values or resamples, or when a run has another number of pictures.
///
/// # Source
/// Efron (1979); drawing whole clusters, Davison and Hinkley (1997), §3.8.
pub fn clustered(
    values: &[Vec<f64>],
    photographs: &[usize],
    resamples: usize,
    key: &Key,
) -> Interval {
    assert!(!values.is_empty() && !photographs.is_empty(), "values are needed");
    assert!(values.iter().all(|run| run.len() == photographs.len()), "one value a picture");
    assert!(resamples > 0, "resamples are needed");
    let all: Vec<f64> = values.iter().flatten().copied().collect();
    let mut distinct = photographs.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < 2 {
        return Interval { mean: mean(&all), low: None, high: None };
    }
    let sums: Vec<Vec<(f64, f64)>> = values
        .iter()
        .map(|run| {
            let of = |photograph: &usize| {
                let own = photographs.iter().zip(run).filter(|(p, _)| *p == photograph);
                own.fold((0.0, 0.0), |(sum, count), (_, v)| (sum + v, count + 1.0))
            };
            distinct.iter().map(of).collect()
        })
        .collect();
    let mut rng = key.rng();
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| {
            let drawn: Vec<usize> =
                distinct.iter().map(|_| rng.random_range(0..distinct.len())).collect();
            let (mut sum, mut count) = (0.0, 0.0);
            for _ in 0..sums.len() {
                let run = if sums.len() == 1 { 0 } else { rng.random_range(0..sums.len()) };
                for &photograph in &drawn {
                    sum += sums[run][photograph].0;
                    count += sums[run][photograph].1;
                }
            }
            sum / count
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Interval {
        mean: mean(&all),
        low: Some(percentile(&means, 0.025)),
        high: Some(percentile(&means, 0.975)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_values_worked_by_hand() {
        // Resampled means of {0, 1}: 0 and 1 with probability ¼, ½ with ½.
        let found = interval(&[0.0, 1.0], 4000, &Key::new(0));
        assert_eq!(found, Interval { mean: 0.5, low: Some(0.0), high: Some(1.0) });
        let one = interval(&[0.3], 4000, &Key::new(0));
        assert_eq!(one, Interval { mean: 0.3, low: None, high: None });
        assert!(!one.is_above_zero() && !one.is_below_zero());
    }

    #[test]
    fn width_is_that_of_the_normal_approximation() {
        let values: Vec<f64> = Key::new(3).normals(200).into_iter().map(f64::from).collect();
        let found = interval(&values, 5000, &Key::new(1));
        let error = dp2o_curation::population_std(&values) / 200_f64.sqrt();
        let (low, high) = (found.low.unwrap(), found.high.unwrap());
        assert!((low - (found.mean - 1.96 * error)).abs() < 0.1 * error, "{low}");
        assert!((high - (found.mean + 1.96 * error)).abs() < 0.1 * error, "{high}");
        assert_eq!(found, interval(&values, 5000, &Key::new(1)));
        assert_ne!(found, interval(&values, 5000, &Key::new(2)));
    }

    #[test]
    fn whole_photographs_and_runs_are_drawn() {
        // Pictures of one photograph say the same: as many pictures more narrow nothing.
        let eight: Vec<f64> = (0..32).map(|i| f64::from(i / 8)).collect();
        let of: Vec<usize> = (0..32).map(|i| i / 8).collect();
        for seed in 0..20 {
            let one = interval(&[0.0, 1.0, 2.0, 3.0], 4000, &Key::new(seed));
            let found = clustered(std::slice::from_ref(&eight), &of, 4000, &Key::new(seed));
            assert_eq!(found, one);
        }
        let found = clustered(std::slice::from_ref(&eight), &of, 4000, &Key::new(0));
        let naive = interval(&eight, 4000, &Key::new(0));
        assert!(naive.high.unwrap() - naive.low.unwrap() < 1.2);
        assert!(found.high.unwrap() - found.low.unwrap() > 1.9);
        // Runs that differ widen it, photographs that do not vary notwithstanding.
        let runs = [vec![0.0, 0.0], vec![1.0, 1.0]];
        let found = clustered(&runs, &[0, 1], 4000, &Key::new(0));
        assert_eq!(found, Interval { mean: 0.5, low: Some(0.0), high: Some(1.0) });
        assert_eq!(clustered(&runs, &[3, 3], 100, &Key::new(0)).low, None);
    }

    #[test]
    fn true_means_are_covered_about_95_times_in_100() {
        let mut covered = 0;
        for study in 0..200_u32 {
            let key = Key::new(9).with(study);
            let values: Vec<f64> = key.normals(40).into_iter().map(f64::from).collect();
            let found = interval(&values, 500, &key.with("bootstrap"));
            covered += u32::from(found.low.unwrap() <= 0.0 && found.high.unwrap() >= 0.0);
        }
        // 95 % of 200 is 190; four standard deviations are about 12, and 40 values cost a little.
        assert!((176..=199).contains(&covered), "{covered} of 200");
    }
}
