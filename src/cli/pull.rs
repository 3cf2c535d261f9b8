//! `dynvis pull`: results from a remote, of a pipeline or of a run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dynvis_runner::fail::{self, FailAt};
use dynvis_runner::key::StageKey;
use dynvis_runner::pipeline::Pipeline;
use dynvis_runner::plan::{Reason, Selection, State, plan, select};
use dynvis_runner::run::{StoreWorld, observe};
use dynvis_runner::store::{Elsewhere, Health, Parcel, PullError, Pulled, RunRecord, Store};

use super::error::CommandError;
use super::ui::Ui;
use super::wording::{first_names, shell_word, size};
use super::{PipelineArgs, SelectArgs, make_store, project_here, remote};
use crate::remote::Shared;

/// Fetch results from a remote in place of computing them
///
/// Of a pipeline what `run` would compute, as far as it is there; of a run its record and all its results, for `show`,
/// `diff` and `report`. Every byte is held against its hash before it becomes a result here. A transfer that breaks off
/// goes on where it stopped when the same command is given again.
#[derive(clap::Args)]
pub(crate) struct PullArgs {
    /// A pipeline's YAML file, or the whole id of a run, which `push` prints
    #[arg(value_name = "PIPELINE|RUN", value_hint = clap::ValueHint::FilePath)]
    what: String,
    /// Stages of the pipeline, with all that they need [default: every stage]
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// Override a parameter, a variable or the `seed` of the pipeline, as for `run`; repeatable
    #[arg(short = 'S', long = "set", value_name = "STAGE.PARAM=VALUE")]
    overrides: Vec<String>,
    /// Where from: `s3://BUCKET/PREFIX`, `ssh://HOST/FOLDER` or a folder [default: `cache: { remote: URL }` of the
    /// pipeline]
    #[arg(long, env = "DYNVIS_REMOTE", value_name = "URL")]
    from: Option<String>,
    /// For tests: where the process dies, or the disk is full
    #[arg(long, hide = true, value_name = "STEP[:N][=full]")]
    fail_at: Option<FailAt>,
}

/// How often it is looked whether another process has come to an end with a result.
const LOOK: Duration = Duration::from_millis(200);

/// What is done about a result that another process computes or pulls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Busy {
    Wait,
    Skip,
}

/// What came.
#[derive(Default)]
pub(super) struct Came {
    results: usize,
    bytes: u64,
    there: usize,
    /// Stages whose results are not to be had.
    missing: Vec<String>,
    /// Stages of a run whose results here have other bytes than the run had.
    others: Vec<String>,
}

impl Came {
    pub(super) fn said(&self, from: &str) -> String {
        let mut text = match self.results {
            1 => "pulled 1 result".to_owned(),
            count => format!("pulled {count} results"),
        };
        if self.results > 0 {
            text += &format!(" ({})", size(self.bytes));
        }
        text += &format!(" from {from}");
        if self.there > 0 {
            text += &format!("; {} here already", self.there);
        }
        if !self.missing.is_empty() {
            let names = first_names(self.missing.iter().map(String::as_str));
            text += &format!("; not there, or damaged: {names}");
        }
        text
    }

    /// What is missing is said in other words.
    pub(super) fn forget_missing(&mut self) {
        self.missing.clear();
    }

    /// What of a run cannot be shown.
    pub(super) fn said_of_run(&self) -> Option<String> {
        let names = first_names(self.others.iter().map(String::as_str));
        (!self.others.is_empty()).then(|| {
            format!(
                "of these the run had other bytes than are here under the same key, so that its own cannot be shown: {names}"
            )
        })
    }

    /// 1 where a run is not all here.
    pub(super) fn exit_code(&self) -> u8 {
        u8::from(!self.missing.is_empty() || !self.others.is_empty())
    }
}

pub(crate) fn pull(ui: &mut Ui, cache: Option<&Path>, args: &PullArgs) -> Result<u8, CommandError> {
    if let Some(at) = args.fail_at {
        fail::plan(at);
    }
    let path = PathBuf::from(&args.what);
    let is_pipeline = path.is_file()
        || path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
    if is_pipeline {
        return of_pipeline(ui, cache, args, path);
    }
    if !args.stages.is_empty() || !args.overrides.is_empty() {
        return Err(CommandError::hinted(
            format!("`{}` is no pipeline, and a run is pulled whole", args.what),
            "name the pipeline's file, or the run alone",
        ));
    }
    let project = project_here();
    let mut store = make_store(cache, &project)?;
    let shared = remote::needed(args.from.as_deref(), "--from", None, &store)?;
    let no_run = || {
        CommandError::hinted(
            format!("there is no run `{}` in {}", args.what, shared.url()),
            "all eight letters of its id are needed, as `push` prints them; or name a pipeline's file",
        )
    };
    let is_id = args.what.len() == 8 && args.what.bytes().all(|b| b.is_ascii_lowercase());
    let text = match is_id {
        true => shared.run(&args.what)?.ok_or_else(no_run)?,
        false => return Err(no_run()),
    };
    let run = RunRecord::parse(&text).ok().filter(|run| run.id.as_str() == args.what);
    let run = run.ok_or_else(|| {
        CommandError::hinted(
            format!("the record of run `{}` in {} is damaged", args.what, shared.url()),
            "`dynvis push` from where it was made sends it again",
        )
    })?;
    let came = of_run(ui, &mut store, &shared, &run)?;
    ui.status(&came.said(shared.url()));
    came.said_of_run().iter().for_each(|text| ui.status(text));
    ui.status(&format!("next: dynvis show {}", run.id));
    Ok(came.exit_code())
}

/// All results of a run, then its record.
pub(super) fn of_run(
    ui: &mut Ui,
    store: &mut Store,
    place: &dyn Elsewhere,
    run: &RunRecord,
) -> Result<Came, CommandError> {
    let mut came = Came::default();
    let mut seen = HashSet::new();
    for stage in &run.stages {
        let Some(key) = stage.key.as_ref().filter(|key| seen.insert((*key).clone())) else {
            continue;
        };
        let is_the_runs = |store: &Store| {
            let result = store.result(key);
            result.is_some_and(|result| {
                stage.outputs.iter().all(|output| {
                    let mut outputs = result.outputs.iter();
                    outputs.any(|other| other.slot == output.slot && other.content == output.content)
                })
            })
        };
        if store.health(key) == Health::Intact {
            came.there += 1;
            if !is_the_runs(store) {
                came.others.push(stage.name.clone());
            }
            continue;
        }
        let is_wanted = |parcel: &Parcel| {
            let is_output = |output: &dynvis_runner::store::RunOutput| {
                let mut outputs = parcel.outputs.iter();
                outputs.any(|other| other.slot == output.slot && other.artifact == output.artifact)
            };
            match parcel.kind == stage.kind && stage.outputs.iter().all(is_output) {
                true => Ok(()),
                false => Err("it is not what the run's record says".to_owned()),
            }
        };
        if one(ui, store, place, (&stage.name, key), &is_wanted, Busy::Wait, &mut came)? && !is_the_runs(store) {
            came.others.push(stage.name.clone());
        }
    }
    let pulled = Pulled {
        from: place.name().to_owned(),
        host: run.host.clone(),
        dynvis_version: run.dynvis_version.clone(),
        at: jiff::Timestamp::now().to_string(),
    };
    store.admit_run(run, pulled)?;
    Ok(came)
}

/// One result. What concerns it alone is said, and the others go on.
fn one(
    ui: &mut Ui,
    store: &mut Store,
    place: &dyn Elsewhere,
    (name, key): (&str, &StageKey),
    is_wanted: &dyn Fn(&Parcel) -> Result<(), String>,
    busy: Busy,
    came: &mut Came,
) -> Result<bool, CommandError> {
    let mut waits = false;
    let _lock = loop {
        if let Some(lock) = store.try_lock(key)? {
            break lock;
        }
        if busy == Busy::Skip {
            return Ok(false);
        }
        if !std::mem::replace(&mut waits, true) {
            ui.status(&format!("waits for `{name}`, which another process computes or pulls"));
        }
        std::thread::sleep(LOOK);
    };
    if waits {
        store.refresh()?;
        if store.health(key) == Health::Intact {
            came.there += 1;
            return Ok(true);
        }
    }
    match store.pull(key, place, is_wanted) {
        Ok(true) => {
            let files = store
                .result(key)
                .into_iter()
                .flat_map(|result| &result.outputs)
                .flat_map(|o| &o.files);
            let bytes: u64 = files.map(|file| file.size).sum();
            came.results += 1;
            came.bytes += bytes;
            ui.status(&format!("pulled {name} ({})", size(bytes)));
            Ok(true)
        }
        Ok(false) => {
            came.missing.push(name.to_owned());
            Ok(false)
        }
        Err(PullError::Elsewhere(error)) if error.is_about_content => {
            ui.status(&format!("{} {name}: {error}", ui.paint("warning:", "33")));
            if !error.advice.is_empty() {
                ui.status(&format!("{} {}", ui.paint("hint:", "36"), error.advice));
            }
            came.missing.push(name.to_owned());
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn of_pipeline(ui: &mut Ui, cache: Option<&Path>, args: &PullArgs, path: PathBuf) -> Result<u8, CommandError> {
    let pipeline = PipelineArgs {
        pipeline: path,
        overrides: args.overrides.clone(),
    };
    let pipeline = pipeline.load(ui)?;
    let wanted = SelectArgs {
        stages: args.stages.clone(),
        ..SelectArgs::default()
    };
    let selection = select(&pipeline, &wanted.request())?;
    let mut store = make_store(cache, &pipeline.root)?;
    let shared = remote::needed(args.from.as_deref(), "--from", Some(&pipeline), &store)?;
    let came = walk(ui, &mut store, &pipeline, &selection, &shared, Busy::Wait)?;
    ui.status(&came.said(shared.url()));
    let path = pipeline.path.display().to_string();
    let rest = match came.missing.is_empty() {
        true => "",
        false => ", which computes what is missing",
    };
    ui.status(&format!("next: dynvis run {}{rest}", shell_word(&path)));
    Ok(0)
}

/// Fetches what there is before jobs are submitted. What does not come is computed.
pub(super) fn before_chain(
    ui: &mut Ui,
    store: &mut Store,
    pipeline: &Pipeline,
    selection: &Selection,
    shared: &Shared,
) {
    // What others compute at this moment may be a chain of this very pipeline.
    match walk(ui, store, pipeline, selection, shared, Busy::Skip) {
        Ok(came) if came.results > 0 => ui.status(&came.said(shared.url())),
        Ok(_) => {}
        Err(error) => ui.status(&format!(
            "{} {error}: jobs compute what is missing",
            ui.paint("warning:", "33")
        )),
    }
}

/// Along the graph: keys of later stages are known once the results of earlier ones are here.
fn walk(
    ui: &mut Ui,
    store: &mut Store,
    pipeline: &Pipeline,
    selection: &Selection,
    place: &dyn Elsewhere,
    busy: Busy,
) -> Result<Came, CommandError> {
    let observed = observe(pipeline, selection, store, &mut |event| ui.reading(event))?;
    let mut came = Came::default();
    let mut asked: HashSet<StageKey> = HashSet::new();
    loop {
        let mut world = StoreWorld {
            store,
            pipeline: &pipeline.name,
            observed: &observed,
        };
        let planned = plan(pipeline, selection, &mut world);
        let open: Vec<_> = planned
            .iter()
            .filter(|planned| planned.decision.state == State::Run)
            .filter(|planned| {
                !planned
                    .decision
                    .reasons
                    .iter()
                    .any(|r| matches!(r, Reason::Forced | Reason::ConditionBroken(_)))
            })
            .filter_map(|planned| {
                let decision = &planned.decision;
                let key = decision.key.clone()?;
                Some((pipeline.stage(planned.id), key, decision.description.clone()))
            })
            .filter(|(_, key, _)| asked.insert(key.clone()))
            .collect();
        if open.is_empty() {
            let waits = |planned: &&dynvis_runner::plan::Planned| {
                matches!(planned.decision.state, State::Run | State::Maybe) && planned.decision.key.is_none()
            };
            let waiting = planned.iter().filter(waits);
            came.missing
                .extend(waiting.map(|planned| pipeline.stage(planned.id).name.clone()));
            let is_present = |planned: &&dynvis_runner::plan::Planned| {
                matches!(planned.decision.state, State::Cached | State::Restore)
            };
            came.there = planned.iter().filter(is_present).count().saturating_sub(came.results);
            return Ok(came);
        }
        for (stage, key, description) in open {
            let is_wanted = |parcel: &Parcel| parcel.fits(stage.kind().name(), &stage.outputs);
            if one(ui, store, place, (&stage.name, &key), &is_wanted, busy, &mut came)? {
                if let Some(description) = description {
                    // A description from elsewhere is not checked, so ours is kept.
                    store.keep_description(&key, &description)?;
                }
                // From now on it is the stage's own.
                let current = store.current_entry(&pipeline.name, &stage.name, &key);
                store.commit_all(&[current])?;
            }
        }
    }
}
