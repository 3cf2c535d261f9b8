//! Readings of a network's activity: what can be decoded from each area over time, and where a delay leads.

use rayon::prelude::*;

use super::decode::decode;
use super::experiment::{Presented, Simulation, steps};
use super::measure::{Score, TestTrials};
use super::steady::{modes, settle};
use super::{AssocError, Weights};
use crate::dynamics::{KrylovOptions, Mode};
use crate::net::{fits, misfit};

/// Decoding of one variable from one area at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// What is decoded; `choice` is the answer that the network gave, the others are as the trial was drawn.
    pub variable: &'static str,
    /// Index of the association area, from 0.
    pub area: usize,
    /// Time from the trial's beginning in ms, that of a step's end.
    pub time_ms: f64,
    /// Epoch of the first trial at that time.
    pub epoch: &'static str,
    /// Trials that were decoded rightly, cross-validated over images.
    pub score: Score,
    /// Share of the most frequent class: what guessing reaches.
    pub chance: f64,
}

/// Decodes every variable of the trials from every area, every `every_ms` ms. Trials are laid over one another from
/// their beginning; a time counts as long as all trials last. What cannot be decoded because its classes do not occur
/// on images of both halves is left out.
///
/// # Errors
/// As [`Simulation::run`]; [`AssocError::Setting`] where `every_ms` is no multiple of the step.
pub fn decode_over_time(
    simulation: &Simulation<'_>,
    acting: &Weights<f32>,
    trials: &TestTrials,
    every_ms: f64,
    ridge: f64,
) -> Result<Vec<Decoded>, AssocError> {
    let presented = trials.presented.as_slice();
    let Some(first) = presented.first() else {
        return Ok(Vec::new());
    };
    let layout = simulation.layout;
    let dt = layout.dt_ms;
    let length = |p: &Presented| p.trial.epochs.iter().map(|epoch| steps(epoch.ms, dt)).sum::<usize>();
    let shortest = presented.iter().map(length).min().unwrap_or(0);
    if !(every_ms > 0.0 && fits(every_ms, dt)) {
        return Err(AssocError::setting("decode_every", misfit(every_ms, dt)));
    }
    let every = steps(every_ms, dt);
    let times: Vec<usize> = (every - 1..shortest).step_by(every).collect();
    let units = layout.units();
    // [time][trial, unit].
    let mut kept: Vec<Vec<f64>> = vec![Vec::with_capacity(presented.len() * units); times.len()];
    let answers = simulation.run(acting, presented, &mut |some, activity| {
        for (kept, step) in kept.iter_mut().zip(&times) {
            let rows = &activity.rates[step * some.len() * units..][..some.len() * units];
            kept.extend(rows.iter().map(|r| f64::from(*r)));
        }
    })?;
    // The last answer of a trial is its choice.
    let mut choices = vec![None; presented.len()];
    answers.iter().for_each(|answer| choices[answer.trial] = answer.choice);
    let names: Vec<&'static str> = first.trial.variables.iter().map(|(name, _)| *name).collect();
    let mut jobs = Vec::new();
    for (place, variable) in names.iter().enumerate() {
        let class = |(index, p): (usize, &Presented)| match *variable {
            "choice" => choices[index],
            _ => p.trial.variables.get(place).map(|(_, class)| *class),
        };
        let classes: Vec<Option<usize>> = presented.iter().enumerate().map(class).collect();
        for area in 0..layout.areas.len() {
            jobs.extend((0..times.len()).map(|time| (*variable, classes.clone(), area, time)));
        }
    }
    let found: Vec<Option<Decoded>> = jobs
        .par_iter()
        .map(|(variable, classes, area, time)| {
            let range = layout.range(*area);
            let own: Vec<f64> = kept[*time]
                .chunks_exact(units)
                .flat_map(|row| row[range.clone()].iter().copied())
                .collect();
            let score = decode(&own, range.len(), classes, &trials.dependence, ridge)?;
            let known: Vec<usize> = classes.iter().copied().flatten().collect();
            let most = (0..=known.iter().copied().max().unwrap_or(0))
                .map(|class| known.iter().filter(|own| **own == class).count())
                .max();
            Ok(score.map(|score| Decoded {
                variable,
                area: *area,
                time_ms: (times[*time] + 1) as f64 * dt,
                epoch: epoch_at(first, times[*time], dt),
                score,
                chance: most.unwrap_or(0) as f64 / known.len().max(1) as f64,
            }))
        })
        .collect::<Result<_, AssocError>>()?;
    Ok(found.into_iter().flatten().collect())
}

fn epoch_at(presented: &Presented, step: usize, dt_ms: f64) -> &'static str {
    let mut end = 0;
    for epoch in &presented.trial.epochs {
        end += steps(epoch.ms, dt_ms);
        if step < end {
            return epoch.name;
        }
    }
    ""
}

/// How delays are followed to their steady states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DelayStateOptions {
    /// Largest max |phi(u) - r| of a steady state.
    pub tolerance: f64,
    /// Steps after which the search is given up.
    pub max_steps: usize,
    /// Eigenvalues of largest real part; none are computed at 0.
    pub modes: usize,
    /// Seed of the eigenvalue iteration's start.
    pub seed: u64,
}

/// Where one trial's delay leads if it does not end.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayState {
    /// Number of the trial among those handed over.
    pub trial: usize,
    /// Whether the residual reached the tolerance.
    pub converged: bool,
    /// max |phi(u) - r| at the end.
    pub residual: f64,
    /// Steps from the delay's end to there.
    pub steps: usize,
    /// Euclidean norm of the steady rates.
    pub norm: f64,
    /// Distance of the steady state from the state at the delay's end.
    pub moved: f64,
    /// Number of the steady state: trials that lead to the same one, to a thousandth of its norm, share it. None where
    /// the state did not converge.
    pub attractor: Option<usize>,
    /// Slowest modes of all areas together; empty where the state did not converge or none were asked for.
    pub modes: Vec<Mode>,
    /// Whether the modes reached the solver's tolerance.
    pub modes_converged: bool,
}

/// Runs trials without noise to the end of their epoch `delay`, holds the inputs of that time without a stimulus, and
/// follows the areas to their steady state. Trials without a delay are left out.
///
/// # Errors
/// As [`Simulation::run`].
pub fn delay_states(
    simulation: &Simulation<'_>,
    acting: &Weights<f32>,
    presented: &[Presented],
    options: &DelayStateOptions,
) -> Result<Vec<DelayState>, AssocError> {
    let layout = simulation.layout;
    let units = layout.units();
    let mut starts: Vec<(usize, Vec<f64>, Vec<f64>)> = Vec::new();
    let mut before = 0;
    let noiseless = simulation.without_noise();
    noiseless.run(acting, presented, &mut |some, activity| {
        for (trial, p) in some.iter().enumerate() {
            let mut end = 0;
            for epoch in &p.trial.epochs {
                let length = steps(epoch.ms, layout.dt_ms);
                end += length;
                if epoch.name == "delay" && length > 0 {
                    let row = &activity.rates[((end - 1) * some.len() + trial) * units..][..units];
                    let mut input = vec![0.0; layout.features + layout.cues];
                    input[layout.features] = f64::from(u8::from(epoch.fixate));
                    let cues = input[layout.features + 1..].iter_mut().zip(&epoch.cues);
                    cues.for_each(|(input, cue)| *input = f64::from(*cue));
                    starts.push((before + trial, row.iter().map(|r| f64::from(*r)).collect(), input));
                    break;
                }
            }
        }
        before += some.len();
    })?;
    let wide = acting.cast::<f64>();
    let krylov = KrylovOptions {
        count: options.modes,
        seed: options.seed,
        ..KrylovOptions::default()
    };
    let found = starts
        .par_iter()
        .with_max_len(1)
        .map(|(trial, start, input)| {
            let steady = settle(layout, &wide, input, start, options.tolerance, options.max_steps)?;
            let (modes, modes_converged) = match options.modes > 0 && steady.converged {
                true => modes(layout, &wide, input, &steady.rates, &krylov)?,
                false => (Vec::new(), false),
            };
            let state = DelayState {
                trial: *trial,
                converged: steady.converged,
                residual: steady.residual,
                steps: steady.steps,
                norm: distance(&steady.rates, &vec![0.0; units]),
                moved: distance(&steady.rates, start),
                attractor: None,
                modes,
                modes_converged,
            };
            Ok((state, steady.rates))
        })
        .collect::<Result<Vec<_>, AssocError>>()?;
    let mut attractors: Vec<Vec<f64>> = Vec::new();
    let number = |(state, rates): (DelayState, Vec<f64>)| {
        if !state.converged {
            return state;
        }
        let same = |known: &Vec<f64>| distance(known, &rates) <= 1e-3 * state.norm.max(1e-6);
        let attractor = attractors.iter().position(same).unwrap_or_else(|| {
            attractors.push(rates.clone());
            attractors.len() - 1
        });
        DelayState {
            attractor: Some(attractor),
            ..state
        }
    };
    Ok(found.into_iter().map(number).collect())
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}
