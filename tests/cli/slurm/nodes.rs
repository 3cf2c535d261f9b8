//! Nodes that see files late, whose clocks are off, and those of a real Slurm.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{PROFILE, Site, local, training};
use crate::chain::{CHAIN, executed};
use crate::crashes::results;
use crate::harness::{Project, Ran, say};
use crate::resume::{checkpoint, end, signal, wait_until};

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

/// A real Slurm: the path of its configuration.
struct Real(std::ffi::OsString);

impl Real {
    /// None, with a word, where no such cluster answers.
    fn new(variable: &str, how: &str) -> Option<Self> {
        let real = Self(std::env::var_os(variable).unwrap_or_default());
        if real.0.is_empty() || real.ask("sinfo", &["--noheader"]).is_empty() {
            say(&format!(
                "skipped: {variable} names no Slurm that answers; `tests/cli/slurm/cluster.sh start FOLDER 3{how}` starts one"
            ));
            return None;
        }
        Some(real)
    }

    fn command(&self, mut command: Command) -> Command {
        command.env("SLURM_CONF", &self.0);
        command
    }

    /// What a command of Slurm's prints; empty where it fails.
    fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(Command::new(program)).args(arguments).output();
        let output = output.ok().filter(|output| output.status.success());
        output.map_or_else(String::new, |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })
    }

    fn run(&self, project: &Project, arguments: &[&str]) -> Command {
        let arguments = [
            &["run", "p.yaml", "--executor", "slurm", "--progress", "plain"],
            arguments,
        ]
        .concat();
        self.command(project.command(&arguments))
    }
}

/// The id of the project's only job.
fn id_of_job(project: &Project) -> String {
    let record = std::fs::read_dir(project.path("cache/jobs"))
        .expect("jobs")
        .flatten()
        .next()
        .expect("a job");
    let text = std::fs::read_to_string(record.path().join("job.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&text).expect("json");
    record["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_job_that_a_real_slurm_preempts_goes_on_to_the_same_bytes() {
    let Some(real) = Real::new("ACCOUNTING_SLURM_CONF", " accounting") else {
        return;
    };
    let long = ["-S", "net.epochs=300"];
    let expected = {
        let project = training();
        project.dynvis(&[&["run", "p.yaml"], &long[..]].concat()).expect(0);
        results(&project)
    };
    let project = training();
    project.write("slurm.yaml", "poll: 0.5\npatience: 20\ngrace: 5\n");
    let mut run = real.run(&project, &[&long[..], &["-S", "net.checkpoint_minutes=0"]].concat());
    let child = run
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    wait_until("a checkpoint", || checkpoint(&project));
    // All nodes for somebody more important, for some seconds.
    project.write("urgent.sh", "#!/bin/sh\nsleep 3\n");
    let urgent = project.path("urgent.sh").display().to_string();
    let nodes = real.ask("sinfo", &["--noheader", "--partition=urgent", "--format=%D"]);
    let nodes = format!("--nodes={nodes}");
    let arguments = [
        "--partition=urgent",
        "--exclusive",
        &nodes,
        "--output=/dev/null",
        &urgent,
    ];
    assert!(real.ask("sbatch", &arguments).contains("Submitted"));
    let id = id_of_job(&project);
    let ran = crate::resume::end(child).expect(0);
    let queued = format!("queued as job {id}");
    assert_eq!(
        ran.stderr.matches(&queued).count(),
        2,
        "the queue had it again: {}",
        ran.stderr
    );
    assert!(ran.stderr.contains("resumes from its checkpoint"), "{}", ran.stderr);
    assert_eq!(results(&project), expected);
    // Accounting hears of it a moment later.
    wait_until("both attempts", || {
        let arguments = [
            "--noheader",
            "--allocations",
            "--duplicates",
            "--format=State",
            "--jobs",
            &id,
        ];
        let states = real.ask("sacct", &arguments);
        (states.contains("PREEMPTED") && states.contains("COMPLETED")).then_some(())
    });
    // One bar for each attempt, and one for each time that it waited.
    let trace = project.dynvis(&["trace"]).expect(0).json();
    let events = trace["traceEvents"].as_array().expect("events");
    let bars = |name: &str| {
        events
            .iter()
            .filter(|event| event["ph"] == "X" && event["name"] == name)
            .count()
    };
    assert_eq!([bars("net"), bars("net waits")], [2, 2], "{trace:#}");
}

#[test]
fn a_job_that_a_real_slurm_ends_for_its_memory_asks_for_more() {
    let Some(real) = Real::new("ACCOUNTING_SLURM_CONF", " accounting") else {
        return;
    };
    if !real.ask("scontrol", &["show", "config"]).contains("task/cgroup") {
        say("skipped: no control group for memory can be made here");
        return;
    }
    let project = Project::new();
    project.write("slurm.yaml", "poll: 0.5\npatience: 20\n");
    project.write(
        "p.yaml",
        r#"
name: p
stages:
  eat:
    command:
      run: [python3, -c, "x = bytearray(300 << 20); open('n.csv', 'w').write('n\\n%d\\n' % len(x))"]
      outputs: { n: { path: n.csv, type: table } }
    resources: { memory: 0.1, retry: { times: 1, on: [oom], memory_factor: 6 } }
"#,
    );
    let ran = Ran::from(real.run(&project, &[]).output().expect("it starts")).expect(0);
    assert!(ran.stderr.contains("retry 1 of 1 (out of memory)"), "{}", ran.stderr);
    let shown = project.dynvis(&["show", "@", "eat/n"]).expect(0);
    assert!(shown.stdout.contains("314572800"), "{}", shown.stdout);
    let ids: Vec<&str> = ran
        .stderr
        .lines()
        .filter_map(|line| Some(line.split_once("queued as job ")?.1))
        .collect();
    assert_eq!(ids.len(), 2, "{}", ran.stderr);
    let ids = ids.join(",");
    let arguments = [
        "--noheader",
        "--allocations",
        "--parsable2",
        "--format=State,ReqMem",
        "--jobs",
        &ids,
    ];
    wait_until("both attempts", || {
        let all = real.ask("sacct", &arguments);
        (all.contains("OUT_OF_MEMORY|103M") && all.contains("COMPLETED|615M")).then_some(())
    });
}

/// `variable` holds where the cluster's configuration is.
fn real(variable: &str, how: &str) {
    let Some(real) = Real::new(variable, how) else {
        return;
    };
    let expected = {
        let project = training();
        project.dynvis(&["run", "p.yaml"]).expect(0);
        results(&project)
    };
    let mut project = training();
    // Where nodes are machines of their own this is what they see late.
    let shared = std::path::Path::new(&real.0).with_file_name("shared");
    if shared.is_dir() {
        project = project.moved_to(&shared);
    }
    project.write("slurm.yaml", "poll: 0.5\npatience: 20\ngrace: 5\n");
    let run = || real.run(&project, &["-S", "net.checkpoint_minutes=0"]);
    // Killed, then the job cancelled by somebody, then to its end.
    let mut child = run()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    wait_until("a checkpoint", || checkpoint(&project));
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let mut cancel = real.command(Command::new("scancel"));
    assert!(cancel.arg(id_of_job(&project)).status().expect("it starts").success());
    let ran = Ran::from(run().output().expect("it starts")).expect(0);
    assert!(ran.stderr.contains("takes over its job"), "{}", ran.stderr);
    assert_eq!(results(&project), expected);
}
