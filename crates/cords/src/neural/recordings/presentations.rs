//! Recordings from a list of presentations in any order, as experiments and their files have them.

use std::collections::BTreeMap;

use super::{Neuron, Recordings, id_order};
use crate::neural::NeuralError;
use dynvis_base::memory;

/// Names of repetitions that number all of an experiment's trials are so many that hardly one recurs with another
/// stimulus: more than this many times the most presentations of a stimulus.
const RUNNING: usize = 2;

/// Whether names of repetitions are running numbers of trials, which say nothing but the order of a stimulus's
/// presentations: `names` different ones, where no stimulus is presented more than `most` times.
pub fn running_numbers(names: usize, most: usize) -> bool {
    names > RUNNING * most
}

/// Number of responses of so many stimuli, repetitions, neurons and time bins, if there is memory for them; `given` is
/// how many presentations, rows or recordings there are in fact.
///
/// # Errors
/// [`NeuralError::Recordings`] with the numbers, where there is no room for them.
pub fn plan_size(sizes: [usize; 4], given: &str) -> Result<usize, NeuralError> {
    let [stimuli, repetitions, neurons, bins] = sizes;
    let total = sizes.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
    // Twice: they are brought into the order of stimuli.
    let bytes = total.map_or(u64::MAX, |total| (total as u64).saturating_mul(2 * 8));
    memory::check_room(bytes).map_err(|error| NeuralError::Recordings {
        problem: format!(
            "{given} would fill a block of {stimuli} stimuli x {repetitions} repetitions x {neurons} neurons x {bins} \
             time bins, most of it with missing values unless all were recorded together: {error}; choose neurons, \
             stimuli and time bins that were, or number the repetitions of each stimulus from 0"
        ),
    })?;
    Ok(total.unwrap_or(usize::MAX))
}

/// Presentations of stimuli, in any order.
#[derive(Clone, Debug, Default)]
pub struct Presentations {
    /// Id of the stimulus of each.
    pub stimuli: Vec<String>,
    /// Name of the repetition of each; empty to count each stimulus's presentations in their order. Running numbers of
    /// trials ([`running_numbers`]) count them in the order of the numbers.
    pub repetitions: Vec<String>,
    /// Class of the stimulus of each; empty where not known.
    pub objects: Vec<String>,
}

/// Gathers presentations by stimulus. `response(presentation, neuron, bin)` gives a value, NaN for a missing one.
///
/// # Errors
/// [`NeuralError::Recordings`] where lists differ in length, a stimulus is shown twice in one repetition or with two
/// classes, or it is more than fits into memory, and what [`Recordings::new`] finds.
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
    let count_up = |order: &mut dyn Iterator<Item = usize>| -> Vec<usize> {
        let mut seen = vec![0; ids.len()];
        let mut repetition = vec![0; count];
        for presentation in order {
            let own = &mut seen[stimulus[presentation]];
            repetition[presentation] = *own;
            *own += 1;
        }
        repetition
    };
    let mut most = vec![0; ids.len()];
    stimulus.iter().for_each(|s| most[*s] += 1);
    let repetition: Vec<usize> = if shown.repetitions.is_empty() {
        count_up(&mut (0..count))
    } else {
        let names = unique(&shown.repetitions);
        let numbered: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let named: Vec<usize> = shown.repetitions.iter().map(|id| numbered[id.as_str()]).collect();
        if running_numbers(names.len(), most.iter().copied().max().unwrap_or(0)) {
            let mut pairs = std::collections::BTreeSet::new();
            if let Some(p) = (0..count).find(|p| !pairs.insert((stimulus[*p], named[*p]))) {
                return wrong(twice_shown(&shown.stimuli[p], &shown.repetitions[p]));
            }
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by_key(|p| named[*p]);
            count_up(&mut order.into_iter())
        } else {
            named
        }
    };
    let repetitions = repetition.iter().max().map_or(0, |r| r + 1);
    let sizes = [ids.len(), repetitions, neurons.len(), bins_ms.len()];
    let total = plan_size(sizes, &format!("{count} presentations"))?;
    let mut place: Vec<Option<usize>> = vec![None; ids.len() * repetitions];
    for (presentation, (s, r)) in stimulus.iter().zip(&repetition).enumerate() {
        if place[s * repetitions + r].replace(presentation).is_some() {
            let name = shown.repetitions.get(presentation).map_or("", String::as_str);
            return wrong(twice_shown(&ids[*s], name));
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
    let mut responses = Vec::with_capacity(total);
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

fn twice_shown(stimulus: &str, repetition: &str) -> String {
    format!("stimulus `{stimulus}` is shown twice in repetition `{repetition}`")
}

/// Each id once, in the order of ids.
fn unique(ids: &[String]) -> Vec<String> {
    let mut ids: Vec<String> = std::collections::BTreeSet::from_iter(ids)
        .into_iter()
        .cloned()
        .collect();
    let order = id_order(&ids);
    ids = order.iter().map(|i| ids[*i].clone()).collect();
    ids
}
