//! Pictures of a trained network: accuracy by delay, decoding over time, choices over the strength of evidence.

use std::collections::BTreeMap;
use std::path::Path;

use cords::assoc::{Answer, Decoded, Layout as Areas, Score, TestTrials};
use kuva::plot::annotations::ReferenceLine;
use kuva::plot::{LegendPosition, LinePlot, ScatterPlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::tables::{Function, Measured};
use crate::stage::StageError;
use crate::stage::picture::write_picture;

/// Colours that can be told apart by everybody (Wong, Nature Methods 8, 441, 2011), the strongest first.
const COLOURS: [&str; 7] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
];

/// Points of a fitted curve.
const FINE: usize = 120;

/// Writes `delays`, `decoding_VARIABLE` and `psychometric` into a folder, as SVG and PNG: those for which there is
/// something to show. Titles begin with what `network` says of it.
pub(super) fn write_pictures(
    folder: &Path,
    network: &str,
    areas: &Areas,
    measured: &Measured,
    decoded: &[Decoded],
    functions: &[Function],
) -> Result<(), StageError> {
    if let Some(delays) = delays(network, measured) {
        write_picture(folder, "delays", || delays.draw())?;
    }
    for (variable, of_variable) in by_variable(decoded) {
        let over_time = decoding(network, areas, variable, &of_variable);
        write_picture(folder, &format!("decoding_{variable}"), || over_time.draw())?;
    }
    if !functions.is_empty() {
        write_picture(folder, "psychometric", || psychometric(network, functions))?;
    }
    Ok(())
}

/// Shares with their intervals over some axis, and the chance of guessing.
struct Shares {
    title: String,
    x_label: &'static str,
    y_label: &'static str,
    chance: f64,
    series: Vec<Series>,
    /// Distance on the x axis of series whose intervals would hide each other; 0 where points are so many that
    /// intervals are bands.
    offset: f64,
    /// Places on the x axis that are named.
    marks: Vec<(f64, String)>,
}

/// A line of them.
struct Series {
    name: String,
    dashed: bool,
    /// Place among the colours.
    colour: usize,
    /// Ascending in x.
    points: Vec<(f64, Score)>,
}

impl Shares {
    fn draw(&self) -> (Vec<Plot>, Layout) {
        let mut plots = Vec::new();
        for (number, series) in self.series.iter().enumerate() {
            let Series {
                name,
                dashed,
                colour,
                points,
            } = series;
            let offset = self.offset * (number as f64 - 0.5 * (self.series.len() as f64 - 1.0));
            // Where all of it has diverged there is nothing to show.
            let shown = || {
                points
                    .iter()
                    .filter_map(|(x, score)| Some((x + offset, score.accuracy()?, score.interval)))
            };
            let xy = shown().map(|(x, share, _)| (x, share));
            let line = LinePlot::new()
                .with_data(xy)
                .with_color(COLOURS[colour % COLOURS.len()])
                .with_stroke_width(2.0)
                .with_legend(name.clone());
            let line = match self.offset > 0.0 {
                true => line.with_y_err_asymmetric(shown().map(|(_, share, interval)| arms(share, interval))),
                false => line.with_band(shown().map(|(.., [low, _])| low), shown().map(|(.., [_, high])| high)),
            };
            plots.push(Plot::Line(if *dashed { line.with_dashed() } else { line }));
        }
        let mut layout = Layout::auto_from_plots(&plots)
            .with_title(self.title.clone())
            .with_x_label(self.x_label)
            .with_y_label(self.y_label)
            .with_y_axis_min(0.0)
            // Names of marks stand above all shares.
            .with_y_axis_max(if self.marks.is_empty() { 1.0 } else { 1.1 })
            .with_y_tick_step(0.2)
            .with_legend_position(LegendPosition::OutsideRightTop)
            .with_reference_line(grey(ReferenceLine::horizontal(self.chance)).with_label("chance"));
        for (x, name) in &self.marks {
            layout = layout.with_reference_line(grey(ReferenceLine::vertical(*x)).with_label(name.clone()));
        }
        (plots, layout)
    }
}

/// From a share to the ends of its interval.
fn arms(share: f64, [low, high]: [f64; 2]) -> (f64, f64) {
    (share - low, high - share)
}

fn grey(line: ReferenceLine) -> ReferenceLine {
    line.with_color("#888888")
}

/// Accuracy over delays, trained and twice as long, of each kind of trial; none where the task has no delays.
fn delays(network: &str, measured: &Measured) -> Option<Shares> {
    let mut series = Vec::new();
    let mut kinds: Vec<String> = Vec::new();
    let parts: [(&str, bool, &TestTrials, &[Answer]); 2] = [
        ("", false, &measured.trials, measured.intact()),
        (", twice the delay", true, &measured.twice, &measured.twice_answers),
    ];
    for (suffix, dashed, trials, answers) in parts {
        let mut of_kind: BTreeMap<String, Vec<(f64, Score)>> = BTreeMap::new();
        for (delay, condition, score) in trials.by_delay_and_condition(answers) {
            of_kind.entry(condition).or_default().push((delay?, score));
        }
        for (kind, points) in of_kind {
            let colour = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind.clone());
                kinds.len() - 1
            });
            series.push(Series {
                name: format!("{kind}{suffix}"),
                dashed,
                colour,
                points,
            });
        }
    }
    let longest = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|(delay, _)| *delay)
        .fold(0.0, f64::max);
    (!series.is_empty()).then(|| Shares {
        title: format!("{network}: accuracy on test images"),
        x_label: "delay [ms]",
        y_label: "share of right answers",
        chance: measured.chance,
        series,
        // Also where there is no delay but 0.
        offset: 0.006 * longest.max(1.0),
        marks: Vec::new(),
    })
}

/// In the order in which they come.
fn by_variable(decoded: &[Decoded]) -> Vec<(&'static str, Vec<&Decoded>)> {
    let mut found: Vec<(&'static str, Vec<&Decoded>)> = Vec::new();
    for one in decoded {
        match found.iter_mut().find(|(variable, _)| *variable == one.variable) {
            Some((_, own)) => own.push(one),
            None => found.push((one.variable, vec![one])),
        }
    }
    found
}

/// What is read of a variable from each area over time; epochs are marked at the first of those times.
fn decoding(network: &str, areas: &Areas, variable: &str, decoded: &[&Decoded]) -> Shares {
    let mut of_area: BTreeMap<usize, Vec<(f64, Score)>> = BTreeMap::new();
    let mut marks: Vec<(f64, String)> = Vec::new();
    for one in decoded {
        of_area.entry(one.area).or_default().push((one.time_ms, one.score));
        if marks.last().is_none_or(|(_, epoch)| epoch != one.epoch) && one.area == decoded[0].area {
            marks.push((one.time_ms, one.epoch.to_owned()));
        }
    }
    let name = |area: usize| areas.areas.get(area).map_or_else(String::new, |area| area.name.clone());
    let chances = decoded.iter().map(|one| one.chance).sum::<f64>();
    Shares {
        title: format!("{network}: decoding of {variable}"),
        x_label: "time [ms]",
        y_label: "share decoded rightly",
        chance: chances / decoded.len() as f64,
        series: of_area
            .into_iter()
            .map(|(area, points)| Series {
                name: name(area),
                dashed: false,
                colour: area,
                points,
            })
            .collect(),
        offset: 0.0,
        marks,
    }
}

/// Choices of each kind of trial, and the fitted functions.
fn psychometric(network: &str, functions: &[Function]) -> (Vec<Plot>, Layout) {
    // Where there is but one kind, all trials are of it.
    let mut shown: Vec<&Function> = match functions {
        [first, _] => vec![first],
        _ => functions
            .iter()
            .filter(|function| function.condition != "all")
            .collect(),
    };
    // Kinds are often durations.
    let number = |function: &Function| {
        let first = function.condition.split(' ').next();
        first
            .and_then(|first| first.parse::<f64>().ok())
            .unwrap_or(f64::INFINITY)
    };
    shown.sort_by(|a, b| number(a).total_cmp(&number(b)));
    let strengths = || {
        let choices = shown.iter().flat_map(|function| &function.choices);
        choices.map(|(choices, _)| choices.strength)
    };
    let (first, last) = (
        strengths().fold(f64::INFINITY, f64::min),
        strengths().fold(f64::NEG_INFINITY, f64::max),
    );
    let mut plots = Vec::new();
    for (place, function) in shown.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        // Beside each other, so that intervals do not hide each other.
        let offset = 0.012 * (last - first) * (place as f64 - 0.5 * (shown.len() as f64 - 1.0));
        let scores = function
            .choices
            .iter()
            .filter_map(|(choices, score)| Some((choices.strength + offset, score.accuracy()?, score.interval)));
        plots.push(Plot::Scatter(
            ScatterPlot::new()
                .with_data(scores.clone().map(|(x, share, _)| (x, share)))
                .with_y_err_asymmetric(scores.map(|(_, share, interval)| arms(share, interval)))
                .with_color(colour)
                .with_size(4.0)
                .with_legend(function.condition.clone()),
        ));
        if let Some(fit) = function.fit {
            let curve = (0..=FINE).map(|i| {
                let x = first + (last - first) * i as f64 / FINE as f64;
                (x, 1.0 / (1.0 + (-(x - fit.bias) / fit.spread).exp()))
            });
            let curve = LinePlot::new()
                .with_data(curve)
                .with_color(colour)
                .with_stroke_width(2.0);
            plots.push(Plot::Line(curve));
        }
    }
    let layout = Layout::auto_from_plots(&plots)
        .with_title(format!("{network}: choices and fitted logistic functions"))
        .with_x_label("signed strength of evidence for the second choice")
        .with_y_label("share of second choices")
        .with_y_axis_min(0.0)
        .with_y_axis_max(1.0)
        .with_legend_position(LegendPosition::OutsideRightTop)
        .with_reference_line(grey(ReferenceLine::horizontal(0.5)));
    (plots, layout)
}
