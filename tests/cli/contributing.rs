//! `CONTRIBUTING.md`: what it tells to change can be changed as it stands there.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::repository;

/// The file's blocks of changes, as `git apply` takes them.
fn changes() -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("CONTRIBUTING.md")).expect("the file");
    let blocks = text.split("\n```diff\n").skip(1);
    blocks
        .map(|rest| rest.split_once("```").expect("an end of the block").0.to_owned())
        .collect()
}

/// Whether `git apply` takes a change, and what it says.
fn applies(change: &str, arguments: &[&str]) -> (bool, String) {
    let mut git = Command::new("git");
    git.args(["apply", "--check"])
        .args(arguments)
        .current_dir(repository())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = git.spawn().expect("git");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(change.as_bytes()).expect("written");
    drop(input);
    let output = child.wait_with_output().expect("ends");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn every_change_of_a_recipe_applies() {
    let changes = changes();
    assert!(changes.len() >= 4, "{} blocks", changes.len());
    for change in changes {
        let (fits, said) = applies(&change, &[]);
        // Who follows a recipe has made it.
        let is_made = || applies(&change, &["--reverse"]).0;
        assert!(
            fits || is_made(),
            "{said}Make this change by hand, and put `git diff -U1` of it into CONTRIBUTING.md:\n{change}"
        );
    }
}

/// The recipe's stage kind is that of the example, which is compiled and tried.
#[test]
fn the_stage_kind_of_the_recipe_is_that_of_the_example() {
    let all = changes().concat();
    let file = all.split("+++ b/src/stage/ranks.rs\n").nth(1).expect("the file");
    let added = file.lines().skip(1).map_while(|line| line.strip_prefix('+'));
    let recipe: Vec<String> = added
        .skip_while(|line| !line.starts_with("///"))
        .map(|line| line.replace("pub(super) ", ""))
        .collect();
    let example = std::fs::read_to_string(repository().join("examples/own_stage_kind.rs")).expect("the example");
    assert!(recipe.len() > 40, "{} lines", recipe.len());
    assert!(example.contains(&recipe.join("\n")), "{}", recipe.join("\n"));
}
