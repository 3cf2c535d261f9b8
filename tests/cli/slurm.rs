//! Stages as jobs of a queue. Most is tested with a queue that is a script and fails, answers late and lies; what a real
//! Slurm does is tested where one answers (`nodes`). What jobs ask for is in `asking`, queues that a
//! profile's commands speak with are in `commands`.

mod asking;
mod commands;
mod nodes;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::chain::{CHAIN, chain, executed};
use crate::crashes::results;
use crate::harness::{Project, Ran, repository, say};
use crate::resume::{checkpoint, end, signal, wait_until};

/// Quick, since the queue is this machine.
const PROFILE: &str = "poll: 0.05\npatience: 1\nresubmit: 3\ncommand_limit: 20\n";
const COMMANDS: [&str; 9] = [
    "sbatch", "squeue", "scancel", "scontrol", "sacct", "runner", "expire", "lose", "purge",
];

/// Gives a project a queue of its own, in its folders `bin` and `queue`.
pub(crate) fn install(project: &Project) {
    let fake = project.path("bin/fake");
    std::fs::create_dir_all(project.path("bin")).expect("a folder");
    std::fs::create_dir_all(project.path("queue/jobs")).expect("a folder");
    std::fs::copy(repository().join("tests/cli/slurm/fake.sh"), &fake).expect("copied");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&fake, mode).expect("set");
    for command in COMMANDS {
        std::os::unix::fs::symlink(&fake, project.path(&format!("bin/{command}"))).expect("linked");
    }
    project.write("slurm.yaml", PROFILE);
}

/// A project with a queue of its own.
struct Site {
    project: Project,
}

impl Site {
    fn new(project: Project) -> Self {
        install(&project);
        Self { project }
    }

    fn chain() -> Self {
        let project = Project::new();
        project.write("p.yaml", CHAIN).write("in.txt", "1\n");
        Self::new(project)
    }

    /// A command that sees the queue's programs.
    fn with_queue(&self, mut command: Command) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.project.path("bin").display()))
            .env("FAKE_SLURM", self.project.path("queue"));
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.with_queue(self.project.command(arguments))
    }

    fn dynvis(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("it starts").into()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let all = [
            &["run", "p.yaml", "--executor", "slurm", "--progress", "plain"],
            arguments,
        ]
        .concat();
        self.dynvis(&all)
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let all = [
            &["run", "p.yaml", "--executor", "slurm", "--progress", "plain"],
            arguments,
        ]
        .concat();
        let mut command = self.command(&all);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        command.spawn().expect("it starts")
    }

    /// Asks the queue for a fault, so often.
    fn fault(&self, name: &str, times: u32) -> &Self {
        self.project.write(&format!("queue/{name}"), &format!("{times}\n"));
        self
    }

    /// What happens to a job.
    fn accident(&self, name: &str, job: &str) {
        let mut command = self.with_queue(Command::new(self.project.path(&format!("bin/{name}"))));
        assert!(command.arg(job).status().expect("it starts").success());
    }

    /// What `sbatch` was called with, once a line.
    fn submitted(&self) -> Vec<String> {
        self.project
            .read("queue/submitted")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn state(&self, job: &str) -> String {
        self.project.read(&format!("queue/jobs/{job}/state")).trim().to_owned()
    }

    fn wait_for_state(&self, job: &str, state: &str) {
        wait_until(state, || (self.state(job) == state).then_some(()));
    }

    /// The last run came to these results, and nothing is left of its jobs.
    #[track_caller]
    fn expect_results(&self, expected: &BTreeMap<String, String>) {
        assert_eq!(&results(&self.project), expected);
        let jobs = std::fs::read_dir(self.project.path("cache/jobs")).into_iter().flatten();
        assert_eq!(jobs.count(), 0, "a job's folder is left");
    }
}

/// Those of a run on this machine.
fn local(pipeline: &str) -> BTreeMap<String, String> {
    let project = Project::new();
    project.write("p.yaml", pipeline).write("in.txt", "1\n");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    results(&project)
}

#[test]
fn jobs_come_to_the_same_results_and_later_runs_find_them() {
    let site = Site::chain();
    let ran = site.run(&[]).expect(0);
    assert!(ran.stderr.contains("queued as job 1"), "{}", ran.stderr);
    site.expect_results(&local(CHAIN));
    assert_eq!(executed(&site.project), "abc");
    let log = site.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
    let stages = log[0]["stages"].as_array().expect("stages");
    let ids: Vec<_> = stages
        .iter()
        .map(|stage| stage["execution"]["job"]["id"].clone())
        .collect();
    assert_eq!(ids, ["1", "2", "3"], "{stages:?}");
    assert!(stages[0]["execution"]["job"]["host"].is_string(), "{stages:?}");
    let trace = site.dynvis(&["trace"]).expect(0).json();
    let events = trace["traceEvents"].as_array().expect("events");
    let of = |name: &str| {
        events
            .iter()
            .find(|event| event["name"] == name)
            .expect("an event")
            .clone()
    };
    let end = |event: serde_json::Value| event["ts"].as_f64().expect("ts") + event["dur"].as_f64().expect("dur");
    let started = of("b")["ts"].as_f64().expect("ts");
    assert!(
        (end(of("b waits")) - started).abs() < 1.0,
        "a stage begins where its waiting ends"
    );
    let waiting = events
        .iter()
        .filter(|event| event["name"] == "jobs")
        .map(|event| event["args"]["wait"].as_i64());
    assert_eq!(waiting.max(), Some(Some(1)));
    let states = site.project.states(&["p.yaml"]);
    assert!(states.values().all(|state| state == "cached"), "{states:?}");
    site.run(&[]).expect(0);
    assert_eq!(site.submitted().len(), 3, "what is there is not submitted");
}

#[test]
fn a_submitter_killed_around_sbatch_submits_nothing_twice() {
    let expected = local(CHAIN);
    for step in ["job-recorded", "job-submitted", "job-known", "started"] {
        let site = Site::chain();
        for time in ["1", "2"] {
            let at = format!("{step}:{time}");
            site.run(&["--fail-at", &at]).expect(-1);
        }
        let ran = site.run(&[]).expect(0);
        site.expect_results(&expected);
        assert_eq!(executed(&site.project), "abc", "{step}: {}", ran.stderr);
        // What is submitted anew was never taken.
        assert_eq!(site.submitted().len(), 3, "{step}: {}", ran.stderr);
    }
}

#[test]
fn a_queue_that_fails_is_late_and_lies_costs_time_alone() {
    let expected = local(CHAIN);
    let faults: [&[(&str, u32)]; 4] = [
        &[("sbatch-fails", 2)],
        &[("sbatch-loses", 1)],
        &[("squeue-fails", 5), ("sbatch-loses", 1)],
        &[("squeue-lies", 6), ("squeue-late", 1)],
    ];
    for faults in faults {
        let site = Site::chain();
        for (fault, times) in faults {
            site.fault(fault, *times);
        }
        let ran = site.run(&[]).expect(0);
        site.expect_results(&expected);
        assert_eq!(executed(&site.project), "abc", "{faults:?}: {}", ran.stderr);
    }
}

/// One that runs until a file is there.
const WAITS: &str = r#"
name: waits
stages:
  a:
    command:
      run: [sh, -c, "echo a >> $COUNT; while [ ! -e {root}/go ]; do sleep 0.05; done; echo 1 > out.txt"]
      outputs: { out: { path: out.txt } }
"#;

fn waiting() -> (Site, BTreeMap<String, String>) {
    let site = Site::new(Project::new());
    site.project.write("p.yaml", WAITS);
    let expected = {
        let project = Project::new();
        project.write("p.yaml", WAITS).write("go", "");
        project.dynvis(&["run", "p.yaml"]).expect(0);
        results(&project)
    };
    (site, expected)
}

fn wait_for_count(site: &Site, lines: usize) {
    wait_until("the stage", || {
        (site.project.read("count").lines().count() == lines).then_some(())
    });
}

/// Waits until the submitter knows its only job's id; gives the job's folder.
fn wait_for_id(site: &Site) -> PathBuf {
    wait_until("the job's id", || {
        let folder = std::fs::read_dir(site.project.path("cache/jobs"))
            .ok()?
            .flatten()
            .next()?;
        let text = std::fs::read_to_string(folder.path().join("job.json")).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        record["id"].as_str().map(|_| folder.path())
    })
}

#[test]
fn jobs_that_are_cancelled_or_lost_are_submitted_again() {
    for accident in ["scancel", "lose", "purge"] {
        let (site, expected) = waiting();
        let child = site.start(&[]);
        wait_for_count(&site, 1);
        site.accident(accident, "1");
        wait_for_count(&site, 2);
        site.project.write("go", "");
        let ran = end(child).expect(0);
        assert!(ran.stderr.contains("submits it again"), "{accident}: {}", ran.stderr);
        site.expect_results(&expected);
        assert_eq!(site.submitted().len(), 2);
    }
}

#[test]
fn a_job_whose_folder_is_removed_while_it_waits_is_submitted_again() {
    let site = Site::chain();
    site.project.write("queue/hold", "");
    let child = site.start(&[]);
    let folder = wait_for_id(&site);
    std::fs::remove_dir_all(folder).expect("removed");
    std::fs::remove_file(site.project.path("queue/hold")).expect("removed");
    let ran = end(child).expect(0);
    assert!(
        ran.stderr.contains("did not find its record: submits it again"),
        "{}",
        ran.stderr
    );
    site.expect_results(&local(CHAIN));
    assert_eq!(executed(&site.project), "abc");
}

#[test]
fn a_job_that_is_lost_again_and_again_fails_its_stage() {
    let (site, _) = waiting();
    let child = site.start(&[]);
    for job in 1..=4 {
        wait_for_count(&site, job);
        site.accident("lose", &job.to_string());
    }
    let ran = end(child).expect(100);
    assert!(
        ran.stderr.contains("was submitted 4 times without getting further"),
        "{}",
        ran.stderr
    );
}

#[test]
fn ctrl_c_cancels_jobs_and_leaves_none() {
    let (site, expected) = waiting();
    let child = site.start(&[]);
    wait_for_count(&site, 1);
    signal(Signal::INT, child.id());
    end(child).expect(130);
    site.wait_for_state("1", "CANCELLED");
    site.project.expect_no_process();
    site.project.write("go", "");
    site.run(&[]).expect(0);
    site.expect_results(&expected);
}

#[test]
fn jobs_go_on_where_the_terminal_is_closed_or_the_tool_killed_and_are_taken_over() {
    for (name, how) in [
        ("closed", Signal::HUP),
        ("ended", Signal::TERM),
        ("killed", Signal::KILL),
    ] {
        let (site, expected) = waiting();
        let child = site.start(&[]);
        wait_for_count(&site, 1);
        wait_for_id(&site);
        signal(how, child.id());
        let code = if how == Signal::KILL { -1 } else { 130 };
        let ran = end(child).expect(code);
        if how != Signal::KILL {
            assert!(
                ran.stderr.contains("its job goes on; the next run takes it over"),
                "{name}: {}",
                ran.stderr
            );
        }
        assert_eq!(site.state("1"), "RUNNING");
        let child = site.start(&[]);
        site.project.write("go", "");
        let ran = end(child).expect(0);
        assert!(ran.stderr.contains("takes over its job 1"), "{name}: {}", ran.stderr);
        site.expect_results(&expected);
        assert_eq!(
            (executed(&site.project).as_str(), site.submitted().len()),
            ("a", 1),
            "{name}"
        );
    }
}

#[test]
fn the_queue_is_asked_for_jobs_of_others_too() {
    let (site, expected) = waiting();
    let child = site.start(&[]);
    let record = wait_for_id(&site).join("job.json");
    signal(Signal::KILL, child.id());
    end(child).expect(-1);
    // As whoever shares the cache would have left it.
    let text = std::fs::read_to_string(&record).expect("read");
    let mut job: serde_json::Value = serde_json::from_str(&text).expect("json");
    let own = job["user"].as_u64().expect("a user");
    let other = u32::MAX - 2;
    job["user"] = other.into();
    std::fs::write(&record, job.to_string()).expect("written");
    let child = site.start(&[]);
    let asked = || site.project.read("queue/asked");
    wait_until("the question", || {
        asked().contains(&format!("--user={own},{other}")).then_some(())
    });
    site.project.write("go", "");
    end(child).expect(0);
    assert_eq!(site.submitted().len(), 1);
    site.expect_results(&expected);
}

#[test]
fn a_job_of_another_user_is_taken_over_and_published() {
    let program = env!("CARGO_BIN_EXE_dynvis");
    let other = |command: &mut Command| command.uid(65_534).gid(65_534).output();
    if !other(Command::new(program).arg("--version")).is_ok_and(|output| output.status.success()) {
        say("skipped: no other user can start the program here");
        return;
    }
    let (site, expected) = waiting();
    // A folder that both may write; who is in one group has that by its umask.
    let open = || {
        let all = site.project.path("");
        let status = Command::new("chmod").args(["-R", "a+rwX"]).arg(all).status();
        assert!(status.expect("it starts").success());
    };
    let command = || {
        let typed = "umask 0; exec \"$0\" run p.yaml --executor slurm --progress plain";
        let mut command = site.with_queue(Command::new("sh"));
        command
            .args(["-c", typed, program])
            .current_dir(site.project.path(""))
            .env("COUNT", site.project.path("count"))
            .env_remove("DYNVIS_CACHE")
            .env_remove("DYNVIS_REMOTE")
            .process_group(0);
        command
    };
    open();
    let child = command().stderr(Stdio::null()).spawn().expect("it starts");
    wait_for_count(&site, 1);
    signal(Signal::KILL, child.id());
    end(child).expect(-1);
    site.project.write("go", "");
    open();
    let ran = Ran::from(other(&mut command()).expect("it starts")).expect(0);
    assert!(ran.stderr.contains("takes over its job"), "{}", ran.stderr);
    site.expect_results(&expected);
    assert_eq!(site.submitted().len(), 1);
    site.project.dynvis(&["verify"]).expect(0);
}

#[test]
fn a_run_on_this_machine_takes_jobs_over_too() {
    let (site, expected) = waiting();
    let child = site.start(&[]);
    wait_for_count(&site, 1);
    wait_for_id(&site);
    signal(Signal::KILL, child.id());
    end(child).expect(-1);
    site.project.write("go", "");
    let ran = site.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(ran.stderr.contains("takes over its job 1"), "{}", ran.stderr);
    site.expect_results(&expected);
    assert_eq!(executed(&site.project), "a");
}

#[test]
fn a_forced_job_outlives_a_run_for_which_its_result_does() {
    let (site, expected) = waiting();
    site.project.write("go", "");
    site.run(&[]).expect(0);
    std::fs::remove_file(site.project.path("go")).expect("removed");
    let child = site.start(&["--force", "a"]);
    wait_for_count(&site, 2);
    signal(Signal::KILL, child.id());
    end(child).expect(-1);
    site.run(&[]).expect(0);
    site.project.write("go", "");
    let ran = site.run(&["--force", "a"]).expect(0);
    site.expect_results(&expected);
    let done = (executed(&site.project), site.submitted().len());
    assert_eq!(done, ("aa".to_owned(), 2), "{}", ran.stderr);
}

#[test]
fn jobs_are_listed_and_those_that_nobody_attends_to_are_cancelled() {
    let (site, _) = waiting();
    let none = site.dynvis(&["jobs"]).expect(0);
    assert!(none.stderr.contains("no jobs"), "{}", none.stderr);
    let child = site.start(&[]);
    wait_for_count(&site, 1);
    let listed = |arguments: &[&str]| site.dynvis(&[&["jobs"], arguments].concat()).expect(0);
    let words = |ran: &Ran| {
        ran.stdout
            .lines()
            .last()
            .expect("a row")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let row = words(&listed(&[]));
    assert!(row.starts_with("a 1 started") && row.ends_with("ago a run"), "{row}");
    let ran = listed(&["--cancel"]);
    assert!(ran.stderr.contains("is attended to by a run"), "{}", ran.stderr);
    assert_eq!(site.state("1"), "RUNNING");
    signal(Signal::KILL, child.id());
    end(child).expect(-1);
    assert!(words(&listed(&["a"])).ends_with("ago nobody"));
    let document = listed(&["--json"]).json();
    assert_eq!(
        (&document["jobs"][0]["stage"], &document["jobs"][0]["progress"]),
        (&"a".into(), &"started".into())
    );
    site.dynvis(&["jobs", "b*"]).expect(2);
    let ran = listed(&["*", "--cancel"]);
    assert!(ran.stderr.contains("a  cancelled"), "{}", ran.stderr);
    site.wait_for_state("1", "CANCELLED");
    site.project.expect_no_process();
    assert!(listed(&[]).stderr.contains("no jobs"));
}

#[test]
fn what_a_job_reads_is_not_collected_while_nobody_watches_it() {
    let site = Site::new(Project::new());
    let text = r#"
name: p
stages:
  a:
    command: { run: [sh, -c, "echo 1 > out.txt"], outputs: { out: { path: out.txt } } }
  b:
    command:
      run: [sh, -c, "while [ ! -e {root}/go ]; do sleep 0.05; done; cp {inputs.from}/out.txt out.txt"]
      inputs: { from: a }
      outputs: { out: { path: out.txt } }
"#;
    site.project.write("p.yaml", text);
    let child = site.start(&[]);
    site.wait_for_state("2", "RUNNING");
    signal(Signal::KILL, child.id());
    end(child).expect(-1);
    site.dynvis(&["gc", "--keep-runs", "0", "--keep-days", "0"]).expect(0);
    site.project.write("go", "");
    site.run(&[]).expect(0);
    assert_eq!(site.submitted().len(), 2, "the input of the job was there to its end");
}

#[test]
fn a_chain_is_submitted_at_once_and_once() {
    let site = Site::chain();
    site.project.write("queue/hold", "");
    let chain = ["run", "p.yaml", "--executor", "slurm", "--chain"];
    let ran = site.dynvis(&chain).expect(0);
    assert!(ran.stderr.contains("queued as job 3, after 2"), "{}", ran.stderr);
    let ran = site.dynvis(&chain).expect(0);
    assert!(
        ran.stderr.contains("is in the queue already as job 3, after 2"),
        "{}",
        ran.stderr
    );
    let submitted = site.submitted();
    assert_eq!(submitted.len(), 3);
    assert!(!submitted[0].contains("--dependency"), "{submitted:?}");
    assert!(submitted[2].contains("--dependency=afterok:2"), "{submitted:?}");
    std::fs::remove_file(site.project.path("queue/hold")).expect("removed");
    for job in ["1", "2", "3"] {
        site.wait_for_state(job, "COMPLETED");
    }
    assert_eq!(executed(&site.project), "abc");
    site.project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&site.project), "");
    assert_eq!(results(&site.project), local(CHAIN));
    site.dynvis(&["run", "p.yaml", "--chain"]).expect(2);
}

#[test]
fn a_chain_begins_with_what_a_remote_has() {
    let remote = tempfile::tempdir().expect("a folder");
    let remote = remote.path().display().to_string();
    let first = chain();
    first.dynvis(&["run", "p.yaml"]).expect(0);
    first.dynvis(&["push", "@", "a", "b", "--to", &remote]).expect(0);
    let site = Site::chain();
    let chain = ["run", "p.yaml", "--executor", "slurm", "--chain", "--remote", &remote];
    let ran = site.dynvis(&chain).expect(0);
    assert!(ran.stderr.contains("pulled 2 results"), "{}", ran.stderr);
    assert_eq!(site.submitted().len(), 1);
    site.wait_for_state("1", "COMPLETED");
    assert_eq!(results(&site.project), local(CHAIN));
    // One that is away holds nothing up.
    let site = Site::chain();
    let chain = [
        "run",
        "p.yaml",
        "--executor",
        "slurm",
        "--chain",
        "--remote",
        "/nowhere/at/all",
    ];
    let ran = site.dynvis(&chain).expect(0);
    assert!(ran.stderr.contains("jobs compute what is missing"), "{}", ran.stderr);
    assert_eq!(site.submitted().len(), 3);
    site.wait_for_state("3", "COMPLETED");
}

#[test]
fn chains_of_two_caches_are_two() {
    let site = Site::chain();
    site.project.write("queue/hold", "");
    for cache in ["one", "two"] {
        let chain = ["run", "p.yaml", "--executor", "slurm", "--chain", "--cache", cache];
        let ran = site.dynvis(&chain).expect(0);
        assert!(!ran.stderr.contains("in the queue already"), "{}", ran.stderr);
    }
    assert_eq!(site.submitted().len(), 6);
    for job in ["1", "2", "3", "4", "5", "6"] {
        site.accident("scancel", job);
    }
    std::fs::remove_file(site.project.path("queue/hold")).expect("removed");
}

/// Some seconds of training.
fn training() -> Project {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "
name: p
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 50, side: 16 }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 8, epochs: 20, batch: 24, learning_rate: 5e-3 }
    resources: { cpu: 1 }
",
    );
    project
}

#[test]
fn a_training_that_comes_to_its_time_limit_goes_on_to_the_same_bytes() {
    let expected = {
        let project = training();
        project.dynvis(&["run", "p.yaml"]).expect(0);
        results(&project)
    };
    let site = Site::new(training());
    let child = site.start(&["-S", "net.checkpoint_minutes=0"]);
    wait_until("a checkpoint", || checkpoint(&site.project));
    site.accident("expire", "1");
    let ran = end(child).expect(0);
    assert!(ran.stderr.contains("resumes from its checkpoint"), "{}", ran.stderr);
    site.expect_results(&expected);
    assert_eq!(site.submitted().len(), 1, "it was queued again under its id");
}
