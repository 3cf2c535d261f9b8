//! GPUs that cannot be used: `auto` goes on without them and says so in one line, `cuda` fails. NVIDIA's libraries are
//! small ones of our own, which a C compiler makes here and whose faults are chosen by a variable of the environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Project, Ran};

/// The libraries, one `#if` each.
const SOURCE: &str = include_str!("gpu_libraries.c");

/// A folder with those of the libraries that are asked for.
fn libraries(project: &Project, name: &str, wanted: &[(&str, &str)]) -> PathBuf {
    let (folder, source) = (project.path(name), project.path("gpu.c"));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(&source, SOURCE).expect("written");
    for (file, definition) in wanted {
        let status = Command::new("cc")
            .args([
                "-shared",
                "-fPIC",
                "-w",
                &format!("-D{definition}"),
                &format!("-Wl,-soname,{file}"),
                "-o",
            ])
            .arg(folder.join(file))
            .arg(&source)
            .status()
            .expect("a C compiler, `cc`");
        assert!(status.success());
    }
    folder
}

const DRIVER: (&str, &str) = ("libcuda.so.1", "DRIVER");
const NVRTC: (&str, &str) = ("libnvrtc.so.13", "NVRTC");
const CUBLASLT: (&str, &str) = ("libcublasLt.so.13", "CUBLASLT");
const CUDNN: (&str, &str) = ("libcudnn.so.9", "CUDNN");

/// The program where it finds these libraries and, but for folders of the system, no others.
fn command(project: &Project, folder: &Path, fault: &str, arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    command
        .env("PATH", project.path("empty"))
        .env("HOME", project.path("home"))
        .env("LD_LIBRARY_PATH", folder)
        .env("GPU_FAULT", fault);
    for name in [
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "CUDA_HOME",
        "CUDA_PATH",
        "XDG_CACHE_HOME",
        "CUDA_VISIBLE_DEVICES",
    ] {
        command.env_remove(name);
    }
    command
}

fn ran(mut command: Command) -> Ran {
    command.output().expect("the binary starts").into()
}

fn benchmark(device: &str) -> Vec<&str> {
    let at = ["benchmark", "--json", "--device", device];
    let size = [
        "--areas",
        "2",
        "--side",
        "16",
        "--batch",
        "1",
        "--steps",
        "1",
        "--repeats",
        "1",
    ];
    at.into_iter().chain(size).collect()
}

/// `auto` says `reason` in its only line and computes on the processor; `cuda` fails by the same reason.
#[track_caller]
fn passes_over(project: &Project, folder: &Path, fault: &str, reason: &str) {
    let auto = ran(command(project, folder, fault, &benchmark("auto"))).expect(0);
    assert!(
        auto.json()["device"]
            .as_str()
            .is_some_and(|device| device.starts_with("processor"))
    );
    assert_eq!(auto.json()["recorded"], serde_json::Value::Null);
    let lines: Vec<&str> = auto.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{fault}: {lines:?}");
    assert!(
        lines[0].contains("can be used") || lines[0].contains("cannot be used"),
        "{fault}: {lines:?}"
    );
    assert!(lines[0].contains(reason), "{fault}: {lines:?}");
    let cuda = ran(command(project, folder, fault, &benchmark("cuda")));
    assert_eq!(cuda.code, 2, "{}", cuda.stderr);
    assert!(
        cuda.stderr.contains(reason) && cuda.stdout.is_empty(),
        "{fault}: {}",
        cuda.stderr
    );
}

/// Nobody needs to hear that a machine has no GPU; who asks for one does.
#[track_caller]
fn is_silent(project: &Project, folder: &Path, fault: &str, reason: &str) {
    let auto = ran(command(project, folder, fault, &benchmark("auto"))).expect(0);
    assert_eq!(auto.stderr, "");
    let cuda = ran(command(project, folder, fault, &benchmark("cuda")));
    assert_eq!(cuda.code, 2, "{}", cuda.stderr);
    assert!(cuda.stderr.contains(reason), "{fault}: {}", cuda.stderr);
}

/// Whether this machine has a library of that name where no environment can hide it.
fn has_its_own(project: &Project, name: &str) -> bool {
    let doctor = ran(command(project, &project.path("empty"), "", &["doctor"])).expect(0);
    let row = doctor.stdout.lines().find(|line| line.starts_with(name));
    row.is_some_and(|row| !row.contains(" no "))
}

#[test]
fn auto_goes_on_without_a_gpu_that_cannot_be_used() {
    let project = Project::new();
    let all = libraries(&project, "all", &[DRIVER, NVRTC, CUBLASLT, CUDNN]);
    is_silent(&project, &all, "none", "finds no GPU");
    for (fault, reason) in [
        ("init", "starting the driver failed: error 999"),
        ("stub", "libcuda.so.1 is a stub for linking"),
        ("old", "compute capability 5.2, and 7.5 is the oldest"),
        ("context", "opening GPU 0 failed"),
        ("builtins", "failed to open libnvrtc-builtins.so.13.0"),
        ("module", "loading the kernels failed"),
        ("cudnn", "opening cuDNN failed: cuDNN's status 1008"),
    ] {
        passes_over(&project, &all, fault, reason);
    }
    let stub = libraries(
        &project,
        "stub",
        &[DRIVER, NVRTC, CUBLASLT, ("libcudnn.so.9", "CUDNN_WITHOUT_A_FUNCTION")],
    );
    passes_over(
        &project,
        &stub,
        "",
        "lacks `cudnnConvolutionForward`, it is a stub or too old",
    );
    let driver = libraries(
        &project,
        "driver",
        &[("libcuda.so.1", "DRIVER_WITHOUT_A_FUNCTION"), NVRTC],
    );
    passes_over(&project, &driver, "", "opening the driver failed");
}

#[test]
fn auto_goes_on_without_libraries() {
    let project = Project::new();
    if !has_its_own(&project, "CUDA driver") {
        let none = libraries(&project, "none", &[]);
        is_silent(&project, &none, "", "libcuda.so.1 was not found");
    }
    if !has_its_own(&project, "NVRTC") {
        let folder = libraries(&project, "nvrtc", &[DRIVER, CUBLASLT, CUDNN]);
        passes_over(&project, &folder, "", "libnvrtc.so.13 or libnvrtc.so.12 was not found");
    }
    if !has_its_own(&project, "cuDNN") {
        let folder = libraries(&project, "cudnn", &[DRIVER, NVRTC, CUBLASLT]);
        passes_over(&project, &folder, "", "libcudnn.so.9 was not found");
    }
}

/// Stages of a run go on too: one line for the run, and the record says where they computed. With `cuda` they fail.
#[test]
fn a_run_goes_on_without_a_gpu_that_cannot_be_used() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "stages:\n  digits:\n    dataset: { use: dataset/digits }\n  \
         cnn:\n    train: { use: train/digits/cnn, data: digits, areas: 1, epochs: 1 }\n    matrix: { seed: [0, 1] }\n",
    );
    let all = libraries(&project, "all", &[DRIVER, NVRTC, CUBLASLT, CUDNN]);
    let run = |fault, device| {
        let arguments = ["run", "p.yaml", "--progress", "plain", "--device", device];
        ran(command(&project, &all, fault, &arguments))
    };
    let failed = run("context", "cuda");
    assert_eq!(failed.code, 100, "{}", failed.stderr);
    assert!(failed.stderr.contains("opening GPU 0 failed"), "{}", failed.stderr);
    for (fault, reason) in [
        ("context", "GPU 0 cannot be used: opening GPU 0 failed"),
        // A driver that ends its process.
        (
            "crash",
            "GPU 0 cannot be used: the process that opened it ended with signal",
        ),
    ] {
        let auto = run(fault, "auto").expect(0);
        let said = auto.stderr.lines().filter(|line| line.contains("cannot be used"));
        let said: Vec<&str> = said.collect();
        assert!(matches!(said[..], [line] if line.contains(reason)), "{}", auto.stderr);
        let runs = ran(command(&project, &all, fault, &["runs", "--json"]))
            .expect(0)
            .json();
        assert_eq!(runs[0]["device"], "cpu");
        std::fs::rename(project.path("cache"), project.path(&format!("cache-{fault}"))).expect("moved");
    }
}

/// What `doctor` says of each library, and that it tries the compiler.
#[test]
fn doctor_names_what_is_wrong() {
    let project = Project::new();
    let all = libraries(&project, "all", &[DRIVER, NVRTC, CUBLASLT, CUDNN]);
    let doctor = |fault| ran(command(&project, &all, fault, &["doctor"])).expect(0).stdout;
    let sound = doctor("");
    assert!(
        sound.contains("GPU 0") && sound.contains("compute capability 9.0"),
        "{sound}"
    );
    assert!(sound.contains("13.0, ") && sound.contains("libnvrtc.so.13"), "{sound}");
    assert!(!sound.contains("builtins"), "{sound}");
    let text = doctor("builtins").split_whitespace().collect::<String>();
    assert!(text.contains("failedtoopenlibnvrtc-builtins.so.13.0"), "{text}");
    let text = doctor("context").split_whitespace().collect::<String>();
    assert!(
        text.contains("cannotbeopened") && text.contains("openingGPU0failed"),
        "{text}"
    );
    // One GPU works without it.
    assert!(sound.contains("NCCL"), "{sound}");
}
