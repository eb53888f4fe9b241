//! MATLAB's MAT files, version 5: the numeric matrices in them.
//!
//! Source: MathWorks, "MAT-File Format" (level 5).

use std::collections::BTreeMap;
use std::io::Read;

use super::Array;

const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;
/// Class of a cell array.
const CELL: u8 = 1;
/// No model of a metric is larger, unpacked.
const LIMIT: u64 = 64 << 20;

/// All real numeric matrices of a file by name, rows last as everywhere here (the file stores
/// columns); those in a cell array as `NAME{1}`, `NAME{2}` and so on. The text of an error goes into [`crate::MetricError::Weights`].
pub(crate) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Array>, String> {
    match bytes.get(124..128) {
        Some([_, _, b'I', b'M']) => {}
        Some([_, _, b'M', b'I']) => return Err("a big-endian MAT file; save it again".into()),
        _ => return Err("not a MAT file of version 5; save it with -v6 or -v7".into()),
    }
    let mut out = BTreeMap::new();
    let mut rest = &bytes[128..];
    while !rest.is_empty() {
        let (kind, data) = element(&mut rest)?;
        match kind {
            MATRIX => out.extend(matrices(data).unwrap_or_default()),
            COMPRESSED => {
                let mut plain = Vec::new();
                let reader = flate2::read::ZlibDecoder::new(data);
                reader.take(LIMIT).read_to_end(&mut plain).map_err(|e| e.to_string())?;
                let mut inner = plain.as_slice();
                if let (MATRIX, data) = element(&mut inner)? {
                    out.extend(matrices(data).unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

/// The next element: its type and its data. Small elements keep their data in their tag.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8]), String> {
    let cut = || "the file is cut short".to_string();
    let tag = word(rest, 0).ok_or_else(cut)?;
    if tag >> 16 != 0 {
        let data = rest.get(4..4 + (tag >> 16) as usize).ok_or_else(cut)?;
        *rest = rest.get(8..).ok_or_else(cut)?;
        return Ok((tag & 0xffff, data));
    }
    let size = word(rest, 4).ok_or_else(cut)? as usize;
    let data = rest.get(8..).and_then(|r| r.get(..size)).ok_or_else(cut)?;
    // Everything but compressed data is padded to eight bytes; the last one may lack its padding.
    let padded = if tag == COMPRESSED { size } else { size.next_multiple_of(8) };
    *rest = rest.get(8 + padded..).unwrap_or(&[]);
    Ok((tag, data))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// The matrices of numbers in an element; `None` for text, structures, and what cannot be read.
fn matrices(mut data: &[u8]) -> Option<Vec<(String, Array)>> {
    let header = Header::read(&mut data)?;
    if header.class != CELL {
        return Some(vec![(header.name.clone(), header.numbers(data)?)]);
    }
    let mut all = Vec::new();
    for cell in 1.. {
        if data.is_empty() {
            break;
        }
        let (kind, mut inner) = element(&mut data).ok()?;
        let numbers = (kind == MATRIX).then(|| Header::read(&mut inner)?.numbers(inner)).flatten();
        all.extend(numbers.map(|numbers| (format!("{}{{{cell}}}", header.name), numbers)));
    }
    Some(all)
}

struct Header {
    class: u8,
    dims: Vec<usize>,
    name: String,
}

impl Header {
    fn read(data: &mut &[u8]) -> Option<Self> {
        let (_, flags) = element(data).ok()?;
        let class = *flags.first()?;
        let (_, dims) = element(data).ok()?;
        let (dims, _) = dims.as_chunks::<4>();
        let size = |d: &[u8; 4]| usize::try_from(i32::from_le_bytes(*d)).ok();
        let dims = dims.iter().map(size).collect::<Option<_>>()?;
        let (_, name) = element(data).ok()?;
        Some(Self { class, dims, name: String::from_utf8_lossy(name).into_owned() })
    }

    fn numbers(&self, mut data: &[u8]) -> Option<Array> {
        if !(6..=13).contains(&self.class) {
            return None;
        }
        let (kind, numbers) = element(&mut data).ok()?;
        let columns = numbers_of(kind, numbers)?;
        let [rows, cols] = self.dims[..] else { return None };
        if rows.checked_mul(cols)? != columns.len() {
            return None;
        }
        let values = (0..rows * cols).map(|i| columns[i % cols * rows + i / cols]).collect();
        Some(Array { shape: self.dims.clone(), values })
    }
}

fn numbers_of(kind: u32, bytes: &[u8]) -> Option<Vec<f64>> {
    fn each<const N: usize>(bytes: &[u8], read: fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
    }
    Some(match kind {
        1 => each(bytes, |b| i8::from_le_bytes(b).into()),
        2 => each(bytes, |b| u8::from_le_bytes(b).into()),
        3 => each(bytes, |b| i16::from_le_bytes(b).into()),
        4 => each(bytes, |b| u16::from_le_bytes(b).into()),
        5 => each(bytes, |b| i32::from_le_bytes(b).into()),
        6 => each(bytes, |b| u32::from_le_bytes(b).into()),
        7 => each(bytes, |b| f32::from_le_bytes(b).into()),
        9 => each(bytes, f64::from_le_bytes),
        12 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        13 => each(bytes, |b| u64::from_le_bytes(b) as f64),
        _ => return None,
    })
}
