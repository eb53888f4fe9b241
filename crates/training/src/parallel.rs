//! Several parts of one step at the same time.

use burn::module::Module;
use burn::tensor::Device;
use rayon::prelude::*;

/// `of(item)` for each, in order: at the same time on CPU devices, where the kernels of small networks
/// leave cores idle; one after the other on devices that spread each kernel over all they have.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    device: &Device,
    of: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    if items.len() < 2 {
        return items.iter().map(of).collect();
    }
    #[cfg(feature = "tch")]
    if *device == libtorch::device() {
        return libtorch::each(items, of);
    }
    if *device == Device::flex() {
        items.par_iter().map(&of).collect()
    } else {
        items.iter().map(of).collect()
    }
}

#[cfg(feature = "tch")]
mod libtorch {
    use super::*;

    #[allow(deprecated, reason = "burn 0.22 still builds and runs LibTorch")]
    pub(super) fn device() -> Device {
        Device::libtorch()
    }

    /// Each worker's kernels get an even share of LibTorch's threads: teams of all of them beside each other
    /// would wait for the same cores.
    pub(super) fn each<T: Sync, R: Send>(items: &[T], of: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let threads = tch::get_num_threads();
        let share = (threads / i32::try_from(items.len()).unwrap_or(threads)).max(1);
        let on_a_share = |item| {
            tch::set_num_threads(share);
            of(item)
        };
        let results = items.par_iter().map(on_a_share).collect();
        tch::set_num_threads(threads);
        results
    }
}

/// The same values with a graph of their own: graphs that meet in a parameter would wait for each
/// other.
pub(crate) fn own<M: Module>(trained: &M) -> M {
    trained.valid().train()
}
