//! Run records: what each run did, found again by id prefix or by `@`, `@-1`.

use std::fmt;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::objects::replace;
use super::{Pulled, Store, StoreError, io, persist};
use crate::key::{ContentHash, StageKey};
use crate::kind::Artifact;
use crate::names::{Named, is_name, member_name};

/// Stages of a run that goes on or was killed, one JSON line each in the order in which they ended; its last record
/// holds them all, and then this goes.
const STAGES: &str = "stages";

/// What this program writes and reads.
pub(crate) const RECORD_VERSION: u32 = 1;

/// Eight letters; shortest unique prefixes are accepted everywhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A fresh id. Letters k to z only, so that ids never look like hashes.
    pub(crate) fn fresh() -> Self {
        let now = jiff::Timestamp::now().as_nanosecond();
        let seed = format!("{now} {} {:p}", std::process::id(), &now);
        let hash = blake3::hash(seed.as_bytes());
        Self(
            hash.as_bytes()[..8]
                .iter()
                .map(|b| char::from(b'k' + (b & 15)))
                .collect(),
        )
    }

    /// Whether it looks like one: it may come from a file of somebody else, and names a folder.
    pub(crate) fn is_one(&self) -> bool {
        self.0.len() == 8 && self.0.bytes().all(|b| b.is_ascii_lowercase())
    }

    /// The eight letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// The run goes on, or was killed.
    Running,
    /// Every selected stage has its result.
    Done,
    /// A stage failed, or the tool itself could not go on.
    Failed,
    /// The user ended the run.
    Interrupted,
}

/// What became of a stage in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageOutcome {
    /// Nothing to do: the result was there.
    Cached,
    /// An earlier result with the same key became current again.
    Restored,
    /// Executed and published its result.
    Ran,
    /// Executed, or could not be started, and left no result.
    Failed,
    /// Something upstream failed or was missing.
    Blocked,
    /// Ended by the user before it was complete.
    Interrupted,
    /// Not selected.
    Excluded,
}

/// A filled input slot, by the names that the user knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInput {
    /// Name of the slot.
    pub slot: String,
    /// The producer's name without matrix fields.
    pub stage: String,
    /// The producer's whole name, where it does not follow from the fields: numbers are named as they were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Matrix fields of the producer.
    pub fields: IndexMap<String, Json>,
    /// Content that filled the slot; `None` where it was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentHash>,
}

impl RunInput {
    /// The stage that fills it, `cordsnet@seed=1` for a member of a matrix.
    pub fn producer(&self) -> String {
        let by_fields = || member_name(&self.stage, &self.fields);
        self.member.clone().unwrap_or_else(by_fields)
    }
}

/// An output as a run saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutput {
    /// Name of the slot.
    pub slot: String,
    /// What kind of output it is.
    pub artifact: Artifact,
    /// Hash of the output, which names its folder in the store.
    pub content: ContentHash,
}

/// What a run did with one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStage {
    /// The whole name, `cordsnet@seed=1` for a member of a matrix.
    pub name: String,
    /// The name as the pipeline writes it.
    pub family: String,
    /// Matrix fields of the member; empty without a matrix.
    pub fields: IndexMap<String, Json>,
    /// Name of the stage kind.
    pub kind: String,
    /// What became of the stage.
    pub outcome: StageOutcome,
    /// Why it ran or did not, as `plan` says it.
    pub reason: String,
    /// Key of the result that the stage has; `None` where it has none.
    pub key: Option<StageKey>,
    /// Why its result, which was not computed, was declared to be up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// How its result came here, which was not computed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Pulled>,
    /// How long the stage's last attempt took, in seconds; `None` where the stage did not execute.
    pub seconds: Option<f64>,
    /// How the stage's process went; `None` where the stage did not execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution>,
    /// The parameter `seed`; `None` where the kind has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Every input slot, in the order in which the parameters name them.
    pub inputs: Vec<RunInput>,
    /// Files from outside the pipeline, by the names that the key knows them by.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub files: IndexMap<String, ContentHash>,
    /// Every output of the stage's result; empty where it has none.
    pub outputs: Vec<RunOutput>,
}

impl Named for RunStage {
    fn name(&self) -> &str {
        &self.name
    }
    fn family(&self) -> &str {
        &self.family
    }
    fn fields(&self) -> &IndexMap<String, Json> {
        &self.fields
    }
}

/// How a stage's process went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// When the worker was started, in seconds after the start of the run.
    pub started: f64,
    /// Processor threads that the stage had.
    pub threads: usize,
    /// The GPUs that the stage had, `cuda:0,1`, or `cpu`.
    pub device: String,
    /// Processor time in seconds, of the worker and all that it started and waited for.
    pub cpu_seconds: f64,
    /// Memory in bytes of the stage's largest process.
    pub peak_bytes: u64,
    /// Where a queue ran it; `None` where it ran beside the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobExecution>,
}

/// How the queue of a site ran a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobExecution {
    /// The job's id, as the queue prints it.
    pub id: String,
    /// The machine that it ran on last; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// When it was submitted, taken over or, after it had run, queued again, in seconds after the start of the run.
    pub queued: f64,
}

/// The commit that the project's files are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// Hash of the commit, as git prints it.
    pub revision: String,
    /// Whether tracked files differ from that commit.
    #[serde(rename = "dirty")]
    pub is_dirty: bool,
}

/// What a pipeline says in the report of its runs, its section `report`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportTexts {
    /// Title of the report; the pipeline's name where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Markdown at its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Markdown above the results of a stage, by the stage's name without matrix fields.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub stages: IndexMap<String, String>,
}

/// One run, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this record's form.
    pub version: u32,
    /// Id of the run.
    pub id: RunId,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Whose run it is: the project's folder, `.` for the one that holds the cache; not known of old runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The pipeline's file, as typed.
    pub path: PathBuf,
    /// The command line, as typed.
    pub arguments: Vec<String>,
    /// When the run began, as RFC 3339 in UTC.
    pub started_at: String,
    /// When the run ended, as RFC 3339 in UTC; `None` while it goes on and where it was killed.
    pub finished_at: Option<String>,
    /// How the run stands.
    pub status: RunStatus,
    /// How long the run took, in seconds; of a killed one as far as is known.
    pub seconds: f64,
    /// Version of the program.
    pub dynvis_version: String,
    /// Name of the machine.
    pub host: String,
    /// The GPUs that stages could have, `cuda:0,1`; where no stage wanted one, what `--device` said.
    pub device: String,
    /// GPU and driver, where one was used.
    #[serde(default)]
    pub driver: Option<String>,
    /// State of the project's repository; `None` where it is none, or there is no git.
    #[serde(default)]
    pub git: Option<GitState>,
    /// Content of the program's file.
    #[serde(default)]
    pub binary: Option<ContentHash>,
    /// Content of the `Cargo.lock` that the program was built with.
    #[serde(default)]
    pub lock_file: Option<ContentHash>,
    /// The table that stands for the run, as the pipeline names it.
    pub headline: Option<String>,
    /// What the pipeline says in reports; `None` where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportTexts>,
    /// How the record came here, of a run elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Pulled>,
    /// Every stage of the pipeline; of a run that goes on or was killed those that had ended.
    pub stages: Vec<RunStage>,
}

impl RunRecord {
    /// Processor time of all stages that executed.
    pub fn cpu_seconds(&self) -> f64 {
        self.executions().map(|e| e.cpu_seconds).sum()
    }

    /// Memory of the largest process.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.executions().map(|e| e.peak_bytes).max()
    }

    fn executions(&self) -> impl Iterator<Item = &Execution> {
        self.stages.iter().filter_map(|s| s.execution.as_ref())
    }
}

impl RunRecord {
    /// The record of a run elsewhere, from text that somebody else has written.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let unreadable = |error: serde_json::Error| format!("it cannot be read: {error}");
        let value: Json = serde_json::from_str(text).map_err(unreadable)?;
        super::parcel::check_texts(&value)?;
        let run = Self::deserialize(&value).map_err(unreadable)?;
        if run.version > RECORD_VERSION {
            return Err(format!("it is of a newer version of dynvis ({})", run.version));
        }
        // The id and the time name its folder here.
        if !run.id.is_one() || run.started_at.parse::<jiff::Timestamp>().is_err() {
            return Err("it has no id or no time of a run".into());
        }
        // Stages and outputs name files where results are exported.
        let is_stage = |stage: &RunStage| {
            let rest = stage.name.strip_prefix(&stage.family);
            is_name(&stage.family)
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
                && stage.outputs.iter().all(|output| is_name(&output.slot))
        };
        if let Some(stage) = run.stages.iter().find(|stage| !is_stage(stage)) {
            return Err(format!(
                "its stage `{}` or an output of it has no name of one",
                stage.name
            ));
        }
        let mut names = std::collections::HashSet::new();
        if let Some(stage) = run.stages.iter().find(|stage| !names.insert(&stage.name)) {
            return Err(format!("it has the stage `{}` twice", stage.name));
        }
        let is_time = |seconds: f64| seconds.is_finite() && (0.0..1e12).contains(&seconds);
        if !run.stages.iter().all(|stage| stage.seconds.is_none_or(is_time)) {
            return Err("one of its times is none".into());
        }
        match run.status {
            RunStatus::Running => Err("the run went on when it was sent".into()),
            _ => Ok(run),
        }
    }
}

impl Store {
    /// Takes the record of a run elsewhere among those of this project; one that is there already stays. Gives its
    /// folder, and whether it is new.
    ///
    /// # Errors
    /// The runs cannot be listed, or the record cannot be written.
    pub fn admit_run(&self, run: &RunRecord, pulled: Pulled) -> Result<(PathBuf, bool), StoreError> {
        let folders = self.run_folders()?;
        if let Some((_, folder)) = folders.iter().find(|(id, _)| id == run.id.as_str()) {
            return Ok((folder.clone(), false));
        }
        // Where it belongs by its time: `@` stays the last run.
        let started = run
            .started_at
            .parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_millisecond);
        let name = format!("{:015}-{}", started.unwrap_or(0).max(0), run.id);
        let folder = self.root().join("runs").join(name);
        fs_err::create_dir_all(&folder).map_err(io("make a run's folder"))?;
        let run = RunRecord {
            project: self.project().map(str::to_owned),
            pulled: Some(pulled),
            ..run.clone()
        };
        self.write_run(&folder, &run, true)?;
        Ok((folder, true))
    }

    /// The folder of a run; sorts by time of start.
    pub(crate) fn new_run_folder(&self, id: &RunId) -> Result<PathBuf, StoreError> {
        // Later than every other, also where a clock was set back: this order is what `@` and `@-1` mean.
        let last = self.all_run_folders()?.last().and_then(|(_, folder)| {
            let name = folder.file_name()?.to_str()?;
            name.split_once('-')?.0.parse::<i64>().ok()
        });
        let now = jiff::Timestamp::now().as_millisecond();
        let time = last.map_or(now, |last| now.max(last.saturating_add(1)));
        let name = format!("{time:015}-{id}");
        let folder = self.root().join("runs").join(name);
        fs_err::create_dir_all(&folder).map_err(io("make a run's folder"))?;
        Ok(folder)
    }

    /// Writes a run's record; a durable one survives a power cut.
    pub(crate) fn write_run(&self, folder: &std::path::Path, run: &RunRecord, durable: bool) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(run).unwrap_or_default();
        let write = if durable { persist } else { replace };
        write(&folder.join("run.json"), &bytes).map_err(io("write a run's record"))?;
        if run.status != RunStatus::Running {
            // Best effort: it is read of running and killed runs alone.
            let _ = std::fs::remove_file(folder.join(STAGES));
        }
        Ok(())
    }

    /// Adds stages that have ended to the record of a run that goes on.
    pub(crate) fn add_stages(&self, folder: &std::path::Path, stages: &[RunStage]) -> Result<(), StoreError> {
        let mut lines = String::new();
        for stage in stages {
            lines += &serde_json::to_string(stage).unwrap_or_default();
            lines.push('\n');
        }
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(STAGES))
            .map_err(io("write a run's record"))?;
        std::io::Write::write_all(&mut file, lines.as_bytes()).map_err(io("write a run's record"))
    }

    /// Whether a run is of the project that asks. Old runs do not say, so they are everybody's.
    pub fn is_own(&self, run: &RunRecord) -> bool {
        match (&self.project, &run.project) {
            (Some(own), Some(of)) => own == of,
            _ => true,
        }
    }

    /// Folders of all runs that have begun, oldest first, each with its id.
    ///
    /// # Errors
    /// The folder of the runs cannot be listed.
    pub fn run_folders(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let mut folders = self.all_run_folders()?;
        folders.retain(|(_, folder)| folder.join("run.json").exists());
        Ok(folders)
    }

    /// Also those without a record.
    pub(super) fn all_run_folders(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let mut folders = Vec::new();
        let entries = match fs_err::read_dir(self.root().join("runs")) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(folders),
            Err(e) => return Err(io("list the runs")(e)),
        };
        for entry in entries {
            let path = entry.map_err(io("list the runs"))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            if let Some((_, id)) = name.as_deref().and_then(|n| n.split_once('-')) {
                folders.push((id.to_owned(), path));
            }
        }
        folders.sort_by(|a, b| a.1.cmp(&b.1));
        Ok(folders)
    }

    /// The record in a run's folder. Of a run that goes on or was killed it holds the stages that had ended.
    ///
    /// # Errors
    /// The record cannot be read, is damaged, or is of a newer version of the program.
    pub fn read_run(&self, folder: &std::path::Path) -> Result<RunRecord, StoreError> {
        let bytes = fs_err::read(folder.join("run.json")).map_err(io("read a run's record"))?;
        let damaged = |source| StoreError::DamagedRun {
            id: folder.display().to_string(),
            source,
        };
        let mut run: RunRecord = serde_json::from_slice(&bytes).map_err(damaged)?;
        if run.version > RECORD_VERSION {
            return Err(StoreError::NewerRun {
                id: folder.display().to_string(),
                version: run.version,
            });
        }
        if run.status == RunStatus::Running && run.stages.is_empty() {
            let lines = match fs_err::read(folder.join(STAGES)) {
                Ok(lines) => lines,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(e) => return Err(io("read a run's record")(e)),
            };
            // Without its end of line a line was cut off by a kill.
            for line in lines
                .split_inclusive(|b| *b == b'\n')
                .filter(|line| line.ends_with(b"\n"))
            {
                run.stages.push(serde_json::from_slice(line).map_err(damaged)?);
            }
            let ends = run
                .stages
                .iter()
                .filter_map(|s| Some(s.execution.as_ref()?.started + s.seconds?));
            run.seconds = ends.fold(run.seconds, f64::max);
        }
        Ok(run)
    }

    /// Runs after this one whose records cannot be read: `@` passes over them.
    ///
    /// # Errors
    /// The folder of the runs cannot be listed.
    pub fn unreadable_after(&self, folder: &std::path::Path) -> Result<Vec<String>, StoreError> {
        let folders = self.run_folders()?;
        let later = folders.iter().rev().take_while(|(_, other)| other != folder);
        Ok(later
            .filter(|(_, other)| self.read_run(other).is_err())
            .map(|(id, _)| id.clone())
            .collect())
    }

    /// A run by `@` (the project's last one), `@-1` (the one before it), or a prefix of its id, of whatever project.
    /// `@` passes over records that cannot be read.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRun`], [`StoreError::AmbiguousRun`]; the runs cannot be listed; or the record of the one
    /// that is meant cannot be read, as [`read_run`](Self::read_run) says.
    pub fn find_run(&self, reference: &str) -> Result<(PathBuf, RunRecord), StoreError> {
        let folders = self.run_folders()?;
        let missing = || StoreError::NoSuchRun {
            reference: reference.to_owned(),
        };
        let folder = if let Some(back) = reference.strip_prefix('@') {
            let back: usize = match back {
                "" => 0,
                back => back
                    .strip_prefix('-')
                    .and_then(|n| n.parse().ok())
                    .ok_or_else(missing)?,
            };
            let readable = folders.iter().rev().filter_map(|(_, folder)| {
                let run = self.read_run(folder).ok()?;
                self.is_own(&run).then(|| (folder.clone(), run))
            });
            return readable.into_iter().nth(back).ok_or_else(missing);
        } else {
            let matches: Vec<_> = folders.iter().filter(|(id, _)| id.starts_with(reference)).collect();
            match matches.as_slice() {
                _ if reference.is_empty() => return Err(missing()),
                [] => return Err(missing()),
                [(_, path)] => path.clone(),
                several => {
                    return Err(StoreError::AmbiguousRun {
                        reference: reference.to_owned(),
                        matches: several.iter().map(|(id, _)| id.clone()).collect(),
                    });
                }
            }
        };
        let run = self.read_run(&folder)?;
        Ok((folder, run))
    }
}

/// How many letters of each id tell it from all others.
pub fn shortest_prefixes<'a>(ids: &[&'a str]) -> std::collections::HashMap<&'a str, usize> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let neighbour = |i: Option<usize>, id: &str| i.and_then(|i| sorted.get(i)).map_or(0, |other| common(id, other));
    sorted
        .iter()
        .enumerate()
        .map(|(i, id)| {
            let shared = neighbour(i.checked_sub(1), id).max(neighbour(Some(i + 1), id));
            (*id, (shared + 1).min(id.len()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_as_short_as_they_can_be() {
        let prefixes = shortest_prefixes(&["kkkz", "kkmm", "zzzz", "kkky"]);
        let of = |id: &str| prefixes.get(id).copied();
        assert_eq!(
            [of("kkkz"), of("kkky"), of("kkmm"), of("zzzz")],
            [Some(4), Some(4), Some(3), Some(1)]
        );
        assert_eq!(shortest_prefixes(&["z"])["z"], 1);
    }
}
