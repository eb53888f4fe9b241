//! Pretrains a small model: `pretrain CONFIG PHOTOGRAPHS OUT [flex|tch]`.

use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use dp2o_training::pretrain::{PretrainConfig, pretrain};
use dp2o_training::run::Progress;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [config, photographs, out, rest @ ..] = arguments.as_slice() else {
        return Err("usage: pretrain CONFIG PHOTOGRAPHS OUT [flex|tch]".into());
    };
    let config: PretrainConfig = toml::from_str(&std::fs::read_to_string(config)?)?;
    let device = match rest.first().map(String::as_str) {
        #[cfg(feature = "tch")]
        Some("tch") => Device::libtorch(),
        None | Some("flex") => Device::flex(),
        Some(other) => return Err(format!("device `{other}` is not in this build").into()),
    };
    let mut last = Instant::now();
    let mut show = |p: Progress<'_>| {
        if p.done.is_multiple_of(20) || p.done == p.total {
            let seconds = last.elapsed().as_secs_f64() / 20.0;
            last = Instant::now();
            let scalars: Vec<_> = p.scalars.iter().map(|(k, v)| format!("{k} {v:.4}")).collect();
            eprintln!(
                "{} {}/{} {seconds:.3} s/step {}",
                p.stage,
                p.done,
                p.total,
                scalars.join(" ")
            );
        }
    };
    pretrain(
        Path::new(photographs),
        Path::new(out),
        &config,
        None,
        &device,
        dp2o_nn::DType::F16,
        &mut show,
    )?;
    Ok(())
}
