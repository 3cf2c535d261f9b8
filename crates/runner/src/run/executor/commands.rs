//! A queue that a profile's own commands speak with: PBS, Grid Engine, LSF, Kubernetes, a script of the site's.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::command::{CommandError, answer};
use super::folder::Record;
use super::queue::{Cluster, Queue, Refusal, Seen, State};
use super::slurm::{around, is_for_good, name, quoted, token_of};
use crate::kind::JOB_MEMORY;
use crate::pipeline::{Commands, JobState, Profile};
use crate::store::persist;

/// In a job: its id.
pub(super) const JOB_ID: &str = "DYNVIS_JOB_ID";

/// Where queues tell a job its id: PBS, Grid Engine, LSF.
const IDS: &str = "${PBS_JOBID:-${JOB_ID:-${LSB_JOBID:-}}}";

/// Commands of a profile.
#[derive(Clone, Debug)]
pub(super) struct Templates {
    commands: Commands,
    limit: Duration,
}

impl Templates {
    pub(super) fn new(commands: Commands, limit: Duration) -> Self {
        Self { commands, limit }
    }

    fn ask(&self, line: &str, variables: &[(&str, String)]) -> Result<String, CommandError> {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        // What an outer job of the queue was given is not for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("JOB_") {
                shell.env_remove(&name);
            }
        }
        shell.envs(variables.iter().map(|(name, value)| (name, value)));
        answer(shell, "", self.limit)
    }

    fn state(&self, word: &str) -> State {
        match self.commands.states.get(word) {
            Some(JobState::Waits) => State::Waits,
            Some(JobState::Ended) => State::Ended,
            Some(JobState::Memory) => State::OutOfMemory,
            Some(JobState::Time) => State::TimeLimit,
            Some(JobState::Taken) => State::Taken,
            Some(JobState::Runs) | None => State::Runs,
        }
    }

    fn parse(&self, said: &str) -> Queue {
        let mut queue = Queue::default();
        for line in said.lines() {
            let mut words = line.split_whitespace();
            let (Some(id), Some(state)) = (words.next(), words.next()) else {
                continue;
            };
            let token = words.next().map(|name| token_of(name).unwrap_or(name));
            let seen = Seen {
                id: id.to_owned(),
                state: self.state(state),
                host: None,
                reason: String::new(),
            };
            queue.add(token.map(|token| (token.to_owned(), None)), seen);
        }
        queue
    }
}

impl Cluster for Templates {
    fn submit(&self, records: &[&Record], folders: &[&Path], _: &Profile, program: &Path) -> Result<String, Refusal> {
        let ([record], [folder]) = (records, folders) else {
            return Err(Refusal::ForGood(
                "jobs of this queue are submitted one by one".to_owned(),
            ));
        };
        let path = folder.join("script");
        let id = self.commands.id.as_deref().unwrap_or(IDS);
        persist(&path, script(record, folder, id, program).as_bytes())
            .map_err(|error| Refusal::Unsure(format!("cannot write the job's script: {error}")))?;
        let said = self.ask(&self.commands.submit, &variables(record, &path));
        match said {
            Ok(said) => said
                .lines()
                .rev()
                .find_map(|line| line.split_whitespace().next_back())
                .map(str::to_owned)
                .ok_or_else(|| Refusal::Unsure("the command `submit` did not print the job's id".to_owned())),
            Err(CommandError::Failed(said)) if is_for_good(&said) => Err(Refusal::ForGood(said)),
            Err(error) => Err(Refusal::Unsure(format!("the command `submit`: {error}"))),
        }
    }

    /// The commands know of their own user alone.
    fn queue(&self, _: &BTreeSet<u32>) -> Result<Queue, CommandError> {
        Ok(self.parse(&self.ask(&self.commands.list, &[])?))
    }

    fn accounted(&self, id: &str) -> Option<State> {
        let said = self
            .ask(self.commands.ended.as_ref()?, &[("JOB_ID", id.to_owned())])
            .ok()?;
        Some(self.state(said.split_whitespace().next_back()?))
    }

    fn ask_to_end(&self, _: &str) -> Result<(), CommandError> {
        // It finds that in its folder.
        Ok(())
    }

    fn cancel(&self, ids: &[String]) -> Result<(), CommandError> {
        let mut result = Ok(());
        for id in ids {
            let said = self.ask(&self.commands.cancel, &[("JOB_ID", id.clone())]).map(|_| ());
            // One that has ended is no reason to leave others; a queue that does not answer is.
            if said == Err(CommandError::TimedOut) {
                return said;
            }
            result = result.and(said);
        }
        result
    }

    fn most_together(&self, _: &Profile) -> usize {
        1
    }

    fn words(&self) -> [&str; 2] {
        ["the command `list`", "the command `cancel`"]
    }
}

/// What a job asks for, as `submit` finds it.
fn variables(record: &Record, script: &Path) -> Vec<(&'static str, String)> {
    let options = &record.options;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let number =
        |value: Option<f64>, unit: f64| value.map_or_else(String::new, |value| (value * unit).ceil().to_string());
    let gpu = options.gpu.as_ref().filter(|_| record.gpus > 0);
    vec![
        ("JOB_SCRIPT", script.to_string_lossy().into_owned()),
        ("JOB_NAME", name(&record.stage, &record.token)),
        ("JOB_TOKEN", record.token.clone()),
        ("JOB_CPU", options.cpu.map_or_else(String::new, |cpu| cpu.to_string())),
        ("JOB_MEMORY", number(options.memory, 1024.0)),
        ("JOB_MINUTES", number(options.time, 1.0)),
        ("JOB_SECONDS", number(options.time, 60.0)),
        (
            "JOB_GPU",
            gpu.map_or_else(String::new, |gpu| gpu.replace("{count}", &record.gpus.to_string())),
        ),
        ("JOB_PARTITION", text(&options.partition)),
        ("JOB_ACCOUNT", text(&options.account)),
        ("JOB_QOS", text(&options.qos)),
        ("JOB_CONSTRAINT", text(&options.constraint)),
        (
            "JOB_OPTIONS",
            options.options.iter().flatten().cloned().collect::<Vec<_>>().join(" "),
        ),
    ]
}

/// In whole units, of which the value has so many; empty for none.
fn number(value: Option<f64>, units: f64) -> String {
    value.map_or_else(String::new, |value| (value * units).ceil().to_string())
}

/// The script of a job. `id` is expanded by its shell.
fn script(record: &Record, folder: &Path, id: &str, program: &Path) -> String {
    let (setup, launch) = around(&record.options);
    let word = |path: &Path| quoted(&path.to_string_lossy());
    let memory = number(record.options.memory, 1024.0);
    format!(
        "#!/bin/sh\nfolder={folder}\n\
         # Where nobody wants it any more, the folder is gone.\n\
         [ -d \"$folder\" ] || exit 0\nexec >> \"$folder/log\" 2>&1 || exit 1\n\
         {JOB_ID}=\"{id}\" {JOB_MEMORY}={memory}\nexport {JOB_ID} {JOB_MEMORY}\n{setup}exec {launch}{program} job \"$folder\" {token}\n",
        folder = word(folder),
        program = word(program),
        token = record.token,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(submit: &str) -> Templates {
        let state = |word: &str, state| (word.to_owned(), state);
        let commands = Commands {
            submit: submit.to_owned(),
            list: "printf '7 Q net~ab12\\n8 R\\n\\n9 F cd34\\n10 odd x\\n'".to_owned(),
            cancel: "echo no $JOB_ID >&2; exit 1".to_owned(),
            ended: Some("echo last F".to_owned()),
            states: [state("Q", JobState::Waits), state("F", JobState::Memory)].into(),
            id: None,
        };
        Templates::new(commands, Duration::from_secs(60))
    }

    #[test]
    fn lists_are_read_with_and_without_names() {
        let commands = templates("true");
        let queue = commands.queue(&BTreeSet::new()).expect("an answer");
        let state = |token: &str| queue.named(token, None).map(|seen| (seen.id.clone(), seen.state));
        assert_eq!(state("ab12"), Some(("7".to_owned(), State::Waits)));
        assert_eq!(state("cd34"), Some(("9".to_owned(), State::OutOfMemory)));
        assert_eq!(queue.len(), 4);
        assert_eq!(commands.accounted("9"), Some(State::OutOfMemory));
        assert_eq!(
            commands.cancel(&["9".to_owned()]),
            Err(CommandError::Failed("no 9".to_owned()))
        );
    }
}
