//! How many pictures are scored at once, from what they need.

use std::collections::BTreeSet;

use crate::registry::find;
use crate::weights::manifest::{needed, size};
use crate::{MetricError, Result};

/// What the program itself takes, bytes.
const PROGRAM: u64 = 100_000_000;

/// How much a list of metrics needs for pictures of one size, by estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Pictures that are scored at the same time.
    pub at_once: usize,
    /// Bytes of all weights, those of shared files once.
    pub weights: u64,
    /// Bytes for one picture: the most that any one of the metrics takes, for they take turns.
    pub picture: u64,
}

impl Plan {
    /// The largest number of pictures at once, at most `threads`, that `metrics` can score within
    /// `limit` bytes when the largest picture has `pixels` pixels. Without a limit, `threads`.
    ///
    /// The estimate is [`Cost`](crate::registry::Cost)'s: bytes of the weights, of a picture, and a pixel.
    ///
    /// # Errors
    /// When not even one picture fits, with the metrics that are too large, or the sum.
    pub fn new(
        metrics: &[String],
        pixels: u64,
        limit: Option<u64>,
        threads: usize,
    ) -> Result<Self> {
        let (mut weights, mut picture, mut alone) = (0, 0, Vec::new());
        let mut counted = BTreeSet::new();
        for name in metrics {
            let entry = find(name)?;
            let own = entry.cost.weights_bytes();
            let each = entry.cost.picture_bytes(pixels);
            let files: Vec<&str> = needed(entry.name).iter().map(|file| file.name).collect();
            if files.is_empty() || counted.insert(files) {
                weights += own;
            }
            picture = picture.max(each);
            alone.push((entry.name, PROGRAM + own + each));
        }
        let all = Self { at_once: threads.max(1), weights, picture };
        let Some(limit) = limit else { return Ok(all) };
        if limit >= PROGRAM + weights + picture {
            let fit = (limit - PROGRAM - weights).checked_div(picture);
            let fit = fit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            return Ok(Self { at_once: all.at_once.min(fit), ..all });
        }
        let large: Vec<String> = alone
            .iter()
            .filter(|(_, bytes)| *bytes > limit)
            .map(|(name, bytes)| format!("{name} needs about {}", size(*bytes)))
            .collect();
        let detail = if large.is_empty() {
            let together = size(PROGRAM + weights + picture);
            format!("together they need about {together}; score them in several calls")
        } else {
            format!("{}; leave them out", large.join(", "))
        };
        Err(MetricError::Memory { limit: size(limit), pixels, detail })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plan(metrics: &[&str], limit: Option<u64>) -> std::result::Result<Plan, String> {
        let metrics: Vec<String> = metrics.iter().map(|m| (*m).into()).collect();
        Plan::new(&metrics, 1_000_000, limit, 64).map_err(|e| e.to_string())
    }

    #[test]
    fn the_number_at_once_follows_from_the_memory() {
        let free = plan(&["topiq-nr", "psnr"], None).unwrap();
        assert_eq!(free.at_once, 64);
        let need = |n: u64| PROGRAM + free.weights + n * free.picture;
        assert_eq!(plan(&["topiq-nr", "psnr"], Some(need(3))).unwrap().at_once, 3);
        assert_eq!(plan(&["topiq-nr", "psnr"], Some(need(3) - 1)).unwrap().at_once, 2);
        assert_eq!(plan(&["topiq-nr", "psnr"], Some(need(1000))).unwrap().at_once, 64);
        let message = plan(&["topiq-nr", "psnr"], Some(need(1) - 1)).unwrap_err();
        assert!(message.contains("topiq-nr needs about") && !message.contains("psnr"), "{message}");
    }

    #[test]
    fn shared_weights_count_once_and_sums_are_told_from_single_ones() {
        let one = plan(&["afine-nr"], None).unwrap().weights;
        assert_eq!(plan(&["afine-nr", "afine-fr"], None).unwrap().weights, one);
        let both = plan(&["nima", "musiq"], None).unwrap();
        let limit = PROGRAM + both.weights + both.picture - 1;
        let message = plan(&["nima", "musiq"], Some(limit)).unwrap_err();
        assert!(message.contains("together") && message.contains("several calls"), "{message}");
    }
}
