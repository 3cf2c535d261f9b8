//! Noise on the pixels of one image.

use rand_distr::{Distribution, Poisson};
use serde::{Deserialize, Serialize};

use crate::rng::{Purpose, Stream};

/// Step in ms at which levels of dynamic noise are stated.
pub const REFERENCE_DT_MS: f64 = 2.0;

/// A kind of noise on pixel values x in [0, 1], independent in every channel, with its level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pixels {
    /// x + level xi, xi standard normal.
    Gaussian,
    /// x + level xi with xi correlated over space: white noise filtered with a Gaussian of this standard deviation in
    /// pixels, which gives a correlation of exp(-d^2/(4 length^2)) at a distance of d pixels.
    Correlated {
        /// Standard deviation of the filter in pixels.
        length: f64,
    },
    /// Poisson(lambda x)/lambda with lambda = 1/level^2: the level is the standard deviation at x = 1.
    Shot,
    /// Values become 0 or 1, either as likely, with a probability of level.
    Impulse,
    /// x + level x xi, xi standard normal.
    Speckle,
}

/// When noise on pixels is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoisePresentation {
    /// One draw per image, held while the image is shown.
    Static,
    /// A fresh draw at every step. The level is that of a step of 2 ms: standard deviations scale with sqrt(2 ms / dt),
    /// so that as much noise is left in a leaky unit, up to 2/(2 - dt/tau), and impulses, which cannot be scaled, last
    /// 2 ms, or a step where that is longer.
    ///
    /// A finer step is the same experiment for small noise only. What stands in a frame grows as 1/sqrt(dt), and a
    /// rectifier behind it passes the more of it, as a mean that does not average out, once it reaches as far as from a
    /// unit's current to the rectifier's threshold.
    Dynamic,
    /// An Ornstein-Uhlenbeck process in time, stationary from the first frame on, of normal noise: n <- n a + sqrt(1 -
    /// a^2) xi with a = exp(-dt/tau). The level is its standard deviation. What stands in a frame does not depend on
    /// the step, so that a finer step is the same experiment at any level, as long as dt is below tau.
    OrnsteinUhlenbeck {
        /// Time constant in ms.
        tau_ms: f64,
    },
}

/// Published constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severities {
    /// ImageNet-C (Hendrycks and Dietterich 2019)
    ImagenetC,
    /// CIFAR-10-C
    CifarC,
}

impl Severities {
    /// Levels of a kind of noise, severities 1 to 5: standard deviations of Gaussian noise, 1/sqrt(photons) of shot
    /// noise, the fraction of impulses, standard deviations of speckle. None where the set does not have it.
    pub fn levels(self, noise: Pixels) -> Option<[f64; 5]> {
        let photons = |counts: [f64; 5]| counts.map(|photons| 1.0 / photons.sqrt());
        match (self, noise) {
            (Self::ImagenetC, Pixels::Gaussian) => Some([0.08, 0.12, 0.18, 0.26, 0.38]),
            (Self::ImagenetC, Pixels::Shot) => Some(photons([60.0, 25.0, 12.0, 5.0, 3.0])),
            (Self::ImagenetC, Pixels::Impulse) => Some([0.03, 0.06, 0.09, 0.17, 0.27]),
            (Self::ImagenetC, Pixels::Speckle) => Some([0.15, 0.2, 0.35, 0.45, 0.6]),
            (Self::CifarC, Pixels::Gaussian) => Some([0.04, 0.06, 0.08, 0.09, 0.10]),
            (Self::CifarC, Pixels::Shot) => Some(photons([500.0, 250.0, 100.0, 75.0, 50.0])),
            (Self::CifarC, Pixels::Impulse) => Some([0.01, 0.02, 0.03, 0.05, 0.07]),
            (Self::CifarC, Pixels::Speckle) => Some([0.06, 0.1, 0.12, 0.16, 0.2]),
            (_, Pixels::Correlated { .. }) => None,
        }
    }
}

impl Pixels {
    /// Whether it is made of normal values, which can go on in time.
    pub fn is_normal(self) -> bool {
        matches!(self, Self::Gaussian | Self::Correlated { .. } | Self::Speckle)
    }
}

/// Noise on pixels of one condition at one step size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelNoise {
    /// Seed of all draws.
    pub seed: u64,
    /// Number of the repetition.
    pub trial: u32,
    /// Kind of noise on pixel values.
    pub pixels: Pixels,
    /// When it is drawn.
    pub timing: NoisePresentation,
    /// How much, as [`Pixels`] says.
    pub level: f64,
    /// Euler step in ms.
    pub dt_ms: f64,
}

impl PixelNoise {
    /// The level in one frame.
    pub fn frame_level(&self) -> f64 {
        match (self.timing, self.pixels) {
            (NoisePresentation::Static | NoisePresentation::OrnsteinUhlenbeck { .. }, _) | (_, Pixels::Impulse) => {
                self.level
            }
            (NoisePresentation::Dynamic, _) => self.level * (REFERENCE_DT_MS / self.dt_ms).sqrt(),
        }
    }

    /// Whether every step of a presentation shows the same frame.
    pub fn is_held(&self) -> bool {
        self.timing == NoisePresentation::Static || self.level == 0.0
    }

    /// Number of the draw that is shown at a step.
    fn draw_at(&self, step: u32) -> u32 {
        match (self.timing, self.pixels) {
            _ if self.is_held() => 0,
            // Whole steps that began by then; a hundredth of a step is rounding.
            (NoisePresentation::Dynamic, Pixels::Impulse) => {
                ((f64::from(step) + 0.01) * self.dt_ms / REFERENCE_DT_MS) as u32
            }
            _ => step,
        }
    }

    /// The stream that an image's noise at a step is drawn from.
    pub fn stream(&self, image: u64, step: u32) -> Stream {
        Stream::new(self.seed, Purpose::ImageNoise, image, self.trial, self.draw_at(step), 0)
    }
}

/// The frames of one image under noise.
#[derive(Clone, Debug)]
pub struct FrameSequence {
    noise: PixelNoise,
    side: usize,
    image: u64,
    /// The noise of the frame before, where it goes on.
    held: Vec<f32>,
}

impl FrameSequence {
    /// The frames of an image of this side; `image` is its index in its data set.
    pub fn new(noise: PixelNoise, side: usize, image: u64) -> Self {
        Self {
            noise,
            side,
            image,
            held: Vec::new(),
        }
    }

    /// Writes the frame shown at `step`: `clean`, `[channels, side, side]` in [0, 1], and noise. Static noise is the
    /// draw that dynamic noise has at step 0. Frames of an Ornstein-Uhlenbeck process must be asked for one after the
    /// other from step 0 on.
    pub fn frame(&mut self, clean: &[f32], step: u32, out: &mut [f32]) {
        let level = self.noise.frame_level();
        if level == 0.0 {
            return out.copy_from_slice(clean);
        }
        let mut stream = self.noise.stream(self.image, step);
        match self.noise.pixels {
            Pixels::Gaussian | Pixels::Correlated { .. } | Pixels::Speckle => {
                match self.noise.pixels {
                    Pixels::Correlated { length } => {
                        for plane in out.chunks_exact_mut(self.side * self.side) {
                            filtered(&mut stream, length, self.side, plane);
                        }
                    }
                    _ => stream.normal_fill(out),
                }
                if let NoisePresentation::OrnsteinUhlenbeck { tau_ms } = self.noise.timing {
                    self.go_on(tau_ms, step, out);
                }
                let proportional = self.noise.pixels == Pixels::Speckle;
                for (value, clean) in out.iter_mut().zip(clean) {
                    let size = if proportional { *clean } else { 1.0 };
                    *value = clean + level as f32 * *value * size;
                }
            }
            Pixels::Shot => {
                let photons = 1.0 / (level * level);
                for (value, clean) in out.iter_mut().zip(clean) {
                    // No photons where it is dark.
                    *value = match Poisson::new(photons * f64::from(*clean)) {
                        Ok(poisson) => (poisson.sample(&mut stream) / photons) as f32,
                        Err(_) => 0.0,
                    };
                }
            }
            Pixels::Impulse => {
                for (value, clean) in out.iter_mut().zip(clean) {
                    let drawn = stream.uniform() / level;
                    *value = if drawn >= 1.0 {
                        *clean
                    } else if drawn < 0.5 {
                        0.0
                    } else {
                        1.0
                    };
                }
            }
        }
    }

    /// The process after one more step, from fresh normal values.
    fn go_on(&mut self, tau_ms: f64, step: u32, drawn: &mut [f32]) {
        if step > 0 {
            let kept = (-self.noise.dt_ms / tau_ms).exp();
            let fresh = (1.0 - kept * kept).sqrt() as f32;
            for (drawn, held) in drawn.iter_mut().zip(&self.held) {
                *drawn = kept as f32 * held + fresh * *drawn;
            }
        }
        self.held.clear();
        self.held.extend_from_slice(drawn);
    }
}

/// One plane of white noise, filtered with a Gaussian to unit variance. White noise is drawn beyond the plane's edges
/// as far as the filter reaches, so that what is left is stationary.
fn filtered(stream: &mut Stream, length: f64, side: usize, out: &mut [f32]) {
    let reach = (4.0 * length).ceil() as usize;
    let weight = |place: usize| (-0.5 * ((place as f64 - reach as f64) / length).powi(2)).exp();
    let mut weights: Vec<f32> = (0..=2 * reach).map(|place| weight(place) as f32).collect();
    let norm = weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt() as f32;
    weights.iter_mut().for_each(|w| *w /= norm);
    let wide = side + 2 * reach;
    let mut white = vec![0.0f32; wide * wide];
    stream.normal_fill(&mut white);
    // Along rows, then along columns.
    let mut rows = vec![0.0f32; wide * side];
    for (row, white) in rows.chunks_exact_mut(side).zip(white.chunks_exact(wide)) {
        for (value, window) in row.iter_mut().zip(white.windows(weights.len())) {
            *value = window.iter().zip(&weights).map(|(x, w)| x * w).sum();
        }
    }
    for (y, out) in out.chunks_exact_mut(side).enumerate() {
        out.fill(0.0);
        for (row, weight) in rows[y * side..].chunks_exact(side).zip(&weights) {
            out.iter_mut().zip(row).for_each(|(out, row)| *out += weight * row);
        }
    }
}
