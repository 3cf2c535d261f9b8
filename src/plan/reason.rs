//! Why a stage is in its state: a closed set, each with a fixed line and a JSON form.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

use crate::key::Change;
use crate::pipeline::{Pipeline, Stage};
use crate::stage::MissingData;

/// One reason. Serialises with its name as key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    NeverRun,
    Parameter {
        path: String,
        before: Option<Json>,
        after: Option<Json>,
    },
    /// An input slot holds other content; `producer` is the stage that it comes from.
    Input {
        slot: String,
        producer: Option<String>,
    },
    /// A file from outside the pipeline changed, came or went.
    File {
        slot: String,
    },
    CodeVersion {
        before: String,
        after: String,
    },
    Environment {
        name: String,
    },
    OutputMissing {
        output: String,
    },
    OutputDamaged {
        output: String,
    },
    OutputsChanged,
    Forced,
    FailedBefore {
        run: String,
    },
    InterruptedBefore {
        run: String,
    },
    /// An earlier attempt left a checkpoint, from which it goes on.
    HasCheckpoint,
    KeyFormat,
    UpstreamMayChange {
        stage: String,
    },
    UpstreamUnavailable {
        stage: String,
    },
    DataMissing(MissingData),
    NotSelected,
    /// Not selected, but its result is there and serves stages that are.
    NotSelectedButCurrent,
    /// Not selected; whether its result is current shows once what it waits for has executed.
    NotSelectedMayBeCurrent,
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
            Self::File { slot } => write!(f, "file `{slot}` changed"),
            Self::CodeVersion { before, after } => {
                write!(f, "code version {before} -> {after}")
            }
            Self::Environment { name } => write!(f, "environment variable {name} changed"),
            Self::OutputMissing { output } => write!(f, "output `{output}` is missing"),
            Self::OutputDamaged { output } => write!(f, "output `{output}` is damaged"),
            Self::OutputsChanged => write!(f, "its outputs changed"),
            Self::Forced => write!(f, "forced"),
            Self::FailedBefore { run } => write!(f, "failed before (run {run})"),
            Self::InterruptedBefore { run } => write!(f, "interrupted before (run {run})"),
            Self::HasCheckpoint => write!(f, "goes on from its checkpoint"),
            Self::KeyFormat => write!(f, "the format of keys changed"),
            Self::UpstreamMayChange { stage } => {
                write!(f, "waits for `{stage}`, which may come out equal")
            }
            Self::UpstreamUnavailable { stage } => write!(f, "needs `{stage}`"),
            Self::DataMissing(missing) => write!(f, "{} is missing", missing.what),
            Self::NotSelected => write!(f, "not selected"),
            Self::NotSelectedButCurrent => write!(f, "not selected; its result is current"),
            Self::NotSelectedMayBeCurrent => {
                write!(f, "not selected; whether its result is current shows during the run")
            }
        }
    }
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
                    path: rest.to_owned(),
                    before: change.before.clone(),
                    after: change.after.clone(),
                },
                "inputs" => Reason::Input {
                    slot: rest.to_owned(),
                    producer: producer(rest),
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
