//! `dynvis diff`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dynvis_runner::pipeline::suggest;
use dynvis_runner::store::{RunRecord, RunStage, Store};
use dynvis_runner::table::{
    DiffFormat, RenderOptions, SetAside, Table, TableDiff, diff as diff_tables, render_diff, set_aside,
};
use serde_json::json;

use super::ask::Ask;
use super::causes::{causes, causes_text};
use super::error::CommandError;
use super::part::Part;
use super::tables::{StageOutput, find_tables, headline, note_old_name, read_tables, simple_table, tables_of};
use super::ui::Ui;
use super::wording::first_names;
use super::{exit, open_store, project_here};

/// Compare two runs, folders of results or table files: what they were made from, and changed, added and removed rows
#[derive(clap::Args)]
pub(crate) struct DiffArgs {
    /// `@-1`, `@`, a run's id or its first letters, a run's folder, a folder of tables, or a table file (Parquet, CSV);
    /// `@:cordsnet@dt=2` for one stage of a run or some members of a matrix, `@:cordsnet@dt=2/training` for a table
    #[arg(add = super::completions::runs_and_files())]
    a: String,
    /// Second side: as A
    #[arg(add = super::completions::runs_and_files())]
    b: String,
    /// Compare this table only: `stage`, `stage/table`, the path of a table within a folder, or the table's name where
    /// stages are compared
    #[arg(add = super::completions::tables_of_run())]
    table: Option<String>,
    /// Compare this table only; repeatable, for several tables
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    #[command(flatten)]
    ask: Ask,
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
    if a.part.is_some() != b.part.is_some() && a.run.is_some() && b.run.is_some() {
        let (part, whole) = if a.part.is_some() {
            (&args.a, &args.b)
        } else {
            (&args.b, &args.a)
        };
        return Err(CommandError::hinted(
            format!("`{part}` is a stage, `{whole}` a whole run"),
            format!("name the stage that it is compared with, too: `{whole}:STAGE`"),
        ));
    }
    let causes = match (&a.run, &b.run) {
        (Some((store_a, _)), Some((store_b, _))) => causes((store_a, store_b), &pairs(&a, &b)),
        _ => Vec::new(),
    };
    let wanted: Vec<&str> = args.table.iter().chain(&args.tables).map(String::as_str).collect();
    let names = Names::of(&a, &b, &wanted)?;
    // Once, whichever side is a run.
    if let Some((side, run)) = [&b, &a]
        .into_iter()
        .find_map(|side| Some((side, &side.run.as_ref()?.1)))
    {
        for name in &wanted {
            note_old_name(ui, name, &find_tables(run, &side.full_name(name))?);
        }
    }
    let mut lacking = Vec::new();
    let mut notes = Vec::new();
    let mut equal = 0;
    let mut tables: Vec<(String, TableDiff)> = Vec::new();
    for (name, in_a, in_b) in &names.both {
        // The same content under the same names cannot differ; nothing needs to be read, unless to see whether it has
        // what was asked for.
        let found = match args.ask.is_for_all() && a.holds_the_same(in_a, &b, in_b) {
            true => None,
            false => {
                let tables = held_against(a.read(in_a)?, b.read(in_b)?, a.part.is_some(), &mut notes);
                let parts = (args.ask.of(&tables.0, true), args.ask.of(&tables.1, true));
                let (Ok(of_a), Ok(of_b)) = parts else {
                    let error = parts.0.err().or(parts.1.err());
                    lacking.extend(error);
                    continue;
                };
                for joined in [of_a.joined, of_b.joined].into_iter().flatten() {
                    let note = format!("{name}: {joined}");
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
                Some(diff_tables(&of_a.table, &of_b.table)?).filter(|found| !found.is_empty())
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
    notes.iter().for_each(|note| ui.status(note));
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
    let pinpointed = !wanted.is_empty() || !args.ask.is_for_all();
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
            "`dynvis diff {} {} {}` shows the rows of a table (`--columns`, `--where` narrow them), `--all` those of \
             all",
            args.a,
            args.b,
            if a.part.is_some() { "TABLE" } else { "STAGE/TABLE" }
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

/// Two tables, without keys by which no row of a member can match one of another.
fn held_against(a: Table, b: Table, is_of_parts: bool, notes: &mut Vec<String>) -> (Table, Table) {
    if !is_of_parts {
        return (a, b);
    }
    let SetAside { a, b, of_a, of_b } = set_aside(&a, &b);
    if !of_a.0.is_empty() {
        let note = format!("rows are matched without {of_a} on the first side, {of_b} on the second");
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    (a, b)
}

/// One side of a comparison.
struct Side {
    /// A run's id, or the path as typed.
    label: String,
    run: Option<(Store, RunRecord)>,
    /// The stage or members of the run that alone are meant.
    part: Option<Part>,
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
            part: None,
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
        } else if let Some((run, part)) = Part::split(reference) {
            let store = open_store(cache, &project_here())?;
            let (_, run) = store.find_run(run)?;
            side.label = format!("{}:{part}", run.id);
            side.part = Some(Part::of(&run, part)?);
            side.run = Some((store, run));
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

    /// A table's name within the whole run: of a stage's table `stage/table`.
    fn full_name(&self, name: &str) -> String {
        match &self.part {
            Some(part) => format!("{}/{name}", part.stage),
            None => name.to_owned(),
        }
    }

    /// Names of all tables.
    fn names(&self) -> Vec<String> {
        match (&self.run, &self.part) {
            (Some(_), Some(part)) => part.tables.clone(),
            (Some((_, run)), None) => tables_of(run).iter().map(StageOutput::name).collect(),
            (None, _) => self.files.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// The full name of the table that a user calls so.
    fn find(&self, name: &str) -> Result<String, CommandError> {
        match &self.run {
            Some((_, run)) => find_tables(run, &self.full_name(name)).map(|_| name.to_owned()),
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
            Some((store, run)) => read_tables(&find_tables(run, &self.full_name(name))?, store),
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
        match (
            find_tables(a, &self.full_name(name)),
            find_tables(b, &other.full_name(other_name)),
        ) {
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
            // The names of a stage's own tables have none in front.
            let stages = stages.filter(|_| side.part.is_none());
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

/// The stages that are held against each other: those of the same name, or members of the stages that are compared.
fn pairs<'a>(a: &'a Side, b: &'a Side) -> Vec<(&'a RunStage, &'a RunStage)> {
    let (Some((_, run_a)), Some((_, run_b))) = (&a.run, &b.run) else {
        return Vec::new();
    };
    if let (Some(of_a), Some(of_b)) = (&a.part, &b.part) {
        return of_a.pairs(run_a, of_b, run_b);
    }
    let of_b = |before: &RunStage| run_b.stages.iter().find(|after| after.name == before.name);
    let stages = run_a.stages.iter();
    stages.filter_map(|before| Some((before, of_b(before)?))).collect()
}
