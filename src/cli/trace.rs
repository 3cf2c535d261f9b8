//! `dynvis trace`: runs on a time line.

use std::collections::HashMap;
use std::path::Path;

use dynvis_runner::store::{RunRecord, RunStage, RunStatus, StageOutcome};
use serde_json::{Value as Json, json};

use super::error::CommandError;
use super::ui::Ui;
use super::watch::{Mark, marks};
use super::{completions, open_store, project_here};

const MICROSECONDS: f64 = 1e6;

/// Print runs as a trace, for ui.perfetto.dev or chrome://tracing
///
/// A bar for every attempt of every stage and, of jobs, for the time that it waited in the queue. That of an attempt which
/// was followed by another one ends where that begins; what jobs did was seen up to `poll` seconds later. Several runs
/// stand on one time line: those of one computation that was killed and begun again.
#[derive(clap::Args)]
pub(crate) struct TraceArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters; repeatable
    #[arg(default_value = "@", value_name = "RUN", add = completions::runs())]
    runs: Vec<String>,
}

pub(crate) fn trace(ui: &mut Ui, cache: Option<&Path>, args: &TraceArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let mut runs = Vec::new();
    for reference in &args.runs {
        let (folder, run) = super::find_run(ui, &store, reference)?;
        let seconds = |at: jiff::Timestamp| at.as_nanosecond() as f64 / 1e9;
        let begun = run.started_at.parse::<jiff::Timestamp>().map_or(0.0, seconds);
        let (marks, last) = marks(&folder);
        let last = match store.is_alive(&folder) {
            true => seconds(jiff::Timestamp::now()) - begun,
            false => last,
        };
        runs.push(Traced {
            run,
            begun,
            marks,
            last,
        });
    }
    ui.out(&format!("{:#}\n", document(&runs)))?;
    Ok(0)
}

/// A run, and what is kept of when its stages were queued and started.
struct Traced {
    run: RunRecord,
    /// Seconds since 1970.
    begun: f64,
    marks: HashMap<String, Vec<(f64, Mark)>>,
    /// When it said something last, in seconds after its start; of a run that goes on, now.
    last: f64,
}

/// A try of a stage, in seconds after the start of its run.
#[derive(Clone, Debug, PartialEq)]
struct Attempt {
    /// When it was queued, and as which job.
    queued: Option<(f64, String)>,
    /// None where it never was.
    started: Option<f64>,
    over: f64,
    how: How,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// As the run's record tells.
    Recorded,
    /// Another one began.
    TriedAgain,
    /// Nothing more was said of it.
    NotKnown,
}

impl Attempt {
    fn begins(&self) -> f64 {
        let queued = self.queued.as_ref().map(|(at, _)| *at);
        queued.or(self.started).unwrap_or(self.over)
    }
}

impl Traced {
    /// All tries of a stage, in order.
    fn attempts(&self, name: &str, stage: Option<&RunStage>) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        let mut queued: Option<(f64, String)> = None;
        let mut open: Option<Attempt> = None;
        for (at, mark) in self.marks.get(name).into_iter().flatten() {
            // Whatever happens next, what ran before runs no more.
            attempts.extend(open.take().map(|attempt| Attempt {
                over: *at,
                how: How::TriedAgain,
                ..attempt
            }));
            match mark {
                Mark::Queued(job) => {
                    // What is submitted again before it has started waits on.
                    let since = queued.map_or(*at, |(since, _)| since);
                    queued = Some((since, job.clone()));
                }
                Mark::Started => {
                    open = Some(Attempt {
                        queued: queued.take(),
                        started: Some(*at),
                        over: self.last.max(*at),
                        how: How::NotKnown,
                    });
                }
            }
        }
        // One that ended in the queue has not run as the record would have it.
        let has_run = |stage: &&RunStage| open.is_some() || queued.is_none() || stage.outcome == StageOutcome::Ran;
        let recorded = stage.filter(has_run);
        let recorded = recorded.and_then(|stage| Some((stage.execution.as_ref()?, stage.seconds?)));
        if let Some((execution, seconds)) = recorded {
            let job = execution.job.as_ref();
            let known = open.take().and_then(|open| open.queued).or(queued.take());
            let started = execution.started;
            attempts.push(Attempt {
                queued: known
                    .or_else(|| job.map(|job| (job.queued, job.id.clone())))
                    .filter(|(at, _)| *at < started),
                started: Some(started),
                // Of a job that ran before this run took it over no more is drawn than this run has seen.
                over: (started + seconds).min(self.last.max(self.run.seconds)).max(started),
                how: How::Recorded,
            });
        }
        // Of a run that was killed, or whose jobs go on without it.
        attempts.extend(open);
        attempts.extend(queued.map(|(at, job)| Attempt {
            queued: Some((at, job)),
            started: None,
            over: self.last.max(at),
            how: How::NotKnown,
        }));
        attempts
    }

    /// The run's events, `offset` seconds after the beginning of the time line.
    fn events(&self, process: usize, offset: f64) -> Vec<Json> {
        let at = |seconds: f64| (offset + seconds) * MICROSECONDS;
        let named = |what: &str, thread: usize, text: String| json!({ "ph": "M", "pid": process, "tid": thread, "name": what, "args": { "name": text } });
        let run = &self.run;
        let mut events = vec![named("process_name", 0, format!("{} ({})", run.pipeline, run.id))];
        let by_name: HashMap<&str, &RunStage> = run.stages.iter().map(|stage| (stage.name.as_str(), stage)).collect();
        let unrecorded = self.marks.keys().map(String::as_str);
        let unrecorded = unrecorded.filter(|name| !by_name.contains_key(name));
        let names = run.stages.iter().map(|stage| stage.name.as_str()).chain(unrecorded);
        let mut all: Vec<(Attempt, &str)> = names
            .flat_map(|name| {
                let attempts = self.attempts(name, by_name.get(name).copied());
                attempts.into_iter().map(move |attempt| (attempt, name))
            })
            .collect();
        all.sort_by(|a, b| a.0.begins().total_cmp(&b.0.begins()).then(a.1.cmp(b.1)));
        // When each line is free again.
        let mut lines: Vec<f64> = Vec::new();
        for (attempt, name) in &all {
            let begins = attempt.begins();
            let line = lines.iter().position(|end| *end <= begins).unwrap_or_else(|| {
                lines.push(0.0);
                lines.len() - 1
            });
            lines[line] = attempt.over;
            let stage = by_name.get(name);
            if let Some((queued, job)) = &attempt.queued {
                let until = attempt.started.unwrap_or(attempt.over);
                events.push(json!({
                    "ph": "X", "pid": process, "tid": line + 1, "name": format!("{name} waits"), "cat": "queue",
                    "ts": at(*queued), "dur": (until - queued).max(0.0) * MICROSECONDS, "args": { "job": job },
                }));
            }
            let Some(started) = attempt.started else {
                continue;
            };
            let what = match (attempt.how, stage) {
                (How::Recorded, Some(stage)) => json!({
                    "outcome": stage.outcome, "reason": stage.reason, "key": stage.key,
                    "execution": stage.execution, "seed": stage.seed,
                }),
                (How::TriedAgain, _) => json!({ "outcome": "tried again" }),
                _ if run.status == RunStatus::Running => {
                    json!({ "outcome": "not known: the run goes on, or was killed" })
                }
                _ => json!({ "outcome": "not known: the run ended before it" }),
            };
            events.push(json!({
                "ph": "X", "pid": process, "tid": line + 1, "name": name, "cat": stage.map(|stage| &stage.kind),
                "ts": at(started), "dur": (attempt.over - started).max(0.0) * MICROSECONDS, "args": what,
            }));
        }
        events.extend(queue(&all).into_iter().map(|(seconds, wait, run)| {
            json!({
                "ph": "C", "pid": process, "name": "jobs", "ts": at(seconds), "args": { "wait": wait, "run": run },
            })
        }));
        let lines = 0..lines.len();
        events.extend(lines.map(|line| named("thread_name", line + 1, format!("side by side {}", line + 1))));
        events
    }
}

/// How many jobs wait and run, whenever that changes.
fn queue(attempts: &[(Attempt, &str)]) -> Vec<(f64, i64, i64)> {
    let mut changes: Vec<(f64, i64, i64)> = Vec::new();
    for (attempt, _) in attempts {
        let Some((queued, _)) = &attempt.queued else {
            continue;
        };
        changes.push((*queued, 1, 0));
        match attempt.started {
            Some(started) => {
                changes.push((started, -1, 1));
                changes.push((attempt.over, 0, -1));
            }
            None => changes.push((attempt.over, -1, 0)),
        }
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut wait, mut run) = (0, 0);
    let counted = changes.into_iter().map(|(at, more_wait, more_run)| {
        wait += more_wait;
        run += more_run;
        (at, wait, run)
    });
    counted.collect()
}

/// The Trace Event Format: times in microseconds, a process (`pid`) for each run, one line (`tid`) for each stage that
/// ran beside others.
fn document(runs: &[Traced]) -> Json {
    let first = runs.iter().map(|traced| traced.begun).fold(f64::INFINITY, f64::min);
    let events: Vec<Json> = runs
        .iter()
        .enumerate()
        .flat_map(|(index, traced)| traced.events(index + 1, traced.begun - first))
        .collect();
    let told = |traced: &Traced| {
        let run = &traced.run;
        json!({
            "run": run.id, "pipeline": run.pipeline, "arguments": run.arguments, "started_at": run.started_at,
            "host": run.host, "device": run.device, "dynvis_version": run.dynvis_version,
        })
    };
    let other = match runs {
        [one] => told(one),
        several => json!({ "runs": several.iter().map(told).collect::<Vec<_>>() }),
    };
    json!({ "displayTimeUnit": "ms", "traceEvents": events, "otherData": other })
}
