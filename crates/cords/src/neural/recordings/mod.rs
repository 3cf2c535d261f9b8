//! Recordings: responses of neurons to repeated presentations of stimuli, in time bins.

mod assembly;
mod file;
mod filters;
mod merge;
mod netcdf;
mod npz;
mod nwb;
mod presentations;

use faer::Mat;
use rayon::prelude::*;

use super::NeuralError;
use super::scores::{mean_of_present, split_half};
use super::splits::SplitOptions;

pub use merge::{Merged, merge};
pub use nwb::NwbOptions;
pub use presentations::{Presentations, from_presentations, plan_size, running_numbers};

/// A recorded neuron, multi-unit site or electrode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Neuron {
    /// What it is called.
    pub id: String,
    /// Brain region of the neuron; empty where it is not known.
    pub region: String,
    /// The animal that it was recorded in; empty where it is not known.
    pub animal: String,
    /// The session that it was recorded in; empty where it is not known.
    pub session: String,
}

/// Responses `[stimulus, repetition, neuron, bin]`. Stimuli are in the order of their ids: by number where all are
/// whole numbers, else by their bytes, so that splits do not depend on the order of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Recordings {
    /// Id of each stimulus.
    pub stimuli: Vec<String>,
    /// Class of each stimulus, or nothing where classes are not known.
    pub objects: Vec<String>,
    /// Neurons in the order of the responses.
    pub neurons: Vec<Neuron>,
    /// Start and end of each time bin in ms after stimulus onset.
    pub bins_ms: Vec<[f64; 2]>,
    /// Largest number of presentations of a stimulus.
    pub repetitions: usize,
    /// `[stimulus, repetition, neuron, bin]`, NaN where a presentation is missing.
    pub responses: Vec<f64>,
}

impl Recordings {
    /// Checks sizes and ids, and brings the stimuli into their order.
    ///
    /// # Errors
    /// [`NeuralError::Recordings`] where sizes contradict each other, a stimulus is there twice or a neuron twice
    /// within a session and animal, a bin ends before it starts, or a value is infinite.
    pub fn new(mut self) -> Result<Self, NeuralError> {
        let wrong = |problem: String| Err(NeuralError::Recordings { problem });
        let sizes = [
            self.stimuli.len(),
            self.repetitions,
            self.neurons.len(),
            self.bins_ms.len(),
        ];
        let expected = sizes.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
        if expected.is_none_or(|expected| expected == 0 || self.responses.len() != expected) {
            return wrong(format!(
                "{} responses of {} stimuli x {} repetitions x {} neurons x {} bins",
                self.responses.len(),
                self.stimuli.len(),
                self.repetitions,
                self.neurons.len(),
                self.bins_ms.len()
            ));
        }
        if !(self.objects.is_empty() || self.objects.len() == self.stimuli.len()) {
            return wrong(format!(
                "{} classes of {} stimuli",
                self.objects.len(),
                self.stimuli.len()
            ));
        }
        if let Some(id) = twice(self.stimuli.iter()) {
            return wrong(format!("stimulus `{id}` is listed twice"));
        }
        let mut known = std::collections::BTreeSet::new();
        if let Some(neuron) = self
            .neurons
            .iter()
            .find(|n| !known.insert((&n.animal, &n.session, &n.id)))
        {
            let within = [("animal", &neuron.animal), ("session", &neuron.session)];
            let within = within.iter().filter(|(_, name)| !name.is_empty());
            let within: String = within.map(|(what, name)| format!(", {what} `{name}`")).collect();
            return wrong(format!("neuron `{}`{within} is listed twice", neuron.id));
        }
        if let Some([start, end]) = self.bins_ms.iter().find(|bin| !is_bin(bin)) {
            return wrong(format!("a time bin from {start} to {end} ms"));
        }
        if let Some(place) = self.responses.iter().position(|v| v.is_infinite()) {
            let neuron = place / self.bins_ms.len() % self.neurons.len();
            return wrong(format!(
                "a response of neuron `{}` is infinite",
                self.neurons[neuron].id
            ));
        }
        let order = id_order(&self.stimuli);
        if order.is_sorted() {
            return Ok(self);
        }
        let each = self.responses.len() / self.stimuli.len();
        self.responses = order
            .iter()
            .flat_map(|s| &self.responses[s * each..][..each])
            .copied()
            .collect();
        self.objects = if self.objects.is_empty() {
            Vec::new()
        } else {
            order.iter().map(|s| self.objects[*s].clone()).collect()
        };
        self.stimuli = order.iter().map(|s| self.stimuli[*s].clone()).collect();
        Ok(self)
    }

    /// Response of a neuron in one presentation and time bin, by their indices from 0.
    pub fn response(&self, stimulus: usize, repetition: usize, neuron: usize, bin: usize) -> f64 {
        self.responses
            [((stimulus * self.repetitions + repetition) * self.neurons.len() + neuron) * self.bins_ms.len() + bin]
    }

    /// Mean over repetitions, `[stimulus, neuron]`, NaN where a neuron was never recorded with a stimulus.
    pub fn means(&self, bin: usize) -> Mat<f64> {
        Mat::from_fn(self.stimuli.len(), self.neurons.len(), |s, n| {
            mean_of_present((0..self.repetitions).map(|r| self.response(s, r, n, bin)))
        })
    }

    /// Neurons with a response to every stimulus in every bin, and all others.
    pub fn complete(&self) -> (Vec<usize>, Vec<usize>) {
        let missing = |n: usize, s: usize, b: usize| (0..self.repetitions).all(|r| self.response(s, r, n, b).is_nan());
        let complete = |n: &usize| !(0..self.stimuli.len()).any(|s| (0..self.bins_ms.len()).any(|b| missing(*n, s, b)));
        (0..self.neurons.len()).partition(complete)
    }

    /// The recordings of these neurons alone.
    pub fn select(&self, neurons: &[usize]) -> Self {
        let (all, bins) = (self.neurons.len(), self.bins_ms.len());
        let presentation = |values: &[f64]| -> Vec<f64> {
            neurons
                .iter()
                .flat_map(|n| &values[n * bins..][..bins])
                .copied()
                .collect()
        };
        Self {
            stimuli: self.stimuli.clone(),
            objects: self.objects.clone(),
            neurons: neurons.iter().map(|n| self.neurons[*n].clone()).collect(),
            bins_ms: self.bins_ms.clone(),
            repetitions: self.repetitions,
            responses: self.responses.chunks_exact(all * bins).flat_map(presentation).collect(),
        }
    }

    /// Responses in windows instead of bins: the mean over the bins that a window overlaps, each by the part of it that
    /// lies within.
    ///
    /// # Errors
    /// [`NeuralError::Option`] where a window has no bins, or bins that overlap each other, whose mean would count some
    /// time twice.
    pub fn windows(&self, windows_ms: &[[f64; 2]]) -> Result<Self, NeuralError> {
        let mut weights: Vec<Vec<(usize, f64)>> = Vec::new();
        for [start, end] in windows_ms {
            let within: Vec<(usize, f64)> = self
                .bins_ms
                .iter()
                .enumerate()
                .map(|(bin, [a, b])| (bin, (b.min(*end) - a.max(*start)) / (b - a)))
                .filter(|(_, weight)| *weight > 1e-9)
                .collect();
            let wrong = |problem: String| NeuralError::Option {
                option: "windows",
                problem,
            };
            if within.is_empty() {
                let [first, last] = [self.bins_ms.first(), self.bins_ms.last()].map(|b| b.copied().unwrap_or_default());
                return Err(wrong(format!(
                    "no time bin lies within {start} to {end} ms; they go from {} to {} ms",
                    first[0], last[1]
                )));
            }
            let mut bins: Vec<[f64; 2]> = within.iter().map(|(bin, _)| self.bins_ms[*bin]).collect();
            bins.sort_by(|a, b| a[0].total_cmp(&b[0]));
            if let Some(pair) = bins.windows(2).find(|pair| pair[1][0] < pair[0][1] - 1e-9) {
                return Err(wrong(format!(
                    "bins {:?} and {:?} ms overlap, and their mean would count some time twice; name bins as they are",
                    pair[0], pair[1]
                )));
            }
            weights.push(within);
        }
        let bins = self.bins_ms.len();
        let series = |values: &[f64]| -> Vec<f64> {
            weights
                .iter()
                .map(|within| {
                    let total: f64 = within.iter().map(|(_, weight)| weight).sum();
                    within.iter().map(|(bin, weight)| weight * values[*bin]).sum::<f64>() / total
                })
                .collect()
        };
        Ok(Self {
            bins_ms: windows_ms.to_vec(),
            responses: self.responses.chunks_exact(bins).flat_map(series).collect(),
            ..self.select(&(0..self.neurons.len()).collect::<Vec<_>>())
        })
    }

    /// Split-half reliability, corrected by Spearman and Brown, of each neuron in a bin: a value for each halving of
    /// its repetitions, which are those up to the last one that it has. `None` where there is one repetition, which has
    /// no halves.
    ///
    /// # Errors
    /// [`NeuralError::Option`] where the options make no halves.
    pub fn reliability(
        &self,
        bin: usize,
        options: &SplitOptions,
    ) -> Result<Option<Vec<Vec<Option<f64>>>>, NeuralError> {
        if self.repetitions < 2 {
            return Ok(None);
        }
        (0..self.neurons.len())
            .into_par_iter()
            .map(|n| {
                let response = |s: usize, r: usize| self.response(s, r, n, bin);
                let stimuli = 0..self.stimuli.len();
                // A neuron of another session may have fewer: halves of all would divide its own unevenly.
                let has = |r: &usize| stimuli.clone().any(|s| !response(s, *r).is_nan());
                let repetitions = (0..self.repetitions).rev().find(has).map_or(0, |last| last + 1);
                if repetitions < 2 {
                    return Ok(vec![None; options.splits]);
                }
                let own: Vec<f64> = stimuli
                    .flat_map(|s| (0..repetitions).map(move |r| (s, r)))
                    .map(|(s, r)| response(s, r))
                    .collect();
                split_half(&own, repetitions, options)
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    }
}

/// Whether it ends after it starts, both being finite.
pub(super) fn is_bin([start, end]: &[f64; 2]) -> bool {
    start.is_finite() && end.is_finite() && start < end
}

fn twice<'a>(ids: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let mut seen = std::collections::BTreeSet::new();
    ids.into_iter().find(|id| !seen.insert(id.as_str()))
}

/// The order of ids: by number where all are whole numbers, else by their bytes.
pub fn id_order(ids: &[String]) -> Vec<usize> {
    let numbers: Option<Vec<i128>> = ids.iter().map(|id| id.parse().ok()).collect();
    let mut order: Vec<usize> = (0..ids.len()).collect();
    match numbers {
        Some(numbers) => order.sort_by_key(|i| numbers[*i]),
        None => order.sort_by(|a, b| ids[*a].cmp(&ids[*b])),
    }
    order
}
