//! Language models that score pictures against their references, on tiny configurations.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use burn::tensor::Device;
use dp2o_iqa::nr::QAlign;
use dp2o_parity::{Fixture, check, drawn};
use support::largest;
use tempfile::TempDir;

/// A model folder of the fixture's configuration and drawn weights.
fn folder(fixture: &Fixture) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), fixture.metadata("config")).unwrap();
    fs::copy(drawn::file(fixture), folder.path().join("model.safetensors")).unwrap();
    folder
}

#[test]
fn qalign() {
    let fixture = Fixture::open("iqa/qalign.safetensors");
    let metric = QAlign::load(folder(&fixture).path(), &Device::flex()).unwrap();
    // Measured 7.2e-7; allowed 1e-5.
    check("iqa", "qalign, tiny", "pyiqa 0.1.16", largest(&fixture, &metric), 1e-5);
}

#[test]
fn folders_without_a_model_are_refused_by_name() {
    let device = Device::flex();
    let fixture = Fixture::open("iqa/qalign.safetensors");
    let folder = folder(&fixture);
    let refused = |detail: &str| {
        let message = QAlign::load(folder.path(), &device).unwrap_err().to_string();
        assert!(message.contains(detail) && message.contains("q-future/one-align"), "{message}");
    };
    fs::rename(folder.path().join("model.safetensors"), folder.path().join("other")).unwrap();
    refused("model.safetensors.index.json");
    let config = fixture.metadata("config").replace("\"hidden_size\": 48", "\"hidden_size\": 50");
    fs::write(folder.path().join("config.json"), config).unwrap();
    fs::rename(folder.path().join("other"), folder.path().join("model.safetensors")).unwrap();
    refused("input_layernorm");
    fs::write(folder.path().join("config.json"), "{").unwrap();
    refused("config.json");
}
