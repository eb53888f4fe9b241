//! Metrics that compare a picture with its reference.

mod afine;
mod colours;
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
pub use colours::{Colours, FullY, Rgb, Space, StudioY};
pub use dists::{Dists, DistsReference};
pub use lpips::{Lpips, LpipsVgg};
pub use ms_ssim::{MsSsim, MsSsimIn, MsSsimY, MsSsimYiq};
pub use psnr::{Psnr, PsnrIn, PsnrY, PsnrYiq};
pub use ssim::{Ssim, SsimIn, SsimStatistics, SsimY, SsimYiq};
pub use ssimulacra2::Ssimulacra2;
pub use st_lpips::{StLpips, StLpipsVgg};
pub use topiq::{TopiqFr, TopiqReference};
