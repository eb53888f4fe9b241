//! Files in, rows out: every picture is decoded once for all metrics, every reference prepared
//! once for its group.
//!
//! So many pictures at once as a [`Plan`] says, in the current rayon pool, which the network backend
//! shares: threads are never more than the pool's. A value never depends on their number.

mod config;
mod finished;
mod groups;
mod pictures;
mod plan;
mod sets;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use dp2o_data::{OpenOptions, Picture};
use dp2o_schema::Direction;

pub use config::ScoreConfig;
pub use finished::Finished;
pub use groups::{Group, GroupScores, score_groups};
pub use pictures::{PictureJob, PictureRow, score_pictures};
pub use plan::Plan;
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

    /// One value or message a metric; what is `known` is not computed again.
    fn score(
        &self,
        metrics: &[Metric],
        picture: &Picture,
        known: &[Option<f64>],
    ) -> Vec<std::result::Result<f64, String>> {
        let one = |((metric, reference), known): ((&Metric, &_), &Option<f64>)| match reference {
            _ if known.is_some() => known.ok_or_else(String::new),
            Ok(prepared) => {
                let prepared: &Option<Prepared> = prepared;
                metric.score(picture, prepared.as_ref()).map_err(|e| e.to_string())
            }
            Err(message) => Err(String::clone(message)),
        };
        metrics.iter().zip(&self.0).zip(known).map(one).collect()
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

/// How many groups at a time, and how many pictures of each, make at most `at_once` pictures.
fn split(at_once: usize, groups: usize) -> (usize, usize) {
    let outer = at_once.min(groups).max(1);
    (outer, (at_once / outer).max(1))
}

/// `one(i, before(i))` for all `i` below `count`, in order; at most `at_once` at a time.
///
/// A fixed number of tasks take turns: rayon alone would begin another picture on every thread that
/// waits for a part of the one before. One at a time stays on the calling thread, for LibTorch keeps threads
/// of its own for each that calls it, and these get in each other's way; `before` is then done for the
/// next while it works.
fn bounded<P: Send, T: Send>(
    count: usize,
    at_once: usize,
    before: impl Fn(usize) -> P + Sync,
    one: impl Fn(usize, P) -> T + Sync,
) -> Vec<T> {
    let before = &before;
    if at_once.min(count) <= 1 {
        return std::thread::scope(|scope| {
            let (send, receive) = sync_channel(0);
            // Ends early where the receiver has: after a panic.
            scope.spawn(move || (0..count).try_for_each(|i| send.send(before(i))));
            receive.into_iter().enumerate().map(|(i, prepared)| one(i, prepared)).collect()
        });
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                break;
            }
            let value = one(i, before(i));
            done.lock().unwrap_or_else(PoisonError::into_inner).push((i, value));
        }
    };
    rayon::scope(|scope| (0..at_once.min(count)).for_each(|_| scope.spawn(|_| work())));
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, value)| value).collect()
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
