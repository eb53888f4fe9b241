//! Networks that metrics run, never train: plain tensors read from published weights.

pub(crate) mod decoder;
pub(crate) mod inception_resnet_v2;
pub(crate) mod layers;
pub(crate) mod llama;
pub(crate) mod mplug_owl2;
pub(crate) mod swin;
pub(crate) mod vit;
