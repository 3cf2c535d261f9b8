//! Recordings from a list of presentations in any order, as experiments and their files have them.

use std::collections::BTreeMap;

use super::{Neuron, Recordings, sorted};
use crate::neural::NeuralError;

/// Presentations of stimuli, in any order.
#[derive(Clone, Debug, Default)]
pub struct Presentations {
    /// Id of the stimulus of each.
    pub stimuli: Vec<String>,
    /// Name of the repetition of each; empty to count each stimulus's presentations in their order.
    pub repetitions: Vec<String>,
    /// Class of the stimulus of each; empty where not known.
    pub objects: Vec<String>,
}

/// Gathers presentations by stimulus. `response(presentation, neuron, bin)` gives a value, NaN for a missing one.
///
/// # Errors
/// Lists of different lengths, a stimulus shown twice in one repetition or with two classes, and what
/// [`Recordings::new`] finds.
pub fn from_presentations(
    shown: &Presentations,
    neurons: Vec<Neuron>,
    bins_ms: Vec<[f64; 2]>,
    response: impl Fn(usize, usize, usize) -> f64,
) -> Result<Recordings, NeuralError> {
    let wrong = |problem: String| Err(NeuralError::Recordings { problem });
    let count = shown.stimuli.len();
    for (what, list) in [("repetitions", &shown.repetitions), ("classes", &shown.objects)] {
        if !(list.is_empty() || list.len() == count) {
            return wrong(format!("{} {what} of {count} presentations", list.len()));
        }
    }
    let ids = unique(&shown.stimuli);
    let numbered: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let stimulus: Vec<usize> = shown.stimuli.iter().map(|id| numbered[id.as_str()]).collect();
    let repetition: Vec<usize> = if shown.repetitions.is_empty() {
        let mut seen = vec![0; ids.len()];
        stimulus
            .iter()
            .map(|s| {
                seen[*s] += 1;
                seen[*s] - 1
            })
            .collect()
    } else {
        let names = unique(&shown.repetitions);
        let numbered: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        shown.repetitions.iter().map(|id| numbered[id.as_str()]).collect()
    };
    let repetitions = repetition.iter().max().map_or(0, |r| r + 1);
    let mut place: Vec<Option<usize>> = vec![None; ids.len() * repetitions];
    for (presentation, (s, r)) in stimulus.iter().zip(&repetition).enumerate() {
        if place[s * repetitions + r].replace(presentation).is_some() {
            let name = shown.repetitions.get(presentation).map_or("", String::as_str);
            return wrong(format!("stimulus `{}` is shown twice in repetition `{name}`", ids[*s]));
        }
    }
    let mut objects = Vec::new();
    if !shown.objects.is_empty() {
        let mut of: Vec<Option<&String>> = vec![None; ids.len()];
        for (s, object) in stimulus.iter().zip(&shown.objects) {
            if of[*s].replace(object).is_some_and(|before| before != object) {
                return wrong(format!("stimulus `{}` has two classes, one is `{object}`", ids[*s]));
            }
        }
        objects = of.into_iter().flatten().cloned().collect();
    }
    let mut responses = Vec::with_capacity(place.len() * neurons.len() * bins_ms.len());
    for presentation in place {
        for neuron in 0..neurons.len() {
            for bin in 0..bins_ms.len() {
                responses.push(presentation.map_or(f64::NAN, |p| response(p, neuron, bin)));
            }
        }
    }
    Recordings {
        stimuli: ids,
        objects,
        neurons,
        bins_ms,
        repetitions,
        responses,
    }
    .new()
}

/// Each id once, in the order of ids.
fn unique(ids: &[String]) -> Vec<String> {
    let mut ids: Vec<String> = std::collections::BTreeSet::from_iter(ids)
        .into_iter()
        .cloned()
        .collect();
    let order = sorted(&ids);
    ids = order.iter().map(|i| ids[*i].clone()).collect();
    ids
}
