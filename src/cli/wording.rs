//! How durations, outcomes and missing data are said, wherever they are said.

use super::harmless::harmless;
use dynvis_runner::key::Reading;
use dynvis_runner::run::MissingFor;
use dynvis_runner::store::{Pulled, RunRecord, RunStage, StageOutcome};

/// Files that are read for the first time.
pub(crate) fn reading(stage: &str, files: usize, bytes: u64) -> String {
    format!(
        "reading {files} files of `{stage}` for the first time ({:.1} GB)",
        bytes as f64 / 1e9
    )
}

/// How far that is, with what is left by the speed so far.
pub(crate) fn reading_goes_on(stage: &str, reading: &Reading, seconds: f64) -> String {
    // Bytes take time, and so does every file.
    let share = |done: u64, all: u64| done as f64 / all.max(1) as f64;
    let done = share(reading.done, reading.files).min(share(reading.done_bytes, reading.bytes.max(reading.done_bytes)));
    let left = match done > 0.0 {
        true => format!(", about {} left", duration(seconds * (1.0 - done) / done)),
        false => String::new(),
    };
    format!(
        "read {} of {} files of `{stage}` ({:.1} of {:.1} GB){left}",
        reading.done,
        reading.files,
        reading.done_bytes as f64 / 1e9,
        reading.bytes as f64 / 1e9
    )
}

/// One stage that lacks data, for the plan and for the error of `run`.
pub(crate) fn missing_lines(missing: &MissingFor) -> Vec<String> {
    let is_there = missing.missing.iter().all(|item| item.unusable.is_some());
    let wrong = if is_there { "cannot be used" } else { "is not there" };
    let mut lines = vec![format!("`{}` needs data that {wrong}", missing.stage)];
    let width = missing
        .missing
        .iter()
        .map(|m| m.what.chars().count())
        .max()
        .unwrap_or(0);
    for item in &missing.missing {
        if let Some(why) = &item.unusable {
            lines.push(format!("  {}, {}: {why}", item.what, item.place));
            continue;
        }
        let space = width - item.what.chars().count();
        lines.push(format!(
            "  {}{}  put it in {}",
            item.what,
            " ".repeat(space),
            item.place
        ));
    }
    if let Some(first) = missing.missing.first() {
        lines.push(format!("  {}", first.hint));
    }
    if !missing.waiting.is_empty() {
        let mut families: indexmap::IndexMap<&str, usize> = indexmap::IndexMap::new();
        for name in &missing.waiting {
            *families.entry(name.split('@').next().unwrap_or(name)).or_default() += 1;
        }
        let names: Vec<String> = families
            .into_iter()
            .map(|(family, count)| {
                if count == 1 {
                    family.to_owned()
                } else {
                    format!("{family} x{count}")
                }
            })
            .collect();
        lines.push(format!("  waiting for it: {}", names.join(", ")));
    }
    lines
}

/// Names in a line that stays short: the first ones, and how many more there are.
pub(crate) fn first_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const NAMED: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Lines of at most so many columns, broken between words; what continues a line stands two columns to its right.
/// Colours take no room, and a word that is longer than a line stays whole.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| wrapped_line(line, width)).collect();
    lines.join("\n")
}

fn wrapped_line(line: &str, width: usize) -> String {
    let columns = |text: &str| harmless(text).chars().count();
    if columns(line) <= width {
        return line.to_owned();
    }
    let indent = line.len() - line.trim_start_matches(' ').len();
    let (mut out, mut used) = (line[..indent].to_owned(), indent);
    let mut is_first = true;
    // Blanks before a word stay with it, so that columns within a line stay apart.
    for part in line[indent..].split_inclusive(' ') {
        let word = part.trim_end_matches(' ');
        if !is_first && used + columns(word) > width {
            out.truncate(out.trim_end_matches(' ').len());
            let start = " ".repeat(indent + 2);
            out += "\n";
            out += &start;
            used = start.len();
            if word.is_empty() {
                continue;
            }
        }
        out += part;
        used += columns(part);
        is_first = false;
    }
    out.truncate(out.trim_end().len());
    out
}

/// A word as a shell takes it: in quotes where it would make something else of it.
pub(crate) fn shell_word(word: &str) -> std::borrow::Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.,+:@=/%^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{} days", tenths(s / 86_400.0)),
    }
}

/// With tenths where they matter.
fn tenths(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        count(value.round() as u64)
    }
}

/// A whole number with commas between thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as people say them, in powers of 1000.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let found = units.into_iter().find(|(_, unit)| bytes as f64 >= *unit);
    found.map_or_else(
        || format!("{bytes} B"),
        |(name, unit)| format!("{:.1} {name}", bytes as f64 / unit),
    )
}

/// That a result came from elsewhere.
pub(crate) fn pulled_from(pulled: &Pulled) -> String {
    format!("pulled from {} (sent by {})", pulled.from, pulled.host)
}

/// `2 ran, 5 cached`.
pub(crate) fn outcomes(run: &RunRecord) -> String {
    let count = |outcome| run.stages.iter().filter(|s| s.outcome == outcome).count();
    let parts: Vec<String> = [
        (StageOutcome::Ran, "ran"),
        (StageOutcome::Restored, "restored"),
        (StageOutcome::Cached, "cached"),
        (StageOutcome::Failed, "failed"),
        (StageOutcome::Interrupted, "interrupted"),
        (StageOutcome::Blocked, "not reached"),
    ]
    .into_iter()
    .filter(|(outcome, _)| count(*outcome) > 0)
    .map(|(outcome, name)| format!("{} {name}", count(outcome)))
    .collect();
    let accepted = run.stages.iter().filter(|s| s.accepted.is_some()).count();
    let accepted = if accepted > 0 {
        format!(" ({accepted} accepted without running)")
    } else {
        String::new()
    };
    // Those of earlier runs were said then.
    let is_new = |stage: &&RunStage| stage.pulled.is_some() && stage.outcome == StageOutcome::Restored;
    let pulled = match run.stages.iter().filter(is_new).count() {
        0 => String::new(),
        count => format!(" ({count} pulled)"),
    };
    parts.join(", ") + &accepted + &pulled
}

/// That `--device auto` goes on without a GPU that cannot be used, and why, in one line.
pub(super) fn passed_over(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{text}; going on without it, `dynvis doctor` says more")
}

/// That the queue cannot be asked, and why, in one line.
pub(super) fn queue_silent(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_say_them() {
        for (number, said) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_281_167, "1,281,167")] {
            assert_eq!(count(number), said);
        }
        for (seconds, said) in [
            (9.0, "9.0 s"),
            (100.0, "100 s"),
            (7000.0, "117 min"),
            (36_000.0, "10.0 h"),
            (172_800.0, "2.0 days"),
            (86_400.0 * 1234.5678, "1,235 days"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("short", 10), "short");
        assert_eq!(wrapped("one two three four", 9), "one two\n  three\n  four");
        assert_eq!(wrapped("  one two\nthree four", 8), "  one\n    two\nthree\n  four");
        assert_eq!(wrapped("a/word/that/is/longer x", 10), "a/word/that/is/longer\n  x");
        assert_eq!(wrapped("\u{1b}[31mred\u{1b}[0m one", 7), "\u{1b}[31mred\u{1b}[0m one");
        for width in 1..40 {
            let text = "stage@seed=0   start (2 threads): input `data` changed (from `digits`)";
            let lines = wrapped(text, width);
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&lines), words(text), "{width}");
        }
    }
}
