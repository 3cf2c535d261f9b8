//! What networks are shown: the frames of some images under every noise on pixels, as pictures and as tensors.

use std::borrow::Cow;
use std::path::Path;

use cords::data::{DataError, ImageSet};
use cords::noise::{Condition, FrameSequence, NoisePresentation, Perturbation, PixelNoise, Pixels};
use indexmap::IndexMap;
use kuva::RasterBackend;
use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};
use safetensors::tensor::{Dtype, View};

use super::tables::{noise_name, presentation_name};
use crate::stage::StageError;
use crate::stage::picture::file_name;

/// Frames of a few images under the conditions of a stage. They are those of the first trial, drawn as networks see
/// them.
pub(super) struct Frames<'a> {
    pub(super) set: &'a ImageSet,
    pub(super) conditions: &'a [Condition],
    pub(super) seed: u64,
    /// Steps in ms at which frames follow each other: those of all networks.
    pub(super) steps_ms: &'a [f64],
    /// How long images are shown.
    pub(super) stimulus_ms: f64,
}

/// A kind of noise at some step, with its levels.
struct Series {
    name: String,
    noise: Pixels,
    timing: NoisePresentation,
    clip: bool,
    dt_ms: f64,
    levels: Vec<f64>,
}

/// Values of all tensors of a file at most: 1 GiB.
const VALUES: usize = 1 << 28;

impl Frames<'_> {
    /// Every noise on pixels, at every step where that makes a difference.
    fn series(&self) -> Vec<Series> {
        let mut found: IndexMap<String, Series> = IndexMap::new();
        for condition in self.conditions {
            let Perturbation::Pixels { noise, timing, clip } = condition.perturbation else {
                continue;
            };
            let steps = if timing == NoisePresentation::Static {
                &self.steps_ms[..1]
            } else {
                self.steps_ms
            };
            for dt_ms in steps {
                let mut name = format!("{}, {}", noise_name(condition, None), presentation_name(condition));
                if steps.len() > 1 {
                    name += &format!(", steps of {dt_ms} ms");
                }
                let series = found.entry(name.clone()).or_insert(Series {
                    name,
                    noise,
                    timing,
                    clip,
                    dt_ms: *dt_ms,
                    levels: Vec::new(),
                });
                series.levels.push(condition.level);
            }
        }
        found.into_values().collect()
    }

    /// How many frames a series has: one that is held, or one a step.
    fn steps(&self, series: &Series) -> usize {
        match series.timing {
            NoisePresentation::Static => 1,
            _ => ((self.stimulus_ms / series.dt_ms).round() as usize).max(1),
        }
    }

    /// Calls `keep` with each of the first so many frames of an image, `[channel, row, column]` in [0, 1] but for
    /// noise.
    fn each(
        &self,
        series: &Series,
        level: f64,
        image: u32,
        steps: usize,
        keep: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), DataError> {
        let noise = PixelNoise {
            seed: self.seed,
            trial: 0,
            pixels: series.noise,
            timing: series.timing,
            level,
            dt_ms: series.dt_ms,
        };
        let mut sequence = FrameSequence::new(noise, self.set.side(), u64::from(image));
        let mut clean = vec![0.0; self.set.image_len()];
        self.set.fill_unit(image as usize, &mut clean)?;
        let mut frame = vec![0.0; clean.len()];
        for step in 0..steps {
            sequence.frame(&clean, step as u32, &mut frame);
            if series.clip {
                frame.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
            }
            keep(step, &frame);
        }
        Ok(())
    }

    /// One picture for each noise: a column a level, a row an image, and where frames change three rows, from onset to
    /// the end.
    pub(super) fn draw(&self, images: &[u32], folder: &Path) -> Result<(), StageError> {
        for series in self.series() {
            let name = format!("frames_{}", file_name(&series.name));
            let png = RasterBackend { scale: 1.0 }
                .render_scene(&self.scene(&series, images)?)
                .map_err(|error| StageError::new(format!("the picture `{name}` cannot be drawn: {error}")))?;
            fs_err::write(folder.join(format!("{name}.png")), png)?;
        }
        Ok(())
    }

    fn scene(&self, series: &Series, images: &[u32]) -> Result<Scene, DataError> {
        let steps = self.steps(series);
        let mut shown = vec![0, steps / 2, steps - 1];
        shown.dedup();
        let side = self.set.side();
        // Small images are enlarged.
        let zoom = 112usize.div_ceil(side).max(1);
        let cell = (side * zoom) as f64;
        let (gap, left, top) = (8.0, 150.0, 56.0);
        let rows = images.len() * shown.len();
        let width = left + series.levels.len() as f64 * (cell + gap) + gap;
        let height = top + rows as f64 * (cell + gap) + gap;
        // Titles need room even where there is one level.
        let mut scene = Scene::new(width.max(420.0), height);
        let text = |x: f64, y: f64, content: String, size: u32, anchor: TextAnchor| Primitive::Text {
            x,
            y,
            content,
            size,
            anchor,
            rotate: None,
            bold: false,
            color: None,
        };
        let title = format!("{} noise", series.name);
        scene.elements.push(text(gap, 20.0, title, 15, TextAnchor::Start));
        let mut pixels = Pixelated::default();
        for (column, level) in series.levels.iter().enumerate() {
            let x = left + column as f64 * (cell + gap);
            let heading = format!("level {}", (level * 1e4).round() / 1e4);
            scene
                .elements
                .push(text(x + cell / 2.0, top - 10.0, heading, 12, TextAnchor::Middle));
            for (place, image) in images.iter().enumerate() {
                self.each(series, *level, *image, steps, &mut |step, frame| {
                    let Some(time) = shown.iter().position(|shown| *shown == step) else {
                        return;
                    };
                    let y = top + (place * shown.len() + time) as f64 * (cell + gap);
                    pixels.add(frame, side, [x, y], zoom as f64);
                })?;
            }
        }
        for (place, image) in images.iter().enumerate() {
            let class = &self.set.classes()[self.set.label(*image as usize) as usize];
            for (time, step) in shown.iter().enumerate() {
                let y = top + (place * shown.len() + time) as f64 * (cell + gap) + cell / 2.0;
                let name = format!("image {image}: {class}");
                scene.elements.push(text(gap, y, name, 12, TextAnchor::Start));
                if shown.len() > 1 {
                    let time = format!("at {} ms", *step as f64 * series.dt_ms);
                    scene.elements.push(text(gap, y + 16.0, time, 12, TextAnchor::Start));
                }
            }
        }
        scene.elements.push(pixels.into_primitive());
        Ok(scene)
    }

    /// Writes `frames.safetensors`: for each noise and level a tensor `[image, time, channel, row, column]` of pixel
    /// values, 0 black and 1 white, before normalisation; beside it `images`, their indices in the data set, and
    /// `labels`. The name of a tensor says noise, presentation and level; times are apart by the networks' step.
    pub(super) fn save(&self, images: &[u32], folder: &Path) -> Result<(), StageError> {
        let all = self.series();
        let len = self.set.image_len();
        let size = |series: &Series| series.levels.len() as u128 * (images.len() * self.steps(series) * len) as u128;
        let values: u128 = all.iter().map(size).sum();
        if values > VALUES as u128 {
            let gib = |values: u128| values as f64 * 4.0 / (1u64 << 30) as f64;
            return Err(StageError::new(format!(
                "the frames of {} images under every noise and level would take {:.1} GiB; at most {} GiB are written",
                images.len(),
                gib(values),
                gib(VALUES as u128)
            ))
            .hint("lower `frames`, or name fewer levels, noises or milliseconds in a stage of its own"));
        }
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        for series in &all {
            let steps = self.steps(series);
            for level in &series.levels {
                let mut bytes = Vec::with_capacity(images.len() * steps * len * 4);
                for image in images {
                    self.each(series, *level, *image, steps, &mut |_, frame| {
                        bytes.extend(frame.iter().flat_map(|value| value.to_le_bytes()));
                    })?;
                }
                let side = self.set.side();
                let shape = vec![images.len(), steps, self.set.channels(), side, side];
                let dtype = Dtype::F32;
                let name = format!("{}, level {level}", series.name);
                tensors.push((name, Tensor { dtype, shape, bytes }));
            }
        }
        let labels = images.iter().map(|image| self.set.label(*image as usize));
        for (name, values) in [("images", images.to_vec()), ("labels", labels.collect())] {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let (dtype, shape) = (Dtype::U32, vec![images.len()]);
            tensors.push((name.into(), Tensor { dtype, shape, bytes }));
        }
        let path = folder.join("frames.safetensors");
        let bytes = safetensors::serialize(tensors, None)
            .map_err(|error| StageError::new(format!("the frames cannot be written: {error}")))?;
        Ok(fs_err::write(path, bytes)?)
    }
}

/// A tensor to be written.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Squares of one colour each.
#[derive(Default)]
struct Pixelated {
    x: Vec<f64>,
    y: Vec<f64>,
    size: Vec<f64>,
    fills: Vec<Color>,
}

impl Pixelated {
    /// A frame `[channel, side, side]` in grey or colour, at a place.
    fn add(&mut self, frame: &[f32], side: usize, [left, top]: [f64; 2], zoom: f64) {
        let plane = side * side;
        let channels = frame.len() / plane;
        for pixel in 0..plane {
            let byte = |channel: usize| (frame[channel * plane + pixel].clamp(0.0, 1.0) * 255.0).round() as u8;
            let [r, g, b] = if channels == 3 {
                [byte(0), byte(1), byte(2)]
            } else {
                [byte(0); 3]
            };
            self.x.push(left + (pixel % side) as f64 * zoom);
            self.y.push(top + (pixel / side) as f64 * zoom);
            self.size.push(zoom);
            self.fills.push(Color::Rgb(r, g, b));
        }
    }

    fn into_primitive(self) -> Primitive {
        Primitive::RectBatch {
            x: self.x,
            y: self.y,
            w: self.size.clone(),
            h: self.size,
            fills: self.fills,
        }
    }
}
