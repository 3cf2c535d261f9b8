//! Noise on pixels and inside units, against what its level says.

use cords::device::Phi;
use cords::net::{CordsNet, Euler, Input, NeuralNoise};
use cords::noise::*;

use super::nets::{architecture, fill};

pub(crate) fn noise(timing: NoisePresentation, level: f64, dt_ms: f64) -> PixelNoise {
    PixelNoise {
        seed: 3,
        trial: 0,
        pixels: Pixels::Gaussian,
        timing,
        level,
        dt_ms,
    }
}

const SIDE: usize = 24;

/// A frame of a plane of half white.
fn frame(noise: &PixelNoise, image: u64, step: u32) -> Vec<f32> {
    shown(noise, 0.5, image, step)
}

/// A frame of a plane of one value.
fn shown(noise: &PixelNoise, value: f32, image: u64, step: u32) -> Vec<f32> {
    let mut out = vec![0.0; SIDE * SIDE];
    FrameSequence::new(*noise, SIDE, image).frame(&[value; SIDE * SIDE], step, &mut out);
    out
}

fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance)
}

#[test]
fn levels_scale_the_same_draw() {
    let draw = |level| frame(&noise(NoisePresentation::Dynamic, level, 2.0), 7, 3);
    let (weak, strong) = (draw(0.1), draw(0.4));
    for (weak, strong) in weak.iter().zip(&strong) {
        // Values up to 3 in f32 after one product and one sum.
        assert!((4.0 * (weak - 0.5) - (strong - 0.5)).abs() < 2e-6);
    }
    assert_eq!(draw(0.0), vec![0.5; SIDE * SIDE]);
    // 576 values of standard deviation 0.1: standard error of the estimate 0.003; bound 5 of them.
    assert!((moments(&weak).1.sqrt() - 0.1).abs() < 0.015);
}

#[test]
fn a_finer_step_has_stronger_frames_of_the_same_experiment() {
    assert_eq!(noise(NoisePresentation::Dynamic, 0.2, 2.0).frame_level(), 0.2);
    assert!((noise(NoisePresentation::Dynamic, 0.2, 0.5).frame_level() - 0.4).abs() < 1e-15);
    assert_eq!(noise(NoisePresentation::Static, 0.2, 0.5).frame_level(), 0.2);
    // Impulses last 2 ms instead.
    let impulse = |dt_ms| PixelNoise {
        pixels: Pixels::Impulse,
        ..noise(NoisePresentation::Dynamic, 0.2, dt_ms)
    };
    let at = |dt_ms, step| frame(&impulse(dt_ms), 0, step);
    assert_eq!(at(1.0, 0), at(1.0, 1));
    assert_ne!(at(1.0, 1), at(1.0, 2));
    for step in 0..50 {
        assert_eq!(at(0.4, 5 * step), at(2.0, step));
        assert_eq!(at(0.4, 5 * step + 4), at(2.0, step));
    }
}

#[test]
fn draws_depend_on_seed_image_trial_and_step_alone() {
    let dynamic = noise(NoisePresentation::Dynamic, 0.3, 2.0);
    let base = frame(&dynamic, 1, 1);
    assert_eq!(base, frame(&dynamic, 1, 1));
    assert_ne!(base, frame(&dynamic, 2, 1));
    assert_ne!(base, frame(&dynamic, 1, 2));
    assert_ne!(base, frame(&PixelNoise { seed: 4, ..dynamic }, 1, 1));
    assert_ne!(base, frame(&PixelNoise { trial: 1, ..dynamic }, 1, 1));
    let held = noise(NoisePresentation::Static, 0.3, 2.0);
    assert_eq!(frame(&held, 1, 0), frame(&held, 1, 9));
    assert_eq!(frame(&held, 1, 0), frame(&dynamic, 1, 0));
}

/// Mean and variance of many draws at one value, against the distribution's own. Bounds are five standard errors: of
/// the mean sqrt(v/n); of the variance at most sqrt(m4/n), with the fourth moment m4 of the distribution.
#[test]
fn every_kind_has_the_moments_that_its_level_says() {
    let n = 40.0 * (SIDE * SIDE) as f64;
    let check = |pixels: Pixels, level: f64, value: f32, mean: f64, variance: f64, fourth: f64| {
        let noise = PixelNoise {
            pixels,
            ..noise(NoisePresentation::Dynamic, level, 2.0)
        };
        let all: Vec<f32> = (0..40).flat_map(|image| shown(&noise, value, image, 0)).collect();
        let found = moments(&all);
        assert!(
            (found.0 - mean).abs() <= 5.0 * (variance / n).sqrt(),
            "{pixels:?} at {value}: mean {} against {mean}",
            found.0
        );
        assert!(
            (found.1 - variance).abs() <= 5.0 * (fourth / n).sqrt(),
            "{pixels:?} at {value}: variance {} against {variance}",
            found.1
        );
    };
    for value in [0.25f32, 1.0] {
        let x = f64::from(value);
        for level in [0.1f64, 0.6] {
            // Poisson counts of mean c have variance c and fourth moment 3 c^2 + c.
            let photons = 1.0 / (level * level);
            let c = x * photons;
            check(
                Pixels::Shot,
                level,
                value,
                x,
                c / photons.powi(2),
                (3.0 * c * c + c) / photons.powi(4),
            );
            let speckle = (level * x).powi(2);
            check(Pixels::Speckle, level, value, x, speckle, 3.0 * speckle.powi(2));
            let half = level / 2.0;
            let mean = (1.0 - level) * x + half;
            let moment = |p: i32| {
                let at = |value: f64| (value - mean).powi(p);
                (1.0 - level) * at(x) + half * at(1.0) + half * at(0.0)
            };
            check(Pixels::Impulse, level, value, mean, moment(2), moment(4));
            check(Pixels::Gaussian, level, value, x, level.powi(2), 3.0 * level.powi(4));
        }
    }
    // Black has no photons and nothing to be proportional to.
    for pixels in [Pixels::Shot, Pixels::Speckle] {
        let noise = PixelNoise {
            pixels,
            ..noise(NoisePresentation::Static, 0.5, 2.0)
        };
        assert_eq!(shown(&noise, 0.0, 0, 0), [0.0; SIDE * SIDE]);
    }
}

#[test]
fn correlated_noise_has_unit_variance_everywhere_and_the_promised_correlation() {
    let length = 1.5;
    let noise = PixelNoise {
        pixels: Pixels::Correlated { length },
        ..noise(NoisePresentation::Static, 1.0, 2.0)
    };
    const IMAGES: u64 = 600;
    let draws: Vec<Vec<f32>> = (0..IMAGES).map(|image| shown(&noise, 0.0, image, 0)).collect();
    let product = |a: usize, b: usize| draws.iter().map(|x| f64::from(x[a] * x[b])).sum::<f64>() / IMAGES as f64;
    // 600 independent draws: the standard error of a variance of 1 is sqrt(2/600) = 0.058, of a covariance less; bound
    // 5 of them.
    for place in [0, SIDE - 1, SIDE * SIDE / 2 + 5, SIDE * SIDE - 1] {
        assert!(
            (product(place, place) - 1.0).abs() < 0.29,
            "{place}: {}",
            product(place, place)
        );
    }
    // Averaged over the plane, the correlation is known much better: 576/(2 pi 1.5^2 2) independent pairs an image at
    // least.
    for distance in [1usize, 2, 4, 8] {
        let pairs = (0..SIDE).flat_map(|y| (0..SIDE - distance).map(move |x| (y * SIDE + x, y * SIDE + x + distance)));
        let (sum, n) = pairs.fold((0.0, 0.0), |(sum, n), (a, b)| (sum + product(a, b), n + 1.0));
        let expected = (-(distance as f64).powi(2) / (4.0 * length * length)).exp();
        assert!(
            (sum / n - expected).abs() < 0.05,
            "{distance}: {} against {expected}",
            sum / n
        );
    }
}

#[test]
fn an_ornstein_uhlenbeck_process_is_stationary_and_forgets() {
    let noise = noise(NoisePresentation::OrnsteinUhlenbeck { tau_ms: 10.0 }, 0.3, 2.0);
    let frames: Vec<Vec<Vec<f32>>> = (0..20)
        .map(|image| {
            let mut sequence = FrameSequence::new(noise, SIDE, image);
            let mut out = vec![0.0; SIDE * SIDE];
            let mut frame = |step| {
                sequence.frame(&[0.5; SIDE * SIDE], step, &mut out);
                out.iter().map(|v| v - 0.5).collect()
            };
            (0..21).map(&mut frame).collect()
        })
        .collect();
    // 11,520 pairs of values: a standard error of 0.0093 of a correlation, bound 5 of them.
    for lag in [0usize, 1, 5, 20] {
        let products = frames
            .iter()
            .flat_map(|f| f[20 - lag].iter().zip(&f[20]).map(|(a, b)| f64::from(a * b)));
        let found = products.sum::<f64>() / (20 * SIDE * SIDE) as f64 / 0.09;
        let expected = (-(lag as f64) * 2.0 / 10.0).exp();
        let bound = if lag == 0 {
            5.0 * (2.0f64 / 11_520.0).sqrt()
        } else {
            0.047
        };
        assert!((found - expected).abs() < bound, "{lag}: {found} against {expected}");
    }
}

/// Mean over time and pixels of what a rectifier passes of a pixel of value 1 under noise.
fn passed(timing: NoisePresentation, level: f64, dt_ms: f64) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0);
    for image in 0..8 {
        let mut sequence = FrameSequence::new(noise(timing, level, dt_ms), SIDE, image);
        let mut out = vec![0.0; SIDE * SIDE];
        for step in 0..(200.0 / dt_ms) as u32 {
            sequence.frame(&[1.0; SIDE * SIDE], step, &mut out);
            sum += out.iter().map(|v| f64::from(v.max(0.0))).sum::<f64>();
            n += out.len() as f64;
        }
    }
    sum / n
}

/// "A finer step is the same experiment" for noise that is drawn anew at every step: where that holds, and where it
/// ends. A rectifier whose input is 1 above its threshold passes E max(0, 1 + s z) of noise whose frames deviate by s =
/// level sqrt(2 ms / dt).
#[test]
fn fresh_noise_of_a_finer_step_is_the_same_experiment_until_it_reaches_the_rectifier() {
    let ratio = |timing, level| passed(timing, level, 1.0) / passed(timing, level, 5.0);
    let edge = (1..40)
        .map(|twentieth| f64::from(twentieth) / 20.0)
        .find(|level| ratio(NoisePresentation::Dynamic, *level) > 1.05)
        .expect("an edge below level 2");
    // In the finer step's frames it is about as far as the threshold is away.
    let reach = edge * 2.0f64.sqrt();
    assert!((0.7..1.1).contains(&reach), "{reach}");
    assert!((ratio(NoisePresentation::Dynamic, 0.2) - 1.0).abs() < 0.005);
    // Phi(1/s) + s phi(1/s) at s = 2 sqrt 2 and 2 sqrt 0.4: 1.70 and 1.15.
    let far = ratio(NoisePresentation::Dynamic, 2.0);
    assert!((far - 1.70 / 1.15).abs() < 0.02, "{far}");
    // 4,608 pixels over ten correlation times: standard errors below 1 %.
    let process = NoisePresentation::OrnsteinUhlenbeck { tau_ms: 20.0 };
    for level in [0.2, 1.0, 2.0] {
        let ratio = ratio(process, level);
        assert!((ratio - 1.0).abs() < 0.04, "{level}: {ratio}");
    }
}

#[test]
fn speckle_goes_on_in_time_in_proportion_to_the_pixel() {
    let noise = PixelNoise {
        pixels: Pixels::Speckle,
        ..noise(NoisePresentation::OrnsteinUhlenbeck { tau_ms: 10.0 }, 0.4, 2.0)
    };
    let last = |value: f32| -> Vec<f32> {
        let mut sequence = FrameSequence::new(noise, SIDE, 0);
        let mut out = vec![0.0; SIDE * SIDE];
        (0..6).for_each(|step| sequence.frame(&[value; SIDE * SIDE], step, &mut out));
        out.iter().map(|v| v - value).collect()
    };
    let (half, whole) = (last(0.5), last(1.0));
    for (half, whole) in half.iter().zip(&whole) {
        assert!((2.0 * half - whole).abs() < 1e-6);
    }
    // 576 values: a standard error of 3 % of their deviation, bound 5 of them.
    assert!((moments(&whole).1.sqrt() / 0.4 - 1.0).abs() < 0.15);
    assert!(last(0.0).iter().all(|v| *v == 0.0));
}

#[test]
fn published_severities() {
    assert_eq!(
        Severities::ImagenetC.levels(Pixels::Gaussian),
        Some([0.08, 0.12, 0.18, 0.26, 0.38])
    );
    let shot = Severities::ImagenetC.levels(Pixels::Shot).expect("published");
    assert!((1.0 / shot[4].powi(2) - 3.0).abs() < 1e-12);
    assert_eq!(
        Severities::CifarC.levels(Pixels::Impulse),
        Some([0.01, 0.02, 0.03, 0.05, 0.07])
    );
    assert_eq!(Severities::CifarC.levels(Pixels::Correlated { length: 1.0 }), None);
}

/// A network without weights whose phi is the identity is so many leaky units, which are driven by noise alone.
#[test]
fn neural_noise_gives_a_linear_unit_the_variance_that_is_documented() {
    let architecture = architecture();
    let mut parameters = fill(architecture.cordsnet_shapes());
    let names: Vec<String> = parameters.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names
        .iter()
        .filter(|n| n.ends_with("original0") || n.starts_with("conv_bias"))
    {
        parameters.get_mut(name).expect("there").data.fill(0.0);
    }
    let euler = Euler::published();
    let net = CordsNet::new(&architecture, &parameters, &euler, Phi::Identity).expect("valid");
    let batch = 20;
    let noise = NeuralNoise {
        seed: 1,
        trial: 0,
        images: (0..batch as u64).collect(),
        std: 0.3,
        areas: vec![0, 1],
    };
    let mut state = net.zeros(batch);
    net.run_with_noise(&mut state, Input::Blank, Some(&noise), 60, &mut |_, _| {});
    let alpha = euler.alpha(0);
    let expected = 0.09 * 2.0 / (2.0 - alpha);
    let (mean, variance) = moments(&state.areas.concat());
    let n = state.areas.concat().len() as f64;
    assert!(mean.abs() < 5.0 * (expected / n).sqrt(), "{mean}");
    assert!(
        (variance / expected - 1.0).abs() < 5.0 * (2.0 / n).sqrt(),
        "{variance} against {expected}"
    );

    // In one area alone, and the same for an image beside others.
    let one = NeuralNoise {
        images: vec![7],
        areas: vec![0],
        ..noise
    };
    let mut alone = net.zeros(1);
    net.run_with_noise(&mut alone, Input::Blank, Some(&one), 60, &mut |_, _| {});
    let units = alone.areas[0].len();
    assert_eq!(alone.areas[0], state.areas[0][7 * units..][..units]);
    assert!(alone.areas[1].iter().all(|r| *r == 0.0));
}

/// dr_t = (1 - alpha) dr_t-1 + alpha xi_t from frames that are fresh at every step: alpha/(2 - alpha) = 1/9 of their
/// variance is left in a leaky unit, within 2 %.
#[test]
fn a_leaky_unit_leaves_a_ninth_of_white_noise() {
    let alpha = Euler::published().alpha(0);
    let noise = noise(NoisePresentation::Dynamic, 0.2, 2.0);
    let mut r = vec![0.0f64; SIDE * SIDE];
    let (mut sum, mut n) = (0.0, 0.0);
    for step in 0..500 {
        for (r, frame) in r.iter_mut().zip(frame(&noise, 0, step)) {
            *r = (1.0 - alpha) * *r + alpha * (f64::from(frame) - 0.5);
        }
        if step >= 50 {
            sum += r.iter().map(|r| r * r).sum::<f64>();
            n += r.len() as f64;
        }
    }
    let left = sum / n / 0.04;
    assert!((left * 9.0 - 1.0).abs() < 0.02, "{left}");
}
