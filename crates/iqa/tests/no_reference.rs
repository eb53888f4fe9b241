//! Learned no-reference metrics against pyiqa 0.1.16, on weights drawn from their names and pictures
//! drawn by a formula.
#![allow(clippy::unwrap_used)]

use burn::tensor::Device;
use dp2o_data::Picture;
use dp2o_iqa::NoReference;
use dp2o_iqa::nr::{Maniqa, ManiqaPipal, Musiq, Nima};
use dp2o_parity::{Fixture, check, drawn};

const PYIQA: &str = "pyiqa 0.1.16";

/// `picture` of iqa_no_reference.py.
fn picture(height: usize, width: usize) -> Picture {
    let mut bytes = Vec::with_capacity(3 * height * width);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let squares = x * y / 16 + 60 * ((x / 9 + y / 7) % 2);
        bytes.extend((0..3).map(|c| (x * (c + 3) + y * (5 - c) + squares) as u8));
    }
    Picture::from_rgb8(width, height, &bytes)
}

/// The largest difference over the fixture's pictures.
fn largest(fixture: &Fixture, metric: &impl NoReference) -> f64 {
    let mut worst = 0.0_f64;
    let names = fixture.names();
    let sizes = names.iter().filter_map(|name| name.strip_prefix("score.")?.split_once('x'));
    for (height, width) in sizes {
        let start = std::time::Instant::now();
        let ours = metric.score(&picture(height.parse().unwrap(), width.parse().unwrap())).unwrap();
        let (_, theirs) = fixture.f64(&format!("score.{height}x{width}"));
        let delta = (ours - theirs[0]).abs();
        println!(
            "{height}x{width}: {ours} against {}: {delta:e}, {:?}",
            theirs[0],
            start.elapsed()
        );
        worst = worst.max(delta);
    }
    worst
}

#[test]
fn musiq() {
    for (name, file) in [("musiq", "musiq-koniq"), ("musiq, trained on AVA", "musiq-ava")] {
        let fixture = Fixture::open(&format!("iqa/{file}.safetensors"));
        let metric = Musiq::load(&drawn::file(&fixture), &Device::flex()).unwrap();
        // Measured 1.3e-6; allowed 1e-5, where the pictures differ by 0.5.
        check("iqa", name, PYIQA, largest(&fixture, &metric), 1e-5);
    }
}

#[test]
fn maniqa() {
    let device = Device::flex();
    let koniq = Fixture::open("iqa/maniqa-koniq.safetensors");
    let metric = Maniqa::load(&drawn::file(&koniq), &device).unwrap();
    // Measured 4.5e-7 on scores of 5; allowed 1e-5.
    check("iqa", "maniqa, narrow layers", PYIQA, largest(&koniq, &metric), 1e-5);
    let pipal = Fixture::open("iqa/maniqa-pipal.safetensors");
    let metric = ManiqaPipal::load(&drawn::file(&pipal), &device).unwrap();
    check("iqa", "maniqa-pipal, narrow layers", PYIQA, largest(&pipal, &metric), 1e-5);
}

#[test]
fn nima() {
    let fixture = Fixture::open("iqa/nima.safetensors");
    let metric = Nima::load(&drawn::file(&fixture), &Device::flex()).unwrap();
    // Measured 2.5e-6; allowed 1e-5 of a range of 9.
    check("iqa", "nima", PYIQA, largest(&fixture, &metric), 1e-5);
}
