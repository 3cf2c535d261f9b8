//! What the first area gets: a front-end's responses to clips, or a one-hot code of the same scenes without any picture.

use std::collections::BTreeMap;
use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::AssocError;
use super::stimulus::{Clip, PLACES, Scene};
use crate::data::ImageSet;
use crate::device::{Aligned, Cpu, Device};
use crate::net::{CordsNet, Input, State, View};
use crate::noise::{Film, PixelNoise, Pixels, Timing};
use crate::rng::{Purpose, Stream};

/// Turns clips into features over time.
pub trait Source: Sync {
    /// Features of a step.
    fn features(&self) -> usize;
    /// Step in ms.
    fn dt_ms(&self) -> f64;
    /// Features after every step of every clip, `[steps, features]`, measured from the spontaneous state.
    ///
    /// # Errors
    /// [`AssocError`] where a clip cannot be shown.
    fn respond(&self, clips: &[&Clip]) -> Result<Vec<Vec<f32>>, AssocError>;
}

/// What a front-end is read by.
#[derive(Clone, Debug, PartialEq)]
pub struct Readout {
    /// Areas, from 0.
    pub areas: Vec<usize>,
    /// Each map is averaged over `grid` x `grid` cells; 1 is the whole map, more keeps place.
    pub grid: usize,
}

/// A CordsNet as the source: frozen, simulated from its spontaneous state through each clip.
pub struct FrontEnd<'a> {
    net: CordsNet<f32>,
    set: &'a ImageSet,
    mean: Vec<f32>,
    std: Vec<f32>,
    readout: Readout,
    dt_ms: f64,
    /// Euler steps of the front-end in one of the areas' steps.
    ratio: usize,
    spontaneous: State<f32>,
    resting: Vec<f32>,
    seed: u64,
}

/// Clips that run side by side: bounds memory, and does not change results.
const SIDE_BY_SIDE: usize = 64;

impl<'a> FrontEnd<'a> {
    /// A front-end for the images of `set`, normalised by `mean` and `std` per channel; `spontaneous_ms` without input come
    /// before anything is shown. `seed` is that of pixel noise.
    ///
    /// # Errors
    /// [`AssocError::Setting`] where the images do not fit the network, an area does not exist, the grid is finer than a
    /// map, or `dt_ms` is no multiple of the network's step.
    pub fn new(
        net: CordsNet<f32>,
        set: &'a ImageSet,
        constants: (Vec<f32>, Vec<f32>),
        readout: Readout,
        dt_ms: f64,
        spontaneous_ms: f64,
        seed: u64,
    ) -> Result<Self, AssocError> {
        let architecture = net.architecture();
        let wrong = |setting, problem: String| Err(AssocError::setting(setting, problem));
        let (channels, side) = (architecture.in_channels, architecture.image_side);
        if (channels, side) != (set.channels(), set.side()) {
            let found = format!("{} x {}^2", set.channels(), set.side());
            return wrong(
                "data",
                format!("the front-end takes images of {channels} x {side}^2, these are {found}"),
            );
        }
        let (mean, std) = constants;
        if mean.len() != channels || std.len() != channels {
            return wrong(
                "front_end",
                format!("{} constants of normalisation for {channels} channels", mean.len()),
            );
        }
        let areas = architecture.areas();
        if readout.areas.is_empty() {
            return wrong("read_areas", "there are none; give at least one".into());
        }
        let sides = architecture.sides();
        for area in &readout.areas {
            match sides.get(*area) {
                None => {
                    return wrong(
                        "read_areas",
                        format!("area {area}, but the front-end has areas 0 to {}", areas - 1),
                    );
                }
                Some(side) if readout.grid == 0 || readout.grid > *side => {
                    return wrong(
                        "grid",
                        format!(
                            "{}, but the maps of area {area} have {side} x {side} units",
                            readout.grid
                        ),
                    );
                }
                Some(_) => {}
            }
        }
        let own = net.euler().dt_ms;
        let ratio = (dt_ms / own).round();
        if ratio < 1.0 || (ratio * own - dt_ms).abs() > 1e-9 * dt_ms {
            return wrong(
                "dt",
                format!("{dt_ms} ms is no multiple of the front-end's step of {own} ms"),
            );
        }
        let spontaneous = net.spontaneous(net.euler().steps(spontaneous_ms));
        let mut front_end = Self {
            net,
            set,
            mean,
            std,
            readout,
            dt_ms,
            ratio: ratio as usize,
            spontaneous,
            resting: Vec::new(),
            seed,
        };
        front_end.resting = front_end.pooled(&front_end.spontaneous, 0);
        Ok(front_end)
    }

    /// Cell means of one image's state, areas one after the other, `[channels, grid, grid]` each.
    fn pooled(&self, state: &State<f32>, image: usize) -> Vec<f32> {
        let mut features = Vec::new();
        for area in &self.readout.areas {
            let [channels, side, _] = self.net.area_shape(*area);
            let units = channels * side * side;
            let maps = &state.areas[*area][image * units..][..units];
            let grid = self.readout.grid;
            for map in maps.chunks_exact(side * side) {
                let mut cells = vec![(0.0f64, 0usize); grid * grid];
                for (pixel, value) in map.iter().enumerate() {
                    let cell = &mut cells[pixel / side * grid / side * grid + pixel % side * grid / side];
                    *cell = (cell.0 + f64::from(*value), cell.1 + 1);
                }
                features.extend(cells.iter().map(|(sum, count)| (sum / *count as f64) as f32));
            }
        }
        features
    }

    /// A scene without its noise, in pixels of [0, 1]; `[channels, side, side]`. What no image covers has the mean level, as
    /// the blank screen does.
    pub fn canvas(&self, scene: &Scene) -> Vec<f32> {
        let side = self.set.side();
        let plane = side * side;
        let mut canvas: Vec<f32> = self
            .mean
            .iter()
            .flat_map(|mean| std::iter::repeat_n(*mean, plane))
            .collect();
        let whole = scene.items.iter().filter(|item| item.place.is_none()).count();
        let contrast = f32::from(scene.contrast) / 1000.0;
        let mut image = vec![0.0; self.set.image_len()];
        for item in &scene.items {
            self.set.fill_unit(item.image as usize, &mut image);
            for ((canvas, image), mean) in canvas
                .chunks_exact_mut(plane)
                .zip(image.chunks_exact(plane))
                .zip(&self.mean)
            {
                match item.place {
                    None => {
                        let weight = contrast / whole as f32;
                        canvas
                            .iter_mut()
                            .zip(image)
                            .for_each(|(c, pixel)| *c += weight * (pixel - mean));
                    }
                    Some(place) => draw_small(canvas, image, side, place, contrast, *mean),
                }
            }
        }
        canvas
    }

    fn normalised(&self, pixels: &mut [f32]) {
        let plane = self.set.side() * self.set.side();
        for ((pixels, mean), std) in pixels.chunks_exact_mut(plane).zip(&self.mean).zip(&self.std) {
            pixels.iter_mut().for_each(|pixel| *pixel = (*pixel - mean) / std);
        }
    }

    /// Clips of the same course, side by side.
    fn run(&self, clips: &[&Clip]) -> Vec<Vec<f32>> {
        let batch = clips.len();
        let mut state = self.spontaneous.repeated(batch);
        let mut responses = vec![Vec::new(); batch];
        let segments = clips.first().map_or(0, |clip| clip.0.len());
        let mut step = 0u32;
        for segment in 0..segments {
            let steps = clips[0].0[segment].1 * self.ratio;
            let scenes: Vec<Option<&Scene>> = clips.iter().map(|clip| clip.0[segment].0.as_ref()).collect();
            let canvases: Vec<Vec<f32>> = scenes
                .iter()
                .map(|scene| scene.map_or_else(Vec::new, |s| self.canvas(s)))
                .collect();
            let mut observe = |done: usize, view: &mut View<'_, f32, Cpu>| {
                if (done + 1).is_multiple_of(self.ratio) {
                    let state = view.state();
                    for (image, response) in responses.iter_mut().enumerate() {
                        let pooled = self.pooled(&state, image);
                        response.extend(pooled.iter().zip(&self.resting).map(|(r, rest)| r - rest));
                    }
                }
            };
            let noisy = scenes.iter().flatten().any(|scene| scene.noise.is_some());
            if scenes.iter().all(Option::is_none) {
                self.net.run(&mut state, Input::Blank, steps, &mut observe);
            } else if noisy {
                let mut write = |at: usize, images: Range<usize>, out: &mut Aligned<f32>| {
                    let mut frames = canvases[images.clone()].concat();
                    for (i, frame) in images.clone().zip(frames.chunks_exact_mut(self.set.image_len())) {
                        if let Some((level, name)) = scenes[i].and_then(|scene| scene.noise) {
                            let noise = self.noise(level);
                            let mut film = Film::new(noise, self.set.side(), u64::from(name));
                            film.frame(&canvases[i], step + at as u32, frame);
                        }
                        self.normalised(frame);
                    }
                    Cpu.upload_maps(self.net.image_maps(images.len()), &frames, out);
                };
                self.net
                    .run(&mut state, Input::Varying(&mut write), steps, &mut observe);
            } else {
                let mut images = canvases.concat();
                images
                    .chunks_exact_mut(self.set.image_len())
                    .for_each(|image| self.normalised(image));
                let inp = self.net.embed(&images, batch);
                self.net.run(&mut state, Input::Constant(&inp), steps, &mut observe);
            }
            step += steps as u32;
        }
        responses
    }

    fn noise(&self, level: u16) -> PixelNoise {
        PixelNoise {
            seed: self.seed,
            trial: 0,
            pixels: Pixels::Gaussian,
            timing: Timing::Dynamic,
            level: f64::from(level) / 1000.0,
            dt_ms: self.net.euler().dt_ms,
        }
    }
}

/// What decides which clips can run side by side: what is shown when, apart from the images.
fn course(clip: &Clip) -> Vec<(u8, usize)> {
    let kind = |scene: &Option<Scene>| scene.as_ref().map_or(0, |scene| 1 + u8::from(scene.noise.is_some()));
    clip.0.iter().map(|(scene, steps)| (kind(scene), *steps)).collect()
}

impl Source for FrontEnd<'_> {
    fn features(&self) -> usize {
        self.resting.len()
    }

    fn dt_ms(&self) -> f64 {
        self.dt_ms
    }

    fn respond(&self, clips: &[&Clip]) -> Result<Vec<Vec<f32>>, AssocError> {
        let items = clips
            .iter()
            .flat_map(|clip| &clip.0)
            .filter_map(|(scene, _)| scene.as_ref());
        for item in items.flat_map(|scene| &scene.items) {
            if item.image as usize >= self.set.len() {
                let problem = format!("index {}, but the image set has {}", item.image, self.set.len());
                return Err(AssocError::setting("images", problem));
            }
        }
        let mut alike: BTreeMap<Vec<(u8, usize)>, Vec<usize>> = BTreeMap::new();
        for (index, clip) in clips.iter().enumerate() {
            alike.entry(course(clip)).or_default().push(index);
        }
        let mut responses = vec![Vec::new(); clips.len()];
        for indices in alike.values() {
            for part in indices.chunks(SIDE_BY_SIDE) {
                let shown: Vec<&Clip> = part.iter().map(|index| clips[*index]).collect();
                for (index, response) in part.iter().zip(self.run(&shown)) {
                    responses[*index] = response;
                }
            }
        }
        Ok(responses)
    }
}

/// Draws one channel of an image at a quarter of its side, at a place of the ring; each pixel is the mean of those that it
/// stands for.
fn draw_small(canvas: &mut [f32], image: &[f32], side: usize, place: u8, contrast: f32, mean: f32) {
    let small = (side / 4).max(1);
    let middle = (side as f64 - small as f64) / 2.0;
    let angle = std::f64::consts::TAU * f64::from(place) / PLACES as f64;
    let left = (middle * (1.0 + angle.cos())).round() as usize;
    let top = (middle * (1.0 - angle.sin())).round() as usize;
    for y in 0..small {
        for x in 0..small {
            let (rows, columns) = (
                y * side / small..(y + 1) * side / small,
                x * side / small..(x + 1) * side / small,
            );
            let count = (rows.len() * columns.len()).max(1);
            let sum: f32 = rows.flat_map(|row| image[row * side..][columns.clone()].iter()).sum();
            canvas[(top + y).min(side - 1) * side + (left + x).min(side - 1)] =
                mean + contrast * (sum / count as f32 - mean);
        }
    }
}

/// Scenes as vectors: one feature for each class, and where place matters one for each class and place. On while a scene
/// is shown and off at once: the control without pictures.
pub struct OneHot {
    /// Classes; an image's number is its class.
    pub classes: usize,
    /// Whether features keep place.
    pub placed: bool,
    /// Step in ms.
    pub dt_ms: f64,
    /// Seed of noise.
    pub seed: u64,
}

impl Source for OneHot {
    fn features(&self) -> usize {
        self.classes * if self.placed { PLACES } else { 1 }
    }

    fn dt_ms(&self) -> f64 {
        self.dt_ms
    }

    fn respond(&self, clips: &[&Clip]) -> Result<Vec<Vec<f32>>, AssocError> {
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
        Ok(clips.par_iter().map(|clip| one(clip)).collect())
    }
}

/// Responses by clip, computed once and kept in 16 bits; scaled so that each feature has a root mean square of about 1.
pub struct Responses<'a> {
    source: &'a dyn Source,
    scale: Vec<f32>,
    kept: BTreeMap<Clip, Vec<f16>>,
}

impl<'a> Responses<'a> {
    /// None yet. Scales come from the responses to `sample`, a feature's being at least a tenth of all features' together.
    ///
    /// # Errors
    /// As [`Source::respond`]; [`AssocError::Setting`] where nothing responds.
    pub fn new(source: &'a dyn Source, sample: &[Clip]) -> Result<Self, AssocError> {
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

    /// Factor of each feature.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Computes what is not kept yet.
    ///
    /// # Errors
    /// As [`Source::respond`].
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

    /// Clips kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none are kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
