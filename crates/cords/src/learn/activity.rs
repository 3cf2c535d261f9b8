//! A CordsNet that learns from a gradient at its activity, as another model that reads it hands it back.

use super::history::HistoryPrecision;
use super::memory::{Memory, Plan};
use super::snapshot::{Number, Snapshot, SnapshotError};
use super::trajectory::{Gradients, Period, Trajectory};
use super::{Optimiser, OptimiserKind, OptimiserSettings, TrainError, clip_gradient_norm, gradient::zero_gradients};
use crate::Real;
use crate::device::Device;
use crate::interrupt::{self, Stop};
use crate::net::{Connections, CordsNet, Weights, cordsnet_others};

/// What a batch of images is shown for some steps: images `[batch, channels, side, side]`, or nothing.
pub(crate) struct StimulusPeriod<T> {
    pub(crate) images: Option<Vec<T>>,
    pub(crate) steps: usize,
}

/// The gradient at the activity: `at(image, step, area, out)` writes it for one image of the batch,
/// `[channels, side, side]`, after `step` steps from the spontaneous state on, and says whether there is any; `out`
/// comes as zeros.
pub type GradientAt<'a, T> = dyn Fn(usize, usize, usize, &mut [T]) -> bool + Sync + 'a;

/// Parameters of a network in training, gathered gradients, and the optimiser's memory. No gradient goes through the
/// spontaneous state, as in the published objective.
pub(crate) struct ActivityLearner<T: Real, D: Device<T>> {
    weights: Weights<T, D>,
    optimiser: Optimiser<T, D>,
    sums: Gradients<D::Buffer>,
    memory: Memory,
}

impl<T: Real, D: Device<T>> ActivityLearner<T, D> {
    /// Begins with the network's parameters, by Adam.
    pub(crate) fn new(net: &CordsNet<T, D>, memory: Memory) -> Self {
        let connections = net.connections();
        let (device, architecture) = (&connections.device, &connections.architecture);
        let weights = Weights::upload(device, architecture, net.parameters(), cordsnet_others(architecture));
        Self {
            optimiser: Optimiser::of(
                device,
                OptimiserSettings::new(OptimiserKind::Adam, 0.0),
                &weights.buffers,
            ),
            sums: zero_gradients(connections),
            weights,
            memory,
        }
    }

    /// Adds the gradient of a loss that reads the activity of `areas` while `batch` images are shown, from the
    /// spontaneous state after `spontaneous_steps` on.
    ///
    /// # Errors
    /// [`TrainError::Memory`] where a group of images does not fit, [`TrainError::Device`].
    pub(crate) fn add(
        &mut self,
        net: &CordsNet<T, D>,
        spontaneous_steps: usize,
        batch: usize,
        shown: &[StimulusPeriod<T>],
        areas: &[usize],
        at: &GradientAt<'_, T>,
    ) -> Result<(), TrainError> {
        let connections = net.connections();
        let device = &connections.device;
        let parts: Vec<Period> = shown
            .iter()
            .map(|shown| Period {
                steps: shown.steps,
                shows: shown.images.is_some(),
            })
            .collect();
        let steps = parts.iter().map(|part| part.steps).sum();
        let plan = Plan::new(connections, (steps, 0), batch, self.memory, HistoryPrecision::Float32)?;
        let spontaneous = connections.spontaneous(spontaneous_steps);
        let image_len = connections.architecture.image_len();
        let (size, stop) = (device.group_images(), interrupt::current());
        let mut groups: Vec<(usize, Option<Trajectory<T, D>>)> =
            (0..batch).step_by(size).map(|first| (first, None)).collect();
        // Waves bound the memory; sums go group by group.
        for wave in groups.chunks_mut(plan.groups) {
            device.for_each(wave, |_, (first, trajectory)| {
                let count = size.min(batch - *first);
                let mut own = Trajectory::new(connections, &parts, count, plan);
                for (part, shown) in shown.iter().enumerate() {
                    if let Some(images) = &shown.images {
                        own.show(connections, part, &images[*first * image_len..][..count * image_len]);
                    }
                }
                own.start_from(device, &spontaneous);
                there_and_back(connections, &mut own, *first, (areas, at), &stop);
                own.finish(device);
                *trajectory = Some(own);
            });
            for (_, trajectory) in wave {
                let Some(trajectory) = trajectory.take() else { continue };
                let parts = trajectory.gradients();
                let sums = self.sums.weights.iter_mut().chain(&mut self.sums.biases);
                for (part, sum) in parts.weights.iter().chain(&parts.biases).zip(sums) {
                    device.add(part, sum);
                }
            }
        }
        Ok(device.check()?)
    }

    /// Moves network and parameters one step against what was added since the last step. Returns the norm of that
    /// before it is shortened to `clip`; where it is not finite, nothing is moved.
    pub(crate) fn step(&mut self, net: &mut CordsNet<T, D>, learning_rate: f64, clip: f64) -> f64 {
        let device = net.connections().device.clone();
        let mut gradients = self.weights.gradients(&device, &self.sums.weights, &self.sums.biases);
        let norm = clip_gradient_norm(&device, Some(clip), &mut gradients);
        if norm.is_finite() {
            self.optimiser
                .step(learning_rate, &gradients, &mut self.weights.buffers);
            self.weights
                .bound_time_constants(&device, net.architecture(), net.euler().dt_ms);
            net.take(&self.weights);
        }
        self.clear(&device);
        norm
    }

    fn clear(&mut self, device: &D) {
        for sum in self.sums.weights.iter_mut().chain(&mut self.sums.biases) {
            device.clear(sum);
        }
    }

    /// Parameters and the optimiser's memory, bit for bit.
    pub(crate) fn save(&self, net: &CordsNet<T, D>, snapshot: &mut Snapshot)
    where
        T: Number,
    {
        snapshot.put_weights(&net.connections().device, &self.weights);
        self.optimiser.save(snapshot);
    }

    /// Takes over what [`save`](Self::save) wrote.
    pub(crate) fn restore(&mut self, net: &mut CordsNet<T, D>, snapshot: &Snapshot) -> Result<(), SnapshotError>
    where
        T: Number,
    {
        let device = net.connections().device.clone();
        snapshot.fill_weights(&device, &mut self.weights)?;
        self.optimiser.restore(snapshot)?;
        net.take(&self.weights);
        Ok(())
    }

    /// What was added since the last step, by parameter.
    #[cfg(test)]
    pub(crate) fn gradients(&self, net: &CordsNet<T, D>) -> crate::net::Parameters<T> {
        super::gradient::named_gradients(&net.connections().device, net.parameters(), &self.weights, &self.sums)
    }
}

/// A group's trial, its first image being number `first` of the batch, forward and, with a gradient at its activity,
/// backward.
pub(super) fn there_and_back<T: Real, D: Device<T>>(
    connections: &Connections<T, D>,
    trial: &mut Trajectory<T, D>,
    first: usize,
    (areas, at): (&[usize], &GradientAt<'_, T>),
    stop: &Stop,
) {
    let (device, count) = (&connections.device, trial.batch());
    trial.forward(connections, |_, _| stop.check());
    let mut given = connections.buffers(count);
    trial.backward(
        connections,
        |_| false,
        |_, moment, gradient| {
            stop.check();
            for area in areas {
                let maps = connections.maps(*area, count);
                let units = maps.len() / count;
                let mut host = vec![T::ZERO; maps.len()];
                let mut any = false;
                for (image, out) in host.chunks_exact_mut(units).enumerate() {
                    any |= at(first + image, moment.step, *area, out);
                }
                if any {
                    device.upload_maps(maps, &host, &mut given[*area]);
                    device.add(&given[*area], &mut gradient[*area]);
                }
            }
        },
    );
}
