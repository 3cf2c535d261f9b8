//! A view as rows of a terminal.

use super::chart::{self, FRAME};
use super::sheet::{BOLD, PLAIN, SOFT, Sheet, Style};
use super::view::{Failed, Running, State, Training, View};
use crate::cli::progress::{figure, fitted, shortened};
use crate::cli::wording::{duration, wrapped};

const GOOD: Style = "32";
const BAD: Style = "1;31";
const ODD: Style = "33";
const BAR: Style = "36";

/// Rows of curves where there is no end to rows, and the fewest and most on a terminal; odd, so that one is the middle.
const ROWS: usize = 9;
const FEWEST_ROWS: usize = 5;
const MOST_ROWS: usize = 17;
/// Trainings that are drawn where there is no end to rows.
const DRAWN: usize = 4;
/// Columns from which two charts stand side by side.
const SIDE_BY_SIDE: usize = 60;

/// `height`: rows of the terminal; where there are none, as many as it takes.
pub(super) fn sheet(view: &View, width: usize, height: Option<usize>) -> Sheet {
    let mut sheet = Sheet::new(width.max(1));
    heading(&mut sheet, view);
    sheet.add("", PLAIN);
    let room = height.map(|height| (height / 3).max(2));
    stages(&mut sheet, view, room);
    for failed in &view.failed {
        failure(&mut sheet, failed);
    }
    if view.more_failed > 0 {
        sheet.add(&format!("and {} more failed", view.more_failed), BAD);
    }
    let below = below(view, sheet.width);
    charts(
        &mut sheet,
        &view.trainings,
        height.map(|height| height.saturating_sub(below.len() + 1)),
    );
    if !below.is_empty() {
        sheet.add("", PLAIN);
    }
    for (text, style) in below {
        sheet.add(&text, style);
    }
    sheet
}

fn add_wrapped(sheet: &mut Sheet, text: &str, style: Style) {
    for text in wrapped(text, sheet.width).lines() {
        sheet.add(text, style);
    }
}

fn heading(sheet: &mut Sheet, view: &View) {
    let style = match view.state {
        State::Running | State::SeemsToRun => BAR,
        State::Done => GOOD,
        State::Failed | State::Killed => BAD,
        State::Interrupted => ODD,
    };
    let state = view.word;
    let room = sheet.width.saturating_sub(state.len() + 2);
    let title = format!("{}, run {}", view.pipeline, view.run);
    match title.chars().count() <= room {
        true => {
            sheet.add(&title, BOLD);
            let (row, column) = (sheet.height() - 1, sheet.width - state.len());
            sheet.put(row, column, state, style);
        }
        false => {
            add_wrapped(sheet, &title, BOLD);
            sheet.add(state, style);
        }
    }
    let long = duration(view.elapsed);
    let since = match (view.goes_on, view.state) {
        (true, _) => format!("since {} UTC on {}, {long} ago", view.started_at, view.host),
        (_, State::Killed) => format!("started {} UTC on {}, seen for {long}", view.started_at, view.host),
        _ => format!("started {} UTC on {}, took {long}", view.started_at, view.host),
    };
    add_wrapped(sheet, &since, PLAIN);
    if let Some(left) = &view.left {
        add_wrapped(sheet, left, BOLD);
    }
    if let Some(about) = &view.about {
        add_wrapped(sheet, about, ODD);
    }
    let counts: Vec<String> = view
        .counts
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    let counts = match view.selected {
        0 => "no stage has ended yet".to_owned(),
        all => format!("{} of {all} stages: {}", view.ended, counts.join(", ")),
    };
    let bar = bar_columns(sheet.width);
    if bar > 0 && view.selected > 0 {
        sheet.add(&bar_of(view.ended as f64 / view.selected as f64, bar), style);
        let row = sheet.height() - 1;
        let indent = " ".repeat(bar + 1);
        let text = wrapped(&counts, sheet.width.saturating_sub(bar + 1));
        for (line, text) in text.lines().enumerate() {
            sheet.put(row + line, indent.len(), text, PLAIN);
        }
    } else {
        add_wrapped(sheet, &counts, PLAIN);
    }
}

fn bar_columns(width: usize) -> usize {
    match width {
        0..60 => 0,
        60..110 => 12,
        _ => 24,
    }
}

/// A bar with eighths of a letter.
fn bar_of(share: f64, columns: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = ((share.clamp(0.0, 1.0) * (8 * columns) as f64) as usize).min(8 * columns);
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(PARTS[eighths % 8]);
    }
    let used = bar.chars().count();
    bar + &"░".repeat(columns - used)
}

fn stages(sheet: &mut Sheet, view: &View, room: Option<usize>) {
    let longest = view
        .running
        .iter()
        .map(|stage| stage.stage.chars().count())
        .max()
        .unwrap_or(0);
    let name = longest.min(sheet.width / 4).max(3);
    let shown = match room {
        Some(room) if view.running.len() > room => room - 1,
        _ => view.running.len(),
    };
    for stage in &view.running[..shown] {
        row(sheet, stage, name);
    }
    let more = view.running.len() - shown + view.more_running;
    if more > 0 {
        sheet.add(&format!("and {more} more"), SOFT);
    }
    if view.running.is_empty() && view.goes_on {
        sheet.add("no stage runs at this moment", SOFT);
    }
}

fn row(sheet: &mut Sheet, stage: &Running, name: usize) {
    sheet.add(&shortened(&stage.stage, name), BOLD);
    let row = sheet.height() - 1;
    let mut column = name + 2;
    let bar = bar_columns(sheet.width);
    if let (Some(share), true) = (stage.share, bar > 0) {
        sheet.put(row, column, &bar_of(share, bar), BAR);
        column += bar + 1;
    }
    if let Some(share) = stage.share {
        let percent = format!("{:>3} %", (share * 100.0).floor());
        sheet.put(row, column, &percent, PLAIN);
        column += percent.len() + 2;
    }
    let place = match (stage.phase.is_empty(), stage.count.is_empty()) {
        (false, _) => stage.phase.clone(),
        (true, false) => stage.count.clone(),
        (true, true) => stage.resources.clone(),
    };
    let left = match (stage.left, stage.seconds) {
        (Some(left), _) => Some(format!("{} left", duration(left))),
        (None, Some(seconds)) => Some(format!("for {}", duration(seconds))),
        (None, None) => None,
    };
    let figures: Vec<String> = stage
        .figures
        .iter()
        .map(|(name, value)| figure(&(name.clone(), f64::from(*value))))
        .collect();
    let room = sheet.width.saturating_sub(column);
    let alone = fitted(place.clone(), std::iter::empty(), left.clone(), room);
    let all: usize = figures.iter().map(|figure| figure.chars().count() + 2).sum();
    if alone.chars().count() + all <= room {
        sheet.put(row, column, &fitted(place, figures.into_iter(), left, room), PLAIN);
        return;
    }
    sheet.put(row, column, &alone, PLAIN);
    let indent = name + 2;
    let mut figures = figures.into_iter();
    let first = figures.next().unwrap_or_default();
    let below = fitted(first, figures, None, sheet.width.saturating_sub(indent));
    sheet.put(row + 1, indent, &below, PLAIN);
}

fn failure(sheet: &mut Sheet, failed: &Failed) {
    sheet.add("", PLAIN);
    add_wrapped(sheet, &format!("{} failed: {}", failed.stage, failed.error), BAD);
    for line in &failed.log {
        sheet.add(&format!("  | {line}"), SOFT);
    }
    add_wrapped(sheet, &format!("  whole log: {}", failed.command), PLAIN);
}

fn charts(sheet: &mut Sheet, trainings: &[Training], height: Option<usize>) {
    let width = sheet.width;
    if width < chart::NARROWEST {
        return;
    }
    let is_wide = width >= SIDE_BY_SIDE;
    let blocks = |training: &Training| if is_wide { 1 } else { training.panels.len() };
    // A row between trainings and one for the name.
    let frame = |training: &Training| 2 + FRAME * blocks(training);
    let (mut count, mut rows) = (trainings.len().min(DRAWN), ROWS);
    if let Some(height) = height {
        let room = height.saturating_sub(sheet.height());
        let needed = |count: usize, rows: usize| {
            let shown = trainings.iter().take(count);
            shown
                .map(|training| frame(training) + rows * blocks(training))
                .sum::<usize>()
        };
        count = (0..=trainings.len())
            .rev()
            .find(|count| needed(*count, FEWEST_ROWS) <= room)
            .unwrap_or(0);
        let fits = |rows: &usize| needed(count, *rows) <= room;
        rows = (FEWEST_ROWS..=MOST_ROWS)
            .rev()
            .step_by(2)
            .find(fits)
            .unwrap_or(FEWEST_ROWS);
    }
    for training in &trainings[..count] {
        sheet.add("", PLAIN);
        sheet.add(&training.stage, BOLD);
        let columns = match (is_wide, training.panels.len()) {
            (true, 2..) => (width - 2) / training.panels.len(),
            _ => width.min(100),
        };
        let mut top = sheet.height();
        for (place, panel) in training.panels.iter().enumerate() {
            let left = if is_wide { place * (columns + 2) } else { 0 };
            chart::draw(sheet, top, left, columns, rows, panel);
            if !is_wide {
                top = sheet.height();
            }
        }
    }
    let more = trainings.len() - count;
    if more > 0 && count > 0 && height.is_none() {
        sheet.add(&format!("and the curves of {more} more, with `--serve`"), SOFT);
    }
}

/// What stands under everything.
fn below(view: &View, width: usize) -> Vec<(String, Style)> {
    let mut rows = Vec::new();
    if view.goes_on && !view.last.is_empty() {
        let said = view.last.iter().map(|(stage, word, seconds)| {
            let took = seconds
                .map(|seconds| format!(" in {}", duration(seconds)))
                .unwrap_or_default();
            format!("{stage} {word}{took}")
        });
        let mut text = String::from("last ");
        for (place, part) in said.enumerate() {
            if place > 0 && text.chars().count() + part.chars().count() + 2 > width {
                break;
            }
            text += if place > 0 { ", " } else { "" };
            text += &part;
        }
        rows.push((text, SOFT));
    }
    for running in view.running.iter().take(4) {
        if let Some(note) = &running.note {
            rows.push((format!("{}: {note}", running.stage), SOFT));
        }
    }
    for hint in &view.hints {
        rows.extend(wrapped(hint, width).lines().map(|line| (line.to_owned(), SOFT)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::watch::view::{Panel, Series};

    fn view() -> View {
        let panel = |name: &str, is_share| {
            let series = Series {
                name: name.into(),
                is_whole: true,
                is_validation: false,
                points: (1..12).map(|epoch| (f64::from(epoch), 1.0 / epoch as f32)).collect(),
            };
            Panel::new(name.into(), "epoch".into(), 30.0, is_share, vec![series])
        };
        let running = Running {
            stage: "cordsnet@seed=0,tau=10,areas=4".into(),
            seconds: Some(75.0),
            share: Some(0.37),
            count: "37/100 batches".into(),
            phase: "epoch 11/30".into(),
            figures: vec![
                ("cross-entropy".into(), 0.1234),
                ("accuracy".into(), 0.98),
                ("images/s".into(), 193.0),
            ],
            left: Some(130.0),
            resources: "1 thread: never run".into(),
            note: Some("from a checkpoint".into()),
        };
        View {
            run: "kklmnopq".into(),
            pipeline: "quickstart".into(),
            host: "machine".into(),
            started_at: "2026-11-30 11:20:31".into(),
            elapsed: 80.0,
            state: State::Running,
            word: "running",
            goes_on: true,
            about: None,
            left: Some("about 5 min left, until 11:27 UTC (by its speed and earlier runs)".into()),
            selected: 7,
            ended: 2,
            counts: vec![("done", 2), ("running", 1), ("waiting", 4)],
            running: vec![running],
            more_running: 0,
            trainings: vec![Training {
                stage: "cordsnet@seed=0,tau=10,areas=4".into(),
                panels: vec![
                    panel("cross-entropy (nats)", false),
                    panel("accuracy (share of images)", true),
                ],
            }],
            failed: vec![Failed {
                stage: "cnn".into(),
                error: "no".into(),
                log: vec!["a line of its log that is long ".repeat(9)],
                command: "dynvis log kklmnopq cnn".into(),
            }],
            more_failed: 0,
            last: vec![("digits".into(), "done", Some(0.1))],
            hints: Vec::new(),
        }
    }

    #[test]
    fn a_terminal_of_any_size_is_never_overrun() {
        for width in [1, 2, 7, 19, 20, 21, 40, 59, 60, 80, 109, 110, 160, 400] {
            for height in [None, Some(0), Some(1), Some(10), Some(24), Some(60)] {
                let lines = sheet(&view(), width, height).lines(height.unwrap_or(usize::MAX), false);
                let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
                assert!(widest <= width, "{width}: {widest}");
                assert!(height.is_none_or(|height| lines.len() <= height));
            }
        }
    }

    #[test]
    fn what_one_wants_to_know_is_there_at_80_columns_and_24_rows() {
        let text = sheet(&view(), 80, Some(30)).lines(30, false).join("\n");
        for part in [
            "quickstart, run kklmnopq",
            "running",
            "about 5 min left",
            "2 of 7 stages: 2 done, 1 running, 4 waiting",
            " 37 %  epoch 11/30  2 min left",
            "  cross-entropy 0.1234  accuracy 0.9800  images/s 193",
            "cnn failed: no",
            "cross-entropy (nats)",
            "accuracy (share of images)",
            "11 of 30",
            "last digits done in 0.1 s",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}
