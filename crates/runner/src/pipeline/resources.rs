//! What a stage takes while it runs, and how long and how often it may try. Never part of its identity.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::ErrorClass;

/// `resources` of a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processor threads; a fair share of what is free if left out.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub cpu: Option<usize>,
    /// GPUs, as far as the machine has them. Kinds that compute on a GPU take one unless this is 0; `train` trains on
    /// as many as it asks for; a `command` takes those that it asks for, and sees no others.
    #[serde(default)]
    pub gpu: Option<usize>,
    /// Memory that the stage takes of each GPU, so that others may have the rest; all of it if left out.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "GiB"))]
    pub gpu_memory: Option<f64>,
    /// Memory of the machine that a job of the stage asks its queue for. Beside the tool nothing heeds it.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "GiB"))]
    pub memory: Option<f64>,
    /// Time that a job of the stage asks its queue for. A stage that keeps checkpoints goes on in a further job where it
    /// does not suffice. Beside the tool nothing heeds it.
    #[serde(default)]
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0.0, "x-unit" = "min"))]
    pub time: Option<f64>,
    /// Units that it takes of the pipeline's `pools`.
    #[serde(default)]
    pub pools: BTreeMap<String, usize>,
    /// Time after which the stage is ended and has failed, unless it has written its result until then.
    #[serde(default)]
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0.0, "x-unit" = "min"))]
    pub timeout: Option<f64>,
    /// Further attempts after some kinds of failure.
    #[serde(default)]
    pub retry: Option<Retry>,
}

/// When a stage is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts after the first, at most.
    #[schemars(range(min = 1, max = 100))]
    times: usize,
    /// Failures after which it is tried again.
    #[serde(default = "every_class")]
    on: Vec<ErrorClass>,
    /// How much more memory a job asks for after each attempt that had too little.
    #[serde(default = "twice")]
    #[schemars(range(min = 1, max = 100))]
    memory_factor: f64,
    /// How much more time a job asks for after each attempt that had too little.
    #[serde(default = "twice")]
    #[schemars(range(min = 1, max = 100))]
    time_factor: f64,
}

fn twice() -> f64 {
    2.0
}

fn every_class() -> Vec<ErrorClass> {
    vec![ErrorClass::Oom, ErrorClass::Io, ErrorClass::Time]
}

impl Resources {
    /// Bytes that it takes of each GPU; all of them if none.
    pub(crate) fn gpu_bytes(&self) -> Option<u64> {
        self.gpu_memory.map(|gib| (gib * (1u64 << 30) as f64) as u64)
    }

    /// `timeout` of the stage; `None` where it may run for ever.
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.timeout.map(|minutes| Duration::from_secs_f64(minutes * 60.0))
    }

    /// By how much an attempt asks for more than the first, after attempts that failed so.
    pub(crate) fn factor(&self, class: ErrorClass, failed: &[ErrorClass]) -> f64 {
        let times = failed.iter().filter(|failed| **failed == class).count();
        let factor = match (&self.retry, class) {
            (Some(retry), ErrorClass::Oom) => retry.memory_factor,
            (Some(retry), ErrorClass::Time) => retry.time_factor,
            _ => 1.0,
        };
        factor.powi(i32::try_from(times).unwrap_or(i32::MAX))
    }

    /// Attempts after the first that a failure of that class calls for.
    pub(crate) fn retries(&self, class: Option<ErrorClass>) -> usize {
        match (&self.retry, class) {
            (Some(retry), Some(class)) if retry.on.contains(&class) => retry.times,
            _ => 0,
        }
    }
}
