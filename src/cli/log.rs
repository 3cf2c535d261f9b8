//! `dynvis log`.

use std::path::Path;

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::duration;
use super::{open_store, project_here};
use crate::pipeline::suggest;
use crate::run::log_path;

/// Show what a run did, or the log of one of its stages
#[derive(clap::Args)]
pub(crate) struct LogArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters
    #[arg(default_value = "@")]
    run: String,
    /// A stage, or one member of its matrix
    stage: Option<String>,
}

pub(crate) fn log(ui: &mut Ui, cache: Option<&Path>, args: &LogArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let (folder, run) = store.find_run(&args.run)?;
    let Some(stage) = &args.stage else {
        let rows = run
            .stages
            .iter()
            .map(|s| {
                vec![
                    s.name.clone(),
                    format!("{:?}", s.outcome).to_lowercase(),
                    s.seconds.map(duration).unwrap_or_default(),
                    s.key.as_ref().map(|k| k.short().to_owned()).unwrap_or_default(),
                    s.reason.clone(),
                ]
            })
            .collect();
        ui.out(&format!(
            "run {} of {} on {} ({}), dynvis {}\n",
            run.id, run.pipeline, run.host, run.device, run.dynvis_version
        ))?;
        ui.out(&simple_table(
            &["stage", "outcome", "took", "key", "reason"],
            rows,
            ui.width(),
        ))?;
        return Ok(0);
    };
    let members: Vec<_> = run
        .stages
        .iter()
        .filter(|s| s.name == *stage || s.family == *stage)
        .collect();
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
        match fs_err::read(log_path(&folder, &member.name)) {
            Ok(bytes) => ui.out_bytes(&bytes)?,
            Err(_) => ui.status(&format!(
                "`{}` did not execute in this run: {}",
                member.name, member.reason
            )),
        }
    }
    Ok(0)
}
