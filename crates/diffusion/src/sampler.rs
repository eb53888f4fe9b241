use burn::tensor::Tensor;

use crate::{Schedule, ddim_step, ddpm_step};

/// Anything that predicts, from a noisy sample and its timestep, what the schedule's
/// `prediction_type` names.
pub trait Denoiser {
    /// # Shapes
    /// `x` and the result: `[b, c, h, w]`, all samples at timestep `t`.
    fn predict(&self, x: Tensor<4>, t: usize) -> Tensor<4>;
}

/// The standard normal noise of one step, by the step's index from 0; `[b, c, h, w]`.
pub type Noise<'a> = &'a mut dyn FnMut(usize) -> Tensor<4>;

/// Called after every step.
pub type Watch<'a> = &'a mut dyn FnMut(StepReport<'_>);

/// How far a trajectory has come.
#[derive(Clone, Copy, Debug)]
pub struct StepReport<'a> {
    /// Index of the step just done, from 0.
    pub index: usize,
    /// Number of steps.
    pub steps: usize,
    /// The timestep it started from.
    pub timestep: usize,
    /// The sample after it, `[b, c, h, w]`.
    pub sample: &'a Tensor<4>,
    /// The clean sample as estimated by it, `[b, c, h, w]`.
    pub original: &'a Tensor<4>,
}

/// Where each step of [`sample_ddpm`] starts and goes down to; the last ends at the clean sample.
///
/// # Panics
/// As there.
pub fn ddpm_timesteps(schedule: &Schedule, steps: usize) -> Vec<(usize, Option<usize>)> {
    let timesteps = schedule.timesteps(steps);
    let next = timesteps.iter().skip(1).copied().map(Some).chain([None]);
    timesteps.iter().copied().zip(next).collect()
}

/// Where each step of [`sample_ddim`] starts and goes down to, `None` being the schedule's end.
///
/// As in diffusers, a step goes down by `T / steps` timesteps whatever the spacing, not to the next
/// timestep of the list; for [`crate::Spacing::Leading`] the two are the same.
///
/// # Panics
/// As there.
pub fn ddim_timesteps(schedule: &Schedule, steps: usize) -> Vec<(usize, Option<usize>)> {
    let stride = schedule.config.num_train_timesteps / steps.max(1);
    schedule.timesteps(steps).into_iter().map(|t| (t, t.checked_sub(stride))).collect()
}

/// Ancestral sampling: fresh noise at every step.
///
/// # Shapes
/// `x`, the noises and the result: `[b, c, h, w]`. `x` is standard normal.
///
/// # Panics
/// On other shapes, and when the schedule cannot give `steps` timesteps
/// ([`Schedule::check_steps`]).
///
/// # Source
/// Ho et al. (2020), Alg. 2, over the timesteps of [`Schedule::timesteps`]; reference: diffusers'
/// `DDPMScheduler`.
pub fn sample_ddpm(
    denoiser: &impl Denoiser,
    schedule: &Schedule,
    x: Tensor<4>,
    steps: usize,
    noise: Noise<'_>,
) -> Tensor<4> {
    sample_ddpm_watched(denoiser, schedule, x, steps, noise, &mut |_| {})
}

/// [`sample_ddpm`], with a call to `watch` after every step.
pub fn sample_ddpm_watched(
    denoiser: &impl Denoiser,
    schedule: &Schedule,
    mut x: Tensor<4>,
    steps: usize,
    noise: Noise<'_>,
    watch: Watch<'_>,
) -> Tensor<4> {
    for (index, (t, previous)) in ddpm_timesteps(schedule, steps).into_iter().enumerate() {
        let prediction = denoiser.predict(x.clone(), t);
        let step = ddpm_step(schedule, prediction, t, previous, x, || noise(index));
        let (sample, original) = (&step.previous, &step.original);
        watch(StepReport { index, steps, timestep: t, sample, original });
        x = step.previous;
    }
    x
}

/// Implicit sampling: deterministic at `eta = 0`, as noisy as [`sample_ddpm`] at `eta = 1`.
///
/// # Shapes
/// `x`, the noises and the result: `[b, c, h, w]`. `x` is standard normal.
///
/// # Panics
/// On other shapes, and when the schedule cannot give `steps` timesteps
/// ([`Schedule::check_steps`]).
///
/// # Source
/// Song et al. (2021), Eq. 12; reference: diffusers' `DDIMScheduler`.
pub fn sample_ddim(
    denoiser: &impl Denoiser,
    schedule: &Schedule,
    x: Tensor<4>,
    steps: usize,
    eta: f64,
    noise: Noise<'_>,
) -> Tensor<4> {
    sample_ddim_watched(denoiser, schedule, x, steps, eta, noise, &mut |_| {})
}

/// [`sample_ddim`], with a call to `watch` after every step.
pub fn sample_ddim_watched(
    denoiser: &impl Denoiser,
    schedule: &Schedule,
    mut x: Tensor<4>,
    steps: usize,
    eta: f64,
    noise: Noise<'_>,
    watch: Watch<'_>,
) -> Tensor<4> {
    for (index, (t, previous)) in ddim_timesteps(schedule, steps).into_iter().enumerate() {
        let prediction = denoiser.predict(x.clone(), t);
        let step = ddim_step(schedule, prediction, t, previous, x, eta, || noise(index));
        let (sample, original) = (&step.previous, &step.original);
        watch(StepReport { index, steps, timestep: t, sample, original });
        x = step.previous;
    }
    x
}
