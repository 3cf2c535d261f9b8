//! The README and the pages of `docs/`: every link leads somewhere, every pipeline checks clean, and every command that
//! a page has a user type is run, in small, in the order of its page. A page is a session in a project of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use dynvis_runner::pipeline::load_profile;

use crate::asking;
use crate::corruptions;
use crate::harness::{Project, repository, typed};
use crate::pipelines;
use crate::slurm;
use crate::templates;

/// What a page's session starts from.
#[derive(Clone, Copy)]
enum Start {
    /// The pipelines of the repository.
    Pipelines,
    /// The same, with small image sets where the published ones would be.
    Sets,
    /// An empty folder.
    Nothing,
    /// An empty folder but for images of a user's own.
    Images,
    /// An empty folder but for recordings of a user's own, and the images that were shown.
    Recordings,
    /// A sweep that has run.
    Sweep,
    /// The pipelines of the repository, and a queue that is a script.
    Cluster,
    /// An empty folder but for one that is a remote.
    Shared,
}

impl Start {
    fn project(self) -> Project {
        match self {
            Self::Pipelines | Self::Sets | Self::Cluster => {
                let project = Project::with_presets();
                for file in std::fs::read_dir(repository().join("pipelines")).expect("read") {
                    let path = file.expect("a file").path();
                    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                    let text = std::fs::read_to_string(&path).expect("read");
                    project.write(&format!("pipelines/{name}"), &text);
                }
                if matches!(self, Self::Cluster) {
                    slurm::install(&project);
                }
                if matches!(self, Self::Sets) {
                    corruptions::write_sets(&project);
                }
                project
            }
            Self::Nothing => templates::empty(),
            Self::Images => {
                let project = templates::empty();
                templates::photographed(&project);
                project
            }
            Self::Recordings => {
                let project = templates::empty();
                templates::recorded(&project);
                project
            }
            Self::Sweep => asking::sweep(),
            Self::Shared => {
                let project = templates::empty();
                std::fs::create_dir(project.path("shared")).expect("a folder");
                project
            }
        }
    }
}

/// A test for the session of each page that has one: its name, what it starts from, how many commands are typed.
macro_rules! sessions {
    ($($name:ident: $page:literal, $start:ident, $commands:literal;)+) => {
        /// The pages with a session.
        const SESSIONS: &[&str] = &[$($page),+];
        $(
            #[test]
            fn $name() {
                run_session($page, Start::$start, $commands);
            }
        )+
    };
}

sessions! {
    session_of_the_readme: "README.md", Pipelines, 6;
    session_of_the_first_steps: "docs/start.md", Nothing, 12;
    session_with_images: "docs/tutorial-images.md", Images, 12;
    session_with_recordings: "docs/tutorial-recordings.md", Recordings, 9;
    session_of_pipelines: "docs/pipelines.md", Pipelines, 7;
    session_of_sweeps: "docs/sweeps.md", Pipelines, 3;
    session_of_training: "docs/training.md", Pipelines, 4;
    session_of_data_sets: "docs/datasets.md", Pipelines, 7;
    session_of_noise: "docs/noise.md", Pipelines, 3;
    session_of_dynamics: "docs/dynamics.md", Pipelines, 3;
    session_of_predictivity: "docs/predictivity.md", Pipelines, 4;
    session_of_cognitive_tasks: "docs/cognitive.md", Pipelines, 3;
    session_of_watching: "docs/watch.md", Pipelines, 3;
    session_of_tables: "docs/tables.md", Sweep, 6;
    session_of_figures: "docs/figures.md", Pipelines, 3;
    session_of_reports: "docs/reports.md", Pipelines, 3;
    session_of_clusters: "docs/slurm.md", Cluster, 5;
    session_of_commands: "docs/commands.md", Nothing, 11;
    session_of_errors: "docs/errors.md", Nothing, 5;
    session_of_remotes: "docs/remote.md", Shared, 6;
    session_of_cifar10: "docs/results/cifar10.md", Sets, 4;
}

/// What makes a pipeline of the pages small: parameters for `-S`.
fn small(pipeline: &str) -> &'static [&'static str] {
    match pipeline {
        "images" => templates::SMALL_IMAGES,
        "cognitive" => templates::SMALL_COGNITIVE,
        "recordings" => templates::SMALL_RECORDINGS,
        // `pipelines` tries more images.
        "fixed_points" => &[
            "digits.limit_per_class=20",
            "cordsnet.epochs=1",
            "noise.images=2",
            "fixed_points.images=2",
        ],
        // Pages have them whole.
        "broken" | "lines" | "shared" => &[],
        other => pipelines::small(other),
    }
}

/// The README and all pages, by their paths from the root.
fn pages() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![repository().join("docs")];
    let mut files = vec![repository().join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                files.push(path);
            }
        }
    }
    for path in files {
        let text = std::fs::read_to_string(&path).expect("read");
        let name = path.strip_prefix(repository()).expect("below the root");
        found.insert(name.to_string_lossy().into_owned(), text);
    }
    assert!(found.len() > 20, "{} pages", found.len());
    found
}

/// The blocks of code of a page: the language, and the lines.
fn blocks(text: &str) -> Vec<(String, Vec<&str>)> {
    let mut blocks: Vec<(String, Vec<&str>)> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) if !is_inside => blocks.push((language.to_owned(), Vec::new())),
            Some(_) => {}
            None if is_inside => blocks.last_mut().expect("a block").1.push(line),
            None => {}
        }
        is_inside ^= line.starts_with("```");
    }
    assert!(!is_inside, "a block has no end");
    blocks
}

/// The lines of a text outside blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    })
}

/// Writes the files that a page's pipelines are: a block whose first line is a comment with the file's name, `#
/// pipelines/NAME.yaml`, or one that says that it goes at that file's end.
fn write_pipelines(project: &Project, block: &[&str]) {
    let Some(first) = block.first() else { return };
    let text = block.join("\n") + "\n";
    if let Some(file) = first.strip_prefix("# at the end of ") {
        let before = project.read(file);
        assert!(!before.is_empty(), "no {file}");
        project.write(file, &(before + &text));
    } else if let Some(file) = first.strip_prefix("# pipelines/") {
        project.write(&format!("pipelines/{file}"), &text);
    }
}

/// A command as it is typed here: its pipeline small, without transfers, benchmarks of a small network.
fn in_small(line: &str) -> String {
    let mut typed = line.to_owned();
    if let Some(file) = line.split_whitespace().find(|word| word.ends_with(".yaml")) {
        let name = Path::new(file).file_stem().expect("a name").to_string_lossy();
        // What is typed comes later and wins.
        let settings = small(&name).iter().map(|change| format!(" -S '{change}'"));
        typed = typed.replacen(file, &(file.to_owned() + &settings.collect::<String>()), 1);
    }
    if line.starts_with("dynvis data get ") {
        typed = typed.replacen("data get", "data get --dry-run", 1);
    }
    if line.starts_with("dynvis benchmark ") {
        "dynvis benchmark --areas 2 --side 32 --batch 2 --steps 2 --repeats 1".clone_into(&mut typed);
    }
    typed
}

/// The exit code that a line tells of in its comment; without one, 1 of `diff` and 0 of all others.
fn expected(line: &str) -> i32 {
    match line.split_once("exit code ") {
        Some((_, code)) => code.trim().parse().expect("an exit code"),
        None => i32::from(line.starts_with("dynvis diff ")),
    }
}

fn run_session(page: &str, start: Start, commands: usize) {
    let text = std::fs::read_to_string(repository().join(page)).expect("the page");
    let project = start.project();
    let mut count = 0;
    for (_, block) in blocks(&text) {
        write_pipelines(&project, &block);
        for line in block.iter().filter_map(|line| line.strip_prefix("$ ")) {
            if !line.starts_with("dynvis ") {
                continue;
            }
            typed(&project, &in_small(line)).expect(expected(line));
            count += 1;
        }
    }
    assert_eq!(count, commands, "commands of {page}");
}

#[test]
fn every_command_of_a_page_is_typed() {
    let known: BTreeSet<&str> = SESSIONS.iter().copied().collect();
    for (page, text) in pages() {
        // Generated: usages, not commands.
        if page == "docs/cli.md" {
            continue;
        }
        for (_, block) in blocks(&text) {
            for line in block {
                assert!(
                    !line.starts_with("dynvis "),
                    "{page}: `{line}` lacks the `$` of what is typed"
                );
                assert!(
                    !line.starts_with("$ dynvis ") || known.contains(page.as_str()),
                    "{page}: no test types `{line}`"
                );
            }
        }
    }
}

/// Whole pipelines and some of their stages; stages that these read and that are not shown are put below them.
#[test]
fn every_pipeline_of_a_page_checks_clean() {
    let (mut checked, mut profiles) = (0, 0);
    for (page, text) in pages() {
        for (language, block) in blocks(&text) {
            // One that is meant to be wrong has no such language.
            if language != "yaml" {
                continue;
            }
            let block = block.join("\n") + "\n";
            if ["# slurm.yaml", "# queue.yaml"].contains(&block.lines().next().unwrap_or_default()) {
                check_profile(&page, &block);
                profiles += 1;
                continue;
            }
            let first = block.lines().find(|line| !line.starts_with('#'));
            let begins_inside = first.is_some_and(|line| line.starts_with(' '));
            let head = if begins_inside { "stages:\n" } else { "" };
            let mut pipeline = format!("{head}{block}");
            // `cordsnet@*` stands for the members of a matrix.
            let matrix = if block.contains("cordsnet@*") {
                ", matrix: { seed: [0] }"
            } else {
                ""
            };
            let cordsnet = format!("train: {{ use: train/digits/cordsnet, data: digits, areas: 2 }}{matrix}");
            let noise = "noise: { models: [cnn], data: digits, levels: [0, 1] }";
            for (name, stage) in [
                ("digits", "dataset: { use: dataset/digits }"),
                ("images", "dataset: { use: dataset/digits }"),
                ("cnn", "train: { use: train/digits/cnn, data: digits, areas: 2 }"),
                ("cordsnet", cordsnet.as_str()),
                ("noise", noise),
            ] {
                if !pipeline.contains(&format!("\n  {name}:")) {
                    pipeline += &format!("  {name}: {{ {stage} }}\n");
                }
            }
            let project = Project::with_presets();
            project.write("p.yaml", &pipeline);
            let ran = project.dynvis(&["check", "p.yaml"]);
            assert_eq!(ran.code, 0, "{page}:\n{pipeline}\n{}", ran.stderr);
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked} pipelines");
    assert!(profiles >= 5, "{profiles} profiles");
}

/// How jobs are asked for.
fn check_profile(page: &str, text: &str) {
    let project = Project::new();
    project.write("profile.yaml", text);
    let (_, profile) = load_profile(&project.path("profile.yaml"), &dynvis::kinds());
    let profile = profile.unwrap_or_else(|problems| panic!("{page}:\n{text}\n{problems:?}"));
    let Some(commands) = profile.commands else { return };
    for line in [&commands.submit, &commands.list, &commands.cancel] {
        let read = Command::new("sh").args(["-n", "-c", line]).output().expect("a shell");
        assert!(
            read.status.success(),
            "{page}: {line}: {}",
            String::from_utf8_lossy(&read.stderr)
        );
    }
}

/// What a link to a heading is called: its letters, digits, `_` and `-` in lower case, with `-` for blanks.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '_' | '-' => Some(letter),
        _ => letter.is_alphanumeric().then(|| letter.to_ascii_lowercase()),
    });
    kept.collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// The targets of a line's links and pictures, but for code in backticks.
fn links(line: &str) -> Vec<&str> {
    let outside: Vec<&str> = line.split('`').step_by(2).collect();
    // A link's text may be code: `[`x`](y)`.
    let mut found = Vec::new();
    for part in outside {
        let mut rest = part;
        while let Some((_, behind)) = rest.split_once("](") {
            let Some((target, behind)) = behind.split_once(')') else {
                break;
            };
            found.push(target);
            rest = behind;
        }
    }
    found
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_leads_somewhere() {
    let mut texts = pages();
    for file in ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = std::fs::read_to_string(repository().join(file)).expect("read");
        texts.insert(file.to_owned(), text);
    }
    let mut broken = Vec::new();
    let mut count = 0;
    for (page, text) in &texts {
        for target in prose(text).flat_map(links) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(page).parent().expect("a folder");
            let path = match file {
                "" => PathBuf::from(page),
                file => plain(&folder.join(file)),
            };
            let name = path.to_string_lossy().into_owned();
            if !repository().join(&path).exists() {
                broken.push(format!("{page}: there is no {target}"));
            } else if page.starts_with("docs/") && !path.starts_with("docs") {
                broken.push(format!(
                    "{page}: {target} is no part of the site; name it without a link"
                ));
            } else if !anchor.is_empty() && !texts.get(&name).is_some_and(|text| anchors(text).contains(anchor)) {
                broken.push(format!("{page}: {name} has no heading #{anchor}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(count > 100, "{count} links");
}

#[test]
fn every_page_is_in_the_contents() {
    let all = pages();
    let contents = &all["docs/SUMMARY.md"];
    let listed: BTreeSet<String> = prose(contents).flat_map(links).map(str::to_owned).collect();
    let there: BTreeSet<String> = all
        .keys()
        .filter_map(|page| page.strip_prefix("docs/"))
        .filter(|page| *page != "SUMMARY.md")
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn headings_links_and_blocks_are_found() {
    assert_eq!(anchor("What `it` is: a_b, c-d"), "what-it-is-a_b-c-d");
    assert_eq!(
        links("see [`x`](a.md) and ![p](b.svg#c), `[no](link)`"),
        ["a.md", "b.svg#c"]
    );
    let text = "one\n```yaml\na: 1\n```\n[two](x)\n```\n$ dynvis runs\n```\n";
    let found = blocks(text);
    assert_eq!(found[0], ("yaml".to_owned(), vec!["a: 1"]));
    assert_eq!(found[1].1, ["$ dynvis runs"]);
    assert_eq!(prose(text).collect::<Vec<_>>(), ["one", "[two](x)"]);
    assert_eq!(expected("dynvis check p.yaml   # exit code 2"), 2);
    assert_eq!(expected("dynvis diff @-1 @"), 1);
}
