//! `dynvis run`.

use std::path::Path;

use super::error::CommandError;
use super::progress;
use super::tables::{headline, tables_of};
use super::ui::Ui;
use super::wording::{duration, outcomes, reading};
use super::{PipelineArgs, SelectArgs, exit, open_store};
use crate::plan::select;
use crate::run::{Device, Failure, RunOptions, log_path};
use crate::store::{RunRecord, RunStatus, StageOutcome, Store};
use crate::table::{Format, RenderOptions, render};

/// Run what is needed to bring a pipeline up to date
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Stages that run side by side at most [default: one for each processor thread]
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Where to train: `auto`, `cpu`, `cuda`, or `cuda:1` for the second GPU
    #[arg(long, default_value_t = Device::Auto)]
    device: Device,
    /// Go on with stages that do not depend on a failed one
    #[arg(short, long)]
    keep_going: bool,
    /// Show the plan and stop
    #[arg(long)]
    dry_run: bool,
    #[arg(long, value_enum, default_value_t = progress::Style::Auto)]
    progress: progress::Style,
}

pub(crate) fn run(ui: &mut Ui, cache: Option<&Path>, args: &RunArgs) -> Result<u8, CommandError> {
    let device = match args.device {
        Device::Auto => Device::Auto,
        asked => asked.resolve()?,
    };
    let pipeline = args.pipeline.load()?;
    let selection = select(&pipeline, &args.select.request())?;
    let mut store = open_store(cache, &pipeline.root)?;
    if args.dry_run {
        let observed = crate::run::observe(&pipeline, &mut store, &mut |s, f, b| ui.status(&reading(s, f, b)))?;
        let mut world = crate::run::StoreWorld {
            store: &mut store,
            pipeline: &pipeline.name,
            observed: &observed,
        };
        let planned = crate::plan::plan(&pipeline, &selection, &mut world);
        ui.out(&super::plan::text(ui, &pipeline, &planned, false))?;
        return Ok(0);
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = RunOptions {
        jobs: args.jobs.map_or(threads, usize::from),
        threads,
        device,
        keep_going: args.keep_going,
        arguments: std::env::args().skip(1).collect(),
    };
    let mut reporter = progress::reporter(ui, args.progress, &pipeline);
    let record = crate::run::run(&pipeline, &selection, &mut store, &options, reporter.as_mut())?;
    let failures = reporter.failures();
    drop(reporter);
    for (stage, failure) in &failures {
        report_failure(ui, &store, &record, stage, failure);
    }
    summary(ui, &store, &record)?;
    Ok(match record.status {
        RunStatus::Interrupted => exit::INTERRUPTED,
        RunStatus::Failed if failures.iter().any(|(_, f)| matches!(f, Failure::InputChanged { .. })) => {
            exit::INPUT_CHANGED
        }
        RunStatus::Failed => exit::STAGE_FAILED,
        _ => 0,
    })
}

fn report_failure(ui: &mut Ui, store: &Store, record: &RunRecord, stage: &str, failure: &Failure) {
    ui.status("");
    ui.status(&format!(
        "{} stage `{stage}` failed: {failure}",
        ui.paint("error:", "1;31")
    ));
    if let Failure::Stage(error) = failure {
        for cause in &error.causes {
            ui.status(&format!("  because: {cause}"));
        }
        if let Some(hint) = &error.hint {
            ui.status(&format!("{} {hint}", ui.paint("hint:", "36")));
        }
    }
    if let Ok((folder, _)) = store.find_run(record.id.as_str()) {
        let log = log_path(&folder, stage);
        if let Ok(text) = fs_err::read_to_string(&log) {
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(8)..] {
                ui.status(&format!("  | {line}"));
            }
        }
        ui.status(&format!("  whole log: dynvis log {} {stage}", record.id));
    }
}

/// What ran, where the tables are, and the headline table itself.
fn summary(ui: &mut Ui, store: &Store, run: &RunRecord) -> Result<(), CommandError> {
    let selected = run
        .stages
        .iter()
        .filter(|s| s.outcome != StageOutcome::Excluded)
        .count();
    ui.status("");
    ui.status(&format!(
        "run {} of {}: {selected} stages, {} in {}",
        run.id,
        run.pipeline,
        outcomes(run),
        duration(run.seconds)
    ));
    if run.status != RunStatus::Done {
        ui.status("what was computed is kept; run again to go on");
        return Ok(());
    }
    let tables = tables_of(run);
    if tables.is_empty() {
        return Ok(());
    }
    let mut families: Vec<String> = Vec::new();
    for table in &tables {
        let name = format!("{}/{}", table.stage.family, table.slot);
        if !families.contains(&name) {
            families.push(name);
        }
    }
    ui.status(&format!("tables: {}", families.join(", ")));
    ui.status("        `dynvis show @ STAGE/TABLE` shows one, `dynvis diff @-1 @` compares with the run before");
    let Some(found) = headline(run) else {
        return Ok(());
    };
    let table = found.read(store)?;
    if let Some(path) = found.path(store) {
        let here = std::env::current_dir().unwrap_or_default();
        let shown = path.strip_prefix(&here).unwrap_or(&path);
        ui.status(&format!("\n{} ({})", found.name(), shown.display()));
    }
    let options = RenderOptions {
        max_rows: Some(40),
        width: ui.width(),
        color: ui.colour_out(),
    };
    ui.out(&render(&table, Format::Text, &options)?)
}
