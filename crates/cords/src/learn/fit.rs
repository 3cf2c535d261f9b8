//! The training loop that all kinds of training share: epochs, batches, records, checkpoints.
//!
//! What a batch does is the [`Trainee`]'s. The loop's state and the trainee's make up a checkpoint, so a training
//! that was stopped or killed goes on to the same bits as one that was not.

use std::ops::ControlFlow;
use std::time::Instant;

use super::ahead::{Batches, Prepared};
use super::checkpoint::StoredCheckpoint;
use super::snapshot::{Snapshot, SnapshotError};
use super::{Checkpoints, Evaluation, Fit, TrainError, learning_rate};
use crate::data::Images;
use crate::device::DeviceError;

/// What an observer is told while a network trains.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// A batch is done.
    Batch {
        /// Training epoch, from 0.
        epoch: usize,
        /// Number of training epochs.
        epochs: usize,
        /// Batch within the epoch, from 0.
        batch: usize,
        /// Batches of an epoch.
        batches: usize,
        /// Objective of this batch: what training lowers.
        objective: f64,
        /// Cross-entropy of this batch, at the end of the stimulus; 0 where nothing is learned from labels.
        cross_entropy: f64,
        /// Share of this batch that is classified rightly; 0 where nothing is learned from labels.
        accuracy: f64,
        /// Training images per second since the epoch began.
        images_per_second: f64,
    },
    /// An epoch is done, validation included.
    Epoch {
        /// Number of training epochs.
        epochs: usize,
        /// What the epoch gave.
        record: &'a EpochRecord,
    },
    /// The batches of an epoch are done; its validation, which is not stopped, begins.
    Validation {
        /// Training epoch, from 0.
        epoch: usize,
        /// Number of training epochs.
        epochs: usize,
    },
    /// The training goes on from a checkpoint instead of starting.
    Continued(TrainingPosition),
    /// There is a checkpoint that cannot be used; the training starts from the beginning.
    CheckpointRefused {
        /// Why the checkpoint cannot be used.
        reason: String,
    },
    /// The state is on disk.
    CheckpointWritten(TrainingPosition),
    /// The state could not be written; the training goes on.
    CheckpointFailed {
        /// Why the checkpoint could not be written.
        reason: String,
    },
}

/// Is told how a training goes, and may stop it between two batches.
pub type Observer<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// A place between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingPosition {
    /// Training epoch, from 0.
    pub epoch: usize,
    /// Number of training epochs.
    pub epochs: usize,
    /// Batches of that epoch that are done.
    pub batch: usize,
    /// Batches of an epoch.
    pub batches: usize,
}

/// One epoch of training.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochRecord {
    /// Training epoch, from 0.
    pub epoch: usize,
    /// Objective, mean over the epoch's training images.
    pub loss: f64,
    /// Mean training cross-entropy, at the end of the stimulus.
    pub cross_entropy: f64,
    /// Mean squared distance from the spontaneous state over the return window; 0 for a CNN.
    pub return_term: f64,
    /// Share of training images classified rightly (as augmented, while the weights were changing).
    pub accuracy: f64,
    /// Validation cross-entropy, at the end of the stimulus; NaN where all images diverged.
    pub validation_loss: f64,
    /// Share of validation images classified rightly; NaN where all diverged.
    pub validation_accuracy: f64,
    /// Validation images that diverged, which have no answer.
    pub validation_diverged: usize,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping, mean over steps.
    pub gradient_norm: f64,
    /// Wall-clock time of the epoch, validation included; time between an interruption and its continuation is not.
    pub seconds: f64,
    /// Time of it in which training waited for images.
    pub waiting_seconds: f64,
    /// Number of training images seen.
    pub images: usize,
}

/// Numbers of an epoch's record.
const VALUES: usize = 13;

impl EpochRecord {
    fn new(epoch: usize, images: usize) -> Self {
        let mut values = [0.0; VALUES];
        (values[0], values[1]) = (epoch as f64, images as f64);
        Self::from_values(values)
    }

    fn values(&self) -> [f64; VALUES] {
        [
            self.epoch as f64,
            self.images as f64,
            self.loss,
            self.cross_entropy,
            self.return_term,
            self.accuracy,
            self.validation_loss,
            self.validation_accuracy,
            self.validation_diverged as f64,
            self.learning_rate,
            self.gradient_norm,
            self.seconds,
            self.waiting_seconds,
        ]
    }

    fn from_values(values: [f64; VALUES]) -> Self {
        let [epoch, images, rest @ ..] = values;
        let [
            loss,
            cross_entropy,
            return_term,
            accuracy,
            validation_loss,
            validation_accuracy,
            validation_diverged,
            learning_rate,
            gradient_norm,
            seconds,
            waiting_seconds,
        ] = rest;
        Self {
            epoch: epoch as usize,
            loss,
            cross_entropy,
            return_term,
            accuracy,
            validation_loss,
            validation_accuracy,
            validation_diverged: validation_diverged as usize,
            learning_rate,
            gradient_norm,
            seconds,
            waiting_seconds,
            images: images as usize,
        }
    }
}

/// The images that a training works with.
pub struct Data<'a> {
    /// Images to learn from.
    pub train: &'a dyn Images,
    /// Images that every epoch is evaluated on, and nothing is learned from.
    pub validation: &'a dyn Images,
}

/// Sums over one batch.
pub(crate) struct StepResult {
    pub(crate) loss: f64,
    pub(crate) cross_entropy: f64,
    pub(crate) return_term: f64,
    pub(crate) correct: usize,
    pub(crate) gradient_norm: f64,
    /// Where the largest activity is (an area, or a layer), and that activity.
    pub(crate) largest: (usize, f64),
}

/// A network in training.
pub(crate) trait Trainee {
    /// Whether its device has worked so far.
    ///
    /// # Errors
    /// What went wrong on it.
    fn check(&self) -> Result<(), DeviceError>;
    /// Called before the first batch of every epoch: the place for what changes from epoch to epoch (the slope of phi,
    /// a fresh optimiser). When a training goes on within an epoch, it is called before [`restore`](Self::restore);
    /// when it goes on at the beginning of one, after. So what it sets need not be saved, unless batches change it.
    fn begin_epoch(&mut self, _epoch: usize) {}
    /// One optimiser step on a batch.
    fn step(&mut self, images: &[f32], labels: &[u32], learning_rate: f64) -> StepResult;
    /// The network as it is now, on other images. What is kept of it beside the epoch's record is part of the state.
    fn evaluate(&mut self, epoch: usize, images: &dyn Images) -> Evaluation;
    /// Writes everything that steps and evaluations change, bit for bit: parameters, running statistics, the
    /// optimiser's memory, records. Names must not begin with `fit.`.
    fn save(&self, snapshot: &mut Snapshot);
    /// Takes over what [`save`](Self::save) wrote, with whatever is derived from it. Where it fails, the caller
    /// restores a state that fits, so nothing need be undone.
    ///
    /// # Errors
    /// Where a part is missing or does not fit this network.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError>;
}

/// How far a training is.
struct TrainingState {
    epochs: usize,
    batches: usize,
    /// Records of the epochs that are done.
    records: Vec<EpochRecord>,
    /// Sums of the present epoch so far, and the time until `since`.
    record: EpochRecord,
    /// Batches of the present epoch that are done.
    batch: usize,
    /// When this process began the present epoch, or went on with it.
    since: Instant,
}

impl TrainingState {
    fn new(epochs: usize, batches: usize, images: usize) -> Self {
        Self {
            epochs,
            batches,
            records: Vec::with_capacity(epochs),
            record: EpochRecord::new(0, images),
            batch: 0,
            since: Instant::now(),
        }
    }

    fn place(&self) -> TrainingPosition {
        TrainingPosition {
            epoch: self.record.epoch,
            epochs: self.epochs,
            batch: self.batch,
            batches: self.batches,
        }
    }

    /// Wall-clock time of the present epoch so far.
    fn seconds(&self) -> f64 {
        self.record.seconds + self.since.elapsed().as_secs_f64()
    }

    fn begin_next_epoch(&mut self, done: EpochRecord) {
        self.record = EpochRecord::new(done.epoch + 1, done.images);
        self.records.push(done);
        self.batch = 0;
        self.since = Instant::now();
    }

    fn save(&self, snapshot: &mut Snapshot) {
        let place = [self.record.epoch, self.epochs, self.batch, self.batches];
        snapshot.put("fit.place", &place.map(|value| value as u64));
        let present = EpochRecord {
            seconds: self.seconds(),
            ..self.record.clone()
        };
        let records = self.records.iter().chain([&present]);
        let values: Vec<f64> = records.flat_map(EpochRecord::values).collect();
        snapshot.put("fit.records", &values);
    }

    /// The course that a snapshot holds, where it is of a training of `epochs` times `batches` on that many images.
    fn read(snapshot: &Snapshot, epochs: usize, batches: usize, images: usize) -> Result<Self, String> {
        let place: Vec<u64> = snapshot.get("fit.place", 4).map_err(|error| error.to_string())?;
        let records: Vec<[f64; VALUES]> = snapshot.rows("fit.records").map_err(|error| error.to_string())?;
        if [place[1], place[3]] != [epochs as u64, batches as u64] {
            return Err(format!(
                "it is of {} epochs of {} batches, this training has {epochs} of {batches}",
                place[1], place[3]
            ));
        }
        let [epoch, batch] = [place[0], place[2]].map(|value| value as usize);
        let mut records: Vec<EpochRecord> = records.into_iter().map(EpochRecord::from_values).collect();
        let record = records
            .pop()
            .filter(|record| record.epoch == epoch && record.images == images);
        match record {
            Some(record) if records.len() == epoch && epoch < epochs && batch <= batches => Ok(Self {
                epochs,
                batches,
                records,
                record,
                batch,
                since: Instant::now(),
            }),
            _ => Err(format!("its records are not those of epoch {}", epoch + 1)),
        }
    }
}

/// Brings the trainee to its last checkpoint, where there is one; `Err` says why it cannot be used.
fn resume(
    trainee: &mut dyn Trainee,
    checkpoints: Option<&Checkpoints<'_>>,
    state: &mut TrainingState,
) -> Result<bool, String> {
    let snapshot = match checkpoints.map(Checkpoints::read) {
        None | Some(StoredCheckpoint::Nothing) => return Ok(false),
        Some(StoredCheckpoint::Refused(reason)) => return Err(reason),
        Some(StoredCheckpoint::Usable(snapshot)) => snapshot,
    };
    let found = TrainingState::read(&snapshot, state.epochs, state.batches, state.record.images)?;
    let mut initial = Snapshot::default();
    trainee.save(&mut initial);
    if found.batch > 0 {
        trainee.begin_epoch(found.record.epoch);
    }
    if let Err(error) = trainee.restore(&snapshot) {
        // What the trainee has just written fits it.
        let _ = trainee.restore(&initial);
        return Err(error.to_string());
    }
    *state = found;
    Ok(true)
}

/// Writes checkpoints when they are due.
struct Keeper<'a> {
    checkpoints: Option<&'a Checkpoints<'a>>,
    last: Instant,
}

impl Keeper<'_> {
    fn is_due(&self) -> bool {
        self.checkpoints
            .is_some_and(|checkpoints| self.last.elapsed() >= checkpoints.every)
    }

    /// Between two batches: writes a checkpoint where one is due, stops where `flow` or the observer say so.
    fn pause(
        &mut self,
        flow: ControlFlow<()>,
        state: &TrainingState,
        trainee: &dyn Trainee,
        observer: &mut Observer<'_>,
    ) -> Result<(), TrainError> {
        let mut stop = flow.is_break();
        let mut checkpoint = false;
        if let Some(checkpoints) = self.checkpoints
            && (stop || self.is_due())
        {
            let mut snapshot = Snapshot::default();
            state.save(&mut snapshot);
            trainee.save(&mut snapshot);
            let written = checkpoints.write(&snapshot);
            // Also after a failure: a full disk is not asked again after every batch.
            self.last = Instant::now();
            checkpoint = written.is_ok();
            let progress = match written {
                Ok(()) => Progress::CheckpointWritten(state.place()),
                Err(error) => Progress::CheckpointFailed {
                    reason: error.to_string(),
                },
            };
            stop |= observer(progress).is_break();
        }
        match stop {
            false => Ok(()),
            true => Err(TrainError::Stopped {
                records: state.records.clone(),
                checkpoint,
            }),
        }
    }
}

/// All epochs. The order of the images depends on the seed and the epoch alone.
pub(crate) fn fit(
    trainee: &mut dyn Trainee,
    config: &Fit,
    data: &Data<'_>,
    checkpoints: Option<&Checkpoints<'_>>,
    observer: &mut Observer<'_>,
) -> Result<Vec<EpochRecord>, TrainError> {
    let count = data.train.len();
    let (epochs, batches) = (config.epochs, count.div_ceil(config.batch));
    let mut state = TrainingState::new(epochs, batches, count);
    let resumed = resume(trainee, checkpoints, &mut state);
    let continued = matches!(resumed, Ok(true));
    let flow = match resumed {
        Ok(false) => ControlFlow::Continue(()),
        Ok(true) => observer(Progress::Continued(state.place())),
        Err(reason) => observer(Progress::CheckpointRefused { reason }),
    };
    if flow.is_break() {
        return Err(TrainError::Stopped {
            records: state.records,
            checkpoint: continued,
        });
    }
    let mut keeper = Keeper {
        checkpoints,
        last: Instant::now(),
    };
    let batches_to_come = Batches {
        images: data.train,
        seed: config.seed,
        epochs,
        batches,
    };
    batches_to_come.prepare((state.record.epoch, state.batch), |next| {
        run(trainee, config, data, state, &mut keeper, next, observer)
    })
}

/// What is left of a course; `next` gives one prepared batch after the other.
fn run(
    trainee: &mut dyn Trainee,
    config: &Fit,
    data: &Data<'_>,
    mut state: TrainingState,
    keeper: &mut Keeper<'_>,
    next: &mut dyn FnMut() -> Prepared,
    observer: &mut Observer<'_>,
) -> Result<Vec<EpochRecord>, TrainError> {
    let (epochs, batches, count) = (state.epochs, state.batches, state.record.images);
    while state.record.epoch < epochs {
        let epoch = state.record.epoch;
        if state.batch == 0 {
            trainee.begin_epoch(epoch);
        }
        while state.batch < batches {
            let batch = state.batch;
            let asked = Instant::now();
            let Prepared { images, labels } = next();
            state.record.waiting_seconds += asked.elapsed().as_secs_f64();
            let step = epoch * batches + batch;
            let rate = learning_rate(
                config.learning_rate,
                config.schedule,
                config.warm_up,
                step,
                batches,
                epochs,
            );
            let result = trainee.step(&images, &labels, rate);
            trainee.check()?;
            for (what, value) in [("the loss", result.loss), ("the gradient", result.gradient_norm)] {
                if !value.is_finite() {
                    return Err(TrainError::NonFinite {
                        what,
                        epoch,
                        step: batch,
                        largest: result.largest.1,
                        place: format!("area {}", result.largest.0),
                    });
                }
            }
            let share = labels.len() as f64 / count as f64;
            let record = &mut state.record;
            record.loss += share * result.loss;
            record.cross_entropy += share * result.cross_entropy;
            record.return_term += share * result.return_term;
            record.accuracy += result.correct as f64 / count as f64;
            record.gradient_norm += result.gradient_norm / batches as f64;
            record.learning_rate = rate;
            state.batch += 1;
            let seen = (batch + 1) * count / batches;
            let flow = observer(Progress::Batch {
                epoch,
                epochs,
                batch,
                batches,
                objective: result.loss,
                cross_entropy: result.cross_entropy,
                accuracy: result.correct as f64 / labels.len() as f64,
                images_per_second: seen as f64 / state.seconds(),
            });
            keeper.pause(flow, &state, trainee, observer)?;
        }
        // A request to stop is heeded behind it.
        let _ = observer(Progress::Validation { epoch, epochs });
        let evaluation = trainee.evaluate(epoch, data.validation);
        trainee.check()?;
        let record = EpochRecord {
            validation_loss: evaluation.answers.cross_entropy,
            validation_accuracy: evaluation.answers.accuracy,
            validation_diverged: evaluation.answers.diverged,
            seconds: state.seconds(),
            ..state.record.clone()
        };
        let flow = observer(Progress::Epoch {
            epochs,
            record: &record,
        });
        state.begin_next_epoch(record);
        // What is complete is not stopped.
        if epoch + 1 < epochs {
            keeper.pause(flow, &state, trainee, observer)?;
        }
    }
    Ok(state.records)
}
