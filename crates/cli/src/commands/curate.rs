use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use dp2o_curation::{Export, Request};
use serde_json::Value;

use super::StageArgs;
use crate::config::Config;
use crate::stage::{Ended, Run};

/// Rewards the candidates of each group, pairs the best with the worst and weights the pairs.
///
/// Works on a run's own scores, or alone on any tool's: a CSV with the columns
/// `group, candidate, metric, value` (and `kind`, `direction` for metrics that dp2o does not know).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    stage: StageArgs,
    /// Scores of another tool, CSV or Parquet; default: the run's own
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,
    /// Candidate pictures, one folder a group; needed for `--export pickapic`
    #[arg(long, value_name = "DIR")]
    candidates: Option<PathBuf>,
    /// Layouts to write beside pairs.parquet: jsonl, pickapic
    #[arg(long, value_name = "LAYOUT", value_delimiter = ',')]
    export: Vec<String>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let exports = self.export.iter().map(|name| export(name)).collect::<Result<_>>()?;
        let mut run = self.stage.open()?;
        stage(&mut run, self.scores, self.candidates, exports)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn export(name: &str) -> Result<Export> {
    match name {
        "jsonl" => Ok(Export::Jsonl),
        "pickapic" => Ok(Export::Pickapic),
        other => anyhow::bail!("`--export {other}` is not known; choose jsonl or pickapic"),
    }
}

/// What decides the stage's result.
pub fn settings(config: &Config, exports: usize, given: Option<&PathBuf>) -> Result<Value> {
    Ok(serde_json::to_value((&config.curate, exports, given))?)
}

/// The stage, from the run's scores or from `given` ones.
pub fn stage(
    run: &mut Run,
    given: Option<PathBuf>,
    candidates: Option<PathBuf>,
    exports: Vec<Export>,
) -> Result<Ended> {
    let pairs = run.folder.pairs();
    let out = pairs.parent().context("the pairs have a folder")?.to_path_buf();
    let own = given.is_none();
    let request = Request {
        scores: given.unwrap_or_else(|| run.folder.scores().join("scores.parquet")),
        candidates: candidates.or_else(|| own.then(|| run.folder.candidates())),
        out,
        exports,
        ..Request::default()
    };
    run.add_inputs(if own { &[] } else { std::slice::from_ref(&request.scores) })?;
    let config = run.config.curate.clone();
    let given = (!own).then_some(&request.scores);
    let settings = settings(&run.config, request.exports.len(), given)?;
    run.stage("curate", &["score"], &settings, |run| {
        let written = dp2o_curation::run(&request, &config, run.config.seed)?;
        for note in &written.curated.notes {
            tracing::warn!("{note}");
        }
        tracing::info!(
            "curate: {} pairs from {} groups in {}",
            written.curated.pairs.len(),
            written.curated.groups.len(),
            request.out.display()
        );
        Ok(())
    })
}
