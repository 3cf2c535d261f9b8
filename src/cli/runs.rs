//! `dynvis runs`.

use std::path::Path;
use std::time::Duration;

use dynvis_runner::store::{RunRecord, RunStatus, Store, shortest_prefixes};
use globset::{Glob, GlobMatcher};
use serde_json::json;

use super::error::CommandError;
use super::tables::{fits, simple_table};
use super::ui::Ui;
use super::wording::{duration, outcomes, size};
use super::{open_store, project_here};

/// List past runs, the last one first
#[derive(clap::Args)]
pub(crate) struct RunsArgs {
    /// Number of runs to list
    #[arg(short = 'n', long, default_value_t = 20)]
    number: usize,
    /// Runs of this pipeline only; a glob such as `noise*`
    #[arg(long, value_name = "NAME", value_parser = glob)]
    pipeline: Option<GlobMatcher>,
    /// Runs in which this stage executed; a glob such as `cordsnet@*`
    #[arg(long, value_name = "STAGE", value_parser = glob)]
    stage: Option<GlobMatcher>,
    /// Runs that ended so; repeatable
    #[arg(long, value_enum)]
    status: Vec<Status>,
    /// Runs that started since then: `2026-05-31`, `2026-05-31T12:00:00Z`, or so long ago: `90min`, `12h`, `7d`
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<jiff::Timestamp>,
    /// Runs that started before then
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<jiff::Timestamp>,
    /// Include runs of other projects that share this cache
    #[arg(long)]
    all_projects: bool,
    /// Pinned runs only
    #[arg(long)]
    pinned: bool,
    /// Order of the list
    #[arg(long, value_enum, default_value_t = Sort::Started)]
    sort: Sort,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// Print JSON instead of text, with all that is recorded
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Status {
    Done,
    Failed,
    Interrupted,
    /// Goes on in another terminal
    Running,
    /// Ended without recording its end: killed, or a power cut
    Killed,
}

impl Status {
    fn of(store: &Store, folder: &Path, run: &RunRecord) -> Self {
        match run.status {
            RunStatus::Done => Self::Done,
            RunStatus::Failed => Self::Failed,
            RunStatus::Interrupted => Self::Interrupted,
            RunStatus::Running if store.is_alive(folder) => Self::Running,
            RunStatus::Running => Self::Killed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
            Self::Killed => "killed",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// Last started run first
    Started,
    /// Longest run first
    Took,
    /// Most processor time first
    Cpu,
    /// Most memory first
    Memory,
    /// By the pipeline's name
    Pipeline,
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    Ok(Glob::new(text).map_err(|e| e.to_string())?.compile_matcher())
}

/// A moment, or how long ago it was.
fn time(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time);
    }
    let in_day = |date: jiff::civil::DateTime| jiff::tz::TimeZone::UTC.to_timestamp(date).ok();
    if let Some(time) = text.parse::<jiff::civil::DateTime>().ok().and_then(in_day) {
        return Ok(time);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" => Some(1.0),
        "min" => Some(60.0),
        "h" => Some(3600.0),
        "d" => Some(86_400.0),
        _ => None,
    };
    let ago = digits
        .parse::<f64>()
        .ok()
        .zip(seconds)
        .map(|(number, unit)| number * unit);
    ago.and_then(|ago| Duration::try_from_secs_f64(ago).ok())
        .and_then(|ago| jiff::Timestamp::now().checked_sub(ago).ok())
        .ok_or_else(|| {
            "a date (2026-05-31), a time in UTC (2026-05-31T12:00) or an age (90min, 12h, 7d) is needed".into()
        })
}

/// A run that passed all filters.
struct Listed {
    run: RunRecord,
    status: Status,
    pin: Option<String>,
    prefix: usize,
}

pub(crate) fn runs(ui: &mut Ui, cache: Option<&Path>, args: &RunsArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let folders = store.run_folders()?;
    let ids: Vec<&str> = folders.iter().map(|(id, _)| id.as_str()).collect();
    let prefixes = shortest_prefixes(&ids);
    let mut listed = Vec::new();
    for (id, folder) in folders.iter().rev() {
        // Where the order is that of the folders, what is not shown need not be read.
        if args.sort == Sort::Started && !args.reverse && listed.len() == args.number {
            break;
        }
        let run = match store.read_run(folder) {
            Ok(run) => run,
            Err(error) => {
                ui.status(&format!("skipped: {error}"));
                continue;
            }
        };
        if !args.all_projects && !store.is_own(&run) {
            continue;
        }
        let status = Status::of(&store, folder, &run);
        let pin = store.pin(folder);
        if args.pinned <= pin.is_some() && wanted(args, &run, status) {
            let prefix = prefixes.get(id.as_str()).copied().unwrap_or(id.len());
            listed.push(Listed {
                run,
                status,
                pin,
                prefix,
            });
        }
    }
    match args.sort {
        Sort::Started => {}
        Sort::Took => listed.sort_by(|a, b| b.run.seconds.total_cmp(&a.run.seconds)),
        Sort::Cpu => listed.sort_by(|a, b| b.run.cpu_seconds().total_cmp(&a.run.cpu_seconds())),
        Sort::Memory => listed.sort_by_key(|l| std::cmp::Reverse(l.run.peak_bytes())),
        Sort::Pipeline => listed.sort_by(|a, b| a.run.pipeline.cmp(&b.run.pipeline)),
    }
    if args.reverse {
        listed.reverse();
    }
    listed.truncate(args.number);
    if args.json {
        let records: Vec<_> = listed
            .iter()
            .map(|l| {
                let mut record = serde_json::to_value(&l.run).unwrap_or_default();
                record["status"] = l.status.name().into();
                record["prefix"] = json!(l.run.id.as_str().get(..l.prefix));
                record["pin"] = json!(l.pin);
                record["cpu_seconds"] = json!(l.run.cpu_seconds());
                record["peak_bytes"] = json!(l.run.peak_bytes());
                record
            })
            .collect();
        ui.out(&format!("{:#}\n", serde_json::Value::from(records)))?;
        return Ok(0);
    }
    if folders.is_empty() {
        ui.status("no runs yet; `dynvis run PIPELINE` makes one");
        return Ok(0);
    }
    if listed.is_empty() {
        ui.status(&format!("none of {} runs matches", folders.len()));
        return Ok(0);
    }
    let rows = listed.iter().map(row).collect();
    let (text, left_out) = table(rows, ui.width());
    ui.out(&text)?;
    if !left_out.is_empty() {
        ui.status(&format!(
            "columns that do not fit: {}; `--json` has all",
            left_out.join(", ")
        ));
    }
    Ok(0)
}

const COLUMNS: [&str; 10] = [
    "run",
    "short",
    "started (UTC)",
    "took",
    "cpu",
    "memory",
    "pipeline",
    "status",
    "stages",
    "arguments",
];

/// The runs below one another, and which columns there was no room for. Where even the others do not fit, a run is a
/// paragraph.
fn table(rows: Vec<Vec<String>>, width: Option<usize>) -> (String, Vec<&'static str>) {
    const LEAST_WANTED: [&str; 4] = ["arguments", "memory", "cpu", "short"];
    let without = |count: usize| {
        let is_kept = |column: usize| !LEAST_WANTED[..count].contains(&COLUMNS[column]);
        let kept: Vec<usize> = (0..COLUMNS.len()).filter(|column| is_kept(*column)).collect();
        let header: Vec<&str> = kept.iter().map(|column| COLUMNS[*column]).collect();
        let pick = |row: &Vec<String>| kept.iter().map(|column| row[*column].clone()).collect();
        (header, rows.iter().map(pick).collect::<Vec<Vec<String>>>())
    };
    let room = |count: &usize| {
        let (header, rows) = without(*count);
        width.is_none_or(|width| fits(&header, &rows, width))
    };
    let count = (0..=LEAST_WANTED.len()).find(room).unwrap_or(0);
    let (header, rows) = without(count);
    (simple_table(&header, rows, width), LEAST_WANTED[..count].to_vec())
}

fn wanted(args: &RunsArgs, run: &RunRecord, status: Status) -> bool {
    let started = || run.started_at.parse::<jiff::Timestamp>().ok();
    args.pipeline.as_ref().is_none_or(|glob| glob.is_match(&run.pipeline))
        && args.stage.as_ref().is_none_or(|glob| {
            let mut executed = run.stages.iter().filter(|s| s.execution.is_some());
            executed.any(|s| glob.is_match(&s.name) || glob.is_match(&s.family))
        })
        && (args.status.is_empty() || args.status.contains(&status))
        && args.since.is_none_or(|since| started().is_some_and(|s| s >= since))
        && args.before.is_none_or(|before| started().is_some_and(|s| s < before))
}

fn row(listed: &Listed) -> Vec<String> {
    let run = &listed.run;
    let pinned = if listed.pin.is_some() { ", pinned" } else { "" };
    vec![
        run.id.to_string(),
        run.id.as_str().get(..listed.prefix).unwrap_or_default().to_owned(),
        run.started_at.get(..19).unwrap_or(&run.started_at).replace('T', " "),
        duration(run.seconds),
        match run.cpu_seconds() {
            0.0 => String::new(),
            seconds => duration(seconds),
        },
        run.peak_bytes().map(size).unwrap_or_default(),
        run.pipeline.clone(),
        format!("{}{pinned}", listed.status.name()),
        outcomes(run),
        run.arguments.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_at_40_80_and_200_columns_cut_no_word() {
        let row = [
            "kklmnopq",
            "kk",
            "2026-11-29 09:04:15",
            "12 min",
            "3.5 h",
            "812.4 MB",
            "quickstart",
            "interrupted",
            "2 ran, 5 cached",
            "run pipelines/quickstart.yaml",
        ];
        let row: Vec<String> = row.map(str::to_owned).to_vec();
        for (width, left_out) in [(40, 0), (80, 3), (200, 0)] {
            let (text, missing) = table(vec![row.clone()], Some(width));
            assert_eq!(missing.len(), left_out, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            let shown: Vec<&str> = text.split_whitespace().collect();
            for (name, cell) in COLUMNS.iter().zip(&row).filter(|(name, _)| !missing.contains(name)) {
                let whole = cell.split_whitespace().all(|word| shown.contains(&word));
                assert!(whole, "{width}: {name}:\n{text}");
            }
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let day = time("2026-05-31").expect("a date");
        assert_eq!(day.to_string(), "2026-05-31T00:00:00Z");
        assert_eq!(
            time("2026-05-31T12:30").expect("a time").to_string(),
            "2026-05-31T12:30:00Z"
        );
        assert_eq!(
            time("2026-05-31T12:30:00+02:00").expect("a time").to_string(),
            "2026-05-31T10:30:00Z"
        );
        let age = |text| {
            jiff::Timestamp::now()
                .duration_since(time(text).expect("an age"))
                .as_secs_f64()
        };
        assert!((age("90min") - 5400.0).abs() < 5.0);
        assert!((age("7d") - 604_800.0).abs() < 5.0);
        for text in ["", "d", "yesterday", "-3d", "1e300d", "NaNh", "3 weeks"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
