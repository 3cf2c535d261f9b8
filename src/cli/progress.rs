//! How a run looks while it runs: bars on a terminal, plain lines elsewhere, JSON for programs.
//! Consumers of [`Event`]; they change nothing.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::harmless::harmless;
use super::ui::Ui;
use super::wording::{duration, reading};
use crate::pipeline::{Pipeline, StageId};
use crate::plan::Reason;
use crate::run::{Event, Failure, Reporter};
use crate::stage::Update;
use crate::store::StageOutcome;

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

/// A reporter that also remembers what failed, to be told in full at the end.
pub(crate) trait RunReporter: Reporter {
    fn failures(&self) -> Vec<(String, Failure)>;
}

pub(crate) fn reporter(ui: &Ui, style: Style, pipeline: &Pipeline) -> Box<dyn RunReporter> {
    let bars = match style {
        Style::Auto => ui.interactive,
        Style::Bars => true,
        _ => false,
    };
    let width = pipeline.stages.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let output: Box<dyn Reporter> = match style {
        _ if bars => Box::new(Bars::new(width, ui.colour_err())),
        Style::Json => Box::new(Json { ui: *ui }),
        Style::None => Box::new(Silent),
        _ => Box::new(Plain { ui: *ui, width }),
    };
    Box::new(Remembering {
        output,
        failures: Vec::new(),
    })
}

struct Remembering {
    output: Box<dyn Reporter>,
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
        self.output.event(event);
    }
}

impl RunReporter for Remembering {
    fn failures(&self) -> Vec<(String, Failure)> {
        self.failures.clone()
    }
}

fn figures(update: &Update) -> String {
    let mut text = update.phase.clone();
    for (name, value) in &update.figures {
        let value = match value.abs() {
            v if v >= 100.0 => format!("{value:.0}"),
            v if v >= 1.0 => format!("{value:.2}"),
            _ => format!("{value:.4}"),
        };
        text += &format!("  {name} {value}");
    }
    text
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

fn reasons_text(reasons: &[Reason]) -> String {
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
            Event::Progress { stage, update, .. } => {
                if update.milestone {
                    self.ui.status(&format!("{stage:width$}  {}", figures(update)));
                }
            }
            Event::Note { stage, text, .. } => self.ui.status(&format!("{stage:width$}  {text}")),
            Event::Reading { stage, files, bytes } => self.ui.status(&reading(stage, *files, *bytes)),
            Event::Waiting { stage, .. } => self.ui.status(&format!(
                "{stage:width$}  another run computes the same; waiting for it"
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
            self.ui.status(&line);
        }
    }
}

/// indicatif: one bar for the run, one for each running stage.
struct Bars {
    multi: MultiProgress,
    overall: ProgressBar,
    running: HashMap<StageId, ProgressBar>,
    width: usize,
}

impl Bars {
    fn new(width: usize, colour: bool) -> Self {
        let multi = MultiProgress::new();
        let paint = if colour { ".cyan" } else { "" };
        let overall = multi.add(ProgressBar::new(0));
        overall.set_style(style(&format!(
            "{{prefix:{width}}}  {{bar:24{paint}}} {{pos}}/{{len}} stages  {{elapsed}}  {{msg}}"
        )));
        overall.set_prefix("all");
        overall.enable_steady_tick(Duration::from_millis(500));
        Self {
            multi,
            overall,
            running: HashMap::new(),
            width,
        }
    }

    fn line(&self, text: &str) {
        // A terminal that went away must not stop the run.
        let _ = self.multi.println(harmless(text));
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
                self.overall.set_length(*selected as u64);
                self.line(&format!("run {run}"));
            }
            Event::StageStarted { stage, id, reasons, .. } => {
                let bar = self.multi.insert_before(&self.overall, ProgressBar::new(0));
                bar.set_style(style(&format!(
                    "{{prefix:{width}}}  {{bar:24}} {{pos}}/{{len}}  {{msg}}  eta {{eta}}"
                )));
                bar.set_prefix((*stage).to_owned());
                bar.set_message(harmless(&reasons_text(reasons)));
                self.running.insert(*id, bar);
            }
            Event::Progress { id, update, .. } => {
                if let Some(bar) = self.running.get(id) {
                    let first = bar.position() == 0;
                    bar.set_length(update.total);
                    bar.set_position(update.done);
                    if first {
                        // What an earlier run did says nothing about the speed of this one.
                        bar.reset_eta();
                    }
                    bar.set_message(harmless(&figures(update)));
                }
            }
            Event::Note { stage, text, .. } => self.line(&format!("{stage:width$}  {text}")),
            Event::Reading { stage, files, bytes } => self.line(&reading(stage, *files, *bytes)),
            Event::Waiting { stage, .. } => {
                self.line(&format!("{stage:width$}  another run computes the same; waiting"))
            }
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
