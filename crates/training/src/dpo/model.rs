//! What preference training needs of a backbone.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Noised samples to be scored together, without autodiff.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Clean latents, scaled: `[b, c, h, w]`.
    pub latents: Tensor<4>,
    /// Noise, `[b, c, h, w]`.
    pub noise: Tensor<4>,
    /// One timestep a sample.
    pub timesteps: Vec<usize>,
    /// Control pictures in `[0, 1]`, each once: `[p, 3, H, W]`.
    pub controls: Tensor<4>,
    /// Which of them a sample has, `b` indices.
    pub owners: Vec<usize>,
}

impl Batch {
    /// Samples that share a noise `[1, c, h, w]`, a timestep and a control picture `[1, 3, H, W]`.
    pub fn sharing(
        latents: Tensor<4>,
        noise: Tensor<4>,
        timestep: usize,
        control: Tensor<4>,
    ) -> Self {
        let count = latents.dims()[0];
        Self {
            latents,
            noise: noise.repeat_dim(0, count),
            timesteps: vec![timestep; count],
            controls: control,
            owners: vec![0; count],
        }
    }

    /// Number of samples.
    #[allow(clippy::len_without_is_empty, reason = "a batch has at least one sample")]
    pub fn len(&self) -> usize {
        self.timesteps.len()
    }

    /// Batches of one size of picture as one, in order.
    ///
    /// # Panics
    /// When there is none, or their shapes differ.
    pub fn cat(batches: &[Self]) -> Self {
        let all =
            |part: &dyn Fn(&Self) -> Tensor<4>| Tensor::cat(batches.iter().map(part).collect(), 0);
        let mut owners = Vec::new();
        let mut before = 0;
        for batch in batches {
            owners.extend(batch.owners.iter().map(|owner| before + owner));
            before += batch.controls.dims()[0];
        }
        Self {
            latents: all(&|b| b.latents.clone()),
            noise: all(&|b| b.noise.clone()),
            controls: all(&|b| b.controls.clone()),
            timesteps: batches.iter().flat_map(|b| b.timesteps.iter().copied()).collect(),
            owners,
        }
    }

    /// Its samples in order, at most `size` together.
    pub fn split(&self, size: usize) -> Vec<Self> {
        let parts = (0..self.len()).step_by(size);
        parts.map(|first| self.part(first, size.min(self.len() - first))).collect()
    }

    fn part(&self, first: usize, count: usize) -> Self {
        let cut = |all: &Tensor<4>| all.clone().narrow(0, first, count);
        let owners = &self.owners[first..first + count];
        let mut kept = owners.to_vec();
        kept.sort_unstable();
        kept.dedup();
        Self {
            latents: cut(&self.latents),
            noise: cut(&self.noise),
            timesteps: self.timesteps[first..first + count].to_vec(),
            controls: select(self.controls.clone(), &kept),
            owners: owners.iter().map(|owner| kept.partition_point(|k| k < owner)).collect(),
        }
    }

    /// From one value a control picture to one a sample: `[p, ..]` to `[b, ..]`.
    ///
    /// # Panics
    /// When there are not as many as control pictures.
    pub fn spread(&self, of_controls: Tensor<4>) -> Tensor<4> {
        assert_eq!(of_controls.dims()[0], self.controls.dims()[0], "one for each control picture");
        select(of_controls, &self.owners)
    }
}

/// Rows of a tensor, in this order; the tensor itself when they are all of it.
pub(crate) fn select(all: Tensor<4>, rows: &[usize]) -> Tensor<4> {
    let count = all.dims()[0];
    if rows.iter().copied().eq(0..count) {
        return all;
    }
    if count == 1 {
        return all.repeat_dim(0, rows.len());
    }
    let index: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let device = all.device().without_autodiff();
    let index = Tensor::<1, Int>::from_data(TensorData::new(index, [rows.len()]), &device);
    all.select(0, index)
}

/// A denoiser of which one part is trained, seen as a function from samples to errors.
///
/// Each sample's error must depend on that sample alone.
pub trait ErrorModel: Sync {
    /// The trained part: policy and reference are two values of it.
    type Trained: Module + Sync;
    /// What the frozen part computes before the trained part enters.
    type Shared: Clone;

    /// Runs the part that is frozen and the same for policy and reference, without gradients.
    fn shared(&self, batch: &Batch) -> Self::Shared;

    /// `e`: mean square error of the predicted noise per latent element, `[b]`.
    ///
    /// `shared` is this batch's [`Self::shared`]; without it, the frozen part runs here. The result
    /// has a graph when `trained` is on an autodiff device, and none otherwise.
    fn errors(
        &self,
        trained: &Self::Trained,
        batch: &Batch,
        shared: Option<&Self::Shared>,
    ) -> Tensor<1>;
}

/// A tensor `[1, c, h, w]` of the first normal values of a stream.
pub fn noise(key: &dp2o_schema::seed::Key, shape: [usize; 3], device: &Device) -> Tensor<4> {
    let [c, h, w] = shape;
    Tensor::from_data(TensorData::new(key.normals(c * h * w), [1, c, h, w]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::values;

    #[test]
    fn parts_keep_each_samples_own_picture() {
        let device = Device::flex();
        let of = |value: f64, count: usize| {
            let tensor = |n: usize| Tensor::<4>::full([n, 1, 1, 1], value, &device);
            Batch::sharing(tensor(count), tensor(1), value as usize, tensor(1))
        };
        let all = Batch::cat(&[of(1.0, 2), of(2.0, 3), of(3.0, 1)]);
        assert_eq!(all.controls.dims()[0], 3);
        for size in 1..8 {
            for part in all.split(size) {
                let own = values(part.latents.clone());
                assert_eq!(values(part.spread(part.controls.clone())), own);
                assert_eq!(values(part.noise.clone()), own);
                assert!(part.controls.dims()[0] <= part.len());
                let timesteps: Vec<f32> = part.timesteps.iter().map(|&t| t as f32).collect();
                assert_eq!(timesteps, own);
            }
        }
    }
}
