//! `plot`: a figure of one's own of any result table, by a description in the pipeline.

use std::collections::BTreeMap;

use dynvis_runner::kind::AnyRefs;
use dynvis_runner::kinds::joined;
use dynvis_runner::pipeline::suggest;
use dynvis_runner::table::{Condition, DType, Role, Row, Table, TableError, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Artifact, Context, Declared, Kind, StageError, Violation};
use crate::figure::description::{Aggregate, Guide, Interval, LINES, Spread};
use crate::figure::panel::{MARKERS, STYLES};
use crate::figure::{Content, Figure, Mark, Palette, Stored, draw};

/// The file beside those that are drawn from which reports draw the figure.
pub(crate) const DESCRIPTION: &str = "figure.json";

/// The stage kind `plot`.
pub(super) struct Plot;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The table, as stage/table; stage@*/table joins those of all members of a matrix, whose fields become columns, as
    /// `stage.field` where the table has another column of that name.
    table: AnyRefs,
    /// How values are drawn.
    #[serde(default)]
    mark: Mark,
    /// Column of the horizontal axis, numbers; of a matrix its columns; none, as in a forest plot, if not given.
    #[serde(default)]
    x: Option<String>,
    /// Column or columns of the values, numbers; of a forest plot they lie on the horizontal axis, of a matrix they are
    /// the colours.
    y: Names,
    /// Rows of a matrix, a column of numbers; none, as in all other figures, if not given.
    #[serde(default)]
    rows: Option<String>,
    /// Columns that tell curves apart by colour. Without `colour`, all key columns do so that differ and have no other
    /// part; with it, key columns that have none are an error.
    #[serde(default)]
    colour: Names,
    /// Column that tells curves apart by markers and dashes; none, if not given.
    #[serde(default)]
    style: Option<String>,
    /// Columns with a panel for each of their values.
    #[serde(default)]
    facet: Names,
    /// Key columns over whose rows `aggregate` is taken, beside seeds and trials that have no other part.
    #[serde(default)]
    over: Names,
    /// What is drawn of rows that make one point.
    #[serde(default)]
    aggregate: Aggregate,
    /// Band around rows that make one point.
    #[serde(default)]
    interval: Spread,
    /// Columns with the interval of a single row: its lower and upper ends, or one column for plus and minus.
    #[serde(default)]
    interval_columns: Names,
    /// What `interval_columns` are, for the legend; what their columns say, if not given.
    #[serde(default)]
    interval_meaning: Option<String>,
    /// Rows that are drawn, those in which all of these hold: `network=CNN-R2`, `level>0.5`, `tau=` (missing).
    #[serde(default, rename = "where")]
    conditions: Names,
    /// Above the figure.
    #[serde(default)]
    title: String,
    /// Below the figure in reports, and as the description of its files.
    #[serde(default)]
    caption: String,
    /// Beside the horizontal axis; what the column is called, with its unit, if not given.
    #[serde(default)]
    x_label: Option<String>,
    /// Beside the axis of the values; what the first column is called, with its unit, if not given.
    #[serde(default)]
    y_label: Option<String>,
    /// Ends of the axis of the values; those of the data if not given.
    #[serde(default)]
    y_range: Option<[f64; 2]>,
    /// Whether the horizontal axis is logarithmic. Of a forest plot it is the axis of the values: `log_y`.
    #[serde(default)]
    log_x: bool,
    /// Whether the axis of the values is logarithmic.
    #[serde(default)]
    log_y: bool,
    /// Lines across at values of y, with what they are: `{chance: 0.1}`.
    #[serde(default)]
    lines: BTreeMap<String, f64>,
    /// Other texts for the values of columns: `{models: {phased: trained in phases, direct: trained directly}}`.
    #[serde(default)]
    labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Panels side by side; as many as fit a page, if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 12))]
    columns: Option<usize>,
}

/// A name or several.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Names {
    fn all(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    fn texts(&self) -> Vec<&str> {
        self.all().iter().map(String::as_str).collect()
    }
}

/// What is drawn: every point of the figure
#[derive(Row)]
#[table(name = "points")]
struct Drawn {
    /// Number of the panel, from 0
    #[column(key)]
    panel: usize,
    /// Number of the curve in it, from 0
    #[column(key)]
    curve: usize,
    /// Number of the point on it, from 0
    #[column(key)]
    point: usize,
    /// What the panel is of; empty where there is one
    facet: String,
    /// What the legend calls the curve
    label: String,
    /// Where it stands on the horizontal axis; none in a forest plot
    x: Option<f64>,
    /// The value; of several rows what `aggregate` says
    y: f64,
    /// Of a matrix the value of the row
    row: Option<f64>,
    /// Lower end of the band or bar
    low: Option<f64>,
    /// Upper end of the band or bar
    high: Option<f64>,
    /// Rows of the table behind it
    n: usize,
}

impl Kind for Plot {
    type Params = Params;
    const NAME: &'static str = "plot";
    const SUMMARY: &'static str = "a figure of any result table, as SVG, PDF and PNG";
    const CODE_VERSION: u32 = 1;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always(
            "figure",
            Artifact::FILES,
            "figure.svg, figure.pdf, figure.png with 300 dots to the inch, and figure.json, from which reports draw it",
        ),
        Declared::table::<Drawn>("every point of the figure"),
    ];
    const SEES_GROUPS: bool = true;
    const SEES_REPETITIONS: bool = true;
    const SEES_NAMES: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        params.violations()
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let slots = match &params.table {
            AnyRefs::One(slot) => std::slice::from_ref(slot),
            AnyRefs::Members(slots) => slots,
        };
        let table = joined(context, slots)?;
        let (table, conditions) = params.prepared(table)?;
        params.fits(&table)?;
        let parts = params.parts(&table);
        let figure = params.figure(&parts);
        let mut palette = Palette::default();
        palette.meet_networks(&table);
        let Some(content) = figure.content(&table, false, &mut palette) else {
            let what = match conditions.is_empty() {
                true => "the table has no row with numbers in these columns".to_owned(),
                false => format!(
                    "no row of the table with {} has numbers in these columns",
                    conditions.join(", ")
                ),
            };
            return Err(StageError::new(format!("there is nothing to draw: {what}")));
        };
        if !params.interval_columns.all().is_empty() && points(&content).any(|point| point.n > 1) {
            let over = if content.over.is_empty() {
                "no key tells them apart".to_owned()
            } else {
                content.over.join(", ")
            };
            return Err(
                StageError::new("`interval_columns` are of single rows, and points are of several").hint(format!(
                    "rows differ in what they are aggregated over ({over}): give those columns another part, keep one \
                     value with `where`, or leave `interval_columns` out for `interval`"
                )),
            );
        }
        for left_out in &content.left_out {
            context.note(format!("not drawn: {left_out}"));
        }
        for undrawn in content.undrawn() {
            context.note(undrawn);
        }
        let styles = content
            .panels
            .iter()
            .flat_map(|panel| &panel.curves)
            .map(|curve| curve.style + 1);
        let styles = styles.max().unwrap_or(0);
        let most = if params.mark == Mark::Points { MARKERS } else { STYLES };
        if styles > most && matches!(params.mark, Mark::Lines | Mark::Points) {
            return Err(
                StageError::new(format!("`style` tells {most} values apart, and there are {styles}"))
                    .hint("give the column to `colour` or `facet`, or keep fewer of its values with `where`"),
            );
        }
        let drawn = draw(&figure, &content, params.columns).map_err(StageError::new)?;
        let folder = context.output("figure")?;
        for (ending, bytes) in drawn.files() {
            fs_err::write(folder.join(format!("figure.{ending}")), bytes)?;
        }
        let stored = Stored::new(&figure, content);
        let json = serde_json::to_string(&stored).map_err(|error| StageError::new(error.to_string()))?;
        fs_err::write(folder.join(DESCRIPTION), json)?;
        context.write_rows("points", rows(stored.content(), params.mark))
    }
}

fn points(content: &Content) -> impl Iterator<Item = &crate::figure::description::Point> {
    let curves = content.panels.iter().flat_map(|panel| &panel.curves);
    curves.flat_map(|curve| &curve.points)
}

fn rows(content: &Content, mark: Mark) -> Vec<Drawn> {
    let mut rows = Vec::new();
    for (panel_number, panel) in content.panels.iter().enumerate() {
        for (curve_number, curve) in panel.curves.iter().enumerate() {
            for (number, point) in curve.points.iter().enumerate() {
                rows.push(Drawn {
                    panel: panel_number,
                    curve: curve_number,
                    point: number,
                    facet: panel.title.clone(),
                    label: curve.label.clone(),
                    x: (mark != Mark::Forest).then_some(point.x),
                    y: point.y,
                    row: (mark == Mark::Matrix).then_some(point.row),
                    low: point.interval.map(|[low, _]| low),
                    high: point.interval.map(|[_, high]| high),
                    n: point.n,
                });
            }
        }
    }
    rows
}

/// What a description borrows.
struct Parts<'a> {
    y: Vec<(&'a str, &'a str)>,
    colour: Vec<&'a str>,
    facet: Vec<&'a str>,
    over: Vec<&'a str>,
    interval_columns: Vec<&'a str>,
    interval_meaning: String,
    lines: Vec<Guide<'a>>,
}

impl Params {
    /// Rules that a schema cannot state.
    fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut say = |parameter: &'static str, message: &str| found.push(Violation::new(parameter, message));
        match (self.mark, &self.x) {
            (Mark::Forest, Some(_)) => say("x", "a forest plot has no `x`: its values lie on the horizontal axis"),
            (Mark::Forest, None) | (_, Some(_)) => {}
            (_, None) => say("mark", "`x` is needed: which column is on the horizontal axis?"),
        }
        match (self.mark, &self.rows) {
            (Mark::Matrix, None) => say("mark", "a matrix needs `rows`: which column is on the vertical axis?"),
            (Mark::Matrix, Some(_)) | (_, None) => {}
            (_, Some(_)) => say("rows", "only a matrix (`mark: matrix`) has `rows`"),
        }
        if self.y.all().is_empty() {
            say("y", "name at least one column");
        }
        if self.mark == Mark::Matrix && self.y.all().len() > 1 {
            say("y", "a matrix shows one column");
        }
        if self.mark == Mark::Matrix && (self.log_y || self.y_range.is_some()) {
            let parameter = if self.log_y { "log_y" } else { "y_range" };
            say(
                parameter,
                "the colours of a matrix go evenly from its smallest to its largest value",
            );
        }
        if self.mark == Mark::Forest && self.log_x {
            say(
                "log_x",
                "the horizontal axis of a forest plot is that of its values: `log_y`",
            );
        }
        if !self.interval_columns.all().is_empty() && self.interval != Spread::default() {
            say(
                "interval",
                "this is of several rows, and `interval_columns` are of single ones: leave one of them out",
            );
        }
        if self.interval_columns.all().len() > 2 {
            say(
                "interval_columns",
                "name one column, for plus and minus, or two, for the lower and the upper end",
            );
        }
        if !self.interval_columns.all().is_empty() && self.y.all().len() > 1 {
            say(
                "interval_columns",
                "with several columns in `y` it cannot be told of which these are",
            );
        }
        if self.aggregate == Aggregate::Median && matches!(self.interval, Spread::StandardError | Spread::Confidence) {
            say(
                "interval",
                "this is an interval of a mean: with `aggregate: median` use quartiles or range",
            );
        }
        if self
            .y_range
            .is_some_and(|[low, high]| !(low < high && low.is_finite() && high.is_finite()))
        {
            say("y_range", "the first number has to be below the second");
        }
        if self.log_y && self.y_range.is_some_and(|[low, _]| low <= 0.0) {
            say("y_range", "a logarithmic axis (`log_y`) begins above 0");
        }
        for (place, condition) in self.conditions.all().iter().enumerate() {
            if let Err(message) = condition.parse::<Condition>() {
                let parameter = match &self.conditions {
                    Names::One(_) => "where".to_owned(),
                    Names::Several(_) => format!("where.{place}"),
                };
                found.push(Violation::new(parameter, message));
            }
        }
        let mut parts: Vec<(&'static str, &str)> = Vec::new();
        parts.extend(self.x.iter().map(|name| ("x", name.as_str())));
        parts.extend(self.rows.iter().map(|name| ("rows", name.as_str())));
        parts.extend(self.style.iter().map(|name| ("style", name.as_str())));
        for (parameter, names) in [("colour", &self.colour), ("facet", &self.facet), ("over", &self.over)] {
            parts.extend(names.all().iter().map(|name| (parameter, name.as_str())));
        }
        for (place, (parameter, name)) in parts.iter().enumerate() {
            if let Some((other, _)) = parts[..place].iter().find(|(_, other)| other == name) {
                let message = match parameter == other {
                    true => format!("`{name}` stands there twice"),
                    false => format!("`{name}` has a part already: `{other}`"),
                };
                found.push(Violation::new(*parameter, message));
            }
        }
        let ys = self.y.all();
        if let Some((_, twice)) = ys.iter().enumerate().find(|(place, name)| ys[..*place].contains(name)) {
            found.push(Violation::new("y", format!("`{twice}` stands there twice")));
        }
        found
    }

    /// The rows that are drawn, with the texts that the pipeline gives for values; and the conditions in words.
    fn prepared(&self, table: Table) -> Result<(Table, &[String]), StageError> {
        let conditions = self.conditions.all();
        // `check` has parsed them before.
        let parsed: Vec<Condition> = conditions.iter().filter_map(|text| text.parse().ok()).collect();
        let mut table = table.filtered(&parsed)?;
        for (column, texts) in &self.labels {
            let known: Vec<String> = table.column(column)?.iter().map(Value::to_string).collect();
            if let Some(unknown) = texts.keys().find(|value| !known.contains(value)) {
                let mut there: Vec<&String> = known.iter().collect();
                there.sort();
                there.dedup();
                let there: Vec<String> = there.into_iter().take(20).map(|value| format!("`{value}`")).collect();
                return Err(
                    StageError::new(format!("`labels`: no row has `{unknown}` in column `{column}`"))
                        .hint(format!("it has {}", there.join(", "))),
                );
            }
            let called = |value: &String| texts.get(value).unwrap_or(value).clone();
            let mut names: BTreeMap<String, &String> = BTreeMap::new();
            for value in &known {
                if let Some(other) = names.insert(called(value), value).filter(|other| *other != value) {
                    let text = format!(
                        "`labels`: `{other}` and `{value}` of column `{column}` would both be called `{}`",
                        called(value)
                    );
                    return Err(StageError::new(text)
                        .hint("their rows would be drawn as one: aggregate over a column with `over`, or call them differently"));
                }
            }
            table = table.relabelled(column, |value| texts.get(&value.to_string()).cloned())?;
        }
        Ok((table, conditions))
    }

    /// What of the description does not fit the table.
    fn fits(&self, table: &Table) -> Result<(), StageError> {
        let there = |parameter: &str, name: &str| -> Result<(), StageError> {
            let Err(error) = table.column(name) else { return Ok(()) };
            if !matches!(error, TableError::UnknownColumn { .. }) {
                return Err(error.into());
            }
            let names = table.schema().columns.iter().map(|column| column.name.as_str());
            let names: Vec<&str> = names.collect();
            let meant = suggest(name, names.iter().copied()).map(|meant| format!("did you mean `{meant}`? "));
            let hint = format!("{}it has {}", meant.unwrap_or_default(), names.join(", "));
            Err(StageError::new(format!("`{parameter}`: the table has no column `{name}`")).hint(hint))
        };
        let number =
            |parameter: &str, name: &str| -> Result<(), StageError> {
                there(parameter, name)?;
                let column = &table.schema().columns[table.schema().position(name).unwrap_or_default()];
                if column.dtype.is_number() {
                    return Ok(());
                }
                Err(StageError::new(format!("`{parameter}`: column `{name}` holds no numbers")).hint(match parameter {
                "x" => "names go to `colour`, `style` or `facet`; with `mark: forest` they stand one below the other",
                _ => "name a column of numbers; `dynvis show STAGE/TABLE` shows them",
            }))
            };
        for (parameter, names) in [
            ("x", self.x.as_slice()),
            ("rows", self.rows.as_slice()),
            ("y", self.y.all()),
            ("interval_columns", self.interval_columns.all()),
        ] {
            names.iter().try_for_each(|name| number(parameter, name))?;
        }
        let apart = self.colour.all().iter().chain(self.facet.all()).chain(&self.style);
        for (parameter, names) in [
            ("colour", self.colour.all()),
            ("facet", self.facet.all()),
            ("style", self.style.as_slice()),
            ("over", self.over.all()),
        ] {
            names.iter().try_for_each(|name| there(parameter, name))?;
        }
        for name in apart {
            let column = &table.schema().columns[table.schema().position(name).unwrap_or_default()];
            if column.dtype == DType::Float && column.role != Role::Key {
                return Err(
                    StageError::new(format!("`{name}` is a measured number, and tells no curves apart"))
                        .hint("put it on an axis"),
                );
            }
        }
        let parts = self.parts(table);
        let untold = self.figure(&parts).untold(table);
        if !self.colour.all().is_empty() && !untold.is_empty() {
            return Err(StageError::new(format!(
                "rows differ in {} too, which have no part in the figure",
                untold.join(", ")
            ))
            .hint("give them to colour, style, facet or over, or keep one value of each with `where`"));
        }
        Ok(())
    }

    fn parts<'a>(&'a self, table: &Table) -> Parts<'a> {
        let several = self.y.all().len() > 1;
        let y = self
            .y
            .all()
            .iter()
            .map(|name| (name.as_str(), if several { name.as_str() } else { "" }));
        let said = |name: &String| {
            let place = table.schema().position(name)?;
            let description = &table.schema().columns[place].description;
            Some(if description.is_empty() {
                name.clone()
            } else {
                description.clone()
            })
        };
        let meaning = self
            .interval_meaning
            .clone()
            .or_else(|| match self.interval_columns.all() {
                [one] => Some(format!("plus and minus: {}", said(one)?)),
                [low, high] => Some(format!("{}; {}", said(low)?, said(high)?)),
                _ => None,
            });
        Parts {
            y: y.collect(),
            colour: self.colour.texts(),
            facet: self.facet.texts(),
            over: self.over.texts(),
            interval_columns: self.interval_columns.texts(),
            interval_meaning: meaning.unwrap_or_default(),
            lines: self.lines.iter().map(|(name, at)| self.line(name, *at)).collect(),
        }
    }

    /// A line at a value of y; of a forest plot that is the horizontal axis.
    fn line<'a>(&self, name: &'a str, at: f64) -> Guide<'a> {
        match self.mark {
            Mark::Forest => Guide::Vertical(at, name),
            _ => Guide::Horizontal(at, name),
        }
    }

    fn figure<'a>(&'a self, parts: &'a Parts<'a>) -> Figure<'a> {
        Figure {
            title: &self.title,
            caption: &self.caption,
            mark: self.mark,
            x: self.x.as_deref().unwrap_or_default(),
            x_label: self.x_label.as_deref().unwrap_or_default(),
            y: &parts.y,
            y_label: self.y_label.as_deref().unwrap_or_default(),
            rows: self.rows.as_deref().unwrap_or_default(),
            interval: match parts.interval_columns.as_slice() {
                [around] => Interval::Around(around, &parts.interval_meaning),
                [low, high] => Interval::Ends(low, high, &parts.interval_meaning),
                _ => Interval::None,
            },
            aggregate: self.aggregate,
            spread: self.interval,
            facet: &parts.facet,
            colour: &parts.colour,
            style: self.style.as_deref().unwrap_or_default(),
            over: &parts.over,
            y_range: self.y_range,
            is_log_x: self.log_x,
            is_log_y: self.log_y,
            guides: &parts.lines,
            ..LINES
        }
    }
}
