//! Training on images, epoch by epoch: what the training loop carries to its end for every kind of network.
//!
//! What a batch does is the [`Trainee`]'s. The state here and the trainee's make up a checkpoint.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::ahead::{Batches, Prepared, load_ahead};
use super::snapshot::{Snapshot, SnapshotError, record};
use super::training_loop::{CheckpointProgress, Next, Resumable, TrainingLoop};
use super::{Batch, Checkpoints, Evaluation, FinalStates, Fit, Keep, TrainError, learning_rate};
use crate::data::{DataError, Images};
use crate::device::{DeviceError, Peers};

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
        /// Share of this batch that is classified rightly; 0 where nothing is learned from labels. Of mixed images as
        /// in [`EpochRecord::accuracy`].
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
    /// The state was read from a checkpoint or written to one, or could not be.
    Checkpoint(CheckpointProgress<TrainingPosition>),
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochRecord {
    /// Training epoch, from 0.
    pub epoch: usize,
    /// Objective, mean over the epoch's training images.
    pub loss: f64,
    /// Mean training cross-entropy, at the end of the stimulus, with mixed images' targets; these have an entropy of
    /// their own, below which it cannot fall.
    pub cross_entropy: f64,
    /// Mean squared distance from the spontaneous state over the return window; 0 for a CNN.
    pub return_term: f64,
    /// Share of training images classified rightly (as augmented, while the weights were changing). An image that is
    /// mixed of two counts with the weight of the class that was answered in its target
    /// ([`Target::share`](crate::device::Target::share)), so that a network that names the heavier class of every image
    /// is below 1.
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

record!(EpochRecord {
    epoch,
    images,
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
});

impl EpochRecord {
    /// Of an epoch before its first batch.
    fn of(epoch: usize, images: usize) -> Self {
        Self {
            epoch,
            images,
            ..Self::default()
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

/// What one batch gives, whatever this device's part of it.
pub(crate) struct StepResult {
    pub(crate) loss: f64,
    pub(crate) cross_entropy: f64,
    pub(crate) return_term: f64,
    /// Shares of the answers in the images' targets, summed.
    pub(crate) right: f64,
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
    /// Which of the devices that train it together its own is.
    fn peers(&self) -> Peers;
    /// Numbers of every peer, as many each, in the order of ranks.
    fn of_all_ranks(&self, own: &[f64]) -> Vec<f64>;
    /// Called before the first batch of every epoch: the place for what changes from epoch to epoch (the slope of phi,
    /// a fresh optimiser). When a training goes on within an epoch, it is called before [`restore`](Self::restore);
    /// when it goes on at the beginning of one, after. So what it sets need not be saved, unless batches change it.
    fn begin_epoch(&mut self, _epoch: usize) {}
    /// Whether it learns from classes. Where it does not, images are not mixed with each other, as in the published
    /// phase `invert`.
    fn learns_classes(&self) -> bool {
        true
    }
    /// One optimiser step on a batch of `whole` images, of which `part` is this device's; it may be empty.
    fn step(&mut self, part: Batch<'_, f32>, whole: usize, learning_rate: f64) -> StepResult;
    /// The network as it is now, on other images. What is kept of it beside the epoch's record is part of the state.
    ///
    /// # Errors
    /// Where an image cannot be read.
    fn evaluate(&mut self, epoch: usize, images: &dyn Images) -> Result<Evaluation, DataError>;
    /// Writes everything that steps and evaluations change, bit for bit: parameters, running statistics, the
    /// optimiser's memory, records. Names must not begin with `fit.` or `best.`; those of what the trained network is
    /// made of, and they alone, begin with `parameter.` or `running.`.
    fn save(&self, snapshot: &mut Snapshot);
    /// Takes over what [`save`](Self::save) wrote, with whatever is derived from it. Where it fails, the caller
    /// restores a state that fits, so nothing need be undone.
    ///
    /// # Errors
    /// Where a part is missing or does not fit this network.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError>;
}

/// A network in training on images.
struct ImageTraining<'a> {
    trainee: &'a mut dyn Trainee,
    config: &'a Fit,
    data: &'a Data<'a>,
    observer: &'a mut Observer<'a>,
    position: TrainingPosition,
    /// Records of the epochs that are done.
    records: Vec<EpochRecord>,
    /// The network of the best epoch so far, where that is kept.
    best: Snapshot,
    /// Sums of the present epoch so far, and the time until `since`.
    record: EpochRecord,
    /// When this process began the present epoch, or went on with it.
    since: Instant,
}

impl ImageTraining<'_> {
    /// Wall-clock time of the present epoch so far.
    fn seconds(&self) -> f64 {
        self.record.seconds + self.since.elapsed().as_secs_f64()
    }

    /// The network as it is now.
    fn network(&self) -> Snapshot {
        let mut state = Snapshot::default();
        self.trainee.save(&mut state);
        let mut network = Snapshot::default();
        for prefix in NETWORK {
            network.put_all(prefix, state.part(prefix));
        }
        network
    }

    /// Goes on from the end of a shorter training that was the same, where there is one.
    fn grow(&mut self, states: &FinalStates) {
        let Some((epoch, mut state)) = states.read(self.position.epochs) else {
            return;
        };
        let Ok(place) = state.get::<u64>(PLACE, 4) else {
            return;
        };
        if place[0] != epoch as u64 || place[2] != 0 {
            return;
        }
        state.put(PLACE, &[place[0], self.position.epochs as u64, 0, place[3]]);
        let mut initial = Snapshot::default();
        self.save(&mut initial);
        match self.restore(&state) {
            // Whoever asks to stop now is asked again after the first batch.
            Ok(()) => {
                let _ = self.tell(CheckpointProgress::Grown(self.position));
            }
            // Of other images, for one. What the training has just written fits it.
            Err(_) => {
                let _ = self.restore(&initial);
            }
        }
    }

    /// Leaves the state that the training ends with to longer ones.
    fn keep_state(&mut self, states: &FinalStates) {
        let mut state = Snapshot::default();
        self.save(&mut state);
        if let Err(error) = states.write(self.position.epoch, &state) {
            let _ = self.tell(CheckpointProgress::Failed(error.to_string()));
        }
    }

    /// Gives the trainee the network of the best epoch, in place of that of the last.
    fn take_best(&mut self) {
        let mut state = Snapshot::default();
        self.trainee.save(&mut state);
        state.put_all("", std::mem::take(&mut self.best));
        self.trainee.restore(&state).expect("the trainee has written it");
    }
}

/// The training's place in its state.
const PLACE: &str = "fit.place";
/// How the names of what a trained network is made of begin, in a trainee's state.
const NETWORK: [&str; 2] = ["parameter.", "running."];
/// How those of the best epoch's network begin, in the state of a training.
const BEST: &str = "best.";

impl Resumable for ImageTraining<'_> {
    type Position = TrainingPosition;
    /// Images, and how long they were waited for.
    type Batch = (Result<Prepared, DataError>, Duration);
    type Error = TrainError;

    fn next(&self) -> Next {
        let position = self.position;
        let is_over = || position.batch == 0 && self.config.is_over(&self.records);
        if position.epoch == position.epochs || is_over() {
            Next::End
        } else if position.batch < position.batches {
            Next::GradientStep
        } else {
            Next::Validation
        }
    }

    fn position(&self) -> TrainingPosition {
        self.position
    }

    fn step(&mut self, (prepared, waited): Self::Batch) -> Result<ControlFlow<()>, TrainError> {
        let prepared = prepared?;
        let Prepared {
            images, targets, whole, ..
        } = &prepared;
        let TrainingPosition {
            epoch,
            epochs,
            batch,
            batches,
        } = self.position;
        if batch == 0 {
            self.trainee.begin_epoch(epoch);
        }
        let (base, schedule, warm_up) = (self.config.learning_rate, self.config.schedule, self.config.warm_up);
        let rate = learning_rate(base, schedule, warm_up, epoch * batches + batch, batches, epochs);
        let result = self.trainee.step(Batch { images, targets }, *whole, rate);
        self.trainee.check()?;
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
        let record = &mut self.record;
        let count = record.images;
        let share = *whole as f64 / count as f64;
        record.waiting_seconds += waited.as_secs_f64();
        record.loss += share * result.loss;
        record.cross_entropy += share * result.cross_entropy;
        record.return_term += share * result.return_term;
        record.accuracy += result.right / count as f64;
        record.gradient_norm += result.gradient_norm / batches as f64;
        record.learning_rate = rate;
        self.position.batch += 1;
        let seen = (batch + 1) * count / batches;
        let images_per_second = seen as f64 / self.seconds();
        Ok((self.observer)(Progress::Batch {
            epoch,
            epochs,
            batch,
            batches,
            objective: result.loss,
            cross_entropy: result.cross_entropy,
            accuracy: result.right / *whole as f64,
            images_per_second,
        }))
    }

    fn validate(&mut self) -> Result<ControlFlow<()>, TrainError> {
        let TrainingPosition { epoch, epochs, .. } = self.position;
        let _ = (self.observer)(Progress::Validation { epoch, epochs });
        let evaluation = self.trainee.evaluate(epoch, self.data.validation)?;
        self.trainee.check()?;
        let seconds = self.seconds();
        let next = EpochRecord::of(epoch + 1, self.record.images);
        let record = EpochRecord {
            validation_loss: evaluation.answers.cross_entropy,
            validation_accuracy: evaluation.answers.accuracy,
            validation_diverged: evaluation.answers.diverged,
            seconds,
            ..std::mem::replace(&mut self.record, next)
        };
        let flow = (self.observer)(Progress::Epoch {
            epochs,
            record: &record,
        });
        self.records.push(record);
        if self.config.keep == Keep::Best && self.config.kept(&self.records) == Some(epoch) {
            self.best = self.network();
        }
        (self.position.epoch, self.position.batch) = (epoch + 1, 0);
        self.since = Instant::now();
        Ok(flow)
    }

    fn is_first(&self) -> bool {
        self.trainee.peers().is_first()
    }

    fn agree(&mut self, stop: bool, written: bool) -> Result<[bool; 2], TrainError> {
        let peers = self.trainee.peers();
        if peers.world == 1 {
            return Ok([stop, written]);
        }
        let said = [stop, written].map(|said| f64::from(u8::from(said)));
        let place = [self.position.epoch, self.position.batch].map(|number| number as f64);
        let all = self.trainee.of_all_ranks(&[said, place].concat());
        self.trainee.check()?;
        let elsewhere = |theirs: &&[f64]| theirs[2..] != place;
        if let Some(theirs) = all.chunks(4).find(elsewhere) {
            return Err(TrainError::Device(DeviceError::Failed {
                call: "training on several GPUs".to_owned(),
                reason: format!(
                    "rank {} is in epoch {}, batch {}, another one in epoch {}, batch {}: they have not read the same \
                     checkpoint",
                    peers.rank, place[0], place[1], theirs[2], theirs[3]
                ),
            }));
        }
        Ok([all[0] > 0.0, all[1] > 0.0])
    }

    fn tell(&mut self, progress: CheckpointProgress<TrainingPosition>) -> ControlFlow<()> {
        (self.observer)(Progress::Checkpoint(progress))
    }

    fn stopped(&self, checkpoint: bool) -> TrainError {
        TrainError::Stopped {
            records: self.records.clone(),
            checkpoint,
        }
    }

    fn save(&self, snapshot: &mut Snapshot) {
        let TrainingPosition {
            epoch,
            epochs,
            batch,
            batches,
        } = self.position;
        snapshot.put(PLACE, &[epoch, epochs, batch, batches].map(|value| value as u64));
        let present = EpochRecord {
            seconds: self.seconds(),
            ..self.record.clone()
        };
        snapshot.put_records("fit.records", self.records.iter().chain([&present]));
        snapshot.put_all(BEST, self.best.clone());
        self.trainee.save(snapshot);
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let TrainingPosition { epochs, batches, .. } = self.position;
        let place: Vec<u64> = snapshot.get(PLACE, 4)?;
        let mut records: Vec<EpochRecord> = snapshot.records("fit.records")?;
        let wrong = |problem| Err(SnapshotError::Content { problem });
        if [place[1], place[3]] != [epochs as u64, batches as u64] {
            return wrong(format!(
                "it is of {} epochs of {} batches, this training has {epochs} of {batches}",
                place[1], place[3]
            ));
        }
        let [epoch, batch] = [place[0], place[2]].map(|value| value as usize);
        let images = self.record.images;
        let fits = |record: &EpochRecord| record.epoch == epoch && record.images == images;
        let record = records.pop().filter(fits);
        let possible = records.len() == epoch && epoch < epochs && batch <= batches;
        let Some(record) = record.filter(|_| possible) else {
            return wrong(format!("its records are not those of epoch {}", epoch + 1));
        };
        let best = snapshot.part(BEST);
        let has_best = self.config.keep == Keep::Best && epoch > 0;
        if has_best == (best == Snapshot::default()) {
            return wrong("it does not keep the epoch that this training does".to_owned());
        }
        if batch > 0 {
            self.trainee.begin_epoch(epoch);
        }
        self.trainee.restore(snapshot)?;
        self.best = best;
        (self.position.epoch, self.position.batch) = (epoch, batch);
        (self.records, self.record, self.since) = (records, record, Instant::now());
        Ok(())
    }
}

/// What of a training outlives its process.
#[derive(Clone, Copy)]
pub(crate) struct TrainingFiles<'a> {
    pub(crate) checkpoints: Option<&'a Checkpoints>,
    pub(crate) final_states: Option<&'a FinalStates>,
}

/// All epochs. The order of the images depends on the seed and the epoch alone.
pub(crate) fn fit(
    trainee: &mut dyn Trainee,
    config: &Fit,
    data: &Data<'_>,
    kept: TrainingFiles<'_>,
    observer: &mut Observer<'_>,
) -> Result<Vec<EpochRecord>, TrainError> {
    let count = data.train.len();
    let (epochs, batches) = (config.epochs, count.div_ceil(config.batch));
    let mut training = ImageTraining {
        trainee,
        config,
        data,
        observer,
        position: TrainingPosition {
            epoch: 0,
            epochs,
            batch: 0,
            batches,
        },
        records: Vec::with_capacity(epochs),
        best: Snapshot::default(),
        record: EpochRecord::of(0, count),
        since: Instant::now(),
    };
    if let Some(states) = kept.final_states
        && !kept.checkpoints.is_some_and(Checkpoints::is_there)
    {
        training.grow(states);
    }
    let mut training_loop = TrainingLoop::begin(&mut training, kept.checkpoints)?;
    let TrainingPosition { epoch, batch, .. } = training_loop.training().position();
    let batches_to_come = Batches {
        images: count,
        seed: config.seed,
        epochs,
        batches,
        mixes: training_loop.training().trainee.learns_classes(),
        peers: training_loop.training().trainee.peers(),
    };
    load_ahead(data.train, batches_to_come.requests((epoch, batch)), |next| {
        training_loop.run(&mut |_| {
            let asked = Instant::now();
            (next(), asked.elapsed())
        })
    })?;
    if let Some(states) = kept.final_states.filter(|_| training.is_first()) {
        training.keep_state(states);
    }
    if config.keep == Keep::Best {
        training.take_best();
    }
    Ok(training.records)
}
