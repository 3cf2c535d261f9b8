//! Result tables of `cognitive`.

use std::collections::BTreeMap;

use cords::assoc::{
    Answer, Choices, Decoded, DelayState, EpochRate, Graded, Layout, Lesion, Psychometric, Score, TestTrials,
    TrainRecord, Trained, psychometric,
};

use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

/// A lesion with all answers, and the mean rate of every epoch and area.
pub(super) type LesionResult = (Lesion, Vec<Answer>, Vec<EpochRate>);

/// What was measured on test images.
pub(super) struct Measured {
    pub(super) trials: TestTrials,
    /// The whole network first.
    pub(super) lesions: Vec<LesionResult>,
    /// The same at twice the delays.
    pub(super) twice: TestTrials,
    pub(super) twice_answers: Vec<Answer>,
    /// What the best strategy reaches that ignores the memory.
    pub(super) chance: f64,
}

impl Measured {
    pub(super) fn intact(&self) -> &[Answer] {
        self.lesions.first().map_or(&[], |(_, answers, _)| answers.as_slice())
    }

    /// What has diverged, in words, with how many answers.
    pub(super) fn diverged(&self) -> Vec<String> {
        let lesions = self.lesions.iter().map(|(lesion, answers, _)| {
            let name = match lesion.pairs.is_empty() {
                true => "the whole network".to_owned(),
                false => format!("without {}", lesion.name),
            };
            (name, answers.as_slice())
        });
        let twice = ("at twice the delays".to_owned(), self.twice_answers.as_slice());
        let of = |(name, answers): (String, &[Answer])| {
            let diverged = answers.iter().filter(|answer| answer.choice.is_none()).count();
            (diverged > 0).then(|| format!("{name} ({diverged} of {})", answers.len()))
        };
        lesions.chain([twice]).filter_map(of).collect()
    }
}

/// Steady states during the delay, with the trials that led there.
pub(super) struct States {
    pub(super) trials: TestTrials,
    pub(super) found: Vec<DelayState>,
}

/// What `low` is where answers are a network's.
const OF_ANSWERS: &str = "Lower end of the 95 % interval over images and trials: Wilson's at the number of independent \
     answers that would vary as much as these, of which those that share an image vary together";

/// What `low` is where answers are a decoder's.
const OF_DECODERS: &str = "Lower end of the 95 % interval over images and trials: Wilson's at half the number of \
     independent answers that would vary as much as these, of which those that share an image vary together. Half, since \
     decoders vary with the images that they are fitted on; that is rather too wide";

/// The columns accuracy, low, high, n and diverged.
fn scored(schema: TableSchema, low: &str) -> TableSchema {
    schema
        .value(
            "accuracy",
            DType::Float,
            "Share of answers that were right, of those for which activity stayed finite; none where it never did",
        )
        .allow_missing()
        .value("low", DType::Float, low)
        .allow_missing()
        .value("high", DType::Float, "Upper end")
        .allow_missing()
        .value("n", DType::Int, "Answers for which activity stayed finite")
        .value(
            "diverged",
            DType::Int,
            "Answers for which activity did not: neither right nor wrong",
        )
}

fn score_values(score: Score) -> [Value; 5] {
    let end = |end: usize| Value::optional(score.bounds().map(|bounds| bounds[end]));
    [
        Value::optional(score.accuracy()),
        end(0),
        end(1),
        Value::Int(score.answers as i64),
        Value::Int(score.diverged as i64),
    ]
}

pub(super) fn training_table(records: &[TrainRecord]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new("training", "Validations during training")
            .key("step", DType::Int, "Gradient steps done")
            .value("trials", DType::Int, "Trials seen")
            .value("delays", DType::Float, "Share of the delays in use, the shortest first")
            .value(
                "objective",
                DType::Float,
                "Loss and penalties, mean since the last validation",
            )
            .tolerance(1e-6, 1e-6)
            .value(
                "loss",
                DType::Float,
                "Loss under the mask, mean since the last validation",
            )
            .tolerance(1e-6, 1e-6)
            .value(
                "gradient_norm",
                DType::Float,
                "Norm of the areas' gradient before it is shortened",
            )
            .tolerance(1e-6, 1e-6)
            .value(
                "front_end_norm",
                DType::Float,
                "Norm of the front-end's gradient; 0 where it does not learn",
            )
            .tolerance(1e-6, 1e-6)
            .value(
                "validation_accuracy",
                DType::Float,
                "Share of right answers on validation images, of those for which activity stayed finite",
            )
            .allow_missing()
            .value("n", DType::Int, "Answers for which activity stayed finite")
            .value("diverged", DType::Int, "Answers for which activity did not"),
    )?;
    for record in records {
        table.push_row([
            Value::Int(record.step as i64),
            Value::Int(record.trials as i64),
            Value::Float(record.delays),
            Value::Float(record.objective),
            Value::Float(record.loss),
            Value::Float(record.gradient_norm),
            Value::Float(record.front_end_norm),
            Value::optional(record.accuracy()),
            Value::Int(record.answers.saturating_sub(record.diverged) as i64),
            Value::Int(record.diverged as i64),
        ])?;
    }
    table.finish()
}

pub(super) fn summary_table(layout: &Layout, trained: &Trained, measured: &Measured) -> Result<Table, TableError> {
    let schema = TableSchema::new("summary", "The network on test images, in one row");
    let mut table = TableWriter::new(
        scored(schema, OF_ANSWERS)
            .value(
                "chance",
                DType::Float,
                "What the best strategy reaches that ignores the memory: it knows what is shown after the delay, and nothing of \
                 before",
            )
            .value("twice_delay", DType::Float, "Accuracy at twice the delays")
            .allow_missing()
            .value(
                "no_feedback",
                DType::Float,
                "Accuracy with all feedback projections cut; none without feedback, or where all of it diverged",
            )
            .allow_missing()
            .value("reached", DType::Bool, "Whether validation reached the criterion")
            .value("steps", DType::Int, "Gradient steps")
            .value("units", DType::Int, "Units of all areas"),
    )?;
    let mut row = score_values(measured.trials.score(measured.intact())).to_vec();
    // The last lesion is all feedback, where there is any: `Lesion::all` puts it there, alone or together.
    let feedback = |lesion: &Lesion| !lesion.pairs.is_empty() && lesion.pairs.iter().all(|(from, to)| to < from);
    let without = measured.lesions.iter().rev().find(|(lesion, ..)| feedback(lesion));
    row.extend([
        Value::Float(measured.chance),
        Value::optional(measured.twice.score(&measured.twice_answers).accuracy()),
        Value::optional(without.and_then(|(_, answers, _)| measured.trials.score(answers).accuracy())),
        Value::Bool(trained.reached),
        Value::Int(trained.records.last().map_or(0, |record| record.step) as i64),
        Value::Int(layout.units() as i64),
    ]);
    table.push_row(row)?;
    table.finish()
}

pub(super) fn accuracy_table(measured: &Measured) -> Result<Table, TableError> {
    let schema = TableSchema::new("accuracy", "Accuracy on test images by delay and condition")
        .key("delays", DType::Text, "`trained`, or `twice` as long")
        .key("delay", DType::Float, "Delay; none where the task has none")
        .unit("ms")
        .allow_missing()
        .key("condition", DType::Text, "Kind of trial");
    let mut table = TableWriter::new(scored(schema, OF_ANSWERS))?;
    let parts = [
        ("trained", &measured.trials, measured.intact()),
        ("twice", &measured.twice, measured.twice_answers.as_slice()),
    ];
    for (name, trials, answers) in parts {
        for (delay, condition, score) in trials.by_delay_and_condition(answers) {
            let mut row = vec![Value::Text(name.into()), Value::optional(delay), Value::Text(condition)];
            row.extend(score_values(score));
            table.push_row(row)?;
        }
    }
    table.finish()
}

pub(super) fn lesions_table(measured: &Measured) -> Result<Table, TableError> {
    let schema = TableSchema::new("lesions", "Accuracy on test images with projections cut after training").key(
        "lesion",
        DType::Text,
        "Projection that is cut",
    );
    let mut table = TableWriter::new(scored(schema, OF_ANSWERS))?;
    for (lesion, answers, _) in &measured.lesions {
        let mut row = vec![Value::Text(lesion.name.clone())];
        row.extend(score_values(measured.trials.score(answers)));
        table.push_row(row)?;
    }
    table.finish()
}

pub(super) fn rates_table(layout: &Layout, measured: &Measured) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "rates",
            "Mean rate of each area in each epoch, whole and with projections cut",
        )
        .key("lesion", DType::Text, "Projection that is cut")
        .key("area", DType::Text, "Area")
        .key("epoch", DType::Text, "Epoch of the trial")
        .value(
            "rate",
            DType::Float,
            "Rate, mean over units, steps and trials; none where it has diverged",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing(),
    )?;
    for (lesion, _, rates) in &measured.lesions {
        for (epoch, area, rate) in rates {
            table.push_row([
                Value::Text(lesion.name.clone()),
                area_name(layout, *area),
                Value::Text((*epoch).into()),
                Value::finite(*rate),
            ])?;
        }
    }
    table.finish()
}

fn area_name(layout: &Layout, area: usize) -> Value {
    layout
        .areas
        .get(area)
        .map_or(Value::Null, |area| Value::Text(area.name.clone()))
}

pub(super) fn decoding_table(layout: &Layout, decoded: &[Decoded]) -> Result<Table, TableError> {
    let schema = TableSchema::new(
        "decoding",
        "What a linear classifier reads from each area over time, on trials with the longest delay; fitted on one half of the \
         test images and tested on the other, then the other way round (one-hot stimuli, which are no images: halves of the trials)",
    )
    .key(
        "variable",
        DType::Text,
        "What is read; `choice` is the network's answer. What has fewer than two classes in a half is left out",
    )
    .key("area", DType::Text, "Area")
    .key("time", DType::Float, "Time from the trial's beginning")
    .unit("ms")
    .value("epoch", DType::Text, "Epoch of the first trial at that time");
    let schema = scored(schema, OF_DECODERS).value("chance", DType::Float, "Share of the most frequent class");
    let mut table = TableWriter::new(schema)?;
    for one in decoded {
        let mut row = vec![
            Value::Text(one.variable.into()),
            area_name(layout, one.area),
            Value::Float(one.time_ms),
            Value::Text(one.epoch.into()),
        ];
        row.extend(score_values(one.score));
        row.push(Value::Float(one.chance));
        table.push_row(row)?;
    }
    table.finish()
}

/// Choices over the strength of evidence, and the function fitted to them.
pub(super) struct Function {
    pub(super) condition: String,
    /// By strength, ascending, with how often the second was chosen.
    pub(super) choices: Vec<(Choices, Score)>,
    /// None where no function fits.
    pub(super) fit: Option<Psychometric>,
}

/// Of tasks with evidence of graded strength, for each condition and `all` of them; nothing of others.
pub(super) fn psychometric_functions(measured: &Measured) -> Vec<Function> {
    let mut conditions: BTreeMap<&str, Vec<Graded>> = BTreeMap::new();
    for answer in measured.intact() {
        let trial = &measured.trials.presented[answer.trial].trial;
        let (Some(strength), Some(choice @ 1..=2)) = (trial.strength, answer.choice) else {
            continue;
        };
        for name in ["all", trial.condition.as_str()] {
            conditions.entry(name).or_default().push(Graded {
                trial: answer.trial,
                strength,
                second: choice == 2,
            });
        }
    }
    let dependence = &measured.trials.dependence;
    let function = |(condition, graded): (&str, Vec<Graded>)| {
        let choices = Choices::of(&graded);
        let score = |choices: &Choices| {
            let own = graded
                .iter()
                .filter(|one| (one.strength - choices.strength).abs() < 1e-6);
            dependence.score(own.map(|one| (one.trial, Some(one.second))))
        };
        // A condition of one strength has no function.
        (choices.len() > 1).then(|| Function {
            condition: condition.to_owned(),
            fit: psychometric(&graded, dependence),
            choices: choices.iter().map(|choices| (*choices, score(choices))).collect(),
        })
    };
    conditions.into_iter().filter_map(function).collect()
}

/// Rows of tasks with evidence of graded strength; empty for others.
pub(super) fn psychometric_table(functions: &[Function]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "psychometric",
            "Logistic function of the second choice over the signed strength of evidence, by maximum likelihood",
        )
        .key("condition", DType::Text, "Kind of trial; `all` for all of them")
        .value(
            "bias",
            DType::Float,
            "Strength at which both choices are as likely; none where no function fits",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("bias_error", DType::Float, "Its standard error over images and trials")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("spread", DType::Float, "Distance from there to 73 %")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value(
            "spread_error",
            DType::Float,
            "Its standard error over images and trials",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value(
            "deviance",
            DType::Float,
            "Twice the log-likelihood lost against a value for each strength",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("strengths", DType::Int, "Different strengths")
        .value("n", DType::Int, "Answers with either choice"),
    )?;
    for Function {
        condition,
        choices,
        fit,
    } in functions
    {
        table.push_row([
            Value::Text(condition.clone()),
            Value::optional(fit.map(|fit| fit.bias)),
            Value::optional(fit.map(|fit| fit.bias_error)),
            Value::optional(fit.map(|fit| fit.spread)),
            Value::optional(fit.map(|fit| fit.spread_error)),
            Value::optional(fit.map(|fit| fit.deviance)),
            Value::Int(choices.len() as i64),
            Value::Int(choices.iter().map(|(c, _)| c.answers).sum::<usize>() as i64),
        ])?;
    }
    table.finish()
}

pub(super) fn states_table(states: &States) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "states",
            "Steady states that delays lead to, the inputs of the delay being held",
        )
        .key("trial", DType::Int, "Number of the test trial")
        .value("condition", DType::Text, "Kind of trial")
        .value("class", DType::Int, "Class of the trial's first variable")
        .allow_missing()
        .value("converged", DType::Bool, "Whether the residual reached the tolerance")
        .value(
            "residual",
            DType::Float,
            "max|phi(u) - r|; none where it has diverged, as for what follows",
        )
        .tolerance(1e-6, 0.0)
        .allow_missing()
        .value("steps", DType::Int, "Euler steps from the delay's end")
        .value("norm", DType::Float, "Euclidean norm of the rates")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("moved", DType::Float, "Distance from the state at the delay's end")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value(
            "attractor",
            DType::Int,
            "Steady state; trials that lead to the same one share it. None where it did not converge",
        )
        .allow_missing()
        .value("stable", DType::Bool, "Whether the slowest mode decays")
        .allow_missing()
        .value("time_constant", DType::Float, "Slowest time constant")
        .unit("ms")
        .tolerance(1e-6, 1e-6)
        .allow_missing(),
    )?;
    for state in &states.found {
        let trial = &states.trials.presented[state.trial].trial;
        let slowest = state.modes.first().filter(|_| state.modes_converged);
        table.push_row([
            Value::Int(state.trial as i64),
            Value::Text(trial.condition.clone()),
            trial
                .variables
                .first()
                .map_or(Value::Null, |(_, class)| Value::Int(*class as i64)),
            Value::Bool(state.converged),
            Value::finite(state.residual),
            Value::Int(state.steps as i64),
            Value::finite(state.norm),
            Value::finite(state.moved),
            state.attractor.map_or(Value::Null, |number| Value::Int(number as i64)),
            slowest.map_or(Value::Null, |mode| Value::Bool(mode.real_per_ms < 0.0)),
            Value::optional(slowest.and_then(|mode| mode.time_constant_ms)),
        ])?;
    }
    table.finish()
}

pub(super) fn eigenvalues_table(states: &States) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "eigenvalues",
            "Leading eigenvalues of the Jacobian of all areas at the steady states of delays",
        )
        .key("trial", DType::Int, "Number of the test trial")
        .key("mode", DType::Int, "Rank by real part, from 0")
        .value("real", DType::Float, "Real part")
        .unit("1/ms")
        .tolerance(1e-9, 1e-6)
        .value("imaginary", DType::Float, "Imaginary part")
        .unit("1/ms")
        .tolerance(1e-9, 1e-6)
        .value("residual", DType::Float, "|J v - lambda v| for the unit eigenvector v")
        .unit("1/ms")
        .tolerance(1e-6, 0.0)
        .value("frequency", DType::Float, "|imaginary part| / 2 pi")
        .unit("Hz")
        .tolerance(1e-6, 1e-6)
        .value(
            "converged",
            DType::Bool,
            "Whether the eigenvalues reached the tolerance",
        ),
    )?;
    for state in &states.found {
        for (rank, mode) in state.modes.iter().enumerate() {
            table.push_row([
                Value::Int(state.trial as i64),
                Value::Int(rank as i64),
                Value::Float(mode.real_per_ms),
                Value::Float(mode.imaginary_per_ms),
                Value::Float(mode.residual_per_ms),
                Value::Float(mode.frequency_hz),
                Value::Bool(state.modes_converged),
            ])?;
        }
    }
    table.finish()
}

pub(super) fn speed_table(steps: usize, clips: usize, training_s: f64, whole_s: f64) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new("speed", "Time taken")
            .value("steps", DType::Int, "Gradient steps")
            .value(
                "clips",
                DType::Int,
                "Responses of the front-end that were computed and kept",
            )
            .value("training", DType::Float, "Time of training, responses included")
            .unit("s")
            .value("whole", DType::Float, "Time of training and measurement")
            .unit("s"),
    )?;
    table.push_row([
        Value::Int(steps as i64),
        Value::Int(clips as i64),
        Value::Float(training_s),
        Value::Float(whole_s),
    ])?;
    table.finish()
}
