//! A whole pipeline at once, each stage a job that waits for those of its producers: for sites where nobody may stay to
//! submit what is ready. Each job is a run of its own of one stage, on its node, which decides there whether there is
//! anything to do.

use std::path::PathBuf;
use std::time::Duration;

use super::command::CommandError;
use super::queue::{Cluster, Refusal};
use super::slurm::{Slurm, arguments, around, name, quoted};
use crate::kind::Device;
use crate::pipeline::{Pipeline, Profile, StageId};
use crate::plan::{Planned, Selection, State};
use crate::run::dispatcher::gpus_wanted;

/// A stage of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name of the stage.
    pub stage: String,
    /// Its job's id.
    pub job: String,
    /// Ids of the jobs that it waits for.
    pub after: Vec<String>,
    /// Whether it was submitted now; else it was in the queue.
    pub is_new: bool,
}

/// How a chain is submitted.
#[derive(Clone, Debug)]
pub struct ChainOptions {
    /// What jobs ask for.
    pub profile: Profile,
    /// Path of the program on the nodes.
    pub program: PathBuf,
    /// The cache's folder.
    pub cache: PathBuf,
    /// What `run` is called with on the nodes: the pipeline, then options that change it.
    pub arguments: Vec<String>,
    /// Where stages compute that can choose.
    pub device: Device,
}

/// Why a chain was not submitted to its end. The same again finds what was.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The queue did not say what it has already.
    #[error("the queue does not say what it has, so that nothing was submitted: squeue: {0}")]
    Queue(String),
    /// A stage's job was not taken.
    #[error("the job of stage `{stage}` was not taken: {reason}")]
    Refused {
        /// Name of the stage.
        stage: String,
        /// What the queue says.
        reason: String,
    },
    /// The folder of the chain's logs could not be made.
    #[error("cannot make the folder of the logs")]
    Folder(#[from] std::io::Error),
}

/// Submits a job for every selected stage that is to run, as far as the queue has none for it, producers first.
///
/// # Errors
/// See [`ChainError`]; what was submitted until then stays.
pub fn submit_chain(
    pipeline: &Pipeline,
    selection: &Selection,
    planned: &[Planned],
    options: &ChainOptions,
) -> Result<Vec<Link>, ChainError> {
    let profile = &options.profile;
    let slurm = Slurm {
        limit: Duration::from_secs_f64(profile.command_limit),
    };
    let queue = slurm
        .queue(&[rustix::process::getuid().as_raw()].into())
        .map_err(|error: CommandError| ChainError::Queue(error.to_string()))?;
    let logs = options.cache.join("chains");
    fs_err::create_dir_all(&logs)?;
    let mut jobs: Vec<Option<String>> = vec![None; pipeline.stages.len()];
    let mut links = Vec::new();
    for planned in planned.iter().filter(|planned| is_to_run(planned, selection)) {
        let stage = pipeline.stage(planned.id);
        let mut after: Vec<String> = Vec::new();
        for input in &stage.inputs {
            let StageId(producer) = input.producer;
            let job = jobs[producer].clone().filter(|job| !after.contains(job));
            after.extend(job);
        }
        let token = options.token(pipeline, &stage.name);
        let known = queue.named(&token, None).filter(|seen| !seen.state.is_over());
        let (job, is_new) = match known {
            Some(seen) => (seen.id.clone(), false),
            None => {
                let claim = &stage.resources;
                let asked = profile.options(stage.kind().name(), &stage.name);
                let asked = asked.claimed(claim.cpu, claim.memory, claim.time);
                let gpus = gpus_wanted(stage, options.device);
                let mut arguments = arguments(&name(&stage.name, &token), &asked, gpus, profile);
                if !after.is_empty() {
                    arguments.push(format!("--dependency=afterok:{}", after.join(":")));
                    arguments.push("--kill-on-invalid-dep=yes".to_owned());
                }
                let log = logs.join(format!("{token}.log"));
                let (setup, launch) = around(&asked);
                let command = options.command(&stage.name);
                let script = script(
                    &setup,
                    &format!("{launch}{command}"),
                    &log,
                    stage.kind().keeps_checkpoints(),
                );
                let job = slurm
                    .submit_script(&arguments, &script)
                    .map_err(|refusal| ChainError::Refused {
                        stage: stage.name.clone(),
                        reason: match refusal {
                            Refusal::ForGood(said) | Refusal::Unsure(said) => said,
                        },
                    })?;
                (job, true)
            }
        };
        jobs[planned.id.0] = Some(job.clone());
        links.push(Link {
            stage: stage.name.clone(),
            job,
            after,
            is_new,
        });
    }
    Ok(links)
}

fn is_to_run(planned: &Planned, selection: &Selection) -> bool {
    selection.includes(planned.id) && matches!(planned.decision.state, State::Run | State::Maybe | State::Restore)
}

impl ChainOptions {
    /// Part of the job's name, the same each time, so that a job is found that was submitted before.
    fn token(&self, pipeline: &Pipeline, stage: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        let (root, cache) = (pipeline.root.to_string_lossy(), self.cache.to_string_lossy());
        let parts = [root.as_ref(), cache.as_ref(), pipeline.name.as_str(), stage];
        for part in parts.into_iter().chain(self.arguments.iter().map(String::as_str)) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// The run of one stage, as the shell has it.
    fn command(&self, stage: &str) -> String {
        let cache = self.cache.to_string_lossy();
        let device = self.device.to_string();
        let words = [&*self.program.to_string_lossy(), "--cache", cache.as_ref(), "run"].map(str::to_owned);
        let after = ["--progress", "plain", "--device", &device, "--only", stage].map(str::to_owned);
        let all = words.iter().chain(&self.arguments).chain(&after);
        all.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A job that has itself queued again where its stage was asked to end and has written a checkpoint.
fn script(setup: &str, command: &str, log: &std::path::Path, keeps_checkpoints: bool) -> String {
    let log = quoted(&log.to_string_lossy());
    let head = format!("#!/bin/sh\nexec >> {log} 2>&1\n{setup}");
    if !keeps_checkpoints {
        // Its last minute is left to it.
        return format!("{head}trap '' TERM\n{command}\n");
    }
    let interrupted = crate::run::INTERRUPTED;
    format!(
        "{head}trap 'kill -TERM \"$child\"' TERM\n{command} &\nchild=$!\nwait \"$child\"\ncode=$?\nwhile kill -0 \"$child\" \
         2> /dev/null; do\n    wait \"$child\"\n    code=$?\ndone\nif [ \"$code\" = {interrupted} ] && [ \"$(squeue \
         --noheader --format=%T --jobs \"$SLURM_JOB_ID\")\" = RUNNING ]; then\n    scontrol requeue \"$SLURM_JOB_ID\"\nfi\nexit \
         \"$code\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_a_chain_ends_as_its_run_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("it's.log");
        for keeps_checkpoints in [false, true] {
            for code in [0, 100] {
                let text = script(
                    "A=1\n",
                    &format!("sh -c 'echo ended; exit {code}'"),
                    &log,
                    keeps_checkpoints,
                );
                let status = std::process::Command::new("sh")
                    .args(["-c", &text])
                    .status()
                    .expect("a shell");
                assert_eq!(status.code(), Some(code), "{text}");
            }
        }
        assert_eq!(fs_err::read_to_string(&log).expect("a log"), "ended\n".repeat(4));
    }
}
