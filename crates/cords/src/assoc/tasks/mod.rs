//! Cognitive tasks: each a short file that says what happens in one trial.
//!
//! A task draws its images, conditions and delays through [`Draw`] and tells them as epochs. Durations come from one
//! [`Timing`], whose defaults are each task's own; a new task is one file and one line in [`TaskName::build`].

mod change_detection;
mod context;
mod delayed_category;
mod delayed_match;
mod go_no_go;
mod interval;
mod multi_object;
mod n_back;
mod neurogym;
mod noisy_evidence;
mod paired_association;
mod saccade;

use serde::{Deserialize, Serialize};

use super::AssocError;
use super::trial::Trial;
use crate::net::{fits, misfit};
use crate::rng::{Purpose, Stream};

/// A task: names of its answers and cues, and trials.
pub trait Task: Send + Sync {
    /// Names of the outputs after fixation, for a pool of `classes` classes.
    fn choices(&self, classes: usize) -> Vec<String>;
    /// Names of the cues beside the fixation signal.
    fn cues(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether place matters, so that features must keep it.
    fn placed(&self) -> bool {
        false
    }
    /// Classes that the images must have at least.
    fn least_classes(&self) -> usize {
        2
    }
    /// What the best strategy reaches that ignores the memory: it knows everything that is shown after the delay, cues
    /// among it, and nothing of before. Where nothing that is shown then tells the answer, that is the share of the
    /// most frequent one.
    fn chance(&self, pool: &Pool, timing: &Timing) -> f64;
    /// Draws one trial of the task.
    fn trial(&self, draw: &mut Draw<'_>) -> Trial;
}

/// Images that trials are made of, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    by_class: Vec<Vec<u32>>,
}

impl Pool {
    /// Images given with their classes, of `classes` classes.
    ///
    /// # Errors
    /// [`AssocError::Setting`] where a class has no image.
    pub fn new(images: impl IntoIterator<Item = (u32, u32)>, classes: usize) -> Result<Self, AssocError> {
        let mut by_class = vec![Vec::new(); classes];
        for (image, class) in images {
            match by_class.get_mut(class as usize) {
                Some(own) => own.push(image),
                None => {
                    return Err(AssocError::setting(
                        "images",
                        format!("class {class} of image {image}, but there are {classes}"),
                    ));
                }
            }
        }
        match by_class.iter().position(Vec::is_empty) {
            Some(class) => Err(AssocError::setting(
                "images",
                format!("class {class} has none; give more images"),
            )),
            None => Ok(Self { by_class }),
        }
    }

    /// Two pools of different images, with half of each class's; none where a class has but one.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let half = |first: usize| Self {
            by_class: self
                .by_class
                .iter()
                .map(|images| images.iter().copied().skip(first).step_by(2).collect())
                .collect(),
        };
        self.by_class
            .iter()
            .all(|images| images.len() > 1)
            .then(|| [half(0), half(1)])
    }

    /// Images of each class.
    pub(super) fn counts(&self) -> impl Iterator<Item = usize> {
        self.by_class.iter().map(Vec::len)
    }

    /// Images of all classes.
    pub fn images(&self) -> usize {
        self.by_class.iter().map(Vec::len).sum()
    }

    /// One image a class, numbered as the class: stimuli without a picture.
    pub fn one_hot(classes: usize) -> Self {
        Self {
            by_class: (0..classes as u32).map(|class| vec![class]).collect(),
        }
    }

    /// Number of classes that images are of.
    pub fn classes(&self) -> usize {
        self.by_class.len()
    }
}

/// What a task draws a trial from. What is seen and what is timed come from different streams: the first names a trial,
/// the second a presentation of it.
pub struct Draw<'a> {
    pool: &'a Pool,
    timing: &'a Timing,
    content: Stream,
    time: Stream,
    delay: Delay,
    noise: u32,
}

/// How long delays are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// Up to a share of the delays, the shortest first (curriculum); 1 is all of them.
    UpTo(f64),
    /// All delays, each times a factor.
    Times(f64),
    /// The longest alone, so that trials can be laid over one another.
    Longest,
}

impl<'a> Draw<'a> {
    /// Trial `content` as presented for the `presentation`-th time, both counted from 0.
    pub fn new(pool: &'a Pool, timing: &'a Timing, seed: u64, content: u64, presentation: u64, delay: Delay) -> Self {
        Self {
            pool,
            timing,
            content: Stream::new(seed, Purpose::Trial, content, 0, 0, 0),
            time: Stream::new(seed, Purpose::Trial, presentation, 0, 0, 1),
            delay,
            // Validation and test have other frames than training: their trials begin at 1 and 2 times 2^40.
            noise: (content as u32) ^ (((content >> 40) as u32) << 30),
        }
    }

    /// Durations of the task's trial epochs.
    pub fn timing(&self) -> &'a Timing {
        self.timing
    }

    /// Number of classes that stimuli are drawn from.
    pub fn classes(&self) -> usize {
        self.pool.classes()
    }

    /// Uniform on 0, ..., n - 1.
    pub fn below(&mut self, n: usize) -> usize {
        self.content.below(n as u64) as usize
    }

    /// A draw of a fair coin.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    /// A class, each as likely.
    pub fn class(&mut self) -> usize {
        self.below(self.classes())
    }

    /// A class other than the one given; 0 where there is no other.
    pub fn other_class(&mut self, class: usize) -> usize {
        let other = self.below(self.classes().saturating_sub(1));
        (other + usize::from(other >= class)) % self.classes().max(1)
    }

    /// An image of a class.
    pub fn image_of(&mut self, class: usize) -> u32 {
        let images = &self.pool.by_class[class % self.pool.classes()];
        images[self.content.below(images.len() as u64) as usize]
    }

    /// An image other than the one given, with its class: of the same class, or of another where that has no other.
    pub fn other_image(&mut self, image: u32, class: usize) -> (usize, u32) {
        let images = &self.pool.by_class[class % self.pool.classes()];
        let others = images.iter().filter(|other| **other != image).count();
        if others == 0 {
            let other = self.other_class(class);
            return (other, self.image_of(other));
        }
        let place = self.content.below(others as u64) as usize;
        let other = images.iter().filter(|other| **other != image).nth(place);
        (class, other.copied().unwrap_or(image))
    }

    /// One of several values; 0 where there are none.
    pub fn one_of(&mut self, values: &[f64]) -> f64 {
        let index = self.below(values.len());
        values.get(index).copied().unwrap_or(0.0)
    }

    /// The presentation's delay in ms.
    pub fn delay(&mut self) -> f64 {
        let delays = &self.timing.delays;
        let (count, factor) = match self.delay {
            // Rounding must not take in one delay more.
            Delay::UpTo(share) => ((share * delays.len() as f64 - 1e-9).ceil() as usize, 1.0),
            Delay::Times(factor) => (delays.len(), factor),
            Delay::Longest => return delays.iter().copied().fold(0.0, f64::max),
        };
        let mut ascending = delays.clone();
        ascending.sort_by(f64::total_cmp);
        let count = count.clamp(1, ascending.len().max(1));
        let index = self.time.below(count as u64) as usize;
        factor * ascending.get(index).copied().unwrap_or(0.0)
    }

    /// A name for the noise of this trial's scenes: of its content, so that what is shown comes back as it was.
    pub fn noise_name(&self) -> u32 {
        self.noise
    }

    /// Different places of the canvas.
    pub fn places(&mut self, count: usize) -> Vec<usize> {
        let order = self.content.permutation(super::stimulus::PLACES);
        order.into_iter().take(count).map(|place| place as usize).collect()
    }

    /// Images of any classes at different places: what is shown, and place and class of the first.
    pub fn objects(&mut self, count: usize) -> (Vec<(u32, usize)>, usize, usize) {
        let places = self.places(count);
        let classes: Vec<usize> = places.iter().map(|_| self.class()).collect();
        let items = classes.iter().zip(&places).map(|(c, p)| (self.image_of(*c), *p));
        let items = items.collect();
        let first = |values: &[usize]| values.first().copied().unwrap_or(0);
        (items, first(&places), first(&classes))
    }
}

/// Durations in ms and other values of a task. Not every task uses all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Duration of the trial epoch before the first stimulus.
    pub fixation: f64,
    /// Duration of the stimulus, or of the first one.
    pub stimulus: f64,
    /// Durations of the delay, of which each presentation draws one.
    pub delays: Vec<f64>,
    /// Duration of the second stimulus.
    pub test: f64,
    /// Time from the last stimulus to the answer, in tasks that compare two.
    pub wait: f64,
    /// Duration of the response epoch.
    pub response: f64,
    /// Whether the answer is due while the second stimulus is shown, in tasks that compare two; `wait` and `response`
    /// do not count then.
    pub answer_at_test: bool,
    /// Durations of evidence, of which each trial draws one; intervals to compare.
    pub durations: Vec<f64>,
    /// Contrasts of evidence, of which each trial draws one.
    pub strengths: Vec<f64>,
    /// Standard deviation of the evidence's noise, in the pixel range.
    pub noise: f64,
    /// Objects on the canvas.
    pub objects: usize,
    /// Stimuli of a stream.
    pub items: usize,
}

/// A duration of [`Timing`], as errors and parameters name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duration {
    /// Before the first stimulus.
    Fixation,
    /// The stimulus, or the first one.
    Stimulus,
    /// Time between stimuli, of which there may be several to choose from.
    Delays,
    /// The second stimulus, or a cue.
    Test,
    /// From the last stimulus to the answer.
    Wait,
    /// While the answer is due.
    Response,
    /// Durations of evidence, or intervals to compare.
    Durations,
}

impl Duration {
    /// Every duration, in the order of [`Timing`]'s fields.
    pub const ALL: [Self; 7] = [
        Self::Fixation,
        Self::Stimulus,
        Self::Delays,
        Self::Test,
        Self::Wait,
        Self::Response,
        Self::Durations,
    ];

    /// Name of the duration, as in errors and parameters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixation => "fixation",
            Self::Stimulus => "stimulus",
            Self::Delays => "delays",
            Self::Test => "test",
            Self::Wait => "wait",
            Self::Response => "response",
            Self::Durations => "durations",
        }
    }
}

/// Steps of the longest trial that is allowed: what memory holds of a group of them.
const MOST_STEPS: f64 = 100_000.0;

impl Timing {
    /// The values of a duration.
    fn values(&self, duration: Duration) -> &[f64] {
        match duration {
            Duration::Fixation => std::slice::from_ref(&self.fixation),
            Duration::Stimulus => std::slice::from_ref(&self.stimulus),
            Duration::Delays => &self.delays,
            Duration::Test => std::slice::from_ref(&self.test),
            Duration::Wait => std::slice::from_ref(&self.wait),
            Duration::Response => std::slice::from_ref(&self.response),
            Duration::Durations => &self.durations,
        }
    }

    /// What of the durations that a task has cannot be shown in steps of `dt_ms`: which, and why, with the nearest that
    /// can. Nothing is rounded, so that tables say what was shown.
    pub fn misfits(&self, task: TaskName, dt_ms: f64) -> Vec<(Duration, String)> {
        let mut found = Vec::new();
        let mut longest = 0.0;
        for duration in Duration::ALL.into_iter().filter(|duration| task.has(*duration)) {
            let values = self.values(duration);
            let shows = match duration {
                Duration::Stimulus | Duration::Durations => true,
                Duration::Test => task != TaskName::MultiObject,
                _ => false,
            };
            for value in values {
                if !fits(*value, dt_ms) && shows && *value < dt_ms {
                    let problem = format!("{value} ms shows nothing at steps of {dt_ms} ms; the nearest is {dt_ms} ms");
                    found.push((duration, problem));
                } else if !fits(*value, dt_ms) {
                    found.push((duration, misfit(*value, dt_ms)));
                } else if shows && *value == 0.0 {
                    found.push((duration, format!("0 ms shows nothing; give {dt_ms} ms or more")));
                }
            }
            let most = values.iter().copied().fold(0.0, f64::max);
            // A trial has two intervals, and delays are doubled when networks are tested.
            let times = match duration {
                Duration::Durations | Duration::Delays => 2.0,
                _ => 1.0,
            };
            let repeated = task.streams() && duration != Duration::Fixation;
            longest += times * most * if repeated { self.items as f64 } else { 1.0 };
        }
        if longest / dt_ms > MOST_STEPS {
            let (steps, most) = (longest / dt_ms, MOST_STEPS);
            // Without hundreds of digits.
            let (longest, steps) = (format!("{longest:.3e}"), format!("{steps:.3e}"));
            let problem =
                format!("trials of up to {longest} ms have {steps} steps of {dt_ms} ms; at most {most} are allowed");
            found.push((Duration::Delays, problem));
        }
        found
    }

    /// Checks that every value is a duration, strength or number.
    ///
    /// # Errors
    /// [`AssocError::Setting`].
    pub fn validate(&self) -> Result<(), AssocError> {
        let wrong = |setting, value: f64| Err(AssocError::setting(setting, format!("{value} ms is not a duration")));
        let single = [
            ("fixation", self.fixation),
            ("stimulus", self.stimulus),
            ("test", self.test),
            ("wait", self.wait),
        ];
        if let Some((name, value)) = single.into_iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return wrong(name, value);
        }
        if !(self.response.is_finite() && self.response > 0.0) {
            return wrong("response", self.response);
        }
        for (name, values) in [("delays", &self.delays), ("durations", &self.durations)] {
            if values.is_empty() {
                return Err(AssocError::setting(name, "there are none; give at least one"));
            }
            if let Some(value) = values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                return wrong(name, *value);
            }
        }
        if self.strengths.is_empty() || self.strengths.iter().any(|s| !(0.0..=1.0).contains(s)) {
            return Err(AssocError::setting("strengths", "give contrasts of 0 to 1"));
        }
        if !(self.noise.is_finite() && (0.0..=10.0).contains(&self.noise)) {
            return Err(AssocError::setting(
                "evidence_noise",
                format!("{}; give 0 to 10", self.noise),
            ));
        }
        // Scenes hold both in thousandths.
        let strengths = self.strengths.iter().map(|strength| ("strengths", *strength));
        for (name, value) in strengths.chain([("evidence_noise", self.noise)]) {
            if !fits(value, 1e-3) {
                let near = [(value * 1e3).floor() / 1e3, (value * 1e3).ceil() / 1e3];
                let problem = format!(
                    "{value} is finer than a thousandth; the nearest are {} and {}",
                    near[0], near[1]
                );
                return Err(AssocError::setting(name, problem));
            }
        }
        if !(1..=super::stimulus::PLACES).contains(&self.objects) {
            return Err(AssocError::setting(
                "objects",
                format!("{}; give 1 to {}", self.objects, super::stimulus::PLACES),
            ));
        }
        if !(2..=100).contains(&self.items) {
            return Err(AssocError::setting("items", format!("{}; give 2 to 100", self.items)));
        }
        Ok(())
    }
}

/// The cognitive tasks by name, with what each asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskName {
    /// whether two images, a delay apart, are the same
    DelayedMatchImage,
    /// whether two images, a delay apart, are of the same class
    DelayedMatchClass,
    /// to answer only where the second image is of another class
    DelayedNonMatch,
    /// to name the class of an image after a delay
    DelayedCategory,
    /// whether the second image is of the class that belongs to the first (0 with 1, 2 with 3, ...)
    PairedAssociation,
    /// of two superposed images, one of class 0 or 1 and one of class 2 or 3, to tell the parity of the one that is
    /// cued
    ContextDecision,
    /// to answer to the first half of the classes and not to the others
    GoNoGo,
    /// to answer with the place of an object, one of eight
    ProSaccade,
    /// to answer with the opposite place
    AntiSaccade,
    /// to answer with the place of an object or the opposite one, as cued
    CuedSaccade,
    /// to name the class of the object at the place that is cued afterwards
    MultiObject,
    /// whether one of several objects has changed
    ChangeDetection,
    /// for each image of a stream, whether it is of the class of the one before
    OneBack,
    /// for each image of a stream, whether it is of the class of the one two before
    TwoBack,
    /// for each image of a stream, whether it is of the class of the one three before
    ThreeBack,
    /// which of two classes is shown under noise
    NoisyEvidence,
    /// which of two images was shown longer
    IntervalDiscrimination,
}

impl TaskName {
    /// All tasks, in the order in which they are listed.
    pub const ALL: [Self; 17] = [
        Self::DelayedMatchImage,
        Self::DelayedMatchClass,
        Self::DelayedNonMatch,
        Self::DelayedCategory,
        Self::PairedAssociation,
        Self::ContextDecision,
        Self::GoNoGo,
        Self::ProSaccade,
        Self::AntiSaccade,
        Self::CuedSaccade,
        Self::MultiObject,
        Self::ChangeDetection,
        Self::OneBack,
        Self::TwoBack,
        Self::ThreeBack,
        Self::NoisyEvidence,
        Self::IntervalDiscrimination,
    ];

    /// Whether its trials have a duration.
    pub fn has(self, duration: Duration) -> bool {
        let evidence = matches!(self, Self::NoisyEvidence | Self::IntervalDiscrimination);
        match duration {
            Duration::Fixation | Duration::Delays | Duration::Response => true,
            Duration::Stimulus => !evidence,
            Duration::Durations => evidence,
            Duration::Test => self.compares() || self == Self::MultiObject,
            Duration::Wait => self.compares() || self == Self::IntervalDiscrimination,
        }
    }

    /// Whether it is about a second stimulus of the duration `test`.
    fn compares(self) -> bool {
        matches!(
            self,
            Self::DelayedMatchImage
                | Self::DelayedMatchClass
                | Self::DelayedNonMatch
                | Self::PairedAssociation
                | Self::ChangeDetection
        )
    }

    /// Whether its trials are streams of `items` stimuli.
    fn streams(self) -> bool {
        matches!(self, Self::OneBack | Self::TwoBack | Self::ThreeBack)
    }

    /// The task of this name.
    pub fn build(self) -> Box<dyn Task> {
        use delayed_match::{DelayedMatch, Rule};
        use saccade::{Saccade, Saccades};
        match self {
            Self::DelayedMatchImage => Box::new(DelayedMatch(Rule::Image)),
            Self::DelayedMatchClass => Box::new(DelayedMatch(Rule::Class)),
            Self::DelayedNonMatch => Box::new(DelayedMatch(Rule::NonMatch)),
            Self::DelayedCategory => Box::new(delayed_category::DelayedCategory),
            Self::PairedAssociation => Box::new(paired_association::PairedAssociation),
            Self::ContextDecision => Box::new(context::ContextDecision),
            Self::GoNoGo => Box::new(go_no_go::GoNoGo),
            Self::ProSaccade => Box::new(Saccade(Saccades::Pro)),
            Self::AntiSaccade => Box::new(Saccade(Saccades::Anti)),
            Self::CuedSaccade => Box::new(Saccade(Saccades::Cued)),
            Self::MultiObject => Box::new(multi_object::MultiObject),
            Self::ChangeDetection => Box::new(change_detection::ChangeDetection),
            Self::OneBack => Box::new(n_back::NBack(1)),
            Self::TwoBack => Box::new(n_back::NBack(2)),
            Self::ThreeBack => Box::new(n_back::NBack(3)),
            Self::NoisyEvidence => Box::new(noisy_evidence::NoisyEvidence),
            Self::IntervalDiscrimination => Box::new(interval::IntervalDiscrimination),
        }
    }

    /// Our own durations, close to those of the literature, which a user may change one by one. Those of NeuroGym are
    /// in [`neurogym`](Self::neurogym).
    pub fn timing(self) -> Timing {
        let base = Timing {
            fixation: 300.0,
            stimulus: 500.0,
            delays: vec![1000.0],
            test: 500.0,
            wait: 0.0,
            response: 500.0,
            answer_at_test: false,
            durations: vec![400.0, 800.0, 1600.0],
            strengths: vec![0.1, 0.2, 0.4, 0.8],
            noise: 0.5,
            objects: 3,
            items: 6,
        };
        match self {
            Self::DelayedCategory => Timing {
                stimulus: 650.0,
                ..base
            },
            Self::PairedAssociation => Timing {
                stimulus: 1000.0,
                test: 1000.0,
                ..base
            },
            Self::ContextDecision => Timing {
                stimulus: 750.0,
                delays: vec![300.0, 600.0],
                ..base
            },
            Self::GoNoGo => Timing {
                delays: vec![500.0],
                ..base
            },
            Self::ProSaccade | Self::AntiSaccade | Self::CuedSaccade => Timing {
                fixation: 500.0,
                delays: vec![0.0, 500.0],
                ..base
            },
            Self::OneBack | Self::TwoBack | Self::ThreeBack => Timing { ..base },
            Self::NoisyEvidence => Timing {
                fixation: 100.0,
                delays: vec![0.0],
                ..base
            },
            Self::IntervalDiscrimination => Timing {
                durations: vec![300.0, 400.0, 500.0, 600.0],
                delays: vec![800.0, 1500.0],
                ..base
            },
            _ => base,
        }
    }
}

#[cfg(test)]
mod tests;
