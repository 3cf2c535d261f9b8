//! `dynvis why`.

use std::path::Path;

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::reading;
use super::{PipelineArgs, open_store};
use crate::key::changes;
use crate::plan::{Request, World, plan, select};
use crate::run::{StoreWorld, observe};

/// Compare what a stage is now with what its present result was made from
#[derive(clap::Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The stage, or one member of its matrix
    #[arg(add = super::completions::stages())]
    stage: String,
}

pub(crate) fn why(ui: &mut Ui, cache: Option<&Path>, args: &WhyArgs) -> Result<u8, CommandError> {
    let pipeline = args.pipeline.load()?;
    let mut store = open_store(cache, &pipeline.root)?;
    let named = Request {
        stages: vec![args.stage.clone()],
        only: true,
        ..Request::default()
    };
    let named = select(&pipeline, &named)?;
    let everything = select(&pipeline, &Request::default())?;
    let observed = observe(&pipeline, &mut store, &mut |s, f, b| ui.status(&reading(s, f, b)))?;
    let mut world = StoreWorld {
        store: &mut store,
        pipeline: &pipeline.name,
        observed: &observed,
    };
    for planned in plan(&pipeline, &everything, &mut world) {
        if !named.includes(planned.id) {
            continue;
        }
        let stage = pipeline.stage(planned.id);
        ui.out(&format!("{}: {}\n", stage.name, planned.decision.state.name()))?;
        for reason in &planned.decision.reasons {
            ui.out(&format!("  {reason}\n"))?;
        }
        let before = world.current(&stage.name).and_then(|key| world.description(&key));
        if let (Some(before), Some(after)) = (before, &planned.decision.description) {
            let show = |v: &Option<serde_json::Value>| v.as_ref().map_or_else(|| "unset".into(), ToString::to_string);
            let rows: Vec<_> = changes(&before, after)
                .iter()
                .map(|c| vec![c.path.clone(), show(&c.before), show(&c.after)])
                .collect();
            if !rows.is_empty() {
                ui.out(&simple_table(&["part of the key", "then", "now"], rows, ui.width()))?;
                continue;
            }
        }
        if planned.decision.key.is_some() && planned.decision.key == world.current(&stage.name) {
            ui.out("  nothing differs from what its result was made from\n")?;
        }
    }
    Ok(0)
}
