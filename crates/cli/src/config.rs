//! The one configuration: typed, documented, refusing unknown keys.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use dp2o_curation::CurateConfig;
use dp2o_data::DegradeConfig;
use dp2o_evaluation::{EvaluateConfig, ReportConfig};
use dp2o_generation::GenerateConfig;
use dp2o_iqa::presets::expand;
use dp2o_iqa::registry::find;
use dp2o_iqa::scoring::ScoreConfig;
use dp2o_training::TrainConfig;

/// The settings that suit the embedded model: `configs/tiny-sd2.toml`.
pub const TINY_SD2: &str = include_str!("../../../configs/tiny-sd2.toml");

/// Every setting of a run. Each section belongs to the stage of its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The seed that everything random is keyed by.
    pub seed: u64,
    /// The reference model: `tiny-sd2` (embedded) or a folder in the diffusers layout.
    pub model: String,
    /// Photographs to LR-HR pairs.
    pub degrade: DegradeConfig,
    /// LR to M candidates.
    pub generate: GenerateConfig,
    /// Candidates to metric values.
    pub score: ScoreConfig,
    /// Metric values to rewards, pairs and weights.
    pub curate: CurateConfig,
    /// Pairs to a tuned ControlNet.
    pub train: TrainConfig,
    /// Reference against tuned, same seeds.
    pub evaluate: EvaluateConfig,
    /// The page.
    pub report: ReportConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            model: "tiny-sd2".into(),
            degrade: DegradeConfig::default(),
            generate: GenerateConfig::default(),
            score: ScoreConfig::default(),
            curate: CurateConfig::default(),
            train: TrainConfig::default(),
            evaluate: EvaluateConfig::default(),
            report: ReportConfig::default(),
        }
    }
}

/// Gives a table its type.
///
/// # Errors
/// Names the key, and what was expected of it.
pub fn from_table(table: Table) -> Result<Config> {
    let config = Config::deserialize(Value::Table(table))
        .context("`dp2o run --print-config` shows every key with its default")?;
    Ok(config.expanded())
}

impl Config {
    /// With every preset of metrics, in `score.metrics` and in the rewards, replaced by its metrics.
    fn expanded(mut self) -> Self {
        self.score.metrics = expand(&self.score.metrics);
        for reward in [Some(&mut self.curate.reward), self.evaluate.reward.as_mut()] {
            let lists = reward.map(|r| [&mut r.full_reference, &mut r.no_reference]);
            for list in lists.into_iter().flatten() {
                *list = expand(list);
            }
        }
        self
    }

    /// Checks every setting that can be checked without the pictures, so that nothing runs for hours
    /// in vain.
    ///
    /// # Errors
    /// Names the setting, its value and its range.
    pub fn check(&self) -> Result<()> {
        self.degrade.validate()?;
        self.generate.check()?;
        self.curate.check()?;
        self.train.check()?;
        self.evaluate.check()?;
        let metrics = &self.score.metrics;
        metrics.iter().try_for_each(|name| find(name).map(drop))?;
        let rewards = [Some(&self.curate.reward), self.evaluate.reward.as_ref()];
        for reward in rewards.into_iter().flatten() {
            for name in reward.full_reference.iter().chain(&reward.no_reference) {
                let plain = name.split(':').next().unwrap_or(name);
                if !metrics.iter().any(|metric| metric == name || metric == plain) {
                    bail!("the reward needs `{name}`, which is not among `score.metrics`");
                }
            }
        }
        let made = self.generate.candidates;
        let used = self.curate.candidates.unwrap_or(made);
        if used > made {
            bail!("`curate.candidates` is {used}, but `generate.candidates` only {made}");
        }
        if 2 * self.curate.keep_used() > used {
            bail!(
                "`curate.keep` is {}; of {used} candidates at most {} can be kept at each end",
                self.curate.keep_used(),
                used / 2
            );
        }
        Ok(())
    }
}

/// Options that choose the configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file (TOML); what it leaves out keeps its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one key, e.g. `--set generate.candidates=16`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Seed that everything random is keyed by (default 1)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl ConfigArgs {
    /// Reads the file and applies the overrides to `base`, a TOML text such as a committed preset.
    ///
    /// # Errors
    /// Names the file, the key and what was expected of it.
    pub fn load(&self, base: &str) -> Result<Config> {
        let table = self.table(base)?;
        let origin = match &self.config {
            Some(path) => format!("configuration `{}`", path.display()),
            None => "configuration".into(),
        };
        let config = Config::deserialize(Value::Table(table)).with_context(|| {
            format!(
                "{origin} is not valid; `dp2o run --print-config` shows every key with its default"
            )
        })?;
        Ok(config.expanded())
    }

    /// The same, before it is given a type.
    ///
    /// # Errors
    /// Names the file, or the override.
    pub fn table(&self, base: &str) -> Result<Table> {
        let mut table: Table = base.parse().context("built-in configuration")?;
        if let Some(path) = &self.config {
            merge(&mut table, read(path)?);
        }
        for text in &self.overrides {
            apply(&mut table, text)?;
        }
        if let Some(seed) = self.seed {
            table.insert("seed".into(), Value::try_from(seed).context("--seed is too large")?);
        }
        Ok(table)
    }
}

/// Reads a configuration file.
///
/// # Errors
/// Names the file when it cannot be read or is not TOML.
pub fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read configuration `{}`", path.display()))?;
    text.parse().with_context(|| format!("`{}` is not valid TOML", path.display()))
}

/// `over` wins; tables are merged key by key.
pub fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Applies `a.b=value`: the value is TOML, or a bare string.
///
/// # Errors
/// When there is no `=`.
pub fn apply(table: &mut Table, text: &str) -> Result<()> {
    let Some((key, value)) = text.split_once('=') else {
        bail!("`--set {text}` has no `=`; write `--set train.steps=200`");
    };
    let value = match format!("v = {value}").parse::<Table>() {
        Ok(mut parsed) => parsed.remove("v").unwrap_or_else(|| Value::String(value.into())),
        Err(_) => Value::String(value.into()),
    };
    let mut nested = value;
    for part in key.split('.').rev() {
        nested = Value::Table(Table::from_iter([(part.trim().to_string(), nested)]));
    }
    if let Value::Table(nested) = nested {
        merge(table, nested);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(overrides: &[&str]) -> Result<Config> {
        let overrides = overrides.iter().map(|s| (*s).to_string()).collect();
        ConfigArgs { overrides, ..ConfigArgs::default() }.load("")
    }

    #[test]
    fn overrides_reach_nested_keys() -> Result<()> {
        let config = with(&["generate.candidates=16", "model=/tmp/my model", "seed=9"])?;
        assert_eq!(config.generate.candidates, 16);
        assert_eq!(config.model, "/tmp/my model");
        assert_eq!(config.seed, 9);
        Ok(())
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = format!("{:#}", with(&["generate.candidats=16"]).unwrap_err());
        assert!(error.contains("candidats"), "{error}");
        let error = format!("{:#}", with(&["generate"]).unwrap_err());
        assert!(error.contains("no `=`"), "{error}");
    }

    #[test]
    fn the_defaults_survive_a_round_trip() -> Result<()> {
        let text = toml::to_string(&Config::default())?;
        assert_eq!(toml::to_string(&ConfigArgs::default().load(&text)?)?, text);
        Ok(())
    }
}
