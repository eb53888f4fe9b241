use std::process::ExitCode;

use anyhow::{Result, bail};

use dp2o_evaluation::{GroupPictures, ReportInputs, report};
use dp2o_schema::Split;

use super::StageArgs;
use super::generate::crops;
use crate::stage::{Ended, Run};

/// Makes one self-contained HTML page of a run: gallery, curves, tables, configuration.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    stage: StageArgs,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let mut run = self.stage.open()?;
        stage(&mut run)?;
        println!("{}", run.folder.report().display());
        Ok(ExitCode::SUCCESS)
    }
}

/// The stage.
pub fn stage(run: &mut Run) -> Result<Ended> {
    let settings = serde_json::to_value(&run.config.report)?;
    run.stage("report", &["evaluate"], &settings, |run| {
        let evaluation = run.folder.evaluation();
        if !evaluation.join("summary.json").exists() {
            bail!("`{}` has no summary.json; run `dp2o evaluate` first", evaluation.display());
        }
        let crops = crops(&run.folder.data(), Split::HeldOut)?;
        let inputs = ReportInputs {
            title: format!("DP²O-SR: {}", run.config.model),
            pictures: GroupPictures::of_run(&crops, &run.folder.data(), &evaluation)?,
            evaluation,
            training_log: Some(run.folder.training().join("log.jsonl")),
            config: Some(run.folder.config()),
            out: run.folder.report(),
        };
        report(&inputs, &run.config.report)?;
        Ok(())
    })
}
