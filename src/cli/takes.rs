//! What the stages of a plan take: bytes on disk, images that are shown, and the time for them by `dynvis benchmark`.
//!
//! What is not known is not guessed: a time stands only where the network was timed that the stage trains or shows
//! images to, and a sum of which a part is not known is a least one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use cords::device::cuda::Precision;
use dynvis_runner::kind::{Device, Extent, Size, StageError};
use dynvis_runner::pipeline::Pipeline;
use dynvis_runner::plan::{Planned, State};
use dynvis_runner::store::Store;
use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::benchmarks::{self, Benchmark};
use super::plan::COLLAPSE_FROM;
use super::tables::simple_table;
use super::wording::{count, duration, first_names, shell_word, size};
use crate::stage::extent::{Facts, ImageCounts, Shown, Trial};

/// Commands that are named below the table.
const MOST_COMMANDS: usize = 8;

/// What stages take that would run.
pub(super) struct Takes<'a> {
    /// Those of which something is known, in order of the plan.
    parts: Vec<Part<'a>>,
    /// Families of which nothing is known.
    silent: Vec<&'a str>,
    /// Stages of which it cannot be told, and why.
    failed: Vec<(&'a str, &'a StageError)>,
    benchmarks: Vec<Benchmark>,
    /// What to add to commands.
    options: String,
}

/// One thing that a stage does.
struct Part<'a> {
    stage: &'a str,
    family: &'a str,
    does: Does<'a>,
    size: Option<Size>,
}

enum Does<'a> {
    /// Writes outputs of a known size.
    Writes,
    /// Prepares a set of images.
    Prepares(&'a ImageCounts),
    /// Shows images to networks, with the benchmark that says how fast.
    Shows(&'a Shown, Option<usize>),
}

/// Where and by what is asked.
pub(super) struct Asked<'a> {
    pub(super) device: Device,
    /// The cache that was named, or belongs to another project than that in which the user stands.
    pub(super) cache: Option<&'a Path>,
}

impl<'a> Takes<'a> {
    /// Of the stages of a plan that would run; `extents` are theirs by stage.
    pub(super) fn of(
        pipeline: &'a Pipeline,
        planned: &[Planned],
        extents: &'a [Result<Option<Extent>, StageError>],
        store: &Store,
        asked: &Asked<'_>,
    ) -> Self {
        let mut options = String::new();
        if asked.device != Device::Auto {
            options += &format!(" --device {}", asked.device);
        }
        if let Some(cache) = asked.cache {
            options += &format!(" --cache {}", shell_word(&cache.to_string_lossy()));
        }
        let mut takes = Self {
            parts: Vec::new(),
            silent: Vec::new(),
            failed: Vec::new(),
            benchmarks: benchmarks::read(store.root()),
            options,
        };
        for p in planned {
            if !matches!(p.decision.state, State::Run | State::Maybe) {
                continue;
            }
            let stage = pipeline.stage(p.id);
            match &extents[p.id.0] {
                Ok(Some(extent)) => takes.add(&stage.name, &stage.family, extent, asked.device),
                Ok(None) if !takes.silent.contains(&stage.family.as_str()) => takes.silent.push(&stage.family),
                Ok(None) => {}
                Err(error) => takes.failed.push((&stage.name, error)),
            }
        }
        takes
    }

    fn add(&mut self, stage: &'a str, family: &'a str, extent: &'a Extent, device: Device) {
        let facts = extent.facts::<Facts>();
        let images = facts.and_then(|facts| facts.images.as_ref()).map(Does::Prepares);
        let shown = facts.map_or(&[][..], |facts| &facts.shown).iter().map(|shown| {
            let fitting = |trial| benchmarks::fitting(&self.benchmarks, trial, device);
            Does::Shows(shown, shown.trial.as_ref().and_then(fitting))
        });
        let mut all: Vec<Does<'a>> = images.into_iter().chain(shown).collect();
        if all.is_empty() && extent.size.is_some() {
            all.push(Does::Writes);
        }
        let parts = all.into_iter().enumerate().map(|(place, does)| Part {
            stage,
            family,
            does,
            // Once for the whole stage.
            size: extent.size.filter(|_| place == 0),
        });
        self.parts.extend(parts);
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.failed.is_empty()
    }

    /// Bytes on disk of all stages that say so.
    pub(super) fn bytes(&self) -> u64 {
        self.sums(&self.parts.iter().collect::<Vec<_>>()).bytes.unwrap_or(0)
    }

    /// What is missing in the space that is free where the cache is; none where there is enough.
    pub(super) fn lacks_space(&self, cache: &Path) -> Option<String> {
        let existing = cache.ancestors().find(|folder| folder.exists())?;
        let stat = rustix::fs::statvfs(existing).ok()?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let bytes = self.bytes();
        (bytes > free).then(|| {
            format!(
                "these stages write {}, and {} are free where the cache is, {}",
                size(bytes),
                size(free),
                cache.display()
            )
        })
    }

    fn sums(&self, parts: &[&Part<'a>]) -> Sums<'a> {
        let mut sums = Sums::default();
        for part in parts {
            if let Some(size) = part.size {
                let bytes = sums.bytes.get_or_insert(0);
                *bytes = bytes.saturating_add(size.bytes);
                sums.is_most |= size.is_most;
            }
            match &part.does {
                Does::Writes => {}
                Does::Prepares(images) => {
                    let [train, validation, test] = sums.prepared.get_or_insert_default();
                    *train += images.train;
                    *validation += images.validation;
                    *test += images.test;
                }
                Does::Shows(shown, by) => {
                    let images = sums.shown.get_or_insert(0);
                    *images = images.saturating_add(shown.images);
                    match (&shown.trial, by) {
                        (Some(trial), Some(by)) => {
                            let rate = self.benchmarks[*by].rate(trial);
                            sums.rates.push(rate);
                            sums.seconds += shown.images as f64 / rate;
                            sums.by.insert(*by);
                        }
                        (Some(trial), None) => sums.lacking.push(trial),
                        (None, _) => sums.is_untimed = true,
                    }
                }
            }
        }
        sums
    }

    /// Parts in lines as they are shown: of a family with many members all together, by what they do.
    fn lines(&self) -> Vec<(String, Vec<&Part<'a>>)> {
        let mut members: HashMap<&str, HashSet<&str>> = HashMap::new();
        for part in &self.parts {
            members.entry(part.family).or_default().insert(part.stage);
        }
        let mut lines: IndexMap<(String, &str), Vec<&Part<'a>>> = IndexMap::new();
        for part in &self.parts {
            let name = match members[part.family].len() {
                few if few < COLLAPSE_FROM => part.stage.to_owned(),
                many => format!("{} x{many}", part.family),
            };
            lines.entry((name, part.does.purpose())).or_default().push(part);
        }
        lines.into_iter().map(|((name, _), parts)| (name, parts)).collect()
    }

    /// The table and what must be said below it.
    pub(super) fn text(&self, width: Option<usize>) -> String {
        let all = self.sums(&self.parts.iter().collect::<Vec<_>>());
        // Benchmarks have numbers in the order of time.
        let numbers: Vec<usize> = all.by.iter().copied().collect();
        let mut text = "\nWhat it takes\n".to_owned();
        let lines = self.lines();
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (name, parts) in &lines {
            let sums = self.sums(parts);
            let what = match &sums.prepared {
                Some([train, validation, test]) => format!(
                    "{} training, {} validation, {} test images",
                    count(*train),
                    count(*validation),
                    count(*test)
                ),
                None => parts[0].does.purpose().to_owned(),
            };
            rows.push(sums.row(name, what, &numbers));
        }
        if lines.len() > 1 {
            rows.push(all.row("in all", String::new(), &numbers));
        }
        if !rows.is_empty() {
            let header = ["stage", "what", "on disk", "images", "images a second", "time", "by"];
            text += &simple_table(&header, rows, width);
        }
        for line in self.notes(&all, &numbers) {
            text += &line;
            text.push('\n');
        }
        text
    }

    fn notes(&self, all: &Sums<'a>, numbers: &[usize]) -> Vec<String> {
        let mut notes = Vec::new();
        if all.bytes.is_some() {
            notes.push("on disk: images of data sets and weights of networks, without tables and pictures".to_owned());
        }
        if !numbers.is_empty() {
            notes.push(
                "images a second: what the device takes, and so what must be loaded for it not to wait; in proportion \
                 to time steps, of which one without gradient counts as a third of one with"
                    .to_owned(),
            );
            notes.push("time: of the networks alone, one stage after the other on one device".to_owned());
        }
        for (number, place) in numbers.iter().enumerate() {
            let Benchmark {
                device,
                areas,
                side,
                batch,
                steps,
                images_per_second,
                dynvis,
                ..
            } = &self.benchmarks[*place];
            let precision = precision_name(self.benchmarks[*place].precision);
            notes.push(format!(
                "[{}] dynvis {dynvis}, {}: CordsNet-R{areas}, {side} x {side}, {steps} steps, batches of {batch}, \
                 {precision}: {} images a second on {device}",
                number + 1,
                self.benchmarks[*place].day(),
                per_second(*images_per_second)
            ));
        }
        let mut commands: Vec<String> = Vec::new();
        // Trainings come first: they tell a batch.
        for trial in &all.lacking {
            let same = format!("dynvis benchmark --areas {} --side {}", trial.areas, trial.side);
            let precision = match trial.precision {
                Precision::Float32 => String::new(),
                other => format!(" --precision {}", precision_name(other)),
            };
            let command = |batch: String| format!("{same}{batch}{precision}{}", self.options);
            let is_new = match trial.batch {
                Some(batch) => {
                    let command = command(format!(" --batch {batch}"));
                    (!commands.contains(&command)).then_some(command)
                }
                // That of a training serves as well.
                None => {
                    let is_known = commands.iter().any(|known| {
                        let rest = known.strip_prefix(&same);
                        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                    });
                    (!is_known).then(|| command(String::new()))
                }
            };
            commands.extend(is_new);
        }
        if !commands.is_empty() {
            notes.push("no benchmark: the time is told after".to_owned());
            notes.extend(
                commands
                    .iter()
                    .take(MOST_COMMANDS)
                    .map(|command| format!("  {command}")),
            );
            if commands.len() > MOST_COMMANDS {
                notes.push(format!("  and {} more", commands.len() - MOST_COMMANDS));
            }
        }
        if all.is_untimed {
            notes.push(
                "not timed: `dynvis benchmark` times trials of CordsNets of published sizes; from these no time \
                 follows for other networks, phases and stages"
                    .to_owned(),
            );
        }
        for (stage, error) in &self.failed {
            notes.push(format!("what `{stage}` takes cannot be told: {error}"));
        }
        if !self.silent.is_empty() {
            notes.push(format!(
                "not in the table, as nothing is known before they run: {}",
                first_names(self.silent.iter().copied())
            ));
        }
        notes
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Json {
        let all = self.sums(&self.parts.iter().collect::<Vec<_>>());
        let part = |part: &Part<'a>| {
            let sums = self.sums(&[part]);
            json!({
                "stage": part.stage,
                "what": part.does.purpose(),
                "bytes": sums.bytes,
                "is_most": sums.is_most,
                "prepared": sums.prepared.map(|[train, validation, test]| json!({
                    "train": train, "validation": validation, "test": test,
                })),
                "images": sums.shown,
                "images_per_second": sums.rates.first(),
                "seconds": sums.rates.first().map(|_| sums.seconds),
                "benchmark": sums.by.first().map(|by| &self.benchmarks[*by]),
            })
        };
        let failed = |(stage, error): &(&str, &StageError)| json!({ "stage": stage, "error": error.to_string() });
        json!({
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
            "bytes": all.bytes,
            "images": all.shown,
            "seconds": all.seconds,
            "is_complete": all.is_complete() && self.silent.is_empty() && self.failed.is_empty(),
            "unknown": self.silent,
            "failed": self.failed.iter().map(failed).collect::<Vec<_>>(),
        })
    }
}

impl Does<'_> {
    fn purpose(&self) -> &'static str {
        match self {
            Self::Writes => "",
            Self::Prepares(_) => "preparing",
            Self::Shows(shown, _) => shown.purpose,
        }
    }
}

/// What some parts take together.
#[derive(Default)]
struct Sums<'a> {
    bytes: Option<u64>,
    is_most: bool,
    /// Training, validation and test images of data sets.
    prepared: Option<[u64; 3]>,
    shown: Option<u64>,
    rates: Vec<f64>,
    /// As far as it is known.
    seconds: f64,
    by: BTreeSet<usize>,
    /// What was not timed and can be.
    lacking: Vec<&'a Trial>,
    /// Whether there is something for which no benchmark says the time.
    is_untimed: bool,
}

impl Sums<'_> {
    fn is_complete(&self) -> bool {
        self.lacking.is_empty() && !self.is_untimed
    }

    fn row(&self, name: &str, what: String, numbers: &[usize]) -> Vec<String> {
        let bytes = self.bytes.map_or_else(String::new, |bytes| {
            let most = if self.is_most { "at most " } else { "" };
            format!("{most}{}", size(bytes))
        });
        let least = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rates.iter().copied().fold(0.0, f64::max);
        let rates = match (per_second(least), per_second(most)) {
            // Of all stages together it says nothing.
            _ if name == "in all" || self.shown.is_none() => String::new(),
            _ if self.rates.is_empty() && !self.lacking.is_empty() => "no benchmark".to_owned(),
            _ if self.rates.is_empty() => "not timed".to_owned(),
            (least, most) if least == most => least,
            (least, most) => format!("{least} to {most}"),
        };
        let time = match self.is_complete() {
            _ if self.rates.is_empty() => String::new(),
            true => duration(self.seconds),
            false => format!("at least {}", duration(self.seconds)),
        };
        let number = |by: &usize| {
            numbers
                .iter()
                .position(|place| place == by)
                .map(|at| format!("[{}]", at + 1))
        };
        let by: Vec<String> = self.by.iter().filter_map(number).collect();
        let by = if name == "in all" { String::new() } else { by.join(" ") };
        let images = self.shown.map_or_else(String::new, count);
        vec![name.to_owned(), what, bytes, images, rates, time, by]
    }
}

fn per_second(rate: f64) -> String {
    match rate {
        rate if rate >= 100.0 => format!("{rate:.0}"),
        rate if rate >= 1.0 => format!("{rate:.1}"),
        rate => format!("{rate:.3}"),
    }
}

/// As the option `--precision` has it.
pub(super) fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::Float32 => "float32",
        Precision::Tf32 => "tf32",
        Precision::Bfloat16 => "bfloat16",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(sizes: &[u64]) -> Takes<'static> {
        let part = |bytes: &u64| Part {
            stage: "images",
            family: "images",
            does: Does::Writes,
            size: Some(Size {
                bytes: *bytes,
                is_most: false,
            }),
        };
        Takes {
            parts: sizes.iter().map(part).collect(),
            silent: Vec::new(),
            failed: Vec::new(),
            benchmarks: Vec::new(),
            options: String::new(),
        }
    }

    #[test]
    fn space_is_lacking_where_the_cache_is_or_will_be() {
        let folder = tempfile::tempdir().expect("folder");
        let cache = folder.path().join("not/yet/there");
        assert_eq!(takes(&[1, 2]).lacks_space(&cache), None);
        assert_eq!(takes(&[]).lacks_space(&cache), None);
        let lacking = takes(&[u64::MAX, 1])
            .lacks_space(&cache)
            .expect("more than any disk has");
        assert!(
            lacking.starts_with("these stages write 18446744.1 TB, and "),
            "{lacking}"
        );
        assert!(lacking.ends_with("not/yet/there"), "{lacking}");
    }

    #[test]
    fn rates_have_as_many_digits_as_they_mean() {
        assert_eq!([1234.5, 12.34, 0.01234].map(per_second), ["1234", "12.3", "0.012"]);
    }
}
