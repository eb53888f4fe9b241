use serde::{Deserialize, Serialize};

use crate::draw::require;
use crate::{DegradationConfig, MAX_MEGAPIXELS, OpenOptions, Result};

/// Options of the `degrade` stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DegradeConfig {
    /// Factor from LR to HR. Default 4.
    pub scale: u32,
    /// Side of the HR crops, pixels, a multiple of `scale`. Default 192.
    pub crop: usize,
    /// Largest number of crops of one photograph. Default 8.
    pub crops_per_photo: usize,
    /// Share of the photographs that are held out for evaluation, 0 to 1. Default 0.2. At least
    /// one photograph is on each side when the share is neither 0 nor 1 and there are two.
    pub held_out: f64,
    /// Number of photographs that are held out, instead of a share.
    pub held_out_count: Option<usize>,
    /// The photographs that are held out, by file name without extension, instead of a number drawn
    /// by the seed: those that the reference model has not seen either.
    pub held_out_photographs: Vec<String>,
    /// Photographs whose shorter side is longer than this are scaled down to it before they are
    /// cropped, so that crops of very large ones hold structure; 0 never. Default 1080.
    pub shorter_side: usize,
    /// Crops need at least this much detail: the mean over their pixels of the luma differences to
    /// the right and lower neighbours, 8-bit levels. 0 takes every crop. Default 4.
    pub min_detail: f64,
    /// Largest share of a crop's area that an earlier crop of the photograph may cover. Default 0.25.
    pub max_overlap: f64,
    /// Refuse larger photographs before they are decoded, in millions of pixels. Default 100.
    pub max_megapixels: f64,
    /// What LR pictures are made with.
    pub degradation: DegradationConfig,
}

impl Default for DegradeConfig {
    fn default() -> Self {
        Self {
            scale: 4,
            crop: 192,
            crops_per_photo: 8,
            held_out: 0.2,
            held_out_count: None,
            held_out_photographs: Vec::new(),
            shorter_side: 1080,
            min_detail: 4.0,
            max_overlap: 0.25,
            max_megapixels: MAX_MEGAPIXELS,
            degradation: DegradationConfig::default(),
        }
    }
}

impl DegradeConfig {
    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// Names the first option that is not, its value and its range.
    pub fn validate(&self) -> Result<()> {
        require("scale", self.scale, (1..=16).contains(&self.scale), "from 1 to 16")?;
        // Reflection at the borders needs more pixels than half a kernel.
        let scale = self.scale as usize;
        let smallest = (self.degradation.blur_kernel_size / 2 + 1)
            .max((self.degradation.final_kernel_size / 2 + 1) * scale);
        let fine = self.crop >= smallest && self.crop.is_multiple_of(scale);
        let expected =
            format!("a multiple of `scale` ({scale}), from {smallest} for these blur kernels");
        require("crop", self.crop, fine, &expected)?;
        require("crops_per_photo", self.crops_per_photo, self.crops_per_photo > 0, "at least 1")?;
        let share = |v: f64| (0.0..=1.0).contains(&v);
        require("held_out", self.held_out, share(self.held_out), "a share, 0 to 1")?;
        require("max_overlap", self.max_overlap, share(self.max_overlap), "a share, 0 to 1")?;
        let fine = self.shorter_side == 0 || self.shorter_side >= self.crop;
        require("shorter_side", self.shorter_side, fine, "0, or at least `crop`")?;
        require("min_detail", self.min_detail, self.min_detail >= 0.0, "at least 0")?;
        let fine = self.max_megapixels > 0.0 && self.max_megapixels <= 4000.0;
        require("max_megapixels", self.max_megapixels, fine, "above 0 and at most 4000")?;
        self.degradation.validate()
    }

    /// How photographs are opened.
    pub fn open_options(&self) -> OpenOptions {
        OpenOptions { max_megapixels: self.max_megapixels }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bad_options_are_named() {
        DegradeConfig::default().validate().unwrap();
        for (bad, words) in [
            (DegradeConfig { crop: 190, ..Default::default() }, "`crop` is 190"),
            (DegradeConfig { crop: 16, ..Default::default() }, "from 32"),
            (DegradeConfig { held_out: 1.5, ..Default::default() }, "`held_out` is 1.5"),
            (DegradeConfig { shorter_side: 100, ..Default::default() }, "`shorter_side` is 100"),
            (DegradeConfig { min_detail: f64::NAN, ..Default::default() }, "`min_detail` is NaN"),
        ] {
            let message = bad.validate().unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
