//! What the first area gets: a front-end's responses to clips, or a one-hot code of the same scenes without any
//! picture.

use std::collections::BTreeMap;

use half::f16;
use rayon::prelude::*;

use super::AssocError;
use super::front_end::{FrontEnd, SIDE_BY_SIDE};
use super::stimulus::{Clip, PLACES};
use crate::rng::{Purpose, Stream};

/// Turns clips into features over time.
pub enum StimulusEncoder<'a> {
    /// Images, seen by a network.
    FrontEnd(Box<FrontEnd<'a>>),
    /// Scenes as vectors of features, without a network.
    OneHot(OneHot),
}

impl StimulusEncoder<'_> {
    /// Features of a step.
    pub fn features(&self) -> usize {
        match self {
            Self::FrontEnd(front_end) => front_end.features(),
            Self::OneHot(one_hot) => one_hot.features(),
        }
    }

    /// Features after every step of every clip, `[steps, features]`, measured from the spontaneous state.
    ///
    /// # Errors
    /// [`AssocError`] where a clip cannot be shown.
    pub fn respond(&self, clips: &[&Clip]) -> Result<Vec<Vec<f32>>, AssocError> {
        match self {
            Self::FrontEnd(front_end) => front_end.respond(clips),
            Self::OneHot(one_hot) => Ok(one_hot.respond(clips)),
        }
    }
}

/// Scenes as vectors: one feature for each class, and where place matters one for each class and place. On while a
/// scene is shown and off at once: the control without pictures.
pub struct OneHot {
    /// Classes; an image's number is its class.
    pub classes: usize,
    /// Whether features keep place.
    pub placed: bool,
    /// Euler step in ms.
    pub dt_ms: f64,
    /// Seed of the scenes' noise.
    pub seed: u64,
}

impl OneHot {
    /// Features of a step.
    pub fn features(&self) -> usize {
        self.classes * if self.placed { PLACES } else { 1 }
    }

    fn respond(&self, clips: &[&Clip]) -> Vec<Vec<f32>> {
        let features = self.features();
        let one = |clip: &Clip| {
            let mut response = Vec::with_capacity(clip.steps() * features);
            for (scene, steps) in &clip.0 {
                let mut code = vec![0.0; features];
                for item in scene.iter().flat_map(|scene| &scene.items) {
                    let place = if self.placed {
                        usize::from(item.place.unwrap_or(0))
                    } else {
                        0
                    };
                    if let (Some(feature), Some(scene)) =
                        (code.get_mut(place * self.classes + item.image as usize), scene)
                    {
                        *feature += f32::from(scene.contrast) / 1000.0;
                    }
                }
                for _ in 0..*steps {
                    let step = (response.len() / features) as u32;
                    response.extend_from_slice(&code);
                    if let Some((level, name)) = scene.as_ref().and_then(|scene| scene.noise) {
                        // As for pixels, levels are stated for a step of 2 ms.
                        let std = f32::from(level) / 1000.0 * (2.0 / self.dt_ms).sqrt() as f32;
                        let mut xi = vec![0.0; features];
                        Stream::new(self.seed, Purpose::ImageNoise, u64::from(name), 0, step, 0).normal_fill(&mut xi);
                        let from = response.len() - features;
                        response[from..].iter_mut().zip(&xi).for_each(|(r, xi)| *r += std * xi);
                    }
                }
            }
            response
        };
        clips.par_iter().map(|clip| one(clip)).collect()
    }
}

/// Responses by clip, computed once and kept in 16 bits; scaled so that each feature has a root mean square of about 1.
pub struct Responses<'a> {
    source: StimulusEncoder<'a>,
    scale: Vec<f32>,
    kept: BTreeMap<Clip, Vec<f16>>,
}

impl<'a> Responses<'a> {
    /// None yet. Scales come from the responses to `sample`, a feature's being at least a tenth of all features'
    /// together.
    ///
    /// # Errors
    /// As [`StimulusEncoder::respond`]; [`AssocError::Setting`] where nothing responds.
    pub fn new(source: StimulusEncoder<'a>, sample: &[Clip]) -> Result<Self, AssocError> {
        let features = source.features();
        let mut squares = vec![0.0f64; features];
        let mut rows = 0usize;
        let sample: Vec<&Clip> = sample.iter().collect();
        for response in source.respond(&sample)? {
            for row in response.chunks_exact(features) {
                // Silent steps after a scene would make the scale depend on how long they are.
                if row.iter().any(|r| *r != 0.0) {
                    squares
                        .iter_mut()
                        .zip(row)
                        .for_each(|(sum, r)| *sum += f64::from(*r).powi(2));
                    rows += 1;
                }
            }
        }
        let all = (squares.iter().sum::<f64>() / (features * rows).max(1) as f64).sqrt();
        if !(all.is_finite() && all > 0.0) {
            return Err(AssocError::setting("front_end", "it does not respond to the images"));
        }
        let scale = squares
            .iter()
            .map(|sum| (1.0 / (sum / rows as f64).sqrt().max(0.1 * all)) as f32)
            .collect();
        Ok(Self {
            source,
            scale,
            kept: BTreeMap::new(),
        })
    }

    /// Features of a step.
    pub fn features(&self) -> usize {
        self.scale.len()
    }

    /// The encoder that these responses are of.
    pub fn source(&self) -> &StimulusEncoder<'a> {
        &self.source
    }

    /// The front-end, where it learns.
    pub(super) fn learner(&mut self) -> Option<&mut FrontEnd<'a>> {
        match &mut self.source {
            StimulusEncoder::FrontEnd(front_end) if front_end.learns() => Some(front_end.as_mut()),
            _ => None,
        }
    }

    /// Takes one step of training the front-end against a gradient at scaled responses, `[steps, features]` for each
    /// clip, and drops all responses, which are no longer its own. Returns the norm of its parameters' gradient.
    ///
    /// # Errors
    /// As [`FrontEnd::learn`].
    pub(super) fn learn(&mut self, at: &BTreeMap<Clip, Vec<f32>>, clip: f64) -> Result<f64, AssocError> {
        let scale = &self.scale;
        let unscaled: Vec<Vec<f32>> = at
            .values()
            .map(|at| {
                at.iter()
                    .zip(scale.iter().cycle())
                    .map(|(at, scale)| at * scale)
                    .collect()
            })
            .collect();
        let clips: Vec<&Clip> = at.keys().collect();
        let at: Vec<&[f32]> = unscaled.iter().map(Vec::as_slice).collect();
        let Some(front_end) = self.learner() else {
            return Err(AssocError::setting("front_end", "it is not being trained"));
        };
        let norm = front_end.learn(&clips, &at, clip)?;
        self.kept.clear();
        Ok(norm)
    }

    /// Drops all responses, as when the front-end's weights have changed.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Factor of each feature.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Computes what is not kept yet.
    ///
    /// # Errors
    /// As [`StimulusEncoder::respond`].
    pub fn prepare<'c>(&mut self, clips: impl Iterator<Item = &'c Clip>) -> Result<(), AssocError> {
        let missing: std::collections::BTreeSet<&Clip> = clips.filter(|clip| !self.kept.contains_key(clip)).collect();
        let missing: Vec<&Clip> = missing.into_iter().collect();
        // In parts, so that single precision is not held for all at once.
        for part in missing.chunks(16 * SIDE_BY_SIDE) {
            for (clip, response) in part.iter().zip(self.source.respond(part)?) {
                let scaled = response.chunks_exact(self.scale.len());
                let scaled =
                    scaled.flat_map(|row| row.iter().zip(&self.scale).map(|(r, scale)| f16::from_f32(r * scale)));
                self.kept.insert((*clip).clone(), scaled.collect());
            }
        }
        Ok(())
    }

    /// Scaled features of a clip, `[steps, features]`; none where it was not prepared.
    pub fn get(&self, clip: &Clip) -> Option<&[f16]> {
        self.kept.get(clip).map(Vec::as_slice)
    }

    /// Number of clips whose responses are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none are kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
