//! Swin transformers, the maps after each of their stages.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::conv::Conv2d;
use super::layers::{LayerNorm, Linear, Mlp, join_heads};
use crate::Result;
use crate::weights::Store;

/// Of every layer normalisation.
const EPS: f64 = 1e-5;
/// Side of the patches that become the first tokens.
const PATCH: usize = 4;

/// Sizes of a [`Swin`].
#[derive(Clone, Debug)]
pub(crate) struct SwinConfig {
    /// Height and width of its pictures.
    pub side: usize,
    /// Features of the first stage; each further stage has twice as many.
    pub width: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Attention heads of each stage.
    pub heads: [usize; 4],
    /// Side of a window, in tokens.
    pub window: usize,
}

impl SwinConfig {
    /// Swin-B for 384×384 pictures (`swin_base_patch4_window12_384` of timm).
    pub const BASE_384: Self =
        Self { side: 384, width: 128, depths: [2, 2, 18, 2], heads: [4, 8, 16, 32], window: 12 };

    /// Channels of the four maps.
    pub fn channels(&self) -> [usize; 4] {
        [2, 4, 8, 8].map(|factor| factor * self.width)
    }
}

/// A Swin transformer without its last norm and classifier.
///
/// Source: Liu, Lin, Cao, Hu, Wei, Zhang, Lin and Guo (2021), "Swin transformer: hierarchical vision
/// transformer using shifted windows".
#[derive(Clone, Debug)]
pub(crate) struct Swin {
    patches: Conv2d,
    norm: LayerNorm,
    stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
struct Stage {
    blocks: Vec<Block>,
    merge: Option<Merge>,
}

impl Swin {
    /// Reads `patch_embed` and `layers`.
    pub fn load(store: &Store, config: &SwinConfig, device: &Device) -> Result<Self> {
        let first = config.width;
        let shape = [first, 3, PATCH, PATCH];
        let patches = Conv2d::load(store, "patch_embed.proj", shape, device)?.strided(PATCH);
        let norm = LayerNorm::load(store, "patch_embed.norm", first, EPS, device)?;
        let stage = |i: usize| {
            let store = store.under(&format!("layers.{i}"));
            let (width, side) = (first << i, (config.side / PATCH) >> i);
            let windows = Windows::new(config.window, side);
            let block = |j: usize| {
                let store = store.under(&format!("blocks.{j}"));
                let windows = if j.is_multiple_of(2) { windows } else { windows.shifted() };
                Block::load(&store, width, config.heads[i], windows, device)
            };
            let blocks = (0..config.depths[i]).map(block).collect::<Result<_>>()?;
            let merge = (i < 3).then(|| Merge::load(&store.under("downsample"), width, device));
            Ok(Stage { blocks, merge: merge.transpose()? })
        };
        Ok(Self { patches, norm, stages: (0..4).map(stage).collect::<Result<_>>()? })
    }

    /// The maps after each stage, of 1/8, 1/16, 1/32 and 1/32 of the side.
    ///
    /// # Shapes
    /// - input: `[b, 3, side, side]`, standardised
    /// - output: four of `[b, channels[i], side_i, side_i]`
    pub fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let x = self.patches.forward(x).permute([0, 2, 3, 1]); // [b, h, w, width]
        let mut x = self.norm.forward(x);
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            x = stage.blocks.iter().fold(x, |x, block| block.forward(x));
            x = stage.merge.as_ref().map_or(x.clone(), |merge| merge.forward(x));
            maps.push(x.clone().permute([0, 3, 1, 2]));
        }
        maps
    }
}

/// How the tokens of a square map are grouped.
#[derive(Clone, Copy, Debug)]
struct Windows {
    /// Side of a window.
    size: usize,
    /// Side of the map.
    side: usize,
    /// Tokens by which the windows are moved down and to the right.
    shift: usize,
}

impl Windows {
    /// Unmoved; one window where the map is no larger.
    fn new(size: usize, side: usize) -> Self {
        Self { size: size.min(side), side, shift: 0 }
    }

    /// Moved by half a window, unless there is only one.
    fn shifted(self) -> Self {
        Self { shift: if self.side > self.size { self.size / 2 } else { 0 }, ..self }
    }

    /// Tokens of a window.
    fn area(self) -> usize {
        self.size * self.size
    }

    /// `[b, side, side, width]` to `[b·windows, area, width]`.
    fn split(self, x: Tensor<4>) -> Tensor<3> {
        let [b, .., width] = x.dims();
        let (count, size) = (self.side / self.size, self.size);
        let shift = -(self.shift as i64);
        let x = if shift == 0 { x } else { x.roll(&[shift, shift], &[1, 2]) };
        let x = x.reshape([b, count, size, count, size, width]);
        x.permute([0, 1, 3, 2, 4, 5]).reshape([b * count * count, self.area(), width])
    }

    /// What [`split`](Self::split) split.
    fn join(self, x: Tensor<3>) -> Tensor<4> {
        let [windows, _, width] = x.dims();
        let (count, size) = (self.side / self.size, self.size);
        let b = windows / (count * count);
        let x = x.reshape([b, count, count, size, size, width]);
        let x = x.permute([0, 1, 3, 2, 4, 5]).reshape([b, self.side, self.side, width]);
        let shift = self.shift as i64;
        if shift == 0 { x } else { x.roll(&[shift, shift], &[1, 2]) }
    }

    /// What keeps tokens apart that only the roll has brought together: −100 for pairs from
    /// different parts of the map, 0 for others, `[windows, 1, area, area]`.
    fn mask(self, device: &Device) -> Option<Tensor<4>> {
        if self.shift == 0 {
            return None;
        }
        let part = |i: usize| {
            usize::from(i >= self.side - self.size) + usize::from(i >= self.side - self.shift)
        };
        let (count, size) = (self.side / self.size, self.size);
        let mut values = Vec::with_capacity(count * count * self.area() * self.area());
        for window in 0..count * count {
            let (top, left) = (window / count * size, window % count * size);
            let parts: Vec<_> = (0..self.area())
                .map(|token| (part(top + token / size), part(left + token % size)))
                .collect();
            for a in &parts {
                values.extend(parts.iter().map(|b| if a == b { 0.0_f32 } else { -100.0 }));
            }
        }
        let shape = [count * count, 1, self.area(), self.area()];
        Some(Tensor::from_data(TensorData::new(values, shape), device))
    }
}

/// Attention within windows, then a feed-forward network; each added to its input, which is
/// normalised first.
#[derive(Clone, Debug)]
struct Block {
    windows: Windows,
    norms: [LayerNorm; 2],
    inputs: Linear,
    output: Linear,
    bias: Tensor<4>, // [1, heads, area, area]
    mask: Option<Tensor<4>>,
    mlp: Mlp,
}

impl Block {
    fn load(
        store: &Store,
        width: usize,
        heads: usize,
        windows: Windows,
        device: &Device,
    ) -> Result<Self> {
        let norm = |name| LayerNorm::load(store, name, width, EPS, device);
        let span = 2 * windows.size - 1;
        let table = "attn.relative_position_bias_table";
        let table = store.tensor(table, [span * span, heads], device)?;
        Ok(Self {
            windows,
            norms: [norm("norm1")?, norm("norm2")?],
            inputs: Linear::load(store, "attn.qkv", [width, 3 * width], device)?,
            output: Linear::load(store, "attn.proj", [width, width], device)?,
            bias: position_bias(table, windows.size),
            mask: windows.mask(device),
            mlp: Mlp::load(store, "mlp", [width, 4 * width], device)?,
        })
    }

    /// Keeps the shape, `[b, side, side, width]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [norm1, norm2] = &self.norms;
        let y = self.windows.split(norm1.forward(x.clone())); // [b·windows, area, width]
        let x = x + self.windows.join(self.attention(y));
        x.clone() + self.mlp.forward(norm2.forward(x))
    }

    /// Keeps the shape, `[b·windows, area, width]`.
    fn attention(&self, x: Tensor<3>) -> Tensor<3> {
        let [n, area, width] = x.dims();
        let heads = self.bias.dims()[1];
        let parts = self.inputs.forward(x).reshape([n, area, 3, heads, width / heads]);
        let parts = parts.permute([2, 0, 3, 1, 4]); // [3, n, heads, area, d]
        let part = |i: usize| parts.clone().narrow(0, i, 1).squeeze_dim::<4>(0);
        let scale = (width as f64 / heads as f64).powf(-0.5);
        let products = (part(0) * scale).matmul(part(1).swap_dims(2, 3)) + self.bias.clone();
        let products = match &self.mask {
            None => products, // [n, heads, area, area]
            Some(mask) => products + mask.clone().repeat_dim(0, n / mask.dims()[0]),
        };
        self.output.forward(join_heads(softmax(products, 3).matmul(part(2))))
    }
}

/// A learnt number for each distance within a window and head, `[span², heads]`, as one for each
/// pair of tokens: `[1, heads, area, area]`.
fn position_bias(table: Tensor<2>, size: usize) -> Tensor<4> {
    let (area, span, heads) = (size * size, 2 * size - 1, table.dims()[1]);
    let row = |i: usize, j: usize| {
        let (down, right) = (i / size + size - 1 - j / size, i % size + size - 1 - j % size);
        (down * span + right) as i64
    };
    let rows: Vec<i64> = (0..area).flat_map(|i| (0..area).map(move |j| row(i, j))).collect();
    let rows = Tensor::from_data(TensorData::new(rows, [area * area]), &table.device());
    let pairs = table.select(0, rows); // [area², heads]
    pairs.swap_dims(0, 1).reshape([1, heads, area, area])
}

/// Four neighbours to one token of twice the width.
#[derive(Clone, Debug)]
struct Merge {
    norm: LayerNorm,
    reduce: Linear,
}

impl Merge {
    fn load(store: &Store, width: usize, device: &Device) -> Result<Self> {
        let shape = [4 * width, 2 * width];
        Ok(Self {
            norm: LayerNorm::load(store, "norm", 4 * width, EPS, device)?,
            reduce: Linear::load_without_bias(store, "reduction", shape, device)?,
        })
    }

    /// `[b, side, side, width]` to `[b, side / 2, side / 2, 2·width]`; the neighbours in the order
    /// top left, bottom left, top right, bottom right.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, side, _, width] = x.dims();
        let half = side / 2;
        let x = x.reshape([b, half, 2, half, 2, width]).permute([0, 1, 3, 4, 2, 5]);
        self.reduce.forward(self.norm.forward(x.reshape([b, half, half, 4 * width])))
    }
}
