//! The command line: one file a subcommand, [`error`] for everything that a user is told when something is wrong,
//! [`ui`] as the only place that prints.

mod accept;
mod ask;
mod benchmark;
mod benchmarks;
mod bundle;
mod causes;
mod check;
mod completions;
mod dag;
mod data;
mod diff;
mod doctor;
mod error;
mod executors;
mod export;
mod export_all;
mod files;
mod forecast;
mod gc;
mod gpu;
mod init;
mod jobs;
mod kinds;
mod log;
mod manual;
mod part;
mod plan;
mod presets;
mod progress;
mod pull;
mod push;
mod remote;
mod report;
mod run;
mod runs;
mod schema;
mod selftest;
mod show;
mod snippet;
mod stages;
mod tables;
mod takes;
mod trace;
mod ui;
mod verify;
mod watch;
mod why;
mod wording;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand};

use crate::harmless;
use dynvis_runner::kind::Registry;
use dynvis_runner::pipeline::{LoadOptions, Pipeline, load};
use dynvis_runner::plan::Request;
use dynvis_runner::store::{Store, StoreError};
use error::CommandError;
use ui::Ui;

/// Convolutional recurrent networks for vision: training, noise and dynamics experiments as cached pipelines
#[derive(Parser)]
#[command(name = "dynvis", version, disable_help_subcommand = true)]
struct Arguments {
    /// Where results are kept [default: `cache` in the project's folder]
    #[arg(long, global = true, env = "DYNVIS_CACHE", value_name = "FOLDER")]
    cache: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::InitArgs),
    Run(run::RunArgs),
    Watch(watch::WatchArgs),
    Plan(plan::PlanArgs),
    Why(why::WhyArgs),
    Accept(accept::AcceptArgs),
    Check(check::CheckArgs),
    Show(show::ShowArgs),
    Diff(diff::DiffArgs),
    Report(report::ReportArgs),
    Export(export::ExportArgs),
    Push(push::PushArgs),
    Pull(pull::PullArgs),
    Bundle(bundle::BundleArgs),
    Open(bundle::OpenArgs),
    Runs(runs::RunsArgs),
    Log(log::LogArgs),
    Trace(trace::TraceArgs),
    Jobs(jobs::JobsArgs),
    Gc(gc::GcArgs),
    Pin(gc::PinArgs),
    Verify(verify::VerifyArgs),
    Dag(dag::DagArgs),
    Stages(stages::StagesArgs),
    Presets(presets::PresetsArgs),
    Data(data::DataArgs),
    Schema(schema::SchemaArgs),
    Doctor(doctor::DoctorArgs),
    Selftest(selftest::SelftestArgs),
    Benchmark(benchmark::BenchmarkArgs),
    Completions(completions::CompletionsArgs),
    Man(manual::ManArgs),
    #[command(hide = true)]
    Reference(manual::ReferenceArgs),
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
    #[command(hide = true)]
    Job(worker::JobArgs),
    #[command(hide = true)]
    Rank(worker::RankArgs),
    #[command(hide = true)]
    Guard(worker::GuardArgs),
    #[command(hide = true, name = crate::stage::TRY_OUT)]
    TryGpu(gpu::TryArgs),
}

/// Exit codes that scripts may rely on.
pub(crate) mod exit {
    pub(crate) const DIFFERENT: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const PENDING: u8 = 10;
    pub(crate) const STAGE_FAILED: u8 = 100;
    pub(crate) const INPUT_CHANGED: u8 = 101;
    pub(crate) const DAMAGED: u8 = 102;
    pub(crate) use dynvis_runner::run::{INTERRUPTED, PANICKED};
}

/// The stage kinds and presets of this program.
static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// The stage kinds and presets of this program. Completions are asked for by functions without a context, hence a
/// static.
fn registry() -> &'static Registry {
    REGISTRY.get_or_init(crate::kinds)
}

/// As [`dispatch`]; a panic anywhere, in a worker too, ends with a code of its own.
pub(crate) fn main(registry: Registry) -> ExitCode {
    // A second call in one process finds the first one's.
    let _ = REGISTRY.set(registry);
    std::panic::catch_unwind(dispatch).unwrap_or_else(|_| ExitCode::from(exit::PANICKED))
}

/// Parses, dispatches, and turns what comes back into an exit code.
fn dispatch() -> ExitCode {
    match completions::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(exit::USAGE);
        }
    }
    let arguments = Arguments::parse();
    let mut ui = Ui::from_environment();
    let cache = arguments.cache.as_deref();
    let result = match &arguments.command {
        Command::Init(args) => init::init(&mut ui, args),
        Command::Run(args) => run::run(&mut ui, cache, args),
        Command::Watch(args) => watch::watch(&mut ui, cache, args),
        Command::Plan(args) => plan::plan(&mut ui, cache, args),
        Command::Why(args) => why::why(&mut ui, cache, args),
        Command::Accept(args) => accept::accept(&mut ui, cache, args),
        Command::Check(args) => check::check(&mut ui, args),
        Command::Show(args) => show::show(&mut ui, cache, args),
        Command::Diff(args) => diff::diff(&mut ui, cache, args),
        Command::Report(args) => report::report(&mut ui, cache, args),
        Command::Export(args) => export::export(&mut ui, cache, args),
        Command::Push(args) => push::push(&mut ui, cache, args),
        Command::Pull(args) => pull::pull(&mut ui, cache, args),
        Command::Bundle(args) => bundle::bundle(&mut ui, cache, args),
        Command::Open(args) => bundle::open(&mut ui, cache, args),
        Command::Runs(args) => runs::runs(&mut ui, cache, args),
        Command::Log(args) => log::log(&mut ui, cache, args),
        Command::Trace(args) => trace::trace(&mut ui, cache, args),
        Command::Jobs(args) => jobs::jobs(&mut ui, cache, args),
        Command::Gc(args) => gc::gc(&mut ui, cache, args),
        Command::Pin(args) => gc::pin(&mut ui, cache, args),
        Command::Verify(args) => verify::verify(&mut ui, cache, args),
        Command::Completions(args) => completions::completions(&mut ui, args),
        Command::Man(args) => manual::man(&mut ui, args),
        Command::Reference(args) => manual::reference(&mut ui, args),
        Command::Dag(args) => dag::dag(&mut ui, args),
        Command::Stages(args) => stages::stages(&mut ui, args),
        Command::Presets(args) => presets::presets(&mut ui, args),
        Command::Data(args) => data::data(&mut ui, args),
        Command::Schema(args) => schema::schema(&mut ui, args),
        Command::Doctor(args) => doctor::doctor(&mut ui, cache, args),
        Command::Benchmark(args) => benchmark::benchmark(&mut ui, cache, args),
        Command::Selftest(args) => selftest::selftest(&mut ui, args),
        Command::Worker(args) => worker::worker(args),
        Command::Job(args) => worker::job(args),
        Command::Rank(args) => worker::rank(args),
        Command::Guard(args) => worker::guarded(args),
        Command::TryGpu(args) => gpu::try_out(&mut ui, args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(CommandError::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            ui.error(&error);
            ExitCode::from(code)
        }
    }
}

/// A pipeline file and the overrides that go with it.
#[derive(clap::Args, Clone, Debug)]
struct PipelineArgs {
    /// The pipeline's YAML file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pipeline: PathBuf,
    /// Override a parameter (`noise.levels='[0,2]'`), a variable (`vars.data=digits`) or the `seed`; repeatable
    #[arg(short = 'S', long = "set", value_name = "STAGE.PARAM=VALUE")]
    overrides: Vec<String>,
}

impl PipelineArgs {
    /// The resolved pipeline, or all that is wrong with it.
    fn load(&self, ui: &mut Ui) -> Result<Pipeline, CommandError> {
        let loaded = load(
            &self.pipeline,
            &LoadOptions {
                registry: registry(),
                overrides: self.overrides.clone(),
            },
        );
        ui.warn(&loaded.notes, &loaded.sources);
        loaded.result.map_err(|problems| CommandError::Pipeline {
            what: "pipeline",
            problems,
            sources: loaded.sources,
        })
    }
}

/// Which stages, as typed.
#[derive(clap::Args, Clone, Debug, Default)]
struct SelectArgs {
    /// Stages to bring up to date, with all that they need [default: every stage]
    #[arg(add = completions::stages())]
    stages: Vec<String>,
    /// The named stages alone, without what is upstream of them
    #[arg(long, requires = "stages")]
    only: bool,
    /// This stage and everything downstream of it
    #[arg(long, value_name = "STAGE", add = completions::stages())]
    from: Vec<String>,
    /// This stage and everything that it needs
    #[arg(long, value_name = "STAGE", add = completions::stages())]
    until: Vec<String>,
    /// Execute even if up to date: all selected stages, or those named
    #[arg(long, value_name = "STAGE", num_args = 0..=1, require_equals = true, default_missing_value = "",
        add = completions::stages())]
    force: Vec<String>,
    /// Execute what is downstream of the forced stages too
    #[arg(long, requires = "force")]
    force_downstream: bool,
}

impl SelectArgs {
    fn request(&self) -> Request {
        Request {
            stages: self.stages.clone(),
            only: self.only,
            from: self.from.clone(),
            until: self.until.clone(),
            force_all: self.force.iter().any(String::is_empty),
            force: self.force.iter().filter(|f| !f.is_empty()).cloned().collect(),
            force_downstream: self.force_downstream,
        }
    }
}

/// The run of a reference. That `@` passes over damaged records is said.
fn find_run(
    ui: &mut Ui,
    store: &Store,
    reference: &str,
) -> Result<(PathBuf, dynvis_runner::store::RunRecord), CommandError> {
    let (folder, run) = store.find_run(reference)?;
    if reference.starts_with('@') {
        for id in store.unreadable_after(&folder)? {
            ui.status(&format!("skipped run {id}, whose record cannot be read"));
        }
    }
    if let Some(pulled) = &run.pulled {
        ui.status(&format!(
            "run {} was computed on {} and came from {}",
            run.id, pulled.host, pulled.from
        ));
    }
    Ok((folder, run))
}

/// The project that the user stands in.
fn project_here() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    dynvis_runner::pipeline::project_root(&here)
}

/// Opens the cache that belongs to a project, to read it. Asking makes none.
fn open_store(cache: Option<&Path>, root: &Path) -> Result<Store, CommandError> {
    store_by(Store::open_existing, cache, root)
}

/// Opens the cache that belongs to a project, and makes it where there is none.
fn make_store(cache: Option<&Path>, root: &Path) -> Result<Store, CommandError> {
    store_by(Store::open, cache, root)
}

fn store_by(
    open: fn(&Path) -> Result<Store, StoreError>,
    cache: Option<&Path>,
    root: &Path,
) -> Result<Store, CommandError> {
    let folder = cache.map_or_else(|| root.join("cache"), Path::to_owned);
    let mut store = open(&std::path::absolute(&folder).unwrap_or(folder))?;
    store.of_project(root);
    Ok(store)
}
