//! `dynvis report`: a run, or two side by side, as one HTML file that loads nothing.
//!
//! Figures are drawn here as SVG from stored tables; what was decided against stands in `docs/design/report.md`.

mod data_table;
mod draw;
mod graph;
mod html;
mod networks;
mod page;
mod pictures;
mod results;
mod runs;

use std::path::{Path, PathBuf};

use dynvis_runner::store::{RunRecord, RunStage, Store};
use dynvis_runner::table::Value;
use indexmap::IndexMap;

pub(super) use page::colours;
pub(super) use pictures::pictures_in;
pub(super) use results::stored_figure;
use results::{each_figure, stored_figures};

use super::error::CommandError;
use super::files::write;
use super::tables::{StageOutput, read_tables};
use super::ui::Ui;
use super::wording::size;
use super::{completions, open_store, project_here};
use crate::figure::panel::Look;
use crate::figure::{Content, Drawn, Figure, draw, draw_network};
use dynvis_runner::kind::Artifact;
use dynvis_runner::table::Table;
use networks::networks;

/// Write a run, or two side by side, as one HTML file that opens without a network
///
/// The file holds the graph of stages with states and times, what ran and why, parameters, provenance, every table
/// (to sort, filter and save as CSV), figures with the numbers behind their points, stored pictures, and the texts of
/// the pipeline's `report` section. What there is no room for is named, with the command that prints it.
#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters
    #[arg(default_value = "@", add = completions::runs())]
    run: String,
    /// A second run, to stand beside the first: `dynvis report @-1 @`
    #[arg(add = completions::runs())]
    other: Option<String>,
    /// File to write [default: `report-RUN.html` in this folder]
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// Size of the file at most, in MB
    #[arg(long, value_name = "MB", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=1000))]
    max_size: u64,
}

/// A run of the report.
struct Side {
    folder: PathBuf,
    run: RunRecord,
}

/// A stage as the pipeline writes it, with its members in each run.
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    /// One list for each run.
    members: Vec<Vec<&'a RunStage>>,
}

/// The runs with all that belongs to them.
struct Runs<'a> {
    store: &'a Store,
    sides: &'a [Side],
    families: Vec<Family<'a>>,
}

impl<'a> Runs<'a> {
    fn new(store: &'a Store, sides: &'a [Side]) -> Self {
        // The last run says in which order.
        let mut families: IndexMap<&str, Family<'_>> = IndexMap::new();
        for (place, side) in sides.iter().enumerate().rev() {
            for stage in &side.run.stages {
                let family = families.entry(&stage.family).or_insert_with(|| Family {
                    name: &stage.family,
                    kind: &stage.kind,
                    members: vec![Vec::new(); sides.len()],
                });
                family.members[place].push(stage);
            }
        }
        Self {
            store,
            sides,
            families: families.into_values().collect(),
        }
    }

    /// The run that the report is about: the second, where there are two.
    fn last(&self) -> &'a RunRecord {
        &self.sides[self.sides.len() - 1].run
    }

    fn are_two(&self) -> bool {
        self.sides.len() > 1
    }

    /// How commands name the runs, `RUN` or `RUN OTHER`.
    fn names(&self) -> String {
        let names: Vec<&str> = self.sides.iter().map(|side| side.run.id.as_str()).collect();
        names.join(" ")
    }
}

impl<'a> Family<'a> {
    /// Every member of any run.
    fn all(&self) -> impl Iterator<Item = &'a RunStage> {
        self.members.iter().flatten().copied()
    }

    /// Slots of outputs for which `wanted` holds, each once, in the order in which the kind declares them.
    fn slots(&self, wanted: impl Fn(Artifact) -> bool) -> Vec<&'a str> {
        let mut slots: Vec<&str> = Vec::new();
        for output in self.all().flat_map(|stage| &stage.outputs) {
            if wanted(output.artifact) && !slots.contains(&output.slot.as_str()) {
                slots.push(&output.slot);
            }
        }
        slots
    }

    /// The members' outputs of a slot, for each run.
    fn outputs(&self, slot: &'a str) -> Vec<Vec<StageOutput<'a>>> {
        let has = |stage: &RunStage| stage.outputs.iter().any(|output| output.slot == slot);
        let of_run = |members: &Vec<&'a RunStage>| {
            let own = members.iter().copied().filter(|stage| has(stage));
            own.map(|stage| StageOutput { stage, slot }).collect()
        };
        self.members.iter().map(of_run).collect()
    }
}

/// A table of all members of a family, of both runs with a column `run` in front where they differ.
struct Stacked {
    table: Table,
    /// Whether it is of two runs that differ in it.
    is_of_two: bool,
}

/// Whether two runs hold the same in a slot.
fn is_equal(a: &[StageOutput<'_>], b: &[StageOutput<'_>]) -> bool {
    let alike = |(a, b): (&StageOutput<'_>, &StageOutput<'_>)| {
        a.stage.name == b.stage.name && a.content() == b.content() && a.labels() == b.labels()
    };
    a.len() == b.len() && a.iter().zip(b).all(alike)
}

/// Reads a table of all members.
fn stacked(runs: &Runs<'_>, outputs: &[Vec<StageOutput<'_>>]) -> Result<Stacked, CommandError> {
    let read = |found: &[StageOutput<'_>]| read_tables(found, runs.store);
    let one = |found: &[StageOutput<'_>]| -> Result<Stacked, CommandError> {
        Ok(Stacked {
            table: read(found)?,
            is_of_two: false,
        })
    };
    match outputs {
        [first, second] if second.is_empty() => one(first),
        [first, second] if first.is_empty() || is_equal(first, second) => one(second),
        [first, second] => {
            let member = |found: &[StageOutput<'_>], side: usize| {
                let id = Value::from(runs.sides[side].run.id.as_str());
                Ok::<_, CommandError>((vec![("run".to_owned(), id)], read(found)?))
            };
            Ok(Stacked {
                table: Table::stack("run", &[member(first, 0)?, member(second, 1)?])?,
                is_of_two: true,
            })
        }
        [found] => one(found),
        _ => Err(CommandError::user("a report is of one run or of two")),
    }
}

/// A figure as files, drawn of all members of a stage.
pub(super) struct FigureFiles {
    /// The stage as the pipeline writes it.
    pub(super) family: String,
    pub(super) title: String,
    pub(super) caption: String,
    /// What bands and bars are, and what is not drawn.
    pub(super) notes: Vec<String>,
    pub(super) drawn: Drawn,
}

/// Draws every figure of a run and hands it on.
pub(super) fn figure_files(
    store: &Store,
    folder: &Path,
    run: &RunRecord,
    mut take: impl FnMut(FigureFiles) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let sides = [Side {
        folder: folder.to_owned(),
        run: run.clone(),
    }];
    let runs = Runs::new(store, &sides);
    for family in &runs.families {
        for found in networks(&runs, family) {
            let network = found.drawn(Look::Paper);
            let drawn = draw_network(&found.title, &found.caption, &network)
                .map_err(|why| CommandError::user(format!("{} of `{}`: {why}", found.title, family.name)))?;
            take(FigureFiles {
                family: family.name.to_owned(),
                title: found.title,
                caption: found.caption,
                notes: Vec::new(),
                drawn,
            })?;
        }
    }
    let mut one = |family: &str, figure: &Figure<'_>, content: &Content| {
        let drawn = draw(figure, content, None).map_err(|why| {
            CommandError::user(format!(
                "the figure \u{201c}{}\u{201d} of `{family}`: {why}",
                figure.title
            ))
        })?;
        let left_out = content.left_out.iter().map(|text| format!("Not drawn: {text}."));
        let intervals = content.intervals.iter().map(|text| format!("Bands and bars: {text}."));
        take(FigureFiles {
            family: family.to_owned(),
            title: match figure.title {
                "" => family.to_owned(),
                title => title.to_owned(),
            },
            caption: content.caption(figure),
            notes: intervals.chain(left_out).collect(),
            drawn,
        })
    };
    for family in &runs.families {
        for stored in stored_figures(&runs, family) {
            stored.with_figure(|figure, content| one(family.name, figure, content))?;
        }
    }
    each_figure(&runs, one)
}

pub(crate) fn report(ui: &mut Ui, cache: Option<&Path>, args: &ReportArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let mut sides = Vec::new();
    for reference in [Some(&args.run), args.other.as_ref()].into_iter().flatten() {
        let (folder, run) = super::find_run(ui, &store, reference)?;
        sides.push(Side { folder, run });
    }
    let runs = Runs::new(&store, &sides);
    let out = args.out.clone().unwrap_or_else(|| {
        let ids: Vec<&str> = sides.iter().map(|side| side.run.id.as_str()).collect();
        PathBuf::from(format!("report-{}.html", ids.join("-")))
    });
    let room = usize::try_from(args.max_size.saturating_mul(1_000_000)).unwrap_or(usize::MAX);
    let page = page::page(&runs, room)?;
    write(&out, page.html.as_bytes())?;
    ui.out(&format!("{}\n", out.display()))?;
    ui.status(&format!(
        "{}: {} tables, {} figures, {} pictures",
        size(page.html.len() as u64),
        page.tables,
        page.figures,
        page.pictures
    ));
    if page.left_out > 0 {
        ui.status(&format!(
            "{} of these are not or not all in the file, which says so at each; `--max-size` gives more room",
            page.left_out
        ));
    }
    Ok(0)
}
