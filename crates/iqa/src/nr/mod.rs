//! Metrics that look at a picture alone.

mod brisque;
mod brisque_package;
mod brisque_svm;
mod maniqa;
mod musiq;
mod nima;
mod niqe;
mod niqe_model;
mod piqe;
mod qalign;

pub use brisque::Brisque;
pub use brisque_svm::Svm;
pub use maniqa::{Maniqa, ManiqaPipal};
pub use musiq::Musiq;
pub use nima::Nima;
pub use niqe::Niqe;
pub use niqe_model::{FEATURES, NiqeFit, NiqeModel};
pub use piqe::Piqe;
pub use qalign::QAlign;
