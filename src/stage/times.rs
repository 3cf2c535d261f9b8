//! Times that a stage asks for against the steps of the networks that simulate them: what cannot be simulated is
//! refused before anything is computed, and nothing is rounded.

use cords::net::{Euler, Model, Presentation};

use super::StageError;

/// A parameter, its time in ms, and the steps that it needs at least.
pub(super) type Asked<'a> = (&'a str, f64, usize);

/// What of the times the steps of `euler` cannot simulate: by parameter, with the nearest that they can.
pub(super) fn unfit<'a>(euler: &Euler, times: &[Asked<'a>]) -> Vec<(&'a str, String)> {
    let problem = |(name, ms, least): &Asked<'a>| {
        let problem = euler.unfit(*ms, *least)?;
        // One step goes without saying.
        let reason = if *least > 1 && *ms < *least as f64 * euler.dt_ms {
            format!(", as it must be {least} steps at least")
        } else {
            String::new()
        };
        Some((*name, format!("`{name}` is {problem}{reason}")))
    };
    times.iter().filter_map(problem).collect()
}

/// Refuses times that the steps of a network cannot simulate. `whose` tells which network that is.
pub(super) fn require(euler: &Euler, whose: &str, times: &[Asked<'_>]) -> Result<(), StageError> {
    let found: Vec<String> = unfit(euler, times).into_iter().map(|(_, problem)| problem).collect();
    match found.as_slice() {
        [] => Ok(()),
        _ => Err(StageError::new(format!("{whose}: {}", found.join("; "))).hint(
            "the step is the network's own; a time that the stage does not give is that of its training or the default",
        )),
    }
}

/// Refuses a presentation that a CordsNet cannot be shown.
pub(super) fn require_presentation(model: &Model, whose: &str, shown: Presentation) -> Result<(), StageError> {
    match model {
        Model::CordsNet { euler, .. } => require(euler, whose, &asked(shown)),
        Model::Cnn { .. } => Ok(()),
    }
}

/// The times of a presentation by their parameters.
pub(super) fn asked(shown: Presentation) -> [Asked<'static>; 2] {
    [
        ("spontaneous", shown.spontaneous_ms, 0),
        ("stimulus", shown.stimulus_ms, 1),
    ]
}
