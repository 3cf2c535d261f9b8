//! Lines of the file in a run's folder that tells how far the run is: JSON objects, one a line. `run` writes it
//! ([`recorder`](super::recorder)), `watch` reads it.

use dynvis_runner::kind::Update;
use dynvis_runner::store::StageOutcome;
use serde::{Deserialize, Serialize};

use crate::cli::forecast::Left;

/// Name of the file.
pub(super) const FILE: &str = "progress";

/// Letters of names, phases and the like that are kept.
const SHORT: usize = 200;
/// Letters of messages that are kept.
const LONG: usize = 2000;
/// Figures of one place that are kept.
const FIGURES: usize = 12;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Seconds since the run began.
    pub(super) at: f64,
    pub(super) said: Said,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// How many stages are where.
    Stages(Counts),
    /// The worker of a stage was started; once more for every retry.
    Started {
        stage: String,
        threads: usize,
        gpus: Vec<String>,
        reason: String,
    },
    /// A queue has a stage's job, for the first time or again.
    Queued { stage: String, job: String },
    /// How far a stage is.
    Progress { stage: String, place: Place },
    /// What a stage tells in words.
    Note { stage: String, text: String },
    /// A stage waits for another process that computes the same.
    Waiting { stage: String },
    /// A stage that had been started has ended.
    Ended {
        stage: String,
        outcome: StageOutcome,
        seconds: Option<f64>,
        error: Option<String>,
    },
}

/// Stages of a run by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) selected: usize,
    pub(super) done: usize,
    /// Also those that were restored.
    pub(super) cached: usize,
    pub(super) failed: usize,
    /// Not reached, since something upstream failed.
    pub(super) blocked: usize,
    pub(super) interrupted: usize,
    /// After a failure or Ctrl-C: nothing new starts.
    pub(super) is_ending: bool,
    /// What is left of the whole run; none where that is not known.
    pub(super) left: Option<Left>,
}

impl Counts {
    /// Counts a stage that has ended.
    pub(super) fn add(&mut self, outcome: StageOutcome) {
        match outcome {
            StageOutcome::Ran => self.done += 1,
            StageOutcome::Cached | StageOutcome::Restored => self.cached += 1,
            StageOutcome::Failed => self.failed += 1,
            StageOutcome::Blocked => self.blocked += 1,
            StageOutcome::Interrupted => self.interrupted += 1,
            StageOutcome::Excluded => {}
        }
    }

    pub(super) fn ended(&self) -> usize {
        let parts = [self.done, self.cached, self.failed, self.blocked, self.interrupted];
        parts.into_iter().fold(0, usize::saturating_add)
    }
}

/// How far a stage is, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) unit: String,
    pub(super) phase: String,
    pub(super) figures: Vec<(String, f32)>,
    /// The end of an epoch, or what else is worth a line.
    pub(super) milestone: bool,
    /// Seconds that are left of the stage.
    pub(super) left: Option<f32>,
}

impl Place {
    pub(super) fn new(update: &Update, left: Option<f64>) -> Self {
        Self {
            done: update.done,
            total: update.total,
            unit: update.unit.clone(),
            phase: update.phase.clone(),
            figures: update
                .figures
                .iter()
                .map(|(name, value)| (name.clone(), *value as f32))
                .collect(),
            milestone: update.milestone,
            left: left.map(|left| left as f32),
        }
    }

    /// Share that is done, from 0 to 1.
    pub(super) fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| (self.done as f64 / self.total as f64).min(1.0))
    }

    /// What a curve runs over, where on it this is, and where it ends: epochs where the phase counts them,
    /// `epoch 3/10`, else the stage's own unit.
    pub(super) fn axis(&self) -> (&str, f64, f64) {
        let counted = || {
            let (name, count) = self.phase.split_once(' ')?;
            let all = count.split(',').next()?.split_once('/')?.1.trim().parse::<u32>().ok()?;
            Some((name, f64::from(all)))
        };
        let (name, all) = counted().unwrap_or((self.unit.as_str(), self.total as f64));
        (name, self.share().unwrap_or(0.0) * all, all)
    }

    /// Whether this is a point of a training's curves.
    pub(super) fn is_point(&self) -> bool {
        self.total > 0 && self.figures.iter().any(|(name, _)| Figure::of(name) != Figure::Other)
    }
}

/// What a figure is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// What training lowers.
    Loss,
    /// A share from 0 to 1.
    Accuracy,
    Other,
}

impl Figure {
    pub(super) fn of(name: &str) -> Self {
        let has = |part: &&str| name.contains(part);
        match name {
            _ if name.contains("accuracy") => Self::Accuracy,
            _ if ["entropy", "loss", "error", "objective"].iter().any(has) => Self::Loss,
            _ => Self::Other,
        }
    }
}

/// A text in at most so many letters.
fn cut(text: &mut String, letters: usize) {
    if let Some((at, _)) = text.char_indices().nth(letters) {
        text.truncate(at);
        text.push('…');
    }
}

impl Said {
    /// What may be kept of it: whatever stands in a file, or is said by a stage, takes no more room than that.
    pub(super) fn shortened(mut self) -> Self {
        match &mut self {
            Self::Stages(_) => {}
            Self::Started { gpus, reason, .. } => {
                gpus.truncate(FIGURES);
                gpus.iter_mut().for_each(|gpu| cut(gpu, SHORT));
                cut(reason, SHORT);
            }
            Self::Progress { place, .. } => {
                cut(&mut place.unit, SHORT);
                cut(&mut place.phase, SHORT);
                place.figures.retain(|(_, value)| value.is_finite());
                place.figures.truncate(FIGURES);
                place.figures.iter_mut().for_each(|(name, _)| cut(name, SHORT));
            }
            Self::Queued { job, .. } => cut(job, SHORT),
            Self::Note { text, .. } => cut(text, LONG),
            Self::Waiting { .. } => {}
            Self::Ended { error, .. } => {
                if let Some(error) = error {
                    cut(error, LONG);
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_run_over_what_the_phase_counts() {
        let place = |phase: &str, done, total| Place {
            done,
            total,
            unit: "batches".into(),
            phase: phase.into(),
            ..Place::default()
        };
        assert_eq!(place("epoch 3/10", 25, 100).axis(), ("epoch", 2.5, 10.0));
        assert_eq!(place("epoch 3/10, validation", 30, 100).axis(), ("epoch", 3.0, 10.0));
        assert_eq!(place("step 7/500", 7, 500).axis(), ("step", 7.0, 500.0));
        for phase in ["", "lesions", "a b/c", "a 1/99999999999"] {
            assert_eq!(place(phase, 30, 100).axis(), ("batches", 30.0, 100.0), "{phase}");
        }
        assert_eq!(place("", 5, 0).axis(), ("batches", 0.0, 0.0));
        assert_eq!(place("", u64::MAX, 1).share(), Some(1.0));
    }

    #[test]
    fn figures_are_known_by_their_names() {
        for (name, figure) in [
            ("cross-entropy", Figure::Loss),
            ("squared error", Figure::Loss),
            ("validation accuracy", Figure::Accuracy),
            ("images/s", Figure::Other),
            ("delays", Figure::Other),
        ] {
            assert_eq!(Figure::of(name), figure, "{name}");
        }
    }
}
