//! Training on trials of a task as the training loop sees it: a step, a validation, and its state in checkpoints.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rayon::prelude::*;

use super::encoder::{Responses, StimulusEncoder};
use super::experiment::{GROUP, Presented, Setting, Simulation};
use super::stimulus::Clip;
use super::tasks::Delay;
use super::train::{TrainOptions, TrainProgress, TrainRecord, Trained, Training, VALIDATION};
use super::{AssocError, Objective, Share, Weights, group_gradient};
use crate::device::{Cpu, Device};
use crate::learn::{
    CheckpointProgress, Next, Optimiser, OptimiserKind, OptimiserSettings, Record, Resumable, Snapshot, SnapshotError,
    clip_gradient_norm, record,
};

/// The areas' weights, and their optimiser's memory: one buffer a block.
struct Areas {
    weights: Weights<f32>,
    optimiser: Optimiser<f32, Cpu>,
}

impl Areas {
    fn new(weights: Weights<f32>) -> Self {
        let lengths = weights.blocks().map(Vec::len);
        Self {
            optimiser: Optimiser::new(&Cpu, OptimiserSettings::new(OptimiserKind::Adam, 0.0), &lengths),
            weights,
        }
    }

    /// One step along a gradient of which the norm, returned, is cut at `clip`.
    fn step(&mut self, gradient: &Weights<f32>, learning_rate: f64, clip: f64) -> f64 {
        let mut gradients = gradient.blocks().map(|block| Cpu.upload(block));
        let norm = clip_gradient_norm(&Cpu, Some(clip), &mut gradients);
        let mut parameters = self.weights.blocks().map(|block| Cpu.upload(block));
        self.optimiser.step(learning_rate, &gradients, &mut parameters);
        for (block, parameter) in self.weights.blocks_mut().into_iter().zip(&parameters) {
            *block = Cpu.download(parameter);
        }
        norm
    }
}

/// Sums since the last validation.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    objective: f64,
    loss: f64,
    norm: f64,
    front_end_norm: f64,
    steps: f64,
}

record!(Sums {
    objective,
    loss,
    norm,
    front_end_norm,
    steps,
});

impl Sums {
    fn add(&mut self, found: &BatchGradient, norm: f64, front_end_norm: f64) {
        self.objective += found.objective;
        self.loss += found.loss;
        self.norm += norm;
        self.front_end_norm += front_end_norm;
        self.steps += 1.0;
    }

    fn means(self) -> Self {
        let steps = self.steps.max(1.0);
        Self {
            objective: self.objective / steps,
            loss: self.loss / steps,
            norm: self.norm / steps,
            front_end_norm: self.front_end_norm / steps,
            steps,
        }
    }
}

/// Levels of the curriculum: one for each delay, and 8 at most.
fn levels(setting: &Setting<'_>) -> usize {
    setting.timing.delays.len().clamp(1, 8)
}

/// Areas, and a front-end that learns with them, in training.
pub(super) struct TaskTraining<'a, 'r> {
    /// What stays the same.
    of: Training<'a>,
    responses: &'a mut Responses<'r>,
    areas: Areas,
    /// Gradient steps done, and trials seen.
    step: usize,
    seen: u64,
    /// Level of the curriculum over delays, from 1.
    level: usize,
    /// Validations in a row that reached the criterion.
    passed: usize,
    sums: Sums,
    records: Vec<TrainRecord>,
    /// Whether the criterion was reached, once training has ended.
    end: Option<bool>,
}

/// Before the names of what a checkpoint holds of the front-end.
const FRONT_END: &str = "front_end.";

impl<'a, 'r> TaskTraining<'a, 'r> {
    /// Before its first step.
    pub(super) fn new(of: Training<'a>, start: Weights<f32>, responses: &'a mut Responses<'r>) -> Self {
        Self {
            level: if of.options.curriculum { 1 } else { levels(of.setting) },
            of,
            responses,
            areas: Areas::new(start),
            step: 0,
            seen: 0,
            passed: 0,
            sums: Sums::default(),
            records: Vec::new(),
            end: None,
        }
    }

    /// What it came to.
    pub(super) fn into_trained(self) -> Trained {
        Trained {
            weights: self.areas.weights,
            records: self.records,
            reached: self.end == Some(true),
        }
    }

    /// Trials of the next gradient step.
    pub(super) fn batch(&self) -> Vec<Presented> {
        let TrainOptions { batch, distinct, .. } = *self.of.options;
        let delay = Delay::UpTo(self.share());
        let (setting, pool) = (self.of.setting, self.of.pools.0);
        setting.draw(pool, self.seen, batch, Some(distinct), delay)
    }

    /// Share of the delays that the curriculum has taken in.
    fn share(&self) -> f64 {
        self.level as f64 / levels(self.of.setting) as f64
    }

    fn observe(&mut self, progress: TrainProgress<'_>) -> ControlFlow<()> {
        match &mut self.of.observer {
            Some(observer) => observer(progress),
            None => ControlFlow::Continue(()),
        }
    }

    /// Answers trials of validation images.
    fn validation(&mut self) -> Result<TrainRecord, AssocError> {
        let (layout, setting, delays) = (self.of.layout, self.of.setting, self.share());
        let count = self.of.options.validation_trials;
        let trials = setting.draw(self.of.pools.1, VALIDATION, count, None, Delay::UpTo(delays));
        setting.prepare(self.responses, &trials, layout.dt_ms)?;
        let acting = self.areas.weights.effective(layout);
        let simulation = Simulation::new(setting, layout, self.responses);
        let answers = simulation.run(&acting, &trials, &mut |_, _| {})?;
        let means = std::mem::take(&mut self.sums).means();
        Ok(TrainRecord {
            step: self.step,
            trials: self.seen,
            delays,
            objective: means.objective,
            loss: means.loss,
            gradient_norm: means.norm,
            front_end_norm: means.front_end_norm,
            answers: answers.len(),
            right: answers.iter().filter(|answer| answer.is_right()).count(),
            diverged: answers.iter().filter(|answer| answer.choice.is_none()).count(),
        })
    }
}

impl Resumable for TaskTraining<'_, '_> {
    /// Gradient steps done.
    type Position = usize;
    type Batch = Vec<Presented>;
    type Error = AssocError;

    fn next(&self) -> Next {
        let TrainOptions {
            validate_every, steps, ..
        } = *self.of.options;
        let due = self.step.is_multiple_of(validate_every) || self.step == steps;
        // One that a checkpoint holds already is not made again.
        let done = self.records.last().is_some_and(|last| last.step == self.step);
        match (self.end, due && !done) {
            (Some(_), _) => Next::End,
            (None, true) => Next::Validation,
            (None, false) => Next::GradientStep,
        }
    }

    fn position(&self) -> usize {
        self.step
    }

    fn step(&mut self, trials: Vec<Presented>) -> Result<ControlFlow<()>, AssocError> {
        let (layout, setting, options) = (self.of.layout, self.of.setting, self.of.options);
        setting.prepare(self.responses, &trials, layout.dt_ms)?;
        let through = self.responses.learner().is_some();
        let simulation = Simulation::new(setting, layout, self.responses);
        let found = batch_gradient(&simulation, &self.areas.weights, &trials, &options.objective, through)?;
        let norm = self.areas.step(&found.gradient, options.learning_rate, options.clip);
        let front_end_norm = match through {
            true => self.responses.learn(&found.at_clips, options.clip)?,
            false => 0.0,
        };
        if !(found.objective.is_finite() && norm.is_finite() && front_end_norm.is_finite()) {
            return Err(AssocError::Diverged { step: self.step });
        }
        self.seen += trials.len() as u64;
        self.step += 1;
        self.sums.add(&found, norm, front_end_norm);
        Ok(self.observe(TrainProgress::Step(self.step)))
    }

    /// Decides on the next delay or the end, too.
    fn validate(&mut self) -> Result<ControlFlow<()>, AssocError> {
        let _ = self.observe(TrainProgress::Validating(self.step));
        let record = self.validation()?;
        let options = self.of.options;
        self.records.push(record);
        self.passed = if record.reaches(options.criterion) {
            self.passed + 1
        } else {
            0
        };
        if self.level < levels(self.of.setting) && self.passed > 0 {
            (self.level, self.passed) = (self.level + 1, 0);
        } else if self.passed >= options.patience {
            self.end = Some(true);
        }
        if self.step == options.steps && self.end.is_none() {
            self.end = Some(false);
        }
        Ok(self.observe(TrainProgress::Validated(&record)))
    }

    fn tell(&mut self, progress: CheckpointProgress<usize>) -> ControlFlow<()> {
        self.observe(TrainProgress::Checkpoint(progress))
    }

    fn stopped(&self, _checkpoint: bool) -> AssocError {
        AssocError::Stopped
    }

    fn save(&self, snapshot: &mut Snapshot) {
        let end = self.end.map_or(0, |reached| 1 + u64::from(reached));
        let place = [self.step as u64, self.seen, self.level as u64, self.passed as u64, end];
        snapshot.put("course.place", &place);
        snapshot.put("course.sums", &self.sums.values());
        snapshot.put_records("course.records", &self.records);
        for (number, block) in self.areas.weights.blocks().into_iter().enumerate() {
            snapshot.put(block_name(number), block);
        }
        self.areas.optimiser.save(snapshot);
        if let StimulusEncoder::FrontEnd(front_end) = self.responses.source() {
            snapshot.put_all(FRONT_END, front_end.save());
        }
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let place: Vec<u64> = snapshot.get("course.place", 5)?;
        let sums = Sums::from_values(&snapshot.get("course.sums", Sums::VALUES)?);
        let records: Vec<TrainRecord> = snapshot.records("course.records")?;
        // Earlier programs validated a second time when they went on from a stop in a validation.
        let twice = records.windows(2).find(|pair| pair[0].step >= pair[1].step);
        if let Some([record, _]) = twice {
            let problem = format!("it holds the validation after step {} twice", record.step);
            return Err(SnapshotError::Content { problem });
        }
        for (number, block) in self.areas.weights.blocks_mut().into_iter().enumerate() {
            *block = snapshot.get(&block_name(number), block.len())?;
        }
        self.areas.optimiser.restore(snapshot)?;
        if let Some(front_end) = self.responses.learner() {
            front_end.restore(&snapshot.part(FRONT_END))?;
            self.responses.clear();
        }
        (self.step, self.seen) = (place[0] as usize, place[1]);
        (self.level, self.passed) = (place[2] as usize, place[3] as usize);
        self.end = place[4].checked_sub(1).map(|reached| reached == 1);
        self.sums = sums;
        self.records = records;
        Ok(())
    }
}

/// Name of what a checkpoint holds of one block of weights.
fn block_name(number: usize) -> String {
    format!("areas.{number}")
}

/// Loss and gradient of a batch.
struct BatchGradient {
    objective: f64,
    loss: f64,
    gradient: Weights<f32>,
    /// Gradient by the scaled responses, `[steps, features]` of each clip; empty unless asked for.
    at_clips: BTreeMap<Clip, Vec<f32>>,
}

/// Groups side by side, summed in their order.
fn batch_gradient(
    simulation: &Simulation<'_>,
    weights: &Weights<f32>,
    trials: &[Presented],
    objective: &Objective,
    through: bool,
) -> Result<BatchGradient, AssocError> {
    let layout = simulation.layout;
    let groups = trials
        .par_chunks(GROUP)
        .with_max_len(1)
        .map(|presented| simulation.group(presented))
        .collect::<Result<Vec<_>, _>>()?;
    let mask: f64 = groups
        .iter()
        .flat_map(|group| &group.mask)
        .map(|mask| f64::from(*mask))
        .sum();
    let found = groups
        .par_iter()
        .with_max_len(1)
        .map(|group| {
            let share = Share {
                mask,
                trials: group.trials as f64 / trials.len() as f64,
            };
            group_gradient(layout, weights, group, objective, share, through)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut sum = BatchGradient {
        objective: 0.0,
        loss: 0.0,
        gradient: Weights::zeros(layout),
        at_clips: BTreeMap::new(),
    };
    for (one, presented) in found.iter().zip(trials.chunks(GROUP)) {
        sum.objective += one.objective;
        sum.loss += one.loss;
        for (sum, one) in sum.gradient.blocks_mut().into_iter().zip(one.weights.blocks()) {
            sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
        if through {
            simulation.add_at_clips(presented, &one.features, &mut sum.at_clips);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::super::encoder::OneHot;
    use super::super::gradient::LossKind;
    use super::super::layout::tests::small;
    use super::super::stimulus::Scene;
    use super::super::tasks::{Pool, TaskName};
    use super::super::trial::Mask;
    use super::*;

    #[test]
    fn a_checkpoint_with_a_validation_twice_is_refused_and_leaves_nothing() {
        let layout = small(None);
        let source = OneHot {
            classes: 3,
            placed: false,
            dt_ms: 10.0,
            seed: 0,
        };
        let sample = [Clip(vec![(Some(Scene::image(1)), 1)])];
        let mut responses = Responses::new(StimulusEncoder::OneHot(source), &sample).expect("responds");
        let start = Weights::initial(&layout, 1.0, 0);
        let record = |step: usize| TrainRecord {
            step,
            trials: 8 * step as u64,
            delays: 1.0,
            objective: 1.0,
            loss: 1.0,
            gradient_norm: 1.0,
            front_end_norm: 0.0,
            answers: 8,
            right: 4,
            diverged: 0,
        };
        let task = TaskName::GoNoGo.build();
        let timing = TaskName::GoNoGo.timing();
        let setting = Setting {
            task: task.as_ref(),
            timing: &timing,
            mask: Mask::default(),
            settle: 0,
            seed: 0,
        };
        let pool = Pool::one_hot(3);
        let options = TrainOptions {
            objective: Objective {
                loss: LossKind::CrossEntropy,
                rate: 0.0,
                weight: 0.0,
            },
            steps: 30,
            batch: 8,
            learning_rate: 1e-3,
            clip: 1.0,
            distinct: 8,
            validate_every: 10,
            validation_trials: 8,
            criterion: 0.9,
            patience: 1,
            curriculum: true,
        };
        for (steps, said) in [(vec![0, 10, 20], None), (vec![0, 10, 10, 20], Some("step 10 twice"))] {
            let mut snapshot = Snapshot::default();
            let of = Training::new(&layout, &setting, (&pool, &pool), &options);
            let mut written = TaskTraining::new(of, Weights::initial(&layout, 1.0, 1), &mut responses);
            written.records = steps.iter().map(|step| record(*step)).collect();
            written.step = 20;
            written.save(&mut snapshot);
            let of = Training::new(&layout, &setting, (&pool, &pool), &options);
            let mut resumed = TaskTraining::new(of, start.clone(), &mut responses);
            match (resumed.restore(&snapshot), said) {
                (Ok(()), None) => assert_eq!((resumed.step, resumed.records.len()), (20, 3)),
                (Err(reason), Some(said)) => {
                    assert!(reason.to_string().contains(said), "{reason}");
                    assert_eq!((resumed.step, resumed.records.len()), (0, 0));
                    assert_eq!(resumed.areas.weights, start);
                }
                (other, _) => panic!("{other:?}"),
            }
        }
    }
}
