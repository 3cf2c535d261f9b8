//! Steady states and spectra of many images, image by image side by side, keeping figures and not states.

use super::operator::AreaJacobian;
use super::spectrum::{Spectrum, SpectrumOptions, area_spectrum};
use super::steady::{AreaSteadyState, SteadyOptions, SteadyState, blank, spontaneous_steady_state, steady_state};
use crate::net::CordsNet;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What is computed for every image.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FixedPointOptions {
    /// Steady states.
    pub steady: SteadyOptions,
    /// Spectra at them; none are computed where this is not given.
    pub spectrum: Option<SpectrumOptions>,
}

/// One area at the steady state of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AreaFixedPoint {
    /// The steady state in figures.
    pub steady: AreaSteadyState,
    /// Its leading modes; none where the area did not converge or none were asked for.
    pub spectrum: Option<Spectrum>,
}

/// The steady state of one image, or of no input, area by area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FixedPoint {
    /// Per area.
    pub areas: Vec<AreaFixedPoint>,
}

/// Steady state and spectra without input (`inp` not given) or for the embedding of one image, with the activity.
/// `spontaneous` is where an image starts from; it is computed where there is no image.
pub fn fixed_point(
    net: &CordsNet<f64>,
    image: Option<(&[f64], &SteadyState)>,
    options: &FixedPointOptions,
) -> (SteadyState, FixedPoint) {
    let nothing = &mut |_, _| {};
    let (steady, inp) = match image {
        None => (spontaneous_steady_state(net, &options.steady, nothing), blank(net)),
        Some((inp, spontaneous)) => (
            steady_state(net, inp, spontaneous, &options.steady, nothing),
            inp.to_vec(),
        ),
    };
    let area = |(area, figures): (usize, &AreaSteadyState)| {
        let spectrum = options.spectrum.filter(|_| figures.converged).map(|spectrum| {
            let jacobian = AreaJacobian::at(net, area, &steady.state, &inp);
            area_spectrum(&jacobian, net.euler().dt_ms, &spectrum, &mut |_, _| {})
        });
        AreaFixedPoint {
            steady: *figures,
            spectrum,
        }
    };
    let areas = steady.areas.iter().enumerate().map(area).collect();
    (steady, FixedPoint { areas })
}

/// The spontaneous fixed point, then that of every image. `image(i, out)` writes normalised image i
/// (`[in_channels, side, side]`); `progress` is called with (fixed points done, fixed points in all).
pub fn fixed_points(
    net: &CordsNet<f64>,
    images: usize,
    image: &(dyn Fn(usize, &mut [f32]) + Sync),
    options: &FixedPointOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> (FixedPoint, Vec<FixedPoint>) {
    progress(0, images + 1);
    let (spontaneous_state, spontaneous) = fixed_point(net, None, options);
    progress(1, images + 1);
    let mut found = Vec::with_capacity(images);
    let indices: Vec<usize> = (0..images).collect();
    // Rounds serve the progress report alone: images are independent.
    for round in indices.chunks(2 * rayon::current_num_threads()) {
        found.par_extend(round.par_iter().with_max_len(1).map(|&i| {
            let mut pixels = vec![0.0f32; net.architecture().image_len()];
            image(i, &mut pixels);
            let pixels: Vec<f64> = pixels.into_iter().map(f64::from).collect();
            let inp = net.embed(&pixels, 1);
            fixed_point(net, Some((&inp, &spontaneous_state)), options).1
        }));
        progress(1 + found.len(), images + 1);
    }
    (spontaneous, found)
}
