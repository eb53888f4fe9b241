//! Several parts of one step at the same time.

use burn::module::Module;
use burn::tensor::Device;
use rayon::prelude::*;

/// `of(item)` for each, in order: at the same time on flex, where the kernels of small networks leave
/// cores idle; one after the other on devices that spread each kernel over all they have.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    device: &Device,
    of: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    if items.len() > 1 && *device == Device::flex() {
        items.par_iter().map(&of).collect()
    } else {
        items.iter().map(of).collect()
    }
}

/// The same values with a graph of their own: graphs that meet in a parameter would wait for each
/// other.
pub(crate) fn own<M: Module>(trained: &M) -> M {
    trained.valid().train()
}
