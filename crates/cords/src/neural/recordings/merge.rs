//! Several recordings (sessions, animals) of the same stimuli as one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Recordings, id_order, plan_size};
use crate::neural::NeuralError;

/// Several recordings as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The stimuli that all have, and the neurons of all, in order.
    pub recordings: Recordings,
    /// Which of the recordings each neuron is from.
    pub origin: Vec<usize>,
    /// Stimuli that not all of them have, and which are left out.
    pub left_out: Vec<String>,
}

/// Joins recordings over the stimuli that all of them have. Neurons stay apart whatever their ids; where one has fewer
/// repetitions than another, its others are missing.
///
/// # Errors
/// [`NeuralError::Recordings`] where there are no recordings or no stimulus in common, time bins differ, a stimulus is
/// of two classes, or it is more than fits into memory.
pub fn merge(mut all: Vec<Recordings>) -> Result<Merged, NeuralError> {
    if all.len() == 1
        && let Some(recordings) = all.pop()
    {
        return Ok(Merged {
            origin: vec![0; recordings.neurons.len()],
            recordings,
            left_out: Vec::new(),
        });
    }
    let wrong = |problem: String| NeuralError::Recordings { problem };
    let Some(first) = all.first() else {
        return Err(wrong("there are none".to_owned()));
    };
    let bins_ms = first.bins_ms.clone();
    let close = |a: &[f64; 2], b: &[f64; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    let same = |other: &Recordings| {
        other.bins_ms.len() == bins_ms.len() && other.bins_ms.iter().zip(&bins_ms).all(|(a, b)| close(a, b))
    };
    if let Some(number) = all.iter().position(|other| !same(other)) {
        return Err(wrong(format!(
            "the first has the time bins {:?} ms, number {} has {:?}; choose `bins` that all of them have",
            bins_ms,
            number + 1,
            all[number].bins_ms
        )));
    }
    let places: Vec<BTreeMap<&String, usize>> = all
        .iter()
        .map(|r| r.stimuli.iter().enumerate().map(|(i, id)| (id, i)).collect())
        .collect();
    let everything: BTreeSet<&String> = all.iter().flat_map(|r| &r.stimuli).collect();
    let (common, others): (Vec<&String>, Vec<&String>) = everything
        .into_iter()
        .partition(|id| places.iter().all(|place| place.contains_key(id)));
    if common.is_empty() {
        let example = |r: &Recordings| r.stimuli.first().cloned().unwrap_or_default();
        return Err(wrong(format!(
            "no stimulus is in all of them; the first has `{}` and others, the last `{}`",
            example(first),
            example(&all[all.len() - 1])
        )));
    }
    let stimuli: Vec<String> = common.into_iter().cloned().collect();
    let stimuli: Vec<String> = id_order(&stimuli).into_iter().map(|i| stimuli[i].clone()).collect();
    let left_out = others.into_iter().cloned().collect();

    let mut objects: Vec<String> = Vec::new();
    for (number, (own, place)) in all.iter().zip(&places).enumerate() {
        if own.objects.is_empty() {
            continue;
        }
        let of_own: Vec<String> = stimuli.iter().map(|id| own.objects[place[id]].clone()).collect();
        if let Some(s) = (0..objects.len()).find(|s| objects[*s] != of_own[*s]) {
            return Err(wrong(format!(
                "stimulus `{}` has the class `{}`, in number {} the class `{}`",
                stimuli[s],
                objects[s],
                number + 1,
                of_own[s]
            )));
        }
        objects = of_own;
    }
    let repetitions = all.iter().map(|r| r.repetitions).max().unwrap_or(0);
    let neurons: usize = all.iter().map(|r| r.neurons.len()).sum();
    let total = plan_size(
        [stimuli.len(), repetitions, neurons, bins_ms.len()],
        &format!("{} recordings", all.len()),
    )?;
    let mut responses = Vec::with_capacity(total);
    for id in &stimuli {
        for repetition in 0..repetitions {
            for (own, place) in all.iter().zip(&places) {
                let width = own.neurons.len() * own.bins_ms.len();
                if repetition < own.repetitions {
                    let start = (place[id] * own.repetitions + repetition) * width;
                    responses.extend_from_slice(&own.responses[start..start + width]);
                } else {
                    responses.resize(responses.len() + width, f64::NAN);
                }
            }
        }
    }
    let origin = all
        .iter()
        .enumerate()
        .flat_map(|(number, r)| std::iter::repeat_n(number, r.neurons.len()))
        .collect();
    let recordings = Recordings {
        stimuli,
        objects,
        neurons: all.iter().flat_map(|r| r.neurons.iter().cloned()).collect(),
        bins_ms,
        repetitions,
        responses,
    };
    Ok(Merged {
        recordings,
        origin,
        left_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neural::{Neuron, SplitOptions};

    fn recordings(stimuli: &[&str], animal: &str, repetitions: usize, from: f64) -> Recordings {
        let count = stimuli.len() * repetitions;
        Recordings {
            stimuli: stimuli.iter().map(|id| (*id).to_owned()).collect(),
            objects: Vec::new(),
            neurons: vec![Neuron {
                id: "1".to_owned(),
                animal: animal.to_owned(),
                ..Neuron::default()
            }],
            bins_ms: vec![[0.0, 10.0]],
            repetitions,
            responses: (0..count).map(|i| from + i as f64).collect(),
        }
        .new()
        .expect("recordings")
    }

    #[test]
    fn recordings_of_two_animals_are_joined_over_the_stimuli_that_both_saw() {
        let a = recordings(&["b", "a", "c"], "A", 2, 0.0);
        let b = recordings(&["c", "b"], "B", 1, 100.0);
        let merged = merge(vec![a, b]).expect("joined");
        assert_eq!(merged.left_out, ["a"]);
        assert_eq!(merged.origin, [0, 1]);
        let r = &merged.recordings;
        assert_eq!(r.stimuli, ["b", "c"]);
        assert_eq!((r.neurons[0].animal.as_str(), r.neurons[1].animal.as_str()), ("A", "B"));
        // b of A was given first, c last; c of B first.
        assert_eq!(
            [r.response(0, 0, 0, 0), r.response(0, 1, 0, 0), r.response(1, 1, 0, 0)],
            [0.0, 1.0, 5.0]
        );
        assert_eq!([r.response(0, 0, 1, 0), r.response(1, 0, 1, 0)], [101.0, 100.0]);
        assert!(r.response(0, 1, 1, 0).is_nan());
        let other = recordings(&["x"], "C", 1, 0.0);
        let message = merge(vec![r.clone(), other])
            .expect_err("nothing in common")
            .to_string();
        assert!(message.contains("no stimulus is in all of them"), "{message}");
    }

    /// Four repetitions beside nine: halves of nine would divide them three to one, or all to none.
    #[test]
    fn reliability_is_that_of_a_neurons_own_repetitions() {
        let stimuli = ["a", "b", "c", "d", "e", "f"];
        let mut few = recordings(&stimuli, "B", 4, 0.0);
        for (i, response) in few.responses.iter_mut().enumerate() {
            *response = (i * i % 13) as f64;
        }
        let once = recordings(&stimuli, "C", 1, 0.0);
        let halvings = SplitOptions {
            splits: 10,
            train: 0.5,
            seed: 1,
        };
        let alone = few.reliability(0, &halvings).expect("halves").expect("four");
        let merged = merge(vec![recordings(&stimuli, "A", 9, 0.0), few, once]).expect("joined");
        let found = merged
            .recordings
            .reliability(0, &halvings)
            .expect("halves")
            .expect("nine");
        assert_eq!(found[1], alone[0]);
        assert_eq!(found[2], vec![None::<f64>; 10], "one repetition has no halves");
    }
}
