//! `dynvis accept`.

use std::path::Path;

use super::error::CommandError;
use super::ui::Ui;
use super::wording::shell_word;
use super::{PipelineArgs, make_store};
use dynvis_runner::pipeline::{Pipeline, Stage};
use dynvis_runner::plan::{Observed, Planned, Reason, Request, Selection, State, plan, select};
use dynvis_runner::run::{StoreWorld, observe};
use dynvis_runner::store::{Acceptance, Health, JournalEntry, ResultRecord, Store};

/// Declare a stage's present result to be up to date, without running it
///
/// For changes that cannot change the result, such as a comment in a program that a stage runs. What was accepted is
/// shown as such from then on by `plan`, `why`, `runs` and `show`, until the stage runs again (`run --force=STAGE`).
#[derive(clap::Args)]
pub(crate) struct AcceptArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stages, or members of their matrices
    #[arg(required = true, add = super::completions::stages())]
    stages: Vec<String>,
    /// Why the result is still valid
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

pub(crate) fn accept(ui: &mut Ui, cache: Option<&Path>, args: &AcceptArgs) -> Result<u8, CommandError> {
    let pipeline = args.pipeline.load(ui)?;
    let mut store = make_store(cache, &pipeline.root)?;
    let named = select(
        &pipeline,
        &Request {
            stages: args.stages.clone(),
            only: true,
            ..Request::default()
        },
    )?;
    // What is found to be there stays there until it is the result of the new key, too.
    let _hold = store.hold()?;
    let needed = Request {
        stages: args.stages.clone(),
        ..Request::default()
    };
    let needed = select(&pipeline, &needed)?;
    let observed = observe(&pipeline, &needed, &mut store, &mut |event| ui.reading(event))?;
    // One after the other: what is accepted upstream settles what a stage further down has for inputs.
    for id in pipeline.order().into_iter().filter(|id| named.includes(*id)) {
        let stage = pipeline.stage(id);
        let planned = planned(&pipeline, stage, &needed, &mut store, &observed)?;
        match planned.decision.state {
            State::Cached | State::Restore => ui.status(&format!("`{}` is up to date as it is", stage.name)),
            _ => {
                let record = accepted(&pipeline, stage, planned, &mut store, &args.reason)?;
                let trees = observed[stage.id.0].as_ref().map_or(&[][..], |seen| seen.large_trees());
                store.keep_files(&record.0.key, trees)?;
                commit(&pipeline, stage, &mut store, record)?;
                ui.status(&format!("`{}` is up to date from now on: {}", stage.name, args.reason));
            }
        }
    }
    Ok(0)
}

/// What to type for a stage to run.
fn run_command(pipeline: &Pipeline, stage: &str) -> String {
    let path = pipeline.path.to_string_lossy();
    format!("dynvis run {} {}", shell_word(&path), shell_word(stage))
}

fn planned(
    pipeline: &Pipeline,
    stage: &Stage,
    needed: &Selection,
    store: &mut Store,
    observed: &[Option<Observed>],
) -> Result<Planned, CommandError> {
    let mut world = StoreWorld {
        store,
        pipeline: &pipeline.name,
        observed,
    };
    plan(pipeline, needed, &mut world)
        .into_iter()
        .find(|planned| planned.id == stage.id)
        .ok_or_else(|| CommandError::user(format!("`{}` is not in the plan", stage.name)))
}

/// The stage's present result under the key that it has now.
fn accepted(
    pipeline: &Pipeline,
    stage: &Stage,
    planned: Planned,
    store: &mut Store,
    reason: &str,
) -> Result<(ResultRecord, serde_json::Value), CommandError> {
    let name = &stage.name;
    let Some(present) = store.current(&pipeline.name, name).cloned() else {
        return Err(CommandError::hinted(
            format!("`{name}` has no result that could be accepted"),
            format!("`{}` computes one", run_command(pipeline, name)),
        ));
    };
    let (Some(key), Some(description)) = (planned.decision.key, planned.decision.description) else {
        let reasons: Vec<String> = planned.decision.reasons.iter().map(Reason::to_string).collect();
        return Err(CommandError::hinted(
            format!(
                "cannot accept `{name}`, since its inputs are not known yet: {}",
                reasons.join("; ")
            ),
            "run or accept what is upstream of it first",
        ));
    };
    let unusable = |why: String| {
        let hint = format!("`{}` computes it", run_command(pipeline, name));
        CommandError::hinted(format!("cannot accept the result of `{name}`: {why}"), hint)
    };
    let published = |slot: &str| stage.kind().published_output(slot).to_owned();
    match store.health(&present) {
        Health::Intact => {}
        Health::Missing { slot } => return Err(unusable(format!("its output `{}` is missing", published(&slot)))),
        Health::Damaged { slot } => return Err(unusable(format!("its output `{}` is damaged", published(&slot)))),
    }
    if let Some(broken) = store.broken_condition(&present, &stage.ensure) {
        return Err(unusable(
            Reason::ConditionBroken(broken.published(stage.kind())).to_string(),
        ));
    }
    let Some(result) = store.result(&present).cloned() else {
        return Err(unusable("its record is lost".into()));
    };
    let has = |output: &dynvis_runner::kind::Output| {
        let stored = result.output(&output.slot);
        stored.is_some_and(|stored| stored.artifact == output.artifact)
    };
    if stage.outputs.len() != result.outputs.len() || !stage.outputs.iter().all(has) {
        return Err(unusable("it declares other outputs now".into()));
    }
    let from = result.accepted.map_or(present, |accepted| accepted.from);
    let record = ResultRecord {
        key,
        ensured: stage.ensure.clone(),
        accepted: Some(Acceptance {
            reason: reason.to_owned(),
            from,
        }),
        finished_at: jiff::Timestamp::now().to_string(),
        pulled: None,
        ..result
    };
    Ok((record, description))
}

fn commit(
    pipeline: &Pipeline,
    stage: &Stage,
    store: &mut Store,
    (record, description): (ResultRecord, serde_json::Value),
) -> Result<(), CommandError> {
    let Some(_lock) = store.try_lock(&record.key)? else {
        let message = format!("a run computes `{}` at this moment", stage.name);
        return Err(CommandError::hinted(message, "wait for it, or stop it"));
    };
    let key = record.key.clone();
    store.keep_description(&key, &description)?;
    let current = store.current_entry(&pipeline.name, &stage.name, &key);
    store.commit_all(&[JournalEntry::Result(record), current])?;
    Ok(())
}
