//! One run after the other, each taking over what an earlier one has made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use burn::tensor::Device;
use dp2o_schema::{RunFolder, RunRecord, StageRecord, atomic};

use super::plan::{Given, Planned, STAGES, runs};
use super::share::link;
use crate::commands::{curate, degrade, evaluate, generate, score, train};
use crate::stage::Run;

/// A stage by its name and fingerprint.
type Print = (String, String);

/// The runs of a sweep on disk.
pub struct Work<'a> {
    out: &'a Path,
    given: &'a Given,
    device: (&'a str, &'a Device),
    /// Complete stages: a run that has it, and its record.
    done: BTreeMap<Print, (PathBuf, StageRecord)>,
    /// Reference samples of evaluations by [`Planned::reference`]: the evaluation's folder.
    references: BTreeMap<String, PathBuf>,
    /// Stages that failed in this sweep, and why.
    failed: BTreeMap<Print, String>,
}

impl<'a> Work<'a> {
    /// Looks at what earlier attempts have left in `out`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(
        out: &'a Path,
        given: &'a Given,
        device: (&'a str, &'a Device),
        plan: &[Planned],
    ) -> Result<Self> {
        let mut work = Self {
            out,
            given,
            device,
            done: BTreeMap::new(),
            references: BTreeMap::new(),
            failed: BTreeMap::new(),
        };
        for folder in folders(out)? {
            work.look(&folder)?;
        }
        for planned in plan {
            if work.is_done(&planned.last(), &planned.prints[&planned.last()]) {
                let folder = work.done[&work.print(planned, &planned.last())].0.clone();
                work.references.insert(planned.reference.clone(), evaluation(&folder, planned));
            }
        }
        Ok(work)
    }

    /// Notes the complete stages of a run's folder.
    fn look(&mut self, folder: &Path) -> Result<()> {
        let path = RunFolder::new(folder).record();
        if !path.exists() {
            return Ok(());
        }
        let record: RunRecord = atomic::read_json(&path)?;
        for (stage, record) in record.stages.into_iter().filter(|(_, record)| record.complete) {
            let print = (stage, record.fingerprint.clone());
            self.done.entry(print).or_insert_with(|| (folder.into(), record));
        }
        Ok(())
    }

    fn print(&self, planned: &Planned, stage: &str) -> Print {
        (stage.into(), planned.prints[stage].clone())
    }

    /// Whether some run has this stage.
    pub fn is_done(&self, stage: &str, print: &str) -> bool {
        self.done.contains_key(&(stage.into(), print.into()))
    }

    /// A run's folder: the one that holds its configuration, whatever its name begins with, or the
    /// one that it will have.
    pub fn folder(&self, planned: &Planned) -> PathBuf {
        let ending = format!("-{}", planned.key());
        let own = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&ending))
        };
        let found = folders(self.out).ok().and_then(|all| all.into_iter().find(own));
        found.unwrap_or_else(|| runs(self.out).join(&planned.folder))
    }

    /// Seconds that the stages still to be done will take, by the mean of those of their kind that
    /// are done; and whether some of each kind are.
    pub fn left(&self, plan: &[Planned]) -> (f64, bool) {
        let mut left: BTreeSet<Print> = BTreeSet::new();
        for planned in plan {
            for stage in planned.stages() {
                let print = self.print(planned, &stage);
                if !self.done.contains_key(&print) && !self.failed.contains_key(&print) {
                    left.insert(print);
                }
            }
        }
        let times: Vec<Option<f64>> = left.iter().map(|(stage, _)| self.usual(stage)).collect();
        (times.iter().flatten().sum(), times.iter().all(Option::is_some))
    }

    fn usual(&self, stage: &str) -> Option<f64> {
        let of_kind = self.done.iter().filter(|((name, _), _)| name == stage);
        let times: Vec<f64> = of_kind.map(|(_, (_, record))| record.elapsed_seconds).collect();
        (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
    }

    /// Brings a run to its end.
    ///
    /// # Errors
    /// Those of its stages. A stage that failed is not tried again by another run of this sweep.
    pub fn run(&mut self, planned: &Planned) -> Result<()> {
        let folder = self.folder(planned);
        let mut run = Run::open(&folder, planned.config.clone(), self.device.0)?;
        run.reference_errors = Some(self.out.join("reference-errors"));
        for stage in planned.stages() {
            let print = self.print(planned, &stage);
            if run.has(&stage, &print.1) {
                continue;
            }
            if let Some(reason) = self.failed.get(&print) {
                return Err(anyhow!("stage {stage}: {reason} (of another run)"));
            }
            let part = STAGES.iter().find(|(name, _)| *name == stage).map(|(_, part)| *part);
            if let (Some(part), Some((from, record))) = (part, self.done.get(&print)) {
                link(&from.join(part), &folder.join(part), &["checkpoints"])?;
                run.adopt(&stage, record.clone())?;
                continue;
            }
            let done = self.stage(&mut run, planned, &stage);
            if let Err(error) = &done {
                self.failed.insert(print.clone(), format!("{error:#}"));
            }
            done.with_context(|| format!("stage {stage}"))?;
            self.look(&folder)?;
        }
        let own = evaluation(&folder, planned);
        self.references.entry(planned.reference.clone()).or_insert(own);
        Ok(())
    }

    fn stage(&self, run: &mut Run, planned: &Planned, stage: &str) -> Result<()> {
        let device = self.device.1;
        match stage {
            "degrade" => degrade::stage(run, &self.given.source)?,
            "generate" => generate::stage(run, device)?,
            "score" => score::stage(run, device)?,
            "curate" => curate::stage(run, None, None, Vec::new())?,
            "train" => {
                let ended = train::stage(run, device)?;
                // Only a training that goes on needs them, and there are many trainings.
                let checkpoints = run.folder.training().join("checkpoints");
                if checkpoints.exists() {
                    fs::remove_dir_all(&checkpoints)
                        .with_context(|| format!("cannot remove `{}`", checkpoints.display()))?;
                }
                ended
            }
            _ => {
                if let Some(from) = self.references.get(&planned.reference) {
                    let to = evaluation(run.folder.root(), planned);
                    take_reference(from, &to)?;
                }
                let test = planned.test.as_ref();
                let methods: &[_] = if test.is_some() { &self.given.methods } else { &[] };
                evaluate::stage(run, test, methods, device)?
            }
        };
        Ok(())
    }
}

/// The folder of a run's evaluation.
pub fn evaluation(folder: &Path, planned: &Planned) -> PathBuf {
    let folder = RunFolder::new(folder);
    match &planned.test {
        Some(test) => folder.test(&test.name),
        None => folder.evaluation(),
    }
}

/// Takes over an evaluation's reference samples and what else does not depend on the tuned model.
fn take_reference(from: &Path, to: &Path) -> Result<()> {
    let parts = fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))?;
    for entry in parts {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let fixed = ["data", "reference", "scores-reference", "bicubic"].contains(&&*name)
            || name.starts_with("scores-method-");
        // What is there already was made by an attempt that was stopped: the stage goes on from it.
        if fixed && !to.join(&name).exists() && from.join(&name).is_dir() {
            let half = to.join(format!(".{name}.linking.tmp")); // swept when the run is opened
            link(&from.join(&name), &half, &[])?;
            fs::rename(&half, to.join(&name))?;
        }
    }
    Ok(())
}

fn folders(out: &Path) -> Result<Vec<PathBuf>> {
    let root = runs(out);
    if !root.exists() {
        return Ok(Vec::new());
    }
    let failed = || format!("cannot read `{}`", root.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(&root).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
