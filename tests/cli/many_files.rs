//! Folders with very many files: what is noticed, what is opened, and what is kept of them.

use std::path::{Path, PathBuf};

use crate::chain::walk;
use crate::faults_images::picture;
use crate::harness::Project;
use crate::idle::Watch;

const PIPELINE: &str = r#"
name: many
stages:
  images:
    dataset: { source: image_folder, path: img, side: 8, resize: 8, channels: 1, validation: 0, test: 0 }
  other:
    command: { run: [sh, -c, "echo 1 > out.txt"], outputs: { out: { path: out.txt } } }
"#;

/// More than are listed one by one.
const FILES: usize = 12_000;

/// Until what was written may be remembered: times are coarse.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2_100));
}

fn image(i: usize) -> String {
    format!("img/{}/{i:05}.png", ["ant", "bee-eater", "bee"][i % 3])
}

fn reasons(project: &Project, stage: &str) -> Vec<serde_json::Value> {
    let plan = project.dynvis(&["plan", "p.yaml", "--json"]).expect(0).json();
    let stages = plan["stages"].as_array().expect("stages").clone();
    let found = stages.into_iter().find(|found| found["stage"] == stage);
    found.expect("planned")["reasons"].as_array().expect("reasons").clone()
}

fn with_extension(project: &Project, extension: &str) -> Vec<PathBuf> {
    let all = walk(&project.path("cache/keys"));
    all.into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

fn replace(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn every_change_in_a_folder_of_many_files_is_noticed_and_none_of_them_opened_without_one() {
    let project = Project::new();
    project.write("p.yaml", PIPELINE);
    picture(&project, &image(0), |at| at as u8);
    let picture_bytes = std::fs::read(project.path(&image(0))).expect("a picture");
    for i in 0..FILES {
        let path = project.path(&image(i));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        replace(&path, &picture_bytes);
    }
    // Told from images by its first bytes alone.
    project.write("img/ant/notes", "no image");
    project.dynvis(&["run", "p.yaml"]).expect(0);

    // What explains the key and what the run's record says do not grow with the folder.
    let explained = with_extension(&project, "json");
    assert!(!explained.is_empty());
    for path in explained {
        assert!(
            std::fs::metadata(&path).expect("there").len() < 10_000,
            "{}",
            path.display()
        );
    }
    assert_eq!(with_extension(&project, "files").len(), 1);

    settle();
    assert_eq!(project.states(&["p.yaml"])["images"], "cached");
    let watched: Vec<PathBuf> = (0..FILES).step_by(150).map(|i| project.path(&image(i))).collect();
    let mut watch = Watch::on(&[watched, vec![project.path("img/ant/notes")]].concat());
    assert_eq!(project.states(&["p.yaml"])["images"], "cached");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(project.outcomes()["images"], "cached");
    assert!(!watch.is_opened(), "something was read");
    // Nothing can be said of a folder that nobody asks about, and nothing is looked at.
    let plan = project.dynvis(&["plan", "p.yaml", "other", "--json"]).expect(0).json();
    let images = plan["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .find(|stage| stage["stage"] == "images");
    assert_eq!(images.expect("planned")["reasons"][0]["reason"], "not_selected");

    // Other bytes, as many of them, and the time of modification set back.
    let edited = project.path(&image(7));
    let modified = std::fs::metadata(&edited).and_then(|m| m.modified()).expect("a time");
    let mut other = picture_bytes.clone();
    *other.last_mut().expect("bytes") ^= 1;
    replace(&edited, &other);
    let file = std::fs::File::options().write(true).open(&edited).expect("opened");
    file.set_modified(modified).expect("set back");
    let found = reasons(&project, "images");
    assert_eq!(found.len(), 1, "{found:?}");
    let first = (found[0]["reason"].as_str(), found[0]["changed"].as_u64());
    assert_eq!(first, (Some("files"), Some(1)));
    assert_eq!(found[0]["examples"][0], "bee-eater/00007.png");
    let why = project.dynvis(&["why", "p.yaml", "images"]).expect(0);
    assert!(
        why.stdout
            .contains("file of the folder: 1 changed (`bee-eater/00007.png`)"),
        "{}",
        why.stdout
    );

    // Taken back, its result is the stage's own again.
    replace(&edited, &picture_bytes);
    assert_eq!(project.states(&["p.yaml"])["images"], "cached");
    std::fs::rename(project.path(&image(9)), project.path("img/bee/x.png")).expect("renamed");
    let found = reasons(&project, "images");
    let counts = ["changed", "added", "removed"].map(|count| found[0][count].as_u64());
    assert_eq!(counts, [Some(0), Some(1), Some(1)]);
    std::fs::rename(project.path("img/bee/x.png"), project.path(&image(9))).expect("renamed back");
    assert_eq!(project.states(&["p.yaml"])["images"], "cached");

    // What is remembered of the folder may be lost or damaged.
    for path in walk(&project.path("cache/files")) {
        replace(&path, b"dynvis stats 1\n\0no more of it");
    }
    assert_eq!(project.states(&["p.yaml"])["images"], "cached");
    std::fs::remove_dir_all(project.path("cache/files")).expect("removed");
    assert_eq!(project.states(&["p.yaml"])["images"], "cached");
}
