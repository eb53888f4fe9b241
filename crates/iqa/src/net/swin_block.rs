use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::layers::{LayerNorm, Linear, Mlp, join_heads, split_heads};
use super::vit::thirds;
use crate::Result;
use crate::weights::Store;

/// What keeps the parts of a shifted window apart.
const APART: f32 = -100.0;

/// The shape of a [`SwinBlock`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwinShape {
    /// Features of a token.
    pub width: usize,
    /// Features of the hidden layer.
    pub hidden: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Side of the map of tokens; `window` divides it.
    pub side: usize,
    /// Side of a window.
    pub window: usize,
    /// By how many tokens the windows are shifted.
    pub shift: usize,
}

/// Attention within windows of a square map of tokens, then a feed-forward layer.
///
/// Source: Liu et al. (2021), "Swin transformer"; names as its published code.
#[derive(Debug)]
pub(crate) struct SwinBlock {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    bias: Tensor<4>, // [windows or 1, heads, window², window²]: positions, and parts kept apart
    norm2: LayerNorm,
    mlp: Mlp,
    shape: SwinShape,
}

impl SwinBlock {
    pub fn load(s: &Store, shape: SwinShape, device: &Device) -> Result<Self> {
        let SwinShape { width, hidden, heads, window, .. } = shape;
        let table = [(2 * window - 1).pow(2), heads];
        let table = s.tensor("attn.relative_position_bias_table", table, device)?;
        Ok(Self {
            norm1: LayerNorm::load(s, "norm1", width, 1e-5, device)?,
            qkv: Linear::load(s, "attn.qkv", [width, 3 * width], device)?,
            proj: Linear::load(s, "attn.proj", [width, width], device)?,
            bias: positions(table, window) + apart(shape, device),
            norm2: LayerNorm::load(s, "norm2", width, 1e-5, device)?,
            mlp: Mlp::load(s, "mlp", [width, hidden], device)?,
            shape,
        })
    }

    /// Keeps the shape, `[b, side², width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let SwinShape { width, heads, side, window, shift, .. } = self.shape;
        let [b, n, _] = x.dims();
        let shift = shift as i64;
        let count = side / window;
        let y = self.norm1.forward(x.clone()).reshape([b, side, side, width]);
        let y = y.roll(&[-shift, -shift], &[1, 2]);
        let y = y.reshape([b, count, window, count, window, width]).swap_dims(2, 3);
        let y = y.reshape([b * count * count, window * window, width]); // [b·windows, t, width]
        let [q, k, v] = thirds(self.qkv.forward(y)).map(|x| split_heads(x, heads));
        let scale = ((width / heads) as f64).powf(-0.5);
        let weights = (q * scale).matmul(k.swap_dims(2, 3)); // [b·windows, heads, t, t]
        let [_, _, t, _] = weights.dims();
        let weights = weights.reshape([b, count * count, heads, t * t]);
        let bias = self.bias.clone().reshape([1, -1, heads as i32, (t * t) as i32]);
        let weights = (weights + bias).reshape([b * count * count, heads, t, t]);
        let y = self.proj.forward(join_heads(softmax(weights, 3).matmul(v)));
        let y = y.reshape([b, count, count, window, window, width]).swap_dims(2, 3);
        let y = y.reshape([b, side, side, width]).roll(&[shift, shift], &[1, 2]);
        let x = x + y.reshape([b, n, width]);
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }
}

/// The table of a bias per offset, `[(2w−1)², heads]`, spread to pairs of tokens,
/// `[1, heads, w², w²]`.
fn positions(table: Tensor<2>, window: usize) -> Tensor<4> {
    let heads = table.dims()[1];
    let tokens = window * window;
    let offset = |a: usize, b: usize| a + window - 1 - b;
    let pairs = (0..tokens).flat_map(|i| (0..tokens).map(move |j| (i, j)));
    let index: Vec<i32> = pairs
        .map(|(i, j)| {
            let row = offset(i / window, j / window);
            (row * (2 * window - 1) + offset(i % window, j % window)) as i32
        })
        .collect();
    let index = Tensor::from_data(TensorData::new(index, [tokens * tokens]), &table.device());
    let bias = table.select(0, index); // [w⁴, heads]
    bias.swap_dims(0, 1).reshape([1, heads, tokens, tokens])
}

/// −100 between tokens that only the shift has brought into one window, `[windows, 1, w², w²]`; zeros,
/// `[1, 1, w², w²]`, without a shift.
fn apart(shape: SwinShape, device: &Device) -> Tensor<4> {
    let SwinShape { side, window, shift, .. } = shape;
    let (tokens, count) = (window * window, side / window);
    if shift == 0 {
        return Tensor::zeros([1, 1, tokens, tokens], device);
    }
    // Only the last window of a row or column is made of two parts.
    let part = |i: usize| usize::from(i >= side - window) + usize::from(i >= side - shift);
    let region = |w: usize, t: usize| {
        let row = w / count * window + t / window;
        let column = w % count * window + t % window;
        (part(row), part(column))
    };
    let mut values = Vec::with_capacity(count * count * tokens * tokens);
    for w in 0..count * count {
        for i in 0..tokens {
            let one = |j| if region(w, i) == region(w, j) { 0.0 } else { APART };
            values.extend((0..tokens).map(one));
        }
    }
    Tensor::from_data(TensorData::new(values, [count * count, 1, tokens, tokens]), device)
}
