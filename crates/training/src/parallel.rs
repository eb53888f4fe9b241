//! Several parts of one step at the same time.

use burn::module::Module;
use burn::tensor::Device;
use rayon::prelude::*;

/// `of(item)` for each, in order: at the same time on the CPU, where the kernels of small networks
/// leave cores idle; one after the other on other devices.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    device: &Device,
    of: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    if items.len() < 2 {
        return items.iter().map(of).collect();
    }
    #[cfg(feature = "tch")]
    if libtorch::is(device) {
        return libtorch::each(items, of);
    }
    match *device == Device::flex() {
        true => items.par_iter().map(&of).collect(),
        false => items.iter().map(of).collect(),
    }
}

/// The same values with a graph of their own: graphs that meet in a parameter would wait for each
/// other.
pub(crate) fn own<M: Module>(trained: &M) -> M {
    trained.valid().train()
}

/// LibTorch has threads of its own inside each kernel: as many as there are cores, in each of our
/// threads, unless told otherwise.
#[cfg(feature = "tch")]
mod libtorch {
    use burn::tensor::Device;
    use rayon::prelude::*;

    #[allow(deprecated, reason = "burn 0.22 still builds and runs LibTorch")]
    pub fn is(device: &Device) -> bool {
        *device == Device::libtorch()
    }

    pub fn each<T: Sync, R: Send>(items: &[T], of: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let before = tch::get_num_threads();
        let alone = |item: &T| {
            tch::set_num_threads(1); // counts for the thread that calls it
            of(item)
        };
        let results = items.par_iter().map(alone).collect();
        tch::set_num_threads(before);
        results
    }
}
