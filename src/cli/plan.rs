//! `dynvis plan`.

use std::path::Path;

use serde_json::json;

use super::error::CommandError;
use super::run::SelectArgs;
use super::tables::simple_table;
use super::ui::Ui;
use super::{PipelineArgs, exit, open_store};
use crate::pipeline::Pipeline;
use crate::plan::{Planned, Reason, State, select};
use crate::run::{StoreWorld, observe};

/// Show what `run` would do, and why
#[derive(clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
    /// Exit with 10 if something would run
    #[arg(long)]
    exit_code: bool,
}

pub(crate) fn plan(ui: &mut Ui, cache: Option<&Path>, args: &PlanArgs) -> Result<u8, CommandError> {
    let pipeline = args.pipeline.load()?;
    let mut store = open_store(cache, &pipeline.root)?;
    let selection = select(&pipeline, &args.select.request())?;
    let observed = observe(&pipeline, &mut store)?;
    let mut world = StoreWorld {
        store: &mut store,
        pipeline: &pipeline.name,
        observed: &observed,
    };
    let planned = crate::plan::plan(&pipeline, &selection, &mut world);
    store.save_fingerprints()?;
    if args.json {
        let stages: Vec<_> = planned
            .iter()
            .map(|p| {
                json!({
                    "stage": pipeline.stage(p.id).name,
                    "kind": pipeline.stage(p.id).kind.name(),
                    "state": p.decision.state,
                    "reasons": p.decision.reasons,
                    "key": p.decision.key,
                    "expected_seconds": p.seconds,
                })
            })
            .collect();
        let document = json!({ "version": 1, "pipeline": pipeline.name, "stages": stages });
        ui.out(&format!("{document:#}\n"))?;
    } else {
        ui.out(&text(ui, &pipeline, &planned))?;
    }
    let pending = planned
        .iter()
        .any(|p| !matches!(p.decision.state, State::Cached | State::Excluded));
    Ok(if args.exit_code && pending { exit::PENDING } else { 0 })
}

/// The plan as a table, then what is missing, then a summary line.
pub(crate) fn text(ui: &Ui, pipeline: &Pipeline, planned: &[Planned]) -> String {
    let rows = planned
        .iter()
        .map(|p| {
            let reasons: Vec<String> = p.decision.reasons.iter().map(Reason::to_string).collect();
            let time = match p.decision.state {
                State::Run | State::Maybe => p.seconds.map(duration).unwrap_or_default(),
                _ => String::new(),
            };
            vec![
                p.decision.state.name().to_owned(),
                pipeline.stage(p.id).name.clone(),
                time,
                reasons.join("; "),
            ]
        })
        .collect();
    let mut text = simple_table(&["state", "stage", "last took", "reason"], rows, ui.width());
    for missing in crate::run::missing_data(pipeline, planned) {
        for item in &missing.missing {
            text += &format!(
                "\n`{}` needs {}\n  put it in: {}\n  {}\n",
                missing.stage, item.what, item.place, item.hint
            );
        }
        if !missing.waiting.is_empty() {
            text += &format!("  waiting for it: {}\n", missing.waiting.join(", "));
        }
    }
    let count = |state| planned.iter().filter(|p| p.decision.state == state).count();
    let parts: Vec<String> = [
        State::Run,
        State::Maybe,
        State::Restore,
        State::Cached,
        State::Blocked,
        State::Excluded,
    ]
    .into_iter()
    .filter(|s| count(*s) > 0)
    .map(|s| format!("{} {}", count(s), s.name()))
    .collect();
    let known: f64 = planned
        .iter()
        .filter(|p| matches!(p.decision.state, State::Run | State::Maybe))
        .filter_map(|p| p.seconds)
        .sum();
    text += &format!("\n{} stages: {}", planned.len(), parts.join(", "));
    if known > 0.0 {
        text += &format!("; about {} of work by earlier runs", duration(known));
    }
    text + "\n"
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
