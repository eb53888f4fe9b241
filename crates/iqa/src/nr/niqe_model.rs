use std::collections::BTreeMap;
use std::path::Path;

use dp2o_data::Picture;
use dp2o_schema::atomic;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::niqe::{BLOCK, Blocks};
use crate::linalg::gaussian;
use crate::weights::{read_hashed, read_mat, short_hash, weights_error};
use crate::{MetricError, Result};

/// Features of a block: 18 at full and 18 at half size.
pub const FEATURES: usize = 36;

const EXPECTED_MAT: &str = "a MAT file with mu_prisparam [1, 36] and cov_prisparam [36, 36]";
const EXPECTED_TENSORS: &str =
    "a safetensors file with F64 tensors `mean` [36] and `covariance` [36, 36]";
/// Blocks at least this sharp, as a share of their photograph's sharpest one, are learnt from.
const SHARPNESS: f64 = 0.75;

/// The Gaussian of pristine photographs that NIQE compares with.
#[derive(Clone, Debug, PartialEq)]
pub struct NiqeModel {
    pub(super) mean: Vec<f64>,
    pub(super) covariance: Vec<f64>,
    variant: String,
}

impl NiqeModel {
    /// The model of dp2o, fitted by [`NiqeModel::fit`] to its own photographs.
    ///
    /// # Errors
    /// Never for a released build: the file is part of it, and a test reads it.
    pub fn builtin() -> Result<Self> {
        let bytes = include_bytes!("../../assets/niqe-dp2o.safetensors");
        let path = Path::new("niqe-dp2o.safetensors");
        let mut model = Self::from_tensors(path, bytes)?;
        model.variant = format!("dp2o-{}", short_hash(bytes));
        Ok(model)
    }

    /// Reads a model: MATLAB's `.mat` in the layout of `niqe_modelparameters.mat`, or a file that
    /// [`NiqeModel::save`] made.
    ///
    /// # Errors
    /// Names the file and what is missing or misshapen.
    pub fn load(path: &Path) -> Result<Self> {
        let (bytes, hash) = read_hashed(path)?;
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
            let mut model = Self::from_tensors(path, &bytes)?;
            model.variant = format!("file-{hash}");
            return Ok(model);
        }
        let wrong = |detail: String| weights_error(path, EXPECTED_MAT, detail);
        let mut matrices = read_mat(&bytes).map_err(wrong)?;
        let mut take = |name: &str, count: usize| {
            let missing = || wrong(format!("matrix `{name}` is missing"));
            let matrix = matrices.remove(name).ok_or_else(missing)?;
            if matrix.values.len() == count {
                return Ok(matrix.values);
            }
            Err(wrong(format!("matrix `{name}` has shape {:?}", matrix.shape)))
        };
        let mean = take("mu_prisparam", FEATURES)?;
        let covariance = take("cov_prisparam", FEATURES * FEATURES)?;
        Self { mean, covariance, variant: format!("mat-{hash}") }.checked(path, EXPECTED_MAT)
    }

    /// Fits the model to pristine photographs: mean and covariance of the features of their sharp
    /// blocks, those with at least 0.75 of the mean local deviation of their photograph's sharpest.
    /// Pictures smaller than a block are skipped.
    ///
    /// Source: Mittal et al. (2013), section II-C.
    ///
    /// # Errors
    /// [`MetricError::NothingToFit`] when fewer blocks than features are found.
    pub fn fit<'a>(pictures: impl IntoIterator<Item = &'a Picture>) -> Result<Self> {
        let mut fit = NiqeFit::default();
        pictures.into_iter().for_each(|picture| fit.add(picture));
        fit.finish()
    }

    /// Writes the model as safetensors, whole or not at all; `note` is kept in its metadata.
    ///
    /// # Errors
    /// Names the file when it cannot be written.
    pub fn save(&self, path: &Path, note: &str) -> Result<()> {
        let bytes =
            |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (mean, covariance) = (bytes(&self.mean), bytes(&self.covariance));
        let wrong =
            |e: safetensors::SafeTensorError| weights_error(path, EXPECTED_TENSORS, e.to_string());
        let views = BTreeMap::from([
            ("mean", TensorView::new(Dtype::F64, vec![FEATURES], &mean).map_err(wrong)?),
            (
                "covariance",
                TensorView::new(Dtype::F64, vec![FEATURES, FEATURES], &covariance)
                    .map_err(wrong)?,
            ),
        ]);
        let metadata = Some([("note".to_string(), note.to_string())].into());
        let file = safetensors::serialize(views, metadata).map_err(wrong)?;
        Ok(atomic::write(path, &file)?)
    }

    /// What tells this model from others: where it comes from and a hash of its file.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    fn from_tensors(path: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |detail: String| weights_error(path, EXPECTED_TENSORS, detail);
        let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
        let read = |name: &str, shape: &[usize]| {
            let view = file.tensor(name).map_err(|e| wrong(e.to_string()))?;
            if view.dtype() != Dtype::F64 || view.shape() != shape {
                return Err(wrong(format!("`{name}` is {:?} {:?}", view.dtype(), view.shape())));
            }
            let (values, _) = view.data().as_chunks::<8>();
            Ok(values.iter().map(|b| f64::from_le_bytes(*b)).collect())
        };
        let mean = read("mean", &[FEATURES])?;
        let covariance = read("covariance", &[FEATURES, FEATURES])?;
        Self { mean, covariance, variant: String::new() }.checked(path, EXPECTED_TENSORS)
    }

    fn checked(self, path: &Path, expected: &'static str) -> Result<Self> {
        if self.mean.iter().chain(&self.covariance).all(|v| v.is_finite()) {
            return Ok(self);
        }
        Err(weights_error(path, expected, "it holds values that are not finite"))
    }
}

/// A model in the making, one photograph at a time.
#[derive(Debug, Default)]
pub struct NiqeFit {
    features: Vec<[f64; FEATURES]>,
}

impl NiqeFit {
    /// Adds the sharp blocks of a photograph; none if it is smaller than a block.
    pub fn add(&mut self, picture: &Picture) {
        if picture.width.min(picture.height) < BLOCK {
            return;
        }
        let blocks = Blocks::measure(picture);
        let sharpest = blocks.sharpness.iter().fold(0.0_f64, |m, s| m.max(*s));
        let pairs = blocks.features.iter().zip(&blocks.sharpness);
        self.features.extend(pairs.filter(|(_, s)| **s > SHARPNESS * sharpest).map(|(f, _)| *f));
    }

    /// Blocks so far.
    pub fn blocks(&self) -> usize {
        self.features.len()
    }

    /// The model.
    ///
    /// # Errors
    /// [`MetricError::NothingToFit`] when fewer blocks than features were found.
    pub fn finish(self) -> Result<NiqeModel> {
        let nothing = MetricError::NothingToFit { size: BLOCK };
        if self.features.len() <= FEATURES {
            return Err(nothing);
        }
        let (mean, covariance) = gaussian(&self.features).ok_or(nothing)?;
        Ok(NiqeModel { mean, covariance, variant: "fitted".into() })
    }
}
