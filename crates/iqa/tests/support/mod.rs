//! Pictures and comparisons that several tests share.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "each test file uses some of it")]

use std::fs;
use std::path::Path;

use dp2o_data::Picture;
use dp2o_iqa::NoReference;
use dp2o_parity::{Fixture, drawn};
use tempfile::TempDir;

/// `picture` of the generator iqa_no_reference.py.
pub fn picture(height: usize, width: usize) -> Picture {
    let mut bytes = Vec::with_capacity(3 * height * width);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let squares = x * y / 16 + 60 * ((x / 9 + y / 7) % 2);
        bytes.extend((0..3).map(|c| (x * (c + 3) + y * (5 - c) + squares) as u8));
    }
    Picture::from_rgb8(width, height, &bytes)
}

/// The largest difference over the fixture's pictures, named `score.HxW`.
pub fn largest(fixture: &Fixture, metric: &impl NoReference) -> f64 {
    let mut worst = 0.0_f64;
    let names = fixture.names();
    let sizes: Vec<_> = names.iter().filter_map(|n| n.strip_prefix("score.")).collect();
    assert!(!sizes.is_empty());
    for size in sizes {
        let (height, width) = size.split_once('x').unwrap();
        let ours = metric.score(&picture(height.parse().unwrap(), width.parse().unwrap())).unwrap();
        let (_, theirs) = fixture.f64(&format!("score.{size}"));
        let delta = (ours - theirs[0]).abs();
        println!("{size}: {ours} against {}: {delta:e}", theirs[0]);
        worst = worst.max(delta);
    }
    worst
}

/// A model folder of the fixture's configuration and drawn weights.
pub fn folder(fixture: &Fixture) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), fixture.metadata("config")).unwrap();
    fs::copy(drawn::file(fixture), folder.path().join("model.safetensors")).unwrap();
    folder
}

/// As [`folder()`], with the fixture's tokenizer and how it goes on.
pub fn qwen_folder(fixture: &Fixture) -> TempDir {
    let folder = folder(fixture);
    put_tokenizer(fixture, folder.path());
    folder
}

/// Writes the fixture's tokenizer and how it goes on into `folder`.
pub fn put_tokenizer(fixture: &Fixture, folder: &Path) {
    for (file, key) in [("tokenizer.json", "tokenizer"), ("generation_config.json", "generation")] {
        fs::write(folder.join(file), fixture.metadata(key)).unwrap();
    }
}
