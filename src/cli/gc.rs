//! `dynvis gc` and `dynvis pin`: what is kept and what goes.

use std::path::Path;
use std::time::Duration;

use dynvis_runner::store::{Policy, Removal, RemovalReason};
use serde_json::json;

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::size;
use super::{completions, open_store, project_here};

/// Remove results that no recent run used, and what killed runs and failed stages left
///
/// A result stays if a pinned run or a run in progress uses it, if one of the last runs of its pipeline did, or any run
/// of the last days. What runs of other projects in this cache used stays, too. With `--max-size`, those used longest
/// ago go until the rest fits. Whatever is removed is computed again when it is needed; run records and logs stay.
#[derive(clap::Args)]
pub(crate) struct GcArgs {
    /// Keep what the last N runs of each pipeline used
    #[arg(long, default_value_t = 10, value_name = "N")]
    keep_runs: usize,
    /// Keep what was used within so many days
    #[arg(long, default_value_t = 30.0, value_name = "DAYS", value_parser = days)]
    keep_days: f64,
    /// Keep at most that much, such as `500MB` or `1.5TB`
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_size: Option<u64>,
    /// Include what only runs of other projects in this cache used
    #[arg(long)]
    all_projects: bool,
    /// Remove also where records of runs or lines of the journal cannot be read; they may have used anything
    #[arg(long)]
    ignore_unreadable: bool,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

fn days(text: &str) -> Result<f64, String> {
    let days = text.parse().ok().filter(|days| (0.0..=1e6).contains(days));
    days.ok_or_else(|| "a number of days from 0 to 1000000 is needed".to_owned())
}

fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "a size is needed, such as `500MB`, `2GiB` or `1.5TB`".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (base, letter) = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => return digits.trim().parse().map_err(|_| wrong()),
        unit => match unit.strip_suffix("ib") {
            Some(letter) => (1024.0_f64, letter.to_owned()),
            None => (1000.0, unit.strip_suffix('b').unwrap_or(unit).to_owned()),
        },
    };
    let power = match letter.as_str() {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let bytes = number * base.powi(power);
    if (0.0..1e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

pub(crate) fn gc(ui: &mut Ui, cache: Option<&Path>, args: &GcArgs) -> Result<u8, CommandError> {
    let mut store = open_store(cache, &project_here())?;
    if !store.exists() {
        ui.status("there is no cache, so there is nothing to remove");
        return Ok(0);
    }
    let policy = Policy {
        runs: args.keep_runs,
        age: Duration::from_secs_f64(args.keep_days * 86_400.0),
        bytes: args.max_size,
        all_projects: args.all_projects,
        ignores_unreadable: args.ignore_unreadable,
    };
    if !args.dry_run {
        store.sweep();
    }
    let found = store.collect(&policy, !args.dry_run)?;
    if args.json {
        let document = json!({
            "version": 1, "removed": !args.dry_run, "policy": policy, "bytes": found.bytes(), "collection": found,
        });
        ui.out(&format!("{document:#}\n"))?;
        return Ok(0);
    }
    for record in &found.unreadable {
        ui.status(&format!("cannot be read: {record}"));
    }
    if !found.unreadable.is_empty() && !args.ignore_unreadable {
        ui.status(
            "what these used is not known, so everything stays; `dynvis verify` says more, a newer dynvis may read \
             them, and `--ignore-unreadable` collects without them",
        );
    }
    if found.of_other_projects > 0 {
        ui.status(&format!(
            "{} results stay for other projects of this cache (`--all-projects` collects there, too)",
            found.of_other_projects
        ));
    }
    if !found.doomed.is_empty() {
        let rows = found.doomed.iter().map(row).collect();
        ui.out(&simple_table(
            &["size", "result of", "last used (UTC)", "why"],
            rows,
            ui.width(),
        ))?;
    }
    let (went, rest) = if args.dry_run {
        ("would go", "would stay")
    } else {
        ("removed", "stay")
    };
    ui.status(&format!(
        "{went}: {} in {} places; {rest}: {} results, {}",
        size(found.bytes()),
        found.doomed.len(),
        found.kept_results,
        size(found.kept_bytes)
    ));
    Ok(0)
}

fn row(doomed: &Removal) -> Vec<String> {
    /// Stages of a matrix may share a result, but one line tells enough.
    const SHOWN: usize = 3;
    let mut stages = doomed.stages.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if doomed.stages.len() > SHOWN {
        stages += &format!(" and {} more", doomed.stages.len() - SHOWN);
    }
    let time = doomed.last_used.as_deref().unwrap_or_default();
    vec![
        size(doomed.bytes),
        if stages.is_empty() { "-".into() } else { stages },
        time.get(..19).unwrap_or(time).replace('T', " "),
        match doomed.why {
            RemovalReason::Unused => "no kept run used it",
            RemovalReason::Size => "no room within --max-size",
            RemovalReason::NoResult => "part of no result",
            RemovalReason::Partial => "left by a stage that failed",
        }
        .to_owned(),
    ]
}

/// Keep a run's results from `gc`, or list what is kept
#[derive(clap::Args)]
pub(crate) struct PinArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters; all pinned runs are listed if left out
    #[arg(add = completions::runs())]
    run: Option<String>,
    /// Reason for pinning
    #[arg(
        long,
        requires = "run",
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    note: String,
    /// Take the pin away
    #[arg(long, requires = "run")]
    remove: bool,
}

pub(crate) fn pin(ui: &mut Ui, cache: Option<&Path>, args: &PinArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    if let Some(reference) = &args.run {
        let (folder, run) = super::find_run(ui, &store, reference)?;
        store.set_pin(&folder, (!args.remove).then_some(args.note.as_str()))?;
        let what = if args.remove { "no longer pinned" } else { "pinned" };
        ui.status(&format!("run {} of {}: {what}", run.id, run.pipeline));
        return Ok(0);
    }
    let mut rows = Vec::new();
    for (id, folder) in store.run_folders()?.iter().rev() {
        if let (Some(note), Ok(run)) = (store.pin(folder), store.read_run(folder)) {
            let started = run.started_at.get(..19).unwrap_or(&run.started_at).replace('T', " ");
            rows.push(vec![id.clone(), started, run.pipeline, note]);
        }
    }
    if rows.is_empty() {
        ui.status("no run is pinned; `dynvis pin RUN` pins one");
        return Ok(0);
    }
    ui.out(&simple_table(
        &["run", "started (UTC)", "pipeline", "note"],
        rows,
        ui.width(),
    ))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("500MB", 500_000_000),
            ("1.5GiB", 3 << 29),
            ("2k", 2000),
            ("1 TB", 1_000_000_000_000),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "GB", "-1GB", "1.5", "3 apples", "1e400TB", "NaNGB", "µB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
