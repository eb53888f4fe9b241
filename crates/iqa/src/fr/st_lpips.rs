use std::path::Path;

use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Device, Tensor, TensorData, activation::relu};
use dp2o_data::Picture;
use dp2o_schema::Direction;

use crate::plane::{at_least, same_size};
use crate::weights::Store;
use crate::{FullReference, MetricError, Result};

/// Below this side, a reflection inside the network would reach past the map.
const SMALLEST: usize = 21;
const EXPECTED: &str =
    "the AlexNet of ST-LPIPS, `alex_shift_tolerant.pth` of stlpips-pytorch 0.0.2";
/// Mean and deviation of the training pictures, on colours in `[−1, 1]`.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Convolutions: name, padding.
const CONVS: [(&str, usize); 5] = [
    ("net.slice1.0", 2),
    ("net.slice2.5", 2),
    ("net.slice3.9", 1),
    ("net.slice4.11", 1),
    ("net.slice5.13", 1),
];

/// Shift-tolerant LPIPS on an AlexNet whose every reduction is low-pass filtered: 0 for identical
/// pictures, growing with the perceived difference.
///
/// Source: Ghildyal and Liu (2022), "Shift-tolerant perceptual similarity metric"; numbers as the
/// package `stlpips-pytorch` 0.0.2 with `net="alex"`, `variant="shift_tolerant"`.
#[derive(Debug)]
pub struct StLpips {
    convs: [Conv; 5],
    heads: [Tensor<4>; 5], // [1, c, 1, 1]
    shift: Tensor<4>,      // [1, 3, 1, 1]
    scale: Tensor<4>,
    device: Device,
    hash: String,
}

#[derive(Debug)]
struct Conv {
    weight: Tensor<4>,
    bias: Tensor<1>,
    padding: usize,
}

/// Unit-length features of a reference at the five taps.
#[derive(Clone, Debug)]
pub struct StLpipsReference {
    taps: [Tensor<4>; 5],
    size: (usize, usize),
}

impl StLpips {
    /// Reads the authors' file (zip or legacy format of PyTorch; nothing in it is executed). The
    /// widths of the layers follow the file.
    ///
    /// # Errors
    /// Names the file and the tensor that is missing or misshapen.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let store = Store::open(path, EXPECTED)?;
        let mut input = 3;
        let mut convs = Vec::with_capacity(5);
        let mut heads = Vec::with_capacity(5);
        for (tap, ((name, padding), side)) in CONVS.into_iter().zip([11, 5, 3, 3, 3]).enumerate() {
            let name = format!("{name}.weight");
            let width = store.shape(&name).and_then(|shape| shape.first()).copied().unwrap_or(0);
            let weight = store.tensor(&name, [width, input, side, side], device)?;
            let bias = store.tensor(&name.replace("weight", "bias"), [width], device)?;
            let head =
                store.tensor(&format!("lin{tap}.model.1.weight"), [1, width, 1, 1], device)?;
            convs.push(Conv { weight, bias, padding });
            heads.push(head);
            input = width;
        }
        let internal = |_| store.wrong("five layers were not read");
        Ok(Self {
            convs: convs.try_into().map_err(|_| internal(()))?,
            heads: heads.try_into().map_err(|_| internal(()))?,
            shift: Tensor::<1>::from_data(SHIFT, device).reshape([1, 3, 1, 1]),
            scale: Tensor::<1>::from_data(SCALE, device).reshape([1, 3, 1, 1]),
            device: device.clone(),
            hash: store.hash().into(),
        })
    }

    /// The first 8 hexadecimal digits of the weights file's SHA-256.
    pub fn weights_hash(&self) -> &str {
        &self.hash
    }

    /// Unit-length features after each of the five rectifiers.
    fn taps(&self, picture: &Picture) -> [Tensor<4>; 5] {
        let shape = [1, 3, picture.height, picture.width];
        let data = TensorData::new(picture.values.clone(), shape);
        let x = Tensor::<4>::from_data(data, &self.device); // [1, 3, h, w]
        let x = (x * 2.0 - 1.0 - self.shift.clone()) / self.scale.clone();
        let [c1, c2, c3, c4, c5] = &self.convs;
        let x1 = relu(low_pass(c1.forward(x)));
        let x2 = relu(c2.forward(low_pass(pool(x1.clone()))));
        let x3 = relu(c3.forward(low_pass(pool(x2.clone()))));
        let x4 = relu(c4.forward(x3.clone()));
        let x5 = relu(c5.forward(x4.clone()));
        [x1, x2, x3, x4, x5].map(unit_length)
    }
}

impl Conv {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([1, 1], [self.padding; 2], [1, 1], 1);
        conv2d(x, self.weight.clone(), Some(self.bias.clone()), options)
    }
}

impl FullReference for StLpips {
    const NAME: &'static str = "st-lpips";
    const DIRECTION: Direction = Direction::LowerIsBetter;

    type Reference = StLpipsReference;

    fn prepare(&self, reference: &Picture) -> Result<StLpipsReference> {
        let size = (reference.width, reference.height);
        at_least(Self::NAME, size, SMALLEST)?;
        Ok(StLpipsReference { taps: self.taps(reference), size })
    }

    fn score(&self, picture: &Picture, reference: &StLpipsReference) -> Result<f64> {
        same_size(Self::NAME, (picture.width, picture.height), reference.size)?;
        let pairs = self.taps(picture).into_iter().zip(&reference.taps).zip(&self.heads);
        let distances = pairs.map(|((a, b), head)| {
            let squares = (a - b.clone()).square() * head.clone(); // [1, c, h, w]
            squares.sum_dim(1).mean()
        });
        let total = distances.reduce(|a, b| a + b);
        let value = total.and_then(|t| t.into_data().try_to_vec::<f32>().ok()?.first().copied());
        value
            .map(f64::from)
            .ok_or(MetricError::NotFinite { metric: Self::NAME, what: "the result" })
    }
}

/// Divides by the length over channels.
fn unit_length(x: Tensor<4>) -> Tensor<4> {
    let length = x.clone().square().sum_dim(1).sqrt(); // [1, 1, h, w]
    x / (length + 1e-10)
}

fn pool(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([1, 1]))
}

/// Every second pixel of `[1 2 1]ᵀ·[1 2 1] / 16`, over a border of two reflected pixels.
fn low_pass(x: Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[1];
    let taps = [1.0_f32, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].map(|v| v / 16.0);
    let window = Tensor::<1>::from_data(taps, &x.device()).reshape([1, 1, 3, 3]);
    let window = window.expand([channels, 1, 3, 3]);
    let x = x.pad([(2, 2), (2, 2)], PadMode::Reflect);
    conv2d(x, window, None, ConvOptions::new([2, 2], [0, 0], [1, 1], channels))
}
