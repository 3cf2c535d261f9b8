//! What a dry run says of bytes, images and time, and the benchmarks that it goes by.

use serde_json::Value;

use crate::harness::{Project, Ran};

/// Of the 1,797 digits 1,259 are for training, 179 for validation and 359 for testing.
const DIGITS: &str = "
name: p
stages:
  images: { dataset: { source: digits, side: 32 } }
  net:
    train:
      { phase: direct, data: images, areas: 2, optimiser: adamw, learning_rate: 1e-3, epochs: 2, batch: 8 }
";

/// Images and their labels and places in the splits.
const DIGITS_BYTES: u64 = 1797 * (32 * 32 + 8);

/// Two of which count for R2 at 32 pixels: the last one, and the last one of a processor. Other lines are damaged, or of
/// other networks.
const BENCHMARKS: &str = r#"
{"device": "processor, 2 threads", "is_gpu": false, "areas": 2, "side": 32, "batch": 8, "steps": 100, "precision": "float32", "images_per_second": 5.0, "at": "2026-01-02T03:04:05Z", "dynvis": "0.9.0"}
{"device": "a GPU", "is_gpu": true, "areas": 2, "side": 64, "batch": 8, "steps": 100, "precision": "float32", "images_per_second": 99.0, "at": "2026-01-02T03:04:05Z", "dynvis": "0.9.0"}
{"device": "a GPU", "is_gpu": true, "areas": 2, "si
{"device": "a GPU", "is_gpu": true, "areas": 2, "side": 32, "batch": 8, "steps": 100, "precision": "tf32", "images_per_second": 99.0, "at": "2026-01-02T03:04:05Z", "dynvis": "0.9.0"}
{"device": "a GPU", "is_gpu": true, "areas": 2, "side": 32, "batch": 8, "steps": 100, "precision": "float32", "images_per_second": 8.0, "at": "2026-01-03T03:04:05Z", "dynvis": "0.9.0"}
not even JSON"#;

fn dry(project: &Project, arguments: &[&str]) -> Ran {
    project
        .dynvis(&[&["run", "p.yaml", "--dry-run"], arguments].concat())
        .expect(0)
}

/// What it says for programs.
fn takes(project: &Project, arguments: &[&str]) -> Value {
    let told = dry(project, &[&["--progress", "json"], arguments].concat());
    assert_eq!(told.stdout.lines().count(), 1, "{}", told.stdout);
    told.json()["takes"].clone()
}

/// What is said of one thing that a stage does.
fn part(takes: &Value, stage: &str, what: &str) -> Value {
    let parts = takes["parts"].as_array().expect("parts");
    let found = parts.iter().find(|part| part["stage"] == stage && part["what"] == what);
    found.unwrap_or_else(|| panic!("{stage} {what} in {takes}")).clone()
}

#[track_caller]
fn near(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - expected).abs() <= 1e-9 * expected, "{found} is not {expected}");
}

/// Lines with their words one blank apart, whatever the widths of columns.
fn lines(ran: &Ran) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    ran.stdout.lines().map(words).collect()
}

#[track_caller]
fn has_line(ran: &Ran, line: &str) {
    assert!(
        lines(ran).iter().any(|found| found == line),
        "no {line:?} in\n{}",
        ran.stdout
    );
}

#[test]
fn a_dry_run_says_what_digits_and_a_training_take() {
    let project = Project::new();
    project.write("p.yaml", DIGITS);
    let without = takes(&project, &[]);
    let images = part(&without, "images", "preparing");
    assert_eq!(images["bytes"], DIGITS_BYTES);
    assert_eq!(images["is_most"], false);
    assert_eq!(
        images["prepared"],
        serde_json::json!({ "train": 1259, "validation": 179, "test": 359 })
    );
    let training = part(&without, "net", "training");
    assert_eq!(
        (&training["images"], &training["seconds"]),
        (&2518.into(), &Value::Null)
    );
    assert_eq!(without["is_complete"], false);
    let ran = dry(&project, &["--device", "cpu"]);
    has_line(&ran, "images 1,259 training, 179 validation, 359 test images 1.9 MB");
    has_line(&ran, "net validation 358 no benchmark");
    has_line(&ran, "dynvis benchmark --areas 2 --side 32 --batch 8 --device cpu");
    assert!(!project.path("cache").exists(), "a dry run makes no cache");

    project.write("cache/benchmarks.jsonl", BENCHMARKS);
    let known = takes(&project, &[]);
    // The same trial as was timed: 100 steps before the image, with it and after it.
    let training = part(&known, "net", "training");
    near(&training["images_per_second"], 8.0);
    near(&training["seconds"], 314.75);
    assert_eq!(training["benchmark"]["device"], "a GPU");
    // 100 steps without gradient, which take a third each, in place of 200 with and 100 / 8 without.
    let validation = part(&known, "net", "validation");
    let rate = 8.0 * (200.0 + 12.5 / 3.0) / (100.0 / 3.0);
    assert_eq!(validation["images"], 358);
    near(&validation["images_per_second"], rate);
    near(&known["seconds"], 314.75 + 358.0 / rate);
    assert_eq!(known["is_complete"], true);
    near(
        &part(&takes(&project, &["--device", "cpu"]), "net", "training")["images_per_second"],
        5.0,
    );
    let ran = dry(&project, &[]);
    let on_gpu = "[1] dynvis 0.9.0, 2026-01-03: CordsNet-R2, 32 x 32, 100 steps, batches of 8, float32: 8.0 images a \
                  second on a GPU";
    has_line(&ran, on_gpu);
    has_line(&ran, "net validation 358 49.0 7.3 s [1]");
    assert!(!ran.stdout.contains("no benchmark"), "{}", ran.stdout);
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
}

#[test]
fn members_of_a_matrix_are_one_line_with_their_sum() {
    let project = Project::new();
    let members = format!("{DIGITS}    matrix: {{ seed: [0, 1, 2, 3, 4] }}\n");
    project
        .write("p.yaml", &members)
        .write("cache/benchmarks.jsonl", BENCHMARKS);
    let ran = dry(&project, &[]);
    has_line(&ran, "net x5 validation 1,790 49.0 37 s [1]");
    assert!(!ran.stdout.contains("net@seed=3"), "{}", ran.stdout);
    let training = lines(&ran)
        .into_iter()
        .find(|line| line.starts_with("net x5 training "));
    let training = training.unwrap_or_else(|| panic!("{}", ran.stdout));
    assert!(training.ends_with(" 12,590 8.0 26 min [1]"), "{training}");
    let all = lines(&ran).into_iter().find(|line| line.starts_with("in all "));
    let all = all.unwrap_or_else(|| panic!("{}", ran.stdout));
    assert!(all.ends_with(" 14,380 27 min"), "{all}");
    // Programs get every member.
    near(
        &part(&takes(&project, &[]), "net@seed=3", "training")["seconds"],
        314.75,
    );
}

#[test]
fn a_folder_is_told_to_the_byte_without_decoding() {
    let project = Project::new();
    let dataset = |options: &str| {
        let dataset = format!("{{ source: image_folder, path: img, side: 16, store: encoded{options} }}");
        project.write("p.yaml", &format!("stages: {{ images: {{ dataset: {dataset} }} }}\n"));
    };
    // No images at all, but called so.
    let mut small = 0;
    for (class, name) in ["ant", "bee", "cat"].iter().enumerate() {
        for i in 0..10 {
            let length = 100 + 10 * class + i;
            small += length as u64;
            project.write(&format!("img/{name}/{i}.png"), &"x".repeat(length));
        }
    }
    dataset("");
    let images = part(&takes(&project, &[]), "images", "preparing");
    // Each has 32 bytes of the index, its label and its place in the splits.
    assert_eq!(images["bytes"], small + 30 * (32 + 8));
    assert_eq!(
        images["prepared"],
        serde_json::json!({ "train": 21, "validation": 3, "test": 6 })
    );
    // Large images begin at a multiple of 4,096 bytes; this one is the last.
    project.write("img/cat/9.png", &"x".repeat(70_000));
    let before = small - 129;
    let images = part(&takes(&project, &[]), "images", "preparing");
    assert_eq!(images["bytes"], before.next_multiple_of(4096) + 70_000 + 30 * (32 + 8));
    dataset(", max_side: 32");
    let images = part(&takes(&project, &[]), "images", "preparing");
    assert_eq!(images["is_most"], true);
    assert!(dry(&project, &[]).stdout.contains("at most 75.3 kB"));
    dataset(", limit_per_class: 5");
    let images = part(&takes(&project, &[]), "images", "preparing");
    assert_eq!(
        images["prepared"],
        serde_json::json!({ "train": 9, "validation": 3, "test": 3 })
    );
    // What would end the stage is told, and does not end the dry run.
    dataset(", test: 0.95, validation: 0");
    let ran = dry(&project, &[]);
    assert!(
        ran.stdout.contains("what `images` takes cannot be told: "),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_benchmark_is_kept_for_dry_runs() {
    let project = Project::new();
    project.write("p.yaml", DIGITS);
    let timed = [
        "benchmark",
        "--device",
        "cpu",
        "--areas",
        "2",
        "--side",
        "32",
        "--batch",
        "2",
        "--steps",
        "2",
    ];
    let figures = project
        .dynvis(&[&timed[..], &["--repeats", "1", "--json"]].concat())
        .expect(0)
        .json();
    let known = takes(&project, &["--device", "cpu"]);
    let training = part(&known, "net", "training");
    let kept = &training["benchmark"];
    assert_eq!(
        (&kept["areas"], &kept["side"], &kept["batch"]),
        (&2.into(), &32.into(), &2.into())
    );
    assert_eq!(kept["images_per_second"], figures["images_per_second"]);
    assert_eq!(kept["device"], figures["device"]);
    // No file of the cache that nobody knows.
    project.dynvis(&["verify"]).expect(0);
    project.dynvis(&["gc", "--keep-runs", "1"]).expect(0);
    assert_eq!(project.read("cache/benchmarks.jsonl").lines().count(), 1);
}

#[test]
fn the_whole_paper_is_told_in_small() {
    let project = Project::with_presets();
    let paper = crate::harness::repository().join("pipelines/paper.yaml");
    project.write("p.yaml", &std::fs::read_to_string(paper).expect("a pipeline"));
    let ran = dry(&project, &["-S", "vars.data=digits"]);
    has_line(
        &ran,
        "images@set=digits 1,259 training, 179 validation, 359 test images 1.9 MB",
    );
    // 4 networks and 30 epochs.
    let told = takes(&project, &["-S", "vars.data=digits"]);
    let parts = told["parts"].as_array().expect("parts").iter();
    let cnns = parts.filter(|part| part["stage"].as_str().is_some_and(|stage| stage.starts_with("cnn@")));
    let trained = cnns
        .filter(|part| part["what"] == "training")
        .map(|part| part["images"].as_u64());
    assert_eq!(trained.sum::<Option<u64>>(), Some(4 * 30 * 1259));
    // Their networks are narrower than those that are timed.
    assert!(ran.stdout.contains("not timed: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("tasks"), "{}", ran.stdout);
}
