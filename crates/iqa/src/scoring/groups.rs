use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dp2o_data::Picture;
use dp2o_schema::{Score, table};

use super::{Failure, Progress, References, Reporter, bounded, decode, read, split};
use crate::{Metric, MetricError, Result};

/// The candidates of one LR picture, and their HR picture if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's name: a file is named after it.
    pub id: String,
    /// The HR picture.
    pub reference: Option<PathBuf>,
    /// The candidates by index.
    pub candidates: Vec<PathBuf>,
}

/// What scoring groups gave.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupScores {
    /// One row a candidate and metric, in the order of groups, candidates, metrics.
    pub scores: Vec<Score>,
    /// What could not be computed; these rows are among the scores too, with their error.
    pub failures: Vec<Failure>,
    /// Groups that an earlier run had scored already.
    pub reused: usize,
}

/// Scores the candidates of groups, `at_once` pictures at the same time, and writes
/// `FOLDER/scores.parquet`.
///
/// Each group's rows are kept in a file of their own, `FOLDER/groups/GROUP-HASH.parquet`, written
/// whole as soon as the group is done: after a kill, the same call goes on with the groups that are
/// missing. The hash covers the metrics with their variants and the bytes of all pictures, so that
/// nothing stale is reused. Files of groups or settings that are no longer asked for are removed.
///
/// # Errors
/// When a group's name cannot be a file name, two groups have one name, or a file cannot be
/// written. A picture that fails is no error here, but a row and a [`Failure`].
pub fn score_groups(
    groups: &[Group],
    metrics: &[Metric],
    folder: &Path,
    at_once: usize,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<GroupScores> {
    check_names(groups)?;
    let parts = folder.join("groups");
    let total = groups.iter().map(|g| g.candidates.len()).sum();
    let reporter = Reporter::new(total, progress);
    let (outer, inner) = split(at_once, groups.len());
    let one = |g: usize, ()| one_group(&groups[g], metrics, &parts, inner, &reporter);
    let done = bounded(groups.len(), outer, |_| (), one);
    let done = done.into_iter().collect::<Result<Vec<_>>>()?;

    let reused = done.iter().filter(|part| part.reused).count();
    let files: BTreeSet<PathBuf> = done.iter().map(|part| part.file.clone()).collect();
    let scores: Vec<Score> = done.into_iter().flat_map(|part| part.scores).collect();
    table::write(&folder.join("scores.parquet"), &scores)?;
    remove_others(&parts, &files)?;
    let failures = failures(groups, &scores);
    Ok(GroupScores { scores, failures, reused })
}

struct Part {
    file: PathBuf,
    scores: Vec<Score>,
    reused: bool,
}

fn one_group(
    group: &Group,
    metrics: &[Metric],
    parts: &Path,
    at_once: usize,
    reporter: &Reporter<'_>,
) -> Result<Part> {
    let bytes: Vec<std::result::Result<Vec<u8>, String>> =
        group.candidates.iter().map(|path| read(path).map_err(|e| e.to_string())).collect();
    let reference =
        group.reference.as_ref().map(|path| (path, read(path).map_err(|e| e.to_string())));
    let hash = fingerprint(metrics, &bytes, reference.as_ref().map(|(_, bytes)| bytes));
    let file = parts.join(format!("{}-{hash}.parquet", group.id));
    // A file that cannot be read is as good as none: the group is scored again over it.
    if let Ok(scores) = table::read::<Score>(&file) {
        group.candidates.iter().for_each(|path| reporter.done(path));
        return Ok(Part { file, scores, reused: true });
    }
    let reference = reference.map(|(path, bytes)| bytes.and_then(|bytes| decode(path, &bytes)));
    let references = References::prepare(metrics, reference.as_ref());
    drop(reference);
    let none = vec![None; metrics.len()];
    let open = |i: usize| {
        bytes[i].as_ref().map_err(String::clone).and_then(|b| decode(&group.candidates[i], b))
    };
    let one = |i: usize, picture: std::result::Result<Picture, String>| {
        let path = &group.candidates[i];
        let values = match picture {
            Ok(picture) => references.score(metrics, &picture, &none),
            Err(message) => vec![Err(message); metrics.len()],
        };
        let row = |(metric, value): (&Metric, std::result::Result<f64, String>)| Score {
            group: group.id.clone(),
            candidate: i as u32,
            metric: metric.name().into(),
            variant: metric.variant().into(),
            kind: metric.kind(),
            direction: metric.direction(),
            value: value.as_ref().ok().copied(),
            error: value.err(),
        };
        let rows: Vec<Score> = metrics.iter().zip(values).map(row).collect();
        reporter.done(path);
        rows
    };
    let rows = bounded(group.candidates.len(), at_once, open, one);
    let scores: Vec<Score> = rows.into_iter().flatten().collect();
    table::write(&file, &scores)?;
    Ok(Part { file, scores, reused: false })
}

/// 16 hexadecimal digits that change with anything that decides the rows.
fn fingerprint(
    metrics: &[Metric],
    candidates: &[std::result::Result<Vec<u8>, String>],
    reference: Option<&std::result::Result<Vec<u8>, String>>,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    part(b"dp2o scores 1");
    for metric in metrics {
        part(metric.name().as_bytes());
        part(metric.variant().as_bytes());
    }
    for file in reference.into_iter().chain(candidates) {
        match file {
            Ok(bytes) => part(blake3::hash(bytes).as_bytes()),
            Err(_) => part(b"missing"),
        }
    }
    part(if reference.is_some() { b"with reference" } else { b"alone" });
    hasher.finalize().to_hex()[..16].to_string()
}

fn check_names(groups: &[Group]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for group in groups {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        let sound =
            !group.id.is_empty() && !group.id.starts_with('.') && group.id.chars().all(fits);
        if !sound {
            return Err(MetricError::GroupName { group: group.id.clone() });
        }
        if !seen.insert(&group.id) {
            return Err(MetricError::DuplicateGroup { group: group.id.clone() });
        }
    }
    Ok(())
}

fn remove_others(parts: &Path, keep: &BTreeSet<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(parts) else { return Ok(()) };
    for path in entries.filter_map(|entry| entry.ok().map(|e| e.path())) {
        if path.extension().is_some_and(|e| e == "parquet") && !keep.contains(&path) {
            std::fs::remove_file(&path).map_err(|e| dp2o_schema::Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}

fn failures(groups: &[Group], scores: &[Score]) -> Vec<Failure> {
    let mut out: Vec<Failure> = Vec::new();
    let mut rows = scores.iter().peekable();
    for group in groups {
        for (i, path) in group.candidates.iter().enumerate() {
            let here = |s: &&Score| s.group == group.id && s.candidate as usize == i;
            let mut failed = Vec::new();
            let mut count = 0;
            while let Some(row) = rows.next_if(here) {
                count += 1;
                failed.extend(row.error.clone().map(|e| (row.metric.clone(), e)));
            }
            // One message for all metrics is about the picture, not about them.
            let same = failed.len() == count && failed.windows(2).all(|w| w[0].1 == w[1].1);
            let picture = path.clone();
            match failed.first().cloned() {
                Some((_, message)) if same && count > 1 => {
                    out.push(Failure { picture, metric: None, message });
                }
                _ => out.extend(failed.into_iter().map(|(metric, message)| Failure {
                    picture: picture.clone(),
                    metric: Some(metric),
                    message,
                })),
            }
        }
    }
    out
}
