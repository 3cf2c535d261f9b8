//! Result tables of `train`.

use cords::learn::{AreaInverse, EpochRecord, Evaluation, WindowRecord};
use cords::net::{Area, CellKind, Graph, Parameters};

use super::params::{Params, Phase};
use dynvis_runner::table::{Row, Table, TableError, TableRow};

/// Loss, accuracy and gradient of each epoch
#[derive(Row)]
#[table(name = "training")]
pub(super) struct Epoch<L: Row = (), O: Row = ()> {
    /// Epoch, from 1
    #[column(key)]
    epoch: usize,
    /// Mean training loss
    loss: f64,
    #[column(flatten)]
    labelled: L,
    /// Validation cross-entropy at the end of the stimulus, of images that did not diverge; missing where all did
    #[column(unit = "nat")]
    validation_cross_entropy: Option<f64>,
    /// Validation images classified rightly, of those that did not diverge; missing where all did
    validation_accuracy: Option<f64>,
    /// Validation images whose logits or activity were not finite
    validation_diverged: usize,
    /// Learning rate of the last step
    learning_rate: f64,
    /// Norm of the gradient before clipping, mean over steps
    gradient_norm: f64,
    #[column(flatten)]
    own: O,
}

/// All that an epoch's row can have.
pub(super) type AnyEpoch = Epoch<Labelled, Annealed>;

/// Of a phase that knows labels.
#[derive(Row)]
pub(super) struct Labelled {
    /// Mean training cross-entropy at the end of the stimulus
    #[column(unit = "nat")]
    cross_entropy: f64,
    /// Training images classified rightly, as augmented
    accuracy: f64,
}

/// Of a phase with trials.
#[derive(Row)]
struct Trials {
    /// Mean squared distance from the spontaneous state after the image
    return_term: f64,
}

/// Of the phase that bends phi.
#[derive(Row)]
pub(super) struct Annealed {
    #[column(flatten)]
    trials: Trials,
    /// Slope of phi on negative currents
    slope: f64,
}

/// Phases train different things: columns that would say nothing are left out.
pub(super) fn training_table(params: &Params, epochs: &[EpochRecord]) -> Result<Table, TableError> {
    let labelled = |r: &EpochRecord| Labelled {
        cross_entropy: r.cross_entropy,
        accuracy: r.accuracy,
    };
    let trials = |r: &EpochRecord| Trials {
        return_term: r.return_term,
    };
    let annealed = |r: &EpochRecord| Annealed {
        trials: trials(r),
        slope: params.phi().at(r.epoch, epochs.len()).slope(),
    };
    match params.phase {
        Phase::Invert => table_of(epochs, |_| (), |_| ()),
        Phase::Anneal => table_of(epochs, labelled, annealed),
        phase if phase.has_trials() => table_of(epochs, labelled, trials),
        _ => table_of(epochs, labelled, |_| ()),
    }
}

fn table_of<L: Row, O: Row>(
    epochs: &[EpochRecord],
    labelled: impl Fn(&EpochRecord) -> L,
    own: impl Fn(&EpochRecord) -> O,
) -> Result<Table, TableError> {
    Epoch::table(epochs.iter().map(|r| Epoch {
        epoch: r.epoch + 1,
        loss: r.loss,
        labelled: labelled(r),
        validation_cross_entropy: Some(r.validation_loss),
        validation_accuracy: Some(r.validation_accuracy),
        validation_diverged: r.validation_diverged,
        learning_rate: r.learning_rate,
        gradient_norm: r.gradient_norm,
        own: own(r),
    }))
}

/// Validation in time windows after image onset, for each epoch
#[derive(Row)]
#[table(name = "windows")]
pub(super) struct Window {
    /// Epoch, from 1
    #[column(key)]
    epoch: usize,
    /// Start of the window after image onset
    #[column(key, unit = "ms")]
    start: f64,
    /// Its end
    #[column(unit = "ms")]
    end: f64,
    /// Validation images classified rightly, mean over the window; missing where all diverged at a step of it
    accuracy: Option<f64>,
    /// Validation cross-entropy, mean over the window; missing where all diverged at a step of it
    #[column(unit = "nat")]
    cross_entropy: Option<f64>,
    /// Validation images whose logits or activity were not finite at the window's end; they have no answer
    diverged: usize,
}

impl Window {
    pub(super) fn of(w: &WindowRecord) -> Self {
        Self {
            epoch: w.epoch + 1,
            start: w.start_ms,
            end: w.end_ms,
            accuracy: Some(w.accuracy),
            cross_entropy: Some(w.cross_entropy),
            diverged: w.diverged,
        }
    }
}

/// How fast each epoch went: the one table that differs from run to run
#[derive(Row)]
#[table(name = "speed")]
pub(super) struct Speed {
    /// Epoch, from 1
    #[column(key)]
    epoch: usize,
    /// Training images, validation time included
    #[column(unit = "1/s")]
    images_per_second: f64,
    /// Wall-clock time
    #[column(unit = "s")]
    seconds: f64,
    /// Share of it in which training had no images to work on
    waiting: f64,
}

impl Speed {
    pub(super) fn of(r: &EpochRecord) -> Self {
        let seconds = r.seconds.max(1e-9);
        Self {
            epoch: r.epoch + 1,
            images_per_second: r.images as f64 / seconds,
            seconds: r.seconds,
            waiting: r.waiting_seconds / seconds,
        }
    }
}

/// Trained time constants and adaptation of areas, before and after training
#[derive(Row)]
#[table(name = "cell_parameters")]
pub(super) struct CellParameter {
    /// Area, from 0
    #[column(key)]
    area: usize,
    /// Name of the area
    area_name: String,
    /// tau (time constant), tau_a (time constant of the adaptation) or beta (strength of the adaptation)
    #[column(key)]
    quantity: &'static str,
    /// Unit of the values; missing where they have none
    unit: Option<&'static str>,
    /// Value before training
    before: f64,
    /// Value after training, mean over channels where each has its own
    after: f64,
    /// Least value of all channels after training; missing where they share one
    minimum: Option<f64>,
    /// Largest value of all channels after training; missing where they share one
    maximum: Option<f64>,
}

/// A value of an area that may be trained.
struct Quantity {
    name: &'static str,
    /// The parameter is `parameter.l` of area l.
    parameter: &'static str,
    /// Whether it is a time constant, whose parameter is the logarithm of its value in ms.
    is_tau: bool,
    is_per_channel: bool,
    before: f64,
}

/// What of an area is trained beside weights and biases.
fn trained(area: &Area) -> Vec<Quantity> {
    let quantity = |name, parameter, before| Quantity {
        name,
        parameter,
        is_tau: true,
        is_per_channel: false,
        before,
    };
    let tau = area.tau_ms.filter(|_| area.trains_tau).map(|tau_ms| Quantity {
        is_per_channel: area.tau_per_channel,
        ..quantity("tau", "log_tau", tau_ms)
    });
    let mut found: Vec<Quantity> = tau.into_iter().collect();
    if let CellKind::Adapting(adaptation) = &area.cell
        && adaptation.trained
    {
        found.push(quantity("tau_a", "log_tau_a", adaptation.tau_a_ms));
        found.push(Quantity {
            is_tau: false,
            ..quantity("beta", "beta", adaptation.beta)
        });
    }
    found
}

/// The rows of a network with its parameters after training.
pub(super) fn cell_parameters(graph: &Graph, parameters: &Parameters<f32>) -> Vec<CellParameter> {
    let mut rows = Vec::new();
    for number in 0..graph.areas() {
        let area = graph.area(number);
        for quantity in trained(area) {
            let Some(tensor) = parameters.get(&format!("{}.{number}", quantity.parameter)) else {
                continue;
            };
            let value = |parameter: &f32| {
                let value = f64::from(*parameter);
                if quantity.is_tau { value.exp() } else { value }
            };
            let values: Vec<f64> = tensor.data.iter().map(value).collect();
            let end = |pick: fn(f64, f64) -> f64| {
                let end = values.iter().copied().reduce(pick);
                end.filter(|_| quantity.is_per_channel)
            };
            rows.push(CellParameter {
                area: number,
                area_name: area.name.clone(),
                quantity: quantity.name,
                unit: quantity.is_tau.then_some("ms"),
                before: quantity.before,
                after: values.iter().sum::<f64>() / values.len() as f64,
                minimum: end(f64::min),
                maximum: end(f64::max),
            });
        }
    }
    rows
}

/// How well each area's linear dynamics reproduce the folded CNN's currents, on the validation images
#[derive(Row)]
#[table(name = "inversion")]
pub(super) struct Inversion {
    /// Epoch, from 1
    #[column(key)]
    epoch: usize,
    /// Area, from 0
    #[column(key)]
    area: usize,
    /// Mean squared distance from the current after three sweeps
    error: f64,
    /// Mean square of what a further sweep would add to it (W^3 of the input)
    contraction: f64,
    /// Share of the current's variance over images that is reproduced: 1 - error / variance
    explained: Option<f64>,
}

impl Inversion {
    pub(super) fn of((epoch, inverse): &(usize, AreaInverse)) -> Self {
        Self {
            epoch: epoch + 1,
            area: inverse.area,
            error: inverse.error,
            contraction: inverse.contraction,
            explained: Some(inverse.explained),
        }
    }
}

/// The CNN before and after its batch norms were folded in, on the validation images
#[derive(Row)]
#[table(name = "folding")]
pub(super) struct Form {
    /// batch norm, or folded
    #[column(key)]
    form: &'static str,
    /// Images classified rightly; missing where all diverged
    accuracy: Option<f64>,
    /// Mean cross-entropy; missing where all diverged
    #[column(unit = "nat")]
    cross_entropy: Option<f64>,
    /// Images whose logits or activity were not finite; they have no answer
    diverged: usize,
    /// Largest difference from the first form's logits, as a share of the largest logit; missing where it is not finite
    #[column(absolute = 1e-5)]
    difference: Option<f64>,
}

/// Both forms of the network on the validation images.
pub(super) fn forms(normed: &Evaluation, folded: &Evaluation) -> [Form; 2] {
    // What is not a number is above all numbers.
    let largest = normed.logits.iter().map(|logit| logit.abs());
    let largest = largest.max_by(f32::total_cmp).unwrap_or(0.0);
    let pairs = folded.logits.iter().zip(&normed.logits);
    let difference = pairs.map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0);
    let of = |(form, evaluation, difference): (_, &Evaluation, f32)| Form {
        form,
        accuracy: Some(evaluation.answers.accuracy),
        cross_entropy: Some(evaluation.answers.cross_entropy),
        diverged: evaluation.answers.diverged,
        difference: Some(f64::from(difference)),
    };
    [("batch norm", normed, 0.0), ("folded", folded, difference / largest)].map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cords::learn::Answers;
    use dynvis_runner::table::Value;

    #[test]
    fn a_folded_network_that_overflows_has_no_difference() {
        let evaluation = |logits: [f32; 2]| Evaluation {
            logits: logits.to_vec(),
            answers: Answers {
                right: 0,
                accuracy: 0.0,
                cross_entropy: 1.0,
                diverged: 0,
            },
            over_time: Vec::new(),
        };
        for (logits, expected) in [
            ([1.0, 2.5], Value::Float(0.25)),
            ([f32::NAN, 2.0], Value::Null),
            ([f32::INFINITY, 2.0], Value::Null),
        ] {
            let table = Form::table(forms(&evaluation([1.0, 2.0]), &evaluation(logits))).expect("a table");
            assert_eq!(table.column("difference").expect("there")[1], expected);
        }
    }
}
