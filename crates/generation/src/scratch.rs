//! Planes too large for memory, in files that vanish with the process.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::Result;

/// A plane of several channels, `[height, channels, width]`, on disk: written from top to bottom
/// and read by rows. The file has no name, so that nothing is left of it after a kill.
#[derive(Debug)]
pub(crate) struct Rows {
    folder: PathBuf,
    file: File,
    channels: usize,
    width: usize,
}

impl Rows {
    /// An empty plane in a file on the disk of `folder`.
    pub fn new(folder: &Path, channels: usize, width: usize) -> Result<Self> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|e| dp2o_schema::Error::io("make a scratch file in", folder, e))?;
        Ok(Self { folder: folder.into(), file, channels, width })
    }

    /// Appends rows, `[channels, rows, width]`.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        let rows = values.len() / (self.channels * self.width);
        let mut bytes = Vec::with_capacity(size_of_val(values));
        for y in 0..rows {
            for channel in 0..self.channels {
                let row = &values[(channel * rows + y) * self.width..][..self.width];
                bytes.extend(row.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(&bytes));
        Ok(written
            .map_err(|e| dp2o_schema::Error::io("write a scratch file in", &self.folder, e))?)
    }

    /// `rows` rows from row `y` on, `[channels, rows, width]`.
    pub fn read(&self, y: usize, rows: usize) -> Result<Vec<f32>> {
        let row = self.channels * self.width;
        let mut bytes = vec![0; size_of::<f32>() * rows * row];
        self.read_at(&mut bytes, (size_of::<f32>() * y * row) as u64)
            .map_err(|e| dp2o_schema::Error::io("read a scratch file in", &self.folder, e))?;
        let stored = bytes.as_chunks::<4>().0;
        let mut values = Vec::with_capacity(rows * row);
        for channel in 0..self.channels {
            for y in 0..rows {
                let row = &stored[(y * self.channels + channel) * self.width..][..self.width];
                values.extend(row.iter().map(|v| f32::from_le_bytes(*v)));
            }
        }
        Ok(values)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_come_back_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (channels, width, height) = (2, 3, 5);
        let value = |c: usize, y: usize, x: usize| (100 * c + 10 * y + x) as f32;
        let part = |from: usize, rows: usize| -> Vec<f32> {
            let places = (0..channels).flat_map(|c| (from..from + rows).map(move |y| (c, y)));
            places.flat_map(|(c, y)| (0..width).map(move |x| value(c, y, x))).collect()
        };
        let mut plane = Rows::new(folder.path(), channels, width).unwrap();
        plane.push(&part(0, 2)).unwrap();
        plane.push(&part(2, 3)).unwrap();
        for (y, rows) in [(0, height), (1, 2), (4, 1), (2, 0)] {
            assert_eq!(plane.read(y, rows).unwrap(), part(y, rows));
        }
        assert!(plane.read(4, 2).unwrap_err().to_string().contains("scratch file"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
