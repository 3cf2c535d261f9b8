//! The programs in `examples/`, which `cargo test` builds: they run, and find what they say that they find.

use std::path::Path;
use std::process::Command;

/// What an example prints.
fn run(name: &str, arguments: &[&Path]) -> String {
    // Tests are in a folder beside that of the examples.
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().and_then(Path::parent).expect("a folder of what is built");
    let program = folder.join("examples").join(name);
    assert!(
        program.is_file(),
        "no {name}: `cargo test` builds examples, unless it is asked for one test alone"
    );
    let out = Command::new(program).args(arguments).output().expect("it starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name}: {said}");
    String::from_utf8(out.stdout).expect("text")
}

/// The number that follows a text in a line.
fn number(line: &str, after: &str) -> f64 {
    let rest = line.split_once(after).map(|(_, rest)| rest.trim());
    let word = rest.and_then(|rest| rest.split([',', ' ']).next());
    let number = word.and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("`{after}` and a number in `{line}`"))
}

#[test]
fn a_network_is_trained_perturbed_and_settled() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("digits.safetensors");
    let trained = run("train", &[&model]);
    assert_eq!(trained.lines().count(), 5, "{trained}");
    let tested = number(trained.lines().next_back().expect("a line"), "test accuracy");
    assert!(tested > 0.7, "{trained}");

    let noisy = run("noise", &[&model]);
    let accuracies: Vec<f64> = noisy.lines().map(|line| number(line, "accuracy")).collect();
    assert_eq!(accuracies.len(), 16, "{noisy}");
    // Without noise it is what training said.
    assert_eq!(accuracies[0], tested, "{trained}{noisy}");
    assert!(accuracies[3] < tested, "{noisy}");

    let settled = run("fixed_points", &[&model]);
    assert_eq!(settled.matches("image of a").count(), 5, "{settled}");
    assert_eq!(settled.matches("|r| =").count(), 10, "{settled}");
}

#[test]
fn a_cell_of_ones_own_is_trained_and_adapts() {
    let said = run("own_cell", &[]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    assert!((0.0..=1.0).contains(&number(lines[0], "accuracy")), "{said}");
    let beta = number(lines[0], "beta");
    assert!(beta.is_finite() && beta != 0.5, "{said}");
    let activity: Vec<f64> = lines[1..].iter().map(|line| number(line, "activity")).collect();
    assert!(activity[0] > activity[3] && activity[3] > 0.0, "{said}");
}

#[test]
fn a_network_in_full_learns_with_feedback_and_without() {
    let said = run("own_network", &[]);
    assert!(
        said.contains("components [[0, 1]]") && said.contains("components [[0], [1]]"),
        "{said}"
    );
    let last = |part: &str| {
        let line = part.lines().find(|line| line.contains("epoch 2:"));
        number(line.unwrap_or_default(), "accuracy")
    };
    for accuracy in said.split("without feedback").map(last) {
        assert!(accuracy > 0.3, "{said}");
    }
}
