//! What Slurm is asked, and how its answers are read.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::command::{CommandError, answer};
use super::folder::{Folder, Record};
use super::queue::{Cluster, Queue, Refusal, Seen, State};
use crate::pipeline::{JobOptions, Profile};

/// What stands between a job's readable name and the submission that it is of.
const MARK: char = '~';

/// The commands of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Slurm {
    pub(super) limit: Duration,
}

impl Cluster for Slurm {
    fn submit(
        &self,
        records: &[&Record],
        folders: &[&Path],
        profile: &Profile,
        program: &Path,
    ) -> Result<String, Refusal> {
        let [first, ..] = records else {
            return Err(Refusal::ForGood("there is nothing to submit".to_owned()));
        };
        let is_array = first.task.is_some();
        let readable = if is_array { &first.family } else { &first.stage };
        let name = name(readable, &first.token);
        let mut arguments = arguments(&name, &first.options, first.gpus, profile);
        if is_array {
            arguments.push(format!("--array=0-{}", records.len() - 1));
        }
        self.submit_script(&arguments, &script(&first.options, folders, &first.token, program))
    }

    fn queue(&self, users: &BTreeSet<u32>) -> Result<Queue, CommandError> {
        let mut command = Command::new("squeue");
        let users: Vec<String> = users.iter().map(u32::to_string).collect();
        command.args(["--noheader", "--array", "--states=all", "--format=%i|%T|%N|%r|%j"]);
        command.arg(format!("--user={}", users.join(",")));
        without_defaults(&mut command, "SQUEUE_");
        Ok(parse_queue(&answer(command, "", self.limit)?))
    }

    fn accounted(&self, id: &str) -> Option<State> {
        let mut command = Command::new("sacct");
        command.args([
            "--noheader",
            "--allocations",
            "--parsable2",
            "--format=State",
            "--jobs",
            id,
        ]);
        without_defaults(&mut command, "SACCT_");
        let said = answer(command, "", self.limit).ok()?;
        // A job that was queued again has a line for each time.
        let last = said.lines().rfind(|line| !line.trim().is_empty())?;
        Some(state_of(last.trim()))
    }

    fn ask_to_end(&self, id: &str) -> Result<(), CommandError> {
        let mut command = Command::new("scancel");
        command.args(["--batch", "--signal=TERM", id]);
        answer(command, "", self.limit).map(|_| ())
    }

    fn cancel(&self, ids: &[String]) -> Result<(), CommandError> {
        let mut command = Command::new("scancel");
        command.args(ids);
        answer(command, "", self.limit).map(|_| ())
    }

    fn most_together(&self, profile: &Profile) -> usize {
        profile.array
    }

    fn words(&self) -> [&str; 2] {
        ["squeue", "scancel"]
    }
}

impl Slurm {
    /// Submits a script, and gives its id.
    pub(super) fn submit_script(&self, arguments: &[String], script: &str) -> Result<String, Refusal> {
        let mut command = Command::new("sbatch");
        command.args(arguments);
        // What an outer job was given is not for the jobs that are submitted from it.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("SLURM_") && !matches!(text.as_ref(), "SLURM_CONF" | "SLURM_CLUSTERS") {
                command.env_remove(&name);
            }
        }
        match answer(command, script, self.limit) {
            // Wrappers of a site may say something before it.
            Ok(said) => said
                .lines()
                .rev()
                .find_map(id_of)
                .ok_or_else(|| Refusal::Unsure(format!("sbatch did not tell the job's id, but: {}", said.trim()))),
            Err(CommandError::Failed(said)) if is_for_good(&said) => Err(Refusal::ForGood(said)),
            Err(CommandError::Absent) => Err(Refusal::ForGood("there is no `sbatch` here".to_owned())),
            Err(error) => Err(Refusal::Unsure(format!("sbatch: {error}"))),
        }
    }
}

fn without_defaults(command: &mut Command, prefix: &str) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(prefix) {
            command.env_remove(&name);
        }
    }
}

/// `12`, or `12;cluster`.
fn id_of(line: &str) -> Option<String> {
    let id = line.trim().split(';').next()?;
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then(|| id.to_owned())
}

/// By the queue's word; what is not known is taken for going on.
fn state_of(word: &str) -> State {
    // Accounting adds who has cancelled.
    match word.split_whitespace().next().unwrap_or_default().trim_end_matches('+') {
        "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => {
            State::Waits
        }
        "COMPLETED" | "FAILED" => State::Ended,
        "OUT_OF_MEMORY" => State::OutOfMemory,
        "TIMEOUT" | "DEADLINE" => State::TimeLimit,
        "CANCELLED" | "PREEMPTED" | "NODE_FAIL" | "BOOT_FAIL" | "REVOKED" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => {
            State::Taken
        }
        _ => State::Runs,
    }
}

/// Whether the queue's controller has looked at what is asked for and does not have it. Of everything else it may be
/// that it comes late, or was taken although the answer was lost.
pub(super) fn is_for_good(said: &str) -> bool {
    let said = said.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let for_good = says(&[
        "invalid ",
        "unrecognized option",
        "unrecognised option",
        "not available",
        "no partition specified",
        "not permitted",
        "permission denied",
        "access denied",
        "can not be satisfied",
        "cannot be satisfied",
        "required argument",
    ]);
    for_good
        && !says(&[
            "timed out",
            "unable to contact",
            "temporarily",
            "submit limit",
            "inactive or drain",
        ])
}

fn parse_queue(said: &str) -> Queue {
    let mut queue = Queue::default();
    for line in said.lines() {
        let fields: Vec<&str> = line.splitn(5, '|').collect();
        let [id, state, host, reason, name] = fields.as_slice() else {
            continue;
        };
        let Some(token) = token_of(name.trim()) else {
            continue;
        };
        let task = id.split_once('_').and_then(|(_, task)| task.parse().ok());
        let told = |text: &str| {
            Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text != "None" && text != "(null)")
        };
        let seen = Seen {
            id: id.trim().to_owned(),
            state: state_of(state.trim()),
            host: told(host),
            reason: told(reason).unwrap_or_default(),
        };
        queue.add(Some((token.to_owned(), task)), seen);
    }
    queue
}

/// The job's name: first what users know, at the end what is looked for.
pub(super) fn name(readable: &str, token: &str) -> String {
    const LONGEST: usize = 120;
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() || "@=,.-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    let readable: String = readable.chars().map(fits).take(LONGEST).collect();
    format!("{readable}{MARK}{token}")
}

/// The submission that a job of this name is of.
pub(super) fn token_of(name: &str) -> Option<&str> {
    Some(name.rsplit_once(MARK)?.1)
}

/// What `sbatch` is called with.
pub(super) fn arguments(name: &str, options: &JobOptions, gpus: usize, profile: &Profile) -> Vec<String> {
    let mut arguments = vec![
        "--parsable".to_owned(),
        format!("--job-name={name}"),
        "--nodes=1".to_owned(),
        "--ntasks=1".to_owned(),
        "--requeue".to_owned(),
        // Into a file of the job's own, by the script: an array has one for all its tasks.
        "--output=/dev/null".to_owned(),
        format!("--signal=B:TERM@{}", profile.grace),
    ];
    let named = [
        ("partition", &options.partition),
        ("account", &options.account),
        ("qos", &options.qos),
        ("constraint", &options.constraint),
    ];
    for (option, value) in named {
        arguments.extend(value.as_ref().map(|value| format!("--{option}={value}")));
    }
    arguments.extend(options.cpu.map(|cpu| format!("--cpus-per-task={cpu}")));
    arguments.extend(options.memory.map(|gib| format!("--mem={}M", (gib * 1024.0).ceil())));
    arguments.extend(
        options
            .time
            .map(|minutes| format!("--time={}", minutes.ceil().max(1.0))),
    );
    if let Some(gpu) = options.gpu.as_ref().filter(|_| gpus > 0) {
        let asked = gpu.replace("{count}", &gpus.to_string());
        arguments.extend(asked.split_whitespace().map(str::to_owned));
    }
    arguments.extend(options.options.iter().flatten().cloned());
    arguments
}

/// A word of the shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The script of a job, or of an array whose tasks find their folders by their numbers.
fn script(options: &JobOptions, folders: &[&Path], token: &str, program: &Path) -> String {
    let mut text = "#!/bin/sh\n".to_owned();
    let word = |path: &Path| quoted(&path.to_string_lossy());
    text += "case ${SLURM_ARRAY_TASK_ID:-0} in\n";
    for (task, folder) in folders.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{task}) folder={} ;;", word(folder));
    }
    text += "esac\n";
    // Where nobody wants it any more, the folder is gone.
    text += "[ -d \"$folder\" ] || exit 0\nexec >> \"$folder/log\" 2>&1 || exit 1\n";
    let (setup, launch) = around(options);
    let _ = writeln!(text, "{setup}exec {launch}{} job \"$folder\" {token}", word(program));
    text
}

/// Lines and words of the shell that stand before the program.
pub(super) fn around(options: &JobOptions) -> (String, String) {
    let setup = options.setup.iter().flatten().map(|line| format!("{line}\n"));
    let launch = options.launch.iter().flatten().map(|word| format!("{} ", quoted(word)));
    (setup.collect(), launch.collect())
}

/// The folders of jobs that are submitted together, as they are called.
pub(super) fn paths<'a>(folders: impl Iterator<Item = &'a Folder>) -> Vec<&'a Path> {
    folders.map(|folder| folder.0.as_path()).collect()
}

/// What is found of Slurm on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    /// What `sbatch --version` says, or why it says nothing.
    pub version: Result<String, String>,
    /// Partitions that jobs may be sent to, `name state`, or why that is not told.
    pub partitions: Result<Vec<String>, String>,
    /// Whether accounting answers.
    pub has_accounting: bool,
}

/// Asks what there is of Slurm here; takes some seconds at most.
#[must_use]
pub fn report() -> QueueReport {
    const LIMIT: Duration = Duration::from_secs(10);
    let ask = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        answer(command, "", LIMIT).map_err(|error| error.to_string())
    };
    let version = ask("sbatch", &["--version"]).map(|said| said.trim().to_owned());
    let partitions = version
        .clone()
        .and_then(|_| ask("sinfo", &["--noheader", "--summarize", "--format=%P %a"]));
    let has_accounting = version.is_ok() && ask("sacct", &["--noheader", "--starttime=now"]).is_ok();
    QueueReport {
        version,
        partitions: partitions.map(|said| said.lines().map(|line| line.trim().to_owned()).collect()),
        has_accounting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_become_options_of_sbatch() {
        let options = JobOptions {
            partition: Some("gpu".to_owned()),
            cpu: Some(4),
            memory: Some(1.5),
            time: Some(90.2),
            gpu: Some("--gres=gpu:a100:{count} --gpu-bind=none".to_owned()),
            options: Some(vec!["--exclude=n7".to_owned()]),
            ..JobOptions::default()
        };
        let job = name("net@seed=1 é", "t0k");
        let said = arguments(&job, &options, 2, &Profile::default()).join(" ");
        assert_eq!(
            said,
            "--parsable --job-name=net@seed=1__~t0k --nodes=1 --ntasks=1 --requeue --output=/dev/null \
             --signal=B:TERM@60 --partition=gpu --cpus-per-task=4 --mem=1536M --time=91 --gres=gpu:a100:2 \
             --gpu-bind=none --exclude=n7"
        );
        let none = arguments("a~b", &JobOptions::default(), 2, &Profile::default()).join(" ");
        assert!(!none.contains("gres"), "no way to ask for GPUs: {none}");
    }

    #[test]
    fn the_script_finds_its_folder_and_keeps_odd_paths_whole() {
        let home = tempfile::tempdir().expect("a folder");
        let folders = [home.path().join("it's 0"), home.path().join("b $x")];
        let program = home.path().join("a program");
        for folder in &folders {
            fs_err::create_dir(folder).expect("made");
        }
        fs_err::write(&program, "#!/bin/sh\necho \"$SET $*\"\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(&program, mode).expect("set");
        let options = JobOptions {
            setup: Some(vec!["export SET=up".to_owned()]),
            launch: Some(vec!["env".to_owned(), "SET=up again".to_owned()]),
            ..JobOptions::default()
        };
        let paths: Vec<&Path> = folders.iter().map(std::path::PathBuf::as_path).collect();
        let text = script(&options, &paths, "t0k", &program);
        for (task, folder) in folders.iter().enumerate() {
            let mut shell = Command::new("sh");
            shell.env("SLURM_ARRAY_TASK_ID", task.to_string());
            answer(shell, &text, Duration::from_secs(60)).expect("it runs");
            let log = fs_err::read_to_string(folder.join("log")).expect("a log");
            assert_eq!(log, format!("up again job {} t0k\n", folder.display()));
        }
    }

    #[test]
    fn the_queue_is_read_whatever_names_hold() {
        let said = "12|PENDING||Resources|net@seed=0~aa11\n13_4|RUNNING|n1|None|a|b~bb22\n\
                    14|CANCELLED|n2|None|other\nslurm_load_jobs error: x\n13_5|OUT_OF_MEMORY|n1|OutOfMemory|a|b~bb22\n";
        let queue = parse_queue(said);
        assert_eq!(queue.len(), 3);
        let waits = &queue.named("aa11", None).expect("listed");
        assert_eq!(
            (waits.state, waits.reason.as_str(), &waits.host),
            (State::Waits, "Resources", &None)
        );
        let runs = &queue.named("bb22", Some(4)).expect("listed");
        assert_eq!(
            (runs.id.as_str(), runs.state, runs.host.as_deref()),
            ("13_4", State::Runs, Some("n1"))
        );
        assert_eq!(queue.named("bb22", Some(5)).expect("listed").state, State::OutOfMemory);
    }

    #[test]
    fn states_and_refusals_by_their_words() {
        assert_eq!(state_of("CANCELLED by 1000"), State::Taken);
        assert_eq!(state_of("NODE_FAIL"), State::Taken);
        assert_eq!(state_of("TIMEOUT"), State::TimeLimit);
        assert_eq!(state_of("A_STATE_OF_TOMORROW"), State::Runs);
        for (said, for_good) in [
            ("sbatch: error: invalid partition specified: gpuu", true),
            (
                "sbatch: error: Batch job submission failed: Requested node configuration is not available",
                true,
            ),
            (
                "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
                false,
            ),
            (
                "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
                false,
            ),
            (
                "sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)",
                false,
            ),
            (
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, \
              user's size and/or time limits)",
                false,
            ),
        ] {
            assert_eq!(is_for_good(said), for_good, "{said}");
        }
        assert_eq!(
            ["12", "12;here", "hello", ""].map(id_of),
            [Some("12".to_owned()), Some("12".to_owned()), None, None]
        );
    }
}
