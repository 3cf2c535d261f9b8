//! Queues that a profile's commands speak with: the test queue, spoken with so.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use rustix::process::Signal;

use super::asking::MEMBERS;
use super::{PROFILE, Site, local, training, wait_for_count, wait_for_id, waiting};
use crate::chain::{CHAIN, executed};
use crate::crashes::results;
use crate::harness::Project;
use crate::resume::{checkpoint, end, signal, wait_until};

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
