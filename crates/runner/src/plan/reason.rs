//! Why a stage is in its state: a closed set, each with a fixed line and a JSON form.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

use crate::key::{ALL, Change, FileChanges};
use crate::kind::{Broken, MissingData};
use crate::pipeline::{Pipeline, Stage};
use crate::plan::Observed;

/// One reason. As JSON an object with its name under `reason`, its parts, and its line under `text`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// No result of the stage in this pipeline is known.
    NeverRun,
    /// A parameter, the stage's kind, or a matrix field of an input's member has another value.
    Parameter {
        /// The parameter, dotted for nested ones; `kind`; or words that name the input.
        path: String,
        /// The value of the stage's last result; `None` where it was not set.
        before: Option<Json>,
        /// The value now; `None` where it is not set.
        after: Option<Json>,
    },
    /// An input slot holds other content; `producer` is the stage that it comes from.
    Input {
        /// Name of the slot.
        slot: String,
        /// The stage that fills the slot now; `None` where the stage has no such slot any more.
        producer: Option<String>,
    },
    /// A file from outside the pipeline changed, came or went.
    File {
        /// The file's name within the stage's identity.
        slot: String,
    },
    /// Files of a folder with very many of them changed, came or went.
    Files {
        /// How many, and the slots of some.
        #[serde(flatten)]
        changes: FileChanges,
    },
    /// The kind computes other numbers since its code version was raised.
    CodeVersion {
        /// Code version of the stage's last result.
        before: String,
        /// Code version of this program.
        after: String,
    },
    /// An environment variable that the stage declares has another value, or is set or unset since.
    Environment {
        /// Name of the variable.
        name: String,
    },
    /// The key's result is known, but files of it are gone from the cache.
    OutputMissing {
        /// Slot of the first output that lacks files.
        output: String,
    },
    /// The key's result is known, but its files are not those that were stored.
    OutputDamaged {
        /// Slot of the first output that is damaged.
        output: String,
    },
    /// The stage declares other outputs, or other types of them.
    OutputsChanged,
    /// The result is there, but breaks a condition that the stage declares.
    ConditionBroken(Broken),
    /// The user asked for it, whatever the state (`--force`).
    Forced,
    /// The last attempt at the same key failed.
    FailedBefore {
        /// Id of that run.
        run: String,
    },
    /// The last attempt at the same key was interrupted.
    InterruptedBefore {
        /// Id of that run.
        run: String,
    },
    /// An earlier attempt left a checkpoint, from which it goes on.
    HasCheckpoint,
    /// An earlier version of the program encoded keys in another way.
    KeyFormat,
    /// A producer executes first; if its output comes out equal, nothing is to be done.
    UpstreamMayChange {
        /// Name of the producer.
        stage: String,
    },
    /// A producer delivers nothing in this run, so the stage cannot execute.
    UpstreamUnavailable {
        /// Name of the producer.
        stage: String,
    },
    /// A file or folder outside the pipeline is not there, or of no use.
    DataMissing(MissingData),
    /// The command is about other stages, and no result of this one is up to date.
    NotSelected,
    /// Not selected, but its result is there and serves stages that are.
    NotSelectedButCurrent,
    /// Not selected; whether its result is current shows once what it waits for has executed.
    NotSelectedMayBeCurrent,
    /// The result was not computed: somebody declared it to be up to date.
    Accepted {
        /// The reason that the user gave.
        why: String,
    },
    /// The result was not computed here: it came from a remote or out of a bundle.
    Pulled {
        /// Which one.
        from: String,
        /// The machine that sent it.
        host: String,
    },
}

impl Reason {
    /// The form for programs.
    pub fn to_json(&self) -> Json {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        json["text"] = self.to_string().into();
        json
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let value = |v: &Option<Json>| match v {
            Some(Json::String(s)) => s.clone(),
            Some(v) => v.to_string(),
            None => "unset".into(),
        };
        match self {
            Self::NeverRun => write!(f, "never run"),
            Self::Parameter { path, before, after } => write!(f, "{path}: {} -> {}", value(before), value(after)),
            Self::Input {
                slot,
                producer: Some(producer),
            } => write!(f, "input `{slot}` changed (from `{producer}`)"),
            Self::Input { slot, producer: None } => write!(f, "input `{slot}` is gone"),
            Self::File { slot } if slot == ALL => write!(f, "files of the folder changed"),
            Self::File { slot } => write!(f, "file `{slot}` changed"),
            Self::Files { changes } => write_changes(changes, f),
            Self::CodeVersion { before, after } => {
                write!(f, "code version {before} -> {after}")
            }
            Self::Environment { name } => write!(f, "environment variable {name} changed"),
            Self::OutputMissing { output } => write!(f, "output `{output}` is missing"),
            Self::OutputDamaged { output } => write!(f, "output `{output}` is damaged"),
            Self::OutputsChanged => write!(f, "its outputs changed"),
            Self::ConditionBroken(broken) => {
                write!(f, "output `{}` breaks a condition: {}", broken.output, broken.problem)
            }
            Self::Forced => write!(f, "forced"),
            Self::FailedBefore { run } => write!(f, "failed before (run {run})"),
            Self::InterruptedBefore { run } => write!(f, "interrupted before (run {run})"),
            Self::HasCheckpoint => write!(f, "resumes from its checkpoint"),
            Self::KeyFormat => write!(f, "the format of keys changed"),
            Self::UpstreamMayChange { stage } => {
                write!(f, "waits for `{stage}`, whose result may be unchanged")
            }
            Self::UpstreamUnavailable { stage } => write!(f, "needs `{stage}`"),
            Self::DataMissing(missing) => match &missing.unusable {
                Some(why) => write!(f, "{}: {why}", missing.what),
                None => write!(f, "{} is missing", missing.what),
            },
            Self::NotSelected => write!(f, "not selected"),
            Self::NotSelectedButCurrent => write!(f, "not selected; its result is current"),
            Self::NotSelectedMayBeCurrent => {
                write!(f, "not selected; whether its result is current shows during the run")
            }
            Self::Accepted { why } => write!(f, "accepted without running: {why}"),
            Self::Pulled { from, host } => write!(f, "pulled from {from} (sent by {host})"),
        }
    }
}

/// How many files of a folder are other than they were, and the first of them.
fn write_changes(changes: &FileChanges, f: &mut fmt::Formatter) -> fmt::Result {
    const SHOWN: usize = 3;
    let counts = [
        (changes.changed, "changed"),
        (changes.added, "new"),
        (changes.removed, "gone"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let files = changes.changed + changes.added + changes.removed;
    let plural = if files == 1 { "" } else { "s" };
    write!(f, "file{plural} of the folder: {}", counts.join(", "))?;
    let mut examples = changes.examples.iter().take(SHOWN);
    if let Some(first) = examples.next() {
        write!(f, " (`{first}`")?;
        for example in examples {
            write!(f, ", `{example}`")?;
        }
        let more = if files > SHOWN as u64 { ", ...)" } else { ")" };
        f.write_str(more)?;
    }
    Ok(())
}

/// What is told of folders with very many files: how many changed and the first of them, where that is known. A folder
/// whose files were listed one by one before and are not now, or the other way round, is told as a whole.
pub(super) fn with_files(
    mut reasons: Vec<Reason>,
    observed: &Observed,
    changes: impl FnOnce() -> Option<Vec<FileChanges>>,
) -> Vec<Reason> {
    let is_slot = |reason: &Reason, slot: &str| matches!(reason, Reason::File { slot: found } if found == slot);
    let prefixes: Vec<&str> = (observed.trees.iter())
        .map(|tree| tree.prefix())
        .filter(|prefix| reasons.iter().any(|reason| is_slot(reason, &format!("{prefix}{ALL}"))))
        .collect();
    let is_of_folder = |reason: &Reason| match reason {
        Reason::File { slot } => prefixes.iter().any(|prefix| slot.starts_with(prefix)),
        _ => false,
    };
    let Some(first) = reasons.iter().position(is_of_folder) else {
        return reasons;
    };
    match changes().filter(|changes| !changes.is_empty()) {
        Some(changes) => {
            let changes: Vec<Reason> = changes.into_iter().map(|changes| Reason::Files { changes }).collect();
            reasons.retain(|reason| !is_of_folder(reason));
            reasons.splice(first..first, changes);
        }
        None => {
            let is_whole = |reason: &Reason| prefixes.iter().any(|prefix| is_slot(reason, &format!("{prefix}{ALL}")));
            reasons.retain(|reason| !is_of_folder(reason) || is_whole(reason));
        }
    }
    reasons
}

/// Differences of two descriptions as reasons.
pub(super) fn from_changes(pipeline: &Pipeline, stage: &Stage, changes: &[Change]) -> Vec<Reason> {
    let producer = |slot: &str| {
        let input = stage.inputs.iter().find(|i| i.slot == slot)?;
        Some(pipeline.stage(input.producer).name.clone())
    };
    let text = |v: &Option<Json>| v.as_ref().map_or_else(String::new, Json::to_string);
    let mut reasons: Vec<Reason> = changes
        .iter()
        .map(|change| {
            let (part, rest) = change.path.split_once('.').unwrap_or((&change.path, ""));
            match part {
                "params" => Reason::Parameter {
                    path: stage.kind().published_path(rest),
                    before: change.before.clone(),
                    after: change.after.clone(),
                },
                "inputs" => Reason::Input {
                    slot: rest.to_owned(),
                    producer: producer(rest),
                },
                "members" => Reason::Parameter {
                    path: format!("matrix fields of `{rest}`"),
                    before: change.before.clone(),
                    after: change.after.clone(),
                },
                "files" => Reason::File { slot: rest.to_owned() },
                "environment" => Reason::Environment { name: rest.to_owned() },
                "outputs" => Reason::OutputsChanged,
                "code_version" => Reason::CodeVersion {
                    before: text(&change.before),
                    after: text(&change.after),
                },
                "kind" => Reason::Parameter {
                    path: "kind".into(),
                    before: change.before.clone(),
                    after: change.after.clone(),
                },
                _ => Reason::KeyFormat,
            }
        })
        .collect();
    reasons.dedup();
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each, so that no line and no JSON form changes unnoticed.
    fn every_reason() -> Vec<Reason> {
        let text = |text: &str| text.to_owned();
        let mut all = vec![
            Reason::NeverRun,
            Reason::Parameter {
                path: text("epochs"),
                before: Some(3.into()),
                after: None,
            },
            Reason::Input {
                slot: text("data"),
                producer: Some(text("digits")),
            },
            Reason::Input {
                slot: text("data"),
                producer: None,
            },
            Reason::File { slot: text("0") },
            Reason::Files {
                changes: FileChanges {
                    changed: 3,
                    added: 0,
                    removed: 1,
                    examples: vec![text("train/a"), text("train/b"), text("train/c"), text("train/d")],
                },
            },
            Reason::CodeVersion {
                before: text("1"),
                after: text("2"),
            },
            Reason::Environment { name: text("PATH") },
            Reason::OutputMissing { output: text("model") },
            Reason::OutputDamaged { output: text("model") },
            Reason::OutputsChanged,
            Reason::ConditionBroken(Broken {
                output: text("accuracy"),
                problem: text("3 rows, at least 4 are needed"),
            }),
            Reason::Forced,
            Reason::FailedBefore { run: text("kkllmmnn") },
            Reason::InterruptedBefore { run: text("kkllmmnn") },
            Reason::HasCheckpoint,
            Reason::KeyFormat,
            Reason::UpstreamMayChange { stage: text("cnn") },
            Reason::UpstreamUnavailable { stage: text("cnn") },
            Reason::DataMissing(MissingData {
                what: text("the file `x`"),
                place: text("data/x"),
                hint: text("get it there"),
                unusable: None,
            }),
            Reason::NotSelected,
            Reason::NotSelectedButCurrent,
            Reason::NotSelectedMayBeCurrent,
            Reason::Accepted {
                why: text("a comment changed"),
            },
            Reason::Pulled {
                from: text("s3://lab/results"),
                host: text("node7"),
            },
        ];
        // The compiler asks for a new one here.
        all.sort_by_key(|reason| match reason {
            Reason::NeverRun => 0,
            Reason::Parameter { .. } => 1,
            Reason::Input { .. } => 2,
            Reason::File { .. } => 3,
            Reason::CodeVersion { .. } => 4,
            Reason::Environment { .. } => 5,
            Reason::OutputMissing { .. } => 6,
            Reason::OutputDamaged { .. } => 7,
            Reason::OutputsChanged => 8,
            Reason::ConditionBroken(_) => 9,
            Reason::Forced => 10,
            Reason::FailedBefore { .. } => 11,
            Reason::InterruptedBefore { .. } => 12,
            Reason::HasCheckpoint => 13,
            Reason::KeyFormat => 14,
            Reason::UpstreamMayChange { .. } => 15,
            Reason::UpstreamUnavailable { .. } => 16,
            Reason::DataMissing(_) => 17,
            Reason::NotSelected => 18,
            Reason::NotSelectedButCurrent => 19,
            Reason::NotSelectedMayBeCurrent => 20,
            Reason::Accepted { .. } => 21,
            Reason::Files { .. } => 22,
            Reason::Pulled { .. } => 23,
        });
        all
    }

    #[test]
    fn each_reason_has_its_line_and_its_json() {
        let lines: Vec<String> = every_reason().iter().map(|r| r.to_json().to_string()).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
