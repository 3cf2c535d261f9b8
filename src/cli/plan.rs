//! `dynvis plan`.

use std::path::Path;

use dynvis_runner::pipeline::Pipeline;
use dynvis_runner::plan::{Planned, Reason, State, select};
use dynvis_runner::run::{StoreWorld, observe};
use dynvis_runner::store::Store;
use serde_json::{Value as Json, json};

use super::error::CommandError;
use super::remote::RemoteArgs;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::{duration, first_names, missing_lines};
use super::{PipelineArgs, SelectArgs, exit, open_store};

/// Show what `run` would do, and why
#[derive(clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// List every member of a matrix
    #[arg(long)]
    members: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Exit with 10 if something would run
    #[arg(long)]
    exit_code: bool,
}

pub(crate) fn plan(ui: &mut Ui, cache: Option<&Path>, args: &PlanArgs) -> Result<u8, CommandError> {
    let pipeline = args.pipeline.load(ui)?;
    let mut store = open_store(cache, &pipeline.root)?;
    let selection = select(&pipeline, &args.select.request())?;
    let observed = observe(&pipeline, &selection, &mut store, &mut |event| ui.reading(event))?;
    let mut world = StoreWorld {
        store: &mut store,
        pipeline: &pipeline.name,
        observed: &observed,
    };
    let planned = dynvis_runner::plan::plan(&pipeline, &selection, &mut world);
    if args.json {
        let document = document(&pipeline, &planned);
        ui.out(&format!("{document:#}\n"))?;
    } else {
        ui.out(&text(ui, &pipeline, &planned, args.members))?;
        if let Some(line) = of_remote(&args.remote, &pipeline, &planned, &store)? {
            ui.status(&line);
        }
    }
    let pending = planned
        .iter()
        .any(|p| !matches!(p.decision.state, State::Cached | State::Excluded));
    Ok(if args.exit_code && pending { exit::PENDING } else { 0 })
}

/// Which of the stages that would run the remote has results of, as far as their keys are known. Asked once, and not for
/// long.
fn of_remote(
    remote: &RemoteArgs,
    pipeline: &Pipeline,
    planned: &[Planned],
    store: &Store,
) -> Result<Option<String>, CommandError> {
    let Some(remote) = remote.open_in_passing(pipeline, store)? else {
        return Ok(None);
    };
    let run = planned.iter().filter(|p| p.decision.state == State::Run);
    let run = run.filter(|p| !p.decision.reasons.contains(&Reason::Forced));
    let known: Vec<_> = run
        .filter_map(|p| Some((pipeline.stage(p.id).name.as_str(), p.decision.key.clone()?)))
        .take(ASKED)
        .collect();
    if known.is_empty() {
        return Ok(None);
    }
    let keys: Vec<_> = known.iter().map(|(_, key)| key.clone()).collect();
    Ok(Some(match remote.has(&keys) {
        Ok(has) => {
            let found: Vec<&str> = known
                .iter()
                .zip(has)
                .filter(|(_, has)| *has)
                .map(|((name, _), _)| *name)
                .collect();
            match found.is_empty() {
                true => format!("{} has no result of these", remote.url()),
                false => format!("would be pulled from {}: {}", remote.url(), first_names(found)),
            }
        }
        Err(error) => format!("not known what could be pulled: {error}"),
    }))
}

/// Keys that a plan asks a remote for.
const ASKED: usize = 200;

/// The plan for programs.
pub(crate) fn document(pipeline: &Pipeline, planned: &[Planned]) -> Json {
    let stages: Vec<_> = planned
        .iter()
        .map(|p| {
            let reasons: Vec<_> = p.decision.reasons.iter().map(Reason::to_json).collect();
            json!({
                "stage": pipeline.stage(p.id).name,
                "kind": pipeline.stage(p.id).kind().name(),
                "state": p.decision.state,
                "reasons": reasons,
                "key": p.decision.key,
                "expected_seconds": p.seconds,
            })
        })
        .collect();
    json!({
        "version": 1,
        "pipeline": pipeline.name,
        "expected_seconds": expected_seconds(planned),
        "stages": stages,
    })
}

/// Members of a matrix in one state are drawn as one line from this number on.
pub(crate) const COLLAPSE_FROM: usize = 5;

/// Stages of one family that are in the same state.
struct Line<'a> {
    family: &'a str,
    state: State,
    members: Vec<&'a Planned>,
}

/// The plan as a table, then what is missing, then a summary line.
pub(crate) fn text(ui: &Ui, pipeline: &Pipeline, planned: &[Planned], all_members: bool) -> String {
    let mut lines: Vec<Line> = Vec::new();
    for p in planned {
        let family = pipeline.stage(p.id).family.as_str();
        let state = p.decision.state;
        match lines.iter_mut().find(|l| l.family == family && l.state == state) {
            Some(line) => line.members.push(p),
            None => lines.push(Line {
                family,
                state,
                members: vec![p],
            }),
        }
    }
    let mut rows = Vec::new();
    for line in &lines {
        if line.members.len() < COLLAPSE_FROM || all_members {
            for p in &line.members {
                rows.push(row(&pipeline.stage(p.id).name, &[p]));
            }
        } else {
            let name = format!("{} x{}", line.family, line.members.len());
            rows.push(row(&name, &line.members));
        }
    }
    let mut text = simple_table(&["state", "stage", "last took", "reason"], rows, ui.width());
    text += &missing_text(pipeline, planned);
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
    let known = expected_seconds(planned);
    text += &format!("\n{} stages: {}", planned.len(), parts.join(", "));
    if known > 0.0 {
        text += &format!("; about {} of work by earlier runs", duration(known));
    }
    text + "\n"
}

/// Work of all stages that will or may run, as far as earlier executions tell.
fn expected_seconds(planned: &[Planned]) -> f64 {
    planned
        .iter()
        .filter(|p| matches!(p.decision.state, State::Run | State::Maybe))
        .filter_map(|p| p.seconds)
        .fold(0.0, |sum, seconds| sum + seconds)
}

fn row(name: &str, members: &[&Planned]) -> Vec<String> {
    let state = members[0].decision.state;
    let reasons: Vec<String> = members[0].decision.reasons.iter().map(Reason::to_string).collect();
    let mut reason = match reasons.as_slice() {
        [a, b, rest @ ..] if !rest.is_empty() => format!("{a}; {b}; and {} more", rest.len()),
        few => few.join("; "),
    };
    if members
        .iter()
        .any(|m| m.decision.reasons != members[0].decision.reasons)
    {
        reason += " (others likewise)";
    }
    let known: Vec<f64> = members.iter().filter_map(|m| m.seconds).collect();
    let time = match state {
        State::Run | State::Maybe if !known.is_empty() => duration(known.iter().sum()),
        _ => String::new(),
    };
    vec![state.name().to_owned(), name.to_owned(), time, reason]
}

/// What is missing, where to put it, and which stages wait for it.
pub(crate) fn missing_text(pipeline: &Pipeline, planned: &[Planned]) -> String {
    let mut text = String::new();
    for missing in dynvis_runner::run::missing_data(pipeline, planned) {
        text += "\n";
        text += &missing_lines(&missing).join("\n");
        text += "\n";
    }
    text
}
