//! `dynvis why`.

use std::path::Path;

use dynvis_runner::key::{Change, changes};
use dynvis_runner::pipeline::Pipeline;
use dynvis_runner::plan::{Planned, Reason, Request, World, plan, select};
use dynvis_runner::run::{StoreWorld, observe};
use serde_json::json;

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use super::{PipelineArgs, open_store};

/// Compare what a stage is now with what its present result was made from
#[derive(clap::Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The stage, or one member of its matrix
    #[arg(add = super::completions::stages())]
    stage: String,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn why(ui: &mut Ui, cache: Option<&Path>, args: &WhyArgs) -> Result<u8, CommandError> {
    let pipeline = args.pipeline.load(ui)?;
    let mut store = open_store(cache, &pipeline.root)?;
    let named = Request {
        stages: vec![args.stage.clone()],
        only: true,
        ..Request::default()
    };
    let named = select(&pipeline, &named)?;
    let needed = Request {
        stages: vec![args.stage.clone()],
        ..Request::default()
    };
    let needed = select(&pipeline, &needed)?;
    let observed = observe(&pipeline, &needed, &mut store, &mut |event| ui.reading(event))?;
    let mut world = StoreWorld {
        store: &mut store,
        pipeline: &pipeline.name,
        observed: &observed,
    };
    let planned: Vec<_> = plan(&pipeline, &needed, &mut world)
        .into_iter()
        .filter(|planned| named.includes(planned.id))
        .map(|planned| {
            let found = differences(&pipeline, &planned, &world);
            (planned, found)
        })
        .collect();
    if args.json {
        let stages: Vec<_> = planned
            .iter()
            .map(|(planned, found)| {
                let reasons: Vec<_> = planned.decision.reasons.iter().map(Reason::to_json).collect();
                json!({
                    "stage": pipeline.stage(planned.id).name,
                    "state": planned.decision.state,
                    "reasons": reasons,
                    "changes": found,
                })
            })
            .collect();
        let document = json!({ "version": 1, "pipeline": pipeline.name, "stages": stages });
        ui.out(&format!("{document:#}\n"))?;
        return Ok(0);
    }
    for (planned, found) in &planned {
        let stage = pipeline.stage(planned.id);
        ui.out(&format!("{}: {}\n", stage.name, planned.decision.state.name()))?;
        for reason in &planned.decision.reasons {
            ui.out(&format!("  {reason}\n"))?;
        }
        let Some(found) = found else {
            continue;
        };
        let show = |v: &Option<serde_json::Value>| v.as_ref().map_or_else(|| "unset".into(), ToString::to_string);
        let rows: Vec<_> = found
            .iter()
            .map(|c| vec![c.path.clone(), show(&c.before), show(&c.after)])
            .collect();
        if rows.is_empty() {
            ui.out("  nothing differs from what its result was made from\n")?;
        } else {
            ui.out(&simple_table(&["part of the key", "then", "now"], rows, ui.width()))?;
        }
    }
    Ok(0)
}

/// What differs between what the stage's present result was made from and what it is now; none where either is not
/// known. An accepted result was made from what it was computed for.
fn differences(pipeline: &Pipeline, planned: &Planned, world: &StoreWorld) -> Option<Vec<Change>> {
    let current = world.current(&pipeline.stage(planned.id).name)?;
    let accepted = world.result(&current).and_then(|result| result.accepted.as_ref());
    let made_for = accepted.map_or(&current, |accepted| &accepted.from);
    let decision = &planned.decision;
    if decision.key.as_ref() == Some(made_for) {
        return Some(Vec::new());
    }
    let before = world.description(made_for)?;
    // That of the present result was kept with it.
    let kept = || world.description(decision.key.as_ref()?);
    let now = decision.description.clone().or_else(kept)?;
    let mut found = changes(&before, &now);
    let kind = pipeline.stage(planned.id).kind();
    for change in &mut found {
        if let Some(path) = change.path.strip_prefix("params.") {
            change.path = format!("params.{}", kind.published_path(path));
        }
    }
    Some(found)
}
