//! What describes the tool: committed documents that follow the program, manual pages, completions.

use crate::harness::{Project, repository};

/// Fails unless a committed file is what the program prints.
#[track_caller]
fn is_committed(file: &str, command: &[&str]) {
    let printed = Project::new().dynvis(command).expect(0).stdout;
    let path = repository().join(file);
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(&path, &printed).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == printed,
        "{file} is not what the program says now; `dynvis {} > {file}` makes it so",
        command.join(" ")
    );
}

#[test]
fn the_committed_reference_is_that_of_the_program() {
    is_committed("docs/cli.md", &["reference"]);
}

#[test]
fn the_committed_schema_is_that_of_the_program() {
    is_committed("docs/pipeline.schema.json", &["schema"]);
}

#[test]
fn the_committed_pages_of_the_kinds_are_those_of_the_program() {
    is_committed("docs/kinds.md", &["reference", "kinds"]);
    let list = std::fs::read_to_string(repository().join("docs/kinds.md")).expect("the list");
    let mut kinds: Vec<String> = list
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| [`")?.split_once('`')?.0.to_owned()))
        .collect();
    for kind in &kinds {
        is_committed(&format!("docs/kinds/{kind}.md"), &["reference", kind]);
    }
    let pages = std::fs::read_dir(repository().join("docs/kinds")).expect("the pages");
    let names = pages.map(|page| page.expect("a page").file_name().into_string().expect("text"));
    let mut pages: Vec<String> = names
        .map(|name| name.strip_suffix(".md").unwrap_or(&name).to_owned())
        .collect();
    kinds.sort_unstable();
    pages.sort_unstable();
    assert_eq!(kinds, pages, "a page a kind");
    let unknown = Project::new().dynvis(&["reference", "trian"]).expect(2).stderr;
    assert!(unknown.contains("did you mean `train`?"), "{unknown}");
}

#[test]
fn manual_pages_are_roff() {
    let project = Project::new();
    let page = project.dynvis(&["man"]).expect(0).stdout;
    assert!(page.contains(".TH dynvis 1"), "{page:.300}");
    for command in ["dynvis\\-run(1)", "dynvis\\-gc(1)"] {
        assert!(page.contains(command), "no {command} in {page}");
    }
    assert!(!page.contains("worker"), "hidden commands stay hidden");
    let page = project.dynvis(&["man", "run"]).expect(0).stdout;
    assert!(page.contains("\\-\\-keep\\-going"), "{page}");
    project.dynvis(&["man", "rum"]).expect(2).snapshot("man_unknown");
}

/// What a shell is offered for the last of these words.
fn offered(project: &Project, words: &[&str]) -> Vec<String> {
    let output = project
        .command(&[])
        .arg("--")
        .arg("dynvis")
        .args(words)
        .env("DYNVIS_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "false")
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Options are offered everywhere.
    text.lines()
        .filter(|word| !word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn shells_are_offered_stages_tables_and_runs() {
    let project = Project::new();
    project.write(
        "p.yaml",
        "name: p\nstages:\n  alpha:\n    command:\n      run: [sh, -c, \"echo ${matrix.n}; (echo n; echo 1) > \
         t.csv\"]\n      outputs: { t: { path: t.csv, type: table } }\n    matrix: { n: [1, 2] }\n  beta:\n    \
         collect: { tables: [\"alpha@*/t\"] }\n",
    );
    assert_eq!(
        offered(&project, &["run", "p.yaml", "al"]),
        ["alpha", "alpha@n=1", "alpha@n=2"]
    );
    assert_eq!(offered(&project, &["plan", "p.yaml", "--from", "b"]), ["beta"]);
    assert_eq!(
        offered(&project, &["why", "p.yaml", "alpha@"]),
        ["alpha@n=1", "alpha@n=2"]
    );
    assert_eq!(offered(&project, &["log", ""]), [""; 0], "nothing ran yet");
    assert!(!project.path("cache").exists(), "asking makes no cache");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let runs = project.dynvis(&["runs", "--json"]).expect(0).json();
    let id = runs[0]["id"].as_str().expect("an id");
    assert_eq!(offered(&project, &["log", &id[..2]]), [id]);
    assert_eq!(offered(&project, &["log", "@", "alpha@n=2"]), ["alpha@n=2"]);
    assert_eq!(offered(&project, &["show", id, "be"]), ["beta/collected"]);
    assert!(offered(&project, &["ve"]).contains(&"verify".to_owned()));
    assert_eq!(
        offered(&project, &["data", "get", "cifar100"]),
        ["cifar100", "cifar100_c"]
    );
    assert!(!offered(&project, &[""]).contains(&"worker".to_owned()));
    // A broken pipeline is no reason to print errors into somebody's prompt.
    project.write("p.yaml", "stages: [");
    assert_eq!(offered(&project, &["run", "p.yaml", "al"]), [""; 0]);
}

#[test]
fn scripts_for_shells_name_the_program_that_printed_them() {
    let project = Project::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = project.dynvis(&["completions", shell]).expect(0).stdout;
        assert!(script.contains("DYNVIS_COMPLETE"), "{shell}: {script}");
        assert!(script.contains(env!("CARGO_BIN_EXE_dynvis")), "{shell}: {script}");
    }
    project
        .dynvis(&["completions", "cmd"])
        .expect(2)
        .snapshot("completions_unknown");
}
