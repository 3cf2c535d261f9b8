//! `dynvis log`.

use std::path::Path;

use super::error::CommandError;
use super::harmless::whole_line;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::{duration, size};
use super::{completions, open_store, project_here};
use dynvis_runner::names::find;
use dynvis_runner::pipeline::suggest;
use dynvis_runner::run::log_path;
use dynvis_runner::store::{Execution, RunRecord, RunStatus};

/// Show what a run did, or the log of one of its stages
#[derive(clap::Args)]
pub(crate) struct LogArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters
    #[arg(default_value = "@", add = completions::runs())]
    run: String,
    /// A stage, or one member of its matrix
    #[arg(add = completions::stages_of_run())]
    stage: Option<String>,
}

pub(crate) fn log(ui: &mut Ui, cache: Option<&Path>, args: &LogArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let (folder, run) = super::find_run(ui, &store, &args.run)?;
    let Some(stage) = &args.stage else {
        let rows = run
            .stages
            .iter()
            .map(|s| {
                let execution = |of: fn(&Execution) -> String| s.execution.as_ref().map(of).unwrap_or_default();
                vec![
                    s.name.clone(),
                    format!("{:?}", s.outcome).to_lowercase(),
                    s.seconds.map(duration).unwrap_or_default(),
                    execution(|e| duration(e.cpu_seconds)),
                    execution(|e| size(e.peak_bytes)),
                    s.seed.map(|seed| seed.to_string()).unwrap_or_default(),
                    s.key.as_ref().map(|k| k.short().to_owned()).unwrap_or_default(),
                    s.reason.clone(),
                ]
            })
            .collect();
        ui.out(&simple_table(
            &["run", run.id.as_str()],
            about(&run, store.is_alive(&folder)),
            ui.width(),
        ))?;
        ui.out("\n")?;
        ui.out(&simple_table(
            &["stage", "outcome", "took", "cpu", "memory", "seed", "key", "reason"],
            rows,
            ui.width(),
        ))?;
        return Ok(0);
    };
    let selected = find(&run.stages, stage).filter(|selected| selected.output.is_none());
    let members = selected.map_or_else(Vec::new, |selected| selected.members);
    let members: Vec<_> = members.into_iter().map(|member| &run.stages[member]).collect();
    if members.is_empty() {
        let names = run.stages.iter().map(|s| s.name.as_str());
        return Err(CommandError::hinted(
            format!("run {} has no stage `{stage}`", run.id),
            match suggest(stage, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its stages: {}", names.collect::<Vec<_>>().join(", ")),
            },
        ));
    }
    for member in &members {
        if members.len() > 1 {
            ui.out(&format!("== {}\n", member.name))?;
        }
        match dynvis_base::files::read(&log_path(&folder, &member.name)) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                ui.out(&text.lines().map(|line| whole_line(line) + "\n").collect::<String>())?;
            }
            Err(_) => ui.status(&format!(
                "`{}` did not execute in this run: {}",
                member.name, member.reason
            )),
        }
    }
    Ok(0)
}

/// What is recorded of a whole run.
pub(crate) fn about(run: &RunRecord, is_alive: bool) -> Vec<Vec<String>> {
    let short = |hash: &Option<dynvis_runner::key::ContentHash>| hash.as_ref().map(|h| h.short().to_owned());
    let git = run.git.as_ref().map(|git| {
        let dirty = if git.is_dirty {
            ", with changes that are not committed"
        } else {
            ""
        };
        format!("{}{dirty}", git.revision)
    });
    let rows = [
        ("pipeline", Some(format!("{} ({})", run.pipeline, run.path.display()))),
        ("arguments", Some(run.arguments.join(" "))),
        (
            "status",
            Some(match run.status {
                RunStatus::Running if !is_alive => "killed".to_owned(),
                status => format!("{status:?}").to_lowercase(),
            }),
        ),
        ("started", Some(run.started_at.clone())),
        ("took", Some(duration(run.seconds))),
        ("host", Some(run.host.clone())),
        ("device", Some(run.device.clone())),
        ("driver", run.driver.clone()),
        ("git", git),
        ("dynvis", Some(run.dynvis_version.clone())),
        ("program", short(&run.binary)),
        ("Cargo.lock", short(&run.lock_file)),
    ];
    rows.into_iter()
        .filter_map(|(name, value)| Some(vec![name.to_owned(), value?]))
        .collect()
}
