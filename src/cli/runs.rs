//! `dynvis runs`.

use std::path::Path;

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::{duration, outcomes};
use super::{open_store, project_here};
use crate::store::{RunRecord, RunStatus};

/// List past runs, the last one first
#[derive(clap::Args)]
pub(crate) struct RunsArgs {
    /// Show this many
    #[arg(short = 'n', long, default_value_t = 20)]
    number: usize,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

pub(crate) fn runs(ui: &mut Ui, cache: Option<&Path>, args: &RunsArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let folders = store.run_folders()?;
    let mut records = Vec::new();
    for (_, folder) in folders.iter().rev().take(args.number) {
        match store.read_run(folder) {
            Ok(run) => records.push(run),
            Err(error) => ui.status(&format!("skipped: {error}")),
        }
    }
    if args.json {
        let text = serde_json::to_string_pretty(&records).unwrap_or_default();
        ui.out(&format!("{text}\n"))?;
        return Ok(0);
    }
    if records.is_empty() {
        ui.status("no runs yet; `dynvis run PIPELINE` makes one");
        return Ok(0);
    }
    let rows = records.iter().map(row).collect();
    ui.out(&simple_table(
        &[
            "run",
            "started (UTC)",
            "took",
            "pipeline",
            "status",
            "stages",
            "arguments",
        ],
        rows,
        ui.width(),
    ))?;
    Ok(0)
}

fn row(run: &RunRecord) -> Vec<String> {
    vec![
        run.id.to_string(),
        run.started_at.get(..19).unwrap_or(&run.started_at).replace('T', " "),
        duration(run.seconds),
        run.pipeline.clone(),
        match run.status {
            // A run that is not recorded as ended was killed, or goes on in another terminal.
            RunStatus::Running => "not ended".into(),
            RunStatus::Done => "done".into(),
            RunStatus::Failed => "failed".into(),
            RunStatus::Interrupted => "interrupted".into(),
        },
        outcomes(run),
        run.arguments.join(" "),
    ]
}
