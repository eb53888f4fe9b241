use std::io::{self, Write};
use std::path::Path;

use dp2o_schema::atomic;

use crate::picture::byte;
use crate::{Picture, Result};

/// An 8-bit PNG that is written as its rows come, so that the whole is never in memory.
pub struct PngRows<'a> {
    stream: &'a mut dyn Write,
    width: usize,
    alpha: bool,
    /// The first failure; what comes after it is dropped.
    failed: Option<io::Error>,
}

impl PngRows<'_> {
    /// The next rows, with their opacities `[rows, width]` in `[0, 1]` where the file has any.
    ///
    /// # Panics
    /// When they are not as wide as the file, or lack opacities or have them unasked.
    pub fn push(&mut self, rows: &Picture, alpha: Option<&[f32]>) {
        assert_eq!(rows.width, self.width, "width of the rows");
        assert_eq!(alpha.map(<[f32]>::len), self.alpha.then_some(rows.width * rows.height));
        if self.failed.is_some() {
            return;
        }
        let rgb = rows.to_rgb8();
        let bytes = match alpha {
            None => rgb,
            Some(alpha) => rgb
                .chunks_exact(3)
                .zip(alpha)
                .flat_map(|(p, &a)| [p[0], p[1], p[2], byte(a)])
                .collect(),
        };
        self.failed = self.stream.write_all(&bytes).err();
    }
}

/// Writes an 8-bit RGB or RGBA PNG of `(width, height)` pixels by rows, whole or not at all; parent
/// folders are made.
///
/// # Errors
/// Names the file when it cannot be written, or `fill` gave too few rows.
pub fn save_png_rows(
    path: &Path,
    (width, height): (usize, usize),
    alpha: bool,
    fill: impl FnOnce(&mut PngRows<'_>),
) -> Result<()> {
    atomic::write_with(path, |out| {
        let mut encoder = png::Encoder::new(out, width as u32, height as u32);
        encoder.set_color(if alpha { png::ColorType::Rgba } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        let mut stream = writer.stream_writer()?;
        let mut rows = PngRows { stream: &mut stream, width, alpha, failed: None };
        fill(&mut rows);
        match rows.failed {
            Some(failed) => Err(failed),
            None => Ok(stream.finish()?),
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_make_the_file_that_the_whole_makes() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3 * 35).map(|i| (i * 7 % 256) as u8).collect();
        let (picture, alpha) =
            (Picture::from_rgb8(5, 7, &bytes), [0.0, 0.2, 0.4, 0.6, 1.0].repeat(7));
        for alpha in [None, Some(alpha.as_slice())] {
            let (whole, rows) = (dir.path().join("whole.png"), dir.path().join("rows.png"));
            picture.save_png_with_alpha(&whole, alpha).unwrap();
            save_png_rows(&rows, (5, 7), alpha.is_some(), |rows| {
                for (y, height) in [(0, 3), (3, 1), (4, 3)] {
                    let part = alpha.map(|alpha| &alpha[5 * y..5 * (y + height)]);
                    rows.push(&picture.crop(0, y, 5, height), part);
                }
            })
            .unwrap();
            let (whole, rows) = (Picture::open(&whole).unwrap(), Picture::open(&rows).unwrap());
            assert_eq!((whole.picture, whole.alpha), (rows.picture, rows.alpha));
        }
    }

    #[test]
    fn too_few_rows_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let saved = save_png_rows(&path, (4, 9), false, |rows| {
            rows.push(&Picture::from_rgb8(4, 2, &[9; 24]), None);
        });
        assert!(saved.unwrap_err().to_string().contains("a.png"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
