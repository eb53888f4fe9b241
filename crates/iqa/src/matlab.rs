//! MATLAB's `imresize` to any size, as the reference imitates it.

use crate::filter::mirror;
use crate::plane::Plane;

/// The plane at `width × height` pixels: bicubic with a = −½, as wide as the reduction, mirrored at
/// the edges. Rows are made first. In single precision, as the reference computes it whatever its
/// input; an axis that keeps its size is left as it is.
///
/// # Panics
/// When a side has fewer than 3 pixels.
pub(crate) fn resize(plane: &Plane, width: usize, height: usize) -> Plane {
    let source: Vec<f32> = plane.values.iter().map(|v| *v as f32).collect();
    let mut tall = vec![0.0_f32; plane.width * height];
    let rows = taps(plane.height, height);
    for (out, taps) in tall.chunks_exact_mut(plane.width).zip(&rows) {
        for &(i, weight) in taps {
            let row = &source[i * plane.width..][..plane.width];
            out.iter_mut().zip(row).for_each(|(o, v)| *o += v * weight);
        }
    }
    let columns = taps(plane.width, width);
    let across = |row: &[f32]| {
        let one = |taps: &Taps| taps.iter().map(|&(i, weight)| row[i] * weight).sum::<f32>();
        columns.iter().map(|taps| f64::from(one(taps))).collect::<Vec<_>>()
    };
    let values = tall.chunks_exact(plane.width).flat_map(across).collect();
    Plane { width, height, values }
}

/// Source indices and weights of one output position.
type Taps = Vec<(usize, f32)>;

fn taps(from: usize, to: usize) -> Vec<Taps> {
    if from == to {
        return (0..to).map(|i| vec![(i, 1.0)]).collect();
    }
    let scale = to as f64 / from as f64;
    let narrow = scale.min(1.0);
    let count = (4.0 / narrow).ceil() as isize + 2;
    let one = |i: usize| {
        let position = (i as f32 + 0.5) / scale as f32 - 0.5;
        let first = position.floor() - (count / 2) as f32 + 1.0;
        let offset = position - first;
        let weight = |k: isize| cubic((offset - k as f32) * narrow as f32);
        let sum: f32 = (0..count).map(weight).sum();
        (0..count).map(|k| (mirror(first as isize + k, from), weight(k) / sum)).collect()
    };
    (0..to).map(one).collect()
}

/// The cubic convolution kernel of Keys (1981) with a = −½.
fn cubic(x: f32) -> f32 {
    let x = x.abs();
    if x <= 1.0 {
        1.5 * (x * x * x) - 2.5 * (x * x) + 1.0
    } else if x <= 2.0 {
        -0.5 * (x * x * x) + 2.5 * (x * x) - 4.0 * x + 2.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::half;

    #[test]
    fn half_the_size_is_what_the_fixed_taps_give() {
        let values = (0..48 * 30).map(|i| f64::from(i * i % 251)).collect();
        let plane = Plane { width: 48, height: 30, values };
        let (any, fixed) = (resize(&plane, 24, 15), half(&plane));
        let worst =
            any.values.iter().zip(&fixed.values).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert!(worst < 1e-4, "{worst}");
    }

    #[test]
    fn constants_and_sizes_are_kept() {
        let plane = Plane { width: 3, height: 5, values: vec![80.0; 15] };
        assert_eq!(resize(&plane, 3, 5), plane);
        let large = resize(&plane, 11, 7);
        assert_eq!((large.width, large.height), (11, 7));
        assert!(large.values.iter().all(|v| (v - 80.0).abs() < 1e-4));
    }
}
