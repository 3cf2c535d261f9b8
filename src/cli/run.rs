//! `dynvis run`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CommandError;
use super::executors::Executor;
use super::harmless::line;
use super::progress;
use super::remote::RemoteArgs;
use super::tables::{headline, name_of, read_tables, tables_of};
use super::takes::{Asked, Takes};
use super::ui::Ui;
use super::wording::{duration, first_names, outcomes, shell_word};
use super::{PipelineArgs, SelectArgs, exit, make_store, open_store, project_here};
use crate::remote::Shared;
use dynvis_runner::fail::{self, FailAt};
use dynvis_runner::kind::Device;
use dynvis_runner::pipeline::Pipeline;
use dynvis_runner::plan::{Selection, select};
use dynvis_runner::run::{Failure, Gpu, RunOptions, StoreWorld, extents, log_path, observe};
use dynvis_runner::store::{RunRecord, RunStatus, SharedElsewhere, StageOutcome, Store};
use dynvis_runner::table::{Format, RenderOptions, render};

/// Run what is needed to bring a pipeline up to date
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Stages that run side by side at most [default: one for each processor thread; with another `--executor` than `local` jobs that
    /// wait or run at once, 100]
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Where to train: `auto`, `cpu`, `cuda`, or `cuda:1` for the second GPU
    #[arg(long, default_value_t = Device::Auto)]
    device: Device,
    /// Where stages run: beside this command, or as jobs of a Slurm cluster
    #[arg(long, value_enum, default_value_t = Executor::Local)]
    executor: Executor,
    /// How jobs are asked for [default: `slurm.yaml` or `queue.yaml` beside the pipeline, in the project, or in `dynvis` of the user's
    /// configuration]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    profile: Option<PathBuf>,
    /// Submit all of it at once, each job after those of its producers, and end
    #[arg(long)]
    chain: bool,
    /// Go on with stages that do not depend on a failed one
    #[arg(short, long)]
    keep_going: bool,
    /// Show the plan and what it takes on disk and in time, and stop
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    remote: RemoteArgs,
    #[arg(long, value_enum, default_value_t = progress::Style::Auto)]
    progress: progress::Style,
    /// For tests: where the process dies, or the disk is full
    #[arg(long, hide = true, value_name = "STEP[:N][=full]")]
    fail_at: Option<FailAt>,
    /// For tests: GPUs of so many GiB, in place of this machine's
    #[arg(long, hide = true, value_name = "GIB", value_delimiter = ',')]
    fake_gpus: Option<Vec<u32>>,
}

pub(crate) fn run(ui: &mut Ui, cache: Option<&Path>, args: &RunArgs) -> Result<u8, CommandError> {
    if let Some(at) = args.fail_at {
        fail::plan(at);
    }
    if args.executor == Executor::Local {
        args.device.require(super::registry().gpus())?;
    }
    let pipeline = args.pipeline.load(ui)?;
    let queue = args.executor.queue(args.profile.as_deref(), &pipeline, args.jobs)?;
    let selection = select(&pipeline, &args.select.request())?;
    if args.dry_run {
        return dry_run(ui, cache, args, &pipeline, &selection);
    }
    let mut store = make_store(cache, &pipeline.root)?;
    if args.chain {
        let profile = super::executors::profile_of_chain(queue)?;
        // Nodes often reach nobody: what can be had by now is fetched here.
        if let Some(shared) = args.remote.open(&pipeline, &store)? {
            super::pull::before_chain(ui, &mut store, &pipeline, &selection, &shared);
        }
        let (device, typed) = (args.device, &args.pipeline);
        return super::executors::chain(ui, &mut store, &pipeline, &selection, profile, device, typed);
    }
    let remote = args.remote.open(&pipeline, &store)?.map(Arc::new);
    let threads = threads();
    let options = RunOptions {
        registry: super::registry(),
        // With a queue it is that which `--jobs` bounds.
        jobs: args.jobs.filter(|_| queue.is_none()).map_or(threads, usize::from),
        queue,
        threads,
        device: args.device,
        gpus: args.fake_gpus.as_deref().map(fake_gpus),
        keep_going: args.keep_going,
        remote: remote.clone().map(|remote| remote as SharedElsewhere),
        arguments: std::env::args().skip(1).collect(),
    };
    let mut reporter = progress::reporter(ui, args.progress, &pipeline, &options);
    let result = dynvis_runner::run::run(&pipeline, &selection, &mut store, &options, reporter.as_mut());
    let failures = reporter.failures();
    drop(reporter);
    for (stage, failure) in &failures {
        report_failure(ui, &store, result.as_ref().ok(), stage, failure);
    }
    if !failures.is_empty() {
        report_full_disk(ui, &store);
    }
    let record = result?;
    if let Some(remote) = remote.filter(|_| pipeline.cache.as_ref().is_some_and(|cache| cache.push)) {
        push(ui, &mut store, &remote, &record);
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

/// Sends what the run has computed. That this does not succeed is no fault of the run's.
fn push(ui: &mut Ui, store: &mut Store, remote: &Shared, run: &RunRecord) {
    let ran = run.stages.iter().filter(|stage| stage.outcome == StageOutcome::Ran);
    let keys: Vec<_> = ran
        .filter_map(|stage| Some((stage.name.clone(), stage.key.clone()?)))
        .collect();
    if keys.is_empty() {
        return;
    }
    ui.status(&format!("sends {} results to {}", keys.len(), remote.url()));
    let sent = super::push::send(ui, store, remote, &keys, false);
    match sent.and_then(|sent| Ok((sent, remote.put_run(run)?))) {
        Ok((sent, ())) => ui.status(&super::push::said(&sent, &format!("of run {}", run.id), remote.url())),
        Err(error) => ui.status(&format!(
            "{} results were not sent: {error}; `dynvis push {}` sends them later",
            ui.paint("warning:", "33"),
            run.id
        )),
    }
}

/// Processor threads for stages: in a job of a cluster those of the job.
fn threads() -> usize {
    let of_job = std::env::var("SLURM_CPUS_ON_NODE")
        .ok()
        .filter(|_| std::env::var_os("SLURM_JOB_ID").is_some());
    let here = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    of_job
        .and_then(|text| text.parse().ok())
        .filter(|threads| *threads > 0)
        .unwrap_or_else(here)
}

/// The plan, and what the stages take that would run.
fn dry_run(
    ui: &mut Ui,
    cache: Option<&Path>,
    args: &RunArgs,
    pipeline: &Pipeline,
    selection: &Selection,
) -> Result<u8, CommandError> {
    let mut store = open_store(cache, &pipeline.root)?;
    let observed = observe(pipeline, selection, &mut store, &mut |event| ui.reading(event))?;
    let mut world = StoreWorld {
        store: &mut store,
        pipeline: &pipeline.name,
        observed: &observed,
    };
    let planned = dynvis_runner::plan::plan(pipeline, selection, &mut world);
    let is_json = args.progress == progress::Style::Json;
    if !is_json {
        ui.out(&super::plan::text(ui, pipeline, &planned, false))?;
    }
    let extents = extents(pipeline, &planned);
    // `benchmark` looks in the project where the user stands.
    let elsewhere = (project_here() != pipeline.root).then(|| store.root());
    let asked = Asked {
        device: args.device,
        cache: cache.or(elsewhere),
    };
    let takes = Takes::of(pipeline, &planned, &extents, &store, &asked);
    if is_json {
        let mut document = super::plan::document(pipeline, &planned);
        document["takes"] = takes.json();
        ui.out(&format!("{document}\n"))?;
    } else if !takes.is_empty() {
        ui.out(&takes.text(ui.width()))?;
    }
    if let Some(lacking) = takes.lacks_space(store.root()) {
        ui.status(&format!("{} {lacking}", ui.paint("warning:", "33")));
    }
    Ok(0)
}

fn fake_gpus(gib: &[u32]) -> Vec<Gpu> {
    let gpu = |(ordinal, gib): (usize, &u32)| Gpu {
        id: ordinal.to_string(),
        ordinal,
        memory: u64::from(*gib) << 30,
    };
    gib.iter().enumerate().map(gpu).collect()
}

/// Programs do not always say that this was in their way, and what they say is lost with it.
fn report_full_disk(ui: &mut Ui, store: &Store) {
    const LITTLE: u64 = 1 << 20;
    if let Ok(stat) = rustix::fs::statvfs(store.root()) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < LITTLE {
            ui.status(&format!(
                "{} no space left on device: {} KiB are free where the cache is, {}",
                ui.paint("hint:", "36"),
                free >> 10,
                store.root().display()
            ));
        }
    }
}

/// `record` is there unless the run could not come to its end.
fn report_failure(ui: &mut Ui, store: &Store, record: Option<&RunRecord>, stage: &str, failure: &Failure) {
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
    if let Some(record) = record
        && let Ok((folder, _)) = store.find_run(record.id.as_str())
    {
        let log = log_path(&folder, stage);
        if let Ok(bytes) = dynvis_base::files::read(&log) {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let lines = without_error(&lines, failure);
            for text in &lines[lines.len().saturating_sub(8)..] {
                ui.status(&format!("  | {}", line(text)));
            }
        }
        ui.status(&format!("  whole log: dynvis log {} {}", record.id, shell_word(stage)));
    }
}

/// The last lines of a log without the error that the stage ended with, which is said already.
fn without_error<'a>(lines: &'a [&'a str], failure: &Failure) -> &'a [&'a str] {
    let Failure::Stage(error) = failure else {
        return lines;
    };
    let said = format!("error: {error}");
    let said: Vec<&str> = said.lines().collect();
    let is_rest = |line: &&str| line.starts_with("  because: ") || line.starts_with("hint: ");
    let is_error = |start: &usize| {
        let end = &lines[*start..];
        end.starts_with(&said) && end[said.len()..].iter().all(is_rest)
    };
    let start = (0..lines.len()).rev().find(is_error);
    start.map_or(lines, |start| &lines[..start])
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
        ui.status("finished stages are kept; run again to continue");
        return Ok(());
    }
    let tables = tables_of(run);
    if tables.is_empty() {
        return Ok(());
    }
    let mut families: Vec<String> = Vec::new();
    for table in &tables {
        let name = format!("{}/{}", table.stage.family, table.output());
        if !families.contains(&name) {
            families.push(name);
        }
    }
    let named = first_names(families.iter().map(String::as_str));
    ui.status(&format!("tables: {named}"));
    ui.status(
        "        `dynvis show @` lists them, `dynvis show @ STAGE/TABLE` shows one, `dynvis diff @-1 @` compares \
        with the run before",
    );
    let Some(found) = headline(run) else {
        return Ok(());
    };
    let table = read_tables(&found, store)?;
    match found.as_slice() {
        [one] => {
            if let Some(path) = one.path(store) {
                let here = std::env::current_dir().unwrap_or_default();
                let shown = path.strip_prefix(&here).unwrap_or(&path);
                ui.status(&format!("\n{} ({})", one.name(), shown.display()));
            }
        }
        several => ui.status(&format!("\n{}", name_of(several))),
    }
    let options = RenderOptions {
        max_rows: Some(40),
        width: ui.width(),
        color: ui.colour_out(),
    };
    ui.out(&render(&table, Format::Text, &options)?)
}
