//! A task on stimuli: trials as matrices for the areas, and what their outputs say.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::encoder::Responses;
use super::simulate::{Activity, drive, simulate_driven};
use super::stimulus::{Clip, Scene, clips};
use super::tasks::{Delay, Draw, Pool, Task, Timing};
use super::trial::{Mask, Trial};
use super::{AssocError, Group, Layout, Weights};
use crate::net::{fits, misfit};
use crate::rng::{Purpose, Stream};

/// Trials that are computed together: fixed, so that results do not depend on the number of threads.
pub const GROUP: usize = 32;

/// Told of what a network, by its number, did on a group of trials; may end the run.
pub type ActivityObserver<'a> = dyn FnMut(usize, &[Presented], &Activity<f32>) -> Result<(), AssocError> + 'a;

/// What is presented: a trial and the number that names its noise.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Names the private noise of every unit.
    pub number: u64,
    /// Trial epochs with their scenes, cues and correct answers.
    pub trial: Trial,
}

/// A task, its images and durations.
pub struct Setting<'a> {
    /// The task that trials are drawn of.
    pub task: &'a dyn Task,
    /// Durations of the task's trial epochs.
    pub timing: &'a Timing,
    /// Weights of a trial's parts in the loss.
    pub mask: Mask,
    /// Steps without input after which the front-end counts as back at its spontaneous state.
    pub settle: usize,
    /// Seed of trials and noise.
    pub seed: u64,
}

/// One answer that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which of the trials handed over.
    pub trial: usize,
    /// The output that was right.
    pub target: usize,
    /// The output that was largest, on average over the second half of the epoch; none where activity was not finite,
    /// which is neither right nor wrong.
    pub choice: Option<usize>,
}

impl Answer {
    /// Whether it was right.
    pub fn is_right(&self) -> bool {
        self.choice == Some(self.target)
    }
}

impl Setting<'_> {
    /// Trials `first` to `first + count` from a pool. `distinct`, where given, is after how many trials the contents
    /// repeat (with new delays and new noise of the units).
    pub fn draw(&self, pool: &Pool, first: u64, count: usize, distinct: Option<u64>, delay: Delay) -> Vec<Presented> {
        let one = |number: u64| {
            let content = distinct.map_or(number, |distinct| number % distinct.max(1));
            let mut draw = Draw::new(pool, self.timing, self.seed, content, number, delay);
            Presented {
                number,
                trial: self.task.trial(&mut draw),
            }
        };
        (first..first + count as u64).map(one).collect()
    }

    /// The clips of trials, each with the step at which it begins.
    pub fn clips(&self, trial: &Trial, dt_ms: f64) -> Vec<(usize, Clip)> {
        let course: Vec<(Option<Scene>, usize)> = trial
            .epochs
            .iter()
            .map(|epoch| (epoch.scene.clone(), steps(epoch.ms, dt_ms)))
            .collect();
        clips(&course, self.settle)
    }

    /// Computes the responses that trials need.
    ///
    /// # Errors
    /// As [`Responses::prepare`]; [`AssocError::Setting`] where a part of a trial is no multiple of the step.
    pub fn prepare(
        &self,
        responses: &mut Responses<'_>,
        presented: &[Presented],
        dt_ms: f64,
    ) -> Result<(), AssocError> {
        for epoch in presented.iter().flat_map(|p| &p.trial.epochs) {
            if !fits(epoch.ms, dt_ms) {
                let problem = format!("`{}` of a trial lasts {}", epoch.name, misfit(epoch.ms, dt_ms));
                return Err(AssocError::setting("timing", problem));
            }
        }
        let found: Vec<Clip> = presented
            .iter()
            .flat_map(|p| self.clips(&p.trial, dt_ms))
            .map(|(_, clip)| clip)
            .collect();
        responses.prepare(found.iter())
    }

    /// The answers of trials from their outputs.
    pub fn answers(&self, layout: &Layout, presented: &[Presented], outputs: &[f32]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (trial, p) in presented.iter().enumerate() {
            let mut first = 0;
            for epoch in &p.trial.epochs {
                let length = steps(epoch.ms, layout.dt_ms);
                if epoch.judged && length > 0 {
                    let mut sums = vec![0.0f64; layout.outputs];
                    for step in first + length / 2..first + length {
                        let row = &outputs[(step * presented.len() + trial) * layout.outputs..][..layout.outputs];
                        sums.iter_mut().zip(row).for_each(|(sum, z)| *sum += f64::from(*z));
                    }
                    let largest =
                        |best: usize, (index, sum): (usize, &f64)| if *sum > sums[best] { index } else { best };
                    let choice = sums.iter().all(|sum| sum.is_finite());
                    let choice = choice.then(|| sums.iter().enumerate().fold(0, largest));
                    answers.push(Answer {
                        trial,
                        target: epoch.target,
                        choice,
                    });
                }
                first += length;
            }
        }
        answers
    }
}

/// Networks of one layout, run on trials of a setting, with the noise of their units.
#[derive(Clone, Copy)]
pub struct Simulation<'a> {
    pub(super) setting: &'a Setting<'a>,
    pub(super) layout: &'a Layout,
    responses: &'a Responses<'a>,
    noisy: bool,
}

impl<'a> Simulation<'a> {
    /// The responses must have been [prepared](Setting::prepare) for the trials that are run.
    pub fn new(setting: &'a Setting<'a>, layout: &'a Layout, responses: &'a Responses<'a>) -> Self {
        Self {
            setting,
            layout,
            responses,
            noisy: true,
        }
    }

    /// The same without noise of the units.
    pub fn without_noise(self) -> Self {
        Self { noisy: false, ..self }
    }

    /// Trials as matrices, padded at their end to the longest.
    ///
    /// # Errors
    /// [`AssocError::Setting`] where a trial does not fit the layout or was not prepared.
    pub fn group(&self, presented: &[Presented]) -> Result<Group<f32>, AssocError> {
        let Self {
            setting,
            layout,
            responses,
            noisy,
        } = *self;
        let dt = layout.dt_ms;
        let trials = presented.len();
        let length = |p: &Presented| p.trial.epochs.iter().map(|epoch| steps(epoch.ms, dt)).sum::<usize>();
        let longest = presented.iter().map(length).max().unwrap_or(0);
        let shown = layout.features + layout.cues;
        let mut group = Group {
            trials,
            steps: longest,
            input: vec![0.0; longest * trials * shown],
            noise: Vec::new(),
            target: vec![0.0; longest * trials * layout.outputs],
            mask: vec![0.0; longest * trials],
        };
        for (trial, p) in presented.iter().enumerate() {
            for (first, clip) in setting.clips(&p.trial, dt) {
                let response = responses
                    .get(&clip)
                    .ok_or_else(|| AssocError::setting("responses", "a trial was not prepared"))?;
                for (step, row) in response.chunks_exact(responses.features()).enumerate() {
                    if first + step < longest {
                        let place = ((first + step) * trials + trial) * shown;
                        let out = &mut group.input[place..][..layout.features];
                        out.iter_mut().zip(row).for_each(|(out, r)| *out = r.to_f32());
                    }
                }
            }
            self.fill_epochs(&mut group, trial, &p.trial)?;
        }
        if noisy {
            group.noise = noise(layout, presented, longest, setting.seed);
        }
        Ok(group)
    }

    /// Adds the gradient by the features of a group of trials, `[steps, trials, features]`, to that by the clips'
    /// responses.
    pub(super) fn add_at_clips(&self, presented: &[Presented], features: &[f32], at: &mut BTreeMap<Clip, Vec<f32>>) {
        let width = self.layout.features;
        let rows: Vec<&[f32]> = features.chunks_exact(width * presented.len()).collect();
        for (trial, p) in presented.iter().enumerate() {
            for (first, clip) in self.setting.clips(&p.trial, self.layout.dt_ms) {
                let steps = clip.steps();
                let sum = at.entry(clip).or_insert_with(|| vec![0.0; steps * width]);
                for (sum, row) in sum.chunks_exact_mut(width).zip(rows.iter().skip(first)) {
                    let own = &row[trial * width..][..width];
                    sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                }
            }
        }
    }

    fn fill_epochs(&self, group: &mut Group<f32>, trial: usize, of: &Trial) -> Result<(), AssocError> {
        let (layout, mask) = (self.layout, self.setting.mask);
        let (dt, shown) = (layout.dt_ms, layout.features + layout.cues);
        let grace = steps(mask.grace_ms, dt);
        let mut step = 0;
        for epoch in &of.epochs {
            if epoch.target >= layout.outputs || epoch.cues.len() + 1 > layout.cues {
                let problem = format!(
                    "answer {} with {} cues does not fit the layout",
                    epoch.target,
                    epoch.cues.len()
                );
                return Err(AssocError::setting("task", problem));
            }
            for at in 0..steps(epoch.ms, dt) {
                let row = step * group.trials + trial;
                let cues = &mut group.input[row * shown + layout.features..][..layout.cues];
                cues[0] = f32::from(u8::from(epoch.fixate));
                cues[1..].iter_mut().zip(&epoch.cues).for_each(|(out, cue)| *out = *cue);
                group.target[row * layout.outputs + epoch.target] = 1.0;
                let counts = if epoch.judged { at >= grace } else { step >= grace };
                let weight = if epoch.judged { mask.respond } else { mask.hold };
                group.mask[row] = if counts { weight as f32 } else { 0.0 };
                step += 1;
            }
        }
        Ok(())
    }

    /// Runs trials with weights as they act and hands every group's trials and activity to `observe`, in order; returns
    /// all answers, with trials counted over all groups.
    ///
    /// # Errors
    /// As [`group`](Self::group).
    pub fn run(
        &self,
        acting: &Weights<f32>,
        presented: &[Presented],
        observe: &mut dyn FnMut(&[Presented], &Activity<f32>),
    ) -> Result<Vec<Answer>, AssocError> {
        let one = std::slice::from_ref(acting);
        let answers = self.run_each(one, presented, &mut |_, some, activity| {
            observe(some, activity);
            Ok(())
        });
        Ok(answers?.into_iter().flatten().collect())
    }

    /// The same with several networks, whose input weights are the same: what trials show and their noise are computed
    /// once for all. `observe` gets the number of the network, too, and may end it all.
    ///
    /// # Errors
    /// As [`group`](Self::group), and what `observe` returns.
    pub fn run_each(
        &self,
        acting: &[Weights<f32>],
        presented: &[Presented],
        observe: &mut ActivityObserver<'_>,
    ) -> Result<Vec<Vec<Answer>>, AssocError> {
        let layout = self.layout;
        let mut answers = vec![Vec::new(); acting.len()];
        let Some(first) = acting.first() else {
            return Ok(answers);
        };
        if acting.iter().any(|other| other.input != first.input) {
            let problem = "networks that run side by side must have the same";
            return Err(AssocError::setting("input weights", problem));
        }
        let groups: Vec<&[Presented]> = presented.chunks(GROUP).collect();
        // A few at a time: activity of all trials need not fit into memory.
        for (round, some) in groups.chunks(8).enumerate() {
            let driven: Vec<(Group<f32>, Vec<f32>)> = some
                .par_iter()
                .with_max_len(1)
                .map(|presented| {
                    let group = self.group(presented)?;
                    let drive = drive(layout, first, &group)?;
                    Ok((group, drive))
                })
                .collect::<Result<_, AssocError>>()?;
            for (network, acting) in acting.iter().enumerate() {
                let activity: Vec<Activity<f32>> = driven
                    .par_iter()
                    .with_max_len(1)
                    .map(|(group, drive)| simulate_driven(layout, acting, group, drive))
                    .collect::<Result<_, AssocError>>()?;
                for (index, (presented, activity)) in some.iter().zip(&activity).enumerate() {
                    let before = (round * 8 + index) * GROUP;
                    let own = self.setting.answers(layout, presented, &activity.outputs);
                    answers[network].extend(own.into_iter().map(|answer| Answer {
                        trial: before + answer.trial,
                        ..answer
                    }));
                    observe(network, presented, activity)?;
                }
            }
        }
        Ok(answers)
    }
}

/// Steps of a duration that is a multiple of the step, and else those nearest to it.
pub(super) fn steps(ms: f64, dt_ms: f64) -> usize {
    (ms / dt_ms).round().max(0.0) as usize
}

/// Private noise currents, `[steps, trials, units]`, named by (seed, presentation, step, area).
fn noise(layout: &Layout, presented: &[Presented], steps: usize, seed: u64) -> Vec<f32> {
    if layout.areas.iter().all(|area| area.noise == 0.0) {
        return Vec::new();
    }
    let mut noise = vec![0.0; steps * presented.len() * layout.units()];
    let mut rest = noise.as_mut_slice();
    for step in 0..steps {
        for p in presented {
            for (index, area) in layout.areas.iter().enumerate() {
                let (own, next) = rest.split_at_mut(area.units);
                rest = next;
                if area.noise > 0.0 {
                    let name = (p.number as u32, step as u32, index as u32);
                    Stream::new(seed, Purpose::NeuralNoise, p.number >> 32, name.0, name.1, name.2).normal_fill(own);
                    let scale = ((2.0 * area.tau_ms / layout.dt_ms).sqrt() * area.noise) as f32;
                    own.iter_mut().for_each(|xi| *xi *= scale);
                }
            }
        }
    }
    noise
}
