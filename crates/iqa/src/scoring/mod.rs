//! Files in, rows out: every picture is decoded once for all metrics, every reference prepared
//! once for its group.
//!
//! Pictures are scored in parallel in the current rayon pool, which the network backend shares; a
//! value never depends on the number of threads.

mod config;
mod groups;
mod pictures;
mod sets;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dp2o_data::{OpenOptions, Picture};
use dp2o_schema::Direction;

pub use config::ScoreConfig;
pub use groups::{Group, GroupScores, score_groups};
pub use pictures::{PictureJob, PictureRow, score_pictures};
pub use sets::score_set;

use crate::{Metric, MetricError, Prepared, Result};

/// How far scoring is: sent after each picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pictures done, those of earlier runs included.
    pub done: usize,
    /// Pictures in all.
    pub total: usize,
    /// The picture just done.
    pub picture: PathBuf,
}

/// A picture for which something could not be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The picture.
    pub picture: PathBuf,
    /// The metric; `None` where the picture itself or its reference could not be read.
    pub metric: Option<String>,
    /// Why.
    pub message: String,
}

/// A reference prepared for each metric of a list; errors are kept for the metrics they concern.
struct References(Vec<std::result::Result<Option<Prepared>, String>>);

impl References {
    fn prepare(
        metrics: &[Metric],
        reference: Option<&std::result::Result<Picture, String>>,
    ) -> Self {
        let one = |metric: &Metric| match reference {
            None => Ok(None),
            Some(_) if metric.kind() == dp2o_schema::Kind::NoReference => Ok(None),
            Some(Ok(picture)) => {
                let prepared = metric.prepare(picture);
                prepared.map(Some).map_err(|e| format!("the reference: {e}"))
            }
            Some(Err(message)) => Err(format!("the reference: {message}")),
        };
        Self(metrics.iter().map(one).collect())
    }

    /// One value or message a metric.
    fn score(
        &self,
        metrics: &[Metric],
        picture: &Picture,
    ) -> Vec<std::result::Result<f64, String>> {
        let pairs = metrics.iter().zip(&self.0);
        pairs
            .map(|(metric, reference)| match reference {
                Ok(prepared) => metric.score(picture, prepared.as_ref()).map_err(|e| e.to_string()),
                Err(message) => Err(message.clone()),
            })
            .collect()
    }
}

/// Counts pictures and passes each on to whoever watches, one at a time.
struct Reporter<'a> {
    total: usize,
    watcher: Mutex<(usize, &'a mut (dyn FnMut(Progress) + Send))>,
}

impl<'a> Reporter<'a> {
    fn new(total: usize, progress: &'a mut (dyn FnMut(Progress) + Send)) -> Self {
        Self { total, watcher: Mutex::new((0, progress)) }
    }

    fn done(&self, picture: &Path) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, progress) = &mut *watcher;
        *done += 1;
        progress(Progress { done: *done, total: self.total, picture: picture.into() });
    }
}

/// A picture's bytes and, from them, the picture.
fn open(path: &Path) -> std::result::Result<Picture, String> {
    let bytes = read(path).map_err(|e| e.to_string())?;
    decode(path, &bytes)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    Ok(std::fs::read(path).map_err(|e| dp2o_schema::Error::io("read", path, e))?)
}

fn decode(path: &Path, bytes: &[u8]) -> std::result::Result<Picture, String> {
    let opened = Picture::decode(path, bytes, &OpenOptions::default());
    opened.map(|o| o.picture).map_err(|e| MetricError::from(e).to_string())
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::HigherIsBetter => "higher-is-better",
        Direction::LowerIsBetter => "lower-is-better",
    }
}
