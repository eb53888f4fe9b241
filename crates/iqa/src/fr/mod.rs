//! Metrics that compare a picture with its reference.

mod afine;
mod dists;
mod lpips;
mod ms_ssim;
mod psnr;
mod ssim;
mod ssimulacra2;
mod st_lpips;
mod topiq;

pub use crate::net::lpips::LpipsReference;
pub use afine::{AfineFr, AfineReference};
pub use dists::{Dists, DistsReference};
pub use lpips::{Lpips, LpipsVgg};
pub use ms_ssim::MsSsim;
pub use psnr::{Psnr, PsnrY};
pub use ssim::{Ssim, SsimStatistics, SsimY};
pub use ssimulacra2::Ssimulacra2;
pub use st_lpips::{StLpips, StLpipsVgg};
pub use topiq::{TopiqFr, TopiqReference};
