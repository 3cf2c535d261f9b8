//! A cache that an earlier version wrote (`tests/fixtures/cache-0.1.tar.gz`, with its pipeline and presets): its
//! results stay results, since keys and formats do.

use std::process::Command;

use crate::harness::{Project, repository};

/// (stage, state) of stages that are not up to date: those of kinds whose code version has risen since version 0.1
/// run, and what depends on them may.
const RISEN: &[(&str, &str)] = &[];

/// The project of that version.
pub fn unpacked() -> Project {
    let project = Project::new();
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(repository().join("tests/fixtures/cache-0.1.tar.gz"))
        .arg("-C")
        .arg(project.path(""))
        .status();
    assert!(unpacked.expect("tar").success());
    project
}

#[test]
fn results_of_an_earlier_version_are_still_up_to_date() {
    let project = unpacked();
    let states = project.states(&["p.yaml"]);
    assert_eq!(states.len(), 12, "{states:?}");
    for (stage, state) in &states {
        let risen = RISEN.iter().find(|(risen, _)| risen == stage);
        assert_eq!(state, risen.map_or("cached", |(_, state)| state), "{stage}");
    }
    // And they can be read.
    project.dynvis(&["verify"]).expect(0);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["show", "@", "noise/summary"]).expect(0);
}
