//! GPUs, pools, time limits and further attempts. The GPUs are fakes.

use std::time::{Duration, Instant};

use crate::chain::{executed, run, stored};
use crate::harness::Project;

/// Stages of these names, resources and scripts.
fn pipeline(head: &str, stages: &[(&str, &str, &str)]) -> String {
    let stage = |(name, resources, script): &(&str, &str, &str)| {
        format!(
            "  {name}:\n    resources: {{ {resources} }}\n    command: {{ run: [sh, -c, \"{script}\"], outputs: {{ \
             out: {{ path: out.txt }} }} }}\n"
        )
    };
    format!("{head}\nstages:\n{}", stages.iter().map(stage).collect::<String>())
}

/// Fails where another such script runs at the same time. Scripts of other names are other work.
fn alone(me: &str) -> String {
    format!("mkdir {{root}}/busy || exit 1; sleep 0.4; rmdir {{root}}/busy; echo {me} $CUDA_VISIBLE_DEVICES > out.txt")
}

/// Stages that run [`alone`], with the same resources.
fn all_alone(head: &str, names: &[&str], resources: &str) -> String {
    let scripts: Vec<String> = names.iter().map(|name| alone(name)).collect();
    let stages: Vec<_> = names
        .iter()
        .zip(&scripts)
        .map(|(name, script)| (*name, resources, script.as_str()))
        .collect();
    pipeline(head, &stages)
}

/// Ends well only if the other one runs at the same time.
fn together(me: &str, other: &str) -> String {
    format!(
        "touch {{root}}/{me}.mark; for i in $(seq 200); do [ -e {{root}}/{other}.mark ] && break; sleep 0.05; done; [ \
         -e {{root}}/{other}.mark ] && echo $CUDA_VISIBLE_DEVICES $DYNVIS_GPU_MEMORY > out.txt"
    )
}

/// What each stage of the last run wrote.
fn written(project: &Project, stage: &str) -> String {
    let folder = project.dynvis(&["show", "@", &format!("{stage}/out")]).expect(0);
    let text = std::fs::read_to_string(format!("{}/out.txt", folder.stdout.trim()));
    text.expect("written").trim().to_owned()
}

#[test]
fn a_stage_sees_the_gpus_that_it_leased_and_no_others() {
    let project = Project::new();
    let (left, right) = (together("left", "right"), together("right", "left"));
    // Other words, so that each is work of its own.
    let see = |word: &str| format!("echo {word} $CUDA_VISIBLE_DEVICES > out.txt");
    let (both, many, none) = (see("both"), see("many"), see("none"));
    project.write(
        "p.yaml",
        &pipeline(
            "",
            &[
                ("left", "cpu: 1, gpu: 1", &left),
                ("right", "cpu: 1, gpu: 1", &right),
                ("both", "cpu: 1, gpu: 2", &both),
                ("many", "cpu: 1, gpu: 9", &many),
                ("none", "cpu: 1", &none),
            ],
        ),
    );
    run(&project, &["--fake-gpus", "8,16", "--jobs", "2"]).expect(0);
    let mut seen = [written(&project, "left"), written(&project, "right")];
    seen.sort();
    assert_eq!(seen, ["0", "1"], "one each");
    assert_eq!(written(&project, "both"), "both 0,1");
    assert_eq!(written(&project, "many"), "many 0,1", "never more than there are");
    assert_eq!(written(&project, "none"), "none");
    let runs = project.dynvis(&["runs", "--json"]).expect(0).json();
    assert_eq!(runs[0]["device"], "cuda:0,1");
    let stages = runs[0]["stages"].as_array().expect("stages");
    let device = |name: &str| {
        let stage = stages.iter().find(|stage| stage["name"] == name).expect("a stage");
        stage["execution"]["device"].as_str().expect("a device").to_owned()
    };
    let mut devices = [device("left"), device("right")];
    devices.sort();
    assert_eq!(devices, ["cuda:0", "cuda:1"]);
    assert_eq!([device("both"), device("none")], ["cuda:0,1", "cpu"]);
}

#[test]
fn whole_gpus_are_for_one_stage_at_a_time() {
    let project = Project::new();
    project.write("p.yaml", &all_alone("", &["a", "b", "c"], "cpu: 1, gpu: 1"));
    // Another run on the same cache, too.
    project.write("q.yaml", &all_alone("", &["d", "e"], "cpu: 1, gpu: 1"));
    let mut other = project
        .command(&["run", "q.yaml", "--fake-gpus", "8"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    run(&project, &["--fake-gpus", "8", "--jobs", "3"]).expect(0);
    assert!(other.wait().expect("ends").success());
    let of_b = stored(&project, "out.txt")
        .into_iter()
        .map(|path| std::fs::read_to_string(path).expect("read"));
    assert!(of_b.into_iter().any(|text| text == "b 0\n"));
}

#[test]
fn the_memory_of_a_gpu_is_shared_up_to_its_end() {
    let project = Project::new();
    let (left, right) = (together("left", "right"), together("right", "left"));
    project.write(
        "p.yaml",
        &pipeline(
            "",
            &[
                ("left", "cpu: 1, gpu: 1, gpu_memory: 5", &left),
                ("right", "cpu: 1, gpu: 1, gpu_memory: 3", &right),
            ],
        ),
    );
    run(&project, &["--fake-gpus", "8", "--jobs", "2"]).expect(0);
    assert_eq!(written(&project, "left"), format!("0 {}", 5u64 << 30));
    assert_eq!(written(&project, "right"), format!("0 {}", 3u64 << 30));
    project.write("p.yaml", &all_alone("", &["a", "b"], "cpu: 1, gpu: 1, gpu_memory: 4.5"));
    run(&project, &["--fake-gpus", "8", "--jobs", "2"]).expect(0);
}

#[test]
fn a_machine_without_gpus_runs_stages_that_would_take_some() {
    let project = Project::new();
    project.write(
        "p.yaml",
        &pipeline("", &[("a", "gpu: 1", "echo seen $CUDA_VISIBLE_DEVICES > out.txt")]),
    );
    run(&project, &["--device", "cpu"]).expect(0);
    assert_eq!(written(&project, "a"), "seen");
    let runs = project.dynvis(&["runs", "--json"]).expect(0).json();
    assert_eq!(runs[0]["device"], "cpu");
}

/// Within a run, and between two runs on one cache.
#[test]
fn a_pool_of_one_is_a_mutex() {
    let project = Project::new();
    let head = "pools: { database: 1 }";
    let one = "cpu: 1, pools: { database: 1 }";
    project.write("p.yaml", &all_alone(head, &["a", "b"], one));
    project.write("q.yaml", &all_alone(head, &["c", "d"], one));
    let mut child = project
        .command(&["run", "q.yaml", "--jobs", "2"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    run(&project, &["--jobs", "2"]).expect(0);
    assert!(child.wait().expect("ends").success());
}

#[test]
fn a_larger_pool_lets_as_many_in_as_it_has_units() {
    let project = Project::new();
    let (left, right) = (together("left", "right"), together("right", "left"));
    let head = "pools: { licence: 2 }";
    let shared = "cpu: 1, pools: { licence: 1 }";
    project.write(
        "p.yaml",
        &pipeline(head, &[("left", shared, &left), ("right", shared, &right)]),
    );
    run(&project, &["--jobs", "2"]).expect(0);
    project.write("p.yaml", &all_alone(head, &["a", "b"], "cpu: 1, pools: { licence: 2 }"));
    run(&project, &["--jobs", "2"]).expect(0);
    // How many there are may differ from machine to machine.
    project.write("p.yaml", &all_alone(head, &["c", "d"], shared));
    run(&project, &["--jobs", "2", "-S", "pools.licence=1"]).expect(0);
    run(&project, &["-S", "pools.licences=1"]).expect(2);
}

#[test]
fn a_stage_whose_time_is_up_is_ended_and_has_failed() {
    let project = Project::new();
    project.write("p.yaml", &pipeline("", &[("slow", "timeout: 0.01", "sleep 60")]));
    let begun = Instant::now();
    let ran = run(&project, &[]).expect(100);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(
        ran.stderr.contains("it did not end within its 0.01 minutes"),
        "{}",
        ran.stderr
    );
    project.expect_no_process();
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(plan.stdout.contains("failed before"), "{}", plan.stdout);
    // The limit is no part of the key.
    project.write(
        "p.yaml",
        &pipeline("", &[("quick", "timeout: 1", "echo q >> $COUNT; echo 1 > out.txt")]),
    );
    run(&project, &[]).expect(0);
    project.write(
        "p.yaml",
        &pipeline("", &[("quick", "timeout: 2", "echo q >> $COUNT; echo 1 > out.txt")]),
    );
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "q");
}

/// Fails with this code as often as given, then ends well.
fn fails(code: &str, times: u32) -> String {
    format!("echo t >> $COUNT; echo attempt; [ $(grep -c t $COUNT) -gt {times} ] || {code}; echo 1 > out.txt")
}

#[test]
fn want_of_memory_and_trouble_with_files_may_be_tried_again() {
    for (on, code, attempts, outcome) in [
        ("times: 2, on: [oom]", "exit 137", "ttt", 0),
        ("times: 2, on: oom", "kill -9 $$", "ttt", 0),
        ("times: 2", "exit 74", "ttt", 0),
        ("times: 1", "exit 74", "tt", 100),
        ("times: 2, on: [io]", "exit 137", "t", 100),
        ("times: 2", "exit 1", "t", 100),
    ] {
        let project = Project::new();
        let script = fails(code, 2);
        project.write(
            "p.yaml",
            &pipeline("", &[("a", &format!("retry: {{ {on} }}"), &script)]),
        );
        let ran = run(&project, &[]).expect(outcome);
        assert_eq!(executed(&project), attempts, "{on}, {code}: {}", ran.stderr);
        let log = project.dynvis(&["log", "@", "a"]).expect(0);
        assert_eq!(log.stdout.matches("attempt").count(), attempts.len(), "{}", log.stdout);
        let told = ran.stderr.matches("; retry ").count();
        assert_eq!(told, attempts.len() - 1, "{}", ran.stderr);
        // The record tells of the last attempt.
        let runs = project.dynvis(&["runs", "--json"]).expect(0).json();
        let execution = &runs[0]["stages"][0]["execution"];
        assert!(execution["peak_bytes"].as_f64().is_some_and(|b| b > 1e6), "{runs:#}");
    }
}

/// A worker that the system killed is taken for one that had too little memory; its error comes from the kernel alone.
#[test]
fn a_worker_that_is_killed_may_be_tried_again() {
    let project = Project::new();
    // The program kills its parent, the worker, the first time.
    let script = "echo t >> $COUNT; [ $(grep -c t $COUNT) -gt 1 ] || { kill -9 $PPID; sleep 9; }; echo 1 > out.txt";
    project.write(
        "p.yaml",
        &pipeline("", &[("a", "retry: { times: 1, on: [oom] }", script)]),
    );
    let ran = run(&project, &[]).expect(0);
    assert!(ran.stderr.contains("retry 1 of 1 (out of memory)"), "{}", ran.stderr);
    assert_eq!(executed(&project), "tt");
    project.expect_no_process();
}
