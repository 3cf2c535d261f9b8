//! What a trained network does on trials that it has never seen: accuracy by delay and condition, rates, lesions.

use std::collections::BTreeMap;

use super::experiment::{Answer, Presented, Setting, steps};
use super::source::Responses;
use super::tasks::{Delay, Pool};
use super::train::TEST;
use super::{AssocError, Layout, Weights};
use crate::noise::wilson_interval;

/// Answers counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Score {
    /// Answers.
    pub answers: usize,
    /// Those that were right.
    pub right: usize,
}

impl Score {
    /// Counts answers.
    pub fn of<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Self {
        answers.into_iter().fold(Self::default(), |sum, answer| Self {
            answers: sum.answers + 1,
            right: sum.right + usize::from(answer.is_right()),
        })
    }

    /// Share that was right.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.answers.max(1) as f64
    }

    /// Wilson's 95 % interval of the accuracy.
    pub fn interval(&self) -> [f64; 2] {
        wilson_interval(self.right, self.answers)
    }
}

/// Trials from test images, ready to run.
pub struct TestTrials {
    /// The trials.
    pub presented: Vec<Presented>,
}

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
        let presented = setting.draw(pool, TEST, count, None, delay);
        setting.prepare(responses, &presented, dt_ms)?;
        Ok(Self { presented })
    }

    /// Answers of a network, with its weights as they act.
    ///
    /// # Errors
    /// As [`Setting::run`].
    pub fn answers(
        &self,
        setting: &Setting<'_>,
        layout: &Layout,
        acting: &Weights<f32>,
        responses: &Responses<'_>,
    ) -> Result<Vec<Answer>, AssocError> {
        setting.run(layout, acting, responses, &self.presented, true, &mut |_, _| {})
    }

    /// Scores by delay in ms (none where the task has none) and condition.
    pub fn by_delay_and_condition(&self, answers: &[Answer]) -> Vec<(Option<f64>, String, Score)> {
        let mut found: BTreeMap<(u64, String), Score> = BTreeMap::new();
        for answer in answers {
            let trial = &self.presented[answer.trial].trial;
            // Delays are not negative, so their bits are in their order.
            let delay = trial.delay_ms.map_or(u64::MAX, f64::to_bits);
            let score = found.entry((delay, trial.condition.clone())).or_default();
            score.answers += 1;
            score.right += usize::from(answer.is_right());
        }
        let delay = |bits: u64| (bits != u64::MAX).then(|| f64::from_bits(bits));
        found
            .into_iter()
            .map(|((bits, condition), score)| (delay(bits), condition, score))
            .collect()
    }

    /// Mean rate of every area in every epoch, by the epoch's name in the order of the first trial.
    ///
    /// # Errors
    /// As [`Setting::run`].
    pub fn rates(
        &self,
        setting: &Setting<'_>,
        layout: &Layout,
        acting: &Weights<f32>,
        responses: &Responses<'_>,
    ) -> Result<Vec<(&'static str, usize, f64)>, AssocError> {
        let mut sums: Vec<(&'static str, Vec<f64>, usize)> = Vec::new();
        let units = layout.units();
        setting.run(
            layout,
            acting,
            responses,
            &self.presented,
            true,
            &mut |presented, activity| {
                for (trial, p) in presented.iter().enumerate() {
                    let mut step = 0;
                    for epoch in &p.trial.epochs {
                        let place = sums
                            .iter()
                            .position(|(name, ..)| *name == epoch.name)
                            .unwrap_or_else(|| {
                                sums.push((epoch.name, vec![0.0; layout.areas.len()], 0));
                                sums.len() - 1
                            });
                        for _ in 0..steps(epoch.ms, layout.dt_ms) {
                            let row = &activity.rates[(step * presented.len() + trial) * units..][..units];
                            for (area, sum) in sums[place].1.iter_mut().enumerate() {
                                let own = &row[layout.range(area)];
                                *sum += own.iter().map(|r| f64::from(*r)).sum::<f64>() / own.len() as f64;
                            }
                            sums[place].2 += 1;
                            step += 1;
                        }
                    }
                }
            },
        )?;
        let each = sums.into_iter().filter(|(_, _, count)| *count > 0);
        Ok(each
            .flat_map(|(name, sums, count)| {
                sums.into_iter()
                    .enumerate()
                    .map(move |(area, sum)| (name, area, sum / count as f64))
            })
            .collect())
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
