//! How a run looks while it runs: bars on a terminal, plain lines elsewhere, JSON for programs.
//! Consumers of [`Event`]; they change nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dynvis_runner::kind::Update;
use dynvis_runner::pipeline::{Pipeline, StageId};
use dynvis_runner::plan::Reason;
use dynvis_runner::run::{Event, Failure, Reporter, RunOptions};
use dynvis_runner::store::StageOutcome;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::forecast::{Forecast, SharedForecast};
use super::harmless::harmless;
use super::ui::Ui;
use super::watch::Recorder;
use super::wording::{duration, passed_over, queue_silent, reading, reading_goes_on, wrapped};

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    /// Bars on a terminal, plain lines elsewhere
    Auto,
    Bars,
    Plain,
    /// One JSON object a line, on standard error
    Json,
    None,
}

/// A reporter that also remembers what failed, to be told in full at the end, and writes down how far the run is, for
/// `watch`.
pub(crate) trait RunReporter: Reporter {
    fn failures(&self) -> Vec<(String, Failure)>;
}

pub(crate) fn reporter(ui: &Ui, style: Style, pipeline: &Pipeline, options: &RunOptions) -> Box<dyn RunReporter> {
    let bars = match style {
        Style::Auto => ui.interactive,
        Style::Bars => true,
        _ => false,
    };
    let width = pipeline.stages.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let (jobs, threads) = match &options.queue {
        // Each job has threads of its own.
        Some(queue) => (queue.jobs, queue.jobs),
        None => (options.jobs, options.threads),
    };
    let forecast = Forecast::new(pipeline, jobs, threads);
    let forecast = Arc::new(SharedForecast::new(forecast));
    let output: Box<dyn Reporter> = match style {
        _ if bars => Box::new(Bars::new(ui, width, Arc::clone(&forecast))),
        Style::Json => Box::new(Json { ui: *ui }),
        Style::None => Box::new(Silent),
        _ => Box::new(Plain { ui: *ui, width }),
    };
    Box::new(Remembering {
        output,
        recorder: Recorder::new(Arc::clone(&forecast)),
        forecast,
        failures: Vec::new(),
    })
}

struct Remembering {
    forecast: Arc<SharedForecast>,
    output: Box<dyn Reporter>,
    recorder: Recorder,
    failures: Vec<(String, Failure)>,
}

impl Reporter for Remembering {
    fn event(&mut self, event: &Event) {
        if let Event::StageFinished {
            stage,
            error: Some(error),
            ..
        } = event
        {
            self.failures.push(((*stage).to_owned(), (*error).clone()));
        }
        self.forecast.event(event);
        self.output.event(event);
        self.recorder.event(event);
    }
}

impl RunReporter for Remembering {
    fn failures(&self) -> Vec<(String, Failure)> {
        self.failures.clone()
    }
}

pub(super) fn figure((name, value): &(String, f64)) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{name} {value:.0}"),
        v if v >= 1.0 => format!("{name} {value:.2}"),
        _ => format!("{name} {value:.4}"),
    }
}

fn figures(update: &Update) -> String {
    let parts = std::iter::once(update.phase.clone()).chain(update.figures.iter().map(figure));
    parts.collect::<Vec<_>>().join("  ")
}

fn outcome_word(outcome: StageOutcome) -> &'static str {
    match outcome {
        StageOutcome::Cached => "cached",
        StageOutcome::Restored => "restored",
        StageOutcome::Ran => "done",
        StageOutcome::Failed => "FAILED",
        StageOutcome::Blocked => "blocked",
        StageOutcome::Interrupted => "interrupted",
        StageOutcome::Excluded => "excluded",
    }
}

pub(super) fn reasons_text(reasons: &[Reason]) -> String {
    let all: Vec<String> = reasons.iter().map(Reason::to_string).collect();
    match all.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, rest @ ..] => format!("{one} (and {} more)", rest.len()),
    }
}

/// Training ends after its present batch; a second Ctrl-C loses what was done since the last checkpoint, no more.
const STOPPING: &str = "stopping: training writes a checkpoint after its present batch; Ctrl-C once more to kill";

/// Lines for logs and pipes.
struct Plain {
    ui: Ui,
    width: usize,
}

impl Reporter for Plain {
    fn event(&mut self, event: &Event) {
        let width = self.width;
        match event {
            Event::Started { run, selected, .. } => {
                self.ui.status(&format!("run {run}: {selected} stages"));
            }
            Event::StageStarted {
                stage,
                reasons,
                threads,
                gpus,
                ..
            } => {
                let plural = if *threads == 1 { "" } else { "s" };
                let gpus = match gpus {
                    [] => String::new(),
                    gpus => format!(", GPU {}", gpus.join(",")),
                };
                let why = reasons_text(reasons);
                self.ui.status(&format!(
                    "{stage:width$}  start ({threads} thread{plural}{gpus}): {why}"
                ));
            }
            Event::Queued { stage, job, .. } => self.ui.status(&format!("{stage:width$}  queued as job {job}")),
            Event::QueueSilent { text } => self.ui.status(&queue_silent(text)),
            Event::Progress { stage, update, .. } => {
                if update.milestone {
                    self.ui.status(&format!("{stage:width$}  {}", figures(update)));
                }
            }
            Event::GpuPassedOver { text } => self.ui.status(&passed_over(text)),
            Event::Note { stage, text, .. } => self.ui.status(&format!("{stage:width$}  {text}")),
            Event::Reading { .. } | Event::ReadingGoesOn { .. } => self.ui.reading(event),
            Event::Waiting { stage, .. } => self.ui.status(&format!(
                "{stage:width$}  another run or stage computes the same; waiting for it"
            )),
            Event::StageFinished {
                stage,
                outcome,
                seconds,
                ..
            } => {
                if *outcome != StageOutcome::Excluded {
                    let took = seconds.map(|s| format!(" in {}", duration(s))).unwrap_or_default();
                    self.ui
                        .status(&format!("{stage:width$}  {}{took}", outcome_word(*outcome)));
                }
            }
            Event::Interrupted => self.ui.status(STOPPING),
            Event::Finished { .. } => {}
        }
    }
}

struct Silent;

impl Reporter for Silent {
    fn event(&mut self, _: &Event) {}
}

/// One object a line.
struct Json {
    ui: Ui,
}

impl Reporter for Json {
    fn event(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            self.ui.status_as_it_is(&line);
        }
    }
}

/// How a terminal's columns are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    columns: usize,
    name: usize,
    /// None where the words need the room.
    bar: usize,
}

impl Layout {
    /// `longest`: name of a stage.
    fn new(columns: usize, longest: usize) -> Self {
        Self {
            columns,
            name: longest.min(columns / 4).max(3),
            bar: if columns >= 110 { 24 } else { 0 },
        }
    }

    fn name(&self, name: &str) -> String {
        shortened(name, self.name)
    }

    /// Columns beside name and bar, of which a count such as `12/100` follows.
    fn room(&self, count: &str) -> usize {
        let bar = match self.bar {
            0 => 0,
            bar => bar + 1 + count.len() + 2,
        };
        self.columns.saturating_sub(self.name + 2 + bar)
    }

    /// Where a stage is, as many of its figures as there is room for, the first ones first, and what is left.
    fn message(&self, update: &Update, left: Option<f64>) -> String {
        let count = format!("{}/{}", update.done, update.total);
        let where_it_is = match (update.phase.as_str(), self.bar) {
            ("", 0) => format!("{count} {}", update.unit).trim_end().to_owned(),
            (phase, _) => phase.to_owned(),
        };
        let left = left.map(|seconds| format!("{} left", duration(seconds)));
        fitted(where_it_is, update.figures.iter().map(figure), left, self.room(&count))
    }
}

/// A name in so many columns, in the middle of which letters are left out where it is too long: members of a matrix
/// differ at the end.
pub(super) fn shortened(name: &str, columns: usize) -> String {
    let count = name.chars().count();
    if count <= columns {
        return format!("{name:columns$}");
    }
    let kept = columns.saturating_sub(1);
    let front = kept / 2;
    let back = count - (kept - front);
    let letters = name.chars().enumerate();
    let letters = letters.filter(|(at, _)| *at < front || *at >= back).map(|(_, c)| c);
    let mut short: String = letters.collect();
    let at = short.char_indices().nth(front).map_or(short.len(), |(at, _)| at);
    short.insert(at, '…');
    short
}

/// Where a stage is, what is left of it, and as many of its figures as there is room for, the first ones first.
pub(super) fn fitted(
    where_it_is: String,
    figures: impl Iterator<Item = String>,
    left: Option<String>,
    columns: usize,
) -> String {
    let wide = |text: &str| text.chars().count() + 2;
    let mut room = (columns + 2).saturating_sub(wide(&where_it_is));
    let left = left.filter(|left| wide(left) <= room);
    room -= left.as_deref().map_or(0, wide);
    let mut parts = vec![where_it_is];
    for figure in figures {
        if wide(&figure) > room {
            break;
        }
        room -= wide(&figure);
        parts.push(figure);
    }
    parts.extend(left);
    parts.retain(|part| !part.is_empty());
    parts.join("  ")
}

/// indicatif: one bar for the run, one for each running stage.
struct Bars {
    multi: MultiProgress,
    overall: ProgressBar,
    /// How far the reading of files outside is, until the run starts.
    reading: Option<ProgressBar>,
    running: HashMap<StageId, ProgressBar>,
    width: usize,
    layout: Layout,
    forecast: Arc<SharedForecast>,
}

impl Bars {
    fn new(ui: &Ui, width: usize, forecast: Arc<SharedForecast>) -> Self {
        let layout = Layout::new(ui.width_err().unwrap_or(80), width);
        let multi = MultiProgress::new();
        let paint = if ui.colour_err() { ".cyan" } else { "" };
        let overall = multi.add(ProgressBar::new(0));
        let name = layout.name("all");
        let shown = match layout.columns {
            0..60 => "all  {pos}/{len}  {elapsed}  {left}".to_owned(),
            columns => {
                let bar = if columns < 110 { 12 } else { 24 };
                format!("{name}  {{bar:{bar}{paint}}} {{pos}}/{{len}} stages  {{elapsed}}  {{left}}")
            }
        };
        let shown = style(&shown);
        overall.set_style(shown.with_key("left", left(Arc::clone(&forecast))));
        overall.enable_steady_tick(Duration::from_millis(500));
        Self {
            multi,
            overall,
            reading: None,
            running: HashMap::new(),
            width,
            layout,
            forecast,
        }
    }

    fn line(&self, text: &str) {
        let text = wrapped(&harmless(text), self.layout.columns);
        // A terminal that went away must not stop the run.
        let _ = self.multi.println(text);
    }

    fn end_reading(&mut self) {
        if let Some(bar) = self.reading.take() {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
    }
}

/// What is left of the run whenever its bar is drawn, looked up once a second.
fn left(forecast: Arc<SharedForecast>) -> impl Fn(&ProgressState, &mut dyn std::fmt::Write) + Clone + Send + Sync {
    let last = Arc::new(Mutex::new((None::<Instant>, String::new())));
    move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            let left = forecast.left();
            *last = (
                Some(Instant::now()),
                left.map(|left| left.to_string()).unwrap_or_default(),
            );
        }
        // There is nobody to tell.
        let _ = out.write_str(&last.1);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Reporter for Bars {
    fn event(&mut self, event: &Event) {
        let width = self.width;
        match event {
            Event::Started { run, selected, .. } => {
                self.end_reading();
                self.overall.set_length(*selected as u64);
                self.line(&format!("run {run}"));
            }
            Event::StageStarted { stage, id, reasons, .. } => {
                // One that a queue starts again has one already.
                if let Some(bar) = self.running.remove(id) {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
                let bar = self.multi.insert_before(&self.overall, ProgressBar::new(0));
                // Until it says how far it is, and some never do.
                bar.set_style(style("{prefix}  {elapsed}  {wide_msg}"));
                bar.set_prefix(self.layout.name(stage));
                bar.set_message(harmless(&reasons_text(reasons)));
                bar.enable_steady_tick(Duration::from_millis(500));
                self.running.insert(*id, bar);
            }
            Event::Progress { id, update, .. } => {
                let left = self.forecast.of_stage(*id);
                if let Some(bar) = self.running.get(id) {
                    bar.set_style(match (self.layout.bar, update.total) {
                        (_, 0) => style("{prefix}  {elapsed}  {wide_msg}"),
                        (0, _) => style("{prefix}  {wide_msg}"),
                        (bar, _) => style(&format!("{{prefix}}  {{bar:{bar}}} {{pos}}/{{len}}  {{wide_msg}}")),
                    });
                    bar.set_length(update.total);
                    bar.set_position(update.done);
                    bar.set_message(harmless(&self.layout.message(update, left)));
                }
            }
            Event::GpuPassedOver { text } => self.line(&passed_over(text)),
            Event::Queued { stage, job, .. } => self.line(&format!("{stage:width$}  queued as job {job}")),
            Event::QueueSilent { text } => self.line(&queue_silent(text)),
            Event::Note { stage, text, .. } => self.line(&format!("{stage:width$}  {text}")),
            Event::Reading { stage, files, bytes } => {
                self.line(&reading(stage, *files, *bytes));
                let bar = self.multi.insert_before(&self.overall, ProgressBar::new(0));
                bar.set_style(style("{wide_msg}"));
                self.end_reading();
                self.reading = Some(bar);
            }
            Event::ReadingGoesOn {
                stage,
                reading,
                seconds,
            } => {
                if let Some(bar) = &self.reading {
                    bar.set_message(harmless(&reading_goes_on(stage, reading, *seconds)));
                }
            }
            Event::Waiting { stage, .. } => self.line(&format!(
                "{stage:width$}  another run or stage computes the same; waiting"
            )),
            Event::StageFinished {
                stage,
                id,
                outcome,
                seconds,
                ..
            } => {
                if let Some(bar) = self.running.remove(id) {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
                if *outcome != StageOutcome::Excluded {
                    let took = seconds.map(|s| format!(" in {}", duration(s))).unwrap_or_default();
                    self.line(&format!("{stage:width$}  {}{took}", outcome_word(*outcome)));
                    self.overall.inc(1);
                }
            }
            Event::Interrupted => self.line(STOPPING),
            Event::Finished { .. } => self.overall.finish_and_clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_at_40_80_and_200_columns_cut_no_word() {
        let update = Update {
            done: 1234,
            total: 12_000,
            unit: "batches".into(),
            phase: "epoch 12/100".into(),
            figures: [
                ("cross-entropy", 0.1234),
                ("accuracy", 0.9876),
                ("objective", 1.5),
                ("images/s", 193.0),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
            milestone: false,
        };
        let expected = [
            (40, "epoch 12/100  100 s left"),
            (80, "epoch 12/100  cross-entropy 0.1234  accuracy 0.9876  100 s left"),
            (
                200,
                "epoch 12/100  cross-entropy 0.1234  accuracy 0.9876  objective 1.50  images/s 193  100 s left",
            ),
        ];
        for (columns, message) in expected {
            let layout = Layout::new(columns, "cordsnet@seed=0".len());
            assert_eq!(layout.message(&update, Some(100.0)), message, "{columns}");
            let bar = if layout.bar > 0 {
                layout.bar + "1234/12000".len() + 3
            } else {
                0
            };
            assert!(layout.name + 2 + bar + message.len() <= columns, "{columns}");
        }
        let silent = Update {
            phase: String::new(),
            figures: Vec::new(),
            ..update
        };
        assert_eq!(Layout::new(80, 15).message(&silent, None), "1234/12000 batches");
        assert_eq!(Layout::new(200, 15).message(&silent, None), "");
    }

    #[test]
    fn a_name_that_is_too_long_keeps_its_end() {
        let layout = Layout::new(80, 100);
        assert_eq!(layout.name("cordsnet@seed=0"), "cordsnet@seed=0     ");
        let name = layout.name("cordsnet@tau=10,dt=2,width=64,seed=12");
        assert_eq!(name, "cordsnet@…64,seed=12");
        assert_eq!(name.chars().count(), layout.name);
    }
}
