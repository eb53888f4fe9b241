//! Damaged weights files: an error that names the file, or values that are still finite; no panic.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use burn::tensor::Device;
use dp2o_iqa::fr::StLpips;
use dp2o_iqa::nr::{NiqeModel, Svm};
use dp2o_parity::workspace;
use dp2o_schema::seed::Key;

fn load(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let answer = match name.as_str() {
        n if n.starts_with("niqe") => NiqeModel::load(path).map(drop),
        n if n.starts_with("brisque") => Svm::load(path).map(drop),
        _ => StLpips::load(path, &Device::flex()).map(drop),
    };
    answer.map_err(|e| e.to_string())
}

#[test]
fn damaged_files_are_errors_that_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        "niqe.mat",
        "niqe-plain.mat",
        "brisque.pth",
        "brisque-legacy.pth",
        "st-lpips.pth",
        "st-lpips-zip.pth",
    ];
    for name in names {
        let whole = std::fs::read(workspace().join("tests/fixtures/iqa").join(name)).unwrap();
        let path = dir.path().join(name);
        let size = whole.len();
        for cut in [0, 1, 17, 130, size / 3, size / 2, 9 * size / 10] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let Err(message) = load(&path) else { panic!("{name} cut at {cut} was read") };
            assert!(message.contains(name), "{message}");
        }
        for draw in 0..40_u32 {
            let mut bytes = whole.clone();
            let key = Key::new(7).with(name).with(draw);
            // Half of the flips go into the headers, where they hurt.
            let reach = if draw % 2 == 0 { size.min(1500) } else { size };
            for part in 0..3_u32 {
                let number = key.clone().with(part).number();
                bytes[number as usize % reach] ^= (number >> 48) as u8 | 1;
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Err(message) = load(&path) {
                assert!(message.contains(name), "{message}");
            }
        }
        std::fs::write(&path, &whole).unwrap();
        load(&path).unwrap();
    }
}

#[test]
fn a_file_of_another_metric_says_what_is_missing() {
    let fixtures = workspace().join("tests/fixtures/iqa");
    let message = Svm::load(&fixtures.join("st-lpips.pth")).unwrap_err().to_string();
    assert!(message.contains("tensor `0` is missing") && message.contains("[n, 36]"), "{message}");
    let message = StLpips::load(&fixtures.join("brisque.pth"), &Device::flex()).unwrap_err();
    assert!(message.to_string().contains("tensor `net.slice1.0.weight` is missing"), "{message}");
    let message = NiqeModel::load(&fixtures.join("brisque.pth")).unwrap_err().to_string();
    assert!(message.contains("not a MAT file"), "{message}");
}

#[test]
fn a_fitted_model_survives_a_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let model = NiqeModel::builtin().unwrap();
    let path = dir.path().join("model.safetensors");
    model.save(&path, "a note").unwrap();
    let again = NiqeModel::load(&path).unwrap();
    assert!(again.variant().starts_with("file-"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
    assert!(NiqeModel::load(&path).unwrap_err().to_string().contains("model.safetensors"));
}
