//! CutMix (Yun et al. 2019) and MixUp (Zhang et al. 2018): every image of a batch with part of the one before it, the
//! first with part of the last.

use rand_distr::{Beta, Distribution};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::rng::Stream;

/// Whether images of a batch are mixed, by what and how strongly. With both, one of them is drawn for each batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixOptions {
    /// CutMix: a rectangle of the other image, whose area is drawn from Beta(alpha, alpha).
    pub cutmix: Option<f32>,
    /// MixUp: a weighted mean of both images, whose weight is drawn from Beta(alpha, alpha).
    pub mixup: Option<f32>,
}

/// How the images of one batch are mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// A rectangle (left, top, width, height) of the other image takes the place of the own (torchvision's `CutMix`).
    Cut([usize; 4]),
    /// The weighted mean of the own image, of this weight, and the other (torchvision's `MixUp`).
    Blend(f64),
}

impl MixOptions {
    /// Whether nothing is mixed.
    pub(super) fn is_off(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn draw(&self, stream: &mut Stream, width: usize, height: usize) -> Option<Mix> {
        // It is drawn always, so that a batch has the same weight whichever of the two are given.
        let first = stream.uniform() < 0.5;
        let (cut, alpha) = match (self.cutmix, self.mixup) {
            (Some(alpha), None) => (true, alpha),
            (None, Some(alpha)) => (false, alpha),
            (Some(cutmix), Some(mixup)) => (first, if first { cutmix } else { mixup }),
            (None, None) => return None,
        };
        // Refused only where alpha is not above 0, which is not valid.
        let beta = Beta::new(f64::from(alpha), f64::from(alpha)).ok()?;
        let weight = beta.sample(stream);
        Some(if cut {
            let [x, y] = [width, height].map(|size| stream.below(size as u64) as usize);
            Mix::Cut(cut_out(weight, [x, y], width, height))
        } else {
            Mix::Blend(weight)
        })
    }
}

/// The rectangle about a pixel that leaves the image's own part the share `weight`, but for what lies outside.
fn cut_out(weight: f64, centre: [usize; 2], width: usize, height: usize) -> [usize; 4] {
    let half = 0.5 * (1.0 - weight).max(0.0).sqrt();
    let span = |centre: usize, size: usize| {
        let reach = (half * size as f64) as usize;
        let first = centre.saturating_sub(reach);
        (first, (centre + reach).min(size) - first)
    };
    let [(left, width), (top, height)] = [span(centre[0], width), span(centre[1], height)];
    [left, top, width, height]
}

impl Mix {
    /// Weight of an image's own class in what it is to be answered with, on an image of so many pixels; that of the
    /// image before has what is left of 1.
    pub fn weight(&self, width: usize, height: usize) -> f64 {
        match self {
            Self::Cut([_, _, w, h]) => 1.0 - (w * h) as f64 / (width * height) as f64,
            Self::Blend(weight) => *weight,
        }
    }

    /// Mixes the images of a batch, `[count, channels, height, width]`, in place: each with the one before it, the
    /// first with the last.
    ///
    /// # Panics
    /// If `batch` is not a whole number of images, or if the rectangle reaches out of them.
    pub fn images(&self, batch: &mut [f32], channels: usize, width: usize, height: usize) {
        let len = channels * width * height;
        assert!(
            len > 0 && batch.len().is_multiple_of(len),
            "whole images of {channels} x {height} x {width}"
        );
        let count = batch.len() / len;
        // Images of a group stand side by side; groups are mixed side by side.
        let group = count.div_ceil(rayon::current_num_threads()).max(1);
        let image_before = |first: usize| batch[(first + count - 1) % count * len..][..len].to_vec();
        // Of each group, the image before it, unmixed.
        let before: Vec<Vec<f32>> = (0..count).step_by(group).map(image_before).collect();
        let groups = batch.par_chunks_mut(group * len).zip(&before);
        groups.for_each(|(images, before)| {
            // From the last to the first, so that each finds the one before it unmixed.
            for start in (0..images.len()).step_by(len).rev() {
                let (earlier, from) = images.split_at_mut(start);
                let partner = earlier.rchunks_exact(len).next().unwrap_or(before);
                self.pair(&mut from[..len], partner, width, width * height);
            }
        });
    }

    fn pair(&self, own: &mut [f32], partner: &[f32], row: usize, plane: usize) {
        match *self {
            Self::Cut([left, top, width, height]) => {
                for start in (0..own.len()).step_by(plane) {
                    for y in top..top + height {
                        let first = start + y * row + left;
                        own[first..first + width].copy_from_slice(&partner[first..first + width]);
                    }
                }
            }
            Self::Blend(weight) => {
                let (weight, rest) = (weight as f32, (1.0 - weight) as f32);
                for (own, other) in own.iter_mut().zip(partner) {
                    *own = other * rest + *own * weight;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn batches_and_labels_are_those_of_torchvision_for_the_same_draws() {
        let (tensors, described) = reference();
        let tensors = safetensors::SafeTensors::deserialize(&tensors).expect("tensors");
        let floats = |name: &str| -> Vec<f32> {
            let view = tensors.tensor(name).expect("a tensor");
            let values = view.data().chunks_exact(4);
            values
                .map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes")))
                .collect()
        };
        let whole = |value: &serde_json::Value| value.as_u64().expect("a whole number") as usize;
        let described = &described["mixes"];
        let labels: Vec<usize> = described["labels"]
            .as_array()
            .expect("labels")
            .iter()
            .map(whole)
            .collect();
        for (number, draw) in described["draws"].as_array().expect("draws").iter().enumerate() {
            // A weight of torch's is a float32.
            let weight = f64::from(draw["weight"].as_f64().expect("a weight") as f32);
            let centre = [whole(&draw["centre"][0]), whole(&draw["centre"][1])];
            let cut = Mix::Cut(cut_out(weight, centre, 5, 6));
            for (name, mix) in [("CutMix", cut), ("MixUp", Mix::Blend(weight))] {
                let mut batch = floats("batch");
                mix.images(&mut batch, 3, 5, 6);
                assert_eq!(batch, floats(&format!("mixed.{number}.{name}")), "{name} {draw}");
                let soft = floats(&format!("soft.{number}.{name}"));
                let weight = mix.weight(5, 6) as f32;
                for (i, own) in labels.iter().enumerate() {
                    let before = labels[i.checked_sub(1).unwrap_or(labels.len() - 1)];
                    let mut expected = [0.0; 4];
                    expected[*own] += weight;
                    expected[before] += 1.0 - weight;
                    for (found, expected) in soft[i * 4..][..4].iter().zip(expected) {
                        assert!((found - expected).abs() < 1e-6, "{name} {draw}: {soft:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn weights_have_the_moments_of_their_distribution() {
        // 20,000 draws: of Beta(a, a) the mean is 1/2 and the variance v = 1/(4 (2a + 1)); bounds are 5 standard
        // errors, that of the variance from a fourth moment of at most 1/16.
        for alpha in [0.2_f32, 1.0, 4.0] {
            let options = MixOptions {
                mixup: Some(alpha),
                ..MixOptions::default()
            };
            let weights: Vec<f64> = (0..20_000)
                .map(|batch| {
                    let mut stream = Stream::new(1, Purpose::Augmentation, batch, 0, 0, 0);
                    match options.draw(&mut stream, 4, 4) {
                        Some(Mix::Blend(weight)) => weight,
                        other => panic!("{other:?}"),
                    }
                })
                .collect();
            let n = weights.len() as f64;
            let mean = weights.iter().sum::<f64>() / n;
            let variance = weights.iter().map(|weight| (weight - 0.5).powi(2)).sum::<f64>() / n;
            let expected = 1.0 / (4.0 * (2.0 * f64::from(alpha) + 1.0));
            assert!((mean - 0.5).abs() < 5.0 * (expected / n).sqrt(), "{alpha}: mean {mean}");
            let error = ((1.0 / 16.0 - expected * expected) / n).sqrt();
            assert!(
                (variance - expected).abs() < 5.0 * error,
                "{alpha}: {variance}, not {expected}"
            );
        }
    }

    #[test]
    fn both_are_drawn_equally_often_and_rectangles_cover_what_their_weight_says() {
        let options = MixOptions {
            cutmix: Some(1.0),
            mixup: Some(1.0),
        };
        // 4,000 draws at 1/2: standard deviation 32, bound 5 of them.
        let mut cuts = 0_i32;
        for batch in 0..4000 {
            let mut stream = Stream::new(3, Purpose::Augmentation, batch, 2, 0, 0);
            match options.draw(&mut stream, 31, 17) {
                Some(Mix::Cut([left, top, width, height])) => {
                    cuts += 1;
                    assert!(left + width <= 31 && top + height <= 17);
                }
                Some(Mix::Blend(weight)) => assert!((0.0..=1.0).contains(&weight)),
                None => panic!("nothing drawn"),
            }
        }
        assert!((cuts - 2000).abs() < 160, "{cuts}");
        assert_eq!(Mix::Cut([2, 3, 5, 4]).weight(10, 8), 0.75);
        // A batch of one is its own partner.
        let mut one = [0.25, 0.5];
        Mix::Blend(0.3).images(&mut one, 1, 2, 1);
        assert!((one[0] - 0.25).abs() < 1e-7 && (one[1] - 0.5).abs() < 1e-7);
        Mix::Blend(0.3).images(&mut [], 1, 2, 1);
    }
}
