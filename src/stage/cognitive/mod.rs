//! `cognitive`: association areas above a front-end learn a task, and are measured on images that nothing has seen.

mod params;
mod pictures;
mod tables;

use std::time::Instant;

use cords::assoc::{
    self, AssocError, Clip, Decoded, Delay, DelayStateOptions, FrontEnd, FrontEndSettings, FrontEndTraining, Layout,
    Lesion, OneHot, Pool, Readout, Responses, Setting, Simulation, StimulusEncoder, TestTrials, TrainProgress,
    TrainRecord, Weights, decode_over_time, delay_states,
};
use cords::data::{ImageSet, Split};
use cords::learn::Memory;
use cords::net::{Model, TrainedPhase};

use self::params::{Params, Stimuli};
use self::pictures::write_pictures;
use self::tables::{
    Accuracy, Decoding, Eigenvalue, Fitted, Lesioned, Measured, Rate, Speed, State, Summary, Training,
    psychometric_functions,
};
use super::{Artifact, Context, Declared, Kind, MODEL, StageError, Update, Violation};
use super::{checkpoints, keyed_defaults};
use dynvis_runner::table::TableRow;

pub(super) struct Cognitive;

// Outputs that are no tables; those are named by their rows.
const AREAS: &str = "areas";
const FRONT_END: &str = "front_end";
const PICTURES: &str = "pictures";

/// Regularisation of the decoders, relative to the mean variance of a unit.
const RIDGE: f64 = 1e-2;

impl Kind for Cognitive {
    type Params = Params;
    const NAME: &'static str = "cognitive";
    const SUMMARY: &'static str =
        "association areas above a CordsNet learn a cognitive task; accuracy, lesions, decoding and steady states";
    const CODE_VERSION: u32 = 3;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::COGNITIVE;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always(AREAS, Artifact::FILES, "weights of the association areas"),
        Declared::always(FRONT_END, MODEL, "the front-end after it learned")
            .when("with `front_end_training: through` and images as stimuli", |params| {
                params.trains_front_end()
            }),
        Declared::table::<Summary>("the network on test images, in one row"),
        Declared::table::<Training>("validations during training"),
        Declared::table::<Accuracy>("accuracy on test images by delay and condition"),
        Declared::table::<Lesioned>("accuracy on test images with projections cut after training"),
        Declared::table::<Rate>("mean rate of each area in each epoch, whole and with projections cut"),
        Declared::table::<Decoding>("what a linear classifier reads from each area over time"),
        Declared::table::<Fitted>("logistic function of the second choice over the signed strength of evidence"),
        Declared::table::<State>("steady states that delays lead to"),
        Declared::table::<Eigenvalue>("leading eigenvalues of all areas at those steady states"),
        Declared::table::<Speed>("time taken"),
        Declared::always(
            PICTURES,
            Artifact::FILES,
            "training, accuracy, decoding and psychometric functions; SVG and PNG",
        ),
    ];
    const KEEPS_CHECKPOINTS: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        params.violations()
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let model = Model::load(&context.input(&params.front_end.0)?.join("model.safetensors"))?;
        let task = params.task.build();
        let classes = set.classes().len();
        if classes < task.least_classes() {
            return Err(StageError::new(format!(
                "the task needs images of at least {} classes, the dataset has {classes}",
                task.least_classes()
            )));
        }
        let source = match params.stimuli {
            Stimuli::Images => {
                let memory = context.share_of_memory().map_or(Memory::Unlimited, Memory::Budget);
                StimulusEncoder::FrontEnd(Box::new(front_end(params, &model, &set, task.placed(), memory)?))
            }
            Stimuli::OneHot => StimulusEncoder::OneHot(OneHot {
                classes,
                placed: task.placed(),
                dt_ms: params.dt,
                seed: params.seed,
            }),
        };
        let pool = |split: Split| match params.stimuli {
            Stimuli::Images => Pool::new(set.split(split).iter().map(|i| (*i, set.label(*i as usize))), classes),
            Stimuli::OneHot => Ok(Pool::one_hot(classes)),
        };
        let pools = [pool(Split::Train)?, pool(Split::Validation)?, pool(Split::Test)?];
        let timing = params.durations();
        timing.validate()?;
        let setting = Setting {
            task: task.as_ref(),
            timing: &timing,
            mask: params.mask(),
            settle: match params.stimuli {
                Stimuli::Images => (params.settle / params.dt).round() as usize,
                // Nothing goes on after a one-hot stimulus.
                Stimuli::OneHot => 0,
            },
            seed: params.seed,
        };
        let layout = params.layout(
            source.features(),
            1 + task.cues().len(),
            1 + task.choices(classes).len(),
        );
        layout.validate()?;
        let first = setting.draw(&pools[0], 0, 128, None, Delay::UpTo(1.0));
        let sample: Vec<Clip> = first
            .iter()
            .flat_map(|p| setting.clips(&p.trial, params.dt))
            .map(|(_, clip)| clip)
            .collect();
        let responses = Responses::new(source, &sample)?;
        Experiment {
            params,
            model: &model,
            setting,
            layout,
            pools,
            responses,
        }
        .run(context)
    }
}

/// Cells along a side of the maps, where a task needs place and nothing else is asked for.
const PLACED_GRID: usize = 4;

fn front_end<'a>(
    params: &Params,
    model: &Model,
    set: &'a ImageSet,
    placed: bool,
    memory: Memory,
) -> Result<FrontEnd<'a>, StageError> {
    if let Model::Cnn { .. } = model {
        let error = StageError::new("the front-end is a CNN, which has no dynamics");
        return Err(error.hint("give `front_end` a stage that trains a CordsNet"));
    }
    let net = model.cordsnet()?;
    let count = net.architecture().areas();
    let areas = params
        .read_areas
        .clone()
        .unwrap_or_else(|| (count.saturating_sub(2)..count).collect());
    // Small maps have less place to tell.
    let sides = net.architecture().sides();
    let smallest = areas.iter().filter_map(|area| sides.get(*area)).min();
    let fine = smallest.map_or(PLACED_GRID, |side| PLACED_GRID.min(*side));
    let readout = Readout {
        areas,
        grid: params.grid.unwrap_or(if placed { fine } else { 1 }),
    };
    let (mean, std) = model.info().normalisation((set.mean(), set.std()));
    let settings = FrontEndSettings {
        mean: mean.to_vec(),
        std: std.to_vec(),
        readout,
        dt_ms: params.dt,
        spontaneous_ms: params.settle,
        seed: params.seed,
    };
    let front_end = FrontEnd::new(net, set, settings)?;
    Ok(match params.trains_front_end() {
        false => front_end,
        true => front_end.trained(FrontEndTraining {
            learning_rate: params.front_end_learning_rate,
            memory,
        }),
    })
}

/// Everything that is trained and measured with.
struct Experiment<'a> {
    params: &'a Params,
    /// The front-end before any training here.
    model: &'a Model,
    setting: Setting<'a>,
    layout: Layout,
    /// Training, validation and test.
    pools: [Pool; 3],
    responses: Responses<'a>,
}

impl Experiment<'_> {
    fn run(mut self, context: &mut Context) -> Result<(), StageError> {
        let started = Instant::now();
        let options = self.params.training();
        let start = Weights::initial(&self.layout, self.params.gain, self.params.seed);
        let checkpoints = checkpoints::of(context, self.params.checkpoint_minutes);
        let mut observe = |progress: TrainProgress<'_>| {
            tell(&progress, self.params.loss_name(), options.steps, context);
            checkpoints::heed(context)
        };
        let pools = (&self.pools[0], &self.pools[1]);
        let training = assoc::Training::new(&self.layout, &self.setting, pools, &options);
        let training = training.checkpoints(Some(&checkpoints)).observer(&mut observe);
        let trained = training.run(start, &mut self.responses)?;
        let training_s = started.elapsed().as_secs_f64();
        if !trained.reached {
            context.note(format!(
                "the criterion of {} was not reached in {} steps",
                options.criterion, options.steps
            ));
        }
        trained
            .weights
            .save(&self.layout, &context.output(AREAS)?.join("areas.safetensors"))?;
        let steps = trained.records.last().map_or(0, |record| record.step);
        self.save_front_end(steps, context)?;
        let acting = trained.weights.effective(&self.layout);
        let measured = self.measure(&acting, context)?;
        context.write_rows(Training::NAME, Training::rows(&trained.records))?;
        context.write_rows(Summary::NAME, [Summary::of(&self.layout, &trained, &measured)])?;
        context.write_rows(Accuracy::NAME, Accuracy::rows(&measured))?;
        context.write_rows(Lesioned::NAME, Lesioned::rows(&measured))?;
        context.write_rows(Rate::NAME, Rate::rows(&self.layout, &measured))?;
        let diverged = measured.diverged();
        if !diverged.is_empty() {
            let names = diverged.join(", ");
            context.note(format!(
                "activity diverged, and is counted as such and not as answers: {names}"
            ));
        }
        begins("decoding", context)?;
        let decoded = self.decoded(&acting, context)?;
        context.write_rows(Decoding::NAME, Decoding::rows(&self.layout, &decoded))?;
        let functions = psychometric_functions(&measured);
        context.write_rows(Fitted::NAME, Fitted::rows(&functions))?;
        begins("steady states", context)?;
        let states = self.states(&acting)?;
        context.write_rows(State::NAME, State::rows(&states))?;
        context.write_rows(Eigenvalue::NAME, Eigenvalue::rows(&states))?;
        write_pictures(
            &context.output(PICTURES)?,
            &self.params.title(),
            &self.layout,
            &measured,
            &decoded,
            &functions,
        )?;
        let speed = Speed {
            steps,
            clips: self.responses.len(),
            training: training_s,
            whole: started.elapsed().as_secs_f64(),
        };
        context.write_rows(Speed::NAME, [speed])
    }

    /// Writes what the front-end has become, where it learns.
    fn save_front_end(&self, steps: usize, context: &mut Context) -> Result<(), StageError> {
        let (StimulusEncoder::FrontEnd(front_end), Model::CordsNet { .. }) = (self.responses.source(), self.model)
        else {
            return Ok(());
        };
        if !front_end.learns() {
            return Ok(());
        }
        let mut model = self.model.clone();
        if let Model::CordsNet { parameters, info, .. } = &mut model {
            *parameters = front_end.parameters().clone();
            let trials = self.params.training().batch * steps;
            info.phases.push(TrainedPhase {
                phase: "cognitive".to_owned(),
                epochs: trials / self.pools[0].images().max(1),
            });
        }
        Ok(model.save(&context.output(FRONT_END)?.join("model.safetensors"))?)
    }

    /// How trials are run whose responses have been prepared.
    fn simulation(&self) -> Simulation<'_> {
        Simulation::new(&self.setting, &self.layout, &self.responses)
    }

    fn test_trials(&mut self, count: usize, delay: Delay) -> Result<TestTrials, AssocError> {
        let pool = &self.pools[2];
        TestTrials::new(
            &self.setting,
            &mut self.responses,
            pool,
            count,
            delay,
            self.layout.dt_ms,
        )
    }

    /// Accuracy with each lesion at the trained delays, and of the whole network at twice the delays.
    fn measure(&mut self, acting: &Weights<f32>, context: &mut Context) -> Result<Measured, AssocError> {
        begins("test trials", context)?;
        let trials = self.test_trials(self.params.test_trials, Delay::UpTo(1.0))?;
        let twice = self.test_trials(self.params.test_trials, Delay::Times(2.0))?;
        let lesions = Lesion::all(&self.layout);
        let cut: Vec<Weights<f32>> = lesions.iter().map(|lesion| lesion.cut(&self.layout, acting)).collect();
        let run = |trials: &TestTrials, networks: &[Weights<f32>], phase: &str, context: &mut Context| {
            begins(phase, context)?;
            trials.measure(&self.simulation(), networks, &mut |done, all| {
                context.report(Update {
                    done: done as u64,
                    total: all as u64,
                    unit: "trials".into(),
                    phase: phase.into(),
                    ..Update::default()
                });
                checkpoints::heed(context)
            })
        };
        let found = run(&trials, &cut, "lesions", context)?;
        let one = std::slice::from_ref(acting);
        let twice_answers = run(&twice, one, "twice the delays", context)?;
        Ok(Measured {
            chance: self.setting.task.chance(&self.pools[2], self.setting.timing),
            trials,
            lesions: lesions
                .into_iter()
                .zip(found)
                .map(|(lesion, (answers, rates))| (lesion, answers, rates))
                .collect(),
            twice,
            twice_answers: twice_answers.into_iter().flat_map(|(answers, _)| answers).collect(),
        })
    }

    fn decoded(&mut self, acting: &Weights<f32>, context: &mut Context) -> Result<Vec<Decoded>, AssocError> {
        let trials = TestTrials::from_halves(
            &self.setting,
            &mut self.responses,
            &self.pools[2],
            self.params.decode_trials,
            Delay::Longest,
            self.layout.dt_ms,
        )?;
        let Some(trials) = trials else {
            context
                .note("nothing is decoded: a class has a single test image, and decoders are tested on other images");
            return Ok(Vec::new());
        };
        decode_over_time(&self.simulation(), acting, &trials, self.params.decode_every, RIDGE)
    }

    fn states(&mut self, acting: &Weights<f32>) -> Result<tables::States, AssocError> {
        let trials = self.test_trials(self.params.steady_trials, Delay::Longest)?;
        let options = DelayStateOptions {
            tolerance: 1e-6,
            max_steps: 20_000,
            modes: self.params.eigenvalues,
            seed: self.params.seed,
        };
        let found = delay_states(&self.simulation(), acting, &trials.presented, &options)?;
        Ok(tables::States { trials, found })
    }
}

/// Tells that a part of the measurement begins. Ends the stage there where it was asked to: its training is in a
/// checkpoint.
fn begins(phase: &str, context: &mut Context) -> Result<(), AssocError> {
    context.report(Update {
        phase: phase.into(),
        ..Update::default()
    });
    match context.stop_requested() {
        true => Err(AssocError::Stopped),
        false => Ok(()),
    }
}

fn tell(progress: &TrainProgress<'_>, loss: &str, steps: usize, context: &mut Context) {
    match progress {
        TrainProgress::Step(step) => context.report(Update {
            done: *step as u64,
            total: steps as u64,
            unit: "steps".into(),
            phase: format!("step {step}/{steps}"),
            ..Update::default()
        }),
        TrainProgress::Validating(step) => context.report(Update {
            done: *step as u64,
            total: steps as u64,
            unit: "steps".into(),
            phase: format!("step {step}/{steps}, validation"),
            ..Update::default()
        }),
        TrainProgress::Validated(record) => context.report(validated(record, loss, steps)),
        TrainProgress::Checkpoint(progress) => {
            checkpoints::tell(progress, |step| format!("step {step}/{steps}"), context);
        }
    }
}

/// `loss`: what it is.
fn validated(record: &TrainRecord, loss: &str, steps: usize) -> Update {
    let mut figures = vec![(loss.into(), record.loss)];
    // None where all of it has diverged.
    figures.extend(
        record
            .accuracy()
            .map(|accuracy| ("validation accuracy".into(), accuracy)),
    );
    figures.push(("delays".into(), record.delays));
    Update {
        done: record.step as u64,
        total: steps as u64,
        unit: "steps".into(),
        phase: format!("step {}/{steps}", record.step),
        figures,
        milestone: true,
    }
}
