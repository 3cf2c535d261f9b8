//! Stages as jobs of a queue. Most is tested with a queue that is a script and fails, answers late and lies; what a real
//! Slurm does is tested where one answers.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::chain::{CHAIN, executed};
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

#[test]
fn what_the_queue_refuses_fails_its_stage_and_says_why() {
    let site = Site::chain();
    site.project
        .write("slurm.yaml", &format!("{PROFILE}job: {{ partition: nowhere }}\n"));
    let ran = site.run(&[]).expect(100);
    assert!(
        ran.stderr
            .contains("its job was refused: sbatch: error: invalid partition"),
        "{}",
        ran.stderr
    );
    assert_eq!(executed(&site.project), "");
}

#[test]
fn a_profile_is_held_against_what_there_is() {
    let site = Site::chain();
    site.project.write("slurm.yaml", "job:\n  partion: main\n");
    let ran = site.run(&[]).expect(2);
    for said in [
        "unknown option `partion`",
        "slurm.yaml:2",
        "`partition`",
        "1 problem in this profile",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    let ran = site.dynvis(&["run", "p.yaml", "--profile", "slurm.yaml"]).expect(2);
    assert!(ran.stderr.contains("`--executor slurm`"), "{}", ran.stderr);
    site.run(&["--profile", "none.yaml"]).expect(2);
}

/// Members that ask for the same.
const MEMBERS: &str = r#"
name: members
stages:
  a:
    command:
      run: [sh, -c, "echo ${matrix.n} >> $COUNT; echo ${matrix.n} > out.txt"]
      outputs: { out: { path: out.txt } }
    matrix: { n: [1, 2, 3, 4, 5] }
"#;

#[test]
fn members_of_a_matrix_are_one_array() {
    let site = Site::new(Project::new());
    site.project.write("p.yaml", MEMBERS);
    site.project.write("slurm.yaml", &format!("{PROFILE}array: 3\n"));
    site.run(&[]).expect(0);
    site.expect_results(&local(MEMBERS));
    let submitted = site.submitted();
    assert_eq!(submitted.len(), 2, "{submitted:?}");
    assert!(
        submitted[0].contains("--array=0-2") && submitted[1].contains("--array=0-1"),
        "{submitted:?}"
    );
    let mut all: Vec<char> = executed(&site.project).chars().collect();
    all.sort_unstable();
    assert_eq!(all, ['1', '2', '3', '4', '5']);
}

#[test]
fn an_array_that_is_more_than_may_be_submitted_is_split() {
    let site = Site::new(Project::new());
    site.project.write("p.yaml", MEMBERS);
    site.fault("sbatch-limit", 2).run(&[]).expect(0);
    site.expect_results(&local(MEMBERS));
    let submitted = site.submitted();
    assert!(
        submitted.iter().all(|line| !line.contains("--array=0-4")),
        "{submitted:?}"
    );
}

#[test]
fn no_more_than_jobs_wait_or_run_at_once() {
    let site = Site::new(Project::new());
    site.project.write("p.yaml", MEMBERS).write("queue/hold", "");
    let mut child = site.start(&["--jobs", "2"]);
    site.wait_for_state("1_1", "PENDING");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let jobs = || {
        std::fs::read_dir(site.project.path("queue/jobs"))
            .expect("jobs")
            .count()
    };
    assert_eq!(jobs(), 2);
    std::fs::remove_file(site.project.path("queue/hold")).expect("removed");
    assert!(child.wait().expect("it ends").success());
    site.expect_results(&local(MEMBERS));
}

#[test]
fn too_little_memory_and_time_are_told_apart_and_answered_by_more() {
    let stage = |retry: &str| {
        format!(
            "name: p\nstages:\n  a:\n    command: {{ run: [sh, -c, \"echo a >> $COUNT; echo 1 > out.txt\"], outputs: {{ out: {{ \
             path: out.txt }} }} }}\n    resources: {{ memory: 2, time: 30{retry} }}\n"
        )
    };
    let asks = |line: &str, option: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(option));
        word.map(str::to_owned).unwrap_or_default()
    };
    for (fault, memory, time) in [
        ("oom", ["2048M", "6144M", "18432M"], ["30"; 3]),
        ("timeout", ["2048M"; 3], ["30", "60", "120"]),
    ] {
        let site = Site::new(Project::new());
        site.project
            .write("p.yaml", &stage(", retry: { times: 2, memory_factor: 3 }"));
        site.fault(fault, 2).run(&[]).expect(0);
        let submitted = site.submitted();
        assert_eq!(
            submitted.iter().map(|line| asks(line, "--mem=")).collect::<Vec<_>>(),
            memory
        );
        assert_eq!(
            submitted.iter().map(|line| asks(line, "--time=")).collect::<Vec<_>>(),
            time
        );
        assert_eq!(executed(&site.project), "a");
    }
    for (fault, said) in [
        ("oom", "its job had too little memory"),
        ("timeout", "its job came to its time limit"),
    ] {
        let site = Site::new(Project::new());
        site.project.write("p.yaml", &stage(""));
        let ran = site.fault(fault, 1).run(&[]).expect(100);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        assert_eq!(site.submitted().len(), 1);
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

/// Waits until the submitter knows its only job's id.
fn wait_for_id(site: &Site) {
    wait_until("the job's id", || {
        let folder = std::fs::read_dir(site.project.path("cache/jobs"))
            .ok()?
            .flatten()
            .next()?;
        let text = std::fs::read_to_string(folder.path().join("job.json")).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        record["id"].as_str().map(|_| ())
    });
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
    let folder = wait_until("its id", || {
        let folder = std::fs::read_dir(site.project.path("cache/jobs"))
            .ok()?
            .flatten()
            .next()?;
        let record = std::fs::read_to_string(folder.path().join("job.json")).ok()?;
        record.contains("\"id\": \"1\"").then(|| folder.path())
    });
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
fn the_job_of_a_forced_stage_is_found_again() {
    let (site, expected) = waiting();
    site.project.write("go", "");
    site.run(&[]).expect(0);
    std::fs::remove_file(site.project.path("go")).expect("removed");
    let child = site.start(&["--force", "a"]);
    wait_for_count(&site, 2);
    signal(Signal::KILL, child.id());
    end(child).expect(-1);
    site.project.write("go", "");
    let ran = site.run(&["--force", "a"]).expect(0);
    site.expect_results(&expected);
    let done = (executed(&site.project), site.submitted().len());
    assert_eq!(done, ("aa".to_owned(), 2), "{}", ran.stderr);
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

#[test]
fn every_option_of_a_profile_is_documented() {
    fn names(schema: &serde_json::Value, found: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    if let ("properties", Some(properties)) = (key.as_str(), value.as_object()) {
                        found.extend(properties.keys().cloned());
                    }
                    names(value, found);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    names(dynvis_runner::pipeline::profile_schema(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    let text = std::fs::read_to_string(repository().join("docs/slurm.md")).expect("read");
    let missing: Vec<_> = found
        .iter()
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
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

/// The test queue as one that a profile's commands speak with. `list`: what is printed of each job.
fn commands(list: &str) -> String {
    format!(
        r#"{PROFILE}commands:
  submit: sbatch --job-name="$JOB_NAME" ${{JOB_MEMORY:+--mem=$JOB_MEMORY}} --time="$JOB_SECONDS" $JOB_OPTIONS < "$JOB_SCRIPT"
  list: out=$(squeue) && printf '%s\n' "$out" | awk -F'|' '{{ {list} }}'
  cancel: scancel "$JOB_ID"
  states: {{ PENDING: waits, RUNNING: runs, COMPLETED: ended, FAILED: ended, OUT_OF_MEMORY: memory, TIMEOUT: time, CANCELLED: taken, NODE_FAIL: taken }}
  id: $SLURM_JOB_ID
"#
    )
}
const NAMES: &str = "print $1, $2, $5";
const BY_COMMANDS: [&str; 6] = ["run", "p.yaml", "--executor", "commands", "--progress", "plain"];

fn start_by_commands(site: &Site, arguments: &[&str]) -> Child {
    let mut command = site.command(&[&BY_COMMANDS, arguments].concat());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    command.spawn().expect("it starts")
}

#[test]
fn a_queue_of_a_profiles_commands_comes_to_the_same_results() {
    let expected = local(CHAIN);
    for (list, faults) in [
        (NAMES, &[][..]),
        // Queues that tell no names.
        ("print $1, $2", &[][..]),
        (NAMES, &[("sbatch-fails", 1), ("squeue-fails", 2)][..]),
        (NAMES, &[("sbatch-loses", 1)][..]),
        ("print $1, $2", &[("squeue-lies", 4)][..]),
    ] {
        let site = Site::chain();
        site.project.write("queue.yaml", &commands(list));
        for (fault, times) in faults {
            site.fault(fault, *times);
        }
        let ran = site.dynvis(&BY_COMMANDS).expect(0);
        site.expect_results(&expected);
        assert_eq!(executed(&site.project), "abc", "{list} {faults:?}: {}", ran.stderr);
        assert_eq!(site.submitted().len(), 3, "{list} {faults:?}: {}", ran.stderr);
    }
}

#[test]
fn commands_are_told_what_a_job_asks_for() {
    let site = Site::new(Project::new());
    let text = MEMBERS.replace("    matrix: { n: [1, 2, 3, 4, 5] }", "    matrix: { n: [1] }")
        + "    resources: { memory: 1.5, time: 2, retry: { times: 1, on: [oom] } }\n";
    site.project.write("p.yaml", &text);
    let profile = commands(NAMES) + "job: { options: [--one, --two] }\n";
    site.project.write("queue.yaml", &profile);
    site.fault("oom", 1).dynvis(&BY_COMMANDS).expect(0);
    let submitted = site.submitted();
    assert_eq!(
        submitted.len(),
        2,
        "too little memory is told by its state: {submitted:?}"
    );
    let name = "--job-name=a@n=1~";
    assert!(submitted[0].starts_with(name), "{submitted:?}");
    assert!(
        submitted[0].ends_with(" --mem=1536 --time=120 --one --two"),
        "{submitted:?}"
    );
    assert!(
        submitted[1].ends_with(" --mem=3072 --time=120 --one --two"),
        "{submitted:?}"
    );
}

#[test]
fn jobs_of_a_profiles_commands_are_taken_over() {
    for again in [&BY_COMMANDS[..], &["run", "p.yaml", "--progress", "plain"]] {
        let (site, expected) = waiting();
        site.project.write("queue.yaml", &commands("print $1, $2"));
        let child = start_by_commands(&site, &[]);
        wait_for_count(&site, 1);
        wait_for_id(&site);
        signal(Signal::KILL, child.id());
        end(child).expect(-1);
        site.project.write("go", "");
        let ran = site.dynvis(again).expect(0);
        assert!(ran.stderr.contains("takes over its job 1"), "{}", ran.stderr);
        site.expect_results(&expected);
        assert_eq!((executed(&site.project).as_str(), site.submitted().len()), ("a", 1));
    }
    let (site, _) = waiting();
    site.project.write("queue.yaml", &commands(NAMES));
    let child = start_by_commands(&site, &[]);
    wait_for_count(&site, 1);
    signal(Signal::INT, child.id());
    end(child).expect(130);
    site.wait_for_state("1", "CANCELLED");
}

#[test]
fn a_job_of_a_profiles_commands_looks_at_its_time_limit_by_itself() {
    let expected = {
        let project = training();
        project.dynvis(&["run", "p.yaml"]).expect(0);
        results(&project)
    };
    let site = Site::new(training());
    // A second after it was started.
    let profile = commands("print $1, $2") + "grace: 5\njob: { time: 0.1 }\n";
    site.project.write("queue.yaml", &profile);
    let ran = site
        .dynvis(&[&BY_COMMANDS[..], &["-S", "net.checkpoint_minutes=0"]].concat())
        .expect(0);
    assert!(
        ran.stderr.contains("was stopped on its way: submits it again"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("resumes from its checkpoint"), "{}", ran.stderr);
    site.expect_results(&expected);
}

#[test]
fn ctrl_c_has_a_training_of_a_profiles_commands_write_its_checkpoint() {
    let site = Site::new(training());
    site.project.write("queue.yaml", &commands("print $1, $2"));
    let child = start_by_commands(&site, &[]);
    site.wait_for_state("1", "RUNNING");
    wait_until("an epoch", || {
        let said = std::fs::read_dir(site.project.path("cache/jobs")).ok()?.flatten();
        let mut files = said.flat_map(|job| std::fs::read_dir(job.path()).into_iter().flatten().flatten());
        files
            .any(|file| {
                file.file_name().to_string_lossy().ends_with(".said")
                    && file.metadata().is_ok_and(|file| file.len() > 0)
            })
            .then_some(())
    });
    assert!(checkpoint(&site.project).is_none(), "it writes one every five minutes");
    signal(Signal::INT, child.id());
    end(child).expect(130);
    assert!(checkpoint(&site.project).is_some());
}

#[test]
fn profiles_and_executors_that_do_not_fit_are_told_apart() {
    let site = Site::chain();
    let ran = site.dynvis(&BY_COMMANDS).expect(2);
    assert!(ran.stderr.contains("there is no profile, queue.yaml"), "{}", ran.stderr);
    site.project.write("queue.yaml", PROFILE);
    let ran = site.dynvis(&BY_COMMANDS).expect(2);
    assert!(ran.stderr.contains("queue.yaml` has no `commands`"), "{}", ran.stderr);
    site.project.write("queue.yaml", &commands(NAMES));
    let ran = site.run(&["--profile", "queue.yaml"]).expect(2);
    assert!(ran.stderr.contains("`--executor commands` uses them"), "{}", ran.stderr);
    let ran = site.dynvis(&[&BY_COMMANDS[..], &["--chain"]].concat()).expect(2);
    assert!(ran.stderr.contains("`--chain` submits jobs of Slurm"), "{}", ran.stderr);
    site.project.write(
        "queue.yaml",
        "commands: { submit: a, list: b, cancel: c, states: { Q: wait } }\n",
    );
    let ran = site.dynvis(&BY_COMMANDS).expect(2);
    assert!(
        ran.stderr.contains("queue.yaml:1") && ran.stderr.contains("`waits`"),
        "{}",
        ran.stderr
    );
}

/// A machine of its own as far as files go: it sees the project through a file system that remembers for three seconds
/// what files were like, and which ones were not there, as NFS does, and whose locks no other machine sees.
struct Machine {
    keeper: Child,
}

impl Machine {
    fn new(project: &Project) -> Option<Self> {
        const LINES: &str = r#"
bindfs -f -o attr_timeout=3,entry_timeout=3,negative_timeout=3 "$0" "$0" &
until mountpoint -q "$0"; do kill -0 $! || exit 1; sleep 0.05; done
echo
read line
kill $!"#;
        let mut keeper = Command::new("unshare")
            .args(["--mount", "sh", "-c", LINES])
            .arg(project.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = [0];
        let ready = keeper
            .stdout
            .as_mut()
            .map(|out| std::io::Read::read_exact(out, &mut line));
        match ready {
            Some(Ok(())) => Some(Self { keeper }),
            _ => {
                // It has ended.
                let _ = keeper.wait();
                None
            }
        }
    }

    /// Words that a program is started with to run on this machine.
    fn words(&self) -> Vec<String> {
        let process = self.keeper.id().to_string();
        let words = [
            "nsenter",
            "--mount",
            "--target",
            &process,
            "sh",
            "-c",
            "cd \"$0\" && exec \"$@\"",
        ];
        words.map(str::to_owned).to_vec()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

#[test]
fn nodes_may_see_files_late_and_locks_of_others_not_at_all() {
    let expected = local(CHAIN);
    let site = Site::chain();
    let (Some(here), Some(node)) = (Machine::new(&site.project), Machine::new(&site.project)) else {
        say("skipped: no bindfs here, or no right to mount; .ci/run installs it");
        return;
    };
    let folder = site.project.path("").to_string_lossy().into_owned();
    let launch = serde_json::to_string(&[node.words(), vec![folder]].concat()).expect("json");
    let profile = format!("poll: 0.1\npatience: 8\ncommand_limit: 20\njob: {{ launch: {launch} }}\n");
    site.project.write("slurm.yaml", &profile);
    let run = |arguments: &[&str]| -> Ran {
        let all = [
            &["run", "p.yaml", "--executor", "slurm", "--progress", "plain"],
            arguments,
        ]
        .concat();
        let inner = site.command(&all);
        let words = here.words();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg(site.project.path(""))
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.output().expect("it starts").into()
    };
    run(&["--fail-at", "job-submitted:2"]).expect(-1);
    let ran = run(&[]).expect(0);
    site.expect_results(&expected);
    assert_eq!(executed(&site.project), "abc", "{}", ran.stderr);
    assert_eq!(site.submitted().len(), 3, "{}", ran.stderr);
}

#[test]
fn clocks_of_nodes_need_not_agree() {
    let available = Command::new("faketime").args(["-f", "-1d", "true"]).status();
    if !available.is_ok_and(|status| status.success()) {
        say("skipped: no faketime here; .ci/run installs it");
        return;
    }
    let expected = {
        let project = training();
        project.dynvis(&["run", "p.yaml"]).expect(0);
        results(&project)
    };
    for offset in ["-400d", "+400d"] {
        let site = Site::new(training());
        let launch = format!("[env, FAKETIME_DONT_FAKE_MONOTONIC=1, faketime, -f, \"{offset}\"]");
        let profile = format!("{PROFILE}job: {{ launch: {launch} }}\n");
        site.project.write("slurm.yaml", &profile);
        let child = site.start(&["-S", "net.checkpoint_minutes=0"]);
        wait_until("a checkpoint", || checkpoint(&site.project));
        signal(Signal::KILL, child.id());
        end(child).expect(-1);
        let child = site.start(&["-S", "net.checkpoint_minutes=0"]);
        site.accident("expire", "1");
        end(child).expect(0);
        site.expect_results(&expected);
        assert_eq!(site.submitted().len(), 1, "{offset}");
    }
}

/// What a real cluster does, where one answers: `tests/cli/slurm/cluster.sh start FOLDER` starts one on this machine.
#[test]
fn a_real_slurm_comes_to_the_same_results() {
    real("SLURM_CONF", "");
}

/// The same with accounting: `tests/cli/slurm/cluster.sh start FOLDER 2 accounting`.
#[test]
fn a_real_slurm_with_accounting_comes_to_the_same_results() {
    real("ACCOUNTING_SLURM_CONF", " accounting");
}

/// `variable` holds where the cluster's configuration is.
fn real(variable: &str, how: &str) {
    let configuration = std::env::var_os(variable).unwrap_or_default();
    let of_slurm = |mut command: Command| {
        command.env("SLURM_CONF", &configuration);
        command
    };
    let answers = |program: &str, arguments: &[&str]| {
        let mut command = of_slurm(Command::new(program));
        let output = command.args(arguments).output();
        output.is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
    };
    if configuration.is_empty() || !answers("sinfo", &["--noheader"]) {
        say(&format!(
            "skipped: {variable} names no Slurm that answers; `tests/cli/slurm/cluster.sh start FOLDER 3{how}` starts one"
        ));
        return;
    }
    let expected = {
        let project = training();
        project.dynvis(&["run", "p.yaml"]).expect(0);
        results(&project)
    };
    let project = training();
    project.write("slurm.yaml", "poll: 0.5\npatience: 20\ngrace: 5\n");
    let run = || {
        let arguments = ["run", "p.yaml", "--executor", "slurm", "--progress", "plain"];
        of_slurm(project.command(&[&arguments[..], &["-S", "net.checkpoint_minutes=0"]].concat()))
    };
    // Killed, then the job cancelled by somebody, then to its end.
    let mut child = run()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    wait_until("a checkpoint", || checkpoint(&project));
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let record = std::fs::read_dir(project.path("cache/jobs"))
        .expect("jobs")
        .flatten()
        .next()
        .expect("a job");
    let text = std::fs::read_to_string(record.path().join("job.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&text).expect("json");
    let id = record["id"].as_str().expect("an id");
    let mut cancel = of_slurm(Command::new("scancel"));
    assert!(cancel.arg(id).status().expect("it starts").success());
    let ran = Ran::from(run().output().expect("it starts")).expect(0);
    assert!(ran.stderr.contains("takes over its job"), "{}", ran.stderr);
    assert_eq!(results(&project), expected);
}
