//! `dynvis jobs`: which jobs of a queue a cache knows of.

use std::path::Path;

use dynvis_runner::run::{JobProgress, RecordedJob, cancel_job, recorded_jobs};
use globset::Glob;
use serde_json::json;

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::duration;
use super::{open_store, project_here};

/// List jobs that a queue has for this cache, or that no run has heard to their end
///
/// What stands there is what the jobs themselves have written; the queue is asked by a run, or by its own commands. The
/// next run of a job's pipeline takes it over. Where none will, for its stage was changed or taken out, `--cancel` ends it.
#[derive(clap::Args)]
pub(crate) struct JobsArgs {
    /// Names of stages, with `*` for any letters [default: all]
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// Cancel and forget those that no run attends to
    #[arg(long)]
    cancel: bool,
    /// Print JSON instead of text
    #[arg(long, conflicts_with = "cancel")]
    json: bool,
}

pub(crate) fn jobs(ui: &mut Ui, cache: Option<&Path>, args: &JobsArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let mut jobs = recorded_jobs(&store)?;
    if !args.stages.is_empty() {
        let mut matchers = Vec::new();
        for name in &args.stages {
            let glob = Glob::new(name).map_err(|error| {
                CommandError::hinted(
                    format!("`{name}` is no pattern of names: {}", error.kind()),
                    "`net@*` is one",
                )
            })?;
            matchers.push(glob.compile_matcher());
        }
        jobs.retain(|job| matchers.iter().any(|glob| glob.is_match(&job.stage)));
        if jobs.is_empty() {
            return Err(CommandError::hinted(
                format!("there is no job of {}", args.stages.join(", ")),
                "`dynvis jobs` lists all",
            ));
        }
    }
    if args.json {
        ui.out(&format!("{:#}\n", json!({ "version": 1, "jobs": jobs })))?;
        return Ok(0);
    }
    if args.cancel {
        for job in &jobs {
            let how = match cancel_job(&store, job)? {
                None => "is attended to by a run: end that, with Ctrl-C",
                Some(true) => "cancelled",
                Some(false) => {
                    "forgotten; the queue did not take that it is cancelled, and it ends by itself once it starts"
                }
            };
            ui.status(&format!("{}  {how}", job.stage));
        }
        return Ok(0);
    }
    if jobs.is_empty() {
        ui.status("no jobs");
        return Ok(0);
    }
    let rows = jobs.iter().map(row).collect();
    let header = ["stage", "job", "state", "node", "last sign", "attended to by"];
    ui.out(&simple_table(&header, rows, ui.width()))?;
    Ok(0)
}

fn row(job: &RecordedJob) -> Vec<String> {
    let state = match job.progress {
        JobProgress::Waits => "waits",
        JobProgress::Started => "started",
        JobProgress::Ended => "ended",
    };
    let ago = job.heard.and_then(|at| at.elapsed().ok());
    vec![
        job.stage.clone(),
        job.id.clone().unwrap_or_else(|| "not known".into()),
        state.into(),
        job.host.clone().unwrap_or_default(),
        ago.map(|ago| format!("{} ago", duration(ago.as_secs_f64())))
            .unwrap_or_default(),
        if job.is_attended { "a run" } else { "nobody" }.into(),
    ]
}
