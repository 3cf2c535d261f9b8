//! What is shown of a run, on a terminal and on a page: the same for both, made harmless here.

use std::time::SystemTime;

use dynvis_runner::run::log_path;
use dynvis_runner::store::{RunRecord, RunStatus, StageOutcome};
use serde::Serialize;

use super::chart::{Scale, span};
use super::line::{Counts, Figure, Place};
use super::live::{Live, Mark, Stage};
use super::recorder::SIGN_OF_LIFE;
use super::tail::Tail;
use crate::cli::forecast::Left;
use crate::cli::harmless::{harmless, line};
use crate::cli::wording::{duration, shell_word};

/// Running stages that are listed, and those with curves.
const LISTED: usize = 64;
const DRAWN: usize = 12;
/// Failed stages that are told of, and lines of their logs.
const FAILED: usize = 8;
const LOG_LINES: usize = 8;
/// Bytes at the end of a log in which these are looked for.
const LOG_BYTES: u64 = 16 << 10;

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Running,
    /// It has no lock that is seen here, but said something a moment ago.
    SeemsToRun,
    Done,
    Failed,
    Interrupted,
    /// It stopped without recording an end.
    Killed,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::SeemsToRun => "seems to run",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Killed => "killed",
        }
    }

    pub(super) fn goes_on(self) -> bool {
        matches!(self, Self::Running | Self::SeemsToRun)
    }
}

/// A run at a moment.
#[derive(Debug, Serialize)]
pub(super) struct View {
    pub(super) run: String,
    pub(super) pipeline: String,
    pub(super) host: String,
    /// In UTC.
    pub(super) started_at: String,
    /// Seconds since then, or until the run's end or last sign of life.
    pub(super) elapsed: f64,
    pub(super) state: State,
    pub(super) word: &'static str,
    pub(super) goes_on: bool,
    /// What there is to say about the state beyond its word.
    pub(super) about: Option<String>,
    /// What is left and how that is known; none where the run has ended.
    pub(super) left: Option<String>,
    pub(super) selected: usize,
    pub(super) ended: usize,
    /// Stages by what became of them, words and numbers, none of which is 0.
    pub(super) counts: Vec<(&'static str, usize)>,
    /// Stages that run, or ran when the run was killed.
    pub(super) running: Vec<Running>,
    /// How many more there are.
    pub(super) more_running: usize,
    pub(super) trainings: Vec<Training>,
    pub(super) failed: Vec<Failed>,
    pub(super) more_failed: usize,
    /// What ended last: stage, outcome, seconds.
    pub(super) last: Vec<(String, &'static str, Option<f64>)>,
    /// What to type next.
    pub(super) hints: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Running {
    pub(super) stage: String,
    /// Seconds since it was started; none while it waits, in a queue or for another process.
    pub(super) seconds: Option<f64>,
    pub(super) share: Option<f64>,
    /// `12/100 batches`.
    pub(super) count: String,
    pub(super) phase: String,
    pub(super) figures: Vec<(String, f32)>,
    /// Seconds that are left of it.
    pub(super) left: Option<f64>,
    pub(super) resources: String,
    pub(super) note: Option<String>,
}

/// The curves of a stage.
#[derive(Debug, Serialize)]
pub(super) struct Training {
    pub(super) stage: String,
    pub(super) panels: Vec<Panel>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Panel {
    /// With its unit.
    pub(super) name: String,
    /// What is on the horizontal axis: `epoch`.
    pub(super) axis: String,
    /// Where that axis ends once the stage is done.
    pub(super) end: f64,
    /// What that axis spans now.
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) scale: Scale,
    pub(super) series: Vec<Series>,
}

impl Panel {
    /// `is_share`: whether values are shares, from 0 to 1.
    pub(super) fn new(name: String, axis: String, end: f64, is_share: bool, series: Vec<Series>) -> Self {
        let (from, to) = span(&series);
        Self {
            name,
            axis,
            end,
            from,
            to,
            scale: Scale::of(&series, is_share),
            series,
        }
    }
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Series {
    pub(super) name: String,
    /// Whether its points are ends of epochs, and not batches within them.
    pub(super) is_whole: bool,
    /// Whether it is of images that are not trained on.
    pub(super) is_validation: bool,
    pub(super) points: Vec<(f64, f32)>,
}

#[derive(Debug, Serialize)]
pub(super) struct Failed {
    pub(super) stage: String,
    pub(super) error: String,
    /// The last lines of its log.
    pub(super) log: Vec<String>,
    /// Prints all of it.
    pub(super) command: String,
}

/// What a view is made from.
pub(super) struct Seen<'a> {
    pub(super) folder: &'a std::path::Path,
    pub(super) run: &'a RunRecord,
    pub(super) tail: &'a Tail,
    pub(super) is_alive: bool,
    /// Name of this machine.
    pub(super) here: &'a str,
    pub(super) now: SystemTime,
}

impl View {
    pub(super) fn of(seen: &Seen<'_>) -> Self {
        let Seen { run, tail, .. } = seen;
        let live = &tail.live;
        let started = run.started_at.parse::<jiff::Timestamp>().ok();
        let since_start = |at: SystemTime| {
            let at = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
            Some(at - started?.as_millisecond() as f64 / 1000.0)
        };
        let silent = tail
            .touched
            .and_then(|at| seen.now.duration_since(at).ok())
            .map_or(0.0, |age| age.as_secs_f64());
        let (state, about) = state(seen, silent);
        // Clocks of two machines differ: it is never earlier than what was said last.
        let elapsed = match (run.finished_at.is_some(), state.goes_on()) {
            (true, _) => run.seconds,
            (false, true) => since_start(seen.now).unwrap_or(0.0).max(live.last),
            (false, false) => tail
                .touched
                .and_then(since_start)
                .unwrap_or(0.0)
                .max(run.seconds)
                .max(live.last),
        };
        let is_over = run.status != RunStatus::Running;
        let counts = match is_over || !tail.exists() {
            true => recorded(run),
            false => live.counts.clone(),
        };
        let running: Vec<Running> = match is_over {
            true => Vec::new(),
            false => live
                .stages
                .iter()
                .filter_map(|(name, stage)| running(name, stage, elapsed))
                .map(|stage| Running {
                    // Nothing is left of what nobody computes any more.
                    left: stage.left.filter(|_| state.goes_on()),
                    ..stage
                })
                .collect(),
        };
        let trainings = trainings(live, is_over);
        let failed = failed(seen, live, is_over);
        // Those with a result; what failed, was stopped or was not reached is told beside it.
        let with_result = counts.done + counts.cached;
        let ended = counts.ended();
        let executing = live.running().count();
        let waiting = counts.selected.saturating_sub(ended).saturating_sub(executing);
        let counted = [
            ("done", counts.done),
            ("cached", counts.cached),
            (
                if state.goes_on() { "running" } else { "ran at its end" },
                if is_over { 0 } else { executing },
            ),
            ("waiting", if is_over { 0 } else { waiting }),
            ("failed", counts.failed),
            ("interrupted", counts.interrupted),
            ("not reached", counts.blocked),
        ];
        Self {
            run: run.id.to_string(),
            pipeline: harmless(&run.pipeline),
            host: harmless(&run.host),
            started_at: run.started_at.get(..19).unwrap_or(&run.started_at).replace('T', " "),
            elapsed,
            state,
            word: state.word(),
            goes_on: state.goes_on(),
            about,
            left: state.goes_on().then(|| left(&counts, elapsed - live.counted_at)),
            selected: counts.selected,
            ended: with_result,
            counts: counted.into_iter().filter(|(_, count)| *count > 0).collect(),
            more_running: running.len().saturating_sub(LISTED),
            running: running.into_iter().take(LISTED).collect(),
            trainings,
            more_failed: failed.len().saturating_sub(FAILED),
            failed: failed.into_iter().take(FAILED).collect(),
            last: last(live),
            hints: hints(run, state),
        }
    }
}

/// How the run stands, and on what grounds that is said. `silent`: seconds since its file was touched.
fn state(seen: &Seen<'_>, silent: f64) -> (State, Option<String>) {
    let run = seen.run;
    let last = match seen.tail.exists() {
        true => format!("its last sign of life came {} ago", duration(silent)),
        false => "it left no sign of life but its start".to_owned(),
    };
    let is_recent = seen.tail.exists() && silent < 6.0 * SIGN_OF_LIFE.as_secs_f64();
    let elsewhere = || {
        let host = harmless(&run.host);
        format!("it was started on {host}, whose locks are not seen here; {last}")
    };
    let (state, grounds) = match run.status {
        RunStatus::Done => (State::Done, None),
        RunStatus::Failed => (State::Failed, None),
        RunStatus::Interrupted => (State::Interrupted, None),
        RunStatus::Running if seen.is_alive => (State::Running, None),
        RunStatus::Running if run.host == seen.here => {
            let grounds = format!("not running any more: it stopped without recording an end; {last}");
            (State::Killed, Some(grounds))
        }
        RunStatus::Running if is_recent => (State::SeemsToRun, Some(elsewhere())),
        RunStatus::Running => {
            let grounds = format!("{}: it is not running any more, or cannot write", elsewhere());
            (State::Killed, Some(grounds))
        }
    };
    let more = "its file of progress is larger than any run's: not all of it is read";
    let more = seen.tail.is_too_large.then(|| more.to_owned());
    let about: Vec<String> = grounds.into_iter().chain(more).collect();
    (state, (!about.is_empty()).then(|| about.join("; ")))
}

/// What became of the stages by the run's record.
fn recorded(run: &RunRecord) -> Counts {
    let mut counts = Counts::default();
    run.stages.iter().for_each(|stage| counts.add(stage.outcome));
    counts.selected = counts.ended();
    counts
}

/// What is left of the run, `ago` seconds after that was reckoned, and how it is known.
fn left(counts: &Counts, ago: f64) -> String {
    let until = |seconds: f64| {
        let then = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
        let then = jiff::Timestamp::now().checked_add(then).ok()?;
        let text = then.to_string();
        let (day, time) = text.split_once('T')?;
        let time = time.get(..5)?;
        Some(match seconds < 43_200.0 {
            true => format!(", until {time} UTC"),
            false => format!(", until {day} {time} UTC"),
        })
    };
    let rest = |seconds: f64| (seconds - ago).max(0.0);
    match &counts.left {
        _ if counts.is_ending => "ending: what runs writes a checkpoint or comes to its end".into(),
        Some(Left::About(seconds)) if rest(*seconds) < 1.0 => "about to end".into(),
        Some(Left::About(seconds)) => {
            let rest = rest(*seconds);
            let until = until(rest).unwrap_or_default();
            format!("about {} left{until} (by its speed and earlier runs)", duration(rest))
        }
        Some(Left::AtLeast(seconds)) => format!(
            "at least {} left (some stages were not timed before)",
            duration(rest(*seconds).max(1.0))
        ),
        None if counts.failed > 0 => "time left not known: a stage failed".into(),
        None => "time left not known yet".into(),
    }
}

fn running(name: &str, stage: &Stage, now: f64) -> Option<Running> {
    if stage.ended.is_some() {
        return None;
    }
    let place = stage.place.as_ref();
    let (count, phase, figures) = place.map_or_else(Default::default, |(_, place)| {
        let count = match place.total {
            0 => String::new(),
            total => format!("{}/{total} {}", place.done, line(&place.unit)),
        };
        // While it validates, those before are the last that are known.
        let last = stage.points.last().filter(|_| place.figures.is_empty());
        let known = last.map_or(place, |(_, last)| last);
        let figures = known.figures.iter().map(|(name, value)| (line(name), *value));
        (count, line(&place.phase), figures.collect())
    });
    let started = stage.started.as_ref();
    let resources = started.map_or_else(
        || match stage.marks.last() {
            Some((_, Mark::Queued(job))) => format!("in the queue as job {}", line(job)),
            _ => "waits for another process that computes the same".to_owned(),
        },
        |started| {
            let plural = if started.threads == 1 { "" } else { "s" };
            let gpus = match started.gpus.as_slice() {
                [] => String::new(),
                gpus => format!(", GPU {}", line(&gpus.join(","))),
            };
            format!("{} thread{plural}{gpus}: {}", started.threads, line(&started.reason))
        },
    );
    Some(Running {
        stage: line(name),
        seconds: started.map(|started| (now - started.at).max(0.0)),
        share: place.and_then(|(_, place)| place.share()),
        count: count.trim_end().to_owned(),
        phase,
        figures,
        left: place.and_then(|(at, place)| Some((f64::from(place.left?) - (now - at)).max(0.0))),
        resources,
        note: stage.note.as_ref().map(|(_, note)| line(note)),
    })
}

/// Curves of what trains now; of a run that is over, of what trained last.
fn trainings(live: &Live, is_over: bool) -> Vec<Training> {
    let has_loss = |place: &Place| place.figures.iter().any(|(name, _)| Figure::of(name) == Figure::Loss);
    let trains = |(_, stage): &(&String, &Stage)| stage.points.iter().any(|(_, place)| has_loss(place));
    let draw = |(name, stage): (&String, &Stage)| Training {
        stage: line(name),
        panels: panels(stage),
    };
    let running: Vec<_> = live.running().filter(trains).take(DRAWN).collect();
    match is_over || running.is_empty() {
        false => running.into_iter().map(draw).collect(),
        true => {
            let mut last: Vec<_> = live.stages.iter().rev().filter(trains).take(4).collect();
            last.reverse();
            last.into_iter().map(draw).collect()
        }
    }
}

/// The curves of a stage: what is lowered, and shares of images that are classified rightly.
fn panels(stage: &Stage) -> Vec<Panel> {
    let Some((_, last)) = stage.points.last() else {
        return Vec::new();
    };
    let (axis, _, end) = last.axis();
    let axis = line(axis);
    let mut names: Vec<&str> = Vec::new();
    for (_, place) in &stage.points {
        for (name, _) in &place.figures {
            if !names.contains(&name.as_str()) && names.len() < 32 {
                names.push(name);
            }
        }
    }
    let of = |figure: Figure| names.iter().copied().filter(move |name| Figure::of(name) == figure);
    let panel = |name: String, is_share: bool, figures: &[&str]| {
        let mut series = Vec::new();
        for figure in figures {
            for is_whole in [false, true] {
                let points = stage.points.iter().filter(|(_, place)| place.milestone == is_whole);
                let points = points.filter_map(|(_, place)| {
                    let (_, value) = place.figures.iter().find(|(name, _)| name == figure)?;
                    // Beyond that no axis can be drawn.
                    (value.abs() < 1e30).then(|| (place.axis().1, *value))
                });
                let points: Vec<(f64, f32)> = points.collect();
                if !points.is_empty() {
                    let which = match (is_whole, axis.as_str()) {
                        (true, "epoch") => ", each epoch",
                        (true, _) => "",
                        (false, _) => ", each batch",
                    };
                    series.push(Series {
                        name: format!("{}{which}", line(figure)),
                        is_whole,
                        is_validation: figure.contains("validation"),
                        points,
                    });
                }
            }
        }
        Panel::new(name, axis.clone(), end, is_share, series)
    };
    // Where there are several, the first is what is compared among trainings.
    let loss = of(Figure::Loss).next().map(|name| {
        let unit = if name == "cross-entropy" { " (nats)" } else { "" };
        panel(format!("{}{unit}", line(name)), false, &[name])
    });
    let accuracies: Vec<&str> = of(Figure::Accuracy).take(4).collect();
    let accuracy = (!accuracies.is_empty()).then(|| panel("accuracy (share of images)".into(), true, &accuracies));
    let panels = loss.into_iter().chain(accuracy);
    panels.filter(|panel| !panel.series.is_empty()).collect()
}

fn failed(seen: &Seen<'_>, live: &Live, is_over: bool) -> Vec<Failed> {
    let by_record = is_over || !seen.tail.exists();
    let all: Vec<(&str, &str)> = match by_record {
        true => {
            let stages = seen
                .run
                .stages
                .iter()
                .filter(|stage| stage.outcome == StageOutcome::Failed);
            stages
                .map(|stage| (stage.name.as_str(), stage.reason.as_str()))
                .collect()
        }
        false => {
            let stages = live
                .stages
                .iter()
                .filter_map(|(name, stage)| Some((name, stage.ended.as_ref()?)));
            let stages = stages.filter(|(_, ended)| ended.outcome == StageOutcome::Failed);
            stages
                .map(|(name, ended)| (name.as_str(), ended.error.as_deref().unwrap_or("it left no result")))
                .collect()
        }
    };
    let tell = |(place, (stage, error)): (usize, (&str, &str))| Failed {
        stage: line(stage),
        error: line(error),
        // Of those that are not told of, the log is not read.
        log: if place < FAILED {
            log_end(seen.folder, stage)
        } else {
            Vec::new()
        },
        command: format!("dynvis log {} {}", seen.run.id, shell_word(&line(stage))),
    };
    all.into_iter().enumerate().map(tell).collect()
}

/// The last lines of a stage's log.
fn log_end(folder: &std::path::Path, stage: &str) -> Vec<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut bytes = Vec::new();
    let read = dynvis_base::files::open(&log_path(folder, stage)).and_then(|mut file| {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(LOG_BYTES)))?;
        file.take(LOG_BYTES).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().map(line).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].to_vec()
}

/// What ended last.
fn last(live: &Live) -> Vec<(String, &'static str, Option<f64>)> {
    let mut ended: Vec<_> = live
        .stages
        .iter()
        .filter_map(|(name, stage)| Some((name, stage.ended.as_ref()?)))
        .collect();
    ended.sort_by(|a, b| b.1.at.total_cmp(&a.1.at));
    let word = |outcome| match outcome {
        StageOutcome::Ran => "done",
        StageOutcome::Cached | StageOutcome::Restored => "cached",
        StageOutcome::Failed => "failed",
        StageOutcome::Interrupted => "interrupted",
        StageOutcome::Blocked | StageOutcome::Excluded => "not reached",
    };
    let last = ended.into_iter().take(5);
    last.map(|(name, ended)| (line(name), word(ended.outcome), ended.seconds))
        .collect()
}

fn hints(run: &RunRecord, state: State) -> Vec<String> {
    let again = || {
        format!(
            "`dynvis {}` goes on from what is there",
            harmless(&run.arguments.join(" "))
        )
    };
    match state {
        State::Running | State::SeemsToRun => Vec::new(),
        State::Done => vec![format!(
            "`dynvis show {0}` lists its tables, `dynvis report {0}` makes a page",
            run.id
        )],
        State::Failed | State::Interrupted | State::Killed => vec![again()],
    }
}
