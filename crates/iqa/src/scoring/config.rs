use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::registry::{Options, find};
use crate::{Metric, MetricError, Networks, Result};

/// Which metrics to compute, and what decides their values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreConfig {
    /// Metrics by name, in the order of the columns.
    pub metrics: Vec<String>,
    /// Pixels left out at each edge by PSNR, SSIM and MS-SSIM.
    pub crop_border: usize,
    /// Weights files by metric.
    pub weights: BTreeMap<String, PathBuf>,
}

impl Default for ScoreConfig {
    /// All that needs no download.
    fn default() -> Self {
        let metrics = crate::registry::builtin().into_iter().map(String::from).collect();
        Self { metrics, crop_border: 0, weights: BTreeMap::new() }
    }
}

impl ScoreConfig {
    /// Builds the metrics in order. `cache` is where fetched packages are kept, if anywhere.
    ///
    /// # Errors
    /// For a name that is unknown or listed twice, weights that are missing, damaged or not used.
    pub fn build(&self, cache: Option<&Path>, device: &Device) -> Result<Vec<Metric>> {
        let mut seen = BTreeSet::new();
        for name in &self.metrics {
            find(name)?;
            if !seen.insert(name) {
                return Err(MetricError::DuplicateMetric { name: name.clone() });
            }
        }
        if let Some(name) = self.weights.keys().find(|name| !seen.contains(name)) {
            let reason = "is not among the metrics";
            return Err(MetricError::UnusedWeights { name: name.clone(), reason });
        }
        let networks = &Networks::default();
        self.metrics
            .iter()
            .map(|name| {
                let weights = self.weights.get(name).map(PathBuf::as_path);
                let border = self.crop_border;
                find(name)?.build(&Options { border, weights, cache, device, networks })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_config_is_refused_for_what_it_cannot_mean() {
        let parse = |text: &str| toml::from_str::<ScoreConfig>(text);
        assert!(
            parse("metrics = ['psnr']\nborder = 4").unwrap_err().to_string().contains("border")
        );
        let build = |text: &str| {
            let built = parse(text).unwrap().build(None, &Device::flex());
            built.map(|m| m.len()).map_err(|e| e.to_string())
        };
        assert_eq!(build("crop_border = 4").unwrap(), 12);
        assert_eq!(build("metrics = ['psnr', 'niqe']").unwrap(), 2);
        assert!(build("metrics = ['psnr', 'psnr']").unwrap_err().contains("listed twice"));
        assert!(build("metrics = ['vmaf']").unwrap_err().contains("no metric `vmaf`"));
        let unused = build("metrics = ['psnr']\nweights = { niqe = 'a.mat' }").unwrap_err();
        assert!(unused.contains("not among the metrics"), "{unused}");
    }
}
