//! The only place that prints. Data goes to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};

use dynvis_runner::pipeline::{Problem, SourceTexts, Spot};
use dynvis_runner::run::Event;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, Severity};

use super::error::CommandError;
use super::harmless::{coloured, harmless};
use super::snippet::{Snippet, readable};
use super::wording::{missing_lines, reading, reading_goes_on, wrapped};

/// Terminal, colour and width of this invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    /// Standard error is a terminal: progress bars make sense.
    pub(crate) interactive: bool,
    colour_out: bool,
    colour_err: bool,
    width: Option<usize>,
    /// Columns of the terminal that standard error is.
    width_err: Option<usize>,
}

impl Ui {
    pub(crate) fn from_environment() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let out = std::io::stdout().is_terminal();
        let err = std::io::stderr().is_terminal();
        let columns = columns_of(std::io::stdout());
        Self {
            interactive: err,
            colour_out: out && !no_colour,
            colour_err: err && !no_colour,
            width: if out { columns.or(Some(80)) } else { None },
            width_err: err.then(|| columns_of(std::io::stderr()).unwrap_or(80)),
        }
    }

    /// Columns to fit text into; `None` where output goes to a file or pipe.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Whether standard output is a terminal on which one can draw.
    pub(crate) fn has_screen(&self) -> bool {
        self.width.is_some() && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
    }

    pub(crate) fn colour_out(&self) -> bool {
        self.colour_out
    }

    pub(crate) fn colour_err(&self) -> bool {
        self.colour_err
    }

    /// Data, to standard output.
    pub(crate) fn out(&mut self, text: &str) -> Result<(), CommandError> {
        self.out_bytes(text.as_bytes())
    }

    /// Data that may be longer than the terminal: through `PAGER` (`less` unless set) there, else as it is.
    pub(crate) fn page(&mut self, text: &str) -> Result<(), CommandError> {
        let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |w| usize::from(w.ws_row));
        let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
        let long = self.width.is_some() && rows > 0 && text.lines().count() >= rows;
        if !long || pager.trim().is_empty() || !paged(&pager, text) {
            return self.out(text);
        }
        Ok(())
    }

    /// Binary data, to standard output.
    pub(crate) fn out_bytes(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::BrokenPipe => CommandError::BrokenPipe,
                _ => CommandError::Io {
                    action: "cannot write to standard output".into(),
                    source,
                },
            })
    }

    /// The same of standard error, where it is a terminal.
    pub(crate) fn width_err(&self) -> Option<usize> {
        self.width_err
    }

    /// News for the user, to standard error; on a terminal broken between words.
    pub(crate) fn status(&mut self, text: &str) {
        match self.width_err {
            Some(width) => self.status_as_it_is(&wrapped(text, width)),
            None => self.status_as_it_is(text),
        }
    }

    /// That files are read for the first time, and how far that is.
    pub(crate) fn reading(&mut self, event: &Event) {
        match event {
            Event::Reading { stage, files, bytes } => self.status(&reading(stage, *files, *bytes)),
            Event::ReadingGoesOn {
                stage,
                reading,
                seconds,
            } => self.status(&reading_goes_on(stage, reading, *seconds)),
            _ => {}
        }
    }

    /// The same of text whose lines are laid out already, or are for programs.
    pub(crate) fn status_as_it_is(&mut self, text: &str) {
        // Names, messages and lines of programs are part of it.
        let text = match self.colour_err {
            true => coloured(text),
            false => harmless(text),
        };
        // With standard error closed there is nobody left to tell.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// What is no error in a pipeline, with every place.
    pub(crate) fn warn(&mut self, notes: &[Problem], sources: &SourceTexts) {
        if !notes.is_empty() {
            let drawn = self.draw_problems(notes, sources);
            self.status_as_it_is(drawn.trim_end());
            self.status("");
        }
    }

    /// An error with its causes and hint; a broken pipeline with every place.
    pub(crate) fn error(&mut self, error: &CommandError) {
        if let CommandError::Pipeline { problems, sources, .. } = error {
            let drawn = self.draw_problems(problems, sources);
            self.status_as_it_is(drawn.trim_end());
            self.status("");
        }
        if let CommandError::MissingData(missing) = error {
            for m in missing {
                self.status(&missing_lines(m).join("\n"));
            }
        }
        self.status(&format!("{} {error}", self.paint("error:", "1;31")));
        for cause in error.causes() {
            self.status(&format!("  because: {cause}"));
        }
        if let Some(hint) = error.hint() {
            self.status(&format!("{} {hint}", self.paint("hint:", "36")));
        }
    }

    pub(crate) fn paint(&self, text: &str, code: &str) -> String {
        if self.colour_err {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Every problem with file, line, column, snippet and what helps.
    pub(crate) fn draw_problems(&self, problems: &[Problem], sources: &SourceTexts) -> String {
        let theme = if self.colour_err {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(self.width_err.or(self.width).unwrap_or(120))
            .with_links(false);
        let mut text = String::new();
        for problem in problems.iter().take(DRAWN) {
            for report in reports(problem, sources) {
                // Writing to a String cannot fail.
                let _ = handler.render_report(&mut text, report.as_ref());
            }
            text.push('\n');
        }
        if problems.len() > DRAWN {
            text += &format!("and {} more\n", problems.len() - DRAWN);
        }
        text
    }
}

/// Columns of a terminal, where it says how many.
fn columns_of(terminal: impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Whether the pager took the text; one that is not there, or fails, leaves it to be written as it is.
fn paged(pager: &str, text: &str) -> bool {
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(pager).stdin(std::process::Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // Ends by itself on one screen, keeps colours, leaves the text on the screen.
        command.env("LESS", "FRX");
    }
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    if let Some(mut input) = child.stdin.take() {
        // A reader who has seen enough closes it.
        let _ = input.write_all(text.as_bytes());
    }
    child.wait().is_ok_and(|status| status.success())
}

/// Problems that are drawn: nobody reads more at once, and drawing looks through the whole file.
const DRAWN: usize = 200;

/// The problem itself, then its other places that stand in other files.
fn reports(problem: &Problem, sources: &SourceTexts) -> Vec<miette::Report> {
    let mut diagnostic = MietteDiagnostic::new(readable(&problem.kind.to_string()));
    if problem.kind.is_warning() {
        diagnostic.severity = Some(Severity::Warning);
    }
    diagnostic.help = problem.kind.help().map(|help| readable(&help).into_owned());
    let Some(spot) = problem.spot else {
        return vec![diagnostic.into()];
    };
    let mut places = vec![(spot, "here")];
    let mut elsewhere = Vec::new();
    for (other, text) in &problem.related {
        if other.source == spot.source {
            places.push((*other, text.as_str()));
        } else {
            elsewhere.push((*other, text.as_str()));
        }
    }
    let mut found = vec![with_places(diagnostic, sources, &places)];
    for (other, text) in elsewhere {
        let diagnostic = MietteDiagnostic::new(text).with_severity(Severity::Advice);
        found.push(with_places(diagnostic, sources, &[(other, text)]));
    }
    found
}

/// The diagnostic with what stands at these places of one file, of which the first is the place in question.
fn with_places(diagnostic: MietteDiagnostic, sources: &SourceTexts, places: &[(Spot, &str)]) -> miette::Report {
    let source = sources.get(places[0].0.source);
    let ranges: Vec<_> = places.iter().map(|(spot, _)| sources.byte_range(*spot)).collect();
    let snippet = Snippet::new(&source.name, &source.text, &ranges);
    let label = |(index, (_, text)): (usize, &(Spot, &str))| {
        let (text, range) = (Some((*text).to_owned()), snippet.places[index].clone());
        match index {
            0 => LabeledSpan::new_primary_with_span(text, range),
            _ => LabeledSpan::new_with_span(text, range),
        }
    };
    let labels: Vec<LabeledSpan> = places.iter().enumerate().map(label).collect();
    miette::Report::new(diagnostic.with_labels(labels)).with_source_code(snippet)
}
