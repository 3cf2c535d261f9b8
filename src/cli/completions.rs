//! `dynvis completions`, and what stands where a shell asks for the rest of a word.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _};
use clap_complete::env::{CompleteEnv, Shells};

use super::error::CommandError;
use super::tables::tables_of;
use super::ui::Ui;
use super::wording::outcomes;
use super::{Arguments, open_store, project_here};
use dynvis_runner::pipeline::{LoadOptions, load};
use dynvis_runner::store::{RunRecord, Store};

/// The variable by which a shell asks.
const VARIABLE: &str = "DYNVIS_COMPLETE";
/// Runs that are offered: those that anybody remembers.
const RUNS: usize = 30;

/// Print the script that makes a shell complete commands, stages, tables and runs
///
/// For bash, put `source <(dynvis completions bash)` into ~/.bashrc; for zsh, the same with zsh into ~/.zshrc; for
/// fish, `dynvis completions fish | source` into ~/.config/fish/config.fish.
#[derive(clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Shell that the script is for
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

pub(crate) fn completions(ui: &mut Ui, args: &CompletionsArgs) -> Result<u8, CommandError> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(&args.shell)
        .ok_or_else(|| CommandError::user(format!("no completions for `{}`", args.shell)))?;
    // As it was called, so that a shell which knows it by name goes on to look it up.
    let program = PathBuf::from(std::env::args_os().next().unwrap_or_else(|| "dynvis".into()));
    let program = match program.components().count() {
        0 | 1 => program,
        _ => std::path::absolute(&program).unwrap_or(program),
    };
    if args.shell == "bash" {
        let script = include_str!("completions.bash").replace("VARIABLE", VARIABLE);
        let script = script.replace("PROGRAM", &super::wording::shell_word(&program.to_string_lossy()));
        ui.out(&script)?;
        return Ok(0);
    }
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "dynvis", "dynvis", &program.to_string_lossy(), &mut script)
        .map_err(|source| CommandError::Io {
            action: "cannot write the script".into(),
            source,
        })?;
    ui.out_bytes(&script)?;
    Ok(0)
}

/// Answers a shell that asks. False if none does: then this is a call like any other.
pub(super) fn answer() -> Result<bool, clap::Error> {
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(Arguments::command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), here.as_deref())
}

/// Completes stages of the pipeline that stands on the line.
pub(super) fn stages() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = pipeline_on(&words()).map(|pipeline| {
            let mut names: Vec<String> = Vec::new();
            for stage in &pipeline.stages {
                names.extend((names.last() != Some(&stage.family)).then(|| stage.family.clone()));
                names.push(stage.name.clone());
            }
            names.sort();
            names.dedup();
            names
        });
        starting_with(
            current,
            names.unwrap_or_default().into_iter().map(CompletionCandidate::new),
        )
    })
}

/// Completes presets.
pub(super) fn presets() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = dynvis_runner::pipeline::presets(&project_here(), super::registry());
        let names = names.into_iter().map(|preset| CompletionCandidate::new(preset.name));
        starting_with(current, names)
    })
}

/// Completes data sets.
pub(super) fn data_sets() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| starting_with(current, super::data::candidates()))
}

/// Completes runs.
pub(super) fn runs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| starting_with(current, known_runs().into_iter()))
}

/// Completes runs and files.
pub(super) fn runs_and_files() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut found = starting_with(current, known_runs().into_iter());
        found.extend(PathCompleter::any().complete(current));
        found
    })
}

/// Completes stages of the run that stands on the line.
pub(super) fn stages_of_run() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = run_on(&words()).map(|run| run.stages.into_iter().map(|s| s.name).collect());
        let names: Vec<String> = names.unwrap_or_default();
        starting_with(current, names.into_iter().map(CompletionCandidate::new))
    })
}

/// Completes tables of the run that stands on the line.
pub(super) fn tables_of_run() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = run_on(&words()).map(|run| tables_of(&run).iter().map(super::tables::StageOutput::name).collect());
        let names: Vec<String> = names.unwrap_or_default();
        starting_with(current, names.into_iter().map(CompletionCandidate::new))
    })
}

fn starting_with(current: &OsStr, candidates: impl Iterator<Item = CompletionCandidate>) -> Vec<CompletionCandidate> {
    let start = current.to_string_lossy();
    candidates
        .filter(|c| c.get_value().to_string_lossy().starts_with(start.as_ref()))
        .collect()
}

/// The line that is completed, without the program's name.
fn words() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(2).collect()
}

fn pipeline_on(words: &[OsString]) -> Option<dynvis_runner::pipeline::Pipeline> {
    let is_pipeline = |path: &&OsString| {
        let path = Path::new(path);
        path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file()
    };
    let path = words.iter().find(is_pipeline)?;
    load(
        Path::new(path),
        &LoadOptions {
            registry: super::registry(),
            overrides: Vec::new(),
        },
    )
    .result
    .ok()
}

fn store_on(words: &[OsString]) -> Option<Store> {
    let position = words.iter().position(|word| word == "--cache");
    let typed = position.and_then(|at| words.get(at + 1)).map(PathBuf::from);
    let cache = typed.or_else(|| std::env::var_os("DYNVIS_CACHE").map(PathBuf::from));
    let folder = cache.unwrap_or_else(|| project_here().join("cache"));
    // Asking must not make one.
    folder
        .join("format")
        .is_file()
        .then(|| open_store(Some(&folder), &project_here()).ok())
        .flatten()
}

fn known_runs() -> Vec<CompletionCandidate> {
    let Some(store) = store_on(&words()) else {
        return Vec::new();
    };
    let folders = store.run_folders().unwrap_or_default();
    let last = folders.iter().rev().take(RUNS).enumerate();
    last.map(|(back, (id, folder))| {
        let about = store
            .read_run(folder)
            .map_or_else(|_| String::new(), |run| about(&run, back));
        CompletionCandidate::new(id)
            .help((!about.is_empty()).then(|| about.into()))
            .display_order(Some(back))
    })
    .collect()
}

fn about(run: &RunRecord, back: usize) -> String {
    let reference = if back == 0 { "@".to_owned() } else { format!("@-{back}") };
    format!("{reference}, {}: {}", run.pipeline, outcomes(run))
}

fn run_on(words: &[OsString]) -> Option<RunRecord> {
    let store = store_on(words)?;
    let mut names = words.iter().filter_map(|word| word.to_str());
    names.find_map(|word| Some(store.find_run(word).ok()?.1))
}
