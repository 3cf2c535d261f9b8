//! `dynvis diff`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dynvis_runner::key::{Change, changes};
use dynvis_runner::pipeline::suggest;
use dynvis_runner::store::{RunRecord, RunStage, Store};
use dynvis_runner::table::{
    Condition, DiffFormat, RenderOptions, Table, TableDiff, TableError, diff as diff_tables, render_diff,
};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::error::CommandError;
use super::tables::{StageOutput, find_tables, headline, note_old_name, read_tables, simple_table, tables_of};
use super::ui::Ui;
use super::wording::first_names;
use super::{exit, open_store, project_here, registry};

/// Compare two runs, folders of results or table files: what they were made from, and changed, added and removed rows
#[derive(clap::Args)]
pub(crate) struct DiffArgs {
    /// `@-1`, `@`, a run's id or its first letters, a run's folder, a folder of tables, or a table file (Parquet, CSV)
    #[arg(add = super::completions::runs_and_files())]
    a: String,
    /// Second side: as A
    #[arg(add = super::completions::runs_and_files())]
    b: String,
    /// Compare this table only: `stage`, `stage/table`, or the path of a table within a folder
    #[arg(add = super::completions::tables_of_run())]
    table: Option<String>,
    /// Compare this table only; repeatable, for several tables
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// These columns only, divided by commas, beside the keys
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Rows in which it holds: `network=CNN-R2`, `level>0.5`, `tau=` (missing); all of them where repeated
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// Every changed row of every table, in place of a summary
    #[arg(long)]
    all: bool,
    /// Print JSON instead of text, complete and exact
    #[arg(long, conflicts_with = "md")]
    json: bool,
    /// Print Markdown instead of text
    #[arg(long)]
    md: bool,
}

pub(crate) fn diff(ui: &mut Ui, cache: Option<&Path>, args: &DiffArgs) -> Result<u8, CommandError> {
    let (a, b) = (Side::open(cache, &args.a)?, Side::open(cache, &args.b)?);
    let causes = causes(&a, &b);
    let wanted: Vec<&str> = args.table.iter().chain(&args.tables).map(String::as_str).collect();
    let names = Names::of(&a, &b, &wanted)?;
    // Once, whichever side is a run.
    if let Some((_, run)) = b.run.as_ref().or(a.run.as_ref()) {
        for name in &wanted {
            note_old_name(ui, name, &find_tables(run, name)?);
        }
    }
    let mut lacking = Vec::new();
    let mut equal = 0;
    let mut tables: Vec<(String, TableDiff)> = Vec::new();
    for (name, in_a, in_b) in &names.both {
        // The same content under the same names cannot differ; nothing needs to be read, unless to see whether it has
        // what was asked for.
        let found = match args.takes_whole_tables() && a.holds_the_same(in_a, &b, in_b) {
            true => None,
            false => {
                let tables = (a.read(in_a)?, b.read(in_b)?);
                let parts = (args.part(&tables.0), args.part(&tables.1));
                let (Ok(of_a), Ok(of_b)) = parts else {
                    let error = parts.0.err().or(parts.1.err());
                    lacking.extend(error);
                    continue;
                };
                Some(diff_tables(&of_a, &of_b)?).filter(|found| !found.is_empty())
            }
        };
        match found {
            Some(found) => tables.push((name.clone(), found)),
            None => equal += 1,
        }
    }
    // Where several tables are compared, those without such a column are left out.
    if lacking.len() == names.both.len()
        && let Some(error) = lacking.pop()
    {
        return Err(error.into());
    }
    let different = !causes.is_empty() || !tables.is_empty() || !names.only_a.is_empty() || !names.only_b.is_empty();
    if args.json {
        let tables: Vec<_> = tables
            .iter()
            .map(|(name, found)| json!({ "table": name, "diff": found }))
            .collect();
        let document = json!({
            "version": 1, "a": a.label, "b": b.label, "changed": causes,
            "tables": tables, "equal_tables": equal,
            "only_in_a": names.only_a, "only_in_b": names.only_b, "not_part_of_both": names.unselected,
        });
        ui.out(&format!("{document:#}\n"))?;
        return Ok(if different { exit::DIFFERENT } else { 0 });
    }
    let format = if args.md { DiffFormat::Md } else { DiffFormat::Text };
    let brief = wanted.is_empty() && names.both.len() > 1;
    let options = RenderOptions {
        max_rows: match brief && !args.md {
            _ if args.all => None,
            true => Some(12),
            false => Some(100),
        },
        width: ui.width(),
        color: ui.colour_out(),
    };
    let mut parts = Vec::new();
    if !causes.is_empty() {
        parts.push(causes_text(&causes, args.md, ui.width()));
    }
    let pinpointed = !wanted.is_empty() || !args.takes_whole_tables();
    let summarised = !(args.all || pinpointed || args.md) && names.both.len() > 1;
    let chief = b.run.as_ref().and_then(|(_, run)| headline(run)).unwrap_or_default();
    let is_chief = |name: &str| chief.iter().any(|found| found.name() == *name);
    if summarised && !tables.is_empty() {
        parts.push(summary(&tables, ui.width()));
    }
    for (name, found) in &tables {
        if summarised && !is_chief(name) {
            continue;
        }
        let title = match (args.md, names.both.len()) {
            // Two files: there is nothing that a title would tell.
            (_, 1) if a.run.is_none() && b.run.is_none() => String::new(),
            (true, _) => format!("## {name}\n\n"),
            (false, _) => format!("{name}\n"),
        };
        parts.push(title + &render_diff(found, format, &options)?);
    }
    for (side, only) in [("first", &names.only_a), ("second", &names.only_b)] {
        if !only.is_empty() {
            parts.push(format!("only on the {side} side: {}\n", only.join(", ")));
        }
    }
    ui.page(&parts.join("\n"))?;
    if summarised && !tables.is_empty() {
        ui.status(&format!(
            "`dynvis diff {} {} STAGE/TABLE` shows the rows of a table (`--columns`, `--where` narrow them), `--all` \
             those of all",
            args.a, args.b
        ));
    }
    if !names.unselected.is_empty() {
        ui.status(&unselected_text(&names.unselected));
    }
    let compared = names.both.len() - lacking.len();
    ui.status(&format!("{equal} of {compared} tables equal"));
    Ok(if different { exit::DIFFERENT } else { 0 })
}

/// The stage of `stage/table`; what a member's name holds may have a `/` too.
fn stage_of(table: &str) -> &str {
    table.rsplit_once('/').map_or(table, |(stage, _)| stage)
}

impl DiffArgs {
    fn takes_whole_tables(&self) -> bool {
        self.columns.is_empty() && self.conditions.is_empty()
    }

    /// The rows and columns that were asked for.
    fn part(&self, table: &Table) -> Result<Table, TableError> {
        let table = table.filtered(&self.conditions)?;
        match self.columns.is_empty() {
            true => Ok(table),
            false => table.with_columns(&self.columns, true),
        }
    }
}

/// Members of a matrix that are named one by one in a list.
const MEMBERS: usize = 12;

/// One line a table that differs: its rows, and the value that changed most.
fn summary(tables: &[(String, TableDiff)], width: Option<usize>) -> String {
    let (mut rows, mut largest) = (Vec::new(), Vec::new());
    for (name, found) in tables.iter().take(4 * MEMBERS) {
        let counts = [
            found.changed.len(),
            found.added.height(),
            found.removed.height(),
            found.equal,
        ];
        let mut row = vec![name.clone()];
        row.extend(counts.map(|count| count.to_string()));
        rows.push(row);
        // Keys of a row are long: beside the counts they would leave these no place on 80 columns.
        largest.extend(found.largest_change().map(|change| vec![name.clone(), change]));
    }
    if tables.len() > 4 * MEMBERS {
        let mut row = vec![format!("and {} more", tables.len() - 4 * MEMBERS)];
        row.resize(5, String::new());
        rows.push(row);
    }
    let mut text = simple_table(&["table", "changed", "added", "removed", "equal"], rows, width);
    if !largest.is_empty() {
        text += "\n";
        text += &simple_table(&["table", "largest change"], largest, width);
    }
    text
}

/// That tables were not compared, by their stages: a sweep has hundreds of tables.
fn unselected_text(tables: &[String]) -> String {
    let stages: BTreeSet<&str> = tables.iter().map(|table| stage_of(table)).collect();
    let count = tables.len();
    let noun = if count == 1 { "table" } else { "tables" };
    format!(
        "not compared, since not part of both runs: {count} {noun} of {}",
        first_names(stages)
    )
}

/// One side of a comparison.
struct Side {
    /// A run's id, or the path as typed.
    label: String,
    run: Option<(Store, RunRecord)>,
    /// Tables of a folder, by their paths in it without the ending; or one table file.
    files: Vec<(String, PathBuf)>,
    is_one_file: bool,
}

impl Side {
    fn open(cache: Option<&Path>, reference: &str) -> Result<Self, CommandError> {
        let path = Path::new(reference);
        let mut side = Self {
            label: reference.to_owned(),
            run: None,
            files: Vec::new(),
            is_one_file: path.is_file(),
        };
        if path.is_file() {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            side.files.push((stem, path.to_owned()));
        } else if path.is_dir() {
            if let Some(root) = cache_of_run(path) {
                let store = Store::open(&root)?;
                let run = store.read_run(path)?;
                side.run = Some((store, run));
                return Ok(side);
            }
            table_files(path, "", &mut side.files)?;
            if side.files.is_empty() {
                return Err(CommandError::hinted(
                    format!("no tables in `{reference}`"),
                    "tables are files that end in .parquet or .csv",
                ));
            }
        } else if reference.contains('/') || is_table_file(path) {
            return Err(CommandError::user(format!("no file or folder `{reference}`")));
        } else {
            let store = open_store(cache, &project_here())?;
            let (_, run) = store.find_run(reference)?;
            side.label = run.id.to_string();
            side.run = Some((store, run));
        }
        Ok(side)
    }

    /// Names of all tables.
    fn names(&self) -> Vec<String> {
        match &self.run {
            Some((_, run)) => tables_of(run).iter().map(StageOutput::name).collect(),
            None => self.files.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// The full name of the table that a user calls so.
    fn find(&self, name: &str) -> Result<String, CommandError> {
        match &self.run {
            Some((_, run)) => find_tables(run, name).map(|_| name.to_owned()),
            None if self.is_one_file => Ok(self.files[0].0.clone()),
            None => {
                let found = self
                    .files
                    .iter()
                    .find(|(known, _)| known == name || known.rsplit('/').next() == Some(name));
                let names = || self.files.iter().map(|(name, _)| name.as_str());
                found.map(|(name, _)| name.clone()).ok_or_else(|| {
                    CommandError::hinted(
                        format!("`{}` has no table `{name}`", self.label),
                        match suggest(name, names()) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => format!("its tables: {}", names().collect::<Vec<_>>().join(", ")),
                        },
                    )
                })
            }
        }
    }

    fn read(&self, name: &str) -> Result<Table, CommandError> {
        match &self.run {
            Some((store, run)) => read_tables(&find_tables(run, name)?, store),
            None => {
                let file = self.files.iter().find(|(known, _)| known == name);
                let path = file.map_or(Path::new(name), |(_, path)| path);
                Ok(Table::read(path)?)
            }
        }
    }

    fn holds_the_same(&self, name: &str, other: &Self, other_name: &str) -> bool {
        let (Some((_, a)), Some((_, b))) = (&self.run, &other.run) else {
            return false;
        };
        match (find_tables(a, name), find_tables(b, other_name)) {
            (Ok(a), Ok(b)) => {
                let alike = |(a, b): (&StageOutput, &StageOutput)| {
                    a.stage.fields == b.stage.fields && a.content() == b.content() && a.labels() == b.labels()
                };
                a.len() == b.len() && a.iter().zip(&b).all(alike)
            }
            _ => false,
        }
    }
}

/// The cache that holds a run's folder, `cache/runs/TIME-ID`.
fn cache_of_run(folder: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(folder).ok()?;
    let root = folder.parent()?.parent()?;
    (folder.join("run.json").is_file() && root.join("format").is_file()).then(|| root.to_owned())
}

fn is_table_file(path: &Path) -> bool {
    path.extension().is_some_and(|ending| {
        ["parquet", "csv", "tsv"]
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}

/// Table files in a folder and below it, in order of their names.
fn table_files(folder: &Path, prefix: &str, found: &mut Vec<(String, PathBuf)>) -> Result<(), CommandError> {
    let failed = |source| CommandError::Io {
        action: format!("cannot list `{}`", folder.display()),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    for path in paths {
        let name = |part: Option<&std::ffi::OsStr>| format!("{prefix}{}", part.unwrap_or_default().to_string_lossy());
        if path.is_symlink() {
            // It may lead in a circle.
        } else if path.is_dir() {
            table_files(&path, &(name(path.file_name()) + "/"), found)?;
        } else if is_table_file(&path) {
            found.push((name(path.file_stem()), path));
        }
    }
    Ok(())
}

/// Which tables are held against which.
struct Names {
    /// Name to show, name on the first side, name on the second.
    both: Vec<(String, String, String)>,
    only_a: Vec<String>,
    only_b: Vec<String>,
    /// Tables of stages that one of the runs was not asked to bring up to date.
    unselected: Vec<String>,
}

impl Names {
    fn of(a: &Side, b: &Side, wanted: &[&str]) -> Result<Self, CommandError> {
        let mut names = Names {
            both: Vec::new(),
            only_a: Vec::new(),
            only_b: Vec::new(),
            unselected: Vec::new(),
        };
        for name in wanted {
            names.both.push(((*name).to_owned(), a.find(name)?, b.find(name)?));
        }
        if !wanted.is_empty() {
            return Ok(names);
        }
        let (in_a, in_b) = (a.names(), b.names());
        if a.is_one_file || b.is_one_file {
            // One table is one table, whatever it is called.
            let [a_name] = in_a.as_slice() else {
                return Err(which_table(a, &in_a));
            };
            let [b_name] = in_b.as_slice() else {
                return Err(which_table(b, &in_b));
            };
            names.both.push((a_name.clone(), a_name.clone(), b_name.clone()));
            return Ok(names);
        }
        let known = |side: &Side| -> BTreeSet<String> {
            let stages = side.run.iter().flat_map(|(_, run)| &run.stages);
            stages.map(|s| s.name.clone()).collect()
        };
        let (stages_a, stages_b) = (known(a), known(b));
        let stage = |table: &str| stage_of(table).to_owned();
        for name in &in_a {
            if in_b.contains(name) {
                names.both.push((name.clone(), name.clone(), name.clone()));
            } else if stages_b.contains(&stage(name)) {
                names.unselected.push(name.clone());
            } else {
                names.only_a.push(name.clone());
            }
        }
        for name in in_b.into_iter().filter(|name| !in_a.contains(name)) {
            if stages_a.contains(&stage(&name)) {
                names.unselected.push(name);
            } else {
                names.only_b.push(name);
            }
        }
        Ok(names)
    }
}

fn which_table(side: &Side, names: &[String]) -> CommandError {
    CommandError::hinted(
        format!(
            "`{}` has {} tables, the other side is one file",
            side.label,
            names.len()
        ),
        match names.first() {
            Some(first) => format!("name the table that is meant as a third argument, such as `{first}`"),
            None => "there is nothing to compare".into(),
        },
    )
}

/// Something that a stage's result was made from and that differs.
#[derive(Serialize)]
struct Cause {
    stage: String,
    what: What,
    /// The parameter, input slot, file or variable.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    /// For an input: the stage that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    before: Option<Json>,
    after: Option<Json>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Kind,
    Parameter,
    CodeVersion,
    File,
    Environment,
    Outputs,
    KeyFormat,
    Input,
}

impl Cause {
    fn new(stage: &RunStage, change: Change) -> Self {
        let (part, name) = change.path.split_once('.').unwrap_or((&change.path, ""));
        let what = match part {
            "kind" => What::Kind,
            "params" => What::Parameter,
            "code_version" => What::CodeVersion,
            "inputs" | "members" => What::Input,
            "files" => What::File,
            "environment" => What::Environment,
            "outputs" => What::Outputs,
            _ => What::KeyFormat,
        };
        let producer = stage.inputs.iter().find(|i| what == What::Input && i.slot == name);
        Self {
            stage: stage.name.clone(),
            what,
            name: match (what, registry().kind(&stage.kind)) {
                (What::Parameter, Some(kind)) => kind.published_path(name),
                (What::Outputs, Some(kind)) => kind.published_output(name).to_owned(),
                _ => name.to_owned(),
            },
            from: producer.map(dynvis_runner::store::RunInput::producer),
            before: change.before,
            after: change.after,
        }
    }

    /// The changed thing as a line of a table names it.
    fn title(&self) -> String {
        let name = &self.name;
        match (self.what, &self.from) {
            (What::Parameter, _) => name.clone(),
            (What::Kind, _) => "kind".into(),
            (What::CodeVersion, _) => "code version".into(),
            (What::File, _) => format!("file `{name}`"),
            (What::Environment, _) => format!("environment variable {name}"),
            (What::Outputs, _) => format!("output `{name}`"),
            (What::KeyFormat, _) => "format of keys".into(),
            (What::Input, Some(from)) => format!("input `{name}` (from `{from}`)"),
            (What::Input, None) => format!("input `{name}`"),
        }
    }
}

/// Differences between what the stages of both runs were made from: those of a stage's own before those that came from
/// upstream, which are their consequences.
fn causes(a: &Side, b: &Side) -> Vec<Cause> {
    let (Some((store_a, run_a)), Some((store_b, run_b))) = (&a.run, &b.run) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for before in &run_a.stages {
        let Some(after) = run_b.stages.iter().find(|s| s.name == before.name) else {
            continue;
        };
        if let (Some(key_a), Some(key_b)) = (&before.key, &after.key)
            && key_a != key_b
            && let (Some(described_a), Some(described_b)) = (store_a.description(key_a), store_b.description(key_b))
        {
            let changes = changes(&described_a, &described_b);
            found.extend(changes.into_iter().map(|change| Cause::new(after, change)));
        }
    }
    found.sort_by_key(|cause| cause.what);
    found
}

fn causes_text(causes: &[Cause], md: bool, width: Option<usize>) -> String {
    let show = |cause: &Cause, value: &Option<Json>| match (cause.what, value) {
        (_, None) => "unset".into(),
        // Hashes of contents: enough to tell them apart.
        (What::Input | What::File, Some(Json::String(hash))) => hash.get(..12).unwrap_or(hash).to_owned(),
        (_, Some(value)) => value.to_string(),
    };
    let rows: Vec<Vec<String>> = causes
        .iter()
        .map(|c| vec![c.stage.clone(), c.title(), show(c, &c.before), show(c, &c.after)])
        .collect();
    let header = ["stage", "what changed", "first", "second"];
    if !md {
        return simple_table(&header, rows, width);
    }
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let head = line(&header.map(str::to_owned)) + "|---|---|---|---|\n";
    rows.iter().fold(head, |text, row| text + &line(row))
}
