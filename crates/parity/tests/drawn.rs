//! Rust and Python draw the same weights.
#![allow(clippy::unwrap_used)]

use dp2o_parity::{Fixture, drawn};
use safetensors::SafeTensors;

#[test]
fn the_weights_are_pythons_to_the_bit() {
    let fixture = Fixture::open("parity/drawn.safetensors");
    let bytes = std::fs::read(drawn::file(&fixture)).unwrap();
    let ours = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(ours.names().len(), fixture.names().len());
    for name in fixture.names() {
        let (shape, theirs) = fixture.f32(&name);
        let view = ours.tensor(name.trim_start_matches("weights/")).unwrap();
        assert_eq!(view.shape(), shape, "{name}");
        let (values, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(values, theirs, "{name}");
    }
    assert_eq!(drawn::file(&fixture), drawn::file(&fixture));
}

#[test]
fn the_numbers_fill_their_range_evenly() {
    let values = drawn::tensor("a.weight", &[100, 300]);
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let variance = values.iter().map(|v| v * v).sum::<f32>() / n;
    assert!(mean.abs() < 1e-3 && (variance * 300.0 - 1.0).abs() < 0.02, "{mean} {variance}");
    assert_ne!(values[..9], drawn::tensor("b.weight", &[100, 300])[..9]);
}
