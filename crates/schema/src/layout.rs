use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The folder of one run, and where everything stands in it.
///
/// ```text
/// RUN/
///   config.toml                   the resolved configuration
///   run.json                      RunRecord: version, seed, input hashes, stages
///   data/manifest.parquet         Crop rows; data/hr/ID.png, data/lr/ID.png
///   candidates/ID/                one folder a group, whole or absent: 000.png …, latents.safetensors
///   scores/scores.parquet         Score rows
///   pairs/pairs.parquet           Pair rows, with .jsonl and Pick-a-Pic exports beside it
///   training/                     checkpoints/, log.jsonl, controlnet/ (the tuned weights)
///   evaluation/                   reference/, tuned/, summary.json, *.csv
///   tests/NAME/                   the same on other pairs, with their data/
///   report.html
/// ```
#[derive(Clone, Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The run in `root`; nothing is touched yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The run's own folder.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// The [`crate::RunRecord`].
    pub fn record(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// The table of [`crate::Crop`] rows.
    pub fn manifest(&self) -> PathBuf {
        self.data().join("manifest.parquet")
    }

    /// The candidates of the train split.
    pub fn candidates(&self) -> PathBuf {
        self.0.join("candidates")
    }

    /// The scores folder.
    pub fn scores(&self) -> PathBuf {
        self.0.join("scores")
    }

    /// The table of [`crate::Pair`] rows.
    pub fn pairs(&self) -> PathBuf {
        self.0.join("pairs").join("pairs.parquet")
    }

    /// Checkpoints, log and tuned weights.
    pub fn training(&self) -> PathBuf {
        self.0.join("training")
    }

    /// Held-out candidates, tables and `summary.json`.
    pub fn evaluation(&self) -> PathBuf {
        self.0.join("evaluation")
    }

    /// The same on a test's own pairs.
    pub fn test(&self, name: &str) -> PathBuf {
        self.0.join("tests").join(name)
    }

    /// The page to look at.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// Makes the folder and takes it for this process until the guard is dropped, or the process
    /// dies. The lock is the operating system's: a killed run leaves nothing to clean up.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it.
    pub fn lock(&self) -> Result<RunLock> {
        fs::create_dir_all(&self.0).map_err(|e| Error::io("create folder", &self.0, e))?;
        let path = self.0.join(".lock");
        let file = File::create(&path).map_err(|e| Error::io("write", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: self.0.clone() }),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
        }
    }
}

/// Holds a run's folder; see [`RunFolder::lock`].
#[derive(Debug)]
pub struct RunLock(#[allow(dead_code, reason = "kept open: closing the file ends the lock")] File);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_serves_one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunFolder::new(dir.path().join("run"));
        let first = run.lock().unwrap();
        assert!(matches!(run.lock(), Err(Error::Locked { .. })));
        drop(first);
        run.lock().unwrap();
    }
}
