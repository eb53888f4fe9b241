//! What every stage shares: the run folder, its record, and when a stage may be skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use dp2o_schema::{InputHash, RunFolder, RunRecord, StageRecord, atomic};

use crate::config::Config;
use crate::model;

/// An open run: folder locked, configuration saved.
pub struct Run {
    /// Where everything stands.
    pub folder: RunFolder,
    /// The resolved configuration.
    pub config: Config,
    /// Where reference errors are kept; `None` for the run's own folder. Not part of any result.
    pub reference_errors: Option<PathBuf>,
    record: RunRecord,
    _lock: dp2o_schema::RunLock,
}

/// What became of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It ran, or went on from where it had stopped.
    Ran,
    /// It was complete already.
    Skipped,
}

impl Run {
    /// Opens or makes the run in `root`, takes it for this process, saves the configuration.
    ///
    /// # Errors
    /// When another process has the folder, or it cannot be written.
    pub fn open(root: &Path, config: Config, device: &str) -> Result<Self> {
        let folder = RunFolder::new(root);
        let lock = folder.lock()?;
        // Shards may be at work in the candidates' folder; it is swept group by group.
        let candidates = folder.candidates();
        atomic::sweep(root, &|path| path == candidates)?;
        let path = folder.record();
        let mut record: RunRecord =
            if path.exists() { atomic::read_json(&path)? } else { RunRecord::default() };
        record.version = env!("CARGO_PKG_VERSION").into();
        record.seed = config.seed;
        record.device = device.into();
        let text = toml::to_string(&config).context("configuration")?;
        atomic::write(&folder.config(), text.as_bytes())?;
        atomic::write_json(&path, &record)?;
        Ok(Self { folder, config, reference_errors: None, record, _lock: lock })
    }

    /// Notes the SHA-256 of input files.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn add_inputs<P: AsRef<Path>>(&mut self, files: &[P]) -> Result<()> {
        for file in files {
            let path = file.as_ref();
            let bytes =
                fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            let input = InputHash { path: path.display().to_string(), sha256: sha256(&bytes) };
            self.record.inputs.retain(|old| old.path != input.path);
            self.record.inputs.push(input);
        }
        self.record.inputs.sort_by(|a, b| a.path.cmp(&b.path));
        self.save()
    }

    /// Runs a stage unless it is complete with the same settings and the same inputs.
    ///
    /// `settings` is everything that decides the stage's result beside the stages in `after`.
    ///
    /// # Errors
    /// Those of the stage, and when the folder holds the stage's results under other settings.
    pub fn stage(
        &mut self,
        name: &str,
        after: &[&str],
        settings: &Value,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Ended> {
        let known = |stage: &&str| self.record.stages.get(*stage).map(|s| s.fingerprint.as_str());
        let after: Vec<Option<&str>> = after.iter().map(known).collect();
        let fingerprint = fingerprint(name, self.config.seed, settings, &after);
        let before = self.record.stages.get(name).cloned().unwrap_or_default();
        // An unfinished stage may be given again with other settings: what it had made already is
        // checked by the stage itself.
        if before.complete && before.fingerprint != fingerprint {
            bail!(
                "`{}` holds results of stage `{name}` under other settings or inputs; \
                 choose another --out, or delete that folder",
                self.folder.root().display()
            );
        }
        if before.complete {
            return Ok(Ended::Skipped);
        }
        let started = Instant::now();
        let record = StageRecord { fingerprint, ..before };
        self.record.stages.insert(name.into(), record.clone());
        self.save()?;
        let result = work(self);
        let elapsed_seconds = record.elapsed_seconds + started.elapsed().as_secs_f64();
        let complete = result.is_ok();
        self.record.stages.insert(name.into(), StageRecord { elapsed_seconds, complete, ..record });
        self.save()?;
        result.map(|()| Ended::Ran)
    }

    /// The reference model's folder.
    ///
    /// # Errors
    /// When there is no such model.
    pub fn model(&self) -> Result<PathBuf> {
        model::folder(&self.config.model, &model::cache()?)
    }

    /// What the reference model is, whatever its folder is called.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn model_fingerprint(&self) -> Result<String> {
        Ok(dp2o_generation::fingerprint(&self.model()?)?)
    }

    /// Wall-clock seconds of every stage so far.
    pub fn elapsed(&self) -> Vec<(String, f64)> {
        self.record.stages.iter().map(|(n, s)| (n.clone(), s.elapsed_seconds)).collect()
    }

    /// Whether a stage is complete with this fingerprint.
    pub fn has(&self, name: &str, fingerprint: &str) -> bool {
        let found = self.record.stages.get(name);
        found.is_some_and(|stage| stage.complete && stage.fingerprint == fingerprint)
    }

    /// Counts a stage as done whose files another run has made.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn adopt(&mut self, name: &str, record: StageRecord) -> Result<()> {
        self.record.stages.insert(name.into(), record);
        self.save()
    }

    fn save(&self) -> Result<()> {
        Ok(atomic::write_json(&self.folder.record(), &self.record)?)
    }
}

/// What a stage's result depends on, as one hash: its name, the run's seed, its settings and the
/// fingerprints of the stages before it (`None` for one whose files were given).
pub fn fingerprint(name: &str, seed: u64, settings: &Value, after: &[Option<&str>]) -> String {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update(seed.to_le_bytes());
    hash.update(settings.to_string());
    after.iter().for_each(|earlier| hash.update(earlier.unwrap_or("given")));
    hex(&hash.finalize())
}

/// SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
