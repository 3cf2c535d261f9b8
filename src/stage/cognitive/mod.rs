//! `cognitive`: association areas above a front-end learn a task, and are measured on images that nothing has seen.

mod params;
mod tables;

use std::ops::ControlFlow;
use std::time::Instant;

use cords::assoc::{
    AssocError, Clip, Delay, DelayStateOptions, FrontEnd, Layout, Lesion, OneHot, Pool, Readout, Responses, Setting,
    Source, TestTrials, TrainRecord, Weights, decode_over_time, delay_states, train,
};
use cords::data::{ImageSet, Split};
use cords::net::Model;

use self::params::{Params, Stimuli};
use self::tables::{
    Measured, accuracy_table, decoding_table, eigenvalues_table, lesions_table, psychometric_table, rates_table,
    speed_table, states_table, summary_table, training_table,
};
use super::{Artifact, Context, Kind, Output, StageError, Update, Violation};

pub(super) struct Cognitive;

/// Regularisation of the decoders, relative to the mean variance of a unit.
const RIDGE: f64 = 1e-2;

impl Kind for Cognitive {
    type Params = Params;
    const NAME: &'static str = "cognitive";
    const SUMMARY: &'static str =
        "association areas above a CordsNet learn a cognitive task; accuracy, lesions, decoding and steady states";
    const CODE_VERSION: u32 = 1;

    fn check(params: &Params) -> Vec<Violation> {
        params.violations()
    }

    fn outputs(_: &Params) -> Vec<Output> {
        let mut outputs = vec![Output::new("areas", Artifact::Files)];
        let tables = [
            "summary",
            "training",
            "accuracy",
            "lesions",
            "rates",
            "decoding",
            "psychometric",
            "states",
            "eigenvalues",
            "speed",
        ];
        outputs.extend(tables.map(|table| Output::new(table, Artifact::Table)));
        outputs
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
        let source: Box<dyn Source> = match params.stimuli {
            Stimuli::Images => Box::new(front_end(params, &model, &set, task.placed())?),
            Stimuli::OneHot => Box::new(OneHot {
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
        let timing = params.timing();
        timing.validate()?;
        let setting = Setting {
            task: task.as_ref(),
            timing: &timing,
            mask: params.mask(),
            settle: match params.stimuli {
                Stimuli::Images => (params.settle / params.dt).ceil() as usize,
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
        let responses = Responses::new(source.as_ref(), &sample)?;
        Experiment {
            params,
            setting,
            layout,
            pools,
            responses,
        }
        .run(context)
    }
}

fn front_end<'a>(params: &Params, model: &Model, set: &'a ImageSet, placed: bool) -> Result<FrontEnd<'a>, StageError> {
    let net = model.cordsnet().ok_or_else(|| {
        StageError::new("the front-end is a CNN, which has no dynamics")
            .hint("give `front_end` a stage that trains a CordsNet")
    })??;
    let areas = net.architecture().areas();
    let readout = Readout {
        areas: params
            .read_areas
            .clone()
            .unwrap_or_else(|| (areas.saturating_sub(2)..areas).collect()),
        grid: params.grid.unwrap_or(if placed { 4 } else { 1 }),
    };
    let (mean, std) = model.info().normalisation((set.mean(), set.std()));
    Ok(FrontEnd::new(
        net,
        set,
        (mean.to_vec(), std.to_vec()),
        readout,
        params.dt,
        params.settle,
        params.seed,
    )?)
}

/// Everything that is trained and measured with.
struct Experiment<'a> {
    params: &'a Params,
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
        let [train_pool, validation, _] = &self.pools;
        let mut observe = |record: &TrainRecord| {
            context.report(progress(record, options.steps));
            ControlFlow::Continue(())
        };
        let pools = (train_pool, validation);
        let trained = train(
            &self.layout,
            start,
            &self.setting,
            &mut self.responses,
            pools,
            &options,
            &mut observe,
        )?;
        let training_s = started.elapsed().as_secs_f64();
        if !trained.reached {
            context.note(format!(
                "the criterion of {} was not reached in {} steps",
                options.criterion, options.steps
            ));
        }
        trained
            .weights
            .save(&self.layout, &context.output("areas")?.join("areas.safetensors"))?;
        let acting = trained.weights.effective(&self.layout);
        let measured = self.measure(&acting)?;
        context.write_table("training", &training_table(&trained.records)?)?;
        context.write_table("summary", &summary_table(&self.layout, &trained, &measured)?)?;
        context.write_table("accuracy", &accuracy_table(&measured)?)?;
        context.write_table("lesions", &lesions_table(&measured)?)?;
        context.write_table("rates", &rates_table(&self.layout, &measured)?)?;
        let decoded = self.decoded(&acting)?;
        context.write_table("decoding", &decoding_table(&self.layout, &decoded)?)?;
        context.write_table("psychometric", &psychometric_table(&measured)?)?;
        let states = self.states(&acting)?;
        context.write_table("states", &states_table(&states)?)?;
        context.write_table("eigenvalues", &eigenvalues_table(&states)?)?;
        let steps = trained.records.last().map_or(0, |record| record.step);
        let whole_s = started.elapsed().as_secs_f64();
        context.write_table("speed", &speed_table(steps, self.responses.len(), training_s, whole_s)?)
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
    fn measure(&mut self, acting: &Weights<f32>) -> Result<Measured, AssocError> {
        let trials = self.test_trials(self.params.test_trials, Delay::UpTo(1.0))?;
        let twice = self.test_trials(self.params.test_trials, Delay::Times(2.0))?;
        let mut lesions = Vec::new();
        for lesion in Lesion::all(&self.layout) {
            let cut = lesion.cut(&self.layout, acting);
            let answers = trials.answers(&self.setting, &self.layout, &cut, &self.responses)?;
            let rates = trials.rates(&self.setting, &self.layout, &cut, &self.responses)?;
            lesions.push((lesion, answers, rates));
        }
        let twice_answers = twice.answers(&self.setting, &self.layout, acting, &self.responses)?;
        Ok(Measured {
            trials,
            lesions,
            twice,
            twice_answers,
        })
    }

    fn decoded(&mut self, acting: &Weights<f32>) -> Result<Vec<cords::assoc::Decoded>, AssocError> {
        let trials = self.test_trials(self.params.decode_trials, Delay::Longest)?;
        decode_over_time(
            &self.setting,
            &self.layout,
            acting,
            &self.responses,
            &trials.presented,
            self.params.decode_every,
            RIDGE,
        )
    }

    fn states(&mut self, acting: &Weights<f32>) -> Result<tables::States, AssocError> {
        let trials = self.test_trials(self.params.steady_trials, Delay::Longest)?;
        let options = DelayStateOptions {
            tolerance: 1e-6,
            max_steps: 20_000,
            modes: self.params.eigenvalues,
            seed: self.params.seed,
        };
        let found = delay_states(
            &self.setting,
            &self.layout,
            acting,
            &self.responses,
            &trials.presented,
            &options,
        )?;
        Ok(tables::States { trials, found })
    }
}

fn progress(record: &TrainRecord, steps: usize) -> Update {
    Update {
        done: record.step as u64,
        total: steps as u64,
        unit: "steps".into(),
        phase: format!("step {}/{steps}", record.step),
        figures: vec![
            ("loss".into(), record.loss),
            ("validation accuracy".into(), record.accuracy()),
            ("delays".into(), record.delays),
        ],
        milestone: true,
    }
}
