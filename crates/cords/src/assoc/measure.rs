//! What a trained network does on trials that it has never seen: accuracy by delay and condition, rates, lesions.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::dependence::Dependence;
use super::encoder::{Responses, StimulusEncoder};
use super::experiment::{Answer, Presented, Setting, Simulation, steps};
use super::tasks::{Delay, Pool};
use super::train::TEST;
use super::{AssocError, Layout, Weights};

/// How many answers are right, wrong and missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Answers for which activity stayed finite.
    pub answers: usize,
    /// Finite answers that were right.
    pub right: usize,
    /// Answers for which activity left the finite numbers: neither right nor wrong.
    pub diverged: usize,
    /// 95 % interval of the share that was right, over images and trials; the whole range where there are no answers.
    pub interval: [f64; 2],
}

impl Score {
    /// Share that was right; none without answers.
    pub fn accuracy(&self) -> Option<f64> {
        (self.answers > 0).then(|| self.right as f64 / self.answers as f64)
    }

    /// The interval; none without answers.
    pub fn bounds(&self) -> Option<[f64; 2]> {
        (self.answers > 0).then_some(self.interval)
    }
}

/// Trials from test images, ready to run.
pub struct TestTrials {
    /// Trials with the numbers that name their noise.
    pub presented: Vec<Presented>,
    /// Which of them show the same images.
    pub dependence: Dependence,
}

/// Mean rate of an area in an epoch: the epoch's name, the area, and the rate, which is not finite where activity has
/// diverged.
pub type EpochRate = (&'static str, usize, f64);

/// Answers of a network and its rates.
pub type NetworkMeasured = (Vec<Answer>, Vec<EpochRate>);

/// Told of each group of trials that is done, of how many in all; breaking off ends the measurement.
pub type MeasureObserver<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

impl TestTrials {
    /// Draws `count` trials from a pool and computes the responses that they need.
    ///
    /// # Errors
    /// As [`Responses::prepare`].
    pub fn new(
        setting: &Setting<'_>,
        responses: &mut Responses<'_>,
        pool: &Pool,
        count: usize,
        delay: Delay,
        dt_ms: f64,
    ) -> Result<Self, AssocError> {
        Self::ready(setting, responses, setting.draw(pool, TEST, count, None, delay), dt_ms)
    }

    /// The same from two halves of the pool's images in turn, so that trials can be divided into two parts that show no
    /// image in common. None where a class has but one image. Stimuli that are no images come from the whole pool.
    ///
    /// # Errors
    /// As [`Responses::prepare`].
    pub fn from_halves(
        setting: &Setting<'_>,
        responses: &mut Responses<'_>,
        pool: &Pool,
        count: usize,
        delay: Delay,
        dt_ms: f64,
    ) -> Result<Option<Self>, AssocError> {
        if matches!(responses.source(), StimulusEncoder::OneHot(_)) {
            return Self::new(setting, responses, pool, count, delay, dt_ms).map(Some);
        }
        let Some(halves) = pool.halves() else {
            return Ok(None);
        };
        let one = |number: usize| setting.draw(&halves[number % 2], TEST + number as u64, 1, None, delay);
        let presented = (0..count).flat_map(one).collect();
        Self::ready(setting, responses, presented, dt_ms).map(Some)
    }

    fn ready(
        setting: &Setting<'_>,
        responses: &mut Responses<'_>,
        presented: Vec<Presented>,
        dt_ms: f64,
    ) -> Result<Self, AssocError> {
        setting.prepare(responses, &presented, dt_ms)?;
        let dependence = Dependence::of(&presented, matches!(responses.source(), StimulusEncoder::FrontEnd(_)));
        Ok(Self { presented, dependence })
    }

    /// Answers of a network, with its weights as they act.
    ///
    /// # Errors
    /// As [`Simulation::run`].
    pub fn answers(&self, simulation: &Simulation<'_>, acting: &Weights<f32>) -> Result<Vec<Answer>, AssocError> {
        simulation.run(acting, &self.presented, &mut |_, _| {})
    }

    /// The score of answers.
    pub fn score<'a>(&self, answers: impl IntoIterator<Item = &'a Answer>) -> Score {
        let one = |answer: &Answer| (answer.trial, answer.choice.map(|choice| choice == answer.target));
        self.dependence.score(answers.into_iter().map(one))
    }

    /// Scores by delay in ms (none where the task has none) and condition.
    pub fn by_delay_and_condition(&self, answers: &[Answer]) -> Vec<(Option<f64>, String, Score)> {
        let mut found: BTreeMap<(u64, &str), Vec<&Answer>> = BTreeMap::new();
        for answer in answers {
            let trial = &self.presented[answer.trial].trial;
            // Delays are not negative, so their bits are in their order.
            let delay = trial.delay_ms.map_or(u64::MAX, f64::to_bits);
            found.entry((delay, trial.condition.as_str())).or_default().push(answer);
        }
        let delay = |bits: u64| (bits != u64::MAX).then(|| f64::from_bits(bits));
        found
            .into_iter()
            .map(|((bits, condition), own)| (delay(bits), condition.to_owned(), self.score(own)))
            .collect()
    }

    /// Answers of several networks that differ in their recurrent weights, and the mean rate of every area in every
    /// epoch, by the epoch's name in the order of the first trial. What trials show and their noise are computed once
    /// for all.
    ///
    /// # Errors
    /// As [`Simulation::run`]; [`AssocError::Stopped`] where `observe` breaks off.
    pub fn measure(
        &self,
        simulation: &Simulation<'_>,
        acting: &[Weights<f32>],
        observe: &mut MeasureObserver<'_>,
    ) -> Result<Vec<NetworkMeasured>, AssocError> {
        let mut rates: Vec<Rates> = acting.iter().map(|_| Rates::default()).collect();
        let (mut done, all) = (0, acting.len() * self.presented.len());
        let answers = simulation.run_each(acting, &self.presented, &mut |network, presented, activity| {
            rates[network].add(simulation.layout, presented, &activity.rates);
            done += presented.len();
            match observe(done, all) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(AssocError::Stopped),
            }
        })?;
        Ok(answers.into_iter().zip(rates.into_iter().map(Rates::means)).collect())
    }
}

/// Sums of rates by epoch and area, with the number of steps.
#[derive(Default)]
struct Rates(Vec<(&'static str, Vec<f64>, usize)>);

impl Rates {
    fn add(&mut self, layout: &Layout, presented: &[Presented], rates: &[f32]) {
        let units = layout.units();
        for (trial, p) in presented.iter().enumerate() {
            let mut step = 0;
            for epoch in &p.trial.epochs {
                let place = self.0.iter().position(|(name, ..)| *name == epoch.name);
                let place = place.unwrap_or_else(|| {
                    self.0.push((epoch.name, vec![0.0; layout.areas.len()], 0));
                    self.0.len() - 1
                });
                for _ in 0..steps(epoch.ms, layout.dt_ms) {
                    let row = &rates[(step * presented.len() + trial) * units..][..units];
                    for (area, sum) in self.0[place].1.iter_mut().enumerate() {
                        let own = &row[layout.range(area)];
                        *sum += own.iter().map(|r| f64::from(*r)).sum::<f64>() / own.len() as f64;
                    }
                    self.0[place].2 += 1;
                    step += 1;
                }
            }
        }
    }

    fn means(self) -> Vec<EpochRate> {
        let each = self.0.into_iter().filter(|(_, _, count)| *count > 0);
        each.flat_map(|(name, sums, count)| {
            sums.into_iter()
                .enumerate()
                .map(move |(area, sum)| (name, area, sum / count as f64))
        })
        .collect()
    }
}

/// A set of connections that are cut together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesion {
    /// What tables call it.
    pub name: String,
    /// Pairs of areas, from and to.
    pub pairs: Vec<(usize, usize)>,
}

impl Lesion {
    /// Nothing cut, each projection on its own, then all feedback together where there is more than one.
    pub fn all(layout: &Layout) -> Vec<Self> {
        let name = |area: usize| layout.areas.get(area).map_or("", |area| area.name.as_str());
        let mut lesions = vec![Self {
            name: "none".into(),
            pairs: Vec::new(),
        }];
        lesions.extend(layout.projections.iter().map(|projection| Self {
            name: format!("{} to {}", name(projection.from), name(projection.to)),
            pairs: vec![(projection.from, projection.to)],
        }));
        let back: Vec<(usize, usize)> = layout
            .projections
            .iter()
            .filter(|p| p.is_feedback())
            .map(|p| (p.from, p.to))
            .collect();
        if back.len() > 1 {
            lesions.push(Self {
                name: "all feedback".into(),
                pairs: back,
            });
        }
        lesions
    }

    /// Weights as they act with these connections cut.
    pub fn cut(&self, layout: &Layout, acting: &Weights<f32>) -> Weights<f32> {
        self.pairs
            .iter()
            .fold(acting.clone(), |cut, (from, to)| cut.without(layout, *from, *to))
    }
}
