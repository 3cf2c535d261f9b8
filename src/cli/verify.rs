//! `dynvis verify`: every stored byte against its hash.

use std::path::Path;

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::size;
use super::{exit, open_store, project_here};
use dynvis_runner::store::{Damage, Fault};

/// Hash every stored result again and name what is damaged
#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn verify(ui: &mut Ui, cache: Option<&Path>, args: &VerifyArgs) -> Result<u8, CommandError> {
    /// Reading less than this needs no announcement.
    const SILENT_BYTES: u64 = 1 << 30;
    let mut store = open_store(cache, &project_here())?;
    if !store.exists() {
        ui.status("there is no cache, so there is nothing to verify");
        return Ok(0);
    }
    let found = store.verify(&mut |files, bytes| {
        if bytes > SILENT_BYTES {
            ui.status(&format!("reading {files} files, {}", size(bytes)));
        }
    })?;
    let code = if found.damaged.is_empty() && found.journal_lines == 0 && found.runs.is_empty() {
        0
    } else {
        exit::DAMAGED
    };
    if args.json {
        let mut document = serde_json::to_value(&found).unwrap_or_default();
        document["version"] = 1.into();
        ui.out(&format!("{document:#}\n"))?;
        return Ok(code);
    }
    if !found.damaged.is_empty() {
        let rows = found.damaged.iter().map(row).collect();
        ui.out(&simple_table(
            &["fault", "result of", "output", "file"],
            rows,
            ui.width(),
        ))?;
    }
    if found.journal_lines > 0 {
        ui.status(&format!(
            "the journal has {} damaged lines: the results in them will be computed again",
            found.journal_lines
        ));
    }
    if !found.runs.is_empty() {
        ui.status(&format!(
            "records of runs that cannot be read: {}",
            found.runs.join(", ")
        ));
    }
    ui.status(&format!(
        "{} results, {} files, {}: {}",
        found.results,
        found.files,
        size(found.bytes),
        match found.damaged.len() {
            0 => "all as they were stored".to_owned(),
            n => format!("{n} files not as they were stored"),
        }
    ));
    let is_any = |unexpected: bool| {
        found
            .damaged
            .iter()
            .any(|d| (d.fault == Fault::Unexpected) == unexpected)
    };
    if is_any(false) {
        ui.status("the next run that needs one of these results computes it again");
    }
    if is_any(true) {
        ui.status("files that nothing stored there are to be removed by hand");
    }
    Ok(code)
}

fn row(damage: &Damage) -> Vec<String> {
    vec![
        match damage.fault {
            Fault::Damaged => "damaged",
            Fault::Missing => "missing",
            Fault::Unexpected => "unexpected",
            Fault::Unreadable => "unreadable",
        }
        .to_owned(),
        match damage.stages.as_slice() {
            // An earlier result of some stage.
            [] => format!("key {}", damage.key.short()),
            stages => stages.join(", "),
        },
        damage.output.clone(),
        damage.file.clone(),
    ]
}
