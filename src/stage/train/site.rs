//! Where a network is trained, and with how much memory.

use crate::stage::gpu::{gpu, recording_note};
use cords::device::cuda::{Gpu, Hardware, unique_id, with_images_that_fit};
use cords::device::{Cpu, Device, DeviceError, Peers};
use cords::learn::{
    Checkpoints, CnnConfig, Data, EpochRecord, FinalStates, Fit, Observer, TrainError, TrainedCnn, TrainedCordsNet,
    TrainedInverse, Training,
};
use cords::net::{Euler, Graph, Parameters};

use super::params::{Params, Phase};
use crate::stage::{Context, StageError};

/// A training in all its parts.
pub(super) struct Job<'a> {
    pub(super) params: &'a Params,
    pub(super) architecture: Graph,
    pub(super) euler: Euler,
    /// What it goes on from.
    pub(super) start: Option<&'a Parameters<f32>>,
    pub(super) fit: &'a Fit,
    pub(super) data: Data<'a>,
    pub(super) checkpoints: Option<&'a Checkpoints>,
    pub(super) final_states: Option<&'a FinalStates>,
}

/// What came of it.
pub(super) enum Trained {
    Cnn(TrainedCnn),
    Inverse(TrainedInverse),
    CordsNet(TrainedCordsNet),
}

impl Trained {
    /// Records of all epochs that were trained.
    pub(super) fn epochs(&self) -> &[EpochRecord] {
        match self {
            Self::Cnn(trained) => &trained.epochs,
            Self::Inverse(trained) => &trained.epochs,
            Self::CordsNet(trained) => &trained.epochs,
        }
    }
}

/// A device, and bytes that a gradient step may take there.
pub(super) enum Site {
    Cpu(Option<u64>),
    Gpu(Hardware, u64),
}

impl Site {
    /// Opens what the stage was given, and says so.
    pub(super) fn open(params: &Params, context: &mut Context) -> Result<Self, StageError> {
        const GIB: f64 = (1u64 << 30) as f64;
        let asked = params.memory_budget.map(|gib| (gib * GIB) as u64);
        match gpu(context, params.precision)? {
            None => Ok(Self::Cpu(asked.or_else(|| context.share_of_memory()))),
            Some(hardware) => {
                let hardware = among_ranks(hardware, context)?;
                let allowed = [asked, context.gpu_memory].into_iter().flatten().min();
                let budget = hardware.budget(allowed)?;
                // All plan alike, with what the fullest of them has.
                let budgets = hardware.gather_numbers(&[budget as f64])?;
                let least = budgets.into_iter().fold(f64::INFINITY, f64::min);
                Ok(Self::Gpu(hardware, least as u64))
            }
        }
    }

    /// What became of the trials that a GPU was to record, where it was one.
    pub(super) fn recording_note(&self) -> Option<String> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(hardware, _) => recording_note(&hardware.take_recording()),
        }
    }

    pub(super) fn train(&self, job: &Job<'_>, observer: &mut Observer<'_>) -> Result<Trained, StageError> {
        match self {
            Self::Cpu(budget) => Ok(job.train(&Cpu, *budget, observer)?),
            Self::Gpu(hardware, budget) => {
                // What a step takes is planned within the budget.
                let images = job.fit.batch.div_ceil(hardware.peers().world);
                let trained = with_images_that_fit(hardware, images, None, |device| {
                    // Not what became of an attempt that did not fit.
                    hardware.take_recording();
                    job.train(device, Some(*budget), observer)
                });
                match trained {
                    Ok((trained, _)) => Ok(trained),
                    Err(error @ TrainError::Device(DeviceError::Memory { .. })) => Err(StageError::from(error)
                        .hint("train with `history: bfloat16`, or see with `nvidia-smi` what else uses the GPU")),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

/// The GPU as one of those that the stage has, each of which takes a part of every batch.
fn among_ranks(hardware: Hardware, context: &mut Context) -> Result<Hardware, StageError> {
    let (rank, world) = (context.ranks.rank, context.ranks.world);
    if world == 1 {
        return Ok(hardware);
    }
    let id = context.ranks.meet(unique_id)?;
    let hardware = hardware.with_peers(Peers { rank, world }, &id)?;
    context.note(format!("on {world} GPUs, each with its part of every batch"));
    Ok(hardware)
}

impl Job<'_> {
    fn train<D: Device<f32>>(
        &self,
        device: &D,
        budget: Option<u64>,
        observer: &mut Observer<'_>,
    ) -> Result<Trained, TrainError> {
        let Self {
            params,
            architecture,
            euler,
            data,
            checkpoints,
            ..
        } = self;
        let (fit, checkpoints, states) = (self.fit.clone(), *checkpoints, self.final_states);
        match (params.phase, self.start) {
            (Phase::Cnn, _) => {
                let config = CnnConfig { fit };
                let training = Training::new(architecture, &config, data).checkpoints(checkpoints);
                training
                    .final_states(states)
                    .observer(observer)
                    .run(device)
                    .map(Trained::Cnn)
            }
            (Phase::Invert, Some(start)) => {
                let config = params.inversion(fit);
                let training = Training::new(architecture, &config, data).euler(euler);
                let training = training
                    .checkpoints(checkpoints)
                    .final_states(states)
                    .observer(observer);
                training.run(device, start).map(Trained::Inverse)
            }
            (_, start) => {
                let config = params.trials(fit, budget);
                let training = Training::new(architecture, &config, data).euler(euler);
                let training = training
                    .checkpoints(checkpoints)
                    .final_states(states)
                    .observer(observer);
                let trained = match start {
                    None => training.run(device),
                    Some(start) => training.run_from(device, start, params.phi()),
                };
                trained.map(Trained::CordsNet)
            }
        }
    }
}
