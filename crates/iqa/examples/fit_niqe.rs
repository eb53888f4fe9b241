//! Fits the pristine model of NIQE to a folder of photographs:
//! `cargo run --release -p dp2o-iqa --example fit_niqe -- PHOTOS OUT.safetensors [LIMIT]`
//!
//! Photographs are taken in the order of their names; each is halved until its longer side is at
//! most LIMIT pixels (default 2048), so that what was interpolated by a camera is not learnt as texture.
//! `scripts/niqe_limit.py` compares limits: of 191 crops, 152 are told from what degradation leaves of them at 1536
//! and at 2048, 150 at 1024, 143 at 3072 and 129 without a limit.

use std::error::Error;
use std::path::PathBuf;

use dp2o_data::{Filter, Picture};
use dp2o_iqa::nr::NiqeFit;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (photos, out, limit) = match arguments.as_slice() {
        [photos, out] => (photos, out, 2048),
        [photos, out, limit] => (photos, out, limit.to_string_lossy().parse()?),
        _ => return Err("usage: fit_niqe PHOTOS OUT.safetensors [LIMIT]".into()),
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(photos)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    let mut fit = NiqeFit::default();
    let mut used = 0;
    for path in &paths {
        let Ok(opened) = Picture::open(path) else {
            eprintln!("skipped {}", path.display());
            continue;
        };
        let mut picture = opened.picture;
        while picture.width.max(picture.height) > limit {
            let (width, height) = (picture.width.div_ceil(2), picture.height.div_ceil(2));
            picture = picture.resize(width, height, Filter::BicubicPil);
        }
        let before = fit.blocks();
        fit.add(&picture);
        used += usize::from(fit.blocks() > before);
        eprintln!("{:5} blocks after {}", fit.blocks(), path.display());
    }
    let note = format!("NIQE model of {used} photographs, {} sharp blocks", fit.blocks());
    fit.finish()?.save(out, &note)?;
    println!("{note}");
    Ok(())
}
