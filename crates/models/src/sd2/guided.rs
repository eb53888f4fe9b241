use burn::tensor::Tensor;
use dp2o_diffusion::Denoiser;

use super::Sd2;

/// The denoiser of a model for given control pictures, with classifier-free guidance:
/// `ε = ε₋ + guidance · (ε₊ − ε₋)`, where `ε₊` follows the positive prompt and `ε₋` the negative.
///
/// Both see the control picture, as in diffusers' `StableDiffusionControlNetPipeline`. At guidance
/// 1 the negative prompt is not evaluated.
///
/// Source: Ho and Salimans (2022), Eq. 6, in diffusers' terms.
#[derive(Clone, Debug)]
pub struct Guided<'a> {
    model: &'a Sd2,
    positive: Tensor<3>,
    negative: Tensor<3>,
    control: Tensor<4>, // embedded, [b, c, h, w]
    guidance: f64,
    scale: f64,
}

impl<'a> Guided<'a> {
    /// With the model's own prompt, and the ControlNet at full strength.
    ///
    /// # Shapes
    /// - control: `[b, 3, H, W]` in [0, 1]
    pub fn new(model: &'a Sd2, control: Tensor<4>, guidance: f64) -> Self {
        Self::embedded(model, model.controlnet.embed(control), guidance)
    }

    /// For control pictures that have been through [`ControlNet::embed`](super::ControlNet::embed).
    ///
    /// # Shapes
    /// - control: `[b, channels, h, w]`
    pub fn embedded(model: &'a Sd2, control: Tensor<4>, guidance: f64) -> Self {
        let [batch, ..] = control.dims();
        let (positive, negative) = (model.prompt.positive(batch), model.prompt.negative(batch));
        Self { model, positive, negative, control, guidance, scale: 1.0 }
    }

    /// With other prompts, `[b, l, d]` each.
    #[must_use]
    pub fn with_prompts(mut self, positive: Tensor<3>, negative: Tensor<3>) -> Self {
        (self.positive, self.negative) = (positive, negative);
        self
    }

    /// With the ControlNet's residuals times `scale`.
    #[must_use]
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    fn run(&self, x: Tensor<4>, t: usize, context: Tensor<3>, control: Tensor<4>) -> Tensor<4> {
        let [batch, ..] = x.dims();
        let t = Tensor::full([batch], t as f64, &x.device());
        let Sd2 { unet, controlnet, .. } = self.model;
        let (noisy, time, words) = (x.clone(), t.clone(), context.clone());
        let residuals = controlnet.forward_embedded(noisy, time, words, control, self.scale);
        unet.forward(x, t, context, Some(&residuals))
    }
}

impl Denoiser for Guided<'_> {
    /// # Panics
    /// When `x` has another batch than the control pictures.
    fn predict(&self, x: Tensor<4>, t: usize) -> Tensor<4> {
        if self.guidance == 1.0 {
            return self.run(x, t, self.positive.clone(), self.control.clone());
        }
        let twice = |x: &Tensor<4>| Tensor::cat(vec![x.clone(), x.clone()], 0);
        let context = Tensor::cat(vec![self.negative.clone(), self.positive.clone()], 0);
        let both = self.run(twice(&x), t, context, twice(&self.control)); // [2b, c, h, w]
        let [batch, ..] = x.dims();
        let negative = both.clone().narrow(0, 0, batch);
        let positive = both.narrow(0, batch, batch);
        negative.clone() + (positive - negative) * self.guidance
    }
}
