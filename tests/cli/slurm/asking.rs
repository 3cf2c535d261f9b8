//! What jobs ask for: profiles, members of a matrix together, how many at once, more memory and time.

use super::{PROFILE, Site, local};
use crate::chain::executed;
use crate::harness::{Project, repository};

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
pub(super) const MEMBERS: &str = r#"
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
