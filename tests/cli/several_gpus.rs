//! Training on several GPUs, which are none: stand-ins for NVIDIA's libraries, in a process each.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Ran, number, rows};
use crate::resume::{checkpoint, end, result, wait_until};
use crate::stand_in::OnGpu;

const GPUS: &[(&str, &str)] = &[("GPUS", "4")];

/// Batches of 21 and 22 images, some mixed, with a checkpoint after every one.
fn write(gpu: &OnGpu, phase: &str, gpus: usize) {
    let text = format!(
        "
name: p
stages:
  digits:
    dataset: {{ use: dataset/digits, limit_per_class: 20, side: 16 }}
  net:
    train:
      use: train/digits/{phase}
      data: digits
      areas: 2
      width: 8
      epochs: 3
      batch: 22
      learning_rate: 5e-3
      checkpoint_minutes: 0
      augment: {{ flip: true, mixup: 0.4 }}
    resources: {{ cpu: 1, gpu: {gpus} }}
"
    );
    gpu.project.write("p.yaml", &text);
}

const RUN: [&str; 6] = ["run", "p.yaml", "--progress", "plain", "--device", "auto"];

fn run(gpu: &OnGpu) -> Ran {
    gpu.run(GPUS, &RUN)
}

fn forget(gpu: &OnGpu) {
    std::fs::remove_dir_all(gpu.project.path("cache")).expect("removed");
}

fn start(gpu: &OnGpu) -> Child {
    let mut command = gpu.command(GPUS, &RUN);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

/// A process of the project whose arguments are these, after its name.
fn process(gpu: &OnGpu, is: impl Fn(&[&str]) -> bool) -> Option<Pid> {
    let pid = gpu.project.processes().into_iter().find(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&str> = line.split('\0').skip(1).collect();
        is(&arguments)
    })?;
    Pid::from_raw(pid.parse().ok()?)
}

fn rank(gpu: &OnGpu, rank: &'static str) -> Option<Pid> {
    process(gpu, |arguments| {
        arguments.first() == Some(&"rank") && arguments.get(3) == Some(&rank)
    })
}

/// What a training has measured in every epoch.
fn measured(gpu: &OnGpu) -> Vec<f64> {
    let columns = ["loss", "gradient_norm", "validation_cross_entropy"];
    let rows = rows(&gpu.project, "net/training");
    let numbers = rows.iter().flat_map(|row| columns.map(|column| number(row, column)));
    numbers.collect()
}

#[test]
fn several_gpus_train_what_one_does() {
    let Some(gpu) = OnGpu::new() else { return };
    for phase in ["cordsnet", "cnn"] {
        let train = |gpus| {
            write(&gpu, phase, gpus);
            let ran = run(&gpu).expect(0);
            let note = format!("on {gpus} GPUs, each with its part of every batch");
            assert_eq!(ran.stderr.contains(&note), gpus > 1, "{}", ran.stderr);
            measured(&gpu)
        };
        let one = train(1);
        gpu.counts();
        // How many there were is no part of the key.
        write(&gpu, phase, 2);
        assert_eq!(gpu.project.states(&["p.yaml"])["net"], "cached");
        for gpus in [2, 4] {
            forget(&gpu);
            let several = train(gpus);
            let counts = gpu.counts();
            let together = counts.iter().filter(|counts| counts.collectives > 0).count();
            assert_eq!(together, gpus, "{phase}");
            assert_eq!(one.len(), several.len());
            for (a, b) in several.iter().zip(&one) {
                // Sums are taken in another order; a gradient without a part of the batch is off by per cents.
                assert!(
                    (a - b).abs() <= 2e-3 * b.abs(),
                    "{phase}, {gpus}: {several:?} and {one:?}"
                );
            }
        }
        let runs = gpu.project.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
        let stages = runs[0]["stages"].as_array().expect("stages").iter();
        let mut net = stages.filter(|stage| stage["name"] == "net");
        let net = net.next().expect("the stage");
        assert_eq!(net["execution"]["device"], "cuda:0,1,2,3");
        forget(&gpu);
    }
}

/// Whoever of the processes is killed, at whatever time, all end, the reason is said, and the next run goes on to the
/// same bytes as one that nothing disturbed.
#[test]
fn ranks_end_together_and_go_on_together() {
    let Some(gpu) = OnGpu::new() else { return };
    write(&gpu, "cordsnet", 3);
    run(&gpu).expect(0);
    let (undisturbed, _) = result(&gpu.project);
    forget(&gpu);
    // Before they have found each other.
    let tool = start(&gpu);
    let pid = wait_until("a rank", || rank(&gpu, "1"));
    kill_process(pid, Signal::KILL).expect("it runs");
    let ended = end(tool).expect(100);
    let reason = "rank 1 of 3, on GPU 1, ended with signal: 9";
    assert!(ended.stderr.contains(reason), "{}", ended.stderr);
    gpu.project.expect_no_process();
    for killed in ["2", "worker", "tool"] {
        let tool = start(&gpu);
        wait_until("a checkpoint", || checkpoint(&gpu.project));
        let ended = match killed {
            "tool" => {
                let pid = i32::try_from(tool.id()).ok().and_then(Pid::from_raw);
                kill_process(pid.expect("a process id"), Signal::INT).expect("it runs");
                let ended = end(tool).expect(130);
                assert!(ended.stderr.contains("wrote a checkpoint"), "{}", ended.stderr);
                ended
            }
            "worker" => {
                let worker = process(&gpu, |arguments| arguments.first() == Some(&"worker"));
                kill_process(worker.expect("it runs"), Signal::KILL).expect("it runs");
                end(tool).expect(100)
            }
            other => {
                let pid = rank(&gpu, other).expect("it runs");
                kill_process(pid, Signal::KILL).expect("it runs");
                let ended = end(tool).expect(100);
                let reason = "rank 2 of 3, on GPU 2, ended with signal: 9";
                assert!(ended.stderr.contains(reason), "{}", ended.stderr);
                ended
            }
        };
        gpu.project.expect_no_process();
        let next = run(&gpu).expect(0);
        assert!(
            next.stderr.contains("resumes from its checkpoint"),
            "{killed}: {}",
            ended.stderr
        );
        assert!(result(&gpu.project).0 == undisturbed, "{killed}");
        forget(&gpu);
    }
}

/// What every rank lacks is said once; what one of them lacks, too, and nobody waits for it.
#[test]
fn a_rank_that_cannot_begin_ends_the_stage() {
    let Some(gpu) = OnGpu::new() else { return };
    write(&gpu, "cordsnet", 2);
    let broken = gpu.run(&[("GPUS", "2"), ("MEMORY", "200000")], &RUN).expect(100);
    assert!(broken.stderr.contains("bytes left"), "{}", broken.stderr);
    gpu.project.expect_no_process();
    gpu.libraries.without("libnccl").expect("it was there");
    let broken = run(&gpu).expect(100);
    assert!(
        broken.stderr.contains("NCCL: libnccl.so.2 was not found"),
        "{}",
        broken.stderr
    );
    gpu.project.expect_no_process();
    // One GPU works without it.
    write(&gpu, "cordsnet", 1);
    run(&gpu).expect(0);
}

/// A stage gets no more GPUs than there are, and says which.
#[test]
fn fewer_gpus_than_asked_for_are_said() {
    let Some(gpu) = OnGpu::new() else { return };
    write(&gpu, "cordsnet", 2);
    let arguments = ["run", "p.yaml", "--progress", "plain", "--device", "cuda"];
    let ran = gpu.run(GPUS, &arguments).expect(0);
    assert!(ran.stderr.contains("start (1 thread, GPU 0)"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("GPUs, each with its part"), "{}", ran.stderr);
    gpu.counts();
}
