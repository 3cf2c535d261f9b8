//! `dynvis push`: results of a run to a remote.

use std::collections::BTreeSet;
use std::path::Path;

use dynvis_runner::key::StageKey;
use dynvis_runner::names::find;
use dynvis_runner::store::{RunRecord, RunStatus, Store};

use super::error::CommandError;
use super::ui::Ui;
use super::wording::{first_names, shell_word, size};
use super::{completions, find_run, open_store, project_here, registry, remote};
use crate::remote::{Sent, Shared};

/// Send results of a run to a remote, where `pull` and `run` find them
///
/// What is there is not sent again. A transfer that breaks off goes on where it stopped when the same command is given
/// again.
#[derive(clap::Args)]
pub(crate) struct PushArgs {
    /// The run: `@` (last run), `@-1`, a run's id or its first letters
    #[arg(default_value = "@", value_name = "RUN", add = completions::runs())]
    run: String,
    /// Stages of it [default: all, and the run's record]
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// Where to: `s3://BUCKET/PREFIX`, `ssh://HOST/FOLDER` or a folder [default: `cache: { remote: URL }` of the run's
    /// pipeline]
    #[arg(long, env = "DYNVIS_REMOTE", value_name = "URL")]
    to: Option<String>,
    /// Read what is there already, and send again what is damaged
    #[arg(long)]
    check: bool,
}

pub(crate) fn push(ui: &mut Ui, cache: Option<&Path>, args: &PushArgs) -> Result<u8, CommandError> {
    let project = project_here();
    let mut store = open_store(cache, &project)?;
    let (_, run) = find_run(ui, &store, &args.run)?;
    let pipeline = remote::pipeline_of(&run, &project);
    let shared = remote::needed(args.to.as_deref(), "--to", pipeline.as_ref(), &store)?;
    let keys = keys_of(&run, &args.stages)?;
    let sent = send(ui, &mut store, &shared, &keys, args.check)?;
    let is_whole = args.stages.is_empty() && run.status != RunStatus::Running;
    if is_whole {
        shared.put_run(&run)?;
    }
    ui.status(&said(&sent, &format!("of run {}", run.id), shared.url()));
    if is_whole {
        ui.status(&format!(
            "elsewhere: dynvis pull {} --from {}",
            run.id,
            shell_word(shared.url())
        ));
    } else if args.stages.is_empty() {
        ui.status("the run goes on or was killed, so that its record was not sent");
    }
    Ok(0)
}

/// Names of stages, and their keys.
type Keys = Vec<(String, StageKey)>;

/// Results of the named stages, or of all; each once.
fn keys_of(run: &RunRecord, names: &[String]) -> Result<Keys, CommandError> {
    let mut members = BTreeSet::new();
    for name in names {
        let selected = find(&run.stages, name).filter(|selected| !selected.members.is_empty());
        let selected = selected.ok_or_else(|| {
            CommandError::hinted(
                format!("run {} has no stage `{name}`", run.id),
                format!("`dynvis show {}` lists what it has", run.id),
            )
        })?;
        members.extend(selected.members);
    }
    let mut seen = BTreeSet::new();
    let stages = run.stages.iter().enumerate();
    let stages = stages.filter(|(index, _)| names.is_empty() || members.contains(index));
    Ok(stages
        .filter_map(|(_, stage)| Some((stage.name.clone(), stage.key.clone()?)))
        .filter(|(_, key)| seen.insert(key.clone()))
        .collect())
}

/// Sends results of this cache.
pub(crate) fn send(
    ui: &mut Ui,
    store: &mut Store,
    shared: &Shared,
    keys: &[(String, StageKey)],
    check: bool,
) -> Result<Sent, CommandError> {
    // So that nothing goes while it is read.
    let _hold = store.hold()?;
    let mut outgoing = Vec::new();
    let mut damaged = Vec::new();
    for (name, key) in keys {
        match store.parcel(key, registry().version()) {
            Some(parcel) => outgoing.push(parcel),
            None => damaged.push(name.as_str()),
        }
    }
    if !damaged.is_empty() {
        ui.status(&format!(
            "left out, since the result is not whole here: {}",
            first_names(damaged.iter().copied())
        ));
    }
    let name_of = |key: &StageKey| {
        keys.iter()
            .find(|(_, other)| other == key)
            .map(|(name, _)| name.as_str())
    };
    let _alone = shared.alone(&mut || ui.status("waits for another process of this cache, which sends results"));
    let sent = shared.send(&outgoing, check, &mut |parcel, is_new| {
        if is_new {
            let name = name_of(&parcel.key).unwrap_or_default();
            ui.status(&format!("sent {name} ({})", size(parcel.bytes())));
        }
    })?;
    Ok(sent)
}

/// What became of it.
pub(crate) fn said(sent: &Sent, of: &str, url: &str) -> String {
    let results = |count: usize| match count {
        1 => "1 result".to_owned(),
        count => format!("{count} results"),
    };
    let mut text = format!("sent {} {of} to {url}", results(sent.results));
    if sent.blobs > 0 {
        text += &format!(", {} files with {}", sent.blobs, size(sent.bytes));
    }
    if sent.there > 0 {
        text += &format!("; {} there already", sent.there);
    }
    if sent.others > 0 {
        text += &format!(", {} of them with other bytes of the same key, which stay", sent.others);
    }
    if sent.mended > 0 {
        text += &format!("; {} files were damaged there and are whole again", sent.mended);
    }
    text
}
