//! How far a training is, as a checkpoint holds it.

use super::Weights;
use super::encoder::{Responses, StimulusEncoder};
use super::train::{BatchGradient, TrainRecord};
use crate::device::{Cpu, Device};
use crate::learn::{
    Optimiser, OptimiserKind, OptimiserSettings, Record, Snapshot, SnapshotError, clip_gradient_norm, record,
};

/// The areas' weights, and their optimiser's memory: one buffer a block.
pub(super) struct Areas {
    pub(super) weights: Weights<f32>,
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
    pub(super) fn step(&mut self, gradient: &Weights<f32>, learning_rate: f64, clip: f64) -> f64 {
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
pub(super) struct Sums {
    pub(super) objective: f64,
    pub(super) loss: f64,
    pub(super) norm: f64,
    pub(super) front_end_norm: f64,
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
    pub(super) fn add(&mut self, found: &BatchGradient, norm: f64, front_end_norm: f64) {
        self.objective += found.objective;
        self.loss += found.loss;
        self.norm += norm;
        self.front_end_norm += front_end_norm;
        self.steps += 1.0;
    }

    pub(super) fn means(self) -> Self {
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

/// How far a training is: all that a checkpoint holds, but for the front-end.
pub(super) struct TrainingState {
    pub(super) areas: Areas,
    /// Gradient steps done, and trials seen.
    pub(super) step: usize,
    pub(super) seen: u64,
    /// Steps of the curriculum over delays that training has taken, from 1.
    pub(super) level: usize,
    /// Validations in a row that reached the criterion.
    pub(super) passed: usize,
    pub(super) sums: Sums,
    pub(super) records: Vec<TrainRecord>,
    /// Whether the criterion was reached, once training has ended.
    pub(super) end: Option<bool>,
}

/// Before the names of what a checkpoint holds of the front-end.
const FRONT_END: &str = "front_end.";

impl TrainingState {
    pub(super) fn new(start: Weights<f32>, level: usize) -> Self {
        Self {
            areas: Areas::new(start),
            step: 0,
            seen: 0,
            level,
            passed: 0,
            sums: Sums::default(),
            records: Vec::new(),
            end: None,
        }
    }

    /// Writes it, with what a front-end has learned.
    pub(super) fn save(&self, responses: &Responses<'_>, snapshot: &mut Snapshot) {
        let end = self.end.map_or(0, |reached| 1 + u64::from(reached));
        let place = [self.step as u64, self.seen, self.level as u64, self.passed as u64, end];
        snapshot.put("course.place", &place);
        snapshot.put("course.sums", &self.sums.values());
        snapshot.put_records("course.records", &self.records);
        for (number, block) in self.areas.weights.blocks().into_iter().enumerate() {
            snapshot.put(block_name(number), block);
        }
        self.areas.optimiser.save(snapshot);
        if let StimulusEncoder::FrontEnd(front_end) = responses.source() {
            snapshot.put_all(FRONT_END, front_end.save());
        }
    }

    /// Takes over what [`save`](Self::save) wrote.
    pub(super) fn restore(&mut self, snapshot: &Snapshot, responses: &mut Responses<'_>) -> Result<(), SnapshotError> {
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
        if let Some(front_end) = responses.learner() {
            front_end.restore(&snapshot.part(FRONT_END))?;
            responses.clear();
        }
        (self.step, self.seen) = (place[0] as usize, place[1]);
        (self.level, self.passed) = (place[2] as usize, place[3] as usize);
        self.end = place[4].checked_sub(1).map(|reached| reached == 1);
        self.sums = sums;
        self.records = records;
        Ok(())
    }
}

fn block_name(number: usize) -> String {
    format!("areas.{number}")
}

#[cfg(test)]
mod tests {
    use super::super::encoder::{OneHot, StimulusEncoder};
    use super::super::layout::tests::small;
    use super::super::stimulus::{Clip, Scene};
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
        let state = |steps: &[usize]| {
            let mut state = TrainingState::new(Weights::initial(&layout, 1.0, 1), 2);
            state.records = steps.iter().map(|step| record(*step)).collect();
            state.step = 20;
            state
        };
        for (steps, said) in [(vec![0, 10, 20], None), (vec![0, 10, 10, 20], Some("step 10 twice"))] {
            let mut snapshot = Snapshot::default();
            state(&steps).save(&responses, &mut snapshot);
            let mut resumed = TrainingState::new(start.clone(), 1);
            match (resumed.restore(&snapshot, &mut responses), said) {
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
