use burn::module::Module;
use dp2o_data::{Filter, Picture};

use crate::colour_fix::{Moments, REACH};
use crate::control::Control;
use crate::tiled::host;
use crate::{ColourFix, Error, Generator, Progress, Result, at_least, noise_key, wavelet};

/// Rows that are finished together.
const ROWS: usize = 128;

/// A picture at the model's scale, whatever its size, with its opacity at the same scale.
///
/// Denoising and decoding go tile by tile (settings `tile`, `overlap`, `batch`): what the networks
/// need does not grow with the picture; [`memory_plan`] says what does. The noise belongs to
/// positions of the whole picture and the colours are fixed on the whole, so that tiles leave no
/// seams. Opacity is resampled by the bicubic filter.
///
/// # Errors
/// [`Error::Alpha`] when the opacities are not the picture's; [`Error::NotFinite`] when the model
/// gives infinities or NaN.
pub fn upscale(
    generator: &Generator,
    picture: &Picture,
    alpha: Option<&[f32]>,
    seed: u64,
    watch: &mut dyn FnMut(Progress),
) -> Result<Upscaled> {
    let (width, height) = (picture.width, picture.height);
    if let Some(alpha) = alpha
        && alpha.len() != width * height
    {
        return Err(Error::Alpha { found: alpha.len(), width, height });
    }
    let config = generator.config();
    let (scale, fix) = (config.scale, config.colour_fix);
    let enlarged = at_least((width, height), scale, config.min_side);
    let source = picture.resize(enlarged.0, enlarged.1, Filter::BicubicPil);
    let made = (enlarged.0 * scale, enlarged.1 * scale);
    let control = Control::new(&source, made, generator.multiple());
    let group = "upscale";
    let not_finite = || Error::NotFinite { group: group.into(), candidate: 0 };
    let latents = generator.denoise(&[control], &[noise_key(seed, group, 0)], watch);
    if !host(latents.clone()).iter().all(|v| v.is_finite()) {
        return Err(not_finite());
    }
    let (mut decoded, mut finite) = (Decoded::new(made), true);
    let (mut own, mut target) = (Moments::default(), Moments::default());
    generator.decode_rows(latents, watch, &mut |y, band| {
        finite &= band.values.iter().all(|v| v.is_finite());
        let rows = band.height.min(made.1.saturating_sub(y));
        if rows > 0 {
            let band = band.crop(0, 0, made.0, rows);
            if fix == ColourFix::Adain {
                own.add(&band);
                target.add(&control.part(0, y, made.0, rows));
            }
            decoded.push(&band);
        }
    });
    if !finite {
        return Err(not_finite());
    }
    Ok(Upscaled {
        width: width * scale,
        height: height * scale,
        alpha: alpha.map(|alpha| Picture::new(width, height, alpha.repeat(3))),
        fix,
        moments: [own, target],
        source,
        decoded,
    })
}

/// An upscaled picture, kept small: its rows are finished when they are asked for.
#[derive(Clone, Debug)]
pub struct Upscaled {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// The input's opacity in each channel.
    alpha: Option<Picture>,
    fix: ColourFix,
    /// The decoded picture's, and the control picture's.
    moments: [Moments; 2],
    /// What the control picture is an enlargement of.
    source: Picture,
    decoded: Decoded,
}

impl Upscaled {
    /// Whether it has opacities.
    pub fn has_alpha(&self) -> bool {
        self.alpha.is_some()
    }

    /// Hands out the finished picture from top to bottom, some rows at a time: values in `[0, 1]`,
    /// and opacities `[rows, width]` where the input had any.
    pub fn rows(&self, take: &mut dyn FnMut(&Picture, Option<&[f32]>)) {
        if (self.width, self.height) != self.decoded.size {
            // Enlarged for the model: a small picture.
            let (width, height) = self.decoded.size;
            let mut whole = Picture::new(width, height, vec![0.0; 3 * width * height]);
            for (y, rows) in spans(height) {
                whole.set_rows(y, &self.finished(y, rows));
            }
            let whole = whole.resize(self.width, self.height, Filter::BicubicPil);
            return take(&whole, self.opacity(0, self.height).as_deref());
        }
        for (y, rows) in spans(self.height) {
            take(&self.finished(y, rows), self.opacity(y, rows).as_deref());
        }
    }

    /// The picture and its opacities as a whole.
    pub fn whole(&self) -> (Picture, Option<Vec<f32>>) {
        let mut whole =
            Picture::new(self.width, self.height, vec![0.0; 3 * self.width * self.height]);
        let (mut y, mut opacities) = (0, self.alpha.as_ref().map(|_| Vec::new()));
        self.rows(&mut |rows, alpha| {
            whole.set_rows(y, rows);
            y += rows.height;
            if let (Some(all), Some(alpha)) = (&mut opacities, alpha) {
                all.extend_from_slice(alpha);
            }
        });
        (whole, opacities)
    }

    /// Rows of the decoded picture with their colours fixed.
    fn finished(&self, y: usize, rows: usize) -> Picture {
        let (width, height) = self.decoded.size;
        let fixed = match self.fix {
            ColourFix::None => self.decoded.rows(y, rows),
            ColourFix::Adain => {
                let [own, target] = &self.moments;
                own.towards(target, self.decoded.rows(y, rows))
            }
            ColourFix::Wavelet => {
                let (top, end) = (y.saturating_sub(REACH), (y + rows + REACH).min(height));
                let control = Control::new(&self.source, self.decoded.size, 1);
                let reference = control.part(0, top, width, end - top);
                wavelet(&self.decoded.rows(top, end - top), &reference).crop(
                    0,
                    y - top,
                    width,
                    rows,
                )
            }
        };
        fixed.clamped()
    }

    fn opacity(&self, y: usize, rows: usize) -> Option<Vec<f32>> {
        let (size, columns) = ((self.width, self.height), 0..self.width);
        let alpha = self.alpha.as_ref()?;
        let part = alpha.resize_part(size, Filter::BicubicPil, columns, y..y + rows);
        Some(part.plane(0).to_vec())
    }
}

/// First row and number of rows of what is finished together.
fn spans(height: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).step_by(ROWS).map(move |y| (y, ROWS.min(height - y)))
}

/// A decoded picture in 16 bits a value: steps of 7.6e-5, a fiftieth of an 8-bit level.
#[derive(Clone, Debug)]
struct Decoded {
    size: (usize, usize),
    values: Vec<u16>, // [height, 3, width]
}

impl Decoded {
    /// What the steps cover: far more than decoders overshoot.
    const RANGE: (f32, f32) = (-2.0, 3.0);

    fn new(size: (usize, usize)) -> Self {
        Self { size, values: Vec::with_capacity(3 * size.0 * size.1) }
    }

    /// Takes the next rows.
    fn push(&mut self, rows: &Picture) {
        let (low, high) = Self::RANGE;
        let code = |v: &f32| ((v - low) / (high - low) * f32::from(u16::MAX)).round() as u16;
        for y in 0..rows.height {
            for channel in 0..3 {
                let row = &rows.plane(channel)[y * rows.width..][..rows.width];
                self.values.extend(row.iter().map(code));
            }
        }
    }

    fn rows(&self, y: usize, rows: usize) -> Picture {
        let ((width, _), (low, high)) = (self.size, Self::RANGE);
        let value = |v: &u16| f32::from(*v) / f32::from(u16::MAX) * (high - low) + low;
        let mut values = Vec::with_capacity(3 * width * rows);
        for channel in 0..3 {
            for y in y..y + rows {
                let row = &self.values[(3 * y + channel) * width..][..width];
                values.extend(row.iter().map(value));
            }
        }
        Picture::new(width, rows, values)
    }
}

/// What upscaling a picture takes, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Grows with the picture: the input, its latents while they are sampled, and the decoded
    /// picture in 16 bits a value.
    pub picture: usize,
    /// Does not: the model's weights and, roughly, the networks' values for a batch of tiles.
    pub networks: usize,
}

/// What upscaling a picture of `width × height` pixels would take.
pub fn memory_plan(generator: &Generator, width: usize, height: usize, alpha: bool) -> MemoryPlan {
    let (config, model) = (generator.config(), generator.model());
    let enlarged = at_least((width, height), config.scale, config.min_side);
    let side = |n: usize| (n * config.scale).next_multiple_of(generator.multiple());
    let (out_width, out_height) = (side(enlarged.0), side(enlarged.1));
    let factor = model.vae.config.factor();
    let channels = model.unet.config.in_channels;
    let latents = channels * (out_width / factor) * (out_height / factor);
    let input = width * height * if alpha { 7 } else { 3 } + 3 * enlarged.0 * enlarged.1;
    let floats = size_of::<f32>();
    let tile = |side: usize| side.min(config.tile);
    let pixels = tile(out_width) * tile(out_height);
    // The widest values of a level, a few of them at a time; the autoencoder decodes one tile.
    let decoder = pixels * model.vae.config.block_out_channels.first().map_or(0, |c| *c);
    let tiles = out_width.div_ceil(config.tile) * out_height.div_ceil(config.tile);
    let denoiser = pixels / (factor * factor)
        * config.batch.min(tiles)
        * model.unet.config.block_out_channels.iter().sum::<usize>();
    let weights = model.unet.num_params() + model.controlnet.num_params() + model.vae.num_params();
    MemoryPlan {
        // First the latents are sampled, then they are decoded.
        picture: floats * input
            + (floats * HELD_LATENTS * latents)
                .max(floats * 2 * latents + size_of::<u16>() * 3 * out_width * out_height),
        networks: floats * (weights + HELD_VALUES * decoder.max(denoiser)),
    }
}

/// Pictures of latents that a sampling step holds: noisy, predicted, noise and their sums.
const HELD_LATENTS: usize = 8;

/// Values of a network's widest level that are held at a time, with scratch memory.
const HELD_VALUES: usize = 4;
