//! Result tables of `cognitive`.

use std::collections::BTreeMap;

use cords::assoc::{
    Answer, Choices, Decoded, DelayState, EpochRate, Graded, Layout, Lesion, Psychometric, Score, TestTrials,
    TrainRecord, Trained, psychometric,
};

use dynvis_runner::table::Row;

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
     independent answers that would vary as much as these, of which those that share an image vary together. Half, \
     since decoders vary with the images that they are fitted on; that is rather too wide";

/// How many answers were right: a decoder's, or a network's.
#[derive(Row)]
struct Scored<const DECODED: bool> {
    /// Share of answers that were right, of those for which activity stayed finite; none where it never did
    accuracy: Option<f64>,
    #[column(description = if DECODED { OF_DECODERS } else { OF_ANSWERS })]
    low: Option<f64>,
    /// Upper end
    high: Option<f64>,
    /// Answers for which activity stayed finite
    n: usize,
    /// Answers for which activity did not: neither right nor wrong
    diverged: usize,
}

impl<const DECODED: bool> From<Score> for Scored<DECODED> {
    fn from(score: Score) -> Self {
        Self {
            accuracy: score.accuracy(),
            low: score.bounds().map(|[low, _]| low),
            high: score.bounds().map(|[_, high]| high),
            n: score.answers,
            diverged: score.diverged,
        }
    }
}

/// Validations during training
#[derive(Row)]
#[table(name = "training")]
pub(super) struct Training {
    /// Gradient steps done
    #[column(key)]
    step: usize,
    /// Trials seen
    trials: u64,
    /// Share of the delays in use, the shortest first
    delays: f64,
    /// Loss and penalties, mean since the last validation
    #[column(absolute = 1e-6, relative = 1e-6)]
    objective: f64,
    /// Loss under the mask, mean since the last validation
    #[column(absolute = 1e-6, relative = 1e-6)]
    loss: f64,
    /// Norm of the areas' gradient before it is shortened
    #[column(absolute = 1e-6, relative = 1e-6)]
    gradient_norm: f64,
    /// Norm of the front-end's gradient; 0 where it does not learn
    #[column(absolute = 1e-6, relative = 1e-6)]
    front_end_norm: f64,
    /// Share of right answers on validation images, of those for which activity stayed finite
    validation_accuracy: Option<f64>,
    /// Answers for which activity stayed finite
    n: usize,
    /// Answers for which activity did not
    diverged: usize,
}

impl Training {
    pub(super) fn rows(records: &[TrainRecord]) -> impl Iterator<Item = Self> {
        records.iter().map(|record| Self {
            step: record.step,
            trials: record.trials,
            delays: record.delays,
            objective: record.objective,
            loss: record.loss,
            gradient_norm: record.gradient_norm,
            front_end_norm: record.front_end_norm,
            validation_accuracy: record.accuracy(),
            n: record.answers.saturating_sub(record.diverged),
            diverged: record.diverged,
        })
    }
}

/// The network on test images, in one row
#[derive(Row)]
#[table(name = "summary")]
pub(super) struct Summary {
    #[column(flatten)]
    score: Scored<false>,
    /// What the best strategy reaches that ignores the memory: it knows what is shown after the delay, and nothing of
    /// before
    chance: f64,
    /// Accuracy at twice the delays
    twice_delay: Option<f64>,
    /// Accuracy with all feedback projections cut; none without feedback, or where all of it diverged
    no_feedback: Option<f64>,
    /// Whether validation reached the criterion
    reached: bool,
    /// Gradient steps
    steps: usize,
    /// Units of all areas
    units: usize,
}

impl Summary {
    pub(super) fn of(layout: &Layout, trained: &Trained, measured: &Measured) -> Self {
        // The last lesion is all feedback, where there is any: `Lesion::all` puts it there, alone or together.
        let feedback = |lesion: &Lesion| !lesion.pairs.is_empty() && lesion.pairs.iter().all(|(from, to)| to < from);
        let without = measured.lesions.iter().rev().find(|(lesion, ..)| feedback(lesion));
        Self {
            score: measured.trials.score(measured.intact()).into(),
            chance: measured.chance,
            twice_delay: measured.twice.score(&measured.twice_answers).accuracy(),
            no_feedback: without.and_then(|(_, answers, _)| measured.trials.score(answers).accuracy()),
            reached: trained.reached,
            steps: trained.records.last().map_or(0, |record| record.step),
            units: layout.units(),
        }
    }
}

/// Accuracy on test images by delay and condition
#[derive(Row)]
#[table(name = "accuracy")]
pub(super) struct Accuracy {
    /// `trained`, or `twice` as long
    #[column(key)]
    delays: &'static str,
    /// Delay; none where the task has none
    #[column(key, unit = "ms")]
    delay: Option<f64>,
    /// Kind of trial
    #[column(key)]
    condition: String,
    #[column(flatten)]
    score: Scored<false>,
}

impl Accuracy {
    pub(super) fn rows(measured: &Measured) -> impl Iterator<Item = Self> {
        let parts = [
            ("trained", &measured.trials, measured.intact()),
            ("twice", &measured.twice, measured.twice_answers.as_slice()),
        ];
        parts.into_iter().flat_map(|(delays, trials, answers)| {
            let scores = trials.by_delay_and_condition(answers).into_iter();
            scores.map(move |(delay, condition, score)| Self {
                delays,
                delay,
                condition,
                score: score.into(),
            })
        })
    }
}

/// What is cut.
#[derive(Row)]
struct Cut<'a> {
    /// Projection that is cut
    #[column(key)]
    lesion: &'a str,
}

/// Accuracy on test images with projections cut after training
#[derive(Row)]
#[table(name = "lesions")]
pub(super) struct Lesioned<'a> {
    #[column(flatten)]
    cut: Cut<'a>,
    #[column(flatten)]
    score: Scored<false>,
}

impl<'a> Lesioned<'a> {
    pub(super) fn rows(measured: &'a Measured) -> impl Iterator<Item = Self> {
        measured.lesions.iter().map(|(lesion, answers, _)| Lesioned {
            cut: Cut { lesion: &lesion.name },
            score: measured.trials.score(answers).into(),
        })
    }
}

/// Mean rate of each area in each epoch, whole and with projections cut
#[derive(Row)]
#[table(name = "rates")]
pub(super) struct Rate<'a> {
    #[column(flatten)]
    cut: Cut<'a>,
    /// Area
    #[column(key)]
    area: &'a str,
    /// Epoch of the trial
    #[column(key)]
    epoch: &'static str,
    /// Rate, mean over units, steps and trials; none where it has diverged
    #[column(absolute = 1e-6, relative = 1e-6)]
    rate: Option<f64>,
}

impl<'a> Rate<'a> {
    pub(super) fn rows(layout: &'a Layout, measured: &'a Measured) -> impl Iterator<Item = Self> {
        measured.lesions.iter().flat_map(|(lesion, _, rates)| {
            rates.iter().map(|(epoch, area, rate)| Rate {
                cut: Cut { lesion: &lesion.name },
                area: &layout.areas[*area].name,
                epoch,
                rate: Some(*rate),
            })
        })
    }
}

/// What a linear classifier reads from each area over time, on trials with the longest delay; fitted on one half of the
/// test images and tested on the other, then the other way round (one-hot stimuli, which are no images: halves of the
/// trials)
#[derive(Row)]
#[table(name = "decoding")]
pub(super) struct Decoding<'a> {
    /// What is read; `choice` is the network's answer. What has fewer than two classes in a half is left out
    #[column(key)]
    variable: &'static str,
    /// Area
    #[column(key)]
    area: &'a str,
    /// Time from the trial's beginning
    #[column(key, unit = "ms")]
    time: f64,
    /// Epoch of the first trial at that time
    epoch: &'static str,
    #[column(flatten)]
    score: Scored<true>,
    /// Share of the most frequent class
    chance: f64,
}

impl<'a> Decoding<'a> {
    pub(super) fn rows(layout: &'a Layout, decoded: &[Decoded]) -> impl Iterator<Item = Self> {
        decoded.iter().map(|one| Decoding {
            variable: one.variable,
            area: &layout.areas[one.area].name,
            time: one.time_ms,
            epoch: one.epoch,
            score: one.score.into(),
            chance: one.chance,
        })
    }
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

/// Logistic function of the second choice over the signed strength of evidence, by maximum likelihood
#[derive(Row)]
#[table(name = "psychometric")]
pub(super) struct Fitted<'a> {
    /// Kind of trial; `all` for all of them
    #[column(key)]
    condition: &'a str,
    /// Strength at which both choices are as likely; none where no function fits
    #[column(absolute = 1e-6, relative = 1e-6)]
    bias: Option<f64>,
    /// Its standard error over images and trials
    #[column(absolute = 1e-6, relative = 1e-6)]
    bias_error: Option<f64>,
    /// Distance from there to 73 %
    #[column(absolute = 1e-6, relative = 1e-6)]
    spread: Option<f64>,
    /// Its standard error over images and trials
    #[column(absolute = 1e-6, relative = 1e-6)]
    spread_error: Option<f64>,
    /// Twice the log-likelihood lost against a value for each strength
    #[column(absolute = 1e-6, relative = 1e-6)]
    deviance: Option<f64>,
    /// Different strengths
    strengths: usize,
    /// Answers with either choice
    n: usize,
}

impl<'a> Fitted<'a> {
    /// Of tasks with evidence of graded strength; none of others.
    pub(super) fn rows(functions: &'a [Function]) -> impl Iterator<Item = Self> {
        functions.iter().map(|function| Fitted {
            condition: &function.condition,
            bias: function.fit.map(|fit| fit.bias),
            bias_error: function.fit.map(|fit| fit.bias_error),
            spread: function.fit.map(|fit| fit.spread),
            spread_error: function.fit.map(|fit| fit.spread_error),
            deviance: function.fit.map(|fit| fit.deviance),
            strengths: function.choices.len(),
            n: function.choices.iter().map(|(choices, _)| choices.answers).sum(),
        })
    }
}

/// The trial that led to a steady state.
#[derive(Row)]
struct Led {
    /// Number of the test trial
    #[column(key)]
    trial: usize,
}

/// Steady states that delays lead to, the inputs of the delay being held
#[derive(Row)]
#[table(name = "states")]
pub(super) struct State<'a> {
    #[column(flatten)]
    led: Led,
    /// Kind of trial
    condition: &'a str,
    /// Class of the trial's first variable
    class: Option<usize>,
    /// Whether the residual reached the tolerance
    converged: bool,
    /// max|phi(u) - r|; none where it has diverged, as for what follows
    #[column(absolute = 1e-6)]
    residual: Option<f64>,
    /// Euler steps from the delay's end
    steps: usize,
    /// Euclidean norm of the rates
    #[column(absolute = 1e-6, relative = 1e-6)]
    norm: Option<f64>,
    /// Distance from the state at the delay's end
    #[column(absolute = 1e-6, relative = 1e-6)]
    moved: Option<f64>,
    /// Steady state; trials that lead to the same one share it. None where it did not converge
    attractor: Option<usize>,
    /// Whether the slowest mode decays
    stable: Option<bool>,
    /// Slowest time constant
    #[column(unit = "ms", absolute = 1e-6, relative = 1e-6)]
    time_constant: Option<f64>,
}

impl<'a> State<'a> {
    pub(super) fn rows(states: &'a States) -> impl Iterator<Item = Self> {
        states.found.iter().map(|state| {
            let trial = &states.trials.presented[state.trial].trial;
            let slowest = state.modes.first().filter(|_| state.modes_converged);
            State {
                led: Led { trial: state.trial },
                condition: &trial.condition,
                class: trial.variables.first().map(|(_, class)| *class),
                converged: state.converged,
                residual: Some(state.residual),
                steps: state.steps,
                norm: Some(state.norm),
                moved: Some(state.moved),
                attractor: state.attractor,
                stable: slowest.map(|mode| mode.real_per_ms < 0.0),
                time_constant: slowest.and_then(|mode| mode.time_constant_ms),
            }
        })
    }
}

/// Leading eigenvalues of the Jacobian of all areas at the steady states of delays
#[derive(Row)]
#[table(name = "eigenvalues")]
pub(super) struct Eigenvalue {
    #[column(flatten)]
    led: Led,
    /// Rank by real part, from 0
    #[column(key)]
    mode: usize,
    /// Real part
    #[column(unit = "1/ms", absolute = 1e-9, relative = 1e-6)]
    real: f64,
    /// Imaginary part
    #[column(unit = "1/ms", absolute = 1e-9, relative = 1e-6)]
    imaginary: f64,
    /// |J v - lambda v| for the unit eigenvector v
    #[column(unit = "1/ms", absolute = 1e-6)]
    residual: f64,
    /// |imaginary part| / 2 pi
    #[column(unit = "Hz", absolute = 1e-6, relative = 1e-6)]
    frequency: f64,
    /// Whether the eigenvalues reached the tolerance
    converged: bool,
}

impl Eigenvalue {
    pub(super) fn rows(states: &States) -> impl Iterator<Item = Self> {
        states.found.iter().flat_map(|state| {
            state.modes.iter().enumerate().map(|(rank, mode)| Self {
                led: Led { trial: state.trial },
                mode: rank,
                real: mode.real_per_ms,
                imaginary: mode.imaginary_per_ms,
                residual: mode.residual_per_ms,
                frequency: mode.frequency_hz,
                converged: state.modes_converged,
            })
        })
    }
}

/// Time taken
#[derive(Row)]
#[table(name = "speed")]
pub(super) struct Speed {
    /// Gradient steps
    pub(super) steps: usize,
    /// Responses of the front-end that were computed and kept
    pub(super) clips: usize,
    /// Time of training, responses included
    #[column(unit = "s")]
    pub(super) training: f64,
    /// Time of training and measurement
    #[column(unit = "s")]
    pub(super) whole: f64,
}
