//! `dynvis trace`: a run on a time line.

use std::path::Path;

use dynvis_runner::store::{RunRecord, RunStage};
use serde_json::{Value as Json, json};

use super::error::CommandError;
use super::ui::Ui;
use super::{completions, open_store, project_here};

/// Print a run as a trace, for ui.perfetto.dev or chrome://tracing
#[derive(clap::Args)]
pub(crate) struct TraceArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters
    #[arg(default_value = "@", add = completions::runs())]
    run: String,
}

pub(crate) fn trace(ui: &mut Ui, cache: Option<&Path>, args: &TraceArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let (_, run) = super::find_run(ui, &store, &args.run)?;
    ui.out(&format!("{:#}\n", document(&run)))?;
    Ok(0)
}

/// How many jobs wait and run, whenever that changes.
fn queue(run: &RunRecord, microseconds: f64) -> Vec<Json> {
    let mut changes: Vec<(f64, i64, i64)> = Vec::new();
    for stage in &run.stages {
        if let (Some(execution), Some(seconds)) = (&stage.execution, stage.seconds)
            && let Some(job) = &execution.job
        {
            changes.push((job.queued, 1, 0));
            changes.push((execution.started, -1, 1));
            changes.push((execution.started + seconds, 0, -1));
        }
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut wait, mut run) = (0, 0);
    let mut events = Vec::new();
    for (at, more_wait, more_run) in changes {
        wait += more_wait;
        run += more_run;
        events.push(json!({
            "ph": "C", "pid": 1, "name": "jobs", "ts": at * microseconds, "args": { "wait": wait, "run": run },
        }));
    }
    events
}

/// The Trace Event Format: times in microseconds, one line (`tid`) for each stage that ran beside others.
fn document(run: &RunRecord) -> Json {
    const MICROSECONDS: f64 = 1e6;
    let name = |what: &str, thread: usize, text: String| json!({ "ph": "M", "pid": 1, "tid": thread, "name": what, "args": { "name": text } });
    let mut events = vec![name("process_name", 0, format!("{} ({})", run.pipeline, run.id))];
    // When it was queued, or else started, when it started, and how long it ran.
    let mut executed: Vec<(f64, f64, f64, &RunStage)> = run
        .stages
        .iter()
        .filter_map(|stage| {
            let execution = stage.execution.as_ref()?;
            let started = execution.started;
            let queued = execution.job.as_ref().map_or(started, |job| job.queued.min(started));
            Some((queued, started, stage.seconds?, stage))
        })
        .collect();
    executed.sort_by(|a, b| a.0.total_cmp(&b.0));
    // When each line is free again.
    let mut lines: Vec<f64> = Vec::new();
    for (queued, started, seconds, stage) in executed {
        let line = lines.iter().position(|end| *end <= queued).unwrap_or_else(|| {
            lines.push(0.0);
            lines.len() - 1
        });
        lines[line] = started + seconds;
        if queued < started {
            events.push(json!({
                "ph": "X", "pid": 1, "tid": line + 1, "name": format!("{} waits", stage.name), "cat": "queue",
                "ts": queued * MICROSECONDS, "dur": (started - queued) * MICROSECONDS,
            }));
        }
        events.push(json!({
            "ph": "X", "pid": 1, "tid": line + 1, "name": stage.name, "cat": stage.kind,
            "ts": started * MICROSECONDS, "dur": seconds * MICROSECONDS,
            "args": {
                "outcome": stage.outcome, "reason": stage.reason, "key": stage.key,
                "execution": stage.execution, "seed": stage.seed,
            },
        }));
    }
    events.extend(queue(run, MICROSECONDS));
    events.extend((0..lines.len()).map(|line| name("thread_name", line + 1, format!("side by side {}", line + 1))));
    json!({
        "displayTimeUnit": "ms",
        "traceEvents": events,
        "otherData": {
            "run": run.id, "pipeline": run.pipeline, "arguments": run.arguments, "started_at": run.started_at,
            "host": run.host, "device": run.device, "dynvis_version": run.dynvis_version,
        },
    })
}
