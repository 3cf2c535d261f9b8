//! Every file of `pipelines/`, whole, in small: what a user is told to type ends well, every table has rows, every
//! picture is there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Project, repository};

/// What makes a pipeline small: parameters for `-S`.
pub fn small(pipeline: &str) -> &'static [&'static str] {
    match pipeline {
        "cognitive" => &[
            "digits.limit_per_class=30",
            "cordsnet.epochs=1",
            "tasks.steps=20",
            "tasks.test_trials=40",
            "tasks.decode_trials=60",
        ],
        "cifar10" => &[
            "vars.seeds=[0]",
            "vars.width=4",
            "cnn.epochs=1",
            "invert.epochs=1",
            "linear.epochs=1",
            "anneal.epochs=1",
            "staged.epochs=1",
            "direct.epochs=1",
            "noise.images=10",
        ],
        "command" | "recordings" => &[],
        "corruptions" => &["cnn.epochs=1", "cordsnet.epochs=1"],
        "dataset" => &["digits.limit_per_class=20"],
        "evaluate" => &["digits.limit_per_class=20", "cnn.epochs=1", "cordsnet.epochs=1"],
        "feedback" => &[
            "digits.limit_per_class=20",
            "published.epochs=1",
            "feedback.epochs=1",
            "adapting.epochs=1",
            "blt.epochs=1",
            "noise.images=4",
            "fixed_points.images=1",
        ],
        "fixed_points" => &[
            "digits.limit_per_class=20",
            "cordsnet.epochs=1",
            "fixed_points.images=3",
            "noise.images=3",
        ],
        "import" => &["fixed_points.images=1"],
        "noise" => &[
            "digits.limit_per_class=20",
            "cnn.epochs=1",
            "cordsnet.epochs=1",
            "noise.images=10",
        ],
        "paper" => &[
            "vars.data=digits",
            "vars.areas=[2]",
            "images.limit_per_class=70",
            "cnn.epochs=1",
            "invert.epochs=1",
            "linear.epochs=1",
            "anneal.epochs=1",
            "cordsnet.epochs=1",
            "noise.images=10",
            "unit_noise.images=3",
            "fixed_points.images=3",
            "record.images=120",
            "tasks.steps=20",
            "tasks.test_trials=40",
            "tasks.decode_trials=60",
            "predictivity.splits=2",
            "predictivity.components=5",
        ],
        "predictivity" => &[
            "digits.limit_per_class=70",
            "cordsnet.epochs=1",
            "cnn.epochs=1",
            "vars.images=120",
            "predictivity.components=5",
            "predictivity.splits=2",
            "shared.components=5",
            "shared.splits=2",
        ],
        "quickstart" => &[
            "digits.limit_per_class=20",
            "cnn.epochs=1",
            "cordsnet.epochs=1",
            "noise.images=10",
            "fixed_points.images=2",
        ],
        "record" => &["digits.limit_per_class=20", "cordsnet.epochs=1", "record.images=20"],
        "staged" => &[
            "digits.limit_per_class=20",
            "cnn.epochs=1",
            "invert.epochs=1",
            "linear.epochs=1",
            "anneal.epochs=1",
            "finetune.epochs=1",
            "direct.epochs=1",
        ],
        "sweep" => &["digits.limit_per_class=20", "vars.epochs=1", "vars.widths=[8]"],
        "train" => &["digits.limit_per_class=20", "cnn.epochs=1", "cordsnet.epochs=1"],
        other => panic!("pipelines/{other}.yaml is new: say here what makes it small"),
    }
}

/// Folders of pictures that are rightly empty: (pipeline, stage).
const NO_PICTURES: [(&str, &str); 1] = [
    // A CNN has no activity over time.
    ("predictivity", "twin"),
];

/// Tables that are rightly empty: of one level of noise there is no threshold, and nothing to compare it with.
fn is_rightly_empty(pipeline: &str, place: &str) -> bool {
    match pipeline {
        // Only tasks with graded evidence have a psychometric curve.
        // Networks that learned for twenty steps may have no steady states.
        "cognitive" => place.ends_with("/psychometric") || place.ends_with("/eigenvalues"),
        // Fits without controls.
        "predictivity" => place == "shared/paired",
        "fixed_points" => ["noise/robustness", "noise/paired"].contains(&place),
        "paper" => ["unit_noise@", "tasks@", "predictivity@"]
            .iter()
            .any(|stage| place.starts_with(stage)),
        _ => false,
    }
}

/// Whoever may read a file that was written here by ordinary means may read every result.
fn expect_readable(folder: &Path, ordinary: &Path) {
    let readers = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o444;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            expect_readable(&path, ordinary);
        } else {
            assert_eq!(readers(&path), readers(ordinary), "{}", path.display());
        }
    }
}

fn run(pipeline: &str, project: &Project) {
    let file = format!("pipelines/{pipeline}.yaml");
    let text = std::fs::read_to_string(repository().join(&file)).expect("read");
    project.write(&file, &text);
    // What `recordings` reads is part of the repository.
    for fixture in ["assembly.nc", "units.nwb"].map(|name| format!("crates/cords/tests/fixtures/{name}")) {
        let path = project.path(&fixture);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::copy(repository().join(&fixture), path).expect("copied");
    }
    let mut arguments = vec!["run", &file];
    for setting in small(pipeline) {
        arguments.extend(["-S", setting]);
    }
    project.dynvis(&arguments).expect(0);
    expect_readable(&project.path("cache/objects"), &project.path(&file));
    let record = &project.dynvis(&["runs", "--json"]).expect(0).json()[0];
    let stages = record["stages"].as_array().expect("stages");
    assert!(!stages.is_empty());
    for stage in stages {
        let name = stage["name"].as_str().expect("a name");
        for output in stage["outputs"].as_array().expect("outputs") {
            let slot = output["slot"].as_str().expect("a slot");
            let place = format!("{name}/{slot}");
            if output["artifact"] == "table" {
                let shown = project
                    .dynvis(&["show", "@", &place, "--format", "json"])
                    .expect(0)
                    .json();
                let rows = shown["rows"].as_array().map_or(0, Vec::len);
                assert!(
                    rows > 0 || is_rightly_empty(pipeline, &place),
                    "{pipeline}: {place} has no rows"
                );
            } else if slot == "pictures" && !NO_PICTURES.contains(&(pipeline, name)) {
                let folder = project.dynvis(&["show", "@", &place]).expect(0);
                let folder = folder.stdout.lines().last().expect("a folder").trim().to_owned();
                let there = pictures(Path::new(&folder));
                assert!(there > 0, "{pipeline}: {place} holds no pictures");
            }
        }
    }
    assert_eq!(
        project
            .dynvis(&[&["plan"], &arguments[1..], &["--exit-code"]].concat())
            .code,
        0,
        "{pipeline}: all of it is up to date now"
    );
}

/// Pictures in a folder, each as SVG and as PNG, none of them empty.
fn pictures(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|file| file.expect("read").path());
    let vector: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|end| end == "svg"))
        .collect();
    for file in &vector {
        for file in [file.clone(), file.with_extension("png")] {
            let length = std::fs::metadata(&file).map_or(0, |data| data.len());
            assert!(length > 200, "{} is empty", file.display());
        }
    }
    vector.len()
}

/// One test a file, so that they run side by side; [`every_file_of_pipelines_is_tried_here`] sees that none is missing.
macro_rules! tried {
    ($($name:ident),+) => {
        const TRIED: &[&str] = &[$(stringify!($name)),+, "cifar10", "corruptions", "import"];
        $(
            #[test]
            fn $name() {
                run(stringify!($name), &Project::with_presets());
            }
        )+
    };
}

tried!(
    cognitive,
    command,
    dataset,
    evaluate,
    feedback,
    fixed_points,
    noise,
    paper,
    predictivity,
    quickstart,
    record,
    recordings,
    staged,
    sweep,
    train
);

/// Needs the sets that its comments name; here small ones.
#[test]
fn corruptions() {
    let project = Project::with_presets();
    crate::corruptions::write_sets(&project);
    run("corruptions", &project);
}

/// Needs CIFAR-10; here a small one.
#[test]
fn cifar10() {
    let project = Project::with_presets();
    crate::corruptions::write_sets(&project);
    run("cifar10", &project);
}

/// Needs the weights that its comments tell how to make.
#[test]
fn import() {
    let project = Project::with_presets();
    let text = std::fs::read_to_string(repository().join("pipelines/train.yaml")).expect("read");
    project.write("pipelines/train.yaml", &text);
    let settings = ["-S", "digits.limit_per_class=20", "-S", "cordsnet.epochs=1"];
    let train = ["run", "pipelines/train.yaml", "cordsnet@tau=10"];
    project.dynvis(&[&train[..], &settings].concat()).expect(0);
    let export = ["export", "cordsnet@tau=10", "--out", "data/weights.pth"];
    project.dynvis(&export).expect(0);
    run("import", &project);
}

#[test]
fn every_file_of_pipelines_is_tried_here() {
    let files = std::fs::read_dir(repository().join("pipelines")).expect("read");
    for file in files {
        let name = file.expect("read").file_name().into_string().expect("text");
        let name = name.strip_suffix(".yaml").expect("a pipeline");
        assert!(TRIED.contains(&name), "pipelines/{name}.yaml is tried by no test");
    }
}
