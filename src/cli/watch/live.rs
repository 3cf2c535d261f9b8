//! What the lines of a run add up to, in bounded memory: the writer keeps it to write its file anew once that has
//! grown, readers to show it.

use dynvis_runner::store::StageOutcome;
use indexmap::IndexMap;

use super::line::{Counts, Line, Place, Said};

/// Points of one stage; then every second one goes, and those at ends of epochs last.
const POINTS_OF_STAGE: usize = 512;
/// Points of all stages together.
const POINTS: usize = 4096;
/// Stages that are known; then those that have ended go, but the last ones and some that failed.
const STAGES: usize = 2000;
/// How many of those stay.
const STAGES_KEPT: usize = 200;
/// Marks of one stage; then the first ones go.
const MARKS: usize = 20;

/// How far a run is, as far as it has said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Live {
    pub(super) counts: Counts,
    /// When the counts were said, in seconds since the run began.
    pub(super) counted_at: f64,
    /// When something was said last.
    pub(super) last: f64,
    /// Stages that were started, or wait for another process, by name, in the order in which they were.
    pub(super) stages: IndexMap<String, Stage>,
    points: usize,
}

/// A stage that was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stage {
    /// None for one that waits, in a queue or for another process.
    pub(super) started: Option<Started>,
    /// When it said something last, and how far it was.
    pub(super) place: Option<(f64, Place)>,
    /// What it said last in words.
    pub(super) note: Option<(f64, String)>,
    pub(super) ended: Option<Ended>,
    /// When its worker was queued or started, every time.
    pub(super) marks: Vec<(f64, Mark)>,
    /// Of its curves, in order along their axis, with the time at which each was said.
    pub(super) points: Vec<(f64, Place)>,
}

/// What happens to a stage's worker.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Mark {
    /// A queue has it as this job.
    Queued(String),
    Started,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Started {
    pub(super) at: f64,
    pub(super) threads: usize,
    pub(super) gpus: Vec<String>,
    pub(super) reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) at: f64,
    pub(super) outcome: StageOutcome,
    pub(super) seconds: Option<f64>,
    pub(super) error: Option<String>,
}

impl Stage {
    fn mark(&mut self, at: f64, mark: Mark) {
        if self.marks.len() >= MARKS {
            self.marks.remove(0);
        }
        self.marks.push((at, mark));
    }
}

impl Live {
    pub(super) fn take(&mut self, line: Line) {
        let Line { at, said } = line;
        if !at.is_finite() {
            return;
        }
        self.last = self.last.max(at);
        match said.shortened() {
            Said::Stages(counts) => {
                self.counts = counts;
                self.counted_at = at;
            }
            Said::Started {
                stage,
                threads,
                gpus,
                reason,
            } => {
                let stage = self.stage(stage);
                stage.started = Some(Started {
                    at,
                    threads,
                    gpus,
                    reason,
                });
                stage.place = None;
                stage.ended = None;
                stage.mark(at, Mark::Started);
            }
            Said::Queued { stage, job } => {
                let stage = self.stage(stage);
                // Perhaps again: it does not run any more.
                (stage.started, stage.place) = (None, None);
                stage.mark(at, Mark::Queued(job));
            }
            Said::Progress { stage, place } => self.progress(at, stage, place),
            Said::Note { stage, text } => self.stage(stage).note = Some((at, text)),
            Said::Waiting { stage } => {
                self.stage(stage);
            }
            Said::Ended {
                stage,
                outcome,
                seconds,
                error,
            } => {
                self.stage(stage).ended = Some(Ended {
                    at,
                    outcome,
                    seconds,
                    error,
                });
            }
        }
    }

    /// Stages that run now.
    pub(super) fn running(&self) -> impl Iterator<Item = (&String, &Stage)> {
        let stages = self.stages.iter();
        stages.filter(|(_, stage)| stage.started.is_some() && stage.ended.is_none())
    }

    fn stage(&mut self, name: String) -> &mut Stage {
        if self.stages.len() >= STAGES && !self.stages.contains_key(&name) {
            self.forget();
        }
        self.stages.entry(name).or_default()
    }

    /// Drops stages that have ended.
    fn forget(&mut self) {
        let (mut ended, mut failed) = (0, 0);
        let kept: Vec<bool> = self
            .stages
            .values()
            .rev()
            .map(|stage| match stage.ended.as_ref().map(|ended| ended.outcome) {
                None => true,
                Some(StageOutcome::Failed) if failed < STAGES_KEPT => {
                    failed += 1;
                    true
                }
                Some(_) => {
                    ended += 1;
                    ended <= STAGES_KEPT
                }
            })
            .collect();
        let mut kept = kept.into_iter().rev();
        self.stages.retain(|_, _| kept.next().unwrap_or(true));
        // No run has as many at once; a file that is none of ours may.
        while self.stages.len() >= STAGES {
            self.stages.shift_remove_index(0);
        }
        self.points = self.stages.values().map(|stage| stage.points.len()).sum();
    }

    fn progress(&mut self, at: f64, name: String, place: Place) {
        let is_point = place.is_point();
        let stage = self.stage(name);
        let before = stage.points.len();
        if is_point {
            // A retry, or a training that went on from a checkpoint, comes past the same place again.
            let here = place.axis().1;
            if stage.points.last().is_some_and(|(_, last)| last.axis().1 > here) {
                stage.points.retain(|(_, point)| point.axis().1 <= here);
            }
            if stage.points.len() >= POINTS_OF_STAGE {
                thin(&mut stage.points);
            }
            stage.points.push((at, place.clone()));
        }
        stage.place = Some((at, place));
        let after = stage.points.len();
        self.points = (self.points + after).saturating_sub(before);
        if self.points > POINTS {
            self.thin_out();
        }
    }

    /// Halves the longest curves, where stages that have ended come first.
    fn thin_out(&mut self) {
        let longest = self.stages.values_mut().max_by_key(|stage| match stage.ended {
            Some(_) => 4 * stage.points.len(),
            None => stage.points.len(),
        });
        if let Some(stage) = longest {
            let before = stage.points.len();
            match before {
                // With so many curves none of them is looked at.
                0..8 => stage.points.clear(),
                _ => thin(&mut stage.points),
            }
            self.points -= before - stage.points.len();
        }
    }

    /// Lines that add up to the same.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (name, stage) in &self.stages {
            let stage_name = || name.clone();
            let mut say = |at: f64, said: Said| lines.push(Line { at, said });
            if stage.started.is_none() {
                say(self.last, Said::Waiting { stage: stage_name() });
            }
            for (at, mark) in &stage.marks {
                let last = stage.started.as_ref().filter(|started| started.at <= *at);
                let said = match mark {
                    Mark::Queued(job) => Said::Queued {
                        stage: stage_name(),
                        job: job.clone(),
                    },
                    Mark::Started => Said::Started {
                        stage: stage_name(),
                        threads: last.map_or(0, |started| started.threads),
                        gpus: last.map(|started| started.gpus.clone()).unwrap_or_default(),
                        reason: last.map(|started| started.reason.clone()).unwrap_or_default(),
                    },
                };
                say(*at, said);
            }
            let last = stage.place.iter();
            let last = last.filter(|place| stage.points.last() != Some(*place));
            for (at, place) in stage.points.iter().chain(last) {
                let place = place.clone();
                say(
                    *at,
                    Said::Progress {
                        stage: stage_name(),
                        place,
                    },
                );
            }
            if let Some((at, text)) = &stage.note {
                say(
                    *at,
                    Said::Note {
                        stage: stage_name(),
                        text: text.clone(),
                    },
                );
            }
            if let Some(ended) = &stage.ended {
                say(
                    ended.at,
                    Said::Ended {
                        stage: stage_name(),
                        outcome: ended.outcome,
                        seconds: ended.seconds,
                        error: ended.error.clone(),
                    },
                );
            }
        }
        lines.push(Line {
            at: self.counted_at,
            said: Said::Stages(self.counts.clone()),
        });
        lines
    }
}

/// Drops every second point within epochs; where there are few of those, every second end of one. The last stays.
fn thin(points: &mut Vec<(f64, Place)>) {
    let within = points.iter().filter(|(_, place)| !place.milestone).count();
    let goes = |place: &Place| place.milestone != (2 * within >= points.len());
    let goes: Vec<bool> = points.iter().map(|(_, place)| goes(place)).collect();
    let last = points.len().saturating_sub(1);
    let (mut index, mut place) = (0, 0);
    points.retain(|_| {
        let is_candidate = goes[index];
        let stays = !is_candidate || place % 2 == 1 || index == last;
        place += usize::from(is_candidate);
        index += 1;
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(stage: &str, done: u64, milestone: bool) -> Said {
        Said::Progress {
            stage: stage.into(),
            place: Place {
                done,
                total: 10_000_000,
                unit: "batches".into(),
                phase: String::new(),
                figures: vec![("cross-entropy".into(), 1.0 / done as f32)],
                milestone,
                left: None,
            },
        }
    }

    fn started(stage: &str) -> Said {
        Said::Started {
            stage: stage.into(),
            threads: 1,
            gpus: Vec::new(),
            reason: "never run".into(),
        }
    }

    fn taken(said: impl IntoIterator<Item = Said>) -> Live {
        let mut live = Live::default();
        for (place, said) in said.into_iter().enumerate() {
            live.take(Line { at: place as f64, said });
        }
        live
    }

    #[test]
    fn weeks_of_training_stay_small_and_keep_their_shape() {
        let live = taken((1..200_000).map(|done| progress("net", done, done % 1000 == 0)));
        let points = &live.stages["net"].points;
        assert!(points.len() <= POINTS_OF_STAGE, "{}", points.len());
        assert!(points.len() >= POINTS_OF_STAGE / 4, "{}", points.len());
        assert_eq!(points.last().map(|(_, place)| place.done), Some(199_999));
        assert!(points.iter().filter(|(_, place)| place.milestone).count() > 90);
        assert!(points.windows(2).all(|pair| pair[0].1.done < pair[1].1.done));
        let many = taken((0..400_000).map(|i| progress(&format!("net{}", i % 5000), 1 + i / 5000, false)));
        assert!(many.stages.len() <= STAGES);
        assert!(many.points <= POINTS + 1, "{}", many.points);
        let counted: usize = many.stages.values().map(|stage| stage.points.len()).sum();
        assert_eq!(counted, many.points);
    }

    #[test]
    fn its_lines_add_up_to_it() {
        let queued = || Said::Queued {
            stage: "a".into(),
            job: "7".into(),
        };
        let mut said = vec![
            queued(),
            started("a"),
            queued(),
            started("a"),
            Said::Waiting { stage: "b".into() },
        ];
        said.extend((1..300).map(|done| progress("a", done, done % 10 == 0)));
        said.push(Said::Note {
            stage: "a".into(),
            text: "from a checkpoint".into(),
        });
        said.push(Said::Ended {
            stage: "a".into(),
            outcome: StageOutcome::Failed,
            seconds: Some(3.0),
            error: Some("no".into()),
        });
        said.push(Said::Stages(Counts {
            selected: 3,
            failed: 1,
            ..Counts::default()
        }));
        let live = taken(said);
        let mut again = Live::default();
        live.lines().into_iter().for_each(|line| again.take(line));
        assert_eq!(again, live);
    }

    #[test]
    fn a_retry_draws_its_curve_over_that_of_the_first_attempt() {
        let mut said = vec![started("a")];
        said.extend((1..=100).map(|done| progress("a", done, false)));
        said.extend([started("a"), progress("a", 40, false), progress("a", 41, true)]);
        let live = taken(said);
        let stage = &live.stages["a"];
        assert_eq!(stage.points.last().map(|(_, place)| place.done), Some(41));
        assert_eq!(stage.points.len(), 42);
        assert_eq!(live.points, 42);
    }
}
