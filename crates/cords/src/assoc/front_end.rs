//! A CordsNet as what the first area sees: simulated from its spontaneous state through each clip, as it is or
//! learning.

use std::collections::BTreeMap;
use std::ops::Range;

use super::AssocError;
use super::canvas::drawn;
use super::readout::Readout;
use super::stimulus::{Clip, Scene};
use crate::Real;
use crate::data::{DataError, ImageSet};
use crate::device::{Aligned, Cpu, Device};
use crate::learn::{ActivityLearner, Memory, Snapshot, SnapshotError, StimulusPeriod};
use crate::net::{CordsNet, Input, Parameters, State, View};
use crate::noise::{FrameSequence, NoisePresentation, PixelNoise, Pixels};

/// How a front-end sees images, and how its activity is read.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontEndSettings {
    /// Means that images are normalised by, one for each channel.
    pub mean: Vec<f32>,
    /// Standard deviations that images are normalised by, one for each channel.
    pub std: Vec<f32>,
    /// What is read.
    pub readout: Readout,
    /// Euler step of the association areas in ms, a multiple of the network's.
    pub dt_ms: f64,
    /// Time without input before anything is shown, in ms.
    pub spontaneous_ms: f64,
    /// Seed of pixel noise.
    pub seed: u64,
}

/// How a front-end learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrontEndTraining {
    /// Learning rate of the front-end's Adam optimiser.
    pub learning_rate: f64,
    /// Memory that the activities of a gradient step may take.
    pub memory: Memory,
}

/// A CordsNet, the images that it sees, and what of its activity is read.
pub struct FrontEnd<'a, T: Real = f32> {
    net: CordsNet<T>,
    set: &'a ImageSet,
    mean: Vec<f32>,
    std: Vec<f32>,
    readout: Readout,
    dt_ms: f64,
    /// Euler steps of the front-end in one of the areas' steps.
    ratio: usize,
    spontaneous_steps: usize,
    spontaneous: State<T>,
    spontaneous_features: Vec<T>,
    seed: u64,
    learning: Option<Learning<T>>,
}

struct Learning<T: Real> {
    rate: f64,
    learner: ActivityLearner<T, Cpu>,
}

/// Clips that run side by side: bounds memory, and does not change results.
pub(super) const SIDE_BY_SIDE: usize = 64;

impl<'a, T: Real> FrontEnd<'a, T> {
    /// A front-end for the images of `set`.
    ///
    /// # Errors
    /// [`AssocError::Setting`] where the images do not fit the network, an area does not exist, the grid is finer than
    /// a map, or `dt_ms` is no multiple of the network's step.
    pub fn new(net: CordsNet<T>, set: &'a ImageSet, settings: FrontEndSettings) -> Result<Self, AssocError> {
        let FrontEndSettings {
            mean,
            std,
            readout,
            dt_ms,
            spontaneous_ms,
            seed,
        } = settings;
        let architecture = net.architecture();
        let wrong = |setting, problem: String| Err(AssocError::setting(setting, problem));
        let (channels, side) = (architecture.in_channels(), architecture.image_side());
        if (channels, side) != (set.channels(), set.side()) {
            let found = format!("{} x {}^2", set.channels(), set.side());
            return wrong(
                "data",
                format!("the front-end takes images of {channels} x {side}^2, these are {found}"),
            );
        }
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
                format!("{dt_ms} ms is not a multiple of the front-end's step of {own} ms"),
            );
        }
        let spontaneous_steps = net.euler().steps(spontaneous_ms);
        let mut front_end = Self {
            spontaneous: net.spontaneous(spontaneous_steps),
            spontaneous_steps,
            net,
            set,
            mean,
            std,
            readout,
            dt_ms,
            ratio: ratio as usize,
            spontaneous_features: Vec::new(),
            seed,
            learning: None,
        };
        front_end.spontaneous_features = front_end.pooled(&front_end.spontaneous, 0);
        Ok(front_end)
    }

    /// The same, learning from the gradient at its responses.
    pub fn trained(mut self, training: FrontEndTraining) -> Self {
        self.learning = Some(Learning {
            rate: training.learning_rate,
            learner: ActivityLearner::new(&self.net, training.memory),
        });
        self
    }

    /// Whether the front-end is trained with the association areas.
    pub fn learns(&self) -> bool {
        self.learning.is_some()
    }

    /// Its parameters as they are now.
    pub fn parameters(&self) -> &Parameters<T> {
        self.net.parameters()
    }

    /// Features of a step.
    pub fn features(&self) -> usize {
        self.spontaneous_features.len()
    }

    /// Euler step of the front-end's stimulus in ms.
    pub fn dt_ms(&self) -> f64 {
        self.dt_ms
    }

    /// What is read of one image's state.
    fn pooled(&self, state: &State<T>, image: usize) -> Vec<T> {
        self.readout.pooled(&self.net, state, image)
    }

    /// A scene without its noise, in pixels of [0, 1]; `[channels, side, side]`. What no image covers has the mean
    /// level, as the blank screen does.
    ///
    /// # Errors
    /// [`DataError`] where an image cannot be read.
    pub fn canvas(&self, scene: &Scene) -> Result<Vec<f32>, DataError> {
        drawn(scene, self.set, &self.mean)
    }

    /// Normalised pixels, in the network's numbers.
    fn normalised(&self, mut pixels: Vec<f32>) -> Vec<T> {
        let plane = self.set.side() * self.set.side();
        let channels = self.mean.iter().zip(&self.std).cycle();
        for (pixels, (mean, std)) in pixels.chunks_exact_mut(plane).zip(channels) {
            pixels.iter_mut().for_each(|pixel| *pixel = (*pixel - mean) / std);
        }
        pixels.into_iter().map(|pixel| T::from_f64(f64::from(pixel))).collect()
    }

    /// What clips side by side show in one of their segments.
    fn pictures<'c>(&self, clips: &[&'c Clip], segment: usize) -> Result<Pictures<'c>, DataError> {
        let scenes: Vec<Option<&Scene>> = clips.iter().map(|clip| clip.0[segment].0.as_ref()).collect();
        let canvases = scenes
            .iter()
            .map(|scene| scene.map_or(Ok(Vec::new()), |scene| self.canvas(scene)));
        Ok(Pictures {
            canvases: canvases.collect::<Result<_, _>>()?,
            noisy: scenes.iter().flatten().any(|scene| scene.noise.is_some()),
            scenes,
        })
    }

    /// Normalised images of these clips at the network's step `step` of theirs, with the noise of that step.
    fn frames(&self, pictures: &Pictures<'_>, clips: Range<usize>, step: u32) -> Vec<T> {
        let mut frames = Vec::new();
        for (scene, canvas) in pictures.scenes[clips.clone()].iter().zip(&pictures.canvases[clips]) {
            let mut frame = canvas.clone();
            if let Some((level, name)) = scene.and_then(|scene| scene.noise) {
                let mut sequence = FrameSequence::new(self.noise(level), self.set.side(), u64::from(name));
                sequence.frame(canvas, step, &mut frame);
            }
            frames.append(&mut frame);
        }
        self.normalised(frames)
    }

    /// Clips of the same course, side by side.
    fn run(&self, clips: &[&Clip]) -> Result<Vec<Vec<T>>, DataError> {
        let batch = clips.len();
        let mut state = self.spontaneous.repeated(batch);
        let mut responses = vec![Vec::new(); batch];
        let segments = clips.first().map_or(0, |clip| clip.0.len());
        let mut step = 0u32;
        for segment in 0..segments {
            let steps = clips[0].0[segment].1 * self.ratio;
            let pictures = self.pictures(clips, segment)?;
            let mut observe = |done: usize, view: &mut View<'_, T, Cpu>| {
                if (done + 1).is_multiple_of(self.ratio) {
                    let state = view.state();
                    for (image, response) in responses.iter_mut().enumerate() {
                        let pooled = self.pooled(&state, image);
                        response.extend(
                            pooled
                                .iter()
                                .zip(&self.spontaneous_features)
                                .map(|(r, spontaneous)| *r - *spontaneous),
                        );
                    }
                }
            };
            if pictures.is_blank() {
                self.net.run(&mut state, Input::Blank, steps, &mut observe);
            } else if pictures.noisy {
                let mut write = |at: usize, clips: Range<usize>, out: &mut Aligned<T>| {
                    let frames = self.frames(&pictures, clips.clone(), step + at as u32);
                    Cpu.upload_maps(self.net.image_maps(clips.len()), &frames, out);
                };
                self.net
                    .run(&mut state, Input::Varying(&mut write), steps, &mut observe);
            } else {
                let inp = self.net.embed(&self.frames(&pictures, 0..batch, step), batch);
                self.net.run(&mut state, Input::Constant(&inp), steps, &mut observe);
            }
            step += steps as u32;
        }
        Ok(responses)
    }

    /// What clips of the same course show, for the network's steps.
    fn shown(&self, clips: &[&Clip]) -> Result<Vec<StimulusPeriod<T>>, DataError> {
        let mut shown = Vec::new();
        let mut step = 0;
        for segment in 0..clips.first().map_or(0, |clip| clip.0.len()) {
            let steps = clips[0].0[segment].1 * self.ratio;
            let pictures = self.pictures(clips, segment)?;
            let images =
                |step: usize| (!pictures.is_blank()).then(|| self.frames(&pictures, 0..clips.len(), step as u32));
            match pictures.noisy {
                true => shown.extend((step..step + steps).map(|step| StimulusPeriod {
                    images: images(step),
                    steps: 1,
                })),
                false => shown.push(StimulusPeriod {
                    images: images(step),
                    steps,
                }),
            }
            step += steps;
        }
        Ok(shown)
    }

    /// Gathers the gradient of a loss whose gradient at the responses to clips is `at`, `[steps, features]` each. The
    /// spontaneous state, which responses are measured from, counts as given.
    ///
    /// # Errors
    /// [`AssocError::Training`]; [`AssocError::Data`] where an image cannot be read; a front-end that does not learn.
    fn add_gradient(&mut self, clips: &[&Clip], at: &[&[T]]) -> Result<(), AssocError> {
        let mut learning = self.learning.take();
        let result = match &mut learning {
            None => Err(AssocError::setting("front_end", "it is not being trained")),
            Some(Learning { learner, .. }) => self.gather(learner, clips, at),
        };
        self.learning = learning;
        result
    }

    fn gather(&self, learner: &mut ActivityLearner<T, Cpu>, clips: &[&Clip], at: &[&[T]]) -> Result<(), AssocError> {
        let features = self.features();
        for part in side_by_side(clips) {
            let own: Vec<&Clip> = part.iter().map(|index| clips[*index]).collect();
            let at = |image: usize, step: usize, area: usize, out: &mut [T]| -> bool {
                let reads = step.is_multiple_of(self.ratio);
                if reads {
                    let row = &at[part[image]][(step / self.ratio - 1) * features..][..features];
                    self.readout.unpooled(&self.net, row, area, out);
                }
                reads
            };
            let (shown, areas) = (self.shown(&own)?, &self.readout.areas);
            learner.add(&self.net, self.spontaneous_steps, own.len(), &shown, areas, &at)?;
        }
        Ok(())
    }

    /// Moves the parameters one step against a gradient at the responses to clips (see
    /// [`add_gradient`](Self::add_gradient)), shortened to the norm `clip`. Returns the norm before; where it is not
    /// finite, nothing is moved.
    ///
    /// # Errors
    /// As [`add_gradient`](Self::add_gradient).
    pub(super) fn learn(&mut self, clips: &[&Clip], at: &[&[T]], clip: f64) -> Result<f64, AssocError> {
        self.add_gradient(clips, at)?;
        let norm = self.learning.as_mut().map_or(0.0, |Learning { rate, learner }| {
            learner.step(&mut self.net, *rate, clip)
        });
        self.find_spontaneous();
        Ok(norm)
    }

    /// Computes the spontaneous state anew.
    fn find_spontaneous(&mut self) {
        self.spontaneous = self.net.spontaneous(self.spontaneous_steps);
        self.spontaneous_features = self.pooled(&self.spontaneous, 0);
    }

    fn noise(&self, level: u16) -> PixelNoise {
        PixelNoise {
            seed: self.seed,
            trial: 0,
            pixels: Pixels::Gaussian,
            timing: NoisePresentation::Dynamic,
            level: f64::from(level) / 1000.0,
            dt_ms: self.net.euler().dt_ms,
        }
    }

    /// Features after every step of every clip, `[steps, features]`, measured from the spontaneous state.
    ///
    /// # Errors
    /// [`AssocError::Setting`] where a clip cannot be shown, [`AssocError::Data`] where an image cannot be read.
    pub fn respond(&self, clips: &[&Clip]) -> Result<Vec<Vec<T>>, AssocError> {
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
        let mut responses = vec![Vec::new(); clips.len()];
        for part in side_by_side(clips) {
            let shown: Vec<&Clip> = part.iter().map(|index| clips[*index]).collect();
            for (index, response) in part.iter().zip(self.run(&shown)?) {
                responses[*index] = response;
            }
        }
        Ok(responses)
    }
}

impl FrontEnd<'_> {
    /// What it learned and what its optimiser remembers, bit for bit; nothing of one that does not learn.
    pub(super) fn save(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        if let Some(Learning { learner, .. }) = &self.learning {
            learner.save(&self.net, &mut snapshot);
        }
        snapshot
    }

    /// Takes over what [`save`](Self::save) wrote.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        if let Some(Learning { learner, .. }) = &mut self.learning {
            learner.restore(&mut self.net, snapshot)?;
            self.find_spontaneous();
        }
        Ok(())
    }
}

/// What clips side by side show for some time.
struct Pictures<'c> {
    scenes: Vec<Option<&'c Scene>>,
    canvases: Vec<Vec<f32>>,
    noisy: bool,
}

impl Pictures<'_> {
    fn is_blank(&self) -> bool {
        self.scenes.iter().all(Option::is_none)
    }
}

/// What decides which clips can run side by side: what is shown when, apart from the images.
fn course(clip: &Clip) -> Vec<(u8, usize)> {
    let kind = |scene: &Option<Scene>| scene.as_ref().map_or(0, |scene| 1 + u8::from(scene.noise.is_some()));
    clip.0.iter().map(|(scene, steps)| (kind(scene), *steps)).collect()
}

/// Places of clips that run side by side: of the same course, and not too many.
fn side_by_side(clips: &[&Clip]) -> Vec<Vec<usize>> {
    let mut alike: BTreeMap<Vec<(u8, usize)>, Vec<usize>> = BTreeMap::new();
    for (index, clip) in clips.iter().enumerate() {
        alike.entry(course(clip)).or_default().push(index);
    }
    let parts = alike.values().flat_map(|indices| indices.chunks(SIDE_BY_SIDE));
    parts.map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::small;
    use super::super::{Group, LossKind, Objective, Share, Weights, group_gradient};
    use super::*;
    use crate::data::{ImageSource, Limit, PrepareConfig, SourceName, prepare};
    use crate::device::Phi;
    use crate::learn::Initialisation;
    use crate::net::{Architecture, Euler, Graph, bias_name};
    use crate::rng::{Purpose, Stream};

    const RATIO: usize = 2;

    fn digits() -> (ImageSet, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("can make a folder");
        let config = PrepareConfig {
            seed: 1,
            limit: Some(Limit::PerClass(6)),
            ..PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 16)
        };
        prepare(&config, dir.path(), &mut |_, _| {}).expect("embedded");
        (ImageSet::open(dir.path()).expect("just written"), dir)
    }

    fn architecture() -> Graph {
        Architecture {
            in_channels: 1,
            image_side: 16,
            channels: vec![2; 5],
            strides: vec![1, 1, 2, 1],
            classes: 10,
        }
        .graph()
        .expect("valid")
    }

    fn front_end<'a>(set: &'a ImageSet, parameters: &Parameters<f64>) -> FrontEnd<'a, f64> {
        let euler = Euler::published();
        let net = CordsNet::new(&architecture(), parameters, &euler, Phi::Relu).expect("a network");
        let settings = FrontEndSettings {
            mean: set.mean().to_vec(),
            std: set.std().to_vec(),
            readout: Readout {
                areas: vec![3, 0],
                grid: 2,
            },
            dt_ms: RATIO as f64 * euler.dt_ms,
            spontaneous_ms: 20.0,
            seed: 0,
        };
        FrontEnd::new(net, set, settings).expect("fits")
    }

    /// Four clips of three courses: two images one after the other, a pause between, noise that is new at every step.
    fn shown() -> Vec<Clip> {
        let noisy = Scene {
            noise: Some((300, 5)),
            ..Scene::image(3)
        };
        let lone = |image| Clip(vec![(Some(Scene::image(image)), 3), (None, 3)]);
        vec![
            lone(1),
            Clip(vec![
                (Some(Scene::image(9)), 2),
                (None, 1),
                (Some(Scene::placed(&[(4, 0), (5, 3)])), 3),
            ]),
            lone(20),
            Clip(vec![(Some(noisy), 4), (None, 2)]),
        ]
    }

    /// The whole way from the areas' objective to the front-end's parameters, against finite differences.
    #[test]
    fn the_gradient_through_the_areas_arrives_at_every_parameter() {
        let (set, _dir) = digits();
        let clips = shown();
        let clips: Vec<&Clip> = clips.iter().collect();
        let (trials, steps) = (clips.len(), 6);
        let mut parameters: Parameters<f64> = Initialisation::default().cordsnet(&architecture(), 2).cast();
        // Without biases, currents are at ReLU's kink wherever nothing is seen.
        let mut biases = Stream::new(1, Purpose::Probe, 0, 0, 1, 0);
        for area in 0..architecture().areas() {
            let bias = parameters.get_mut(&bias_name(area)).expect("a parameter");
            bias.data.iter_mut().for_each(|bias| *bias = 0.1 * biases.normal());
        }
        let first = front_end(&set, &parameters);
        let mut layout = small(Some(0.8));
        (layout.features, layout.cues) = (first.features(), 1);
        let weights: Weights<f64> = Weights::initial(&layout, 1.2, 0).cast();
        let mut stream = Stream::new(1, Purpose::Probe, 0, 0, 0, 0);
        let mut draws = |count: usize| -> Vec<f64> { (0..count).map(|_| stream.normal()).collect() };
        let noise: Vec<f64> = draws(steps * trials * layout.units())
            .iter()
            .map(|xi| 0.1 * xi)
            .collect();
        let objective = Objective {
            loss: LossKind::CrossEntropy,
            rate: 0.3,
            weight: 0.02,
        };
        let mut target = vec![0.0; steps * trials * layout.outputs];
        (0..steps * trials).for_each(|row| target[row * layout.outputs + row % layout.outputs] = 1.0);
        let run = |front_end: &FrontEnd<'_, f64>| {
            let shown = layout.features + layout.cues;
            let mut group = Group {
                trials,
                steps,
                input: vec![0.0; steps * trials * shown],
                noise: noise.clone(),
                target: target.clone(),
                mask: vec![1.0; steps * trials],
            };
            for (trial, response) in front_end.respond(&clips).expect("shown").iter().enumerate() {
                for (step, row) in response.chunks_exact(layout.features).enumerate() {
                    let input = &mut group.input[(step * trials + trial) * shown..][..layout.features];
                    // As scaled responses are of order 1.
                    input.iter_mut().zip(row).for_each(|(input, r)| *input = 10.0 * r);
                }
            }
            let share = Share {
                mask: (steps * trials) as f64,
                trials: 1.0,
            };
            group_gradient(&layout, &weights, &group, &objective, share, true).expect("sizes fit")
        };
        let found = run(&first);
        let at: Vec<Vec<f64>> = (0..trials)
            .map(|trial| {
                let rows = found.features.chunks_exact(layout.features).skip(trial).step_by(trials);
                rows.flatten().map(|g| 10.0 * g).collect()
            })
            .collect();
        let mut learning = front_end(&set, &parameters).trained(FrontEndTraining {
            learning_rate: 1e-3,
            memory: Memory::Every(3),
        });
        let at: Vec<&[f64]> = at.iter().map(Vec::as_slice).collect();
        learning.add_gradient(&clips, &at).expect("it learns");
        let gradients = learning
            .learning
            .as_ref()
            .expect("it learns")
            .learner
            .gradients(&learning.net);

        let objective_with = |name: &str, index: usize, change: f64| {
            let mut moved = parameters.clone();
            moved.get_mut(name).expect("a parameter").data[index] += change;
            let mut moved = front_end(&set, &moved);
            // What responses begin from counts as given.
            moved.spontaneous = first.spontaneous.clone();
            moved.spontaneous_features = first.spontaneous_features.clone();
            run(&moved).objective
        };
        let mut reached = 0;
        for (name, gradient) in gradients.iter() {
            let largest = gradient.data.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
            let some = (0..gradient.data.len()).step_by(gradient.data.len().div_ceil(5));
            for index in some {
                let h = 1e-6;
                let expected = (objective_with(name, index, h) - objective_with(name, index, -h)) / (2.0 * h);
                // Rounding of an objective of order 1 over 2e-6, and ReLU kinks within 1e-6 of which there are few.
                let bound = 1e-5 * largest + 1e-9;
                let found = gradient.data[index];
                assert!(
                    (found - expected).abs() <= bound,
                    "{name} {index}: {found} for {expected}"
                );
            }
            reached += usize::from(largest > 1e-6);
        }
        // All but the readout's three.
        assert_eq!(reached, gradients.len() - 3, "of {}", gradients.len());
    }
}
