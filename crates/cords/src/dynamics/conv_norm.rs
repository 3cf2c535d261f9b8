//! A bound of a convolution's norm that holds for certain, and what follows from it.
//!
//! A k x k convolution with p = (k - 1)/2 zeros around n x n maps is a block of the circular one on (n + p) x (n + p)
//! maps, whose singular values are those of its transfer function at all frequencies (Sedghi, Gupta and Long 2019). So
//! the largest of these bounds the norm. (Its eigenvalues bound nothing: those of a shift are 0 with zeros around, and
//! of modulus 1 in a circle.)

use faer::Mat;
use num_complex::Complex64;
use rayon::prelude::*;

use crate::net::{CellKind, CordsNet};

/// Largest singular value of the circular convolution on maps larger than `side` by the padding: not less than the norm
/// of the convolution with zero padding. `weight` is `[channels, channels, kernel, kernel]`, the kernel's side odd; up
/// to rounding. None where a weight is not finite.
pub fn norm_bound(weight: &[f64], channels: usize, side: usize) -> Option<f64> {
    let places = weight.len() / (channels * channels);
    let kernel = places.isqrt();
    let period = side + kernel / 2;
    // Frequencies (u, v) and (-u, -v) have conjugate transfer functions.
    let half = (0..period).flat_map(|u| (0..=period / 2).map(move |v| (u, v)));
    let frequencies: Vec<(usize, usize)> = half.collect();
    let largest: Vec<Option<f64>> = frequencies
        .par_iter()
        .with_max_len(1)
        .map(|(u, v)| {
            let phase = |k: usize, frequency: usize| -std::f64::consts::TAU * (k * frequency) as f64 / period as f64;
            let tap = |ky: usize, kx: usize| Complex64::from_polar(1.0, phase(ky, *u) + phase(kx, *v));
            let taps: Vec<Complex64> = (0..places).map(|k| tap(k / kernel, k % kernel)).collect();
            let transfer = Mat::<Complex64>::from_fn(channels, channels, |output, input| {
                let weights = &weight[(output * channels + input) * places..][..places];
                taps.iter().zip(weights).map(|(tap, weight)| tap * *weight).sum()
            });
            let values = transfer.singular_values().ok()?;
            values.first().copied().filter(|value| value.is_finite())
        })
        .collect();
    largest
        .into_iter()
        .try_fold(0.0, |largest: f64, value| Some(largest.max(value?)))
}

/// [`norm_bound`] of an area's recurrent convolution. Below 1, and as phi does not stretch, every drive has one steady
/// state, which attracts all activity. None where a weight is not finite, where there is no such convolution, and where
/// it is not all that brings activity back: in areas that drive each other or themselves otherwise, and in units that
/// are not leaky ones.
pub fn recurrent_norm_bound(net: &CordsNet<f64>, area: usize) -> Option<f64> {
    let graph = net.architecture();
    let mut components = graph.components().iter();
    let is_coupled = components.any(|areas| areas.contains(&area) && net.is_coupled(areas));
    if is_coupled || graph.area(area).cell != CellKind::Leaky {
        return None;
    }
    let [channels, side, _] = net.area_shape(area);
    let part = |name: String| net.parameters().get(&name).map(|tensor| tensor.data.as_slice());
    let [gains, directions] = graph.convs()[graph.recurrent(area)?].parameter_names().map(part);
    let (gains, directions) = (gains?, directions?);
    let row = directions.len() / channels;
    let weight = directions.chunks_exact(row).zip(gains).flat_map(|(direction, gain)| {
        let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
        direction.iter().map(move |v| gain * v / length)
    });
    norm_bound(&weight.collect::<Vec<f64>>(), channels, side)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that only scales, and one that only shifts.
    #[test]
    fn known_norms() {
        let mut scaling = vec![0.0; 9];
        scaling[4] = -3.0;
        assert!((norm_bound(&scaling, 1, 7).expect("finite") - 3.0).abs() < 1e-12);
        let mut shift = vec![0.0; 9];
        shift[5] = 1.0;
        assert!((norm_bound(&shift, 1, 7).expect("finite") - 1.0).abs() < 1e-12);
        // The mean over a window of 3 x 3, which passes constants as they are.
        assert!((norm_bound(&[1.0 / 9.0; 9], 1, 7).expect("finite") - 1.0).abs() < 1e-12);
        assert_eq!(norm_bound(&[f64::NAN; 9], 1, 3), None);
        // Other kernels.
        let mut wide = vec![0.0; 25];
        wide[12] = -3.0;
        assert!((norm_bound(&wide, 1, 7).expect("finite") - 3.0).abs() < 1e-12);
        assert!((norm_bound(&[-2.0], 1, 7).expect("finite") - 2.0).abs() < 1e-12);
    }
}
