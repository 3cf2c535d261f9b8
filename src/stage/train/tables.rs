//! Result tables of `train`.

use cords::learn::{AreaInverse, EpochRecord, Evaluation, WindowRecord};

use super::params::{Params, Phase};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

/// Phases train different things: columns that would say nothing are left out.
pub(super) fn training_table(params: &Params, epochs: &[EpochRecord]) -> Result<Table, TableError> {
    let phase = params.phase;
    let mut schema = TableSchema::new("training", "Loss, accuracy and gradient of each epoch")
        .key("epoch", DType::Int, "Epoch, from 1")
        .value("loss", DType::Float, "Mean training loss");
    let labelled = phase != Phase::Invert;
    if labelled {
        schema = schema
            .value(
                "cross_entropy",
                DType::Float,
                "Mean training cross-entropy at the end of the stimulus",
            )
            .unit("nat")
            .value(
                "accuracy",
                DType::Float,
                "Training images classified rightly, as augmented",
            );
    }
    schema = schema
        .value(
            "validation_cross_entropy",
            DType::Float,
            "Validation cross-entropy at the end of the stimulus, of images that did not diverge; missing where all did",
        )
        .unit("nat")
        .allow_missing()
        .value(
            "validation_accuracy",
            DType::Float,
            "Validation images classified rightly, of those that did not diverge; missing where all did",
        )
        .allow_missing()
        .value(
            "validation_diverged",
            DType::Int,
            "Validation images whose logits or activity were not finite",
        )
        .value("learning_rate", DType::Float, "Learning rate of the last step")
        .value(
            "gradient_norm",
            DType::Float,
            "Norm of the gradient before clipping, mean over steps",
        );
    if phase.has_trials() {
        schema = schema.value(
            "return_term",
            DType::Float,
            "Mean squared distance from the spontaneous state after the image",
        );
    }
    if phase == Phase::Anneal {
        schema = schema.value("slope", DType::Float, "Slope of phi on negative currents");
    }
    let mut table = TableWriter::new(schema)?;
    for r in epochs {
        let mut row = vec![Value::Int(r.epoch as i64 + 1)];
        row.push(Value::Float(r.loss));
        if labelled {
            row.extend([r.cross_entropy, r.accuracy].map(Value::Float));
        }
        row.extend([
            Value::finite(r.validation_loss),
            Value::finite(r.validation_accuracy),
            Value::Int(r.validation_diverged as i64),
            Value::Float(r.learning_rate),
            Value::Float(r.gradient_norm),
        ]);
        if phase.has_trials() {
            row.push(Value::Float(r.return_term));
        }
        if phase == Phase::Anneal {
            row.push(Value::Float(params.phi().at(r.epoch, epochs.len()).slope()));
        }
        table.push_row(row)?;
    }
    table.finish()
}

pub(super) fn windows_table(windows: &[WindowRecord]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "windows",
            "Validation in time windows after image onset, for each epoch",
        )
        .key("epoch", DType::Int, "Epoch, from 1")
        .key("start", DType::Float, "Start of the window after image onset")
        .unit("ms")
        .value("end", DType::Float, "Its end")
        .unit("ms")
        .value(
            "accuracy",
            DType::Float,
            "Validation images classified rightly, mean over the window; missing where all diverged at a step of it",
        )
        .allow_missing()
        .value(
            "cross_entropy",
            DType::Float,
            "Validation cross-entropy, mean over the window; missing where all diverged at a step of it",
        )
        .unit("nat")
        .allow_missing()
        .value(
            "diverged",
            DType::Int,
            "Validation images whose logits or activity were not finite at the window's end; they have no answer",
        ),
    )?;
    for w in windows {
        let mut row = vec![Value::Int(w.epoch as i64 + 1)];
        row.extend([w.start_ms, w.end_ms].map(Value::Float));
        row.extend([w.accuracy, w.cross_entropy].map(Value::finite));
        row.push(Value::Int(w.diverged as i64));
        table.push_row(row)?;
    }
    table.finish()
}

pub(super) fn speed_table(epochs: &[EpochRecord]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "speed",
            "How fast each epoch went: the one table that differs from run to run",
        )
        .key("epoch", DType::Int, "Epoch, from 1")
        .value(
            "images_per_second",
            DType::Float,
            "Training images, validation time included",
        )
        .unit("1/s")
        .value("seconds", DType::Float, "Wall-clock time")
        .unit("s")
        .value(
            "waiting",
            DType::Float,
            "Share of it in which training had no images to work on",
        ),
    )?;
    for r in epochs {
        let seconds = r.seconds.max(1e-9);
        table.push_row([
            Value::Int(r.epoch as i64 + 1),
            Value::Float(r.images as f64 / seconds),
            Value::Float(r.seconds),
            Value::Float(r.waiting_seconds / seconds),
        ])?;
    }
    table.finish()
}

pub(super) fn inversion_table(areas: &[(usize, AreaInverse)]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "inversion",
            "How well each area's linear dynamics reproduce the folded CNN's currents, on the validation images",
        )
        .key("epoch", DType::Int, "Epoch, from 1")
        .key("area", DType::Int, "Area, from 0")
        .value(
            "error",
            DType::Float,
            "Mean squared distance from the current after three sweeps",
        )
        .value(
            "contraction",
            DType::Float,
            "Mean square of what a further sweep would add to it (W^3 of the input)",
        )
        .value(
            "explained",
            DType::Float,
            "Share of the current's variance over images that is reproduced: 1 - error / variance",
        )
        .allow_missing(),
    )?;
    for (epoch, area) in areas {
        table.push_row([
            Value::Int(*epoch as i64 + 1),
            Value::Int(area.area as i64),
            Value::Float(area.error),
            Value::Float(area.contraction),
            Value::finite(area.explained),
        ])?;
    }
    table.finish()
}

/// Both forms of the network on the validation images.
pub(super) fn folding_table(normed: &Evaluation, folded: &Evaluation) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "folding",
            "The CNN before and after its batch norms were folded in, on the validation images",
        )
        .key("form", DType::Text, "batch norm, or folded")
        .value(
            "accuracy",
            DType::Float,
            "Images classified rightly; missing where all diverged",
        )
        .allow_missing()
        .value(
            "cross_entropy",
            DType::Float,
            "Mean cross-entropy; missing where all diverged",
        )
        .unit("nat")
        .allow_missing()
        .value(
            "diverged",
            DType::Int,
            "Images whose logits or activity were not finite; they have no answer",
        )
        .value(
            "difference",
            DType::Float,
            "Largest difference from the first form's logits, as a share of the largest logit; missing where it is not finite",
        )
        .allow_missing()
        .tolerance(1e-5, 0.0),
    )?;
    // What is not a number is above all numbers.
    let largest = normed.logits.iter().map(|logit| logit.abs());
    let largest = largest.max_by(f32::total_cmp).unwrap_or(0.0);
    let pairs = folded.logits.iter().zip(&normed.logits);
    let difference = pairs.map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0);
    for (form, evaluation, difference) in [("batch norm", normed, 0.0), ("folded", folded, difference / largest)] {
        table.push_row([
            Value::Text(form.into()),
            Value::finite(evaluation.answers.accuracy),
            Value::finite(evaluation.answers.cross_entropy),
            Value::Int(evaluation.answers.diverged as i64),
            Value::finite(f64::from(difference)),
        ])?;
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cords::learn::Answers;

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
            let table = folding_table(&evaluation([1.0, 2.0]), &evaluation(logits)).expect("a table");
            assert_eq!(table.column("difference").expect("there")[1], expected);
        }
    }
}
