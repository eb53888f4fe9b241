use dp2o_curation::RewardConfig;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How models are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Samples of each held-out picture, with the same seeds for both models.
    pub seeds: usize,
    /// Samples of each held-out picture for every snapshot of the training, with the first of the
    /// seeds: the curve of the reward over steps. 0 makes none.
    pub curve_seeds: usize,
    /// The reward that models are judged by, so that models tuned to several rewards can be compared;
    /// none given: the one that pairs were made with.
    pub reward: Option<RewardConfig>,
    /// Resamples of the bootstrap over photographs, at least 100.
    pub resamples: usize,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self { seeds: 8, curve_seeds: 0, reward: None, resamples: 5000 }
    }
}

impl EvaluateConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting, its value and its range.
    pub fn check(&self) -> Result<()> {
        let refused = |name, found: usize, allowed| {
            Err(Error::Setting { name, found: found.to_string(), allowed })
        };
        if self.seeds == 0 {
            return refused("evaluate.seeds", self.seeds, "at least 1");
        }
        if self.curve_seeds > self.seeds {
            return refused("evaluate.curve_seeds", self.curve_seeds, "at most `evaluate.seeds`");
        }
        if let Some(reward) = &self.reward {
            reward.check()?;
        }
        if self.resamples < 100 {
            return refused("evaluate.resamples", self.resamples, "at least 100");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_are_checked_and_unknown_ones_refused() {
        let read = |text| toml::from_str::<EvaluateConfig>(text);
        assert_eq!(read("").unwrap(), EvaluateConfig::default());
        assert!(read("sedes = 4").unwrap_err().to_string().contains("sedes"));
        let message = |text| read(text).unwrap().check().unwrap_err().to_string();
        assert!(message("seeds = 0").contains("`evaluate.seeds` is 0"));
        assert!(message("curve_seeds = 9").contains("`evaluate.curve_seeds` is 9"));
        assert!(message("[reward]\nlambda = 2.0").contains("`reward.lambda` is 2"));
        assert!(message("resamples = 99").contains("`evaluate.resamples` is 99"));
        assert!(EvaluateConfig::default().check().is_ok());
    }
}
